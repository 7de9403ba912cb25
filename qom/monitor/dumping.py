"""The guest's memory and its processors' registers as a file: a dump, its course, and the ELF core.

The core has a note NT_PRSTATUS for every processor (layout: Linux' `struct elf_prstatus` of x86-64, which gdb and crash read,
whatever mode the processor is in), all RAM in order of physical addresses, and segments PT_LOAD over it: one for every
stretch, or, with paging, one for every stretch that the page tables of some processor map, at its linear address.  The format
kdump-zlib is in qom/monitor/kdump.py.  Not modelled: kdump-lzo, kdump-snappy, win-dmp, QEMU's own note with system
registers, the guest's vmcoreinfo.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal, TypedDict

from qom.monitor.paging import mappings
from qom.vm.runstate import RunState

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

__all__ = ["FORMATS", "Dump", "DumpFormat", "DumpState", "guest_ram", "notes", "write_all"]

AT_ONCE: Final = 4 << 20  # bytes copied before others get their turn

DumpFormat = Literal["elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"]
FORMATS: Final[tuple[DumpFormat, ...]] = ("elf", "kdump-zlib")
"""Those that are modelled."""

Piece = tuple[int, memoryview]
"""A stretch of RAM: its physical address, and what is in it."""


class DumpState(TypedDict):
    """How far the last dump has come, in bytes of guest memory."""

    status: Literal["none", "active", "completed", "failed"]
    completed: int
    total: int


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of it.  Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def guest_ram(vm: VirtualMachine, begin: int = 0, end: int = 1 << 64) -> Iterator[Piece]:
    """The RAM of a machine between two physical addresses, ascending."""
    for flat in vm.machine.system_bus.memory_space.flat_view:
        block = flat.region.ram_block
        if block is None or flat.readonly:
            continue
        low, high = max(begin, flat.start), min(end, flat.start + flat.size)
        if low < high:
            offset = flat.offset + low - flat.start
            yield low, block.view[offset : offset + high - low]


class Dump:
    """One dump, on the way or done; `step` writes some of it.  The machine stands still from its beginning to its end.

    Args:
        vm: the machine; its lock is held in every call.
        fd: where it goes; closed at the end.
        format: one of `FORMATS`.
        pieces: what is dumped.
        paging: at linear addresses.
    """

    def __init__(
        self, vm: VirtualMachine, fd: int, format: DumpFormat, pieces: list[Piece], *, paging: bool = False
    ) -> None:
        self.vm, self.fd, self.pieces, self.paging = vm, fd, pieces, paging
        self.status: Literal["none", "active", "completed", "failed"] = "active"
        self.error = ""
        self.total = sum(len(view) for _, view in self.pieces)
        self.completed = 0
        self.was_running = vm.run_state is RunState.RUNNING
        if self.was_running:
            vm.stop()
        self._steps = self._core() if format == "elf" else self._kdump()

    def state(self) -> DumpState:
        """What query-dump shows."""
        return {"status": self.status, "completed": self.completed, "total": self.total}

    def step(self) -> bool:
        """Write some more; False when that was the last of it."""
        try:
            next(self._steps)
        except StopIteration:
            self._done("completed")
            return False
        except OSError as error:
            self.error = error.strerror or str(error)
            self._done("failed")
            return False
        return True

    def _done(self, status: Literal["completed", "failed"]) -> None:
        self.status = status
        with contextlib.suppress(OSError):
            os.close(self.fd)
        self.pieces.clear()
        if self.was_running and self.vm.run_state is RunState.PAUSED:
            self.vm.cont()

    def _core(self) -> Iterator[None]:
        loads = _linear(self.vm, self.pieces) if self.paging else [(at, at, len(view)) for at, view in self.pieces]
        write_all(self.fd, _headers(notes(self.vm), self.pieces, loads))
        yield
        for _, view in self.pieces:
            for at in range(0, len(view), AT_ONCE):
                part = view[at : at + AT_ONCE]
                write_all(self.fd, part)
                self.completed += len(part)
                yield

    def _kdump(self) -> Iterator[None]:
        from qom.monitor.kdump import written

        for done in written(self.fd, notes(self.vm), len(self.vm.cpus), self.pieces):
            self.completed += done
            yield


def _linear(vm: VirtualMachine, pieces: list[Piece]) -> list[tuple[int, int, int]]:
    """Linear address, physical address and size of every stretch of the pieces that some processor's page tables map.

    Without a processor that translates, the two addresses are the same.
    """
    memory = vm.machine.system_bus.memory_space
    found: set[tuple[int, int, int]] = set()
    translates = False
    for cpu in vm.cpus:
        linear = physical = size = 0
        for page in mappings(memory, cpu.registers.read()):
            translates = True
            if page.linear == linear + size and page.physical == physical + size:
                size += page.size
                continue
            found.add((linear, physical, size))
            linear, physical, size = page.linear, page.physical, page.size
        found.add((linear, physical, size))
    if not translates:
        return [(at, at, len(view)) for at, view in pieces]
    out = []
    for linear, physical, size in found:
        for at, view in pieces:
            low, high = max(physical, at), min(physical + size, at + len(view))
            if low < high:
                out.append((linear + low - physical, low, high - low))
    return sorted(out, key=lambda load: (load[1], load[0]))


_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_NHDR = struct.Struct("<III8s")
PT_LOAD, PT_NOTE, NT_PRSTATUS, ET_CORE, EM_X86_64, PN_XNUM = 1, 4, 1, 4, 62, 0xFFFF
_PR_REGS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "", "rip",
    "cs", "rflags", "rsp", "ss", "fs.base", "gs.base", "ds", "es", "fs", "gs",
)  # fmt: skip


def _headers(described: bytes, pieces: list[Piece], loads: list[tuple[int, int, int]]) -> bytes:
    """All that comes before the memory.  More segments than the header can count are counted in a section's."""
    count = 1 + len(loads)
    many = count >= PN_XNUM
    sections = _SHDR.size if many else 0
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    out = bytearray(
        _EHDR.pack(
            ident, ET_CORE, EM_X86_64, 1, 0, _EHDR.size + sections, _EHDR.size if many else 0, 0, _EHDR.size,
            _PHDR.size, PN_XNUM if many else count, sections, 1 if many else 0, 0,
        )
    )  # fmt: skip
    if many:
        out += _SHDR.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0)
    offset = len(out) + _PHDR.size * count
    out += _PHDR.pack(PT_NOTE, 0, offset, 0, 0, len(described), len(described), 0)
    offset += len(described)
    places: list[tuple[int, int, int]] = []  # physical address, size, offset in the file
    for at, view in pieces:
        places.append((at, len(view), offset))
        offset += len(view)
    for linear, physical, size in loads:
        place = next(off + physical - at for at, length, off in places if at <= physical < at + length)
        out += _PHDR.pack(PT_LOAD, 0, place, linear, physical, size, size, 0)
    return bytes(out) + described


def notes(vm: VirtualMachine) -> bytes:
    """A note with the registers of every processor."""
    return b"".join(_prstatus(index + 1, cpu.registers.read()) for index, cpu in enumerate(vm.cpus))


def _prstatus(pid: int, registers: dict[str, int]) -> bytes:
    regs = struct.pack("<27Q", *(registers[name] & (1 << 64) - 1 if name else 0 for name in _PR_REGS))
    desc = bytes(32) + struct.pack("<I", pid).ljust(80, b"\0") + regs + bytes(8)
    return _NHDR.pack(5, len(desc), NT_PRSTATUS, b"CORE") + desc
