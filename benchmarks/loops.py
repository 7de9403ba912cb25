"""The loops of benchmarks/guests/loop.S, and how their speed is found from runs of different length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import attrs

IMAGE = Path(__file__).with_name("guests") / "loop.bin"
WHICH = 0xFF80  # offset of the two parameters
ROUNDS_MAX = 0xFFFFFFFF


@attrs.frozen
class Loop:
    """One measured loop."""

    name: str
    which: int
    instructions: int  # a round
    text: str


REGISTERS = Loop("registers", 0, 10, "ten register instructions")
MEMORY = Loop("memory", 1, 9, "loads, stores and a read-modify-write")
CALLS = Loop("calls", 2, 12, "a call, pushes, pops and branches")
OUTPUT = Loop("port writes", 3, 3, "OUT to a device")
INPUT = Loop("port reads", 4, 3, "IN from a device")


def image(loop: Loop, rounds: int) -> bytes:
    """The ROM that runs `loop` that many times."""
    content = bytearray(IMAGE.read_bytes())
    struct.pack_into("<II", content, WHICH, loop.which, rounds)
    return bytes(content)


def calibrate(run: Callable[[bytes], float], loop: Loop, seconds: float) -> int:
    """Rounds that take about `seconds` more than one round does."""
    base = run(image(loop, 1))
    rounds = 1000
    while rounds < ROUNDS_MAX:
        took = run(image(loop, rounds)) - base
        if took >= seconds / 4:
            return min(ROUNDS_MAX, max(1, int(rounds * seconds / took)))
        rounds *= 4 if took > seconds / 40 else 10
    return ROUNDS_MAX


def rate(run: Callable[[bytes], float], loop: Loop, rounds: int) -> float:
    """Rounds a second: the difference between a long run and a run of one round."""
    short = run(image(loop, 1))
    long = run(image(loop, rounds))
    return (rounds - 1) / max(long - short, 1e-9)
