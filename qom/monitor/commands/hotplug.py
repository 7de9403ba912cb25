"""device_add, device_del, object-add, object-del.

Before the machine is built (`-preconfig`) a device is checked as far as that goes without a board, and is built with
the board; objects are made at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from qom.config import DeviceEntry, ObjectEntry
from qom.config.user_objects import MEMORY_BACKENDS, NO_MEMORY_BACKENDS
from qom.errors import ConfigError, PathError, UnknownProperty, did_you_mean
from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.monitor import CommandError, Named, command
from qom.object import check_id
from qom.vm.runstate import RunState

if TYPE_CHECKING:
    from qom.registry import Type
    from qom.vm import VirtualMachine


# -- devices


@command("device_add", preconfig=True, features=("json-cli", "json-cli-hotplug"))
def device_add(vm: VirtualMachine, driver: str, bus: str | None = None, id: str | None = None, **rest: Any) -> None:
    """Add a device; the other arguments are its properties, as JSON values or as the texts of a command line."""
    _check_id(id)
    found = _device_type(vm, driver)
    entry = DeviceEntry(driver, id, bus, rest)
    if vm.run_state is RunState.PRECONFIG:
        _add_later(vm, entry)
        return
    if id is not None and vm.root.container("/machine/peripheral").get_child(id) is not None:
        raise CommandError(f"Duplicate device ID '{id}'")
    _check_bus(vm, found, entry)
    try:
        vm.add_device(entry)
    except UnknownProperty as error:
        raise _no_property(vm, driver, error) from None


def _check_id(id: str | None) -> None:
    if id is not None:
        try:
            check_id(id)
        except PathError as error:
            raise CommandError(
                f"Parameter 'id' expects an identifier: {str(error).partition('expected ')[2]}"
            ) from None


def _device_type(vm: VirtualMachine, driver: str) -> Type:
    registry = vm.registry
    if driver not in registry or not registry.get(driver).is_a("device"):
        near = did_you_mean(driver, registry.names("device"))
        raise CommandError(f"'{driver}' is not a valid device model name{near}")
    found = registry.get(driver)
    if found.abstract:
        raise CommandError(f"Parameter 'driver' expects a non-abstract device type: '{driver}' is abstract")
    if not found.cls.user_creatable and not found.is_a("cpu"):
        raise CommandError(f"Parameter 'driver' expects a pluggable device type: '{driver}' is a part of others")
    return found


def _check_bus(vm: VirtualMachine, found: Type, entry: DeviceEntry) -> None:
    """Whether the device may come now, to the bus it names or to one that fits."""
    wanted = found.cls.bus_type
    if found.is_a("cpu") and entry.bus is None:
        return  # the machine knows its places
    if entry.bus is not None:
        bus: Bus | None = vm.find_bus(entry.bus)
        if bus is not None and (wanted is None or not bus.is_a(wanted)):
            needs = f"a bus of type '{wanted}'" if wanted else "no bus"
            raise CommandError(f"Device '{entry.driver}' can't go on {bus.type_name} bus: expected {needs}")
    else:
        fits = [bus for bus in vm.buses() if wanted is not None and bus.is_a(wanted)]
        bus = next((each for each in fits if each.has_room()), None)
    if bus is not None and not bus.hotplug:
        raise CommandError(f"Bus '{vm.name_of_bus(bus)}' does not support hotplugging")
    if not found.cls.hotpluggable:
        raise CommandError(f"Device '{entry.driver}' does not support hotplugging")


def _no_property(vm: VirtualMachine, driver: str, error: UnknownProperty) -> CommandError:
    near = str(error).partition("; did you mean ")[2]
    return CommandError(f"Property '{driver}.{error.property}' not found{near and f'; did you mean {near}'}")


def _add_later(vm: VirtualMachine, entry: DeviceEntry) -> None:
    from qom.config.check import wrong_with_device

    if entry.id is not None and any(other.id == entry.id for other in vm.config.devices):
        raise CommandError(f"Duplicate device ID '{entry.id}'")
    made = {name for place in ("/chardevs", "/drives", "/objects") for name in vm.root.container(place).children()}
    for wrong in wrong_with_device(entry, vm.config, vm.registry, made):
        raise CommandError(wrong.message)
    vm.config.devices.append(entry)


@command("device_del", preconfig=True)
def device_del(vm: VirtualMachine, id: str) -> None:
    """Have a device go, by id or path; DEVICE_DELETED tells when it, and each device that was on it, is gone.

    A processor, or a PCI device of a machine with ACPI, goes when the guest lets go of it.
    """
    if vm.run_state is RunState.PRECONFIG:
        _take_back(vm, id)
        return
    path = id if id.startswith("/") else f"/machine/peripheral/{id}"
    try:
        device = vm.root.resolve(path)
    except PathError:
        added = vm.root.container("/machine/peripheral").children()
        raise CommandError(f"Device '{id}' not found{did_you_mean(id, added)}", "DeviceNotFound") from None
    if not isinstance(device, Device) or device is vm.machine:
        raise CommandError(f"{device.path} is not a hotpluggable device")
    if device.bus is not None and not device.bus.hotplug and not device.is_a("cpu"):
        raise CommandError(f"Bus '{vm.name_of_bus(device.bus)}' does not support hotplugging")
    if not device.hotpluggable:
        raise CommandError(f"Device '{device.name}' does not support hotplugging")
    vm.unplug(device)


def _take_back(vm: VirtualMachine, id: str) -> None:
    name = id.removeprefix("/machine/peripheral/")
    found = next((entry for entry in vm.config.devices if entry.id == name), None)
    if found is None:
        known = [entry.id for entry in vm.config.devices if entry.id]
        raise CommandError(f"Device '{id}' not found{did_you_mean(name, known)}", "DeviceNotFound")
    vm.config.devices.remove(found)
    vm.emit("DEVICE_DELETED", device=name, path=f"/machine/peripheral/{name}")


# -- objects


@command("object-add", preconfig=True)
def object_add(vm: VirtualMachine, qom_type: Annotated[str, Named("qom-type")], id: str, **rest: Any) -> None:
    """Make an object under /objects; the other arguments are its properties."""
    _check_id(id)
    known = vm.registry.names("user-creatable")
    if qom_type in MEMORY_BACKENDS and qom_type not in known:
        raise CommandError(f"Parameter 'qom-type' does not accept value '{qom_type}': {NO_MEMORY_BACKENDS}")
    if qom_type not in known:
        near = did_you_mean(qom_type, known)
        raise CommandError(f"Parameter 'qom-type' does not accept value '{qom_type}': expected one of"
                           f" {', '.join(known)}{near}")  # fmt: skip
    there = {*vm.root.container("/objects").children(), *(entry.id for entry in _objects_to_come(vm))}
    if id in there:
        raise CommandError(f"attempt to add duplicate property '{id}' to object (type 'container')")
    try:
        vm.add_object(ObjectEntry(qom_type, id, rest))
    except UnknownProperty as error:
        near = str(error).partition("; did you mean ")[2]
        raise CommandError(f"Parameter '{error.property}' is unexpected{near and f'; did you mean {near}'}") from None


def _objects_to_come(vm: VirtualMachine) -> list[ObjectEntry]:
    return vm.config.objects if vm.run_state is RunState.PRECONFIG else []


@command("object-del", preconfig=True)
def object_del(vm: VirtualMachine, id: str) -> None:
    """Take out an object that object-add, or the configuration, made."""
    if any(entry.id == id for entry in _objects_to_come(vm)):
        vm.config.objects[:] = [entry for entry in vm.config.objects if entry.id != id]
        return
    objects = vm.root.container("/objects")
    if objects.get_child(id) is None:
        raise CommandError(f"object '{id}' not found{did_you_mean(id, objects.children())}")
    try:
        vm.remove_object(id)
    except ConfigError as error:
        raise CommandError(f"object '{id}' is in use, can not be deleted: {error.message}") from None
