"""The MP table of a PC: processors, buses, the I/O APIC and its lines, for kernels that do without ACPI.

Built: floating pointer and configuration table with processor, bus, I/O APIC, I/O interrupt and local interrupt entries.
Not built: the extended entries (address spaces, bus hierarchy).

Reference: MultiProcessor Specification 1.4 (Intel 242016), chapter 4.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from qom import records

__all__ = ["POINTER_CHECKSUM", "MpConfig", "MpTable", "build"]

POINTER_CHECKSUM, TABLE_CHECKSUM = 10, 7  # offsets
HEADER_SIZE = 44
SPEC_1_4 = 4

PROCESSOR, BUS, IO_APIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)  # entry types
ENABLED, BOOTSTRAP = 0x01, 0x02  # processor flags
INT, NMI, SMI, EXTINT = range(4)  # interrupt types
CONFORMS, ACTIVE_HIGH, LEVEL = 0x0, 0x1, 0xC  # interrupt flags: polarity, trigger mode
APIC_VERSION, IO_APIC_VERSION = 0x14, 0x11
PCI_BUS, ISA_BUS = 0, 1
ALL_APICS = 0xFF
CASCADE, TIMER_PIN = 2, 2


@records.frozen(kw_only=True)
class MpConfig:
    """What the table says.

    apic_ids: of the processors, the first one starts.  signature, features: CPUID 1 EAX, EDX.  pci_routes: (slot, pin, line)
    of each PCI interrupt.  level_lines: lines that PCI and the SCI drive.
    """

    apic_ids: Sequence[int]
    signature: int = 0
    features: int = 0
    apic_base: int = 0xFEE0_0000
    ioapic_id: int = 0
    ioapic_base: int = 0xFEC0_0000
    pci_routes: Sequence[tuple[int, int, int]] = ()
    level_lines: Sequence[int] = (9, 10, 11)
    oem_id: str = "QOM"
    product_id: str = "PC"


@records.frozen
class MpTable:
    """Floating pointer, with the table's address 0 and no checksum yet, and the table."""

    pointer: bytes
    table: bytes


def build(config: MpConfig) -> MpTable:
    """Build both.  A processor whose APIC id does not fit into 8 bits is left out, as the format demands."""
    entries: list[bytes] = []
    for number, apic_id in enumerate(config.apic_ids):
        if apic_id < ALL_APICS:
            flags = ENABLED | (BOOTSTRAP if number == 0 else 0)
            entries.append(
                struct.pack("<BBBBII8x", PROCESSOR, apic_id, APIC_VERSION, flags, config.signature, config.features)
            )
    entries.append(struct.pack("<BB6s", BUS, PCI_BUS, b"PCI   "))
    entries.append(struct.pack("<BB6s", BUS, ISA_BUS, b"ISA   "))
    entries.append(struct.pack("<BBBBI", IO_APIC, config.ioapic_id, IO_APIC_VERSION, ENABLED, config.ioapic_base))

    def line(kind: int, flags: int, bus: int, source: int, pin: int) -> bytes:
        return struct.pack("<BBHBBBB", IO_INTERRUPT, kind, flags, bus, source, config.ioapic_id, pin)

    for slot, pin, number in config.pci_routes:
        entries.append(line(INT, ACTIVE_HIGH | LEVEL, PCI_BUS, slot << 2 | pin, number))
    routed = {number for _, _, number in config.pci_routes}
    for number in range(16):
        if number != CASCADE and number not in routed:
            flags = ACTIVE_HIGH | LEVEL if number in config.level_lines else CONFORMS
            entries.append(line(INT, flags, ISA_BUS, number, number or TIMER_PIN))
    for kind, pin in ((EXTINT, 0), (NMI, 1)):
        entries.append(struct.pack("<BBHBBBB", LOCAL_INTERRUPT, kind, CONFORMS, ISA_BUS, 0, ALL_APICS, pin))
    body = b"".join(entries)
    header = struct.pack(
        "<4sHBB8s12sIHHIHBB",
        b"PCMP", HEADER_SIZE + len(body), SPEC_1_4, 0, config.oem_id.encode().ljust(8)[:8],
        config.product_id.encode().ljust(12)[:12], 0, 0, len(entries), config.apic_base, 0, 0, 0,
    )  # fmt: skip
    table = bytearray(header + body)
    table[TABLE_CHECKSUM] = -sum(table) & 0xFF
    pointer = struct.pack("<4sIBBB5B", b"_MP_", 0, 1, SPEC_1_4, 0, 0, 0, 0, 0, 0)
    return MpTable(pointer, bytes(table))
