"""Local APIC of one processor, and the bus that local APICs, I/O APICs and messages of one machine share.

Modelled: xAPIC register page and x2APIC registers with the ways between them, task and processor priority (and CR8),
IRR/ISR/TMR, EOI with broadcast, LVT entries for timer, LINT0, LINT1, error, thermal and performance counters, the timer
one-shot, periodic with its divider and by TSC deadline, interrupt commands with every shorthand, physical and logical
destinations in flat, cluster and x2APIC model, fixed, lowest-priority, SMI, NMI, INIT and start-up delivery, the error status
register, messages written by devices (MSI).
Not modelled: CMCI, arbitration by ID, suppression of EOI broadcasts, bus-clock rates other than 1 GHz.

Guest view: 4 KiB at FEE00000h, or where IA32_APIC_BASE says, each processor its own; in x2APIC mode MSRs 800h-83Fh instead;
IA32_TSC_DEADLINE; FEE00000h-FEEFFFFFh for writes by devices.
Source: Intel SDM Vol. 3A, chapter 11 ("Advanced Programmable Interrupt Controller"), as of 2023.

Every access is an exit of the processor into this file, and a timer tick or an IPI is three of them.  So registers are served
through two tables, by offset, and nothing is worked out that cannot have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from qom import Region, Reset, SysBusDevice, prop, state, type_init
from qom.hw import Route

if TYPE_CHECKING:
    from qom import Cpu
    from qom.hw import LapicReport

__all__ = ["Apic", "ApicBus"]

APIC_BASE, PAGE, MSI_SIZE = 0xFEE00000, 0x1000, 0x100000
BASE_ENABLE, BASE_X2APIC, BASE_BOOTSTRAP = 0x800, 0x400, 0x100  # IA32_APIC_BASE
BASE_MODE: Final = BASE_ENABLE | BASE_X2APIC

# Registers (table 11-1)
ID, VERSION, TPR, APR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0x90, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR = 0x320, 0x330, 0x340, 0x350, 0x360, 0x370
INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x380, 0x390, 0x3E0
SELF_IPI: Final = 0x3F0  # x2APIC only
X2APIC_MSR, X2APIC_MSRS, TSC_DEADLINE_MSR = 0x800, 0x100, 0x6E0  # MSR 800h + n is the register at n * 16

VERSION_VALUE: Final = 0x00050014  # version 14h, six LVT entries
SVR_ENABLE = 0x100
LVT_MASKED, LVT_LEVEL, LVT_REMOTE, LVT_PENDING = 1 << 16, 1 << 15, 1 << 14, 1 << 12
TIMER_MODE, LVT_PERIODIC, LVT_DEADLINE = 3 << 17, 1 << 17, 2 << 17
LVT_WRITABLE: Final = {
    LVT_TIMER: 0x700FF, LVT_THERMAL: 0x107FF, LVT_PERF: 0x107FF,
    LVT_LINT0: 0x1A7FF, LVT_LINT1: 0x1A7FF, LVT_ERROR: 0x100FF,
}  # fmt: skip

# Delivery modes (11.6.1)
FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 1, 2, 4, 5, 6, 7
EXTINT_LVT: Final = EXTINT << 8
ICR_LOGICAL, ICR_ASSERT, ICR_LEVEL = 1 << 11, 1 << 14, 1 << 15
ICR_WRITABLE: Final = 0x000CCFFF
SHORTHAND_SHIFT, SELF, ALL, OTHERS = 18, 1, 2, 3  # destination shorthands
BROADCAST, X2_BROADCAST = 0xFF, 0xFFFFFFFF
FLAT_MODEL = 0xF

ERR_SEND_VECTOR, ERR_RECEIVE_VECTOR, ERR_REGISTER = 0x20, 0x40, 0x80
LOWEST_VECTOR: Final = 16  # vectors 0-15 are illegal
DIVISORS: Final = (2, 4, 8, 16, 32, 64, 128, 1)  # by bits 3, 1, 0 of DIVIDE (figure 11-10)

# Bits that an x2APIC register takes; others raise #GP (11.12.1.2).  What is missing cannot be written.
X2_WRITABLE: Final = {
    TPR: 0xFF, EOI: 0, SVR: 0x1FF, ESR: 0, ICR_LOW: 0xFFFFFFFF_000CCFFF, INITIAL_COUNT: 0xFFFFFFFF, DIVIDE: 0xB,
    SELF_IPI: 0xFF, **{entry: bits | LVT_PENDING | LVT_REMOTE for entry, bits in LVT_WRITABLE.items()},
}  # fmt: skip
X2_UNREADABLE: Final = frozenset((APR, EOI, DFR, ICR_HIGH, SELF_IPI))


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
        if destination == BROADCAST:
            destination = X2_BROADCAST
        self.deliver_to(self.targets(destination, logical), mode, vector, level)

    def targets(self, destination: int, logical: bool) -> list[Apic]:
        """The local APICs that a destination names (11.6.2); FFFFFFFFh names all of them."""
        if destination == X2_BROADCAST:
            return self.apics
        return [apic for apic in self.apics if apic.matches(destination, logical)]

    def deliver_to(self, apics: Iterable[Apic], mode: int, vector: int, level: bool) -> None:
        """Deliver to these."""
        apics = [apic for apic in apics if apic.base & BASE_ENABLE and apic.realized]
        if mode == LOWEST and len(apics) > 1:
            ready = [apic for apic in apics if apic.svr & SVR_ENABLE] or apics
            apics = [min(ready, key=lambda apic: (apic.processor_priority(), apic.apic_id))]
        for apic in apics:
            apic.receive(mode, vector, level)

    def end_of_interrupt(self, vector: int) -> None:
        """A processor finished a level-triggered interrupt."""
        for listener in self.io_apics:
            listener.eoi(vector)


@type_init("apic")
class Apic(SysBusDevice):
    """One processor's local APIC; also that processor's `interrupt_controller`."""

    apic_id: int = prop(0, "APIC ID at reset, and in x2APIC mode", type="uint32")

    id_register: int = state(desc="APIC ID as the guest set it, 8 bits")
    tpr: int = state(desc="Task priority")
    ldr: int = state(desc="Logical destination, 8 bits")
    dfr: int = state(reset=FLAT_MODEL, desc="Destination model, 4 bits")
    svr: int = state(reset=0xFF, desc="Spurious-interrupt vector register")
    isr: int = state(desc="In-service bits, 256 of them")
    irr: int = state(desc="Request bits")
    tmr: int = state(desc="Trigger-mode bits")
    esr: int = state(desc="Error status as last latched")
    errors: int = state(desc="Errors since")
    icr: int = state(desc="Interrupt command, 64 bits; the destination in the upper half as the mode has it")
    external: bool = state(reset=False, desc="An ExtINT message came: the 8259 has the vector")
    lvt: dict[int, int] = state(factory=lambda: dict.fromkeys(LVT_WRITABLE, LVT_MASKED), desc="LVT entries")
    initial_count: int = state(desc="Timer: initial count")
    divide: int = state(desc="Timer: divide configuration")
    started: int = state(desc="Timer: guest time the count began at, ns")
    deadline: int = state(desc="Timer: IA32_TSC_DEADLINE, 0 while not armed")
    deadline_at: int = state(desc="Timer: guest time of the deadline, ns")
    base: int = state(reset=APIC_BASE | BASE_ENABLE, desc="IA32_APIC_BASE, but for the bootstrap bit")
    lint: list[int] = state(factory=lambda: [0, 0], keep=True, desc="Levels of LINT0 and LINT1")

    # Handed by the processor before realize
    cpu: Cpu
    apic_bus: ApicBus
    view: Region  # the processor's own view of memory
    read_tsc: Callable[[], tuple[int, int]] | None
    """The processor's TSC now and its frequency in kHz; None: there is no deadline mode."""
    sync: Callable[[], None] | None
    """Carries the task priority from and to CR8; set by the processor's loop."""

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "Local APIC", "intc", False

    def instance_init(self) -> None:
        """Declare the second local interrupt pin; the first is the bus's."""
        self.read_tsc = self.sync = None
        self.gpio_in("lint1", 1, lambda n, level: self.set_lint1(level))

    def realize(self) -> None:
        """Show the register page to the processor, and join the bus."""
        self._timer = self.clock.timer(self._timer_fires)
        self._make_tables()
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
        self._start()

    def init_reset(self) -> None:
        """INIT: as after power-up, but the APIC ID and IA32_APIC_BASE stay (11.4.7.3)."""
        apic_id, base = self.id_register, self.base
        self.reset_state()
        self.base = base
        self._start()
        self.id_register = apic_id

    def state_loaded(self) -> None:
        """Page, timer and the processor's interrupt line follow the registers."""
        super().state_loaded()
        self._place_page()
        self._resume_timer()
        self._update()

    def set_base(self, value: int) -> None:
        """The processor's IA32_APIC_BASE was written (11.4.3, 11.12.5): the page moves, or makes room for MSRs.

        Without its enable bit the APIC is gone, and what it held is forgotten.
        """
        value &= ~BASE_BOOTSTRAP
        before = self.base
        if value == before:
            return
        self.base = value
        if before & BASE_ENABLE and not value & BASE_ENABLE:
            self.init_reset()
        elif value & BASE_X2APIC and not before & BASE_X2APIC:
            self.icr = 0
        self._place_page()
        self._update()

    @property
    def x2apic(self) -> bool:
        """Whether it is in x2APIC mode."""
        return self.base & BASE_MODE == BASE_MODE

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
            self._page.set_enabled(self.base & BASE_MODE == BASE_ENABLE)

    def _start(self) -> None:
        self.id_register = self.apic_id & 0xFF
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
        irr = self.irr
        if not irr:
            return -1
        vector = irr.bit_length() - 1
        group = vector >> 4
        if group <= self.tpr >> 4 or (self.isr and group <= self.isr.bit_length() - 1 >> 4):
            return -1
        if not self.svr & SVR_ENABLE or not self.base & BASE_ENABLE:
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

    def interrupt_reports(self) -> list[LapicReport]:
        """The registers, for people."""
        from qom.hw import LapicReport

        registers = {offset: read() & 0xFFFFFFFF for offset, read in self._readers.items()}
        if self.base & BASE_X2APIC:
            registers[ICR_HIGH] = self.icr >> 32
        return [LapicReport(registers, bool(self.base & BASE_X2APIC))]

    def matches(self, destination: int, logical: bool) -> bool:
        """Whether a destination, other than a broadcast to all, means this APIC (11.6.2, 11.12.10)."""
        if self.base & BASE_X2APIC:
            if not logical:
                return destination == self.apic_id
            own = self._logical_x2apic_id()
            return destination >> 16 == own >> 16 and bool(destination & own & 0xFFFF)
        if destination == BROADCAST:
            return True
        if not logical:
            return destination == self.id_register
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
        if self.irr & bit and bool(self.tmr & bit) == level:
            return  # asked for already
        self.irr |= bit
        if level:
            self.tmr |= bit
        else:
            self.tmr &= ~bit
        if self._deliverable() >= 0:
            self.cpu.raise_interrupt()

    def _error(self, bit: int) -> None:
        if not self.errors & bit:  # one interrupt for each kind of error until software looks (11.5.3)
            self.errors |= bit
            self._local(LVT_ERROR)

    # -- local sources --------------------------------------------------------------------------------------------

    def set_lint0(self, level: int) -> None:
        """LINT0, the 8259's output."""
        if self.lvt[LVT_LINT0] & EXTINT_LVT == EXTINT_LVT or not self.base & BASE_ENABLE:
            self.lint[0] = 1 if level else 0
            self._update()
        else:
            self._set_lint(0, LVT_LINT0, level)

    def set_lint1(self, level: int) -> None:
        """LINT1, the NMI pin of a PC."""
        self._set_lint(1, LVT_LINT1, level)

    def _set_lint(self, n: int, entry: int, level: int) -> None:
        rising = level and not self.lint[n]
        self.lint[n] = 1 if level else 0
        if rising:
            self._lint(entry)

    def _lint(self, entry: int) -> None:
        """The pin of `entry` is asserted."""
        lvt = self.lvt[entry]
        if lvt & LVT_LEVEL and lvt >> 8 & 7 == FIXED:
            if lvt & (LVT_REMOTE | LVT_MASKED):
                return
            self.lvt[entry] = lvt | LVT_REMOTE  # until its EOI
        self._local(entry)

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
        self.started = now = self.clock.now()
        if self.initial_count:
            self._timer.arm_at(now + self.initial_count * self._divisor())
        else:
            self._timer.cancel()

    def _resume_timer(self) -> None:
        """After saved state was loaded: wait for the end of the count that is under way."""
        mode = self.lvt[LVT_TIMER] & TIMER_MODE
        period = self.initial_count * self._divisor()
        now = self.clock.now()
        if mode == LVT_DEADLINE:
            if self.deadline:
                self._timer.arm_at(self.deadline_at)
            else:
                self._timer.cancel()
        elif period and mode == LVT_PERIODIC:
            self._timer.arm_at(self.started + ((now - self.started) // period + 1) * period)
        elif period and now < self.started + period:
            self._timer.arm_at(self.started + period)
        else:
            self._timer.cancel()

    def _current_count(self) -> int:
        mode = self.lvt[LVT_TIMER] & TIMER_MODE
        if not self.initial_count or mode == LVT_DEADLINE:
            return 0
        gone = (self.clock.now() - self.started) // self._divisor()
        if mode == LVT_PERIODIC:
            return self.initial_count - gone % self.initial_count
        return max(0, self.initial_count - gone)

    def _timer_fires(self) -> None:
        lvt = self.lvt[LVT_TIMER]
        mode = lvt & TIMER_MODE
        if mode == LVT_DEADLINE:
            self.deadline = 0
        elif mode == LVT_PERIODIC and self.initial_count:
            period = self.initial_count * self._divisor()
            # Catch up with lost periods in one step: a late host must not make a storm of interrupts.
            self.started += (self.clock.now() - self.started) // period * period or period
            self._timer.arm_at(self.started + period)
        if not lvt & LVT_MASKED:
            self._request(lvt & 0xFF, False)

    def _set_deadline(self, value: int) -> None:
        """IA32_TSC_DEADLINE is written (11.5.4.1): the timer fires when the TSC reaches it, at once if it has already."""
        if self.lvt[LVT_TIMER] & TIMER_MODE != LVT_DEADLINE or self.read_tsc is None:
            return
        self.deadline = value
        if not value:
            self._timer.cancel()
            return
        tsc, khz = self.read_tsc()
        left = value - tsc
        if left <= 0:
            self._timer.cancel()
            self._timer_fires()
            return
        self.deadline_at = self.clock.now() + -(-left * 1_000_000 // khz)
        self._timer.arm_at(self.deadline_at)

    # -- registers ------------------------------------------------------------------------------------------------

    def _make_tables(self) -> None:
        """What serves each register, by its offset; a write gets the value."""
        readers: dict[int, Callable[[], int]] = {
            ID: lambda: self.apic_id if self.base & BASE_X2APIC else self.id_register << 24,
            VERSION: lambda: VERSION_VALUE,
            TPR: self._read_tpr,
            APR: self._read_ppr,
            PPR: self._read_ppr,
            EOI: lambda: 0,
            LDR: lambda: self._logical_x2apic_id() if self.base & BASE_X2APIC else self.ldr << 24,
            DFR: lambda: self.dfr << 28 | 0x0FFFFFFF,
            SVR: lambda: self.svr,
            ESR: lambda: self.esr,
            ICR_LOW: lambda: self.icr if self.base & BASE_X2APIC else self.icr & 0xFFFFFFFF,
            ICR_HIGH: lambda: self.icr >> 32,
            INITIAL_COUNT: lambda: 0 if self.lvt[LVT_TIMER] & TIMER_MODE == LVT_DEADLINE else self.initial_count,
            CURRENT_COUNT: self._current_count,
            DIVIDE: lambda: self.divide,
        }
        writers: dict[int, Callable[[int], None]] = {
            EOI: self._write_eoi,
            TPR: self._write_tpr,
            ICR_LOW: self._write_icr_low,
            ICR_HIGH: self._write_icr_high,
            INITIAL_COUNT: self._write_initial_count,
            DIVIDE: self._write_divide,
            SVR: self._write_svr,
            ID: self._write_id,
            LDR: self._write_ldr,
            DFR: self._write_dfr,
            ESR: self._write_esr,
        }
        for entry in LVT_WRITABLE:
            readers[entry] = self._lvt_reader(entry)
            writers[entry] = self._lvt_writer(entry)
        for first, field in ((ISR, "isr"), (TMR, "tmr"), (IRR, "irr")):
            for n in range(8):
                readers[first + 16 * n] = self._bits_reader(field, 32 * n)
        for offset in (VERSION, APR, PPR, CURRENT_COUNT, *(o for o in readers if ISR <= o < ESR)):
            writers[offset] = self._write_nothing
        self._readers, self._writers = readers, writers

    def _lvt_reader(self, entry: int) -> Callable[[], int]:
        return lambda: self.lvt[entry]

    def _lvt_writer(self, entry: int) -> Callable[[int], None]:
        return lambda value: self._write_lvt(entry, value)

    def _bits_reader(self, field: str, shift: int) -> Callable[[], int]:
        return lambda: int(getattr(self, field)) >> shift & 0xFFFFFFFF

    def _read(self, offset: int, size: int) -> int:
        reader = self._readers.get(offset)
        if reader is not None:
            return reader()
        if not offset & 0xF:
            self._error(ERR_REGISTER)
        return 0

    def _write(self, offset: int, value: int, size: int) -> None:
        writer = self._writers.get(offset)
        if writer is not None:
            writer(value)
        elif not offset & 0xF:
            self._error(ERR_REGISTER)

    def read_msr(self, index: int) -> int | None:
        """RDMSR of an MSR that is the APIC's; None: there is none of this number now, which raises #GP."""
        if index == TSC_DEADLINE_MSR:
            return self.deadline if self.read_tsc is not None else None
        offset = (index - X2APIC_MSR) << 4
        if self.base & BASE_MODE != BASE_MODE or offset in X2_UNREADABLE:
            return None
        reader = self._readers.get(offset)
        return reader() if reader is not None else None

    def write_msr(self, index: int, value: int) -> bool:
        """WRMSR; False: no such MSR now, or a value it does not take, which raises #GP."""
        if index == TSC_DEADLINE_MSR:
            if self.read_tsc is None:
                return False
            self._set_deadline(value)
            return True
        offset = (index - X2APIC_MSR) << 4
        taken = X2_WRITABLE.get(offset)
        if taken is None or value & ~taken or self.base & BASE_MODE != BASE_MODE:
            return False
        if offset == ICR_LOW:
            self.icr = value
            self._send(value & 0xFFFFFFFF, value >> 32)
        elif offset == SELF_IPI:
            if value < LOWEST_VECTOR:
                self._error(ERR_SEND_VECTOR)
            else:
                self._request(value, False)
        else:
            self._writers[offset](value)
        return True

    def _logical_x2apic_id(self) -> int:
        """LDR in x2APIC mode (11.12.10.2)."""
        return (self.apic_id >> 4) << 16 | 1 << (self.apic_id & 0xF)

    def _read_tpr(self) -> int:
        if self.sync is not None:
            self.sync()
        return self.tpr

    def _read_ppr(self) -> int:
        if self.sync is not None:
            self.sync()
        return self.processor_priority()

    def _write_tpr(self, value: int) -> None:
        if self.sync is not None:
            self.sync()
        self.tpr = value & 0xFF
        self._update()
        if self.sync is not None:
            self.sync()

    def _write_icr_low(self, value: int) -> None:
        value &= ICR_WRITABLE
        self.icr = self.icr & ~0xFFFFFFFF | value
        self._send(value, self.icr >> 56)

    def _write_icr_high(self, value: int) -> None:
        self.icr = self.icr & 0xFFFFFFFF | (value & 0xFF000000) << 32

    def _write_initial_count(self, value: int) -> None:
        if self.lvt[LVT_TIMER] & TIMER_MODE != LVT_DEADLINE:
            self.initial_count = value
            self._start_timer()

    def _write_divide(self, value: int) -> None:
        self.divide = value & 0xB
        if self._timer.pending and self.lvt[LVT_TIMER] & TIMER_MODE != LVT_DEADLINE:
            self._start_timer()

    def _write_lvt(self, entry: int, value: int) -> None:
        before = self.lvt[entry]
        value = value & LVT_WRITABLE[entry] | before & LVT_REMOTE
        if not self.svr & SVR_ENABLE:
            value |= LVT_MASKED  # while disabled, the mask bits are stuck (11.4.7.2)
        self.lvt[entry] = value
        if entry == LVT_TIMER:
            if (before ^ value) & LVT_DEADLINE:  # to or from deadline mode: disarmed (11.5.4.1)
                self._timer.cancel()
                self.initial_count = self.deadline = 0
        elif entry in (LVT_LINT0, LVT_LINT1):
            if self.lint[entry == LVT_LINT1] and value & LVT_LEVEL:
                self._lint(entry)
            self._update()

    def _write_svr(self, value: int) -> None:
        self.svr = value & 0x1FF
        if not self.svr & SVR_ENABLE:
            for entry in self.lvt:
                self.lvt[entry] |= LVT_MASKED
        self._update()

    def _write_id(self, value: int) -> None:
        self.id_register = value >> 24

    def _write_ldr(self, value: int) -> None:
        self.ldr = value >> 24

    def _write_dfr(self, value: int) -> None:
        self.dfr = value >> 28

    def _write_esr(self, value: int) -> None:
        self.esr, self.errors = self.errors, 0

    def _write_nothing(self, value: int) -> None:
        """Read-only."""

    def _write_eoi(self, value: int) -> None:
        isr = self.isr
        if not isr:
            return
        vector = isr.bit_length() - 1
        bit = 1 << vector
        self.isr = isr ^ bit
        if self.tmr & bit:
            self._end_of_level(vector)
        if self.irr:  # nothing else can have become deliverable
            self._update()

    def _end_of_level(self, vector: int) -> None:
        self.apic_bus.end_of_interrupt(vector)
        for n, entry in enumerate((LVT_LINT0, LVT_LINT1)):
            if self.lvt[entry] & LVT_REMOTE and self.lvt[entry] & 0xFF == vector:
                self.lvt[entry] &= ~LVT_REMOTE
                if self.lint[n]:
                    self._lint(entry)

    def _send(self, low: int, destination: int) -> None:
        """An interrupt command was written (11.6.1); destination: 8 bits, in x2APIC mode 32."""
        mode, vector, shorthand = low >> 8 & 7, low & 0xFF, low >> SHORTHAND_SHIFT & 3
        if mode == INIT and low & ICR_LEVEL and not low & ICR_ASSERT:
            return  # INIT level de-assert: arbitration IDs, which newer parts do not have
        if mode in (FIXED, LOWEST) and vector < LOWEST_VECTOR:
            self._error(ERR_SEND_VECTOR)
            return
        bus = self.apic_bus
        targets: list[Apic]
        if shorthand == SELF:
            targets = [self]
        elif shorthand:
            targets = [apic for apic in bus.apics if shorthand == ALL or apic is not self]
        else:
            if destination == BROADCAST and not self.base & BASE_X2APIC:
                destination = X2_BROADCAST
            targets = bus.targets(destination, bool(low & ICR_LOGICAL))
        bus.deliver_to(targets, mode, vector, False)
