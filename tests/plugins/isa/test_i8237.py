"""The DMA controllers, by their ports and by the channels that devices use."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from qom.hw.bench import IsaBench


class Dma(IsaBench):
    """Both controllers, with RAM."""

    def __init__(self) -> None:
        super().__init__()
        self.ram(0, 0x40000)
        self.dma = self.add("i8257")
        self.outb(0xD6, 0xC0)  # channel 4 cascades
        self.outb(0xD4, 0x00)

    def program(self, n: int, address: int, count: int, mode: int) -> None:
        """As a driver does: mask, flip-flop, mode, address, count, page, unmask."""
        base, step = (0x00, 1) if n < 4 else (0xC0, 2)
        page = {0: 0x87, 1: 0x83, 2: 0x81, 3: 0x82, 5: 0x8B, 6: 0x89, 7: 0x8A}[n]
        k = n & 3
        self.outb(base + 10 * step, 4 | k)
        self.outb(base + 12 * step, 0)
        self.outb(base + 11 * step, mode | k)
        at = address if n < 4 else address >> 1
        for register, value in ((2 * k, at), (2 * k + 1, count)):
            self.outb(base + register * step, value & 0xFF)
            self.outb(base + register * step, value >> 8 & 0xFF)
        self.outb(page, address >> 16)
        self.outb(base + 10 * step, k)


@pytest.fixture
def bench() -> Dma:
    return Dma()


def test_to_memory_until_the_terminal_count(bench: Dma) -> None:
    channel = bench.isa.dma_channel(2)
    bench.program(2, 0x12340, 9, 0x44)
    assert channel.ready
    assert channel.to_memory(b"0123456") == 7
    assert not channel.at_end
    assert channel.to_memory(b"789abc") == 3
    assert channel.at_end
    assert bench.memory.read_bytes(0x12340, 12) == b"0123456789\0\0"
    assert not channel.ready
    assert bench.inb(0x08) == 0x04
    assert bench.inb(0x08) == 0


def test_from_memory_and_autoinit(bench: Dma) -> None:
    channel = bench.isa.dma_channel(1)
    bench.memory.write_bytes(0x20000, b"abcd")
    bench.program(1, 0x20000, 3, 0x58)
    assert channel.from_memory(10) == b"abcdabcdab"
    assert bench.inb(0x02) | bench.inb(0x02) << 8 == 2


def test_words(bench: Dma) -> None:
    channel = bench.isa.dma_channel(5)
    bench.program(5, 0x3FFFC, 3, 0x44)
    assert channel.to_memory(b"ABCDE") == 4  # the odd byte stays
    assert channel.to_memory(b"EFGH") == 4
    assert bench.memory.read_bytes(0x3FFFC, 4) == b"ABCD"
    assert bench.memory.read_bytes(0x20000, 4) == b"EFGH"  # the address wraps within 128 KiB


def test_page_wrap_and_decrement(bench: Dma) -> None:
    channel = bench.isa.dma_channel(3)
    bench.program(3, 0x1FFFE, 3, 0x44)
    assert channel.to_memory(b"wxyz") == 4
    assert bench.memory.read_bytes(0x1FFFE, 2) == b"wx"
    assert bench.memory.read_bytes(0x10000, 2) == b"yz"
    bench.program(3, 0x10003, 3, 0x64)
    assert channel.to_memory(b"1234") == 4
    assert bench.memory.read_bytes(0x10000, 4) == b"4321"
    bench.program(3, 0x10003, 3, 0x68)
    assert channel.from_memory(4) == b"1234"


def test_nothing_moves_when_it_must_not(bench: Dma) -> None:
    channel = bench.isa.dma_channel(2)
    bench.program(2, 0, 9, 0x48)
    assert channel.to_memory(b"x") == 0  # set up for the other direction
    bench.outb(0x0A, 0x06)
    assert channel.from_memory(1) == b""
    bench.outb(0x0A, 0x02)
    bench.outb(0xD4, 0x04)  # the cascade is masked
    assert channel.from_memory(1) == b""
    bench.outb(0xD4, 0x00)
    bench.outb(0x08, 0x04)  # the controller is disabled
    assert channel.from_memory(1) == b""
    bench.outb(0x08, 0x00)
    assert channel.from_memory(1) == b"\0"


def test_device_hears_of_the_unmasking(bench: Dma) -> None:
    heard: list[bool] = []
    channel = bench.isa.dma_channel(2)
    channel.on_ready = lambda: heard.append(channel.ready)
    bench.program(2, 0, 9, 0x48)
    assert heard == [True]
    bench.outb(0x0D, 0)
    bench.outb(0x0E, 0)
    assert heard == [True, True]


def test_state_round_trip(bench: Dma) -> None:
    bench.program(2, 0x12345, 9, 0x44)
    saved = bench.dma.save_state()
    bench.reset()
    assert not bench.isa.dma_channel(2).ready
    bench.dma.load_state(saved)
    assert bench.isa.dma_channel(2).to_memory(b"hi") == 2
    assert bench.memory.read_bytes(0x12345, 2) == b"hi"


def test_same_as_qemu(bench: Dma, both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Addresses, counts and pages, written and read back in halves."""
    dice = random.Random(8237)
    accesses = ["outb 0x0d 0", "outb 0xda 0"]
    pages = (0x87, 0x83, 0x81, 0x82, 0x8B, 0x89, 0x8A)
    for page in pages:
        accesses.append(f"outb {page:#x} 0")
    for _ in range(1000):
        base, step = dice.choice(((0x00, 1), (0xC0, 2)))
        register = base + dice.randrange(8) * step
        accesses += [f"outb {base + 12 * step:#x} 0"]  # whole values: QEMU takes half of one only with its other half
        accesses += [f"outb {register:#x} {dice.randrange(256):#x}" for _ in range(2)]
        accesses += [f"outb {base + 12 * step:#x} 0"]
        accesses += [f"inb {base + dice.randrange(8) * step:#x}" for _ in range(3)]
        accesses += [f"outb {base + 10 * step:#x} {dice.randrange(8):#x}"]
        accesses += [f"outb {dice.choice(pages):#x} {dice.randrange(256):#x}", f"inb {dice.choice(pages):#x}"]
    both(bench, accesses, machine=qemu())
