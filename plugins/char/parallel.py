"""Parallel port of the AT (Centronics, SPP): the port itself, and a printer that is always ready behind it.

The strobe hands the data byte to the back end; when that has taken it and the strobe is over, the printer pulses ACK.
While the back end has no room, the printer is busy.
Modelled: data, control and status register, strobe, ACK and its interrupt, BUSY, printer reset (INIT), the data register
as it reads back.
Not modelled: EPP and ECP, input through the data lines (with bit 5 of the control register set they float), paper end
and other errors of the printer, auto feed, the time a character takes.

Guest view: three ports at `iobase`; a pulse on ISA line `irq` with each ACK while control bit 4 is set.

Section: "IEEE 1284-1994", annex C; IBM 6361459, "Printer Adapter".
"""

from __future__ import annotations

from qom import Chardev, IsaDevice, RealizeError, Region, link, prop, state, type_init

DATA, STATUS, CONTROL = range(3)  # register offsets

NOT_BUSY, NOT_ACK, PAPER_OUT, SELECTED, NO_ERROR = 0x80, 0x40, 0x20, 0x10, 0x08  # status register
STROBE, NOT_INIT, SELECT, ACK_INTERRUPT, INPUT = 0x01, 0x04, 0x08, 0x10, 0x20  # control register; bit 1 is auto feed
CONTROL_BITS, CONTROL_ONES = 0x3F, 0xC0
FLOATING = 0xFF

PORTS = (0x378, 0x278, 0x3BC)  # LPT1..LPT3
IRQ = 7
BYTES = tuple(bytes((n,)) for n in range(256))


@type_init("isa-parallel")
class IsaParallel(IsaDevice):
    """LPT port at the place that `index` implies, or wherever `iobase` says."""

    chardev: Chardev | None = link("chardev", "Back end that gets what is printed; none: no printer is connected")
    index: int | None = prop(None, "LPT port number, 0 to 2; unset: the first one free", type="uint32", max=2)
    iobase: int | None = prop(None, "First I/O port; unset: by index", type="uint16", max=0xFFFC, base=16)
    irq: int = prop(IRQ, "ISA interrupt line", type="uint32", max=15)

    data: int = state(reset=FLOATING, desc="Data register")
    control: int = state(reset=NOT_INIT | SELECT, desc="Control register")
    waiting: int = state(reset=-1, desc="Byte that the back end has no room for yet, or -1")
    printing: bool = state(reset=False, desc="A byte came with the strobe and was not acknowledged yet")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Parallel port with a printer", "char"

    # --- life

    def realize(self) -> None:
        """Claim ports and line, attach to the back end."""
        if self.index is None and self.iobase is None:
            taken = {
                other.index for other in self.isa.bus.devices if isinstance(other, IsaParallel) and other is not self
            }
            self.index = next((n for n in range(len(PORTS)) if n not in taken), None)
            if self.index is None:
                raise RealizeError(f"{self.path}: all three LPT ports are taken, so 'iobase' must be set")
        if self.iobase is None:
            assert self.index is not None
            self.iobase = PORTS[self.index]
        self._line = self.isa.irq(self.irq)
        self.isa.map_ports(self.iobase, Region("parallel", 3, self._read, self._write, (1, 1)))
        self._chr = self.chardev
        if self._chr is not None:
            self._chr.set_frontend(on_writable=self._room, owner=self.path)
            self.on_unrealize(self._chr.unset_frontend)

    # --- ports

    def _read(self, offset: int, size: int) -> int:
        if offset == DATA:
            return FLOATING if self.control & INPUT else self.data
        return self._status() if offset == STATUS else self.control | CONTROL_ONES

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == DATA:
            self.data = value
        elif offset == CONTROL:
            self._write_control(value & CONTROL_BITS)
        else:
            self.guest_error("status", "the status register of a parallel port was written")

    def _status(self) -> int:
        if self._chr is None:  # no plug in the socket: every input is pulled high, and BUSY reads inverted
            return NOT_ACK | PAPER_OUT | SELECTED | NO_ERROR
        busy = self.control & STROBE or self.waiting >= 0 or not self.control & NOT_INIT
        return NOT_ACK | SELECTED | NO_ERROR | (0 if busy else NOT_BUSY)

    def _write_control(self, value: int) -> None:
        before, self.control = self.control, value
        if not value & NOT_INIT:
            self.waiting, self.printing = -1, False
        elif value & ~before & STROBE and value & SELECT and not self.printing and self._chr is not None:
            self.printing = True
            byte = FLOATING if value & INPUT else self.data
            if not self._chr.write(BYTES[byte]):
                self.waiting = byte
        self._acknowledge()

    # --- the printer

    def _room(self) -> None:
        """The back end takes more."""
        if self.waiting >= 0 and self._chr is not None and self._chr.write(BYTES[self.waiting]):
            self.waiting = -1
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Pulse ACK once the byte is on its way and the strobe is over."""
        if self.printing and self.waiting < 0 and not self.control & STROBE:
            self.printing = False
            if self.control & ACK_INTERRUPT:
                self._line.pulse()
