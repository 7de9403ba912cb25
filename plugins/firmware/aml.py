"""A writer of AML, the byte code of ACPI tables (ACPI 6.4, chapter 20), as far as our tables need it.

Every function returns the encoding of one object or term as bytes, so a table is an expression:

    device("RTC_", name("_HID", eisa_id("PNP0B00")), name("_CRS", resources(io(0x70, 0x70, 1, 8), irq(8))))

Not written: the ASL optimisations (a name is encoded as given), conversion, events.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from qom import QomError

ZERO, ONE, ONES = b"\x00", b"\x01", b"\xff"
LOCALS = tuple(bytes((0x60 + n,)) for n in range(8))
ARGS = tuple(bytes((0x68 + n,)) for n in range(7))

SYSTEM_MEMORY, SYSTEM_IO, PCI_CONFIG = range(3)  # operation region spaces
ANY_ACCESS, BYTE_ACCESS, WORD_ACCESS, DWORD_ACCESS = range(4)  # field access types
PRESERVE, WRITE_AS_ZEROS = 0x00, 0x40  # field update rules
FOREVER = 0xFFFF  # of an Acquire


class AmlError(QomError):
    """Something that has no encoding."""


# --- names and lengths (20.2.2, 20.2.4)

_SEGMENT = re.compile(r"[A-Z_][A-Z0-9_]{0,3}")


def segment(text: str) -> bytes:
    """A name segment, padded to four characters."""
    if not _SEGMENT.fullmatch(text):
        raise AmlError(f"{text!r} is no AML name segment: expected 1 to 4 of A-Z, 0-9, _, not starting with a digit")
    return text.ljust(4, "_").encode()


def path(text: str) -> bytes:
    r"""A name path: `\_SB.PCI0`, `^FOO`, `BAR`."""
    prefix = re.match(r"\\|\^*", text)
    assert prefix is not None
    rest = text[prefix.end() :]
    segments = [segment(part) for part in rest.split(".")] if rest else []
    head = prefix[0].encode()
    if not segments:
        return head + b"\x00"
    if len(segments) == 1:
        return head + segments[0]
    if len(segments) == 2:
        return head + b"\x2e" + b"".join(segments)
    return head + b"\x2f" + bytes((len(segments),)) + b"".join(segments)


def package_length(length: int, *, counts_itself: bool = True) -> bytes:
    """The length that starts a package; it includes its own bytes unless it is a field width."""
    for extra in range(4):
        total = length + (extra + 1 if counts_itself else 0)
        if total < (1 << 6 if extra == 0 else 1 << (4 + 8 * extra)):
            if extra == 0:
                return bytes((total,))
            return bytes((extra << 6 | total & 0x0F, *((total >> 4 + 8 * n) & 0xFF for n in range(extra))))
    raise AmlError(f"an AML package of {length} bytes is too long")


def _packed(opcode: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return opcode + package_length(len(body)) + body


# --- data (20.2.3)


def integer(value: int) -> bytes:
    """An integer constant in its shortest form."""
    if value < 0 or value >= 1 << 64:
        raise AmlError(f"{value} is no AML integer: expected 0 to 2^64 - 1")
    if value < 2:
        return bytes((value,))
    for prefix, code in ((0x0A, "<B"), (0x0B, "<H"), (0x0C, "<I"), (0x0E, "<Q")):
        if value < 1 << 8 * struct.calcsize(code):
            return bytes((prefix,)) + struct.pack(code, value)
    raise AssertionError("unreachable")


def dword(value: int) -> bytes:
    """An integer constant of four bytes, however small it is: for a script of the firmware's to fill in."""
    return b"\x0c" + struct.pack("<I", value)


def string(text: str) -> bytes:
    """A string constant."""
    return b"\x0d" + text.encode("ascii") + b"\x00"


def buffer(data: bytes) -> bytes:
    """A buffer holding `data`."""
    return _packed(b"\x11", integer(len(data)), data)


def package(*elements: bytes) -> bytes:
    """A package of up to 255 elements."""
    if len(elements) > 255:
        raise AmlError(f"an AML package takes 255 elements, not {len(elements)}")
    return _packed(b"\x12", bytes((len(elements),)), *elements)


def eisa_id(text: str) -> bytes:
    """A compressed EISA identifier such as PNP0A03."""
    if not re.fullmatch(r"[A-Z]{3}[0-9A-F]{4}", text):
        raise AmlError(f"{text!r} is no EISA id: expected three capitals and four hexadecimal digits")
    a, b, c = (ord(letter) - 0x40 for letter in text[:3])
    number = int(text[3:], 16)
    return b"\x0c" + struct.pack(">HH", a << 10 | b << 5 | c, number)


# --- named objects (20.2.5)


def name(where: str, value: bytes) -> bytes:
    """Name (where, value)."""
    return b"\x08" + path(where) + value


def scope(where: str, *terms: bytes) -> bytes:
    """Scope (where) {...}."""
    return _packed(b"\x10", path(where), *terms)


def device(where: str, *terms: bytes) -> bytes:
    """Device (where) {...}."""
    return _packed(b"\x5b\x82", path(where), *terms)


def processor(where: str, number: int, *terms: bytes) -> bytes:
    """Processor (where, number, no P_BLK) {...}."""
    return _packed(b"\x5b\x83", path(where), struct.pack("<BIB", number, 0, 0), *terms)


def method(where: str, args: int, *terms: bytes, serialized: bool = False) -> bytes:
    """Method (where, args, serialized) {...}."""
    return _packed(b"\x14", path(where), bytes((args | serialized << 3,)), *terms)


def operation_region(where: str, space: int, offset: int, length: int) -> bytes:
    """OperationRegion (where, space, offset, length)."""
    return b"\x5b\x80" + path(where) + bytes((space,)) + integer(offset) + integer(length)


def field(region: str, access: int, elements: Iterable[tuple[str, int]], update: int = PRESERVE) -> bytes:
    """Field (region, access, NoLock, update) {...}: (name, bits) each; an empty name skips bits."""
    body = b""
    for label, bits in elements:
        body += (segment(label) if label else b"\x00") + package_length(bits, counts_itself=False)
    return _packed(b"\x5b\x81", path(region), bytes((access | update,)), body)


def mutex(where: str) -> bytes:
    """Mutex (where, 0)."""
    return b"\x5b\x01" + path(where) + b"\x00"


def create_dword_field(source: bytes, offset: int, label: str) -> bytes:
    """CreateDWordField (source, offset, label)."""
    return b"\x8a" + source + integer(offset) + path(label)


# --- statements and expressions (20.2.5.3, 20.2.5.4)


def ref(where: str) -> bytes:
    """A use of a name."""
    return path(where)


def call(where: str, *args: bytes) -> bytes:
    """A call of a method."""
    return path(where) + b"".join(args)


def store(value: bytes, target: bytes) -> bytes:
    """Store (value, target)."""
    return b"\x70" + value + target


def and_(a: bytes, b: bytes, target: bytes = ZERO) -> bytes:
    """And (a, b, target)."""
    return b"\x7b" + a + b + target


def or_(a: bytes, b: bytes, target: bytes = ZERO) -> bytes:
    """Or (a, b, target)."""
    return b"\x7d" + a + b + target


def less(a: bytes, b: bytes) -> bytes:
    """LLess (a, b)."""
    return b"\x95" + a + b


def equal(a: bytes, b: bytes) -> bytes:
    """LEqual (a, b)."""
    return b"\x93" + a + b


def shift_left(value: bytes, count: bytes, target: bytes = ZERO) -> bytes:
    """ShiftLeft (value, count, target)."""
    return b"\x79" + value + count + target


def index(source: bytes, position: bytes, target: bytes = ZERO) -> bytes:
    """Index (source, position, target): an element of a package."""
    return b"\x88" + source + position + target


def notify(where: bytes, value: bytes) -> bytes:
    """Notify (where, value)."""
    return b"\x86" + where + value


def if_(condition: bytes, *terms: bytes) -> bytes:
    """If (condition) {...}."""
    return _packed(b"\xa0", condition, *terms)


def else_(*terms: bytes) -> bytes:
    """Else {...}, after an If."""
    return _packed(b"\xa1", *terms)


def while_(condition: bytes, *terms: bytes) -> bytes:
    """While (condition) {...}."""
    return _packed(b"\xa2", condition, *terms)


def acquire(name: str) -> bytes:
    """Acquire (name, 0xFFFF)."""
    return b"\x5b\x23" + path(name) + struct.pack("<H", FOREVER)


def release(name: str) -> bytes:
    """Release (name)."""
    return b"\x5b\x27" + path(name)


def return_(value: bytes) -> bytes:
    """Return (value)."""
    return b"\xa4" + value


# --- resource descriptors (6.4)


def resources(*descriptors: bytes) -> bytes:
    """ResourceTemplate () {...}."""
    return buffer(b"".join(descriptors) + b"\x79\x00")


def io(low: int, high: int, align: int, length: int) -> bytes:
    """IO (Decode16, low, high, align, length)."""
    return struct.pack("<BBHHBB", 0x47, 0x01, low, high, align, length)


def irq(*lines: int) -> bytes:
    """IRQNoFlags () {...}: edge triggered, active high."""
    return struct.pack("<BH", 0x22, sum(1 << n for n in lines))


def dma(channel: int) -> bytes:
    """DMA (Compatibility, NotBusMaster, Transfer8) {channel}."""
    return struct.pack("<BBB", 0x2A, 1 << channel, 0x00)


def interrupt(*lines: int) -> bytes:
    """Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) {...}."""
    consumer, shared = 0x01, 0x08
    return struct.pack(f"<BHBB{len(lines)}I", 0x89, 2 + 4 * len(lines), consumer | shared, len(lines), *lines)


def memory32_fixed(base: int, length: int, *, writable: bool = True) -> bytes:
    """Memory32Fixed (ReadWrite, base, length)."""
    return struct.pack("<BHBII", 0x86, 9, int(writable), base, length)


def _window(kind: int, code: str, tag: int, flags: int, low: int, high: int) -> bytes:
    body = struct.pack(f"<BBB5{code}", kind, 0x0C, flags, 0, low, high, 0, high - low + 1)  # fixed at both ends
    return struct.pack("<BH", tag, len(body)) + body


def word_bus(low: int, high: int) -> bytes:
    """WordBusNumber: the bus numbers a bridge passes on."""
    return _window(2, "H", 0x88, 0x00, low, high)


def word_io(low: int, high: int) -> bytes:
    """WordIO: a window of ports a bridge passes on, ISA and other addresses alike."""
    return _window(1, "H", 0x88, 0x03, low, high)


def dword_memory(low: int, high: int, *, cacheable: bool = False) -> bytes:
    """DWordMemory: a window of memory addresses a bridge passes on."""
    return _window(0, "I", 0x87, 0x01 | (0x02 if cacheable else 0), low, high)


def qword_memory(low: int, high: int) -> bytes:
    """QWordMemory: the same above 4 GiB."""
    return _window(0, "Q", 0x8A, 0x03, low, high)
