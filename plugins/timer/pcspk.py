"""Port 61h, NMI status and control, with what a PC keeps there besides: the speaker and the gate of counter 2.

Modelled: gate of counter 2, OUT2, the refresh toggle (15.085 us, from the clock), the enable bits; what the speaker does:
the tone that counter 2 gives it, and its cone where software moves it itself.
Not modelled: sound on the host (nothing is played; what would be heard are properties, state and a line), the sources of
NMI behind bits 6 and 7 (they read 0).
Guest view: one port; bits 0-3 can be written.

Looking in: `frequency` and `level` say what the speaker does now, `heard` when its tone changed and to what, `clicks` how
often software moved the cone without a tone; the output `sound` is 1 while there is a tone, so whatever watches lines
(`vm.observe`, a trace, qtest's irq_intercept_out) tells when it goes on and off.

A program that polls OUT2 and reads the TSC in turn measures the one by the other (Linux does, and takes the least of three
results).  When the host takes the processor away for a while just before the read that shows the change, that program misses
the time that passed.  So while a program polls, a change that falls into a gap is shown by the read after it: as if the first
one, which was on its way already, had come in time.

Section: 82371SB (PIIX3) data sheet 290550, NMISC.
"""

from __future__ import annotations

from plugins.timer.i8254 import CLK_HZ, I8254
from qom import link, prop, state, type_init
from qom.hw import IsaDevice, Region

GATE2, SPEAKER, SERR_ENABLE, IOCHK_ENABLE = 0x01, 0x02, 0x04, 0x08
REFRESH, OUT2 = 0x10, 0x20
WRITABLE = GATE2 | SPEAKER | SERR_ENABLE | IOCHK_ENABLE
REFRESH_NS = 15_085
GAP_NS = 50_000  # between two reads: who polls is not this slow
POLLS = 8  # so many reads without a gap are polling
COUNTER = 2  # of the timer, which gives the tone
HEARD_MAX = 256  # changes that are kept


@type_init("isa-pcspk", aliases=("port61",))
class PcSpeaker(IsaDevice):
    """NMI status and control, and the speaker."""

    iobase: int = prop(0x61, "I/O port", type="uint16", base=16)
    pit: I8254 = link("isa-pit", "Timer whose counter 2 is gated and shown", required=True)
    frequency: int = prop(
        0,
        "Frequency of the tone that sounds, to the nearest; 0: none does",
        get=lambda speaker: speaker.tone,
        unit="Hz",
        volatile=True,
        type="uint32",
    )
    level: bool = prop(False, "Whether the cone is pushed out now", get=lambda speaker: speaker.cone(), volatile=True)

    control: int = state(desc="Bits 0-3")
    read_at: int = state(desc="Guest time of the last read, ns")
    shown: int = state(desc="OUT2 as it was shown then")
    polls: int = state(desc="Reads without a gap")
    tone: int = state(desc="Frequency of the tone that sounds, Hz; 0: none does")
    heard: list[list[int]] = state(factory=list, desc="The last 256 changes of the tone: when (ns), to what (Hz)")
    clicks: int = state(desc="How often software moved the cone without a tone since the reset")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "PC speaker and port 61h", "sound"

    def instance_init(self) -> None:
        """Declare the line; it ends at the cone, so that it can be watched."""
        self._sound = self.gpio_out("sound")[0]
        self._sound.connect(self.gpio_in("cone", 1, _nobody_listens)[0])

    def realize(self) -> None:
        """Take the port; hear of counter 2."""
        self._changes = self.clock.timer(self._follow)
        self.pit.watch(COUNTER, self._follow)
        self.on_unrealize(lambda: self.pit.unwatch(COUNTER, self._follow))
        self.isa.map_ports(self.iobase, Region("port61", 1, self._read, self._write, (1, 1)))

    def reset(self) -> None:
        """Everything off."""
        super().reset()
        self._changes.cancel()
        self._sound.set(0)
        self.pit.set_gate(COUNTER, 0)

    def state_loaded(self) -> None:
        """The line follows the tone; the timer tells of itself when its own state is loaded."""
        super().state_loaded()
        self._sound.set(1 if self.tone else 0)
        self._expect_change()

    def _read(self, offset: int, size: int) -> int:
        now = self.clock.now()
        refresh = now // REFRESH_NS & 1
        out = OUT2 if self.pit.out(COUNTER) else 0
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
        before, silent = self.cone(), not self.tone
        self.control = value & WRITABLE
        self.pit.set_gate(COUNTER, value & GATE2)
        self._follow()
        if silent and not self.tone and self.cone() != before:
            self.clicks += 1

    # -- the speaker

    def cone(self) -> bool:
        """Where the cone is now: OUT2, while port 61h lets it through."""
        return bool(self.control & SPEAKER) and self.pit.out(COUNTER)

    def _follow(self) -> None:
        """Note what sounds now."""
        period = self.pit.period(COUNTER) if self.control & SPEAKER else 0
        tone = (CLK_HZ + period // 2) // period if period else 0
        if tone != self.tone:
            self.tone = tone
            self.heard = [*self.heard[1 - HEARD_MAX :], [self.clock.now(), tone]]
            self._sound.set(1 if tone else 0)
        self._expect_change()

    def _expect_change(self) -> None:
        """A count written while a tone sounds takes effect with the next half period."""
        at = self.pit.next_period_at(COUNTER) if self.tone else None
        if at is None:
            self._changes.cancel()
        else:
            self._changes.arm_at(at)


def _nobody_listens(n: int, level: int) -> None:
    """The end of the line: there is no air here."""
