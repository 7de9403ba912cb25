"""The type registry: marking, registration, lazy initialisation, and each error naming both sides."""

from __future__ import annotations

from typing import Any

import pytest

from qom import (
    AbstractType,
    CastError,
    DuplicateType,
    GlobalProperty,
    Interface,
    Object,
    TypeCycle,
    TypeInfo,
    TypeRegistry,
    TypeRegistryError,
    UnknownParent,
    UnknownType,
    prop,
    state,
    type_init,
)
from qom.errors import ConfigError


@pytest.fixture
def registry() -> TypeRegistry:
    return TypeRegistry()


def test_marking_changes_nothing_but_the_mark(registry: TypeRegistry) -> None:
    calls: list[str] = []

    @type_init("clock-chip")
    class ClockChip(Object):
        @classmethod
        def class_init(cls) -> None:
            calls.append("class_init")

        def instance_init(self) -> None:
            calls.append("instance_init")

    assert "clock-chip" not in registry
    registry.register(ClockChip, origin="dist-a")
    assert registry.get("clock-chip").origin == "dist-a"
    assert not registry.get("clock-chip").initialised
    registry.types("object")
    assert registry.is_a("clock-chip", "object")
    assert calls == []
    registry.new("clock-chip")
    registry.new("clock-chip")
    assert calls == ["class_init", "instance_init", "instance_init"]


def test_class_init_runs_once_parent_first_and_hooks_of_every_class_in_turn(registry: TypeRegistry) -> None:
    calls: list[str] = []

    class Mixin:
        def instance_init(self) -> None:
            calls.append("mixin init")

    @type_init("base", abstract=True)
    class Base(Object):
        @classmethod
        def class_init(cls) -> None:
            calls.append(f"base class of {cls.__name__}")
            cls.desc = "the base"

        def instance_init(self) -> None:
            calls.append("base init")

        def instance_post_init(self) -> None:
            calls.append("base post")

        def finalize(self) -> None:
            calls.append("base finalize")

    @type_init("derived")
    class Derived(Mixin, Base):
        @classmethod
        def class_init(cls) -> None:
            calls.append(f"derived class of {cls.__name__}")
            assert cls.desc == "the base"
            cls.desc = "derived"

        def instance_init(self) -> None:
            calls.append("derived init")

        def instance_post_init(self) -> None:
            calls.append("derived post")

        def finalize(self) -> None:
            calls.append("derived finalize")

    registry.register(Derived)  # brings its marked base with it
    obj = registry.new("derived")
    obj.unparent()
    assert calls == [
        "base class of Base",
        "derived class of Derived",
        "base init",
        "mixin init",
        "derived init",
        "base post",
        "derived post",
        "derived finalize",
        "base finalize",
    ]
    assert (Base.desc, Derived.desc) == ("the base", "derived")


def test_a_hook_that_calls_super_is_refused(registry: TypeRegistry) -> None:
    @type_init("caller")
    class Caller(Object):
        def instance_init(self) -> None:
            super().instance_init()

    registry.register(Caller)
    with pytest.raises(TypeRegistryError) as error:
        registry.new("caller")
    assert str(error.value) == (
        "Caller.instance_init calls super().instance_init(): expected not to, every class's instance_init is called in turn"
    )


def test_a_failing_class_init_names_type_and_distribution(registry: TypeRegistry) -> None:
    @type_init("bad-class")
    class Bad(Object):
        @classmethod
        def class_init(cls) -> None:
            raise ZeroDivisionError("oops")

    registry.register(Bad, origin="dist-bad")
    with pytest.raises(TypeRegistryError) as error:
        registry.class_of("bad-class")
    line = Bad.class_init.__func__.__code__.co_firstlineno + 2  # type: ignore[attr-defined]
    told = "type 'bad-class' (from dist-bad): class_init failed: ZeroDivisionError: oops"
    assert str(error.value) == f"{told}, at {__file__}:{line}"


def test_record_types_have_every_hook_and_their_class_data(registry: TypeRegistry) -> None:
    calls: list[Any] = []

    def class_init(cls: type, data: Any) -> None:
        cls.limit = data["limit"]  # type: ignore[attr-defined]

    registry.register(TypeInfo(name="shape", abstract=True, instance_init=lambda o: calls.append("shape")))
    registry.register(
        TypeInfo(
            name="square-shape",
            parent="shape",
            aliases=("quad",),
            class_init=class_init,
            class_data={"limit": 9},
            instance_init=lambda o: calls.append("square"),
            instance_post_init=lambda o: calls.append("post"),
            instance_finalize=lambda o: calls.append("finalize"),
            realize=lambda o: calls.append("realize"),
            unrealize=lambda o: calls.append("unrealize"),
            attributes={"size": prop(3, "Edge", type="uint8"), "filled": state(reset=False)},
            desc="A square",
        ),
        origin="dist-shapes",
    )
    obj = registry.new("quad", size="0x10")
    assert obj.size == 16 and obj.filled is False
    assert type(obj).limit == 9 and type(obj).__name__ == "SquareShape"
    assert registry.get("quad").desc == "A square"
    obj.realize()
    obj.unrealize()
    obj.unparent()
    assert calls == ["shape", "square", "post", "realize", "unrealize", "finalize"]
    other = registry.fork().new("quad", size=4)  # a record is made into a class of its own in every registry
    assert (other.size, other.filled, obj.size) == (4, False, 16) and type(other) is not type(obj)


def test_duplicate_names_both_sides(registry: TypeRegistry) -> None:
    @type_init("twin")
    class One(Object):
        pass

    @type_init("twin")
    class Two(Object):
        pass

    registry.register(One, origin="dist-one")
    registry.register(One, origin="dist-one")  # the same class again is no clash
    with pytest.raises(DuplicateType) as error:
        registry.register(Two, origin="dist-two")
    assert str(error.value) == (
        "type 'twin' (class test_registry.test_duplicate_names_both_sides.<locals>.Two, from dist-two)"
        " is already registered by dist-one"
    ).replace("test_registry", __name__)
    registry.alias("double", "twin", origin="dist-one")
    with pytest.raises(DuplicateType) as error:
        registry.register(TypeInfo(name="double"), origin="dist-two")
    assert str(error.value) == (
        "type 'double' (a record, from dist-two) is already an alias of 'twin', registered by dist-one"
    )


def test_unknown_parent_names_both_sides(registry: TypeRegistry) -> None:
    registry.register(TypeInfo(name="child-type", parent="containr"), origin="dist-x")
    with pytest.raises(UnknownParent) as error:
        registry.new("child-type")
    assert str(error.value) == (
        "type 'child-type' (from dist-x) names the unknown parent 'containr'; did you mean 'container'?"
    )
    assert [str(e) for e in registry.check()] == [str(error.value)]
    registry.register(TypeInfo(name="proud", interfaces=("hotplug-handler",)), origin="dist-x")
    with pytest.raises(UnknownParent, match="names the unknown interface 'hotplug-handler'"):
        registry.class_of("proud")


def test_cycles_name_all_their_members(registry: TypeRegistry) -> None:
    with pytest.raises(TypeCycle) as error:
        registry.register(TypeInfo(name="self-made", parent="self-made"))
    assert str(error.value) == "type 'self-made' is its own ancestor: self-made -> self-made"
    registry.register(TypeInfo(name="aaa", parent="bbb"))
    registry.register(TypeInfo(name="bbb", parent="ccc"))
    with pytest.raises(TypeCycle) as error:
        registry.register(TypeInfo(name="ccc", parent="aaa"))
    assert str(error.value) == "type 'ccc' is its own ancestor: ccc -> aaa -> bbb -> ccc"


def test_abstract_types_are_not_instantiated(registry: TypeRegistry) -> None:
    registry.register(TypeInfo(name="vessel", abstract=True))
    registry.register(TypeInfo(name="cup", parent="vessel"))
    with pytest.raises(AbstractType) as error:
        registry.new("vessel")
    assert str(error.value) == (
        "type 'vessel' is abstract and cannot be instantiated: expected one of its concrete types, cup"
    )


def test_unknown_type_suggests(registry: TypeRegistry) -> None:
    with pytest.raises(UnknownType) as error:
        registry.new("contaner")
    assert str(error.value) == "no type 'contaner'; did you mean 'container'?"


def test_unmarked_and_rootless_classes_are_refused(registry: TypeRegistry) -> None:
    class Plain(Object):
        pass

    @type_init("rootless")
    class Rootless:
        pass

    with pytest.raises(TypeRegistryError, match=r"Plain is not marked: expected @type_init\(\.\.\.\)"):
        registry.register(Plain)
    with pytest.raises(UnknownParent, match=r"type 'rootless' .* has no marked base: expected a subclass of Object"):
        registry.register(Rootless)
    with pytest.raises(TypeRegistryError, match="type name 'a b' is not legal"):
        type_init("a b")


def test_types_by_parent_abstract_or_concrete_and_dynamic_cast(registry: TypeRegistry) -> None:
    @type_init("talker")
    class Talker(Interface):
        pass

    @type_init("animal", abstract=True)
    class Animal(Object):
        pass

    @type_init("dog", aliases=("hound",))
    class Dog(Animal, Talker):
        pass

    @type_init("fish")
    class Fish(Animal):
        pass

    for cls in (Fish, Dog):
        registry.register(cls)
    names = [t.name for t in registry.types("animal")]
    assert names == ["animal", "dog", "fish"]
    assert [t.name for t in registry.types("animal", abstract=False)] == ["dog", "fish"]
    assert [t.name for t in registry.types("animal", abstract=True)] == ["animal"]
    assert [t.name for t in registry.types("talker", abstract=False)] == ["dog"]
    assert registry.names("animal") == ["dog", "fish", "hound"]
    dog, fish = registry.new("hound"), registry.new("fish")
    assert dog.type_name == "dog" and dog.is_a("hound") and dog.is_a("talker")
    assert dog.cast("animal") is dog
    with pytest.raises(CastError) as error:
        fish.cast("talker")
    assert str(error.value) == ("<fish not in a tree>: a 'fish' is not a 'talker' (it is fish <- animal <- object)")


def test_two_registries_do_not_know_of_each_other() -> None:
    one, two = TypeRegistry(), TypeRegistry()
    one.register(TypeInfo(name="only-here"))
    assert "only-here" in one and "only-here" not in two


def test_a_fork_has_the_same_types_and_its_own_globals(registry: TypeRegistry) -> None:
    runs: list[str] = []

    @type_init("knob")
    class Knob(Object):
        level: int = prop(1, "Level", type="uint8")

        @classmethod
        def class_init(cls) -> None:
            runs.append("class_init")

    registry.register(Knob)
    left, right = registry.fork(), registry.fork()
    left.globals.append(GlobalProperty("knob", "level", "7", "-global knob.level=7"))
    assert [r.new("knob").level for r in (registry, left, right)] == [1, 7, 1]
    assert left.new("knob").user_set == set()
    assert left.new("knob", level=2).level == 2
    assert left.new("knob").registry is left
    assert runs == ["class_init"]
    right.globals.append(GlobalProperty("object", "no-such", 1, optional=True))
    right.new("knob")
    left.globals.append(GlobalProperty("knob", "level", "300", "-global knob.level=300"))
    with pytest.raises(ConfigError) as error:
        left.new("knob")
    assert str(error.value) == (
        "-global knob.level=300: 'knob': property 'level' cannot be '300': expected an integer in 0..255"
    )


def test_a_failed_transaction_takes_everything_back(registry: TypeRegistry) -> None:
    with pytest.raises(DuplicateType), registry.transaction("dist-t"):
        registry.register(TypeInfo(name="first", aliases=("uno",)))
        assert registry.get("uno").origin == "dist-t"
        registry.register(TypeInfo(name="container"))
    assert "first" not in registry and "uno" not in registry


def test_a_property_takes_the_place_of_those_with_its_name_or_attribute() -> None:
    @type_init("base-one")
    class Base(Object):
        x: int = prop(1, "First", name="a")
        y: int = prop(2, "Second", name="b")
        z: int = prop(3, "Third", name="c")

    @type_init("other-name")
    class Child(Base):
        y: int = prop(4, "Its attribute with another name", name="d")
        w: int = prop(5, "Its name with another attribute", name="a")

    @type_init("once-more")
    class Grandchild(Child):
        x: int = prop(6, "An attribute whose property went", name="e")

    registry = TypeRegistry()
    for cls in (Base, Child, Grandchild):
        registry.register(cls)
    own = {
        name: [(p.name, p.attr) for p in registry.get(name).properties.values()] for name in ("other-name", "once-more")
    }
    inherited = [(p.name, p.attr) for p in registry.get("object").properties.values()]
    assert own["other-name"] == [*inherited, ("c", "z"), ("d", "y"), ("a", "w")]
    assert own["once-more"] == [*inherited, ("c", "z"), ("d", "y"), ("a", "w"), ("e", "x")]
