"""A machine that its guest suspends to RAM: run states, events and their order, and what comes in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qom.errors import LifecycleError
from qom.hw.system import WakeReason
from qom.vm.launch import open_machine
from qom.vm.runstate import RunState
from qom.vm.vcpu import pause_all_vcpus
from qom.vm.vm import VirtualMachine

PM_ENABLE_RTC = 0x0400


class Sleeper:
    """A machine that runs without executing its guest, and the events it told with the run state at each."""

    def __init__(self, **more: Any) -> None:
        self.vm: VirtualMachine = open_machine(accel="qtest", nodefaults=True, smp=2, **more)
        self.told: list[tuple[str, RunState]] = []
        self.vm.events.append(lambda name, data: self.told.append((name, self.vm.run_state)))
        self.vm.start()
        self.told.clear()

    def serve(self) -> None:
        """Wait until the main loop has served what was asked of it, or has ended."""
        served = threading.Event()
        self.vm.main_loop.call_soon_threadsafe(lambda: self.vm.main_loop.call_soon_threadsafe(served.set))
        while not served.wait(0.01):
            if self.vm.wait(0):
                return

    def suspend(self) -> None:
        """As a guest does."""
        with self.vm.lock:
            self.vm.request_suspend()
        self.serve()

    def at_once(self, *steps: Callable[[], object]) -> None:
        """Carry these out with nothing of the main loop's in between."""
        self.vm.main_loop.call_soon_threadsafe(lambda: [step() for step in steps])
        self.serve()

    @property
    def standing(self) -> list[bool]:
        return [cpu.stopped for cpu in self.vm.cpus]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.told]


@pytest.fixture
def make() -> Iterator[Callable[..., Sleeper]]:
    made: list[Sleeper] = []

    def one(**more: Any) -> Sleeper:
        made.append(Sleeper(**more))
        return made[-1]

    yield one
    for sleeper in made:
        sleeper.vm.close()


@pytest.fixture
def sleeper(make: Callable[..., Sleeper]) -> Sleeper:
    return make()


def test_asleep_and_awake(sleeper: Sleeper) -> None:
    vm = sleeper.vm
    assert sleeper.standing == [False, False]
    sleeper.suspend()
    assert sleeper.told == [("SUSPEND", RunState.SUSPENDED)]
    assert sleeper.standing == [True, True]
    vm.request_wakeup()
    assert sleeper.told[1:] == [("WAKEUP", RunState.RUNNING)]
    assert sleeper.standing == [False, False]
    with pytest.raises(LifecycleError) as caught:
        vm.request_wakeup()
    assert str(caught.value) == "Unable to wake up: guest is not in suspended state"


def test_asleep_again_and_again(sleeper: Sleeper) -> None:
    for _ in range(5):
        sleeper.suspend()
        sleeper.suspend()
        sleeper.vm.request_wakeup()
    assert sleeper.names == ["SUSPEND", "WAKEUP"] * 5


def test_what_the_guest_enables_wakes_once(sleeper: Sleeper) -> None:
    vm = sleeper.vm
    pm: Any = vm.machine.child("pm")
    sleeper.suspend()
    with vm.lock:
        vm.wake(WakeReason.RTC)
    sleeper.serve()
    assert vm.run_state is RunState.SUSPENDED
    with vm.lock:
        pm.enable = PM_ENABLE_RTC
        vm.wake(WakeReason.RTC)
        vm.wake(WakeReason.OTHER)
        assert vm.run_state is RunState.SUSPENDED  # served by the main loop
    sleeper.serve()
    assert sleeper.told == [("SUSPEND", RunState.SUSPENDED), ("WAKEUP", RunState.RUNNING)]
    assert pm.status == 0x8400
    with vm.lock:
        vm.wake(WakeReason.OTHER)  # nothing while it is awake
    sleeper.serve()
    assert sleeper.names == ["SUSPEND", "WAKEUP"]


def test_a_machine_stopped_at_that_moment_sleeps_when_it_goes_on(sleeper: Sleeper) -> None:
    vm = sleeper.vm
    sleeper.at_once(vm.request_suspend, vm.stop)
    assert sleeper.told == [("STOP", RunState.PAUSED)]
    vm.cont()
    assert sleeper.told[1:] == [("RESUME", RunState.RUNNING), ("SUSPEND", RunState.SUSPENDED)]
    assert sleeper.standing == [True, True]
    vm.request_wakeup()
    assert sleeper.told[-1] == ("WAKEUP", RunState.RUNNING)


def test_a_reset_at_that_moment_goes_before(sleeper: Sleeper) -> None:
    sleeper.at_once(sleeper.vm.request_suspend, sleeper.vm.reset)
    assert sleeper.told == [("RESET", RunState.RUNNING)]
    assert sleeper.standing == [False, False]


def test_a_reset_while_the_processors_are_waited_for_goes_before(
    sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is free while the main loop waits for the processors: another thread resets the machine meanwhile."""

    def pause(cpus: Any, cond: threading.Condition) -> None:
        sleeper.vm.reset()
        pause_all_vcpus(cpus, cond)

    monkeypatch.setattr("qom.vm.suspend.pause_all_vcpus", pause)
    sleeper.suspend()
    assert sleeper.told == [("RESET", RunState.RUNNING)]
    assert sleeper.standing == [False, False]


def test_a_reset_in_its_sleep(sleeper: Sleeper) -> None:
    vm = sleeper.vm
    rtc: Any = vm.machine.child("rtc")
    sleeper.suspend()
    assert rtc.get_cmos(0x0F) == 0xFE
    vm.reset()
    sleeper.serve()
    assert sleeper.names == ["SUSPEND", "RESET"]
    assert vm.run_state is RunState.PRELAUNCH and sleeper.standing == [True, True]
    assert rtc.get_cmos(0x0F) == 0  # firmware is to start, not to resume
    now = vm.clock.now()
    assert vm.clock.now() == now
    vm.cont()
    assert vm.run_state is RunState.RUNNING
    sleeper.suspend()
    assert sleeper.names == ["SUSPEND", "RESET", "RESUME", "SUSPEND"]


@pytest.mark.parametrize(("shutdown", "final"), [("poweroff", False), ("pause", True)])
def test_its_end_in_its_sleep(make: Callable[..., Sleeper], shutdown: str, final: bool) -> None:
    sleeper = make(settings={"action": {"shutdown": shutdown}})
    sleeper.suspend()
    sleeper.vm.request_shutdown("host-qmp-quit", final=final)
    assert sleeper.vm.wait(60)
    assert sleeper.names == ["SUSPEND", "SHUTDOWN"]
    assert (sleeper.vm.run_state, sleeper.vm.exit_status) == (RunState.SHUTDOWN, 0)


def test_a_machine_closed_in_its_sleep_is_gone(sleeper: Sleeper) -> None:
    sleeper.suspend()
    sleeper.vm.close()
    assert sleeper.vm.closed


def test_a_machine_that_nothing_could_wake_does_not_sleep() -> None:
    with open_machine(machine="none", accel="qtest") as vm:
        vm.start()
        with vm.lock:
            vm.request_suspend()
        assert (
            vm.log_lines[-1] == "guest_errors: /machine: the guest suspends itself, and nothing could wake this machine"
        )
        assert vm.run_state is RunState.RUNNING
