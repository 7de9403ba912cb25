"""Sleep by the PIIX4's PM1 control register: S3, what wakes from it, S4; the machine as a whole, ours and QEMU's alike.

The processor has to run, and does nothing: firmware that halts.  QEMU's machine runs it, ours has no guest execution.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qom.testing import QTest, QTestError

QEMU = "qemu-system-x86_64"
FUNCTION, MEMORY_CONTROLLER = "01.3", "00.0"
PM = 0xB000
PMSTS, PMEN, PMCNTRL = PM, PM + 2, PM + 4
POWER_BUTTON, RTC, WAKE = 0x0100, 0x0400, 0x8000
SUSPEND_TO_RAM, SUSPEND_TO_DISK = 0x2400, 0x2800  # with SLP_EN
SHUTDOWN_CODE, WAKES_FROM_RAM = 0x0F, 0xFE
ALARM_SECONDS, ALARM_MINUTES, ALARM_HOURS, REG_B, ANY, AIE, HOURS_24 = 0x01, 0x03, 0x05, 0x0B, 0xC0, 0x20, 0x02
PAM = 0x59
SECOND = 1_000_000_000
NOT_ASLEEP = "system_wakeup: Unable to wake up: guest is not in suspended state"

Make = Callable[..., QTest]


@pytest.fixture(params=["qom", "qemu"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes a machine with these options more, by either program."""
    halt = tmp_path / "halt.bin"
    halt.write_bytes(b"\xf4" * 0xFFF0 + b"\xfa\xf4\xeb\xfd".ljust(16, b"\xf4"))  # cli; hlt; back to hlt
    made: list[QTest] = []

    def make(more: str = "") -> QTest:
        line = f"-M pc -m 16 -bios {halt} {more}"
        if request.param == "qom":
            made.append(QTest(line))
        elif shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed")
        else:
            made.append(QTest(f"{line} -accel tcg", program=QEMU))
        return mapped(made[-1])

    yield make
    for q in made:
        q.close()


@pytest.fixture
def own() -> Iterator[QTest]:
    with QTest("-M pc -m 16 -device ib700") as q:
        yield mapped(q)


def mapped(q: QTest) -> QTest:
    q.config_write(FUNCTION, 0x40, PM | 1)
    q.config_write(FUNCTION, 0x80, 0x01, 1)
    return q


def state(q: QTest) -> str:
    told = q.qmp("query-status")
    assert told["running"] is (told["status"] == "running")
    return str(told["status"])


def cmos(q: QTest, index: int, value: int | None = None) -> int:
    q.outb(0x70, index)
    if value is None:
        return q.inb(0x71)
    q.outb(0x71, value)
    return value


def alarm_every_second(q: QTest) -> None:
    for index in (ALARM_SECONDS, ALARM_MINUTES, ALARM_HOURS):
        cmos(q, index, ANY)
    cmos(q, REG_B, HOURS_24 | AIE)


def test_to_sleep_and_woken_from_outside(either: Make) -> None:
    q = either()
    assert q.qmp("query-current-machine") == {"wakeup-suspend-support": True}
    q.writel(0x1000, 0x600D_F00D)
    q.config_write(MEMORY_CONTROLLER, PAM, 0x30, 1)
    q.outw(PMEN, RTC | POWER_BUTTON)
    assert cmos(q, SHUTDOWN_CODE) == 0
    q.outw(PMCNTRL, SUSPEND_TO_RAM)
    assert state(q) == "suspended"
    assert q.inw(PMCNTRL) == 0x0400 and not q.inw(PMSTS) & WAKE
    assert cmos(q, SHUTDOWN_CODE) == WAKES_FROM_RAM
    q.outw(PMCNTRL, SUSPEND_TO_RAM)  # once more changes nothing
    assert state(q) == "suspended"
    assert q.qmp("system_wakeup") == {}
    assert state(q) == "running"
    assert q.inw(PMCNTRL) == 0xFFFF  # everything is reset: nobody is at the ports
    mapped(q)
    assert q.inw(PMSTS) & ~0x11 == WAKE | POWER_BUTTON
    assert (q.inw(PMEN), q.inw(PMCNTRL)) == (0, 0)
    assert cmos(q, SHUTDOWN_CODE) == WAKES_FROM_RAM  # firmware's to read and clear
    assert q.readl(0x1000) == 0x600D_F00D
    assert q.config_read(MEMORY_CONTROLLER, PAM, 1) == 0x30
    q.outw(PMSTS, WAKE | POWER_BUTTON)
    assert not q.inw(PMSTS) & (WAKE | POWER_BUTTON)


def test_stop_and_cont_change_nothing_while_it_sleeps(either: Make) -> None:
    q = either()
    q.outw(PMCNTRL, SUSPEND_TO_RAM)
    for command in ("stop", "cont", "inject-nmi"):
        q.qmp(command)
        assert state(q) == "suspended"
    q.qmp("system_wakeup")
    assert state(q) == "running"


def test_only_what_sleeps_is_woken(either: Make) -> None:
    q = either()
    for command, after in ((None, "running"), ("stop", "paused")):
        if command is not None:
            q.qmp(command)
        with pytest.raises(QTestError) as caught:
            q.qmp("system_wakeup")
        assert str(caught.value) == NOT_ASLEEP
        assert state(q) == after


def test_a_reset_ends_the_sleep_and_leaves_the_machine_before_its_start(either: Make) -> None:
    q = either()
    q.outw(PMCNTRL, SUSPEND_TO_RAM)
    assert state(q) == "suspended"
    q.system_reset()
    assert state(q) == "prelaunch"
    with pytest.raises(QTestError) as caught:
        q.qmp("system_wakeup")
    assert str(caught.value) == NOT_ASLEEP
    q.qmp("cont")
    assert state(q) == "running"
    assert not mapped(q).inw(PMSTS) & WAKE


def test_a_key_wakes(either: Make) -> None:
    q = either()
    q.outw(PMCNTRL, SUSPEND_TO_RAM)
    q.qmp("send-key", keys=[{"type": "qcode", "data": "spc"}])
    assert state(q) == "running"
    assert mapped(q).inw(PMSTS) & WAKE


def test_sleep_types(either: Make) -> None:
    """S4 switches the machine off, and its type is a property; other types do nothing."""
    q = either("-global PIIX4_PM.s4_val=5")
    q.outw(PMCNTRL, SUSPEND_TO_DISK)
    assert state(q) == "running"
    q.outw(PMCNTRL, 0x2000 | 5 << 10)
    assert q.wait() == 0


@pytest.mark.parametrize(
    ("more", "states"),
    [
        ("", (128, 0, 0, 129, 130, 128)),
        ("-global PIIX4_PM.disable_s3=1 -global PIIX4_PM.disable_s4=1", (128, 0, 0, 1, 2, 128)),
        ("-global PIIX4_PM.s4_val=5", (128, 0, 0, 129, 133, 128)),
    ],
)
def test_firmware_is_told_which_states_there_are(either: Make, more: str, states: tuple[int, ...]) -> None:
    q = either(more)

    def read(key: int, size: int) -> bytes:
        q.outw(0x510, key)
        return bytes(q.inb(0x511) for _ in range(size))

    count = int.from_bytes(read(0x19, 4))
    entries = read(0x19, 4 + 64 * count)[4:]
    found = [entries[n : n + 64] for n in range(0, len(entries), 64)]
    entry = next(entry for entry in found if entry[8:].rstrip(b"\0") == b"etc/system-states")
    assert tuple(read(int.from_bytes(entry[4:6]), int.from_bytes(entry[:4]))) == states


def test_the_clocks_alarm_wakes_if_the_guest_lets_it(own: QTest) -> None:
    alarm_every_second(own)
    own.outw(PMCNTRL, SUSPEND_TO_RAM)
    own.clock_step(3 * SECOND)
    assert state(own) == "suspended"
    own.qmp("system_wakeup")
    cmos(own, 0x0C)
    alarm_every_second(mapped(own))
    own.outw(PMEN, RTC)
    own.outw(PMCNTRL, SUSPEND_TO_RAM)
    assert state(own) == "suspended"
    own.clock_step(2 * SECOND)
    assert state(own) == "running"
    assert mapped(own).inw(PMSTS) & ~0x11 == WAKE | RTC


def test_the_power_button_wakes_if_the_guest_lets_it(own: QTest) -> None:
    """As hardware does it (ACPI 6.4, 4.8.2.2.1); QEMU 7.2 only sets the status bit."""
    own.outw(PMCNTRL, SUSPEND_TO_RAM)
    own.qmp("system_powerdown")
    assert state(own) == "suspended"
    own.outw(PMEN, POWER_BUTTON)
    own.qmp("system_powerdown")
    own.serve()  # the button first, then what follows from it
    assert state(own) == "running"
    assert mapped(own).inw(PMSTS) & ~0x11 == WAKE | POWER_BUTTON


def test_what_has_no_power_does_nothing(own: QTest) -> None:
    """Time goes on; no watchdog fires, and the interval timer does not tick, until the machine is awake."""
    own.irq_intercept_in("ioapic")
    own.outb(0x43, 0x34)
    own.outb(0x40, 0x00)
    own.outb(0x40, 0x10)
    own.clock_step(SECOND)
    assert own.irq_raised(2) > 100  # the timer's pin
    own.outb(0x443, 0x0F)  # the watchdog, two seconds
    own.outw(PMCNTRL, SUSPEND_TO_RAM)
    own.irq_clear()
    before = own.clock_step(1)
    assert own.clock_step(100 * SECOND) - before == 100 * SECOND
    assert state(own) == "suspended" and own.irq_raised(2) == 0
    own.qmp("system_wakeup")
    own.clock_step(100 * SECOND)
    assert state(own) == "running"  # and the reset has disarmed it


def test_a_byte_on_a_serial_line_wakes_if_it_is_to() -> None:
    with QTest("-M pc -m 16 -chardev console,id=a -chardev console,id=b -device isa-serial,chardev=a "
               "-device isa-serial,chardev=b,wakeup=on") as q:  # fmt: skip
        mapped(q).outw(PMCNTRL, SUSPEND_TO_RAM)
        q.vm.console("a").write("x")
        q.serve()
        assert state(q) == "suspended"
        q.vm.console("b").write("x")
        q.serve()
        assert state(q) == "running"
