"""What guests draw, as screendumps: the same boot disk here and in QEMU, dot by dot; and the window at A0000h under KVM.

The disk (vgamodes.S) sets eight modes by the VGA BIOS of SeaBIOS's package and the Bochs registers, and draws with the
processor.  It waits for a key after each picture, which is sent to both.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from array import array
from pathlib import Path
from typing import Any

import pytest

from plugins.firmware import find_seabios
from qom import VirtualMachine, open_machine
from qom.testing import unusable
from qom.vm import Surface, screendump, send_keys
from qom.vm.display import consoles

QEMU = "qemu-system-x86_64"
HERE = Path(__file__).parent
PATIENCE = 60.0
PICTURES = {
    "a": (720, 400), "b": (640, 400), "c": (640, 480), "d": (640, 400),
    "e": (640, 400), "f": (640, 400), "g": (640, 400), "h": (640, 400),
}  # fmt: skip


def connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    made.connect(str(path))
    return made


def read(path: Path) -> Surface:
    head, size, _, data = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    assert head == b"P6"
    return Surface(width, height, data)


class Ours:
    def __init__(self, folder: Path, image: str) -> None:
        self.folder = folder
        port = folder / "port"
        self.vm: VirtualMachine = open_machine(
            machine="pc", accel="simulated", memory="16M", nodefaults=True, settings={"vga": "std"},
            debugcon=f"unix:{port},server=on,wait=off",
            drives=[f"file={HERE / image},format=raw,snapshot=on"],
        )  # fmt: skip
        self.vm.start()
        self.log = connected(port)

    def picture(self) -> Surface:
        screendump(self.vm, self.folder / "ours.ppm")
        return read(self.folder / "ours.ppm")

    def key(self) -> None:
        send_keys(self.vm, ["spc"], hold_ms=1)

    def close(self) -> None:
        self.log.close()
        self.vm.close()


class Theirs:
    def __init__(self, folder: Path, image: str) -> None:
        self.folder = folder
        port = folder / "qemu-port"
        self.process = subprocess.Popen(
            [
                QEMU, "-M", "pc", "-m", "16", "-accel", "tcg", "-nodefaults", "-display", "none", "-vga", "std", "-S",
                "-drive", f"file={HERE / image},format=raw,snapshot=on",
                "-debugcon", f"unix:{port},server=on,wait=off", "-chardev", "stdio,id=qmp", "-mon", "chardev=qmp,mode=control",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.execute("qmp_capabilities")
        self.log = connected(port)
        self.execute("cont")

    def execute(self, name: str, **arguments: Any) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        while "event" in (answer := json.loads(self.process.stdout.readline())):
            pass
        assert "return" in answer, answer

    def picture(self) -> Surface:
        self.execute("screendump", filename=str(self.folder / "theirs.ppm"))
        return read(self.folder / "theirs.ppm")

    def key(self) -> None:
        self.execute("send-key", keys=[{"type": "qcode", "data": "spc"}], **{"hold-time": 1})

    def close(self) -> None:
        self.log.close()
        self.process.kill()
        self.process.communicate()


NO_QEMU = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not installed")
NO_BIOS = pytest.mark.skipif(find_seabios() is None, reason="SeaBIOS and its VGA BIOS are not installed")


@NO_QEMU
@NO_BIOS
def test_seabios_writes_its_banner_as_in_qemu(tmp_path: Path) -> None:
    """The boot disk (keylog.S) writes nothing: what stands there is SeaBIOS's, and the cursor's cell may blink."""
    theirs, ours = Theirs(tmp_path, "keylog.bin"), Ours(tmp_path, "keylog.bin")
    try:
        for side in (ours, theirs):
            assert side.log.recv(1) == b"R"
        text = ours.vm.memory.read_bytes(0xB8000, 80 * 25 * 2)[::2].decode("cp437")
        lines = [text[n : n + 80].rstrip() for n in range(0, len(text), 80)]
        assert lines[0].startswith("SeaBIOS (version ")
        last = max(n for n, line in enumerate(lines) if line)
        assert lines[last] == "Booting from Hard Disk..."
        here, there = ours.picture(), theirs.picture()
        differ = {n // 3 for n, (a, b) in enumerate(zip(here.data, there.data, strict=True)) if a != b}
        assert {(n % 720 // 9, n // 720 // 16) for n in differ} <= {(0, last + 1)}
    finally:
        ours.close()
        theirs.close()


@NO_QEMU
@NO_BIOS
def test_eight_modes_look_as_in_qemu(tmp_path: Path) -> None:
    theirs, ours = Theirs(tmp_path, "vgamodes.bin"), Ours(tmp_path, "vgamodes.bin")
    try:
        for letter, size in PICTURES.items():
            for side in (ours, theirs):
                assert side.log.recv(1) == letter.encode()
            here, there = ours.picture(), theirs.picture()
            assert (here.width, here.height) == (there.width, there.height) == size
            wrong = sum(a != b for a, b in zip(here.data, there.data, strict=True)) if here.data != there.data else 0
            assert wrong == 0, f"picture {letter}: {wrong} bytes differ"
            assert len(set(here.data)) > 2
            for side in (ours, theirs):
                side.key()
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize("accel", ["simulated", "kvm"])
def test_plain_memory_is_a_memory_slot_on_both_accelerators(tmp_path: Path, accel: str) -> None:
    """vgaslots.S writes a quarter of a million bytes through the window and the frame buffer, none of which comes to us."""
    if (reason := unusable(accel)) is not None:
        pytest.skip(reason)
    code = (HERE / "vgaslots.bin").read_bytes()
    rom = tmp_path / "rom"
    rom.write_bytes(code.ljust(0xFFF0, b"\xff") + b"\xea\0\0\0\xf0".ljust(16, b"\xff"))
    port = tmp_path / "port"
    with open_machine(
        machine="pc", accel=accel, memory="4M", nodefaults=True, firmware=str(rom), settings={"vga": "std"},
        debugcon=f"unix:{port},server=on,wait=off",
    ) as vm:  # fmt: skip
        card: Any = consoles(vm)[0]
        window: list[int] = []
        card.window.write = lambda offset, value, size: window.append(offset)
        card.window.read = lambda offset, size: window.append(offset) or 0xFF
        log = connected(port)
        vm.start()
        answer = log.recv(1)
        vm.stop()
        log.close()
        assert answer == b"K" and window == []
        memory = bytes(card.block.view[:0x60000])
        words = array("H")
        for bank in range(4):
            words.extend((bank + n * 0x0935) & 0xFFFF for n in range(0x8000))
        assert memory[:0x40000] == words.tobytes()
        assert memory[0x54320:0x54328] == bytes.fromhex("78563412f0debc9a")
