"""pvpanic on ISA and on PCI, by the qtest protocol; what can be read is compared with QEMU's."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from qom.config.write import dumps
from qom.errors import QomError
from qom.testing.qtest import QTest
from qom.vm.runstate import RunState

QEMU = "qemu-system-x86_64"
BAR = 0xFEB0_0000
COMMAND, BAR0, MEMORY_SPACE = 0x04, 0x10, 0x2
PANICKED, CRASHLOADED = "GUEST_PANICKED", "GUEST_CRASHLOADED"


def heard(q: QTest) -> list[str]:
    """The events of panics that the machine tells from now on."""
    told: list[str] = []

    def hear(name: str, data: dict[str, Any]) -> None:
        if name in (PANICKED, CRASHLOADED):
            told.append(f"{name} {data['action']}")

    q.vm.events.append(hear)
    return told


def need_qemu() -> str:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed: no oracle to compare with")
    return QEMU


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0x00, []),
        (0x01, [f"{PANICKED} run"]),
        (0x02, [f"{CRASHLOADED} run"]),
        (0x03, [f"{PANICKED} run"]),
        (0xFC, []),
        (0xFE, [f"{CRASHLOADED} run"]),
    ],
)
def test_a_write_tells_of_an_event(value: int, told: list[str]) -> None:
    with QTest("-device pvpanic -device pvpanic-pci,addr=4 -action panic=none") as q:
        events = heard(q)
        q.outb(0x505, value)
        assert events == told
        q.config_write("04.0", BAR0, BAR)
        q.config_write("04.0", COMMAND, MEMORY_SPACE, 2)
        q.writeb(BAR, value)
        assert events == told * 2
        q.writeb(BAR + 1, value)
        assert events == told * 3
        q.writeb(BAR + 2, value)
        assert events == told * 3


def test_a_wide_write_is_one_of_each_byte() -> None:
    with QTest("-device pvpanic -device pvpanic-pci,addr=4 -action panic=none") as q:
        events = heard(q)
        q.outw(0x505, 0x0102)
        assert events == [f"{CRASHLOADED} run"]  # the port next to it is nobody's
        q.config_write("04.0", BAR0, BAR)
        q.config_write("04.0", COMMAND, MEMORY_SPACE, 2)
        q.writel(BAR, 0x0202_0102)
        assert events[1:] == [f"{CRASHLOADED} run", f"{PANICKED} run"]


def test_unknown_events_are_the_guests_fault_once() -> None:
    with QTest("-device pvpanic") as q:
        q.outb(0x505, 0x80)
        q.outb(0x505, 0x40)
        lines = [line for line in q.vm.log_lines if "event bits" in line]
        assert len(lines) == 1
        assert lines[0].endswith("event bits 0x80 are unknown: expected 0x1 or 0x2")


def test_the_machine_stands_still_after_a_panic() -> None:
    with QTest("-device pvpanic -action panic=pause") as q:
        q.outb(0x505, 1)
        assert q.vm.run_state is RunState.GUEST_PANICKED
        q.system_reset()
        assert q.vm.run_state is RunState.PRELAUNCH


@pytest.mark.parametrize(("action", "status"), [("shutdown", 0), ("exit-failure", 1)])
def test_the_machine_ends_with_a_panic(action: str, status: int) -> None:
    with QTest(f"-device pvpanic -action panic={action}") as q:
        q.outb(0x505, 1)
        assert q.wait() == status


@pytest.mark.parametrize("action", ["shutdown", "exit-failure"])
def test_qemu_ends_with_the_same_status(action: str) -> None:
    with QTest(f"-device pvpanic -action panic={action}") as ours:
        ours.outb(0x505, 1)
        expected = ours.wait()
    with QTest(f"-device pvpanic -action panic={action}", program=need_qemu()) as theirs:
        theirs.send("outb 0x505 1")
        assert theirs.wait() == expected


READS = ("inb 0x505", "inb 0x506", "inb 0x504")  # QEMU gives a wide access that begins in the port to it as a whole


@pytest.mark.parametrize("options", ["", ",events=1", ",events=0"])
def test_the_port_reads_as_qemus(options: str) -> None:
    with QTest(f"-device pvpanic{options}") as ours, QTest(f"-device pvpanic{options}", program=need_qemu()) as theirs:
        assert [number(ours.send(line)) for line in READS] == [number(theirs.send(line)) for line in READS]


def test_the_registers_read_as_qemus() -> None:
    words = "-device pvpanic-pci,addr=4,events=2"
    with QTest(words) as ours, QTest(words, program=need_qemu()) as theirs:
        seen = []
        for q in (ours, theirs):
            identity = [q.config_read("04.0", offset) for offset in (0x00, 0x08, 0x2C, 0x3C)]
            q.config_write("04.0", BAR0, BAR)
            q.config_write("04.0", COMMAND, MEMORY_SPACE, 2)
            lines = [f"readb {BAR + at:#x}" for at in range(16)] + [f"readw {BAR:#x}"]
            seen.append([identity, [number(q.send(line)) for line in lines]])
        assert seen[0] == seen[1]


def number(answer: str) -> int:
    """What a read answered."""
    word, value = answer.split()
    assert word == "OK"
    return int(value, 0)


def test_it_is_where_it_is_put_and_nowhere_else() -> None:
    with QTest("-device pvpanic,ioport=0x600") as q:
        assert q.inb(0x600) == 3
        assert q.inb(0x505) == 0xFF
        assert 'driver = "pvpanic"\nioport = 0x600\n' in dumps(q.vm.dump(), registry=q.vm.registry)
    with pytest.raises(QomError) as caught:
        QTest("-device pvpanic -device pvpanic")
    other = "/machine/peripheral-anon/pvpanic@505 has 0x505..0x505 (pvpanic)"
    assert str(caught.value).endswith(f"ports 0x505..0x505 are taken: {other}")


def test_the_firmware_is_told_of_the_first() -> None:
    with QTest("-device pvpanic,ioport=0x600 -device pvpanic") as q:
        cfg: Any = q.vm.root.resolve("/machine/fw_cfg")
        assert cfg.file("etc/pvpanic-port") == bytes((0x00, 0x06))
        tables = cfg.file("etc/acpi/tables")
        assert tables.count(b"QEMU0001") == 1
    with QTest() as q:
        cfg = q.vm.root.resolve("/machine/fw_cfg")
        assert "etc/pvpanic-port" not in cfg.files
        assert b"QEMU0001" not in cfg.file("etc/acpi/tables")
