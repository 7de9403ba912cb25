"""Boards as data: parts, places and lines in a file, and the machine type that is built from them.  See docs/boards.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.later import later

if TYPE_CHECKING:
    from qom.board.assembly import Assembly
    from qom.board.changes import Problems, change
    from qom.board.check import check_board
    from qom.board.expressions import Expression, ExpressionError
    from qom.board.files import BoardFile, read_board
    from qom.board.lines import bus_at
    from qom.board.machine import BoardMachine
    from qom.board.parts import Board, BoardCpus, BoardRegion, Part, Requirement, Wire, parse_line
    from qom.board.types import board_of, machine_type, register_board
    from qom.config.check import unreadable
    from qom.options import Report


QOM_MODULES = ("machine", "types")

__all__ = [
    "Assembly",
    "Board",
    "BoardCpus",
    "BoardFile",
    "BoardMachine",
    "BoardRegion",
    "Expression",
    "ExpressionError",
    "Part",
    "Problems",
    "Report",
    "Requirement",
    "Wire",
    "board_of",
    "bus_at",
    "change",
    "check_board",
    "machine_type",
    "parse_line",
    "read_board",
    "register_board",
    "unreadable",
]

_LATER = {
    "qom.board.assembly": ("Assembly",),
    "qom.board.changes": ("Problems", "change"),
    "qom.board.check": ("check_board",),
    "qom.board.expressions": ("Expression", "ExpressionError"),
    "qom.board.files": ("BoardFile", "read_board"),
    "qom.board.lines": ("bus_at",),
    "qom.board.machine": ("BoardMachine",),
    "qom.board.parts": ("Board", "BoardCpus", "BoardRegion", "Part", "Requirement", "Wire", "parse_line"),
    "qom.board.types": ("board_of", "machine_type", "register_board"),
    "qom.config.check": ("unreadable",),
    "qom.options": ("Report",),
}

__getattr__, __dir__ = later(__name__, _LATER)
