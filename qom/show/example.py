"""How to ask for an object of a type: the words of a command line, and the same in a file."""

from __future__ import annotations

import enum
import json
from typing import Any

import attrs

from qom.hw.device import Device
from qom.properties import INT_RANGES, REQUIRED, Property
from qom.registry import Type

__all__ = ["Example", "example"]


@attrs.frozen
class Example:
    """How to ask for one: the words of a command line, and the same in a file."""

    words: tuple[str, ...]
    toml: str


def example(found: Type) -> Example | None:
    """A command line and a file that ask for one, with what it cannot do without; None for what only a board makes."""
    if found.abstract:
        return None
    name = found.name
    for parent, suffix, option in (("machine", "-machine", "machine"), ("accel", "-accel", "accel")):
        if found.is_a(parent):
            short = name.removesuffix(suffix)
            key = "type" if parent == "machine" else "accel"
            return Example((f"-{option}", short), f"[machine]\n{key} = {json.dumps(short)}\n")
    if found.is_a("cpu"):
        short = name.removesuffix("-x86_64-cpu")
        return Example(("-cpu", short), f"cpu = {json.dumps(short)}\n")
    if found.is_a("chardev"):
        return _entry("chardev", "backend", name.removeprefix("chardev-"), {"id": "char0", **_needed(found)}, (), "")
    if found.is_a("user-creatable"):
        return _entry("object", "qom-type", name, {"id": "object0", **_needed(found)}, (), "")
    if not issubclass(found.cls, Device) or not found.cls.user_creatable:
        return None
    props = _needed(found)
    words: tuple[str, ...] = ()
    text = ""
    for p in found.properties.values():
        if p.kind == "link" and p.target in ("chardev", "block-backend", "drive"):
            if p.target == "chardev":
                words += ("-chardev", "ringbuf,id=char0")
                text += '[[chardev]]\nid = "char0"\nbackend = "ringbuf"\n\n'
                props[p.name] = "char0"
            else:
                words += ("-drive", "if=none,id=disk0,file=disk.img")
                text += '[[drive]]\nid = "disk0"\nif = "none"\nfile = "disk.img"\n\n'
                props[p.name] = "disk0"
    return _entry("device", "driver", name, props, words, text)


def _entry(section: str, key: str, name: str, props: dict[str, Any], words: tuple[str, ...], text: str) -> Example:
    option = ",".join([name, *(f"{k}={_word(v)}" for k, v in props.items())])
    lines = [f"[[{section}]]", f"{key} = {json.dumps(name)}", *(f"{k} = {json.dumps(v)}" for k, v in props.items())]
    return Example((*words, f"-{section}", option), text + "\n".join(lines) + "\n")


def _word(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _needed(found: Type) -> dict[str, Any]:
    """The required properties, each with a value it could have."""
    return {p.name: _sample(p) for p in found.properties.values() if p.default is REQUIRED}


def _sample(p: Property) -> Any:
    if p.choices:
        first = p.choices[0]
        return first.value if isinstance(first, enum.Enum) else first
    if p.kind in INT_RANGES:
        return max(p.limits()[0], 0)
    return {"bool": True, "size": "1M", "link": f"{p.target}0", "list": [], "dict": {}}.get(p.kind, f"some-{p.name}")
