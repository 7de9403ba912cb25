"""`qom.testing.QTest`: in this process, and with a program of ours or QEMU."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qom import IsaDevice, QomError, Region, prop, type_init
from qom.testing import QTest, QTestError, TestMachine

PROGRAMS = {"here": None, "ours": "qom-system-x86_64", "qemu": "qemu-system-x86_64"}


@pytest.fixture(scope="module", params=PROGRAMS)
def q(request: pytest.FixtureRequest) -> Iterator[QTest]:
    program = PROGRAMS[request.param]
    if program is not None and program.startswith("qemu") and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    with QTest("-M pc -m 16 -serial null", program=program) as found:
        yield found


def test_ports_and_memory_in_every_size(q: QTest) -> None:
    q.outb(0x70, 0x0F)
    q.outb(0x71, 0x5A)
    assert (q.inb(0x71), q.inw(0x70)) == (0x5A, 0x5AFF)
    q.outl(0xCF8, 0x80000000)
    assert (q.inl(0xCFC), q.inw(0xCFE), q.config_read("00.0", 2, 2)) == (0x12378086, 0x1237, 0x1237)
    q.outw(0x80, 0x1234)
    q.writeq(0x1000, 0x8877665544332211)
    assert (q.readb(0x1000), q.readw(0x1001), q.readl(0x1004), q.readq(0x1000)) == (
        0x11, 0x3322, 0x88776655, 0x8877665544332211,
    )  # fmt: skip
    q.writeb(0x1000, 0xAA)
    q.writew(0x1002, 0xCCBB)
    q.writel(0x1004, 0x12345678)
    assert q.read(0x1000, 8) == bytes.fromhex("aa22bbcc78563412")


def test_stretches_of_memory(q: QTest) -> None:
    data = bytes(range(256)) * 4096
    q.write(0x200000, data)
    assert q.read(0x200000, len(data)) == data
    q.memset(0x200000, 5, 0x11)
    assert q.read(0x200000, 6) == b"\x11" * 5 + b"\x05"
    assert q.read(0x200000, 0) == b""


def test_lines_are_followed(q: QTest) -> None:
    q.irq_intercept_in("ioapic")
    q.set_irq_in("ioapic", "unnamed-gpio-in", 7, 1)
    assert q.get_irq(7) and not q.get_irq(6)
    q.set_irq_in("ioapic", "unnamed-gpio-in", 7, 0)
    q.set_irq_in("ioapic", "unnamed-gpio-in", 7, 1)
    assert q.irq_raised(7) == 2
    q.irq_clear()
    assert q.irq_raised(7) == 0 and q.get_irq(7)


def test_a_reset_is_done_when_it_returns(q: QTest) -> None:
    q.outb(0x21, 0xA5)
    q.system_reset()
    assert q.inb(0x21) == 0


def test_time_is_stepped_where_the_accelerator_is_qtest(q: QTest) -> None:
    if not q.stepped:
        with pytest.raises(QTestError) as caught:
            q.clock_step(5)
        assert str(caught.value) == "clock_step 5: FAIL Unknown command 'clock_step'"
        return
    now = q.clock_step(0)
    assert q.clock_step(5) == now + 5
    assert q.clock_set(now + 9) == now + 9
    assert q.clock_step() > now + 9


def test_refusals_name_the_command(q: QTest) -> None:
    with pytest.raises(QTestError) as caught:
        q.irq_intercept_in("nowhere")
    assert str(caught.value).startswith("irq_intercept_in nowhere: FAIL Unknown device")
    with pytest.raises(QTestError) as large:
        q.outb(0x80, 0x100)
    assert str(large.value) == "outb 0x80: 0x100 does not fit into 1 byte"
    with pytest.raises(QTestError) as negative:
        q.writel(0x1000, -1)
    assert str(negative.value) == "writel 0x1000: -0x1 does not fit into 4 bytes"


def test_qmp_beside_it(q: QTest) -> None:
    assert q.qmp("qom-get", path="/machine", property="type").endswith("-machine")
    q.qmp("set-action", reboot="reset")
    q.qmp("system_reset")
    assert q.qmp_event("RESET")["reason"] == "host-qmp-system-reset"
    with pytest.raises(QTestError, match=r"^device_del: Device 'nothing' not found$"):
        q.qmp("device_del", id="nothing")
    if q.in_process:
        with pytest.raises(QTestError, match=r"^no event SUSPEND$"):
            q.qmp_event("SUSPEND")


def test_only_a_machine_in_this_process_can_be_had(q: QTest) -> None:
    if q.in_process:
        assert isinstance(q.machine, TestMachine) and q.machine.vm is q.vm
        assert repr(q).startswith("<QTest of <VirtualMachine 'machine': pc-i440fx-0.1-machine on qtest-accel")
        return
    with pytest.raises(QTestError) as caught:
        _ = q.vm
    assert str(caught.value) == "the machine is in another process: only its protocol can be had"


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_machine_that_ends_gives_its_status(program: str) -> None:
    if program == "qemu" and shutil.which(PROGRAMS["qemu"] or "") is None:
        pytest.skip("no QEMU is installed")
    with QTest("-M pc -m 16 -device isa-debug-exit,iobase=0xf4", program=PROGRAMS[program]) as q:
        with (
            pytest.raises(QTestError, match=r"^the machine has not ended: it is running$")
            if program == "here"
            else (pytest.raises(QTestError, match=r" has not ended within 0 s$"))
        ):
            q.wait(0)
        try:
            q.outb(0xF4, 3)
        except QTestError as error:  # QEMU is gone before it answers
            assert "has ended, with status 7" in str(error)
        assert q.wait() == 7


def test_what_is_wrong_with_a_machine_is_said_by_both() -> None:
    with pytest.raises(QomError) as here:
        QTest("-device isa-debug-exi")
    assert "unknown device type 'isa-debug-exi'; did you mean 'isa-debug-exit'" in str(here.value)
    with pytest.raises(QTestError) as there:
        QTest("-device isa-debug-exi", program="qom-system-x86_64")
    assert str(there.value).startswith("at its start: qom-system-x86_64 has ended, with status 1; it said: ")
    assert "unknown device type 'isa-debug-exi'" in str(there.value)
    with pytest.raises(QTestError) as missing:
        QTest(program="qemu-system-nothing")
    assert str(missing.value) == "qemu-system-nothing: no such program"


def test_a_program_is_told_by_its_arguments_only() -> None:
    expected = "a program takes 'args' only: expected no types, registry or keywords of open_machine"
    with pytest.raises(QTestError) as caught:
        QTest(program="qom-system-x86_64", memory="16M")
    assert str(caught.value) == expected
    with pytest.raises(QTestError) as both:
        QTest("-m 16", memory="16M")
    assert str(both.value) == "memory=: expected either 'args' or keywords of open_machine"
    with pytest.raises(QTestError) as asks:
        QTest("-device help")
    assert str(asks.value) == "-device help: asks for help: expected a machine"


def test_a_device_that_is_being_written() -> None:
    @type_init("isa-doubler")
    class Doubler(IsaDevice):
        iobase: int = prop(0x300, "First I/O port")

        def realize(self) -> None:
            self.last = 0
            self.isa.map_ports(self.iobase, Region("doubler", 1, self._read, self._write, (1, 1)))

        def _read(self, offset: int, size: int) -> int:
            return self.last * 2

        def _write(self, offset: int, value: int, size: int) -> None:
            self.last = value

    with QTest("-device isa-doubler,iobase=0x310", types=[Doubler]) as q:
        q.outb(0x310, 21)
        assert q.inb(0x310) == 42


def test_another_accelerator_is_kept() -> None:
    for words in ("-accel simulated -S", "-M pc,accel=simulated -S"):
        with QTest(f"{words} -m 16") as q:
            assert not q.stepped
            assert q.vm.machine.accel is not None and q.vm.machine.accel.type_name == "simulated-accel"


def test_what_comes_from_outside_needs_serving(tmp_path: Path) -> None:
    pipe = tmp_path / "in"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with QTest(["-chardev", f"file,id=c,path={tmp_path}/out,input-path={pipe}", "-serial", "chardev:c"]) as q:
            assert not q.inb(0x3FD) & 1
            os.write(writer, b"A")
            q.serve()
            assert q.inb(0x3FD) & 1 and q.inb(0x3F8) == ord("A")
    finally:
        os.close(writer)


def test_nothing_is_left() -> None:
    before = set(threading.enumerate())
    files = len(os.listdir("/proc/self/fd"))
    for program in (None, "qom-system-x86_64"):
        with QTest("-m 16", program=program) as q:
            q.inb(0x64)
        with pytest.raises(QTestError) as caught:
            q.inb(0x64)
        assert str(caught.value) == "inb 0x64: the machine has been closed"
        q.close()
    assert set(threading.enumerate()) == before
    assert len(os.listdir("/proc/self/fd")) == files
