"""The instruction templates of the silicon comparison: every opcode of every map, by prefix, width and ModRM form.

capstone only says how long an encoding is, what it is called and which extension it belongs to; what it does is never
taken from here but from the processor.  Encodings that capstone does not know are templates as well: they must raise the
same exception on both sides.
"""

from collections.abc import Iterator

import attrs
import capstone
from capstone import x86_const

LEGACY, VEX = 0, 1
VSIB, REL8, REL, MOFFS, STRING, BITS, APPROX, INVALID, READS, MODE32, FENV, PARTS = (1 << n for n in range(12))
LOGICAL, ARITHMETIC, ROTATE, DOUBLE = 1, 2, 3, 4
COUNT_ONE, COUNT_IMM, COUNT_CL = 1, 2, 3
NO_VVVV = 0x10000

CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
# What "Flags Affected" of each instruction's page calls undefined (SDM volume 2).  Shifts: undefined_flags() in
# silicon_make.c, by the count.
UNDEFINED = {
    **dict.fromkeys(("and", "or", "xor", "test"), AF),
    **dict.fromkeys(("mul", "imul"), SF | ZF | AF | PF),
    **dict.fromkeys(("div", "idiv"), CF | OF | SF | ZF | AF | PF),
    **dict.fromkeys(("bsf", "bsr"), CF | OF | SF | AF | PF),
    **dict.fromkeys(("bt", "bts", "btr", "btc"), OF | SF | AF | PF),
    **dict.fromkeys(("lzcnt", "tzcnt"), OF | SF | AF | PF),
    **dict.fromkeys(("andn", "blsi", "blsmsk", "blsr"), AF | PF),
    "bextr": AF | SF | PF,
    "bzhi": AF | PF,
    **dict.fromkeys(("aaa", "aas"), OF | SF | ZF | PF),
    **dict.fromkeys(("daa", "das"), OF),
    **dict.fromkeys(("aam", "aad"), OF | AF | CF),
}
# BSF and BSR of 0 leave the destination undefined; Intel and AMD keep it, and so does the core: compared.
SHIFTS = {
    **dict.fromkeys(("shl", "shr", "sal"), LOGICAL),
    "sar": ARITHMETIC,
    **dict.fromkeys(("rol", "ror", "rcl", "rcr"), ROTATE),
    **dict.fromkeys(("shld", "shrd"), DOUBLE),
}

# Not compared, and why.
EXCLUDED = {
    **dict.fromkeys(("rdtsc", "rdtscp", "rdpmc", "rdrand", "rdseed"), "never the same twice"),
    **dict.fromkeys(("cpuid", "xgetbv", "rdpid"), "describes the processor"),
    **dict.fromkeys(
        ("syscall", "sysenter", "int", "vmcall", "vmmcall", "vmfunc"), "enters the kernel or the hypervisor"
    ),
    **dict.fromkeys(("sysexit", "sysexitq", "sysret", "sysretq"), "the kernel's side of it"),
    **dict.fromkeys(("sgdt", "sidt", "sldt", "str", "smsw"), "UMIP: Linux emulates them"),
    **dict.fromkeys(("lar", "lsl", "verr", "verw"), "depends on the kernel's descriptors"),
    **dict.fromkeys(("lds", "les", "lfs", "lgs", "lss"), "depends on the kernel's descriptors"),
    **dict.fromkeys(
        ("lcall", "ljmp", "retf", "retfq", "iret", "iretd", "iretq"), "depends on the kernel's descriptors"
    ),
    **dict.fromkeys(("wrfsbase", "wrgsbase"), "what is written outlives the case"),
    **dict.fromkeys(("rdpkru", "wrpkru", "monitor", "mwait", "umonitor", "umwait", "tpause"), "not modelled"),
    **dict.fromkeys(("xbegin", "xend", "xabort", "xtest"), "not modelled"),
    **dict.fromkeys(("bndmk", "bndcl", "bndcu", "bndcn", "bndmov", "bndldx", "bndstx"), "MPX: not modelled"),
    **dict.fromkeys(("enclu", "encls", "getsec", "rsm", "hreset", "pconfig"), "not modelled"),
    **dict.fromkeys(("int1",), "the debugger's"),
}
EXCLUDED_PREFIXES = {"xsave": "its image depends on the host's XCR0", "xrstor": "its image depends on the host's XCR0"}
EXCLUDED_GROUPS = {"avx512": "not modelled"}

# Extension -> the CPUID bit that announces it: leaf, register (eax ebx ecx edx), bit.
FEATURES = {
    "fpu": (1, 3, 0), "mmx": (1, 3, 23), "sse1": (1, 3, 25), "sse2": (1, 3, 26), "sse3": (1, 2, 0), "ssse3": (1, 2, 9),
    "sse41": (1, 2, 19), "sse42": (1, 2, 20), "avx": (1, 2, 28), "avx2": (7, 1, 5), "fma": (1, 2, 12), "f16c": (1, 2, 29),
    "aes": (1, 2, 25), "pclmul": (1, 2, 1), "bmi": (7, 1, 3), "bmi2": (7, 1, 8), "adx": (7, 1, 19), "sha": (7, 1, 29),
    "cmov": (1, 3, 15), "popcnt": (1, 2, 23), "movbe": (1, 2, 22), "lzcnt": (0x80000001, 2, 5), "cx16": (1, 2, 13),
    "cx8": (1, 3, 8), "fxsr": (1, 3, 24), "clflush": (1, 3, 19), "clflushopt": (7, 1, 23), "clwb": (7, 1, 24),
    "prefetchw": (0x80000001, 2, 8), "lahf": (0x80000001, 2, 0), "fsgsbase": (7, 1, 0), "gfni": (7, 2, 8),
    "vaes": (7, 2, 9), "vpclmul": (7, 2, 10), "ptwrite": (7, 2, 30), "cldemote": (7, 2, 25), "movdiri": (7, 2, 27),
    "movdir64b": (7, 2, 28), "invpcid": (7, 1, 10), "sse4a": (0x80000001, 2, 6), "xop": (0x80000001, 2, 11),
    "3dnow": (0x80000001, 3, 31), "tbm": (0x80000001, 2, 21), "fma4": (0x80000001, 2, 16), "rdpid": (7, 2, 22),
    "serialize": (7, 3, 14),
}  # fmt: skip
BY_MNEMONIC = {
    "popcnt": "popcnt", "movbe": "movbe", "lzcnt": "lzcnt", "tzcnt": "bmi", "cmpxchg16b": "cx16", "cmpxchg8b": "cx8",
    "fxsave": "fxsr", "fxsave64": "fxsr", "fxrstor": "fxsr", "fxrstor64": "fxsr", "clflush": "clflush",
    "clflushopt": "clflushopt", "clwb": "clwb", "crc32": "sse42", "adcx": "adx", "adox": "adx", "fisttp": "sse3",
    "rdfsbase": "fsgsbase", "rdgsbase": "fsgsbase", "ptwrite": "ptwrite", "cldemote": "cldemote", "invpcid": "invpcid",
    "movdiri": "movdiri", "movdir64b": "movdir64b", "lahf": "lahf", "sahf": "lahf", "prefetchw": "prefetchw",
    "andn": "bmi", "bextr": "bmi", "blsi": "bmi", "blsr": "bmi", "blsmsk": "bmi", "bzhi": "bmi2", "mulx": "bmi2",
    "pdep": "bmi2", "pext": "bmi2", "rorx": "bmi2", "sarx": "bmi2", "shlx": "bmi2", "shrx": "bmi2", "serialize": "serialize",
}  # fmt: skip
BRANCHES = {0x70 + n for n in range(16)} | {0xE0, 0xE1, 0xE2, 0xE3, 0xEB}
REL_BRANCHES = {(0, 0xE8), (0, 0xE9)} | {(1, 0x80 + n) for n in range(16)}
RM_MATTERS = {(0, 0xD8 + n) for n in range(8)} | {(1, 0x01), (1, 0xAE), (1, 0xC7), (1, 0x1E)}  # which instruction it is
STRINGS = {0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF, 0x6C, 0x6D, 0x6E, 0x6F}
PREFIXES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3}
APPROXIMATE = {"rcpps", "rcpss", "rsqrtps", "rsqrtss", "vrcpps", "vrcpss", "vrsqrtps", "vrsqrtss"}
FPU_IMAGES = {"fldenv", "frstor", "fxrstor", "fxrstor64", "fbld", "fbstp", "fld", "fnstenv", "fnsave"}
# Accesses in several parts: the manual does not say which faults first and what was stored by then.
SEVERAL_ACCESSES = {
    *(
        "enter",
        "pushal",
        "pushaw",
        "popal",
        "popaw",
        "fldenv",
        "frstor",
        "fnstenv",
        "fnsave",
        "fbstp",
        "fxsave",
        "fxsave64",
    ),
    *(
        "fxrstor",
        "fxrstor64",
        "maskmovq",
        "maskmovdqu",
        "vmaskmovdqu",
        "vmaskmovps",
        "vmaskmovpd",
        "vpmaskmovd",
        "vpmaskmovq",
    ),
    *("vgatherdps", "vgatherdpd", "vgatherqps", "vgatherqpd", "vpgatherdd", "vpgatherdq", "vpgatherqd", "vpgatherqq"),
    *("vcvtps2ph", "movbe"),
}
EFLAGS_READ = sum(
    value for name, value in vars(x86_const).items() if name.startswith("X86_EFLAGS_TEST_") and not name.endswith("DF")
)


@attrs.frozen
class Template:
    """One row of the table silicon_make.c reads; see `struct template` there."""

    name: str
    kind: int
    map: int
    prefix: int
    opcode: int
    w: int
    l: int  # noqa: E741
    modrm: int
    reg: int
    rm: int
    mod3: int
    imm: int
    flags: int
    size: int
    undefined: int
    shift: int
    count: int
    weight: int

    def line(self) -> str:
        return " ".join(str(value) for value in attrs.astuple(self))


@attrs.frozen
class Decoded:
    name: str
    imm: int
    size: int
    groups: tuple[str, ...]
    reads_flags: bool
    text: str
    has_modrm: bool


class Enumerator:
    """All encodings of one mode."""

    def __init__(self, mode32: bool) -> None:
        self.mode32 = mode32
        self.md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32 if mode32 else capstone.CS_MODE_64)
        self.md.detail = True

    def head(self, kind: int, number: int, prefix: int, opcode: int, w: int, l: int, vvvv: int = 15) -> bytes:  # noqa: E741
        if kind == VEX:
            pp = {0: 0, 0x66: 1, 0xF3: 2, 0xF2: 3}[prefix]
            return bytes([0xC4, 0xE0 | number, w << 7 | vvvv << 3 | l << 2 | pp, opcode])
        escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[number]
        return (bytes([prefix]) if prefix else b"") + (b"\x48" if w else b"") + escape + bytes([opcode])

    def decode(self, head: bytes, modrm: int | None) -> Decoded | None:
        tail = b"" if modrm is None else bytes([modrm]) + (b"\x08" if modrm < 0xC0 and modrm & 7 == 4 else b"")
        code = head + tail + b"\x11" * 10
        insn = next(self.md.disasm(code, 0x1000, 1), None)
        if insn is None or insn.size < len(head):
            return None
        offset = insn.encoding.modrm_offset if hasattr(insn, "encoding") else insn.modrm_offset
        has_modrm = offset == len(head)
        end = len(head) + (len(tail) if has_modrm else 0)
        if insn.size < end:
            return None
        size = max([operand.size for operand in insn.operands if operand.type == x86_const.X86_OP_MEM], default=0)
        if not size and insn.operands:
            size = insn.operands[0].size
        name = insn.mnemonic.split()[-1]
        groups = tuple(insn.group_name(group) for group in insn.groups)
        fpu = 0xD8 <= head[-1] <= 0xDF and len(head) <= 3 and head[0] != 0xC4
        reads = not fpu and bool(insn.eflags & EFLAGS_READ)
        return Decoded(name, insn.size - end, size, groups, reads, insn.op_str, has_modrm)

    def templates(self) -> Iterator[tuple[Template, tuple[str, ...]]]:
        widths = (0,) if self.mode32 else (0, 1)
        for number in range(4):
            for opcode in range(256):
                if number == 0 and (opcode in PREFIXES or opcode in (0x0F, 0xC4, 0xC5, 0x62)):
                    continue
                if number == 0 and not self.mode32 and opcode & 0xF0 == 0x40:
                    continue
                if number == 1 and opcode in (0x38, 0x3A):
                    continue
                for prefix in (0, 0x66, 0xF2, 0xF3):
                    for w in widths:
                        yield from self.forms(LEGACY, number, prefix, opcode, w, 0)
        for number in range(1, 4):
            for opcode in range(256):
                for prefix in (0, 0x66, 0xF2, 0xF3):
                    for w in (0, 1):
                        for l in (0, 1):  # noqa: E741
                            if self.mode32 and w:
                                continue
                            yield from self.forms(VEX, number, prefix, opcode, w, l)

    def forms(
        self,
        kind: int,
        number: int,
        prefix: int,
        opcode: int,
        w: int,
        l: int,  # noqa: E741
    ) -> Iterator[tuple[Template, tuple[str, ...]]]:
        head = self.head(kind, number, prefix, opcode, w, l)
        base = (kind, number, prefix, opcode, w, l)
        plain = self.decode(head, None)
        if kind == VEX and number == 1 and opcode == 0x77:  # VZEROUPPER, VZEROALL
            yield self.row(base, plain, 0, -1, -1, 0)
            return
        if (
            kind == LEGACY
            and plain is not None
            and not plain.has_modrm
            and not (number == 0 and 0xD8 <= opcode <= 0xDF)
        ):
            yield self.row(base, plain, 0, -1, -1, 0)
            return
        vsib = kind == VEX and number == 2 and 0x90 <= opcode <= 0x93
        by_rm = kind == LEGACY and (number, opcode) in RM_MATTERS
        rows = {modrm: self.decode(head, modrm) for modrm in range(0xC0, 0x100) if by_rm or modrm & 7 == 0}
        memory = {reg: self.decode(head, reg << 3 | (4 if vsib else 0)) for reg in range(8)}
        if (
            number == 0
            and kind == LEGACY
            and all(row is None or not row.has_modrm for row in (*rows.values(), *memory.values()))
        ):
            yield self.row(base, None, 0, -1, -1, 0)
            return
        same = {row.name if row else "" for row in memory.values()}
        if len(same) == 1:
            yield self.row(base, memory[0], 1, -1, -1, 0)
        else:
            for reg, row in memory.items():
                if row is None and reg and kind == VEX:
                    continue
                yield self.row(base, row, 1, reg, -1, 0)
        same = {row.name if row else "" for row in rows.values()}
        if len(same) == 1:
            yield self.row(base, rows[0xC0], 1, -1, -1, 1)
            return
        for reg in range(8):
            ours = [rows[0xC0 | reg << 3 | rm] for rm in (range(8) if by_rm else (0,))]
            if len({row.name if row else "" for row in ours}) == 1:
                yield self.row(base, ours[0], 1, reg, -1, 1)
            else:
                for rm, row in enumerate(ours):
                    yield self.row(base, row, 1, reg, rm, 1)

    def row(
        self, base: tuple[int, ...], d: Decoded | None, modrm: int, reg: int, rm: int, mod3: int
    ) -> tuple[Template, tuple[str, ...]]:
        kind, number, prefix, opcode, _w, _l = base
        flags = MODE32 if self.mode32 else 0
        if d is None:
            return Template("invalid", *base, modrm, reg, rm, mod3, 0, flags | INVALID, 16, 0, 0, 0, 1), ()
        one = kind == LEGACY and number == 0
        if one and opcode in BRANCHES:
            flags |= REL8
        if kind == LEGACY and (number, opcode) in REL_BRANCHES:
            flags |= REL
        if one and 0xA0 <= opcode <= 0xA3:
            flags |= MOFFS
        if one and opcode in STRINGS:
            flags |= STRING
        if kind == LEGACY and number == 1 and opcode in (0xA3, 0xAB, 0xB3, 0xBB):
            flags |= BITS
        if kind == VEX and number == 2 and 0x90 <= opcode <= 0x93 and not mod3:
            flags |= VSIB
        flags |= APPROX if d.name in APPROXIMATE else 0
        flags |= FENV if d.name in FPU_IMAGES else 0
        ten_bytes = one and opcode == 0xDB and reg == 7
        flags |= PARTS if d.name in SEVERAL_ACCESSES or ten_bytes else 0
        flags |= READS if d.reads_flags else 0
        shift = count = 0
        if d.name in SHIFTS and kind == LEGACY:
            shift = SHIFTS[d.name]
            if number == 1:
                count = COUNT_IMM if opcode in (0xA4, 0xAC) else COUNT_CL
            else:
                count = COUNT_IMM if opcode < 0xD0 else COUNT_ONE if opcode < 0xD2 else COUNT_CL
        undefined = UNDEFINED.get(d.name, 0)
        if kind == VEX:
            other = self.decode(self.head(*base, 14), 0xC0 if mod3 else 0)
            if other is None or other.text == d.text:
                undefined |= NO_VVVV
        size = d.size
        weight = 3 if prefix in (0xF2, 0xF3) and one else 8
        features = {BY_MNEMONIC[d.name]} if d.name in BY_MNEMONIC else {g for g in d.groups if g in FEATURES}
        if one and 0xD8 <= opcode <= 0xDF:
            features.add("fpu")
        if kind == VEX and not features & {"bmi", "bmi2"}:
            features.add("avx")
            if d.name.startswith("vaes"):
                features.add("vaes" if _l else "aes")
            if d.name.startswith("vpclmul"):
                features.add("vpclmul" if _l else "pclmul")
        features |= {group for group in d.groups if group.startswith("avx512")}
        template = Template(
            d.name, *base, modrm, reg, rm, mod3, d.imm, flags, min(size, 64), undefined, shift, count, weight
        )
        return template, tuple(sorted(features))


def excluded(template: Template, features: tuple[str, ...]) -> str | None:
    """Why a template is not compared, or None."""
    for start, reason in EXCLUDED_PREFIXES.items():
        if template.name.startswith(start):
            return reason
    opmask = template.kind == VEX and template.name.startswith("k")
    if opmask or any(feature.startswith("avx512") for feature in features):
        return "AVX-512: not modelled"
    if template.kind == LEGACY and template.map == 0:
        if template.opcode == 0x8E or (
            template.opcode in (0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F) and template.flags & MODE32
        ):
            return "depends on the kernel's descriptors"
        if template.opcode in (0x9A, 0xEA, 0xCA, 0xCB, 0xCF) or (template.opcode == 0xFF and template.reg in (3, 5)):
            return "depends on the kernel's descriptors"
        if template.opcode in (0xCD, 0xF1):
            return "enters the kernel or the hypervisor"
    if template.kind == VEX and template.map == 1 and template.opcode == 0xAE and template.name == "invalid":
        return "this processor takes 66 0F AE /6 with VEX for CLWB, the manual does not have it"
    if template.kind == LEGACY and template.map == 1:
        if template.opcode in (0xA1, 0xA9):
            return "depends on the kernel's descriptors"
        if template.opcode == 0x01 and template.mod3:
            return "the kernel's or the hypervisor's"
        if template.opcode in (0x05, 0x07, 0x34, 0x35, 0x37):
            return "enters the kernel or the hypervisor"
        if template.opcode in (0x1A, 0x1B):
            return "MPX: not modelled"
        if template.opcode == 0xAE and template.mod3 and template.prefix == 0xF3 and template.reg in (-1, 2, 3):
            return "what is written outlives the case"
        if template.opcode == 0xC7 and template.mod3:
            return "never the same twice"
    return EXCLUDED.get(template.name)


def announced(features: tuple[str, ...], cpuid: dict[int, tuple[int, ...]]) -> bool:
    """Whether `cpuid` (leaf -> eax, ebx, ecx, edx) has all of them."""
    return all(
        cpuid[leaf][register] >> bit & 1 for leaf, register, bit in (FEATURES[f] for f in features if f in FEATURES)
    )
