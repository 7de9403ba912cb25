"""Block nodes and drives: images by node name or drive id, and the disks that use them.

A node here is one image with its format (`/drives/NAME`), of a `-drive` or made by blockdev-add; QEMU's pair of a format
node over a protocol node of driver "file" is taken, too: the file node then only holds the file's lock.

Not modelled: block jobs, snapshots, backing files, throttling, exports, dirty bitmaps; their commands do not exist here.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from qom.config.blockdev import block_nodes, over_their_files
from qom.config.model import FORMAT_PREFIX
from qom.errors import ConfigError, QomError, did_you_mean
from qom.monitor import Boxed, CommandError, Open, command
from qom.vm.block import SECTOR, BlockBackend

if TYPE_CHECKING:
    from qom.config.model import DriveEntry
    from qom.object import Object
    from qom.vm import VirtualMachine


BlockdevCache = TypedDict("BlockdevCache", {"writeback": bool, "direct": bool, "no-flush": bool})

ImageInfo = TypedDict(
    "ImageInfo", {"filename": str, "format": str, "actual-size": NotRequired[int], "virtual-size": int}
)

BlockDeviceInfo = TypedDict(
    "BlockDeviceInfo",
    {
        "file": str, "node-name": NotRequired[str], "ro": bool, "drv": str, "backing_file_depth": int,
        "encrypted": bool, "detect_zeroes": Literal["off", "on", "unmap"], "bps": int, "bps_rd": int, "bps_wr": int,
        "iops": int, "iops_rd": int, "iops_wr": int, "image": ImageInfo, "cache": BlockdevCache, "write_threshold": int,
    },
)  # fmt: skip


class BlockInfo(TypedDict):
    """A drive, or an image that nobody uses."""

    device: str
    qdev: NotRequired[str]
    type: str
    removable: bool
    locked: bool
    inserted: NotRequired[BlockDeviceInfo]
    tray_open: NotRequired[bool]


BlockdevOptions = TypedDict(
    "BlockdevOptions",
    {
        "driver": str, "node-name": str, "read-only": NotRequired[bool], "auto-read-only": NotRequired[bool],
        "filename": NotRequired[str], "file": NotRequired[str | dict[str, Any]], "cache": NotRequired[dict[str, Any]],
        "discard": NotRequired[Literal["ignore", "unmap"]], "detect-zeroes": NotRequired[Literal["off", "on", "unmap"]],
        "locking": NotRequired[Literal["auto", "on", "off"]], "force-share": NotRequired[bool],
        "aio": NotRequired[Literal["threads", "native", "io_uring"]],
    },
)  # fmt: skip
"""What blockdev-add takes; a format's own properties may be given besides."""


def drives(vm: VirtualMachine) -> dict[str, BlockBackend]:
    """The images of a machine by name."""
    found = vm.root.container("/drives").children()
    return {name: one for name, one in found.items() if isinstance(one, BlockBackend)}


def node(vm: VirtualMachine, name: str) -> BlockBackend:
    """The image of that name."""
    there = drives(vm)
    if name not in there:
        raise CommandError(f"Cannot find device='' nor node-name='{name}'{did_you_mean(name, there)}")
    return there[name]


def _inserted(vm: VirtualMachine, name: str, drive: BlockBackend) -> BlockDeviceInfo:
    file = str(drive.get("file")) if "file" in drive.class_properties else ""
    entry = entry_of(vm, name)
    format = (entry.node if entry is not None else "") or drive.type_name.removeprefix(FORMAT_PREFIX)
    image: ImageInfo = {"filename": file, "format": format, "virtual-size": drive.sectors * SECTOR}
    with contextlib.suppress(OSError):  # it was moved away since, or is a descriptor
        image["actual-size"] = os.stat(file).st_blocks * 512
    return {
        "file": file, "node-name": name, "ro": not drive.writable, "drv": format, "backing_file_depth": 0,
        "encrypted": False, "detect_zeroes": "off", "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0,
        "iops_wr": 0, "image": image, "cache": {"writeback": True, "direct": False, "no-flush": False},
        "write_threshold": 0,
    }  # fmt: skip


@command("query-block", preconfig=True)
def query_block(vm: VirtualMachine) -> list[BlockInfo]:
    """The drives: those of -drive by their id, and what disks use of the rest; floppy drives also when they are empty."""
    from qom.monitor.commands.media import removable_drives

    out: list[BlockInfo] = []
    removable = removable_drives(vm)
    for name, device in removable.items():
        floppy: BlockInfo = {
            "device": name, "qdev": device_name(device), "type": "unknown", "removable": True, "locked": False,
        }  # fmt: skip
        if device.drive is not None:
            floppy["inserted"] = _inserted(vm, device.drive.name, device.drive)
        out.append(floppy)
    in_removable = {device.drive for device in removable.values()}
    for name, drive in used_or_named(vm):
        if drive in in_removable:
            continue
        made: BlockInfo = {
            "device": name if is_drive(vm, name) else "",
            "type": "unknown",
            "removable": False,
            "locked": False,
            "inserted": _inserted(vm, name, drive),
        }
        if drive.user:
            made["qdev"] = user_name(vm, drive)
        out.append(made)
    return out


def entry_of(vm: VirtualMachine, name: str) -> DriveEntry | None:
    """What the configuration says of an image."""
    return next((entry for entry in vm.config.drives if entry.id == name), None)


def is_drive(vm: VirtualMachine, name: str) -> bool:
    """Whether an image is that of a -drive, whose id is the name of a block device."""
    entry = entry_of(vm, name)
    return entry is not None and not entry.node


def used_or_named(vm: VirtualMachine) -> list[tuple[str, BlockBackend]]:
    """The images that are block devices: of a -drive, or used by a disk; not those that nodes lie over."""
    return [
        (name, drive)
        for name, drive in drives(vm).items()
        if is_drive(vm, name) or (drive.user and not drive.user.startswith("/drives/"))
    ]


def device_name(device: Any) -> str:
    """The id of a device, or its path when nobody gave it one."""
    home = device.parent
    return str(device.name if home is not None and home.path == "/machine/peripheral" else device.path)


def user_name(vm: VirtualMachine, drive: BlockBackend) -> str:
    """`device_name` of the disk that uses an image."""
    return device_name(vm.root.resolve(drive.user))


@command("query-named-block-nodes", preconfig=True)
def query_named_block_nodes(vm: VirtualMachine, flat: bool = False) -> list[BlockDeviceInfo]:
    """Every image; there are no backing chains, so `flat` changes nothing."""
    return [_inserted(vm, name, drive) for name, drive in drives(vm).items()]


@command("blockdev-add", preconfig=True)
def blockdev_add(vm: VirtualMachine, options: Annotated[dict[str, Any], Boxed(Open(BlockdevOptions))]) -> None:
    """Open an image under a node name, for a device's `drive`.

    driver: a format ("raw"), or "file" for the bytes of a file as they are.  file: for a format, the file node it lies over:
    its name, or its options in place ({"driver": "file", "filename": ...}).
    """
    made: list[Object] = []
    try:
        entries = block_nodes(options)
        there = drives(vm)
        for entry in entries:
            if entry.id in there:
                raise CommandError(f"Duplicate nodes with node-name='{entry.id}'")
            if entry.over and entry.over not in (*there, *(one.id for one in entries)):
                node(vm, entry.over)
        over_their_files(entries, vm.config.drives)
        for entry in entries:
            made.append(vm.add_drive(entry))
    except QomError as error:
        for one in reversed(made):
            one.unparent()
        if isinstance(error, ConfigError):
            raise CommandError(error.message) from None
        raise
    vm.config.drives = [*vm.config.drives, *entries]


@command("blockdev-del", preconfig=True)
def blockdev_del(vm: VirtualMachine, node_name: str) -> None:
    """Close an image that no disk uses."""
    there = drives(vm)
    if node_name not in there:
        raise CommandError(f"Failed to find node with node-name='{node_name}'{did_you_mean(node_name, there)}")
    drive, entry = there[node_name], entry_of(vm, node_name)
    if drive.user:
        raise CommandError(f"Node '{node_name}' is busy: it is used by {drive.user}")
    if entry is None or not entry.node:
        raise CommandError(f"Node {node_name} is not owned by the monitor: it was made by -drive")
    if entry.over:
        there[entry.over].detach()
    goes = {node_name, *(one.id for one in vm.config.drives if one.within == node_name)}
    for name in goes:
        there[name].close()
        there[name].unparent()
    vm.config.drives = [one for one in vm.config.drives if one.id not in goes]


@command("block_resize", preconfig=True)
def block_resize(vm: VirtualMachine, size: int, device: str | None = None, node_name: str | None = None) -> None:
    """Change the size of an image that can be written, in bytes; a whole number of sectors.

    A hard disk that uses it tells its host the new size when that asks; what a floppy drive or another node uses stays.
    """
    if (device is None) == (node_name is None):
        raise CommandError("expected one of 'device' and 'node-name'")
    drive = node(vm, device or node_name or "")
    if size < SECTOR or size % SECTOR:
        raise CommandError(f"Parameter 'size' expects a multiple of {SECTOR} bytes from {SECTOR} on, got {size}")
    if drive.user and drive.on_resized is None:
        raise CommandError(f"Node '{drive.name}' is used by {drive.user}, which cannot change its size")
    resize = getattr(drive, "resize", None)
    if resize is None:
        raise CommandError(f"format '{drive.type_name.removeprefix(FORMAT_PREFIX)}' cannot be resized")
    try:
        resize(size // SECTOR)
    except QomError:
        raise
    except OSError as error:
        raise CommandError(f"{drive.path}: cannot be resized to {size} bytes: {error.strerror}") from None
    entry = entry_of(vm, drive.name or "")
    if entry is not None and entry.over:
        below: Any = drives(vm)[entry.over]
        below.resize(size // SECTOR)  # it is the same file, and so has the size already
    if drive.on_resized is not None:
        drive.on_resized(drive.sectors)
