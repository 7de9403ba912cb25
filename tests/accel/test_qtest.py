"""A whole PC under the accelerator qtest: the test is the processor, and time stands still until it is stepped."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from qom import QomError, RunState, SteppedClock, open_machine
from qom.testing import MachineFactory, TestMachine

SECOND = 1_000_000_000
PIT_HZ = 1_193_182
NO_DEVICE = 0xFFFFFFFF
SECTORS = 2048

pytestmark = pytest.mark.qom_accel("qtest")


@pytest.fixture
def pc(qom_machine: MachineFactory) -> TestMachine:
    return qom_machine(memory="16M").start()


def start_pit(pc: TestMachine, count: int) -> None:
    """The PICs initialised, all lines masked; PIT counter 0 as a rate generator."""
    pc.outb(0x20, 0x11)
    for word in (0x08, 0x04, 0x01, 0xFF):
        pc.outb(0x21, word)
    pc.outb(0x43, 0x34)
    pc.outb(0x40, count & 0xFF)
    pc.outb(0x40, count >> 8)


def cmos(pc: TestMachine, *indices: int) -> list[int]:
    values = []
    for index in indices:
        pc.outb(0x70, index)
        values.append(pc.inb(0x71))
    return values


def test_time_moves_only_when_it_is_stepped(pc: TestMachine) -> None:
    assert pc.vm.run_state is RunState.RUNNING
    assert isinstance(pc.vm.clock, SteppedClock)
    assert pc.vm.clock.now() == 0
    pc.clock_step(5)
    pc.stop()
    pc.start()
    assert pc.vm.clock.now() == 5


def test_no_guest_code_runs(pc: TestMachine) -> None:
    cpu = pc.vm.cpus[0]
    assert cpu.thread is not None and cpu.thread.is_alive()
    assert not cpu.stopped
    before = pc.registers.read()
    pc.clock_step(SECOND)
    assert pc.registers.read() == before
    assert (before["cs"], before["cs.base"], before["rip"]) == (0xF000, 0xFFFF0000, 0xFFF0)
    assert cpu.vcpu.instruction_count() == 0
    assert pc.vm.machine.accel.exit_counts() == {"0": {"user": {}, "inner": {}}}  # type: ignore[union-attr]


def test_a_tick_of_the_pit_raises_the_line_of_the_pic(pc: TestMachine) -> None:
    start_pit(pc, 1193)
    irq = pc.irq("pic", 0)
    before = irq.level
    assert pc.step_until(irq) == pytest.approx(1193 * SECOND / PIT_HZ, abs=1000) or before
    irq.clear()
    assert pc.step_until(irq) == pytest.approx(1193 * SECOND / PIT_HZ, abs=1000)
    pc.outb(0x20, 0x0A)
    assert pc.inb(0x20) == 0x01  # the PIC's interrupt request register


def test_an_interrupt_stays_requested_because_nobody_takes_it(pc: TestMachine) -> None:
    start_pit(pc, 1193)
    pc.outb(0x21, 0xFE)
    pic = pc.part("pic")
    assert not pic.has_interrupt()
    pc.clock_step(2 * SECOND // 1000)
    assert pic.has_interrupt()
    with pc.vm.lock:
        assert pic.get_interrupt() == 0x08
    assert pc.registers["rip"] == 0xFFF0


def test_the_rtc_counts_the_seconds_that_are_stepped(qom_machine: MachineFactory) -> None:
    pc = qom_machine(machine="pc,rtc-base=2024-02-29T23:59:57")
    assert cmos(pc, 0x32, 9, 8, 7, 4, 2, 0) == [0x20, 0x24, 0x02, 0x29, 0x23, 0x59, 0x57]
    pc.clock_step(3 * SECOND)
    assert cmos(pc, 0x32, 9, 8, 7, 4, 2, 0) == [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00]


def test_the_alarm_of_the_rtc_interrupts_at_its_second(qom_machine: MachineFactory) -> None:
    pc = qom_machine(machine="pc,rtc-base=2024-02-29T23:59:57")
    irq = pc.irq("pic2", 0)  # IRQ 8
    for index, value in ((5, 0x00), (3, 0x00), (1, 0x01), (11, 0x22)):  # at 00:00:01; alarm interrupt, 24 hours
        pc.outb(0x70, index)
        pc.outb(0x71, value)
    assert pc.step_until(irq, 10 * SECOND) == 4 * SECOND
    assert cmos(pc, 12) == [0xF0]  # IRQF and AF; PF and UF came meanwhile; reading it lowers the line
    assert (irq.raised, irq.lowered, irq.level) == (1, 1, 0)


def test_ide_identifies_itself_by_its_ports(qom_machine: MachineFactory, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(SECTORS * 512))
    pc = qom_machine(drives=[{"file": str(disk), "snapshot": True}])
    irq = pc.irq("pic2", 6)  # IRQ 14
    pc.outb(0x1F6, 0xA0)
    pc.outb(0x1F7, 0xEC)
    assert irq.raised == 1
    assert pc.inb(0x1F7) & 0x89 == 0x08  # DRQ, neither BSY nor ERR
    words = [pc.inw(0x1F0) for _ in range(256)]
    assert words[60] | words[61] << 16 == SECTORS
    model = b"".join(word.to_bytes(2, "big") for word in words[27:47]).decode()
    assert model.strip() == "QOM HARDDISK"
    assert pc.inb(0x1F7) & 0x88 == 0
    assert irq.lowered == 1


def test_pci_functions_are_found_through_the_configuration_ports(pc: TestMachine) -> None:
    places = [f"{slot:02x}.{function}" for slot in range(32) for function in range(8)]
    found = {place: value for place in places if (value := pc.config_read(place, 0)) != NO_DEVICE}
    assert found == {"00.0": 0x12378086, "01.0": 0x70008086, "01.1": 0x70108086, "01.3": 0x71138086}


def test_other_machines_have_it_too(qom_machine: MachineFactory) -> None:
    empty = qom_machine(machine="none", name="empty").start()
    assert empty.vm.cpus == []
    assert empty.clock_step(7) == 7


def test_reset_stop_and_requests_work_on_standing_processors(qom_machine: MachineFactory) -> None:
    pc = qom_machine(smp=2).start()
    cpu = pc.vm.cpus[1]
    cpu.registers["rip"] = 0x1234
    assert pc.cpu(1)["rip"] == 0x1234
    pc.vm.reset()
    assert pc.vm.run_state is RunState.RUNNING
    assert pc.cpu(1)["rip"] == 0xFFF0
    with pc.vm.lock:
        cpu.request_nmi()
    pc.stop()
    assert cpu.stands_still and cpu.nmi_request
    pc.start()
    pc.vm.request_shutdown("test", 7)
    assert pc.expect_shutdown("test", status=7) == "test"


def test_nothing_is_left() -> None:
    before = set(threading.enumerate())
    with open_machine(accel="qtest", smp=4) as vm:
        vm.start()
        assert len(set(threading.enumerate()) - before) == 5
    assert set(threading.enumerate()) == before


def test_it_has_no_options() -> None:
    with pytest.raises(QomError) as caught:
        open_machine(accel="qtest,speed=2")
    assert str(caught.value) == ("accel=: accelerator 'qtest': /machine/accel: 'qtest-accel' has no property 'speed'")
