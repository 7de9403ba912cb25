"""The format of board files as a JSON Schema (2020-12), made from a registry: what an editor completes and checks them by.

It judges a file alone, as it stands on the page: what comes from variables, repetition or the board that it extends it
lets pass.  Names that stand for something elsewhere (parts, buses, regions, lines, those in expressions) it does not
look up; `qom check` does.
"""

from __future__ import annotations

from typing import Any, Final

from qom.board.assembly import links_of
from qom.board.changes import NEEDED
from qom.board.files import PROPERTY_TYPES
from qom.board.parts import BoardCpus
from qom.board.types import BASE, SUFFIX
from qom.config.document import SUFFIXES
from qom.config.schema import VARIABLES
from qom.config.schema_parts import entry_schemas
from qom.config.schema_values import DEFS, DIALECT, SIZE, Schema, concrete, is_on, item_schema, number, one_of, table
from qom.registry import TypeRegistry

__all__ = ["board_schema"]

_FILLED: Final = {"$ref": "#/$defs/filled"}
_TEXT: Final[Schema] = {"type": ["string", "integer"]}
_SAID: Final[Schema] = {**_TEXT, "minLength": 1}
_SWITCH: Final = {"$ref": "#/$defs/switch"}
_EXPRESSION: Final = {"$ref": "#/$defs/expression"}
_REPEAT: Final = {"repeat": {"$ref": "#/$defs/repeat"}}
_NAME: Final[Schema] = {
    "anyOf": [
        {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.+-]*$"},
        {"type": "integer", "minimum": 0},
        _FILLED,
    ]
}


def board_schema(registry: TypeRegistry) -> Schema:
    """The schema of board files, for the types there are in `registry`."""
    entries, defs = entry_schemas(registry, lambda found: sorted(links_of(found)))
    defs |= entries
    defs["property"] = _property(registry)
    return {
        "$schema": DIALECT,
        "title": "Board file of qom",
        "description": "A board as a TOML, JSON or YAML file: parts, their places, and the lines between them",
        "type": "object",
        "properties": {
            "variables": VARIABLES,
            "board": _board(registry),
            "property": {**_several("property"), "description": "Properties of the machine type"},
            "version": {**_several(VERSION), "description": "Versions of the board, newest first"},
            "values": {
                "type": "object",
                "additionalProperties": _EXPRESSION,
                "description": "Names for expressions, which may use each other",
            },
            "require": {**_several(REQUIRE), "description": "What must hold before anything is made"},
            "region": {**_several("region"), "description": "The memory map"},
            "cpus": _cpus(registry),
            "part": {**_several("part"), "description": "What the board is made of"},
            "wire": {**_several("wire"), "description": "Wires from outputs to inputs"},
        },
        "required": ["board"],
        "additionalProperties": False,
        "allOf": [_from_nothing(), _processors(registry)],
        "$defs": {**DEFS, **dict(sorted(defs.items()))},
    }


def _several(entry: str | Schema) -> Schema:
    """A list of entries; one alone must be one that is repeated."""
    one: Schema = {"$ref": f"#/$defs/{entry}"} if isinstance(entry, str) else entry
    return {
        "if": {"type": "object", "required": ["repeat"]},
        "then": one,
        "else": {"type": "array", "items": one},
    }


VERSION: Final = table(
    {
        "name": {**_NAME, "description": "The machine type is NAME-VERSION-machine"},
        "set": {
            "type": "object",
            "propertyNames": {"pattern": r"^[\s\S]+\.[^.]+$"},
            "additionalProperties": {"type": ["string", "integer", "number", "boolean"]},
            "description": "What was different then: DRIVER.PROPERTY and its value",
        },
        **_REPEAT,
    },
    ("name",),
    description="A version of the board",
)
REQUIRE: Final = table(
    {
        "that": {**_EXPRESSION, "description": "The condition"},
        "else": {**_SAID, "description": "What is wrong when it does not hold"},
        **_REPEAT,
    },
    ("that", "else"),
    description="A condition on the machine",
)


def _board(registry: TypeRegistry) -> Schema:
    """`[board]`."""
    below = [found.name for found in registry.types(BASE)]
    names = [*below, *(alias for name in below for alias in registry.aliases(name))]
    machines = sorted({*names, *(name.removesuffix(SUFFIX) for name in names)})
    suffixes = "|".join(suffix.removeprefix(".") for suffix in SUFFIXES)
    memory: list[Schema] = [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": rf"^\s*{SIZE}\s*$"},
        _FILLED,
    ]
    return table(
        {
            "name": {**_NAME, "description": "Name of the board; the machine type is NAME-machine"},
            "aliases": {
                "anyOf": [{"type": "array", "items": {**_NAME, "type": "string"}}, _FILLED],
                "description": "Other names for -M",
            },
            "desc": {**_TEXT, "description": "One line for -M help"},
            "extends": {
                "anyOf": [{"enum": machines}, {"type": "string", "pattern": rf"\.({suffixes})$"}, _FILLED],
                "description": "What it is built on: a machine type, or a board file beside this one",
            },
            "default-cpu": {**_TEXT, "description": "Processor model without -cpu"},
            "default-memory": {"anyOf": memory, "description": "Size of RAM in bytes, or such as 128M, without -m"},
            "max-cpus": {**number(0, 4096), "description": "How many processors there may be"},
        },
        ("name",),
        description="The board",
    )


def _property(registry: TypeRegistry) -> Schema:
    """A `[[property]]`: its default is of its type."""
    taken = sorted(registry.get(BASE).properties) if BASE in registry else []
    keys: dict[str, Schema] = {
        "name": {**_NAME, "not": {"enum": taken}, "description": "Name of the property"},
        "type": {**one_of(PROPERTY_TYPES), "description": "Its type"},
        "desc": {**_SAID, "description": "What it is for"},
        "default": {"description": "Its value unless the user says another"},
        "required": {**_SWITCH, "description": "Whether the user must say a value"},
        "unit": {**_TEXT, "description": "Unit of its values"},
        "min": {**number(-(1 << 63), 1 << 64), "description": "Lowest value"},
        "max": {**number(-(1 << 63), 1 << 64), "description": "Highest value"},
        "among": {"anyOf": [{"type": "array", "minItems": 1}, _FILLED], "description": "The values it may have"},
        **_REPEAT,
    }
    kinds: list[Schema] = [
        {
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"properties": {"default": _value(kind)}},
        }
        for kind in PROPERTY_TYPES
    ]
    either: Schema = {
        "if": is_on("required"),
        "then": {"not": {"required": ["default"]}},
        "else": {"if": {"properties": {"required": _FILLED}, "required": ["required"]}, "else": {"required": ["default"]}},
    }  # fmt: skip
    return table(
        keys, ("name", "type", "desc"), allOf=[either, *kinds], description="A property of the machine type"
    )  # fmt: skip


def _value(kind: str) -> Schema:
    """What a property of a board has as its default."""
    made = item_schema(kind)
    return {"anyOf": [made, {"enum": ["1", "0"]}]} if kind == "bool" else made


def _cpus(registry: TypeRegistry) -> Schema:
    """`[cpus]`."""
    kinds = [found.name for found in registry.types("cpu")] if "cpu" in registry else []
    default = BoardCpus()
    return table(
        {
            "of": {**one_of(kinds), "description": "Type that processor models derive from", "default": default.of},
            "name": {**_TEXT, "description": "Name in the tree; {index} is its number", "default": default.name},
            "apic-bus": {**_TEXT, "description": "Part through which local APICs talk"},
            "fixed": {**_SWITCH, "description": "Whether -cpu is refused", "default": default.fixed},
        },
        description="Processors: there are some if there is this table",
    )


def _processors(registry: TypeRegistry) -> Schema:
    """With `[cpus]` the default model is one that there is, and several processors have different names."""
    models: dict[str, None] = {}
    for found in concrete(registry, "cpu"):
        for name in (found.name, *registry.aliases(found.name)):
            models[name] = None
            models |= dict.fromkeys(name.removesuffix(f"-{kind.name}") for kind in found.lineage()[1:])
    several = {
        "properties": {
            "board": {"properties": {"max-cpus": {"type": "integer", "minimum": 2}}, "required": ["max-cpus"]}
        },
    }
    numbered = {"properties": {"name": {"type": "string", "pattern": r"\{index\}|\$\{"}}}
    return {
        "if": {"required": ["cpus"]},
        "then": {
            "properties": {"board": {"properties": {"default-cpu": one_of(models)}}},
            "if": several,
            "then": {"properties": {"cpus": numbered}},
        },
    }


def _from_nothing() -> Schema:
    """What has to be said where nothing is extended that could have said it."""
    rom: Schema = {"anyOf": [{"required": ["file"]}, {"required": ["property"]}]}
    needed: dict[str, list[Schema]] = {kind: [{"required": list(keys)}] for kind, keys in NEEDED.items()}
    needed["rom"].append(rom)
    needed["alias"].append({"required": ["at"]})
    elsewhere: Schema = {
        "properties": {"in": {"not": {"anyOf": [{"const": "memory"}, _FILLED]}}},
        "required": ["in"],
    }
    region: list[Schema] = [
        {"required": ["kind"]},
        {"if": elsewhere, "then": {"required": ["at"]}},
        {"if": {"required": ["sha256"]}, "then": {"required": ["file"]}},
    ]
    for kind, conditions in needed.items():
        said: dict[str, Any] = {"properties": {"kind": {"const": kind}}, "required": ["kind"]}
        region.append({"if": said, "then": {"allOf": conditions}})
    model: Schema = {
        "if": {"required": ["cpus"]},
        "then": {"properties": {"board": {"required": ["default-cpu"]}}},
    }
    alone: Schema = {
        "properties": {
            "part": {"items": {"required": ["type"]}},
            "region": {"items": {"allOf": region}},
        },
        "allOf": [model],
    }
    extends = {"properties": {"board": {"required": ["extends"]}}, "required": ["board"]}
    return {"if": extends, "else": alone}
