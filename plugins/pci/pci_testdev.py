"""pci-testdev: the PCI test device by which kvm-unit-tests measure what an access costs.

Modelled: the tests of QEMU's docs/specs/pci-testdev, three in each of BAR 0 and BAR 1.  A write of the test's number to the
first byte of a BAR starts it; from then on both BARs begin with a header that says where, how wide and what to write,
how many such writes were seen, and the test's name.  The first test counts the writes of the right byte to its place.  In the
second a notifier takes all accesses of one byte to the place, in the third those with the right value; they are not counted.
Not modelled: notifiers of the accelerator (ioeventfd): an access of these tests costs as much as one of the others.  What
they took is `notified`.
Guest view: function 1b36:0005; BAR 0 4096 bytes of memory, BAR 1 256 ports, and with `membar` BAR 2 so much 64-bit memory
in which nothing is: it reads zeros.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from qom import PciDevice, RealizeError, Region, format_size, prop, state, type_init

MEMORY_SIZE, PORTS = 0x1000, 0x100
MEMORY_AT, PORTS_AT = 0x800, 0x80  # the places that are written lie in the upper halves
START = 0  # offset at which a test is started
HEADER = struct.Struct("<BBHIII")  # test, width of its accesses, padding, offset, data, count
DATA, DATA_TAKEN = 0xFA, 0xCE
NONE = -1


class Measurement(NamedTuple):
    """One test: its name, its BAR, place and byte to write; whether a notifier takes it; whether no other byte counts."""

    name: str
    bar: int
    offset: int
    data: int
    notifier: bool
    match: bool


KINDS = (  # name, byte, whether a notifier takes it, whether only that byte counts
    ("no-eventfd", DATA, False, True),
    ("wildcard-eventfd", DATA_TAKEN, True, False),
    ("datamatch-eventfd", DATA, True, True),
)
TESTS = tuple(
    Measurement(f"{bar}-{kind}", number, at + number * len(KINDS) + n, data, notifier, match)
    for number, (bar, at) in enumerate((("mmio", MEMORY_AT), ("portio", PORTS_AT)))
    for n, (kind, data, notifier, match) in enumerate(KINDS)
)


@type_init("pci-testdev")
class PciTestdev(PciDevice):
    """Something to measure accesses with."""

    vendor_id, device_id, class_code = 0x1B36, 0x0005, 0x00FF
    subsystem_vendor_id, subsystem_id = 0x1AF4, 0x1100
    hotpluggable = True

    membar: int = prop(0, "Size of BAR 2, a power of two; 0: there is none", type="size", unit="bytes")

    current: int = state(reset=NONE, desc="Number of the test that runs; -1: none")
    count: int = state(desc="Writes that the test has seen")
    notified: int = state(desc="Writes that a notifier took")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "PCI test device", "misc"

    def realize(self) -> None:
        """Declare the BARs."""
        self.register_bar(0, Region("pci-testdev-mmio", MEMORY_SIZE, self._read, self._write_memory, (1, 4)))
        self.register_bar(1, Region("pci-testdev-portio", PORTS, self._read, self._write_port, (1, 4)), io=True)
        if self.membar:
            if self.membar < 16 or self.membar & (self.membar - 1):
                text = f"{self.path}: membar is {format_size(self.membar)}: expected a power of two from 16 on"
                raise RealizeError(text)
            nothing = Region("pci-testdev-membar", self.membar, lambda offset, size: 0, None, (1, 8))
            self.register_bar(2, nothing, wide=True, prefetch=True)

    def _header(self) -> bytes:
        if self.current == NONE:
            return b""
        test = TESTS[self.current]
        return HEADER.pack(self.current, 1, 0, test.offset, test.data, self.count) + test.name.encode()

    def _read(self, offset: int, size: int) -> int:
        return int.from_bytes(self._header()[offset : offset + size], "little")

    def _write_memory(self, offset: int, value: int, size: int) -> None:
        self._write(0, offset, value, size)

    def _write_port(self, offset: int, value: int, size: int) -> None:
        self._write(1, offset, value, size)

    def _write(self, bar: int, offset: int, value: int, size: int) -> None:
        if size == 1 and self._notifies(bar, offset, value):
            self.notified += 1
            return
        for at, byte in enumerate(value.to_bytes(size, "little"), offset):
            if at == START:
                self._start(bar, byte)
            elif self.current != NONE:
                test = TESTS[self.current]
                if at == test.offset and (not test.match or byte == test.data):
                    self.count = self.count + 1 & 0xFFFF_FFFF

    def _notifies(self, bar: int, offset: int, value: int) -> bool:
        if self.current == NONE:
            return False
        test = TESTS[self.current]
        hit = test.notifier and (bar, offset) == (test.bar, test.offset)
        return hit and (not test.match or value == test.data)

    def _start(self, bar: int, number: int) -> None:
        self.current = bar * len(KINDS) + number if number < len(KINDS) else NONE
        self.count = self.notified = 0
