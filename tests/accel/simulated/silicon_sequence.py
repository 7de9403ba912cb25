"""Which templates take part in instruction sequences, how often, and what silicon_sequence.c must know of them.

A sequence keeps some registers as pointers and counters and reads no flag that the manual leaves undefined, so of every
template it has to be known which registers it writes (capstone says it) and which flags it reads and defines (the tables
below, from "Flags Affected" of the manual's pages).
"""

from collections import Counter
from collections.abc import Iterable

import attrs
import capstone
from capstone import x86_const
from silicon_table import AF, CF, COUNT_CL, DOUBLE, FENV, INVALID, LEGACY, OF, PARTS, PF, SF, VEX, VSIB, ZF, Template

ALL = CF | PF | AF | ZF | SF | OF
CONDITIONS = {
    "o": OF, "no": OF, "b": CF, "ae": CF, "e": ZF, "ne": ZF, "be": CF | ZF, "a": CF | ZF, "s": SF, "ns": SF,
    "p": PF, "np": PF, "l": SF | OF, "ge": SF | OF, "le": SF | OF | ZF, "g": SF | OF | ZF,
}  # fmt: skip
# How often an instruction is drawn: everyday integer code, in about its proportions.
WEIGHTS = {
    "mov": 160, "movabs": 4, "add": 80, "sub": 60, "cmp": 50, "test": 40, "and": 40, "or": 35, "xor": 45, "lea": 50,
    "inc": 20, "dec": 20, "neg": 12, "not": 12, "adc": 18, "sbb": 18, "shl": 22, "sal": 4, "shr": 25, "sar": 22,
    "rol": 12, "ror": 12, "rcl": 4, "rcr": 4, "shld": 4, "shrd": 4, "imul": 20, "mul": 8, "div": 2, "idiv": 2,
    "movzx": 35, "movsx": 25, "movsxd": 18, "bt": 6, "bts": 4, "btr": 4, "btc": 4, "bsf": 3, "bsr": 3, "tzcnt": 2,
    "lzcnt": 2, "popcnt": 4, "push": 25, "pop": 25, "xchg": 12, "xadd": 4, "cmpxchg": 4, "bswap": 8, "cbw": 3,
    "cwde": 3, "cdqe": 3, "cwd": 3, "cdq": 3, "cqo": 3, "clc": 2, "stc": 2, "cmc": 3, "cld": 1, "std": 1, "lahf": 2,
    "sahf": 2, "nop": 4, "leave": 1, "pushfq": 1, "crc32": 2, "andn": 1, "bextr": 1,
    "bzhi": 1, "rorx": 1, "sarx": 1, "shlx": 1, "shrx": 1, "pdep": 1, "pext": 1,
    **dict.fromkeys(("movsb", "movsw", "movsq", "stosb", "stosw", "stosd", "stosq"), 2),
    **dict.fromkeys(("lodsb", "lodsw", "lodsd", "lodsq", "scasb", "scasd", "cmpsb", "cmpsq"), 1),
    **{f"set{condition}": 2 for condition in CONDITIONS}, **{f"cmov{condition}": 2 for condition in CONDITIONS},
}  # fmt: skip
VECTOR_WEIGHT, X87_WEIGHT = 80, 30  # all of SSE and AVX together, all of x87
DEFINES = {
    **dict.fromkeys(("add", "sub", "adc", "sbb", "cmp", "neg", "xadd", "cmpxchg", "popcnt"), ALL),
    **dict.fromkeys(("inc", "dec"), ALL & ~CF), **dict.fromkeys(("and", "or", "xor", "test"), ALL & ~AF),
    **dict.fromkeys(("mul", "imul"), CF | OF), **dict.fromkeys(("bt", "bts", "btr", "btc", "clc", "stc", "cmc"), CF),
    **dict.fromkeys(("bsf", "bsr"), ZF), **dict.fromkeys(("tzcnt", "lzcnt"), CF | ZF), "sahf": ALL & ~OF,
    **dict.fromkeys(("andn", "bzhi"), CF | ZF | SF | OF), "bextr": CF | ZF | OF,
    **dict.fromkeys(("scasb", "scasd", "cmpsb", "cmpsq"), ALL),
    **dict.fromkeys(("comiss", "comisd", "ucomiss", "ucomisd", "vcomiss", "vcomisd", "vucomiss", "vucomisd"), ALL),
    **dict.fromkeys(("ptest", "vptest", "vtestps", "vtestpd"), ALL),
    **dict.fromkeys(("fcomi", "fcompi", "fucomi", "fucompi", "fcomip", "fucomip"), CF | PF | ZF),
}  # fmt: skip
READS = {
    **dict.fromkeys(("adc", "sbb", "rcl", "rcr", "cmc"), CF), "lahf": ALL & ~OF, "pushfq": ALL,
    **{f"set{condition}": flags for condition, flags in CONDITIONS.items()},
    **{f"cmov{condition}": flags for condition, flags in CONDITIONS.items()},
}  # fmt: skip
LOCKABLE = {
    "add", "or", "adc", "sbb", "and", "sub", "xor", "inc", "dec", "neg", "not", "bts", "btr", "btc", "xchg", "xadd", "cmpxchg"
}  # fmt: skip

# struct role in silicon_sequence.h
GENERAL, WRITTEN, BYTE = 1, 2, 4  # of an operand
CAN_LOCK, IN_OPCODE, ADDRESS_ONLY, VECTOR, X87 = 1, 2, 4, 8, 16
FAMILIES = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
NUMBERS = {
    **{prefix + name: n for n, name in enumerate(FAMILIES) for prefix in ("", "e", "r")},
    **{f"{letter}l": n for n, letter in enumerate("acdb")}, "ah": 0, "dh": 6, "bh": 7,  # as the probe means them
    "spl": 4, "bpl": 5, "sil": 6, "dil": 7,
    **{f"r{n}{suffix}": n for n in range(8, 16) for suffix in ("", "d", "w", "b")},
}  # fmt: skip
REG, RM = 6, 7  # the numbers the probe puts into ModRM
BYTES = {REG: ("dh", "sil"), RM: ("bh", "dil")}


@attrs.frozen
class Role:
    """One row for silicon_sequence.c; `template` counts the rows of the template table from 0."""

    template: int
    weight: int
    reg: int
    rm: int
    implicit: int
    defines: int
    reads: int
    flags: int

    def line(self) -> str:
        return " ".join(str(value) for value in attrs.astuple(self))


class Prober:
    """What capstone knows of a template's operands."""

    def __init__(self) -> None:
        self.md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self.md.detail = True

    def code(self, t: Template) -> bytes:
        if t.kind == LEGACY:
            escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[t.map]
            head = (bytes([t.prefix]) if t.prefix else b"") + (b"\x48" if t.w else b"") + escape
        else:
            pp = {0: 0, 0x66: 1, 0xF3: 2, 0xF2: 3}[t.prefix]
            head = bytes([0xC4, 0xE0 | t.map, t.w << 7 | 0x78 | t.l << 2 | pp])
        head += bytes([t.opcode])
        if t.modrm:
            reg, rm = REG if t.reg < 0 else t.reg, RM if t.rm < 0 else t.rm
            head += bytes([(0xC0 if t.mod3 else 0) | reg << 3 | rm])
        return head + b"\x11" * 10

    def role(self, index: int, t: Template, weight: int, flags: int) -> Role | None:
        insn = next(self.md.disasm(self.code(t), 0x1000, 1), None)
        if insn is None:
            return None
        named = {insn.reg_name(o.reg) for o in insn.operands if o.type == x86_const.X86_OP_REG}
        _read, wrote = insn.regs_access()
        written = {NUMBERS[name] for name in map(insn.reg_name, wrote) if name in NUMBERS}
        operands = {REG: 0, RM: 0}
        for number, bytes_named in BYTES.items():
            if t.modrm and any(NUMBERS.get(name) == number for name in named) and (number == REG or t.mod3):
                operands[number] = GENERAL | (WRITTEN if number in written else 0)
                operands[number] |= BYTE if any(name in named for name in bytes_named) else 0
        implicit = written - {number for number, operand in operands.items() if operand}
        if not t.modrm and t.kind == LEGACY:
            in_opcode = (t.map == 0 and (0x50 <= t.opcode <= 0x5F or 0x91 <= t.opcode <= 0x97)) or (
                (t.map == 0 and 0xB0 <= t.opcode <= 0xBF) or (t.map == 1 and 0xC8 <= t.opcode <= 0xCF)
            )
            if in_opcode:
                flags |= IN_OPCODE
                operands[RM] = GENERAL | (0 if 0x50 <= t.opcode <= 0x57 else WRITTEN)
                operands[RM] |= BYTE if 0xB0 <= t.opcode <= 0xB7 else 0
                implicit -= {t.opcode & 7} - {4 if 0x50 <= t.opcode <= 0x5F else 16}
        if flags & CAN_LOCK and t.name != "xchg" and insn.operands[0].type != x86_const.X86_OP_MEM:
            flags &= ~CAN_LOCK
        if t.name == "cmpxchg":
            implicit |= {0}
        mask = sum(1 << number for number in implicit)
        defines = 0 if t.prefix in (0xF2, 0xF3) and t.name[:4] in ("scas", "cmps") else DEFINES.get(t.name, 0)
        return Role(
            index, weight, operands[REG], operands[RM], mask, defines & ~t.undefined, READS.get(t.name, 0), flags
        )


def fits(t: Template, mode32: bool) -> bool:
    """Whether a sequence of this mode can have it."""
    if bool(t.flags & 512) != mode32 or t.flags & (VSIB | FENV | PARTS | INVALID):
        return False
    if t.shift == DOUBLE and t.count == COUNT_CL and t.size == 2:
        return False  # the result is undefined for counts above 16
    if t.kind == VEX and t.map == 3 and (0x5C <= t.opcode <= 0x7F or t.opcode in (0x48, 0x49)):
        return False  # FMA4 and XOP
    if t.name.startswith(("gf2p8", "vgf2p8")):
        return False
    if t.kind == LEGACY and t.name == "mov":
        return t.map == 0 and t.opcode not in (0x8C, 0x8E)
    if t.kind == LEGACY and t.name in ("push", "pop"):
        return t.map == 0 and t.opcode not in (0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F)
    return True


def roles(templates: Iterable[tuple[Template, tuple[str, ...]] | None]) -> list[Role]:
    """The rows for the templates given (with the features that must be there), in the order of the template table.

    `templates` has None for a row of the table that no sequence can have, because the processors do not announce it.
    """
    templates = list(templates)
    prober = Prober()
    # capstone ignores F2 and F3 where the processor raises #UD
    meant = {(t.map, t.opcode, t.name) for t, _features in filter(None, templates) if t.prefix not in (0xF2, 0xF3)}
    chosen: list[tuple[int, Template, str, int]] = []
    shares: Counter[str] = Counter()
    for index, row in enumerate(templates):
        if row is None or not fits(row[0], mode32=False):
            continue
        t, features = row
        vector = any(feature.startswith(("mmx", "sse", "ssse", "avx", "fma", "f16c")) for feature in features)
        if t.name in WEIGHTS and not (vector and t.name.startswith("movs")):
            group, flags = t.name, 0
        elif "fpu" in features:
            group, flags = "x87", X87
        elif vector:
            group, flags = "vector", VECTOR
        else:
            continue
        if flags and t.name not in DEFINES and t.name.startswith(("pcmpestr", "pcmpistr", "vpcmpestr", "vpcmpistr")):
            continue
        if flags and t.flags & 64:
            continue  # approximate results: they would go on
        if flags == VECTOR and t.kind == LEGACY and t.prefix in (0xF2, 0xF3) and (t.map, t.opcode, t.name) in meant:
            continue
        if t.name.startswith("fcmov"):
            continue
        weight = (1 if t.prefix in (0xF2, 0xF3) and t.kind == LEGACY and t.map == 0 else 20) * t.weight
        chosen.append((index, t, group, flags | weight << 8))
        shares[group] += weight
    totals = {**WEIGHTS, "x87": X87_WEIGHT, "vector": VECTOR_WEIGHT}
    found = []
    for index, t, group, packed in chosen:
        flags, share = packed & 255, packed >> 8
        weight = max(1, round(100000 * totals[group] * share / shares[group]))
        if t.name in LOCKABLE and t.modrm and not t.mod3:
            flags |= CAN_LOCK
        if t.name == "lea":
            flags |= ADDRESS_ONLY
        role = prober.role(index, t, weight, flags)
        if role is not None:
            found.append(role)
    return found
