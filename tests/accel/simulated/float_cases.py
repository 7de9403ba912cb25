"""Floating-point instructions with random state: on the processor this runs on, and on the core.

`native_float.c` executes them natively; here they are made, run on the core, and compared.
"""

import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sim_harness import HANDLERS, Guest, abi, ffi

DATA, CODE, WINDOW = 0x20000000, 0x20010000, 256
NONE = 0xFFFFFFFF
LAYOUT = struct.Struct("<512sQQII16s256s")
ARITH = 0x8D5  # CF PF AF ZF SF OF
OE, UE, PE = 8, 16, 32
XM = 19

# exponent, fraction for a format of `exp_bits` and `frac_bits`: what is likely to be special
KINDS = ("zero", "inf", "qnan", "snan", "denormal", "tiny", "huge", "one", "near", "any", "any", "integer", "normal")


def number(r: random.Random, exp_bits: int, frac_bits: int) -> int:
    """A floating-point number (sign, exponent, fraction without integer bit) of every kind."""
    top, bias = (1 << exp_bits) - 1, (1 << (exp_bits - 1)) - 1
    frac = r.choice((0, 1, (1 << frac_bits) - 1, r.getrandbits(frac_bits), r.getrandbits(8) << (frac_bits - 8)))
    kind = r.choice(KINDS)
    exp = {
        "zero": 0, "inf": top, "qnan": top, "snan": top, "denormal": 0, "tiny": 1 + r.randrange(3),
        "huge": top - 1 - r.randrange(3), "one": bias, "near": bias + r.randrange(-3, 4),
        "integer": bias + r.randrange(min(70, bias)), "normal": bias + r.randrange(-30, 31) * bias // 40,
    }.get(kind, r.getrandbits(exp_bits))  # fmt: skip
    if kind in ("zero", "inf"):
        frac = 0
    elif kind == "qnan":
        frac |= 1 << (frac_bits - 1)
    elif kind == "snan":
        frac = (frac & ((1 << (frac_bits - 1)) - 1)) or 1
    elif kind == "one":
        frac = r.choice((0, 0, 1, 1 << (frac_bits - 1)))
    elif kind == "integer" and r.random() < 0.7:
        drop = max(0, frac_bits - r.randrange(1, 9))
        frac = frac >> drop << drop
    return r.getrandbits(1) << (exp_bits + frac_bits) | exp << frac_bits | frac


def x87_number(r: random.Random) -> bytes:
    """Ten bytes: as `number`, and now and then an encoding that is none (integer bit wrong)."""
    if r.random() < 0.15:  # a number of a narrower format
        wide = struct.pack("<f", r.choice((0.0, 1.0, -1.0, 0.5, 3.0, 1e10, -7.25, r.uniform(-100, 100))))
        return double_to_x87(struct.unpack("<f", wide)[0])
    value = number(r, 15, 63)
    exp, frac = value >> 63, value & ((1 << 63) - 1)
    integer = int((exp & 0x7FFF) != 0)
    if r.random() < 0.06:
        integer ^= 1
    return struct.pack("<QH", integer << 63 | frac, exp)


def double_to_x87(value: float) -> bytes:
    bits = struct.unpack("<Q", struct.pack("<d", value))[0]
    sign, exp, frac = bits >> 63, bits >> 52 & 0x7FF, bits & ((1 << 52) - 1)
    if exp == 0:
        return struct.pack("<QH", 0, sign << 15)
    return struct.pack("<QH", 1 << 63 | frac << 11, sign << 15 | (exp - 1023 + 16383))


class Case:
    """One instruction: its bytes, and the state before it."""

    def __init__(self, r: random.Random, code: bytes, unmasked: float = 0.3) -> None:
        self.code = code
        top = r.choice((0, 0, 7, r.randrange(8)))
        masks = 0x3F if r.random() >= unmasked else r.getrandbits(6)
        flags = 0 if r.random() < 0.7 else r.getrandbits(6) & masks
        self.fcw = 0x40 | masks | r.choice((0, 2, 3, 3, 3)) << 8 | r.choice((0, 0, 1, 2, 3)) << 10
        self.fsw = flags | top << 11 | (r.getrandbits(16) & 0x4700)
        if r.random() < 0.03 and ~masks & 0x3F:
            self.fsw |= 0x8080 | (~masks & 0x3F)
        self.ftw = 0xFF
        for n in range(8):
            if r.random() < (0.06 if n != 7 else 0.8):
                self.ftw &= ~(1 << ((top + n) & 7))
        self.st = [x87_number(r) for _ in range(8)]
        masks = 0x3F if r.random() >= unmasked else r.getrandbits(6)
        flags = 0 if r.random() < 0.6 else r.getrandbits(6)
        self.mxcsr = masks << 7 | flags | r.choice((0, 0, 1, 2, 3)) << 13
        if r.random() < 0.3:
            self.mxcsr |= r.choice((0x40, 0x8000, 0x8040))
        self.rax = r.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, r.getrandbits(32)))
        self.flags = 2 | (r.getrandbits(12) & ARITH)
        self.r = r
        self.xmm = [self.vector() for _ in range(16)]
        if r.random() < 0.15:
            self.xmm[1] = self.xmm[0]
        self.memory = b"".join(self.vector() for _ in range(WINDOW // 16))

    def vector(self) -> bytes:
        r = self.r
        kind = r.randrange(6)
        if kind <= 1:
            return b"".join(struct.pack("<I", number(r, 8, 23)) for _ in range(4))
        if kind <= 3:
            return b"".join(struct.pack("<Q", number(r, 11, 52)) for _ in range(2))
        if kind == 4:
            return b"".join(struct.pack("<H", number(r, 5, 10)) for _ in range(8))
        return x87_number(r) + r.randbytes(6)

    def image(self) -> bytes:
        """The FXSAVE image."""
        head = struct.pack("<HHBBHIHHIHHII", self.fcw, self.fsw, self.ftw, 0, 0, 0, 0, 0, 0, 0, 0, self.mxcsr, 0xFFFF)
        return (head + b"".join(x + bytes(6) for x in self.st) + b"".join(self.xmm)).ljust(512, b"\0")

    def packed(self) -> bytes:
        return LAYOUT.pack(
            self.image(), self.rax, self.flags, NONE, len(self.code), self.code.ljust(16, b"\0"), self.memory
        )


def native(binary: Path, cases: list[Case]) -> Iterator[tuple[bytes, int, int, int, bytes]]:
    """State image, rax, flags, vector and memory after each case, from the processor."""
    data = b"".join(case.packed() for case in cases)
    done = subprocess.run([binary], input=data, capture_output=True, timeout=120, check=True)
    assert len(done.stdout) == len(data)
    for image, rax, flags, vector, _length, _code, memory in LAYOUT.iter_unpack(done.stdout):
        yield image, rax, flags, vector, memory


class Core:
    """The simulated processor, in 32-bit protected mode with everything floating-point switched on."""

    def __init__(self) -> None:
        self.guest = Guest({0: 0x10000, DATA: 0x1000, CODE: 0x1000})
        self.announce_everything()
        self.guest.flat32()
        s = self.guest.sregs
        s.cr0 |= 0x20  # NE
        s.cr4 |= 0x40600  # OSFXSR OSXMMEXCPT OSXSAVE
        assert self.guest.ioctl(abi.KVM_SET_SREGS, s) == 0
        xcrs = ffi.new("struct kvm_xcrs *")
        xcrs.nr_xcrs, xcrs.xcrs[0].xcr, xcrs.xcrs[0].value = 1, 0, 7
        assert self.guest.ioctl(abi.KVM_SET_XCRS, xcrs) == 0
        self.fpu = ffi.new("struct kvm_fpu *")

    def announce_everything(self) -> None:
        block = ffi.new("char[]", 8 + 40 * 3)
        cpuid = ffi.cast("struct kvm_cpuid2 *", block)
        cpuid.nent = 3
        for n, (leaf, registers) in enumerate(
            {1: (0x663, 0, NONE, NONE), 7: (0, NONE, NONE, NONE), 13: (7, 0, 832, 0)}.items()
        ):
            entry = cpuid.entries[n]
            entry.function, entry.index, entry.flags = leaf, 0, int(leaf != 1)
            entry.eax, entry.ebx, entry.ecx, entry.edx = registers
        assert self.guest.ioctl(abi.KVM_SET_CPUID2, cpuid) == 0

    def run(self, case: Case) -> tuple[Any, int, int, int, bytes]:
        guest, f = self.guest, self.fpu
        for n in range(8):
            f.fpr[n] = case.st[n] + bytes(6)
        for n in range(16):
            f.xmm[n] = case.xmm[n]
        f.fcw, f.fsw, f.ftwx, f.mxcsr = case.fcw, case.fsw, case.ftw, case.mxcsr
        f.last_opcode = f.last_ip = f.last_dp = 0
        assert guest.ioctl(abi.KVM_SET_FPU, f) == 0
        guest.write(DATA, case.memory)
        guest.write(CODE, case.code + b"\xf4")
        guest.set_regs(rip=CODE, rflags=case.flags, rax=case.rax, rsi=DATA, rsp=0x8000)
        assert guest.run() == abi.KVM_EXIT_HLT, (case.code.hex(), guest.run_page.exit_reason)
        regs = guest.get_regs()
        vector = (regs.rip - HANDLERS) // 16 if HANDLERS <= regs.rip < HANDLERS + 512 else NONE
        assert vector != NONE or regs.rip == CODE + len(case.code) + 1, (case.code.hex(), hex(regs.rip))
        assert guest.ioctl(abi.KVM_GET_FPU, f) == 0
        return f, regs.rax, regs.rflags, vector, guest.read(DATA, WINDOW)


def differences(core: Core, case: Case, want: tuple[bytes, int, int, int, bytes]) -> list[str]:
    """What the core does otherwise than the processor."""
    image, rax, flags, vector, memory = want
    f, got_rax, got_flags, got_vector, got_memory = core.run(case)
    found = []
    if got_vector != vector:
        found.append(f"vector {got_vector:#x}, silicon {vector:#x}")
    fcw, fsw, ftw = struct.unpack_from("<HHB", image)
    ip, mxcsr = struct.unpack_from("<I", image, 8)[0], struct.unpack_from("<I", image, 24)[0]
    if vector == XM and mxcsr & ~case.mxcsr >> 7 & (OE | UE):  # see sse_float.h
        mxcsr = mxcsr & ~PE | f.mxcsr & PE
    for name, got, wanted in (
        ("fcw", f.fcw, fcw), ("fsw", f.fsw, fsw), ("ftw", f.ftwx, ftw), ("fip", f.last_ip, ip), ("mxcsr", f.mxcsr, mxcsr),
        ("eax", got_rax, rax & 0xFFFFFFFF),
    ):  # fmt: skip
        if got != wanted:
            found.append(f"{name} {got:#x}, silicon {wanted:#x}")
    if vector == NONE and (got_flags ^ flags) & ARITH:
        found.append(f"flags {got_flags & ARITH:#x}, silicon {flags & ARITH:#x}")
    for n in range(8):
        wanted_st, got_st = image[32 + 16 * n : 42 + 16 * n], bytes(f.fpr[n])[:10]
        if got_st != wanted_st:
            found.append(f"st{n} {got_st[::-1].hex()}, silicon {wanted_st[::-1].hex()}")
        wanted_xmm, got_xmm = image[160 + 16 * n : 176 + 16 * n], bytes(f.xmm[n])
        if got_xmm != wanted_xmm:
            found.append(f"xmm{n} {got_xmm[::-1].hex()}, silicon {wanted_xmm[::-1].hex()}")
    if got_memory != memory:
        at = next(k for k in range(WINDOW) if got_memory[k] != memory[k])
        found.append(f"memory +{at:#x} {got_memory[at : at + 16].hex()}, silicon {memory[at : at + 16].hex()}")
    return found


def describe(case: Case) -> str:
    st = " ".join(x[::-1].hex() for x in case.st[:3])
    xmm = " ".join(x[::-1].hex() for x in case.xmm[:2])
    return (
        f"fcw {case.fcw:#x} fsw {case.fsw:#x} ftw {case.ftw:#x} st {st}; mxcsr {case.mxcsr:#x} xmm {xmm} "
        f"memory {case.memory[15::-1].hex()} eax {case.rax:#x} flags {case.flags:#x}"
    )
