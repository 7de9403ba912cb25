"""The vCPU loop, one for every accelerator: run the guest, serve the exit, run it again.

`cpu_exec` enters and leaves with the machine lock held and drops it while the guest runs.  An exit comes as one word
(see kvmabi.h).  A port access that was seen before costs a dictionary look-up and the device's own callback:
`LoopState.ready` maps the word (direction, size, port) to the address space's ready-made callable, and a
memory listener empties it when the port map changes.  Everything else goes through `EXIT_HANDLERS`, by KVM's exit
reason: served, or reported with registers and instruction bytes; this is the user-space half of exit handling (SEED.md
rows 14 and 15).

Requests (interrupts, NMI, INIT, stop, work) never cost the fast path anything: whoever makes one kicks the vCPU, its
next `run` returns ABI_EXIT_INTERRUPTED with all I/O finished, and only then does `prepare` look at what is asked.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from accel import x86_state
from accel._kvmabi import ffi, lib
from accel.exit_word import MMIO, PORT_SHIFT, REASON, SIZE_SHIFT, STRING, WRITE
from accel.handles import EXIT_NAMES, VcpuHandle
from accel.report import Repeats, describe_exit, describe_triple_fault, exception_text, nowhere, report
from qom import Cpu, MemoryListener, QomError
from qom.hw import Exit, ExitProbe, place_of, shown

LEAVE: Final = -1
"""What an exit handler returns instead of a read's value (0 or more) when `cpu_exec` has to end."""


class LoopState(MemoryListener):
    """What the loop keeps for one vCPU."""

    def __init__(self, cpu: Cpu, vcpu: VcpuHandle) -> None:
        super().__init__()
        self.cpu = cpu
        self.vcpu = vcpu
        self.page = vcpu.run_page
        self.inside = False
        """Whether the local APIC is inside the accelerator: HLT, INIT, SIPI and NMI are then its business."""
        self.delivers = True
        """Whether interrupts come from outside, through KVM_INTERRUPT: all of them, or with split controllers the PIC's."""
        self.apic_base = 0
        """The APIC base as the APIC outside knows it."""
        self.cr8 = 0
        """CR8 as it was last the same here and there."""
        self.warned: set[str] = set()
        """What was said of the guest already."""
        self.triple_faults = Repeats()
        self.ready: dict[int, Any] = {}
        """What serves an exit, by its word: for a read called without arguments, for a write with the value."""
        self._mmio = {MMIO | size << SIZE_SHIFT: _mmio_reader(self, size) for size in range(1, 9)}
        self._mmio |= {MMIO | WRITE | size << SIZE_SHIFT: _mmio_writer(self, size) for size in range(1, 9)}
        cpu.io.add_listener(self)
        controller: Any = cpu.interrupt_controller
        if hasattr(controller, "set_base"):
            controller.sync = partial(sync_apic, self, controller)

    def commit(self) -> None:
        """The port map changed: forget what was resolved."""
        self.ready.clear()
        self.ready.update(self._mmio)

    def forget_apic(self) -> None:
        """The processor and its local APIC are reset: both begin alike."""
        self.apic_base = self.page.apic_base = x86_state.apic_base_at_reset(self.cpu.is_bootstrap)
        self.cr8 = self.page.cr8 = 0

    def look_at_apic_base(self) -> None:
        """The guest touches memory it did not touch before: it may have moved its local APIC there."""
        if self.page.apic_base != self.apic_base and not self.inside and self.cpu.interrupt_controller is not None:
            sync_apic(self, self.cpu.interrupt_controller)

    def close(self) -> None:
        """Stop listening."""
        self.cpu.io.remove_listener(self)


def cpu_exec(cpu: Cpu) -> None:
    """Run the guest until it has to stop, halts, or cannot go on (QEMU: `kvm_cpu_exec`)."""
    state: LoopState = cpu.loop_state
    probe = cpu.registry.probe
    if probe is not None and probe.exits is not None:
        cpu_exec_observed(cpu, state, probe.exits)
        return
    run, c_vcpu = cpu.vcpu.enter, cpu.vcpu.c
    find = state.ready.get
    lock = cpu.lock
    acquire, release = lock.acquire_now, lock.release
    try:
        if not prepare(state):
            return
        value = 0
        while True:
            release()
            word = run(c_vcpu, value)
            if lock.waiting:
                lock.acquire_fair()
            else:
                acquire()
            handler = find(word)
            if handler is None:
                value = EXIT_HANDLERS.get(word & REASON, handle_unserved)(state, word)
                if value < 0:
                    return
            elif word & WRITE:
                handler(c_vcpu.data)
            else:
                value = handler()
    except BaseException as error:  # a DeviceFault above all: this machine stops, no other
        fail(state, describe_error(error))


def cpu_exec_observed(cpu: Cpu, state: LoopState, probe: ExitProbe) -> None:
    """`cpu_exec` while somebody listens to exits.  Adding and removing observers makes the vCPU enter anew."""
    run, c_vcpu, lock = cpu.vcpu.enter, cpu.vcpu.c, cpu.lock
    try:
        if not prepare(state):
            return
        value = 0
        while True:
            lock.release()
            word = run(c_vcpu, value)
            lock.acquire_fair()
            value = probe.serve(exit_record(state, word), partial(serve_observed, state, word))
            if value < 0:
                return
    except BaseException as error:
        fail(state, describe_error(error))


def exit_record(state: LoopState, word: int) -> Exit:
    """What an observer is told of an exit."""
    reason = word & REASON
    name = EXIT_NAMES.get(reason, f"exit reason {reason}")
    is_write, size = bool(word & WRITE), word >> SIZE_SHIFT & 0xF
    if reason == lib.KVM_EXIT_IO and word & STRING:
        io = state.page.io
        out = io.direction == lib.KVM_EXIT_IO_OUT
        return Exit(state.cpu, reason, name, io.port, io.size, out, string=True, count=io.count)
    if reason in (lib.KVM_EXIT_IO, MMIO):
        c_vcpu = state.vcpu.c
        address = word >> PORT_SHIFT & 0xFFFF if reason == lib.KVM_EXIT_IO else c_vcpu.address
        data = c_vcpu.data & (1 << size * 8) - 1 if is_write else None
        return Exit(state.cpu, reason, name, address, size, is_write, data)
    return Exit(state.cpu, reason, name)


def serve_observed(state: LoopState, word: int, exit: Exit) -> int:
    """Serve an exit as `cpu_exec` does, with what its observers left of it."""
    if exit.failed is not None:
        if exit.address is None:
            return fail(state, f"{exit.name}: {exit.failed}")
        if exit.string and not exit.is_write:
            io = state.page.io
            ffi.buffer(ffi.cast("char *", state.page) + io.data_offset, io.size * io.count)[:] = b"\xff" * (
                io.size * io.count
            )
        return 0
    if exit.is_write and exit.value is not None:
        state.vcpu.c.data = exit.value & (1 << exit.size * 8) - 1
    handler = state.ready.get(word)
    if handler is None:
        return EXIT_HANDLERS.get(word & REASON, handle_unserved)(state, word)
    if word & WRITE:
        handler(state.vcpu.c.data)
        return 0
    return int(handler())


def prepare(state: LoopState) -> bool:
    """See what is asked of the vCPU, and inject what it can take; False: `cpu_exec` has to end."""
    cpu, vcpu, page = state.cpu, state.vcpu, state.page
    vcpu.rearm()  # before the flags are read: a kick from here on holds
    if cpu.must_leave():
        return False
    if not state.inside:
        if cpu.init_request:
            cpu.init_request = False
            x86_state.load_init(vcpu)
            cpu.interrupts_enabled = False
            cpu.waits_for_sipi = cpu.halted = not cpu.is_bootstrap
        if cpu.sipi_request is not None:
            vector, cpu.sipi_request = cpu.sipi_request, None
            if cpu.waits_for_sipi:
                cpu.waits_for_sipi = cpu.halted = False
                x86_state.load_sipi(vcpu, vector)
        if cpu.halted:
            return False
    if cpu.nmi_request:
        cpu.nmi_request = False
        vcpu.nmi()
    controller = cpu.interrupt_controller
    if controller is not None and state.delivers:
        if not state.inside:
            sync_apic(state, controller)
        if cpu.interrupt_request and page.ready_for_interrupt_injection:
            page.ready_for_interrupt_injection = 0  # one at a time: the next exit tells again
            vector = controller.get_interrupt()
            if vector >= 0:
                vcpu.interrupt(vector)
        page.request_interrupt_window = 1 if cpu.interrupt_request and controller.has_interrupt() else 0
    return True


def sync_apic(state: LoopState, apic: Any) -> None:
    """Carry the APIC base and CR8 between the processor and a local APIC in user space (a PIC alone has neither)."""
    page = state.page
    set_base = getattr(apic, "set_base", None)
    if set_base is None:
        return
    if page.apic_base != state.apic_base:  # the guest wrote the MSR
        state.apic_base = page.apic_base
        set_base(page.apic_base)
    if page.cr8 != state.cr8:  # the guest wrote CR8
        apic.cr8 = page.cr8
    page.cr8 = state.cr8 = apic.cr8  # the guest wrote the task priority


def describe_error(error: BaseException) -> str:
    """A report of what came out of serving an exit; also of what is no fault of a region, such as a controller's."""
    if isinstance(error, QomError):
        return str(error)
    return f"{shown(error)}, at {place_of(error)}"


def fail(state: LoopState, what: str) -> int:
    """The vCPU cannot go on: tell the system, with everything that is known, and stop."""
    cpu = state.cpu
    cpu.stop = True
    cpu.system.vcpu_failed(cpu, report(cpu, what))
    return LEAVE


def warn(state: LoopState, kind: str, what: Callable[[], str]) -> None:
    """Tell the user what the guest has come to, with registers; once of each kind for a vCPU."""
    if kind not in state.warned:
        state.warned.add(kind)
        state.cpu.system.log("warning", report(state.cpu, what()))


def _now(state: LoopState, vector: int) -> str:
    return exception_text(vector, state.vcpu.registers())


# -- exit handlers: (state, word) -> value of a finished read (0 if it was none), or LEAVE


def handle_io(state: LoopState, word: int) -> int:
    """KVM_EXIT_IO not seen before (QEMU: `kvm_handle_io`): resolve it, remember it, serve it."""
    if word & STRING:
        return handle_string_io(state)
    port, size = word >> PORT_SHIFT & 0xFFFF, word >> SIZE_SHIFT & 0xF
    if word & WRITE:
        writer = state.cpu.io.writer(port, size)
        state.ready[word] = writer
        writer(state.vcpu.c.data)
        return 0
    reader = state.cpu.io.reader(port, size)
    state.ready[word] = reader
    return reader()


def handle_string_io(state: LoopState) -> int:
    """KVM_EXIT_IO of REP INS/OUTS: `count` accesses to one port, the data in the run page."""
    io = state.page.io
    port, size, count = io.port, io.size, io.count
    space = state.cpu.io
    data = ffi.buffer(ffi.cast("char *", state.page) + io.data_offset, size * count)
    if io.direction == lib.KVM_EXIT_IO_OUT:
        space.write_string(port, size, bytes(data))
        return 0
    data[:] = space.read_string(port, size, count)
    return 0


def _mmio_reader(state: LoopState, size: int) -> Callable[[], int]:
    """What serves KVM_EXIT_MMIO for reads of `size` bytes: an access to guest-physical memory without a slot."""
    c_vcpu, memory = state.vcpu.c, state.cpu.memory
    find = memory.readers.get

    def mmio_read() -> int:
        address = c_vcpu.address
        reader = find((address, size))
        if reader is None:
            state.look_at_apic_base()
            reader = memory.reader(address, size)
        return reader()

    return mmio_read


def _mmio_writer(state: LoopState, size: int) -> Callable[[int], None]:
    """The same for writes."""
    c_vcpu, memory = state.vcpu.c, state.cpu.memory
    find = memory.writers.get

    def mmio_write(value: int) -> None:
        address = c_vcpu.address
        writer = find((address, size))
        if writer is None:
            state.look_at_apic_base()
            writer = memory.writer(address, size)
        writer(value)

    return mmio_write


def handle_mmio(state: LoopState, word: int) -> int:
    """KVM_EXIT_MMIO: always found in `LoopState.ready`; only an access wider than 8 bytes would come here."""
    return handle_unserved(state, word)


def handle_interrupted(state: LoopState, word: int) -> int:
    """A kick, or KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_INTR: look at what is asked."""
    if (vector := state.vcpu.fault_loop()) is not None:
        warn(state, "loop", lambda: f"endless fault loop: nothing but {_now(state, vector)}; the guest goes on so")
    return 0 if prepare(state) else LEAVE


def handle_halt(state: LoopState, word: int) -> int:
    """KVM_EXIT_HLT: sleep until an interrupt, unless one is pending already."""
    cpu = state.cpu
    cpu.interrupts_enabled = bool(state.page.if_flag)
    cpu.halted = True
    if not cpu.has_work():
        return LEAVE
    cpu.halted = False
    return 0 if prepare(state) else LEAVE


def handle_shutdown(state: LoopState, word: int) -> int:
    """KVM_EXIT_SHUTDOWN: a triple fault, which on a PC resets the machine."""
    state.cpu.system.log("cpu_reset", report(state.cpu, "triple fault"))
    triple = state.triple_faults
    if triple.tell(state.cpu.clock.now()):
        again = f" ({triple.count} times in a row)" if triple.count > 1 else ""
        text = f"{describe_triple_fault(state.cpu)}; the machine is reset{again}"
        state.cpu.system.log("warning", report(state.cpu, text))
    state.cpu.stop = True
    state.cpu.system.request_reset("guest-triple-fault")
    return LEAVE


def handle_system_event(state: LoopState, word: int) -> int:
    """KVM_EXIT_SYSTEM_EVENT: the accelerator itself was asked to shut down, reset or report a crash."""
    event = state.page.system_event.type
    system = state.cpu.system
    if event == lib.KVM_SYSTEM_EVENT_RESET:
        system.request_reset("guest-reset")
    elif event == lib.KVM_SYSTEM_EVENT_SHUTDOWN:
        system.request_shutdown("guest-shutdown")
    else:
        return fail(state, f"{describe_exit(state.vcpu, word)}: event {event}")
    state.cpu.stop = True
    return LEAVE


def handle_rdmsr(state: LoopState, word: int) -> int:
    """KVM_EXIT_X86_RDMSR: an MSR the accelerator leaves to us is the local APIC's, or raises #GP in the guest."""
    index = state.vcpu.c.address
    apic: Any = state.cpu.interrupt_controller
    if hasattr(apic, "read_msr"):
        state.look_at_apic_base()
        value: int | None = apic.read_msr(index)
        if value is not None:
            return value
    state.cpu.guest_error(f"rdmsr-{index:x}", f"read of unknown MSR {index:x}h")
    state.page.msr.error = 1
    return 0


def handle_wrmsr(state: LoopState, word: int) -> int:
    """KVM_EXIT_X86_WRMSR: likewise."""
    c_vcpu = state.vcpu.c
    index, value = c_vcpu.address, c_vcpu.data
    apic: Any = state.cpu.interrupt_controller
    if hasattr(apic, "write_msr"):
        state.look_at_apic_base()
        if apic.write_msr(index, value):
            return 0
    state.cpu.guest_error(f"wrmsr-{index:x}", f"write of {value:#x} to unknown MSR {index:x}h")
    state.page.msr.error = 1
    return 0


def handle_ioapic_eoi(state: LoopState, word: int) -> int:
    """KVM_EXIT_IOAPIC_EOI: the local APIC is inside, the I/O APIC outside, and waits for this end of interrupt."""
    accel: Any = state.cpu.accel
    tell = accel.end_of_interrupt
    if tell is not None:
        tell(state.page.eoi.vector)
    return 0


def handle_set_tpr(state: LoopState, word: int) -> int:
    """KVM_EXIT_SET_TPR: the guest lowered CR8; an interrupt that waited may be deliverable."""
    return 0 if prepare(state) else LEAVE


def handle_nothing(state: LoopState, word: int) -> int:
    """An exit that only informs (KVM_EXIT_TPR_ACCESS, KVM_EXIT_X86_BUS_LOCK): run on."""
    return 0


def handle_unserved(state: LoopState, word: int) -> int:
    """Everything else: report it and stop the machine."""
    what = describe_exit(state.vcpu, word)
    if word & REASON == lib.KVM_EXIT_INTERNAL_ERROR and (lost := nowhere(state.cpu)):
        what = f"{lost} ({what})"
    return fail(state, what)


ExitHandler = Callable[[LoopState, int], int]

EXIT_HANDLERS: dict[int, ExitHandler] = {
    lib.KVM_EXIT_IO: handle_io,
    lib.KVM_EXIT_MMIO: handle_mmio,
    lib.ABI_EXIT_INTERRUPTED: handle_interrupted,
    lib.KVM_EXIT_INTR: handle_interrupted,
    lib.KVM_EXIT_IRQ_WINDOW_OPEN: handle_interrupted,
    lib.KVM_EXIT_HLT: handle_halt,
    lib.KVM_EXIT_SHUTDOWN: handle_shutdown,
    lib.KVM_EXIT_SYSTEM_EVENT: handle_system_event,
    lib.KVM_EXIT_X86_RDMSR: handle_rdmsr,
    lib.KVM_EXIT_X86_WRMSR: handle_wrmsr,
    lib.KVM_EXIT_IOAPIC_EOI: handle_ioapic_eoi,
    lib.KVM_EXIT_SET_TPR: handle_set_tpr,
    lib.KVM_EXIT_TPR_ACCESS: handle_nothing,
    lib.KVM_EXIT_X86_BUS_LOCK: handle_nothing,
}
"""Served exits; every other reason (FAIL_ENTRY, INTERNAL_ERROR, EXCEPTION, DEBUG, HYPERCALL, UNKNOWN, ...) is
reported."""


def served(reason: int) -> bool:
    """Whether the loop serves an exit reason, or reports it."""
    return reason in EXIT_HANDLERS


def exit_table() -> dict[str, str]:
    """Exit reasons by KVM's name and what is done with each; for documentation and tests."""
    names = {number: name for number, name in EXIT_NAMES.items() if number < lib.ABI_EXIT_INTERRUPTED}
    return {names[n]: EXIT_HANDLERS.get(n, handle_unserved).__name__ for n in sorted(names)}
