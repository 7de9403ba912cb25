"""A bridge that is nothing but an ISA bus, for boards without PCI.

Modelled: the bus `isa.0`, on the system's own ports and memory; its interrupt lines are wired by the board.
Not modelled: anything else; there is no such chip.

Guest view: none of its own.
"""

from __future__ import annotations

from qom import SysBusDevice, type_init

__all__ = ["IsaBusBridge"]


@type_init("isabus-bridge")
class IsaBusBridge(SysBusDevice):
    """Provides the ISA bus `isa.0`."""

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "ISA bus on the system's ports", "bridge", False

    def instance_init(self) -> None:
        """Make the bus, so that devices can be plugged."""
        self.isa_bus = self.new_bus("isa-bus", "isa.0")

    def realize(self) -> None:
        """The bus's ports and memory are the system's."""
        self.isa_bus.connect_spaces(self.sysbus.io, self.sysbus.memory)
