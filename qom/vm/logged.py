"""What `-d io,exits,int,reset` logs: what observers are told (qom/hw/probe.py), a line each.

Only imported when one of these is on; a machine without them is not watched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from qom.hw.probe import Access, Exit, LifeStep, LineChange, Observation

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["WATCHED", "watch"]

WATCHED: Final = frozenset({"io", "exits", "int", "reset"})
"""The categories that are made of what observers are told."""


def watch(vm: VirtualMachine, categories: frozenset[str]) -> None:
    """Log what happens in `vm` from now on, as far as it is of `categories`."""
    starts: dict[str, Callable[[], Observation]] = {
        "io": lambda: vm.observe.accesses(lambda access: vm.log("io", _access(access)), after_others=True),
        "exits": lambda: vm.observe.exits(lambda exit: vm.log("exits", _exit(exit)), after_others=True),
        "int": lambda: vm.observe.lines(lambda change: vm.log("int", _line(change)), after_others=True),
        "reset": lambda: vm.observe.lifecycle(lambda step: _reset(vm, step), after_others=True),
    }
    for category in sorted(categories & WATCHED):
        starts[category]()


def _access(access: Access) -> str:
    verb = "out" if access.is_write else "in"
    path = getattr(access.device, "path", "nobody")
    return f"{_cpu(access.cpu)}{verb} {access.address:#x} size {access.size} value {access.value:#x}, {path}"


def _exit(exit: Exit) -> str:
    where = (
        "" if exit.address is None else f" {'write' if exit.is_write else 'read'} {exit.address:#x} size {exit.size}"
    )
    return f"{_cpu(exit.cpu)}{exit.name}{where}"


def _line(change: LineChange) -> str:
    return f"{change.device.path} {change.direction} {change.name}[{change.n}] {change.level}"


def _reset(vm: VirtualMachine, step: LifeStep) -> None:
    if step.what == "reset":
        vm.log("reset", getattr(step.object, "path", "the machine"))


def _cpu(cpu: object) -> str:
    return "" if cpu is None else f"cpu{getattr(cpu, 'index', '')} "
