"""Properties and state fields: declared in class bodies, compiled once per type, stored as plain attributes.

    iobase: int = prop(0x2A0, "First I/O port", type="uint16")
    bus: IsaBus | None = link("isa-bus", "The bus it sits on", required=True)
    limit: int = state(reset=1000)

A value lives in the instance `__dict__`, so reading and writing the attribute costs what a plain attribute costs and is
not checked; `Object.set()` is the checked way, used by everything that comes from outside.  Three kinds of declaration
intercept plain assignment because something hangs on it: links (references are counted), properties with a `set=` or
`get=` function, and aliases.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable, Container, Mapping, Sequence

from qom import records
from qom.blame import blame, passes, place_of, shown
from qom.errors import (
    ObjectFault,
    PropertyError,
    PropertyLocked,
    QomError,
    StateError,
    TypeRegistryError,
    UnknownProperty,
)
from qom.lifecycle import SETTABLE, Life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from qom.object import Object

    Getter = Callable[[Any], Any]
    Setter = Callable[[Any, Any], None]
    Check = Callable[[Any, str, Any], None]


class _Required(enum.Enum):
    REQUIRED = "required"

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required.REQUIRED
"""As a default: the property has none and must be set before realize."""

INT_RANGES: Final[dict[str, tuple[int, int]]] = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for bits in (8, 16, 32, 64)
    for sign in ("", "u")
}
KINDS: Final = frozenset({*INT_RANGES, "bool", "size", "str", "enum", "list", "dict", "link", "child", "alias"})


def outer_name(attr: str) -> str:
    """The property name of a Python attribute: `tick_ns` is `tick-ns`, `class_` is `class`."""
    return attr.rstrip("_").replace("_", "-")


def inner_name(name: str) -> str:
    """The Python attribute of a property name, where the declaration does not say otherwise."""
    attr = name.replace("-", "_")
    return attr if attr.isidentifier() else f"_prop_{attr}"


class Property:
    """One property: what it is called, what it takes, and how it is set.

    Made by `prop()`, `link()`, `child()` and `alias()`.  `name` and `attr` are known once the class body is complete.
    """

    __slots__ = (
        "among",
        "attr",
        "base",
        "child_props",
        "default",
        "desc",
        "enum",
        "get",
        "high",
        "item",
        "kind",
        "link_check",
        "listed",
        "low",
        "max",
        "min",
        "mutable",
        "name",
        "nullable",
        "set",
        "setter",
        "strong",
        "target",
        "unit",
        "volatile",
    )

    def __init__(self, kind: str | None, default: Any, desc: str, **facts: Any) -> None:
        self.kind: str = kind or ""
        self.default: Any = default
        self.desc: str = desc
        self.name: str = facts.get("name") or ""
        self.attr: str = ""
        self.among: Container[Any] | None = facts.get("among")
        self.min: int | None = facts.get("min")
        self.max: int | None = facts.get("max")
        self.unit: str | None = facts.get("unit")
        self.base: int = facts.get("base", 10)
        self.mutable: bool = facts.get("mutable", False)
        self.volatile: bool = facts.get("volatile", False)
        self.get: Getter | None = facts.get("get")
        self.set: Setter | None = facts.get("set")
        self.enum: type[enum.Enum] | None = facts.get("enum")
        self.item: str | None = facts.get("item")
        self.low: int = 1  # together with `high`: the range of plain integers, empty until bound
        self.high: int = 0
        self.listed: Container[Any] | None = None  # what must be looked up: `among`, unless it is a plain range
        self.nullable: bool = default is None
        self.target: str = facts.get("target", "")  # type name of a link or child; "path.prop" of an alias
        self.strong: bool = facts.get("strong", True)
        self.link_check: Check | None = facts.get("check")
        self.child_props: dict[str, Any] = facts.get("child_props", {})
        self.setter: Callable[[Object, Property, Any], None] = _unbound

    def __set_name__(self, owner: type, attr: str) -> None:
        if self.attr:
            raise TypeError(f"{owner.__name__}.{attr}: this declaration already belongs to '{self.attr}'")
        self.attr = attr
        self.name = self.name or outer_name(attr)

    def __repr__(self) -> str:
        return f"<Property {self.name} {self.type}>"

    # What a user is told

    @property
    def required(self) -> bool:
        """Whether it must be set before realize."""
        return self.default is REQUIRED

    @property
    def type(self) -> str:
        """The type as `-device NAME,help` prints it: `uint16`, `link<isa-bus>`, `list<str>`."""
        if self.kind in ("link", "child"):
            return f"{self.kind}<{self.target}>"
        if self.kind in ("list", "dict") and self.item:
            return f"{self.kind}<{self.item}>"
        return self.kind

    @property
    def default_text(self) -> str:
        """The default as text, or "required"."""
        if self.default is REQUIRED:
            return "required"
        if self.kind in ("child", "alias"):
            return "itself"
        return to_text(self, self.default) or '""'

    @property
    def choices(self) -> list[Any] | None:
        """The values allowed, where they can be listed."""
        if self.enum is not None:
            return [m.value for m in self.enum]
        if self.among is not None and isinstance(self.among, Sequence | set | frozenset | Mapping):
            return list(self.among) if isinstance(self.among, Sequence) else sorted(self.among, key=str)
        return None

    def expected(self) -> str:
        """What would be right, in words, for error messages and help."""
        text = self._expected()
        return f"{text} {self.unit}" if self.unit and self.kind not in ("size",) else text

    def _expected(self) -> str:
        kind = self.kind
        if kind == "bool":
            return "on or off"
        if kind == "enum" or (kind == "str" and self.among is not None):
            return "one of " + ", ".join(repr(c) for c in self.choices or ())
        if kind in INT_RANGES or kind == "size":
            noun = "an integer" if kind in INT_RANGES else "a size in bytes (suffixes k, M, G, T)"
            among = self.among
            if isinstance(among, range) and among.step == 1 and len(among):
                return f"{noun} in {among[0]}..{among[-1]}"
            if among is not None:
                return f"{noun} among " + ", ".join(str(c) for c in self.choices or (among,))
            low, high = self.limits()
            if kind == "size":
                return noun if (low, high) == INT_RANGES["uint64"] else f"{noun}, in {low}..{high}"
            span = f"{low:#x}..{high:#x}" if low == 0 and high > 0xFFFF else f"{low}..{high}"
            return f"{noun} in {span}"
        if kind == "str":
            return "a string"
        if kind == "list":
            return f"a list of {self.item}" if self.item else "a list"
        if kind == "dict":
            return "a mapping"
        if kind == "link":
            return f"an object of type '{self.target}', or its path"
        return "nothing (it cannot be set)"

    def limits(self) -> tuple[int, int]:
        """Lowest and highest value of an integer or size property."""
        low, high = INT_RANGES.get(self.kind, INT_RANGES["uint64"])
        return (low if self.min is None else self.min, high if self.max is None else self.max)

    def describe(self) -> dict[str, Any]:
        """Everything known about it as plain data, for help, schema and documentation."""
        facts: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "description": self.desc,
            "default": self.default_text,
            "required": self.required,
            "mutable": self.mutable,
        }
        if self.unit:
            facts["unit"] = self.unit
        if self.base != 10:
            facts["base"] = self.base
        if (choices := self.choices) is not None:
            facts["among"] = choices
        elif self.kind in INT_RANGES or self.kind == "size":
            facts["min"], facts["max"] = self.limits()
        return facts

    # Setting

    def reject(self, obj: Object, value: object) -> PropertyError:
        """The error for a value this property cannot take."""
        return PropertyError(obj.path, self.name, value, self.expected())

    def store(self, obj: Object, value: Any) -> None:
        """Put a checked value where it belongs: through `set=` when there is one, and into the instance."""
        if self.set is not None:
            self.set(obj, value)
        if self.get is None:
            obj.__dict__[self.attr] = value

    def read(self, obj: Object) -> Any:
        """The current value; for a required property nobody set yet, None."""
        return self.get(obj) if self.get is not None else obj.__dict__.get(self.attr)

    def _copied(self) -> Property:
        """Another property that is declared the same."""
        made = object.__new__(type(self))
        for fact in Property.__slots__:
            setattr(made, fact, getattr(self, fact))
        return made

    def with_default(self, default: Any, owner: str) -> Property:
        """A copy with another default: what a subclass gets that assigns a plain value in its body."""
        made = self._copied()
        made.default = default
        made._check_default(f"{owner}: property '{self.name}'")
        return made

    def bind(self, owner: str, annotation: Any = None, namespace: Mapping[str, Any] | None = None) -> None:
        """Complete the declaration from its annotation and check it; `owner` names the class in errors."""
        if self.setter is not _unbound:
            return
        where = f"{owner}: property '{self.name}'"
        if not self.desc or not self.desc.strip():
            raise TypeRegistryError(f"{where} has no description")
        if not self.kind or (self.kind == "enum" and self.enum is None and self.among is None):
            self._kind_from(annotation, namespace or {}, where)
        if "<" in self.kind:
            import re

            if match := re.fullmatch(r"(list|dict)<([^<>]+)>", self.kind):
                self.kind, self.item = match[1], match[2]
        if self.kind not in KINDS:
            raise TypeRegistryError(
                f"{where} has the unknown type '{self.kind}': expected one of {', '.join(sorted(KINDS))}"
            )
        if self.item is not None and self.item not in KINDS - {"link", "child", "alias", "list", "dict", "enum"}:
            raise TypeRegistryError(f"{where}: '{self.kind}<{self.item}>': items must be bool, an integer, size or str")
        if self.kind == "enum" and self.enum is None and self.among is None:
            raise TypeRegistryError(f"{where} is an enum without values: annotate it with an Enum class or give among=")
        if isinstance(self.default, list | dict | set | bytearray):
            import copy

            self.default = copy.deepcopy(self.default)
        if self.kind in INT_RANGES or self.kind == "size":
            self.low, self.high = self.limits()
            if isinstance(self.among, range) and self.among.step == 1:
                self.low, self.high = max(self.low, self.among.start), min(self.high, self.among.stop - 1)
            else:
                self.listed = self.among
        self.setter = _SETTERS.get(self.kind, property_set_checked)
        self._check_default(where)

    def _kind_from(self, annotation: Any, namespace: Mapping[str, Any], where: str) -> None:
        found = _evaluate(annotation, namespace, where)
        origin = getattr(found, "__origin__", None)
        if isinstance(found, types.UnionType) or (origin is not None and origin is _typing("Union")):
            args = [a for a in found.__args__ if a is not type(None)]
            if len(args) == 1:
                self.nullable, found = True, args[0]
                origin = getattr(found, "__origin__", None)
        if isinstance(found, type) and issubclass(found, enum.Enum):
            self.kind, self.enum = "enum", found
        elif found in _PLAIN:
            self.kind = _PLAIN[found]
        elif origin in (list, dict):
            self.kind = "list" if origin is list else "dict"
            self.item = _PLAIN.get(found.__args__[-1])
        else:
            raise TypeRegistryError(f"{where}: no property type follows from the annotation {annotation!r}: give type=")

    def _check_default(self, where: str) -> None:
        if self.default is REQUIRED or self.default is None or self.kind in ("link", "child", "alias"):
            return
        try:
            self.default = checked(self, self.default)
        except ValueError as error:
            raise TypeRegistryError(f"{where} has the default {self.default!r}: expected {error}") from None


class WatchedProperty(Property):
    """A property whose plain assignment is the checked one too; reading stays a plain attribute access."""

    __slots__ = ()

    def __set__(self, obj: Object, value: Any) -> None:
        object_property_set(obj, self.name, value)


class ComputedProperty(WatchedProperty):
    """A property whose value is computed (`get=`), or lives in another object (an alias)."""

    __slots__ = ()

    def __get__(self, obj: Object | None, owner: type | None = None) -> Any:
        return self if obj is None else self.read(obj)


class AliasProperty(ComputedProperty):
    """Another name for a property of an object below this one; `target` is "path.property"."""

    __slots__ = ()

    def where(self, obj: Object) -> tuple[Object, str]:
        """The object and the property name it stands for."""
        if self.target.startswith("."):  # of this object; its name may have a dot
            return obj, self.target[1:]
        path, _, name = self.target.rpartition(".")
        return obj.resolve(path), name

    def read(self, obj: Object) -> Any:
        """The target's value."""
        target, name = self.where(obj)
        return target.get(name)

    def store(self, obj: Object, value: Any) -> None:
        """Set the target, under the target's own rules."""
        target, name = self.where(obj)
        target.set(name, value)


# Declarations


def prop(
    default: Any,
    desc: str,
    *,
    type: str | None = None,
    among: Container[Any] | None = None,
    min: int | None = None,
    max: int | None = None,
    unit: str | None = None,
    base: int = 10,
    mutable: bool = False,
    get: Getter | None = None,
    set: Setter | None = None,
    name: str | None = None,
    volatile: bool = False,
) -> Any:
    """Declare a property in a class body.

    default: the value before anyone sets it, or `REQUIRED`.  desc: what it means, one line.
    type: bool, int8..int64, uint8..uint64, size, str, enum, list, dict, `list<T>`; omitted: from the annotation
    (bool, int as int64, str, an Enum class, list, dict, each also `| None`).
    among: the allowed values.  min, max: inclusive bounds.  unit: what a number counts.
    base: 16 for a number that people read in hexadecimal (ports, addresses, masks); it is shown so.
    mutable: may be set after realize.  name: the outer name where it is not the attribute's.
    set: called as set(object, checked value) in place of nothing; the value is stored after it returns.
    get: computes the value; then nothing is stored.  volatile: not configuration (`realized`), never written back.
    """
    cls = ComputedProperty if get is not None else WatchedProperty if set is not None else Property
    return cls(
        type, default, desc, among=among, min=min, max=max, unit=unit, base=base, mutable=mutable, get=get, set=set,
        name=name, volatile=volatile,
    )  # fmt: skip


def link(
    target: str,
    desc: str,
    *,
    strong: bool = True,
    required: bool = False,
    check: Check | None = None,
    mutable: bool = False,
    name: str | None = None,
) -> Any:
    """Declare a reference to an object of type `target`; None until set.

    strong: the target is not finalized while referred to; a weak link becomes None when its target is finalized.
    check: called as check(object, property name, target); raises to refuse.
    """
    default = REQUIRED if required else None
    return WatchedProperty("link", default, desc, target=target, strong=strong, check=check, mutable=mutable, name=name)


def child(target: str, desc: str, *, name: str | None = None, **props: Any) -> Any:
    """Declare a part: an object of type `target`, created with this one as its child and kept in the attribute."""
    return Property("child", None, desc, target=target, child_props=props, name=name)


def alias(path: str, target: str, desc: str, *, name: str | None = None, mutable: bool = True) -> Any:
    """Declare another name for the property `target` of the object at `path` below this one ("" is this one)."""
    return AliasProperty("alias", None, desc, target=f"{path}.{target}", name=name, mutable=mutable, volatile=True)


class StateField:
    """One declared piece of state: what reset gives it, and whether reset touches it at all."""

    __slots__ = ("attr", "desc", "factory", "keep", "reset")

    def __init__(self, reset: Any, factory: Callable[[], Any] | None, keep: bool, desc: str) -> None:
        self.reset, self.factory, self.keep, self.desc = reset, factory, keep, desc
        self.attr = ""

    def __set_name__(self, owner: type, attr: str) -> None:
        if self.attr:
            raise TypeError(f"{owner.__name__}.{attr}: this declaration already belongs to '{self.attr}'")
        self.attr = attr

    def value(self) -> Any:
        """A fresh reset value."""
        return self.reset if self.factory is None else self.factory()


def state(reset: Any = 0, *, factory: Callable[[], Any] | None = None, keep: bool = False, desc: str = "") -> Any:
    """Declare state the guest can change: it survives snapshots, and reset gives it back its reset value.

    factory: makes the reset value, for lists, dicts, bytearrays and the like.  keep: reset leaves it alone
    (battery-backed memory); the reset value is then only its first one.
    """
    if factory is None and isinstance(reset, list | dict | set | bytearray):
        raise TypeRegistryError(f"state(): a {type(reset).__name__} would be shared by all instances: give factory=")
    return StateField(reset, factory, keep, desc)


# Text


_BOOLS: Final = {
    "on": True,
    "true": True,
    "yes": True,
    "1": True,
    "off": False,
    "false": False,
    "no": False,
    "0": False,
}
_SUFFIXES: Final = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_SIZE: Final = r"(0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?)\s*([bBkKmMgGtTpPeE]?)(?:i?B)?"


def parse_size(text: str, suffix: str = "") -> int:
    """Bytes from `512M`, `1.5G`, `0x1000`, `4096`; `suffix` is the unit of a bare number.  Raises ValueError."""
    import re

    match = re.fullmatch(_SIZE, text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    number, unit = match[1], (match[2] or suffix).lower()
    shift = _SUFFIXES[unit]
    if number[:2].lower() == "0x":
        return int(number, 16) << shift
    whole, _, fraction = number.partition(".")
    total = int(whole) << shift
    if fraction:
        extra, rest = divmod(int(fraction) << shift, int(10 ** len(fraction)))
        if rest and not shift:
            raise ValueError(f"not a whole number of bytes: {text!r}")
        total += extra
    return total


def parse_int(text: str) -> int:
    """An integer from decimal or 0x/0o/0b text.  Raises ValueError."""
    if "_" in text:
        raise ValueError(f"not an integer: {text!r}")
    return int(text.strip(), 0)


def format_size(value: int) -> str:
    """`value` bytes with the largest suffix that keeps it exact: 536870912 is "512M"."""
    for unit, shift in (("T", 40), ("G", 30), ("M", 20), ("k", 10)):
        if value >= 1 << shift and value % (1 << shift) == 0:
            return f"{value >> shift}{unit}"
    return str(value)


def to_text(prop: Property, value: Any) -> str:
    """A value as the text that would set it again."""
    if value is None or value is REQUIRED:
        return "unset"
    if prop.kind == "bool":
        return "on" if value else "off"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if prop.kind == "size":
        return format_size(value)
    if prop.kind in INT_RANGES and (prop.base == 16 or (prop.kind == "uint64" and value > 0xFFFF)):
        return hex(value)
    if prop.kind in ("list", "dict"):
        import json

        return json.dumps(value, default=str)
    return str(getattr(value, "path", value))


# Checking: a value or a text in, the value out; ValueError carries what would be right


def checked(prop: Property, value: Any) -> Any:
    """`value`, converted from text where it is text, if `prop` can take it; else ValueError("what is expected")."""
    kind = prop.kind
    if value is None and prop.nullable:
        return None
    try:
        if kind == "bool":
            value = _bool(value)
        elif kind == "size" or kind in INT_RANGES:
            value = _integer(kind, value)
            low, high = prop.limits()
            if not low <= value <= high:
                raise ValueError
        elif kind == "str":
            if not isinstance(value, str):
                raise ValueError
        elif kind == "enum":
            value = _enum_value(prop, value)
        elif kind == "list":
            value = _list_value(prop, value)
        elif kind == "dict":
            value = _dict_value(prop, value)
        if prop.among is not None and kind != "enum" and value not in prop.among:
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise ValueError(prop.expected()) from None
    return value


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _BOOLS:
        return _BOOLS[value.lower()]
    raise ValueError


def _integer(kind: str, value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value) if kind == "size" else parse_int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    return int(value)


def _enum_value(prop: Property, value: Any) -> Any:
    if prop.enum is None:
        if value in prop.among:  # type: ignore[operator]  # one of the two is there
            return value
        raise ValueError
    if isinstance(value, prop.enum):
        return value
    for member in prop.enum:
        if member.value == value or (isinstance(value, str) and str(member.value) == value):
            return member
    raise ValueError


def _item_value(item: str | None, value: Any) -> Any:
    if item is None:
        return value
    if item == "bool":
        return _bool(value)
    if item == "str":
        if not isinstance(value, str):
            raise ValueError
        return value
    number = _integer(item, value)
    low, high = INT_RANGES.get(item, INT_RANGES["uint64"])
    if not low <= number <= high:
        raise ValueError
    return number


def _list_value(prop: Property, value: Any) -> list[Any]:
    if isinstance(value, str):
        text = value.strip()
        value = _json(text) if text.startswith("[") else [v.strip() for v in text.split(",")] if text else []
    if not isinstance(value, list | tuple):
        raise ValueError
    return [_item_value(prop.item, v) for v in value]


def _json(text: str) -> Any:
    import json  # few properties are written so

    return json.loads(text)


def _dict_value(prop: Property, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("{"):
            value = _json(text)
        else:
            pairs = [v.partition("=") for v in text.split(",")] if text else []
            if not all(eq for _, eq, _ in pairs):
                raise ValueError
            value = {k.strip(): v.strip() for k, _, v in pairs}
    if not isinstance(value, Mapping):
        raise ValueError
    return {str(k): _item_value(prop.item, v) for k, v in value.items()}


_PLAIN: Final[dict[Any, str]] = {bool: "bool", int: "int64", str: "str", list: "list", dict: "dict"}
_BY_TEXT: Final[dict[str, Any]] = {kind.__name__: kind for kind in _PLAIN}


def _typing(name: str) -> Any:
    """What `typing` has of that name, if anybody has imported it."""
    return getattr(sys.modules.get("typing"), name, None)


def _evaluate(annotation: Any, namespace: Mapping[str, Any], where: str) -> Any:
    if not isinstance(annotation, str):
        return annotation
    if annotation in _BY_TEXT and annotation not in namespace:
        return _BY_TEXT[annotation]
    try:
        try:
            return eval(annotation, dict(namespace))
        except NameError:  # a name that was imported for the type checker alone
            import typing

            return eval(annotation, {**vars(typing), **namespace})
    except Exception as error:
        raise TypeRegistryError(
            f"{where}: the annotation {annotation!r} is not known here ({error}): give type="
        ) from None


# Setting: QEMU's chain, object_property_set -> property_set_bool -> (for `realized`) device_set_realized


def object_property_set(obj: Object, name: str, value: Any) -> None:
    """Set a property by name, checked: it exists, may be set now, and can take the value (or the text) given."""
    prop = obj.class_properties.get(name)
    if prop is None:
        prop = obj.find_property(name)
    life = obj.life
    if life not in SETTABLE and (not prop.mutable or life is Life.FINALIZED):
        raise PropertyLocked(obj.path, name, value, life.value)
    try:
        prop.setter(obj, prop, value)
    except QomError:
        raise
    except BaseException as error:
        if passes(error):
            raise
        text = f"{obj.path}: property '{name}' cannot be {value!r}: {shown(error)}{blame(obj, error)}"
        raise ObjectFault(text, place_of(error, obj.type)) from error
    if not prop.volatile:
        obj.user_set.add(prop.name)
    if obj.registry.probe is not None:
        obj.registry.probe.property_set(obj, prop.name)


def property_set_bool(obj: Object, prop: Property, value: Any) -> None:
    """Set a bool property, from a bool or on/off/true/false/yes/no."""
    if value is not True and value is not False:
        try:
            value = checked(prop, value)
        except ValueError:
            raise prop.reject(obj, value) from None
    if prop.set is not None:
        prop.set(obj, value)
    if prop.get is None:
        obj.__dict__[prop.attr] = value


def property_set_int(obj: Object, prop: Property, value: Any) -> None:
    """Set an integer or size property, from an integer or text."""
    if value.__class__ is not int or not prop.low <= value <= prop.high or prop.listed is not None:
        try:
            value = checked(prop, value)
        except ValueError:
            raise prop.reject(obj, value) from None
    if prop.set is not None:
        prop.set(obj, value)
    if prop.get is None:
        obj.__dict__[prop.attr] = value


def property_set_checked(obj: Object, prop: Property, value: Any) -> None:
    """Set a string, enum, list or dict property, from a value or text."""
    try:
        value = checked(prop, value)
    except ValueError:
        raise prop.reject(obj, value) from None
    prop.store(obj, value)


def property_set_link(obj: Object, prop: Property, value: Any) -> None:
    """Set a link, from an object, its path, or None; the reference counts of old and new target follow."""
    if isinstance(value, str):
        try:
            value = obj.resolve_any(value) if value else None
        except QomError as error:
            raise PropertyError(obj.path, prop.name, value, f"{prop.expected()} ({error})") from None
    if value is not None:
        is_a = getattr(value, "is_a", None)
        if is_a is None or not is_a(prop.target):
            shown = f"{value.path} ({value.type_name})" if is_a is not None else value
            raise PropertyError(obj.path, prop.name, shown, prop.expected())
        if value.life is Life.FINALIZED:
            raise PropertyError(obj.path, prop.name, value.path, f"{prop.expected()} that is not finalized")
        if prop.link_check is not None:
            prop.link_check(obj, prop.name, value)
    old = obj.__dict__.get(prop.attr)
    if old is value:
        return
    obj.__dict__[prop.attr] = value
    if value is not None:
        value.link_taken(obj, prop)
    if old is not None:
        old.link_dropped(obj, prop)


def property_set_alias(obj: Object, prop: Property, value: Any) -> None:
    """Set what an alias stands for."""
    prop.store(obj, value)


def property_set_child(obj: Object, prop: Property, value: Any) -> None:
    """A child is part of its parent and cannot be set."""
    raise PropertyError(obj.path, prop.name, value, prop.expected())


def _unbound(obj: Object, prop: Property, value: Any) -> None:
    raise UnknownProperty(obj.path, prop.name, (), obj.type_name)


_SETTERS: Final[dict[str, Callable[[Any, Property, Any], None]]] = {
    "bool": property_set_bool,
    **dict.fromkeys([*INT_RANGES, "size"], property_set_int),
    "link": property_set_link,
    "alias": property_set_alias,
    "child": property_set_child,
}


# Saved state: plain data (numbers, text, bytes, None, lists, dicts) that fits back into the declared fields


def save_value(value: Any, where: str) -> Any:
    """`value` as plain data; `where` names the field in errors."""
    if value is None or (isinstance(value, bool | int | float | str | bytes) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [save_value(v, where) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(save_value(v, where) for v in value)
    if isinstance(value, dict):
        return {k: save_value(v, where) for k, v in value.items()}
    if records.has(type(value)):
        fields = records.fields(type(value))
        return {f.name: save_value(getattr(value, f.name), f"{where}.{f.name}") for f in fields}
    raise StateError(f"{where}: a {type(value).__name__} cannot be saved: expected plain data, an Enum or a record")


def load_value(current: Any, saved: Any, where: str) -> Any:
    """The saved form turned back into what the field holds, judged by its current value."""
    try:
        if isinstance(current, enum.Enum):
            return type(current)(saved)
        if isinstance(current, bytearray):
            return bytearray(saved)
        if isinstance(current, set | frozenset):
            return type(current)(saved)
        if isinstance(current, dict):
            return {k: load_value(current.get(k), v, f"{where}.{k}") for k, v in saved.items()}
        if isinstance(current, list | tuple):
            padded = [*current, *([current[-1]] if current else [None]) * max(0, len(saved) - len(current))]
            return type(current)(load_value(c, s, where) for c, s in zip(padded, saved, strict=False))
        if current is not None and records.has(type(current)):
            fields = {f.name for f in records.fields(type(current))}
            if set(saved) != fields:
                raise ValueError(f"fields {sorted(saved)} instead of {sorted(fields)}")
            import copy

            record = copy.copy(current)
            for k, v in saved.items():
                object.__setattr__(record, k, load_value(getattr(current, k), v, f"{where}.{k}"))
            return record
        if isinstance(current, bool | int | str | bytes) and saved is not None and not isinstance(saved, type(current)):
            raise ValueError(f"a {type(saved).__name__} where a {type(current).__name__} was")
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise StateError(f"{where}: saved state does not fit: {error}") from None
    return saved


def namespace_of(cls: type) -> dict[str, Any]:
    """The names an annotation of `cls` may use: those of its module."""
    return vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
