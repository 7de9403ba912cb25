"""I/O APIC (82093AA): 24 inputs, each with a redirection entry.

Modelled: index and window registers, ID, version, arbitration ID, redirection entries with mask, edge and level triggering,
remote IRR, every delivery mode and destination, EOI from the local APICs.
Not modelled: input polarity (a line that is set asserts its pin whatever the polarity bit says), the serial APIC bus.

Guest view: IOREGSEL at FEC00000h, IOWIN at FEC00010h; inputs [0..23].
Source: Intel 82093AA datasheet (order 290566).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qom import Region, Reset, SysBusDevice, prop, state, type_init
from qom.hw import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qom.hw import IoApicReport

__all__ = ["IoApic"]

PINS: Final = 24
IOREGSEL, IOWIN, SIZE = 0x00, 0x10, 0x1000
ID, VERSION, ARBITRATION, REDIRECTION = 0x00, 0x01, 0x02, 0x10  # indirect registers
VERSION_VALUE: Final = (PINS - 1) << 16 | 0x11

# Redirection entry (3.2.4)
VECTOR, MODE_SHIFT, LOGICAL, STATUS, REMOTE_IRR, LEVEL, MASKED, DESTINATION_SHIFT = (
    0xFF, 8, 1 << 11, 1 << 12, 1 << 14, 1 << 15, 1 << 16, 56,
)  # fmt: skip
READ_ONLY: Final = STATUS | REMOTE_IRR
WRITABLE: Final = 0xFF0000000001AFFF


@type_init("ioapic")
class IoApic(SysBusDevice):
    """One I/O APIC."""

    base: int = prop(0xFEC00000, "Physical address of the registers", type="uint64", base=16)

    ioapic_id: int = state(desc="APIC ID, 4 bits")
    select: int = state(desc="IOREGSEL")
    irr: int = state(desc="Inputs that ask for service")
    levels: int = state(keep=True, desc="Levels of the inputs")
    table: list[int] = state(factory=lambda: [MASKED] * PINS, desc="Redirection entries")

    apic_bus: Any  # handed by the board before realize: an ApicBus

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "I/O APIC (82093AA)", "intc", False

    def instance_init(self) -> None:
        """Declare the inputs."""
        self.gpio_in(None, PINS, self._set)
        self._raised = [0] * PINS

    def realize(self) -> None:
        """Show the registers and listen for EOIs."""
        region = Region("ioapic", SIZE, self._read, self._write, (4, 4), narrow="widen", owner=self)
        self.sysbus.map_memory(self.base, region)
        self.apic_bus.io_apics.append(self)
        self.on_unrealize(lambda: self.apic_bus.io_apics.remove(self))

    def routes(self) -> Iterator[Route]:
        """Every input becomes a message on the bus of the APICs."""
        yield Route(None, self.apic_bus, "messages")

    def reset_hold(self, kind: Reset) -> None:
        """All pins masked; a line that is high stays a request once its pin is made level-triggered."""
        super().reset_hold(kind)

    def _set(self, n: int, level: int) -> None:
        bit = 1 << n
        entry = self.table[n]
        rising = level and not self.levels & bit
        if level:
            self._raised[n] += not self.levels & bit
            self.levels |= bit
        else:
            self.levels &= ~bit
        if entry & LEVEL:
            if level:
                self.irr |= bit
                self._service(n)
            else:
                self.irr &= ~bit
        elif rising and not entry & MASKED:  # an edge on a masked pin is lost (3.2.4, bit 16)
            self.irr |= bit
            self._service(n)

    def _service(self, n: int) -> None:
        """Deliver pin `n`'s request if its entry lets it through."""
        entry = self.table[n]
        if entry & MASKED or not self.irr >> n & 1:
            return
        if entry & LEVEL:
            if entry & REMOTE_IRR:
                return
            self.table[n] = entry | REMOTE_IRR
        else:
            self.irr &= ~(1 << n)
        self.apic_bus.deliver(
            entry >> DESTINATION_SHIFT, bool(entry & LOGICAL), entry >> MODE_SHIFT & 7, entry & VECTOR,
            level=bool(entry & LEVEL),
        )  # fmt: skip

    def interrupt_counts(self) -> list[int]:
        """How often each input was raised since the machine was made."""
        return list(self._raised)

    def interrupt_reports(self) -> list[IoApicReport]:
        """The registers, for people."""
        from qom.hw import IoApicReport

        return [IoApicReport(self.ioapic_id, VERSION_VALUE & 0xFF, self.select, self.irr, tuple(self.table))]

    def eoi(self, vector: int) -> None:
        """A processor finished a level-triggered interrupt with this vector."""
        for n in self._pins_of(vector):
            self.table[n] &= ~REMOTE_IRR
            self._service(n)

    def _pins_of(self, vector: int) -> Iterator[int]:
        for n, entry in enumerate(self.table):
            if entry & VECTOR == vector and entry & LEVEL and entry & REMOTE_IRR:
                yield n

    def _read(self, offset: int, size: int) -> int:
        if offset == IOREGSEL:
            return self.select
        if offset != IOWIN:
            return 0
        if self.select in (ID, ARBITRATION):
            return self.ioapic_id << 24
        if self.select == VERSION:
            return VERSION_VALUE
        n, high = divmod(self.select - REDIRECTION, 2)
        if not 0 <= n < PINS:
            return 0
        return self.table[n] >> 32 * high & 0xFFFFFFFF

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == IOREGSEL:
            self.select = value & 0xFF
        elif offset == IOWIN:
            if self.select == ID:
                self.ioapic_id = value >> 24 & 0xF
            n, high = divmod(self.select - REDIRECTION, 2)
            if 0 <= n < PINS:
                self._write_entry(n, high, value)

    def _write_entry(self, n: int, high: int, value: int) -> None:
        old = self.table[n]
        mask = WRITABLE & 0xFFFFFFFF << 32 * high
        entry = old & ~mask | value << 32 * high & mask
        if not entry & LEVEL:
            entry &= ~REMOTE_IRR  # switching to edge clears it
            if old & LEVEL:
                self.irr &= ~(1 << n)
        elif self.levels >> n & 1:
            self.irr |= 1 << n
        self.table[n] = entry
        self._service(n)
