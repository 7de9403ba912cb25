"""The 8254, by its ports, its gates and a stepped clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from qom.hw.bench import IsaBench, LineRecorder

CLK_HZ = 1_193_182


class Timer(IsaBench):
    """An 8254 with port 61h; OUT0 is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.pit = self.add("isa-pit", "pit")
        self.add("port61", pit=self.pit)
        self.out0 = LineRecorder("out0", 1)
        self.pit.connect_out(None, 0, self.out0.line(0))
        self.ticks = 0

    def step(self, ticks: int) -> None:
        """Let `ticks` periods of CLK pass."""
        self.ticks += ticks
        self.clock.step(-(-self.ticks * 1_000_000_000 // CLK_HZ) - self.clock.now())

    def program(self, n: int, mode: int, count: int, bcd: int = 0) -> None:
        self.outb(0x43, n << 6 | 0x30 | mode << 1 | bcd)
        self.outb(0x40 + n, count & 0xFF)
        self.outb(0x40 + n, count >> 8)

    def count(self, n: int) -> int:
        self.outb(0x43, n << 6)
        return self.inb(0x40 + n) | self.inb(0x40 + n) << 8

    def trace(self, n: int, ticks: int) -> str:
        """OUT of counter n over time, one character a tick."""
        shown = ""
        for _ in range(ticks):
            shown += "#" if self.pit.out(n) else "_"
            self.step(1)
        return shown

    def gate2(self, level: int) -> None:
        self.outb(0x61, level)


@pytest.fixture
def bench() -> Timer:
    return Timer()


def test_mode_0_terminal_count(bench: Timer) -> None:
    bench.gate2(1)
    bench.program(2, 0, 4)
    assert bench.trace(2, 7) == "____###"
    assert bench.count(2) == 0x10000 - 3  # it goes on counting
    bench.program(2, 0, 10)
    bench.step(3)
    bench.gate2(0)
    bench.step(100)
    assert bench.count(2) == 7
    bench.gate2(1)
    bench.step(2)
    assert bench.count(2) == 5
    assert not bench.inb(0x61) & 0x20
    bench.step(5)
    assert bench.inb(0x61) & 0x20


def test_mode_0_first_byte_stops(bench: Timer) -> None:
    bench.program(0, 0, 100)
    bench.step(10)
    bench.outb(0x40, 3)
    bench.step(500)
    assert bench.out0.levels == [0]
    bench.outb(0x40, 0)
    bench.step(3)
    assert bench.out0.levels == [1]


def test_mode_1_one_shot(bench: Timer) -> None:
    bench.program(2, 1, 3)
    assert bench.trace(2, 3) == "###"  # waits for the trigger
    bench.gate2(1)
    assert bench.trace(2, 2) == "__"
    bench.gate2(0)
    bench.gate2(1)  # triggered again
    assert bench.trace(2, 5) == "___##"


def test_mode_2_rate(bench: Timer) -> None:
    bench.gate2(1)
    bench.program(2, 2, 4)
    assert bench.trace(2, 9) == "###_###_#"
    bench.program(2, 2, 4)
    counts = []
    for _ in range(6):
        counts.append(bench.count(2))
        bench.step(1)
    assert counts == [4, 3, 2, 1, 4, 3]
    bench.gate2(0)
    assert bench.trace(2, 5) == "#####"
    bench.gate2(1)  # starts anew
    assert bench.trace(2, 5) == "###_#"


def test_mode_2_new_count_waits_for_the_end_of_the_period(bench: Timer) -> None:
    bench.gate2(1)
    bench.program(2, 2, 5)
    bench.step(1)
    bench.outb(0x42, 3)
    bench.outb(0x42, 0)
    assert bench.trace(2, 10) == "###_##_##_"


def test_mode_3_square_wave(bench: Timer) -> None:
    bench.gate2(1)
    bench.program(2, 3, 6)
    assert bench.trace(2, 12) == "###___###___"
    counts = []
    for _ in range(7):
        counts.append(bench.count(2))
        bench.step(1)
    assert counts == [6, 4, 2, 6, 4, 2, 6]
    bench.program(2, 3, 5)
    assert bench.trace(2, 10) == "###__###__"
    assert bench.count(2) == 4
    bench.step(1)
    bench.outb(0x42, 2)
    bench.outb(0x42, 0)
    assert bench.trace(2, 6) == "##_#_#"  # the high half of 5 ends, then 2 is in effect


def test_mode_4_software_strobe(bench: Timer) -> None:
    bench.gate2(1)
    bench.program(2, 4, 3)
    assert bench.trace(2, 6) == "###_##"


def test_mode_5_hardware_strobe(bench: Timer) -> None:
    bench.program(2, 5, 3)
    assert bench.trace(2, 5) == "#####"
    bench.gate2(1)
    assert bench.trace(2, 6) == "###_##"


def test_bcd(bench: Timer) -> None:
    bench.gate2(1)
    bench.program(2, 2, 0x1000, bcd=1)
    bench.step(1)
    assert bench.count(2) == 0x0999
    bench.program(2, 2, 0, bcd=1)
    bench.step(1)
    assert bench.count(2) == 0x9999


def test_latch_holds_until_read(bench: Timer) -> None:
    bench.program(0, 2, 1000)
    bench.outb(0x43, 0)
    bench.step(10)
    bench.outb(0x43, 0)  # ignored: one is latched
    assert bench.inb(0x40) | bench.inb(0x40) << 8 == 1000
    assert bench.count(0) == 990
    bench.outb(0x43, 0x24)  # access high only
    bench.outb(0x40, 0x12)
    assert bench.inb(0x40) == 0x12


def test_read_back(bench: Timer) -> None:
    bench.program(0, 2, 0x1234)
    bench.program(1, 3, 0x4321)
    bench.outb(0x43, 0xC2 | 0x04)  # count and status of 0 and 1
    bench.step(5)
    assert bench.inb(0x40) == 0xB4  # OUT, both bytes, mode 2
    assert (bench.inb(0x40), bench.inb(0x40)) == (0x34, 0x12)
    assert bench.inb(0x41) == 0xB6
    assert (bench.inb(0x41), bench.inb(0x41)) == (0x20, 0x43)
    bench.outb(0x43, 0x30)
    bench.outb(0x43, 0xE2)
    assert bench.inb(0x40) == 0x70  # OUT low, null count


def test_irq_0_keeps_its_rate(bench: Timer) -> None:
    bench.program(0, 2, 11932)
    bench.out0.clear()
    bench.step(11932 * 100)
    assert bench.out0.rises == [100]
    bench.program(0, 3, 11932)
    bench.out0.clear()
    bench.step(11932 * 100)
    assert bench.out0.rises == [100]
    assert len(bench.out0.events) == 200
    bench.program(0, 0, 100)
    bench.out0.clear()
    bench.step(100_000)
    assert bench.out0.rises == [1]
    assert bench.clock.next_deadline() is None


def test_default_is_18_hz(bench: Timer) -> None:
    bench.clock.step(1_000_000_000)
    assert bench.out0.rises[0] in (18, 19)


def test_port_61(bench: Timer) -> None:
    bench.outb(0x61, 0xFF)
    assert bench.inb(0x61) & 0xCF == 0x0F
    toggles, last = 0, bench.inb(0x61) & 0x10
    for _ in range(2000):
        bench.clock.step(500)
        toggles += bench.inb(0x61) & 0x10 != last
        last = bench.inb(0x61) & 0x10
    assert toggles == 1_000_000 // 15_085


def test_state_round_trip(bench: Timer) -> None:
    bench.program(0, 2, 1000)
    bench.step(10)
    saved = bench.pit.save_state()
    bench.pit.reset()
    bench.pit.load_state(saved)
    assert bench.count(0) == 990
    bench.out0.clear()
    bench.step(990)
    assert bench.out0.rises == [1]


def test_same_as_qemu(bench: Timer, both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Commands, latches and read-back at time 0; binary, even counts, and OUT where QEMU follows the data sheet."""
    dice = random.Random(8254)
    accesses = [
        f"outb {port:#x} {value:#x}" for n in range(3) for port, value in ((0x43, n << 6 | 0x16), (0x40 + n, 8))
    ]
    for _ in range(400):
        n = dice.randrange(3)
        mode = dice.choice((0, 3))
        access = dice.choice((1, 2, 3, 3, 3))
        accesses += [f"inb {0x40 + n:#x}"] * 3  # nothing may be latched: a control word clears it, but not in QEMU
        accesses.append(f"outb 0x43 {n << 6 | access << 4 | mode << 1:#x}")
        count = dice.randrange(2, 0x10000, 2)
        parts = {1: (count & 0xFF & ~1,), 2: (count >> 8,), 3: (count & 0xFF, count >> 8)}[access]
        accesses += [f"outb {0x40 + n:#x} {part:#x}" for part in parts]
        for _ in range(4):
            counters = dice.randrange(8) << 1
            what = dice.choice((0x00, 0x10, 0x20))
            accesses.append(f"outb 0x43 {0xC0 | what | counters:#x}")
            accesses += [f"inb {0x40 + dice.randrange(3):#x}" for _ in range(3)]
            if dice.randrange(2):
                accesses += [f"outb 0x43 {n << 6:#x}", f"inb {0x40 + n:#x}", f"inb {0x40 + n:#x}"]
    for n in range(3):  # mode 2, whose OUT QEMU inverts
        accesses += [f"inb {0x40 + n:#x}"] * 3
        accesses += [f"outb 0x43 {n << 6 | 0x34:#x}", f"outb {0x40 + n:#x} 0x9c", f"outb {0x40 + n:#x} 0x2e"]
        accesses += [f"outb 0x43 {n << 6:#x}", f"inb {0x40 + n:#x}", f"inb {0x40 + n:#x}"]
    both(bench, accesses, machine=qemu())


def test_out0_is_not_followed_while_nobody_looks(bench: Timer) -> None:
    bench.outb(0x43, 0x34)
    bench.outb(0x40, 0x00)
    bench.outb(0x40, 0x10)
    bench.pit.set_off(1)
    assert bench.clock.next_deadline() is None
    bench.outb(0x43, 0x34)
    bench.outb(0x40, 0x00)
    bench.outb(0x40, 0x10)
    assert bench.clock.next_deadline() is None
    bench.pit.set_off(0)
    assert bench.clock.next_deadline() is not None


def test_who_polls_out2_does_not_miss_the_time_of_a_gap(bench: Timer) -> None:
    """The guest reads the clock after every read that shows no change; the host takes it away before the last one."""
    bench.outb(0x61, 1)
    bench.outb(0x43, 0xB0)
    bench.outb(0x42, 0xA9)
    bench.outb(0x42, 0x04)  # 1 ms
    clock = bench.clock
    for _ in range(10):
        clock.step(2_000)
        assert not bench.inb(0x61) & 0x20
    clock.step(5_000_000)
    assert not bench.inb(0x61) & 0x20  # as it was before the gap: the guest looks at its clock again
    clock.step(2_000)
    assert bench.inb(0x61) & 0x20
    clock.step(5_000_000)
    assert bench.inb(0x61) & 0x20


def test_port_61_same_as_qemu(bench: Timer, both: Callable[..., None]) -> None:
    """Gate, speaker and OUT2; not compared: the refresh toggle, and the NMI enables that QEMU does not keep."""
    dice = random.Random(61)
    accesses = ["outb 0x43 0xb6", "outb 0x42 0x10", "outb 0x42 0x10"]
    for _ in range(200):
        accesses += [f"outb 0x61 {dice.randrange(4):#x}", "inb 0x61"]
        if dice.randrange(4) == 0:
            accesses += [f"outb 0x43 {dice.choice((0xB0, 0xB6)):#x}", "outb 0x42 0x20", "outb 0x42 0x10", "inb 0x61"]
    both(bench, accesses, ignore={"inb 0x61": 0x10})
