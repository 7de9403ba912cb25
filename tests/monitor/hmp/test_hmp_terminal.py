"""The program on a real terminal: keys as a terminal sends them, the screen as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest
from hmp_screen import Screen

PROGRAM = "import sys; from qom.cli.entry import system; sys.exit(system())"
COLUMNS = 40
PATIENCE = 30.0


class Terminal:
    """A pseudo terminal with the program on it."""

    COMMAND: tuple[str, ...] = ("-M", "none", "-nodefaults", "-S")

    def __init__(self, *words: str) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        ends = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        command = [sys.executable, "-c", PROGRAM, *self.COMMAND, *words]
        self.process = subprocess.Popen(command, **ends)  # type: ignore[call-overload]
        self.screen = Screen(COLUMNS)

    def until(self, *rows: str) -> None:
        """Read until these are the last rows of the screen, but for spaces at their ends."""
        wanted = [row.rstrip() for row in rows]
        while self.shown()[-len(wanted) :] != wanted:
            assert select.select([self.ours], [], [], PATIENCE)[0], (wanted, self.shown())
            self.screen.write(os.read(self.ours, 4096).decode())

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def shown(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.screen.rows]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal("-monitor", "stdio")
    yield made
    made.close()


def test_a_person_at_a_terminal_edits_completes_and_quits(terminal: Terminal) -> None:
    terminal.until("QEMU 7.2.22 monitor - type 'help' for mo", "re information", "(qemu) ")
    terminal.type(b"info stauts")
    terminal.until("(qemu) info stauts")
    terminal.type(b"\x1b[D\x1b[D\x7f\x1b[Cu\r")  # goes left and right, takes away, puts in
    terminal.until("(qemu) info status", "VM status: paused (prelaunch)", "(qemu) ")
    terminal.type(b"\x10\x17nam\t\r")  # the line before, another last word, Tab
    terminal.until("(qemu) info name", "(qemu) ")
    terminal.type(b"p/d 1" + b" + 1" * 12)  # longer than a row
    terminal.until("(qemu) p/d 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1", " + 1 + 1 + 1 + 1 + 1")
    terminal.type(b"\x01\x1b[C\x1b[C\x1b[C\x1b[C1\x05 + 1\r")  # in the first row, then at the end
    terminal.until("(qemu) p/d 11 + 1 + 1 + 1 + 1 + 1 + 1 + ", "1 + 1 + 1 + 1 + 1 + 1 + 1", "24", "(qemu) ")
    terminal.type(b"q\r")
    assert terminal.process.wait(PATIENCE) == 0
    assert termios.tcgetattr(terminal.theirs) == terminal.before


# --- the keyboard shared with the guest: -nographic


class Shared(Terminal):
    """The program as `-nographic` starts it, with a board that has a serial port."""

    def __init__(self, *words: str) -> None:
        super().__init__("-nographic", "-accel", "qtest", *words)

    COMMAND = ("-M", "pc", "-m", "16", "-S")


@pytest.fixture
def shared() -> Iterator[Terminal]:
    made = Shared()
    yield made
    made.close()


def test_nographic_shares_the_terminal_between_the_serial_port_and_a_monitor(shared: Terminal) -> None:
    while termios.tcgetattr(shared.theirs)[3] & termios.ISIG:  # until the program has it
        assert shared.process.poll() is None
    shared.type(b"\x01h")
    shared.until("Ctrl-A Ctrl-A  send Ctrl-A")
    shared.type(b"\x01c")
    shared.until("QEMU 7.2.22 monitor - type 'help' for mo", "re information", "(qemu) ")
    shared.type(b"o/b 0x3f8 0x58\r")  # the guest writes an X
    shared.until("(qemu) o/b 0x3f8 0x58", "X(qemu) ")
    shared.type(b"\x01ck\x01c")  # a key to the guest
    shared.until("X(qemu) ", "(qemu) ")
    shared.type(b"i/b 0x3f8\r")
    shared.until("(qemu) i/b 0x3f8", "portb[0x03f8] = 0x6b", "(qemu) ")
    shared.type(b"\x01x")
    assert shared.process.wait(PATIENCE) == 0
    assert termios.tcgetattr(shared.theirs) == shared.before


def piped(text: str, *words: str) -> tuple[int, str]:
    """Status and output of the program with `text` on its standard input, which then ends."""
    command = [sys.executable, "-c", PROGRAM, "-nographic", "-accel", "qtest", "-m", "16", "-S", *words]
    ran = subprocess.run(command, input=text, capture_output=True, text=True, timeout=PATIENCE)
    assert ran.stderr == ""
    return ran.returncode, ran.stdout.replace("\r", "")


BANNER = "QEMU 7.2.22 monitor - type 'help' for more information\n"


@pytest.mark.parametrize(
    ("words", "keys", "shown"),
    [
        # what QEMU 7.2 was seen to do with the same words
        ((), "\x01cinfo name\nq\n", f"{BANNER}(qemu) info name\n(qemu) q\n"),
        (("-serial", "mon:stdio"), "\x01cq\n", f"{BANNER}(qemu) q\n"),
        (("-serial", "null"), "q\n", f"{BANNER}(qemu) q\n"),  # the monitor has it for itself
        (("-M", "none"), "q\n", f"{BANNER}(qemu) q\n"),  # there is no serial port to have the keyboard
    ],
)
def test_nographic_without_a_terminal(words: tuple[str, ...], keys: str, shown: str) -> None:
    assert piped(keys, *(() if "-M" in words else ("-M", "pc")), *words) == (0, shown)
