"""The real-time clock, by its ports and a stepped clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from qom.errors import PropertyError
from qom.hw.bench import IsaBench
from qom.hw.reset import Reset

SECOND = 1_000_000_000
A, B, C, D = 10, 11, 12, 13


class Clock(IsaBench):
    """A clock that begins on a leap day's last seconds."""

    def __init__(self, **props: Any) -> None:
        super().__init__()
        self.rtc = self.add("mc146818rtc", base="2024-02-29T23:59:57", **props)

    def get(self, index: int) -> int:
        self.outb(0x70, index)
        return self.inb(0x71)

    def put(self, index: int, value: int) -> None:
        self.outb(0x70, index)
        self.outb(0x71, value)

    def now(self) -> str:
        """Registers as they are, in hexadecimal."""
        date = "-".join(f"{self.get(n):02x}" for n in (0x32, 9, 8, 7))
        return f"{date} {self.get(6)} " + ":".join(f"{self.get(n):02x}" for n in (4, 2, 0))


@pytest.fixture
def bench() -> Clock:
    return Clock()


def test_time_and_calendar(bench: Clock) -> None:
    assert bench.now() == "20-24-02-29 5 23:59:57"
    bench.clock.step(3 * SECOND)
    assert bench.now() == "20-24-03-01 6 00:00:00"
    assert (bench.get(A), bench.get(B), bench.get(D)) == (0x26, 0x02, 0x80)


def test_binary_and_12_hours(bench: Clock) -> None:
    bench.put(B, 0x04)
    assert [bench.get(n) for n in (4, 2, 0, 7, 8, 9)] == [11 | 0x80, 59, 57, 29, 2, 24]
    bench.clock.step(3 * SECOND)
    assert bench.get(4) == 12  # midnight is 12 AM
    bench.put(B, 0x00)
    bench.put(4, 0x92)
    bench.put(B, 0x02)
    assert bench.get(4) == 0x12


def test_setting_with_set(bench: Clock) -> None:
    bench.put(B, 0x82)
    bench.clock.step(10 * SECOND)
    assert bench.now() == "20-24-02-29 5 23:59:57"
    for register, value in ((0, 0x58), (2, 0x59), (4, 0x23), (6, 0x03), (7, 0x31), (8, 0x12), (9, 0x99), (0x32, 0x19)):
        bench.put(register, value)
    bench.put(B, 0x02)
    bench.clock.step(2 * SECOND)
    assert bench.now() == "20-00-01-01 4 00:00:00"  # the day of the week counts on from what was set


def test_divider_reset_starts_half_a_second_before_the_update(bench: Clock) -> None:
    bench.put(A, 0x66)
    bench.clock.step(5 * SECOND)
    assert bench.get(0) == 0x57
    bench.put(A, 0x26)
    bench.clock.step(SECOND // 2 - 1)
    assert bench.get(0) == 0x57
    bench.clock.step(1)
    assert bench.get(0) == 0x58


def test_update_in_progress(bench: Clock) -> None:
    assert not bench.get(A) & 0x80
    bench.clock.step(SECOND - 200_000)
    assert bench.get(A) & 0x80
    bench.put(B, 0x82)
    assert not bench.get(A) & 0x80
    bench.put(B, 0x02)
    bench.clock.step(200_000)
    assert not bench.get(A) & 0x80


def test_periodic_interrupt(bench: Clock) -> None:
    bench.get(C)
    bench.put(B, 0x42)  # rate 6: 1024 Hz
    for _ in range(1024):
        bench.clock.step(976_562)
        if bench.irq_level(8):
            assert bench.get(C) & 0xC0 == 0xC0
            assert not bench.irq_level(8)
    assert bench.irq_edges(8) == 1023
    bench.put(A, 0x2F)  # 2 Hz
    bench.get(C)
    before = bench.irq_edges(8)
    bench.clock.step(2 * SECOND)
    assert bench.irq_edges(8) - before == 1  # C was not read: the line stays
    bench.put(B, 0x02)
    assert bench.irq_level(8)
    assert bench.get(C) & 0xF0 == 0xD0
    assert bench.get(C) == 0


def test_update_interrupt(bench: Clock) -> None:
    bench.put(B, 0x12)
    bench.clock.step(SECOND - 1)
    assert not bench.irq_level(8)
    bench.clock.step(1)
    assert bench.irq_level(8)
    assert bench.get(C) & 0xB0 == 0x90
    bench.put(B, 0x92)
    assert bench.get(B) == 0x82  # SET clears UIE


def test_alarm(bench: Clock) -> None:
    bench.put(1, 0x00)
    bench.put(3, 0x01)
    bench.put(5, 0xFF)
    bench.put(B, 0x22)
    bench.clock.step(62 * SECOND)
    assert not bench.irq_level(8)
    bench.clock.step(SECOND)
    assert bench.irq_level(8)
    assert bench.get(C) & 0xA0 == 0xA0
    bench.clock.step(3599 * SECOND)
    assert not bench.irq_level(8)
    bench.clock.step(SECOND)
    assert bench.irq_level(8)
    bench.get(C)
    bench.put(1, 0x7A)  # no second ever
    assert bench.clock.next_deadline() is None


def test_flags_without_interrupts(bench: Clock) -> None:
    bench.get(C)
    bench.clock.step(SECOND)
    assert bench.get(C) == 0x50
    assert bench.irq_edges(8) == 0
    assert bench.clock.next_deadline() is None


def test_reset_keeps_time_and_memory(bench: Clock) -> None:
    bench.put(B, 0x72)
    bench.put(0x40, 0x55)
    bench.clock.step(SECOND)
    bench.reset(Reset.COLD)
    assert bench.get(B) == 0x02
    assert not bench.irq_level(8)
    assert bench.get(0x40) == 0x55
    assert bench.get(0) == 0x58


def test_banks() -> None:
    bench = Clock(extended=True)
    bench.put(0x20, 1)
    bench.outb(0x72, 0x20)
    bench.outb(0x73, 2)
    assert bench.get(0x20) == 1
    assert bench.inb(0x73) == 2
    assert bench.rtc.get_cmos(0x20) == 1
    assert bench.inb(0x70) == 0xFF


def test_bad_base() -> None:
    with pytest.raises(PropertyError, match=r"a date and time like 2024-02-29T12:00:00"):
        IsaBench().add("mc146818rtc", base="yesterday")


def test_state_round_trip(bench: Clock) -> None:
    bench.put(B, 0x12)
    saved = bench.rtc.save_state()
    bench.reset()
    bench.rtc.load_state(saved)
    bench.clock.step(SECOND)
    assert bench.irq_level(8)


def test_same_as_qemu(both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Setting and reading time, alarms, memory and the control registers at time 0."""
    dice = random.Random(146818)
    bench = IsaBench()
    bench.add("mc146818rtc", base="2001-02-03T04:05:06")
    machine = qemu("-M", "pc", "-nodefaults", "-rtc", "base=2001-02-03T04:05:06,clock=vm")
    accesses: list[str] = []

    def put(index: int, value: int) -> None:
        accesses.extend([f"outb 0x70 {index:#x}", f"outb 0x71 {value:#x}"])

    def get(*indexes: int) -> None:
        for index in indexes:
            accesses.extend([f"outb 0x70 {index | dice.choice((0, 0x80)):#x}", "inb 0x71"])

    everything = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 0x32)
    get(*everything)
    for _ in range(200):
        mode = dice.choice((0, 2, 4, 6))
        put(B, 0x80 | mode)
        binary = mode & 4
        code = (lambda v: v) if binary else (lambda v: v // 10 << 4 | v % 10)
        hour = dice.randrange(24)
        put(0, code(dice.randrange(60)))
        put(2, code(dice.randrange(60)))
        put(4, code(hour) if mode & 2 else code(hour % 12 or 12) | (0x80 if hour >= 12 else 0))
        put(7, code(dice.randrange(1, 29)))
        put(8, code(dice.randrange(1, 13)))
        year = dice.randrange(1970, 2100)  # QEMU is a second off before 1970
        put(9, code(year % 100))
        put(0x32, code(year // 100))
        put(dice.choice((1, 3, 5)), dice.randrange(256))
        get(0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 0x32)
        put(B, mode)
        get(0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 0x32)
        put(dice.randrange(0x40, 0x80), dice.randrange(256))
        get(*(dice.randrange(0x40, 0x80) for _ in range(4)))
    both(bench, accesses, machine=machine)
