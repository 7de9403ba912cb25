"""Promise 4.  Stable names: an object's path never depends on the order in which things happened."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from qom import PathError, TypeRegistry, VirtualMachine, default_registry
from qom.cli.options import CommandLine
from qom.config import DeviceEntry

DEVICES = (
    DeviceEntry("isa-debugcon", None, None, {"iobase": 0x402}),
    DeviceEntry("isa-debugcon", None, None, {"iobase": 0x500}),
    DeviceEntry("isa-serial", None, None, {"index": 2}),
    DeviceEntry("isa-debug-exit", "exit0", None, {"iobase": 0x600}),
)


@pytest.fixture(scope="module")
def types() -> TypeRegistry:
    return default_registry(load_external=False)


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
    assert first["/machine/peripheral/exit0"] == "isa-debug-exit 1536"
    for order in itertools.permutations(DEVICES):
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


def test_a_name_given_twice_is_refused_and_not_changed(types: TypeRegistry) -> None:
    config = CommandLine().parse(["-M", "none"]).builder.finish()
    with VirtualMachine(config, types).build() as vm:
        home = vm.root.container("/machine/peripheral")
        home.add_child("a", vm.registry.new("container"))
        with pytest.raises(PathError, match="there is a child 'a' already, of type 'container'"):
            home.add_child("a", vm.registry.new("container"))
