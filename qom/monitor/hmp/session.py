"""One monitor for people, on a character device: lines in, commands carried out one after the other, text out.

All of it runs on the machine's main loop with the machine lock held.  Between two commands of one burst of input the loop
serves others.  A client that does not read what it asked for is not read from either; one that goes away in the middle of
a line, or sends what is no text, leaves nothing behind for the next.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qom.monitor.hmp.completion import completions
from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.line import LineEditor
from qom.monitor.hmp.table import hmp_table
from qom.monitor.version import QEMU_VERSION
from qom.vm.chardev import ChardevEvent

if TYPE_CHECKING:
    from qom.vm.chardev import Chardev
    from qom.vm.vm import VirtualMachine

__all__ = ["PROMPT", "HmpSession"]

PROMPT = "(qemu) "
"""What scripts that drive such a monitor wait for."""
BANNER = f"QEMU {'.'.join(str(n) for n in QEMU_VERSION)} monitor - type 'help' for more information\r\n"
QUIT = "host-qmp-quit"
OUTPUT_WAITING = 1 << 16
"""Bytes of unread output from which on the client is read from no further."""
READ_AT_ONCE = 4096


class HmpSession:
    """The monitor's side of a connection; clients may come and go on its character device.

    Args:
        vm: the machine.
        chardev: where the client is; open.
        owner: whose front end it is, for messages.
    """

    def __init__(self, vm: VirtualMachine, chardev: Chardev, owner: str) -> None:
        self.vm, self.chardev = vm, chardev
        self.hmp = Hmp(vm, hmp_table(vm))
        self.editor = LineEditor(PROMPT, self._type, self._complete, self._columns)
        self.hmp.history = self.editor.history
        self._in = b""  # came in one piece with a line that is being carried out
        self._out = bytearray()
        self._busy = False  # a line is being carried out, or waits for it
        self._client = 0  # counts them
        self._closed = False
        self._owner = owner
        self._open = False  # somebody is there
        self._greeted = False
        self._shares = self._away = False  # the keyboard, with other front ends; one of them has it now
        self._hidden = True  # the prompt is not on the screen
        chardev.set_frontend(self._read, self._room, self._event, self._flush, owner=owner)

    def close(self) -> None:
        """Serve no longer; what was shown is offered a last time."""
        if not self._closed:
            self._flush()
            self._closed = True
            self.chardev.unset_frontend(self._owner)

    def _event(self, event: ChardevEvent) -> None:
        if event is ChardevEvent.OPENED or event is ChardevEvent.CLOSED:
            self._client += 1
            self._in = b""
            self._out.clear()
            self.editor.forget()
            self._greeted, self._hidden, self._open = False, True, event is ChardevEvent.OPENED
            if not self._shares:
                self._show()
        elif event is ChardevEvent.MUX_IN:
            self._shares, self._away = True, False
        elif event is ChardevEvent.MUX_OUT:
            self._away = True
            if self._open and not self._hidden:
                self._hidden = True
                self._type("\r\n")
        if self._shares:  # who has the keyboard in the end is known once all front ends are there
            self.vm.main_loop.call_soon_threadsafe(self._show)

    def _show(self) -> None:
        """Show the prompt, with what was typed before another front end got the keyboard; before that, the greeting."""
        if self._closed or self._away or not self._open or not self._hidden or self._busy:
            return
        self._hidden = False
        if self._greeted:
            self.editor.show()
        else:
            self._greeted = True
            self._type(BANNER)
            self.editor.begin()

    # -- input

    def _room(self) -> int:
        waits = self._busy or self._in or len(self._out) > OUTPUT_WAITING
        return 0 if waits else READ_AT_ONCE

    def _read(self, data: bytes) -> None:
        self._show()  # the keyboard may have come just now, in one piece with what is typed
        self._in += data
        self._edit()

    def _edit(self) -> None:
        """Give keys to the editor until a line is finished; that line is carried out next."""
        if self._busy or self._closed or not self._in or len(self._out) > OUTPUT_WAITING:
            return
        line, self._in = self.editor.feed(self._in)
        if line is None:
            return
        self._busy = True
        client = self._client
        self.vm.main_loop.call_soon_threadsafe(lambda: self._carry_out(line, client))

    def _carry_out(self, line: str, client: int) -> None:
        try:
            if client != self._client or self._closed:
                return
            self.hmp.history = self.editor.history
            text = self.hmp.table.run(line, self.hmp)
            if client != self._client or self._closed:
                return  # the command gave others the lock, and the client went
            self._type(text.replace("\n", "\r\n"))
            if self.vm.shutdown_reason == QUIT:
                self._in = b""  # nothing is carried out after it
                return
            if self._away:
                self.editor.forget()
                self._hidden = True
            else:
                self.editor.begin()
        finally:
            self._busy = False
        self._show()
        self._edit()
        self.chardev.accept_input()

    # -- output

    def _type(self, text: str) -> None:
        if text:
            self._out += text.encode("utf-8", "replace")
            self._flush()

    def _flush(self) -> None:
        if self._out and not self._closed:
            was_full = len(self._out) > OUTPUT_WAITING
            sent = self.chardev.write(bytes(self._out))
            del self._out[:sent]
            if was_full and len(self._out) <= OUTPUT_WAITING:
                self.vm.main_loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        self._edit()
        if not self._closed:
            self.chardev.accept_input()

    def _columns(self) -> int | None:
        """The width of the terminal at the other end, where there is one."""
        end = getattr(self.chardev, "backend", None) or self.chardev  # behind a multiplexer
        fd = getattr(end, "fd_out", -1)
        if fd < 0:
            return None
        try:
            return os.get_terminal_size(fd).columns or None
        except OSError:
            return None

    def _complete(self, before: str) -> tuple[int, list[str]]:
        return completions(self.hmp, before)
