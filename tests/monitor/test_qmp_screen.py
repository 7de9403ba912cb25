"""QMP commands for screen, keyboard and mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_machine import Client, QmpMachine, qmp_machine

from qom import open_machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpMachine]:
    folder = tmp_path_factory.mktemp("qmp")
    with qmp_machine(folder, "-M", "pc", "-m", "16", "-accel", "qtest", "-vga", "std", "-S") as made:
        yield made


@pytest.fixture
def client(machine: QmpMachine) -> Iterator[Client]:
    with QmpMachine(machine.vm, machine.paths) as made:
        yield made.client()


def keyboard(machine: QmpMachine) -> bytes:
    """What the keyboard controller has to read."""
    ports, out = machine.vm.ports, bytearray()
    while ports.read(0x64, 1) & 1:
        out.append(ports.read(0x60, 1))
    return bytes(out)


def test_screendump(client: Client, tmp_path: Path) -> None:
    assert client.do("screendump", filename=str(tmp_path / "a")) == {}
    assert (tmp_path / "a").read_bytes()[:15] == b"P6\n640 480\n255\n"
    client.do("screendump", filename=str(tmp_path / "b"), device="vga", head=0, format="png")
    assert (tmp_path / "b").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"filename": "/no/x"}, "GenericError: screen dump: '/no/x' cannot be written: No such file or directory"),
        ({"filename": "x", "head": 0}, "GenericError: 'head' must be specified together with 'device'"),
        ({"filename": "x", "device": "vgi"}, "DeviceNotFound: screen dump: no display adapter 'vgi'; did you mean 'vga'?"),
        ({"filename": "x", "device": "vga", "head": 3},
         "GenericError: screen dump: /machine/vga has no head 3: expected 0, its only one"),
        ({"filename": "x", "format": "bmp"},
         "GenericError: Parameter 'format' does not accept value 'bmp': expected one of ppm, png"),
    ],
)  # fmt: skip
def test_screendump_refused(client: Client, arguments: dict[str, Any], error: str) -> None:
    assert client.error("screendump", **arguments) == error


def test_send_key(machine: QmpMachine, client: Client) -> None:
    keys = [{"type": "qcode", "data": "ctrl"}, {"type": "number", "data": 0x9C}]
    assert client.do("send-key", keys=keys, hold_time=0) == {}
    assert keyboard(machine) == b"\x14\xe0\x5a\xe0\xf0\x5a\xf0\x14"
    wrong = [{"type": "qcode", "data": "crtl"}]
    assert client.error("send-key", keys=wrong) == (
        "GenericError: Parameter 'keys[0].data' does not accept value 'crtl': expected one of 150 words;"
        " did you mean 'ctrl' or 'ctrl_r'?"
    )
    assert (
        client.error("send-key", keys=[{"type": "number", "data": 256}])
        == "GenericError: key number 256: expected 0 to 255"
    )
    assert keyboard(machine) == b""


def test_input_send_event(machine: QmpMachine, client: Client) -> None:
    ports = machine.vm.ports
    ports.write(0x64, 0xD4, 1)
    ports.write(0x60, 0xF4, 1)
    keyboard(machine)
    key = {"type": "key", "data": {"key": {"type": "qcode", "data": "a"}, "down": True}}
    moves = [{"type": "rel", "data": {"axis": axis, "value": value}} for axis, value in (("x", 3), ("y", -4))]
    button = {"type": "btn", "data": {"button": "left", "down": True}}
    client.do("input-send-event", events=[key, *moves, button])
    assert keyboard(machine) == b"\x1c" + b"\x08\x03\x04" + b"\x09\x00\x00"
    absolute = {"type": "abs", "data": {"axis": "x", "value": 1}}
    assert client.error("input-send-event", events=[key, absolute]) == (
        "GenericError: no pointer here has absolute axes: expected 'rel'"
    )
    assert client.error("input-send-event", events=[], device="x") == "DeviceNotFound: Device 'x' not found"
    assert keyboard(machine) == b""


def test_the_mice_there_are() -> None:
    with open_machine(machine="pc", accel="qtest", memory="16M") as vm:
        assert vm.monitor_command("query-mice") == [
            {"name": "PS/2 mouse", "index": 0, "current": True, "absolute": False}
        ]
    with open_machine(machine="none", accel="qtest") as vm:
        assert vm.monitor_command("query-mice") == []
