"""EDID: what the monitor at the other end of the cable says of itself, one block of 128 bytes.

Modelled: identity, size, the preferred timing (reduced blanking, 60 Hz), the common VESA timings that fit into it, its
name and range limits.  Not modelled: extension blocks, colour beyond sRGB.

Source: VESA Enhanced Extended Display Identification Data Standard, release A revision 2 (EDID 1.4); the timing is by
VESA Coordinated Video Timings 1.2, "reduced blanking".
"""

from __future__ import annotations

import struct
from typing import Final

SIZE: Final = 128
MANUFACTURER: Final = "QOM"
DOTS_PER_INCH: Final = 96
REFRESH: Final = 60  # Hz

H_BLANK, H_FRONT, H_SYNC = 160, 48, 32  # reduced blanking, dots
V_FRONT, V_BLANK_TIME, V_BACK_LEAST, CLOCK_STEP = 3, 460e-6, 6, 250_000  # lines, seconds, lines, Hz
ASPECT_SYNC: Final = ((4, 3, 4), (16, 9, 5), (16, 10, 6), (5, 4, 7), (15, 9, 7))  # width to height: lines of sync
OTHER_SYNC: Final = 10

ESTABLISHED: Final = {(640, 480): (0, 0x20), (800, 600): (0, 0x01), (1024, 768): (1, 0x08)}  # byte and bit, at 60 Hz
STANDARD: Final = (
    (1920, 1080),
    (1680, 1050),
    (1600, 1200),
    (1440, 900),
    (1280, 1024),
    (1280, 960),
    (1280, 800),
    (1280, 720),
)
ASPECT_CODES: Final = {(16, 10): 0, (4, 3): 1, (5, 4): 2, (16, 9): 3}
NOTHING: Final = b"\x01\x01"
SRGB: Final = bytes.fromhex("ee91a3544c99260f5054")  # chromaticity coordinates


def block(width: int, height: int, name: str = "QOM Monitor") -> bytes:
    """The block of a monitor that prefers `width` by `height` pixels (1 to 4095 each)."""
    data = bytearray(SIZE)
    letters = [ord(c) - ord("A") + 1 for c in MANUFACTURER]
    millimetres = [round(n * 25.4 / DOTS_PER_INCH) for n in (width, height)]
    data[0:8] = b"\x00\xff\xff\xff\xff\xff\xff\x00"
    struct.pack_into(">H", data, 8, letters[0] << 10 | letters[1] << 5 | letters[2])
    struct.pack_into("<HIBBBB", data, 10, 1, 0, 1, 2026 - 1990, 1, 4)  # product, serial, week, year, EDID 1.4
    data[20:25] = bytes((0xA5, min(millimetres[0] // 10, 255), min(millimetres[1] // 10, 255), 120, 0x06))
    data[25:35] = SRGB
    for (w, h), (byte, bit) in ESTABLISHED.items():
        if w <= width and h <= height:
            data[35 + byte] |= bit
    fitting = [(w, h) for w, h in STANDARD if w <= width and h <= height]
    codes = [_standard(w, h) for w, h in fitting]
    data[38:54] = b"".join([*codes, *[NOTHING] * (8 - len(codes))])
    clock, v_blank, v_sync = timing(width, height)
    data[54:72] = _detailed(width, height, clock, v_blank, v_sync, millimetres)
    fastest = min(255, clock // 8_000_000 + 1)  # tens of MHz: with the blanking of older timings, a quarter more
    limits = bytes((50, 125, 25, 160, fastest, 0x01)) + b"\n" + b" " * 6
    data[72:90] = b"\0\0\0\xfd\0" + limits
    data[90:108] = b"\0\0\0\xfc\0" + (name.encode("ascii")[:12] + b"\n").ljust(13)
    data[108:126] = b"\0\0\0\x10\0" + bytes(13)
    data[127] = -sum(data) & 0xFF
    return bytes(data)


def timing(width: int, height: int) -> tuple[int, int, int]:
    """Dot clock in Hz, lines of vertical blanking, lines of vertical sync, by reduced blanking."""
    sync = next((lines for w, h, lines in ASPECT_SYNC if width * h == height * w), OTHER_SYNC)
    line_time = (1 / REFRESH - V_BLANK_TIME) / height
    blank = max(int(V_BLANK_TIME / line_time) + 1, V_FRONT + sync + V_BACK_LEAST)
    clock = REFRESH * (height + blank) * (width + H_BLANK) // CLOCK_STEP * CLOCK_STEP
    return clock, blank, sync


def _standard(width: int, height: int) -> bytes:
    code = next(code for (w, h), code in ASPECT_CODES.items() if width * h == height * w)
    return bytes((width // 8 - 31, code << 6 | REFRESH - 60))


def _detailed(width: int, height: int, clock: int, v_blank: int, v_sync: int, millimetres: list[int]) -> bytes:
    w_mm, h_mm = (min(n, 4095) for n in millimetres)
    return struct.pack(
        "<H16B",
        min(clock // 10_000, 0xFFFF),
        width & 0xFF,
        H_BLANK & 0xFF,
        width >> 8 << 4 | H_BLANK >> 8,
        height & 0xFF,
        v_blank & 0xFF,
        height >> 8 << 4 | v_blank >> 8,
        H_FRONT,
        H_SYNC,
        V_FRONT << 4 | v_sync & 0x0F,
        0,
        w_mm & 0xFF,
        h_mm & 0xFF,
        w_mm >> 8 << 4 | h_mm >> 8,
        0,
        0,
        0x1A,  # separate sync, horizontal positive
    )
