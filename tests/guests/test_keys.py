"""Keys from outside as a guest reads them: every name, every number and what modifiers change, held against QEMU.

The guest (keylog.S) passes on what the keyboard sends.  QEMU's `send-key` and ours give it the same keys.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from qom import VirtualMachine, open_machine
from qom.vm import send_keys
from qom.vm.input import KEY_NAMES, KEY_NUMBERS

QEMU = "qemu-system-x86_64"
IMAGE = Path(__file__).with_name("keylog.bin")
HOW = 508  # offset of the byte that says what to read
PATIENCE = 30.0

Keys = Sequence[str | int]
TOGETHER: list[Keys] = [
    ["ctrl", "alt", "delete"], ["shift", "a"], ["a", "b"], ["shift", "home"], ["shift_r", "kp_divide"],
    ["alt", "print"], ["alt_r", "print"], ["shift", "print"], ["ctrl", "print"], ["alt", "sysrq"], ["shift_r", "sysrq"],
    ["ctrl", "pause"], ["ctrl_r", "pause"], ["alt", "pause"], ["num_lock", "left"],
]  # fmt: skip
NAMES: list[Keys] = [[name] for name in KEY_NAMES if name != "esc"]  # which every other one ends with
NUMBERS: list[Keys] = [[n] for n in (0, *KEY_NUMBERS, 0x55, 0x80, 0xFF) if n != 1]
KEYS: dict[int, list[Keys]] = {
    0: [*NAMES, *NUMBERS, *TOGETHER],
    1: [[name] for name in list(KEY_NUMBERS.values())[-40:]] + TOGETHER,
    2: [*NAMES, *TOGETHER],
}
"""What is tried, by what the guest reads.  In scan code set 1 QEMU has codes for keys that it has not in the others."""
END = {0: b"\x01\x81", 1: b"\x01\x81", 2: b"\x76\xf0\x76"}  # the escape key
Heard = list[tuple[Keys, str]]


def held(together: Keys) -> int:
    """Milliseconds: several keys make as many bytes as a keyboard keeps, so the guest gets time to read some."""
    return 1 if len(together) == 1 else 20


def disk(folder: Path, how: int) -> Path:
    image = bytearray(IMAGE.read_bytes())
    image[HOW] = how
    path = folder / "keylog.img"
    path.write_bytes(image)
    return path


class Log:
    """The other end of the debug port."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        assert self._socket.recv(1) == b"R"

    def until(self, end: bytes) -> bytes:
        got = b""
        while not got.endswith(end):
            more = self._socket.recv(4096)
            assert more, got.hex()
            got += more
        return got[: -len(end)]

    def close(self) -> None:
        self._socket.close()


@contextmanager
def ours(folder: Path, how: int) -> Iterator[tuple[VirtualMachine, Log]]:
    port = folder / "log"
    with open_machine(
        machine="pc", accel="simulated", memory="16M", nodefaults=True, debugcon=f"unix:{port},server=on,wait=off",
        drives=[f"file={disk(folder, how)},format=raw,snapshot=on"],
    ) as vm:  # fmt: skip
        vm.start()
        log = Log(port)
        yield vm, log
        log.close()


def heard_here(folder: Path, how: int, keys: Iterable[Keys]) -> Heard:
    out = []
    with ours(folder, how) as (vm, log):
        for together in keys:
            send_keys(vm, together, hold_ms=held(together))
            send_keys(vm, ["esc"], hold_ms=1)
            out.append((together, log.until(END[how]).hex()))
    return out


def heard_in_qemu(folder: Path, how: int, keys: Iterable[Keys]) -> Heard:
    port = folder / "qemu-log"
    command = [
        QEMU, "-M", "pc", "-m", "16", "-accel", "tcg", "-nodefaults", "-display", "none", "-S",
        "-drive", f"file={disk(folder, how)},format=raw,snapshot=on", "-debugcon", f"unix:{port},server=on,wait=off",
        "-chardev", "stdio,id=qmp", "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    talk, answers = process.stdin, process.stdout

    def execute(name: str, **arguments: object) -> None:
        talk.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        talk.flush()
        while "event" in (answer := json.loads(answers.readline())):
            pass
        assert "return" in answer, answer

    def send(together: Keys) -> None:
        kinds = [{"type": "qcode" if isinstance(key, str) else "number", "data": key} for key in together]
        execute("send-key", keys=kinds, **{"hold-time": held(together)})

    try:
        answers.readline()
        execute("qmp_capabilities")
        execute("cont")
        log = Log(port)
        out = []
        for together in keys:
            send(together)
            send(["esc"])
            out.append((together, log.until(END[how]).hex()))
        log.close()
        return out
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [0, 1, 2], ids=["translated", "set 1", "set 2"])
def test_every_key_sends_what_it_sends_in_qemu(tmp_path: Path, how: int) -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    folders = tmp_path / "qemu", tmp_path / "ours"
    for folder in folders:
        folder.mkdir()
    wanted, got = heard_in_qemu(folders[0], how, KEYS[how]), heard_here(folders[1], how, KEYS[how])
    assert got == wanted
    assert sum(bool(codes) for _, codes in got) > len(got) // 2
