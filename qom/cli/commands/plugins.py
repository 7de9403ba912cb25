"""`qom plugins`: what came from where, and what was refused and why; with `--deprecations`, what will go and who uses it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from qom import deprecated
from qom.cli.system import registry
from qom.errors import ConfigError
from qom.plugins import PluginRow


def main(argv: list[str]) -> int:
    """The command; `argv` without its name."""
    unknown = [a for a in argv if a != "--deprecations"]
    if unknown:
        raise ConfigError(f"plugins: unknown argument '{unknown[0]}': expected nothing, or --deprecations")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", deprecated.QomDeprecationWarning)  # what they would say is in the list
        found = registry()
    if not argv:
        first = ("plugin", "distribution", "module", "status", "what it brings, or the reason")
        _table([first, *((r.name, r.source, r.module, r.status, _note(r)) for r in found.plugins)])
        return 0
    if not found.deprecations and not deprecated.TABLE:
        print("Nothing is deprecated.")
        return 0
    entries = dict.fromkeys([*deprecated.TABLE, *found.deprecations])
    head = ("what", "name", "since", "until", "instead", "used by")
    rows = [(d.kind, d.name, d.since, d.until, d.instead, _users(d)) for d in entries]
    _table([head, *sorted(rows)])
    return 0


def _note(row: PluginRow) -> str:
    if row.reason:
        return row.reason
    brought = [*row.types, *(f"-{name}" for name in row.options), *(f"command {name}" for name in row.commands)]
    return ", ".join(brought)


def _users(what: deprecated.Deprecated) -> str:
    return ", ".join(sorted({use.by for use in deprecated.uses if use.what == what})) or "-"


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
