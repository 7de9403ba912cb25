"""x86 processors as devices: features, CPUID, topology, the local APIC, and the thread that realizing one creates.

Modelled: models as types (plugins/cpu/models.py), a property for every feature (plugins/cpu/features.py) and for what
identifies a processor, place in sockets, cores and threads, a local APIC where the accelerator brings none.  What the
accelerator cannot give is left out with a warning; `enforce` makes it an error.  Registers and execution are the
accelerator's.
Not modelled: microcode, per-model MSRs.

SEED.md row 8: `X86Cpu.realize` is `x86_cpu_realizefn`, which ends in `init_vcpu`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from plugins.cpu.cpuid import CpuidEntry, Identity, Topology, build_cpuid, offered_features, with_tsc_frequency
from plugins.cpu.features import ALIASES, FEATURES, unmet
from plugins.cpu.models import MODELS, CpuModel
from qom import (
    AccelError,
    AddressSpace,
    Cpu,
    PropertyError,
    Region,
    SystemBus,
    TypeInfo,
    alias,
    hookimpl,
    prop,
    records,
    type_init,
)
from qom.vm import init_vcpu

__all__ = ["X86Cpu"]

VENDOR_LENGTH, BRAND_LENGTH = 12, 48
TSC_HZ_MIN, TSC_HZ_MAX = 1_000_000, 100_000_000_000
IDENTITY = ("vendor", "family", "model", "stepping", "level", "xlevel", "model-id", "phys-bits")


@runtime_checkable
class OffersCpuid(Protocol):
    """An accelerator that says which CPUID it can give."""

    def offered_cpuid(self) -> Sequence[CpuidEntry]:
        """Its leaves; none before the machine is built."""


def _with_features(cls: type[X86Cpu]) -> type[X86Cpu]:
    """Declare a property for every feature and for every other spelling of one, as the class body would."""
    for feature in FEATURES.values():
        _declare(
            cls,
            _attribute(feature.name),
            prop(False, f"{feature.desc} ({feature.place})", type="bool", name=feature.name),
        )
    for name, meant in ALIASES.items():
        _declare(cls, f"also_{name.replace('-', '_')}", alias("", meant, f"Same as {meant}", name=name, mutable=False))
    return cls


def _attribute(name: str) -> str:
    return f"feature_{name.replace('-', '_').replace('.', '_')}"


def _declare(cls: type, attribute: str, declared: Any) -> None:
    declared.__set_name__(cls, attribute)
    setattr(cls, attribute, declared)


def _check_text(cpu: X86Cpu, name: str, value: str | None, length: int, *, exact: bool) -> None:
    if value is None or (value.isascii() and (len(value) == length or (not exact and len(value) < length))):
        return
    expected = f"{'' if exact else 'at most '}{length} ASCII characters"
    raise PropertyError(cpu.path, name, value, expected)


def _check_vendor(cpu: X86Cpu, value: str | None) -> None:
    _check_text(cpu, "vendor", value, VENDOR_LENGTH, exact=True)


def _check_brand(cpu: X86Cpu, value: str | None) -> None:
    _check_text(cpu, "model-id", value, BRAND_LENGTH, exact=False)


@type_init("x86_64-cpu", abstract=True)
@_with_features
class X86Cpu(Cpu):
    """Base of the x86 models.  A child `lapic` is the local APIC where it is modelled in user space."""

    cpu_model: ClassVar[CpuModel]
    options = frozenset((*FEATURES, *ALIASES, *IDENTITY, "tsc-frequency", "check", "enforce"))

    vendor: str | None = prop(None, "Vendor, 12 characters; unset: the accelerator's", set=_check_vendor)
    family: int | None = prop(None, "Family, extended part included; unset: the accelerator's", type="uint32", max=270)
    model: int | None = prop(None, "Model number; unset: the accelerator's", type="uint32", max=255)
    stepping: int | None = prop(None, "Stepping; unset: the accelerator's", type="uint32", max=15)
    level: int | None = prop(None, "Highest basic CPUID leaf; unset: what the features need", type="uint32", base=16)
    xlevel: int | None = prop(
        None, "Highest extended CPUID leaf; unset: what the features need", type="uint32", base=16
    )
    model_id: str | None = prop(None, "Brand string, at most 48 characters; unset: the accelerator's", set=_check_brand)
    phys_bits: int | None = prop(
        None, "Width of physical addresses; unset: the accelerator's", type="uint32", min=32, max=52, unit="bits"
    )
    tsc_frequency: int | None = prop(
        None,
        "Frequency of the TSC, in whole kHz; unset: the accelerator's",
        type="uint64",
        min=TSC_HZ_MIN,
        max=TSC_HZ_MAX,
        unit="Hz",
    )
    check: bool = prop(True, "Warn of features that the accelerator cannot give")
    enforce: bool = prop(False, "Refuse to start without features that the accelerator cannot give")

    socket_id: int = prop(0, "Socket the processor is in", type="uint32")
    core_id: int = prop(0, "Core within the socket", type="uint32")
    thread_id: int = prop(0, "Thread within the core", type="uint32")
    node_id: int = prop(0, "NUMA node", type="uint32")
    cores: int = prop(1, "Cores in a socket, for CPUID", type="uint32", min=1)
    threads: int = prop(1, "Threads of a core, for CPUID", type="uint32", min=1)

    # Handed by the board before realize
    chosen: bool  # somebody asked for this model: worth a warning when the accelerator cannot give all of it
    system_bus: SystemBus
    apic_type: str | None  # None: the local APIC is inside the accelerator
    apic_bus: Any

    def instance_init(self) -> None:
        """No local APIC until realize makes one."""
        self.chosen = True
        self.apic: Any = None
        self.apic_type = None
        self.apic_bus = None
        self._tsc_khz = 0  # not asked yet

    def x86_cpu_realizefn(self) -> None:
        """QEMU's `x86_cpu_realizefn`: check the model, make the local APIC, then the vCPU and its thread."""
        if self.cpu_model.native and not getattr(self.accel, "native", False):
            raise AccelError(
                f"{self.path}: model '{self.cpu_model.name}' is the host's own processor, which only KVM gives:"
                " expected -accel kvm, or -cpu max for all that this accelerator has"
            )
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

    def wanted_features(self) -> frozenset[str]:
        """What the model, the user and the machine's defaults together ask for, by QEMU's names."""
        return frozenset(name for name in FEATURES if self.get(name))

    def cpuid(self, supported: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The leaves this processor shows.

        Raises:
            AccelError: the accelerator lacks something, and `enforce` is set.
        """
        entries = [CpuidEntry(*entry) for entry in supported]
        wanted, missing = self.wanted_features(), self._missing(entries)
        can_scale = getattr(self.accel, "can_scale_tsc", None)
        scaled = self.tsc_frequency is not None and can_scale is not None and can_scale()
        if self.index == 0:
            self._tell(missing, scaled or self.tsc_frequency is None)
        if scaled:
            assert self.tsc_frequency is not None
            entries = with_tsc_frequency(entries, self.tsc_frequency // 1000 * 1000)
        given = wanted - missing.keys()
        own = {name: self.get(name) for name in IDENTITY if name in self.user_set}
        if "model-id" in own:
            own["brand"] = own.pop("model-id")
        identity = Identity.of(self.cpu_model, given, entries, **{n.replace("-", "_"): v for n, v in own.items()})
        topology = Topology(self.apic_id, self.cores, self.threads)
        if self.apic is not None:
            self.apic.read_tsc = self._read_tsc if "tsc-deadline" in given else None
        return [records.astuple(leaf) for leaf in build_cpuid(identity, given, entries, topology)]

    def _missing(self, entries: Iterable[CpuidEntry]) -> dict[str, str]:
        """The features wanted that an accelerator with these leaves cannot give, and why."""
        wanted = self.wanted_features()
        missing = {name: "the accelerator does not offer it" for name in wanted - offered_features(entries)}
        return missing | {name: f"it needs '{need}'" for name, need in unmet(wanted - missing.keys()).items()}

    def _missing_under(self, accel: Any) -> dict[str, str]:
        """The same for an accelerator; nothing is missing under one that has no processors of its own."""
        entries = accel.offered_cpuid() if isinstance(accel, OffersCpuid) else []
        return self._missing(entries) if entries else {}

    @property
    def same_everywhere(self) -> bool:
        """Not a model that is all that the accelerator, or the host, has."""
        return self.cpu_model.features is not None

    def unavailable(self, accel: Any) -> list[str]:
        """The features of the model that the accelerator lacks; "kvm" for the host's own processor where that is not."""
        if self.cpu_model.native and not getattr(accel, "native", False):
            return ["kvm"]
        return [] if self.cpu_model.features is None else sorted(self._missing_under(accel))

    def expanded(self, accel: Any) -> dict[str, Any]:
        """Every feature, on or off as it comes out, and what identifies the processor as far as it is not the accelerator's.

        Raises:
            AccelError: the model is the host's own, which this accelerator does not give.
        """
        if self.unavailable(accel) == ["kvm"]:
            raise AccelError(f"CPU model '{self.cpu_model.name}' requires KVM")
        given = self.wanted_features() - self._missing_under(accel).keys()
        features = {name: name in given for name in sorted(FEATURES)}
        own = {name: self.get(name) for name in (*IDENTITY, "tsc-frequency", "check", "enforce")}
        return features | {name: value for name, value in own.items() if value is not None}

    def _read_tsc(self) -> tuple[int, int]:
        """The TSC now and its frequency in kHz, for the local APIC's timer."""
        if not self._tsc_khz:
            self._tsc_khz = self.vcpu.tsc_khz()
        return self.vcpu.read_tsc(), self._tsc_khz

    def _tell(self, missing: dict[str, str], tsc: bool) -> None:
        """Warn of features that are not given, or refuse; nothing is said of what nobody would miss.

        tsc: whether the TSC has the frequency that was asked for.
        """
        everything = self.cpu_model.features is None
        silent = frozenset(FEATURES) if everything else self.cpu_model.optional
        told = {
            f"feature '{name}' ({FEATURES[name].place})": reason
            for name, reason in sorted(missing.items())
            if name in self.user_set or name not in silent
        }
        if not tsc:
            told[f"'tsc-frequency' of {self.tsc_frequency} Hz"] = "the accelerator cannot scale the TSC"
        if told and self.enforce:
            listed = "; ".join(f"{feature} cannot be given: {reason}" for feature, reason in told.items())
            raise AccelError(
                f"{self.path}: model '{self.cpu_model.name}' is refused: {listed}: expected a model or features without,"
                " or enforce=off"
            )
        if self.check:
            for feature, reason in told.items():
                text = f"{self.path}: {feature} is left out: {reason}"
                self.system.log("warning" if self.chosen else "cpu", text)


def _class_init(cls: type[X86Cpu], model: CpuModel) -> None:
    cls.cpu_model = model
    cls.desc, cls.category = model.desc, "cpu"


def _record(model: CpuModel) -> TypeInfo:
    """The type of a model: its features and its identity are the defaults of the properties."""
    features = FEATURES if model.features is None else model.features
    defaults: dict[str, Any] = {_attribute(name): True for name in features}
    own = {"vendor": model.vendor, "family": model.family, "model": model.model, "stepping": model.stepping,
           "level": model.level, "xlevel": model.xlevel, "model_id": model.brand}  # fmt: skip
    if model.features is not None:
        defaults |= {name: value for name, value in own.items() if value is not None}
    return TypeInfo(
        name=f"{model.name}-x86_64-cpu",
        parent="x86_64-cpu",
        class_init=_class_init,
        class_data=model,
        attributes=defaults,
        desc=model.desc,
    )


@hookimpl
def qom_types() -> Iterable[TypeInfo]:
    """The models."""
    return [_record(model) for model in MODELS.values()]
