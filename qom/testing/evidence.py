"""What is kept of a machine when its test fails: consoles, trees, maps, wiring, registers, last exits, log, configuration.

`collect` takes it from the living machine, as texts by file name; what cannot be had says why in its place.  Nothing here
raises: a second failure must not hide the first one.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from qom.config import write
from qom.hw.probe import Exit
from qom.show import (
    bus_svg,
    bus_text,
    memory_svg,
    memory_text,
    tree_svg,
    tree_text,
    wiring_svg,
    wiring_text,
)
from qom.testing.machine import TestMachine

__all__ = ["collect", "directory_name", "save", "tail"]

LOCK_PATIENCE = 10.0  # seconds to wait for the machine lock: whoever holds it may be what went wrong
LONGEST_NAME = 80


def collect(machine: TestMachine, *, pictures: bool) -> dict[str, str]:
    """Everything there is to say about the machine, by file name; waits for nobody who may never come back.

    pictures: trees, maps and wiring as SVG, too; they take ten times as long as the rest.
    """
    vm = machine.vm
    found = {f"console-{name}.txt": console.text for name, console in vm.consoles.items()}
    _add(found, "exits.txt", lambda: _lines([*map(exit_line, machine.exits)], _counts(machine)))
    _add(found, "accesses.txt", lambda: _lines(list(machine.accesses)))
    _add(found, "log.txt", lambda: _lines(list(vm.log_lines)))
    _add(found, "state.txt", lambda: _state(machine))
    _add(found, "machine.toml", lambda: write.dumps(vm.config))
    locked: dict[str, Callable[[], str]] = {
        "registers.txt": lambda: "\n\n".join(f"processor {cpu.index}\n{cpu.registers!r}" for cpu in vm.cpus),
        "tree.txt": lambda: tree_text(vm.root, properties=True),
        "buses.txt": lambda: bus_text(vm),
        "memory.txt": lambda: memory_text(vm),
        "wiring.txt": lambda: wiring_text(vm),
    }
    if pictures:
        locked |= {
            "tree.svg": lambda: tree_svg(vm.root),
            "buses.svg": lambda: bus_svg(vm),
            "memory.svg": lambda: memory_svg(vm),
            "wiring.svg": lambda: wiring_svg(vm),
        }
    if not vm.lock.acquire(timeout=LOCK_PATIENCE):
        why = f"could not be had: somebody has held the machine lock for {LOCK_PATIENCE:g} s\n"
        return found | dict.fromkeys(locked, why)
    try:
        for name, make in locked.items():
            _add(found, name, make)
    finally:
        vm.lock.release()
    return {name: text for name, text in found.items() if text}


def _add(found: dict[str, str], name: str, make: Callable[[], str]) -> None:
    try:
        text = make()
    except Exception as error:
        text = f"could not be had: {type(error).__name__}: {error}"
    found[name] = text if not text or text.endswith("\n") else text + "\n"


def exit_line(left: Exit) -> str:
    """An exit from the guest as a line: processor, reason, and of an access its direction, place, size and value."""
    text = f"cpu{left.cpu.index} {left.name}"
    if left.address is None:
        return text
    text += f" {'write' if left.is_write else 'read'} {left.address:#x} size {left.size}"
    if left.string:
        return f"{text} times {left.count}"
    if left.value is not None:
        text += f" value {left.value:#x}"
    return text if left.failed is None else f"{text} failed: {left.failed}"


def _counts(machine: TestMachine) -> list[str]:
    accel = machine.vm.machine.accel
    if accel is None:
        return []
    counts = accel.exit_counts()  # type: ignore[attr-defined]  # every accelerator has them; qom.vm knows none
    rows = [
        f"cpu{number} {half} {reason}: {count}"
        for number, halves in counts.items()
        for half, reasons in halves.items()
        for reason, count in reasons.items()
    ]
    return ["", "all exits so far:", *rows] if rows else []


def _state(machine: TestMachine) -> str:
    vm = machine.vm
    rows = {
        "run state": vm.run_state.value,
        "time": f"{vm.clock.now()} ns",
        "ended by": vm.shutdown_reason,
        "exit status": vm.exit_status,
        "failure": vm.failure,
    }
    return "\n".join(f"{name}: {value}" for name, value in rows.items() if value is not None)


def _lines(lines: list[str], more: list[str] | None = None) -> str:
    return "\n".join([*lines, *(more or ())])


def tail(files: dict[str, str], lines: int = 20) -> str:
    """The ends of the consoles."""
    parts = []
    for name, text in files.items():
        if name.startswith("console-"):
            shown = [f"    {line}" for line in text.splitlines()[-lines:]]
            parts.append("\n".join([f"{name.removeprefix('console-').removesuffix('.txt')} ends with:", *shown]))
    return "\n".join(parts)


def directory_name(test: str) -> str:
    """A test's id as the name of a directory: readable, and never that of another test."""
    plain = re.sub(r"[^\w.-]+", "-", test).strip("-")
    if plain == test and len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[-LONGEST_NAME:]}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"


def save(top: Path, files: dict[str, str]) -> None:
    """Write the files into the new directory `top`; what an earlier run left there goes.

    Raises:
        OSError: it cannot be written.
    """
    if top.exists():
        shutil.rmtree(top)
    top.mkdir(parents=True)
    for name, text in files.items():
        (top / name).write_text(text, encoding="utf-8")
