"""The composition tree, paths, automatic names, life cycle and declared state."""

from __future__ import annotations

import enum
from typing import Any

import attrs
import pytest

from qom import (
    TRANSITIONS,
    AmbiguousPath,
    Life,
    LifecycleError,
    Object,
    PathError,
    Root,
    StateError,
    TypeInfo,
    TypeRegistry,
    check_id,
    link,
    state,
    type_init,
)
from qom.lifecycle import move


class Phase(enum.Enum):
    IDLE = 0
    BUSY = 1


@attrs.define
class Channel:
    mode: int = 0
    count: int = 0


@type_init("part")
class Part(Object):
    friend: Any = link("part", "Another part")
    counter: int = state(reset=7)
    phase: Phase = state(reset=Phase.IDLE)
    buffer: bytearray = state(factory=lambda: bytearray(4))
    channels: list[Channel] = state(factory=lambda: [Channel(), Channel()])
    battery: bytearray = state(factory=lambda: bytearray(2), keep=True)

    def instance_init(self) -> None:
        self.where: str | None = None
        self.log: list[str] = []

    def place(self) -> str | None:
        return self.where

    def finalize(self) -> None:
        self.log.append(self.type_name)


@pytest.fixture
def registry() -> TypeRegistry:
    made = TypeRegistry()
    made.register(Part)
    return made


@pytest.fixture
def root(registry: TypeRegistry) -> Root:
    return Root(registry)


def part(root: Root, where: str | None = None) -> Any:
    made = root.registry.new("part")
    made.where = where
    return made


def test_the_root_has_its_containers_and_makes_more_on_demand(root: Root) -> None:
    assert list(root.children()) == ["objects", "chardevs"]
    anon = root.container("/machine/peripheral-anon")
    assert anon.path == "/machine/peripheral-anon" and root.container("/machine/peripheral-anon") is anon
    assert root.path == "/" and root.resolve("/") is root


def test_canonical_absolute_and_relative_paths(root: Root) -> None:
    box = root.container("/machine/peripheral")
    sw = part(root)
    assert sw.path == "<part not in a tree>"
    inner = part(root)
    sw.add_child("inner", inner)
    assert inner.path == "<part not in a tree>/inner"
    box.add_child("sw0", sw)
    assert inner.path == "/machine/peripheral/sw0/inner"
    assert root.resolve("/machine/peripheral/sw0/inner") is inner
    assert box.resolve("sw0/inner") is inner and inner.resolve("../..") is box
    assert inner.resolve("/machine") is root.child("machine")
    inner.friend = sw
    assert inner.resolve("friend/inner/friend") is sw  # links are followed
    with pytest.raises(PathError) as error:
        root.resolve("/machine/peripheral/sw1")
    assert str(error.value) == (
        "no object '/machine/peripheral/sw1': /machine/peripheral has no child 'sw1'; did you mean 'sw0'?"
    )


def test_partial_paths_and_ambiguity(root: Root) -> None:
    for board in ("left", "right"):
        box = root.container(f"/machine/{board}")
        box.add_child("uart", part(root))
    root.container("/machine/left").add_child("timer", part(root))
    assert root.resolve_partial("timer").path == "/machine/left/timer"
    assert root.resolve_partial("left/uart").path == "/machine/left/uart"
    with pytest.raises(AmbiguousPath) as error:
        root.resolve_partial("uart")
    assert str(error.value) == "path 'uart' is ambiguous: it fits /machine/left/uart, /machine/right/uart"
    with pytest.raises(PathError) as error:
        root.resolve_partial("timr")
    assert str(error.value) == "no object 'timr'; did you mean 'timer'?"
    with pytest.raises(PathError, match="no object 'timer' of type 'container'"):
        root.resolve_partial("timer", "container")


def test_automatic_names_do_not_depend_on_the_order(root: Root) -> None:
    places = ["3f8", "2f8", "3e8"]
    found = []
    for order in (places, places[::-1]):
        box = Root(root.registry).container("/machine/unattached")
        found.append({place: box.add_auto(part(root, place)) for place in order})
    assert found[0] == found[1] == {p: f"part@{p}" for p in places}


def test_equals_are_counted_in_the_order_they_are_declared(root: Root) -> None:
    box = root.container("/machine/unattached")
    assert [box.add_auto(part(root)) for _ in range(3)] == ["part", "part[1]", "part[2]"]
    assert box.add_auto(part(root), place="00:01.0") == "part@00:01.0"


def test_wrong_children_are_refused(root: Root) -> None:
    one, two = part(root), part(root)
    root.add_child("one", one)
    for name, child, message in (
        ("a/b", two, "/: 'a/b' cannot name a child: expected a name without '/'"),
        ("", two, "/: '' cannot name a child: expected a name without '/'"),
        ("one", two, "/: there is a child 'one' already, of type 'part'"),
        ("again", one, "/: 'again' cannot be /one: it has a parent already"),
    ):
        with pytest.raises(PathError) as error:
            root.add_child(name, child)
        assert str(error.value) == message
    with pytest.raises(PathError, match="'friend' is a property of 'part' and cannot name a child"):
        one.add_child("friend", two)
    one.add_child("two", two)
    top = part(root)
    below = part(root)
    top.add_child("below", below)
    with pytest.raises(PathError, match="'loop' cannot be what it is part of"):
        below.add_child("loop", top)


def test_unparent_takes_children_first_and_finalizes_bottom_up(registry: TypeRegistry, root: Root) -> None:
    order: list[str] = []
    for n in range(3):
        registry.register(TypeInfo(name=f"layer{n}", instance_finalize=lambda o, n=n: order.append(f"layer{n}")))
    layers = [registry.new(f"layer{n}") for n in range(3)]
    root.add_child("a", layers[0])
    layers[0].add_child("b", layers[1])
    layers[1].add_child("c", layers[2])
    layers[0].unparent()
    assert order == ["layer2", "layer1", "layer0"]
    assert all(layer.life is Life.FINALIZED and layer.parent is None for layer in layers)
    assert "a" not in root.children()
    with pytest.raises(LifecycleError, match="is finalized and cannot take part in a tree"):
        root.add_child("a", layers[0])


def test_ids() -> None:
    assert check_id("sw0.a-b_c") == "sw0.a-b_c"
    for wrong in ("0a", "", "a b", "a/b"):
        with pytest.raises(PathError, match="is not legal: expected a letter"):
            check_id(wrong)


@pytest.mark.parametrize("start", list(Life))
@pytest.mark.parametrize("to", list(Life))
def test_the_life_cycle_is_the_table(root: Root, start: Life, to: Life) -> None:
    obj = part(root)
    obj.life = start
    if to in TRANSITIONS[start]:
        move(obj, to)
        assert obj.life is to
    else:
        with pytest.raises(LifecycleError) as error:
            move(obj, to)
        allowed = ", ".join(sorted(t.value for t in TRANSITIONS[start])) or "nothing"
        assert str(error.value) == (
            f"<part not in a tree>: cannot go from {start.value} to {to.value}: from {start.value} follows {allowed}"
        )
        assert obj.life is start


def test_a_realized_object_is_not_finalized(root: Root) -> None:
    obj = part(root)
    obj.life = Life.REALIZED
    with pytest.raises(LifecycleError, match="cannot be finalized while realized: expected unrealize first"):
        obj.unparent()


def test_reset_gives_state_back_and_keeps_what_is_declared_to_stay(root: Root) -> None:
    obj = part(root)
    obj.counter, obj.phase, obj.buffer[0], obj.battery[0] = 1, Phase.BUSY, 9, 9
    obj.channels[1].count = 3
    obj.reset_state()
    assert (obj.counter, obj.phase, bytes(obj.buffer), bytes(obj.battery)) == (7, Phase.IDLE, bytes(4), b"\x09\x00")
    assert obj.channels == [Channel(), Channel()]


def test_state_is_saved_as_plain_data_and_loaded_again(root: Root) -> None:
    obj, other = part(root), part(root)
    obj.counter, obj.phase, obj.buffer[1] = 1, Phase.BUSY, 5
    obj.channels[0].mode = 3
    saved = obj.save_state()
    assert saved == {
        "counter": 1,
        "phase": 1,
        "buffer": b"\x00\x05\x00\x00",
        "channels": [{"mode": 3, "count": 0}, {"mode": 0, "count": 0}],
        "battery": b"\x00\x00",
    }
    other.load_state(saved)
    assert other.save_state() == saved
    assert other.phase is Phase.BUSY and isinstance(other.buffer, bytearray)
    assert other.channels[0] == Channel(mode=3) and other.channels[0] is not obj.channels[0]


def test_state_that_does_not_fit_changes_nothing(root: Root) -> None:
    obj = part(root)
    good = obj.save_state()
    for change, message in (
        ({"counter": "x"}, "<part not in a tree>: counter: saved state does not fit: a str where a int was"),
        ({"phase": 9}, "<part not in a tree>: phase: saved state does not fit: 9 is not a valid Phase"),
        ({"more": 1}, "<part not in a tree>: saved state does not fit 'part': unknown more, missing nothing"),
    ):
        with pytest.raises(StateError) as error:
            obj.load_state({**good, **change, "battery": b"\xff\xff"})
        assert str(error.value) == message
    assert obj.save_state() == good
    del good["phase"]
    with pytest.raises(StateError, match="unknown nothing, missing phase"):
        obj.load_state(good)
