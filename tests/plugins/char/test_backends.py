"""Character back ends, with peers that are slow, gone, late, or come back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from step_poller import LoopPoller, StepPoller

from qom import TypeRegistry
from qom.hw.bench import hw_registry, load_plugins
from qom.vm.chardev import Chardev, ChardevError, ChardevEvent

TREE = Path(__file__).resolve().parents[3]


class Port:
    """A front end with as much room as the test gives it."""

    def __init__(self, chardev: Chardev, room: int = 1 << 20) -> None:
        self.room = room
        self.got = b""
        self.events: list[ChardevEvent] = []
        self.writable = 0
        chardev.set_frontend(self.read, lambda: self.room, self.events.append, self.can_write, owner="the port")

    def read(self, data: bytes) -> None:
        assert 0 < len(data) <= self.room
        self.room -= len(data)
        self.got += data

    def can_write(self) -> None:
        self.writable += 1


@pytest.fixture(scope="module")
def registry() -> TypeRegistry:
    registry = hw_registry()
    load_plugins(registry)
    return registry


@pytest.fixture
def new(registry: TypeRegistry, poller: Any) -> Iterator[Any]:
    made: list[Chardev] = []

    def make(kind: str, **props: Any) -> Any:
        root = registry.new("root")
        chardev = registry.new(f"chardev-{kind}", **props)
        root.container("/chardevs").add_child("c0", chardev)
        made.append(chardev)
        return chardev

    yield make
    for chardev in made:
        chardev.close()


@pytest.fixture(params=[StepPoller, LoopPoller])
def poller(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    if isinstance(made, LoopPoller):
        made.close()


# --- null, ringbuf, file


def test_null_takes_everything(new: Any, poller: StepPoller) -> None:
    chardev = new("null")
    chardev.open(poller)
    assert chardev.write(b"x" * 1000) == 1000
    assert not poller.watches


def test_one_front_end_only(new: Any) -> None:
    chardev = new("null")
    Port(chardev)
    with pytest.raises(ChardevError) as caught:
        chardev.set_frontend(owner="/machine/peripheral/com2")
    assert str(caught.value) == "/chardevs/c0: already used by the port, so /machine/peripheral/com2 cannot use it too"
    chardev.unset_frontend()
    Port(chardev)


def test_ringbuf_keeps_the_newest(new: Any) -> None:
    chardev = new("ringbuf", size="16")
    chardev.open()
    assert chardev.write(b"0123456789") == 10
    assert chardev.write(b"abcdefghij") == 10
    assert (chardev.peek(), chardev.dropped) == (b"456789abcdefghij", 4)
    assert chardev.take(4) == b"4567"
    assert chardev.take() == b"89abcdefghij"
    assert chardev.take() == b""


def test_ringbuf_size_must_be_a_power_of_two(new: Any) -> None:
    with pytest.raises(ChardevError) as caught:
        new("ringbuf", size=1000).open()
    assert str(caught.value) == "/chardevs/c0: property 'size' must be a power of two, got 1000"


def test_ringbuf_feeds_as_much_as_there_is_room_for(new: Any) -> None:
    chardev = new("ringbuf")
    chardev.open()
    port = Port(chardev, room=3)
    chardev.feed(b"hello")
    assert port.got == b"hel"
    port.room = 100
    chardev.accept_input()
    assert port.got == b"hello"


def test_file_replaces_or_appends(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    for append, expected in ((False, b"one"), (True, b"oneone")):
        chardev = new("file", path=str(path), append=append)
        chardev.open(poller)
        assert chardev.write(b"one") == 3
        chardev.close()
        assert path.read_bytes() == expected


def test_file_that_cannot_be_opened(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "out"
    with pytest.raises(ChardevError) as caught:
        new("file", path=str(path)).open(poller)
    assert str(caught.value) == f"/chardevs/c0: cannot open '{path}' for writing: No such file or directory"


def test_file_input_comes_as_there_is_room_and_its_end_leaves_output(
    new: Any, poller: StepPoller, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(b"typed")
    chardev = new("file", path=str(tmp_path / "out"), input_path=str(tmp_path / "in"))
    chardev.open(poller)
    port = Port(chardev, room=2)
    while poller.run_calls():
        pass
    assert port.got == b"ty"
    port.room = 100
    chardev.accept_input()
    while poller.run_calls():
        pass
    assert port.got == b"typed"
    assert chardev.write(b"still here") == 10
    assert (tmp_path / "out").read_bytes() == b"still here"


def test_full_disk_stops_output_not_the_machine(new: Any, poller: StepPoller) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    chardev = new("file", path="/dev/full")
    chardev.open(poller)
    assert chardev.write(b"lost") == 4
    assert chardev.error == "/chardevs/c0: cannot write to '/dev/full': No space left on device"
    assert chardev.write(b"lost too") == 8


# --- sockets


def serve(new: Any, poller: StepPoller, **props: Any) -> tuple[Any, Port]:
    chardev = new("socket", server=True, wait=False, **props)
    chardev.open(poller)
    return chardev, Port(chardev)


def test_tcp_server_serves_one_client_after_another(new: Any, poller: StepPoller) -> None:
    chardev, port = serve(new, poller, host="127.0.0.1", port="0")
    host, number = chardev.address.split(":")
    assert chardev.write(b"nobody hears") == 12
    for text in (b"first", b"second"):
        with socket.create_connection((host, int(number))) as peer:
            poller.until(lambda: chardev.connected)
            peer.sendall(text)
            poller.until(lambda text=text: port.got.endswith(text))
            assert chardev.write(b"answer") == 6
            assert peer.recv(100) == b"answer"
        poller.until(lambda: not chardev.connected)
    assert port.got == b"firstsecond"
    assert port.events == [ChardevEvent.OPENED, ChardevEvent.CLOSED] * 2


def test_unix_server_removes_its_socket_and_replaces_a_dead_one(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    chardev, _ = serve(new, poller, path=str(path))
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        poller.until(lambda: chardev.connected)
        with pytest.raises(ChardevError) as caught:
            new("socket", server=True, wait=False, path=str(path)).open(poller)
        assert str(caught.value) == f"/chardevs/c0: cannot listen on '{path}': Address already in use"
    chardev.close()
    assert not path.exists()
    assert not poller.watches


def test_wait_blocks_until_the_client_is_there(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    chardev = new("socket", server=True, path=str(path))
    said: list[str] = []
    chardev.announce = said.append
    program = f"""if True:
        import os, socket
        while not os.path.exists({str(path)!r}): os.sched_yield()
        peer = socket.socket(socket.AF_UNIX)
        while peer.connect_ex({str(path)!r}): os.sched_yield()
        peer.sendall(b"here"); peer.recv(1)"""
    with subprocess.Popen([sys.executable, "-c", program]) as client:
        chardev.open(poller)
        assert chardev.connected
        assert said == [f"/chardevs/c0 waits for a client on {path}"]
        port = Port(chardev)
        poller.until(lambda: port.got)
        assert port.got == b"here"
        chardev.close()
        client.wait(10)


def test_slow_peer_meets_back_pressure_and_loses_nothing(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    chardev, port = serve(new, poller, path=str(tmp_path / "sock"))
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "sock"))
        poller.until(lambda: chardev.connected)
        data = bytes(range(256)) * 8192  # 2 MiB: more than any buffer between the two
        sent = chardev.write(data)
        assert 0 < sent < len(data), "the peer reads nothing, so not everything can have been taken"
        assert chardev.write(b"overtaking") == 0
        got = b""
        while len(got) < len(data):
            got += peer.recv(1 << 16)
            if sent < len(data) and port.writable == 0:
                poller.turn(0)
            if port.writable:
                port.writable = 0
                sent += chardev.write(data[sent:])
        assert got == data


def test_peer_that_dies_while_we_wait_for_it_frees_the_front_end(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    chardev, port = serve(new, poller, path=str(tmp_path / "sock"))
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(tmp_path / "sock"))
    poller.until(lambda: chardev.connected)
    while chardev.write(bytes(1 << 16)) == 1 << 16:
        pass
    peer.close()
    poller.until(lambda: not chardev.connected)
    assert port.writable == 1
    assert chardev.write(b"lost") == 4


def test_input_waits_while_there_is_no_room(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    chardev, port = serve(new, poller, path=str(tmp_path / "sock"))
    port.room = 2
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "sock"))
        poller.until(lambda: chardev.connected)
        peer.sendall(b"abcdef")
        poller.until(lambda: port.got)
        assert port.got == b"ab"
        assert not poller.watches, "nothing is listened to while there is no room"
        port.room = 100
        chardev.accept_input()
        poller.until(lambda: len(port.got) == 6)
        assert port.got == b"abcdef"


def test_client_without_a_server(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with pytest.raises(ChardevError) as caught:
        new("socket", path=str(path)).open(poller)
    assert str(caught.value) == f"/chardevs/c0: cannot connect to '{path}': No such file or directory"


def test_client_tries_again(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    chardev = new("socket", path=str(path), reconnect=7)
    chardev.open(poller)
    port = Port(chardev)
    assert not chardev.connected
    assert poller.run_calls() == [7]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert poller.run_calls() == [7]
        for _ in range(2):
            assert chardev.connected
            peer, _ = server.accept()
            peer.sendall(b"hi")
            peer.close()
            poller.until(lambda: not chardev.connected)
            assert poller.run_calls() == [7]
        assert port.got == b"hihi"


def test_tcp_client_tries_again_without_waiting(new: Any, poller: StepPoller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        chardev = new("socket", host="127.0.0.1", port=str(number), reconnect=1)
        chardev.open(poller)
        Port(chardev)
        poller.until(lambda: chardev.connected)
        peer, _ = server.accept()
        with peer:
            assert chardev.write(b"x") == 1
            assert peer.recv(1) == b"x"


@pytest.mark.parametrize(
    ("props", "message"),
    [
        ({}, "set one of 'path' (unix), 'port' (TCP) and 'fd' (a socket): none is set"),
        (
            {"path": "/x", "port": "1"},
            "set one of 'path' (unix), 'port' (TCP) and 'fd' (a socket): path and port are set",
        ),
        ({"port": "70000"}, "'port' must be 0..65535 or the name of a service, got 70000"),
        ({"port": "1", "server": True, "reconnect": 1}, "'reconnect' is for a client, but 'server' is on"),
    ],
)
def test_socket_configuration(new: Any, poller: StepPoller, props: dict[str, Any], message: str) -> None:
    with pytest.raises(ChardevError) as caught:
        new("socket", **props).open(poller)
    assert str(caught.value) == f"/chardevs/c0: {message}"


# --- pty


def test_pty_carries_both_ways_and_survives_a_hang_up(new: Any, poller: StepPoller) -> None:
    chardev = new("pty")
    said: list[str] = []
    chardev.redirected = said.append
    chardev.open(poller)
    assert said == [f"char device redirected to {chardev.device} (label c0)"]
    port = Port(chardev)
    assert chardev.device.startswith("/dev/pts/")
    assert chardev.write(b"nobody") == 6
    for _ in range(2):
        assert not chardev.connected
        terminal = os.open(chardev.device, os.O_RDWR | os.O_NOCTTY)
        assert chardev.write(b"to you\n") == 7
        assert chardev.connected
        assert os.read(terminal, 100) == b"to you\n"
        os.write(terminal, b"\x03raw\r")
        poller.until(lambda: port.got)
        assert port.got == b"\x03raw\r"
        port.got = b""
        os.close(terminal)
        poller.until(lambda: not chardev.connected)
    terminal = os.open(chardev.device, os.O_RDWR | os.O_NOCTTY)
    assert poller.run_calls() == [1.0]  # the probe notices, too
    assert chardev.connected
    os.close(terminal)


# --- stdio, in a process of its own

STDIO = """if True:
    import sys
    sys.path[:0] = [{tree!r}, {here!r}]
    from step_poller import StepPoller
    from qom.hw.bench import hw_registry, load_plugins
    registry = hw_registry(); load_plugins(registry)
    chardev = registry.new("chardev-stdio", signal={signal})
    poller = StepPoller()
    chardev.open(poller)
    got = b""
    def read(data):
        global got
        got += data
    chardev.set_frontend(read, lambda: 1 << 16)
    sent = chardev.write(b"ready\\n")
    def turn():
        return poller.run_calls() or (poller.watches and poller.turn(1000))
"""


def stdio_program(body: str, signal: bool = True) -> list[str]:
    here = str(Path(__file__).parent)
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return [sys.executable, "-c", STDIO.format(tree=str(TREE), here=here, signal=signal) + lines]


def test_stdio_on_a_terminal_is_raw_and_restored_at_exit() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    body = "while not got.endswith(b'q'): turn()\nchardev.write(repr(got).encode())"
    with subprocess.Popen(stdio_program(body, signal=False), stdin=slave, stdout=slave) as process:
        assert os.read(master, 100) == b"ready\r\n"
        during = termios.tcgetattr(slave)
        assert not during[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert os.get_blocking(slave), "the flags are shared with whoever else has the terminal"
        os.write(master, b"\x03\rq")
        assert os.read(master, 100) == b"b'\\x03\\rq'"
        assert process.wait(20) == 0  # never closed: the exit itself restores
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_stdio_on_pipes_ends_its_input_only() -> None:
    body = "while turn(): pass\nchardev.write(b'[' + got + b']')\nchardev.close()"
    done = subprocess.run(stdio_program(body), input=b"typed", capture_output=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"ready\n[typed]", b"")


def test_stdio_with_dev_null() -> None:
    body = "while turn(): pass\nchardev.write(b'end')\nchardev.close()"
    done = subprocess.run(stdio_program(body), stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"ready\nend", b"")


def test_stdio_never_blocks_on_a_full_pipe() -> None:
    body = "print(chardev.write(bytes(1 << 20)) + sent, file=sys.stderr)"
    with subprocess.Popen(stdio_program(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None and process.stdout is not None
        taken = int(process.stderr.readline())  # comes although nobody reads standard output
        assert process.wait(20) == 0
        assert len(process.stdout.read()) == taken < 1 << 20


def test_stdio_exists_once(new: Any, poller: StepPoller) -> None:
    body = """
second = registry.new("chardev-stdio")
try:
    second.open(poller)
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr)
chardev.close()
second.open(poller)
second.close()
"""
    done = subprocess.run(stdio_program(body), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    where = "<chardev-stdio not in a tree>"
    assert done.stderr == f"ChardevError {where}: standard input and output are already used by {where}\n"
    assert done.returncode == 0
