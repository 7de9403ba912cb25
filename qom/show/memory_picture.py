"""The memory and port maps as a picture: to the left what an access finds, to the right the regions it is made of.

Addresses run downwards.  Four gigabytes and one port cannot both be seen on one scale, so heights grow with the logarithm
of the size, and what is empty is cut out at a break mark; what is beside each other has the same addresses.  A region
stands to the right of the one it is in, and beside those that it overlaps.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs

from qom.hw.address_space import AddressSpace
from qom.hw.listener import FlatRange
from qom.hw.memory import Region
from qom.object import Object
from qom.properties import format_size
from qom.show.memory import spaces
from qom.show.svg import Picture, Svg, category, fit, text_width, xml_text

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["memory_svg"]

ROW: Final = 15.0  # the least height of a piece
DOUBLING: Final = 2.2  # what each doubling of its size adds
TALLEST: Final = 64.0
BREAK: Final = 15.0  # height of a cut
FLAT_W: Final = 224.0
REGION_W: Final = 156.0
SPINE_W: Final = 19.0  # a tall region that has others in it: its name runs along it
GAP: Final = 4.0
BETWEEN: Final = 18.0  # flat view and regions
IN_A_ROW: Final = 4  # regions without a place, under the tree
PANEL: Final = 34.0  # between memory and ports
SMALLEST: Final = {"memory": 4096}
"""What counts as one unit of height, in bytes; 1 where nothing is said."""


@attrs.define
class _Node:
    """A region in the tree, with the addresses it has there (cut to what its container shows) and its place."""

    region: Region
    start: int
    end: int
    children: list[_Node]
    x: float = 0
    w: float = 0
    spine: bool = False


def memory_svg(vm: VirtualMachine) -> Svg:
    """A complete SVG document with memory and I/O ports, each as seen and as composed."""
    picture = Picture("Memory and I/O ports")
    picture.subtitle = (
        "left: what an access finds; right: the regions it is made of, a dashed one is disabled; "
        "heights grow with the logarithm of the size, empty stretches are cut"
    )
    y = 0.0
    for space in spaces(vm):
        y = _panel(picture, space, y) + PANEL
    return picture.document()


def _panel(picture: Picture, space: AddressSpace, top: float) -> float:
    """Draw one address space from `top` down; returns where it ends."""
    beyond: list[Region] = []
    root = _node(space.root, 0, 0, space.root.size, beyond)
    assert root is not None
    cuts = sorted({0, space.root.size} | _bounds(root) | {a for r in space.flat_view for a in (r.start, r.end)})
    left = max(text_width(f"{a:x}", "addr") for a in cuts[:-1]) + 10
    y = top + 22
    picture.text(0, top + 12, f"{space.name}, {_size(space.root.size)}", "head")
    rows = [y]
    for a, b in pairwise(cuts):
        rows.append(rows[-1] + _row(space, a, b))
    scale = _Scale(cuts, rows)
    _flat(picture, space, scale, left)
    x = left + FLAT_W + BETWEEN
    _place(root, x, scale)
    _draw(picture, space, root, scale)
    bottom = _besides(picture, "seen through aliases:", _targets(root), x, rows[-1])
    return _besides(picture, "outside of what they are in:", beyond, x, bottom)


@attrs.frozen
class _Scale:
    cuts: list[int]
    rows: list[float]

    def y(self, address: int) -> float:
        """Where an address is; every one asked for is a cut."""
        return self.rows[bisect_left(self.cuts, address)]


def _row(space: AddressSpace, a: int, b: int) -> float:
    if space.lookup(a) is None:
        return BREAK
    return min(ROW + DOUBLING * max(math.log2((b - a) / SMALLEST.get(space.name, 1)), 0), TALLEST)


def _node(region: Region, base: int, low: int, high: int, beyond: list[Region]) -> _Node | None:
    """`region` and what is in it, as far as they lie in [low, high); those that do not go to `beyond`."""
    start, end = max(base, low), min(base + region.size, high)
    if start >= end:
        beyond.append(region)
        return None
    inside = sorted(region.subregions, key=lambda r: r.offset)
    children = [_node(r, base + r.offset, start, end, beyond) for r in inside]
    return _Node(region, start, end, [c for c in children if c is not None])


def _bounds(node: _Node) -> set[int]:
    return {node.start, node.end}.union(*(_bounds(c) for c in node.children))


def _targets(root: _Node) -> list[Region]:
    """Regions that aliases show and that are nowhere in the tree themselves."""
    inside: set[int] = set()
    found: dict[int, Region] = {}

    def walk(node: _Node) -> None:
        inside.add(id(node.region))
        if node.region.target is not None:
            found.setdefault(id(node.region.target), node.region.target)
        for child in node.children:
            walk(child)

    walk(root)
    return [region for key, region in found.items() if key not in inside]


# The flat view


def _flat(picture: Picture, space: AddressSpace, scale: _Scale, x: float) -> None:
    at = 0
    for found in space.flat_view:
        if found.start > at:
            _cut(picture, at, scale.y(at), scale.y(found.start), x)
        _piece(picture, space, found, scale, x)
        at = found.end
    if at < space.root.size:
        _cut(picture, at, scale.y(at), scale.y(space.root.size), x)


def _piece(picture: Picture, space: AddressSpace, found: FlatRange, scale: _Scale, x: float) -> None:
    region = found.region
    y, h = scale.y(found.start), scale.y(found.end) - scale.y(found.start)
    owner = getattr(region.owner, "path", "")
    kind = _kind(region, found.readonly)
    tip = [f"{space.name} {found.start:x}-{found.end - 1:x}: {_size(found.size)} of {kind}", region.name]
    tip += [f"from its byte {found.offset:#x} on"] if found.offset else []
    tip += [f"of {owner}"] if owner else []
    with picture.group(
        picture.colour(_colour(region)), "\n".join(tip), data_flat=f"{space.name} {found.start:x}-{found.end - 1:x}"
    ):
        picture.text(x - 8, y + 10.5, f"{found.start:x}", "addr", anchor="end", cls="muted")
        picture.rect(x, y, FLAT_W, h, "box", 3)
        _named(picture, x, y, FLAT_W, region.name, f"{kind} {_size(found.size)}", owner.rpartition("/")[2])


def _cut(picture: Picture, address: int, y0: float, y1: float, x: float) -> None:
    """An empty stretch: a break mark where the bar would be."""
    middle = (y0 + y1) / 2
    with picture.group("k-place", f"nothing answers from {address:x} on: reads give all ones"):
        picture.text(x - 8, y0 + 10.5, f"{address:x}", "addr", anchor="end", cls="muted")
        wave = "".join(f"q{FLAT_W / 24:.2f} {-4 if n % 2 else 4} {FLAT_W / 12:.2f} 0" for n in range(12))
        for shift in (-2, 2):
            picture.put(f'<path class="rule" d="M{x:.1f} {middle + shift:.1f}{wave}"/>')
        picture.reach(x + FLAT_W, y1)


# The regions


def _place(node: _Node, x: float, scale: _Scale) -> None:
    """Give `node` and what is in it their places across; what overlaps stands side by side."""
    node.x = x
    height = scale.y(node.end) - scale.y(node.start)
    node.spine = bool(node.children) and height >= text_width(node.region.name, "type") + 8
    own = SPINE_W if node.spine else REGION_W
    lanes: list[list[_Node]] = []
    for child in sorted(node.children, key=lambda c: (c.region.priority < 0, not c.region.enabled, c.start, -c.end)):
        lane = next((one for one in lanes if all(o.end <= child.start or child.end <= o.start for o in one)), None)
        if lane is None:
            lane = []
            lanes.append(lane)
        lane.append(child)
    at = x + own + GAP
    for lane in lanes:
        for child in lane:
            _place(child, at, scale)
        at += max(child.w for child in lane) + GAP
    node.w = max(at - GAP - x, own)


def _draw(picture: Picture, space: AddressSpace, node: _Node, scale: _Scale) -> None:
    region = node.region
    y, h = scale.y(node.start), scale.y(node.end) - scale.y(node.start)
    off = "" if region.enabled else " off"
    tip = [f"{region.name}: {_kind(region, region.readonly)}, {_size(region.size)}"]
    tip += [f"{space.name} {node.start:x}-{node.end - 1:x}, priority {region.priority}"]
    if region.target is not None:
        last = region.alias_offset + region.size - 1
        tip += [f"a window on {region.target.name}, bytes {region.alias_offset:x}-{last:x}"]
    tip += [f"in {region.parent.name}"] if region.parent is not None else []
    tip += [f"of {owner}"] if (owner := getattr(region.owner, "path", "")) else []
    tip += ["disabled"] if off else []
    with picture.group(
        picture.colour(_colour(region)), "\n".join(tip), data_region=f"{space.name} {region.name} {node.start:x}"
    ):
        if node.spine:
            picture.rect(node.x, y + 0.5, SPINE_W, h - 1, f"box{off}", 3)
            shown = region.name
            middle = node.x + SPINE_W / 2 + 3.5
            low = min(y + h / 2 + text_width(shown, "type") / 2, y + 8 + text_width(shown, "type"))
            picture.put(
                f'<text class="type" x="{middle:.1f}" y="{low:.1f}" transform="rotate(-90 {middle:.1f} {low:.1f})">'
                f"{xml_text(shown)}</text>"
            )
        else:
            picture.rect(node.x, y + 0.5, REGION_W, h - 1, f"box{off}", 3)
            _named(picture, node.x, y, REGION_W, region.name, _short_kind(region))
    for child in node.children:
        _draw(picture, space, child, scale)


def _besides(picture: Picture, what: str, regions: list[Region], x: float, y: float) -> float:
    """Regions that have no place in the tree, in rows under it; returns where they end."""
    if not regions:
        return y
    picture.text(x, y + 21, what, "type", cls="muted")
    left = x + text_width(what, "type") + 8
    for n, region in enumerate(regions):
        at, top = left + n % IN_A_ROW * (REGION_W + GAP), y + 10 + n // IN_A_ROW * (16 + GAP)
        tip = f"{region.name}: {_kind(region, region.readonly)}, {_size(region.size)}"
        with picture.group(picture.colour(_colour(region)), tip, data_region=f"- {region.name} -"):
            picture.rect(at, top, REGION_W, 16, "box", 3)
            _named(picture, at, top, REGION_W, region.name, f"{_kind(region, region.readonly)} {_size(region.size)}")
    return y + 10 + -(-len(regions) // IN_A_ROW) * (16 + GAP)


def _named(picture: Picture, x: float, y: float, width: float, name: str, note: str, owner: str = "") -> None:
    """A name to the left, with whose it is if that is called otherwise; a note to the right where there is room for it."""
    room = width - 12
    shown = fit(name, room, "strong")
    left = room - text_width(shown, "strong") - 10
    beside = owner not in ("machine", name) and text_width(owner, "type") + 12 < left - text_width(note, "addr")
    picture.text(x + 6, y + 11, shown, "strong", room=room, more=(owner if beside else "", "type"))
    if left > 24:
        short = fit(note, left, "addr")
        picture.text(x + width - 6, y + 11, short, "addr", anchor="end")


def _kind(region: Region, readonly: bool) -> str:
    if region.ram_block is not None:
        return "rom" if readonly else "ram"
    if region.target is not None:
        return "alias, read-only" if readonly else "alias"
    return {"io": "i/o"}.get(region.kind, region.kind)


def _short_kind(region: Region) -> str:
    return f"→ {region.target.name}" if region.target is not None else _kind(region, region.readonly)


def _colour(region: Region) -> str:
    here: Region = region
    while here.target is not None:
        here = here.target
    if here.ram_block is not None:
        return "memory"
    if here.kind == "container" or not isinstance(region.owner, Object):
        return "place" if here.kind == "container" else "misc"
    return category(region.owner)


def _size(value: int) -> str:
    if value == 1 << 64:
        return "2^64 bytes"
    text = format_size(value)
    return f"{text} B" if text.isdigit() else text
