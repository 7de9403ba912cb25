"""Hot reload: a device's code is exchanged while its machine runs.

`vm.reload("isa-stopwatch")` (a type, or a module) reads the source of the module again, and of every module with types
derived from its types, and gives the new code to every device of this machine that has the old one.  Other machines, and
machines built later from the same registry, keep the code they have.

What stays: the object itself, so its path, id, place on its bus, and every link to it; properties that somebody set;
attributes that a board handed it; declared state; lines and pins with their levels and what they are connected to; timers
that are pending (the new code's timer of the same name goes on, unless `state_loaded` says otherwise); what is connected
to a back end.  Everything else is made anew by the new code: `instance_init`, `realize`, reset, the state loaded,
`state_loaded`, in this order.  So mappings are the new code's, and so are children, whose state is carried over by their
path.  A state field that is new has its reset value, one that is gone is dropped; the report names both.

The guest stands still only for the exchange; what lines do meanwhile reaches nobody, and their levels afterwards are told
where they differ.  The source is compiled, its module run and its classes initialised before that.

All or nothing: when anything of it fails (a syntax error, an import, a declaration, a type that is gone and in use, a
property that was set and is gone, realize, state that does not fit) every device goes back to its old code, state, lines
and timers, and a `ReloadError` says what failed, with file and line.

Refused: types of the framework itself (`qom`, `accel`), machines, processors, back ends and other objects that are not
part of a device; a device with a bus on which devices sit that are not its own parts; reloading from within a device's
callback on a processor's thread.  Not re-targeted: what a device handed out other than itself, its parts and its lines
(DMA channels).  Hooks of a plugin stay those of the old code.
"""

from __future__ import annotations

import inspect
import sys
import threading
import tokenize
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qom import records
from qom.blame import FRAMEWORK, passes, place_of, shown
from qom.errors import QomError, did_you_mean
from qom.hw.bus import Bus
from qom.hw.device import Device, DeviceClock, realize_device, unrealize_device
from qom.hw.irq import Line, LineHandler, Pin, nowhere
from qom.hw.reset import Reset, reset_tree
from qom.lifecycle import Life
from qom.object import Object
from qom.properties import Property
from qom.registry import Type, construct, mark_of
from qom.vm.cpu import Cpu, this_cpu
from qom.vm.machine import Machine
from qom.vm.runstate import RunState
from qom.vm.vcpu import pause_all_vcpus, resume_all_vcpus

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["ReloadError", "ReloadReport", "SourceWatch", "reload"]

SECONDS = 0.5
"""Host time between two looks at the source files."""
_KEPT = ("parent", "_name", "_orphaned", "_strong", "_weak", "_plugged")  # what an object is to others


class ReloadError(QomError):
    """The new code cannot be used; every device has its old code and state."""


class _Misfit(QomError):
    """The new code does not fit what the machine has of the old one."""


@records.frozen
class ReloadReport:
    """What a reload did: source files, types, paths of the devices, and "type.field" for state that came and went."""

    files: tuple[str, ...]
    types: tuple[str, ...]
    devices: tuple[str, ...]
    new_state: tuple[str, ...] = ()
    dropped_state: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        count = f"{len(self.devices)} device{'' if len(self.devices) == 1 else 's'}"
        parts = [f"reloaded {', '.join(self.types)} from {', '.join(self.files)}: {count}"]
        if self.new_state:
            parts.append(f"new state, at its reset value: {', '.join(self.new_state)}")
        if self.dropped_state:
            parts.append(f"dropped state: {', '.join(self.dropped_state)}")
        return "; ".join([*parts, *self.notes])


def reload(vm: VirtualMachine, what: str) -> ReloadReport:
    """Exchange the code of a type, or of all types of a module, in one machine; see this module's docstring.

    Args:
        vm: the machine; it may run.  The caller must not be in a callback of a device.
        what: the name of a type, an alias of one, or the name of a module (or package) with types.

    Raises:
        ReloadError: nothing has changed; the text says why, with file and line where there is one.
    """
    cpu = this_cpu()
    if cpu is not None and cpu.lock is vm.lock:
        raise ReloadError(f"{what}: cannot be reloaded from within a device's callback: expected another thread")
    with _alone(vm, what):
        return _reload(vm, what)


@contextmanager
def _alone(vm: VirtualMachine, what: str) -> Iterator[None]:
    """Reloads of one machine follow each other; its lock is free while one waits for another."""
    me = threading.get_ident()
    with vm.lock:
        if vm.reloading == me:
            raise ReloadError(f"{what}: cannot be reloaded from within another reload: expected another thread")
        while vm.reloading is not None:
            vm.cpu_cond.wait()
        vm.reloading = me
    try:
        yield
    finally:
        with vm.lock:
            vm.reloading = None
            vm.cpu_cond.notify_all()


def _reload(vm: VirtualMachine, what: str) -> ReloadReport:
    with vm.lock:
        modules = _modules(vm, what)
        homes = {name: _names_of(vm, name) for name in modules}
    with _loaded(homes) as fresh, vm.lock:
        pause_all_vcpus(vm.cpus, vm.cpu_cond)  # the lock is free meanwhile: look at the machine afterwards
        work = _Exchange(vm, what, modules, fresh)
        running = vm.run_state is RunState.RUNNING
        try:
            return work.run()
        finally:
            if running and vm.shutdown_reason is None:
                resume_all_vcpus(vm.cpus)


# -- the new code


def _modules(vm: VirtualMachine, what: str) -> list[str]:
    """The modules to read again: that of `what`, then those with types derived from its types."""
    registry = vm.registry
    homes = {t.module for t in registry if t.module}
    if what in registry:
        made = registry.get(what)
        if made.is_record or made.python_class is None:
            raise ReloadError(f"{what}: cannot be reloaded: the type was made from a record, not by a module")
        chosen = {made.python_class.__module__}
    else:
        chosen = {home for home in homes if home == what or home.startswith(f"{what}.")}
        if not chosen:
            known = [*(t.name for t in registry if not t.is_record), *homes]
            raise ReloadError(f"{what}: no type and no module with types{did_you_mean(what, known)}")
    for name in sorted(chosen):
        if name.partition(".")[0] in FRAMEWORK:
            raise ReloadError(f"{what}: cannot be reloaded: {name} is part of the framework itself")
    for made in registry:
        if made.module in chosen:
            registry.load(made)
    found = {t.name: t.loaded_class for t in registry if not t.is_record and t.loaded_class is not None}
    order = sorted(chosen)
    grown = True
    while grown:
        grown = False
        for cls in found.values():
            bases = {base.__module__ for base in cls.__mro__[1:] if mark_of(base) is not None}
            if cls.__module__ not in order and bases & set(order):
                order.append(cls.__module__)
                grown = True
    classes = [cls for cls in found.values() if cls.__module__ in order]
    depth = {name: max(len(cls.__mro__) for cls in classes if cls.__module__ == name) for name in order}
    return sorted(order, key=lambda name: depth[name])


def _names_of(vm: VirtualMachine, name: str) -> dict[str, Any]:
    """What a module holds, from the functions of its types: somebody may have taken it out of `sys.modules`."""
    for found in vm.registry:
        cls = found.loaded_class
        for value in vars(cls).values() if cls is not None and cls.__module__ == name else ():
            names: dict[str, Any] = getattr(getattr(value, "__func__", value), "__globals__", {})
            if names.get("__name__") == name:
                return names
    module = sys.modules.get(name)
    return vars(module) if module is not None else {}


@contextmanager
def _loaded(homes: dict[str, dict[str, Any]]) -> Iterator[dict[str, ModuleType]]:
    """The modules, read again and run; in `sys.modules` from then on, unless the block raises."""
    before = {name: sys.modules.get(name) for name in homes}
    fresh: dict[str, ModuleType] = {}
    try:
        for name, names in homes.items():
            fresh[name] = _read_again(name, names)
        yield fresh
    except BaseException:
        for name, module in before.items():
            if module is not None:
                sys.modules[name] = module
            else:
                sys.modules.pop(name, None)
        raise
    for name, module in fresh.items():
        package, _, short = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], short, module)


def _read_again(name: str, old: dict[str, Any]) -> ModuleType:
    file = old.get("__file__")
    if not file or not file.endswith(".py"):
        raise ReloadError(f"{name}: cannot be reloaded: it has no source file")
    try:
        with tokenize.open(file) as source:
            text = source.read()
        code = compile(text, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ReloadError(f"{name}: not reloaded: {file}:{error.lineno or 1}: {shown_syntax(error)}") from error
    except (OSError, ValueError) as error:
        raise ReloadError(f"{name}: not reloaded: {file}: {shown(error)}") from error
    made = ModuleType(name)
    for attr in ("__spec__", "__loader__", "__file__", "__package__", "__path__", "__cached__"):
        if attr in old:
            made.__dict__[attr] = old[attr]
    sys.modules[name] = made
    try:
        exec(code, made.__dict__)
    except BaseException as error:
        if passes(error):
            raise
        raise ReloadError(f"{name}: not reloaded: {_line_in(error, file)}: {shown(error)}") from error
    return made


def shown_syntax(error: SyntaxError) -> str:
    """Class and text of a syntax error, without the place, which is said before it."""
    return f"{type(error).__name__}: {error.msg}"


def _line_in(error: BaseException, file: str) -> str:
    """The innermost line of `file` in an exception's traceback; where it was raised, when there is none."""
    place, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            place = f"{file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place or place_of(error)


# -- the exchange


class _Exchange:
    """One reload, with the machine lock held and the vCPUs standing still."""

    def __init__(self, vm: VirtualMachine, what: str, modules: Sequence[str], fresh: dict[str, ModuleType]) -> None:
        self.vm = vm
        self.what = what
        self.registry = vm.registry
        self.files = tuple(str(fresh[name].__file__) for name in modules)
        self.old = {
            t.name: t
            for t in self.registry
            if not t.is_record and t.loaded_class is not None and t.loaded_class.__module__ in fresh
        }
        self.classes = [cls for name in modules for cls in _own(fresh[name])]
        self.devices: list[_Instance] = []
        self.notes: list[str] = []

    def run(self) -> ReloadReport:
        """Do it.

        Raises:
            ReloadError: everything is as before.
        """
        self._find_devices()
        try:
            self._exchange()
        except BaseException as error:
            if passes(error):
                raise
            raise self._refusal(error) from error
        return self._report()

    def _refusal(self, error: BaseException) -> ReloadError:
        place = next((p for file in self.files if (p := _line_in(_first(error), file)).startswith(file)), "")
        text = str(error) if isinstance(error, QomError) else shown(error)
        at = f"{place}: " if place and place not in text else ""
        return ReloadError(f"{self.what}: not reloaded: {at}{text}")

    def _exchange_types(self) -> None:
        self.registry.exchange(self.classes, self.old)
        wrong = [error for error in self.registry.check() if any(f"'{name}'" in str(error) for name in self.old)]
        if wrong:
            raise wrong[0]
        for instance in self.devices:
            for obj in instance.tree.values():
                if obj.type_name not in self.registry:
                    raise _Misfit(f"the new code has no type '{obj.type_name}', which {obj.path} is")

    def _find_devices(self) -> None:
        """The devices that have old code and are not part of another one that has."""
        inside: set[int] = set()
        drivers = _drivers(self.vm)
        for obj in self.vm.root.walk():
            if id(obj) in inside or obj.type is not self.old.get(obj.type_name):
                continue
            if not isinstance(obj, Device) or isinstance(obj, Machine | Cpu):
                raise ReloadError(
                    f"{self.what}: cannot be reloaded: {obj.path} ('{obj.type_name}') is no device that can be exchanged"
                )
            instance = _Instance(obj, drivers)
            inside |= {id(part) for part in instance.tree.values()}
            self._check_buses(instance)
            self.devices.append(instance)

    def _check_buses(self, instance: _Instance) -> None:
        own = {id(part) for part in instance.tree.values()}
        for part in instance.tree.values():
            others = [d.path for d in part.devices if id(d) not in own] if isinstance(part, Bus) else []
            if others:
                raise ReloadError(
                    f"{self.what}: cannot be reloaded: {', '.join(others)} on {part.path}: expected no device there that"
                    f" is not a part of {instance.device.path}"
                )

    def _exchange(self) -> None:
        held = _HeldLines(self.vm)
        done: list[_Instance] = []
        try:
            with self.registry.transaction(), self._one_map():
                self._exchange_types()
                for instance in reversed(self.devices):
                    done.append(instance)
                    self.notes += instance.take_out()
                for instance in self.devices:
                    instance.exchange(self.registry.get(instance.device.type_name))
                for instance in self.devices:
                    instance.put_in()
                self._retarget()
        except BaseException:
            with self._one_map():
                self._put_back(done)
            raise
        finally:
            held.release()
        for instance in self.devices:
            instance.let_old_parts_go()

    def _put_back(self, done: Sequence[_Instance]) -> None:
        """The old code again, in every device that was taken out."""
        failures: list[str] = []
        for instance in done:
            failures += instance.restore()
        for instance in reversed(done):
            try:
                instance.put_in()
            except BaseException as error:
                if passes(error):
                    raise
                failures.append(str(error) if isinstance(error, QomError) else shown(error))
        if failures:
            self.vm.device_failed(ReloadError(f"{self.what}: the old code could not be put back: {failures[0]}"))

    @contextmanager
    def _one_map(self) -> Iterator[None]:
        """Changes of the memory and port map take effect together."""
        bus = self.vm.machine.system_bus
        with ExitStack() as held:
            held.enter_context(bus.memory.transaction())
            held.enter_context(bus.io.transaction())
            yield

    def _retarget(self) -> None:
        """Links of others to parts of an exchanged device refer to the new parts."""
        new_parts: dict[int, tuple[_Instance, str]] = {}
        for instance in self.devices:
            for path, part in instance.tree.items():
                if path:
                    new_parts[id(part)] = (instance, path)
        if not new_parts:
            return
        for source in list(self.vm.root.walk()):
            for link in _links(source):
                target = source.__dict__.get(link.attr)
                if id(target) not in new_parts or link.attr == "bus":
                    continue
                instance, path = new_parts[id(target)]
                new = instance.part(path)
                if new is None:
                    raise _Misfit(
                        f"{source.path} refers to {instance.device.path}/{path} by"
                        f" '{link.name}', and the new code does not make it"
                    )
                link.setter(source, link, new)

    def _report(self) -> ReloadReport:
        new: list[str] = []
        dropped: list[str] = []
        for name, old in self.old.items():
            if name in self.registry and not old.abstract:
                before, after = set(old.states), set(self.registry.get(name).states)
                new += [f"{name}.{field}" for field in sorted(after - before)]
                dropped += [f"{name}.{field}" for field in sorted(before - after)]
        names = tuple(sorted(mark.name for cls in self.classes if (mark := mark_of(cls)) is not None))
        paths = tuple(instance.device.path for instance in self.devices)
        return ReloadReport(self.files, names, paths, tuple(new), tuple(dropped), tuple(self.notes))


class _Instance:
    """One device whose code is exchanged, and everything that is to survive it."""

    def __init__(self, device: Device, drivers: dict[Line, str]) -> None:
        self.device = device
        self.drivers = drivers
        self.tree = _tree(device)
        self.was_realized = device.realized
        self.saved = {path: part.save_state() for path, part in self.tree.items()}
        self.place = device.kept_place() if self.was_realized else {}
        self.timers = {path: _deadlines(part) for path, part in self.tree.items() if isinstance(part, Device)}
        self.lines: dict[str, dict[str, list[Line]]] = {}
        self.receivers: list[tuple[Line, LineHandler, Any, str]] = []
        self.pins: dict[str, list[tuple[str, int, Line | None, int]]] = {}
        self.levels: dict[str, list[tuple[str, int, int]]] = {}
        for path, part in self.tree.items():
            if isinstance(part, Device):
                self.lines[path] = {name: list(lines) for name, lines in part.lines().items()}
                every = [line for lines in self.lines[path].values() for line in lines]
                self.receivers += [(line, line.receiver, line.owner, line.name) for line in every]
                pins = part.pins()
                self.pins[path] = [(name, p.n, p.line, p.level) for name, group in pins.items() for p in group]
                self.levels[path] = [(name, n, line.level) for name, n, line in part.handed_lines()]
        self.old_class: type = type(device)
        self.old_values: dict[str, Any] = {}
        self.out = self.exchanged = False

    def part(self, path: str) -> Object | None:
        """The part that is at `path` below the device now."""
        here: Object | None = self.device
        for name in path.split("/") if path else ():
            here = here.children().get(name) if here is not None else None
        return here

    # -- out

    def take_out(self) -> list[str]:
        """Unrealize it; what its old code raises then is only noted."""
        notes = []
        if self.was_realized:
            try:
                unrealize_device(self.device)
            except QomError as error:
                if self.device.life is Life.REALIZED:
                    raise  # refused
                notes.append(f"the old code failed to let go: {error}")
        self.out = True
        self.old_values = dict(self.device.__dict__)
        return notes

    def exchange(self, new: Type) -> None:
        """The same object, with the new class: made anew, with its place, properties and links."""
        device, old = self.device, self.old_values
        old_type: Type = old["type"]
        self.exchanged = True
        device.__dict__.clear()
        device.__class__ = new.cls
        device.__dict__.update({key: old[key] for key in _KEPT})  # for its path, in errors
        construct(device, new)
        device.__dict__.update({key: old[key] for key in _KEPT})
        for name, link in ((p.name, p) for p in old_type.properties.values() if p.kind == "link"):
            target = old.get(link.attr)
            into = new.properties.get(name)
            if target is None:
                continue
            if into is None or into.kind != "link" or into.attr != link.attr or not target.is_a(into.target):
                raise _Misfit(f"{device.path}: the new code has no link '{name}' that can hold {target.path}")
            device.__dict__[link.attr] = target  # counted already
        user_set: set[str] = old["user_set"]
        for held in old_type.properties.values():
            if held.kind in ("link", "alias", "child") or held.get is not None or held.name == "realized":
                continue
            value = old.get(held.attr)
            if held.name in user_set or value != held.default:
                self._set(new, held, value, held.name in user_set)
        device.__dict__.update(self.place)
        for attr in old["_handed"]:
            device.__dict__.setdefault(attr, old[attr])
        device.user_set |= {name for name in user_set if name in new.properties}

    def _set(self, new: Type, held: Property, value: Any, by_user: bool) -> None:
        if held.name in new.properties:
            self.device.set_default(held.name, value)
        elif by_user:
            raise _Misfit(f"{self.device.path}: the new code has no property '{held.name}', which is set to {value!r}")

    def restore(self) -> list[str]:
        """The old class and values again, unrealized; what the new code raises when it goes."""
        failures: list[str] = []
        if not self.exchanged:
            return failures
        device = self.device
        try:
            if device.realized:
                unrealize_device(device)
            for part in list(device.children().values()):
                part.unparent()
        except QomError as error:
            failures.append(f"the new code failed to let go: {error}")
        device.__class__ = self.old_class
        device.__dict__.clear()
        device.__dict__.update(self.old_values)
        for line, receiver, owner, name in self.receivers:
            line.set_receiver(receiver)
            line.owner, line.name = owner, name
        self.exchanged = False
        return failures

    # -- in

    def put_in(self) -> None:
        """Realize it, connect it as before, and give it its state."""
        device = self.device
        if not self.out or not self.was_realized or device.realized:
            return
        bus = device.__dict__.get("_plugged")
        if bus is not None:
            bus.hand(device)
        realize_device(device)
        reset_tree(device, Reset.COLD)
        for path in self.tree:
            part = self.part(path)
            if isinstance(part, Device):
                self._connect(path, part)
        for path in sorted(self.tree, key=lambda p: p.count("/"), reverse=True):  # parts before what they are parts of
            part = self.part(path)
            if part is None:
                continue
            if isinstance(part, Device):
                self._arm(path, part)
            state = part.save_state()
            saved = {attr: value for attr, value in self.saved[path].items() if attr in state}
            part.load_state({**state, **saved})

    def _connect(self, path: str, part: Device) -> None:
        """Lines and pins: who drives it finds its input, and it drives what it drove, at the level it had."""
        table = part.input_table()
        for name, old_lines in self.lines[path].items():
            new_lines = table.get(name, [])
            for n, line in enumerate(old_lines):
                if n < len(new_lines):
                    if new_lines[n] is not line:
                        line.set_receiver(new_lines[n].receiver)
                        line.owner, line.name = part, new_lines[n].name
                        new_lines[n] = line
                elif line in self.drivers:
                    where = f"{name or 'unnamed'}[{n}]"
                    raise _Misfit(f"{part.path}: the new code has no input {where}, which {self.drivers[line]} drives")
                else:
                    line.set_receiver(nowhere)
        pins = part.pins()
        for name, n, target, level in self.pins[path]:
            if target is None:
                continue
            if n >= len(pins.get(name, ())):
                raise _Misfit(f"{part.path}: the new code has no output {name or 'unnamed'}[{n}], which is connected")
            pin: Pin = pins[name][n]
            pin.line, pin.level = target, level
            target.set(level)
        now = {(name, n): line for name, n, line in part.handed_lines()}
        for name, n, level in self.levels[path]:
            if level and (name, n) in now:
                now[name, n].set(level)

    def _arm(self, path: str, part: Device) -> None:
        deadlines = dict(self.timers.get(path, {}))
        clock = part.__dict__.get("clock")
        seen: dict[str, int] = {}
        for timer in clock.timers if isinstance(clock, DeviceClock) else ():
            deadline = deadlines.get((timer.name, seen.setdefault(timer.name, 0)))
            seen[timer.name] += 1
            if deadline is not None:
                timer.arm_at(deadline)
            else:
                timer.cancel()

    def let_old_parts_go(self) -> None:
        """The parts that the old code's instance_init had made; those of its realize went when it was unrealized."""
        for part in self.old_values.get("_children", {}).values():
            part.parent, part._name, part._orphaned = None, None, True
            part.unparent()


class _HeldLines:
    """While it is held, nothing that drives the inputs of devices reaches them."""

    def __init__(self, vm: VirtualMachine) -> None:
        self._before: list[tuple[Line, LineHandler | None, int]] = []  # with the observer that stood in front
        self._driven: dict[Line, int] = {}
        for found in vm.root.walk():
            if isinstance(found, Device):
                for lines in found.lines().values():
                    for line in lines:
                        observer = line.handler if line.handler != line.receiver else None
                        self._before.append((line, observer, line.level))
                        line.handler = self._recorder(line)

    def _recorder(self, line: Line) -> LineHandler:
        def record(n: int, level: int) -> None:
            self._driven[line] = level

        return record

    def release(self) -> None:
        """Tell the receivers of the lines whose level has changed in the end."""
        for line, observer, _ in self._before:
            line.handler = line.receiver if observer is None else observer
        for line, _, level in self._before:
            now = self._driven.get(line)
            if now is not None and now != level:
                line.set(now)


def _own(module: ModuleType) -> list[type]:
    """The marked classes that a module defines."""
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and mark_of(value) is not None and value.__module__ == module.__name__
    ]


def _tree(obj: Object, path: str = "") -> dict[str, Object]:
    """An object and everything below it, by path from it ("" is itself), parents first."""
    found = {path: obj}
    for name, part in obj.children().items():
        found.update(_tree(part, f"{path}/{name}" if path else name))
    return found


def _links(obj: Object) -> list[Property]:
    return [p for p in obj.class_properties.values() if p.kind == "link" and p.get is None]


def _deadlines(device: Device) -> dict[tuple[str, int], int | None]:
    """When the pending timers of a device fire, by name and number among those of that name."""
    clock = device.__dict__.get("clock")
    found: dict[tuple[str, int], int | None] = {}
    seen: dict[str, int] = {}
    for timer in clock.timers if isinstance(clock, DeviceClock) else ():
        found[timer.name, seen.setdefault(timer.name, 0)] = timer.deadline
        seen[timer.name] += 1
    return found


def _drivers(vm: VirtualMachine) -> dict[Line, str]:
    """The paths of the devices that have an output connected to a line."""
    devices = [found for found in vm.root.walk() if isinstance(found, Device)]
    return {
        pin.line: found.path
        for found in devices
        for pins in found.pins().values()
        for pin in pins
        if pin.line is not None
    }


def _first(error: BaseException) -> BaseException:
    """The exception that others were raised from."""
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    return error


# -- when a file changes


class SourceWatch:
    """Reloads what changes: looks at the source files of a machine's devices and reloads those that were written.

    Args:
        vm: the machine.
        tell: called with one line for every reload, or why there was none.
        seconds: host time between looks; the main loop looks.  None: `SECONDS`.
    """

    def __init__(self, vm: VirtualMachine, tell: Callable[[str], object], seconds: float | None = None) -> None:
        self._vm = vm
        self._tell = tell
        self._seconds = SECONDS if seconds is None else seconds
        self._stamps: dict[str, tuple[int, int]] = {}
        self._later: Any = None
        self._closed = False
        self.look()

    def look(self) -> None:
        """Look now, and again later.  On the main loop's thread, or before it runs."""
        if self._closed:
            return
        changed = []
        for name, file in self._files().items():
            try:
                status = Path(file).stat()
            except OSError:  # an editor is about to put it there again
                continue
            stamp = (status.st_mtime_ns, status.st_size)
            if self._stamps.setdefault(name, stamp) != stamp:
                self._stamps[name] = stamp
                changed.append(name)
        for name in changed:
            try:
                self._tell(str(self._vm.reload(name)))
            except ReloadError as error:
                self._tell(f"{error}; the old code stays")
        self._later = self._vm.main_loop.call_later(self._seconds, self.look)

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        if self._later is not None:
            self._later.cancel()

    def _files(self) -> dict[str, str]:
        """Source files by module, of all devices there are now and of what their classes derive from."""
        found: dict[str, str] = {}
        with self._vm.lock:
            classes = {type(obj) for obj in self._vm.root.walk() if isinstance(obj, Device)}
        for cls in classes:
            for base in cls.__mro__:
                name = base.__module__
                file = getattr(sys.modules.get(name), "__file__", None)
                if mark_of(base) is not None and name.partition(".")[0] not in FRAMEWORK and file:
                    found[name] = file
        return found
