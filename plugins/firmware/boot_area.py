"""What a loader leaves in low memory for a kernel that starts without firmware.

Descriptor table, page tables that map the first 4 GiB to themselves, and whatever the kernel's boot protocol wants (command
line, zero page, information blocks), one after the other from 80000h on.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from plugins.firmware.kernel import Chunk, DirectStart
from plugins.firmware.loader import ImageError

__all__ = ["BootArea"]

START, END = 0x80000, 0x9F000
PAGE = 4096

# Descriptors (Intel SDM vol. 3, 3.4.5): flat, present, ring 0, accessed
CODE_32, DATA_32, CODE_64 = 0x00CF9B000000FFFF, 0x00CF93000000FFFF, 0x00AF9B000000FFFF
# Page table entries (4.5)
PRESENT, WRITABLE, LARGE = 0x1, 0x2, 0x80
TABLE_ENTRIES, LARGE_PAGE = 512, 2 << 20
MAPPED_GIB = 4


class BootArea:
    """Things in low memory, put there one after the other."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._next = START

    def next_address(self, align: int = 16) -> int:
        """Where the next thing will lie."""
        return -(-self._next // align) * align

    def add(self, data: bytes, what: str, align: int = 16) -> int:
        """Put something there; returns its address.

        Raises:
            ImageError: there is no room left.
        """
        address = self.next_address(align)
        if address + len(data) > END:
            raise ImageError(f"no room for the {what} of {len(data)} bytes between {address:#x} and {END:#x}")
        self._chunks.append(Chunk(address, data, what))
        self._next = address + len(data)
        return address

    def start(
        self, chunks: Sequence[Chunk], entry: int, registers: Mapping[str, int], *, long_mode: bool
    ) -> DirectStart:
        """Add descriptors (and page tables); everything together with the kernel's own `chunks`.

        Raises:
            ImageError: the kernel wants to lie where these things are.
        """
        table = struct.pack("<4Q", 0, 0, CODE_64 if long_mode else CODE_32, DATA_32)
        gdt = self.add(table, "descriptor table")
        cr3 = self._page_tables() if long_mode else 0
        for chunk in chunks:
            if chunk.address < self._next and chunk.end > START:
                raise ImageError(
                    f"{chunk.what} lies from {chunk.address:#x} to {chunk.end - 1:#x}: what it is started with needs"
                    f" {START:#x} to {self._next - 1:#x}"
                )
        return DirectStart([*chunks, *self._chunks], entry, long_mode, registers, (gdt, len(table)), cr3)

    def _page_tables(self) -> int:
        """Map the first 4 GiB to themselves by 2 MiB pages; returns the address of the top table."""
        directories = struct.pack(
            f"<{MAPPED_GIB * TABLE_ENTRIES}Q",
            *(n * LARGE_PAGE | PRESENT | WRITABLE | LARGE for n in range(MAPPED_GIB * TABLE_ENTRIES)),
        )
        first = self.add(directories, "page tables", align=PAGE)
        pointers = [first + n * PAGE | PRESENT | WRITABLE for n in range(MAPPED_GIB)]
        middle = self.add(
            struct.pack(f"<{TABLE_ENTRIES}Q", *pointers, *[0] * (TABLE_ENTRIES - MAPPED_GIB)), "page tables", align=PAGE
        )
        top = struct.pack(f"<{TABLE_ENTRIES}Q", middle | PRESENT | WRITABLE, *[0] * (TABLE_ENTRIES - 1))
        return self.add(top, "page tables", align=PAGE)
