"""The Bochs display interface ("dispi", VBE of Bochs and QEMU): linear modes of any size, set by a handful of registers.

Modelled: identities B0C0h to B0C5h, 4, 8, 15, 16, 24 and 32 bits per pixel, the linear frame buffer, banks of 64 KiB at
A0000h, virtual width and offsets, not clearing memory, asking for capabilities, 8-bit DAC.
Not modelled: virtual height as something to choose (it is what memory has room for), multiple heads.

Values that make no sense are made to, as soon as the display is on: the guest reads back what it got.
Source: the Bochs project's "VBE display extensions" document (vbe_display_api.txt).
"""

from __future__ import annotations

from typing import Final

from qom import state

ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, MEMORY_64K = range(11)
REGISTERS: Final = 10  # those that hold something; MEMORY_64K is read only
ID_FIRST, ID_LAST = 0xB0C0, 0xB0C5
ENABLED, GET_CAPS, DAC_8, LINEAR, KEEP_MEMORY = 0x01, 0x02, 0x20, 0x40, 0x80  # ENABLE
MAX_X, MAX_Y, MAX_BPP = 16000, 12000, 32
DEPTHS: Final = (4, 8, 15, 16, 24, 32)
BANK_SIZE: Final = 0x10000
_CAPABILITIES: Final = {XRES: MAX_X, YRES: MAX_Y, BPP: MAX_BPP}


def bits_stored(depth: int) -> int:
    """How many bits a pixel takes in memory; four planes of one bit count as 4."""
    return 16 if depth == 15 else depth


class Dispi:
    """The registers, for a device to derive from.

    The device gives `memory_size` in bytes, and overrides `dispi_switched`.
    """

    dispi_index: int = state(desc="Register the data port shows")
    dispi: list[int] = state(
        factory=lambda: [ID_LAST, 0, 0, 0, 0, 0, 0, 0, 0, 0], desc="Registers of the Bochs interface"
    )
    big_endian: bool = state(reset=False, desc="Byte order of pixels of 15 bits and more")

    memory_size: int

    def dispi_switched(self, clear: int) -> None:
        """The interface was switched on or off, or another bank was chosen; clear so many bytes of memory first."""

    @property
    def dispi_on(self) -> bool:
        """Whether the screen shows what these registers say."""
        return bool(self.dispi[ENABLE] & ENABLED)

    @property
    def dispi_line(self) -> int:
        """Bytes from one line to the next."""
        return self.dispi[VIRT_WIDTH] * bits_stored(self.dispi[BPP]) // 8

    @property
    def dispi_start(self) -> int:
        """Where in memory the first pixel shown is."""
        return self.dispi[Y_OFFSET] * self.dispi_line + self.dispi[X_OFFSET] * bits_stored(self.dispi[BPP]) // 8

    @property
    def bank_offset(self) -> int:
        """Where in memory the window at A0000h begins, bytes (in planar modes: of a plane)."""
        return self.dispi[BANK] * BANK_SIZE

    def read_dispi(self, index: int) -> int:
        """The value of register `index`."""
        if index == MEMORY_64K:
            return self.memory_size // BANK_SIZE
        if index >= REGISTERS:
            return 0
        if self.dispi[ENABLE] & GET_CAPS:
            return _CAPABILITIES.get(index, self.dispi[index])
        return self.dispi[index]

    def write_dispi(self, index: int, value: int) -> None:
        """Write register `index`."""
        regs = self.dispi
        if index == ID:
            if ID_FIRST <= value <= ID_LAST:
                regs[ID] = value
        elif index == ENABLE:
            self._write_enable(value)
        elif index == BANK:
            banks = self.memory_size // BANK_SIZE
            regs[BANK] = value & (banks // 4 if regs[BPP] == 4 else banks) - 1
            self.dispi_switched(0)
        elif index < REGISTERS and index != VIRT_HEIGHT:
            regs[index] = value
            if self.dispi_on:
                self._make_sense()
                self.dispi_switched(0)

    def _write_enable(self, value: int) -> None:
        regs = self.dispi
        was, regs[ENABLE] = regs[ENABLE], value & (ENABLED | GET_CAPS | DAC_8 | LINEAR | KEEP_MEMORY)
        clear = 0
        if value & ENABLED and not was & ENABLED:
            regs[VIRT_WIDTH] = regs[X_OFFSET] = regs[Y_OFFSET] = 0
            self._make_sense()
            clear = 0 if value & KEEP_MEMORY else regs[YRES] * self.dispi_line
        elif not value & ENABLED:
            regs[BANK] = 0
        self.dispi_switched(clear)

    def _make_sense(self) -> None:
        regs = self.dispi
        if regs[BPP] not in DEPTHS:
            regs[BPP] = 8
        regs[XRES] = min(max(regs[XRES] & ~7, 8), MAX_X)
        regs[VIRT_WIDTH] = min(max(regs[VIRT_WIDTH] & ~7, regs[XRES]), MAX_X)
        lines = self.memory_size // self.dispi_line
        regs[YRES] = min(max(regs[YRES], 1), MAX_Y, lines)
        regs[VIRT_HEIGHT] = min(lines, 0xFFFF)
        regs[X_OFFSET] = min(regs[X_OFFSET], MAX_X)
        regs[Y_OFFSET] = min(regs[Y_OFFSET], MAX_Y)
        shown = regs[YRES] * self.dispi_line
        if self.dispi_start + shown > self.memory_size:
            regs[Y_OFFSET] = 0
        if self.dispi_start + shown > self.memory_size:
            regs[X_OFFSET] = 0
