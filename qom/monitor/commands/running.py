"""Commands that run, stop, reset and end the machine, and say who it is and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from qom.errors import LifecycleError
from qom.hw.reset import Reset
from qom.monitor import CommandError, command
from qom.vm.runstate import RunState

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

RunStateName = Literal[
    "debug", "inmigrate", "internal-error", "io-error", "paused", "postmigrate", "prelaunch", "finish-migrate",
    "restore-vm", "running", "save-vm", "shutdown", "suspended", "watchdog", "guest-panicked", "colo",
]  # fmt: skip


class StatusInfo(TypedDict):
    """How the machine is; `singlestep` is always false."""

    running: bool
    singlestep: bool
    status: RunStateName


class NameInfo(TypedDict):
    """The machine's name, if it has one."""

    name: NotRequired[str]


class UuidInfo(TypedDict):
    """The machine's UUID; zeros without one."""

    UUID: str


@command("query-status", preconfig=True)
def query_status(vm: VirtualMachine) -> StatusInfo:
    """Whether the processors run, and the run state; before the machine is built that is "prelaunch", too."""
    state = RunState.PRELAUNCH if vm.run_state is RunState.PRECONFIG else vm.run_state
    return {"running": state is RunState.RUNNING, "singlestep": False, "status": state.value}


@command("stop")
def stop(vm: VirtualMachine) -> None:
    """Have the processors and the clock stand still."""
    vm.stop()


@command("cont")
def cont(vm: VirtualMachine) -> None:
    """Have the processors run."""
    try:
        vm.cont()
    except LifecycleError:
        if vm.run_state in (RunState.SHUTDOWN, RunState.INTERNAL_ERROR, RunState.GUEST_PANICKED):
            raise CommandError("Resetting the Virtual Machine is required") from None
        raise


@command("system_reset")
def system_reset(vm: VirtualMachine) -> None:
    """Reset the whole machine."""
    vm.reset(Reset.COLD, "host-qmp-system-reset")


@command("system_powerdown")
def system_powerdown(vm: VirtualMachine) -> None:
    """Press the power button; what follows is the guest's business."""
    vm.request_powerdown()


@command("quit", preconfig=True)
def quit(vm: VirtualMachine) -> None:
    """End the program."""
    vm.request_shutdown("host-qmp-quit")


@command("query-name", preconfig=True)
def query_name(vm: VirtualMachine) -> NameInfo:
    """The name given by -name."""
    return {} if vm.config.name is None else {"name": vm.config.name}


@command("query-uuid", preconfig=True)
def query_uuid(vm: VirtualMachine) -> UuidInfo:
    """The UUID given by -uuid."""
    return {"UUID": (vm.config.uuid or "00000000-0000-0000-0000-000000000000").lower()}


@command("x-exit-preconfig", preconfig=True, built=False, features=("unstable",))
def x_exit_preconfig(vm: VirtualMachine) -> None:
    """The configuration is complete: build the board."""
    vm.exit_preconfig()
