"""The smallest machine a vCPU loop needs: a system bus, RAM, processors, and somebody who hears what happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from accel.accel import Accel, configure_accelerator
from accel.kvm.irqchip import KvmApic, KvmIoapic, KvmPic
from accel.kvm.kvm_accel import KvmAccel
from accel.simulated.simulated_accel import SimulatedAccel
from qom.errors import AccelError
from qom.hw.bus import SystemBus
from qom.hw.clock import SteppedClock
from qom.hw.memory import Region
from qom.hw.reset import Reset
from qom.object import Container, Root
from qom.registry import TypeRegistry, type_init
from qom.vm.cpu import Cpu
from qom.vm.lock import MachineLock
from qom.vm.vcpu import init_vcpu, pause_all_vcpus, resume_all_vcpus, stop_all_vcpus_soon

TIMEOUT = 20.0  # seconds; only ever waited for when something is broken


@type_init("test-cpu")
class TestCpu(Cpu):
    """A processor of no particular model."""

    __test__ = False  # not for pytest

    def realize(self) -> None:
        super().realize()
        init_vcpu(self)


@type_init("test-board")
class TestBoard(Container):
    """A stand-in for a machine."""

    __test__ = False
    system_bus: SystemBus

    def instance_init(self) -> None:
        self.system_bus = self.registry.new("system-bus")
        self.add_child("system-bus", self.system_bus)


class Recorder:
    """SystemControl that remembers."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.happened = threading.Event()
        self.events: list[tuple[str, str]] = []
        self.logged: list[tuple[str, str]] = []

    def _note(self, what: str, text: str) -> None:
        self.events.append((what, text))
        stop_all_vcpus_soon(self.board.cpus)
        self.happened.set()

    def request_reset(self, reason: str) -> None:
        self._note("reset", reason)

    def request_shutdown(self, reason: str, code: int = 0) -> None:
        self._note("shutdown", f"{reason} {code}")

    def vcpu_failed(self, cpu: object, report: str) -> None:
        self._note("failed", report)

    def device_failed(self, error: BaseException) -> None:
        self._note("failed", str(error))

    def log(self, category: str, text: str) -> None:
        self.logged.append((category, text))

    def wait(self) -> tuple[str, str]:
        """The first event."""
        assert self.happened.wait(TIMEOUT), f"nothing happened: {self.board.accel.exit_counts()}"
        return self.events[0]


class Board:
    """A machine with `ram` bytes from 0, guest code at 7C00h in real mode, ports that record."""

    def __init__(self, accel: str, code: bytes = b"", *, cpus: int = 1, ram: int = 0x100000, **options: Any) -> None:
        registry = TypeRegistry()
        for cls in (Accel, KvmAccel, KvmPic, KvmIoapic, KvmApic, SimulatedAccel, SystemBus, TestBoard, TestCpu):
            registry.register(cls, origin="test")
        self.root = Root(registry)
        self.machine: TestBoard = registry.new("test-board")
        self.root.add_child("machine", self.machine)
        self.lock = MachineLock()
        self.cond = threading.Condition(self.lock)  # type: ignore[arg-type]
        self.system = Recorder(self)
        self.bus = self.machine.system_bus
        self.ram = Region.ram("ram", ram)
        self.bus.memory.add(0, self.ram)
        assert self.ram.ram_block is not None
        self.memory = self.ram.ram_block.view
        # the reset vector: a page below 4G with a far jump to 0000:7C00
        vector = b"\xea\x00\x7c\x00\x00".rjust(0x1000 - 16 + 5, b"\x90")
        self.bus.memory.add(0xFFFFF000, Region.rom("reset-vector", vector, 0x1000))
        self.load(0x7C00, code)
        self.written: list[tuple[int, int]] = []
        self.bus.io.add(0xE0, Region("record", 8, lambda at, size: 0x40 + at, self._record))
        self.watch: dict[int, Callable[[int], None]] = {}
        self.cpus: list[Cpu] = []
        with self.lock:
            choice = SimpleNamespace(name=accel, options=options, origin="")
            try:
                self.accel = configure_accelerator(self.machine, [choice])
            except AccelError as error:
                pytest.skip(str(error))
            for index in range(cpus):
                self.add_cpu(index)

    def add_cpu(self, index: int) -> Cpu:
        cpu: Cpu = self.machine.registry.new("test-cpu", index=index, apic_id=index)
        cpu.accel, cpu.lock, cpu.cond = self.accel, self.lock, self.cond
        cpu.system, cpu.clock = self.system, SteppedClock()  # type: ignore[assignment]
        cpu.memory, cpu.io = self.bus.memory_space, self.bus.io_space
        self.machine.add_child(f"cpu[{index}]", cpu)
        cpu.set("realized", True)
        self.cpus.append(cpu)
        cpu.reset_hold(Reset.COLD)
        return cpu

    def add_chip(self, type_name: str, **props: Any) -> Any:
        """A part of the board, on the system bus."""
        with self.lock:
            chip = self.machine.registry.new(type_name, **props)
            self.machine.add_child(type_name, chip)
            chip.plug(self.bus)
            chip.set("realized", True)
            chip.reset_hold(Reset.COLD)
        return chip

    def _record(self, offset: int, value: int, size: int) -> None:
        self.written.append((0xE0 + offset, value))
        if offset in self.watch:
            self.watch[offset](value)

    def load(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data
        self.ram.ram_block.written(address, len(data))

    def cont(self) -> None:
        with self.lock:
            resume_all_vcpus(self.cpus)

    def stop(self) -> None:
        with self.lock:
            pause_all_vcpus(self.cpus, self.cond)

    def until(self, offset: int) -> threading.Event:
        """An event that is set when port E0h + `offset` is written."""
        event = threading.Event()
        self.watch[offset] = lambda value: event.set()
        return event

    def close(self) -> None:
        with self.lock:
            pause_all_vcpus(self.cpus, self.cond)
            for cpu in reversed(self.cpus):
                if cpu.realized:
                    cpu.set("realized", False)
            self.machine.unparent()
        self.cpus.clear()
