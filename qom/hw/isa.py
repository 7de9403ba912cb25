"""The ISA bus: 16-bit I/O ports, sixteen interrupt lines, eight DMA channels.

Ports and memory are regions of the machine that the bus's device hands over (by default the system's own).  An
interrupt line is wired-OR of everything that asked for it.  A DMA controller registers itself as the provider of
channels.

Modelled: ports with a check that no two devices claim the same, interrupt lines, channels.  Not modelled: bus timing,
aliases of the 10-bit decode, bus mastering of ISA cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from qom.errors import RealizeError
from qom.hw.bus import Bus
from qom.hw.clock import Clock
from qom.hw.device import Device
from qom.hw.irq import Line, SharedLine
from qom.hw.memory import Region
from qom.registry import type_init

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace
    from qom.hw.system import SystemControl

ISA_IRQS = 16
ISA_PORTS = 1 << 16


class DmaProvider(Protocol):
    """A DMA controller as the ISA bus sees it; what a channel is able to do is the controller's to say."""

    def dma_channel(self, n: int) -> Any:
        """Channel `n` (0 to 7)."""


@type_init("isa-bus", aliases=("ISA",))
class IsaBus(Bus):
    """The bus itself; whoever provides it connects it with `connect_spaces` and `connect_irqs`."""

    io: Region
    memory: Region
    lines: list[Line]
    dma_provider: DmaProvider | None
    _inputs: list[SharedLine]
    _connected: bool

    instance_defaults: ClassVar[dict[str, Any]] = {"dma_provider": None, "_connected": False}

    def instance_init(self) -> None:
        """Sixteen lines, connected to nothing; ports and memory of its own until it is connected."""
        self.io = Region.container("isa-io", ISA_PORTS)
        self.memory = Region.container("isa-memory", 1 << 24)
        self.lines = []
        self._inputs = [SharedLine(None, f"isa-irq{n}") for n in range(ISA_IRQS)]
        self.hotplug = False

    def connect_spaces(self, io: Region, memory: Region) -> None:
        """Use these regions for ports and memory from now on; before any device is realized."""
        self.io, self.memory = io, memory
        self._hand_all()

    def connect_irqs(self, lines: Sequence[Line]) -> None:
        """Connect the bus's interrupt lines, first to last, to the interrupt controller's inputs."""
        self.lines = list(lines)
        for shared, line in zip(self._inputs, self.lines, strict=False):
            shared.connect(line)

    def irq(self, n: int, device: Device | None = None) -> Line:
        """A source's end of interrupt line `n`; taken back when `device` is unrealized."""
        if not 0 <= n < ISA_IRQS:
            where = device.path if device is not None else self.path
            raise RealizeError(f"{where}: no ISA interrupt line {n}: expected 0..{ISA_IRQS - 1}")
        shared = self._inputs[n]
        line = shared.new_input(f"isa-irq{n}", device)
        if device is not None:
            device.drives("isa-irq", n, line)
            device.on_unrealize(lambda: shared.release(line))
        return line

    @property
    def irq_lines(self) -> tuple[SharedLine, ...]:
        """The sixteen interrupt lines, with who drives them and where they lead."""
        return tuple(self._inputs)

    def irq_level(self, n: int) -> int:
        """The level of interrupt line `n`."""
        return self._inputs[n].level

    def map_ports(self, base: int, region: Region, device: Device | None = None, priority: int = 0) -> Region:
        """Show `region` at port `base`; it may lie on top of another device's ports only with another priority."""
        if base < 0 or base + region.size > ISA_PORTS:
            raise self._ports_error(device, base, region, f"must lie in 0..{ISA_PORTS - 1:#x}")
        if region.parent is not None:
            where = device.path if device is not None else self.path
            raise RealizeError(f"{where}: '{region.name}' is mapped already, in {region.parent.name}")
        for other in self.io.inside.within(base, base + region.size):
            if other.priority == priority and other.enabled and other.terminates:
                owner = getattr(other.owner, "path", other.name)
                span = f"{other.offset:#x}..{other.offset + other.size - 1:#x}"
                raise self._ports_error(device, base, region, f"are taken: {owner} has {span} ({other.name})")
        if device is not None:
            return device.map(self.io, base, region, priority)
        return self.io.add(base, region, priority)

    def _ports_error(self, device: Device | None, base: int, region: Region, what: str) -> RealizeError:
        where = device.path if device is not None else self.path
        return RealizeError(f"{where}: ports {base:#x}..{base + region.size - 1:#x} {what}")

    def map_memory(self, base: int, region: Region, device: Device | None = None, priority: int = 1) -> Region:
        """Show `region` at memory address `base`; by default on top of the RAM there."""
        if device is not None:
            return device.map(self.memory, base, region, priority)
        return self.memory.add(base, region, priority)

    def unmap(self, region: Region) -> None:
        """Take `region` out again; harmless when it is nowhere."""
        if region.parent is not None:
            region.parent.remove(region)

    def register_dma(self, provider: DmaProvider) -> None:
        """`provider` serves the bus's DMA channels from now on."""
        self.dma_provider = provider

    def dma_channel(self, n: int) -> Any:
        """DMA channel `n`, from whatever controller the machine has."""
        if self.dma_provider is None:
            raise RealizeError(f"{self.path}: no DMA channel {n}: the machine has no ISA DMA controller")
        if not 0 <= n < 8:
            raise RealizeError(f"{self.path}: no DMA channel {n}: expected 0..7")
        return self.dma_provider.dma_channel(n)

    def where(self, device: Device) -> str:
        """Its ports and interrupt lines: "ports 3f8-3ff, irq 4"."""
        spans = []
        for region in sorted(self.io.subregions, key=lambda r: r.offset):
            if region.owner is device:
                last = region.offset + region.size - 1
                spans.append(f"{region.offset:x}" if region.size == 1 else f"{region.offset:x}-{last:x}")
        irqs = [str(n) for n, shared in enumerate(self._inputs) if device in shared.sources.values()]
        parts = [f"ports {', '.join(spans)}"] if spans else []
        parts += [f"irq {', '.join(irqs)}"] if irqs else []
        return ", ".join(parts)

    def hand(self, device: Device) -> None:
        """Also its slot, as `device.isa`."""
        super().hand(device)
        if isinstance(device, IsaDevice):
            device.isa = IsaSlot(self, device)


class IsaSlot:
    """What a device may do with the ISA bus; all it takes is given back when it is unrealized."""

    def __init__(self, bus: IsaBus, device: Device) -> None:
        self.bus = bus
        self._device = device

    @property
    def io(self) -> Region:
        """The region all ports are in."""
        return self.bus.io

    @property
    def memory(self) -> Region:
        """The region ISA memory is in."""
        return self.bus.memory

    @property
    def clock(self) -> Clock:
        """The device's clock."""
        return self._device.clock

    @property
    def dma(self) -> AddressSpace:
        """The memory a DMA controller on the bus reaches."""
        return self._device.dma

    @property
    def system(self) -> SystemControl:
        """The machine's system control."""
        return self._device.system

    def irq(self, n: int) -> Line:
        """The device's end of interrupt line `n`."""
        return self.bus.irq(n, self._device)

    def map_ports(self, base: int, region: Region, priority: int = 0) -> Region:
        """Show `region` at port `base`."""
        return self.bus.map_ports(base, region, self._device, priority)

    def map_memory(self, base: int, region: Region, priority: int = 1) -> Region:
        """Show `region` at memory address `base`."""
        return self.bus.map_memory(base, region, self._device, priority)

    def unmap(self, region: Region) -> None:
        """Take `region` out again."""
        self.bus.unmap(region)

    def dma_channel(self, n: int) -> Any:
        """DMA channel `n`."""
        return self.bus.dma_channel(n)

    def register_dma(self, provider: DmaProvider) -> None:
        """`provider` (the device itself) serves the bus's DMA channels while it is realized."""
        bus = self.bus
        bus.register_dma(provider)

        def withdraw() -> None:
            if bus.dma_provider is provider:
                bus.dma_provider = None

        self._device.on_unrealize(withdraw)


@type_init("isa-device", abstract=True)
class IsaDevice(Device):
    """Base of devices on the ISA bus."""

    bus_type = "isa-bus"
    isa: IsaSlot

    def place(self) -> str | None:
        """Its first port, for its automatic name."""
        iobase = self.__dict__.get("iobase")
        return f"{iobase:x}" if isinstance(iobase, int) else None
