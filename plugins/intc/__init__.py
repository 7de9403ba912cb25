"""Interrupt controllers: the 8259A pair, the I/O APIC, the local APIC."""

QOM_MODULES = ("i8259", "ioapic", "apic")
