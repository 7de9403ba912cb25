"""The 8254 interval timer (`isa-pit`; Intel 231164-005); time is stepped on ours only, as Debian's QEMU cannot."""

from __future__ import annotations

import pytest

from qom.testing import QTest

CONTROL = 0x43
CLK_HZ = 1_193_182
SECOND = 1_000_000_000
BOTH = 0x30
OUT0 = 2  # where IRQ 0 arrives at the I/O APIC


def ns(ticks: float) -> int:
    return round(ticks * SECOND / CLK_HZ)


def start(q: QTest, counter: int, mode: int, count: int, bcd: int = 0) -> None:
    q.outb(CONTROL, counter << 6 | BOTH | mode << 1 | bcd)
    q.outb(0x40 + counter, count & 0xFF)
    q.outb(0x40 + counter, count >> 8)


def count(q: QTest, counter: int) -> int:
    q.outb(CONTROL, counter << 6)  # counter latch
    return q.inb(0x40 + counter) | q.inb(0x40 + counter) << 8


def status(q: QTest, counter: int) -> int:
    q.outb(CONTROL, 0xE0 | 2 << counter)
    return q.inb(0x40 + counter)


@pytest.mark.parametrize("mode", range(6))
@pytest.mark.parametrize("counter", [0, 1, 2])
def test_status_tells_the_control_word(either: QTest, counter: int, mode: int) -> None:
    """Status byte, figure 12: access, mode and BCD as written; a count that was loaded is not null."""
    start(either, counter, mode, 0x1234)
    assert status(either, counter) & 0x3F == BOTH | mode << 1


def test_modes_6_and_7_are_2_and_3(own: QTest) -> None:
    """M2 is a don't-care there, figure 7.  QEMU keeps it, and has the counter stand still."""
    for mode in (6, 7):
        start(own, 0, mode, 0x1000)
        assert status(own, 0) >> 1 & 7 == mode & 3


def test_a_count_is_null_until_it_is_written(own: QTest) -> None:
    """Null count, figure 13.  QEMU clears it with the control word."""
    own.outb(CONTROL, 0x34)
    assert status(own, 0) & 0x40
    own.outb(0x40, 0x00)
    assert status(own, 0) & 0x40
    own.outb(0x40, 0x10)
    assert not status(own, 0) & 0x40


def test_one_byte_counts(either: QTest) -> None:
    either.outb(CONTROL, 0x10)  # low byte, mode 0
    either.outb(0x40, 0x56)
    assert either.inb(0x40) == 0x56
    assert either.inb(0x40) == 0x56
    either.outb(CONTROL, 0x20)  # high byte
    either.outb(0x40, 0x78)
    assert either.inb(0x40) == 0x78


def test_two_byte_counts_are_read_low_then_high(either: QTest) -> None:
    start(either, 0, 0, 0x1234)
    assert [either.inb(0x40) for _ in range(3)] == [0x34, 0x12, 0x34]


def test_a_latched_count_stays_until_it_is_read(own: QTest) -> None:
    start(own, 0, 2, 0x1000)
    own.outb(CONTROL, 0x00)
    own.clock_step(ns(100))
    own.outb(CONTROL, 0x00)  # ignored: the first is not read yet
    assert own.inb(0x40) | own.inb(0x40) << 8 == 0x1000
    assert own.inb(0x40) | own.inb(0x40) << 8 == 0x1000 - 100


def test_read_back_latches_status_and_counts_of_several(own: QTest) -> None:
    start(own, 0, 2, 0x1000)
    start(own, 1, 3, 0x2000)
    own.clock_step(ns(10))
    own.outb(CONTROL, 0xC6)  # both, of counters 0 and 1
    own.clock_step(ns(10))
    assert own.inb(0x40) == 0xB4  # OUT high; the status comes first
    assert own.inb(0x40) | own.inb(0x40) << 8 == 0x1000 - 10
    assert own.inb(0x41) == 0xB6
    assert own.inb(0x41) | own.inb(0x41) << 8 == 0x2000 - 20


def test_bcd_counts_in_decimal(own: QTest) -> None:
    start(own, 0, 0, 0x1000, bcd=1)
    own.clock_step(ns(1))
    assert count(own, 0) == 0x0999
    assert status(own, 0) & 1


def test_mode_0_raises_the_line_once_at_the_end(own: QTest) -> None:
    start(own, 0, 0, 1000)
    assert not own.get_irq(OUT0)
    own.clock_step(ns(999))
    assert (own.get_irq(OUT0), count(own, 0)) == (False, 1)
    own.clock_step(ns(1.5))
    assert own.get_irq(OUT0) and own.irq_raised(OUT0) == 1
    own.clock_step(SECOND // 10)
    assert own.irq_raised(OUT0) == 1
    start(own, 0, 0, 1000)  # a new count lowers it
    assert not own.get_irq(OUT0)


def test_mode_2_pulses_every_period(own: QTest) -> None:
    start(own, 0, 2, 1193)
    own.irq_clear()
    own.clock_step(ns(1193 * 10 + 1))
    assert own.irq_raised(OUT0) == 10


def test_mode_3_is_high_for_half_the_period(own: QTest) -> None:
    start(own, 0, 3, 1000)
    levels = []
    for _ in range(6):
        own.clock_step(ns(250) + 1)
        levels.append(bool(status(own, 0) & 0x80))
    assert levels == [True, False, False, True, True, False]


def test_modes_4_and_5_strobe(own: QTest) -> None:
    start(own, 0, 4, 100)
    assert status(own, 0) & 0x80
    own.irq_clear()
    own.clock_step(ns(102))
    assert own.irq_raised(OUT0) == 1
    start(own, 2, 5, 100)  # waits for its gate
    own.clock_step(ns(50))
    assert count(own, 2) == 100
    own.outb(0x61, 0x01)
    own.clock_step(ns(10))
    assert count(own, 2) == 90
    own.outb(0x61, 0x00)


def test_a_low_gate_holds_counter_2(own: QTest) -> None:
    own.outb(0x61, 0x01)
    start(own, 2, 0, 1000)
    own.clock_step(ns(10))
    own.outb(0x61, 0x00)
    held = count(own, 2)
    assert held == 990
    own.clock_step(ns(100))
    assert count(own, 2) == held
    own.outb(0x61, 0x01)
    own.clock_step(ns(10))
    assert count(own, 2) == 980


def test_the_control_port_cannot_be_read(either: QTest) -> None:
    assert either.inb(CONTROL) == 0
    start(either, 0, 2, 0x1234)
    assert either.inb(CONTROL) == 0
    assert count(either, 0) == 0x1234  # and reading it does nothing


def test_a_wide_access_is_one_of_bytes(own: QTest) -> None:
    start(own, 0, 0, 0x1234)
    start(own, 1, 0, 0x5678)
    assert own.inw(0x40) == 0x7834
    own.outw(0x42, 0x3400)  # counter 2, then the control word


def test_reset_leaves_counter_0_in_mode_3_from_65536(either: QTest) -> None:
    start(either, 0, 0, 5)
    either.system_reset()
    assert status(either, 0) & 0x0E == 0x06
    assert count(either, 0) == 0


def test_reset_starts_the_period_anew(own: QTest) -> None:
    start(own, 0, 0, 5)
    own.system_reset()
    own.irq_clear()
    own.clock_step(ns(65536) + 1000)
    assert own.irq_raised(OUT0) == 1
