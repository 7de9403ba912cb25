"""An initramfs for tests: a cpio archive ("newc", Linux: Documentation/driver-api/early-userspace/buffer-format.rst) with
busybox and an /init that gives a shell on the serial port."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from debian import need_file

PROMPT = "guest# "

INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
export PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/ PS1='{PROMPT}' LC_ALL=C.UTF-8
stty -F /dev/ttyS0 -echo cols 1000
dmesg -n 1
setsid -c sh </dev/ttyS0 >/dev/ttyS0 2>&1
poweroff -f
"""


class Archive:
    """A cpio archive that grows."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._names: set[str] = set()

    def folder(self, name: str) -> None:
        """A folder and those it lies in."""
        parts = name.strip("/").split("/")
        for n in range(1, len(parts) + 1):
            path = "/".join(parts[:n])
            if path and path not in self._names:
                self._entry(path, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """A file, with the folders it lies in."""
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        """A character device."""
        self.folder(os.path.dirname(name))
        self._entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def tree(self, folder: Path, without: Iterable[str] = ()) -> None:
        """Everything in a folder of the host, except what a path begins with that `without` names."""
        skipped = tuple(without)
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if name in self._names or (skipped and name.startswith(skipped)):
                continue
            if path.is_symlink():
                self.link(name, os.readlink(path))
            elif path.is_dir():
                self.folder(name)
            elif path.is_file():
                self.file(name, path.read_bytes(), path.stat().st_mode & 0o777)

    def finish(self) -> bytes:
        """The archive."""
        self._entry("TRAILER!!!", 0, b"")
        return bytes(self._out)

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._names.add(name)
        raw = name.encode() + b"\0"
        numbers = (len(self._names), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
        self._out += b"070701" + b"".join(b"%08X" % number for number in numbers) + raw
        self._out += bytes(-len(self._out) % 4)
        self._out += data
        self._out += bytes(-len(self._out) % 4)


def need_initramfs(path: Path, *, trees: Iterable[Path] = (), files: Mapping[str, bytes] | None = None) -> Path:
    """Write an initramfs with busybox, and whatever else, to `path`; or skip."""
    archive = Archive()
    archive.folder("dev")
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", need_file("busybox-static", "bin/busybox").read_bytes(), 0o755)
    archive.file("init", INIT.encode(), 0o755)
    for tree in trees:
        archive.tree(tree, without=("usr/share/doc", "usr/share/man", "usr/share/locale"))
    for name, data in (files or {}).items():
        archive.file(name, data, 0o755)
    path.write_bytes(archive.finish())
    return path
