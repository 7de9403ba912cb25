"""PCI functions: their configuration space, base address registers, interrupt pin and bus mastering.

Modelled: the type-0 header with write masks and write-one-to-clear bits, I/O and memory BARs (32 and 64 bits,
prefetchable) and the expansion ROM, mapped as COMMAND says, STATUS.INTERRUPT and COMMAND.INTX_DISABLE, bus mastering
gated by COMMAND.BUS_MASTER, the capability list; MSI (msi.py) and MSI-X (msix.py).
Not modelled: parity and system errors, PCI Express.

A device gives its identity as class facts, its registers in `realize` with `config_field`, `register_bar`, `add_msi`,
`add_msix`; its configuration space after reset is what these declared.  Sections cited: PCI Local Bus Specification 3.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from qom.errors import PropertyError, RealizeError, StateError
from qom.hw.address_space import AddressSpace
from qom.hw.device import Device
from qom.hw.irq import Line
from qom.hw.listener import FlatRange
from qom.hw.memory import Region
from qom.hw.msi import Msi
from qom.hw.msix import Msix
from qom.hw.pci_bus import PciBus, format_addr, parse_addr
from qom.hw.pci_config import (
    BAR0,
    BAR_IO,
    BAR_MEM_64,
    BAR_PREFETCH,
    BARS,
    CACHE_LINE_SIZE,
    CAPABILITY_LIST,
    CARDBUS_CIS,
    CLASS_PROG,
    COMMAND,
    COMMAND_INTX_DISABLE,
    COMMAND_IO,
    COMMAND_MASTER,
    COMMAND_MEMORY,
    COMMAND_WRITABLE,
    CONFIG_SIZE,
    DEVICE_ID,
    HEADER_END,
    HEADER_TYPE,
    INTERRUPT_LINE,
    INTERRUPT_PIN,
    MULTIFUNCTION,
    REVISION_ID,
    ROM_ADDRESS,
    ROM_BAR,
    ROM_ENABLE,
    STATUS,
    STATUS_CAP_LIST,
    STATUS_CLEARED_BY_ONE,
    STATUS_INTERRUPT,
    SUBSYSTEM_ID,
    SUBSYSTEM_VENDOR_ID,
    VENDOR_ID,
)
from qom.object import Object
from qom.properties import prop, state
from qom.registry import type_init


class Bar:
    """One base address register, or the expansion ROM's."""

    __slots__ = ("address", "enable", "is_io", "number", "offset", "region", "size", "wide")

    def __init__(self, number: int, offset: int, region: Region, *, is_io: bool, wide: bool, enable: int) -> None:
        self.number = number
        self.offset = offset  # in configuration space
        self.region = region
        self.size = region.size
        self.is_io = is_io
        self.wide = wide
        self.enable = enable  # COMMAND bit that maps it
        self.address: int | None = None  # where it is mapped now

    def __repr__(self) -> str:
        where = "unmapped" if self.address is None else f"{self.address:#x}"
        return f"<Bar {self.number} {self.region.name} {self.size:#x} {where}>"


class BusMaster(AddressSpace):
    """What one PCI device sees of memory: all of it while COMMAND.BUS_MASTER is set, nothing otherwise.

    A gate in front of the space behind it, which keeps the only flat view: a device costs none of its own.
    """

    def __init__(self, device: PciDevice, target: AddressSpace) -> None:
        super().__init__(f"{device.type_name} bus master", Region.container("bus-master"))
        self.close()  # the empty root above is never looked at
        self.target = target
        self.enabled = False

    def read(self, addr: int, size: int) -> int:
        """As AddressSpace.read; all ones while the device is no bus master."""
        return self.target.read(addr, size) if self.enabled else (1 << size * 8) - 1

    def write(self, addr: int, value: int, size: int) -> None:
        """As AddressSpace.write; dropped while the device is no bus master."""
        if self.enabled:
            self.target.write(addr, value, size)

    def reader(self, addr: int, size: int) -> Callable[[], int]:
        """As AddressSpace.reader, with the gate in it; never kept."""
        return lambda: self.read(addr, size)

    def writer(self, addr: int, size: int) -> Callable[[int], None]:
        """As AddressSpace.writer, with the gate in it; never kept."""
        return lambda value: self.write(addr, value, size)

    def lookup(self, addr: int) -> FlatRange | None:
        """As AddressSpace.lookup; nothing while the device is no bus master."""
        return self.target.lookup(addr) if self.enabled else None

    def read_bytes(self, addr: int, length: int) -> bytes:
        """As AddressSpace.read_bytes; all ones while the device is no bus master."""
        return self.target.read_bytes(addr, length) if self.enabled else b"\xff" * length

    def write_bytes(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """As AddressSpace.write_bytes; dropped while the device is no bus master."""
        if self.enabled:
            self.target.write_bytes(addr, data)


def _check_addr(device: Object, text: str) -> None:
    if text:
        try:
            parse_addr(text)
        except ValueError:
            raise PropertyError(device.path, "addr", text, "slot.function in hexadecimal, 00.0 to 1f.7") from None


@type_init("pci-device", abstract=True)
class PciDevice(Device):
    """Base of PCI functions.

    A subclass states who it is in class facts, and in `realize` what it has: BARs, capabilities, its own configuration
    registers.  It may override `config_changed` to hear of writes to these.
    """

    bus_type = "PCI"

    vendor_id: ClassVar[int] = 0xFFFF
    device_id: ClassVar[int] = 0xFFFF
    revision: ClassVar[int] = 0
    class_code: ClassVar[int] = 0  # base class << 8 | subclass
    prog_if: ClassVar[int] = 0
    subsystem_vendor_id: ClassVar[int] = 0
    subsystem_id: ClassVar[int] = 0
    interrupt_pin: ClassVar[int] = 0  # 0 none, 1..4 INTA#..INTD#

    addr: str = prop("", "Slot and function (slot.function, hexadecimal); empty: first free", set=_check_addr)
    multifunction: bool = prop(False, "Whether other functions may share the slot")

    config: bytearray = state(factory=lambda: bytearray(CONFIG_SIZE), desc="Configuration space")
    intx_level: int = state(desc="Level the device holds its interrupt pin at")
    msi_pending: int = state(desc="MSI vectors raised while masked")
    msix_table: bytearray = state(factory=bytearray, desc="MSI-X table")
    msix_pending: bytearray = state(factory=bytearray, desc="MSI-X vectors raised while masked")

    pci: PciBus

    def prepare(self) -> None:
        """Take the slot on the bus and set up configuration space; what realize then declares goes into it."""
        super().prepare()
        bus = self.bus
        if not isinstance(bus, PciBus):
            raise RealizeError(f"{self.path}: no bus: '{self.type_name}' needs one of type 'PCI'")
        self.pci = bus
        self.devfn = bus.claim(self)
        self.__dict__["addr"] = format_addr(self.devfn)  # also where it found the slot by itself
        self.bdf = bus.number << 8 | self.devfn
        self.slot = self.devfn >> 3
        self.pin = max(self.interrupt_pin - 1, 0)
        self.on_unrealize(self._withdraw)
        if bus.dma is not None:
            self.bus_master = BusMaster(self, bus.dma)
            self.dma = self.bus_master
            self._hand_on()  # what sits on a bus of ours goes through the same gate
        self.bars: dict[int, Bar] = {}  # by number; ROM_BAR for the expansion ROM
        self.intx_asserted = False
        self.intx = Line(self._set_intx, self.pin, f"{self.type_name}:int{'abcd'[self.pin]}")
        self.drives("intx", self.pin, self.intx)
        self.msi: Msi | None = None
        self.msix: Msix | None = None
        self._defaults = bytearray(CONFIG_SIZE)
        self._writable = bytearray(CONFIG_SIZE)
        self._cleared_by_one = bytearray(CONFIG_SIZE)
        self._used = bytearray(CONFIG_SIZE)  # nonzero: a capability has it
        self.config_field(VENDOR_ID, 2, self.vendor_id)
        self.config_field(DEVICE_ID, 2, self.device_id)
        self.config_field(COMMAND, 2, 0, writable=COMMAND_WRITABLE)
        self.config_field(STATUS, 2, 0, cleared_by_one=STATUS_CLEARED_BY_ONE)
        self.config_field(REVISION_ID, 1, self.revision)
        self.config_field(CLASS_PROG, 3, self.class_code << 8 | self.prog_if)
        self.config_field(CACHE_LINE_SIZE, 1, 0, writable=0xFF)
        self.config_field(HEADER_TYPE, 1, MULTIFUNCTION if self.multifunction else 0)
        self.config_field(SUBSYSTEM_VENDOR_ID, 2, self.subsystem_vendor_id)
        self.config_field(SUBSYSTEM_ID, 2, self.subsystem_id)
        self.config_field(INTERRUPT_LINE, 1, 0, writable=0xFF)
        self.config_field(INTERRUPT_PIN, 1, self.interrupt_pin)

    def place(self) -> str | None:
        """Bus, slot and function, for its automatic name."""
        number = getattr(self, "devfn", None)
        if number is None:
            number = self.wanted_devfn()
        bus = self.bus.number if isinstance(self.bus, PciBus) else 0
        return f"{bus:02x}:{format_addr(number)}" if number is not None else None

    def wanted_devfn(self) -> int | None:
        """What `addr` asks for, or None when any slot will do."""
        kept: int | None = self.__dict__.get("kept_devfn")
        return parse_addr(self.addr) if self.addr else kept

    def kept_place(self) -> dict[str, int]:
        """Its slot and function."""
        return {"kept_devfn": self.devfn}

    # -- declaring registers, in realize

    def config_field(self, offset: int, size: int, value: int, writable: int = 0, cleared_by_one: int = 0) -> None:
        """Declare a register: its value after reset, which bits can be written, which are cleared by writing one."""
        self._defaults[offset : offset + size] = value.to_bytes(size, "little")
        self._writable[offset : offset + size] = writable.to_bytes(size, "little")
        self._cleared_by_one[offset : offset + size] = cleared_by_one.to_bytes(size, "little")
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    def register_bar(
        self, number: int, region: Region, *, io: bool = False, wide: bool = False, prefetch: bool = False
    ) -> Bar:
        """Declare BAR `number` showing `region`: in I/O space, or in memory (`wide`: 64-bit, two BARs)."""
        size = region.size
        least = 4 if io else 16
        if size & (size - 1) or size < least:
            raise RealizeError(f"{self.path}: BAR {number} of {size:#x} bytes: expected a power of two from {least} on")
        last = number + 1 if wide else number
        if not 0 <= number <= last < BARS or (io and wide):
            raise RealizeError(f"{self.path}: BAR {number}{' (64-bit)' if wide else ''} does not exist: there are 0..5")
        if any(b.number <= last and number <= b.number + b.wide for b in self.bars.values() if b.number != ROM_BAR):
            raise RealizeError(f"{self.path}: BAR {number} is used already")
        flags = BAR_IO if io else (BAR_MEM_64 if wide else 0) | (BAR_PREFETCH if prefetch else 0)
        width = 8 if wide else 4
        offset = BAR0 + number * 4
        self.config_field(offset, width, flags, writable=((1 << width * 8) - 1) & -size)
        bar = Bar(number, offset, region, is_io=io, wide=wide, enable=COMMAND_IO if io else COMMAND_MEMORY)
        return self._add_bar(bar)

    def register_rom(self, region: Region) -> Bar:
        """Declare the expansion ROM BAR showing `region` (6.2.5.2)."""
        size = region.size
        if size & (size - 1) or size < 2048:
            raise RealizeError(f"{self.path}: expansion ROM of {size:#x} bytes: expected a power of two from 2048 on")
        self.config_field(ROM_ADDRESS, 4, 0, writable=(0xFFFF_FFFF & -size) | ROM_ENABLE)
        return self._add_bar(Bar(ROM_BAR, ROM_ADDRESS, region, is_io=False, wide=False, enable=COMMAND_MEMORY))

    def add_capability(self, cap_id: int, size: int, offset: int | None = None) -> int:
        """Put a capability of `size` bytes at the head of the list, at `offset` or where there is room; says where."""
        if offset is None:
            for offset in range(HEADER_END, CONFIG_SIZE - size + 1, 4):
                if not any(self._used[offset : offset + size]):
                    break
            else:
                raise RealizeError(f"{self.path}: no room for a capability of {size} bytes in configuration space")
        self._used[offset : offset + size] = b"\1" * size
        self.config_field(offset, 2, cap_id | self._defaults[CAPABILITY_LIST] << 8)
        self.config_field(CAPABILITY_LIST, 1, offset)
        status = int.from_bytes(self._defaults[STATUS : STATUS + 2], "little") | STATUS_CAP_LIST
        self.config_field(STATUS, 2, status, cleared_by_one=STATUS_CLEARED_BY_ONE)
        return offset

    def add_msi(self, vectors: int = 1, *, wide: bool = True, maskable: bool = False, offset: int | None = None) -> int:
        """Add the MSI capability with `vectors` (1, 2, 4 .. 32) messages; says where it is.

        wide: with 64-bit addresses.  maskable: with a mask and a pending bit for each vector.  offset: in configuration
        space; where there is room by default.
        """
        self.msi = Msi(self, vectors, wide=wide, maskable=maskable, offset=offset)
        return self.msi.offset

    def add_msix(
        self,
        vectors: int,
        bar: int,
        *,
        table_offset: int | None = None,
        pba_bar: int | None = None,
        pba_offset: int | None = None,
        offset: int | None = None,
    ) -> int:
        """Add the MSI-X capability with `vectors` (1 to 2048) messages; says where it is.

        bar: the memory BAR with the table; one that was not registered is made, for table and pending bits alone.
        table_offset, pba_offset: where in their BARs they lie (multiples of 8), in a BAR that has the device's registers
        too.  pba_bar: the BAR with the pending bits, where it is another.  offset: in configuration space; where there
        is room by default.
        """
        self.msix = Msix(
            self, vectors, bar, table_offset=table_offset, pba_bar=pba_bar, pba_offset=pba_offset, offset=offset
        )
        return self.msix.offset

    # -- configuration accesses

    def config_read(self, offset: int, size: int) -> int:
        """Value of `size` bytes at `offset`; the host bridge calls this."""
        return int.from_bytes(self.config[offset : offset + size], "little")

    def config_write(self, offset: int, value: int, size: int) -> None:
        """Write `size` bytes at `offset` as the masks allow, and act on it; the host bridge calls this."""
        config, writable, ones = self.config, self._writable, self._cleared_by_one
        end = min(offset + size, CONFIG_SIZE)
        for at in range(offset, end):
            byte = value & 0xFF
            value >>= 8
            mask = writable[at]
            config[at] = ((config[at] & ~mask) | (byte & mask)) & ~(byte & ones[at])
        if offset < HEADER_END and (offset < CARDBUS_CIS or (offset < ROM_ADDRESS + 4 and end > ROM_ADDRESS)):
            self._header_changed()
        else:
            for capability in (self.msi, self.msix):
                if capability is not None and offset < capability.offset + capability.size and end > capability.offset:
                    self._update_intx()
                    capability.changed()
        self.config_changed(offset, end - offset)

    def config_changed(self, offset: int, size: int) -> None:
        """Configuration bytes [offset, offset + size) were written; for subclasses."""

    def config_word(self, offset: int, size: int = 2) -> int:
        """Present value of a configuration register."""
        return int.from_bytes(self.config[offset : offset + size], "little")

    def set_config(self, offset: int, value: int, size: int = 1) -> None:
        """Change a configuration register from the device's side (status bits)."""
        self.config[offset : offset + size] = value.to_bytes(size, "little")

    # -- interrupts

    @property
    def msi_enabled(self) -> bool:
        """Whether the guest switched interrupts over to MSI."""
        return self.msi is not None and self.msi.enabled

    @property
    def msix_enabled(self) -> bool:
        """Whether the guest switched interrupts over to MSI-X."""
        return self.msix is not None and self.msix.enabled

    def msi_notify(self, vector: int = 0) -> None:
        """Send MSI message `vector`; with per-vector masking a masked one stays pending.  Nothing while MSI is off."""
        if self.msi is not None:
            self.msi.notify(vector)

    def msix_notify(self, vector: int = 0) -> None:
        """Send MSI-X message `vector`; a masked one stays pending.  Nothing while MSI-X is off."""
        if self.msix is not None:
            self.msix.notify(vector)

    def notify(self, vector: int = 0) -> bool:
        """Send message `vector` by MSI-X or MSI, whichever the guest switched on.

        Returns:
            False when neither is on: the device then drives its interrupt pin, `intx`.
        """
        if self.msix is not None and self.msix.enabled:
            self.msix.notify(vector)
        elif self.msi is not None and self.msi.enabled:
            self.msi.notify(vector)
        else:
            return False
        return True

    def _set_intx(self, n: int, level: int) -> None:
        self.intx_level = 1 if level else 0
        self._update_intx()

    def _update_intx(self) -> None:
        """Show the pin's level in STATUS, and drive the bus's line unless COMMAND, MSI or MSI-X keeps it off."""
        level, config = self.intx_level, self.config
        if level:
            config[STATUS] |= STATUS_INTERRUPT
        else:
            config[STATUS] &= ~STATUS_INTERRUPT
        drives = bool(level) and not config[COMMAND + 1] & COMMAND_INTX_DISABLE >> 8
        drives = drives and not self.msi_enabled and not self.msix_enabled
        if drives != self.intx_asserted and self.interrupt_pin:
            self.intx_asserted = drives
            self.pci.set_intx(self.slot, self.pin, 1 if drives else 0)

    # -- reset and state

    def reset(self) -> None:
        """As for any device; the configuration space's reset value is what realize declared."""
        super().reset()
        self.config = bytearray(self._defaults)
        if self.msix is not None:
            self.msix.reset()
        self._header_changed()

    def load_state(self, saved: dict[str, Any]) -> None:
        """As for any device; what has a size must have this one's."""
        for name in ("config", "msix_table", "msix_pending"):
            held, given = getattr(self, name), saved.get(name, b"")
            if isinstance(given, bytes | bytearray) and len(given) != len(held):
                raise StateError(f"{self.path}: {name}: saved state has {len(given)} bytes: expected {len(held)}")
        super().load_state(saved)

    def state_loaded(self) -> None:
        """BARs are mapped and the pin is driven as the configuration space says."""
        super().state_loaded()
        self._header_changed()

    # -- helpers

    def _add_bar(self, bar: Bar) -> Bar:
        if bar.region.owner is None:
            bar.region.owner = self
        self.bars[bar.number] = bar
        self.on_unrealize(lambda: self._unmap_bar(bar))
        return bar

    def _header_changed(self) -> None:
        """COMMAND, a BAR or the ROM's BAR may have changed: map and unmap, gate bus mastering, drive the pin."""
        command = self.config_word(COMMAND)
        master = getattr(self, "bus_master", None)
        if master is not None:
            master.enabled = bool(command & COMMAND_MASTER)
        moves = []
        for bar in self.bars.values():
            address = self._bar_address(bar, command)
            if address != bar.address:
                moves.append((bar, address))
        if moves:
            with self.pci.memory.transaction(), self.pci.io.transaction():
                for bar, _ in moves:
                    self._unmap_bar(bar)
                for bar, address in moves:
                    if address is not None:
                        (self.pci.io if bar.is_io else self.pci.memory).add(address, bar.region, 1)
                        bar.address = address
        self._update_intx()

    def _bar_address(self, bar: Bar, command: int) -> int | None:
        """Where `bar` shows its region now, or None.  Address 0 and what does not fit below the top count as unset."""
        if not command & bar.enable:
            return None
        value = self.config_word(bar.offset, 8 if bar.wide else 4)
        if bar.number == ROM_BAR and not value & ROM_ENABLE:
            return None
        address = value & -bar.size
        last = address + bar.size - 1
        top = 0xFFFF if bar.is_io else (1 << 64) - 1 if bar.wide else 0xFFFF_FFFF
        return address if address and last < top else None

    def _unmap_bar(self, bar: Bar) -> None:
        if bar.address is not None:
            bar.address = None
            self.unmap(bar.region)

    def _withdraw(self) -> None:
        if self.intx_asserted:
            self.intx_asserted = False
            self.pci.set_intx(self.slot, self.pin, 0)
        self.pci.release(self)
        if "addr" not in self.user_set:
            self.__dict__["addr"] = ""
