"""QEMU's options that are not modelled here: which there are, and which are followed by an argument.

Needed to tell where one ends when a QEMU command line is converted.  The names are those of qemu-system-x86_64 7.2 and
of versions around it.
"""

from __future__ import annotations

__all__ = ["ALONE", "SPELLINGS", "WITH_ARGUMENT", "refusal"]

WITH_ARGUMENT = frozenset(
    [
        "audio",
        "audiodev",
        "chroot",
        "compat",
        "dfilter",
        "dtb",
        "dump-vmstate",
        "fsdev",
        "gdb",
        "icount",
        "incoming",
        "iscsi",
        "k",
        "loadvm",
        "mem-path",
        "mtdblock",
        "netdev",
        "overcommit",
        "pflash",
        "plugin",
        "prom-env",
        "rotate",
        "run-with",
        "runas",
        "sandbox",
        "sd",
        "seed",
        "soundhw",
        "spice",
        "tb-size",
        "tpmdev",
        "usbdevice",
        "virtfs",
        "vnc",
        "watchdog",
        "writeconfig",
        "xen-domid",
    ]
)
"""Options with an argument."""

ALONE = frozenset(
    [
        "alt-grab",
        "async-teardown",
        "audio-help",
        "ctrl-grab",
        "curses",
        "enable-hax",
        "enable-sync-profile",
        "full-screen",
        "mem-prealloc",
        "one-insn-per-tb",
        "only-migratable",
        "portrait",
        "s",
        "sdl",
        "semihosting",
        "show-cursor",
        "singlestep",
        "usb",
        "win2k-hack",
        "xen-attach",
        "xen-domid-restrict",
    ]
)
"""Options without one."""

SPELLINGS: dict[str, tuple[str, str]] = {
    "cdrom": ("drive", "file={value},index=2,media=cdrom"),
}
"""Options that others of ours say: the option, and its argument with `{value}` for theirs."""

REASONS: dict[str, str] = {
    "cdrom": "CD-ROM drives (ATAPI) are not modelled: expected a disk (-hda, -drive)",
    "chroot": "this program stays where it is: start it inside the folder (chroot(1))",
    "compat": "nothing here is deprecated by policy; `qom plugins --deprecations` tells of what is",
    "dfilter": "instructions are not logged, so there is nothing to choose by address",
    "dtb": "a PC has no device tree",
    "gdb": "a debugger's stub is not modelled",
    "s": "a debugger's stub is not modelled",
    "icount": "counting of instructions is not modelled: -accel qtest has a clock that is stepped",
    "incoming": "migration is not modelled",
    "loadvm": "saved machines are not modelled",
    "k": "there is no display that would need a keyboard's layout",
    "mem-path": "memory back ends are not modelled: guest memory is this process's own",
    "mem-prealloc": "memory back ends are not modelled: guest memory comes as it is touched",
    "netdev": "a network is not modelled",
    "nic": "a network is not modelled",
    "only-migratable": "migration is not modelled",
    "overcommit": "memory is not locked and processors' power states are the host's",
    "pflash": "flash memory is not modelled: expected -bios",
    "runas": "this program keeps its user: start it as that one (setpriv(1))",
    "sandbox": "there is no system call filter in this program: start it under one",
    "seed": "random numbers come from the host: -accel simulated,seed=N makes the guest's repeat",
    "spice": "a display is not modelled",
    "vnc": "a display is not modelled",
    "usb": "USB is not modelled",
    "usbdevice": "USB is not modelled",
    "writeconfig": "expected `qom convert` or `qom run --dump`, which write machine files",
    "dump-vmstate": "saved machines are not modelled; `qom doc` tells the state of a type",
}
"""Why not, where there is more to say than that an option is not modelled."""


def refusal(name: str) -> str | None:
    """The sentence that refuses QEMU's option `name`; None when QEMU has none of that name either."""
    if name in REASONS:
        return REASONS[name]
    if name in WITH_ARGUMENT or name in ALONE:
        return "this option of QEMU's is not modelled"
    return None
