"""The buses of a machine and what sits on them, as text: each device under its bus, with its address there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.object import Object

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["bus_text", "devices_on", "top_buses", "unplugged_devices"]


def bus_text(vm: VirtualMachine) -> str:
    """Every bus with its devices, and below a device the buses it provides; last, the devices on no bus at all."""
    lines: list[str] = []

    def show(bus: Bus, depth: int) -> None:
        pad = "  " * depth
        full = f", {len(bus.devices)} of {bus.max_devices} places taken" if bus.max_devices is not None else ""
        lines.append(f"{pad}{bus.path} ({bus.type_name}{full})")
        for device in devices_on(bus):
            where = bus.where(device)
            lines.append(f"{pad}  {f'{where}: ' if where else ''}{device.path} ({device.type_name})")
            for below in device.buses():
                show(below, depth + 2)

    for bus in top_buses(vm.root):
        show(bus, 0)
    if alone := unplugged_devices(vm.root):
        lines += ["", "On no bus:"]
        for device in alone:
            lines.append(f"  {device.path} ({device.type_name})")
            for below in device.buses():
                show(below, 2)
    return "\n".join(lines)


def devices_on(bus: Bus) -> list[Device]:
    """The devices of a bus: by their address where the bus has a numbering of its own (PCI), else as they were plugged."""
    functions = getattr(bus, "functions", None)
    if isinstance(functions, dict):
        placed = [functions[n] for n in sorted(functions)]
        return [*placed, *(d for d in bus.devices if d not in placed)]
    return list(bus.devices)


def top_buses(root: Object) -> list[Bus]:
    """The buses no device provides that is itself on a bus, or stands alone: a machine's system bus."""
    return [o for o in root.walk() if isinstance(o, Bus) and (not isinstance(o.parent, Device) or _is_board(o.parent))]


def unplugged_devices(root: Object) -> list[Device]:
    """Devices that sit on no bus: processors, parts of other devices; the board itself is none of them."""
    return [o for o in root.walk() if isinstance(o, Device) and o.bus is None and not _is_board(o)]


def _is_board(device: Device) -> bool:
    return device.is_a("machine")
