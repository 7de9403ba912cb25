"""ELF kernels with a PVH note: the direct boot interface of Xen ("x86/HVM direct boot ABI", docs/misc/pvh.pandoc), which
uncompressed Linux kernels (vmlinux), FreeBSD and others have.

Modelled: the 32-bit entry of the note, version 1 of the start information with one module (the initrd) and the memory map.
Not modelled: hypercalls; there is no Xen, and kernels that find none go on as on bare hardware.
"""

from __future__ import annotations

import struct

from plugins.firmware.elf import MAGIC, Elf, ElfError
from plugins.firmware.flat_kernel import FlatKernel, Start
from plugins.firmware.kernel import Request

__all__ = ["PvhElf"]

NOTE_NAME, PHYS32_ENTRY = b"Xen", 18
START_MAGIC, START_VERSION = 0x336EC578, 1
START = struct.Struct("<IIIIQQQQII")  # magic, version, flags, modules, list, command line, RSDP, map, its entries, -
MODULE = struct.Struct("<QQQQ")  # address, size, command line, -
MAP_ENTRY = struct.Struct("<QQII")  # address, size, type, -


class PvhElf(FlatKernel):
    """An ELF kernel with the note.

    Args:
        path: its file, for messages.
        image: what the file holds.

    Raises:
        ImageError: it is damaged, or has no such note.
    """

    kind, rom = "ELF file with a PVH note", "pvh.bin"

    @staticmethod
    def recognise(image: bytes) -> bool:
        """Whether a file is an ELF file, with the note or without."""
        return image.startswith(MAGIC)

    def __init__(self, path: str, image: bytes) -> None:
        super().__init__(path, image)
        try:
            elf = Elf.parse(image)
        except ElfError as error:
            raise self.error(str(error)) from None
        found = [data for name, kind, data in elf.notes if (name, kind) == (NOTE_NAME, PHYS32_ENTRY)]
        if not found or len(found[0]) not in (4, 8):
            raise self.error("is an ELF file that says no way to start it: expected a PVH note or a multiboot header")
        self.entry, self.segments = int.from_bytes(found[0], "little"), elf.segments

    def modules(self, request: Request) -> list[tuple[str, str]]:
        """The initrd."""
        return [(request.initrd, "")] if request.initrd else []

    def registers(self, info: int) -> dict[str, int]:
        """EBX holds the address of the start information."""
        return {"rbx": info}

    def info(self, base: int, start: Start) -> bytes:
        """`struct hvm_start_info`, and behind it what it points to."""
        block = bytearray(START.size)

        def put(data: bytes) -> int:
            block.extend(bytes(-len(block) % 8))
            block.extend(data)
            return base + len(block) - len(data)

        cmdline = put(start.cmdline.encode() + b"\0")
        modules = [MODULE.pack(module.address, len(module.data), 0, 0) for module in start.modules]
        listed = put(b"".join(modules)) if modules else 0
        entries = [MAP_ENTRY.pack(*entry, 0) for entry in start.memory_map or ()]
        table = put(b"".join(entries)) if entries else 0
        START.pack_into(
            block, 0, START_MAGIC, START_VERSION, 0, len(modules), listed, cmdline, start.rsdp, table, len(entries), 0
        )
        return bytes(block)
