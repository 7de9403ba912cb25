"""QEMU's options that are not modelled here: which there are, and which are followed by an argument.

Needed to tell where one ends when a QEMU command line is converted.  The names are those of qemu-system-x86_64 7.2 and
of versions around it.
"""

from __future__ import annotations

__all__ = ["ALONE", "SPELLINGS", "WITH_ARGUMENT"]

WITH_ARGUMENT = frozenset(
    [
        "L",
        "acpitable",
        "action",
        "add-fd",
        "audio",
        "audiodev",
        "blockdev",
        "chroot",
        "compat",
        "dfilter",
        "dtb",
        "dump-vmstate",
        "echr",
        "fda",
        "fdb",
        "fsdev",
        "fw_cfg",
        "gdb",
        "icount",
        "incoming",
        "iscsi",
        "k",
        "loadvm",
        "mem-path",
        "mon",
        "msg",
        "mtdblock",
        "netdev",
        "option-rom",
        "overcommit",
        "pflash",
        "pidfile",
        "plugin",
        "prom-env",
        "qmp",
        "qmp-pretty",
        "qtest",
        "qtest-log",
        "rotate",
        "rtc",
        "run-with",
        "runas",
        "sandbox",
        "sd",
        "seed",
        "set",
        "smbios",
        "soundhw",
        "spice",
        "tb-size",
        "tpmdev",
        "trace",
        "usbdevice",
        "virtfs",
        "vnc",
        "watchdog",
        "watchdog-action",
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
        "daemonize",
        "enable-hax",
        "enable-sync-profile",
        "full-screen",
        "mem-prealloc",
        "no-acpi",
        "no-fd-bootchk",
        "no-hpet",
        "no-user-config",
        "one-insn-per-tb",
        "only-migratable",
        "portrait",
        "preconfig",
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
