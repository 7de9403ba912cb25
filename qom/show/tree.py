"""The composition tree as text: every object, under what it is part of."""

from __future__ import annotations

from qom.errors import QomError
from qom.object import Object
from qom.properties import to_text

__all__ = ["tree_text", "value_text"]

INDENT = "  "


def tree_text(obj: Object, properties: bool = False) -> str:
    """The tree from `obj` down, a line an object: "/name (type)"; with `properties`, their values under each."""
    lines: list[str] = []

    def show(here: Object, name: str, depth: int) -> None:
        pad = INDENT * depth
        lines.append(f"{pad}{name} ({here.type_name})")
        if properties:
            for p in here.properties().values():
                if p.kind != "child":
                    lines.append(f"{pad}    {p.name} = {value_text(here, p.name)}")
        for child_name, held in here.children().items():
            show(held, f"/{child_name}", depth + 1)

    show(obj, "/" if obj.parent is None else obj.path, 0)
    return "\n".join(lines)


def value_text(obj: Object, name: str) -> str:
    """A property's value as text; one that cannot be read (an alias whose target is not there yet) says why."""
    try:
        return to_text(obj.find_property(name), obj.get(name))
    except QomError as error:
        return f"<{error}>"
