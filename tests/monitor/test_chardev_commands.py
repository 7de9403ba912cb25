"""query-chardev, chardev-add, -change, -remove, -send-break, ringbuf-read, -write."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import ask, refusal
from qmp_machine import qmp_machine

from qom import open_machine
from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.table import hmp_table
from qom.vm import VirtualMachine


@pytest.fixture
def vm() -> Iterator[VirtualMachine]:
    with open_machine(machine="pc", accel="qtest", serials=["null"]) as made:
        yield made


def backend(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "data": data}


def listed(vm: VirtualMachine) -> dict[str, tuple[str, bool]]:
    return {each["label"]: (each["filename"], each["frontend-open"]) for each in ask(vm, "query-chardev")}


def test_add_list_remove(vm: VirtualMachine, tmp_path: Path) -> None:
    assert listed(vm) == {"serial0": ("null", True)}
    terminal = ask(vm, "chardev-add", id="t", backend=backend("pty"))["pty"]
    assert os.path.exists(terminal)
    path = str(tmp_path / "socket")
    file = tmp_path / "out"
    assert ask(vm, "chardev-add", id="f", backend=backend("file", out=str(file))) == {}
    address = {"type": "unix", "data": {"path": path}}
    assert ask(vm, "chardev-add", id="s", backend=backend("socket", addr=address)) == {}  # a server, as in QEMU
    ask(vm, "chardev-add", id="c", backend=backend("socket", addr=address, server=False))
    ask(vm, "chardev-add", id="r", backend=backend("memory", size=1024))
    ask(vm, "chardev-add", id="n", backend=backend("null", logfile=str(tmp_path / "log")))
    assert listed(vm) == {
        "serial0": ("null", True),
        "t": (f"pty:{terminal}", False),
        "f": ("file", False),
        "s": (f"disconnected:unix:{path},server=on", False),
        "c": (f"unix:{path}", False),
        "r": ("memory", False),
        "n": ("null", False),
    }
    for name in "tfscrn":
        assert ask(vm, "chardev-remove", id=name) == {}
    assert listed(vm) == {"serial0": ("null", True)}
    assert file.exists()


def test_kinds_that_are_listed_are_those_that_are_taken(vm: VirtualMachine) -> None:
    names = [each["name"] for each in ask(vm, "query-chardev-backends")]
    expected = refusal(vm, "chardev-add", id="x", backend=backend("zyx")).partition("expected one of ")[2]
    assert sorted(expected.split(", ")) == names
    for name in ("console", "memory", "ringbuf"):
        ask(vm, "chardev-add", id=name, backend=backend(name))
        assert listed(vm)[name] == (name, False)
    ask(vm, "ringbuf-write", device="memory", data="kept")
    assert ask(vm, "ringbuf-read", device="memory", size=9) == "kept"


def test_tcp_and_udp(vm: VirtualMachine) -> None:
    here = {"type": "inet", "data": {"host": "127.0.0.1", "port": "0", "ipv4": True}}
    ask(vm, "chardev-add", id="s", backend=backend("socket", addr=here, nodelay=True))
    name = listed(vm)["s"][0]
    assert name.startswith("disconnected:tcp:127.0.0.1:")
    port = int(name.removesuffix(",server=on").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)):
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        there = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(receiver.getsockname()[1])}}
        ask(vm, "chardev-add", id="u", backend=backend("udp", remote=there, local=here))
        assert vm.root.resolve("/chardevs/u").write(b"datagram") == 8
        receiver.settimeout(30)
        assert receiver.recv(100) == b"datagram"


def test_change_under_a_serial_port(vm: VirtualMachine, tmp_path: Path) -> None:
    file = tmp_path / "out"
    ask(vm, "chardev-change", id="serial0", backend=backend("file", out=str(file)))
    assert listed(vm) == {"serial0": ("file", True)}
    for byte in b"hello":
        vm.ports.write(0x3F8, byte, 1)
    assert file.read_bytes() == b"hello"
    ask(vm, "chardev-change", id="serial0", backend=backend("null"))
    vm.ports.write(0x3F8, ord("x"), 1)
    assert file.read_bytes() == b"hello"


def test_break(vm: VirtualMachine) -> None:
    ask(vm, "chardev-send-break", id="serial0")
    assert vm.ports.read(0x3FD, 1) & 0x10  # line status: break


@pytest.mark.parametrize(
    ("command", "arguments", "error"),
    [
        ("chardev-add", {"id": "serial0", "backend": backend("null")}, "Chardev with id 'serial0' already exists"),
        (
            "chardev-add",
            {"id": "x", "backend": backend("nul")},
            "Parameter 'backend.type' does not accept value 'nul': expected one of file, pipe, socket, udp, pty, null,"
            " mux, stdio, console, ringbuf, memory; did you mean 'null'?",
        ),
        (
            "chardev-add",
            {"id": "x", "backend": {"type": "null"}},
            "Parameter 'backend.data' is missing: expected object",
        ),
        (
            "chardev-add",
            {"id": "x", "backend": backend("null", size=1)},
            "Parameter 'backend.data.size' is unexpected; expected: logfile, logappend",
        ),
        (
            "chardev-add",
            {"id": "x", "backend": backend("file", out="/nowhere/x")},
            "/chardevs/x: cannot open '/nowhere/x' for writing: No such file or directory",
        ),
        (
            "chardev-add",
            {"id": "x", "backend": backend("socket", addr={"type": "unix", "data": {"path": "/x"}}, wait=True)},
            "Parameter 'wait' expects false: a command cannot wait for a client",
        ),
        (
            "chardev-add",
            {"id": "x", "backend": backend("udp", remote={"type": "unix", "data": {"path": "/x"}})},
            "UDP sockets are of type inet: got unix",
        ),
        ("chardev-remove", {"id": "serial1"}, "Chardev 'serial1' not found; did you mean 'serial0'?"),
        ("chardev-remove", {"id": "serial0"}, "Chardev 'serial0' is busy: /machine/serial0 uses it"),
        ("chardev-send-break", {"id": "x"}, "Chardev 'x' not found"),
        ("chardev-change", {"id": "x", "backend": backend("null")}, "Chardev 'x' not found"),
    ],
)
def test_refusals(vm: VirtualMachine, command: str, arguments: dict[str, Any], error: str) -> None:
    assert refusal(vm, command, **arguments) == f"GenericError: {error}"
    assert listed(vm) == {"serial0": ("null", True)}


def test_before_the_board(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, "-machine", "pc", "-accel", "qtest", "-preconfig") as machine:
        builder = threading.Thread(target=machine.vm.build)
        builder.start()
        client = machine.client_when_there()
        client.do("chardev-add", id="c", backend=backend("ringbuf"))
        client.do("device_add", driver="isa-serial", id="s", chardev="c")
        assert client.do("query-chardev")[0]["frontend-open"] is True  # this client's own
        client.do("x-exit-preconfig")
        builder.join(30)
        assert machine.vm.root.resolve("/machine/peripheral/s").chardev is machine.vm.root.resolve("/chardevs/c")


def test_ring_buffers_are_read_and_written() -> None:
    """What QEMU 7.2 was seen to answer, but that errors say more."""
    with open_machine(machine="none", accel="qtest", chardevs=["ringbuf,id=r,size=16", "null,id=n"]) as vm:
        ask(vm, "ringbuf-write", device="r", data="aGVsbG8=", format="base64")
        ask(vm, "ringbuf-write", device="r", data=" w\u00f6")
        assert ask(vm, "ringbuf-read", device="r", size=3) == "hel"
        assert ask(vm, "ringbuf-read", device="r", size=100, format="base64") == "bG8gd8O2"
        assert ask(vm, "ringbuf-read", device="r", size=100) == ""
        ask(vm, "ringbuf-write", device="r", data="gA==", format="base64")
        assert ask(vm, "ringbuf-read", device="r", size=100) == "\ufffd"
        ask(vm, "ringbuf-write", device="r", data="0123456789abcdefg")
        assert ask(vm, "ringbuf-read", device="r", size=100) == "123456789abcdefg"  # the oldest goes
        assert refusal(vm, "ringbuf-read", device="r", size=0) == "GenericError: size must be greater than zero, got 0"
        assert refusal(vm, "ringbuf-read", device="n", size=1) == "GenericError: n is not a ringbuf device"
        assert refusal(vm, "ringbuf-write", device="q", data="x") == "GenericError: Device 'q' not found"
        assert refusal(vm, "ringbuf-write", device="r", data="!!", format="base64").startswith(
            "GenericError: Base64 data contains invalid characters"
        )
        table = hmp_table(vm)
        hmp = Hmp(vm, table)
        assert table.run("ringbuf_write r word", hmp) == ""
        assert table.run("ringbuf_read r 100", hmp) == "word\n"
        assert table.run("ringbuf_read n 1", hmp) == "Error: n is not a ringbuf device\n"
