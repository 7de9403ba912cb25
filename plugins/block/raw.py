"""Raw image back end: sector n is at byte n * 512 of a file or block device.

`readonly` opens for reading only. `snapshot` never writes the file: what the guest writes is kept in memory and gone
at close. A file that is written is locked (a lock of the open file description) against every other writer, a file
that is read against writers; block devices are not locked. A file that is not a whole number of sectors is read as if
zeros followed; its last, partial sector is written without making the file longer than needed. Not modelled: other
formats, discard, asynchronous I/O.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from qom import REQUIRED, BlockBackend, prop, type_init
from qom.vm import SECTOR, BlockError

CHUNK_SECTORS = 128  # granule of the snapshot overlay: 64 KiB
CHUNK = CHUNK_SECTORS * SECTOR

# struct flock of x86-64 and other 64-bit Linux: type, whence, start, length, pid
_FLOCK = "hhqqi4x"


@type_init("drive")
class RawImage(BlockBackend):
    """One raw image file."""

    file: str = prop(REQUIRED, "Path of the image")
    format: str = prop("raw", "Image format", among=("raw",))
    readonly: bool = prop(False, "Open for reading only")
    snapshot: bool = prop(False, "Keep what the guest writes in memory and leave the file as it is")
    locking: bool = prop(True, "Lock the file against other writers")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Raw disk image"

    def instance_init(self) -> None:
        """Start closed."""
        self._fd = -1
        self._size = 0  # bytes
        self._fixed_size = False
        self._overlay: dict[int, bytearray] = {}  # chunk number -> its content

    def open(self) -> None:
        """Open and lock the file. Raises BlockError naming the file and what is wrong with it."""
        if self._fd >= 0:
            return
        self.writable = not self.readonly
        write_file = self.writable and not self.snapshot
        try:
            fd = os.open(self.file, (os.O_RDWR if write_file else os.O_RDONLY) | os.O_CLOEXEC)
        except OSError as error:
            hint = ""
            if write_file and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and os.access(self.file, os.R_OK):
                hint = " for writing (readonly=on or snapshot=on would not need that)"
            raise BlockError(f"{self.path}: cannot open image '{self.file}'{hint}: {error.strerror}") from None
        try:
            self._check(fd, write_file)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _check(self, fd: int, write_file: bool) -> None:
        status = os.fstat(fd)
        self._fixed_size = stat.S_ISBLK(status.st_mode)
        if not self._fixed_size and not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "neither a file nor a block device"
            raise BlockError(f"{self.path}: image '{self.file}' is {kind}: expected a file or a block device")
        self._size = os.lseek(fd, 0, os.SEEK_END)
        if self._size == 0:
            raise BlockError(f"{self.path}: image '{self.file}' is empty: expected at least {SECTOR} bytes")
        self.sectors = -(-self._size // SECTOR)
        if self.locking and not self._fixed_size:
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

    def _failed(self, what: str, lba: int, error: OSError) -> BlockError:
        return BlockError(f"{self.path}: {what} of image '{self.file}' at sector {lba} failed: {error.strerror}")

    def read(self, lba: int, count: int) -> bytes:
        """Return `count` sectors from sector `lba`. Raises BlockError."""
        self._in_range("read", lba, count)
        if self._overlay:
            return self._read_overlaid(lba, count)
        return self._read_file(lba, count)

    def _read_file(self, lba: int, count: int) -> bytes:
        wanted, offset = count * SECTOR, lba * SECTOR
        try:
            data = os.pread(self._fd, wanted, offset)
            while len(data) < wanted and offset + len(data) < self._size:
                more = os.pread(self._fd, wanted - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise self._failed("reading", lba, error) from None
        return data if len(data) == wanted else data.ljust(wanted, b"\0")

    def _read_overlaid(self, lba: int, count: int) -> bytes:
        parts = []
        while count:
            chunk, first = divmod(lba, CHUNK_SECTORS)
            n = min(count, CHUNK_SECTORS - first)
            kept = self._overlay.get(chunk)
            if kept is None:
                parts.append(self._read_file(lba, n))
            else:
                parts.append(bytes(kept[first * SECTOR : (first + n) * SECTOR]))
            lba += n
            count -= n
        return b"".join(parts)

    def write(self, lba: int, data: bytes | bytearray | memoryview) -> None:
        """Write whole sectors from sector `lba`. Raises BlockError."""
        count, rest = divmod(len(data), SECTOR)
        if rest:
            raise BlockError(f"{self.path}: a write of {len(data)} bytes is not a whole number of sectors")
        self._in_range("write", lba, count)
        if not self.writable:
            raise BlockError(f"{self.path}: image '{self.file}' is read-only")
        if self.snapshot:
            self._write_overlay(lba, count, memoryview(data))
            return
        view, offset = memoryview(data), lba * SECTOR
        try:
            while view:
                done = os.pwrite(self._fd, view, offset)
                view, offset = view[done:], offset + done
        except OSError as error:
            raise self._failed("writing", lba, error) from None
        self._size = max(self._size, offset)

    def _write_overlay(self, lba: int, count: int, view: memoryview) -> None:
        while count:
            chunk, first = divmod(lba, CHUNK_SECTORS)
            n = min(count, CHUNK_SECTORS - first)
            kept = self._overlay.get(chunk)
            if kept is None:
                base = chunk * CHUNK_SECTORS
                present = min(CHUNK_SECTORS, self.sectors - base)
                kept = self._overlay[chunk] = bytearray(self._read_file(base, present).ljust(CHUNK, b"\0"))
            kept[first * SECTOR : (first + n) * SECTOR] = view[: n * SECTOR]
            view = view[n * SECTOR :]
            lba += n
            count -= n

    def flush(self) -> None:
        """Return when everything written is on stable storage. Raises BlockError."""
        if self._fd < 0 or not self.writable or self.snapshot:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._failed("flushing", 0, error) from None
