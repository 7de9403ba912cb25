"""The vocabulary boards are written in: parts, places, wires.

A board is data.  `Part` says which type sits on which bus under which name with which properties; `Wire` says which
output drives which input.  `assemble` makes the parts in the order given, realizes each, then connects the wires.

Places are written as text, so that a file can say them too:

* a bus: `system`, or `<part>.<bus name>` such as `pcihost.pci.0`, found among the part's children;
* a line: `<part>.<line>[<n>]` for a named line, `<part>[<n>]` for an unnamed one; `[<n>]` may be left out for n = 0;
* as a source only, an ISA bus's interrupt line: `<bus>:irq[<n>]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from qom.errors import ConfigError
from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.hw.irq import Line
from qom.hw.isa import ISA_IRQS, IsaBus
from qom.vm.machine import Machine

__all__ = ["Part", "Wire", "add_part", "assemble", "find_bus", "parse_line"]


@attrs.frozen
class Part:
    """One part of a board.

    Attributes:
        name: its name in the composition tree, `/machine/<name>`.
        type: type name, or `{role}` for a type that the accelerator chooses (`{pic}`, `{ioapic}`, `{apic}`).
        bus: the place of its bus; `system` for parts of the board itself.
        props: properties to set, by their outside names.
        links: properties that name another part.
        when: name of a boolean machine property that must be on for the part to be there; None for always.
    """

    name: str
    type: str
    bus: str = "system"
    props: Mapping[str, Any] = attrs.field(factory=dict)
    links: Mapping[str, str] = attrs.field(factory=dict)
    when: str | None = None


@attrs.frozen
class Wire:
    """A connection from an output line to an input line."""

    source: str
    target: str


_LINE = re.compile(r"(?P<part>[^.\[\]]+)(?:\.(?P<line>[^\[\]]+))?(?:\[(?P<n>\d+)\])?")


def parse_line(text: str) -> tuple[str, str | None, int]:
    """Split a line's place into part, line name (None: unnamed) and number.

    Raises:
        ConfigError: the text is not of the form `part.line[n]`.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        raise ConfigError(f"line {text!r}: expected <part>.<line>[<n>] or <part>[<n>]")
    return match["part"], match["line"], int(match["n"] or 0)


def find_bus(machine: Machine, place: str) -> Bus:
    """The bus at a place.

    Raises:
        ConfigError: no part or no bus of that name; the text lists the buses there are.
    """
    if place == "system":
        return machine.system_bus
    part_name, _, bus_name = place.partition(".")
    part = machine.children().get(part_name)
    if part is None:
        raise ConfigError(f"bus {place!r}: {machine.path} has no part {part_name!r}")
    bus = part.children().get(bus_name)
    if not isinstance(bus, Bus):
        there = ", ".join(sorted(name for name, child in part.children().items() if isinstance(child, Bus)))
        raise ConfigError(f"bus {place!r}: {part.path} has no bus {bus_name!r}; it has: {there or 'none'}")
    return bus


def _part(machine: Machine, name: str, said_by: str) -> Device:
    part = machine.children().get(name)
    if not isinstance(part, Device):
        raise ConfigError(f"{said_by}: {machine.path} has no part {name!r}")
    return part


def assemble(
    machine: Machine,
    parts: Iterable[Part],
    wires: Iterable[Wire],
    roles: Mapping[str, str],
    handed: Mapping[str, Mapping[str, object]],
) -> None:
    """Make, place and realize the parts in order, then connect the wires.

    Args:
        machine: the board; parts become its children.
        parts: in the order in which they are to be realized.
        wires: those whose ends both exist are connected; an end at a part that `when` left out is skipped.
        roles: what `{role}` stands for.
        handed: by part name, what a part is handed as plain attributes before it is realized (RAM, a bus of messages).

    Raises:
        ConfigError: a wire or a place names something the board does not have.
        RealizeError: a part cannot be realized.
    """
    absent: set[str] = set()
    for part in parts:
        if part.when is not None and not machine.get(part.when):
            absent.add(part.name)
            continue
        add_part(machine, part, roles, handed.get(part.name, {}))
    bus_lines: dict[str, dict[int, Line]] = {}
    for wire in wires:
        target_name, target_line, target_n = parse_line(wire.target)
        place, _, bus_line = wire.source.partition(":")
        source_name, source_line, source_n = parse_line(bus_line or wire.source)
        if (place.partition(".")[0] if bus_line else source_name) in absent or target_name in absent:
            continue
        said_by = f"wire {wire.source} -> {wire.target}"
        line = _part(machine, target_name, said_by).line_in(target_line, target_n)
        if bus_line:
            bus_lines.setdefault(place, {})[source_n] = line
        else:
            _part(machine, source_name, said_by).connect_out(source_line, source_n, line)
    for place, lines in bus_lines.items():
        bus = find_bus(machine, place)
        if not isinstance(bus, IsaBus):
            raise ConfigError(f"wire from {place}:irq: {bus.path} is a {bus.type_name}, which has no interrupt lines")
        bus.connect_irqs([lines.get(n, Line(_nowhere, n)) for n in range(ISA_IRQS)])


def _nowhere(n: int, level: int) -> None:
    """Where a bus line leads that no wire connects."""


def add_part(machine: Machine, part: Part, roles: Mapping[str, str], handed: Mapping[str, object]) -> Device:
    """Make one part, place it and realize it."""
    device = machine.registry.new(part.type.format(**roles))
    if not isinstance(device, Device):
        raise ConfigError(f"part {part.name!r}: {part.type} is not a device type")
    machine.add_child(part.name, device)
    for name, value in part.props.items():
        device.set(name, value)
    for name, target in part.links.items():
        device.set(name, _part(machine, target, f"part {part.name!r}, link {name!r}"))
    for attribute, value in handed.items():
        setattr(device, attribute, value)
    device.plug(find_bus(machine, part.bus))
    device.set("realized", True)
    return device
