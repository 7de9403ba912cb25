"""What a board says of a configuration before a machine is built: what it has no place for, and which buses it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qom.board.asked import asked_for, no_place
from qom.board.changes import Problems, change
from qom.board.parts import Board, parse_use
from qom.config.probe import Probe
from qom.errors import ConfigError
from qom.options import Report

if TYPE_CHECKING:
    from qom.config import MachineConfig
    from qom.registry import TypeRegistry

__all__ = ["board_buses", "changed", "misfits"]


def changed(board: Board, config: MachineConfig, report: Report) -> Board:
    """The board with what the configuration changes of it; what is wrong with the changes is reported."""
    problems = Problems(strict=False)
    made = change(board, config.parts, config.wires, config.regions, problems)
    for problem in problems:
        report(problem)
    return made


def misfits(board: Board, type_name: str, config: MachineConfig) -> Iterator[ConfigError]:
    """An error for every port and drive that the board has no place for."""
    known = {parse_use(part.use) for part in board.parts if part.use is not None}
    for use, asked in asked_for(config).items():
        if use not in known and asked.origin:
            yield no_place(board, type_name, use, asked)


def board_buses(board: Board, registry: TypeRegistry) -> dict[str, str]:
    """The buses of a board by name, with their types; "bus" where only that it is one is known.

    A bus is known from the type of its part, or from a part that sits on it.
    """
    probe = Probe(registry)
    found = {"system-bus": "system-bus"}
    drivers = {part.name: part.type for part in board.parts}
    for part in board.parts:
        found |= probe.buses(part.type)
        provider, _, name = part.bus.partition(".")
        if name and name not in found:
            known = probe.buses(drivers.get(provider, ""))
            found[name] = known.get(name) or probe.wanted_bus(part.type) or "bus"
    return found
