"""Local APIC of one processor, and the bus that local APICs, I/O APICs and messages of one machine share.

Modelled: the xAPIC register page, task and processor priority, IRR/ISR/TMR, EOI with broadcast, LVT entries for timer, LINT0,
LINT1, error, thermal and performance counters, the timer one-shot and periodic with its divider, interrupt commands with every
shorthand, physical and logical destinations in flat and cluster model, fixed, lowest-priority, SMI, NMI, INIT and start-up
delivery, the error status register, messages written by devices (MSI).
Not modelled: x2APIC, TSC-deadline timer, CMCI, arbitration by ID, bus-clock rates other than 1 GHz.

Guest view: 4 KiB at FEE00000h, or where IA32_APIC_BASE says, each processor its own; FEE00000h-FEEFFFFFh for writes by devices.
Source: Intel SDM Vol. 3A, chapter 11 ("Advanced Programmable Interrupt Controller"), as of 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from qom import Region, Reset, SysBusDevice, prop, state, type_init
from qom.hw import Route

if TYPE_CHECKING:
    from qom import Cpu

__all__ = ["Apic", "ApicBus"]

APIC_BASE, PAGE, MSI_SIZE = 0xFEE00000, 0x1000, 0x100000
BASE_ENABLE, BASE_BOOTSTRAP = 0x800, 0x100  # IA32_APIC_BASE

# Registers (table 11-1)
ID, VERSION, TPR, APR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR = 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x380, 0x390, 0x3E0

VERSION_VALUE: Final = 0x00050014  # version 14h, six LVT entries
SVR_ENABLE = 0x100
LVT_MASKED, LVT_LEVEL, LVT_PENDING, LVT_PERIODIC = 1 << 16, 1 << 15, 1 << 12, 1 << 17
LVT_WRITABLE: Final = {
    LVT_TIMER: 0x300FF, LVT_THERMAL: 0x107FF, LVT_PERF: 0x107FF,
    LVT_LINT0: 0x1A7FF, LVT_LINT1: 0x1A7FF, LVT_ERROR: 0x100FF,
}  # fmt: skip

# Delivery modes (11.6.1)
FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
EXTINT_LVT: Final = EXTINT << 8
ICR_LOGICAL, ICR_ASSERT, ICR_LEVEL = 1 << 11, 1 << 14, 1 << 15
SELF, ALL, OTHERS = 1, 2, 3  # destination shorthands
BROADCAST = 0xFF
FLAT_MODEL = 0xF

ERR_SEND_VECTOR, ERR_RECEIVE_VECTOR, ERR_REGISTER = 0x20, 0x40, 0x80
LOWEST_VECTOR: Final = 16  # vectors 0-15 are illegal
DIVISORS: Final = (2, 4, 8, 16, 32, 64, 128, 1)  # by bits 3, 1, 0 of DIVIDE (figure 11-10)


class ExternalController(Protocol):
    """The 8259 pair, as seen from LINT0."""

    def has_interrupt(self) -> bool:
        """Whether INTR is asserted."""

    def get_interrupt(self) -> int:
        """Acknowledge; the vector."""


class EoiListener(Protocol):
    """An I/O APIC, as seen from a local one."""

    def eoi(self, vector: int) -> None:
        """A level-triggered interrupt with this vector was finished."""


@type_init("apic-bus")
class ApicBus(SysBusDevice):
    """What the APICs of one machine talk through.  Input `pic`: the 8259's INTR, which is LINT0 of every local APIC."""

    pic: ExternalController | None
    message_sink: Callable[[int, int], None] | None

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "APIC message bus", "intc", False

    def instance_init(self) -> None:
        """Nobody is there yet."""
        self.apics: list[Apic] = []
        self.io_apics: list[EoiListener] = []
        self.pic = None
        self.message_sink = None  # where the local APICs are inside the accelerator: takes (address, data)
        self.gpio_in("pic", 1, self._pic_line)

    def realize(self) -> None:
        """Take messages that devices write to memory."""
        region = Region("msi", MSI_SIZE, None, self._write_message, (4, 4), owner=self)
        self.sysbus.map_memory(APIC_BASE, region)

    def routes(self) -> Iterator[Route]:
        """The 8259's line is every local APIC's LINT0; messages go to whichever they name."""
        for apic in self.apics:
            yield Route(self.line_in("pic"), apic, "LINT0")
            yield Route(None, apic, "messages")

    def connect_controller(self, line: str | None, controller: ExternalController) -> None:
        """The output of an 8259 was wired to input `line`: it gives the vectors of ExtINT."""
        if line == "pic":
            self.pic = controller

    def _pic_line(self, n: int, level: int) -> None:
        for apic in self.apics:
            apic.set_lint0(level)

    def _write_message(self, offset: int, value: int, size: int) -> None:
        self.message(APIC_BASE + offset, value)

    def message(self, address: int, data: int) -> None:
        """Deliver a message-signalled interrupt (11.11)."""
        if self.message_sink is not None:
            self.message_sink(address, data)
            return
        self.deliver(
            address >> 12 & 0xFF, bool(address & 4), data >> 8 & 7, data & 0xFF, level=bool(data & ICR_LEVEL)
        )  # fmt: skip

    def deliver(self, destination: int, logical: bool, mode: int, vector: int, *, level: bool) -> None:
        """Deliver an interrupt message.

        Args:
            destination: APIC ID or logical destination, 8 bits.
            logical: which of the two it is.
            mode: delivery mode.
            vector: interrupt vector, or page number for start-up.
            level: whether the source is level-triggered (an EOI is then told to the I/O APICs).
        """
        if self.message_sink is not None:
            self.message_sink(
                APIC_BASE | destination << 12 | (4 if logical else 0),
                vector | mode << 8 | (ICR_ASSERT | ICR_LEVEL if level else 0),
            )
            return
        self.deliver_to(self.targets(destination, logical), mode, vector, level)

    def targets(self, destination: int, logical: bool) -> list[Apic]:
        """The local APICs that a destination names (11.6.2)."""
        return [apic for apic in self.apics if apic.matches(destination, logical)]

    def deliver_to(self, apics: Iterable[Apic], mode: int, vector: int, level: bool) -> None:
        """Deliver to these."""
        apics = [apic for apic in apics if apic.hears]
        if mode == LOWEST and apics:
            apics = [min(apics, key=lambda apic: (apic.processor_priority(), apic.apic_id))]
        for apic in apics:
            apic.receive(mode, vector, level)

    def end_of_interrupt(self, vector: int) -> None:
        """A processor finished a level-triggered interrupt."""
        for listener in self.io_apics:
            listener.eoi(vector)


@type_init("apic")
class Apic(SysBusDevice):
    """One processor's local APIC; also that processor's `interrupt_controller`."""

    apic_id: int = prop(0, "APIC ID at reset", type="uint8")

    id_register: int = state(desc="APIC ID as the guest set it")
    tpr: int = state(desc="Task priority")
    ldr: int = state(desc="Logical destination, 8 bits")
    dfr: int = state(reset=FLAT_MODEL, desc="Destination model, 4 bits")
    svr: int = state(reset=0xFF, desc="Spurious-interrupt vector register")
    isr: int = state(desc="In-service bits, 256 of them")
    irr: int = state(desc="Request bits")
    tmr: int = state(desc="Trigger-mode bits")
    esr: int = state(desc="Error status as last latched")
    errors: int = state(desc="Errors since")
    icr: int = state(desc="Interrupt command, 64 bits")
    external: bool = state(reset=False, desc="An ExtINT message came: the 8259 has the vector")
    lvt: dict[int, int] = state(factory=lambda: dict.fromkeys(LVT_WRITABLE, LVT_MASKED), desc="LVT entries")
    initial_count: int = state(desc="Timer: initial count")
    divide: int = state(desc="Timer: divide configuration")
    started: int = state(desc="Timer: guest time the count began at, ns")
    base: int = state(reset=APIC_BASE | BASE_ENABLE, desc="IA32_APIC_BASE, but for the bootstrap bit")
    lint: list[int] = state(factory=lambda: [0, 0], keep=True, desc="Levels of LINT0 and LINT1")

    # Handed by the processor before realize
    cpu: Cpu
    apic_bus: ApicBus
    view: Region  # the processor's own view of memory

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "Local APIC", "intc", False

    def instance_init(self) -> None:
        """Declare the second local interrupt pin; the first is the bus's."""
        self.gpio_in("lint1", 1, lambda n, level: self.set_lint1(level))

    def realize(self) -> None:
        """Show the register page to the processor, and join the bus."""
        self._timer = self.clock.timer(self._timer_fires)
        self._page = Region("apic", PAGE, self._read, self._write, (4, 4), owner=self)
        self.map(self.view, APIC_BASE, self._page)
        self.apic_bus.apics.append(self)
        self.on_unrealize(lambda: self.apic_bus.apics.remove(self))

    def routes(self) -> Iterator[Route]:
        """It tells its processor, and through the bus the others."""
        yield Route(None, self.cpu, "interrupts")

    def reset_hold(self, kind: Reset) -> None:
        """Power-up state (11.4.7.1); LINT0 of the first processor passes the 8259 on, as firmware expects of a PC."""
        super().reset_hold(kind)
        self.id_register = self.apic_id
        self._start()

    def init_reset(self) -> None:
        """INIT: as after power-up, but the APIC ID and IA32_APIC_BASE stay (11.4.7.3)."""
        apic_id, base = self.id_register, self.base
        self.reset_state()
        self.id_register, self.base = apic_id, base
        self._start()

    def state_loaded(self) -> None:
        """Page, timer and the processor's interrupt line follow the registers."""
        super().state_loaded()
        self._place_page()
        self._resume_timer()
        self._update()

    def set_base(self, value: int) -> None:
        """The processor's IA32_APIC_BASE was written (11.4.4): the page moves; without its enable bit it is gone."""
        value &= ~BASE_BOOTSTRAP
        if value != self.base:
            self.base = value
            self._place_page()
            self._update()

    @property
    def cr8(self) -> int:
        """The processor's CR8, which is the class of the task priority (11.8.6)."""
        return self.tpr >> 4

    @cr8.setter
    def cr8(self, value: int) -> None:
        if self.tpr >> 4 != value:
            self.tpr = value << 4 & 0xF0
            self._update()

    def _place_page(self) -> None:
        with self.view.transaction():
            self._page.set_offset(self.base & ~(PAGE - 1))
            self._page.set_enabled(bool(self.base & BASE_ENABLE))

    def _start(self) -> None:
        self._place_page()
        self._timer.cancel()
        if self.cpu.is_bootstrap:
            self.lvt[LVT_LINT0] = EXTINT_LVT
        self._update()

    # -- toward the processor (qom.vm.cpu.InterruptController) ----------------------------------------------------

    def has_interrupt(self) -> bool:
        """Whether the processor should be interrupted."""
        return self._deliverable() >= 0 or self._external()

    def get_interrupt(self) -> int:
        """The processor takes an interrupt: its vector, or -1 when there is none any more."""
        vector = self._deliverable()
        if vector >= 0:
            bit = 1 << vector
            self.irr &= ~bit
            self.isr |= bit
            self._update()
            return vector
        if self._external() and self.apic_bus.pic is not None:
            self.external = False
            vector = self.apic_bus.pic.get_interrupt()
            self._update()
            return vector
        return -1

    def _deliverable(self) -> int:
        """The highest requested vector above the processor priority, or -1 (11.8.3)."""
        vector = self.irr.bit_length() - 1
        if (
            vector < 0
            or not self.svr & SVR_ENABLE
            or not self.base & BASE_ENABLE
            or vector >> 4 <= self.processor_priority() >> 4
        ):
            return -1
        return vector

    def _external(self) -> bool:
        """Whether an ExtINT message, or LINT0, brings an interrupt of the 8259."""
        pic = self.apic_bus.pic
        if pic is None:
            return False
        if self.external:
            return True
        if self.base & BASE_ENABLE:
            passes = self.lvt[LVT_LINT0] & (LVT_MASKED | EXTINT_LVT) == EXTINT_LVT
        else:
            passes = self.cpu.is_bootstrap  # LINT0 is INTR then (11.4.3)
        return passes and pic.has_interrupt()

    def _update(self) -> None:
        if self._deliverable() >= 0 or self._external():
            self.cpu.raise_interrupt()
        else:
            self.cpu.lower_interrupt()

    def processor_priority(self) -> int:
        """PPR (11.8.3.1)."""
        serving = (self.isr.bit_length() - 1) & 0xF0 if self.isr else 0
        return self.tpr if self.tpr & 0xF0 >= serving else serving

    # -- messages -------------------------------------------------------------------------------------------------

    @property
    def hears(self) -> bool:
        """Whether it takes part in the bus: it does not while IA32_APIC_BASE disables it."""
        return self.realized and bool(self.base & BASE_ENABLE)

    def matches(self, destination: int, logical: bool) -> bool:
        """Whether a destination means this APIC (11.6.2)."""
        if not logical:
            return destination in (self.id_register, BROADCAST)
        if destination == BROADCAST:
            return True
        if self.dfr == FLAT_MODEL:
            return bool(destination & self.ldr)
        return destination >> 4 == self.ldr >> 4 and bool(destination & self.ldr & 0xF)

    def receive(self, mode: int, vector: int, level: bool) -> None:
        """Take a message."""
        if mode in (FIXED, LOWEST):
            self._request(vector, level)
        elif mode == NMI:
            self.cpu.request_nmi()
        elif mode == INIT:
            self.init_reset()
            self.cpu.request_init()
        elif mode == STARTUP:
            self.cpu.request_sipi(vector)
        elif mode == SMI:
            self.cpu.request_smi()
        elif mode == EXTINT:
            self.external = True
            self._update()

    def _request(self, vector: int, level: bool) -> None:
        if vector < LOWEST_VECTOR:
            self._error(ERR_RECEIVE_VECTOR)
            return
        if not self.svr & SVR_ENABLE:
            return
        bit = 1 << vector
        self.irr |= bit
        if level:
            self.tmr |= bit
        else:
            self.tmr &= ~bit
        self._update()

    def _error(self, bit: int) -> None:
        self.errors |= bit
        self._local(LVT_ERROR)

    # -- local sources --------------------------------------------------------------------------------------------

    def set_lint0(self, level: int) -> None:
        """LINT0, the 8259's output."""
        rising = level and not self.lint[0]
        self.lint[0] = 1 if level else 0
        if self.lvt[LVT_LINT0] & EXTINT_LVT == EXTINT_LVT or not self.base & BASE_ENABLE:
            self._update()
        elif rising:
            self._local(LVT_LINT0)

    def set_lint1(self, level: int) -> None:
        """LINT1, the NMI pin of a PC."""
        rising = level and not self.lint[1]
        self.lint[1] = 1 if level else 0
        if rising:
            self._local(LVT_LINT1)

    def _local(self, entry: int) -> None:
        """A local source fires: deliver as its LVT entry says."""
        lvt = self.lvt[entry]
        if not lvt & LVT_MASKED:
            mode = lvt >> 8 & 7 if entry not in (LVT_TIMER, LVT_ERROR) else FIXED
            if mode != EXTINT:
                self.receive(mode, lvt & 0xFF, bool(lvt & LVT_LEVEL) and mode == FIXED)

    # -- timer (11.5.4); the bus clock is 1 GHz, so a tick is `_divisor` nanoseconds --------------------------------

    def _divisor(self) -> int:
        return DIVISORS[self.divide >> 1 & 4 | self.divide & 3]

    def _start_timer(self) -> None:
        self.started = self.clock.now()
        if self.initial_count:
            self._timer.arm_at(self.started + self.initial_count * self._divisor())
        else:
            self._timer.cancel()

    def _resume_timer(self) -> None:
        """After saved state was loaded: wait for the end of the count that is under way."""
        period = self.initial_count * self._divisor()
        now = self.clock.now()
        if period and self.lvt[LVT_TIMER] & LVT_PERIODIC:
            self._timer.arm_at(self.started + ((now - self.started) // period + 1) * period)
        elif period and now < self.started + period:
            self._timer.arm_at(self.started + period)
        else:
            self._timer.cancel()

    def _current_count(self) -> int:
        if not self.initial_count:
            return 0
        gone = (self.clock.now() - self.started) // self._divisor()
        if self.lvt[LVT_TIMER] & LVT_PERIODIC:
            return self.initial_count - gone % self.initial_count
        return max(0, self.initial_count - gone)

    def _timer_fires(self) -> None:
        if self.lvt[LVT_TIMER] & LVT_PERIODIC and self.initial_count:
            period = self.initial_count * self._divisor()
            # Catch up with lost periods in one step: a late host must not make a storm of interrupts.
            self.started += (self.clock.now() - self.started) // period * period or period
            self._timer.arm_at(self.started + period)
        self._local(LVT_TIMER)

    # -- register page --------------------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> int:
        if offset & 0xF:
            return 0
        if offset == TPR:
            return self.tpr
        if offset == CURRENT_COUNT:
            return self._current_count()
        for base, bits in ((ISR, self.isr), (TMR, self.tmr), (IRR, self.irr)):
            if base <= offset < base + 0x80:
                return bits >> (offset - base) * 2 & 0xFFFFFFFF
        if offset in self.lvt:
            return self.lvt[offset]
        if offset == APR:
            return self.processor_priority()
        values = {
            ID: self.id_register << 24,
            VERSION: VERSION_VALUE,
            PPR: self.processor_priority(),
            EOI: 0,
            LDR: self.ldr << 24,
            DFR: self.dfr << 28 | 0x0FFFFFFF,
            SVR: self.svr,
            ESR: self.esr,
            ICR_LOW: self.icr & 0xFFFFFFFF,
            ICR_HIGH: self.icr >> 32,
            INITIAL_COUNT: self.initial_count,
            DIVIDE: self.divide,
        }
        value = values.get(offset)
        if value is None:
            self._error(ERR_REGISTER)
            return 0
        return value

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset & 0xF:
            return
        if offset == EOI:
            self._end_of_interrupt()
        elif offset == TPR:
            self.tpr = value & 0xFF
            self._update()
        elif offset == ICR_LOW:
            self.icr = self.icr & ~0xFFFFFFFF | value & 0x000CCFFF
            self._send()
        elif offset == ICR_HIGH:
            self.icr = self.icr & 0xFFFFFFFF | (value & 0xFF000000) << 32
        elif offset in self.lvt:
            self._write_lvt(offset, value)
        elif offset == INITIAL_COUNT:
            self.initial_count = value
            self._start_timer()
        elif offset == DIVIDE:
            self.divide = value & 0xB
            if self._timer.pending:
                self._start_timer()
        elif offset == SVR:
            self._write_svr(value)
        elif offset == ID:
            self.id_register = value >> 24
        elif offset == LDR:
            self.ldr = value >> 24
        elif offset == DFR:
            self.dfr = value >> 28
        elif offset == ESR:
            self.esr, self.errors = self.errors, 0
        elif not (ISR <= offset < ESR or offset in (VERSION, APR, PPR, CURRENT_COUNT)):
            self._error(ERR_REGISTER)

    def _write_lvt(self, offset: int, value: int) -> None:
        value &= LVT_WRITABLE[offset]
        if not self.svr & SVR_ENABLE:
            value |= LVT_MASKED  # while disabled, the mask bits are stuck (11.4.7.2)
        self.lvt[offset] = value
        if offset == LVT_LINT0:
            self._update()

    def _write_svr(self, value: int) -> None:
        self.svr = value & 0x1FF
        if not self.svr & SVR_ENABLE:
            for entry in self.lvt:
                self.lvt[entry] |= LVT_MASKED
        self._update()

    def _end_of_interrupt(self) -> None:
        if not self.isr:
            return
        vector = self.isr.bit_length() - 1
        bit = 1 << vector
        self.isr &= ~bit
        if self.tmr & bit:
            self.apic_bus.end_of_interrupt(vector)
        self._update()

    def _send(self) -> None:
        """An interrupt command was written (11.6.1)."""
        low = self.icr & 0xFFFFFFFF
        mode, vector, shorthand = low >> 8 & 7, low & 0xFF, low >> 18 & 3
        level = bool(low & ICR_LEVEL)
        if mode == INIT and level and not low & ICR_ASSERT:
            return  # INIT level de-assert: arbitration IDs, which newer parts do not have
        if mode in (FIXED, LOWEST) and vector < LOWEST_VECTOR:
            self._error(ERR_SEND_VECTOR)
            return
        bus = self.apic_bus
        if shorthand == SELF:
            targets = [self]
        elif shorthand in (ALL, OTHERS):
            targets = [apic for apic in bus.apics if shorthand == ALL or apic is not self]
        else:
            targets = bus.targets(self.icr >> 56, bool(low & ICR_LOGICAL))
        bus.deliver_to(targets, mode, vector, False)
