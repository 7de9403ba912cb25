"""CPUID features by name: where each one's bit is, what it means, and which others it cannot be without.

Names are QEMU's (and Linux's where QEMU has none); ALIASES has their other spellings.  This table is the only place that
says where a feature is announced.

Sources: Intel SDM Vol. 2A, CPUID; AMD APM Vol. 3, appendix E.
Not named: what needs an SGX, MPX, AMX or performance-monitoring unit, and features of secure virtualization.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from qom import records

__all__ = ["ALIASES", "AMD_COPIES", "FEATURES", "NEEDS", "Feature", "unmet"]


@records.frozen
class Feature:
    """One feature: leaf, sub-leaf, register ("eax" .. "edx") and bit of CPUID, and what the bit says."""

    name: str
    function: int
    index: int
    register: str
    bit: int
    desc: str

    @property
    def place(self) -> str:
        """As the manuals write it: CPUID.07H.0:EBX[bit 5]."""
        sub = f".{self.index}" if self.function in (7, 0xD) else ""
        return f"CPUID.{self.function:02X}H{sub}:{self.register.upper()}[bit {self.bit}]"


_TABLE: Final = (
    (1, 0, "edx", """
     0 fpu: x87 floating-point unit
     1 vme: Virtual-8086 mode enhancements
     2 de: Debugging extensions (breakpoints on ports)
     3 pse: 4 MiB pages
     4 tsc: Time-stamp counter
     5 msr: RDMSR and WRMSR
     6 pae: Physical addresses of more than 32 bits
     7 mce: Machine-check exception
     8 cx8: CMPXCHG8B
     9 apic: Local APIC
    11 sep: SYSENTER and SYSEXIT
    12 mtrr: Memory-type range registers
    13 pge: Global pages
    14 mca: Machine-check architecture
    15 cmov: Conditional moves
    16 pat: Page-attribute table
    17 pse36: 4 MiB pages above 4 GiB
    18 pn: Processor serial number
    19 clflush: CLFLUSH
    21 ds: Debug store
    22 acpi: Thermal monitor and clock control
    23 mmx: MMX
    24 fxsr: FXSAVE and FXRSTOR
    25 sse: SSE
    26 sse2: SSE2
    27 ss: Self snoop
    28 ht: More than one logical processor in the package; also set by the topology
    29 tm: Thermal monitor
    30 ia64: IA-64 processor emulating x86
    31 pbe: Pending break enable
    """),
    (1, 0, "ecx", """
     0 pni: SSE3
     1 pclmulqdq: Carry-less multiplication
     2 dtes64: 64-bit debug store
     3 monitor: MONITOR and MWAIT
     4 ds-cpl: Debug store qualified by privilege level
     5 vmx: Virtual-machine extensions (Intel)
     6 smx: Safer-mode extensions
     7 est: Enhanced SpeedStep
     8 tm2: Thermal monitor 2
     9 ssse3: SSSE3
    10 cid: L1 context id
    12 fma: Fused multiply-add, three operands
    13 cx16: CMPXCHG16B
    14 xtpr: Task-priority messages can be switched off
    15 pdcm: Performance and debug capability MSR
    17 pcid: Process-context identifiers
    18 dca: Direct cache access
    19 sse4.1: SSE4.1
    20 sse4.2: SSE4.2
    21 x2apic: x2APIC
    22 movbe: MOVBE
    23 popcnt: POPCNT
    24 tsc-deadline: TSC-deadline mode of the local APIC timer
    25 aes: AES instructions
    26 xsave: XSAVE family and extended control registers
    28 avx: AVX
    29 f16c: Conversion to and from half precision
    30 rdrand: RDRAND
    31 hypervisor: A hypervisor is present
    """),
    (6, 0, "eax", """
     2 arat: The local APIC timer runs in every sleep state
    """),
    (7, 0, "ebx", """
     0 fsgsbase: RDFSBASE and its kin
     1 tsc-adjust: TSC adjustment MSR
     3 bmi1: Bit manipulation 1
     4 hle: Hardware lock elision
     5 avx2: AVX2
     7 smep: Supervisor-mode execution prevention
     8 bmi2: Bit manipulation 2
     9 erms: Enhanced REP MOVSB and STOSB
    10 invpcid: INVPCID
    11 rtm: Restricted transactional memory
    14 mpx: Memory-protection extensions
    16 avx512f: AVX-512 foundation
    17 avx512dq: AVX-512 on doublewords and quadwords
    18 rdseed: RDSEED
    19 adx: ADCX and ADOX
    20 smap: Supervisor-mode access prevention
    21 avx512ifma: AVX-512 integer fused multiply-add
    23 clflushopt: CLFLUSHOPT
    24 clwb: CLWB
    26 avx512pf: AVX-512 prefetch
    27 avx512er: AVX-512 exponential and reciprocal
    28 avx512cd: AVX-512 conflict detection
    29 sha-ni: SHA instructions
    30 avx512bw: AVX-512 on bytes and words
    31 avx512vl: AVX-512 on shorter vectors
    """),
    (7, 0, "ecx", """
     1 avx512vbmi: AVX-512 byte manipulation
     2 umip: User-mode instruction prevention
     3 pku: Protection keys for user pages
     5 waitpkg: TPAUSE, UMONITOR and UMWAIT
     6 avx512vbmi2: AVX-512 byte manipulation 2
     8 gfni: Galois-field instructions
     9 vaes: AES instructions on AVX vectors
    10 vpclmulqdq: Carry-less multiplication on AVX vectors
    11 avx512vnni: AVX-512 neural-network instructions
    12 avx512bitalg: AVX-512 bit algorithms
    14 avx512-vpopcntdq: AVX-512 population count
    16 la57: Five-level paging
    22 rdpid: RDPID
    24 bus-lock-detect: Bus-lock debug exceptions
    25 cldemote: CLDEMOTE
    27 movdiri: MOVDIRI
    28 movdir64b: MOVDIR64B
    31 pks: Protection keys for supervisor pages
    """),
    (7, 0, "edx", """
     4 fsrm: Fast short REP MOVSB
    10 md-clear: VERW clears processor buffers
    14 serialize: SERIALIZE
    26 spec-ctrl: Indirect-branch restricted speculation and barrier
    27 stibp: Single-thread indirect-branch predictors
    28 flush-l1d: L1 data cache flush command
    29 arch-capabilities: Architecture-capabilities MSR
    31 ssbd: Speculative store bypass disable
    """),
    (7, 1, "eax", """
     4 avx-vnni: Neural-network instructions on AVX vectors
     5 avx512-bf16: AVX-512 brain-float instructions
    """),
    (0xD, 1, "eax", """
     0 xsaveopt: XSAVEOPT
     1 xsavec: XSAVEC
     2 xgetbv1: XGETBV of the state in use
     3 xsaves: XSAVES and XRSTORS
    """),
    (0x80000001, 0, "edx", """
    11 syscall: SYSCALL and SYSRET
    19 mp: Multiprocessing capable
    20 nx: No-execute pages
    22 mmxext: AMD's extensions of MMX
    25 fxsr-opt: Faster FXSAVE and FXRSTOR
    26 pdpe1gb: 1 GiB pages
    27 rdtscp: RDTSCP
    29 lm: Long mode (64-bit)
    30 3dnowext: Extensions of 3DNow!
    31 3dnow: 3DNow!
    """),
    (0x80000001, 0, "ecx", """
     0 lahf-lm: LAHF and SAHF in 64-bit mode
     1 cmp-legacy: Logical processors of the package are cores; also set by the topology
     2 svm: Virtual-machine extensions (AMD)
     3 extapic: Extended APIC space
     4 cr8legacy: CR8 in 32-bit mode
     5 abm: LZCNT, and POPCNT with AMD
     6 sse4a: SSE4a
     7 misalignsse: Misaligned SSE mode
     8 3dnowprefetch: PREFETCH and PREFETCHW
     9 osvw: OS-visible workarounds
    10 ibs: Instruction-based sampling
    11 xop: Extended operations (AMD)
    12 skinit: SKINIT and STGI
    13 wdt: Watchdog timer
    15 lwp: Light-weight profiling
    16 fma4: Fused multiply-add, four operands
    17 tce: Translation-cache extension
    19 nodeid-msr: Node-id MSR
    21 tbm: Trailing-bit manipulation
    22 topoext: Topology extensions
    23 perfctr-core: Core performance-counter extensions
    24 perfctr-nb: Northbridge performance-counter extensions
    """),
    (0x80000007, 0, "edx", """
     8 invtsc: The TSC runs at one rate in every state
    """),
    (0x80000008, 0, "ebx", """
     0 clzero: CLZERO
     2 xsaveerptr: XSAVE always saves the error pointers
     4 rdpru: RDPRU
     9 wbnoinvd: WBNOINVD
    12 ibpb: Indirect-branch prediction barrier (AMD)
    14 ibrs: Indirect-branch restricted speculation (AMD)
    15 amd-stibp: Single-thread indirect-branch predictors (AMD)
    24 amd-ssbd: Speculative store bypass disable (AMD)
    25 virt-ssbd: Speculative store bypass disable for guests
    26 amd-no-ssb: No speculative store bypass
    """),
)  # fmt: skip


def _features() -> Iterable[Feature]:
    for function, index, register, lines in _TABLE:
        for line in lines.strip().splitlines():
            head, _, desc = line.partition(": ")
            bit, name = head.split()
            yield Feature(name, function, index, register, int(bit), desc)


FEATURES: Final[Mapping[str, Feature]] = {feature.name: feature for feature in _features()}

ALIASES: Final[Mapping[str, str]] = {
    "sse3": "pni",
    "sse4-1": "sse4.1",
    "sse4-2": "sse4.2",
    "pclmuldq": "pclmulqdq",
    "xd": "nx",
    "i64": "lm",
    "ffxsr": "fxsr-opt",
}

AMD_COPIES: Final = tuple(
    name
    for name, feature in FEATURES.items()
    if (feature.function, feature.register) == (1, "edx") and 0x0183F3FF >> feature.bit & 1
)
"""Features of leaf 1 EDX that AMD's leaf 80000001h EDX repeats at the same bits."""

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "mmx": ("fpu",), "fxsr": ("fpu",), "sse": ("fxsr",), "sse2": ("sse",), "pni": ("sse2",), "ssse3": ("pni",),
    "sse4.1": ("ssse3",), "sse4.2": ("sse4.1",), "sse4a": ("pni",), "aes": ("sse2",), "pclmulqdq": ("sse2",),
    "sha-ni": ("sse2",), "misalignsse": ("sse2",), "mmxext": ("mmx",), "3dnow": ("mmx",), "3dnowext": ("3dnow",),
    "fxsr-opt": ("fxsr",), "avx": ("xsave", "sse2"), "f16c": ("avx",), "fma": ("avx",), "fma4": ("avx",), "xop": ("avx",),
    "avx2": ("avx",), "vaes": ("avx", "aes"), "vpclmulqdq": ("avx", "pclmulqdq"), "gfni": ("sse2",), "avx-vnni": ("avx2",),
    "avx512f": ("avx2",),
    **{f"avx512{x}": ("avx512f",) for x in ("dq", "ifma", "pf", "er", "cd", "bw", "vl", "vbmi", "vbmi2", "vnni", "bitalg")},
    "avx512-vpopcntdq": ("avx512f",), "avx512-bf16": ("avx512f",),
    "xsaveopt": ("xsave",), "xsavec": ("xsave",), "xgetbv1": ("xsave",), "xsaves": ("xsavec",), "mpx": ("xsave",),
    "pku": ("xsave",), "x2apic": ("apic",), "tsc-deadline": ("apic",), "lm": ("pae",), "nx": ("pae",), "pdpe1gb": ("lm",),
    "la57": ("lm",), "pcid": ("lm",), "lahf-lm": ("lm",), "cx16": ("cx8",), "fsgsbase": ("lm",), "svm": ("lm",),
    "rdtscp": ("tsc",), "rdpid": ("tsc",), "tsc-adjust": ("tsc",), "invtsc": ("tsc",), "mca": ("mce",),
}  # fmt: skip
"""What a feature cannot be without: its registers are saved or its instructions encoded by means of the other."""


def unmet(wanted: Collection[str]) -> dict[str, str]:
    """Of the features wanted, those that lack what they need, each with the first thing it lacks, in turn.

    A feature whose need is itself unmet is unmet, too.
    """
    there = set(wanted)
    missing: dict[str, str] = {}
    while True:
        fallen = {name: need for name in sorted(there) for need in reversed(NEEDS.get(name, ())) if need not in there}
        if not fallen:
            return missing
        missing.update(fallen)
        there -= fallen.keys()
