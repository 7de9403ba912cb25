"""Interrupt and signal lines.

A `Line` is the receiving end: something that may be set to a level.  A `Pin` is the driving end on a device: it may be
connected to a line, and drives nothing while it is not.  Whether a level or an edge matters is the receiver's decision,
so a line passes on every `set`, also one that does not change the level (a controller that was reset in between wants
it). A `SharedLine` lets several sources drive one line, as wired-OR.

Caller of everything here: whoever holds the machine lock.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NoReturn, Protocol

from qom import records
from qom.blame import passes
from qom.hw.fault import DeviceFault, Fault

if TYPE_CHECKING:
    from qom.object import Object

LineHandler = Callable[[int, int], None]
"""handler(n, level): line number `n` of the receiver goes to `level` (0, 1, or a wider value where both ends agree)."""


class HasPath(Protocol):
    """Who owns a line: only its canonical path is asked for, and only to report a fault."""

    @property
    def path(self) -> str: ...  # noqa: D102 -- protocol


class Line:
    """One input: `handler(n, level)` is called on every `set`.

    That is `receiver`, unless an observer stands in front of it (probe.py).
    """

    __slots__ = ("handler", "level", "n", "name", "owner", "receiver")

    def __init__(self, handler: LineHandler, n: int = 0, name: str = "", owner: HasPath | None = None) -> None:
        self.handler = self.receiver = handler
        self.n = n
        self.name = name
        self.owner = owner  # the receiver, to be named when its handler raises
        self.level = 0

    def set(self, level: int) -> None:
        """Drive the line to `level` and tell the receiver."""
        self.level = level
        try:
            self.handler(self.n, level)
        except BaseException as error:
            self._blame(error)

    def raise_(self) -> None:
        """Drive the line to 1."""
        self.set(1)

    def lower(self) -> None:
        """Drive the line to 0."""
        self.set(0)

    def pulse(self) -> None:
        """Drive the line to 1 and back to 0."""
        self.set(1)
        self.set(0)

    def set_receiver(self, receiver: LineHandler) -> None:
        """Tell somebody else from now on; observers stay in front."""
        if self.handler == self.receiver:
            self.handler = receiver
        self.receiver = receiver

    def _blame(self, error: BaseException) -> NoReturn:
        owner = self.owner
        if owner is None or isinstance(error, Fault) or passes(error):
            raise error
        doing = f"input {self.name}[{self.n}] going to {self.level}"
        raise DeviceFault(owner.path, error, doing=doing, owner=owner) from error

    @property
    def joined(self) -> Line | None:
        """Of an input of a shared line: the line that it drives.  None for any other."""
        shared = getattr(self.receiver, "__self__", None)
        return shared.output if isinstance(shared, SharedLine) else None

    def __repr__(self) -> str:
        return f"<Line {self.name or '?'}[{self.n}] level={self.level}>"


class Pin:
    """One output of a device: drives the line it is connected to, or nothing."""

    __slots__ = ("level", "line", "n", "name")

    def __init__(self, name: str = "", n: int = 0) -> None:
        self.name = name
        self.n = n
        self.level = 0
        self.line: Line | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a line at the other end."""
        return self.line is not None

    def connect(self, line: Line | None) -> None:
        """Drive `line` from now on (None: nothing); a level already held is passed on, the old line is released."""
        old, self.line = self.line, line
        if self.level:
            if old is not None:
                old.set(0)
            if line is not None:
                line.set(self.level)

    def set(self, level: int) -> None:
        """Drive the pin to `level`."""
        self.level = level
        line = self.line
        if line is not None:
            line.set(level)

    def raise_(self) -> None:
        """Drive the pin to 1."""
        self.set(1)

    def lower(self) -> None:
        """Drive the pin to 0."""
        self.set(0)

    def pulse(self) -> None:
        """Drive the pin to 1 and back to 0."""
        self.set(1)
        self.set(0)

    def __repr__(self) -> str:
        return f"<Pin {self.name or '?'}[{self.n}] level={self.level} -> {self.line!r}>"


class SharedLine:
    """Wired-OR of any number of sources onto one line.

    Each source asks for an input of its own.  The output goes to 1 with the first raised input and back to 0 with the
    last one lowered.  A source that sets a level it already holds is passed on too while the output has that level, so
    that the receiver's view never depends on who else is on the line.
    """

    __slots__ = ("_free", "_output", "_raised", "inputs", "name", "sources")

    def __init__(self, output: Line | None = None, name: str = "") -> None:
        self._output = output
        self._raised: set[int] = set()
        self.inputs: dict[int, Line] = {}
        self._free: list[int] = []  # a heap of the numbers taken back
        self.sources: dict[int, Object] = {}
        """Who asked for an input, by its number, where it was said."""
        self.name = name

    @property
    def level(self) -> int:
        """The wired-OR of all inputs."""
        return 1 if self._raised else 0

    @property
    def output(self) -> Line | None:
        """The line it drives."""
        return self._output

    def connect(self, output: Line | None) -> None:
        """Drive `output` from now on; a level already held is passed on, the old output is released."""
        old, self._output = self._output, output
        if self._raised:
            if old is not None:
                old.set(0)
            if output is not None:
                output.set(1)

    def new_input(self, name: str = "", source: Object | None = None) -> Line:
        """A new source's end of the line; `source` is who drives it, for those who look at the wiring."""
        n = heappop(self._free) if self._free else len(self.inputs)
        line = Line(self._set, n, name or self.name)
        self.inputs[n] = line
        if source is not None:
            self.sources[n] = source
        return line

    def release(self, line: Line) -> None:
        """Take back an input given by `new_input`; it counts as lowered and drives nothing any more."""
        if self.inputs.get(line.n) is not line:
            return
        if line.n in self._raised:
            line.set(0)
        del self.inputs[line.n]
        heappush(self._free, line.n)
        self.sources.pop(line.n, None)
        line.set_receiver(nowhere)

    def _set(self, n: int, level: int) -> None:
        raised = self._raised
        if level:
            raised.add(n)
        else:
            raised.discard(n)
            if raised:
                return  # another source still holds the line
        output = self._output
        if output is not None:
            output.set(1 if level else 0)


@records.frozen
class Route:
    """How a device passes on what it receives, where no wire shows it: for those who look at the wiring.

    source: the input meant; None for all of them, or for what the device does by itself.
    target: an output of the same device, a line, or the object that is told in another way.
    note: how it is told, such as "messages".
    """

    source: Line | None
    target: Line | Pin | Object
    note: str = ""


def nowhere(n: int, level: int) -> None:
    """Handler of a line that was taken back."""


def or_line(line: Line) -> SharedLine:
    """A wired-OR in front of `line`; call `.new_input()` once for each source."""
    return SharedLine(line, line.name)
