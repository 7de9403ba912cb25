"""Everything that is wrong with a configuration file, found without building anything.

`check` reads the file as `load` does, but goes on after an error, and then holds what it read against the registry: types,
properties and their values, what is required and missing, references, buses, circles, files that have to be there.

What only shows while a machine is built is not found: addresses and lines that two devices both claim, an accelerator
that does not work on this host, a file that is there and is not what it should be.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from qom import records
from qom.config.builder import ConfigBuilder
from qom.config.document import SUFFIXES, parse_file
from qom.config.model import (
    FDSETS,
    FORMAT_PREFIX,
    ChardevEntry,
    DeviceEntry,
    DriveEntry,
    GlobalEntry,
    MachineConfig,
    ObjectEntry,
)
from qom.config.order import build_order
from qom.config.probe import Probe
from qom.config.user_objects import unknown_object
from qom.errors import ConfigError, QomError, did_you_mean
from qom.options import Options, Origin, Report, at, is_lost, shown
from qom.properties import Property, checked
from qom.registry import GlobalProperty, Type, TypeRegistry

__all__ = ["Problem", "check", "unreadable"]

ACCEL_SUFFIX = "-accel"
CPU_PARENT = "x86_64-cpu"
CPU_SUFFIX = "-x86_64-cpu"


@records.frozen(order=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        file: the file as it was named, or where else it was said ("--var disk=x"); then there is no line.
        line, column: counted from 1; 0 where there is none.
        path: what it is about, by keys from the top of the file ("device[2].iobase"); "" for the file as a whole.
        message: what is wrong, one line.
        expected: what would have been right; "" where the message says all there is.
        nearest: known names close to a wrong one, best first.
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    expected: str = ""
    nearest: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.message) if part)

    @classmethod
    def of(cls, error: ConfigError) -> Problem:
        """The error as a problem; every message here ends in ": expected ..." and "; did you mean ...?" if it has them."""
        origin = error.origin
        message, _, hint = error.message.partition("; did you mean ")
        _, found, expected = message.rpartition(": expected ")
        nearest = tuple(re.findall(r"'([^']*)'", hint))
        place = (
            (origin.file, origin.line, origin.column, origin.path) if isinstance(origin, Origin) else (origin, 0, 0, "")
        )
        return cls(*place, error.message, expected if found else "", nearest)


def check(path: str | Path, registry: TypeRegistry, variables: Mapping[str, Any] | None = None) -> list[Problem]:
    """Everything wrong with the file at `path` and the files it includes, by place.

    Args:
        path: a machine file of any format, or a board file (it has a table `board` at its top).
        registry: the types there are.
        variables: values for the variables that the file declares.
    """
    from qom.config.files import read_file

    errors: list[ConfigError] = []
    builder = ConfigBuilder(errors.append)
    if _is_board(path):
        errors += registry.class_of("board-machine").check_file(path, registry)
    elif read_file(builder, path, variables):
        _Checker(builder.finish(), registry.fork(), errors.append, builder.named, complete=builder.complete).run()
    return sorted({Problem.of(error) for error in errors}, key=lambda p: (p.file != str(path), p))


def _is_board(path: str | Path) -> bool:
    if Path(path).suffix.lower() not in SUFFIXES:
        return False
    try:
        return "board" in parse_file(path).root.value
    except ConfigError:
        return False


def wrong_with_device(
    entry: DeviceEntry, config: MachineConfig, registry: TypeRegistry, named: Collection[str]
) -> list[ConfigError]:
    """Everything wrong with a device that is to join the others of a configuration; `named`: ids there are besides."""
    errors: list[ConfigError] = []
    with_it = records.evolve(config, devices=[*config.devices, entry])
    _Checker(with_it, registry, errors.append, named, complete=True).device(entry)
    return errors


def all_models(names: Collection[str]) -> str:
    """The processor models there are, for an error message; where they are found when they are too many for one."""
    few = len(names) <= 8
    return f"there are: {', '.join(sorted(names))}" if few else f"-cpu help lists all {len(names)}"


def wrong_with_cpu_option(model: Type, name: str, value: object) -> str | None:
    """What is wrong with `-cpu MODEL,name=value`, or None; `model`: the type of the processor.

    A processor that says nothing of its options is asked when it is made.
    """
    options: Collection[str] = getattr(model.cls, "options", ())
    outer = name.replace("_", "-")
    declared = model.properties.get(name) or model.properties.get(outer)
    if options and (declared is None or declared.name not in options):
        near = did_you_mean(outer, options)
        return f"unknown processor feature '{name}'{near or f'; -device {model.name},help lists them'}"
    if declared is not None and declared.kind == "alias":
        declared = model.properties.get(declared.target.removeprefix("."))
    if declared is None:
        return None
    try:
        checked(declared, value)
    except ValueError as error:
        return f"processor feature {name!r} cannot be {value!r}: expected {error}"
    return None


class _Checker:
    """Holds a configuration against a registry.

    named: ids that the files give, also to what is wrong in itself and left out; a reference to one is no error.
    complete: every included file could be read; otherwise a reference to what is not there is no error.
    """

    def __init__(
        self,
        config: MachineConfig,
        registry: TypeRegistry,
        report: Report,
        named: Collection[str],
        *,
        complete: bool,
    ) -> None:
        self.config, self.registry = config, registry
        self.named, self.complete = named, complete
        self._report = report
        self.probe = Probe(registry)
        self.ids: dict[str, list[tuple[str, str]]] = {}  # by id: where it is in the tree, and its type
        for place, entries in (
            ("/chardevs", [(c.id, f"chardev-{c.backend}") for c in config.chardevs]),
            ("/drives", [(d.id, self._format_of(d)) for d in config.drives]),
            ("/objects", [(o.id, o.driver) for o in config.objects]),
            ("/machine/peripheral", [(d.id, d.driver) for d in config.devices]),
        ):
            for id, type_name in entries:
                if id:
                    self.ids.setdefault(id, []).append((place, type_name))
        self.board_buses: Mapping[str, str] | None = None  # by name; None: not known before the board is built

    def run(self) -> None:
        """Report everything."""
        self._machine()
        self._accelerators()
        self._cpu()
        self._files()
        for chardev in self.config.chardevs:
            self._chardev(chardev)
        for entry in self.config.objects:
            self._object(entry)
        for device in self.config.devices:
            self._device(device)
        for default in self.config.globals:
            self._global(default)
        build_order(self.config.objects, self.probe, self._report)
        build_order(self.config.devices, self.probe, self._report)

    def device(self, entry: DeviceEntry) -> None:
        """Report what is wrong with one device; nothing of what is wrong elsewhere."""
        report, self._report = self._report, _to_nobody
        self._machine()
        self._report = report
        self._device(entry)

    def report(self, message: str, origin: str, *names: str) -> None:
        """Report an error at `origin`, or at its option `names`, as deep as that has a place."""
        for name in names:
            origin = at(origin, name)
        self._report(ConfigError(message, origin))

    @contextlib.contextmanager
    def _placed(self, origin: str) -> Iterator[None]:
        """Report what goes wrong inside."""
        try:
            yield
        except ConfigError as error:
            self._report(error if error.origin else ConfigError(error.message, origin))
        except QomError as error:
            self._report(ConfigError(str(error), origin))

    # -- the machine

    def _machine(self) -> None:
        entry = self.config.machine
        name = entry.type
        if entry.board is not None:
            if not os.path.isfile(entry.board):
                self.report(f"machine: no board file '{entry.board}'", entry.origin, "board")
                return
            boards = self.registry.class_of("board-machine")
            wrong = boards.check_file(entry.board, self.registry)
            for problem in wrong:
                self._report(problem)
            if wrong:
                return
            try:
                name = boards.type_of_file(self.registry, entry.board)
            except QomError as error:
                placed = error if isinstance(error, ConfigError) and error.origin else None
                self._report(placed or ConfigError(str(error), at(entry.origin, "board")))
                return
        found = next((f for n in (f"{name}-machine", name) if (f := self.probe.find(n, "machine")) is not None), None)
        if found is None:
            short = [name.removesuffix("-machine") for name in self.registry.names("machine")]
            self.report(f"unknown machine type {entry.type!r}{did_you_mean(entry.type, short)}", entry.origin, "type")
            return
        with (
            self._placed(entry.origin),
            self._with_properties(f"machine '{name}'", found, entry.props, entry.origin) as made,
        ):
            made.check_config(self.config, self._report)
            self.board_buses = made.known_buses()

    def _accelerators(self) -> None:
        for choice in self.config.accelerators:
            found = self.probe.find(choice.name + ACCEL_SUFFIX, "accel")
            if found is None:
                known = [name.removesuffix(ACCEL_SUFFIX) for name in self.registry.names("accel")]
                text = f"unknown accelerator {choice.name!r}{did_you_mean(choice.name, known)}"
                self.report(f"{text}; there are: {', '.join(known)}", choice.origin, "accel", "name")
                continue
            with self._placed(choice.origin):
                self._properties(f"accelerator '{choice.name}'", found, choice.options, choice.origin)

    def _cpu(self) -> None:
        choice = self.config.cpu
        if choice is None or CPU_PARENT not in self.registry:
            return
        found = self.probe.find(choice.model + CPU_SUFFIX, CPU_PARENT)
        if found is None:
            known = [name.removesuffix(CPU_SUFFIX) for name in self.registry.names(CPU_PARENT)]
            text = f"unknown processor model {choice.model!r}{did_you_mean(choice.model, known)}"
            self.report(f"{text}; {all_models(known)}", choice.origin, "model")
            return
        with self._placed(choice.origin):
            for name, value in choice.features.items():
                if (wrong := wrong_with_cpu_option(found, name, value)) is not None:
                    self.report(wrong, choice.origin, "features", name)

    def _files(self) -> None:
        config = self.config
        if config.kernel is not None and (wrong := unreadable(config.kernel)) is not None:
            self.report(f"kernel '{config.kernel}' cannot be read: {wrong}", config.origin_of("kernel"))
        for drive in config.drives:
            self._drive(drive)
        if config.log.file is not None and not os.path.isdir(os.path.dirname(config.log.file) or "."):
            self.report(f"log file {config.log.file}: No such file or directory", config.log.origin, "file")

    # -- back ends and objects

    def _chardev(self, entry: ChardevEntry) -> None:
        found = self.probe.find(f"chardev-{entry.backend}", "chardev")
        if found is None:
            known = [name.removeprefix("chardev-") for name in self.registry.names("chardev")]
            hint = did_you_mean(entry.backend, known)
            self.report(f"unknown character device '{entry.backend}'{hint}", entry.origin, "backend")
            return
        with self._placed(entry.origin):
            self._properties(f"chardev '{entry.backend}'", found, entry.props, entry.origin)

    def _format_of(self, entry: DriveEntry) -> str:
        name = FORMAT_PREFIX + entry.format
        return name if name in self.registry else "block-backend"

    def _drive(self, entry: DriveEntry) -> None:
        what = "blockdev" if entry.node else "drive"
        if not entry.over and (wrong := unreadable(entry.file)) is not None:
            self.report(f"{what}: cannot open image '{entry.file}': {wrong}", entry.origin, "filename", "file")
        with self._placed(entry.origin):
            self._properties(f"{what} '{entry.format}'", entry.format_type(self.registry), entry.given, entry.origin)

    def _object(self, entry: ObjectEntry) -> None:
        if entry.driver not in self.registry.names("user-creatable"):
            wrong = unknown_object(self.registry, entry.driver)
            self.report(wrong.message, entry.origin, "qom-type", "type", "driver")
            return
        with self._placed(entry.origin):
            found = self.registry.get(entry.driver)
            self._properties(f"object '{entry.driver}'", found, entry.props, entry.origin)

    def _global(self, entry: GlobalEntry) -> None:
        part = "property" if entry.driver in self.registry else "driver"
        with self._placed(entry.origin):
            self.registry.check_global(
                GlobalProperty(entry.driver, entry.property, entry.value, at(entry.origin, part))
            )
            for found in self.registry.types(self.registry.canonical(entry.driver)):
                prop = self.probe.property(found, entry.property)
                if prop is None or prop.kind in ("link", "child", "alias"):
                    continue
                try:
                    checked(prop, entry.value)
                except ValueError as error:
                    text = f"global: '{entry.driver}.{entry.property}' cannot be {shown(entry.value)}: expected {error}"
                    self.report(text, entry.origin, "value")
                break

    # -- devices

    def _device(self, entry: DeviceEntry) -> None:
        if entry.driver not in self.registry:
            known = self.registry.names("device")
            text = f"unknown device type {entry.driver!r}{self.registry.suggest_type(entry.driver, known)}"
            self.report(text, entry.origin, "driver")
            return
        with self._placed(entry.origin):
            found = self.probe.find(entry.driver, "device")
            if found is None or not (found.cls.user_creatable or found.is_a("cpu")):
                text = f"{entry.driver!r} is not a device that can be added by hand"
                self.report(text, entry.origin, "driver")
                return
            self._bus(entry, found.cls.bus_type)
            self._properties(f"device '{entry.driver}'", found, entry.props, entry.origin)

    def _bus(self, entry: DeviceEntry, wanted: str | None) -> None:
        if entry.bus is None:
            if wanted is not None and self.board_buses is not None and self.complete:
                there = {*self.board_buses.values(), *self._device_buses.values()}
                if not any(self._is_a(name, wanted) for name in there):
                    self.report(f"{entry.driver}: this machine has no free bus of type {wanted!r}", entry.origin)
            return
        bus_type = self._named_bus(entry)
        if bus_type is not None and (wanted is None or not self._is_a(bus_type, wanted)):
            needs = f"a bus of type '{wanted}'" if wanted else "no bus"
            text = f"{entry.driver}: cannot be on bus '{entry.bus}' ({bus_type}): expected {needs}"
            self.report(text, entry.origin, "bus")

    def _named_bus(self, entry: DeviceEntry) -> str | None:
        """The type of the bus an entry names; None when there is none, which is reported, or when that is not known."""
        name = str(entry.bus)
        if name.startswith("/machine/peripheral/"):
            id, _, rest = name.removeprefix("/machine/peripheral/").partition("/")
            return self._bus_of(entry, id, rest)
        if name.startswith("/"):
            return None
        for end, letter in enumerate(name):
            if letter == "." and self._driver_of(name[:end]) is not None:
                return self._bus_of(entry, name[:end], name[end + 1 :])
        there = self._device_buses
        if name in there:
            providers = [d.id or d.driver for d in self.config.devices if name in self.probe.buses(d.driver)]
            if len(providers) + (name in (self.board_buses or ())) > 1:
                names = ", ".join(f"{provider}.{name}" for provider in providers)
                text = f"bus {name!r} is the name of several: expected an id with it, such as {names}"
                self.report(text, entry.origin, "bus")
                return None
            return there[name]
        if self.board_buses is None or not self.complete:
            return None
        if name in self.board_buses:
            return self.board_buses[name]
        if any(letter == "." and name[:end] in self.named for end, letter in enumerate(name)):
            return None
        known = [*self.board_buses, *there]
        text = f"bus {name!r} not found{did_you_mean(name, known)}; there are: {', '.join(known)}"
        self.report(text, entry.origin, "bus")
        return None

    def _bus_of(self, entry: DeviceEntry, id: str, name: str) -> str | None:
        driver = self._driver_of(id)
        if driver is None:
            if self.complete and id not in self.named:
                known = [d.id for d in self.config.devices if d.id]
                self.report(f"bus {entry.bus!r}: no device '{id}'{did_you_mean(id, known)}", entry.origin, "bus")
            return None
        buses = self.probe.buses(driver)
        if buses and name not in buses:
            text = f"bus {entry.bus!r} not found{did_you_mean(name, buses)}; '{id}' has: {', '.join(buses)}"
            self.report(text, entry.origin, "bus")
        return buses.get(name)

    def _driver_of(self, id: str) -> str | None:
        return next((t for place, t in self.ids.get(id, ()) if place == "/machine/peripheral"), None)

    @functools.cached_property
    def _device_buses(self) -> dict[str, str]:
        """The buses that the file's own devices bring, by name."""
        out: dict[str, str] = {}
        for driver in dict.fromkeys(entry.driver for entry in self.config.devices):
            out |= self.probe.buses(driver)
        return out

    def _is_a(self, name: str, parent: str) -> bool:
        return name in self.registry and self.registry.is_a(name, parent)

    # -- properties

    def _properties(self, what: str, found: Type, props: Options, origin: str) -> None:
        """Report what is wrong with the properties given to a `found`, and those that are missing."""
        with self._with_properties(what, found, props, origin):
            pass

    @contextlib.contextmanager
    def _with_properties(self, what: str, found: Type, props: Options, origin: str) -> Iterator[Any]:
        """The same, and the object that was asked, for more questions."""
        missing = {p.name for p in found.properties.values() if p.required}
        with self.probe.instance(found) as made:
            for name, value in props.items():
                prop = self.probe.property(found, name)
                if prop is not None:
                    missing.discard(prop.name)
                self._property(what, made, prop, name, value, origin)
            for default in self.config.globals:
                if found.is_a(default.driver):
                    missing.discard(default.property)
            for name in sorted(name for name in missing if not is_lost(origin, name)):
                prop = found.properties[name]
                self.report(f"{what}: property '{name}' is required: expected {prop.expected()} ({prop.desc})", origin)
            yield made

    def _property(self, what: str, made: Any, prop: Property | None, name: str, value: Any, origin: str) -> None:
        if prop is not None and prop.kind == "link":
            self._reference(what, prop, value, at(origin, name))
            return
        if prop is not None and (prop.volatile and prop.kind != "alias"):
            self.report(f"{what}: property '{name}' cannot be set by a configuration", origin, name)
            return
        try:
            made.set(name, value)
        except QomError as error:
            text = str(error).removeprefix(f"{made.path}: ")
            self.report(text if prop is None else f"{what}: {text}", origin, name)
        except Exception:  # the property's own setter needs what the object has only in a machine
            if prop is not None and prop.kind not in ("alias", "child"):
                try:
                    checked(prop, value)
                except ValueError as error:
                    text = f"{what}: property '{name}' cannot be {shown(value)}: expected {error}"
                    self.report(text, origin, name)

    def _reference(self, what: str, prop: Property, value: Any, origin: str) -> None:
        """A link: the id, or the path, of something of the right type."""
        text = f"{what}: property '{prop.name}' cannot be {shown(value)}"
        if not isinstance(value, str):
            self.report(f"{text}: expected {prop.expected()}", origin)
            return
        homes = ("/chardevs", "/drives", "/objects", "/machine/peripheral")
        id, home = value, ""
        if value.startswith("/"):
            home = next((h for h in homes if value.startswith(f"{h}/")), "")
            id = value.removeprefix(f"{home}/")
            if not home or "/" in id:
                return  # a part of the board or of a device: known once that is built
        if not value:
            return
        there = [type_name for place, type_name in self.ids.get(id, ()) if home in ("", place)]
        if any(self._is_a(type_name, prop.target) or type_name not in self.registry for type_name in there):
            return
        if there:
            self.report(f"{text}, which is of type '{there[0]}': expected {prop.expected()}", origin)
            return
        fits = [i for i, entries in self.ids.items() if any(self._is_a(t, prop.target) for _, t in entries)]
        if not self.complete or id in self.named or (not home and self._may_be_on_board(prop.target)):
            return
        listed = f"; there are: {', '.join(sorted(fits))}" if fits else ""
        hint = did_you_mean(id, fits)
        self.report(f"{text}: there is nothing of that id{hint or listed}", origin)

    def _may_be_on_board(self, target: str) -> bool:
        """Whether a board has things of that type, which only building it shows."""
        return target in ("object", "device", "bus") or self._is_a(target, "device") or self._is_a(target, "bus")


def unreadable(path: str) -> str | None:
    """Why the file at `path` cannot be read, without opening it (it may be a pipe); None when it can."""
    if path.startswith(FDSETS):  # known to the process that is started with it
        return None
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return os.strerror(errno.EISDIR)
        return None if os.access(path, os.R_OK) else os.strerror(errno.EACCES)
    except (OSError, ValueError) as error:
        return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _to_nobody(error: ConfigError) -> None:
    del error
