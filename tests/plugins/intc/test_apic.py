"""Local APICs and the I/O APIC of one machine, with stand-ins for the processors."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from qom.hw import AddressSpace, Region
from qom.hw.bench import SysBench

BASE, IOAPIC, MSI = 0xFEE00000, 0xFEC00000, 0xFEE00000
ID, VERSION, TPR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR2 = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
TIMER, LINT0, LINT1, ERROR, INITIAL, CURRENT, DIVIDE = 0x320, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3E0
ENABLED = 0x1FF
NMI, INIT, SIPI, LOWEST, LOGICAL, ASSERT, LEVEL = 4 << 8, 5 << 8, 6 << 8, 1 << 8, 1 << 11, 1 << 14, 1 << 15
SELF, ALL, OTHERS = 1 << 18, 2 << 18, 3 << 18
MASKED = 1 << 16


class Processor:
    """What an APIC drives."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.is_bootstrap = index == 0
        self.intr = False
        self.events: list[str] = []

    def raise_interrupt(self) -> None:
        self.intr = True

    def lower_interrupt(self) -> None:
        self.intr = False

    def request_nmi(self) -> None:
        self.events.append("nmi")

    def request_init(self) -> None:
        self.events.append("init")

    def request_sipi(self, vector: int) -> None:
        self.events.append(f"sipi {vector:#x}")

    def request_smi(self) -> None:
        self.events.append("smi")


class Pic:
    """An 8259 with something pending."""

    def __init__(self) -> None:
        self.vector = -1

    def has_interrupt(self) -> bool:
        return self.vector >= 0

    def get_interrupt(self) -> int:
        vector, self.vector = self.vector, -1
        return vector


class Machine(SysBench):
    """Processors with local APICs, and an I/O APIC."""

    def __init__(self, processors: int = 2) -> None:
        super().__init__()
        self.bus = self.add("apic-bus", "apic-bus")
        self.bus.pic = self.pic = Pic()
        self.cpus = [Processor(n) for n in range(processors)]
        self.spaces = []
        self.apics = []
        for cpu in self.cpus:
            apic = self.new("apic", apic_id=cpu.index)
            apic.cpu, apic.apic_bus, apic.view = cpu, self.bus, Region.container(f"view{cpu.index}")
            self.apics.append(self.insert(apic))
            self.spaces.append(AddressSpace(f"cpu{cpu.index}", apic.view))
        self.ioapic = self.new("ioapic")
        self.ioapic.apic_bus = self.bus
        self.insert(self.ioapic)
        for n in range(processors):
            self.set(n, SVR, ENABLED)

    def get(self, cpu: int, register: int) -> int:
        return self.spaces[cpu].read(BASE + register, 4)

    def set(self, cpu: int, register: int, value: int) -> None:
        self.spaces[cpu].write(BASE + register, value, 4)

    def command(self, cpu: int, low: int, destination: int = 0) -> None:
        self.set(cpu, ICR2, destination << 24)
        self.set(cpu, ICR, low)

    def redirect(self, pin: int, entry: int) -> None:
        for half in (1, 0):  # the low half, with the mask, last
            self.write(IOAPIC, 0x10 + 2 * pin + half, 4)
            self.write(IOAPIC + 0x10, entry >> 32 * half & 0xFFFFFFFF, 4)

    def redirection(self, pin: int) -> int:
        value = 0
        for half in (0, 1):
            self.write(IOAPIC, 0x10 + 2 * pin + half, 4)
            value |= self.read(IOAPIC + 0x10, 4) << 32 * half
        return value

    def pin(self, n: int, level: int) -> None:
        self.ioapic.line_in(None, n).set(level)

    def pending(self) -> list[bool]:
        return [cpu.intr for cpu in self.cpus]


@pytest.fixture
def board() -> Machine:
    return Machine()


def test_registers_after_reset() -> None:
    board = Machine()
    board.reset()
    assert [board.get(1, r) for r in (ID, VERSION, TPR, LDR, DFR, SVR)] == [1 << 24, 0x50014, 0, 0, 0xFFFFFFFF, 0xFF]
    assert [board.get(1, r) for r in (TIMER, LINT0, LINT1, ERROR)] == [MASKED] * 4
    assert board.get(0, LINT0) == 0x700


def test_each_processor_sees_its_own(board: Machine) -> None:
    board.set(0, TPR, 0x20)
    assert (board.get(0, TPR), board.get(1, TPR)) == (0x20, 0)
    assert [board.get(n, ID) >> 24 for n in (0, 1)] == [0, 1]


def test_fixed_priority_and_eoi(board: Machine) -> None:
    board.command(0, 0x41, 1)
    board.command(0, 0x52, 1)
    apic = board.apics[1]
    assert board.pending() == [False, True]
    assert board.get(1, IRR + 0x20) == 1 << (0x52 - 0x40) | 1 << (0x41 - 0x40)
    assert apic.get_interrupt() == 0x52
    assert board.get(1, PPR) == 0x50
    assert board.pending() == [False, False]  # 41h is of a lower class
    assert board.get(1, ISR + 0x20) == 1 << (0x52 - 0x40)
    board.command(0, 0x63, 1)
    assert apic.get_interrupt() == 0x63
    board.set(1, EOI, 0)
    assert board.get(1, PPR) == 0x50
    board.set(1, EOI, 0)
    assert apic.get_interrupt() == 0x41
    board.set(1, EOI, 0)
    board.set(1, EOI, 0)  # nothing in service: harmless
    assert not apic.has_interrupt()
    assert apic.get_interrupt() == -1


def test_task_priority(board: Machine) -> None:
    board.set(1, TPR, 0x4F)
    board.command(0, 0x4E, 1)
    assert board.pending() == [False, False]
    board.command(0, 0x50, 1)
    assert board.pending() == [False, True]
    assert board.get(1, PPR) == 0x4F
    board.set(1, TPR, 0x50)
    assert board.pending() == [False, False]
    board.set(1, TPR, 0x30)
    assert board.apics[1].get_interrupt() == 0x50


def test_software_disable(board: Machine) -> None:
    board.set(1, LINT1, 0x400)
    board.set(1, SVR, 0xFF)
    assert board.get(1, LINT1) == 0x400 | MASKED
    board.set(1, LINT1, 0x400)
    assert board.get(1, LINT1) == 0x400 | MASKED  # the mask is stuck
    board.command(0, 0x41, 1)
    assert board.pending() == [False, False]
    board.command(0, NMI, 1)
    board.command(0, INIT | ASSERT | LEVEL, 1)
    board.command(0, SIPI | 0x9A, 1)
    assert board.cpus[1].events == ["nmi", "init", "sipi 0x9a"]


def test_shorthands() -> None:
    board = Machine(3)
    board.command(1, SELF | 0x41)
    assert board.pending() == [False, True, False]
    board.command(1, OTHERS | 0x42)
    assert board.pending() == [True, True, True]
    assert [apic.get_interrupt() for apic in board.apics] == [0x42, 0x41, 0x42]
    board.command(0, ALL | NMI)
    board.command(0, OTHERS | INIT | ASSERT | LEVEL)
    board.command(0, ALL | INIT | LEVEL)  # level de-assert
    assert [cpu.events for cpu in board.cpus] == [["nmi"], ["nmi", "init"], ["nmi", "init"]]


def test_logical_destinations() -> None:
    board = Machine(4)
    for n in range(4):
        board.set(n, LDR, 1 << (24 + n))
    board.command(0, LOGICAL | 0x41, 0b1010)
    assert board.pending() == [False, True, False, True]
    for n in range(4):
        board.apics[n].get_interrupt()
        board.set(n, EOI, 0)
        board.set(n, DFR, 0x0FFFFFFF)  # cluster: two clusters of two
        board.set(n, LDR, (n // 2 << 4 | 1 << n % 2) << 24)
    board.command(0, LOGICAL | 0x42, 0x13)
    assert board.pending() == [False, False, True, True]
    board.command(0, LOGICAL | 0x42, 0x02)
    assert board.pending() == [False, True, True, True]
    board.command(0, 0x43, 0xFF)
    assert board.pending() == [True] * 4


def test_lowest_priority_goes_to_one() -> None:
    board = Machine(3)
    for n in range(3):
        board.set(n, LDR, 1 << (24 + n))
        board.set(n, TPR, (0x30, 0x10, 0x20)[n])
    board.command(0, LOGICAL | LOWEST | 0x41, 0x07)
    assert board.pending() == [False, True, False]
    board.apics[1].get_interrupt()
    board.command(0, LOGICAL | LOWEST | 0x51, 0x07)
    assert board.pending() == [False, False, True]  # 1 is at 40h now


def test_init_keeps_the_id_and_forgets_the_rest(board: Machine) -> None:
    board.set(1, ID, 7 << 24)
    board.set(1, TPR, 0x20)
    board.command(0, 0x41, 7)
    board.command(0, INIT | ASSERT | LEVEL, 7)
    assert [board.get(1, r) for r in (ID, TPR, SVR, IRR + 0x20)] == [7 << 24, 0, 0xFF, 0]
    assert board.pending() == [False, False]


def test_errors(board: Machine) -> None:
    board.set(0, ERROR, 0xE0)
    board.command(0, 0x05, 1)  # an illegal vector
    assert board.apics[0].get_interrupt() == 0xE0
    assert board.get(0, ESR) == 0
    board.set(0, ESR, 0)
    assert board.get(0, ESR) == 0x20
    board.bus.deliver(1, False, 0, 3, level=False)
    board.set(1, ESR, 0)
    assert board.get(1, ESR) == 0x40
    board.get(1, 0x3F0)
    board.set(1, ESR, 0)
    assert board.get(1, ESR) == 0x80
    board.set(1, ESR, 0)
    assert board.get(1, ESR) == 0


def test_timer_one_shot_and_periodic(board: Machine) -> None:
    apic = board.apics[0]
    board.set(0, DIVIDE, 0x3)  # by 16
    board.set(0, TIMER, 0x40)
    board.set(0, INITIAL, 1000)
    board.clock.step(8000)
    assert board.get(0, CURRENT) == 500
    assert board.pending() == [False, False]
    board.clock.step(8000)
    assert apic.get_interrupt() == 0x40
    assert board.get(0, CURRENT) == 0
    board.set(0, EOI, 0)
    board.clock.step(100_000)
    assert not apic.has_interrupt()
    board.set(0, DIVIDE, 0xB)  # by 1
    board.set(0, TIMER, 0x20040)
    board.set(0, INITIAL, 1000)
    for _ in range(10):
        board.clock.step(1000)
        assert apic.get_interrupt() == 0x40
        board.set(0, EOI, 0)
    board.set(0, TIMER, 0x20040 | MASKED)
    board.clock.step(5000)
    assert not apic.has_interrupt()
    board.set(0, INITIAL, 0)
    assert board.clock.next_deadline() is None


@pytest.mark.parametrize("bits, divisor", [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)])
def test_timer_divisors(board: Machine, bits: int, divisor: int) -> None:
    board.set(0, DIVIDE, bits)
    board.set(0, INITIAL, 100)
    board.clock.step(divisor * 40)
    assert board.get(0, CURRENT) == 60
    assert board.get(0, DIVIDE) == bits


def test_lint0_passes_the_8259_on(board: Machine) -> None:
    board.set(0, LINT0, 0x700)
    line = board.bus.line_in("pic")
    board.pic.vector = 0x08
    line.set(1)
    assert board.pending() == [True, False]
    board.command(1, 0x41, 0)
    assert board.apics[0].get_interrupt() == 0x41  # the APIC's own come first
    assert board.apics[0].get_interrupt() == 0x08
    line.set(0)
    assert board.pending() == [False, False]
    board.pic.vector = 0x09
    board.set(0, LINT0, 0x700 | MASKED)
    line.set(1)
    assert board.pending() == [False, False]
    board.set(0, LINT0, 0x700)
    assert board.pending() == [True, False]


def test_lint0_is_intr_while_the_apic_is_disabled(board: Machine) -> None:
    """Whatever its LVT entry said (11.4.3); a request that comes then wakes the processor."""
    board.set(0, LINT0, MASKED)
    board.apics[0].set_base(BASE)
    board.pic.vector = 0x08
    board.bus.line_in("pic").set(1)
    assert board.pending() == [True, False]
    assert board.apics[0].get_interrupt() == 0x08
    board.bus.line_in("pic").set(0)
    assert board.pending() == [False, False]


def test_lint1_is_nmi(board: Machine) -> None:
    board.set(0, LINT1, 0x400)
    line = board.apics[0].line_in("lint1")
    line.set(1)
    line.set(1)
    assert board.cpus[0].events == ["nmi"]


def test_ioapic_edge(board: Machine) -> None:
    board.redirect(4, 1 << 56 | 0x34)
    board.pin(4, 1)
    board.pin(4, 1)
    assert board.apics[1].get_interrupt() == 0x34
    board.set(1, EOI, 0)
    assert not board.apics[1].has_interrupt()
    board.redirect(4, MASKED | 1 << 56 | 0x34)
    board.pin(4, 0)
    board.pin(4, 1)
    board.redirect(4, 1 << 56 | 0x34)
    assert not board.apics[1].has_interrupt()  # an edge on a masked pin is lost


def test_ioapic_level(board: Machine) -> None:
    board.redirect(10, LEVEL | 0x52)
    board.pin(10, 1)
    assert board.redirection(10) == LEVEL | 1 << 14 | 0x52
    apic = board.apics[0]
    assert apic.get_interrupt() == 0x52
    assert board.get(0, TMR + 0x20) == 1 << (0x52 - 0x40)
    board.set(0, EOI, 0)
    assert apic.get_interrupt() == 0x52  # the line is still high
    board.pin(10, 0)
    board.set(0, EOI, 0)
    assert not apic.has_interrupt()
    assert board.redirection(10) == LEVEL | 0x52
    board.redirect(10, MASKED | LEVEL | 0x52)
    board.pin(10, 1)
    assert not apic.has_interrupt()
    board.redirect(10, LEVEL | 0x52)
    assert apic.get_interrupt() == 0x52


def test_ioapic_delivery_modes(board: Machine) -> None:
    board.redirect(2, NMI | 1 << 56)
    board.pin(2, 1)
    board.redirect(3, INIT | 1 << 56)
    board.pin(3, 1)
    assert board.cpus[1].events == ["nmi", "init"]
    board.pic.vector = 0x0B
    board.redirect(0, 7 << 8)
    board.pin(0, 1)
    assert board.apics[0].get_interrupt() == 0x0B
    board.set(0, TPR, 0xF0)
    board.pic.vector = 0x2B
    board.pin(0, 0)
    board.pin(0, 1)
    assert board.apics[0].get_interrupt() == 0x2B  # no priority holds it up, and it is never in service
    assert board.get(0, ISR + 0x20) == 0


def test_ioapic_registers(board: Machine) -> None:
    board.write(IOAPIC, 0, 4)
    board.write(IOAPIC + 0x10, 0xFF000000, 4)
    assert board.read(IOAPIC + 0x10, 4) == 0x0F000000
    board.write(IOAPIC, 1, 4)
    assert board.read(IOAPIC + 0x10, 4) == 0x00170011
    board.write(IOAPIC, 0x40, 4)
    assert board.read(IOAPIC + 0x10, 4) == 0
    board.reset()
    assert [board.redirection(n) for n in range(24)] == [MASKED] * 24


def test_message_signalled_interrupts(board: Machine) -> None:
    board.write(MSI | 1 << 12, 0x41, 4)
    assert board.apics[1].get_interrupt() == 0x41
    board.set(1, LDR, 0x02000000)
    board.write(MSI | 2 << 12 | 4, 0x52, 4)
    assert board.apics[1].get_interrupt() == 0x52


def test_state_round_trip(board: Machine) -> None:
    board.set(0, DIVIDE, 0xB)
    board.set(0, TIMER, 0x20040)
    board.set(0, INITIAL, 1000)
    board.command(1, 0x63, 0)
    board.redirect(10, LEVEL | 0x52)
    saved = [board.apics[0].save_state(), board.ioapic.save_state()]
    board.reset()
    assert board.clock.next_deadline() is None
    board.apics[0].load_state(saved[0])
    board.ioapic.load_state(saved[1])
    assert board.pending()[0]
    assert board.apics[0].get_interrupt() == 0x63
    board.set(0, EOI, 0)
    board.clock.step(1000)
    assert board.apics[0].get_interrupt() == 0x40
    assert board.redirection(10) == LEVEL | 0x52


def test_base_register(board: Machine) -> None:
    board.command(1, 0x41, 0)
    board.apics[0].set_base(0xFED10000 | 0x900)
    assert board.get(0, ID) == 0xFFFFFFFF
    assert board.spaces[0].read(0xFED10000 + VERSION, 4) == 0x50014
    assert board.pending()[0]
    board.apics[0].set_base(BASE | 0x100)  # globally disabled
    assert board.get(0, VERSION) == 0xFFFFFFFF
    assert not board.pending()[0]
    board.pic.vector = 0x08
    board.bus.line_in("pic").set(1)
    assert board.apics[0].get_interrupt() == 0x08  # INTR reaches the processor directly
    board.command(1, 0x42, 0)
    assert board.apics[0].get_interrupt() == -1
    board.reset()
    assert board.get(0, VERSION) == 0x50014


def test_cr8_is_the_task_priority_class(board: Machine) -> None:
    board.set(0, TPR, 0x5F)
    assert board.apics[0].cr8 == 5
    board.apics[0].cr8 = 3
    assert board.get(0, TPR) == 0x30


def test_ioapic_same_as_qemu(board: Machine, both: Callable[..., None], qemu: Callable[..., Any]) -> None:
    """Registers and pins; entries stay masked, or go to nobody, since QEMU's local APICs are out of reach."""
    dice = random.Random(82093)
    path = "/machine/i440fx/ioapic"
    accesses: list[str] = []
    levels = [0] * 24
    for _ in range(1500):
        index = dice.choice((0, 2, *range(0x10, 0x40)))  # 1: QEMU has a later version, with an EOI register
        accesses.append(f"writel {IOAPIC:#x} {index:#x}")
        if dice.randrange(2):
            value = dice.randrange(1 << 32)
            if index >= 0x10:  # QEMU keeps reserved bits
                value = value & 0xFF000000 if index & 1 else value & 0xAFFF | MASKED
            accesses.append(f"writel {IOAPIC + 0x10:#x} {value:#x}")
        n = dice.randrange(24)
        levels[n] ^= 1
        accesses.append(f"set_irq_in {path} unnamed-gpio-in {n} {levels[n]}")
        accesses += [f"readl {IOAPIC:#x}", f"readl {IOAPIC + 0x10:#x}"]
    lines = {path: lambda n, level: board.pin(n, level)}
    both(board, accesses, lines, qemu())
