"""Every floating-point instruction, with random operands and control words: as the processor this test runs on has it."""

import platform
import random
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from float_cases import Case, Core, describe, differences, native

from accel.simulated.build_core import CORE

# memory forms: ModRM.reg; register forms: ModRM
X87 = {f"{op:02x}": [reg << 3 | 6 for reg in range(8)] + list(range(0xC0, 0x100)) for op in range(0xD8, 0xE0)}
# loads and stores of environments hold addresses and FCS/FDS, which processors have given up one after another
ELSEWHERE = {(0xD9, 0x26), (0xD9, 0x36), (0xDD, 0x26), (0xDD, 0x36)}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if platform.machine() != "x86_64" or shutil.which("gcc") is None:
        pytest.skip("needs an x86-64 host with gcc: the processor itself is the reference")
    binary = tmp_path_factory.mktemp("oracle") / "native_float"
    source = Path(__file__).with_name("native_float.c")
    subprocess.run(["gcc", "-O1", "-mno-red-zone", "-fcf-protection=none", source, "-o", binary], check=True)
    return binary


@pytest.fixture(scope="module")
def core() -> Core:
    return Core()


def compare(oracle: Path, core: Core, cases: list[Case]) -> None:
    wrong = []
    for case, want in zip(cases, native(oracle, cases), strict=True):
        found = differences(core, case, want)
        if found:
            wrong.append(f"{case.code.hex()}: {'; '.join(found)}\n    from {describe(case)}")
    assert not wrong, f"{len(wrong)} of {len(cases)} differ:\n" + "\n".join(wrong[:12])


@pytest.mark.parametrize("op", sorted(X87))
def test_x87(op: str, oracle: Path, core: Core) -> None:
    r = random.Random(f"x87 {op}")
    cases = []
    for modrm in X87[op]:
        code = bytes([int(op, 16), modrm])
        if (code[0], modrm) not in ELSEWHERE:
            cases += [Case(r, code) for _ in range(12 if modrm >= 0xC0 else 60)]
    compare(oracle, core, cases)


PACKED = {0x51: "0 1 2 3", 0x52: "0 2", 0x53: "0 2", 0x58: "0 1 2 3", 0x59: "0 1 2 3", 0x5A: "0 1 2 3", 0x5B: "0 1 2",
          0x5C: "0 1 2 3", 0x5D: "0 1 2 3", 0x5E: "0 1 2 3", 0x5F: "0 1 2 3", 0x2A: "0 1 2 3", 0x2C: "0 1 2 3",
          0x2D: "0 1 2 3", 0x2E: "0 1", 0x2F: "0 1", 0x7C: "1 3", 0x7D: "1 3", 0xC2: "0 1 2 3", 0xD0: "1 3",
          0xE6: "1 2 3"}  # fmt: skip
PREFIXES = (b"", b"\x66", b"\xf3", b"\xf2")
SSE = {
    f"{op:02x}-{PREFIXES[int(p)].hex() or 'np'}": (PREFIXES[int(p)] + bytes([0x0F, op]), op == 0xC2)
    for op, prefixes in PACKED.items()
    for p in prefixes.split()
}
SSE |= {f"3a{op:02x}": (b"\x66\x0f\x3a" + bytes([op]), True) for op in (0x08, 0x09, 0x0A, 0x0B, 0x40, 0x41)}


@pytest.mark.parametrize("name", sorted(SSE))
def test_sse(name: str, oracle: Path, core: Core) -> None:
    r = random.Random(f"sse {name}")
    opcode, immediate = SSE[name]
    cases = []
    for _ in range(80):
        registers = 0xC0 if name in ("2a-f3", "2a-f2") else 0xC1  # of the general registers, rax is part of a case
        code = opcode + bytes([r.choice((registers, registers, 0xC0, 0x06))])
        if immediate:
            code += bytes([r.choice((r.randrange(16), r.randrange(256), 0xFF, 0x31))])
        cases.append(Case(r, code))
    compare(oracle, core, cases)


def vex(pp: int, opcode_map: int, op: int, w: int = 0, vvvv: int | None = 2) -> bytes:
    """A three-byte VEX prefix for 128 bits and the opcode."""
    unused = 15 if vvvv is None else ~vvvv & 15
    return bytes([0xC4, 0xE0 | opcode_map, w << 7 | unused << 3 | pp, op])


AVX = {f"fma-{op:02x}-{w}": (1, 2, op, w, 2, False)
       for high in (0x90, 0xA0, 0xB0) for op in range(high + 6, high + 16) for w in (0, 1)}  # fmt: skip
AVX |= {"ph2ps": (1, 2, 0x13, 0, None, False), "ps2ph": (1, 3, 0x1D, 0, None, True)}
AVX |= {f"vcmp-{pp}": (pp, 1, 0xC2, 0, 2, True) for pp in range(4)}
AVX |= {f"v{op:02x}-{p}": (int(p), 1, op, 0, None if op in (0x5A, 0x5B, 0x51, 0x52, 0x53) and int(p) < 2 else 2, False)
        for op in (0x51, 0x52, 0x53, 0x58, 0x5A, 0x5E) for p in PACKED[op].split()}  # fmt: skip


@pytest.mark.parametrize("name", sorted(AVX))
def test_avx(name: str, oracle: Path, core: Core) -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if not all(f" {flag} " in flags for flag in ("avx", "fma", "f16c")):
        pytest.skip("this processor has no AVX, FMA or F16C")
    r = random.Random(f"avx {name}")
    pp, opcode_map, op, w, vvvv, immediate = AVX[name]
    cases = []
    for _ in range(60):
        code = vex(pp, opcode_map, op, w, vvvv) + bytes([r.choice((0xC1, 0xC1, 0xC0, 0x06))])
        if immediate:
            code += bytes([r.randrange(32) if op == 0xC2 else r.randrange(8)])
        cases.append(Case(r, code))
    compare(oracle, core, cases)


def test_fma_in_integers(tmp_path: Path) -> None:
    """What a host without FMA gets."""
    if platform.machine() != "x86_64" or shutil.which("gcc") is None:
        pytest.skip("needs an x86-64 host with gcc: the processor itself is the reference")
    if " fma " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no FMA to compare with")
    binary, sources = tmp_path / "native_fma", [Path(__file__).with_name("native_fma.c"), CORE / "soft_float.c"]
    subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O1", f"-I{CORE}", *sources, "-o", binary], check=True)
    done = subprocess.run([binary, "1", "200000"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
