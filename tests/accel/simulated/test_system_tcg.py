"""Paging, segments, far transfers and interrupt delivery in long mode: the core against QEMU's TCG, by its gdb stub.

The same ROM and the same table of random cases (system_cases.py) run on both; what the processor pushed and left in memory
is compared case by case.  `python tests/accel/simulated/test_system_tcg.py SEED COUNT` prints all differences.
"""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "guests")]

import system_cases  # noqa: E402
import tcg  # noqa: E402
from runner import Bare, open_accelerator  # noqa: E402
from system_cases import Case  # noqa: E402

SEED = int(os.environ.get("QOM_SYSTEM_SEED", "1"))
COUNT = int(os.environ.get("QOM_SYSTEM_CASES", "3000"))

Result = dict[str, int]


def run_core(image: bytes, cases: list[Case], accelerator: str = "simulated") -> list[Result]:
    with open_accelerator(accelerator) as system, Bare(system, image) as bare:
        for address, data in system_cases.memory(cases).items():
            bare.ram[address : address + len(data)] = data
        outcome = bare.run(120.0)
        size = system_cases.RESULT_SIZE * len(cases)
        data = bytes(bare.ram[system_cases.RESULTS : system_cases.RESULTS + size])
        done = int.from_bytes(bare.ram[system_cases.COUNT + 8 : system_cases.COUNT + 16], "little")
        assert outcome.ending == "HLT without an exit" and done == len(cases), (
            f"stopped at case {done}: {cases[min(done, len(cases) - 1)]}\n{outcome.report()}"
        )
    return list(system_cases.results(data, len(cases)))


def run_tcg(image: bytes, cases: list[Case]) -> list[Result]:
    read = {system_cases.RESULTS: system_cases.RESULT_SIZE * len(cases)}
    (data,) = tcg.run(image, system_cases.memory(cases), until=system_cases.DONE, read=read)
    return list(system_cases.results(data, len(cases)))


CODE_ACCESSED = 1 << 40
STACK_DUMPS = ("memory 4", "memory 5", "memory 6", "memory 7")  # of far calls
RF, ACCESSED, PF_PRESENT, PF_WRITE, PF_RSVD = 0x10000, 0x20, 1, 2, 8
TRAPS = (3, 4, 0x21, 0x22, 0x40)


def deviation(case: Case, name: str, ours: Result, theirs: Result) -> str | None:
    """Why field `name` may differ: what QEMU 7.2's TCG does not do as the manual says, or what the manual leaves open."""
    a, b, vector = ours[name], theirs[name], ours["vector"]
    if case.note.startswith("int") and (vector, theirs["vector"]) == (13, 11) and ours["error"] == theirs["error"]:
        return "looks at P of a handler's segment before L (SDM 2, INT n: open)"
    if vector != theirs["vector"]:
        return None
    if name.startswith("memory") and a ^ b == CODE_ACCESSED and a & CODE_ACCESSED:
        return "leaves the accessed flag of a code segment clear (SDM 3, 3.4.5.1)"
    if (name == "rflags" or name in STACK_DUMPS) and a ^ b == RF and a & RF and vector not in TRAPS:
        return "pushes a fault's flags without RF (SDM 3, 17.3.1.1)"
    if vector == 14 and name.startswith("memory") and case.note.startswith("paging") and b == a | ACCESSED:
        return "sets accessed flags on the way to a fault (SDM 3, 4.8: open)"
    if vector == 14 and name == "error":
        rmw = case.note.startswith("paging rmw") and a & PF_WRITE and not b & PF_WRITE
        rest = (a ^ b) & ~(PF_WRITE if rmw else 0)
        if rest == PF_PRESENT and a & PF_RSVD and a & PF_PRESENT:
            return "reports reserved bits without P (SDM 3, 4.7)"
        if rest == 0 and rmw:
            return "faults on a read-modify-write as on a read (SDM 3, 4.7)"
    if name == "error" and a & 7 == 2 and b == (a & ~7) * 2 + 2:
        return "counts 16 bytes a gate in error codes (SDM 3, 6.13)"
    return None


def differences(cases: list[Case], ours: list[Result], theirs: list[Result]) -> tuple[list[str], Counter[str]]:
    found, known = [], Counter()
    for number, (case, a, b) in enumerate(zip(cases, ours, theirs, strict=True)):
        fields = [name for name in system_cases.NAMES if a[name] != b[name] and (name != "cr2" or b["vector"] == 14)]
        if not fields:
            continue
        reasons = [deviation(case, name, a, b) for name in fields]
        known.update(reason for reason in reasons if reason)
        fields = [name for name, reason in zip(fields, reasons, strict=True) if reason is None]
        if not fields:
            continue
        what = ", ".join(f"{name} {a[name]:x} TCG {b[name]:x}" for name in fields)
        found.append(f"case {number} {case.note}: {what} (vector {a['vector']:x}({a['error']:x}))\n    {case}")
    return found, known


@pytest.mark.slow
@pytest.mark.skipif(tcg.QEMU is None, reason="qemu-system-x86_64 is not installed")
@pytest.mark.skipif(shutil.which("as") is None, reason="needs GNU binutils")
def test_same_as_tcg() -> None:
    cases = system_cases.make(SEED, COUNT)
    image = system_cases.rom()
    found, _known = differences(cases, run_core(image, cases), run_tcg(image, cases))
    assert not found, f"seed {SEED}: {len(found)} of {COUNT} differ:\n" + "\n".join(found[:10])


if __name__ == "__main__":
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    made = system_cases.make(seed, count)
    program = system_cases.rom()
    wrong, accepted = differences(made, run_core(program, made), run_tcg(program, made))
    print("\n".join(wrong))
    print(f"seed {seed}: {count} cases, {len(wrong)} differ, known deviations of TCG: {dict(accepted)}")
    sys.exit(1 if wrong else 0)
