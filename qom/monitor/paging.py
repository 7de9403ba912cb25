"""The guest's page tables, as a processor walks them: 32-bit, PAE, 4 and 5 levels.

Not modelled: protection keys, nested tables, SMM; a walk reads memory and changes nothing, accessed bits neither.
Source: Intel SDM volume 3, chapter 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from qom.hw.address_space import AddressSpace
from qom.monitor.failure import CommandError

__all__ = ["Mapping", "mappings", "paging_levels", "translate"]

CR0_PG, CR4_PSE, CR4_PAE, CR4_LA57, EFER_LMA = 1 << 31, 1 << 4, 1 << 5, 1 << 12, 1 << 10
PRESENT, WRITABLE, USER, LARGE, NO_EXECUTE = 1, 2, 4, 0x80, 1 << 63
ADDRESS: Final = (1 << 52) - 1 & ~0xFFF
PAGE_BITS: Final = 12
TABLES: Final = 1 << 15
"""Tables that are walked through at the most: as many as map 64 GiB by 4 KiB.  Tables that refer to themselves have no end."""


class Mapping(NamedTuple):
    """One page that is mapped.

    linear: its first address, with the sign spread as the processor has it.  size: in bytes.  physical: where it is.
    entry: the entry that maps it.  allowed: USER and WRITABLE as all levels together give them.
    """

    linear: int
    size: int
    physical: int
    entry: int
    allowed: int


class Paging(NamedTuple):
    """How a processor in some state translates.  shifts: of the levels, the top one first.  entry: bytes of one."""

    shifts: tuple[int, ...]
    entry: int
    root: int


def paging_levels(registers: dict[str, int]) -> Paging | None:
    """How addresses are translated in this state; None while paging is off."""
    if not registers["cr0"] & CR0_PG:
        return None
    cr3, cr4 = registers["cr3"], registers["cr4"]
    if not cr4 & CR4_PAE:
        return Paging((22, 12), 4, cr3 & 0xFFFFF000)
    if not registers["efer"] & EFER_LMA:
        return Paging((30, 21, 12), 8, cr3 & 0xFFFFFFE0)
    shifts = (48, 39, 30, 21, 12) if cr4 & CR4_LA57 else (39, 30, 21, 12)
    return Paging(shifts, 8, cr3 & ADDRESS)


def _maps_page(paging: Paging, shift: int, entry: int, cr4: int) -> bool:
    """Whether the entry at a level maps a page itself."""
    if shift == PAGE_BITS:
        return True
    if not entry & LARGE:
        return False
    if paging.entry == 4:
        return bool(cr4 & CR4_PSE)
    return shift == 21 or (shift == 30 and len(paging.shifts) > 3)


def _frame(paging: Paging, shift: int, entry: int) -> int:
    if paging.entry == 4 and shift == 22:
        return entry & 0xFFC00000 | (entry >> 13 & 0xFF) << 32  # PSE-36
    return entry & (0xFFFFF000 if paging.entry == 4 else ADDRESS) & ~((1 << shift) - 1)


def translate(memory: AddressSpace, registers: dict[str, int], linear: int) -> int | None:
    """The physical address behind a linear one; None where nothing is mapped.

    Args:
        memory: the processor's address space.
        registers: of the processor.
        linear: the address; outside of long mode its low 32 bits count.
    """
    paging = paging_levels(registers)
    if paging is None:
        return linear if registers["efer"] & EFER_LMA else linear & 0xFFFFFFFF
    bits = paging.shifts[0] + (10 if paging.entry == 4 else 9)
    if len(paging.shifts) <= 3:
        linear &= 0xFFFFFFFF
    elif linear >> bits - 1 not in (0, (1 << 65 - bits) - 1):
        return None  # not canonical
    table = paging.root
    above = 64 if len(paging.shifts) > 3 else 32
    for shift in paging.shifts:
        width = min(above, bits) - shift
        entry = memory.read(table + (linear >> shift & (1 << width) - 1) * paging.entry, paging.entry)
        if not entry & PRESENT:
            return None
        if _maps_page(paging, shift, entry, registers["cr4"]):
            return _frame(paging, shift, entry) | linear & (1 << shift) - 1
        table = entry & (0xFFFFF000 if paging.entry == 4 else ADDRESS)
        above = shift
    return None


def mappings(memory: AddressSpace, registers: dict[str, int]) -> Iterator[Mapping]:
    """Every page that is mapped, ascending by linear address; nothing while paging is off.

    Raises:
        CommandError: there are more tables than a guest has a use for.
    """
    paging = paging_levels(registers)
    if paging is None:
        return
    tables = iter(range(TABLES))
    yield from _walk(memory, registers["cr4"], paging, tables, 0, paging.root, 0, USER | WRITABLE)


def _walk(
    memory: AddressSpace,
    cr4: int,
    paging: Paging,
    tables: Iterator[int],
    level: int,
    table: int,
    base: int,
    allowed: int,
) -> Iterator[Mapping]:
    if next(tables, None) is None:
        raise CommandError(f"the guest has more than {TABLES} page tables, or they refer to themselves")
    shift = paging.shifts[level]
    first_of_pae = len(paging.shifts) == 3 and level == 0
    count = 4 if first_of_pae else 1024 if paging.entry == 4 else 512
    size = paging.entry
    data = memory.read_bytes(table, count * size)
    top = shift + (10 if size == 4 else 9)
    for n in range(count):
        entry = int.from_bytes(data[n * size : (n + 1) * size], "little")
        if not entry & PRESENT:
            continue
        linear = base + (n << shift)
        if level == 0 and len(paging.shifts) > 3 and linear >> top - 1:
            linear |= (1 << 64) - (1 << top)
        rights = allowed if first_of_pae else allowed & entry
        if _maps_page(paging, shift, entry, cr4):
            yield Mapping(linear, 1 << shift, _frame(paging, shift, entry), entry, rights)
        else:
            below = entry & (0xFFFFF000 if size == 4 else ADDRESS)
            yield from _walk(memory, cr4, paging, tables, level + 1, below, linear, rights)
