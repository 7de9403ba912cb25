"""A plugin as a third party would write it, with a back end of each kind, a bus of its own, and devices on it.

From public API only.  test_citizenship.py loads it by its path and uses it from files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from qom import Bus, Chardev, Device, ImageFile, Line, PciDevice, RealizeError, Region, link, prop, state, type_init
from qom.hw import Route, or_line
from qom.vm import SECTOR

QOM_API = "1.0"

MAGIC = b"MASKED\0\1"


@type_init("block-masked")
class MaskedImage(ImageFile):
    """A format of disk images: a header of one sector, then every byte of the disk in exclusive or with a key."""

    key: int = prop(0x5A, "What every byte is masked with", type="uint8", base=16)

    @classmethod
    def class_init(cls) -> None:
        cls.desc = "Masked disk image"

    def opened(self) -> int:
        if self.read_at(0, len(MAGIC)) != MAGIC:
            raise self.wrong(f"has no header: expected {MAGIC!r} at byte 0")
        sectors, rest = divmod(self.file_size, SECTOR)
        if rest:
            raise ValueError(f"{rest} bytes beyond the last sector")
        return sectors - 1

    def read_sectors(self, lba: int, count: int) -> bytes:
        return self._masked(self.read_at((lba + 1) * SECTOR, count * SECTOR))

    def write_sectors(self, lba: int, data: bytes) -> None:
        self.write_at((lba + 1) * SECTOR, self._masked(data))

    def _masked(self, data: bytes) -> bytes:
        return bytes(byte ^ self.key for byte in data)


@type_init("block-counting")
class CountingImage(ImageFile):
    """A format that is only read: every sector is full of its own number; the file says how many there are."""

    fail_at: int = prop(-1, "Sector at which reading raises")

    def opened(self) -> int:
        return int(self.read_at(0, self.file_size))

    def read_sectors(self, lba: int, count: int) -> bytes:
        if lba <= self.fail_at < lba + count:
            raise ZeroDivisionError("of sectors")
        return b"".join(n.to_bytes(4, "little") * (SECTOR // 4) for n in range(lba, lba + count))


@type_init("chardev-shout")
class Shout(Chardev):
    """A character back end: answers everything it is sent, in capitals, as far as the other end has room."""

    greeting: str = prop("", "What it says before its first answer")

    def instance_init(self) -> None:
        self.heard = b""
        self.waiting = b""

    def write(self, data: bytes) -> int:
        if not self.heard:
            self.waiting = self.greeting.encode()
        self.heard += data
        self.waiting += data.upper()
        self.accept_input()
        return len(data)

    def accept_input(self) -> None:
        while self.waiting and (room := self.can_read()):
            now, self.waiting = self.waiting[:room], self.waiting[room:]
            self.on_read(now)


@type_init("wire-bus")
class WireBus(Bus):
    """A bus type of its own: eight addresses, a byte to read and a byte to write at each, one shared interrupt."""

    max_devices = 8

    interrupt: Line

    def instance_init(self) -> None:
        self.placed: dict[int, WireDevice] = {}

    def connect(self, interrupt: Line) -> None:
        """Devices drive `interrupt`, all of them."""
        self._interrupts = or_line(interrupt)

    def hand(self, device: Device) -> None:
        super().hand(device)
        if isinstance(device, WireDevice):
            device.wire = self

    def attach(self, device: Device) -> None:
        assert isinstance(device, WireDevice)
        other = self.placed.get(device.address)
        if other is not None:
            raise RealizeError(f"{device.path}: address {device.address} on {self.path} is taken by {other.path}")
        self.placed[device.address] = device

    def detach(self, device: Device) -> None:
        assert isinstance(device, WireDevice)
        del self.placed[device.address]

    def where(self, device: Device) -> str:
        return next((str(n) for n, held in self.placed.items() if held is device), "")

    def line(self, device: Device) -> Line:
        """The device's end of the interrupt, until it is unrealized."""
        line = self._interrupts.new_input(source=device)
        device.on_unrealize(lambda: self._interrupts.release(line))
        return line


@type_init("wire-device", abstract=True)
class WireDevice(Device):
    """Base of what sits on such a bus."""

    bus_type = "wire-bus"
    hotpluggable = True

    address: int = prop(0, "Address on the bus", among=range(8))

    wire: WireBus

    def place(self) -> str | None:
        return str(self.address)

    def wire_read(self) -> int:
        return 0xFF

    def wire_write(self, value: int) -> None:
        pass


@type_init("wire-lamp")
class WireLamp(WireDevice):
    """Keeps a byte; what it kept is state."""

    colour: str = prop("red", "Which colour it has", among=("red", "green"))

    bright: int = state(desc="How bright it shines")

    def wire_read(self) -> int:
        return self.bright

    def wire_write(self, value: int) -> None:
        self.bright = value


@type_init("wire-recorder")
class WireRecorder(WireDevice):
    """Writes each byte it is sent into guest memory by DMA, `delay-ns` later, and then interrupts."""

    base: int = prop(0x1000, "Where in guest memory its record is", type="uint64", base=16)
    delay_ns: int = prop(100, "Time a byte takes", unit="ns")

    byte: int = state(desc="The byte under way")
    count: int = state(desc="How many were recorded")
    ends: int = state(reset=-1, desc="When the byte under way is recorded, ns; -1: none is")

    def realize(self) -> None:
        self._line = self.wire.line(self)
        self._timer = self.clock.timer(self._record)

    def reset(self) -> None:
        super().reset()
        self._timer.cancel()
        self._line.lower()

    def state_loaded(self) -> None:
        self._timer.cancel()
        if self.ends >= 0:
            self._timer.arm_at(self.ends)

    def wire_read(self) -> int:
        self._line.lower()
        return self.count

    def wire_write(self, value: int) -> None:
        self.byte, self.ends = value, self.clock.now() + self.delay_ns
        self._timer.arm_at(self.ends)

    def _record(self) -> None:
        self.ends = -1
        self.dma.write(self.base + self.count, self.byte, 1)
        self.count += 1
        self._line.raise_()


@type_init("pci-wire-bridge")
class PciWireBridge(PciDevice):
    """A PCI function that provides such a bus: 32-bit register n of BAR 0 is the byte at address n.

    Its devices' interrupt is its MSI-X or MSI message 0, or its pin; their DMA stops with its bus mastering.
    """

    vendor_id, device_id, class_code, interrupt_pin = 0x1234, 0x11E8, 0x0C80, 1
    hotpluggable = True

    note: Chardev | None = link("chardev", "Where each access is noted; none: nowhere")

    instance_defaults: ClassVar[dict[str, Any]] = {"wire_bus": None}

    def instance_init(self) -> None:
        self.wire_bus: WireBus = self.new_bus("wire-bus", "wire.0")
        self.wire_bus.connect(Line(self._interrupt, 0, "wire"))

    def realize(self) -> None:
        self.register_bar(0, Region("wire", 32, self._read, self._write, (4, 4)))
        self.add_msi()
        self.add_msix(1, bar=1)
        if self.note is not None:
            self.note.set_frontend(owner=self.path)
            self.on_unrealize(self.note.unset_frontend)

    def routes(self) -> Iterator[Route]:
        yield Route(None, self.wire_bus, "the devices' interrupt")

    def _read(self, offset: int, size: int) -> int:
        device = self.wire_bus.placed.get(offset // 4)
        value = device.wire_read() if device is not None else 0xFF
        self._noted(f"r{offset // 4}={value:02x} ")
        return value

    def _write(self, offset: int, value: int, size: int) -> None:
        device = self.wire_bus.placed.get(offset // 4)
        self._noted(f"w{offset // 4}={value & 0xFF:02x} ")
        if device is not None:
            device.wire_write(value & 0xFF)

    def _noted(self, text: str) -> None:
        if self.note is not None:
            self.note.write(text.encode("ascii"))

    def _interrupt(self, n: int, level: int) -> None:
        if level:
            self.notify(0)
        self.intx.set(level)
