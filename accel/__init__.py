"""Accelerators: what runs a guest's instructions, and the one vCPU loop that serves its exits."""

try:
    import accel._kvmabi  # noqa: F401 -- only to say what to do when it is missing
except ImportError as error:
    raise ImportError(f"accel._kvmabi is not built ({error}); run: python accel/build_kvmabi.py") from error

from typing import TYPE_CHECKING

from qom.later import later

if TYPE_CHECKING:
    from accel.accel import Accel, AccelClass, configure_accelerator
    from accel.errors import HandleError, MissingExtension
    from accel.exit_word import ExitWord
    from accel.handles import EXIT_NAMES, CpuidEntry, SystemHandle, VcpuHandle, VmHandle
    from accel.kvm.kvm_accel import KvmAccel, kvm_init
    from accel.simulated.simulated_accel import SimulatedAccel, simulated_init
    from accel.x86_state import load_kernel_entry, load_waking_vector


QOM_MODULES = ("accel", "kvm.kvm_accel", "kvm.irqchip", "simulated.simulated_accel", "qtest.qtest_accel")
"""Where the plugin manager finds the types of this package."""

__all__ = [
    "EXIT_NAMES",
    "Accel",
    "AccelClass",
    "CpuidEntry",
    "ExitWord",
    "HandleError",
    "KvmAccel",
    "MissingExtension",
    "SimulatedAccel",
    "SystemHandle",
    "VcpuHandle",
    "VmHandle",
    "configure_accelerator",
    "kvm_init",
    "load_kernel_entry",
    "load_waking_vector",
    "simulated_init",
]

_LATER = {
    "accel.accel": ("Accel", "AccelClass", "configure_accelerator"),
    "accel.errors": ("HandleError", "MissingExtension"),
    "accel.exit_word": ("ExitWord",),
    "accel.handles": ("EXIT_NAMES", "CpuidEntry", "SystemHandle", "VcpuHandle", "VmHandle"),
    "accel.kvm.kvm_accel": ("KvmAccel", "kvm_init"),
    "accel.simulated.simulated_accel": ("SimulatedAccel", "simulated_init"),
    "accel.x86_state": ("load_kernel_entry", "load_waking_vector"),
}

__getattr__, __dir__ = later(__name__, _LATER)
