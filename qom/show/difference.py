"""What two machines, or two configurations, do not have in common.

Machines are compared as they are: objects by path, their types, the properties a configuration can set, the wires between
objects that both have.
Left out is what follows from the rest (which number a bus counts a device by), state, and what nobody chose and the host
gave (its date).  Configurations are compared by what they say, entry by entry, found again by id or name.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Set
from typing import Any, Literal

import attrs

from qom.config.compose import IDENTITIES
from qom.config.model import MachineConfig
from qom.config.write import as_data
from qom.object import Object
from qom.properties import Property, to_text
from qom.show.wiring import WireEnd, wires
from qom.vm.dump import globals_for
from qom.vm.vm import VirtualMachine

__all__ = ["Difference", "diff"]

Kind = Literal["object", "type", "property", "wire", "said"]


@attrs.frozen
class Difference:
    """One thing that is not the same.

    kind: "object", one that only one of the two has; "type", of an object; "property", a value; "wire", one that only one
    of the two has; "said", something in a configuration.
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


def diff(first: VirtualMachine | MachineConfig, second: VirtualMachine | MachineConfig) -> list[Difference]:
    """In what `second` differs from `first`, in the order of the composition tree, or of a file; [] when in nothing.

    A machine and a configuration are compared as configurations.  Machines are looked at with their locks held, and one
    that is to be compared as a configuration is read back (`VirtualMachine.dump`).

    Raises:
        LifecycleError: a machine was not built, or is closed.
    """
    if isinstance(first, VirtualMachine) and isinstance(second, VirtualMachine):
        one, other = sorted((first, second), key=id)  # always in the same order, whoever asks
        with one.lock, other.lock:
            return [*_objects(first, second), *_wires(first, second)]
    configs = [vm.dump() if isinstance(vm, VirtualMachine) else vm for vm in (first, second)]
    return list(_said(*(as_data(config) for config in configs)))


# Machines


def _objects(first: VirtualMachine, second: VirtualMachine) -> Iterator[Difference]:
    one, other = _by_path(first), _by_path(second)
    for path, obj in one.items():
        if path not in other:
            if _topmost(obj, other):
                yield Difference("object", path, "", _alone(obj), None)
        elif obj.type_name != other[path].type_name:
            yield Difference("type", path, "", obj.type_name, other[path].type_name)
        else:
            yield from _properties(obj, other[path])
    for path, obj in other.items():
        if path not in one and _topmost(obj, one):
            yield Difference("object", path, "", None, _alone(obj))


def _by_path(vm: VirtualMachine) -> dict[str, Object]:
    """Every object by its path, but not the containers that hold them."""
    return {o.path: o for o in vm.root.walk() if o.type_name != "container"}


def _topmost(obj: Object, there: Mapping[str, Object]) -> bool:
    """Whether what an object is part of is in the other machine too: one line says that it is not there."""
    above = obj.parent
    return above is None or above.type_name == "container" or above.path in there


def _alone(obj: Object) -> str:
    below = sum(1 for _ in obj.walk()) - 1
    return f"({obj.type_name})" if not below else f"({obj.type_name}, and {below} below it)"


def _properties(obj: Object, other: Object) -> Iterator[Difference]:
    theirs = other.properties()
    for name, declared in obj.properties().items():
        if not _compared(declared) or name not in theirs:
            continue
        one, two = _value(obj, declared), _value(other, theirs[name])
        if one != two and not (_of_the_host(obj, declared) and _of_the_host(other, theirs[name])):
            yield Difference("property", obj.path, name, to_text(declared, one), to_text(theirs[name], two))


def _compared(declared: Property) -> bool:
    return (
        not declared.volatile
        and declared.kind not in ("child", "alias")
        and (declared.get is None or declared.set is not None)
    )


def _value(obj: Object, declared: Property) -> Any:
    value = declared.read(obj)
    if isinstance(value, Object):
        return value.path
    return value.value if isinstance(value, enum.Enum) else value


def _of_the_host(obj: Object, declared: Property) -> bool:
    """Whether nobody chose the value, and the host gave it."""
    meant = globals_for(obj, declared)
    return declared.name not in obj.user_set and bool(meant) and meant[-1].of_the_host


def _wires(first: VirtualMachine, second: VirtualMachine) -> Iterator[Difference]:
    """Wires between objects that both machines have."""
    both = _by_path(first).keys() & _by_path(second).keys()
    one, other = (_wire_texts(vm, both) for vm in (first, second))
    yield from (Difference("wire", "wire", "", text, None) for text in one if text not in other)
    yield from (Difference("wire", "wire", "", None, text) for text in other if text not in one)


def _wire_texts(vm: VirtualMachine, between: Set[str]) -> dict[str, None]:
    """The wires in words, in order."""
    found = [w for w in wires(vm) if w.source.object.path in between and w.target.object.path in between]
    return {f"{_end(w.source)} -> {_end(w.target)}{f' ({w.note})' if w.note else ''}": None for w in found}


def _end(end: WireEnd) -> str:
    return f"{end.object.path} {end.text}".rstrip()


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
