"""The CPUID leaves of one virtual processor, from who it is, what it announces, where it sits, and what the accelerator has.

Modelled: identity and feature bits (1, 7, 80000001h and the rest of plugins/cpu/features.py), topology (1, 4, 0Bh,
80000008h, 8000001Dh, 8000001Eh), caches (2, 4, 80000005h, 80000006h: one set for all models), extended state (0Dh) as far
as the features go, the brand string, address widths.  The hypervisor's own leaves, MONITOR's (5) and the TSC's (15h, 16h)
are passed on as the accelerator gives them.
Not modelled: performance monitoring (0Ah), resource control, tracing, enclaves: those leaves are zero.

Sources: Intel SDM Vol. 2A, CPUID; AMD APM Vol. 3, appendix E.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from plugins.cpu.features import AMD_COPIES, FEATURES, Feature
from plugins.cpu.models import AMD, CpuModel
from qom import records

__all__ = ["CpuidEntry", "Identity", "Topology", "build_cpuid", "offered_features", "with_tsc_frequency"]

SIGNIFICANT_INDEX = 1  # KVM_CPUID_FLAG_SIGNIFCANT_INDEX
HYPERVISOR_LEAVES = range(0x40000000, 0x40010000)
TSC_LEAF = 0x15
PASSED_ON = (5, TSC_LEAF, 0x16)
ANNOUNCED_BY_TOPOLOGY = frozenset(("ht", "cmp-legacy", "topoext"))


@records.frozen(order=True)
class CpuidEntry:
    """One leaf, as `struct kvm_cpuid_entry2` has it."""

    function: int
    index: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


Table = Mapping[tuple[int, int], CpuidEntry]


@records.frozen
class Topology:
    """Where a vCPU sits: APIC id and how many threads and cores share a package."""

    apic_id: int
    cores: int
    threads: int

    @property
    def per_package(self) -> int:
        """Logical processors of a package."""
        return self.cores * self.threads

    @property
    def thread_bits(self) -> int:
        """Bits of the APIC id that tell the threads of a core apart."""
        return (self.threads - 1).bit_length()

    @property
    def package_bits(self) -> int:
        """Bits of the APIC id below those of the package."""
        return self.thread_bits + (self.cores - 1).bit_length()


@records.frozen
class Identity:
    """What a processor says of itself beside its features; fields as `CpuModel` has them, phys_bits the address width."""

    vendor: str
    family: int
    model: int
    stepping: int
    level: int
    xlevel: int
    brand: str
    phys_bits: int

    @property
    def signature(self) -> int:
        """EAX of leaf 1."""
        family, extended = (self.family, 0) if self.family < 15 else (15, self.family - 15)
        return self.stepping & 0xF | (self.model & 0xF) << 4 | family << 8 | (self.model >> 4) << 16 | extended << 20

    @classmethod
    def of(cls, of: CpuModel, features: Collection[str], supported: Sequence[CpuidEntry], **own: Any) -> Identity:
        """That of the model `of`, the accelerator's where the model leaves it open, and `own` where somebody said otherwise.

        The highest leaves are at least those that the features need.
        """
        table = _table(supported)
        zero = CpuidEntry(0, 0, 0, 0, 0, 0, 0)
        first, version = table.get((0, 0), zero), table.get((1, 0), zero).eax
        family = version >> 8 & 0xF
        theirs: dict[str, Any] = {
            "vendor": struct.pack("<3I", first.ebx, first.edx, first.ecx).decode("latin-1"),
            "family": family + (version >> 20 & 0xFF) if family == 15 else family,
            "model": version >> 4 & 0xF | (version >> 16 & 0xF) << 4,
            "stepping": version & 0xF,
            "level": first.eax,
            "xlevel": table.get((0x80000000, 0), zero).eax,
            "brand": b"".join(
                struct.pack("<4I", *records.astuple(table.get((0x80000002 + n, 0), zero))[3:]) for n in range(3)
            ).decode("latin-1").rstrip("\0"),
            "phys_bits": (table.get((0x80000008, 0), zero).eax & 0xFF) or 36,
        }  # fmt: skip
        named = {
            name: value
            for name, value in records.asdict(of).items()
            if name in theirs and value is not None and of.features is not None
        }
        leaves = {FEATURES[name].function for name in features}
        if "xsave" in features:
            leaves.add(0xD)
        if "topoext" in features:
            leaves.add(0x8000001E)
        level, xlevel = (named.get(name, theirs[name]) for name in ("level", "xlevel"))
        named["level"] = max(level, *(leaf for leaf in leaves if leaf < 0x40000000), 0)
        named["xlevel"] = max(xlevel, *(leaf for leaf in leaves if leaf >= 0x80000000), 0)
        return cls(**{**theirs, **named, **own})


def _table(entries: Iterable[CpuidEntry]) -> Table:
    return {(entry.function, entry.index): entry for entry in entries}


def _has(table: Table, feature: Feature) -> bool:
    entry = table.get((feature.function, feature.index))
    return entry is not None and bool(getattr(entry, feature.register) >> feature.bit & 1)


def offered_features(supported: Iterable[CpuidEntry]) -> frozenset[str]:
    """The features that an accelerator with these leaves can give."""
    table = _table(supported)
    return ANNOUNCED_BY_TOPOLOGY | {name for name, feature in FEATURES.items() if _has(table, feature)}


def with_tsc_frequency(supported: Iterable[CpuidEntry], hertz: int) -> list[CpuidEntry]:
    """The leaves of an accelerator whose TSC was given another frequency.

    Leaf 15h keeps the crystal, which is also the clock of the local APIC's timer, and has another ratio; where it does
    not tell the crystal it tells nothing.
    """

    from fractions import Fraction  # with decimal behind it; only a clock that is known needs it

    def changed(entry: CpuidEntry) -> CpuidEntry:
        if entry.function != TSC_LEAF:
            return entry
        ratio = Fraction(hertz, entry.ecx) if entry.ecx else None
        if ratio is None or max(ratio.numerator, ratio.denominator) >> 32:
            return records.evolve(entry, eax=0, ebx=0, ecx=0, edx=0)
        return records.evolve(entry, eax=ratio.denominator, ebx=ratio.numerator)

    return [changed(entry) for entry in supported]


def build_cpuid(
    identity: Identity, features: Collection[str], supported: Sequence[CpuidEntry], topology: Topology
) -> list[CpuidEntry]:
    """The leaves of one vCPU.

    Args:
        identity: who it is.
        features: what it announces; only what the accelerator offers.
        supported: what the accelerator offers, one entry a leaf and sub-leaf.
        topology: this vCPU's place.

    Returns:
        Entries for KVM_SET_CPUID2, ordered by leaf.
    """
    return _Builder(identity, features, supported, topology).build()


@records.frozen
class _Cache:
    level: int
    kind: int  # 1 data, 2 instructions, 3 both
    size: int  # bytes
    ways: int

    @property
    def sets(self) -> int:
        return self.size // (self.ways * LINE)


LINE = 64  # bytes of a cache line
L1D, L1I, L2, L3 = (
    _Cache(1, 1, 32 << 10, 8),
    _Cache(1, 2, 32 << 10, 8),
    _Cache(2, 3, 512 << 10, 8),
    _Cache(3, 3, 16 << 20, 16),
)
AMD_WAYS = {8: 6, 16: 8}  # the code of leaf 80000006h
SEE_LEAF_4, PREFETCH_64 = 0xFF, 0xF0  # descriptors of leaf 2

# Components of the extended state beyond x87 and SSE, by the feature that has them
STATE = {"avx": 0b100, "mpx": 0b11000, "avx512f": 0b11100000, "pku": 1 << 9}
LEGACY_STATE, LEGACY_AND_HEADER = 0b11, 576


class _Builder:
    def __init__(
        self, identity: Identity, features: Collection[str], supported: Sequence[CpuidEntry], topology: Topology
    ) -> None:
        self.identity, self.features, self.topology = identity, features, topology
        self.supported = sorted(supported)
        self.table = _table(supported)
        self.masks: dict[tuple[int, int, str], int] = {}
        for name in features:
            self._announce(FEATURES[name])
        self.amd = identity.vendor == AMD
        if topology.per_package > 1:
            self._announce(FEATURES["ht"])
            if self.amd:
                self._announce(FEATURES["cmp-legacy"])
        if self.amd:
            for name in AMD_COPIES:
                if name in features:
                    self._announce(records.evolve(FEATURES[name], function=0x80000001))
        self.leaves: list[CpuidEntry] = []

    def _announce(self, feature: Feature) -> None:
        key = (feature.function, feature.index, feature.register)
        self.masks[key] = self.masks.get(key, 0) | 1 << feature.bit

    def build(self) -> list[CpuidEntry]:
        last, xlast = self.identity.level, self.identity.xlevel
        vendor = dict(zip(("ebx", "edx", "ecx"), struct.unpack("<3I", _text(self.identity.vendor, 12)), strict=True))
        self._leaf(0, eax=last, **vendor)
        self._version()
        if not self.amd:
            self._leaf(2, eax=1 | SEE_LEAF_4 << 8 | PREFETCH_64 << 16)
        self._caches(4)
        self._leaf(6, **self._bits(6))
        self._leaf(7, 0, eax=1 if self._bits(7, 1) else 0, **self._bits(7))
        if self._bits(7, 1):
            self._leaf(7, 1, **self._bits(7, 1))
        self._places()
        if "xsave" in self.features:
            self._extended_state()
        for entry in self.supported:
            if entry.function in PASSED_ON and (entry.function != 5 or "monitor" in self.features):
                self.leaves.append(entry)
            if entry.function in HYPERVISOR_LEAVES and "hypervisor" in self.features:
                self.leaves.append(entry)
        if xlast >= 0x80000000:
            self._leaf(0x80000000, eax=xlast, **vendor)
            self._leaf(0x80000001, eax=self.identity.signature, **self._bits(0x80000001))
            for n, part in enumerate(struct.iter_unpack("<4I", _text(self.identity.brand, 48))):
                self._leaf(0x80000002 + n, eax=part[0], ebx=part[1], ecx=part[2], edx=part[3])
            self._amd_caches()
            self._leaf(0x80000007, **self._bits(0x80000007))
            self._widths()
        if "topoext" in self.features:
            self._caches(0x8000001D)
            self._amd_place()
        return sorted(
            entry
            for entry in self.leaves
            if entry.function <= last or entry.function in HYPERVISOR_LEAVES or 0x80000000 <= entry.function <= xlast
        )

    def _leaf(
        self, function: int, index: int | None = None, *, eax: int = 0, ebx: int = 0, ecx: int = 0, edx: int = 0
    ) -> None:
        flags = 0 if index is None else SIGNIFICANT_INDEX
        self.leaves.append(CpuidEntry(function, index or 0, flags, eax, ebx, ecx, edx))

    def _bits(self, function: int, index: int = 0) -> dict[str, int]:
        """The features of one leaf, by register."""
        return {register: mask for (f, i, register), mask in self.masks.items() if (f, i) == (function, index)}

    def _version(self) -> None:
        CLFLUSH_LINE = LINE // 8 << 8
        ebx = (self.topology.apic_id & 0xFF) << 24 | (self.topology.per_package & 0xFF) << 16 | CLFLUSH_LINE
        self._leaf(1, eax=self.identity.signature, ebx=ebx, **self._bits(1))

    def _caches(self, function: int) -> None:
        """Leaves 4 and 8000001Dh, the same but for the count of cores, which AMD's has not."""
        SELF_INITIALIZING, INCLUSIVE = 1 << 8, 1 << 1
        place = self.topology
        cores = (1 << place.package_bits - place.thread_bits) - 1 if function == 4 else 0
        for index, cache in enumerate((L1D, L1I, L2, L3)):
            sharing = 1 << (place.package_bits if cache is L3 else place.thread_bits)
            eax = cache.kind | cache.level << 5 | SELF_INITIALIZING | (sharing - 1) << 14 | cores << 26
            ebx = LINE - 1 | (cache.ways - 1) << 22
            self._leaf(function, index, eax=eax, ebx=ebx, ecx=cache.sets - 1, edx=INCLUSIVE if cache is L3 else 0)
        self._leaf(function, 4)

    def _places(self) -> None:
        """Leaf 0Bh: level 0 is the thread, level 1 the core."""
        THREAD, CORE = 1 << 8, 2 << 8
        place = self.topology
        self._leaf(0xB, 0, eax=place.thread_bits, ebx=place.threads, ecx=THREAD, edx=place.apic_id)
        self._leaf(0xB, 1, eax=place.package_bits, ebx=place.per_package, ecx=CORE | 1, edx=place.apic_id)
        self._leaf(0xB, 2, ecx=2, edx=place.apic_id)

    def _extended_state(self) -> None:
        """Leaf 0Dh.  EBX of sub-leaf 0 depends on XCR0 of the moment; the accelerator puts it in."""
        first = self.table.get((0xD, 0))
        if first is None:
            return
        wanted = LEGACY_STATE
        for name, components in STATE.items():
            wanted |= components if name in self.features else 0
        mask = wanted & (first.eax | first.edx << 32)
        parts = [(n, part) for n in range(2, 63) if mask >> n & 1 and (part := self.table.get((0xD, n))) is not None]
        size = max((part.ebx + part.eax for _, part in parts), default=LEGACY_AND_HEADER)
        self._leaf(0xD, 0, eax=mask & 0xFFFFFFFF, ebx=size, ecx=size, edx=mask >> 32)
        bits = self._bits(0xD, 1)
        compact = LEGACY_AND_HEADER + sum(part.eax for _, part in parts)
        self._leaf(0xD, 1, ebx=compact if bits.get("eax", 0) & 1 << FEATURES["xsavec"].bit else 0, **bits)
        for n, part in parts:
            self._leaf(0xD, n, eax=part.eax, ebx=part.ebx, ecx=part.ecx)

    def _amd_caches(self) -> None:
        """Leaf 80000005h for AMD, 80000006h for both (Intel has the L2 cache there)."""

        def first_level(cache: _Cache) -> int:
            return cache.size >> 10 << 24 | cache.ways << 16 | 1 << 8 | LINE

        if self.amd:
            self._leaf(0x80000005, ecx=first_level(L1D), edx=first_level(L1I))
        l2 = L2.size >> 10 << 16 | AMD_WAYS[L2.ways] << 12 | (1 << 8 if self.amd else 0) | LINE
        l3 = L3.size >> 19 << 18 | AMD_WAYS[L3.ways] << 12 | 1 << 8 | LINE
        self._leaf(0x80000006, ecx=l2, edx=l3 if self.amd else 0)

    def _widths(self) -> None:
        """Leaf 80000008h: address widths, and with AMD the threads of the package."""
        place = self.topology
        linear = 57 if "la57" in self.features else 48 if "lm" in self.features else 32
        ecx = place.per_package - 1 | place.package_bits << 12 if self.amd else 0
        self._leaf(0x80000008, eax=self.identity.phys_bits | linear << 8, ecx=ecx, **self._bits(0x80000008))

    def _amd_place(self) -> None:
        """Leaf 8000001Eh: APIC id, core and node."""
        place = self.topology
        core = place.apic_id >> place.thread_bits & (1 << place.package_bits - place.thread_bits) - 1
        node = place.apic_id >> place.package_bits
        self._leaf(0x8000001E, None, eax=place.apic_id, ebx=core | (place.threads - 1) << 8, ecx=node)


def _text(value: str, size: int) -> bytes:
    return value.encode("latin-1")[:size].ljust(size, b"\0")
