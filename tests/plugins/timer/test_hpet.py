"""The HPET: registers, counting, every kind of comparator, and whose interrupts reach the lines of the 8254 and the RTC."""

from __future__ import annotations

from typing import Any

import pytest

from qom.hw import Line
from qom.hw.bench import SysBench

BASE = 0xFED00000
CAPABILITIES, CONFIG, STATUS, COUNTER = 0x00, 0x10, 0x20, 0xF0
ENABLE, LEGACY = 1, 2
LEVEL, INTERRUPTS, PERIODIC, SET_VALUE, MODE_32 = 2, 4, 8, 0x40, 0x100


class Board(SysBench):
    """An HPET whose outputs are written down: (line, level)."""

    def __init__(self, **properties: Any) -> None:
        super().__init__()
        self.hpet = self.add("hpet", **properties)
        self.seen: list[tuple[str, int]] = []
        for name in ("irq0", "irq8", "legacy"):
            self._watch(name, self.hpet.pin_out(name, 0))
        for n in range(32):
            self._watch(str(n), self.hpet.pin_out(None, n))
        self.reset()
        self.seen.clear()

    def _watch(self, name: str, pin: Any) -> None:
        pin.connect(Line(lambda n, level: self.seen.append((name, level))))

    def get(self, register: int, size: int = 8) -> int:
        return self.read(BASE + register, size)

    def set(self, register: int, value: int, size: int = 8) -> None:
        self.write(BASE + register, value, size)

    def timer(self, n: int, config: int, *values: int) -> None:
        self.set(0x100 + 0x20 * n, config)
        for value in values:
            self.set(0x108 + 0x20 * n, value)

    def took(self) -> list[tuple[str, int]]:
        seen = self.seen[:]
        self.seen.clear()
        return seen


PULSE = [("irq0", 1), ("irq0", 0)]


@pytest.fixture
def board() -> Board:
    return Board()


def test_capabilities(board: Board) -> None:
    assert board.get(CAPABILITIES) == 10_000_000 << 32 | 0x8086A201
    assert board.get(CAPABILITIES + 4, 4) == 10_000_000 and board.get(CAPABILITIES, 4) == 0x8086A201
    assert board.get(0x100) == 0xFF0000 << 32 | 0x30
    assert board.get(0x160) == 0  # no fourth comparator
    board.set(0x160, 0xFFFF)
    assert Board(timers=4).get(0x160) == 0xFF0000 << 32 | 0x30


def test_the_counter_counts_100_mhz_and_can_be_set_while_it_stands(board: Board) -> None:
    board.clock.step(1000)
    assert board.get(COUNTER) == 0
    board.set(COUNTER, 0xFFFFFFF0)
    board.set(CONFIG, ENABLE)
    board.clock.step(1000)
    assert board.get(COUNTER) == 0xFFFFFFF0 + 100
    board.set(COUNTER, 5)  # ignored
    assert board.get(COUNTER + 4, 4) == 1 and board.get(COUNTER, 4) == 0x54
    board.set(CONFIG, 0, 4)
    board.clock.step(1000)
    assert board.get(COUNTER) == 0x1_0000_0054
    board.set(COUNTER + 4, 7, 4)
    assert board.get(COUNTER) == 0x7_0000_0054


def test_one_shot(board: Board) -> None:
    board.set(CONFIG, ENABLE | LEGACY)
    board.took()
    board.timer(0, INTERRUPTS, 500)
    board.clock.step(4990)
    assert board.took() == []
    board.clock.step(10)
    assert board.took() == PULSE
    board.clock.step(1_000_000)
    assert board.took() == []
    board.timer(0, 0, board.get(COUNTER) + 10)
    board.clock.step(1_000)
    assert board.took() == []  # not enabled
    assert board.clock.next_deadline() is None  # and nobody waits for it


def test_one_shot_in_the_past_comes_with_the_wrap(board: Board) -> None:
    board.set(CONFIG, ENABLE | LEGACY)
    board.took()
    board.clock.step(10_000)
    board.timer(0, INTERRUPTS | MODE_32, 999)
    board.clock.step((1 << 32) * 10 - 20)
    assert board.took() == []
    board.clock.step(10)
    assert board.took() == PULSE


def test_periodic_with_a_first_time_of_its_own(board: Board) -> None:
    """As Linux sets it up: the first value, then the period."""
    board.set(CONFIG, ENABLE | LEGACY)
    board.took()
    board.timer(0, INTERRUPTS | PERIODIC | SET_VALUE | MODE_32, 100, 250)
    assert board.get(0x100) & SET_VALUE == 0
    board.clock.step(1000)
    assert board.took() == PULSE
    assert board.get(0x108) == 350
    for _ in range(5):
        board.clock.step(2490)
        assert board.took() == []
        board.clock.step(10)
        assert board.took() == PULSE
    board.timer(0, PERIODIC | MODE_32)  # interrupts off: it goes on unseen, and nobody is woken
    assert board.clock.next_deadline() is None
    board.clock.step(25_000)
    assert board.get(0x108) == 350 + 15 * 250
    board.timer(0, INTERRUPTS | PERIODIC | MODE_32)
    board.clock.step(2_500)
    assert board.took() == PULSE


def test_a_late_host_makes_one_interrupt_of_the_periods_it_missed(board: Board) -> None:
    board.set(CONFIG, ENABLE | LEGACY)
    board.took()
    board.timer(0, INTERRUPTS | PERIODIC | SET_VALUE, 100, 100)
    board.clock._now += 10_500  # the host slept
    board.clock.run_due()
    assert board.took() == PULSE
    assert board.clock.next_deadline() == 11_000


def test_level_triggered_until_acknowledged(board: Board) -> None:
    board.set(CONFIG, ENABLE)
    board.timer(2, INTERRUPTS | LEVEL | 17 << 9, 100)
    board.clock.step(1000)
    assert board.took() == [("17", 1)]
    assert board.get(STATUS) == 4
    board.set(STATUS, 3)
    assert board.get(STATUS) == 4 and board.took() == []
    board.timer(2, INTERRUPTS | LEVEL | 18 << 9)  # the line moves
    assert board.took() == [("17", 0), ("18", 1)]
    board.set(STATUS, 4)
    assert board.get(STATUS) == 0 and board.took() == [("18", 0)]


def test_a_line_that_is_not_there_cannot_be_chosen(board: Board) -> None:
    board.timer(1, 20 << 9)
    board.timer(1, 5 << 9)
    assert board.get(0x120) >> 9 & 0x1F == 20


def test_legacy_replacement_says_so_and_has_lines_of_its_own(board: Board) -> None:
    board.set(CONFIG, ENABLE | LEGACY)
    assert board.took() == [("legacy", 1)]
    board.timer(1, INTERRUPTS | LEVEL | 17 << 9, board.get(COUNTER) + 10)
    board.clock.step(100)
    assert board.took() == [("irq8", 1)]  # its route does not matter
    board.set(CONFIG, ENABLE)
    assert board.took() == [("irq8", 0), ("legacy", 0), ("17", 1)]
    board.reset()
    assert board.took() == [("17", 0), ("legacy", 0)]


def test_saved_and_loaded(board: Board) -> None:
    board.set(CONFIG, ENABLE | LEGACY)
    board.took()
    board.timer(0, INTERRUPTS | PERIODIC | SET_VALUE, 100, 100)
    saved = board.hpet.save_state()
    board.reset()
    assert board.clock.next_deadline() is None
    board.hpet.load_state(saved)
    board.took()
    board.clock.step(1000)
    assert board.took() == PULSE
