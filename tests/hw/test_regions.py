"""RAM blocks, dirty logs, composition errors, faults, and the tree as text."""

from __future__ import annotations

import ctypes
import re

import pytest

from qom.hw.address_space import TABLE_LIMIT, AddressSpace
from qom.hw.fault import DeviceFault
from qom.hw.listener import MemoryListener, MemorySection
from qom.hw.memory import RamBlock, Region, RegionError
from qom.hw.mtree import format_mtree

GIB = 1 << 30


def pc_memory() -> tuple[AddressSpace, Region, Region]:
    """6 GiB as a PC shows them: 3 GiB below the hole, 3 GiB above 4 GiB, and a ROM with its alias."""
    root = Region.container("system")
    ram = Region.ram("pc.ram", 6 * GIB)
    rom = Region.rom("bios", b"\xea" * 0x20000)
    root.add(0, Region.alias("ram-below-4g", ram, 0, 3 * GIB))
    root.add(4 * GIB, Region.alias("ram-above-4g", ram, 3 * GIB, 3 * GIB))
    root.add(4 * GIB - 0x20000, rom)
    root.add(0xE0000, Region.alias("isa-bios", rom, 0, 0x20000, readonly=True), 1)
    return AddressSpace("memory", root), ram, rom


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_ram_is_lazily_backed_and_shown_below_and_above_the_hole() -> None:
    before = resident_bytes()
    space, ram, _ = pc_memory()
    space.write_bytes(0x1000, b"low")
    space.write_bytes(7 * GIB - 4, b"high")
    block = ram.ram_block
    assert block is not None
    assert resident_bytes() - before < 64 << 20
    assert block.view[0x1000:0x1003] == b"low"
    assert block.view[6 * GIB - 4 :] == b"high"
    assert ctypes.string_at(block.address + 0x1000, 3) == b"low"
    assert block.view[0x1000:0x2000].obj is block.view.obj  # a slice, not a copy
    assert space.read(3 * GIB, 4) == 0xFFFFFFFF
    assert space.unassigned_reads == 1


def test_rom_ignores_writes_at_its_place_and_through_the_alias() -> None:
    space, _, rom = pc_memory()
    space.write(0xFFFFFFF0, 0, 4)
    space.write(0xFFFF0, 0, 1)
    space.write_bytes(0xE0000, bytes(16))
    assert space.dropped_writes == 3
    assert space.read(0xFFFF0, 4) == 0xEAEAEAEA
    assert rom.ram_block is not None and bytes(rom.ram_block.view) == b"\xea" * 0x20000


def test_access_across_the_end_of_rom_is_split() -> None:
    space, _, _ = pc_memory()
    space.write_bytes(4 * GIB, b"\x01\x02")
    assert space.read(4 * GIB - 2, 4) == 0x0201EAEA
    space.write(4 * GIB - 2, 0x55667788, 4)
    assert space.read(4 * GIB - 2, 4) == 0x5566EAEA


def test_watchers_hear_of_writes_by_user_space() -> None:
    space, ram, _ = pc_memory()
    assert ram.ram_block is not None
    heard: list[tuple[int, int]] = []
    ram.ram_block.watchers.append(lambda offset, length: heard.append((offset, length)))
    space.write(0x2000, 1, 2)
    space.write_bytes(4 * GIB + 8, b"abc")
    space.write(0xE0000, 1, 2)
    assert heard == [(0x2000, 2), (3 * GIB + 8, 3)]


def test_dirty_log_collects_devices_and_the_accelerators_pages() -> None:
    space, ram, _ = pc_memory()
    calls: list[str] = []

    class Accelerator(MemoryListener):
        def log_start(self, section: MemorySection) -> None:
            calls.append(f"start {section.start:#x}")

        def log_stop(self, section: MemorySection) -> None:
            calls.append(f"stop {section.start:#x}")

        def log_sync(self, section: MemorySection) -> None:
            block = section.region.ram_block
            assert block is not None
            block.merge_dirty_bitmap(section.region_offset, b"\x00\x81" if section.start == 4 * GIB else b"")

    space.add_listener(Accelerator())
    ram.dirty_log("display", True)
    parts = ["0x0", "0x100000", "0x100000000"]
    assert calls == [f"start {part}" for part in parts]
    ram.dirty_log("migration", True)
    assert len(calls) == 3, "the second client starts nothing new"
    space.write_bytes(0xFFE, bytes(0x1004))
    first_above = 3 * GIB >> 12
    assert ram.take_dirty("display") == [0, 1, 2, first_above + 8, first_above + 15]
    space.write(0x5000, 1, 1)
    assert ram.take_dirty("display") == [5, first_above + 8, first_above + 15]
    assert ram.take_dirty("migration") == [0, 1, 2, 5, first_above + 8, first_above + 15]
    ram.dirty_log("display", False)
    assert len(calls) == 3
    ram.dirty_log("migration", False)
    assert calls[3:] == [f"stop {part}" for part in parts]
    with pytest.raises(RegionError, match=r"^RAM 'pc.ram': 'display' keeps no dirty log$"):
        ram.take_dirty("display")


def test_new_listener_hears_of_a_dirty_log_that_is_on() -> None:
    space, ram, _ = pc_memory()
    ram.dirty_log("x", True)
    started: list[int] = []

    class Late(MemoryListener):
        def log_start(self, section: MemorySection) -> None:
            started.append(section.start)

    space.add_listener(Late())
    assert started == [0, 0x100000, 4 * GIB]


def test_listeners_come_in_order_of_priority_and_leave_in_reverse() -> None:
    root = Region.container("root", 0x1000)
    space = AddressSpace("test", root)
    calls: list[str] = []

    class Named(MemoryListener):
        def __init__(self, name: str, priority: int) -> None:
            super().__init__(priority)
            self.name = name

        def region_add(self, section: MemorySection) -> None:
            calls.append(f"{self.name}+")

        def region_del(self, section: MemorySection) -> None:
            calls.append(f"{self.name}-")

    for name, priority in (("late", 10), ("early", 0), ("middle", 5)):
        space.add_listener(Named(name, priority))
    region = root.add(0, Region("x", 16))
    root.remove(region)
    assert calls == ["early+", "middle+", "late+", "late-", "middle-", "early-"]


def test_listener_may_change_the_map_during_a_commit() -> None:
    root = Region.container("root", 0x1000)
    space = AddressSpace("test", root)
    second = Region("second", 16)

    class Adds(MemoryListener):
        def commit(self) -> None:
            if space.flat_view and second.parent is None:
                root.add(0x100, second)

    space.add_listener(Adds())
    root.add(0, Region("first", 16))
    assert [f.region.name for f in space.flat_view] == ["first", "second"]


def test_one_region_in_two_spaces_tells_both_and_no_third() -> None:
    shared = Region.container("shared", 0x100)
    spaces = []
    for n in range(3):
        root = Region.container(f"root{n}", 0x1000)
        if n < 2:
            root.add(0x10 * n, Region.alias("window", shared, 0, 0x100))
        spaces.append(AddressSpace(f"cpu{n}", root))
    generations = [s.generation for s in spaces]
    shared.add(0, Region("device", 4))
    assert [s.generation - g for s, g in zip(spaces, generations, strict=True)] == [1, 1, 0]
    assert [f.start for s in spaces for f in s.flat_view] == [0, 0x10]
    spaces[0].close()
    shared.add(8, Region("other", 4))
    assert spaces[0].flat_view == [] and len(spaces[1].flat_view) == 2


def test_transactions_nest_and_survive_an_exception() -> None:
    root = Region.container("root", 0x1000)
    space = AddressSpace("test", root)
    with pytest.raises(ZeroDivisionError), root.transaction():
        with root.transaction():
            root.add(0, Region("a", 4))
        assert space.flat_view == []
        raise ZeroDivisionError
    assert [f.region.name for f in space.flat_view] == ["a"]
    root.add(8, Region("b", 4))
    assert len(space.flat_view) == 2


class Owner:
    path = "/machine/unattached/clumsy@300"

    def guest_error(self, kind: str, text: str) -> None:
        raise AssertionError(text)


def test_exception_in_a_device_names_device_region_offset_and_size() -> None:
    def read(offset: int, size: int) -> int:
        raise IndexError("list index out of range")

    def write(offset: int, value: int, size: int) -> None:
        raise KeyError(value)

    root = Region.container("io", 0x10000)
    root.add(0x300, Region("clumsy", 8, read, write, (1, 4), owner=Owner()))
    root.add(0x400, Region("nobody", 8, read, write, (2, 2), endian="big"))
    space = AddressSpace("io", root)
    with pytest.raises(DeviceFault) as caught:
        space.read(0x304, 2)
    fault = caught.value
    line = read.__code__.co_firstlineno + 1
    assert str(fault) == (
        "/machine/unattached/clumsy@300: 2-byte read from clumsy at offset 0x4 (address 0x304)"
        f" raised IndexError: list index out of range, at {__file__}:{line}"
    )
    assert (fault.device, fault.region, fault.offset, fault.size) == (Owner.path, "clumsy", 4, 2)
    assert (fault.address, fault.place) == (0x304, f"{__file__}:{line}")
    assert not fault.is_write and isinstance(fault.__cause__, IndexError)
    with pytest.raises(
        DeviceFault,
        match=r"^/machine/unattached/clumsy@300: 4-byte write to clumsy at offset 0x0 \(address 0x300\) raised",
    ):
        space.write(0x300, 5, 4)
    with pytest.raises(
        DeviceFault, match=r"^nobody: 2-byte read from nobody at offset 0x2 \(address 0x402\) raised IndexError"
    ):
        space.read(0x402, 2)
    with pytest.raises(
        DeviceFault, match=r"^nobody: 2-byte write to nobody at offset 0x0 \(address 0x400\) raised KeyError"
    ):
        space.write_bytes(0x400, b"abcd")


def test_fault_of_an_inner_device_is_reported_as_its_own() -> None:
    root = Region.container("io", 0x10000)
    space = AddressSpace("io", root)

    def inner(offset: int, size: int) -> int:
        raise RuntimeError("inner")

    root.add(0x10, Region("inner", 1, inner))
    root.add(0x20, Region("outer", 1, lambda o, s: space.read(0x10, 1)))
    with pytest.raises(
        DeviceFault, match=r"^inner: .* offset 0x0 \(address 0x10\) raised RuntimeError: inner, at .*py:\d+$"
    ):
        space.read(0x20, 1)


def test_device_that_returns_no_number_is_a_fault() -> None:
    root = Region.container("io", 0x10000)
    root.add(0, Region("vague", 1, lambda offset, size: None))  # type: ignore[arg-type, return-value]
    with pytest.raises(
        DeviceFault, match=r"^vague: 1-byte read from vague at offset 0x0 \(address 0x0\) raised TypeError"
    ):
        AddressSpace("io", root).read(0, 1)


def test_ready_made_handlers_are_thrown_away_when_the_map_changes() -> None:
    root = Region.container("io", 0x10000)
    space = AddressSpace("io", root)
    first = root.add(0x60, Region("first", 1, lambda o, s: 1))
    reader = space.reader(0x60, 1)
    assert space.readers[0x60, 1] is reader and reader() == 1
    generation = space.generation
    root.add(0x60, Region("second", 1, lambda o, s: 2), 1)
    assert space.generation == generation + 1 and not space.readers
    assert space.read(0x60, 1) == 2
    first.set_enabled(False)
    assert space.read(0x60, 1) == 2
    assert space.generation == generation + 1, "what is hidden changes nothing"


def test_tables_of_handlers_stay_bounded() -> None:
    space = AddressSpace("m", Region.container("m"))
    for address in range(TABLE_LIMIT * 2 + 10):
        space.read(address, 1)
        space.write(address, 0, 1)
    assert len(space.readers) <= TABLE_LIMIT and len(space.writers) <= TABLE_LIMIT


def test_device_may_remap_itself_in_the_middle_of_a_straddling_access() -> None:
    root = Region.container("io", 0x100)
    space = AddressSpace("io", root)
    second = Region("second", 1, lambda o, s: 0x22)

    def first(offset: int, size: int) -> int:
        second.set_enabled(False)
        return 0x11

    root.add(0x10, Region("first", 1, first, sizes=(1, 1)))
    root.add(0x11, second)
    assert space.read(0x10, 2) == 0xFF11


def test_accesses_to_nothing_are_counted_and_told() -> None:
    space = AddressSpace("io", Region.container("io", 0x10000))
    heard: list[tuple[int, int, bool]] = []
    space.on_unassigned = lambda address, size, is_write: heard.append((address, size, is_write))
    assert space.read(0x80, 2) == 0xFFFF
    space.write(0x80, 1, 1)
    assert space.read_bytes(0x90, 3) == b"\xff\xff\xff"
    space.write_bytes(0xA0, b"xy")
    assert heard == [(0x80, 2, False), (0x80, 1, True), (0x90, 3, False), (0xA0, 2, True)]
    assert (space.unassigned_reads, space.unassigned_writes) == (2, 2)


def test_block_can_be_closed_while_a_slice_is_held() -> None:
    block = RamBlock("vga", 0x3000)
    piece = block.view[0x1000:0x1002]
    piece[:] = b"ok"
    block.close()
    assert piece == b"ok"
    assert block.address == 0
    piece.release()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region("x", 0), "region 'x' cannot have size 0x0: expected 1 to 2^64"),
        (lambda: Region("x", (1 << 64) + 1), "region 'x' cannot have size 0x10000000000000001: expected 1 to 2^64"),
        (lambda: Region("x", 4, sizes=(4, 1)), "region 'x': sizes (4, 1) must be two of 1, 2, 4, 8, smallest first"),
        (lambda: Region("x", 4, sizes=(1, 3)), "region 'x': sizes (1, 3) must be two of 1, 2, 4, 8, smallest first"),
        (lambda: Region("x", 4, endian="middle"), "region 'x': endian 'middle' must be 'little' or 'big'"),  # type: ignore[arg-type]
        (lambda: Region("x", 4, narrow="maybe"), "region 'x': narrow 'maybe' must be 'reject' or 'widen'"),  # type: ignore[arg-type]
        (lambda: Region.rom("x", b"12345", 4), "ROM 'x': 5 bytes of data do not fit in 4"),
        (lambda: RamBlock("x", 0), "RAM 'x' cannot have 0 bytes: expected at least 1"),
        (lambda: Region("x", 4).set_alias_offset(1), "region 'x' is no alias: it has no alias offset"),
        (lambda: Region("x", 4).dirty_log("vga", True), "region 'x' is no RAM: it has no dirty log"),
        (lambda: Region.ram("x", 4).set_size(8), "region 'x' is ram: its size is fixed"),
    ],
)
def test_impossible_regions_are_refused(make: object, message: str) -> None:
    with pytest.raises(RegionError, match=rf"^{re.escape(message)}$"):
        make()  # type: ignore[operator]


def test_impossible_compositions_are_refused() -> None:
    a, b, c = Region.container("a", 16), Region.container("b", 16), Region("c", 4)
    a.add(0, b)
    b.add(0, c)
    with pytest.raises(RegionError, match=r"^region 'c' is already in 'b': map an alias of it instead$"):
        a.add(4, c)
    with pytest.raises(RegionError, match=r"^region 'a' cannot be put into 'b', which it contains itself$"):
        b.add(0, a)
    with pytest.raises(RegionError, match=r"^region 'window' cannot be put into 'b', which it contains itself$"):
        b.add(0, Region.alias("window", a, 0, 8))
    window = Region.alias("w", c, 0, 4)
    with pytest.raises(RegionError, match=r"^region 'd' cannot be put into alias 'w': put it into its target$"):
        window.add(0, Region("d", 1))
    with pytest.raises(RegionError, match=r"^region 'c' is not in 'a'$"):
        a.remove(c)


def test_mtree_shows_tree_targets_and_flat_view() -> None:
    space, _, _ = pc_memory()
    assert format_mtree(space) == (
        "address-space: memory\n"
        "  0000000000000000-ffffffffffffffff (prio 0, container): system\n"
        "    0000000000000000-00000000bfffffff (prio 0, ram): alias ram-below-4g"
        " @pc.ram 0000000000000000-00000000bfffffff\n"
        "    00000000000e0000-00000000000fffff (prio 1, rom): alias isa-bios"
        " @bios 0000000000000000-000000000001ffff\n"
        "    00000000fffe0000-00000000ffffffff (prio 0, rom): bios\n"
        "    0000000100000000-00000001bfffffff (prio 0, ram): alias ram-above-4g"
        " @pc.ram 00000000c0000000-000000017fffffff\n"
        "\nmemory-region: pc.ram\n"
        "  0000000000000000-000000017fffffff (prio 0, ram): pc.ram\n"
        "\nmemory-region: bios\n"
        "  0000000000000000-000000000001ffff (prio 0, rom): bios\n"
    )
    assert format_mtree(space, flat=True) == (
        "FlatView: memory, root system\n"
        "  0000000000000000-00000000000dffff (prio 0, ram): pc.ram\n"
        "  00000000000e0000-00000000000fffff (prio 0, rom): bios\n"
        "  0000000000100000-00000000bfffffff (prio 0, ram): pc.ram @0000000000100000\n"
        "  00000000fffe0000-00000000ffffffff (prio 0, rom): bios\n"
        "  0000000100000000-00000001bfffffff (prio 0, ram): pc.ram @00000000c0000000\n"
    )
    empty = AddressSpace("empty", Region.container("none", 16))
    assert format_mtree(empty, flat=True) == "FlatView: empty, root none\n  No rendered FlatView\n"


def test_large_dirty_bitmap_is_merged_page_by_page() -> None:
    block = RamBlock("big", 6 * GIB)
    block.set_logging("x", True)
    pages = 6 * GIB >> 12
    block.merge_dirty_bitmap(0x1000, b"\xff" * (pages // 8 + 8))  # one page further than there are
    assert block.take_dirty("x") == list(range(1, pages))
    block.close()


class NoSlotLeft(MemoryListener):
    """An accelerator that cannot follow the map."""

    def commit(self) -> None:
        if any(flat.region.name == "too much" for flat in self.space.flat_view):
            raise RegionError("no memory slot left")

    def __init__(self, space: AddressSpace) -> None:
        super().__init__()
        self.space = space


def test_listener_that_raises_leaves_no_space_held() -> None:
    shared = Region.container("shared", 0x1000)
    spaces = []
    for n in range(3):
        root = Region.container(f"root{n}", 0x1000)
        root.add(0, Region.alias("window", shared, 0, 0x1000))
        spaces.append(AddressSpace(f"cpu{n}", root))
        spaces[-1].add_listener(NoSlotLeft(spaces[-1]))
    with pytest.raises(RegionError, match=r"^no memory slot left$"), shared.transaction():
        region = shared.add(0, Region("too much", 16))
        shared.add(0x100, Region("fine", 16))
    assert [[f.region.name for f in space.flat_view] for space in spaces] == [["too much", "fine"]] * 3
    shared.remove(region)
    assert [[f.region.name for f in space.flat_view] for space in spaces] == [["fine"]] * 3


@pytest.mark.parametrize(("size", "returned"), [(1, None), (4, "seven"), (2, 1.5)])
def test_a_read_that_returns_no_integer_is_reported_with_the_callback(size: int, returned: object) -> None:
    def forgetful(offset: int, size: int) -> int:
        return returned  # type: ignore[return-value]

    memory = AddressSpace("memory", Region("system-memory", 0x1000))
    memory.root.add(0x100, Region("forgetful", 16, forgetful, None, (1, 2)))
    line = forgetful.__code__.co_firstlineno
    with pytest.raises(DeviceFault) as caught:
        memory.read(0x104, size)
    assert caught.value.place == f"{__file__}:{line}"
    assert f"raised TypeError: forgetful returned {returned!r}: expected an integer, at {__file__}:{line}" in str(
        caught.value
    )


def test_memory_the_host_has_no_room_for_is_an_error() -> None:
    with pytest.raises(RegionError) as refused:
        RamBlock("huge", 1 << 62)
    assert (
        str(refused.value)
        == f"RAM 'huge' of {1 << 62} bytes cannot be mapped: Cannot allocate memory: expected less memory"
    )


def test_a_window_of_io_answers_at_every_address_until_the_map_changes() -> None:
    """Where nothing depends on the address, nothing is kept for each; what is kept goes with the map."""
    root = Region.container("root", 0x10000)
    space = AddressSpace("window", root)
    log: list[tuple[int, int, int]] = []
    window = Region("window", 0x4000, lambda at, n: at, lambda at, v, n: log.append((at, v, n)), (1, 4), unaligned=True)
    root.add(0x1000, window)
    for address in range(0x1000, 0x1100):
        assert space.read(address, 2) == address - 0x1000
        space.write(address, 0x112233445566, 4)
    assert len(log) == 0x100 and log[-1] == (0xFF, 0x33445566, 4)
    assert len(space.readers) + len(space.writers) <= 2
    assert space.read(0x4FFF, 2) == 0xFF00 | 0xFF  # half of it is beyond the end
    space.write(0x1001, 0x8877665544332211, 8)  # wider than it takes
    assert log[-2:] == [(1, 0x44332211, 4), (5, 0x88776655, 4)]
    inner = Region("inner", 0x10, lambda at, n: 0x5A, None, (1, 1))
    window.add(0x20, inner)
    assert (space.read(0x1020, 1), space.read(0x101F, 1), space.read(0x1030, 1)) == (0x5A, 0x1F, 0x30)
    window.remove(inner)
    assert space.read(0x1020, 1) == 0x20
    root.remove(window)
    assert space.read(0x1040, 1) == 0xFF
