"""The loops of benchmarks/guests/loop.S, and how their speed is found from runs of different length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks.peers import Time

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


class Unmeasurable(Exception):
    """Runs of different length take the same time."""


def calibrate(run: Callable[[bytes], Time], loop: Loop, seconds: float) -> int:
    """Rounds that take about `seconds` more than one round does."""
    base = run(image(loop, 1)).processor
    rounds = 1000
    while rounds < ROUNDS_MAX:
        took = run(image(loop, rounds)).processor - base
        if took >= seconds / 4:
            return min(ROUNDS_MAX, max(1, int(rounds * seconds / took)))
        rounds *= 4 if took > seconds / 40 else 10
    return ROUNDS_MAX


def rate(run: Callable[[bytes], Time], loop: Loop, rounds: int, tries: int = 5) -> float:
    """Rounds a second: the difference between a long run and a run of one round.

    A long run that is not clearly longer than the short one measures nothing and is made again, at most `tries` times;
    Unmeasurable then.
    """
    for _ in range(tries):
        short = run(image(loop, 1)).processor
        long = run(image(loop, rounds)).processor
        if long > short * 1.02:
            return (rounds - 1) / (long - short)
    raise Unmeasurable(f"{rounds} rounds of '{loop.name}' take no longer than one")
