"""SMBIOS tables, parsed as an operating system does it; and by dmidecode."""

from __future__ import annotations

import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import pytest

from plugins.firmware import smbios
from plugins.firmware.smbios import SmbiosConfig, SmbiosError
from qom.hw.bench import IsaBench

GIB = 1 << 30
CONFIG = SmbiosConfig(
    memory=((0, 3 * GIB), (4 * GIB, 37 * GIB)),
    sockets=2,
    cores=3,
    threads=2,
    serial="S-1",
    system_uuid=uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"),
    signature=0x663,
    features=0x78BFBFD,
)


def structures(tables: bytes) -> list[tuple[int, int, bytes, list[str]]]:
    """(type, handle, formatted area, strings) of each structure."""
    found = []
    while tables:
        kind, length, handle = struct.unpack_from("<BBH", tables)
        end = tables.index(b"\0\0", length)
        found.append((kind, handle, tables[:length], [s.decode() for s in tables[length:end].split(b"\0") if s]))
        tables = tables[end + 2 :]
    return found


def one(kind: int, config: SmbiosConfig = CONFIG) -> tuple[bytes, list[str]]:
    return next((data, strings) for k, _, data, strings in structures(smbios.build(config).tables) if k == kind)


def test_structures_and_handles() -> None:
    found = structures(smbios.build(CONFIG).tables)
    assert [kind for kind, *_ in found] == [0, 1, 3, 4, 4, 16, 17, 17, 17, 19, 19, 32, 127]
    handles = [handle for _, handle, *_ in found]
    assert len(set(handles)) == len(handles)
    lengths = {0: 24, 1: 27, 3: 22, 4: 42, 16: 23, 17: 40, 19: 31, 32: 11, 127: 4}
    assert all(len(data) == lengths[kind] for kind, _, data, _ in found)


def test_anchor() -> None:
    files = smbios.build(CONFIG)
    anchor = files.anchor
    assert len(anchor) == anchor[5] == 31
    assert (anchor[:4], anchor[6:8], anchor[16:21], anchor[30]) == (b"_SM_", b"\2\x08", b"_DMI_", 0x28)
    assert sum(anchor) & 0xFF == sum(anchor[16:]) & 0xFF == 0
    length, address, count = struct.unpack_from("<HIH", anchor, 22)
    assert (length, address, count) == (len(files.tables), 0, 13)
    largest = max(len(data) + sum(len(s) + 1 for s in strings) + (1 if strings else 2)
                  for _, _, data, strings in structures(files.tables))  # fmt: skip
    assert struct.unpack_from("<H", anchor, 8)[0] == largest


def test_system() -> None:
    data, strings = one(smbios.SYSTEM)
    assert strings == ["QOM", "Standard PC (i440FX + PIIX)", "pc-i440fx", "S-1"]
    assert data[8:24].hex() == "33221100554477668899aabbccddeeff", "the first three fields are little-endian"


def test_processors() -> None:
    data, strings = one(smbios.PROCESSOR)
    assert strings[0] == "CPU 0"
    assert struct.unpack_from("<II", data, 8) == (0x663, 0x78BFBFD)
    assert tuple(data[35:38]) == (3, 3, 6)


def test_memory_is_shown_in_modules_and_ranges() -> None:
    found = structures(smbios.build(CONFIG).tables)
    array = next(data for kind, _, data, _ in found if kind == 16)
    assert struct.unpack_from("<IHHQ", array, 7) == (40 << 20, 0xFFFE, 3, 0)
    modules = [data for kind, _, data, _ in found if kind == 17]
    assert [struct.unpack_from("<H", m, 12)[0] for m in modules] == [16384, 16384, 8192]
    ranges = [struct.unpack_from("<IIHBQQ", data, 4) for kind, _, data, _ in found if kind == 19]
    assert ranges == [(0, 3 * 2**20 - 1, 0x1000, 1, 0, 0), (4 * 2**20, 41 * 2**20 - 1, 0x1000, 1, 0, 0)]


def test_memory_beyond_the_old_fields() -> None:
    config = SmbiosConfig(memory=((0, 3 * GIB), (4 * GIB, 5000 * GIB)))
    found = structures(smbios.build(config).tables)
    array = next(data for kind, _, data, _ in found if kind == 16)
    assert struct.unpack_from("<I", array, 7)[0] == 0x8000_0000
    assert struct.unpack_from("<Q", array, 15)[0] == 5003 * GIB
    last = [data for kind, _, data, _ in found if kind == 19][-1]
    assert struct.unpack_from("<IIHBQQ", last, 4) == (0xFFFFFFFF, 0xFFFFFFFF, 0x1000, 1, 4 * GIB, 5004 * GIB - 1)


def test_no_memory() -> None:
    with pytest.raises(SmbiosError) as caught:
        smbios.build(SmbiosConfig(memory=()))
    assert str(caught.value) == "SMBIOS tables need at least one range of memory"


def test_too_much() -> None:
    with pytest.raises(SmbiosError, match=r"^SMBIOS tables of \d+ bytes exceed the 65535 of version 2\.8$"):
        smbios.build(SmbiosConfig(memory=((0, GIB),), sockets=2000))


def test_files_are_offered_under_qemus_names() -> None:
    fw_cfg = IsaBench().add("fw_cfg_io")
    files = smbios.build(CONFIG)
    files.install(fw_cfg)
    assert fw_cfg.file("etc/smbios/smbios-anchor") == files.anchor
    assert fw_cfg.file("etc/smbios/smbios-tables") == files.tables


def test_dmidecode_reads_them(tmp_path: Path) -> None:
    if shutil.which("dmidecode") is None:
        pytest.skip("dmidecode is not installed")
    files = smbios.build(CONFIG)
    anchor = bytearray(files.anchor)
    anchor[24:28] = (32).to_bytes(4, "little")  # where the dump has the tables; then the checksums, as firmware does
    anchor[21] = (anchor[21] - sum(anchor[16:])) & 0xFF
    anchor[4] = (anchor[4] - sum(anchor)) & 0xFF
    dump = tmp_path / "dump"
    dump.write_bytes(bytes(anchor).ljust(32, b"\0") + files.tables)
    done = subprocess.run(["dmidecode", "--from-dump", str(dump)], capture_output=True, text=True, timeout=30)
    for line in (
        "SMBIOS 2.8 present.",
        "13 structures occupying",
        "UUID: 00112233-4455-6677-8899-aabbccddeeff",
        "Serial Number: S-1",
        "Core Count: 3",
        "Thread Count: 6",
        "Maximum Capacity: 40 GB",
        "Size: 16 GB",
        "Ending Address: 0x000BFFFFFFF",
        "System is a virtual machine",
        "End Of Table",
    ):
        assert line in done.stdout, line
    assert "TRUNCATED" not in done.stdout and "Invalid" not in done.stdout
