"""The cases that QEMU's TCG judges (system_cases.py, system32_make.py) on /dev/kvm, and segment limits, that TCG lacks.

Long mode runs by the same ROM as on TCG.  A case that KVM refuses or hangs in is not answered by this host: it is counted,
and the ROM goes on behind it.  Protected mode runs by system_direct.py: no instruction of a monitor is needed there.

On a processor with VMX or SVM every difference is a failure.  Where the kernel emulates instead (no VMX or SVM), its answers
are its emulator's, so it has one vote: in long mode a difference counts when TCG sides with KVM, be it where TCG is known to
deviate.  In protected mode its
emulator checks segments and limits as the manual has it, but delivers an exception without a look at the gate or the
stack; so of a fault only vector, error code and registers are compared, and delivery, V8086 mode, tasks and 32-bit paging,
which it does not do, are not answered.

`python tests/accel/simulated/test_system_kvm.py SEED COUNT` prints all differences and the numbers.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

pytest.importorskip("accel.simulated._core", reason="the C core is not built")

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "guests")]

import system32_cases  # noqa: E402
import system32_make  # noqa: E402
import system_cases  # noqa: E402
import system_direct  # noqa: E402
import tcg  # noqa: E402
import test_system_tcg  # noqa: E402
from runner import Bare, open_accelerator  # noqa: E402
from system_direct import State, why_not  # noqa: E402

from accel.errors import HandleError  # noqa: E402
from accel.handles import CpuidEntry, SystemHandle  # noqa: E402
from qom.errors import AccelError  # noqa: E402

SEED = int(os.environ.get("QOM_SYSTEM_SEED", "1"))
COUNT = int(os.environ.get("QOM_SYSTEM_KVM_CASES", "400"))
SECONDS = 1.0  # without a case getting done

Result = dict[str, int]
Differences = list[str]


def hardware_kvm() -> bool:
    """Whether this processor announces VMX or SVM."""
    words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    return "vmx" in words or "svm" in words


@attrs.define
class Tally:
    """What came out of a comparison."""

    cases: int = 0
    answered: int = 0
    found: list[str] = attrs.field(factory=list)  # differences that count
    accepted: Counter[str] = attrs.field(factory=Counter)  # others, by reason
    unanswered: Counter[str] = attrs.field(factory=Counter)
    confirmed: Counter[str] = attrs.field(factory=Counter)  # where KVM is as the core, by what TCG does instead

    def show(self, name: str) -> None:
        print(f"{name}: {self.cases} cases, {self.answered} answered by KVM, {len(self.found)} differ")
        for title, counter in (
            ("not answered", self.unanswered),
            ("accepted", self.accepted),
            ("as the core, TCG", self.confirmed),
        ):
            for reason, times in counter.most_common():
                print(f"{times:8} {title}: {reason}")


# ---- long mode ------------------------------------------------------------------------------------------------------

PDPE1GB, ADDRESS_BITS = 1 << 26, 40  # KVM may lack the one, and the cases have reserved bits from the other on
END, NEW_END = system_cases.TRAP, b"\x0f\x0b"  # an emulating KVM has no INT n at privilege 3: UD2 ends cases here


def common_cpuid(system: SystemHandle) -> list[CpuidEntry]:
    """What the cases take for granted, without 1 GiB pages."""
    entries = []
    for entry in system.supported_cpuid():
        if entry.function == 0x80000008:
            entry = attrs.evolve(entry, eax=entry.eax & ~0xFF | ADDRESS_BITS)
        elif entry.function == 0x80000001:
            entry = attrs.evolve(entry, edx=entry.edx & ~PDPE1GB)
        entries.append(entry)
    return entries


def long_memory(cases: list[system_cases.Case]) -> dict[int, bytes]:
    return {address: data.replace(END, NEW_END) for address, data in system_cases.memory(cases).items()}


def run_long(system: SystemHandle, image: bytes, cases: list[system_cases.Case]) -> Iterator[Result | str]:
    """Each case's result, or why there is none."""
    memory = long_memory(cases)
    index = slice(system_cases.COUNT + 8, system_cases.COUNT + 16)
    size = system_cases.RESULT_SIZE
    first = 0
    while first < len(cases):
        with Bare(system, image) as bare:
            bare.vcpu.set_cpuid(common_cpuid(system))
            for address, data in memory.items():
                bare.ram[address : address + len(data)] = data
            bare.ram[index] = first.to_bytes(8, "little")
            outcome = bare.run(SECONDS)
            done = int.from_bytes(bare.ram[index], "little")
            at = system_cases.RESULTS
            results = bytes(bare.ram[at + size * first : at + size * done])
        assert first <= done <= len(cases), outcome.report()
        yield from system_cases.results(results, done - first)
        if done < len(cases) and not (outcome.ending.startswith("the time limit") and done > first):
            yield why_not(outcome.ending)
            done += 1
        first = done


def compare_long(seed: int, count: int, kvm: SystemHandle) -> Tally:
    tally = Tally(count)
    cases = [case for case in system_cases.make(seed, 2 * count) if "level 3" not in case.note][:count]
    image = system_cases.rom()
    with open_accelerator("simulated") as system:
        ours = list(run_long(system, image, cases))
    theirs = list(run_long(kvm, image, cases))
    judge: list[Result] | None = None
    if not hardware_kvm():
        read = {system_cases.RESULTS: system_cases.RESULT_SIZE * count}
        (data,) = tcg.run(image, long_memory(cases), until=system_cases.DONE, read=read)
        judge = list(system_cases.results(data, count))
    for number, (case, a, b) in enumerate(zip(cases, ours, theirs, strict=True)):
        assert isinstance(a, dict), f"case {number} {case}: {a}"
        if isinstance(b, str):
            tally.unanswered[b] += 1
            continue
        tally.answered += 1
        wrong = []
        other = judge[number] if judge else None
        for name in system_cases.NAMES:
            if other is not None and other[name] != a[name] and b[name] == a[name]:
                tally.confirmed[test_system_tcg.deviation(case, name, a, other) or "?"] += 1
            if a[name] == b[name] or (name == "cr2" and b["vector"] != 14):
                continue
            reason = test_system_tcg.deviation(case, name, a, b)
            if reason is not None and "open" in reason:
                tally.accepted[reason] += 1
            elif other is None:
                wrong.append(name)
            elif (b[name], b["vector"]) != (other[name], other["vector"]):
                tally.accepted["TCG does not side with the emulating KVM"] += 1
            elif case.note.startswith("iretq") and a[name] ^ b[name] == test_system_tcg.CODE_ACCESSED:
                tally.accepted["an emulating KVM's IRETQ sets no accessed flag (SDM 3, 3.4.5.1)"] += 1
            else:
                wrong.append(name)
        if wrong:
            what = ", ".join(f"{name} {a[name]:x} KVM {b[name]:x}" for name in wrong)
            tally.found.append(f"seed {seed} case {number} {case.note}: {what}\n    {case}")
    return tally


# ---- protected mode -------------------------------------------------------------------------------------------------

EMULATORS_GAPS = {
    "paging": "an emulating KVM shuts down with 32-bit page tables",
    "page": "an emulating KVM shuts down with 32-bit page tables",
    "delivery": "an emulating KVM looks at no gate",
    "v86": "an emulating KVM leaves V8086 mode without its segments",
    "task": "an emulating KVM has no task switches",
}
FAULT_REGISTERS = (
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rbp",
    "rsi",
    "rdi",
    "ds selector",
    "es selector",
    "fs selector",
    "gs selector",
)
HAS_ERROR = (8, 10, 11, 12, 13, 14, 17)
WRAP = 0xFFFFFFF0
UD, DF, PF = 6, 8, 14


def gap(case: system32_cases.Case, ours: State, theirs: State, emulated: bool) -> str | None:
    """Why KVM's end of a case is no answer."""
    if not theirs.answered:
        return why_not(theirs.ending)
    if not emulated:
        return None
    family = case.note.split()[0]
    if family in EMULATORS_GAPS:
        return EMULATORS_GAPS[family]
    if theirs.vector == UD and ours.vector != UD:
        return "an instruction that an emulating KVM does not have raises #UD"
    if ours.vector == DF:
        return "an emulating KVM delivers onto any stack"
    return None


def unlike(case: system32_cases.Case, ours: State, theirs: State, emulated: bool) -> list[str]:
    """What differs between two answers, as text."""
    a, b = dict(ours.values), dict(theirs.values)
    if emulated and ours.vector is not None and ours.vector == theirs.vector:
        a, b = ({name: values[name] for name in FAULT_REGISTERS} for values in (a, b))
        if ours.vector in HAS_ERROR:
            a["error"], b["error"] = ours.error, theirs.event_error
    elif case.note.startswith("pag") and ours.vector in (
        DF,
        PF,
    ):  # accessed flags, parts of frames: open (SDM 3, 4.8, 6.14)
        a, b = ({name: v for name, v in values.items() if not name.startswith("memory")} for values in (a, b))
    return [f"{name} {a.get(name)} KVM {b.get(name)}" for name in {**a, **b} if a.get(name) != b.get(name)]


def compare_protected(seed: int, count: int, kvm: SystemHandle, families: dict[str, system32_make.Family]) -> Tally:
    tally, emulated = Tally(count), not hardware_kvm()
    cases = system32_make.make(seed, count, families)
    image = system32_cases.rom()
    with open_accelerator("simulated") as system:
        ours = list(system_direct.run(system, image, cases))
    for number, (case, a, b) in enumerate(zip(cases, ours, system_direct.run(kvm, image, cases), strict=True)):
        if not a.answered:  # HLT at ring 3 is #GP, and the case may have a gate there that leads to ring 3 again
            assert case.note.startswith(("delivery", "v86")), f"case {number} {case}: {a.ending}"
            tally.unanswered["ends in the monitor only"] += 1
            continue
        reason = gap(case, a, b, emulated)
        if reason:
            tally.unanswered[reason] += 1
            continue
        tally.answered += 1
        wrong = unlike(case, a, b, emulated)
        if wrong and case.note.startswith("access") and case.ebx >= WRAP:
            tally.accepted["an access over the end of a 4 GiB segment may or may not fault (SDM 3, 5.3)"] += 1
        elif emulated and case.note.startswith("ltr") and a.error & 4 and wrong == [f"error {a.error} KVM 0"]:
            tally.accepted["an emulating KVM's LTR names no selector of the LDT (SDM 2, LTR)"] += 1
        elif wrong:
            tally.found.append(f"seed {seed} case {number} {case.note}: {', '.join(wrong)}\n    {case}")
    return tally


# ---- tests ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kvm() -> Iterator[SystemHandle]:
    try:
        system = open_accelerator("kvm")
    except (AccelError, HandleError) as error:
        pytest.skip(str(error))
    with system:
        yield system


pytestmark = pytest.mark.skipif(shutil.which("as") is None, reason="needs GNU binutils")
EMULATOR_FAMILIES = {
    name: system32_make.FAMILIES[name] for name in ("segments", "privilege", "far")
} | system32_make.ACCESS
ALL_FAMILIES = system32_make.FAMILIES | system32_make.ACCESS


def enough_answers(tally: Tally) -> None:
    """A hardware KVM answers; an emulating one may be of another kind, and then that is said."""
    if hardware_kvm():
        assert tally.answered > tally.cases * 9 // 10, tally.unanswered
    elif tally.answered < tally.cases // 4:
        pytest.skip(f"this /dev/kvm answers {tally.answered} of {tally.cases} cases: {dict(tally.unanswered)}")


def test_long_mode_same_as_kvm(kvm: SystemHandle) -> None:
    if not hardware_kvm() and tcg.QEMU is None:
        pytest.skip("this /dev/kvm emulates, and there is no QEMU to judge a difference")
    tally = compare_long(SEED, COUNT, kvm)
    assert not tally.found, "\n".join(tally.found[:10])
    enough_answers(tally)


def test_protected_mode_same_as_kvm(kvm: SystemHandle) -> None:
    families = ALL_FAMILIES if hardware_kvm() else EMULATOR_FAMILIES
    tally = compare_protected(SEED, COUNT, kvm, families)
    assert not tally.found, "\n".join(tally.found[:10])
    enough_answers(tally)


def main() -> int:
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    wrong = 0
    with open_accelerator("kvm") as system:
        for name, tally in (
            ("long mode", compare_long(seed, count, system)),
            ("protected mode", compare_protected(seed, count, system, ALL_FAMILIES)),
        ):
            print("\n".join(tally.found))
            tally.show(name)
            wrong += len(tally.found)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
