"""The interrupt wiring: which output drives which input, over which bus line, down to the processor.

`wires` reads it from what is there: connected pins, ISA interrupt lines and who asked for them, PCI interrupt pins and
where the bus takes them, and what devices say they pass on (`Device.routes`).  Nothing is known by name here, so a board
nobody has heard of is shown as well as `pc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import attrs

from qom.hw.device import Device
from qom.hw.irq import Line, Pin
from qom.hw.isa import IsaBus
from qom.hw.pci import PciDevice
from qom.hw.pci_bus import PciBus
from qom.object import Object

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["Wire", "WireEnd", "wires", "wiring_text"]

Kind = Literal["line", "isa", "pci", "told", "inside"]


@attrs.frozen
class WireEnd:
    """One end of a wire: the object, the name of its line ("" for an unnamed one), and which of those.

    n is None where lines are not numbered: an object that is told in another way than by a line.
    """

    object: Object = attrs.field(eq=lambda o: o.path)
    name: str = ""
    n: int | None = None

    @property
    def text(self) -> str:
        """The line in words: "board[9]", "[4]", "INTA#"; "" for the object as a whole."""
        return self.name if self.n is None else f"{self.name}[{self.n}]"


@attrs.frozen
class Wire:
    """A connection.

    kind: "line", a pin that drives an input; "isa", a source on an ISA interrupt line; "pci", an interrupt pin on a PCI
    bus; "told", by a message or a call instead of a line; "inside", from an input of a device to an output of the same one.
    note: for what is told, how.
    """

    source: WireEnd
    target: WireEnd
    kind: Kind
    note: str = ""


def wires(vm: VirtualMachine) -> list[Wire]:
    """Every wire of the machine, in the order of the composition tree."""
    ends: dict[int, WireEnd] = {}
    shared: set[int] = set()  # bus-line inputs that a pin drives: the pin says more than the bus knows
    objects = list(vm.root.walk())
    for obj in objects:
        if isinstance(obj, Device):
            for name, inputs in obj.lines().items():
                ends.update((id(line), WireEnd(obj, name, line.n)) for line in inputs)
            shared |= {id(pin.line) for pins in obj.pins().values() for pin in pins if pin.line is not None}
        if isinstance(obj, IsaBus):
            for n, one in enumerate(obj.irq_lines):
                ends.update((id(line), WireEnd(obj, "irq", n)) for line in one.inputs.values())
    found: list[Wire] = []
    for obj in objects:
        if isinstance(obj, Device):
            found += _of_device(obj, ends)
        elif isinstance(obj, IsaBus):
            found += _of_isa(obj, ends, shared)
        elif isinstance(obj, PciBus):
            found += _of_pci(obj, ends)
    return found


def _end(line: Line | None, ends: dict[int, WireEnd]) -> WireEnd | None:
    """Where a line leads; through a wired-OR, to what that drives."""
    while line is not None and id(line) not in ends:
        line = line.joined
    return None if line is None else ends[id(line)]


def _of_device(device: Device, ends: dict[int, WireEnd]) -> Iterator[Wire]:
    for name, pins in device.pins().items():
        for pin in pins:
            end = _end(pin.line, ends)
            if end is not None:
                yield Wire(WireEnd(device, name, pin.n), end, "line")
    own = {id(pin): WireEnd(device, name, pin.n) for name, pins in device.pins().items() for pin in pins}
    for route in device.routes():
        source = ends[id(route.source)] if route.source is not None else WireEnd(device)
        target = route.target
        if isinstance(target, Object):
            yield Wire(source, WireEnd(target), "told", route.note)
        elif isinstance(target, Pin) and id(target) in own:
            yield Wire(source, own[id(target)], "inside", route.note)
        elif isinstance(target, Line) and id(target) in ends:
            yield Wire(source, ends[id(target)], "inside", route.note)


def _of_isa(bus: IsaBus, ends: dict[int, WireEnd], shared: set[int]) -> Iterator[Wire]:
    for n, line in enumerate(bus.irq_lines):
        for k, source in line.sources.items():
            if id(line.inputs[k]) not in shared:
                yield Wire(WireEnd(source, "irq", n), WireEnd(bus, "irq", n), "isa")
        end = _end(line.output, ends)
        if end is not None:
            yield Wire(WireEnd(bus, "irq", n), end, "line")


def _of_pci(bus: PciBus, ends: dict[int, WireEnd]) -> Iterator[Wire]:
    for number in sorted(bus.functions):
        device: PciDevice = bus.functions[number]
        if device.interrupt_pin and bus.irq_lines:
            n = bus.irq_number(device.slot, device.pin)
            yield Wire(WireEnd(device, f"INT{'ABCD'[device.pin]}#"), WireEnd(bus, "line", n), "pci")
    for n, line in enumerate(bus.irq_lines):
        if id(line) in ends:
            yield Wire(WireEnd(bus, "line", n), ends[id(line)], "line")


# As text


def wiring_text(vm: VirtualMachine) -> str:
    """Every wire, by what drives it, neighbours joined ("pic[8-15]"); then each source traced to its controllers."""
    all_wires = wires(vm)
    lines: list[str] = []
    by_source: dict[str, list[Wire]] = {}
    for wire in all_wires:
        if wire.kind != "inside":
            by_source.setdefault(wire.source.object.path, []).append(wire)
    for path, own in by_source.items():
        if lines:
            lines.append("")
        lines.append(f"{path} ({own[0].source.object.type_name})")
        for first, last in _runs(own):
            note = f" ({first.note})" if first.note else ""
            ends = f"{first.target.object.path} {_span(first.target, last.target)}".rstrip()
            lines.append(f"  {_span(first.source, last.source) or '*'} -> {ends}{note}")
    if traced := list(_traced(all_wires)):
        lines += ["", "From each source on:", *traced]
    return "\n".join(lines) if lines else "This machine has no interrupt wiring."


def _runs(own: list[Wire]) -> Iterator[tuple[Wire, Wire]]:
    """First and last of each run of wires that count up together between the same two objects."""
    first = last = None
    for wire in own:
        if first is not None and last is not None and _continues(last, wire):
            last = wire
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = wire
    if first is not None and last is not None:
        yield first, last


def _continues(last: Wire, wire: Wire) -> bool:
    def next_end(a: WireEnd, b: WireEnd) -> bool:
        return a.object is b.object and a.name == b.name and a.n is not None and b.n == a.n + 1

    return next_end(last.source, wire.source) and next_end(last.target, wire.target) and last.note == wire.note


def _span(first: WireEnd, last: WireEnd) -> str:
    return first.text if first.n == last.n else f"{first.name}[{first.n}-{last.n}]"


def _traced(all_wires: list[Wire]) -> Iterator[str]:
    """A line a source: over which inputs it goes, up to a controller, where it becomes one of many."""
    onward: dict[WireEnd, list[Wire]] = {}
    for wire in all_wires:
        onward.setdefault(wire.source, []).append(wire)
    relays = {wire.target.object.path for wire in all_wires if wire.kind != "inside"}

    def text(end: WireEnd, seen: frozenset[WireEnd]) -> str:
        """`end`, and where a level there goes on to; outputs on the way are left out, the inputs say enough."""
        ways = [] if end in seen or end.n is None else onward.get(end, [])
        following = [
            text(further.target, seen | {end})
            for wire in ways
            for further in (onward.get(wire.target, []) if wire.kind == "inside" and _is_output(wire) else [wire])
        ]
        head = f"{end.object.path} {end.text}".rstrip()
        return f"{head} > {', '.join(following)}" if following else head

    for wire in all_wires:
        if wire.kind == "pci" or (wire.kind in ("line", "isa") and wire.source.object.path not in relays):
            yield f"  {wire.source.object.path} {wire.source.text} > {text(wire.target, frozenset({wire.source}))}"


def _is_output(wire: Wire) -> bool:
    return wire.target.object is wire.source.object
