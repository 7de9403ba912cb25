"""Multiplexer: several front ends, such as a serial port and a monitor, share one back end (`mux=on`).

Input goes to the front end that has the focus: the last one that came, until Ctrl-A c gives it to the next.  Output of all
goes to the back end as it comes.  Letters after Ctrl-A are commands; `escape` is another letter than A, by number:

    h or ?  help             c  next front end          b  break              Ctrl-A  Ctrl-A itself
    x       end the machine  t  times before lines on or off                  s       (disks; not modelled)

Not modelled: writing back what snapshots of disks hold (Ctrl-A s says so).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qom import Chardev, link, prop, records, type_init
from qom.vm import Alarm, ChardevError, ChardevEvent

FRONTS_MAX = 4
KEPT_MAX = 32  # bytes of input that wait for a front end with no room
CTRL = 0x60  # between a letter and the character that Ctrl makes of it


@records.define(eq=False)
class _Front:
    """A front end: its callbacks, and input that waits for it."""

    owner: str
    on_read: Callable[[bytes], None]
    can_read: Callable[[], int]
    on_event: Callable[[ChardevEvent], None]
    on_writable: Callable[[], None]
    kept: bytearray = records.field(factory=bytearray)

    def feed(self) -> None:
        """Hand over what it has room for."""
        while self.kept and (room := self.can_read()) > 0:
            data = bytes(self.kept[:room])
            del self.kept[:room]
            self.on_read(data)


@type_init("chardev-mux")
class MuxChardev(Chardev):
    """One back end for several front ends."""

    backend: Chardev | None = link("chardev", "The back end they share", name="chardev")
    escape: int = prop(1, "Number of the letter that is a command after Ctrl (1 is A); 0: none is", type="uint8")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Several front ends on one back end"

    def instance_init(self) -> None:
        """Start with nobody."""
        self.fronts: list[_Front] = []
        self.focus: _Front | None = None
        self._escaped = False
        self._stamps_from: float | None = None  # set while lines begin with times
        self._line_begins = True
        self._opening: Alarm | None = None  # until the main loop runs
        self._pending = b""  # of our own making, or stamped: what the back end had no room for

    # --- the machine's side

    def open_end(self) -> None:
        """Become the front end of the back end.  Raises ChardevError when it has one."""
        if self.backend is None:
            raise ChardevError(f"{self.path}: 'chardev' is required: expected the id of the back end to share")
        # Front ends hear of a peer once all are there, so that a monitor does not greet in place of the serial port.
        assert self.poller is not None
        self._opening = self.poller.call_later(0, self._opened)
        try:
            self.backend.set_frontend(self._read, self._room, self._event, self._writable, owner=self.path)
        except BaseException:
            self.close_end()
            raise

    def _opened(self) -> None:
        self._opening = None
        if self.backend is not None:
            self.set_connected(self.backend.connected)
            self.backend.accept_input()

    def close_end(self) -> None:
        """Let go of the back end."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self.backend is not None and self.path in self.backend.users():
            self.backend.unset_frontend(self.path)

    # --- the front ends' side

    def attach_frontend(
        self,
        on_read: Callable[[bytes], None],
        can_read: Callable[[], int],
        on_event: Callable[[ChardevEvent], None],
        on_writable: Callable[[], None],
        owner: str,
    ) -> None:
        """Add a front end, which has the focus from now on.  Raises ChardevError when there are too many."""
        if len(self.fronts) == FRONTS_MAX:
            raise ChardevError(
                f"{self.path}: has {FRONTS_MAX} front ends: expected no more, so {owner} cannot use it too"
            )
        front = _Front(owner, on_read, can_read, on_event, on_writable)
        self.fronts.append(front)
        self._give_focus(front)

    def users(self) -> list[str]:
        """What uses it, as it named itself."""
        return [front.owner for front in self.fronts]

    def send_break(self) -> None:
        """Have the front end with the focus see a break."""
        self._event(ChardevEvent.BREAK)

    def detach_frontend(self, owner: str) -> None:
        """Take a front end out, by its owner's name; without a name the one that came last."""
        gone = next((f for f in reversed(self.fronts) if owner in ("", f.owner)), None)
        if gone is not None:
            self.fronts.remove(gone)
            if self.focus is gone:
                self.focus = None
                self._give_focus(self.fronts[-1] if self.fronts else None)

    def write(self, data: bytes) -> int:
        """Send to the back end, with times before lines if that is on."""
        if self.backend is None:
            return len(data)
        if self._stamps_from is None and not self._pending:
            return self.backend.write(data)
        if self._pending:
            return 0
        self._send(self._stamped(data))
        return len(data)

    def accept_input(self) -> None:
        """A front end has room again: give it what waits, also when another has the focus now, and listen on."""
        for front in tuple(self.fronts):
            front.feed()
        if self.backend is not None:
            self.backend.accept_input()

    # --- the back end's side

    def _room(self) -> int:
        if self._opening is not None:
            return 0  # nobody has heard yet that there is a peer
        return KEPT_MAX - len(self.focus.kept) if self.focus is not None else 1

    def _read(self, data: bytes) -> None:
        for byte in data:
            if self._escaped:
                self._escaped = False
                if byte == self.escape:
                    self._to_focus(byte)
                else:
                    if self.focus is not None:
                        self.focus.feed()  # what came before the command is for whom had the focus then
                    self._command(chr(byte))
            elif self.escape and byte == self.escape:
                self._escaped = True
            else:
                self._to_focus(byte)
        if self.focus is not None:
            self.focus.feed()

    def _to_focus(self, byte: int) -> None:
        if self.focus is not None:
            self.focus.kept.append(byte)

    def _event(self, event: ChardevEvent) -> None:
        if event is ChardevEvent.BREAK:
            if self.focus is not None:
                self.focus.on_event(event)
        elif self.backend is not None and self._opening is None:
            self.set_connected(self.backend.connected)

    def set_connected(self, connected: bool) -> None:
        """Tell every front end."""
        if connected != self.connected:
            self.connected = connected
            for front in tuple(self.fronts):
                front.on_event(ChardevEvent.OPENED if connected else ChardevEvent.CLOSED)

    def _writable(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, b""
            self._send(pending)
        if not self._pending:
            for front in tuple(self.fronts):
                front.on_writable()

    # --- commands

    def _command(self, letter: str) -> None:
        if letter in "h?":
            self._say(self._help())
        elif letter == "x":
            self._say("\nThe machine ends.\n")
            self.end_machine()
        elif letter == "c":
            if self.focus is not None and len(self.fronts) > 1:
                self._give_focus(self.fronts[(self.fronts.index(self.focus) + 1) % len(self.fronts)])
        elif letter == "b":
            if self.focus is not None:
                self.focus.on_event(ChardevEvent.BREAK)
        elif letter == "t":
            self._stamps_from = time.monotonic() if self._stamps_from is None else None
            self._line_begins = True
        elif letter == "s":
            self._say("\nWhat snapshots of disks hold is not written back here.\n")

    def _help(self) -> str:
        key = f"Ctrl-{chr(CTRL + self.escape).upper() if self.escape <= 26 else self.escape}"
        rows = (
            ("h", "this help"), ("x", "end the machine"), ("s", "disks: write snapshots back (not here)"),
            ("t", "times before lines on or off"), ("b", "send a break"),
            ("c", f"next of {len(self.fronts)} front ends: {', '.join(front.owner for front in self.fronts)}"),
            (key, f"send {key}"),
        )  # fmt: skip
        return "\n" + "".join(f"{key} {letter:7} {what}\n" for letter, what in rows)

    def _give_focus(self, front: _Front | None) -> None:
        before, self.focus = self.focus, front
        if before is front:
            return
        if before is not None:
            before.on_event(ChardevEvent.MUX_OUT)
        if front is not None:
            front.on_event(ChardevEvent.MUX_IN)
            front.feed()

    # --- output

    def _say(self, text: str) -> None:
        data = text.replace("\n", "\r\n").encode()
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self.backend is not None:
            data = self._pending + data
            self._pending = data[self.backend.write(data) :]

    def _stamped(self, data: bytes) -> bytes:
        assert self._stamps_from is not None
        out = bytearray()
        for line in data.splitlines(keepends=True):
            if self._line_begins:
                seconds, ms = divmod(int((time.monotonic() - self._stamps_from) * 1000), 1000)
                out += b"[%02d:%02d:%02d.%03d] " % (seconds // 3600, seconds // 60 % 60, seconds % 60, ms)
            out += line
            self._line_begins = line.endswith(b"\n")
        return bytes(out)
