"""System-level cases for protected and V8086 mode, made at random from a seed, for `system32_cases.S`.

Paging: two-level tables and PAE, 4 MiB and 2 MiB pages, every combination of the rights bits, reserved bits, accessed and
dirty bits, NX, CR0.WP, CR4.PSE, SMEP and SMAP, EFLAGS.AC, privilege, read, write, read-modify-write and fetch.  Segments:
loads, LAR, LSL, VERR, VERW, ARPL, LLDT, LTR, privileged instructions.  Far transfers: CALL, JMP, RET and IRET, direct and
through 16- and 32-bit call gates with parameters, between all rings.  Delivery: INT n and faults through random interrupt,
trap and task gates of both sizes, with good and bad stacks in the TSS.  V8086 mode: entry by IRET, sensitive instructions,
exit through gates.  Tasks: JMP, CALL, INT and IRET with NT to 32- and 16-bit TSSs, whose contents are good or have one bad
selector.  Pages: the inner stack, the LDT or the new TSS on a page that may fault.

Left out because QEMU 7.2's TCG does not do them as the manual says (the metal programs have them, and `access_case` for KVM
the limits): segment limits and rights of data accesses (SDM 3, 5.3), upper offset bits of 16-bit gates (SDM 2, CALL),
reserved bits of PAE's directory pointers (SDM 3, 4.4.1), the T flag of a TSS (SDM 3, 17.3.1.5), CR4.VME (SDM 3, 20.3).  Left
out because no memory is there: bits 13 to 20 of a 4 MiB page's entry.
"""

import random
import struct
from collections.abc import Callable

import attrs
from system32_cases import (
    AC,
    B_SEL,
    BIG,
    C_SEL,
    DF_SEL,
    FAULT_SEL,
    FIXED,
    FRAME,
    FREE,
    GDT,
    IDT,
    IF,
    K16,
    K32,
    KDATA,
    KDATA16,
    KDOWN,
    KERNEL_CODE,
    LDT,
    LDT_SEL,
    LIN,
    NT,
    NX,
    OPERAND,
    PAE_PD1,
    PAE_PT,
    PD,
    PD2,
    PDPT,
    PT,
    R1_32,
    R1_DATA,
    R2_32,
    R2_DATA,
    RF,
    STACK_TOPS,
    STACKS,
    STARTS,
    STUB_CODE,
    STUBS,
    TARGET,
    TASK_STACK,
    TF,
    TRAP,
    TSS,
    TSS_B,
    TSS_C,
    TSS_DF,
    TSS_FAULT,
    TSS_SEL,
    U16,
    U32,
    UDATA,
    UDATA16,
    USER,
    USER_CODE,
    V86_CODE,
    V86_STACK,
    VECTOR,
    VM,
    Case,
    Start,
    gate,
    main_tss,
    task_state,
    task_state16,
    tss16,
    tss32,
)
from system_cases import descriptor

# ---- what cases are made of -----------------------------------------------------------------------------------------


def present(r: random.Random) -> int:
    """P of an access byte, mostly there."""
    return 0x80 if r.random() < 0.92 else 0


def random_segment(r: random.Random) -> tuple[int, int, int, int]:
    """Base, limit, access byte and flags of a code or data segment."""
    access = present(r) | r.randrange(4) << 5 | 0x10 | r.randrange(16)
    if access & 8:
        if r.random() < 0.6:
            return 0, 0xFFFFF, access, 12
        base = KERNEL_CODE if r.random() < 0.5 else USER_CODE
        return base, r.choice((0xFFFF, 0xFFFF, TARGET, TARGET - 1)), access, r.choice((0, 0, 4))
    if access & 4:  # expand-down
        return r.choice((STACKS, USER)), 0x7F, access, r.choice((0, 4))
    if r.random() < 0.5:
        return 0, 0xFFFFF, access, 12
    return r.choice((STACKS, USER)), r.choice((0xFFF, 0xFFFF)), access, r.choice((0, 4))


def random_slot(r: random.Random) -> int:
    """A descriptor of any kind."""
    if r.random() < 0.6:
        return descriptor(*random_segment(r))
    kind = r.randrange(16)
    base, limit = (TSS_C, 0x2B) if kind in (1, 3) else (TSS_B, r.choice((0x67, 0xFF)))
    return descriptor(base, limit, r.choice((0x80, 0x80, 0)) | r.randrange(4) << 5 | kind, 0)


def free_slots(r: random.Random, case: Case, slots: list[int]) -> None:
    """Put descriptors in the free part of the GDT, the same ones in the LDT, and look at them afterwards."""
    packed = struct.pack(f"<{len(slots)}Q", *slots)
    case.writes[GDT + FREE] = packed
    case.writes[LDT + 8] = packed[: 8 * 7]
    case.dumps.append((GDT + FREE, 2 * len(slots)))
    case.dumps.append((LDT + 8, 2 * min(len(slots), 7)))


def slot_selector(r: random.Random, slot: int, rpl: int) -> int:
    """A selector of free slot `slot`, through the GDT or the LDT."""
    if slot < 7 and r.random() < 0.25:
        return 8 * (slot + 1) | 4 | rpl
    return FREE + 8 * slot | rpl


def random_selector(r: random.Random) -> int:
    if r.random() < 0.75:
        return slot_selector(r, r.randrange(4), r.choice((0, 3, r.randrange(4))))
    return r.choice((0, 1, 2, 3, 0, 3, r.randrange(4), *FIXED, 0x200, 0x1FC, 0x44, 0x40, 0x4C, r.getrandbits(16)))


def offset_in(value: int, target: int) -> int:
    """The offset of linear address `target` in the segment of descriptor `value`."""
    base = (value >> 16 & 0xFFFFFF) | (value >> 56) << 24
    return (target - base) & 0xFFFFFFFF


def lookup(selector: int, slots: list[int]) -> int:
    """The descriptor a selector names, for the offset that goes with it; 0 when there is none."""
    if selector & 4:
        n = (selector >> 3) - 1
        return slots[n] if 0 <= n < len(slots) else 0
    n = ((selector & 0xFFF8) - FREE) // 8
    if 0 <= n < len(slots):
        return slots[n]
    for fixed, what in FIXED.items():
        if fixed & ~7 == selector & 0xFFF8:
            return descriptor(*what)
    return 0


def beyond_limit(selector: int, offset: int, slots: list[int]) -> bool:
    """Whether `selector`:`offset`, directly or behind a call gate, lies behind its code segment's limit."""
    value = lookup(selector, slots)
    if value >> 40 & 0x17 == 4:
        offset = (value & 0xFFFF) | (value >> 32 & 0xFFFF0000)
        value = lookup(value >> 16 & 0xFFFF, slots)
    limit = (value & 0xFFFF) | (value >> 32 & 0xF0000)
    return offset > (limit << 12 | 0xFFF if value >> 55 & 1 else limit)


def code_target(start: Start, selector: int, slots: list[int]) -> int:
    """Where in the segment of `selector` an INT3 is."""
    value = lookup(selector, slots)
    base = offset_in(value, 0)
    page = USER_CODE if base == -USER_CODE & 0xFFFFFFFF or start.ring == 3 else KERNEL_CODE
    if base and base not in (-USER_CODE & 0xFFFFFFFF, -KERNEL_CODE & 0xFFFFFFFF):
        return TARGET
    return offset_in(value, page + TARGET)


def encode(start: Start, code: bytes, *, size: int, memory_operand: bool) -> bytes:
    """`code` with the prefixes that give it an operand size of 2 or 4 bytes and 32-bit addressing in this segment."""
    prefixes = b"\x67" if memory_operand and not start.wide else b""
    return (b"\x66" if (size == 4) != start.wide else b"") + prefixes + code


def pack(size: int, *words: int) -> bytes:
    return b"".join((word & (1 << 8 * size) - 1).to_bytes(size, "little") for word in words)


def paged(r: random.Random, case: Case, chance: float) -> None:
    """Sometimes turn paging on, with either kind of tables."""
    if r.random() < chance:
        case.cr0 |= 0x80010000
        case.cr4, case.cr3 = r.choice(((0, PD), (0x20, PDPT)))
        tables_of_tasks(case)


def tables_of_tasks(case: Case) -> None:
    """The tasks that a case may end in have its page tables."""
    for address in (TSS, TSS_B, TSS_DF, *range(TSS_FAULT, TSS_FAULT + 0x280, 0x80)):
        case.writes[address + 28] = struct.pack("<I", case.cr3)


def codes(text: str) -> dict[str, bytes]:
    """Machine code by name: "name hex, name hex"."""
    pairs = (item.rsplit(maxsplit=1) for item in text.split(","))
    return {name.strip(): bytes.fromhex(code) for name, code in pairs}


# ---- paging ---------------------------------------------------------------------------------------------------------

ACCESSES = {"read": b"\x8a\x03", "write": b"\x88\x03", "rmw": b"\xf0\x80\x03\x01", "fetch": b""}


def paging_case(r: random.Random) -> Case:
    user, wide = r.random() < 0.5, r.random() < 0.5
    start = STARTS[6] if user else r.choice((STARTS[0], STARTS[0], STARTS[4], STARTS[5]))
    kind = r.choice(list(ACCESSES))
    large = r.random() < 0.4

    def bits(usual: int) -> int:
        value = usual
        for bit, chance in ((0, 0.04), (1, 0.2), (2, 0.25), (5, 0.5), (6, 0.5)):
            if r.random() < chance:
                value ^= 1 << bit
        if r.random() < 0.1:
            value |= 1 << r.choice((3, 4, 8, 9, 10, 11))
        if wide and r.random() < 0.12:
            value |= NX
        if wide and r.random() < 0.08:
            value |= 1 << r.choice((52, 58, 62, r.randrange(40, 52)))
        return value

    case = Case(f"paging {'PAE' if wide else 'two-level'} {kind} ring {start.ring}{' large' if large else ''}", start)
    case.cr0 |= 0x80000000 | (0x10000 if r.random() < 0.6 else 0)
    case.cr4 = (0x20 if wide else 0) | r.choice((0, 0x80))
    case.cr4 |= sum(bit for bit in (1 << 20, 1 << 21) if r.random() < 0.4)
    if wide or r.random() < 0.8:
        case.cr4 |= 0x10
    case.efer = 0x800 if r.random() < 0.8 else 0
    case.eflags = 2 | (AC if r.random() < 0.5 else 0)
    case.ebx = LIN
    entry = bits(FRAME | 7)
    if wide:
        case.cr3, where = PDPT, ((PAE_PD1 + 8 * 5, 8), (PAE_PT + 8 * 7, 8))
        directory = bits(BIG | 0x87) if large else bits(PAE_PT | 7)
        if large and r.random() < 0.1:
            directory |= 1 << r.randrange(13, 21)
    else:
        case.cr3, where = PD, ((PD + 4 * (LIN >> 22), 4), (PT + 4 * (LIN >> 12 & 0x3FF), 4))
        directory = bits(BIG & ~0x3FFFFF | 0x87) if large and case.cr4 & 0x10 else bits(PT | 7)
        if large and not case.cr4 & 0x10:
            directory |= 0x80  # ignored
        elif large and r.random() < 0.1:
            directory |= 1 << 21
    for (address, size), value in zip(where, (directory, entry), strict=True):
        case.writes[address] = value.to_bytes(size, "little")
    tables_of_tasks(case)
    case.writes[start.code] = ACCESSES[kind] + TRAP
    for page in (FRAME, 0xE07000, 0x207000 + (BIG & ~0x3FFFFF)):
        case.writes[page + 0x120] = b"\x90\x90\x90" + TRAP * 5
    if kind == "fetch":
        case.start = attrs.evolve(start, eip=LIN)
    case.dumps = [(address, size // 4) for address, size in where]
    case.dumps += [(page + 0x120, 1) for page in (FRAME, 0xE07000)]
    return case


# ---- segments -------------------------------------------------------------------------------------------------------

SEGMENT_CODE = codes("""
    mov ds 8ed8, mov es 8ec0, mov fs 8ee0, mov gs 8ee8, mov ss 8ed0, pop ds 1f, pop es 07, pop ss 17, pop fs 0fa1,
    pop gs 0fa9, lds c513, les c413, lfs 0fb413, lgs 0fb513, lss 0fb223, lar 0f02c8, lsl 0f03c8, verr 0f00e0,
    verw 0f00e8, arpl 63c8, lldt 0f00d0, ltr 0f00d8, lar mem 0f020b, arpl mem 630b
""")
WITH_MEMORY = ("lds", "les", "lfs", "lgs", "lss", "lar mem", "arpl mem")  # at [EBX]
PREFIX = {"ds": b"\x3e", "es": b"\x26", "fs": b"\x64", "gs": b"\x65"}
OTHER_CODE = codes("""
    cli fa, sti fb90, hlt f4, in ec, out ee, in ax 66ed33c06633c0, rdmsr 0f32, mov cr0 0f20c0, clts 0f06,
    str 0f00c9, sldt 0f00c1, smsw 0f01e1, lmsw 0f01f0, lgdt 0f0113, lidt 0f011b, invd 0f08, wbinvd 0f09,
    invlpg 0f013b, mov dr7 0f21f8, popf 9d, popfd 669d, pushf 9c, int3 cc, into ce, ud2 0f0b, div f7f0,
    sysexit 0f35, xgetbv 0f01d0
""")


def segment_case(r: random.Random) -> Case:
    start = r.choice(STARTS)
    name = r.choice((*SEGMENT_CODE, "lar", "lsl", "lar", "lsl", "verr", "verw"))
    code, has_memory = SEGMENT_CODE[name], name in WITH_MEMORY
    size = r.choice((2, 4))
    case = Case(f"{name} ring {start.ring} {'32' if start.wide else '16'} operand {8 * size}", start)
    slots = [random_slot(r) for _ in range(4)]
    free_slots(r, case, slots)
    selector = random_selector(r)
    if r.random() < 0.03:
        case.ldtr = 0
    case.eax = selector | r.getrandbits(16) << 16
    case.ecx = r.getrandbits(32)
    instruction = encode(start, code, size=size, memory_operand=has_memory)
    register = name.split()[-1].removeprefix("l") if name not in ("lar", "lsl", "lldt", "ltr") else ""
    if register in PREFIX and selector & 0xFFFC:  # and what lies there
        instruction += PREFIX[register] + (b"" if start.wide else b"\x67") + b"\x8b\x35" + struct.pack("<I", 0x700)
    case.writes[start.code] = instruction + TRAP
    pointer = pack(size, 0x712) + pack(2, selector) if name.startswith("l") and name[-1] == "s" else pack(4, case.eax)
    case.writes[OPERAND] = pointer
    if name == "lss":
        case.writes[OPERAND] = pack(size, 0x712) + pack(2, selector)
    if name.startswith("pop"):
        case.writes[case.stack] = pack(4, selector)
    paged(r, case, 0.15)
    return case


ACCESS_CODE = codes("""
    read 8 8a03, read 8b03, write 8 8803, write 8903, add 0103, xchg 8703, cmp 3b03, push mem ff33, pop mem 8f03, call mem ff13,
    lods ad, stos ab, movs a5, cmps a7, bound 6213, test mem f703ffffffff, bt mem 0fa30b, cmpxchg8b 0fc70b, inc fe03, not f713,
    push 50, pop 58, pushad 60, popad 61, enter c8100001, leave c9, call e8fb070000, ret c3, pushf 9c, popf 9d, push imm 6a55
""")
ON_STACK = ("push", "pop", "pushad", "popad", "enter", "leave", "call", "ret", "pushf", "popf")
ON_STACK += ("push imm", "push mem", "pop mem")
WITH_POINTER = ("lods", "stos", "movs", "cmps", "push mem", "pop mem", "call mem", "test mem", "bt mem")
SEGMENT_NUMBERS = ("es", "cs", "ss", "ds", "fs", "gs")


def access_case(r: random.Random) -> Case:
    """Reads, writes and pushes around the limit of a data segment, up and down, or without the right to.

    TCG checks none of that, so these are for KVM.
    """
    start = r.choice((STARTS[0], STARTS[0], STARTS[6], STARTS[7]))
    name = r.choice(list(ACCESS_CODE))
    size = r.choice((2, 4))
    stack = name in ON_STACK and r.random() < 0.8
    segment = "ss" if stack else "es" if name == "stos" else r.choice(("ds", "ds", "es", "fs", "gs"))
    case = Case(f"access {name} {segment} ring {start.ring} {'32' if start.wide else '16'} operand {8 * size}", start)
    kind = r.choice((2, 6)) if stack else r.choice((0, 2, 2, 4, 6, 6, 10))
    limit, granular = r.choice(((0x7F, 0), (0x7FE, 0), (0xFFF, 0), (0, 8), (0xFFFF, 0)))
    down = kind in (4, 6)
    base = r.choice((STACKS, USER)) if limit != 0xFFFF else 0
    slots = [descriptor(base, limit, 0x90 | start.ring << 5 | kind, granular | r.choice((0, 4))), 0, 0, 0]
    free_slots(r, case, slots)
    last = limit << 12 | 0xFFF if granular else limit
    around = last + r.choice((-8, -4, -3, -2, -1, 0, 1, 2, 4, 5, 8, 9)) + (0x100 if down and r.random() < 0.3 else 0)
    at = r.choice((around, around, around, around, 0xFFFFFFFF - r.randrange(5), 0xFFFF - r.randrange(5), 0x10000, 0))
    if name in ("ret", "call mem"):  # where it goes to must be there
        at = around & 0xFFFF
        where = base + at if stack or name == "call mem" else case.stack
        case.writes[where] = pack(4, start.eip + 0x40)
    case.eax = (0 if not stack and r.random() < 0.05 else FREE) | start.ring
    case.ebx = case.esi = case.edi = at & 0xFFFFFFFF
    case.ecx = 0x10
    load = bytes([0x8E, 0xC0 | SEGMENT_NUMBERS.index(segment) << 3])
    operand = name in WITH_POINTER or ACCESS_CODE[name][-1] & 0xC7 == 3 or name in ("bound", "cmpxchg8b", "not")
    code = encode(start, ACCESS_CODE[name], size=size, memory_operand=operand)
    if stack:  # SS, then a pointer near its limit
        load += encode(start, b"\x89\xdc", size=4, memory_operand=False)
    elif segment != "ds" and name != "stos":
        code = PREFIX[segment] + code
    case.writes[start.code] = load + code + TRAP
    for page in (STACKS, USER):
        case.dumps += [(page + 0x60, 12), (page + 0x7F0, 6), (page + 0xFF0, 8)]
    return case


def other_case(r: random.Random) -> Case:
    """Privileged and sensitive instructions; ports by the I/O permission map."""
    start = r.choice(STARTS)
    name = r.choice(list(OTHER_CODE))
    if name == "hlt" and start.ring == 0:
        name = "str"  # nothing would wake it
    case = Case(f"{name} ring {start.ring} {'32' if start.wide else '16'}", start)
    case.eflags = 2 | r.choice((0, 0x1000, 0x2000, 0x3000)) | (0x800 if r.random() < 0.5 else 0)
    case.ecx, case.edx, case.eax = 0xC0000080, 0x2E8 + r.randrange(8), r.choice((0, 1, 0xF0000))
    if name in ("lgdt", "lidt"):
        case.writes[OPERAND] = struct.pack("<HI", *((0x1FF, GDT) if name == "lgdt" else (0x31 * 8 - 1, IDT)))
    if name == "lmsw":
        case.eax = r.choice((0, 1, 8, 2, 0xF))
    if name.startswith("popf"):
        case.writes[case.stack] = pack(4, r.getrandbits(32) & ~(TF | VM) & 0x3FFFFF)
    if r.random() < 0.7:
        case.writes[TSS] = main_tss(iomap=r.choice((0x68, 0x68, 0x6A, 0x80, 0xA3, 0xFF, 0x100))) + bytes(0x98)
        case.writes[TSS + 0x68 + 0x5C] = r.choice((bytes(4), b"\xff\xff\xff\xff", r.randbytes(4)))
    memory_operand = name in ("lgdt", "lidt", "invlpg")
    case.writes[start.code] = (b"\x67" if memory_operand and not start.wide else b"") + OTHER_CODE[name] + TRAP
    paged(r, case, 0.15)
    return case


# ---- far transfers --------------------------------------------------------------------------------------------------


def far_slots(r: random.Random, start: Start) -> list[int]:
    """Two code or data segments and two call gates that lead to them or to fixed ones."""
    slots = [descriptor(*random_segment(r)) for _ in range(2)]
    if r.random() < 0.7:  # one that is good for this level more often than not
        dpl = r.choice((start.ring, start.ring, r.randrange(4)))
        slots[0] = descriptor(0, 0xFFFFF, 0x98 | dpl << 5 | r.choice((0, 2, 4, 6)), 12)
    for _ in range(2):
        selector = r.choice((FREE, FREE, FREE + 8, K32, R1_32 & ~3, U32, K16, 0, 0xC, 0x200))
        selector |= r.choice((0, 0, r.randrange(4)))
        access = present(r) | r.choice((3, 3, start.ring, r.randrange(4))) << 5 | r.choice((4, 12, 12))
        count = r.choice((0, 0, 1, 3, r.randrange(32)))
        slots.append(gate(code_target(start, selector, slots), selector, access, count))
    return slots


def bad_stack(r: random.Random, case: Case, slots: list[int]) -> None:
    """Sometimes give the TSS a stack that is wrong, or small, or 16-bit; sometimes it ends early, or is a 16-bit one."""
    if r.random() < 0.1:
        case.tr = C_SEL
        fields = {
            "ss0": r.choice((KDATA16, KDATA16, KDOWN, KDATA, 0, K32)),
            "esp0": 0x400,
            "esp1": 0x1600,
            "ss1": R1_DATA,
        }
        case.writes[TSS_C] = tss16(**task_state16(**fields))
        case.writes[TSS] = tss32(**task_state(cr3=case.cr3))  # now another task
        case.writes[GDT + C_SEL] = struct.pack(
            "<Q", descriptor(TSS_C, r.choice((0x2B, 0x2B, 1, 3, 4, 5, 7, 9)), 0x81, 0)
        )
        return
    if r.random() < 0.08:
        limit = r.choice((3, 7, 8, 9, 0xB, 0xC, 0xF, 0x13, 0x67))
        case.writes[GDT + TSS_SEL] = struct.pack("<Q", descriptor(TSS, limit, 0x89, 0))
    if r.random() < 0.7:
        return
    fields = {}
    for ring in range(3):
        choices = (KDATA, KDATA16, KDOWN, R1_DATA, R2_DATA, UDATA, K32)
        selector = r.choice((*choices, 0, FREE | ring, FREE + 8 | ring, 0x1F8 | ring, 0x300 | ring))
        fields[f"ss{ring}"] = selector
        offset = offset_in(lookup(selector, slots), STACK_TOPS[ring])
        fields[f"esp{ring}"] = offset if offset < 0x10000000 else offset & 0xFFF
    case.writes[TSS] = main_tss(**fields)


RETURNS = {"retf": b"\xcb", "retf 8": b"\xca\x08\x00", "iret": b"\xcf"}


def far_case(r: random.Random) -> Case:
    start = r.choice(STARTS)
    name = r.choice(("call far", "call far", "call far", "jmp far", "retf", "retf 8", "iret", "iret"))
    size = r.choice((4, 4, 2)) if start.wide else r.choice((2, 2, 4))
    case = Case(f"{name} ring {start.ring} {'32' if start.wide else '16'} operand {8 * size}", start)
    slots = far_slots(r, start)
    free_slots(r, case, slots)
    case.data = [r.choice((UDATA, KDATA if start.ring == 0 else UDATA, 0)) for _ in range(3)] + [UDATA]
    if name in ("call far", "jmp far"):
        selector = slot_selector(r, r.choice((0, 1, 2, 2, 3)), r.choice((0, start.ring, r.randrange(4))))
        if r.random() < 0.15:
            selector = random_selector(r)
        code = b"\xff\x1b" if name == "call far" else b"\xff\x2b"
        instruction = encode(start, code, size=size, memory_operand=True)
        case.data[0] = UDATA
        offset = code_target(start, selector, slots) & (1 << 8 * size) - 1
        case.writes[OPERAND] = pack(size, offset) + pack(2, selector)
        case.writes[case.stack] = struct.pack("<40I", *(0x5A000000 + n for n in range(40)))
    else:
        outer = min(3, start.ring + r.choice((0, 0, 1, 3)))
        good = {0: K32, 1: R1_32, 2: R2_32, 3: r.choice((U32, U16))}[outer]
        selector = r.choice(
            (good, good, good, slot_selector(r, 0, outer), slot_selector(r, 1, outer), random_selector(r))
        )
        stack_selector = {0: KDATA, 1: R1_DATA, 2: R2_DATA, 3: r.choice((UDATA, UDATA16))}[outer]
        stack_selector = r.choice((stack_selector,) * 3 + (slot_selector(r, 1, outer), random_selector(r)))
        flags = 2 | r.choice((0, r.getrandbits(32) & ~(TF | VM) & 0x3FFFFF)) & ~(1 << 19 | 1 << 20)
        offset = code_target(start, selector, slots) & (1 << 8 * size) - 1
        words = [offset, selector]
        words += [flags] if name == "iret" else [0xEE] * (8 // size if name == "retf 8" else 0)
        words += [0x7F00, stack_selector, 0x99]
        instruction = encode(start, RETURNS[name], size=size, memory_operand=False)
        case.writes[case.stack] = pack(size, *words)
    case.writes[start.code] = instruction + TRAP
    case.beyond = beyond_limit(selector, offset, slots)
    bad_stack(r, case, slots)
    case.dumps += [(STACK_TOPS[0] - 48, 12), (case.stack - 16, 4)]
    paged(r, case, 0.15)
    return case


# ---- delivery -------------------------------------------------------------------------------------------------------

FAULTS = codes("""
    div f7f0, int3 cc, into ce, bound 6213, ud2 0f0b, wait 9b, np 8ed8, ss 8ed0, gp 8ed8, pf a100000070,
    int n cd2f, int n int cd2f, int beyond cd31, int 13 cd0d
""")
FAULT_VECTORS = dict(zip(FAULTS, (0, 3, 4, 5, 6, 7, 11, 12, 13, 14, VECTOR, VECTOR, 0x31, 13), strict=True))


def handler_gate(r: random.Random, case: Case, vector: int, slots: list[int]) -> None:
    """Put a random gate at `vector`."""
    kind = r.choice((0xE, 0xE, 0xF, 0x6, 0x7, 0x5, r.randrange(32)))
    access = present(r) | r.choice((3, 3, 3, r.randrange(4))) << 5 | kind
    small = kind in (6, 7)
    others = () if vector == 3 else (FREE, FREE + 8, U32)  # those end in INT3 again
    selector = r.choice(((STUB_CODE,) * 3 + (0, KDATA, 0x44, 0x300)) + others) | r.choice((0, 0, 3))
    if not small and r.random() < 0.5:
        selector = K32
    offset = STUBS + 16 * vector
    if selector & ~3 == STUB_CODE:
        offset = 16 * vector
    elif selector & ~3 in (FREE, FREE + 8, U32 & ~3):
        offset = code_target(case.start, selector, slots)
    if small:
        offset &= 0xFFFF
    case.beyond = beyond_limit(selector, offset, slots)
    if kind == 5:
        selector = r.choice((B_SEL, B_SEL, B_SEL, TSS_SEL, FREE + 16, FREE + 24, 0, LDT_SEL, 0xC, 0x300))
        selector |= r.choice((0, 0, 3))
        case.writes[TSS_B] = tss32(**task_state(cr3=case.cr3, eip=STUBS + 16 * vector))
        case.dumps += [(TSS, 26), (GDT + B_SEL, 2)]
    case.writes[IDT + 8 * vector] = struct.pack("<Q", gate(offset, selector, access))


def delivery_case(r: random.Random) -> Case:
    start = r.choice(STARTS)
    name = r.choice(list(FAULTS))
    vector, code = FAULT_VECTORS[name], FAULTS[name]
    case = Case(f"delivery {name} ring {start.ring} {'32' if start.wide else '16'}", start)
    slots = [descriptor(*random_segment(r)) for _ in range(2)]
    if r.random() < 0.5:
        slots[0] = descriptor(0, 0xFFFFF, 0x98 | r.randrange(start.ring + 1) << 5 | r.choice((0, 2, 4, 6)), 12)
    slots += [random_slot(r), descriptor(TSS_B, r.choice((0x67, 0x66)), r.choice((0x89, 0x89, 0x8B, 0x09)), 0)]
    slots.append(descriptor(0, 0xFFFFF, 0x13 | start.ring << 5, 12))  # data that is not present
    free_slots(r, case, slots)
    case.eflags = 2 | r.choice((0, IF, 0x3000, 0x8D5, IF | NT, AC))
    if name == "into":
        case.eflags |= 0x800
    elif name == "bound":
        case.edx = 5
        case.writes[OPERAND] = struct.pack("<2I", 0x60006, 0x70007)
        code = (b"" if start.wide else b"\x67") + code
    elif name == "wait":
        case.cr0 |= 8
    elif name in ("np", "ss"):
        case.eax = FREE + 32 | start.ring
    elif name == "gp":
        case.eax = 0x300
    if name == "pf":
        case.cr0 |= 0x80010000
        case.cr4, case.cr3 = r.choice(((0, PD), (0x20, PDPT)))
        tables_of_tasks(case)
        code = (b"" if start.wide else b"\x67") + code
    else:
        paged(r, case, 0.15)
    if name != "int beyond":
        handler_gate(r, case, vector, slots)
    case.writes[start.code] = code + TRAP
    bad_stack(r, case, slots)
    case.dumps += [(STACK_TOPS[0] - 48, 12), (case.stack - 24, 6)]
    return case


# ---- V8086 mode -----------------------------------------------------------------------------------------------------

V86_CODES = codes("""
    cli fa, sti fb90, pushf 9c, popf 9d, pushfd 669c, popfd 669d, iret cf, iretd 66cf, int n cd2f, int3 cc, hlt f4,
    in ec, out ee, lmsw 0f01f0, smsw 0f01e0, mov ds 8ed88b361000, mov ss 8ed090, clts 0f06, jmp far ea40000011,
    call far 9a40000011, retf cb, lar 0f02c8, ud2 0f0b, ltr 0f00d8, div f7f0, les c4161000, into ce, arpl 63c8,
    mov cr0 0f20c0
""")


def v86_case(r: random.Random) -> Case:
    name = r.choice(list(V86_CODES))
    case = Case(f"v86 {name}", STARTS[0])
    slots = [descriptor(*random_segment(r)) for _ in range(2)] + [0, 0]
    free_slots(r, case, slots)
    case.v86 = [V86_CODE >> 4, 0, V86_STACK >> 4, 0x400, *(r.getrandbits(12) for _ in range(4))]
    case.v86[5] = 0x1100  # DS
    case.eflags = 2 | r.choice((0, 0x1000, 0x3000, 0x3000)) | r.choice((0, IF, NT, 0xD5))
    case.ecx, case.edx, case.eax = r.getrandbits(32), 0x2E8, r.choice((0, 0x1200, 0xFFFF))
    if name == "div":
        case.eax = 0
    case.writes[V86_CODE] = V86_CODES[name] + TRAP * 4
    flags = r.getrandbits(32) & 0x3FFFFF & ~TF
    words = {
        "iret": (2, 0x40, 0x1100, flags),
        "iretd": (4, 0x40, 0x1100, flags),
        "retf": (2, 0x50, 0x1100),
        "popf": (2, flags),
        "popfd": (4, flags),
    }
    case.writes[V86_STACK + 0x400] = pack(*words.get(name, (4, 0)))
    case.writes[0x11010] = b"\x77\x66\x55\x14"
    if r.random() < 0.5:
        case.writes[TSS] = main_tss(iomap=r.choice((0x68, 0x6A, 0x100))) + bytes(0x98)
    if r.random() < 0.4:
        handler_gate(r, case, r.choice((VECTOR, 13, 3, 6)), slots)
    bad_stack(r, case, slots)
    case.dumps += [(STACK_TOPS[0] - 48, 12), (V86_STACK + 0x3F0, 4)]
    paged(r, case, 0.3)
    return case


# ---- tasks ----------------------------------------------------------------------------------------------------------

BAD_SELECTORS = (
    *(0, 3, K32, KDATA, U32, UDATA, R1_32, R2_DATA, TSS_SEL),
    *(U32 & ~3, UDATA & ~3, R1_32 & ~3, FREE, FREE + 3, FREE + 8, FREE + 11, 0xC, 0xF, 0x300),
)


def task_case(r: random.Random) -> Case:
    start = r.choice(STARTS)
    name = r.choice(("jmp", "call", "int", "iret", "jmp gate", "call gate"))
    narrow = r.random() < 0.3
    selector, address = (C_SEL, TSS_C) if narrow else (B_SEL, TSS_B)
    case = Case(f"task {name} ring {start.ring} {'16-bit TSS' if narrow else '32-bit TSS'}", start)
    slots = [descriptor(*random_segment(r)) for _ in range(2)]
    access = present(r) | r.choice((3, 3, 3, r.randrange(4))) << 5
    busy = r.choice((2, 2, 2, 0)) if name == "iret" else r.choice((0, 0, 0, 0, 2))
    limit = r.choice((0x2B, 0x2B, 0x2A)) if narrow else r.choice((0x67,) * 5 + (0x66, 0x2B))
    slots.append(descriptor(address, limit, access | (1 if narrow else 9) | busy, 0))
    tss = r.choice((FREE + 16,) * 4 + (selector, 0, KDATA, 0x14, 0x300))
    slots.append(gate(0, tss, present(r) | 0x65))
    free_slots(r, case, slots)
    paged(r, case, 0.3)

    ring = r.choice((0, 0, 3, 3, 1))
    if narrow:
        state = task_state16(**({"cs": U16, "ss": UDATA16} if ring == 3 else {}))
    else:
        state = task_state(cr3=r.choice((case.cr3, PD2)) if case.cr3 == PD else case.cr3)
        state |= {
            0: {},
            3: {"cs": U32, "ss": UDATA, "esp": USER + 0x600, "eip": USER_CODE + TARGET, "es": UDATA},
            1: {"cs": R1_32, "ss": R1_DATA, "es": R1_DATA},
        }[ring]
    if not narrow and r.random() < 0.15:
        state |= {"eflags": 2 | VM | r.choice((0, 0x3000)), "cs": 0x1100, "eip": 0x30, "ss": 0x1F00, "esp": 0x380}
        state |= {"es": 0x1234, "ds": 0x55, "fs": 0x66, "gs": 0xFFFF}
    if r.random() < 0.5:
        state["eflags"] |= r.choice((0x8D5, IF, NT, 0x3000, RF, AC, 0x400))
    if r.random() < 0.45:
        field = r.choice(("cs", "ss", "ds", "es", "ldt") if narrow else ("cs", "ss", "ds", "es", "fs", "gs", "ldt"))
        state[field] = r.choice(BAD_SELECTORS)
        case.unloaded = field in ("cs", "ss", "ldt")
        case.conforming = field == "cs" and lookup(state["cs"], slots) >> 42 & 7 == 7
    state["link"] = 0x7777
    case.writes[address] = (tss16 if narrow else tss32)(**state) + bytes(2 if narrow else 0)
    if name == "iret":
        link = r.choice((FREE + 16,) * 6 + (selector, 0, 0x14, 0x300, FREE)) | r.choice((0, 0, 3))
        case.writes[TSS] = main_tss(link=link)
        case.eflags |= NT
        code = b"\xcf"
    elif name == "int":
        case.writes[IDT + 8 * VECTOR] = struct.pack("<Q", slots[3])
        code = b"\xcd" + bytes([VECTOR])
    else:
        target = (FREE + 24 if "gate" in name else FREE + 16) | r.choice((0, 0, r.randrange(4)))
        case.writes[OPERAND] = pack(4, 0x12345678, target)
        code = encode(start, b"\xff\x1b" if name.startswith("call") else b"\xff\x2b", size=4, memory_operand=True)
    if r.random() < 0.6:  # faults have tasks of their own, that leave the new one's state in its TSS
        gates = (gate(0, FAULT_SEL + 8 * n, 0x85) for n in range(4))
        case.writes[IDT + 80] = struct.pack("<4Q", *gates)
        case.unloaded = False
    case.eflags |= r.choice((0, 0x8D5, IF, AC))
    case.writes[start.code] = code + TRAP
    case.dumps += [(TSS, 26), (address, 11 if narrow else 26), (GDT + TSS_SEL, 2), (TASK_STACK - 32, 8)]
    case.dumps.append((GDT + DF_SEL, 2))
    return case


# ---- what lies on a page that may fault -----------------------------------------------------------------------------


PAGE_INSTRUCTIONS = {
    "stack": ("ud2", "int", "call"),
    "ldt": ("mov ds", "les", "jmp", "lar"),
    "tss": ("jmp", "call", "int", "iret"),
}


def page_case(r: random.Random) -> Case:
    """The inner stack, the LDT or the TSS of a new task is at LIN, whose page table entries have random rights."""
    what = r.choice(("stack", "stack", "ldt", "tss", "tss"))
    start = r.choice((STARTS[0], STARTS[4], STARTS[6], STARTS[6], STARTS[7]))
    page = LIN & ~0xFFF
    name = r.choice(PAGE_INSTRUCTIONS[what])
    case = Case(f"page {what} {name} ring {start.ring} {'32' if start.wide else '16'}", start)
    wide = r.random() < 0.5
    case.cr0 |= 0x80000000 | r.choice((0, 0x10000, 0x10000))
    case.cr4, case.cr3 = (0x20, PDPT) if wide else (0x10, PD)
    tables_of_tasks(case)

    def rights(frame: int) -> int:
        value = frame | r.choice((0x63, 0x67, 0x67, 0x65, 0x61, 0x66)) & ~r.choice((0, 0, 0x20, 0x40, 0x60))
        return value & ~1 if r.random() < 0.15 else value

    size = 8 if wide else 4
    entry, table = (PAE_PT + 8 * 7, PAE_PD1 + 8 * 5) if wide else (PT + 4 * (LIN >> 12 & 0x3FF), PD + 4 * (LIN >> 22))
    case.writes[table] = (rights(PAE_PT if wide else PT) & ~0x40).to_bytes(size, "little")
    case.writes[entry] = rights(FRAME).to_bytes(size, "little")
    case.writes[entry + size] = rights(FRAME + 0x3000).to_bytes(size, "little")  # the page behind it
    if r.random() < 0.6:
        case.writes[IDT + 80] = struct.pack("<5Q", *(gate(0, FAULT_SEL + 8 * n, 0x85) for n in range(5)))
    for at in (FRAME, FRAME + 0x7E0, FRAME + 0xFE0, FRAME + 0x3000):
        case.writes[at] = bytes(0x20)
    code = b"\x0f\x0b"
    through = gate(KERNEL_CODE + TARGET, FREE, 0xE0 | r.choice((4, 12)), r.choice((0, 0, 5)))
    slots = [descriptor(0, 0xFFFFF, 0x98, 12), through, 0, 0]
    if name == "int":
        code = b"\xcd" + bytes([VECTOR])
        case.writes[IDT + 8 * VECTOR] = struct.pack("<Q", gate(STUBS + 16 * VECTOR, K32, 0xEE))
    far = {"call": b"\xff\x1b", "jmp": b"\xff\x2b"}
    target = FREE + 8
    if what == "stack":
        case.writes[TSS] = main_tss(esp0=page + r.choice((0x800, 4, 8, 16, 20, 0x1000, 0x1004, 0x1008)))
        case.dumps += [(FRAME, 8), (FRAME + 0x7E0, 8)]
    elif what == "ldt":
        at = r.choice((0x10, 0xFF8, 0xFFC))  # over the end of the page
        slots[0] = descriptor(page + at, 0x3F, 0x82, 0)
        case.ldtr, target = FREE, 0xC | start.ring
        data = struct.pack("<2Q", 0, descriptor(0, 0xFFFFF, r.choice((0x92, 0x93, 0x9A)) | start.ring << 5, 12))
        case.writes[FRAME + at] = data[: 0x1000 - at]
        if at + 16 > 0x1000:
            case.writes[FRAME + 0x3000] = data[0x1000 - at :]
        case.eax = target
        loads = {"mov ds": b"\x8e\xd8", "les": b"\xc4\x13", "lar": b"\x0f\x02\xc8", "jmp": far["jmp"]}
        code = encode(start, loads[name], size=4, memory_operand=name in ("les", "jmp"))
        case.dumps += [(FRAME + (at & ~7), 2), (FRAME + 0x3000, 4)]
    else:
        at = r.choice((0x100, 0xFC0, 0xFA0, 0xFE0))
        slots[0] = descriptor(page + at, 0x67, 0xE9 | (2 if name == "iret" else 0), 0)
        data = tss32(**task_state(cr3=case.cr3))
        case.writes[FRAME + at] = data[: 0x1000 - at]
        if at + 0x68 > 0x1000:
            case.writes[FRAME + 0x3000] = data[0x1000 - at :]
        target = FREE
        if name == "int":
            case.writes[IDT + 8 * VECTOR] = struct.pack("<Q", gate(0, FREE, 0xE5))
        elif name == "iret":
            case.eflags |= NT
            case.writes[TSS] = main_tss(link=FREE)
            code = b"\xcf"
        case.dumps += [(TSS, 26), (FRAME + at, 4), (GDT + TSS_SEL, 2)]
    if name in far:
        code = encode(start, far[name], size=4, memory_operand=True)
    case.writes[OPERAND] = pack(4, KERNEL_CODE + TARGET, target)
    case.writes[GDT + FREE] = struct.pack("<4Q", *slots)
    case.writes[start.code] = code + TRAP
    case.dumps += [(GDT + FREE, 4), (table, size // 4), (entry, size // 4), (entry + size, size // 4)]
    return case


Family = tuple[Callable[[random.Random], Case], int]  # makes a case; how many of these there are beside the others
FAMILIES: dict[str, Family] = {
    "paging": (paging_case, 30), "segments": (segment_case, 20), "privilege": (other_case, 8), "far": (far_case, 22),
    "delivery": (delivery_case, 20), "v86": (v86_case, 10), "tasks": (task_case, 20),
    "pages": (page_case, 15),
}  # fmt: skip


ACCESS: dict[str, Family] = {"access": (access_case, 40)}


def make(seed: int, count: int, families: dict[str, Family] = FAMILIES) -> list[Case]:
    """`count` cases, the same for the same seed."""
    r = random.Random(f"system32 {seed}")
    weights = [weight for _, weight in families.values()]
    return [make_one(r) for make_one, _ in r.choices(list(families.values()), weights, k=count)]
