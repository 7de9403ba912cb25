"""Dumps of guest memory, read back by readers of their own: by page tables, compressed, and beside QEMU's."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from asked import ask
from qmp_machine import QmpMachine, qmp_machine

from qom import open_machine
from qom.monitor.dumping import PN_XNUM, _headers

QEMU = shutil.which("qemu-system-x86_64")
MIB = 1 << 20
KERNEL = 0xFFFF_8000_0000_0000


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[QmpMachine]:
    with qmp_machine(tmp_path, "-M", "pc", "-m", "16", "-smp", "2") as made:
        yield made


class Load(NamedTuple):
    offset: int
    linear: int
    physical: int
    size: int


def loads(core: bytes) -> list[Load]:
    """The segments of a core."""
    phoff, shoff = struct.unpack_from("<QQ", core, 32)
    (count,) = struct.unpack_from("<H", core, 56)
    if count == 0xFFFF:
        (count,) = struct.unpack_from("<I", core, shoff + 44)
    found = []
    for n in range(count):
        kind, _, offset, linear, physical, size, in_memory, _ = struct.unpack_from("<IIQQQQQQ", core, phoff + 56 * n)
        if kind == 1:
            assert size == in_memory
            found.append(Load(offset, linear, physical, size))
    return found


def translated(vm: Any, cpu: int, root: int) -> None:
    """Four levels of page tables at `root`: what is there, see the tests."""
    memory = vm.memory
    for at, entries in (
        (root, {256: root + 0x1003, 0: root + 0x4003}),
        (root + 0x1000, {0: root + 0x2003}),
        (root + 0x2000, {0: 0x00_0083, 1: 0x20_0083, 3: 0x60_0083, 4: root + 0x3003, 5: 0xE000_0083}),
        (root + 0x3000, {0: 0x5003, 1: 0x6003, 7: 0x9003}),
        (root + 0x4000, {0: 0x4000_0083}),  # a page of 1 GiB: only what of it is RAM could be dumped, and nothing is
    ):
        table = bytearray(4096)
        for n, entry in entries.items():
            struct.pack_into("<Q", table, 8 * n, entry)
        memory[at : at + 4096] = bytes(table)
    vm.cpus[cpu].registers.set(cr3=root, cr4=0x20, efer=0x500, cr0=0x8000_0011)


def test_segments_are_where_the_page_tables_put_them(machine: QmpMachine, tmp_path: Path) -> None:
    vm, path = machine.vm, tmp_path / "core"
    vm.memory[0x5000:0x5008] = b"\1\2\3\4\5\6\7\x08"
    with vm.lock:
        translated(vm, 1, 0x10_0000)  # the first processor does not translate
    ask(vm, "dump-guest-memory", paging=True, protocol=f"file:{path}")
    core = path.read_bytes()
    found = loads(core)
    assert [(load.linear, load.physical, load.size) for load in found] == [
        (KERNEL, 0, 0xA0000),  # two pages of 2 MiB in one stretch; between, the display's memory is no RAM
        (KERNEL + 0x80_0000, 0x5000, 0x2000),
        (KERNEL + 0x80_7000, 0x9000, 0x1000),
        (KERNEL + 0x10_0000, 0x10_0000, 4 * MIB - MIB),
        (KERNEL + 3 * 2 * MIB, 0x60_0000, 2 * MIB),
    ]  # fmt: skip
    for load in found:
        assert core[load.offset : load.offset + load.size] == bytes(
            vm.memory[load.physical : load.physical + load.size]
        )
    small = tmp_path / "small"
    ask(vm, "dump-guest-memory", paging=True, protocol=f"file:{small}", begin=0x5000, length=0x1000)
    part = [(load.linear, load.physical, load.size) for load in loads(small.read_bytes())]
    assert part == [(KERNEL + 0x5000, 0x5000, 0x1000), (KERNEL + 0x80_0000, 0x5000, 0x1000)]


def test_without_page_tables_linear_is_physical(machine: QmpMachine, tmp_path: Path) -> None:
    cores = []
    for paging in (False, True):
        path = tmp_path / f"core{paging}"
        ask(machine.vm, "dump-guest-memory", paging=paging, protocol=f"file:{path}")
        cores.append(path.read_bytes())
        assert all(load.linear == load.physical for load in loads(cores[-1]))
    assert cores[0] == cores[1]


def test_more_segments_than_the_header_counts() -> None:
    ram = bytearray(4096)
    pieces = [(0, memoryview(ram))]
    many = [(n << 12, 0, 4096) for n in range(PN_XNUM)]
    made = _headers(b"note", pieces, many)
    assert struct.unpack_from("<H", made, 56) == (0xFFFF,)
    found = loads(made + ram)
    assert len(found) == PN_XNUM and found[-1].linear == (PN_XNUM - 1) << 12
    assert {load.offset for load in found} == {len(made)}
    assert len(loads(_headers(b"note", pieces, many[:-1]) + ram)) == PN_XNUM - 1


# -- kdump


class Kdump(NamedTuple):
    """A dump of crash's format: fields of its headers, its notes, and the pages that it has."""

    flat: bytes
    header: dict[str, Any]
    notes: bytes
    pages: dict[int, bytes]


def kdump(path: Path) -> Kdump:
    """Read a flattened dump, by its layout alone."""
    data, at, pieces = path.read_bytes(), 4096, []
    while True:
        offset, size = struct.unpack_from(">qq", data, at)
        at += 16
        if offset == -1:
            assert (size, at) == (-1, len(data))
            break
        pieces.append((offset, data[at : at + size]))
        at += size
    plain = bytearray(max(offset + len(piece) for offset, piece in pieces))
    for offset, piece in pieces:
        plain[offset : offset + len(piece)] = piece
    names = (
        "status",
        "block_size",
        "sub_hdr_size",
        "bitmap_blocks",
        "max_mapnr",
        "total_ram",
        "device",
        "written",
        "cpu",
        "cpus",
    )
    header: dict[str, Any] = dict(zip(names, struct.unpack_from("<10I", plain, 424), strict=True))
    header["signature"], header["version"] = bytes(plain[:8]), struct.unpack_from("<I", plain, 8)[0]
    header["machine"] = bytes(plain[12 + 260 : 12 + 325]).rstrip(b"\0")
    sub = struct.unpack_from("<QIIQQQQQQQQQQQ", plain, 4096)
    header["phys_base"], header["level"], header["max_mapnr_64"] = sub[0], sub[1], sub[13]
    notes = bytes(plain[sub[7] : sub[7] + sub[8]])
    first = (1 + header["sub_hdr_size"]) * 4096
    half = header["bitmap_blocks"] * 4096 // 2
    there, dumped = plain[first : first + half], plain[first + half : first + 2 * half]
    numbers = [n for n in range(8 * half) if dumped[n >> 3] >> (n & 7) & 1]
    assert all(there[n >> 3] >> (n & 7) & 1 for n in numbers)
    pages = {}
    for index, number in enumerate(numbers):
        offset, size, flags, _ = struct.unpack_from("<QIIQ", plain, first + 2 * half + 24 * index)
        page = bytes(plain[offset : offset + size])
        pages[number] = zlib.decompress(page) if flags & 1 else page
    return Kdump(data[:4096], header, notes, pages)


def test_a_compressed_dump_has_every_page(machine: QmpMachine, tmp_path: Path) -> None:
    vm, path, core = machine.vm, tmp_path / "kdump", tmp_path / "core"
    noise = bytes((n * n >> 5 ^ n * 2654435761 >> 13) & 0xFF for n in range(3 * 4096))  # grows when it is compressed
    vm.memory[0x20_0000 : 0x20_0000 + len(noise)] = noise
    client = machine.client()
    client.do("dump-guest-memory", paging=False, protocol=f"file:{path}", format="kdump-zlib")
    told = client.event("DUMP_COMPLETED")["data"]["result"]
    assert told == {"status": "completed", "completed": told["total"], "total": told["total"]}
    found = kdump(path)
    assert len(found.pages) * 4096 == told["total"]
    for number, page in found.pages.items():
        assert page == bytes(vm.memory[number << 12 : (number + 1) << 12]), number
    assert set(found.pages) == {*range(0xA0), *range(0x100, 0x1000)}
    assert path.stat().st_size < 2 * MIB
    ask(vm, "dump-guest-memory", paging=False, protocol=f"file:{core}")
    whole = core.read_bytes()
    assert found.notes in whole  # the same notes


@pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")
def test_the_headers_are_qemus(machine: QmpMachine, tmp_path: Path) -> None:
    """All fields but those that say where memory ends, which has flash there, and how long the notes are."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    assert QEMU is not None
    commands = [
        {"execute": "qmp_capabilities"},
        {"execute": "dump-guest-memory",
         "arguments": {"paging": False, "protocol": f"file:{theirs}", "format": "kdump-zlib"}},
        {"execute": "quit"},
    ]  # fmt: skip
    words = [QEMU, "-M", "pc", "-m", "16", "-smp", "2", "-S", "-nodefaults", "-display", "none", "-qmp", "stdio"]
    subprocess.run(
        words, input="".join(map(json.dumps, commands)), text=True, capture_output=True, timeout=60, check=True
    )
    ask(machine.vm, "dump-guest-memory", paging=False, protocol=f"file:{ours}", format="kdump-zlib")
    mine, real = kdump(ours), kdump(theirs)
    assert mine.flat == real.flat
    for changes in ("max_mapnr", "max_mapnr_64", "bitmap_blocks", "sub_hdr_size"):
        del mine.header[changes], real.header[changes]
    assert mine.header == real.header
    assert set(mine.pages) <= set(real.pages)


def test_a_full_disk_ends_a_compressed_dump() -> None:
    with open_machine(machine="pc", accel="qtest", memory="16M") as vm:
        with pytest.raises(Exception, match=r"^dump: /dev/full: No space left on device$"):
            ask(vm, "dump-guest-memory", paging=False, protocol="file:/dev/full", format="kdump-zlib")
        assert ask(vm, "query-dump")["status"] == "failed"
        assert ask(vm, "query-dump-guest-memory-capability") == {"formats": ["elf", "kdump-zlib"]}
