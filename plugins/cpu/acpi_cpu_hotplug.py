"""ACPI hotplug of processors: the ports by which a guest hears which came, is asked for those to go, and lets go of them.

The registers are QEMU's (docs/specs/acpi_cpu_hotplug), both sets of QEMU 7.2: after power-up a bitmap of the processors there
are, by APIC id, and once a 0 was written to the bitmap's first byte a block for one processor at a time, by its place.  The
method \\_GPE._E02 of the DSDT uses the block, and so do the methods of its processors (plugins/firmware/acpi_hotplug.py).
Modelled: both sets, events of processors that come and are to go, eject, what the guest reports by _OST.
Not modelled: ejection by firmware in system-management mode (bit 4 of the flags).
Guest view: 32 ports at `iobase`, later 12; output `event`, one pulse for each change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from qom import Cpu, LifecycleError, Region, SysBusDevice, prop, state, type_init
from qom.hw import Device, event_data

BITMAP_SIZE, SIZE = 32, 12
SELECTOR, FLAGS, COMMAND, DATA = 0x0, 0x4, 0x5, 0x8  # register offsets of the block
ENABLED, INSERTING, REMOVING, EJECT = 0x01, 0x02, 0x04, 0x08  # FLAGS
NEXT_WITH_EVENT, OST_EVENT, OST_STATUS, APIC_ID = range(4)  # COMMAND
PLACES: Final = 256

EJECTED: Final = 0x80  # of our own, in `events`: the guest has let go, and the processor is not out yet
EJECT_REQUESTS: Final = (0x03, 0x103)  # _OST: what the report is of (ACPI 6.4, 6.3.5)
SUCCESS, IN_PROGRESS = 0x00, 0x84  # _OST: reports of such that are no refusals


class Processors(Protocol):
    """The processors of a board, by place."""

    def apic_ids(self) -> Sequence[int]:
        """The local APIC id of each place there is."""

    def at(self, place: int) -> Cpu | None:
        """The processor there."""


class _None:
    """A board without processors."""

    def apic_ids(self) -> Sequence[int]:
        return ()

    def at(self, place: int) -> Cpu | None:
        return None


@type_init("acpi-cpu-hotplug")
class AcpiCpuHotplug(SysBusDevice):
    """Hotplug controller of a machine's processors.

    processors: handed by the board once they are there.
    """

    listed_as = "acpi-cpu-hotplug"

    iobase: int = prop(0xAF00, "First I/O port", type="uint16", base=16)

    block: bool = state(reset=False, keep=True, desc="Whether the block is in the bitmap's place")
    selector: int = state(keep=True, desc="Place of the processor that the block is of")
    command: int = state(keep=True, desc="Meaning of the data register")
    events: bytearray = state(factory=lambda: bytearray(PLACES), keep=True, desc="Events of each place")
    ost_event: list[int] = state(factory=lambda: [0] * PLACES, keep=True, desc="What each place's report is of")
    ost_status: list[int] = state(factory=lambda: [0] * PLACES, keep=True, desc="The report itself")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "ACPI hotplug of processors", "cpu", False

    def instance_init(self) -> None:
        """Declare the line."""
        self.processors: Processors = _None()
        self._event = self.gpio_out("event")[0]

    def realize(self) -> None:
        """Take the ports; the bitmap is there first."""
        self._bitmap = Region("acpi-cpu-bitmap", BITMAP_SIZE, self._read_bitmap, self._write_bitmap, (1, 1))
        self._block = Region("acpi-cpu-hotplug", SIZE, self._read, self._write)
        for region in (self._bitmap, self._block):
            self.sysbus.map_ports(self.iobase, region)
        self._show()

    def kept_place(self) -> dict[str, Any]:
        """The processors it serves."""
        return {"processors": self.processors}

    def state_loaded(self) -> None:
        """Which ports there are follows."""
        super().state_loaded()
        self._show()

    def _show(self) -> None:
        self._bitmap.set_enabled(not self.block)
        self._block.set_enabled(self.block)

    # -- what comes and goes (qom.hw.hotplug.HotplugHandler)

    def plugged(self, device: Device) -> None:
        """Tell the guest of the processor."""
        self.events[_place(device)] = INSERTING
        self._event.pulse()

    def unplug_request(self, device: Device) -> None:
        """Ask the guest for the processor; it may be asked again."""
        assert isinstance(device, Cpu)
        if device.is_bootstrap:
            raise LifecycleError("Boot CPU is unpluggable")
        self.events[_place(device)] |= REMOVING
        self._event.pulse()

    def unplugged(self, device: Device) -> None:
        """There is nothing more to say of it."""
        self.events[_place(device)] = 0

    def reports(self) -> list[dict[str, Any]]:
        """What the guest last reported of each place, as QMP's ACPIOSTInfo."""
        return [self._report(place) for place in range(len(self.processors.apic_ids()))]

    def _report(self, place: int) -> dict[str, Any]:
        cpu = self._there(place)
        data = {} if cpu is None else event_data(cpu)
        return {
            **({"device": data["device"]} if "device" in data else {}),
            "slot": str(place),
            "slot-type": "CPU",
            "source": self.ost_event[place],
            "status": self.ost_status[place],
        }

    def _there(self, place: int) -> Cpu | None:
        """The processor at a place, unless the guest has let go of it."""
        return None if self.events[place] & EJECTED else self.processors.at(place)

    # -- the bitmap

    def _read_bitmap(self, offset: int, size: int) -> int:
        ids = enumerate(self.processors.apic_ids())
        return sum(1 << apic_id % 8 for n, apic_id in ids if apic_id // 8 == offset and self._there(n) is not None)

    def _write_bitmap(self, offset: int, value: int, size: int) -> None:
        if offset == 0 and value == 0:
            self.block = True
            self._show()

    # -- the block

    def _read(self, offset: int, size: int) -> int:
        ids = self.processors.apic_ids()
        if self.selector >= len(ids):
            return 0
        if offset == FLAGS:
            present = ENABLED if self._there(self.selector) is not None else 0
            return present | self.events[self.selector] & (INSERTING | REMOVING)
        if offset == DATA:
            return {NEXT_WITH_EVENT: self.selector, APIC_ID: ids[self.selector]}.get(self.command, 0)
        return 0

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == SELECTOR:
            self.selector = value
        elif self.selector >= len(self.processors.apic_ids()):
            return
        elif offset == FLAGS:
            self.events[self.selector] &= ~(value & (INSERTING | REMOVING))
            if value & EJECT:
                self._eject(self.selector)
        elif offset == COMMAND:
            self._command(value)
        elif offset == DATA and self.command == OST_EVENT:
            self.ost_event[self.selector] = value
        elif offset == DATA and self.command == OST_STATUS:
            self.ost_status[self.selector] = value
            self._reported(self.selector)

    def _command(self, value: int) -> None:
        if value > APIC_ID:
            return
        self.command = value
        if value == NEXT_WITH_EVENT:
            places = len(self.processors.apic_ids())
            for place in (*range(self.selector, places), *range(self.selector)):
                if self.events[place] & (INSERTING | REMOVING):
                    self.selector = place
                    break

    def _eject(self, place: int) -> None:
        """The guest has let go of the processor at a place."""
        cpu = self._there(place)
        if cpu is None:
            return
        if cpu.is_bootstrap:
            self.guest_error("eject", "the processor that starts the machine was ejected, which cannot be")
            return
        self.events[place] = EJECTED
        self.system.ejected(cpu)

    def _reported(self, place: int) -> None:
        """The guest has said what came of an event."""
        self.system.emit("ACPI_DEVICE_OST", info=self._report(place))
        cpu, status = self._there(place), self.ost_status[place]
        if cpu is not None and self.ost_event[place] in EJECT_REQUESTS and status not in (SUCCESS, IN_PROGRESS):
            self.system.emit("DEVICE_UNPLUG_GUEST_ERROR", **event_data(cpu))


def _place(device: Device) -> int:
    assert isinstance(device, Cpu)
    return device.index
