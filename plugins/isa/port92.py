"""Port 92h: fast A20 gate and fast reset ("System Control Port A").

Modelled: bits 0 and 1.  Not modelled: the security lock and the disk lights (they hold what is written).
Guest view: one port at `iobase`; output `a20`; the reset line asks the machine.
"""

from __future__ import annotations

from qom import prop, state, type_init
from qom.hw import IsaDevice, Region

FAST_RESET, A20 = 0x01, 0x02


@type_init("port92")
class Port92(IsaDevice):
    """System control port A."""

    iobase: int = prop(0x92, "I/O port", type="uint16", base=16)

    control: int = state()

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "Port 92h: fast A20 and reset", "misc"

    def instance_init(self) -> None:
        """Declare the line."""
        self._a20 = self.gpio_out("a20")[0]

    def realize(self) -> None:
        """Take the port."""
        self.isa.map_ports(self.iobase, Region("port92", 1, self._read, self._write, (1, 1)))

    def reset(self) -> None:
        """Everything off; the keyboard controller has the gate open."""
        super().reset()
        self._a20.set(0)

    def state_loaded(self) -> None:
        """The line follows the register."""
        self._a20.set(1 if self.control & A20 else 0)

    def _read(self, offset: int, size: int) -> int:
        return self.control

    def _write(self, offset: int, value: int, size: int) -> None:
        rises = value & FAST_RESET and not self.control & FAST_RESET
        self.control = value
        self._a20.set(1 if value & A20 else 0)
        if rises:
            self.system.request_reset("port92")
