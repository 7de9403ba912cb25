"""KVM's three handles on the C core of the simulated accelerator.

The core's functions are called through the same C helpers as ioctl(2) is, with the interpreter lock released.
"""

import importlib
from typing import Any

from accel._kvmabi import ffi, lib
from accel.errors import HandleError
from accel.handles import CData, Handle, SystemHandle, VcpuHandle, VmHandle
from qom import AccelError


def _core() -> Any:
    """The compiled core, imported on first use so that a tree without a compiler still has its other accelerators."""
    try:
        return importlib.import_module("accel.simulated._core")
    except ImportError as error:
        text = f"simulated: the C core is not built ({error}); run: python accel/simulated/build_core.py"
        raise AccelError(text) from None


def _foreign(core: Any, pointer: CData) -> int:
    """A pointer of the core's cffi module as an integer."""
    return int(core.ffi.cast("uintptr_t", pointer))


class _CoreHandle(Handle):
    """A handle that is a pointer into the core."""

    core: Any
    pointer: CData  # in the core's types
    KIND: str  # "system", "vm", "vcpu": the middle of the names of its functions

    def _bind(self, core: Any, pointer: CData) -> None:
        self.core = core
        self.pointer = pointer
        function = core.ffi.addressof(core.lib, f"sim_{self.KIND}_ioctl")
        self.function = ffi.cast("abi_ioctl_fn", _foreign(core, function))
        self.address = ffi.cast("void *", _foreign(core, pointer))

    def ioctl(self, request: int, argument: int) -> int:
        return int(lib.abi_ioctl(self.function, self.address, request, argument))


class SimulatedSystem(_CoreHandle, SystemHandle):
    """The core as a whole."""

    KIND = "system"

    def __init__(self) -> None:
        core = _core()
        pointer = core.lib.sim_open()
        if pointer == core.ffi.NULL:
            raise AccelError("simulated: the core has no memory for its system object")
        self._bind(core, pointer)
        super().__init__("simulated", None)

    def _release(self) -> None:
        self.core.lib.sim_system_close(self.pointer)

    def create_vm(self) -> "SimulatedVm":
        """KVM_CREATE_VM."""
        error = self.core.ffi.new("int *")
        pointer = self.core.lib.sim_create_vm(self.pointer, error)
        if pointer == self.core.ffi.NULL:
            raise HandleError(self.where, "KVM_CREATE_VM", -error[0] if error[0] < 0 else error[0])
        return SimulatedVm(self, pointer)


class SimulatedVm(_CoreHandle, VmHandle):
    """A VM of the core."""

    KIND = "vm"

    def __init__(self, system: SimulatedSystem, pointer: CData) -> None:
        self._bind(system.core, pointer)
        super().__init__("simulated VM", system)

    def _release(self) -> None:
        self.core.lib.sim_vm_close(self.pointer)

    def create_vcpu(self, number: int) -> "SimulatedVcpu":
        """KVM_CREATE_VCPU."""
        error = self.core.ffi.new("int *")
        pointer = self.core.lib.sim_create_vcpu(self.pointer, number, error)
        if pointer == self.core.ffi.NULL:
            raise HandleError(self.where, "KVM_CREATE_VCPU", -error[0] if error[0] < 0 else error[0])
        return SimulatedVcpu(self, number, pointer)

    def seed(self, value: int) -> None:
        """Let RDRAND and RDSEED of the vCPUs made from now on follow from `value`, 64 bits."""
        self.core.lib.sim_vm_seed(self.pointer, value)

    def translate_after(self, executions: int) -> None:
        """Make machine code of a block of 64-bit code once it ran so often; 0: never.  Before the first run."""
        self.core.lib.sim_vm_translate(self.pointer, executions)

    def memory_written(self, guest: int, size: int) -> None:
        """Drop code decoded from there by a vCPU that is running now."""
        self.core.lib.sim_vm_memory_written(self.pointer, guest, size)

    def writes_are_told(self) -> None:
        """Spare the vCPUs comparing code with memory whenever they enter the guest."""
        self.core.lib.sim_vm_writes_are_told(self.pointer)


class SimulatedVcpu(_CoreHandle, VcpuHandle):
    """A vCPU of the core and its run page."""

    KIND = "vcpu"

    def __init__(self, vm: SimulatedVm, number: int, pointer: CData) -> None:
        self._bind(vm.core, pointer)
        core = vm.core
        c_vcpu = ffi.new("struct abi_vcpu *")
        c_vcpu.ioctl = self.function
        c_vcpu.kick = ffi.cast("abi_kick_fn", _foreign(core, core.ffi.addressof(core.lib, "sim_vcpu_kick")))
        c_vcpu.handle = self.address
        c_vcpu.run = ffi.cast("struct kvm_run *", _foreign(core, core.lib.sim_vcpu_run_page(pointer)))
        super().__init__(f"simulated vCPU {number}", vm, number, c_vcpu)

    def _release(self) -> None:
        self.core.lib.sim_vcpu_close(self.pointer)

    def inner_exit_counts(self) -> dict[str, int]:
        """Exits of the core's guest mode by Intel's names; those passed to user space included."""
        return self._counts(self.core.lib.sim_vcpu_exit_count)

    def inner_exit_counts_to_user(self) -> dict[str, int]:
        """Of these, the ones the core could not serve itself."""
        return self._counts(self.core.lib.sim_vcpu_exit_count_user)

    def _counts(self, count: Any) -> dict[str, int]:
        counts: dict[str, int] = {}
        for reason in range(self.core.lib.sim_exit_reason_count()):
            name = self.core.lib.sim_exit_reason_name(reason)
            total = count(self.pointer, reason)
            if total and name != self.core.ffi.NULL:
                counts[self.core.ffi.string(name).decode()] = total
        return counts

    def fault_chain(self) -> list[int]:
        """See VcpuHandle."""
        vectors = self.core.ffi.new("uint8_t[3]")
        return list(vectors[0 : self.core.lib.sim_vcpu_fault_chain(self.pointer, vectors)])

    def fault_loop(self) -> int | None:
        """See VcpuHandle."""
        vector = int(self.core.lib.sim_vcpu_fault_loop(self.pointer))
        return vector if vector >= 0 else None

    def instruction_count(self) -> int:
        """Instructions retired so far; any thread."""
        return int(self.core.lib.sim_vcpu_instructions(self.pointer))
