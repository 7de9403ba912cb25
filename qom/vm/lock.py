"""The machine lock: reentrant, and fair to whoever waits.

A vCPU thread takes and drops the lock for every exit it serves, hundreds of thousands of times a second.  With a plain
RLock a thread that waits (the main loop with a timer, another vCPU) would be woken each time only to find the lock
taken again.  Here a waiter raises `waiting`, and a vCPU thread that sees it queues behind the waiter (`acquire_fair`)
before it takes the lock again; while nobody waits it pays for nothing but the RLock.

Usable wherever a `threading.RLock` is, also under a `threading.Condition`.
"""

from __future__ import annotations

import threading
from types import TracebackType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MachineLock"]


class MachineLock:
    """One a machine; see qom/vm/vm.py for the locking rule."""

    def __init__(self) -> None:
        inner: Any = threading.RLock()
        self._inner = inner
        self._gate = threading.Lock()
        self.waiting = False
        """Somebody waits: whoever is about to take the lock with `acquire_now` should use `acquire_fair` instead."""
        self.acquire_now = inner.acquire
        """The RLock's own acquire, for the vCPU loop: no fairness, no overhead."""
        self.release = inner.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as `RLock.acquire` does."""
        if self._inner.acquire(False):
            return True
        if not blocking:
            return False
        if timeout >= 0:
            return bool(self._inner.acquire(True, timeout))
        return self.acquire_fair()

    @property
    def held(self) -> bool:
        """Whether this thread has it."""
        return bool(self._inner._is_owned())

    def acquire_fair(self) -> bool:
        """Take the lock after those who wait already."""
        if self.held:
            return bool(self._inner.acquire())
        with self._gate:  # whoever holds the gate is the next to get the lock
            self.waiting = True
            try:
                return bool(self._inner.acquire())
            finally:
                self.waiting = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # -- what threading.Condition asks for

    def _is_owned(self) -> bool:
        return self.held

    def _release_save(self) -> Any:
        return self._inner._release_save()

    def _acquire_restore(self, state: Any) -> None:
        with self._gate:
            self.waiting = True
            try:
                self._inner._acquire_restore(state)
            finally:
                self.waiting = False
