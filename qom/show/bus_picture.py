"""The buses as a picture: each a rail with its devices hanging off it, and what they provide in the next column.

A column holds the buses that are equally deep; within it they are stacked in the order of the devices that provide them,
so that no two connections from a device to its bus cross.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.object import Object
from qom.show.buses import devices_on, top_buses, unplugged_devices
from qom.show.svg import Picture, Svg, category, fit, text_width, tooltip

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["bus_svg"]

BOX_W: Final = 216.0
LOW, HIGH = 24.0, 38.0  # a device's box: one line, or two where it has an address to show
GAP: Final = 7.0
RAIL_W: Final = 6.0
STUB: Final = 18.0  # from the rail to a box
HEAD: Final = 26.0  # name of the bus over its rail
BETWEEN: Final = 20.0  # buses of one column
CHANNEL: Final = 56.0  # between columns, at least: where connections run
TRACK: Final = 8.0


@attrs.define
class _Rail:
    """One bus (None: the devices on no bus), where it lies, and the device that provides it."""

    bus: Bus | None
    devices: list[Device]
    provider: Device | None
    column: int
    x: float = 0
    y: float = 0
    h: float = 0
    where: dict[str, str] = attrs.field(init=False)
    """The address of each device on the bus, by path: asked for once, since a bus may have to search for it."""

    def __attrs_post_init__(self) -> None:
        self.where = {d.path: self.bus.where(d) if self.bus is not None else "" for d in self.devices}


def bus_svg(vm: VirtualMachine) -> Svg:
    """A complete SVG document with every bus, every device on it with its address there, and the devices on none."""
    columns: list[list[_Rail]] = []

    def add(bus: Bus | None, devices: list[Device], provider: Device | None, column: int) -> None:
        if column == len(columns):
            columns.append([])
        columns[column].append(_Rail(bus, devices, provider, column))
        for device in devices:
            for below in device.buses():
                add(below, devices_on(below), device, column + 1)

    for bus in top_buses(vm.root):
        add(bus, devices_on(bus), None, 0)
    if alone := unplugged_devices(vm.root):
        add(None, alone, None, 0)
    rails = [rail for column in columns for rail in column]
    device_count = sum(len(r.devices) for r in rails)
    bus_count = sum(r.bus is not None for r in rails)
    picture = Picture("Buses, and what sits on them")
    picture.subtitle = f"{vm.machine.type_name}: {bus_count} bus{'es' * (bus_count != 1)}, {device_count} devices"
    places = _lay(columns)
    _connect(picture, rails, places)
    for rail in rails:
        _draw(picture, rail, places)
    return picture.document()


def _height(rail: _Rail, device: Device) -> float:
    return HIGH if rail.where[device.path] else LOW


def _lay(columns: list[list[_Rail]]) -> dict[str, tuple[float, float, float]]:
    """Place rails and devices; where each device is (x, y, height), by path."""
    places: dict[str, tuple[float, float, float]] = {}
    x = 0.0
    heights = [
        sum(HEAD + sum(_height(r, d) + GAP for d in r.devices) + BETWEEN for r in column) - BETWEEN
        for column in columns
    ]
    for n, column in enumerate(columns):
        if n:
            x += CHANNEL + TRACK * max(len(column) - 2, 0)
        y = 0.0
        first = column[0].provider
        if first is not None:  # beside what provides it, as far as the picture does not grow for it
            room = max(max(heights) - heights[n], 0)
            y = min(max(places[first.path][1] - HEAD, 0), room)
        for rail in column:
            rail.x, rail.y = x, y
            at = y + HEAD
            for device in rail.devices:
                h = _height(rail, device)
                places[device.path] = (x + RAIL_W + STUB, at, h)
                at += h + GAP
            rail.h = max(at - GAP, y + HEAD + LOW) - y
            y += rail.h + BETWEEN
        x += RAIL_W + STUB + BOX_W
    return places


def _connect(picture: Picture, rails: list[_Rail], places: dict[str, tuple[float, float, float]]) -> None:
    """The connections from devices to the buses they provide, each column's in tracks of their own."""
    for column in sorted({r.column for r in rails if r.provider is not None}):
        here = [r for r in rails if r.column == column and r.provider is not None]
        of_provider: dict[str, int] = {}
        ways: list[tuple[_Rail, float, float]] = []
        for rail in here:
            assert rail.provider is not None
            _, y, h = places[rail.provider.path]
            count = sum(r.provider is rail.provider for r in here)
            k = of_provider[rail.provider.path] = of_provider.get(rail.provider.path, 0) + 1
            ways.append((rail, y + h * k / (count + 1), rail.y + HEAD / 2 + 1))
        # Those that go down turn later the higher they start, those that go up the other way round: no two cross.
        down = [w for w in ways if w[2] > w[1]]
        up = [w for w in ways if w[2] <= w[1]]
        tracks = [*up, *reversed(down)]
        for rail, y0, y1 in ways:
            assert rail.provider is not None and rail.bus is not None
            start = places[rail.provider.path][0] + BOX_W
            turn = rail.x - 16 - TRACK * (len(tracks) - 1 - tracks.index((rail, y0, y1)))
            with picture.group(f"{picture.colour('bus')} net", f"{rail.provider.path} provides {rail.bus.path}"):
                picture.line([(start, y0), (turn, y0), (turn, y1), (rail.x, y1)], "wire")


def _draw(picture: Picture, rail: _Rail, places: dict[str, tuple[float, float, float]]) -> None:
    bus = rail.bus
    tip = tooltip(bus) if bus is not None else "Devices that sit on no bus: processors, and parts of other devices"
    with picture.group(
        picture.colour("bus") if bus is not None else "k-place", tip, data_path=bus.path if bus is not None else ""
    ):
        _heading(picture, rail)
        if bus is not None:
            picture.rect(rail.x, rail.y + HEAD - 2, RAIL_W, rail.h - HEAD + 2, "bar", 3)
    for device in rail.devices:
        x, y, h = places[device.path]
        where = rail.where[device.path]
        with picture.group(picture.colour(category(device)), tooltip(device, where), data_path=device.path):
            if bus is not None:
                picture.line([(rail.x + RAIL_W, y + h / 2), (x, y + h / 2)], "wire")
            picture.rect(x, y, BOX_W, h)
            _label(picture, device, x, y)
            if where:
                picture.text(x + 9, y + 30, where, "addr", room=BOX_W - 18)


def _heading(picture: Picture, rail: _Rail) -> None:
    bus = rail.bus
    if bus is None:
        picture.text(rail.x + RAIL_W + STUB, rail.y + 15, "On no bus", "head")
        return
    room = RAIL_W + STUB + BOX_W - 16
    full = f", {len(bus.devices)} of {bus.max_devices} places taken" if bus.max_devices is not None else ""
    picture.rect(rail.x, rail.y, RAIL_W + STUB + BOX_W, 20, "box", 10)
    picture.text(rail.x + 10, rail.y + 14, _short(bus), "head", room=room, more=(f"{bus.type_name}{full}", "type"))


def _label(picture: Picture, device: Device, x: float, y: float) -> None:
    """Name to the left, type to the right, both shortened as needed."""
    room = BOX_W - 18
    named_after_type = (device.name or "").startswith(f"{device.type_name}@")
    name = fit(_short(device), room if named_after_type else room * 0.62, "name")
    picture.text(x + 9, y + 16, name, "name")
    if named_after_type:
        return
    left = room - text_width(name, "name") - 10
    shown = fit(device.type_name, left, "type")
    picture.text(x + BOX_W - 9, y + 16, shown, "type", anchor="end")


def _short(obj: Object) -> str:
    """A name that tells: with the part above it where it is a part of a part."""
    above = obj.parent
    name = obj.name or "/"
    if isinstance(obj, Bus) or above is None or above.parent is None or not isinstance(above, Device):
        return name
    return name if above.is_a("machine") else f"{above.name}/{name}"
