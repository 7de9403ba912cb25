"""`qom mtree`: show a machine's memory and port map."""

from __future__ import annotations

from qom.cli.arguments import looked_at
from qom.show import memory_text


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    with looked_at([a for a in argv if a != "-f"]) as vm:
        print(memory_text(vm, flat="-f" in argv))
    return 0
