"""Accelerators as QOM types, and how one is chosen (SEED.md rows 3 to 5).

An accelerator is a type "<name>-accel" derived from `Accel`.  Its class_init fills an `AccelClass`: `name`,
`init_machine`, `allowed`, as in QEMU; a third party adds one by registering such a type.  `configure_accelerator`
makes the first one of a list that works here and gives it to the machine, as child "accel".

`Accel` also is what a processor needs of it (qom.vm.cpu.CpuAccelerator) and what a board asks: where the interrupt
controllers are (`irqchip`) and which chip types go with that (`chip_types`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from accel import loop, x86_state
from accel._kvmabi import lib
from accel.handles import IA32_TSC, CpuidEntry, SystemHandle, VcpuHandle, VmHandle
from accel.memory_slots import MemorySlots
from qom import AccelError, Clock, ConfigError, Object, QomError, RunningClock, did_you_mean, records, type_init

if TYPE_CHECKING:
    from qom import Cpu

SUFFIX = "-accel"
DEFAULT = "simulated"

IrqChip = Literal["off", "split", "on"]

IA32_TSC_DEADLINE = 0x6E0
ADDRESS_BITS_MAX, ADDRESS_BITS_OLD = 52, 36  # what the architecture allows; what there was before CPUID told it
X2APIC, TSC_DEADLINE = 1 << 21, 1 << 24  # CPUID 1 ECX


@records.define
class AccelClass:
    """The class facts of an accelerator, filled by its class_init.

    name: what a user calls it, for messages ("KVM").
    init_machine: called as init_machine(accel, machine); starts the accelerator for that machine, or raises AccelError.
    allowed: whether it may be chosen at all; an embedding program may forbid one.
    """

    name: str
    init_machine: Callable[[Any, Any], None]
    allowed: bool = True


@type_init("accel", abstract=True)
class Accel(Object):
    """Base of every accelerator; see the module."""

    accel_class: ClassVar[AccelClass]
    instance_defaults: ClassVar[dict[str, Any]] = {"system": None, "vm": None, "slots": None, "machine": None}

    irqchip: IrqChip = "off"

    native: ClassVar[bool] = False
    """Whether guest code runs on the host's own processor."""

    end_of_interrupt: Callable[[int], None] | None = None
    """Told the vector of an end of interrupt that an I/O APIC in user space waits for (local APICs inside)."""

    # Once init_machine has run
    machine: Any
    system: SystemHandle | None
    vm: VmHandle | None
    slots: MemorySlots | None

    def instance_init(self) -> None:
        """Nothing is open yet."""
        self._parked: dict[int, VcpuHandle] = {}
        self._vcpus: dict[int, VcpuHandle] = {}
        self._given: dict[int, list[CpuidEntry]] = {}  # CPUID of each vCPU by its id
        self._tsc_khz: dict[int, int] = {}  # of vCPUs that have not the accelerator's own, by id
        self._cpuid: list[CpuidEntry] = []
        self._msrs: frozenset[int] = frozenset()
        self._tsc_offset = 0  # of a processor just reset
        self._tsc_stopped_at: int | None = None  # what the TSC showed when guest time stopped; None while it runs

    @staticmethod
    def configure_accelerator(machine: Any, choices: Sequence[Any]) -> "Accel":
        """Same as the function of this name."""
        return configure_accelerator(machine, choices)

    # -- for init_machine of an accelerator that speaks KVM's interface

    def start(self, machine: Any, system: SystemHandle, *, wants_writes: bool = False) -> VmHandle:
        """Make the VM and let its memory slots follow the machine's memory; the interrupt controllers come after.

        Raises:
            AccelError: the interface lacks something every machine needs.
        """
        self.machine = machine
        self.system = system
        for capability in ("KVM_CAP_USER_MEMORY", "KVM_CAP_IMMEDIATE_EXIT", "KVM_CAP_EXT_CPUID"):
            system.need("running a machine", capability)
        self._msrs = frozenset(system.msr_index_list())
        self._cpuid = system.supported_cpuid()
        self.vm = system.create_vm()
        self.slots = MemorySlots(self.vm, self.held_outside, wants_writes=wants_writes)
        machine.system_bus.memory_space.add_listener(self.slots)
        return self.vm

    def serve_msrs(self) -> None:
        """Take over the MSRs of the local APICs, which are in user space; called by init_machine, before any vCPU.

        Where the accelerator gives no MSR to user space, the APICs have neither x2APIC mode nor the TSC deadline.
        """
        assert self.vm is not None
        served = self.vm.serve_msrs([IA32_TSC_DEADLINE])
        add, remove = (TSC_DEADLINE, 0) if served else (0, X2APIC | TSC_DEADLINE)
        self._cpuid = [
            records.evolve(leaf, ecx=leaf.ecx & ~remove | add) if leaf.function == 1 else leaf for leaf in self._cpuid
        ]

    def offered_cpuid(self) -> list[CpuidEntry]:
        """The CPUID leaves that it can give; none when it runs no guest code."""
        return list(self._cpuid)

    def address_bits(self) -> int:
        """How many bits the guest-physical addresses of its processors have at most."""
        if not self._cpuid:
            return ADDRESS_BITS_MAX
        widths = next((leaf.eax & 0xFF for leaf in self._cpuid if leaf.function == 0x80000008), 0)
        return widths or ADDRESS_BITS_OLD

    @contextmanager
    def held_outside(self) -> Iterator[None]:
        """Inside the `with`, no vCPU is in guest mode; the caller holds the machine lock."""
        held: list[VcpuHandle] = []
        try:
            for vcpu in self._vcpus.values():
                held.append(vcpu)
                vcpu.hold()  # at once for the caller's own vCPU, which is outside already
            yield
        finally:
            for vcpu in held:
                vcpu.release()

    def stop(self) -> None:
        """Give everything back: vCPUs, slots, handles.  The vCPU threads have ended."""
        slots, self.slots = self.slots, None
        system, self.system = self.system, None
        self._parked.clear()
        self._vcpus.clear()
        self._tsc_stopped_at = None
        self._given.clear()
        self._tsc_khz.clear()
        self.vm = None
        if system is None:
            return
        try:
            if slots is not None:
                self.machine.system_bus.memory_space.remove_listener(slots)
        finally:
            system.close()

    def leave(self) -> None:
        """Before it leaves the tree it gives everything back."""
        self.stop()

    # -- for boards

    def chip_types(self) -> dict[str, str]:
        """Types of the interrupt controllers that go with this accelerator: "pic", "ioapic", "apic"."""
        return {"pic": "isa-i8259", "ioapic": "ioapic", "apic": "apic"}

    def new_clock(self) -> Clock:
        """The clock of a machine that this accelerator runs; asked once, before the board is built."""
        return RunningClock()

    def exit_counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Exits per vCPU and reason: {"0": {"user": {...}, "inner": {...}}}; any thread, also while guests run."""
        return {
            str(number): {"user": vcpu.exit_counts(), "inner": vcpu.inner_exit_counts()}
            for number, vcpu in sorted(self._vcpus.items())
        }

    # -- guest time, for VirtualMachine; the vCPUs stand still

    def time_stops(self) -> None:
        """The machine's clock was stopped: remember what the TSC shows."""
        clock = self._tsc_of_all()
        if clock is not None and self._tsc_stopped_at is None:
            self._tsc_stopped_at = clock.read_tsc()

    def time_starts(self) -> None:
        """The machine's clock runs again: every TSC goes on from where it was, all moved by the same amount."""
        clock, stopped_at = self._tsc_of_all(), self._tsc_stopped_at
        self._tsc_stopped_at = None
        if clock is not None and stopped_at is not None:
            gone = clock.read_tsc() - stopped_at
            self._tsc_offset -= gone
            for vcpu in self._vcpus.values():
                vcpu.set_tsc_offset(vcpu.tsc_offset() - gone)

    def _reset_tsc(self, cpu: "Cpu") -> None:
        """The first processor's begins at 0, the others' are in step with it."""
        vcpu = cpu.vcpu
        if not vcpu.has_tsc_offset():
            vcpu.set_msrs({IA32_TSC: 0})
        elif cpu.is_bootstrap:
            self._tsc_offset = vcpu.tsc_offset() - vcpu.read_tsc()
            vcpu.set_tsc_offset(self._tsc_offset)
            if self._tsc_stopped_at is not None:
                self._tsc_stopped_at = 0
        else:
            vcpu.set_tsc_offset(self._tsc_offset)

    def _tsc_of_all(self) -> VcpuHandle | None:
        """The vCPU by whose TSC stops are measured; None where TSCs cannot be moved."""
        first = next(iter(self._vcpus.values()), None)
        return first if first is not None and first.has_tsc_offset() else None

    # -- for processors (qom.vm.cpu.CpuAccelerator)

    def can_scale_tsc(self) -> bool:
        """Whether a processor's `tsc_frequency` (Hz) is given to its vCPU; without it the TSC has the accelerator's."""
        return self.vm is not None and self.vm.check_extension("KVM_CAP_TSC_CONTROL") > 0

    def create_vcpu(self, cpu: "Cpu") -> VcpuHandle:
        """Make the processor's vCPU, with its CPUID; on the vCPU's thread."""
        assert self.vm is not None
        number = cpu.apic_id
        if not self._vcpus:
            self._tsc_stopped_at = 0  # guest time has not begun
        vcpu = self._parked.pop(number, None) or self.vm.create_vcpu(number)
        try:
            table = [CpuidEntry(*row) for row in cpu.cpuid([records.astuple(entry) for entry in self._cpuid])]
            if table != self._given.get(number):  # a vCPU used before, and KVM wants no change after its first run
                vcpu.set_cpuid(table)
                self._given[number] = table
            self._scale_tsc(cpu, vcpu)
            state = loop.LoopState(cpu, vcpu)
        except BaseException:
            self._parked[number] = vcpu
            raise
        state.inside = self.irqchip != "off"
        state.delivers = self.irqchip != "on"
        cpu.loop_state = state
        self._vcpus[cpu.index] = vcpu
        return vcpu

    def _scale_tsc(self, cpu: "Cpu", vcpu: VcpuHandle) -> None:
        """Give the TSC the frequency that the processor wants; one used before may have another."""
        khz = (getattr(cpu, "tsc_frequency", None) or 0) // 1000
        if khz != self._tsc_khz.get(vcpu.number, 0) and self.can_scale_tsc():
            vcpu.set_tsc_khz(khz)
            self._tsc_khz[vcpu.number] = khz

    def destroy_vcpu(self, cpu: "Cpu") -> None:
        """Take the vCPU back.  KVM cannot remove one from a VM, so it is kept for the next processor with that id."""
        cpu.loop_state.close()
        cpu.loop_state = None
        del self._vcpus[cpu.index]
        if not cpu.vcpu.closed:
            self._parked[cpu.vcpu.number] = cpu.vcpu

    def cpu_exec(self, cpu: "Cpu") -> None:
        """Run the guest; see accel/loop.py."""
        loop.cpu_exec(cpu)

    def reset_vcpu(self, cpu: "Cpu") -> None:
        """Load the power-up state; an application processor then waits for its start-up IPI."""
        if cpu.loop_state is not None:
            cpu.loop_state.forget_apic()
        refused = x86_state.load_power_up(cpu.vcpu, bootstrap=cpu.is_bootstrap, listed_msrs=self._msrs)
        for line in refused:
            cpu.guest_error(line, f"at reset: {line}")
        self._reset_tsc(cpu)
        inside = self.irqchip != "off"
        cpu.halted = cpu.waits_for_sipi = not cpu.is_bootstrap and not inside
        if inside:
            x86_state.load_lapic_power_up(cpu.vcpu, bootstrap=cpu.is_bootstrap)
            state = lib.KVM_MP_STATE_RUNNABLE if cpu.is_bootstrap else lib.KVM_MP_STATE_UNINITIALIZED
            cpu.vcpu.set_mp_state(state)
        elif cpu.vcpu.check_extension("KVM_CAP_MP_STATE"):
            cpu.vcpu.set_mp_state(lib.KVM_MP_STATE_RUNNABLE)


def configure_accelerator(machine: Any, choices: Sequence[Any]) -> Accel:
    """Start the first accelerator of `choices` that works, for `machine`.

    Args:
        machine: a created machine; the accelerator becomes its child "accel". choices: objects with `name` ("kvm", or
        a list "kvm:simulated"), `options` (property values) and `origin`; empty:
            the default.

    Raises:
        ConfigError: an accelerator nobody knows, or an option that is wrong.
        AccelError: none can be used here; says why for each.
    """
    failures: list[str] = []
    tried: list[str] = []
    wanted: list[tuple[str, dict[str, Any], str]] = [
        (name, dict(choice.options), getattr(choice, "origin", "") or "")
        for choice in choices
        for name in choice.name.split(":")
    ] or [(DEFAULT, {}, "")]
    for name, options, origin in wanted:
        accel = _make(machine, name, origin)
        facts = type(accel).accel_class
        machine.add_child("accel", accel)
        try:
            for option, value in options.items():
                try:
                    accel.set(option, value)
                except QomError as error:
                    raise ConfigError(f"accelerator {name!r}: {error}", origin) from error
            if not facts.allowed:
                raise AccelError(f"{name}: not allowed in this program")
            accel.configure()
            facts.init_machine(accel, machine)
        except AccelError as error:
            accel.unparent()
            text = str(error)
            failures.append(text if text.startswith(name) else f"{name}: {text}")
            tried.append(name)
            continue
        except BaseException:
            accel.unparent()
            raise
        return accel
    if len(failures) == 1:
        raise AccelError(f"accelerator {tried[0]!r} cannot be used here: {failures[0]}")
    raise AccelError(f"none of the accelerators {', '.join(tried)} can be used here: {'; '.join(failures)}")


def _make(machine: Any, name: str, origin: str) -> Accel:
    registry = machine.registry
    known = {t.name.removesuffix(SUFFIX) for t in registry.types("accel", abstract=False)}
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"unknown accelerator {name!r}{did_you_mean(name, known)}; there are: {there}", origin)
    accel = registry.new(name + SUFFIX)
    assert isinstance(accel, Accel)
    return accel
