"""The parallel port, by its ports and its back end; and beside QEMU's."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qom import RealizeError
from qom.hw.bench import IsaBench

LPT1 = 0x378
DATA, STATUS, CONTROL = LPT1, LPT1 + 1, LPT1 + 2
IDLE, INTERRUPTS, RESET = 0x0C, 0x1C, 0x08  # control: INIT off and selected; with interrupts; INIT on
READY, BUSY = 0xD8, 0x58


class Port(IsaBench):
    """LPT1 in front of a printer that takes `room` bytes."""

    def __init__(self, **props: Any) -> None:
        super().__init__()
        self.printer = self.new("chardev-ringbuf", size=4096)
        self.root.container("/chardevs").add_child("c0", self.printer)
        self.room = 4096
        take = self.printer.write

        def write(data: bytes) -> int:
            taken: int = take(data[: self.room])
            self.room -= taken
            return taken

        self.printer.write = write
        self.printer.open()
        self.port = self.add("isa-parallel", chardev=self.printer, **props)

    def strobe(self, byte: int, control: int = IDLE) -> None:
        self.outb(DATA, byte)
        self.outb(CONTROL, control | 1)
        self.outb(CONTROL, control)

    def printed(self) -> bytes:
        out: bytes = self.printer.take()
        return out


@pytest.fixture
def port() -> Port:
    return Port()


def test_registers_after_reset(port: Port) -> None:
    assert [port.inb(p) for p in (DATA, STATUS, CONTROL)] == [0xFF, READY, 0xCC]
    port.outb(DATA, 0xA5)
    port.outb(CONTROL, 0x3E)
    port.outb(STATUS, 0xFF)
    assert [port.inb(p) for p in (DATA, CONTROL)] == [0xFF, 0xFE]  # bit 5: the data lines are inputs, and float
    port.outb(CONTROL, 0x1E)
    assert [port.inb(p) for p in (DATA, STATUS, CONTROL)] == [0xA5, READY, 0xDE]
    port.reset()
    assert [port.inb(p) for p in (DATA, STATUS, CONTROL)] == [0xFF, READY, 0xCC]


def test_the_strobe_prints_once(port: Port) -> None:
    for byte in b"Hello":
        port.strobe(byte)
    assert port.printed() == b"Hello"
    port.outb(CONTROL, IDLE | 1)
    assert port.inb(STATUS) == BUSY
    port.outb(DATA, 0x21)
    port.outb(CONTROL, IDLE | 1)
    assert port.printed() == b"o"  # latched with the edge; the data that came later is not


def test_acknowledge_interrupts_when_enabled(port: Port) -> None:
    port.strobe(0x41)
    assert port.irq_edges(7) == 0
    port.outb(DATA, 0x42)
    port.outb(CONTROL, INTERRUPTS | 1)
    assert port.irq_edges(7) == 0  # while the strobe lasts
    port.outb(CONTROL, INTERRUPTS)
    assert (port.irq_edges(7), port.irq_level(7)) == (1, 0)
    port.outb(CONTROL, INTERRUPTS)
    assert port.irq_edges(7) == 1


def test_a_printer_without_room_is_busy(port: Port) -> None:
    port.room = 1
    port.strobe(0x41, INTERRUPTS)
    port.strobe(0x42, INTERRUPTS)
    assert (port.inb(STATUS), port.irq_edges(7)) == (BUSY, 1)
    port.strobe(0x43, INTERRUPTS)  # who does not wait loses it
    port.room = 10
    port.printer.on_writable()
    assert (port.inb(STATUS), port.irq_edges(7)) == (READY, 2)
    assert port.printed() == b"AB"


def test_state_with_a_byte_that_waits(port: Port) -> None:
    port.room = 0
    port.strobe(0x5A, INTERRUPTS)
    other = Port()
    other.port.load_state(port.port.save_state())
    assert other.inb(STATUS) == BUSY
    other.printer.on_writable()
    assert (other.inb(STATUS), other.printed(), other.irq_edges(7)) == (READY, b"Z", 1)


def test_init_and_deselection(port: Port) -> None:
    port.room = 0
    port.strobe(0x41)
    port.outb(CONTROL, RESET)
    assert port.inb(STATUS) == BUSY  # while INIT lasts
    port.outb(CONTROL, IDLE)
    assert port.inb(STATUS) == READY
    port.room = 10
    port.printer.on_writable()
    port.strobe(0x42, 0x04)  # not selected
    assert port.printed() == b""


def test_nobody_in_the_socket() -> None:
    bench = IsaBench()
    bench.add("isa-parallel")
    bench.outb(CONTROL, IDLE | 1)
    bench.outb(CONTROL, IDLE)
    assert bench.inb(STATUS) == 0x78


def test_places() -> None:
    bench = IsaBench()
    ports = [bench.add("isa-parallel") for _ in range(3)]
    assert [(p.index, p.iobase, p.irq) for p in ports] == [(0, 0x378, 7), (1, 0x278, 7), (2, 0x3BC, 7)]
    with pytest.raises(RealizeError, match="all three LPT ports are taken, so 'iobase' must be set"):
        bench.add("isa-parallel")
    assert bench.add("isa-parallel", iobase=0x300, irq=5).index is None


def test_same_as_qemu(tmp_path: Path, both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Data, control, and the status between the strobes; QEMU's status acknowledges when it is read, ours at once."""
    dice = random.Random(1284)
    accesses = [f"outb {CONTROL:#x} 0x08", f"outb {CONTROL:#x} 0x0c"]
    for _ in range(300):
        byte = dice.randrange(256)
        accesses += [f"outb {DATA:#x} {byte:#x}", f"inb {DATA:#x}", f"outb {CONTROL:#x} 0x0d", f"inb {STATUS:#x}"]
        accesses += [
            f"outb {CONTROL:#x} 0x0c",
            f"outb {CONTROL:#x} 0x08",
            f"outb {CONTROL:#x} 0x0c",
            f"inb {CONTROL:#x}",
        ]
        control = dice.randrange(64) & ~0x09 | 0x04
        accesses += [
            f"outb {CONTROL:#x} {control:#x}",
            f"inb {CONTROL:#x}",
            f"inb {DATA:#x}",
            f"outb {CONTROL:#x} 0x0c",
        ]
    theirs = tmp_path / "theirs"
    machine = qemu(
        "-M", "pc", "-nodefaults", "-chardev", f"file,id=c,path={theirs}", "-device", "isa-parallel,chardev=c"
    )
    bench = Port()
    both(bench, accesses, machine=machine)
    assert bench.printed() == theirs.read_bytes()
