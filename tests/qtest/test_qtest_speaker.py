"""The PC speaker and port 61h (`isa-pcspk`; PIIX3, Intel 290550, NMISC) by the qtest protocol.

What sounds is told by properties, state, and the output `sound`; QEMU has only the port.
"""

from __future__ import annotations

from typing import Any

from qom.testing import QTest

ARGS = ""
PORT, CONTROL, COUNT = 0x61, 0x43, 0x42
GATE, SPEAKER, OUT2 = 0x01, 0x02, 0x20
MS = 1_000_000


def count(q: QTest, value: int) -> None:
    q.outb(CONTROL, 0xB6)
    q.outb(COUNT, value & 0xFF)
    q.outb(COUNT, value >> 8)


def speaker(q: QTest) -> Any:
    return q.vm.root.resolve("/machine/port61")


def test_the_enable_bits_read_back(either: QTest) -> None:
    for value in range(16):
        either.outb(PORT, value)
        assert either.inb(PORT) & 3 == value & 3
    either.outb(PORT, 0)


def test_a_melody(own: QTest) -> None:
    own.outb(PORT, own.inb(PORT) & 0xC)
    start = own.clock_step(1)
    for divisor in (4560, 4063, 3619):
        count(own, divisor)
        own.outb(PORT, GATE | SPEAKER)
        own.clock_step(100 * MS)
        own.outb(PORT, 0)
        own.clock_step(20 * MS)
    wanted = []
    for n, hertz in enumerate((262, 294, 330)):
        wanted += [[start + n * 120 * MS, hertz], [start + n * 120 * MS + 100 * MS, 0]]
    assert speaker(own).heard == wanted


def test_the_line_tells_when_it_sounds() -> None:
    with QTest() as q:
        assert q.send("irq_intercept_out /machine/port61 sound") == "OK"
        count(q, 1193)
        q.outb(PORT, GATE | SPEAKER)
        assert q.get_irq(0)
        q.outb(PORT, GATE)
        assert not q.get_irq(0) and q.irq_raised(0) == 1


def test_reset_silences(own: QTest) -> None:
    count(own, 1000)
    own.outb(PORT, GATE | SPEAKER)
    assert speaker(own).get("frequency") == 1193
    own.system_reset()
    assert speaker(own).get("frequency") == 0 and own.inb(PORT) & 0x0F == 0


def test_only_bits_0_to_3_can_be_written(own: QTest) -> None:
    own.outb(PORT, 0xF0)
    assert own.inb(PORT) & ~(OUT2 | 0x10) == 0
