"""What drives and block nodes there are, and what was done with them, in QEMU's layout."""

from __future__ import annotations

from typing import Annotated, Any

from qom.monitor.hmp.arguments import Flag, Size, Word
from qom.monitor.hmp.declare import CommandError, Hmp, hmp_command

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@hmp_command("info block")
def info_block(
    hmp: Hmp,
    named: Annotated[bool, Flag("n", "show named nodes")] = False,
    verbose: Annotated[bool, Flag("v", "show details")] = False,
    device: Annotated[str, Word(complete=lambda hmp, begun: hmp.vm.root.container("/drives").children())] = "",
) -> str:
    """show info of one block device or all block devices"""
    shown: list[str] = []
    drives = [] if named else hmp.qmp("query-block")
    for drive in drives:
        inserted = drive.get("inserted")
        name = drive["device"] or inserted["node-name"]
        if device not in ("", name):
            continue
        node = inserted["node-name"] if inserted is not None else name
        shown.append(_one(name + (f" ({node})" if node != name else ""), drive, inserted, verbose))
    if named or (device and not shown):
        nodes = hmp.qmp("query-named-block-nodes")
        shown = [_one(n["node-name"], {}, n, verbose) for n in nodes if device in ("", n["node-name"])]
    if device and not shown:
        raise CommandError(f"Error: Device '{device}' not found")
    return "\n\n".join(shown)


def _one(name: str, drive: dict[str, Any], inserted: dict[str, Any] | None, verbose: bool) -> str:
    if inserted is None:
        lines = [f"{name}: [not inserted]"]
    else:
        marks = ", ".join([inserted["drv"], *(["read-only"] if inserted["ro"] else [])])
        lines = [f"{name}: {inserted['file']} ({marks})"]
    if "qdev" in drive:
        lines.append(f"    Attached to:      {drive['qdev']}")
    if drive.get("removable"):
        lines.append("    Removable device: not locked, tray closed")
    if inserted is not None:
        lines.append("    Cache mode:       writeback")
        if verbose:
            image = inserted["image"]
            size = image["virtual-size"]
            lines += ["", "Images:", f"image: {image['filename']}", f"file format: {image['format']}"]
            lines.append(f"virtual size: {in_units(size)} ({size} bytes)")
            if "actual-size" in image:
                lines.append(f"disk size: {in_units(image['actual-size'])}")
    return "\n".join(lines)


def in_units(size: int) -> str:
    """Bytes with three digits and the greatest unit that leaves something before the point."""
    unit = max((size.bit_length() - 1) // 10, 0)
    return f"{size / (1 << 10 * unit):.3g} {UNITS[unit]}"


SHOWN = (
    "rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns", "rd_total_time_ns",
    "flush_total_time_ns", "rd_merged", "wr_merged", "idle_time_ns",
)  # fmt: skip


@hmp_command("info blockstats")
def info_blockstats(hmp: Hmp) -> str:
    """show block device statistics"""
    found = hmp.qmp("query-blockstats")
    return "\n".join(
        f"{each['device']}: " + " ".join(f"{name}={each['stats'].get(name, 0)}" for name in SHOWN) for each in found
    )


@hmp_command("block_resize")
def block_resize(
    hmp: Hmp,
    device: Annotated[str, Word(complete=lambda hmp, begun: hmp.vm.root.container("/drives").children())],
    size: Annotated[int, Size(unit="m")],
) -> None:
    """resize a block image"""
    hmp.qmp("block_resize", device=device, size=size)
