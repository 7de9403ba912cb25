"""Putting a board together: what is there and in which order it is made, parts made and placed.

One `Assembly` serves one machine while that is being realized.  What depends on what decides the order (a part needs
the part whose bus it sits on, and those it is handed), so the order in a file does not matter; where nothing decides,
it is the file's.  Everything taken is noted with the machine (`on_unrealize`, children), so that a board that cannot be
completed leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from qom.board.asked import asked_for, no_place
from qom.board.lines import bus_at, connect
from qom.board.memory import MemoryMap
from qom.board.parts import ACCELERATOR, Board, BoardRegion, Part, Wire, parse_use
from qom.board.scope import Scope
from qom.errors import ConfigError, did_you_mean
from qom.hw.device import Device
from qom.hw.memory import Region
from qom.options import at, placed
from qom.properties import Property, inner_name
from qom.registry import Type

if TYPE_CHECKING:
    from qom.board.machine import BoardMachine

__all__ = ["Assembly"]


class Assembly:
    """The board of `machine` while it is put together.

    scope: the values of names.  memory: the regions.
    """

    def __init__(self, machine: BoardMachine, board: Board) -> None:
        self.machine, self.board = machine, board
        self.scope = Scope(machine, board)
        self.memory = MemoryMap(machine, self.scope)
        self._asked = asked_for(machine.vm.config)
        self._there: dict[str, Part] = {}

    @property
    def regions(self) -> dict[str, Region]:
        """The regions made so far, by name."""
        return self.memory.regions

    def run(self) -> None:
        """Make everything.

        Raises:
            ConfigError: the board does not fit together, or the configuration asks for what it has no place for.
            QomError: a part cannot be realized.
        """
        self.select()
        order = self.order()
        first = self._before_cpus(order)
        for part in first:
            self.add_part(part)
        if self.board.cpus is not None:
            self.machine.make_cpus()
        self.machine.make_memory(self)
        for part in order:
            if part not in first:
                self.add_part(part)
        for region in self.memory.homeless():
            raise self._no_container(region)
        connect(self.machine, self._wires())

    def select(self) -> None:
        """Decide which regions and parts are there, and check what the board requires.

        Raises:
            ConfigError: a requirement does not hold, two parts of a name are there, or something asked for has no place.
        """
        for region in self.board.regions:
            if self.scope.holds(region.when, region.origin):
                if region.name in self.memory.chosen:
                    raise self._twice("region", region.name, self.memory.chosen[region.name].origin, region.origin)
                self.memory.chosen[region.name] = region
        self.check_requirements()
        used: set[tuple[str, int]] = set()
        for part in self.board.parts:
            if not self.scope.holds(part.when, part.origin):
                continue
            if part.use is not None:
                with placed(part.origin, "for"):
                    use = parse_use(part.use)
                if use not in self._asked:
                    continue
                used.add(use)
            if part.name in self._there:
                raise self._twice("part", part.name, self._there[part.name].origin, part.origin)
            self._there[part.name] = part
        for use, asked in self._asked.items():
            if use not in used and asked.origin:
                raise no_place(self.board, self.machine.type_name, use, asked)

    @staticmethod
    def _twice(what: str, name: str, first: str, second: str) -> ConfigError:
        return ConfigError(
            f"{what} '{name}' is there twice, also by {first}: expected conditions that exclude one another", second
        )

    def check_requirements(self) -> None:
        """Raise ConfigError for the first requirement that does not hold, placed where the value was said."""
        machine = self.machine
        for item in self.board.requirements:
            with placed(item.origin, "that"):
                if item.that.holds(self.scope.look):
                    continue
                facts = ", ".join(self.scope.fact(name) for name in item.that.names)
            raise ConfigError(f"{machine.path}: {facts}: {item.text}" if facts else f"{machine.path}: {item.text}", self._said(item.that.names) or item.origin)  # fmt: skip  # noqa: E501

    def _said(self, names: Iterable[str]) -> str:
        """Where the configuration said the first of these properties; "" when nowhere."""
        config = self.machine.vm.config
        for name in names:
            if name == "ram-size" and config.memory is not None:
                return config.origin_of("memory")
            if name.startswith("smp-") and config.smp.origin:
                return config.smp.origin
            if name in config.machine.props or inner_name(name) in config.machine.props:
                return at(config.machine.origin, name)
        return ""

    def order(self) -> list[Part]:
        """The parts that are there, each after those it needs.

        Raises:
            ConfigError: a part needs one that is not there, or parts need each other in a circle.
        """
        done: dict[str, Part] = {}
        trail: list[str] = []

        def visit(part: Part) -> None:
            if part.name in done:
                return
            if part.name in trail:
                circle = " -> ".join([*trail[trail.index(part.name) :], part.name])
                raise ConfigError(f"parts need each other in a circle: {circle}", part.origin)
            trail.append(part.name)
            for other in self._needs(part):
                visit(other)
            trail.pop()
            done[part.name] = part

        for part in self._there.values():
            visit(part)
        return list(done.values())

    def _needs(self, part: Part) -> Iterator[Part]:
        if part.bus != "system":
            name = part.bus.partition(".")[0]
            if name not in self._there:
                raise ConfigError(f"part '{part.name}': bus {part.bus!r}: {self._absent(name)}", at(part.origin, "bus"))
            yield self._there[name]
        for link, target in part.links.items():
            if target in self._there:
                yield self._there[target]
            elif target != ACCELERATOR and target not in self.memory.chosen:
                where = at(at(part.origin, "links"), link)
                raise ConfigError(f"part '{part.name}': link '{link}': {self._absent(target)}", where)

    def _absent(self, name: str) -> str:
        """Why there is no part of that name."""
        if name in self.board.removed:
            return f"the part '{name}' was taken out"
        if any(part.name == name for part in self.board.parts):
            return f"the part '{name}' is not there in this configuration"
        return f"there is no part '{name}'{did_you_mean(name, (*self._there, *self.memory.chosen))}"

    def _before_cpus(self, order: list[Part]) -> list[Part]:
        """The parts that processors need, each after those it needs."""
        cpus = self.board.cpus
        if cpus is None or cpus.apic_bus is None:
            return []
        if cpus.apic_bus not in self._there:
            raise ConfigError(f"cpus: 'apic-bus': {self._absent(cpus.apic_bus)}", at(cpus.origin, "apic-bus"))
        wanted: set[str] = set()
        pending = [self._there[cpus.apic_bus]]
        while pending:
            part = pending.pop()
            wanted.add(part.name)
            pending += self._needs(part)
        return [part for part in order if part.name in wanted]

    def _no_container(self, region: BoardRegion) -> ConfigError:
        name = region.inside.partition(".")[0]
        known = ("memory", "io", *self.memory.chosen, *self._there)
        text = f"region '{region.name}': 'in' cannot be {region.inside!r}: {self._absent(name)}"
        hint = "" if did_you_mean(name, (*self._there, *self.memory.chosen)) else did_you_mean(name, known)
        return ConfigError(f"{text}{hint}", at(region.origin, "in"))

    def add_part(self, part: Part) -> Device:
        """Make one part, place it, realize it, and put the regions that lie in it where they belong.

        Raises:
            ConfigError: its type or a property does not exist, or it cannot be realized, with the part's place.
        """
        machine, asked = self.machine, self._asked.get(parse_use(part.use)) if part.use is not None else None
        device = self._new(part)
        machine.add_child(part.name, device)
        for name, value in part.props.items():
            with placed(at(at(part.origin, "props"), name)):
                device.set(name, value)
        for name, expression in part.values.items():
            with placed(at(at(part.origin, "values"), name)):
                device.set(name, expression.value(self.scope.look))
        for name, target in part.links.items():
            with placed(at(at(part.origin, "links"), name)):
                self._hand(device, name, target)
        with placed(asked.origin if asked is not None else ""):
            if asked is not None and asked.backend:
                device.set(asked.property, machine.vm.root.resolve(asked.backend))
            with placed(at(part.origin, "bus")):
                bus = bus_at(machine, part.bus)
            with placed("" if asked is not None else part.origin):
                device.plug(bus)
                device.set("realized", True)
        self.memory.place_in(part.name)
        return device

    def _new(self, part: Part) -> Device:
        with placed(part.origin, "type"):
            try:
                name = part.type.format(**self.scope.roles)
            except (KeyError, ValueError, IndexError):
                roles = ", ".join(f"{{{role}}}" for role in self.scope.roles)
                raise ConfigError(f"part '{part.name}': no role {part.type!r}: expected one of {roles}") from None
            found = self.machine.registry.find_any((name,))
            if found is None:
                near = self.machine.registry.suggest(name, self.machine.registry.names("device"))
                raise ConfigError(f"part '{part.name}': there is no device type '{name}'{near}")
            device = self.machine.registry.new(name)
            if not isinstance(device, Device) or device.is_a("machine"):
                raise ConfigError(f"part '{part.name}': '{name}' is not a device type")
        return device

    def _hand(self, device: Device, name: str, target: str) -> None:
        """Give a device what it is handed: by a link property, or an attribute that its class declares for that."""
        held: Any
        if target == ACCELERATOR:
            held = self.machine.accel
        elif target in self._there:
            held = self.machine.child(target)
        else:
            held = self.regions[target] if target in self.regions else self.memory.make(self.memory.chosen[target])
        prop = device.properties().get(name)
        if prop is not None:
            device.set(name, held)
            return
        declared = handed(type(device))
        attribute = inner_name(name)
        if attribute not in declared:
            known = link_names(device.properties().values(), declared)
            near = did_you_mean(name, known)
            there = ", ".join(sorted(known)) or "nothing"
            raise ConfigError(f"'{device.type_name}' is handed no '{name}'{near}; it takes: {there}")
        setattr(device, attribute, held)

    def _wires(self) -> list[Wire]:
        """The wires whose condition holds and whose ends are both there."""
        absent = ({part.name for part in self.board.parts} | self.board.removed) - set(self._there)
        return [
            wire
            for wire in self.board.wires
            if wire.start.part not in absent
            and wire.end.part not in absent
            and self.scope.holds(wire.when, wire.origin)
        ]


def handed(cls: type) -> set[str]:
    """The attributes that a device class declares without a value (`ram: Region`): what a board hands it."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.startswith("qom."):
            continue
        names |= {name for name in vars(base).get("__annotations__", ()) if not name.startswith("_")}
    return names


def links_of(found: Type) -> set[str]:
    """What a board may hand devices of a type in `links`; their bus it says otherwise."""
    names = link_names(found.properties.values(), handed(found.cls))
    return names - {p.name for p in found.properties.values() if p.kind != "link" or p.name == "bus"}


def link_names(properties: Iterable[Property], declared: Iterable[str]) -> set[str]:
    """What a board may hand a device, by the names that `links` uses: link properties and declared attributes."""
    return {p.name for p in properties if p.kind == "link"} | {name.replace("_", "-") for name in declared}
