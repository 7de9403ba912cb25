"""SMBIOS tables (DMTF DSP0134, version 2.8), handed to firmware as QEMU does it.

Built: types 0 (BIOS), 1 (system), 3 (enclosure), 4 (processor, one a socket), 16, 17, 19 (memory), 32 (boot status)
and 127 (end), and the 32-bit entry point. Not built: types 2 and 7 (board, caches), the 64-bit entry point of version
3.

`etc/smbios/smbios-tables` holds the structures, `etc/smbios/smbios-anchor` the entry point with the table's address
0; firmware copies both, fills in the address and corrects the two checksums.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence

import attrs

from plugins.firmware.fw_cfg import FwCfgIo
from qom import QomError

ANCHOR_FILE, TABLES_FILE = "etc/smbios/smbios-anchor", "etc/smbios/smbios-tables"

BIOS, SYSTEM, ENCLOSURE, PROCESSOR, MEMORY_ARRAY, MEMORY_DEVICE, MEMORY_RANGE, BOOT_STATUS, END = (
    0,
    1,
    3,
    4,
    16,
    17,
    19,
    32,
    127,
)  # structure types
HANDLES = {0: 0x0000, 1: 0x0100, 3: 0x0300, 4: 0x0400, 16: 0x1000, 17: 0x1100, 19: 0x1300, 32: 0x2000, 127: 0x7F00}
NO_HANDLE, NO_ERROR_HANDLE = 0xFFFF, 0xFFFE

ANCHOR_SIZE, INTERMEDIATE = 31, 16  # bytes; offset of the part with its own checksum
CHECKSUM, CHECKSUM_IN_INTERMEDIATE = 4, 5  # offsets, the second from INTERMEDIATE
MAJOR, MINOR = 2, 8
DIMM_SIZE = 16 << 30  # largest memory device shown
KIB, MIB = 1 << 10, 1 << 20
EXTENDED_KIB, EXTENDED_MIB, EXTENDED_RANGE = 0x8000_0000, 0x7FFF, 0xFFFF_FFFF  # "see the extended field"

CHARACTERISTICS_UNKNOWN = 0x08
VIRTUAL_MACHINE = 0x10  # BIOS characteristics, second extension byte
CENTRAL_PROCESSOR, POPULATED_ENABLED, UNKNOWN, OTHER, SAFE, NONE = 3, 0x41, 2, 1, 3, 3
SYSTEM_BOARD, SYSTEM_MEMORY, MULTI_BIT_ECC = 1, 3, 6
DIMM, RAM, DETAIL_OTHER = 9, 7, 2
POWER_SWITCH = 6  # wake-up type


class SmbiosError(QomError):
    """A machine that the tables cannot describe."""


@attrs.frozen(kw_only=True)
class SmbiosConfig:
    """What the tables say. `memory`: the ranges of RAM, (base, length) each; `signature`, `features`: CPUID 1 EAX, EDX."""

    memory: Sequence[tuple[int, int]]
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    manufacturer: str = "QOM"
    product: str = "Standard PC (i440FX + PIIX)"
    version: str = "pc-i440fx"
    serial: str = ""
    system_uuid: uuid.UUID = attrs.field(factory=lambda: uuid.UUID(int=0))
    bios_vendor: str = "QOM"
    bios_version: str = "0.1"
    bios_date: str = "01/01/2025"
    signature: int = 0
    features: int = 0


@attrs.frozen
class SmbiosFiles:
    """The two files."""

    anchor: bytes
    tables: bytes

    def install(self, fw_cfg: FwCfgIo) -> None:
        """Offer the files to firmware."""
        fw_cfg.add_file(TABLES_FILE, self.tables)
        fw_cfg.add_file(ANCHOR_FILE, self.anchor)


class _Table:
    """Collects structures."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.count = 0
        self.largest = 0

    def add(self, kind: int, number: int, fields: bytes, strings: Sequence[str] = ()) -> int:
        """Append a structure; returns its handle. `fields` refer to `strings` by position, from 1 on."""
        handle = HANDLES[kind] + number
        text = b"".join(s.encode("ascii", "replace") + b"\0" for s in strings) or b"\0"
        whole = struct.pack("<BBH", kind, 4 + len(fields), handle) + fields + text + b"\0"
        self.data += whole
        self.count += 1
        self.largest = max(self.largest, len(whole))
        return handle


class _Strings:
    """The strings of one structure; an empty one is number 0."""

    def __init__(self) -> None:
        self.list: list[str] = []

    def __call__(self, text: str) -> int:
        if not text:
            return 0
        self.list.append(text)
        return len(self.list)


def build(config: SmbiosConfig) -> SmbiosFiles:
    """Build the structures and the entry point. Raises SmbiosError when they exceed the format."""
    table = _Table()
    _bios(table, config)
    _system(table, config)
    _enclosure(table, config)
    for socket in range(config.sockets):
        _processor(table, config, socket)
    _memory(table, config)
    table.add(BOOT_STATUS, 0, bytes(7))
    table.add(END, 0, b"")
    if len(table.data) > 0xFFFF:
        raise SmbiosError(f"SMBIOS tables of {len(table.data)} bytes exceed the 65535 of version {MAJOR}.{MINOR}")
    return SmbiosFiles(_anchor(table), bytes(table.data))


def _anchor(table: _Table) -> bytes:
    dmi = struct.pack("<5sBHIHB", b"_DMI_", 0, len(table.data), 0, table.count, MAJOR << 4 | MINOR)
    dmi = dmi[:5] + bytes((-sum(dmi) & 0xFF,)) + dmi[6:]
    head = struct.pack("<4sBBBBHB5s", b"_SM_", 0, ANCHOR_SIZE, MAJOR, MINOR, table.largest, 0, bytes(5))
    return head[:4] + bytes((-sum(head + dmi) & 0xFF,)) + head[5:] + dmi


def _bios(table: _Table, config: SmbiosConfig) -> None:
    text = _Strings()
    vendor, version, date = text(config.bios_vendor), text(config.bios_version), text(config.bios_date)
    fields = struct.pack("<BBHBBQ", vendor, version, 0xE800, date, 0, CHARACTERISTICS_UNKNOWN)
    table.add(BIOS, 0, fields + bytes((0, VIRTUAL_MACHINE, 0, 0, 0xFF, 0xFF)), text.list)


def _system(table: _Table, config: SmbiosConfig) -> None:
    text = _Strings()
    fields = bytes((text(config.manufacturer), text(config.product), text(config.version), text(config.serial)))
    table.add(SYSTEM, 0, fields + config.system_uuid.bytes_le + bytes((POWER_SWITCH, 0, 0)), text.list)


def _enclosure(table: _Table, config: SmbiosConfig) -> None:
    text = _Strings()
    maker = text(config.manufacturer)
    version = text(config.version)
    fields = struct.pack("<9BI5B", maker, OTHER, version, 0, 0, SAFE, SAFE, SAFE, UNKNOWN, 0, 0, 0, 0, 0, 0)
    table.add(ENCLOSURE, 0, fields, text.list)


def _processor(table: _Table, config: SmbiosConfig, socket: int) -> None:
    text = _Strings()
    cores, threads = min(config.cores, 255), min(config.cores * config.threads, 255)
    fields = struct.pack("<BBBB", text(f"CPU {socket}"), CENTRAL_PROCESSOR, OTHER, text(config.manufacturer))
    fields += struct.pack("<II", config.signature, config.features)
    fields += struct.pack("<BBHHHBB", text(config.version), 0, 0, 2000, 2000, POPULATED_ENABLED, OTHER)
    fields += struct.pack("<HHH", NO_HANDLE, NO_HANDLE, NO_HANDLE)
    fields += struct.pack("<BBBBBBHH", 0, 0, 0, cores, cores, threads, UNKNOWN, OTHER)
    table.add(PROCESSOR, socket, fields, text.list)


def _memory(table: _Table, config: SmbiosConfig) -> None:
    total = sum(length for _, length in config.memory)
    if total == 0:
        raise SmbiosError("SMBIOS tables need at least one range of memory")
    sizes = [min(DIMM_SIZE, total - start) for start in range(0, total, DIMM_SIZE)]
    kib = total // KIB
    fields = struct.pack(
        "<BBBIHHQ",
        OTHER,
        SYSTEM_MEMORY,
        MULTI_BIT_ECC,
        min(kib, EXTENDED_KIB),
        NO_ERROR_HANDLE,
        len(sizes),
        total if kib >= EXTENDED_KIB else 0,
    )
    array = table.add(MEMORY_ARRAY, 0, fields)
    for number, size in enumerate(sizes):
        _dimm(table, config, array, number, size)
    for number, (base, length) in enumerate(config.memory):
        first, last = base // KIB, (base + length) // KIB - 1
        beyond = last >= EXTENDED_RANGE
        low = (EXTENDED_RANGE, EXTENDED_RANGE) if beyond else (first, last)
        wide = (base, base + length - 1) if beyond else (0, 0)
        table.add(MEMORY_RANGE, number, struct.pack("<IIHBQQ", *low, array, 1, *wide))


def _dimm(table: _Table, config: SmbiosConfig, array: int, number: int, size: int) -> None:
    text = _Strings()
    mib = size // MIB
    fields = struct.pack("<HHHHH", array, NO_ERROR_HANDLE, 0xFFFF, 0xFFFF, min(mib, EXTENDED_MIB))
    fields += struct.pack("<BBBBBHH", DIMM, 0, text(f"DIMM {number}"), 0, RAM, DETAIL_OTHER, 0)
    extended = mib if mib >= EXTENDED_MIB else 0
    fields += struct.pack("<BBBBBIHHHH", text(config.manufacturer), 0, 0, 0, 0, extended, 0, 0, 0, 0)
    table.add(MEMORY_DEVICE, number, fields, text.list)
