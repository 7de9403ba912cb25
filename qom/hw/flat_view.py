"""Flattening: from a region tree to the sorted, disjoint ranges that a guest's accesses find.

`render` flattens what a stretch of addresses shows, so that a change of the map costs what it changes, however much
else is mapped.  Caller: address_space.py, with the machine lock held.
"""

from __future__ import annotations

from bisect import bisect_right

from qom import records
from qom.hw.listener import FlatRange
from qom.hw.memory import Region

WHOLE = 1 << 64
"""First address behind every address space."""


def render(root: Region, first: int = 0, last: int = WHOLE) -> list[FlatRange]:
    """Flatten a region tree as far as it shows in [first, last).

    Returns:
        Disjoint ranges in ascending order, cut at `first` and `last`; neighbours that continue each other are merged.
    """
    starts: list[int] = []
    ends: list[int] = []
    shown: list[tuple[Region, int, bool, int]] = []  # region, address of its byte 0 (may be negative), readonly, reach

    def fill(region: Region, base: int, low: int, high: int, readonly: bool) -> None:
        """Show `region` in [low, high) where nothing of more priority is."""
        reach = high
        if low < first:
            low = first
        if high > last:
            high = last
        i = bisect_right(starts, low)
        if i and ends[i - 1] > low:
            low = ends[i - 1]
        while low < high:
            gap_end = min(high, starts[i]) if i < len(starts) else high
            if low < gap_end:
                starts.insert(i, low)
                ends.insert(i, gap_end)
                shown.insert(i, (region, base, readonly, reach))
                i += 1
            if i >= len(starts):
                return
            low = ends[i]
            i += 1

    def visit(region: Region, base: int, low: int, high: int, readonly: bool) -> None:
        """Show `region`, which is enabled, its byte 0 at `base`, as far as it lies in [low, high)."""
        if low < base:
            low = base
        if high > base + region.size:
            high = base + region.size
        if low >= high or low >= last or high <= first:
            return
        readonly = readonly or region.readonly
        target = region.target
        if target is not None:
            if target.enabled:
                visit(target, base - region.alias_offset, low, high, readonly)
            return
        if region.inside:
            for child in region.inside.within(max(low, first) - base, min(high, last) - base):
                if child.enabled:
                    visit(child, base + child.offset, low, high, readonly)
        if region.terminates:
            fill(region, base, low, high, readonly)

    if root.enabled:
        visit(root, 0, 0, WHOLE, False)
    view: list[FlatRange] = []
    for start, end, (region, base, readonly, reach) in zip(starts, ends, shown, strict=True):
        if view:
            before = view[-1]
            if (
                before.start + before.size == start
                and before.region is region
                and before.readonly == readonly
                and before.start - before.offset == base
            ):
                view[-1] = records.evolve(before, size=end - before.start, reach=max(reach, before.reach))
                continue
        block = region.ram_block
        logged = block is not None and block.logging
        view.append(FlatRange(start, end - start, region, start - base, readonly, logged, reach))
    return view


def same_view(old: list[FlatRange], new: list[FlatRange]) -> bool:
    """Whether two stretches of a flat view look the same, also in what does not count for equality of ranges."""
    return old == new and all(a.dirty_log == b.dirty_log and a.reach == b.reach for a, b in zip(old, new, strict=True))
