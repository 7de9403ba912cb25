"""x86 processors as devices: topology, CPUID, the local APIC, and the thread that realizing one creates.

Modelled: identity and features (plugins/cpu/cpuid.py), place in sockets, cores and threads, a local APIC where the accelerator
brings none.  Registers and execution are the accelerator's.
Not modelled: hot-unplug, microcode, per-model MSRs.

SEED.md row 8: `X86Cpu.realize` is `x86_cpu_realizefn`, which ends in `init_vcpu`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import attrs

from plugins.cpu.cpuid import FEATURES, MODELS, CpuidEntry, CpuModel, Topology, build_cpuid, missing_features
from qom import AddressSpace, Cpu, PropertyError, Region, SystemBus, did_you_mean, prop, type_init
from qom.vm import init_vcpu

__all__ = ["MaxCpu", "Qemu32Cpu", "Qemu64Cpu", "X86Cpu"]


def _check_features(cpu: X86Cpu, value: dict[str, Any]) -> None:
    for name in value:
        if name not in FEATURES:
            hint = did_you_mean(name, FEATURES)
            raise PropertyError(cpu.path, "features", name, f"names of CPUID features{hint}")


@type_init("x86_64-cpu", abstract=True)
class X86Cpu(Cpu):
    """Base of the x86 models.  A child `lapic` is the local APIC where it is modelled in user space."""

    model: ClassVar[CpuModel]
    feature_names = FEATURES

    features: dict[str, bool] = prop({}, "CPUID features to add (on) or leave out (off)", set=_check_features)
    socket_id: int = prop(0, "Socket the processor is in", type="uint32")
    core_id: int = prop(0, "Core within the socket", type="uint32")
    thread_id: int = prop(0, "Thread within the core", type="uint32")
    node_id: int = prop(0, "NUMA node", type="uint32")
    cores: int = prop(1, "Cores in a socket, for CPUID", type="uint32", min=1)
    threads: int = prop(1, "Threads of a core, for CPUID", type="uint32", min=1)

    # Handed by the board before realize
    system_bus: SystemBus
    apic_type: str | None  # None: the local APIC is inside the accelerator
    apic_bus: Any

    def instance_init(self) -> None:
        """No local APIC until realize makes one."""
        self.apic: Any = None
        self.apic_type = None
        self.apic_bus = None

    def x86_cpu_realizefn(self) -> None:
        """QEMU's `x86_cpu_realizefn`: check the features, make the local APIC, then the vCPU and its thread."""
        super().realize()
        self.memory, self.io = self.system_bus.memory_space, self.system_bus.io_space
        if self.apic_type is not None:
            self._make_apic(self.apic_type)
        init_vcpu(self)

    realize = x86_cpu_realizefn

    def _make_apic(self, type_name: str) -> None:
        """Make the local APIC; one in user space lies over everything else in this processor's own view of memory."""
        apic = self.registry.new(type_name, apic_id=self.apic_id)
        self.add_child("lapic", apic)
        apic.cpu = self
        apic.apic_bus = self.apic_bus
        if apic.is_a("apic"):
            apic.view = self._own_view()
            self.interrupt_controller = apic
            self.apic = apic
        apic.plug(self.system_bus)
        apic.set("realized", True)

    def _own_view(self) -> Region:
        """Memory as this processor sees it: the machine's, with room for what is its own on top."""
        root = Region.container(f"cpu{self.index}-memory", 1 << 64)
        system = Region.alias(f"cpu{self.index}-system", self.system_bus.memory, 0, 1 << 64)
        root.add(0, system, -1)
        self.memory = AddressSpace(f"cpu{self.index}", root)
        self.on_unrealize(self.memory.close)
        return root

    def cpuid(self, supported: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The leaves this processor shows; warns of features asked for that the accelerator cannot give."""
        leaves = [CpuidEntry(*entry) for entry in supported]
        missing = missing_features(self.model, self.features, leaves)
        if missing and self.index == 0:
            self.system.log("warning", f"{self.path}: the accelerator does not offer: {', '.join(missing)}")
        topology = Topology(self.apic_id, self.cores, self.threads)
        return [attrs.astuple(leaf) for leaf in build_cpuid(self.model, self.features, leaves, topology)]


@type_init("qemu64-x86_64-cpu")
class Qemu64Cpu(X86Cpu):
    """x86-64 baseline."""

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.model = MODELS["qemu64"]
        cls.desc, cls.category = cls.model.desc, "cpu"


@type_init("qemu32-x86_64-cpu")
class Qemu32Cpu(X86Cpu):
    """i686 class."""

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.model = MODELS["qemu32"]
        cls.desc, cls.category = cls.model.desc, "cpu"


@type_init("max-x86_64-cpu")
class MaxCpu(X86Cpu):
    """Everything the accelerator can do."""

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.model = MODELS["max"]
        cls.desc, cls.category = cls.model.desc, "cpu"
