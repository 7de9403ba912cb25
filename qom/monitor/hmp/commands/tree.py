"""Commands that look at the composition tree and the buses, and change properties."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from qom.errors import PathError, QomError
from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.monitor.hmp.arguments import Flag, Rest, Word
from qom.monitor.hmp.declare import CommandError, Hmp, hmp_command
from qom.monitor.hmp.plugin_command import json_text
from qom.monitor.json_stream import loads
from qom.object import Object
from qom.properties import INT_RANGES, Property

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine


def paths(hmp: Hmp, begun: str) -> Iterable[str]:
    """Paths of objects that `begun` can go on with, one step further."""
    head, slash, _ = begun.rpartition("/")
    if not slash:
        return ["/"] if not begun else []
    try:
        parent = hmp.vm.root.resolve(head or "/")
    except PathError:
        return []
    found = parent.children()
    return [f"{head}/{name}" + ("/" if held.children() else "") for name, held in found.items()]


def properties(hmp: Hmp, begun: str) -> Iterable[str]:
    """Names of properties of the object named before."""
    found = hmp.vm.root.resolve_any(hmp.words[0])
    return [name for name, held in found.properties().items() if held.kind != "child"]


@hmp_command("qom-list", preconfig=True)
def qom_list(hmp: Hmp, path: Annotated[str, Word(complete=paths)] = "") -> str:
    """list QOM properties"""
    if not path:
        return "/"
    found = hmp.qmp("qom-list", path=path.rstrip("/") or "/")
    return "\n".join(f"{entry['name']} ({entry['type']})" for entry in found)


@hmp_command("qom-get", preconfig=True)
def qom_get(
    hmp: Hmp,
    path: Annotated[str, Word(complete=paths)],
    property: Annotated[str, Word(complete=properties)],
) -> str:
    """print QOM property"""
    return json_text(hmp.qmp("qom-get", path=path, property=property))


@hmp_command("qom-set", preconfig=True)
def qom_set(
    hmp: Hmp,
    json: Annotated[bool, Flag("j", "the value is JSON")],
    path: Annotated[str, Word(complete=paths)],
    property: Annotated[str, Word(complete=properties)],
    value: Annotated[str, Rest()],
) -> None:
    """set QOM property"""
    given: Any = value
    if json:
        try:
            given = loads(value.encode())
        except ValueError as error:
            raise CommandError(f"qom-set: value is no JSON: {error}") from None
    elif len(value) > 1 and value[0] == value[-1] == '"':
        given = value[1:-1]
    hmp.qmp("qom-set", path=path, property=property, value=given)


@hmp_command("info qom-tree", preconfig=True)
def info_qom_tree(hmp: Hmp, path: Annotated[str, Word(complete=paths)] = "/machine") -> str:
    """show QOM composition tree"""
    try:
        found = hmp.vm.root.resolve_any(path.rstrip("/") or "/")
    except PathError as error:
        raise CommandError(f"Path '{path}' could not be resolved: {error}") from None
    lines: list[str] = []

    def show(obj: Object, name: str, depth: int) -> None:
        lines.append(f"{'  ' * depth}/{name} ({obj.type_name})")
        for child, held in sorted(obj.children().items()):
            show(held, child, depth + 1)

    show(found, found.name or "", 0)
    return "\n".join(lines)


@hmp_command("info qtree")
def info_qtree(hmp: Hmp) -> str:
    """show device tree"""
    lines: list[str] = []
    _bus(lines, hmp.vm.machine.system_bus, 0, hmp.vm)
    return "\n".join(lines)


def _bus(lines: list[str], bus: Bus, depth: int, vm: VirtualMachine) -> None:
    pad = "  " * depth
    lines += [f"{pad}bus: {bus.name}", f"{pad}  type {bus.type_name}"]
    for device in reversed(bus.devices):
        _device(lines, device, depth + 1, vm)


def _device(lines: list[str], device: Device, depth: int, vm: VirtualMachine) -> None:
    own = device.name if device.parent is vm.root.container("/machine/peripheral") else ""
    pad = "  " * (depth + 1)
    lines.append(f'{"  " * depth}dev: {device.type_name}, id "{own}"')
    for word, table in (("in", device.lines()), ("out", device.pins())):
        lines += [f'{pad}gpio-{word} "{name}" {len(held)}' for name, held in table.items() if held]
    for found in device.class_properties.values():
        if found.kind not in ("child", "alias") and found.name not in ("realized", "bus"):
            lines.append(f"{pad}{found.name} = {_value(device, found)}")
    lines += [f"{pad}{line}" for line in _pci_lines(device)]
    for bus in device.buses():
        _bus(lines, bus, depth + 1, vm)


def _value(device: Device, found: Property) -> str:
    try:
        value = device.get(found.name)
    except QomError as error:
        return f"<{error}>"
    if value is None:
        return "<null>"
    if isinstance(value, Object):
        return f'"{value.path}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and (found.kind in INT_RANGES or found.kind == "size"):
        return f"{value} ({value & (1 << 64) - 1:#x})"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _pci_lines(device: Device) -> list[str]:
    """What a PCI function says of itself, as far as `device` is one."""
    if not device.is_a("pci-device"):
        return []
    from qom.monitor.hmp.pci import pci_summary

    return pci_summary(device)
