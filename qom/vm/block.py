"""Block back ends: what a disk reads from and writes to.

Sectors are 512 bytes. Reads and writes are done when the call returns, with the machine lock held; a failing host call
raises `BlockError`, which a disk turns into its own error status.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from qom import Object, QomError, type_init

SECTOR = 512  # bytes


class BlockError(QomError):
    """An image that cannot be opened, or a read, write or flush that the host refused."""


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
        self.open_file: Callable[[str, int], int] = os.open  # how a file is opened that the user named
        self.inert = False  # set before `open`: only looked at, so neither locked nor opened for writing

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

    def read(self, lba: int, count: int) -> bytes:
        """Return `count` sectors from sector `lba`. Raises BlockError."""
        raise NotImplementedError

    def write(self, lba: int, data: bytes | bytearray | memoryview) -> None:
        """Write whole sectors from sector `lba`. Raises BlockError."""
        raise NotImplementedError

    def flush(self) -> None:
        """Return when everything written is on stable storage. Raises BlockError."""
        raise NotImplementedError
