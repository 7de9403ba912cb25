"""MSI-X by its registers, with no guest: capability, table, pending bits, masks, delivery."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qom import RealizeError, StateError, prop, type_init
from qom.hw import PciDevice, Region
from qom.hw.bench import PciBench

COMMAND, STATUS, BAR1, BAR2, BAR4, CAPS = 0x04, 0x06, 0x14, 0x18, 0x20, 0x34
ENABLE, FUNCTION_MASK = 0x8000, 0x4000
MEMORY_AND_MASTER = 0x6
BAR, RAM = 0xFEB00000, 0x1000
CARD = "04.0"


@type_init("msix-card")
class MsixCard(PciDevice):
    """Table and pending bits in a BAR of their own."""

    vendor_id, device_id, interrupt_pin = 0x1AF4, 0x1235, 1

    vectors: int = prop(3, "MSI-X vectors")
    msi_too: bool = prop(False, "Whether it has MSI as well")

    def realize(self) -> None:
        if self.msi_too:
            self.add_msi(4)
        self.add_msix(self.vectors, bar=1)


@type_init("msix-shared")
class MsixShared(PciDevice):
    """Table behind registers of the device, pending bits in another BAR."""

    vendor_id, device_id = 0x1AF4, 0x1236

    table_bar: int = prop(1, "BAR with the table")
    table_offset: int | None = prop(0x800, "Where in it")
    pba_bar: int | None = prop(2, "BAR with the pending bits")
    pba_offset: int | None = prop(0x40, "Where in it")

    def realize(self) -> None:
        self.register_bar(0, Region("ports", 16), io=True)
        self.register_bar(1, Region("registers", 0x1000, lambda offset, size: 0x11))
        self.register_bar(2, Region("more", 0x100, lambda offset, size: 0x22), wide=True)
        self.add_msix(70, self.table_bar, table_offset=self.table_offset, pba_bar=self.pba_bar,
                      pba_offset=self.pba_offset)  # fmt: skip


@pytest.fixture
def bench() -> PciBench:
    made = PciBench(MsixCard, MsixShared)
    made.ram(RAM, 0x1000)
    return made


def ready(bench: PciBench, **props: Any) -> tuple[MsixCard, int]:
    """A card whose BAR is mapped, that is a bus master and has MSI-X on; and where its capability is."""
    card = bench.add("msix-card", addr="04.0", **props)
    bench.config_write(CARD, BAR1, BAR)
    bench.config_write(CARD, COMMAND, MEMORY_AND_MASTER, 2)
    bench.config_write(CARD, card.msix.offset + 2, ENABLE, 2)
    return card, card.msix.offset


def entry(bench: PciBench, vector: int, address: int, data: int, control: int = 0) -> None:
    at = BAR + 16 * vector
    for n, value in enumerate((address & 0xFFFFFFFF, address >> 32, data, control)):
        bench.write(at + 4 * n, value, 4)


def test_capability(bench: PciBench) -> None:
    card = bench.add("msix-card", addr="04.0", vectors=2048)
    at = bench.config_read(CARD, CAPS, 1)
    assert at == card.msix.offset
    assert bench.config_read(CARD, STATUS, 2) & 0x10
    assert bench.config_read(CARD, at, 2) == 0x0011
    assert bench.config_read(CARD, at + 2, 2) == 2047
    assert bench.config_read(CARD, at + 4) == 1  # table at 0 of BAR 1
    assert bench.config_read(CARD, at + 8) == 0x8000 | 1
    bench.config_write(CARD, at, 0xFFFFFFFF)
    assert bench.config_read(CARD, at) == (ENABLE | FUNCTION_MASK | 2047) << 16 | 0x11
    bench.config_write(CARD, at + 4, 0xFFFFFFFF)
    assert bench.config_read(CARD, at + 4) == 1
    bench.config_write(CARD, BAR1, 0xFFFFFFFF)
    assert bench.config_read(CARD, BAR1) == 0xFFFF0000
    bench.reset()
    assert bench.config_read(CARD, at + 2, 2) == 2047


def test_table_after_reset_and_what_of_it_is_writable(bench: PciBench) -> None:
    card, _ = ready(bench)
    for vector in range(3):
        assert bench.memory.read_bytes(BAR + 16 * vector, 16) == bytes(12) + b"\1\0\0\0"
    bench.memory.write_bytes(BAR + 16, b"\xff" * 16)
    assert bench.memory.read_bytes(BAR + 16, 16) == b"\xfc" + b"\xff" * 11 + b"\1\0\0\0"
    bench.write(BAR + 16, 0x1122334455667788, 8)  # one quadword access is two dwords
    assert bench.read(BAR + 16, 8) == 0x1122334455667788
    assert bench.read(BAR + 20, 4) == 0x11223344
    bench.write(BAR + 16, 0xAA, 1)  # narrower than a dword: undefined, here nothing
    assert bench.read(BAR + 16, 4) == 0x55667788
    assert bench.read(BAR + 0x30, 4) == 0xFFFFFFFF  # behind the table
    assert card.msix_table[:16] == bytes(12) + b"\1\0\0\0"
    bench.reset()
    assert card.msix_table == (bytes(12) + b"\1\0\0\0") * 3


def test_message_is_sent_while_enabled_and_unmasked(bench: PciBench) -> None:
    card, at = ready(bench)
    entry(bench, 2, RAM, 0x12345678)
    card.msix_notify(2)
    assert bench.read(RAM, 4) == 0x12345678
    bench.write(RAM, 0, 4)
    bench.config_write(CARD, at + 2, 0, 2)
    card.msix_notify(2)
    assert bench.read(RAM, 4) == 0
    assert bench.read(BAR + 0x800, 8) == 0, "while MSI-X is off nothing becomes pending"
    assert not card.notify(2), "the device drives its pin then"
    bench.config_write(CARD, at + 2, ENABLE, 2)
    assert card.notify(2)
    assert bench.read(RAM, 4) == 0x12345678


def test_no_bus_master_no_message(bench: PciBench) -> None:
    card, _ = ready(bench)
    entry(bench, 0, RAM, 0x55)
    bench.config_write(CARD, COMMAND, 2, 2)
    card.msix_notify(0)
    assert bench.read(RAM, 4) == 0


def test_masked_vector_is_pending_until_it_is_unmasked(bench: PciBench) -> None:
    card, _ = ready(bench)
    entry(bench, 0, RAM, 0x40, control=1)
    entry(bench, 1, RAM + 4, 0x41)
    card.msix_notify(0)
    card.msix_notify(0)
    card.msix_notify(1)
    assert (bench.read(RAM, 4), bench.read(RAM + 4, 4)) == (0, 0x41)
    assert bench.read(BAR + 0x800, 4) == 1
    bench.write(BAR + 0x800, 0, 4)
    assert bench.read(BAR + 0x800, 4) == 1, "the array is read-only"
    bench.write(BAR + 4 * 2, 0x99, 4)  # another message, still masked
    bench.write(BAR + 12, 0, 4)
    assert bench.read(RAM, 4) == 0x99
    assert bench.read(BAR + 0x800, 4) == 0
    bench.write(RAM, 0, 4)
    bench.write(BAR + 12, 1, 4)
    bench.write(BAR + 12, 0, 4)
    assert bench.read(RAM, 4) == 0, "sent once, not again"


def test_function_mask_holds_all_vectors_back(bench: PciBench) -> None:
    card, at = ready(bench)
    for vector in range(3):
        entry(bench, vector, RAM + 4 * vector, 0x50 + vector, control=vector == 1)
    bench.config_write(CARD, at + 2, ENABLE | FUNCTION_MASK, 2)
    for vector in range(3):
        card.msix_notify(vector)
    assert bench.read(BAR + 0x800, 8) == 7
    assert bench.read(RAM, 8) == 0
    bench.config_write(CARD, at + 2, ENABLE, 2)
    assert [bench.read(RAM + 4 * n, 4) for n in range(3)] == [0x50, 0, 0x52]
    assert bench.read(BAR + 0x800, 8) == 2, "the one that is masked itself stays"


def test_what_is_pending_waits_while_msix_is_off(bench: PciBench) -> None:
    card, at = ready(bench)
    entry(bench, 0, RAM, 0x60, control=1)
    card.msix_notify(0)
    bench.config_write(CARD, at + 2, 0, 2)
    bench.write(BAR + 12, 0, 4)
    assert (bench.read(RAM, 4), bench.read(BAR + 0x800, 4)) == (0, 1)
    bench.config_write(CARD, at + 2, ENABLE, 2)
    assert (bench.read(RAM, 4), bench.read(BAR + 0x800, 4)) == (0x60, 0)


def test_enabled_it_replaces_the_pin(bench: PciBench) -> None:
    card, at = ready(bench)
    bench.config_write(CARD, at + 2, 0, 2)
    card.intx.raise_()
    assert bench.intx.levels[0] == 1
    bench.config_write(CARD, at + 2, ENABLE, 2)
    assert bench.intx.levels[0] == 0
    bench.config_write(CARD, at + 2, 0, 2)
    assert bench.intx.levels[0] == 1


def test_beside_msi(bench: PciBench) -> None:
    card, at = ready(bench, msi_too=True)
    assert card.msi is not None
    chain, where = [], bench.config_read(CARD, CAPS, 1)
    while where:
        chain.append(bench.config_read(CARD, where, 1))
        where = bench.config_read(CARD, where + 1, 1)
    assert sorted(chain) == [0x05, 0x11]
    bench.config_write(CARD, card.msi.offset + 4, RAM + 8)
    bench.config_write(CARD, card.msi.offset + 12, 0x70, 2)
    entry(bench, 1, RAM, 0x61)
    bench.config_write(CARD, at + 2, 0, 2)
    assert not card.notify(1)
    bench.config_write(CARD, card.msi.offset + 2, 0x21, 2)  # two vectors
    assert card.notify(1)
    assert (bench.read(RAM, 4), bench.read(RAM + 8, 4)) == (0, 0x71)
    bench.config_write(CARD, card.msi.offset + 2, 0, 2)
    bench.config_write(CARD, at + 2, ENABLE, 2)
    assert card.notify(1)
    assert bench.read(RAM, 4) == 0x61


def test_msi_gives_no_more_vectors_than_there_are(bench: PciBench) -> None:
    """Seven, reserved, as the number of vectors: the low bits of the data are still only those of four."""
    card = bench.add("msix-card", addr="04.0", msi_too=True)
    at = card.msi.offset
    bench.config_write(CARD, COMMAND, MEMORY_AND_MASTER, 2)
    bench.config_write(CARD, at + 4, RAM)
    bench.config_write(CARD, at + 12, 0xFFFF, 2)
    bench.config_write(CARD, at + 2, 0x71, 2)
    card.msi_notify(2)
    assert bench.read(RAM, 4) == 0xFFFE
    with pytest.raises(ValueError, match=r"no MSI vector 4: expected 0\.\.3"):
        card.msi_notify(4)


def test_in_bars_with_other_registers(bench: PciBench) -> None:
    card = bench.add("msix-shared", addr="04.0")
    at = card.msix.offset
    assert (bench.config_read(CARD, at + 4), bench.config_read(CARD, at + 8)) == (0x801, 0x42)
    bench.config_write(CARD, BAR1, BAR)
    bench.config_write(CARD, BAR2, 0xFEA00000)
    bench.config_write(CARD, COMMAND, MEMORY_AND_MASTER, 2)
    bench.config_write(CARD, at + 2, ENABLE, 2)
    assert bench.read(BAR + 0x7FC, 4) == 0x11
    assert bench.read(BAR + 0x80C, 4) == 1
    assert bench.read(BAR + 0x800 + 70 * 16, 4) == 0x11
    card.msix_notify(69)
    assert bench.read(0xFEA00048, 8) == 1 << 5
    assert (bench.read(0xFEA0003C, 4), bench.read(0xFEA00050, 4)) == (0x22, 0x22)
    card.set("realized", False)
    assert card.bars[1].region.subregions == () and card.bars[2].region.subregions == ()


@pytest.mark.parametrize(
    ("props", "text"),
    [
        ({"table_bar": 0}, "MSI-X table in BAR 0: expected a memory BAR (1, 2)"),
        ({"table_bar": 3}, "MSI-X table in BAR 3: expected a memory BAR (1, 2)"),
        ({"table_offset": None}, "MSI-X table in BAR 1, which has other registers: say where"),
        ({"table_offset": 0xBA8}, "MSI-X table of 0x460 bytes at 0xba8 of BAR 1: expected a multiple of 8 up to 0xba0"),
        ({"table_offset": 4}, "MSI-X table of 0x460 bytes at 0x4 of BAR 1: expected a multiple of 8 up to 0xba0"),
        ({"pba_offset": None}, "MSI-X pending bits in BAR 2, which has other registers: say where"),
        ({"pba_bar": None, "pba_offset": 0x900}, "MSI-X pending bits at 0x900 of BAR 1 lie over 'msix-table'"),
    ],
)
def test_places_that_do_not_fit(bench: PciBench, props: dict[str, Any], text: str) -> None:
    with pytest.raises(RealizeError) as error:
        bench.add("msix-shared", addr="04.0", **props)
    assert str(error.value) == f"/machine/unattached/msix-shared@00:04.0: {text}"
    assert bench.pci.functions == {}
    assert bench.add("msix-shared", addr="04.0").realized


@pytest.mark.parametrize("vectors", [0, 2049])
def test_number_of_vectors(bench: PciBench, vectors: int) -> None:
    with pytest.raises(RealizeError, match=rf"{vectors} MSI-X vectors: expected 1\.\.2048"):
        bench.add("msix-card", vectors=vectors)


def test_a_vector_it_does_not_have_is_the_devices_mistake(bench: PciBench) -> None:
    card, _ = ready(bench)
    with pytest.raises(ValueError, match=r"no MSI-X vector 3: expected 0\.\.2"):
        card.msix_notify(3)


def test_state_round_trip(bench: PciBench) -> None:
    card, _ = ready(bench)
    entry(bench, 0, RAM, 0x40, control=1)
    card.msix_notify(0)
    saved = card.save_state()
    bench.reset()
    assert bench.config_read(CARD, COMMAND, 2) == 0
    card.load_state(saved)
    assert bench.read(BAR + 0x800, 4) == 1
    bench.write(BAR + 12, 0, 4)
    assert bench.read(RAM, 4) == 0x40
    with pytest.raises(StateError) as error:
        card.load_state({**saved, "msix_table": b"\0" * 16})
    assert str(error.value) == (
        "/machine/unattached/msix-card@00:04.0: msix_table: saved state has 16 bytes: expected 48"
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(("notify", "mask", "unmask", "function", "enable", "reset")), st.integers(0, 66)),
        max_size=30,
    )
)
def test_every_notification_is_sent_once_when_it_may_be(steps: list[tuple[str, int]]) -> None:
    """Against a model in sets: what was raised while MSI-X is on is sent at once or when its masks are gone."""
    bench = PciBench(MsixCard)
    card = bench.add("msix-card", addr="04.0", vectors=67)
    got: list[int] = []
    bench.sysbus.memory.add(RAM, Region("sink", 4, None, lambda offset, value, size: got.append(value), (4, 4)))
    control = 0

    def start() -> None:
        bench.config_write(CARD, BAR1, BAR)
        bench.config_write(CARD, COMMAND, MEMORY_AND_MASTER, 2)
        for vector in range(67):
            entry(bench, vector, RAM, vector, control=1)

    start()
    masked, pending, expected = set(range(67)), set(), []  # type: ignore[var-annotated]

    def flush() -> None:
        if control & (ENABLE | FUNCTION_MASK) == ENABLE:
            expected.extend(sorted(pending - masked))
            pending.intersection_update(masked)

    for what, vector in steps:
        if what == "notify":
            card.notify(vector)
            if control & ENABLE:
                pending.add(vector)
                flush()
        elif what in ("mask", "unmask"):
            bench.write(BAR + 16 * vector + 12, what == "mask", 4)
            (masked.add if what == "mask" else masked.discard)(vector)
            flush()
        elif what in ("function", "enable"):
            control ^= FUNCTION_MASK if what == "function" else ENABLE
            bench.config_write(CARD, card.msix.offset + 2, control, 2)
            flush()
        else:
            bench.reset()
            start()
            control, masked, pending = 0, set(range(67)), set()
        assert got == expected
        shown = bench.read(BAR + 0x800, 8) | bench.read(BAR + 0x808, 8) << 64
        assert shown == sum(1 << n for n in pending)
