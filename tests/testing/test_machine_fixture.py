"""The fixture `qom_machine` in use: what a test can do with a machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qom import PathError, QomError, RealizeError
from qom.testing import ConsoleTimeout, InterruptTimeout, MachineFactory, TestMachine

MS = 1_000_000


def pit_at_1_khz(machine: TestMachine) -> None:
    machine.outb(0x43, 0x34)
    machine.outb(0x40, 1193 & 0xFF)
    machine.outb(0x40, 1193 >> 8)


def test_ports_memory_and_pci(qom_machine: MachineFactory) -> None:
    machine = qom_machine(accel="qtest", memory=16)
    machine.outb(0x70, 0x0D)
    assert machine.inb(0x71) == 0x80
    machine.write(0x1000, 0x11223344, 4)
    assert machine.read(0x1000, 2) == 0x3344
    assert machine.memory[0x1000:0x1004] == b"\x44\x33\x22\x11"
    assert machine.config_read("00.0", 0) == 0x12378086
    machine.config_write("00.0", 0x3C, 7, 1)
    assert machine.config_read("00.0", 0x3C, 1) == 7
    machine.outl(0xCF8, 0x80000000)
    assert (machine.inl(0xCFC), machine.inw(0xCFC)) == (0x12378086, 0x8086)
    assert list(machine.accesses)[:2] == ["out   0x70 size 1 value 0xd", "in    0x71 size 1 value 0x80"]


def test_interrupts_are_counted_while_time_is_stepped(qom_machine: MachineFactory) -> None:
    machine = qom_machine(accel="qtest")
    irq = machine.irq("pic", 0)
    pit_at_1_khz(machine)
    assert (irq.raised, irq.lowered) == (0, 0) or irq.level  # programming it may set its output
    irq.clear()
    assert machine.step_until(irq) <= 2 * MS
    assert irq.raised == 1
    machine.clock_step(10 * MS)
    assert irq.raised in (10, 11)
    assert irq.raised - irq.lowered in (-1, 0, 1)
    irq.close()
    before = irq.raised
    machine.clock_step(10 * MS)
    assert irq.raised == before


def test_an_intercepted_interrupt_does_not_arrive(qom_machine: MachineFactory) -> None:
    for intercept, arrived in ((False, 1), (True, 0)):
        machine = qom_machine(accel="qtest")
        irq = machine.irq("pic", 0, intercept=intercept)
        pit_at_1_khz(machine)
        machine.clock_step(2 * MS)
        assert irq.raised >= 1
        machine.outb(0x20, 0x0A)
        assert machine.inb(0x20) == arrived  # the PIC's interrupt request register


def test_time_is_stepped_to_the_next_deadline(qom_machine: MachineFactory) -> None:
    machine = qom_machine(accel="qtest")
    assert machine.clock_step(5) == 5
    pit_at_1_khz(machine)
    first = machine.clock_step()
    assert 5 < first < 2 * MS
    assert machine.step_until(lambda: machine.inb(0x40) or True) == 0
    with pytest.raises(AssertionError) as caught:
        machine.step_until(machine.irq("pic", 5), 3 * MS)
    assert str(caught.value) == "machine: /machine/pic input[5] was not raised within 3000000 ns"
    assert machine.clock_step(0) == first + 3 * MS


@pytest.mark.qom_accel("simulated", "kvm")
def test_waiting_for_an_interrupt_of_a_running_guest(qom_machine: MachineFactory) -> None:
    machine = qom_machine(firmware="qomfw.bin", name="pc1")
    ticks, keys = machine.irq("pic", 0), machine.irq("/machine/pic", 1)
    pit_at_1_khz(machine)
    machine.start()
    ticks.wait(5)
    assert ticks.raised >= 5
    with pytest.raises(InterruptTimeout) as caught:
        keys.wait(timeout=0.01)
    assert str(caught.value) == (
        "/machine/pic input[1]: not raised once within 0.01 s; it was raised 0 and lowered 0 times, its level is 0"
    )
    machine.vm.request_shutdown("enough")
    with pytest.raises(InterruptTimeout, match="not raised 3 times before the machine ended \\(enough\\)"):
        keys.wait(3)
    assert machine.expect_shutdown("enough") == "enough"


def test_nobody_waits_while_time_stands_still(qom_machine: MachineFactory) -> None:
    machine = qom_machine(accel="qtest")
    with pytest.raises(InterruptTimeout, match="and time stands still: step it"):
        machine.irq("pic").wait()


@pytest.mark.qom_accel("simulated", "kvm")
def test_a_guest_is_heard_and_its_end_awaited(qom_machine: MachineFactory) -> None:
    machine = qom_machine(firmware="qomfw.bin", memory="24M", name="pc1").start()
    assert machine.wait_line(r"memory: (\d+) MiB")[1] == "24"
    machine.wait_text(re.compile("No bootable"))
    assert machine.registers["cs"] == machine.cpu(0)["cs"]
    assert machine.exits and machine.exits[-1].cpu is machine.vm.cpus[0]
    with pytest.raises(ConsoleTimeout, match="no 'login:' within"):
        machine.wait_text("login:", timeout=0.01)
    with pytest.raises(AssertionError) as caught:
        machine.expect_shutdown(timeout=0.01)
    assert str(caught.value).splitlines()[:2] == [
        "pc1: still running after 0.01 s",
        "  console 'serial0' ends with:",
    ]
    machine.stop()
    assert repr(machine) == "<TestMachine 'pc1': pc-i440fx-0.1-machine, paused>"
    machine.start()
    machine.vm.request_shutdown("tired", 3)
    with pytest.raises(AssertionError, match="pc1: ended by 'tired': expected 'done'"):
        machine.expect_shutdown("done")
    with pytest.raises(AssertionError, match="pc1: ended with status 3: expected 0"):
        machine.expect_shutdown("tired", status=0)
    with pytest.raises(AssertionError, match="pc1: ended by 'tired': expected a failure"):
        machine.expect_failure()


def test_a_failure_may_be_expected(qom_machine: MachineFactory, capsys: pytest.CaptureFixture[str]) -> None:
    machine = qom_machine(accel="qtest", name="doomed").start()
    machine.vm.device_failed(ValueError("burnt"))
    assert machine.expect_failure("burnt") == "ValueError: burnt"
    with pytest.raises(AssertionError, match="doomed: failed otherwise than with 'flood': ValueError: burnt"):
        machine.expect_failure("flood")
    with pytest.raises(AssertionError, match="doomed: failed: ValueError: burnt"):
        machine.expect_shutdown()
    assert "doomed: ValueError: burnt" in capsys.readouterr().err


def test_typing_and_a_second_console(qom_machine: MachineFactory) -> None:
    machine = qom_machine(accel="qtest", serials=["null", "console"])
    machine.send("ok")
    assert machine.inb(0x2FD) & 1
    assert machine.inb(0x2F8) == ord("o")
    assert machine.console() is machine.console("serial1")
    with pytest.raises(PathError, match="no console 'serial0'; did you mean 'serial1'"):
        machine.console("serial0")


def test_files_are_found_beside_the_test(qom_machine: MachineFactory, tmp_path: Path) -> None:
    path = tmp_path / "vm.toml"
    path.write_text('memory = "${size}"\n[variables]\nsize = "8M"\n[machine]\naccel = "qtest"\n')
    one, two = qom_machine(path), qom_machine(path, variables={"size": "16M"})
    assert (one.vm.machine.ram_size, two.vm.machine.ram_size) == (8 << 20, 16 << 20)
    assert one.part("pic") is not two.part("pic")


def test_wrong_use_is_said(qom_machine: MachineFactory) -> None:
    machine = qom_machine(accel="simulated", name="pc1")
    for act, kind, text in (
        (lambda: machine.clock_step(1), QomError, "its time passes by itself under 'simulated-accel': expected"),
        (lambda: machine.step_until(lambda: True), QomError, "its time passes by itself"),
        (lambda: machine.cpu(1), QomError, "pc1: no processor 1: it has 1"),
        (lambda: machine.irq("pic", 8), RealizeError, "/machine/pic: no input unnamed[8]: it has unnamed[8]"),
        (lambda: machine.irq("pci", 0), PathError, "pci"),
        (lambda: machine.irq("/chardevs/serial0"), QomError, "/chardevs/serial0: is no device, so it has no"),
        (lambda: machine.part("/machine/pik"), PathError, "or 'pic'"),
    ):
        with pytest.raises(kind) as caught:
            act()  # type: ignore[no-untyped-call]
        assert text in str(caught.value)


@pytest.mark.qom_accel("qtest")
def test_the_marker_chooses_the_accelerator(qom_machine: MachineFactory) -> None:
    machine = qom_machine()
    assert machine.vm.machine.accel.type_name == "qtest-accel"  # type: ignore[union-attr]


@pytest.mark.qom_accel("qtest", "simulated")
def test_on_each(qom_machine: MachineFactory, qom_accel: str) -> None:
    machine = qom_machine()
    assert machine.vm.machine.accel.type_name == f"{qom_accel}-accel"  # type: ignore[union-attr]


def test_a_test_may_close_its_machine_itself(qom_machine: MachineFactory) -> None:
    with qom_machine(accel="qtest") as machine:
        machine.start()
    assert repr(machine.vm) == "<VirtualMachine 'machine': closed>"
