"""Compares the C core with this host's processor: `python tests/accel/simulated/run_silicon.py --cases 10000000 --jobs 2`.

Every template of silicon_table.py that both processors announce is run natively in a child process and on the core, from
the same random state, and everything user mode can see is compared: general registers, the flags that are defined, x87, MMX,
SSE and AVX registers, control and status words, memory, the exception with its error code and address.  A difference is
printed with the case's number; `--first NUMBER --cases 1 --verbose` with the same seed repeats it with all state.

`--sequences` compares sequences of everyday instructions instead (silicon_sequence.c): they work on one another's results,
jump forward, and most run many times in a loop, so that what the core does with hot code is compared as well.  One that
differs is shown once more with everything left out that it takes not.

Not compared: see EXCLUDED in silicon_table.py; x87 instruction and data pointers.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent.parent
sys.path[:0] = [str(TOP), str(HERE)]

import attrs  # noqa: E402
import capstone  # noqa: E402
import silicon_sequence  # noqa: E402
import silicon_table  # noqa: E402

from accel.simulated import build_core  # noqa: E402

BUILD = TOP / "build" / "silicon"
SOURCES = ("silicon_main.c", "silicon_make.c", "silicon_sequence.c", "silicon_core.c", "silicon_native.c")
LEAVES = {1: 0, 7: 0, 0x80000001: 0}


def build(directory: Path = BUILD) -> Path:
    """The comparison program in `directory`; compiles only what changed."""
    directory.mkdir(parents=True, exist_ok=True)
    newest = max(
        path.stat().st_mtime for path in [*build_core.CORE.glob("*.h"), *HERE.glob("silicon*.h"), Path(__file__)]
    )
    own = [HERE / name for name in SOURCES]

    def compile_one(source: Path) -> str:
        flags = [flag for flag in build_core.CFLAGS if flag != "-Werror" or source not in own]
        target = directory / f"{source.stem}.o"
        if not target.exists() or target.stat().st_mtime < max(source.stat().st_mtime, newest):
            command = ["gcc", *flags, "-fPIE", "-fno-stack-protector", f"-I{build_core.CORE}", "-c", str(source)]
            subprocess.run([*command, "-o", str(target)], check=True)
        return str(target)

    files = [*sorted(build_core.CORE.glob("*.c")), *own]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, files))
    out = directory / "silicon"
    # above the low 4 GiB, where the tests' memory is; no symbol looked up late, when the FS base is the tests'
    subprocess.run(["gcc", "-pie", "-Wl,-z,now", *objects, "-o", str(out), "-lpthread", "-lm"], check=True)
    return out


def host_cpuid() -> dict[int, tuple[int, ...]]:
    """CPUID of this processor, by a little program."""
    source = "#include <cpuid.h>\n#include <stdio.h>\nint main(void){unsigned l[]={1,7,0x80000001},r[4];for(int n=0;n<3;n++){"
    source += (
        '__cpuid_count(l[n],0,r[0],r[1],r[2],r[3]);printf("%08x %08x %08x %08x %08x\\n",l[n],r[0],r[1],r[2],r[3]);}}'
    )
    program = BUILD / "cpuid"
    subprocess.run(["gcc", "-x", "c", "-", "-o", str(program)], input=source.encode(), check=True)
    return parse_cpuid(subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout)


def parse_cpuid(text: str) -> dict[int, tuple[int, ...]]:
    rows = [[int(word, 16) for word in line.split()] for line in text.splitlines()]
    return {row[0]: tuple(row[1:]) for row in rows}


@attrs.frozen
class Table:
    path: Path
    templates: int
    left_out: dict[str, int]

    @property
    def roles(self) -> Path:
        """The rows for sequences; beside the table."""
        return self.path.with_name(f"{self.path.name}-roles")


def write_table(program: Path, path: Path, of_host: bool = False, *options: str) -> Table:
    """The templates both processors can run, and counts of the others by reason."""
    host = host_cpuid()
    core = parse_cpuid(
        subprocess.run([str(program), "--cpuid", *options], capture_output=True, text=True, check=True).stdout
    )
    left_out: Counter[str] = Counter()
    lines = []
    kept = []
    for mode32 in (False, True):
        for template, features in silicon_table.Enumerator(mode32).templates():
            reason = silicon_table.excluded(template, features)
            here, there = silicon_table.announced(features, host), silicon_table.announced(features, core)
            if reason is None and (not here if of_host else here != there):
                reason = f"{'+'.join(features)}: announced only by {'the host' if here else 'the core'}"
            if reason is not None:
                left_out[f"{reason}"] += 1
                continue
            lines.append(template.line())
            kept.append((template, features) if here and there else None)
    path.write_text("\n".join(lines) + "\n")
    table = Table(path, len(lines), dict(left_out))
    table.roles.write_text("".join(f"{role.line()}\n" for role in silicon_sequence.roles(kept)))
    return table


def disassemble(mode: str, code: str) -> str:
    """The case's bytes as text, `;` between instructions; bytes behind the end are INT3."""
    md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32 if mode == "32" else capstone.CS_MODE_64)
    size = len(code) // 2
    lines = []
    for insn in md.disasm(bytes.fromhex(code) + b"\xcc" * 8, 0x20010400):
        if insn.address - 0x20010400 >= max(size, 1):
            break
        lines.append(f"{insn.mnemonic} {insn.op_str}".strip())
    return "; ".join(lines) or "(bad)"


def listing(code: str) -> str:
    """A sequence, a line for each instruction; runs of NOPs, where steps were left out, are one."""
    md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    md.skipdata = True
    lines = []
    left_out = False
    for insn in md.disasm(bytes.fromhex(code), 0):
        if insn.bytes != b"\x90":
            lines.append(f"   {insn.address:4x}: {insn.bytes.hex():24} {insn.mnemonic} {insn.op_str}".rstrip())
        elif not left_out:
            lines.append(f"   {insn.address:4x}: (nop)")
        left_out = insn.bytes == b"\x90"
    return "\n".join(lines)


def run(
    program: Path, table: Path, seed: int, first: int, count: int, *options: str, timeout: float | None = None
) -> str:
    command = [str(program), str(table), str(seed), str(first), str(count), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    if done.returncode not in (0, 1):
        return f"{done.stdout}ENDED status {done.returncode}: {done.stderr}"
    return done.stdout


def explain(line: str) -> str:
    match = re.match(r"(FAIL|LESS) (\d+) (\S+) (\d\d) (\S*)(.*)", line)
    if match is None:
        return line
    kind, number, name, mode, code, difference = match.groups()
    if name == "sequence":
        which = f"case {number}" if kind == "FAIL" else f"case {number}, what is left of it when it is made smaller"
        return f"{which}, offsets in it:\n{listing(code)}\n   {difference}"
    return f"case {number} ({mode}-bit) {code}  {disassemble(mode, code)}  [{name}]\n   {difference}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the C core with this host's processor.")
    parser.add_argument("--cases", type=int, default=10_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="how many at the same time; each has two processes")
    parser.add_argument("--sequences", action="store_true", help="sequences of instructions, of 64-bit code")
    parser.add_argument(
        "--translate", type=int, metavar="N", help="translate blocks after N executions, 0 never (all ways in turn)"
    )
    parser.add_argument("--kicks", action="store_true", help="a thread kicks the core's vCPU all the time")
    parser.add_argument("--only", help="only templates of this instruction, as capstone calls it")
    parser.add_argument("--all-flags", action="store_true", help="also flags the manual calls undefined")
    parser.add_argument("--all-features", action="store_true", help="also what the core has but does not announce yet")
    parser.add_argument("--verbose", action="store_true", help="all state of every case")
    parser.add_argument(
        "--self", action="store_true", help="the processor against itself: shows what cannot be compared"
    )
    parser.add_argument("--limit", type=int, default=2, help="failures shown of each instruction")
    options = parser.parse_args()
    if platform.machine() != "x86_64" or shutil.which("gcc") is None:
        print("run_silicon: needs an x86-64 host with gcc", file=sys.stderr)
        return 2
    program = build()
    unannounced = ["--all-features"] if options.all_features else []
    table = write_table(program, BUILD / "templates", options.self, *unannounced)
    kind = "sequences from" if options.sequences else "cases of"
    print(f"seed {options.seed}, {options.cases} {kind} {table.templates} templates; left out:")
    for reason, count in sorted(table.left_out.items(), key=lambda item: -item[1]):
        print(f"  {count:5} {reason}")
    sys.stdout.flush()
    more = ["--limit", str(options.limit), *unannounced]
    more += ["--sequences", str(table.roles)] if options.sequences else []
    more += ["--translate", str(options.translate)] if options.translate is not None else []
    more += ["--only", options.only] if options.only else []
    more += ["--all-flags"] if options.all_flags else []
    more += ["--kicks"] if options.kicks else []
    more += ["--self"] if options.self else []
    more += ["--verbose"] if options.verbose else []
    share = -(-options.cases // options.jobs)
    starts = [(options.first + n * share, min(share, options.cases - n * share)) for n in range(options.jobs)]
    with ThreadPoolExecutor(options.jobs) as pool:
        texts = list(pool.map(lambda s: run(program, table.path, options.seed, *s, *more), starts))
    totals: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    failed = False
    for text in texts:
        for line in text.splitlines():
            if line.startswith("SUM "):
                _, name, wrong, _, _cases = line.split()
                totals[name] += int(wrong)
            elif line.startswith(("FAIL ", "LESS ")):
                name = line.split()[2]
                shown[name] += line.startswith("FAIL ")
                if shown[name] <= options.limit or options.verbose:
                    print(explain(line))
            else:
                print(line)
            failed = failed or line.startswith(("SUM", "ENDED", "LOST"))
    for name, wrong in totals.most_common():
        print(f"{wrong:8} {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
