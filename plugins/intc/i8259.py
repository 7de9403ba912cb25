"""Intel 8259A programmable interrupt controller, one of the pair in a PC, with its edge/level register (ELCR).

Modelled: ICW1-4, OCW1-3, fixed and rotating priority, automatic EOI, special mask mode, special fully nested mode,
poll, reading IRR and ISR, cascade, spurious interrupts 7 and 15, ELCR.
Not modelled: 8080/85 mode, buffered mode (both need pins a PC does not wire), level triggering by ICW1 (chip sets with
an ELCR ignore the bit).  An edge stays latched in IRR when its line falls before the acknowledge, as in the chip sets.
Guest view: two ports at `iobase`, the ELCR at `elcr-addr`; inputs [0..7], output `intr`.

Sections: "8259A Programmable Interrupt Controller", Intel 231468-003; ELCR: PIIX3 data sheet 290550, 2.5.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qom import link, prop, state, type_init
from qom.hw import IsaDevice, Region, Route

if TYPE_CHECKING:
    from qom.hw import PicReport

COMMAND, DATA = 0, 1  # port offsets

ICW1, ICW1_IC4, ICW1_SINGLE = 0x10, 0x01, 0x02
ICW2_BASE = 0xF8
ICW4_AUTO_EOI, ICW4_NESTED = 0x02, 0x10
OCW3, OCW3_POLL, OCW3_READ, OCW3_ISR = 0x08, 0x04, 0x02, 0x01
OCW3_SET_MASK_MODE, OCW3_MASK_MODE = 0x40, 0x20
ROTATE_AUTO_CLEAR, EOI, SPECIFIC_EOI, ROTATE_AUTO_SET, ROTATE_EOI, SET_PRIORITY, ROTATE_SPECIFIC_EOI = (
    0,
    1,
    3,
    4,
    5,
    6,
    7,
)
POLL_PENDING = 0x80

READY, WANTS_ICW2, WANTS_ICW3, WANTS_ICW4 = 0, 1, 2, 3  # initialisation sequence
CASCADE = 2  # input of the master that the slave drives
SPURIOUS = 7
NONE = 8  # no level


@type_init("isa-i8259")
class I8259(IsaDevice):
    """One 8259A.  The board wires the slave's `intr` to input 2 of the master, and names it in the master's `slave`."""

    iobase: int = prop(0x20, "First of two I/O ports", type="uint16", base=16)
    elcr_addr: int = prop(0x4D0, "I/O port of the edge/level control register", type="uint16", base=16)
    elcr_mask: int = prop(0xF8, "Inputs that may be level-triggered", type="uint8", base=16)
    master: bool = prop(True, "Whether it is the first of a pair")
    slave: I8259 | None = link("isa-i8259", "The second controller, on input 2 of this one", strong=False)

    irr: int = state(desc="Interrupt request register")
    imr: int = state(desc="Interrupt mask register")
    isr: int = state(desc="In-service register")
    elcr: int = state(desc="Level-triggered inputs")
    inputs: int = state(keep=True, desc="Levels of the input lines")
    base: int = state(desc="Vector of input 0")
    lowest: int = state(reset=7, desc="Input with the lowest priority")
    init_step: int = state(desc="What the data port expects next")
    wants_icw4: bool = state(reset=False)
    single: bool = state(reset=False)
    read_isr: bool = state(reset=False, desc="The command port reads ISR instead of IRR")
    poll: bool = state(reset=False, desc="The next read acknowledges")
    special_mask: bool = state(reset=False)
    auto_eoi: bool = state(reset=False)
    rotate_on_auto_eoi: bool = state(reset=False)
    nested: bool = state(reset=False, desc="Special fully nested mode")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "8259A interrupt controller", "intc"

    def instance_init(self) -> None:
        """Declare the lines."""
        self.gpio_in(None, 8, self.set_input)
        self._intr = self.gpio_out("intr")[0]
        self._raised = [0] * 8

    def routes(self) -> Iterator[Route]:
        """Every input leads to INTR."""
        yield Route(None, self._intr)

    def realize(self) -> None:
        """Take the ports."""
        self.isa.map_ports(self.iobase, Region("pic", 2, self._read, self._write, (1, 1)))
        self.isa.map_ports(self.elcr_addr, Region("elcr", 1, self._read_elcr, self._write_elcr, (1, 1)))

    def reset(self) -> None:
        """Power-up state: edge-triggered, nothing pending; lines that are high count as seen."""
        super().reset()
        self._update()

    def state_loaded(self) -> None:
        """INTR follows the registers."""
        self._update()

    # -- lines

    def set_input(self, n: int, level: int) -> None:
        """Input `n` goes to `level`."""
        bit = 1 << n
        if level:
            if not self.inputs & bit or self.elcr & bit:
                self._raised[n] += not self.inputs & bit
                self.inputs |= bit
                self.irr |= bit
                self._update()
        elif self.inputs & bit:
            self.inputs &= ~bit
            if self.elcr & bit:
                self.irr &= ~bit
                self._update()

    def interrupt_counts(self) -> list[int]:
        """How often each input was raised since the machine was made."""
        return list(self._raised)

    def interrupt_reports(self) -> list[PicReport]:
        """The registers, for people."""
        from qom.hw import PicReport

        number, highest = int(not self.master), (self.lowest + 1) & 7
        return [
            PicReport(number, self.irr, self.imr, self.isr, highest, self.base, self.read_isr, self.elcr, self.nested)
        ]

    def has_interrupt(self) -> bool:
        """Whether INTR is asserted."""
        return self._pending() < NONE

    def get_interrupt(self) -> int:
        """The two INTA cycles: acknowledge and return the vector; a request that went away gives 7 (or 15)."""
        n = self._pending()
        if n == CASCADE and self.slave is not None:
            vector = self.slave.get_interrupt()
            self._acknowledge(n)
        elif n < NONE:
            vector = self.base + n
            self._acknowledge(n)
        else:
            vector = self.base + SPURIOUS
        return vector

    def _pending(self) -> int:
        """The input to be served next, or NONE."""
        requests = self.irr & ~self.imr
        if not requests:
            return NONE
        lowest = self.lowest
        request = _first(requests, lowest)
        busy = self.isr
        if self.special_mask:
            busy &= ~self.imr
        if self.nested and self.master:
            busy &= ~(1 << CASCADE)  # the slave may interrupt itself
        if busy and _first(busy, lowest) <= request:
            return NONE
        return (request + lowest + 1) & 7

    def _acknowledge(self, n: int) -> None:
        bit = 1 << n
        if not self.auto_eoi:
            self.isr |= bit
        elif self.rotate_on_auto_eoi:
            self.lowest = n
        if not self.elcr & bit:
            self.irr &= ~bit
        self._update()

    def _update(self) -> None:
        level = 1 if self._pending() < NONE else 0
        pin = self._intr
        if level != pin.level:
            pin.set(level)

    # -- ports

    def _read(self, offset: int, size: int) -> int:
        if self.poll:
            self.poll = False
            n = self._pending()
            if n == NONE:
                return 0
            self._acknowledge(n)
            return POLL_PENDING | n
        if offset == DATA:
            return self.imr
        return self.isr if self.read_isr else self.irr

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == COMMAND:
            if value & ICW1:
                self._begin(value)
            elif value & OCW3:
                self._ocw3(value)
            else:
                self._ocw2(value >> 5, value & 7)
            return
        step = self.init_step
        if step == READY:
            self.imr = value
            self._update()
        elif step == WANTS_ICW2:
            self.base = value & ICW2_BASE
            after = WANTS_ICW4 if self.wants_icw4 else READY
            self.init_step = after if self.single else WANTS_ICW3
        elif step == WANTS_ICW3:  # who is connected where is the board's doing
            self.init_step = WANTS_ICW4 if self.wants_icw4 else READY
        else:
            self.nested = bool(value & ICW4_NESTED)
            self.auto_eoi = bool(value & ICW4_AUTO_EOI)
            self.init_step = READY

    def _begin(self, value: int) -> None:
        """ICW1: everything but the ELCR starts anew; a line that is high needs a new edge."""
        elcr = self.elcr
        levels = self.irr & elcr
        self.reset_state()
        self.elcr, self.irr = elcr, levels
        self.init_step = WANTS_ICW2
        self.wants_icw4 = bool(value & ICW1_IC4)
        self.single = bool(value & ICW1_SINGLE)
        self._update()

    def _ocw2(self, command: int, level: int) -> None:
        if command in (ROTATE_AUTO_CLEAR, ROTATE_AUTO_SET):
            self.rotate_on_auto_eoi = command == ROTATE_AUTO_SET
        elif command in (EOI, ROTATE_EOI):
            busy = self.isr & ~self.imr if self.special_mask else self.isr  # special mask mode: p. 18
            if busy:
                n = (_first(busy, self.lowest) + self.lowest + 1) & 7
                self.isr &= ~(1 << n)
                if command == ROTATE_EOI:
                    self.lowest = n
                self._update()
        elif command in (SPECIFIC_EOI, ROTATE_SPECIFIC_EOI):
            self.isr &= ~(1 << level)
            if command == ROTATE_SPECIFIC_EOI:
                self.lowest = level
            self._update()
        elif command == SET_PRIORITY:
            self.lowest = level
            self._update()

    def _ocw3(self, value: int) -> None:
        if value & OCW3_POLL:
            self.poll = True
        if value & OCW3_READ:
            self.read_isr = bool(value & OCW3_ISR)
        if value & OCW3_SET_MASK_MODE:
            self.special_mask = bool(value & OCW3_MASK_MODE)
            self._update()

    def _read_elcr(self, offset: int, size: int) -> int:
        return self.elcr

    def _write_elcr(self, offset: int, value: int, size: int) -> None:
        levels = value & self.elcr_mask
        self.irr = (self.irr & ~levels) | (self.inputs & levels)
        self.elcr = levels
        self._update()


def _first(bits: int, lowest: int) -> int:
    """How far the first set bit is from the input with the highest priority, the one after `lowest`."""
    start = (lowest + 1) & 7
    turned = bits >> start | bits << (8 - start) & 0xFF
    return (turned & -turned).bit_length() - 1
