"""vCPU threads: one OS thread a processor, made in realize and by nothing else (SEED.md rows 8, 11 and 12).

The chain, with QEMU's names: the model's realize (`x86_cpu_realizefn`) -> `init_vcpu` (`qemu_init_vcpu`) ->
`start_vcpu` (`qemu_kvm_start_vcpu`) -> on the new thread `vcpu_thread_fn` (`qemu_kvm_cpu_thread_fn`) -> `vcpu_init`
(`kvm_init_vcpu`) -> `cpu_exec` of the accelerator (`kvm_cpu_exec`) -> `run` of the vCPU handle
(`kvm_vcpu_ioctl(KVM_RUN)`).

A new thread stands still (`stop`, `stopped`) until `resume_all_vcpus`.  No wake-up is lost: every flag is written
under the machine lock (`stop` may also be written without it, before a kick), a sleeping thread waits on a condition
over that lock, a running one is kicked out of the guest, and the kick holds until the thread has taken it back and
*then* reads the flags.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from qom.blame import shown
from qom.errors import LifecycleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.vm.cpu import Cpu

__all__ = [
    "init_vcpu",
    "join_vcpu",
    "pause_all_vcpus",
    "resume_all_vcpus",
    "start_vcpu",
    "stop_all_vcpus_soon",
    "vcpu_init",
    "vcpu_thread_fn",
]


def init_vcpu(cpu: Cpu) -> None:
    """Give a processor its vCPU and thread, stopped; it ends when the processor is unrealized.

    Raises:
        AccelError: the accelerator cannot make the vCPU.
    """
    if cpu.thread is not None:
        raise LifecycleError(f"{cpu.path}: has a vCPU thread already")
    start_vcpu(cpu)
    cpu.on_unrealize(lambda: join_vcpu(cpu))


def start_vcpu(cpu: Cpu) -> None:
    """Start the thread and wait until its vCPU exists."""
    cpu.stop = cpu.stopped = True
    cpu.quit = False
    cpu.start_error = None
    cpu.started.clear()
    cpu.thread = threading.Thread(target=vcpu_thread_fn, args=(cpu,), name=f"CPU {cpu.index}", daemon=True)
    cpu.thread.start()
    cpu.started.wait()  # the thread needs no lock until then, so the caller may hold the machine lock
    if cpu.start_error is not None:
        cpu.thread.join()
        cpu.thread = None
        raise cpu.start_error


def vcpu_thread_fn(cpu: Cpu) -> None:
    """The thread: run the guest whenever it may run, else stand still and do what is asked."""
    cpu.begin_thread()
    try:
        vcpu_init(cpu)
    except BaseException as error:
        cpu.start_error = error
        return
    finally:
        cpu.started.set()
    lock = cpu.lock
    with lock:
        try:
            while not cpu.quit:
                cpu.do_work()
                if cpu.can_run():
                    cpu.accel.cpu_exec(cpu)
                    continue
                if cpu.stop and not cpu.stopped:
                    cpu.stopped = True
                    cpu.cond.notify_all()
                cpu.sleep()
        except BaseException as error:  # a bug in the loop itself: this machine stops, no other
            cpu.system.vcpu_failed(cpu, f"{cpu.path}: vCPU thread failed: {shown(error)}")
        finally:
            try:
                cpu.accel.destroy_vcpu(cpu)
            finally:
                cpu.vcpu = None
                cpu.stop = cpu.stopped = True
                cpu.do_work()
                cpu.cond.notify_all()


def vcpu_init(cpu: Cpu) -> None:
    """Make the vCPU, on its own thread, and load the power-up state."""
    cpu.vcpu = cpu.accel.create_vcpu(cpu)
    cpu.vcpu.attach_thread()
    cpu.accel.reset_vcpu(cpu)


def join_vcpu(cpu: Cpu) -> None:
    """End the thread and wait for it; the caller holds the machine lock, which is free meanwhile."""
    thread = cpu.thread
    if thread is None:
        return
    if thread is threading.current_thread():
        raise LifecycleError(f"{cpu.path}: a vCPU thread cannot end itself")
    with cpu.lock:
        cpu.quit = True
        cpu.kick()
        while cpu.vcpu is not None:
            cpu.cond.wait()
    thread.join()
    cpu.thread = None


def pause_all_vcpus(cpus: Sequence[Cpu], cond: threading.Condition) -> None:
    """Stop the vCPUs; returns when every one stands still, with all its I/O finished.

    Args:
        cpus: the machine's.
        cond: the condition over the machine lock; the caller holds the lock, which is free while this waits.  Called on
            a vCPU's own thread, that vCPU counts as standing still and stops when it leaves the exit it serves.

    Somebody else may let them run while this waits (the main loop ends a reset): then it stops them again.
    """

    def all_stand_still() -> bool:
        moving = [cpu for cpu in cpus if not cpu.stands_still]
        for cpu in moving:
            cpu.stop = True
            if cpu.thread is threading.current_thread():
                cpu.stopped = True
            cpu.kick()
        return all(cpu.stands_still for cpu in moving)

    with cond:
        if cpus:
            cpus[0].wait_until(all_stand_still)


def resume_all_vcpus(cpus: Sequence[Cpu]) -> None:
    """Let the vCPUs run; the machine lock is held.  One whose thread has ended (by an error) stays as it is."""
    for cpu in cpus:
        if cpu.vcpu is not None:
            cpu.stop = cpu.stopped = False
            cpu.kick()


def stop_all_vcpus_soon(cpus: Sequence[Cpu]) -> None:
    """Ask the vCPUs to stop, from any thread and without the machine lock; does not wait.

    A halted vCPU notices when it is woken or when `pause_all_vcpus` follows.
    """
    for cpu in cpus:
        cpu.stop = True
        vcpu = cpu.vcpu
        if vcpu is not None:
            vcpu.kick()
