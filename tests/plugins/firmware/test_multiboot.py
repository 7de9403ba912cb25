"""Multiboot and PVH kernels: what is recognised, where it goes, what it is told, what is wrong with it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from plugins.firmware import bootrom, fw_cfg
from plugins.firmware.elf import Elf, ElfError
from plugins.firmware.flat_kernel import FlatKernel
from plugins.firmware.kernel import Memory, Request, open_kernel
from plugins.firmware.loader import ImageError

MIB = 1 << 20
MEMORY = Memory(below=64 * MIB, map=[(0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (MIB, 63 * MIB, 1)], rsdp=0xFFE00)
MAGIC = 0x1BADB002


def header(flags: int = 0, *addresses: int) -> bytes:
    return struct.pack("<III", MAGIC, flags, -(MAGIC + flags) & 0xFFFFFFFF) + struct.pack(
        f"<{len(addresses)}I", *addresses
    )


def elf(
    code: bytes = b"C" * 100,
    *,
    wide: bool = False,
    kind: int = 2,
    machine: int | None = None,
    entry: int = 0x8010_0010,
    virtual: int = 0x8010_0000,
    physical: int = MIB,
    size: int = 200,
    note: bytes = b"",
) -> bytes:
    """One segment to load, and notes if there are any."""
    count = 2 if note else 1
    head, each = (64, 56) if wide else (52, 32)
    notes_at = head + each * count
    code_at = notes_at + len(note)
    machine = machine if machine is not None else 62 if wide else 3
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1)).ljust(12, b"\0")
    form = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    made = ident + struct.pack(form, kind, machine, 1, entry, head, 0, 0, head, each, count, 0, 0, 0)
    if wide:
        made += struct.pack("<IIQQQQQQ", 1, 7, code_at, virtual, physical, len(code), size, 4096)
        if note:
            made += struct.pack("<IIQQQQQQ", 4, 4, notes_at, 0, 0, len(note), len(note), 4)
    else:
        made += struct.pack("<IIIIIIII", 1, code_at, virtual, physical, len(code), size, 7, 4096)
        if note:
            made += struct.pack("<IIIIIIII", 4, notes_at, 0, 0, len(note), len(note), 4, 4)
    return made + note + code


def note(entry: int, *, name: bytes = b"Xen\0", kind: int = 18, form: str = "<I") -> bytes:
    value = struct.pack(form, entry)
    return struct.pack("<III", len(name), len(value), kind) + name + value


def opened(folder: Path, content: bytes) -> FlatKernel:
    path = folder / "kernel"
    path.write_bytes(content)
    kernel = open_kernel(str(path))
    assert isinstance(kernel, FlatKernel)
    return kernel


def held(kernel: FlatKernel, request: Request) -> tuple[Any, dict[int, bytes]]:
    start = kernel.direct(request, MEMORY, long_mode=True)
    return start, {chunk.address: chunk.data for chunk in start.chunks}


@pytest.mark.parametrize("wide", [False, True])
def test_a_multiboot_elf_is_loaded_by_physical_addresses(tmp_path: Path, wide: bool) -> None:
    kernel = opened(tmp_path, elf(header() + b"C" * 88, wide=wide))
    start, memory = held(kernel, Request())
    assert kernel.kind == "multiboot image"
    assert (start.entry, start.long_mode) == (MIB + 0x10, False)
    assert memory[MIB] == header() + b"C" * 88 + bytes(100)
    assert start.registers["rax"] == 0x2BADB002


def test_addresses_in_the_header_come_before_elf(tmp_path: Path) -> None:
    at = 0x20
    image = b"j" * at + header(1 << 16, 2 * MIB + 0x10, 2 * MIB, 2 * MIB + 0x40, 2 * MIB + 0x100, 2 * MIB + 4)
    image = image.ljust(200, b"r")
    kernel = opened(tmp_path, image)
    start, memory = held(kernel, Request())
    assert start.entry == 2 * MIB + 4
    assert memory[2 * MIB] == image[0x10:0x50] + bytes(0xC0)


def test_modules_lie_on_pages_behind_the_kernel_and_each_other(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1" * 4097)
    two.write_bytes(b"2")
    kernel = opened(tmp_path, elf(header(), size=5000))
    request = Request(initrd=f"{one} a b,{two}", append="x=y")
    _, memory = held(kernel, request)
    assert (memory[MIB + 2 * 4096], memory[MIB + 4 * 4096]) == (b"1" * 4097, b"2")
    items = kernel.items(request, 64 * MIB)
    assert items[fw_cfg.INITRD_ADDR] == struct.pack("<I", MIB + 2 * 4096)
    assert items[fw_cfg.INITRD_DATA] == (b"1" * 4097).ljust(2 * 4096, b"\0") + b"2"
    assert items[fw_cfg.KERNEL_DATA] == header().ljust(5000, b"\0")
    assert items[fw_cfg.KERNEL_ENTRY] == struct.pack("<I", MIB + 0x10)
    assert items[fw_cfg.SETUP_ADDR] == struct.pack("<I", 0x10000)
    info = items[fw_cfg.SETUP_DATA]
    (flags, cmdline, count, mods) = (int.from_bytes(info[n : n + 4], "little") for n in (0, 16, 20, 24))
    assert (flags, count) == (0x20C, 2)
    assert info[cmdline - 0x10000 :].split(b"\0")[0] == f"{kernel.path} x=y".encode()
    first = struct.unpack_from("<IIII", info, mods - 0x10000)
    assert first[:2] == (MIB + 2 * 4096, MIB + 2 * 4096 + 4097)
    assert info[first[2] - 0x10000 :].split(b"\0")[0] == f"{one} a b".encode()


@pytest.mark.parametrize(("wide", "form"), [(False, "<I"), (True, "<I"), (True, "<Q")])
def test_an_elf_file_starts_at_its_note(tmp_path: Path, wide: bool, form: str) -> None:
    notes = note(1, name=b"GNU\0", kind=3) + note(MIB + 0x40, form=form)
    kernel = opened(tmp_path, elf(wide=wide, note=notes))
    start, memory = held(kernel, Request(append="quiet"))
    assert kernel.kind == "ELF file with a PVH note"
    assert (start.entry, start.long_mode) == (MIB + 0x40, False)
    info = memory[start.registers["rbx"]]
    magic, version, flags, modules, listed, cmdline, rsdp, table, entries, _ = struct.unpack_from("<IIIIQQQQII", info)
    assert (magic, version, flags, modules, listed, rsdp, entries) == (0x336EC578, 1, 0, 0, 0, 0xFFE00, 3)
    base = start.registers["rbx"]
    assert info[cmdline - base :].split(b"\0")[0] == b"quiet"
    assert [struct.unpack_from("<QQI", info, table - base + 24 * n) for n in range(3)] == MEMORY.map


def test_what_is_wrong_with_a_kernel(tmp_path: Path) -> None:
    addresses = (2 * MIB, 2 * MIB, 2 * MIB + 4096, 0, 2 * MIB)
    for content, message in (
        (header(4), "requires a video mode (multiboot header flag 2): expected a kernel that needs none"),
        (header(8), "requires multiboot features 0x8: expected none but 0x3"),
        (header(), "is a multiboot image without addresses (flag 16): expected them, or an ELF file"),
        (header(1 << 16), "is cut short: 12 bytes, its multiboot header ends at 32"),
        (header(1 << 16, *addresses), "has 32 bytes: by its load_end_addr 0x201000 expected 4096"),
        (
            header(1 << 16, MIB, 2 * MIB, 0, 0, 0),
            "has load_addr 0x200000 and header_addr 0x100000, its header is at 0x0 of the file",
        ),
        (elf(), "is an ELF file that says no way to start it: expected a PVH note or a multiboot header"),
        (
            elf(note=note(1, kind=17)),
            "is an ELF file that says no way to start it: expected a PVH note or a multiboot header",
        ),
        (elf(machine=183), "is an ELF file for machine 183: expected i386 (3) or x86-64 (62)"),
        (elf(kind=3), "is an ELF file of type 3: expected an executable (2)"),
        (elf()[:60], "is cut short: 60 bytes, its program headers end at 84"),
        (elf()[:100], "is cut short: 100 bytes, its segment 0 ends at 184"),
        (b"\x7fELF" + bytes(100), "is no ELF file for a PC: its first bytes are wrong"),
        (elf(b"", size=0), "is an ELF file with nothing to load"),
    ):
        with pytest.raises(ImageError) as caught:
            opened(tmp_path, content)
        assert str(caught.value) == f"kernel '{tmp_path / 'kernel'}' {message}"


def test_what_does_not_fit(tmp_path: Path) -> None:
    kernel = opened(tmp_path, elf(note=note(MIB), size=70 * MIB))
    with pytest.raises(ImageError) as caught:
        kernel.direct(Request(), MEMORY, long_mode=True)
    assert str(caught.value) == (
        f"kernel '{kernel.path}' does not fit: it lies up to 0x4700000, and 64M of memory have RAM up to 0x4000000:"
        " expected more memory (-m)"
    )
    kernel = opened(tmp_path, elf(note=note(MIB), physical=0x8_0000))
    with pytest.raises(ImageError) as caught:
        kernel.direct(Request(), MEMORY, long_mode=True)
    assert str(caught.value).startswith(f"kernel '{kernel.path}' lies from 0x80000 to 0x800c7: what it is started with")
    with pytest.raises(ImageError) as caught:
        kernel.items(Request(), 64 * MIB)
    assert str(caught.value) == (
        f"kernel '{kernel.path}' is loaded at 0x80000: with firmware expected 0x100000 or above (or '-bios none')"
    )
    kernel = opened(tmp_path, elf(note=note(MIB), physical=0x9FF00, size=0x200))
    with pytest.raises(ImageError) as caught:
        kernel.direct(Request(), MEMORY, long_mode=True)
    assert str(caught.value) == f"kernel '{kernel.path}' lies from 0x9ff00 to 0xa00ff, where there is not only RAM"
    kernel = opened(tmp_path, elf(note=note(MIB)))
    with pytest.raises(ImageError) as caught:
        kernel.direct(Request(append="x" * 20000), MEMORY, long_mode=True)
    assert str(caught.value) == f"kernel '{kernel.path}' has a command line of 20000 characters: expected 16384"


def test_an_entry_outside_every_segment_is_taken_as_it_is() -> None:
    assert Elf.parse(elf(entry=0x1234)).entry == 0x1234
    with pytest.raises(ElfError):
        Elf.parse(b"")


@pytest.mark.parametrize("name", ["linuxboot.bin", "multiboot.bin", "pvh.bin"])
def test_a_boot_rom_is_one_that_a_bios_accepts(name: str) -> None:
    rom = bootrom.finished(name)
    assert rom[:2] == b"\x55\xaa" and len(rom) == rom[2] * 512
    assert sum(rom) & 0xFF == 0
    pnp = int.from_bytes(rom[0x1A:0x1C], "little")
    assert rom[pnp : pnp + 6] == b"$PnP\x01\x02" and sum(rom[pnp : pnp + 32]) & 0xFF == 0
    vector = int.from_bytes(rom[pnp + 26 : pnp + 28], "little")
    assert 0 < vector < len(rom) and rom[vector] == 0xFA  # it begins with CLI
    product = int.from_bytes(rom[pnp + 16 : pnp + 18], "little")
    assert rom[product:].split(b"\0")[0].endswith(b"kernel")
