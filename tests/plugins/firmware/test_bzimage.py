"""Linux kernels as a boot ROM finds them, and as they start without firmware."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from plugins.firmware import bzimage as bz
from plugins.firmware import fw_cfg
from plugins.firmware.bzimage import BzImage
from plugins.firmware.kernel import Kernel, Memory, Request, open_kernel
from plugins.firmware.loader import ImageError
from qom.hw.bench import IsaBench

MIB = 1 << 20
E820 = [(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0xE0000, 0x20000, 2), (MIB, 63 * MIB, 1)]
MEMORY = Memory(below=64 * MIB, map=E820, rsdp=0xFFE00)


def bzimage(
    *,
    version: int = 0x020F,
    sects: int = 3,
    flags: int = 1,
    payload: bytes = b"P" * 5000,
    initrd_max: int = 0x7FFFFFFF,
    init_size: int = 2 * MIB,
    xloadflags: int = 1,
    boot_flag: int = 0xAA55,
) -> bytes:
    setup = bytearray(512 * ((sects or 4) + 1))
    setup[0x1F1] = sects
    struct.pack_into("<H", setup, 0x1FE, boot_flag)
    setup[0x201] = 0x6A
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    setup[0x211] = flags
    struct.pack_into("<I", setup, 0x22C, initrd_max)
    struct.pack_into("<IBxH", setup, 0x230, 2 * MIB, 1, xloadflags)
    struct.pack_into("<I", setup, 0x238, 30)
    struct.pack_into("<Q", setup, 0x258, 16 * MIB)
    struct.pack_into("<I", setup, 0x260, init_size)
    return bytes(setup) + payload


def written(folder: Path, content: bytes) -> Kernel:
    path = folder / "bzImage"
    path.write_bytes(content)
    return open_kernel(str(path))


@pytest.fixture
def initrd(tmp_path: Path) -> str:
    path = tmp_path / "initrd"
    path.write_bytes(b"I" * 5000)
    return str(path)


# --- with firmware


def test_it_is_split_and_its_header_filled_in(tmp_path: Path, initrd: str) -> None:
    items = written(tmp_path, bzimage()).items(Request(initrd=initrd, append="console=ttyS0"), 64 * MIB)
    setup = items[fw_cfg.SETUP_DATA]
    address = 63 * MIB - 8192  # the last MiB is SeaBIOS's
    assert items[fw_cfg.SETUP_SIZE] == struct.pack("<I", 2048) == struct.pack("<I", len(setup))
    assert items[fw_cfg.KERNEL_DATA] == b"P" * 5000
    assert items[fw_cfg.CMDLINE_DATA] == b"console=ttyS0\0"
    assert struct.unpack("<I", items[fw_cfg.INITRD_ADDR]) == (address,)
    assert struct.unpack_from("<II", setup, 0x218) == (address, 5000)
    assert struct.unpack_from("<HxxI", setup, 0x224) == (0xFE00, 0x20000)
    assert (setup[0x210], setup[0x211]) == (0xB0, 0x81)


@pytest.mark.parametrize(
    ("append", "mode"),
    [("", None), ("vga=0x317", 0x317), ("vga=791 quiet", 791), ("vga=01427", 0x317), ("vga=ask vga=ext", 0xFFFE),
     ("vga=normal", 0xFFFF), ("svga=1", None)],
)  # fmt: skip
def test_the_video_mode_of_the_command_line(tmp_path: Path, append: str, mode: int | None) -> None:
    kernel = written(tmp_path, bzimage())
    (before,) = struct.unpack_from("<H", kernel.setup, 0x1FA)
    (after,) = struct.unpack_from("<H", kernel.items(Request(append=append), 64 * MIB)[fw_cfg.SETUP_DATA], 0x1FA)
    assert after == (before if mode is None else mode)


@pytest.mark.parametrize("text", ["big", "0x10000", "-1", "09", ""])
def test_a_video_mode_that_is_none(tmp_path: Path, text: str) -> None:
    kernel = written(tmp_path, bzimage())
    with pytest.raises(ImageError) as caught:
        kernel.items(Request(append=f"vga={text}"), 64 * MIB)
    assert caught.value.about == "append"
    assert str(caught.value) == (
        f"kernel '{kernel.path}' vga= cannot be {text!r}: expected a mode, such as 0x317, or one of normal, ext, ask"
    )


def test_items(tmp_path: Path) -> None:
    fw = IsaBench().add("fw_cfg_io")
    written(tmp_path, bzimage()).install(fw, Request(), 64 * MIB)
    assert fw.items[fw_cfg.KERNEL_ADDR].value() == b"\0\0\x10\0"
    assert fw.items[fw_cfg.SETUP_ADDR].value() == b"\0\0\1\0"
    assert fw.items[fw_cfg.CMDLINE_ADDR].value() == b"\0\0\2\0"
    assert fw.items[fw_cfg.CMDLINE_SIZE].value() == b"\1\0\0\0"
    assert fw_cfg.INITRD_DATA not in fw.items


def test_an_initrd_obeys_the_kernels_limit(tmp_path: Path, initrd: str) -> None:
    def address(content: bytes, low_memory: int) -> int:
        items = written(tmp_path, content).items(Request(initrd=initrd), low_memory)
        return int.from_bytes(items[fw_cfg.INITRD_ADDR], "little")

    assert address(bzimage(initrd_max=0x1FFFFFF), 1 << 30) == 0x1FFE000
    assert address(bzimage(version=0x0202), 1 << 31) == 0x37FFE000
    assert address(bzimage(), 3 << 30) == 0x7FFFE000


def test_zero_setup_sectors_means_four(tmp_path: Path) -> None:
    assert len(written(tmp_path, bzimage(sects=0)).items(Request(), 64 * MIB)[fw_cfg.SETUP_DATA]) == 2560


# --- without firmware


def test_the_64_bit_entry(tmp_path: Path, initrd: str) -> None:
    kernel = written(tmp_path, bzimage())
    start = kernel.direct(Request(initrd=initrd, append="console=ttyS0"), MEMORY, long_mode=True)
    assert (start.entry, start.long_mode) == (0x100200, True)
    held = {chunk.address: chunk.data for chunk in start.chunks}
    page = held[start.registers["rsi"]]
    assert len(page) == 4096
    assert page[0x1F1:0x210] == kernel.image[0x1F1:0x210]
    assert page[0x26C:0x2D0] == bytes(0x64)  # behind the header, by its own length
    assert struct.unpack_from("<Q", page, 0x70) == (0xFFE00,)
    address, size = struct.unpack_from("<II", page, 0x218)
    assert (address, size, held[address]) == (64 * MIB - 8192, 5000, b"I" * 5000)
    (cmdline,) = struct.unpack_from("<I", page, 0x228)
    assert held[cmdline] == b"console=ttyS0\0"
    assert [struct.unpack_from("<QQI", page, 0x2D0 + 20 * n) for n in range(page[0x1E8])] == E820
    assert held[0x100000] == b"P" * 5000
    table = held[start.gdt[0]]
    assert struct.unpack_from("<QQ", table, 0x10) == (0x00AF9B000000FFFF, 0x00CF93000000FFFF)
    assert translated(held, start.cr3, 0x1234_5678) == 0x1234_5678
    assert translated(held, start.cr3, 0xFFFF_FFFF) == 0xFFFF_FFFF


def translated(held: dict[int, bytes], cr3: int, linear: int) -> int:
    """What the page tables make of an address (4-level paging, 2 MiB pages)."""
    table = cr3
    for shift in (39, 30, 21):
        found = next(address for address in held if address <= table < address + len(held[address]))
        index = table - found + 8 * (linear >> shift & 511)
        (entry,) = struct.unpack_from("<Q", held[found], index)
        assert entry & 3 == 3
        table = entry & ~0xFFF
    assert entry & 0x80
    return int(table | linear & 0x1FFFFF)


@pytest.mark.parametrize(
    ("version", "xloadflags", "long_mode"), [(0x020B, 1, True), (0x020F, 0, True), (0x020F, 1, False)]
)
def test_the_32_bit_entry(tmp_path: Path, version: int, xloadflags: int, long_mode: bool) -> None:
    kernel = written(tmp_path, bzimage(version=version, xloadflags=xloadflags))
    start = kernel.direct(Request(), MEMORY, long_mode=long_mode)
    assert (start.entry, start.long_mode, start.cr3) == (0x100000, False, 0)
    (table,) = [chunk.data for chunk in start.chunks if chunk.address == start.gdt[0]]
    assert struct.unpack_from("<QQ", table, 0x10) == (0x00CF9B000000FFFF, 0x00CF93000000FFFF)


# --- what is wrong


def test_what_is_no_kernel(tmp_path: Path) -> None:
    for content, message in (
        (b"short", "is of no known kind: expected a Linux bzImage, a multiboot image or an ELF file with a PVH note"),
        (bzimage(boot_flag=0), "is no bzImage: at 0x1fe its setup header has 0x0: expected 0xaa55"),
        (bzimage(flags=0), "is a zImage, which is loaded below 640K: expected a bzImage"),
        (bzimage(version=0x0200), "has boot protocol 2.00: expected 2.02 or later"),
        (bzimage(sects=60)[:2048], "is cut short: 2048 bytes, its setup alone has 31232"),
        (bzimage()[:0x206], "has boot protocol 0.00: expected 2.02 or later"),
    ):
        with pytest.raises(ImageError) as caught:
            written(tmp_path, content)
        assert str(caught.value) == f"kernel '{tmp_path / 'bzImage'}' {message}"


def test_what_does_not_fit(tmp_path: Path, initrd: str) -> None:
    kernel = written(tmp_path, bzimage())
    with pytest.raises(ImageError) as caught:
        kernel.items(Request(append="x" * 31), 64 * MIB)
    assert str(caught.value) == f"kernel '{kernel.path}' takes a command line of at most 30 characters: it has 31"
    with pytest.raises(ImageError) as caught:
        kernel.items(Request(), 16 * MIB)
    assert str(caught.value) == (
        f"kernel '{kernel.path}' does not fit: it needs RAM up to 0x1200000, and 16M of memory have it up to 0xf00000:"
        " expected more memory (-m)"
    )
    Path(initrd).write_bytes(bytes(3 * MIB))
    with pytest.raises(ImageError) as caught:
        kernel.items(Request(initrd=initrd), 20 * MIB)
    assert str(caught.value) == (
        f"initrd '{initrd}' does not fit: it has 3145728 bytes, and between the kernel's end at 0x1200000 and 0x1300000"
        " there are 1048576: expected more memory (-m)"
    )
    with pytest.raises(ImageError) as caught:
        kernel.items(Request(initrd=str(tmp_path / "none")), 64 * MIB)
    assert str(caught.value) == f"initrd '{tmp_path / 'none'}' cannot be read: No such file or directory"


def test_constants_do_not_overlap() -> None:
    assert bz.REAL_ADDR + 0x10000 <= bz.CMDLINE_ADDR < bz.PROTECTED_ADDR


def test_a_device_that_never_ends_is_no_kernel() -> None:
    with pytest.raises(ImageError, match=r"^kernel '/dev/zero' cannot be read: expected a file$"):
        open_kernel("/dev/zero")


def test_a_kernel_of_a_known_kind() -> None:
    assert BzImage.kind == "Linux bzImage"
