"""The standard VGA on a bench: its registers, its planes, the Bochs interface, and what it shows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from qom import PropertyError, RealizeError, StateError
from qom.hw.bench import PciBench
from qom.testing import hw_registry
from qom.vm.display import Surface

LFB, MMIO = 0xE000_0000, 0xE100_0000
A0000, B8000 = 0xA0000, 0xB8000
SEQUENCER, GRAPHICS, CRTC, ATTRIBUTE = 0x3C4, 0x3CE, 0x3D4, 0x3C0


class Card:
    """A VGA with its BARs placed, driven through ports and memory."""

    def __init__(self, **props: Any) -> None:
        self.bench = PciBench(registry=hw_registry())
        self.device = self.bench.add("VGA", vgamem_mb=1, **props)
        where = f"{self.device.addr}"
        self.bench.config_write(where, 0x10, LFB)
        self.bench.config_write(where, 0x18, MMIO)
        self.bench.config_write(where, 4, 3, 2)
        self.ports, self.memory = self.bench.ports, self.bench.memory

    def set(self, port: int, *values: int, first: int = 0) -> None:
        for index, value in enumerate(values, first):
            self.ports.write(port, index | value << 8, 2)

    def attribute(self, *values: int, first: int = 0) -> None:
        self.ports.read(0x3DA, 1)
        for index, value in enumerate(values, first):
            self.ports.write(0x3C0, index, 1)
            self.ports.write(0x3C0, value, 1)
        self.ports.write(0x3C0, 0x20, 1)

    def palette(self, first: int, *colours: tuple[int, int, int]) -> None:
        self.ports.write(0x3C8, first, 1)
        for component in (c for colour in colours for c in colour):
            self.ports.write(0x3C9, component, 1)

    def dispi(self, **values: int) -> None:
        names = {"xres": 1, "yres": 2, "bpp": 3, "enable": 4, "bank": 5, "width": 6, "x": 8, "y": 9}
        for name, value in values.items():
            self.ports.write(0x1CE, names[name], 2)
            self.ports.write(0x1CF, value, 2)
        self.ports.read(0x3BA, 1)
        self.ports.write(0x3C0, 0x20, 1)  # screen on

    def dispi_read(self, index: int) -> int:
        self.ports.write(0x1CE, index, 2)
        return self.ports.read(0x1CF, 2)

    def surface(self) -> Surface:
        picture: Surface = self.device.surface()
        assert len(picture.data) == 3 * picture.width * picture.height
        return picture


@pytest.fixture
def card() -> Iterator[Card]:
    made = Card()
    yield made
    made.bench.close()


def mode(card: Card, misc: int, sequencer: str, crtc: str, graphics: str, attribute: str) -> None:
    """Set a mode from its registers, as a BIOS does."""
    card.ports.write(0x3C2, misc, 1)
    card.set(SEQUENCER, *bytes.fromhex(sequencer))
    card.set(CRTC, 0x00, first=0x11)  # take the protection off
    card.set(CRTC, *bytes.fromhex(crtc))
    card.set(GRAPHICS, *bytes.fromhex(graphics))
    card.attribute(*bytes.fromhex(attribute))
    card.palette(0, *[(n, n, n) for n in range(64)])


GREYS = "000102030405060708090a0b0c0d0e0f"
TEXT_CRTC = "5f4f50825581bf1f004f0d0e00000000 9c8e8f281f96b9a3ff"
VGA_CRTC = "5f4f50825480bf1f00410000000000009c8e8f28 40 96b9a3ff"


def test_identity_and_what_the_bars_are(card: Card) -> None:
    where = card.device.addr
    assert card.bench.config_read(where, 0) == 0x1111_1234
    assert card.bench.config_read(where, 8) >> 8 == 0x030000
    card.bench.config_write(where, 0x10, 0xFFFF_FFFF)
    assert card.bench.config_read(where, 0x10) == 0xFFF0_0008  # 1 MiB, prefetchable
    card.bench.config_write(where, 0x18, 0xFFFF_FFFF)
    assert card.bench.config_read(where, 0x18) == 0xFFFF_F000


def test_memory_is_a_power_of_two() -> None:
    with PciBench(registry=hw_registry()) as bench, pytest.raises(PropertyError) as error:
        bench.add("VGA", vgamem_mb=3)
    assert str(error.value).endswith(
        "'vgamem-mb' cannot be 3: expected an integer among 1, 2, 4, 8, 16, 32, 64, 128, 256 MiB"
    )


def test_a_rom_that_is_named_must_be_there_and_be_one(tmp_path: Any) -> None:
    with PciBench(registry=hw_registry()) as bench:
        with pytest.raises(
            RealizeError,
            match=r"romfile: firmware image 'no-such.bin' not found .*: expected an option ROM, or nothing$",
        ):
            bench.add("VGA", romfile="no-such.bin")
        wrong = tmp_path / "x.rom"
        wrong.write_bytes(b"hello")
        with pytest.raises(RealizeError, match=r"is no option ROM: expected it to begin with 55h AAh$"):
            bench.add("VGA", romfile=str(wrong))


def test_registers_keep_the_bits_they_have_and_protection_holds(card: Card) -> None:
    card.ports.write(0x3C2, 0xFF, 1)
    assert card.ports.read(0x3CC, 1) == 0xEF
    for port, index, kept in ((SEQUENCER, 2, 0x0F), (GRAPHICS, 5, 0x7B), (GRAPHICS, 8, 0xFF), (CRTC, 0, 0xFF)):
        card.set(port, 0xFF, first=index)
        card.ports.write(port, index, 1)
        assert card.ports.read(port + 1, 1) == kept
    card.set(CRTC, 0x80, first=0x11)
    card.set(CRTC, *[0] * 8)
    values = []
    for index in range(8):
        card.ports.write(CRTC, index, 1)
        values.append(card.ports.read(CRTC + 1, 1))
    assert values == [0xFF, 0, 0, 0, 0, 0, 0, 0]
    card.set(CRTC, 0xFF, first=7)
    assert card.ports.read(CRTC + 1, 1) == 0x10  # the line compare bit alone


def test_the_controller_is_at_mono_or_colour_ports_as_the_misc_register_says(card: Card) -> None:
    assert card.ports.read(0x3D4, 1) == 0xFF
    card.ports.write(0x3B4, 0x0F, 1)
    assert card.ports.read(0x3B4, 1) == 0x0F
    card.ports.write(0x3C2, 1, 1)
    assert (card.ports.read(0x3B4, 1), card.ports.read(0x3D4, 1)) == (0xFF, 0x0F)


def test_attribute_registers_take_turns_and_status_begins_again(card: Card) -> None:
    card.ports.write(0x3C2, 1, 1)
    card.ports.read(0x3DA, 1)
    card.ports.write(0x3C0, 0x01, 1)
    card.ports.write(0x3C0, 0x2A, 1)
    card.ports.write(0x3C0, 0x02, 1)
    card.ports.read(0x3DA, 1)
    card.ports.write(0x3C0, 0x01, 1)
    assert card.ports.read(0x3C1, 1) == 0x2A


def test_dac_goes_on_by_itself_and_has_eight_bits_when_asked(card: Card) -> None:
    card.palette(10, (1, 2, 0xFF), (4, 5, 6))
    assert card.ports.read(0x3C8, 1) == 12 and card.ports.read(0x3C7, 1) == 0
    card.ports.write(0x3C7, 10, 1)
    assert card.ports.read(0x3C7, 1) == 3
    assert [card.ports.read(0x3C9, 1) for _ in range(6)] == [1, 2, 0x3F, 4, 5, 6]
    card.dispi(enable=0x20)
    card.palette(10, (0xFF, 0x80, 1))
    card.ports.write(0x3C7, 10, 1)
    assert [card.ports.read(0x3C9, 1) for _ in range(3)] == [0xFF, 0x80, 1]


def test_retrace_comes_once_a_frame_by_the_machines_clock(card: Card) -> None:
    mode(card, 0x67, "0300030002", TEXT_CRTC, "000000000010 0e 0fff", GREYS + "0c000f0800")
    assert card.ports.read(0x3DA, 1) == card.ports.read(0x3DA, 1)  # time stands still
    frame_ns = 900 * 449 * 1_000_000_000 // 28_322_000  # 100 characters of 9 dots, 449 lines
    seen = []
    for _ in range(1000):
        seen.append(card.ports.read(0x3DA, 1))
        card.bench.clock.step(frame_ns // 500)
    rises = sum(1 for a, b in pairwise(seen) if not a & 8 and b & 8)
    assert rises == 2 and all(value & 1 for value in seen if value & 8)
    assert 1 <= sum(value & 8 > 0 for value in seen) <= 8  # 2 lines of 449
    assert any(not value & 1 for value in seen)


def test_write_modes_and_read_modes(card: Card) -> None:
    card.ports.write(0x3C2, 0x63, 1)
    card.set(SEQUENCER, 0x03, 0x01, 0x0F, 0x00, 0x06)
    card.set(GRAPHICS, 0, 0, 0, 0, 0, 0, 5, 0x0F, 0xFF)
    write, read = card.memory.write, card.memory.read

    def planes(at: int) -> list[int]:
        out = []
        for plane in range(4):
            card.set(GRAPHICS, plane, first=4)
            out.append(read(A0000 + at, 1))
        return out

    card.set(SEQUENCER, 0b0101, first=2)
    write(A0000, 0xA5, 1)
    assert planes(0) == [0xA5, 0, 0xA5, 0]
    card.set(SEQUENCER, 0x0F, first=2)
    card.set(GRAPHICS, 0b0010, 0b0011)  # plane 1 ones, plane 0 zeros, the others from the processor
    write(A0000 + 1, 0x3C, 1)
    assert planes(1) == [0, 0xFF, 0x3C, 0x3C]
    card.set(GRAPHICS, 0, 0)
    card.set(GRAPHICS, 0x18 | 4, first=3)  # rotate by 4, XOR with the latches
    read(A0000 + 1, 1)
    write(A0000 + 1, 0x0F, 1)
    assert planes(1) == [0xF0, 0x0F, 0xCC, 0xCC]
    card.set(GRAPHICS, 0, first=3)
    card.set(GRAPHICS, 1, first=5)  # write mode 1: the latches
    read(A0000 + 1, 1)
    write(A0000 + 2, 0x77, 1)
    assert planes(2) == [0xF0, 0x0F, 0xCC, 0xCC]
    card.set(GRAPHICS, 2, first=5)  # write mode 2: a colour, through the bit mask
    card.set(GRAPHICS, 0x0F, first=8)
    read(A0000 + 3, 1)
    write(A0000 + 3, 0b1010, 1)
    assert planes(3) == [0, 0x0F, 0, 0x0F]
    card.set(GRAPHICS, 0b0110, first=0)
    card.set(GRAPHICS, 3, first=5)  # write mode 3: the value is the mask
    read(A0000 + 3, 1)
    write(A0000 + 3, 0x3F, 1)
    assert planes(3) == [0, 0x0F, 0x0F, 0]
    card.set(GRAPHICS, 0b0110, first=2)
    card.set(GRAPHICS, 8, first=5)  # read mode 1: which dots have colour 6
    assert read(A0000 + 3, 1) == 0x0F
    card.set(GRAPHICS, 0b0010, first=7)  # of plane 1 only
    assert read(A0000 + 3, 1) == 0x0F
    card.set(GRAPHICS, 0b0001, 0b0001, first=7)
    assert read(A0000 + 3, 1) == 0xFF


def test_the_window_is_where_the_memory_map_says(card: Card) -> None:
    card.ports.write(0x3C2, 0x63, 1)
    card.set(SEQUENCER, 0x03, 0x01, 0x0F, 0x00, 0x06)
    places = {0: (0xA0000, 0x20000), 1: (0xA0000, 0x10000), 2: (0xB0000, 0x8000), 3: (0xB8000, 0x8000)}
    for value, (start, size) in places.items():
        card.set(GRAPHICS, 0, 0, 0, 0, 0, 0, value << 2, 0x0F, 0xFF)
        for at in (0xA0000, 0xAFFFF, 0xB0000, 0xB7FFF, 0xB8000, 0xBFFFF):
            card.memory.write(at, 0x5A, 1)
            assert card.memory.read(at, 1) == (0x5A if start <= at < start + size else 0xFF)
    card.ports.write(0x3C2, 0x61, 1)  # RAM off
    assert card.memory.read(B8000, 1) == 0xFF


def test_text_goes_to_two_planes_and_is_drawn_with_the_font_of_plane_2(card: Card) -> None:
    mode(card, 0x67, "0300030002", TEXT_CRTC, "00000000001 00e0fff".replace(" ", ""), GREYS + "0c000f0800")
    font = card.device.block.view
    for n, bits in enumerate((0x81, 0xFF)):
        font[4 * (ord("A") * 32 + n) + 2] = bits
        font[4 * (0xC4 * 32 + n) + 2] = bits
    card.memory.write(B8000, 0x1E41, 2)
    card.memory.write(B8000 + 2, 0x1EC4, 2)
    card.memory.write(B8000 + 4, 0x07_20_07_20, 4)
    assert card.memory.read(B8000, 4) == 0x1EC4_1E41
    assert bytes(card.device.block.view[:8]) == b"\x41\x1e\0\0\xc4\x1e\0\0"
    shown = card.surface()
    assert (shown.width, shown.height) == (720, 400)
    front, back = (14 << 2,) * 3, (1 << 2 | 3,) * 3

    def line(y: int, x: int) -> list[bool]:
        return [shown.pixel(x + n, y) == front for n in range(9)]

    assert shown.pixel(1, 0) == back
    assert line(0, 0) == [True, *[False] * 6, True, False]  # the ninth dot is empty
    assert line(0, 9) == [True, *[False] * 6, True, True]  # but for line graphics
    assert line(1, 9) == [True] * 9


def test_the_cursor_and_blinking_follow_the_machines_clock(card: Card) -> None:
    mode(card, 0x67, "0300030002", TEXT_CRTC, "0000000000100e0fff", GREYS + "0c000f0800")
    card.set(CRTC, 0, 0x02, first=0x0E)
    card.memory.write(B8000 + 4, 0x0F20, 2)
    on = (15 << 2 | 3,) * 3
    assert [card.surface().pixel(18, y) == on for y in (12, 13, 14, 15)] == [False, True, True, False]
    frame_ns = 900 * 449 * 1_000_000_000 // 28_322_000 + 1
    card.bench.clock.step(8 * frame_ns)
    assert card.surface().pixel(18, 13) == (0, 0, 0)
    card.bench.clock.step(8 * frame_ns)
    card.device.block.view[2] = 0xFF  # line 0 of character 0
    card.memory.write(B8000, 0x8F00, 2)
    assert card.surface().pixel(0, 0) == (0, 0, 0)  # blinking: not now
    card.attribute(0x04, first=0x10)
    assert card.surface().pixel(0, 0) == on  # bit 7 is a background bit when nothing blinks
    assert card.surface().pixel(0, 1) == (8 << 2,) * 3


def test_two_fonts_and_mono_underline(card: Card) -> None:
    mode(card, 0x67, "0300030402", TEXT_CRTC, "0000000000100e0fff", GREYS + "0e000f0800")  # font A at 4000h
    view = card.device.block.view
    view[4 * 0x4000 + 2], view[2] = 0xF0, 0x0F
    card.memory.write(B8000, 0x0F00_0700, 4)
    shown = card.surface()
    assert [shown.pixel(x, 0) != (0, 0, 0) for x in (0, 7)] == [False, True]
    assert [shown.pixel(9 + x, 0) != (0, 0, 0) for x in (0, 7)] == [True, False]
    card.set(CRTC, 0x0D, first=0x14)
    card.set(CRTC, 0x20, first=0x0A)  # no cursor
    card.memory.write(B8000, 0x01, 1)
    card.memory.write(B8000 + 1, 0x01, 1)
    assert [card.surface().pixel(8, y) != (0, 0, 0) for y in (12, 13, 14)] == [False, True, False]


def test_256_colours_chained_are_plain_memory(card: Card) -> None:
    mode(card, 0x63, "03010f000e", VGA_CRTC, "000000000040050fff", GREYS + "41000f0000")
    direct = card.memory.lookup(A0000)
    assert direct is not None and direct.region is card.device.vram
    card.memory.write(A0000 + 320 * 3 + 5, 0x2A, 1)
    shown = card.surface()
    assert (shown.width, shown.height) == (640, 400)
    assert {shown.pixel(x, y) for x in (10, 11) for y in (6, 7)} == {(0x2A << 2,) * 3}
    assert shown.pixel(12, 6) == (0, 0, 0)
    assert card.memory.read(LFB + 320 * 3 + 5, 1) == 0x2A
    card.set(SEQUENCER, 0x06, first=4)  # out of the chain: four planes, "mode X"
    card.set(CRTC, 0x00, first=0x14)
    card.set(CRTC, 0xE3, first=0x17)
    card.set(SEQUENCER, 0b0100, first=2)
    card.memory.write(A0000 + 80 + 1, 0x15, 1)
    assert card.surface().pixel(2 * (4 + 2), 2) == (0x15 << 2 | 3,) * 3


def test_16_colours_with_split_screen_and_panning(card: Card) -> None:
    crtc = "5f4f50825480 0b3e 0040 000000000000 ea8cdf28 00e704e3 ff"
    mode(card, 0xE3, "03010f0006", crtc, "000000000000050fff", GREYS + "01000f0000")
    card.set(SEQUENCER, 0b0001, first=2)
    card.memory.write(A0000 + 80, 0x80, 1)
    card.set(SEQUENCER, 0b0110, first=2)
    card.memory.write(A0000, 0x40, 1)
    shown = card.surface()
    assert (shown.width, shown.height) == (640, 480)
    assert (shown.pixel(1, 0), shown.pixel(0, 1), shown.pixel(0, 0)) == ((24,) * 3, (7,) * 3, (0,) * 3)
    card.set(CRTC, 0, 80, first=0x0C)  # begin a line later
    assert card.surface().pixel(0, 0) == (7, 7, 7)
    card.set(CRTC, 100, first=0x18)  # and with the start of memory again after scan line 100
    card.set(CRTC, 0x2E, first=0x07)
    card.set(CRTC, 0x00, first=0x09)
    shown = card.surface()
    assert (shown.pixel(1, 100), shown.pixel(1, 101), shown.pixel(0, 102)) == ((0,) * 3, (24,) * 3, (7,) * 3)
    card.attribute(1, first=0x13)
    shown = card.surface()
    assert (shown.pixel(0, 101), shown.pixel(639, 0)) == ((24,) * 3, (0,) * 3)


def test_cga_colours(card: Card) -> None:
    crtc = "2d2728902b80bf1f00c1000000000000 9c8e8f14 0096b9a2ff"
    mode(card, 0x63, "0309030002", crtc, "0000000000300f0fff", GREYS + "0100030000")
    card.memory.write(B8000, 0b00_01_10_11, 1)
    card.memory.write(B8000 + 0x2000, 0b11_00_00_00, 1)
    shown = card.surface()
    assert (shown.width, shown.height) == (640, 400)
    assert [shown.pixel(x, y)[0] for y in (0, 1) for x in range(0, 8, 2)] == [0, 7, 8, 15] * 2
    assert [shown.pixel(x, y)[0] for y in (2, 3) for x in range(0, 8, 2)] == [15, 0, 0, 0] * 2


@pytest.mark.parametrize(
    ("bpp", "pixel", "colour"),
    [
        (8, b"\x05", (0x17, 0x17, 0x17)),
        (15, b"\xe0\x7f", (255, 255, 0)),
        (15, b"\x1f\x04", (8, 0, 255)),
        (16, b"\xe0\x07", (0, 255, 0)),
        (16, b"\x01\xf8", (255, 0, 8)),
        (24, b"\x01\x02\x03", (3, 2, 1)),
        (32, b"\x01\x02\x03\xff", (3, 2, 1)),
    ],
)
def test_bochs_modes(card: Card, bpp: int, pixel: bytes, colour: tuple[int, int, int]) -> None:
    card.palette(0, *[(n, n, n) for n in range(64)])
    card.dispi(xres=320, yres=200, bpp=bpp, enable=0x41, width=400, y=1)
    assert card.dispi_read(6) == 400 and card.dispi_read(7) == (1 << 20) // (400 * -(-bpp // 8))
    at = (400 * 3 + 7) * len(pixel)
    card.memory.write_bytes(LFB + at, pixel)
    shown = card.surface()
    assert (shown.width, shown.height) == (320, 200)
    assert (shown.pixel(7, 2), shown.pixel(8, 2)) == (colour, (0, 0, 0))


def test_bochs_big_endian_pixels(card: Card) -> None:
    card.dispi(xres=64, yres=64, bpp=32, enable=0x41)
    assert card.memory.read(MMIO + 0x604, 4) == 0x1E1E1E1E and card.memory.read(MMIO + 0x600, 4) == 8
    card.memory.write(MMIO + 0x604, 0xBEBEBEBE, 4)
    card.memory.write(MMIO + 0x604, 0x12345678, 4)
    assert card.memory.read(MMIO + 0x604, 4) == 0xBEBEBEBE
    card.memory.write_bytes(LFB, b"\0\1\2\3")
    assert card.surface().pixel(0, 0) == (1, 2, 3)
    card.dispi(enable=0)
    card.dispi(bpp=16, enable=0x41)
    card.memory.write_bytes(LFB, b"\xf8\0")
    assert card.surface().pixel(0, 0) == (255, 0, 0)


def test_bochs_registers(card: Card) -> None:
    assert card.dispi_read(0) == 0xB0C5 and card.dispi_read(10) == 16
    card.ports.write(0x1CE, 0, 2)
    for value in (0xB0C0, 0xB0C4, 0x1234, 0xB0C6):
        card.ports.write(0x1CF, value, 2)
    assert card.dispi_read(0) == 0xB0C4
    card.dispi(enable=2)
    assert [card.dispi_read(n) for n in (1, 2, 3)] == [16000, 12000, 32]
    card.dispi(enable=0, xres=643, yres=9999, bpp=99, x=5)
    assert card.dispi_read(1) == 643
    card.dispi(enable=1)
    assert [card.dispi_read(n) for n in (1, 2, 3, 6, 7, 8)] == [640, 1638, 8, 640, 1638, 0]
    assert card.memory.read(MMIO + 0x502, 2) == 640
    card.memory.write(MMIO + 0x508, 0, 2)
    assert card.dispi_read(4) == 0


def test_bochs_banks_and_clearing(card: Card) -> None:
    card.memory.write(LFB + 0x10000, 0x55, 1)
    card.dispi(xres=640, yres=480, bpp=8, enable=0x81)
    assert card.memory.read(LFB + 0x10000, 1) == 0x55
    card.dispi(bank=1)
    assert card.memory.read(A0000, 1) == 0x55
    card.memory.write(A0000 + 2, 0x66, 1)
    assert card.memory.read(LFB + 0x10002, 1) == 0x66
    card.dispi(bank=0x25)
    assert card.dispi_read(5) == 5
    card.dispi(enable=0)
    card.dispi(enable=1)
    assert card.memory.read(LFB + 0x10000, 4) == 0


def test_vga_ports_and_edid_in_bar_2(card: Card) -> None:
    card.memory.write(MMIO + 0x402, 0x67, 1)
    assert card.ports.read(0x3CC, 1) == card.memory.read(MMIO + 0x40C, 1) == 0x67
    block = card.memory.read_bytes(MMIO, 256)
    assert block[:8] == b"\0\xff\xff\xff\xff\xff\xff\0" and sum(block[:128]) % 256 == 0
    assert (block[56] | (block[58] & 0xF0) << 4, block[59] | (block[61] & 0xF0) << 4) == (1280, 800)
    silent = Card(edid=False)
    assert silent.memory.read_bytes(MMIO, 256) == bytes(256)
    silent.bench.close()


def test_reset_gives_registers_back_and_keeps_memory(card: Card) -> None:
    card.dispi(xres=640, yres=480, bpp=32, enable=0x41)
    card.memory.write(LFB, 0x11223344, 4)
    card.ports.write(0x3C2, 0x67, 1)
    card.bench.reset()
    assert card.ports.read(0x3CC, 1) == 0 and card.dispi_read(4) == 0
    assert bytes(card.device.block.view[:4]) == b"\x44\x33\x22\x11"
    assert (card.surface().width, card.surface().height, set(card.surface().data)) == (640, 480, {0})


def test_saved_state_has_the_memory_in_it(card: Card) -> None:
    card.dispi(xres=64, yres=64, bpp=32, enable=0x41)
    card.memory.write(LFB + 0x54320, 0x11223344, 4)
    saved = card.device.save_state()
    assert len(saved["memory_pages"]) == 4 + 4096
    other = Card()
    other.memory.write(LFB + 4, 1, 4)
    other.device.load_state(saved)
    assert bytes(other.device.block.view) == bytes(card.device.block.view)
    assert other.surface() == card.surface()
    other.bench.close()


def test_saved_state_of_another_size_is_refused(card: Card) -> None:
    card.memory.write(LFB + 0xFF000, 1, 4)
    saved = card.device.save_state()
    path = card.device.path
    for pages, text in (
        (saved["memory_pages"][:-1], "4099 bytes"),
        ((256).to_bytes(4, "little") + bytes(4096), "page 256"),
    ):
        with pytest.raises(StateError) as error:
            card.device.load_state({**saved, "memory_pages": pages})
        assert str(error.value) == f"{path}: memory_pages: saved state has {text}: expected whole pages below 256"
    card.device.load_state(saved)
    assert card.memory.read(LFB + 0xFF000, 4) == 1
