"""Every device in the box has tests by the qtest protocol: the table says where, and a device that is not in it fails here."""

from __future__ import annotations

from pathlib import Path

import pytest

from qom import default_registry

HERE = Path(__file__).parent

TESTED = {
    "PIIX3": "pci_bridges",
    "PIIX4_PM": "piix4_pm",
    "VGA": "vga",
    "a20-gate": "system_ports",
    "acpi-cpu-hotplug": "cpu_hotplug",
    "acpi-pci-hotplug": "pci_hotplug",
    "apic": "apic",
    "apic-bus": "apic",
    "floppy": "fdc",
    "fw_cfg_io": "fw_cfg",
    "gsi-lines": "ioapic",
    "hpet": "hpet",
    "i440FX": "pci_bridges",
    "i440FX-pcihost": "pci_bridges",
    "i8042": "i8042",
    "i8257": "i8237",
    "ib700": "ib700",
    "ide-hd": "ide",
    "ioapic": "ioapic",
    "isa-debug-exit": "debug_ports",
    "isa-debugcon": "debug_ports",
    "isa-fdc": "fdc",
    "isa-i8259": "i8259",
    "isa-ide": "ide",
    "isa-parallel": "parallel",
    "isa-pcspk": "speaker",
    "isa-pit": "i8254",
    "isa-serial": "ns16550",
    "isabus-bridge": "pci_bridges",
    "mc146818rtc": "mc146818",
    "pc-testdev": "testdevs",
    "pci-testdev": "testdevs",
    "piix3-ide": "ide",
    "port92": "system_ports",
    "ps2-kbd": "i8042",
    "ps2-mouse": "i8042",
    "pvpanic": "pvpanic",
    "pvpanic-pci": "pvpanic",
    "vmgenid": "vmgenid",
}
"""Type to `test_qtest_<name>.py`."""

NO_REGISTERS = {
    "machine": "a board is its parts",
    "cpu": "a processor has no registers on a bus; its instructions are tested as guests",
    "kvm-apic": "lies in the host's kernel, which the protocol does not reach without guest code",
    "kvm-i8259": "lies in the host's kernel",
    "kvm-ioapic": "lies in the host's kernel",
}
"""Types, with those derived from them, that have nothing the protocol could reach, and why."""

ALL = default_registry(load_external=False)
DEVICES = sorted(
    found.name
    for found in ALL.types("device", abstract=False)
    if not any(ALL.is_a(found.name, other) for other in NO_REGISTERS)
)


def test_the_table_has_every_device_and_nothing_else() -> None:
    missing = sorted(set(DEVICES) - TESTED.keys())
    assert not missing, f"no tests by the qtest protocol for {', '.join(missing)}: write tests/qtest/test_qtest_NAME.py"
    assert sorted(TESTED.keys() - set(DEVICES)) == []


@pytest.mark.parametrize("device", sorted(TESTED))
def test_its_file_has_tests_and_names_it(device: str) -> None:
    text = (HERE / f"test_qtest_{TESTED[device]}.py").read_text()
    assert "def test_" in text and "QTest" in text
    assert device in text
