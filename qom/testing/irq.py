"""Interrupt lines as a test sees them: how often they went up and down, waiting for one, holding one back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from qom.errors import QomError
from qom.hw.clock import SteppedClock
from qom.hw.device import Device
from qom.hw.probe import Fail, LineChange, Observation
from qom.vm.console import PATIENCE

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["Interrupt", "InterruptTimeout"]


class InterruptTimeout(QomError):
    """An interrupt that was waited for did not come."""


class Interrupt:
    """One input line of a device, watched from now on.

    raised, lowered: how often it went up and down since, or since `clear`.  level: where it is.

    Args:
        vm: the machine.
        device, name, n: whose input line it is; "" is the name of the unnamed ones.
        intercept: hold it back: it is counted, and the device does not hear of it.

    Raises:
        QomError: it is no device, or has no such input.
    """

    def __init__(self, vm: VirtualMachine, device: Device, name: str, n: int, *, intercept: bool = False) -> None:
        if not isinstance(device, Device):
            raise QomError(f"{getattr(device, 'path', device)}: is no device, so it has no interrupt lines")
        self._vm = vm
        self._changed = threading.Condition(vm.lock)  # type: ignore[arg-type]  # duck-typed, as everywhere
        self._intercept = intercept
        self.name = f"{device.path} {name or 'input'}[{n}]"
        self.raised = 0
        self.lowered = 0
        with vm.lock:
            self.level = device.line_in(name, n).level
            self._watch: Observation = vm.observe.lines(self._told, device=device, name=name, n=n)

    def _told(self, change: LineChange) -> None:
        if change.direction != "in":
            return
        if change.level and not self.level:
            self.raised += 1
        elif self.level and not change.level:
            self.lowered += 1
        self.level = change.level
        self._changed.notify_all()
        if self._intercept:
            raise Fail("held back by the test")

    def clear(self) -> None:
        """Count from 0 again."""
        with self._vm.lock:
            self.raised = self.lowered = 0

    def wait(self, times: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until the line has been raised `times` times (since it is watched, or since `clear`).

        Args:
            times: how often.
            timeout: seconds of host time.

        Raises:
            InterruptTimeout: it did not come in time, or cannot come: the machine's time stands still, or it has ended.
        """
        deadline = time.monotonic() + timeout
        with self._vm.lock:
            while self.raised < times:
                left = deadline - time.monotonic()
                why = f"within {timeout:g} s" if left <= 0 else self._hopeless()
                if why is not None:
                    counts = f"it was raised {self.raised} and lowered {self.lowered} times, its level is {self.level}"
                    raise InterruptTimeout(f"{self.name}: not raised {_times(times)} {why}; {counts}")
                self._changed.wait(min(left, 0.2))  # the machine may end without another change of the line

    def _hopeless(self) -> str | None:
        if isinstance(self._vm.clock, SteppedClock):
            return "and time stands still: step it (`step_until`)"
        if self._vm.wait(0):
            return f"before the machine ended ({self._vm.shutdown_reason or 'closed'})"
        return None

    def close(self) -> None:
        """Watch no longer; a line that was held back is connected again."""
        self._watch.close()

    def __repr__(self) -> str:
        return f"<Interrupt {self.name}: raised {self.raised}, lowered {self.lowered}, level {self.level}>"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
