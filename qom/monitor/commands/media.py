"""Media of drives that can do without one, which here are floppy drives: eject, change, insert, remove.

A drive is named by the name of its block device ("floppy0", or the id of the `-drive` that brought its first medium) or
by the id or path of the device.  A floppy drive has no tray, so opening and closing one does nothing, as in QEMU.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

from qom.config.model import DriveEntry
from qom.errors import ConfigError, QomError, did_you_mean
from qom.monitor import CommandError, command

if TYPE_CHECKING:
    from qom.hw import Device
    from qom.vm import VirtualMachine

REMOVABLE = "floppy"
"""The type of devices whose medium can be changed."""


def removable_drives(vm: VirtualMachine) -> dict[str, Any]:
    """The drives with a medium that can be changed, by the name of their block device."""
    found: dict[str, Any] = {}
    if REMOVABLE in vm.registry:
        for device in vm.machine.walk():
            if device.is_a(REMOVABLE) and getattr(device, "realized", False):
                found[_name(vm, device)] = device
    return found


def _name(vm: VirtualMachine, device: Any) -> str:
    """What its block device is called."""
    entry = _entry(vm, device)
    return entry.id if entry is not None else f"{REMOVABLE}{device.unit}"


def _entry(vm: VirtualMachine, device: Any) -> DriveEntry | None:
    """What the configuration says of the medium of a drive of the board."""
    if device.parent is not vm.machine:
        return None
    return next((d for d in vm.config.drives if d.interface == REMOVABLE and d.index == device.unit), None)


def _chosen(vm: VirtualMachine, device: str | None, id: str | None) -> Any:
    """The drive that a command means."""
    if (device is None) == (id is None):
        raise CommandError("Need exactly one of 'device' and 'id'")
    there = removable_drives(vm)
    if device is not None:
        if device in there:
            return there[device]
        if device in vm.root.container("/drives").children():
            raise CommandError(f"Device '{device}' is not removable")
        raise CommandError(f"Device '{device}' not found{did_you_mean(device, there)}", "DeviceNotFound")
    return _by_id(vm, id or "", there)


def _by_id(vm: VirtualMachine, id: str, there: dict[str, Any]) -> Any:
    found: Device | None = None
    with contextlib.suppress(QomError):
        found = vm.root.resolve(id if id.startswith("/") else f"/machine/peripheral/{id}")
    if found is None:
        raise CommandError(f"Device '{id}' not found", "DeviceNotFound")
    if found not in there.values():
        raise CommandError(f"Device '{id}' is not removable")
    return found


def _take_out(vm: VirtualMachine, drive: Any) -> None:
    """Eject the medium; its image goes, unless blockdev-add made it."""
    image = drive.eject()
    if image is not None and image.name == _name(vm, drive):
        image.unparent()


@command("eject")
def eject(vm: VirtualMachine, device: str | None = None, id: str | None = None, force: bool = False) -> None:
    """Take the medium out of a drive; nothing happens when there is none.

    force: accepted; the guest cannot lock a floppy in.
    """
    _take_out(vm, _chosen(vm, device, id))


@command("blockdev-change-medium")
def blockdev_change_medium(
    vm: VirtualMachine,
    filename: str,
    device: str | None = None,
    id: str | None = None,
    format: str | None = None,
    force: bool = False,
    read_only_mode: Literal["retain", "read-only", "read-write"] = "retain",
) -> None:
    """Put the medium in the file `filename` into a drive, in place of the one there, which stays if that is impossible.

    format: its image format, raw when not said.  read_only_mode: "retain" is as the medium before, or writable.
    """
    drive = _chosen(vm, device, id)
    old, name, before = drive.drive, _name(vm, drive), _entry(vm, drive)
    readonly = read_only_mode == "read-only" or (read_only_mode == "retain" and old is not None and not old.writable)
    on_board = drive.parent is vm.machine
    entry = DriveEntry(name, filename, format or "raw", REMOVABLE if on_board else "none", readonly=readonly)
    if on_board:
        entry.index, entry.bus, entry.unit = drive.unit, 0, drive.unit
    try:
        _check(vm, drive, entry)
        _take_out(vm, drive)
        try:
            drive.insert(vm.add_drive(entry))
        except QomError:
            if before is not None and old is not None and old.name == name:
                drive.insert(vm.add_drive(before))
            raise
    except ConfigError as error:
        raise CommandError(error.message) from None
    if on_board:
        vm.config.drives = [*(d for d in vm.config.drives if d is not before), entry]


def _check(vm: VirtualMachine, drive: Any, entry: DriveEntry) -> None:
    """Raise QomError when the drive cannot take what `entry` names, without a lock or a trace."""
    image: Any = vm.registry.new(entry.format_type(vm.registry).name)
    for name, value in entry.given.items():
        image.set(name, value)
    image.configure()
    image.inert = True
    image.open()
    try:
        drive.check_medium(image)
    finally:
        image.close()


@command("blockdev-insert-medium")
def blockdev_insert_medium(vm: VirtualMachine, id: str, node_name: str) -> None:
    """Put an image that blockdev-add made into an empty drive."""
    drive = _chosen(vm, None, id)
    images = vm.root.container("/drives").children()
    image: Any = images.get(node_name)
    if drive.drive is not None:
        raise CommandError("There already is a medium in the device")
    if image is None:
        raise CommandError(f"Node '{node_name}' not found{did_you_mean(node_name, images)}")
    if image.user:
        raise CommandError(f"Node '{node_name}' is already in use by {image.user}")
    drive.insert(image)


@command("blockdev-remove-medium")
def blockdev_remove_medium(vm: VirtualMachine, id: str) -> None:
    """Take the medium out of a drive; nothing happens when there is none."""
    _take_out(vm, _chosen(vm, None, id))


@command("blockdev-open-tray")
def blockdev_open_tray(
    vm: VirtualMachine, device: str | None = None, id: str | None = None, force: bool = False
) -> None:
    """Open the tray of a drive that has one; a floppy drive has none."""
    _chosen(vm, device, id)


@command("blockdev-close-tray")
def blockdev_close_tray(vm: VirtualMachine, device: str | None = None, id: str | None = None) -> None:
    """Close the tray of a drive that has one; a floppy drive has none."""
    _chosen(vm, device, id)
