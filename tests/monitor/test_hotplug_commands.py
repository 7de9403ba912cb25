"""device_add, device_del, object-add, object-del; also before the machine is built."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import ask, refusal
from qmp_machine import Client, QmpMachine, qmp_machine

from qom import Bus, Device, PciDevice, Region, open_machine, prop, type_init
from qom.plugins import default_registry
from qom.vm import VirtualMachine


@type_init("test-shelf-bus")
class ShelfBus(Bus):
    """What the shelf below has."""


@type_init("test-shelf")
class Shelf(PciDevice):
    """A PCI device with a bus, and with another device as a part of it."""

    vendor_id, device_id, hotpluggable = 0x1234, 0x5678, True
    size: int = prop(4096, "Bytes of its BAR", type="size", min=4096)

    def instance_init(self) -> None:
        self.new_bus("test-shelf-bus", "shelf.0")

    def realize(self) -> None:
        self.register_bar(0, Region("shelf", self.size, lambda offset, size: 0, lambda offset, value, size: None))


@type_init("test-box")
class Box(Device):
    """What stands on the shelf."""

    bus_type, hotpluggable = "test-shelf-bus", True
    height: int = prop(1, "How high it is", type="uint8")
    fragile: bool = prop(False, "Whether it breaks")


@pytest.fixture
def vm() -> Iterator[VirtualMachine]:
    with open_machine(machine="pc", accel="qtest", types=[ShelfBus, Shelf, Box]) as made:
        yield made


def events_of(vm: VirtualMachine) -> list[tuple[str, dict[str, Any]]]:
    told: list[tuple[str, dict[str, Any]]] = []
    vm.events.append(lambda name, data: told.append((name, {k: v for k, v in data.items() if k != "time"})))
    return told


def eject(vm: VirtualMachine, slot: int) -> None:
    """The guest lets go of a PCI slot (plugins/pci/acpi_pci_hotplug.py)."""
    vm.ports.write(0xAE08, 1 << slot, 4)


def test_add_and_delete(vm: VirtualMachine) -> None:
    told = events_of(vm)
    assert ask(vm, "device_add", driver="test-shelf", id="s", addr="09.0", size="8k") == {}
    assert ask(vm, "qom-get", path="s", property="size") == 8192
    assert ask(vm, "qom-get", path="s", property="realized") is True
    ask(vm, "device_add", driver="test-box", id="b", bus="s.shelf.0", height=7, fragile="on")
    ask(vm, "device_add", driver="test-box", bus="/machine/peripheral/s/shelf.0", fragile=True)
    assert [ask(vm, "qom-get", path="b", property=name) for name in ("height", "fragile")] == [7, True]
    anonymous = "/machine/peripheral-anon/test-box"
    assert ask(vm, "qom-get", path=anonymous, property="height") == 1
    assert not told
    assert ask(vm, "device_del", id="s") == {}
    assert not told  # the guest is asked first
    assert refusal(vm, "device_del", id="s") == "GenericError: Device s is already in the process of unplug"
    eject(vm, 9)
    assert told == [
        ("DEVICE_DELETED", {"path": anonymous}),
        ("DEVICE_DELETED", {"path": "/machine/peripheral/b", "device": "b"}),
        ("DEVICE_DELETED", {"path": "/machine/peripheral/s", "device": "s"}),
    ]
    assert ask(vm, "qom-list", path="/machine/peripheral") == [{"name": "type", "type": "string"}]
    ask(vm, "device_add", driver="test-shelf", id="s", addr="09.0")  # id and place are free again
    ask(vm, "device_del", id="/machine/peripheral/s")
    eject(vm, 9)
    assert told[-1] == ("DEVICE_DELETED", {"path": "/machine/peripheral/s", "device": "s"})


def test_devices_of_the_box_can_come_and_go(vm: VirtualMachine) -> None:
    for driver in ("pci-testdev", "pvpanic-pci"):
        ask(vm, "device_add", driver=driver, id="d", addr="09.0")
        ask(vm, "device_del", id="d")
        eject(vm, 9)
        assert ask(vm, "qom-list", path="/machine/peripheral") == [{"name": "type", "type": "string"}]


def test_a_device_that_the_guest_cannot_be_asked_for_goes_at_once(vm: VirtualMachine) -> None:
    ask(vm, "device_add", driver="test-shelf", id="s")
    ask(vm, "device_add", driver="test-box", id="b", bus="s.shelf.0")
    told = events_of(vm)
    ask(vm, "device_del", id="b")  # its bus is not PCI
    assert told == [("DEVICE_DELETED", {"path": "/machine/peripheral/b", "device": "b"})]


def test_without_acpi_nobody_is_asked() -> None:
    with open_machine(machine="pc,acpi=off", accel="qtest", types=[ShelfBus, Shelf]) as vm:
        told = events_of(vm)
        ask(vm, "device_add", driver="test-shelf", id="s")
        ask(vm, "device_del", id="s")
        assert told == [("DEVICE_DELETED", {"path": "/machine/peripheral/s", "device": "s"})]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "Parameter 'driver' is missing: expected string"),
        ({"driver": 1}, "Invalid parameter type for 'driver', expected: string; got 1"),
        (
            {"driver": "test-shelff"},
            "'test-shelff' is not a valid device model name; did you mean 'test-shelf'",
        ),
        ({"driver": "chardev-null"}, "'chardev-null' is not a valid device model name"),
        (
            {"driver": "isa-device"},
            "Parameter 'driver' expects a non-abstract device type: 'isa-device' is abstract",
        ),
        (
            {"driver": "apic"},
            "Parameter 'driver' expects a pluggable device type: 'apic' is a part of others",
        ),
        ({"driver": "isa-serial"}, "Bus 'isa.0' does not support hotplugging"),
        ({"driver": "test-shelf", "id": "a b"}, "Parameter 'id' expects an identifier: a letter, then letters, digits,"
                                                " '-', '.', '_'"),
        ({"driver": "test-shelf", "id": "there"}, "Duplicate device ID 'there'"),
        (
            {"driver": "test-shelf", "bus": "pci.7"},
            "bus 'pci.7' not found; did you mean 'pci.0'?; there are: system-bus, pci.0, isa.0, ide.0,",
        ),
        (
            {"driver": "test-shelf", "bus": "isa.0"},
            "Device 'test-shelf' can't go on isa-bus bus: expected a bus of type 'PCI'",
        ),
        ({"driver": "test-shelf", "siz": 1}, "Property 'test-shelf.siz' not found; did you mean 'size'?"),
        (
            {"driver": "test-shelf", "size": 1},
            "/machine/peripheral-anon/test-shelf: property 'size' cannot be 1: expected a size in bytes (suffixes k, M,"
            " G, T), in 4096..18446744073709551615",
        ),
        (
            {"driver": "test-box", "fragile": 1},
            "/machine/peripheral-anon/test-box: property 'fragile' cannot be 1: expected on or off",
        ),
        (
            {"driver": "test-box", "height": "seven"},
            "/machine/peripheral-anon/test-box: property 'height' cannot be 'seven': expected an integer in 0..255",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_added(vm: VirtualMachine, arguments: dict[str, Any], error: str) -> None:
    ask(vm, "device_add", driver="test-shelf", id="there")
    before = [found.path for found in vm.root.walk()]
    assert refusal(vm, "device_add", **arguments).startswith(f"GenericError: {error}")
    after = [found.path for found in vm.root.walk()]
    assert set(after) - set(before) <= {"/machine/peripheral-anon"}  # nothing of it is left


@pytest.mark.parametrize(
    ("id", "error"),
    [
        ("ther", "DeviceNotFound: Device 'ther' not found; did you mean 'there'?"),
        ("/machine/nothing", "DeviceNotFound: Device '/machine/nothing' not found"),
        ("/machine", "GenericError: /machine is not a hotpluggable device"),
        ("/objects", "GenericError: /objects is not a hotpluggable device"),
        ("/machine/pit", "GenericError: Bus 'isa.0' does not support hotplugging"),
        ("/machine/ide", "GenericError: Device 'ide' does not support hotplugging"),
    ],
)
def test_what_cannot_be_deleted(vm: VirtualMachine, id: str, error: str) -> None:
    ask(vm, "device_add", driver="test-shelf", id="there")
    told = events_of(vm)
    assert refusal(vm, "device_del", id=id) == error
    assert not told


def test_objects(vm: VirtualMachine, tmp_path: Path) -> None:
    file = str(tmp_path / "trace")
    assert ask(vm, "object-add", qom_type="trace", id="t", file=file) == {}
    assert ask(vm, "qom-get", path="/objects/t", property="file") == file
    assert ask(vm, "object-del", id="t") == {}
    assert vm.root.resolve("/objects").children() == {}
    ask(vm, "object-add", qom_type="trace", id="t", file=file)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"qom_type": "trac", "id": "t"}, "Parameter 'qom-type' does not accept value 'trac': expected one of"
                                          " fault-injector, qtest, trace; did you mean 'trace'?"),
        ({"qom_type": "memory-backend-ram", "id": "t", "size": 4096}, "Parameter 'qom-type' does not accept value"
         " 'memory-backend-ram': memory back ends are not modelled: expected the guest's memory by -m SIZE"),
        ({"qom_type": "trace"}, "Parameter 'id' is missing: expected string"),
        ({"qom_type": "trace", "id": "1t"}, "Parameter 'id' expects an identifier: a letter, then letters, digits, '-',"
                                            " '.', '_'"),
        ({"qom_type": "trace", "id": "t"}, "/objects/t: expected either file= or chardev=, for where the trace goes"),
        ({"qom_type": "trace", "id": "t", "fil": "x"}, "Parameter 'fil' is unexpected; did you mean 'file'?"),
    ],
)  # fmt: skip
def test_objects_that_are_refused(vm: VirtualMachine, arguments: dict[str, Any], error: str) -> None:
    assert refusal(vm, "object-add", **arguments) == f"GenericError: {error}"
    assert vm.root.resolve("/objects").children() == {}


def test_objects_in_the_way(vm: VirtualMachine, tmp_path: Path) -> None:
    ask(vm, "object-add", qom_type="trace", id="there", file=str(tmp_path / "trace"))
    assert refusal(vm, "object-add", qom_type="trace", id="there", file="/x") == (
        "GenericError: attempt to add duplicate property 'there' to object (type 'container')"
    )
    assert refusal(vm, "object-del", id="ther") == "GenericError: object 'ther' not found; did you mean 'there'?"


# -- before the machine is built


class Waiting:
    """A machine that waits for x-exit-preconfig, and a client of it."""

    def __init__(self, machine: QmpMachine) -> None:
        self.machine, self.vm = machine, machine.vm
        self._builder = threading.Thread(target=self._build)
        self._builder.start()
        self.client: Client = machine.client_when_there()
        self.failure: BaseException | None = None

    def _build(self) -> None:
        try:
            self.vm.build()
        except BaseException as error:
            self.failure = error

    def exit(self) -> None:
        self.client.do("x-exit-preconfig")
        self._builder.join(30)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    registry = default_registry(load_external=False)
    for cls in (ShelfBus, Shelf, Box):
        registry.register(cls, "tests")
    words = ["-machine", "pc", "-accel", "qtest", "-preconfig", "-device", "test-shelf,id=first"]
    with qmp_machine(tmp_path, *words, registry=registry) as machine:
        made = Waiting(machine)
        yield made
        if made._builder.is_alive():
            made.client.do("quit")
            made._builder.join(30)


def test_devices_before_the_board(waiting: Waiting) -> None:
    client = waiting.client
    assert client.error("device_add", driver="test-shelff").startswith(
        "GenericError: 'test-shelff' is not a valid device model name; did you mean 'test-shelf'"
    )
    assert client.error("device_add", driver="test-shelf", id="first") == "GenericError: Duplicate device ID 'first'"
    assert client.error("device_add", driver="test-shelf", siz=1) == (
        "GenericError: 'test-shelf' has no property 'siz'; did you mean 'size'?"
    )
    assert client.error("device_add", driver="test-shelf", size=1).startswith(
        "GenericError: device 'test-shelf': property 'size' cannot be 1: expected a size in bytes"
    )
    assert client.error("device_add", driver="test-shelf", bus="pci.7").startswith(
        "GenericError: bus 'pci.7' not found; did you mean 'pci.0'"
    )
    client.do("device_add", driver="test-box", id="box", bus="first.shelf.0", height=3)
    client.do("device_add", driver="test-shelf", id="second")
    client.do("device_add", driver="isa-serial", id="third")  # not by hotplug: the ISA bus takes it
    assert client.error("device_del", id="secnd") == (
        "DeviceNotFound: Device 'secnd' not found; did you mean 'second'?"
    )
    client.do("device_del", id="second")
    assert client.event("DEVICE_DELETED")["data"] == {"device": "second", "path": "/machine/peripheral/second"}
    waiting.exit()
    assert waiting.failure is None
    assert list(waiting.vm.root.resolve("/machine/peripheral").children()) == ["first", "box", "third"]
    assert waiting.vm.root.resolve("/machine/peripheral/box").height == 3


def test_objects_before_the_board(waiting: Waiting, tmp_path: Path) -> None:
    client = waiting.client
    client.do("object-add", qom_type="trace", id="t", file=str(tmp_path / "t"))
    assert client.do("qom-get", path="/objects/t", property="file") == str(tmp_path / "t")
    client.do("object-add", qom_type="trace", id="u", file=str(tmp_path / "u"))
    client.do("object-del", id="u")
    waiting.exit()
    assert waiting.failure is None
    assert list(waiting.vm.root.resolve("/objects").children()) == ["t"]


def test_looking_around_before_the_board(waiting: Waiting) -> None:
    client = waiting.client
    assert {"name": "isa-serial", "parent": "isa-device"} in client.do("qom-list-types", implements="isa-device")
    assert client.do("device-list-properties", typename="test-box")[0]["name"] == "height"
    assert client.do("query-memdev") == []
    assert client.do("query-accelerators")["enabled"] == "none"
    assert client.error("query-cpus-fast") == (
        "GenericError: The command 'query-cpus-fast' is permitted only after machine initialization has completed"
    )
    client.do("qom-set", path="/machine", property="ram-size", value=64 << 20)
    assert client.do("query-memory-size-summary")["base-memory"] == 64 << 20
    waiting.exit()
    assert waiting.vm.machine.ram_size == 64 << 20


def test_a_device_that_the_board_has_no_room_for(waiting: Waiting) -> None:
    client = waiting.client
    client.do("device_add", driver="test-shelf", id="a", addr="01.0")  # where the PIIX3 is
    client.do("x-exit-preconfig")
    waiting._builder.join(30)
    assert str(waiting.failure).startswith("/machine/peripheral/a: ")
