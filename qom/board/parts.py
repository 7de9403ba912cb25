"""What a board is made of: parts, wires, regions, processors, values and requirements, as records.

Places are written as text, so that a file can say them:

* a bus: `system`, or `<part>.<bus name>` such as `pcihost.pci.0`, found among the part's children;
* a line: `<part>.<line>[<n>]` for a named line, `<part>[<n>]` for an unnamed one; `[<n>]` may be left out for n = 0;
* as a source only, an ISA bus's interrupt line: `<bus>:irq[<n>]`;
* a piece of the memory map lies in `memory` or `io`, in a container region by its name, or in a region that a part
  makes: `<part>.<attribute>` such as `pcihost.pci-memory`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from qom import records
from qom.board.expressions import Expression
from qom.config.parts import SINGLE, USES
from qom.errors import ConfigError

__all__ = ["ACCELERATOR", "Board", "BoardCpus", "BoardRegion", "Part", "Requirement", "Wire", "parse_line"]

ACCELERATOR: Final = "accelerator"
"""As a link's target: the machine's accelerator."""

_LINE = re.compile(r"(?P<part>[^.\[\]:]+)(?:\.(?P<line>[^\[\]:]+))?(?:\[(?P<n>\d{1,4})\])?")
_USE = re.compile(r"(?P<what>[a-z]+)(?:\[(?P<n>\d{1,3})\])?")


def _expression(value: Expression | str | None) -> Expression | None:
    return Expression(value) if isinstance(value, str) else value


def _expressions(values: Mapping[str, Expression | str]) -> dict[str, Expression]:
    return {name: Expression(value) if isinstance(value, str) else value for name, value in values.items()}


@records.frozen
class Part:
    """One part of a board.

    Attributes:
        name: its name in the composition tree, `/machine/<name>`.
        type: type name, or `{role}` for a type that the accelerator chooses (`{pic}`, `{ioapic}`, `{apic}`).
        bus: the place of its bus; `system` for parts of the board itself.
        props: properties to set, by their outside names.
        links: what it is handed: a link property, or an attribute of the class, that names another part, a region of
            the board, or the accelerator.
        values: properties set to what an expression over the board's values gives.
        when: the condition under which the part is there; None for always.
        use: what the configuration must ask for, for the part to be there: `serial[n]`, `parallel[n]`, `drive[n]`,
            `cdrom[n]`, `floppy[n]`, `debugcon`, `vga`.  It is then given the back end, if there is one, as its property
            `chardev` or `drive`.
        origin: where it was written.
    """

    name: str
    type: str
    bus: str = "system"
    props: Mapping[str, Any] = records.field(factory=dict)
    links: Mapping[str, str] = records.field(factory=dict)
    values: Mapping[str, Expression] = records.field(factory=dict, converter=_expressions)
    when: Expression | None = records.field(default=None, converter=_expression)
    use: str | None = None
    origin: str = records.field(default="", eq=False)


@records.frozen
class LinePlace:
    """One end of a wire: `part`, its line's name (None: unnamed), number; `bus` for an interrupt line of a bus."""

    part: str
    line: str | None
    n: int
    bus: str | None = None

    def __str__(self) -> str:
        if self.bus is not None:
            return f"{self.bus}:{self.line}[{self.n}]"
        return f"{self.part}.{self.line}[{self.n}]" if self.line else f"{self.part}[{self.n}]"


def parse_line(text: str, *, source: bool = False) -> LinePlace:
    """Take a line's place apart; `source`: a bus's interrupt line may be meant.

    Raises:
        ConfigError: the text is not of the form `part.line[n]`.
    """
    place, colon, bus_line = text.partition(":")
    if colon and source:
        match = re.fullmatch(r"irq(?:\[(\d{1,4})\])?", bus_line)
        if match is not None and place:
            return LinePlace(place.partition(".")[0], "irq", int(match[1] or 0), place)
        raise ConfigError(f"line {text!r}: expected <bus>:irq[<n>]")
    match = _LINE.fullmatch(text)
    if match is None:
        raise ConfigError(f"line {text!r}: expected <part>.<line>[<n>] or <part>[<n>]")
    return LinePlace(match["part"], match["line"], int(match["n"] or 0))


@records.frozen
class Wire:
    """A connection from an output line to an input line, there while its condition holds.

    Raises:
        ConfigError: an end is not written as a line's place is.
    """

    source: str
    target: str
    when: Expression | None = records.field(default=None, converter=_expression)
    origin: str = records.field(default="", eq=False)
    start: LinePlace = records.field(init=False, repr=False)
    end: LinePlace = records.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        vars(self).update(start=parse_line(self.source, source=True), end=parse_line(self.target))


@records.frozen
class BoardRegion:
    """A piece of the memory map.

    Attributes:
        name: its name; others refer to it by that, and to its size as `<name>.size`.
        kind: "ram", "rom", "alias" (a window on `of` from `offset` on) or "container".
        inside: where it lies: `memory`, `io`, a container's name, or `<part>.<attribute>`.
        at: its offset there; None: it lies nowhere by itself.  `size` in it is its own size.
        size: in bytes; None for a ROM as long as its image.
        of: the name of the region an alias shows.
        offset: of an alias, where in that region it begins.
        priority: among regions that overlap, the higher one is seen.
        readonly: an alias drops writes.
        file: of a ROM, the image.
        property: of a ROM, the property of the machine that may name another image.
        sha256: what the image in `file` has as its digest, in hexadecimal.
        granule: what the length of an image must be a multiple of, in bytes.
        when: the condition under which it is there.
        origin: where it was written.
    """

    name: str
    kind: str
    inside: str = "memory"
    at: Expression | None = records.field(default=None, converter=_expression)
    size: Expression | None = records.field(default=None, converter=_expression)
    of: str | None = None
    offset: Expression | None = records.field(default=None, converter=_expression)
    priority: int = 0
    readonly: bool = False
    file: Path | None = None
    property: str | None = None
    sha256: str | None = None
    granule: Expression | None = records.field(default=None, converter=_expression)
    when: Expression | None = records.field(default=None, converter=_expression)
    origin: str = records.field(default="", eq=False)


@records.frozen
class BoardCpus:
    """How processors are made.

    Attributes:
        of: the type that processor types derive from; `-cpu MODEL` is the type `MODEL-<of>`.
        name: a processor's name in the composition tree; `{index}` in it is its number.
        apic_bus: the part through which local APICs talk; None for processors without one.
        fixed: `-cpu` is refused.
        origin: where it was written.
    """

    of: str = "x86_64-cpu"
    name: str = "cpu{index}"
    apic_bus: str | None = None
    fixed: bool = False
    origin: str = records.field(default="", eq=False)


@records.frozen
class Requirement:
    """A condition that must hold, and what to say when it does not."""

    that: Expression
    text: str
    origin: str = records.field(default="", eq=False)


@records.frozen
class Board:
    """A whole board.

    Attributes:
        parts: in the order in which they are made, where none needs another.
        wires: those whose ends both exist are connected.
        regions: the memory map.
        values: names for expressions, which may refer to one another.
        requirements: checked before anything is made.
        cpus: how processors are made; None for a board without.
        removed: parts that were taken out: wires to them are left out, too.
        origins: where each of the values was written.
    """

    parts: tuple[Part, ...] = ()
    wires: tuple[Wire, ...] = ()
    regions: tuple[BoardRegion, ...] = ()
    values: Mapping[str, Expression] = records.field(factory=dict, converter=_expressions)
    requirements: tuple[Requirement, ...] = ()
    cpus: BoardCpus | None = None
    removed: frozenset[str] = frozenset()
    origins: Mapping[str, str] = records.field(factory=dict, eq=False)


EMPTY: Final = Board()
"""A board with nothing on it: what a board that extends none begins with."""


def parse_use(text: str) -> tuple[str, int]:
    """What `for = "serial[1]"` means: the kind of thing asked for, and its number.

    Raises:
        ConfigError: there is no such kind.
    """
    match = _USE.fullmatch(text)
    if match is None or match["what"] not in USES or (match["what"] in SINGLE and match["n"] is not None):
        known = ", ".join(f"{use}[N]" for use in USES if use not in SINGLE)
        raise ConfigError(f"'for' cannot be {text!r}: expected {known}, {' or '.join(SINGLE)}")
    return match["what"], int(match["n"] or 0)
