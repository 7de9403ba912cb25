"""Promise 4.  Stable names: an object's path never depends on the order in which things happened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from qom import (
    Bus,
    Device,
    PathError,
    PciDevice,
    QomError,
    TypeRegistry,
    VirtualMachine,
    default_registry,
    link,
    prop,
    type_init,
)
from qom.cli.options import CommandLine
from qom.config import DeviceEntry

DEVICES = (
    DeviceEntry("isa-debugcon", None, None, {"iobase": 0x402}),
    DeviceEntry("isa-debugcon", None, None, {"iobase": 0x500}),
    DeviceEntry("isa-serial", None, None, {"index": 2}),
    DeviceEntry("promise-card", None, None, {"addr": "06.0"}),
    DeviceEntry("promise-card", None, None, {"addr": "05.0"}),
    DeviceEntry("isa-debug-exit", "exit0", None, {"iobase": 0x600}),
)


@type_init("promise-shelf-bus")
class ShelfBus(Bus):
    """Where books stand."""


@type_init("promise-card")
class Card(PciDevice):
    """A PCI device with a shelf."""

    vendor_id, device_id, hotpluggable = 0x1234, 0x5678, True

    def instance_init(self) -> None:
        self.new_bus("promise-shelf-bus", "shelf")


@type_init("promise-book")
class Book(Device):
    """Has no place that would tell it from another."""

    bus_type, hotpluggable = "promise-shelf-bus", True
    title: str = prop("", "Its title")
    after: Any = link("promise-book", "The one before it")


@pytest.fixture(scope="module")
def types() -> TypeRegistry:
    found = default_registry(load_external=False)
    for made in (ShelfBus, Card, Book):
        found.register(made, "a third party")
    return found


def paths(devices: Sequence[DeviceEntry], types: TypeRegistry) -> dict[str, str]:
    """Every path of a PC with these devices, and what identifies the object there."""
    config = CommandLine().parse(["-M", "pc", "-accel", "simulated", "-nodefaults", "-m", "16"]).builder.finish()
    config.devices = list(devices)
    with VirtualMachine(config, types).build() as vm:
        return {
            o.path: f"{o.type_name} {o.get('iobase') if 'iobase' in o.properties() else ''}" for o in vm.root.walk()
        }


def test_a_path_does_not_depend_on_the_order_of_declaration(types: TypeRegistry) -> None:
    first = paths(DEVICES, types)
    assert first["/machine/peripheral-anon/isa-debugcon@402"] == "isa-debugcon 1026"
    assert first["/machine/peripheral-anon/isa-serial@3e8"] == "isa-serial 1000"
    assert first["/machine/peripheral-anon/promise-card@00:05.0/shelf"] == "promise-shelf-bus "
    assert first["/machine/peripheral/exit0"] == "isa-debug-exit 1536"
    shuffled = random.Random(4)
    for _ in range(12):
        order = shuffled.sample(DEVICES, len(DEVICES))
        assert paths(order, types) == first


def test_a_board_names_its_parts(types: TypeRegistry) -> None:
    """No `device[7]` anywhere: a number that counts what came before would move when something is added."""
    found = paths((), types)
    assert {"/machine/pic", "/machine/rtc", "/machine/cpu0", "/machine/piix3/isa.0"} <= set(found)
    assert not [path for path in found if path.endswith("]")]


def test_what_is_added_moves_nothing(types: TypeRegistry) -> None:
    bare = paths((), types)
    full = paths(DEVICES, types)
    assert bare.items() <= full.items()
    assert len(full) >= len(bare) + len(DEVICES)


def books(vm: VirtualMachine) -> dict[str, str]:
    home = vm.root.container("/machine/peripheral-anon")
    return {name: book.get("title") for name, book in home.children().items()}


def test_equals_are_numbered_as_they_are_declared_whatever_is_built_first(types: TypeRegistry) -> None:
    config = CommandLine().parse(["-M", "pc", "-accel", "qtest", "-nodefaults", "-m", "16"]).builder.finish()
    config.devices = [
        DeviceEntry("promise-book", None, "card.shelf", {"title": "first", "after": "last"}),
        DeviceEntry("promise-book", None, "card.shelf", {"title": "second"}),
        DeviceEntry("promise-book", "last", "card.shelf", {}),
        DeviceEntry("promise-card", "card", None, {}),
    ]
    with VirtualMachine(config, types).build() as vm:
        assert books(vm) == {"promise-book": "first", "promise-book[1]": "second"}


def test_a_name_does_not_tell_what_came_and_went(types: TypeRegistry) -> None:
    config = CommandLine().parse(["-M", "pc", "-accel", "qtest", "-nodefaults", "-m", "16"]).builder.finish()
    with VirtualMachine(config, types).build() as vm:
        vm.add("promise-card", "card")
        for _ in range(2):
            card = vm.add("promise-card", addr="09.0")
            made = [vm.add("promise-book", None, "card.shelf", title=title) for title in ("a", "b", "c")]
            assert card.path == "/machine/peripheral-anon/promise-card@00:09.0"
            assert [book.name for book in made] == ["promise-book", "promise-book[1]", "promise-book[2]"]
            for device in (card, *made):
                vm.remove(device)
            assert books(vm) == {}


def test_a_name_given_twice_is_refused_and_not_changed(types: TypeRegistry) -> None:
    config = CommandLine().parse(["-M", "none"]).builder.finish()
    with VirtualMachine(config, types).build() as vm:
        home = vm.root.container("/machine/peripheral")
        home.add_child("a", vm.registry.new("container"))
        with pytest.raises(PathError, match="there is a child 'a' already, of type 'container'"):
            home.add_child("a", vm.registry.new("container"))


def test_a_device_that_cannot_be_realized_is_named_after_its_own_place(types: TypeRegistry) -> None:
    words = ["-M", "pc", "-accel", "simulated", "-nodefaults", "-m", "16"]
    words += ["-device", "isa-debugcon,iobase=0x402", "-device", "isa-debugcon,iobase=0x402"]
    with pytest.raises(QomError, match=r"/machine/peripheral-anon/isa-debugcon@402\[1\]: "):
        VirtualMachine(CommandLine().parse(words).builder.finish(), types).build()
