"""The parallel port (`isa-parallel`; IBM 6361459) by the qtest protocol, ours and QEMU's."""

from __future__ import annotations

from pathlib import Path

from qom.testing import QTest

DATA, STATUS, CONTROL = 0x378, 0x379, 0x37A
IRQ = 7
IDLE, INTERRUPTS = 0x0C, 0x1C


def args(folder: Path) -> str:
    return f"-parallel file:{folder / 'paper'}"


def strobe(q: QTest, byte: int, control: int = IDLE) -> None:
    q.outb(DATA, byte)
    q.outb(CONTROL, control | 1)
    q.outb(CONTROL, control)


def test_registers_read_back(either: QTest) -> None:
    either.outb(CONTROL, IDLE)
    for value in (0x00, 0x55, 0xAA, 0xFF):
        either.outb(DATA, value)
        assert either.inb(DATA) == value
    for value in (0x04, 0x0C, 0x06, 0x16, 0x1C):
        either.outb(CONTROL, value)
        assert either.inb(CONTROL) == value | 0xC0
    either.outb(CONTROL, 0x2C)
    assert either.inb(DATA) == 0xFF  # inputs, with nobody who drives them


def test_busy_while_the_strobe_lasts(either: QTest) -> None:
    either.outb(CONTROL, 0x08)  # INIT
    either.outb(CONTROL, IDLE)
    assert either.inb(STATUS) == 0xD8
    either.outb(CONTROL, IDLE | 1)
    assert either.inb(STATUS) == 0x58


def test_ready_again_at_once(own: QTest) -> None:
    """The printer takes no time.  QEMU's is ready when its status was read twice more."""
    strobe(own, 0x41)
    assert own.inb(STATUS) == 0xD8


def test_acknowledge_interrupts(own: QTest) -> None:
    """A pulse with the end of the strobe.  QEMU holds the line until the status is read."""
    strobe(own, 0x41)
    assert own.irq_raised(IRQ) == 0
    strobe(own, 0x42, INTERRUPTS)
    assert own.irq_raised(IRQ) == 1 and not own.get_irq(IRQ)


def test_what_is_printed_reaches_the_back_end(own: QTest) -> None:
    paper = Path(own.vm.root.resolve("/chardevs/parallel0").get("path"))
    before = len(paper.read_bytes())
    for byte in b"Hello, paper\n":
        strobe(own, byte)
    assert paper.read_bytes()[before:] == b"Hello, paper\n"


def test_reset_and_wrong_accesses(own: QTest) -> None:
    own.outb(DATA, 0x12)
    own.outb(CONTROL, INTERRUPTS | 1)
    own.outb(STATUS, 0xFF)
    own.system_reset()
    assert [own.inb(port) for port in (DATA, STATUS, CONTROL)] == [0xFF, 0xD8, 0xCC]
    assert own.inb(0x37B) == 0xFF
