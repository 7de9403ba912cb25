"""Types of what goes over a monitor: QAPI's, made from Python annotations.

| annotation | QAPI |
|---|---|
| `str`, `int`, `float`, `bool`, `None`, `Any` | string, integer, number, boolean, null, any |
| `Literal["a", "b"]` | an enumeration |
| `list[T]` | an array |
| a `TypedDict` | an object; `NotRequired` members are optional |
| `Annotated[dict[str, Any], Variants(...)]` | an object with variants chosen by one member (a flat union) |
| `Annotated[dict[str, Any], Open(T)]` | the object T with any members besides |
| `X | Y` of different JSON types | an alternate |
| `Annotated[int, Bits("uint8")]` | an integer of that range |

`of` turns an annotation into one of the types below, which check values (`check`) and describe themselves for
query-qmp-schema (qom/monitor/schema.py).  Texts of errors begin as QEMU's do; what would be right follows.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin

from qom.errors import QomError, did_you_mean
from qom.options import shown
from qom.properties import INT_RANGES

__all__ = ["ANY", "EMPTY", "Alternate", "Array", "Bits", "Builtin", "Enum", "Member", "Open", "Struct", "Type",
           "Variants", "WrongArgument", "of", "of_members"]  # fmt: skip


class WrongArgument(QomError):
    """A value that does not fit its type; the text names the member and what would be right."""


class Bits:
    """The range of an integer: the name of a C type, "uint8" to "int64"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.low, self.high = INT_RANGES[name]


class Open:
    """Marks an object that takes any members besides those of `base` (a TypedDict)."""

    def __init__(self, base: Any) -> None:
        self.base = base


class Variants:
    """An object whose further members depend on one of them.

    Args:
        tag: the name of the member that chooses; a Literal member of `base`.
        base: a TypedDict with the members that are always there.
        cases: for values of the tag, a TypedDict with further members; a value that is not named has none.
    """

    def __init__(self, tag: str, base: Any, cases: Mapping[str, Any]) -> None:
        self.tag, self.base, self.cases = tag, base, cases


class Type:
    """One type; `json` is its JSON type as introspection names it, `expected` as errors do."""

    json = "value"
    expected = "any value"

    def check(self, value: Any, where: str) -> None:
        """Hold `value` against the type.

        Args:
            value: as read from JSON.
            where: the name of the member, with its path ("props.size", "keys[0]"); "" for the whole.

        Raises:
            WrongArgument: it does not fit.
        """
        raise NotImplementedError

    def refuse(self, value: Any, where: str) -> WrongArgument:
        """The error for a value of a wrong JSON type."""
        return WrongArgument(f"Invalid parameter type for '{where}', expected: {self.expected}; got {shown(value)}")

    def takes(self, value: Any) -> bool:
        """Whether the JSON type of `value` is this type's (for alternates)."""
        return _json_type(value) == self.json or (self.json == "number" and _json_type(value) == "int")


class Builtin(Type):
    """A string, integer, number, boolean, null or any value."""

    def __init__(self, json: str, expected: str, bits: Bits | None = None) -> None:
        self.json, self.expected, self.bits = json, expected, bits

    def check(self, value: Any, where: str) -> None:
        """Hold `value` against the type (see `Type.check`)."""
        if self.json == "value":
            return
        found = _json_type(value)
        if found != self.json and not (self.json == "number" and found == "int"):
            raise self.refuse(value, where)
        if self.json == "int":
            low, high = (self.bits.low, self.bits.high) if self.bits else (-(1 << 63), (1 << 64) - 1)
            if not low <= value <= high:
                if self.bits is None:
                    raise self.refuse(value, where)
                raise WrongArgument(f"Parameter '{where}' expects {self.bits.name}: {low}..{high}; got {value}")


class Enum(Type):
    """One of a few words."""

    json, expected = "string", "string"

    def __init__(self, values: tuple[str, ...]) -> None:
        self.values = values

    def check(self, value: Any, where: str) -> None:
        """Hold `value` against the type (see `Type.check`)."""
        if not isinstance(value, str):
            raise self.refuse(value, where)
        if value not in self.values:
            words = ", ".join(self.values) if len(self.values) <= 24 else f"{len(self.values)} words"
            near = did_you_mean(value, self.values)
            raise WrongArgument(f"Parameter '{where}' does not accept value {value!r}: expected one of {words}{near}")


class Array(Type):
    """A list of one type."""

    json, expected = "array", "array"

    def __init__(self, item: Type) -> None:
        self.item = item

    def check(self, value: Any, where: str) -> None:
        """Hold `value` against the type (see `Type.check`)."""
        if not isinstance(value, list | tuple):
            raise self.refuse(value, where)
        for number, item in enumerate(value):
            self.item.check(item, f"{where}[{number}]")


class Member:
    """A member of an object."""

    __slots__ = ("optional", "type")

    def __init__(self, type: Type, optional: bool) -> None:
        self.type, self.optional = type, optional


class Struct(Type):
    """An object: named members, and with `tag` those of the case that the member of that name chooses.

    open: it takes any other members besides.
    """

    json, expected = "object", "object"

    def __init__(
        self,
        members: dict[str, Member],
        *,
        open: bool = False,
        tag: str = "",
        cases: dict[str, Struct] | None = None,
    ) -> None:
        self.members, self.open, self.tag, self.cases = members, open, tag, cases or {}

    def check(self, value: Any, where: str) -> None:
        """Hold `value` against the type (see `Type.check`)."""
        if not isinstance(value, Mapping):
            raise self.refuse(value, where)
        members = self.members_for(value)
        inner = f"{where}." if where else ""
        for name, member in members.items():
            if name in value:
                member.type.check(value[name], inner + name)
            elif not member.optional:
                raise WrongArgument(f"Parameter '{inner}{name}' is missing: expected {_what(member.type)}")
        if not self.open and len(value) > 0:
            for name in value:
                if name not in members:
                    near = did_you_mean(str(name), members)
                    known = "" if near else f"; expected: {', '.join(members)}" if members else "; expected none"
                    raise WrongArgument(f"Parameter '{inner}{name}' is unexpected{near or known}")

    def members_for(self, value: Mapping[str, Any]) -> dict[str, Member]:
        """The members that `value` may have."""
        case = self.cases.get(chosen) if self.tag and isinstance(chosen := value.get(self.tag), str) else None
        return self.members if case is None else {**self.members, **case.members_for(value)}


class Alternate(Type):
    """One of several types with different JSON types."""

    def __init__(self, types: tuple[Type, ...]) -> None:
        self.types = types
        self.expected = " or ".join(dict.fromkeys(each.expected for each in types))

    def check(self, value: Any, where: str) -> None:
        """Hold `value` against the type (see `Type.check`)."""
        for each in self.types:
            if each.takes(value):
                each.check(value, where)
                return
        raise self.refuse(value, where)

    def takes(self, value: Any) -> bool:
        """Whether one of them does."""
        return any(each.takes(value) for each in self.types)


ANY = Builtin("value", "any value")
EMPTY = Struct({})
_PLAIN: dict[Any, Type] = {
    str: Builtin("string", "string"),
    int: Builtin("int", "integer"),
    float: Builtin("number", "number"),
    bool: Builtin("boolean", "boolean"),
    type(None): Builtin("null", "null"),
    None: Builtin("null", "null"),
    Any: ANY,
    object: ANY,
}
_made: dict[Any, Type] = {}


def of(annotation: Any) -> Type:
    """The type an annotation stands for; the same annotation always gives the same object.

    Raises:
        TypeError: it stands for none.
    """
    found = _PLAIN.get(annotation) if isinstance(annotation, typing.Hashable) else None
    if found is not None:
        return found
    key = id(annotation) if typing.is_typeddict(annotation) else annotation
    try:
        return _made[key]
    except KeyError:
        pass
    if typing.is_typeddict(annotation):  # first, so that it may contain itself
        struct = _made[key] = Struct({})
        _KEPT.append(annotation)
        struct.members = _members(annotation)
        return struct
    made = _made[key] = _make(annotation)
    return made


_KEPT: list[Any] = []  # so that no other object gets the id of a TypedDict


def _make(annotation: Any) -> Type:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return Enum(tuple(args))
    if origin is list:
        return Array(of(args[0]))
    if origin is dict:
        return Struct({}, open=True)
    if origin is typing.Annotated:
        for mark in args[1:]:
            if isinstance(mark, Bits):
                return Builtin("int", "integer", mark)
            if isinstance(mark, Open):
                base = of(mark.base)
                assert isinstance(base, Struct)
                return Struct(base.members, open=True)
            if isinstance(mark, Variants):
                return _variants(mark)
        return of(args[0])
    if origin in (Required, NotRequired):
        return of(args[0])
    if origin in (Union, types.UnionType):
        return Alternate(tuple(of(each) for each in args))
    raise TypeError(f"{annotation!r} is no type for a monitor: see qom/monitor/qapi.py")


def _variants(mark: Variants) -> Struct:
    base = of(mark.base)
    assert isinstance(base, Struct)
    cases: dict[str, Struct] = {}
    for name, case in mark.cases.items():
        made = of(case)
        assert isinstance(made, Struct)
        cases[name] = made
    return Struct(base.members, tag=mark.tag, cases=cases)


def _members(annotation: Any) -> dict[str, Member]:
    hints = typing.get_type_hints(annotation, include_extras=True)
    needed = annotation.__required_keys__  # which does not know of NotRequired in annotations that are texts
    return {name: Member(of(h), name not in needed or get_origin(h) is NotRequired) for name, h in hints.items()}


def of_members(members: Mapping[str, tuple[Any, bool]], *, open: bool = False) -> Struct:
    """An object of `members`: the annotation of each, and whether it is optional."""
    if not members and not open:
        return EMPTY
    return Struct({name: Member(of(hint), optional) for name, (hint, optional) in members.items()}, open=open)


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "object"
    return "array" if isinstance(value, list | tuple) else "nothing"


def _what(type: Type) -> str:
    if isinstance(type, Enum):
        return "one of " + ", ".join(type.values[:24])
    return type.expected
