"""The interrupt wiring as a picture: sources to the left, the processors to the right, every line from pin to input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.show.svg import Picture, Svg, category, fit, tooltip
from qom.show.wiring import wires
from qom.show.wiring_graph import LABEL, Box, Edge, columns, graph, layers, short_name
from qom.show.wiring_layout import across, heights, order

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["wiring_svg"]


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
    boxes, edges = graph(shown)
    layers(boxes, edges)
    in_columns = columns(boxes, edges)
    order(in_columns, edges)
    heights(in_columns, edges)
    ways = across(in_columns, edges)
    for edge in edges:
        _wire(picture, edge, ways[id(edge)])
    for box in boxes:
        _draw(picture, box)
    return picture.document()


def _wire(picture: Picture, edge: Edge, points: list[tuple[float, float]]) -> None:
    first = edge.wires[0]
    tip = "\n".join(
        f"{w.source.object.path} {w.source.text} → {w.target.object.path} {w.target.text}{f' ({w.note})' if w.note else ''}"
        for w in edge.wires
    )
    look = "wire thick" if len(edge.wires) > 1 else "wire told" if first.kind == "told" else "wire"
    colour = picture.colour(category(first.source.object))
    with picture.group(f"{colour} net", tip, data_wires=len(edge.wires)):
        picture.line(points, look, 3)


def _draw(picture: Picture, box: Box) -> None:
    obj = box.obj
    assert obj is not None
    with picture.group(picture.colour(category(obj)), tooltip(obj), data_path=obj.path):
        picture.rect(box.x, box.y, box.w, box.h)
        picture.text(box.x + 8, box.y + 14, short_name(obj), "name", room=box.w - 14)
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
