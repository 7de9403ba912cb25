"""What a machine does when its guest reboots, switches off or panics, and when a watchdog fires.

The choice is `VirtualMachine.actions`, taken from the configuration (`-action`, `[action]`) and changeable while the
machine runs (`set_action`).  `-no-reboot` is `reboot=shutdown`, `-no-shutdown` is `shutdown=pause`.

Events, run states and exit statuses are QEMU's, with one difference: `watchdog=poweroff` tells of the end of the machine by
a SHUTDOWN event, where QEMU ends without a word.

    reboot    reset: the guest starts again.  shutdown: the machine ends, or stands still where `shutdown` says so.
    shutdown  poweroff: the machine ends.  pause: it stands still in run state `shutdown`, until a reset.
    panic     shutdown: it ends, with status 0.  exit-failure: with status 1.  pause: it stands still in run state
              `guest-panicked`, and so it does with shutdown=pause.  none: the guest goes on.
    watchdog  reset, poweroff: at once.  shutdown: the power button is pressed.  pause: it stands still in run state
              `watchdog`.  inject-nmi: every processor gets one.  debug: a line on standard error.  none: only the event.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from qom import records
from qom.errors import ConfigError, LifecycleError, did_you_mean
from qom.vm.runstate import RunState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from qom.vm.vm import VirtualMachine

__all__ = ["GUEST_PANIC", "Actions", "guest_crashloaded", "guest_panicked", "set_action", "watchdog_fired"]

GUEST_PANIC: Final = "guest-panic"
"""Why a machine ends that is switched off by a panic (`VirtualMachine.shutdown_reason`)."""


@records.define
class Actions:
    """What a machine does; the words of each are those of the table `action` (qom/config/tables.py)."""

    reboot: str = "reset"
    shutdown: str = "poweroff"
    panic: str = "shutdown"
    watchdog: str = "reset"

    def said(self) -> dict[str, str]:
        """Those that are not as they are without being said."""
        return {name: value for name, value in records.asdict(self).items() if value != getattr(Actions(), name)}


def set_action(vm: VirtualMachine, chosen: Mapping[str, str]) -> None:
    """Change some of a machine's actions, all or none; one that is under way ends as it began.

    Args:
        vm: the machine.
        chosen: the action by name, and what to do.

    Raises:
        ConfigError: no such action, or no such answer to it; nothing has changed.
    """
    from qom.config.tables import TABLES

    known = TABLES["action"]
    for name, value in chosen.items():
        if name not in known:
            words = ", ".join(known)
            raise ConfigError(f"unknown action '{name}': expected one of {words}{did_you_mean(name, known)}")
        among = known[name].among
        if value not in among:
            words = ", ".join(repr(word) for word in among)
            raise ConfigError(
                f"action '{name}' cannot be {value!r}: expected one of {words}{did_you_mean(str(value), among)}"
            )
    with vm.lock:
        for name, value in chosen.items():
            setattr(vm.actions, name, value)


def guest_panicked(vm: VirtualMachine, info: Mapping[str, Any] | None) -> None:
    """The guest says that its kernel has crashed; `info` is what more it says (QEMU's GuestPanicInformation).

    The machine lock is held.
    """
    vm.log("guest_errors", "the guest panicked")
    told = {} if info is None else {"info": dict(info)}
    actions = vm.actions
    if actions.panic == "none":
        vm.emit("GUEST_PANICKED", action="run", **told)
        return
    pause = actions.panic == "pause" or (actions.panic == "shutdown" and actions.shutdown == "pause")
    vm.emit("GUEST_PANICKED", action="pause" if pause else "poweroff", **told)
    vm.request_stop(RunState.GUEST_PANICKED)
    if not pause:
        vm.request_shutdown(GUEST_PANIC)


def guest_crashloaded(vm: VirtualMachine, info: Mapping[str, Any] | None) -> None:
    """The guest says that its kernel has crashed and that it deals with that itself (kdump); it goes on."""
    vm.log("guest_errors", "the guest loaded its crash kernel")
    vm.emit("GUEST_CRASHLOADED", action="run", **({} if info is None else {"info": dict(info)}))


def watchdog_fired(vm: VirtualMachine) -> None:
    """A watchdog was not served in time.  The machine lock is held."""
    action = vm.actions.watchdog
    vm.emit("WATCHDOG", action=action)
    if action == "reset":
        vm.request_reset("watchdog")
    elif action == "shutdown":
        vm.request_powerdown()
    elif action == "poweroff":
        vm.request_shutdown("watchdog", final=True)
    elif action == "pause":
        vm.request_stop(RunState.WATCHDOG)
    elif action == "inject-nmi":
        try:
            vm.inject_nmi()
        except LifecycleError as error:
            vm.log("warning", f"a watchdog fired, and no NMI can be injected: {error}")
    elif action == "debug":
        print("watchdog: timer fired", file=sys.stderr, flush=True)
