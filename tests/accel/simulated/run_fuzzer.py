"""Fuzzes the C core with libFuzzer: `python tests/accel/simulated/run_fuzzer.py --seconds 3600`.

Needs clang with its runtime libraries.  The core and fuzz_bytes.c are built with AddressSanitizer and UBSan.  The corpus
in the tree and an input for every few opcodes are the start, what is new goes to the working directory.  A finding is a
file in ARTIFACTS (`crash-*`, `timeout-*`) and makes the exit status 1; the command that repeats it is printed.  `--keep`
puts a minimized corpus back into the tree.
"""

import argparse
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent.parent
sys.path.insert(0, str(TOP))

from accel.simulated import build_core  # noqa: E402

CORPUS = HERE / "corpus"
CORPUS_MAX_BYTES, CORPUS_MAX_FILES = 1 << 19, 600
INPUT_MAX = 512
MODES, LONG64 = 9, 6  # of fuzz_bytes.c
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# -O1 and no tail calls under the sanitizers: back to the run loop after every block.  A small arena: a machine per input.
FLAGS = [
    "-g1",
    "-O1",
    "-fno-omit-frame-pointer",
    "-DSIM_NO_CHAIN",
    "-DARENA_SIZE=0x100000",
    "-DCODE_SIZE=0x40000",
    "-w",
    *SANITIZERS,
]


def build(directory: Path) -> Path:
    """The fuzzer, with libFuzzer's main, in `directory`; compiles only what changed."""
    directory.mkdir(parents=True, exist_ok=True)
    dropped = ("-O2", "-Werror", "-Wall", "-Wextra", "-foptimize-sibling-calls")
    flags = [flag for flag in build_core.CFLAGS if flag not in dropped] + FLAGS
    newest = max(path.stat().st_mtime for path in [*build_core.CORE.glob("*.h"), Path(__file__)])

    def compile_one(source: Path) -> str:
        target = directory / f"{source.stem}.o"
        if not target.exists() or target.stat().st_mtime < max(source.stat().st_mtime, newest):
            command = ["clang", *flags, "-fsanitize=fuzzer-no-link", f"-I{build_core.CORE}", "-c", str(source)]
            subprocess.run([*command, "-o", str(target)], check=True)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, [*sorted(build_core.CORE.glob("*.c")), HERE / "fuzz_bytes.c"]))
    out = directory / "fuzz_bytes"
    libraries = ["-lpthread", "-lrt", "-lm", "-latomic"]
    subprocess.run(["clang", "-fsanitize=fuzzer", *SANITIZERS, *objects, "-o", str(out), *libraries], check=True)
    return out


def write_seeds(directory: Path) -> None:
    """Every opcode of every map with every mandatory prefix, in every mode, several instructions to an input."""
    r = random.Random("seeds")
    directory.mkdir(parents=True, exist_ok=True)
    maps = [b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a"]
    for mode in range(MODES):
        for privileged in (0, 0x80):
            instructions = []
            for number, escape in enumerate(maps):
                for prefix in (b"", b"\x66", b"\xf2", b"\xf3"):
                    for opcode in range(256):
                        tail = bytes([r.choice((r.getrandbits(8), 0xC0 | r.getrandbits(6)))]) + r.randbytes(4)
                        instructions.append(prefix + escape + bytes([opcode]) + tail)
                        if number and mode == LONG64:
                            third = r.getrandbits(7) & 0x7C | ("", "66", "f3", "f2").index(prefix.hex())
                            instructions.append(bytes([0xC4, 0xE0 | number, third, opcode]) + tail)
            r.shuffle(instructions)
            for start in range(0, len(instructions), 24):
                mode_byte, events = mode | privileged, r.getrandbits(6) & r.getrandbits(6)
                cr4 = 0x40600 if r.getrandbits(1) else r.getrandbits(22)
                header = struct.pack(
                    "<4BH2BIIHHI", mode_byte, events, 0, 8, 2, 0, 0, 0, cr4, 1, 0x400, r.getrandbits(32)
                )
                data = header + b"".join(instructions[start : start + 24]) + r.randbytes(8)
                (directory / f"seed-{mode_byte:02x}-{start:05}").write_bytes(data[:INPUT_MAX])


def minimize(program: Path, source: Path, target: Path) -> None:
    """The inputs of `source` that reach something the others do not, smallest first, into `target`, within the limits."""
    with_all = source.parent / "minimized"
    shutil.rmtree(with_all, ignore_errors=True)
    with_all.mkdir()
    subprocess.run(
        [str(program), "-set_cover_merge=1", f"-max_len={INPUT_MAX}", str(with_all), str(source)], check=True
    )
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    total = 0
    for path in sorted(with_all.iterdir(), key=lambda path: path.stat().st_size)[:CORPUS_MAX_FILES]:
        total += path.stat().st_size
        if total > CORPUS_MAX_BYTES:
            break
        shutil.copy(path, target / path.name[:16])


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the C core of the simulated processor.")
    parser.add_argument("--seconds", type=int, default=3600, help="how long (default: an hour)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at the same time (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="libFuzzer's seed (default: 1)")
    parser.add_argument("--work", type=Path, default=TOP / "build" / "fuzzer", help="objects and the growing corpus")
    parser.add_argument("--artifacts", type=Path, help="where findings go (default: WORK/artifacts)")
    parser.add_argument("--keep", action="store_true", help="minimize the corpus into the tree afterwards")
    options = parser.parse_args()
    if shutil.which("clang") is None:
        print("run_fuzzer: needs clang with libFuzzer (Debian: clang, libclang-rt-dev)", file=sys.stderr)
        return 2
    artifacts: Path = options.artifacts or options.work / "artifacts"
    growing = options.work / "corpus"
    for directory in (artifacts, growing):
        directory.mkdir(parents=True, exist_ok=True)
    program = build(options.work / "objects")
    before = {path.name for path in artifacts.iterdir()}
    command = [
        str(program), f"-fork={options.jobs}", f"-max_total_time={options.seconds}", f"-max_len={INPUT_MAX}",
        f"-seed={options.seed}", f"-artifact_prefix={artifacts}/", "-timeout=20", "-len_control=0", "-rss_limit_mb=4096",
        "-ignore_crashes=1", "-ignore_timeouts=1", "-ignore_ooms=1", str(growing),
    ]  # fmt: skip
    seeds = options.work / "seeds"
    write_seeds(seeds)
    command += [str(seeds), *([str(CORPUS)] if CORPUS.is_dir() else [])]
    print(" ".join(command), flush=True)
    began = time.monotonic()
    status = subprocess.run(command, check=False).returncode
    seconds = time.monotonic() - began
    found = sorted(path for path in artifacts.iterdir() if path.name not in before)
    for path in found:
        print(f"finding: {program} {path}")
    if options.keep:
        minimize(program, growing, CORPUS)
    print(f"{len(found)} findings in {seconds:.0f} s, {len(list(growing.iterdir()))} inputs in the corpus")
    return 1 if found or status else 0


if __name__ == "__main__":
    sys.exit(main())
