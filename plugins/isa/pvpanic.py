"""pvpanic: a port by which a guest says that its kernel has crashed.

Modelled: the port, as QEMU's docs/specs/pvpanic.txt has it.  A read gives the events that the device knows (`events`); a
write tells of one: bit 0, the guest has crashed, and `-action panic=` says what follows; bit 1, it has crashed and deals
with that by a crash kernel of its own.  Bit 0 goes before bit 1.  A guest is to send only events that it has read; as in
QEMU, another is heard all the same.
The board tells the guest of the first one: by the ACPI device QEMU0001 and by the fw_cfg file `etc/pvpanic-port`.
Guest view: one port, `ioport`, read and written by bytes.
"""

from __future__ import annotations

from qom import Device, IsaDevice, Region, prop, type_init

PANICKED, CRASHLOADED = 0x01, 0x02
EVENTS = PANICKED | CRASHLOADED


def handle_event(device: Device, value: int) -> None:
    """A guest wrote `value` to the event register of `device`."""
    if unknown := value & ~EVENTS:
        device.guest_error("event", f"event bits {unknown:#x} are unknown: expected {PANICKED:#x} or {CRASHLOADED:#x}")
    if value & PANICKED:
        device.system.guest_panicked()
    elif value & CRASHLOADED:
        device.system.guest_crashloaded()


@type_init("pvpanic")
class PvPanic(IsaDevice):
    """Tells of crashed guests."""

    ioport: int = prop(0x505, "I/O port", type="uint16", base=16)
    events: int = prop(EVENTS, "Events that a guest is told it may send, by bit", type="uint8", base=16)

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Port for the news that the guest has crashed", "misc"

    def realize(self) -> None:
        """Claim the port."""
        self.isa.map_ports(self.ioport, Region("pvpanic", 1, self._read, self._write, (1, 1)))

    def place(self) -> str | None:
        """Its port, for its automatic name."""
        return f"{self.ioport:x}"

    def _read(self, offset: int, size: int) -> int:
        return self.events

    def _write(self, offset: int, value: int, size: int) -> None:
        handle_event(self, value)
