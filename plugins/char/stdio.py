"""Standard input and output as a character back end.

A terminal on standard input is put into raw mode while the back end is open, and back at close, and at the latest
when the interpreter exits. Descriptor flags are left alone: they are shared with the shell that started us, so output
asks for room before it writes instead. End of input stops input only.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import stat
import termios

from qom import prop, type_init
from qom.vm import ChardevError, FdChardev

STDIN, STDOUT = 0, 1

IFLAG, OFLAG, CFLAG, LFLAG, CC = 0, 1, 2, 3, 6  # indices into what tcgetattr returns


@type_init("chardev-stdio")
class StdioChardev(FdChardev):
    """The process's own terminal or pipes; one at a time, as the process has them once."""

    signal: bool = prop(True, "Ctrl-C and its like send signals to this process; off: they are bytes for the guest")

    _in_use_by: str = ""  # on the class: descriptors 0 and 1 belong to the process

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Standard input and output"

    def open_end(self) -> None:
        """Take standard input and output, once in a process, and put a terminal into raw mode."""
        if StdioChardev._in_use_by:
            raise ChardevError(f"{self.path}: standard input and output are already used by {StdioChardev._in_use_by}")
        try:
            os.fstat(STDOUT)
        except OSError as error:
            raise self.failure("use standard output", error) from None
        self._saved: list[object] | None = None
        self._terminal_out = -1
        StdioChardev._in_use_by = self.path
        fd_in = STDIN
        try:
            os.fstat(STDIN)
        except OSError:
            fd_in = -1
        self._make_raw()
        if os.isatty(STDOUT):
            # A description of our own of the same terminal can be non-blocking without touching anybody else's.
            with contextlib.suppress(OSError):
                self._terminal_out = os.open(
                    os.ttyname(STDOUT), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                )
        self.attach_fds(fd_in, self._terminal_out if self._terminal_out >= 0 else STDOUT, owned=False)
        if self._terminal_out >= 0 or stat.S_ISREG(os.fstat(STDOUT).st_mode):
            self.blocking_out = False

    def close_end(self) -> None:
        """Give them back and restore the terminal."""
        super().close_end()
        self.restore_terminal()
        if self._terminal_out >= 0:
            os.close(self._terminal_out)
            self._terminal_out = -1
        StdioChardev._in_use_by = ""

    def _make_raw(self) -> None:
        if not os.isatty(STDIN):
            return
        saved = termios.tcgetattr(STDIN)
        self._saved = list(saved)
        atexit.register(self.restore_terminal)
        raw = termios.tcgetattr(STDIN)
        raw[IFLAG] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        raw[OFLAG] |= termios.OPOST
        raw[LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN)
        if not self.signal:
            raw[LFLAG] &= ~termios.ISIG
        raw[CFLAG] = raw[CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[CC][termios.VMIN], raw[CC][termios.VTIME] = 1, 0
        termios.tcsetattr(STDIN, termios.TCSANOW, raw)

    def restore_terminal(self) -> None:
        """Give the terminal its settings back; a second call has no effect."""
        saved, self._saved = self._saved, None
        if saved is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(STDIN, termios.TCSANOW, saved)  # type: ignore[arg-type]
            atexit.unregister(self.restore_terminal)

    def input_ended(self) -> None:
        """End of input: output goes on."""
        self.stop_input()

    def output_failed(self, error: OSError) -> None:
        """Nobody reads any more: output is lost, input goes on."""
        del error  # nobody reads standard output any more (SIGPIPE's case); the guest goes on
        self.stop_output()
