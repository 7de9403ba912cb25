"""Stopwatch: an invented ISA interval timer, for the tutorial and the tests.

Modelled: start, stop, alarm interrupt.  Not modelled: prescaler.
Guest view: two 32-bit ports at `iobase`, one edge on ISA line `irq`.
"""

from qom import IsaDevice, RealizeError, Region, prop, state, type_init

QOM_API = "1.0"

CTRL, LIMIT = 0x0, 0x4  # register offsets
RUN, DONE = 0x01, 0x80  # CTRL bits; DONE is read-only


@type_init("isa-stopwatch")
class Stopwatch(IsaDevice):
    iobase: int = prop(0x2A0, "First I/O port", type="uint16", base=16)
    irq: int = prop(5, "ISA interrupt line", among=range(16))
    tick_ns: int = prop(1000, "Guest nanoseconds per tick", unit="ns")
    ctrl: int = state()
    limit: int = state(reset=1000)

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = "Stopwatch (example)", "timer"

    def realize(self) -> None:
        if self.tick_ns <= 0:
            raise RealizeError(f"{self.path}: tick-ns must be positive, got {self.tick_ns}")
        self._line = self.isa.irq(self.irq)
        self._alarm = self.clock.timer(self._expire)
        self.isa.map_ports(self.iobase, Region("stopwatch", 8, self._read, self._write, (4, 4)))

    def reset(self) -> None:
        super().reset()  # every state() field goes back to its reset value
        self._alarm.cancel()

    def _read(self, offset: int, size: int) -> int:
        return self.ctrl if offset == CTRL else self.limit

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == LIMIT:
            self.limit = value  # the bus already masked it to `size` bytes
            return
        self.ctrl = value & RUN
        self._alarm.cancel()
        if self.ctrl:
            self._alarm.arm(self.limit * self.tick_ns)

    def _expire(self) -> None:
        self.ctrl = DONE
        self._line.pulse()
