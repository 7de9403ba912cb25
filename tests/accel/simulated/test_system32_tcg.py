"""Paging, segments, far transfers, delivery, V8086 mode and tasks outside long mode: the core against QEMU's TCG.

The same ROM and the same table of random cases (system32_make.py) run on both; what the processor pushed, its control and
task registers, and what it left in tables, TSSs and stacks are compared case by case.
`python tests/accel/simulated/test_system32_tcg.py SEED COUNT` prints all differences.
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

import system32_cases  # noqa: E402
import system32_make  # noqa: E402
import tcg  # noqa: E402
from runner import Bare, open_accelerator  # noqa: E402
from system32_cases import NAMES, RF, Case  # noqa: E402
from system32_make import lookup  # noqa: E402

SEED = int(os.environ.get("QOM_SYSTEM_SEED", "1"))
COUNT = int(os.environ.get("QOM_SYSTEM_CASES", "6000"))

Result = dict[str, int]
SIZE = system32_cases.RESULT_SIZE


def run_core(image: bytes, cases: list[Case], accelerator: str = "simulated") -> list[Result]:
    with open_accelerator(accelerator) as system, Bare(system, image) as bare:
        for address, data in system32_cases.memory(cases).items():
            bare.ram[address : address + len(data)] = data
        outcome = bare.run(120.0)
        data = bytes(bare.ram[system32_cases.RESULTS : system32_cases.RESULTS + SIZE * len(cases)])
        done = int.from_bytes(bare.ram[system32_cases.COUNT + 4 : system32_cases.COUNT + 8], "little")
        assert outcome.ending == "HLT without an exit" and done == len(cases), (
            f"stopped at case {done}: {cases[done : done + 1]}\n{outcome.report()}"
        )
    return list(system32_cases.results(data, len(cases)))


def run_tcg(image: bytes, cases: list[Case]) -> list[Result]:
    read = {system32_cases.RESULTS: SIZE * len(cases), system32_cases.COUNT: 8}
    data, counts = tcg.run(image, system32_cases.memory(cases), until=system32_cases.DONE, read=read)
    assert counts[:4] == counts[4:], f"TCG stopped at case {int.from_bytes(counts[4:], 'little')}"
    return list(system32_cases.results(data, len(cases)))


ACCESSED, DIRTY, PF_PRESENT, PF_WRITE, PF_RSVD = 0x20, 0x40, 1, 2, 8
AC_ID = 0x240000
CODE_ACCESSED = 0x100
TASK_EIPS = (system32_cases.TARGET, 0x30, *(page + system32_cases.TARGET for page in system32_cases.CODE_PAGES))
STACK_NAMES = ("esp", "handler esp")
FAULTS_OF_TASKS = (8, 10, 11, 12, 13)


def whole_deviation(case: Case, ours: Result, theirs: Result) -> str | None:
    """Why everything about this case may differ."""
    if case.beyond:
        return "compares no offset of a gate or a return with the limit, names the segment in a jump's (SDM 2, CALL, JMP, RET)"
    if case.unloaded and ours["vector"] in FAULTS_OF_TASKS:
        return "pushes a new task's fault on a stack it has not loaded (SDM 3, 6.15, #TS: open)"
    if case.writes.get(system32_cases.GDT + system32_cases.TSS_SEL, b"")[:2] == b"\x09\0":
        return "wants eight bytes of the TSS for SS:ESP (SDM 2, INT n, CALL: six)"
    vectors, errors = (ours["vector"], theirs["vector"]), (ours["error"], theirs["error"])
    refused = vectors[1] == 10 or (vectors[1] == 0 and case.unloaded)  # 0: its own handler found no frame
    if case.conforming and refused and (vectors[0] != 10 or errors[0] != errors[1]):
        return "wants DPL = RPL of a new task's conforming code (SDM 3, table 6-6)"
    if vectors in ((13, 10), (8, 10)) and errors[1] & 4 and (vectors[0] == 8 or errors[0] & ~1 == errors[1]):
        return "raises #TS for a TSS selector in the LDT (SDM 2, JMP, CALL, INT n)"
    if vectors == (12, 11) and errors[0] == errors[1] and case.note.startswith(("iret", "retf", "task")):
        return "raises #NP for a new stack that is not present (SDM 2, RET, IRET; 3, 7.3)"
    if vectors == (11, 13) and errors[0] == errors[1] and case.note.startswith("jmp far"):
        return "raises #GP for code behind a call gate that is not present, at JMP (SDM 2, JMP)"
    if vectors == (13, 3) and case.note.startswith("ltr") and theirs["tr"] < 4:
        return "loads a null selector into TR (SDM 2, LTR)"
    if case.note.startswith(("mov ss", "pop ss", "lss")) and vectors == (8, 3):
        return "checks no limit of a stack (SDM 3, 5.3)"
    if case.note.startswith("task") and vectors == (12, 3) and errors[0] == 0:
        return "checks no limit of a stack (SDM 3, 5.3)"
    if case.note.startswith("page ldt jmp") and vectors[0] == 14 and errors[0] & 3 == PF_PRESENT | PF_WRITE:
        return "does not write the accessed flag of a code segment (SDM 3, 3.4.5.1)"
    if case.v86 and vectors[0] in (8, 13) and theirs["frame 1"] & 3 in (1, 2):
        return "lets a gate lead from V8086 mode to rings 1 and 2 (SDM 3, 20.3.1)"
    return None


def wide_stack(case: Case, theirs: Result) -> bool:
    """Whether the handler's stack pointer has 32 bits."""
    packed = case.writes.get(system32_cases.GDT + system32_cases.FREE, b"")
    slots = [int.from_bytes(packed[at : at + 8], "little") for at in range(0, len(packed), 8)]
    return bool(lookup(theirs["handler ss"], slots) >> 54 & 1)


def deviation(case: Case, name: str, ours: Result, theirs: Result) -> str | None:
    """Why field `name` may differ: what QEMU 7.2's TCG does not do as the manual says, or what the manual leaves open."""
    a, b, vector = ours[name], theirs[name], ours["vector"]
    family = case.note.split()[0]
    in_memory = name.startswith("memory")
    flags = in_memory or name.startswith("frame")
    if flags and a ^ b == RF:
        if a & RF:
            return "pushes a fault's flags without RF (SDM 3, 17.3.1.1)"
        return "keeps RF in what INT n, INT3 and INTO push (SDM 3, 17.3.1.1)"
    if in_memory and a ^ b == CODE_ACCESSED and a & CODE_ACCESSED:
        return "does not write the accessed flag of a code segment (SDM 3, 3.4.5.1)"
    if family == "page":
        if in_memory and a ^ b == DIRTY and a & DIRTY and " ldt jmp " in case.note:
            return "does not write the accessed flag of a code segment (SDM 3, 3.4.5.1)"
        if " tss " in case.note and name == "cr2" and vector == 14 and a >> 12 == b >> 12:
            return "reads a new TSS in another order (SDM 3, 7.3: open)"
        if " ldt " in case.note and name == "cr2" and vector == 14 and a >> 3 == b >> 3:
            return "writes four bytes to set an accessed flag (SDM 3, 3.4.5.1: open)"
        if in_memory and vector in (8, 14) and a == 0:
            return "has written part of a frame or the old TSS when it faults (SDM 3, 6.14, 7.3: open)"
    if family in ("paging", "page") and vector in (8, 14):
        if in_memory and b == a | ACCESSED:
            return "sets accessed flags on the way to a fault (SDM 3, 4.8: open)"
        if name == "error":
            rmw = " rmw " in case.note and a & PF_WRITE and not b & PF_WRITE
            rest = (a ^ b) & ~(PF_WRITE if rmw else 0)
            if rest == PF_PRESENT and a & PF_RSVD and a & PF_PRESENT:
                return "reports reserved bits without P (SDM 3, 4.7)"
            if rest == 0 and rmw:
                return "faults on a read-modify-write as on a read (SDM 3, 4.7)"
    if (name == "error" or flags) and a ^ b == 1 and a & 1:
        return "sets no EXT in error codes of gates (SDM 3, 6.13)"
    upper_half = not (a ^ b) & 0xFFFF or (in_memory and not (a ^ b) >> 16 and not a & 0xFFFF)  # 16-bit frames shift it
    if (name in STACK_NAMES or in_memory) and upper_half and not wide_stack(case, theirs):
        return "keeps the upper half of ESP when the TSS gives a 16-bit stack (SDM 2, INT n, CALL)"
    if family == "call" and (name == "frame 1" or in_memory) and not (a ^ b) & ~0x30003:
        return "loses the privilege level in CS at a call gate to conforming code (SDM 2, CALL)"
    sixteen = "16-bit" in case.note or family == "delivery"  # a task gate there may lead to either
    if sixteen and (flags or name == "handler eflags") and not (a ^ b) & ~(AC_ID | RF) and not a & AC_ID:
        return "keeps the upper half of EFLAGS when a 16-bit task starts (SDM 3, 7.6: open)"
    if family == "task":
        if vector in FAULTS_OF_TASKS and (name == "frame 0" or in_memory) and (a in TASK_EIPS or a >> 16 in TASK_EIPS):
            return "saves the old EIP with a new task's fault (SDM 3, 6.15, #TS)"
        if name == "ldtr" and a ^ b == 4:
            return "clears TI of a bad LDT selector (SDM 3, 7.3: open)"
    return None


def differences(cases: list[Case], ours: list[Result], theirs: list[Result]) -> tuple[list[str], Counter[str]]:
    """What differs without a reason, and how often each reason was one."""
    found, known = [], Counter[str]()
    for number, (case, a, b) in enumerate(zip(cases, ours, theirs, strict=True)):
        fields = [name for name in NAMES if a[name] != b[name]]
        if not fields:
            continue
        whole = whole_deviation(case, a, b)
        reasons = [whole] if whole else [deviation(case, name, a, b) for name in fields]
        known.update({reason for reason in reasons if reason})
        if whole:
            continue
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
    cases = system32_make.make(SEED, COUNT)
    image = system32_cases.rom()
    found, _known = differences(cases, run_core(image, cases), run_tcg(image, cases))
    assert not found, f"seed {SEED}: {len(found)} of {COUNT} differ:\n" + "\n".join(found[:10])


@pytest.mark.skipif(shutil.which("as") is None, reason="needs GNU binutils")
def test_v8086_mode_is_left_for_ring_0_only() -> None:
    """SDM 3, 20.3.1: #GP with the selector of the handler.  TCG goes to rings 1 and 2, so it cannot tell."""
    layout = system32_cases
    case = Case("v86 int n to ring 1", system32_make.STARTS[0], eflags=0x3002)
    case.v86 = [layout.V86_CODE >> 4, 0, layout.V86_STACK >> 4, 0x400, 0, 0, 0, 0]
    case.writes[layout.V86_CODE] = bytes([0xCD, layout.VECTOR])
    gate = layout.gate(layout.KERNEL_CODE + layout.TARGET, layout.R1_32, 0xEE)
    case.writes[layout.IDT + 8 * layout.VECTOR] = gate.to_bytes(8, "little")
    (result,) = run_core(layout.rom(), [case])
    assert (result["vector"], result["error"]) == (13, layout.R1_32 & ~3)
    assert result["frame 1"] == layout.V86_CODE >> 4


def main() -> int:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    image = system32_cases.rom()
    wrong, accepted = 0, Counter[str]()
    for first in range(0, count, system32_cases.CASES_MAX):
        cases = system32_make.make(seed, min(count - first, system32_cases.CASES_MAX))
        found, known = differences(cases, run_core(image, cases), run_tcg(image, cases))
        for text in found:
            print(f"seed {seed} {text}")
        wrong += len(found)
        accepted += known
        seed += 1
    print(f"{count} cases, {wrong} differ, known deviations of TCG:")
    for reason, times in accepted.most_common():
        print(f"{times:8} {reason}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
