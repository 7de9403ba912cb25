"""The two 8237A DMA controllers (`i8257`) and their page registers: Intel 231466-005; the pages are IBM's, of the AT."""

from __future__ import annotations

import pytest

from qom.testing import QTest

# Base of the registers, and what lies between them
FIRST, SECOND = (0x00, 1), (0xC0, 2)
STATUS_COMMAND, REQUEST, MASK_ONE, MODE, CLEAR_FLIP_FLOP, MASTER_CLEAR, CLEAR_MASK, MASK_ALL = range(8, 16)
PAGE = {0: 0x87, 1: 0x83, 2: 0x81, 3: 0x82, 5: 0x8B, 6: 0x89, 7: 0x8A}
TO_MEMORY, FROM_MEMORY, AUTO, DOWN = 0x44, 0x48, 0x10, 0x20


def port(which: tuple[int, int], register: int) -> int:
    return which[0] + register * which[1]


def put16(q: QTest, at: int, value: int) -> None:
    q.outb(at, value & 0xFF)
    q.outb(at, value >> 8)


def get16(q: QTest, at: int) -> int:
    low = q.inb(at)
    return low | q.inb(at) << 8


def program(q: QTest, channel: int, address: int, count: int, mode: int) -> None:
    """A transfer of `count` bytes or words at a physical address."""
    which, n = (FIRST, channel) if channel < 4 else (SECOND, channel - 4)
    word = channel >= 4
    q.outb(port(which, MASK_ONE), 0x04 | n)
    q.outb(port(which, CLEAR_FLIP_FLOP), 0)
    q.outb(port(which, MODE), mode | n)
    put16(q, port(which, 2 * n), (address >> 1 if word else address) & 0xFFFF)
    put16(q, port(which, 2 * n + 1), count - 1)
    q.outb(PAGE[channel], address >> 16)
    q.outb(port(SECOND, MASK_ONE), 0x00)  # the cascade
    q.outb(port(which, MASK_ONE), n)


@pytest.mark.parametrize("which", [FIRST, SECOND], ids=["first", "second"])
@pytest.mark.parametrize("register", range(8))
def test_address_and_count_read_back_in_halves(either: QTest, which: tuple[int, int], register: int) -> None:
    """The first/last flip-flop: low byte first, and cleared by software."""
    either.outb(port(which, CLEAR_FLIP_FLOP), 0)
    put16(either, port(which, register), 0xA55A)
    assert get16(either, port(which, register)) == 0xA55A
    either.inb(port(which, register))  # one byte only
    either.outb(port(which, CLEAR_FLIP_FLOP), 0)
    assert either.inb(port(which, register)) == 0x5A
    either.outb(port(which, CLEAR_FLIP_FLOP), 0)


@pytest.mark.parametrize("channel", sorted(PAGE))
def test_page_registers_read_back(either: QTest, channel: int) -> None:
    for value in (0x0F, 0xA5, 0x00):
        either.outb(PAGE[channel], value)
        assert either.inb(PAGE[channel]) == value


@pytest.mark.parametrize("which", [FIRST, SECOND], ids=["first", "second"])
def test_masks_are_set_one_by_one_and_together(own: QTest, which: tuple[int, int]) -> None:
    """Figure 7; PIIX3 (290550) reads all four where they are written, 0Fh.  QEMU shows them at the request register."""
    mask = port(which, MASK_ALL)
    own.outb(mask, 0x0A)
    assert own.inb(mask) & 0x0F == 0x0A
    own.outb(port(which, MASK_ONE), 0x04)
    assert own.inb(mask) & 0x0F == 0x0B
    own.outb(port(which, MASK_ONE), 0x03)
    assert own.inb(mask) & 0x0F == 0x03
    own.outb(port(which, CLEAR_MASK), 0)
    assert own.inb(mask) & 0x0F == 0x00


@pytest.mark.parametrize("which", [FIRST, SECOND], ids=["first", "second"])
def test_master_clear_and_reset_mask_everything(own: QTest, which: tuple[int, int]) -> None:
    """Master clear: as a hardware reset.  QEMU leaves the mask register as it is read."""
    for clear in (lambda: own.outb(port(which, MASTER_CLEAR), 0), own.system_reset):
        own.outb(port(which, CLEAR_MASK), 0)
        own.outb(port(which, STATUS_COMMAND), 0x04)
        own.inb(port(which, 0))  # the flip-flop
        clear()
        assert own.inb(port(which, MASK_ALL)) == 0x0F
        assert own.inb(port(which, STATUS_COMMAND)) == 0
        put16(own, port(which, 0), 0x1234)
        assert get16(own, port(which, 0)) == 0x1234


def test_a_software_request_shows_in_the_status(own: QTest) -> None:
    own.outb(port(FIRST, REQUEST), 0x06)
    assert own.inb(port(FIRST, STATUS_COMMAND)) == 0x40
    own.outb(port(FIRST, REQUEST), 0x02)
    assert own.inb(port(FIRST, STATUS_COMMAND)) == 0x00


def test_a_transfer_ends_at_its_count(own: QTest) -> None:
    """Terminal count: one transfer more than the register says; the channel is masked then."""
    channel = own.machine.part("dma").dma_channel(2)
    program(own, 2, 0x51000, 4, TO_MEMORY)
    with own.vm.lock:
        assert channel.to_memory(b"abcdef") == 4
    assert own.read(0x51000, 6) == b"abcd\0\0"
    assert get16(own, port(FIRST, 4)) == 0x1004
    assert get16(own, port(FIRST, 5)) == 0xFFFF
    assert own.inb(port(FIRST, MASK_ALL)) & 0x04
    assert own.inb(port(FIRST, STATUS_COMMAND)) == 0x04
    assert own.inb(port(FIRST, STATUS_COMMAND)) == 0x00  # reading clears it


def test_autoinitialisation_begins_again(own: QTest) -> None:
    channel = own.machine.part("dma").dma_channel(1)
    own.write(0x2000, b"wxyz")
    program(own, 1, 0x2000, 4, FROM_MEMORY | AUTO)
    with own.vm.lock:
        assert channel.from_memory(6) == b"wxyzwx"
    assert get16(own, port(FIRST, 2)) == 0x2002


def test_the_second_controller_moves_words(own: QTest) -> None:
    channel = own.machine.part("dma").dma_channel(5)
    own.write(0x63000, b"abcdef")
    program(own, 5, 0x63000, 3, FROM_MEMORY)
    with own.vm.lock:
        assert channel.from_memory(8) == b"abcdef"


def test_an_address_wraps_inside_its_page(own: QTest) -> None:
    channel = own.machine.part("dma").dma_channel(3)
    program(own, 3, 0x2FFFE, 4, TO_MEMORY)
    with own.vm.lock:
        assert channel.to_memory(b"1234") == 4
    assert (own.read(0x2FFFE, 2), own.read(0x20000, 2)) == (b"12", b"34")


def test_a_masked_or_disabled_channel_moves_nothing(own: QTest) -> None:
    channel = own.machine.part("dma").dma_channel(2)
    program(own, 2, 0x1000, 4, TO_MEMORY)
    own.outb(port(FIRST, MASK_ONE), 0x06)
    with own.vm.lock:
        assert channel.to_memory(b"ab") == 0
    own.outb(port(FIRST, MASK_ONE), 0x02)
    own.outb(port(FIRST, STATUS_COMMAND), 0x04)
    with own.vm.lock:
        assert channel.to_memory(b"ab") == 0
    own.outb(port(FIRST, STATUS_COMMAND), 0x00)
    own.outb(port(SECOND, MASK_ALL), 0x0F)  # the cascade is masked
    with own.vm.lock:
        assert channel.to_memory(b"ab") == 0


def test_a_channel_moves_in_its_direction_only(own: QTest) -> None:
    channel = own.machine.part("dma").dma_channel(2)
    program(own, 2, 0x1000, 4, FROM_MEMORY)
    with own.vm.lock:
        assert channel.to_memory(b"ab") == 0
        assert len(channel.from_memory(9)) == 4


def test_the_second_controller_answers_at_every_second_port(own: QTest) -> None:
    own.outb(port(SECOND, CLEAR_FLIP_FLOP), 0)
    put16(own, 0xC1, 0x1234)  # the odd ports are the same registers
    assert get16(own, 0xC0) == 0x1234


def test_a_wide_access_is_one_of_bytes(own: QTest) -> None:
    own.outw(0x80, 0x1234)
    assert (own.inb(0x80), own.inb(0x81)) == (0x34, 0x12)
    assert own.inl(0x80) & 0xFFFF == 0x1234
