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

    def __init__(self, *words: str) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(self.theirs)
        ends = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        command = [sys.executable, "-c", PROGRAM, "-M", "none", "-nodefaults", "-S", *words]
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
