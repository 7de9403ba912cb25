"""Global system interrupts of a PC: one input a line, passed on to the 8259 pair and to the I/O APIC.

Guest view: none; it is the wiring of the board (ACPI calls the numbers "global system interrupts").  Lines 0-15 reach both
controllers, 16-23 only the I/O APIC.  IRQ 0 arrives at I/O APIC pin 2, where the MADT's override points; IRQ 2 is the
cascade of the 8259 pair and reaches nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator

from qom import SysBusDevice, state, type_init
from qom.hw import Route

__all__ = ["GsiLines"]

ISA_LINES = 16
IOAPIC_PINS = 24
CASCADE = 2
REPLACED = (0, 8)  # what an HPET can replace: the 8254 and the RTC


@type_init("gsi-lines")
class GsiLines(SysBusDevice):
    """Unnamed inputs, from the ISA bus, and `board` inputs, 24 each; outputs `pic[0..15]` and `ioapic[0..23]`.

    Input n and board input n are one line, wired-OR.  While `legacy` is high, lines 0 and 8 are inputs `hpet[0]` and
    `hpet[1]` instead ("legacy replacement", IA-PC HPET specification 1.0a, 2.3.9.1).
    """

    inputs: int = state(keep=True, desc="Levels of the unnamed inputs")
    board: int = state(keep=True, desc="Levels of the board inputs")
    hpet: int = state(keep=True, desc="Levels of the hpet inputs")
    legacy: int = state(keep=True, desc="Level of the legacy input")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "PC interrupt lines", "intc", False

    def instance_init(self) -> None:
        """Declare the lines."""
        self.gpio_in(None, IOAPIC_PINS, self._set_input)
        self.gpio_in("board", IOAPIC_PINS, self._set_board)
        self.gpio_in("hpet", len(REPLACED), self._set_hpet)
        self.gpio_in("legacy", 1, self._set_legacy)
        self._pic = self.gpio_out("pic", ISA_LINES)
        self._ioapic = self.gpio_out("ioapic", IOAPIC_PINS)

    def routes(self) -> Iterator[Route]:
        """Input n and board input n lead to the outputs of that number, 0 to the I/O APIC's second."""
        for name in (None, "board"):
            for n in range(IOAPIC_PINS):
                line = self.line_in(name, n)
                if n < ISA_LINES:
                    yield Route(line, self._pic[n])
                if n != CASCADE:
                    yield Route(line, self._ioapic[n or CASCADE])
        for k, n in enumerate(REPLACED):
            line = self.line_in("hpet", k)
            yield Route(line, self._pic[n])
            yield Route(line, self._ioapic[n or CASCADE])

    def _set_input(self, n: int, level: int) -> None:
        bit = 1 << n
        self.inputs = self.inputs | bit if level else self.inputs & ~bit
        self._drive(n)

    def _set_board(self, n: int, level: int) -> None:
        bit = 1 << n
        self.board = self.board | bit if level else self.board & ~bit
        self._drive(n)

    def _set_hpet(self, k: int, level: int) -> None:
        self.hpet = self.hpet | 1 << k if level else self.hpet & ~(1 << k)
        if self.legacy:
            self._drive(REPLACED[k])

    def _set_legacy(self, n: int, level: int) -> None:
        if level != self.legacy:
            self.legacy = level
            for line in REPLACED:
                self._drive(line)

    def _drive(self, n: int) -> None:
        level = (self.inputs | self.board) >> n & 1
        if self.legacy and n in REPLACED:
            level = self.hpet >> REPLACED.index(n) & 1
        if n < ISA_LINES:
            self._pic[n].set(level)
        if n == 0:
            self._ioapic[CASCADE].set(level)
        elif n != CASCADE:
            self._ioapic[n].set(level)
