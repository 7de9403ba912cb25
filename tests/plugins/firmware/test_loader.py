"""Firmware images."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.firmware import EMBEDDED
from plugins.firmware.loader import FIRMWARE_GRANULE, ImageError, empty_rom, load_firmware

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


def test_without_firmware_the_reset_vector_resets_the_machine() -> None:
    rom = empty_rom()
    assert len(rom) == FIRMWARE_GRANULE
    assert rom[-16:] == bytes.fromhex("baf90c b006 ee f4 ebfd") + b"\xff" * 7
