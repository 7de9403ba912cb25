"""Commands that look at the composition tree and change properties in it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from qom.errors import AmbiguousPath, PathError
from qom.monitor import CommandError, command
from qom.object import Object
from qom.properties import Property

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

PropertyInfo = TypedDict(
    "PropertyInfo",
    {"name": str, "type": str, "description": NotRequired[str], "default-value": NotRequired[Any]},
)


def resolve(vm: VirtualMachine, path: str) -> Object:
    """The object at an absolute or partial path; as QEMU, DeviceNotFound when there is none."""
    try:
        found: Object = vm.root.resolve_any(path)
        return found
    except AmbiguousPath as error:
        raise CommandError(str(error)) from None
    except PathError as error:
        raise CommandError(f"Device '{path}' not found: {error}", "DeviceNotFound") from None


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


def type_of(found: Property) -> str:
    """A property's type as QEMU names it: "bool", "uint32", "string", "child<T>", "link<T>"."""
    if found.kind in ("child", "link"):
        return f"{found.kind}<{found.target}>"
    return "string" if found.kind == "str" else found.kind


def described(found: Property) -> PropertyInfo:
    """One property: type, description, and its default where it has one."""
    made: PropertyInfo = {"name": found.name, "type": type_of(found)}
    if found.desc:
        made["description"] = found.desc
    if found.kind not in ("child", "link", "alias") and not found.required and found.get is None:
        made["default-value"] = plain(found.default)
    return made


@command("qom-list", preconfig=True)
def qom_list(vm: VirtualMachine, path: str) -> list[PropertyInfo]:
    """The properties and children of the object at `path`; the first is its type."""
    obj = resolve(vm, path)
    return [{"name": "type", "type": "string"}, *(described(found) for found in obj.properties().values())]


@command("qom-get", preconfig=True)
def qom_get(vm: VirtualMachine, path: str, property: str) -> Any:
    """The value of a property; an object's path for a link or child, "" for none."""
    obj = resolve(vm, path)
    if property == "type":
        return obj.type_name
    value = obj.get(property)
    return "" if value is None and obj.find_property(property).kind in ("child", "link") else plain(value)


@command("qom-set", preconfig=True)
def qom_set(vm: VirtualMachine, path: str, property: str, value: Any) -> None:
    """Set a property; a link is given as the path of an object, "" for none."""
    obj = resolve(vm, path)
    if property == "type":
        raise CommandError(f"{obj.path}: property 'type' cannot be set")
    found = obj.find_property(property)
    if found.kind == "link" and isinstance(value, str):
        value = resolve(vm, value) if value else None
    obj.set(property, value)
