"""Raw images: sector n is at byte n * 512 of the file.

A file that is not a whole number of sectors is read as if zeros followed; its last, partial sector is written without
making the file longer than needed.
"""

from __future__ import annotations

from qom import ImageFile, type_init
from qom.vm import SECTOR


@type_init("block-raw", aliases=("drive",))
class RawImage(ImageFile):
    """One raw image file."""

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Raw disk image"

    def opened(self) -> int:
        """As many sectors as it has begun."""
        return -(-self.file_size // SECTOR)

    def read_sectors(self, lba: int, count: int) -> bytes:
        """The bytes as they are."""
        return self.read_at(lba * SECTOR, count * SECTOR)

    def write_sectors(self, lba: int, data: bytes) -> None:
        """The bytes as they are."""
        self.write_at(lba * SECTOR, data)

    def resize(self, sectors: int) -> None:
        """Make the file so many sectors long; what is new reads as zeros."""
        self.set_file_size(sectors * SECTOR)
        self.sectors = sectors
