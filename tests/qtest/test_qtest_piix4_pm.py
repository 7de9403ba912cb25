"""PIIX4 power management (`PIIX4_PM`; Intel 290562, chapter 7) and the ACPI 1.0 registers in it: function 01.3."""

from __future__ import annotations

import pytest

from qom.testing import QTest

FUNCTION = "01.3"
PM, SMB = 0xB000, 0x700
PMSTS, PMEN, PMCNTRL, PMTMR, GPSTS, GPEN = (PM + n for n in (0x00, 0x02, 0x04, 0x08, 0x0C, 0x0E))
TIMER, GLOBAL, POWER_BUTTON, RTC, WAKE = 0x0001, 0x0020, 0x0100, 0x0400, 0x8000
SCI = 9
TIMER_HZ = 3_579_545


def mapped(q: QTest) -> QTest:
    q.config_write(FUNCTION, 0x40, PM | 1)
    q.config_write(FUNCTION, 0x80, 0x01, 1)
    return q


def with_smbus(q: QTest) -> QTest:
    q.config_write(FUNCTION, 0x90, SMB | 1)
    q.config_write(FUNCTION, 0xD2, 0x01, 1)
    return q


def test_identity(either: QTest) -> None:
    assert either.config_read(FUNCTION, 0x00) == 0x71138086
    assert either.config_read(FUNCTION, 0x08) == 0x06800003
    either.config_write(FUNCTION, 0x00, 0xFFFFFFFF)
    assert either.config_read(FUNCTION, 0x00) == 0x71138086


def test_the_registers_are_where_pmbase_says(either: QTest) -> None:
    """PMBA, PMREGMISC: decoded while PMIOSE is set."""
    mapped(either)
    either.outw(PMEN, POWER_BUTTON)
    assert either.inw(PMEN) == POWER_BUTTON
    either.config_write(FUNCTION, 0x80, 0x00, 1)
    assert either.inw(PMEN) == 0xFFFF
    either.config_write(FUNCTION, 0x80, 0x01, 1)
    either.config_write(FUNCTION, 0x40, 0xC001)
    assert either.inw(0xC002) == POWER_BUTTON


def test_the_low_bits_of_the_base_are_fixed_and_reset_forgets_it(own: QTest) -> None:
    """QEMU keeps every bit, and the base through a reset."""
    own.config_write(FUNCTION, 0x40, 0xFFFFFFFF)
    assert own.config_read(FUNCTION, 0x40) == 0xFFC1
    own.system_reset()
    assert own.config_read(FUNCTION, 0x40) == 0x0001


def test_reset_values(either: QTest) -> None:
    mapped(either)
    either.outw(PMEN, POWER_BUTTON)
    either.outw(PMCNTRL, 0x1C01)
    either.system_reset()
    mapped(either)
    assert [either.inw(r) & ~TIMER for r in (PMSTS, PMEN, PMCNTRL)] == [0, 0, 0]  # QEMU's timer has just overflowed


def test_which_enables_there_are(own: QTest) -> None:
    """PMEN: bits 0, 5, 8 and 10.  QEMU keeps all sixteen."""
    mapped(own)
    own.outw(PMEN, 0xFFFF)
    assert own.inw(PMEN) == TIMER | GLOBAL | POWER_BUTTON | RTC


def test_control_bits(either: QTest) -> None:
    """PMCNTRL: SCI_EN, BM_RLD and the sleep type read back; SUS_EN is write-only."""
    mapped(either)
    either.outw(PMCNTRL, 0x1403)
    assert either.inw(PMCNTRL) & 0x3C03 == 0x1403
    either.outw(PMCNTRL, 0x0000)


def test_the_power_button_raises_sci_and_a_one_clears_it(own: QTest) -> None:
    mapped(own)
    own.outw(PMEN, POWER_BUTTON)
    own.set_irq_in("pm", "power-button", 0, 1)
    assert own.inw(PMSTS) & POWER_BUTTON
    assert not own.get_irq(SCI)  # SMI mode until SCI_EN
    own.outw(PMCNTRL, 0x0001)
    assert own.get_irq(SCI)
    own.outw(PMSTS, TIMER)  # another bit
    assert own.get_irq(SCI)
    own.outw(PMSTS, POWER_BUTTON)
    assert not own.get_irq(SCI) and not own.inw(PMSTS) & POWER_BUTTON
    own.set_irq_in("pm", "power-button", 0, 0)


def test_the_timer_runs_at_3_58_mhz_and_tells_when_bit_23_changes(own: QTest) -> None:
    """PMTMR, PMSTS: 24 bits; read-only."""
    mapped(own)
    start = own.inl(PMTMR)
    assert start >> 24 == 0
    own.clock_step(10_000_000)
    assert (own.inl(PMTMR) - start & 0xFFFFFF) in (35795, 35796)
    own.outl(PMTMR, 0)
    assert own.inl(PMTMR) != 0
    own.outw(PMEN, TIMER)
    own.outw(PMCNTRL, 0x0001)
    own.outw(PMSTS, TIMER)
    half = (1 << 23) * 1_000_000_000 // TIMER_HZ
    own.clock_step(half + 1000)
    assert own.inw(PMSTS) & TIMER and own.get_irq(SCI)
    own.outw(PMSTS, TIMER)
    assert not own.get_irq(SCI)


def test_general_purpose_events_raise_sci(own: QTest) -> None:
    """GPSTS, GPEN: status bits are cleared by a one."""
    mapped(own)
    own.outw(PMCNTRL, 0x0001)
    own.outw(GPEN, 0x0400)
    with own.vm.lock:
        own.machine.part("pm").set_gpe(10, 1)
    assert own.inw(GPSTS) == 0x0400 and own.get_irq(SCI)
    own.outw(GPSTS, 0x0400)
    assert own.inw(GPSTS) == 0 and not own.get_irq(SCI)


def test_acpi_is_switched_on_by_the_apm_port(either: QTest) -> None:
    """What the SMI handler of a firmware does for F1h and F0h at B2h, as QEMU's device does it itself."""
    mapped(either)
    for value in (0xF1, 0xF0):
        either.outb(0xB2, value)
        assert either.inw(PMCNTRL) & 1 == value & 1
        assert either.inb(0xB2) == value
    either.outb(0xB3, 0x5A)
    assert either.inb(0xB3) == 0x5A


def test_an_smi_is_asked_for_while_it_is_enabled(own: QTest) -> None:
    changes = []
    watch = own.vm.observe.lines(lambda change: changes.append(change.level), device="/machine/pm", name="smi")
    lines = own.machine.part("pm").outputs()
    own.config_write(FUNCTION, 0x58, 0x00000000)
    own.outb(0xB2, 0x01)
    own.config_write(FUNCTION, 0x58, 0x02000000)
    own.outb(0xB2, 0x01)
    watch.close()
    assert changes == ([1, 0] if any(name == "smi" for name, _, _ in lines) else [])


def test_soft_off_ends_the_machine() -> None:
    with QTest("-M pc -m 16") as q:
        mapped(q)
        q.outw(PMCNTRL, 0x2000)  # type 0 is S5
        assert q.wait() == 0
        assert q.vm.shutdown_reason == "acpi-soft-off"


def test_a_sleep_there_is_not_is_logged(own: QTest) -> None:
    mapped(own)
    own.outw(PMCNTRL, 0x3C00)
    assert list(own.vm.log_lines) == [
        "guest_errors: /machine/pm: there is no sleep type 7: 0 is soft off, 1 suspend to RAM, 2 suspend to disk"
    ]


def test_the_smbus_has_nobody_on_it(own: QTest) -> None:
    """A transaction ends with DEV_ERR; ones clear it.  (QEMU's PC has SPD EEPROMs there.)"""
    with_smbus(own)
    own.outb(SMB + 4, 0xA1)
    own.outb(SMB + 3, 0x00)
    own.outb(SMB + 2, 0x48)
    assert own.inb(SMB) & 0x1F == 0x04
    own.outb(SMB, 0x04)
    assert own.inb(SMB) & 0x1F == 0
    own.outb(SMB + 2, 0x02)
    assert own.inb(SMB) & 0x10


def test_smbus_registers_read_back(either: QTest) -> None:
    with_smbus(either)
    for register, value in ((3, 0x5A), (4, 0xA1), (5, 0x11), (6, 0x22)):
        either.outb(SMB + register, value)
        assert either.inb(SMB + register) == value


def test_the_block_buffer_is_rewound_by_the_control_register(own: QTest) -> None:
    """SMBBLKDAT.  QEMU has two buffers there, for either direction."""
    with_smbus(own)
    for value in (1, 2, 3):
        own.outb(SMB + 7, value)
    own.inb(SMB + 2)
    assert [own.inb(SMB + 7) for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_registers_are_read_in_any_size(own: QTest, size: int) -> None:
    mapped(own)
    own.outw(PMEN, POWER_BUTTON)
    own.outw(PMCNTRL, 0x0401)
    read = {1: own.inb, 2: own.inw, 4: own.inl}[size]
    value = sum(read(PM + at) << 8 * at for at in range(0, 8, size))
    assert value >> 16 & 0xFFFFFFFF == 0x04010100
