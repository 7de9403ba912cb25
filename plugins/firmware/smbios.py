"""SMBIOS tables (DMTF DSP0134, version 2.8), handed to firmware as QEMU does it.

Built: types 0 (BIOS), 1 (system), 3 (enclosure), 4 (processor, one a socket), 16, 17, 19 (memory), 32 (boot status)
and 127 (end), and the 32-bit entry point; when something is said of them, also 2 (board), 8 (ports) and 11 (texts of the
maker's). A whole structure out of a file is in the place of all of its type. Not built: type 7 (caches), the 64-bit
entry point of version 3.

`etc/smbios/smbios-tables` holds the structures, `etc/smbios/smbios-anchor` the entry point with the table's address
0; firmware copies both, fills in the address and corrects the two checksums.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugins.firmware.fw_cfg import FwCfgIo
from qom import QomError, records

if TYPE_CHECKING:
    from uuid import UUID

ANCHOR_FILE, TABLES_FILE = "etc/smbios/smbios-anchor", "etc/smbios/smbios-tables"

BIOS, SYSTEM, BOARD, ENCLOSURE, PROCESSOR, PORT, OEM_STRINGS = 0, 1, 2, 3, 4, 8, 11  # structure types
MEMORY_ARRAY, MEMORY_DEVICE, MEMORY_RANGE, BOOT_STATUS, END = 16, 17, 19, 32, 127
HANDLES = {
    kind: kind << 8
    for kind in (
        *(BIOS, SYSTEM, BOARD, ENCLOSURE, PROCESSOR, PORT, OEM_STRINGS),
        *(MEMORY_ARRAY, MEMORY_DEVICE, MEMORY_RANGE, BOOT_STATUS, END),
    )
}
NO_HANDLE, NO_ERROR_HANDLE = 0xFFFF, 0xFFFE

ANCHOR_SIZE, INTERMEDIATE = 31, 16  # bytes; offset of the part with its own checksum
CHECKSUM, CHECKSUM_IN_INTERMEDIATE = 4, 5  # offsets, the second from INTERMEDIATE
MAJOR, MINOR = 2, 8
DIMM_SIZE = 16 << 30  # largest memory device shown
KIB, MIB = 1 << 10, 1 << 20
EXTENDED_KIB, EXTENDED_MIB, EXTENDED_RANGE = 0x8000_0000, 0x7FFF, 0xFFFF_FFFF  # "see the extended field"

CHARACTERISTICS_UNKNOWN = 0x08
HOSTING_BOARD, MOTHERBOARD = 0x01, 0x0A
VIRTUAL_MACHINE, UEFI = 0x10, 0x08  # BIOS characteristics, second extension byte
CENTRAL_PROCESSOR, POPULATED_ENABLED, UNKNOWN, OTHER, SAFE, NONE = 3, 0x41, 2, 1, 3, 3
SYSTEM_BOARD, SYSTEM_MEMORY, MULTI_BIT_ECC = 1, 3, 6
DIMM, RAM, DETAIL_OTHER = 9, 7, 2
POWER_SWITCH = 6  # wake-up type


class SmbiosError(QomError):
    """A machine that the tables cannot describe."""


@records.frozen(kw_only=True)
class SmbiosConfig:
    """What the tables say. `memory`: the ranges of RAM, (base, length) each; `signature`, `features`: CPUID 1 EAX, EDX.

    fields: by type, what a user said of it, under QEMU's names.  texts: of type 11.  ports: of type 8, likewise.
    whole: structures as they are, their strings included.
    """

    memory: Sequence[tuple[int, int]]
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    manufacturer: str = "QOM"
    product: str = "Standard PC (i440FX + PIIX)"
    version: str = "pc-i440fx"
    serial: str = ""
    system_uuid: UUID | None = None  # zeros, when there is none
    bios_vendor: str = "QOM"
    bios_version: str = "0.1"
    bios_date: str = "01/01/2025"
    signature: int = 0
    features: int = 0
    fields: Mapping[int, Mapping[str, Any]] = records.field(factory=dict)
    texts: Sequence[str] = ()
    ports: Sequence[Mapping[str, Any]] = ()
    whole: Sequence[bytes] = ()

    def said(self, kind: int, name: str, default: Any) -> Any:
        """What was said of a field of the structures of a type, else `default`."""
        return self.fields.get(kind, {}).get(name, default)


@records.frozen
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
        self._given: list[int] = []
        self.count = 0
        self.largest = 0
        self.replaced: set[int] = set()  # types of which there are whole structures

    def whole(self, structure: bytes) -> None:
        """Append a structure as it is; its handle is given by its type, and by how many of that came before."""
        kind = structure[0]
        same = sum(other == kind for other in self._given)
        self._given.append(kind)
        self.replaced.add(kind)
        self._append(structure[:2] + struct.pack("<H", HANDLES.get(kind, kind << 8) + same) + structure[4:])

    def add(self, kind: int, number: int, fields: bytes, strings: Sequence[str] = ()) -> int:
        """Append a structure; returns its handle. `fields` refer to `strings` by position, from 1 on."""
        handle = HANDLES[kind] + number
        text = b"".join(s.encode("utf-8", "replace") + b"\0" for s in strings) or b"\0"
        if kind not in self.replaced:
            self._append(struct.pack("<BBH", kind, 4 + len(fields), handle) + fields + text + b"\0")
        return handle

    def _append(self, structure: bytes) -> None:
        self.data += structure
        self.count += 1
        self.largest = max(self.largest, len(structure))


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
    for structure in config.whole:
        table.whole(structure)
    _bios(table, config)
    _system(table, config)
    if BOARD in config.fields:
        _board(table, config)
    _enclosure(table, config)
    for socket in range(config.sockets):
        _processor(table, config, socket)
    _memory(table, config)
    for number, port in enumerate(config.ports):
        _port(table, port, number)
    if config.texts:
        table.add(OEM_STRINGS, 0, bytes((min(len(config.texts), 255),)), config.texts[:255])
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


def check_structure(data: bytes) -> None:
    """Raise SmbiosError when `data` is not one structure with its strings, of a type that machines may have twice."""
    if len(data) < 8 or not 4 <= data[1] <= len(data) - 2 or data[-2:] != b"\0\0":
        raise SmbiosError("is no SMBIOS structure: expected a header, fields, strings, and two zero bytes")
    if data[0] in (BIOS, SYSTEM, PROCESSOR, MEMORY_ARRAY, MEMORY_DEVICE, MEMORY_RANGE, END):
        raise SmbiosError(
            f"is of type {data[0]}, which this machine makes: expected another type, or type={data[0]},..."
        )


def _bios(table: _Table, config: SmbiosConfig) -> None:
    text = _Strings()

    def said(name: str, default: str = "") -> int:
        return text(config.said(BIOS, name, default))

    vendor, version = said("vendor", config.bios_vendor), said("version", config.bios_version)
    date = said("date", config.bios_date)
    fields = struct.pack("<BBHBBQ", vendor, version, 0xE800, date, 0, CHARACTERISTICS_UNKNOWN)
    flags = VIRTUAL_MACHINE | (UEFI if config.said(BIOS, "uefi", False) else 0)
    release = [int(part) for part in config.said(BIOS, "release", "0.0").split(".")]
    table.add(BIOS, 0, fields + bytes((0, flags, *release, 0xFF, 0xFF)), text.list)


def _system(table: _Table, config: SmbiosConfig) -> None:
    text = _Strings()

    def said(name: str, default: str = "") -> int:
        return text(config.said(SYSTEM, name, default))

    fields = bytes((said("manufacturer", config.manufacturer), said("product", config.product)))
    fields += bytes((said("version", config.version), said("serial", config.serial)))
    identity = config.system_uuid.bytes_le if config.system_uuid is not None else bytes(16)
    fields += identity + bytes((POWER_SWITCH, said("sku"), said("family")))
    table.add(SYSTEM, 0, fields, text.list)


def _board(table: _Table, config: SmbiosConfig) -> None:
    text = _Strings()

    def said(name: str, default: str = "") -> int:
        return text(config.said(BOARD, name, default))

    names = said("manufacturer", config.manufacturer), said("product", config.product), said("version", config.version)
    fields = struct.pack("<6B", *names, said("serial"), said("asset"), HOSTING_BOARD)
    fields += struct.pack("<BHBB", said("location"), HANDLES[ENCLOSURE], MOTHERBOARD, 0)
    table.add(BOARD, 0, fields, text.list)


def _port(table: _Table, said: Mapping[str, Any], number: int) -> None:
    text = _Strings()
    inside, outside = text(said.get("internal_reference", "")), text(said.get("external_reference", ""))
    kind = said.get("connector_type", 0)
    table.add(PORT, number, bytes((inside, 0, outside, kind, said.get("port_type", 0))), text.list)


def _enclosure(table: _Table, config: SmbiosConfig) -> None:
    text = _Strings()

    def said(name: str, default: str = "") -> int:
        return text(config.said(ENCLOSURE, name, default))

    maker, version = said("manufacturer", config.manufacturer), said("version", config.version)
    serial, asset = said("serial"), said("asset")
    states = (SAFE, SAFE, SAFE, UNKNOWN)
    fields = struct.pack("<9BI5B", maker, OTHER, version, serial, asset, *states, 0, 0, 0, 0, 0, said("sku"))
    table.add(ENCLOSURE, 0, fields, text.list)


def _processor(table: _Table, config: SmbiosConfig, socket: int) -> None:
    text = _Strings()

    def said(name: str, default: str = "") -> int:
        return text(config.said(PROCESSOR, name, default))

    cores, threads = min(config.cores, 255), min(config.cores * config.threads, 255)
    name = text(f"{config.said(PROCESSOR, 'sock_pfx', 'CPU ')}{socket}")
    fields = struct.pack("<BBBB", name, CENTRAL_PROCESSOR, OTHER, said("manufacturer", config.manufacturer))
    fields += struct.pack("<Q", config.said(PROCESSOR, "processor-id", config.features << 32 | config.signature))
    speeds = [config.said(PROCESSOR, name, 2000) for name in ("max-speed", "current-speed")]
    fields += struct.pack("<BBHHHBB", said("version", config.version), 0, 0, *speeds, POPULATED_ENABLED, OTHER)
    fields += struct.pack("<HHH", NO_HANDLE, NO_HANDLE, NO_HANDLE)
    names = said("serial"), said("asset"), said("part")
    fields += struct.pack("<BBBBBBHH", *names, cores, cores, threads, UNKNOWN, OTHER)
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

    def said(name: str, default: str = "") -> int:
        return text(config.said(MEMORY_DEVICE, name, default))

    mib = size // MIB
    fields = struct.pack("<HHHHH", array, NO_ERROR_HANDLE, 0xFFFF, 0xFFFF, min(mib, EXTENDED_MIB))
    place, bank = text(f"{config.said(MEMORY_DEVICE, 'loc_pfx', 'DIMM ')}{number}"), said("bank")
    speed = config.said(MEMORY_DEVICE, "speed", 0)
    fields += struct.pack("<BBBBBHH", DIMM, 0, place, bank, RAM, DETAIL_OTHER, speed)
    extended = mib if mib >= EXTENDED_MIB else 0
    names = said("manufacturer", config.manufacturer), said("serial"), said("asset"), said("part")
    fields += struct.pack("<BBBBBIHHHH", *names, 0, extended, speed, 0, 0, 0)
    table.add(MEMORY_DEVICE, number, fields, text.list)
