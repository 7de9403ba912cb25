"""High-precision event timers: one 64-bit counter at 100 MHz and its comparators.

Modelled: the main counter, 3 to 32 comparators in 32-bit and 64-bit mode, one-shot and periodic, edge- and level-triggered
interrupts with their status, routing to the I/O APIC, legacy replacement (comparators 0 and 1 instead of the 8254 and the RTC).
Not modelled: delivery by messages (FSB): no comparator says it can.

Guest view: 1 KiB at `base`.  Outputs: [n] is line n of the I/O APIC, for those in `routes-to`; `legacy` is high while
`irq0` and `irq8` stand for the interrupts of the 8254 and the RTC, which the board then disconnects.  Nothing counts: what the
counter shows follows from the clock, and a late host makes one interrupt out of the periods it missed.

Source: "IA-PC HPET (High Precision Event Timers) Specification", revision 1.0a, Intel 2004.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from plugins.timer.i8254 import I8254
from qom import Region, SysBusDevice, link, prop, records, state, type_init

if TYPE_CHECKING:
    from qom import Pin

__all__ = ["PERIOD_FS", "Hpet"]

SIZE: Final = 0x400
PERIOD_NS: Final = 10
PERIOD_FS: Final = PERIOD_NS * 1_000_000

# Registers (2.3), 64 bits each; those of comparator n from 100h + 20h * n on
CAPABILITIES, CONFIGURATION, STATUS, COUNTER = 0x000, 0x010, 0x020, 0x0F0
TIMERS, TIMER_SIZE, TIMER_CONFIG, TIMER_COMPARATOR = 0x100, 0x20, 0x00, 0x08

REVISION, COUNT_64, LEGACY_CAPABLE, VENDOR = 0x01, 1 << 13, 1 << 15, 0x8086 << 16  # CAPABILITIES
ENABLE, LEGACY = 0x1, 0x2  # CONFIGURATION

# Configuration of a comparator (2.3.8)
LEVEL, INTERRUPTS, PERIODIC, PERIODIC_CAPABLE, SIZE_64, SET_VALUE, MODE_32 = (1 << n for n in (1, 2, 3, 4, 5, 6, 8))
ROUTE_SHIFT, ROUTE = 9, 0x1F << 9
WRITABLE: Final = LEVEL | INTERRUPTS | PERIODIC | SET_VALUE | MODE_32 | ROUTE

BITS_32, BITS_64 = (1 << 32) - 1, (1 << 64) - 1
FAR: Final = 1 << 52  # ticks, more than a year: nobody waits for that


@records.define
class Comparator:
    """One comparator.  `value` is what it waits for from `seen` on; `period` is added to it each time it comes."""

    config: int = 0
    value: int = BITS_64
    period: int = 0
    seen: int = 0

    @property
    def mask(self) -> int:
        """How far the counter counts for it."""
        return BITS_32 if self.config & MODE_32 else BITS_64

    def left(self, now: int) -> int:
        """Ticks from counter value `now` to the match; the one that is now is over."""
        return (self.value - now & self.mask) or self.mask + 1

    def settle(self, now: int) -> bool:
        """The counter shows `now`; whether it matched since it was last looked at."""
        gone, left = now - self.seen & BITS_64, self.left(self.seen)
        self.seen = now
        if gone < left:
            return False
        if self.config & PERIODIC and self.period:
            self.value = self.value + ((gone - left) // self.period + 1) * self.period & self.mask
        return True


@type_init("hpet")
class Hpet(SysBusDevice):
    """High-precision event timers."""

    base: int = prop(0xFED00000, "Physical address of the registers", type="uint64", base=16)
    timers: int = prop(3, "Comparators", type="uint8", min=3, max=32)
    pit: I8254 | None = link("isa-pit", "Timer that is told when its interrupts are replaced")
    routes_to: int = prop(
        0xFF0000, "Lines of the I/O APIC that a comparator can drive, one bit each", type="uint32", base=16
    )

    configuration: int = state(desc="General configuration")
    status: int = state(desc="Level-triggered interrupts that are asserted, one bit a comparator")
    counter: int = state(desc="Main counter while it is halted")
    zero: int = state(desc="Guest time at which the running counter was 0, ns")
    comparators: list[Comparator] = state(factory=list, desc="Comparators")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "High-precision event timers (HPET)", "timer", False

    def instance_init(self) -> None:
        """Declare the lines."""
        self._out = self.gpio_out(None, 32)
        self._replaced = [self.gpio_out("irq0")[0], self.gpio_out("irq8")[0]]
        self._legacy = self.gpio_out("legacy")[0]

    def realize(self) -> None:
        """Show the registers; one timer for each comparator."""
        self._timers = [self.clock.timer(self._alarm(n)) for n in range(self.timers)]
        self.sysbus.map_memory(self.base, Region("hpet", SIZE, self._read, self._write, (4, 8), owner=self))

    def reset(self) -> None:
        """Halted at 0, all comparators off, the 8254 and the RTC connected (2.3)."""
        super().reset()
        self.comparators = [Comparator() for _ in range(self.timers)]
        for timer in self._timers:
            timer.cancel()
        for pin in (*self._out, *self._replaced):
            if pin.level:
                pin.lower()
        self._say_legacy()

    def state_loaded(self) -> None:
        """Lines and timers follow the registers."""
        super().state_loaded()
        self._say_legacy()
        for n, comparator in enumerate(self.comparators):
            if self.status >> n & 1 and comparator.config & INTERRUPTS:
                self._line(n).raise_()
            self._arm(n)

    @property
    def block_id(self) -> int:
        """The lower half of the capabilities, which the ACPI table repeats."""
        return REVISION | (self.timers - 1) << 8 | COUNT_64 | LEGACY_CAPABLE | VENDOR

    # -- counting

    def _count(self) -> int:
        if self.configuration & ENABLE:
            return (self.clock.now() - self.zero) // PERIOD_NS & BITS_64
        return self.counter

    def _alarm(self, n: int) -> Callable[[], None]:
        return lambda: self._match(n)

    def _arm(self, n: int) -> None:
        """Wait for the counter to reach comparator `n`, if somebody can see that it does."""
        timer, comparator = self._timers[n], self.comparators[n]
        now = self._count()
        left = comparator.left(now)
        if self.configuration & ENABLE and comparator.config & (INTERRUPTS | LEVEL) and left < FAR:
            timer.arm_at(self.zero + (now + left) * PERIOD_NS)
        else:
            timer.cancel()

    def _match(self, n: int) -> None:
        comparator = self.comparators[n]
        matched = comparator.settle(self._count())
        self._arm(n)
        if not matched:
            return
        if comparator.config & LEVEL:
            self.status |= 1 << n
            if comparator.config & INTERRUPTS:
                self._line(n).raise_()
        elif comparator.config & INTERRUPTS:
            self._line(n).pulse()

    def _line(self, n: int) -> Pin:
        """Where comparator `n`'s interrupt goes."""
        if n < 2 and self.configuration & LEGACY:
            return self._replaced[n]
        return self._out[self.comparators[n].config >> ROUTE_SHIFT & 0x1F]

    # -- registers

    def _read(self, offset: int, size: int) -> int:
        value = self._register(offset & ~7)
        return value if size == 8 else value >> (offset & 4) * 8 & BITS_32

    def _register(self, offset: int) -> int:
        if offset == COUNTER:
            return self._count()
        if offset == CAPABILITIES:
            return PERIOD_FS << 32 | self.block_id
        if offset == CONFIGURATION:
            return self.configuration
        if offset == STATUS:
            return self.status
        n, register = divmod(offset - TIMERS, TIMER_SIZE)
        if not 0 <= n < self.timers:
            return 0
        comparator = self.comparators[n]
        if register == TIMER_CONFIG:
            return self.routes_to << 32 | PERIODIC_CAPABLE | SIZE_64 | comparator.config
        if register == TIMER_COMPARATOR:
            comparator.settle(self._count())
            return comparator.value
        return 0

    def _write(self, offset: int, value: int, size: int) -> None:
        at, mask = offset & ~7, BITS_64
        if size == 4:
            shift = (offset & 4) * 8
            value, mask = value << shift, BITS_32 << shift
        n, register = divmod(at - TIMERS, TIMER_SIZE)
        if at == CONFIGURATION:
            self._configure(self.configuration & ~mask | value & mask & (ENABLE | LEGACY))
        elif at == STATUS:
            self._acknowledge(value)
        elif at == COUNTER:
            if not self.configuration & ENABLE:  # it can be written only while halted (2.3.7)
                self.counter = self.counter & ~mask | value
                for comparator in self.comparators:
                    comparator.seen = self.counter
        elif not 0 <= n < self.timers:
            return
        elif register == TIMER_CONFIG:
            self._configure_timer(n, self.comparators[n].config & ~mask | value & mask & WRITABLE)
        elif register == TIMER_COMPARATOR:
            self._set_comparator(n, value, mask)

    def _configure(self, value: int) -> None:
        changed = self.configuration ^ value
        if changed & ENABLE:
            now = self._count()
            self.counter, self.zero = now, self.clock.now() - now * PERIOD_NS
        asserted = [n for n in range(self.timers) if self._asserts(n)]
        if changed & LEGACY:
            for n in asserted:
                self._line(n).lower()
        self.configuration = value
        if changed & LEGACY:
            self._say_legacy()
            for n in asserted:
                self._line(n).raise_()
        if changed & ENABLE:
            for n in range(self.timers):
                self._arm(n)

    def _say_legacy(self) -> None:
        level = 1 if self.configuration & LEGACY else 0
        self._legacy.set(level)
        if self.pit is not None:
            self.pit.set_off(level)  # its interrupts lead nowhere now

    def _asserts(self, n: int) -> bool:
        return bool(self.status >> n & 1 and self.comparators[n].config & INTERRUPTS)

    def _acknowledge(self, bits: int) -> None:
        for n in range(self.timers):
            if self.status & bits & 1 << n:
                if self._asserts(n):
                    self._line(n).lower()
                self.status &= ~(1 << n)

    def _configure_timer(self, n: int, config: int) -> None:
        comparator = self.comparators[n]
        comparator.settle(self._count())
        if self._asserts(n):
            self._line(n).lower()
        if (
            not self.routes_to >> (config >> ROUTE_SHIFT & 0x1F) & 1
        ):  # a route there is not reads back as it was (2.3.8)
            config = config & ~ROUTE | comparator.config & ROUTE
        comparator.config = config
        if not config & LEVEL:
            self.status &= ~(1 << n)
        if self._asserts(n):
            self._line(n).raise_()
        if config & MODE_32:
            comparator.value &= BITS_32
            comparator.period &= BITS_32
        self._arm(n)

    def _set_comparator(self, n: int, value: int, mask: int) -> None:
        """A periodic comparator's period is written; while SET_VALUE is set, also what it waits for first (2.3.9.2.2)."""
        comparator = self.comparators[n]
        comparator.settle(self._count())
        if not comparator.config & PERIODIC or comparator.config & SET_VALUE:
            comparator.value = (comparator.value & ~mask | value) & comparator.mask
        if comparator.config & PERIODIC:
            comparator.period = (comparator.period & ~mask | value) & comparator.mask
            if mask != BITS_32 or comparator.config & MODE_32:
                comparator.config &= ~SET_VALUE  # once the whole value is written
        self._arm(n)
