"""What a program sees of a guest from outside: its memory, its ports, the registers of its processors.

Everything here takes the machine lock itself, so it may be used from any thread while the guest runs.  What is read is
what a processor would read: a device's registers answer, with all that reading them does.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from qom.errors import LifecycleError, QomError, did_you_mean

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace
    from qom.vm.cpu import Cpu

__all__ = ["GuestMemory", "GuestPorts", "Registers"]

SIZES = (1, 2, 4, 8)
PORT_SIZES = (1, 2, 4)
LOW_HALVES = {f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "sp", "bp", "ip", "flags")}


class GuestPorts:
    """The I/O ports of a machine.

    Args:
        space: its address space of ports.
        lock: the machine lock.
    """

    _what = "port"
    _sizes: tuple[int, ...] = PORT_SIZES

    def __init__(self, space: AddressSpace, lock: AbstractContextManager[object]) -> None:
        self._space = space
        self._lock = lock

    def read(self, address: int, size: int = 1) -> int:
        """Read `size` bytes (ports: 1, 2 or 4; memory: also 8), the lowest first."""
        self._check(address, size)
        with self._lock:
            return self._space.read(address, size)

    def write(self, address: int, value: int, size: int = 1) -> None:
        """Write `size` bytes, the lowest first."""
        self._check(address, size)
        if not 0 <= value < 1 << 8 * size:
            raise QomError(f"{self._what} {address:#x}: {value:#x} does not fit into {size} bytes")
        with self._lock:
            self._space.write(address, value, size)

    def _check(self, address: int, size: int) -> None:
        if size not in self._sizes:
            sizes = ", ".join(str(n) for n in self._sizes)
            raise QomError(f"{self._what} {address:#x}: size cannot be {size}: expected one of {sizes} bytes")
        self._check_range(address, size)

    def _check_range(self, address: int, length: int) -> None:
        size = self._space.root.size
        if address < 0 or length < 0 or address + length > size:
            text = f"{self._what} {address:#x}, {length} bytes: expected addresses from 0 to {size - 1:#x}"
            raise QomError(text)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._space.root.size:#x} bytes>"


class GuestMemory(GuestPorts):
    """The physical memory of a machine; `memory[0x7C00:0x7E00]` gives bytes, `memory[0x7C00]` one of them."""

    _what = "address"
    _sizes = SIZES

    def read_bytes(self, address: int, length: int) -> bytes:
        """`length` bytes from `address` on."""
        self._check_range(address, length)
        with self._lock:
            return bytes(self._space.read_bytes(address, length))

    def write_bytes(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` to `address` and what follows."""
        self._check_range(address, len(data))
        with self._lock:
            self._space.write_bytes(address, data)

    def __getitem__(self, where: int | slice) -> int | bytes:
        if isinstance(where, slice):
            start, length = _bounds(where)
            return self.read_bytes(start, length)
        return self.read(where)

    def __setitem__(self, where: int | slice, value: int | bytes) -> None:
        if not isinstance(where, slice):
            if not isinstance(value, int):
                raise QomError(f"address {where:#x}: cannot be {value!r}: expected a number from 0 to 255")
            self.write(where, value)
            return
        if isinstance(value, int):
            raise QomError(f"a range of memory cannot be {value!r}: expected bytes")
        start, length = _bounds(where)
        if len(value) != length:
            raise QomError(f"address {start:#x}: {len(value)} bytes do not fit a range of {length}")
        self.write_bytes(start, value)


def _bounds(where: slice) -> tuple[int, int]:
    if where.start is None or where.stop is None or where.step is not None:
        raise QomError("a range of memory needs both its ends and no step: expected memory[first:end]")
    return where.start, where.stop - where.start


class Registers(MutableMapping[str, int]):
    """The registers of a processor by name: "rax" ... "r15", "rip", "rflags"; "eax" ... for the low halves of them.

    Segments are "cs" (the selector), "cs.base" and "cs.limit"; a new selector alone changes neither of the others.
    "gdt.base", "idt.limit" ... are the tables, "cr0" to "cr8", "efer" and "apic_base" the control registers.

    A running processor is taken out of the guest for every reading and writing; `read` gives all of one moment.
    """

    def __init__(self, cpu: Cpu) -> None:
        self._cpu = cpu

    def read(self) -> dict[str, int]:
        """All of them at one moment."""
        return self._cpu.run_on(lambda: self._vcpu().registers())

    def __getitem__(self, name: str) -> int:
        values = self.read()
        if name in LOW_HALVES:
            return values[LOW_HALVES[name]] & 0xFFFFFFFF
        self._check(name, values)
        return values[name]

    def __setitem__(self, name: str, value: int) -> None:
        self.set(**{name: value})

    def set(self, values: dict[str, int] | None = None, /, **named: int) -> None:
        """Set several at one moment; a low half sets the whole register, its upper half to zero."""
        wanted = {LOW_HALVES.get(name, name): (name, value) for name, value in {**(values or {}), **named}.items()}

        def load() -> None:
            vcpu = self._vcpu()
            there = vcpu.registers()
            for full, (name, value) in wanted.items():
                self._check(full, there, name)
                bits = 32 if name in LOW_HALVES else vcpu.register_bits(full)
                if not 0 <= value < 1 << bits:
                    text = f"{self._cpu.path}: register {name!r} cannot be {value:#x}: expected {bits} bits"
                    raise QomError(text)
            vcpu.set_registers({full: value for full, (_, value) in wanted.items()})

        self._cpu.run_on(load)

    def __delitem__(self, name: str) -> None:
        raise QomError(f"{self._cpu.path}: register {name!r} cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())

    def __len__(self) -> int:
        return len(self.read())

    def _vcpu(self) -> Any:
        if self._cpu.vcpu is None:
            raise LifecycleError(f"{self._cpu.path}: has no registers: its vCPU has ended")
        return self._cpu.vcpu

    def _check(self, name: str, values: dict[str, int], said: str = "") -> None:
        if name not in values:
            hint = did_you_mean(said or name, [*values, *LOW_HALVES])
            raise QomError(f"{self._cpu.path}: no register {said or name!r}{hint}")

    def __repr__(self) -> str:
        values = self.read()
        rows = [list(values)[n : n + 4] for n in range(0, 16, 4)] + [["rip", "rflags", "cr0", "cr3"]]
        lines = ["  ".join(f"{name:>6}={values[name]:016x}" for name in row) for row in rows]
        segments = ("cs", "ss", "ds", "es", "fs", "gs")
        lines.append("  ".join(f"{name:>4}={values[name]:04x}" for name in segments))
        return "\n".join(lines)
