"""Promise 5.  One clear life cycle: what is legal when is written in one place, enforced, and reversible up to the end."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pcs import pc, registry

from plugins.firmware import EMBEDDED
from qom import (
    TRANSITIONS,
    Device,
    Life,
    LifecycleError,
    PropertyLocked,
    RealizeError,
    TypeRegistry,
    VirtualMachine,
    prop,
    state,
    type_init,
)
from qom.cli.options import CommandLine


@type_init("promise-device")
class PromiseDevice(Device):
    """Something to be taken through its life."""

    size: int = prop(1, "How large")
    level: int = prop(1, "How high", mutable=True)
    count: int = state()
    bus_type = None

    def realize(self) -> None:
        self.gpio_in("in", 1, lambda n, level: None)


@type_init("promise-failure")
class PromiseFailure(PromiseDevice):
    """Takes what there is, and fails, unless its size is 0."""

    def realize(self) -> None:
        self.gpio_in("in", 1, lambda n, level: None)
        self.add_child("part", self.registry.new("promise-device"))
        self.count, self.left_over = 5, "something"
        if self.size:
            raise ValueError("not today")


def step(device: Device, to: Life) -> None:
    """Take the public way to a phase."""
    if to is Life.CONFIGURED:
        device.configure()
    elif to is Life.REALIZED:
        device.set("realized", True)
    elif to is Life.UNREALIZED:
        device.set("realized", False)
    elif to is Life.FINALIZED:
        device.unparent()


PUBLIC = (Life.CONFIGURED, Life.REALIZED, Life.UNREALIZED, Life.FINALIZED)
SHORTCUTS = {(Life.CREATED, Life.REALIZED), (Life.UNREALIZED, Life.REALIZED)}  # realize configures first
SAME = {(life, life) for life in (Life.CONFIGURED, Life.REALIZED)}
SAME |= {(life, Life.UNREALIZED) for life in Life if life is not Life.REALIZED}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PUBLIC), max_size=12))
def test_only_the_tables_moves_are_made(ways: list[Life]) -> None:
    registry = TypeRegistry()
    registry.register(PromiseDevice)
    root = registry.new("root")
    device = registry.new("promise-device")
    root.add_child("d", device)
    for to in ways:
        before = device.life
        if before is Life.FINALIZED:
            break
        if (before, to) in SAME:  # asking for what is does nothing
            step(device, to)
            assert device.life is before
        elif to is Life.FINALIZED:
            step(device, to)  # leaving the tree goes through unrealized by itself
            assert device.life is to
        elif to in TRANSITIONS[before] or (before, to) in SHORTCUTS:
            step(device, to)
            assert device.life is to
        else:
            with pytest.raises(LifecycleError):
                step(device, to)
            assert device.life is before
        assert bool(device.lines()) == (device.life is Life.REALIZED)  # nothing stays of a realize taken back


def test_the_table_says_what_the_promise_says() -> None:
    """created -> configured -> realized -> running -> unrealized -> finalized, and every step can be taken back."""
    said = {life.value: sorted(to.value for to in follows) for life, follows in TRANSITIONS.items()}
    assert said == {
        "created": ["configured", "finalized"],
        "configured": ["finalized", "realized"],
        "realized": ["running", "unrealized"],
        "running": ["realized"],
        "unrealized": ["configured", "finalized"],
        "finalized": [],
    }


def test_every_phase_is_in_the_table_and_every_way_ends() -> None:
    assert set(TRANSITIONS) == set(Life)
    for life in Life:
        seen, queue = set(), [life]
        while queue:
            here = queue.pop()
            if here not in seen:
                seen.add(here)
                queue += TRANSITIONS[here]
        assert Life.FINALIZED in seen
    assert TRANSITIONS[Life.FINALIZED] == frozenset()


def test_an_illegal_step_names_both_phases_and_what_is_legal() -> None:
    with pc() as machine:
        machine.start()
        with pytest.raises(LifecycleError) as caught:
            machine.vm.machine.set("realized", False)
    assert str(caught.value) == ("/machine: cannot go from running to unrealized: from running follows realized")


def test_a_machine_is_taken_apart_and_put_together_again_and_boots() -> None:
    words = ["-M", "pc", "-accel", "simulated", "-m", "16", "-nodefaults", "-bios", str(EMBEDDED)]
    words += ["-chardev", "waiting,id=serial", "-serial", "chardev:serial"]
    others = set(threading.enumerate())  # of whoever else has a machine in this process
    with VirtualMachine(CommandLine().parse(words).builder.finish(), registry()).build() as vm:
        board: Any = vm.machine
        assert [t.name for t in set(threading.enumerate()) - others if t.name.startswith("CPU")] == ["CPU 0"]
        before = [(o.path, o.type_name) for o in vm.root.walk()]
        with vm.lock:
            board.set("realized", False)
            assert board.life is Life.UNREALIZED
            assert [o.path for o in board.walk() if isinstance(o, Device) and o.realized] == []
            assert [t.name for t in set(threading.enumerate()) - others if t.name.startswith("CPU")] == []
            board.set("realized", True)
            board.creation_done()
        assert [(o.path, o.type_name) for o in vm.root.walk()] == before
        vm.reset()
        vm.start_loop()
        vm.cont()
        vm.root.resolve("/chardevs/serial").wait_for("No bootable device.")


@pytest.mark.parametrize(
    ("life", "plain", "mutable"),
    [
        (Life.CREATED, True, True),
        (Life.CONFIGURED, True, True),
        (Life.REALIZED, False, True),
        (Life.RUNNING, False, True),
        (Life.UNREALIZED, True, True),
        (Life.FINALIZED, False, False),
    ],
)
def test_when_properties_may_be_set(life: Life, plain: bool, mutable: bool) -> None:
    types = TypeRegistry()
    types.register(PromiseDevice)
    device = types.new("promise-device")
    device.life = life
    for name, legal in (("size", plain), ("level", mutable)):
        with nullcontext() if legal else pytest.raises(PropertyLocked, match=f"'{name}'.*{life.value}"):
            device.set(name, 7)
        assert device.get(name) == (7 if legal else 1)


def test_the_table_is_the_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is changed in it changes what is legal."""
    types = TypeRegistry()
    types.register(PromiseDevice)
    device = types.new("promise-device")
    monkeypatch.setitem(TRANSITIONS, Life.CREATED, frozenset())
    with pytest.raises(LifecycleError, match="cannot go from created to configured: from created follows nothing"):
        device.configure()
    with pytest.raises(LifecycleError, match="cannot be finalized while created"):
        device.unparent()
    monkeypatch.setattr("qom.properties.SETTABLE", ())
    with pytest.raises(PropertyLocked):
        device.set("size", 7)


def test_a_failed_realize_leaves_nothing() -> None:
    types = TypeRegistry()
    types.register(PromiseDevice)
    types.register(PromiseFailure)
    root, device = types.new("root"), types.new("promise-failure")
    root.add_child("d", device)
    before = dict(device.__dict__)
    with pytest.raises(RealizeError, match="/d: realize failed: ValueError: not today"):
        device.set("realized", True)
    assert device.life is Life.CONFIGURED
    assert device.lines() == {} and device.children() == {} and device.count == 0
    assert set(device.__dict__) == set(before)
    device.set("size", 0)
    device.set("realized", True)
    assert device.realized and set(device.children()) == {"part"}


def test_what_is_gone_stays_gone() -> None:
    types = TypeRegistry()
    types.register(PromiseDevice)
    root, device = types.new("root"), types.new("promise-device")
    root.add_child("d", device)
    device.unparent()
    with pytest.raises(LifecycleError, match="is finalized and cannot take part in a tree"):
        root.add_child("d", device)


def test_properties_are_locked_once_realized() -> None:
    with pc() as machine:
        console = machine.vm.root.resolve("/machine/peripheral-anon/isa-debugcon@402")
        with pytest.raises(PropertyLocked, match="iobase"):
            console.set("iobase", 0x500)
        assert console.iobase == 0x402
