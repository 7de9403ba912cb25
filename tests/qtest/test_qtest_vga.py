"""The standard VGA by the qtest protocol: registers, reset and wrong accesses, here and in QEMU; memory and pictures compared.

The pictures are QEMU's own of the same registers and the same memory.  Where the two differ on purpose the tests keep away:
characters B0h to BFh with a ninth dot, blinking, panning, split screens in text and with doubled lines, planes taken out
of the CGA's modes and of text, and the low bits of colours of 5 and 6 bits.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator

import pytest
from vga_screens import ADDR, CRTC, EGA, GRAPHICS, LFB, MMIO, MODES, QEMU, SEQUENCER, Screen, place

from qom.testing import QTest
from qom.vm import Surface

ARGS = f"-device VGA,addr={ADDR}"
MEMORY = 1 << 18  # bytes: what four planes of 64 KiB are


def get(q: QTest, port: int, index: int) -> int:
    q.outb(port, index)
    return q.inb(port + 1)


def test_identity(either: QTest) -> None:
    assert either.config_read(ADDR, 0) == 0x1111_1234
    assert either.config_read(ADDR, 8) == 0x0300_0002
    assert either.config_read(ADDR, 0x2C) == 0x1100_1AF4
    either.config_write(ADDR, 0x10, 0xFFFF_FFFF)
    either.config_write(ADDR, 0x18, 0xFFFF_FFFF)
    either.config_write(ADDR, 0x30, 0xFFFF_FFFF)
    assert either.config_read(ADDR, 0x10) == 0xFF00_0008
    assert either.config_read(ADDR, 0x18) == 0xFFFF_F000
    assert either.config_read(ADDR, 0x30) in (0, 0xFFFF_0001)  # where Debian's images are installed


def test_indexed_registers_keep_the_bits_they_have(either: QTest) -> None:
    either.outb(0x3C2, 0x67)
    assert either.inb(0x3CC) == 0x67
    for port, count, masks in (
        (SEQUENCER, 5, {1: 0x3D, 2: 0x0F, 3: 0x3F, 4: 0x0E}),
        (GRAPHICS, 9, {0: 0x0F, 1: 0x0F, 2: 0x0F, 3: 0x1F, 4: 0x03, 5: 0x7B, 6: 0x0F, 7: 0x0F, 8: 0xFF}),
        (CRTC, 0x19, {}),
    ):
        if port == CRTC:
            either.outw(CRTC, 0x0011)
        for index in range(1 if port == SEQUENCER else 0, count):
            if (port, index) != (CRTC, 0x11):
                either.outw(port, 0xFF00 | index)
                assert get(either, port, index) == masks.get(index, 0xFF), (hex(port), index)


def test_protection_of_the_crt_controller(either: QTest) -> None:
    either.outb(0x3C2, 0x67)
    either.outw(CRTC, 0x0011)
    for index in range(8):
        either.outw(CRTC, 0x5500 | index)
    either.outw(CRTC, 0x8011)
    for index in range(8):
        either.outw(CRTC, 0xAA00 | index)
    assert [get(either, CRTC, index) for index in range(8)] == [0x55] * 7 + [0x45]
    either.outw(CRTC, 0xFF07)
    assert get(either, CRTC, 7) == 0x55


def test_mono_and_colour_ports(either: QTest) -> None:
    either.outb(0x3C2, 0x66)
    either.outb(0x3B4, 0x0E)
    assert (either.inb(0x3B4), either.inb(0x3D4)) == (0x0E, 0xFF)
    either.outb(0x3C2, 0x67)
    assert (either.inb(0x3B4), either.inb(0x3D4)) == (0xFF, 0x0E)


def test_attribute_controller(either: QTest) -> None:
    either.outb(0x3C2, 0x67)
    either.inb(0x3DA)
    for index in range(16):
        either.outb(0x3C0, index)
        either.outb(0x3C0, 0x30 + index)
    for index in range(16):
        either.inb(0x3DA)
        either.outb(0x3C0, index)
        assert either.inb(0x3C1) == 0x30 + index
    either.inb(0x3DA)
    either.outb(0x3C0, 0x20)
    assert either.inb(0x3C0) in (0x20, 0)  # QEMU shows the index only while data is expected


def test_dac(either: QTest) -> None:
    either.outb(0x3C8, 254)
    for value in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11):
        either.outb(0x3C9, value)
    either.outb(0x3C7, 254)
    assert either.inb(0x3C7) == 3
    assert [either.inb(0x3C9) for _ in range(11)] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0]  # around; the last is not whole


def test_retrace_moves_with_the_clock_alone(own: QTest) -> None:
    misc, sequencer, crtc, _, _ = MODES["text 80x25"]
    own.outb(0x3C2, misc)
    for port, values in ((SEQUENCER, sequencer), (CRTC, crtc)):
        for index, value in enumerate(bytes.fromhex(values)):
            own.outw(port, index | value << 8)
    seen = set()
    for _ in range(400):
        seen.add(own.inb(0x3DA) & 9)
        assert own.inb(0x3DA) & 9 in seen
        own.clock_step(35_800)
    assert seen == {0, 1, 9}  # shown, blanked, in retrace


def test_bochs_registers(either: QTest) -> None:
    place(either)

    def read(index: int) -> int:
        either.outw(0x1CE, index)
        return either.inw(0x1CF)

    def write(index: int, value: int) -> None:
        either.outw(0x1CE, index)
        either.outw(0x1CF, value)

    assert read(0) == 0xB0C5 and read(10) == 0x100
    either.outw(0x1CE, 0)
    assert either.inw(0x1D0) == 0xB0C5  # for processors that want words at even addresses
    either.outw(0x1D0, 0xB0C3)
    assert read(0) == 0xB0C3
    write(0, 0xB0C2)
    assert read(0) == 0xB0C2
    write(0, 0x1234)
    assert read(0) == 0xB0C2
    write(4, 2)
    assert [read(n) for n in (1, 2, 3)] == [16000, 12000, 32]
    write(4, 0)
    for wanted, got in (
        ((800, 600, 32), (800, 600, 32, 800)),
        ((805, 600, 16), (800, 600, 16, 800)),
        ((0, 0, 8), (8, 1, 8, 8)),
        ((16000, 12000, 32), (16000, 262, 32, 16000)),
    ):
        write(4, 0)
        for n, value in enumerate(wanted, 1):
            write(n, value)
        write(4, 0x41)
        assert (read(1), read(2), read(3), read(6)) == got
        assert either.readw(MMIO + 0x502) == got[0]
    write(4, 0)
    either.writew(MMIO + 0x502, 640)
    assert read(1) == 640


def test_byte_order_register(either: QTest) -> None:
    place(either)
    assert (either.readl(MMIO + 0x600), either.readl(MMIO + 0x604)) == (8, 0x1E1E1E1E)
    either.writel(MMIO + 0x604, 0xBEBEBEBE)
    assert either.readl(MMIO + 0x604) == 0xBEBEBEBE
    either.writel(MMIO + 0x604, 7)
    assert either.readl(MMIO + 0x604) == 0xBEBEBEBE
    either.system_reset()
    place(either)
    assert either.readl(MMIO + 0x604) == 0x1E1E1E1E


def test_edid_is_a_whole_block(either: QTest) -> None:
    place(either)
    block = either.read(MMIO, 128)
    assert block[:8] == b"\0\xff\xff\xff\xff\xff\xff\0" and sum(block) % 256 == 0
    assert (block[56] | (block[58] & 0xF0) << 4, block[59] | (block[61] & 0xF0) << 4) == (1280, 800)


def test_reset(either: QTest) -> None:
    place(either)
    either.outb(0x3C2, 0x67)
    either.outw(GRAPHICS, 0x0406)
    either.outw(CRTC, 0x5518)
    either.outw(0x1CE, 4)
    either.outw(0x1CF, 0x41)
    either.writel(LFB + 0x1000, 0x12345678)
    either.system_reset()
    assert either.inb(0x3CC) == 0
    assert either.readl(LFB + 0x1000) != 0x12345678  # its BAR went, too
    place(either)
    assert either.readl(LFB + 0x1000) == 0x12345678
    either.outb(0x3C2, 1)
    assert (get(either, GRAPHICS, 6), get(either, CRTC, 0x18)) == (0, 0)
    either.outw(0x1CE, 4)
    assert either.inw(0x1CF) == 0


def test_wrong_accesses(either: QTest) -> None:
    place(either)
    either.outb(0x3C2, 0x67)
    for port in (SEQUENCER, GRAPHICS, CRTC):
        either.outb(port, 0xFF)
        either.outb(port + 1, 0xFF)
        either.inb(port + 1)
    for port in (0x3B0, 0x3BB, 0x3D0, 0x3D8, 0x3DF):
        either.outb(port, 0x55)
        assert either.inb(port) == 0xFF, hex(port)
    either.outl(0x3C0, 0xFFFF_FFFF)
    either.inl(0x3C0)
    for index in (11, 0x1234, 0xFFFF):
        either.outw(0x1CE, index)
        either.outw(0x1CF, 0xFFFF)
        assert either.inw(0x1CF) == 0
    either.writel(MMIO + 0x300, 0)
    either.writeb(MMIO + 0x604, 0xBE)
    either.writeq(MMIO + 0x500, (1 << 64) - 1)
    either.writel(MMIO, 0)
    assert either.readl(MMIO) == 0xFFFF_FF00
    assert either.config_read(ADDR, 0) == 0x1111_1234


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Screen]]:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    folder = tmp_path_factory.mktemp("vga")
    with Screen(folder) as ours, Screen(folder, qemu=True) as theirs:
        yield [ours, theirs]


def same(screens: list[Screen], mask: int = 0xFF) -> Surface:
    """The picture that both show, but for bits of colours outside of `mask`."""
    ours, theirs = (screen.surface() for screen in screens)
    assert (ours.width, ours.height) == (theirs.width, theirs.height)
    masked = bytes(n & mask for n in range(256))
    a, b = ours.data.translate(masked), theirs.data.translate(masked)
    wrong = [n // 3 for n in range(0, len(a), 3) if a[n : n + 3] != b[n : n + 3]] if a != b else []
    where = [(n % ours.width, n // ours.width) for n in wrong[:5]]
    assert not wrong, f"{len(wrong)} dots differ: {[(at, ours.pixel(*at), theirs.pixel(*at)) for at in where]}"
    assert len(set(ours.data)) > 1
    return ours


def cells() -> bytes:
    """Text at random: what both show alike."""
    data = bytearray(random.Random(3).randbytes(MEMORY))
    for n in range(0, MEMORY, 4):
        data[n + 1] &= 0x7F
        if 0xB0 <= data[n] <= 0xBF:
            data[n] = 0x41
    return bytes(data)


@pytest.mark.parametrize("name", MODES)
def test_every_mode_looks_as_in_qemu(screens: list[Screen], name: str) -> None:
    data = cells() if "25" in name or "50" in name or "fonts" in name else random.Random(2).randbytes(MEMORY)
    for screen in screens:
        screen.reset()
        screen.mode(name)
        screen.q.write(LFB, data)
    same(screens)
    for screen in screens:
        screen.set(CRTC, b"\x01\x23", 0x0C)  # start address
        screen.set(CRTC, b"\x30", 0x13)  # longer lines
        screen.attribute(b"\x05", 0x14)  # colour select
        if MODES[name][4] == EGA:
            screen.attribute(b"\x07", 0x12)  # three planes
    same(screens)


def test_cursor_looks_as_in_qemu(screens: list[Screen]) -> None:
    for screen in screens:
        screen.reset()
        screen.mode("text 80x25")
        screen.q.write(LFB, cells())
        screen.set(CRTC, b"\x03\x0d\0\0\0\x55", 0x0A)
    same(screens)


def test_split_screen_looks_as_in_qemu(screens: list[Screen]) -> None:
    for screen in screens:
        screen.reset()
        screen.mode("mode 12")
        screen.fill(MEMORY)
        screen.q.outw(CRTC, 0x0011)
        screen.set(CRTC, b"\x2e\0\0", 7)
        screen.set(CRTC, b"\x12\x34", 0x0C)
        screen.set(CRTC, b"\x64", 0x18)
    same(screens)


@pytest.mark.parametrize("bpp", [4, 8, 15, 16, 24, 32])
def test_bochs_modes_look_as_in_qemu(screens: list[Screen], bpp: int) -> None:
    for screen in screens:
        screen.reset()
        screen.mode("mode 12")
        screen.dispi(enable=0, xres=800, yres=600, bpp=bpp)
        screen.dispi(enable=0xC1, width=832, x=8, y=3)
        screen.fill(832 * 603 * -(-bpp // 8))
    same(screens, 0xF8 if bpp == 15 else 0xFF)
    assert [screens[0].dispi_read(n) for n in range(11)] == [screens[1].dispi_read(n) for n in range(11)]


def test_bochs_modes_with_eight_bits_a_colour_and_big_endian_pixels(screens: list[Screen]) -> None:
    for screen in screens:
        screen.reset()
        screen.mode("mode 12")
        screen.dispi(enable=0, xres=320, yres=200, bpp=8)
        screen.dispi(enable=0x61)
        screen.palette(seed=7, limit=256)
        screen.fill(320 * 200)
    same(screens)
    for bpp in (16, 32):
        for screen in screens:
            screen.q.writel(MMIO + 0x604, 0xBEBEBEBE)
            screen.dispi(enable=0, bpp=bpp)
            screen.dispi(enable=0x41)
            screen.fill(320 * 200 * 4)
        same(screens, 0xF8 if bpp == 16 else 0xFF)


def test_switching_modes_back_and_forth(screens: list[Screen]) -> None:
    for screen in screens:
        screen.reset()
        screen.mode("mode 12")
        screen.fill(MEMORY)
    for name in ("mode 13", "mode 12", "mode X", "mode 10", "mode 13"):
        for screen in screens:
            screen.dispi(enable=0, xres=640, yres=400, bpp=32)
            screen.dispi(enable=0xC1)
        same(screens)
        for screen in screens:
            screen.dispi(enable=0)
            screen.mode(name)
        same(screens)


def test_planes_answer_as_in_qemu(screens: list[Screen]) -> None:
    """Random registers of the graphics controller and random accesses: every read alike, and all of memory at the end."""
    for screen in screens:
        screen.reset()
        screen.mode("mode 12")
        screen.fill(MEMORY)
    dice = random.Random(11)
    for _ in range(1500):
        kind = dice.randrange(4)
        if kind == 0:
            register, value = dice.randrange(9), dice.randrange(256)
            if register == 5:
                value &= 0x0B  # odd/even stays off
            elif register == 6:
                value = dice.choice((0x01, 0x05, 0x05, 0x09, 0x0D))
            for screen in screens:
                screen.q.outw(GRAPHICS, value << 8 | register)
        elif kind == 1:
            value = dice.randrange(16)
            for screen in screens:
                screen.q.outw(SEQUENCER, value << 8 | 2)
        else:
            size = dice.choice((1, 1, 2, 4))
            address = 0xA0000 + dice.choice((0, 0, 0x10000, 0x18000)) + dice.randrange(0x7FF8) // size * size
            if kind == 2:
                ours, theirs = (screen.q.read(address, size) for screen in screens)
                assert ours == theirs, hex(address)
            else:
                data = dice.randbytes(size)
                for screen in screens:
                    screen.q.write(address, data)
    ours, theirs = (screen.q.read(LFB, MEMORY) for screen in screens)
    assert ours == theirs


@pytest.mark.parametrize("name", ["text 80x25", "mode 4", "mode 13"])
def test_windows_of_other_modes_are_as_in_qemu(screens: list[Screen], name: str) -> None:
    """Odd/even and chained addresses, narrow and wide, up to the window's end."""
    for screen in screens:
        screen.reset()
        screen.mode(name)
        screen.fill(MEMORY)
    dice, start = random.Random(name), 0xA0000 if name == "mode 13" else 0xB8000
    for _ in range(300):
        size = dice.choice((1, 2, 4, 7))
        address = start + dice.randrange(0x8000 - size)
        if dice.randrange(2):
            ours, theirs = (screen.q.read(address, size) for screen in screens)
            assert ours == theirs, hex(address)
        else:
            data = dice.randbytes(size)
            for screen in screens:
                screen.q.write(address, data)
    ours, theirs = (screen.q.read(LFB, MEMORY) for screen in screens)
    assert ours == theirs
    for screen in screens:
        screen.q.outw(SEQUENCER, 0x0102)
        screen.q.write(start, b"\x12\x34\x56\x78")
    ours, theirs = (screen.q.read(LFB, MEMORY) for screen in screens)
    assert ours == theirs


def test_banks_are_as_in_qemu(screens: list[Screen]) -> None:
    for screen in screens:
        screen.reset()
        screen.mode("mode 12")
        screen.dispi(enable=0, xres=640, yres=480, bpp=8)
        screen.dispi(enable=1)
        for bank in (0, 3, 255, 300):
            screen.dispi(bank=bank)
            screen.q.write(0xA0000 + bank * 16, bytes([bank & 0xFF]) * 8)
    assert screens[0].q.read(LFB, 0x50000) == screens[1].q.read(LFB, 0x50000)
    assert screens[0].q.read(LFB + 0xFF0000, 0x10000) == screens[1].q.read(LFB + 0xFF0000, 0x10000)
    assert screens[0].dispi_read(5) == screens[1].dispi_read(5)
