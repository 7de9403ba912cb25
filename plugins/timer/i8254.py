"""Intel 8254 programmable interval timer.

Modelled: three counters in all six modes, binary and BCD, counter latch, read-back of count and status, gates, OUT.
A count written while modes 2 and 3 run takes effect at the end of the (half) period, as the data sheet says.
Not modelled: the one CLK by which loading a count lags behind the write.
Guest view: four ports at `iobase`; output [0] is OUT0 (IRQ 0 in a PC), which is not followed while `set_off(1)` holds: it leads
nowhere then, and the host is spared its edges.  `out(n)` and `set_gate(n, level)` are the other pins, for port 61h, which
watches counter 2 for the speaker.  A counter is never stepped: what it shows follows from when it was started, in ticks of
CLK.

Sections: "8254 Programmable Interval Timer", Intel 231164-005.
"""

from __future__ import annotations

from collections.abc import Callable

from qom import prop, records, state, type_init
from qom.hw import NS_PER_SECOND, IsaDevice, Region

CLK_HZ = 1_193_182
CONTROL = 3  # port offset; 0..2 are the counters

# Control word
SELECT_SHIFT, READ_BACK = 6, 3
ACCESS_SHIFT, LATCH, LOW, HIGH, BOTH = 4, 0, 1, 2, 3
MODE_SHIFT, BCD = 1, 0x01
# Read-back command and status
NO_COUNT, NO_STATUS = 0x20, 0x10
STATUS_OUT, STATUS_NULL = 0x80, 0x40

TERMINAL_COUNT, ONE_SHOT, RATE, SQUARE, SOFTWARE_STROBE, HARDWARE_STROBE = range(6)
TRIGGERED = (ONE_SHOT, HARDWARE_STROBE)  # start with a rising gate
PERIODIC = (RATE, SQUARE)


@records.define
class Counter:
    """One counter.  Counting began at tick `start` (elapsed 0); while the gate holds it, `held` is what had elapsed."""

    mode: int = SQUARE
    bcd: bool = False
    access: int = BOTH
    gate: bool = True
    count: int = 0x10000  # initial count in effect
    start: int = 0
    held: int | None = None
    counting: bool = True  # a count was loaded since the control word, and in modes 1 and 5 a trigger came
    loaded: bool = True  # a count was written since the control word
    next_count: int | None = None  # takes effect at elapsed `next_at`, or with the next trigger
    next_at: int = 0
    next_low: bool = False  # mode 3: at `next_at` the low half begins
    low_written: int | None = None  # first half of a two-byte count
    high_next: bool = False  # the second half is read next
    latched: list[int] = records.field(factory=list)  # bytes of a latched count
    status: int | None = None  # latched status

    def modulus(self) -> int:
        """Where the count wraps."""
        return 10_000 if self.bcd else 0x10000

    def elapsed(self, tick: int) -> int:
        """CLK ticks counted since the count was loaded; a new count whose time has come is in effect afterwards."""
        if self.held is not None:
            return self.held
        ticks = tick - self.start
        if self.next_count is not None and self.mode in PERIODIC and self.counting and ticks >= self.next_at:
            at, self.count, self.next_count = self.start + self.next_at, self.next_count, None
            self.start = at - self.high_ticks() if self.next_low else at
            ticks = tick - self.start
        return ticks

    def high_ticks(self) -> int:
        """Mode 3: how long OUT is high in each period."""
        return (self.count + 1) // 2

    def value(self, tick: int) -> int:
        """What the counting element holds."""
        if not self.counting:
            return self.count % self.modulus()
        ticks, mode = self.elapsed(tick), self.mode
        count = self.count  # after elapsed(), which may change it
        if mode == RATE:
            value = count - ticks % count
        elif mode == SQUARE:
            phase = ticks % count
            high = (count + 1) // 2
            value = (count & ~1) - 2 * (phase if phase < high else phase - high)
        else:
            value = count - ticks
        return value % self.modulus()

    def out(self, tick: int) -> bool:
        """Level of OUT."""
        mode = self.mode
        if not self.counting:
            return mode != TERMINAL_COUNT
        if mode in PERIODIC and not self.gate:
            return True
        ticks = self.elapsed(tick)
        if mode in (TERMINAL_COUNT, ONE_SHOT):
            return ticks >= self.count
        if mode == RATE:
            return ticks % self.count != self.count - 1
        if mode == SQUARE:
            return ticks % self.count < self.high_ticks()
        return ticks != self.count

    def next_edge(self, tick: int) -> int | None:
        """The tick, later than `tick`, of the next edge of OUT that matters: one-tick pulses count by their end."""
        if not self.counting or self.held is not None:
            return None
        ticks, mode = self.elapsed(tick), self.mode
        count = self.count  # after elapsed(), which may change it
        if mode == RATE:
            at = (ticks // count + 1) * count
        elif mode == SQUARE:
            period, high = ticks - ticks % count, self.high_ticks()
            at = period + high if ticks < period + high else period + count
        elif mode in (TERMINAL_COUNT, ONE_SHOT):
            at = count
        else:
            at = count + 1
        if self.next_count is not None and mode in PERIODIC and ticks < self.next_at:
            at = min(at, self.next_at)
        return self.start + at if at > ticks else None


@type_init("isa-pit")
class I8254(IsaDevice):
    """The timer of a PC."""

    iobase: int = prop(0x40, "First of four I/O ports", type="uint16", base=16)

    off: int = state(keep=True, desc="Whether OUT0 leads nowhere")
    counters: list[Counter] = state(factory=lambda: [Counter(), Counter(), Counter(gate=False)])

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "8254 interval timer", "timer"

    def instance_init(self) -> None:
        """Declare the lines."""
        self._out0 = self.gpio_out(None)[0]
        self._watchers: dict[int, list[Callable[[], None]]] = {}

    def realize(self) -> None:
        """Take the ports and the timer behind OUT0."""
        self._timer = self.clock.timer(self._edge)
        self._edge_tick = 0
        self.isa.map_ports(self.iobase, Region("pit", 4, self._read, self._write, (1, 1)))

    def reset(self) -> None:
        """The chip has no reset; as firmware finds it here, all counters run in mode 3 from 65536."""
        super().reset()
        now = self._tick()
        for counter in self.counters:
            counter.start = now
        counter = self.counters[2]
        counter.held = 0
        self._follow()

    def state_loaded(self) -> None:
        """Follow OUT0 from there."""
        super().state_loaded()
        self._follow()
        for n in self._watchers:
            self._changed(n)

    def watch(self, n: int, call: Callable[[], None]) -> None:
        """Have `call` called whenever software has changed what counter `n` does, or its gate."""
        self._watchers.setdefault(n, []).append(call)

    def unwatch(self, n: int, call: Callable[[], None]) -> None:
        """Undo `watch`."""
        self._watchers[n].remove(call)

    def _changed(self, n: int) -> None:
        if n == 0:
            self._follow()
        for call in self._watchers.get(n, ()):
            call()

    # -- pins

    def out(self, n: int) -> bool:
        """Level of OUT of counter `n` now."""
        return self.counters[n].out(self._tick())

    def period(self, n: int) -> int:
        """CLK ticks from one period of OUT of counter `n` to the next; 0 while it has none."""
        counter = self.counters[n]
        if counter.mode not in PERIODIC or not counter.counting or counter.held is not None:
            return 0
        counter.elapsed(self._tick())
        return counter.count

    def next_period_at(self, n: int) -> int | None:
        """When the count that was written to counter `n` takes effect, in guest ns; None when none waits."""
        counter = self.counters[n]
        if counter.next_count is None or not self.period(n) or counter.next_count is None:
            return None
        return -(-(counter.start + counter.next_at) * NS_PER_SECOND // CLK_HZ)

    def set_gate(self, n: int, level: int) -> None:
        """Drive GATE of counter `n`: low holds modes 0, 2, 3, 4; a rising edge starts 1, 2, 3, 5 anew (p. 17)."""
        counter, up = self.counters[n], bool(level)
        if up == counter.gate:
            return
        tick = self._tick()
        ticks = counter.elapsed(tick)
        counter.gate = up
        mode = counter.mode
        if mode in TRIGGERED:
            if up and counter.loaded:
                self._load(counter, tick)
        elif not counter.counting:
            pass
        elif not up:
            counter.held = ticks
        elif mode in PERIODIC:
            self._load(counter, tick)
        elif counter.held is not None:
            counter.start, counter.held = tick - counter.held, None
        self._changed(n)

    def set_off(self, level: int) -> None:
        """Say that OUT0 leads nowhere (1), so that nobody need follow it, or somewhere again (0)."""
        if level != self.off:
            self.off = level
            self._follow()

    # -- ports

    def _read(self, offset: int, size: int) -> int:
        if offset == CONTROL:
            return 0
        counter = self.counters[offset]
        if counter.status is not None:
            status, counter.status = counter.status, None
            return status
        if counter.latched:
            return counter.latched.pop(0)
        value = _shown(counter, self._tick())
        if counter.access == BOTH:
            counter.high_next = not counter.high_next
            return value & 0xFF if counter.high_next else value >> 8
        return value & 0xFF if counter.access == LOW else value >> 8

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == CONTROL:
            self._control(value)
            return
        counter = self.counters[offset]
        if counter.access == BOTH:
            if counter.low_written is None:
                counter.low_written = value
                if counter.mode == TERMINAL_COUNT:
                    counter.counting = False  # the first byte stops the counter (p. 11)
                    self._changed(offset)
                return
            value, counter.low_written = value << 8 | counter.low_written, None
        elif counter.access == HIGH:
            value <<= 8
        self._count_written(offset, counter, value)

    def _control(self, value: int) -> None:
        select = value >> SELECT_SHIFT
        if select == READ_BACK:
            for n, counter in enumerate(self.counters):
                if value >> n & 2:
                    if not value & NO_COUNT:
                        self._latch(counter)
                    if not value & NO_STATUS and counter.status is None:
                        counter.status = self._status(counter)
            return
        counter = self.counters[select]
        access = value >> ACCESS_SHIFT & 3
        if access == LATCH:
            self._latch(counter)
            return
        mode = value >> MODE_SHIFT & 7
        tick = self._tick()
        counter.count = counter.value(tick) or counter.modulus()  # what is read until a count is written
        counter.mode = mode if mode <= HARDWARE_STROBE else mode & 3
        counter.access, counter.bcd = access, bool(value & BCD)
        counter.low_written = counter.next_count = counter.status = counter.held = None
        counter.latched.clear()
        counter.high_next = counter.loaded = counter.counting = False
        self._changed(select)

    def _status(self, counter: Counter) -> int:
        tick = self._tick()
        out = counter.out(tick)
        null = not counter.loaded or counter.next_count is not None
        status = counter.access << ACCESS_SHIFT | counter.mode << MODE_SHIFT | counter.bcd
        return (STATUS_OUT if out else 0) | (STATUS_NULL if null else 0) | status

    def _latch(self, counter: Counter) -> None:
        if counter.latched:
            return  # a count stays latched until it is read
        value = _shown(counter, self._tick())
        low, high = value & 0xFF, value >> 8
        counter.latched = {LOW: [low], HIGH: [high], BOTH: [low, high]}[counter.access]

    def _count_written(self, n: int, counter: Counter, value: int) -> None:
        if counter.bcd:
            value = sum((value >> 4 * i & 0xF) * 10**i for i in range(4))
        count = value or counter.modulus()
        tick = self._tick()
        mode = counter.mode
        if mode in PERIODIC:
            count = max(count, 2)  # 1 is illegal there (p. 14)
        first = not counter.loaded
        ticks = counter.elapsed(tick)
        counter.loaded = True
        counter.next_count = count
        if mode in TRIGGERED:
            if first:
                counter.count = count
        elif mode in PERIODIC and not first and counter.counting:
            period, high = ticks - ticks % counter.count, counter.high_ticks()
            counter.next_low = mode == SQUARE and ticks < period + high
            counter.next_at = period + (high if counter.next_low else counter.count)
        else:
            self._load(counter, tick)
        self._changed(n)

    def _load(self, counter: Counter, tick: int) -> None:
        """Start counting from the count last written; a low gate holds it at once, save in modes 1 and 5."""
        if counter.next_count is not None:
            counter.count, counter.next_count = counter.next_count, None
        counter.counting = True
        counter.start = tick
        counter.held = None if counter.gate or counter.mode in TRIGGERED else 0

    # -- OUT0

    def _tick(self) -> int:
        return self.clock.now() * CLK_HZ // NS_PER_SECOND

    def _follow(self) -> None:
        """Drive OUT0 as it is now and arrange for its next edge."""
        if self.off:
            self._timer.cancel()
            return
        tick = self._tick()
        self._drive(self.counters[0].out(tick))
        self._arm(tick)

    def _arm(self, tick: int) -> None:
        at = self.counters[0].next_edge(tick)
        if at is None:
            self._timer.cancel()
        else:
            self._edge_tick = at
            self._timer.arm_at(-(-at * NS_PER_SECOND // CLK_HZ))

    def _edge(self) -> None:
        """An edge is due.  It may be served late, so its own tick counts, not the present one."""
        tick = self._edge_tick
        counter = self.counters[0]
        if counter.mode not in (TERMINAL_COUNT, ONE_SHOT, SQUARE):
            self._drive(False)  # the pulse that ends here
        self._drive(counter.out(tick))
        self._arm(tick)

    def _drive(self, level: bool) -> None:
        pin = self._out0
        if level != pin.level:
            pin.set(1 if level else 0)


def _shown(counter: Counter, tick: int) -> int:
    """The count as it is read: in BCD four digits."""
    value = counter.value(tick)
    return int(f"{value:d}", 16) if counter.bcd else value
