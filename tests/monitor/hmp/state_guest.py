"""A multiboot kernel that puts memory, interrupt controllers and paging into a state, and halts."""

from __future__ import annotations

import struct
from collections.abc import Sequence

BASE = 0x100000
HEADER_MAGIC, HEADER_FLAGS = 0x1BADB002, 0x00010000  # the header has addresses
CODE = BASE + 0x40
EFER, PG = 0xC0000080, 0x80000000


def _moves(*words: tuple[bytes, int]) -> bytes:
    return b"".join(op + struct.pack("<I", value) for op, value in words)


def kernel(writes: Sequence[tuple[int, int]], *, cr3: int = 0, cr4: int = 0, efer: int = 0) -> bytes:
    """The image.

    Args:
        writes: 32-bit values to be written to memory, in this order: (address, value); no address is 0.
        cr3: the top page table; 0: paging stays off.
        cr4, efer: bits for these registers, set before paging begins.
    """
    paging = b""
    if cr3:
        paging += b"\xb8" + struct.pack("<I", cr3) + b"\x0f\x22\xd8"  # mov eax, cr3; mov cr3, eax
        paging += b"\xb8" + struct.pack("<I", cr4) + b"\x0f\x22\xe0"
        if efer:
            paging += b"\xb9" + struct.pack("<I", EFER) + b"\x0f\x32\x0d" + struct.pack("<I", efer) + b"\x0f\x30"
        paging += b"\x0f\x20\xc0\x0d" + struct.pack("<I", PG) + b"\x0f\x22\xc0"  # or cr0, PG
    loop = bytes.fromhex("ad 85c0 7407 89c7 ad 8907 ebf4")  # lodsd; test; jz done; mov edi, eax; lodsd; mov [edi], eax
    start = b"\xfa\xbe"  # cli; mov esi, table
    length = len(start) + 4 + len(loop) + len(paging) + 3
    code = start + struct.pack("<I", CODE + length) + loop + paging + b"\xf4\xeb\xfd"  # hlt, again and again
    table = b"".join(struct.pack("<II", address, value) for address, value in writes) + bytes(4)
    size = CODE - BASE + len(code) + len(table)
    header = struct.pack(
        "<8I", HEADER_MAGIC, HEADER_FLAGS, -(HEADER_MAGIC + HEADER_FLAGS) & 0xFFFFFFFF, BASE, BASE, BASE + size,
        BASE + size, CODE,
    )  # fmt: skip
    return header.ljust(CODE - BASE, b"\0") + code + table
