"""Ring buffer character back end: keeps the last `size` bytes of output for whoever asks; input is fed by a caller.

Used by tests, by monitors that read a console's recent output, and by demonstrations.
"""

from __future__ import annotations

from qom import Chardev, prop, type_init
from qom.vm import ChardevError, Poller


@type_init("chardev-ringbuf")
class RingbufChardev(Chardev):
    """Output is `take`n, input is `feed` in."""

    size: int = prop(
        65536, "Bytes of output kept, a power of two; the oldest are dropped", type="size", min=1, unit="bytes"
    )

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Keeps recent output in memory"

    def instance_init(self) -> None:
        """Start empty."""
        self._kept = bytearray()
        self._input = bytearray()
        self.dropped = 0  # bytes of output lost because nobody took them in time

    def open_end(self) -> None:
        """Check the size; there is always a peer."""
        if self.size & (self.size - 1):
            raise ChardevError(f"{self.path}: property 'size' must be a power of two, got {self.size}")
        super().open_end()

    def open(self, poller: Poller | None = None) -> None:
        """Open; this back end watches nothing, so no poller is needed."""
        super().open(poller if poller is not None else _NO_POLLER)

    def write(self, data: bytes) -> int:
        """Keep `data`, dropping the oldest bytes when full."""
        self._kept += data
        surplus = len(self._kept) - self.size
        if surplus > 0:
            del self._kept[:surplus]
            self.dropped += surplus
        return len(data)

    def peek(self) -> bytes:
        """Return what is kept, oldest first, and keep it."""
        return bytes(self._kept)

    def take(self, count: int | None = None) -> bytes:
        """Return and forget the oldest `count` bytes, all of them by default."""
        data = bytes(self._kept[:count])
        del self._kept[: len(data)]
        return data

    def feed(self, data: bytes) -> None:
        """Be the peer that sends `data`; what the front end has no room for waits here."""
        self._input += data
        self.accept_input()

    def accept_input(self) -> None:
        """Hand over as much of what waits as the front end has room for."""
        while self._input and (room := self.can_read()) > 0:
            chunk = bytes(self._input[:room])
            del self._input[:room]
            self.on_read(chunk)


@type_init("chardev-memory")
class MemoryChardev(RingbufChardev):
    """The same under the name that it had first in QEMU, which still takes it."""

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Old name of the ring buffer"


class _NoPoller:
    def add_fd(self, fd: int, read: object = None, write: object = None) -> _NoPoller:
        raise AssertionError("a ring buffer watches no file descriptor")

    def call_later(self, seconds: float, fn: object) -> _NoPoller:
        raise AssertionError("a ring buffer waits for nothing")

    def remove(self) -> None:
        """Nothing is watched."""

    def cancel(self) -> None:
        """Nothing is pending."""


_NO_POLLER = _NoPoller()
