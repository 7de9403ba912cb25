"""The floppy controller and its drives (`isa-fdc`, `floppy`; Intel 290166-007) by the qtest protocol, ours and QEMU's.

Where the data sheet and QEMU differ the test is of ours alone, and says what QEMU does.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qom.testing import QTest

SRB, DOR, TDR, MSR, FIFO, DIR = 0x3F1, 0x3F2, 0x3F3, 0x3F4, 0x3F5, 0x3F7
DSR, CCR = MSR, DIR
IRQ = 6
ON = 0x1C  # drive A with its motor, DMA and interrupts
RQM, DIO, NON_DMA, BUSY = 0x80, 0x40, 0x20, 0x10
SEEK, SENSE, RECALIBRATE, SPECIFY, READ, WRITE, READ_ID, DUMPREG = 0x0F, 0x08, 0x07, 0x03, 0x46, 0x45, 0x4A, 0x0E
MEMORY = 0x20000
SECTORS = 2880


def sector(n: int) -> bytes:
    return n.to_bytes(4, "little") * 128


def args(folder: Path) -> str:
    image = folder / "floppy.img"
    image.write_bytes(b"".join(map(sector, range(SECTORS))))
    return f"-drive if=floppy,index=0,format=raw,snapshot=on,file={image}"


def send(q: QTest, *values: int) -> None:
    for value in values:
        assert q.inb(MSR) & (RQM | DIO) == RQM
        q.outb(FIFO, value)


def results(q: QTest) -> list[int]:
    out = []
    while q.inb(MSR) & (RQM | DIO | BUSY) == RQM | DIO | BUSY:
        out.append(q.inb(FIFO))
    return out


def command(q: QTest, *values: int) -> list[int]:
    send(q, *values)
    return results(q)


def seek(q: QTest, cylinder: int) -> None:
    q.outb(DOR, ON)
    while command(q, SENSE) != [0x80]:
        pass
    send(q, RECALIBRATE, 0)
    assert command(q, SENSE) == [0x20, 0]
    send(q, SEEK, 0, cylinder)
    assert command(q, SENSE) == [0x20, cylinder]
    q.outb(CCR, 0)


def dma(q: QTest, mode: int, length: int) -> None:
    """Channel 2 at MEMORY, as a driver sets it up."""
    for port, value in ((0xD6, 0xC0), (0xD4, 0), (0x0A, 6), (0x0C, 0), (0x0B, mode | 2)):
        q.outb(port, value)
    for port, value in ((4, MEMORY & 0xFFFF), (5, length - 1)):
        q.outb(port, value & 0xFF)
        q.outb(port, value >> 8)
    q.outb(0x81, MEMORY >> 16)
    q.outb(0x0A, 2)


def test_identity(either: QTest) -> None:
    either.outb(DOR, ON)
    while command(either, SENSE) != [0x80]:
        pass
    assert [command(either, code) for code in (0x10, 0x18, 0x94, 0x14, 0x55)] == [[0x90], [0x41], [0x10], [0], [0x80]]


def test_commands_are_taken_after_a_reset_without_a_word_to_dor(either: QTest) -> None:
    assert [either.inb(port) for port in (SRB, DOR, TDR, MSR)] == [0xC0, 0x0C, 0, RQM]
    assert [command(either, SENSE), command(either, 0x10)] == [[0x80], [0x90]]
    for cylinder in (1, 0):
        send(either, SEEK, 0, cylinder)
        assert either.get_irq(IRQ) and command(either, SENSE) == [0x20, cylinder]
        assert not either.get_irq(IRQ) and either.inb(DIR) & 0x80 == 0  # a step found the medium
    for code, cylinder in ((0xCF, 1), (0x8F, 0)):
        send(either, code, 0, 1)
        assert either.get_irq(IRQ) and command(either, SENSE)[1] == cylinder
        assert not either.get_irq(IRQ)


def test_the_chip_is_in_reset_until_it_is_let_go(own: QTest) -> None:
    """While DOR bit 2 is 0 nothing is taken.  QEMU takes commands then, too."""
    own.outb(DOR, 0)
    assert [own.inb(port) for port in (SRB, DOR, TDR, MSR)] == [0xC0, 0, 0, 0]
    own.outb(FIFO, 0x10)
    own.outb(DOR, ON)
    assert own.irq_raised(IRQ) == 1
    assert [command(own, SENSE) for _ in range(5)] == [[0xC0, 0], [0xC1, 0], [0xC2, 0], [0xC3, 0], [0x80]]
    assert not own.get_irq(IRQ)


def test_software_reset_by_dsr(own: QTest) -> None:
    seek(own, 3)
    own.irq_clear()
    own.outb(DSR, 0x80)
    assert own.irq_raised(IRQ) == 1 and command(own, SENSE) == [0xC0, 0]


def test_seeks_interrupt_and_move_the_head(either: QTest) -> None:
    seek(either, 0)
    either.irq_clear()
    for cylinder in (40, 79, 1):
        send(either, SEEK, 0, cylinder)
        assert either.get_irq(IRQ)
        assert command(either, SENSE) == [0x20, cylinder]
        assert not either.get_irq(IRQ)
        assert command(either, 0x04, 0) == [0x28]
    send(either, RECALIBRATE, 0)
    assert command(either, SENSE) == [0x20, 0] and command(either, 0x04, 4) == [0x3C]


def test_drives_wait_to_be_sensed(own: QTest) -> None:
    """5.2.3: without SENSE INTERRUPT STATUS the drive stays busy.  QEMU never shows it."""
    seek(own, 0)
    send(own, SEEK, 0, 2)
    assert own.inb(MSR) == RQM | 1
    command(own, SENSE)
    assert own.inb(MSR) == RQM


def test_what_the_firmware_is_told(either: QTest) -> None:
    """CMOS 10h: drive A is a 1.44M drive, there is no B; 14h: one floppy drive."""
    said = []
    for register in (0x10, 0x14):
        either.outb(0x70, register)
        said.append(either.inb(0x71))
    assert (said[0], said[1] & 0xC1) == (0x40, 0x01)


def test_disk_change(either: QTest) -> None:
    either.outb(DOR, ON)
    while command(either, SENSE) != [0x80]:
        pass
    seek(either, 0)
    seek(either, 5)
    assert either.inb(DIR) & 0x80 == 0


def test_read_by_dma(either: QTest) -> None:
    seek(either, 10)
    either.memset(MEMORY, 4096, 0xEE)
    dma(either, 0x44, 1024)
    send(either, READ, 4, 10, 1, 7, 2, 18, 0x1B, 0xFF)
    assert either.get_irq(IRQ)
    answer = results(either)
    assert answer[0] & 0xC0 == 0 and answer[1:] == [0, 0, 10, 1, 9, 2]
    at = 10 * 36 + 18 + 6
    assert either.read(MEMORY, 1025) == sector(at) + sector(at + 1) + b"\xee"
    assert not either.get_irq(IRQ)


def test_write_by_dma_and_read_back(either: QTest) -> None:
    seek(either, 20)
    data = bytes(range(256)) * 4
    either.write(MEMORY, data)
    dma(either, 0x48, 1024)
    assert command(either, WRITE | 0x80, 0, 20, 0, 18, 2, 18, 0x1B, 0xFF)[1:] == [0, 0, 20, 1, 2, 2]
    either.memset(MEMORY, 1024, 0)
    dma(either, 0x44, 1024)
    assert command(either, READ | 0x80, 0, 20, 0, 18, 2, 18, 0x1B, 0xFF)[1:] == [0, 0, 20, 1, 2, 2]
    assert either.read(MEMORY, 1024) == data


def test_read_by_the_host(either: QTest) -> None:
    seek(either, 30)
    send(either, SPECIFY, 0xDF, 0x03)
    send(either, READ, 0, 30, 0, 4, 2, 4, 0x1B, 0xFF)
    assert either.inb(MSR) == RQM | DIO | NON_DMA | BUSY
    assert bytes(either.inb(FIFO) for _ in range(512)) == sector(30 * 36 + 3)
    assert either.inb(MSR) == RQM | DIO | BUSY
    results(either)
    send(either, SPECIFY, 0xDF, 0x02)


def test_a_transfer_that_nobody_ends(own: QTest) -> None:
    """5.1.1: after EOT without a terminal count EN is set.  QEMU ends the transfer without an error."""
    seek(own, 30)
    dma(own, 0x44, 2048)
    assert command(own, READ, 0, 30, 0, 18, 2, 18, 0x1B, 0xFF) == [0x40, 0x80, 0, 31, 0, 1, 2]


@pytest.mark.parametrize(
    ("head", "address", "wrong"),
    [
        (0, (0, 0, 19, 2), [0x40, 0x04, 0x00]),  # no such sector
        (0, (1, 0, 1, 2), [0x40, 0x04, 0x10]),  # another cylinder
        (0, (0, 0, 1, 3), [0x40, 0x04, 0x00]),  # another size
    ],
)
def test_sectors_that_are_not_there(own: QTest, head: int, address: tuple[int, ...], wrong: list[int]) -> None:
    seek(own, 0)
    assert command(own, READ, head << 2, *address, 18, 0x1B, 0xFF) == [*wrong, *address]


def test_a_wrong_data_rate_finds_nothing(either: QTest) -> None:
    seek(either, 0)
    dma(either, 0x44, 512)
    either.outb(CCR, 2)
    assert command(either, READ, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)[1:3] == [1, 0]


def test_read_id_goes_with_the_turning_medium(own: QTest) -> None:
    seek(own, 12)
    seen = []
    for _ in range(18):
        seen.append(command(own, READ_ID, 0)[3:])
        own.clock_step(200_000_000 // 18 + 1)
    first = seen[0][2]
    assert seen == [[12, 0, (first - 1 + n) % 18 + 1, 2] for n in range(18)]


def test_wrong_accesses(own: QTest) -> None:
    seek(own, 1)
    own.outb(0x3F0, 0xFF)
    own.outb(SRB, 0xFF)
    send(own, READ, 0)
    assert own.inb(FIFO) == 0  # nothing to read in the command phase
    own.outb(DOR, 0)
    own.outb(DOR, ON)
    assert command(own, SENSE) == [0xC0, 0]


def test_a_machine_reset_forgets_a_command(own: QTest) -> None:
    seek(own, 7)
    send(own, SPECIFY, 0xAF, 0x02)
    send(own, READ, 0, 7, 0)
    own.system_reset()
    own.outb(DOR, ON)
    for _ in range(4):
        command(own, SENSE)
    assert command(own, DUMPREG) == [0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0]
