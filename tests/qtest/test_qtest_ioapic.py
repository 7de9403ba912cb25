"""The I/O APIC (Intel 82093AA, order 290566) and the global system interrupts before it; sections are that sheet's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qom.testing import QTest

ARGS = "-serial null"
BASE = 0xFEC00000
IOREGSEL, IOWIN = BASE, BASE + 0x10
LEVEL, MASKED, REMOTE_IRR = 1 << 15, 1 << 16, 1 << 14
LAPIC_IRR, LAPIC_ISR, LAPIC_EOI, LAPIC_SVR = 0xFEE00200, 0xFEE00100, 0xFEE000B0, 0xFEE000F0


def get(q: QTest, register: int) -> int:
    q.writel(IOREGSEL, register)
    return q.readl(IOWIN)


def put(q: QTest, register: int, value: int) -> None:
    q.writel(IOREGSEL, register)
    q.writel(IOWIN, value)


def entry(q: QTest, pin: int) -> int:
    return get(q, 0x10 + 2 * pin) | get(q, 0x11 + 2 * pin) << 32


def route(q: QTest, pin: int, low: int) -> None:
    put(q, 0x11 + 2 * pin, 0)
    put(q, 0x10 + 2 * pin, low)


def drive(q: QTest, pin: int, level: int) -> None:
    q.set_irq_in("ioapic", "unnamed-gpio-in", pin, level)


@pytest.fixture
def lapic(own: QTest) -> Iterator[QTest]:
    """The first processor's local APIC is on: it shows what arrives."""
    own.writel(LAPIC_SVR, 0x1FF)
    yield own
    for pin in range(24):
        drive(own, pin, 0)


def requested(q: QTest, vector: int) -> bool:
    return bool(q.readl(LAPIC_IRR + 16 * (vector // 32)) >> vector % 32 & 1)


def test_version_and_number_of_entries(own: QTest) -> None:
    """3.2.2: version 11h, 24 entries.  QEMU's says 20h by default, that of a later part."""
    assert get(own, 1) == 0x00170011


def test_the_number_of_entries(either: QTest) -> None:
    assert get(either, 1) >> 16 == 0x17


def test_the_id_has_four_bits(either: QTest) -> None:
    """3.2.1; the arbitration ID (3.2.3) follows."""
    put(either, 0, 0xFFFFFFFF)
    assert get(either, 0) == 0x0F000000
    assert get(either, 2) == 0x0F000000
    put(either, 0, 0x05000000)
    assert (get(either, 0), get(either, 2)) == (0x05000000, 0x05000000)


@pytest.mark.parametrize("pin", [0, 1, 15, 23])
def test_redirection_entries_read_back(either: QTest, pin: int) -> None:
    """3.2.4: delivery status and remote IRR are read-only; QEMU keeps reserved bits, too."""
    put(either, 0x10 + 2 * pin, 0xFFFFFFFF)
    put(either, 0x11 + 2 * pin, 0xFFFFFFFF)
    assert get(either, 0x10 + 2 * pin) & 0x1FFFF == 0x1AFFF
    assert not either.in_process or get(either, 0x10 + 2 * pin) == 0x1AFFF
    assert get(either, 0x11 + 2 * pin) & 0xFF000000 == 0xFF000000
    route(either, pin, MASKED | 0x31)
    assert get(either, 0x10 + 2 * pin) == MASKED | 0x31


def test_reset_masks_everything(either: QTest) -> None:
    for pin in (0, 5, 23):
        route(either, pin, MASKED | LEVEL | 0x55)
    put(either, 0, 0x07000000)
    either.system_reset()
    assert [entry(either, pin) for pin in (0, 5, 23)] == [MASKED] * 3
    assert get(either, 0) == 0


def test_registers_there_are_not_give_zero(own: QTest) -> None:
    """QEMU gives all ones beyond the entries."""
    for register in (0x03, 0x0F, 0x40, 0xFF):
        put(own, register, 0xFFFFFFFF)
        assert get(own, register) == 0


def test_the_select_register_reads_back(either: QTest) -> None:
    either.writel(IOREGSEL, 0x112)
    assert either.readl(IOREGSEL) == 0x12


def test_an_edge_is_delivered_once(lapic: QTest) -> None:
    route(lapic, 5, 0x41)
    drive(lapic, 5, 1)
    assert requested(lapic, 0x41)
    assert not entry(lapic, 5) & REMOTE_IRR


def test_an_edge_on_a_masked_pin_is_lost(lapic: QTest) -> None:
    route(lapic, 5, MASKED | 0x42)
    drive(lapic, 5, 1)
    route(lapic, 5, 0x42)
    assert not requested(lapic, 0x42)
    drive(lapic, 5, 0)
    drive(lapic, 5, 1)
    assert requested(lapic, 0x42)


def test_a_level_is_delivered_again_after_eoi_while_it_is_high(lapic: QTest) -> None:
    route(lapic, 10, LEVEL | 0x43)
    drive(lapic, 10, 1)
    assert entry(lapic, 10) & REMOTE_IRR
    with lapic.vm.lock:
        assert lapic.machine.part("lapic").get_interrupt() == 0x43
    assert not requested(lapic, 0x43)
    lapic.writel(LAPIC_EOI, 0)
    assert requested(lapic, 0x43) and entry(lapic, 10) & REMOTE_IRR
    drive(lapic, 10, 0)
    with lapic.vm.lock:
        lapic.machine.part("lapic").get_interrupt()
    lapic.writel(LAPIC_EOI, 0)
    assert not requested(lapic, 0x43) and not entry(lapic, 10) & REMOTE_IRR


def test_a_level_that_waited_behind_its_mask_comes(lapic: QTest) -> None:
    route(lapic, 11, LEVEL | MASKED | 0x44)
    drive(lapic, 11, 1)
    assert not requested(lapic, 0x44)
    route(lapic, 11, LEVEL | 0x44)
    assert requested(lapic, 0x44)


def test_isa_interrupts_arrive_at_their_pins_and_irq_0_at_2(lapic: QTest) -> None:
    """The lines before it (`gsi-lines`): a PC's wiring, as the MADT's override says."""
    lapic.set_irq_in("gsi", "unnamed-gpio-in", 4, 1)
    assert lapic.get_irq(4)
    lapic.set_irq_in("gsi", "unnamed-gpio-in", 4, 0)
    assert not lapic.get_irq(4)
    lapic.outb(0x43, 0x30)  # counter 0 in mode 0: OUT0 goes low
    assert not lapic.get_irq(2) and not lapic.get_irq(0)
    lapic.set_irq_in("gsi", "unnamed-gpio-in", 0, 1)
    assert lapic.get_irq(2) and not lapic.get_irq(0)


def test_an_input_and_its_board_input_are_one_line(own: QTest) -> None:
    for first, second in (("unnamed-gpio-in", "board"), ("board", "unnamed-gpio-in")):
        own.set_irq_in("gsi", first, 17, 1)
        own.set_irq_in("gsi", second, 17, 1)
        own.set_irq_in("gsi", first, 17, 0)
        assert own.get_irq(17)
        own.set_irq_in("gsi", second, 17, 0)
        assert not own.get_irq(17)


def test_an_hpet_replaces_lines_0_and_8(own: QTest) -> None:
    own.set_irq_in("gsi", "hpet", 1, 1)
    assert not own.get_irq(8)
    own.set_irq_in("gsi", "legacy", 0, 1)
    assert own.get_irq(8)
    own.set_irq_in("gsi", "unnamed-gpio-in", 8, 1)
    own.set_irq_in("gsi", "hpet", 1, 0)
    assert not own.get_irq(8)
    own.set_irq_in("gsi", "legacy", 0, 0)
    assert own.get_irq(8)
    own.set_irq_in("gsi", "unnamed-gpio-in", 8, 0)


def test_narrow_and_wide_accesses(own: QTest) -> None:
    """Registers are 32 bits wide (3.1); a narrower read gives its part, a byte selects as well."""
    own.writeb(IOREGSEL, 0x01)
    assert own.readb(IOWIN) == 0x11
    assert own.readw(IOWIN + 2) == 0x17
    assert own.readl(BASE + 0x20) == 0
    own.writel(BASE + 0x20, 0xFFFFFFFF)
    assert get(own, 1) == 0x00170011
