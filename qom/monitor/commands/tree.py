"""Commands that look at the composition tree and change properties in it."""

from __future__ import annotations

import enum
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, cast

from qom.errors import AmbiguousPath, PathError, QomError, UnknownProperty, did_you_mean
from qom.monitor import CommandError, command
from qom.object import Object
from qom.properties import AliasProperty, Property

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

PropertyInfo = TypedDict(
    "PropertyInfo",
    {"name": str, "type": str, "description": NotRequired[str], "default-value": NotRequired[Any]},
)


class PropertyValue(TypedDict):
    """A property and its value, which is left out where it cannot be read."""

    name: str
    type: str
    value: NotRequired[Any]


class PropertyValues(TypedDict):
    """The properties of one object."""

    properties: list[PropertyValue]


_PropertyNow = TypedDict(
    "_PropertyNow",
    {
        "name": str,
        "type": str,
        "description": NotRequired[str],
        "default-value": NotRequired[Any],
        "required": NotRequired[bool],
        "unit": NotRequired[str],
        "value": NotRequired[Any],
        "error": NotRequired[str],
    },
)


class PropertyNow(_PropertyNow):
    """All about one property: `required` ones have no default; one that cannot be read has `error` for a value."""


class ObjectNow(TypedDict):
    """One object, with its properties and with its children, of which each is such an object again."""

    name: str
    path: str
    type: str
    properties: list[PropertyNow]
    children: list[ObjectNow]


class MachineFile(TypedDict):
    """A configuration file."""

    format: Literal["toml", "json", "yaml"]
    text: str


def resolve(vm: VirtualMachine, path: str) -> Object:
    """The object at an absolute or partial path; as QEMU, DeviceNotFound when there is none."""
    try:
        found: Object = vm.root.resolve_any(path)
        return found
    except AmbiguousPath as error:
        raise CommandError(f"Path '{path}' is ambiguous: {str(error).partition(': ')[2]}") from None
    except PathError as error:
        raise CommandError(f"Device '{path}' not found: {error}", "DeviceNotFound") from None


def property_of(obj: Object, name: str) -> Property:
    """The property `name` of `obj`.  Raises CommandError."""
    try:
        return obj.find_property(name)
    except UnknownProperty:
        near = did_you_mean(name, obj.properties())
        raise CommandError(f"Property '{obj.type_name}.{name}' not found{near}") from None


def plain(value: Any) -> Any:
    """A property's value as JSON has it: an object is its path, "" is no object."""
    if isinstance(value, Object):
        return value.path
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return value


def value_of(obj: Object, found: Property) -> Any:
    """The value of a property as JSON has it: an object's path for a link or child, "" for none.

    Raises:
        QomError: it cannot be read.
    """
    value = obj.get(found.name)
    return "" if value is None and found.kind in ("child", "link") else plain(value)


def type_of(found: Property, obj: Object | None = None) -> str:
    """A property's type as QEMU names it: "bool", "uint32", "string", "child<T>", "link<T>".

    obj: whose it is; with it an alias has the type of what it stands for.
    """
    if found.kind in ("child", "link"):
        return f"{found.kind}<{found.target}>"
    if isinstance(found, AliasProperty) and obj is not None:
        try:
            target, name = found.where(obj)
            return type_of(target.find_property(name), target)
        except QomError:  # what it stands for is not there yet
            return found.kind
    return "string" if found.kind == "str" else found.kind


def described(found: Property, obj: Object | None = None) -> PropertyInfo:
    """One property: type, description, and its default where it has one."""
    made: PropertyInfo = {"name": found.name, "type": type_of(found, obj)}
    if found.desc:
        made["description"] = found.desc
    has_default = found.kind not in ("child", "link", "alias") and not found.required and found.get is None
    if has_default and found.default is not None:
        made["default-value"] = plain(found.default)
    return made


@command("qom-list", preconfig=True)
def qom_list(vm: VirtualMachine, path: str) -> list[PropertyInfo]:
    """The properties and children of the object at `path`; the first is its type."""
    obj = resolve(vm, path)
    return [{"name": "type", "type": "string"}, *(described(found, obj) for found in obj.properties().values())]


@command("qom-list-get", preconfig=True)
def qom_list_get(vm: VirtualMachine, paths: list[str]) -> list[PropertyValues]:
    """The properties and their values of several objects, in the order of `paths` (as in QEMU since 10.1)."""
    answer: list[PropertyValues] = []
    for obj in [resolve(vm, path) for path in paths]:
        held: list[PropertyValue] = [{"name": "type", "type": "string", "value": obj.type_name}]
        for found in obj.properties().values():
            made: PropertyValue = {"name": found.name, "type": type_of(found, obj)}
            with suppress(QomError):  # then the answer has no value
                made["value"] = value_of(obj, found)
            held.append(made)
        answer.append({"properties": held})
    return answer


@command("qom-get", preconfig=True)
def qom_get(vm: VirtualMachine, path: str, property: str) -> Any:
    """The value of a property; an object's path for a link or child, "" for none."""
    obj = resolve(vm, path)
    return obj.type_name if property == "type" else value_of(obj, property_of(obj, property))


@command("qom-set", preconfig=True)
def qom_set(vm: VirtualMachine, path: str, property: str, value: Any) -> None:
    """Set a property; a link is given as the path of an object, "" for none."""
    obj = resolve(vm, path)
    if property == "type":
        raise CommandError(f"Property '{obj.type_name}.type' is not writable")
    found = property_of(obj, property)
    if found.kind == "link" and isinstance(value, str):
        value = resolve(vm, value) if value else None
    obj.set(found.name, value)


@command("x-query-qom-tree", preconfig=True)
def x_query_qom_tree(vm: VirtualMachine, path: str = "/") -> ObjectNow:
    """The object at `path` with all below it: every property with type, value, description and default."""
    return _now(resolve(vm, path))


@command("x-query-machine-file")
def x_query_machine_file(vm: VirtualMachine, format: Literal["toml", "json", "yaml"] = "toml") -> MachineFile:
    """The machine as it is now, as a configuration file that builds its like (see `qom dump`)."""
    from qom.config.write import dumps

    return {"format": format, "text": dumps(vm.dump(), format, vm.registry)}


def _now(obj: Object) -> ObjectNow:
    children = obj.children()
    properties: list[PropertyNow] = []
    for name, found in obj.properties().items():
        if name not in children or found.kind != "child":
            properties.append(_property_now(obj, found))
    return {
        "name": obj.name or "",
        "path": obj.path,
        "type": obj.type_name,
        "properties": properties,
        "children": [_now(child) for child in children.values()],
    }


def _property_now(obj: Object, found: Property) -> PropertyNow:
    made = cast("PropertyNow", described(found, obj))
    if found.required:
        made["required"] = True
    if found.unit:
        made["unit"] = found.unit
    try:
        made["value"] = value_of(obj, found)
    except QomError as error:
        made["error"] = str(error)
    return made
