"""A short run of the comparison with this host's processor; the long one is run_silicon.py."""

import os
import platform
import re
import shutil

import pytest

if platform.machine() != "x86_64" or shutil.which("gcc") is None:
    pytest.skip("needs an x86-64 host with gcc: the processor itself is the reference", allow_module_level=True)

import run_silicon

CASES = int(os.environ.get("QOM_SILICON_CASES", "60000"))
SEED = int(os.environ.get("QOM_SILICON_SEED", "1"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table() -> run_silicon.Table:
    return run_silicon.write_table(run_silicon.build(), run_silicon.BUILD / "templates")


def test_same_as_silicon(table: run_silicon.Table, capsys: pytest.CaptureFixture[str]) -> None:
    program = run_silicon.build()
    assert table.templates > 10000
    text = run_silicon.run(program, table.path, SEED, 0, CASES, timeout=600)
    with capsys.disabled():
        print(f" [seed {SEED}: {text.splitlines()[-1]}]", end="")
    failures = [run_silicon.explain(line) for line in text.splitlines() if line.startswith("FAIL ")]
    assert not failures, f"seed {SEED}:\n" + "\n".join(failures[:20])
    assert f"DONE seed {SEED}: {CASES} cases of" in text


@pytest.mark.parametrize(("share", "more"), [(2, ()), (20, ("--kicks",))], ids=["alone", "kicked"])
def test_sequences_same_as_silicon(
    table: run_silicon.Table, share: int, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    program = run_silicon.build()
    count = CASES // share
    text = run_silicon.run(program, table.path, SEED, 0, count, "--sequences", str(table.roles), *more, timeout=600)
    with capsys.disabled():
        print(f" [seed {SEED}: {text.splitlines()[-1]}]", end="")
    failures = [run_silicon.explain(line) for line in text.splitlines() if line.startswith(("FAIL ", "LESS "))]
    assert not failures, f"seed {SEED}:\n" + "\n".join(failures[:20])
    assert f"DONE seed {SEED}: {count} cases of" in text


def test_the_processor_agrees_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """What differs between two runs on the processor cannot be compared with it: nothing does."""
    program = run_silicon.build()
    table = run_silicon.write_table(program, run_silicon.BUILD / "templates-of-host", of_host=True)
    text = run_silicon.run(program, table.path, SEED, 0, CASES // 5, "--self", timeout=600)
    assert text.splitlines()[-1].endswith("0 differ in 0 templates"), text[-2000:]


def test_a_wrong_result_is_found() -> None:
    """The comparison can fail: RDTSC, which no two runs agree on."""
    program = run_silicon.build()
    path = run_silicon.BUILD / "one"
    path.write_text("rdtsc 0 1 0 49 0 0 0 -1 -1 0 0 0 8 0 0 0 8\n")
    text = run_silicon.run(program, path, SEED, 0, 300, timeout=60)
    assert text.count("FAIL ") == 3
    wrong = re.search(r"SUM rdtsc (\d+) of 300", text)
    assert wrong and int(wrong.group(1)) > 250  # some have LOCK and are #UD
    line = next(line for line in text.splitlines() if line.startswith("FAIL "))
    assert "rax" in run_silicon.explain(line) and "rdtsc" in run_silicon.explain(line)


def test_a_wrong_sequence_is_found_and_made_smaller() -> None:
    """RDTSC again, among moves: what is left of a sequence has it, and no step more than it takes."""
    program = run_silicon.build()
    path, roles = run_silicon.BUILD / "two", run_silicon.BUILD / "two-roles"
    path.write_text("rdtsc 0 1 0 49 0 0 0 -1 -1 0 0 0 8 0 0 0 8\nmov 0 0 0 139 1 0 1 -1 -1 1 0 0 8 0 0 0 8\n")
    roles.write_text("0 1 0 0 5 0 0 0\n1 9 3 1 0 0 0 0\n")
    text = run_silicon.run(program, path, SEED, 0, 300, "--sequences", str(roles), timeout=60)
    wrong = re.search(r"SUM sequence (\d+) of 300", text)
    assert wrong and 20 < int(wrong.group(1)) < 300
    smaller = [run_silicon.explain(line) for line in text.splitlines() if line.startswith("LESS ")]
    assert len(smaller) == text.count("FAIL ") == 3
    for listing in smaller:
        assert listing.count("rdtsc") == 1 and "made smaller" in listing
        assert "mov" not in listing
