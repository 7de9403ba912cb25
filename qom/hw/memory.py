"""Memory regions: what a machine's address spaces are composed of.

A `Region` is RAM, ROM, I/O (two callbacks), an alias (a window on another region) or a container; any of the first
three may have sub-regions on top, too.  Each sits in at most one container, at an offset and with a priority: where
siblings overlap the higher priority wins, among equals the one added last.  A region may be disabled, and RAM may be
read-only (as an alias may make its window).  An I/O region answers its own accesses only where no sub-region does; a
container answers nothing itself, so whatever lies below it in priority shows through.

`AddressSpace` (address_space.py) flattens such a tree.  Every region knows who shows it (its container, aliases of it,
address spaces rooted in it), so a change finds the address spaces it concerns, and the addresses in them, by walking
up; no list of all spaces exists.

Guest RAM is a `RamBlock`: an anonymous private mapping without reserved swap, so a page costs memory only once it is
touched; Python sees it as a memoryview without copying, C as a host address.

Not modelled: memory transaction attributes, RAM on huge pages or in a file, ROM devices (flash that is RAM to read and
I/O to write).  Caller of everything here: whoever holds the machine lock.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import compress
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, runtime_checkable
from weakref import WeakSet

from qom.blame import defined_at, function_name, passes
from qom.errors import QomError
from qom.hw.fault import DeviceFault, Fault
from qom.hw.siblings import NOTHING, Siblings

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace

PAGE_SIZE = 4096
PAGE_BITS = 12
MAX_ACCESS = 8
"""Widest single access a device callback can be given, in bytes."""

_BITS = [bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256)]  # a byte of a bitmap, one byte a bit

ReadCallback = Callable[[int, int], int]
"""read(offset, size) -> value; what exceeds `size` bytes is cut off by the bus."""
WriteCallback = Callable[[int, int, int], object]
"""write(offset, value, size); `value` is already cut to `size` bytes."""


BurstRead = Callable[[int, int, int], bytes]
"""read_burst(offset, size, count) -> data of at most `count` accesses of `size` bytes at one offset, little-endian."""
BurstWrite = Callable[[int, int, bytes], int]
"""write_burst(offset, size, data) -> how many of its bytes were taken, whole accesses."""


class RegionError(QomError):
    """A memory region was composed or accessed in a way that has no meaning."""


@runtime_checkable
class RegionOwner(Protocol):
    """What a region asks of the device it belongs to."""

    @property
    def path(self) -> str: ...  # noqa: D102 -- protocol

    def guest_error(self, kind: str, text: str) -> None: ...  # noqa: D102 -- protocol


class RamBlock:
    """Host memory behind a RAM or ROM region.

    `view` is a writable memoryview of exactly `size` bytes; `address` the host address of its first byte, page-aligned
    and mapped for `mapped_size` (`size` rounded up to whole pages) as long as the block is not closed.

    Whoever writes through `view` itself tells `written(offset, length)` afterwards, so that dirty logs and a
    processor's cache of decoded code learn of it; writes through an address space do so by themselves.
    """

    def __init__(self, name: str, size: int) -> None:
        if size <= 0:
            raise RegionError(f"RAM '{name}' cannot have {size} bytes: expected at least 1")
        self.name = name
        self.size = size
        self.mapped_size = -(-size // PAGE_SIZE) * PAGE_SIZE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        try:
            self._map = mmap.mmap(-1, self.mapped_size, flags=flags)
        except (OSError, OverflowError, ValueError) as error:
            raise RegionError(
                f"RAM '{name}' of {size} bytes cannot be mapped: {getattr(error, 'strerror', None) or 'too large'}:"
                " expected less memory"
            ) from error
        import ctypes  # slow to import, and only RAM needs it

        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.view = memoryview(self._map)[:size]
        self.watchers: list[Callable[[int, int], object]] = []
        """Called as watcher(offset, length) after user space (a device, a loader) wrote; not for the guest's writes."""
        self._dirty: dict[str, bytearray] = {}  # client -> one byte a page

    @property
    def closed(self) -> bool:
        """Whether the memory was given back."""
        return self._map.closed

    def close(self) -> None:
        """Give the memory back, once no user of `address` is left; slices of `view` still held keep it mapped."""
        self.address = 0
        self.view.release()
        with suppress(BufferError):  # somebody holds a slice: the mapping goes when the last one does
            self._map.close()

    def written(self, offset: int, length: int) -> None:
        """User space wrote `length` bytes at `offset`."""
        if self._dirty:
            self.mark_dirty(offset, length)
        for watcher in self.watchers:
            watcher(offset, length)

    def mark_dirty(self, offset: int, length: int) -> None:
        """Note in every dirty log that `length` bytes at `offset` were written."""
        if length <= 0:
            return
        first = offset >> PAGE_BITS
        last = (offset + length - 1) >> PAGE_BITS
        if first == last:
            for pages in self._dirty.values():
                pages[first] = 1
        else:
            for pages in self._dirty.values():
                pages[first : last + 1] = b"\1" * (last + 1 - first)

    def merge_dirty_bitmap(self, offset: int, bitmap: bytes | bytearray | memoryview) -> None:
        """Add an accelerator's dirty log: bit n (least significant first) is the n-th page after byte `offset`."""
        first = offset >> PAGE_BITS
        limit = self.mapped_size >> PAGE_BITS
        written = b"".join(map(_BITS.__getitem__, bytes(bitmap)))[: max(0, limit - first)]
        if 1 not in written:
            return
        new = int.from_bytes(written, "little")
        for pages in self._dirty.values():
            old = int.from_bytes(pages[first : first + len(written)], "little")
            pages[first : first + len(written)] = (old | new).to_bytes(len(written), "little")

    def set_logging(self, client: str, on: bool) -> None:
        """Start (with everything clean) or stop `client`'s dirty log."""
        if on:
            self._dirty.setdefault(client, bytearray(self.mapped_size >> PAGE_BITS))
        else:
            self._dirty.pop(client, None)

    @property
    def logging(self) -> bool:
        """Whether anybody keeps a dirty log."""
        return bool(self._dirty)

    def take_dirty(self, client: str) -> list[int]:
        """The numbers of the pages written since last taken by `client`, ascending; they are clean again for it."""
        pages = self._dirty.get(client)
        if pages is None:
            raise RegionError(f"RAM '{self.name}': '{client}' keeps no dirty log")
        found = list(compress(range(len(pages)), pages))
        if found:
            pages[:] = bytes(len(pages))
        return found

    def __repr__(self) -> str:
        return f"<RamBlock {self.name} {self.size:#x} bytes>"


class Region:
    """A piece of address space; this constructor makes an I/O region, the class methods the other kinds.

    read(offset, size) and write(offset, value, size) are only ever called with a size in `sizes` (smallest, largest;
    powers of two up to 8) and, unless `unaligned`, with an offset that is a multiple of the size: a wider or crooked
    access is split into the largest pieces that fit, lowest address first.  A piece narrower than the smallest size is
    refused (`narrow= "reject"`: reads all ones, writes nothing, logged once) or served by a wider read, for writes
    followed by a wider write (`"widen"`).  `endian` is the device's own order; callbacks of a big-endian region see the
    bytes the other way round. A missing `read` reads all ones; a missing `write` ignores writes.  An endless read or
    write is the device's own fault.
    """

    def __init__(
        self,
        name: str,
        size: int,
        read: ReadCallback | None = None,
        write: WriteCallback | None = None,
        sizes: tuple[int, int] = (1, 4),
        *,
        endian: Literal["little", "big"] = "little",
        narrow: Literal["reject", "widen"] = "reject",
        unaligned: bool = False,
        owner: RegionOwner | None = None,
    ) -> None:
        if not 0 < size <= 1 << 64:
            raise RegionError(f"region '{name}' cannot have size {size:#x}: expected 1 to 2^64")
        low, high = sizes
        if low not in (1, 2, 4, 8) or high not in (1, 2, 4, 8) or low > high:
            raise RegionError(f"region '{name}': sizes {sizes} must be two of 1, 2, 4, 8, smallest first")
        if endian not in ("little", "big"):
            raise RegionError(f"region '{name}': endian {endian!r} must be 'little' or 'big'")
        if narrow not in ("reject", "widen"):
            raise RegionError(f"region '{name}': narrow {narrow!r} must be 'reject' or 'widen'")
        self.name = name
        self.size = size
        self.read = read
        self.write = write
        self.min_size = low
        self.max_size = high
        self.big_endian = endian == "big"
        self.widen = narrow == "widen"
        self.unaligned = unaligned
        self.owner = owner
        self.kind: Literal["io", "ram", "rom", "alias", "container"] = "io"
        self.terminates = True  # answers accesses itself
        self.enabled = True
        self.readonly = False
        self.priority = 0
        self.offset = 0  # within the container
        self.parent: Region | None = None
        self.inside: Siblings = NOTHING  # its sub-regions
        self.ram_block: RamBlock | None = None
        self.target: Region | None = None  # of an alias
        self.alias_offset = 0
        self.rejected = 0  # accesses refused as too narrow
        self.read_burst: BurstRead | None = None  # optional: repeated accesses at one offset (REP INS), all at once
        self.write_burst: BurstWrite | None = None
        self._aliases: WeakSet[Region] | None = None
        self._spaces: tuple[AddressSpace, ...] = ()  # rooted here

    # -- the other kinds

    @classmethod
    def ram(cls, name: str, size: int, *, owner: RegionOwner | None = None) -> Region:
        """Zero-filled RAM; only what is touched costs host memory."""
        region = cls(name, size, owner=owner)
        region.kind = "ram"
        region.ram_block = RamBlock(name, size)
        return region

    @classmethod
    def rom(
        cls,
        name: str,
        data: bytes | bytearray | memoryview,
        size: int | None = None,
        *,
        owner: RegionOwner | None = None,
    ) -> Region:
        """Memory holding `data` (zero-filled up to `size`) that ignores the guest's writes."""
        size = len(data) if size is None else size
        if len(data) > size:
            raise RegionError(f"ROM '{name}': {len(data)} bytes of data do not fit in {size}")
        region = cls.ram(name, size, owner=owner)
        region.kind = "rom"
        region.readonly = True
        assert region.ram_block is not None
        region.ram_block.view[: len(data)] = data
        return region

    @classmethod
    def alias(
        cls,
        name: str,
        target: Region,
        offset: int,
        size: int,
        *,
        readonly: bool = False,
        owner: RegionOwner | None = None,
    ) -> Region:
        """A window of `size` bytes on `target` from `offset` on; `readonly` drops writes made through it."""
        region = cls(name, size, owner=owner)
        region.kind = "alias"
        region.terminates = False
        region.readonly = readonly
        region.target = target
        region.alias_offset = offset
        if target._aliases is None:
            target._aliases = WeakSet()
        target._aliases.add(region)
        return region

    @classmethod
    def container(cls, name: str, size: int = 1 << 64, *, owner: RegionOwner | None = None) -> Region:
        """A region that is only its sub-regions; between them, what lies behind it shows through."""
        region = cls(name, size, owner=owner)
        region.kind = "container"
        region.terminates = False
        return region

    # -- composition

    @property
    def subregions(self) -> tuple[Region, ...]:
        """The regions in it, in the order in which they win."""
        return self.inside.ordered()

    def add(self, offset: int, region: Region, priority: int = 0) -> Region:
        """Put `region` at `offset` of this one; returns it.  What reaches beyond this region is hidden."""
        if region.parent is not None:
            raise RegionError(
                f"region '{region.name}' is already in '{region.parent.name}': map an alias of it instead"
            )
        if self.kind == "alias":
            raise RegionError(f"region '{region.name}' cannot be put into alias '{self.name}': put it into its target")
        if region._shows(self):
            raise RegionError(f"region '{region.name}' cannot be put into '{self.name}', which it contains itself")
        region.parent = self
        region.offset = offset
        region.priority = priority
        if self.inside is NOTHING:
            self.inside = Siblings()
        self.inside.add(region)
        if region.enabled:
            self._changed((offset, offset + region.size))
        return region

    def remove(self, region: Region) -> None:
        """Take `region` out again."""
        if region.parent is not self:
            raise RegionError(f"region '{region.name}' is not in '{self.name}'")
        self.inside.remove(region)
        region.parent = None
        if region.enabled:
            self._changed((region.offset, region.offset + region.size))

    def set_enabled(self, enabled: bool) -> None:
        """Show or hide the region and all in it."""
        if self.enabled != enabled:
            self.enabled = True  # either way what changes is what shows while it is enabled
            stretches = self._stretches((0, self.size))
            self.enabled = enabled
            _commit(stretches)

    def set_offset(self, offset: int) -> None:
        """Move the region within its container."""
        if self.offset == offset:
            return
        was, parent = self.offset, self.parent
        if parent is None:
            self.offset = offset
            return
        rank = parent.inside.remove(self)
        self.offset = offset
        parent.inside.add(self, rank)
        if self.enabled:
            parent._changed((was, was + self.size), (offset, offset + self.size))

    def set_priority(self, priority: int) -> None:
        """Change who wins against siblings; among equals this one wins now."""
        if self.priority == priority:
            return
        self.priority = priority
        parent = self.parent
        if parent is not None:
            parent.inside.remove(self)
            parent.inside.add(self)
            if self.enabled:
                parent._changed((self.offset, self.offset + self.size))

    def set_alias_offset(self, offset: int) -> None:
        """Move an alias's window on its target."""
        if self.kind != "alias":
            raise RegionError(f"region '{self.name}' is no alias: it has no alias offset")
        if self.alias_offset != offset:
            self.alias_offset = offset
            self._changed((0, self.size))

    def set_size(self, size: int) -> None:
        """Change the extent of an alias, container or I/O region; RAM has the size it was made with."""
        if self.ram_block is not None:
            raise RegionError(f"region '{self.name}' is {self.kind}: its size is fixed")
        if not 0 < size <= 1 << 64:
            raise RegionError(f"region '{self.name}' cannot have size {size:#x}: expected 1 to 2^64")
        was, parent = self.size, self.parent
        if was == size:
            return
        rank = parent.inside.remove(self) if parent is not None else None
        self.size = max(was, size)  # what shows with either
        stretches = self._stretches((0, self.size))
        self.size = size
        if parent is not None:
            parent.inside.add(self, rank)
        _commit(stretches)

    def set_readonly(self, readonly: bool) -> None:
        """Drop (True) or allow the guest's writes to RAM, or to RAM through an alias."""
        if self.readonly != readonly:
            self.readonly = readonly
            self._changed((0, self.size))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Changes made inside to this region or below it (or to what it shows) take effect together, at the end.

        Nests.  Listeners of an address space hear of it once; nothing is said when the flat view comes out the same.
        """
        with ExitStack() as held:  # lets go of every space, whatever a listener of one of them raises
            for space in self.address_spaces():
                space._hold()
                held.callback(space._release)
            yield

    def address_spaces(self) -> list[AddressSpace]:
        """Every address space in which the region may be seen."""
        found: dict[int, AddressSpace] = {}
        for region in self._upward():
            for space in region._spaces:
                found[id(space)] = space
        return list(found.values())

    def _upward(self) -> Iterator[Region]:
        """This region and all that show it, each once."""
        seen = {id(self)}
        pending = [self]
        while pending:
            region = pending.pop()
            yield region
            shown_by = [region.parent] if region.parent is not None else []
            for above in (*shown_by, *(region._aliases or ())):
                if id(above) not in seen:
                    seen.add(id(above))
                    pending.append(above)

    def _shows(self, other: Region) -> bool:
        if self.target is None and not self.inside:
            return other is self
        return any(region is self for region in other._upward())

    def _changed(self, *stretches: tuple[int, int]) -> None:
        """What bytes [low, high) of this region show may look different now."""
        _commit(self._stretches(*stretches))

    def _stretches(self, *stretches: tuple[int, int]) -> dict[AddressSpace, list[tuple[int, int]]]:
        """Where in which address space bytes [low, high) of this region may be seen."""
        found: dict[AddressSpace, list[tuple[int, int]]] = {}
        pending = [(self, low, high) for low, high in stretches]
        while pending:
            region, low, high = pending.pop()
            low, high = max(low, 0), min(high, region.size)
            if low >= high or not region.enabled:
                continue
            for space in region._spaces:
                found.setdefault(space, []).append((low, high))
            if region.parent is not None:
                pending.append((region.parent, low + region.offset, high + region.offset))
            for alias in region._aliases or ():
                pending.append((alias, low - alias.alias_offset, high - alias.alias_offset))
        return found

    # -- dirty logging

    def dirty_log(self, client: str, on: bool) -> None:
        """Start or stop `client`'s log of pages written in this RAM; listeners are told of the first and the last."""
        block = self._block()
        was = block.logging
        block.set_logging(client, on)
        if block.logging != was:
            self._changed((0, self.size))

    def take_dirty(self, client: str) -> list[int]:
        """Page numbers (4 KiB, within this region) written since `client` last asked, by the guest or by devices."""
        block = self._block()
        for space in self.address_spaces():
            space._sync_dirty(self)
        return block.take_dirty(client)

    def _block(self) -> RamBlock:
        if self.ram_block is None:
            raise RegionError(f"region '{self.name}' is no RAM: it has no dirty log")
        return self.ram_block

    # -- access (without an address space: offsets within this region, only to what it answers itself)

    def pieces(self, offset: int, size: int) -> list[tuple[int, int]]:
        """How an access is split: (offset, size) of each piece, lowest first, the largest that fit."""
        result = []
        while size > 0:
            piece = self.max_size
            while piece > size or (offset % piece and (not self.unaligned or piece < self.min_size)):
                piece >>= 1
            result.append((offset, piece))
            offset += piece
            size -= piece
        return result

    def read_io(self, offset: int, size: int) -> int:
        """Read `size` bytes of an I/O region as a little-endian bus would, splitting and widening as declared."""
        value = shift = 0
        for at, piece in self.pieces(offset, size):
            value |= self._read_piece(at, piece) << shift
            shift += piece * 8
        return value

    def write_io(self, offset: int, value: int, size: int) -> None:
        """Write `size` bytes of an I/O region as a little-endian bus would, splitting and widening as declared."""
        for at, piece in self.pieces(offset, size):
            self._write_piece(at, value & ((1 << piece * 8) - 1), piece)
            value >>= piece * 8

    def blame(self, offset: int, size: int, is_write: bool, error: BaseException, returned: object = 0) -> NoReturn:
        """Raise the report for an exception that a callback of this region raised; what is none of its own as it is.

        returned: what a read callback had returned before the exception; anything but an integer is what is reported.
        """
        place = None
        if not isinstance(returned, int) and self.read is not None:
            error = TypeError(f"{function_name(self.read)} returned {returned!r}: expected an integer")
            place = defined_at(self.read)
        if isinstance(error, Fault) or passes(error):
            raise error  # of a device further in, reached by DMA; of an observer; the user's Ctrl-C
        path = self.owner.path if self.owner is not None else self.name
        raise DeviceFault(
            path,
            error,
            region=self.name,
            offset=offset,
            size=size,
            is_write=is_write,
            address=self._address(offset),
            owner=self.owner,
            place=place,
        ) from error

    def _address(self, offset: int) -> int | None:
        """Where byte `offset` is in the address space the region is mapped into; None if nowhere, or through aliases."""
        here: Region = self
        while here.parent is not None:
            offset += here.offset
            here = here.parent
        return offset if here._spaces and here is not self else None

    def _read_piece(self, offset: int, size: int) -> int:
        if size < self.min_size:
            low = offset & -self.min_size
            if not self._may_widen("read", offset, size, low):
                return (1 << size * 8) - 1
            return (self._read_piece(low, self.min_size) >> (offset - low) * 8) & ((1 << size * 8) - 1)
        read = self.read
        mask = (1 << size * 8) - 1
        if read is None:
            return mask
        value = 0
        try:
            value = read(offset, size)
            value &= mask
        except BaseException as error:
            self.blame(offset, size, False, error, value)
        if self.big_endian and size > 1:
            value = int.from_bytes(value.to_bytes(size, "big"), "little")
        return value

    def _write_piece(self, offset: int, value: int, size: int) -> None:
        if size < self.min_size:
            low = offset & -self.min_size
            if self._may_widen("write", offset, size, low):
                shift = (offset - low) * 8
                mask = ((1 << size * 8) - 1) << shift
                whole = self._read_piece(low, self.min_size)
                self._write_piece(low, (whole & ~mask) | (value << shift), self.min_size)
            return
        write = self.write
        if write is None:
            return
        if self.big_endian and size > 1:
            value = int.from_bytes(value.to_bytes(size, "big"), "little")
        try:
            write(offset, value, size)
        except BaseException as error:
            self.blame(offset, size, True, error)

    def _may_widen(self, verb: str, offset: int, size: int, low: int) -> bool:
        if self.widen and low + self.min_size <= self.size:
            return True
        self.rejected += 1
        if self.owner is not None:
            text = f"{size}-byte {verb} of {self.name} at offset {offset:#x}: it takes {self.min_size} bytes or more"
            self.owner.guest_error(f"narrow {verb} of {self.name}", text)
        return False

    def __repr__(self) -> str:
        return f"<Region {self.name} {self.kind} {self.size:#x}>"


def _commit(stretches: dict[AddressSpace, list[tuple[int, int]]]) -> None:
    for space, changed in stretches.items():
        space._note(changed)
    if len(stretches) == 1:
        space._settle()
        return
    with ExitStack() as all_of_them:  # whatever a listener of one of them raises
        for space in reversed(stretches):
            all_of_them.callback(space._settle)
