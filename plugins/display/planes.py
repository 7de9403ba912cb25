"""What a processor sees of a VGA's memory at A0000h-BFFFFh: four planes behind the graphics controller, or plain memory.

Memory is one block whose byte 4n+p is byte n of plane p: what the linear frame buffer of the Bochs interface shows, too.
Where the processor's bytes are that block's as they stand (chain 4 with all planes, nothing in the way; the Bochs modes of
8 bits and more) the window is mapped as RAM; everything else goes through two callbacks.

Modelled: the memory map's four windows, write modes 0 to 3, both read modes, set/reset, rotation, logical functions, bit
mask, map mask, latches, odd/even and chain-4 addressing, RAM enable.
Different from a card: with odd/even and chain 4, bytes of a plane lie one after another instead of two or four apart, and
where the window is RAM, reading does not load the latches.

Sources: IBM, "PS/2 Hardware Interface Technical Reference: Video Subsystem" (1992), 2-78; the FreeVGA project's pages.
"""

from __future__ import annotations

from typing import Final

from plugins.display import vga_registers as vga
from plugins.display.dispi import BPP, Dispi
from plugins.display.vga_registers import VgaRegisters
from qom import state
from qom.hw import RamBlock, Region

WINDOW, WINDOW_SIZE = 0xA0000, 0x20000
PLACES: Final = ((0x00000, 0x20000), (0x00000, 0x10000), (0x10000, 0x8000), (0x18000, 0x8000))
"""Start and size of what the window shows, by MEMORY_MAP."""
BANK_SIZE: Final = 0x10000
TEXT_PLANES: Final = 0b0011  # characters and their attributes

EVERY: Final = tuple(sum(0xFF << 8 * plane for plane in range(4) if bits >> plane & 1) for bits in range(16))
"""Four bits, one a plane, as four bytes."""
REPEAT: Final = 0x01010101  # a byte times this: the same in every plane


class Planes(VgaRegisters, Dispi):
    """The window, for a device to derive from, which gives `vram`, the memory."""

    latch: int = state(desc="What was last read, plane 0 in the low byte")

    vram: Region

    def make_window(self) -> Region:
        """The region for A0000h."""
        block = self.vram.ram_block
        assert block is not None
        self.block: RamBlock = block
        self.cells, self.halves = block.view.cast("I"), block.view.cast("H")  # four planes, and two at a time
        self.window = Region("vga-lowmem", WINDOW_SIZE, self.read_window, self.write_window, (1, 4), unaligned=True)
        self.direct = Region.alias("vga-lowmem-direct", self.vram, 0, BANK_SIZE)
        self.direct.set_enabled(False)
        self.window.add(0, self.direct)
        return self.window

    def memory_changed(self) -> None:
        """Work out where the window's bytes go now, and show plain memory where that is what there is."""
        sequencer, graphics = self.sequencer, self.graphics
        start, size = PLACES[1 if self.dispi_on else (graphics[vga.MISC] & vga.MEMORY_MAP) >> 2]
        if not (self.dispi_on or self.misc_output & vga.RAM_ENABLE):
            size = 0
        self._start, self._size = start, size
        self._bank = self.bank_offset if start == 0 else 0
        neutral = not (
            graphics[vga.SET_ENABLE]
            or graphics[vga.ROTATE]
            or graphics[vga.MODE] & vga.WRITE_MODE
            or graphics[vga.BIT_MASK] != 0xFF
        )
        mode, planes = sequencer[vga.MEMORY_MODE], sequencer[vga.MAP_MASK]
        self._is_text = neutral and not mode & (vga.CHAIN_4 | vga.ODD_EVEN_OFF) and planes == TEXT_PLANES
        self._is_planar = neutral and bool(mode & vga.ODD_EVEN_OFF) and not mode & vga.CHAIN_4
        if self.dispi_on:
            direct = self.dispi[BPP] != 4
        else:
            direct = size > 0 and neutral and bool(mode & vga.CHAIN_4) and planes == 0x0F
            direct = direct and not graphics[vga.MODE] & vga.READ_MODE
        self._show(direct)

    def _show(self, direct: bool) -> None:
        """Map the memory itself into the window, or not."""
        alias = self.direct
        if not direct:
            alias.set_enabled(False)
            return
        place = (self._start, min(self._size, BANK_SIZE), self._bank)
        if not alias.enabled or (alias.offset, alias.size, alias.alias_offset) != place:
            with self.window.transaction():
                alias.set_offset(place[0])
                alias.set_size(place[1])
                alias.set_alias_offset(place[2])
                alias.set_enabled(True)

    def read_window(self, offset: int, size: int) -> int:
        """Read `size` bytes of the window, one after another."""
        value = 0
        for n in range(size):
            value |= self._read_byte(offset + n) << 8 * n
        return value

    def _read_byte(self, offset: int) -> int:
        at = offset - self._start
        if not 0 <= at < self._size:
            return 0xFF
        at += self._bank
        graphics = self.graphics
        mode = graphics[vga.MODE]
        if self.sequencer[vga.MEMORY_MODE] & vga.CHAIN_4:
            cell, plane = at >> 2, at & 3
        elif mode & vga.ODD_EVEN_READ:
            cell, plane = at >> 1, graphics[vga.READ_MAP] & 2 | at & 1
        else:
            cell, plane = at, graphics[vga.READ_MAP] & 3
        if cell >= len(self.cells):
            return 0xFF
        self.latch = latch = self.cells[cell]
        if not mode & vga.READ_MODE:
            return latch >> 8 * plane & 0xFF
        differs = (latch ^ EVERY[graphics[vga.COMPARE]]) & EVERY[graphics[vga.DONT_CARE]]
        differs |= differs >> 16
        return ~(differs | differs >> 8) & 0xFF

    def write_window(self, offset: int, value: int, size: int) -> None:
        """Write `size` bytes of the window, one after another."""
        at = offset - self._start
        if at < 0 or at + size > self._size:
            for n in range(size):
                if 0 <= at + n < self._size:
                    self._write_byte(at + n + self._bank, value >> 8 * n & 0xFF)
        elif self._is_text and size > 1 and not at & 1:
            at += self._bank
            for n in range(size // 2):  # characters with their attributes: half a cell each
                self.halves[at + 2 * n] = value >> 16 * n & 0xFFFF
            self.block.written(2 * at, 2 * size)
        elif self._is_planar and at + size + self._bank <= len(self.cells):
            at += self._bank
            chosen = EVERY[self.sequencer[vga.MAP_MASK]]
            cells = self.cells
            for n in range(at, at + size):
                cells[n] = cells[n] & ~chosen | (value & 0xFF) * REPEAT & chosen
                value >>= 8
            self.block.written(4 * at, 4 * size)
        else:
            for n in range(size):
                self._write_byte(at + n + self._bank, value >> 8 * n & 0xFF)

    def _write_byte(self, at: int, value: int) -> None:
        """Write byte `at` of what the window shows, the way the graphics controller says."""
        sequencer = self.sequencer
        mode, planes = sequencer[vga.MEMORY_MODE], sequencer[vga.MAP_MASK]
        if mode & vga.CHAIN_4:
            cell = at >> 2
            planes &= 1 << (at & 3)
        elif not mode & vga.ODD_EVEN_OFF:
            cell = at >> 1
            planes &= 0b1010 if at & 1 else 0b0101
        else:
            cell = at
        if not planes or cell >= len(self.cells):
            return
        graphics = self.graphics
        latch, mode = self.latch, graphics[vga.MODE] & vga.WRITE_MODE
        if mode == 1:
            new = latch
        else:
            mask = graphics[vga.BIT_MASK]
            rotate = graphics[vga.ROTATE]
            if mode == 2:
                new = EVERY[value & 0x0F]
            else:
                turn = rotate & 7
                value = (value >> turn | value << 8 - turn) & 0xFF
                if mode == 0:
                    fixed = EVERY[graphics[vga.SET_ENABLE]]
                    new = value * REPEAT & ~fixed | EVERY[graphics[vga.SET_RESET]] & fixed
                else:
                    mask &= value
                    new = EVERY[graphics[vga.SET_RESET]]
            function = rotate >> 3
            if function == 1:
                new &= latch
            elif function == 2:
                new |= latch
            elif function == 3:
                new ^= latch
            mask *= REPEAT
            new = new & mask | latch & ~mask
        chosen = EVERY[planes]
        self.cells[cell] = self.cells[cell] & ~chosen | new & chosen
        self.block.written(cell * 4, 4)
