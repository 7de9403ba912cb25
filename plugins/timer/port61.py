"""Port 61h: NMI status and control, where a PC also keeps the speaker and the gate of counter 2.

Modelled: gate of counter 2, OUT2, the refresh toggle (15.085 us, from the clock), the enable bits.
Not modelled: sound, and the sources of NMI behind bits 6 and 7 (they read 0).
Guest view: one port; bits 0-3 can be written.

Section: 82371SB (PIIX3) data sheet 290550, NMISC.
"""

from __future__ import annotations

from plugins.timer.i8254 import I8254
from qom import link, prop, state, type_init
from qom.hw import IsaDevice, Region

GATE2, SPEAKER, SERR_ENABLE, IOCHK_ENABLE = 0x01, 0x02, 0x04, 0x08
REFRESH, OUT2 = 0x10, 0x20
WRITABLE = GATE2 | SPEAKER | SERR_ENABLE | IOCHK_ENABLE
REFRESH_NS = 15_085


@type_init("port61")
class Port61(IsaDevice):
    """NMI status and control."""

    iobase: int = prop(0x61, "I/O port", type="uint16", base=16)
    pit: I8254 = link("isa-pit", "Timer whose counter 2 is gated and shown", required=True)

    control: int = state(desc="Bits 0-3")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "Port 61h: counter 2 gate and output, refresh toggle", "timer"

    def realize(self) -> None:
        """Take the port."""
        self.isa.map_ports(self.iobase, Region("port61", 1, self._read, self._write, (1, 1)))

    def reset(self) -> None:
        """Everything off."""
        super().reset()
        self.pit.set_gate(2, 0)

    def _read(self, offset: int, size: int) -> int:
        refresh = self.clock.now() // REFRESH_NS & 1
        return self.control | (REFRESH if refresh else 0) | (OUT2 if self.pit.out(2) else 0)

    def _write(self, offset: int, value: int, size: int) -> None:
        self.control = value & WRITABLE
        self.pit.set_gate(2, value & GATE2)
