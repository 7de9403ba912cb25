"""Screens found, pictures written: PPM, PNG, and what is wrong."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest

from qom.testing import QTest
from qom.vm import DisplayError, Surface, screendump, write_image

PICTURE = Surface(3, 2, bytes(range(18)))


def test_ppm() -> None:
    out = io.BytesIO()
    write_image(PICTURE, out)
    assert out.getvalue() == b"P6\n3 2\n255\n" + bytes(range(18))


def test_png_is_read_back_by_its_own_rules() -> None:
    out = io.BytesIO()
    write_image(PICTURE, out, "png")
    data = out.getvalue()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = [], 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, at + 8 + length)[0]
        chunks.append((kind, body))
        at += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    assert chunks[0][1] == struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0)
    assert zlib.decompress(chunks[1][1]) == b"\0" + bytes(range(9)) + b"\0" + bytes(range(9, 18))


def test_pixels() -> None:
    assert PICTURE.pixel(2, 1) == (15, 16, 17)
    with pytest.raises(IndexError, match=r"no dot \(3, 0\) in a picture of 3 by 2"):
        PICTURE.pixel(3, 0)


def test_screendump_writes_what_the_named_screen_shows(tmp_path: Path) -> None:
    with QTest("-vga std -device VGA,id=second,vgamem_mb=1") as q:
        for name, device in (
            ("a.ppm", None),
            ("b.ppm", "vga"),
            ("c.ppm", "second"),
            ("d.ppm", "/machine/peripheral/second"),
        ):
            screendump(q.vm, tmp_path / name, device)
            assert (tmp_path / name).read_bytes() == b"P6\n640 480\n255\n" + bytes(640 * 480 * 3)
        screendump(q.vm, tmp_path / "e.png", format="png")
        assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    name = tmp_path / "x"
    with QTest("-vga std") as q:
        for given, text in (
            ({"device": "vgaa"}, "screen dump: no display adapter 'vgaa'; did you mean 'vga'?"),
            ({"device": "tty"}, "screen dump: no display adapter 'tty': expected 'vga'"),
            ({"head": 1}, "screen dump: /machine/vga has no head 1: expected 0, its only one"),
            ({"format": "bmp"}, "screen dump: format cannot be 'bmp': expected ppm or png"),
            (
                {"filename": tmp_path / "no" / "x"},
                f"screen dump: '{tmp_path}/no/x' cannot be written: No such file or directory",
            ),
            ({"filename": "a\0b"}, "screen dump: 'a\0b' cannot be written: embedded null byte"),
        ):
            with pytest.raises(DisplayError) as error:
                screendump(q.vm, **{"filename": name, **given})  # type: ignore[arg-type]
            assert str(error.value) == text
    with QTest("-M pc") as q, pytest.raises(DisplayError) as error:
        screendump(q.vm, name)
    assert str(error.value) == "screen dump: this machine has no display adapter: expected one, such as by -vga std"
    assert not name.exists()
