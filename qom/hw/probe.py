"""Observation and interference: what an observer is told, and what it may do to it.

A machine's `observe` (qom/vm/observe.py) takes callbacks.  Each gets one record, with the machine lock held, on the thread
on which it happens:

    exits      `Exit`        a vCPU left the guest for user space
    accesses   `Access`      a port or memory access reached an address space, by the guest or by a device (DMA)
    lines      `LineChange`  somebody drives an interrupt or signal line
    lifecycle  `LifeStep`    an object is created, configured, realized, reset, unrealized; the run state changes

Moment.  What is written (or driven, or asked for) is told before it takes effect, what is read after the device has
answered.  `before=True` tells a read before the device is asked: `value` is then None, and an observer that sets it
answers in the device's place.

Changing.  An observer may set `value` (`level` of a line): the device, or the guest, gets that one.  It may raise
`Fail`: a read gives all ones, a write is dropped, a line keeps what it had, a realize fails, a reset is left out, an
unrealize or a change of the run state is refused, an exit that is no access stops the machine as one that nobody serves.
`Fail` when a step has happened already ("realized", "unrealized", "finalized") changes nothing.  Every observer is told,
in the order in which they came, also after one of them changed or failed it; `failed` then has the text.  One that only
wants to see what comes of it in the end is added with `after_others=True`.

Errors.  Any other exception is the observer's own fault: an `ObserverFault` with its line stops that machine, no other.

What an observer itself does (reading a port, driving a line in its callback) is told to nobody.

Cost.  Nothing, while nobody listens: accesses are wrapped when they are resolved (`AddressSpace.reader`), lines where
their handler is kept, exits by a loop of its own that a vCPU chooses when it enters; adding or removing an observer
only makes those be resolved anew.  Somebody who listens to one device costs the others nothing.

Not told: the guest's accesses to RAM (they cause no exit, unless a range is watched with `ram=True`), PCI configuration
space other than through its two ports, interrupts that an accelerator delivers inside.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from qom.blame import passes
from qom.hw.fault import ObserverFault

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace, Reader, Writer
    from qom.hw.irq import Line

Space = Literal["io", "memory"]
TOP: Final = (1 << 64) - 1


class Fail(Exception):
    """Raised by an observer: what it was told of fails; the text says why, for logs and reports."""


class Access:
    """A port or memory access.

    space: "io" or "memory".  address: its first byte.  size: in bytes; more than 8 only for DMA.  value: little-endian;
    None as long as a read has no answer.  cpu: the processor on whose thread it happens, None elsewhere.  device: the
    owner of what answers, None for nothing or a region nobody owns.  region: its name ("" for nothing).  offset: of the
    access in it.  failed: why an observer made it fail, None when none did.
    """

    __slots__ = ("address", "cpu", "device", "failed", "is_write", "offset", "region", "size", "space", "value")

    def __init__(
        self,
        space: Space,
        address: int,
        size: int,
        is_write: bool,
        value: int | None,
        *,
        cpu: Any = None,
        device: Any = None,
        region: str = "",
        offset: int = 0,
    ) -> None:
        self.space: Space = space
        self.address = address
        self.size = size
        self.is_write = is_write
        self.value = value
        self.cpu = cpu
        self.device = device
        self.region = region
        self.offset = offset
        self.failed: str | None = None

    @property
    def data(self) -> bytes:
        """The value as bytes; empty as long as a read has no answer."""
        return b"" if self.value is None else self.value.to_bytes(self.size, "little")

    def __str__(self) -> str:
        what = "port" if self.space == "io" else "address"
        return f"{self.size}-byte {'write to' if self.is_write else 'read from'} {what} {self.address:#x}"


class Exit:
    """A vCPU left the guest.

    cpu: the processor.  reason, name: the exit reason by KVM's number and name.  address, size, is_write, value: of a
    port or memory access (None for any other exit).  string: REP INS or OUTS, `count` accesses at one port and no value.
    failed: why an observer made it fail.
    """

    __slots__ = ("address", "count", "cpu", "failed", "is_write", "name", "reason", "size", "string", "value")

    def __init__(
        self,
        cpu: Any,
        reason: int,
        name: str,
        address: int | None = None,
        size: int = 0,
        is_write: bool = False,
        value: int | None = None,
        *,
        string: bool = False,
        count: int = 1,
    ) -> None:
        self.cpu = cpu
        self.reason = reason
        self.name = name
        self.address = address
        self.size = size
        self.is_write = is_write
        self.value = value
        self.string = string
        self.count = count
        self.failed: str | None = None

    def __str__(self) -> str:
        if self.address is None:
            return self.name
        return f"{self.name} {'write' if self.is_write else 'read'} {self.address:#x} size {self.size}"


class LineChange:
    """Somebody drives a line.

    device, name, n: whose line it is, under which name and number; `direction` is "in" for an input of the device, "out"
    for a line that the device drives.  level: what the receiver is told.  failed: why an observer held it back.
    """

    __slots__ = ("device", "direction", "failed", "level", "line", "n", "name")

    def __init__(self, line: Line, device: Any, direction: str, name: str, n: int, level: int) -> None:
        self.line = line
        self.device = device
        self.direction = direction
        self.name = name
        self.n = n
        self.level = level
        self.failed: str | None = None

    def deliver(self, level: int) -> None:
        """Tell the receiver a level, now or later (machine lock held), past the observers: for a line that was failed."""
        self.line.receiver(self.line.n, level)

    def __str__(self) -> str:
        return f"line {self.name or 'unnamed'}[{self.n}] of {getattr(self.device, 'path', '?')} to {self.level}"


class LifeStep:
    """A step in the life of an object or of the machine.

    what: "created", "configured", "realize" (about to be), "realized", "reset" (about to be), "unrealize" (about to be),
    "unrealized", "finalized", or "run-state", whose `detail` is the state to come.  object: what it happens to; a machine
    for "run-state".  failed: why an observer made it fail.
    """

    __slots__ = ("detail", "failed", "object", "what")

    def __init__(self, what: str, object: Any, detail: str = "") -> None:
        self.what = what
        self.object = object
        self.detail = detail
        self.failed: str | None = None

    def __str__(self) -> str:
        return f"'{self.what}' of {getattr(self.object, 'path', self.object)}"


class PropertySet:
    """A property was set; `object` has its new value, `name` is the property's."""

    __slots__ = ("name", "object")

    def __init__(self, object: Any, name: str) -> None:
        self.object = object
        self.name = name

    def __str__(self) -> str:
        return f"property '{self.name}' of {getattr(self.object, 'path', self.object)}"


class Observation:
    """What adding an observer gives: `close()`, or leaving its `with`, ends it.  Closing twice is allowed."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close: Callable[[], object] | None = close

    def close(self) -> None:
        """Tell the observer nothing more."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def __enter__(self) -> Observation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Telling:
    """Whether an observer of a machine is being told something; what it does meanwhile is told to nobody."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


def tell(telling: Telling, callback: Callable[[Any], object], record: Any) -> None:
    """Tell one observer; its `Fail` is noted in the record, anything else it raises is an `ObserverFault`."""
    telling.on = True
    try:
        callback(record)
    except Fail as error:
        record.failed = str(error) or "failed by an observer"
    except BaseException as error:
        if passes(error):
            raise
        raise ObserverFault(callback, error, str(record)) from error
    finally:
        telling.on = False


def whole(callback: Callable[..., object], record: Any, value: Any) -> int:
    """What an observer left in `value` or `level`, which has to be a whole number."""
    if isinstance(value, int):
        return value
    wrong = TypeError(f"it left {value!r} where a whole number was expected")
    raise ObserverFault(callback, wrong, str(record)) from wrong


class AccessWatch:
    """One observer of accesses, and which it wants."""

    __slots__ = ("after_others", "before", "callback", "first", "last", "reads", "wanted", "writes")

    def __init__(
        self,
        callback: Callable[[Access], object],
        first: int = 0,
        last: int = TOP,
        *,
        reads: bool = True,
        writes: bool = True,
        wanted: Callable[[Any], bool] | None = None,
        before: bool = False,
        after_others: bool = False,
    ) -> None:
        self.after_others = after_others
        self.callback = callback
        self.first = first
        self.last = last
        self.reads = reads
        self.writes = writes
        self.wanted = wanted  # asked with the owner of what answers
        self.before = before

    def wants(self, address: int, size: int, is_write: bool, owner: Any) -> bool:
        """Whether the observer is told of an access."""
        if not (self.writes if is_write else self.reads) or address > self.last or address + size <= self.first:
            return False
        return self.wanted is None or self.wanted(owner)


class AccessProbe:
    """The observers of one address space; in `AddressSpace.probe` while there are any."""

    def __init__(self, space: AddressSpace, kind: Space, this_cpu: Callable[[], Any], telling: Telling) -> None:
        self.space = space
        self.kind: Space = kind
        self._this_cpu = this_cpu
        self.watches: tuple[AccessWatch, ...] = ()
        self._telling = telling

    def add(self, watch: AccessWatch) -> None:
        """Tell `watch` from the next access on."""
        self.watches = tuple(sorted((*self.watches, watch), key=lambda w: w.after_others))
        self.space.probe = self
        self.space.flush()

    def remove(self, watch: AccessWatch) -> None:
        """Tell it nothing more."""
        self.watches = tuple(w for w in self.watches if w is not watch)
        self.space.probe = self if self.watches else None
        self.space.flush()

    def concerns(self, address: int, size: int, is_write: bool) -> bool:
        """Whether any observer wants an access."""
        return not self._telling.on and bool(self._of(address, size, is_write)[0])

    def _of(self, address: int, size: int, is_write: bool) -> tuple[list[AccessWatch], Any, str, int]:
        found = self.space.lookup(address)
        region = found.region if found is not None else None
        owner = region.owner if region is not None else None
        offset = address - found.start + found.offset if found is not None else 0
        wanted = [w for w in self.watches if w.wants(address, size, is_write, owner)]
        return wanted, owner, region.name if region is not None else "", offset

    def reader(self, address: int, size: int, plain: Reader) -> Reader:
        """The resolved read, with the observers who want it in front."""
        wanted, device, region, offset = self._of(address, size, False)
        if not wanted:
            return plain
        mask = (1 << size * 8) - 1

        def observed() -> int:
            if self._telling.on:
                return plain()
            cpu = self._this_cpu()
            access = Access(self.kind, address, size, False, None, cpu=cpu, device=device, region=region, offset=offset)
            return self._read(access, wanted, plain, mask)

        return observed

    def writer(self, address: int, size: int, plain: Writer) -> Writer:
        """The resolved write, with the observers who want it in front."""
        wanted, device, region, offset = self._of(address, size, True)
        if not wanted:
            return plain
        mask = (1 << size * 8) - 1

        def observed(value: int) -> object:
            if self._telling.on:
                return plain(value)
            cpu = self._this_cpu()
            access = Access(
                self.kind, address, size, True, value & mask, cpu=cpu, device=device, region=region, offset=offset
            )
            self._tell(access, wanted)
            if access.failed is not None:
                return None
            return plain(whole(wanted[-1].callback, access, access.value) & mask)

        return observed

    def read_bytes(self, address: int, length: int, plain: Callable[[int, int], bytes]) -> bytes:
        """A read of any length, as DMA does them."""
        wanted, device, region, offset = self._of(address, length, False)
        cpu = self._this_cpu()
        access = Access(self.kind, address, length, False, None, cpu=cpu, device=device, region=region, offset=offset)
        mask = (1 << length * 8) - 1
        value = self._read(access, wanted, lambda: int.from_bytes(plain(address, length), "little"), mask)
        return value.to_bytes(length, "little")

    def write_bytes(self, address: int, data: bytes, plain: Callable[[int, bytes], object]) -> None:
        """A write of any length, likewise."""
        length = len(data)
        wanted, device, region, offset = self._of(address, length, True)
        value, cpu = int.from_bytes(data, "little"), self._this_cpu()
        access = Access(self.kind, address, length, True, value, cpu=cpu, device=device, region=region, offset=offset)
        self._tell(access, wanted)
        if access.failed is None:
            left = whole(wanted[-1].callback, access, access.value) & ((1 << length * 8) - 1)
            plain(address, data if left == value else left.to_bytes(length, "little"))

    def _read(self, access: Access, wanted: list[AccessWatch], plain: Reader, mask: int) -> int:
        self._tell(access, [w for w in wanted if w.before])
        if access.value is None:
            access.value = plain()
        self._tell(access, [w for w in wanted if not w.before])
        return whole(wanted[-1].callback, access, access.value) & mask

    def _tell(self, access: Access, watches: list[AccessWatch]) -> None:
        for watch in watches:
            tell(self._telling, watch.callback, access)
            if access.failed is not None and not access.is_write:
                access.value = (1 << access.size * 8) - 1


class ExitProbe:
    """The observers of exits; the vCPU loop tells them."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self.early: tuple[Callable[[Exit], object], ...] = ()
        self.late: tuple[Callable[[Exit], object], ...] = ()
        self.latest: tuple[Callable[[Exit], object], ...] = ()

    def serve(self, exit: Exit, plain: Callable[[Exit], int]) -> int:
        """Have an exit served by `plain`, observed: the value of a read, or what `plain` gave.

        An exit that was failed goes to `plain`, too, which sees `exit.failed`.
        """
        if exit.address is None or exit.is_write or exit.string:
            self._tell(exit, (*self.early, *self.late, *self.latest))
            return plain(exit)
        self._tell(exit, self.early)
        mask = (1 << exit.size * 8) - 1
        if exit.value is None:
            exit.value = plain(exit)
            if exit.value < 0:
                return exit.value  # nobody serves it: the loop ends
        self._tell(exit, (*self.late, *self.latest))
        last = (*self.early, *self.late, *self.latest)[-1:]
        return whole(last[0] if last else plain, exit, exit.value) & mask

    def _tell(self, exit: Exit, callbacks: tuple[Callable[[Exit], object], ...]) -> None:
        for callback in callbacks:
            tell(self._telling, callback, exit)
            if exit.failed is not None and exit.address is not None and not exit.is_write and not exit.string:
                exit.value = (1 << exit.size * 8) - 1


class LineTap:
    """What stands in front of one line's receiver while somebody listens."""

    def __init__(self, line: Line, telling: Telling) -> None:
        self.line = line
        self._telling = telling
        self.listeners: list[tuple[bool, Callable[[LineChange], object], Any, str, str, int, object]] = []
        """(whether after all others, callback, device, direction, name, number, whose entry it is)"""
        line.handler = self.drive

    def drive(self, n: int, level: int) -> None:
        """The line is driven: tell the observers, then (perhaps) the receiver."""
        if self._telling.on:
            self.line.receiver(n, level)
            return
        failed: str | None = None
        for _, callback, device, direction, name, number, _ in sorted(self.listeners, key=lambda entry: entry[0]):
            change = LineChange(self.line, device, direction, name, number, level)
            change.failed = failed
            tell(self._telling, callback, change)
            level, failed = whole(callback, change, change.level), change.failed
        if failed is None:
            self.line.receiver(n, level)

    def remove(self) -> None:
        """Stand aside."""
        self.line.handler = self.line.receiver


class MachineProbe:
    """Who listens to exits and to the life cycle; in `TypeRegistry.probe` while anybody does."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling
        self.exits: ExitProbe | None = None
        self.steps: tuple[Callable[[LifeStep], object], ...] = ()
        self.last_steps: tuple[Callable[[LifeStep], object], ...] = ()
        self.sets: tuple[Callable[[PropertySet], object], ...] = ()
        self.deaf = False  # the machine is being closed: nothing can be failed any more

    def step(self, what: str, object: Any, detail: str = "") -> str | None:
        """Tell of a life-cycle step; the text of a `Fail`, or None."""
        if self._telling.on:
            return None
        step = LifeStep(what, object, detail)
        for callback in (*self.steps, *self.last_steps):
            tell(self._telling, callback, step)
        return None if self.deaf else step.failed

    def property_set(self, object: Any, name: str) -> None:
        """Tell that a property was set."""
        if self.sets and not self._telling.on:
            told = PropertySet(object, name)
            for callback in self.sets:
                tell(self._telling, callback, told)
