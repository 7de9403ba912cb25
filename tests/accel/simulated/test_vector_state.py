"""What the control bits, CPUID and XCR0 make of vector instructions, and the images of FXSAVE and the XSAVE family."""

import struct
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import HANDLERS, Guest, abi, ffi, sim

UD, NM, GP, NONE = 6, 7, 13, None
CODE, AREA = 0x10000, 0x20000
CR0_MP, CR0_EM, CR0_TS = 2, 4, 8
OSFXSR, OSXSAVE = 0x200, 0x40000
X87, SSE, AVX = 1, 2, 4
FXSAVE, FXRSTOR = "0fae06", "0fae0e"  # at ESI
XSAVE, XRSTOR, XSAVEOPT, XSAVEC = "0fae26", "0fae2e", "0fae36", "0fc726"
COMPACTED = 1 << 63


def cpuid_entries(count: int) -> Any:
    """A struct kvm_cpuid2 with room for `count` entries."""
    size = ffi.sizeof("struct kvm_cpuid2") + count * ffi.sizeof("struct kvm_cpuid_entry2")
    memory = ffi.new("char[]", size)
    cpuid = ffi.cast("struct kvm_cpuid2 *", memory)
    cpuid.nent = count
    KEEP[cpuid] = memory
    return cpuid


KEEP: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


class VectorGuest(Guest):
    """Flat 32-bit code; CPUID as supported, but for the bits in `without` ({(leaf, register): mask})."""

    def __init__(self, without: dict[tuple[int, str], int] | None = None) -> None:
        super().__init__({0: 0x40000})
        cpuid = cpuid_entries(64)
        assert sim.sim_system_ioctl(self.system, abi.KVM_GET_SUPPORTED_CPUID, self.address(cpuid)) == 0
        for n in range(cpuid.nent):
            entry = cpuid.entries[n]
            for (leaf, register), mask in (without or {}).items():
                if entry.function == leaf and entry.index == 0:
                    setattr(entry, register, getattr(entry, register) & ~mask)
        assert self.ioctl(abi.KVM_SET_CPUID2, cpuid) == 0
        self.flat32()
        self.control(0, OSFXSR | OSXSAVE, X87 | SSE | AVX)

    def control(self, cr0: int, cr4: int, xcr0: int) -> None:
        assert self.ioctl(abi.KVM_GET_SREGS, self.sregs) == 0
        self.sregs.cr0, self.sregs.cr4 = 0x11 | cr0, cr4
        assert self.ioctl(abi.KVM_SET_SREGS, self.sregs) == 0
        xcrs = ffi.new("struct kvm_xcrs *")
        xcrs.nr_xcrs = 1
        xcrs.xcrs[0].value = xcr0
        assert self.ioctl(abi.KVM_SET_XCRS, xcrs) == 0

    def execute(self, code: str, **registers: int) -> int | None:
        """Run one instruction; the vector of its exception, or None."""
        self.write(CODE, bytes.fromhex(code) + b"\xf4")
        values = {"rip": CODE, "rsp": 0x30000, "rsi": AREA, "rflags": 2} | registers
        self.set_regs(**values)
        assert self.run() == abi.KVM_EXIT_HLT
        rip = int(self.get_regs().rip)
        if rip == CODE + len(code) // 2 + 1:
            return None
        return (rip - HANDLERS) // 16

    def get_xsave(self) -> bytes:
        area = ffi.new("struct kvm_xsave *")
        assert self.ioctl(abi.KVM_GET_XSAVE, area) == 0
        return bytes(ffi.buffer(area))[:832]

    def set_xsave(self, image: bytes) -> int:
        area = ffi.new("struct kvm_xsave *")
        ffi.buffer(area)[0 : len(image)] = image
        return self.ioctl(abi.KVM_SET_XSAVE, area)


@pytest.fixture
def guest() -> Iterator[VectorGuest]:
    made = VectorGuest()
    yield made
    made.close()


def image(components: int, *, compacted: int = 0, mxcsr: int = 0x1F80) -> bytes:
    """An XSAVE area in which every byte that means something tells where it lies."""
    head = struct.pack("<HHBxHQQII", 0x27F, 3 << 11, 0xA5, 0x123, 0x11223344, 0x55667788, mxcsr, 0xFFFF)
    stack = b"".join(bytes([0x10 + n]) * 8 + struct.pack("<H6x", 0x4000 + n) for n in range(8))
    xmm = b"".join(bytes([0x20 + n]) * 16 for n in range(16))
    high = b"".join(bytes([0x40 + n]) * 16 for n in range(16))
    return head + stack + xmm + bytes(96) + struct.pack("<QQ48x", components, compacted) + high


PADDB, PADDB_MM, VPADDB, FLD1, WAIT, BLSR = "660ffcc1", "0ffcc1", "c5f1fcc2", "d9e8", "9b", "c4e278f3c9"


@pytest.mark.parametrize(
    ("code", "cr0", "cr4", "xcr0", "vector"),
    [
        (PADDB, 0, OSFXSR, X87, NONE),
        (PADDB, CR0_EM, OSFXSR, X87, UD),
        (PADDB, 0, 0, X87, UD),
        (PADDB, CR0_TS, OSFXSR, X87, NM),
        (PADDB, CR0_TS | CR0_EM, OSFXSR, X87, UD),
        (PADDB_MM, 0, 0, X87, NONE),
        (PADDB_MM, CR0_EM, 0, X87, UD),
        (PADDB_MM, CR0_TS, 0, X87, NM),
        (VPADDB, 0, OSXSAVE, X87 | SSE | AVX, NONE),
        (VPADDB, CR0_EM, OSXSAVE, X87 | SSE | AVX, NONE),
        (VPADDB, 0, OSXSAVE, X87 | SSE, UD),
        (VPADDB, 0, OSFXSR, X87 | SSE | AVX, UD),
        (VPADDB, CR0_TS, OSXSAVE, X87 | SSE | AVX, NM),
        (BLSR, CR0_TS | CR0_EM, 0, X87, NONE),
        (FLD1, 0, 0, X87, NONE),
        (FLD1, CR0_EM, 0, X87, NM),
        (FLD1, CR0_TS, 0, X87, NM),
        (WAIT, CR0_TS, 0, X87, NONE),
        (WAIT, CR0_TS | CR0_MP, 0, X87, NM),
        (FXSAVE, CR0_EM, 0, X87, NM),
        (FXSAVE, CR0_TS, 0, X87, NM),
        (XSAVE, 0, OSFXSR, X87, UD),
        (XSAVE, CR0_TS, OSXSAVE, X87, NM),
        (XSAVE, CR0_EM, OSXSAVE, X87, NONE),
        ("0f01d0", 0, 0, X87, UD),  # XGETBV
        ("0f01d0", CR0_TS, OSXSAVE, X87, NONE),
    ],
)
def test_control_bits(guest: VectorGuest, code: str, cr0: int, cr4: int, xcr0: int, vector: int | None) -> None:
    assert guest.execute(code, rcx=0) is None or code in (BLSR,)  # decoded once with everything switched on
    guest.control(cr0, cr4, xcr0)
    assert guest.execute(code, rcx=0) == vector


@pytest.mark.parametrize(
    ("code", "leaf", "register", "bit"),
    [
        (PADDB, 1, "edx", 26),
        (PADDB_MM, 1, "edx", 23),
        (VPADDB, 1, "ecx", 28),
        (BLSR, 7, "ebx", 3),
    ],
)
def test_what_cpuid_does_not_announce_is_undefined(code: str, leaf: int, register: str, bit: int) -> None:
    guest = VectorGuest({(leaf, register): 1 << bit})
    assert guest.execute(code) == UD
    guest.close()


def test_tzcnt_is_bsf_where_it_is_not_announced() -> None:
    for without, expected in (({}, 32), ({(7, "ebx"): 1 << 3}, 77)):  # BSF of 0 leaves its destination alone
        guest = VectorGuest(without)
        assert guest.execute("f30fbcc1", rax=77, rcx=0) is None
        assert guest.get_regs().rax == expected
        guest.close()


def test_new_cpuid_reaches_code_already_decoded(guest: VectorGuest) -> None:
    assert guest.execute(PADDB) is None
    assert guest.ioctl(abi.KVM_SET_CPUID2, cpuid_entries(0)) == 0
    assert guest.execute(PADDB) == UD


def test_user_space_reads_what_it_wrote(guest: VectorGuest) -> None:
    whole = image(X87 | SSE | AVX)
    assert guest.set_xsave(whole) == 0
    assert guest.get_xsave() == whole
    assert guest.set_xsave(image(X87)) == 0
    again = guest.get_xsave()
    assert again[32:160] == whole[32:160] and again[160:416] == bytes(256) and again[576:] == bytes(256)
    assert guest.set_xsave(image(8)) < 0
    assert guest.set_xsave(image(1, mxcsr=0x10000)) < 0
    fpu = ffi.new("struct kvm_fpu *")
    assert guest.set_xsave(whole) == 0 and guest.ioctl(abi.KVM_GET_FPU, fpu) == 0
    assert (fpu.fcw, fpu.fsw, fpu.ftwx, fpu.mxcsr) == (0x27F, 3 << 11, 0xA5, 0x1F80)
    assert bytes(fpu.xmm[15]) == b"\x2f" * 16 and bytes(fpu.fpr[7]) == whole[144:160]


def test_xcr0_values(guest: VectorGuest) -> None:
    for value, vector in ((1, NONE), (3, NONE), (7, NONE), (0, GP), (5, GP), (6, GP), (9, GP), (0xE7, GP)):
        assert guest.execute("0f01d1", rax=value, rcx=0, rdx=0) == vector
        if vector is None:
            assert guest.execute("0f01d0", rcx=0, rdx=99) is None
            regs = guest.get_regs()
            assert (regs.rax, regs.rdx) == (value, 0)
    assert guest.execute("0f01d1", rax=1, rcx=1, rdx=0) == GP
    assert guest.execute("0f01d0", rcx=2) == GP
    assert guest.execute("0f01d0", rcx=1) is None  # the components in use
    assert guest.get_regs().rax & ~7 == 0


def saved(guest: VectorGuest, code: str, mask: int, before: bytes) -> bytes:
    guest.write(AREA, before)
    assert guest.execute(code, rax=mask, rdx=0) is None
    return guest.read(AREA, 832)


def test_fxsave_writes_what_32_bit_code_has(guest: VectorGuest) -> None:
    whole = image(7)
    assert guest.set_xsave(whole) == 0
    after = saved(guest, FXSAVE, 0, b"\xee" * 832)
    assert after[:288] == whole[:288]
    assert after[288:] == b"\xee" * 544  # XMM8 and on, and what is left to software
    guest.write(AREA, bytes(512))
    assert guest.execute(FXRSTOR) is None
    registers = guest.get_xsave()
    assert registers[160:288] == bytes(128) and registers[288:416] == whole[288:416]
    assert guest.execute(FXSAVE, rsi=AREA + 8) == GP
    guest.write(AREA + 24, struct.pack("<I", 0x10000))
    assert guest.execute(FXRSTOR) == GP


@pytest.mark.parametrize("code", [XSAVE, XSAVEOPT])
def test_xsave_standard_form(guest: VectorGuest, code: str) -> None:
    whole = image(7)
    assert guest.set_xsave(whole) == 0
    for mask in range(8):
        before = bytearray(b"\xee" * 832)
        before[512:576] = struct.pack("<Q56x", 0b101)
        expected = bytearray(before)
        if mask & X87:
            expected[:24] = whole[:24]
            expected[32:160] = whole[32:160]
        if mask & (SSE | AVX):
            expected[24:32] = whole[24:32]
        if mask & SSE:
            expected[160:288] = whole[160:288]
        if mask & AVX:
            expected[576:704] = whole[576:704]
        expected[512] = 0b101 & ~mask | mask
        assert saved(guest, code, mask, bytes(before)) == bytes(expected), mask
    assert guest.execute(code, rsi=AREA + 32) == GP


def test_xsaveopt_leaves_out_what_is_initial(guest: VectorGuest) -> None:
    assert guest.set_xsave(image(SSE)) == 0
    after = saved(guest, XSAVEOPT, 7, b"\xee" * 512 + bytes(64) + b"\xee" * 256)
    assert after[512] == SSE
    assert after[:24] == b"\xee" * 24 and after[160:288] == image(7)[160:288] and after[576:] == b"\xee" * 256


def test_xsavec_and_back(guest: VectorGuest) -> None:
    whole = image(7)
    assert guest.set_xsave(whole) == 0
    after = saved(guest, XSAVEC, X87 | AVX, b"\xee" * 832)
    assert struct.unpack_from("<QQ", after, 512) == (X87 | AVX, COMPACTED | X87 | AVX)
    assert after[:24] == whole[:24] and after[24:32] == b"\xee" * 8 and after[576:704] == whole[576:704]
    guest.write(AREA, after[:528] + bytes(48) + after[576:])
    assert guest.set_xsave(image(0)) == 0
    assert guest.execute(XRSTOR, rax=7, rdx=0) is None
    registers = guest.get_xsave()
    assert registers[:24] == whole[:24] and registers[160:416] == bytes(256)
    assert registers[576:704] == whole[576:704] and registers[704:] == bytes(128)


def test_xrstor_takes_what_is_asked_and_present(guest: VectorGuest) -> None:
    whole = image(7)
    for present in range(8):
        for mask in range(8):
            assert guest.set_xsave(image(0)) == 0
            guest.write(AREA, image(present, mxcsr=0x1FA0))
            assert guest.execute(XRSTOR, rax=mask, rdx=0) is None
            registers, loaded = guest.get_xsave(), present & mask
            assert registers[32:160] == (whole[32:160] if loaded & X87 else bytes(128))
            assert registers[160:288] == (whole[160:288] if loaded & SSE else bytes(128))
            assert registers[576:704] == (whole[576:704] if loaded & AVX else bytes(128))
            assert struct.unpack_from("<I", registers, 24)[0] == (0x1FA0 if mask & (SSE | AVX) else 0x1F80)


@pytest.mark.parametrize(
    "bad",
    [
        image(8),  # a component that XCR0 does not have
        image(1, compacted=2),  # reserved in the standard form
        image(7, compacted=COMPACTED | 3),  # present, but not in the format
        image(1, compacted=COMPACTED | 9),
        image(3, mxcsr=0x10000),
    ],
)
def test_xrstor_refuses(guest: VectorGuest, bad: bytes) -> None:
    before = guest.get_xsave()
    guest.write(AREA, bad)
    assert guest.execute(XRSTOR, rax=7, rdx=0) == GP
    assert guest.get_xsave() == before


def test_leaf_0dh_follows_xcr0(guest: VectorGuest) -> None:
    def cpuid(leaf: int, sub: int) -> Any:
        assert guest.execute("0fa2", rax=leaf, rcx=sub) is None
        regs = guest.get_regs()
        return regs.rax, regs.rbx, regs.rcx, regs.rdx

    assert cpuid(13, 0) == (7, 832, 832, 0)
    assert cpuid(13, 1)[:2] == (15, 832)
    assert cpuid(13, 2)[:2] == (256, 576)
    assert cpuid(1, 0)[2] & 1 << 27
    guest.control(0, OSFXSR, X87 | SSE)
    assert cpuid(13, 0) == (7, 576, 832, 0)
    assert not cpuid(1, 0)[2] & 1 << 27
