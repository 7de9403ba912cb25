"""Everything that is wrong with a board, found without building it.

`check_board` reads a board file to its end, puts it together with what it extends, and holds the whole against the
registry: types, properties and their values, links, names in expressions, places, circles.

What only shows while a machine is built is not found: lines and buses that a part makes as it is realized, addresses
that two parts both claim, conditions of two entries of one name that both hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qom.board.assembly import links_of
from qom.board.changes import Problems
from qom.board.expressions import Expression
from qom.board.files import BoardFile, read_board
from qom.board.parts import ACCELERATOR, EMPTY, Board, BoardRegion, Part
from qom.board.types import board_of, chain, check_properties, layers, parent_of
from qom.config.parts import ROLES
from qom.config.schema_values import settable
from qom.errors import ConfigError, QomError, UnknownParent, did_you_mean
from qom.options import at, shown
from qom.properties import Property, checked
from qom.registry import Type, TypeRegistry

__all__ = ["check_board", "wrong_with"]


def check_board(path: str | Path, registry: TypeRegistry) -> list[ConfigError]:
    """Everything wrong with the board file at `path`, in the order of the file; empty when nothing is.

    Args:
        path: a `.toml`, `.json`, `.yaml` or `.yml` file.
        registry: the types it may use.
    """
    problems = Problems(strict=False)
    try:
        board = read_board(path, problems)
    except ConfigError as error:
        return [error]
    below, properties = EMPTY, set[str]()
    try:
        parent = parent_of(board, registry)
        below = board_of(parent, registry)
        properties = set(registry.get(parent).properties)
        problems += check_properties(board, parent, registry)
    except UnknownParent as error:
        where = at(board.origin, "extends")
        problems.append(ConfigError(str(error).removeprefix(f"{where}: "), where))
    except QomError as error:
        problems.append(error if isinstance(error, ConfigError) else ConfigError(str(error)))
    whole = chain(board, below, problems)
    if properties:
        properties |= {item.name for layer in layers(board) for item in layer.properties}
        problems += wrong_with(
            whole, registry, properties, _model(board, registry, parent), _most(board, registry, parent)
        )
    return _in_order(problems)


def _in_order(problems: Iterable[ConfigError]) -> list[ConfigError]:
    """Each once, by file, line and column."""
    once = {str(error): error for error in problems}

    def place(error: ConfigError) -> tuple[str, int, int]:
        origin: Any = error.origin
        return getattr(origin, "file", ""), getattr(origin, "line", 0), getattr(origin, "column", 0)

    return sorted(once.values(), key=place)


def _model(board: BoardFile, registry: TypeRegistry, parent: str) -> tuple[str, str] | None:
    """The default processor model and where it was said."""
    for layer in reversed(layers(board)):
        if layer.default_cpu is not None:
            return layer.default_cpu, at(layer.origin, "default-cpu")
    name = registry.class_of(parent).default_cpu_type
    return (name, "") if name else None


def _most(board: BoardFile, registry: TypeRegistry, parent: str) -> int:
    said = [layer.max_cpus for layer in layers(board) if layer.max_cpus is not None]
    return said[-1] if said else int(registry.class_of(parent).max_cpus)


def wrong_with(
    board: Board,
    registry: TypeRegistry,
    properties: set[str],
    model: tuple[str, str] | None = None,
    most: int | None = None,
) -> list[ConfigError]:
    """Everything that does not fit together in a board.

    Args:
        board: a whole one.
        registry: the types it may use.
        properties: of its machine type.
        model: the default processor model and where that was said, if it is to be checked.
        most: how many processors there may be, if that is to be checked.
    """
    found = _Checker(board, registry, properties)
    found.expressions()
    found.circles()
    for region in board.regions:
        found.region(region)
    for part in board.parts:
        found.part(part)
    found.cpus(model, most)
    found.wires()
    return found.problems


class _Checker:
    """Holds a board against a registry, notes what is wrong."""

    def __init__(self, board: Board, registry: TypeRegistry, properties: set[str]) -> None:
        self.board, self.registry = board, registry
        self.problems: list[ConfigError] = []
        self.parts: dict[str, list[Part]] = {}
        for part in board.parts:
            self.parts.setdefault(part.name, []).append(part)
        self.regions: dict[str, BoardRegion] = {region.name: region for region in board.regions}
        sizes = {f"{name}.size" for name in self.regions}
        self.names = {*board.values, *sizes, *(f"accel.{role}" for role in ROLES), *properties}

    def note(self, message: str, origin: str, *keys: str) -> None:
        for key in keys:
            origin = at(origin, key)
        self.problems.append(ConfigError(message, origin))

    # -- expressions

    def expressions(self) -> None:
        for name, expression in self.board.values.items():
            self.known(f"value '{name}'", expression, self.board.origins.get(name, ""))
        for item in self.board.requirements:
            self.known("require", item.that, at(item.origin, "that"))
        for region in self.board.regions:
            what = f"region '{region.name}'"
            for key in ("at", "size", "offset", "granule", "when"):
                self.known(what, getattr(region, key), at(region.origin, key), own=key in ("at", "offset"))
        for part in self.board.parts:
            self.known(f"part '{part.name}'", part.when, at(part.origin, "when"))
            for name, expression in part.values.items():
                self.known(f"part '{part.name}'", expression, at(at(part.origin, "values"), name))
        for wire in self.board.wires:
            self.known(f"wire {wire.source} -> {wire.target}", wire.when, at(wire.origin, "when"))

    def known(self, what: str, expression: Expression | None, origin: str, *, own: bool = False) -> None:
        for name in expression.names if expression is not None else ():
            if name in self.names or (own and name == "size"):
                continue
            text = f"{what}: '{expression.text if expression is not None else ''}': there is no '{name}'"
            self.note(f"{text}{did_you_mean(name, self.names)}", origin)

    def circles(self) -> None:
        """Values and sizes, aliases, containers, and parts, that lead back to themselves."""
        needs: dict[str, tuple[str, ...]] = {name: e.names for name, e in self.board.values.items()}
        sizes = {f"{r.name}.size": r.size.names for r in self.board.regions if r.size is not None}
        origins = {**self.board.origins, **{f"{r.name}.size": at(r.origin, "size") for r in self.board.regions}}
        self._circle("depends on itself", {**needs, **sizes}, origins)
        shows = {r.name: (r.of,) for r in self.board.regions if r.kind == "alias" and r.of is not None}
        self._circle("is an alias of itself", shows, {r.name: at(r.origin, "of") for r in self.board.regions})
        lies = {r.name: (r.inside,) for r in self.board.regions if r.at is not None}
        self._circle("lies in itself", lies, {r.name: at(r.origin, "in") for r in self.board.regions})
        parts = {p.name: (p.bus.partition(".")[0], *p.links.values()) for p in self.board.parts}
        self._circle("needs itself", parts, {p.name: p.origin for p in self.board.parts})

    def _circle(self, what: str, needs: Mapping[str, tuple[str, ...]], origins: Mapping[str, str]) -> None:
        done: set[str] = set()
        for start in needs:
            trail: list[tuple[str, Iterator[str]]] = [(start, iter(needs[start]))]
            while trail and start not in done:
                name, rest = trail[-1]
                step = next(rest, None)
                names = [entry[0] for entry in trail]
                if step is None:
                    done.add(name)
                    trail.pop()
                elif step in names:
                    circle = [*names[names.index(step) :], step]
                    self.note(f"'{step}' {what}: {' -> '.join(circle)}", origins.get(step, ""))
                    done.update(names)
                    break
                elif step in needs and step not in done:
                    trail.append((step, iter(needs[step])))

    # -- regions

    def region(self, region: BoardRegion) -> None:
        what = f"region '{region.name}'"
        if region.kind == "alias" and region.of not in self.regions:
            near = did_you_mean(str(region.of), self.regions)
            self.note(f"{what}: there is no region '{region.of}'{near}", region.origin, "of")
        inside = region.inside
        if inside in self.regions:
            if self.regions[inside].kind == "alias":
                self.note(f"{what}: 'in': '{inside}' is an alias: expected what it shows", region.origin, "in")
        elif inside not in ("memory", "io"):
            name, _, attribute = inside.partition(".")
            known = ("memory", "io", *self.regions, *self.parts)
            if name not in self.parts:
                if name not in self.board.removed:
                    near = did_you_mean(name, known)
                    self.note(
                        f"{what}: 'in' cannot be {inside!r}: there is no part or region '{name}'{near}",
                        region.origin,
                        "in",
                    )
            elif not attribute:
                self.note(f"{what}: 'in' cannot be {inside!r}: expected <part>.<region it makes>", region.origin, "in")
        if region.property is not None and region.property not in self.names:
            near = did_you_mean(region.property, self.names)
            self.note(f"{what}: the machine has no property '{region.property}'{near}", region.origin, "property")
        if region.file is not None and not region.file.is_file():
            self.note(f"{what}: no file '{region.file}'", region.origin, "file")

    # -- parts

    def part(self, part: Part) -> None:
        what = f"part '{part.name}'"
        if part.bus != "system":
            name, _, bus = part.bus.partition(".")
            if name not in self.parts:
                self.note(f"{what}: bus {part.bus!r}: {self._no_part(name)}", part.origin, "bus")
            elif not bus:
                self.note(
                    f"{what}: bus {part.bus!r}: expected <part>.<bus>, such as '{name}.isa.0'", part.origin, "bus"
                )
        for link, target in part.links.items():
            if target != ACCELERATOR and target not in self.parts and target not in self.regions:
                self.note(f"{what}: link '{link}': {self._no_part(target)}", part.origin, "links", link)
        found = self._type(part, what)
        if found is None:
            return
        wanted = found.cls.bus_type
        if part.bus == "system" and wanted is not None and not self.registry.is_a("system-bus", wanted):
            text = f"{what}: '{found.name}' needs a bus of type '{wanted}': expected 'bus'"
            self.note(text, part.origin, "type")
        for name, value in part.props.items():
            prop = self._property(found, name, what, at(part.origin, "props"), name)
            if prop is not None and prop.kind == "link" and not isinstance(value, str):
                text = f"{what}: property '{name}' cannot be {shown(value)}: expected {prop.expected()}"
                self.note(text, part.origin, "props", name)
            elif prop is not None and prop.kind not in ("link", "child", "alias"):
                try:
                    checked(prop, value)
                except ValueError as error:
                    text = f"{what}: property '{name}' cannot be {shown(value)}: expected {error}"
                    self.note(text, part.origin, "props", name)
        for name in part.values:
            self._property(found, name, what, at(part.origin, "values"), name)
        known = links_of(found)
        for name in part.links:
            if name not in known and name.replace("_", "-") not in known:
                text = f"{what}: '{found.name}' is handed no '{name}'{did_you_mean(name, known)}"
                self.note(text, part.origin, "links", name)

    def _no_part(self, name: str) -> str:
        if name in self.board.removed:
            return f"the part '{name}' was taken out"
        return f"there is no part '{name}'{did_you_mean(name, (*self.parts, *self.regions))}"

    def _type(self, part: Part, what: str) -> Type | None:
        """The type of a part; None when the accelerator chooses it, or it was complained about."""
        name = part.type
        if name.startswith("{") and name.endswith("}"):
            if name[1:-1] not in ROLES:
                expected = ", ".join(f"'{{{role}}}'" for role in ROLES)
                near = did_you_mean(name[1:-1], ROLES)
                self.note(f"{what}: no role {name!r}: expected one of {expected}{near}", part.origin, "type")
            return None
        if name not in self.registry:
            known = self.registry.names("device")
            self.note(f"{what}: there is no device type '{name}'{did_you_mean(name, known)}", part.origin, "type")
            return None
        found = self.registry.get(name)
        if not found.is_a("device") or found.is_a("machine"):
            self.note(f"{what}: '{name}' is not a device type", part.origin, "type")
            return None
        if found.abstract:
            self.note(f"{what}: type '{name}' is abstract and cannot be instantiated", part.origin, "type")
            return None
        try:
            _ = found.cls
        except QomError as error:
            self.note(f"{what}: {error}", part.origin, "type")
            return None
        return found

    def _property(self, found: Type, name: str, what: str, origin: str, key: str) -> Property | None:
        prop = found.properties.get(name) or found.properties.get(name.replace("_", "-"))
        if prop is None:
            near = did_you_mean(name, found.properties)
            self.note(f"{what}: '{found.name}' has no property '{name}'{near}", origin, key)
        elif prop.name not in settable(found):
            hint = ": expected 'bus' as a key of the part" if prop.name == "bus" else ""
            self.note(f"{what}: property '{name}' of '{found.name}' cannot be set by a board{hint}", origin, key)
            return None
        return prop

    # -- processors and wires

    def cpus(self, model: tuple[str, str] | None, most: int | None) -> None:
        cpus = self.board.cpus
        if cpus is None:
            return
        if cpus.of not in self.registry or not self.registry.get(cpus.of).is_a("cpu"):
            known = [t.name for t in self.registry.types("cpu")]
            self.note(f"cpus: there is no processor type '{cpus.of}'{did_you_mean(cpus.of, known)}", cpus.origin, "of")
            return
        if cpus.apic_bus is not None and cpus.apic_bus not in self.parts:
            self.note(f"cpus: 'apic-bus': {self._no_part(cpus.apic_bus)}", cpus.origin, "apic-bus")
        if most is not None and most > 1 and "{index}" not in cpus.name:
            text = f"cpus: 'name' cannot be {cpus.name!r} for {most} processors: expected '{{index}}' in it"
            self.note(text, cpus.origin, "name")
        if model is None:
            if most is not None:
                self.note("cpus: no processor model: expected 'default-cpu' in [board]", cpus.origin)
            return
        found = self.registry.find_any((f"{model[0]}-{cpus.of}", model[0]))
        if found is None or found.abstract or not found.is_a(cpus.of):
            short = [t.name.removesuffix(f"-{cpus.of}") for t in self.registry.types(cpus.of, abstract=False)]
            text = f"board: 'default-cpu': unknown processor model {model[0]!r}{did_you_mean(model[0], short)}"
            self.note(text, model[1] or cpus.origin)

    def wires(self) -> None:
        cpus = self.board.cpus
        for wire in self.board.wires:
            for end, key in ((wire.start, "from"), (wire.end, "to")):
                name = end.part
                if name in self.parts or name in self.board.removed:
                    continue
                if cpus is not None and _is_cpu(name, cpus.name):
                    continue
                known = (*self.parts, *([cpus.name.replace("{index}", "0")] if cpus is not None else []))
                text = f"wire {wire.source} -> {wire.target}: there is no part '{name}'{did_you_mean(name, known)}"
                self.note(text, wire.origin, key)


def _is_cpu(name: str, pattern: str) -> bool:
    before, index, after = pattern.partition("{index}")
    if not index:
        return name == pattern
    return name.startswith(before) and name.endswith(after) and name[len(before) : len(name) - len(after)].isdecimal()
