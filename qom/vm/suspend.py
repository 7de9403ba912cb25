"""Suspend to RAM (ACPI S3) of a whole machine: how it falls asleep, and how it wakes.

The guest asks a power management device for it (`SystemControl.request_suspend`).  Then the processors stand still, the
run state is `suspended`, and of all timers only those fire whose device has power then (`Clock.sleep`): the real-time
clock's.  The clock itself goes on.  A device that has something for which a PC wakes says so (`SystemControl.wake`); the
board knows whether the guest lets it.  Somebody outside wakes it always (`VirtualMachine.request_wakeup`).

Waking is a reset of everything but memory (`Reset.WAKE`); the rest is done by firmware, which finds out from what
`Machine.fall_asleep` noted that it is to jump to the guest's waking vector.

`stop` and `cont` change nothing while the machine sleeps.  A guest that goes to sleep at the moment in which the machine is
stopped does so when it is let run.  A reset from outside ends the sleep, and leaves the machine before its start, as QEMU 7.2
does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.hw.reset import Reset, reset_tree
from qom.hw.system import WakeReason
from qom.vm.runstate import RunState
from qom.vm.vcpu import pause_all_vcpus, resume_all_vcpus, stop_all_vcpus_soon

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["Suspension"]


class Suspension:
    """A machine's sleep: asked for, under way, and its end.  The machine lock is held in every call."""

    def __init__(self, vm: VirtualMachine) -> None:
        self._vm = vm
        self.asked = False
        """The guest has asked for it, and was not yet served."""
        self._reason: WakeReason | None = None  # what wakes it, until that is served

    def request(self) -> None:
        """The guest suspends itself: have the machine fall asleep soon."""
        vm = self._vm
        if not vm.machine.can_suspend:
            vm.log("guest_errors", f"{vm.machine.path}: the guest suspends itself, and nothing could wake this machine")
        elif vm.run_state is not RunState.SUSPENDED:
            self.asked = True
            stop_all_vcpus_soon(vm.cpus)
            vm.main_loop.call_soon_threadsafe(self._serve_request)

    def _serve_request(self) -> None:
        vm = self._vm
        if self.asked and vm.run_state is RunState.RUNNING:
            pause_all_vcpus(vm.cpus, vm.cpu_cond)  # gives the lock to others meanwhile
            if vm.run_state is not RunState.RUNNING:
                return
            if self.asked:
                self.fall_asleep()
            else:  # somebody has reset it meanwhile, and let the processors run, which this has stopped again
                resume_all_vcpus(vm.cpus)

    def fall_asleep(self) -> None:
        """What was asked for; the processors stand still."""
        vm = self._vm
        self.asked, self._reason = False, None
        vm.clock.sleep()
        vm.machine.fall_asleep()
        vm.set_run_state(RunState.SUSPENDED)
        vm.emit("SUSPEND")

    def wake(self, reason: WakeReason) -> None:
        """Something happened for which a sleeping machine wakes: have it do so soon, if the guest lets it."""
        vm = self._vm
        if vm.run_state is RunState.SUSPENDED and self._reason is None and vm.machine.wakes_by(reason):
            self._reason = reason
            vm.main_loop.call_soon_threadsafe(self._serve_wake)

    def _serve_wake(self) -> None:
        reason = self._reason
        if reason is not None and self._vm.run_state is RunState.SUSPENDED:
            self._wake_up(reason)

    def wake_now(self) -> None:
        """Somebody outside wakes it, while it sleeps."""
        self._wake_up(WakeReason.OTHER)

    def _wake_up(self, reason: WakeReason) -> None:
        vm = self._vm
        vm.set_run_state(RunState.RUNNING)
        self.end()
        for device in vm.machine.leaving():
            vm.remove(device)
        reset_tree(vm.machine, Reset.WAKE)
        vm.machine.wake_up(reason)
        vm.emit("WAKEUP")
        resume_all_vcpus(vm.cpus)

    def end(self) -> None:
        """Whatever was asked for is forgotten, and timers fire again; harmless when it does not sleep."""
        self.asked, self._reason = False, None
        self._vm.clock.wake()
