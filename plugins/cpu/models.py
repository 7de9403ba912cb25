"""Processor models as tables: what each announces, and how it identifies itself.

A generation is written as what it adds to the one before.  Listed are the features that a virtual processor of that model
shows: without what belongs to power management, performance counters, tracing and virtualization itself.

Sources: Intel SDM Vol. 2A, CPUID, and Vol. 4, table 2-1 (families and models); AMD revision guides of families 0Fh, 10h
and 17h; QEMU's documentation "QEMU / KVM CPU model configuration" for the names.
Not modelled: caches and TLBs of the models, which all have those of plugins/cpu/cpuid.py; microcode revisions.
"""

from collections.abc import Mapping
from typing import Final

from qom import records

__all__ = ["MODELS", "CpuModel"]

INTEL, AMD = "GenuineIntel", "AuthenticAMD"


@records.frozen(kw_only=True)
class CpuModel:
    """A processor model.

    Attributes:
        name: what `-cpu` takes.
        vendor: twelve characters of leaf 0; None: the accelerator's own, and so for all that identifies it.
        family, model, stepping: as leaf 1 counts them, extended fields included.
        level, xlevel: the highest basic and extended leaf.
        features: names from `FEATURES`; None for everything the accelerator offers.
        optional: of these, the ones whose absence is not worth a word.
        brand: up to 48 characters of leaves 80000002h-80000004h.
        desc: one line for lists.
    """

    name: str
    desc: str
    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    level: int = 0
    xlevel: int = 0
    features: frozenset[str] | None = None
    optional: frozenset[str] = frozenset()
    brand: str | None = None
    native: bool = False


def _words(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


# Generations, by what they add

_586 = _words("fpu de pse tsc msr mce cx8 mmx")
_686 = _586 | _words("pae sep pge cmov pat fxsr apic mtrr mca pse36")
_SSE2 = _686 | _words("sse sse2 clflush")
_X86_64 = _SSE2 | _words("syscall nx lm")

_CONROE = _X86_64 | _words("pni ssse3 lahf-lm")
_PENRYN = _CONROE | _words("cx16 sse4.1")
_NEHALEM = _PENRYN | _words("sse4.2 popcnt")
_WESTMERE = _NEHALEM | _words("aes pclmulqdq arat")
_SANDY_BRIDGE = _WESTMERE | _words("avx xsave xsaveopt x2apic tsc-deadline rdtscp")
_IVY_BRIDGE = _SANDY_BRIDGE | _words("f16c rdrand fsgsbase smep erms")
_HASWELL = _IVY_BRIDGE | _words("avx2 bmi1 bmi2 fma movbe abm invpcid pcid")
_BROADWELL = _HASWELL | _words("rdseed adx smap 3dnowprefetch")
_SKYLAKE = _BROADWELL | _words("clflushopt xsavec xgetbv1")
_TSX = _words("hle rtm")

_OPTERON_G1 = _X86_64 | _words("pni")
_OPTERON_G2 = _OPTERON_G1 | _words("cx16 lahf-lm")
_OPTERON_G3 = _OPTERON_G2 | _words("popcnt abm sse4a misalignsse rdtscp")
_ZEN = _OPTERON_G3 | _words(
    "ssse3 sse4.1 sse4.2 aes pclmulqdq sha-ni avx avx2 fma f16c movbe bmi1 bmi2 rdrand rdseed adx fsgsbase smep smap",
    "xsave xsaveopt xsavec xgetbv1 clflushopt pdpe1gb mmxext fxsr-opt cr8legacy osvw 3dnowprefetch topoext arat",
)
_ZEN2 = _ZEN | _words("clwb umip rdpid wbnoinvd clzero xsaveerptr ibpb amd-stibp")

_OPTIONAL = _words("hypervisor invtsc tsc-adjust")
_REAL = _OPTIONAL | _words("vme")  # what silicon has and no guest of today asks for


def _real(name: str, vendor: str, signature: tuple[int, int, int], level: int, features: frozenset[str], brand: str,
          desc: str) -> CpuModel:  # fmt: skip
    family, model, stepping = signature
    return CpuModel(
        name=name, desc=desc, vendor=vendor, family=family, model=model, stepping=stepping, level=level,
        xlevel=0x80000008 if vendor == INTEL or level < 13 else 0x8000001E, features=features | _REAL, optional=_REAL,
        brand=brand,
    )  # fmt: skip


MODELS: Final[Mapping[str, CpuModel]] = {
    model.name: model
    for model in (
        CpuModel(name="qemu64", vendor=AMD, family=15, model=107, stepping=1, level=0xD, xlevel=0x8000000A,
                 features=_X86_64 | _OPTIONAL | _words("pni cx16 lahf-lm"), optional=_OPTIONAL, brand="qom Virtual CPU",
                 desc="x86-64 with SSE3, what every accelerator should have (QEMU's default)"),
        CpuModel(name="qemu32", vendor=INTEL, family=6, model=6, stepping=3, level=4, xlevel=0x80000004,
                 features=_686 - {"mtrr", "mca", "pse36"} | _OPTIONAL | _words("sse sse2 pni"), optional=_OPTIONAL,
                 brand="qom Virtual CPU", desc="i686-class processor with SSE3"),
        CpuModel(name="kvm64", vendor=INTEL, family=15, model=6, stepping=1, level=0xD, xlevel=0x80000008,
                 features=_X86_64 | _REAL | _words("pni cx16"), optional=_REAL, brand="Common KVM processor",
                 desc="x86-64 with SSE3, what KVM has on every host"),
        CpuModel(name="kvm32", vendor=INTEL, family=15, model=6, stepping=1, level=5, xlevel=0x80000008,
                 features=_SSE2 | _REAL | _words("pni"), optional=_REAL, brand="Common 32-bit KVM processor",
                 desc="32-bit processor with SSE3, what KVM has on every host"),
        CpuModel(name="max", desc="Everything the accelerator can execute"),
        CpuModel(name="host", native=True, desc="The host's own processor, as far as KVM gives it"),
        CpuModel(name="486", vendor=INTEL, family=4, model=8, stepping=0, level=1, features=_words("fpu pse vme"),
                 optional=_words("vme"), brand="", desc="Intel 80486DX4"),
        CpuModel(name="pentium", vendor=INTEL, family=5, model=4, stepping=3, level=1, features=_586 | {"vme"},
                 optional=_words("vme"), brand="", desc="Intel Pentium with MMX"),
        CpuModel(name="pentium3", vendor=INTEL, family=6, model=8, stepping=6, level=3,
                 features=_686 | _words("sse vme"), optional=_words("vme"), brand="", desc="Intel Pentium III"),
        _real("Conroe", INTEL, (6, 15, 3), 10, _CONROE, "Intel Celeron 4x0 (Conroe)", "Intel Core 2, 65 nm (2006)"),
        _real("Penryn", INTEL, (6, 23, 3), 10, _PENRYN, "Intel Core 2 Duo P9xxx (Penryn)", "Intel Core 2, 45 nm (2007)"),
        _real("Nehalem", INTEL, (6, 26, 3), 11, _NEHALEM, "Intel Core i7 9xx (Nehalem)", "Intel Nehalem (2008)"),
        _real("Westmere", INTEL, (6, 44, 1), 11, _WESTMERE, "Intel Xeon E56xx (Westmere)", "Intel Westmere (2010)"),
        _real("SandyBridge", INTEL, (6, 42, 1), 13, _SANDY_BRIDGE, "Intel Xeon E312xx (Sandy Bridge)",
              "Intel Sandy Bridge (2011)"),
        _real("IvyBridge", INTEL, (6, 58, 9), 13, _IVY_BRIDGE, "Intel Xeon E3-12xx v2 (Ivy Bridge)",
              "Intel Ivy Bridge (2012)"),
        _real("Haswell", INTEL, (6, 60, 4), 13, _HASWELL | _TSX, "Intel Core Processor (Haswell)",
              "Intel Haswell, with TSX (2013)"),
        _real("Haswell-noTSX", INTEL, (6, 60, 1), 13, _HASWELL, "Intel Core Processor (Haswell, no TSX)",
              "Intel Haswell, TSX off (2013)"),
        _real("Broadwell", INTEL, (6, 61, 2), 13, _BROADWELL | _TSX, "Intel Core Processor (Broadwell)",
              "Intel Broadwell, with TSX (2014)"),
        _real("Broadwell-noTSX", INTEL, (6, 61, 2), 13, _BROADWELL, "Intel Core Processor (Broadwell, no TSX)",
              "Intel Broadwell, TSX off (2014)"),
        _real("Skylake-Client", INTEL, (6, 94, 3), 13, _SKYLAKE | _TSX, "Intel Core Processor (Skylake)",
              "Intel Skylake client, with TSX (2015)"),
        _real("Skylake-Client-noTSX", INTEL, (6, 94, 3), 13, _SKYLAKE, "Intel Core Processor (Skylake, no TSX)",
              "Intel Skylake client, TSX off (2015)"),
        _real("Opteron_G1", AMD, (15, 6, 1), 5, _OPTERON_G1, "AMD Opteron 240 (Gen 1)", "AMD Opteron, K8 (2003)"),
        _real("Opteron_G2", AMD, (15, 6, 1), 5, _OPTERON_G2, "AMD Opteron 22xx (Gen 2)", "AMD Opteron, K8 rev. F (2006)"),
        _real("Opteron_G3", AMD, (16, 2, 3), 5, _OPTERON_G3, "AMD Opteron 23xx (Gen 3)", "AMD Opteron, K10 (2007)"),
        _real("EPYC", AMD, (23, 1, 2), 13, _ZEN, "AMD EPYC Processor", "AMD EPYC, Zen (2017)"),
        _real("EPYC-Rome", AMD, (23, 49, 0), 13, _ZEN2, "AMD EPYC-Rome Processor", "AMD EPYC, Zen 2 (2019)"),
    )
}  # fmt: skip
