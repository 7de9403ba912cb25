"""Commands that write guest memory to files: memsave, pmemsave, dump-guest-memory (qom/monitor/dumping.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from qom.monitor import CommandError, command
from qom.monitor.dumping import FORMATS, Dump, DumpFormat, DumpState, guest_ram
from qom.monitor.paging import translate

if TYPE_CHECKING:
    from qom.vm import Cpu, VirtualMachine

PAGE = 4096
AT_ONCE = 4 << 20  # bytes copied before others get their turn


class DumpCapability(TypedDict):
    """The formats there are."""

    formats: list[DumpFormat]


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
    """Write the guest's memory and its processors' registers; the machine stands still meanwhile, DUMP_COMPLETED ends it.

    paging: segments are at the addresses that the processors' page tables give them, else at physical ones.  protocol:
    "file:PATH" or "fd:NAME" (a descriptor that was passed by getfd).  begin, length: only that part of physical memory.
    format: an ELF core, or what crash reads.  detach: answer at once.
    """
    before = vm.monitor_state.get("dump")
    if isinstance(before, Dump) and before.status == "active":
        raise CommandError("There is a dump in process, please wait.")
    if format not in FORMATS:
        raise CommandError(f"format '{format}' is not modelled: expected {' or '.join(FORMATS)}")
    if format != "elf" and (paging or begin is not None or length is not None):
        raise CommandError(
            f"format {format} has all memory at physical addresses: expected no 'paging', 'begin', 'length'"
        )
    if (begin is None) != (length is None):
        missing = "length" if length is None else "begin"
        raise CommandError(f"Parameter '{missing}' is missing: begin and length go together")
    if begin is not None and (begin < 0 or length is None or length <= 0):
        raise CommandError(f"begin={begin}, length={length}: expected a begin from 0 on and a length from 1 on")
    low, high = (0, 1 << 64) if begin is None else (begin, begin + (length or 0))
    kind, colon, name = protocol.partition(":")
    if not colon or kind not in ("file", "fd") or not name:
        raise CommandError(f"Parameter 'protocol' cannot be {protocol!r}: expected file:PATH or fd:NAME")
    if not any(True for _ in guest_ram(vm, low, high)):
        raise CommandError(f"there is no guest RAM at begin={low:#x}, length={high - low:#x}")
    fd = vm.take_fd(name) if kind == "fd" else _create(vm, name)
    dump = vm.monitor_state["dump"] = Dump(vm, fd, format, list(guest_ram(vm, low, high)), paging=paging)
    if detach:
        vm.main_loop.call_soon_threadsafe(lambda: _go_on(dump))
        return
    while dump.step():
        pass
    _tell(dump)
    if dump.error:
        raise CommandError(f"dump: {name}: {dump.error}")


def _go_on(dump: Dump) -> None:
    if dump.step():
        dump.vm.main_loop.call_soon_threadsafe(lambda: _go_on(dump))
        return
    _tell(dump)


def _tell(dump: Dump) -> None:
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
    return {"formats": list(FORMATS)}
