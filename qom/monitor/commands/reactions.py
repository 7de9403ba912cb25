"""What a machine does when something happens to it, and things that happen to it by command: NMI, wake-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qom.monitor import command
from qom.monitor.events import WatchdogAction

if TYPE_CHECKING:
    from qom.vm import VirtualMachine


@command("set-action", preconfig=True)
def set_action(
    vm: VirtualMachine,
    reboot: Literal["reset", "shutdown"] | None = None,
    shutdown: Literal["poweroff", "pause"] | None = None,
    panic: Literal["pause", "shutdown", "exit-failure", "none"] | None = None,
    watchdog: WatchdogAction | None = None,
) -> None:
    """Change what follows a reboot, a shutdown, a panic or a watchdog; what is not named stays."""
    said = {"reboot": reboot, "shutdown": shutdown, "panic": panic, "watchdog": watchdog}
    vm.set_action(**{name: value for name, value in said.items() if value is not None})


@command("watchdog-set-action", preconfig=True)
def watchdog_set_action(vm: VirtualMachine, action: WatchdogAction) -> None:
    """Change what follows when a watchdog fires."""
    vm.set_action(watchdog=action)


@command("inject-nmi")
def inject_nmi(vm: VirtualMachine) -> None:
    """Raise an NMI on every processor."""
    vm.inject_nmi()


@command("system_wakeup")
def system_wakeup(vm: VirtualMachine) -> None:
    """Wake the guest from suspend."""
    vm.request_wakeup()
