"""Tables put into guest memory without firmware: ACPI's loader script carried out here, SMBIOS and MP beside it.

Everything goes between E0000h and FFFFFh, where operating systems look for it: tables from the bottom up, the entry points
("anchors") that lead to them in the last half KiB, below the reset vector.

References: ACPI 6.4, 5.2.5.1 (finding the RSDP); DMTF DSP0134, 5.2.1; MultiProcessor Specification 1.4, chapter 4.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from plugins.firmware import acpi, mptable, smbios
from qom import QomError, records

__all__ = ["FIRST", "LAST", "Placed", "PlacingError", "place"]

FIRST, LAST = 0xE0000, 0xFFFFF
ANCHORS, ANCHORS_END = 0xFFE00, 0xFFFF0
ANCHOR_ALIGN = 16
TABLE_ALIGN = 64  # the FACS wants it, the others do not mind
DMI_ADDRESS = 24  # of the structures, in the SMBIOS entry point
MPF_ADDRESS = 4  # of the table, in the MP floating pointer


class PlacingError(QomError):
    """Tables that have no room, or a script that cannot be carried out."""


@records.frozen
class Placed:
    """What is where.

    rsdp, smbios, mp: addresses of the three anchors.  facs: address of that table.  pieces: (address, bytes) of everything
    to be written.
    told: (file, offset, bytes) of what firmware would write into files.
    """

    rsdp: int
    facs: int
    smbios: int
    mp: int
    pieces: list[tuple[int, bytes]]
    told: list[tuple[str, int, bytes]]


def place(acpi_files: acpi.AcpiFiles | None, smbios_files: smbios.SmbiosFiles, mp_table: mptable.MpTable) -> Placed:
    """Decide where everything goes and make every pointer and checksum right; without ACPI tables RSDP and FACS are at 0.

    Raises:
        PlacingError: more tables than there is room for.
    """
    room = _Room()
    pieces, told, rsdp, facs = [], [], 0, 0
    if acpi_files is not None:
        files = {acpi.TABLES_FILE: acpi_files.tables, acpi.RSDP_FILE: acpi_files.rsdp, **acpi_files.others}
        script = _Script(files, room)
        script.run(acpi_files.loader)
        pieces, told, rsdp = script.pieces(), script.told, script.address[acpi.RSDP_FILE]
        facs = script.address[acpi.TABLES_FILE] + acpi_files.offsets["FACS"]
    structures = room.table(smbios_files.tables)
    pieces.append((structures, smbios_files.tables))
    entry = bytearray(smbios_files.anchor)
    struct.pack_into("<I", entry, DMI_ADDRESS, structures)
    _sum_to_zero(entry, smbios.INTERMEDIATE, len(entry), smbios.INTERMEDIATE + smbios.CHECKSUM_IN_INTERMEDIATE)
    _sum_to_zero(entry, 0, len(entry), smbios.CHECKSUM)
    smbios_at = room.anchor(entry)
    pieces.append((smbios_at, bytes(entry)))
    table = room.table(mp_table.table)
    pieces.append((table, mp_table.table))
    pointer = bytearray(mp_table.pointer)
    struct.pack_into("<I", pointer, MPF_ADDRESS, table)
    _sum_to_zero(pointer, 0, len(pointer), mptable.POINTER_CHECKSUM)
    mp_at = room.anchor(pointer)
    pieces.append((mp_at, bytes(pointer)))
    return Placed(rsdp, facs, smbios_at, mp_at, pieces, told)


def _sum_to_zero(data: bytearray, start: int, end: int, at: int) -> None:
    data[at] = 0
    data[at] = -sum(data[start:end]) & 0xFF


class _Room:
    """Hands out addresses, tables and anchors apart."""

    def __init__(self) -> None:
        self._next = FIRST
        self._next_anchor = ANCHORS

    def table(self, data: bytes | bytearray, align: int = TABLE_ALIGN) -> int:
        """Room for a table."""
        at = -(-self._next // align) * align
        if at + len(data) > ANCHORS:
            raise PlacingError(
                f"tables of {at + len(data) - FIRST} bytes: there is room for {ANCHORS - FIRST} at {FIRST:#x}"
            )
        self._next = at + len(data)
        return at

    def anchor(self, data: bytes | bytearray) -> int:
        """Room for an anchor."""
        at = self._next_anchor
        if at + len(data) > ANCHORS_END:
            raise PlacingError(f"anchor of {len(data)} bytes: there is room for {ANCHORS_END - at} at {at:#x}")
        self._next_anchor = -(-(at + len(data)) // ANCHOR_ALIGN) * ANCHOR_ALIGN
        return at


class _Script:
    """Carries out `etc/table-loader` as firmware does (plugins/firmware/acpi.py says what the commands are)."""

    def __init__(self, files: Mapping[str, bytes], room: _Room) -> None:
        self._files = files
        self._room = room
        self._memory: dict[str, bytearray] = {}
        self.address: dict[str, int] = {}
        self.told: list[tuple[str, int, bytes]] = []

    def pieces(self) -> list[tuple[int, bytes]]:
        """(address, bytes) of every file that was given room."""
        return [(self.address[name], bytes(data)) for name, data in self._memory.items()]

    def run(self, script: bytes) -> None:
        """Do every command."""
        for at in range(0, len(script), acpi.LOADER_ENTRY):
            entry = script[at : at + acpi.LOADER_ENTRY]
            (command,) = struct.unpack_from("<I", entry)
            if command == acpi.ALLOCATE:
                name, align, zone = struct.unpack_from("<56sIB", entry, 4)
                self._allocate(_text(name), align, zone)
            elif command == acpi.ADD_POINTER:
                name, target, offset, size = struct.unpack_from("<56s56sIB", entry, 4)
                data = self._memory[_text(name)]
                value = int.from_bytes(data[offset : offset + size], "little") + self.address[_text(target)]
                data[offset : offset + size] = value.to_bytes(size, "little")
            elif command == acpi.ADD_CHECKSUM:
                name, offset, start, length = struct.unpack_from("<56sIII", entry, 4)
                _sum_to_zero(self._memory[_text(name)], start, start + length, offset)
            elif command == acpi.WRITE_POINTER:
                name, target, offset, plus, size = struct.unpack_from("<56s56sIIB", entry, 4)
                value = self.address[_text(target)] + plus
                self.told.append((_text(name), offset, value.to_bytes(size, "little")))
            else:
                raise PlacingError(f"table loader command {command} at {at}: expected 1, 2, 3 or 4")

    def _allocate(self, name: str, align: int, zone: int) -> None:
        data = self._files[name]
        if zone == acpi.ZONE_FSEG:
            self.address[name] = self._room.anchor(data)
        else:
            self.address[name] = self._room.table(data, align)
        self._memory[name] = bytearray(data)


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode()
