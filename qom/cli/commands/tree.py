"""`qom tree`: show a machine's composition tree, or its buses."""

from __future__ import annotations

from qom.cli.arguments import looked_at
from qom.show import bus_text, tree_text

SWITCHES = ("--properties", "--buses")


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    with looked_at([a for a in argv if a not in SWITCHES]) as vm:
        print(bus_text(vm) if "--buses" in argv else tree_text(vm.root, properties="--properties" in argv))
    return 0
