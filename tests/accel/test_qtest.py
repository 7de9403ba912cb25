"""A whole PC under the accelerator qtest: the test is the processor, and time stands still until it is stepped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qom import QomError, SteppedClock, VirtualMachine, default_registry
from qom.cli.options import CommandLine
from qom.vm.runstate import RunState

SECOND = 1_000_000_000
PIT_HZ = 1_193_182
NO_DEVICE = 0xFFFFFFFF
SECTORS = 2048


class Pc:
    """A running PC driven from outside."""

    def __init__(self, *words: str) -> None:
        line = CommandLine().parse(["-M", "pc", "-accel", "qtest", "-nodefaults", "-m", "16", *words])
        self.vm = VirtualMachine(line.builder.finish(), default_registry()).build()
        self.io = self.vm.machine.system_bus.io_space
        assert isinstance(self.vm.clock, SteppedClock)
        self.clock = self.vm.clock

    def inb(self, port: int) -> int:
        with self.vm.lock:
            return self.io.read(port, 1)

    def outb(self, port: int, *values: int) -> None:
        with self.vm.lock:
            for value in values:
                self.io.write(port, value, 1)

    def step(self, ns: int) -> int:
        with self.vm.lock:
            return self.clock.step(ns)

    def config(self, slot: int, function: int, offset: int) -> int:
        with self.vm.lock:
            self.io.write(0xCF8, 0x8000_0000 | slot << 11 | function << 8 | offset, 4)
            return self.io.read(0xCFC, 4)

    def requests(self) -> int:
        """The interrupt request register of the first PIC."""
        self.outb(0x20, 0x0A)
        return self.inb(0x20)

    def cmos(self, index: int) -> int:
        self.outb(0x70, index)
        return self.inb(0x71)


@pytest.fixture
def pc() -> Iterator[Pc]:
    machine = Pc()
    with machine.vm:
        machine.vm.start_loop()
        machine.vm.cont()
        yield machine


def start_pit(pc: Pc, count: int) -> None:
    """The PICs initialised, all lines masked; PIT counter 0 as a rate generator."""
    pc.outb(0x20, 0x11)
    pc.outb(0x21, 0x08, 0x04, 0x01, 0xFF)
    pc.outb(0x43, 0x34)
    pc.outb(0x40, count & 0xFF, count >> 8)


def test_time_moves_only_when_it_is_stepped(pc: Pc) -> None:
    assert pc.vm.run_state is RunState.RUNNING
    assert pc.clock.now() == 0
    pc.step(5)
    pc.vm.stop()
    pc.vm.cont()
    assert pc.clock.now() == 5


def test_no_guest_code_runs(pc: Pc) -> None:
    cpu = pc.vm.cpus[0]
    assert cpu.thread is not None and cpu.thread.is_alive()
    assert not cpu.stopped
    before = cpu.run_on(cpu.vcpu.registers)
    pc.step(SECOND)
    assert cpu.run_on(cpu.vcpu.registers) == before
    assert (before["cs"], before["cs.base"], before["rip"]) == (0xF000, 0xFFFF0000, 0xFFF0)
    assert cpu.vcpu.instruction_count() == 0
    assert pc.vm.machine.accel.exit_counts() == {"0": {"user": {}, "inner": {}}}  # type: ignore[union-attr]


def test_a_tick_of_the_pit_raises_the_line_of_the_pic(pc: Pc) -> None:
    start_pit(pc, 1193)
    assert pc.requests() == 0x00
    period = 1193 * SECOND // PIT_HZ
    pc.step(period - 2000)
    assert pc.requests() == 0x00
    pc.step(4000)
    assert pc.requests() == 0x01


def test_an_interrupt_stays_requested_because_nobody_takes_it(pc: Pc) -> None:
    start_pit(pc, 1193)
    pc.outb(0x21, 0xFE)
    pic = pc.vm.root.resolve("/machine/pic")
    assert not pic.has_interrupt()
    pc.step(2 * SECOND // 1000)
    assert pic.has_interrupt()
    with pc.vm.lock:
        assert pic.get_interrupt() == 0x08
    assert pc.vm.cpus[0].run_on(lambda: pc.vm.cpus[0].vcpu.registers()["rip"]) == 0xFFF0


def test_the_rtc_counts_the_seconds_that_are_stepped() -> None:
    machine = Pc("-M", "pc,rtc-base=2024-02-29T23:59:57")
    with machine.vm:
        machine.vm.cont()
        assert [machine.cmos(n) for n in (0x32, 9, 8, 7, 4, 2, 0)] == [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x57]
        machine.step(3 * SECOND)
        assert [machine.cmos(n) for n in (0x32, 9, 8, 7, 4, 2, 0)] == [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00]


def test_ide_identifies_itself_by_its_ports(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(SECTORS * 512))
    machine = Pc("-drive", f"file={disk},format=raw,if=ide,snapshot=on")
    with machine.vm as vm:
        vm.cont()
        machine.outb(0x1F6, 0xA0)
        machine.outb(0x1F7, 0xEC)
        assert machine.inb(0x1F7) & 0x89 == 0x08  # DRQ, neither BSY nor ERR
        with vm.lock:
            words = [machine.io.read(0x1F0, 2) for _ in range(256)]
        assert words[60] | words[61] << 16 == SECTORS
        model = b"".join(word.to_bytes(2, "big") for word in words[27:47]).decode()
        assert model.strip() == "QOM HARDDISK"
        assert machine.inb(0x1F7) & 0x88 == 0


def test_pci_functions_are_found_through_the_configuration_ports(pc: Pc) -> None:
    found = {
        (slot, function): pc.config(slot, function, 0)
        for slot in range(32)
        for function in range(8)
        if pc.config(slot, function, 0) != NO_DEVICE
    }
    assert found == {(0, 0): 0x12378086, (1, 0): 0x70008086, (1, 1): 0x70108086, (1, 3): 0x71138086}


def test_reset_stop_and_requests_work_on_standing_processors() -> None:
    machine = Pc("-smp", "2")
    with machine.vm as vm:
        vm.start_loop()
        vm.cont()
        cpu = vm.cpus[1]

        def move() -> None:
            regs = cpu.vcpu.get_regs()
            regs.rip = 0x1234
            cpu.vcpu.set_regs(regs)

        cpu.run_on(move)
        assert cpu.run_on(cpu.vcpu.registers)["rip"] == 0x1234
        vm.reset()
        assert vm.run_state is RunState.RUNNING
        assert cpu.run_on(cpu.vcpu.registers)["rip"] == 0xFFF0
        with vm.lock:
            cpu.request_nmi()
        vm.stop()
        assert cpu.stands_still and cpu.nmi_request
        vm.cont()
        vm.request_shutdown("test", 7)
        assert vm.wait(20)
        assert (vm.shutdown_reason, vm.exit_status) == ("test", 7)


def test_nothing_is_left() -> None:
    before = set(threading.enumerate())
    with Pc("-smp", "4").vm as vm:
        vm.start_loop()
        vm.cont()
        assert len(set(threading.enumerate()) - before) == 5
    assert set(threading.enumerate()) == before


def test_it_has_no_options() -> None:
    line = CommandLine().parse(["-accel", "qtest,speed=2", "-nodefaults"])
    with pytest.raises(QomError) as caught:
        VirtualMachine(line.builder.finish(), default_registry()).build()
    assert str(caught.value) == (
        "-accel qtest,speed=2: accelerator 'qtest': <qtest-accel not in a tree>: 'qtest-accel' has no property 'speed'"
    )
