"""Pseudo terminal back end: the guest's port appears as /dev/pts/N, for a terminal program to open.

While nobody has the other end open, output is lost, as on an unplugged cable, and the back end looks once a second
whether somebody has come.
"""

from __future__ import annotations

import os
import select
import tty

from qom import type_init
from qom.vm import Alarm, FdChardev

PROBE_SECONDS = 1.0


@type_init("chardev-pty")
class PtyChardev(FdChardev):
    """A pseudo terminal of our own; `device` names the end to open, once this is open."""

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Pseudo terminal"

    def instance_init(self) -> None:
        """Start with no terminal."""
        self.device = ""  # path of the end that others open
        self._master = -1
        self._probe: Alarm | None = None

    def filename(self) -> str:
        """The name of the terminal."""
        return f"pty:{self.device}"

    def open_end(self) -> None:
        """Make the terminal and say its name."""
        try:
            self._master, slave = os.openpty()
        except OSError as error:
            raise self.failure("create a pseudo terminal", error) from None
        tty.setraw(slave)
        self.device = os.ttyname(slave)
        os.set_blocking(self._master, False)
        os.close(slave)  # from here on the master polls as hung up until somebody opens the other end
        self.redirected(f"char device redirected to {self.device} (label {self.name})")
        self._look_for_peer()

    def close_end(self) -> None:
        """Give the terminal back."""
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        self.detach_fds()
        if self._master >= 0:
            os.close(self._master)
            self._master, self.device = -1, ""

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._master, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    def _look_for_peer(self) -> None:
        self._probe = None
        if self.poller is None:
            return
        if self._hung_up():
            self._probe = self.poller.call_later(PROBE_SECONDS, self._look_for_peer)
        else:
            self.attach_fds(self._master, self._master, owned=False)
            self.blocking_out = False

    def write(self, data: bytes) -> int:
        """Send without waiting; a terminal just opened is noticed here too."""
        if self.fd_out < 0 and self._master >= 0 and not self._hung_up():
            if self._probe is not None:
                self._probe.cancel()
            self._look_for_peer()
        elif self.fd_out >= 0 and self.stalled and self._hung_up():
            self.hangup()
        return super().write(data)

    def hangup(self) -> None:
        """Wait for the next one to open the other end."""
        self.detach_fds()
        self._look_for_peer()
