"""PIIX3 IDE: function 1 of Intel's 82371SB, two channels with bus-master DMA (290550-002, sections 2.3 and 3.5).

Modelled: the legacy command and control blocks at 1F0/3F6 and 170/376, interrupts on ISA lines 14 and 15, IDETIM, the
bus-master registers behind BAR 4 with physical region descriptors, including what Active and Interrupt say when the
descriptors are longer or shorter than the transfer. A transfer is complete when the write that made it possible
returns. With `strict-decode` the legacy ports answer only while PCICMD.IOSE and IDETIM.IDE are set, as on the chip;
off, the default, they always do, as firmware made for virtual machines expects. Not modelled: transfer timing, native
mode (which the chip does not have).

Guest view: PCI function 8086:7010; IDE buses `ide.0` and `ide.1`.
"""

from __future__ import annotations

import struct
from functools import partial

from plugins.block.ide_bus import IdeBus
from qom import PciDevice, Pin, RealizeError, Region, prop, state, type_init

IDETIM = (0x40, 0x42)  # configuration: timing of the two channels
IDETIM_ENABLE = 0x8000
PCI_COMMAND, COMMAND_IO = 0x04, 0x0001
STATUS_DEFAULT, STATUS_CLEARED_BY_ONE = 0x0280, 0x3800  # medium DEVSEL timing, fast back-to-back

COMMAND_PORTS, CONTROL_PORTS = (0x1F0, 0x170), (0x3F6, 0x376)

BMIC, BMIS, BMIDTP = 0x0, 0x2, 0x4  # bus-master registers of one channel: command, status, descriptor table pointer
BMIC_START, BMIC_READ = 0x01, 0x08
BMIS_ACTIVE, BMIS_ERROR, BMIS_INTERRUPT, BMIS_DRIVES = 0x01, 0x02, 0x04, 0x60
CHANNEL_PORTS = 8  # ports of one channel

PRD = struct.Struct("<II")  # physical region descriptor: address, then byte count (0: 64 KiB) and end of table
PRD_END, PRD_COUNT, PRD_MAX = 0x8000_0000, 0xFFFE, 0x1_0000
PRD_NONE = -1  # in place of the next descriptor's address: the last one was fetched


class Channel:
    """The bus-master engine of one channel; its registers live in the function's state."""

    def __init__(self, function: Piix3Ide, number: int, bus: IdeBus) -> None:
        self.function = function
        self.number = number
        self.bus = bus
        self.pin: Pin = function.irq_pins[number]
        bus.irq = self.set_irq
        bus.master = self

    def set_irq(self, level: int) -> None:
        """INTRQ of the cable: its rising edge is remembered, its level goes to the ISA line."""
        if level:
            self.function.bm_status[self.number] |= BMIS_INTERRUPT
        self.pin.set(level)

    # --- registers

    def read(self, offset: int) -> int:
        """Read one byte."""
        if offset == BMIC:
            return self.function.bm_command[self.number]
        if offset == BMIS:
            return self.function.bm_status[self.number]
        if offset >= BMIDTP:
            return self.function.bm_table[self.number] >> 8 * (offset - BMIDTP) & 0xFF
        return 0

    def write(self, offset: int, value: int) -> None:
        """Write one byte."""
        function, n = self.function, self.number
        if offset == BMIC:
            old, function.bm_command[n] = function.bm_command[n], value & (BMIC_START | BMIC_READ)
            if value & ~old & BMIC_START:
                function.bm_status[n] |= BMIS_ACTIVE
                self._rewind()
                self.dma_ready()
            elif old & ~value & BMIC_START:
                function.bm_status[n] &= ~BMIS_ACTIVE
        elif offset == BMIS:
            held = function.bm_status[n]
            function.bm_status[n] = (
                value & BMIS_DRIVES | held & BMIS_ACTIVE | held & ~value & (BMIS_ERROR | BMIS_INTERRUPT)
            )
        elif offset >= BMIDTP:
            shift = 8 * (offset - BMIDTP)
            function.bm_table[n] = (function.bm_table[n] & ~(0xFF << shift) | value << shift) & ~3

    # --- transfers

    def dma_ready(self) -> None:
        """Software started the engine, or a device has a DMA command: run when both are there."""
        function, n = self.function, self.number
        device = self.bus.selected
        if device is None or not function.bm_status[n] & BMIS_ACTIVE or not device.dma_waiting:
            return
        complete = device.dma_run(self)
        # Active stays set while descriptors are left over, and goes when they end with the transfer or before it.
        if not complete or self._exhausted():
            function.bm_status[n] &= ~BMIS_ACTIVE

    def dma_cancel(self) -> None:
        """The device dropped its command; the engine waits on, as the chip does."""

    # --- the memory that the descriptor table describes, as one stream

    def _rewind(self) -> None:
        function, n = self.function, self.number
        function.bm_next[n] = function.bm_table[n]
        function.bm_addr[n] = function.bm_left[n] = 0

    def _exhausted(self) -> bool:
        return self.function.bm_left[self.number] == 0 and self.function.bm_next[self.number] == PRD_NONE

    def _more(self) -> bool:
        """Whether there is room left; fetches the next descriptor when it must."""
        function, n = self.function, self.number
        if function.bm_left[n]:
            return True
        at = function.bm_next[n]
        if at == PRD_NONE:
            return False
        address, word = PRD.unpack(function.dma.read_bytes(at, PRD.size))
        function.bm_addr[n] = address & ~1
        function.bm_left[n] = word & PRD_COUNT or PRD_MAX
        crosses = not (at + PRD.size) & 0xFFFF  # the table lies within 64 KiB
        function.bm_next[n] = PRD_NONE if word & PRD_END or crosses else at + PRD.size
        return True

    def _advance(self, wanted: int) -> tuple[int, int]:
        """Address and length of the next piece, at most `wanted` bytes, which is then used."""
        function, n = self.function, self.number
        address, length = function.bm_addr[n], min(function.bm_left[n], wanted)
        function.bm_addr[n] = address + length & 0xFFFF_FFFF
        function.bm_left[n] -= length
        return address, length

    def put(self, data: bytes) -> int:
        """Write `data` to memory; returns how much of it found room."""
        done, view = 0, memoryview(data)
        while done < len(data) and self._more():
            address, length = self._advance(len(data) - done)
            self.function.dma.write_bytes(address, view[done : done + length])
            done += length
        return done

    def take(self, size: int) -> bytes:
        """Read `size` bytes from memory, or as many as there are."""
        parts = []
        while size and self._more():
            address, length = self._advance(size)
            parts.append(self.function.dma.read_bytes(address, length))
            size -= length
        return b"".join(parts)


@type_init("piix3-ide")
class Piix3Ide(PciDevice):
    """The IDE function; disks are plugged into its buses `ide.0` and `ide.1`."""

    vendor_id, device_id, class_code, prog_if = 0x8086, 0x7010, 0x0101, 0x80

    strict_decode: bool = prop(False, "Legacy ports answer only while PCICMD.IOSE and IDETIM.IDE are set")

    bm_command: list[int] = state(factory=lambda: [0, 0])
    bm_status: list[int] = state(factory=lambda: [0, 0])
    bm_table: list[int] = state(factory=lambda: [0, 0])
    bm_next: list[int] = state(factory=lambda: [PRD_NONE, PRD_NONE])  # address of the next descriptor
    bm_addr: list[int] = state(factory=lambda: [0, 0])  # what is left of the present one
    bm_left: list[int] = state(factory=lambda: [0, 0])

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "PIIX3 IDE controller with bus mastering", "block"

    def instance_init(self) -> None:
        """Make the two buses, so that disks can be plugged before this is realized, and the interrupt outputs."""
        self.ide: list[IdeBus] = [self.new_bus("ide-bus", f"ide.{n}") for n in (0, 1)]
        self.irq_pins = self.gpio_out("isa-irq", 2)

    def realize(self) -> None:
        """Claim the legacy ports, declare registers and BAR 4."""
        self.config_field(PCI_COMMAND, 2, 0, writable=0x0005)  # I/O space and bus mastering are all it has
        self.config_field(PCI_COMMAND + 2, 2, STATUS_DEFAULT, cleared_by_one=STATUS_CLEARED_BY_ONE)
        for offset in IDETIM:
            self.config_field(offset, 2, 0, writable=0xFFFF)
        self.config_field(0x0D, 1, 0, writable=0xF0)  # MLT
        self._channels = []
        self._legacy: list[Region] = []
        io = self._io()
        for n, bus in enumerate(self.ide):
            channel = Channel(self, n, bus)
            self._channels.append(channel)
            command, control = bus.map_registers(f"ide{n}")
            for base, region in ((COMMAND_PORTS[n], command), (CONTROL_PORTS[n], control)):
                self.map(io, base, region)
                self._legacy.append(region)
            self.on_unrealize(partial(_let_go, bus))
        self.register_bar(4, Region("piix3-bmdma", 16, self._bm_read, self._bm_write, (1, 4), unaligned=True), io=True)
        self._decode()

    def _io(self) -> Region:
        io = getattr(self.pci, "io", None)
        if io is None:
            raise RealizeError(f"{self.path}: bus {self.pci.path} has no I/O space for the legacy ports")
        assert isinstance(io, Region)
        return io

    def reset(self) -> None:
        """As for any function; the channels are reset as buses."""
        super().reset()
        self._decode()

    def config_changed(self, offset: int, size: int) -> None:
        """PCICMD or IDETIM may have been written."""
        self._decode()

    def _decode(self) -> None:
        if not self.strict_decode:
            return
        for n in (0, 1):
            on = bool(self.config_word(PCI_COMMAND) & COMMAND_IO and self.config_word(IDETIM[n]) & IDETIM_ENABLE)
            for region in self._legacy[2 * n : 2 * n + 2]:
                if region.enabled != on:
                    region.set_enabled(on)

    # --- BAR 4

    def _bm_read(self, offset: int, size: int) -> int:
        value = 0
        for n in range(size):
            at = offset + n
            value |= self._channels[at >> 3].read(at & 7) << 8 * n if at < 16 else 0xFF << 8 * n
        return value

    def _bm_write(self, offset: int, value: int, size: int) -> None:
        for n in range(size):
            at = offset + n
            if at < 16:
                self._channels[at >> 3].write(at & 7, value >> 8 * n & 0xFF)


def _let_go(bus: IdeBus) -> None:
    bus.master = None
