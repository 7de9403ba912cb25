"""Putting a board together: values worked out, memory laid, parts made and placed, lines connected.

One `Assembly` serves one machine while that is being realized.  What depends on what decides the order (a part needs
the part whose bus it sits on, and those it is handed), so the order in a file does not matter; where nothing decides,
it is the file's.  Everything taken is noted with the machine (`on_unrealize`, children), so that a board that cannot be
completed leaves nothing behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs

from qom.board.expressions import Expression, ExpressionError, Value
from qom.board.parts import ACCELERATOR, Board, BoardRegion, LinePlace, Part, Wire, parse_use
from qom.errors import ConfigError, QomError, did_you_mean
from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.hw.irq import Line, or_line
from qom.hw.isa import ISA_IRQS, IsaBus
from qom.hw.memory import Region
from qom.options import at, placed
from qom.properties import Property, inner_name

if TYPE_CHECKING:
    from qom.board.machine import BoardMachine

__all__ = ["Assembly", "bus_at"]

_PROPERTY: Final = {"serial": "chardev", "debugcon": "chardev", "drive": "drive", "cdrom": "drive"}


@attrs.frozen
class _Asked:
    """Something the configuration asks for: its back end, and where it was said."""

    backend: Any
    origin: str
    text: str


class Assembly:
    """The board of `machine` while it is put together.

    regions: the regions made so far, by name.
    """

    def __init__(self, machine: BoardMachine, board: Board) -> None:
        self.machine = machine
        self.board = board
        self.regions: dict[str, Region] = {}
        accel: Any = machine.accel
        self.roles: dict[str, str] = accel.chip_types() if accel is not None else {}
        self._values: dict[str, Value] = {}
        self._pending: list[str] = []  # values and region sizes being worked out
        self._images: dict[str, bytes] = {}
        self._asked = self._what_is_asked()
        self._there: dict[str, Part] = {}
        self._regions: dict[str, BoardRegion] = {}
        self._mapped: set[str] = set()

    # -- values

    def look(self, name: str) -> Value:
        """The value of a name in an expression: of the board, of a region's size, of the accelerator, a property."""
        known = self._values.get(name)
        if known is not None:
            return known
        expression = self.board.values.get(name)
        if expression is None:
            return self._look_further(name)
        if name in self._pending:
            raise ExpressionError(f"'{name}' depends on itself: {' -> '.join([*self._pending, name])}")
        self._pending.append(name)
        try:
            with placed(self.board.origins.get(name, "")):
                self._values[name] = value = expression.value(self.look)
        finally:
            self._pending.pop()
        return value

    def _look_further(self, name: str) -> Value:
        if name.startswith("accel.") and name[6:] in self.roles:
            return self.roles[name[6:]]
        if name.endswith(".size") and name[:-5] in self._regions:
            return self.size(self._regions[name[:-5]])
        prop = self.machine.properties().get(name)
        if prop is None:
            raise ExpressionError(f"there is no '{name}'{did_you_mean(name, self.names())}")
        value = self.machine.get(name)
        if not isinstance(value, int | str):
            raise ExpressionError(f"'{name}' is a {prop.type}: expected an integer, a switch or a string")
        return value

    def names(self) -> set[str]:
        """Every name that an expression of this board may use."""
        properties = {p.name for p in self.machine.properties().values() if p.kind not in ("link", "child", "alias", "list", "dict")}  # fmt: skip  # noqa: E501
        sizes = {f"{region.name}.size" for region in self.board.regions}
        return {*self.board.values, *sizes, *(f"accel.{role}" for role in self.roles), *properties}

    def _holds(self, condition: Expression | None, origin: str) -> bool:
        if condition is None:
            return True
        with placed(origin, "when"):
            return condition.holds(self.look)

    # -- the whole

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
        for name, region in self._regions.items():
            if region.at is not None and name not in self._mapped:
                raise self._no_container(region)
        self.connect(self.board.wires)

    def select(self) -> None:
        """Decide which regions and parts are there, and check what the board requires.

        Raises:
            ConfigError: a requirement does not hold, two parts of a name are there, or something asked for has no place.
        """
        for region in self.board.regions:
            if self._holds(region.when, region.origin):
                if region.name in self._regions:
                    raise self._twice("region", region.name, self._regions[region.name].origin, region.origin)
                self._regions[region.name] = region
        self.check_requirements()
        used: set[tuple[str, int]] = set()
        for part in self.board.parts:
            if not self._holds(part.when, part.origin):
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
            if use not in used:
                raise ConfigError(no_place(self.board, self.machine.type_name, use, asked.text), asked.origin)

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
                if item.that.holds(self.look):
                    continue
                facts = ", ".join(self._fact(name) for name in item.that.names)
            raise ConfigError(f"{machine.path}: {facts}: {item.text}" if facts else f"{machine.path}: {item.text}", self._said(item.that.names) or item.origin)  # fmt: skip  # noqa: E501

    def _fact(self, name: str) -> str:
        prop = self.machine.properties().get(name)
        unit = f" {prop.unit}" if prop is not None and prop.unit and name not in self.board.values else ""
        return f"{name} is {self.look(name)}{unit}"

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
            elif target != ACCELERATOR and target not in self._regions:
                where = at(at(part.origin, "links"), link)
                raise ConfigError(f"part '{part.name}': link '{link}': {self._absent(target)}", where)

    def _absent(self, name: str) -> str:
        """Why there is no part of that name."""
        if name in self.board.removed:
            return f"the part '{name}' was taken out"
        if any(part.name == name for part in self.board.parts):
            return f"the part '{name}' is not there in this configuration"
        return f"there is no part '{name}'{did_you_mean(name, (*self._there, *self._regions))}"

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

    # -- memory

    def size(self, region: BoardRegion) -> int:
        """The size of a region in bytes."""
        made = self.regions.get(region.name)
        if made is not None:
            return made.size
        if region.size is None:
            return len(self.image(region))
        key = f"{region.name}.size"
        if key in self._pending:
            raise ExpressionError(f"'{key}' depends on itself: {' -> '.join([*self._pending, key])}")
        self._pending.append(key)
        try:
            with placed(region.origin, "size"):
                return region.size.number(self.look)
        finally:
            self._pending.pop()

    def image(self, region: BoardRegion) -> bytes:
        """What a ROM holds; read once."""
        if region.name not in self._images:
            self._images[region.name] = self._checked_image(region)
        return self._images[region.name]

    def _checked_image(self, region: BoardRegion) -> bytes:
        data = self.machine.image(region)
        if region.granule is not None:
            with placed(region.origin, "granule"):
                granule = region.granule.number(self.look)
            if not data or (granule > 0 and len(data) % granule):
                text = f"region '{region.name}': its image has {len(data)} bytes: expected a multiple of {granule}"
                raise ConfigError(text, self.machine.image_origin(region))
        return data

    def lay_memory(self) -> None:
        """Make every region, and put those that lie in system memory, in ports or in one another where they belong."""
        for region in self._regions.values():
            self.make(region)
        for region in self._regions.values():
            self._map(region)

    def make(self, region: BoardRegion) -> Region:
        """Make one region (and what it shows); it lies nowhere yet."""
        known = self.regions.get(region.name)
        if known is not None:
            return known
        machine = self.machine
        with placed(region.origin):
            size = self.size(region)
            if size <= 0:
                raise ConfigError(
                    f"region '{region.name}': its size is {size}: expected at least 1", at(region.origin, "size")
                )
            if region.kind == "alias":
                made = self._alias(region, size)
            elif region.kind == "container":
                made = Region.container(region.name, size, owner=machine)
            else:
                if region.kind == "ram":
                    made = Region.ram(region.name, size, owner=machine)
                else:
                    data = self.image(region)
                    if len(data) > size:
                        text = f"region '{region.name}': its image has {len(data)} bytes: expected at most {size}"
                        raise ConfigError(text, machine.image_origin(region))
                    made = Region.rom(region.name, data, size, owner=machine)
                assert made.ram_block is not None
                machine.on_unrealize(made.ram_block.close)
        self.regions[region.name] = made
        return made

    def _alias(self, region: BoardRegion, size: int) -> Region:
        target = self._regions.get(region.of or "")
        if target is None:
            near = did_you_mean(region.of or "", self._regions)
            raise ConfigError(
                f"region '{region.name}': there is no region '{region.of}'{near}", at(region.origin, "of")
            )
        if self._leads_to(target, region.name):
            raise ConfigError(f"region '{region.name}' is an alias of itself", at(region.origin, "of"))
        shown = self.make(target)
        offset = self._number(region.offset, region, "offset", size) if region.offset is not None else 0
        if offset < 0 or offset + size > shown.size:
            raise ConfigError(
                f"region '{region.name}' shows {offset:#x}..{offset + size - 1:#x} of '{shown.name}', which has"
                f" {shown.size:#x} bytes",
                at(region.origin, "offset"),
            )
        return Region.alias(region.name, shown, offset, size, readonly=region.readonly, owner=self.machine)

    def _leads_to(self, region: BoardRegion | None, name: str) -> bool:
        seen: set[str] = set()
        while region is not None and region.name not in seen:
            if region.name == name:
                return True
            seen.add(region.name)
            region = self._regions.get(region.of or "") if region.kind == "alias" else None
        return False

    def _number(self, expression: Expression, region: BoardRegion, key: str, size: int) -> int:
        with placed(region.origin, key):
            return expression.number(lambda name: size if name == "size" else self.look(name))

    def _map(self, region: BoardRegion) -> None:
        """Put a region where it lies, if that is there yet."""
        if region.at is None or region.name in self._mapped:
            return
        container = self._container(region)
        if container is None:
            return
        made = self.regions[region.name]
        offset = self._number(region.at, region, "at", made.size)
        if offset < 0 or offset + made.size > container.size:
            raise ConfigError(
                f"region '{region.name}' would lie at {offset:#x}..{offset + made.size - 1:#x}: expected within"
                f" '{container.name}', 0..{container.size - 1:#x}",
                at(region.origin, "at"),
            )
        with placed(region.origin):
            self.machine.map(container, offset, made, region.priority)
        self._mapped.add(region.name)

    def _container(self, region: BoardRegion) -> Region | None:
        """What a region lies in; None while it is not there."""
        place, bus = region.inside, self.machine.system_bus
        if place in ("memory", "io"):
            return bus.memory if place == "memory" else bus.io
        if place in self._regions:
            return self.regions[place]
        part_name, _, attribute = place.partition(".")
        part = self.machine.children().get(part_name)
        if not isinstance(part, Device) or not part.realized:
            return None
        found = getattr(part, inner_name(attribute), None) if attribute and not attribute.startswith("_") else None
        if not isinstance(found, Region):
            there = ", ".join(sorted(name.replace("_", "-") for name, held in vars(part).items() if isinstance(held, Region) and not name.startswith("_")))  # fmt: skip  # noqa: E501
            raise ConfigError(
                f"region '{region.name}': {part.path} makes no region '{attribute}'; it makes: {there or 'none'}",
                at(region.origin, "in"),
            )
        return found

    def _no_container(self, region: BoardRegion) -> ConfigError:
        name = region.inside.partition(".")[0]
        known = ("memory", "io", *self._regions, *self._there)
        text = f"region '{region.name}': 'in' cannot be {region.inside!r}: {self._absent(name)}"
        hint = "" if did_you_mean(name, (*self._there, *self._regions)) else did_you_mean(name, known)
        return ConfigError(f"{text}{hint}", at(region.origin, "in"))

    # -- parts

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
                device.set(name, expression.value(self.look))
        for name, target in part.links.items():
            with placed(at(at(part.origin, "links"), name)):
                self._hand(device, name, target)
        with placed(asked.origin if asked is not None else ""):
            if asked is not None:
                device.set(_PROPERTY[parse_use(str(part.use))[0]], asked.backend)
            with placed(at(part.origin, "bus")):
                bus = bus_at(machine, part.bus)
            with placed("" if asked is not None else part.origin):
                device.plug(bus)
                device.set("realized", True)
        for region in self._regions.values():
            if region.inside.partition(".")[0] == part.name and region.name in self.regions:
                self._map(region)
        return device

    def _new(self, part: Part) -> Device:
        with placed(part.origin, "type"):
            try:
                name = part.type.format(**self.roles)
            except (KeyError, ValueError, IndexError):
                roles = ", ".join(f"{{{role}}}" for role in self.roles)
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
            held = self.regions[target] if target in self.regions else self.make(self._regions[target])
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

    # -- what the configuration asks for

    def _what_is_asked(self) -> dict[tuple[str, int], _Asked]:
        vm = self.machine.vm
        config = vm.config
        origins = {entry.id: entry.origin for entry in config.chardevs}
        asked: dict[tuple[str, int], _Asked] = {}
        chardevs = vm.root.container("/chardevs")
        for n, id in enumerate(config.serials):
            if id is not None and id in chardevs.children():
                asked["serial", n] = _Asked(chardevs.child(id), origins.get(id, ""), f"serial port {n}")
        if config.debugcon is not None:
            asked["debugcon", 0] = _Asked(chardevs.child(config.debugcon), origins.get(config.debugcon, ""), "debugcon")
        drives = vm.root.container("/drives")
        for drive in config.drives:
            if drive.interface == "ide" and drive.index is not None:
                what = "cdrom" if drive.media == "cdrom" else "drive"
                asked[what, drive.index] = _Asked(drives.child(drive.id), drive.origin, f"drive '{drive.id}'")
        return asked

    # -- lines

    def connect(self, wires: Iterable[Wire]) -> None:
        """Connect the wires whose condition holds and whose ends both exist.

        Several outputs on one input are wired-OR.

        Raises:
            ConfigError: a wire names a part or a line that the board does not have; it names the wire's place.
        """
        known = {part.name for part in self.board.parts} | self.board.removed
        absent = known - set(self._there)
        wires = [wire for wire in wires if wire.start.part not in absent and wire.end.part not in absent]
        wires = [wire for wire in wires if self._holds(wire.when, wire.origin)]
        taken: dict[LinePlace, int] = {}
        for wire in wires:
            taken[wire.end] = taken.get(wire.end, 0) + 1
        shared: dict[LinePlace, Any] = {}
        bus_lines: dict[str, dict[int, Line]] = {}
        for wire in wires:
            with placed(wire.origin), _said_by(wire):
                line = self._device(wire.end.part).line_in(wire.end.line, wire.end.n)
                if taken[wire.end] > 1:
                    if wire.end not in shared:
                        shared[wire.end] = or_line(line)
                    line = shared[wire.end].new_input(str(wire.start))
                start = wire.start
                if start.bus is not None:
                    if start.n >= ISA_IRQS:
                        raise ConfigError(f"there is no interrupt line {start.n}: expected 0..{ISA_IRQS - 1}")
                    bus = bus_at(self.machine, start.bus)
                    if not isinstance(bus, IsaBus):
                        raise ConfigError(f"{bus.path} is a {bus.type_name}, which has no interrupt lines")
                    bus_lines.setdefault(start.bus, {})[start.n] = line
                else:
                    self._connect(wire, line)
        for place, lines in bus_lines.items():
            bus = bus_at(self.machine, place)
            assert isinstance(bus, IsaBus)
            bus.connect_irqs([lines.get(n, Line(_nowhere, n)) for n in range(ISA_IRQS)])

    def _connect(self, wire: Wire, line: Line) -> None:
        source, target = self._device(wire.start.part), self._device(wire.end.part)
        source.connect_out(wire.start.line, wire.start.n, line)
        # Whoever asks for an interrupt by this line is asked for its vector: the two go together on every processor.
        takes: Any = getattr(target, "connect_controller", None)
        if takes is not None and hasattr(source, "get_interrupt"):
            takes(wire.end.line, source)

    def _device(self, name: str) -> Device:
        part = self.machine.children().get(name)
        if not isinstance(part, Device):
            known = [child.name for child in self.machine.children().values() if isinstance(child, Device)]
            raise ConfigError(f"{self.machine.path} has no part '{name}'{did_you_mean(name, [str(n) for n in known])}")
        return part


class _said_by:
    """Puts the wire in front of what goes wrong with it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, QomError):
            raise ConfigError(f"wire {self.wire.source} -> {self.wire.target}: {error}") from error


def _nowhere(n: int, level: int) -> None:
    """Where a bus line leads that no wire connects."""


def handed(cls: type) -> set[str]:
    """The attributes that a device class declares without a value (`ram: Region`): what a board hands it."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.startswith("qom."):
            continue
        names |= {name for name in inspect.get_annotations(base) if not name.startswith("_")}
    return names


def link_names(properties: Iterable[Property], declared: Iterable[str]) -> set[str]:
    """What a board may hand a device, by the names that `links` uses: link properties and declared attributes."""
    return {p.name for p in properties if p.kind == "link"} | {name.replace("_", "-") for name in declared}


def bus_at(machine: Any, place: str) -> Bus:
    """The bus at a place.

    Raises:
        ConfigError: no part or no bus of that name; the text lists the buses there are.
    """
    if place == "system":
        return machine.system_bus  # type: ignore[no-any-return]
    part_name, _, bus_name = place.partition(".")
    part = machine.children().get(part_name)
    if part is None:
        raise ConfigError(f"bus {place!r}: {machine.path} has no part {part_name!r}")
    bus = part.children().get(bus_name)
    if not isinstance(bus, Bus):
        there = ", ".join(sorted(name for name, child in part.children().items() if isinstance(child, Bus)))
        raise ConfigError(f"bus {place!r}: {part.path} has no bus {bus_name!r}; it has: {there or 'none'}")
    return bus


def no_place(board: Board, type_name: str, use: tuple[str, int], text: str) -> str:
    """What to say when a configuration asks for something that the board has no place for.

    Args:
        board: the board.
        type_name: the machine's.
        use: what is asked for, and which one, as `parse_use` gives it.
        text: what it is to be called.
    """
    what, n = use
    known = {parse_use(part.use) for part in board.parts if part.use is not None}
    there = sorted(number for kind, number in known if kind == what)
    if there:
        numbers = ", ".join(map(str, there))
        return f"{text}: {type_name} has {len(there)} of them: expected {what} {numbers}, not {n}"
    if what == "cdrom" and any(kind == "drive" for kind, _ in known):
        return f"{text}: media=cdrom: {type_name} has places for disks only"
    names = {"serial": "serial ports", "drive": "disk controller", "cdrom": "disk controller", "debugcon": "debug port"}
    return f"{text}: {type_name} has no {names[what]}"
