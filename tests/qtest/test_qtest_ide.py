"""IDE controllers (`piix3-ide`: PIIX3, Intel 290550; `isa-ide`) and the disk on them (`ide-hd`: ATA/ATAPI-6)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from qom.testing import QTest

IDE = "01.1"
PRIMARY, SECONDARY = 0x1F0, 0x170
DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS = range(8)
CONTROL = 0x206  # from the command block
ERR, DRQ, DRDY, BSY = 0x01, 0x08, 0x40, 0x80
ABRT, IDNF = 0x04, 0x10
READ, WRITE, READ_DMA, WRITE_DMA, IDENTIFY, DIAGNOSE = 0x20, 0x30, 0xC8, 0xCA, 0xEC, 0x90
SECTORS = 2048
BM = 0xC100
START, TO_MEMORY, ACTIVE, INTERRUPT = 0x01, 0x08, 0x01, 0x04


def args(folder: Path) -> str:
    image = folder / "disk.img"
    image.write_bytes(b"".join(struct.pack("<I", n) * 128 for n in range(SECTORS)))
    return f"-drive file={image},format=raw,if=ide,index=0,snapshot=on"


def wait(q: QTest, base: int = PRIMARY) -> int:
    """Poll the alternate status until the drive is idle (QEMU's reads its image meanwhile)."""
    for _ in range(10_000):
        status = q.inb(base + CONTROL)
        if not status & BSY:
            return status
    raise AssertionError("busy for ever")


def command(q: QTest, code: int, lba: int = 0, count: int = 1, base: int = PRIMARY, device: int = 0xE0) -> int:
    q.outb(base + DEVICE, device | lba >> 24)
    for register, value in ((COUNT, count & 0xFF), (LOW, lba & 0xFF), (MID, lba >> 8 & 0xFF), (HIGH, lba >> 16 & 0xFF)):
        q.outb(base + register, value)
    q.outb(base + STATUS, code)
    return wait(q, base)


def data(q: QTest, base: int = PRIMARY) -> bytes:
    return struct.pack("<256H", *(q.inw(base + DATA) for _ in range(256)))


def sector(n: int) -> bytes:
    return struct.pack("<I", n) * 128


def masters(q: QTest) -> None:
    q.config_write(IDE, 0x20, BM | 1)
    q.config_write(IDE, 0x04, 0x0005, 2)


def test_signature_after_reset(either: QTest) -> None:
    """Device 0 passed its diagnostics and is no packet device."""
    assert wait(either) & (DRDY | ERR | DRQ) == DRDY
    assert [either.inb(PRIMARY + r) for r in (COUNT, LOW, MID, HIGH)] == [1, 1, 0, 0]
    if either.in_process:  # QEMU's passed none at power on, and keeps its line through a reset
        assert either.inb(PRIMARY + ERROR) == 1
        assert not either.get_irq(14)


def test_the_task_file_reads_back(either: QTest) -> None:
    for register in (COUNT, LOW, MID, HIGH):
        for value in (0x5A, 0xA5):
            either.outb(PRIMARY + register, value)
            assert either.inb(PRIMARY + register) == value
    either.outb(PRIMARY + DEVICE, 0x45)
    assert either.inb(PRIMARY + DEVICE) == 0xE5  # bits 7 and 5 are obsolete, and set


def test_identify(either: QTest) -> None:
    """IDENTIFY DEVICE: 256 words; the size, the general configuration, strings with their bytes swapped."""
    status = command(either, IDENTIFY)
    assert status & (DRQ | DRDY | ERR) == DRQ | DRDY
    words = struct.unpack("<256H", data(either))
    assert words[0] & 0x8000 == 0
    assert words[60] | words[61] << 16 == SECTORS
    assert struct.pack(">20H", *words[27:47]).decode().strip() == (
        "QOM HARDDISK" if either.in_process else "QEMU HARDDISK"
    )
    assert either.inb(PRIMARY + CONTROL) & DRQ == 0


def test_an_interrupt_comes_with_the_data_and_goes_with_the_status(either: QTest) -> None:
    """INTRQ is cleared by reading Status, not by the alternate one."""
    command(either, READ)
    assert either.get_irq(14)
    either.inb(PRIMARY + CONTROL)
    assert either.get_irq(14)
    either.inb(PRIMARY + STATUS)
    assert not either.get_irq(14)
    assert data(either) == sector(0)


def test_nien_keeps_the_line_down(either: QTest) -> None:
    either.outb(PRIMARY + CONTROL, 0x02)
    command(either, READ)
    assert not either.get_irq(14)
    data(either)
    either.outb(PRIMARY + CONTROL, 0x00)


def test_several_sectors_come_one_by_one(either: QTest) -> None:
    """READ SECTOR(S): DRQ and an interrupt for each; afterwards the task file shows the last."""
    command(either, READ, lba=5, count=3)
    for n in (5, 6, 7):
        assert wait(either) & DRQ and either.get_irq(14)
        either.inb(PRIMARY + STATUS)
        assert data(either) == sector(n)
    assert wait(either) & (DRQ | ERR) == 0
    assert either.inb(PRIMARY + COUNT) == 0


def test_what_is_written_is_read_back(either: QTest) -> None:
    """WRITE SECTOR(S): the first DRQ comes without an interrupt."""
    either.irq_clear()
    assert command(either, WRITE, lba=100) & DRQ
    assert either.irq_raised(14) == 0
    for n in range(256):
        either.outw(PRIMARY + DATA, n)
    assert wait(either) & (DRQ | ERR) == 0
    assert either.get_irq(14)
    either.inb(PRIMARY + STATUS)
    command(either, READ, lba=100)
    assert data(either) == struct.pack("<256H", *range(256))


def test_32_bit_accesses_of_the_data_port(either: QTest) -> None:
    command(either, READ, lba=9)
    assert [either.inl(PRIMARY + DATA) for _ in range(128)] == [9] * 128


def test_a_sector_there_is_not_fails(own: QTest) -> None:
    """IDNF.  QEMU says ABRT."""
    assert command(own, READ, lba=SECTORS) & (ERR | DRQ) == ERR
    assert own.inb(PRIMARY + ERROR) == IDNF
    assert own.get_irq(14)
    command(own, READ, lba=SECTORS - 1, count=2)
    assert own.inb(PRIMARY + ERROR) == IDNF


def test_an_unknown_command_is_aborted(either: QTest) -> None:
    assert command(either, 0xFF) & (ERR | DRQ) == ERR
    assert either.inb(PRIMARY + ERROR) & ABRT
    assert either.get_irq(14)
    either.inb(PRIMARY + STATUS)
    assert not either.get_irq(14)


def test_diagnostics_and_software_reset(either: QTest) -> None:
    """SRST, and EXECUTE DEVICE DIAGNOSTIC."""
    either.outb(PRIMARY + MID, 0x55)
    either.outb(PRIMARY + CONTROL, 0x04)
    either.outb(PRIMARY + CONTROL, 0x00)
    wait(either)
    assert [either.inb(PRIMARY + r) for r in (ERROR, COUNT, LOW, MID, HIGH)] == [1, 1, 1, 0, 0]
    command(either, DIAGNOSE)
    assert either.inb(PRIMARY + ERROR) == 0x01
    assert either.get_irq(14)


def test_an_absent_device(own: QTest) -> None:
    """Single device configurations: device 0 answers for device 1 with a status of 0; commands do nothing."""
    own.outb(PRIMARY + DEVICE, 0xF0)
    assert own.inb(PRIMARY + STATUS) == 0
    own.outb(PRIMARY + STATUS, IDENTIFY)
    assert own.inb(PRIMARY + STATUS) == 0 and not own.get_irq(14)


def test_an_empty_channel(own: QTest) -> None:
    assert own.inb(SECONDARY + STATUS) == 0
    own.outb(SECONDARY + COUNT, 0x5A)
    own.outb(SECONDARY + STATUS, IDENTIFY)
    assert own.inb(SECONDARY + COUNT) == 0
    assert not own.get_irq(15)


def test_48_bit_registers_have_a_previous_content(either: QTest) -> None:
    """HOB of the device control register."""
    for value in (0x12, 0x34):
        either.outb(PRIMARY + LOW, value)
    assert either.inb(PRIMARY + LOW) == 0x34
    either.outb(PRIMARY + CONTROL, 0x80)
    assert either.inb(PRIMARY + LOW) == 0x12
    either.outb(PRIMARY + CONTROL, 0x00)


def test_bus_master_registers_read_back(either: QTest) -> None:
    """BMIC, BMIS, BMIDTP: command bits 0 and 3; the table's low two bits are 0; status bits 5 and 6 are for software."""
    masters(either)
    either.outb(BM + 0, TO_MEMORY)
    assert either.inb(BM + 0) == TO_MEMORY
    either.outl(BM + 4, 0x12345678)
    assert either.inl(BM + 4) == 0x12345678
    either.outl(BM + 4, 0xFFFFFFFF)
    assert either.inl(BM + 4) == 0xFFFFFFFC
    either.outb(BM + 2, 0x60)
    assert either.inb(BM + 2) == 0x60
    either.outb(BM + 2, 0x00)
    assert either.inb(BM + 2) == 0x00


@pytest.mark.parametrize("pieces", [(512,), (256, 256), (100, 412)])
def test_a_dma_read_follows_its_descriptors(either: QTest, pieces: tuple[int, ...]) -> None:
    masters(either)
    address, table = 0x20000, b""
    for n, length in enumerate(pieces):
        table += struct.pack("<II", address, length | (0x80000000 if n == len(pieces) - 1 else 0))
        address += length
    either.memset(0x20000, 1024, 0xEE)
    either.write(0x10000, table)
    either.outl(BM + 4, 0x10000)
    either.outb(BM + 0, TO_MEMORY)
    either.outb(BM + 2, 0x06)
    command(either, READ_DMA, lba=3)
    either.outb(BM + 0, TO_MEMORY | START)
    for _ in range(1000):
        if either.inb(BM + 2) & INTERRUPT:
            break
    assert either.inb(BM + 2) & (INTERRUPT | ACTIVE) == INTERRUPT
    assert either.get_irq(14)
    either.outb(BM + 0, 0)
    assert wait(either) & (ERR | DRQ) == 0
    assert either.read(0x20000, 513) == sector(3) + b"\xee"
    either.outb(BM + 2, INTERRUPT)
    assert either.inb(BM + 2) & INTERRUPT == 0


def test_a_dma_write_reaches_the_disk(either: QTest) -> None:
    masters(either)
    either.write(0x20000, bytes(range(256)) * 2)
    either.write(0x10000, struct.pack("<II", 0x20000, 0x80000200))
    either.outl(BM + 4, 0x10000)
    either.outb(BM + 0, 0)
    command(either, WRITE_DMA, lba=77)
    either.outb(BM + 0, START)
    for _ in range(1000):
        if either.inb(BM + 2) & INTERRUPT:
            break
    either.outb(BM + 0, 0)
    either.inb(PRIMARY + STATUS)
    command(either, READ, lba=77)
    assert data(either) == bytes(range(256)) * 2


def test_without_bus_mastering_nothing_reaches_memory(own: QTest) -> None:
    masters(own)
    own.write(0x10000, struct.pack("<II", 0x20000, 0x80000200))
    own.memset(0x20000, 512, 0xEE)
    own.config_write(IDE, 0x04, 0x0001, 2)
    own.outl(BM + 4, 0x10000)
    own.outb(BM + 0, TO_MEMORY)
    command(own, READ_DMA, lba=3)
    own.outb(BM + 0, TO_MEMORY | START)
    assert own.read(0x20000, 512) == b"\xee" * 512


def test_controller_identity_and_timing_registers(either: QTest) -> None:
    """IDETIM."""
    assert either.config_read(IDE, 0x00) == 0x70108086
    assert either.config_read(IDE, 0x08) & 0xFFFFFF00 == 0x01018000
    either.config_write(IDE, 0x40, 0xA307, 2)
    assert either.config_read(IDE, 0x40, 2) == 0xA307


def test_strict_decode_needs_its_enables(tmp_path: Path) -> None:
    with QTest(f"-M pc -m 16 -global piix3-ide.strict-decode=on {args(tmp_path)}") as q:
        assert q.inb(PRIMARY + STATUS) == 0xFF
        q.config_write(IDE, 0x04, 0x0001, 2)
        assert q.inb(PRIMARY + STATUS) == 0xFF
        q.config_write(IDE, 0x40, 0x8000, 2)
        assert q.inb(PRIMARY + STATUS) & DRDY


def test_reset_ends_a_transfer_and_lowers_the_line(either: QTest) -> None:
    masters(either)
    command(either, READ)
    either.system_reset()
    assert not either.get_irq(14) or not either.in_process
    assert wait(either) & (DRDY | DRQ) == DRDY
    assert either.inw(PRIMARY + DATA) in (0, 0xFFFF)
    masters(either)
    assert (either.inb(BM), either.inb(BM + 2) & 0x07, either.inl(BM + 4)) == (0, 0, 0)


def test_a_controller_on_isa(tmp_path: Path) -> None:
    """`isa-ide`: the same registers elsewhere, one channel, its own line, no bus mastering."""
    image = tmp_path / "disk.img"
    image.write_bytes(sector(0) + sector(1) * 63)
    more = f"-drive file={image},format=raw,if=none,id=d,snapshot=on -device ide-hd,drive=d,bus=second.ide.0"
    with QTest(f"-M pc -m 16 -device isa-ide,id=second,iobase=0x1e8,iobase2=0x3ee,irq=11 {more}") as q:
        q.irq_intercept_in("ioapic")
        base = 0x1E8
        q.outb(base + DEVICE, 0xE0)
        for register, value in ((COUNT, 1), (LOW, 1), (MID, 0), (HIGH, 0)):
            q.outb(base + register, value)
        q.outb(base + STATUS, READ)
        assert q.inb(0x3EE) & DRQ and q.get_irq(11) and not q.get_irq(14)
        q.inb(base + STATUS)
        assert not q.get_irq(11)
        assert data(q, base) == sector(1)
        q.outb(base + STATUS, READ_DMA)
        assert q.inb(0x3EE) & ERR and q.inb(base + ERROR) == ABRT
        q.outb(0x3EE, 0x02)
        q.inb(base + STATUS)
        q.outb(base + STATUS, 0xFF)
        assert not q.get_irq(11)
        q.system_reset()
        assert [q.inb(base + r) for r in (ERROR, COUNT, LOW)] == [1, 1, 1]
        assert q.inb(base - 1) == 0xFF  # before its block nobody is
