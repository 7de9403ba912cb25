"""IDE on the ISA bus: one channel, no bus mastering.

Guest view: eight ports at `iobase`, one at `iobase2`, level on ISA line `irq`; the disks sit on the bus it provides.
"""

from __future__ import annotations

from plugins.block.ide_bus import IdeBus
from qom import IsaDevice, prop, type_init


@type_init("isa-ide")
class IsaIde(IsaDevice):
    """The AT's disk controller as its successors remember it."""

    iobase: int = prop(0x1F0, "First port of the command block", type="uint32", max=0xFFF8, base=16)
    iobase2: int = prop(0x3F6, "Port of the control block", type="uint32", max=0xFFFF, base=16)
    irq: int = prop(14, "ISA interrupt line", type="uint32", max=15)

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "IDE controller on ISA", "block"

    def instance_init(self) -> None:
        """Make the bus, so that disks can be plugged before this is realized."""
        self.ide: IdeBus = self.new_bus("ide-bus", "ide.0")

    def realize(self) -> None:
        """Claim ports and line."""
        bus = self.ide
        command, control = bus.map_registers("ide")
        self.isa.map_ports(self.iobase, command)
        self.isa.map_ports(self.iobase2, control)
        bus.irq = self.isa.irq(self.irq).set
