"""Benches: buses without a machine, for tests, tutorials and device authors.

A bench is a system bus (with an ISA bus on it, or a PCI bus) whose clock the test steps, whose interrupt lines it
watches, and whose ports and memory it drives.  No processor, no guest, no thread, no host clock.

    bench = IsaBench(Stopwatch)
    sw = bench.add("isa-stopwatch", tick_ns=100)
    bench.outl(0x2A0, 1)
    bench.clock.step(100_000)
    assert bench.irq_edges(5) == 1
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import attrs

from qom.hw.address_space import AddressSpace
from qom.hw.bus import SystemBus, find_bus
from qom.hw.clock import SteppedClock
from qom.hw.device import Device
from qom.hw.irq import Line
from qom.hw.isa import ISA_IRQS, IsaBus
from qom.hw.memory import Region
from qom.hw.pci_bus import PciBus, PciHostBridge, parse_addr
from qom.hw.reset import Reset, reset_tree
from qom.hw.system import WakeReason
from qom.object import Object, Root
from qom.registry import TypeRegistry, mark_of, type_init

__all__ = ["IsaBench", "LineRecorder", "PciBench", "RecordingSystem", "SysBench", "hw_registry", "load_plugins"]


@attrs.define
class RecordingSystem:
    """A system control that does nothing but remember."""

    resets: list[str] = attrs.field(factory=list)
    shutdowns: list[tuple[str, int]] = attrs.field(factory=list)
    powerdowns: int = 0
    wakeups: int = 0
    panics: list[str] = attrs.field(factory=list)
    watchdogs: int = 0
    events: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)
    logged: list[tuple[str, str]] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    suspends: int = 0
    wakes: list[WakeReason] = attrs.field(factory=list)
    ejections: list[Device] = attrs.field(factory=list)

    def request_reset(self, reason: str) -> None:
        """Remember the reason."""
        self.resets.append(reason)

    def request_shutdown(self, reason: str, code: int = 0, *, final: bool = False) -> None:
        """Remember reason and code."""
        self.shutdowns.append((reason, code))

    def request_powerdown(self) -> None:
        """Count it."""
        self.powerdowns += 1

    def request_suspend(self) -> None:
        """Count it."""
        self.suspends += 1

    def request_wakeup(self) -> None:
        """Count it."""
        self.wakeups += 1

    def wake(self, reason: WakeReason) -> None:
        """Remember the reason."""
        self.wakes.append(reason)

    def ejected(self, device: Device) -> None:
        """Remember it; it stays."""
        self.ejections.append(device)

    def guest_panicked(self, info: Mapping[str, Any] | None = None) -> None:
        """Remember it."""
        self.panics.append("panicked")

    def guest_crashloaded(self, info: Mapping[str, Any] | None = None) -> None:
        """Remember it."""
        self.panics.append("crashloaded")

    def watchdog_fired(self) -> None:
        """Count it."""
        self.watchdogs += 1

    def emit(self, event: str, **data: Any) -> None:
        """Remember the event."""
        self.events.append((event, data))

    def vcpu_failed(self, cpu: object, report: str) -> None:
        """Remember the report."""
        self.failures.append(report)

    def device_failed(self, error: Exception) -> None:
        """Remember what was raised."""
        self.failures.append(str(error))

    def log(self, category: str, text: str) -> None:
        """Remember the line."""
        self.logged.append((category, text))


class LineRecorder:
    """Counts what happens on a number of lines; `line(n)` is what a device is connected to."""

    def __init__(self, name: str, count: int) -> None:
        self.levels = [0] * count
        self.rises = [0] * count
        self.events: list[tuple[int, int]] = []
        self.lines = [Line(self._set, n, name) for n in range(count)]

    def line(self, n: int) -> Line:
        """Line `n`."""
        return self.lines[n]

    def clear(self) -> None:
        """Forget the past; levels stay."""
        self.rises = [0] * len(self.levels)
        self.events.clear()

    def _set(self, n: int, level: int) -> None:
        if level and not self.levels[n]:
            self.rises[n] += 1
        self.levels[n] = level
        self.events.append((n, level))


@type_init("bench-isa-bridge")
class BenchIsaBridge(Device):
    """Provides the ISA bus of a bench, on the system's own ports and memory."""

    bus_type = "system-bus"
    user_creatable = False
    isa_bus: IsaBus

    @classmethod
    def class_init(cls) -> None:
        """Describe it."""
        cls.desc, cls.category = "ISA bus of a test bench", "bridge"

    def instance_init(self) -> None:
        """Make the bus."""
        self.isa_bus = self.new_bus("isa-bus", "isa.0")

    def realize(self) -> None:
        """Connect it to the system's ports and memory."""
        system = self.bus
        assert isinstance(system, SystemBus)
        self.isa_bus.connect_spaces(system.io, system.memory)


class SysBench:
    """A system bus with a stepped clock; devices given by type name, or as classes marked with `type_init`.

    types: classes to register beyond `registry`.  registry: shared by benches to save time; by default a new one with
    the hardware base types and, when a type is asked for that it lacks, all that plugins bring.
    """

    def __init__(self, *types: type, registry: TypeRegistry | None = None) -> None:
        self.registry = registry if registry is not None else hw_registry()
        for cls in types:
            self.register(cls)
        self.root: Root = self.registry.new("root")
        self.clock = SteppedClock()
        self.system = RecordingSystem()
        self.sysbus: SystemBus = self.registry.new("system-bus")
        self.machine: Object = self.root.container("/machine")
        self.machine.add_child("system", self.sysbus)
        self.sysbus.set_services(self.clock, self.system)
        self.memory: AddressSpace = self.sysbus.memory_space
        self.ports: AddressSpace = self.sysbus.io_space

    def register(self, cls: type) -> None:
        """Make a marked class known, unless it is."""
        mark = mark_of(cls)
        if mark is None or mark.name not in self.registry:
            self.registry.register(cls, "bench")

    # -- devices

    def new(self, type_name: str, /, **props: Any) -> Any:
        """An object of that type, not in the tree; types of the box are found without being registered."""
        if type_name not in self.registry:
            load_plugins(self.registry)
        return self.registry.new(type_name, **props)

    def add(self, type_name: str, /, id: str | None = None, **props: Any) -> Any:
        """A device of that type: made, configured, plugged, realized and reset."""
        device = self.new(type_name, **props)
        if not isinstance(device, Device):
            raise TypeError(f"'{type_name}' is no device: use new()")
        return self.insert(device, id)

    def insert(self, device: Device, id: str | None = None) -> Any:
        """Plug, realize and reset a device made by `new` (in case it needs wiring in between)."""
        if device.parent is None:
            if id is not None:
                self.root.container("/machine/peripheral").add_child(id, device)
            else:
                self.root.container("/machine/unattached").add_auto(device)
        try:
            if device.bus is None and device.bus_type is not None:
                device.plug(find_bus(self.root, device.bus_type, device))
            device.set("realized", True)
        except BaseException:
            device.unparent()
            raise
        reset_tree(device, Reset.COLD)
        return device

    def reset(self, kind: Reset = Reset.COLD) -> None:
        """Reset everything on the bench."""
        reset_tree(self.machine, kind)

    def ram(self, base: int, size: int, name: str = "ram") -> Region:
        """RAM at physical address `base`."""
        return self.sysbus.memory.add(base, Region.ram(name, size))

    def close(self) -> None:
        """Take everything apart."""
        self.machine.unparent()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- driving ports and memory

    def inb(self, port: int) -> int:
        """Read a byte from a port."""
        return self.ports.read(port, 1)

    def inw(self, port: int) -> int:
        """Read 16 bits from a port."""
        return self.ports.read(port, 2)

    def inl(self, port: int) -> int:
        """Read 32 bits from a port."""
        return self.ports.read(port, 4)

    def outb(self, port: int, value: int) -> None:
        """Write a byte to a port."""
        self.ports.write(port, value, 1)

    def outw(self, port: int, value: int) -> None:
        """Write 16 bits to a port."""
        self.ports.write(port, value, 2)

    def outl(self, port: int, value: int) -> None:
        """Write 32 bits to a port."""
        self.ports.write(port, value, 4)

    def read(self, addr: int, size: int) -> int:
        """Read from memory, as a processor does."""
        return self.memory.read(addr, size)

    def write(self, addr: int, value: int, size: int) -> None:
        """Write to memory, as a processor does."""
        self.memory.write(addr, value, size)


class IsaBench(SysBench):
    """A bench with an ISA bus."""

    def __init__(self, *types: type, registry: TypeRegistry | None = None) -> None:
        super().__init__(*types, registry=registry)
        self.register(BenchIsaBridge)
        self.bridge: BenchIsaBridge = self.registry.new("bench-isa-bridge")
        self.machine.add_child("isa-bridge", self.bridge)
        self.bridge.plug(self.sysbus)
        self.bridge.set("realized", True)
        self.isa: IsaBus = self.bridge.isa_bus
        self.irqs = LineRecorder("isa-irq", ISA_IRQS)
        self.isa.connect_irqs(self.irqs.lines)

    def irq_level(self, n: int) -> int:
        """The level of ISA interrupt line `n`."""
        return self.irqs.levels[n]

    def irq_edges(self, n: int) -> int:
        """How often ISA interrupt line `n` went from low to high."""
        return self.irqs.rises[n]


@type_init("bench-pci-host")
class BenchPciHost(PciHostBridge):
    """Provides the PCI bus of a bench: memory BARs show in the system's memory, I/O BARs in its ports."""

    user_creatable = False

    @classmethod
    def class_init(cls) -> None:
        """Describe it."""
        cls.desc = "PCI bus of a test bench"

    def realize(self) -> None:
        """Make the bus and its configuration ports CF8h and CFCh."""
        self.make_bus(self.sysbus.memory, self.sysbus.io)
        self.map_config_ports()


class PciBench(IsaBench):
    """A bench with a PCI bus, and an ISA bus for what needs one.  INTA# of slot n drives `intx` line n mod 4."""

    def __init__(self, *types: type, registry: TypeRegistry | None = None) -> None:
        super().__init__(*types, registry=registry)
        self.register(BenchPciHost)
        self.host: BenchPciHost = self.registry.new("bench-pci-host")
        self.machine.add_child("pci-host", self.host)
        self.host.plug(self.sysbus)
        self.host.set("realized", True)
        self.pci: PciBus = self.host.pci_bus
        self.intx = LineRecorder("pci-intx", 4)
        self.pci.connect_irqs(self.intx.lines)

    def config_read(self, addr: str, offset: int, size: int = 4) -> int:
        """Read configuration space of the function at `addr` ("slot.function") through ports CF8h and CFCh."""
        self.outl(0xCF8, 0x8000_0000 | self.pci.number << 16 | parse_addr(addr) << 8 | (offset & 0xFC))
        return self.ports.read(0xCFC + (offset & 3), size)

    def config_write(self, addr: str, offset: int, value: int, size: int = 4) -> None:
        """Write configuration space of the function at `addr` through ports CF8h and CFCh."""
        self.outl(0xCF8, 0x8000_0000 | self.pci.number << 16 | parse_addr(addr) << 8 | (offset & 0xFC))
        self.ports.write(0xCFC + (offset & 3), value, size)


def hw_registry(*types: type) -> TypeRegistry:
    """A registry with the object model's and the hardware's base types, and `types`."""
    import qom.object
    from qom.hw import bus, device, isa, pci, pci_bus

    registry = TypeRegistry()
    for module in (qom.object, device, bus, isa, pci_bus, pci):
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                mark = mark_of(value)
                if mark is not None and mark.name not in registry:
                    registry.register(value, "qom")
    for cls in types:
        registry.register(cls, "bench")
    return registry


def load_plugins(registry: TypeRegistry) -> None:
    """Add what the plugins in the box bring and `registry` does not have yet."""
    from qom.plugins import PluginManager

    other = PluginManager(load_external=False)
    other.load()
    for found in other.registry:
        if found.name not in registry:
            cls = found.python_class
            what = cls if cls is not None else found.info
            if what is not None:
                registry.register(what, found.origin)
