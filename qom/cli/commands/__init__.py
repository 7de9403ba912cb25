"""The commands of `qom`, one module each.

A module has `main(argv) -> int`, which is called with the arguments after the command's name, may raise `QomError`, and
returns the exit status.  It is imported when its command is used.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Command:
    """One command: its arguments as the help shows them, and what it does."""

    arguments: str
    help: str


COMMANDS: dict[str, Command] = {
    "run": Command(
        "FILE [--dump FILE] [--watch] [--exits] [--exits-svg FILE] [system options]",
        "build the machine in the file and run it; write what it became; reload devices whose source changes",
    ),
    "check": Command("FILE... [--var NAME=VALUE] [--json]", "find everything wrong with machine files; build nothing"),
    "convert": Command(
        "[-o FILE] [--format F] [--skip-unknown] [--] QEMU-COMMAND-LINE | FILE",
        "write a command line or a file as a machine file",
    ),
    "demo": Command("", "run the demonstration guest on the default machine"),
    "tree": Command(
        "[FILE] [--properties | --buses] [system options]", "show a machine's composition tree, or its buses"
    ),
    "mtree": Command("[FILE] [-f] [system options]", "show a machine's memory and port map, or -f flat"),
    "dump": Command("[FILE] [-o FILE] [--format F] [system options]", "write the machine that is built as a file"),
    "diff": Command(
        "[--config] A [options] [--] B [options]",
        "say in what two machines differ, or with --config, two files; 0: nothing, 1: something, 2: trouble",
    ),
    "graph": Command(
        "[FILE] [--kind KIND] [-o FILE] [--text] [options]",
        "draw a machine: what it is made of, its buses, its address maps, its interrupt lines",
    ),
    "schema": Command(
        "[--board | --type NAME] [-o FILE]",
        "write the format of machine files, of board files, or of one type's entry, as a JSON Schema",
    ),
    "types": Command("[NAME] [--parent NAME]", "list the types there are (of a kind), or describe one"),
    "doc": Command(
        "TYPE [--format text|md]", "print a type's page: what it models, properties, state, lines, an example"
    ),
    "new": Command(
        "device|machine|accelerator NAME [-o DIR] [--bus BUS]", "write a distribution with a plugin of one's own"
    ),
    "plugins": Command("[--deprecations]", "list what came from where, and what was refused and why; or what will go"),
    "version": Command("", "print the version"),
}
"""By name; the module is `qom.cli.commands.<name>`."""
