"""Subscriptions to property changes, and the running machine as a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import ask, refusal
from qmp_machine import Client, QmpMachine, qmp_machine

from qom import PciDevice, prop, type_init
from qom.config import load
from qom.plugins import default_registry


@type_init("test-gauge")
class Gauge(PciDevice):
    """A number that is set, and one that is computed from what no property says."""

    vendor_id, device_id, hotpluggable = 0x1234, 0x5678, True
    level: int = prop(0, "A number", type="uint8", mutable=True)
    reading: int = prop(0, "What it measures", type="uint32", get=lambda gauge: gauge.measured)
    enabled: bool = prop(True, "Whether it measures", mutable=True)

    def instance_init(self) -> None:
        self.measured = 0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpMachine]:
    registry = default_registry(load_external=False)
    registry.register(Gauge, "tests")
    words = ["-machine", "pc", "-accel", "qtest", "-device", "test-gauge,id=g", "-device", "test-gauge,id=h"]
    with qmp_machine(tmp_path_factory.mktemp("watch"), *words, monitors=2, registry=registry) as made:
        yield made


@pytest.fixture
def clients(machine: QmpMachine) -> Iterator[tuple[Client, Client]]:
    with QmpMachine(machine.vm, machine.paths) as made:
        yield made.client(0), made.client(1)


G, H = "/machine/peripheral/g", "/machine/peripheral/h"


def change(number: int, path: str, name: str, value: Any) -> dict[str, Any]:
    return {"subscription": number, "path": path, "property": name, "value": value}


def test_what_is_set_is_told_at_once_and_only_to_who_asked(clients: tuple[Client, Client]) -> None:
    one, other = clients
    other.do("qom-set", path=G, property="level", value=0)
    answer = one.do("x-subscribe-property", path="g", property="level", interval=0)
    assert answer == {"subscription": 1, "values": [{"path": G, "property": "level", "value": 0}]}
    other.do("qom-set", path=G, property="level", value=5)
    assert one.event("X_PROPERTY_CHANGED")["data"] == change(1, G, "level", 5)
    other.do("qom-set", path=G, property="level", value=5)  # the same again is no change
    other.do("qom-set", path=H, property="level", value=9)  # another object
    other.do("qom-set", path=G, property="enabled", value=False)  # another property
    other.do("qom-set", path=G, property="level", value=6)
    assert one.event("X_PROPERTY_CHANGED")["data"] == change(1, G, "level", 6)
    one.do("x-unsubscribe-property", subscription=1)
    other.do("qom-set", path=G, property="level", value=7)
    one.do("query-status")
    other.do("query-status")
    assert not [each for each in (*one.events, *other.events) if each["event"] == "X_PROPERTY_CHANGED"]
    assert one.error("x-unsubscribe-property", subscription=1) == (
        "GenericError: there is no subscription 1 in this session; there are: none"
    )


def test_patterns(clients: tuple[Client, Client]) -> None:
    one, other = clients
    for path in (G, H):
        other.do("qom-set", path=path, property="level", value=0)
        other.do("qom-set", path=path, property="enabled", value=True)
    answer = one.do("x-subscribe-property", path="/machine/peripheral/*", property="*e*l*", interval=0)
    assert {(each["path"], each["property"]) for each in answer["values"]} == {
        (path, name) for path in (G, H) for name in ("level", "enabled", "realized")
    }
    other.do("qom-set", path=H, property="level", value=3)
    assert one.event("X_PROPERTY_CHANGED")["data"] == change(1, H, "level", 3)
    other.do("qom-set", path=G, property="enabled", value="off")
    assert one.event("X_PROPERTY_CHANGED")["data"] == change(1, G, "enabled", False)
    other.do("device_add", driver="test-gauge", id="i", level=4, addr="09.0")
    told = [one.event("X_PROPERTY_CHANGED")["data"] for _ in range(2)]
    assert told == [
        change(1, "/machine/peripheral/i", "level", 4),
        change(1, "/machine/peripheral/i", "realized", True),
    ]
    other.do("device_del", id="i")
    other.do("human-monitor-command", command_line="o /w 0xae08 0x200")  # the guest lets go of slot 9
    assert one.event("X_PROPERTY_CHANGED")["data"] == change(1, "/machine/peripheral/i", "realized", False)


def test_what_a_device_computes_is_looked_at(machine: QmpMachine, clients: tuple[Client, Client]) -> None:
    one, _ = clients
    gauge = machine.vm.root.resolve(G)
    with machine.vm.lock:
        gauge.measured = 0
    one.do("x-subscribe-property", path=G, property="reading", interval=10)
    for value in (17, 18):
        with machine.vm.lock:
            gauge.measured = value
        assert one.event("X_PROPERTY_CHANGED")["data"] == change(1, G, "reading", value)


def test_a_client_that_goes_leaves_nothing(machine: QmpMachine) -> None:
    vm = machine.vm
    with QmpMachine(vm, machine.paths) as made:
        client = made.client(0)
        client.do("x-subscribe-property", path="/machine/*", interval=0)
        client.do("x-subscribe-property", path=G, interval=0)
        assert vm.registry.probe is not None
        client.close()
    with QmpMachine(vm, machine.paths) as made:
        made.client(0).do("query-status")  # it is served on the same character device, after the other has gone
        made.client(1).do("query-status")
        assert vm.registry.probe is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "Parameter 'path' is missing: expected string"),
        (
            {"path": "/machine/pt"},
            "Device '/machine/pt' not found: no object '/machine/pt': /machine has no child 'pt'",
        ),
        ({"path": G, "property": "levl"}, "Property 'test-gauge.levl' not found; did you mean 'level'?"),
        ({"path": G, "interval": 5}, "Parameter 'interval' expects 0, or at least 10 milliseconds; got 5"),
        ({"path": G, "interval": -1}, "Parameter 'interval' expects 0, or at least 10 milliseconds; got -1"),
    ],
)
def test_refusals(clients: tuple[Client, Client], arguments: dict[str, Any], error: str) -> None:
    assert error in clients[0].error("x-subscribe-property", **arguments)


def test_a_subscription_needs_a_session(machine: QmpMachine) -> None:
    assert refusal(machine.vm, "x-subscribe-property", path=G) == (
        "GenericError: subscriptions are for QMP sessions, which can be told of events: expected one"
    )


@pytest.mark.parametrize("format", ["toml", "json", "yaml"])
def test_the_machine_as_a_file(machine: QmpMachine, tmp_path: Path, format: str) -> None:
    with machine.vm.lock:
        machine.vm.root.resolve(H).set("level", 42)
    found = ask(machine.vm, "x-query-machine-file", **({} if format == "toml" else {"format": format}))
    assert found["format"] == format
    file = tmp_path / f"machine.{format}"
    file.write_text(found["text"])
    config = load(file)
    assert config.machine.type == machine.vm.machine.type_name.removesuffix("-machine")
    assert {entry.id: entry.props.get("level") for entry in config.devices}["h"] == 42
