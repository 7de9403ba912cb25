"""A monitor for people on a character device: greeting, prompt, several clients after another, and bad ones."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hmp_machine import made

from qom.vm import VirtualMachine

PATIENCE = 30.0
BANNER = b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) "


class Client:
    """A connection to a monitor."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))

    def until(self, end: bytes = b"(qemu) ") -> bytes:
        """What comes, up to and with `end`."""
        got = b""
        while not got.endswith(end):
            piece = self.socket.recv(1 << 16)
            assert piece, got
            got += piece
        return got

    def ask(self, line: str) -> str:
        """Send a line; what comes between its echo and the next prompt."""
        self.socket.sendall(line.encode() + b"\n")
        got = self.until().decode()
        echo = f"{line}\r\n"
        assert got.startswith(echo)
        return got.removeprefix(echo).removesuffix("(qemu) ")

    def rest(self) -> bytes:
        """All that still comes before the end."""
        got = b""
        while piece := self.socket.recv(1 << 16):
            got += piece
        return got


@contextlib.contextmanager
def running(*words: str) -> Iterator[VirtualMachine]:
    with made("-M", "none", "-S", *words) as vm:
        vm.start_loop()
        yield vm


@contextlib.contextmanager
def client(path: Path) -> Iterator[Client]:
    made = Client(path)
    with contextlib.closing(made.socket):
        yield made


def on(path: Path) -> str:
    return f"unix:{path},server=on,wait=off"


def test_it_greets_echoes_answers_and_prompts(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with running("-monitor", on(path)), client(path) as peer:
        assert peer.until() == BANNER
        assert peer.ask("info status") == "VM status: paused (prelaunch)\r\n"
        assert peer.ask("") == ""
        assert peer.ask("nosuch") == "unknown command: 'nosuch'\r\n"
        assert peer.ask("info history") == "0: 'info status'\r\n1: 'nosuch'\r\n2: 'info history'\r\n"


def test_several_at_once_have_each_their_own_line(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["-chardev", f"socket,id=m,path={two},server=on,wait=off", "-mon", "chardev=m,mode=readline"]
    with running("-monitor", on(one), *words), client(one) as a, client(two) as b:
        assert a.until() == b.until() == BANNER
        a.socket.sendall(b"info sta")
        a.until(b"info sta")
        assert b.ask("info name") == ""
        a.socket.sendall(b"tus\n")
        assert a.until().endswith(b"VM status: paused (prelaunch)\r\n(qemu) ")


def test_lines_in_one_piece_are_carried_out_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with running("-monitor", on(path)), client(path) as peer:
        peer.until()
        peer.socket.sendall(b"p 1\np 2\r\np 3\rp 4\n")
        got = b""
        while got.count(b"(qemu) ") < 4:
            got += peer.until()
        assert got == b"".join(b"p %d\r\n0x%d\r\n(qemu) " % (n, n) for n in range(1, 5))


def test_who_comes_next_finds_nothing_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with running("-monitor", on(path)):
        for end in (b"", b"half a line", b"\x1b[", b"\xe2\x82", b'memsave 0 "'):
            with client(path) as peer:
                assert peer.until() == BANNER
                peer.socket.sendall(end)
        with client(path) as peer:
            assert peer.until() == BANNER
            assert peer.ask("p 7") == "0x7\r\n"


def test_junk_is_no_command_and_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with running("-monitor", on(path)), client(path) as peer:
        peer.until()
        peer.socket.sendall(bytes(range(256)) * 20 + b"\x03\x15\np 5\n")
        assert peer.until(b"p 5\r\n0x5\r\n(qemu) ")
    with made("-M", "none", "-S", "-monitor", "none"):
        pass


def test_a_client_that_floods_and_does_not_read_is_not_read_from(tmp_path: Path) -> None:
    path, other = tmp_path / "m", tmp_path / "other"
    with running("-monitor", on(path), "-monitor", on(other)) as vm, client(path) as flood, client(other) as peer:
        peer.until()
        flood.socket.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            for _ in range(100_000):
                sent += flood.socket.send(b"help\n" * 200)
        assert peer.ask("p 1") == "0x1\r\n"
        session = vm.root.resolve("/monitors/monitor0").session
        with vm.lock:
            assert len(session._out) < 1 << 18
        flood.socket.settimeout(PATIENCE)
        assert flood.socket.recv(len(BANNER), socket.MSG_WAITALL) == BANNER
        assert peer.ask("p 2") == "0x2\r\n"


def test_quit_ends_the_machine_and_its_connection(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with made("-M", "none", "-S", "-monitor", on(path)) as vm:
        vm.start_loop()
        with client(path) as peer:
            peer.until()
            peer.socket.sendall(b"q\np 1\n")
            assert vm.wait(PATIENCE)
            assert vm.shutdown_reason == "host-qmp-quit"
            vm.close()
            assert peer.rest() == b"q\r\n"


def test_a_back_end_serves_one_monitor() -> None:
    words = ["-chardev", "null,id=n", "-mon", "n", "-mon", "n"]
    with pytest.raises(Exception, match="already used by /monitors/monitor0, so /monitors/monitor1 cannot use it too"):
        made("-M", "none", *words)
