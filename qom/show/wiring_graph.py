"""The graph that the picture of the wiring is laid out from: boxes with rows of ports, lines between them, columns.

Devices stand in columns so that lines run to the right; where a line passes a column it has a passage of its own there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from qom.object import Object
from qom.show.svg import text_width
from qom.show.wiring import Wire

__all__ = ["HEAD", "LABEL", "ROW", "Box", "Edge", "Port", "Step", "columns", "graph", "layers", "short_name"]

ROW: Final = 13.0  # a line's row in a box
HEAD: Final = 32.0  # name and type of a box
FOOT: Final = 5.0
BUNDLE: Final = 8  # so many lines of one device on the lines of one bus are drawn as one thick one
LABEL: Final = 82.0  # the longest label of a line, px


@attrs.define(eq=False)
class Port:
    """Where lines meet a box: a row on its left side, its right side, or (a bus) both."""

    label: str
    row: int = 0
    left: bool = False
    right: bool = False


@attrs.define(eq=False)
class Box:
    """One object, or (without one) the passage of a single line through a column."""

    obj: Object | None
    ports: dict[tuple[str, str], Port] = attrs.field(factory=dict)  # by side ("in", "out", "bus") and label
    layer: int = 0
    x: float = 0
    y: float = 0
    w: float = 0
    rows: int = 0

    @property
    def h(self) -> float:
        """Its height, from its rows."""
        return HEAD + self.rows * ROW + FOOT if self.obj is not None else 0.0

    def offset(self, port: Port) -> float:
        """How far below the top of the box a line at `port` is."""
        return HEAD + port.row * ROW + ROW / 2 if self.obj is not None else 0.0


@attrs.define(eq=False)
class Edge:
    """A line, or a bundle of them, from a port to a port; `way` is it cut at every column it passes."""

    wires: list[Wire]
    source: Box
    source_port: Port
    target: Box
    target_port: Port
    way: list[tuple[Box, Port]] = attrs.field(factory=list)


Step = tuple[tuple[Box, Port], tuple[Box, Port]]
"""A line's way from one column to the next."""


def graph(shown: list[Wire]) -> tuple[list[Box], list[Edge]]:
    """Boxes with their ports, in the order the wires name them, and the lines between them."""
    boxes: dict[str, Box] = {}
    edges: list[Edge] = []
    buses = {w.target.object.path for w in shown if w.kind in ("isa", "pci")}
    for wire in shown:
        for end in (wire.source, wire.target):
            boxes.setdefault(end.object.path, Box(end.object))
    for group in _bundled(shown):
        first, last = group[0], group[-1]
        source, target = boxes[first.source.object.path], boxes[first.target.object.path]
        if first.kind == "told":
            out = into = first.note
        elif len(group) > 1:
            out = into = f"{first.source.name}[{first.source.n}-{last.source.n}]"
        else:
            out, into = first.source.text, first.target.text
        source_port = _port(source, "bus" if source.obj is not None and source.obj.path in buses else "out", out)
        target_port = _port(target, "bus" if first.target.object.path in buses and len(group) == 1 else "in", into)
        source_port.right = target_port.left = True
        edges.append(Edge(group, source, source_port, target, target_port))
    for box in boxes.values():
        _rows(box)
    return list(boxes.values()), edges


def _bundled(shown: list[Wire]) -> Iterable[list[Wire]]:
    """Wires one by one; those of a device that is on all lines of a bus together."""
    counts: dict[tuple[str, str], list[Wire]] = {}
    for wire in shown:
        if wire.kind == "isa":
            counts.setdefault((wire.source.object.path, wire.target.object.path), []).append(wire)
    done: set[tuple[str, str]] = set()
    for wire in shown:
        key = (wire.source.object.path, wire.target.object.path)
        together = counts.get(key, []) if wire.kind == "isa" else []
        if len(together) < BUNDLE:
            yield [wire]
        elif key not in done:
            done.add(key)
            yield together


def _port(box: Box, side: str, label: str) -> Port:
    return box.ports.setdefault((side, label), Port(label))


def _rows(box: Box) -> None:
    """Give ports their rows: a bus's lines once, after what comes as a bundle; others on the left and right on their own."""
    left = [p for (side, _), p in box.ports.items() if side == "in"]
    right = [p for (side, _), p in box.ports.items() if side == "out"]
    both = sorted((p for (side, _), p in box.ports.items() if side == "bus"), key=lambda p: _natural(p.label))
    left.sort(key=lambda p: _natural(p.label))
    for ports in (left, right):
        for n, port in enumerate(ports):
            port.row = n
    start = max(len(left), len(right)) if both else 0
    for n, port in enumerate(both):
        port.row = start + n
    box.rows = start + len(both) if both else max(len(left), len(right))
    ins = max((min(text_width(p.label, "addr"), LABEL) for p in left), default=0)
    outs = max((min(text_width(p.label, "addr"), LABEL) for p in right), default=0)
    middle = max((min(text_width(p.label, "addr"), LABEL) for p in both), default=0)
    assert box.obj is not None
    named = max(text_width(short_name(box.obj), "name"), min(text_width(box.obj.type_name, "type"), 112.0))
    box.w = max(ins + outs + (24 if ins and outs else 16), middle + 24, named + 16, 56.0)


def _natural(label: str) -> tuple[str, int]:
    name, _, rest = label.partition("[")
    number = rest.rstrip("]").partition("-")[0]
    return name, int(number) if number.isdigit() else -1


def layers(boxes: list[Box], edges: list[Edge]) -> None:
    """Which column each box is in: behind all that drive it; a box with more outputs than inputs as far right as it can be."""
    after: dict[int, list[Edge]] = {id(b): [] for b in boxes}
    before: dict[int, list[Edge]] = {id(b): [] for b in boxes}
    back = _backward(boxes, edges)
    for edge in edges:
        if id(edge) not in back:
            after[id(edge.source)].append(edge)
            before[id(edge.target)].append(edge)
    order: list[Box] = []
    waiting = {id(b): len(before[id(b)]) for b in boxes}
    ready = [b for b in boxes if not waiting[id(b)]]
    while ready:
        box = ready.pop(0)
        order.append(box)
        for edge in after[id(box)]:
            waiting[id(edge.target)] -= 1
            if not waiting[id(edge.target)]:
                ready.append(edge.target)
    for box in order:
        box.layer = max((e.source.layer + 1 for e in before[id(box)]), default=0)
    sinks = {id(b) for b in boxes if not after[id(b)]}
    for ends in (False, True):  # what ends in nothing else (a gate, a processor) follows those that drive it
        for box in reversed(order):
            following = [e.target.layer for e in after[id(box)] if ends or id(e.target) not in sinks]
            if following and len(after[id(box)]) > len(before[id(box)]) and (not ends or not before[id(box)]):
                box.layer = max(box.layer, min(following) - 1)
        for box in order:
            if id(box) in sinks:
                box.layer = max((e.source.layer + 1 for e in before[id(box)]), default=box.layer)


def _backward(boxes: list[Box], edges: list[Edge]) -> set[int]:
    """Edges that close a circle, found by walking from the boxes in their order; they do not count for the columns."""
    out: dict[int, list[Edge]] = {}
    for edge in edges:
        out.setdefault(id(edge.source), []).append(edge)
    state: dict[int, int] = {}
    found: set[int] = set()
    for start in boxes:
        stack: list[tuple[Box, int]] = [(start, 0)]
        while stack:
            box, n = stack.pop()
            if n == 0 and state.get(id(box)):
                continue
            state[id(box)] = 1
            following = out.get(id(box), [])
            if n == len(following):
                state[id(box)] = 2
                continue
            stack.append((box, n + 1))
            edge = following[n]
            if state.get(id(edge.target)) == 1:
                found.add(id(edge))
            elif not state.get(id(edge.target)):
                stack.append((edge.target, 0))
    return found


def columns(boxes: list[Box], edges: list[Edge]) -> list[list[Box]]:
    """The boxes by column, with a passage for each line in every column it passes."""
    columns: list[list[Box]] = [[] for _ in range(max(b.layer for b in boxes) + 1)]
    for box in boxes:
        columns[box.layer].append(box)
    for edge in edges:
        edge.way = [(edge.source, edge.source_port)]
        for layer in range(edge.source.layer + 1, edge.target.layer):
            passage = Box(None, layer=layer)
            columns[layer].append(passage)
            edge.way.append((passage, Port("")))
        edge.way.append((edge.target, edge.target_port))
    return columns


def short_name(obj: Object) -> str:
    """Its name, with that of the part it belongs to where it is a part of a part and no bus."""
    above = obj.parent
    if above is None or above.parent is None or above.is_a("machine") or obj.is_a("bus"):
        return obj.name or "/"
    return f"{above.name}/{obj.name}"
