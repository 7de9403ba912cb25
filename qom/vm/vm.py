"""VirtualMachine: one running machine, from a configuration to its end.

It owns what a machine needs around it: the composition tree, the machine lock, the clock, the main loop, the run
state, the log.  Nothing here is global: a process may hold as many virtual machines as it likes (DESIGN.md, promise 8).

Locking rule (SEED.md row 16).  There is one lock a machine, `VirtualMachine.lock`.  Whoever touches devices, interrupt
lines, timers or memory topology holds it.  The main loop takes it for every callback, a vCPU thread for every exit that
it serves; guest code runs without it.  Waiting for vCPUs to stop releases it (a condition variable over the same lock),
so the order "lock, then wait for a vCPU" cannot dead-lock.  Requests that end or reset the machine may come from any
thread; they are carried out by the main loop.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import TracebackType

from qom import hw, records
from qom.blame import passes, place_of, shown
from qom.config.model import (
    FDSETS,
    LOG_CATEGORIES,
    ChardevEntry,
    DeviceEntry,
    DriveEntry,
    MachineConfig,
    MonitorEntry,
    ObjectEntry,
    TableEntry,
)
from qom.errors import ConfigError, LifecycleError, ObjectFault, PathError, QomError, did_you_mean
from qom.hw.clock import Clock, RunningClock
from qom.hw.fault import DeviceFault, Fault
from qom.hw.reset import Reset, reset_tree
from qom.lifecycle import Life, move
from qom.object import Object, Root, check_id
from qom.options import placed
from qom.properties import format_size
from qom.registry import GlobalProperty, TypeRegistry
from qom.vm import actions
from qom.vm.lock import MachineLock
from qom.vm.mainloop import MainLoop
from qom.vm.runstate import RunState, check_transition
from qom.vm.vcpu import join_vcpu, pause_all_vcpus, resume_all_vcpus, stop_all_vcpus_soon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, TextIO
    from weakref import WeakKeyDictionary

    from qom.config.order import E
    from qom.extensions import MonitorCommand
    from qom.hw.bus import Bus
    from qom.hw.device import Device
    from qom.hw.system import WakeReason
    from qom.vm.console import Console
    from qom.vm.cpu import Cpu
    from qom.vm.dump import Mutable
    from qom.vm.fdsets import FdSets
    from qom.vm.guest import GuestMemory, GuestPorts
    from qom.vm.input import InputQueue
    from qom.vm.machine import Machine
    from qom.vm.observe import Observatory
    from qom.vm.reload import ReloadReport
    from qom.vm.suspend import Suspension

    Event = Callable[[str, dict[str, Any]], None]
else:
    Event = Callable

__all__ = ["Event", "VirtualMachine"]

RESET_FROM_OUTSIDE: Final = "host-qmp-system-reset"
"""The reason of a reset that a user asked for."""


@records.frozen
class _Ending:
    """Why the machine ends.

    reason: who asked, as a device or a monitor put it.  what: the guest's cause, if it is the guest's: "shutdown",
    "reset", "panic".  final: it ends also when a guest that shuts down is to stand still.
    """

    reason: str
    what: str
    final: bool


class VirtualMachine:
    """A virtual machine, as a context manager: leaving it unrealizes everything and ends every thread.

    Args:
        config: what to build.
        registry: the types to build it from.
        inert: build it only to be looked at: back ends stay closed, images are neither locked nor opened for writing, no log
            is written, and it cannot run.

    Use: `build`, then `run` (main loop until the machine ends; the exit status comes back), or `start_loop` to have the
    main loop in a thread of its own and go on in the caller's.
    """

    def __init__(self, config: MachineConfig, registry: TypeRegistry, *, inert: bool = False) -> None:
        self.config = config
        self.inert = inert
        self.registry = registry.fork()
        self.registry.globals.extend(
            GlobalProperty(entry.driver, entry.property, entry.value, entry.origin) for entry in config.globals
        )
        self.lock = MachineLock()
        self.cpu_cond = threading.Condition(self.lock)  # type: ignore[arg-type]  # duck-typed, as documented
        self.clock: Clock = RunningClock()  # until `build`; then as the accelerator wants it
        self.main_loop = MainLoop(self.lock, self.device_failed)
        self.run_state = RunState.PRELAUNCH
        self.actions = actions.Actions(**config.action)
        """What happens when the guest reboots, switches off or panics, and when a watchdog fires (qom/vm/actions.py)."""
        self.root = Root(self.registry)
        self.machine: Machine
        self.events: list[Event] = []
        self.log_lines: deque[str] = deque(maxlen=1000)
        self.monitors: Any = None
        """What the monitors share (`qom.monitor.MonitorService`); None as long as there are none."""
        self.monitor_state: dict[str, Any] = {}
        """What monitor commands keep of this machine between calls, by subject."""
        self.failure: str | None = None
        self.exit_status = 0
        self.shutdown_reason: str | None = None
        self._reset_reason: str | None = None
        self._ending: _Ending | None = None
        self._stop_state: RunState | None = None
        self._suspension: Suspension | None = None  # until its guest suspends it for the first time
        self._started = False
        self._ended = threading.Event()
        self._built = False
        self._closed = False
        self._loop_thread: threading.Thread | None = None
        self._log_file: TextIO | None = None
        self._fdsets: FdSets | None = None
        self._categories = frozenset(config.log.categories)
        self._consoles: dict[str, Console] = {}
        self._count = itertools.count()
        self._as_built: Mutable = {}
        self.reloading: int | None = None
        """The thread that exchanges the code of devices (qom/vm/reload.py), while one does; guarded by the lock."""
        self.announce: Callable[[str], None] = _unheard
        """Told what a user must know of a back end while the machine is built: that it waits for a peer."""
        self.redirected: Callable[[str], None] = _unheard
        """Told the name of a terminal that was made while the machine is built."""
        self.report: Callable[[str], None] = self._report
        """Told what is wrong with the machine while it is there."""
        self._call_hook("qom_machine_created")

    @functools.cached_property
    def _added(self) -> WeakKeyDictionary[Device, int]:
        """The devices that were added by hand, numbered as they came."""
        from weakref import WeakKeyDictionary

        return WeakKeyDictionary()

    @functools.cached_property
    def observe(self) -> Observatory:
        """Where exits, accesses, lines and life-cycle steps are watched and interfered with."""
        from qom.vm.observe import Observatory

        return Observatory(self)

    # -- building ---------------------------------------------------------------------------------------------------

    def build(self) -> VirtualMachine:
        """Make the machine, its accelerator, back ends and devices, and put it into its reset state, not running.

        Raises:
            QomError: something cannot be built as configured; nothing is left behind.
        """
        try:
            with self.lock:
                self._prepare()
            if self.config.preconfig and not self.inert:
                self._preconfigure()
                if self.shutdown_reason is not None:
                    return self
            with self.lock:
                self._build()
        except BaseException as error:
            self.close()
            if isinstance(error, QomError) or passes(error):
                raise
            raise ObjectFault(f"the machine cannot be built: {_described(error)}", place_of(error)) from error
        return self

    def _prepare(self) -> None:
        """What is there before the board: monitors, the machine object, character devices.

        Monitors are first: a client is greeted while the board's parts are still being imported.
        """
        config = self.config
        if config.fds and not self.inert:
            self._inherit(config.fds)
        if config.log.file is not None and not self.inert:
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                self._log_file = os.fdopen(self.open_file(config.log.file, flags), "w", encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"log file {config.log.file}: {error.strerror}", config.log.origin) from None
        monitored = {} if self.inert else {entry.chardev: self._monitor_type(entry) for entry in config.monitors}
        chardevs = sorted(config.chardevs, key=lambda entry: entry.backend == "mux")  # after what they share
        shared = {entry.props.get("chardev") for entry in chardevs if entry.backend == "mux" and entry.id in monitored}
        for chardev in chardevs:
            if chardev.id in shared:
                self._make_chardev(chardev, self.main_loop)
            elif chardev.id in monitored:
                monitor: Any = self.registry.class_of(monitored[chardev.id])
                self._make_chardev(chardev, monitor.served_by(self))
        self._make_monitors()
        self.machine = self._new_machine()
        for chardev in chardevs:
            if chardev.id not in monitored and chardev.id not in shared and self.machine.has_place_for(chardev):
                self._make_chardev(chardev, self.main_loop)

    def _preconfigure(self) -> None:
        """Serve the monitors until somebody says that the configuration is complete (`exit_preconfig`), or ends it all."""
        with self.lock:
            self._make_drives()
        self.run_state = RunState.PRECONFIG
        self.main_loop.run()
        with self.lock:
            if self.shutdown_reason is None:
                self.set_run_state(RunState.PRELAUNCH)

    def exit_preconfig(self) -> None:
        """The configuration is complete: have `build`, which waits in another place for that, go on.

        Raises:
            LifecycleError: the machine does not wait for it.
            ConfigError: NUMA nodes do not fit together or the machine; it goes on waiting.
        """
        if self.run_state is not RunState.PRECONFIG:
            raise LifecycleError(f"the machine is {self.run_state.value}: expected preconfig")
        if self.config.numa or self.config.numa_distances:
            from qom.config.builder import ConfigBuilder

            self.config.memory = self.machine.ram_size  # which may have been set since
            ConfigBuilder.complete_numa(self.config)
        self.main_loop.quit()

    def _build(self) -> None:
        config = self.config
        accel_class: Any = self.registry.class_of("accel")
        accel: Any = accel_class.configure_accelerator(self.machine, config.accelerators)
        self.machine.accel = accel
        self._take_clock(accel.new_clock())
        self._make_backends()
        if self._categories and not self.inert:
            from qom.vm.logged import watch

            watch(self, self._categories)
        self.machine.set("realized", True)
        with self.machine.system_bus.io_space.deferred():
            self._add_devices(config.devices)
        self.machine.creation_done()
        from qom.vm.dump import mutable_properties

        self._as_built = mutable_properties(self.machine)
        self._built = True
        self.observe.built()
        self._call_hook("qom_machine_built")
        self._reset_devices()

    # -- files and descriptors

    @property
    def fdsets(self) -> FdSets:
        """The descriptors that this machine was handed (`-add-fd`, and a monitor's commands)."""
        if self._fdsets is None:
            from qom.vm.fdsets import FdSets

            self._fdsets = FdSets()
        return self._fdsets

    def open_file(self, path: str, flags: int, mode: int = 0o666) -> int:
        """Open a file that the user named, as `os.open` does; `/dev/fdset/N` is a descriptor of set N.

        Raises:
            OSError: it cannot be opened.
            FdSetError: no such set, or no descriptor in it that fits.
        """
        if path.startswith(FDSETS):
            return self.fdsets.open(path, flags)
        if "\0" in path:
            raise OSError(errno.EINVAL, "the name of a file holds no null character", path)
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def read_file(self, path: str) -> bytes:
        """The content of a file that the user named; errors as for `open_file`."""
        with os.fdopen(self.open_file(path, os.O_RDONLY), "rb") as file:
            if path.startswith(FDSETS) and file.seekable():
                file.seek(0)  # a duplicate shares its place with whoever read before
            return file.read()

    def take_fd(self, text: str) -> int:
        """The descriptor that a back end's `fd=` means, which is the caller's from now on; FdSetError when there is none."""
        return self.fdsets.take(text)

    def _inherit(self, entries: list[TableEntry]) -> None:
        """Take over what the process was started with; the originals are closed, so that nobody else uses them."""
        for entry in entries:
            with placed(entry.origin):
                self.fdsets.inherit(entry.said["fd"], entry.said["set"], entry.said.get("opaque", ""))
        for fd in {entry.said["fd"] for entry in entries}:
            os.close(fd)

    def _add_devices(self, entries: list[DeviceEntry]) -> None:
        """Add the configured devices, each after what it refers to; names depend on how they are declared alone."""
        order = self._in_order(entries)
        made = {id(entry): self.add_device(entry) for entry in order}
        for entry in entries:
            self._added[made[id(entry)]] = next(self._count)
        if order != entries:
            anonymous = [made[id(entry)] for entry in entries if entry.id is None]
            self.root.container("/machine/peripheral-anon").name_in_order(anonymous)

    def _in_order(self, entries: list[E]) -> list[E]:
        from qom.config.order import build_order
        from qom.config.probe import Probe

        return build_order(entries, Probe(self.registry))

    def _take_clock(self, clock: Clock) -> None:
        """The machine lives by `clock`; one that is stepped is served by whoever steps it."""
        self.clock = clock
        self.main_loop.set_clock(clock if isinstance(clock, RunningClock) else None)
        self.machine.attach(self)

    def _new_machine(self) -> Machine:
        entry = self.config.machine
        name = entry.type
        if entry.board is not None:
            boards: Any = self.registry.class_of("board-machine")
            with placed(entry.origin, "board"):
                name = boards.type_of_file(self.registry, entry.board)
        names = (f"{name}-machine", name)
        types = {t.name for t in self.registry.types("machine", abstract=False)}
        known = self.registry.find_any(names)
        if known is None or known.name not in types:
            short = [name.removesuffix("-machine") for name in self.registry.names("machine")]
            raise ConfigError(
                f"unknown machine type {entry.type!r}{self.registry.suggest(entry.type, short)}", entry.origin
            )
        machine: Machine = self.registry.new(known.name)
        self.root.add_child("machine", machine)
        machine.attach(self)
        self.machine = machine
        self.observe.begin()
        config = self.config
        with placed(entry.origin):
            for name, value in entry.props.items():
                with placed(entry.origin, name):
                    machine.set(name, value)
            cls = type(machine)
            with placed(config.origin_of("memory")):
                machine.set("ram-size", cls.default_ram_size if config.memory is None else config.memory)
            machine.set("smp-cpus", config.smp.cpus)
            machine.set("smp-sockets", config.smp.sockets)
            machine.set("smp-cores", config.smp.cores)
            machine.set("smp-threads", config.smp.threads)
            if config.firmware is not None:
                machine.set("firmware", config.firmware)
        machine.configure_from(config)
        return machine

    def _make_chardev(self, entry: ChardevEntry, loop: MainLoop) -> None:
        with placed(entry.origin):
            self.add_chardev(f"chardev-{entry.backend}", entry.id, entry.props, entry.origin, loop)

    @staticmethod
    def _monitor_type(entry: MonitorEntry) -> str:
        return "monitor-qmp" if entry.mode == "control" else "monitor-hmp"

    def _make_monitors(self) -> None:
        """The monitors of the configuration; each begins to serve at once, commands wait for the main loop."""
        for number, entry in enumerate(() if self.inert else self.config.monitors):
            with placed(entry.origin):
                monitor: Any = self._new(self._monitor_type(entry), "monitor")
                self.root.container("/monitors").add_child(f"monitor{number}", monitor)
                monitor.set("chardev", entry.chardev)
                if entry.pretty:
                    monitor.set("pretty", True)
                monitor.attach(self, self.root.container("/chardevs").children()[entry.chardev])

    def _make_backends(self) -> None:
        self._make_drives()
        for entry in self._in_order(self.config.objects):
            with placed(entry.origin):
                self.add_object(entry)

    def _make_drives(self) -> None:
        """The images that are not there yet: others may have come before the board is built."""
        there = self.root.container("/drives").children()
        for drive in self.config.drives:
            if drive.id not in there:
                with placed(drive.origin):
                    self.add_drive(drive)

    def add_chardev(
        self,
        type_name: str,
        id: str,
        props: dict[str, Any],
        origin: str = "",
        loop: MainLoop | None = None,
        *,
        tell: Callable[[str], None] | None = None,
    ) -> Object:
        """Make the character back end `/chardevs/<id>` and open it, to be served by `loop` (None: the main loop).

        tell: is told what a user must know of it, in place of `announce` and `redirected`.
        """
        if type_name not in self.registry:
            kind, *known = (name.removeprefix("chardev-") for name in (type_name, *self.registry.names("chardev")))
            hint = did_you_mean(kind, known) or self.registry.suggest_type(type_name, ())
            raise ConfigError(f"unknown character device '{kind}'{hint}")
        backend: Any = self._new(type_name, "chardev")
        self.root.container("/chardevs").add_child(id, backend)
        try:
            for name, value in props.items():
                with placed(origin, name):
                    backend.set(name, self.reference(backend, name, value))
            backend.configure()
            backend.announce, backend.redirected = tell or self.announce, tell or self.redirected
            backend.open_file, backend.take_fd = self.open_file, self.take_fd
            backend.end_machine = partial(self.request_shutdown, "host-ui")
            if not self.inert:
                with _blamed(backend, "open"):
                    backend.open(self.main_loop if loop is None else loop)
        except BaseException:
            backend.unparent()
            raise
        return backend  # type: ignore[no-any-return]

    def add_drive(self, entry: DriveEntry) -> Object:
        """Open the image `/drives/<id>`.

        Raises:
            ConfigError: an unknown format, or an option is wrong.
            QomError: it cannot be opened; nothing of it remains.
        """
        drive: Any = self.registry.new(entry.format_type(self.registry).name)
        self.root.container("/drives").add_child(entry.id, drive)
        try:
            for name, value in entry.given.items():
                with placed(entry.origin, name):
                    drive.set(name, value)
            drive.configure()
            drive.inert = self.inert
            drive.open_file = self.open_file
            with _blamed(drive, "open"):
                drive.open()
            if entry.over:
                base: Any = self.root.resolve(f"/drives/{entry.over}")
                base.attach(drive.path)
        except BaseException:
            drive.unparent()
            raise
        return drive  # type: ignore[no-any-return]

    def add_object(self, entry: ObjectEntry) -> Object:
        """Make the user object `/objects/<id>`."""
        if entry.driver not in self.registry.names("user-creatable"):
            from qom.config.user_objects import unknown_object

            raise unknown_object(self.registry, entry.driver, entry.origin)
        obj: Object = self.registry.new(entry.driver)
        self.root.container("/objects").add_child(entry.id, obj)
        try:
            for name, value in entry.props.items():
                with placed(entry.origin, name):
                    obj.set(name, self.reference(obj, name, value))
            obj.configure()
            creatable = obj.cast("user-creatable")
            with _blamed(obj, "attach"):
                creatable.attach(self)
            with _blamed(obj, "complete"):
                creatable.complete()
        except BaseException:
            obj.unparent()
            raise
        return obj

    def remove_object(self, id: str) -> None:
        """Take the user object `/objects/<id>` out (`object-del`).

        Raises:
            PathError: there is none.
            ConfigError: something refers to it; names what.
        """
        with self.lock:
            obj = self.root.container("/objects").child(id)
            users = [user.path for user in self.root.walk() if user is not obj and obj in user.referred()]
            if users:
                raise ConfigError(f"{obj.path}: used by {', '.join(users)}")
            obj.unparent()

    def _new(self, type_name: str, parent: str | None) -> Object:
        if parent is not None and self.registry.find_any((type_name,)) is None:
            known = self.registry.names(parent)
            raise ConfigError(f"unknown {parent} type {type_name!r}{self.registry.suggest_type(type_name, known)}")
        obj: Object = self.registry.new(type_name)
        return obj

    def add_device(self, entry: DeviceEntry) -> Device:
        """Make, place and realize a device (`-device`).

        Raises:
            ConfigError: unknown driver, bus or back end, or no bus that fits.
            QomError: a property is wrong or the device cannot be realized; nothing of it remains.
        """
        with placed(entry.origin), self.lock:
            known = self.registry.find_any((entry.driver,))
            if known is not None and known.is_a("cpu"):
                return self._add_cpu(entry)
            device = self._new(entry.driver, "device")
            if not isinstance(device, hw.Device) or not device.user_creatable:
                raise ConfigError(f"{entry.driver!r} is not a device that can be added by hand")
            if device.needs_of_board and device.needs_of_board not in self.machine.offers:
                name = self.machine.type_name.removesuffix("-machine")
                raise ConfigError(f"{entry.driver!r} needs {device.needs_of_board}, which the machine '{name}' has not")
            home = self.root.container("/machine/peripheral" if entry.id is not None else "/machine/peripheral-anon")
            self._added[device] = next(self._count)
            if entry.id is not None:
                home.add_child(entry.id, device)
            else:
                home.add_auto(device)
            try:
                bus = self._bus_for(device, entry)
                for name, value in entry.props.items():
                    with placed(entry.origin, name):
                        device.set(name, self.reference(device, name, value))
                if entry.id is None:
                    home.name_by_place(device)  # where its properties put it, for what realize may say of it
                device.plug(bus)
                device.set("realized", True)
                if entry.id is None:
                    home.name_by_place(device)  # known at the latest now, and no matter of what else there is
            except BaseException:
                device.unparent()
                raise
            self._tell_of(device)
            return device

    def _tell_of(self, device: Device) -> None:
        """The guest is told of what comes once the machine is built, where there is somebody to tell it."""
        handler = self.machine.hotplug_handler(device) if self._built else None
        if handler is not None:
            handler.plugged(device)

    def _add_cpu(self, entry: DeviceEntry) -> Device:
        if entry.bus is not None:
            raise ConfigError(f"{entry.driver}: a processor is on no bus, so 'bus' cannot be {entry.bus!r}")
        cpu = self.machine.add_cpu(entry.driver, entry.id, entry.props)
        self._added[cpu] = next(self._count)
        if self._built:
            self.observe.built()
            if self.run_state is RunState.RUNNING:
                resume_all_vcpus([cpu])
            self._tell_of(cpu)
        return cpu

    def _bus_for(self, device: Device, entry: DeviceEntry) -> Bus:
        if entry.bus is not None:
            return self.find_bus(entry.bus)
        wanted = device.bus_type
        if wanted is None:
            return self.machine.system_bus
        for bus in self.buses():
            if self.registry.is_a(bus, wanted) and bus.has_room(device):
                return bus
        raise ConfigError(f"{entry.driver}: this machine has no free bus of type {wanted!r}")

    def find_bus(self, name: str) -> Bus:
        """The bus a configuration names: by path, by the id of its device and its name (`b0.pci.0`), or by its name.

        Raises:
            ConfigError: there is none, or several have the name.
        """
        if "/" in name:
            with suppress(PathError):
                found = self.root.resolve(name)
                if isinstance(found, hw.Bus):
                    return found
        peripherals = self.root.container("/machine/peripheral")
        for at, letter in enumerate(name):
            provider = peripherals.get_child(name[:at]) if letter == "." else None
            found = provider.get_child(name[at + 1 :]) if provider is not None else None
            if isinstance(found, hw.Bus):
                return found
        fits = [bus for bus in self.buses() if bus.name == name]
        if not fits:
            names = list(dict.fromkeys(self.name_of_bus(bus) for bus in self.buses()))
            raise ConfigError(f"bus {name!r} not found{did_you_mean(name, names)}; there are: {', '.join(names)}")
        if len(fits) > 1:
            names = [self.name_of_bus(bus) for bus in fits]
            raise ConfigError(f"bus {name!r} is the name of several: expected one of {', '.join(names)}")
        return fits[0]

    def name_of_bus(self, bus: Bus) -> str:
        """The shortest name by which `find_bus` finds it: its own, its device's id and its own, or its path."""
        assert bus.name is not None
        if sum(other.name == bus.name for other in self.buses()) == 1:
            return bus.name
        provider = bus.parent
        if provider is not None and provider.parent is self.root.container("/machine/peripheral"):
            return f"{provider.name}.{bus.name}"
        return bus.path

    @property
    def built(self) -> bool:
        """Whether the machine is whole: built, and not closed."""
        return self._built and not self._closed

    @property
    def closed(self) -> bool:
        """Whether it was closed, or is being closed."""
        return self._closed

    @property
    def served(self) -> bool:
        """Whether its main loop takes requests, now or soon: it is built, or waits in preconfig, and is not closed."""
        return self.built or (self.run_state is RunState.PRECONFIG and not self._closed)

    def added(self) -> list[Device]:
        """The devices that were added by hand (`add_device`) and are still there, in the order in which they came."""
        homes = [home for name, home in self.machine.children().items() if name in ("peripheral", "peripheral-anon")]
        found = [d for home in homes for d in home.children().values() if isinstance(d, hw.Device)]
        return sorted(found, key=lambda device: self._added.get(device, 0))

    def dump(self) -> MachineConfig:
        """The machine as it is now, as a configuration that builds its like; see `qom.vm.dump`.

        Raises:
            LifecycleError: it was not built, or is closed.
            ConfigError: something was set to a value that no file can hold.
        """
        from qom.vm.dump import dump

        return dump(self, self._as_built)

    def buses(self) -> list[Bus]:
        """Every bus of the machine, in the order they came."""
        return self.root.listed("bus")

    def reference(self, obj: Object, name: str, value: Any) -> Any:
        """Turn the id of a back end into the object, for a link property; other values pass unchanged."""
        if not isinstance(value, str):
            return value
        found = obj.class_properties.get(name) or obj.instance_property(name)
        if found is None and (current := self.registry.current_property(obj.type, name)) is not None:
            found = obj.class_properties.get(current)
        if found is None or found.kind != "link":
            return value
        for place in ("/chardevs", "/drives", "/objects", "/machine/peripheral"):
            target = self.root.container(place).get_child(value)
            if target is not None:
                return target
        return value

    # -- for the program that runs it, from any thread ----------------------------------------------------------------

    def start(self) -> VirtualMachine:
        """Let the machine run, served by a main loop in a thread of its own; returns at once.

        One that has ended runs again after a `reset`.

        Raises:
            LifecycleError: the machine has ended and was not reset, or was closed.
        """
        if not self._closed:
            if self._ended.is_set() and self.run_state is RunState.PRELAUNCH:
                self._begin_again()
            self.start_loop()
        self.cont()
        return self

    def _begin_again(self) -> None:
        loop = self._loop_thread
        if loop is not None and loop is not threading.current_thread():
            loop.join()  # it has been told to quit
        with self.lock:
            self._loop_thread = None
            self._ended.clear()
            self._ending = self.shutdown_reason = None
            self.exit_status = 0

    @property
    def memory(self) -> GuestMemory:
        """The guest's physical memory."""
        from qom.vm.guest import GuestMemory

        return GuestMemory(self.machine.system_bus.memory_space, self.lock)

    @functools.cached_property
    def input(self) -> InputQueue:
        """Keys on their way to the machine's keyboard."""
        from qom.vm.input import InputQueue

        return InputQueue(self)

    @property
    def ports(self) -> GuestPorts:
        """The guest's I/O ports."""
        from qom.vm.guest import GuestPorts

        return GuestPorts(self.machine.system_bus.io_space, self.lock)

    @property
    def consoles(self) -> dict[str, Console]:
        """The consoles in memory by the id of their back end (`-chardev console,id=...`)."""
        from qom.vm.console import Console, ConsoleChardev

        backends = self.root.container("/chardevs").children()
        for name, backend in backends.items():
            if isinstance(backend, ConsoleChardev) and name not in self._consoles:
                self._consoles[name] = Console(backend, self.lock, self._silent_for_ever)
        return dict(self._consoles)

    def console(self, id: str = "serial0") -> Console:
        """One of `consoles`.

        Raises:
            PathError: there is no console in memory of that id.
        """
        found = self.consoles.get(id)
        if found is None:
            there = ", ".join(self._consoles) or "none"
            raise PathError(f"no console {id!r}{did_you_mean(id, self._consoles)}; consoles in memory: {there}")
        return found

    def _silent_for_ever(self) -> str | None:
        if self.failure is not None:
            return f"the machine failed: {self.failure}"
        if self._ended.is_set():
            return f"the machine has ended ({self.shutdown_reason or 'closed'})"
        if self.run_state is RunState.PRELAUNCH and not self._started:
            return "the machine was never started"
        return None

    def add(self, driver: str, id: str | None = None, bus: str | None = None, **props: Any) -> Device:
        """Add a device to the machine as it is, also while it runs (`device_add`).

        Args:
            driver: its type.
            id: its name under /machine/peripheral; without one it is named after its place.
            bus: the name or path of its bus; None for the first that fits.
            props: its properties; `tick_ns` means `tick-ns`.

        Raises:
            QomError: no such type, bus or property, or the device cannot be added; nothing of it remains.
        """
        if id is not None:
            check_id(id)
        return self.add_device(DeviceEntry(driver, id, bus, props))

    def remove(self, device: Device | str) -> None:
        """Take a device out of the machine at once, whatever the guest does with it; `unplug` asks it.

        Args:
            device: the device, its id, or its path.

        Raises:
            PathError: there is no such device.
            LifecycleError: the device or its bus does not allow it while the machine exists.
        """
        from qom.vm.cpu import Cpu

        with self.lock:
            device = self._device(device)
            gone = [hw.event_data(each) for each in self._going_with(device)]
            handler = self.machine.hotplug_handler(device)
            if isinstance(device, Cpu):
                self.machine.remove_cpu(device)
            else:
                device.unplug()
            if handler is not None:
                handler.unplugged(device)
            for data in reversed(gone):
                self.emit("DEVICE_DELETED", **data)

    def unplug(self, device: Device | str) -> None:
        """Have a device go (`device_del`): the guest is asked for it where the machine can ask, else it goes at once.

        DEVICE_DELETED tells when it is gone.  A guest may take its time, refuse, or not be listening at all; a PCI device
        that it was asked for goes with the next reset.

        Args:
            device: as for `remove`.

        Raises:
            PathError: there is no such device.
            LifecycleError: it cannot go, or the guest has been asked for it already.
        """
        with self.lock:
            device = self._device(device)
            handler = self.machine.hotplug_handler(device) if self._built else None
            if handler is not None:
                handler.unplug_request(device)
            elif device.is_a("cpu"):
                raise LifecycleError("CPU hot unplug not supported without ACPI")
            else:
                self.remove(device)

    def ejected(self, device: Device) -> None:
        """The guest has let go of `device`: it goes at once, a processor as soon as the main loop comes to it."""
        if device.is_a("cpu"):  # it may be the one that said so, and no thread can wait for itself
            self.main_loop.call_soon_threadsafe(partial(self._take_out, device))
        else:
            self.remove(device)

    def _take_out(self, device: Device) -> None:
        if device.realized and self.built:
            self.remove(device)

    def _device(self, device: Device | str) -> Device:
        if not isinstance(device, str):
            return device
        found = self.root.resolve(("" if device.startswith("/") else "/machine/peripheral/") + device)
        if not isinstance(found, hw.Device):
            raise PathError(f"{found.path}: is a {found.type_name}, no device")
        return found

    def _going_with(self, device: Device) -> Iterator[Device]:
        """A device, and every one that goes with it: its parts, and those on its buses."""
        yield device
        parts = [each for each in device.walk() if each is not device]
        for part in parts:
            if isinstance(part, hw.Bus):
                for other in part.devices:
                    yield from self._going_with(other)
            elif isinstance(part, hw.Device) and (part.bus is None or part.bus not in parts):
                yield part

    # -- running ----------------------------------------------------------------------------------------------------

    @property
    def cpus(self) -> list[Cpu]:
        """The vCPUs, by index."""
        return self.machine.cpus

    def set_run_state(self, new: RunState) -> None:
        """Go to another run state."""
        check_transition(self.run_state, new)
        probe = self.registry.probe
        if probe is not None and new is not self.run_state:
            try:
                failed = probe.step("run-state", getattr(self, "machine", None), new.value)
            except Fault as error:  # an observer's: the machine ends by it, and still has to get there
                self._fail(str(error))
            else:
                if failed is not None and new is RunState.RUNNING:
                    raise LifecycleError(f"the machine cannot run: {failed}")
        self.run_state = new
        self._follow(Life.RUNNING if new is RunState.RUNNING else Life.REALIZED)

    def _follow(self, life: Life) -> None:
        """The machine's life follows the run state: it is `running` while its processors may run."""
        if self.machine.life in (Life.REALIZED, Life.RUNNING) and self.machine.life is not life:
            move(self.machine, life)

    def cont(self) -> None:
        """Let the vCPUs run (QEMU: `vm_start`, `resume_all_vcpus`; SEED.md row 12).

        Raises:
            LifecycleError: the guest has shut down or failed and was not reset.
        """
        with self.lock:
            if self._closed:
                raise LifecycleError("a virtual machine that was closed cannot run")
            if self.inert:
                raise LifecycleError("a virtual machine that was built to be looked at cannot run")
            if self.run_state in (RunState.RUNNING, RunState.SUSPENDED):
                return
            self.set_run_state(RunState.RUNNING)
            self._started = True
            self.clock.start()
            accel: Any = self.machine.accel
            if accel is not None:
                accel.time_starts()
            self.emit("RESUME")
            if self._suspension is not None and self._suspension.asked:
                self._suspension.fall_asleep()
            else:
                resume_all_vcpus(self.cpus)

    def stop(self, state: RunState = RunState.PAUSED) -> None:
        """Stop the vCPUs and the clock; returns when every vCPU stands still (QEMU: `vm_stop`).

        state: the run state of a machine that ran; one that stands still, or is suspended, stays in its own.
        """
        with self.lock:
            if self._halt(state):
                self.emit("STOP")

    def _halt(self, state: RunState) -> bool:
        """Stop vCPUs and clock of a running machine, without a word; False when it does not run."""
        if self.run_state is RunState.RUNNING:
            pause_all_vcpus(self.cpus, self.cpu_cond)
        if self.run_state is not RunState.RUNNING:  # before, or since: waiting gives the lock to others
            return False
        self._stop_time()
        self.set_run_state(state)
        return True

    def _stop_time(self) -> None:
        self.clock.stop()
        accel: Any = self.machine.accel
        if accel is not None:
            accel.time_stops()

    def reset(self, kind: Reset = Reset.COLD, reason: str = RESET_FROM_OUTSIDE) -> None:
        """Reset the whole machine; a running one goes on running, from its reset vector, a suspended one does not."""
        with self.lock:
            pause_all_vcpus(self.cpus, self.cpu_cond)
            running = self.run_state is RunState.RUNNING  # not before: somebody may have stopped it meanwhile
            if self.run_state is RunState.SUSPENDED:
                self._stop_time()
            for device in self.machine.leaving():
                self.remove(device)
            self._reset_devices(kind)
            if self._suspension is not None:
                self._suspension.end()
            self.emit("RESET", **_cause(reason, "reset"))
            if running:
                resume_all_vcpus(self.cpus)
            else:
                self.set_run_state(RunState.PRELAUNCH)

    def reload(self, what: str) -> ReloadReport:
        """Exchange the code of a type, or of a module's types, in this machine while it runs (qom/vm/reload.py).

        Raises:
            ReloadError: nothing has changed; says why, with file and line.
        """
        from qom.vm.reload import reload

        return reload(self, what)

    def _reset_devices(self, kind: Reset = Reset.COLD) -> None:
        reset_tree(self.machine, kind)

    def run(self) -> int:
        """Start the machine (unless the configuration says paused) and serve it until it ends.

        Returns:
            The exit status: 0 after an orderly end, the guest's own with `isa-debug-exit`, 1 after a failure.
        """
        if not self._built and self.run_state is RunState.SHUTDOWN:
            return self.exit_status  # before it was ever built, by a monitor or a signal
        if not self._built:
            raise LifecycleError("a virtual machine must be built before it runs")
        from qom.vm.pauses import short_pauses

        with short_pauses():
            if not self.config.paused:
                self.cont()
            self.main_loop.run()
            with self.lock:
                self.stop()
        return self.exit_status

    def start_loop(self) -> None:
        """Run the main loop in a thread of its own until `close` or the end of the machine."""
        if self._loop_thread is None:
            self._loop_thread = threading.Thread(target=self.main_loop.run, name="main-loop", daemon=True)
            self._loop_thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the machine has ended; False when `timeout` seconds were not enough."""
        return self._ended.wait(timeout)

    # -- requests (SystemControl), from any thread -------------------------------------------------------------------

    def request_reset(self, reason: str) -> None:
        """Have the machine reset soon; with `-action reboot=shutdown` it ends instead."""
        if self.actions.reboot == "shutdown":
            self._request_end(_Ending(reason, "reset", False), 0)
            return
        if self._reset_reason is None and self.shutdown_reason is None:
            self._reset_reason = reason
            stop_all_vcpus_soon(self.machine.cpus)
            self.main_loop.call_soon_threadsafe(self._serve_reset)

    def _serve_reset(self) -> None:
        reason, self._reset_reason = self._reset_reason, None
        if reason is not None and self.shutdown_reason is None:
            self.reset(Reset.COLD, reason)

    def request_shutdown(self, reason: str, code: int = 0, *, final: bool = False) -> None:
        """Have the machine end soon, with this exit status; the first request counts.

        reason: who wants it; what begins with "host", and "internal-error", did not come from the guest.
        final: also where `-action shutdown=pause` keeps what a guest switches off; always when it is not the guest.
        """
        what = "panic" if reason == actions.GUEST_PANIC else "shutdown"
        self._request_end(_Ending(reason, what, final or not _by_guest(reason)), code)

    def _request_end(self, ending: _Ending, code: int) -> None:
        if self._ending is None:
            self._ending = ending
            self.shutdown_reason = ending.reason
            self.exit_status = code
            if self._built:
                stop_all_vcpus_soon(self.machine.cpus)
            self.main_loop.call_soon_threadsafe(self._serve_shutdown)

    def _serve_shutdown(self) -> None:
        ending = self._ending
        if ending is None:
            return  # two threads asked at once, and the first one's has been served
        ran = self._halt(RunState.SHUTDOWN)
        if self.run_state is RunState.SUSPENDED:
            self._stop_time()
            self.set_run_state(RunState.SHUTDOWN)
        self.emit("SHUTDOWN", **_cause(ending.reason, ending.what))
        if self.actions.shutdown == "pause" and not ending.final:
            self._ending = self.shutdown_reason = None
            self.exit_status = 0
            if ran:
                self.emit("STOP")
            return
        if ending.what == "panic" and self.actions.panic == "exit-failure":
            self.exit_status = 1
        self.set_run_state(RunState.SHUTDOWN)
        self._end()
        self.main_loop.quit()

    def request_stop(self, state: RunState) -> None:
        """Have a running machine stand still soon, in this run state."""
        self._stop_state = state
        stop_all_vcpus_soon(self.machine.cpus)
        self.main_loop.call_soon_threadsafe(self._serve_stop)

    def _serve_stop(self) -> None:
        state, self._stop_state = self._stop_state, None
        if state is not None:
            self.stop(state)

    def set_action(self, **chosen: str) -> None:
        """Change what happens when the guest reboots, switches off or panics, and when a watchdog fires (`set-action`).

        Args:
            chosen: `reboot`, `shutdown`, `panic`, `watchdog`, each one of the words that `-action` takes.

        Raises:
            ConfigError: no such action, or no such answer to it; nothing has changed.
        """
        actions.set_action(self, chosen)

    def guest_panicked(self, info: Mapping[str, Any] | None = None) -> None:
        """The guest says that its kernel has crashed: `-action panic=` says what follows."""
        actions.guest_panicked(self, info)

    def guest_crashloaded(self, info: Mapping[str, Any] | None = None) -> None:
        """The guest says that its kernel has crashed and that its crash kernel runs."""
        actions.guest_crashloaded(self, info)

    def watchdog_fired(self) -> None:
        """A watchdog was not served in time: `-action watchdog=` says what follows."""
        actions.watchdog_fired(self)

    def inject_nmi(self) -> None:
        """Press the NMI button (`inject-nmi`): every processor gets one, as far as its local APIC lets it through.

        Raises:
            LifecycleError: the machine has no such button.
        """
        with self.lock:
            self.machine.inject_nmi()

    def request_powerdown(self) -> None:
        """Press the power button."""
        self.emit("POWERDOWN")
        self.main_loop.call_soon_threadsafe(self.machine.powerdown)

    def request_suspend(self) -> None:
        """The guest suspends itself to RAM (qom/vm/suspend.py); the machine lock is held."""
        if self._suspension is None:
            from qom.vm.suspend import Suspension

            self._suspension = Suspension(self)
        self._suspension.request()

    def wake(self, reason: WakeReason) -> None:
        """A device has something that wakes a suspended machine, if the guest lets it; the machine lock is held."""
        if self._suspension is not None:
            self._suspension.wake(reason)

    def request_wakeup(self) -> None:
        """Wake the guest from suspend (`system_wakeup`).

        Raises:
            LifecycleError: the guest is not suspended, or never can be.
        """
        if not self.machine.can_suspend:
            raise LifecycleError("wake-up from suspend is not supported by this guest")
        with self.lock:
            if self._suspension is None or self.run_state is not RunState.SUSPENDED:
                raise LifecycleError("Unable to wake up: guest is not in suspended state")
            self._suspension.wake_now()

    def vcpu_failed(self, cpu: object, report: str) -> None:
        """A vCPU cannot go on: stop the machine with a report (any thread)."""
        self._fail(report)

    def device_failed(self, error: BaseException) -> None:
        """A device or a back end raised: stop the machine with a report (any thread)."""
        self._fail(_described(error))

    def _call_hook(self, name: str, **facts: Any) -> None:
        """Have every plugin hear of this machine; one that raises is reported, and the others hear of it too."""
        hooks = self.registry.used_hooks
        if hooks is None:
            return
        given = {"vm": self, **facts}
        for plugin in getattr(hooks.hook, name).get_hookimpls():
            try:
                plugin.function(*[given[argument] for argument in plugin.argnames])
            except BaseException as error:
                if passes(error):
                    raise
                self.complain(f"plugin '{plugin.plugin_name}': {name} raised {shown(error)}, at {place_of(error)}")

    def complain(self, text: str) -> None:
        """Report something wrong that the machine survives."""
        self.report(text)
        self.log_lines.append(text)

    def _report(self, text: str) -> None:
        print(f"qom: {self.config.name or 'machine'}: {text}", file=sys.stderr)

    def _fail(self, report: str) -> None:
        if self.failure is None:
            self.failure = report
            self.report(report)
            self.log_lines.append(report)
            self.request_shutdown("internal-error", 1)

    # -- log and events ---------------------------------------------------------------------------------------------

    def log(self, category: str, text: str) -> None:
        """Note something; shown when the category is on (`-d`) or "warning", kept in `log_lines` either way."""
        line = f"{category}: {text}"
        self.log_lines.append(line)
        if category == "warning" or category in self._categories:
            print(line, file=self._log_file or sys.stderr, flush=True)

    def set_log(self, categories: Iterable[str]) -> None:
        """Show these categories from now on, and no others (`log`).

        Raises:
            ConfigError: there is no such category; nothing has changed.
        """
        wanted = list(dict.fromkeys(categories))
        for name in wanted:
            if name not in LOG_CATEGORIES:
                known = ", ".join(LOG_CATEGORIES)
                near = did_you_mean(name, LOG_CATEGORIES)
                raise ConfigError(f"unknown log category '{name}': expected some of {known}{near}")
        self.config.log.categories = wanted
        self._categories = frozenset(wanted)

    def set_log_file(self, path: str) -> None:
        """Have the log go to another file from now on (`logfile`).

        Raises:
            ConfigError: it cannot be opened; the log goes where it went.
        """
        try:
            opened = os.fdopen(self.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"log file {path}: {error.strerror}") from None
        with self.lock:
            before, self._log_file = self._log_file, opened
            self.config.log.file = path
            if before is not None:
                before.close()

    def emit(self, event: str, **data: Any) -> None:
        """Tell every listener in `events`, and the plugins that implement `qom_machine_event`."""
        told = {"time": time.time(), **data}
        for listener in tuple(self.events):
            try:
                listener(event, dict(told))
            except BaseException as error:
                if passes(error):
                    raise
                self.complain(f"a listener to events, told of {event}, raised {shown(error)}, at {place_of(error)}")
        self._call_hook("qom_machine_event", event=event, data=told)

    # -- monitor commands -------------------------------------------------------------------------------------------

    def monitor_commands(self) -> dict[str, MonitorCommand]:
        """The commands that plugins bring for running machines, by name."""
        return dict(sorted(self.registry.extensions.commands.items()))

    def monitor_command(self, name: str, /, **arguments: Any) -> Any:
        """Carry out a command, QMP's or a plugin's (`tick_ns=5` gives `tick-ns`), and return its answer.

        Raises:
            QomError: no such command, an argument is wrong, or the command failed.
        """
        monitors: Any = self.registry.class_of("monitor")
        service = monitors.service(self)
        command = service.table.find(name)
        known = command.arguments.members
        given = {key if key in known else key.rstrip("_").replace("_", "-"): v for key, v in arguments.items()}
        with self.lock:
            return service.call(command, given)

    # -- end --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Unrealize everything, end every thread, give back files and memory.  Closing twice is allowed.

        Raises:
            LifecycleError: called on a thread that this would wait for, or that keeps one from ending: in a callback on a
                processor's thread, or with the machine lock held.  `request_shutdown` is for there.
        """
        from qom.vm.cpu import this_cpu

        cpu, thread = this_cpu(), self._loop_thread
        locked = self.lock.held and thread is not None and thread is not threading.current_thread()
        with self.lock:
            if self._closed:
                return
            if locked or (cpu is not None and cpu.lock is self.lock):
                raise LifecycleError(
                    "a virtual machine cannot be closed on a processor's thread or with its lock held:"
                    " expected request_shutdown() there"
                )
            self._closed = True
            if "observe" in vars(self):
                self.observe.close()
        if self._loop_thread is not None:
            self.main_loop.quit()
            if self._loop_thread is not threading.current_thread():
                self._loop_thread.join()
        with ExitStack() as steps:  # done from the last to the first, each also when another has failed
            steps.callback(self._end)
            if self.monitors is not None:
                steps.callback(self.monitors.close)
            if self._log_file is not None:
                steps.callback(self._log_file.close)
            if self._fdsets is not None:
                steps.callback(self._fdsets.close)
            steps.callback(self._call_hook, "qom_machine_closed")
            steps.callback(self.main_loop.close)
            if self.monitors is not None:
                self.monitors.stop()
            steps.enter_context(self.lock)
            machine = getattr(self, "machine", None)
            if machine is not None:
                steps.callback(self._tidy, machine.unparent)
            steps.callback(self._close_backends)
            if machine is not None:
                steps.callback(self._tidy, self._drop_accel)
                steps.callback(self._join_vcpus)
                pause_all_vcpus(machine.cpus, self.cpu_cond)
                self.clock.stop()
                if machine.life is Life.RUNNING:
                    move(machine, Life.REALIZED)
                if machine.get("realized"):
                    with machine.system_bus.io_space.deferred():
                        self._tidy(partial(machine.set, "realized", False))

    def _tidy(self, step: Callable[[], object]) -> None:
        """A step of `close`: what a plugin's code raises in it is reported, and the machine is closed all the same."""
        try:
            step()
        except QomError as error:
            self.complain(f"while it was closed: {error}")

    def _join_vcpus(self) -> None:
        """End the threads of processors that could not be unrealized; the others' have ended."""
        for cpu in self.machine.cpus:
            join_vcpu(cpu)

    def _drop_accel(self) -> None:
        accel, self.machine.accel = self.machine.accel, None
        if accel is not None:
            accel.unparent()

    def _close_backends(self) -> None:
        with ExitStack() as steps:
            for place in ("/chardevs", "/monitors", "/drives", "/objects"):  # objects first: they use the others
                for child in self.root.container(place).children().values():
                    steps.callback(self._tidy, child.unparent)
                    close = getattr(child, "close", None)
                    if close is not None:
                        steps.callback(self._tidy, partial(self._close_one, child, close))

    @staticmethod
    def _close_one(child: Object, close: Callable[[], object]) -> None:
        with _blamed(child, "close"):
            close()

    def _end(self) -> None:
        """Whoever waits for the machine, or for something from it, waits no longer."""
        self._ended.set()
        for console in tuple(self._consoles.values()):
            console.wake()

    def __repr__(self) -> str:
        name = self.config.name or "machine"
        if not self._built or self._closed:
            return f"<VirtualMachine {name!r}: {'closed' if self._closed else 'not built'}>"
        accel = self.machine.accel
        number = len(self.cpus)
        facts = (
            f"{self.machine.type_name} on {accel.type_name if accel is not None else 'nothing'}",
            self.run_state.value,
            f"{number} processor{'s' * (number != 1)}",
            format_size(self.machine.ram_size),
        )
        return f"<VirtualMachine {name!r}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the machine in a line, and its composition tree."""
        with self.lock:
            from qom.notebook import tree_html

            return tree_html(self.root, repr(self))

    def __enter__(self) -> VirtualMachine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _blamed(obj: Object, doing: str) -> Iterator[None]:
    """What an object's own code raises in the block becomes a fault of that object."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, QomError) or passes(error):
            raise
        raise DeviceFault(obj.path, error, doing=doing, owner=obj) from error


def _described(error: BaseException) -> str:
    if isinstance(error, QomError):
        return str(error)
    place = place_of(error)
    return f"{shown(error)}, at {place}" if place else shown(error)


def _cause(reason: str, what: str) -> dict[str, Any]:
    """Event data: QEMU's ShutdownCause (`host-signal`, `guest-reset`, ...), and who asked as the device put it."""
    if _by_guest(reason):
        return {"guest": True, "reason": f"guest-{what}", "source": reason}
    return {"guest": False, "reason": "host-error" if reason == "internal-error" else reason, "source": reason}


def _by_guest(reason: str) -> bool:
    return not reason.startswith("host") and reason != "internal-error"


def _unheard(text: str) -> None:
    del text
