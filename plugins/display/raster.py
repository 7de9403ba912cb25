"""What a VGA's monitor shows: registers and memory as a picture.

Modelled: text with 8 and 9 dots a character, two fonts, blinking, cursor, underline, line graphics; 16 colours from four
planes; the CGA's two and four colours; 256 colours in chain 4 and out of it; doubled dots and lines, split screen, start
address, panning; the Bochs modes.  A picture has every scan line and every dot that a monitor would get between the borders.
Not modelled: the border, skew and the other fine points of blanking, byte panning.

Colours of 6 bits become 8 as QEMU makes them: two bits are added below, copies of the lowest.

Everything is done on whole rows or whole pictures at once, by what bytes, slices with a step and long integers do well.
Sources: IBM, "PS/2 Hardware Interface Technical Reference: Video Subsystem" (1992); the FreeVGA project's pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from plugins.display import vga_registers as vga
from plugins.display.dispi import BPP, VIRT_WIDTH, XRES, YRES
from qom.vm import Surface

if TYPE_CHECKING:
    from plugins.display.planes import Planes

NOTHING: Final = (640, 480)  # the size of a picture that shows nothing, until a mode is set
CURSOR_FRAMES, BLINK_FRAMES = 8, 16  # half a period
FONT_BYTES, FONT_PLANE = 32, 2  # of a character; where fonts are
FONT_PLACES: Final = (0x0000, 0x4000, 0x8000, 0xC000, 0x2000, 0x6000, 0xA000, 0xE000)
LINES_FIRST, LINES_LAST = 0xC0, 0xDF  # characters whose eighth dot is repeated
Decoder = Callable[[bytes], bytes]
"""Memory, 4 bytes for every 8 dots (or 4 that are doubled), into a byte a dot."""
UNDERLINED: Final = 1  # low three bits of a mono attribute
CURSOR_OFF: Final = 0x20


def picture(card: Planes) -> Surface:
    """What the screen shows now."""
    if not card.attribute_index & vga.PALETTE_SOURCE or card.sequencer[vga.CLOCKING] & vga.SCREEN_OFF:
        return _blank(card)
    if card.dispi_on:
        return _dispi(card)
    if card.graphics[vga.MISC] & vga.GRAPHICS:
        return _graphics(card)
    return _text(card)


def _blank(card: Planes) -> Surface:
    if card.dispi_on:
        width, height = card.dispi[XRES], card.dispi[YRES]
    else:
        width, height = _characters(card) * _character_width(card), card.lines_shown
    if width < 16 or height < 16:
        width, height = NOTHING
    return Surface(width, height, bytes(width * height * 3))


def _characters(card: Planes) -> int:
    return card.crtc[vga.H_END] + 1


def _character_width(card: Planes) -> int:
    return card.dots << bool(card.sequencer[vga.CLOCKING] & vga.DOTS_DOUBLED)


# -- colours


def _palette(card: Planes) -> tuple[bytes, bytes, bytes]:
    """Red, green and blue of every value that comes to the DAC, 8 bits each."""
    dac = bytes(card.dac)
    if card.dac_bits == 6:
        dac = dac.translate(_SIX_TO_EIGHT)
    red, green, blue = dac[0::3], dac[1::3], dac[2::3]
    if card.dac_mask != 0xFF:
        masked = bytes(n & card.dac_mask for n in range(256))
        red, green, blue = (masked.translate(component) for component in (red, green, blue))
    return red, green, blue


_SIX_TO_EIGHT: Final = bytes((n & 0x3F) << 2 | (n & 1) * 3 for n in range(256))


def _attribute_colours(card: Planes) -> bytes:
    """What the attribute controller sends to the DAC for each of its 16 inputs, repeated to 256."""
    attribute = card.attribute
    mode, select, enabled = (
        attribute[vga.ATTRIBUTE_MODE],
        attribute[vga.COLOUR_SELECT],
        attribute[vga.PLANE_ENABLE] & 0x0F,
    )
    out = bytearray()
    for n in range(16):
        colour = attribute[n & enabled]
        if mode & vga.SELECT_5_4:
            colour = colour & 0x0F | (select & 0x03) << 4
        out.append(colour & 0x3F | (select & 0x0C) << 4)
    return bytes(out) * 16


def _coloured(width: int, height: int, values: bytes, palette: tuple[bytes, bytes, bytes]) -> Surface:
    """A picture of values for the DAC, one byte a dot."""
    out = bytearray(3 * len(values))
    for n, component in enumerate(palette):
        out[n::3] = values.translate(component)
    return Surface(width, height, bytes(out))


def _through(table: bytes, palette: tuple[bytes, bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    red, green, blue = (table.translate(component) for component in palette)
    return red, green, blue


def _scan_lines(card: Planes, height: int) -> Iterator[tuple[int, int, bool]]:
    """For each line from the top: the address of its row, the line in that row, whether it is below the line compare."""
    crtc = card.crtc
    lines, double = (crtc[vga.CHARACTER] & vga.LINES) + 1, bool(crtc[vga.CHARACTER] & vga.DOUBLE_SCAN)
    at, step, compare = crtc[vga.START_HIGH] << 8 | crtc[vga.START_LOW], crtc[vga.OFFSET] * 2, card.line_compare
    scan, again, split = (crtc[vga.ROW_SCAN] & vga.LINES) % lines, False, False
    for n in range(height):
        yield at, scan, split
        if n == compare:
            at, scan, again, split = 0, 0, False, True
        elif double and not again:
            again = True
        else:
            again = False
            scan += 1
            if scan == lines:
                scan = 0
                at += step


# -- text


def _text(card: Planes) -> Surface:
    crtc, attribute = card.crtc, card.attribute
    columns, height = _characters(card), card.lines_shown
    lines = (crtc[vga.CHARACTER] & vga.LINES) + 1
    mode = attribute[vga.ATTRIBUTE_MODE]
    frame, _, _ = card.frame_position()
    blink = bool(mode & vga.BLINK)
    glyphs = _Glyphs(card, lines, blink and bool(frame // BLINK_FRAMES & 1))
    cells = memoryview(card.block.view)[: len(card.cells) * 4]
    characters, attributes = bytes(cells[0 : 4 << 16 : 4]), bytes(cells[1 : 4 << 16 : 4])
    cursor = _Cursor(card, lines, frame)
    row_of: dict[int, list[bytes]] = {}

    def rows(at: int) -> list[bytes]:
        if at not in row_of:
            places = [n & 0xFFFF for n in range(at, at + columns)]
            drawn = [glyphs.cell(characters[n], attributes[n]) for n in places]
            if cursor.at in places:
                n = places.index(cursor.at)
                drawn[n] = cursor.over(drawn[n], attributes[cursor.at] & 0x0F)
            row_of[at] = [b"".join(line) for line in zip(*drawn, strict=True)]
        return row_of[at]

    out = [rows(at & 0xFFFF)[scan] for at, scan, _ in _scan_lines(card, height)]
    return _coloured(columns * glyphs.width, height, b"".join(out), _through(_attribute_colours(card), _palette(card)))


class _Glyphs:
    """Characters of the present fonts as lines of dots, each dot a byte with its colour of 16."""

    def __init__(self, card: Planes, lines: int, dark: bool) -> None:
        """dark: blinking characters are in the half of their period in which they do not show."""
        select = card.sequencer[vga.FONT_SELECT]
        plane = bytes(card.block.view[FONT_PLANE : 4 << 16 : 4])
        first = FONT_PLACES[select >> 3 & 4 | select >> 2 & 3]  # attribute bit 3 set
        second = FONT_PLACES[select >> 2 & 4 | select & 3]
        self._fonts = tuple(plane[at : at + 256 * FONT_BYTES] for at in (second, first))
        mode = card.attribute[vga.ATTRIBUTE_MODE]
        self._lines = lines
        self._dark = dark
        self._background = 0x07 if mode & vga.BLINK else 0x0F
        self._blinks = bool(mode & vga.BLINK)
        self._line_graphics = bool(mode & vga.LINE_GRAPHICS)
        self._underline = card.crtc[vga.UNDERLINE] & 0x1F if mode & vga.MONO_ATTRIBUTES else -1
        self._nine = card.dots == 9
        self._double = bool(card.sequencer[vga.CLOCKING] & vga.DOTS_DOUBLED)
        self.width = _character_width(card)
        self._known: dict[tuple[int, int], list[bytes]] = {}

    def cell(self, character: int, attribute: int) -> list[bytes]:
        """The lines of a character."""
        known = self._known.get((character, attribute))
        if known is None:
            self._known[character, attribute] = known = self._draw(character, attribute)
        return known

    def _draw(self, character: int, attribute: int) -> list[bytes]:
        font = self._fonts[attribute >> 3 & 1]
        shape = font[character * FONT_BYTES : character * FONT_BYTES + self._lines]
        front, back = attribute & 0x0F, attribute >> 4 & self._background
        if self._dark and self._blinks and attribute & 0x80:
            shape = bytes(self._lines)
        colours = bytes((back, front)) + bytes(254)
        repeats = self._line_graphics and LINES_FIRST <= character <= LINES_LAST
        out = []
        for n, bits in enumerate(shape):
            if n == self._underline and attribute & 0x07 == UNDERLINED:
                dots = b"\1" * (9 if self._nine else 8)
            else:
                dots = _BITS[bits]
                if self._nine:
                    dots += dots[7:] if repeats else b"\0"
            out.append((_doubled(dots) if self._double else dots).translate(colours))
        return out


_BITS: Final = [bytes(byte >> 7 - bit & 1 for bit in range(8)) for byte in range(256)]  # of a byte, leftmost first


class _Cursor:
    """Where the cursor is, and what it looks like; `at` is no character's when it does not show."""

    def __init__(self, card: Planes, lines: int, frame: int) -> None:
        crtc = card.crtc
        self._first, self._last = crtc[vga.CURSOR_START] & 0x1F, min(crtc[vga.CURSOR_END] & 0x1F, lines - 1)
        shows = not crtc[vga.CURSOR_START] & CURSOR_OFF and not frame // CURSOR_FRAMES & 1 and self._first <= self._last
        self.at = crtc[vga.CURSOR_HIGH] << 8 | crtc[vga.CURSOR_LOW] if shows else -1

    def over(self, lines: list[bytes], colour: int) -> list[bytes]:
        """The lines of a character with the cursor on it."""
        bar = bytes((colour,)) * len(lines[0])
        return [bar if self._first <= n <= self._last else line for n, line in enumerate(lines)]


def _doubled(dots: bytes) -> bytes:
    out = bytearray(2 * len(dots))
    out[0::2] = out[1::2] = dots
    return bytes(out)


# -- graphics


def _graphics(card: Planes) -> Surface:
    mode = card.graphics[vga.MODE]
    width, height = _characters(card) * 8, card.lines_shown
    palette = _palette(card)
    if mode & vga.SHIFT_256:
        return _scan(card, width, height, _chunky, palette, doubled=True)
    palette = _through(_attribute_colours(card), palette)
    doubled = bool(card.sequencer[vga.CLOCKING] & vga.DOTS_DOUBLED)
    return _scan(
        card, width << doubled, height, _pairs if mode & vga.SHIFT_PAIRS else _planar, palette, doubled=doubled
    )


def _scan(
    card: Planes, width: int, height: int, decode: Decoder, palette: tuple[bytes, bytes, bytes], *, doubled: bool
) -> Surface:
    """The scan lines as the CRT controller walks through memory."""
    length = 4 * _characters(card)
    panning = card.attribute[vga.PANNING] & 0x07
    if decode is _chunky:
        panning >>= 1
    memory, size = card.block.view, min(len(card.block.view), 1 << 18)
    rows: dict[tuple[int, int], bytes] = {}

    def row(at: int, pan: int) -> bytes:
        known = rows.get((at, pan))
        if known is None:
            wanted = length + (4 if pan else 0)
            data = bytes(memory[at : min(at + wanted, size)])
            if len(data) < wanted:
                data += bytes(memory[: wanted - len(data)])
            dots = decode(data)
            known = dots[pan : pan + (width >> doubled)]
            rows[at, pan] = known = _doubled(known) if doubled else known
        return known

    mode = card.crtc[vga.CRTC_MODE]
    shift = 13 if mode & 0x40 else 12  # the address bit that row scan bit 0 replaces: half as far in word mode
    still = bool(card.attribute[vga.ATTRIBUTE_MODE] & vga.SPLIT_PANNING)  # the lower part of a split screen
    out = []
    for at, scan, split in _scan_lines(card, height):
        if not mode & 1:
            at = at & ~(1 << shift) | (scan & 1) << shift
        if not mode & 2:
            at = at & ~(2 << shift) | (scan >> 1 & 1) << shift + 1
        out.append(row(at * 4 % size, 0 if split and still else panning))
    return _coloured(width, height, b"".join(out), palette)


def _chunky(data: bytes) -> bytes:
    """256 colours: a byte a dot."""
    return data


def _planar(data: bytes) -> bytes:
    """16 colours: a bit of each plane a dot."""
    value = 0
    for plane in range(4):
        spread = b"".join(map(_spread(plane).__getitem__, data[plane::4]))
        value |= int.from_bytes(spread, "little")
    return value.to_bytes(2 * len(data), "little")


def _pairs(data: bytes) -> bytes:
    """The CGA's four colours: two bits a dot, even bytes in plane 0, odd ones in plane 1; planes 2 and 3 add two bits."""
    low, high = bytearray(len(data) // 2), bytearray(len(data) // 2)
    low[0::2], low[1::2] = data[0::4], data[1::4]
    high[0::2], high[1::2] = data[2::4], data[3::4]
    value = int.from_bytes(b"".join(map(_quads(0).__getitem__, low)), "little")
    value |= int.from_bytes(b"".join(map(_quads(2).__getitem__, high)), "little")
    return value.to_bytes(4 * len(low), "little")


@cache
def _spread(plane: int) -> list[bytes]:
    """A byte of a plane as 8 dots, leftmost first."""
    return [bytes((byte >> 7 - bit & 1) << plane for bit in range(8)) for byte in range(256)]


@cache
def _quads(shift: int) -> list[bytes]:
    """A byte as 4 dots of two bits, leftmost first."""
    return [bytes((byte >> 6 - 2 * dot & 3) << shift for dot in range(4)) for byte in range(256)]


# -- the Bochs modes


def _dispi(card: Planes) -> Surface:
    width, height, depth = card.dispi[XRES], card.dispi[YRES], card.dispi[BPP]
    start, line = card.dispi_start, card.dispi_line
    if depth == 4:
        dots = _rows(card, start & ~3, card.dispi[VIRT_WIDTH] // 2, width // 2, height)
        return _coloured(width, height, _planar(dots), _through(_attribute_colours(card), _palette(card)))
    used = width * (depth + 7 >> 3)
    data = _rows(card, start, line, used, height)
    if depth == 8:
        return _coloured(width, height, data, _palette(card))
    out = bytearray(3 * width * height)
    if depth in (15, 16):
        low, high = (data[0::2], data[1::2]) if not card.big_endian else (data[1::2], data[0::2])
        five = _EXPAND_5
        out[2::3] = bytes(low).translate(five[0])
        if depth == 16:
            out[0::3] = bytes(high).translate(five[3])
            green = _or(high.translate(_GREEN_16[0]), low.translate(_GREEN_16[1]))
            out[1::3] = green.translate(_EXPAND_6)
        else:
            out[0::3] = bytes(high).translate(five[2])
            green = _or(high.translate(_GREEN_15[0]), low.translate(_GREEN_15[1]))
            out[1::3] = green.translate(five[0])
        return Surface(width, height, bytes(out))
    step = depth // 8
    red, green_at, blue = (2, 1, 0) if not card.big_endian else (step - 3, step - 2, step - 1)
    out[0::3], out[1::3], out[2::3] = data[red::step], data[green_at::step], data[blue::step]
    return Surface(width, height, bytes(out))


def _rows(card: Planes, start: int, line: int, used: int, height: int) -> bytes:
    """`used` bytes of each of `height` lines; beyond the end of memory there is nothing."""
    memory = card.block.view
    if line == used:
        data = bytes(memory[start : start + used * height])
    else:
        data = b"".join([memory[at : at + used] for at in range(start, start + line * height, line)])
    return data.ljust(used * height, b"\0")


def _or(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") | int.from_bytes(b, "little")).to_bytes(len(a), "little")


_EXPAND_5: Final = [bytes((n >> s & 31) << 3 | (n >> s & 31) >> 2 for n in range(256)) for s in range(4)]  # by shift
_EXPAND_6: Final = bytes((n & 63) << 2 | (n & 63) >> 4 for n in range(256))
_GREEN_16: Final = bytes((n & 7) << 3 for n in range(256)), bytes(n >> 5 for n in range(256))
_GREEN_15: Final = bytes((n & 3) << 3 for n in range(256)), bytes(n >> 5 for n in range(256))
