"""ACPI hotplug of PCI devices (`acpi-pci-hotplug`; QEMU: docs/specs/acpi_pci_hotplug): 24 ports at AE00h."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from qom.testing import QTest, QTestError

QEMU = "qemu-system-x86_64"
ARGS = "-M pc -m 16 -device pci-testdev,id=cold,addr=05.0"
BASE = 0xAE00
UP, DOWN, EJECT, REMOVABLE, SELECT, INDEX = (BASE + n for n in range(0, 0x18, 4))
PM, SCI = 0x600, 9
EVENT = 1 << 1
NOBODY = 0xFFFFFFFF


def started(program: str | None, args: str = ARGS) -> Iterator[QTest]:
    if program == QEMU and shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    with QTest(args, program=program) as q:
        yield q


@pytest.fixture(params=["qom", "qemu"])
def either(request: pytest.FixtureRequest) -> Iterator[QTest]:
    yield from started(QEMU if request.param == "qemu" else None)


@pytest.fixture
def own() -> Iterator[QTest]:
    yield from started(None)


def add(q: QTest, id: str, addr: str, **props: object) -> None:
    q.qmp("device_add", driver="pci-testdev", id=id, addr=addr, **props)


def there(q: QTest) -> list[str]:
    found = q.qmp("qom-list", path="/machine/peripheral")
    return [child["name"] for child in found if child["name"] != "type"]


def identity(q: QTest, addr: str) -> int:
    return q.config_read(addr, 0)


def test_at_the_start_nothing_has_happened(either: QTest) -> None:
    assert [either.inl(port) for port in (UP, DOWN, EJECT, SELECT, INDEX)] == [0, 0, 0, 0, 0]
    assert either.inl(REMOVABLE) == 0xFFFFFFFC  # all but the host bridge and the PIIX
    assert either.inl(BASE + 0x18) == NOBODY


@pytest.mark.parametrize("program", [None, QEMU], ids=["qom", "qemu"])
def test_what_cannot_come_out_has_no_bit(program: str | None) -> None:
    for q in started(program, f"{ARGS} -device VGA,addr=03.0"):
        assert q.inl(REMOVABLE) == 0xFFFFFFF4


def test_a_device_comes(either: QTest) -> None:
    add(either, "a", "07.0")
    add(either, "b", "1f.0")
    assert either.inl(DOWN) == 0
    assert either.inl(UP) == 1 << 7 | 1 << 31
    assert either.inl(UP) == 0  # reading clears


def test_a_device_goes_when_the_guest_ejects_it(either: QTest) -> None:
    add(either, "a", "07.0")
    assert either.qmp("device_del", id="a") == {}
    with pytest.raises(QTestError, match=r"^device_del: Device a is already in the process of unplug$"):
        either.qmp("device_del", id="a")
    assert either.inl(DOWN) == 1 << 7
    assert either.inl(DOWN) == 1 << 7  # reading does not clear
    assert identity(either, "07.0") == 0x00051B36
    either.outl(EJECT, 1 << 7)
    assert identity(either, "07.0") == NOBODY
    assert either.inl(DOWN) == 0
    assert either.qmp_event("DEVICE_DELETED") == {"device": "a", "path": "/machine/peripheral/a"}
    assert there(either) == ["cold"]
    add(either, "a", "07.0")
    assert identity(either, "07.0") == 0x00051B36


def test_a_device_of_the_start_may_go_too(either: QTest) -> None:
    either.qmp("device_del", id="cold")
    assert either.inl(DOWN) == 1 << 5
    either.outl(EJECT, 1 << 5)
    assert either.qmp_event("DEVICE_DELETED") == {"device": "cold", "path": "/machine/peripheral/cold"}


def test_a_write_ejects_one_slot(either: QTest) -> None:
    add(either, "a", "07.0")
    either.outl(EJECT, 1 << 7 | 1 << 5)
    assert [identity(either, slot) for slot in ("05.0", "07.0")] == [NOBODY, 0x00051B36]


def test_the_guest_may_eject_what_it_was_not_asked_for(own: QTest) -> None:
    """QEMU takes it out without an event."""
    own.outl(EJECT, 1 << 5)
    assert own.qmp_event("DEVICE_DELETED") == {"device": "cold", "path": "/machine/peripheral/cold"}
    assert there(own) == []


def test_what_is_the_boards_stays(either: QTest) -> None:
    for slot in (0, 1, 9):
        either.outl(EJECT, 1 << slot)
    assert [identity(either, slot) for slot in ("00.0", "01.0", "01.3")] == [0x12378086, 0x70008086, 0x71138086]


def test_the_functions_of_a_slot_go_together(either: QTest) -> None:
    add(either, "second", "09.1", multifunction=True)
    add(either, "first", "09.0", multifunction=True)
    assert either.inl(UP) == 1 << 9
    either.qmp("device_del", id="second")
    assert either.inl(DOWN) == 1 << 9
    either.qmp("device_del", id="first")
    either.outl(EJECT, 1 << 9)
    assert [identity(either, function) for function in ("09.0", "09.1")] == [NOBODY, NOBODY]
    assert either.inl(DOWN) == 0


def test_a_reset_takes_out_what_the_guest_was_asked_for(either: QTest) -> None:
    add(either, "a", "07.0")
    add(either, "b", "08.0")
    either.qmp("device_del", id="a")
    either.system_reset()
    assert [either.inl(UP), either.inl(DOWN)] == [1 << 8, 0]  # what came is told still
    assert [identity(either, slot) for slot in ("07.0", "08.0")] == [NOBODY, 0x00051B36]


def test_a_reset_tells_of_it_first(own: QTest) -> None:
    own.qmp("device_del", id="cold")
    own.system_reset()
    assert own.qmp_event("DEVICE_DELETED") == {"device": "cold", "path": "/machine/peripheral/cold"}
    assert own.qmp_event("RESET")["reason"] == "host-qmp-system-reset"


def test_there_is_no_other_bus(either: QTest) -> None:
    add(either, "a", "07.0")
    either.qmp("device_del", id="a")
    either.outl(SELECT, 1)
    assert either.inl(SELECT) == 1
    assert [either.inl(port) for port in (UP, DOWN, REMOVABLE)] == [0, 0, NOBODY]
    either.outl(EJECT, 1 << 7)
    either.outl(SELECT, 0)
    assert identity(either, "07.0") == 0x00051B36
    assert [either.inl(UP), either.inl(DOWN)] == [1 << 7, 1 << 7]


def test_the_event_raises_sci(own: QTest) -> None:
    own.irq_intercept_in("ioapic")
    own.config_write("01.3", 0x40, PM | 1)
    own.config_write("01.3", 0x80, 0x01, 1)
    own.outw(PM + 4, 1)  # SCI_EN
    own.outw(PM + 0x0E, EVENT)  # GPEN
    for change in (lambda: add(own, "a", "07.0"), lambda: own.qmp("device_del", id="a")):
        assert not own.get_irq(SCI)
        change()
        assert own.inw(PM + 0x0C) == EVENT
        assert own.get_irq(SCI)
        own.outw(PM + 0x0C, EVENT)


def test_the_event_of_qemu_is_the_same(either: QTest) -> None:
    add(either, "a", "07.0")
    if either.in_process:
        either.config_write("01.3", 0x40, PM | 1)
        either.config_write("01.3", 0x80, 0x01, 1)
    assert either.inb(PM + 0x0C if either.in_process else 0xAFE0) == EVENT


def test_registers_are_32_bits_wide(own: QTest) -> None:
    add(own, "a", "07.0")
    assert own.inb(UP) == 0xFF
    own.outb(EJECT, 1 << 7)
    assert identity(own, "07.0") == 0x00051B36
    assert own.inl(UP) == 1 << 7


def test_without_acpi_a_device_goes_at_once() -> None:
    with QTest(ARGS.replace("-M pc", "-M pc,acpi=off")) as q:
        assert q.inl(UP) == NOBODY
        q.qmp("device_del", id="cold")
        assert q.qmp_event("DEVICE_DELETED") == {"device": "cold", "path": "/machine/peripheral/cold"}


def test_what_a_program_takes_out_is_not_asked_for_any_more(own: QTest) -> None:
    own.qmp("device_del", id="cold")
    own.vm.remove("cold")
    assert own.inl(DOWN) == 0
    assert there(own) == []


def test_what_a_program_takes_out_leaves_the_rest_of_its_slot(own: QTest) -> None:
    """The guest is asked on for the function that is left, and told on of the slot that is not empty."""
    add(own, "second", "09.1", multifunction=True)
    add(own, "first", "09.0", multifunction=True)
    for name in ("first", "second"):
        own.qmp("device_del", id=name)
    own.vm.remove("second")
    assert own.inl(DOWN) == 1 << 9
    add(own, "alone", "0a.1", multifunction=True)
    add(own, "other", "0a.0", multifunction=True)
    own.vm.remove("alone")
    own.vm.remove("first")
    assert (own.inl(UP), own.inl(DOWN)) == (1 << 10, 0)


def test_its_code_can_be_exchanged(own: QTest) -> None:
    add(own, "a", "07.0")
    own.qmp("device_del", id="a")
    for module in ("plugins.pci.acpi_pci_hotplug", "plugins.cpu.acpi_cpu_hotplug"):
        own.vm.reload(module)
    assert (own.inl(UP), own.inl(DOWN)) == (1 << 7, 1 << 7)
    own.outl(EJECT, 1 << 7)
    assert there(own) == ["cold"]
    own.qmp("device_del", id="cold")
    assert own.inl(DOWN) == 1 << 5
