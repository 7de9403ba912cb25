"""ISA debug exit: a port by which a guest test ends the machine with an exit status.

Writing v ends the machine with the status (v << 1) | 1, so that 0 never means "the guest said so".  Reads give 0.

Guest view: `iosize` ports at `iobase`, written with 1, 2 or 4 bytes.
"""

from __future__ import annotations

from qom import IsaDevice, Region, prop, type_init


@type_init("isa-debug-exit")
class IsaDebugExit(IsaDevice):
    """Ends the machine when written."""

    iobase: int = prop(0x501, "First I/O port", type="uint16", base=16)
    iosize: int = prop(2, "Number of I/O ports", type="uint32", min=1, max=8)

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Exit port for guest tests", "misc"

    def realize(self) -> None:
        """Claim the ports."""
        self.isa.map_ports(self.iobase, Region("debug-exit", self.iosize, self._read, self._write, (1, 4)))

    def _read(self, offset: int, size: int) -> int:
        return 0

    def _write(self, offset: int, value: int, size: int) -> None:
        self.system.request_shutdown("isa-debug-exit", code=value << 1 | 1, final=True)
