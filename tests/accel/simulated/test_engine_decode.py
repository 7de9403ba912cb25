"""The decoder: lengths against capstone, prefixes, illegal encodings, and that it is a pure function of its bytes."""

import ctypes
import random
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("cffi")
from accel.simulated import _core, build_core

MODE16, MODE32, MODE64 = range(3)
R_ZERO = 16
EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI = range(8)
CS, SS, DS, FS = 1, 2, 3, 4


class Insn(ctypes.Structure):
    _fields_ = [
        ("fn", ctypes.c_uint64), ("imm", ctypes.c_uint64), ("disp", ctypes.c_int32), ("off", ctypes.c_uint16),
        ("len", ctypes.c_uint8), ("idx", ctypes.c_uint8), ("reg", ctypes.c_uint8), ("rm", ctypes.c_uint8),
        ("base", ctypes.c_uint8), ("index", ctypes.c_uint8), ("seg", ctypes.c_uint8), ("sizes", ctypes.c_uint8),
        ("flags", ctypes.c_uint8), ("opcode", ctypes.c_uint8),
    ]  # fmt: skip


class Info(ctypes.Structure):
    _fields_ = [
        ("end", ctypes.c_bool), ("effect", ctypes.c_uint8), ("unit", ctypes.c_uint8), ("feature", ctypes.c_uint8),
        ("quiet", ctypes.c_uint64), ("absent", ctypes.c_uint64),
    ]  # fmt: skip


class Decoder:
    def __init__(self, library: Path) -> None:
        self.lib = ctypes.CDLL(str(library))
        self.names: dict[int, str] = {}
        symbols = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True).stdout
        for line in symbols.splitlines():
            name = line.split()[-1]
            if name.startswith("op_"):
                self.names[ctypes.cast(getattr(self.lib, name), ctypes.c_void_p).value or 0] = name[3:]

    def __call__(self, code: bytes, mode: int = MODE32, stack32: bool = True) -> tuple[int, str, Insn, bool]:
        out, info = Insn(), Info()
        length = self.lib.decode(code, len(code), mode, stack32, ctypes.byref(out), ctypes.byref(info))
        return length, self.names.get(out.fn, "?"), out, info.end


@pytest.fixture(scope="module")
def decode() -> Decoder:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    return Decoder(Path(_core.__file__))  # it has the symbols of all its functions


@pytest.mark.parametrize(
    ("code", "mode", "name", "length"),
    [
        ("01d8", MODE32, "add_EG_r32", 2),
        ("6601d8", MODE32, "add_EG_r16", 3),
        ("01d8", MODE16, "add_EG_r16", 2),
        ("6601d8", MODE16, "add_EG_r32", 3),
        ("4801d8", MODE64, "add_EG_r64", 3),
        ("80c0ff", MODE32, "add_EI_r8", 3),
        ("83c0ff", MODE32, "add_EI_r32", 3),
        ("f00105aabbccdd", MODE32, "add_EG_m32", 7),
        ("f001d8", MODE32, "ud", 3),  # LOCK with a register
        ("f0390500000000", MODE32, "ud", 7),  # LOCK CMP
        ("8dc0", MODE32, "ud", 2),  # LEA of a register
        ("8ec8", MODE32, "ud", 2),  # MOV CS
        ("8ed0", MODE32, "mov_Sw_Ew", 2),
        ("8ef8", MODE32, "ud", 2),  # segment 7
        ("0fb9c0", MODE32, "ud", 3),
        ("90", MODE32, "nop", 1),
        ("f390", MODE32, "pause", 2),
        ("4190", MODE64, "xchg_r32", 2),
        ("63c0", MODE32, "arpl", 2),
        ("4863c0", MODE64, "movsx32_r64", 3),
        ("48b8" + "11" * 8, MODE64, "mov_EI_r64", 10),
        ("50", MODE64, "push_s64", 1),
        ("6650", MODE64, "push_r16", 2),
        ("27", MODE64, "ud", 1),
        ("f3a4", MODE32, "movs8", 2),
        ("c8100001", MODE32, "enter32", 4),
        ("9a0102030405" + "06", MODE32, "call_far_imm", 7),
        ("9a01020304", MODE16, "call_far_imm", 5),
        ("e2fe", MODE32, "loop32", 2),
        ("67e2fe", MODE32, "loop16", 3),
        ("0fc70d00000000", MODE32, "cmpxchg8b", 7),
        ("0fc7c8", MODE32, "ud", 3),
        ("0f20c0", MODE32, "mov_Rd_Cd", 3),
        ("0f2000", MODE32, "mov_Rd_Cd", 3),  # mod is ignored
        ("0f1000", MODE32, "movu_m", 3),
        ("0f10c1", MODE32, "mov_x_r", 3),
        ("f00f1000", MODE32, "ud", 4),  # LOCK
        ("c40418", MODE32, "load_far", 3),  # VEX has a register in this place
        ("0fbac016", MODE64, "ud", 3),  # decided by the ModRM byte: it counts
        ("66c5f81000", MODE64, "ud", 2),  # prefixes before VEX
        ("48c5f81000", MODE64, "ud", 2),
        ("d9c0", MODE32, "fld", 2),
        ("d98011223344", MODE32, "fld_m32", 6),
    ],
)
def test_known(decode: Decoder, code: str, mode: int, name: str, length: int) -> None:
    got_length, got_name, _, _ = decode(bytes.fromhex(code).ljust(15, b"\x90"), mode)
    assert (got_name, got_length) == (name, length)


def test_addresses(decode: Decoder) -> None:
    _, _, i, _ = decode(bytes.fromhex("8b448d10"))  # mov eax, [ebp+ecx*4+16]
    assert (i.base, i.index, i.sizes & 3, i.disp, i.seg) == (EBP, ECX, 2, 16, SS)
    _, _, i, _ = decode(bytes.fromhex("658b0510000000"))
    assert (i.base, i.index, i.disp, i.seg) == (R_ZERO, R_ZERO, 16, 5)
    _, _, i, _ = decode(bytes.fromhex("8b42fe90"), MODE16)  # mov ax, [bp+si-2]
    assert (i.base, i.index, i.disp, i.seg) == (EBP, ESI, -2, SS)
    _, _, i, _ = decode(bytes.fromhex("a012345678"))
    assert (i.imm, i.seg) == (0x78563412, DS)


def test_too_long(decode: Decoder) -> None:
    length, name, _, end = decode(b"\x66" * 15 + b"\x90")
    assert (length, name, end) == (15, "gp0", True)
    assert decode(b"\x66" * 14 + b"\x90")[:2] == (15, "nop")
    assert decode(b"\x66" * 14)[0] == 0  # more bytes wanted


@pytest.mark.parametrize("mode", [MODE16, MODE32])
def test_lengths_as_capstone(decode: Decoder, mode: int) -> None:
    capstone = pytest.importorskip("capstone")
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_16 if mode == MODE16 else capstone.CS_MODE_32)
    r = random.Random(mode)
    wrong, compared = [], 0
    for _ in range(60000):
        code = r.choice((b"", b"", b"\x66", b"\x67", b"\xf3", b"\x0f", b"\x66\x0f")) + r.randbytes(15)
        code = code[:15]
        length, name, _, _ = decode(code, mode)
        reference = next(engine.disasm(code, 0, 1), None)
        assert 0 < length <= 15
        if reference is None or name in ("ud", "fpu", "?"):
            continue
        compared += 1
        if reference.size != length:
            wrong.append(f"{code.hex()}: {name} {length}, capstone {reference.mnemonic} {reference.size}")
    assert compared > 20000
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])


def test_every_prefix_of_an_instruction_wants_more(decode: Decoder) -> None:
    r = random.Random(5)
    for _ in range(3000):
        code = r.randbytes(15)
        length, name, _, _ = decode(code)
        if name in ("ud", "gp0"):
            continue
        for short in range(length):
            assert decode(code[:short])[0] == 0, (code.hex(), short)
        assert decode(code[:length])[0] == length


def test_warnings_are_errors_here_and_not_on_a_users_machine() -> None:
    """Whose compiler may be newer.  The build in place and the one that run_silicon.py compares with are built so."""
    assert {"-Wall", "-Wextra", "-Werror"} <= set(build_core.CFLAGS)
    assert "-Werror" not in build_core.make_builder()._assigned_source[3]["extra_compile_args"]
