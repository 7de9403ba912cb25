"""The host bridge (`i440FX-pcihost`, `i440FX`: 82441FX, Intel 290549), the ISA bridge (`PIIX3`: 82371SB, 290550) and PCI.

Registers are called as in those data sheets; sections are those of the PCI Local Bus Specification 3.0.
"""

from __future__ import annotations

import pytest

from qom.testing import QTest

HOST, ISA, IDE = "00.0", "01.0", "01.1"
PAM0, SMRAM, PIRQRC = 0x59, 0x72, 0x60
VENDOR, COMMAND, STATUS, CLASS = 0x00, 0x04, 0x06, 0x0A


# PCI (PCI Local Bus Specification 3.0)


def test_functions_there_are_and_those_there_are_not(either: QTest) -> None:
    """6.1: FFFFh as vendor where nobody is."""
    assert either.config_read(HOST, VENDOR) == 0x12378086
    assert either.config_read(ISA, VENDOR) == 0x70008086
    assert either.config_read(IDE, VENDOR) == 0x70108086
    for place in ("00.1", "01.7", "1e.0", "1f.7"):
        assert either.config_read(place, VENDOR) == 0xFFFFFFFF
        either.config_write(place, 0x10, 0x12345678)


def test_configuration_is_off_without_its_enable_bit(either: QTest) -> None:
    """3.2.2.3.2: bit 31 of CONFIG_ADDRESS."""
    either.outl(0xCF8, 0x00000000)
    assert either.inl(0xCFC) == 0xFFFFFFFF
    either.outl(0xCF8, 0x80000000)
    assert either.inl(0xCF8) == 0x80000000
    assert either.inl(0xCFC) == 0x12378086
    assert (either.inb(0xCFC), either.inb(0xCFD), either.inw(0xCFE)) == (0x86, 0x80, 0x1237)


def test_the_address_register_takes_32_bits_only(own: QTest) -> None:
    """3.2.2.3.2: anything narrower is an ordinary I/O access.  QEMU takes it."""
    own.outl(0xCF8, 0x80000008)
    own.outb(0xCF8, 0x00)
    own.outw(0xCF8, 0x0000)
    assert own.inl(0xCF8) == 0x80000008
    own.outl(0xCF8, 0xFFFFFFFF)
    assert own.inl(0xCF8) == 0x80FFFFFC  # reserved bits are 0


def test_other_buses_are_empty(either: QTest) -> None:
    either.outl(0xCF8, 0x80010000)
    assert either.inl(0xCFC) == 0xFFFFFFFF


def test_identity_cannot_be_written(either: QTest) -> None:
    for place in (HOST, ISA, IDE):
        before = [either.config_read(place, offset) for offset in (0x00, 0x08, 0x2C)]
        for offset in (0x00, 0x08, 0x2C):
            either.config_write(place, offset, 0x5A5A5A5A)
        assert [either.config_read(place, offset) for offset in (0x00, 0x08, 0x2C)] == before


def test_a_bar_shows_its_size_and_is_mapped_by_the_command(either: QTest) -> None:
    """6.2.5.1: all ones written, the size read; decoded while I/O space is enabled (6.2.2)."""
    either.config_write(IDE, 0x20, 0xFFFFFFFF)
    assert either.config_read(IDE, 0x20) == 0xFFFFFFF1
    either.config_write(IDE, 0x20, 0xC101)
    assert either.config_read(IDE, 0x20) == 0xC101
    assert either.inb(0xC102) == 0xFF
    either.config_write(IDE, COMMAND, 0x0005, 2)
    assert either.inb(0xC102) & 0x1F == 0
    either.config_write(IDE, COMMAND, 0x0000, 2)
    assert either.inb(0xC102) == 0xFF
    either.config_write(IDE, 0x20, 0x0001)


def test_the_interrupt_line_is_a_note(either: QTest) -> None:
    """6.2.4: firmware writes it, nothing follows from it."""
    either.config_write("01.3", 0x3C, 0x5A, 1)
    assert either.config_read("01.3", 0x3C, 1) == 0x5A


def test_reset_forgets_what_was_configured(either: QTest) -> None:
    either.config_write(IDE, 0x20, 0xC101)
    either.config_write(IDE, COMMAND, 0x0005, 2)
    either.config_write(ISA, PIRQRC, 0x0A, 1)
    either.system_reset()
    assert either.config_read(IDE, 0x20) & 0xFFF0 == 0
    assert either.config_read(IDE, COMMAND, 2) & 0x0005 == 0
    assert either.config_read(ISA, PIRQRC, 1) == 0x80


def test_reset_switches_shadowing_off(own: QTest) -> None:
    """PAM is 0 after a reset.  QEMU's bridge keeps it."""
    own.config_write(HOST, PAM0 + 1, 0x33, 1)
    own.write(0xC0000, b"shadow")
    own.system_reset()
    assert own.config_read(HOST, PAM0 + 1, 1) == 0
    assert own.read(0xC0000, 6) != b"shadow"


def test_unaligned_and_wide_accesses_of_configuration_space(either: QTest) -> None:
    either.outl(0xCF8, 0x80000000)
    assert either.inw(0xCFD) == 0x3780
    assert either.inb(0xCFF) == 0x12


# 440FX


def test_host_bridge_identity(either: QTest) -> None:
    assert either.config_read(HOST, 0x08) == 0x06000002


def test_bridges_are_always_enabled(own: QTest) -> None:
    """PCICMD of the 440FX: memory and master; of the PIIX3: I/O, too.  QEMU shows 0 until firmware writes it."""
    assert own.config_read(HOST, COMMAND, 2) & 0x0007 == 0x0006
    assert own.config_read(ISA, COMMAND, 2) & 0x0007 == 0x0007


@pytest.mark.parametrize("register", range(0x5A, 0x60))
@pytest.mark.parametrize("half", [0, 1])
def test_pam_switches_a_segment_between_ram_and_rom(either: QTest, register: int, half: int) -> None:
    """PAM: bit 0 reads, bit 1 writes go to DRAM.  QEMU's protocol writes to what is read-only for a processor, too."""
    start = 0xC0000 + 0x8000 * (register - 0x5A) + 0x4000 * half
    shift = 4 * half
    either.config_write(HOST, register, 0x3 << shift, 1)
    either.write(start + 0x100, b"shadow")
    assert either.read(start + 0x100, 6) == b"shadow"
    either.config_write(HOST, register, 0x1 << shift, 1)
    if either.in_process:
        either.write(start + 0x100, b"nobody")
    assert either.read(start + 0x100, 6) == b"shadow"
    either.config_write(HOST, register, 0x0, 1)
    assert either.read(start + 0x100, 6) != b"shadow"
    either.config_write(HOST, register, 0x3 << shift, 1)
    assert either.read(start + 0x100, 6) == b"shadow"


def test_pam0_has_the_bios_segment_in_its_upper_half(either: QTest) -> None:
    rom = either.read(0xFFFF0, 5)
    assert rom[:1] == b"\xea"  # the jump at the reset vector
    either.config_write(HOST, PAM0, 0x30, 1)
    either.write(0xFFFF0, b"12345")
    assert either.read(0xFFFF0, 5) == b"12345"
    either.config_write(HOST, PAM0, 0x00, 1)
    assert either.read(0xFFFF0, 5) == rom


def test_smram_opens_and_locks(own: QTest) -> None:
    """SMRAM: D_OPEN shows RAM at A0000h; D_LCK closes it and keeps it so until a reset."""
    own.config_write(HOST, SMRAM, 0x4A, 1)
    own.write(0xA0000, b"smm")
    assert own.read(0xA0000, 3) == b"smm"
    own.config_write(HOST, SMRAM, 0x0A, 1)
    assert own.read(0xA0000, 3) != b"smm"
    own.config_write(HOST, SMRAM, 0x5A, 1)
    assert own.config_read(HOST, SMRAM, 1) & 0x40 == 0
    own.config_write(HOST, SMRAM, 0x4A, 1)
    assert own.config_read(HOST, SMRAM, 1) & 0x50 == 0x10
    own.system_reset()
    assert own.config_read(HOST, SMRAM, 1) == 0x02


# PIIX3


def test_isa_bridge_identity(either: QTest) -> None:
    assert either.config_read(ISA, CLASS, 2) == 0x0601
    assert either.config_read(ISA, 0x0E, 1) & 0x80  # several functions


@pytest.mark.parametrize("n", range(4))
def test_pirq_routing_reads_back(either: QTest, n: int) -> None:
    """PIRQRC: bits 4 to 6 are reserved."""
    assert either.config_read(ISA, PIRQRC + n, 1) == 0x80
    either.config_write(ISA, PIRQRC + n, 0x0B, 1)
    assert either.config_read(ISA, PIRQRC + n, 1) == 0x0B


def test_reserved_routing_bits_stay_clear(own: QTest) -> None:
    own.config_write(ISA, PIRQRC, 0xFF, 1)
    assert own.config_read(ISA, PIRQRC, 1) == 0x8F


def test_a_pirq_goes_where_it_is_routed(own: QTest) -> None:
    own.config_write(ISA, PIRQRC, 0x0B, 1)
    own.set_irq_in("piix3", "pirq", 0, 1)
    assert own.get_irq(11)
    own.config_write(ISA, PIRQRC, 0x0A, 1)
    assert own.get_irq(10) and not own.get_irq(11)
    own.config_write(ISA, PIRQRC, 0x80, 1)
    assert not own.get_irq(10)
    own.config_write(ISA, PIRQRC, 0x0A, 1)
    own.config_write(ISA, PIRQRC + 1, 0x0A, 1)
    own.set_irq_in("piix3", "pirq", 1, 1)
    own.set_irq_in("piix3", "pirq", 0, 0)
    assert own.get_irq(10)  # shared
    own.set_irq_in("piix3", "pirq", 1, 0)
    assert not own.get_irq(10)


def test_the_reset_control_register(either: QTest) -> None:
    """CF9h: SRST is bit 1; bit 2 resets when it rises."""
    either.outb(0xCF9, 0x02)
    assert either.inb(0xCF9) == 0x02
    either.outb(0xCF9, 0x00)
    assert either.inb(0xCF9) == 0x00


def test_a_bridge_without_pci_makes_an_isa_bus_too() -> None:
    """`isabus-bridge`: for boards that have no PCI; it has no registers, its bus is what is seen of it."""
    from qom import SysBusDevice
    from qom.testing import SysBench

    bench = SysBench()
    bridge: SysBusDevice = bench.new("isabus-bridge")
    (bus,) = bridge.buses()
    assert bus.is_a("isa-bus")
    bench.close()
