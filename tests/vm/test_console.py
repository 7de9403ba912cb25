"""Consoles in memory: what the guest wrote, waiting for it, typing."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from qom import Console, ConsoleTimeout, LifecycleError, TypeRegistry
from qom.vm.console import ConsoleChardev
from qom.vm.mainloop import MainLoop


class Line:
    """A console and the guest at its other end."""

    def __init__(self, **props: Any) -> None:
        from qom.hw.bench import hw_registry
        from qom.vm.chardev import Chardev

        registry: TypeRegistry = hw_registry(Chardev, ConsoleChardev)
        self.lock = threading.RLock()
        self.loop = MainLoop(self.lock, pytest.fail)
        root = registry.new("root")
        self.backend: ConsoleChardev = registry.new("chardev-console", **props)
        root.add_child("serial0", self.backend)
        self.backend.open(self.loop)
        self.over: str | None = None
        self.console = Console(self.backend, self.lock, lambda: self.over)

    def guest(self, data: bytes) -> None:
        with self.lock:
            assert self.backend.write(data) == len(data)


@pytest.fixture
def line() -> Any:
    made = Line()
    yield made
    made.backend.close()
    made.loop.close()


def later(line: Line, *parts: bytes) -> threading.Thread:
    """The guest writes from a thread of its own, once somebody waits."""

    def write() -> None:
        for part in parts:
            line.guest(part)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_text_is_what_was_written_without_carriage_returns(line: Line) -> None:
    line.guest(b"one\r\ntwo\r\n\xff\xc3\xa9\r\n")
    assert line.console.text == "one\ntwo\n\\xffé\n"
    assert line.console.tail(2) == "two\n\\xffé"
    assert line.console.read() == line.console.text
    assert line.console.read() == ""
    assert repr(line.console) == "<Console 'serial0': 3 lines>"


def test_reading_goes_on_where_it_ended(line: Line) -> None:
    line.guest(b"boot\r\nlogin: ")
    assert line.console.read_until("login: ") == "boot\nlogin: "
    line.guest(b"root\nlogin: ")
    assert line.console.read_until("login: ") == "root\nlogin: "
    assert line.console.text == "boot\nlogin: root\nlogin: "


def test_a_text_may_come_in_pieces_and_over_lines(line: Line) -> None:
    thread = later(line, *(bytes([b]) for b in b"ready\r\nto boot now"))
    assert line.console.read_until("y\nto boot", 20) == "ready\nto boot"
    thread.join()
    assert line.console.read() == " now"


def test_a_pattern_is_looked_for_in_each_line_the_last_one_included(line: Line) -> None:
    line.guest(b"disk 1\nprocessors: 12 started\nvm\xff login: ")
    assert line.console.read_until(re.compile(r"processors: \d+")) == "disk 1\nprocessors: 12"
    assert line.console.read_until(re.compile(r"vm.* login: $")) == " started\nvm\\xff login: "
    with pytest.raises(ConsoleTimeout):
        line.console.read_until(re.compile("disk"), 0)


def test_a_line_is_waited_for_until_it_is_finished(line: Line) -> None:
    line.guest(b"a\r\n10 tic")
    with pytest.raises(ConsoleTimeout):
        line.console.wait_line(r"(\d+) tic", 0)
    thread = later(line, b"ks", b", 9 halts\r\nrest")
    match = line.console.wait_line(r"^(\d+) ticks, (\d+) halts$", 20)
    thread.join()
    assert match.groups() == ("10", "9")
    assert line.console.read() == "rest"


def test_what_does_not_come_shows_the_last_lines(line: Line) -> None:
    with pytest.raises(ConsoleTimeout) as caught:
        line.console.read_until("login:", 0)
    assert str(caught.value) == "console 'serial0': no 'login:' within 0 s; nothing was written on it"
    line.guest("".join(f"line {n}\r\n" for n in range(30)).encode())
    with pytest.raises(ConsoleTimeout) as caught:
        line.console.wait_line("panic", 0.01)
    shown = [f"    line {n}" for n in range(10, 30)]
    assert str(caught.value).splitlines() == [
        "console 'serial0': no line with 'panic' within 0.01 s; its last lines:",
        *shown,
    ]


def test_nobody_waits_for_a_machine_that_ended(line: Line) -> None:
    failures: list[str] = []

    def wait() -> None:
        with pytest.raises(ConsoleTimeout) as caught:
            line.console.read_until("login:", 60)
        failures.append(str(caught.value))

    thread = threading.Thread(target=wait)
    thread.start()
    line.over = "the machine has ended (guest-shutdown)"
    while thread.is_alive():
        line.console.wake()
        thread.join(0.001)
    assert failures == [
        "console 'serial0': no 'login:': the machine has ended (guest-shutdown); nothing was written on it"
    ]
    line.guest(b"login:")
    assert line.console.read_until("login:") == "login:"  # what was written before counts


def test_only_the_end_of_a_long_output_is_kept() -> None:
    line = Line(size=8)
    line.guest(b"0123456789")
    assert line.console.text == "23456789"
    assert line.console.read_until("45") == "2345"
    line.guest(b"abcdefgh")
    assert line.console.read() == "abcdefgh"
    line.guest(b"x\ny\nz\nwxyz")
    assert line.console.wait_line("[a-z]", 0).string == "y"  # the first line that is whole
    line.loop.close()


def test_what_is_typed_waits_until_there_is_room(line: Line) -> None:
    got: list[bytes] = []
    room = 3
    line.backend.set_frontend(got.append, lambda: room)
    line.console.write("héllo")
    assert got == [b"h\xc3\xa9", b"llo"]
    room = 0
    line.console.write(b"!")
    assert got[2:] == []
    room = 1
    line.backend.accept_input()
    assert got[2:] == [b"!"]


def test_typing_after_the_end_is_refused(line: Line) -> None:
    line.backend.close()
    with pytest.raises(LifecycleError) as caught:
        line.console.write("x")
    assert str(caught.value) == "console 'serial0': the machine has been closed, nobody reads what is typed"
