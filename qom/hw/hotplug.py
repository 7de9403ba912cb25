"""Hotplug in which the guest takes part: who tells it that a device came, and asks it before one goes.

A bus, or the machine for what is on none, names a handler (`Bus.hotplug_handler`, `Machine.hotplug_handler`).  Where there
is none, a device is simply there, or gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from qom.hw.device import Device

__all__ = ["HotplugHandler", "event_data"]


class HotplugHandler(Protocol):
    """Called with the machine lock held, and only once the machine is built."""

    def plugged(self, device: Device) -> None:
        """`device` was added and is realized: tell the guest."""

    def unplug_request(self, device: Device) -> None:
        """Ask the guest to let go of `device`; once it has, the handler calls `SystemControl.ejected`.

        Raises:
            LifecycleError: this one cannot go, or the guest has been asked already.
        """

    def unplugged(self, device: Device) -> None:
        """`device` is gone, whoever took it out."""


def event_data(device: Device) -> dict[str, str]:
    """What an event says of a device: its path, and its id as `device` when somebody gave it one."""
    home = device.parent
    named = home is not None and home.name == "peripheral" and device.name is not None
    return {"path": device.path, **({"device": str(device.name)} if named else {})}
