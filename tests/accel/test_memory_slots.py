"""Memory slots follow an address space: which slots come of which regions, told to a VM that only records."""

import contextlib
from collections.abc import Iterator
from errno import ENOMEM
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel._kvmabi import lib
from accel.errors import HandleError
from accel.memory_slots import MemorySlots
from qom.errors import AccelError
from qom.hw.address_space import AddressSpace
from qom.hw.flat_view import render
from qom.hw.memory import Region

READONLY, LOG = lib.KVM_MEM_READONLY, lib.KVM_MEM_LOG_DIRTY_PAGES


class RecordingVm:
    """Stands for a VmHandle: keeps the slots, refuses overlap as KVM does."""

    where = "test VM"

    def __init__(self, limit: int = 32, readonly: int = 1, bytes_at_most: int = 1 << 40) -> None:
        self.bytes_at_most = bytes_at_most
        self.capabilities = {"KVM_CAP_NR_MEMSLOTS": limit, "KVM_CAP_READONLY_MEM": readonly}
        self.slots: dict[int, tuple[int, int, int, int]] = {}  # number -> guest, size, host, flags
        self.dirty: dict[int, bytes] = {}
        self.written: list[tuple[int, int]] = []
        self.inside = self.promised = False
        self.changed_outside = 0

    def check_extension(self, name: str) -> int:
        return self.capabilities[name]

    def set_user_memory_region(self, slot: int, guest: int, size: int, host: int, flags: int = 0) -> None:
        if not size:
            assert self.inside, "a slot is deleted while the guest may run"
            del self.slots[slot]
            return
        if size > self.bytes_at_most:
            raise HandleError(self.where, "KVM_SET_USER_MEMORY_REGION", ENOMEM)
        for number, (start, length, _, _) in self.slots.items():
            if number != slot and guest < start + length and start < guest + size:
                raise HandleError(self.where, "KVM_SET_USER_MEMORY_REGION", 17)
        self.slots[slot] = guest, size, host, flags

    def dirty_log(self, slot: int, size: int) -> bytes:
        return self.dirty.pop(slot, b"")

    def memory_written(self, guest: int, size: int) -> None:
        self.written.append((guest, size))

    def writes_are_told(self) -> None:
        self.promised = True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def map(self) -> list[tuple[int, int, int]]:
        """(guest, size, flags), in order."""
        return sorted((guest, size, flags) for guest, size, _, flags in self.slots.values())


def follow(root: Region, **options: Any) -> tuple[RecordingVm, AddressSpace, MemorySlots]:
    vm = RecordingVm(**{k: v for k, v in options.items() if k != "wants_writes"})
    space = AddressSpace("memory", root)
    slots = MemorySlots(vm, vm.held, wants_writes=options.get("wants_writes", False))  # type: ignore[arg-type]
    space.add_listener(slots)
    return vm, space, slots


@pytest.fixture
def root() -> Region:
    return Region.container("root")


def test_ram_and_rom_become_slots_and_devices_do_not(root: Region) -> None:
    root.add(0, Region.ram("ram", 0x4000))
    root.add(0x8000, Region.rom("rom", b"x", 0x1000))
    root.add(0x10000, Region("device", 0x1000))
    vm, _, _ = follow(root)
    assert vm.map() == [(0, 0x4000, 0), (0x8000, 0x1000, READONLY)]


def test_host_addresses_follow_aliases(root: Region) -> None:
    ram = Region.ram("ram", 0x4000)
    root.add(0x10000, Region.alias("window", ram, 0x2000, 0x1000))
    vm, _, _ = follow(root)
    assert ram.ram_block is not None
    assert list(vm.slots.values()) == [(0x10000, 0x1000, ram.ram_block.address + 0x2000, 0)]


def test_only_whole_pages_become_slots(root: Region) -> None:
    root.add(0, Region.ram("ram", 0x4000))
    root.add(0x1800, Region("device", 0x100), 1)
    vm, _, _ = follow(root)
    assert vm.map() == [(0, 0x1000, 0), (0x2000, 0x2000, 0)]


def test_less_than_a_page_does_not_disturb_its_neighbour(root: Region) -> None:
    root.add(0x2000, Region.ram("page", 0x1000))
    crumb = Region.ram("crumb", 0x800)
    root.add(0x1800, crumb)
    vm, _, _ = follow(root)
    assert vm.map() == [(0x2000, 0x1000, 0)]
    root.remove(crumb)
    assert vm.map() == [(0x2000, 0x1000, 0)]


def test_ram_that_does_not_line_up_with_host_pages_is_left_to_exits(root: Region) -> None:
    ram = Region.ram("ram", 0x4000)
    root.add(0x10000, Region.alias("askew", ram, 0x800, 0x2000))
    vm, _, _ = follow(root)
    assert vm.map() == []


def test_cutting_and_restoring_replaces_slots_with_the_guest_held(root: Region) -> None:
    root.add(0, Region.ram("ram", 0x8000))
    vm, _, slots = follow(root)
    window = Region("device", 0x1000)
    root.add(0x3000, window, 1)
    assert vm.map() == [(0, 0x3000, 0), (0x4000, 0x4000, 0)]
    root.remove(window)
    assert vm.map() == [(0, 0x8000, 0)]
    assert len(slots.slots) == 1


def test_numbers_are_used_again_and_their_end_is_an_error(root: Region) -> None:
    vm, _, _ = follow(root, limit=2)
    first = Region.ram("first", 0x1000)
    for n in range(5):
        root.add(0x1000 * n, first)
        root.remove(first)
    root.add(0, first)
    root.add(0x10000, Region.ram("second", 0x1000))
    with pytest.raises(AccelError, match=r"^test VM: no memory slot left for third at 0x20000: all 2 are in use$"):
        root.add(0x20000, Region.ram("third", 0x1000))
    assert set(vm.slots) == {0, 1}


def test_a_host_without_memory_for_a_slot_is_told_in_the_guests_terms(root: Region) -> None:
    vm, _, slots = follow(root, bytes_at_most=0x2000)
    root.add(0, Region.ram("small", 0x2000))
    with pytest.raises(AccelError) as refused:
        root.add(0x100000, Region.ram("big", 0x4000))
    assert str(refused.value) == (
        "big: the host has not the memory to keep book of 16k of guest memory (KVM_SET_USER_MEMORY_REGION): expected less (-m)"
    )
    assert vm.map() == [(0, 0x2000, 0)] and len(slots.slots) == 1


def test_without_readonly_memory_rom_is_left_to_exits(root: Region) -> None:
    root.add(0, Region.rom("rom", b"x", 0x1000))
    vm, _, _ = follow(root, readonly=0)
    assert vm.map() == []


def test_dirty_log_is_switched_and_fetched(root: Region) -> None:
    ram = Region.ram("ram", 0x8000)
    root.add(0x10000, ram)
    vm, _, slots = follow(root)
    ram.dirty_log("test", True)
    assert vm.map() == [(0x10000, 0x8000, LOG)]
    number = next(iter(vm.slots))
    vm.dirty[number] = bytes([0b101]) + bytes(7)
    assert ram.take_dirty("test") == [0, 2]
    ram.dirty_log("test", False)
    assert vm.map() == [(0x10000, 0x8000, 0)]
    assert len(slots.slots) == 1


def test_what_was_written_before_a_slot_goes_is_not_lost(root: Region) -> None:
    ram = Region.ram("ram", 0x8000)
    root.add(0, ram)
    vm, _, _ = follow(root)
    ram.dirty_log("test", True)
    vm.dirty[next(iter(vm.slots))] = bytes([0b1000]) + bytes(7)
    root.add(0x5000, Region("device", 0x1000), 1)
    assert vm.map() == [(0, 0x5000, LOG), (0x6000, 0x2000, LOG)]
    assert 3 in ram.take_dirty("test")


def test_user_spaces_writes_are_told_where_the_guest_sees_them(root: Region) -> None:
    ram = Region.ram("ram", 0x4000)
    root.add(0x10000, Region.alias("low", ram, 0, 0x2000))
    root.add(0x20000, Region.alias("all", ram, 0, 0x4000))
    vm, space, _ = follow(root, wants_writes=True)
    space.write_bytes(0x21FFE, b"1234")
    assert sorted(vm.written) == [(0x11FFE, 2), (0x21FFE, 4)]
    assert vm.promised and not follow(Region("root", 0x1000))[0].promised


def test_removing_the_listener_removes_every_slot_and_watcher(root: Region) -> None:
    ram = Region.ram("ram", 0x4000)
    root.add(0, ram)
    vm, space, slots = follow(root, wants_writes=True)
    space.remove_listener(slots)
    assert vm.slots == {} and slots.slots == {}
    assert ram.ram_block is not None and ram.ram_block.watchers == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("adderw"), st.integers(0, 11), st.integers(0, 15), st.integers(0, 2)), max_size=30
    )
)
def test_slots_are_the_ram_of_the_flat_view_after_any_changes(changes: list[tuple[str, int, int, int]]) -> None:
    """However the map got there, piece by piece, the slots say what a look at all of it says."""
    root = Region.container("memory", 1 << 32)
    vm, space, listener = follow(root, limit=64)
    regions = [Region.ram(f"ram{n}", (n % 4 + 1) * 0x1000) for n in range(6)]
    regions += [Region.alias(f"alias{n}", regions[n], 0x1000 * (n % 2), 0x2000) for n in range(3)]
    regions += [Region(f"io{n}", 0x800 << n) for n in range(3)]
    for what, which, page, priority in changes:
        region = regions[which]
        if what == "a" and region.parent is None:
            root.add(page * 0x1000, region, priority)
        elif what == "d" and region.parent is not None:
            root.remove(region)
        elif what == "e":
            region.set_enabled(priority == 0)
        elif what == "r":
            region.set_readonly(priority == 0)
        elif what == "w" and region.parent is not None:
            region.set_offset(page * 0x1000)
        wanted = {}
        for flat in render(root):
            start, end = -(-flat.start // 0x1000) * 0x1000, flat.end // 0x1000 * 0x1000
            if flat.region.ram_block is not None and start < end:
                host = flat.region.ram_block.address + flat.offset + start - flat.start
                if host % 0x1000 == 0:
                    wanted[start] = (end - start, host, flat.readonly)
        found = {guest: (size, host, bool(flags & READONLY)) for guest, size, host, flags in vm.slots.values()}
        assert found == wanted
    space.remove_listener(listener)
    assert listener.slots == {}
    for region in regions[:6]:
        assert region.ram_block is not None
        region.ram_block.close()
