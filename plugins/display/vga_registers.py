"""The registers of a VGA behind ports 3B0h-3DFh: what they hold, how they are reached, and what time does to them.

Modelled: miscellaneous output, feature control, sequencer, CRT controller with its write protection, graphics and
attribute controller, the DAC with its mask, input status 1 with both retrace bits as the programmed timing has them.
Not modelled: the vertical interrupt, the monitor's sense line (input status 0 reads 0), light pen, the sequencer's resets.

Sources: IBM, "PS/2 Hardware Interface Technical Reference: Video Subsystem" (1992); the FreeVGA project's register pages.
"""

from __future__ import annotations

from typing import Final

from qom import state
from qom.hw import NS_PER_SECOND, Clock

# Ports, as offsets from 3B0h; the CRT controller and input status 1 are at 3Bxh (mono) or 3Dxh (colour).
FIRST_PORT, PORTS = 0x3B0, 0x30
MONO, COLOUR = 0x00, 0x20
CRTC_INDEX, CRTC_DATA, STATUS_1 = 0x04, 0x05, 0x0A
ATTRIBUTE_WRITE, ATTRIBUTE_READ, MISC_WRITE, VGA_ENABLE, SEQUENCER_INDEX, SEQUENCER_DATA = (
    0x10,
    0x11,
    0x12,
    0x13,
    0x14,
    0x15,
)
DAC_MASK, DAC_READ_INDEX, DAC_WRITE_INDEX, DAC_DATA, FEATURE_READ, MISC_READ = 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C
GRAPHICS_INDEX, GRAPHICS_DATA = 0x1E, 0x1F

IO_COLOUR, RAM_ENABLE, CLOCK_SELECT = 0x01, 0x02, 0x0C  # miscellaneous output
V_RETRACE, DISPLAY_OFF = 0x08, 0x01  # input status 1

CLOCKING, MAP_MASK, FONT_SELECT, MEMORY_MODE = 1, 2, 3, 4  # sequencer
DOTS_8, DOTS_DOUBLED, SCREEN_OFF = 0x01, 0x08, 0x20  # CLOCKING
ODD_EVEN_OFF, CHAIN_4 = 0x04, 0x08  # MEMORY_MODE
SEQUENCER_MASKS: Final = bytes((0x03, 0x3D, 0x0F, 0x3F, 0x0E))

H_TOTAL, H_END, V_TOTAL, OVERFLOW, ROW_SCAN, CHARACTER = 0x00, 0x01, 0x06, 0x07, 0x08, 0x09  # CRT controller
CURSOR_START, CURSOR_END, START_HIGH, START_LOW, CURSOR_HIGH, CURSOR_LOW = 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F
RETRACE_START, RETRACE_END, V_END, OFFSET, UNDERLINE, CRTC_MODE, LINE_COMPARE = 0x10, 0x11, 0x12, 0x13, 0x14, 0x17, 0x18
CRTC_SIZE: Final = 0x19
PROTECT: Final = 0x80  # RETRACE_END: registers 0 to 7 keep their values
COMPARE_IN_OVERFLOW: Final = 0x10  # what can be written there all the same
LINES, DOUBLE_SCAN, COMPARE_IN_CHARACTER = 0x1F, 0x80, 0x40  # CHARACTER

SET_RESET, SET_ENABLE, COMPARE, ROTATE, READ_MAP, MODE, MISC, DONT_CARE, BIT_MASK = range(9)  # graphics controller
WRITE_MODE, READ_MODE, ODD_EVEN_READ, SHIFT_PAIRS, SHIFT_256 = 0x03, 0x08, 0x10, 0x20, 0x40  # MODE
GRAPHICS, CHAIN_ODD_EVEN, MEMORY_MAP = 0x01, 0x02, 0x0C  # MISC
GRAPHICS_MASKS: Final = bytes((0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF))

ATTRIBUTE_MODE, OVERSCAN, PLANE_ENABLE, PANNING, COLOUR_SELECT = 0x10, 0x11, 0x12, 0x13, 0x14  # attribute controller
ATTRIBUTE_SIZE: Final = 0x15
PALETTE_SOURCE: Final = 0x20  # in the index: the screen shows something
MONO_ATTRIBUTES, LINE_GRAPHICS, BLINK, SPLIT_PANNING, COLOURS_256, SELECT_5_4 = 0x02, 0x04, 0x08, 0x20, 0x40, 0x80
ATTRIBUTE_MASKS: Final = bytes([0x3F] * 16) + bytes((0xEF, 0xFF, 0x3F, 0x0F, 0x0F))

READING, WRITING = 3, 0  # what 3C7h reads: which index was written last

DOT_CLOCKS: Final = (
    25_175_000,
    28_322_000,
    25_175_000,
    25_175_000,
)  # Hz, by CLOCK_SELECT; two inputs are not connected


class VgaRegisters:
    """Registers and their ports, for a device to derive from.

    The device gives `clock`, and overrides `memory_changed`.
    """

    misc_output: int = state(desc="Miscellaneous output")
    feature_control: int = state()
    sequencer_index: int = state()
    sequencer: bytearray = state(factory=lambda: bytearray(len(SEQUENCER_MASKS)))
    crtc_index: int = state()
    crtc: bytearray = state(factory=lambda: bytearray(CRTC_SIZE))
    graphics_index: int = state()
    graphics: bytearray = state(factory=lambda: bytearray(len(GRAPHICS_MASKS)))
    attribute_index: int = state(desc="Attribute controller's index, with the palette address source")
    attribute_data: bool = state(reset=False, desc="Whether port 3C0h takes data next")
    attribute: bytearray = state(factory=lambda: bytearray(ATTRIBUTE_SIZE))
    dac: bytearray = state(factory=lambda: bytearray(768), desc="256 colours: red, green, blue")
    dac_mask: int = state(reset=0xFF)
    dac_state: int = state(reset=WRITING)
    dac_index: int = state(desc="Next colour read or written")
    dac_component: int = state(desc="Next component of it")
    dac_write_index: int = state(desc="What port 3C8h reads")
    dac_input: bytearray = state(factory=lambda: bytearray(3), desc="Components of the colour that is being written")

    clock: Clock

    def memory_changed(self) -> None:
        """What the processor sees of the memory may be another part now, or go another way."""

    @property
    def dac_bits(self) -> int:
        """How many bits a component of a colour has."""
        return 6

    # -- ports

    def read_port(self, offset: int, size: int) -> int:
        """Read 3B0h + `offset`; what nobody answers reads all ones."""
        if offset < ATTRIBUTE_WRITE or offset >= COLOUR:
            base = COLOUR if self.misc_output & IO_COLOUR else MONO
            if offset == base + CRTC_INDEX:
                return self.crtc_index
            if offset == base + CRTC_DATA:
                return self.crtc[self.crtc_index] if self.crtc_index < CRTC_SIZE else 0
            if offset == base + STATUS_1:
                self.attribute_data = False
                return self._status()
            return 0xFF
        if offset == ATTRIBUTE_WRITE:
            return self.attribute_index
        if offset == ATTRIBUTE_READ:
            index = self.attribute_index & 0x1F
            return self.attribute[index] if index < ATTRIBUTE_SIZE else 0
        if offset == MISC_WRITE:
            return 0  # input status 0
        if offset == VGA_ENABLE:
            return 0
        if offset == SEQUENCER_INDEX:
            return self.sequencer_index
        if offset == SEQUENCER_DATA:
            return self.sequencer[self.sequencer_index] if self.sequencer_index < len(self.sequencer) else 0
        if offset == DAC_MASK:
            return self.dac_mask
        if offset == DAC_READ_INDEX:
            return self.dac_state
        if offset == DAC_WRITE_INDEX:
            return self.dac_write_index
        if offset == DAC_DATA:
            value = self.dac[self.dac_index * 3 + self.dac_component]
            self._next_component()
            return value
        if offset == FEATURE_READ:
            return self.feature_control
        if offset == MISC_READ:
            return self.misc_output
        if offset == GRAPHICS_INDEX:
            return self.graphics_index
        if offset == GRAPHICS_DATA:
            return self.graphics[self.graphics_index] if self.graphics_index < len(self.graphics) else 0
        return 0xFF

    def write_port(self, offset: int, value: int, size: int) -> None:
        """Write 3B0h + `offset`."""
        if offset < ATTRIBUTE_WRITE or offset >= COLOUR:
            base = COLOUR if self.misc_output & IO_COLOUR else MONO
            if offset == base + CRTC_INDEX:
                self.crtc_index = value
            elif offset == base + CRTC_DATA:
                self._write_crtc(value)
            elif offset == base + STATUS_1:
                self.feature_control = value & 0x0B
        elif offset == ATTRIBUTE_WRITE:
            self._write_attribute(value)
        elif offset == MISC_WRITE:
            self.misc_output = value & 0xEF
            self.memory_changed()
        elif offset == SEQUENCER_INDEX:
            self.sequencer_index = value & 7
        elif offset == SEQUENCER_DATA:
            if self.sequencer_index < len(SEQUENCER_MASKS):
                self.sequencer[self.sequencer_index] = value & SEQUENCER_MASKS[self.sequencer_index]
                if self.sequencer_index in (MAP_MASK, MEMORY_MODE):
                    self.memory_changed()
        elif offset == DAC_MASK:
            self.dac_mask = value
        elif offset == DAC_READ_INDEX:
            self.dac_state, self.dac_index, self.dac_component = READING, value, 0
        elif offset == DAC_WRITE_INDEX:
            self.dac_state, self.dac_index, self.dac_component = WRITING, value, 0
            self.dac_write_index = value
        elif offset == DAC_DATA:
            self.dac_input[self.dac_component] = value & (1 << self.dac_bits) - 1
            if self.dac_component == 2:  # a colour changes as a whole
                self.dac[self.dac_index * 3 : self.dac_index * 3 + 3] = self.dac_input
            self._next_component()
        elif offset == GRAPHICS_INDEX:
            self.graphics_index = value & 0x0F
        elif offset == GRAPHICS_DATA and self.graphics_index < len(GRAPHICS_MASKS):
            self.graphics[self.graphics_index] = value & GRAPHICS_MASKS[self.graphics_index]
            self.memory_changed()

    def _next_component(self) -> None:
        self.dac_component += 1
        if self.dac_component == 3:
            self.dac_component = 0
            self.dac_index = (self.dac_index + 1) & 0xFF
            if self.dac_state == WRITING:
                self.dac_write_index = self.dac_index

    def _write_crtc(self, value: int) -> None:
        index = self.crtc_index
        if index >= CRTC_SIZE:
            return
        if index <= OVERFLOW and self.crtc[RETRACE_END] & PROTECT:
            if index == OVERFLOW:
                self.crtc[OVERFLOW] = self.crtc[OVERFLOW] & ~COMPARE_IN_OVERFLOW | value & COMPARE_IN_OVERFLOW
            return
        self.crtc[index] = value

    def _write_attribute(self, value: int) -> None:
        if self.attribute_data:
            index = self.attribute_index & 0x1F
            if index < ATTRIBUTE_SIZE:
                self.attribute[index] = value & ATTRIBUTE_MASKS[index]
        else:
            self.attribute_index = value & 0x3F
        self.attribute_data = not self.attribute_data

    # -- timing

    @property
    def lines_total(self) -> int:
        """Scan lines of a frame, retrace included."""
        crtc = self.crtc
        return (crtc[V_TOTAL] | (crtc[OVERFLOW] & 0x01) << 8 | (crtc[OVERFLOW] & 0x20) << 4) + 2

    @property
    def lines_shown(self) -> int:
        """Scan lines that show something."""
        crtc = self.crtc
        return (crtc[V_END] | (crtc[OVERFLOW] & 0x02) << 7 | (crtc[OVERFLOW] & 0x40) << 3) + 1

    @property
    def line_compare(self) -> int:
        """The scan line after which the picture begins again at the start of memory."""
        crtc = self.crtc
        return (
            crtc[LINE_COMPARE]
            | (crtc[OVERFLOW] & COMPARE_IN_OVERFLOW) << 4
            | (crtc[CHARACTER] & COMPARE_IN_CHARACTER) << 3
        )

    @property
    def dots(self) -> int:
        """Dots of a character."""
        return 8 if self.sequencer[CLOCKING] & DOTS_8 else 9

    def frame_position(self) -> tuple[int, int, int]:
        """Where the beam is now: the frame since time began, the scan line, the dot in it; by the programmed timing."""
        clock = DOT_CLOCKS[(self.misc_output & CLOCK_SELECT) >> 2]
        if self.sequencer[CLOCKING] & DOTS_DOUBLED:
            clock //= 2
        line = (self.crtc[H_TOTAL] + 5) * self.dots
        lines, dot = divmod(self.clock.now() * clock // NS_PER_SECOND, line)
        frame, scan = divmod(lines, self.lines_total)
        return frame, scan, dot

    def _status(self) -> int:
        _, line, dot = self.frame_position()
        crtc = self.crtc
        start = crtc[RETRACE_START] | (crtc[OVERFLOW] & 0x04) << 6 | (crtc[OVERFLOW] & 0x80) << 2
        length = ((crtc[RETRACE_END] & 0x0F) - start) & 0x0F or 16  # its end is given by the low bits of a line number
        status = 0
        if start <= line < start + length:
            status |= V_RETRACE
        if line >= self.lines_shown or dot >= (crtc[H_END] + 1) * self.dots:
            status |= DISPLAY_OFF
        return status
