"""Commands that write guest memory to files: memsave, pmemsave, and the ELF core of dump-guest-memory.

The core is what QEMU writes for format=elf and paging=false: a note NT_PRSTATUS for every processor (layout: Linux'
`struct elf_prstatus` of x86-64, which gdb and crash read), and a segment PT_LOAD for every stretch of guest RAM, at its
physical address.  Not modelled: paging=true, the kdump formats, QEMU's own note with system registers.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from qom.monitor import CommandError, command
from qom.monitor.paging import translate
from qom.vm.runstate import RunState

if TYPE_CHECKING:
    from qom.vm import Cpu, VirtualMachine

PAGE = 4096
AT_ONCE = 4 << 20  # bytes copied before others get their turn

DumpFormat = Literal["elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"]


class DumpCapability(TypedDict):
    """The formats there are."""

    formats: list[DumpFormat]


class DumpState(TypedDict):
    """How far the last dump has come, in bytes of guest memory."""

    status: Literal["none", "active", "completed", "failed"]
    completed: int
    total: int


def _create(vm: VirtualMachine, filename: str) -> int:
    return vm.open_file(filename, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)


def _write(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def cpu_of(vm: VirtualMachine, index: int) -> Cpu:
    """The processor of that number."""
    if not 0 <= index < len(vm.cpus):
        raise CommandError(f"Parameter 'cpu-index' expects a CPU number: 0 to {len(vm.cpus) - 1}, got {index}")
    return vm.cpus[index]


def read_virtual(vm: VirtualMachine, cpu: Cpu, address: int, size: int) -> Iterator[bytes]:
    """Guest memory at a linear address, page by page as the processor's page tables map it.

    Raises:
        CommandError: a page is not mapped.
    """
    registers = cpu.registers.read()
    memory = vm.machine.system_bus.memory_space
    while size > 0:
        here = min(size, PAGE - address % PAGE)
        physical = translate(memory, registers, address)
        if physical is None or memory.lookup(physical) is None:
            what = "the page is not mapped" if physical is None else f"there is nothing at {physical:#x}"
            raise CommandError(f"Invalid addr 0x{address:016x}/size {size} specified: {what}")
        yield bytes(memory.read_bytes(physical, here))
        address, size = (address + here) & (1 << 64) - 1, size - here


@command("memsave")
def memsave(vm: VirtualMachine, val: int, size: int, filename: str, cpu_index: int | None = None) -> None:
    """Write `size` bytes of guest memory from the virtual address `val` on, as a processor sees them, to a file."""
    cpu = cpu_of(vm, cpu_index or 0)
    _in_range(val, size)
    fd = _create(vm, filename)
    try:
        for data in read_virtual(vm, cpu, val, size):
            _write(fd, data)
    finally:
        os.close(fd)


@command("pmemsave")
def pmemsave(vm: VirtualMachine, val: int, size: int, filename: str) -> None:
    """Write `size` bytes of guest memory from the physical address `val` on to a file; what is not there reads as ones."""
    _in_range(val, size)
    space = vm.machine.system_bus.memory_space
    last = max((flat.start + flat.size for flat in space.flat_view), default=0)
    if val + size > last:
        raise CommandError(
            f"there is nothing at {last:#x} and above: expected 'val' and 'size' to end there, got {val + size:#x}"
        )
    fd = _create(vm, filename)
    try:
        for at in range(val, val + size, AT_ONCE):
            _write(fd, bytes(space.read_bytes(at, min(AT_ONCE, val + size - at))))
    finally:
        os.close(fd)


def _in_range(val: int, size: int) -> None:
    if val < 0 or size < 0:
        name, value = ("val", val) if val < 0 else ("size", size)
        raise CommandError(f"Parameter '{name}' expects a number from 0 on, got {value}")


# -- dump-guest-memory


class Dump:
    """One dump, on the way or done; `step` copies some of it."""

    def __init__(self, vm: VirtualMachine, fd: int, begin: int, end: int) -> None:
        self.vm, self.fd = vm, fd
        self.status: Literal["none", "active", "completed", "failed"] = "active"
        self.error = ""
        self.pieces = list(_ram(vm, begin, end))
        self.total = sum(len(view) for _, view in self.pieces)
        self.completed = 0
        self.was_running = vm.run_state is RunState.RUNNING
        if self.was_running:
            vm.stop()
        self._steps = self._copy()

    def state(self) -> DumpState:
        """What query-dump shows."""
        return {"status": self.status, "completed": self.completed, "total": self.total}

    def step(self) -> bool:
        """Copy some more; False when that was the last of it."""
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

    def _copy(self) -> Iterator[None]:
        _write(self.fd, _headers(self.vm, self.pieces))
        yield
        for _, view in self.pieces:
            for at in range(0, len(view), AT_ONCE):
                part = view[at : at + AT_ONCE]
                _write(self.fd, part)
                self.completed += len(part)
                yield


def _ram(vm: VirtualMachine, begin: int, end: int) -> Iterator[tuple[int, memoryview]]:
    """Stretches of guest RAM in [begin, end): address and content."""
    for flat in vm.machine.system_bus.memory_space.flat_view:
        block = flat.region.ram_block
        if block is None or flat.readonly:
            continue
        low, high = max(begin, flat.start), min(end, flat.start + flat.size)
        if low < high:
            offset = flat.offset + low - flat.start
            yield low, block.view[offset : offset + high - low]


_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_NHDR = struct.Struct("<III8s")
PT_LOAD, PT_NOTE, NT_PRSTATUS, ET_CORE, EM_X86_64, PN_XNUM = 1, 4, 1, 4, 62, 0xFFFF
_PR_REGS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "", "rip",
    "cs", "rflags", "rsp", "ss", "fs.base", "gs.base", "ds", "es", "fs", "gs",
)  # fmt: skip


def _headers(vm: VirtualMachine, pieces: list[tuple[int, memoryview]]) -> bytes:
    notes = b"".join(_prstatus(index + 1, cpu.registers.read()) for index, cpu in enumerate(vm.cpus))
    offset = _EHDR.size + _PHDR.size * (1 + len(pieces))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    out = _EHDR.pack(
        ident, ET_CORE, EM_X86_64, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size, 1 + len(pieces), 0, 0, 0
    )
    out += _PHDR.pack(PT_NOTE, 0, offset, 0, 0, len(notes), len(notes), 0)
    offset += len(notes)
    for address, view in pieces:
        out += _PHDR.pack(PT_LOAD, 0, offset, 0, address, len(view), len(view), 0)
        offset += len(view)
    return out + notes


def _prstatus(pid: int, registers: dict[str, int]) -> bytes:
    regs = struct.pack("<27Q", *(registers[name] & (1 << 64) - 1 if name else 0 for name in _PR_REGS))
    desc = bytes(32) + struct.pack("<I", pid).ljust(80, b"\0") + regs + bytes(8)
    return _NHDR.pack(5, len(desc), NT_PRSTATUS, b"CORE") + desc


@command("dump-guest-memory")
def dump_guest_memory(
    vm: VirtualMachine,
    paging: bool,
    protocol: str,
    detach: bool = False,
    begin: int | None = None,
    length: int | None = None,
    format: DumpFormat = "elf",
) -> None:
    """Write the guest's memory and its processors' registers as an ELF core; the machine stands still meanwhile.

    protocol: "file:PATH" or "fd:NAME" (a descriptor that was passed by getfd).  begin, length: only that part of physical
    memory.  detach: answer at once; DUMP_COMPLETED says when it is done.
    """
    before = vm.monitor_state.get("dump")
    if isinstance(before, Dump) and before.status == "active":
        raise CommandError("There is a dump in process, please wait.")
    if paging:
        raise CommandError("paging=true is not modelled: expected false, which dumps physical memory")
    if format != "elf":
        raise CommandError(f"format '{format}' is not modelled: expected elf")
    if (begin is None) != (length is None):
        missing = "length" if length is None else "begin"
        raise CommandError(f"parameter '{missing}' is required: begin and length go together")
    if begin is not None and (begin < 0 or length is None or length <= 0):
        raise CommandError(f"begin={begin}, length={length}: expected a begin from 0 on and a length from 1 on")
    low, high = (0, 1 << 64) if begin is None else (begin, begin + (length or 0))
    kind, colon, name = protocol.partition(":")
    if not colon or kind not in ("file", "fd") or not name:
        raise CommandError(f"Parameter 'protocol' cannot be {protocol!r}: expected file:PATH or fd:NAME")
    if not any(True for _ in _ram(vm, low, high)):
        raise CommandError(f"there is no guest RAM at begin={low:#x}, length={high - low:#x}")
    fd = vm.take_fd(name) if kind == "fd" else _create(vm, name)
    dump = vm.monitor_state["dump"] = Dump(vm, fd, low, high)
    if detach:
        vm.main_loop.call_soon_threadsafe(lambda: _go_on(dump))
        return
    while dump.step():
        pass
    if dump.error:
        raise CommandError(f"dump: {name}: {dump.error}")


def _go_on(dump: Dump) -> None:
    if dump.step():
        dump.vm.main_loop.call_soon_threadsafe(lambda: _go_on(dump))
        return
    told: dict[str, Any] = {"result": dict(dump.state()), **({"error": dump.error} if dump.error else {})}
    dump.vm.emit("DUMP_COMPLETED", **told)


@command("query-dump")
def query_dump(vm: VirtualMachine) -> DumpState:
    """How far the last dump has come."""
    dump = vm.monitor_state.get("dump")
    return dump.state() if isinstance(dump, Dump) else {"status": "none", "completed": 0, "total": 0}


@command("query-dump-guest-memory-capability")
def query_dump_guest_memory_capability(vm: VirtualMachine) -> DumpCapability:
    """The formats that dump-guest-memory writes."""
    return {"formats": ["elf"]}
