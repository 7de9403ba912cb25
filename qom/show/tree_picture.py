"""The composition tree as a picture: what is part of what, as boxes within boxes."""

from __future__ import annotations

import math
from typing import Final

import attrs

from qom.object import Object
from qom.show.svg import Picture, Svg, category, text_width, tooltip

__all__ = ["tree_svg"]

PAD: Final = 8.0
GAP: Final = 8.0
LEAF: Final = 36.0  # height of a box with nothing in it
HEAD, TALL_HEAD = 24.0, 36.0  # height of the heading of a box with something in it: on one line, on two
WIDE: Final = 1120.0  # how wide a picture should be
NARROWEST, WIDEST = 104.0, 176.0  # a column


@attrs.define
class _Box:
    obj: Object
    children: list[_Box]
    span: int = 1  # columns it takes
    x: float = 0
    y: float = 0
    w: float = 0
    h: float = 0

    @property
    def narrow(self) -> bool:
        """Whether its heading takes two lines."""
        return self.span == 1

    @property
    def label(self) -> str:
        return self.obj.name or "/"


def tree_svg(obj: Object) -> Svg:
    """A complete SVG document with the tree from `obj` down: a box an object, coloured by category."""
    top = _boxes(obj)
    column = min(max(_needed(top), NARROWEST), WIDEST)
    columns = max(int((WIDE - 2 * PAD + GAP) // (column + GAP)), 1)
    _spans(top, columns)
    _lay(top, 0, 0, top.span * column + (top.span - 1) * GAP + 2 * PAD, columns)
    count = sum(1 for _ in obj.walk())
    what = "machine" if obj.parent is None else obj.path
    picture = Picture(f"What the {what} is made of" if obj.parent is None else f"What {what} is made of")
    picture.subtitle = f"{count} object{'s' * (count != 1)}; a box in a box is a part of it"
    _draw(picture, top)
    return picture.document()


def _boxes(obj: Object) -> _Box:
    return _Box(obj, [_boxes(child) for child in obj.children().values()])


def _needed(box: _Box, depth: int = 0) -> float:
    """The width that names of leaves want, with what the boxes around them take."""
    own = max(text_width(box.label, "head"), text_width(box.obj.type_name, "type")) + 2 * PAD * max(depth - 1, 1) + PAD
    return max([own if depth > 1 else 0, *(_needed(child, depth + 1) for child in box.children)])


def _leaves(box: _Box) -> int:
    return sum(map(_leaves, box.children)) or 1


def _spans(box: _Box, columns: int) -> None:
    """How many columns each box takes: one for a few parts in a stack, more the more there are."""
    for child in box.children:
        _spans(child, columns)
    widest = max((child.span for child in box.children), default=1)
    leaves = _leaves(box)
    wanted = 1 if leaves <= 4 else columns if leaves > 12 else math.ceil(math.sqrt(leaves))
    box.span = min(max(widest, wanted), columns)


def _lay(box: _Box, x: float, y: float, width: float, columns: int) -> None:
    """Place `box` and what is in it: each part into the columns that are least filled, first to the left."""
    box.x, box.y, box.w = x, y, width
    if not box.children:
        box.h = LEAF
        return
    count = max(box.span, 1)
    column = (width - 2 * PAD - (count - 1) * GAP) / count
    filled = [(TALL_HEAD if box.narrow else HEAD) + PAD / 2] * count
    for child in sorted(box.children, key=lambda c: c.span == columns):  # what fills the width comes last
        span = min(child.span, count)
        starts = [(max(filled[n : n + span]), n) for n in range(count - span + 1)]
        top, at = min(starts)
        _lay(child, x + PAD + at * (column + GAP), y + top, span * column + (span - 1) * GAP, columns)
        filled[at : at + span] = [top + child.h + GAP] * span
    box.h = max(filled) - GAP + PAD


def _draw(picture: Picture, box: _Box) -> None:
    kind = category(box.obj)
    with picture.group(picture.colour(kind), tooltip(box.obj), data_path=box.obj.path):
        picture.rect(box.x, box.y, box.w, box.h)
        room = box.w - 2 * PAD
        if not box.children or box.narrow:
            picture.text(box.x + PAD, box.y + 15.5, box.label, "head" if box.children else "name", room=room)
            picture.text(box.x + PAD, box.y + 28.5, box.obj.type_name, "type", room=room)
        else:
            picture.text(box.x + PAD, box.y + 16.5, box.label, "head", room=room, more=(box.obj.type_name, "type"))
    for child in box.children:
        _draw(picture, child)
