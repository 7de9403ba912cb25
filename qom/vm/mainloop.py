"""The main loop: file events, timers and calls from other threads, beside the vCPU threads.

SEED.md row 16.  One thread runs it.  Every callback runs with the machine lock held, so a callback may touch devices,
interrupt lines, timers and memory topology freely, and must not block.  The lock is released while the loop waits.

Timers are those of the machine's clock; the loop only asks the clock for its next deadline.  The wait has a
resolution of microseconds: `select` on the poller's own descriptor, because `epoll_wait` counts in milliseconds.
"""

from __future__ import annotations

import math
import os
import select
import selectors
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from qom.blame import passes
from qom.hw.clock import RunningClock
from qom.hw.fault import DeviceFault, Fault
from qom.object import Object

__all__ = ["Later", "MainLoop", "Watch"]


class Later:
    """A call at a host time; `cancel` takes it back."""

    __slots__ = ("at", "fn")

    def __init__(self, at: float, fn: Callable[[], None]) -> None:
        self.at = at
        self.fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        """Do not call.  Cancelling twice, or after the call, is allowed."""
        self.fn = None


class Watch:
    """Interest in one file descriptor; `remove` ends it.

    Args:
        loop: the loop that serves it.
        fd: an open file descriptor.
        read: called when the descriptor is readable, None for no interest.
        write: called when it is writable, None for no interest.
    """

    __slots__ = ("_loop", "always_ready", "fd", "read", "write")

    def __init__(
        self, loop: MainLoop, fd: int, read: Callable[[], None] | None, write: Callable[[], None] | None
    ) -> None:
        self._loop = loop
        self.fd = fd
        self.read = read
        self.write = write
        # A regular file cannot be polled and never blocks: it is ready whenever somebody is interested.
        self.always_ready = stat.S_ISREG(os.fstat(fd).st_mode)

    def update(self, read: Callable[[], None] | None, write: Callable[[], None] | None) -> None:
        """Replace both callbacks; None ends that half of the interest."""
        self.read = read
        self.write = write
        self._loop._sync(self)

    def remove(self) -> None:
        """End the interest.  Removing twice is allowed; the descriptor stays open."""
        self.read = None
        self.write = None
        self._loop._sync(self)


class MainLoop:
    """One machine's event loop.

    Args:
        lock: the machine lock, held around every callback.
        on_error: called (with the lock held) with an exception that escaped a callback.
    """

    def __init__(self, lock: AbstractContextManager[object], on_error: Callable[[BaseException], None]) -> None:
        self._lock = lock
        self._on_error = on_error
        self._selector = selectors.EpollSelector()
        self._watches: dict[int, list[Watch]] = {}
        self._ready_files: list[Watch] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._later: list[Later] = []
        self._clock: RunningClock | None = None
        self._quit = False
        self._closed = False
        self._awake = True  # it looks at the deadlines before it waits
        self._waits_until = math.inf  # host time (ns, monotonic) at which the wait ends by itself
        self._wake_lock = threading.RLock()  # keeps `wake` off a closed descriptor; signal handlers may hold it
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, None)

    # -- interest ---------------------------------------------------------------------------------------------------

    def add_fd(self, fd: int, read: Callable[[], None] | None = None, write: Callable[[], None] | None = None) -> Watch:
        """Watch a file descriptor.

        Args:
            fd: an open descriptor; several watches may share one.
            read: called when it is readable (or at end of file).
            write: called when it is writable.

        Raises:
            OSError: the descriptor is not open.
        """
        watch = Watch(self, fd, read, write)
        self._sync(watch)
        return watch

    def _sync(self, watch: Watch) -> None:
        if self._closed:
            return
        active = watch.read is not None or watch.write is not None
        if watch.always_ready:
            if active and watch not in self._ready_files:
                self._ready_files.append(watch)
            elif not active and watch in self._ready_files:
                self._ready_files.remove(watch)
            self.wake()
            return
        watches = self._watches.setdefault(watch.fd, [])
        known = bool(watches)
        if active and watch not in watches:
            watches.append(watch)
        elif not active and watch in watches:
            watches.remove(watch)
        events = 0
        for each in watches:
            events |= selectors.EVENT_READ if each.read is not None else 0
            events |= selectors.EVENT_WRITE if each.write is not None else 0
        if events and known:
            self._selector.modify(watch.fd, events, watches)
        elif events:
            try:
                self._selector.register(watch.fd, events, watches)
            except PermissionError:  # nor can some devices (/dev/null) be polled
                del self._watches[watch.fd]
                watch.always_ready = True
                self._sync(watch)
        else:
            del self._watches[watch.fd]
            if known:
                with suppress(KeyError, OSError):  # the owner may have closed the descriptor first
                    self._selector.unregister(watch.fd)

    def set_clock(self, clock: RunningClock | None) -> None:
        """Serve this clock's timers from now on (None: no clock's), and no longer those of the clock before."""
        if self._clock is not None:
            self._clock.on_change = None
        self._clock = clock
        if clock is not None:
            clock.on_change = self._deadline_changed

    def _deadline_changed(self) -> None:
        # Called by whoever armed a timer, with the machine lock held.  Only a loop that would sleep too long needs to hear
        # of it: a guest that puts off its timer again and again does not wake anybody.
        if self._awake or self._clock is None:
            return
        deadline = self._clock.next_deadline()
        if deadline is not None and time.monotonic_ns() + deadline - self._clock.now() < self._waits_until:
            self._awake = True
            self.wake()

    # -- calls from elsewhere ---------------------------------------------------------------------------------------

    def call_soon_threadsafe(self, fn: Callable[[], None]) -> None:
        """Have the loop call `fn` soon, with the machine lock held.  Any thread, with or without the lock."""
        self._calls.append(fn)
        self.wake()

    def call_later(self, seconds: float, fn: Callable[[], None]) -> Later:
        """Have the loop call `fn` in `seconds` of host time (reconnection and the like; guest time has timers)."""
        later = Later(time.monotonic() + seconds, fn)
        self._later.append(later)
        self.wake()
        return later

    def wake(self) -> None:
        """End the current wait.  Any thread; safe in a signal handler."""
        with self._wake_lock:
            if not self._closed:
                os.eventfd_write(self._wake_fd, 1)

    def quit(self) -> None:
        """Make `run` return after the current round.  Any thread; safe in a signal handler."""
        self._quit = True
        self.wake()

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve events until `quit`.  The caller must not hold the machine lock."""
        while not self._quit:
            self.run_once()
        self._quit = False

    def run_once(self, timeout: float | None = None) -> None:
        """Wait for something to do, at most `timeout` seconds (None: as long as it takes), and do it."""
        wait = self._wait_seconds(timeout)
        if wait != 0.0:
            with suppress(InterruptedError):
                select.select([self._selector.fileno()], [], [], wait)
        with self._lock:
            self._awake = True
            self._dispatch()

    def _wait_seconds(self, timeout: float | None) -> float | None:
        if self._calls or self._ready_files or self._quit:
            return 0.0
        waits = [] if timeout is None else [timeout]
        with self._lock:
            clock = self._clock
            deadline = clock.next_deadline() if clock is not None else None
            self._awake, self._waits_until = False, math.inf
            if clock is not None and deadline is not None:
                left = max(0, deadline - clock.now())
                self._waits_until = time.monotonic_ns() + left
                waits.append(left / 1e9)
        if self._later:
            now = time.monotonic()
            waits.extend(max(0.0, later.at - now) for later in tuple(self._later) if later.fn is not None)
        return min(waits, default=None)

    def _dispatch(self) -> None:
        for key, events in self._selector.select(0):
            if key.data is None:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake_fd)
                continue
            for watch in tuple(key.data):
                if events & selectors.EVENT_READ and watch.read is not None:
                    self._guarded(watch.read)
                if events & selectors.EVENT_WRITE and watch.write is not None:
                    self._guarded(watch.write)
        for watch in tuple(self._ready_files):
            if watch.read is not None:
                self._guarded(watch.read)
            if watch.write is not None:
                self._guarded(watch.write)
        for _ in range(len(self._calls)):
            self._guarded(self._calls.popleft())
        if self._later:
            now = time.monotonic()
            for later in tuple(self._later):
                fn = later.fn
                if fn is None or later.at <= now:
                    self._later.remove(later)
                    later.fn = None
                    if fn is not None:
                        self._guarded(fn)
        if self._clock is not None:
            self._guarded(self._clock.run_due)

    def _guarded(self, fn: Callable[[], object]) -> None:
        try:
            fn()
        except Fault as error:
            self._on_error(error)
        except BaseException as error:
            if passes(error):
                raise
            owner = getattr(fn, "__self__", None)
            if isinstance(owner, Object):  # a back end, served by the loop itself
                fault = DeviceFault(owner.path, error, doing=getattr(fn, "__name__", "callback"), owner=owner)
                fault.__cause__ = error
                error = fault
            self._on_error(error)

    def close(self) -> None:
        """Give up the loop's own descriptors; watched ones stay open."""
        with self._wake_lock:
            if self._closed:
                return
            self._closed = True
            self._selector.close()
            os.close(self._wake_fd)
