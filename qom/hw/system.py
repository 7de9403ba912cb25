"""What a device may ask of the machine it is in, without knowing the machine."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from qom.hw.device import Device


class WakeReason(enum.Enum):
    """What wakes a machine from suspend to RAM."""

    RTC = "rtc"  # the clock's alarm
    POWER_BUTTON = "power-button"
    OTHER = "other"  # a key, a byte on a serial line, somebody outside


class SystemControl(Protocol):
    """Handed to devices by their bus.  Called with the machine lock held; requests are served soon, not at once, unless they
    say so."""

    def request_reset(self, reason: str) -> None:
        """Reset the whole machine; `reason` says who wanted it ("port92", "triple-fault")."""

    def request_shutdown(self, reason: str, code: int = 0, *, final: bool = False) -> None:
        """Switch the machine off; `code` is the exit status of a program that ran only this machine.

        final: also a machine that is to stand still when its guest switches it off (`-action shutdown=pause`).
        """

    def request_powerdown(self) -> None:
        """Press the power button: the guest may shut down in order."""

    def request_suspend(self) -> None:
        """Suspend the machine to RAM: its processors stand still until something wakes it."""

    def request_wakeup(self) -> None:
        """Wake the suspended machine, whatever the guest says; LifecycleError when it is not suspended."""

    def wake(self, reason: WakeReason) -> None:
        """Something happened that wakes a suspended machine, if the guest lets it; nothing while it is not suspended."""

    def ejected(self, device: Device) -> None:
        """The guest has let go of `device`: take it out of the machine, at once; a processor soon, as it may be running."""

    def guest_panicked(self, info: Mapping[str, Any] | None = None) -> None:
        """The guest says that its kernel has crashed; what follows is `-action panic=`.  info: what more it says."""

    def guest_crashloaded(self, info: Mapping[str, Any] | None = None) -> None:
        """The guest says that its kernel has crashed and that its crash kernel runs."""

    def watchdog_fired(self) -> None:
        """A watchdog was not served in time; what follows is `-action watchdog=`."""

    def emit(self, event: str, **data: Any) -> None:
        """Tell everybody who listens of an event, with its data (QMP's names, `_` for `-`)."""

    def vcpu_failed(self, cpu: object, report: str) -> None:
        """A vCPU cannot go on; `report` says why, with its registers.  Stops this machine."""

    def device_failed(self, error: Exception) -> None:
        """A device raised (`error` is usually a `DeviceFault`).  Stops this machine."""

    def log(self, category: str, text: str) -> None:
        """Write `text` to the log if `category` ("guest_errors", "unimp", ...) is enabled."""
