"""What an interrupt controller says of itself, for people who look (`info pic`, `info lapic`, `info irq`).

A controller has a method `interrupt_reports() -> list` of these, called with the machine lock held; one that counts has
`interrupt_counts() -> list[int]`, by input, how often it was raised.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["IoApicReport", "LapicReport", "PicReport"]


class PicReport(NamedTuple):
    """An 8259A.

    number: 0 for the first of a pair.  highest: the input with the highest priority.  base: the vector of input 0.
    reads_isr: what the command port reads.  nested: special fully nested mode.
    """

    number: int
    irr: int
    imr: int
    isr: int
    highest: int
    base: int
    reads_isr: bool
    elcr: int
    nested: bool


class IoApicReport(NamedTuple):
    """An I/O APIC.

    version: of its version register, the low byte.  select: IOREGSEL.  irr: a bit for each input that asks.
    entries: the redirection entries.
    """

    id: int
    version: int
    select: int
    irr: int
    entries: tuple[int, ...]


class LapicReport(NamedTuple):
    """A local APIC.  registers: by offset in its page (Intel SDM volume 3, table 11-1).  x2apic: in that mode."""

    registers: dict[int, int]
    x2apic: bool
