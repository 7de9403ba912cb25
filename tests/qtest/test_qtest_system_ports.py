"""Ports 61h (`port61`) and 92h (`port92`) and the `a20-gate` behind them: PIIX3 data sheet, Intel 290550, NMISC and P92."""

from __future__ import annotations

import pytest

from qom.testing import QTest

NMISC, PORT92 = 0x61, 0x92
MIB = 1 << 20


def test_the_enables_of_port_61_read_back(either: QTest) -> None:
    """Bits 0-3 are written; 4-7 are for reading.  QEMU has bits 0 and 1 only, so those are compared."""
    for value in (0x00, 0x03, 0x02, 0x01, 0x00):
        either.outb(NMISC, value)
        assert either.inb(NMISC) & 0x03 == value


def test_the_nmi_enables_read_back(own: QTest) -> None:
    own.outb(NMISC, 0xFF)
    assert own.inb(NMISC) & 0xCF == 0x0F  # bits 6 and 7: no NMI source
    own.outb(NMISC, 0x04)
    assert own.inb(NMISC) & 0xCF == 0x04


def test_the_refresh_bit_toggles_with_time(own: QTest) -> None:
    seen = []
    for _ in range(4):
        seen.append(own.inb(NMISC) & 0x10)
        own.clock_step(15_085)
    assert seen[0] == seen[2] != seen[1] == seen[3]


def test_out2_shows_the_end_of_the_count(own: QTest) -> None:
    own.outb(NMISC, 0x01)
    own.outb(0x43, 0xB0)
    own.outb(0x42, 100)
    own.outb(0x42, 0)
    assert not own.inb(NMISC) & 0x20
    own.clock_step(100_000)
    assert own.inb(NMISC) & 0x20


def test_reset_switches_everything_off(own: QTest) -> None:
    """QEMU's keeps bit 1, the speaker."""
    own.outb(NMISC, 0x0F)
    own.system_reset()
    assert own.inb(NMISC) & 0x0F == 0


def test_port_92_reads_back(own: QTest) -> None:
    """Our controller holds what is written; QEMU's comes up with A20 open (its value, not the data sheet's)."""
    assert own.inb(PORT92) == 0
    own.outb(PORT92, 0x02)
    assert own.inb(PORT92) == 0x02
    own.system_reset()
    assert own.inb(PORT92) == 0


def test_port_92_keeps_a20(either: QTest) -> None:
    either.outb(PORT92, 0x02)
    assert either.inb(PORT92) == 0x02
    either.outb(PORT92, 0x00)
    assert either.inb(PORT92) & 0x02 == 0


def close_a20(q: QTest) -> None:
    q.outb(PORT92, 0x00)
    q.outb(0x64, 0xDD)


def test_a_closed_gate_wraps_addresses_at_1_mib(own: QTest) -> None:
    own.write(0x500, b"low")
    own.write(MIB + 0x500, b"high")
    close_a20(own)
    assert own.read(MIB + 0x500, 3) == b"low"
    own.writeb(MIB + 0x500, 0x21)
    assert own.readb(0x500) == 0x21
    own.outb(PORT92, 0x02)  # either source opens it
    assert own.read(MIB + 0x500, 4) == b"high"
    own.outb(PORT92, 0x00)
    assert own.readb(MIB + 0x500) == 0x21
    own.outb(0x64, 0xDF)
    assert own.read(MIB + 0x500, 4) == b"high"


def test_reset_opens_the_gate(own: QTest) -> None:
    own.write(MIB + 0x500, b"high")
    close_a20(own)
    own.system_reset()
    assert own.read(MIB + 0x500, 4) == b"high"


def test_the_gate_has_lines_of_its_own(own: QTest) -> None:
    close_a20(own)
    own.write(0x500, b"abc")
    own.set_irq_in("a20", "port92", 0, 1)
    own.writeb(MIB + 0x500, 0)
    own.set_irq_in("a20", "port92", 0, 0)
    assert own.read(MIB + 0x500, 3) == b"abc"


@pytest.mark.parametrize("port, value", [(PORT92, 0x01), (0x64, 0xFE), (0xCF9, 0x06)])
def test_fast_reset_resets_the_machine(own: QTest, port: int, value: int) -> None:
    own.outb(0x21, 0xA5)
    events = []
    own.vm.events.append(lambda name, data: events.append(name))
    own.outb(port, value)
    own.vm.events.pop()
    assert events == ["RESET"]
    assert own.inb(0x21) == 0


def test_wide_accesses_reach_the_neighbours_too(own: QTest) -> None:
    own.outw(NMISC - 1, 0x0300)
    assert own.inb(NMISC) & 0x03 == 0x03
