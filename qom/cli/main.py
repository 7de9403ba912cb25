"""`qom`: run machines from files, and look at what there is.

    qom run FILE.toml [system options]     qom tree [FILE.toml] [system options]
    qom types [NAME] [--parent NAME]       qom mtree [FILE.toml] [-f] [system options]
    qom plugins                            qom demo            qom version

`tree` and `mtree` build the machine, show it, and take it apart again without starting it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from qom import __version__
from qom.cli.options import CommandLine, usage
from qom.cli.system import answer, guarded, machine, registry, run
from qom.config import MachineConfig
from qom.errors import ConfigError, QomError, did_you_mean
from qom.object import Object
from qom.registry import Type

PROGRAM = "qom"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; `argv` without the program's name."""
    return guarded(PROGRAM, lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 1
    name = {"--version": "version", "-version": "version"}.get(argv[0], argv[0])
    command = COMMANDS.get(name)
    if command is None:
        raise ConfigError(f"unknown command '{name}'{did_you_mean(name, COMMANDS)}; `qom help` lists them")
    return command.body(argv[1:])


def _run(argv: list[str]) -> int:
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "-help", "--help")):
        raise ConfigError("run: no file: expected qom run FILE.toml [system options]")
    if argv[0].startswith("-"):
        print(usage("qom run FILE.toml"))
        return 0
    line = _file_and_options(argv)
    if line.help_for is not None:
        return answer(line.help_for)
    return run(line.builder.finish(), PROGRAM)


def _tree(argv: list[str]) -> int:
    shown = "--properties" in argv
    with machine(_quiet([a for a in argv if a != "--properties"]), PROGRAM) as vm:
        print("\n".join(tree_lines(vm.root, properties=shown)))
    return 0


def _mtree(argv: list[str]) -> int:
    from qom.hw.mtree import format_mtree

    flat = "-f" in argv
    with machine(_quiet([a for a in argv if a != "-f"]), PROGRAM) as vm:
        bus: Any = vm.machine.system_bus
        for space in (bus.memory_space, bus.io_space):
            print(format_mtree(space, flat=flat))
    return 0


def _types(argv: list[str]) -> int:
    from qom.cli.help import describe

    rest = list(argv)
    parent = None
    if "--parent" in rest:
        at = rest.index("--parent")
        if len(rest) < at + 2:
            raise ConfigError("types: --parent: an argument is missing: expected a type name")
        parent = rest[at + 1]
        del rest[at : at + 2]
    found = registry()
    if rest:
        if len(rest) > 1 or rest[0].startswith("-"):
            raise ConfigError(f"types: unknown argument '{rest[-1]}': expected [NAME] [--parent NAME]")
        wanted = found.get(rest[0])
        if not wanted.abstract:
            print(describe(wanted))
            return 0
        parent = wanted.name
    if parent is not None:
        found.get(parent)
    listed = found.types(parent)
    names = {t.name for t in listed}

    def show(t: Type, depth: int) -> None:
        facts = [f for f in ("abstract" if t.abstract else "", _from(t)) if f]
        aliases = list(found.aliases(t.name))
        facts += [f"also {', '.join(aliases)}"] if aliases else []
        print(_type_line(t, depth, facts))
        for other in listed:
            if other.parent == t.name:
                show(other, depth + 1)

    for t in listed:
        if t.parent is None or t.parent not in names:
            show(t, 0)
    return 0


def _type_line(t: Type, depth: int, facts: list[str]) -> str:
    notes = f" ({'; '.join(facts)})" if facts else ""
    try:
        desc = f" - {t.desc}" if t.desc else ""
    except QomError as error:
        desc = f" - broken: {error}"
    return f"{'  ' * depth}{t.name}{notes}{desc}"


def _from(t: Type) -> str:
    return "" if t.origin in ("", "qom") else f"from {t.origin}"


def _plugins(argv: list[str]) -> int:
    if argv:
        raise ConfigError(f"plugins: unknown argument '{argv[0]}': expected none")
    rows = registry().plugins
    head = ("plugin", "distribution", "module", "status")
    cells = [(r.name, f"{r.dist} {r.version}", r.module, r.status) for r in rows]
    widths = [max(len(row[n]) for row in (head, *cells)) for n in range(4)]
    for row, note in zip((head, *cells), ("types, or the reason", *(_note(r) for r in rows)), strict=True):
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), note]).rstrip())
    return 0


def _note(row: Any) -> str:
    return row.reason or ", ".join(row.types)


def _demo(argv: list[str]) -> int:
    demo = importlib.import_module("qom.cli.demo")
    return int(demo.main(argv))


def _version(argv: list[str]) -> int:
    print(f"qom {__version__}")
    return 0


def _file_and_options(argv: list[str]) -> CommandLine:
    """`[FILE.toml] [system options]`: the file first, then what the options add or replace."""
    line = CommandLine()
    rest = list(argv)
    if rest and not rest[0].startswith("-"):
        from qom.config import read_toml

        read_toml(line.builder, rest.pop(0))
    return line.parse(rest)


def _quiet(argv: list[str]) -> MachineConfig:
    """The configuration to look at: back ends on stdio are left out, since nothing will run."""
    config = _file_and_options(argv).builder.finish()
    for chardev in config.chardevs:
        if chardev.backend == "stdio":
            chardev.backend, chardev.props = "null", {}
    return config


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


@attrs.frozen
class Command:
    """One subcommand."""

    arguments: str
    help: str
    body: Callable[[list[str]], int]


COMMANDS: dict[str, Command] = {
    "run": Command("FILE.toml [system options]", "build the machine in the file and run it", _run),
    "demo": Command("", "run the demonstration guest on the default machine", _demo),
    "tree": Command("[FILE.toml] [--properties] [system options]", "show a machine's composition tree", _tree),
    "mtree": Command("[FILE.toml] [-f] [system options]", "show a machine's memory and port map, or -f flat", _mtree),
    "types": Command("[NAME] [--parent NAME]", "list the types there are (of a kind), or describe one", _types),
    "plugins": Command("", "list what came from where, and what was refused and why", _plugins),
    "version": Command("", "print the version", _version),
}


def _usage() -> str:
    lines = ["usage: qom COMMAND ...", ""]
    for name, command in COMMANDS.items():
        head = f"  {name} {command.arguments}".rstrip()
        lines.append(f"{head:52} {command.help}")
    return "\n".join([*lines, "", "`qom-system-x86_64 -help` lists the system options."])


if __name__ == "__main__":
    sys.exit(main())
