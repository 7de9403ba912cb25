"""What two machines, or two configurations, do not have in common.

Machines are compared as they are: objects by path, their types, the properties a configuration can set, the wires between
objects that both have, the memory that the boards themselves put into the address spaces.
Left out is what follows from the rest (which number a bus counts a device by, where memory lies when the machines differ in
how much they have), state, and what nobody chose and the host gave (its date).  A `Portrait` keeps what is compared after
its machine is gone.  Configurations are compared by what they say, entry by entry, found again by id or name.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from qom.config.compose import IDENTITIES
from qom.config.model import MachineConfig
from qom.config.write import as_data
from qom.hw import Region
from qom.object import Object
from qom.properties import Property, to_text
from qom.show.memory import spaces
from qom.show.wiring import WireEnd, wires
from qom.vm.dump import globals_for
from qom.vm.vm import VirtualMachine

__all__ = ["Difference", "Portrait", "diff", "portrait"]

Kind = Literal["object", "type", "property", "wire", "region", "said"]


@attrs.frozen
class Difference:
    """One thing that is not the same.

    kind: "object", one that only one of the two has; "type", of an object; "property", a value; "wire", one that only one
    of the two has; "region", a piece of memory; "said", something in a configuration.
    where: the object's path, or the entry ("device 'com1'").  name: the property, or the key.
    first, second: what each of the two has, in words; None for nothing.
    """

    kind: Kind
    where: str
    name: str
    first: str | None
    second: str | None

    @property
    def text(self) -> str:
        """One line: "-" only the first has it, "+" only the second, "~" both, and not the same."""
        what = f"{self.where}: {self.name}" if self.name else self.where
        if self.first is None:
            return f"+ {what} {self.second}".rstrip()
        if self.second is None:
            return f"- {what} {self.first}".rstrip()
        return f"~ {what}{' is' if self.kind == 'type' else ''} {self.first} -> {self.second}"


@attrs.frozen
class _Value:
    """A property's value, the text that would set it, and whether nobody chose it and the host gave it."""

    value: Any
    text: str
    of_the_host: bool


@attrs.frozen
class _Seen:
    """An object as it was: type, the path of what it is part of (None: of nothing that counts), properties."""

    type: str
    owner: str | None
    below: int
    properties: dict[str, _Value]


@attrs.frozen
class Portrait:
    """A machine as it was when `portrait` looked at it; it holds nothing of the machine itself."""

    objects: dict[str, _Seen]
    wires: dict[tuple[str, str], dict[str, None]]  # texts in order, by the paths at both ends
    machine: str  # the machine's path
    regions: dict[str, str]  # memory of the board: what and where it is, by the names from its address space on


def portrait(vm: VirtualMachine) -> Portrait:
    """What `diff` compares of a machine, to be compared later: with another machine, or with what became of this one."""
    with vm.lock:
        found: dict[tuple[str, str], dict[str, None]] = {}
        for w in wires(vm):
            text = f"{_end(w.source)} -> {_end(w.target)}{f' ({w.note})' if w.note else ''}"
            found.setdefault((w.source.object.path, w.target.object.path), {})[text] = None
        objects = {o.path: _seen(o) for o in vm.root.walk() if o.type_name != "container"}
        return Portrait(objects, found, vm.machine.path, dict(_board_regions(vm)))


def diff(
    first: VirtualMachine | Portrait | MachineConfig, second: VirtualMachine | Portrait | MachineConfig
) -> list[Difference]:
    """In what `second` differs from `first`, in the order of the composition tree, or of a file; [] when in nothing.

    A machine and a configuration are compared as configurations: the machine is read back (`VirtualMachine.dump`).

    Raises:
        LifecycleError: a machine was not built, or is closed.
        TypeError: a portrait and a configuration, which have nothing in common.
    """
    if isinstance(first, MachineConfig) or isinstance(second, MachineConfig):
        if isinstance(first, Portrait) or isinstance(second, Portrait):
            raise TypeError(
                "a portrait cannot be compared with a configuration: expected a machine, or another portrait"
            )
        configs = [vm.dump() if isinstance(vm, VirtualMachine) else vm for vm in (first, second)]
        return list(_said(*(as_data(config) for config in configs)))
    one, other = (portrait(vm) if isinstance(vm, VirtualMachine) else vm for vm in (first, second))
    return [*_objects(one, other), *_wires(one, other), *_regions(one, other)]


# Machines


def _seen(obj: Object) -> _Seen:
    above = obj.parent
    owner = above.path if above is not None and above.type_name != "container" else None
    values = {
        p.name: _Value(_value(obj, p), to_text(p, p.read(obj)), _of_the_host(obj, p))
        for p in obj.properties().values()
        if not p.volatile and p.kind not in ("child", "alias") and (p.get is None or p.set is not None)
    }
    return _Seen(obj.type_name, owner, sum(1 for _ in obj.walk()) - 1, values)


def _value(obj: Object, declared: Property) -> Any:
    value = declared.read(obj)
    if isinstance(value, Object):
        return value.path
    return value.value if isinstance(value, enum.Enum) else copy.deepcopy(value)


def _of_the_host(obj: Object, declared: Property) -> bool:
    meant = globals_for(obj, declared) if obj.registry.globals else []
    return bool(meant) and meant[-1].of_the_host and declared.name not in obj.user_set


def _end(end: WireEnd) -> str:
    return f"{end.object.path} {end.text}".rstrip()


def _objects(first: Portrait, second: Portrait) -> Iterator[Difference]:
    for path, seen in first.objects.items():
        there = second.objects.get(path)
        if there is None:
            if seen.owner is None or seen.owner in second.objects:
                yield Difference("object", path, "", _alone(seen), None)
        elif seen.type != there.type:
            yield Difference("type", path, "", seen.type, there.type)
        else:
            yield from _properties(path, seen.properties, there.properties)
    for path, seen in second.objects.items():
        if path not in first.objects and (seen.owner is None or seen.owner in first.objects):
            yield Difference("object", path, "", None, _alone(seen))


def _alone(seen: _Seen) -> str:
    return f"({seen.type})" if not seen.below else f"({seen.type}, and {seen.below} below it)"


def _properties(path: str, first: Mapping[str, _Value], second: Mapping[str, _Value]) -> Iterator[Difference]:
    for name in dict.fromkeys([*first, *second]):
        one, other = first.get(name), second.get(name)
        if one is None or other is None or not (one.value == other.value or (one.of_the_host and other.of_the_host)):
            texts = (None if held is None else held.text for held in (one, other))
            yield Difference("property", path, name, *texts)


def _wires(first: Portrait, second: Portrait) -> Iterator[Difference]:
    """Wires between objects that both machines have."""
    both = first.objects.keys() & second.objects.keys()
    one, other = (
        {text: None for ends, texts in p.wires.items() if both.issuperset(ends) for text in texts}
        for p in (first, second)
    )
    yield from (Difference("wire", "wire", "", text, None) for text in one if text not in other)
    yield from (Difference("wire", "wire", "", None, text) for text in other if text not in one)


def _board_regions(vm: VirtualMachine) -> Iterator[tuple[str, str]]:
    """The memory that belongs to the machine itself and not to a device: its names from the address space on, and a text."""

    def walk(region: Region, above: str) -> Iterator[tuple[str, str]]:
        for inner in region.subregions:
            path = f"{above}/{inner.name}"
            if inner.owner is vm.machine:
                shown = f" of {inner.target.name} from {inner.alias_offset:#x}" if inner.target is not None else ""
                order = f", priority {inner.priority}" if inner.priority else ""
                lock = ", read-only" if inner.readonly else ""
                yield path, f"({inner.kind}{shown} at {inner.offset:#x}, {inner.size:#x} bytes{order}{lock})"
            yield from walk(inner, path)

    for name, space in zip(("memory", "io"), spaces(vm), strict=True):
        yield from walk(space.root, name)


def _regions(first: Portrait, second: Portrait) -> Iterator[Difference]:
    """Memory of boards of one type; of those with other properties, such as the size of RAM, only what one has alone."""
    one, other = first.objects[first.machine], second.objects.get(first.machine)
    if other is None or one.type != other.type:
        return
    alike = not any(_properties(first.machine, one.properties, other.properties))
    for path in dict.fromkeys([*first.regions, *second.regions]):
        texts = first.regions.get(path), second.regions.get(path)
        if texts[0] != texts[1] and (alike or None in texts):
            yield Difference("region", "region", path, *texts)


# Configurations


def _said(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for section in dict.fromkeys([*first, *second]):
        one, other = first.get(section), second.get(section)
        if _of_entries(one) or _of_entries(other):
            yield from _entries(section, one or [], other or [])
        else:
            yield from _values(section, "", one, other)


def _of_entries(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _entries(section: str, first: list[Any], second: list[Any]) -> Iterator[Difference]:
    one, other = _named(section, first), _named(section, second)
    for name, entry in one.items():
        if name in other:
            yield from _values(name, "", entry, other[name])
        else:
            yield Difference("said", name, "", _brief(entry), None)
    yield from (Difference("said", name, "", None, _brief(entry)) for name, entry in other.items() if name not in one)


def _named(section: str, entries: Any) -> dict[str, Any]:
    """Entries by what they are called: by id or name, or as the how manieth of their kind."""
    key = IDENTITIES.get(section)
    out: dict[str, Any] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        identity = entry.get(key) if key is not None and isinstance(entry, dict) else None
        kind = next(iter(entry.values()), "") if isinstance(entry, dict) else entry
        stem = name = f"{section} {identity!r}" if identity is not None else f"{section} ({kind})"
        count = 1
        while name in out:
            count += 1
            name = f"{stem} no. {count}"
        out[name] = entry
    return out


def _values(where: str, name: str, first: Any, second: Any) -> Iterator[Difference]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys([*first, *second]):
            yield from _values(where, f"{name}.{key}" if name else key, first.get(key), second.get(key))
    elif first != second or type(first) is not type(second):
        texts = (None if value is None else _brief(value) for value in (first, second))
        yield Difference("said", where, name, *texts)


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_brief(v)}" for key, v in value.items())
    if isinstance(value, bool):
        return "true" if value else "false"
    return hex(value) if isinstance(value, int) and value > 0xFF else repr(value)
