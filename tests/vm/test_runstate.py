"""The run state's table."""

from __future__ import annotations

import pytest

from qom.errors import LifecycleError
from qom.vm.runstate import RunState, check_transition


def test_start_and_stop_are_legal() -> None:
    check_transition(RunState.PRELAUNCH, RunState.RUNNING)
    check_transition(RunState.RUNNING, RunState.PAUSED)
    check_transition(RunState.PAUSED, RunState.RUNNING)


def test_staying_is_always_legal() -> None:
    for state in RunState:
        check_transition(state, state)


def test_a_guest_that_turned_itself_off_does_not_run_on() -> None:
    with pytest.raises(LifecycleError) as caught:
        check_transition(RunState.SHUTDOWN, RunState.RUNNING)
    assert str(caught.value) == "run state cannot go from shutdown to running; possible: paused, prelaunch"


def test_a_suspended_machine_is_woken_reset_or_ended() -> None:
    check_transition(RunState.RUNNING, RunState.SUSPENDED)
    with pytest.raises(LifecycleError) as caught:
        check_transition(RunState.SUSPENDED, RunState.PAUSED)
    assert str(caught.value) == (
        "run state cannot go from suspended to paused; possible: internal-error, prelaunch, running, shutdown"
    )
