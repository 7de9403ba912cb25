"""The events of a machine that monitors pass on, with the types of their data.

Names, members and limits are QEMU's (docs/interop/qmp-spec and the QAPI schema's event definitions as
query-qmp-schema shows them).  What `VirtualMachine.emit` is given beyond these members stays inside.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from qom.monitor.declare import MonitorEvent

__all__ = ["EVENTS", "ACPIOSTInfo", "ActionOfPanic", "ShutdownCause", "WatchdogAction"]

ShutdownCause = Literal[
    "none", "host-error", "host-qmp-quit", "host-qmp-system-reset", "host-signal", "host-ui", "guest-shutdown",
    "guest-reset", "guest-panic", "subsystem-reset", "snapshot-load",
]  # fmt: skip
"""Why a machine ends or resets."""

ActionOfPanic = Literal["pause", "poweroff", "run"]
WatchdogAction = Literal["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"]


class _Cause(TypedDict):
    guest: bool
    reason: ShutdownCause


class _Device(TypedDict):
    device: NotRequired[str]
    path: str


ACPIOSTInfo = TypedDict(
    "ACPIOSTInfo",
    {
        "device": NotRequired[str],
        "slot": str,
        "slot-type": Literal["DIMM", "CPU"],
        "source": int,
        "status": int,
    },
)
"""What a guest reports of an event of a device (ACPI's _OST)."""


class _Watchdog(TypedDict):
    action: WatchdogAction


class _Panicked(TypedDict):
    action: ActionOfPanic
    info: NotRequired[dict[str, Any]]


_RtcChange = TypedDict("_RtcChange", {"offset": int, "qom-path": str})
_TrayMoved = TypedDict("_TrayMoved", {"device": str, "id": str, "tray-open": bool})


class _Ost(TypedDict):
    info: ACPIOSTInfo


class _Property(TypedDict):
    subscription: int
    path: str
    property: str
    value: Any


class _DumpResult(TypedDict):
    total: int
    completed: int
    status: Literal["none", "active", "completed", "failed"]


class _DumpCompleted(TypedDict):
    result: _DumpResult
    error: NotRequired[str]


_ALL = (
    MonitorEvent("SHUTDOWN", _Cause, "The machine has shut down, or is about to end"),
    MonitorEvent("POWERDOWN", None, "The power button was pressed"),
    MonitorEvent("RESET", _Cause, "The machine was reset"),
    MonitorEvent("STOP", None, "The processors stand still"),
    MonitorEvent("RESUME", None, "The processors run"),
    MonitorEvent("SUSPEND", None, "The guest went to sleep (S3)"),
    MonitorEvent("SUSPEND_DISK", None, "The guest suspended itself to disk (S4), and switches the machine off"),
    MonitorEvent("WAKEUP", None, "The guest was woken"),
    MonitorEvent("WATCHDOG", _Watchdog, "A watchdog's time was up", every=1.0),
    MonitorEvent("GUEST_PANICKED", _Panicked, "The guest says that it has crashed"),
    MonitorEvent("GUEST_CRASHLOADED", _Panicked, "The guest has crashed and runs its crash kernel"),
    MonitorEvent("DEVICE_DELETED", _Device, "A device is gone; its id may be used again"),
    MonitorEvent("DEVICE_UNPLUG_GUEST_ERROR", _Device, "The guest refuses to let go of a device"),
    MonitorEvent("ACPI_DEVICE_OST", _Ost, "The guest reports by ACPI what came of an event of a device"),
    MonitorEvent("DEVICE_TRAY_MOVED", _TrayMoved, "The tray of a drive with a removable medium was opened or closed"),
    MonitorEvent("RTC_CHANGE", _RtcChange, "The guest set its clock: seconds it now differs by", every=1.0),
    MonitorEvent("DUMP_COMPLETED", _DumpCompleted, "A guest memory dump that ran beside the machine has ended"),
    MonitorEvent("X_PROPERTY_CHANGED", _Property, "A property that this client subscribed to has another value"),
)
EVENTS: dict[str, MonitorEvent] = {each.name: each for each in _ALL}
