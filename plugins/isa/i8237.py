"""The two Intel 8237A DMA controllers of a PC, with their page registers.

Modelled: seven channels (0-3 of bytes, 5-7 of words, 4 the cascade), address, count, mode, mask, request and status
registers, byte pointer flip-flop, autoinitialisation, decrement, verify transfers, terminal count, controller disable.
Not modelled: memory to memory, rotating priority and timing (a device moves as much as it has at once), software requests
beyond their status bit.
Guest view: ports 00h-0Fh (channels 0-3), C0h-DFh (4-7, every second port), page registers 80h-8Fh.

A device on the ISA bus asks for `self.isa.dma_channel(n)` and moves data with `to_memory` and `from_memory`, which stop at
the terminal count and move nothing while the channel is masked or set up for the other direction.

Sections: "8237A High Performance Programmable DMA Controller", Intel 231466-005.
"""

from __future__ import annotations

from collections.abc import Callable

from qom import records, state, type_init
from qom.hw import AddressSpace, IsaDevice, Region

STATUS_COMMAND, REQUEST, MASK_ONE, MODE, CLEAR_FLIP_FLOP, MASTER_CLEAR, CLEAR_MASK, MASK_ALL = range(8, 16)
DISABLED = 0x04  # command register
SET_BIT = 0x04  # request and single mask registers
DIRECTION, VERIFY, TO_MEMORY, FROM_MEMORY, AUTO_INIT, DOWN = 0x0C, 0x00, 0x04, 0x08, 0x10, 0x20  # mode register
CASCADE_MODE = 0xC0

PAGE_OF = {0x7: 0, 0x3: 1, 0x1: 2, 0x2: 3, 0xB: 5, 0x9: 6, 0xA: 7}  # page register to channel
PAGES = 0x80


@records.define
class Registers:
    """One channel's registers."""

    base_address: int = 0
    base_count: int = 0
    address: int = 0
    count: int = 0
    mode: int = 0


@records.define
class Controller:
    """One 8237A."""

    channels: list[Registers] = records.field(factory=lambda: [Registers() for _ in range(4)])
    high: bool = False  # flip-flop: the next byte is the high one
    command: int = 0
    mask: int = 0xF
    requested: int = 0  # by software
    done: int = 0  # terminal counts since the status was read

    def clear(self) -> None:
        """Master clear: as a reset, but for addresses, counts and modes."""
        self.high, self.command, self.mask, self.requested, self.done = False, 0, 0xF, 0, 0


class DmaChannel:
    """A channel as the device on its DREQ line sees it."""

    def __init__(self, owner: I8237, n: int) -> None:
        self._owner = owner
        self.n = n
        self.on_ready: Callable[[], None] | None = None
        """Called when the guest lets a channel go that was masked: the device may move data now."""

    @property
    def ready(self) -> bool:
        """Whether data can be moved now: neither the channel is masked nor the controller disabled."""
        return self._owner.ready(self.n)

    @property
    def at_end(self) -> bool:
        """Whether the channel has reached its terminal count since the guest last read the status register."""
        return bool(self._owner.controllers[self.n >> 2].done >> (self.n & 3) & 1)

    @property
    def left(self) -> int:
        """Bytes until the terminal count, whether or not anything can be moved now."""
        return self._owner.bytes_left(self.n)

    def to_memory(self, data: bytes) -> int:
        """Write `data` from the device to memory; how many bytes were taken.  A verify transfer takes them, too."""
        return self._owner.move_to_memory(self.n, data)

    def from_memory(self, length: int) -> bytes:
        """Read up to `length` bytes from memory for the device."""
        return self._owner.move_from_memory(self.n, length)


@type_init("i8257")
class I8237(IsaDevice):
    """Both controllers; QEMU's name for the type is that of the 8237's predecessor."""

    dma: AddressSpace

    controllers: list[Controller] = state(factory=lambda: [Controller(), Controller()])
    pages: bytearray = state(factory=lambda: bytearray(16), desc="Page registers, 80h-8Fh")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "Pair of 8237A DMA controllers", "misc"

    def instance_init(self) -> None:
        """Make the channels."""
        self._channels = [DmaChannel(self, n) for n in range(8)]
        self._page_of = {channel: page for page, channel in PAGE_OF.items()}

    def realize(self) -> None:
        """Take the ports; serve the bus's channels."""
        self.isa.map_ports(0x00, Region("dma1", 16, self._read_1, self._write_1, (1, 1)))
        self.isa.map_ports(0xC0, Region("dma2", 32, self._read_2, self._write_2, (1, 1)))
        self.isa.map_ports(PAGES, Region("dma-pages", 16, self._read_page, self._write_page, (1, 1)))
        self.isa.register_dma(self)

    # -- for devices

    def dma_channel(self, n: int) -> DmaChannel:
        """Channel `n`, 0..7 (4 is the cascade and never moves anything)."""
        return self._channels[n]

    def ready(self, n: int) -> bool:
        """Whether channel `n` may move data."""
        controllers = self.controllers
        if n == 4 or (n < 4 and not self._open(4)):
            return False
        return self._open(n) and controllers[n >> 2].channels[n & 3].mode & CASCADE_MODE != CASCADE_MODE

    def bytes_left(self, n: int) -> int:
        """See `DmaChannel.left`."""
        return (self._registers(n).count + 1) * self._width(n)

    def move_to_memory(self, n: int, data: bytes) -> int:
        """See `DmaChannel.to_memory`."""
        moved, width = 0, self._width(n)
        while moved + width <= len(data) and (self._moves(n, TO_MEMORY) or self._moves(n, VERIFY)):
            address, run = self._run(n, (len(data) - moved) // width)
            if self._moves(n, VERIFY):
                moved += run * width
                self._advance(n, run)
                continue
            part = data[moved : moved + run * width]
            if self._registers(n).mode & DOWN:
                address -= (run - 1) * width
                part = b"".join(part[i : i + width] for i in range(len(part) - width, -1, -width))
            self.dma.write_bytes(address, part)
            moved += run * width
            self._advance(n, run)
        return moved

    def move_from_memory(self, n: int, length: int) -> bytes:
        """See `DmaChannel.from_memory`."""
        found, width = b"", self._width(n)
        while len(found) + width <= length and self._moves(n, FROM_MEMORY):
            address, run = self._run(n, (length - len(found)) // width)
            if self._registers(n).mode & DOWN:
                part = self.dma.read_bytes(address - (run - 1) * width, run * width)
                part = b"".join(part[i : i + width] for i in range(len(part) - width, -1, -width))
            else:
                part = self.dma.read_bytes(address, run * width)
            found += part
            self._advance(n, run)
        return found

    def _registers(self, n: int) -> Registers:
        return self.controllers[n >> 2].channels[n & 3]

    def _open(self, n: int) -> bool:
        controller = self.controllers[n >> 2]
        return not controller.mask >> (n & 3) & 1 and not controller.command & DISABLED

    def _width(self, n: int) -> int:
        return 1 if n < 4 else 2

    def _moves(self, n: int, direction: int) -> bool:
        return self.ready(n) and self._registers(n).mode & DIRECTION == direction

    def _run(self, n: int, wanted: int) -> tuple[int, int]:
        """Where the next transfers go, and how many are possible before the terminal count or the end of the page."""
        registers = self._registers(n)
        before_wrap = registers.address + 1 if registers.mode & DOWN else 0x10000 - registers.address
        page = self.pages[self._page_of[n]]
        address = page << 16 | registers.address if n < 4 else (page & 0xFE) << 16 | registers.address << 1
        return address, min(wanted, registers.count + 1, before_wrap)

    def _advance(self, n: int, transfers: int) -> None:
        registers = self._registers(n)
        step = -transfers if registers.mode & DOWN else transfers
        registers.address = (registers.address + step) & 0xFFFF
        registers.count = (registers.count - transfers) & 0xFFFF
        if registers.count == 0xFFFF:  # terminal count: one transfer more than was programmed
            controller, bit = self.controllers[n >> 2], 1 << (n & 3)
            controller.done |= bit
            controller.requested &= ~bit
            if registers.mode & AUTO_INIT:
                registers.address, registers.count = registers.base_address, registers.base_count
            else:
                controller.mask |= bit

    # -- ports

    def _read_1(self, offset: int, size: int) -> int:
        return self._read(self.controllers[0], offset)

    def _write_1(self, offset: int, value: int, size: int) -> None:
        self._write(0, offset, value)

    def _read_2(self, offset: int, size: int) -> int:
        return self._read(self.controllers[1], offset >> 1)

    def _write_2(self, offset: int, value: int, size: int) -> None:
        self._write(1, offset >> 1, value)

    def _read(self, controller: Controller, register: int) -> int:
        if register < 8:
            channel = controller.channels[register >> 1]
            value = channel.count if register & 1 else channel.address
            controller.high = not controller.high
            return value & 0xFF if controller.high else value >> 8
        if register == STATUS_COMMAND:
            value = controller.requested << 4 | controller.done
            controller.done = 0
            return value
        return controller.mask if register == MASK_ALL else 0

    def _write(self, which: int, register: int, value: int) -> None:
        controller = self.controllers[which]
        if register < 8:
            self._write_half(controller, register, value)
            return
        before = [self.ready(n) for n in range(8)]
        bit = 1 << (value & 3)
        if register == STATUS_COMMAND:
            controller.command = value
        elif register == REQUEST:
            controller.requested = controller.requested | bit if value & SET_BIT else controller.requested & ~bit
            controller.done &= ~bit
        elif register == MASK_ONE:
            controller.mask = controller.mask | bit if value & SET_BIT else controller.mask & ~bit
        elif register == MODE:
            controller.channels[value & 3].mode = value
        elif register == CLEAR_FLIP_FLOP:
            controller.high = False
        elif register == MASTER_CLEAR:
            controller.clear()
        elif register == CLEAR_MASK:
            controller.mask = 0
        else:
            controller.mask = value & 0xF
        for n, channel in enumerate(self._channels):
            if channel.on_ready is not None and not before[n] and self.ready(n):
                channel.on_ready()

    def _write_half(self, controller: Controller, register: int, value: int) -> None:
        channel = controller.channels[register >> 1]
        shift, keep = (8, 0x00FF) if controller.high else (0, 0xFF00)
        controller.high = not controller.high
        if register & 1:
            channel.base_count = channel.base_count & keep | value << shift
            channel.count = channel.base_count
        else:
            channel.base_address = channel.base_address & keep | value << shift
            channel.address = channel.base_address

    def _read_page(self, offset: int, size: int) -> int:
        return self.pages[offset]

    def _write_page(self, offset: int, value: int, size: int) -> None:
        self.pages[offset] = value
