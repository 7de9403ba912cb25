"""Cases for `system32_cases.S`, that run in protected and V8086 mode: what one holds, the memory around it, its result.

Each case starts at ring 0 to 3, in a 16- or 32-bit code segment or in V8086 mode, and ends in the monitor's handler by INT3
or a fault.  system32_make.py makes cases at random.
"""

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
from system_cases import descriptor

HERE = Path(__file__).resolve().parent

PD, IDENTITY, PDPT, PAE_PD, PAE_IDENTITY = 0x300000, 0x301000, 0x305000, 0x306000, 0x307000
PAE_PD1, PAE_PT, PT, FRAME, PD2 = 0x309000, 0x30A000, 0x30B000, 0x30C000, 0x30D000
GDT, LDT, IDT = 0x310000, 0x310200, 0x310300
TSS, TSS_B, TSS_C, TSS_DF = 0x310800, 0x310900, 0x310A00, 0x310B00
STACKS, USER, KERNEL_CODE, USER_CODE, LIVE_END = 0x311000, 0x312000, 0x313000, 0x314000, 0x315000
TEMPLATE, COUNT, STUBS, CASES, RESULTS = 0x318000, 0x320000, 0x330000, 0x640000, 0xA80000
# (CASES is behind where a stack lands when SS gets a base and ESP stays flat: about 622000h)
COMMON, DONE, ROM, BIG = 0xF0080, 0xF0090, 0xF0000, 0xE00000
V86_CODE, V86_STACK = 0x10000, 0x1F000
OPERAND, TARGET = USER + 0xC00, 0x800
CODE_PAGES = (KERNEL_CODE, USER_CODE)
RESULT_SIZE, CASES_MAX, DUMP_DWORDS = 512, 6000, 88
LIN = 1 << 30 | 5 << 21 | 7 << 12 | 0x123
NX = 1 << 63
TRAP = b"\xcc"

K32, KDATA, U32, UDATA, TSS_SEL, LDT_SEL, DF_SEL = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x30, 0x38
K16, KDATA16, U16, UDATA16, STUB_CODE, KDOWN = 0x40, 0x48, 0x53, 0x5B, 0x60, 0x68
R1_32, R1_DATA, R2_32, R2_DATA, B_SEL, C_SEL = 0x71, 0x79, 0x82, 0x8A, 0x90, 0x98
FREE, SLOTS = 0xA0, 8  # selectors of the descriptors that cases choose
FAULT_SEL, TSS_FAULT = 0xE0, 0x310C00  # of the tasks that may take vectors 10 to 14
VECTOR = 0x2F  # of software interrupts through a gate of the case
FIXED = {
    K32: (0, 0xFFFFF, 0x9B, 12), KDATA: (0, 0xFFFFF, 0x93, 12), U32: (0, 0xFFFFF, 0xFB, 12), UDATA: (0, 0xFFFFF, 0xF3, 12),
    TSS_SEL: (TSS, 0xFF, 0x89, 0), LDT_SEL: (LDT, 0x3F, 0x82, 0), DF_SEL: (TSS_DF, 0x67, 0x89, 0),
    K16: (KERNEL_CODE, 0xFFFF, 0x9B, 0), KDATA16: (STACKS, 0xFFFF, 0x93, 0), U16: (USER_CODE, 0xFFFF, 0xFB, 0),
    UDATA16: (USER, 0xFFFF, 0xF3, 0), STUB_CODE: (STUBS, 0xFFFFF, 0x9B, 12), KDOWN: (STACKS, 0x7F, 0x97, 0),
    R1_32: (0, 0xFFFFF, 0xBB, 12), R1_DATA: (0, 0xFFFFF, 0xB3, 12),
    R2_32: (0, 0xFFFFF, 0xDB, 12), R2_DATA: (0, 0xFFFFF, 0xD3, 12),
    B_SEL: (TSS_B, 0x67, 0x89, 0), C_SEL: (TSS_C, 0x2B, 0x81, 0),
}  # fmt: skip
STACK_TOPS = (STACKS + 0x400, STACKS + 0x600, STACKS + 0x800, USER + 0x800)  # of rings 0 to 3 in the TSS
START_STACK, DF_STACK, TASK_STACK, FAULT_STACK = STACKS + 0xA00, STACKS + 0xC00, STACKS + 0xE00, STACKS + 0x300
FRAME_NAMES = (
    "gs", "fs", "es", "ds", "edi", "esi", "ebp", "esp", "ebx", "edx", "ecx", "eax", "vector", "error",
    *(f"frame {n}" for n in range(18)),
)  # fmt: skip
NAMES = (
    *FRAME_NAMES, "handler esp", "handler ss", "handler eflags", "cr0", "cr2", "cr3", "tr", "ldtr",
    *(f"memory {n}" for n in range(DUMP_DWORDS)),
)  # fmt: skip
VM, NT, RF, AC, TF, IF = 0x20000, 0x4000, 0x10000, 0x40000, 0x100, 0x200


@attrs.define
class Start:
    """A privilege level and a size to start a case in."""

    ring: int
    wide: bool  # 32-bit code
    cs: int
    eip: int
    ss: int
    esp: int
    code: int  # linear address of the first instruction


STARTS = (
    Start(0, True, K32, KERNEL_CODE, KDATA, START_STACK, KERNEL_CODE),
    Start(0, True, K32, KERNEL_CODE, KDATA16, START_STACK - STACKS, KERNEL_CODE),
    Start(0, False, K16, 0, KDATA16, START_STACK - STACKS, KERNEL_CODE),
    Start(0, False, K16, 0, KDOWN, START_STACK - STACKS, KERNEL_CODE),
    Start(1, True, R1_32, KERNEL_CODE, R1_DATA, START_STACK, KERNEL_CODE),
    Start(2, True, R2_32, KERNEL_CODE, R2_DATA, START_STACK, KERNEL_CODE),
    Start(3, True, U32, USER_CODE, UDATA, USER + 0x400, USER_CODE),
    Start(3, False, U16, 0, UDATA16, 0x400, USER_CODE),
    Start(3, True, U32, USER_CODE, UDATA16, 0x400, USER_CODE),
)


@attrs.define
class Case:
    """What system32_cases.S takes; `note` is for people."""

    note: str
    start: Start
    cr0: int = 0x33
    cr4: int = 0
    efer: int = 0
    cr3: int = 0
    ldtr: int = LDT_SEL
    tr: int = TSS_SEL
    eflags: int = 2
    data: list[int] = attrs.field(factory=lambda: [UDATA] * 4)  # DS, ES, FS, GS
    v86: list[int] = attrs.field(factory=list)  # CS, IP, SS, SP, ES, DS, FS, GS: the case starts in V8086 mode
    eax: int = 0
    ecx: int = 0xC0C0C0C0
    edx: int = 0xD0D0D0D0
    ebx: int = OPERAND
    ebp: int = 0xB0B0B0B0
    esi: int = 0x51515151
    edi: int = 0xD1D1D1D1
    writes: dict[int, bytes] = attrs.field(factory=dict)
    dumps: list[tuple[int, int]] = attrs.field(factory=list)  # address, dwords
    beyond: bool = False  # goes to an offset behind a code segment's limit
    unloaded: bool = False  # a fault of a new task may come before its stack is there, and no task handles it
    conforming: bool = False  # a new task's code segment is a conforming one

    @property
    def stack(self) -> int:
        """Linear address of the top of the stack the case starts with."""
        base = FIXED[self.start.ss][0]
        return base + self.start.esp

    def packed(self) -> bytes:
        s = self.start
        if self.v86:
            frame = [self.v86[1], self.v86[0], self.eflags | VM, self.v86[3], self.v86[2], *self.v86[4:]]
        else:
            frame = [s.eip, s.cs, self.eflags] + ([s.esp, s.ss] if s.ring else [])
        own = (s.esp, s.ss) if len(frame) == 3 else (0x32E000, KDATA)
        words = [self.cr0, self.cr4, self.efer, self.cr3, self.ldtr, self.tr, *self.data, *own, len(frame)]
        words += frame + [0] * (9 - len(frame))
        words += [self.eax, self.ecx, self.edx, self.ebx, self.ebp, self.esi, self.edi]
        blocks = b""
        for address, data in self.writes.items():
            padded = data + b"\x90" * (-len(data) % 4)
            blocks += struct.pack("<2I", address, len(padded) // 4) + padded
        blocks += bytes(4)
        assert sum(count for _, count in self.dumps) <= DUMP_DWORDS
        tail = b"".join(struct.pack("<2I", *dump) for dump in self.dumps) + bytes(4)
        words += [128 + len(blocks), 128 + len(blocks) + len(tail), 0]
        return struct.pack("<32I", *(word & 0xFFFFFFFF for word in words)) + blocks + tail


def rom(directory: Path | None = None) -> bytes:
    """`system32_cases.S` assembled; needs GNU binutils."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        unit, image = Path(folder) / "unit.o", Path(folder) / "image"
        subprocess.run(["as", "--32", "-o", str(unit), str(HERE / "system32_cases.S")], check=True)
        link = ["ld", "-m", "elf_i386", "-Ttext", hex(ROM), "--oformat", "binary", "-o", str(image), str(unit)]
        subprocess.run(link, check=True, stderr=subprocess.DEVNULL)
        return image.read_bytes()


def gate(offset: int, selector: int, access: int, count: int = 0) -> int:
    """A gate of 386 form, or of 286 form when `access` says so."""
    if not access & 8:
        offset &= 0xFFFF
    return (offset & 0xFFFF) | (selector & 0xFFFF) << 16 | count << 32 | access << 40 | (offset >> 16 & 0xFFFF) << 48


TSS_STACKS = ("link", "esp0", "ss0", "esp1", "ss1", "esp2", "ss2")
TSS_REGISTERS = (
    *("eip", "eflags", "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"),
    *("es", "cs", "ss", "ds"),
)


def tss32(**fields: int) -> bytes:
    """A 32-bit TSS; fields by the manual's names, in lower case."""
    words = [fields.pop(name, 0) for name in (*TSS_STACKS, "cr3", *TSS_REGISTERS, "fs", "gs", "ldt")]
    words.append(fields.pop("trap", 0) | fields.pop("iomap", 0x68) << 16)
    assert not fields, fields
    return struct.pack("<26I", *(word & 0xFFFFFFFF for word in words))


def tss16(**fields: int) -> bytes:
    """A 16-bit TSS."""
    words = [fields.pop(name, 0) for name in (*TSS_STACKS, *TSS_REGISTERS, "ldt")]
    assert not fields, fields
    return struct.pack("<22H", *(word & 0xFFFF for word in words))


def main_tss(**fields: int) -> bytes:
    """The TSS that cases start with, and its I/O permission map of 128 ports, all open."""
    stacks = {"esp0": STACK_TOPS[0], "ss0": KDATA, "esp1": STACK_TOPS[1], "ss1": R1_DATA, "esp2": STACK_TOPS[2]}
    stacks["ss2"] = R2_DATA
    return tss32(**(stacks | fields))


def task_state(**fields: int) -> dict[str, int]:
    """What a good TSS to switch to holds."""
    good = {
        "eip": KERNEL_CODE + TARGET, "eflags": 2, "esp": TASK_STACK, "cs": K32, "ss": KDATA, "ds": UDATA, "es": KDATA,
        "fs": UDATA, "gs": 0, "ldt": LDT_SEL, "eax": 0x11AAAAAA, "ecx": 0x22CCCCCC, "edx": 0x33DDDDDD, "ebx": 0x44BBBBBB,
        "ebp": 0x55EBEBEB, "esi": 0x66515151, "edi": 0x77D1D1D1, "esp0": STACK_TOPS[0], "ss0": KDATA,
    }  # fmt: skip
    return good | fields


def task_state16(**fields: int) -> dict[str, int]:
    """The same for a 16-bit one."""
    good = task_state(eip=TARGET, esp=0x600, cs=K16, ss=KDATA16, es=UDATA)
    del good["fs"], good["gs"]
    return good | fields


def memory(cases: list[Case]) -> dict[int, bytes]:
    """Everything the ROM expects in memory, by address."""
    blob = bytearray(0x338000 - PD)

    def put(address: int, data: bytes) -> None:
        blob[address - PD : address - PD + len(data)] = data

    def live(address: int, data: bytes) -> None:
        put(address - GDT + TEMPLATE, data)

    def user(page: int) -> int:
        return 7 if page < 0xA0000 or page in (USER, USER_CODE) else 3

    for n in range(4):
        for directory in (PD, PD2):
            put(directory + 4 * n, struct.pack("<I", IDENTITY + 0x1000 * n | 7))
        put(PDPT + 8 * n, struct.pack("<Q", (PAE_PD if n == 0 else PAE_PD1) | 1 if n < 2 else 0))
    for n in range(0x1000):
        put(IDENTITY + 4 * n, struct.pack("<I", n << 12 | user(n << 12)))
    for n in range(8):
        put(PAE_PD + 8 * n, struct.pack("<Q", PAE_IDENTITY + 0x1000 * n | 7 if n < 2 else n << 21 | 0x83))
    for n in range(0x400):
        put(PAE_IDENTITY + 8 * n, struct.pack("<Q", n << 12 | user(n << 12)))
    for selector, what in FIXED.items():
        live(GDT + (selector & ~7), struct.pack("<Q", descriptor(*what)))
    live(LDT, struct.pack("<2Q", 0, descriptor(0, 0xFFFFF, 0xF3, 12)))
    put(STUBS, TRAP * 0x1000)
    for vector in range(0x31):
        kind = 0x8E | (0x60 if vector in (3, 4) else 0)
        value = gate(STUBS + 16 * vector, K32, kind) if vector != 8 else gate(0, DF_SEL, 0x85)
        live(IDT + 8 * vector, struct.pack("<Q", value))
        stub = b"" if vector in (8, 10, 11, 12, 13, 14, 17) else b"\x6a\xff"
        stub += b"\x68" + struct.pack("<I", vector) + b"\xe9"
        stub += struct.pack("<i", COMMON - (STUBS + 16 * vector + len(stub) + 4))
        put(STUBS + 16 * vector, stub)
    live(TSS, main_tss() + bytes(0x98))
    handler = {"cs": K32, "ss": KDATA, "ds": KDATA, "es": KDATA, "eflags": 2}
    live(TSS_DF, tss32(eip=STUBS + 16 * 8, esp=DF_STACK, **handler))
    for n in range(5):
        live(TSS_FAULT + 0x80 * n, tss32(eip=STUBS + 16 * (10 + n), esp=FAULT_STACK, **handler))
        live(GDT + FAULT_SEL + 8 * n, struct.pack("<Q", descriptor(TSS_FAULT + 0x80 * n, 0x67, 0x89, 0)))
    live(TSS_B, tss32(**task_state()))
    live(TSS_C, tss16(**(task_state16())))
    live(KERNEL_CODE, TRAP * 0x1000)
    live(USER_CODE, TRAP * 0x1000)
    put(COUNT, struct.pack("<I", len(cases)))
    records = b"".join(case.packed() for case in cases)
    assert CASES + len(records) <= RESULTS and len(cases) <= CASES_MAX
    return {0: TRAP * 0x20000, PD: bytes(blob), CASES: records}


def results(data: bytes, count: int) -> Iterator[dict[str, int]]:
    """What the ROM wrote, by name."""
    for n in range(count):
        yield dict(zip(NAMES, struct.unpack_from("<128I", data, n * RESULT_SIZE), strict=True))
