"""PCI buses and the bridge from the processor: slots, interrupt lines, configuration accesses, addresses as text.

Modelled: 32 slots of 8 functions, configuration mechanism 1 (CF8h/CFCh), INTA#..INTD# with swizzling through to the host
bridge's PIRQ lines.  Not modelled: PCI-to-PCI bridges (the bus knows its number, so a bridge can add one).  What sits in
a slot is in pci.py.  Sections cited: PCI Local Bus Specification 3.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NoReturn

from qom.blame import passes
from qom.errors import RealizeError
from qom.hw.bus import Bus, SysBusDevice
from qom.hw.device import Device
from qom.hw.fault import DeviceFault, Fault
from qom.hw.irq import Line
from qom.hw.memory import Region
from qom.hw.pci_config import CONFIG_ENABLE, CONFIG_WRITABLE
from qom.properties import prop, state
from qom.registry import type_init

if TYPE_CHECKING:
    from qom.hw.pci import PciDevice

SLOTS: Final = 32
FUNCTIONS: Final = 8


def devfn(slot: int, function: int = 0) -> int:
    """Device and function number as one byte."""
    return slot << 3 | function


def swizzle(slot: int, pin: int) -> int:
    """Which of a bus's four interrupt lines pin 0..3 (INTA#..INTD#) of a slot is, behind a bridge (2.2.6)."""
    return (slot + pin) & 3


def parse_addr(text: str) -> int:
    """Device and function number from "slot" or "slot.function", in hexadecimal as everyone writes them."""
    slot_text, dot, function_text = text.strip().partition(".")
    slot = int(slot_text, 16)
    function = int(function_text, 16) if dot else 0
    if not (0 <= slot < SLOTS and 0 <= function < FUNCTIONS):
        raise ValueError(text)
    return devfn(slot, function)


def format_addr(number: int) -> str:
    """A devfn as "slot.function"."""
    return f"{number >> 3:02x}.{number & 7}"


@type_init("PCI")
class PciBus(Bus):
    """A PCI bus: 32 slots of 8 functions, memory and I/O space, four interrupt lines."""

    number: int = prop(0, "Bus number in configuration addresses", type="uint8")

    memory: Region  # PCI memory space
    io: Region  # PCI I/O space

    def instance_init(self) -> None:
        """An empty bus without interrupt routing."""
        self.functions: dict[int, PciDevice] = {}  # by devfn
        self._by_bdf: dict[int, PciDevice] = {}  # the same, as configuration addresses name them
        self._below: dict[int, PciBus] = {}  # buses behind bridges, by number
        self._lines: list[Line] = []
        self._held: list[int] = [0, 0, 0, 0]  # asserted pins by line
        self._route: Callable[[int, int], int] = swizzle

    def connect_irqs(self, lines: Iterable[Line], route: Callable[[int, int], int] = swizzle) -> None:
        """Wire the interrupt pins: pin `pin` (0..3) of `slot` drives `lines[route(slot, pin)]`, wired-OR."""
        self._lines = list(lines)
        self._held = [0] * len(self._lines)
        self._route = route
        for device in self.functions.values():
            if device.intx_asserted:
                self.set_intx(device.slot, device.pin, 1)

    def set_intx(self, slot: int, pin: int, level: int) -> None:
        """A device asserts (1) or releases (0) pin 0..3; called only on a change."""
        if not self._lines:
            return
        n = self._route(slot, pin)
        was = self._held[n]
        self._held[n] = now = was + (1 if level else -1)
        if (was == 0) != (now == 0):
            self._lines[n].set(1 if now else 0)

    def irq_number(self, slot: int, pin: int) -> int:
        """Index of the host bridge's line that a pin drives."""
        return self._route(slot, pin)

    @property
    def irq_lines(self) -> tuple[Line, ...]:
        """The lines its interrupt pins drive, as `connect_irqs` was given them."""
        return tuple(self._lines)

    def where(self, device: Device) -> str:
        """Slot and function: "01.0"."""
        number = next((n for n, held in self.functions.items() if held is device), None)
        return "" if number is None else format_addr(number)

    def claim(self, device: PciDevice) -> int:
        """Give `device` the slot and function its `addr` asks for, or the first free slot; returns its devfn."""
        wanted = device.wanted_devfn()
        if wanted is None:
            for slot in range(1 if self.number == 0 else 0, SLOTS):
                if not any(devfn(slot, f) in self.functions for f in range(FUNCTIONS)):
                    wanted = devfn(slot)
                    break
            else:
                raise RealizeError(f"{device.path}: no free slot on {self.path}: all {SLOTS} are taken")
        other = self.functions.get(wanted)
        if other is not None:
            raise RealizeError(
                f"{device.path}: addr {format_addr(wanted)} on {self.path} is taken by {other.path} ({other.type_name})"
            )
        first = self.functions.get(wanted & ~7)
        if wanted & 7 and first is not None and not first.multifunction:
            raise RealizeError(
                f"{device.path}: addr {format_addr(wanted)} needs multifunction=on at {format_addr(wanted & ~7)}, "
                f"which {first.path} ({first.type_name}) has not"
            )
        if not wanted & 7 and not device.multifunction:
            for function in range(1, FUNCTIONS):
                other = self.functions.get(wanted | function)
                if other is not None:
                    raise RealizeError(
                        f"{device.path}: multifunction must be on at {format_addr(wanted)}: "
                        f"{other.path} is function {function}"
                    )
        self.functions[wanted] = device
        self._by_bdf[self.number << 8 | wanted] = device
        return wanted

    def release(self, device: PciDevice) -> None:
        """Free the slot again."""
        if self.functions.get(device.devfn) is device:
            del self.functions[device.devfn]
            del self._by_bdf[device.bdf]

    def add_bus(self, bus: PciBus) -> None:
        """A bridge makes `bus` reachable under its number."""
        self._below[bus.number] = bus

    def config_read(self, bdf: int, offset: int, size: int) -> int:
        """Read configuration space: `bdf` is bus << 8 | devfn.  Nobody there: all ones."""
        device = self._by_bdf.get(bdf)
        if device is not None:
            try:
                return device.config_read(offset, size)
            except BaseException as error:
                _blame_config(device, offset, size, False, error)
        below = self._below.get(bdf >> 8)
        return below.config_read(bdf, offset, size) if below is not None else (1 << size * 8) - 1

    def config_write(self, bdf: int, offset: int, value: int, size: int) -> None:
        """Write configuration space; dropped when nobody is there."""
        device = self._by_bdf.get(bdf)
        if device is not None:
            try:
                device.config_write(offset, value, size)
            except BaseException as error:
                _blame_config(device, offset, size, True, error)
        elif (below := self._below.get(bdf >> 8)) is not None:
            below.config_write(bdf, offset, value, size)


@type_init("pci-host-bridge", abstract=True)
class PciHostBridge(SysBusDevice):
    """Where a PCI bus meets the processor: CONFIG_ADDRESS and CONFIG_DATA (3.2.2.3.2)."""

    category = "bridge"

    config_address: int = state(desc="CONFIG_ADDRESS")

    def make_bus(self, memory: Region, io: Region, name: str = "pci.0") -> PciBus:
        """Create the bus, with `memory` and `io` as what its BARs are mapped into; call in realize."""
        bus: PciBus = self.new_bus("PCI", name)
        bus.memory, bus.io = memory, io
        self.pci_bus = bus
        return bus

    def map_config_ports(self, address_port: int = 0xCF8, data_port: int = 0xCFC) -> None:
        """Map the two registers into the I/O space; call in realize, after `make_bus`."""
        self.sysbus.map_ports(address_port, Region("pci-conf-idx", 4, self._read_address, self._write_address))
        self.sysbus.map_ports(data_port, Region("pci-conf-data", 4, self._read_data, self._write_data))

    def _read_address(self, offset: int, size: int) -> int:
        return self.config_address >> offset * 8

    def _write_address(self, offset: int, value: int, size: int) -> None:
        if size == 4:  # narrower accesses are ordinary I/O cycles, for whoever else lives there
            self.config_address = value & CONFIG_WRITABLE

    def _read_data(self, offset: int, size: int) -> int:
        address = self.config_address
        if not address & CONFIG_ENABLE:
            return (1 << size * 8) - 1
        return self.pci_bus.config_read(address >> 8 & 0xFFFF, (address & 0xFC) + offset, size)

    def _write_data(self, offset: int, value: int, size: int) -> None:
        address = self.config_address
        if address & CONFIG_ENABLE:
            self.pci_bus.config_write(address >> 8 & 0xFFFF, (address & 0xFC) + offset, value, size)


def _blame_config(device: PciDevice, offset: int, size: int, is_write: bool, error: BaseException) -> NoReturn:
    if isinstance(error, Fault) or passes(error):
        raise error
    region = "configuration space"
    raise DeviceFault(
        device.path, error, region=region, offset=offset, size=size, is_write=is_write, owner=device
    ) from error
