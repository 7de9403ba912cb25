"""What multiboot and PVH kernels have in common: pieces with physical addresses, entered in flat 32-bit mode with one block
of information, which says where command line, modules and memory map are.

With firmware, the boot ROM loads one image of all pieces, one of all modules and the block, and adds the memory map to it.
Without firmware everything is put where it belongs.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Sequence

from plugins.firmware import fw_cfg as keys
from plugins.firmware.boot_area import BootArea
from plugins.firmware.elf import Segment
from plugins.firmware.kernel import (
    FIRMWARE_RESERVED,
    MIB,
    PAGE,
    Chunk,
    DirectStart,
    Kernel,
    Memory,
    Request,
    read_image,
)
from qom import format_size, records

__all__ = ["FlatKernel", "Module", "Start"]

INFO_ADDR, INFO_END = 0x10000, 0x1C000  # where the boot ROM puts the block; the memory map follows it, below 20000h
TEXT_MAX = 16 << 10  # characters of the command line

MapEntry = tuple[int, int, int]  # start, size, type


@records.frozen
class Module:
    """A file that the kernel finds in memory: its place, and what was said of it."""

    address: int
    data: bytes
    text: str


@records.frozen
class Start:
    """Everything the block of information says.  memory_map is None where the boot ROM fills it in."""

    cmdline: str
    modules: Sequence[Module]
    memory_map: Sequence[MapEntry] | None
    rsdp: int


class FlatKernel(Kernel):
    """A kernel of one of the two kinds.  A subclass sets `segments` and `entry` (physical addresses)."""

    segments: list[Segment]
    entry: int

    @abstractmethod
    def info(self, base: int, start: Start) -> bytes:
        """The block of information, and after it what it points to, as it lies at address `base`."""

    @abstractmethod
    def registers(self, info: int) -> dict[str, int]:
        """The registers at the entry, with the block at address `info`."""

    @abstractmethod
    def modules(self, request: Request) -> list[tuple[str, str]]:
        """The files that the request names as modules, each with its text."""

    def files(self, request: Request) -> list[str]:
        """The modules' files."""
        return [file for file, _ in self.modules(request)]

    def cmdline(self, request: Request) -> str:
        """The command line as the kernel sees it."""
        return request.append

    def items(self, request: Request, low_memory: int) -> dict[int, bytes]:
        """One image of the kernel, one of the modules, and the block; see Kernel."""
        modules = self._place(request, low_memory, low_memory - FIRMWARE_RESERVED)
        first, end = min(s.physical for s in self.segments), max(s.end for s in self.segments)
        if first < MIB:
            raise self.error(f"is loaded at {first:#x}: with firmware expected {MIB:#x} or above (or '-bios none')")
        flat = bytearray(end - first)
        for segment in self.segments:
            flat[segment.physical - first : segment.physical - first + len(segment.data)] = segment.data
        info = self.info(INFO_ADDR, Start(self.cmdline(request), modules, None, 0))
        if INFO_ADDR + len(info) > INFO_END:
            raise self.error(f"has {len(info)} bytes of command line and modules: expected {INFO_END - INFO_ADDR}")
        found = {
            keys.KERNEL_ADDR: first,
            keys.KERNEL_SIZE: len(flat),
            keys.KERNEL_ENTRY: self.entry,
            keys.SETUP_ADDR: INFO_ADDR,
            keys.SETUP_SIZE: len(info),
        }
        contents: dict[int, bytes] = {keys.KERNEL_DATA: bytes(flat), keys.SETUP_DATA: info}
        if modules:
            base = modules[0].address
            packed = bytearray(modules[-1].address + len(modules[-1].data) - base)
            for module in modules:
                packed[module.address - base : module.address - base + len(module.data)] = module.data
            found |= {keys.INITRD_ADDR: base, keys.INITRD_SIZE: len(packed)}
            contents[keys.INITRD_DATA] = bytes(packed)
        return contents | {key: struct.pack("<I", value) for key, value in found.items()}

    def direct(self, request: Request, memory: Memory, *, long_mode: bool) -> DirectStart:
        """In flat 32-bit mode, which every processor has; see Kernel."""
        modules = self._place(request, memory.below, memory.top)
        for segment in self.segments:
            if not any(start <= segment.physical and segment.end <= start + size for start, size in memory.ram()):
                raise self.error(
                    f"lies from {segment.physical:#x} to {segment.end - 1:#x}, where there is not only RAM"
                )
        area = BootArea()
        start = Start(self.cmdline(request), modules, memory.map, memory.rsdp)
        address = area.add(self.info(area.next_address(), start), "kernel's information")
        chunks = [
            Chunk(s.physical, s.data + bytes(s.size - len(s.data)), f"kernel '{self.path}'") for s in self.segments
        ]
        chunks += [Chunk(module.address, module.data, f"module '{module.text}'") for module in modules if module.data]
        return area.start(chunks, self.entry, self.registers(address), long_mode=False)

    def _place(self, request: Request, low_memory: int, top: int) -> list[Module]:
        """Find places for the modules: above the kernel, each on a page."""
        if len(self.cmdline(request)) > TEXT_MAX:
            raise self.append_error(
                f"has a command line of {len(self.cmdline(request))} characters: expected {TEXT_MAX}"
            )
        end = max(segment.end for segment in self.segments)
        if end > top:
            raise self.error(
                f"does not fit: it lies up to {end:#x}, and {format_size(low_memory)} of memory have RAM up to"
                f" {top:#x}: expected more memory (-m)"
            )
        modules: list[Module] = []
        for file, text in self.modules(request):
            data = read_image("initrd", file, request.read)
            address = -(-max(end, MIB) // PAGE) * PAGE
            if address + len(data) > top:
                raise self.no_room(file, len(data), address, top)
            modules.append(Module(address, data, text))
            end = address + len(data)
        return modules
