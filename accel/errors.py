"""The error of a failed accelerator call: which call, which errno, and what that errno means for that call."""

import errno as errno_names
import os

from qom import AccelError

# What the kernel's documentation says about an errno of one call, where strerror() alone would mislead.
MEANING = {
    ("KVM_CREATE_VM", "EBUSY"): "the processor's virtualisation extension is held by another hypervisor",
    ("KVM_CREATE_VCPU", "EEXIST"): "there is a vCPU with this id already, or an interrupt controller came too late",
    ("KVM_CREATE_VCPU", "EINVAL"): "the vCPU id is beyond KVM_CAP_MAX_VCPU_ID or KVM_CAP_MAX_VCPUS is reached",
    ("KVM_SET_USER_MEMORY_REGION", "EINVAL"): (
        "slot number, address or size is not valid (multiples of a page; a slot can move or change flags, not size)"
    ),
    ("KVM_SET_USER_MEMORY_REGION", "EEXIST"): "the region overlaps another slot",
    ("KVM_GET_DIRTY_LOG", "ENOENT"): "the slot does not exist or does not log",
    ("KVM_CREATE_IRQCHIP", "EEXIST"): "the VM has an interrupt controller, or vCPUs, already",
    ("KVM_INTERRUPT", "EEXIST"): "an interrupt is queued already",
    ("KVM_INTERRUPT", "ENXIO"): "the interrupt controller is in the kernel, interrupts go through it",
    ("KVM_SET_CPUID2", "EINVAL"): "CPUID cannot change after KVM_RUN, or an entry is not possible",
    ("KVM_SET_SREGS", "EINVAL"): "a control register, EFER or APIC base value the processor would refuse",
    ("KVM_SET_MP_STATE", "EINVAL"): "the state is unknown, or needs the interrupt controller in the kernel",
    ("KVM_GET_LAPIC", "EINVAL"): "the local APIC is not in the kernel",
    ("KVM_SET_LAPIC", "EINVAL"): "the local APIC is not in the kernel",
}


class HandleError(AccelError):
    """A call on a system, VM or vCPU handle failed; `call` is its KVM name, `errno` the reason."""

    def __init__(self, where: str, call: str, errno: int, detail: str = "") -> None:
        self.call = call
        self.errno = errno
        self.strerror = os.strerror(errno)
        symbol = errno_names.errorcode.get(errno, f"errno {errno}")
        meaning = detail or MEANING.get((call, symbol), "")
        super().__init__(f"{where}: {call} failed: {symbol} ({self.strerror}){': ' + meaning if meaning else ''}")


class MissingExtension(AccelError):
    """A call needs a KVM_CAP_* that CHECK_EXTENSION denies."""

    def __init__(self, where: str, call: str, capability: str) -> None:
        self.call = call
        self.capability = capability
        super().__init__(f"{where}: {call} needs {capability}, which this accelerator does not have")
