"""440FX, PIIX3 and PIIX4 power management, driven through their ports."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from qom import RealizeError, Reset, type_init
from qom.hw import PciDevice, Region, WakeReason
from qom.hw.bench import LineRecorder, SysBench

PM = 0x600


@type_init("test-nic")
class Nic(PciDevice):
    """A function with an interrupt pin."""

    vendor_id, device_id, class_code, interrupt_pin = 0x1AF4, 0x1000, 0x0200, 1


class Board(SysBench):
    """The chip set on 2 MiB of RAM, with a ROM at the end of PCI's first megabyte."""

    def __init__(self) -> None:
        super().__init__(Nic)
        self.ram(0, 0x200000)
        self.host = self.add("i440FX-pcihost", "pcihost")
        self.pci = self.host.pci_bus
        rom = Region.rom("bios", bytes(range(256)) * 256)
        self.host.pci_memory.add(0xF0000, rom)
        self.pmc = self.add("i440FX", "pmc")
        self.piix3 = self.add("PIIX3", "piix3")
        self.pm = self.add("PIIX4_PM", "pm")
        self.irqs = LineRecorder("irq", 16)
        self.piix3.isa_bus.connect_irqs(self.irqs.lines)
        self.sci = LineRecorder("sci", 1)
        self.pm.connect_out("sci", 0, self.sci.line(0))
        self.smi = LineRecorder("smi", 1)
        self.pm.connect_out("smi", 0, self.smi.line(0))

    def config(self, devfn: int, offset: int, size: int, value: int | None = None) -> int:
        self.outl(0xCF8, 0x80000000 | devfn << 8 | (offset & 0xFC))
        if value is not None:
            self.ports.write(0xCFC + (offset & 3), value, size)
        return self.ports.read(0xCFC + (offset & 3), size)

    def start_pm(self) -> None:
        self.config(0x0B, 0x40, 4, PM)
        self.config(0x0B, 0x80, 1, 1)


@pytest.fixture
def board() -> Board:
    return Board()


def test_who_is_there(board: Board) -> None:
    assert [board.config(devfn, 0, 4) for devfn in (0, 8, 9, 11)] == [0x12378086, 0x70008086, 0xFFFFFFFF, 0x71138086]
    assert board.config(8, 0x0E, 1) == 0x80
    assert [board.config(devfn, 0x2C, 4) for devfn in (0, 8, 11)] == [0x11001AF4] * 3


def test_needs_ram(board: Board) -> None:
    bench = SysBench()
    bench.add("i440FX-pcihost")
    with pytest.raises(RealizeError, match="no RAM at 0xc0000 to shadow: map RAM below 1 MiB first"):
        bench.add("i440FX")


def test_pam_switches_between_rom_and_ram(board: Board) -> None:
    assert board.read(0xF0001, 1) == 0x01  # ROM on PCI
    board.write(0xF0001, 0xAA, 1)
    assert board.read(0xF0001, 1) == 0x01
    board.config(0, 0x59, 1, 0x30)
    assert board.read(0xF0001, 1) == 0
    board.write(0xF0001, 0xAA, 1)
    board.config(0, 0x59, 1, 0x10)  # read-only shadow
    board.write(0xF0001, 0xBB, 1)
    assert board.read(0xF0001, 1) == 0xAA
    board.config(0, 0x59, 1, 0x00)
    assert board.read(0xF0001, 1) == 0x01
    board.config(0, 0x59, 1, 0x30)
    board.reset()
    assert board.read(0xF0001, 1) == 0x01
    board.config(0, 0x59, 1, 0x10)
    assert board.read(0xF0001, 1) == 0xAA  # RAM keeps what it had


def test_the_shadow_stays_through_suspend_to_ram(board: Board) -> None:
    board.config(0, 0x59, 1, 0x30)
    board.write(0xF0000, 0xA5, 1)
    board.reset(Reset.WAKE)
    assert (board.config(0, 0x59, 1), board.read(0xF0000, 1)) == (0x30, 0xA5)
    board.reset()
    assert (board.config(0, 0x59, 1), board.read(0xF0000, 1)) == (0, 0)


def test_every_pam_segment(board: Board) -> None:
    for n in range(12):
        start = 0xC0000 + n * 0x4000
        board.config(0, 0x5A + n // 2, 1, 3 << n % 2 * 4)
        for other in range(12):
            board.write(0xC0000 + other * 0x4000, 0x55, 1)
        seen = [board.read(0xC0000 + other * 0x4000, 1) for other in range(12)]
        assert [other for other in range(12) if seen[other] == 0x55] == [n]
        board.write(start, 0, 1)
        board.config(0, 0x5A + n // 2, 1, 0)
    board.config(0, 0x5A, 4, 0x33333333)
    assert board.config(0, 0x59, 1) == 0
    board.write(0xC0000, 0x1234, 2)
    assert board.read(0xC0000, 2) == 0x1234


def test_smram(board: Board) -> None:
    board.write(0xA0000, 0x55, 1)
    assert board.read(0xA0000, 1) == 0xFF  # PCI, and nobody there
    assert board.config(0, 0x72, 1, 0x4A) == 0x4A
    board.write(0xA0000, 0x55, 1)
    assert board.read(0xA0000, 1) == 0x55
    assert board.config(0, 0x72, 1, 0x1A) == 0x1A  # closed and locked
    assert board.config(0, 0x72, 1, 0x4A) == 0x1A
    assert board.read(0xA0000, 1) == 0xFF
    board.reset()
    assert board.config(0, 0x72, 1) == 0x02


def test_pirq_routing(board: Board) -> None:
    one = board.add("test-nic", addr="03.0")  # INTA# of slot 3: PIRQC#
    two = board.add("test-nic", addr="04.0")  # PIRQD#
    one.intx.raise_()
    assert not any(board.irqs.levels)
    board.config(8, 0x62, 1, 11)
    assert board.irqs.levels[11] == 1
    board.config(8, 0x63, 1, 11)
    two.intx.raise_()
    one.intx.lower()
    assert board.irqs.levels[11] == 1
    board.config(8, 0x63, 1, 10)
    assert (board.irqs.levels[10], board.irqs.levels[11]) == (1, 0)
    board.reset()
    assert not any(board.irqs.levels)


def test_reset_control_under_config_address(board: Board) -> None:
    board.outl(0xCF8, 0x80000040)
    assert board.inl(0xCF8) == 0x80000040
    board.outb(0xCF9, 0x02)
    assert board.inb(0xCF9) == 0x02
    assert board.inl(0xCF8) == 0x80000040
    assert board.system.resets == []
    board.outb(0xCF9, 0x06)
    assert board.system.resets == ["piix3-reset-control"]


def test_pm_space_appears(board: Board) -> None:
    assert board.inl(PM + 8) == 0xFFFFFFFF
    board.config(0x0B, 0x40, 4, 0xFFFFFFFF)
    assert board.config(0x0B, 0x40, 4) == 0xFFC1
    board.start_pm()
    assert board.inl(PM + 8) == 0
    board.clock.step(1_000_000_000)
    assert board.inl(PM + 8) == 3_579_545
    assert board.inb(PM + 9) == 3_579_545 >> 8 & 0xFF
    board.clock.step(4_000_000_000)
    assert board.inl(PM + 8) == 5 * 3_579_545 & 0xFFFFFF
    board.config(0x0B, 0x80, 1, 0)
    assert board.inl(PM + 8) == 0xFFFFFFFF


def test_pm_timer_overflow(board: Board) -> None:
    board.start_pm()
    board.outb(0xB2, 0xF1)
    assert board.inw(PM + 4) == 1
    board.outw(PM + 2, 0x0001)
    half = -(-(1 << 23) * 1_000_000_000 // 3_579_545)
    board.clock.step(half - 1)
    assert (board.inw(PM), board.sci.levels) == (0, [0])
    board.clock.step(1)
    assert (board.inw(PM), board.sci.levels) == (1, [1])
    board.outw(PM, 0x0001)
    assert (board.inw(PM), board.sci.levels) == (0, [0])
    board.clock.step(half)
    assert board.sci.rises == [2]
    board.outw(PM + 2, 0)
    assert board.sci.levels == [0]
    assert board.inw(PM) == 1
    assert board.clock.next_deadline() is None


def test_power_button_and_gpe(board: Board) -> None:
    board.start_pm()
    board.outw(PM + 2, 0x0100)
    board.pm.power_button()
    assert board.sci.levels == [0]  # ACPI is not enabled
    board.outb(0xB2, 0xF1)
    assert board.sci.levels == [1]
    board.outw(PM, 0x0100)
    assert board.sci.levels == [0]
    board.outw(PM + 0x0E, 0x0200)
    board.pm.set_gpe(9, 1)
    assert (board.inw(PM + 0x0C), board.sci.levels) == (0x0200, [1])
    board.outw(PM + 0x0C, 0x0200)
    assert (board.inw(PM + 0x0C), board.sci.levels) == (0, [0])
    board.outb(0xB2, 0xF0)
    assert board.inw(PM + 4) == 0


def test_soft_off_and_suspend(board: Board) -> None:
    board.start_pm()
    board.outw(PM + 4, 0x2001)
    assert board.system.shutdowns == [("acpi-soft-off", 0)]
    assert board.inw(PM + 4) == 1  # SLP_EN reads 0
    board.outw(PM + 4, 0x2401)
    assert (board.system.suspends, board.inw(PM + 4)) == (1, 0x401)
    board.outw(PM + 4, 0x2801)
    assert board.system.events[-1] == ("SUSPEND_DISK", {})
    assert board.system.shutdowns[-1] == ("acpi-suspend-disk", 0)
    board.outw(PM + 4, 0x2C00)
    assert board.system.logged[-1] == (
        "guest_errors",
        f"{board.pm.path}: there is no sleep type 3: 0 is soft off, 1 suspend to RAM, 2 suspend to disk",
    )


@pytest.mark.parametrize(
    ("reason", "bit", "status"),
    [
        (WakeReason.RTC, 0x0400, 0x8400),
        (WakeReason.POWER_BUTTON, 0x0100, 0x8100),
        (WakeReason.OTHER, None, 0x8100),
    ],
)
def test_what_wakes_is_enabled_and_told(board: Board, reason: WakeReason, bit: int | None, status: int) -> None:
    board.start_pm()
    assert board.pm.wakes_by(reason) is (bit is None)
    if bit is not None:
        board.outw(PM + 2, bit)
        assert board.pm.wakes_by(reason)
    board.reset()
    board.pm.wake_up(reason)
    board.start_pm()
    assert board.inw(PM) == status
    board.outw(PM, status)
    assert board.inw(PM) == 0


def test_the_power_button_wakes(board: Board) -> None:
    board.pm.power_button()
    assert board.system.wakes == [WakeReason.POWER_BUTTON]


def test_apm_ports_and_smi(board: Board) -> None:
    board.outb(0xB3, 0x12)
    board.outb(0xB2, 0x34)
    assert (board.inb(0xB2), board.inb(0xB3)) == (0x34, 0x12)
    assert board.smi.rises == [1]  # DEVACTB says firmware did its part
    board.config(0x0B, 0x58, 4, 0)
    board.outb(0xB2, 0x34)
    assert board.smi.rises == [1]


def test_smbus_is_empty(board: Board) -> None:
    assert board.inb(0x700) == 0xFF
    board.config(0x0B, 0x90, 4, 0x701)
    board.config(0x0B, 0xD2, 1, 0x09)
    assert board.inb(0x700) == 0
    board.outb(0x704, 0xA1)
    board.outb(0x702, 0x48)
    assert board.inb(0x700) == 0x04
    board.outb(0x700, 0xFF)
    assert board.inb(0x700) == 0
    board.config(0x0B, 0xD2, 1, 0)
    assert board.inb(0x700) == 0xFF


def test_state_round_trip(board: Board) -> None:
    board.start_pm()
    board.config(0, 0x59, 1, 0x30)
    saved = {device: device.save_state() for device in (board.pmc, board.piix3, board.pm)}
    board.reset()
    assert board.inl(PM + 8) == 0xFFFFFFFF
    for device, fields in saved.items():
        device.load_state(fields)
    assert board.inl(PM + 8) == 0
    assert board.read(0xF0001, 1) == 0


def test_config_space_same_as_qemu(board: Board, both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Reset values and random writes of what both model."""
    dice = random.Random(440)
    accesses: list[str] = []

    def at(devfn: int, offset: int, access: str) -> None:
        accesses.append(f"outl 0xcf8 {0x80000000 | devfn << 8 | offset & 0xFC:#x}")
        accesses.append(access.format(port=0xCFC + (offset & 3)))

    identity = [0x00, 0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0E, 0x2C, 0x2D, 0x2E, 0x2F, 0x34, 0x3D]
    models = {
        0x00: (list(range(0x59, 0x60)), {0x59: 0xF0}, [0x72]),
        0x08: ([0x60, 0x61, 0x62, 0x63, 0x4E], {}, [0x4C, 0x69, 0x70, 0x76, 0x77, 0x78, 0xA0, 0xA8]),
        0x0B: ([0x58, 0x59, 0x5A], {}, [0x40, 0x41, 0x42, 0x43, 0x80]),
    }

    def known(devfn: int) -> list[int]:
        return [offset for offset in identity if devfn or offset not in (0x06, 0x07)]  # the data sheet says 0280h

    for devfn, (_, _, fixed) in models.items():
        for offset in known(devfn) + fixed:
            at(devfn, offset, "inb {port:#x}")
    for _ in range(500):
        devfn = dice.choice(list(models))
        writable, masks, _ = models[devfn]
        offset = dice.choice(writable)
        value = dice.randrange(256)
        if devfn == 0:
            value &= masks.get(offset, 0xFF) & 0x33  # QEMU keeps reserved bits
        elif offset in (0x60, 0x61, 0x62, 0x63):
            value &= 0x8F
        at(devfn, offset, f"outb {{port:#x}} {value:#x}")
        at(devfn, dice.choice(writable), "inb {port:#x}")
        at(devfn, dice.choice(known(devfn)), f"outb {{port:#x}} {dice.randrange(256):#x}")
        at(devfn, dice.choice(known(devfn)), "inb {port:#x}")
    both(board, accesses, machine=qemu("-M", "pc", "-nodefaults"))


def test_pm_space_same_as_qemu(board: Board, both: Callable[..., None]) -> None:
    dice = random.Random(4)
    accesses = ["outl 0xcf8 0x80000b40", f"outl 0xcfc {PM:#x}", "outl 0xcf8 0x80000b80", "outb 0xcfc 1"]
    for _ in range(300):
        accesses.append(f"outw {PM:#x} {dice.randrange(0x10000):#x}")
        accesses.append(f"outw {PM + 2:#x} {dice.randrange(0x10000) & 0x0521:#x}")
        accesses.append(f"outw {PM + 4:#x} {dice.randrange(0x10000) & 0x1C01:#x}")
        accesses += [f"in{dice.choice('bw')} {PM + at:#x}" for at in (0, 2, 4)]
        accesses += [f"inl {PM:#x}", f"inl {PM + 8:#x}"]
        accesses += [f"outb 0xb3 {dice.randrange(256):#x}", f"outb 0xb2 {dice.choice((0xF0, 0xF1)):#x}"]
        accesses += ["inb 0xb2", "inb 0xb3", f"inw {PM + 4:#x}"]
    both(board, accesses)
