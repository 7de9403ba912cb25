"""ACPI tables of a PC with i440FX, PIIX3 and PIIX4, and the script by which firmware puts them in place.

Built: RSDP, RSDT, XSDT, FADT (PIIX4 PM), FACS, DSDT (PCI root with _PRT through the PIIX3 link devices, ISA devices,
processors, hotplug where the board has it (acpi_hotplug.py), _S3 to _S5), MADT, HPET when there is one, SRAT and SLIT when
there are NUMA nodes.

The tables are handed over as QEMU does it: two files in fw_cfg (`etc/acpi/tables`, `etc/acpi/rsdp`) in which every
pointer holds an offset into a file, and `etc/table-loader`, a script of 128-byte commands that firmware (SeaBIOS,
OVMF) carries out: allocate room for a file, add a file's address to a pointer, compute a checksum.

References: ACPI 6.4 (revision 3 tables of ACPI 2.0 are written), Intel 290562 (82371AB, PIIX4).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from plugins.firmware import acpi_hotplug, aml
from plugins.firmware.fw_cfg import FwCfgIo
from qom import records

TABLES_FILE, RSDP_FILE, LOADER_FILE = "etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"
GENERATION_FILE, GENERATION_ADDRESS_FILE = "etc/vmgenid_guid", "etc/vmgenid_addr"

HEADER = struct.Struct("<4sIBB6s8sI4sI")  # signature, length, revision, checksum, OEM id, table id, revision, creator
HEADER_CHECKSUM = 9  # offset of the checksum
RSDP = struct.Struct("<8sB6sBIIQB3x")
RSDP_OLD_SIZE = 20  # what revision 0 has, with a checksum of its own
RSDP_CHECKSUM, RSDP_RSDT, RSDP_XSDT, RSDP_LONG_CHECKSUM = 8, 16, 24, 32
FACS_SIZE, FACS_ALIGN = 64, 64
FADT_FACS, FADT_DSDT, FADT_X_DSDT = 36, 40, 140  # offsets of pointers

# FADT flags (5.2.9)
WBINVD, PROC_C1, SLP_BUTTON, RTC_S4, RESET_REG_SUP = 1 << 0, 1 << 2, 1 << 5, 1 << 7, 1 << 10
LEGACY_DEVICES, KEYBOARD_CONTROLLER = 1 << 0, 1 << 1  # IAPC_BOOT_ARCH
ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0  # what PIIX4's SMI command port takes
PM1_EVT, PM1_CNT, PM_TMR = 0x0, 0x4, 0x8  # offsets from the PM base
SOFT_OFF, SUSPEND_TO_RAM = 0, 1  # sleep types
SYSTEM_IO = 1  # address space of a generic address

PCAT_COMPAT = 1  # MADT: there are 8259s too
LEVEL_HIGH = 0x000D  # MADT interrupt flags: active high, level
ENABLED = 1

ALLOCATE, ADD_POINTER, ADD_CHECKSUM, WRITE_POINTER = 1, 2, 3, 4  # loader commands
LOADER_ENTRY = 128  # bytes of one command
ZONE_HIGH, ZONE_FSEG = 1, 2

LINKS = ("LNKA", "LNKB", "LNKC", "LNKD")
LINK_IRQS = (5, 10, 11)
PIRQ_OFF = 0x80  # PIIX3 PIRQRC: not routed
SLOTS, PINS = 32, 4
BRIDGE_SLOT = 1  # PIIX3 and its functions
FW_CFG_PORTS = 12
HPET_SIZE = 0x400
PAGE = 0x1000
GENERATION_EVENT = 5  # general-purpose event: the generation ID has changed
STATUS_CHANGE = 0x80  # notification that a device specifies itself
FDE_DRIVES: Final = 4
FDE_TAPE_NOT_KNOWN: Final = 2
DISKETTE_BASE: Final = (0xAF, 0x02, 0x25, 0x02)
"""Of the BIOS's diskette parameters (INT 1Eh): both bytes of SPECIFY, motor off time in ticks, sector size code."""
DISKETTE_REST: Final = (0x1B, 0xFF, 0x6C, 0xF6, 0x0F, 0x08)
"""Gap, data length, gap when formatting, fill byte, head settle time in ms, motor start time in 1/8 s."""


@records.frozen(kw_only=True)
class NumaNode:
    """One NUMA node: its processors' APIC ids and its ranges of memory, (base, length) each."""

    apic_ids: Sequence[int] = ()
    memory: Sequence[tuple[int, int]] = ()


@records.frozen
class HpetFacts:
    """An HPET: physical address, and the lower half of its capabilities."""

    base: int
    block_id: int


@records.frozen
class GenerationFacts:
    """A vmgenid device: the page that firmware puts into memory, and where in it the identity is."""

    page: bytes
    offset: int


@records.frozen
class FloppyDrive:
    """A floppy drive: what CMOS calls its type, and its medium of most capacity."""

    type: int
    cylinders: int
    heads: int
    sectors: int


@records.frozen
class FloppyFacts:
    """The floppy controller: its first port, line, DMA channel, and for each of its places the drive there."""

    port: int
    irq: int
    dma: int
    drives: Sequence[FloppyDrive | None]


@records.frozen(kw_only=True)
class AcpiConfig:
    """What the tables describe; addresses and lines are those the board wired.

    pci_hole: first and last address of PCI memory below 4 GiB.  pci_hole64: the same above, or None.
    serials, parallels: (first port, line) of each COM and LPT port.  distances: SLIT matrix, rows by node, or None.
    tables: more tables, each with its header.
    pvpanic_port: the port at which a guest tells that it has crashed, or None.
    possible_apic_ids: those of all places for processors, by number; none for those of `apic_ids`.
    cpu_hotplug, pci_hotplug: first port of the hotplug controllers, or None.  pci_slots: the slots whose devices can go.
    s3: there is suspend to RAM.  s4_type: the sleep type of suspend to disk, or None.
    irq0_to_pin2: the timer is on pin 2 of the I/O APIC.  reset_port: the reset control register, or None.
    """

    apic_ids: Sequence[int]
    pci_hole: tuple[int, int]
    pci_hole64: tuple[int, int] | None = None
    pm_base: int = 0x600
    sci: int = 9
    smi_command: int = 0xB2
    gpe0: tuple[int, int] | None = None
    s3: bool = False
    s4_type: int | None = None
    reset_port: int | None = 0xCF9
    apic_base: int = 0xFEE0_0000
    ioapic_id: int = 0
    ioapic_base: int = 0xFEC0_0000
    irq0_to_pin2: bool = True
    pci_irqs: Sequence[int] = (5, 9, 10, 11)
    serials: Sequence[tuple[int, int]] = ()
    parallels: Sequence[tuple[int, int]] = ()
    floppy: FloppyFacts | None = None
    keyboard: bool = True
    fw_cfg_port: int | None = 0x510
    pvpanic_port: int | None = None
    hpet: HpetFacts | None = None
    generation: GenerationFacts | None = None
    numa: Sequence[NumaNode] = ()
    distances: Sequence[Sequence[int]] | None = None
    tables: Sequence[bytes] = ()
    possible_apic_ids: Sequence[int] = ()
    cpu_hotplug: int | None = None
    pci_hotplug: int | None = None
    pci_slots: Sequence[int] = ()
    oem_id: str = "QOM"
    oem_table_id: str = "QOMPC"

    @property
    def places(self) -> Sequence[int]:
        """The APIC id of each place for a processor, by number."""
        return self.possible_apic_ids or self.apic_ids


@records.frozen
class AcpiFiles:
    """The three files, and others that the script puts into memory; `table` finds one table, for tests and tools."""

    tables: bytes
    rsdp: bytes
    loader: bytes
    offsets: dict[str, int]  # of each table in `tables`, by signature
    others: dict[str, bytes]  # by name

    def install(self, fw_cfg: FwCfgIo) -> None:
        """Offer the files to firmware."""
        fw_cfg.add_file(TABLES_FILE, self.tables)
        fw_cfg.add_file(RSDP_FILE, self.rsdp)
        fw_cfg.add_file(LOADER_FILE, self.loader)
        for name, content in self.others.items():
            fw_cfg.add_file(name, content)

    def table(self, signature: str) -> bytes:
        """One table as built, checksum and pointers not yet patched."""
        start = self.offsets[signature]
        (length,) = struct.unpack_from("<I", self.tables, start + 4)
        return self.tables[start : start + length]


class Linker:
    """Collects tables in one file, and the script that puts them in place."""

    def __init__(self, oem_id: str, oem_table_id: str) -> None:
        self.tables = bytearray()
        self.offsets: dict[str, int] = {}
        self.script = bytearray()
        self._oem = oem_id.encode().ljust(6)[:6], oem_table_id.encode().ljust(8)[:8]

    # --- the script

    def _command(self, command: int, body: bytes) -> None:
        self.script += (struct.pack("<I", command) + body).ljust(LOADER_ENTRY, b"\0")

    def allocate(self, file: str, align: int, zone: int) -> None:
        """Firmware gets room for `file` and reads it there."""
        self._command(ALLOCATE, struct.pack("<56sIB", file.encode(), align, zone))

    def pointer(self, file: str, offset: int, size: int, target: str) -> None:
        """Firmware adds the address of `target` to the `size` bytes at `offset` of `file`."""
        self._command(ADD_POINTER, struct.pack("<56s56sIB", file.encode(), target.encode(), offset, size))

    def tell(self, file: str, offset: int, size: int, target: str, target_offset: int) -> None:
        """Firmware writes the address of `target` plus `target_offset` into the `size` bytes at `offset` of `file`."""
        names = struct.pack("<56s56s", file.encode(), target.encode())
        self._command(WRITE_POINTER, names + struct.pack("<IIB", offset, target_offset, size))

    def checksum(self, file: str, offset: int, start: int, length: int) -> None:
        """Firmware makes the bytes [start, start + length) of `file` sum to 0 by the byte at `offset`."""
        self._command(ADD_CHECKSUM, struct.pack("<56sIII", file.encode(), offset, start, length))

    # --- tables

    def raw(self, signature: str, data: bytes, align: int = 1) -> int:
        """Append something without a standard header; returns its offset."""
        self.tables += bytes(-len(self.tables) % align)
        offset = self.offsets[signature] = len(self.tables)
        self.tables += data
        return offset

    def table(
        self,
        signature: str,
        revision: int,
        body: bytes,
        pointers: Sequence[tuple[int, int]] = (),
        target: str = TABLES_FILE,
    ) -> int:
        """Append a table; `pointers`: (offset in the table, size) of each pointer into `target`.  Returns its offset."""
        length = HEADER.size + len(body)
        header = HEADER.pack(signature.encode(), length, revision, 0, *self._oem, 1, b"QOM ", 1)
        start = self.raw(signature, header + body, align=8)
        for offset, size in pointers:
            self.pointer(TABLES_FILE, start + offset, size, target)
        self.checksum(TABLES_FILE, start + HEADER_CHECKSUM, start, length)
        return start

    def whole(self, table: bytes) -> int:
        """Append a table that has its header; firmware makes its checksum.  Returns its offset."""
        start = self.raw(table[:4].decode("ascii", "replace"), table, align=8)
        self.checksum(TABLES_FILE, start + HEADER_CHECKSUM, start, len(table))
        return start


def build(config: AcpiConfig) -> AcpiFiles:
    """Build all tables and the script."""
    linker = Linker(config.oem_id, config.oem_table_id)
    linker.allocate(TABLES_FILE, FACS_ALIGN, ZONE_HIGH)
    facs = linker.raw("FACS", _facs(), FACS_ALIGN)
    dsdt = linker.table("DSDT", 1, dsdt_body(config))
    pointers = [(FADT_FACS, 4), (FADT_DSDT, 4), (FADT_X_DSDT, 8)]
    listed = [linker.table("FACP", 3, _fadt(config, facs, dsdt), pointers)]
    listed.append(linker.table("APIC", 1, _madt(config)))
    if config.hpet is not None:
        listed.append(linker.table("HPET", 1, _hpet(config.hpet)))
    if config.numa:
        listed.append(linker.table("SRAT", 1, _srat(config)))
        if config.distances is not None:
            listed.append(linker.table("SLIT", 1, _slit(config.distances)))
    others: dict[str, bytes] = {}
    if config.generation is not None:
        others[GENERATION_FILE] = config.generation.page
        linker.allocate(GENERATION_FILE, PAGE, ZONE_HIGH)
        linker.tell(GENERATION_ADDRESS_FILE, 0, 8, GENERATION_FILE, config.generation.offset)
        name, body = _generation(config.generation)
        listed.append(linker.table("SSDT", 1, name + body, [(HEADER.size + len(name) - 4, 4)], GENERATION_FILE))
    listed += [linker.whole(table) for table in config.tables]
    entries = [(HEADER.size + 4 * n, 4) for n in range(len(listed))]
    rsdt = linker.table("RSDT", 1, struct.pack(f"<{len(listed)}I", *listed), entries)
    entries = [(HEADER.size + 8 * n, 8) for n in range(len(listed))]
    xsdt = linker.table("XSDT", 1, struct.pack(f"<{len(listed)}Q", *listed), entries)
    rsdp = RSDP.pack(b"RSD PTR ", 0, config.oem_id.encode().ljust(6)[:6], 2, rsdt, RSDP.size, xsdt, 0)
    linker.allocate(RSDP_FILE, 16, ZONE_FSEG)
    linker.pointer(RSDP_FILE, RSDP_RSDT, 4, TABLES_FILE)
    linker.pointer(RSDP_FILE, RSDP_XSDT, 8, TABLES_FILE)
    linker.checksum(RSDP_FILE, RSDP_CHECKSUM, 0, RSDP_OLD_SIZE)
    linker.checksum(RSDP_FILE, RSDP_LONG_CHECKSUM, 0, RSDP.size)
    return AcpiFiles(bytes(linker.tables), rsdp, bytes(linker.script), linker.offsets, others)


# --- fixed tables


def _facs() -> bytes:
    return struct.pack("<4sI", b"FACS", FACS_SIZE).ljust(FACS_SIZE, b"\0")


def _address(port: int, length: int, access: int) -> bytes:
    """A generic address structure of a block of ports; all zeros when there is none."""
    return struct.pack("<BBBBQ", SYSTEM_IO, 8 * length, 0, access, port) if length else bytes(12)


def _fadt(config: AcpiConfig, facs: int, dsdt: int) -> bytes:
    base = config.pm_base
    gpe0, gpe0_length = config.gpe0 or (0, 0)
    flags = WBINVD | PROC_C1 | SLP_BUTTON | RTC_S4 | (RESET_REG_SUP if config.reset_port is not None else 0)
    boot = LEGACY_DEVICES | (KEYBOARD_CONTROLLER if config.keyboard else 0)
    enable, disable = (ACPI_ENABLE, ACPI_DISABLE) if config.smi_command else (0, 0)
    body = struct.pack("<IIBBHIBBBB", facs, dsdt, 0, 0, config.sci, config.smi_command, enable, disable, 0, 0)
    body += struct.pack("<8I", base + PM1_EVT, 0, base + PM1_CNT, 0, 0, base + PM_TMR, gpe0, 0)
    body += struct.pack("<8B", 4, 2, 0, 4, gpe0_length, 0, 0, 0)
    body += struct.pack("<HHHHBBBBBHBI", 0x0FFF, 0x0FFF, 0, 0, 0, 0, 0, 0, 0x32, boot, 0, flags)
    body += _address(config.reset_port, 1, 1) if config.reset_port is not None else bytes(12)
    body += struct.pack("<BHB", 0x06 if config.reset_port is not None else 0, 0, 0)
    body += struct.pack("<QQ", 0, dsdt)  # X_FIRMWARE_CTRL stays 0: the 32-bit one holds
    body += _address(base + PM1_EVT, 4, 2) + bytes(12) + _address(base + PM1_CNT, 2, 2) + bytes(12) + bytes(12)
    body += _address(base + PM_TMR, 4, 3) + _address(gpe0, gpe0_length, 1) + bytes(12)
    return body


def _madt(config: AcpiConfig) -> bytes:
    body = struct.pack("<II", config.apic_base, PCAT_COMPAT)
    there = frozenset(config.apic_ids)
    for number, apic_id in enumerate(config.places):
        flags = ENABLED if apic_id in there else 0  # else a place for one that may come
        if apic_id < 255:
            body += acpi_hotplug.local_apic(number, apic_id, flags)
        else:
            body += struct.pack("<BBHIII", 9, 16, 0, apic_id, flags, number)
    body += struct.pack("<BBBBII", 1, 12, config.ioapic_id, 0, config.ioapic_base, 0)
    if config.irq0_to_pin2:
        body += struct.pack("<BBBBIH", 2, 10, 0, 0, 2, 0)
    for line in sorted({*config.pci_irqs, config.sci}):
        body += struct.pack("<BBBBIH", 2, 10, 0, line, line, LEVEL_HIGH)
    return body + struct.pack("<BBBHB", 4, 6, 0xFF, 0, 1)  # NMI on LINT1 of every processor


def _hpet(facts: HpetFacts) -> bytes:
    """IA-PC HPET specification 1.0a, 3.2.4; the least period asked for is 0: any, and the page is its own."""
    return struct.pack("<I", facts.block_id) + struct.pack("<BBBBQBHB", 0, 64, 0, 0, facts.base, 0, 0, 0)


def _srat(config: AcpiConfig) -> bytes:
    body = struct.pack("<IQ", 1, 0)
    for number, node in enumerate(config.numa):
        for apic_id in node.apic_ids:
            if apic_id < 255:
                high = number >> 8
                low_high = (high & 0xFF, high >> 8 & 0xFF, high >> 16 & 0xFF)
                body += struct.pack("<BBBBIB3BI", 0, 16, number & 0xFF, apic_id, ENABLED, 0, *low_high, 0)
            else:
                body += struct.pack("<BBHIIIII", 2, 24, 0, number, apic_id, ENABLED, 0, 0)
        for base, length in node.memory:
            body += struct.pack("<BBIHQQIIQ", 1, 40, number, 0, base, length, 0, ENABLED, 0)
    return body


def _generation(facts: GenerationFacts) -> tuple[bytes, bytes]:
    """The SSDT of a vmgenid device: the name that holds the identity's address, ending in it, and the rest."""
    address = aml.name("VGIA", aml.dword(facts.offset))  # firmware adds the address of the page
    element = aml.index(aml.LOCALS[0], aml.ZERO)
    device = aml.device(
        "VGEN",
        aml.name("_HID", aml.string("QEMUVGID")),
        aml.name("_CID", aml.string("VM_Gen_Counter")),
        aml.name("_DDN", aml.string("VM_Gen_Counter")),
        aml.method(
            "ADDR",
            0,
            aml.store(aml.package(aml.ZERO, aml.ZERO), aml.LOCALS[0]),
            aml.store(aml.ref("VGIA"), element),
            aml.return_(aml.LOCALS[0]),
        ),
    )
    event = aml.method(
        f"\\_GPE._E{GENERATION_EVENT:02X}", 0, aml.notify(aml.ref("\\_SB.VGEN"), aml.integer(STATUS_CHANGE))
    )
    return address, aml.scope("\\_SB", device) + event


def _slit(distances: Sequence[Sequence[int]]) -> bytes:
    return struct.pack("<Q", len(distances)) + b"".join(bytes(row) for row in distances)


# --- DSDT


def dsdt_body(config: AcpiConfig) -> bytes:
    """The AML of the DSDT."""
    if config.cpu_hotplug is None:
        processors = [aml.processor(acpi_hotplug.cpu_name(n), n & 0xFF) for n in range(len(config.places))]
    else:
        processors = acpi_hotplug.processors(config.cpu_hotplug, config.places)
    events = [] if config.cpu_hotplug is None else [acpi_hotplug.cpu_event()]
    if config.pci_hotplug is not None:
        events.append(acpi_hotplug.pci_event(config.pci_slots))
    fw_cfg = b""
    if config.fw_cfg_port is not None:
        ports = aml.io(config.fw_cfg_port, config.fw_cfg_port, 1, FW_CFG_PORTS)
        fw_cfg = aml.device(
            "FWCF",
            aml.name("_HID", aml.string("QEMU0002")),
            aml.name("_STA", aml.integer(0x0B)),
            aml.name("_CRS", aml.resources(ports)),
        )
    return b"".join(
        (
            aml.scope("\\_SB", _pci_root(config)),
            aml.scope("\\_SB", _pirq_field(), *_links(config)),
            aml.scope("\\_SB", *processors, fw_cfg),
            *events,
            *_sleep_states(config),
        )
    )


def _sleep_states(config: AcpiConfig) -> list[bytes]:
    """_S3 to _S5, those there are: the sleep types for both PM1 control registers, of which there is one."""
    types = {"_S3": SUSPEND_TO_RAM if config.s3 else None, "_S4": config.s4_type, "_S5": SOFT_OFF}
    return [
        aml.name(f"\\{name}", aml.package(aml.integer(kind), aml.integer(kind), aml.ZERO, aml.ZERO))
        for name, kind in types.items()
        if kind is not None
    ]


def _pci_root(config: AcpiConfig) -> bytes:
    low, high = config.pci_hole
    windows = [
        aml.word_bus(0x00, 0xFF),
        aml.io(0x0CF8, 0x0CF8, 1, 8),
        aml.word_io(0x0000, 0x0CF7),
        aml.word_io(0x0D00, 0xFFFF),
        aml.dword_memory(0x000A_0000, 0x000B_FFFF, cacheable=True),
        aml.dword_memory(low, high),
    ]
    if config.pci_hole64 is not None:
        windows.append(aml.qword_memory(*config.pci_hole64))
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.ZERO),
        aml.name("_CRS", aml.resources(*windows)),
        aml.method("_PRT", 0, aml.return_(_routing())),
        aml.device(
            "ISA",
            aml.name("_ADR", aml.integer(BRIDGE_SLOT << 16)),
            aml.operation_region("P40C", aml.PCI_CONFIG, 0x60, 4),
            *_isa_devices(config),
        ),
        *([] if config.pci_hotplug is None else acpi_hotplug.slots(config.pci_hotplug, config.pci_slots)),
    )


def _routing() -> bytes:
    """_PRT: pin p of slot s is link (s - 1 + p) mod 4; the power management function's pin is the SCI."""
    entries = []
    for slot in range(SLOTS):
        for pin in range(PINS):
            link = "LNKS" if (slot, pin) == (BRIDGE_SLOT, 0) else LINKS[(slot - 1 + pin) % PINS]
            entries.append(
                aml.package(aml.integer(slot << 16 | 0xFFFF), aml.integer(pin), aml.ref(f"\\_SB.{link}"), aml.ZERO)
            )
    return aml.package(*entries)


def _pirq_field() -> bytes:
    return aml.field("PCI0.ISA.P40C", aml.BYTE_ACCESS, [(f"PRQ{n}", 8) for n in range(PINS)])


def _links(config: AcpiConfig) -> list[bytes]:
    off = aml.integer(PIRQ_OFF)
    # IQCR (register): the resources of a link that the register routes.
    current = aml.method(
        "IQCR",
        1,
        aml.name("PRR0", aml.resources(aml.interrupt(0))),
        aml.create_dword_field(aml.ref("PRR0"), 5, "PRRI"),
        aml.if_(aml.less(aml.ARGS[0], off), aml.store(aml.ARGS[0], aml.ref("PRRI"))),
        aml.return_(aml.ref("PRR0")),
        serialized=True,
    )
    status = aml.method(
        "IQST",
        1,
        aml.if_(aml.and_(off, aml.ARGS[0]), aml.return_(aml.integer(0x09))),
        aml.return_(aml.integer(0x0B)),
    )
    links = [status, current]
    for n, label in enumerate(LINKS):
        register = aml.ref(f"PRQ{n}")
        links.append(
            aml.device(
                label,
                aml.name("_HID", aml.eisa_id("PNP0C0F")),
                aml.name("_UID", aml.integer(n)),
                aml.name("_PRS", aml.resources(aml.interrupt(*LINK_IRQS))),
                aml.method("_STA", 0, aml.return_(aml.call("IQST", register))),
                aml.method("_DIS", 0, aml.or_(register, off, register)),
                aml.method("_CRS", 0, aml.return_(aml.call("IQCR", register))),
                aml.method(
                    "_SRS",
                    1,
                    aml.create_dword_field(aml.ARGS[0], 5, "PRRI"),
                    aml.store(aml.ref("PRRI"), register),
                ),
            )
        )
    fixed = aml.resources(aml.interrupt(config.sci))
    links.append(
        aml.device(
            "LNKS",
            aml.name("_HID", aml.eisa_id("PNP0C0F")),
            aml.name("_UID", aml.integer(PINS)),
            aml.name("_PRS", fixed),
            aml.name("_STA", aml.integer(0x0B)),
            aml.method("_DIS", 0),
            aml.name("_CRS", fixed),
            aml.method("_SRS", 1),
        )
    )
    return links


def _floppy_controller(facts: FloppyFacts) -> bytes:
    """The controller with its drives: `_FDE` says which there are, `_FDI` what they are (ACPI 6.4, section 9.9)."""
    present = [n < len(facts.drives) and facts.drives[n] is not None for n in range(FDE_DRIVES)]
    fde = b"".join(value.to_bytes(4, "little") for value in (*present, FDE_TAPE_NOT_KNOWN))
    drives = []
    for n, drive in enumerate(facts.drives):
        if drive is not None:
            what = (n, drive.type, drive.cylinders - 1, drive.sectors, drive.heads - 1)
            numbers = (*what, *DISKETTE_BASE, drive.sectors, *DISKETTE_REST)
            info = aml.package(*map(aml.integer, numbers))
            drives.append(aml.device(f"FLP{'AB'[n]}", aml.name("_ADR", aml.integer(n)), aml.name("_FDI", info)))
    ports = aml.io(facts.port + 2, facts.port + 2, 1, 4), aml.io(facts.port + 7, facts.port + 7, 1, 1)
    return aml.device(
        "FDC0",
        aml.name("_HID", aml.eisa_id("PNP0700")),
        aml.name("_CRS", aml.resources(*ports, aml.irq(facts.irq), aml.dma(facts.dma))),
        aml.name("_FDE", aml.buffer(fde)),
        *drives,
    )


def _isa_devices(config: AcpiConfig) -> list[bytes]:
    def part(label: str, hid: str, *crs: bytes, uid: int | None = None) -> bytes:
        terms = [aml.name("_HID", aml.eisa_id(hid))]
        if uid is not None:
            terms.append(aml.name("_UID", aml.integer(uid)))
        return aml.device(label, *terms, aml.name("_CRS", aml.resources(*crs)))

    parts = [
        part("PIC", "PNP0000", aml.io(0x20, 0x20, 1, 2), aml.io(0xA0, 0xA0, 1, 2), aml.irq(2)),
        part("TIMR", "PNP0100", aml.io(0x40, 0x40, 1, 4), aml.irq(0)),
        part(
            "DMAC",
            "PNP0200",
            aml.io(0x00, 0x00, 1, 16),
            aml.io(0x80, 0x80, 1, 16),
            aml.io(0xC0, 0xC0, 1, 32),
            aml.dma(4),
        ),
        part("SPKR", "PNP0800", aml.io(0x61, 0x61, 1, 1)),
        part("RTC", "PNP0B00", aml.io(0x70, 0x70, 1, 8), aml.irq(8)),
    ]
    if config.keyboard:
        parts.append(part("KBD", "PNP0303", aml.io(0x60, 0x60, 1, 1), aml.io(0x64, 0x64, 1, 1), aml.irq(1)))
        parts.append(part("MOU", "PNP0F13", aml.irq(12)))
    for n, (port, line) in enumerate(config.serials):
        parts.append(part(f"COM{n + 1}", "PNP0501", aml.io(port, port, 1, 8), aml.irq(line), uid=n + 1))
    for n, (port, line) in enumerate(config.parallels):
        parts.append(part(f"LPT{n + 1}", "PNP0400", aml.io(port, port, 8, 8), aml.irq(line), uid=n + 1))
    if config.floppy is not None:
        parts.append(_floppy_controller(config.floppy))
    board = [aml.io(0x4D0, 0x4D0, 1, 2), aml.io(0x92, 0x92, 1, 1), aml.io(config.pm_base, config.pm_base, 1, 0x40)]
    if config.gpe0 is not None:
        board.append(aml.io(config.gpe0[0], config.gpe0[0], 1, config.gpe0[1]))
    if config.pci_hotplug is not None:
        board.append(aml.io(config.pci_hotplug, config.pci_hotplug, 1, acpi_hotplug.PCI_PORTS))
    if config.cpu_hotplug is not None:
        board.append(aml.io(config.cpu_hotplug, config.cpu_hotplug, 1, acpi_hotplug.CPU_PORTS))
    if config.hpet is not None:
        parts.append(part("HPET", "PNP0103", aml.memory32_fixed(config.hpet.base, HPET_SIZE, writable=False)))
    if config.pvpanic_port is not None:
        parts.append(_pvpanic(config.pvpanic_port))
    return [*parts, part("BRD", "PNP0C02", *board)]


def _pvpanic(port: int) -> bytes:
    """The device of QEMU's docs/specs/pvpanic.txt: RDPT reads the events that it knows, WRPT (byte) tells of one."""
    return aml.device(
        "PEVT",
        aml.name("_HID", aml.string("QEMU0001")),
        aml.name("_CRS", aml.resources(aml.io(port, port, 1, 1))),
        aml.operation_region("PEOR", aml.SYSTEM_IO, port, 1),
        aml.field("PEOR", aml.BYTE_ACCESS, [("PEPT", 8)]),
        aml.name("_STA", aml.integer(0x0F)),
        aml.method("RDPT", 0, aml.return_(aml.ref("PEPT"))),
        aml.method("WRPT", 1, aml.store(aml.ARGS[0], aml.ref("PEPT"))),
    )
