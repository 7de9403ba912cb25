"""A VGA driven by the qtest protocol, here or in QEMU: modes by their registers, data by the frame buffer, pictures."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from qom.testing import QTest
from qom.vm import Surface
from qom.vm.display import consoles

QEMU = "qemu-system-x86_64"
ADDR, LFB, MMIO = "02.0", 0xE000_0000, 0xF000_0000
SEQUENCER, GRAPHICS, CRTC = 0x3C4, 0x3CE, 0x3D4
DISPI = {"xres": 1, "yres": 2, "bpp": 3, "enable": 4, "bank": 5, "width": 6, "x": 8, "y": 9}

CGA = "001315170204060710111213141516170100030000"
EGA = "000102030405140738393a3b3c3d3e3f01000f0000"
TEXT = "000102030405140738393a3b3c3d3e3f0c000f0800"
TWO = "001717171717171717171717171717170100010000"
GREYS = "000102030405060708090a0b0c0d0e0f41000f0000"
MODES = {
    "text 40x25": (0x67, "0309030002", "2d2728902ba0bf1f004f20000000" "00009c8e8f141f96b9a3ff", "0000000000100e0fff", TEXT),
    "text 80x25": (0x67, "0300030002", "5f4f50825581bf1f004f20000000" "00009c8e8f281f96b9a3ff", "0000000000100e0fff", TEXT),
    "text 80x50": (0x67, "0300030002", "5f4f50825581bf1f004720000000" "00009c8e8f281f96b9a3ff", "0000000000100e0fff", TEXT),
    "two fonts": (0x67, "0300031202", "5f4f50825581bf1f004f20000000" "00009c8e8f281f96b9a3ff", "0000000000100e0fff", TEXT),
    "mode 4": (0x63, "0309030002", "2d2728902b80bf1f00c100000000" "00009c8e8f140096b9a2ff", "0000000000300f0fff", CGA),
    "mode 6": (0x63, "0301010006", "5f4f50825480bf1f00c100000000" "00009c8e8f280096b9c2ff", "0000000000000d0fff", TWO),
    "mode D": (0x63, "03090f0006", "2d2728902b80bf1f00c000000000" "00009c8e8f140096b9e3ff", "000000000000050fff", EGA),
    "mode E": (0x63, "03010f0006", "5f4f50825480bf1f00c000000000" "00009c8e8f280096b9e3ff", "000000000000050fff", EGA),
    "mode 10": (0xA3, "03010f0006", "5f4f50825480bf1f004000000000" "000083855d280f63bae3ff", "000000000000050fff", EGA),
    "mode 12": (0xE3, "03010f0006", "5f4f508254800b3e004000000000" "0000ea8cdf2800e704e3ff", "000000000000050fff", EGA),
    "mode 13": (0x63, "03010f000e", "5f4f50825480bf1f004100000000" "00009c8e8f284096b9a3ff", "000000000040050fff", GREYS),
    "mode X": (0xE3, "03010f0006", "5f4f508254800d3e004100000000" "0000eaacdf2800e706e3ff", "000000000040050fff", GREYS),
}  # fmt: skip
"""Miscellaneous output, sequencer, CRT controller, graphics controller, attribute controller; text has no cursor."""


def place(q: QTest) -> None:
    """Give the BARs of the VGA their addresses."""
    q.config_write(ADDR, 0x10, LFB)
    q.config_write(ADDR, 0x18, MMIO)
    q.config_write(ADDR, 4, 3, 2)


class Screen:
    """A VGA with its BARs placed, in this process or in QEMU."""

    def __init__(self, folder: Path, *, qemu: bool = False) -> None:
        words = f"-device VGA,addr={ADDR}"
        self._qmp: Any = None
        self._dump = folder / "qemu.ppm"
        if qemu:
            path = folder / "qmp"
            self.q = QTest(f"{words} -qmp unix:{path},server=on,wait=off", program=QEMU)
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(path))
            self._qmp = self._socket.makefile("rw")
            self._qmp.readline()
            self._command("qmp_capabilities")
        else:
            self.q = QTest(words)
        self.place()

    def reset(self) -> None:
        """The whole machine."""
        self.q.system_reset()
        self.place()

    def place(self) -> None:
        """Give the BARs their addresses."""
        place(self.q)

    def _command(self, name: str, **arguments: Any) -> None:
        self._qmp.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._qmp.flush()
        while True:
            answer = json.loads(self._qmp.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return

    def surface(self) -> Surface:
        """What it shows."""
        if self._qmp is None:
            picture: Surface = consoles(self.q.vm)[0].surface()
            return picture
        self._command("screendump", filename=str(self._dump))
        head, size, _, data = self._dump.read_bytes().split(b"\n", 3)
        width, height = map(int, size.split())
        assert head == b"P6" and len(data) == 3 * width * height
        return Surface(width, height, data)

    def set(self, port: int, values: bytes, first: int = 0) -> None:
        """Registers `first` and on, of what is behind an index port."""
        for index, value in enumerate(values, first):
            self.q.outw(port, index | value << 8)

    def attribute(self, values: bytes, first: int = 0) -> None:
        """Registers of the attribute controller; the screen is on afterwards."""
        self.q.inb(0x3DA)
        for index, value in enumerate(values, first):
            self.q.outb(0x3C0, index)
            self.q.outb(0x3C0, value)
        self.q.outb(0x3C0, 0x20)

    def palette(self, seed: int = 1, limit: int = 64) -> None:
        """Colours at random."""
        dice = random.Random(seed)
        self.q.outb(0x3C8, 0)
        for _ in range(768):
            self.q.outb(0x3C9, dice.randrange(limit))

    def mode(self, name: str) -> None:
        """Set a mode."""
        misc, sequencer, crtc, graphics, attribute = MODES[name]
        self.q.outb(0x3C2, misc)
        self.set(SEQUENCER, bytes.fromhex(sequencer))
        self.q.outw(CRTC, 0x0011)  # take the protection off
        self.set(CRTC, bytes.fromhex(crtc))
        self.set(GRAPHICS, bytes.fromhex(graphics))
        self.attribute(bytes.fromhex(attribute))
        self.palette()

    def dispi(self, **values: int) -> None:
        """Registers of the Bochs interface, in the order given."""
        for name, value in values.items():
            self.q.outw(0x1CE, DISPI[name])
            self.q.outw(0x1CF, value)

    def dispi_read(self, index: int) -> int:
        """A register of the Bochs interface."""
        self.q.outw(0x1CE, index)
        return self.q.inw(0x1CF)

    def fill(self, length: int, seed: int = 2) -> None:
        """Random bytes from the start of memory on."""
        self.q.write(LFB, random.Random(seed).randbytes(length))

    def close(self) -> None:
        """End the machine."""
        if self._qmp is not None:
            self._qmp.close()
            self._socket.close()
        self.q.close()

    def __enter__(self) -> Screen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
