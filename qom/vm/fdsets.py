"""Descriptors that a machine was handed: sets of them, which `/dev/fdset/N` stands for, and single ones with names.

`-add-fd` puts descriptors that the process was started with into sets; a monitor adds more, and gives single ones a name
for `fd=NAME`.  A file is opened through `VirtualMachine.open_file`, which for `/dev/fdset/N` gives a duplicate of that
descriptor of set N that was opened for the same kind of access.  What is handed over belongs to the machine, and is closed
with it at the latest.

Locking: the machine lock is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re

import attrs

from qom.config.model import FDSETS
from qom.errors import QomError

__all__ = ["FdInfo", "FdSet", "FdSetError", "FdSets"]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
ACCESS = {os.O_RDONLY: "reading", os.O_WRONLY: "writing", os.O_RDWR: "reading and writing"}


class FdSetError(QomError):
    """A descriptor, a set or a name that is not there, or is not what it should be."""


@attrs.define
class FdInfo:
    """One descriptor of a set: its number in this process, and a text for whoever asks."""

    fd: int
    opaque: str = ""
    removed: bool = False  # to be closed once nothing made from it is open


@attrs.define
class FdSet:
    """One set."""

    id: int
    fds: list[FdInfo] = attrs.field(factory=list)
    made: list[tuple[int, tuple[int, int]]] = attrs.field(factory=list)  # duplicates, and which file each is of

    def in_use(self) -> bool:
        """Whether a duplicate that was given out is still open."""
        self.made = [(fd, file) for fd, file in self.made if _file_of(fd) == file]
        return bool(self.made)


class FdSets:
    """The sets and the named descriptors of one machine."""

    def __init__(self) -> None:
        self._sets: dict[int, FdSet] = {}
        self._named: dict[str, int] = {}

    # -- sets

    def inherit(self, fd: int, set_id: int, opaque: str = "") -> FdInfo:
        """Add a duplicate of a descriptor that the process was started with.

        Raises:
            FdSetError: there is none of that number, or it is one of this program's own.
        """
        try:
            own = fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        except (OSError, OverflowError):
            own = True
        if own:
            raise FdSetError(f"fd {fd} is not open, or is this program's own: expected one that it was started with")
        return self.add(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3), set_id, opaque)

    def add(self, fd: int, set_id: int | None = None, opaque: str = "") -> FdInfo:
        """Add a descriptor, which is the set's from now on (QEMU: `add-fd`).

        Args:
            fd: an open descriptor of this process.
            set_id: the number of the set, which need not be there; None: the first that is free.
            opaque: a text for whoever asks.
        """
        if set_id is None:
            set_id = next(n for n in range(len(self._sets) + 1) if n not in self._sets)
        info = FdInfo(fd, opaque)
        self._sets.setdefault(set_id, FdSet(set_id)).fds.append(info)
        return info

    def set_of(self, info: FdInfo) -> int:
        """The number of the set that a descriptor is in."""
        return next(one.id for one in self._sets.values() if info in one.fds)

    def query(self) -> list[FdSet]:
        """The sets, by number, without what was removed."""
        return [
            FdSet(id, [info for info in self._sets[id].fds if not info.removed])
            for id in sorted(self._sets)
            if any(not info.removed for info in self._sets[id].fds)
        ]

    def remove(self, set_id: int, fd: int | None = None) -> None:
        """Take a descriptor out of a set, or all of them; closed once nothing made from them is open (`remove-fd`).

        Raises:
            FdSetError: no such set, or no such descriptor in it.
        """
        found = self._set(set_id)
        gone = [info for info in found.fds if not info.removed and fd in (None, info.fd)]
        if not gone:
            there = ", ".join(str(info.fd) for info in found.fds if not info.removed) or "none"
            raise FdSetError(f"fdset {set_id} has no fd {fd}: expected one of its own: {there}")
        for info in gone:
            info.removed = True
        self._tidy(found)

    def release_unused(self) -> None:
        """The last monitor has gone: close the sets of which nothing is open."""
        for found in list(self._sets.values()):
            if not found.in_use():
                for info in found.fds:
                    info.removed = True
            self._tidy(found)

    def open(self, path: str, flags: int) -> int:
        """A duplicate of the set's descriptor that fits; the caller closes it.

        Args:
            path: `/dev/fdset/N`.
            flags: as for `os.open`; only the kind of access counts.

        Raises:
            FdSetError: no such set, or none of its descriptors is open for that kind of access.
        """
        number = path.removeprefix(FDSETS)
        if not number.isascii() or not number.isdecimal():
            raise FdSetError(f"'{path}' names no set of descriptors: expected {FDSETS}NUMBER")
        found = self._set(int(number))
        wanted = flags & os.O_ACCMODE
        for info in found.fds:
            if not info.removed and fcntl.fcntl(info.fd, fcntl.F_GETFL) & os.O_ACCMODE == wanted:
                fd = fcntl.fcntl(info.fd, fcntl.F_DUPFD_CLOEXEC, 3)
                found.in_use()
                found.made.append((fd, _file_of(fd)))
                return fd
        raise FdSetError(f"fdset {number} has no descriptor that was opened for {ACCESS[wanted]}")

    def _set(self, set_id: int) -> FdSet:
        found = self._sets.get(set_id)
        if found is None or all(info.removed for info in found.fds):
            there = ", ".join(str(one.id) for one in self.query()) or "none"
            raise FdSetError(f"there is no fdset {set_id}: expected one of {there}")
        return found

    def _tidy(self, found: FdSet) -> None:
        if not found.in_use():
            for info in [info for info in found.fds if info.removed]:
                found.fds.remove(info)
                os.close(info.fd)
        if not found.fds:
            self._sets.pop(found.id, None)

    # -- named descriptors

    def give(self, name: str, fd: int) -> None:
        """Name a descriptor, in place of one of that name (`getfd`).

        Raises:
            FdSetError: the name could be taken for a number; the descriptor is closed.
        """
        if not NAME.fullmatch(name):
            os.close(fd)
            raise FdSetError(f"fd name {name!r} is not legal: expected a letter first, not a number")
        if (old := self._named.pop(name, None)) is not None:
            os.close(old)
        self._named[name] = fd

    def forget(self, name: str) -> None:
        """Close a named descriptor (`closefd`).

        Raises:
            FdSetError: there is none of that name.
        """
        if name not in self._named:
            raise FdSetError(f"there is no fd named {name!r}")
        os.close(self._named.pop(name))

    def take(self, text: str) -> int:
        """The descriptor that `fd=` means, which is the caller's from now on: a name, or a number this process inherited.

        Raises:
            FdSetError: there is none.
        """
        if text in self._named:
            return self._named.pop(text)
        if text.isascii() and text.isdecimal():
            try:
                fd = int(text)
                os.fstat(fd)
            except (OSError, OverflowError):
                raise FdSetError(f"fd {text} is not open: expected one that this program was started with") from None
            os.set_inheritable(fd, False)
            return fd
        raise FdSetError(f"there is no fd named {text!r}: expected a number, or a name that a monitor gave one")

    def close(self) -> None:
        """Close everything."""
        fds = [info.fd for one in self._sets.values() for info in one.fds] + list(self._named.values())
        self._sets.clear()
        self._named.clear()
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)


def _file_of(fd: int) -> tuple[int, int]:
    """Which file a descriptor is of; (-1, -1) when it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino
