"""Measure, print, and write docs/performance.md and docs/performance.json: `python -m benchmarks [--rounds N] [--only WORD]`.

Thousands of devices have a page and a record of their own, performance-devices; `--only devices` writes these alone.

All peers take turns in every round, so that what else the host does falls on all of them; medians of the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import loops
from benchmarks.devices import DEVICES, measure_devices
from benchmarks.linux import measure_linux
from benchmarks.peers import BenchmarkError, Bochs, Ours, Peer, Qemu, Time
from benchmarks.report import Row, table
from benchmarks.starting import NOTE, measure_starting
from plugins.firmware import find_seabios

TREE = Path(__file__).resolve().parents[1]
DISK = TREE / "tests" / "guests" / "hello_serial.bin"
REFERENCE = "QEMU TCG"
SLOW_BOOT = {"qom kvm"}  # where a kernel emulates, SeaBIOS takes most of a minute: one round is enough
SLOW_LOOPS = {"Bochs"}  # its runs are long, for its start-up: one round is enough
FIRST_LOOPS = {"qom kvm"}  # there, the loops of 64-bit code say nothing that the first loops do not


def runner(peer: Peer, loop: loops.Loop) -> Callable[[bytes], Time]:
    """What runs an image of `loop`."""
    if loop in loops.SEVERAL:
        return partial(peer.run_several, loops.TOGETHER.processors)
    return peer.run_ports if loop in loops.PORTS else peer.run_rom


PREFIXES = {"M": 1e-6, "k": 1e-3}


def measure_loop(peers: list[Peer], loop: loops.Loop, rounds: int, seconds: float) -> Row:
    """Speed of one loop on every peer, in the loop's unit."""
    runners: dict[str, Callable[[bytes], Time]] = {peer.name: runner(peer, loop) for peer in peers}
    scale = loop.amount * PREFIXES[loop.unit[0]]
    row = Row(loop.name, loop.text, loop.unit, higher_is_better=True)
    length: dict[str, int] = {}
    stretch = {p.name: p.stretch for p in peers}
    for name, run in runners.items():
        try:
            length[name] = loops.calibrate(run, loop, seconds * stretch[name])
        except BenchmarkError as error:
            row.missing[name] = str(error).splitlines()[0]
    for turn in range(rounds):
        for name, rounds_long in length.items():
            if name not in row.missing and not (turn and name in SLOW_LOOPS):
                try:
                    speed = loops.rate(runners[name], loop, rounds_long) * scale
                except (BenchmarkError, loops.Unmeasurable) as error:
                    row.missing[name] = str(error).splitlines()[0]
                    row.samples.pop(name, None)
                else:
                    row.samples.setdefault(name, []).append(speed)
    return row


def measure_boot(peers: list[Peer], rounds: int) -> list[Row]:
    """SeaBIOS from the start of the process, and from `cont`, to the end of a boot sector."""
    whole = Row("SeaBIOS to boot sector", "whole process, time on the wall", "s", higher_is_better=False)
    cost = Row("SeaBIOS to boot sector", "whole process, processor time", "s", higher_is_better=False)
    inside = Row("SeaBIOS hand-over", "from `cont` to the boot sector's end", "s", higher_is_better=False)
    for turn in range(rounds):
        for peer in peers:
            if peer.name in whole.missing or (turn and peer.name in SLOW_BOOT):
                continue
            try:
                took = peer.boot(DISK)
                whole.samples.setdefault(peer.name, []).append(took.wall)
                cost.samples.setdefault(peer.name, []).append(took.processor)
                if isinstance(peer, Ours) and peer.name not in SLOW_BOOT:
                    took = peer.hand_over(DISK)
                    inside.samples.setdefault(peer.name, []).append(took.wall)
            except BenchmarkError as error:
                whole.missing[peer.name] = str(error).splitlines()[0]
    return [whole, cost, inside]


def measure_objects(rounds: int) -> list[Row]:
    """Object creation and property set; there is nothing to compare with."""
    from qom.cli.system import registry

    types = registry().fork()
    made = types.new("isa-serial")
    rows = []
    for name, text, statement in (
        ("object creation", 'registry.new("isa-serial")', lambda: types.new("isa-serial")),
        ("property set", 'obj.set("iobase", 0x2F8)', lambda: made.set("iobase", 0x2F8)),
        ("property get", 'obj.get("iobase")', lambda: made.get("iobase")),
    ):
        row = Row(name, text, "us", higher_is_better=False)
        for _ in range(rounds):
            took = timeit.timeit(statement, timer=time.process_time, number=2000)
            row.samples.setdefault("qom simulated", []).append(took / 2000 * 1e6)
        rows.append(row)
    return rows


def check_counts(peer: Ours) -> list[str]:
    """The instructions a round that the loops claim are what the simulated processor counts; which loops were counted.

    One that does not come to its end is left to its row, which says why.
    """
    counted = []
    for loop in loops.COUNTED:
        try:
            many, one = (peer.count(loops.image(loop, rounds)) for rounds in (10001, 1))
        except BenchmarkError:
            continue
        if many - one != 10000 * loop.amount:
            raise BenchmarkError(f"{loop.name}: {(many - one) / 10000} instructions a round, not {loop.amount}")
        counted.append(loop.name)
    return counted


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns that every peer takes")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one run of a loop")
    parser.add_argument("--only", default="", help="only rows and peers whose name has this word, e.g. 'registers'")
    parser.add_argument("--peer", action="append", default=[], help="only this peer; may be given again")
    parser.add_argument("--output", type=Path, default=TREE / "docs", help="where performance.md and .json go")
    parser.add_argument("--dry-run", action="store_true", help="print only")
    options = parser.parse_args()

    load = os.getloadavg()[0]
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    known: list[Peer] = [Ours("simulated"), Ours("kvm"), Qemu(), Bochs()]
    for peer in known:
        if options.peer and peer.name not in options.peer:
            continue
        why = peer.why_not()
        if why is None:
            peers.append(peer)
        else:
            absent[peer.name] = why.splitlines()[0]
            print(f"{peer.name}: not measured: {absent[peer.name]}", file=sys.stderr)
    rows: list[Row] = []
    for peer in peers:
        if isinstance(peer, Ours) and peer.accelerator == "simulated" and options.only != "devices":
            check_counts(peer)
    for loop in (*loops.COUNTED, *loops.OTHERS, *loops.SEVERAL, *loops.PORTS):
        if options.only in loop.name:
            print(f"{loop.name} ...", file=sys.stderr)
            runners = [peer for peer in peers if loop.guest == "loop" or peer.name not in FIRST_LOOPS]
            rows.append(measure_loop(runners, loop, options.rounds, options.seconds))
    if options.only in "boot" and find_seabios() is not None:
        print("boot ...", file=sys.stderr)
        rows += measure_boot(peers, options.rounds)
    if options.only in "starting":
        print("starting ...", file=sys.stderr)
        rows += measure_starting([peer for peer in peers if peer.name not in FIRST_LOOPS], options.rounds)
    if options.only in "linux":
        print("linux ...", file=sys.stderr)
        rows += measure_linux([peer for peer in peers if peer.name not in FIRST_LOOPS], min(options.rounds, 3))
    device_rows: list[Row] = []
    if options.only in "devices":
        print("devices ...", file=sys.stderr)
        device_rows = measure_devices(peers, options.rounds)
    if options.only in "objects":
        rows += measure_objects(options.rounds)
    host = {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release().split("-")[0],
        "peers": {peer.name: peer.summary for peer in peers},
        "absent": absent,
        "rounds": options.rounds,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }
    if rows:
        publish(options, "performance", table(rows, host, REFERENCE) + NOTE, rows, host)
    if device_rows:
        able = {name: summary for name, summary in host["peers"].items() if name in device_rows[0].samples}
        page = table(device_rows, {**host, "peers": able}, REFERENCE, "Thousands of devices", DEVICES)
        publish(options, "performance-devices", page, device_rows, host)
    return 0


def publish(options: argparse.Namespace, name: str, page: str, rows: list[Row], host: dict[str, object]) -> None:
    """Print a page, and write it and its record, unless that was not wanted."""
    print(page)
    if options.dry_run:
        return
    (options.output / f"{name}.md").write_text(page, encoding="utf-8")
    record = {
        "host": host,
        "rows": [
            {
                "name": row.name,
                "what": row.text,
                "unit": row.unit,
                "higher_is_better": row.higher_is_better,
                "samples": row.samples,
                "median": {name: statistics.median(values) for name, values in row.samples.items()},
                "missing": row.missing,
            }
            for row in rows
        ],
    }
    (options.output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
