"""A live machine, read back into the configuration that builds its like.

What objects carry is read from the objects as they are now: devices and back ends that came or went since the start,
properties that were set since.  What no object carries (boot order, kernel, NUMA, log) is taken from the
configuration the machine was built from.  A place that a device found by itself (a PCI slot, a COM port) is written
down, so that it is found again whatever else has gone.

Not in it: state (registers, memory contents), devices that are not realized, parts that a program added to the tree by
other means than `VirtualMachine.add_device`, and the host's date, which a machine that was not given one takes anew.
"""

from __future__ import annotations

import copy
import enum
from typing import TYPE_CHECKING, Any, Final

from qom import records
from qom.config.model import (
    FORMAT_PREFIX,
    AccelChoice,
    ChardevEntry,
    CpuChoice,
    DeviceEntry,
    DriveEntry,
    Entry,
    MachineConfig,
    ObjectEntry,
    PartEntry,
    Smp,
)
from qom.errors import ConfigError, LifecycleError, PathError, QomError
from qom.hw.device import Device
from qom.object import Object
from qom.options import Options
from qom.properties import AliasProperty, Property, checked, format_size
from qom.vm.cpu import Cpu

if TYPE_CHECKING:
    from qom.registry import GlobalProperty
    from qom.vm.machine import Machine
    from qom.vm.vm import VirtualMachine

__all__ = ["Mutable", "default_of", "dump", "globals_for", "mutable_properties", "said"]

BACKENDS: Final = ("/chardevs", "/drives", "/objects", "/machine/peripheral")
"""Where an id is looked for, in this order (`VirtualMachine.reference`)."""

_OWN_SECTIONS: Final = frozenset(
    {"ram-size", "smp-cpus", "smp-sockets", "smp-cores", "smp-threads", "cpu-type", "firmware"}
)
"""Properties of a machine that a file says in sections of their own."""


Mutable = dict[tuple[str, str], Any]
"""Values of properties that may be set while the machine runs, by part and property."""


def dump(vm: VirtualMachine, as_built: Mutable) -> MachineConfig:
    """The configuration that builds a machine like `vm`: the same tree, the same properties, the same places.

    Building from it and dumping again gives the same configuration.  The machine may be running.

    Args:
        vm: a machine that was built.
        as_built: what `mutable_properties` gave then; a part that was set to something else since is written.

    Raises:
        LifecycleError: the machine was not built, or is closed.
        ConfigError: something was set to a value that no file can hold.
    """
    with vm.lock:
        if not vm.built:
            raise LifecycleError("a virtual machine must be built, and not closed, before it can be dumped")
        was, machine = vm.config, vm.machine
        props = {n: v for n, v in said(vm, machine).items() if n not in _OWN_SECTIONS}
        if was.cpu is None and machine.cpu_type:
            props["cpu-type"] = machine.cpu_type
        memory = machine.ram_size if machine.ram_size != type(machine).default_ram_size else None
        sockets, cores, threads = machine.smp_sockets, machine.smp_cores, machine.smp_threads
        return records.evolve(
            was,
            machine=Entry(_type(vm), props, board=was.machine.board),
            accelerators=_accelerators(vm),
            cpu=None if was.cpu is None else CpuChoice(was.cpu.model, dict(was.cpu.features)),
            smp=Smp(machine.smp_cpus, sockets, cores, threads, sockets * cores * threads),
            memory=memory,
            firmware=machine.firmware or None,
            numa=[records.evolve(n, origin="") for n in was.numa],
            numa_distances=[records.evolve(d, origin="") for d in was.numa_distances],
            globals=[records.evolve(g, origin="") for g in was.globals],
            chardevs=[
                ChardevEntry(c.type_name.removeprefix("chardev-"), id, said(vm, c))
                for id, c in sorted(_held(vm, "/chardevs").items(), key=lambda held: held[1].type_name == "chardev-mux")
            ],
            drives=[_drive(vm, id, d) for id, d in _held(vm, "/drives").items()],
            objects=[ObjectEntry(o.type_name, id, said(vm, o)) for id, o in _held(vm, "/objects").items()],
            devices=[_device(vm, device) for device in vm.added() if device.realized],
            parts=_parts(vm, as_built),
            wires=[records.evolve(w, origin="") for w in was.wires],
            regions=[records.evolve(r, origin="") for r in was.regions],
            boot=dict(was.boot),
            action=vm.actions.said(),
            serials=_serials(vm),
            log=records.evolve(was.log, origin=""),
            smbios=[records.evolve(e, origin="") for e in was.smbios],
            fw_cfg=[records.evolve(e, origin="") for e in was.fw_cfg],
            acpi_tables=[records.evolve(e, origin="") for e in was.acpi_tables],
            option_roms=[records.evolve(e, origin="") for e in was.option_roms],
            fds=[records.evolve(e, origin="") for e in was.fds],
            origins={},
        )


def _type(vm: VirtualMachine) -> str:
    """The machine's type with its version; of a board file the file says it."""
    was = vm.config.machine
    return was.type if was.board is not None else vm.machine.type_name.removesuffix("-machine")


def mutable_properties(machine: Machine) -> Mutable:
    """What may be set of a machine's parts while it runs, as it is now."""
    names = machine.changeable_parts
    return {
        (name, found.name): _comparable(found.read(part))
        for name, part in machine.children().items()
        if name in names
        for found in part.properties().values()
        if found.mutable and not found.volatile and found.kind not in ("child", "alias", "link")
    }


def _comparable(value: Any) -> Any:
    return copy.deepcopy(value) if isinstance(value, list | dict) else value


def _parts(vm: VirtualMachine, as_built: Mutable) -> list[PartEntry]:
    """What the configuration changed of the board, and what was set of its parts since."""
    out = [records.evolve(p, origin="", props=dict(p.props), values=dict(p.values)) for p in vm.config.parts]
    for (name, prop), value in mutable_properties(vm.machine).items():
        if value == as_built.get((name, prop)):
            continue
        part: Object = vm.machine.child(name)
        entry = next((e for e in reversed(out) if e.name == name and not e.remove), None)
        if entry is None:
            entry = PartEntry(name)
            out.append(entry)
        entry.values.pop(prop, None)
        entry.props[prop] = _plain(vm, part, part.find_property(prop), value)
    return out


def _serials(vm: VirtualMachine) -> list[str | None]:
    """The serial ports' back ends; one that nobody asked for, on a board without such a port, was not made."""
    made = _held(vm, "/chardevs")
    serials = list(vm.config.serials)
    while serials and serials[-1] is not None and serials[-1] not in made:
        serials.pop()
    return serials


def _held(vm: VirtualMachine, path: str) -> dict[str, Object]:
    """The children of the container at `path`, which may not be there."""
    try:
        found: Object = vm.root.resolve(path)
    except PathError:
        return {}
    return found.children()


def _accelerators(vm: VirtualMachine) -> list[AccelChoice]:
    accel = vm.machine.accel
    return [] if accel is None else [AccelChoice(accel.type_name.removesuffix("-accel"), said(vm, accel))]


def _drive(vm: VirtualMachine, id: str, drive: Object) -> DriveEntry:
    was = next((d for d in vm.config.drives if d.id == id), None)
    entry = DriveEntry(id, "", interface="none") if was is None else was
    put = was is None or was.node
    user: Any = vm.root.resolve(path) if put and (path := getattr(drive, "user", "")) else None
    if user is not None and user.parent is vm.machine and user.is_a("floppy"):  # put there since
        entry = DriveEntry(id, "", interface="floppy", index=user.unit, bus=0, unit=user.unit)
    props = said(vm, drive)
    if entry.over:
        props.pop("locking", None)
    now = {name: props.pop(name, default) for name, default in (("file", ""), ("readonly", False), ("snapshot", False))}
    return records.evolve(entry, **now, format=drive.type_name.removeprefix(FORMAT_PREFIX), props=props, origin="")


# Devices


def _device(vm: VirtualMachine, device: Device) -> DeviceEntry:
    home = device.parent
    id = device.name if home is not None and home.name == "peripheral" else None
    props = said(vm, device)
    if isinstance(device, Cpu):  # its place decides the rest
        place = {name: value for name, value in vm.machine.cpu_place(device.index).items() if name != "node-id"}
        props = {**{name: value for name, value in props.items() if name in device.user_set}, **place}
    return DeviceEntry(device.type_name, id, _bus(vm, device), props)


def _bus(vm: VirtualMachine, device: Device) -> str | None:
    """How to name the bus a device sits on; not at all where no other would do."""
    if device.bus_type is None or device.bus is None:
        return None
    return None if [b for b in vm.buses() if b.is_a(device.bus_type)] == [device.bus] else vm.name_of_bus(device.bus)


# Properties


def said(vm: VirtualMachine, obj: Object) -> Options:
    """What has to be said of an object to give it the properties it has: those that are not what it would start with.

    Links are ids of back ends and devices where those are unambiguous, else paths; sizes have suffixes.
    """
    out: Options = {}
    for name, found in obj.properties().items():
        if name == "bus" or not (owned := _stored(obj, found)):
            continue
        owner, declared = owned
        value = declared.read(owner)
        if value != default_of(owner, declared):
            out[name] = _plain(vm, owner, declared, value)
    return out


def _stored(obj: Object, found: Property) -> tuple[Object, Property] | None:
    """The object and the declaration that hold the value of a property; None for what is computed, or not to be set."""
    if isinstance(found, AliasProperty):
        try:
            owner, name = found.where(obj)
            return _stored(owner, owner.find_property(name))
        except QomError:
            return None
    if found.volatile or found.kind == "child" or (found.get is not None and found.set is None):
        return None
    return obj, found


def default_of(obj: Object, declared: Property) -> Any:
    """The value that a property of `obj` has before anybody sets it, global defaults included; None when required."""
    value = None if declared.required else declared.default
    for item in globals_for(obj, declared):
        value = item.value if declared.kind == "link" else checked(declared, item.value)
    return value


def globals_for(obj: Object, declared: Property) -> list[GlobalProperty]:
    """The global defaults that are meant for a property of `obj`; the last one holds."""
    names = (declared.name, declared.attr)
    return [g for g in obj.registry.globals if g.property in names and obj.is_a(g.driver)]


def _plain(vm: VirtualMachine, obj: Object, declared: Property, value: Any) -> Any:
    if isinstance(value, Object):
        return _reference(vm, value)
    if value is None:
        if declared.kind == "link":
            return ""
        raise ConfigError(f"{obj.path}: property '{declared.name}' was set to nothing, which a file cannot say")
    if isinstance(value, enum.Enum):
        return value.value
    if declared.kind == "size":
        text = format_size(value)
        return value if text.isdigit() else text
    return copy.deepcopy(value)


def _reference(vm: VirtualMachine, target: Object) -> str:
    name = target.name or ""
    return name if _first(vm, name) is target else target.path


def _first(vm: VirtualMachine, id: str) -> Object | None:
    return next((children[id] for children in (_held(vm, place) for place in BACKENDS) if id in children), None)
