"""Words of QEMU's -drive and -machine that say here what is so anyway, or say it otherwise than a file does.

A word that asks for what is not modelled is refused with a sentence; one that asks for what holds is taken away.
"""

from __future__ import annotations

from qom.config.user_objects import NO_MEMORY_BACKENDS
from qom.errors import NotModelled
from qom.options import Options, Report, Taker, at, raise_it

__all__ = ["DRIVE", "MACHINE", "drive", "machine"]

_CACHE = ("writeback", "none", "unsafe")
_REPORTS = ("report", "auto")
_SAME = {"read-only": "readonly", "driver": "format", "file.filename": "file", "file.locking": "locking"}
_AS_THEY_ARE = {
    "aio": ("threads", "native", "io_uring"),
    "discard": ("ignore", "unmap", "off", "on"),
    "detect-zeroes": ("off", "on", "unmap"),
    "file.driver": ("file", "host_device"),
}
_SWITCHES = ("cache.direct", "cache.no-flush", "auto-read-only", "force-share")
_NOT_HERE = {
    "copy-on-read": "there are no backing files to copy from: expected off",
    "cache.writeback": "writes reach the disk when the guest flushes: expected on",
}

DRIVE = frozenset([*_SAME, *_AS_THEY_ARE, *_SWITCHES, *_NOT_HERE, "cache", "werror", "rerror"])
"""What `drive` knows."""

MACHINE = {
    "usb": ("off", "USB is not modelled"),
    "smm": ("off", "system management mode is not modelled"),
    "vmport": ("off", "VMware's port is not modelled"),
    "nvdimm": ("off", "memory devices are not modelled"),
    "dump-guest-core": ("on", "guest memory is in this process's core dumps"),
    "mem-merge": ("off", "the host is not asked to merge guest memory"),
    "suppress-vmdesc": ("off", "there is no migration"),
}
"""Switches of QEMU's machines: what holds here, and why nothing else."""


def drive(options: Options, origin: str, report: Report = raise_it) -> Options:
    """Options of a -drive as a file says them; a plugin's format says itself what it takes.  Raises ConfigError."""
    if options.get("format", options.get("driver", "raw")) != "raw":
        return options
    take = Taker({k: v for k, v in options.items() if k in DRIVE}, "drive", origin, report)
    out = {k: v for k, v in options.items() if k not in DRIVE}
    for theirs, ours in _SAME.items():
        value = take.raw(theirs)
        if value is None or (ours == "locking" and value == "auto"):
            continue
        if ours in options:
            take.report(f"'{ours}' and '{theirs}' say the same thing: expected one of them", theirs)
        out[ours] = value
    for name, words in _AS_THEY_ARE.items():
        take.choice(name, words, words[0])
    for name in _SWITCHES:
        take.switch(name)
    for name, why in _NOT_HERE.items():
        holds = why.endswith("on")
        if take.switch(name, holds) is not holds:
            report(NotModelled(f"drive: '{name}': {why}", at(origin, name)))
    if take.choice("cache", (*_CACHE, "writethrough", "directsync"), _CACHE[0]) not in _CACHE:
        why = f"writes reach the disk when the guest flushes: expected {', '.join(_CACHE)}"
        report(NotModelled(f"drive: 'cache': {why}", at(origin, "cache")))
    for name in ("werror", "rerror"):
        if take.choice(name, (*_REPORTS, "ignore", "stop", "enospc"), _REPORTS[0]) not in _REPORTS:
            report(NotModelled(f"drive: '{name}': the guest is told of errors: expected report", at(origin, name)))
    return out


def machine(options: Options, origin: str, report: Report = raise_it) -> Options:
    """Options of a -machine without what holds anyway.  Raises ConfigError."""
    if "memory-backend" in options:
        report(NotModelled(f"machine: 'memory-backend': {NO_MEMORY_BACKENDS}", at(origin, "memory-backend")))
    take = Taker({k: v for k, v in options.items() if k in MACHINE}, "machine", origin, report)
    for name, (word, why) in MACHINE.items():
        if take.switch(name, word == "on") is not (word == "on"):
            report(NotModelled(f"machine: '{name}': {why}: expected {word}", at(origin, name)))
    return {k: v for k, v in options.items() if k not in MACHINE and k != "memory-backend"}
