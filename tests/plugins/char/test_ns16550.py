"""The 16550A, by its ports, its back end and a stepped clock; and beside QEMU's."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from plugins.char.ns16550 import (
    FCR_CLEAR_RX,
    FCR_CLEAR_TX,
    FCR_ENABLE,
    IER_MSI,
    IER_RDI,
    IER_RLSI,
    IER_THRI,
    IIR_CTI,
    IIR_FIFOS,
    IIR_MSI,
    IIR_NONE,
    IIR_RDI,
    IIR_RLSI,
    IIR_THRI,
    LCR_DLAB,
    LSR_BI,
    LSR_DR,
    LSR_OE,
    LSR_TEMT,
    LSR_THRE,
    MCR_DTR,
    MCR_LOOP,
    MCR_OUT1,
    MCR_OUT2,
    MCR_RTS,
    MSR_CTS,
    MSR_DCD,
    MSR_DCTS,
    MSR_DDCD,
    MSR_DDSR,
    MSR_DSR,
    MSR_RI,
    MSR_TERI,
)
from qom import RealizeError, Reset
from qom.hw.bench import IsaBench
from qom.vm.chardev import Chardev, ChardevEvent

COM1, IRQ = 0x3F8, 4
RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR = range(COM1, COM1 + 8)
FCR = IIR
CHAR_NS = 10 * 16 * 12 * 1_000_000_000 // 1_843_200  # one character of 8N1 at divisor 12 (9600 baud)
NO_IRQ = IIR_NONE


class Uart(IsaBench):
    """COM1 in front of a peer that takes `room` bytes."""

    def __init__(self, **props: Any) -> None:
        super().__init__()
        self.peer = self.new("chardev-ringbuf")
        self.root.container("/chardevs").add_child("c0", self.peer)
        self.room: int | None = None
        take = self.peer.write
        self.peer.write = lambda data: take(data if self.room is None else data[: self.room])
        self.peer.open()
        self.uart = self.add("isa-serial", chardev=self.peer, **props)
        self.outb(LCR, 0x03)

    def iir(self) -> int:
        return self.inb(IIR) & ~IIR_FIFOS

    def irq(self) -> int:
        return self.irq_level(IRQ)

    def fifos(self, trigger: int = 0) -> None:
        self.outb(FCR, FCR_ENABLE | FCR_CLEAR_RX | FCR_CLEAR_TX | trigger << 6)


@pytest.fixture
def bench() -> Uart:
    return Uart()


# --- registers


def test_after_reset(bench: Uart) -> None:
    bench.outb(LCR, 0)
    bench.reset(Reset.COLD)
    assert [bench.inb(port) for port in range(COM1, COM1 + 8)] == [
        0,
        0,
        IIR_NONE,
        0,
        0,
        LSR_THRE | LSR_TEMT,
        MSR_CTS | MSR_DSR | MSR_DCD,
        0,
    ]
    assert bench.irq() == 0


def test_divisor_latch_hides_data_and_ier(bench: Uart) -> None:
    bench.outb(IER, IER_RDI)
    bench.outb(LCR, LCR_DLAB | 3)
    bench.outb(RBR, 0x34)
    bench.outb(IER, 0x12)
    assert (bench.inb(RBR), bench.inb(IER)) == (0x34, 0x12)
    bench.outb(LCR, 3)
    assert (bench.inb(IER), bench.peer.take()) == (IER_RDI, b"")


def test_only_defined_bits_are_kept(bench: Uart) -> None:
    bench.outb(IER, 0xFF)
    bench.outb(MCR, 0xEF)
    bench.outb(SCR, 0xA5)
    assert (bench.inb(IER), bench.inb(MCR), bench.inb(SCR)) == (0x0F, 0x0F, 0xA5)


def test_wide_access_is_bytes(bench: Uart) -> None:
    bench.outw(LCR, 0x0A1B)
    assert (bench.inb(LCR), bench.inb(MCR), bench.inw(LCR)) == (0x1B, 0x0A, 0x0A1B)


# --- transmitting


def test_bytes_go_out_at_once(bench: Uart) -> None:
    for letter in b"hello":
        assert bench.inb(LSR) & LSR_THRE
        bench.outb(RBR, letter)
    assert bench.peer.take() == b"hello"


def test_thre_interrupt_is_reset_by_reading_iir(bench: Uart) -> None:
    bench.outb(IER, IER_THRI)  # THRE is set already, so enabling it interrupts
    assert bench.irq() == 1
    assert (bench.iir(), bench.irq(), bench.iir()) == (IIR_THRI, 0, NO_IRQ)
    bench.outb(RBR, 0x41)
    assert (bench.irq(), bench.iir(), bench.irq()) == (1, IIR_THRI, 0)


def test_slow_peer_keeps_thre_clear(bench: Uart) -> None:
    bench.room = 0
    bench.outb(IER, IER_THRI)
    assert bench.iir() == IIR_THRI
    bench.outb(RBR, 0x41)
    assert bench.inb(LSR) & (LSR_THRE | LSR_TEMT) == 0
    assert (bench.irq(), bench.iir()) == (0, NO_IRQ)
    bench.room = None
    bench.peer.on_writable()
    assert bench.peer.take() == b"A"
    assert bench.inb(LSR) & (LSR_THRE | LSR_TEMT) == LSR_THRE | LSR_TEMT
    assert (bench.irq(), bench.iir()) == (1, IIR_THRI)


def test_fifo_waits_for_a_slow_peer_and_overflows_loudly(bench: Uart) -> None:
    bench.fifos()
    bench.room = 0
    for n in range(17):
        bench.outb(RBR, n)
    assert bench.system.logged == [
        ("guest_errors", f"{bench.uart.path}: a byte was written to a full transmit FIFO and is lost")
    ]
    bench.room = 10
    bench.peer.on_writable()
    assert bench.inb(LSR) & LSR_THRE == 0
    bench.room = None
    bench.peer.on_writable()
    assert bench.peer.take() == bytes(range(16))
    assert bench.inb(LSR) & LSR_THRE


def test_clearing_the_fifo_forgets_what_waits(bench: Uart) -> None:
    bench.fifos()
    bench.room = 0
    bench.outb(RBR, 0x41)
    bench.outb(FCR, FCR_ENABLE | FCR_CLEAR_TX)
    assert bench.inb(LSR) & LSR_THRE
    bench.room = None
    bench.peer.on_writable()
    assert bench.peer.take() == b""


def test_pacing_takes_the_time_of_the_frame() -> None:
    bench = Uart(pacing=True)
    bench.outb(RBR, 0x41)
    assert bench.inb(LSR) & (LSR_THRE | LSR_TEMT) == LSR_THRE  # in the shift register already
    bench.outb(RBR, 0x42)
    assert bench.inb(LSR) & (LSR_THRE | LSR_TEMT) == 0
    bench.clock.step(CHAR_NS - 1)
    assert bench.peer.peek() == b""
    bench.clock.step(1)
    assert bench.peer.peek() == b"A"
    assert bench.inb(LSR) & (LSR_THRE | LSR_TEMT) == LSR_THRE
    bench.clock.step(CHAR_NS)
    assert bench.peer.peek() == b"AB"
    assert bench.inb(LSR) & (LSR_THRE | LSR_TEMT) == LSR_THRE | LSR_TEMT


def test_pacing_waits_for_a_slow_peer_and_goes_on() -> None:
    bench = Uart(pacing=True)
    bench.room = 0
    bench.outb(RBR, 0x41)
    bench.clock.step(10 * CHAR_NS)
    assert bench.inb(LSR) & LSR_TEMT == 0
    bench.room = None
    bench.peer.on_writable()
    assert bench.peer.peek() == b"A"
    assert bench.inb(LSR) & LSR_TEMT


def test_pacing_spaces_input() -> None:
    bench = Uart(pacing=True)
    bench.fifos()
    bench.peer.feed(b"abc")
    for n in (1, 2, 3):
        assert len(bench.uart.rx_fifo) == n
        bench.clock.step(CHAR_NS)


# --- receiving


def test_one_byte_at_a_time_without_fifos(bench: Uart) -> None:
    bench.outb(IER, IER_RDI)
    bench.peer.feed(b"abc")
    got = b""
    for _ in range(3):
        assert (bench.inb(LSR) & LSR_DR, bench.irq(), bench.iir()) == (LSR_DR, 1, IIR_RDI)
        got += bytes((bench.inb(RBR),))
    assert got == b"abc"
    assert (bench.inb(LSR) & LSR_DR, bench.irq(), bench.iir()) == (0, 0, NO_IRQ)


@pytest.mark.parametrize(("setting", "level"), [(0, 1), (1, 4), (2, 8), (3, 14)])
def test_trigger_level(bench: Uart, setting: int, level: int) -> None:
    bench.fifos(setting)
    bench.outb(IER, IER_RDI)
    bench.peer.feed(bytes(level - 1))
    assert bench.irq() == 0
    bench.peer.feed(b"!")
    assert (bench.irq(), bench.iir()) == (1, IIR_RDI)
    bench.inb(RBR)
    assert bench.irq() == 0  # below the level again


def test_character_timeout_after_four_characters(bench: Uart) -> None:
    bench.fifos(3)
    bench.outb(IER, IER_RDI)
    bench.peer.feed(b"ab")
    bench.clock.step(4 * CHAR_NS - 1)
    assert bench.irq() == 0
    bench.clock.step(1)
    assert (bench.irq(), bench.iir()) == (1, IIR_CTI)
    assert bench.inb(RBR) == ord("a")  # a read ends it, and starts the time anew
    assert bench.irq() == 0
    bench.clock.step(4 * CHAR_NS)
    assert (bench.irq(), bench.iir()) == (1, IIR_CTI)
    assert bench.inb(RBR) == ord("b")
    bench.clock.step(100 * CHAR_NS)
    assert bench.irq() == 0


def test_timeout_counts_when_the_interrupt_is_enabled_late(bench: Uart) -> None:
    bench.fifos(3)
    bench.peer.feed(b"a")
    bench.clock.step(100 * CHAR_NS)
    bench.outb(IER, IER_RDI)
    bench.clock.step(4 * CHAR_NS)
    assert bench.iir() == IIR_CTI


def test_input_beyond_the_fifo_waits_outside(bench: Uart) -> None:
    bench.fifos()
    text = bytes(range(100))
    bench.peer.feed(text)
    got = b""
    while bench.inb(LSR) & LSR_DR:
        got += bytes((bench.inb(RBR),))
    assert got == text
    assert bench.inb(LSR) & LSR_OE == 0


def test_turning_fifos_on_empties_the_receiver(bench: Uart) -> None:
    bench.peer.feed(b"a")
    bench.fifos()
    assert bench.inb(LSR) & LSR_DR == 0
    assert bench.inb(IIR) == IIR_FIFOS | IIR_NONE
    bench.peer.feed(b"b")
    bench.outb(FCR, 0)
    assert bench.inb(LSR) & LSR_DR == 0


def test_break_is_a_zero_with_its_flag(bench: Uart) -> None:
    bench.outb(IER, IER_RLSI)
    bench.peer.on_event(ChardevEvent.BREAK)
    assert (bench.irq(), bench.iir()) == (1, IIR_RLSI)
    assert bench.inb(LSR) & (LSR_BI | LSR_DR) == LSR_BI | LSR_DR
    assert (bench.irq(), bench.inb(LSR) & LSR_BI, bench.inb(RBR)) == (0, 0, 0)


def test_interrupts_by_priority(bench: Uart) -> None:
    bench.outb(MCR, MCR_LOOP)
    bench.outb(IER, IER_RDI | IER_THRI | IER_RLSI | IER_MSI)
    bench.inb(IIR)  # THRE was pending
    bench.inb(MSR)
    bench.outb(MCR, MCR_LOOP | MCR_RTS)
    assert bench.iir() == IIR_MSI
    bench.outb(RBR, 1)
    bench.outb(RBR, 2)  # overruns the first
    assert bench.irq() == 1
    assert bench.iir() == IIR_RLSI
    assert bench.inb(LSR) & LSR_OE
    assert bench.iir() == IIR_RDI
    assert bench.inb(RBR) == 2
    assert bench.iir() == IIR_THRI
    assert bench.iir() == IIR_MSI
    assert bench.inb(MSR) & MSR_DCTS
    assert (bench.iir(), bench.irq()) == (NO_IRQ, 0)


# --- modem lines and loopback


def test_loopback_connects_each_output_to_its_input(bench: Uart) -> None:
    pairs = ((MCR_RTS, MSR_CTS), (MCR_DTR, MSR_DSR), (MCR_OUT1, MSR_RI), (MCR_OUT2, MSR_DCD))
    for out, into in pairs:
        bench.outb(MCR, MCR_LOOP | out)
        assert bench.inb(MSR) & 0xF0 == into
    bench.outb(MCR, 0)
    assert bench.inb(MSR) & 0xF0 == MSR_CTS | MSR_DSR | MSR_DCD


def test_loopback_keeps_bytes_inside(bench: Uart) -> None:
    bench.outb(MCR, MCR_LOOP)
    bench.outb(RBR, 0x5A)
    bench.peer.feed(b"outside")
    assert (bench.inb(RBR), bench.peer.take()) == (0x5A, b"")
    assert bench.inb(LSR) & LSR_DR == 0
    bench.outb(MCR, 0)
    assert bench.inb(RBR) == ord("o")


def test_modem_deltas(bench: Uart) -> None:
    bench.outb(IER, IER_MSI)
    bench.uart.set_modem_inputs(cts=False, dsr=True, ri=True, dcd=True)
    assert (bench.irq(), bench.iir()) == (1, IIR_MSI)
    assert bench.inb(MSR) == MSR_DSR | MSR_RI | MSR_DCD | MSR_DCTS
    assert (bench.irq(), bench.inb(MSR)) == (0, MSR_DSR | MSR_RI | MSR_DCD)
    bench.uart.set_modem_inputs(cts=False, dsr=False, ri=False, dcd=False)
    assert bench.inb(MSR) == MSR_DDSR | MSR_TERI | MSR_DDCD


# --- configuration


def test_ports_by_index() -> None:
    bench = IsaBench()
    uarts = [bench.add("isa-serial") for _ in range(4)]
    assert [(u.iobase, u.irq) for u in uarts] == [(0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3)]
    with pytest.raises(RealizeError) as caught:
        bench.add("isa-serial", "fifth")
    assert str(caught.value) == (
        "/machine/peripheral/fifth: all four COM ports are taken, so 'iobase' and 'irq' must be set"
    )
    assert bench.add("isa-serial", iobase=0x100, irq=5).iobase == 0x100


def test_shared_back_end_is_refused_and_nothing_remains() -> None:
    bench = Uart()
    with pytest.raises(Exception, match=r"already used by .*, so .* cannot use it too"):
        bench.add("isa-serial", "second", chardev=bench.peer)
    assert bench.inb(0x2F8 + 5) == 0xFF, "the ports of the failed one are free again"


def test_no_back_end(bench: Uart) -> None:
    bench.add("isa-serial", index=1)
    bench.outb(0x2F8, 0x41)
    assert bench.inb(0x2F8 + 5) == LSR_THRE | LSR_TEMT


def test_reset_lets_waiting_input_in_again(bench: Uart) -> None:
    bench.peer.feed(b"abc")
    bench.reset(Reset.COLD)
    assert bench.inb(RBR) == ord("b")


def test_state_survives_saving(bench: Uart) -> None:
    bench.fifos(1)
    bench.room = 0
    bench.outb(RBR, 0x41)
    bench.peer.feed(b"xy")
    saved = bench.uart.save_state()
    other = Uart()
    other.uart.load_state(saved)
    assert [other.inb(RBR), other.inb(RBR)] == [ord("x"), ord("y")]
    assert other.inb(LSR) & LSR_THRE == 0


# --- the oracle


def accesses(seed: int, count: int) -> list[str]:
    """Random accesses in loopback or to nobody, without what QEMU does differently from the data sheet.

    Left out: deltas in MSR (QEMU has none in loopback), MCR after reset, a full FIFO, the character timeout's time, and
    what an empty receiver reads as.
    """
    rng = random.Random(seed)
    out = ["outb 0x3fc 0x0b", "inb 0x3fe", "outb 0x3f9 0", "outb 0x3fa 0x07", "inb 0x3fd"]
    queued, loop, dlab, fifo = 0, False, False, True
    for _ in range(count):
        port = 0x3F8 + rng.choice((0, 0, 0, 1, 2, 3, 4, 5, 5, 7))
        if rng.random() < 0.5:
            if port == 0x3F8 and not dlab:
                if queued == 0:
                    continue
                queued -= 1
            out.append(f"inb {port:#x}")
            continue
        value = rng.randrange(256)
        if port == 0x3F8 and loop and not dlab:
            if queued == (15 if fifo else 1):
                continue
            queued += 1
        if port == 0x3F9 and not dlab:
            value &= 0x07  # no modem status interrupts
        if port == 0x3FA:
            fifo, queued = bool(value & 1), 0
        if port == 0x3FB:
            value &= 0xBF
            dlab = bool(value & 0x80)
        if port == 0x3FC:
            value &= 0x1F
            loop = bool(value & 0x10)
        if port == 0x3FD:
            continue
        out.append(f"outb {port:#x} {value:#x}")
    return out


@pytest.mark.parametrize("seed", range(6))
def test_beside_qemu(qemu: Callable[..., Any], both: Callable[..., None], seed: int) -> None:
    bench = IsaBench()
    bench.add("isa-serial")
    machine = qemu("-M", "pc", "-nodefaults", "-serial", "null")
    both(bench, accesses(seed, 1500), machine=machine)


def test_every_property_is_documented() -> None:
    bench = IsaBench()
    for name in ("isa-serial", "isa-debugcon", "isa-debug-exit"):
        found = bench.new(name).type
        assert all(p.desc for p in found.properties.values())
    assert isinstance(bench.new("chardev-null"), Chardev)
