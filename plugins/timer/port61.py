"""Port 61h: NMI status and control, where a PC also keeps the speaker and the gate of counter 2.

Modelled: gate of counter 2, OUT2, the refresh toggle (15.085 us, from the clock), the enable bits.
Not modelled: sound, and the sources of NMI behind bits 6 and 7 (they read 0).
Guest view: one port; bits 0-3 can be written.

A program that polls OUT2 and reads the TSC in turn measures the one by the other (Linux does, and takes the least of three
results).  When the host takes the processor away for a while just before the read that shows the change, that program misses
the time that passed.  So while a program polls, a change that falls into a gap is shown by the read after it: as if the first
one, which was on its way already, had come in time.

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
GAP_NS = 50_000  # between two reads: who polls is not this slow
POLLS = 8  # so many reads without a gap are polling


@type_init("port61")
class Port61(IsaDevice):
    """NMI status and control."""

    iobase: int = prop(0x61, "I/O port", type="uint16", base=16)
    pit: I8254 = link("isa-pit", "Timer whose counter 2 is gated and shown", required=True)

    control: int = state(desc="Bits 0-3")
    read_at: int = state(desc="Guest time of the last read, ns")
    shown: int = state(desc="OUT2 as it was shown then")
    polls: int = state(desc="Reads without a gap")

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
        now = self.clock.now()
        refresh = now // REFRESH_NS & 1
        out = OUT2 if self.pit.out(2) else 0
        if now - self.read_at < GAP_NS:
            self.polls += 1
        else:
            if self.polls >= POLLS:
                out = self.shown
            self.polls = 0
        self.read_at, self.shown = now, out
        return self.control | (REFRESH if refresh else 0) | out

    def _write(self, offset: int, value: int, size: int) -> None:
        self.polls = 0
        self.control = value & WRITABLE
        self.pit.set_gate(2, value & GATE2)
