"""Image files: what every format of a disk image shares, so that a format only says where in its file a sector is.

A format is a type `block-NAME` derived from `ImageFile`; `-drive format=NAME` finds it by that name, and gives it every
option that `-drive` does not know as a property.

`readonly` opens for reading only. `snapshot` never writes the file: what the guest writes is kept in memory and gone
at close. A file that is written is locked (a lock of the open file description) against every other writer, a file
that is read against writers; block devices are not locked. What a format raises beside `BlockError` becomes one, so the
guest's disk reports an error and the machine goes on. Not modelled: discard, asynchronous I/O.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from time import monotonic_ns

from qom.blame import shown
from qom.properties import REQUIRED, prop
from qom.registry import type_init
from qom.vm.block import SECTOR, BlockBackend, BlockError

__all__ = ["ImageFile"]

CHUNK_SECTORS = 128  # granule of the snapshot overlay: 64 KiB
CHUNK = CHUNK_SECTORS * SECTOR

# struct flock of x86-64 and other 64-bit Linux: type, whence, start, length, pid
_FLOCK = "hhqqi4x"


@type_init("block-image", abstract=True)
class ImageFile(BlockBackend):
    """One image in one file or block device.

    A format overrides `opened`, `read_sectors` and, if it can write, `write_sectors`; with `read_at`, `write_at` and
    `file_size` it has the file.
    """

    file: str = prop(REQUIRED, "Path of the image")
    readonly: bool = prop(False, "Open for reading only")
    snapshot: bool = prop(False, "Keep what the guest writes in memory and leave the file as it is")
    locking: bool = prop(True, "Lock the file against other writers")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Disk image in a file"

    def instance_init(self) -> None:
        """Start closed."""
        self._fd = -1
        self._size = 0  # bytes
        self._fixed_size = False
        self._overlay: dict[int, bytearray] = {}  # chunk number -> its content

    # -- for formats to override

    def opened(self) -> int:
        """The file is open: look at it, and say how many sectors the image has.  Raise `wrong(...)` if it is no image."""
        raise NotImplementedError

    def read_sectors(self, lba: int, count: int) -> bytes:
        """`count` sectors from sector `lba`, which are in the image."""
        raise NotImplementedError

    def write_sectors(self, lba: int, data: bytes) -> None:
        """Write whole sectors from sector `lba`, which are in the image; a format without this is only read."""
        raise NotImplementedError

    # -- for formats to use

    @property
    def file_size(self) -> int:
        """Bytes of the file."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes of the file; zeros follow its end."""
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length and offset + len(data) < self._size:
                more = os.pread(self._fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise self.wrong(f"cannot be read at byte {offset}: {error.strerror}") from None
        return data if len(data) == length else data.ljust(length, b"\0")

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write to the file, which grows as needed."""
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self._fd, view, offset)
                view, offset = view[done:], offset + done
        except OSError as error:
            raise self.wrong(f"cannot be written at byte {offset}: {error.strerror}") from None
        self._size = max(self._size, offset)

    def set_file_size(self, size: int) -> None:
        """Make the file `size` bytes long.  Raises BlockError when it cannot be written, or is a device."""
        if self._fd < 0 or not self.writable or self.snapshot or self._fixed_size:
            raise self.wrong("cannot change its size: it is read-only, kept in memory, or a block device")
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self.wrong(f"cannot be made {size} bytes long: {error.strerror}") from None
        self._size = size

    def wrong(self, what: str) -> BlockError:
        """The error that the image is or does `what` ("has no header")."""
        return BlockError(f"{self.path}: image '{self.file}' {what}")

    # -- life

    def open(self) -> None:
        """Open and lock the file. Raises BlockError naming the file and what is wrong with it."""
        if self._fd >= 0:
            return
        can_write = type(self).write_sectors is not ImageFile.write_sectors
        self.writable = not self.readonly and (can_write or self.snapshot)
        write_file = self.writable and not self.snapshot and not self.inert
        try:
            fd = self.open_file(self.file, (os.O_RDWR if write_file else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            hint = ""
            if write_file and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and os.access(self.file, os.R_OK):
                hint = " for writing (readonly=on or snapshot=on would not need that)"
            raise BlockError(f"{self.path}: cannot open image '{self.file}'{hint}: {error.strerror}") from None
        self._fd = fd
        try:
            self._check(fd, write_file)
            try:
                self.sectors = self.opened()
            except BlockError:
                raise
            except Exception as error:
                raise self.wrong(f"is not in the format of '{self.type_name}': {shown(error)}") from error
        except BaseException:
            self.close()
            raise

    def _check(self, fd: int, write_file: bool) -> None:
        status = os.fstat(fd)
        self._fixed_size = stat.S_ISBLK(status.st_mode)
        if not self._fixed_size and not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "neither a file nor a block device"
            raise BlockError(f"{self.path}: image '{self.file}' is {kind}: expected a file or a block device")
        self._size = os.lseek(fd, 0, os.SEEK_END)
        if self._size == 0:
            raise BlockError(f"{self.path}: image '{self.file}' is empty: expected at least {SECTOR} bytes")
        if self.locking and not self.inert and not self._fixed_size:
            self._lock(fd, write_file)

    def _lock(self, fd: int, write_file: bool) -> None:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK if write_file else fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # a file system without locks
            what = "write" if write_file else "read"
            raise BlockError(
                f"{self.path}: cannot {what} image '{self.file}': another user has it locked"
                " (snapshot=on or readonly=on shares it with readers, locking=off overrides)"
            ) from None

    def close(self) -> None:
        """Close the file, which unlocks it, and forget the overlay."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._overlay.clear()

    # --- access

    def _in_range(self, what: str, lba: int, count: int) -> None:
        if self._fd < 0:
            raise BlockError(f"{self.path}: image '{self.file}' is not open")
        if lba < 0 or lba + count > self.sectors:
            raise BlockError(
                f"{self.path}: {what} of {count} sectors at {lba} is outside image '{self.file}' of {self.sectors}"
            )

    def read(self, lba: int, count: int) -> bytes:
        """Return `count` sectors from sector `lba`. Raises BlockError."""
        figures, began = self.figures, monotonic_ns()
        try:
            self._in_range("read", lba, count)
        except BlockError:
            figures.read.invalid += 1
            raise
        try:
            data = self._read_overlaid(lba, count) if self._overlay else self._read_image(lba, count)
        except BlockError:
            figures.last = figures.read.refused(began)
            raise
        figures.last = figures.read.done(began, len(data))
        return data

    def _read_image(self, lba: int, count: int) -> bytes:
        try:
            data = self.read_sectors(lba, count)
        except BlockError:
            raise
        except Exception as error:
            raise self.wrong(f"cannot be read at sector {lba}: {shown(error)}") from error
        if len(data) != count * SECTOR:
            raise self.wrong(f"gave {len(data)} bytes for {count} sectors at {lba}: expected {count * SECTOR}")
        return data

    def _read_overlaid(self, lba: int, count: int) -> bytes:
        parts = []
        while count:
            chunk, first = divmod(lba, CHUNK_SECTORS)
            n = min(count, CHUNK_SECTORS - first)
            kept = self._overlay.get(chunk)
            if kept is None:
                parts.append(self._read_image(lba, n))
            else:
                parts.append(bytes(kept[first * SECTOR : (first + n) * SECTOR]))
            lba += n
            count -= n
        return b"".join(parts)

    def write(self, lba: int, data: bytes | bytearray | memoryview) -> None:
        """Write whole sectors from sector `lba`. Raises BlockError."""
        figures, began = self.figures, monotonic_ns()
        count, rest = divmod(len(data), SECTOR)
        try:
            if rest:
                raise BlockError(f"{self.path}: a write of {len(data)} bytes is not a whole number of sectors")
            self._in_range("write", lba, count)
            if not self.writable:
                raise BlockError(f"{self.path}: image '{self.file}' is read-only")
        except BlockError:
            figures.write.invalid += 1
            raise
        try:
            if self.snapshot:
                self._write_overlay(lba, count, memoryview(data))
            else:
                self._write_image(lba, bytes(data))
        except BlockError:
            figures.last = figures.write.refused(began)
            raise
        figures.last = figures.write.done(began, len(data))
        figures.highest = max(figures.highest, lba * SECTOR + len(data))

    def _write_image(self, lba: int, data: bytes) -> None:
        try:
            self.write_sectors(lba, data)
        except BlockError:
            raise
        except Exception as error:
            raise self.wrong(f"cannot be written at sector {lba}: {shown(error)}") from error

    def _write_overlay(self, lba: int, count: int, view: memoryview) -> None:
        while count:
            chunk, first = divmod(lba, CHUNK_SECTORS)
            n = min(count, CHUNK_SECTORS - first)
            kept = self._overlay.get(chunk)
            if kept is None:
                base = chunk * CHUNK_SECTORS
                present = min(CHUNK_SECTORS, self.sectors - base)
                kept = self._overlay[chunk] = bytearray(self._read_image(base, present).ljust(CHUNK, b"\0"))
            kept[first * SECTOR : (first + n) * SECTOR] = view[: n * SECTOR]
            view = view[n * SECTOR :]
            lba += n
            count -= n

    def flush(self) -> None:
        """Return when everything written is on stable storage. Raises BlockError."""
        if self._fd < 0:
            return
        figures, began = self.figures, monotonic_ns()
        if self.writable and not self.snapshot:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                figures.last = figures.flush.refused(began)
                raise self.wrong(f"cannot be flushed: {error.strerror}") from None
        figures.last = figures.flush.done(began, 0)
