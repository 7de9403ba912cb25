"""Firmware images and kernels."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from plugins.firmware import EMBEDDED, fw_cfg, loader
from plugins.firmware.loader import ImageError, load_firmware, load_kernel
from qom.hw.bench import IsaBench

MIB = 1 << 20


# --- firmware


def test_embedded_firmware_by_name() -> None:
    firmware = load_firmware("qomfw.bin")
    assert firmware.path == EMBEDDED
    assert len(firmware.data) == 65536


def test_default_is_seabios_where_debian_puts_it() -> None:
    image = Path("/usr/share/seabios/bios-256k.bin")
    if not image.is_file():
        pytest.skip("seabios is not installed")
    assert load_firmware().path == image
    assert load_firmware("bios-256k.bin").data == image.read_bytes()


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "is empty: expected a multiple of 64k, at most 16M"),
        (1000, "has 1000 bytes: expected a multiple of 64k, at most 16M"),
        (17 * MIB, "has 17825792 bytes: expected a multiple of 64k, at most 16M"),
    ],
)
def test_firmware_of_a_wrong_size(tmp_path: Path, size: int, message: str) -> None:
    path = tmp_path / "bios.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(ImageError) as caught:
        load_firmware(str(path))
    assert str(caught.value) == f"firmware image '{path}' {message}"


def test_firmware_that_is_missing() -> None:
    with pytest.raises(
        ImageError, match=r"^firmware image 'nothing\.bin' not found \(looked in \., /usr/share/seabios"
    ):
        load_firmware("nothing.bin")
    with pytest.raises(ImageError) as caught:
        load_firmware("/nowhere/nothing.bin")
    assert str(caught.value) == "firmware image '/nowhere/nothing.bin' not found"


# --- kernel


def bzimage(
    *, version: int = 0x020C, sects: int = 3, flags: int = 1, payload: bytes = b"P" * 5000, initrd_max: int = 0x7FFFFFFF
) -> bytes:
    setup = bytearray(512 * ((sects or 4) + 1))
    setup[0x1F1] = sects
    struct.pack_into("<H", setup, 0x1FE, 0xAA55)
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    setup[0x211] = flags
    struct.pack_into("<I", setup, 0x22C, initrd_max)
    struct.pack_into("<I", setup, 0x238, 30)
    return bytes(setup) + payload


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage())
    return path


def test_kernel_is_split_and_its_header_filled_in(kernel: Path, tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(b"I" * 5000)
    loaded = load_kernel(str(kernel), str(initrd), "console=ttyS0", low_memory=64 * MIB)
    assert (len(loaded.setup), loaded.protected) == (2048, b"P" * 5000)
    assert loaded.cmdline == b"console=ttyS0\0"
    assert loaded.initrd_addr == 64 * MIB - 8192
    assert struct.unpack_from("<II", loaded.setup, 0x218) == (loaded.initrd_addr, 5000)
    assert struct.unpack_from("<HxxI", loaded.setup, 0x224) == (0xFE00, 0x20000)
    assert (loaded.setup[0x210], loaded.setup[0x211]) == (0xB0, 0x81)


def test_kernel_items(kernel: Path) -> None:
    fw = IsaBench().add("fw_cfg_io")
    load_kernel(str(kernel), None, "", low_memory=64 * MIB).install(fw)
    assert {key: fw.items[key].value() for key in (fw_cfg.KERNEL_ADDR, fw_cfg.SETUP_ADDR, fw_cfg.CMDLINE_ADDR)} == {
        fw_cfg.KERNEL_ADDR: b"\0\0\x10\0",
        fw_cfg.SETUP_ADDR: b"\0\0\1\0",
        fw_cfg.CMDLINE_ADDR: b"\0\0\2\0",
    }
    assert fw.items[fw_cfg.KERNEL_DATA].value() == b"P" * 5000
    assert fw.items[fw_cfg.CMDLINE_SIZE].value() == b"\1\0\0\0"
    assert fw_cfg.INITRD_DATA not in fw.items


def test_initrd_obeys_the_kernels_limit(tmp_path: Path) -> None:
    kernel, initrd = tmp_path / "k", tmp_path / "i"
    kernel.write_bytes(bzimage(initrd_max=0x1FFFFFF))
    initrd.write_bytes(bytes(4096))
    assert load_kernel(str(kernel), str(initrd), low_memory=1 << 30).initrd_addr == 0x1FFF000
    kernel.write_bytes(bzimage(version=0x0202))
    assert load_kernel(str(kernel), str(initrd), low_memory=1 << 31).initrd_addr == 0x37FFF000
    kernel.write_bytes(bzimage())
    loaded = load_kernel(str(kernel), str(initrd), low_memory=32 * MIB, reserved=2 * MIB)
    assert loaded.initrd_addr == 30 * MIB - 4096


def test_zero_setup_sectors_means_four(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_bytes(bzimage(sects=0))
    assert len(load_kernel(str(path), low_memory=64 * MIB).setup) == 2560


def test_what_is_no_kernel(tmp_path: Path) -> None:
    path = tmp_path / "k"
    for content, message in (
        (b"\x7fELF" + bytes(4096), "is no bzImage: no setup header at 0x202"),
        (b"short", "is no bzImage: no setup header at 0x202"),
        (bzimage(flags=0), "is no bzImage: its setup header lacks the boot flag or is of a zImage"),
        (bzimage(version=0x0200), "has boot protocol 2.00: expected 2.02 or later"),
        (bzimage(sects=60)[:2048], "is cut short: 2048 bytes, its setup alone has 31232"),
        (bzimage(payload=bytes(2 * MIB)), "does not fit: 2097152 bytes at 1M in 2M of RAM"),
    ):
        path.write_bytes(content)
        with pytest.raises(ImageError) as caught:
            load_kernel(str(path), low_memory=2 * MIB)
        assert str(caught.value) == f"kernel '{path}' {message}"


def test_what_does_not_fit(kernel: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        load_kernel(str(kernel), None, "x" * 31, low_memory=64 * MIB)
    assert str(caught.value) == f"kernel command line has 31 characters: '{kernel}' takes 30"
    initrd = tmp_path / "i"
    initrd.write_bytes(bytes(3 * MIB))
    with pytest.raises(ImageError) as caught:
        load_kernel(str(kernel), str(initrd), low_memory=4 * MIB)
    assert str(caught.value) == (
        f"initrd '{initrd}' does not fit: 3145728 bytes between the kernel and 0x400000, with 4M of RAM below 4G"
    )
    with pytest.raises(ImageError) as caught:
        load_kernel(str(kernel), str(tmp_path / "none"), low_memory=4 * MIB)
    assert str(caught.value) == f"initrd '{tmp_path / 'none'}' cannot be read: No such file or directory"


def test_constants_do_not_overlap() -> None:
    assert loader.REAL_ADDR + 0x10000 <= loader.CMDLINE_ADDR < loader.PROTECTED_ADDR


def test_a_device_that_never_ends_is_no_kernel() -> None:
    with pytest.raises(ImageError, match=r"^kernel '/dev/zero' cannot be read: expected a file$"):
        load_kernel("/dev/zero", low_memory=64 * MIB)
