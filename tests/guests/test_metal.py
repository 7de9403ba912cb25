"""Every metal program on every accelerator: self-checking ROMs, judged by what they say of themselves.

The simulated accelerator must pass all.  A /dev/kvm on VMX or SVM must as well.  Where the kernel emulates instructions
instead, it must pass `EMULATED_KVM_PASSES`; what else it cannot do is told by running, and skipped with that reason.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from runner import METAL, Outcome, open_accelerator, run_metal, run_on_machine

from accel.handles import SystemHandle
from qom.errors import AccelError

NEEDS_MACHINE = {"irq", "a20"}  # interrupt controllers, timers, port 92h
PROGRAMS = sorted(source.stem for source in METAL.glob("*.S") if source.stem not in NEEDS_MACHINE)

# Found by running on a kernel that emulates (KVM without VMX and SVM, Linux 6.12), each verified on QEMU and Bochs as well.
EMULATED_KVM_PASSES = {
    *("arith", "bits", "divmin", "muldiv", "reset", "selfcheck", "shifts", "smc", "strings", "sysenter", "system"),
}
EMULATED_KVM_MACHINE_PASSES = {"a20"}
KVM_SECONDS = 10.0  # an emulating kernel hangs in some instructions instead of refusing them


def hardware_kvm() -> bool:
    """Whether this processor announces VMX or SVM."""
    words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    return "vmx" in words or "svm" in words


@pytest.fixture(scope="module", params=["simulated", "kvm"])
def accelerator(request: pytest.FixtureRequest) -> Iterator[SystemHandle]:
    try:
        system = open_accelerator(request.param)
    except AccelError as error:
        pytest.skip(str(error))
    with system:
        yield system


def judge(name: str, outcome: Outcome, emulated_passes: set[str], *, kvm: bool) -> None:
    if kvm and not outcome.passed and not hardware_kvm() and name not in emulated_passes:
        pytest.skip(f"this /dev/kvm emulates, and not all: {name}: {outcome.text.strip() or outcome.ending}")
    assert outcome.passed, outcome.report()
    assert outcome.text == f"PASS {name}\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_metal_program(accelerator: SystemHandle, name: str) -> None:
    kvm = accelerator.where == "kvm"
    image = (METAL / f"{name}.bin").read_bytes()
    judge(name, run_metal(accelerator, image, KVM_SECONDS if kvm else 60.0), EMULATED_KVM_PASSES, kvm=kvm)


@pytest.mark.parametrize("name", sorted(NEEDS_MACHINE))
@pytest.mark.parametrize("accelerator_name", ["simulated", "kvm"])
def test_metal_program_on_the_machine(accelerator_name: str, name: str) -> None:
    try:
        open_accelerator(accelerator_name).close()
    except AccelError as error:
        pytest.skip(str(error))
    outcome = run_on_machine(accelerator_name, METAL / f"{name}.bin", 30.0)
    judge(name, outcome, EMULATED_KVM_MACHINE_PASSES, kvm=accelerator_name == "kvm")


def test_a_failing_program_is_reported(accelerator: SystemHandle) -> None:
    """The harness can fail: a wrong expectation gives FAIL with the case, and exit status 1."""
    image = bytearray((METAL / "selfcheck.bin").read_bytes())
    at = image.index(bytes.fromhex("66b805000000"))  # mov eax, 5: the value of case 1
    image[at + 2] = 6
    outcome = run_metal(accelerator, bytes(image))
    assert (outcome.text, outcome.status, outcome.passed) == ("FAIL selfcheck at 1\n", 1, False)


def test_an_unexpected_exception_is_reported(accelerator: SystemHandle) -> None:
    image = bytearray((METAL / "selfcheck.bin").read_bytes())
    at = image.index(bytes.fromhex("66b805000000"))
    image[at : at + 2] = bytes.fromhex("0f0b")  # ud2
    outcome = run_metal(accelerator, bytes(image))
    assert outcome.text == f"FAIL selfcheck at 1: exception 6 error FFFFFFFF at 00000000:{at:08X}\n"


def test_a_program_without_end_is_stopped(accelerator: SystemHandle) -> None:
    image = bytearray((METAL / "selfcheck.bin").read_bytes())
    at = image.index(bytes.fromhex("66b805000000"))
    image[at : at + 2] = bytes.fromhex("ebfe")  # jmp $
    outcome = run_metal(accelerator, bytes(image), 0.2)
    assert (outcome.ending, outcome.status) == ("the time limit of 0.2 s", None)


def test_an_image_of_the_wrong_size_is_refused(accelerator: SystemHandle) -> None:
    with pytest.raises(ValueError, match="a metal image has 65536 bytes, this one 512"):
        run_metal(accelerator, bytes(512))
