"""Tables of plain facts: what the firmware is told besides, what the process does, what it inherited.

`-rtc`, `-smbios`, `-fw_cfg`, `-acpitable`, `-option-rom`, `-add-fd`, `-action`, `-msg` and `-name` are tables of keys with
values of simple kinds.  `TABLES` says which keys there are and what each takes; the command line, files and the schema
follow from it.  What only shows with the files there, or on a board, is for whoever uses them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from qom import records
from qom.errors import NotModelled, did_you_mean
from qom.options import Options, Report, Taker, at, raise_it

__all__ = ["SMBIOS_KEYS", "TABLES", "Key", "parse_table"]


@records.frozen
class Key:
    """What a key takes.

    kind: "text", "switch", "number", "choice" or "words" (a text or a list of them).  low, high: bounds of a number, which
    are included.  among: what a choice is made of.
    """

    desc: str
    kind: str = "text"
    low: int = 0
    high: int = (1 << 32) - 1
    among: tuple[str, ...] = ()


def _choice(desc: str, *among: str) -> Key:
    return Key(desc, "choice", among=among)


def _number(desc: str, high: int, low: int = 0) -> Key:
    return Key(desc, "number", low, high)


U8, U16, U32 = 0xFF, 0xFFFF, 0xFFFF_FFFF

SMBIOS_KEYS: Final[dict[int, tuple[str, ...]]] = {
    0: ("vendor", "version", "date", "release", "uefi"),
    1: ("manufacturer", "product", "version", "serial", "uuid", "sku", "family"),
    2: ("manufacturer", "product", "version", "serial", "asset", "location"),
    3: ("manufacturer", "version", "serial", "asset", "sku"),
    4: ("sock_pfx", "manufacturer", "version", "serial", "asset", "part", "max-speed", "current-speed", "processor-id"),
    8: ("internal_reference", "external_reference", "connector_type", "port_type"),
    11: ("value", "path"),
    17: ("loc_pfx", "bank", "manufacturer", "serial", "asset", "part", "speed"),
}
"""By type of structure, the fields that can be said of it."""

_SMBIOS_FIELDS: Final = {
    "vendor": Key("Vendor of the BIOS"),
    "version": Key("Version"),
    "date": Key("Release date of the BIOS, MM/DD/YYYY"),
    "release": Key("Release of the BIOS, MAJOR.MINOR"),
    "uefi": Key("Whether the BIOS says that it has UEFI", "switch"),
    "manufacturer": Key("Manufacturer"),
    "product": Key("Product name"),
    "serial": Key("Serial number"),
    "uuid": Key("Identity of the machine; the machine's own without it"),
    "sku": Key("SKU number"),
    "family": Key("Family"),
    "asset": Key("Asset tag"),
    "location": Key("Where in the chassis the board is"),
    "sock_pfx": Key("Beginning of the name of each processor socket"),
    "part": Key("Part number"),
    "max-speed": _number("Highest frequency of a processor, in MHz", U16),
    "current-speed": _number("Frequency of a processor, in MHz", U16),
    "processor-id": _number("Signature and features of a processor", (1 << 64) - 1),
    "internal_reference": Key("What the port is called on the board"),
    "external_reference": Key("What the port is called outside"),
    "connector_type": _number("Kind of connector, by its number in DSP0134", U8),
    "port_type": _number("Kind of port, by its number in DSP0134", U8),
    "value": Key("A text of the maker's, or several", "words"),
    "path": Key("File that holds the text"),
    "loc_pfx": Key("Beginning of the name of each place of a memory device"),
    "bank": Key("Name of the bank"),
    "speed": _number("Speed of the memory, in MT/s", U16),
}

TABLES: Final[dict[str, dict[str, Key]]] = {
    "name": {
        "guest": Key("Name of the machine"),
        "process": Key("What the process is called"),
        "debug-threads": Key("Whether the threads have names that the host shows", "switch"),
    },
    "rtc": {
        "base": Key("Date of the clock at the start: utc, localtime, or one such as 2006-06-17T16:01:21"),
        "clock": _choice("What it goes by: the guest's time, or the host's, also while the machine stands", "vm", "host", "rt"),
        "driftfix": _choice("What becomes of its interrupts that the guest missed", "none", "slew"),
    },
    "smbios": {
        "type": Key("Type of structure that the rest is said of", "choice", among=tuple(map(str, SMBIOS_KEYS))),
        "file": Key("File of one whole structure, instead"),
        **_SMBIOS_FIELDS,
    },
    "fw_cfg": {
        "name": Key("Name of the item, at most 55 characters; begins with opt/"),
        "file": Key("File that is its content"),
        "string": Key("Its content"),
    },
    "acpitable": {
        "sig": Key("Signature, 4 characters"),
        "rev": _number("Revision", U8),
        "oem_id": Key("Maker, at most 6 characters"),
        "oem_table_id": Key("The maker's name of the table, at most 8 characters"),
        "oem_rev": _number("The maker's revision", U32),
        "asl_compiler_id": Key("Maker of the compiler, at most 4 characters"),
        "asl_compiler_rev": _number("Revision of the compiler", U32),
        "data": Key("Files of the table's body, one after the other, separated by colons"),
        "file": Key("Files of the table with its header, likewise"),
    },
    "option-rom": {
        "file": Key("Name of the image"),
        "bootindex": _number("Its place in the boot order", 0x7FFF_FFFF),
    },
    "add-fd": {
        "fd": _number("Descriptor that this process was started with", 0x7FFF_FFFF),
        "set": _number("Number of the set it goes to: /dev/fdset/NUMBER", 0x7FFF_FFFF),
        "opaque": Key("A text for whoever asks"),
    },
    "action": {
        "reboot": _choice("What a reset by the guest does", "reset", "shutdown"),
        "shutdown": _choice("What becomes of a machine that was shut down", "poweroff", "pause"),
        "panic": _choice("What a panic of the guest does", "shutdown", "pause", "exit-failure", "none"),
        "watchdog": _choice(
            "What a watchdog does", "reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"
        ),
    },
    "msg": {
        "timestamp": Key("Whether messages begin with the host's date and time", "switch"),
        "guest-name": Key("Whether messages name the machine", "switch"),
    },
}  # fmt: skip
"""By table, its keys."""

_REQUIRED: Final = {"fw_cfg": ("name",), "option-rom": ("file",), "add-fd": ("fd", "set")}


def parse_table(what: str, options: Options, origin: str, report: Report = raise_it) -> Options:
    """What is said in a table, checked and in the type of each key.

    Args:
        what: the table's name in `TABLES`.
        options: what was written.
        origin: where.
        report: told of what is wrong; when it returns, a wrong value counts as absent.

    Raises:
        ConfigError: something that it cannot do without is missing, or two things exclude each other.
    """
    take = Taker(options, what, origin, report)
    said: Options = {}
    for name, key in TABLES[what].items():
        value = _value(take, name, key)
        if value is not None:
            said[name] = value
    if what == "fw_cfg" and take.raw("gen_id") is not None:
        raise NotModelled(f"{what}: 'gen_id': no object here makes such content: expected file= or string=", origin)
    known = TABLES[what]
    for name in take.options:
        expected = did_you_mean(name, known) or f": expected {', '.join(known)}"
        take.report(f"unknown option '{name}'{expected}", name)
    if not take.failed:
        for name in _REQUIRED.get(what, ()):
            if name not in said:
                raise take.error(f"'{name}' is required")
        if (check := _CHECKS.get(what)) is not None:
            check(take, said)
    return said


def _value(take: Taker, name: str, key: Key) -> Any:
    if key.kind == "switch":
        return take.switch(name) if name in take.options else _known(take, name)
    if key.kind == "number":
        return take.number(name, low=key.low, high=key.high)
    if key.kind == "choice":
        return take.choice(name, key.among, "") or None
    if key.kind == "words" and isinstance(words := take.options.get(name), list):
        if not all(isinstance(word, str) for word in words):
            take.report(f"'{name}' cannot be {words!r}: expected a text or a list of texts", name)
        take.raw(name)
        return words
    return take.text(name)


def _known(take: Taker, name: str) -> None:
    take.known.append(name)


def _check_rtc(take: Taker, said: Options) -> None:
    base = said.get("base")
    if base not in (None, "utc", "localtime"):
        from datetime import datetime

        shape = r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d)?"
        try:
            if not re.fullmatch(shape, base, re.ASCII):
                raise ValueError
            datetime.fromisoformat(base)
        except ValueError:
            hint = did_you_mean(base, ("utc", "localtime"))
            dates = "a date such as 2006-06-17T16:01:21 or 2006-06-17"
            take.report(f"'base' cannot be {base!r}: expected utc, localtime or {dates}{hint}", "base")
    if said.get("driftfix") == "slew":
        text = f"{take.what}: 'driftfix': interrupts that the guest missed are not repeated: expected none"
        raise NotModelled(text, at(take.origin, "driftfix"))


def _check_smbios(take: Taker, said: Options) -> None:
    kind = said.get("type")
    if (kind is None) == ("file" not in said):
        raise take.error("expected type=TYPE with its fields, or file=FILE alone")
    allowed = SMBIOS_KEYS[int(kind)] if kind is not None else ()
    for name in said:
        if name not in ("type", "file") and name not in allowed:
            of = f"a structure of type {kind}" if kind is not None else "a file, which holds a whole structure"
            expected = f": expected {', '.join(allowed)}{did_you_mean(name, allowed)}" if allowed else ""
            raise take.error(f"'{name}' cannot be said of {of}{expected}", name)
    if kind is not None and "file" in said:
        raise take.error("'type' and 'file' exclude each other: expected one of them", "file")
    if (text := said.get("uuid")) is not None:
        import uuid

        try:
            uuid.UUID(text)
        except ValueError:
            raise take.error(f"'uuid' cannot be {text!r}: expected 8-4-4-4-12 hexadecimal digits", "uuid") from None
    if (release := said.get("release")) is not None and not re.fullmatch(r"\d{1,3}\.\d{1,3}", release, re.ASCII):
        raise take.error(f"'release' cannot be {release!r}: expected MAJOR.MINOR", "release")
    if release is not None and max(map(int, release.split("."))) > U8:
        raise take.error(f"'release' cannot be {release!r}: expected numbers of at most 255", "release")
    for name, value in said.items():
        if isinstance(value, str) and "\0" in value:
            raise take.error(f"'{name}' cannot hold a zero character", name)


def _check_fw_cfg(take: Taker, said: Options) -> None:
    empty = [name for name in ("file", "string") if said.get(name) == ""]
    for name in empty:
        del said[name]  # as good as nothing, as in QEMU
    if ("file" in said) == ("string" in said):
        expected = "expected either file=FILE or string=TEXT beside the name"
        raise take.error(f"'{empty[0]}' is empty: {expected}" if empty else expected, *empty[:1])
    if not 0 < len(said["name"].encode()) <= 55 or "\0" in said["name"]:
        raise take.error(f"'name' cannot be {said['name']!r}: expected 1 to 55 characters", "name")


_WIDTHS: Final = {"sig": 4, "oem_id": 6, "oem_table_id": 8, "asl_compiler_id": 4}


def _check_acpitable(take: Taker, said: Options) -> None:
    if ("data" in said) == ("file" in said):
        raise take.error("expected either data=FILE (without a header) or file=FILE (with one)")
    for name, width in _WIDTHS.items():
        text = said.get(name)
        if text is not None and (len(text.encode()) > width or (name == "sig" and len(text) != width)):
            most = "" if name == "sig" else "at most "
            take.report(f"'{name}' cannot be {text!r}: expected {most}{width} characters", name)


def _check_add_fd(take: Taker, said: Options) -> None:
    if said["fd"] <= 2:
        raise take.error(f"'fd' cannot be {said['fd']}: that is a standard stream: expected 3 or more", "fd")


_CHECKS: Final[dict[str, Callable[[Taker, Options], None]]] = {
    "rtc": _check_rtc,
    "smbios": _check_smbios,
    "fw_cfg": _check_fw_cfg,
    "acpitable": _check_acpitable,
    "add-fd": _check_add_fd,
}
