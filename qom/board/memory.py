"""A board's memory map: regions made from what the board says, and put where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.board.expressions import Expression
from qom.board.parts import BoardRegion
from qom.board.scope import Scope
from qom.errors import ConfigError, did_you_mean
from qom.hw.device import Device
from qom.hw.memory import Region
from qom.options import at, placed
from qom.properties import inner_name

if TYPE_CHECKING:
    from qom.board.machine import BoardMachine

__all__ = ["MemoryMap"]


class MemoryMap:
    """The regions of one machine.

    chosen: what the board says of those that are there, by name; whoever decides fills it.  regions: those made so far.
    """

    def __init__(self, machine: BoardMachine, scope: Scope) -> None:
        self.machine, self.scope = machine, scope
        self.chosen: dict[str, BoardRegion] = {}
        self.regions: dict[str, Region] = {}
        self._images: dict[str, bytes] = {}
        self._mapped: set[str] = set()
        scope.size_of = self._size_of

    def _size_of(self, name: str) -> int | None:
        region = self.chosen.get(name)
        return None if region is None else self.size(region)

    def size(self, region: BoardRegion) -> int:
        """The size of a region in bytes."""
        made = self.regions.get(region.name)
        if made is not None:
            return made.size
        if region.size is None:
            return len(self.image(region))
        expression = region.size
        with placed(region.origin, "size"):
            return int(self.scope.once(f"{region.name}.size", lambda: expression.number(self.scope.look)))

    def image(self, region: BoardRegion) -> bytes:
        """What a ROM holds; read once."""
        if region.name not in self._images:
            self._images[region.name] = self._checked_image(region)
        return self._images[region.name]

    def _checked_image(self, region: BoardRegion) -> bytes:
        data = self.machine.image(region)
        if region.granule is not None:
            with placed(region.origin, "granule"):
                granule = region.granule.number(self.scope.look)
            if not data or (granule > 0 and len(data) % granule):
                text = f"region '{region.name}': its image has {len(data)} bytes: expected a multiple of {granule}"
                raise ConfigError(text, self.machine.image_origin(region))
        return data

    def lay(self) -> None:
        """Make every region, and put those that lie in system memory, in ports or in one another where they belong."""
        for region in self.chosen.values():
            self.make(region)
        for region in self.chosen.values():
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
        target = self.chosen.get(region.of or "")
        if target is None:
            near = did_you_mean(region.of or "", self.chosen)
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
            region = self.chosen.get(region.of or "") if region.kind == "alias" else None
        return False

    def _number(self, expression: Expression, region: BoardRegion, key: str, size: int) -> int:
        with placed(region.origin, key):
            return expression.number(lambda name: size if name == "size" else self.scope.look(name))

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
        if place in self.chosen:
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

    def place_in(self, part: str) -> None:
        """A part is there: put the regions that lie in it where they belong."""
        for region in self.chosen.values():
            if region.inside.partition(".")[0] == part and region.name in self.regions:
                self._map(region)

    def homeless(self) -> list[BoardRegion]:
        """The regions that lie in something which is not there."""
        return [region for name, region in self.chosen.items() if region.at is not None and name not in self._mapped]
