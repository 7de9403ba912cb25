"""The fuzzer's corpus on a core with sanitizers, then inputs changed at random for a while.  Longer: run_fuzzer.py."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from test_system_fuzz import build_fuzzer

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
SECONDS = int(os.environ.get("QOM_FUZZ_SECONDS", "15"))

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")]


@pytest.fixture(scope="module")
def program() -> Path:
    return build_fuzzer("fuzz_bytes", ["-DFUZZ_MAIN"])


def run(program: Path, directory: Path, *arguments: str, seconds: int = 60) -> int:
    command = [str(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, cwd=directory)
    last = directory / "fuzz_bytes.last"
    culprit = f"\nthe input: {last.read_bytes().hex()}" if last.exists() else ""
    assert done.returncode == 0, f"{' '.join(command[1:])}:\n{done.stderr[-4000:]}{culprit}"
    match = re.match(r"\d+ inputs, (\d+) machines ran", done.stdout)
    assert match
    return int(match.group(1))


def test_corpus(program: Path, tmp_path: Path) -> None:
    count = sum(1 for path in CORPUS.iterdir())
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 1 << 20
    assert run(program, tmp_path, str(CORPUS)) > count // 2


def test_changed_inputs(program: Path, tmp_path: Path) -> None:
    seed = os.environ.get("QOM_FUZZ_SEED", "1")
    machines = run(program, tmp_path, "--random", seed, str(SECONDS), str(CORPUS), seconds=60 + 2 * SECONDS)
    assert machines > 5 * SECONDS
