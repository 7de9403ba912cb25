"""Promise 7.  A declarative file format with inclusion, repetition and references; its JSON Schema comes from the registry."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pcs import registry

from qom import Chardev, IsaDevice, TypeRegistry, VirtualMachine, link, prop, type_init
from qom.config import load
from qom.config.schema import file_schema

jsonschema = pytest.importorskip("jsonschema")

BASE = """
[machine]
type = "pc"
memory = "16M"

[[device]]
id = "exit"
driver = "isa-debug-exit"
iobase = 0x501
iosize = 4

[[device]]
id = "gone"
driver = "isa-debugcon"
"""
MACHINE = """
include = ["base.toml"]
remove = "gone"

[variables]
count = 3

[[device]]
repeat = ["red", "green"]
id = "sign{n}"
driver = "promise-lamp"
iobase = "{0x380 + 8 * n}"
colour = "{item}"
beside = "lamp{n}"

[[device]]
repeat = "${count}"
id = "lamp{n}"
driver = "promise-lamp"
iobase = "{0x300 + 8 * item}"
sound = "speaker{n}"

[[chardev]]
repeat = "${count}"
id = "speaker{n}"
backend = "null"

[[device]]
id = "exit"
iobase = 0x601
"""


@type_init("promise-lamp")
class Lamp(IsaDevice):
    """A third party's lamp."""

    iobase: int = prop(0x300, "First I/O port", type="uint16", max=0x3FF)
    colour: str = prop("red", "Colour", among=("red", "green"))
    sound: Chardev | None = link("chardev", "Which speaker")
    beside: Any = link("promise-lamp", "The lamp next to it")


@pytest.fixture(scope="module")
def types() -> TypeRegistry:
    found = registry()
    found.register(Lamp, "a third party")
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "vm.toml").write_text(MACHINE)
    return tmp_path / "vm.toml"


def test_inclusion_overriding_repetition_variables_and_references(file: Path, types: TypeRegistry) -> None:
    with VirtualMachine(load(file), types).build() as vm:
        lamps = {n: o for n, o in vm.root.container("/machine/peripheral").children().items() if n.startswith("lamp")}
        assert {name: (o.get("iobase"), o.get("sound").path) for name, o in lamps.items()} == {
            f"lamp{n}": (0x300 + 8 * n, f"/chardevs/speaker{n}") for n in range(3)
        }
        signs = [vm.root.resolve(f"/machine/peripheral/sign{n}") for n in range(2)]
        assert [(o.get("iobase"), o.get("colour"), o.get("beside")) for o in signs] == [
            (0x380, "red", lamps["lamp0"]),
            (0x388, "green", lamps["lamp1"]),
        ]
        assert "gone" not in vm.root.container("/machine/peripheral").children()
        ending = vm.root.resolve("/machine/peripheral/exit")
        assert (ending.get("iobase"), ending.get("iosize")) == (0x601, 4)  # one said here, the other there
        assert set(vm.root.container("/chardevs").children()) >= {"speaker0", "speaker1", "speaker2"}
    with VirtualMachine(load(file, {"count": 5}), types).build() as vm:
        assert "lamp4" in vm.root.container("/machine/peripheral").children()


def test_the_schema_is_made_from_the_registry_and_a_stock_validator_uses_it(
    file: Path, types: TypeRegistry, check_schema: Callable[[Any], None]
) -> None:
    made = json.loads(json.dumps(file_schema(types)))
    check_schema(made)
    validator = jsonschema.Draft202012Validator(made)
    for text in (BASE, MACHINE):
        assert list(validator.iter_errors(tomllib.loads(text))) == []

    def where(text: str) -> list[str]:
        return [error.json_path for error in validator.iter_errors(tomllib.loads(text))]

    assert where(MACHINE.replace('driver = "promise-lamp"', 'driver = "promise-limp"')) != []
    assert where(MACHINE.replace("[[chardev]]", "[[chardevice]]")) != []
    for damaged in ("iobase = 0x400", 'colour = "blue"', "brightness = 3"):
        text = f'[[device]]\ndriver = "promise-lamp"\n{damaged}\n'
        assert where(text) and all(path.startswith("$.device[0]") for path in where(text)), damaged
    assert where('[[device]]\ndriver = "promise-lamp"\ncolour = "green"\n') == []

    # What an editor shows while one writes.
    lamp = made["$defs"]["device.promise-lamp"]["properties"]
    assert (lamp["iobase"]["description"], lamp["iobase"]["default"]) == ("First I/O port", 0x300)
    assert (lamp["colour"]["description"], lamp["colour"]["default"]) == ("Colour", "red")
    assert {"red", "green"} <= set(lamp["colour"]["anyOf"][0]["enum"])


def test_without_the_third_party_its_type_is_not_in_the_schema() -> None:
    text = json.dumps(file_schema(registry()))
    assert "promise-lamp" not in text and "isa-debug-exit" in text
