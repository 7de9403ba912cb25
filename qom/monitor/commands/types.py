"""Commands about types: which there are, and what properties their objects have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

from qom.config.probe import Probe
from qom.errors import QomError, did_you_mean
from qom.monitor import CommandError, command
from qom.monitor.commands.tree import PropertyInfo, described
from qom.object import Object
from qom.properties import Property

if TYPE_CHECKING:
    from qom.registry import Type
    from qom.vm import VirtualMachine


class TypeInfo(TypedDict):
    """A type; `parent` is left out for the one that has none."""

    name: str
    abstract: NotRequired[bool]
    parent: NotRequired[str]


@command("qom-list-types", preconfig=True)
def qom_list_types(vm: VirtualMachine, implements: str | None = None, abstract: bool = False) -> list[TypeInfo]:
    """The types of objects, abstract ones if wanted; with `implements` those that are such a type or interface."""
    answer: list[TypeInfo] = []
    if implements is not None and implements not in vm.registry:
        return answer
    for found in vm.registry.types(implements, None if abstract else False):
        made: TypeInfo = {"name": found.name}
        if found.abstract:
            made["abstract"] = True
        if found.parent is not None:
            made["parent"] = found.parent
        answer.append(made)
    return answer


@command("qom-list-properties", preconfig=True)
def qom_list_properties(vm: VirtualMachine, typename: str) -> list[PropertyInfo]:
    """The properties of a type; of a concrete one also those that each of its objects makes for itself."""
    if typename not in vm.registry:
        near = did_you_mean(typename, [found.name for found in vm.registry])
        raise CommandError(f"Class '{typename}' not found{near}", "DeviceNotFound")
    return [{"name": "type", "type": "string"}, *_properties(vm, vm.registry.get(typename), frozenset())]


@command("device-list-properties", preconfig=True)
def device_list_properties(vm: VirtualMachine, typename: str) -> list[PropertyInfo]:
    """The properties that device_add takes for a type of device."""
    registry = vm.registry
    if typename not in registry:
        near = did_you_mean(typename, registry.names("device"))
        raise CommandError(f"Device '{typename}' not found{near}", "DeviceNotFound")
    found = registry.get(typename)
    if found.abstract or not found.is_a("device"):
        what = "abstract" if found.abstract else "no device"
        raise CommandError(f"Parameter 'typename' expects a non-abstract device type: '{typename}' is {what}")
    return _properties(vm, found, frozenset(registry.get("device").properties))


def _properties(vm: VirtualMachine, found: Type, without: frozenset[str]) -> list[PropertyInfo]:
    def listed(properties: dict[str, Property], obj: Object | None) -> list[PropertyInfo]:
        return [described(each, obj) for name, each in properties.items() if name not in without]

    if found.abstract:
        return listed(found.properties, None)
    try:
        with Probe(vm.registry).instance(found) as made:
            return listed(made.properties(), made)
    except QomError as error:
        raise CommandError(f"no object of type '{found.name}' can be made: {error}") from None
