"""Multiboot 1 kernels ("Multiboot Specification", version 0.6.96).

Modelled: the header within the first 8 KiB, ELF images of both widths and images with addresses in the header, modules from
`-initrd "FILE ARGUMENTS,FILE ..."` (a comma in a name is doubled), command line, memory sizes, memory map, loader name.
Not modelled: the video mode of flag 2 (a kernel that requires one is refused), symbols, drives, APM and VBE tables.
"""

from __future__ import annotations

import struct

from plugins.firmware.elf import MAGIC, Elf, ElfError, Segment
from plugins.firmware.flat_kernel import FlatKernel, Start
from plugins.firmware.fw_cfg import E820_RAM
from plugins.firmware.kernel import MIB, Request

__all__ = ["Multiboot"]

HEADER_MAGIC, SEARCHED, ALIGN = 0x1BADB002, 8192, 4
HEADER = struct.Struct("<III")  # magic, flags, checksum
ADDRESSES = struct.Struct("<IIIII")  # header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr
ALIGNED_MODULES, MEMORY_INFO, VIDEO_MODE, HAS_ADDRESSES = 1 << 0, 1 << 1, 1 << 2, 1 << 16
REQUIRED = 0xFFFF  # a loader that does not know one of these bits must not start the kernel

BOOTED_BY = 0x2BADB002  # EAX at the entry
INFO_SIZE = 116
INFO_MEMORY, INFO_CMDLINE, INFO_MODULES, INFO_MAP, INFO_LOADER = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9
FLAGS, MEM_LOWER, MEM_UPPER, CMDLINE, MODS, MMAP, LOADER_NAME = 0, 4, 8, 16, 20, 44, 64  # offsets in the block
MODULE = struct.Struct("<IIII")
MAP_ENTRY = struct.Struct("<IQQI")
LOADER = "qom"


class Multiboot(FlatKernel):
    """A multiboot kernel.

    Args:
        path: its file, for messages.
        image: what the file holds.

    Raises:
        ImageError: it is damaged, or asks for what there is not.
    """

    kind, rom = "multiboot image", "multiboot.bin"

    @staticmethod
    def recognise(image: bytes) -> bool:
        """Whether a file is one."""
        return _find_header(image) is not None

    def __init__(self, path: str, image: bytes) -> None:
        super().__init__(path, image)
        at = _find_header(image)
        assert at is not None
        _, flags, _ = HEADER.unpack_from(image, at)
        if flags & VIDEO_MODE:
            raise self.error("requires a video mode (multiboot header flag 2): expected a kernel that needs none")
        unknown = flags & REQUIRED & ~(ALIGNED_MODULES | MEMORY_INFO)
        if unknown:
            raise self.error(f"requires multiboot features {unknown:#x}: expected none but 0x3")
        if flags & HAS_ADDRESSES:
            self._take_addresses(at)
        elif image.startswith(MAGIC):
            try:
                elf = Elf.parse(image)
            except ElfError as error:
                raise self.error(str(error)) from None
            self.entry, self.segments = elf.entry, elf.segments
        else:
            raise self.error("is a multiboot image without addresses (flag 16): expected them, or an ELF file")

    def _take_addresses(self, at: int) -> None:
        """The image's place as its header says it."""
        image = self.image
        if at + HEADER.size + ADDRESSES.size > len(image):
            raise self.error(f"is cut short: {len(image)} bytes, its multiboot header ends at {at + 32}")
        header, load, load_end, bss_end, self.entry = ADDRESSES.unpack_from(image, at + HEADER.size)
        start = at - (header - load)
        end = start + load_end - load if load_end else len(image)
        if load > header or start < 0:
            raise self.error(
                f"has load_addr {load:#x} and header_addr {header:#x}, its header is at {at:#x} of the file"
            )
        if end > len(image) or end < start:
            raise self.error(f"has {len(image)} bytes: by its load_end_addr {load_end:#x} expected {end}")
        data = image[start:end]
        self.segments = [Segment(load, load, data, max(len(data), bss_end - load if bss_end else 0))]

    def modules(self, request: Request) -> list[tuple[str, str]]:
        """`FILE ARGUMENTS,FILE ...`, a comma doubled for one in a name."""
        if not request.initrd:
            return []
        texts = request.initrd.replace(",,", "\0").split(",")
        return [(text.split(" ")[0], text) for text in (text.replace("\0", ",") for text in texts)]

    def cmdline(self, request: Request) -> str:
        """The kernel's file comes first, by convention."""
        return f"{self.path} {request.append}".rstrip()

    def registers(self, info: int) -> dict[str, int]:
        """Machine state of section 3.2."""
        return {"rax": BOOTED_BY, "rbx": info}

    def info(self, base: int, start: Start) -> bytes:
        """The block of section 3.3, and behind it the strings, the modules' structures and the map."""
        block = bytearray(INFO_SIZE)

        def put(data: bytes) -> int:
            block.extend(bytes(-len(block) % 8))
            block.extend(data)
            return base + len(block) - len(data)

        flags = INFO_CMDLINE | INFO_LOADER
        cmdline, loader = put(start.cmdline.encode() + b"\0"), put(LOADER.encode() + b"\0")
        struct.pack_into("<I", block, CMDLINE, cmdline)
        struct.pack_into("<I", block, LOADER_NAME, loader)
        if start.modules:
            flags |= INFO_MODULES
            texts = [put(module.text.encode() + b"\0") for module in start.modules]
            table = b"".join(
                MODULE.pack(module.address, module.address + len(module.data), text, 0)
                for module, text in zip(start.modules, texts, strict=True)
            )
            where = put(table)
            struct.pack_into("<II", block, MODS, len(start.modules), where)
        if start.memory_map is not None:
            flags |= INFO_MEMORY | INFO_MAP
            table = b"".join(MAP_ENTRY.pack(MAP_ENTRY.size - 4, *entry) for entry in start.memory_map)
            where = put(table)
            struct.pack_into("<II", block, MMAP, len(table), where)
            ram = {first: size for first, size, kind in start.memory_map if kind == E820_RAM}
            struct.pack_into("<II", block, MEM_LOWER, ram.get(0, 0) >> 10, ram.get(MIB, 0) >> 10)
        struct.pack_into("<I", block, FLAGS, flags)
        return bytes(block)


def _find_header(image: bytes) -> int | None:
    """The offset of a header whose three numbers sum to 0."""
    for at in range(0, min(SEARCHED, len(image)) - HEADER.size + 1, ALIGN):
        magic, flags, checksum = HEADER.unpack_from(image, at)
        if magic == HEADER_MAGIC and (magic + flags + checksum) & 0xFFFFFFFF == 0:
            return at
    return None
