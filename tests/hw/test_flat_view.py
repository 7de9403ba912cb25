"""Flat views, listeners and accesses against naive oracles, on random region trees."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qom.hw.address_space import AddressSpace
from qom.hw.flat_view import render, same_view
from qom.hw.listener import FlatRange, MemoryListener, MemorySection
from qom.hw.memory import Region, RegionError

SPAN = 64  # bytes of address space that the oracle looks at

# A tree as plain data: (kind, size, readonly, enabled, [(offset, priority, subtree)], alias facts)
KINDS = ("io", "ram", "container", "alias")


class Forest:
    """Random regions, kept in a list so that aliases and later changes can name them."""

    def __init__(self) -> None:
        self.root = Region.container("root", SPAN)
        self.regions = [self.root]
        self.order: dict[int, int] = {}  # id(region) -> when it was put into its place
        self.clock = 0

    def place(self, parent: Region, offset: int, region: Region, priority: int) -> bool:
        try:
            parent.add(offset, region, priority)
        except RegionError:
            return False
        self.clock += 1
        self.order[id(region)] = self.clock
        return True


def oracle(forest: Forest, address: int) -> tuple[Region, int, bool] | None:
    """What answers at `address`: a search, per byte, that shares nothing with the renderer."""

    def ask(region: Region, at: int, readonly: bool, depth: int = 0) -> tuple[Region, int, bool] | None:
        if not region.enabled or not 0 <= at < region.size:
            return None
        readonly = readonly or region.readonly
        if region.kind == "alias":
            assert region.target is not None
            return ask(region.target, at + region.alias_offset, readonly, depth + 1)
        inside = sorted(region.subregions, key=lambda r: (-r.priority, -forest.order[id(r)]))
        for child in inside:
            found = ask(child, at - child.offset, readonly, depth + 1)
            if found is not None:
                return found
        return None if region.kind == "container" else (region, at, readonly)

    return ask(forest.root, address, False)


steps = st.one_of(
    st.tuples(st.just("new"), st.sampled_from(KINDS), st.integers(1, 40), st.integers(0, 30), st.integers(-20, 50),
              st.integers(-20, 50), st.integers(-1, 2), st.integers(0, 30)),
    st.tuples(st.just("enable"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("readonly"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("move"), st.integers(0, 30), st.integers(-10, 50)),
    st.tuples(st.just("slide"), st.integers(0, 30), st.integers(-20, 50)),
    st.tuples(st.just("priority"), st.integers(0, 30), st.integers(-2, 3)),
    st.tuples(st.just("remove"), st.integers(0, 30)),
    st.tuples(st.just("again"), st.integers(0, 30), st.integers(0, 30), st.integers(-10, 50), st.integers(-1, 2)),
)  # fmt: skip


def apply(forest: Forest, step: tuple) -> None:
    """One random change; what makes no sense for the region it hits does nothing."""
    regions = forest.regions
    what = step[0]
    if what == "new":
        _, kind, size, target, offset, alias_offset, priority, parent = step
        name = f"{kind}{len(regions)}"
        if kind == "alias":
            region = Region.alias(name, regions[target % len(regions)], alias_offset, size)
        elif kind == "ram":
            region = Region.ram(name, size)
        elif kind == "container":
            region = Region.container(name, size)
        else:
            region = Region(name, size, sizes=(1, 1))  # a wider access would reach its bytes behind others
        if forest.place(regions[parent % len(regions)], offset, region, priority):
            regions.append(region)
        return
    region = regions[step[1] % len(regions)]
    if what == "enable":
        region.set_enabled(step[2])
    elif what == "readonly":
        region.set_readonly(step[2])
    elif what == "move" and region.parent is not None:
        region.set_offset(step[2])
    elif what == "slide" and region.kind == "alias":
        region.set_alias_offset(step[2])
    elif what == "priority" and region.parent is not None and region.priority != step[2]:
        region.set_priority(step[2])
        forest.clock += 1
        forest.order[id(region)] = forest.clock
    elif what == "remove" and region.parent is not None:
        region.parent.remove(region)
    elif what == "again" and region.parent is None and region is not forest.root:
        forest.place(regions[step[2] % len(regions)], step[3], region, step[4])


class Mirror(MemoryListener):
    """Accumulates what it is told, checks the protocol, and counts."""

    def __init__(self, space: AddressSpace) -> None:
        super().__init__()
        self.space = space
        self.sections: dict[int, MemorySection] = {}
        self.open = False
        self.leaving = False
        self.commits = 0
        self.added = self.deleted = self.stayed = 0

    def begin(self) -> None:
        assert not self.open
        self.open = True
        self.pending_nop = dict(self.sections)
        self.last_add = -1

    def region_add(self, section: MemorySection) -> None:
        assert self.open
        assert section.start > self.last_add
        self.last_add = section.start
        for other in self.sections.values():
            assert section.end <= other.start or other.end <= section.start, "added over something not deleted"
        self.sections[section.start] = section
        self.added += 1

    def region_del(self, section: MemorySection) -> None:
        assert self.open
        assert self.last_add == -1, "every del comes before the first add"
        held = self.sections.pop(section.start)
        assert held == section
        self.deleted += 1

    def region_nop(self, section: MemorySection) -> None:
        assert self.open
        assert self.sections[section.start] == section
        assert self.pending_nop[section.start] == section
        self.stayed += 1

    def commit(self) -> None:
        assert self.open
        self.open = False
        self.commits += 1
        view = [] if self.leaving else [(f.start, f.size, f.region, f.offset, f.readonly) for f in self.space.flat_view]
        told = [(s.start, s.size, s.region, s.region_offset, s.readonly) for _, s in sorted(self.sections.items())]
        assert told == view


def check_view(forest: Forest, space: AddressSpace) -> None:
    view = space.flat_view
    assert same_view(view, render(space.root)), "what was put together piece by piece is what all at once gives"
    for a, b in pairwise(view):
        assert a.end <= b.start, "ranges overlap or are out of order"
        joined = (
            a.end == b.start and a.region is b.region and a.readonly == b.readonly and a.offset + a.size == b.offset
        )
        assert not joined, "neighbours that continue each other must be merged"
    for address in range(-2, SPAN + 2):
        found = space.lookup(address)
        got = None if found is None else (found.region, address - found.start + found.offset, found.readonly)
        assert got == oracle(forest, address), hex(address)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_flat_view_is_what_a_search_per_byte_finds(changes: list[tuple]) -> None:
    forest = Forest()
    space = AddressSpace("test", forest.root)
    for change in changes:
        apply(forest, change)
        check_view(forest, space)


class Ears(Mirror):
    """Hears only of changes: no nops, so its sections must follow from these alone."""

    region_nop = MemoryListener.region_nop


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=4), max_size=12), st.integers(-8, 40), st.integers(1, SPAN))
def test_every_view_of_a_region_follows_its_changes(transactions: list[list[tuple]], offset: int, size: int) -> None:
    """As each processor sees memory: through an alias in a space of its own, with something of its own in front."""
    forest = Forest()
    whole = AddressSpace("whole", forest.root)
    other = Region.container("other", SPAN)
    window = other.add(5, Region.alias("window", forest.root, offset, size))
    other.add(20, Region("own page", 8), 1)
    through = AddressSpace("through", other)
    mirrors = [Ears(whole), Ears(through)]
    for mirror in mirrors:
        mirror.space.add_listener(mirror)
    for changes in transactions:
        with other.transaction() if len(changes) > 2 else nullcontext():
            for change in changes:
                apply(forest, change)
        check_view(forest, whole)
        assert same_view(through.flat_view, render(other))
        for address in range(SPAN):
            direct = whole.lookup(address - 5 + offset) if 0 <= address - 5 < size else None
            found = through.lookup(address)
            if 20 <= address < 28:
                assert found is not None and found.region.name == "own page"
            else:
                assert (found and found.region) is (direct and direct.region)
    other.remove(window)
    assert [flat.region.name for flat in through.flat_view] == ["own page"]
    assert [section.region.name for section in mirrors[1].sections.values()] == ["own page"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(steps, min_size=1, max_size=6), max_size=8))
def test_listeners_hear_exactly_the_differences_once_a_transaction(transactions: list[list[tuple]]) -> None:
    forest = Forest()
    space = AddressSpace("test", forest.root)
    mirror = Mirror(space)
    space.add_listener(mirror)
    for changes in transactions:
        before, commits, generation = list(space.flat_view), mirror.commits, space.generation
        mirror.added = mirror.deleted = mirror.stayed = 0
        with forest.root.transaction():
            for change in changes:
                apply(forest, change)
            assert space.flat_view == before, "nothing takes effect before the transaction ends"
        check_view(forest, space)
        after = space.flat_view
        gone = [f for f in before if f not in after]
        new = [f for f in after if f not in before]
        if space.generation == generation:
            assert before == after and mirror.commits == commits
        else:
            assert mirror.commits == commits + 1
            assert (mirror.deleted, mirror.added, mirror.stayed) == (len(gone), len(new), len(after) - len(new))
    mirror.leaving = True
    space.remove_listener(mirror)
    assert mirror.sections == {}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(steps, st.sampled_from(["", "look", "read", "listen", "hold"])), max_size=14))
def test_what_is_deferred_is_there_for_whoever_looks(changes: list[tuple[tuple, str]]) -> None:
    forest = Forest()
    space, eager = AddressSpace("deferred", forest.root), AddressSpace("eager", forest.root)
    first, late = Mirror(space), Mirror(space)
    space.add_listener(first)
    commits = first.commits
    with space.deferred():
        for change, then in changes:
            before = [(address, space.read(address, 1)) for address in range(0, SPAN, 7)]  # fills the table
            if then == "hold":
                with forest.root.transaction():
                    apply(forest, change)
                    assert [(a, space.read(a, 1)) for a, _ in before] == before, "as in any transaction"
            else:
                apply(forest, change)
            if then == "look":
                check_view(forest, space)
            elif then == "read":
                assert [space.read(a, 1) for a in range(SPAN)] == [eager.read(a, 1) for a in range(SPAN)]
            elif then == "listen" and not late.commits:
                space.add_listener(late)
        with forest.root.transaction():
            pass
    check_view(forest, space)
    assert same_view(space.flat_view, eager.flat_view)
    for mirror in (first, late):
        if mirror.commits > (commits if mirror is first else 0):
            assert sorted(mirror.sections) == [flat.start for flat in space.flat_view]


def test_deferred_changes_are_told_at_once_and_in_the_end() -> None:
    root = Region.container("io", 0x10000)
    space = AddressSpace("io", root)
    mirror = Mirror(space)
    space.add_listener(mirror)
    kept, generation = space.reader(8, 1), space.generation
    with space.deferred(), space.deferred():
        for n in range(100):
            root.add(n * 8, Region("port", 4, lambda offset, size: 7))
        assert space.generation != generation and kept() == 0xFF, "who keeps a reader sees that it is old"
        assert mirror.commits == 1, "nobody has looked yet"
    assert (mirror.commits, mirror.added) == (2, 100)
    assert [flat.start for flat in space.flat_view] == [n * 8 for n in range(100)]


def test_a_change_costs_what_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of regions there, one more makes the ranges beside it anew and tells of it alone."""
    told: list[str] = []

    class Counting(MemoryListener):
        def region_add(self, section: MemorySection) -> None:
            told.append(f"add {section.region.name}")

        def region_del(self, section: MemorySection) -> None:
            told.append(f"del {section.region.name}")

    root = Region.container("io", 0x10000)
    space = AddressSpace("io", root)
    space.add_listener(Counting())
    with space.deferred():
        for n in range(2000):
            root.add(0x1000 + n * 8, Region("port", 4))
    rendered: list[int] = []

    def watched(*arguments: object) -> list[FlatRange]:
        view = render(*arguments)  # type: ignore[arg-type]
        rendered.append(len(view))
        return view

    monkeypatch.setattr("qom.hw.address_space.render", watched)
    told.clear()
    new = root.add(0x1000 + 8 * 1000 + 4, Region("between", 4))
    assert (rendered, told) == ([3], ["add between"])
    root.remove(new)
    assert (rendered, told) == ([3, 2], ["add between", "del between"])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(steps, max_size=12),
    st.lists(st.tuples(st.integers(0, SPAN + 2), st.integers(1, 8), st.integers(0, 2**64 - 1)), max_size=20),
)
def test_ram_behaves_like_bytes_and_the_rest_like_nothing(
    changes: list[tuple], accesses: list[tuple[int, int, int]]
) -> None:
    forest = Forest()
    space = AddressSpace("test", forest.root)
    for change in changes:
        apply(forest, change)
    memory: dict[tuple[int, int], int] = {}

    def expected(address: int) -> int:
        found = oracle(forest, address)
        if found is None or found[0].kind == "io":  # these I/O regions have no callbacks: all ones
            return 0xFF
        return memory.get((id(found[0]), found[1]), 0)

    for address, size, value in accesses:
        space.write(address, value, size)
        for i in range(size):
            found = oracle(forest, address + i)
            if found is not None and found[0].kind == "ram" and not found[2]:
                memory[id(found[0]), found[1]] = value >> 8 * i & 0xFF
        want = bytes(expected(address + i) for i in range(size))
        assert space.read(address, size) == int.from_bytes(want, "little")
        assert space.read_bytes(address, size) == want
        data = bytes((value >> 3 * i) & 0xFF for i in range(size))
        space.write_bytes(address, data)
        for i in range(size):
            found = oracle(forest, address + i)
            if found is not None and found[0].kind == "ram" and not found[2]:
                memory[id(found[0]), found[1]] = data[i]
        assert space.read_bytes(0, SPAN) == bytes(expected(a) for a in range(SPAN))


@settings(max_examples=400, deadline=None)
@given(
    low=st.sampled_from([1, 2, 4, 8]),
    high=st.sampled_from([1, 2, 4, 8]),
    big=st.booleans(),
    widen=st.booleans(),
    unaligned=st.booleans(),
    accesses=st.lists(
        st.tuples(st.booleans(), st.integers(0, 31), st.integers(1, 8), st.integers(0, 2**64 - 1)), max_size=12
    ),
)
def test_device_that_is_memory_reads_back_through_every_split(
    low: int, high: int, big: bool, widen: bool, unaligned: bool, accesses: list[tuple[bool, int, int, int]]
) -> None:
    """A device that stores bytes in its own order looks like plain memory, whatever sizes and order it declares."""
    if low > high:
        low, high = high, low
    store = bytearray(32)
    order = "big" if big else "little"

    def legal(offset: int, size: int) -> None:
        assert low <= size <= high and size in (1, 2, 4, 8)
        assert unaligned or offset % size == 0
        assert offset in range(len(store) - size + 1)

    def read(offset: int, size: int) -> int:
        legal(offset, size)
        return int.from_bytes(store[offset : offset + size], order) | 1 << 70  # excess bits are cut off

    def write(offset: int, value: int, size: int) -> None:
        legal(offset, size)
        store[offset : offset + size] = value.to_bytes(size, order)

    root = Region.container("root", 64)
    region = Region(
        "device", 32, read, write, (low, high), endian=order, narrow="widen" if widen else "reject", unaligned=unaligned
    )
    root.add(8, region)
    space = AddressSpace("test", root)
    model = bytearray(b"\xff" * 8 + bytes(32) + b"\xff" * 24)
    for is_write, offset, size, value in accesses:
        size = min(size, 32 - offset)
        rejected = not widen and any(piece < low for _, piece in region.pieces(offset, size))
        if is_write:
            space.write(8 + offset, value, size)
            if not rejected:
                model[8 + offset : 8 + offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            else:  # pieces that were wide enough did reach it
                model[8:40] = store
        elif not rejected:
            assert space.read(8 + offset, size) == int.from_bytes(model[8 + offset : 8 + offset + size], "little")
            assert space.read_bytes(8 + offset, size) == model[8 + offset : 8 + offset + size]
        else:
            assert region.rejected >= 0
            space.read(8 + offset, size)
            assert region.rejected > 0
        assert store == model[8:40]


def test_whole_access_reaches_a_register_that_another_overlaps() -> None:
    """CF8h takes 32 bits although the reset control register sits at CF9h; 16 bits at CF9h are split."""
    seen: list[tuple[str, int, int, int]] = []
    root = Region.container("io", 0x10000)
    root.add(0xCF8, Region("config-address", 4, None, lambda o, v, s: seen.append(("address", o, v, s)), (1, 4)))
    root.add(0xCF9, Region("reset-control", 1, None, lambda o, v, s: seen.append(("reset", o, v, s)), (1, 1)), 1)
    space = AddressSpace("io", root)
    space.write(0xCF8, 0x80001234, 4)
    space.write(0xCF9, 0x0605, 2)
    space.write(0xCF8, 0x44, 1)
    assert seen == [("address", 0, 0x80001234, 4), ("reset", 0, 5, 1), ("address", 2, 6, 1), ("address", 0, 0x44, 1)]


def test_render_of_an_empty_container_is_empty() -> None:
    assert render(Region.container("nothing")) == []


def test_whole_64_bit_space_can_be_covered() -> None:
    root = Region.container("all", 1 << 64)
    root.add(0, Region("background", 1 << 64))
    space = AddressSpace("all", root)
    assert [(f.start, f.size) for f in space.flat_view] == [(0, 1 << 64)]
    assert space.lookup((1 << 64) - 1) is not None
    assert space.lookup(1 << 64) is None


@pytest.mark.parametrize("wrong", [0, 9])
def test_access_sizes_are_checked(wrong: int) -> None:
    space = AddressSpace("io", Region.container("io", 0x10000))
    with pytest.raises(RegionError, match=f"address space 'io': {wrong} bytes cannot be read at once: expected 1 to 8"):
        space.read(0, wrong)
    with pytest.raises(
        RegionError, match=f"address space 'io': {wrong} bytes cannot be written at once: expected 1 to 8"
    ):
        space.write(0, 0, wrong)
