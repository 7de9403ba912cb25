"""Virtual clocks and the timers on them.

A clock counts guest nanoseconds.  `RunningClock` follows the host's monotonic clock while the machine runs and stands
still while it is stopped; `SteppedClock` moves only when it is told to, for tests and for whoever wants a deterministic
machine.

Timers fire from `run_due` (called by the main loop) or `SteppedClock.step`, in order of deadline and, among equals, in
the order in which they were armed.  While the machine is suspended (`Clock.sleep`) time goes on, and only the timers fire
of what has power then; the others wait for the end of it.  Everything here runs with the machine lock held; `on_change`
is called with it held, too, when an earlier deadline than all the others appears, so that a sleeping main loop can be woken.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from itertools import count

from qom.blame import passes
from qom.hw.fault import DeviceFault, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

NS_PER_SECOND = 1_000_000_000

TimerCallback = Callable[[], None]


class HasPath(Protocol):
    """Whoever owns a timer or region: only its canonical path is asked for, and only to report a fault."""

    @property
    def path(self) -> str: ...  # noqa: D102 -- protocol


class Timer:
    """A one-shot timer; arm it again in its callback to make it periodic."""

    __slots__ = ("_callback", "_clock", "_serial", "asleep", "deadline", "name", "owner")

    def __init__(
        self, clock: Clock, callback: TimerCallback, name: str, owner: HasPath | None, asleep: bool = False
    ) -> None:
        self._clock = clock
        self.asleep = asleep
        self._callback = callback
        self._serial = 0
        self.name = name
        self.owner = owner
        self.deadline: int | None = None

    @property
    def pending(self) -> bool:
        """Whether the timer is armed."""
        return self.deadline is not None

    def arm(self, delta_ns: int) -> None:
        """Fire `delta_ns` nanoseconds from now; replaces an earlier deadline.  A negative delta means now."""
        self._clock._arm(self, self._clock.now() + (delta_ns if delta_ns > 0 else 0))

    def arm_at(self, ns: int) -> None:
        """Fire when the clock reads `ns`; replaces an earlier deadline.  A time in the past means now."""
        self._clock._arm(self, ns)

    def cancel(self) -> None:
        """Do not fire; harmless when not armed."""
        self.deadline = None

    def __repr__(self) -> str:
        return f"<Timer {self.name} deadline={self.deadline}>"


class Clock:
    """Guest time and its timers; a subclass says what time it is."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._held: list[tuple[int, int, Timer]] | None = None  # while the machine sleeps: what waits for its end
        self._serials = count(1)
        self._running_due = False
        self.on_change: Callable[[], None] | None = None

    def now(self) -> int:
        """Guest nanoseconds since the machine was built."""
        raise NotImplementedError

    def start(self) -> None:
        """The machine runs: let time pass, if it passes by itself here."""

    def stop(self) -> None:
        """The machine stops: freeze time, if it passes by itself here."""

    def sleep(self) -> None:
        """The machine is suspended: time goes on, and until `wake` only timers fire that were made with `asleep`."""
        if self._held is None:
            heap = self._heap
            self._held = [entry for entry in heap if not entry[2].asleep]
            self._heap = [entry for entry in heap if entry[2].asleep]
            heapq.heapify(self._heap)

    def wake(self) -> None:
        """The machine is suspended no longer: every timer fires, those first whose time came meanwhile; harmless twice."""
        if self._held is not None:
            held, self._held = self._held, None
            self._heap = [*self._heap, *held]
            heapq.heapify(self._heap)
            if self.on_change is not None:
                self.on_change()

    def timer(
        self, callback: TimerCallback, name: str = "", owner: HasPath | None = None, *, asleep: bool = False
    ) -> Timer:
        """A new timer, not armed.  asleep: it belongs to what has power while the machine is suspended."""
        return Timer(self, callback, name or getattr(callback, "__name__", "timer"), owner, asleep)

    def next_deadline(self) -> int | None:
        """When the next timer fires, in guest nanoseconds, or None when none is armed."""
        heap = self._heap
        while heap:
            deadline, serial, timer = heap[0]
            if timer.deadline == deadline and timer._serial == serial:
                return deadline
            heapq.heappop(heap)  # cancelled or armed anew since
        return None

    def run_due(self) -> int:
        """Fire every timer that is due and say how many there were.

        A timer fires at most once at any instant: one that arms itself for now again and again would hang the machine,
        so what it armed waits for the next call.
        """
        return self._run_until(self.now())

    def _arm(self, timer: Timer, deadline: int) -> None:
        timer.deadline = deadline
        timer._serial = serial = next(self._serials)
        if self._held is not None and not timer.asleep:
            self._held.append((deadline, serial, timer))
            return
        heap = self._heap
        if len(heap) > 64 and len(heap) > 4 * sum(1 for d, s, t in heap if t._serial == s and t.deadline == d):
            self._heap = heap = [e for e in heap if e[2]._serial == e[1] and e[2].deadline == e[0]]
            heapq.heapify(heap)
        heapq.heappush(heap, (deadline, serial, timer))
        if heap[0][1] == serial and self.on_change is not None and not self._running_due:
            self.on_change()

    def _run_until(self, limit: int) -> int:
        waiting: list[tuple[int, int, Timer]] = []
        try:
            return self._run_some(limit, waiting, None)
        finally:
            self._put_back(waiting)

    def _put_back(self, waiting: list[tuple[int, int, Timer]]) -> None:
        for entry in waiting:
            heapq.heappush(self._heap, entry)

    def _run_some(self, limit: int, waiting: list[tuple[int, int, Timer]], pause: Callable[[], bool] | None) -> int:
        """Fire what is due until `limit`, or `pause`, asked before each instant, says that it is time to go on later (-1).

        What armed itself for the instant at which it fired is put into `waiting`, and fires in no later part of the same run.
        """
        fired_now: set[int] = set()  # timers (by id) that fired at the instant the clock is at
        fired = 0
        self._running_due = True
        try:
            while True:
                deadline = self.next_deadline()
                if deadline is None or deadline > limit:
                    return fired
                if pause is not None and deadline > self.now() and pause():
                    return -1
                entry = heapq.heappop(self._heap)
                timer = entry[2]
                if self._advance(deadline):
                    fired_now.clear()
                if id(timer) in fired_now:
                    waiting.append(entry)
                    continue
                fired_now.add(id(timer))
                timer.deadline = None
                fired += 1
                try:
                    timer._callback()
                except Fault:
                    raise
                except BaseException as error:
                    if passes(error):
                        raise
                    path = timer.owner.path if timer.owner is not None else timer.name
                    raise DeviceFault(path, error, doing=f"timer {timer.name}", owner=timer.owner) from error
        finally:
            self._running_due = False

    def _advance(self, deadline: int) -> bool:
        """Move to `deadline` before its timers fire; whether that was a step forward (a stepped clock's)."""
        return False


class SteppedClock(Clock):
    """A clock that moves only by `step`."""

    def __init__(self, now: int = 0) -> None:
        super().__init__()
        self._now = now

    def now(self) -> int:
        """Guest nanoseconds."""
        return self._now

    def step(self, ns: int) -> int:
        """Move forward by `ns`, stopping at each deadline on the way to fire its timers; says how many fired."""
        if ns < 0:
            raise ValueError(f"a clock cannot be stepped back (by {ns} ns)")
        target = self._now + ns
        fired = self._run_until(target)
        self._now = target
        return fired

    def stepping(self, ns: int, pause: Callable[[], bool]) -> Iterator[None]:
        """As `step`, in parts: `pause` is asked before each deadline, and where it says yes the iterator gives way.

        What fires, when and in which order is what `step` fires. Meanwhile the clock stands at the deadline that was
        reached; what is armed there for the time until `ns` is up takes part.
        """
        target = self._now + max(ns, 0)
        waiting: list[tuple[int, int, Timer]] = []
        try:
            while self._run_some(target, waiting, pause) < 0:
                yield
            self._now = max(self._now, target)
        finally:
            self._put_back(waiting)

    def _advance(self, deadline: int) -> bool:
        if deadline <= self._now:
            return False
        self._now = deadline
        return True


class RunningClock(Clock):
    """Follows the host's monotonic clock between `start` and `stop`, and stands still otherwise."""

    def __init__(self, host: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self._host = host
        self._base = 0  # guest time at _since, or the frozen time while stopped
        self._since = 0
        self.running = False

    def now(self) -> int:
        """Guest nanoseconds."""
        if self.running:
            return self._base + self._host() - self._since
        return self._base

    def start(self) -> None:
        """Let time pass; harmless when it does already."""
        if not self.running:
            self._since = self._host()
            self.running = True
            if self.on_change is not None:
                self.on_change()

    def stop(self) -> None:
        """Freeze time; harmless when it is frozen already."""
        if self.running:
            self._base = self.now()
            self.running = False

    def set_now(self, ns: int) -> None:
        """Put the clock at `ns` (a machine whose state is loaded continues where it was saved)."""
        self._base = ns
        self._since = self._host()
        if self.on_change is not None:
            self.on_change()

    def next_deadline(self) -> int | None:
        """As `Clock.next_deadline`; None while stopped, because nothing fires then."""
        return super().next_deadline() if self.running else None

    def run_due(self) -> int:
        """As `Clock.run_due`; nothing fires while stopped."""
        return super().run_due() if self.running else 0
