"""What `[[part]]`, `[[wire]]` and `[[region]]` look like in a JSON Schema: of a machine file, and of a board file.

A part whose type is said takes the properties of that type, and nothing else.  Whether a place, a line or a name in an
expression exists is not for a schema to know; that each is written as one is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from qom.config.parts import REGION_KEYS_OF, ROLES, SINGLE, USES
from qom.config.schema_values import (
    Schema,
    add_other_names,
    concrete,
    declared_schema,
    is_on,
    number,
    one_of,
    settable,
    table,
)
from qom.registry import Type, TypeRegistry

__all__ = ["PART_DEFS", "WIRE", "entry_schemas", "region_schema"]

_FILLED: Final = {"$ref": "#/$defs/filled"}
_TEXT: Final[Schema] = {"type": ["string", "integer"], "minLength": 1}
_SWITCH: Final = {"$ref": "#/$defs/switch"}
_EXPRESSION: Final = {"$ref": "#/$defs/expression"}
_CONDITION: Final = {"$ref": "#/$defs/condition"}

_WORD_END: Final = "(?![A-Za-z0-9_])"
_TOKEN: Final = "|".join(
    (
        f"0[xX][0-9a-fA-F]+{_WORD_END}",
        f"[0-9]+[kKmMgGtT]?{_WORD_END}",
        "[A-Za-z_][A-Za-z0-9_]*([-.][A-Za-z0-9_]+)*(?![-.]?[A-Za-z0-9_])",
        "'[^']*'",
        '"[^"]*"',
        "//|[<>=!]=|[-+*%<>(),]",
    )
)
_LINE: Final = r"[^.\[\]:]+(\.[^\[\]:]+)?(\[[0-9]{1,4}\])?"
_NUMBERED: Final = "|".join(use for use in USES if use not in SINGLE)

PART_DEFS: Final[dict[str, Schema]] = {
    "expression": {
        "anyOf": [
            {"type": "integer"},
            {"type": "string", "pattern": rf"^(\s*({_TOKEN}))+\s*$", "maxLength": 1000},
            _FILLED,
        ],
        "description": "An integer, or an expression: sizes, names, + - * // %, comparisons, and or not, A if C else B",
    },
    "condition": {"anyOf": [{"type": "boolean"}, _EXPRESSION]},
}
"""Definitions that entries for parts, wires and regions refer to."""

_REMOVE: Final = {"remove": {**_SWITCH, "description": "Take it out of the board"}}
_REPEAT: Final = {"repeat": {"$ref": "#/$defs/repeat"}}
_WHEN: Final = "Condition over the board's values, under which it is there"
_REMOVED: Final[Schema] = {
    "if": is_on("remove"),
    "then": {"propertyNames": {"enum": ["name", "remove", "repeat"]}},
}
"""Of what is removed nothing else is said."""

WIRE: Final[Schema] = table(
    {
        "from": {
            "anyOf": [
                {"type": "string", "pattern": rf"^({_LINE}|[^:]+:irq(\[[0-9]{{1,4}}\])?)$"},
                {"type": "integer"},
                _FILLED,
            ],
            "description": "Output: PART.LINE[N] or PART[N]; BUS:irq[N] for an interrupt line of an ISA bus",
        },
        "to": {
            "anyOf": [{"type": "string", "pattern": f"^{_LINE}$"}, {"type": "integer"}, _FILLED],
            "description": "Input: PART.LINE[N] or PART[N]",
        },
        "when": {**_CONDITION, "description": _WHEN},
        **_REMOVE,
        **_REPEAT,
    },
    ("from", "to"),
    description="A wire from an output to an input",
)


def region_schema() -> Schema:
    """An entry of `region`: what it takes depends on its kind, where that is said."""
    keys: dict[str, Schema] = {
        "name": {**_TEXT, "description": "Name of the region"},
        "kind": {**one_of(REGION_KEYS_OF), "description": "ram, rom, a window on another region, or room for others"},
        "in": {**_TEXT, "description": "Where it lies: memory, io, a container, or PART.REGION that a part makes"},
        "at": {**_EXPRESSION, "description": "Its offset there, in bytes; 'size' is its own"},
        "size": {**_EXPRESSION, "description": "In bytes; a ROM is as long as its image unless said"},
        "of": {**_TEXT, "description": "Of an alias: the region it shows"},
        "offset": {**_EXPRESSION, "description": "Of an alias: from where in that region, in bytes"},
        "priority": {**number(-(1 << 31), 1 << 31), "description": "Where regions overlap the higher one is seen"},
        "readonly": {**_SWITCH, "description": "Of an alias: drop writes"},
        "file": {**_TEXT, "description": "Of a ROM: the image, beside this file"},
        "property": {**_TEXT, "description": "Of a ROM: the machine's property that may name another image"},
        "sha256": {
            "$ref": "#/$defs/text",
            "description": "Of a ROM: the digest of the image in 'file', in hexadecimal",
        },
        "granule": {**_EXPRESSION, "description": "Of a ROM: what its length is a multiple of, in bytes"},
        "when": {**_EXPRESSION, "description": _WHEN},
        **_REMOVE,
        **_REPEAT,
    }
    kinds: list[Schema] = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"propertyNames": {"enum": ["name", "kind", *taken, "remove", "repeat"]}},
        }
        for kind, taken in REGION_KEYS_OF.items()
    ]
    return table(keys, ("name",), allOf=[_REMOVED, *kinds], description="A piece of the memory map")


Handed = Callable[[Type], Iterable[str]]
"""The names of what a board hands a device of a type."""


def entry_schemas(registry: TypeRegistry, handed: Handed | None = None) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """The entries "part", "wire" and "region", and the definitions that these refer to.

    Args:
        registry: the types that parts may be of.
        handed: what `links` may name, by type; anything without it.
    """
    devices = [found for found in concrete(registry, "device") if not found.is_a("machine")]
    names = {found.name: [found.name, *registry.aliases(found.name)] for found in devices}
    roles = [f"{{{role}}}" for role in ROLES]
    known = [*(name for group in names.values() for name in group), *roles]
    defs = dict(PART_DEFS)
    chosen: list[Schema] = []
    for found in devices:
        defs[f"part.{found.name}"] = _of_type(registry, found, handed)
        named = {"properties": {"type": {"enum": names[found.name]}}, "required": ["type"]}
        chosen.append({"if": named, "then": {"$ref": f"#/$defs/part.{found.name}"}})
    # Outside of a repeated entry braces are no arithmetic: they enclose a role.
    said = {"anyOf": [{"enum": known}, {"type": "string", "pattern": r"\$\{"}]}
    keys: dict[str, Schema] = {
        "name": {**_TEXT, "description": "Name of the part, in the tree /machine/NAME"},
        "type": {**one_of(known), "description": f"Its device type; {', '.join(roles)}: the accelerator's"},
        "bus": {
            "anyOf": [{"type": "string", "pattern": r"^(|system|[^.]+\.[\s\S]+)$"}, _FILLED],
            "description": "Place of its bus: system, or PART.BUS",
        },
        "props": {"type": "object", "description": "Properties"},
        "values": {"type": "object", "additionalProperties": _CONDITION, "description": "Properties given by expressions"},
        "links": {
            "type": "object",
            "additionalProperties": {"type": "string", "minLength": 1},
            "description": "What it is handed: a part, a region, or accelerator",
        },
        "when": {**_CONDITION, "description": _WHEN},
        "for": {
            "anyOf": [{"type": "string", "pattern": rf"^({'|'.join(SINGLE)}|({_NUMBERED})(\[[0-9]{{1,3}}\])?)$"}, _FILLED],
            "description": "What must be asked for, for it to be there: "
            "serial[N], parallel[N], drive[N], cdrom[N], floppy[N], debugcon, vga",
        },
        **_REMOVE,
        **_REPEAT,
    }  # fmt: skip
    unrepeated: Schema = {"if": {"required": ["repeat"]}, "else": {"properties": {"type": said}}}
    part = table(keys, ("name",), allOf=[_REMOVED, unrepeated, *chosen], description="A part of the board")
    return {"part": part, "wire": WIRE, "region": region_schema()}, defs


def _of_type(registry: TypeRegistry, found: Type, handed: Handed | None) -> Schema:
    """What goes for a part of the type `found`."""
    declared = settable(found)
    props = {name: declared_schema(registry, found, p) for name, p in declared.items()}
    values: dict[str, Schema] = {
        name: {**_CONDITION, "description": made["description"]} for name, made in props.items()
    }
    here = f"part.{found.name}/properties"
    add_other_names(props, f"{here}/props", declared)
    add_other_names(values, f"{here}/values", declared)
    keys: dict[str, Any] = {
        "type": {"description": found.desc},
        "props": table(props),
        "values": table(values),
    }
    if handed is not None:
        links: dict[str, Schema] = {name: {} for name in handed(found)}
        keys["links"] = table({**links, **{name.replace("-", "_"): {} for name in links}})
    return {"properties": keys}
