"""Devices: objects that are realized, take part in reset, and own lines, regions and timers.

`realized` is the property that makes a device part of the machine; `device_set_realized` is its setter, and the only
way. A device overrides `realize`, and everything it takes there it takes through what it was handed (its slot on the
bus, its clock) or notes with `on_unrealize`; when realize fails, or when the device is unrealized, all of it is given
back in reverse order: devices on its buses, children made in realize, then regions, ports, lines and timers.  So a
failed realize leaves nothing behind, and few devices need an `unrealize` of their own.

A device is handed when it is plugged: `clock`, `dma` (the address space it masters), `system`, and its slot on the bus.

Locking: everything here with the machine lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from qom.blame import blame, passes, shown
from qom.errors import LifecycleError, QomError, RealizeError
from qom.hw.clock import Clock, HasPath, Timer, TimerCallback
from qom.hw.fault import DeviceFault, Fault
from qom.hw.irq import Line, LineHandler, Pin, Route
from qom.hw.memory import Region
from qom.hw.reset import Reset, Resettable, reset_tree
from qom.lifecycle import Life, check_move, move
from qom.object import Object
from qom.properties import link, prop
from qom.registry import type_init

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace
    from qom.hw.bus import Bus
    from qom.hw.system import SystemControl

Undo = Callable[[], object]


def device_set_realized(device: Device, value: bool) -> None:
    """Setter of `realized`: put the device into the machine, or take it out again."""
    if value == device.realized:
        return
    if not value:
        _check_hotplug(device, "removed")
        unrealize_device(device)
        return
    if device._realizing:
        raise LifecycleError(f"{device.path}: cannot be realized from within its own realize")
    _check_hotplug(device, "added")
    realize_device(device)
    if _machine_runs(device):
        reset_tree(device, Reset.COLD)


def realize_device(device: Device) -> None:
    """Realize a device, whatever the rules of hotplug say; all or nothing.

    Raises:
        QomError: it cannot be realized as configured, or its code raised.
    """
    before = device._mark()
    device._handed = tuple(before[1] - device.type.template.keys())
    device._realizing = True
    probe = device.registry.probe
    try:
        if probe is not None:
            failed = probe.step("realize", device)
            if failed is not None:
                raise RealizeError(f"{device.path}: realize failed: {failed}")
        device.prepare()
        device.realize()
        device._made = [name for name in device.children() if name not in before[0]]
        move(device, Life.REALIZED)
    except BaseException as error:
        try:
            device._roll_back(before)
        except LifecycleError as second:
            error.add_note(str(second))
        if isinstance(error, QomError) or passes(error):
            raise
        raise RealizeError(f"{device.path}: realize failed: {shown(error)}{blame(device, error)}") from error
    finally:
        device._realizing = False
    device.__dict__["realized"] = True
    if probe is not None:
        probe.step("realized", device)


def unrealize_device(device: Device) -> None:
    """Unrealize a device, whatever the rules of hotplug say.

    Raises:
        LifecycleError: an observer refused it, and nothing happened.
        QomError: its code, or that of a device below it, raised; it is unrealized all the same.
    """
    check_move(device, Life.UNREALIZED)  # before anything is taken apart
    probe = device.registry.probe
    if probe is not None:
        failed = probe.step("unrealize", device)
        if failed is not None:
            raise LifecycleError(f"{device.path}: cannot be unrealized: {failed}")
    device._unrealizing = True
    failures: list[QomError] = []
    try:
        for bus in device.buses():
            for other in reversed(bus.devices):
                try:
                    other.set("realized", False)
                except QomError as error:
                    failures.append(error)
        try:
            device.unrealize()
        except BaseException as error:
            if passes(error):
                raise
            failures.append(
                error if isinstance(error, Fault) else DeviceFault(device.path, error, doing="unrealize", owner=device)
            )
        try:
            device._give_back()
        except QomError as error:
            failures.append(error)
        move(device, Life.UNREALIZED)
        device.__dict__["realized"] = False
    finally:
        device._unrealizing = False
    if probe is not None:
        probe.step("unrealized", device)
    if failures:
        raise failures[0]


def _machine_of(device: Device) -> Device | None:
    """The machine above the device, when there is one that is a device itself."""
    machine = device.top.children().get("machine")
    return machine if isinstance(machine, Device) else None


def _machine_runs(device: Device) -> bool:
    machine = _machine_of(device)
    if machine is None or machine is device or not machine.takes_hotplug_rules or machine._unrealizing:
        return False
    return not _inside_of_other(device)


def _inside_of_other(device: Device) -> bool:
    """Whether the device is a part of one that is being realized or unrealized itself."""
    above = device.parent
    while above is not None:
        if isinstance(above, Device) and (above._realizing or above._unrealizing):
            return True
        above = above.parent
    owner = device.bus.parent if device.bus is not None else None
    return isinstance(owner, Device) and (owner._realizing or owner._unrealizing or _inside_of_other(owner))


def _check_hotplug(device: Device, verb: str) -> None:
    if not device.hotpluggable and _machine_runs(device):
        raise LifecycleError(
            f"{device.path}: '{device.type_name}' cannot be {verb} while the machine exists: not hotpluggable"
        )
    bus = device.bus
    if bus is not None and not bus.hotplug and _machine_runs(device):
        raise LifecycleError(
            f"{device.path}: cannot be {verb} while the machine exists: bus {bus.path} allows no hotplug"
        )


class DeviceClock(Clock):
    """A machine's clock as one device sees it: its timers are known to be the device's and go when it is unrealized."""

    def __init__(self, base: Clock, device: Device) -> None:
        self.base = base
        self._device = device
        self.__dict__["now"] = base.now  # one call less for devices that read the time often
        self.timers: list[Timer] = []
        """Those the device has made since it was realized."""

    def now(self) -> int:
        """Guest nanoseconds."""
        return self.base.now()

    def timer(
        self, callback: TimerCallback, name: str = "", owner: HasPath | None = None, *, asleep: bool = False
    ) -> Timer:
        """A new timer, not armed; cancelled when the device is unrealized.  asleep: as for `Clock.timer`."""
        timer = self.base.timer(callback, name, owner or self._device, asleep=asleep)
        self.timers.append(timer)

        def give_back() -> None:
            timer.cancel()
            self.timers.remove(timer)

        self._device.on_unrealize(give_back)
        return timer

    def next_deadline(self) -> int | None:
        """When the next timer of the machine fires."""
        return self.base.next_deadline()

    def run_due(self) -> int:
        """Refused: time is the machine's business."""
        raise LifecycleError(f"{self._device.path}: a device cannot fire the machine's timers")


@type_init("device", abstract=True)
class Device(Object, Resettable):
    """Base of everything that is realized."""

    desc: ClassVar[str] = ""
    category: ClassVar[str] = "misc"
    bus_type: ClassVar[str | None] = None
    hotpluggable: ClassVar[bool] = False
    user_creatable: ClassVar[bool] = True
    needs_of_board: ClassVar[str] = ""
    """What it is of no use without, of what only some boards have ("fw_cfg"): a machine whose `offers` lacks it refuses it."""

    realized: bool = prop(
        False, "Whether the device is part of the machine", mutable=True, volatile=True, set=device_set_realized
    )
    bus: Bus | None = link("bus", "Bus the device sits on", strong=False)

    # Handed by the bus when the device is plugged
    clock: Clock
    dma: AddressSpace
    system: SystemControl

    instance_defaults: ClassVar[dict[str, Any]] = {"_realizing": False, "_unrealizing": False, "_plugged": None}
    _realizing: bool
    _unrealizing: bool
    _plugged: Bus | None
    _undo: dict[int, Undo]
    _undo_numbers: Iterator[int]
    _lines_in: dict[str, list[Line]]
    _pins: dict[str, list[Pin]]
    _handed_lines: list[tuple[str, int, Line]]
    _guest_errors: set[str]
    _made: list[str]  # children that realize added
    _handed: tuple[str, ...]  # attributes it had before realize that its type does not declare

    def instance_init(self) -> None:  # every class's instance_init is called in turn: no super() here or below
        """Prepare what every device keeps."""
        self._undo = {}
        self._undo_numbers = count()
        self._lines_in = {}
        self._pins = {}
        self._handed_lines = []
        self._guest_errors = set()
        self._made = []
        self._handed = ()

    @property
    def takes_hotplug_rules(self) -> bool:
        """Asked of a machine: whether what comes now comes by hotplug.  A machine under construction says no."""
        return self.realized

    # -- for subclasses to override

    def realize(self) -> None:
        """Take what the device needs: ports, memory, lines, timers.  May raise; then nothing of it remains."""

    def unrealize(self) -> None:
        """Let go of what is not given back by itself; must not raise."""

    def reset(self) -> None:
        """Go to the reset state: every declared state field gets its reset value.  Called in the hold phase."""
        self.reset_state()

    def state_loaded(self) -> None:
        """After saved state was loaded: redo what follows from it (mappings, timers); lines keep their levels."""

    def load_state(self, saved: dict[str, Any]) -> None:
        """Take over what `save_state` gave, then `state_loaded`."""
        super().load_state(saved)
        try:
            self.state_loaded()
        except Fault:
            raise
        except BaseException as error:
            if passes(error):
                raise
            raise DeviceFault(self.path, error, doing="loading its state", owner=self) from error

    def reset_hold(self, kind: Reset) -> None:
        """Second phase of a reset; calls `reset`."""
        self.reset()

    @property
    def takes_reset(self) -> bool:
        """Only a realized device is reset."""
        return self.realized

    # -- place

    def kept_place(self) -> dict[str, Any]:
        """Attributes that give the device the place again that it has now, for when its code is exchanged."""
        return {}

    def plug(self, bus: Bus) -> None:
        """Put the device on `bus`, which hands it its clock, memory and system; before it is realized."""
        if self._plugged is bus:
            return
        if self.life in (Life.REALIZED, Life.RUNNING):
            raise LifecycleError(f"{self.path}: cannot be moved to bus {bus.path} while it is {self.life.value}")
        bus.check_device(self)
        if self._plugged is not None:
            self._plugged.eject(self)
        self.set("bus", bus)
        bus.insert(self)
        self._plugged = bus
        self._hand_on()

    def unplug(self) -> None:
        """Take the device out of the machine: unrealized, off its bus, out of the tree."""
        self.leave()
        if self.parent is not None:
            self.unparent()

    def leave(self) -> None:
        """Before the device leaves the tree it is unrealized and leaves its bus."""
        if self.realized:
            self.set("realized", False)
        self._leave_bus()

    def finalize(self) -> None:
        """The device leaves its bus when it ceases to exist."""
        self._leave_bus()

    def prepare(self) -> None:
        """Check the configuration and take the place on the bus; the first step of realize."""
        bus = self.bus
        if bus is None:
            if self.bus_type is not None:
                raise RealizeError(f"{self.path}: no bus: '{self.type_name}' needs one of type '{self.bus_type}'")
        elif self._plugged is not bus:
            self.plug(bus)
        self.configure()
        if bus is not None:
            bus.attach(self)
            self.on_unrealize(lambda: bus.detach(self))

    def new_bus(self, type_name: str, name: str, **props: Any) -> Any:
        """Make a bus of this device, as its child `name`; it is handed what this device was handed."""
        bus = self.registry.new(type_name, **props)
        self.add_child(name, bus)
        self._hand_on()
        return bus

    def buses(self) -> list[Bus]:
        """The buses this device provides."""
        from qom.hw.bus import Bus

        return [child for child in self.children().values() if isinstance(child, Bus)]

    def _hand_on(self) -> None:
        for bus in self.buses():
            bus.take_services(self)

    def _leave_bus(self) -> None:
        bus, self._plugged = self._plugged, None
        if bus is not None:
            bus.eject(self)
            self.set("bus", None)

    # -- lines

    def gpio_in(self, name: str | None, count: int, handler: LineHandler) -> list[Line]:
        """Declare `count` inputs `name`: handler(n, level) is called when one is set.  Repeated calls add more."""
        lines = self._lines_in.setdefault(name or "", [])
        added = [Line(handler, len(lines) + i, self._line_name(name), self) for i in range(count)]
        lines += added
        if self._realizing:
            self.on_unrealize(lambda: _forget(self._lines_in, name or "", added))
        return added

    def gpio_out(self, name: str | None, count: int = 1) -> list[Pin]:
        """Declare `count` outputs `name`.  Repeated calls add more."""
        pins = self._pins.setdefault(name or "", [])
        added = [Pin(self._line_name(name), len(pins) + i) for i in range(count)]
        pins += added
        if self._realizing:
            self.on_unrealize(lambda: _forget(self._pins, name or "", added))
        return added

    def line_in(self, name: str | None = None, n: int = 0) -> Line:
        """Input `n` of those called `name`."""
        lines = self._lines_in.get(name or "", [])
        if not 0 <= n < len(lines):
            raise RealizeError(f"{self.path}: no input {_shown(name)}[{n}]: it has {_listed(self._lines_in)}")
        return lines[n]

    def pin_out(self, name: str | None = None, n: int = 0) -> Pin:
        """Output `n` of those called `name`."""
        pins = self._pins.get(name or "", [])
        if not 0 <= n < len(pins):
            raise RealizeError(f"{self.path}: no output {_shown(name)}[{n}]: it has {_listed(self._pins)}")
        return pins[n]

    def connect_out(self, name: str | None, n: int, line: Line | None) -> None:
        """Connect output `n` of those called `name` to `line`; a level already held is passed on."""
        self.pin_out(name, n).connect(line)

    def lines(self) -> dict[str, list[Line]]:
        """All inputs by name ("" for the unnamed ones)."""
        return dict(self._lines_in)

    def pins(self) -> dict[str, list[Pin]]:
        """All outputs by name ("" for the unnamed ones)."""
        return dict(self._pins)

    def routes(self) -> Iterable[Route]:
        """How the device passes on what it receives now, where no pin or line shows it; for those who look at the wiring."""
        return ()

    def drives(self, name: str, n: int, line: Line) -> None:
        """Note that the device was handed `line` to drive, as line `n` of those called `name`, until it is unrealized."""
        entry = (name, n, line)
        self._handed_lines.append(entry)
        self.on_unrealize(lambda: self._handed_lines.remove(entry))

    def handed_lines(self) -> list[tuple[str, int, Line]]:
        """The lines handed to the device to drive, as (name, number, line)."""
        return list(self._handed_lines)

    def input_table(self) -> dict[str, list[Line]]:
        """The inputs themselves, for who exchanges the device's code (`lines` gives a copy)."""
        return self._lines_in

    def outputs(self) -> list[tuple[str, int, Line]]:
        """What the device drives, as (name, number, line): lines handed to it, and what its outputs are connected to."""
        connected = [
            (name, pin.n, pin.line) for name, pins in self._pins.items() for pin in pins if pin.line is not None
        ]
        return [*self._handed_lines, *connected]

    def _line_name(self, name: str | None) -> str:
        return f"{self.type_name}:{name}" if name else self.type_name

    # -- what is taken and given back

    def on_unrealize(self, undo: Undo) -> int:
        """Call `undo()` when the device is unrealized (or its realize fails), in reverse order; returns its number."""
        number = next(self._undo_numbers)
        self._undo[number] = undo
        return number

    def forget_undo(self, number: int) -> None:
        """What `on_unrealize` noted under that number was undone already."""
        self._undo.pop(number, None)

    def map(self, container: Region, offset: int, region: Region, priority: int = 0) -> Region:
        """Put `region` into `container` until the device is unrealized, or `unmap`."""
        if region.owner is None:
            region.owner = self
        # Noted first: a listener that cannot follow the map (no memory slot left) raises out of add().
        self.on_unrealize(lambda: self.unmap(region) if region.parent is container else None)
        return container.add(offset, region, priority)

    def unmap(self, region: Region) -> None:
        """Take `region` out of wherever it is; harmless when it is nowhere."""
        if region.parent is not None:
            region.parent.remove(region)

    def guest_error(self, kind: str, text: str) -> None:
        """The guest did something wrong: log it, once for each `kind`."""
        if kind in self._guest_errors:
            return
        self._guest_errors.add(kind)
        system = getattr(self, "system", None)
        if system is not None:
            system.log("guest_errors", f"{self.path}: {text}")

    def _mark(self) -> tuple[set[str], set[str], Bus | None]:
        return set(self.children()), set(self.__dict__), self._plugged

    def _roll_back(self, before: tuple[set[str], set[str], Bus | None]) -> None:
        """After a failed realize: as if it had not been tried."""
        children, attributes, plugged = before
        self._made = [name for name in self.children() if name not in children]
        self._give_back()
        if self._plugged is not plugged and self._plugged is not None:
            self._plugged.eject(self)
            self._plugged = plugged
        for attr in set(self.__dict__) - attributes:
            del self.__dict__[attr]
        self.reset_state()

    def _give_back(self) -> None:
        """Undo, in reverse order, everything that was taken since realize began."""
        failures: list[BaseException] = []
        for child in reversed(list(self.children().values())):
            made = child.name in self._made
            try:
                _take_down(child)
                if made:
                    child.unparent()
            except BaseException as error:
                if passes(error):
                    raise
                failures.append(error)
        self._made = []
        while self._undo:
            _, undo = self._undo.popitem()
            try:
                undo()
            except BaseException as error:
                if passes(error):
                    raise
                failures.append(error)
        for pins in self._pins.values():
            for pin in pins:
                if pin.level:
                    try:
                        pin.set(0)
                    except BaseException as error:
                        if passes(error):
                            raise
                        failures.append(error)
        if failures:
            first = failures[0]
            text = str(first) if isinstance(first, QomError) else f"{shown(first)}{blame(self, first)}"
            raise LifecycleError(f"{self.path}: could not be taken out completely: {text}") from first


def _take_down(obj: Object) -> None:
    """Unrealize every device in the tree of `obj`, what is below last to first."""
    from qom.hw.bus import Bus

    if isinstance(obj, Device):
        if obj.realized:
            obj.set("realized", False)
        return
    if isinstance(obj, Bus):
        for device in reversed(obj.devices):
            if device.realized:
                device.set("realized", False)
    for child in reversed(list(obj.children().values())):
        _take_down(child)


def _forget(table: dict[str, list[Any]], name: str, added: list[Any]) -> None:
    left = [x for x in table.get(name, []) if x not in added]
    for x in added:
        if isinstance(x, Pin):
            x.set(0)
            x.connect(None)
    if left:
        table[name] = left
    else:
        table.pop(name, None)


def _shown(name: str | None) -> str:
    return f"'{name}'" if name else "unnamed"


def _listed(table: dict[str, list[Any]]) -> str:
    return ", ".join(f"{_shown(name)}[{len(lines)}]" for name, lines in table.items()) or "none"
