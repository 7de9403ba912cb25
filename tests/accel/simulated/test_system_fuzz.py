"""Random bytes as guest code on a core built with AddressSanitizer and UBSan: no crash, no hang, whatever the guest does."""

import fcntl
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from accel.simulated import build_core

HERE = Path(__file__).resolve().parent
BUILD = build_core.TOP / "build" / "simulated-fuzz"  # kept: only what changed is compiled again

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]


def build_fuzzer(name: str, extra: list[str]) -> Path:
    """`name`.c of this directory linked with the core, all with sanitizers; `extra` flags for `name`.c only.

    One process builds at a time: the objects of the core are shared.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    core = build_core.CORE
    newest = max(path.stat().st_mtime for path in [*core.glob("*.h"), Path(__file__)])
    flags = [flag for flag in build_core.CFLAGS if flag != "-O2"] + build_core.SANITIZE + ["-Wno-error", f"-I{core}"]
    flags += [
        "-DARENA_SIZE=0x100000",
        "-DCODE_SIZE=0x40000",
    ]  # many machines: small code caches, that overflow at times
    own = HERE / f"{name}.c"

    def compile_one(source: Path) -> str:
        target = BUILD / f"{source.stem}.o"
        if not target.exists() or target.stat().st_mtime < max(source.stat().st_mtime, newest):
            more = extra if source == own else []
            subprocess.run(["gcc", *flags, *more, "-c", str(source), "-o", str(target)], check=True)
        return str(target)

    with open(BUILD / "lock", "w") as lock, ThreadPoolExecutor(os.cpu_count()) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        objects = list(pool.map(compile_one, [*sorted(core.glob("*.c")), own]))
    out = BUILD / name
    libraries = ["-lpthread", "-lrt", "-lm"]
    subprocess.run(["gcc", "-fsanitize=address,undefined", *objects, "-o", str(out), *libraries], check=True)
    return out


@pytest.fixture(scope="module")
def program() -> Path:
    return build_fuzzer("fuzz_core", [])


@pytest.mark.parametrize(("kind", "count"), [("one", 200), ("many", 20)])
def test_random_code(program: Path, kind: str, count: int) -> None:
    seed = int(os.environ.get("QOM_FUZZ_SEED", "1"))
    count = int(os.environ.get("QOM_FUZZ_COUNT", count))
    command = [str(program), kind, str(seed), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + count, check=False)
    assert done.returncode == 0, f"{' '.join(command[1:])}:\n{done.stderr[-4000:]}"
    machines, instructions = re.match(r"(\d+) machines, (\d+) instructions", done.stdout).groups()  # type: ignore[union-attr]
    assert int(machines) == count
    assert int(instructions) > 10 * count
