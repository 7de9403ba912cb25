"""Nothing depends on the order of a file: sections, entries, and devices that refer to each other, in any order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qom import IsaDevice, Object, TypeRegistry, UserCreatable, default_registry, link, prop, type_init
from qom.config import DeviceEntry, ObjectEntry, load
from qom.config.order import build_order
from qom.config.probe import Probe
from qom.errors import ConfigError
from qom.hw import Bus
from qom.vm import VirtualMachine

# The time an example takes is the machine's business, not the test's.
STEADY = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@type_init("order-bus")
class OrderBus(Bus):
    """A bus of the tests."""


@type_init("order-bridge")
class OrderBridge(IsaDevice):
    """Provides a bus, and refers to another device."""

    peer: Any = link("device", "Another device")
    base: int = prop(0, "Where it is", type="uint16")

    def instance_init(self) -> None:
        self.new_bus("order-bus", "x.0")


@type_init("order-leaf")
class OrderLeaf(IsaDevice):
    """Sits on an order-bus."""

    bus_type = "order-bus"
    peer: Any = link("device", "Another device")
    value: int = prop(0, "A number", type="uint32")


@type_init("order-object")
class OrderObject(Object, UserCreatable):
    """A user object that refers to another."""

    peer: Any = link("object", "Another object")


@pytest.fixture(scope="module")
def registry() -> TypeRegistry:
    found = default_registry()
    for cls in (OrderBus, OrderBridge, OrderLeaf, OrderObject):
        found.register(cls, "tests")
    return found


FILE: dict[str, Any] = {
    "machine": {"type": "pc", "a20-gate": False, "rtc-base": "2020-01-01T00:00:00"},
    "accel": "qtest",
    "memory": "8M",
    "nodefaults": True,
    "serial": ["null", "chardev:c1"],
    "device": [
        {"driver": "order-leaf", "id": "leaf1", "bus": "b1.x.0", "peer": "leaf0"},
        {"driver": "order-leaf", "id": "leaf0", "bus": "/machine/peripheral/b0/x.0", "value": 7},
        {"driver": "order-bridge", "id": "b1", "peer": "b0"},
        {"driver": "order-bridge", "id": "b0"},
        {"driver": "isa-serial", "iobase": 0x3E8, "irq": 4, "index": 2, "chardev": "c2"},
        {"driver": "isa-debugcon", "iobase": 0x402},
        {"driver": "order-leaf", "bus": "b0.x.0", "peer": "b1"},
    ],
    "object": [
        {"qom-type": "order-object", "id": "o1", "peer": "o0"},
        {"qom-type": "order-object", "id": "o0"},
        {"qom-type": "order-object", "id": "o2", "peer": "/objects/o1"},
    ],
    "chardev": [{"backend": "null", "id": "c1"}, {"backend": "ringbuf", "id": "c2", "size": 4096}],
    "global": [{"driver": "order-leaf", "property": "value", "value": 3}],
}


def tree(path: Path, registry: TypeRegistry) -> dict[str, dict[str, str]]:
    """What a machine is: by path the type and every property, links as paths."""
    with VirtualMachine(load(path), registry).build() as vm:
        return {obj.path: dict(facts(obj)) for obj in vm.root.walk()}


def facts(obj: Object) -> Iterator[tuple[str, str]]:
    yield "type", obj.type_name
    for found in obj.properties().values():
        if found.kind != "child" and not found.name.startswith("child["):  # a bus numbers its devices as they come
            value = obj.get(found.name)
            yield found.name, getattr(value, "path", str(value))


@pytest.fixture(scope="module")
def wanted(registry: TypeRegistry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    path = tmp_path_factory.mktemp("order") / "vm.json"
    path.write_text(json.dumps(FILE))
    return tree(path, registry)


def test_what_the_file_says_is_there(wanted: dict[str, dict[str, str]]) -> None:
    assert wanted["/machine/peripheral/leaf1"]["peer"] == "/machine/peripheral/leaf0"
    assert wanted["/machine/peripheral/b1"]["peer"] == "/machine/peripheral/b0"
    assert wanted["/machine/peripheral/leaf0"]["bus"] == "/machine/peripheral/b0/x.0"
    assert wanted["/machine/peripheral/leaf0"]["value"] == "7"
    assert wanted["/machine/peripheral/leaf1"]["value"] == "3"
    assert wanted["/objects/o2"]["peer"] == "/objects/o1" and wanted["/objects/o1"]["peer"] == "/objects/o0"


@STEADY
@given(st.data())
def test_any_permutation_builds_the_same(
    registry: TypeRegistry, tmp_path: Path, wanted: dict[str, dict[str, str]], data: st.DataObject
) -> None:
    mixed = {}
    for key in data.draw(st.permutations(list(FILE))):
        value = FILE[key]
        mixed[key] = data.draw(st.permutations(value)) if isinstance(value, list) and key != "serial" else value
    path = tmp_path / "vm.json"
    path.write_text(json.dumps(mixed))
    assert tree(path, registry) == wanted


def test_equal_names_count_as_declared_whatever_is_built_first(registry: TypeRegistry, tmp_path: Path) -> None:
    path = tmp_path / "vm.json"
    devices = [
        {"driver": "order-leaf", "value": 0, "bus": "b0.x.0", "peer": "late"},
        {"driver": "order-leaf", "value": 1, "bus": "b0.x.0"},
        {"driver": "order-leaf", "value": 2, "bus": "b0.x.0"},
        {"driver": "order-bridge", "id": "b0"},
        {"driver": "order-leaf", "id": "late", "bus": "b0.x.0"},
    ]
    path.write_text(
        json.dumps({"machine": "pc", "accel": "qtest", "memory": "8M", "nodefaults": True, "device": devices})
    )
    found = tree(path, registry)
    names = ["order-leaf", "order-leaf[1]", "order-leaf[2]"]
    assert [found[f"/machine/peripheral-anon/{name}"]["value"] for name in names] == ["0", "1", "2"]


def test_a_device_without_a_bus_finds_one_that_is_declared_later(registry: TypeRegistry) -> None:
    entries = [DeviceEntry("order-leaf"), DeviceEntry("isa-debugcon"), DeviceEntry("order-bridge", "b")]
    assert [e.driver for e in build_order(entries, Probe(registry))] == ["order-bridge", "order-leaf", "isa-debugcon"]
    named = [DeviceEntry("order-leaf", bus="x.0"), DeviceEntry("order-bridge", "b")]
    assert [e.driver for e in build_order(named, Probe(registry))] == ["order-bridge", "order-leaf"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("order-leaf", "a", "c.x.0", {}, "one"), ("order-bridge", "c", None, {"peer": "a"}, "two")],
         "one: device: these need each other in a circle: a -> c -> a"),
        ([("order-leaf", "z", "b.x.0", {}, "zero"), ("order-bridge", "a", None, {"peer": "b"}, "one"),
          ("order-bridge", "b", None, {"peer": "c"}, "two"), ("order-bridge", "c", None, {"peer": "a"}, "three")],
         "one: device: these need each other in a circle: a -> b -> c -> a"),
        ([("order-bridge", "a", None, {"peer": "a"}, "one")], "one: device: 'a' refers to itself"),
        ([("order-bridge", "a", "a.x.0", {}, "one")], "one: device: 'a' refers to itself"),
    ],
)  # fmt: skip
def test_a_circle_names_its_members(registry: TypeRegistry, entries: list[Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_order([DeviceEntry(*entry) for entry in entries], Probe(registry))
    assert str(error.value) == message


def test_a_circle_of_objects(registry: TypeRegistry) -> None:
    entries = [
        ObjectEntry("order-object", "a", {"peer": "b"}, "x"),
        ObjectEntry("order-object", "b", {"peer": "a"}, "y"),
    ]
    with pytest.raises(ConfigError, match=r"^x: object: these need each other in a circle: a -> b -> a$"):
        build_order(entries, Probe(registry))
