"""Memory listeners: who wants to know how an address space looks, and hears only of what changes.

An accelerator's memory slots follow from a listener.  A commit of an address space calls, on every listener: `begin`,
then `region_del` for each section that is gone (listeners in descending priority), then, section by section in
ascending address, `region_add` for new ones and `region_nop` for those that stayed (listeners in ascending priority;
only who overrides `region_nop` hears it, since it costs a call for all that is mapped), then `commit`.  A section that
only changed in place is a `del` and an `add`.  `log_start` follows the `add` of RAM with a dirty log, or tells that a
section that stayed has one now; `log_stop` the opposite; `log_sync` asks for the pages written so far.

A new listener hears the present view as `region_add`s between `begin` and `commit`; one that is removed hears
`region_del`s. Called with the machine lock held.  An exception leaves the address space with its new view and goes to
whoever changed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom import records
from qom.hw.memory import Region

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace


@records.frozen(slots=True)
class FlatRange:
    """One piece of a flat view: addresses [start, start + size) are bytes `offset` and up of `region`."""

    start: int
    size: int
    region: Region
    offset: int
    readonly: bool
    dirty_log: bool = records.field(default=False, eq=False)
    reach: int = records.field(default=0, eq=False)
    """Where the region's window ends, whatever of it lies hidden behind others; an access to it may go that far."""

    @property
    def end(self) -> int:
        """First address behind the range."""
        return self.start + self.size


@records.frozen(slots=True)
class MemorySection:
    """What a listener is told about: a flat range and the space it is in."""

    space: AddressSpace
    region: Region
    region_offset: int
    start: int
    size: int
    readonly: bool
    is_ram: bool  # RAM or ROM: has host memory behind it

    @property
    def end(self) -> int:
        """First address behind the section."""
        return self.start + self.size

    @property
    def host_address(self) -> int:
        """Host address of the section's first byte; 0 when there is no memory behind it."""
        block = self.region.ram_block
        return block.address + self.region_offset if block is not None else 0


class MemoryListener:
    """Base of listeners: override what you want to hear."""

    def __init__(self, priority: int = 0) -> None:
        self.priority = priority
        self.hears_nops = type(self).region_nop is not MemoryListener.region_nop

    def begin(self) -> None:
        """A commit starts."""

    def region_add(self, section: MemorySection) -> None:
        """`section` is new."""

    def region_del(self, section: MemorySection) -> None:
        """`section` is gone; told with exactly the values it was added with."""

    def region_nop(self, section: MemorySection) -> None:
        """`section` stayed."""

    def log_start(self, section: MemorySection) -> None:
        """`section` has a dirty log from now on."""

    def log_stop(self, section: MemorySection) -> None:
        """`section` has no dirty log any more."""

    def log_sync(self, section: MemorySection) -> None:
        """Report what the guest wrote so far: `ram_block.merge_dirty_bitmap(section.region_offset, bits)`."""

    def commit(self) -> None:
        """The commit is complete: the address space looks as told."""
