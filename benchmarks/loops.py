"""The loops of benchmarks/guests, and how their speed is found from runs of different length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks.peers import Time

GUESTS = Path(__file__).with_name("guests")
WHICH = 0xFF80  # offset of the two parameters
ROUNDS_MAX = 0xFFFFFFFF


@attrs.frozen
class Loop:
    """One measured loop.

    name: of its row.  which: its number in its image.  amount: what one round is, in `unit`s before their prefix.
    text: what it does.  guest: the image, without ".bin".  processors: how many it needs.
    by_wall: the time on the wall counts, not that of the processors.
    """

    name: str
    which: int
    amount: int
    text: str
    unit: str = "M instr/s"
    guest: str = "loop"
    processors: int = 1
    by_wall: bool = False


REGISTERS = Loop("registers", 0, 10, "ten register instructions")
MEMORY = Loop("memory", 1, 9, "loads, stores and a read-modify-write")
CALLS = Loop("calls", 2, 12, "a call, pushes, pops and branches")
OUTPUT = Loop("port writes", 3, 1, "OUT to a device", "k exits/s")
INPUT = Loop("port reads", 4, 1, "IN from a device", "k exits/s")
PORTS = (OUTPUT, INPUT)


def _long(which: int, name: str, amount: int, unit: str, text: str) -> Loop:
    return Loop(f"64-bit {name}", which, amount, text, unit, "loop64")


INSTRUCTIONS = "M instr/s"
COUNTED = (
    *(REGISTERS, MEMORY, CALLS),
    _long(0, "registers", 10, INSTRUCTIONS, "ten register instructions"),
    _long(1, "memory", 9, INSTRUCTIONS, "loads, stores and a read-modify-write"),
    _long(2, "calls", 13, INSTRUCTIONS, "a call, pushes, pops and a branch"),
    _long(3, "branches", 18, INSTRUCTIONS, "three branches of four that cannot be foreseen"),
    _long(8, "SSE copies", 13, INSTRUCTIONS, "loads and stores of 16 bytes, aligned or not"),
    _long(9, "SSE arithmetic", 12, INSTRUCTIONS, "scalar floating point, conversions, packed integers"),
    _long(10, "x87", 9, INSTRUCTIONS, "loads, a product, a sum, a quotient, a store"),
    _long(18, "multiplications", 8, INSTRUCTIONS, "MUL, IMUL and DIV of 64 bits"),
    _long(19, "locked", 6, INSTRUCTIONS, "LOCK ADD, LOCK XADD, XCHG"),
)
"""Loops with a known number of instructions a round."""
OTHERS = (
    _long(4, "small copies", 64, "MB/s", "REP MOVSB of 32 bytes, REP MOVSQ of 32"),
    _long(5, "large copies", 65536, "MB/s", "REP MOVSQ of 64 KiB"),
    _long(6, "large fills", 65536, "MB/s", "REP STOSQ of 64 KiB"),
    _long(7, "scans", 256, "MB/s", "REPNE SCASB and REPE CMPSB of 128 bytes each"),
    _long(11, "table walks", 1, "M/s", "additions to memory, each to another of 2048 pages"),
    _long(12, "CR3 writes", 1, "k/s", "CR3 written, then eight pages touched"),
    _long(13, "invalidations", 1, "k/s", "INVLPG, then the page read"),
    _long(14, "page faults", 1, "k/s", "a page fault, its handler, IRETQ"),
    _long(15, "system calls", 1, "k/s", "SYSCALL, SYSRETQ"),
    _long(16, "interrupts", 1, "k/s", "INT n, IRETQ"),
    _long(17, "written code", 1, "k/s", "a function of seven instructions written, then called"),
)
"""Loops that are measured by something else."""
ALONE = Loop("one processor", 20, 9, "loads, stores and arithmetic, time on the wall", INSTRUCTIONS, "loop64", 1, True)
TOGETHER = Loop("two processors", 21, 18, "the same on two at once", INSTRUCTIONS, "loop64", 2, True)
SEVERAL = (ALONE, TOGETHER)
"""Loops that need a whole machine with several processors."""


def image(loop: Loop, rounds: int) -> bytes:
    """The ROM that runs `loop` that many times."""
    content = bytearray((GUESTS / f"{loop.guest}.bin").read_bytes())
    struct.pack_into("<II", content, WHICH, loop.which, rounds)
    return bytes(content)


class Unmeasurable(Exception):
    """Runs of different length take the same time."""


def _time(loop: Loop, took: Time) -> float:
    return took.wall if loop.by_wall else took.processor


def calibrate(run: Callable[[bytes], Time], loop: Loop, seconds: float) -> int:
    """Rounds that take about `seconds` more than one round does."""
    base = _time(loop, run(image(loop, 1)))
    rounds = 1000
    while rounds < ROUNDS_MAX:
        took = _time(loop, run(image(loop, rounds))) - base
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
        short = _time(loop, run(image(loop, 1)))
        long = _time(loop, run(image(loop, rounds)))
        if long > short * 1.02:
            return (rounds - 1) / (long - short)
    raise Unmeasurable(f"{rounds} rounds of '{loop.name}' take no longer than one")
