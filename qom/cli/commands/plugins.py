"""`qom plugins`: what came from where, and what was refused and why."""

from __future__ import annotations

from typing import Any

from qom.cli.system import registry
from qom.errors import ConfigError


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
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
