"""What a board says of a configuration before a machine is built: what it has no place for, and which buses it has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from qom.board.assembly import no_place
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
    origins = {entry.id: entry.origin for entry in config.chardevs}
    asked: list[tuple[tuple[str, int], str, str]] = []
    for n, id in enumerate(config.serials):
        if id is not None:
            asked.append((("serial", n), origins.get(id, ""), f"serial port {n}"))
    if config.debugcon is not None:
        asked.append((("debugcon", 0), origins.get(config.debugcon, ""), "debugcon"))
    for drive in config.drives:
        if drive.interface == "ide" and drive.index is not None:
            what = "cdrom" if drive.media == "cdrom" else "drive"
            asked.append(((what, drive.index), drive.origin, f"drive '{drive.id}'"))
    known = {parse_use(part.use) for part in board.parts if part.use is not None}
    for use, origin, text in asked:
        if use not in known and origin not in ("", config.origin_of("nographic")):
            yield ConfigError(no_place(board, type_name, use, text), origin)


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
