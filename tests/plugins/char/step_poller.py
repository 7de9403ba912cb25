"""Main loops that a test turns by hand."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from typing import Any

from qom.vm.mainloop import MainLoop

PATIENCE_MS = 5000  # how long a turn waits for something that must happen


class Watch:
    def __init__(self, poller: StepPoller, fd: int) -> None:
        self.poller, self.fd = poller, fd

    def remove(self) -> None:
        del self.poller.watches[self.fd]
        self.poller.poll.unregister(self.fd)


class Call:
    def __init__(self, poller: Any, seconds: float, fn: Callable[[], None]) -> None:
        self.poller, self.seconds, self.fn = poller, seconds, fn

    def cancel(self) -> None:
        if self in self.poller.calls:
            self.poller.calls.remove(self)


class StepPoller:
    """Refuses regular files, as epoll does; remembers delayed calls until the test runs them."""

    def __init__(self) -> None:
        self.watches: dict[int, tuple[Callable[[], None] | None, Callable[[], None] | None]] = {}
        self.calls: list[Call] = []
        self.poll = select.poll()

    def add_fd(self, fd: int, read: Callable[[], None] | None = None, write: Callable[[], None] | None = None) -> Watch:
        assert fd not in self.watches, f"fd {fd} is watched twice"
        with select.epoll() as epoll:
            epoll.register(fd, 0)  # raises PermissionError for what cannot be polled
        self.watches[fd] = (read, write)
        self.poll.register(fd, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        return Watch(self, fd)

    def call_later(self, seconds: float, fn: Callable[[], None]) -> Call:
        call = Call(self, seconds, fn)
        self.calls.append(call)
        return call

    def turn(self, patience_ms: int = PATIENCE_MS) -> int:
        """Wait for something and serve it once; returns how many descriptors were ready."""
        ready = self.poll.poll(patience_ms)
        for fd, events in ready:
            read, write = self.watches.get(fd, (None, None))
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and read is not None:
                read()
            if events & (select.POLLOUT | select.POLLERR) and write is not None and fd in self.watches:
                write()
        return len(ready)

    def until(self, done: Callable[[], object]) -> None:
        """Turn until `done()`; fails when nothing happens for long."""
        while not done():
            assert self.turn(), "nothing happened"

    def run_calls(self) -> list[float]:
        """Run what was delayed, whatever the time; returns the delays."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.fn()
        return [call.seconds for call in calls]


class LoopPoller(MainLoop):
    """The machine's own main loop, turned by hand; delayed calls are remembered, as above."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.calls: list[Call] = []
        super().__init__(threading.RLock(), self.errors.append)

    @property
    def watches(self) -> list[object]:
        return [*self._watches, *self._ready_files]

    def call_later(self, seconds: float, fn: Callable[[], None]) -> Call:  # type: ignore[override]
        call = Call(self, seconds, fn)
        self.calls.append(call)
        return call

    def turn(self, patience_ms: int = PATIENCE_MS) -> int:
        self.run_once(patience_ms / 1000)
        assert not self.errors
        return 1

    def until(self, done: Callable[[], object]) -> None:
        for _ in range(1000):
            if done():
                return
            self.turn()
        raise AssertionError("it never happened")

    def run_calls(self) -> list[float]:
        """Run what was delayed, whatever the time, and serve what is ready; returns the delays."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.fn()
        ready = [1.0] if self._ready_files else []
        self.turn(0)
        return [call.seconds for call in calls] or ready
