"""Thousands of devices in one machine: what each costs to make, to keep and to take away, beside QEMU.

The same file of `[device]` sections goes to both (`-readconfig`), with `isa-debug-exit`, a device that both have and
that may be there thousands of times; QEMU lets no device that both have come in such numbers by QMP's `device_add`
(neither bus allows it), and reads a `[device]` section with the code that serves `device_add`.  What is reported is
the cost of each device beyond the first `NUMBERS[0]`.

This module run as a program is our side: it builds the machine, says so, and takes it apart when its input ends.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.peers import BenchmarkError, Peer, environment
from benchmarks.report import Row

FIRST_PORT, PORTS = 0x1000, 4  # above everything that a PC has
NUMBERS = (250, 500, 1000, 2000)
BUILT = b"built\n"
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


DEVICES = (
    "Written by `python -m benchmarks --only devices`: a PC with so many devices of type `isa-debug-exit`, from the same "
    "file of `[device]` sections in both programs (`-readconfig`, which QEMU serves with the code of `device_add`; none "
    "of its buses takes, while the machine is there, thousands of a device that both programs have). What a machine "
    f"with {NUMBERS[0]} of them costs is taken off, and the rest is divided by the number beyond these."
)


@attrs.frozen
class Cost:
    """What a machine cost its process."""

    build: float  # seconds of processor time, from the start of the process until it is built
    memory: float  # KiB resident then
    whole: float  # seconds of processor time, until the process has ended in good order


def description(number: int) -> str:
    """`number` devices, as both read them."""
    ports = (FIRST_PORT + PORTS * n for n in range(number))
    section = '[device "d{n}"]\n  driver = "isa-debug-exit"\n  iobase = "{port:#x}"\n  iosize = "{size}"\n'
    return "".join(section.format(n=n, port=port, size=PORTS) for n, port in enumerate(ports))


def cost(peer: Peer, number: int) -> Cost:
    """Build a machine with `number` devices in a process of its own, and take it apart.

    Raises:
        BenchmarkError: the peer cannot, or its process failed.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        file = Path(folder, "devices.cfg")
        file.write_text(description(number), encoding="ascii")
        held = peer.holding(file)
        if held is None:
            raise BenchmarkError(f"{peer.name}: reads no file of devices")
        command, question, answer, end = held
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment()
        )
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(question)
        child.stdin.flush()
        said = b""
        while answer not in said:
            line = child.stdout.readline()
            said += line
            if not line:
                break
        else:
            build, memory = _processor_time(child.pid), _resident(child.pid)
            child.stdin.write(end)
        child.stdin.close()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stdout.close()
        errors.seek(0)
        if answer not in said or child.returncode:
            told = errors.read().decode("utf-8", "replace").strip() or said.decode("utf-8", "replace").strip()
            raise BenchmarkError(f"{peer.name}: {number} devices: exit status {child.returncode}: {told}")
    return Cost(build, memory, usage.ru_utime + usage.ru_stime)


def measure_devices(peers: Sequence[Peer], rounds: int, numbers: Sequence[int] = NUMBERS) -> list[Row]:
    """What each device beyond the first `numbers[0]` costs, at each further number: time, memory; and how that grows.

    A machine with none is no base to measure from: what Python keeps of its start until a collection comes is as much
    as hundreds of devices are.
    """
    rows = {}
    for number in numbers[1:]:
        for what, text, unit in (
            ("made", "processor time a device until the machine is built", "us"),
            ("made and taken away", "processor time a device, to the end of the process", "us"),
            ("kept", "memory a device", "KiB"),
        ):
            rows[what, number] = Row(f"{number} devices {what}", text, unit, higher_is_better=False)
    growth = Row(
        "growth", f"time a device at {numbers[-1]} over that at {numbers[-2]}; 1 is linear", "", higher_is_better=False
    )
    able = [peer for peer in peers if peer.holding(Path()) is not None]
    costs: dict[str, list[list[Cost]]] = {peer.name: [] for peer in able}
    for peer in able:
        try:
            cost(peer, numbers[0])  # the first one compiles Python's bytecode and fills the host's caches
        except BenchmarkError as error:
            for row in (*rows.values(), growth):
                row.missing[peer.name] = str(error).splitlines()[0]
    for _ in range(rounds):
        for peer in able:
            if peer.name not in growth.missing:
                costs[peer.name].append([cost(peer, n) for n in numbers])
    for name, measured in costs.items():
        if name in growth.missing:
            continue
        build, memory, whole = (
            statistics.median(getattr(base, what) for base, *_ in measured) for what in ("build", "memory", "whole")
        )
        for _, *some in measured:
            made = []
            for number, one in zip(numbers[1:], some, strict=True):
                more = number - numbers[0]
                made.append((one.build - build) / more * 1e6)
                rows["made", number].samples.setdefault(name, []).append(made[-1])
                taken = (one.whole - whole) / more * 1e6
                rows["made and taken away", number].samples.setdefault(name, []).append(taken)
                rows["kept", number].samples.setdefault(name, []).append((one.memory - memory) / more)
            growth.samples.setdefault(name, []).append(made[-1] / made[-2])
    return [*rows.values(), growth]


def _processor_time(process: int) -> float:
    """Seconds that all threads of a process have used, to the nanosecond."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text(encoding="ascii").split()[0]) for thread in threads) / 1e9


def _resident(process: int) -> float:
    """KiB of memory a process has."""
    return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * PAGE_KIB


def main() -> int:
    """Our side: the command line of `qom-system-x86_64`, and `close` in place of running it."""
    from qom.cli.options import CommandLine
    from qom.cli.system import registry
    from qom.vm.vm import VirtualMachine

    with VirtualMachine(CommandLine().parse(sys.argv[1:]).builder.finish(), registry()) as vm:
        vm.build()
        sys.stdout.buffer.write(BUILT)
        sys.stdout.buffer.flush()
        sys.stdin.buffer.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
