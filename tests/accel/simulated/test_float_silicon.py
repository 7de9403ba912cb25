"""Every floating-point instruction, with random operands and control words: as the processor this test runs on has it."""

import platform
import random
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

from float_cases import Case, Core, describe, differences, native

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
