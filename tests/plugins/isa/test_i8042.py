"""The keyboard controller with its keyboard and mouse, and port 92h, by their ports."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from plugins.isa.ps2 import KEYS, TRANSLATION
from qom.hw.bench import IsaBench, LineRecorder


class Keyboard(IsaBench):
    """A bench with the controller; A20 recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.i8042 = self.add("i8042", "i8042")
        self.a20 = LineRecorder("a20", 1)
        self.i8042.connect_out("a20", 0, self.a20.line(0))

    def drain(self) -> list[int]:
        """Everything in the output buffer, now and next."""
        found = []
        while self.inb(0x64) & 1:
            found.append(self.inb(0x60))
        return found

    def command(self, value: int, *arguments: int) -> list[int]:
        self.outb(0x64, value)
        for argument in arguments:
            self.outb(0x60, argument)
        return self.drain()

    def tell(self, *values: int) -> list[int]:
        """Bytes to the keyboard, each answered."""
        answers = []
        for value in values:
            self.outb(0x60, value)
            answers += self.drain()
        return answers

    def tell_mouse(self, *values: int) -> list[int]:
        answers = []
        for value in values:
            answers += self.command(0xD4, value)
        return answers


@pytest.fixture
def bench() -> Keyboard:
    return Keyboard()


def test_controller_commands(bench: Keyboard) -> None:
    assert bench.command(0xAA) == [0x55]
    assert bench.inb(0x64) & 0x04
    assert [bench.command(c) for c in (0xAB, 0xA9, 0xA4, 0xC0)] == [[0], [0], [0xF1], [0x80]]
    assert bench.command(0x60, 0x47) == []
    assert bench.command(0x20) == [0x47]
    bench.command(0xAD)
    bench.command(0xA7)
    assert bench.command(0x20) == [0x77]
    bench.command(0xAE)
    bench.command(0xA8)
    assert bench.command(0x20) == [0x47]
    assert bench.command(0xD2, 0x12) == [0x12]
    bench.outb(0x64, 0x99)
    assert bench.system.logged == [
        ("guest_errors", "/machine/peripheral/i8042: keyboard controller command 0x99 is not known")
    ]


def test_seabios_finds_a_keyboard_at_once(bench: Keyboard) -> None:
    """The accesses of its keyboard set-up, in order."""
    bench.drain()
    assert bench.command(0xAA) == [0x55]
    assert bench.command(0xAB) == [0x00]
    bench.command(0x60, 0x30)
    bench.command(0x60, 0x20)
    assert bench.tell(0xFF) == [0xFA, 0xAA]
    bench.command(0x60, 0x30)
    assert bench.tell(0xF5) == [0xFA]
    assert bench.tell(0xF0, 0x02) == [0xFA, 0xFA]
    bench.command(0x60, 0x61)
    assert bench.tell(0xF4) == [0xFA]
    assert bench.clock.now() == 0


def test_interrupts_follow_the_buffer(bench: Keyboard) -> None:
    bench.i8042.keyboard.key("a", True)
    bench.i8042.keyboard.key("a", False)
    assert bench.irq_level(1) == 1
    assert bench.inb(0x60) == 0x1C
    assert (bench.irq_level(1), bench.irq_edges(1)) == (1, 2)
    assert bench.drain() == [0xF0, 0x1C]
    assert bench.irq_level(1) == 0
    assert bench.inb(0x60) == 0x1C  # the buffer keeps what was read last
    bench.command(0x60, 0x00)
    bench.i8042.keyboard.key("a", True)
    assert bench.irq_level(1) == 0
    bench.command(0x60, 0x01)
    assert bench.irq_edges(1) == 4


def test_translation(bench: Keyboard) -> None:
    bench.command(0x60, 0x45)
    for name, code in KEYS.items():
        if name in ("print", "sysrq", "pause"):
            continue  # they send more, see below
        for down in (True, False):
            bench.i8042.keyboard.key(name, down)
            expected = [0xE0] * (code > 0xFF) + [code & 0xFF | (0 if down else 0x80)]
            assert bench.drain() == expected, name
    assert bench.tell(0xF2) == [0xFA, 0xAB, 0x41]
    assert len(TRANSLATION) == 128


def test_keys_that_pretend_others_move(bench: Keyboard) -> None:
    bench.command(0x60, 0x45)

    def typed(*names: str) -> str:
        for name in names:
            bench.i8042.keyboard.key(name, True)
        for name in reversed(names):
            bench.i8042.keyboard.key(name, False)
        return bytes(bench.drain()).hex()

    assert typed("print") == typed("sysrq") == "e02ae037e0b7e0aa"
    assert typed("shift", "print") == "2ae037e0b7aa"
    assert typed("alt", "print") == "38b83854d4b838b8"
    assert typed("pause") == "e11d45e19dc5"
    assert typed("ctrl", "pause") == "1de046e0c69d"
    assert typed("menu") == typed("no such key") == ""


def test_keyboard_commands(bench: Keyboard) -> None:
    assert bench.tell(0xF2) == [0xFA, 0xAB, 0x83]
    assert bench.tell(0xED, 0x07, 0xEE) == [0xFA, 0xFA, 0xEE]
    assert bench.i8042.keyboard.leds == 7
    assert bench.tell(0xFE) == [0xEE]
    assert bench.tell(0xF0, 0x01, 0xF0, 0x00) == [0xFA, 0xFA, 0xFA, 0xFA, 0x01]
    bench.i8042.keyboard.key("up", False)
    assert bench.drain() == [0xE0, 0xC8]
    assert bench.tell(0xF0, 0x04) == [0xFA, 0xFE]
    assert bench.tell(0xF5) == [0xFA]
    bench.i8042.keyboard.key("a", True)
    assert bench.drain() == []
    assert bench.tell(0xF4, 0x00) == [0xFA, 0xFE]


def test_full_queue_loses_keys_not_halves(bench: Keyboard) -> None:
    for _ in range(20):
        bench.i8042.keyboard.key("up", False)
    found = bench.drain()
    assert found == [0xE0, 0xF0, 0x75] * (len(found) // 3)
    assert len(found) in (15, 16, 17, 18)


def test_disabled_port_holds_its_bytes(bench: Keyboard) -> None:
    bench.command(0xAD)
    bench.i8042.keyboard.key("a", True)
    assert bench.inb(0x64) & 1 == 0
    bench.outb(0x64, 0xAE)
    assert bench.drain() == [0x1C]


def test_mouse(bench: Keyboard) -> None:
    bench.command(0x60, 0x47)
    bench.outb(0x64, 0xD4)
    bench.outb(0x60, 0xFF)
    assert bench.inb(0x64) & 0x21 == 0x21
    assert bench.irq_level(12) == 1
    assert bench.drain() == [0xFA, 0xAA, 0x00]
    mouse = bench.i8042.mouse
    mouse.move(5, 5)
    assert bench.drain() == []  # not enabled
    assert bench.tell_mouse(0xF4) == [0xFA]
    mouse.move(1, 2, buttons=5)
    assert bench.drain() == [0x0D, 1, 2]  # what moved before does not count
    mouse.move(-300, -3, buttons=0)
    assert bench.drain() == [0x38, 0x00, 0xFD]
    mouse.move(0, 0)
    assert bench.drain() == [0x18, 0xD4, 0x00]
    assert bench.tell_mouse(0xE9) == [0xFA, 0x20, 2, 100]
    assert bench.tell_mouse(0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2) == [0xFA] * 7 + [3]
    mouse.move(0, 0, -1)
    assert bench.drain() == [0x08, 0, 0, 0xFF]
    assert bench.tell_mouse(0xF3, 200, 0xF3, 200, 0xF3, 80, 0xF2) == [0xFA] * 7 + [4]
    mouse.move(0, 0, 1, buttons=0x18)
    assert bench.drain() == [0x08, 0, 0, 0x31]
    assert bench.tell_mouse(0xEE, 0xF2, 0x12, 0xEC) == [0xFA, 0xF2, 0x12, 0xFA]
    assert bench.tell_mouse(0xF0) == [0xFA]
    mouse.move(3, 0)
    assert bench.tell_mouse(0xEB) == [0xFA, 0x08, 3, 0, 0x30]


def test_a20_and_reset(bench: Keyboard) -> None:
    assert bench.a20.levels == [1]
    bench.outb(0x64, 0xDD)
    assert bench.a20.levels == [0]
    bench.command(0xD1, 0xDF)
    assert bench.a20.levels == [1]
    assert bench.command(0xD0) == [0xDF]
    bench.command(0xD1, 0xDD)
    assert bench.a20.levels == [0]
    bench.outb(0x64, 0xFF)
    assert bench.system.resets == []
    bench.outb(0x64, 0xFE)
    assert bench.system.resets == ["i8042"]
    bench.reset()
    assert bench.a20.levels == [1]


def test_port_92() -> None:
    bench = IsaBench()
    port = bench.add("port92")
    a20 = LineRecorder("a20", 1)
    port.connect_out("a20", 0, a20.line(0))
    bench.outb(0x92, 0x02)
    assert (bench.inb(0x92), a20.levels) == (0x02, [1])
    bench.outb(0x92, 0x03)
    bench.outb(0x92, 0x03)
    assert bench.system.resets == ["port92"]
    bench.reset()
    assert (bench.inb(0x92), a20.levels) == (0, [0])


def test_state_round_trip(bench: Keyboard) -> None:
    bench.i8042.keyboard.key("up", True)
    saved = [device.save_state() for device in (bench.i8042, bench.i8042.keyboard)]
    bench.reset()
    assert bench.drain() == []
    bench.i8042.load_state(saved[0])
    bench.i8042.keyboard.load_state(saved[1])
    assert bench.drain() == [0xE0, 0x75]


def test_same_as_qemu(bench: Keyboard, both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Commands and their answers, drained between; not compared: which of the ports was written last (status bit 3)."""
    dice = random.Random(8042)
    bench.add("port92")
    accesses: list[str] = []

    def out(port: int, value: int) -> None:
        accesses.append(f"outb {port:#x} {value:#x}")

    def drain(n: int) -> None:
        accesses.extend(["inb 0x64", "inb 0x60"] * n)
        accesses.append("inb 0x64")

    out(0x64, 0xAA)
    drain(1)
    out(0x64, 0xD4)
    out(0x60, 0xFF)  # QEMU's mouse has the data sheet's defaults only after a reset command
    drain(3)
    for _ in range(600):
        kind = dice.randrange(10)
        if kind < 3:
            out(0x64, dice.choice((0x20, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAD, 0xAE, 0xC0, 0xDD, 0xDF)))
        elif kind < 5:
            out(0x64, 0x60)
            out(0x60, dice.randrange(256) & 0x77 | 0x04)
        elif kind < 6:
            out(0x64, dice.choice((0xD2, 0xD3)))
            out(0x60, dice.randrange(256))
        elif kind < 8:
            value = dice.choice((0xED, 0xF3, 0xF4, 0xF2, 0xEE, 0xFF))
            out(0x60, value)
            if value in (0xED, 0xF3):
                drain(1)
                out(0x60, dice.randrange(8))
        else:
            value = dice.choice((0xF3, 0xE8, 0xF2, 0xE6, 0xE7, 0xE9, 0xEA, 0xF4, 0xF5, 0xF6, 0xFF))
            out(0x64, 0xD4)
            out(0x60, value)
            if value in (0xF3, 0xE8):
                drain(1)
                out(0x64, 0xD4)
                out(0x60, dice.choice((200, 100, 80, 3)) if value == 0xF3 else dice.randrange(4))
        drain(4)
        if dice.randrange(8) == 0:
            out(0x92, dice.choice((0, 2)))
            accesses.append("inb 0x92")
    both(bench, accesses, machine=qemu(), ignore={"inb 0x64": 0x08})
