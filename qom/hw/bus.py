"""Buses: objects that devices sit on, made by the device that provides them.

A bus knows its devices in order and shows each as the link property `child[N]`.  It hands a device what it needs when
the device is plugged.  `SystemBus` is a machine's root bus: it holds the two top-level regions, system memory and
system I/O, and the clock and the system control that everything below gets.

Locking: everything here with the machine lock held.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, ClassVar

from qom.errors import ConfigError, PropertyError, RealizeError
from qom.hw.address_space import AddressSpace
from qom.hw.clock import Clock
from qom.hw.device import Device, DeviceClock
from qom.hw.memory import Region
from qom.hw.reset import Resettable
from qom.object import Object, Root
from qom.properties import ComputedProperty, Property, inner_name
from qom.registry import type_init

if TYPE_CHECKING:
    from qom.hw.hotplug import HotplugHandler
    from qom.hw.system import SystemControl


@type_init("bus", abstract=True)
class Bus(Object, Resettable):
    """Base of all buses."""

    max_devices: ClassVar[int | None] = None
    listed_as = "bus"
    hotplug: bool
    hotplug_handler: HotplugHandler | None  # who tells the guest of what comes, and asks it for what is to go
    clock: Clock | None
    dma: AddressSpace | None
    system: SystemControl | None

    instance_defaults: ClassVar[dict[str, Any]] = {
        "clock": None, "dma": None, "system": None, "hotplug": True, "hotplug_handler": None,
    }  # fmt: skip

    def instance_init(self) -> None:
        """Start empty."""
        self._numbers: dict[Device, int] = {}  # N of `child[N]`, by device, in the order they came
        self._by_number: dict[int, Device] = {}
        self._free: list[int] = []  # a heap of the numbers given back

    @property
    def devices(self) -> list[Device]:
        """The devices on the bus, in the order they came."""
        return list(self._numbers)

    # -- for subclasses to override

    def check_device(self, device: Device) -> None:
        """Raise unless `device` may be plugged here."""
        if device.bus_type is None or not self.is_a(device.bus_type):
            needs = f"a bus of type '{device.bus_type}'" if device.bus_type else "no bus"
            raise RealizeError(f"{device.path}: cannot be on bus {self.path} ({self.type_name}): it needs {needs}")
        if not self.has_room(device):
            raise RealizeError(f"{device.path}: bus {self.path} is full: it takes {self.max_devices} devices")

    def has_room(self, device: Device | None = None) -> bool:
        """Whether one more device (this one, if given) fits."""
        return self.max_devices is None or len(self._numbers) < self.max_devices

    def hand(self, device: Device) -> None:
        """Give `device` what it may use: clock, memory to master, system control.  Subclasses add its slot."""
        if self.clock is not None:
            device.clock = DeviceClock(self.clock, device)
        if self.dma is not None:
            device.dma = self.dma
        if self.system is not None:
            device.system = self.system

    def attach(self, device: Device) -> None:
        """`device` is about to be realized: claim its place, give it what it has only then.  May raise."""

    def detach(self, device: Device) -> None:
        """`device` was unrealized, or its realize failed after `attach`."""

    def where(self, device: Device) -> str:
        """Where `device` sits, in the bus's own terms ("01.0", "unit 0"), for people to read; "" if all places are alike."""
        return device.place() or ""

    def take_services(self, provider: Device) -> None:
        """Take over from the device that provides this bus what that device was handed, and hand it on."""
        clock = provider.__dict__.get("clock")
        if clock is not None:
            self.clock = clock.base if isinstance(clock, DeviceClock) else clock
        self.dma = provider.__dict__.get("dma", self.dma)
        self.system = provider.__dict__.get("system", self.system)
        self._hand_all()

    # -- devices

    def insert(self, device: Device) -> None:
        """Take in `device` (`Device.plug` calls this); it gets the lowest free number."""
        n = heappop(self._free) if self._free else len(self._numbers)
        self._numbers[device] = n
        self._by_number[n] = device
        self.hand(device)

    def eject(self, device: Device) -> None:
        """Let `device` go (`Device` calls this when it leaves the bus)."""
        n = self._numbers.pop(device, None)
        if n is not None:
            del self._by_number[n]
            heappush(self._free, n)

    def instance_property(self, name: str) -> Property | None:
        """`child[N]` is made when it is asked for."""
        if name.startswith("child[") and name.endswith("]"):
            number = name[len("child[") : -1]
            device = self._by_number.get(int(number)) if number.isdecimal() and number.isascii() else None
            if device is not None and name == f"child[{self._numbers[device]}]":
                return _child_link(self, device)
        return super().instance_property(name)

    def properties(self) -> dict[str, Property]:
        """Also its devices, as links `child[N]`."""
        links = {f"child[{n}]": _child_link(self, device) for device, n in self._numbers.items()}
        return {**super().properties(), **links}

    def leave(self) -> None:
        """Before the bus leaves the tree, what sits on it goes, too: unrealized, unplugged, out of the tree."""
        for device in reversed(list(self.devices)):
            device.unplug()

    def _hand_all(self) -> None:
        for device in self.devices:
            self.hand(device)
            device._hand_on()


def _child_link(bus: Bus, device: Device) -> Property:
    def refuse(bus: Bus, name: str, value: Any) -> None:
        raise PropertyError(bus.path, name, getattr(value, "path", value), "nothing: plug the device instead")

    name = f"child[{bus._numbers[device]}]"
    made = ComputedProperty(
        "link", None, "Device on this bus", name=name, target="device", get=lambda bus: device, check=refuse
    )
    made.attr = inner_name(name)
    made.bind(bus.type_name)
    return made


def find_bus(root: Object, bus_type: str, device: Device | None = None) -> Bus:
    """The first bus of that type at or below `root` with room (for `device`), in the order they came."""
    full: list[str] = []
    for found in root.listed("bus") if isinstance(root, Root) else root.walk():
        if isinstance(found, Bus) and found.is_a(bus_type):
            if found.has_room(device):
                return found
            full.append(found.path)
    what = f"{device.type_name}: " if device is not None else ""
    if full:
        raise ConfigError(f"{what}no room on any '{bus_type}': {', '.join(full)} is full")
    raise ConfigError(f"{what}this machine has no bus of type '{bus_type}'")


@type_init("system-bus", aliases=("System",))
class SystemBus(Bus):
    """The root bus of a machine: its memory, its ports, its clock."""

    memory: Region
    io: Region
    memory_space: AddressSpace
    io_space: AddressSpace

    def instance_init(self) -> None:
        """Make the two top-level regions and their address spaces."""
        self.memory = Region.container("system-memory", 1 << 64)
        self.io = Region.container("system-io", 1 << 16)
        self.memory_space = AddressSpace("memory", self.memory)
        self.io_space = AddressSpace("I/O", self.io)
        self.dma = self.memory_space
        self.hotplug = False

    def finalize(self) -> None:
        """The address spaces end with the bus."""
        self.memory_space.close()
        self.io_space.close()

    def set_services(self, clock: Clock, system: SystemControl) -> None:
        """Say which clock and which system control the devices get; devices there already get them, too."""
        self.clock, self.system = clock, system
        self._hand_all()

    def where(self, device: Device) -> str:
        """What it shows directly in memory and in I/O space: "memory fec00000-fec00fff"."""
        parts = []
        for space, root in (("memory", self.memory), ("ports", self.io)):
            spans = [
                f"{r.offset:x}-{r.offset + r.size - 1:x}"
                for r in sorted(root.subregions, key=lambda r: r.offset)
                if r.owner is device and r.enabled and r.kind == "io"
            ]
            parts += [f"{space} {', '.join(spans)}"] if spans else []
        return ", ".join(parts)

    def hand(self, device: Device) -> None:
        """Also its slot, as `device.sysbus`."""
        super().hand(device)
        if isinstance(device, SysBusDevice):
            device.sysbus = SystemSlot(self, device)


class SystemSlot:
    """What a board device may do with the system bus; what it maps is unmapped when it is unrealized."""

    def __init__(self, bus: SystemBus, device: Device) -> None:
        self.bus = bus
        self._device = device
        self.memory = bus.memory
        self.io = bus.io
        self.memory_space = bus.memory_space
        self.io_space = bus.io_space

    def map_memory(self, base: int, region: Region, priority: int = 0) -> Region:
        """Show `region` at physical address `base`."""
        return self._device.map(self.memory, base, region, priority)

    def map_ports(self, base: int, region: Region, priority: int = 0) -> Region:
        """Show `region` at I/O port `base`."""
        return self._device.map(self.io, base, region, priority)

    def unmap(self, region: Region) -> None:
        """Take `region` out again."""
        self._device.unmap(region)


@type_init("sys-bus-device", abstract=True)
class SysBusDevice(Device):
    """Base of devices that the board itself places."""

    bus_type = "system-bus"
    sysbus: SystemSlot
