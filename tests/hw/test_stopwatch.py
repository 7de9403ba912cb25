"""Stopwatch: an invented ISA interval timer, for the tutorial and the tests.

Modelled: start, stop, alarm interrupt.  Not modelled: prescaler.
Guest view: two 32-bit ports at `iobase`, one edge on ISA line `irq`.
"""

import re
from collections.abc import Iterator

import pytest

from qom import IsaDevice, RealizeError, Region, prop, state, type_init
from qom.hw.bench import IsaBench

CTRL, LIMIT = 0x0, 0x4  # register offsets
RUN, DONE = 0x01, 0x80  # CTRL bits; DONE is read-only


@type_init("isa-stopwatch")
class Stopwatch(IsaDevice):
    iobase: int = prop(0x2A0, "First I/O port")
    irq: int = prop(5, "ISA interrupt line", among=range(16))
    tick_ns: int = prop(1000, "Guest nanoseconds per tick", unit="ns")
    ctrl: int = state()
    limit: int = state(reset=1000)

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = "Stopwatch (example)", "timer"

    def realize(self) -> None:
        if self.tick_ns <= 0:
            raise RealizeError(f"{self.path}: tick-ns must be positive, got {self.tick_ns}")
        self._line = self.isa.irq(self.irq)
        self._alarm = self.clock.timer(self._expire)
        self.isa.map_ports(self.iobase, Region("stopwatch", 8, self._read, self._write, (4, 4)))

    def reset(self) -> None:
        super().reset()  # every state() field goes back to its reset value
        self._alarm.cancel()

    def _read(self, offset: int, size: int) -> int:
        return self.ctrl if offset == CTRL else self.limit

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == LIMIT:
            self.limit = value  # the bus already masked it to `size` bytes
            return
        self.ctrl = value & RUN
        self._alarm.cancel()
        if self.ctrl:
            self._alarm.arm(self.limit * self.tick_ns)

    def _expire(self) -> None:
        self.ctrl = DONE
        self._line.pulse()


# What follows drives the device above, which stands as the style guide prints it.


@pytest.fixture
def bench() -> Iterator[IsaBench]:
    with IsaBench(Stopwatch) as made:
        yield made


def test_it_runs_to_its_limit_and_interrupts_once(bench: IsaBench) -> None:
    bench.add("isa-stopwatch", tick_ns=100)
    bench.outl(0x2A4, 500)
    bench.outl(0x2A0, RUN)
    assert bench.inl(0x2A0) == RUN
    bench.clock.step(49_999)
    assert (bench.inl(0x2A0), bench.irq_edges(5)) == (RUN, 0)
    bench.clock.step(1)
    assert (bench.inl(0x2A0), bench.irq_edges(5), bench.irq_level(5)) == (DONE, 1, 0)
    bench.clock.step(1_000_000)
    assert bench.irq_edges(5) == 1


def test_stopping_it_cancels_the_alarm(bench: IsaBench) -> None:
    bench.add("isa-stopwatch")
    bench.outl(0x2A0, RUN)
    bench.clock.step(999_999)
    bench.outl(0x2A0, 0)
    bench.clock.step(10_000_000)
    assert bench.irq_edges(5) == 0


def test_reset_gives_every_field_its_reset_value(bench: IsaBench) -> None:
    watch = bench.add("isa-stopwatch")
    bench.outl(0x2A4, 7)
    bench.outl(0x2A0, RUN)
    bench.reset()
    assert (watch.ctrl, watch.limit) == (0, 1000)
    bench.clock.step(10_000_000)
    assert bench.irq_edges(5) == 0


def test_two_of_them_on_one_bench_are_named_after_their_ports(bench: IsaBench) -> None:
    first = bench.add("isa-stopwatch", irq=5)
    second = bench.add("isa-stopwatch", iobase=0x3A0, irq=7)
    assert first.path == "/machine/unattached/isa-stopwatch@2a0"
    assert second.path == "/machine/unattached/isa-stopwatch@3a0"
    bench.outl(0x3A0, RUN)
    bench.clock.step(1_000_000)
    assert (bench.irq_edges(5), bench.irq_edges(7)) == (0, 1)


def test_narrow_access_is_refused_and_logged_once(bench: IsaBench) -> None:
    bench.add("isa-stopwatch")
    assert bench.inb(0x2A0) == 0xFF
    assert bench.inb(0x2A1) == 0xFF
    bench.outw(0x2A4, 5)
    assert bench.inl(0x2A4) == 1000
    where = "/machine/unattached/isa-stopwatch@2a0"
    assert bench.system.logged == [
        ("guest_errors", f"{where}: 1-byte read of stopwatch at offset 0x0: it takes 4 bytes or more"),
        ("guest_errors", f"{where}: 2-byte write of stopwatch at offset 0x4: it takes 4 bytes or more"),
    ]


def test_wrong_configuration_is_refused_and_leaves_nothing(bench: IsaBench) -> None:
    where = "/machine/unattached/isa-stopwatch@2a0"
    with pytest.raises(RealizeError, match=rf"^{where}: tick-ns must be positive, got 0$"):
        bench.add("isa-stopwatch", tick_ns=0)
    assert bench.isa.devices == []
    assert bench.ports.flat_view == []
    assert bench.root.resolve("/machine/unattached").children() == {}
    bench.add("isa-stopwatch")
    message = "ports 0x2a4..0x2ab are taken: /machine/unattached/isa-stopwatch@2a0 has 0x2a0..0x2a7 (stopwatch)"
    with pytest.raises(RealizeError, match=re.escape(message)):
        bench.add("isa-stopwatch", iobase=0x2A4)
    assert len(bench.ports.flat_view) == 1


def test_declared_values_are_as_fast_as_plain_attributes(bench: IsaBench) -> None:
    """CPython specialises reading an instance's attribute only where its class holds nothing of that name."""
    watch = bench.add("isa-stopwatch")
    assert {"ctrl", "limit", "iobase", "irq", "tick_ns"} <= vars(watch).keys()
    assert not {"ctrl", "limit", "iobase", "irq", "tick_ns"} & vars(Stopwatch).keys()
    assert watch.state_fields().keys() == {"ctrl", "limit"}
