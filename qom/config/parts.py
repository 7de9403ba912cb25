"""Parts, wires and regions as a file says them: of a board file, and of a machine file that changes its board."""

from __future__ import annotations

from qom.config.model import PartEntry, RegionEntry, WireEntry
from qom.errors import ConfigError
from qom.options import Options, Report, Taker, at, raise_it, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["REGION_KEYS", "REGION_KEYS_OF", "ROLES", "USES", "parse_part", "parse_region", "parse_wire"]

REGION_KEYS: Final = (
    "kind", "in", "at", "size", "of", "offset", "priority", "readonly", "file", "property", "sha256", "granule", "when",
)  # fmt: skip
"""What may be said of a region, besides its name."""

REGION_KEYS_OF: Final = {
    "ram": ("in", "at", "size", "priority", "when"),
    "rom": ("in", "at", "size", "priority", "file", "property", "sha256", "granule", "when"),
    "alias": ("in", "at", "size", "of", "offset", "priority", "readonly", "when"),
    "container": ("in", "at", "size", "priority", "when"),
}
"""By kind of region, what may be said of one besides its name and kind."""

ROLES: Final = ("pic", "ioapic", "apic")
"""Chips of which an accelerator may have its own: as a part's type `{pic}` is the one that goes with it."""

SINGLE: Final = ("debugcon", "vga")
USES: Final = ("serial", "parallel", "drive", "cdrom", "floppy", *SINGLE)
"""What a configuration asks for that a board has a place for; of some there is one at most, the others are numbered."""


def parse_part(options: Options, origin: str, report: Report = raise_it) -> PartEntry:
    """A `[[part]]`.

    Args:
        options: its keys and values.
        origin: where it was written.
        report: told of what is wrong with a key; when it returns, the rest is read all the same.

    Raises:
        ConfigError: it has no name, or a value of the wrong kind.
    """
    take = Taker(options, "part", origin, report)
    name = take.needed("name")
    take.what = f"part '{name}'"
    entry = PartEntry(
        name,
        take.text("type"),
        take.text("bus"),
        _table(take, "props"),
        _words(take, "links"),
        _expressions(take, "values"),
        _expression(take, "when"),
        take.text("for"),
        take.switch("remove"),
        origin,
    )
    take.done()
    if entry.remove and len(options) > 2:
        other = next(key for key in options if key not in ("name", "remove"))
        raise take.error(f"'{other}' cannot be said of a part that is removed: expected 'name' only", other)
    return entry


def parse_wire(options: Options, origin: str, report: Report = raise_it) -> WireEntry:
    """A `[[wire]]`; raises ConfigError as `parse_part` does."""
    take = Taker(options, "wire", origin, report)
    entry = WireEntry(
        take.needed("from"), take.needed("to"), _expression(take, "when"), take.switch("remove"), origin
    )  # fmt: skip
    take.done()
    return entry


def parse_region(options: Options, origin: str, report: Report = raise_it) -> RegionEntry:
    """A `[[region]]`; what its values mean is the board's to say.  Raises ConfigError as `parse_part` does."""
    take = Taker(options, "region", origin, report)
    name = take.needed("name")
    take.what = f"region '{name}'"
    remove = take.switch("remove")
    props = {key: value for key in REGION_KEYS if (value := take.raw(key)) is not None}
    take.done()
    if remove and props:
        other = next(iter(props))
        raise take.error(f"'{other}' cannot be said of a region that is removed: expected 'name' only", other)
    return RegionEntry(name, props, remove, origin)


def _table(take: Taker, key: str) -> Options:
    value = take.raw(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise take.error(f"'{key}' cannot be {shown(value)}: expected a table of names and values", key)
    return value


def _words(take: Taker, key: str) -> dict[str, str]:
    table = _table(take, key)
    for name, value in table.items():
        if not isinstance(value, str):
            raise _inner(take, key, name, value, "the name of a part or a region, as a string")
    return table


def _expressions(take: Taker, key: str) -> dict[str, str]:
    table = _table(take, key)
    for name, value in table.items():
        if not isinstance(value, str | int):
            raise _inner(take, key, name, value, "an expression, as a string")
    return {name: _as_text(value) for name, value in table.items()}


def _inner(take: Taker, key: str, name: str, value: Any, expected: str) -> ConfigError:
    return ConfigError(
        f"{take.what}: {key}: '{name}' cannot be {shown(value)}: expected {expected}", at(at(take.origin, key), name)
    )


def _expression(take: Taker, key: str) -> str | None:
    value = take.raw(key)
    if value is None:
        return None
    if not isinstance(value, str | int):
        raise take.error(f"'{key}' cannot be {shown(value)}: expected an expression, as a string", key)
    return _as_text(value)


def _as_text(value: str | int) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
