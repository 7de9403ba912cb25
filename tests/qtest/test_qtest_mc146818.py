"""The MC146818A real-time clock and CMOS memory (`mc146818rtc`; Motorola, 1984); tables and figures are that sheet's."""

from __future__ import annotations

from typing import Any

import pytest

from qom.testing import QTest

SECOND = 1_000_000_000
REG_A, REG_B, REG_C, REG_D = 10, 11, 12, 13
SET, PIE, AIE, UIE, BINARY, HOURS_24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
IRQ = 8


def get(q: QTest, index: int) -> int:
    q.outb(0x70, index)
    return q.inb(0x71)


def put(q: QTest, index: int, value: int) -> None:
    q.outb(0x70, index)
    q.outb(0x71, value)


def set_time(q: QTest, hour: int, minute: int, second: int, b: int = HOURS_24) -> None:
    """Numbers as they are written, so in BCD unless `b` says otherwise; the date is 2024-02-29, a Thursday."""
    put(q, REG_A, 0x26)
    put(q, REG_B, SET | b)
    for index, value in ((4, hour), (2, minute), (0, second), (6, 5), (7, 0x29), (8, 0x02), (9, 0x24), (0x32, 0x20)):
        put(q, index, value)
    put(q, REG_B, b)
    get(q, REG_C)
    q.irq_clear()


def clock(q: QTest) -> tuple[int, int, int]:
    return get(q, 4), get(q, 2), get(q, 0)


def test_memory_reads_back(either: QTest) -> None:
    """Figure 11: 50 bytes of memory in the chip, 114 here."""
    for index in (0x0E, 0x40, 0x5A, 0x7F):
        for value in (0x55, 0xAA, 0x00):
            put(either, index, value)
            assert get(either, index) == value


def test_bit_7_of_the_index_is_the_nmi_mask(either: QTest) -> None:
    put(either, 0x0F, 0x5A)
    assert get(either, 0x8F) == 0x5A


def test_the_index_port_cannot_be_read(either: QTest) -> None:
    either.outb(0x70, 0x0F)
    assert either.inb(0x70) == 0xFF


def test_memory_and_time_survive_reset_and_interrupt_enables_do_not(either: QTest) -> None:
    """RESET#: PIE, AIE, UIE and SQWE are cleared, and the flags."""
    put(either, 0x40, 0x77)
    put(either, REG_B, PIE | AIE | UIE | HOURS_24)
    either.system_reset()
    assert get(either, 0x40) == 0x77
    assert get(either, REG_B) & (PIE | AIE | HOURS_24) == HOURS_24
    assert not either.get_irq(IRQ)


def test_reset_forgets_all_enables_and_flags(own: QTest) -> None:
    """QEMU's keeps UIE, and flags that were up."""
    set_time(own, 0, 0, 0)
    put(own, REG_B, PIE | AIE | UIE | HOURS_24)
    own.clock_step(2 * SECOND)
    assert own.get_irq(IRQ)
    own.system_reset()
    assert not own.get_irq(IRQ)
    assert (get(own, REG_B), get(own, REG_C)) == (HOURS_24, 0)


def test_read_only_registers_cannot_be_written(either: QTest) -> None:
    """C and D are read-only; UIP of A too."""
    for register in (REG_C, REG_D):
        before = get(either, register)
        put(either, register, 0x5A)
        assert get(either, register) == before
    assert get(either, REG_D) == 0x80
    put(either, REG_A, 0xA6)
    assert get(either, REG_A) & 0x7F == 0x26


def test_set_keeps_the_time_that_is_written(either: QTest) -> None:
    """SET, of register B."""
    put(either, REG_B, SET | HOURS_24)
    for index, value in ((0, 0x59), (2, 0x58), (4, 0x23), (6, 0x05), (7, 0x29), (8, 0x02), (9, 0x24)):
        put(either, index, value)
        assert get(either, index) == value
    assert not get(either, REG_A) & 0x80


def test_alarm_registers_read_back(either: QTest) -> None:
    for index in (1, 3, 5):
        for value in (0x12, 0xFF):
            put(either, index, value)
            assert get(either, index) == value
        put(either, index, 0)


def test_seconds_are_counted(own: QTest) -> None:
    set_time(own, 0x23, 0x59, 0x58)
    own.clock_step(SECOND)
    assert clock(own) == (0x23, 0x59, 0x59)
    own.clock_step(SECOND)
    assert clock(own) == (0x00, 0x00, 0x00)
    assert [get(own, index) for index in (6, 7, 8, 9)] == [0x06, 0x01, 0x03, 0x24]  # after 29 February


def test_in_binary_and_12_hours(own: QTest) -> None:
    """Table 2: 81h to 8Ch are the hours after noon."""
    set_time(own, 0x8B, 59, 59, BINARY)
    own.clock_step(SECOND)
    assert clock(own) == (12, 0, 0)
    set_time(own, 12 | 0x80, 59, 59, BINARY)
    own.clock_step(SECOND)
    assert clock(own) == (0x81, 0, 0)


def test_the_update_interrupt_comes_every_second(own: QTest) -> None:
    """UIE, of register B; reading C clears the flags and lowers IRQ#."""
    set_time(own, 0, 0, 0)
    put(own, REG_B, UIE | HOURS_24)
    own.clock_step(SECOND)
    assert own.get_irq(IRQ)
    assert get(own, REG_C) & 0x90 == 0x90
    assert not own.get_irq(IRQ)
    assert get(own, REG_C) == 0
    own.clock_step(SECOND)
    assert own.irq_raised(IRQ) == 2


@pytest.mark.parametrize("rate, hertz", [(6, 1024), (3, 8192), (15, 2), (1, 256), (2, 128)])
def test_the_periodic_interrupt_has_its_rate(own: QTest, rate: int, hertz: int) -> None:
    """Table 5, with a time base of 32.768 kHz."""
    set_time(own, 0, 0, 0)
    put(own, REG_A, 0x20 | rate)
    put(own, REG_B, PIE | HOURS_24)
    count = 0
    for _ in range(8):
        own.clock_step(SECOND // hertz)
        count += get(own, REG_C) & 0xC0 == 0xC0
    assert count in (7, 8)
    assert own.irq_raised(IRQ) == count


def test_rate_0_has_none(own: QTest) -> None:
    set_time(own, 0, 0, 0)
    put(own, REG_A, 0x20)
    put(own, REG_B, PIE | HOURS_24)
    own.clock_step(SECOND)
    assert own.irq_raised(IRQ) == 0


def test_the_alarm_comes_at_its_time_only(own: QTest) -> None:
    set_time(own, 0x12, 0x00, 0x00)
    for index, value in ((5, 0x12), (3, 0x01), (1, 0x30)):
        put(own, index, value)
    put(own, REG_B, AIE | HOURS_24)
    own.clock_step(89 * SECOND)
    assert not own.get_irq(IRQ)
    own.clock_step(SECOND)
    assert own.get_irq(IRQ)
    assert get(own, REG_C) & 0xA0 == 0xA0


def test_an_alarm_byte_of_c0_or_more_matches_all(own: QTest) -> None:
    """ "Don't care" codes."""
    set_time(own, 0x12, 0x00, 0x00)
    for index, value in ((5, 0xC0), (3, 0xFF), (1, 0x10)):
        put(own, index, value)
    put(own, REG_B, AIE | HOURS_24)
    hits = []
    for _ in range(3):
        own.clock_step(60 * SECOND)
        hits.append(get(own, REG_C) & 0x20)
    assert hits == [0x20] * 3


def test_uip_is_set_244_us_before_the_update(own: QTest) -> None:
    """Figure 14."""
    set_time(own, 0, 0, 0)
    put(own, REG_B, UIE | HOURS_24)
    own.clock_step()  # to the next deadline there is, until the update
    while not own.get_irq(IRQ):
        own.clock_step()
    own.clock_step(SECOND - 250_000)
    assert not get(own, REG_A) & 0x80
    own.clock_step(10_000)
    assert get(own, REG_A) & 0x80
    own.clock_step(250_000)
    assert not get(own, REG_A) & 0x80


def test_a_divider_in_reset_stops_the_time(own: QTest) -> None:
    """Table 4: 110 and 111 hold the divider; half a second after its release the first update comes."""
    set_time(own, 0, 0, 0x10)
    put(own, REG_A, 0x70)
    own.clock_step(5 * SECOND)
    assert get(own, 0) == 0x10
    put(own, REG_A, 0x26)
    own.clock_step(SECOND // 2 + 1000)
    assert get(own, 0) == 0x11


def test_a_wide_access_is_one_of_bytes(either: QTest) -> None:
    either.outw(0x70, 0x5A40)
    assert get(either, 0x40) == 0x5A
    either.outb(0x70, 0x40)
    assert either.inw(0x70) == 0x5AFF


def test_the_second_bank_is_there_when_asked_for() -> None:
    with QTest("-M pc -m 16 -global mc146818rtc.extended=on") as q:
        q.outb(0x72, 0x10)
        q.outb(0x73, 0x99)
        assert q.inb(0x73) == 0x99
        assert q.inb(0x72) == 0xFF


def changes(q: QTest) -> list[int]:
    """The offsets of RTC_CHANGE events that the machine tells from now on."""
    told: list[int] = []

    def hear(name: str, data: dict[str, Any]) -> None:
        if name == "RTC_CHANGE":
            assert data["qom-path"] == "/machine/rtc"
            told.append(data["offset"])

    q.vm.events.append(hear)
    return told


def test_the_machine_tells_when_the_guest_sets_the_time() -> None:
    """The seconds are those of the new time beyond the time that the clock would have had; QEMU tells at the same accesses."""
    with QTest("-M pc,rtc-base=2020-01-02T03:04:05") as q:
        told = changes(q)
        put(q, 0, 0x11)
        assert told == [6]
        put(q, REG_B, SET | HOURS_24)
        put(q, 0, 0x30)
        put(q, 4, 0x10)
        assert told == [6]  # not before the time runs on
        put(q, REG_B, HOURS_24)
        assert told.pop() == 7 * 3600 + 25
        q.clock_step(10 * SECOND)
        put(q, 7, 0x03)
        assert told.pop() == 86400 + 7 * 3600 + 25
        for index in (1, 3, 5, 0x40, REG_C, REG_D):
            put(q, index, 0)
        put(q, REG_A, 0x76)  # the divider is held, and the time with it
        put(q, 2, 0x11)
        assert told == [6]
        put(q, REG_A, 0x26)
        assert told.pop() == 86400 + 7 * 3600 + 25 + 7 * 60
        put(q, 0x32, 0x19)  # a hundred years back, of which 25 are leap years
        assert told.pop() == 86400 + 7 * 3600 + 25 + 7 * 60 - 36525 * 86400
        q.system_reset()
        assert told == [6]


def test_what_the_clock_was_set_to_goes_with_its_state() -> None:
    with QTest("-M pc,rtc-base=2020-01-02T03:04:05") as q:
        rtc: Any = q.vm.root.resolve("/machine/rtc")
        put(q, 2, 0x05)
        saved = rtc.save_state()
        q.clock_step(SECOND)
        told = changes(q)
        rtc.load_state(saved)
        put(q, 2, 0x06)
        assert told == [120]


def test_the_machine_tells_the_date_as_c_counts_it(either: QTest) -> None:
    for b, hour in ((HOURS_24, 0x23), (0, 0x91), (HOURS_24 | BINARY, 23)):  # 23:59:58 and 11 pm
        fields = (hour, 59, 58) if b & BINARY else (hour, 0x59, 0x58)
        put(either, REG_A, 0x26)
        put(either, REG_B, SET | b)
        date = (29, 2, 24, 20) if b & BINARY else (0x29, 0x02, 0x24, 0x20)
        for index, value in zip((4, 2, 0, 7, 8, 9, 0x32, 6), (*fields, *date, 5), strict=True):
            put(either, index, value)
        put(either, REG_B, b)
        found = either.qmp("qom-get", path="/machine", property="rtc-time")
        assert found == {"tm_year": 124, "tm_mon": 1, "tm_mday": 29, "tm_hour": 23, "tm_min": 59, "tm_sec": 58}
