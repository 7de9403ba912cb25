"""The firmware configuration device (`fw_cfg_io`): QEMU's public interface, docs/specs/fw_cfg of its sources."""

from __future__ import annotations

import struct

from qom.testing import QTest

SELECTOR, DATA, DMA = 0x510, 0x511, 0x514
SIGNATURE, ID, RAM_SIZE, NB_CPUS, FILE_DIR = 0x00, 0x01, 0x03, 0x05, 0x19
ERROR, READ, SKIP, SELECT, WRITE = 0x01, 0x02, 0x04, 0x08, 0x10
DESCRIPTOR, BUFFER = 0x2000, 0x3000


def item(q: QTest, key: int, length: int) -> bytes:
    q.outw(SELECTOR, key)
    return bytes(q.inb(DATA) for _ in range(length))


def dma(q: QTest, control: int, length: int = 0, address: int = BUFFER) -> int:
    """One access of the DMA interface; what its control field says afterwards."""
    q.write(DESCRIPTOR, struct.pack(">IIQ", control, length, address))
    q.outl(DMA, 0)
    q.outl(DMA + 4, int.from_bytes(DESCRIPTOR.to_bytes(4, "big"), "little"))
    return int.from_bytes(q.read(DESCRIPTOR, 4), "big")


def files(q: QTest) -> dict[str, tuple[int, int]]:
    (count,) = struct.unpack(">I", item(q, FILE_DIR, 4))
    found = {}
    for _ in range(count):
        size, key, _, name = struct.unpack(">IHH56s", bytes(q.inb(DATA) for _ in range(64)))
        found[name.rstrip(b"\0").decode()] = (key, size)
    return found


def test_signature_and_interfaces(either: QTest) -> None:
    assert item(either, SIGNATURE, 4) == b"QEMU"
    assert item(either, ID, 4) == b"\x03\0\0\0"  # ports and DMA


def test_numbers_are_little_endian(either: QTest) -> None:
    assert int.from_bytes(item(either, RAM_SIZE, 8), "little") == 16 << 20
    assert int.from_bytes(item(either, NB_CPUS, 2), "little") == 1


def test_selecting_begins_at_the_start_and_the_end_is_zeros(either: QTest) -> None:
    assert item(either, SIGNATURE, 2) == b"QE"
    assert item(either, SIGNATURE, 6) == b"QEMU\0\0"


def test_an_item_there_is_not_is_zeros(either: QTest) -> None:
    assert item(either, 0x3FFF, 4) == bytes(4)


def test_the_directory_names_files_that_can_be_read(either: QTest) -> None:
    found = files(either)
    assert {"etc/e820", "etc/table-loader", "etc/acpi/tables"} <= found.keys()
    key, size = found["etc/e820"]
    content = item(either, key, size)
    entries = [struct.unpack_from("<QQI", content, at) for at in range(0, size, 20)]
    assert (0, 16 << 20, 1) in entries


def test_dma_reads_skips_and_selects(either: QTest) -> None:
    either.memset(BUFFER, 16, 0xEE)
    assert dma(either, SIGNATURE << 16 | SELECT | READ, 4) == 0
    assert either.read(BUFFER, 5) == b"QEMU\xee"
    assert dma(either, SIGNATURE << 16 | SELECT | SKIP, 2) == 0
    assert dma(either, READ, 4) == 0
    assert either.read(BUFFER, 5) == b"MU\0\0\xee"


def test_the_dma_register_reads_as_its_signature(either: QTest) -> None:
    assert struct.pack("<II", either.inl(DMA), either.inl(DMA + 4)) == b"QEMU CFG"


def test_a_read_only_item_refuses_writes(either: QTest) -> None:
    assert dma(either, SIGNATURE << 16 | SELECT | WRITE, 4) & ERROR
    assert item(either, SIGNATURE, 4) == b"QEMU"


def test_the_data_port_takes_no_writes_and_the_selector_cannot_be_read(own: QTest) -> None:
    """Writing by the port was dropped in QEMU 2.4."""
    own.outw(SELECTOR, SIGNATURE)
    own.outb(DATA, 0x58)
    assert own.inw(SELECTOR) == 0
    assert item(own, SIGNATURE, 4) == b"QEMU"
    own.outb(SELECTOR, FILE_DIR)  # a byte selects nothing
    assert own.inb(DATA) == 0


def test_reset_selects_nothing(either: QTest) -> None:
    either.outw(SELECTOR, SIGNATURE)
    assert either.inb(DATA) == ord("Q")
    either.system_reset()
    assert item(either, SIGNATURE, 4) == b"QEMU"


def test_a_fresh_device_has_no_item_selected(own: QTest) -> None:
    own.outw(SELECTOR, SIGNATURE)
    own.system_reset()
    assert own.inb(DATA) == 0
