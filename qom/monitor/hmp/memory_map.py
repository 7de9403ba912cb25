"""`info mtree`: memory regions as a tree, and as the guest sees them, in the shape of QEMU's."""

from __future__ import annotations

from collections.abc import Iterable

from qom.hw.address_space import AddressSpace
from qom.hw.device import Device
from qom.hw.memory import Region
from qom.object import Object

__all__ = ["flat_text", "tree_text"]

INDENT = "  "
TOP = (1 << 64) - 1


def _kind(region: Region, readonly: bool) -> str:
    if region.ram_block is not None:
        return "rom" if readonly else "ram"
    if region.target is not None:
        return _kind(region.target, readonly or region.target.readonly)
    return "i/o"


def _owner(region: Region) -> str:
    owner = region.owner
    if owner is None:
        return ""
    what = "dev" if isinstance(owner, Device) else "obj" if isinstance(owner, Object) else ""
    return f" owner:{{{what} path={owner.path}}}" if what else f" owner:{{{owner.path}}}"


def tree_text(spaces: Iterable[AddressSpace], *, owner: bool, disabled: bool) -> str:
    """Each address space as a tree, then the regions that aliases point to.

    owner: say to whom regions belong.  disabled: show those that are not enabled too.
    """
    lines: list[str] = []
    targets: dict[int, Region] = {}

    def show(region: Region, base: int, priority: int, depth: int) -> None:
        if not region.enabled and not disabled:
            return
        text = f"{INDENT * depth}{base & TOP:016x}-{base + region.size - 1 & TOP:016x} (prio {priority}, "
        text += f"{_kind(region, region.readonly)}): "
        if region.target is not None:
            start = region.alias_offset
            text += f"alias {region.name} @{region.target.name} {start:016x}-{start + region.size - 1:016x}"
            targets.setdefault(id(region.target), region.target)
        else:
            text += region.name
        if not region.enabled:
            text += " [disabled]"
        lines.append(text + (_owner(region) if owner else ""))
        for child in sorted(region.subregions, key=lambda found: found.offset):
            show(child, base + child.offset, child.priority, depth + 1)

    for space in spaces:
        lines.append(f"address-space: {space.name}")
        show(space.root, 0, 0, 1)
        lines.append("")
    shown: set[int] = set()
    while waiting := [region for key, region in targets.items() if key not in shown]:
        for region in waiting:
            shown.add(id(region))
            lines.append(f"memory-region: {region.name}")
            show(region, _base_of(region), region.priority, 1)
            lines.append("")
    return "\n".join(lines)


def _base_of(region: Region) -> int:
    """Where a region is, counted from the topmost one it is in."""
    base = 0
    here: Region | None = region
    while here is not None:
        base += here.offset
        here = here.parent
    return base


def flat_text(spaces: Iterable[AddressSpace], *, owner: bool, dispatch: bool) -> str:
    """What the guest sees in each address space; those that see the same are shown once.

    owner: say to whom regions belong.  dispatch: also the tables of ready-made accesses, which are what is looked up here
    in the place of QEMU's dispatch tree.
    """
    views: dict[int, list[AddressSpace]] = {}
    for space in spaces:
        views.setdefault(id(_only_content(space.root)), []).append(space)
    lines: list[str] = []
    for n, same in enumerate(views.values()):
        lines.append(f"FlatView #{n}")
        lines += [f' AS "{space.name}", root: {space.root.name}' for space in same]
        first = same[0]
        lines.append(f" Root memory region: {_only_content(first.root).name if first.flat_view else '(none)'}")
        for found in first.flat_view:
            at = f" @{found.offset:016x}" if found.offset else ""
            kind = _kind(found.region, found.readonly)
            text = f"  {found.start:016x}-{found.end - 1:016x} (prio {found.region.priority}, {kind}): "
            lines.append(f"{text}{found.region.name}{at}{_owner(found.region) if owner else ''}")
        if not first.flat_view:
            lines.append("  No rendered FlatView")
        if dispatch:
            for space in same:
                lines += [
                    f'  Dispatch of "{space.name}"',
                    f"    reads: {len(space.readers)} ready, writes: {len(space.writers)} ready,"
                    f" generation {space.generation}",
                ]
                for table, word in ((space.readers, "read"), (space.writers, "write")):
                    for address, size in sorted(table):
                        hit = space.lookup(address)
                        name = hit.region.name if hit is not None else "(nothing)"
                        lines.append(f"      {word} {size} @{address:016x} {name}")
        lines.append("")
    return "\n".join(lines)


def _only_content(region: Region) -> Region:
    """The region that another shows whole and alone, through aliases: equal views have the same."""
    while region.target is not None or len(region.subregions) == 1:
        if region.target is not None:
            if region.alias_offset or region.size != region.target.size:
                return region
            region = region.target
            continue
        child = region.subregions[0]
        if region.kind != "container" or child.offset or child.size != region.size or not child.enabled:
            return region
        region = child
    return region
