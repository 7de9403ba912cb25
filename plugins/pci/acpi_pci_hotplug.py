"""ACPI hotplug of PCI devices: the ports by which a guest hears what comes, is asked for what is to go, and lets go of it.

The registers are QEMU's (docs/specs/acpi_pci_hotplug), for the PC's first PCI bus.  The method \\_GPE._E01 of the DSDT reads
them, and _EJ0 of a slot writes to one (plugins/firmware/acpi_hotplug.py).
Modelled: slots that were filled (cleared when read), slots the guest is asked for, eject, which slots can be ejected, the
choice of the bus.  A reset takes out what the guest was asked for.  Not modelled: buses behind bridges, as there are none;
`acpi-index` (its register reads 0).
Guest view: 24 ports at `iobase`, 32 bits wide, one bit a slot; output `event`, one pulse for each change.
"""

from __future__ import annotations

from qom import LifecycleError, Region, SysBusDevice, prop, state, type_init
from qom.hw import Device, PciDevice, PciHostBridge

UP, DOWN, EJECT, REMOVABLE, SELECT, INDEX = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14  # register offsets
SIZE = 0x18
SLOTS, FUNCTIONS = 32, 8
BOARD_SLOTS = 0b11  # the host bridge and the south bridge with its functions
ALL = 0xFFFF_FFFF
FIRST_BUS = 0  # SELECT: the only one there is


@type_init("acpi-pci-hotplug")
class AcpiPciHotplug(SysBusDevice):
    """Hotplug controller of the bus of `host`; without one there are no slots."""

    iobase: int = prop(0xAE00, "First I/O port", type="uint16", base=16)

    up: int = state(keep=True, desc="Slots that were filled since the register was read")
    down: int = state(desc="Slots that the guest is asked for")
    asked: bytearray = state(factory=lambda: bytearray(SLOTS * FUNCTIONS), desc="Functions the guest is asked for")
    select: int = state(desc="Number of the bus that the registers are of")

    host: PciHostBridge

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "ACPI hotplug of PCI devices", "bridge", False

    def instance_init(self) -> None:
        """Declare the line."""
        self._event = self.gpio_out("event")[0]

    def realize(self) -> None:
        """Take the ports, and the bus's hotplug."""
        self._functions: dict[int, PciDevice] = {}
        host = getattr(self, "host", None)
        if host is not None:
            bus = host.pci_bus
            self._functions = bus.functions
            bus.hotplug_handler = self
            self.on_unrealize(lambda: setattr(bus, "hotplug_handler", None))
        ports = Region("acpi-pci-hotplug", SIZE, self._read, self._write, (4, 4))
        self.sysbus.map_ports(self.iobase, ports)

    # -- what comes and goes (qom.hw.hotplug.HotplugHandler)

    def plugged(self, device: Device) -> None:
        """Tell the guest of the slot."""
        self.up |= 1 << _devfn(device) // FUNCTIONS
        self._event.pulse()

    def unplug_request(self, device: Device) -> None:
        """Ask the guest for the slot; the other functions there go with it."""
        number = _devfn(device)
        if self.asked[number]:
            raise LifecycleError(f"Device {device.name} is already in the process of unplug")
        self.asked[number] = 1
        self.down |= 1 << number // FUNCTIONS
        self._event.pulse()

    def unplugged(self, device: Device) -> None:
        """The guest need not be told of it, or be asked for it, any more."""
        number = _devfn(device)
        slot = number // FUNCTIONS
        self.asked[number] = 0
        first = slot * FUNCTIONS
        if not any(self.asked[first : first + FUNCTIONS]):
            self.down &= ~(1 << slot)
        if not self._in_slot(slot):
            self.up &= ~(1 << slot)

    def leaving(self) -> list[Device]:
        """What the guest was asked for and has not let go of."""
        return [self._functions[n] for n in reversed(range(len(self.asked))) if self.asked[n] and n in self._functions]

    def removable(self) -> int:
        """The slots, by bit, whose devices can go; empty ones are among them."""
        fixed = BOARD_SLOTS
        for number, device in self._functions.items():
            if not device.hotpluggable:
                fixed |= 1 << number // FUNCTIONS
        return ALL & ~fixed

    def _in_slot(self, slot: int) -> list[PciDevice]:
        """The functions there, the last one first."""
        numbers = reversed(range(slot * FUNCTIONS, (slot + 1) * FUNCTIONS))
        return [self._functions[n] for n in numbers if n in self._functions]

    # -- registers

    def _read(self, offset: int, size: int) -> int:
        first = self.select == FIRST_BUS
        if offset == UP:
            value, self.up = (self.up, 0) if first else (0, self.up)
            return value
        if offset == DOWN:
            return self.down if first else 0
        if offset == REMOVABLE:
            return self.removable() if first else ALL
        return self.select if offset == SELECT else 0

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == SELECT:
            self.select = value
        elif offset == EJECT and value and self.select == FIRST_BUS:
            self._eject((value & -value).bit_length() - 1)  # one slot a write

    def _eject(self, slot: int) -> None:
        """The guest has let go of a slot."""
        there = self._in_slot(slot)
        if not self.removable() >> slot & 1:
            self.guest_error(f"eject-{slot}", f"slot {slot} ejected, which cannot be")
            return
        for device in there:
            self.system.ejected(device)


def _devfn(device: Device) -> int:
    assert isinstance(device, PciDevice)
    return device.devfn
