"""Record classes: what attrs would make of the same class, by whichever way an object was made, and both ways round."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qom import records
from qom.records import MANY


def classes(of: Any) -> list[Any]:
    """The same classes made by attrs, and here."""

    @of.define
    class Plain:
        name: str
        count: int = 3
        _hidden: str = "h"
        many: list[int] = of.field(factory=list)
        quiet: int = of.field(default=0, eq=False, repr=False)
        fixed: int = of.field(default=7, init=False)
        shared: ClassVar[int] = 5

    @of.frozen
    class Frozen(Plain):
        last: tuple[int, ...] = of.field(default=(), converter=tuple)

    @of.frozen(order=True, kw_only=True)
    class Ordered:
        b: int
        a: int = 0

    @of.define(eq=False, repr=False)
    class Bare:
        x: int = 1

    @of.define
    class Own:
        x: int

        def __init__(self, x: int) -> None:
            self.__attrs_init__(x * 2) if hasattr(self, "__attrs_init__") else setattr(self, "x", x * 2)

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return other == "own"

    @of.define
    class By:
        x: int = of.field(eq=lambda value: value % 10)

        def __attrs_post_init__(self) -> None:
            self.x += 1

    return [Plain, Frozen, Ordered, Bare, Own, By]


CALLS: list[tuple[int, tuple[Any, ...], dict[str, Any]]] = [
    (0, ("n",), {}),
    (0, ("n", 4, "x", [1], 2), {}),
    (0, (), {"name": "n", "hidden": "y", "quiet": 8}),
    (0, ("n",), {"many": [1, 2]}),
    (0, (), {}),
    (0, ("n",), {"name": "m"}),
    (0, ("n",), {"nmae": "m"}),
    (0, ("n",), {"fixed": 1}),
    (0, ("n", 1, "h", [], 0, 9), {}),
    (0, ("n",), {"_hidden": "y"}),
    (1, ("n",), {"last": [1, 2]}),
    (1, ("n", 4, "x", [1], 2, [3]), {}),
    (2, (), {"b": 1}),
    (2, (), {"b": 1, "a": 2}),
    (2, (1,), {}),
    (2, (), {}),
    (3, (), {}),
    (3, (5,), {}),
    (4, (5,), {}),
    (5, (21,), {}),
]


def outcome(cls: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What making it gives: the fields and how it shows itself, or the error's text."""
    try:
        made = cls(*args, **named)
    except TypeError as error:
        return str(error)
    text = repr(made)
    return attrs.asdict(made), "" if " at 0x" in text else text


@pytest.mark.parametrize(("which", "args", "named"), CALLS)
def test_objects_are_as_those_of_attrs_however_many_there_are(
    which: int, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    theirs, ours = classes(attrs)[which], classes(records)[which]
    wanted = outcome(theirs, args, named)
    for _ in range(MANY + 3):
        assert outcome(ours, args, named) == wanted


def test_comparing_and_hashing_are_as_with_attrs() -> None:
    for of in (attrs, records):
        plain, frozen, ordered, bare, own, by = classes(of)
        assert plain("a") == plain("a", quiet=9) and plain("a") != plain("b") and plain("a") != frozen("a")
        assert (plain("a") == 5) is False
        with pytest.raises(TypeError, match="unhashable type: 'Plain'"):
            hash(plain("a"))
        assert len({frozen("a", many=()), frozen("a", many=(), quiet=1), frozen("b", many=())}) == 2
        assert ordered(b=1) < ordered(b=1, a=1) <= ordered(b=2) and max(ordered(b=3), ordered(b=4)).b == 4
        assert ordered(b=2) > ordered(b=1) and ordered(b=2) >= ordered(b=2)
        with pytest.raises(TypeError):
            assert ordered(b=1) < 5
        assert bare() != bare() and len({bare(), bare()}) == 2
        assert own(1) == "own" and own(2).x == 4
        assert by(11) == by(1) and by(11) != by(2)


def test_fields_of_a_frozen_record_cannot_be_changed() -> None:
    made = classes(records)[1]("n")
    with pytest.raises(AttributeError) as raised:
        made.name = "m"
    assert str(raised.value) == "'name' of a Frozen cannot be changed: it is frozen"
    with pytest.raises(AttributeError) as raised:
        del made.count
    assert str(raised.value) == "'count' of a Frozen cannot be changed: it is frozen"
    plain = classes(records)[0]("n")
    plain.name = "m"
    assert plain.name == "m"


def test_each_object_has_its_own_list() -> None:
    plain = classes(records)[0]
    made = [plain("a") for _ in range(MANY + 3)]
    made[0].many.append(1)
    made[-1].many.append(2)
    assert [m.many for m in made if m.many] == [[1], [2]]


def test_the_functions_work_with_classes_of_attrs_and_those_of_attrs_with_ours() -> None:
    for of, other in ((attrs, records), (records, attrs)):
        plain, frozen = classes(of)[:2]
        made = frozen("n", 4, last=[1])
        assert other.has(frozen) and other.has(plain) and not other.has(int)
        assert other.evolve(made, name="m", hidden="k") == frozen("m", 4, "k", last=(1,))
        assert other.asdict(made) == {
            "name": "n", "count": 4, "_hidden": "h", "many": [], "quiet": 0, "fixed": 7, "last": (1,)
        }  # fmt: skip
        assert other.astuple(made) == ("n", 4, "h", [], 0, 7, (1,))
        assert [f.name for f in other.fields(frozen)] == ["name", "count", "_hidden", "many", "quiet", "fixed", "last"]
    with pytest.raises(TypeError) as raised:
        records.fields(int)
    assert str(raised.value) == "<class 'int'> is no record"
    with pytest.raises(TypeError, match="nmae"):
        records.evolve(classes(records)[0]("n"), nmae="m")


def test_the_signature_is_that_of_the_fields() -> None:
    for which in range(6):
        theirs, ours = classes(attrs)[which], classes(records)[which]
        wanted = inspect.signature(theirs)
        found = inspect.signature(ours)
        assert [(p.name, p.kind, p.annotation) for p in found.parameters.values()] == [
            (p.name, p.kind, p.annotation) for p in wanted.parameters.values()
        ]
        outcome(ours, (1,), {})

    class Child(classes(records)[0]):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__("child")

    assert str(inspect.signature(Child)) == "() -> 'None'"
    assert Child().name == "child"


@records.frozen
class Kept:
    """At the module's top, as pickle wants it."""

    name: str
    notes: list[str] = records.field(factory=list)


def test_records_can_be_copied_and_pickled() -> None:
    made = Kept("n", ["a"])
    assert pickle.loads(pickle.dumps(made)) == made
    deep = copy.deepcopy(made)
    assert deep == made and deep.notes is not made.notes and copy.copy(made).notes is made.notes


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3)), max_size=8))
def test_order_is_that_of_tuples(given: list[tuple[str, int]]) -> None:
    @records.frozen(order=True)
    class Pair:
        a: str
        b: int

    assert [records.astuple(p) for p in sorted(Pair(*g) for g in given)] == sorted(given)


def test_wrong_declarations() -> None:
    with pytest.raises(TypeError) as raised:

        @records.define
        class Late:
            a: int = 1
            b: str

    assert str(raised.value) == "Late: 'b' has no default, and 'a' before it has one"
    with pytest.raises(TypeError) as raised:

        @records.define
        class Bare:
            a = records.field(default=1)

    assert str(raised.value) == "Bare.a is a field without an annotation"


def test_nothing_slow_is_imported_for_them() -> None:
    code = (
        "import sys; import qom.records; print(sorted({'attr', 'attrs', 'inspect', 'dataclasses'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
