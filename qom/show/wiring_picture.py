"""The interrupt wiring as a picture: sources to the left, the processors to the right, every line from pin to input.

Devices stand in columns so that lines run to the right; where a line passes a column it has a passage of its own there.
Columns are ordered to have few crossings, then moved up and down until most lines are straight; between columns each line
that has to change its height does so in a track of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

from qom.object import Object
from qom.show.svg import Picture, Svg, category, fit, text_width, tooltip
from qom.show.wiring import Wire, wires

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["wiring_svg"]

ROW: Final = 13.0  # a line's row in a box
HEAD: Final = 32.0  # name and type of a box
FOOT: Final = 5.0
APART: Final = 16.0  # boxes of one column
PASSAGE: Final = 7.0  # lines that pass a column
TRACK: Final = 7.0
MARGIN: Final = 14.0  # between boxes and tracks
SWEEPS: Final = 12
BUNDLE: Final = 8  # so many lines of one device on the lines of one bus are drawn as one thick one
FULL: Final = 60  # boxes and passages in a column, beyond which neighbours are not tried in turn
LABEL: Final = 82.0  # the longest label of a line, px


@attrs.define(eq=False)
class _Port:
    """Where lines meet a box: a row on its left side, its right side, or (a bus) both."""

    label: str
    row: int = 0
    left: bool = False
    right: bool = False


@attrs.define(eq=False)
class _Box:
    """One object, or (without one) the passage of a single line through a column."""

    obj: Object | None
    ports: dict[tuple[str, str], _Port] = attrs.field(factory=dict)  # by side ("in", "out", "bus") and label
    layer: int = 0
    x: float = 0
    y: float = 0
    w: float = 0
    rows: int = 0

    @property
    def h(self) -> float:
        return HEAD + self.rows * ROW + FOOT if self.obj is not None else 0.0

    def offset(self, port: _Port) -> float:
        return HEAD + port.row * ROW + ROW / 2 if self.obj is not None else 0.0


@attrs.define(eq=False)
class _Edge:
    """A line, or a bundle of them, from a port to a port; `way` is it cut at every column it passes."""

    wires: list[Wire]
    source: _Box
    source_port: _Port
    target: _Box
    target_port: _Port
    way: list[tuple[_Box, _Port]] = attrs.field(factory=list)


_Step = tuple[tuple[_Box, _Port], tuple[_Box, _Port]]
"""A line's way from one column to the next."""


def wiring_svg(vm: VirtualMachine) -> Svg:
    """A complete SVG document with every wire of the machine from its source to what it drives."""
    shown = [w for w in wires(vm) if w.kind != "inside"]
    picture = Picture("Interrupt wiring")
    if not shown:
        picture.subtitle = f"{vm.machine.type_name} has no interrupt wiring"
        return picture.document()
    picture.subtitle = (
        f"{vm.machine.type_name}: {len(shown)} lines; solid: a line, thick: all lines of a bus, dashed: told by a message; "
        "coloured like what drives them"
    )
    boxes, edges = _graph(shown)
    _layers(boxes, edges)
    columns = _columns(boxes, edges)
    _order(columns, edges)
    _heights(columns, edges)
    ways = _across(columns, edges)
    for edge in edges:
        _wire(picture, edge, ways[id(edge)])
    for box in boxes:
        _draw(picture, box)
    return picture.document()


# The graph


def _graph(shown: list[Wire]) -> tuple[list[_Box], list[_Edge]]:
    boxes: dict[str, _Box] = {}
    edges: list[_Edge] = []
    buses = {w.target.object.path for w in shown if w.kind in ("isa", "pci")}
    for wire in shown:
        for end in (wire.source, wire.target):
            boxes.setdefault(end.object.path, _Box(end.object))
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
        edges.append(_Edge(group, source, source_port, target, target_port))
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


def _port(box: _Box, side: str, label: str) -> _Port:
    return box.ports.setdefault((side, label), _Port(label))


def _rows(box: _Box) -> None:
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
    named = max(text_width(_short(box.obj), "name"), min(text_width(box.obj.type_name, "type"), 112.0))
    box.w = max(ins + outs + (24 if ins and outs else 16), middle + 24, named + 16, 56.0)


def _natural(label: str) -> tuple[str, int]:
    name, _, rest = label.partition("[")
    number = rest.rstrip("]").partition("-")[0]
    return name, int(number) if number.isdigit() else -1


def _layers(boxes: list[_Box], edges: list[_Edge]) -> None:
    """Which column each box is in: behind all that drive it; a box with more outputs than inputs as far right as it can be."""
    after: dict[int, list[_Edge]] = {id(b): [] for b in boxes}
    before: dict[int, list[_Edge]] = {id(b): [] for b in boxes}
    back = _backward(boxes, edges)
    for edge in edges:
        if id(edge) not in back:
            after[id(edge.source)].append(edge)
            before[id(edge.target)].append(edge)
    order: list[_Box] = []
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


def _backward(boxes: list[_Box], edges: list[_Edge]) -> set[int]:
    """Edges that close a circle, found by walking from the boxes in their order; they do not count for the columns."""
    out: dict[int, list[_Edge]] = {}
    for edge in edges:
        out.setdefault(id(edge.source), []).append(edge)
    state: dict[int, int] = {}
    found: set[int] = set()
    for start in boxes:
        stack: list[tuple[_Box, int]] = [(start, 0)]
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


def _columns(boxes: list[_Box], edges: list[_Edge]) -> list[list[_Box]]:
    """The boxes by column, with a passage for each line in every column it passes."""
    columns: list[list[_Box]] = [[] for _ in range(max(b.layer for b in boxes) + 1)]
    for box in boxes:
        columns[box.layer].append(box)
    for edge in edges:
        edge.way = [(edge.source, edge.source_port)]
        for layer in range(edge.source.layer + 1, edge.target.layer):
            passage = _Box(None, layer=layer)
            columns[layer].append(passage)
            edge.way.append((passage, _Port("")))
        edge.way.append((edge.target, edge.target_port))
    return columns


# Order within columns


def _order(columns: list[list[_Box]], edges: list[_Edge]) -> None:
    """Sort each column by where its neighbours are, to and fro, and keep the best of all tries."""
    gaps: list[list[_Step]] = [[] for _ in columns]  # what runs between a column and the next one
    for edge in edges:
        for step in zip(edge.way, edge.way[1:], strict=False):
            if step[1][0].layer == step[0][0].layer + 1:
                gaps[step[0][0].layer].append(step)
    best, fewest = [list(c) for c in columns], _all_crossings(columns, gaps)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for n in range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1):
            seen = _positions(columns[n - 1 if forward else n + 1])
            wanted: dict[int, list[float]] = {}
            for (a, a_port), (b, b_port) in gaps[n - 1 if forward else n]:
                near, far, port = (b, a, a_port) if forward else (a, b, b_port)
                wanted.setdefault(id(near), []).append(seen[id(far)] + _within(far, port))
            now = _positions(columns[n])
            columns[n].sort(key=lambda box: (_middle(wanted.get(id(box), [now[id(box)]])), now[id(box)]))
        _swap(columns, gaps)
        count = _all_crossings(columns, gaps)
        if count < fewest:
            best, fewest = [list(c) for c in columns], count
    columns[:] = best


def _swap(columns: list[list[_Box]], gaps: list[list[_Step]]) -> None:
    """Exchange neighbours where that takes crossings away; not in a column so full that trying them all takes long."""
    for n, column in enumerate(columns):
        if len(column) > FULL:
            continue
        around = [k for k in (n - 1, n) if 0 <= k < len(columns) - 1]
        for at in range(len(column) - 1):
            before = sum(_crossings(columns, gaps, k) for k in around)
            column[at], column[at + 1] = column[at + 1], column[at]
            if sum(_crossings(columns, gaps, k) for k in around) >= before:
                column[at], column[at + 1] = column[at + 1], column[at]


def _positions(column: list[_Box]) -> dict[int, float]:
    out, at = {}, 0.0
    for box in column:
        out[id(box)] = at
        at += box.rows + 1
    return out


def _within(box: _Box, port: _Port) -> float:
    return float(port.row) if box.obj is not None else 0.0


def _middle(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _all_crossings(columns: list[list[_Box]], gaps: list[list[_Step]]) -> int:
    return sum(_crossings(columns, gaps, n) for n in range(len(columns) - 1))


def _crossings(columns: list[list[_Box]], gaps: list[list[_Step]], n: int) -> int:
    """How often lines between column `n` and the next one cross."""
    left, right = _positions(columns[n]), _positions(columns[n + 1])
    lines = sorted(
        (left[id(a)] + _within(a, a_port), right[id(b)] + _within(b, b_port)) for (a, a_port), (b, b_port) in gaps[n]
    )
    ends: list[float] = []  # of the lines so far, sorted: those that end further down are crossed
    count = 0
    for _, y in lines:
        at = bisect_right(ends, y)
        count += len(ends) - at
        ends.insert(at, y)
    return count


# Heights


def _heights(columns: list[list[_Box]], edges: list[_Edge]) -> None:
    """Heights: the fullest column first, then its neighbours beside it, each so that most of its lines are straight."""
    steps = [(a, b) for edge in edges for a, b in zip(edge.way, edge.way[1:], strict=False)]
    anchor = max(range(len(columns)), key=lambda n: sum(b.h for b in columns[n]))
    _stack(columns[anchor], {})
    placed = {anchor}
    for n in [*range(anchor + 1, len(columns)), *range(anchor - 1, -1, -1)]:
        wanted: dict[int, list[float]] = {}
        for (a, a_port), (b, b_port) in steps:
            for here, here_port, there, there_port in ((a, a_port, b, b_port), (b, b_port, a, a_port)):
                if here.layer == n and there.layer in placed:
                    wanted.setdefault(id(here), []).append(there.y + there.offset(there_port) - here.offset(here_port))
        _stack(columns[n], wanted)
        placed.add(n)
    top = min(b.y for c in columns for b in c)
    for column in columns:
        for box in column:
            box.y = round(box.y - top, 1)


def _stack(column: list[_Box], wanted: dict[int, list[float]]) -> None:
    """Heights of a column in its order, as near to the wanted ones as the distances allow (pooled medians)."""
    below = 0.0
    blocks: list[tuple[list[float], list[tuple[_Box, float]]]] = []  # wishes less what stands above, and who is in it
    for n, box in enumerate(column):
        if n:
            before = column[n - 1]
            narrow = before.obj is None and box.obj is None
            below += before.h + (PASSAGE if narrow else APART)
        blocks.append(([y - below for y in wanted.get(id(box), [])], [(box, below)]))
        while len(blocks) > 1 and _goal(blocks[-2]) > _goal(blocks[-1]):
            wishes, members = blocks.pop()
            blocks[-1] = (blocks[-1][0] + wishes, blocks[-1][1] + members)
    last = None
    for block in blocks:
        goal = _goal(block)
        if not block[0] and last is not None:
            goal = last
        for box, offset in block[1]:
            box.y = goal + offset
        last = goal


def _goal(block: tuple[list[float], list[tuple[_Box, float]]]) -> float:
    return sorted(block[0])[len(block[0]) // 2] if block[0] else 0.0


# Across


def _across(columns: list[list[_Box]], edges: list[_Edge]) -> dict[int, list[tuple[float, float]]]:
    """Places across, and the way of every line as points."""
    turns: dict[tuple[int, int], float] = {}  # step of an edge: where it changes height
    x = 0.0
    for n, column in enumerate(columns):
        width = max((b.w for b in column), default=0)
        for box in column:
            box.x, box.w = x + (width - box.w if n == 0 else 0), box.w
            if box.obj is None or n:
                box.w = width
        x += width
        if n + 1 < len(columns):
            tracks = _tracks(n, edges)
            used = max(tracks.values(), default=-1) + 1
            for key, track in tracks.items():
                turns[key] = x + MARGIN + track * TRACK
            x += 2 * MARGIN + max(used - 1, 0) * TRACK
    ways = {}
    for edge in edges:
        points: list[tuple[float, float]] = []
        for k, ((a, a_port), (b, b_port)) in enumerate(zip(edge.way, edge.way[1:], strict=False)):
            y0, y1 = a.y + a.offset(a_port), b.y + b.offset(b_port)
            points.append((a.x + a.w if a.obj is not None else a.x, y0))
            turn = turns.get((id(edge), k))
            if turn is None and b.layer <= a.layer:  # a line that goes back: around to the left
                points += [(a.x + a.w + 8, y0), (a.x + a.w + 8, y1)]
            elif turn is not None:
                points += [(turn, y0), (turn, y1)]
            points.append((b.x, y1))
        ways[id(edge)] = points
    return ways


def _tracks(layer: int, edges: list[_Edge]) -> dict[tuple[int, int], int]:
    """The track of every line that changes its height behind this column; lines of one output share theirs.

    What goes down turns the later the higher it starts, what goes up the other way round: then they do not cross.
    """
    nets: dict[tuple[int, int], tuple[float, list[float], list[tuple[int, int]]]] = {}
    for edge in edges:
        for k, ((a, a_port), (b, b_port)) in enumerate(zip(edge.way, edge.way[1:], strict=False)):
            if a.layer != layer or b.layer <= a.layer:
                continue
            y0, y1 = a.y + a.offset(a_port), b.y + b.offset(b_port)
            if y0 != y1:
                net = nets.setdefault((id(a), id(a_port)), (y0, [], []))
                net[1].append(y1)
                net[2].append((id(edge), k))
    down = sorted((n for n in nets.values() if _middle(n[1]) > n[0]), key=lambda n: (-n[0], -_middle(n[1])))
    up = sorted((n for n in nets.values() if _middle(n[1]) <= n[0]), key=lambda n: (n[0], _middle(n[1])))
    spans: list[tuple[float, float, int]] = []
    tracks: dict[tuple[int, int], int] = {}
    for y0, ends, keys in (*down, *up):
        low, high = min(y0, *ends) - 3, max(y0, *ends) + 3
        track = max((t + 1 for a, b, t in spans if a < high and low < b), default=0)
        spans.append((low, high, track))
        tracks.update((key, track) for key in keys)
    return tracks


# Drawing


def _wire(picture: Picture, edge: _Edge, points: list[tuple[float, float]]) -> None:
    first = edge.wires[0]
    tip = "\n".join(
        f"{w.source.object.path} {w.source.text} → {w.target.object.path} {w.target.text}{f' ({w.note})' if w.note else ''}"
        for w in edge.wires
    )
    look = "wire thick" if len(edge.wires) > 1 else "wire told" if first.kind == "told" else "wire"
    colour = picture.colour(category(first.source.object))
    with picture.group(f"{colour} net", tip, data_wires=len(edge.wires)):
        picture.line(points, look, 3)


def _draw(picture: Picture, box: _Box) -> None:
    obj = box.obj
    assert obj is not None
    with picture.group(picture.colour(category(obj)), tooltip(obj), data_path=obj.path):
        picture.rect(box.x, box.y, box.w, box.h)
        picture.text(box.x + 8, box.y + 14, _short(obj), "name", room=box.w - 14)
        picture.text(box.x + 8, box.y + 26, obj.type_name, "type", room=box.w - 14)
        for (side, _), port in box.ports.items():
            y = box.y + box.offset(port)
            label = fit(port.label, LABEL, "addr")
            if side == "bus":
                picture.text(box.x + box.w / 2, y + 3.3, label, "addr", anchor="middle")
            elif port.left:
                picture.text(box.x + 7, y + 3.3, label, "addr")
            else:
                picture.text(box.x + box.w - 7, y + 3.3, label, "addr", anchor="end")
            for x in ([box.x] if port.left else []) + ([box.x + box.w] if port.right else []):
                picture.put(f'<circle class="bar" cx="{x:.1f}" cy="{y:.1f}" r="2"/>')


def _short(obj: Object) -> str:
    """Its name, with that of the part it belongs to where it is a part of a part and no bus."""
    above = obj.parent
    if above is None or above.parent is None or above.is_a("machine") or obj.is_a("bus"):
        return obj.name or "/"
    return f"{above.name}/{obj.name}"
