"""IB700 watchdog: a timer that a guest has to start anew before it runs out.

Modelled: both of the board's ports, each with the alias that QEMU has behind it.  What follows when it runs out is
`-action watchdog=`; the timer then stands still until it is written again.
Guest view: ports 441h and 442h (any write stops the timer) and 443h and 444h (a write starts it: bits 3-0 are a code, 15
for no time at all, and two seconds more for each less).  Reads give ones.
Section: the table of codes in the manual of the IB700 single-board computer, as Linux's driver `ib700wdt` quotes it.
"""

from __future__ import annotations

from qom import IsaDevice, Region, state, type_init
from qom.hw import NS_PER_SECOND

STOP, START = 0x441, 0x443
PORTS = 2  # of each
CODE = 0x0F
SECONDS_PER_CODE = 2
IDLE = -1


@type_init("ib700")
class Ib700(IsaDevice):
    """A watchdog."""

    ends: int = state(reset=IDLE, desc="Guest time at which it fires, ns; -1: it stands still")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "iBASE 700 watchdog", "watchdog"

    def realize(self) -> None:
        """Claim the ports."""
        self._timer = self.clock.timer(self._fire)
        self.isa.map_ports(STOP, Region("ib700-stop", PORTS, None, self._write_stop, (1, 1)))
        self.isa.map_ports(START, Region("ib700-start", PORTS, None, self._write_start, (1, 1)))

    def place(self) -> str | None:
        """Its first port, for its automatic name."""
        return f"{STOP:x}"

    def reset(self) -> None:
        """The timer stands still."""
        super().reset()
        self._timer.cancel()

    def state_loaded(self) -> None:
        """The timer follows the state."""
        super().state_loaded()
        if self.ends == IDLE:
            self._timer.cancel()
        else:
            self._timer.arm_at(self.ends)

    def _write_stop(self, offset: int, value: int, size: int) -> None:
        self.ends = IDLE
        self._timer.cancel()

    def _write_start(self, offset: int, value: int, size: int) -> None:
        self.ends = self.clock.now() + (CODE - (value & CODE)) * SECONDS_PER_CODE * NS_PER_SECOND
        self._timer.arm_at(self.ends)

    def _fire(self) -> None:
        self.ends = IDLE
        self.system.watchdog_fired()
