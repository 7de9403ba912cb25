"""Multiplexers, logs, telnet, UDP, pipes, sockets that are handed over, and descriptors that come through one."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from step_poller import StepPoller

from qom import TypeRegistry
from qom.hw.bench import hw_registry, load_plugins
from qom.vm.chardev import Chardev, ChardevError, ChardevEvent


class Port:
    """A front end with as much room as the test gives it."""

    def __init__(self, chardev: Chardev, name: str = "the port", room: int = 1 << 20) -> None:
        self.room, self.got, self.writable = room, b"", 0
        self.events: list[ChardevEvent] = []
        chardev.set_frontend(self.read, lambda: self.room, self.events.append, self.can_write, owner=name)

    def read(self, data: bytes) -> None:
        assert 0 < len(data) <= self.room
        self.room -= len(data)
        self.got += data

    def can_write(self) -> None:
        self.writable += 1


class Line(Chardev):
    """A back end that a test is the other end of, with as much room for output as the test gives it."""

    room, output = 1 << 20, b""

    def write(self, data: bytes) -> int:
        sent = min(len(data), self.room)
        self.room -= sent
        self.output += data[:sent]
        return sent

    def typed(self, data: bytes) -> None:
        """Come from outside, as far as the front end has room."""
        for byte in data:
            assert self.can_read() > 0
            self.on_read(bytes((byte,)))


@pytest.fixture(scope="module")
def registry() -> TypeRegistry:
    registry = hw_registry()
    load_plugins(registry)
    from qom import type_init

    registry.register(type_init("chardev-line")(Line), "tests")
    return registry


@pytest.fixture
def new(registry: TypeRegistry) -> Iterator[Any]:
    made: list[Chardev] = []
    root = registry.new("root")

    def make(kind: str, **props: Any) -> Any:
        chardev = registry.new(f"chardev-{kind}", **props)
        root.container("/chardevs").add_child(f"c{len(made)}", chardev)
        made.append(chardev)
        return chardev

    yield make
    for chardev in reversed(made):
        chardev.close()


@pytest.fixture
def poller() -> StepPoller:
    return StepPoller()


# --- the multiplexer


@pytest.fixture
def shared(new: Any, poller: StepPoller) -> tuple[Line, Any]:
    line = new("line")
    line.open(poller)
    mux = new("mux", chardev=line)
    mux.open(poller)
    assert not mux.connected, "nobody is greeted before the main loop runs"
    poller.calls.pop().fn()
    return line, mux


def test_input_goes_to_who_has_the_focus(shared: tuple[Line, Any]) -> None:
    line, mux = shared
    first, second = Port(mux, "first"), Port(mux, "second")
    assert second.events[:1] == [ChardevEvent.MUX_IN] and ChardevEvent.MUX_OUT in first.events
    line.typed(b"a\x01cb\x01\x01\x01cc")
    assert (first.got, second.got) == (b"b\x01", b"ac")
    assert mux.write(b"x") == 1 and line.output == b"x", "output of all goes out"
    mux.unset_frontend("second")
    line.typed(b"d")
    assert first.got == b"b\x01d" and first.events[-1] is ChardevEvent.MUX_IN


def test_the_letters_after_ctrl_a(shared: tuple[Line, Any]) -> None:
    line, mux = shared
    port = Port(mux)
    ended: list[bool] = []
    mux.end_machine = lambda: ended.append(True)
    line.typed(b"\x01b")
    assert port.events[-1] is ChardevEvent.BREAK
    line.typed(b"\x01h")
    help_text, line.output = line.output.decode(), b""
    assert "Ctrl-A x       end the machine\r\n" in help_text and "the port" in help_text
    line.typed(b"\x01q\x01s")
    assert b"not written back" in line.output and port.got == b"", "other letters do nothing"
    line.typed(b"\x01x")
    assert ended == [True] and line.output.endswith(b"The machine ends.\r\n")


def test_times_before_lines(shared: tuple[Line, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("plugins.char.mux.time.monotonic", lambda: now[0])
    line, mux = shared
    port = Port(mux)
    line.typed(b"\x01t")
    now[0] += 3661.25
    line.room = 10
    assert mux.write(b"one\ntw") == 6
    assert line.output == b"[01:01:01." and mux.write(b"o\n") == 0, "the rest waits, and nothing overtakes it"
    line.room = 1 << 20
    line.on_writable()
    assert port.writable == 1 and mux.write(b"o\n") == 2
    line.typed(b"\x01t")
    mux.write(b"plain\n")
    assert line.output == b"[01:01:01.250] one\n[01:01:01.250] two\nplain\n"


def test_input_waits_for_room_and_then_stops(shared: tuple[Line, Any]) -> None:
    line, mux = shared
    port = Port(mux, room=0)
    line.typed(b"x" * 32)
    assert line.can_read() == 0 and port.got == b""
    port.room = 40
    mux.accept_input()
    assert port.got == b"x" * 32 and line.can_read() == 32


def test_events_reach_all_and_a_fifth_is_too_many(shared: tuple[Line, Any]) -> None:
    line, mux = shared
    ports = [Port(mux, f"p{n}") for n in range(4)]
    assert all(ChardevEvent.OPENED in port.events for port in ports)
    line.set_connected(False)
    assert all(port.events[-1] is ChardevEvent.CLOSED for port in ports)
    with pytest.raises(ChardevError) as caught:
        Port(mux, "p4")
    assert str(caught.value) == "/chardevs/c1: has 4 front ends: expected no more, so p4 cannot use it too"


def test_another_escape_and_no_back_end(new: Any, poller: StepPoller) -> None:
    line = new("line")
    line.open(poller)
    mux = new("mux", chardev=line, escape=20)
    mux.open(poller)
    port = Port(mux)
    assert line.can_read() == 0  # until the front ends have heard that there is a peer
    poller.run_calls()
    line.typed(b"\x01c\x14\x14")
    assert port.got == b"\x01c\x14"
    with pytest.raises(
        ChardevError, match=r"^/chardevs/c2: 'chardev' is required: expected the id of the back end to share$"
    ):
        new("mux").open(poller)


# --- logs, pipes, UDP


def test_a_log_has_what_was_taken(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old")
    line = new("line", logfile=str(log))
    line.open(poller)
    line.room = 3
    assert line.write(b"abcdef") == 3
    line.close()
    assert log.read_bytes() == b"abc"
    line.write(b"closed")
    again = new("line", logfile=str(log), logappend=True)
    again.open(poller)
    again.write(b"!")
    assert log.read_bytes() == b"abc!"
    with pytest.raises(ChardevError) as caught:
        new("null", logfile="/no/such/log").open(poller)
    assert str(caught.value) == "/chardevs/c2: cannot open log '/no/such/log' for writing: No such file or directory"


@pytest.mark.parametrize("pair", [True, False])
def test_pipes(pair: bool, new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = tmp_path / "p"
    for suffix in (".in", ".out") if pair else ("",):
        os.mkfifo(f"{path}{suffix}")
    chardev = new("pipe", path=str(path))
    chardev.open(poller)
    port = Port(chardev, room=0)
    assert chardev.write(b"out") == 3
    reader = os.open(f"{path}{'.out' if pair else ''}", os.O_RDONLY)
    assert os.read(reader, 10) == b"out"
    writer = os.open(f"{path}{'.in' if pair else ''}", os.O_WRONLY)
    os.write(writer, b"in")
    port.room = 10
    chardev.accept_input()
    poller.turn()
    assert port.got == b"in"
    os.close(reader)
    os.close(writer)
    with pytest.raises(ChardevError) as caught:
        new("pipe", path="/no/p").open(poller)
    wanted = "/chardevs/c1: cannot open pipe '/no/p', nor '/no/p.in' and '.out': No such file or directory"
    assert str(caught.value) == wanted


def test_udp(new: Any, poller: StepPoller) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        chardev = new("udp", host="127.0.0.1", port=str(peer.getsockname()[1]), localaddr="127.0.0.1", ipv4=True)
        chardev.open(poller)
        port = Port(chardev, room=3)
        assert chardev.write(b"hello") == 5
        data, address = peer.recvfrom(100)
        assert data == b"hello" and "{}:{}".format(*address) == chardev.address
        peer.sendto(b"", address)
        peer.sendto(b"abcdef", address)
        while not port.got:
            poller.turn()
        assert port.got == b"abc"
        port.room = 10
        chardev.accept_input()
        assert port.got == b"abcdef", "the rest of a datagram is not lost"
    chardev.write(b"nobody")
    chardev.write(b"is there")
    assert chardev.connected


# --- telnet


@pytest.fixture
def telnet(new: Any, poller: StepPoller) -> Iterator[tuple[Any, socket.socket, Port]]:
    chardev = new("socket", host="127.0.0.1", port="0", server=True, wait=False, telnet=True)
    chardev.open(poller)
    port = Port(chardev)
    host, _, number = chardev.address.rpartition(":")
    with socket.create_connection((host, int(number)), 10) as client:
        poller.turn()
        yield chardev, client, port


def test_telnet_offers_takes_and_escapes(telnet: tuple[Any, socket.socket, Port], poller: StepPoller) -> None:
    chardev, client, port = telnet
    assert client.recv(100) == b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00"
    client.sendall(
        b"a\xff\xfd\x01\xff\xfb\x00\xff\xfd\x1f\xff\xfb\x18b\xff\xff\xff\xf3c\xff\xfa\x18\x00vt\xff\xf0d\xff"
    )
    poller.turn()
    assert port.got == b"ab\xffcd" and ChardevEvent.BREAK in port.events
    assert client.recv(100) == b"\xff\xfc\x1f\xff\xfe\x18", (
        "what is not known is refused, what was offered is not answered"
    )
    client.sendall(b"\xf3e")
    poller.turn()
    assert port.got == b"ab\xffcde" and port.events.count(ChardevEvent.BREAK) == 2
    assert chardev.write(b"x\xffy") == 3 and client.recv(100) == b"x\xff\xffy"


def test_telnet_loses_nothing_to_a_slow_client(telnet: tuple[Any, socket.socket, Port], poller: StepPoller) -> None:
    chardev, client, port = telnet
    client.recv(100)
    sent = 0
    while (took := chardev.write(b"\xff" * 100_000)) == 100_000:
        sent += took
    got = 0
    while port.writable == 0:
        got += len(client.recv(1 << 16))
        poller.turn(0)
    client.setblocking(False)
    while got < 2 * sent:
        got += len(client.recv(1 << 16))
    assert got == 2 * sent


# --- sockets that are handed over, descriptors that are passed


def test_a_socket_by_its_descriptor(new: Any, poller: StepPoller) -> None:
    ours, theirs = socket.socketpair()
    chardev = new("socket", fd=str(ours.detach()))
    chardev.open(poller)
    port = Port(chardev)
    theirs.sendall(b"hi")
    poller.turn()
    assert port.got == b"hi" and chardev.write(b"yo") == 2 and theirs.recv(10) == b"yo"
    theirs.close()
    listener = socket.create_server(("127.0.0.1", 0))
    number = listener.getsockname()[1]
    server = new("socket", fd=str(listener.detach()), server=True, wait=False)
    server.open(poller)
    assert server.address == f"127.0.0.1:{number}"
    for turn in (b"1", b"2"):  # one client after the other
        port = Port(server)
        with socket.create_connection(("127.0.0.1", number), 10) as client:
            poller.turn()
            client.sendall(turn)
            poller.turn()
            assert port.got == turn
        poller.turn()
        server.unset_frontend()


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (True, "fd N is another kind of socket: expected a stream that listens"),
        (False, "fd N is no socket: expected one"),
    ],
)
def test_a_descriptor_of_another_kind(server: bool, message: str, new: Any, poller: StepPoller) -> None:
    one, other = socket.socketpair() if server else os.pipe()
    fd, rest = (one.detach(), other.close) if isinstance(one, socket.socket) else (one, lambda: os.close(other))
    with pytest.raises(ChardevError) as caught:
        new("socket", fd=str(fd), server=server, wait=False).open(poller)
    assert str(caught.value) == f"/chardevs/c0: {message.replace('N', str(fd))}"
    rest()
    if not server:
        os.close(fd)


def test_a_name_without_a_file(new: Any, poller: StepPoller) -> None:
    name = f"qom-test-{os.getpid()}"
    chardev = new("socket", path=name, abstract=True, server=True, wait=False)
    chardev.open(poller)
    port = Port(chardev)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(b"\0" + name.encode())
        poller.turn()
        client.sendall(b"x")
        poller.turn()
    assert port.got == b"x" and not os.path.exists(name)


def test_a_range_of_ports(new: Any, poller: StepPoller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        chardev = new("socket", host="127.0.0.1", port=str(number), to=number + 50, server=True, wait=False)
        chardev.open(poller)
        assert number < int(chardev.address.rpartition(":")[2]) <= number + 50


def test_descriptors_that_a_peer_passes(new: Any, poller: StepPoller, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    chardev = new("socket", path=path, server=True, wait=False)
    chardev.open(poller)
    port = Port(chardev)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        poller.turn()
        read, write = os.pipe()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [read, write]))
        client.sendmsg([b"take"], [rights])
        poller.turn()
        assert port.got == b"take"
        taken = chardev.take_fds()
        assert len(taken) == 2 and chardev.take_fds() == [] and not any(map(os.get_inheritable, taken))
        os.write(taken[1], b"!")
        assert os.read(read, 1) == b"!"
        for _ in range(12):  # more than anybody takes
            client.sendmsg([b"."], [rights])
            poller.turn()
        waiting = list(chardev._passed)
        assert len(waiting) == 16
    poller.turn()
    for fd in waiting:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    for fd in (*taken, read, write):
        os.close(fd)


def test_the_file_goes_wherever_the_process_is(
    new: Any, poller: StepPoller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chardev = new("socket", path="s", server=True, wait=False)
    chardev.open(poller)
    assert (tmp_path / "s").is_socket()
    monkeypatch.chdir("/")
    chardev.close()
    assert not (tmp_path / "s").exists()
