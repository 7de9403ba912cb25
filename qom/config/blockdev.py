"""Block nodes: what `-blockdev`, `[[blockdev]]` and blockdev-add say, in QEMU's words, as entries of the model.

A node of driver `file` (or `host_device`) is the bytes of a file, and has its lock.  A node of a format lies over one: over
a node that has a name (`file=NAME`), or over one that is said in place (`file.filename=PATH`), which goes when it does.

Not modelled: nodes over other protocols, filters, backing files, and formats over formats.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from qom.config.model import DriveEntry
from qom.errors import ConfigError, PathError, did_you_mean
from qom.object import check_id
from qom.options import Options, Report, Taker, at, raise_it

__all__ = ["PROTOCOLS", "as_said", "block_nodes", "over_their_files"]

PROTOCOLS: Final = ("file", "host_device")
"""Drivers that are the bytes of a file as they are."""

_ELSEWHERE: Final = (
    "null-co", "null-aio", "nbd", "http", "https", "ftp", "ftps", "ssh", "iscsi", "nfs", "rbd", "gluster", "nvme", "vvfat",
    "host_cdrom", "quorum",
)  # fmt: skip
"""Drivers of QEMU that lie over no node, and whose bytes are not those of a file."""

_LOCKING: Final = ("auto", "on", "off")
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "discard": ("ignore", "unmap"),
    "detect-zeroes": ("off", "on", "unmap"),
    "aio": ("threads", "native", "io_uring"),
}
_READ_ONLY: Final = "is read-only, and what lies over it is not: expected read-only=on for both"
_SWITCHES: Final = ("auto-read-only", "force-share")


def block_nodes(options: Options, origin: str = "", report: Report = raise_it) -> list[DriveEntry]:
    """The entries of one node; of two when the file under it is said in place and has a name, that one first.

    Args:
        options: by QEMU's names; `file.filename` is the same as `filename` in a table `file`.
        origin: where they were written.
        report: told of what is wrong.

    Raises:
        ConfigError: what is needed is missing, or `report` raises it.
    """
    take = Taker(_nested(options, origin), "blockdev", origin, report)
    driver, name = take.needed("driver"), _name(take, take.needed("node-name"))
    if driver in _ELSEWHERE:
        text = f"driver '{driver}' is not modelled: expected 'file', 'host_device', or a format over one of them, such as 'raw'"
        raise take.error(text, "driver")
    readonly = take.switch("read-only")
    entry = DriveEntry(name, "", driver, "none", readonly=readonly, origin=origin, node=driver)
    if driver in PROTOCOLS:
        _file(take, entry, report)
        take.done()
        return [entry]
    below = take.raw("file")
    _without_meaning(take, report)
    entry.props = take.rest() if driver != "raw" else {}
    take.done()
    if below is None:
        raise take.missing("file", why=": the name of a file node, or its options")
    if isinstance(below, str):
        entry.over = below
        return [entry]
    if not isinstance(below, dict):
        raise take.error(f"'file' cannot be {below!r}: expected the name of a file node, or its options", "file")
    inner = Taker(below, f"blockdev '{name}': file", origin, report)
    kind = inner.choice("driver", PROTOCOLS, "file")
    own = inner.text("node-name")
    base = DriveEntry("", "", "raw", "none", readonly=inner.switch("read-only", readonly), origin=origin, node=kind)
    _file(inner, base, report)
    inner.done()
    if own is None:
        if base.readonly and not readonly:
            inner.report(f"this {_READ_ONLY}", "read-only")
        entry.file, entry.props = base.file, {**base.props, **entry.props}
        return [entry]
    base.id, base.within, entry.over = _name(inner, own), name, own
    return [base, entry]


def _name(take: Taker, text: str) -> str:
    try:
        return check_id(text)
    except PathError as error:
        raise take.error(str(error), "node-name") from None


def _file(take: Taker, entry: DriveEntry, report: Report) -> None:
    """What a file node says besides its name."""
    entry.format = "raw"
    entry.file = take.needed("filename")
    locking = take.raw("locking")
    if isinstance(locking, bool):
        locking = "on" if locking else "off"
    if locking is not None and locking not in _LOCKING:
        hint = did_you_mean(str(locking), _LOCKING)
        take.report(
            f"'locking' cannot be {locking!r}: expected one of {', '.join(map(repr, _LOCKING))}{hint}", "locking"
        )
    elif locking == "off":
        entry.props["locking"] = False
    _without_meaning(take, report)


def _without_meaning(take: Taker, report: Report) -> None:
    """What is checked and changes nothing: there is one way here to read and write a file, and it is safe."""
    for name in _SWITCHES:
        take.switch(name)
    for name, words in _WORDS.items():
        take.choice(name, words, words[0])
    cache = take.raw("cache")
    if cache is not None:
        if not isinstance(cache, dict):
            raise take.error(f"'cache' cannot be {cache!r}: expected 'direct' and 'no-flush' of it", "cache")
        inner = Taker(cache, f"{take.what}: cache", take.origin, report)
        for name in ("direct", "no-flush"):
            inner.switch(name)
        inner.done()


def _nested(options: Options, origin: str) -> Options:
    """`a.b` as `b` in a table `a`."""
    out: dict[str, Any] = {}
    for key, value in options.items():
        first, dot, rest = key.partition(".")
        if not dot:
            if isinstance(out.get(first), dict):
                raise ConfigError(f"blockdev: '{first}' and '{first}.…' contradict each other", at(origin, key))
            out[first] = value
            continue
        table = out.setdefault(first, {})
        if not isinstance(table, dict) or table is options.get(first):
            raise ConfigError(
                f"blockdev: '{first}' and '{key}' contradict each other: expected one of them", at(origin, key)
            )
        table[rest] = value
    return out


def over_their_files(entries: list[DriveEntry], there: Iterable[DriveEntry] = (), report: Report = raise_it) -> None:
    """Put the nodes of a list behind the file nodes that they lie over, and give them their files.

    Args:
        entries: all that are to be made; sorted in place.
        there: those that are made already.
        report: told of a node over none, or over one that is no file node.
    """
    by_name = {entry.id: entry for entry in (*there, *entries)}
    for entry in entries:
        if not entry.over:
            continue
        base = by_name.get(entry.over)
        files = [one.id for one in by_name.values() if _is_file(one)]
        where = at(entry.origin, "file")
        if base is None:
            hint = did_you_mean(entry.over, files)
            report(ConfigError(f"blockdev '{entry.id}': there is no node '{entry.over}'{hint}", where))
        elif not _is_file(base):
            text = f"blockdev '{entry.id}': '{base.id}' is no node of driver 'file': expected one for 'file'"
            report(ConfigError(text, where))
        elif base.readonly and not entry.readonly:
            report(ConfigError(f"blockdev '{entry.id}': file '{base.id}' {_READ_ONLY}", where))
        else:
            entry.file = base.file
    entries.sort(key=lambda entry: bool(entry.over))


def _is_file(entry: DriveEntry) -> bool:
    return entry.node in PROTOCOLS


def as_said(entry: DriveEntry, entries: Iterable[DriveEntry]) -> Options:
    """A node by the options that make it.

    Args:
        entry: a node that is not in the options of another.
        entries: all there are.
    """
    inner = next((one for one in entries if one.within == entry.id), None)
    props = dict(entry.props)
    file: Options = {"filename": entry.file}
    if not props.pop("locking", True):
        file["locking"] = "off"
    if inner is not None:
        below: Options = {"file": as_said(inner, ())}
    elif entry.over:
        below = {"file": entry.over}
    else:
        below = file if _is_file(entry) else {"file": file}
    return {
        "driver": entry.node,
        "node-name": entry.id,
        **below,
        **({"read-only": True} if entry.readonly else {}),
        **props,
    }
