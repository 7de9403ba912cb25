"""`qom mtree`: show a machine's memory and port map."""

from __future__ import annotations

from typing import Any

from qom.cli.arguments import quiet
from qom.cli.system import machine
from qom.hw.mtree import format_mtree

PROGRAM = "qom"


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    flat = "-f" in argv
    with machine(quiet([a for a in argv if a != "-f"]), PROGRAM) as vm:
        bus: Any = vm.machine.system_bus
        for space in (bus.memory_space, bus.io_space):
            print(format_mtree(space, flat=flat))
    return 0
