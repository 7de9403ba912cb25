"""The stopwatch on a bench: ports, a stepped clock, and the interrupt line."""

import pytest
import qom_stopwatch
from qom_stopwatch import CTRL, DONE, LIMIT, RUN

from qom import PropertyError, RealizeError
from qom.testing import IsaBench

BASE = 0x2A0


@pytest.fixture
def bench():
    with IsaBench(qom_stopwatch.Stopwatch) as bench:
        yield bench


def test_it_rings_once_when_the_time_is_up(bench):
    bench.add("isa-stopwatch", tick_ns=100)
    bench.outl(BASE + LIMIT, 50)
    bench.outl(BASE + CTRL, RUN)
    bench.clock.step(4999)
    assert (bench.inl(BASE + CTRL), bench.irq_edges(5)) == (RUN, 0)
    bench.clock.step(1)
    assert (bench.inl(BASE + CTRL), bench.irq_edges(5)) == (DONE, 1)
    bench.clock.step(100_000)
    assert bench.irq_edges(5) == 1


def test_stopping_it_in_time_keeps_it_silent(bench):
    bench.add("isa-stopwatch")
    bench.outl(BASE + CTRL, RUN)
    bench.clock.step(500_000)
    bench.outl(BASE + CTRL, 0)
    bench.clock.step(10_000_000)
    assert (bench.inl(BASE + CTRL), bench.irq_edges(5)) == (0, 0)


def test_reset(bench):
    bench.add("isa-stopwatch")
    bench.outl(BASE + LIMIT, 7)
    bench.outl(BASE + CTRL, RUN)
    bench.reset()
    bench.clock.step(10_000_000)
    assert (bench.inl(BASE + CTRL), bench.inl(BASE + LIMIT), bench.irq_edges(5)) == (0, 1000, 0)


def test_another_place_and_line(bench):
    bench.add("isa-stopwatch", iobase=0x300, irq=7, tick_ns=1)
    bench.outl(0x300 + CTRL, RUN)
    bench.clock.step(1000)
    assert (bench.irq_edges(5), bench.irq_edges(7)) == (0, 1)


def test_wrong_settings_are_refused(bench):
    with pytest.raises(PropertyError, match=r"property 'irq' cannot be 16: expected an integer in 0\.\.15"):
        bench.add("isa-stopwatch", irq=16)
    with pytest.raises(RealizeError, match="tick-ns must be positive, got 0"):
        bench.add("isa-stopwatch", tick_ns=0)
    bench.add("isa-stopwatch")  # nothing of the failed ones is in the way
