"""QEMU as an oracle for device tests: its own devices, driven through its test protocol with no guest and time at 0.

`qemu(...)` gives a machine whose ports and lines can be driven; `both(...)` runs a list of accesses on a bench and on it.
Debian's build lacks the `qtest` accelerator, so the machine is started stopped (-S): its clock stands still.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

QEMU = "qemu-system-x86_64"


class Qemu:
    """A stopped QEMU machine, by its test protocol."""

    def __init__(self, *arguments: str) -> None:
        command = [QEMU, "-accel", "tcg", "-S", "-qtest", "stdio", "-qtest-log", "none", "-display", "none"]
        command += arguments or ("-M", "pc", "-nodefaults")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.interrupts: list[tuple[str, int]] = []

    def commands(self, lines: Iterable[str]) -> list[int]:
        """Run commands; the numbers they answer (0 for those that answer nothing)."""
        lines = list(lines)
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        answers: list[int] = []
        for start in range(0, len(lines), 64):  # few enough that neither pipe fills up
            part = lines[start : start + 64]
            stdin.write("".join(f"{line}\n" for line in part))
            stdin.flush()
            for sent in part:
                while (line := stdout.readline()).startswith("IRQ "):
                    _, what, number = line.split()
                    self.interrupts.append((what, int(number)))
                assert line.startswith("OK"), f"{sent}: {line!r}"
                answers.append(int(line.split()[1], 0) if line.strip() != "OK" else 0)
        return answers

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def qemu() -> Iterator[Callable[..., Qemu]]:
    """Starts QEMU machines that end with the test; skips the test where there is no QEMU."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed: no oracle to compare with")
    started: list[Qemu] = []

    def start(*arguments: str) -> Qemu:
        started.append(Qemu(*arguments))
        return started[-1]

    yield start
    for machine in started:
        machine.close()


def run_on_bench(
    bench: Any, accesses: Iterable[str], lines: dict[str, Callable[[int, int], None]] | None = None
) -> list[int]:
    """Run commands of QEMU's test protocol on a bench."""
    answers: list[int] = []
    for access in accesses:
        word, *rest = access.split()
        answer = 0
        if word == "set_irq_in":
            path, _, number, level = rest
            assert lines is not None
            lines[path](int(number), int(level))
        elif word.startswith("read"):
            answer = bench.memory.read(int(rest[0], 0), {"b": 1, "w": 2, "l": 4}[word[4]])
        elif word.startswith("write"):
            bench.memory.write(int(rest[0], 0), int(rest[1], 0), {"b": 1, "w": 2, "l": 4}[word[5]])
        elif word.startswith("in"):
            answer = bench.ports.read(int(rest[0], 0), {"b": 1, "w": 2, "l": 4}[word[2]])
        else:
            bench.ports.write(int(rest[0], 0), int(rest[1], 0), {"b": 1, "w": 2, "l": 4}[word[3]])
        answers.append(answer)
    return answers


@pytest.fixture
def both(qemu: Callable[..., Qemu]) -> Callable[..., None]:
    """both(bench, accesses, lines={path: fn}, machine=None, ignore={access: bits}): every answer must be QEMU's."""

    def compare(
        bench: Any,
        accesses: Iterable[str],
        lines: dict[str, Callable[[int, int], None]] | None = None,
        machine: Qemu | None = None,
        ignore: dict[str, int] | None = None,
    ) -> None:
        accesses = list(accesses)
        theirs = (machine or qemu()).commands(accesses)
        ours = run_on_bench(bench, accesses, lines)
        for at, (access, our, their) in enumerate(zip(accesses, ours, theirs, strict=True)):
            before = "; ".join(accesses[max(0, at - 12) : at])
            assert not (our ^ their) & ~(ignore or {}).get(access, 0), (
                f"#{at} {access}: we say {our:#x}, QEMU {their:#x}, after: {before}"
            )

    return compare
