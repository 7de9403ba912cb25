"""ELF executables as loaders need them: the segments to load by physical address, the entry, the notes.

Modelled: 32- and 64-bit little-endian executables for i386 and x86-64, program headers of type LOAD and NOTE.
Not modelled: sections, symbols, relocation, big-endian files.

Reference: System V ABI, "Object Files" (chapter 4) and "Program Loading" (chapter 5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from qom import records

__all__ = ["Elf", "ElfError", "Segment"]

MAGIC = b"\x7fELF"
CLASS, DATA, LITTLE = 4, 5, 1  # of e_ident
MACHINES = {3: "i386", 62: "x86-64"}
EXECUTABLE = 2
LOAD, NOTE = 1, 4  # segment types
NOTE_HEADER = struct.Struct("<III")  # size of the name, of the description, type


@records.frozen
class _Form:
    """Where 32- and 64-bit files differ: the header after e_ident, and a program header."""

    header: struct.Struct
    program: struct.Struct
    order: tuple[str, ...]


FORMS = {
    1: _Form(
        struct.Struct("<HHIIIIIHHHHHH"),
        struct.Struct("<IIIIIIII"),
        ("type", "offset", "virtual", "physical", "file_size", "memory_size", "flags", "align"),
    ),
    2: _Form(
        struct.Struct("<HHIQQQIHHHHHH"),
        struct.Struct("<IIQQQQQQ"),
        ("type", "flags", "offset", "virtual", "physical", "file_size", "memory_size", "align"),
    ),
}


class ElfError(Exception):
    """A file that is damaged or for something else; the text goes on after the file's name."""


@records.frozen
class Segment:
    """A piece to be loaded: `data` and then zeros up to `size` bytes at the physical address `physical`."""

    physical: int
    virtual: int
    data: bytes
    size: int

    @property
    def end(self) -> int:
        """The first physical address after it."""
        return self.physical + self.size


@records.frozen
class Elf:
    """An executable.

    bits: 32 or 64.  entry: the physical address of its entry.  notes: (name, type, description) of each.
    """

    bits: int
    entry: int
    segments: list[Segment]
    notes: list[tuple[bytes, int, bytes]]

    @classmethod
    def parse(cls, image: bytes) -> Elf:
        """Read a file.

        Raises:
            ElfError: it is no such executable, or cut short.
        """
        form = FORMS.get(image[CLASS] if len(image) > DATA else 0)
        if not image.startswith(MAGIC) or form is None or image[DATA] != LITTLE or len(image) < 16 + form.header.size:
            raise ElfError("is no ELF file for a PC: its first bytes are wrong")
        kind, machine, _, entry, table, _, _, _, size, count, *_ = form.header.unpack_from(image, 16)
        if machine not in MACHINES:
            known = " or ".join(f"{name} ({number})" for number, name in MACHINES.items())
            raise ElfError(f"is an ELF file for machine {machine}: expected {known}")
        if kind != EXECUTABLE:
            raise ElfError(f"is an ELF file of type {kind}: expected an executable ({EXECUTABLE})")
        if size < form.program.size or table + count * size > len(image):
            raise ElfError(f"is cut short: {len(image)} bytes, its program headers end at {table + count * size}")
        segments: list[Segment] = []
        notes: list[tuple[bytes, int, bytes]] = []
        for n in range(count):
            header = dict(zip(form.order, form.program.unpack_from(image, table + n * size), strict=True))
            start, length = header["offset"], header["file_size"]
            if header["type"] in (LOAD, NOTE) and start + length > len(image):
                raise ElfError(f"is cut short: {len(image)} bytes, its segment {n} ends at {start + length}")
            data = image[start : start + length]
            if header["type"] == LOAD and header["memory_size"]:
                whole = max(header["memory_size"], length)
                segments.append(Segment(header["physical"], header["virtual"], data, whole))
            elif header["type"] == NOTE:
                notes += _notes(data)
        if not segments:
            raise ElfError("is an ELF file with nothing to load")
        return cls(64 if form is FORMS[2] else 32, _physical(entry, segments), segments, notes)


def _physical(entry: int, segments: list[Segment]) -> int:
    """A virtual address in one of the segments as a physical one; others are taken for physical already."""
    for segment in segments:
        if segment.virtual <= entry < segment.virtual + segment.size:
            return entry - segment.virtual + segment.physical
    return entry


def _notes(data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at + NOTE_HEADER.size <= len(data):
        name_size, size, kind = NOTE_HEADER.unpack_from(data, at)
        name_at = at + NOTE_HEADER.size
        start = name_at + -(-name_size // 4) * 4
        at = start + -(-size // 4) * 4
        yield data[name_at : name_at + name_size].rstrip(b"\0"), kind, data[start : start + size]
