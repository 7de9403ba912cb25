"""`qom mtree`: show a machine's memory and port map."""

from __future__ import annotations

from qom.cli.arguments import quiet
from qom.cli.system import machine
from qom.show import memory_text

PROGRAM = "qom"


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    with machine(quiet([a for a in argv if a != "-f"]), PROGRAM) as vm:
        print(memory_text(vm, flat="-f" in argv))
    return 0
