"""Laying out the wiring: the order of boxes within columns, their heights, the ways of lines between columns.

Columns are ordered to have few crossings, then moved up and down until most lines are straight; between columns each line
that has to change its height does so in a track of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from qom.show.wiring_graph import Box, Edge, Port, Step

__all__ = ["across", "heights", "order"]

APART: Final = 16.0  # boxes of one column
PASSAGE: Final = 7.0  # lines that pass a column
TRACK: Final = 7.0
MARGIN: Final = 14.0  # between boxes and tracks
SWEEPS: Final = 12
FULL: Final = 60  # boxes and passages in a column, beyond which neighbours are not tried in turn


# Order within columns


def order(columns: list[list[Box]], edges: list[Edge]) -> None:
    """Sort each column by where its neighbours are, to and fro, and keep the best of all tries."""
    gaps: list[list[Step]] = [[] for _ in columns]  # what runs between a column and the next one
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
            columns[n].sort(key=lambda box: (middle(wanted.get(id(box), [now[id(box)]])), now[id(box)]))
        _swap(columns, gaps)
        count = _all_crossings(columns, gaps)
        if count < fewest:
            best, fewest = [list(c) for c in columns], count
    columns[:] = best


def _swap(columns: list[list[Box]], gaps: list[list[Step]]) -> None:
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


def _positions(column: list[Box]) -> dict[int, float]:
    out, at = {}, 0.0
    for box in column:
        out[id(box)] = at
        at += box.rows + 1
    return out


def _within(box: Box, port: Port) -> float:
    return float(port.row) if box.obj is not None else 0.0


def middle(values: list[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _all_crossings(columns: list[list[Box]], gaps: list[list[Step]]) -> int:
    return sum(_crossings(columns, gaps, n) for n in range(len(columns) - 1))


def _crossings(columns: list[list[Box]], gaps: list[list[Step]], n: int) -> int:
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


def heights(columns: list[list[Box]], edges: list[Edge]) -> None:
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


def _stack(column: list[Box], wanted: dict[int, list[float]]) -> None:
    """Heights of a column in its order, as near to the wanted ones as the distances allow (pooled medians)."""
    below = 0.0
    blocks: list[tuple[list[float], list[tuple[Box, float]]]] = []  # wishes less what stands above, and who is in it
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


def _goal(block: tuple[list[float], list[tuple[Box, float]]]) -> float:
    return sorted(block[0])[len(block[0]) // 2] if block[0] else 0.0


# Across


def across(columns: list[list[Box]], edges: list[Edge]) -> dict[int, list[tuple[float, float]]]:
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
    bottom = max(b.y + b.h for column in columns for b in column) + MARGIN
    back = 0
    for edge in edges:
        if edge.target.layer <= edge.source.layer:  # back to the left: below everything
            ways[id(edge)] = _around(edge, bottom + back * TRACK, 5 + back % 4 * 2.5)
            back += 1
            continue
        points: list[tuple[float, float]] = []
        for k, ((a, a_port), (b, b_port)) in enumerate(zip(edge.way, edge.way[1:], strict=False)):
            y0, y1 = a.y + a.offset(a_port), b.y + b.offset(b_port)
            points.append((a.x + a.w if a.obj is not None else a.x, y0))
            turn = turns.get((id(edge), k))
            if turn is not None:
                points += [(turn, y0), (turn, y1)]
            points.append((b.x, y1))
        ways[id(edge)] = points
    return ways


def _around(edge: Edge, low: float, off: float) -> list[tuple[float, float]]:
    """The way of a line that goes back: out to the right, down to `low`, and up again before its target."""
    a, b = edge.source, edge.target
    y0, y1 = a.y + a.offset(edge.source_port), b.y + b.offset(edge.target_port)
    right, left = a.x + a.w + off, b.x - off
    return [(a.x + a.w, y0), (right, y0), (right, low), (left, low), (left, y1), (b.x, y1)]


def _tracks(layer: int, edges: list[Edge]) -> dict[tuple[int, int], int]:
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
    down = sorted((n for n in nets.values() if middle(n[1]) > n[0]), key=lambda n: (-n[0], -middle(n[1])))
    up = sorted((n for n in nets.values() if middle(n[1]) <= n[0]), key=lambda n: (n[0], middle(n[1])))
    spans: list[tuple[float, float, int]] = []
    tracks: dict[tuple[int, int], int] = {}
    for y0, ends, keys in (*down, *up):
        low, high = min(y0, *ends) - 3, max(y0, *ends) + 3
        track = max((t + 1 for a, b, t in spans if a < high and low < b), default=0)
        spans.append((low, high, track))
        tracks.update((key, track) for key in keys)
    return tracks
