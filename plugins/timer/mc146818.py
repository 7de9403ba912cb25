"""Motorola MC146818 real-time clock with its CMOS memory.

Modelled: time, date and century in BCD or binary, 12 or 24 hours; SET and the divider; update-in-progress; alarm,
periodic and update-ended interrupts; 114 bytes of CMOS memory, with `extended` 128 more behind a second pair of ports.
Not modelled: daylight saving (DSE), the square-wave pin, the battery (it is always good).
Guest view: index and data at `iobase`, the second bank's at `iobase` + 2; ISA line `irq`.

No host date is read: `base` is the date at guest time 0.  Nothing ticks: the time follows from the clock, and flags are
worked out when register C is read or an enabled interrupt is due.  Battery-backed state survives every reset.
An alarm whose interrupt is enabled wakes a suspended machine.
When the guest sets the time, the event RTC_CHANGE tells by how many seconds it now differs from that of an untouched clock.

Sections: MC146818A data sheet, Motorola 1984.  Century byte: the PC's convention.
"""

from __future__ import annotations

import time
from datetime import date, datetime

from qom import Object, PropertyError, prop, state, type_init
from qom.hw import NS_PER_SECOND, IsaDevice, Region, WakeReason

INDEX, DATA, INDEX2, DATA2 = 0, 1, 2, 3  # port offsets
NMI_OFF = 0x80  # in the index

SECONDS, SECONDS_ALARM, MINUTES, MINUTES_ALARM, HOURS, HOURS_ALARM = range(6)
WEEKDAY, DAY, MONTH, YEAR, REG_A, REG_B, REG_C, REG_D = range(6, 14)
CENTURY, CENTURY_PS2 = 0x32, 0x37
TIME_REGISTERS = frozenset((SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY, CENTURY_PS2))

UIP, DIVIDER, DIVIDER_RUNS, RATE = 0x80, 0x70, 0x20, 0x0F  # A; the divider runs at 010, and resets at 11x
DIVIDER_RESET = 0x60
SET, PIE, AIE, UIE, SQWE, BINARY, HOURS_24 = 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02  # B
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10  # C
VRT = 0x80  # D: battery good
PM = 0x80  # HOURS in 12-hour mode
ANY = 0xC0  # an alarm byte from here on matches everything

UIP_NS = 244_141  # UIP is set this long before an update
HALF_SECOND = NS_PER_SECOND // 2
TICKS_HZ = 32_768
BANK = 128


def _seconds(text: str) -> int:
    """Seconds since 1970 of a date like 2024-02-29T12:00:00 (UTC)."""
    when = datetime.fromisoformat(text)
    return _since_1970(when.year, when.month, when.day, when.hour, when.minute, when.second)


def _since_1970(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int:
    """Seconds; day and time of day may be beyond what a calendar has, and count on."""
    days = date(year, month, 1).toordinal() - date(1970, 1, 1).toordinal() + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def _check_base(device: Object, text: str) -> None:
    try:
        _seconds(text)
    except ValueError:
        raise PropertyError(device.path, "base", text, "a date and time like 2024-02-29T12:00:00") from None


def _date(rtc: Mc146818) -> dict[str, int]:
    return rtc.struct_tm()


@type_init("mc146818rtc")
class Mc146818(IsaDevice):
    """Real-time clock of a PC."""

    iobase: int = prop(0x70, "First I/O port", type="uint16", base=16)
    irq: int = prop(8, "ISA interrupt line", type="uint8", max=15)
    base: str = prop("2000-01-01T00:00:00", "Date and time when guest time begins", set=_check_base)
    extended: bool = prop(False, "Whether there is a second bank of 128 bytes")
    date: dict[str, int] = prop(
        {}, "Date and time now, as C's struct tm counts: months from 0, years from 1900", get=_date, volatile=True
    )

    cmos: bytearray = state(factory=lambda: bytearray(2 * BANK), keep=True, desc="Both banks")
    index: int = state()
    index2: int = state()
    epoch: int = state(0, keep=True, desc="Nanoseconds from 1970 to guest time 0, by this clock")
    first_epoch: int = state(0, keep=True, desc="The same, had the guest never set the clock")
    weekday_shift: int = state(0, keep=True, desc="What the guest's day of the week is ahead of the calendar's")
    flags: int = state(desc="Register C")
    seen: int = state(0, keep=True, desc="Guest time up to which events are in `flags`")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "MC146818 real-time clock and CMOS memory", "timer"

    def realize(self) -> None:
        """Set the date; take the ports and the line."""
        self._line = self.isa.irq(self.irq)
        self._timer = self.clock.timer(self._event, asleep=True)
        self.epoch = self.first_epoch = _seconds(self.base) * NS_PER_SECOND - self.clock.now()
        self.seen = self.clock.now()
        self.cmos[REG_A], self.cmos[REG_B], self.cmos[REG_D] = 0x26, HOURS_24, VRT
        size = 4 if self.extended else 2
        self.isa.map_ports(self.iobase, Region("rtc", size, self._read, self._write, (1, 1)))

    def reset(self) -> None:
        """RESET#: interrupts off and forgotten; time and memory stay."""
        super().reset()
        self.cmos[REG_B] &= ~(PIE | AIE | UIE | SQWE)
        self.seen = self.clock.now()
        self._line.lower()
        self._timer.cancel()

    def state_loaded(self) -> None:
        """The line and the timer follow the flags."""
        super().state_loaded()
        self._line.set(1 if self.flags & IRQF else 0)
        self._arm()

    # -- for the board

    def get_cmos(self, index: int) -> int:
        """CMOS byte 0..255."""
        return self._read_byte(index)

    def set_cmos(self, index: int, value: int) -> None:
        """Set a CMOS byte 0..255, as a program would."""
        self._write_byte(index, value & 0xFF)

    def advance(self, ns: int) -> None:
        """Let time jump by so many nanoseconds, also back; alarms that it jumps over do not come."""
        self._collect()
        self.epoch += ns
        self.first_epoch += ns
        self._arm()

    def struct_tm(self) -> dict[str, int]:
        """The date and time that a program would read now, by the names of C's struct tm; empty until it is realized."""
        if not self.realized:
            return {}
        if self._runs():
            self._show_time()
        cmos, value = self.cmos, self._decode
        return {
            "tm_year": value(cmos[CENTURY]) * 100 + value(cmos[YEAR]) - 1900,
            "tm_mon": value(cmos[MONTH]) - 1,
            "tm_mday": value(cmos[DAY]),
            "tm_hour": self._decode_hour(cmos[HOURS]),
            "tm_min": value(cmos[MINUTES]),
            "tm_sec": value(cmos[SECONDS]),
        }

    # -- ports

    def _read(self, offset: int, size: int) -> int:
        if offset == DATA:
            return self._read_byte(self.index)
        if offset == DATA2:
            return self.cmos[BANK + self.index2]
        return 0xFF

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == INDEX:
            self.index = value & ~NMI_OFF
        elif offset == DATA:
            self._write_byte(self.index, value)
        elif offset == INDEX2:
            self.index2 = value & ~NMI_OFF
        else:
            self.cmos[BANK + self.index2] = value

    def _read_byte(self, index: int) -> int:
        if index in TIME_REGISTERS:
            if self._runs():
                self._show_time()
        elif index == REG_A:
            return self.cmos[REG_A] | (UIP if self._updates_soon() else 0)
        elif index == REG_C:
            self._collect()
            value, self.flags = self.flags, 0
            self._line.lower()
            self._arm()
            return value
        return self.cmos[index]

    def _write_byte(self, index: int, value: int) -> None:
        cmos = self.cmos
        if index in TIME_REGISTERS:
            if index == CENTURY_PS2:
                index = CENTURY
            if self._runs():
                self._collect()
                self._show_time()
                cmos[index] = value
                self._take_time()
                self._arm()
            cmos[index] = value
            cmos[CENTURY_PS2] = cmos[CENTURY]
        elif index in (SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM):
            self._collect()
            cmos[index] = value
            self._arm()
        elif index == REG_A:
            self._control(value & ~UIP, cmos[REG_B])
        elif index == REG_B:
            self._control(cmos[REG_A], value)
        elif index not in (REG_C, REG_D):  # these are read-only
            cmos[index] = value

    def _control(self, a: int, b: int) -> None:
        """Registers A and B change: time may stop, run on, or begin anew with its divider."""
        self._collect()
        cmos = self.cmos
        if b & SET:
            b &= ~UIE  # p. 11: SET clears UIE
        ran, was_reset = self._runs(), cmos[REG_A] & DIVIDER_RESET == DIVIDER_RESET
        if ran:
            self._show_time()
        cmos[REG_A], cmos[REG_B] = a, b
        if self._runs() and not ran:
            self._take_time(0 if not was_reset else HALF_SECOND)
        self._raise_if_due()
        self._arm()

    # -- time

    def _runs(self) -> bool:
        return not self.cmos[REG_B] & SET and self.cmos[REG_A] & DIVIDER == DIVIDER_RUNS

    def _updates_soon(self) -> bool:
        return self._runs() and (self.epoch + self.clock.now()) % NS_PER_SECOND >= NS_PER_SECOND - UIP_NS

    def _show_time(self) -> None:
        """Put the present time into the registers."""
        now = time.gmtime((self.epoch + self.clock.now()) // NS_PER_SECOND)
        cmos, code = self.cmos, self._encode
        cmos[SECONDS], cmos[MINUTES] = code(now.tm_sec), code(now.tm_min)
        hour = now.tm_hour
        if cmos[REG_B] & HOURS_24:
            cmos[HOURS] = code(hour)
        else:
            cmos[HOURS] = code(hour % 12 or 12) | (PM if hour >= 12 else 0)
        cmos[WEEKDAY] = code((now.tm_wday + 1 + self.weekday_shift) % 7 + 1)
        cmos[DAY], cmos[MONTH], cmos[YEAR] = code(now.tm_mday), code(now.tm_mon), code(now.tm_year % 100)
        cmos[CENTURY] = cmos[CENTURY_PS2] = code(now.tm_year // 100 % 100)

    def _take_time(self, fraction: int | None = None) -> None:
        """Run on from what the registers say; the phase within the second stays, unless the divider was reset."""
        cmos, value = self.cmos, self._decode
        month = min(max(value(cmos[MONTH]), 1), 12)
        year = min(max(value(cmos[CENTURY]) * 100 + value(cmos[YEAR]), 1), 9999)  # what the calendar can count
        hour = self._decode_hour(cmos[HOURS])
        seconds = _since_1970(year, month, value(cmos[DAY]), hour, value(cmos[MINUTES]), value(cmos[SECONDS]))
        now = self.clock.now()
        if not fraction:
            fraction = (self.epoch + now) % NS_PER_SECOND
        self.epoch = seconds * NS_PER_SECOND + fraction - now
        weekday = (time.gmtime(seconds).tm_wday + 1) % 7
        self.weekday_shift = (value(cmos[WEEKDAY]) - 1 - weekday) % 7
        offset = seconds - (self.first_epoch + now) // NS_PER_SECOND
        self.system.emit("RTC_CHANGE", **{"offset": offset, "qom-path": self.path})

    def _encode(self, value: int) -> int:
        return value if self.cmos[REG_B] & BINARY else value // 10 << 4 | value % 10

    def _decode(self, value: int) -> int:
        return value if self.cmos[REG_B] & BINARY else (value >> 4) * 10 + (value & 0xF)

    def _decode_hour(self, value: int) -> int:
        if self.cmos[REG_B] & HOURS_24:
            return self._decode(value)
        return self._decode(value & ~PM) % 12 + (12 if value & PM else 0)

    # -- events

    def _period(self) -> int:
        """Ticks of 32768 Hz between periodic interrupts, or 0 (table 3)."""
        rate = self.cmos[REG_A] & RATE
        if not rate or self.cmos[REG_A] & DIVIDER != DIVIDER_RUNS:
            return 0
        return 1 << (rate + 6 if rate <= 2 else rate - 1)

    def _next_update(self, after: int) -> int | None:
        """Guest time of the first update later than `after`."""
        if not self._runs():
            return None
        return ((self.epoch + after) // NS_PER_SECOND + 1) * NS_PER_SECOND - self.epoch

    def _next_period(self, after: int) -> int | None:
        """Guest time of the first periodic event later than `after`."""
        period = self._period()
        if not period:
            return None
        n = (self.epoch + after) * TICKS_HZ // NS_PER_SECOND // period + 1
        return -(-n * period * NS_PER_SECOND // TICKS_HZ) - self.epoch

    def _next_alarm(self, after: int) -> int | None:
        """Guest time of the first alarm later than `after`."""
        if not self._runs():
            return None
        cmos = self.cmos
        seconds, minutes, hours = cmos[SECONDS_ALARM], cmos[MINUTES_ALARM], cmos[HOURS_ALARM]
        want_second = None if seconds >= ANY else self._decode(seconds)
        want_minute = None if minutes >= ANY else self._decode(minutes)
        want_hour = None if hours >= ANY else self._decode_hour(hours)
        if (want_second or 0) > 59 or (want_minute or 0) > 59 or (want_hour or 0) > 23:
            return None  # a time that never comes
        at = (self.epoch + after) // NS_PER_SECOND + 1
        limit = at + 90_000  # more than a day: what did not match by then never will
        while at < limit:
            if want_hour is not None and at // 3600 % 24 != want_hour:
                at += 3600 - at % 3600
            elif want_minute is not None and at // 60 % 60 != want_minute:
                at += 60 - at % 60
            elif want_second is not None and at % 60 != want_second:
                at += 1
            else:
                return at * NS_PER_SECOND - self.epoch
        return None

    def _collect(self) -> None:
        """Set the flags of what happened since the last time."""
        now, seen = self.clock.now(), self.seen
        for flag, follow in ((UF, self._next_update), (PF, self._next_period), (AF, self._next_alarm)):
            if not self.flags & flag:
                at = follow(seen)
                if at is not None and at <= now:
                    self.flags |= flag
        self.seen = now

    def _raise_if_due(self) -> None:
        """IRQF follows the flags that are enabled; it falls only when C is read."""
        if self.flags & self.cmos[REG_B] & (PF | AF | UF) and not self.flags & IRQF:
            self.flags |= IRQF
            self._line.raise_()

    def _arm(self) -> None:
        """Wait for the next enabled event; while the line is high none can change it."""
        times = []
        if not self.flags & IRQF:
            enabled = self.cmos[REG_B]
            for bit, follow in ((UIE, self._next_update), (PIE, self._next_period), (AIE, self._next_alarm)):
                if enabled & bit and (at := follow(self.seen)) is not None:
                    times.append(at)
        if times:
            self._timer.arm_at(min(times))
        else:
            self._timer.cancel()

    def _event(self) -> None:
        self._collect()
        if self.flags & AF & self.cmos[REG_B]:
            self.system.wake(WakeReason.RTC)
        self._raise_if_due()
        self._arm()
