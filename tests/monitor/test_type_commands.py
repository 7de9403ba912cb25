"""qom-list-types, qom-list-properties, device-list-properties."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asked import ask, refusal

from qom import open_machine
from qom.vm import VirtualMachine


@pytest.fixture(scope="module")
def vm() -> Iterator[VirtualMachine]:
    with open_machine(machine="none", accel="qtest") as made:
        yield made


def test_types(vm: VirtualMachine) -> None:
    concrete = {each["name"]: each for each in ask(vm, "qom-list-types")}
    assert concrete["isa-serial"] == {"name": "isa-serial", "parent": "isa-device"}
    assert "device" not in concrete
    every = {each["name"]: each for each in ask(vm, "qom-list-types", abstract=True)}
    assert every["device"] == {"name": "device", "abstract": True, "parent": "object"}
    assert every["object"] == {"name": "object", "abstract": True}
    assert set(every) == {found.name for found in vm.registry}


def test_types_that_implement(vm: VirtualMachine) -> None:
    names = {each["name"] for each in ask(vm, "qom-list-types", implements="chardev")}
    assert {"chardev-null", "chardev-socket"} <= names
    assert "chardev" not in names
    assert "chardev" in {each["name"] for each in ask(vm, "qom-list-types", implements="chardev", abstract=True)}
    assert {"trace"} <= {each["name"] for each in ask(vm, "qom-list-types", implements="user-creatable")}
    assert ask(vm, "qom-list-types", implements="no-such-type") == []


def test_properties_of_a_type(vm: VirtualMachine) -> None:
    listed = {each["name"]: each for each in ask(vm, "qom-list-properties", typename="isa-serial")}
    assert listed["type"] == {"name": "type", "type": "string"}
    assert listed["realized"]["type"] == "bool"
    assert listed["pacing"]["default-value"] is False
    abstract = {each["name"] for each in ask(vm, "qom-list-properties", typename="device")}
    assert {"type", "realized", "bus"} == abstract
    machine = {each["name"]: each["type"] for each in ask(vm, "qom-list-properties", typename="none-machine")}
    assert machine["system-bus"] == "child<system-bus>"  # each object makes it for itself


def test_properties_of_a_device(vm: VirtualMachine) -> None:
    listed = {each["name"]: each for each in ask(vm, "device-list-properties", typename="isa-serial")}
    assert "realized" not in listed
    assert "bus" not in listed
    assert listed["chardev"]["type"] == "link<chardev>"
    assert all(each["description"] for each in listed.values())


@pytest.mark.parametrize(
    ("command", "typename", "error"),
    [
        (
            "qom-list-properties",
            "mc146818rtcc",
            "DeviceNotFound: Class 'mc146818rtcc' not found; did you mean 'mc146818rtc'?",
        ),
        (
            "device-list-properties",
            "mc146818rtcc",
            "DeviceNotFound: Device 'mc146818rtcc' not found; did you mean 'mc146818rtc'?",
        ),
        (
            "device-list-properties",
            "chardev-null",
            "GenericError: Parameter 'typename' expects a non-abstract device type: 'chardev-null' is no device",
        ),
        (
            "device-list-properties",
            "isa-device",
            "GenericError: Parameter 'typename' expects a non-abstract device type: 'isa-device' is abstract",
        ),
    ],
)
def test_refusals(vm: VirtualMachine, command: str, typename: str, error: str) -> None:
    assert refusal(vm, command, typename=typename) == error
