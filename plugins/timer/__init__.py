"""Timers and clocks: the 8254 with port 61h, the MC146818 clock and its CMOS memory, the HPET."""

QOM_MODULES = ("i8254", "pcspk", "mc146818", "hpet")
