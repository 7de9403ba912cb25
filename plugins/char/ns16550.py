"""NS16550A UART on the ISA bus (National Semiconductor data sheet PC16550D).

Modelled: both 16-byte FIFOs with trigger levels and character timeout, interrupt priorities and their reset
conditions, line status with overrun and break, modem inputs with delta bits, loopback, back-pressure: while the back
end takes nothing more, THRE stays clear. With `pacing` on, every character takes its time on the virtual clock in
both directions; off (the default), transmission takes no time. Not modelled: parity and framing errors, sending a
break, OUT2 as a gate in front of the interrupt line, DMA signalling pins.

Guest view: eight 8-bit ports at `iobase`, level on ISA line `irq`.
"""

from __future__ import annotations

from qom import Chardev, IsaDevice, RealizeError, Region, link, prop, state, type_init
from qom.hw import WakeReason
from qom.vm import ChardevEvent

RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR = range(8)  # register offsets; the first two are DLL and DLM under DLAB

IER_RDI, IER_THRI, IER_RLSI, IER_MSI = 0x01, 0x02, 0x04, 0x08
IIR_MSI, IIR_NONE, IIR_THRI, IIR_RDI, IIR_RLSI, IIR_CTI = 0x00, 0x01, 0x02, 0x04, 0x06, 0x0C
IIR_ID, IIR_FIFOS = 0x0F, 0xC0
FCR_ENABLE, FCR_CLEAR_RX, FCR_CLEAR_TX, FCR_DMA, FCR_TRIGGER = 0x01, 0x02, 0x04, 0x08, 0xC0
LCR_WORD, LCR_STOP, LCR_PARITY, LCR_DLAB = 0x03, 0x04, 0x08, 0x80
MCR_DTR, MCR_RTS, MCR_OUT1, MCR_OUT2, MCR_LOOP, MCR_BITS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x1F
LSR_DR, LSR_OE, LSR_PE, LSR_FE, LSR_BI, LSR_THRE, LSR_TEMT, LSR_FIFO_ERROR = (1 << n for n in range(8))
LSR_ERRORS = LSR_OE | LSR_PE | LSR_FE | LSR_BI
MSR_DCTS, MSR_DDSR, MSR_TERI, MSR_DDCD, MSR_CTS, MSR_DSR, MSR_RI, MSR_DCD = (1 << n for n in range(8))
MSR_DELTAS, MSR_INPUTS = 0x0F, 0xF0

FIFO_SIZE = 16  # bytes
TRIGGER_LEVELS = (1, 4, 8, 14)  # bytes, by FCR bits 7:6
TIMEOUT_CHARS = 4  # character times without traffic until the character timeout
CLOCK_HZ = 1_843_200
CLOCKS_PER_BIT = 16
NS_PER_SECOND = 1_000_000_000
BYTES = tuple(bytes((n,)) for n in range(256))

PORTS = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))  # COM1..COM4: first port, interrupt line


@type_init("isa-serial")
class IsaSerial(IsaDevice):
    """COM port: a 16550A at the place that `index` implies, or wherever `iobase` and `irq` say."""

    chardev: Chardev | None = link("chardev", "Back end that carries the bytes; none: output is lost")
    index: int | None = prop(None, "COM port number, 0 to 3; unset: the first one free", type="uint32", max=3)
    iobase: int | None = prop(None, "First I/O port; unset: by index", type="uint16", max=0xFFF8, base=16)
    irq: int | None = prop(None, "ISA interrupt line; unset: by index", type="uint32", max=15)
    wakeup: bool = prop(False, "Whether what is received wakes a suspended machine")
    pacing: bool = prop(False, "Characters take their time on the virtual clock, by divisor and frame")

    divisor: int = state(reset=12)
    ier: int = state()
    fcr: int = state()
    lcr: int = state()
    mcr: int = state()
    lsr: int = state(reset=LSR_THRE | LSR_TEMT)
    msr: int = state(reset=MSR_DCD | MSR_DSR | MSR_CTS)
    scr: int = state()
    rbr: int = state()
    inputs: int = state(reset=MSR_DCD | MSR_DSR | MSR_CTS, keep=True)  # modem pins, as MSR bits; not ours to reset
    rx_fifo: bytearray = state(factory=bytearray)
    tx_queue: bytearray = state(factory=bytearray)  # THR, or the transmit FIFO
    tsr: int = state(reset=-1)  # transmit shift register, -1 when empty; used when pacing
    thr_empty_pending: bool = state(reset=False)
    timeout_pending: bool = state(reset=False)

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "16550A UART", "char"

    # --- life

    def realize(self) -> None:
        """Claim the ports and the line, attach to the back end."""
        if self.index is None:
            taken = {
                other.index for other in self.isa.bus.devices if isinstance(other, IsaSerial) and other is not self
            }
            self.index = next((n for n in range(len(PORTS)) if n not in taken), None)
            if self.index is None and (self.iobase is None or self.irq is None):
                raise RealizeError(f"{self.path}: all four COM ports are taken, so 'iobase' and 'irq' must be set")
        if self.index is not None:
            iobase, irq = PORTS[self.index]
            self.iobase = iobase if self.iobase is None else self.iobase
            self.irq = irq if self.irq is None else self.irq
        assert self.iobase is not None and self.irq is not None
        self._line = self.isa.irq(self.irq)
        self._iir = IIR_NONE
        self._starved = False  # the back end was told there is no room
        self._timeout = self.clock.timer(self._character_timeout)
        self._tx_timer = self.clock.timer(self._shifted_out)
        self._rx_timer = self.clock.timer(self._rx_gate_open)
        self.isa.map_ports(self.iobase, Region("serial", 8, self._read, self._write, (1, 1)))
        self._begin()
        self.on_unrealize(self._let_go)

    def _begin(self) -> None:
        self._chr = self.chardev
        self._direct = self._chr.write if self._chr is not None and not self.pacing else None
        if self._chr is not None:
            self._chr.set_frontend(self._receive, self._room, self._event, self._transmit, owner=self.path)

    def _let_go(self) -> None:
        if self._chr is not None:
            self._chr.unset_frontend(self.path)

    def backend_changed(self) -> None:
        """`chardev` is another back end than before (`chardev-change`): go on with that."""
        self._begin()
        self._transmit()

    def reset(self) -> None:
        """Master reset, as the MR pin."""
        super().reset()
        self.msr = self.inputs
        for timer in (self._timeout, self._tx_timer, self._rx_timer):
            timer.cancel()
        self._iir = IIR_NONE
        self._line.lower()
        self._more_room()

    def state_loaded(self) -> None:
        """Drive the line as the registers say; the character under way and the receiver's timeout start over."""
        super().state_loaded()
        self._update()
        if self.rx_fifo:
            self._expect_timeout()
        if self.tsr >= 0:
            self._tx_timer.arm(self._char_ns())

    # --- ports

    def _read(self, offset: int, size: int) -> int:
        if offset == LSR:
            value = self.lsr
            if value & LSR_ERRORS:
                self.lsr &= ~LSR_ERRORS
                self._update()
            return value
        if offset == RBR_THR:
            return self.divisor & 0xFF if self.lcr & LCR_DLAB else self._read_rbr()
        if offset == IER:
            return self.divisor >> 8 if self.lcr & LCR_DLAB else self.ier
        if offset == IIR_FCR:
            value = self._iir
            if value & IIR_ID == IIR_THRI:
                self.thr_empty_pending = False
                self._update()
            return value | (IIR_FIFOS if self.fcr & FCR_ENABLE else 0)
        if offset == LCR:
            return self.lcr
        if offset == MCR:
            return self.mcr
        if offset == MSR:
            value = self.msr
            if value & MSR_DELTAS:
                self.msr &= ~MSR_DELTAS
                self._update()
            return value
        return self.scr

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == RBR_THR:
            if self.lcr & LCR_DLAB:
                self.divisor = self.divisor & 0xFF00 | value
            else:
                self._write_thr(value)
        elif offset == IER:
            if self.lcr & LCR_DLAB:
                self.divisor = self.divisor & 0xFF | value << 8
            else:
                self._write_ier(value & 0x0F)
        elif offset == IIR_FCR:
            self._write_fcr(value)
        elif offset == LCR:
            self.lcr = value
        elif offset == MCR:
            was_loop, self.mcr = self.mcr & MCR_LOOP, value & MCR_BITS
            self._modem_changed()
            if was_loop and not self.mcr & MCR_LOOP:
                self._more_room()
        elif offset == SCR:
            self.scr = value
        # LSR and MSR are read-only here; on the chip, writing them is for factory tests.

    def _read_rbr(self) -> int:
        if not self.fcr & FCR_ENABLE:
            self.lsr &= ~LSR_DR
        else:
            fifo = self.rx_fifo
            self.rbr = fifo.pop(0) if fifo else 0
            self.timeout_pending = False
            if fifo:
                self._expect_timeout()
            else:
                self.lsr &= ~LSR_DR
                self._timeout.cancel()
        self._update()
        if self._starved:
            value = self.rbr
            self._more_room()
            return value
        return self.rbr

    def _write_thr(self, value: int) -> None:
        # The common case in short: sent at once, THRE and TEMT stay set, and no interrupt comes or goes.
        quiet = not (self.ier & IER_THRI or self.tx_queue or self.mcr & MCR_LOOP)
        if quiet and self._direct is not None and self._direct(BYTES[value]):
            self.thr_empty_pending = True
            return
        self.lsr &= ~(LSR_THRE | LSR_TEMT)
        self.thr_empty_pending = False
        queue = self.tx_queue
        if not self.fcr & FCR_ENABLE:
            queue.clear()  # one holding register: what was not sent yet is overwritten
        elif len(queue) == FIFO_SIZE:
            self.guest_error("tx-overrun", "a byte was written to a full transmit FIFO and is lost")
            return
        queue.append(value)
        if self._iir == IIR_THRI:
            self._update()
        self._transmit()

    def _write_ier(self, value: int) -> None:
        if (value ^ self.ier) & IER_THRI:
            self.thr_empty_pending = bool(value & IER_THRI and self.lsr & LSR_THRE)
        if value & ~self.ier & IER_RDI and self.rx_fifo:
            self.ier = value
            self._expect_timeout()
        self.ier = value
        self._update()

    def _write_fcr(self, value: int) -> None:
        toggled = (value ^ self.fcr) & FCR_ENABLE
        if toggled or value & FCR_CLEAR_RX:
            self.rx_fifo.clear()
            self.lsr &= ~(LSR_DR | LSR_BI)
            self.timeout_pending = False
            self._timeout.cancel()
        if toggled or value & FCR_CLEAR_TX:
            self.tx_queue.clear()
            self.lsr |= LSR_THRE | (LSR_TEMT if self.tsr < 0 else 0)
            self.thr_empty_pending = True
        # The other bits hold only while the FIFOs are enabled.
        self.fcr = value & (FCR_ENABLE | FCR_DMA | FCR_TRIGGER) if value & FCR_ENABLE else 0
        self._update()
        if self._starved:
            self._more_room()

    # --- interrupts

    def _update(self) -> None:
        ier = self.ier
        if ier & IER_RLSI and self.lsr & LSR_ERRORS:
            iir = IIR_RLSI
        elif ier & IER_RDI and self.timeout_pending:
            iir = IIR_CTI
        elif ier & IER_RDI and self.lsr & LSR_DR and self._triggered():
            iir = IIR_RDI
        elif ier & IER_THRI and self.thr_empty_pending:
            iir = IIR_THRI
        elif ier & IER_MSI and self.msr & MSR_DELTAS:
            iir = IIR_MSI
        else:
            iir = IIR_NONE
        if (iir == IIR_NONE) != (self._iir == IIR_NONE):
            self._line.set(iir != IIR_NONE)
        self._iir = iir

    def _triggered(self) -> bool:
        return not self.fcr & FCR_ENABLE or len(self.rx_fifo) >= TRIGGER_LEVELS[self.fcr >> 6]

    def _char_ns(self) -> int:
        lcr = self.lcr
        bits = 1 + 5 + (lcr & LCR_WORD) + bool(lcr & LCR_PARITY) + 1 + bool(lcr & LCR_STOP)
        return bits * max(self.divisor, 1) * CLOCKS_PER_BIT * NS_PER_SECOND // CLOCK_HZ

    def _expect_timeout(self) -> None:
        if self.ier & IER_RDI:  # nobody can see it otherwise
            self._timeout.arm(TIMEOUT_CHARS * self._char_ns())

    def _character_timeout(self) -> None:
        if self.rx_fifo:
            self.timeout_pending = True
            self._update()

    # --- transmitter

    def _transmit(self) -> None:
        """Move what waits toward the peer; also called by the back end when it has room again."""
        if self.pacing:
            if self.tsr < 0:
                self._load_tsr()
            elif not self._tx_timer.pending:
                self._shifted_out()  # was waiting for room
            return
        queue = self.tx_queue
        if not queue:
            return
        if self.mcr & MCR_LOOP:
            data = bytes(queue)
            queue.clear()
            self._transmitted()
            self._receive(data)
            return
        if self._chr is None:
            queue.clear()
        else:
            taken = self._chr.write(bytes(queue))
            del queue[:taken]
        if not queue:
            self._transmitted()

    def _transmitted(self) -> None:
        self.lsr |= LSR_THRE | LSR_TEMT
        self.thr_empty_pending = True
        if self.ier & IER_THRI:
            self._update()

    def _load_tsr(self) -> None:
        queue = self.tx_queue
        if not queue:
            self.lsr |= LSR_TEMT
            return
        self.tsr = queue.pop(0)
        self._tx_timer.arm(self._char_ns())
        if not queue:
            self.lsr |= LSR_THRE
            self.thr_empty_pending = True
            self._update()

    def _shifted_out(self) -> None:
        data = bytes((self.tsr,))
        if self.mcr & MCR_LOOP:
            self.tsr = -1
            self._receive(data)
        elif self._chr is None or self._chr.write(data):
            self.tsr = -1
        else:
            return  # the back end calls _transmit when there is room
        self._load_tsr()

    # --- receiver

    def _room(self) -> int:
        if self.mcr & MCR_LOOP or self._rx_timer.pending:
            room = 0
        elif self.fcr & FCR_ENABLE:
            room = FIFO_SIZE - len(self.rx_fifo)
        else:
            room = 0 if self.lsr & LSR_DR else 1
        self._starved = room == 0
        return min(room, 1) if self.pacing else room

    def _more_room(self) -> None:
        self._starved = False
        if self._chr is not None:
            self._chr.accept_input()

    def _rx_gate_open(self) -> None:
        self._more_room()

    def _receive(self, data: bytes) -> None:
        if self.wakeup:
            self.system.wake(WakeReason.OTHER)
        if self.fcr & FCR_ENABLE:
            free = FIFO_SIZE - len(self.rx_fifo)
            self.rx_fifo += data[:free]
            if len(data) > free:
                self.lsr |= LSR_OE
            self._expect_timeout()
        else:
            if self.lsr & LSR_DR or len(data) > 1:
                self.lsr |= LSR_OE
            self.rbr = data[-1]
        self.lsr |= LSR_DR
        if self.pacing and not self.mcr & MCR_LOOP:
            self._rx_timer.arm(self._char_ns())
        self._update()

    def _event(self, event: ChardevEvent) -> None:
        if event is ChardevEvent.BREAK:
            self.lsr |= LSR_BI
            self._receive(b"\0")

    # --- modem lines

    def set_modem_inputs(self, *, cts: bool, dsr: bool, ri: bool, dcd: bool) -> None:
        """Drive the four modem input pins."""
        self.inputs = MSR_CTS * cts | MSR_DSR * dsr | MSR_RI * ri | MSR_DCD * dcd
        self._modem_changed()

    def _modem_changed(self) -> None:
        mcr, old = self.mcr, self.msr
        if mcr & MCR_LOOP:
            new = (
                (MSR_CTS if mcr & MCR_RTS else 0)
                | (MSR_DSR if mcr & MCR_DTR else 0)
                | (MSR_RI if mcr & MCR_OUT1 else 0)
                | (MSR_DCD if mcr & MCR_OUT2 else 0)
            )
        else:
            new = self.inputs
        changed = (old ^ new) >> 4
        deltas = changed & (MSR_DCTS | MSR_DDSR | MSR_DDCD)
        if old & MSR_RI and not new & MSR_RI:
            deltas |= MSR_TERI  # the ring indicator counts at its trailing edge only
        self.msr = new | old & MSR_DELTAS | deltas
        self._update()
