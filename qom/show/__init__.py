"""A machine shown to people: as text, and as pictures that need nothing but a browser.

Four views, each both ways: the composition tree, the buses and what sits on them, the memory map, the interrupt wiring;
and the exits of a machine that runs (qom.vm.exits), as a table and as a picture.
Every function takes what is there and changes nothing; call them with the machine lock held, or while the machine
stands still.  The pictures are complete SVG documents, legible on light and dark backgrounds, and equal for equal machines.
"""

from __future__ import annotations

from qom.show.bus_picture import bus_svg
from qom.show.buses import bus_text
from qom.show.difference import Difference, Portrait, diff, portrait
from qom.show.exits import exits_svg, exits_text
from qom.show.memory import memory_text
from qom.show.memory_picture import memory_svg
from qom.show.svg import Svg
from qom.show.tree import tree_text
from qom.show.tree_picture import tree_svg
from qom.show.wiring import Wire, WireEnd, wires, wiring_text
from qom.show.wiring_picture import wiring_svg

__all__ = [
    "Difference",
    "Portrait",
    "Svg",
    "Wire",
    "WireEnd",
    "bus_svg",
    "bus_text",
    "diff",
    "exits_svg",
    "exits_text",
    "memory_svg",
    "memory_text",
    "portrait",
    "tree_svg",
    "tree_text",
    "wires",
    "wiring_svg",
    "wiring_text",
]
