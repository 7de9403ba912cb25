"""What a page on a machine type says of its board: parts, memory map, wires, in the words of the board file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from qom.board import BoardFile, Expression, Part, Wire, board_of
from qom.properties import format_size
from qom.registry import Type
from qom.show.page import Cell, Code, Ref, Section
from qom.show.page import Part as Inline

__all__ = ["board_file", "board_sections"]


def board_file(found: Type) -> str:
    """The name of the board file that a machine type is made from; "" for one that is not."""
    data = found.info.class_data if found.info is not None else None
    return data.path.name if isinstance(data, BoardFile) else ""


def board_sections(found: Type) -> Iterator[Section]:
    """The board of a machine type, with what it extends: nothing for one that is all Python."""
    if found.abstract or not found.is_a("board-machine"):
        return
    board = board_of(found.name, found.registry)
    if board.parts:
        rows = [_part(found, part) for part in board.parts]
        yield Section("Parts", head=("part", "type", "bus", "there if", "set to"), rows=tuple(rows))
    if board.regions:
        regions: list[tuple[Cell, ...]] = []
        for region in board.regions:
            where = f"{region.inside}: {region.at.text}" if region.at is not None else "only through aliases"
            size = _text(region.size) or "its image's"
            shows = f"shows {region.of}" if region.of else ""
            regions.append((Code(region.name), region.kind, where, size, shows, _text(region.when)))
        head = ("region", "kind", "where", "size", "", "there if")
        yield Section("Memory map", head=head, rows=tuple(regions))
    if board.wires:
        wires: list[tuple[Cell, ...]] = [
            (Code(source), Code(target), _text(first.when)) for source, target, first in _joined(board.wires)
        ]
        yield Section("Wires", head=("from", "to", "there if"), rows=tuple(wires))


def _part(found: Type, part: Part) -> tuple[Cell, ...]:
    named = found.registry.find_any((part.type,))
    kind: Inline = Ref(named.name) if named is not None else Code(part.type)
    when = " and ".join(filter(None, [_text(part.when), part.use and f"{part.use} is asked for"]))
    given = {
        **{k: _shown(v) for k, v in part.props.items()},
        **{k: _text(v) for k, v in part.values.items()},
        **part.links,
    }
    return (Code(part.name), kind, part.bus, when, ", ".join(f"{k} = {v}" for k, v in given.items()))


def _text(expression: Expression | None) -> str:
    return "" if expression is None else expression.text


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int) and value > 9:
        return format_size(value) if value >= 1 << 20 and value % (1 << 20) == 0 else f"{value:#x}"
    return str(value)


_NUMBERED = re.compile(r"(.*)\[(\d+)\]")


def _joined(wires: Sequence[Wire]) -> Iterator[tuple[str, str, Wire]]:
    """Wires that count up together as one: "gsi.ioapic[0-23]" to "ioapic[0-23]"."""
    run: list[Wire] = []
    conditions = list(dict.fromkeys(_text(w.when) for w in wires))
    for wire in sorted(wires, key=lambda w: conditions.index(_text(w.when))):  # stable: in their order for each
        if run and not _follows(run[-1], wire):
            yield _span(run, "source"), _span(run, "target"), run[0]
            run = []
        run.append(wire)
    if run:
        yield _span(run, "source"), _span(run, "target"), run[0]


def _follows(last: Wire, wire: Wire) -> bool:
    if _text(last.when) != _text(wire.when):
        return False
    for a, b in ((last.source, wire.source), (last.target, wire.target)):
        before, after = _NUMBERED.fullmatch(a), _NUMBERED.fullmatch(b)
        if before is None or after is None or before[1] != after[1] or int(after[2]) != int(before[2]) + 1:
            return False
    return True


def _span(run: list[Wire], end: str) -> str:
    first, last = str(getattr(run[0], end)), str(getattr(run[-1], end))
    if first == last:
        return first
    return f"{first[:-1]}-{last[last.rindex('[') + 1 :]}"
