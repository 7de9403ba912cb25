"""Memory slots: the accelerator's map of guest RAM, kept equal to an address space by a memory listener.

RAM and ROM become slots, as far as they fill whole pages; everything else, and the rest of a page, reaches the guest
by MMIO exits.  Changes are collected between `begin` and `commit`; then slots that are gone are deleted before new
ones are made, since slots may not overlap.  While slots are missing no guest may run (it could fetch an instruction
from there): `held_outside` keeps the vCPUs out of guest mode, also those that only finish an instruction.

All callers hold the machine lock.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from errno import ENOMEM

from accel._kvmabi import lib
from accel.errors import HandleError
from accel.handles import PAGE_SIZE, VmHandle
from qom import AccelError, MemoryListener, MemorySection, RamBlock, format_size, records


@records.define(eq=False)
class Slot:
    """One memory slot."""

    number: int
    start: int
    size: int
    block: RamBlock
    offset: int  # of its first byte in the block
    readonly: bool
    logging: bool = False

    @property
    def flags(self) -> int:
        """KVM_MEM_* of this slot."""
        return (lib.KVM_MEM_READONLY if self.readonly else 0) | (lib.KVM_MEM_LOG_DIRTY_PAGES if self.logging else 0)


class MemorySlots(MemoryListener):
    """The slots of one VM."""

    def __init__(
        self, vm: VmHandle, held_outside: Callable[[], AbstractContextManager[None]], *, wants_writes: bool = False
    ) -> None:
        """Start without a slot.

        Args:
            vm: whose slots.
            held_outside: inside of its `with`, no vCPU is in guest mode.
            wants_writes: tell the VM when user space writes RAM (it keeps code decoded from there).
        """
        super().__init__(priority=10)
        self.vm = vm
        self.held_outside = held_outside
        self.limit = vm.check_extension("KVM_CAP_NR_MEMSLOTS") or 32  # what KVM had before it could be asked
        self.readonly_memory = vm.check_extension("KVM_CAP_READONLY_MEM") > 0
        self.slots: dict[int, Slot] = {}  # by guest address
        self._free: list[int] = []
        self._next = 0
        self._wants_writes = wants_writes
        self._watched: dict[
            int, tuple[RamBlock, Callable[[int, int], object], list[Slot]]
        ] = {}  # and the block's slots
        self._added: list[MemorySection] = []
        self._deleted: list[MemorySection] = []
        if wants_writes:
            vm.writes_are_told()

    # -- listener

    def begin(self) -> None:
        """Start collecting."""
        self._added, self._deleted = [], []

    def region_add(self, section: MemorySection) -> None:
        """Note RAM that appeared."""
        if section.is_ram:
            self._added.append(section)

    def region_del(self, section: MemorySection) -> None:
        """Note RAM that went."""
        if section.is_ram:
            self._deleted.append(section)

    def commit(self) -> None:
        """Bring the accelerator's slots up to date."""
        if self._deleted and self.slots:
            with self.held_outside():
                self._change()
        else:
            self._change()
        if self._wants_writes:
            self._watch_blocks()

    def _change(self) -> None:
        for section in self._deleted:
            self._drop(section)
        added, self._added, self._deleted = self._added, [], []
        for section in added:
            self._make(section)

    def log_start(self, section: MemorySection) -> None:
        """Log writes to the section from now on."""
        self._set_logging(section, True)

    def log_stop(self, section: MemorySection) -> None:
        """Stop logging; what was written so far is fetched first."""
        self.log_sync(section)
        self._set_logging(section, False)

    def log_sync(self, section: MemorySection) -> None:
        """Hand the pages that the guest wrote since last time to the RAM block."""
        slot = self._find(section)
        if slot is not None and slot.logging:
            slot.block.merge_dirty_bitmap(slot.offset, self.vm.dirty_log(slot.number, slot.size))

    # -- slots

    def _find(self, section: MemorySection) -> Slot | None:
        slot = self.slots.get(-(-section.start // PAGE_SIZE) * PAGE_SIZE)
        return slot if slot is not None and slot.start + slot.size <= section.end else None

    def _make(self, section: MemorySection) -> None:
        block = section.region.ram_block
        assert block is not None
        start = -(-section.start // PAGE_SIZE) * PAGE_SIZE
        end = section.end // PAGE_SIZE * PAGE_SIZE
        offset = section.region_offset + start - section.start
        if start >= end or (block.address + offset) % PAGE_SIZE:
            return  # less than a page, or pages that do not line up with the host's
        if section.readonly and not self.readonly_memory:
            return  # reads and writes both exit; slow, and right
        if self._free:
            number = self._free.pop()
        elif self._next < self.limit:
            number = self._next
            self._next += 1
        else:
            raise AccelError(
                f"{self.vm.where}: no memory slot left for {section.region.name} at {start:#x}: all {self.limit} are in use"
            )
        shown = section.space.lookup(section.start)
        logging = shown is not None and shown.dirty_log
        slot = Slot(number, start, end - start, block, offset, section.readonly, logging)
        try:
            self.vm.set_user_memory_region(number, start, slot.size, block.address + offset, slot.flags)
        except HandleError as error:
            self._free.append(number)
            if error.errno != ENOMEM:
                raise
            raise AccelError(
                f"{section.region.name}: the host has not the memory to keep book of {format_size(slot.size)} of guest"
                f" memory ({error.call}): expected less (-m)"
            ) from error
        except AccelError:
            self._free.append(number)
            raise
        self.slots[start] = slot

    def _drop(self, section: MemorySection) -> None:
        slot = self._find(section)
        if slot is None:
            return
        if slot.logging and not slot.block.closed:
            slot.block.merge_dirty_bitmap(slot.offset, self.vm.dirty_log(slot.number, slot.size))
        self.vm.set_user_memory_region(slot.number, slot.start, 0, 0)
        del self.slots[slot.start]
        self._free.append(slot.number)

    def _set_logging(self, section: MemorySection, logging: bool) -> None:
        slot = self._find(section)
        if slot is not None and slot.logging != logging:
            slot.logging = logging
            host = slot.block.address + slot.offset
            self.vm.set_user_memory_region(slot.number, slot.start, slot.size, host, slot.flags)

    # -- writes by user space

    def _watch_blocks(self) -> None:
        present = {id(slot.block): slot.block for slot in self.slots.values()}
        for key in [key for key in self._watched if key not in present]:
            block, watcher, _ = self._watched.pop(key)
            if watcher in block.watchers:
                block.watchers.remove(watcher)
        for key, block in present.items():
            if key not in self._watched:
                slots: list[Slot] = []
                watcher = self._watcher(slots)
                block.watchers.append(watcher)
                self._watched[key] = block, watcher, slots
            self._watched[key][2][:] = [slot for slot in self.slots.values() if slot.block is block]

    def _watcher(self, slots: list[Slot]) -> Callable[[int, int], object]:
        def written(offset: int, length: int) -> None:
            for slot in slots:
                low, high = max(offset, slot.offset), min(offset + length, slot.offset + slot.size)
                if low < high:
                    self.vm.memory_written(slot.start + low - slot.offset, high - low)

        return written
