"""AES, SHA, carry-less multiplication, CRC-32C and random numbers of the C core: the published algorithms, made of guest
instructions, give the published answers.  (Bit by bit against the host's processor: run_silicon.py; most hosts lack SHA.)

Also: what CPUID does not announce is #UD, or what its encoding meant before.
"""

from __future__ import annotations

import hashlib
import operator
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from sim_harness import HANDLERS, Guest, _core, abi, ffi, sim

CODE, DATA, UD = 0x10000, 0x18000, 6
LOAD = bytes.fromhex("f30f6f05") + struct.pack("<I", DATA)  # movdqu xmm0, [DATA]
LOAD += bytes.fromhex("f30f6f0d") + struct.pack("<I", DATA + 16)  # movdqu xmm1, [DATA + 16]
STORE = bytes.fromhex("f30f7f0d") + struct.pack("<I", DATA + 16)  # movdqu [DATA + 16], xmm1
LOAD_2 = bytes.fromhex("f30f6f15") + struct.pack("<I", DATA + 32)  # movdqu xmm2, [DATA + 32]
HLT = b"\xf4"
Mask = dict[tuple[int, str], int]


def entries(system: Any) -> list[Any]:
    table = ffi.new("struct kvm_cpuid2 *", {"nent": 100, "entries": 100})
    assert sim.sim_system_ioctl(system, abi.KVM_GET_SUPPORTED_CPUID, Guest.address(table)) == 0
    return [table.entries[n] for n in range(table.nent)]


class Machine(Guest):
    """Flat 32-bit code with SSE; `without` clears bits of CPUID, `plus` sets some: {(leaf, register): mask}."""

    def __init__(self, without: Mask | None = None, seed: int | None = None, plus: Mask | None = None) -> None:
        super().__init__({0: 0x20000})
        if seed is not None:
            sim.sim_vcpu_close(self.vcpu)
            sim.sim_vm_seed(self.vm, seed)
            self.vcpu = sim.sim_create_vcpu(self.vm, 0, _core.ffi.new("int *"))
            page = int(_core.ffi.cast("uintptr_t", sim.sim_vcpu_run_page(self.vcpu)))
            self.run_page = ffi.cast("struct kvm_run *", page)
        self.flat32()
        self.sregs.cr4 = 0x600  # OSFXSR, OSXMMEXCPT
        assert self.ioctl(abi.KVM_SET_SREGS, self.sregs) == 0
        if without is not None or plus is not None:
            rows = entries(self.system)
            table = ffi.new("struct kvm_cpuid2 *", {"nent": len(rows), "entries": len(rows)})
            for n, row in enumerate(rows):
                table.entries[n] = row
                for change, bits in (
                    (operator.and_, {k: ~m for k, m in (without or {}).items()}),
                    (operator.or_, plus or {}),
                ):
                    for (leaf, register), mask in bits.items():
                        if row.function == leaf and row.index == 0:
                            value = change(getattr(table.entries[n], register), mask)
                            setattr(table.entries[n], register, value)
            assert self.ioctl(abi.KVM_SET_CPUID2, table) == 0
        self.at = CODE

    def execute(self, code: bytes, **registers: int) -> Any:
        """Run the code up to its HLT; the registers then."""
        self.at = CODE if self.at + len(code) + 1 > DATA else self.at
        self.write(self.at, code + HLT)
        end = self.at + len(code) + 1
        self.set_regs(rip=self.at, rsp=0xF000, rflags=2, **registers)
        self.at = end
        assert self.run() == abi.KVM_EXIT_HLT
        regs = self.get_regs()
        assert regs.rip == end, hex(regs.rip)
        return regs

    def faults(self, code: bytes) -> bool:
        """Whether the code is #UD."""
        self.write(CODE, code + HLT)
        self.set_regs(rip=CODE, rsp=0xF000, rflags=2)
        assert self.run() == abi.KVM_EXIT_HLT
        return bool(self.get_regs().rip == HANDLERS + 16 * UD + 1)

    def vector(self, insn: str, destination: bytes, source: bytes, xmm0: bytes = bytes(16)) -> bytes:
        """One instruction on XMM1 (destination) and XMM2 (source), XMM0 the implicit operand; the destination then."""
        self.write(DATA, xmm0 + destination + source)
        self.execute(LOAD + LOAD_2 + bytes.fromhex(insn) + STORE)
        return self.read(DATA + 16, 16)


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    yield made
    made.close()


# -- AES: FIPS 197

KEY, PLAIN = bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")
CIPHER = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")  # appendix C.1
RCON = (1, 2, 4, 8, 16, 32, 64, 128, 0x1B, 0x36)


def aes_keys(m: Machine, key: bytes) -> list[bytes]:
    keys = [key]
    for constant in RCON:
        made = m.vector(f"660f3adfca{constant:02x}", bytes(16), keys[-1])  # aeskeygenassist xmm1, xmm2, constant
        word = int.from_bytes(made[12:], "little")
        out = []
        for n in range(4):
            word ^= int.from_bytes(keys[-1][4 * n : 4 * n + 4], "little")
            out.append(word.to_bytes(4, "little"))
        keys.append(b"".join(out))
    return keys


def test_aes_key_schedule(machine: Machine) -> None:
    keys = aes_keys(machine, bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"))
    assert keys[1].hex() == "a0fafe1788542cb123a339392a6c7605"  # appendix A.1
    assert keys[10].hex() == "d014f9a8c9ee2589e13f0cc8b6630ca6"


def test_aes_cipher_and_inverse(machine: Machine) -> None:
    keys = aes_keys(machine, KEY)
    state = bytes(a ^ b for a, b in zip(PLAIN, keys[0], strict=True))
    for key in keys[1:10]:
        state = machine.vector("660f38dcca", state, key)
    assert machine.vector("660f38ddca", state, keys[10]) == CIPHER
    state = bytes(a ^ b for a, b in zip(CIPHER, keys[10], strict=True))
    for key in reversed(keys[1:10]):
        inverse = machine.vector("660f38dbca", bytes(16), key)
        state = machine.vector("660f38deca", state, inverse)
    assert machine.vector("660f38dfca", state, keys[0]) == PLAIN


# -- SHA: FIPS 180-4, held against hashlib


def padded(message: bytes) -> bytes:
    return message + b"\x80" + bytes((55 - len(message)) % 64) + struct.pack(">Q", 8 * len(message))


def words(block: bytes) -> bytes:
    """Big-endian words of a block, as little-endian ones."""
    return struct.pack(f"<{len(block) // 4}I", *struct.unpack(f">{len(block) // 4}I", block))


def reversed_words(value: bytes) -> bytes:
    return struct.pack("<4I", *reversed(struct.unpack("<4I", value)))


def sha1(m: Machine, message: bytes) -> bytes:
    abcd = reversed_words(struct.pack("<4I", 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476))
    e = struct.pack("<4I", 0, 0, 0, 0xC3D2E1F0)
    text = padded(message)
    for at in range(0, len(text), 64):
        w = [reversed_words(words(text[n : n + 16])) for n in range(at, at + 64, 16)]
        began, e_began = abcd, e
        for group in range(20):
            if group >= 4:
                part = m.vector("0f38c9ca", w[0], w[1])  # sha1msg1
                part = bytes(a ^ b for a, b in zip(part, w[2], strict=True))
                w = [*w[1:], m.vector("0f38caca", part, w[3])]  # sha1msg2
            now = w[group] if group < 4 else w[3]
            with_e = m.vector("0f38c8ca", e, now) if group else add(e, now)  # sha1nexte
            e = abcd
            abcd = m.vector(f"0f3accca{group // 5:02x}", abcd, with_e)  # sha1rnds4
        e = m.vector("0f38c8ca", e, e_began)
        abcd = add(abcd, began)
    return words(reversed_words(abcd) + e[12:])


def add(a: bytes, b: bytes) -> bytes:
    pairs = zip(struct.unpack("<4I", a), struct.unpack("<4I", b), strict=True)
    return struct.pack("<4I", *((x + y) & 0xFFFFFFFF for x, y in pairs))


def fractions(count: int, root: int) -> list[int]:
    """The first 32 bits of the fractional parts of roots of the first primes (FIPS 180-4, 4.2.2 and 5.3.3)."""
    primes = [n for n in range(2, 400) if all(n % d for d in range(2, n))][:count]
    out = []
    for prime in primes:
        low, high, wanted = 0, prime << 32, prime << 32 * root
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**root <= wanted else (low, middle)
        out.append(low & 0xFFFFFFFF)
    return out


def sha256(m: Machine, message: bytes) -> bytes:
    k = fractions(64, 3)
    a, b, c, d, e, f, g, h = fractions(8, 2)
    abef, cdgh = struct.pack("<4I", f, e, b, a), struct.pack("<4I", h, g, d, c)
    text = padded(message)
    for at in range(0, len(text), 64):
        w = [words(text[n : n + 16]) for n in range(at, at + 64, 16)]
        began = abef, cdgh
        for group in range(16):
            if group >= 4:
                part = m.vector("0f38ccca", w[0], w[1])  # sha256msg1
                part = add(part, w[2][4:] + w[3][:4])
                w = [*w[1:], m.vector("0f38cdca", part, w[3])]  # sha256msg2
            now = add(w[group] if group < 4 else w[3], struct.pack("<4I", *k[4 * group : 4 * group + 4]))
            for half in (now, now[8:] + now[:8]):
                cdgh, abef = abef, m.vector("0f38cbca", cdgh, abef, half)  # sha256rnds2
        abef, cdgh = add(abef, began[0]), add(cdgh, began[1])
    f, e, b, a = struct.unpack("<4I", abef)
    h, g, d, c = struct.unpack("<4I", cdgh)
    return struct.pack(">8I", a, b, c, d, e, f, g, h)


@pytest.mark.parametrize("message", [b"abc", b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", b""])
def test_sha(machine: Machine, message: bytes) -> None:
    assert sha1(machine, message) == hashlib.sha1(message).digest()
    assert sha256(machine, message) == hashlib.sha256(message).digest()


# -- PCLMULQDQ, CRC32


def polynomial_product(a: int, b: int) -> int:
    return 0 if not b else polynomial_product(a << 1, b >> 1) ^ (a if b & 1 else 0)


def test_carryless_product(machine: Machine) -> None:
    r = random.Random(5)
    for _ in range(20):
        a, b = r.getrandbits(128), r.getrandbits(128)
        for high in range(4):
            got = machine.vector(
                f"660f3a44ca{(high & 1) | (high >> 1) << 4:02x}", a.to_bytes(16, "little"), b.to_bytes(16, "little")
            )
            x, y = a >> 64 * (high & 1) & (1 << 64) - 1, b >> 64 * (high >> 1) & (1 << 64) - 1
            assert int.from_bytes(got, "little") == polynomial_product(x, y)


def test_crc32c() -> None:
    """The check value of CRC-32C is that of "123456789" (RFC 3720 has the polynomial)."""
    machine = Machine(plus={(1, "ecx"): 1 << 20})  # part of SSE4.2
    crc = 0xFFFFFFFF
    for byte in b"123456789":
        crc = machine.execute(bytes.fromhex("f20f38f0c1"), rax=crc, rcx=byte).rax  # crc32 eax, cl
    assert crc ^ 0xFFFFFFFF == 0xE3069283
    crc = machine.execute(bytes.fromhex("f20f38f1c1"), rax=0xFFFFFFFF, rcx=int.from_bytes(b"1234", "little")).rax
    crc = machine.execute(bytes.fromhex("66f20f38f1c1"), rax=crc, rcx=int.from_bytes(b"56", "little")).rax
    for byte in b"789":
        crc = machine.execute(bytes.fromhex("f20f38f0c1"), rax=crc, rcx=byte).rax
    assert crc ^ 0xFFFFFFFF == 0xE3069283
    machine.close()


# -- random numbers

RDRAND, RDSEED = bytes.fromhex("0fc7f0"), bytes.fromhex("0fc7f8")


def numbers(seed: int | None, code: bytes = RDRAND) -> list[int]:
    m = Machine(seed=seed)
    out = []
    for _ in range(8):
        regs = m.execute(code)
        assert regs.rflags & 0x8D5 == 1  # CF alone
        out.append(regs.rax)
    m.close()
    return out


def test_random_numbers_follow_from_the_seed() -> None:
    assert numbers(1) == numbers(1)
    assert numbers(1) != numbers(2)
    assert len(set(numbers(1))) == 8
    assert numbers(None, RDSEED) != numbers(None, RDSEED)


# -- what is not announced

GATED = {
    "popcnt": ("f30fb8c1", 1, "ecx", 23), "movbe": ("0f38f00518800100", 1, "ecx", 22), "aes": ("660f38dcca", 1, "ecx", 25),
    "pclmulqdq": ("660f3a44ca00", 1, "ecx", 1), "rdrand": ("0fc7f0", 1, "ecx", 30), "rdseed": ("0fc7f8", 7, "ebx", 18),
    "adx": ("660f38f6c1", 7, "ebx", 19), "sha": ("0f38c8ca", 7, "ebx", 29), "bmi1": ("c4e270f2c1", 7, "ebx", 3),
    "bmi2": ("c4e26bf6c1", 7, "ebx", 8), "clwb": ("660fae3518800100", 7, "ebx", 24),
    "clflushopt": ("660fae3d18800100", 7, "ebx", 23), "clflush": ("0fae3d18800100", 1, "edx", 19),
    "rdpid": ("f30fc7f8", 7, "ecx", 22),
}  # fmt: skip


@pytest.mark.parametrize("name", GATED)
def test_what_is_not_announced_is_undefined(name: str) -> None:
    code, leaf, register, bit = GATED[name]
    for without, expected in (({}, False), ({(leaf, register): 1 << bit}, True)):
        m = Machine(without)
        assert m.faults(bytes.fromhex(code)) is expected
        m.close()


def test_counting_zeros_without_the_feature_is_bit_scanning() -> None:
    for code, leaf, register, bit, there, absent in (
        ("f30fbcc1", 7, "ebx", 3, 4, 4),  # tzcnt eax, ecx: bsf
        ("f30fbdc1", 0x80000001, "ecx", 5, 27, 4),  # lzcnt eax, ecx: bsr
    ):
        for without, expected in (({}, there), ({(leaf, register): 1 << bit}, absent)):
            m = Machine(without)
            assert m.execute(bytes.fromhex(code), rcx=0x10).rax == expected
            m.close()
    m = Machine({})
    assert m.execute(bytes.fromhex("f30fbcc1"), rcx=0).rax == 32
    m.close()
