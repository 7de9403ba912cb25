"""The copier on a bench: BARs, DMA, time, interrupts by pin, MSI and MSI-X, state; no guest."""

import zlib

import pytest
import qom_dma
from qom_dma import (
    BUSY,
    CONTROL,
    DIGEST,
    DONE,
    ERROR,
    IRQ_ENABLE,
    LENGTH,
    LENGTH_MAX,
    PORT_START,
    SOURCE,
    SOURCE_HIGH,
    START,
    STATUS,
    TARGET,
)

from qom import PropertyError
from qom.hw import pci_config as pci
from qom.hw.bench import PciBench

CARD = "05.0"
REGISTERS, PORTS, TABLE = 0xFEB00000, 0xC000, 0xFEB10000
RAM, MAILBOX = 0x10000, 0x80000  # RAM, and where messages arrive in these tests
IO_MEMORY_MASTER = pci.COMMAND_IO | pci.COMMAND_MEMORY | pci.COMMAND_MASTER


@pytest.fixture
def bench():
    with PciBench(qom_dma.Copier) as bench:
        bench.ram(RAM, 0x10000)
        bench.ram(MAILBOX, 0x1000)
        yield bench


@pytest.fixture
def card(bench):
    card = bench.add("pci-copier", addr=CARD, latency_ns=1000, bytes_per_us=100)
    for n, address in enumerate((REGISTERS, PORTS, TABLE)):
        bench.config_write(CARD, pci.BAR0 + 4 * n, address)
    bench.config_write(CARD, pci.COMMAND, IO_MEMORY_MASTER, 2)
    return card


def register(bench, offset, value=None):
    if value is None:
        return bench.read(REGISTERS + offset, 4)
    bench.write(REGISTERS + offset, value, 4)


def start(bench, length=300, control=START | IRQ_ENABLE):
    """Three hundred bytes take three microseconds here, and one before."""
    bench.memory.write_bytes(RAM, bytes(n * 7 & 0xFF for n in range(300)))
    for offset, value in ((SOURCE, RAM), (TARGET, RAM + 0x8000), (LENGTH, length), (CONTROL, control)):
        register(bench, offset, value)


def test_identity_and_bars(bench, card):
    assert bench.config_read(CARD, 0) == 0xC0B11234
    assert bench.config_read(CARD, pci.REVISION_ID) == 0x08010001
    for n, (size, flags) in enumerate(((0x1000, 0), (8, 1), (0x1000, 0))):
        bench.config_write(CARD, pci.BAR0 + 4 * n, 0xFFFFFFFF)
        assert bench.config_read(CARD, pci.BAR0 + 4 * n) == (0x100000000 - size) | flags


def test_a_copy_takes_its_time(bench, card):
    start(bench)
    bench.clock.step(3999)
    assert (register(bench, STATUS), bench.memory.read_bytes(RAM + 0x8000, 300)) == (BUSY, bytes(300))
    bench.clock.step(1)
    data = bench.memory.read_bytes(RAM, 300)
    assert bench.memory.read_bytes(RAM + 0x8000, 300) == data
    assert (register(bench, STATUS), register(bench, DIGEST)) == (DONE, zlib.crc32(data))


def test_ports_do_what_the_registers_do(bench, card):
    start(bench, control=IRQ_ENABLE)
    assert bench.inl(PORTS) == 0
    bench.outl(PORTS + PORT_START, 0)
    assert bench.inl(PORTS) == BUSY
    bench.clock.step(4000)
    assert bench.inl(PORTS) == DONE
    bench.outl(PORTS, DONE)
    assert bench.inl(PORTS) == register(bench, STATUS) == 0


def test_the_pin_is_held_until_status_is_cleared(bench, card):
    start(bench)
    bench.clock.step(4000)
    pin = bench.intx.levels[card.slot & 3]
    assert pin == 1 and bench.config_read(CARD, pci.STATUS, 2) & pci.STATUS_INTERRUPT
    register(bench, STATUS, DONE)
    assert sum(bench.intx.levels) == 0
    start(bench, control=START)  # without IRQ_ENABLE: silence
    bench.clock.step(4000)
    assert register(bench, STATUS) == DONE and sum(bench.intx.levels) == 0
    register(bench, CONTROL, IRQ_ENABLE)
    assert sum(bench.intx.levels) == 1


def test_msi_in_place_of_the_pin(bench, card):
    at = card.msi.offset
    bench.config_write(CARD, at + 4, MAILBOX)
    bench.config_write(CARD, at + 12, 0x4040, 2)
    bench.config_write(CARD, at + 2, 0x11, 2)
    start(bench)
    bench.clock.step(4000)
    assert (bench.read(MAILBOX, 4), sum(bench.intx.levels)) == (0x4040, 0)
    start(bench, length=0)
    bench.clock.step(1000)
    assert (bench.read(MAILBOX, 4), register(bench, STATUS)) == (0x4041, ERROR)


def test_msix_has_an_address_for_each_vector(bench, card):
    for vector in range(2):
        for place, value in ((0, MAILBOX + 8 * vector), (8, 0x70 + vector), (12, vector)):
            bench.write(TABLE + 16 * vector + place, value, 4)
    bench.config_write(CARD, card.msix.offset + 2, 0x8000, 2)
    start(bench)
    bench.clock.step(4000)
    start(bench, length=LENGTH_MAX + 1)
    bench.clock.step(10**9)
    assert (bench.read(MAILBOX, 4), bench.read(MAILBOX + 8, 4)) == (0x70, 0), "the second is masked"
    bench.write(TABLE + 16 + 12, 0, 4)
    assert bench.read(MAILBOX + 8, 4) == 0x71


def test_without_msix(bench):
    card = bench.add("pci-copier", addr=CARD, msix=False)
    assert card.msix is None and card.msi is not None
    assert bench.config_read(CARD, pci.BAR0 + 8) == 0


def test_no_bus_master_no_copy(bench, card):
    start(bench)
    bench.config_write(CARD, pci.COMMAND, pci.COMMAND_IO | pci.COMMAND_MEMORY, 2)
    bench.clock.step(4000)
    assert register(bench, STATUS) == ERROR
    assert bench.memory.read_bytes(RAM + 0x8000, 300) == bytes(300)


def test_a_second_start_and_a_wrong_register_are_logged(bench, card):
    start(bench)
    bench.clock.step(2000)
    register(bench, CONTROL, START | IRQ_ENABLE)
    register(bench, DIGEST, 1)
    bench.clock.step(2000)
    assert register(bench, STATUS) == DONE, "the second START did not begin anew"
    assert [text for _, text in bench.system.logged] == [
        f"{card.path}: START while a copy is under way",
        f"{card.path}: write of 0x1 to register 0x1c, which does not take it",
    ]


def test_addresses_have_64_bits(bench, card):
    register(bench, SOURCE_HIGH, 1)
    start(bench)
    assert (card.source, register(bench, SOURCE), register(bench, SOURCE_HIGH)) == (1 << 32 | RAM, RAM, 1)
    bench.clock.step(4000)
    assert bench.memory.read_bytes(RAM + 0x8000, 300) == b"\xff" * 300, "nothing is there, which reads as ones"


def test_reset_stops_it(bench, card):
    start(bench)
    bench.reset()
    bench.clock.step(10_000)
    assert (card.status, card.length, bench.memory.read_bytes(RAM + 0x8000, 4)) == (0, 0, bytes(4))


def test_state_is_taken_up_in_the_middle_of_a_copy(bench, card):
    start(bench)
    bench.clock.step(1000)
    saved = card.save_state()
    bench.reset()
    card.load_state(saved)
    bench.clock.step(2999)
    assert register(bench, STATUS) == BUSY
    bench.clock.step(1)
    assert register(bench, STATUS) == DONE
    assert bench.memory.read_bytes(RAM + 0x8000, 300) == bench.memory.read_bytes(RAM, 300)


def test_wrong_settings_are_refused(bench):
    with pytest.raises(PropertyError, match="property 'bytes-per-us' cannot be 0: expected an integer in 1"):
        bench.add("pci-copier", bytes_per_us=0)
