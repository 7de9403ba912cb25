"""The regions inside of one region: found by address, and in the order in which they win.

Regions are kept in classes by size (up to a power of two), each sorted by offset: what overlaps a stretch of addresses
begins at most one class size before it.  So finding, adding and removing cost what is found, not what is there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qom.hw.memory import Region

FEW = 8
"""Up to so many are looked at one by one, which then is faster than a search."""


class Siblings:
    """Sub-regions with offset, size and priority; whoever changes one of these takes the region out meanwhile."""

    __slots__ = ("_classes", "_next", "_ordered", "_ranks")

    def __init__(self) -> None:
        self._classes: dict[int, tuple[list[int], list[Region]]] = {}  # offsets, and the regions there
        self._ranks: dict[Region, tuple[int, int]] = {}  # lowest wins
        self._next = count(0, -1)  # among equals the one added last wins
        self._ordered: tuple[Region, ...] | None = ()

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, region: Region) -> bool:
        return region in self._ranks

    def add(self, region: Region, rank: tuple[int, int] | None = None) -> None:
        """Take in `region`, as the winner among those of its priority, or with the `rank` that `remove` gave back."""
        self._ranks[region] = (-region.priority, next(self._next)) if rank is None else rank
        bits = (region.size - 1).bit_length()
        if bits not in self._classes:
            self._classes[bits] = [], []
        offsets, regions = self._classes[bits]
        i = bisect_right(offsets, region.offset)
        offsets.insert(i, region.offset)
        regions.insert(i, region)
        self._ordered = None

    def remove(self, region: Region) -> tuple[int, int]:
        """Take out `region`; returns its rank."""
        bits = (region.size - 1).bit_length()
        offsets, regions = self._classes[bits]
        i = bisect_left(offsets, region.offset)
        while regions[i] is not region:
            i += 1
        del offsets[i], regions[i]
        if not offsets:
            del self._classes[bits]
        self._ordered = None
        return self._ranks.pop(region)

    def ordered(self) -> tuple[Region, ...]:
        """All of them, in the order in which they win."""
        if self._ordered is None:
            self._ordered = tuple(sorted(self._ranks, key=self._ranks.__getitem__))
        return self._ordered

    def within(self, low: int, high: int) -> list[Region]:
        """Those that overlap [low, high), in the order in which they win."""
        if len(self._ranks) <= FEW:
            return [r for r in self.ordered() if r.offset < high and low < r.offset + r.size]
        found: list[Region] = []
        for bits, (offsets, regions) in self._classes.items():
            i = bisect_right(offsets, low - (1 << bits))
            found += [r for r in regions[i : bisect_left(offsets, high, i)] if low < r.offset + r.size]
        if len(found) > 1:
            found.sort(key=self._ranks.__getitem__)
        return found


class Nothing(Siblings):
    """What a region has inside before anything was put there."""

    __slots__ = ()

    def within(self, low: int, high: int) -> list[Region]:
        """Nothing."""
        return []


NOTHING = Nothing()
"""Shared by all regions without sub-regions; never added to."""
