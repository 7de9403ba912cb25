"""The observatory of a machine: where observers are added, and how they reach what they watch.

    with vm.observe.accesses(print, device="isa-serial"):
        ...

What observers are told and what they may do is in qom/hw/probe.py.  Observers may be added before the machine is built (a
plugin's `qom_machine_created`), while it is built and while it runs, from any thread: adding and removing takes the
machine lock.  A vCPU that is in the guest is made to enter it anew when the first observer of exits comes and when the
last one goes, so it hears of exits from its next one on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from qom.errors import ConfigError, did_you_mean
from qom.hw.device import Device
from qom.hw.irq import Line
from qom.hw.memory import PAGE_SIZE, Region
from qom.hw.probe import (
    TOP,
    Access,
    AccessProbe,
    AccessWatch,
    Exit,
    ExitProbe,
    LifeStep,
    LineChange,
    LineTap,
    MachineProbe,
    Observation,
    PropertySet,
    Space,
    Telling,
)
from qom.vm.cpu import this_cpu

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace
    from qom.vm.vm import VirtualMachine

__all__ = ["STEPS", "Observatory"]

STEPS = (
    "created", "configured", "realize", "realized", "reset", "unrealize", "unrealized", "finalized", "run-state"
)  # fmt: skip
"""The life-cycle steps."""

WATCHED_PRIORITY = 1 << 30
"""Of the windows over watched RAM: in front of all that a board maps."""

Which = Device | str | None
"""Devices: one object, a canonical path, an id, a type name (types derived from it count), None for all."""


class Observatory:
    """The observers of one virtual machine; `vm.observe`."""

    def __init__(self, vm: VirtualMachine) -> None:
        self._vm = vm
        self._telling = Telling()
        self._probe = MachineProbe(self._telling)
        self._watches: dict[Space, list[AccessWatch]] = {"io": [], "memory": []}
        self._probes: dict[AddressSpace, AccessProbe] = {}
        self._taps: dict[Line, LineTap] = {}
        self._line_watches: list[_LineWatch] = []

    # -- for observers

    def accesses(
        self,
        callback: Callable[[Access], object],
        *,
        space: Space = "io",
        first: int = 0,
        last: int | None = None,
        device: Which = None,
        reads: bool = True,
        writes: bool = True,
        before: bool = False,
        after_others: bool = False,
        ram: bool = False,
    ) -> Observation:
        """Tell `callback(access)` of port ("io") or memory accesses that touch `first`..`last` (inclusive).

        device: only what this device (or devices of this type) answers.  before: tell reads before the device is asked.
        ram: also the guest's own accesses to RAM in the range: its pages are taken out of the guest's memory, so that
        each access to them exits, slowly.  For data only: a processor cannot fetch instructions, page tables or
        descriptors from there, and the range is what is RAM now, of a machine that is built.

        Raises:
            ConfigError: an unknown space, an empty range, a device that a built machine has not; with `ram`, a range
                without an end or without RAM.
        """
        if space not in self._watches:
            raise ConfigError(f"observe: no address space {space!r}: expected 'io' or 'memory'")
        last = TOP if last is None else last
        if not 0 <= first <= last:
            raise ConfigError(f"observe: {first:#x}..{last:#x} is no range: expected the first address, then the last")
        watch = AccessWatch(
            callback,
            first,
            last,
            reads=reads,
            writes=writes,
            wanted=self._matcher(device),
            before=before,
            after_others=after_others,
        )
        with self._vm.lock:
            windows = self._ram_windows(first, last) if ram else []
            self._watches[space].append(watch)
            self._cover()
        return Observation(lambda: self._stop_accesses(space, watch, windows))

    def exits(
        self, callback: Callable[[Exit], object], *, before: bool = False, after_others: bool = False
    ) -> Observation:
        """Tell `callback(exit)` of every exit from the guest; `before` and `after_others` as for accesses.

        An accelerator with a vCPU loop of its own tells nothing.
        """
        with self._vm.lock:
            exits, first = self._probe.exits or ExitProbe(self._telling), self._probe.exits is None
            when = "early" if before else "latest" if after_others else "late"
            setattr(exits, when, (*getattr(exits, when), callback))
            if first:
                self._probe.exits = exits
                self._exits_changed()
        return Observation(lambda: self._stop_exits(callback, when))

    def lines(
        self,
        callback: Callable[[LineChange], object],
        *,
        device: Which = None,
        name: str | None = None,
        n: int | None = None,
        after_others: bool = False,
    ) -> Observation:
        """Tell `callback(change)` whenever somebody drives an input of the device, or the device drives a line.

        name: only lines of this name ("" for unnamed inputs; "isa-irq" and "intx" for interrupt lines of a bus).
        n: only this number.
        """
        watch = _LineWatch(callback, self._matcher(device), name, n, after_others)
        with self._vm.lock:
            self._line_watches.append(watch)
            if len(self._line_watches) == 1:
                self._probe.steps = (*self._probe.steps, self._device_came)
                self._changed()
            for found in self._vm.root.walk():
                if isinstance(found, Device):
                    self._tap(found, watch)
        return Observation(lambda: self._stop_lines(watch))

    def lifecycle(
        self,
        callback: Callable[[LifeStep], object],
        *,
        steps: Collection[str] | None = None,
        device: Which = None,
        after_others: bool = False,
    ) -> Observation:
        """Tell `callback(step)` of life-cycle steps; only those in `steps`, and of these devices, if given.

        Raises:
            ConfigError: no step has that name.
        """
        for step in steps or ():
            if step not in STEPS:
                raise ConfigError(f"observe: no life-cycle step {step!r}{did_you_mean(step, STEPS)}")
        wanted = self._matcher(device)

        def chosen(step: LifeStep) -> None:
            if (steps is None or step.what in steps) and (wanted is None or wanted(step.object)):
                callback(step)

        with self._vm.lock:
            if after_others:
                self._probe.last_steps = (*self._probe.last_steps, chosen)
            else:
                self._probe.steps = (*self._probe.steps, chosen)
            self._changed()
        return Observation(lambda: self._stop_lifecycle(chosen))

    def properties(self, callback: Callable[[PropertySet], object]) -> Observation:
        """Tell `callback(told)` whenever a property of any object was set.

        Not told: values that a device computes or changes by itself without setting a property.
        """
        with self._vm.lock:
            self._probe.sets = (*self._probe.sets, callback)
            self._changed()
        return Observation(lambda: self._stop_properties(callback))

    # -- for VirtualMachine; the machine lock is held

    def begin(self) -> None:
        """The machine object, and with it the address spaces, exist."""
        self._cover()

    def built(self) -> None:
        """All devices are there and wired: follow the processors that came and the lines that were connected since."""
        self._cover()
        for found in self._vm.root.walk():
            if isinstance(found, Device):
                for watch in self._line_watches:
                    self._tap(found, watch)

    def close(self) -> None:
        """The machine is being closed: observers are still told, and can hinder nothing."""
        self._probe.deaf = True

    # -- inside

    def _matcher(self, device: Which) -> Callable[[Any], bool] | None:
        if device is None:
            return None
        if not isinstance(device, str):
            return lambda owner: owner is device
        registry = self._vm.registry
        self._check_known(device)
        if device.startswith("/"):
            return lambda owner: getattr(owner, "path", None) == device
        if device in registry:
            return lambda owner: isinstance(owner, Device) and owner.is_a(device)
        return lambda owner: isinstance(owner, Device) and owner.name == device

    def _check_known(self, device: str) -> None:
        """Once a machine is built, what it lacks is a mistake; before, it may still come."""
        machine = getattr(self._vm, "machine", None)
        if machine is None or not machine.ready or device in self._vm.registry:
            return
        names = {
            name for found in self._vm.root.walk() if isinstance(found, Device) for name in (found.path, found.name)
        }
        if device not in names:
            known = [str(name) for name in names] + [found.name for found in self._vm.registry.types("device")]
            raise ConfigError(f"observe: no device {device!r}{did_you_mean(device, known)}")

    def _cover(self) -> None:
        """Every address space has its observers: that of the ports, of memory, and of memory as each processor sees it."""
        machine = getattr(self._vm, "machine", None)
        if machine is None:
            return
        bus = machine.system_bus
        spaces: list[tuple[Space, AddressSpace]] = [("io", bus.io_space), ("memory", bus.memory_space)]
        spaces += [("memory", cpu.memory) for cpu in machine.cpus if hasattr(cpu, "memory")]
        for kind, space in spaces:
            for watch in self._watches[kind]:
                probe = self._probes.get(space) or AccessProbe(space, kind, this_cpu, self._telling)
                self._probes[space] = probe
                if watch not in probe.watches:
                    probe.add(watch)

    def _changed(self) -> None:
        """Somebody came or went: show the probe to whoever asks for it exactly while there is anybody."""
        probe = self._probe
        heard = probe.exits is not None or probe.steps or probe.last_steps or probe.sets
        self._vm.registry.probe = probe if heard else None

    def _exits_changed(self) -> None:
        self._changed()
        machine = getattr(self._vm, "machine", None)
        for cpu in machine.cpus if machine is not None else ():
            cpu.reenter()

    def _ram_windows(self, first: int, last: int) -> list[Region]:
        """Put a window that answers like the RAM behind it over every page of RAM in a range; accesses to it exit."""
        machine = getattr(self._vm, "machine", None)
        bus = machine.system_bus if machine is not None else None
        low, high = first & -PAGE_SIZE, (last | (PAGE_SIZE - 1)) + 1
        found = [flat for flat in bus.memory_space.flat_view if flat.region.ram_block is not None] if bus else []
        spans = [(f, max(low, f.start), min(high, f.end)) for f in found if f.start < high and low < f.end]
        if not spans or bus is None or last == TOP:
            raise ConfigError(
                f"observe: no RAM to watch at {first:#x}..{last:#x}: expected a range in RAM, with its end"
            )
        windows = []
        with bus.memory.transaction():
            for flat, start, end in spans:
                shadow = _shadow(flat.region, flat.readonly)
                window = Region.alias("watched-ram", shadow, start - flat.start + flat.offset, end - start)
                windows.append(bus.memory.add(start, window, WATCHED_PRIORITY))
        return windows

    def _stop_accesses(self, space: Space, watch: AccessWatch, windows: list[Region]) -> None:
        with self._vm.lock:
            for window in windows:
                if window.parent is not None:
                    window.parent.remove(window)
            self._watches[space].remove(watch)
            for probe in self._probes.values():
                if watch in probe.watches:
                    probe.remove(watch)

    def _stop_exits(self, callback: Callable[[Exit], object], when: str) -> None:
        with self._vm.lock:
            exits = self._probe.exits
            if exits is None:
                return
            told = getattr(exits, when)
            at = next(n for n, known in enumerate(told) if known is callback)  # it may be there twice
            setattr(exits, when, (*told[:at], *told[at + 1 :]))
            if not exits.early and not exits.late and not exits.latest:
                self._probe.exits = None
                self._exits_changed()

    def _stop_lines(self, watch: _LineWatch) -> None:
        with self._vm.lock:
            self._line_watches.remove(watch)
            for line, tap in list(self._taps.items()):
                tap.listeners = [entry for entry in tap.listeners if entry[-1] is not watch]
                if not tap.listeners:
                    tap.remove()
                    del self._taps[line]
            if not self._line_watches:
                self._stop_lifecycle(self._device_came)

    def _stop_lifecycle(self, callback: Callable[[LifeStep], object]) -> None:
        with self._vm.lock:
            self._probe.steps = tuple(c for c in self._probe.steps if c != callback)
            self._probe.last_steps = tuple(c for c in self._probe.last_steps if c != callback)
            self._changed()

    def _stop_properties(self, callback: Callable[[PropertySet], object]) -> None:
        with self._vm.lock:
            self._probe.sets = tuple(c for c in self._probe.sets if c != callback)
            self._changed()

    def _device_came(self, step: LifeStep) -> None:
        if step.what == "realized" and isinstance(step.object, Device):
            for watch in self._line_watches:
                self._tap(step.object, watch)

    def _tap(self, device: Device, watch: _LineWatch) -> None:
        if watch.wanted is not None and not watch.wanted(device):
            return
        inputs = [("in", name, line.n, line) for name, lines in device.lines().items() for line in lines]
        outputs = [("out", name, n, line) for name, n, line in device.outputs()]
        for direction, name, n, line in (*inputs, *outputs):
            if watch.name not in (None, name) or watch.n not in (None, n):
                continue
            tap = self._taps.get(line)
            if tap is None:
                tap = self._taps[line] = LineTap(line, self._telling)
            entry = (watch.after_others, watch.callback, device, direction, name, n, watch)
            if entry not in tap.listeners:
                tap.listeners.append(entry)


def _shadow(ram: Region, readonly: bool) -> Region:
    """An I/O region that answers as `ram` does."""
    block = ram.ram_block
    assert block is not None
    view, written = block.view, block.written

    def read(offset: int, size: int) -> int:
        return int.from_bytes(view[offset : offset + size], "little")

    def write(offset: int, value: int, size: int) -> None:
        if not readonly:
            view[offset : offset + size] = value.to_bytes(size, "little")
            written(offset, size)

    return Region(ram.name, ram.size, read, write, (1, 8), unaligned=True, owner=ram.owner)


class _LineWatch:
    """One observer of lines, and which it wants."""

    def __init__(
        self,
        callback: Callable[[LineChange], object],
        wanted: Callable[[Any], bool] | None,
        name: str | None,
        n: int | None,
        after_others: bool,
    ) -> None:
        self.callback = callback
        self.wanted = wanted
        self.name = name
        self.n = n
        self.after_others = after_others
