"""A board with what a file says put over it: parts, wires and regions added, changed and taken out.

The same rules serve a board file that extends another board and a machine file that changes its board:

* an entry with the name of a part (or region) that is there changes what it says of it, key by key; of `props`,
  `links` and `values` the single names; with another `type` (or `kind`) these begin empty, for they are the type's;
* any other entry adds one; `remove = true` takes one out, and the wires to a part that was taken out go with it;
* a wire from an output that is wired already takes the place of that wire: an output drives one line.

A name may stand more than once in one file if each entry has a `when`: of these at most one may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from qom import records
from qom.board.expressions import Expression, ExpressionError
from qom.board.parts import Board, BoardRegion, Part, Wire, parse_line, parse_use
from qom.config.model import PartEntry, RegionEntry, WireEntry
from qom.config.parts import REGION_KEYS_OF, SINGLE
from qom.errors import ConfigError, did_you_mean
from qom.options import Taker, at, placed

__all__ = ["Problems", "change"]

Named = TypeVar("Named", Part, BoardRegion)
Entry = TypeVar("Entry", PartEntry, RegionEntry)

NEEDED: Final = {"ram": ("size",), "rom": (), "alias": ("of", "size"), "container": ("size",)}


class Problems(list[ConfigError]):
    """Everything found wrong so far.  With `strict` the first thing wrong is raised."""

    def __init__(self, *, strict: bool = True) -> None:
        super().__init__()
        self.strict = strict

    def report(self, error: ConfigError) -> None:
        """Take an error: raise it if strict, else keep it."""
        if self.strict:
            raise error
        self.append(error)

    def note(self, message: str, origin: str) -> None:
        """Something is wrong at `origin`."""
        self.report(ConfigError(message, origin))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is raised inside (and go on after it), unless strict."""
        try:
            yield
        except ConfigError as error:
            if self.strict:
                raise
            self.append(error)


def change(
    board: Board,
    parts: Sequence[PartEntry],
    wires: Sequence[WireEntry],
    regions: Sequence[RegionEntry],
    problems: Problems | None = None,
) -> Board:
    """`board` with the entries put over it.

    Args:
        board: what there is already.
        parts, wires, regions: what one file says.
        problems: where to note what is wrong; without it the first thing wrong is raised.

    Raises:
        ConfigError: an entry says something impossible, or changes what is not there.
    """
    problems = Problems() if problems is None else problems
    gone = {entry.name for entry in parts if entry.remove}
    new_parts = _over(board.parts, parts, "part", _new_part, problems)
    kept = gone - {part.name for part in new_parts}
    return records.evolve(
        board,
        parts=new_parts,
        wires=_wires(board.wires, wires, problems),
        regions=_over(board.regions, regions, "region", _new_region, problems),
        removed=(board.removed | kept) - {part.name for part in new_parts},
    )


def _over(
    there: tuple[Named, ...],
    entries: Sequence[Entry],
    what: str,
    made: Callable[[Entry, Named | None], Named],
    problems: Problems,
) -> tuple[Named, ...]:
    groups: dict[str, list[Named]] = {}
    for item in there:
        groups.setdefault(item.name, []).append(item)
    said: dict[str, list[Entry]] = {}
    for entry in entries:
        said.setdefault(entry.name, []).append(entry)
    for name, group in said.items():
        old = groups.get(name)
        if group[0].remove or (len(group) > 1 and any(entry.remove for entry in group)):
            if len(group) > 1:
                problems.note(f"{what} '{name}' is both removed and given: expected one of the two", group[1].origin)
            elif old is None:
                problems.note(f"there is no {what} '{name}' to remove{did_you_mean(name, groups)}", group[0].origin)
            else:
                del groups[name]
            continue
        if len(group) > 1:
            old = None
        result: list[Named] = []
        for entry in group:
            with problems.kept():
                if old is None and not _kind(entry):
                    key = "type" if what == "part" else "kind"
                    near = did_you_mean(name, groups)
                    raise ConfigError(
                        f"{what} '{name}' is not on this board, and a new one needs a '{key}'{near}", entry.origin
                    )
                result += [made(entry, one) for one in old or [None]]  # type: ignore[list-item]
        for item, entry in zip(result, group, strict=False):
            if len(group) > 1 and item.when is None:
                problems.note(
                    f"{what} '{name}' is given twice, first by {group[0].origin}: expected a 'when' in each",
                    (entry if entry is not group[0] else group[1]).origin,
                )
                break
        if result:
            groups[name] = result
    return tuple(item for group in groups.values() for item in group)


def _kind(entry: PartEntry | RegionEntry) -> Any:
    return entry.type if isinstance(entry, PartEntry) else entry.props.get("kind")


def _new_part(entry: PartEntry, old: Part | None) -> Part:
    origin = entry.origin
    same = old is not None and entry.type in (None, old.type)
    base = old if old is not None else Part(entry.name, str(entry.type))
    values = {name: _expression(text, at(at(origin, "values"), name)) for name, text in entry.values.items()}
    use = entry.use
    if use is not None:
        with placed(origin, "for"):
            what, n = parse_use(use)
        use = what if what in SINGLE else f"{what}[{n}]"
    for name in (*entry.props, *entry.links, *values):
        if (name in entry.props) + (name in entry.links) + (name in values) > 1:
            raise ConfigError(f"part '{entry.name}': '{name}' is given twice, as a property, a link or a value", origin)
    return records.evolve(
        base,
        type=entry.type or base.type,
        bus=entry.bus or base.bus,
        props={**(base.props if same else {}), **entry.props},
        links={**(base.links if same else {}), **entry.links},
        values={**(base.values if same else {}), **values},
        when=_expression(entry.when, at(origin, "when")) if entry.when is not None else base.when,
        use=use if use is not None else base.use,
        origin=origin,
    )


def _new_region(entry: RegionEntry, old: BoardRegion | None) -> BoardRegion:
    origin = entry.origin
    take = Taker(entry.props, f"region '{entry.name}'", origin)
    kind = take.choice("kind", REGION_KEYS_OF, old.kind if old is not None else "")
    base = old if old is not None and old.kind == kind else BoardRegion(entry.name, kind)
    for key in entry.props:
        if key != "kind" and key not in REGION_KEYS_OF[kind]:
            expected = ", ".join(f"'{name}'" for name in REGION_KEYS_OF[kind])
            raise take.error(f"'{key}' cannot be said of a region of kind '{kind}': expected {expected}", key)
    found: dict[str, Any] = {"origin": origin}
    for key, field in (("at", "at"), ("size", "size"), ("offset", "offset"), ("granule", "granule"), ("when", "when")):
        value = take.raw(key)
        if value is not None:
            found[field] = _expression(value, at(origin, key), f"{take.what}: '{key}'")
    for key, field in (("in", "inside"), ("of", "of"), ("property", "property"), ("sha256", "sha256")):
        text = take.text(key)
        if text is not None:
            found[field] = text
    if (priority := take.number("priority", low=-(1 << 31), high=1 << 31)) is not None:
        found["priority"] = priority
    if "readonly" in entry.props:
        found["readonly"] = take.switch("readonly")
    if (file := take.text("file")) is not None:
        found["file"] = beside(file, at(origin, "file"))
    region: BoardRegion = records.evolve(base, **found)
    for key in NEEDED[kind]:
        if getattr(region, key) is None:
            raise take.error(f"'{key}' is required of a region of kind '{kind}'")
    if kind == "rom" and region.file is None and region.property is None:
        raise take.error("'file' or 'property' is required of a region of kind 'rom'")
    if region.at is None and (kind == "alias" or region.inside != "memory"):
        raise take.error("'at' is required: its offset in what it lies in")
    if region.sha256 is not None and region.file is None:
        raise take.error("'sha256' is only of use with 'file'", "sha256")
    return region


def beside(name: str, origin: str) -> Path:
    """A file named in a file: found beside it."""
    folder = getattr(origin, "file", "")
    return Path(folder).parent / name if folder else Path(name)


def _expression(value: Any, origin: str, what: str = "") -> Expression:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(f"{what} cannot be {value!r}: expected an integer or an expression, as a string", origin)
    try:
        return Expression(str(value))
    except ExpressionError as error:
        raise ConfigError(str(error), origin) from None


def _wires(there: tuple[Wire, ...], entries: Sequence[WireEntry], problems: Problems) -> tuple[Wire, ...]:
    old: dict[str, list[Wire]] = {}
    for wire in there:
        old.setdefault(str(wire.start), []).append(wire)
    new: dict[str, list[Wire]] = {}
    for entry in entries:
        with problems.kept():
            condition = _expression(entry.when, at(entry.origin, "when")) if entry.when is not None else None
            with placed(entry.origin, "from"):
                parse_line(entry.source, source=True)
            with placed(entry.origin, "to"):
                wire = Wire(entry.source, entry.target, condition, entry.origin)
            key = str(wire.start)
            if entry.remove:
                rest = [one for one in old.get(key, []) if one.end != wire.end]
                if len(rest) == len(old.get(key, [])):
                    ends = ", ".join(one.target for one in old.get(key, [])) or "nothing"
                    raise ConfigError(
                        f"there is no wire {entry.source} -> {entry.target} to remove: {entry.source} drives {ends}",
                        entry.origin,
                    )
                old[key] = rest
                continue
            if key in new and not (wire.when is not None and all(one.when is not None for one in new[key])):
                raise ConfigError(
                    f"{wire.source} is wired twice, first by {new[key][0].origin}: an output drives one line",
                    entry.origin,
                )
            new.setdefault(key, []).append(wire)
    merged = {**old, **new}  # an output that is wired anew keeps its place in the order
    return tuple(wire for group in merged.values() for wire in group)
