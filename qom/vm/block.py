"""Block back ends: what a disk reads from and writes to.

Sectors are 512 bytes. Reads and writes are done when the call returns, with the machine lock held; a failing host call
raises `BlockError`, which a disk turns into its own error status. What was done is counted (`Figures`, query-blockstats).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic_ns

from qom import Object, QomError, records, type_init

SECTOR = 512  # bytes


class BlockError(QomError):
    """An image that cannot be opened, or a read, write or flush that the host refused."""


@records.define
class Count:
    """Operations of one kind: those that worked, their bytes, the nanoseconds of host time that they and failed ones took,
    those that the host refused, and those that were wrong from the outset (outside of the image, or it is read-only)."""

    operations: int = 0
    bytes: int = 0
    time_ns: int = 0
    failed: int = 0
    invalid: int = 0

    def done(self, began: int, size: int) -> int:
        """Count one that worked: `size` bytes, begun at monotonic nanosecond `began`.  Returns when it ended."""
        now = monotonic_ns()
        self.operations += 1
        self.bytes += size
        self.time_ns += now - began
        return now

    def refused(self, began: int) -> int:
        """Count one that failed.  Returns when it ended."""
        now = monotonic_ns()
        self.failed += 1
        self.time_ns += now - began
        return now


@records.define
class Figures:
    """What was done with an image since it was opened.

    highest: the byte after the last one ever written.  last: monotonic nanosecond of the end of the last operation, 0 before.
    """

    read: Count = records.field(factory=Count)
    write: Count = records.field(factory=Count)
    flush: Count = records.field(factory=Count)
    highest: int = 0
    last: int = 0


@type_init("block-backend", abstract=True)
class BlockBackend(Object):
    """One image. Created, its properties set, then `open()`; `close()` gives everything back."""

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Block back end", "block"

    def instance_init(self) -> None:
        """Start closed and unused."""
        self.sectors = 0  # size in sectors, known once open
        self.writable = False
        self.user = ""  # path of the disk that uses this image
        self.on_resized: Callable[[int], None] | None = (
            None  # told the new number of sectors; None: the user cannot change
        )
        self.open_file: Callable[[str, int], int] = os.open  # how a file is opened that the user named
        self.inert = False  # set before `open`: only looked at, so neither locked nor opened for writing
        self.figures = Figures()  # who derives from this class counts; `qom.ImageFile` does

    def finalize(self) -> None:
        """Give back descriptors and locks."""
        self.close()

    def open(self) -> None:
        """Open the image; a second call has no effect. Raises BlockError."""
        raise NotImplementedError

    def close(self) -> None:
        """Give everything back; a second call has no effect."""

    def attach(self, user: str) -> None:
        """Reserve this image for one disk. Raises BlockError when another has it."""
        if self.user:
            raise BlockError(f"{self.path}: already used by {self.user}, so {user} cannot use it too")
        self.user = user

    def detach(self) -> None:
        """Undo `attach`."""
        self.user = ""
        self.on_resized = None

    def read(self, lba: int, count: int) -> bytes:
        """Return `count` sectors from sector `lba`. Raises BlockError."""
        raise NotImplementedError

    def write(self, lba: int, data: bytes | bytearray | memoryview) -> None:
        """Write whole sectors from sector `lba`. Raises BlockError."""
        raise NotImplementedError

    def flush(self) -> None:
        """Return when everything written is on stable storage. Raises BlockError."""
        raise NotImplementedError
