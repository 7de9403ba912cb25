"""What observers cost: `python -m benchmarks.observers [--rounds N] [--accel NAME]`.

The loops of port writes and port reads, on machines that differ only in who listens.  Nobody's speed is the measure of
the others; that it is what it was before there were observers is seen by running `python -m benchmarks --only port` on
both trees.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator

from benchmarks import loops
from benchmarks.__main__ import measure_loop
from benchmarks.peers import Ours, Peer
from benchmarks.report import Row, number, spread
from qom import VirtualMachine

PORT = 0x240  # of benchmark-port
NOBODY = "nobody"


def _came_and_went(vm: VirtualMachine) -> None:
    for observation in (
        vm.observe.accesses(_nothing),
        vm.observe.accesses(_nothing, space="memory"),
        vm.observe.exits(_nothing),
        vm.observe.lines(_nothing),
        vm.observe.lifecycle(_nothing),
    ):
        observation.close()


def _nothing(record: object) -> None:
    pass


LISTENERS: dict[str, Callable[[VirtualMachine], object]] = {
    NOBODY: lambda vm: None,
    "some that came and went": _came_and_went,
    "one, to another device": lambda vm: vm.observe.accesses(_nothing, device="isa-debugcon"),
    "one, to lines and life": lambda vm: (vm.observe.lines(_nothing), vm.observe.lifecycle(_nothing)),
    "one, to the port": lambda vm: vm.observe.accesses(_nothing, first=PORT, last=PORT),
    "one, to exits": lambda vm: vm.observe.exits(_nothing),
}


class Listened(Ours):
    """Our accelerator, in a machine to which somebody listens."""

    def __init__(self, accelerator: str, name: str) -> None:
        super().__init__(accelerator)
        self.name = name

    @contextlib.contextmanager
    def _machine(self, words: list[str]) -> Iterator[VirtualMachine]:
        with super()._machine(words) as vm:
            LISTENERS[self.name](vm)
            yield vm


def measure(accelerator: str, rounds: int, seconds: float) -> list[Row]:
    """Port writes and reads a second for each kind of listener, taken in turns."""
    peers: list[Peer] = [Listened(accelerator, name) for name in LISTENERS]
    return [measure_loop(peers, loop, rounds, seconds) for loop in loops.PORTS]


def text(rows: list[Row]) -> str:
    """A table: thousands of exits a second, and how that compares with nobody listening."""
    lines = ["| who listens | " + " | ".join(f"{row.name}, k/s | of nobody's" for row in rows) + " |"]
    lines.append("|---|" + "---|" * (2 * len(rows)))
    for name in LISTENERS:
        cells = []
        for row in rows:
            base, middle = row.median(NOBODY), row.median(name)
            if base is None or middle is None:
                cells += [row.missing.get(name, "not measured"), ""]
            else:
                cells += [f"{number(middle)} ({spread(row.samples[name])})", f"{middle / base:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observers", description="What observers cost.")
    parser.add_argument("--rounds", type=int, default=5, help="turns that every kind takes")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one run of a loop")
    parser.add_argument("--accel", default="simulated", help="accelerator")
    options = parser.parse_args()
    rows = measure(options.accel, options.rounds, options.seconds)
    print(text(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
