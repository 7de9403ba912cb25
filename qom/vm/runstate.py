"""The run state of a machine and the legal ways between its values.

Names are QEMU's (`query-status`).  Not modelled yet: migration and save states.
"""

from __future__ import annotations

import enum

from qom.errors import LifecycleError

__all__ = ["RunState", "check_transition"]


class RunState(enum.Enum):
    """What the machine as a whole is doing."""

    PRECONFIG = "preconfig"  # the board is not built yet, and its configuration may change
    PRELAUNCH = "prelaunch"  # built, never started
    RUNNING = "running"
    SUSPENDED = "suspended"  # the guest suspended itself to RAM, and something may wake it
    PAUSED = "paused"
    SHUTDOWN = "shutdown"  # the guest turned itself off
    INTERNAL_ERROR = "internal-error"  # a device or an accelerator failed; the guest cannot go on
    GUEST_PANICKED = "guest-panicked"  # it said so, and `-action panic=pause` holds it there
    WATCHDOG = "watchdog"  # one fired, and `-action watchdog=pause` holds the guest there


_LEGAL: dict[RunState, frozenset[RunState]] = {
    RunState.PRECONFIG: frozenset({RunState.PRELAUNCH, RunState.SHUTDOWN, RunState.INTERNAL_ERROR}),
    RunState.PRELAUNCH: frozenset({RunState.RUNNING, RunState.SHUTDOWN, RunState.INTERNAL_ERROR, RunState.PAUSED}),
    RunState.RUNNING: frozenset(
        {
            RunState.SUSPENDED,
            RunState.PAUSED,
            RunState.SHUTDOWN,
            RunState.INTERNAL_ERROR,
            RunState.GUEST_PANICKED,
            RunState.WATCHDOG,
            RunState.PRELAUNCH,
        }
    ),
    RunState.SUSPENDED: frozenset({RunState.RUNNING, RunState.SHUTDOWN, RunState.INTERNAL_ERROR, RunState.PRELAUNCH}),
    RunState.PAUSED: frozenset({RunState.RUNNING, RunState.SHUTDOWN, RunState.INTERNAL_ERROR, RunState.PRELAUNCH}),
    RunState.SHUTDOWN: frozenset({RunState.PAUSED, RunState.PRELAUNCH}),  # only a reset leads on
    RunState.INTERNAL_ERROR: frozenset({RunState.PAUSED, RunState.PRELAUNCH, RunState.SHUTDOWN}),
    RunState.GUEST_PANICKED: frozenset(
        {RunState.RUNNING, RunState.PAUSED, RunState.PRELAUNCH, RunState.SHUTDOWN, RunState.INTERNAL_ERROR}
    ),
    RunState.WATCHDOG: frozenset(
        {RunState.RUNNING, RunState.PAUSED, RunState.PRELAUNCH, RunState.SHUTDOWN, RunState.INTERNAL_ERROR}
    ),
}


def check_transition(old: RunState, new: RunState) -> None:
    """Refuse an illegal change of run state.

    Raises:
        LifecycleError: `new` cannot follow `old`; the text names both and what could follow.
    """
    if new is not old and new not in _LEGAL[old]:
        legal = ", ".join(sorted(state.value for state in _LEGAL[old]))
        raise LifecycleError(f"run state cannot go from {old.value} to {new.value}; possible: {legal}")
