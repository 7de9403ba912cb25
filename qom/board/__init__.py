"""Boards as data: parts, places, lines, and what builds a machine from them."""

from qom.board.parts import Part, Wire, add_part, assemble, parse_line
from qom.deprecated import names_of

__all__ = ["Part", "Wire", "add_part", "assemble", "parse_line"]

__getattr__ = names_of(__name__)
