"""Where the time of a Linux boot goes: `python -m benchmarks.profile` samples it and writes docs/performance-linux.md."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.linux import COMMAND_LINE, END, prepare
from benchmarks.peers import SECONDS, BenchmarkError, environment
from benchmarks.report import number

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance-linux.md"
RATE = 999  # samples a second of processor time

PARTS = (  # the first whose pattern a symbol of the core matches
    (
        "code: finding, decoding, translating, dropping blocks",
        r"code_|build|decode|fits|locate|mark|specialise|find|drop_|kill_|gather|op_warm|make_run|translat|emit|place_",
    ),
    ("loads, stores, moves, LEA", r"op_(mov|lea|xchg|bswap|cbw|cwd|xlat|cmov|setcc|nop)|slow_mov"),
    ("arithmetic, logic, shifts, with a branch or without", r"op_|slow_|fn_|rmw_slow|do_"),
    (
        "memory beside the fast path, page walks, the TLB",
        r"mem_|lin_|page_|tlb_|linear|phys_host|vm_slot|table_|fetch_",
    ),
    ("the run loop, events, exits", r"."),
)
BRANCHES = ("calls, returns, jumps, the stack", r"op_(call|ret|jmp|j[a-z]+$|push|pop|leave|enter|loop|block_end)")
STRINGS = ("string instructions", r"op_(movs|stos|lods|scas|cmps)(8|16|32|64)|.*_bulk|copy_up")
MACHINE_CODE = re.compile(r"\[JIT\]|//anon|\[unknown\]|anon_inode|\[heap\]")  # perf's names for code that is in no file
FLOAT = ("x87, SSE and wider", r"op_(f[a-z]|mov[aud]+p|movd|movq|p[a-z]{3}|sse|v[a-z])")


def parts_of(lines: list[str]) -> dict[str, float]:
    """Shares in per cent of the parts, from perf's lines "share object symbol"."""
    shares: dict[str, float] = {}
    for line in lines:
        found = re.match(r"\s*([\d.]+)%\s+(\S.*?)\s+\[(.)\]\s+(\S+)", line)
        if not found:
            continue
        share, where, kind, symbol = float(found[1]), found[2], found[3], found[4]
        if kind == "k":
            name = "the host's kernel"
        elif MACHINE_CODE.match(where):
            name = "machine code made of the guest's"
        elif "_core." in where:
            table = (PARTS[0], BRANCHES, STRINGS, FLOAT, *PARTS[1:])
            name = next(part for part, pattern in table if re.match(pattern, symbol))
        else:
            name = "Python: devices, timers, serial port, start-up"
        shares[name] = shares.get(name, 0.0) + share
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def sample(flavour: str) -> tuple[dict[str, float], list[str]]:
    """Boot a kernel under perf: the shares of the parts, and perf's first lines.

    Raises:
        BenchmarkError: perf, the kernel or the boot is missing.
    """
    if shutil.which("perf") is None:
        raise BenchmarkError("perf is not installed (Debian: linux-perf)")
    with tempfile.TemporaryDirectory() as folder:
        boot, log, data = prepare(flavour, Path(folder)), Path(folder, "serial"), Path(folder, "perf.data")
        words = ["-accel", "simulated", "-M", "pc", "-m", "512", "-display", "none", "-nodefaults", "-no-reboot"]
        words += ["-serial", f"file:{log}", "-kernel", str(boot.kernel), "-initrd", str(boot.initrd)]
        command = [
            "perf",
            "record",
            "-q",
            "-F",
            str(RATE),
            "-o",
            str(data),
            "--",
            sys.executable,
            "-m",
            "qom.cli.system",
        ]
        subprocess.run(
            [*command, *words, "-append", COMMAND_LINE],
            check=False,
            env=environment(),
            timeout=SECONDS,
            capture_output=True,
        )
        if not log.exists() or END not in log.read_text(errors="replace"):
            raise BenchmarkError(f"{flavour}: the boot did not come to its end")
        report = ["perf", "report", "-i", str(data), "--no-children", "--stdio", "-F", "overhead,dso,symbol"]
        text = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    functions = [" ".join(line.split()) for line in lines if not MACHINE_CODE.match(line.split(maxsplit=1)[1])]
    return parts_of(lines), functions[:12]


INTRODUCTION = """# Where the time of a Linux boot goes

Written by `python -m benchmarks.profile`, which boots Debian's kernels with a busybox that switches off at once, on
`-accel simulated`, and samples the process with perf. Shares of the processor time, start-up of Python included.
How long a boot takes is in [performance.md](performance.md).
"""


def page(profiles: dict[str, tuple[dict[str, float], list[str]]]) -> str:
    """The page of these profiles."""
    text = INTRODUCTION
    for flavour, (shares, first) in profiles.items():
        text += f"\n## {flavour}\n\n| part | per cent |\n|---|---|\n"
        text += "".join(f"| {name} | {number(share)} |\n" for name, share in shares.items())
        text += "\nThe functions with the largest shares:\n\n```\n" + "\n".join(first) + "\n```\n"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("flavours", nargs="*", default=["cloud-amd64", "amd64"], help="kernels, e.g. cloud-amd64")
    options = parser.parse_args()
    try:
        PAGE.write_text(page({flavour: sample(flavour) for flavour in options.flavours}), encoding="utf-8")
    except BenchmarkError as error:
        print(f"benchmarks.profile: {error}", file=sys.stderr)
        return 1
    print(PAGE.read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
