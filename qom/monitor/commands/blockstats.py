"""Figures of block devices: what was read, written and flushed, and how long that took.

They are counted where an image is read and written (`qom.vm.block.Figures`), so a drive and the node that it is have the
same.  Not modelled, and so always 0 or absent: merged requests, discards, statistics over intervals, latency histograms.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, NotRequired, TypedDict

from qom.monitor import command
from qom.monitor.commands.block import device_name, drives, entry_of, is_drive, used_or_named, user_name
from qom.monitor.commands.media import removable_drives

if TYPE_CHECKING:
    from qom.vm import VirtualMachine
    from qom.vm.block import BlockBackend, Figures


class BlockDeviceTimedStats(TypedDict):
    """Statistics over an interval; there are none."""

    interval_length: int
    min_rd_latency_ns: int
    max_rd_latency_ns: int
    avg_rd_latency_ns: int
    min_wr_latency_ns: int
    max_wr_latency_ns: int
    avg_wr_latency_ns: int
    min_flush_latency_ns: int
    max_flush_latency_ns: int
    avg_flush_latency_ns: int
    avg_rd_queue_depth: float
    avg_wr_queue_depth: float


class BlockDeviceStats(TypedDict):
    """Figures since the image was opened; times in nanoseconds of host time, failed operations' times among them."""

    rd_bytes: int
    wr_bytes: int
    unmap_bytes: int
    rd_operations: int
    wr_operations: int
    flush_operations: int
    unmap_operations: int
    rd_total_time_ns: int
    wr_total_time_ns: int
    flush_total_time_ns: int
    unmap_total_time_ns: int
    wr_highest_offset: int
    rd_merged: int
    wr_merged: int
    unmap_merged: int
    idle_time_ns: NotRequired[int]
    failed_rd_operations: int
    failed_wr_operations: int
    failed_flush_operations: int
    failed_unmap_operations: int
    invalid_rd_operations: int
    invalid_wr_operations: int
    invalid_flush_operations: int
    invalid_unmap_operations: int
    account_invalid: bool
    account_failed: bool
    timed_stats: list[BlockDeviceTimedStats]


BlockStats = TypedDict(
    "BlockStats",
    {
        "device": NotRequired[str], "qdev": NotRequired[str], "node-name": NotRequired[str], "stats": BlockDeviceStats,
        "parent": NotRequired["BlockStats"], "backing": NotRequired["BlockStats"],
    },
)  # fmt: skip


def _stats(figures: Figures | None) -> BlockDeviceStats:
    from qom.vm.block import Figures

    told = figures or Figures()
    out: BlockDeviceStats = {
        "rd_bytes": told.read.bytes,
        "wr_bytes": told.write.bytes,
        "unmap_bytes": 0,
        "rd_operations": told.read.operations,
        "wr_operations": told.write.operations,
        "flush_operations": told.flush.operations,
        "unmap_operations": 0,
        "rd_total_time_ns": told.read.time_ns,
        "wr_total_time_ns": told.write.time_ns,
        "flush_total_time_ns": told.flush.time_ns,
        "unmap_total_time_ns": 0,
        "wr_highest_offset": told.highest,
        "rd_merged": 0,
        "wr_merged": 0,
        "unmap_merged": 0,
        "failed_rd_operations": told.read.failed,
        "failed_wr_operations": told.write.failed,
        "failed_flush_operations": told.flush.failed,
        "failed_unmap_operations": 0,
        "invalid_rd_operations": told.read.invalid,
        "invalid_wr_operations": told.write.invalid,
        "invalid_flush_operations": told.flush.invalid,
        "invalid_unmap_operations": 0,
        "account_invalid": False,
        "account_failed": True,
        "timed_stats": [],
    }
    if told.last:
        out["idle_time_ns"] = max(monotonic_ns() - told.last, 0)
    return out


def _of(vm: VirtualMachine, name: str, drive: BlockBackend | None) -> BlockStats:
    if drive is None:
        return {"stats": _stats(None)}
    over = drives(vm).get(drive.user.removeprefix("/drives/")) if drive.user.startswith("/drives/") else None
    made: BlockStats = {"node-name": name, "stats": _stats((over or drive).figures)}
    entry = entry_of(vm, name)
    if entry is not None and entry.over:  # what it lies over is read and written through it
        made["parent"] = {"node-name": entry.over, "stats": _stats(drive.figures)}
    return made


@command("query-blockstats", preconfig=True)
def query_blockstats(vm: VirtualMachine, query_nodes: bool = False) -> list[BlockStats]:
    """What was read, written and flushed, of every block device; `query-nodes`: of every node."""
    if query_nodes:
        return [_of(vm, name, drive) for name, drive in drives(vm).items()]
    out: list[BlockStats] = []
    removable = removable_drives(vm)
    for name, device in removable.items():
        image = device.drive
        out.append(
            {"device": name, "qdev": device_name(device), **_of(vm, image.name if image is not None else "", image)}
        )
    in_removable = {device.drive for device in removable.values()}
    for name, drive in used_or_named(vm):
        if drive in in_removable:
            continue
        made: BlockStats = {"device": name if is_drive(vm, name) else "", **_of(vm, name, drive)}
        if drive.user:
            made["qdev"] = user_name(vm, drive)
        out.append(made)
    return out
