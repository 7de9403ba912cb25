"""The A20 gate: while it is closed, addresses wrap at 1 MiB as on an 8086.

Two sources open it, the keyboard controller and port 92h; address line 20 is held low only while both want it so (PIIX3
datasheet 290550, 2.5.2).  Done in the memory map, so that it works the same on every accelerator.
Not modelled: odd megabytes above the second one, and the wrap onto the adapter area (A0000h-FFFFFh).

Guest view: none of its own; the RAM of 0-9FFFFh seen again at 100000h-19FFFFh.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from qom import Region, SysBusDevice, type_init

__all__ = ["A20Gate"]

MIB: Final = 1 << 20
BASE_RAM: Final = 640 << 10
SOURCES: Final = ("i8042", "port92")


@type_init("a20-gate")
class A20Gate(SysBusDevice):
    """Inputs `i8042` and `port92`: 1 opens the gate."""

    ram: Region  # handed by the board before realize

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "A20 gate", "bridge", False

    def instance_init(self) -> None:
        """Declare the lines."""
        self._open = {name: 0 for name in SOURCES}
        for name in SOURCES:
            self.gpio_in(name, 1, partial(self._set, name))

    def realize(self) -> None:
        """Lay the wrapped RAM over the second megabyte; hidden until the lines say otherwise."""
        self._wrapped = Region.alias("a20-wrapped", self.ram, 0, min(BASE_RAM, self.ram.size), owner=self)
        self._wrapped.set_enabled(False)
        self.sysbus.map_memory(MIB, self._wrapped, priority=2)

    def _set(self, name: str, n: int, level: int) -> None:
        self._open[name] = level
        self._wrapped.set_enabled(not any(self._open.values()))
