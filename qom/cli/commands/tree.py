"""`qom tree`: show a machine's composition tree, or its buses."""

from __future__ import annotations

from qom.cli.arguments import quiet
from qom.cli.system import machine
from qom.show import bus_text, tree_text

PROGRAM = "qom"
SWITCHES = ("--properties", "--buses")


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    with machine(quiet([a for a in argv if a not in SWITCHES]), PROGRAM) as vm:
        print(bus_text(vm) if "--buses" in argv else tree_text(vm.root, properties="--properties" in argv))
    return 0
