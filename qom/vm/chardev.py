"""Character devices: what carries the bytes of a serial port, a debug port or a monitor to the outside.

Modelled: one front end to a back end, flow control in both directions, opened/closed/break events, a log of the output
(`logfile`), and `FdChardev`, the shared half of every back end that reads and writes file descriptors.  Several front ends
to one back end are plugins/char/mux.py's. Not modelled: modem control lines of a host serial port.

Flow control. `write` takes what the peer has room for and returns how much that was; it never waits. When it took
less than everything, it calls `on_writable` once as soon as there is room, and the front end offers the rest again.
Toward the guest a back end asks `can_read` first, reads at most that many bytes, and stops listening while the answer
is 0, until the front end calls `accept_input`.

Locking: every method and callback runs with the machine lock held; `Poller.add_fd` may be called from a vCPU thread.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import functools
import os
import select
import stat
from collections.abc import Callable

from qom import Object, QomError, prop, type_init
from qom.blame import passes
from qom.hw.fault import DeviceFault, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeVar

    Callback = TypeVar("Callback", bound=Callable[..., Any])
else:
    Protocol = object

READ_CHUNK = 4096  # bytes taken from a peer at a time
PIPE_CHUNK = select.PIPE_BUF  # what a descriptor that polls writable takes without blocking


class ChardevError(QomError):
    """A character device that cannot be opened, or one that is used twice."""


class ChardevEvent(enum.Enum):
    """What a back end tells its front end besides bytes."""

    OPENED = "opened"
    CLOSED = "closed"
    BREAK = "break"
    MUX_IN = "mux-in"  # of several front ends this one has the focus now
    MUX_OUT = "mux-out"


class FdWatch(Protocol):
    """A watched file descriptor."""

    def remove(self) -> None:
        """Stop watching; no callback comes after this."""


class Alarm(Protocol):
    """A pending `call_later`."""

    def cancel(self) -> None:
        """Forget the call; no effect when it has happened."""


class Poller(Protocol):
    """The part of a main loop that a back end uses."""

    def add_fd(
        self, fd: int, read: Callable[[], None] | None = None, write: Callable[[], None] | None = None
    ) -> FdWatch:
        """Call `read` while `fd` is readable and `write` while it is writable."""

    def call_later(self, seconds: float, fn: Callable[[], None]) -> Alarm:
        """Call `fn` once, `seconds` of host time from now."""


def _refuse(data: bytes) -> None:
    del data


def _no_room() -> int:
    return 0


def _ignore_event(event: ChardevEvent) -> None:
    del event


def _nothing() -> None:
    pass


def _blamed(callback: Callback, owner: str, doing: str) -> Callback:
    """A front end's callback; what it raises is the fault of the front end."""

    @functools.wraps(callback)
    def call(*args: Any) -> Any:
        try:
            return callback(*args)
        except Fault:
            raise
        except BaseException as error:
            if passes(error):
                raise
            front = getattr(callback, "__self__", None)
            raise DeviceFault(owner, error, doing=doing, owner=front) from error

    return call  # type: ignore[return-value]


def _number_of(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ChardevError(f"there is no fd named {text!r}: expected a number")
    return int(text)


def _unheard(text: str) -> None:
    del text


@type_init("chardev", abstract=True)
class Chardev(Object):
    """One back end. Created, its properties set, then `open(poller)`; `close()` gives everything back."""

    logfile: str = prop("", "File that everything written is written to as well")
    logappend: bool = prop(False, "Write after what that file holds, instead of replacing it")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Character device back end", "chardev"

    def instance_init(self) -> None:
        """Start closed and with no front end."""
        self.poller: Poller | None = None
        self.connected = False  # a peer is there; while not, written bytes are lost as on an unplugged cable
        self.announce: Callable[[str], None] = _unheard  # for what a user must know to reach the peer's end
        self.redirected: Callable[[str], None] = _unheard  # for the line that names a terminal that was made
        self.open_file: Callable[[str, int, int], int] = os.open  # how a file is opened that the user named
        self.take_fd: Callable[[str], int] = _number_of  # what `fd=` means
        self.end_machine: Callable[[], None] = _nothing  # for a person who wants no more
        self.frontend = ""
        self._log_fd = -1
        self._drop_frontend()

    def finalize(self) -> None:
        """Give back descriptors and terminal settings."""
        self.close()

    # --- the front end's side

    def set_frontend(
        self,
        on_read: Callable[[bytes], None] | None = None,
        can_read: Callable[[], int] | None = None,
        on_event: Callable[[ChardevEvent], None] | None = None,
        on_writable: Callable[[], None] | None = None,
        *,
        owner: str = "a front end",
    ) -> None:
        """Attach the one front end; bytes may arrive before this returns.

        on_read(data): at most `can_read()` bytes from the peer.  on_writable(): room again after a short `write`.
        Raises ChardevError when another front end is attached.
        """
        event = _blamed(on_event, owner, "chardev event") if on_event else _ignore_event
        self.attach_frontend(
            _blamed(on_read, owner, "chardev input") if on_read else _refuse,
            _blamed(can_read, owner, "chardev room for input") if can_read else _no_room,
            event,
            _blamed(on_writable, owner, "chardev room for output") if on_writable else _nothing,
            owner,
        )
        if self.connected:
            event(ChardevEvent.OPENED)
        self.accept_input()

    def unset_frontend(self, owner: str = "") -> None:
        """Detach the front end; later input waits, later output is lost.

        owner: which one, of a back end that has several.
        """
        self.detach_frontend(owner)
        self.accept_input()

    def filename(self) -> str:
        """What is behind it, as `query-chardev` says it: "null", "pty:/dev/pts/3", "unix:/run/qmp,server=on"."""
        return self.type_name.removeprefix("chardev-")

    def users(self) -> list[str]:
        """What uses it, as it named itself."""
        return [self.frontend] if self.frontend else []

    def send_break(self) -> None:
        """Have the front end see a break."""
        self.on_event(ChardevEvent.BREAK)

    def attach_frontend(
        self,
        on_read: Callable[[bytes], None],
        can_read: Callable[[], int],
        on_event: Callable[[ChardevEvent], None],
        on_writable: Callable[[], None],
        owner: str,
    ) -> None:
        """Take a front end's callbacks; a back end for several overrides this.  Raises ChardevError."""
        if self.frontend:
            raise ChardevError(f"{self.path}: already used by {self.frontend}, so {owner} cannot use it too")
        self.frontend = owner
        self.on_read, self.can_read, self.on_event, self.on_writable = on_read, can_read, on_event, on_writable

    def detach_frontend(self, owner: str) -> None:
        """Forget a front end; a back end for several overrides this."""
        del owner
        self._drop_frontend()

    def _drop_frontend(self) -> None:
        self.frontend = ""
        self.on_read, self.can_read = _refuse, _no_room
        self.on_event, self.on_writable = _ignore_event, _nothing

    def write(self, data: bytes) -> int:
        """Send `data` without waiting; return how many bytes the peer took (all of them when nobody is there)."""
        raise NotImplementedError

    def accept_input(self) -> None:
        """The front end has room again (or none): listen to the peer accordingly."""

    # --- the machine's side

    def open(self, poller: Poller) -> None:
        """Open the outside end and watch it through `poller`; a second call has no effect.

        Raises ChardevError naming this object and what could not be opened.
        """
        if self.poller is None:
            self.poller = poller
            try:
                if self.logfile:
                    self._open_log()
                self.open_end()
            except BaseException:
                self.poller = None
                self._close_log()
                raise

    def close(self) -> None:
        """Give everything back; a second call has no effect."""
        if self.poller is not None:
            self.close_end()
            self.poller = None
            self.set_connected(False)
            self._close_log()

    def _open_log(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if self.logappend else os.O_TRUNC)
        try:
            self._log_fd = self.open_file(self.logfile, flags, 0o666)
        except OSError as error:
            raise self.failure(f"open log '{self.logfile}' for writing", error) from None
        # In this one object `write` is another function, so that a back end without a log does not pay for one.
        self.__dict__["write"] = functools.partial(self._write_and_log, self.write)

    def _close_log(self) -> None:
        if self._log_fd >= 0:
            self.__dict__.pop("write", None)
            os.close(self._log_fd)
            self._log_fd = -1

    def _write_and_log(self, write: Callable[[bytes], int], data: bytes) -> int:
        sent = write(data)
        if sent and self._log_fd >= 0:
            with contextlib.suppress(OSError):  # a full disk does not hold up the guest
                os.write(self._log_fd, data[:sent])
        return sent

    # --- for a subclass: `open_end` and `close_end` are there to be overridden

    def open_end(self) -> None:
        """Open the outside end; by default there is none, and the peer is there at once.  Raises ChardevError."""
        self.set_connected(True)

    def close_end(self) -> None:
        """Give the outside end back; for a subclass to override."""

    def set_connected(self, connected: bool) -> None:
        """A peer came, or went; tells the front end when that is new."""
        if connected != self.connected:
            self.connected = connected
            self.on_event(ChardevEvent.OPENED if connected else ChardevEvent.CLOSED)

    def failure(self, what: str, error: OSError) -> ChardevError:
        """The error to raise: this object cannot do `what`, because of `error`."""
        return ChardevError(f"{self.path}: cannot {what}: {error.strerror or error}")


@type_init("chardev-fd", abstract=True)
class FdChardev(Chardev):
    """A back end over file descriptors; subclasses call `attach_fds` when there is a peer and override `hangup`.

    fd_in, fd_out: the descriptors in use, -1 without one.  stalled: bytes were refused and wait for room.  blocking_out:
    the output descriptor has no O_NONBLOCK and we may not set it; a subclass that knows better says so after `attach_fds`.
    """

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Character device over file descriptors"

    def instance_init(self) -> None:
        """Start with no descriptor."""
        self.fd_in = self.fd_out = -1
        self._owned: set[int] = set()
        self.blocking_out = False
        self._handles: dict[int, FdWatch] = {}
        self._interest: dict[int, tuple[bool, bool]] = {}
        self.stalled = False
        self._feed: Alarm | None = None  # set while reading a descriptor that cannot be polled

    def attach_fds(self, fd_in: int, fd_out: int, *, owned: bool = True) -> None:
        """A peer is there: read from `fd_in`, write to `fd_out` (-1: not at all); `owned`: close them at the end."""
        self.fd_in, self.fd_out = fd_in, fd_out
        self._owned = {fd for fd in (fd_in, fd_out) if owned and fd >= 0}
        self.blocking_out = fd_out >= 0 and not owned and not stat.S_ISREG(os.fstat(fd_out).st_mode)
        for fd in self._owned:
            os.set_blocking(fd, False)
        self.stalled = False
        self.set_connected(True)
        self.accept_input()

    def detach_fds(self) -> None:
        """The peer is gone: stop watching, close what is ours."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()
        self._interest.clear()
        if self._feed is not None:
            self._feed.cancel()
            self._feed = None
        for fd in self._owned:
            os.close(fd)
        self._owned = set()
        self.fd_in = self.fd_out = -1
        stalled, self.stalled = self.stalled, False
        self.set_connected(False)
        if stalled:
            self.on_writable()  # what waited for room is lost now; the front end must not wait for ever

    def close_end(self) -> None:
        """Let go of the peer."""
        self.detach_fds()

    def hangup(self) -> None:
        """The peer is gone; by default for good."""
        self.detach_fds()

    def input_ended(self) -> None:
        """The peer sends no more; for a connection that is its end."""
        self.hangup()

    def output_failed(self, error: OSError) -> None:
        """The peer takes no more; for a connection that is its end."""
        del error
        self.hangup()

    def stop_input(self) -> None:
        """Read no more, but go on writing."""
        fd, self.fd_in = self.fd_in, -1
        self._watch()
        if fd in self._owned and fd != self.fd_out:
            self._owned.discard(fd)
            os.close(fd)

    def stop_output(self) -> None:
        """Lose what is written from now on, but go on reading."""
        fd, self.fd_out = self.fd_out, -1
        self.stalled = False
        self._watch()
        if fd in self._owned and fd != self.fd_in:
            self._owned.discard(fd)
            os.close(fd)

    def write(self, data: bytes) -> int:
        """Send without waiting (see `Chardev.write`)."""
        if self.fd_out < 0:
            return len(data)
        if self.stalled:
            return 0  # keep the order: nothing overtakes what waits for room
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.output_failed(error)
            return len(data)
        if sent < len(data):
            self.stalled = True
            self._watch()
        return sent

    def _send(self, data: bytes) -> int:
        if not self.blocking_out:
            return os.write(self.fd_out, data)
        sent = 0  # a descriptor shared with other processes: O_NONBLOCK would change it for them too, so ask first
        poll = select.poll()
        poll.register(self.fd_out, select.POLLOUT)
        while sent < len(data) and poll.poll(0):
            sent += os.write(self.fd_out, data[sent : sent + PIPE_CHUNK])
        return sent

    def accept_input(self) -> None:
        """Listen exactly while the front end has room."""
        self._watch()

    def _watch(self) -> None:
        wanted: dict[int, tuple[bool, bool]] = {}
        if self.fd_in >= 0 and self.can_read() > 0:
            wanted[self.fd_in] = (True, False)
        if self.fd_out >= 0 and self.stalled:
            wanted[self.fd_out] = (wanted.get(self.fd_out, (False, False))[0], True)
        for fd in [fd for fd, interest in self._interest.items() if wanted.get(fd) != interest]:
            del self._interest[fd]
            self._handles.pop(fd).remove()
        poller = self.poller
        if poller is None:
            return
        for fd, (read, write) in wanted.items():
            if fd in self._interest:
                continue
            try:
                handle = poller.add_fd(fd, self._readable if read else None, self._writable if write else None)
            except PermissionError:  # a regular file or /dev/null: always ready, so no poll can watch it
                if read and self._feed is None:
                    self._feed = poller.call_later(0, self._feed_unpolled)
                continue
            self._handles[fd], self._interest[fd] = handle, (read, write)

    def _feed_unpolled(self) -> None:
        self._feed = None
        if self.fd_in >= 0 and self.can_read() > 0:
            self._readable()
            self._watch()

    def _readable(self) -> None:
        room = self.can_read()
        if room <= 0:
            self._watch()
            return
        try:
            data = self.read_some(min(room, READ_CHUNK))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EINTR:
                self.input_ended()
            return
        if not data:
            self.input_ended()
            return
        self.received(data)
        self._watch()

    def read_some(self, count: int) -> bytes:
        """At most `count` bytes from the peer, b"" at the end; raises BlockingIOError when there is nothing now."""
        return os.read(self.fd_in, count)

    def received(self, data: bytes) -> None:
        """Bytes came: give them to the front end, which has room for them."""
        self.on_read(data)

    def _writable(self) -> None:
        self.stalled = False
        self._watch()
        self.drained()

    def drained(self) -> None:
        """The peer has room again."""
        self.on_writable()
