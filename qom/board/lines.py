"""A board's wires: outputs connected to inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qom.board.parts import LinePlace, Wire
from qom.errors import ConfigError, QomError, did_you_mean
from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.hw.irq import Line, SharedLine, or_line
from qom.hw.isa import ISA_IRQS, IsaBus
from qom.options import placed

if TYPE_CHECKING:
    from qom.board.machine import BoardMachine

__all__ = ["bus_at", "connect"]


def connect(machine: BoardMachine, wires: Sequence[Wire]) -> None:
    """Connect wires; several outputs on one input are wired-OR.

    Raises:
        ConfigError: a wire names a part or a line that the board does not have; it names the wire's place.
    """
    sources: dict[LinePlace, int] = {}
    for wire in wires:
        sources[wire.end] = sources.get(wire.end, 0) + 1
    shared: dict[LinePlace, SharedLine] = {}
    bus_lines: dict[str, dict[int, Line]] = {}
    for wire in wires:
        with _said_by(wire):
            line = _device(machine, wire.end.part).line_in(wire.end.line, wire.end.n)
            if sources[wire.end] > 1:
                if wire.end not in shared:
                    shared[wire.end] = or_line(line)
                line = shared[wire.end].new_input(str(wire.start))
            if wire.start.bus is not None:
                _isa_bus(machine, wire.start)
                bus_lines.setdefault(wire.start.bus, {})[wire.start.n] = line
            else:
                _connect(machine, wire, line)
    for place, lines in bus_lines.items():
        bus: Any = bus_at(machine, place)
        bus.connect_irqs([lines.get(n, Line(_nowhere, n)) for n in range(ISA_IRQS)])


def _isa_bus(machine: BoardMachine, start: LinePlace) -> None:
    """Raise ConfigError unless there is such a bus with such a line."""
    if start.n >= ISA_IRQS:
        raise ConfigError(f"there is no interrupt line {start.n}: expected 0..{ISA_IRQS - 1}")
    bus = bus_at(machine, str(start.bus))
    if not isinstance(bus, IsaBus):
        raise ConfigError(f"{bus.path} is a {bus.type_name}, which has no interrupt lines")


def _connect(machine: BoardMachine, wire: Wire, line: Line) -> None:
    source, target = _device(machine, wire.start.part), _device(machine, wire.end.part)
    source.connect_out(wire.start.line, wire.start.n, line)
    # Whoever asks for an interrupt by this line is asked for its vector: the two go together on every processor.
    takes: Any = getattr(target, "connect_controller", None)
    if takes is not None and hasattr(source, "get_interrupt"):
        takes(wire.end.line, source)


def _device(machine: BoardMachine, name: str) -> Device:
    part = machine.children().get(name)
    if not isinstance(part, Device):
        known = [str(child.name) for child in machine.children().values() if isinstance(child, Device)]
        raise ConfigError(f"{machine.path} has no part '{name}'{did_you_mean(name, known)}")
    return part


@contextmanager
def _said_by(wire: Wire) -> Iterator[None]:
    """Put the wire and its place in front of what goes wrong with it."""
    with placed(wire.origin):
        try:
            yield
        except QomError as error:
            raise ConfigError(f"wire {wire.source} -> {wire.target}: {error}") from error


def _nowhere(n: int, level: int) -> None:
    """Where a bus line leads that no wire connects."""


def bus_at(machine: BoardMachine, place: str) -> Bus:
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
