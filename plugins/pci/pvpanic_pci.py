"""pvpanic on PCI: a register by which a guest says that its kernel has crashed.

Modelled: the register of plugins/isa/pvpanic.py in a memory BAR, twice, side by side, as QEMU shows it.  QEMU's BAR is two
bytes long, which PCI does not allow, and which guests take for 16; here it has 16, and what is behind the two reads as zeros.
Guest view: function 1b36:0011, BAR 0 with 16 bytes of memory.
"""

from __future__ import annotations

from plugins.isa.pvpanic import EVENTS, handle_event
from qom import PciDevice, Region, prop, type_init

BAR_SIZE = 16
REGISTERS = 2


@type_init("pvpanic-pci")
class PvPanicPci(PciDevice):
    """Tells of crashed guests."""

    vendor_id, device_id, revision, class_code = 0x1B36, 0x0011, 0x01, 0x0880
    subsystem_vendor_id, subsystem_id = 0x1AF4, 0x1100
    hotpluggable = True

    events: int = prop(EVENTS, "Events that a guest is told it may send, by bit", type="uint8", base=16)

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "PCI register for the news that the guest has crashed", "misc"

    def realize(self) -> None:
        """Declare the BAR."""
        self.register_bar(0, Region("pvpanic", BAR_SIZE, self._read, self._write, (1, 1)))

    def _read(self, offset: int, size: int) -> int:
        return self.events if offset < REGISTERS else 0

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset < REGISTERS:
            handle_event(self, value)
