"""Properties: kinds, conversion from text, ranges, links, aliases, children, and what each error says."""

from __future__ import annotations

import enum
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qom import (
    REQUIRED,
    Life,
    MissingProperty,
    Object,
    PropertyError,
    PropertyLocked,
    Root,
    TypeRegistry,
    TypeRegistryError,
    UnknownProperty,
    alias,
    child,
    format_size,
    link,
    parse_size,
    prop,
    type_init,
)
from qom.lifecycle import move

# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


class Speed(enum.Enum):
    SLOW = "slow"
    FAST = "fast"


@type_init("leg")
class Leg(Object):
    length: int = prop(10, "How long", type="uint8", mutable=True)


@type_init("table")
class Table(Object):
    """A table."""

    flag: bool = prop(False, "A switch")
    number: int = prop(-1, "A number")
    small: int = prop(1, "Eight bits", type="int8")
    port: int = prop(0x2A0, "A port", type="uint16")
    wide: int = prop(0, "Sixty-four bits", type="uint64")
    irq: int = prop(5, "A line", among=range(16))
    stride: int = prop(4, "A step", among=(1, 2, 4, 8), unit="bytes")
    memory: int = prop("128M", "How much", type="size", min=1 << 20)
    label: str = prop("", "A text")
    colour: str = prop("red", "A colour", type="enum", among=("red", "green"))
    speed: Speed = prop(Speed.SLOW, "How fast")
    names: list[str] = prop([], "Some names")
    numbers: list[Any] = prop([1], "Some numbers", type="list<uint8>")
    facts: dict[str, int] = prop({}, "Some facts")
    maybe: int | None = prop(None, "A number or nothing", type="uint8")
    tune: int = prop(0, "Settable late", type="uint8", mutable=True)
    class_: int = prop(0, "A name that is a keyword")
    best_leg: Leg | None = link("leg", "The best one")
    spare_leg: Leg | None = link("leg", "Another", strong=False)
    left: Leg = child("leg", "Left leg", length=20)
    left_length: int = alias("left", "length", "Length of the left leg")


@pytest.fixture
def registry() -> TypeRegistry:
    made = TypeRegistry()
    made.register(Table)
    made.register(Leg)
    return made


@pytest.fixture
def table(registry: TypeRegistry) -> Any:
    made = registry.new("table")
    Root(registry).add_child("table", made)
    return made


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("flag", "on", True),
        ("flag", "no", False),
        ("flag", True, True),
        ("number", "-12", -12),
        ("number", "0x7f", 127),
        ("small", -128, -128),
        ("port", "65535", 65535),
        ("wide", "0xffffffffffffffff", 2**64 - 1),
        ("irq", "15", 15),
        ("stride", 8, 8),
        ("memory", "1.5G", 3 << 29),
        ("memory", "2M", 2 << 20),
        ("memory", 1 << 20, 1 << 20),
        ("label", "on", "on"),
        ("colour", "green", "green"),
        ("speed", "fast", Speed.FAST),
        ("speed", Speed.FAST, Speed.FAST),
        ("names", "a,b", ["a", "b"]),
        ("names", '["a,b", "c"]', ["a,b", "c"]),
        ("numbers", "1,0x10", [1, 16]),
        ("numbers", (1, 2), [1, 2]),
        ("facts", "a=1,b=2", {"a": 1, "b": 2}),
        ("facts", {"a": 1}, {"a": 1}),
        ("maybe", None, None),
        ("maybe", "3", 3),
        ("class", 4, 4),
        ("left-length", "30", 30),
    ],
)
def test_a_value_or_a_text_is_converted_and_kept(table: Any, name: str, given: Any, kept: Any) -> None:
    table.set(name, given)
    assert table.get(name) == kept


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("flag", "maybe", "'maybe': expected on or off"),
        ("flag", 1, "1: expected on or off"),
        ("number", 2**63, f"{2**63}: expected an integer in {-(2**63)}..{2**63 - 1}"),
        ("number", "", "'': expected an integer in -9223372036854775808..9223372036854775807"),
        ("number", True, "True: expected an integer in -9223372036854775808..9223372036854775807"),
        ("small", 128, "128: expected an integer in -128..127"),
        ("port", "0x10000", "'0x10000': expected an integer in 0..65535"),
        ("port", 1.0, "1.0: expected an integer in 0..65535"),
        ("wide", -1, "-1: expected an integer in 0x0..0xffffffffffffffff"),
        ("irq", 16, "16: expected an integer in 0..15"),
        ("stride", 3, "3: expected an integer among 1, 2, 4, 8 bytes"),
        (
            "memory",
            "12Q",
            "'12Q': expected a size in bytes (suffixes k, M, G, T), in 1048576..18446744073709551615",
        ),
        ("memory", "1k", "'1k': expected a size in bytes (suffixes k, M, G, T), in 1048576..18446744073709551615"),
        ("label", 5, "5: expected a string"),
        ("colour", "blue", "'blue': expected one of 'red', 'green'"),
        ("speed", "medium", "'medium': expected one of 'slow', 'fast'"),
        ("names", [1], "[1]: expected a list of str"),
        ("numbers", "1,256", "'1,256': expected a list of uint8"),
        ("facts", "a", "'a': expected a mapping"),
        ("facts", "[", "'[': expected a mapping"),
        ("best-leg", 5, "5: expected an object of type 'leg', or its path"),
        ("best-leg", "/nowhere", "'/nowhere': expected an object of type 'leg', or its path (no object '/nowhere': / has"
         " no child 'nowhere')"),
        ("best-leg", "/table", "'/table (table)': expected an object of type 'leg', or its path"),
        ("left", None, "None: expected nothing (it cannot be set)"),
    ],
)  # fmt: skip
def test_the_error_names_path_property_value_and_what_would_be_right(
    table: Any, name: str, given: Any, message: str
) -> None:
    before = table.get(name)
    with pytest.raises(PropertyError) as error:
        table.set(name, given)
    assert str(error.value) == f"/table: property '{name}' cannot be {message}"
    assert (error.value.path, error.value.property) == ("/table", name)
    assert table.get(name) == before
    assert name not in table.user_set


def test_an_unknown_property_suggests(table: Any) -> None:
    with pytest.raises(UnknownProperty) as error:
        table.set("prot", 1)
    assert str(error.value) == "/table: 'table' has no property 'prot'; did you mean 'port'?"
    with pytest.raises(UnknownProperty, match=r"'table' has no property 'zzz'$"):
        table.get("zzz")


def test_a_value_is_a_plain_attribute_and_defaults_are_there_before_anyone_sets_them(registry: TypeRegistry) -> None:
    one, two = registry.new("table"), registry.new("table")
    assert one.__dict__["port"] == 0x2A0 and one.memory == 128 << 20
    one.names.append("x")
    assert two.names == []  # lists are not shared
    one.port = 7
    assert one.get("port") == 7 and one.user_set == set()
    one.set("port", 8)
    assert one.port == 8 and one.user_set == {"port"}


def test_only_a_choice_with_none_is_nullable() -> None:
    for annotation, kind, nullable in (
        (Optional[int], "int64", True),  # noqa: UP045 -- whoever spells it so
        (int | None, "int64", True),
        (list[int] | None, "list", True),
        (dict[str, type(None)], "dict", False),
    ):
        declared = prop({} if kind == "dict" else 0, "A thing")
        declared.name = "thing"
        declared._kind_from(annotation, {}, "here")
        assert (declared.kind, declared.nullable) == (kind, nullable)


def test_names_outside_have_hyphens(table: Any) -> None:
    table.set("left_length", 3)
    assert table.left.length == 3
    assert table.user_set == set()  # an alias is not configuration of its own
    assert table.left.user_set == {"length"}
    assert "left-length" in table.properties() and "class" in table.properties()


def test_required_properties(registry: TypeRegistry) -> None:
    @type_init("picky")
    class Picky(Object):
        wanted: int = prop(REQUIRED, "What it needs", type="uint8")
        stand: Leg | None = link("leg", "Where it stands", required=True)

    registry.register(Picky)
    obj = registry.new("picky")
    assert obj.get("wanted") is None
    with pytest.raises(MissingProperty) as error:
        obj.configure()
    assert str(error.value) == (
        "<picky not in a tree>: property 'wanted' is required: expected an integer in 0..255 (What it needs)"
    )
    obj.set("wanted", 1)
    with pytest.raises(MissingProperty, match="property 'stand' is required: expected an object of type 'leg'"):
        obj.configure()
    assert obj.life is Life.CREATED
    obj.stand = registry.new("leg")
    obj.configure()
    assert obj.life is Life.CONFIGURED


def test_after_realize_only_mutable_properties_are_set(table: Any) -> None:
    table.configure()
    move(table, Life.REALIZED)
    table.set("tune", 3)
    table.set("left-length", 4)
    with pytest.raises(PropertyLocked) as error:
        table.set("port", 1)
    assert str(error.value) == "/table: property 'port' cannot be set to 1: the object is realized"
    move(table, Life.UNREALIZED)
    table.set("port", 1)


def test_links_count_their_targets(registry: TypeRegistry) -> None:
    root = Root(registry)
    table, leg = registry.new("table"), registry.new("leg")
    root.add_child("table", table)
    root.add_child("leg", leg)
    table.best_leg = leg  # plain assignment is checked, too
    table.set("spare-leg", "leg")  # a partial path
    with pytest.raises(PropertyError, match="expected an object of type 'leg'"):
        table.best_leg = table
    leg.unparent()
    assert leg.life is Life.CREATED and table.best_leg is leg  # the strong link keeps it
    table.set("best-leg", None)
    assert leg.life is Life.FINALIZED
    assert table.spare_leg is None  # the weak one does not
    with pytest.raises(PropertyError, match=r"expected an object of type 'leg', or its path that is not finalized"):
        table.best_leg = leg


def test_a_link_can_be_refused_by_its_check(registry: TypeRegistry) -> None:
    def check(obj: Any, name: str, target: Any) -> None:
        if target.length < 5:
            raise PropertyError(obj.path, name, target.path, "a leg of at least 5")

    @type_init("chooser")
    class Chooser(Object):
        leg: Leg | None = link("leg", "A long one", check=check)

    registry.register(Chooser)
    chooser = registry.new("chooser")
    with pytest.raises(PropertyError, match="cannot be '<leg not in a tree>': expected a leg of at least 5"):
        chooser.leg = registry.new("leg", length=4)
    assert chooser.leg is None
    chooser.leg = registry.new("leg", length=5)


def test_finalizing_the_holder_drops_its_links(registry: TypeRegistry) -> None:
    root = Root(registry)
    table, leg = registry.new("table"), registry.new("leg")
    root.add_child("table", table)
    root.add_child("leg", leg)
    table.best_leg = leg
    leg.unparent()
    table.unparent()
    assert table.life is Life.FINALIZED and leg.life is Life.FINALIZED


def test_instances_get_properties_of_their_own(table: Any, registry: TypeRegistry) -> None:
    table.add_property(prop(3, "An extra", type="uint8", name="extra-one"))
    assert table.extra_one == 3 and table.get("extra-one") == 3
    table.set("extra-one", "4")
    assert table.extra_one == 4
    with pytest.raises(PropertyError, match=r"property 'extra-one' cannot be 256: expected an integer in 0\.\.255"):
        table.set("extra-one", 256)
    assert "extra-one" not in registry.new("table").properties()
    table.add_property(link("leg", "One child of a bus", name="child[0]"))
    leg = registry.new("leg")
    table.set("child[0]", leg)
    assert table.get("child[0]") is leg
    table.remove_property("child[0]")
    assert "child[0]" not in table.properties()
    table.remove_property("extra-one")
    with pytest.raises(UnknownProperty):
        table.get("extra-one")


def test_children_are_properties(table: Any, registry: TypeRegistry) -> None:
    table.add_child("right", registry.new("leg"))
    assert table.properties()["right"].type == "child<leg>"
    assert table.get("right") is table.child("right")
    assert table.left.length == 20 and table.left.parent is table


def test_set_and_get_functions(registry: TypeRegistry) -> None:
    seen: list[Any] = []

    @type_init("watched")
    class Watched(Object):
        power: bool = prop(False, "On or off", set=lambda obj, value: seen.append(value), mutable=True, volatile=True)
        half: int = prop(0, "Half the power", get=lambda obj: seen.count(True) // 2, type="uint8")

    registry.register(Watched)
    obj = registry.new("watched")
    obj.power = "on"
    obj.set("power", "yes")
    assert seen == [True, True] and obj.power is True and obj.user_set == set()
    assert obj.half == 1 and obj.get("half") == 1


def test_a_refused_set_function_leaves_the_value(registry: TypeRegistry) -> None:
    def refuse(obj: Any, value: Any) -> None:
        raise PropertyError(obj.path, "power", value, "no power at all")

    @type_init("refusing")
    class Refusing(Object):
        power: bool = prop(False, "On or off", set=refuse)

    registry.register(Refusing)
    obj = registry.new("refusing")
    with pytest.raises(PropertyError, match="cannot be True: expected no power at all"):
        obj.power = True
    assert obj.power is False


def test_a_subclass_changes_a_default_by_a_plain_value(registry: TypeRegistry) -> None:
    @type_init("low-table")
    class LowTable(Table):
        port = 0x300
        memory = "2M"

    registry.register(LowTable)
    assert registry.new("low-table").port == 0x300
    assert registry.new("low-table").memory == 2 << 20
    assert registry.get("low-table").properties["port"].default_text == "768"
    assert registry.new("table").port == 0x2A0


def wrong_default() -> None:
    @type_init("w")
    class W(Object):
        port: int = prop(70000, "A port", type="uint16")


def no_description() -> None:
    @type_init("w")
    class W(Object):
        port: int = prop(1, " ")


def no_type() -> None:
    @type_init("w")
    class W(Object):
        port: object = prop(1, "A port")


def unknown_kind() -> None:
    @type_init("w")
    class W(Object):
        port: int = prop(1, "A port", type="uint12")


def shared_list() -> None:
    @type_init("w")
    class W(Object):
        from qom import state

        buffer: list[int] = state(reset=[])


def hides_method() -> None:
    @type_init("w")
    class W(Object):
        path: str = prop("", "A path")


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (wrong_default, "W: property 'port' has the default 70000: expected an integer in 0..65535"),
        (no_description, "W: property 'port' has no description"),
        (no_type, "W: property 'port': no property type follows from the annotation 'object': give type="),
        (unknown_kind, "W: property 'port' has the unknown type 'uint12': expected one of alias, bool, child, dict, enum,"
         " int16, int32, int64, int8, link, list, size, str, uint16, uint32, uint64, uint8"),
        (shared_list, "state(): a list would be shared by all instances: give factory="),
        (hides_method, "W.path would hide what its base class has under that name: expected another attribute"
         " (a property keeps its outer name by name=)"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_shows_when_its_module_is_imported(declare: Any, message: str) -> None:
    with pytest.raises(TypeRegistryError) as error:
        declare()
    assert str(error.value) == message


def test_describe_says_it_all(registry: TypeRegistry) -> None:
    assert registry.get("table").properties["stride"].describe() == {
        "name": "stride",
        "type": "int64",
        "description": "A step",
        "default": "4",
        "required": False,
        "mutable": False,
        "unit": "bytes",
        "among": [1, 2, 4, 8],
    }
    assert registry.get("table").properties["memory"].default_text == "128M"


@STEADY
@given(st.integers(min_value=0, max_value=2**63))
def test_sizes_survive_formatting(value: int) -> None:
    assert parse_size(format_size(value)) == value


@STEADY
@given(st.sampled_from(["small", "port", "wide", "number"]), st.integers(min_value=-(2**70), max_value=2**70))
def test_integers_keep_exactly_what_is_in_range(name: str, value: int) -> None:
    registry = TypeRegistry()
    registry.register(Table)
    registry.register(Leg)
    obj = registry.new("table")
    low, high = obj.find_property(name).limits()
    for given_value in (value, str(value), hex(value)):
        try:
            obj.set(name, given_value)
        except PropertyError:
            assert not low <= value <= high
        else:
            assert low <= value <= high and obj.get(name) == value
