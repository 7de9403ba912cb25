"""Block nodes and drives: images by node name or drive id, and the disks that use them.

A node here is one image with its format (`/drives/NAME`), of a `-drive` or made by blockdev-add; QEMU's pair of a format
node over a protocol node of driver "file" is taken, too: the file node then only holds the file's lock.

Not modelled: block jobs, snapshots, backing files, throttling, exports, dirty bitmaps; their commands do not exist here.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from qom.config.model import FORMAT_PREFIX, DriveEntry
from qom.errors import ConfigError, QomError, did_you_mean
from qom.monitor import Boxed, CommandError, Open, command
from qom.object import check_id
from qom.vm.block import SECTOR, BlockBackend

if TYPE_CHECKING:
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
    },
)  # fmt: skip
"""What blockdev-add takes; a format's own properties may be given besides."""

WITHOUT_MEANING = ("auto-read-only", "cache", "discard", "detect-zeroes", "force-share", "aio")
"""Accepted for QEMU's clients: there is one way here, and it is safe."""


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


def _inserted(name: str, drive: BlockBackend) -> BlockDeviceInfo:
    file = str(drive.get("file")) if "file" in drive.class_properties else ""
    format = drive.type_name.removeprefix(FORMAT_PREFIX)
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

    ids = {entry.id for entry in vm.config.drives}
    out: list[BlockInfo] = []
    removable = removable_drives(vm)
    for name, device in removable.items():
        floppy: BlockInfo = {
            "device": name, "qdev": device.path, "type": "unknown", "removable": True, "locked": False,
        }  # fmt: skip
        if device.drive is not None:
            floppy["inserted"] = _inserted(device.drive.name, device.drive)
        out.append(floppy)
    in_removable = {device.drive for device in removable.values()}
    for name, drive in drives(vm).items():
        if (name not in ids and not drive.user) or drive in in_removable:
            continue
        made: BlockInfo = {
            "device": name if name in ids else "",
            "type": "unknown",
            "removable": False,
            "locked": False,
            "inserted": _inserted(name, drive),
        }
        if drive.user:
            made["qdev"] = drive.user
        out.append(made)
    return out


@command("query-named-block-nodes", preconfig=True)
def query_named_block_nodes(vm: VirtualMachine, flat: bool = False) -> list[BlockDeviceInfo]:
    """Every image; there are no backing chains, so `flat` changes nothing."""
    return [_inserted(name, drive) for name, drive in drives(vm).items()]


@command("blockdev-add", preconfig=True)
def blockdev_add(vm: VirtualMachine, options: Annotated[dict[str, Any], Boxed(Open(BlockdevOptions))]) -> None:
    """Open an image under a node name, for a device's `drive`.

    driver: a format ("raw"), or "file" for the bytes of a file as they are.  file: for a format, the file node it lies over:
    its name, or its options in place ({"driver": "file", "filename": ...}).
    """
    rest = {key: value for key, value in options.items() if key not in WITHOUT_MEANING}
    name, driver = check_id(rest.pop("node-name")), rest.pop("driver")
    if name in drives(vm):
        raise CommandError(f"Duplicate nodes with node-name='{name}'")
    readonly = rest.pop("read-only", False)
    base: BlockBackend | None = None
    if driver in ("file", "host_device"):
        driver = "raw"
        if "filename" not in rest:
            raise CommandError("Parameter 'filename' is missing: expected string")
    else:
        below = rest.pop("file", None)
        if below is None:
            raise CommandError("Parameter 'file' is missing: expected the name of a file node, or its options")
        if isinstance(below, dict):
            inner = {key: value for key, value in below.items() if key not in (*WITHOUT_MEANING, "node-name")}
            if inner.pop("driver", "file") not in ("file", "host_device") or "filename" not in inner:
                raise CommandError("Parameter 'file' expects {'driver': 'file', 'filename': PATH}")
            rest.update(inner)
        else:
            base = node(vm, below)
            rest["filename"] = base.get("file")
            rest["locking"] = "off"  # the file node has the lock
    filename = rest.pop("filename")
    if "locking" in rest:
        rest["locking"] = rest["locking"] in (True, "on", "auto")
    entry = DriveEntry(name, filename, driver, "none", readonly=bool(readonly), origin="", props=rest)
    try:
        made = vm.add_drive(entry)
        if base is not None:
            base.attach(made.path)
    except ConfigError as error:
        raise CommandError(error.message) from None


@command("blockdev-del", preconfig=True)
def blockdev_del(vm: VirtualMachine, node_name: str) -> None:
    """Close an image that no disk uses."""
    drive = node(vm, node_name)
    if drive.user:
        raise CommandError(f"Node '{node_name}' is busy: it is used by {drive.user}")
    if any(entry.id == node_name for entry in vm.config.drives):
        raise CommandError(f"Node {node_name} is not owned by the monitor: it was made by -drive")
    path = drive.path
    for other in drives(vm).values():
        if other.user == path:
            other.detach()
    drive.close()
    drive.unparent()


@command("block_resize", preconfig=True)
def block_resize(vm: VirtualMachine, size: int, device: str | None = None, node_name: str | None = None) -> None:
    """Change the size of an image that can be written, in bytes; a whole number of sectors.

    A disk that uses it keeps the size it had when it was realized: only what no disk uses can be resized.
    """
    if (device is None) == (node_name is None):
        raise CommandError("expected one of 'device' and 'node-name'")
    drive = node(vm, device or node_name or "")
    if size < SECTOR or size % SECTOR:
        raise CommandError(f"Parameter 'size' expects a multiple of {SECTOR} bytes from {SECTOR} on, got {size}")
    if drive.user:
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
