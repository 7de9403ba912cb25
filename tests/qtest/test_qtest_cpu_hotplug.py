"""ACPI hotplug of processors (`acpi-cpu-hotplug`; QEMU: docs/specs/acpi_cpu_hotplug): 32 ports at AF00h, then 12."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from qom.testing import QTest, QTestError

QEMU = "qemu-system-x86_64"
ARGS = "-M pc -m 16 -smp 2,maxcpus=5,sockets=5,cores=1,threads=1"
CPU = "qemu64-x86_64-cpu"
BASE = 0xAF00
SELECTOR, FLAGS, COMMAND, DATA = BASE, BASE + 4, BASE + 5, BASE + 8
ENABLED, INSERTING, REMOVING, EJECT = 0x01, 0x02, 0x04, 0x08
NEXT, OST_EVENT, OST_STATUS, APIC_ID = range(4)
PM, SCI = 0x600, 9
EVENT = 1 << 2


@pytest.fixture(params=["qom", "qemu"])
def either(request: pytest.FixtureRequest) -> Iterator[QTest]:
    if request.param == "qemu" and shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    with QTest(ARGS, program=QEMU if request.param == "qemu" else None) as q:
        yield q


@pytest.fixture
def own() -> Iterator[QTest]:
    with QTest(ARGS) as q:
        q.irq_intercept_in("ioapic")
        yield q


def with_block(q: QTest) -> QTest:
    q.outl(SELECTOR, 0)
    return q


def add(q: QTest, socket: int) -> None:
    q.qmp("device_add", driver=CPU, id=f"c{socket}", socket_id=socket, core_id=0, thread_id=0)


def flags(q: QTest, place: int) -> int:
    q.outl(SELECTOR, place)
    return q.inb(FLAGS)


def next_event(q: QTest) -> int:
    q.outb(COMMAND, NEXT)
    return q.inl(DATA)


def report(q: QTest, event: int, result: int) -> None:
    """What _OST says."""
    q.outb(COMMAND, OST_EVENT)
    q.outl(DATA, event)
    q.outb(COMMAND, OST_STATUS)
    q.outl(DATA, result)


def status(q: QTest) -> int:
    """GPSTS: ours is in the PIIX4's ports, QEMU's has its own."""
    return q.inb(PM + 0x0C if q.in_process else 0xAFE0)


def with_pm(q: QTest) -> QTest:
    q.config_write("01.3", 0x40, PM | 1)
    q.config_write("01.3", 0x80, 0x01, 1)
    return q


def places(q: QTest) -> list[int]:
    return sorted(cpu["props"]["socket-id"] for cpu in q.qmp("query-cpus-fast"))


# --- the bitmap


def test_the_bitmap_comes_first(either: QTest) -> None:
    assert [either.inb(BASE + n) for n in range(32)] == [0b11, *[0] * 31]
    assert either.inl(BASE) == 0b11 and either.inw(BASE) == 0b11
    add(either, 3)
    assert either.inb(BASE) == 0b1011


def test_a_zero_in_its_first_byte_brings_the_block_for_good(either: QTest) -> None:
    either.outb(BASE + 1, 0)
    either.outb(BASE, 1)
    assert either.inl(BASE) == 0b11
    either.outb(BASE, 0)
    assert (either.inl(BASE), either.inb(FLAGS), either.inl(DATA)) == (0, ENABLED, 0)
    assert either.inb(BASE + 12) == 0xFF  # the bitmap was longer
    either.system_reset()
    assert either.inb(FLAGS) == ENABLED


# --- the block


def test_which_processors_there_are(either: QTest) -> None:
    with_block(either)
    assert [flags(either, place) for place in range(5)] == [ENABLED, ENABLED, 0, 0, 0]


def test_a_place_there_is_not_reads_zeros_and_takes_nothing(either: QTest) -> None:
    with_block(either)
    either.outb(COMMAND, APIC_ID)
    either.outl(SELECTOR, 5)
    either.outb(COMMAND, NEXT)
    assert [either.inl(BASE + n) for n in (0, 4, 8)] == [0, 0, 0]
    either.outl(SELECTOR, 4)
    assert either.inl(DATA) == 4  # an APIC id still


def test_apic_ids(either: QTest) -> None:
    with_block(either)
    either.outb(COMMAND, APIC_ID)
    found = []
    for place in range(5):
        either.outl(SELECTOR, place)
        found.append((either.inl(DATA), either.inl(BASE)))
    assert found == [(place, 0) for place in range(5)]


def test_a_command_there_is_not_changes_nothing(either: QTest) -> None:
    with_block(either)
    either.outl(SELECTOR, 3)
    either.outb(COMMAND, APIC_ID)
    either.outb(COMMAND, 7)
    assert either.inl(DATA) == 3


def test_a_processor_comes(either: QTest) -> None:
    with_block(with_pm(either))
    add(either, 2)
    assert status(either) & EVENT
    add(either, 4)
    assert [flags(either, place) for place in range(5)] == [1, 1, ENABLED | INSERTING, 0, ENABLED | INSERTING]
    either.outl(SELECTOR, 0)
    assert next_event(either) == 2
    assert either.inb(FLAGS) == ENABLED | INSERTING
    either.outb(FLAGS, INSERTING)
    assert either.inb(FLAGS) == ENABLED
    assert next_event(either) == 4
    either.outb(FLAGS, INSERTING)
    assert next_event(either) == 4  # none is left: the choice stays
    assert either.inb(FLAGS) == ENABLED


def test_the_search_goes_on_from_the_first_place(either: QTest) -> None:
    with_block(either)
    add(either, 2)
    either.outl(SELECTOR, 3)
    assert next_event(either) == 2


def test_its_code_can_be_exchanged(own: QTest) -> None:
    with_block(own)
    add(own, 2)
    own.vm.reload("plugins.cpu.acpi_cpu_hotplug")
    assert own.inb(BASE + 12) == 0xFF  # the block, not the bitmap
    own.outl(SELECTOR, 0)
    assert next_event(own) == 2
    assert own.inb(FLAGS) == ENABLED | INSERTING
    own.outb(FLAGS, EJECT)
    assert places(own) == [0, 1]


def test_a_processor_goes_when_the_guest_ejects_it(either: QTest) -> None:
    with_block(with_pm(either))
    add(either, 2)
    either.outl(SELECTOR, 2)
    either.outb(FLAGS, INSERTING)
    either.qmp("device_del", id="c2")
    assert either.qmp("device_del", id="c2") == {}  # it may be asked again
    assert status(either) & EVENT
    assert flags(either, 2) == ENABLED | REMOVING
    assert places(either) == [0, 1, 2]
    either.outl(SELECTOR, 0)
    assert next_event(either) == 2
    either.outb(FLAGS, REMOVING)
    assert either.inb(FLAGS) == ENABLED
    either.outb(FLAGS, EJECT)
    assert either.inb(FLAGS) == 0
    assert either.qmp_event("DEVICE_DELETED")["path"] == "/machine/peripheral/c2/lapic"
    assert places(either) == [0, 1]
    assert flags(either, 2) == 0


def test_a_processor_that_is_gone_may_come_again(own: QTest) -> None:
    """QEMU 7.2 keeps such a processor's object, and its id with it."""
    with_block(own)
    for _ in range(2):
        add(own, 2)
        thread: Any = own.vm.root.resolve("/machine/peripheral/c2").thread
        assert thread.is_alive()
        own.outl(SELECTOR, 2)
        own.outb(FLAGS, EJECT)
        assert own.qmp_event("DEVICE_DELETED") == {"path": "/machine/peripheral/c2/lapic"}
        assert own.qmp_event("DEVICE_DELETED") == {"device": "c2", "path": "/machine/peripheral/c2"}
        assert not thread.is_alive()
        assert own.qmp("qom-list", path="/machine/peripheral") == [{"name": "type", "type": "string"}]
        assert own.inb(FLAGS) == 0  # also where QEMU leaves flags of one that is not there
    assert [cpu.index for cpu in own.vm.cpus] == [0, 1]


def test_one_of_the_start_may_go_too(own: QTest) -> None:
    with_block(own)
    path = own.qmp("query-cpus-fast")[1]["qom-path"]
    own.qmp("device_del", id=path)
    assert flags(own, 1) == ENABLED | REMOVING
    own.outb(FLAGS, EJECT)
    assert own.qmp_event("DEVICE_DELETED") == {"path": f"{path}/lapic"}
    assert own.qmp_event("DEVICE_DELETED") == {"path": path}
    assert [flags(own, place) for place in range(5)] == [ENABLED, 0, 0, 0, 0]


def test_the_processor_that_starts_the_machine_stays(either: QTest) -> None:
    with_block(either)
    path = either.qmp("query-cpus-fast")[0]["qom-path"]
    with pytest.raises(QTestError, match=r"^device_del: Boot CPU is unpluggable$"):
        either.qmp("device_del", id=path)
    either.outl(SELECTOR, 0)
    either.outb(FLAGS, EJECT)
    assert either.inb(FLAGS) == ENABLED
    assert places(either) == [0, 1]


def test_the_guest_reports_what_came_of_it(either: QTest) -> None:
    with_block(either)
    add(either, 2)
    either.outl(SELECTOR, 2)
    for event, result in ((0x103, 0x84), (0x01, 0x00)):
        report(either, event, result)
        info = {"device": "c2", "slot": "2", "slot-type": "CPU", "source": event, "status": result}
        assert either.qmp_event("ACPI_DEVICE_OST") == {"info": info}
    none = [{"slot": str(n), "slot-type": "CPU", "source": 0, "status": 0} for n in range(5)]
    assert either.qmp("query-acpi-ospm-status") == [*none[:2], info, *none[3:]]
    assert either.inl(DATA) == 0


def test_a_refusal_is_told(own: QTest) -> None:
    """QEMU tells of memory's only."""
    with_block(own)
    add(own, 2)
    own.qmp("device_del", id="c2")
    own.outl(SELECTOR, 2)
    for event, result in ((0x01, 0x82), (0x03, 0x84), (0x103, 0x00)):  # of one that came; it is under way; it is done
        report(own, event, result)
    with pytest.raises(QTestError, match=r"^no event DEVICE_UNPLUG_GUEST_ERROR$"):
        own.qmp_event("DEVICE_UNPLUG_GUEST_ERROR")
    for event in (0x03, 0x103):
        report(own, event, 0x82)  # busy
        assert own.qmp_event("DEVICE_UNPLUG_GUEST_ERROR") == {"device": "c2", "path": "/machine/peripheral/c2"}
    assert places(own) == [0, 1, 2]


def test_a_reset_keeps_what_the_guest_was_not_told(either: QTest) -> None:
    with_block(either)
    add(either, 2)
    either.qmp("device_del", id="c2")
    either.system_reset()
    assert flags(either, 2) == ENABLED | INSERTING | REMOVING
    assert places(either) == [0, 1, 2]


def test_the_event_raises_sci(own: QTest) -> None:
    with_block(with_pm(own))
    own.outw(PM + 4, 1)  # SCI_EN
    own.outw(PM + 0x0E, EVENT)  # GPEN
    assert not own.get_irq(SCI)
    add(own, 2)
    assert own.get_irq(SCI)
    own.outw(PM + 0x0C, EVENT)
    assert not own.get_irq(SCI)


def test_the_firmware_is_told_for_its_next_start(own: QTest) -> None:
    def told() -> tuple[int, int, int]:
        own.outb(0x70, 0x5F)
        cmos = own.inb(0x71) + 1
        own.outw(0x510, 5)
        present = own.inb(0x511)
        own.outw(0x510, 15)
        return cmos, present, own.inb(0x511)

    assert told() == (2, 2, 5)
    add(own, 2)
    assert told() == (3, 3, 5)
    with_block(own)
    own.outl(SELECTOR, 2)
    own.outb(FLAGS, EJECT)
    assert told() == (2, 2, 5)


def test_the_tables_are_for_the_processors_there_are_at_the_start(own: QTest) -> None:
    def enabled() -> list[int]:
        tables = own.vm.machine.child("fw_cfg").file("etc/acpi/tables")
        madt = tables[tables.index(b"APIC") + 44 :]
        return [n for n in range(5) if madt[n * 8 + 4]]

    assert enabled() == [0, 1]
    add(own, 3)
    assert enabled() == [0, 1]  # what the firmware has read does not change under it
    own.system_reset()
    assert enabled() == [0, 1, 3]


def test_no_removal_without_acpi() -> None:
    with QTest(ARGS.replace("-M pc", "-M pc,acpi=off")) as q:
        add(q, 2)
        with pytest.raises(QTestError, match=r"^device_del: CPU hot unplug not supported without ACPI$"):
            q.qmp("device_del", id="c2")
        assert q.inl(BASE) == 0xFFFFFFFF
