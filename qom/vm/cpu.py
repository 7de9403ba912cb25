"""Cpu: the base of every processor model, as a device.

What a processor is to the rest of a machine: input lines, requests (interrupt, NMI, INIT, SIPI), and whether it is
stopped or halted.  Registers are not here: they live in the accelerator's vCPU handle.  A concrete model (plugins/cpu)
derives from `Cpu` and calls `qom.vm.vcpu.init_vcpu` in its realize; that, and nothing else, makes its thread.

Two pairs of flags, as in QEMU.  `stop` asks the thread to stand still, `stopped` says that it does: `pause_all_vcpus`
and `resume_all_vcpus` (SEED.md row 12).  `halted` is the guest's own doing (HLT, or an application processor before
its SIPI).

All of it belongs to the machine lock, save `stop` and `kick` by `stop_all_vcpus_soon`.
Not modelled: SMM entry (requests are refused where the accelerator lacks it), machine checks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from qom.errors import LifecycleError
from qom.hw.device import Device
from qom.hw.reset import Reset
from qom.properties import prop
from qom.registry import type_init
from qom.vm.lock import MachineLock

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace
    from qom.vm.guest import Registers

__all__ = ["Cpu", "CpuAccelerator", "InterruptController", "this_cpu"]

T = TypeVar("T")

_here = threading.local()  # `cpu`: the processor whose thread this is


class InterruptController(Protocol):
    """What a vCPU loop asks when the processor can take an interrupt; called with the machine lock held."""

    def get_interrupt(self) -> int:
        """Acknowledge: the vector to deliver, or -1 when the request is gone."""

    def has_interrupt(self) -> bool:
        """Whether one is pending now."""


class CpuAccelerator(Protocol):
    """What an accelerator is to a processor (accel.Accel implements it; qom.vm knows no more of it)."""

    def create_vcpu(self, cpu: Cpu) -> Any:
        """The vCPU handle; called on the vCPU's own thread."""

    def destroy_vcpu(self, cpu: Cpu) -> None:
        """Give `cpu.vcpu` back; called on the vCPU's own thread, at its end."""

    def cpu_exec(self, cpu: Cpu) -> None:
        """Run the guest until there is a reason not to; enters and returns with the machine lock held."""

    def reset_vcpu(self, cpu: Cpu) -> None:
        """Load the power-up state; the vCPU stands still, or the caller is its thread."""

    def time_starts(self) -> None:
        """The machine's clock was started: what counts time inside the accelerator goes on from where it was."""

    def time_stops(self) -> None:
        """The machine's clock was stopped; the vCPUs stand still."""


@type_init("cpu", abstract=True)
class Cpu(Device):
    """A processor; see the module.

    Class fact: `options`, the properties that `-cpu MODEL,name=value` may set; empty when only an object can tell.
    """

    user_creatable: ClassVar[bool] = False
    hotpluggable: ClassVar[bool] = True
    options: ClassVar[Collection[str]] = ()

    index: int = prop(0, "Number of the processor in its machine; the first one starts the machine", type="uint32")
    apic_id: int = prop(0, "Local APIC id of the processor", type="uint32")

    # Handed by the board before realize
    accel: CpuAccelerator
    lock: MachineLock
    cond: threading.Condition  # over `lock`, shared: notified when a vCPU has stopped or finished what it was asked
    memory: AddressSpace
    io: AddressSpace
    interrupt_controller: InterruptController | None  # None: interrupts reach the vCPU inside the accelerator

    # The thread's side
    vcpu: Any
    thread: threading.Thread | None

    def instance_init(self) -> None:
        """Declare the lines; halted and stopped until the machine starts."""
        self.interrupt_controller = None
        self.vcpu = None
        self.thread = None
        self.stop = True
        self.stopped = True
        self.quit = False
        self.halted = False
        self.waits_for_sipi = False
        self.interrupts_enabled = False  # the guest's IF when it halted
        self.interrupt_request = False
        self.nmi_request = False
        self.init_request = False
        self.sipi_request: int | None = None
        self.loop_state: Any = None  # the accelerator's, for `cpu_exec`
        self.start_error: BaseException | None = None
        self.started = threading.Event()
        self._work: deque[_Work] = deque()
        self._wake: threading.Condition | None = None
        self._sleeping = False
        self.gpio_in("intr", 1, self._intr_line)
        self.gpio_in("nmi", 1, lambda n, level: self.request_nmi() if level else None)
        self.gpio_in("init", 1, lambda n, level: self.request_init() if level else None)

    @property
    def is_bootstrap(self) -> bool:
        """Whether this processor starts the machine."""
        return self.index == 0

    def unplug(self) -> None:
        """Refused: its machine has to know.  Raises LifecycleError."""
        raise LifecycleError(f"{self.path}: a processor is taken out by its machine: expected VirtualMachine.remove")

    def leave(self) -> None:
        """Before it leaves the tree its registers go to their power-up values: an accelerator may keep the vCPU."""
        if self.realized and self.vcpu is not None:
            self.run_on(self._reset_registers)
        super().leave()

    def place(self) -> str:
        """Named after its index."""
        return str(self.index)

    @property
    def registers(self) -> Registers:
        """The registers by name, to read and to set from any thread."""
        from qom.vm.guest import Registers

        return Registers(self)

    # -- what a model may say

    def cpuid(self, supported: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
        """CPUID for the guest, from what the accelerator supports: (function, index, flags, eax, ebx, ecx, edx)."""
        return supported

    @property
    def same_everywhere(self) -> bool:
        """Whether the guest sees the same processor on every host that can give it."""
        return True

    def unavailable(self, accel: Any) -> list[str]:
        """The features of this processor that `accel` (the machine's, or None) cannot give, by name."""
        del accel
        return []

    def expanded(self, accel: Any) -> dict[str, Any]:
        """The values of its options as they come out under `accel`, by name."""
        del accel
        return {name: self.get(name) for name in sorted(type(self).options) if self.get(name) is not None}

    @property
    def stands_still(self) -> bool:
        """Whether it executes nothing and will not before `resume_all_vcpus`: stopped, or without a vCPU."""
        return (self.stop and self.stopped) or self.vcpu is None

    # -- requests; the machine lock is held

    def _intr_line(self, n: int, level: int) -> None:
        if level:
            self.raise_interrupt()
        else:
            self.lower_interrupt()

    def connect_controller(self, line: str | None, controller: InterruptController) -> None:
        """The output of `controller` was wired to input `line`: INTR asks it for the vectors."""
        if line == "intr":
            self.interrupt_controller = controller

    def raise_interrupt(self) -> None:
        """The interrupt controller has something for this processor."""
        self.interrupt_request = True
        self.kick()

    def lower_interrupt(self) -> None:
        """It has nothing any more."""
        self.interrupt_request = False

    def request_nmi(self) -> None:
        """Non-maskable interrupt."""
        self.nmi_request = True
        self.kick()

    def request_init(self) -> None:
        """INIT: registers to their INIT values; an application processor then waits for its start-up IPI."""
        self.init_request = True
        self.sipi_request = None  # one that came before the INIT has had its effect, or never will
        self.kick()

    def request_sipi(self, vector: int) -> None:
        """Start-up IPI: begin at page `vector`; ignored unless the processor waits for one."""
        if self.waits_for_sipi or self.init_request:
            self.sipi_request = vector
            self.kick()

    def request_smi(self) -> None:
        """System-management interrupt; not modelled, logged once."""
        self.guest_error("smi", "system-management interrupt requested, but there is no system-management mode")

    def kick(self) -> None:
        """Make the processor look at its requests soon, wherever it is."""
        if self._sleeping:
            assert self._wake is not None
            self._wake.notify()
        elif self.vcpu is not None:
            self.vcpu.kick()

    def run_on(self, function: Callable[[], T]) -> T:
        """Call `function` on the processor's thread, with the machine lock held and the guest not running.

        Returns (or raises) what it returns; the caller's hold on the lock is given up while it waits.  Without a
        thread (not begun, or ended by an error) the caller's has to do.
        """
        with self.lock:
            if self.vcpu is None or self.thread is threading.current_thread():
                return function()
            work = _Work(function)
            self._work.append(work)
            self.kick()
            self.cond.notify_all()  # it may itself be in `wait_until`
            self.wait_until(lambda: work.done)
        if work.error is not None:
            raise work.error
        return work.result  # type: ignore[no-any-return]

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Wait on the machine's condition, with the lock held.

        A vCPU's own thread goes on doing what others `run_on` it, so that two vCPUs can wait for one another.
        """
        me: Cpu | None = getattr(_here, "cpu", None)
        while True:
            if me is not None and me.lock is self.lock:
                me.do_work()
            if done():
                return
            self.cond.wait()

    def reenter(self) -> None:
        """Make the processor leave `cpu_exec` soon and enter it anew: what it found on entry has changed."""
        if self.vcpu is not None:
            self._work.append(_Work(_nothing))
            self.kick()

    # -- for the vCPU's thread; the machine lock is held

    def begin_thread(self) -> None:
        """The calling thread is this processor's."""
        _here.cpu = self

    def has_work(self) -> bool:
        """Whether a halted processor has a reason to wake."""
        if self.init_request or self.sipi_request is not None:
            return True
        if self.waits_for_sipi:
            return False
        return self.nmi_request or (self.interrupt_request and self.interrupts_enabled)

    def must_leave(self) -> bool:
        """Whether the thread has to come out of `cpu_exec`: to stop, to end, or to do work."""
        return self.stop or self.quit or bool(self._work)

    def can_run(self) -> bool:
        """Whether the guest may run now."""
        if self.stop or self.stopped or self.quit:
            return False
        if self.halted and self.has_work():
            self.halted = False
        return not self.halted

    def do_work(self) -> None:
        """Do what `run_on` queued."""
        while self._work:
            self._work.popleft().run()
            self.cond.notify_all()

    def sleep(self) -> None:
        """Wait until somebody kicks."""
        if self._wake is None:
            self._wake = threading.Condition(self.lock)  # type: ignore[arg-type]
        self._sleeping = True
        try:
            self._wake.wait()
        finally:
            self._sleeping = False

    # -- reset

    def reset_hold(self, kind: Reset) -> None:
        """Go to the power-up state; application processors wait for their start-up IPI."""
        super().reset_hold(kind)
        self.interrupt_request = self.nmi_request = self.init_request = False
        self.sipi_request = None
        self.interrupts_enabled = False
        if self.stopped:
            self._reset_registers()  # its thread sleeps, and cannot wake while we hold the lock
        else:
            self.run_on(self._reset_registers)

    def _reset_registers(self) -> None:
        self.halted = self.waits_for_sipi = False
        if self.vcpu is not None:
            self.accel.reset_vcpu(self)


def this_cpu() -> Cpu | None:
    """The processor whose thread the caller is, if it is one."""
    return getattr(_here, "cpu", None)


def _nothing() -> None:
    pass


class _Work:
    """A function to be called on a vCPU's thread, and what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        self.done = True
