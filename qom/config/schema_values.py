"""What values look like in a JSON Schema of a file: numbers, sizes, switches, names, and the properties of types.

Files say many things in more than one way (`3`, `"3"`, `"0x3"`, `"${three}"`); these pieces take them all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from qom.errors import TypeRegistryError
from qom.properties import INT_RANGES, Property
from qom.registry import Type, TypeRegistry

__all__ = [
    "DEFS",
    "DIALECT",
    "INTEGER",
    "SIZE",
    "Schema",
    "add_other_names",
    "any_case",
    "concrete",
    "declared_schema",
    "is_on",
    "item_schema",
    "number",
    "one_of",
    "one_or_several",
    "property_schema",
    "settable",
    "table",
    "table_or",
]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

INTEGER: Final = r"[-+]?(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0+|[1-9][0-9]*)"
SIZE: Final = r"(0[xX][0-9a-fA-F]+|[0-9]+(\.[0-9]+)?)\s*[bBkKmMgGtTpPeE]?(i?B)?"
_NOT_OF_A_FILE: Final = frozenset({"realized", "bus"})


def any_case(*words: str) -> str:
    """A pattern for the words, however they are written."""
    return f"^({'|'.join(''.join(f'[{c}{c.upper()}]' for c in word) for word in words)})$"


_PORTS: Final = "(stdio|null|pty|ringbuf|console)"

DEFS: Final[dict[str, Schema]] = {
    "filled": {
        "type": "string",
        "pattern": r"\{[^{}]*\}",
        "description": "Text with a variable, ${name}, or in a repeated entry with arithmetic, {8 * n}",
    },
    "text": {"type": ["string", "integer"]},
    "id": {
        "anyOf": [{"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]*$"}, {"$ref": "#/$defs/filled"}],
        "description": "The name other entries refer to it by: a letter, then letters, digits, '-', '.', '_'",
    },
    "switch": {
        "anyOf": [
            {"type": "boolean"},
{"type": "string", "pattern": any_case("on", "yes", "true", "off", "no", "false")},
            {"$ref": "#/$defs/filled"},
        ]
    },
    "yes": {"anyOf": [{"type": "boolean"}, {"enum": ["on", "off"]}, {"$ref": "#/$defs/filled"}]},
    "mebibytes": {
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": rf"^\s*{SIZE}\s*$"},
            {"$ref": "#/$defs/filled"},
        ],
        "description": "A size: a number of MiB, or text such as 512M or 1.5G",
    },
    "names": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    "repeat": {
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": 4096}, {"type": "array"}, {"type": "string"}],
        "description": "Make this entry so many times, or for each element of a list: {n} counts from 0, {item} is the element",
    },
    "port": {
        "type": "string",
        "anyOf": [
            {"pattern": rf"^(chardev:.|(mon:)?(none$|{_PORTS}(,|$)|(file|pipe|unix|tcp|telnet|udp):.))[\s\S]*$"},
            {"$ref": "#/$defs/filled"},
        ],
        "description": "Back end: stdio, null, none, pty, ringbuf, console, file:PATH, pipe:PATH, unix:PATH, tcp:HOST:PORT,"
        " telnet:HOST:PORT, udp:HOST:PORT, chardev:ID; with mon: before it, it is shared with a monitor",
    },
}  # fmt: skip


def number(low: int, high: int, *, pattern: str = INTEGER) -> Schema:
    """An integer within bounds, or text that says one."""
    return {
        "anyOf": [
            {"type": "integer", "minimum": low, "maximum": high},
            {"type": "string", "pattern": rf"^\s*{pattern}\s*$"},
            {"$ref": "#/$defs/filled"},
        ]
    }


def is_on(key: str) -> Schema:
    """Whether a table says that the switch `key` is on."""
    on: Schema = {"anyOf": [{"const": True}, {"type": "string", "pattern": any_case("on", "yes", "true")}]}
    return {"properties": {key: on}, "required": [key]}


def one_of(words: Iterable[str]) -> Schema:
    """One of a few words, or a variable."""
    return {"anyOf": [{"enum": list(words)}, {"$ref": "#/$defs/filled"}]}


def table(properties: Mapping[str, Schema], required: Iterable[str] = (), **more: Any) -> Schema:
    """A table with those keys and no others."""
    made: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False, **more}
    if wanted := list(required):
        made["required"] = wanted
    return made


def one_or_several(entry: Schema) -> Schema:
    """One entry, or a list of them."""
    return {"if": {"type": "array"}, "then": {"type": "array", "items": entry}, "else": entry}


def property_schema(declared: Property) -> Schema:
    """What a property takes in a file."""
    made: Schema = {**_taken(declared), "description": _description(declared)}
    default = declared.default
    if not declared.required and isinstance(default, bool | int | str | list | dict):
        made["default"] = default
    elif not declared.required and hasattr(default, "value"):
        made["default"] = default.value
    return made


def _description(declared: Property) -> str:
    unit = f" ({declared.unit})" if declared.unit else ""
    return f"{declared.desc}{unit}"


def _taken(declared: Property) -> Schema:
    kind, among = declared.kind, declared.choices
    if kind == "bool":
        return {"anyOf": [*DEFS["switch"]["anyOf"], {"enum": ["1", "0"]}]}
    if kind in INT_RANGES or kind == "size":
        if isinstance(declared.among, range) and declared.among.step == 1 and len(declared.among):
            low, high = declared.among[0], declared.among[-1]
        else:
            low, high = declared.limits()
        made = number(low, high, pattern=SIZE if kind == "size" else INTEGER)
        if among is not None and not isinstance(declared.among, range):
            made["anyOf"][0] = {"enum": among}
        return made
    if kind == "enum" or (kind == "str" and among is not None):
        return one_of(dict.fromkeys([*(among or ()), *map(str, among or ())]))
    if kind == "list":
        return {"anyOf": [{"type": "array", "items": item_schema(declared.item)}, {"type": "string"}]}
    if kind == "dict":
        return {"anyOf": [{"type": "object", "additionalProperties": item_schema(declared.item)}, {"type": "string"}]}
    return {"type": "string"}  # text, or the id or path that a link goes by


def item_schema(item: str | None) -> Schema:
    """What an element of a list, or of a table, takes that holds values of the type `item`; None: of any."""
    if item is None:
        return {}
    if item == "bool":
        return {"$ref": "#/$defs/switch"}
    if item in INT_RANGES or item == "size":
        low, high = INT_RANGES.get(item, INT_RANGES["uint64"])
        return number(low, high, pattern=SIZE if item == "size" else INTEGER)
    return {"type": "string"}


def table_or(plain: Schema, keys: Mapping[str, Schema]) -> Schema:
    """One value, or a table with those keys."""
    return {"if": {"type": "object"}, "then": table(keys), "else": plain}


def add_other_names(keys: dict[str, Schema], name: str, props: Mapping[str, Property]) -> None:
    """Also take properties by names that are read but not written: `a_b` for `a-b`."""
    for p in props.values():
        other = {"$ref": f"#/$defs/{name}/properties/{p.name}", "deprecated": True}
        keys.setdefault(p.name.replace("-", "_"), other)
        keys.setdefault(p.attr, other)


def concrete(registry: TypeRegistry, parent: str) -> list[Type]:
    """The concrete types of a kind, without those that cannot be initialised: somebody else reports them."""
    found = []
    for one in registry.types(parent, abstract=False) if parent in registry else ():
        with contextlib.suppress(TypeRegistryError):
            registry.initialise(one)
            found.append(one)
    return found


def settable(found: Type) -> dict[str, Property]:
    """The properties of a type that a file may set."""
    return {
        p.name: p
        for p in found.properties.values()
        if p.name not in _NOT_OF_A_FILE
        and p.kind != "child"
        and (not p.volatile or p.kind == "alias")
        and (p.get is None or p.set is not None)
    }


def declared_schema(registry: TypeRegistry, found: Type, declared: Property) -> Schema:
    """What a property of the type `found` takes in a file; an alias takes what the property behind it does."""
    if declared.kind != "alias":
        return property_schema(declared)
    path, _, name = ("", "", declared.target[1:]) if declared.target[:1] == "." else declared.target.rpartition(".")
    here: Type | None = found
    for part in filter(None, path.split("/")):
        held = here.properties.get(part) if here is not None else None
        here = registry.find_any((held.target,)) if held is not None and held.kind == "child" else None
    target = here.properties.get(name) if here is not None else None
    if target is None or target.kind == "alias":
        return {"description": declared.desc}
    return {**property_schema(target), "description": declared.desc}
