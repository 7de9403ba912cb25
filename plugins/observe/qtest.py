"""The server of QEMU's qtest protocol: a test on the other end of a character back end is the machine's processor.

A line in, a line out: "outb 0x70 0x0b" is answered "OK", "inb 0x71" is answered "OK 0x0002".  When lines were intercepted,
"IRQ raise N" and "IRQ lower N" come whenever one of them changes, before the answer to the command that changed it.

Modelled: QEMU's protocol and its log.  Under any accelerator; the clock is stepped only under "qtest".
Not modelled: nothing known; commands that are left out are named in qtest_commands.py.

Client and machine.  A client that goes, half a line or answers it never read are forgotten, and the lines it intercepted
are let go; the next one begins anew.  One that sends and does not read is not read from either, once `BACKLOG_MAX` bytes
of answers wait for it; nothing else waits for it.

A step of the clock over many deadlines gives way between them, so that monitors are answered and the machine can be ended;
the client's next command waits for it, and it is carried to its end even when the client goes.
"""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

from plugins.observe.qtest_commands import Parts, Refused, carry_out
from qom import Chardev, ConfigError, Device, Object, UserCreatable, VirtualMachine, link, prop, type_init
from qom.hw import Fault, LineChange, Observation
from qom.vm import ChardevEvent

BACKLOG_MAX: Final = 1 << 20  # bytes of answers that wait for a client, before no more is read from it
AT_ONCE: Final = 1 << 16  # bytes taken, and offered, at once
LINE_MAX: Final = 1 << 28  # bytes of a line; more than what the longest command takes


@type_init("qtest")
class Qtest(Object, UserCreatable):
    """Serves the qtest protocol on a back end."""

    chardev: Chardev | None = link("chardev", "Back end on which the client is")
    log: str = prop("", "File that what is said is written to, 'none' for nowhere; empty: standard error")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.category = "observe"
        cls.desc = "Server of QEMU's qtest protocol: a client drives ports, memory, lines and the clock"

    def instance_init(self) -> None:
        """Nobody is there yet."""
        self.vm: VirtualMachine
        self._client = 0  # counts them, so that no answer reaches the next one
        self._begin()
        self._log_file: TextIO | None = None
        self._started = time.monotonic()
        self._watch: Observation | None = None
        self._intercepted: Device | None = None
        self._parts: Parts | None = None  # of the command that is being carried out

    @property
    def busy(self) -> bool:
        """Whether a command is being carried out, of which there is more to come."""
        return self._parts is not None

    def _begin(self) -> None:
        """A client begins: nothing has been said."""
        self._client += 1
        self._line = bytearray()
        self._searched = 0  # bytes of it in which there is no end of line
        self._too_long = False
        self._out = bytearray()
        self._levels: dict[int, int] = {}

    def attach(self, vm: VirtualMachine) -> None:
        """Be told of the machine."""
        self.vm = vm

    def complete(self) -> None:
        """Open the log and wait for a client.

        Raises:
            ConfigError: no back end, or a log that cannot be written.
            ChardevError: somebody else uses the back end.
        """
        if self.chardev is None:
            raise ConfigError(f"{self.path}: 'chardev' is missing: expected the back end on which the client is")
        if self.vm.inert:
            return
        if self.log not in ("", "none"):
            try:
                self._log_file = open(self.log, "w", encoding="utf-8")  # noqa: SIM115 -- closed by close()
            except OSError as error:
                raise ConfigError(f"{self.path}: log {self.log}: {error.strerror}") from None
        self.chardev.set_frontend(self._received, self._room, self._event, self._flush, owner=self.path)

    def close(self) -> None:
        """Serve nobody any more; a second call has no effect."""
        self._let_go()
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()
        if self.chardev is not None and self.chardev.frontend == self.path:
            self.chardev.unset_frontend(self.path)
        log, self._log_file = self._log_file, None
        if log is not None:
            log.close()

    def finalize(self) -> None:
        """It stops when it ceases to exist."""
        self.close()

    # -- bytes and lines

    def _room(self) -> int:
        return AT_ONCE if len(self._out) < BACKLOG_MAX and not self.busy else 0

    def _event(self, event: ChardevEvent) -> None:
        if event is ChardevEvent.OPENED:
            self._begin()
            self._note("I ", "OPENED", sign="")
        elif event is ChardevEvent.CLOSED:
            self._note("I ", "CLOSED")
            self._let_go()
            self._begin()

    def _received(self, data: bytes) -> None:
        """Bytes of the client: carry out every line that is whole."""
        self._line += data
        while not self.busy and (end := self._line.find(b"\n", self._searched)) >= 0:
            line = bytes(self._line[:end])
            del self._line[: end + 1]
            self._searched = 0
            if self._too_long:
                self._too_long = False
                self._answer(f"FAIL the line is too long: expected at most {LINE_MAX} bytes")
            else:
                self._serve(line)
        if self.busy:
            return
        self._searched = len(self._line)
        if self._searched > LINE_MAX:
            self._too_long = True
        if self._too_long:
            self._line.clear()
            self._searched = 0

    def _serve(self, line: bytes) -> None:
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            self._note("R ", line.decode(errors="backslashreplace"))
            byte = f"byte {line[error.start]:#04x} at {error.start}"
            self._answer(f"FAIL {byte} is no UTF-8: expected a command and its arguments")
            return
        if not text.isprintable():
            at = next(n for n, letter in enumerate(text) if not letter.isprintable())
            self._note("R ", text.encode("unicode_escape").decode())
            self._answer(f"FAIL character {ord(text[at]):#04x} at {at}: expected a command and its arguments")
            return
        self._note("R ", text)
        self._parts = carry_out(self, text)
        self._go_on(self._client)

    def _go_on(self, client: int) -> None:
        """The next part of a command; when that was the last, its answer, unless the client has gone meanwhile."""
        parts = self._parts
        if parts is None:
            return  # closed
        try:
            next(parts)
        except StopIteration as done:
            answer = str(done.value)
        except Fault as fault:
            answer = f"FAIL {' '.join(str(fault).split())}"
            self.vm.device_failed(fault)
        else:
            self.vm.main_loop.call_soon_threadsafe(lambda: self._later(client))
            return
        self._parts = None
        if client == self._client:
            self._answer(answer)

    def _later(self, client: int) -> None:
        """Go on with a command, and after it with what the client said since."""
        self._go_on(client)
        if not self.busy and self.chardev is not None and self.chardev.frontend == self.path:
            self._received(b"")
            self.chardev.accept_input()

    def _answer(self, text: str) -> None:
        self._note("S ", text)
        self._out += text.encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        """Send what waits; when the backlog has gone, listen again."""
        chardev = self.chardev
        assert chardev is not None
        full = len(self._out) >= BACKLOG_MAX
        while self._out:
            part = bytes(self._out[:AT_ONCE])
            sent = chardev.write(part)
            del self._out[:sent]
            if sent < len(part):
                break  # it calls again when there is room
        if full and len(self._out) < BACKLOG_MAX:
            chardev.accept_input()

    # -- lines of devices

    def intercept(self, device: Device, direction: str, name: str) -> None:
        """Report when lines of `device` change: its inputs ("in") or outputs ("out") called `name`.

        The first choice holds for a client: when lines of that device are reported already, nothing changes, as in QEMU.

        Raises:
            Refused: lines of another device are reported already.
        """
        if self._intercepted is not None:
            if self._intercepted is not device:
                raise Refused("IRQ intercept already enabled")
            return
        self._intercepted = device

        def told(change: LineChange) -> None:
            if change.direction == direction and change.level != self._levels.get(change.n, 0):
                self._levels[change.n] = change.level
                self._answer(f"IRQ {'raise' if change.level else 'lower'} {change.n}")

        self._watch = self.vm.observe.lines(told, device=device, name=name)

    def _let_go(self) -> None:
        watch, self._watch, self._intercepted = self._watch, None, None
        if watch is not None:
            watch.close()

    # -- the log

    def remark(self, text: str) -> None:
        """Write into the log only."""
        self._note("S ", text)

    def _note(self, mark: str, text: str, sign: str = "+") -> None:
        if self.log == "none":
            return
        line = f"[{mark}{sign}{time.monotonic() - self._started:.6f}] {text}"
        print(line, file=self._log_file or sys.stderr, flush=True)
