"""The format kdump-zlib of dump-guest-memory: what makedumpfile writes and crash reads, every page compressed by itself.

It is written flattened, as QEMU does: a header of a page, then pieces of the file, each with its offset and size before it, so
that a pipe takes it; `makedumpfile -R` makes the plain file of it, and crash reads either.  Version 6 of the header.  Of
the two bitmaps the second, the pages that are there in the file, is the first again: all RAM is dumped.

Not modelled: the guest's vmcoreinfo, and so its `phys_base`, which is 0: crash asks for it (`--machdep phys_base=`) where
a kernel was moved.  Source: the header files diskdump_mod.h of makedumpfile and diskdump.h of crash, as data layouts.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from qom.monitor.dumping import Piece, write_all

__all__ = ["written"]

PAGE: Final = 4096
PAGES_AT_ONCE: Final = 256
FLAT_HEADER: Final = struct.Struct(">16sqq")
FLAT_PIECE: Final = struct.Struct(">qq")
# signature, version, utsname (the machine is its fifth of six), time, status, size of a block, blocks of the sub-header and
# of the bitmaps, end of the page numbers, blocks of RAM, on a device, written, current processor, number of them
HEADER: Final = struct.Struct("<8sI260s65s65s22s10I")
# phys_base, level, split, first and last page, vmcoreinfo, notes and erased data (offset and size of each), the page numbers
# again, in 64 bits
SUB_HEADER: Final = struct.Struct("<QII2Q6Q3Q")
DESCRIPTOR: Final = struct.Struct("<QIIQ")  # offset, size, flags, flags of the page
ZLIB: Final = 1
LEVEL_NO_ZERO_PAGES: Final = 1


def written(fd: int, notes: bytes, cpus: int, pieces: list[Piece]) -> Iterator[int]:
    """Write a dump part by part; each time says of how many more bytes of memory that was.

    Args:
        fd: where to.
        notes: of the processors.
        cpus: how many there are.
        pieces: RAM in whole pages, ascending.

    Raises:
        OSError: it cannot be written.
    """

    def put(offset: int, data: bytes) -> None:
        write_all(fd, FLAT_PIECE.pack(offset, len(data)) + data)

    write_all(fd, FLAT_HEADER.pack(b"makedumpfile", 1, 1).ljust(PAGE, b"\0"))
    last = max((at + len(view) for at, view in pieces), default=0) // PAGE
    bitmap = bytearray(-(-last // (8 * PAGE)) * PAGE)
    for at, view in pieces:
        for number in range(at // PAGE, (at + len(view)) // PAGE):
            bitmap[number >> 3] |= 1 << (number & 7)
    sub_blocks = -(-(SUB_HEADER.size + len(notes)) // PAGE)
    put(0, HEADER.pack(
        b"KDUMP   ", 6, b"", b"x86_64", b"", b"", ZLIB, PAGE, sub_blocks, 2 * len(bitmap) // PAGE, min(last, 0xFFFFFFFF),
        0, 0, 0, 0, cpus,
    ))  # fmt: skip
    at_notes = PAGE + SUB_HEADER.size
    put(PAGE, SUB_HEADER.pack(
        0, LEVEL_NO_ZERO_PAGES, 0, 0, 0, 0, 0, at_notes, len(notes), 0, 0, 0, 0, last,
    ))  # fmt: skip
    put(at_notes, notes)
    at_bitmap = (1 + sub_blocks) * PAGE
    put(at_bitmap, bytes(bitmap))
    put(at_bitmap + len(bitmap), bytes(bitmap))
    count = sum(len(view) // PAGE for _, view in pieces)
    at_descriptor = at_bitmap + 2 * len(bitmap)
    zero_at = at_descriptor + count * DESCRIPTOR.size
    zero = bytes(PAGE)
    zero_page = zlib.compress(zero, 1)
    put(zero_at, zero_page)
    of_zero = DESCRIPTOR.pack(zero_at, len(zero_page), ZLIB, 0)
    at_data = zero_at + len(zero_page)
    yield 0
    for _, view in pieces:
        for start in range(0, len(view), PAGES_AT_ONCE * PAGE):
            part = view[start : start + PAGES_AT_ONCE * PAGE]
            descriptors, data = bytearray(), bytearray()
            for offset in range(0, len(part), PAGE):
                page = bytes(part[offset : offset + PAGE])
                if page == zero:
                    descriptors += of_zero
                    continue
                packed = zlib.compress(page, 1)
                small = len(packed) < PAGE
                kept = packed if small else page
                descriptors += DESCRIPTOR.pack(at_data + len(data), len(kept), ZLIB if small else 0, 0)
                data += kept
            put(at_descriptor, bytes(descriptors))
            at_descriptor += len(descriptors)
            if data:
                put(at_data, bytes(data))
                at_data += len(data)
            yield len(part)
    write_all(fd, FLAT_PIECE.pack(-1, -1))
