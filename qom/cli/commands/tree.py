"""`qom tree`: show a machine's composition tree."""

from __future__ import annotations

from qom.cli.arguments import quiet
from qom.cli.system import machine
from qom.errors import QomError
from qom.object import Object

PROGRAM = "qom"


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    shown = "--properties" in argv
    with machine(quiet([a for a in argv if a != "--properties"]), PROGRAM) as vm:
        print("\n".join(tree_lines(vm.root, properties=shown)))
    return 0


def tree_lines(top: Object, *, properties: bool = False) -> list[str]:
    """The composition tree as indented lines: "/name (type)", and each object's properties if asked for."""
    lines: list[str] = []

    def show(obj: Object, name: str, depth: int) -> None:
        pad = "  " * depth
        lines.append(f"{pad}{name} ({obj.type_name})")
        if properties:
            for p in obj.properties().values():
                if p.kind != "child":
                    lines.append(f"{pad}    {p.name} = {value_text(obj, p.name)}")
        for child_name, held in obj.children().items():
            show(held, f"/{child_name}", depth + 1)

    show(top, "/", 0)
    return lines


def value_text(obj: Object, name: str) -> str:
    """A property's value as text; an alias whose target is not there (yet) says so."""
    from qom.properties import to_text

    try:
        return to_text(obj.find_property(name), obj.get(name))
    except QomError as error:
        return f"<{error}>"
