"""System-level cases for long mode: tables for `system_cases.S`, made at random from a seed, and how to read the results.

Paging: every combination of the rights bits, reserved bits, accessed and dirty bits, page sizes, CR0.WP, CR4.SMEP and SMAP,
EFER.NXE, EFLAGS.AC, privilege, read, write, read-modify-write and fetch.  Segments: loads, LAR, LSL, VERR, VERW, far calls,
jumps and returns, IRETQ, LLDT, LTR with random descriptors at both privileges, from 64-bit and compatibility code.
Interrupts: INT n through random gates with interrupt stacks.

Left out because QEMU 7.2's TCG does not do them as the manual says (the metal programs have them): segment limits and null
selectors of data segments in compatibility mode (SDM 3, 5.3, 5.4.1); L and D set together (SDM 2, JMP, RET); LTR of a null
selector, a null SS whose RPL is not CPL (SDM 2, LTR, MOV, RET); LAR and LSL of types long mode does not have (SDM 2, LAR);
SYSRET in compatibility mode (SDM 2, SYSRET); far targets that are not canonical (SDM 2, CALL); frames pushed with user rights
when an interrupt stays at privilege 3 (SDM 3, 6.14).
"""

import random
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
TABLES, GDT, LDT, IDT, TSS, STUBS, COUNT = 0x300000, 0x306000, 0x307000, 0x308000, 0x309000, 0x30A000, 0x30B000
KERNEL_CODE, FRAME_4K = 0x30C000, 0x30D000
CASES, RESULTS = 0x400000, 0x800000
USER_CODE, USER_STACK, OPERAND = 0xC00000, 0xC10000, 0xC20000
KERNEL_STACK, COMMON, DONE, ROM = 0xB20000, 0xF0080, 0xF0090, 0xF0000
CASE_SIZE, RESULT_SIZE, CASES_MAX = 512, 256, 8192
RESULT_QWORDS = 25
LIN = 1 << 39 | 3 << 30 | 5 << 21 | 7 << 12 | 0x123
PML4E, PDPTE, PDE, PTE = TABLES + 8, 0x303000 + 8 * 3, 0x304000 + 8 * 5, 0x305000 + 8 * 7
TRAP = b"\xcd\x21"
CR0, CR4, EFER = 0x80010033, 0x620, 0xD01
K64, U64, U32, K32, KDATA, UDATA, TSS_SEL = 0x08, 0x2B, 0x1B, 0x48, 0x10, 0x23, 0x30
FREE, SLOTS = 0x80, 16  # selectors of the descriptors that cases choose
NX = 1 << 63
NAMES = (
    "vector", "error", "rip", "cs", "rflags", "rsp", "ss", "cr2", "rax", "rcx", "rdx", "handler rsp", "ds es fs gs",
    *(f"memory {n}" for n in range(12)),
)  # fmt: skip


@attrs.define
class Case:
    """What system_cases.S takes; `note` is for people."""

    note: str
    cr0: int = CR0
    cr4: int = CR4
    efer: int = EFER
    rip: int = 0
    cs: int = K64
    rflags: int = 2
    rsp: int = KERNEL_STACK
    ss: int = KDATA
    rax: int = 0
    rcx: int = 0
    rdx: int = 0
    rbx: int = 0
    rsi: int = 0
    rdi: int = 0
    writes: dict[int, int] = attrs.field(factory=dict)
    dumps: list[int] = attrs.field(factory=list)

    def packed(self) -> bytes:
        words = [self.cr0, self.cr4, self.efer, 0, self.rip, self.cs, self.rflags, self.rsp, self.ss]
        words += [self.rax, self.rcx, self.rdx, self.rbx, self.rsi, self.rdi]
        pairs = [value for pair in self.writes.items() for value in pair]
        assert len(pairs) <= 32 and len(self.dumps) <= 12
        words += pairs + [0] * (32 - len(pairs)) + self.dumps + [0] * (12 - len(self.dumps))
        return struct.pack(f"<{len(words)}Q", *(word & ((1 << 64) - 1) for word in words)).ljust(CASE_SIZE, b"\0")


def rom(directory: Path | None = None) -> bytes:
    """`system_cases.S` assembled; needs GNU binutils."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        unit, image = Path(folder) / "unit.o", Path(folder) / "image"
        subprocess.run(["as", "--64", "-o", str(unit), str(HERE / "system_cases.S")], check=True)
        link = ["ld", "-m", "elf_x86_64", "-Ttext", hex(ROM), "--oformat", "binary", "-o", str(image), str(unit)]
        subprocess.run(link, check=True, stderr=subprocess.DEVNULL)
        return image.read_bytes()


def descriptor(base: int, limit: int, access: int, flags: int) -> int:
    value = (limit & 0xFFFF) | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16 & 15) << 48
    return value | (flags & 15) << 52 | (base >> 24 & 0xFF) << 56


def gate(offset: int, selector: int, access: int, ist: int = 0) -> tuple[int, int]:
    low = (offset & 0xFFFF) | selector << 16 | ist << 32 | access << 40 | (offset >> 16 & 0xFFFF) << 48
    return low, offset >> 32


def memory(cases: list[Case]) -> dict[int, bytes]:
    """Everything the ROM expects in memory, by address."""
    blob = bytearray(0x30E000 - TABLES)

    def put(address: int, data: bytes) -> None:
        blob[address - TABLES : address - TABLES + len(data)] = data

    def word(address: int, value: int) -> None:
        put(address, value.to_bytes(8, "little"))

    word(TABLES, 0x301000 | 7)
    word(0x301000, 0x302000 | 7)
    for n in range(512):
        word(0x302000 + 8 * n, n << 21 | (0xE7 if n == USER_CODE >> 21 else 0xE3))
    fixed = (0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFFB000000FFFF, 0x00CFF3000000FFFF, 0x00AFFB000000FFFF)
    for n, value in enumerate(fixed):
        word(GDT + 8 * n, value)
    word(GDT + TSS_SEL, descriptor(TSS, 0x67, 0x89, 0))
    word(GDT + K32, 0x00CF9B000000FFFF)
    for n in range(3):
        word(TSS + 4 + 8 * n, 0xB30000 + 0x10000 * n)
    for n in range(7):
        word(TSS + 36 + 8 * n, 0xB60000 + 0x8000 * n)
    for vector in range(256):
        low, high = gate(STUBS + 16 * vector, K64, 0xEE if vector in (0x21, 0x22) else 0x8E, 1 if vector == 8 else 0)
        word(IDT + 16 * vector, low)
        word(IDT + 16 * vector + 8, high)
        stub = b"" if vector in (8, 10, 11, 12, 13, 14, 17) else b"\x6a\xff"
        stub += b"\x68" + struct.pack("<I", vector) + b"\xe9"
        stub += struct.pack("<i", COMMON - (STUBS + 16 * vector + len(stub) + 4))
        put(STUBS + 16 * vector, stub)
    word(COUNT, len(cases))
    put(KERNEL_CODE + 0x800, TRAP)
    put(FRAME_4K, b"\x90" * 4096)
    put(FRAME_4K + 0x123, TRAP)
    user = bytearray(0x1000)
    user[0x800:0x802] = TRAP
    return {
        TABLES: bytes(blob), 0x207123: TRAP, 0xA07123: TRAP, USER_CODE: bytes(user),
        CASES: b"".join(case.packed() for case in cases),
    }  # fmt: skip


# ---- paging ---------------------------------------------------------------------------------------------------------

ACCESSES = {"read": b"\x8a\x03", "write": b"\x88\x03", "rmw": b"\xf0\x80\x03\x01", "fetch": b""}


def paging_case(r: random.Random) -> Case:
    user = r.random() < 0.5
    kind = r.choice(list(ACCESSES))
    level = r.choice((1, 1, 1, 2, 2, 3))

    def bits(usual: int) -> int:
        value = usual
        for bit, chance in ((0, 0.04), (1, 0.2), (2, 0.25), (5, 0.5), (6, 0.5)):
            if r.random() < chance:
                value ^= 1 << bit
        if r.random() < 0.12:
            value |= NX
        if r.random() < 0.1:
            value |= 1 << r.choice((3, 4, 8, 9, 10, 11, 52, 58))
        if r.random() < 0.04:
            value |= 1 << r.randrange(40, 52)
        return value

    entries = [bits(0x303007), bits(0x304007), bits(0x305007), bits(FRAME_4K | 7)]
    if level == 2:
        entries[2] = bits(0x200087) | (1 << r.randrange(13, 21) if r.random() < 0.1 else 0)
    elif level == 3:
        entries[1] = bits(0x87) | (1 << r.randrange(13, 30) if r.random() < 0.1 else 0)
    if r.random() < 0.02:
        entries[0] |= 0x80  # reserved in a PML4 entry
    cr4 = (
        CR4
        | (0x80 if r.random() < 0.5 else 0)
        | (1 << 20 if r.random() < 0.4 else 0)
        | (1 << 21 if r.random() < 0.4 else 0)
    )
    case = Case(f"paging {kind} {'user' if user else 'supervisor'} level {level}", cr4=cr4)
    case.cr0 = CR0 & ~0x10000 if r.random() < 0.4 else CR0
    case.efer = EFER & ~0x800 if r.random() < 0.2 else EFER
    case.rflags = 2 | (0x40000 if r.random() < 0.5 else 0)
    if user:
        case.cs, case.ss, case.rsp = U64, UDATA, USER_STACK
    code = USER_CODE if user else KERNEL_CODE
    case.rip = LIN if kind == "fetch" else code
    case.rbx = LIN
    case.writes = dict(zip((PML4E, PDPTE, PDE, PTE), entries, strict=True))
    case.writes[code] = int.from_bytes((ACCESSES[kind] + TRAP).ljust(8, b"\x90"), "little")
    for page in (FRAME_4K, 0x207000, 0xA07000):  # what an earlier write left there
        case.writes[page + 0x120] = int.from_bytes(b"\x90\x90\x90" + TRAP + b"\x90\x90\x90", "little")
    case.dumps = [PML4E, PDPTE, PDE, PTE]
    return case


# ---- segments and far transfers -------------------------------------------------------------------------------------

INSTRUCTIONS = {
    "mov ds": b"\x8e\xd8", "mov es": b"\x8e\xc0", "mov ss": b"\x8e\xd0", "mov fs": b"\x8e\xe0", "mov gs": b"\x8e\xe8",
    "lar": b"\x0f\x02\xc8", "lsl": b"\x0f\x03\xc8", "verr": b"\x0f\x00\xe0", "verw": b"\x0f\x00\xe8", "lldt": b"\x0f\x00\xd0",
    "ltr": b"\x0f\x00\xd8", "lss": b"\x0f\xb2\x0b", "call far": b"\xff\x1b", "jmp far": b"\xff\x2b", "retf": b"\xcb",
    "retfq": b"\x48\xcb", "iretd": b"\xcf", "iretq": b"\x48\xcf", "int": b"\xcd\x40", "pop fs": b"\x0f\xa1",
    "retf 16": b"\xca\x10\x00", "call far 64": b"\x48\xff\x1b", "ud2": b"\x0f\x0b", "hlt": b"\xf4", "cli": b"\xfa",
    "in": b"\xec", "rdmsr": b"\x0f\x32", "mov cr0": b"\x0f\x20\xc0", "swapgs": b"\x0f\x01\xf8", "clts": b"\x0f\x06",
    "str": b"\x0f\x00\xc9", "sldt": b"\x0f\x00\xc1", "int3": b"\xcc", "sysretq": b"\x48\x0f\x07", "invlpg": b"\x0f\x01\x3b",
}  # fmt: skip


def random_descriptor(r: random.Random, targets: tuple[int, ...]) -> tuple[int, int]:
    """A descriptor and the second half it has if it is a system one."""
    dpl, present = r.randrange(4), 0x80 if r.random() < 0.9 else 0
    if r.random() < 0.65:
        kind = 0x10 | r.randrange(16)
        flags = r.choice((0xA, 0xA, 0xC, 0xC, 0x8))
        if not kind & 8:
            flags = r.choice((0xC, 0xC, 0x4, 0x0))
        return descriptor(0, 0xFFFFF, present | dpl << 5 | kind, flags), 0
    kind = r.choice((0xC, 0xC, 0xC, 0x2, 0x9, 0xB, 0xE, r.choice((0, 8, 10, 13))))
    if kind == 0xC:
        selector = r.choice((K64, U64, K32, FREE + 16 * r.randrange(SLOTS // 2) | r.randrange(4), 0))
        low, high = gate(r.choice(targets), selector, present | dpl << 5 | kind)
        return low, high | (r.getrandbits(5) << 40 if r.random() < 0.05 else 0)
    return descriptor(TSS, r.choice((0x67, 0x67, 0x66, 0xFFF)), present | dpl << 5 | kind, 0), 0


def random_selector(r: random.Random) -> int:
    if r.random() < 0.8:
        return FREE + 16 * r.randrange(SLOTS // 4) | r.choice((0, 3, 3, r.randrange(4)))
    return r.choice((0, 1, 3, K64, U64, U32, KDATA, UDATA, TSS_SEL, 0x400, 0x3FC, 0x84, r.getrandbits(16)))


def segment_case(r: random.Random) -> Case:
    name = r.choice(list(INSTRUCTIONS))
    user = r.random() < 0.6 or name == "hlt"
    wide = r.random() < 0.75 or name == "sysretq"
    targets = (USER_CODE + 0x800, KERNEL_CODE + 0x800)
    case = Case(f"{name} {'user' if user else 'supervisor'} {'64' if wide else '32'}")
    if user:
        case.cs, case.ss, case.rsp = U64 if wide else U32, UDATA, USER_STACK
    elif not wide:
        case.cs = K32
    code, target = (USER_CODE, targets[0]) if user else (KERNEL_CODE, targets[1])
    case.rip, case.rbx = code, OPERAND
    case.rax = random_selector(r)
    selector = random_selector(r)
    if name in ("ltr", "mov ss", "lss"):
        case.rax, selector = (x if x & 0xFFFC else FREE for x in (case.rax, selector))
    case.rflags = 2 | r.choice((0, 0x3000, 0x4000 if r.random() < 0.1 else 0))
    if name in ("in", "rdmsr"):
        case.rcx, case.rdx = 0xC0000080, 0x402
    if name == "sysretq":
        case.rcx = target
    for n in range(SLOTS // 4):
        low, high = random_descriptor(r, targets)
        case.writes[GDT + FREE + 16 * n], case.writes[GDT + FREE + 16 * n + 8] = low, high
    case.writes[code] = int.from_bytes((INSTRUCTIONS[name] + TRAP).ljust(8, b"\x90"), "little")
    offset = r.choice((target, target, target, targets[0]))
    if name.endswith("64"):
        case.writes[OPERAND], case.writes[OPERAND + 8] = offset, selector
    else:
        case.writes[OPERAND] = (offset & 0xFFFFFFFF) | selector << 32
    stack_selector = r.choice((random_selector(r), UDATA, KDATA))
    if not stack_selector & 0xFFFC:
        stack_selector = UDATA
    stack = USER_STACK + 0x100
    if name in ("retf", "retf 16", "iretd", "pop fs"):
        gap = 4 if name == "retf 16" else 0
        words = [target, selector]
        words += [0x202] if name == "iretd" else [0] * gap
        words += [stack, stack_selector]
        if name == "pop fs":
            words = [selector, 0, 0, 0]
        packed = struct.pack(f"<{len(words)}I", *words).ljust(40, b"\0")
    else:
        words = [target, selector, r.choice((0x202, 0x2, 0x3202, 0x4202, 0x20202)), stack, stack_selector]
        if name == "retfq":
            words = [target, selector, stack, stack_selector, 0]
        packed = struct.pack("<5Q", *words)
    if name.startswith("call"):
        packed = bytes(32)
    for n in range(len(packed) // 8):
        at = case.rsp + 8 * (n - 4 if name.startswith("call") else n)
        case.writes[at] = int.from_bytes(packed[8 * n : 8 * n + 8], "little")
    if name == "int":  # takes the place of what is on the stack, that it does not read
        for n in range(5):
            del case.writes[case.rsp + 8 * n]
        kind = r.choice((0xE, 0xE, 0xE, 0xF, 0xF, 0xC, 0x5, r.randrange(32)))
        access = (0x80 if r.random() < 0.9 else 0) | r.choice((0, 3, 3, r.randrange(4))) << 5 | kind
        ist = r.choice((0, 0, 0, 2, 3, 7))
        target_selector = K64 if ist else r.choice((K64, K64, K64, selector, U64, K32, 0))
        low, high = gate(STUBS + 0x400, target_selector, access, ist)
        case.writes[IDT + 0x400], case.writes[IDT + 0x408] = low, high
    case.dumps = [GDT + FREE + 16 * n for n in range(SLOTS // 4)]
    if name.startswith("call"):
        case.dumps += [case.rsp - 8 * n for n in range(1, 5)]
    return case


def make(seed: int, count: int) -> list[Case]:
    """`count` cases, the same for the same seed."""
    r = random.Random(f"system {seed}")
    return [paging_case(r) if r.random() < 0.5 else segment_case(r) for _ in range(count)]


def results(data: bytes, count: int) -> Iterator[dict[str, int]]:
    """What the ROM wrote, by name."""
    for n in range(count):
        yield dict(zip(NAMES, struct.unpack_from(f"<{RESULT_QWORDS}Q", data, n * RESULT_SIZE), strict=True))
