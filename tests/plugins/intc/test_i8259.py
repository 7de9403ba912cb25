"""The 8259A pair, by its ports and lines."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from qom.hw.bench import IsaBench, LineRecorder

MASTER, SLAVE = "/machine/unattached/device[6]", "/machine/unattached/device[7]"  # QEMU's


class Pair(IsaBench):
    """A master and a slave, wired as in a PC."""

    def __init__(self) -> None:
        super().__init__()
        self.slave = self.add("isa-i8259", "slave", iobase=0xA0, master=False, elcr_addr=0x4D1, elcr_mask=0xDE)
        self.pic = self.add("isa-i8259", "master", slave=self.slave)
        self.intr = LineRecorder("intr", 1)
        self.slave.connect_out("intr", 0, self.pic.line_in(None, 2))
        self.pic.connect_out("intr", 0, self.intr.line(0))

    def start(self, icw4: int = 0x01) -> None:
        """As a PC's firmware does: vectors 08h and 70h."""
        for port, base, cascade in ((0x20, 0x08, 4), (0xA0, 0x70, 2)):
            self.outb(port, 0x11)
            self.outb(port + 1, base)
            self.outb(port + 1, cascade)
            self.outb(port + 1, icw4)
            self.outb(port + 1, 0)

    def irq(self, n: int, level: int) -> None:
        """Drive ISA line n."""
        (self.pic if n < 8 else self.slave).line_in(None, n & 7).set(level)


@pytest.fixture
def pair() -> Pair:
    bench = Pair()
    bench.start()
    return bench


def test_priority_and_nesting(pair: Pair) -> None:
    pair.irq(4, 1)
    pair.irq(1, 1)
    assert pair.intr.levels == [1]
    assert pair.pic.get_interrupt() == 0x09
    assert pair.intr.levels == [0]  # 4 is below what is in service
    pair.irq(0, 1)
    assert pair.pic.get_interrupt() == 0x08
    pair.outb(0x20, 0x0B)
    assert pair.inb(0x20) == 0x03
    pair.outb(0x20, 0x20)
    assert pair.inb(0x20) == 0x02
    pair.outb(0x20, 0x20)
    assert pair.intr.levels == [1]
    assert pair.pic.get_interrupt() == 0x0C


def test_cascade_and_both_eois(pair: Pair) -> None:
    pair.irq(12, 1)
    assert pair.pic.get_interrupt() == 0x74
    for port, isr in ((0x20, 0x04), (0xA0, 0x10)):
        pair.outb(port, 0x0B)
        assert pair.inb(port) == isr
    pair.irq(14, 1)
    assert pair.intr.levels == [0]
    pair.outb(0xA0, 0x20)
    pair.outb(0x20, 0x20)
    assert pair.pic.get_interrupt() == 0x76


def test_edge_needs_a_new_edge(pair: Pair) -> None:
    pair.irq(3, 1)
    pair.pic.get_interrupt()
    pair.outb(0x20, 0x20)
    pair.irq(3, 1)
    assert pair.intr.levels == [0]
    pair.irq(3, 0)
    pair.irq(3, 1)
    assert pair.intr.levels == [1]


def test_level_by_elcr(pair: Pair) -> None:
    pair.outb(0x4D0, 0xFF)
    pair.outb(0x4D1, 0xFF)
    assert (pair.inb(0x4D0), pair.inb(0x4D1)) == (0xF8, 0xDE)
    pair.irq(10, 1)
    assert pair.pic.get_interrupt() == 0x72
    pair.outb(0xA0, 0x20)
    pair.outb(0x20, 0x20)
    assert pair.intr.levels == [1]  # still high
    pair.irq(10, 0)
    pair.outb(0xA0, 0x0A)
    assert pair.inb(0xA0) == 0


def test_spurious_interrupts(pair: Pair) -> None:
    assert pair.pic.get_interrupt() == 0x0F
    pair.outb(0x20, 0x0B)
    assert pair.inb(0x20) == 0  # a spurious one is not in service
    pair.outb(0x4D1, 0x04)
    pair.irq(10, 1)
    pair.irq(10, 0)  # gone; the master has latched the cascade's edge
    assert pair.pic.get_interrupt() == 0x77
    assert pair.inb(0x20) == 0x04


def test_poll(pair: Pair) -> None:
    pair.outb(0x20, 0x0C)
    assert pair.inb(0x20) == 0
    pair.irq(5, 1)
    pair.outb(0x20, 0x0C)
    assert pair.inb(0x20) == 0x85
    pair.outb(0x20, 0x0B)
    assert pair.inb(0x20) == 0x20


def test_rotation(pair: Pair) -> None:
    pair.outb(0x20, 0xC3)  # 3 is lowest, 4 highest
    for n in (0, 4):
        pair.irq(n, 1)
    assert pair.pic.get_interrupt() == 0x0C
    pair.outb(0x20, 0xA0)  # rotate on non-specific EOI: 4 is lowest
    pair.irq(5, 1)
    assert pair.pic.get_interrupt() == 0x0D


def test_auto_eoi_and_rotation_in_it() -> None:
    pair = Pair()
    pair.start(icw4=0x03)
    pair.outb(0x20, 0x80)
    for n in (1, 3):
        pair.irq(n, 1)
    assert pair.pic.get_interrupt() == 0x09
    pair.irq(1, 0)
    pair.irq(1, 1)
    assert pair.pic.get_interrupt() == 0x0B  # 1 went to the end
    pair.outb(0x20, 0x0B)
    assert pair.inb(0x20) == 0


def test_special_mask_mode(pair: Pair) -> None:
    pair.irq(1, 1)
    pair.pic.get_interrupt()
    pair.outb(0x21, 0x02)
    pair.outb(0x20, 0x68)
    pair.irq(6, 1)
    assert pair.pic.get_interrupt() == 0x0E  # lower than 1, which is in service but masked
    pair.outb(0x20, 0x20)
    pair.outb(0x20, 0x0B)
    assert pair.inb(0x20) == 0x02  # a non-specific EOI leaves the masked level alone
    pair.outb(0x20, 0x61)
    assert pair.inb(0x20) == 0


def test_special_fully_nested_mode() -> None:
    pair = Pair()
    pair.start(icw4=0x11)
    pair.irq(12, 1)
    assert pair.pic.get_interrupt() == 0x74
    pair.irq(9, 1)  # of higher priority, from the same slave
    assert pair.pic.get_interrupt() == 0x71


def test_initialisation_forgets(pair: Pair) -> None:
    pair.irq(3, 1)
    pair.irq(1, 1)
    pair.pic.get_interrupt()
    pair.outb(0x21, 0xFF)
    pair.start()
    assert pair.inb(0x21) == 0
    assert pair.inb(0x20) == 0  # IRR is selected, and empty
    assert pair.intr.levels == [0]
    pair.irq(3, 1)
    assert pair.intr.levels == [0]  # the edge sense circuit waits for a new edge


def test_state_round_trip(pair: Pair) -> None:
    pair.irq(12, 1)
    saved = pair.pic.save_state()
    pair.pic.reset()
    assert not pair.pic.has_interrupt()
    pair.pic.load_state(saved)
    assert pair.pic.get_interrupt() == 0x74


def test_same_as_qemu(both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Random commands and edges; left out is only where we follow the data sheet and QEMU does not."""
    dice = random.Random(8259)
    pair = Pair()
    accesses: list[str] = []
    levels = [0] * 16

    def reinitialise() -> None:
        for n in range(16):  # QEMU takes a line that is high at ICW1 for a new edge when it is set again
            if levels[n] and n != 2:
                levels[n] = 0
                accesses.append(f"set_irq_in {MASTER if n < 8 else SLAVE} unnamed-gpio-in {n & 7} 0")
        for port, base in ((0xA0, 0x70), (0x20, 0x08)):
            icw4 = dice.choice((0x01, 0x01, 0x03, 0x11))
            for at, value in ((0, 0x11), (1, base), (1, 0), (1, icw4)):
                accesses.append(f"outb {port + at:#x} {value:#x}")
        for elcr in (0x4D0, 0x4D1):  # while no line is high: QEMU's IRR does not follow the ELCR
            accesses.append(f"outb {elcr:#x} {dice.randrange(256) & dice.randrange(256):#x}")

    reinitialise()
    for _ in range(3000):
        choice = dice.randrange(100)
        port = dice.choice((0x20, 0xA0))
        if choice < 45:
            n = dice.choice([n for n in range(16) if n != 2])
            levels[n] ^= 1
            accesses.append(f"set_irq_in {MASTER if n < 8 else SLAVE} unnamed-gpio-in {n & 7} {levels[n]}")
        elif choice < 70:
            accesses.append(f"outb {port:#x} 0x0c")
            accesses.append(f"inb {port:#x}")
        elif choice < 85:
            accesses.append(
                f"outb {port:#x} {dice.choice((0x20, 0x60, 0xA0, 0xC0, 0xE0, 0x80, 0)) | dice.randrange(8):#x}"
            )
        elif choice < 98:
            accesses.append(f"outb {port + 1:#x} {dice.randrange(256) & dice.randrange(256):#x}")
        else:
            reinitialise()
        for at in (0x20, 0xA0):
            accesses += [f"outb {at:#x} 0x0a", f"inb {at:#x}", f"outb {at:#x} 0x0b", f"inb {at:#x}", f"inb {at + 1:#x}"]
        accesses += ["inb 0x4d0", "inb 0x4d1"]
    lines = {MASTER: lambda n, level: pair.irq(n, level), SLAVE: lambda n, level: pair.irq(n + 8, level)}
    both(pair, accesses, lines, qemu())
