"""The high-precision event timers (`hpet`): "IA-PC HPET Specification", revision 1.0a, Intel 2004; sections are its own."""

from __future__ import annotations

import pytest

from qom.testing import QTest

BASE = 0xFED00000
CAPABILITIES, CONFIGURATION, STATUS, COUNTER = 0x000, 0x010, 0x020, 0x0F0
ENABLE, LEGACY = 1, 2
LEVEL, INTERRUPTS, PERIODIC, SET_VALUE, MODE_32 = 1 << 1, 1 << 2, 1 << 3, 1 << 6, 1 << 8
PIN = 20
ROUTE = PIN << 9
TICK = 10  # ns


def timer(n: int, register: int = 0) -> int:
    return 0x100 + 0x20 * n + register


def get(q: QTest, register: int) -> int:
    return q.readq(BASE + register)


def put(q: QTest, register: int, value: int) -> None:
    q.writeq(BASE + register, value)


def test_capabilities(either: QTest) -> None:
    """2.3.4: revision 1, three timers, 64 bits, legacy replacement, vendor 8086h, a period of 10 ns in fs."""
    assert get(either, CAPABILITIES) == 10_000_000 << 32 | 0x8086A201
    put(either, CAPABILITIES, 0)
    assert get(either, CAPABILITIES) == 10_000_000 << 32 | 0x8086A201
    assert either.readl(BASE + CAPABILITIES + 4) == 10_000_000


def test_reset_values(either: QTest) -> None:
    put(either, CONFIGURATION, ENABLE | LEGACY)
    put(either, timer(0, 8), 5)
    either.system_reset()
    assert [get(either, r) for r in (CONFIGURATION, STATUS, COUNTER)] == [0, 0, 0]
    for n in range(3):
        assert get(either, timer(n, 8)) == (1 << 64) - 1
        assert get(either, timer(n)) & 0x7F4F == 0x0000


@pytest.mark.parametrize("n", range(3))
def test_what_a_timer_can(either: QTest, n: int) -> None:
    """2.3.8: each is periodic and 64 bits wide here; those bits are read-only, like the routes it has."""
    before = get(either, timer(n))
    assert before & 0x30 == 0x30
    put(either, timer(n), 0)
    assert get(either, timer(n)) == before


def test_timers_can_be_routed_above_the_isa_lines(own: QTest) -> None:
    """QEMU's comparators name line 2 only."""
    assert get(own, timer(0)) >> 32 == 0xFF0000
    put(own, timer(0), 5 << 9)  # there is no such route: it reads back as it was
    assert get(own, timer(0)) & 0x3E00 == 0
    put(own, timer(0), ROUTE)
    assert get(own, timer(0)) & 0x3E00 == ROUTE


def test_configuration_bits_read_back(either: QTest) -> None:
    put(either, CONFIGURATION, LEGACY)
    assert get(either, CONFIGURATION) == LEGACY
    put(either, timer(1), INTERRUPTS | PERIODIC | MODE_32)
    assert get(either, timer(1)) & 0xFFFF & ~0x30 == INTERRUPTS | PERIODIC | MODE_32


def test_the_halted_counter_can_be_written(either: QTest) -> None:
    """2.3.7."""
    put(either, COUNTER, 0x123456789A)
    assert get(either, COUNTER) == 0x123456789A
    either.writel(BASE + COUNTER, 0x11111111)
    either.writel(BASE + COUNTER + 4, 0x22)
    assert get(either, COUNTER) == 0x2211111111


def test_a_comparator_reads_back_in_halves(either: QTest) -> None:
    either.writel(BASE + timer(0, 8), 0x55555555)
    either.writel(BASE + timer(0, 12), 0x66)
    assert get(either, timer(0, 8)) == 0x6655555555
    assert either.readl(BASE + timer(0, 12)) == 0x66


def test_the_counter_follows_time_while_it_is_enabled(own: QTest) -> None:
    put(own, CONFIGURATION, ENABLE)
    own.clock_step(1000)
    assert get(own, COUNTER) == 100
    put(own, COUNTER, 5)  # ignored
    assert get(own, COUNTER) == 100
    put(own, CONFIGURATION, 0)
    own.clock_step(1000)
    assert get(own, COUNTER) == 100


def test_a_match_interrupts_once(own: QTest) -> None:
    put(own, timer(0), INTERRUPTS | ROUTE)
    put(own, timer(0, 8), 50)
    put(own, CONFIGURATION, ENABLE)
    own.clock_step(49 * TICK)
    assert own.irq_raised(PIN) == 0
    own.clock_step(TICK)
    assert own.irq_raised(PIN) == 1 and not own.get_irq(PIN)  # an edge
    own.clock_step(1000 * TICK)
    assert own.irq_raised(PIN) == 1


def test_a_level_stays_until_it_is_acknowledged(own: QTest) -> None:
    """2.3.6: a one written clears the status."""
    put(own, timer(1), INTERRUPTS | LEVEL | ROUTE)
    put(own, timer(1, 8), 50)
    put(own, CONFIGURATION, ENABLE)
    own.clock_step(60 * TICK)
    assert own.get_irq(PIN) and get(own, STATUS) == 0x02
    put(own, STATUS, 0x01)
    assert own.get_irq(PIN)
    put(own, STATUS, 0x02)
    assert not own.get_irq(PIN) and get(own, STATUS) == 0


def test_a_periodic_timer_goes_on(own: QTest) -> None:
    """2.3.9.2.2: with SET_VALUE the first value, then the period."""
    put(own, timer(0), INTERRUPTS | PERIODIC | SET_VALUE | ROUTE)
    put(own, timer(0, 8), 30)
    put(own, timer(0, 8), 100)
    put(own, CONFIGURATION, ENABLE)
    own.clock_step(30 * TICK)
    assert own.irq_raised(PIN) == 1
    for n in range(2, 6):
        own.clock_step(100 * TICK)
        assert own.irq_raised(PIN) == n
    assert get(own, timer(0, 8)) == 530


def test_in_32_bits_the_counter_wraps_for_a_timer(own: QTest) -> None:
    put(own, COUNTER, (1 << 32) - 10)
    put(own, timer(2), INTERRUPTS | MODE_32 | ROUTE)
    put(own, timer(2, 8), 5)
    put(own, CONFIGURATION, ENABLE)
    own.clock_step(15 * TICK)
    assert own.irq_raised(PIN) == 1


def test_legacy_replacement_takes_the_lines_of_pit_and_rtc(own: QTest) -> None:
    """2.3.9.1: comparators 0 and 1 become IRQ 0 (I/O APIC pin 2) and IRQ 8."""
    put(own, timer(0), INTERRUPTS)
    put(own, timer(1), INTERRUPTS)
    put(own, timer(0, 8), 100)
    put(own, timer(1, 8), 200)
    put(own, CONFIGURATION, ENABLE | LEGACY)
    own.irq_clear()
    own.clock_step(150 * TICK)
    assert (own.irq_raised(2), own.irq_raised(8)) == (1, 0)
    own.clock_step(100 * TICK)
    assert (own.irq_raised(2), own.irq_raised(8)) == (1, 1)
    own.clock_step(100_000_000)  # the 8254 would have ticked
    assert own.irq_raised(2) == 1


def test_disabled_interrupts_do_not_come(own: QTest) -> None:
    put(own, timer(0), ROUTE)
    put(own, timer(0, 8), 50)
    put(own, CONFIGURATION, ENABLE)
    own.clock_step(1000 * TICK)
    assert own.irq_raised(PIN) == 0 and get(own, STATUS) == 0


def test_registers_there_are_not_read_as_zero(own: QTest) -> None:
    """A fourth timer among them, which QEMU keeps registers for."""
    for offset in (0x008, 0x018, 0x0F8, 0x160, 0x3F8):
        put(own, offset, 0x5A5A5A5A)
        assert own.readl(BASE + offset) == 0


def test_byte_accesses_change_nothing(own: QTest) -> None:
    """1.3: software uses 32 and 64 bits."""
    own.writeb(BASE + CONFIGURATION, ENABLE)
    own.writew(BASE + CONFIGURATION, ENABLE)
    assert get(own, CONFIGURATION) == 0
