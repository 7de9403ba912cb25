"""CPUID of the processor models: feature names, models as tables, and the leaves a virtual CPU shows.

A model says what its processor announces; the accelerator says what it can execute (KVM_GET_SUPPORTED_CPUID, which
the simulated accelerator answers too).  A vCPU shows the intersection, and what was asked for by name but cannot be
given is reported.  Feature names are Linux's and QEMU's.

Sources: Intel SDM Vol. 2A, CPUID; AMD APM Vol. 3, appendix E.
Not modelled: cache (leaf 4) and extended state (leaf 0Dh) are passed through from the accelerator, not described by
the model.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import attrs

__all__ = ["FEATURES", "MODELS", "CpuModel", "CpuidEntry", "Topology", "build_cpuid", "missing_features"]

SIGNIFICANT_INDEX = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX


@attrs.frozen(order=True)
class CpuidEntry:
    """One leaf, as `struct kvm_cpuid_entry2` has it."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


@attrs.frozen
class Bit:
    """Where a feature lives."""

    function: int
    index: int
    register: str
    bit: int


def _bits(function: int, index: int, register: str, names: str) -> dict[str, Bit]:
    """Name the bits of a register from bit 0 up; a dash stands for a bit without a name."""
    return {name: Bit(function, index, register, n) for n, name in enumerate(names.split()) if name != "-"}


FEATURES: Mapping[str, Bit] = {
    **_bits(
        1, 0, "edx",
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov "
        "pat pse36 pn clflush - ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe",
    ),
    **_bits(
        1, 0, "ecx",
        "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm "
        "- pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave - avx f16c rdrand hypervisor",
    ),
    **_bits(
        7, 0, "ebx",
        "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - "
        "avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb - "
        "avx512pf avx512er avx512cd sha-ni avx512bw avx512vl",
    ),
    **_bits(7, 0, "ecx", "- - umip pku - - - - - vaes vpclmulqdq - - - - - la57 - - - - - rdpid"),
    **_bits(7, 0, "edx", "- - - - fsrm"),
    **_bits(
        0x80000001, 0, "edx",
        "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm 3dnowext 3dnow",
    ),
    **_bits(
        0x80000001, 0, "ecx",
        "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw",
    ),
}  # fmt: skip

_I686 = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 mmx fxsr"
_X86_64 = f"{_I686} clflush sse sse2 pni cx16 syscall nx lm"


@attrs.frozen
class CpuModel:
    """A processor model.

    Attributes:
        name: what `-cpu` takes.
        vendor: twelve characters of leaf 0.
        family, model, stepping: as leaf 1 counts them, extended fields included.
        level, xlevel: the highest basic and extended leaf.
        features: names from `FEATURES`; None for everything the accelerator offers.
        brand: up to 48 characters of leaves 80000002h-80000004h.
    """

    name: str
    vendor: str
    family: int
    model: int
    stepping: int
    level: int
    xlevel: int
    features: frozenset[str] | None
    brand: str
    desc: str

    def signature(self) -> int:
        """EAX of leaf 1."""
        family, ext_family = (self.family, 0) if self.family < 15 else (15, self.family - 15)
        return self.stepping & 0xF | (self.model & 0xF) << 4 | family << 8 | (self.model >> 4) << 16 | ext_family << 20


MODELS: Mapping[str, CpuModel] = {
    model.name: model
    for model in (
        CpuModel("qemu32", "GenuineIntel", 6, 6, 3, 4, 0x80000004, frozenset(f"{_I686} pni sse sse2 hypervisor".split()),
                 "qom Virtual CPU, 32-bit", "i686-class processor with SSE2 where the accelerator has it"),
        CpuModel("qemu64", "AuthenticAMD", 15, 107, 1, 0xD, 0x8000000A, frozenset(f"{_X86_64} lahf-lm hypervisor".split()),
                 "qom Virtual CPU", "x86-64 baseline where the accelerator has long mode"),
        CpuModel("max", "GenuineIntel", 6, 85, 7, 0x16, 0x80000008, None,
                 "qom Virtual CPU, all features", "Everything the accelerator can execute"),
    )
}  # fmt: skip


@attrs.frozen
class Topology:
    """Where a vCPU sits: APIC ID and how many threads and cores share a package."""

    apic_id: int
    cores: int
    threads: int


def wanted_features(model: CpuModel, changes: Mapping[str, bool], supported: Iterable[CpuidEntry]) -> frozenset[str]:
    """The features a vCPU should show before the accelerator's word on them.

    Args:
        model: the processor model.
        changes: feature name to True (`+name`) or False (`-name`).
        supported: the accelerator's leaves, used for a model without a list of its own.
    """
    base = model.features
    if base is None:
        table = {(e.function, e.index): e for e in supported}
        base = frozenset(name for name, bit in FEATURES.items() if _has(table, bit))
    added = frozenset(name for name, on in changes.items() if on)
    removed = frozenset(name for name, on in changes.items() if not on)
    return (base | added) - removed


def missing_features(model: CpuModel, changes: Mapping[str, bool], supported: Sequence[CpuidEntry]) -> list[str]:
    """Features that were asked for by name but that the accelerator cannot give, sorted."""
    table = {(e.function, e.index): e for e in supported}
    return sorted(name for name, on in changes.items() if on and not _has(table, FEATURES[name]))


def _has(table: Mapping[tuple[int, int], CpuidEntry], bit: Bit) -> bool:
    entry = table.get((bit.function, bit.index))
    return entry is not None and bool(getattr(entry, bit.register) >> bit.bit & 1)


def build_cpuid(
    model: CpuModel, changes: Mapping[str, bool], supported: Sequence[CpuidEntry], topology: Topology
) -> list[CpuidEntry]:
    """The leaves of one vCPU.

    Args:
        model: the processor model.
        changes: features to add (True) or remove (False) by name.
        supported: what the accelerator offers, one entry a leaf and sub-leaf.
        topology: this vCPU's place.

    Returns:
        Entries for KVM_SET_CPUID2, ordered by leaf.
    """
    wanted = wanted_features(model, changes, supported)
    masks: dict[tuple[int, int, str], int] = {}
    for name in wanted:
        bit = FEATURES[name]
        key = (bit.function, bit.index, bit.register)
        masks[key] = masks.get(key, 0) | 1 << bit.bit
    per_package = topology.cores * topology.threads
    vendor = struct.unpack("<3I", model.vendor.encode("ascii").ljust(12, b"\0"))
    brand = struct.unpack("<12I", model.brand.encode("ascii").ljust(48, b"\0"))
    leaves: list[CpuidEntry] = []
    for entry in sorted(supported):
        function, index = entry.function, entry.index
        if model.level < function < 0x40000000 or function > max(model.xlevel, 0x80000000):
            continue
        if 0x40000000 <= function < 0x80000000:
            leaves.append(entry)  # the hypervisor's own leaves
            continue
        e = entry
        if function in (1, 7, 0x80000001):
            e = attrs.evolve(
                e,
                ebx=e.ebx & masks.get((function, index, "ebx"), 0),
                ecx=e.ecx & masks.get((function, index, "ecx"), 0),
                edx=e.edx & masks.get((function, index, "edx"), 0),
            )
        if function == 0:
            e = attrs.evolve(e, eax=min(e.eax, model.level), ebx=vendor[0], edx=vendor[1], ecx=vendor[2])
        elif function == 1:
            e = _leaf_1(e, model, topology, per_package)
        elif function == 7 and index == 0:
            e = attrs.evolve(e, eax=0)
        elif function == 0xB:
            e = _leaf_topology(e, topology, per_package)
        elif function == 0x80000000:
            e = attrs.evolve(e, eax=min(e.eax, model.xlevel), ebx=vendor[0], edx=vendor[1], ecx=vendor[2])
        elif 0x80000002 <= function <= 0x80000004:
            part = brand[(function - 0x80000002) * 4 :][:4]
            e = attrs.evolve(e, eax=part[0], ebx=part[1], ecx=part[2], edx=part[3])
        leaves.append(e)
    return leaves


def _leaf_1(entry: CpuidEntry, model: CpuModel, topology: Topology, per_package: int) -> CpuidEntry:
    CLFLUSH_LINE = 8 << 8  # 64 bytes, in units of eight
    HTT = 1 << 28
    ebx = topology.apic_id << 24 & 0xFF000000 | (per_package & 0xFF) << 16 | CLFLUSH_LINE
    edx = entry.edx | HTT if per_package > 1 else entry.edx & ~HTT
    return attrs.evolve(entry, eax=model.signature(), ebx=ebx, edx=edx)


def _leaf_topology(entry: CpuidEntry, topology: Topology, per_package: int) -> CpuidEntry:
    """Leaf 0Bh: level 0 is the thread, level 1 the core (SDM Vol. 2A, CPUID, "Extended Topology Enumeration")."""
    THREAD, CORE = 1 << 8, 2 << 8
    thread_bits = (topology.threads - 1).bit_length()
    core_bits = thread_bits + (topology.cores - 1).bit_length()
    if entry.index == 0:
        return attrs.evolve(entry, eax=thread_bits, ebx=topology.threads, ecx=THREAD, edx=topology.apic_id)
    if entry.index == 1:
        return attrs.evolve(entry, eax=core_bits, ebx=per_package, ecx=CORE | 1, edx=topology.apic_id)
    return attrs.evolve(entry, eax=0, ebx=0, ecx=entry.index, edx=topology.apic_id)
