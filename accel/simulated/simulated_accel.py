"""The accelerator type "simulated-accel": a processor in C that answers KVM's own interface.

Options: `seed`, where RDRAND and RDSEED begin; `translate-after`, when code that runs often becomes machine code of the
host.  Interrupt controllers are always outside (the core says so through KVM_CAP_IRQCHIP).
"""

from typing import Any

from accel._kvmabi import lib
from accel.accel import Accel, AccelClass
from accel.simulated.handles import SimulatedSystem, SimulatedVm
from qom import AccelError, prop, type_init


@type_init("simulated-accel")
class SimulatedAccel(Accel):
    """Simulated x86 processor."""

    seed: int | None = prop(
        None, "Seed of the numbers RDRAND and RDSEED give; unset: the operating system's", type="uint64"
    )
    translate_after: int | None = prop(
        None,
        "Executions after which a block of 64-bit code becomes machine code; 0: never; unset: the core's own choice",
        type="uint32",
    )

    @classmethod
    def class_init(cls) -> None:
        """Fill the class facts."""
        cls.desc, cls.category = "Simulated x86 processor (C core behind KVM's interface)", "accel"
        cls.accel_class = AccelClass("simulated", simulated_init)


def simulated_init(accel: SimulatedAccel, machine: Any) -> None:
    """Start the core for `machine`.

    Raises:
        AccelError: the core is not built, or cannot make a VM.
    """
    system = SimulatedSystem()
    try:
        version = system.api_version()
        if version != lib.KVM_API_VERSION:
            raise AccelError(f"simulated: the core answers interface version {version}, need {lib.KVM_API_VERSION}")
        vm = accel.start(machine, system, wants_writes=True)
        if isinstance(vm, SimulatedVm):
            if accel.seed is not None:
                vm.seed(accel.seed)
            if accel.translate_after is not None:
                vm.translate_after(accel.translate_after)
        accel.serve_msrs()
    except BaseException:
        accel.stop()
        system.close()
        raise
