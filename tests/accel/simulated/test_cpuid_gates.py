"""What CPUID does not announce is undefined: each feature of feature_list.h taken away from a processor that has all.

The first table is by hand, a row a feature; the second is every encoding that capstone counts to one.
"""

import re
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")
pytest.importorskip("capstone", reason="capstone is not installed")

from silicon_table import FEATURES, INVALID, NO_VVVV, VSIB, Enumerator, Template
from sim_harness import GDT_BASE, HANDLERS, IDT_BASE, Guest, abi, ffi, sim

import accel.simulated

UD = 6
CODE, DATA, TABLES = 0x10000, 0x20000, 0x30000
REGISTERS = ("eax", "ebx", "ecx", "edx")
LIST = Path(accel.simulated.__file__).parent / "core" / "feature_list.h"
PLACES = {
    name: (int(leaf, 0), int(index), REGISTERS.index(register.lower()), int(bit))
    for name, leaf, index, register, bit in re.findall(
        r"F\((\w+), (\w+), (\d+), (E[ABCD]X), (\d+)\)", LIST.read_text(encoding="utf-8")
    )
}
"""Every feature by its name there: leaf, sub-leaf, register, bit."""

# 64-bit code at ring 0; RAX to RDI hold DATA, CR4 and XCR0 switch everything on.
INSTRUCTIONS = {
    "FPU": ("d9e8", "d800", "9bd93e"),  # FLD1, FADD, FSTCW
    "TSC": ("0f31",),
    "MSR": ("0f32", "0f30"),
    "CX8": ("0fc70e", "f00fc70e"),
    "SEP": ("0f34", "480f35"),
    "CMOV": ("0f44c1", "480f4f06", "660f40c1"),
    "CLFSH": ("0fae3e",),
    "MMX": ("0ffcc1", "0f6fc1", "0f77"),
    "FXSR": ("0fae06", "480fae0e"),
    "SSE": ("0f58c1", "0f2806", "0fae1e", "0faef8", "0f70c100"),  # ADDPS, MOVAPS, STMXCSR, SFENCE, PSHUFW
    "SSE2": ("660f58c1", "660ffcc1", "0fc306", "0faee8", "0faef0"),  # ADDPD, PADDB, MOVNTI, LFENCE, MFENCE
    "FCMOV": ("dac1", "dbf1"),  # FCMOVB, FCOMI
    "FISTTP": ("db0e",),
    "SSE3": ("f20f7cc1", "f20ff006"),  # HADDPS, LDDQU
    "SSSE3": ("660f3800c1", "0f3800c1"),
    "SSE41": ("660f3810c1", "660f3a08c100"),
    "SSE42": ("660f3837c1", "f20f38f1c1"),  # PCMPGTQ, CRC32
    "PCLMULQDQ": ("660f3a44c100",),
    "MONITOR": ("0f01c9", "0f01c8"),
    "FMA": ("c4e2719800", "c4e2f199c0"),
    "CX16": ("480fc70e", "f0480fc70e"),
    "MOVBE": ("0f38f006", "480f38f106"),
    "POPCNT": ("f30fb8c1", "f3480fb806"),
    "AES": ("660f38dcc1", "660f38dbc1"),
    "XSAVE": ("0fae26", "480fae2e", "0f01d0", "0f01d1"),
    "AVX": ("c5f058c1", "c5fc2806", "c5f877"),  # VADDPS, VMOVAPS, VZEROUPPER
    "F16C": ("c4e27913c1", "c4e3791dc100"),
    "RDRAND": ("0fc7f0", "480fc7f1"),
    "FSGSBASE": ("f30faec1", "f3480faed9"),
    "BMI1": ("c4e270f2c1", "c4e278f3c9", "c4e278f7c1"),  # ANDN, BLSR, BEXTR
    "AVX2": ("c4e27d00c1", "c5f5fcc1", "c4e27918c1"),  # the last is VBROADCASTSS from a register
    "BMI2": ("c4e27bf5c1", "c4e3fbf0c103", "c4e279f7c1"),  # PDEP, RORX, SHLX
    "INVPCID": ("660f388206",),
    "RDSEED": ("0fc7f8",),
    "ADX": ("660f38f6c1", "f3480f38f6c1"),
    "SMAP": ("0f01ca", "0f01cb"),
    "CLFLUSHOPT": ("660fae3e",),
    "CLWB": ("660fae36",),
    "SHA": ("0f38c8c1", "0f3accc100"),
    "VAES": ("c4e275dcc1",),
    "VPCLMULQDQ": ("c4e37544c100",),
    "RDPID": ("f30fc7f9",),
    "XSAVEOPT": ("0fae36",),
    "XSAVEC": ("0fc726",),
    "XSAVES": ("0fc72e", "480fc71e"),
    "SYSCALL": ("0f05", "480f07"),
    "RDTSCP": ("0f01f9",),
    "LAHF64": ("9e", "9f"),
}
NEVER = ("3DNOWEXT", "3DNOW", "SSE4A", "GFNI")
ELSEWHERE = {
    "DE PSE PAE MCE PGE SMEP UMIP PCID": "a bit of CR4 is reserved",
    "NX PDPE1GB LM": "a bit of EFER or of a page table entry is reserved",
    "XGETBV1": "XGETBV of ECX = 1 raises #GP",
    " ".join(NEVER): "not modelled",
    "LZCNT PREFETCHW CLDEMOTE WBNOINVD": "the encoding is BSR, a hint without effect, or WBINVD",
    "X2APIC TSC_DEADLINE TSC_ADJUST APIC MTRR MCA PAT PSE36 HYPERVISOR ARAT ERMS FSRM INVTSC": "no instruction of their own",
}
BOTH = {
    **{"FCMOV": ("CMOV", "FPU"), "FISTTP": ("SSE3", "FPU"), "CMOV": ("FCMOV",), "SSE3": ("FISTTP",)},
    **dict.fromkeys(("FMA", "F16C", "AVX2", "VAES", "VPCLMULQDQ"), ("AVX",)),
}
"""What else takes a feature away: one flag for both, an FPU that they need, too, or the state of AVX."""
NEVER_UNDEFINED = ("f30fbcc1", "f30fbdc1", "0f0d0e", "0f1806", "0f1c06", "f30f09", "f390", "0f1f00", "f30f1efa")


class GatedGuest(Guest):
    """64-bit code at ring 0 in the first 2 MiB; exceptions halt at HANDLERS + 16 v."""

    def __init__(self) -> None:
        super().__init__({0: 0x40000})
        for n, entry in enumerate((TABLES + 0x1003, TABLES + 0x2003, 0x83)):
            self.write(TABLES + 0x1000 * n, entry.to_bytes(8, "little"))
        self.announce()
        self.flat32()
        for vector in range(32):
            target = HANDLERS + 16 * vector
            gate = target | 8 << 16 | 0x8E00 << 32
            self.write(IDT_BASE + 16 * vector, gate.to_bytes(16, "little"))
        self.write(GDT_BASE + 8, bytes.fromhex("ffff0000009baf00"))
        self.write(0, b"\xf4")  # LSTAR
        s = self.sregs
        s.idt.limit = 32 * 16 - 1
        s.cs.l, s.cs.db = 1, 0
        s.cr0, s.cr3, s.efer = 0x80000011, TABLES, 0x501
        s.cr4 = 0x50620  # PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE

    def announce(self, *, without: Collection[str] = ()) -> None:
        """Everything the core supports but for these features, by their names in feature_list.h; Intel's, for SYSENTER."""
        size = ffi.sizeof("struct kvm_cpuid2") + 64 * ffi.sizeof("struct kvm_cpuid_entry2")
        memory = ffi.new("char[]", size)
        cpuid = ffi.cast("struct kvm_cpuid2 *", memory)
        cpuid.nent = 64
        assert sim.sim_system_ioctl(self.system, abi.KVM_GET_SUPPORTED_CPUID, self.address(cpuid)) == 0
        first = cpuid.entries[0]
        first.ebx, first.edx, first.ecx = struct.unpack("<3I", b"GenuineIntel")
        for leaf, index, register, bit in (PLACES[name] for name in without):
            for n in range(cpuid.nent):
                entry = cpuid.entries[n]
                if (entry.function, entry.index) == (leaf, index):
                    name = REGISTERS[register]
                    setattr(entry, name, getattr(entry, name) & ~(1 << bit))
        assert self.ioctl(abi.KVM_SET_CPUID2, cpuid) == 0

    def undefined(self, code: bytes, *, without: Collection[str] = ()) -> bool:
        """Whether the instruction raises #UD when these are not announced."""
        self.announce()
        assert self.ioctl(abi.KVM_SET_SREGS, self.sregs) == 0
        xcrs = ffi.new("struct kvm_xcrs *")
        xcrs.nr_xcrs = 1
        xcrs.xcrs[0].value = 3 if "AVX" in without else 7  # CPUID leaf 0Dh allows what the features need
        assert self.ioctl(abi.KVM_SET_XCRS, xcrs) == 0
        self.announce(without=without)
        return self.again(code)

    def again(self, code: bytes) -> bool:
        """The same without setting anything but the registers."""
        self.write(CODE, code + b"\xf4")
        general = dict.fromkeys(("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi"), DATA)
        self.set_regs(rip=CODE, rsp=0x28000, rflags=2, **general)
        self.run()
        return int(self.get_regs().rip) == HANDLERS + 16 * UD + 1


@pytest.fixture(scope="module")
def guest() -> Iterator[GatedGuest]:
    made = GatedGuest()
    yield made
    made.close()


def test_every_feature_is_in_one_of_the_tables() -> None:
    elsewhere = [name for names in ELSEWHERE for name in names.split()]
    assert sorted([*INSTRUCTIONS, *elsewhere]) == sorted(PLACES)


@pytest.mark.parametrize("feature", INSTRUCTIONS)
def test_without_its_feature_an_instruction_is_undefined_and_no_other(guest: GatedGuest, feature: str) -> None:
    for name, codes in INSTRUCTIONS.items():
        for code in codes:
            if name == feature:
                assert not guest.undefined(bytes.fromhex(code)), f"{code} is not even {name}"
            undefined = guest.undefined(bytes.fromhex(code), without=(feature,))
            assert undefined == (name == feature or feature in BOTH.get(name, ())), (
                f"{code} of {name}, without {feature}"
            )


def test_without_any_feature_these_go_on(guest: GatedGuest) -> None:
    for code in NEVER_UNDEFINED:
        assert not guest.undefined(bytes.fromhex(code), without=PLACES), code


def test_lahf_and_sahf_of_32_bit_code_are_always_there(guest: GatedGuest) -> None:
    guest.undefined(b"\x90")
    s = guest.sregs
    was = (s.cs.l, s.cs.db, s.cr0, s.efer)
    s.cs.l, s.cs.db, s.cr0, s.efer = 0, 1, 0x11, 0
    assert guest.ioctl(abi.KVM_SET_SREGS, s) == 0
    s.cs.l, s.cs.db, s.cr0, s.efer = was
    guest.announce(without=("LAHF64",))
    for code in (b"\x9e", b"\x9f"):
        assert not guest.again(code)
        assert guest.get_regs().rip == CODE + 2


NOT_THESE = ("prefetch", "cldemote", "tzcnt", "lzcnt", "pause", "wait", "monitor", "mwait")
"""What means something else without its feature (see ELSEWHERE), goes on without it, or has another than capstone says."""


BUILT_ON = {"MMX": ("SSE", "SSE2", "SSSE3")}
"""What brought later instructions that capstone counts to an older feature."""


def encoding(table: Enumerator, template: Template) -> bytes:
    """One instruction of a template: memory at RSI, registers 0, an immediate of 0."""
    t = template
    code = table.head(t.kind, t.map, t.prefix, t.opcode, t.w, t.l, 15 if t.undefined & NO_VVVV else 1)
    if t.modrm:
        reg, rm = max(t.reg, 0), max(t.rm, 0)
        if t.mod3:
            code += bytes([0xC0 | reg << 3 | rm])
        else:  # VSIB: the destination 0, the mask 14, the index 2
            code += bytes([reg << 3 | 4, 0x16]) if t.flags & VSIB else bytes([reg << 3 | 6])
    return code + bytes(t.imm)


def test_every_encoding_that_needs_a_feature_is_undefined_without_it(guest: GatedGuest) -> None:
    table = Enumerator(mode32=False)
    by_place = {(leaf, register, bit): name for name, (leaf, _, register, bit) in PLACES.items()}
    groups: dict[str, list[tuple[str, bytes]]] = {}
    for template, needs in table.templates():
        if template.flags & INVALID or template.name.startswith(NOT_THESE):
            continue
        for need in needs:
            name = by_place.get(FEATURES[need]) if need in FEATURES else None
            if name is not None and name not in NEVER:
                groups.setdefault(name, []).append((template.name, encoding(table, template)))
    assert len(groups) >= 30
    wrong = []
    for name, instructions in groups.items():
        guest.undefined(b"\x90")
        runs = [row for row in instructions if not guest.again(row[1])]
        assert len(runs) * 5 > len(instructions), f"{name}: of {len(instructions)} encodings {len(runs)} run at all"
        guest.undefined(b"\x90", without=(name, *BUILT_ON.get(name, ())))
        wrong += [f"{mnemonic} {code.hex()}, without {name}" for mnemonic, code in runs if not guest.again(code)]
    assert not wrong, f"{len(wrong)} still run: {wrong[:20]}"
