"""Consoles in memory: a character back end that a program reads and types on in place of a person.

`ConsoleChardev` is the back end (`chardev-console`): it keeps what the guest wrote and hands over what was typed.
`Console` is what a program has of it, from any thread: the text so far, waiting for a text or a line, typing.

Modelled: text, with carriage returns left out.  Not modelled: terminal escape sequences, which stay in the text.

Locking: the back end's methods run with the machine lock held, as every character device's; what a program calls takes
it only to type.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from qom.errors import LifecycleError, QomError
from qom.properties import prop
from qom.registry import type_init
from qom.vm.chardev import Chardev

__all__ = ["PATIENCE", "Console", "ConsoleChardev", "ConsoleTimeout"]

PATIENCE = 60.0
"""Seconds of host time that waiting for a guest takes at most, unless said otherwise."""

TAIL_LINES = 20


class ConsoleTimeout(QomError):
    """What was waited for did not come; the text ends with the last lines of the console."""


@type_init("chardev-console")
class ConsoleChardev(Chardev):
    """The back end of a `Console`."""

    size: int = prop(1 << 20, "Bytes of output kept; the oldest are dropped", type="size", unit="bytes", min=1)

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Console in memory, for the program that runs the machine"

    def instance_init(self) -> None:
        """Start empty."""
        self.kept = bytearray()  # without carriage returns
        self.dropped = 0  # bytes that are not kept any more
        self.grown = threading.Condition()  # over `kept` and `dropped`; taken last, never held while calling out
        self._typed = bytearray()

    def write(self, data: bytes) -> int:
        """The guest wrote `data`: keep it, and wake whoever waits for it."""
        with self.grown:
            self.kept += data.replace(b"\r", b"")
            surplus = len(self.kept) - self.size
            if surplus > 0:
                del self.kept[:surplus]
                self.dropped += surplus
            self.grown.notify_all()
        return len(data)

    def feed(self, data: bytes) -> None:
        """Somebody typed `data`; what the front end has no room for waits here."""
        self._typed += data
        self.accept_input()

    def accept_input(self) -> None:
        """Hand over as much of what was typed as the front end has room for."""
        while self._typed and (room := self.can_read()) > 0:
            chunk = bytes(self._typed[:room])
            del self._typed[:room]
            self.on_read(chunk)


class Console:
    """A guest's console, for the program that runs the machine; usable from any thread.

    There is one position, up to which the program has read: `read`, `read_until` and `wait_line` begin there and move
    it on; `text` is everything and moves nothing.

    Args:
        backend: where the guest writes.
        lock: the machine lock.
        over: says why nothing more can come (the machine ended, or was never started), None while something can.
    """

    def __init__(
        self, backend: ConsoleChardev, lock: AbstractContextManager[object], over: Callable[[], str | None]
    ) -> None:
        self._backend = backend
        self._lock = lock
        self._over = over
        self._position = 0  # counted from the very first byte
        self.name = backend.name or ""

    @property
    def text(self) -> str:
        """Everything the guest wrote (of a very long output, its end); bytes that are no UTF-8 as `\\xff`."""
        with self._backend.grown:
            return _shown(bytes(self._backend.kept))

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of the text."""
        return "\n".join(self.text.splitlines()[-lines:])

    def write(self, text: str | bytes) -> None:
        """Type on the console; a line ends with what the guest expects, mostly "\\r" or "\\n".

        Raises:
            LifecycleError: the machine has been closed.
        """
        with self._lock:
            if self._backend.poller is None:
                raise LifecycleError(f"console {self.name!r}: the machine has been closed, nobody reads what is typed")
            self._backend.feed(text.encode() if isinstance(text, str) else text)

    def read(self) -> str:
        """What the guest has written since the last reading; "" when there is nothing new.  Does not wait."""
        with self._backend.grown:
            return self._take(self._end)

    def read_until(self, wanted: str | re.Pattern[str], timeout: float = PATIENCE) -> str:
        """Wait until the guest has written `wanted`; returns what came up to its end.

        Args:
            wanted: a text, which may go over several lines; or a compiled pattern, which is looked for in each line,
                the unfinished last one included.
            timeout: seconds of host time.

        Raises:
            ConsoleTimeout: it did not come in time, or the machine ended before; shows the console's last lines.
        """
        search: _Search
        if isinstance(wanted, re.Pattern):
            search = _LineSearch(wanted, whole=False)
        else:  # what the guest writes is kept without carriage returns
            search = _TextSearch(wanted.replace("\r", "").encode())
        with self._backend.grown:
            self._wait(search, timeout)
            return self._take(search.end)

    def wait_line(self, pattern: str | re.Pattern[str], timeout: float = PATIENCE) -> re.Match[str]:
        """Wait for a finished line in which `pattern` is found (as `re.search` does); returns the match.

        The next reading begins after that line.

        Args:
            pattern: a regular expression, as text or compiled.
            timeout: seconds of host time.

        Raises:
            ConsoleTimeout: as `read_until`.
        """
        search = _LineSearch(re.compile(pattern), whole=True)
        with self._backend.grown:
            self._wait(search, timeout)
            self._take(search.end)
        assert search.match is not None
        return search.match

    def wake(self) -> None:
        """Have whoever waits look at the state of the machine again."""
        with self._backend.grown:
            self._backend.grown.notify_all()

    # -- with `grown` held

    @property
    def _end(self) -> int:
        return self._backend.dropped + len(self._backend.kept)

    def _take(self, end: int) -> str:
        backend = self._backend
        start, self._position = max(self._position, backend.dropped), end
        return _shown(bytes(backend.kept[start - backend.dropped : end - backend.dropped]))

    def _wait(self, search: _Search, timeout: float) -> None:
        backend = self._backend
        deadline = time.monotonic() + timeout
        search.end = self._position
        while not search.found(backend.kept, backend.dropped):
            over = self._over()
            left = deadline - time.monotonic()
            if over is not None:
                raise self._failure(f"no {search.what}: {over}")
            if left <= 0:
                raise self._failure(f"no {search.what} within {timeout:g} s")
            backend.grown.wait(left)

    def _failure(self, what: str) -> ConsoleTimeout:
        lines = _shown(bytes(self._backend.kept)).splitlines()
        if not lines:
            return ConsoleTimeout(f"console {self.name!r}: {what}; nothing was written on it")
        tail = "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
        return ConsoleTimeout(f"console {self.name!r}: {what}; its last lines:\n{tail}")

    def __repr__(self) -> str:
        with self._backend.grown:
            count = self._backend.kept.count(b"\n")
        return f"<Console {self.name!r}: {count} lines>"


class _Search:
    """Looks for something in what grows, without looking at the same place again and again."""

    what: str
    end = 0  # before: where to begin; after: where what was found ends

    def found(self, kept: bytearray, dropped: int) -> bool:
        """Whether it is there; positions are counted from the first byte ever, `dropped` of which are gone."""
        raise NotImplementedError


class _TextSearch(_Search):
    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self.what = repr(_shown(wanted))

    def found(self, kept: bytearray, dropped: int) -> bool:
        at = kept.find(self._wanted, max(self.end - dropped, 0))
        if at < 0:  # the beginning of it may be there already
            self.end = max(self.end, dropped + len(kept) - len(self._wanted) + 1)
            return False
        self.end = dropped + at + len(self._wanted)
        return True


class _LineSearch(_Search):
    def __init__(self, pattern: re.Pattern[str], *, whole: bool) -> None:
        self._pattern = pattern
        self._whole = whole  # only lines that are finished count, and are taken to their end
        self.what = f"line with {pattern.pattern!r}"
        self.match: re.Match[str] | None = None

    def found(self, kept: bytearray, dropped: int) -> bool:
        start = max(self.end - dropped, 0)
        while start < len(kept):
            stop = kept.find(b"\n", start)
            finished = stop >= 0
            if not finished:
                if self._whole:
                    break
                stop = len(kept)
            line = bytes(kept[start:stop]).decode(errors="surrogateescape")  # so that it can be counted back in bytes
            self.match = self._pattern.search(line)
            if self.match is not None:
                used = line[: self.match.end()].encode(errors="surrogateescape")
                self.end = dropped + (stop + 1 if self._whole else start + len(used))
                return True
            if not finished:
                break
            start = stop + 1
        self.end = dropped + start
        return False


def _shown(data: bytes) -> str:
    return data.decode(errors="backslashreplace")
