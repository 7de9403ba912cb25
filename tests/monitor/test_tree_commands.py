"""qom-list, qom-get, qom-set, qom-list-get and the whole tree in one call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import ask, refusal
from qmp_machine import qmp_machine

from qom import IsaDevice, alias, link, open_machine, prop, type_init
from qom.vm import VirtualMachine


class Broken(Exception):
    """Raised by the device below."""


def _raise(obj: object) -> int:
    raise Broken("no reading")


@type_init("test-tree-device")
class TreeDevice(IsaDevice):
    """One property of every kind."""

    hotpluggable = True
    count: int = prop(3, "A number", type="uint8", mutable=True, unit="things")
    needed: int = prop(7, "Another number", type="int16")
    words: list[str] = prop([], "Some words", type="list<str>")
    peer: Any = link("device", "Another device", mutable=True)
    other_name: int = alias("", "count", "The number under another name")
    doubled: int = prop(0, "Twice the number", type="uint16", get=lambda obj: 2 * obj.count)
    reading: int = prop(0, "What cannot be read", type="uint16", get=_raise)


@pytest.fixture(scope="module")
def vm() -> Iterator[VirtualMachine]:
    with open_machine(
        machine="pc", accel="qtest", devices=["test-tree-device,id=d,words=a"], types=[TreeDevice]
    ) as made:
        yield made


DEVICE = "/machine/peripheral/d"


def test_list(vm: VirtualMachine) -> None:
    listed = {each["name"]: each for each in ask(vm, "qom-list", path=DEVICE)}
    assert listed["type"] == {"name": "type", "type": "string"}
    assert listed["count"] == {"name": "count", "type": "uint8", "description": "A number", "default-value": 3}
    assert listed["words"] == {"name": "words", "type": "list", "description": "Some words", "default-value": []}
    assert listed["peer"] == {"name": "peer", "type": "link<device>", "description": "Another device"}
    assert listed["other-name"]["type"] == "uint8"  # as what it stands for
    assert "default-value" not in listed["doubled"]
    assert ask(vm, "qom-list", path="/")[0] == {"name": "type", "type": "string"}
    children = {each["name"]: each["type"] for each in ask(vm, "qom-list", path="/machine")}
    assert children["pit"] == "child<isa-pit>"


def test_get(vm: VirtualMachine) -> None:
    assert ask(vm, "qom-get", path=DEVICE, property="type") == "test-tree-device"
    assert ask(vm, "qom-get", path="d", property="count") == 3  # a partial path
    assert ask(vm, "qom-get", path=DEVICE, property="words") == ["a"]
    assert ask(vm, "qom-get", path=DEVICE, property="peer") == ""
    assert ask(vm, "qom-get", path="/machine", property="pit") == "/machine/pit"


def test_set(vm: VirtualMachine) -> None:
    assert ask(vm, "qom-set", path=DEVICE, property="count", value=9) == {}
    assert [ask(vm, "qom-get", path=DEVICE, property=name) for name in ("other-name", "doubled")] == [9, 18]
    ask(vm, "qom-set", path=DEVICE, property="count", value="0x11")  # text is converted, as everywhere
    assert ask(vm, "qom-get", path=DEVICE, property="count") == 17
    ask(vm, "qom-set", path=DEVICE, property="count", value=3)
    ask(vm, "qom-set", path=DEVICE, property="peer", value="/machine/pit")
    assert ask(vm, "qom-get", path=DEVICE, property="peer") == "/machine/pit"
    ask(vm, "qom-set", path=DEVICE, property="peer", value="")
    assert ask(vm, "qom-get", path=DEVICE, property="peer") == ""


@pytest.mark.parametrize(
    ("command", "arguments", "error"),
    [
        (
            "qom-list",
            {"path": "/machne"},
            "DeviceNotFound: Device '/machne' not found: no object '/machne': / has no child 'machne'; did you mean"
            " 'machine'?",
        ),
        (
            "qom-list",
            {"path": "container"},
            "DeviceNotFound: Device 'container' not found: no object 'container'",
        ),
        (
            "qom-list",
            {"path": ""},
            "DeviceNotFound: Device '' not found: no object ''",
        ),
        (
            "qom-get",
            {"path": DEVICE, "property": "cout"},
            "GenericError: Property 'test-tree-device.cout' not found; did you mean 'count'?",
        ),
        (
            "qom-get",
            {"path": DEVICE, "property": "reading"},
            "GenericError: /machine/peripheral/d: property 'reading' cannot be read: Broken: no reading; ",
        ),
        (
            "qom-set",
            {"path": DEVICE, "property": "cont", "value": 1},
            "GenericError: Property 'test-tree-device.cont' not found; did you mean 'count'?",
        ),
        (
            "qom-set",
            {"path": DEVICE, "property": "type", "value": "x"},
            "GenericError: Property 'test-tree-device.type' is not writable",
        ),
        (
            "qom-set",
            {"path": DEVICE, "property": "count", "value": 256},
            "GenericError: /machine/peripheral/d: property 'count' cannot be 256: expected an integer in 0..255 things",
        ),
        (
            "qom-set",
            {"path": DEVICE, "property": "needed", "value": 1},
            "GenericError: /machine/peripheral/d: property 'needed' cannot be set to 1: the object is realized",
        ),
        (
            "qom-set",
            {"path": DEVICE, "property": "peer", "value": "/machine/pt"},
            "DeviceNotFound: Device '/machine/pt' not found: no object '/machine/pt': /machine has no child 'pt'; did"
            " you mean 'pit'",
        ),
        ("qom-get", {"path": DEVICE}, "GenericError: Parameter 'property' is missing: expected string"),
    ],
)
def test_refusals(vm: VirtualMachine, command: str, arguments: dict[str, Any], error: str) -> None:
    assert refusal(vm, command, **arguments).startswith(error)


def test_ambiguous_path() -> None:
    with open_machine(machine="pc", accel="qtest", smp=2) as vm:
        assert refusal(vm, "qom-list", path="lapic") == (
            "GenericError: Path 'lapic' is ambiguous: it fits /machine/cpu0/lapic, /machine/cpu1/lapic"
        )


def test_list_get(vm: VirtualMachine) -> None:
    device, pit = ask(vm, "qom-list-get", paths=[DEVICE, "/machine/pit"])
    values = {each["name"]: each for each in device["properties"]}
    assert values["type"] == {"name": "type", "type": "string", "value": "test-tree-device"}
    assert values["count"] == {"name": "count", "type": "uint8", "value": 3}
    assert values["reading"] == {"name": "reading", "type": "uint16"}  # cannot be read
    assert {"name": "type", "type": "string", "value": "isa-pit"} in pit["properties"]
    assert ask(vm, "qom-list-get", paths=[]) == []
    assert refusal(vm, "qom-list-get", paths=["/machine", "/no"]).startswith("DeviceNotFound: Device '/no' not found")


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children"]:
        yield from _walk(child)


def test_the_whole_tree_says_what_the_single_calls_say(vm: VirtualMachine) -> None:
    objects = list(_walk(ask(vm, "x-query-qom-tree")))
    assert [each["path"] for each in objects] == [found.path for found in vm.root.walk()]
    for each in objects:
        listed = {one["name"]: one for one in ask(vm, "qom-list", path=each["path"])}
        assert listed.pop("type") == {"name": "type", "type": "string"}
        assert ask(vm, "qom-get", path=each["path"], property="type") == each["type"]
        for child in each["children"]:
            assert listed.pop(child["name"])["type"] == f"child<{child['type']}>"
        for one in each["properties"]:
            same = listed.pop(one["name"])
            assert {key: one[key] for key in same} == same
            if "error" not in one:
                assert one["value"] == ask(vm, "qom-get", path=each["path"], property=one["name"])
        assert not listed


def test_the_whole_tree_has_units_and_errors(vm: VirtualMachine) -> None:
    found = ask(vm, "x-query-qom-tree", path=DEVICE)
    properties = {each["name"]: each for each in found["properties"]}
    assert (found["name"], found["path"], found["type"]) == ("d", DEVICE, "test-tree-device")
    assert properties["count"] == {
        "name": "count", "type": "uint8", "description": "A number", "default-value": 3, "unit": "things", "value": 3,
    }  # fmt: skip
    assert "value" not in properties["reading"]
    assert properties["reading"]["error"].startswith(f"{DEVICE}: property 'reading' cannot be read: Broken")


def test_the_whole_tree_through_a_socket(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, "-machine", "pc", "-accel", "qtest", "-preconfig") as machine:
        builder = threading.Thread(target=machine.vm.build)
        builder.start()
        client = machine.client_when_there()
        before = {each["path"] for each in _walk(client.do("x-query-qom-tree"))}
        assert {"/", "/machine", "/machine/system-bus"} <= before
        client.do("x-exit-preconfig")
        builder.join()
        machine.vm.start_loop()
        after = {each["path"] for each in _walk(client.do("x-query-qom-tree"))}
        assert before < after
        assert "/machine/pit" in after
