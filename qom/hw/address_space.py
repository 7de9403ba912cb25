"""Address spaces: a region tree as the guest (or a DMA master) sees it.

The tree is flattened into a sorted list of disjoint ranges.  When something in it changed and the outermost transaction
ended, the stretches that changed are flattened anew and put in their place: the cost of a change is that of what it
touches, not of all that is mapped.  While a machine is put together, even that waits until somebody looks
(`deferred`).  Accesses go through two tables keyed by (address, size) that hold ready-made
callables; a commit empties them.  So a repeated access to a device costs a dictionary look-up and one extra call beyond
the device's own callback.

What the guest's wrong accesses do: nothing at an address reads as all ones and ignores writes (counted), a straddling
access is split at the boundary, a write to ROM is dropped.  An exception in a device becomes a `DeviceFault`.

Caller of everything here: whoever holds the machine lock, vCPU threads included.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qom.hw.flat_view import WHOLE, render, same_view
from qom.hw.listener import FlatRange, MemoryListener, MemorySection
from qom.hw.memory import PAGE_SIZE, Region, RegionError

if TYPE_CHECKING:
    from qom.hw.probe import AccessProbe

Reader = Callable[[], int]
"""A resolved read: returns the value, already cut to the size."""
Writer = Callable[[int], object]
"""A resolved write: takes the value, cuts it to the size itself."""

TABLE_LIMIT = 4096
"""Entries in a table of ready-made accesses before it is emptied (a guest that walks a large window would fill it)."""


class Window:
    """A large stretch of I/O that takes what comes as it stands, at any address.

    Whoever walks through it comes to each address once: to keep something for each of them is what would take time.
    """

    __slots__ = ("high", "low", "max_size", "region", "shift")

    def __init__(self, found: FlatRange) -> None:
        self.region = found.region
        self.low, self.high = found.start, found.end
        self.shift = found.offset - found.start
        self.max_size = found.region.max_size

    @staticmethod
    def fits(found: FlatRange) -> bool:
        """Whether nothing about an access to `found` depends on its address."""
        region = found.region
        return (
            found.size >= PAGE_SIZE
            and not found.readonly
            and region.unaligned
            and region.min_size == 1
            and not region.big_endian
            and region.read is not None
            and region.write is not None
        )

    def takes(self, size: int) -> bool:
        """Whether `size` bytes come in one piece."""
        return size <= self.max_size and not size & (size - 1)

    def reader(self, addr: int, size: int) -> Reader:
        """As AddressSpace.reader."""
        return _direct_reader(self.region, addr + self.shift, size)

    def writer(self, addr: int, size: int) -> Writer:
        """As AddressSpace.writer."""
        return _direct_writer(self.region, addr + self.shift, size)


def _direct_reader(region: Region, offset: int, size: int) -> Reader:
    """A read that the region's callback answers as it stands, in one piece."""
    callback, mask = region.read, (1 << size * 8) - 1
    assert callback is not None

    def direct() -> int:
        value = 0
        try:
            value = callback(offset, size)
            return value & mask
        except BaseException as error:
            region.blame(offset, size, False, error, value)

    return direct


def _direct_writer(region: Region, offset: int, size: int) -> Writer:
    """A write that the region's callback takes as it stands, in one piece."""
    callback, mask = region.write, (1 << size * 8) - 1
    assert callback is not None

    def direct(value: int) -> None:
        try:
            callback(offset, value & mask, size)
        except BaseException as error:
            region.blame(offset, size, True, error)

    return direct


class AddressSpace:
    """The view from one place: `root` flattened."""

    def __init__(self, name: str, root: Region) -> None:
        self.name = name
        self.root = root
        self.generation = 0
        """Grows when the view changes, or may have: whoever keeps something it got from `reader` compares it."""
        self.readers: dict[tuple[int, int], Reader] = {}
        """Ready-made reads by (address, size): `space.readers.get((a, n)) or space.reader(a, n)`."""
        self.writers: dict[tuple[int, int], Writer] = {}
        """Ready-made writes by (address, size), likewise."""
        self.unassigned_reads = 0
        self.unassigned_writes = 0
        self.dropped_writes = 0  # to ROM
        self.on_unassigned: Callable[[int, int, bool], object] | None = None
        """Called as (address, size, is_write) for every access to nothing, for a log."""
        self.probe: AccessProbe | None = None
        """Who watches accesses, while anybody does (see probe.py)."""
        self._view: list[FlatRange] = []
        self._starts: list[int] = []  # of the ranges in the view
        self._window: Window | None = None  # the one last met
        self._listeners: list[MemoryListener] = []  # ascending priority
        self._held = 0
        self._deferred = 0
        self._changed: list[tuple[int, int]] = []  # stretches [low, high) to be flattened anew
        self._committing = False
        root._spaces = (*root._spaces, self)
        self._note([(0, WHOLE)])
        self._settle()

    def close(self) -> None:
        """Tell the listeners that everything is gone, and follow the root no more."""
        for listener in tuple(self._listeners):
            self.remove_listener(listener)
        self.root._spaces = tuple(space for space in self.root._spaces if space is not self)
        self._view, self._starts, self._changed = [], [], []
        self.readers.clear()
        self.writers.clear()
        self._window = None

    @property
    def flat_view(self) -> list[FlatRange]:
        """The ranges, disjoint and ascending, as they are now; for reading only."""
        self._look()
        return self._view

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Changes made inside are worked out when somebody looks, at the latest at the end: all of them at once.

        Unlike in a transaction every access sees what was changed before it.  Listeners hear of changes later than they
        are made, so no processor may run meanwhile.
        """
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
            self._settle()

    # -- access

    def read(self, addr: int, size: int) -> int:
        """Read `size` bytes (1 to 8) at `addr`, little-endian."""
        handler = self.readers.get((addr, size))
        if handler is None:
            handler = self.reader(addr, size)
        return handler()

    def write(self, addr: int, value: int, size: int) -> None:
        """Write `size` bytes (1 to 8) at `addr`, little-endian; excess bits of `value` are cut off."""
        handler = self.writers.get((addr, size))
        if handler is None:
            handler = self.writer(addr, size)
        handler(value)

    def reader(self, addr: int, size: int) -> Reader:
        """The callable that reads `size` bytes at `addr`; good until `generation` changes."""
        window = self._window
        if (
            window is not None
            and window.low <= addr <= window.high - size
            and window.takes(size)
            and self.probe is None
        ):
            return window.reader(addr, size)
        handler = self._make_reader(addr, size)
        if self.probe is not None and self._run(addr, size)[1] >= size:  # else its parts are observed
            handler = self.probe.reader(addr, size, handler)
        table = self.readers
        if len(table) >= TABLE_LIMIT:
            table.clear()
        table[addr, size] = handler
        return handler

    def writer(self, addr: int, size: int) -> Writer:
        """The callable that writes `size` bytes at `addr`; good until `generation` changes."""
        window = self._window
        if (
            window is not None
            and window.low <= addr <= window.high - size
            and window.takes(size)
            and self.probe is None
        ):
            return window.writer(addr, size)
        handler = self._make_writer(addr, size)
        if self.probe is not None and self._run(addr, size)[1] >= size:
            handler = self.probe.writer(addr, size, handler)
        table = self.writers
        if len(table) >= TABLE_LIMIT:
            table.clear()
        table[addr, size] = handler
        return handler

    def read_string(self, addr: int, size: int, count: int) -> bytes:
        """`count` reads of `size` bytes at one address, as REP INS does them; little-endian, one after the other."""
        data = b""
        found = self.lookup(addr)
        if self.probe is not None and self.probe.concerns(addr, size, False):
            found = None  # one by one, as the observers want them
        if found is not None and found.region.read_burst is not None and addr + size <= found.end:
            region, offset = found.region, addr - found.start + found.offset
            try:
                data = found.region.read_burst(offset, size, count)
            except BaseException as error:
                region.blame(offset, size, False, error)
        rest = count - len(data) // size
        if rest > 0:  # through the table each time: a device may change the map
            data += b"".join([self.read(addr, size).to_bytes(size, "little") for _ in range(rest)])
        return data

    def write_string(self, addr: int, size: int, data: bytes) -> None:
        """Writes of `size` bytes at one address until `data` is used up, as REP OUTS does them."""
        at = 0
        found = self.lookup(addr)
        if self.probe is not None and self.probe.concerns(addr, size, True):
            found = None
        if found is not None and found.region.write_burst is not None and addr + size <= found.end:
            region, offset = found.region, addr - found.start + found.offset
            try:
                at = found.region.write_burst(offset, size, data)
            except BaseException as error:
                region.blame(offset, size, True, error)
        for start in range(at, len(data), size):
            self.write(addr, int.from_bytes(data[start : start + size], "little"), size)

    def lookup(self, addr: int) -> FlatRange | None:
        """The flat range that answers at `addr`."""
        if self._changed:
            self._look()
        i = bisect_right(self._starts, addr) - 1
        if i >= 0:
            found = self._view[i]
            if addr < found.start + found.size:
                return found
        return None

    def read_bytes(self, addr: int, length: int) -> bytes:
        """Read `length` bytes at `addr`, as DMA does: RAM at once, devices in the pieces they take."""
        if self.probe is not None and length and self.probe.concerns(addr, length, False):
            return self.probe.read_bytes(addr, length, self._read_bytes)
        return self._read_bytes(addr, length)

    def _read_bytes(self, addr: int, length: int) -> bytes:
        found = self.lookup(addr)
        if found is not None and found.region.ram_block is not None and addr + length <= found.end:
            at = addr - found.start + found.offset
            return bytes(found.region.ram_block.view[at : at + length])
        parts = []
        while length > 0:
            found, run = self._run(addr, length)
            if found is None:
                parts.append(b"\xff" * run)
                self.unassigned_reads += 1
                if self.on_unassigned is not None:
                    self.on_unassigned(addr, run, False)
            else:
                region, at = found.region, addr - found.start + found.offset
                if region.ram_block is not None:
                    parts.append(bytes(region.ram_block.view[at : at + run]))
                else:  # a device may change the map: look again after each piece
                    at, run = region.pieces(at, run)[0]
                    parts.append(region._read_piece(at, run).to_bytes(run, "little"))
            addr += run
            length -= run
        return b"".join(parts)

    def write_bytes(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` at `addr`, as DMA does: RAM at once, devices in the pieces they take, ROM not at all."""
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
        if self.probe is not None and len(view) and self.probe.concerns(addr, len(view), True):
            self.probe.write_bytes(addr, bytes(view), self._write_bytes)
        else:
            self._write_bytes(addr, view)

    def _write_bytes(self, addr: int, view: bytes | memoryview) -> None:
        done, length = 0, len(view)
        while done < length:
            found, run = self._run(addr + done, length - done)
            if found is None:
                self.unassigned_writes += 1
                if self.on_unassigned is not None:
                    self.on_unassigned(addr + done, run, True)
            else:
                region, at = found.region, addr + done - found.start + found.offset
                if found.readonly:
                    self.dropped_writes += 1
                elif region.ram_block is not None:
                    region.ram_block.view[at : at + run] = view[done : done + run]
                    region.ram_block.written(at, run)
                else:
                    at, run = region.pieces(at, run)[0]
                    region._write_piece(at, int.from_bytes(view[done : done + run], "little"), run)
            done += run

    # -- listeners

    def add_listener(self, listener: MemoryListener) -> None:
        """Tell `listener` the present view, and every change from now on."""
        if listener in self._listeners:
            raise RegionError(f"address space '{self.name}': the listener is registered already")
        self._look()
        at = sum(1 for other in self._listeners if other.priority <= listener.priority)
        self._listeners.insert(at, listener)
        listener.begin()
        for flat in tuple(self.flat_view):
            section = self._section(flat)
            listener.region_add(section)
            if flat.dirty_log:
                listener.log_start(section)
        listener.commit()

    def remove_listener(self, listener: MemoryListener) -> None:
        """Tell `listener` that all is gone, and nothing more."""
        if listener not in self._listeners:
            raise RegionError(f"address space '{self.name}': the listener is not registered")
        self._look()
        self._listeners.remove(listener)
        listener.begin()
        for flat in tuple(self.flat_view):
            section = self._section(flat)
            if flat.dirty_log:
                listener.log_stop(section)
            listener.region_del(section)
        listener.commit()

    def flush(self) -> None:
        """Have every access resolved anew, also those that listeners keep: somebody else is to hear of them."""
        self.generation += 1
        self.readers.clear()
        self.writers.clear()
        self._window = None
        self._tell([])  # nothing moved; that there was a change at all is what counts

    # -- for Region

    def _hold(self) -> None:
        self._held += 1

    def _release(self) -> None:
        self._held -= 1
        self._settle()

    def _note(self, stretches: list[tuple[int, int]]) -> None:
        """What shows in these stretches may be something else; `_settle` looks."""
        self._changed += stretches

    def _settle(self) -> None:
        """The map was changed: bring the view up to date, unless a transaction is open or it is to wait."""
        if self._held or self._committing:  # a listener changed the map: the commit under way goes round again
            return
        if self._deferred:
            self.generation += 1  # so that the next access looks
            self.readers.clear()
            self.writers.clear()
            self._window = None
            return
        self._commit()

    def _look(self) -> None:
        """Somebody looks at the view: work out what was deferred."""
        if self._changed and not self._held and not self._committing:
            self._commit()

    def _sync_dirty(self, region: Region) -> None:
        for flat in tuple(self.flat_view):
            if flat.region is region and flat.dirty_log:
                section = self._section(flat)
                for listener in self._listeners:
                    listener.log_sync(section)

    # -- the view

    def _commit(self) -> None:
        self._committing = True
        try:
            while self._changed:
                stretches, self._changed = self._changed, []
                changes = []
                for first, last, low, high in self._whole_ranges(stretches):
                    old, new = self._view[first:last], render(self.root, low, high)
                    if not same_view(old, new):
                        changes.append((first, last, old, new))
                if not changes:
                    continue
                for first, last, _, new in reversed(changes):
                    self._view[first:last] = new
                    self._starts[first:last] = [flat.start for flat in new]
                self.generation += 1
                self.readers.clear()
                self.writers.clear()
                self._window = None
                if self._listeners:
                    self._tell([(old, new) for _, _, old, new in changes])
        finally:
            self._committing = False

    def _whole_ranges(self, stretches: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
        """The stretches, ascending and disjoint, each widened to whole ranges of the present view, neighbours included.

        With the neighbours, what continues a range is merged with it, and outside of the stretch nothing changes.

        Returns:
            (first, last, low, high): ranges [first, last) of the view, which with the gaps between them and beside them
            are addresses [low, high).
        """
        view, starts = self._view, self._starts
        found: list[tuple[int, int, int, int]] = []
        for low, high in sorted(stretches):
            first = bisect_left(starts, low)
            if first and view[first - 1].end >= low:
                first -= 1
                low = view[first].start
            if found and low <= found[-1][3]:
                first, _, low, before = found.pop()
                high = max(high, before)
            last = bisect_right(starts, high, first)
            if last > first:
                high = max(high, view[last - 1].end)
            found.append((first, last, low, high))
        return found

    def _tell(self, changes: list[tuple[list[FlatRange], list[FlatRange]]]) -> None:
        """Tell the listeners what is in place of what."""
        listeners = tuple(self._listeners)
        stayed: dict[int, FlatRange] = {}
        gone: list[FlatRange] = []
        added: set[int] = set()
        for old, new in changes:
            now = {flat.start: flat for flat in new}
            for flat in old:
                if now.get(flat.start) == flat:
                    stayed[flat.start] = flat
                else:
                    gone.append(flat)
            added.update(start for start in now if start not in stayed)
        for listener in listeners:
            listener.begin()
        for flat in gone:
            section = self._section(flat)
            for listener in reversed(listeners):
                if flat.dirty_log:
                    listener.log_stop(section)
                listener.region_del(section)
        curious = {listener for listener in listeners if listener.hears_nops}
        for flat in tuple(self._view) if curious else [flat for _, new in changes for flat in new]:
            section = self._section(flat)
            was = stayed.get(flat.start)
            is_new = flat.start in added
            for listener in listeners:
                if is_new:
                    listener.region_add(section)
                elif listener in curious:
                    listener.region_nop(section)
                logged = was.dirty_log if was is not None else not is_new and flat.dirty_log
                if flat.dirty_log and not logged:
                    listener.log_start(section)
                elif logged and not flat.dirty_log:
                    listener.log_stop(section)
        for listener in listeners:
            listener.commit()

    def _section(self, flat: FlatRange) -> MemorySection:
        region = flat.region
        is_ram = region.ram_block is not None
        return MemorySection(self, region, flat.offset, flat.start, flat.size, flat.readonly, is_ram)

    def _run(self, addr: int, length: int) -> tuple[FlatRange | None, int]:
        """What answers at `addr`, and how many of `length` bytes it answers.

        An I/O region that takes the access in one piece gets it whole, even if something else hides its later bytes:
        32 bits written to CF8h are one access to the configuration address, though another register sits at CF9h.
        """
        if self._changed:
            self._look()
        i = bisect_right(self._starts, addr) - 1
        if i >= 0:
            found = self._view[i]
            rest = found.start + found.size - addr
            if rest >= length:
                return found, length
            if rest > 0:
                region, offset = found.region, addr - found.start + found.offset
                if (
                    region.ram_block is None
                    and addr + length <= found.reach
                    and length >= region.min_size
                    and region.pieces(offset, length) == [(offset, length)]
                ):
                    return found, length
                return found, rest
        if i + 1 < len(self._starts):
            length = min(length, self._starts[i + 1] - addr)
        return None, length

    def _make_reader(self, addr: int, size: int) -> Reader:
        if not 1 <= size <= 8:
            raise RegionError(f"address space '{self.name}': {size} bytes cannot be read at once: expected 1 to 8")
        mask = (1 << size * 8) - 1
        found, run = self._run(addr, size)
        if run < size:

            def straddle() -> int:
                value = at = 0
                while at < size:  # a device may change the map: look again after each part
                    part = self._run(addr + at, size - at)[1]
                    value |= self.read(addr + at, part) << at * 8
                    at += part
                return value

            return straddle
        if found is None:

            def unassigned() -> int:
                self.unassigned_reads += 1
                if self.on_unassigned is not None:
                    self.on_unassigned(addr, size, False)
                return mask

            return unassigned
        region, offset = found.region, addr - found.start + found.offset
        if region.ram_block is not None:
            view = region.ram_block.view
            end = offset + size
            if size == 1:
                return lambda: view[offset]
            return lambda: int.from_bytes(view[offset:end], "little")
        read = region.read
        if (
            read is None
            or region.big_endian
            or region.pieces(offset, size) != [(offset, size)]
            or size < region.min_size
        ):
            return lambda: region.read_io(offset, size)
        if Window.fits(found):
            self._window = Window(found)
        return _direct_reader(region, offset, size)

    def _make_writer(self, addr: int, size: int) -> Writer:
        if not 1 <= size <= 8:
            raise RegionError(f"address space '{self.name}': {size} bytes cannot be written at once: expected 1 to 8")
        mask = (1 << size * 8) - 1
        found, run = self._run(addr, size)
        if run < size:

            def straddle(value: int) -> None:
                at = 0
                while at < size:  # a device may change the map: look again after each part
                    part = self._run(addr + at, size - at)[1]
                    self.write(addr + at, value >> at * 8, part)
                    at += part

            return straddle
        if found is None:

            def unassigned(value: int) -> None:
                self.unassigned_writes += 1
                if self.on_unassigned is not None:
                    self.on_unassigned(addr, size, True)

            return unassigned
        region, offset = found.region, addr - found.start + found.offset
        if found.readonly:

            def dropped(value: int) -> None:
                self.dropped_writes += 1

            return dropped
        block = region.ram_block
        if block is not None:
            view, end, told = block.view, offset + size, block.written

            def store(value: int) -> None:
                view[offset:end] = (value & mask).to_bytes(size, "little")
                told(offset, size)

            return store
        write = region.write
        if (
            write is None
            or region.big_endian
            or region.pieces(offset, size) != [(offset, size)]
            or size < region.min_size
        ):
            return lambda value: region.write_io(offset, value & mask, size)
        if Window.fits(found):
            self._window = Window(found)
        return _direct_writer(region, offset, size)

    def __repr__(self) -> str:
        return f"<AddressSpace {self.name} of {self.root.name}, {len(self._view)} ranges>"
