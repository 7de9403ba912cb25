"""The 16550A UART (`isa-serial`): National Semiconductor PC16550D, June 1995; section numbers are that sheet's."""

from __future__ import annotations

import random
import shutil

import pytest

from qom.testing import QTest

ARGS = "-serial null -chardev ringbuf,id=ring,size=64 -device isa-serial,chardev=ring,iobase=0x2f8,irq=3,id=com2"
QEMU = "qemu-system-x86_64"
COM = 0x3F8
RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)
IRQ = 4
LOOP, THRE_TEMT, DATA_READY = 0x10, 0x60, 0x01


@pytest.mark.parametrize(
    "register, mask", [(IER, 0x0F), (LCR, 0x7F), (MCR, 0x1F), (SCR, 0xFF)], ids=["IER", "LCR", "MCR", "SCR"]
)
def test_what_is_written_reads_back(either: QTest, register: int, mask: int) -> None:
    """Table II.  Bits 4-7 of IER and 5-7 of MCR are always 0; bit 7 of LCR would show the divisor."""
    for value in (0x00, 0x55, 0xAA, 0xFF):
        if register == LCR:
            value &= 0x7F
        either.outb(COM + register, value)
        assert either.inb(COM + register) == value & mask


def test_the_divisor_is_behind_dlab(either: QTest) -> None:
    """8.3: the divisor latch."""
    either.outb(COM + IER, 0x05)
    either.outb(COM + LCR, 0x83)
    either.outb(COM + 0, 0x34)
    either.outb(COM + 1, 0x12)
    assert (either.inb(COM + 0), either.inb(COM + 1)) == (0x34, 0x12)
    either.outb(COM + LCR, 0x03)
    assert either.inb(COM + IER) == 0x05


def test_reset_values(either: QTest) -> None:
    """Table I: IER, FCR, MCR, LCR are 0, IIR says nothing is pending, LSR that the transmitter is empty."""
    for register, value in ((IER, 0x0F), (IIR_FCR, 0x01), (LCR, 0x1B), (MCR, 0x03)):
        either.outb(COM + register, value)
    either.system_reset()
    assert [either.inb(COM + r) for r in (IER, IIR_FCR, LCR, LSR)] == [0, 0x01, 0, THRE_TEMT]
    assert not either.get_irq(IRQ)


def test_reset_clears_mcr(own: QTest) -> None:
    """Table I; QEMU comes up with OUT2 set (08h)."""
    own.outb(COM + MCR, 0x1F)
    own.system_reset()
    assert own.inb(COM + MCR) == 0


def test_status_registers_cannot_be_written(either: QTest) -> None:
    """LSR and MSR, 8.4 and 8.9: for factory testing only."""
    before = [either.inb(COM + r) for r in (LSR, MSR)]
    for register in (LSR, MSR):
        either.outb(COM + register, 0xFF)
    assert [either.inb(COM + r) for r in (LSR, MSR)] == before


def test_an_empty_transmitter_interrupts_when_it_is_enabled(either: QTest) -> None:
    """8.7 and table IV: THRE is reset by reading IIR, and comes again with the next byte."""
    either.outb(COM + IER, 0x02)
    assert either.get_irq(IRQ)
    assert either.inb(COM + IIR_FCR) == 0x02
    assert not either.get_irq(IRQ)
    assert either.inb(COM + IIR_FCR) == 0x01


def test_a_sent_byte_empties_the_transmitter_again(own: QTest) -> None:
    own.outb(COM + IER, 0x02)
    own.inb(COM + IIR_FCR)
    own.outb(COM + RBR_THR, 0x41)
    assert own.get_irq(IRQ)
    assert own.inb(COM + LSR) & THRE_TEMT == THRE_TEMT


def test_loopback_brings_bytes_back_and_interrupts(own: QTest) -> None:
    """8.8: in loopback what is transmitted is received at once.  QEMU takes the time of a character."""
    own.outb(COM + MCR, LOOP)
    own.outb(COM + IER, 0x01)
    assert not own.get_irq(IRQ)
    own.outb(COM + RBR_THR, 0x5A)
    assert own.get_irq(IRQ)
    assert own.inb(COM + IIR_FCR) == 0x04
    assert own.inb(COM + LSR) & DATA_READY
    assert own.inb(COM + RBR_THR) == 0x5A
    assert not own.get_irq(IRQ)
    assert not own.inb(COM + LSR) & DATA_READY


def test_a_byte_that_nobody_took_is_overrun(own: QTest) -> None:
    """8.4, bit 1: and the line status interrupt comes before all others."""
    own.outb(COM + MCR, LOOP)
    own.outb(COM + IER, 0x07)
    own.outb(COM + RBR_THR, 0x11)
    own.outb(COM + RBR_THR, 0x22)
    assert own.inb(COM + IIR_FCR) == 0x06
    assert own.inb(COM + LSR) & 0x03 == 0x03
    assert own.inb(COM + LSR) & 0x02 == 0
    assert own.inb(COM + IIR_FCR) == 0x04
    assert own.inb(COM + RBR_THR) == 0x22


def test_modem_inputs_follow_the_outputs_in_loopback(either: QTest) -> None:
    """8.9: the lower half tells what changed since it was read; RI counts when it falls."""
    either.outb(COM + MCR, LOOP)
    either.inb(COM + MSR)
    either.outb(COM + MCR, LOOP | 0x0F)
    assert either.inb(COM + MSR) & 0xF0 == 0xF0
    either.outb(COM + MCR, LOOP)
    assert either.inb(COM + MSR) & 0xF0 == 0x00


def test_modem_changes_interrupt(own: QTest) -> None:
    own.outb(COM + MCR, LOOP)
    own.inb(COM + MSR)
    own.outb(COM + IER, 0x08)
    own.outb(COM + MCR, LOOP | 0x04)  # OUT1 is RI: its rise does not count
    assert not own.get_irq(IRQ)
    own.outb(COM + MCR, LOOP)
    assert own.get_irq(IRQ)
    assert own.inb(COM + IIR_FCR) == 0x00
    assert own.inb(COM + MSR) & 0x0F == 0x04
    assert not own.get_irq(IRQ)


@pytest.mark.parametrize("bits, level", [(0, 1), (1, 4), (2, 8), (3, 14)])
def test_the_fifo_interrupts_at_its_trigger_level(own: QTest, bits: int, level: int) -> None:
    """8.5: trigger level by bits 6 and 7 of FCR."""
    own.outb(COM + IIR_FCR, 0x07 | bits << 6)
    own.outb(COM + MCR, LOOP)
    own.outb(COM + IER, 0x01)
    for n in range(level):
        assert not own.get_irq(IRQ)
        own.outb(COM + RBR_THR, n)
    assert own.get_irq(IRQ)
    assert own.inb(COM + IIR_FCR) == 0xC4
    assert [own.inb(COM + RBR_THR) for _ in range(level)] == list(range(level))
    assert not own.get_irq(IRQ)


def test_fewer_bytes_interrupt_after_four_character_times(own: QTest) -> None:
    """8.11, FIFO interrupt mode: the character timeout."""
    own.outb(COM + IIR_FCR, 0xC7)
    own.outb(COM + LCR, 0x83)
    own.outb(COM, 12)  # 9600 baud
    own.outb(COM + 1, 0)
    own.outb(COM + LCR, 0x03)
    own.outb(COM + MCR, LOOP)
    own.outb(COM + IER, 0x01)
    own.outb(COM + RBR_THR, 0x41)
    own.clock_step(4 * 10 * 1_000_000_000 // 9600 - 10_000)
    assert not own.get_irq(IRQ)
    own.clock_step(20_000)
    assert own.get_irq(IRQ)
    assert own.inb(COM + IIR_FCR) == 0xCC
    assert own.inb(COM + RBR_THR) == 0x41
    assert not own.get_irq(IRQ)


def test_fcr_shows_in_iir_and_clears_the_fifos(either: QTest) -> None:
    either.outb(COM + IIR_FCR, 0x01)
    assert either.inb(COM + IIR_FCR) & 0xC0 == 0xC0
    either.outb(COM + IIR_FCR, 0x00)
    assert either.inb(COM + IIR_FCR) & 0xC0 == 0x00


def test_a_full_transmit_fifo_loses_the_byte_and_says_so() -> None:
    with QTest("-M pc -m 16 -chardev socket,id=slow,server=on,wait=off,host=127.0.0.1,port=0 -serial none"
               " -device isa-serial,chardev=slow,pacing=on,id=com") as q:  # fmt: skip
        q.outb(COM + IIR_FCR, 0x01)
        for n in range(20):
            q.outb(COM + RBR_THR, n)
        assert (
            "guest_errors: /machine/peripheral/com: a byte was written to a full transmit FIFO and is lost"
            in q.vm.log_lines
        )


def test_a_second_port_has_its_own_line_and_back_end(own: QTest) -> None:
    own.outb(0x2F9, 0x02)
    assert (own.get_irq(3), own.get_irq(4)) == (True, False)
    for byte in b"hello":
        own.outb(0x2F8, byte)
    ring = own.vm.root.resolve("/chardevs/ring")
    assert ring.take() == b"hello"


def test_a_wide_access_is_one_of_bytes(either: QTest) -> None:
    either.outw(COM + MCR, 0x0003)  # LSR is read-only
    assert either.inw(COM + LCR) == 0x0300
    either.outw(COM + 7 - 1, 0x5A00)
    assert either.inb(COM + SCR) == 0x5A


def test_writes_by_chance_read_back_as_in_qemu() -> None:
    """Registers and the interrupt line, without loopback: QEMU's takes time then, which stands still here."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    args = "-M pc -m 16 -serial null"
    with QTest(args) as ours, QTest(args, program=QEMU) as theirs:
        for q in (ours, theirs):
            q.irq_intercept_in("ioapic")
        for seed in range(40):
            said = []
            for q in (ours, theirs):
                chance = random.Random(seed)
                q.system_reset()
                for register in (MCR, IER, IIR_FCR, LCR, SCR):  # QEMU's reset keeps some
                    q.outb(COM + register, 0)
                q.inb(COM + MSR)
                found = []
                for _ in range(40):
                    register = chance.choice((IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR))
                    value = chance.randrange(256) & (~LOOP if register == MCR else 0xFF)
                    if chance.randrange(2):
                        found.append(("out", register, value, q.outb(COM + register, value), q.get_irq(IRQ)))
                    else:
                        found.append(("in", register, value, q.inb(COM + register), q.get_irq(IRQ)))
                said.append(found)
            first = next((n for n, (a, b) in enumerate(zip(*said, strict=True)) if a != b), None)
            assert first is None, (seed, said[0][: (first or 0) + 1], said[1][first or 0])
