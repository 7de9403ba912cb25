"""PCI bus and device core, driven through the configuration ports with no guest."""

from __future__ import annotations

import pytest

from qom import RealizeError, prop, state, type_init
from qom.errors import PropertyError
from qom.hw import PciDevice, Region
from qom.hw.bench import PciBench

COMMAND, STATUS, BAR0, BAR1, BAR2, ROM, CAPS = 0x04, 0x06, 0x10, 0x14, 0x18, 0x30, 0x34


@type_init("test-card")
class TestCard(PciDevice):
    """A card with one of everything."""

    __test__ = False
    vendor_id, device_id, class_code, interrupt_pin, revision = 0x1AF4, 0x1234, 0x0880, 1, 3

    vectors: int = prop(4, "MSI vectors")
    last: int = state()

    def realize(self) -> None:
        self.register_bar(0, Region("card-io", 16, self._read, self._write), io=True)
        self.register_bar(1, Region("card-mem", 0x1000, self._read, self._write))
        self.register_bar(2, Region("card-wide", 0x10000, self._read, self._write), wide=True, prefetch=True)
        self.register_rom(Region.rom("card-rom", b"\x55\xaa", 0x800))
        self.add_msi(self.vectors, maskable=True)

    def _read(self, offset: int, size: int) -> int:
        return 0x5A00 | offset

    def _write(self, offset: int, value: int, size: int) -> None:
        self.last = value


@pytest.fixture
def bench() -> PciBench:
    return PciBench(TestCard)


def test_header_and_nobody(bench: PciBench) -> None:
    bench.add("test-card", addr="04.0")
    assert bench.config_read("04.0", 0) == 0x12341AF4
    assert bench.config_read("04.0", 8) == 0x08800003
    assert bench.config_read("04.0", 0x3D, 1) == 1
    assert bench.config_read("05.0", 0) == 0xFFFFFFFF
    assert bench.config_read("04.0", 1, 1) == 0x1A
    bench.outl(0xCF8, 0)
    assert bench.inl(0xCFC) == 0xFFFFFFFF  # CONFIG_ENABLE is off
    bench.outl(0xCF8, 0x80002000)
    bench.outb(0xCF8, 0x55)  # only dwords reach CONFIG_ADDRESS
    assert bench.inl(0xCF8) == 0x80002000


def test_header_identity_is_read_only(bench: PciBench) -> None:
    bench.add("test-card", addr="04.0")
    for offset in (0x00, 0x08, 0x2C, 0x34):
        before = bench.config_read("04.0", offset)
        bench.config_write("04.0", offset, 0)
        bench.config_write("04.0", offset, 0xFFFFFFFF)
        assert bench.config_read("04.0", offset) == before


def test_bar_sizing_and_mapping(bench: PciBench) -> None:
    card = bench.add("test-card", addr="04.0")
    for offset, expected in ((BAR0, 0xFFFFFFF1), (BAR1, 0xFFFFF000), (BAR2, 0xFFFF000C), (0x1C, 0xFFFFFFFF), (0x20, 0)):
        bench.config_write("04.0", offset, 0xFFFFFFFF)
        assert bench.config_read("04.0", offset) == expected
    assert bench.config_read("04.0", ROM) == 0
    bench.config_write("04.0", ROM, 0xFFFFFFFE)
    assert bench.config_read("04.0", ROM) == 0xFFFFF800
    bench.config_write("04.0", BAR0, 0xC000)
    bench.config_write("04.0", BAR1, 0xFEB00000)
    bench.config_write("04.0", BAR2, 0x80000000)
    bench.config_write("04.0", 0x1C, 0x1)
    assert bench.inb(0xC003) == 0xFF
    bench.config_write("04.0", COMMAND, 1, 2)
    assert bench.inb(0xC003) == 0x03
    assert bench.read(0xFEB00004, 4) == 0xFFFFFFFF
    bench.config_write("04.0", COMMAND, 3, 2)
    assert bench.read(0xFEB00004, 4) == 0x5A04
    assert bench.read(0x180000010, 4) == 0x5A10
    bench.config_write("04.0", BAR1, 0xFEC00000)
    assert bench.read(0xFEB00004, 4) == 0xFFFFFFFF
    assert bench.read(0xFEC00008, 4) == 0x5A08
    bench.config_write("04.0", ROM, 0xE0000000)
    assert bench.read(0xE0000000, 2) == 0xFFFF
    bench.config_write("04.0", ROM, 0xE0000001)
    assert bench.read(0xE0000000, 2) == 0xAA55
    bench.reset()
    assert bench.inb(0xC003) == 0xFF
    assert bench.config_read("04.0", BAR0) == 1
    assert [bar.address for bar in card.bars.values()] == [None] * 4


def test_bar_at_zero_or_over_the_top_is_not_mapped(bench: PciBench) -> None:
    card = bench.add("test-card", addr="04.0")
    bench.config_write("04.0", COMMAND, 3, 2)
    assert card.bars[1].address is None
    bench.config_write("04.0", BAR1, 0xFFFFF000)
    assert card.bars[1].address is None  # as while it is being sized
    bench.config_write("04.0", BAR1, 0xFFFFE000)
    assert card.bars[1].address == 0xFFFFE000


def test_intx_is_shared_masked_and_shown(bench: PciBench) -> None:
    one = bench.add("test-card", addr="04.0")
    two = bench.add("test-card", addr="08.0")
    one.intx.raise_()
    two.intx.raise_()
    assert bench.intx.levels == [1, 0, 0, 0]
    assert bench.config_read("04.0", STATUS, 2) & 8
    one.intx.lower()
    assert bench.intx.levels == [1, 0, 0, 0]
    bench.config_write("08.0", COMMAND, 0x400, 2)
    assert bench.intx.levels == [0, 0, 0, 0]
    assert bench.config_read("08.0", STATUS, 2) & 8
    bench.config_write("08.0", COMMAND, 0, 2)
    assert bench.intx.levels == [1, 0, 0, 0]
    bench.reset()
    assert bench.intx.levels == [0, 0, 0, 0]
    assert bench.intx.rises == [2, 0, 0, 0]


def test_bus_master_gate(bench: PciBench) -> None:
    card = bench.add("test-card", addr="04.0")
    bench.ram(0x1000, 0x1000)
    card.dma.write_bytes(0x1000, b"abcd")
    assert card.dma.read(0x1000, 4) == 0xFFFFFFFF
    assert card.dma.read_bytes(0x1000, 2) == b"\xff\xff"
    bench.config_write("04.0", COMMAND, 4, 2)
    assert card.dma.read(0x1000, 4) == 0
    card.dma.write_bytes(0x1000, b"abcd")
    assert bench.read(0x1000, 4) == int.from_bytes(b"abcd", "little")
    assert card.dma.read_bytes(0x1001, 2) == b"bc"


def test_msi_with_masking(bench: PciBench) -> None:
    card = bench.add("test-card", addr="04.0")
    bench.ram(0x1000, 0x1000)
    assert bench.config_read("04.0", STATUS, 2) & 0x10
    at = bench.config_read("04.0", CAPS, 1)
    assert bench.config_read("04.0", at, 2) == 0x0005
    assert bench.config_read("04.0", at + 2, 2) == 0x0184
    bench.config_write("04.0", COMMAND, 4, 2)
    bench.config_write("04.0", at + 4, 0x1000)
    bench.config_write("04.0", at + 12, 0x4040, 2)
    card.msi_notify(0)
    assert bench.read(0x1000, 4) == 0  # not enabled
    card.intx.raise_()
    assert bench.intx.levels[0] == 1
    bench.config_write("04.0", at + 2, 0x21, 2)
    assert bench.intx.levels[0] == 0  # MSI replaces the pin
    card.msi_notify(3)
    assert bench.read(0x1000, 4) == 0x4043
    bench.config_write("04.0", at + 16, 0x2)
    card.msi_notify(1)
    assert bench.read(0x1000, 4) == 0x4043
    assert bench.config_read("04.0", at + 20) == 0x2
    bench.config_write("04.0", at + 16, 0)
    assert bench.read(0x1000, 4) == 0x4041
    assert bench.config_read("04.0", at + 20) == 0


def test_slots(bench: PciBench) -> None:
    one = bench.add("test-card")
    assert (one.addr, one.slot, one.path) == ("01.0", 1, "/machine/unattached/test-card")
    bench.add("test-card", addr="2.0", multifunction=True)
    two = bench.add("test-card", addr="2.1")
    assert two.path == "/machine/unattached/test-card@00:02.1"
    with pytest.raises(RealizeError) as error:
        bench.add("test-card", addr="02.1")
    assert str(error.value) == (
        "/machine/unattached/test-card@00:02.1[1]: addr 02.1 on /machine/pci-host/pci.0 is taken by "
        "/machine/unattached/test-card@00:02.1 (test-card)"
    )
    with pytest.raises(RealizeError, match=r"needs multifunction=on at 01\.0"):
        bench.add("test-card", addr="1.2")
    with pytest.raises(PropertyError, match=r"slot\.function in hexadecimal, 00\.0 to 1f\.7"):
        bench.add("test-card", addr="20.0")
    assert sorted(bench.pci.functions) == [0x08, 0x10, 0x11]


def test_a_slot_found_is_not_kept(bench: PciBench) -> None:
    found, told = bench.add("test-card"), bench.add("test-card", addr="5")
    assert (found.addr, told.addr) == ("01.0", "05.0")
    for card in (found, told):
        card.set("realized", False)
    assert (found.addr, told.addr) == ("", "05.0")


def test_failed_realize_frees_the_slot(bench: PciBench) -> None:
    with pytest.raises(RealizeError, match="3 MSI vectors: expected 1, 2, 4, 8, 16 or 32"):
        bench.add("test-card", addr="4", vectors=3)
    assert bench.pci.functions == {}
    card = bench.add("test-card", addr="4")
    bench.config_write("04.0", BAR0, 0xC000)
    bench.config_write("04.0", COMMAND, 1, 2)
    card.intx.raise_()
    card.set("realized", False)
    assert bench.pci.functions == {}
    assert bench.inb(0xC000) == 0xFF
    assert bench.intx.levels == [0, 0, 0, 0]


def test_state_round_trip(bench: PciBench) -> None:
    card = bench.add("test-card", addr="4")
    bench.config_write("04.0", BAR0, 0xC000)
    bench.config_write("04.0", COMMAND, 1, 2)
    card.intx.raise_()
    saved = card.save_state()
    bench.reset()
    assert bench.inb(0xC003) == 0xFF
    card.load_state(saved)
    assert bench.inb(0xC003) == 3
    assert bench.intx.levels == [1, 0, 0, 0]
