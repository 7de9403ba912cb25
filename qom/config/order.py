"""The order in which entries are built: what one refers to comes before it, wherever it stands in the file.

A device depends on the device that provides its bus and on those its link properties name; an object on the objects its
links name.  Where nothing depends on anything, devices that provide buses come first, so that a device without `bus`
finds all there are, and the order of the file decides the rest: it gives out places that nobody asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TypeVar

from qom.config.model import DeviceEntry, ObjectEntry
from qom.config.probe import Probe
from qom.errors import ConfigError
from qom.options import Report, at, raise_it

__all__ = ["build_order", "dependencies"]

E = TypeVar("E", DeviceEntry, ObjectEntry)
_PERIPHERAL = "/machine/peripheral/"
_OBJECTS = "/objects/"


def build_order(entries: Sequence[E], probe: Probe, report: Report = raise_it) -> list[E]:
    """The entries, each after those it depends on; without those that depend on each other in a circle.

    `report` is told of each circle, which it names.
    """
    needs = dependencies(entries, probe)
    if not any(needs) and not any(_buses(entry, probe) for entry in entries):
        return list(entries)
    users: list[list[int]] = [[] for _ in entries]
    waits = [len(others) for others in needs]
    for n, others in enumerate(needs):
        for other in others:
            users[other].append(n)
    ready = [(not _buses(entries[n], probe), n) for n, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    out: list[E] = []
    while ready:
        _, n = heapq.heappop(ready)
        out.append(entries[n])
        for user in users[n]:
            waits[user] -= 1
            if not waits[user]:
                heapq.heappush(ready, (not _buses(entries[user], probe), user))
    if len(out) < len(entries):
        _report_circles(entries, needs, {n for n, count in enumerate(waits) if count}, report)
    return out


def _report_circles(entries: Sequence[E], needs: list[dict[int, str]], left: set[int], report: Report) -> None:
    """Report the circles among the entries that could not be ordered, one for each entry that is in any."""
    while True:
        while free := {n for n in left if not left & needs[n].keys()}:
            left -= free
        if not left:
            return
        circle = _circle(needs, left)
        report(_circle_error(entries, needs, circle))
        left -= set(circle)


def dependencies(entries: Sequence[E], probe: Probe) -> list[dict[int, str]]:
    """For each entry the entries it depends on, by index, with the option that says so."""
    by_id = {entry.id: n for n, entry in enumerate(entries) if entry.id}
    by_bus: dict[str, list[int]] = {}
    if any(_bus(entry) for entry in entries):
        for n, entry in enumerate(entries):
            for name in _buses(entry, probe):
                by_bus.setdefault(name, []).append(n)
    out: list[dict[int, str]] = []
    for n, entry in enumerate(entries):
        needs: dict[int, str] = {}
        if (bus := _bus(entry)) is not None:
            provider = _provider(bus, by_id)
            for other in [provider] if provider is not None else by_bus.get(bus, ()):
                if other != n or provider is not None:
                    needs.setdefault(other, "bus")
        for name, value in entry.props.items():
            target = _named(value, entry, by_id)
            link = probe.link(entry.driver, name) if target is not None else None
            if target is not None and link is not None and probe.may_be(entries[target].driver, link.target):
                needs.setdefault(target, name)
        out.append(needs)
    return out


def _bus(entry: DeviceEntry | ObjectEntry) -> str | None:
    return entry.bus or None if isinstance(entry, DeviceEntry) else None


def _buses(entry: DeviceEntry | ObjectEntry, probe: Probe) -> dict[str, str]:
    return probe.buses(entry.driver) if isinstance(entry, DeviceEntry) else {}


def _provider(bus: str, by_id: dict[str, int]) -> int | None:
    """The device whose bus is meant by "ID.NAME" or "/machine/peripheral/ID/NAME"."""
    if bus.startswith(_PERIPHERAL):
        return by_id.get(bus.removeprefix(_PERIPHERAL).partition("/")[0])
    for end, letter in enumerate(bus):
        if letter == "." and bus[:end] in by_id:
            return by_id[bus[:end]]
    return None


def _named(value: object, entry: DeviceEntry | ObjectEntry, by_id: dict[str, int]) -> int | None:
    """The entry whose id, or path, a property's value is."""
    if not isinstance(value, str):
        return None
    place = _PERIPHERAL if isinstance(entry, DeviceEntry) else _OBJECTS
    return by_id.get(value.removeprefix(place).partition("/")[0] if value.startswith(place) else value)


def _circle(needs: list[dict[int, str]], left: set[int]) -> list[int]:
    """One circle among entries that each need another of them, from its first member in the file."""
    here = min(left)
    trail: list[int] = []
    while here not in trail:
        trail.append(here)
        here = min(n for n in needs[here] if n in left)
    circle: list[int] = trail[trail.index(here) :]
    turn = circle.index(min(circle))
    return circle[turn:] + circle[:turn]


def _circle_error(entries: Sequence[E], needs: list[dict[int, str]], circle: list[int]) -> ConfigError:
    first, then = circle[0], circle[1 % len(circle)]
    what = "device" if isinstance(entries[0], DeviceEntry) else "object"
    if len(circle) == 1:
        text = f"{what}: '{entries[first].id}' refers to itself"
    else:
        names = " -> ".join(str(entries[n].id) for n in [*circle, first])
        text = f"{what}: these need each other in a circle: {names}"
    return ConfigError(text, at(entries[first].origin, needs[first][then]))
