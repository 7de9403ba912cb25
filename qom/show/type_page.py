"""A type's page: what it is and models, where it comes from, its properties, state, lines and buses, and how to ask for one.

`type_page` gathers it from the registry, for types from anywhere; `qom doc` and the reference of the documentation write it.
"""

from __future__ import annotations

import ast
import enum
import inspect
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, Final

from qom.errors import QomError
from qom.hw.bus import Bus
from qom.hw.device import Device
from qom.properties import INT_RANGES, Property, to_text
from qom.registry import Type
from qom.show.board_sections import board_file, board_sections
from qom.show.example import example
from qom.show.page import Cell, Code, Page, Part, Ref, Section

__all__ = ["type_page"]

SHORT: Final = 32  # of a reset value, in characters
HIDDEN: Final = frozenset({"realized", "bus"})
"""Properties of every device that are not configuration."""


def type_page(found: Type) -> Page:
    """Gather the page of a type.  Raises TypeRegistryError when its class cannot be initialised."""
    desc = found.desc
    sections = [Section("", _about(found)), _facts(found)]
    sections += _properties(found)
    sections += board_sections(found)
    sections += [s for s in (_state(found), _lines(found), _derived(found), _use(found)) if s is not None]
    return Page(found.name, desc, tuple(sections))


# What is on it


def _about(found: Type) -> tuple[str, ...]:
    """The class's own words, and for a concrete type what its module says it models."""
    own = inspect.cleandoc(found.cls.__dict__.get("__doc__") or "")
    first, _, rest = own.partition("\n")
    if first.rstrip(".") == found.desc:
        own = rest.strip()
    said = [own] if own else []
    module = sys.modules.get(found.cls.__module__)
    if module is not None and not found.abstract and module.__doc__ and not module.__name__.startswith("qom."):
        said.append(inspect.cleandoc(module.__doc__))
    return tuple(said)


def _facts(found: Type) -> Section:
    rows: list[tuple[Cell, ...]] = []

    def fact(name: str, *parts: Part) -> None:
        rows.append((name, parts))

    line: list[Part] = [Code(found.name)]
    for above in found.lineage()[1:]:
        line += [" ← ", Ref(above.name)]
    fact("derives from", *line)
    own = [name for name in sorted(found.ancestry) if name not in {t.name for t in found.lineage()}]
    if own:
        fact("implements", *_joined([Ref(name) for name in own]))
    if aliases := found.registry.aliases(found.name):
        fact("also called", *_joined([Code(a) for a in aliases]))
    if found.abstract:
        fact("abstract", "cannot be created itself")
    fact("comes from", found.registry.brought_by(found))
    if not found.is_record:
        fact("module", Code(str(found.cls.__module__)))
    elif made_from := board_file(found):
        fact("board file", Code(made_from))
    if issubclass(found.cls, Device) and not found.is_a("machine"):
        cls: type[Device] = found.cls
        if cls.bus_type:
            fact("sits on", "a bus of type ", Ref(found.registry.canonical(cls.bus_type)))
        if not found.abstract:
            provided = _buses(found)
            if provided:
                parts: list[Part] = []
                for type_name, name in provided:
                    known = found.registry.find_any((type_name,))
                    parts += [", " if parts else "", Ref(known.name) if known else Code(type_name), " as ", Code(name)]
                fact("provides", *parts)
            fact("added by", "a user or the board" if cls.user_creatable else "the board only")
            if cls.hotpluggable:
                fact("hotplug", "can be added and removed while the machine runs")
    if issubclass(found.cls, Bus) and found.cls.max_devices is not None:
        fact("has room for", f"{found.cls.max_devices} devices")
    return Section("", rows=tuple(rows), head=("", ""))


def _joined(parts: Iterable[Part]) -> list[Part]:
    out: list[Part] = []
    for part in parts:
        out += [", ", part] if out else [part]
    return out


def _buses(found: Type) -> list[tuple[str, str]]:
    """Type and name of the buses a device makes: its children, and what its source gives to `new_bus`."""
    out = [(p.target, p.name) for p in found.properties.values() if p.kind == "child" and _is_bus(found, p.target)]
    for owner in type.mro(found.cls):
        if owner is Device:
            break
        for type_name, name in _new_buses(owner):
            if (type_name, name) not in out:
                out.append((type_name, name))
    return out


def _is_bus(found: Type, name: str) -> bool:
    other = found.registry.find_any((name,))
    return other is not None and other.is_a("bus")


def _new_buses(owner: type) -> Iterable[tuple[str, str]]:
    try:
        if "new_bus" not in inspect.getsource(sys.modules[owner.__module__]):
            return  # parsing is what takes time, and few modules have one
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (KeyError, OSError, TypeError, SyntaxError):  # made by a function, or typed at a prompt: nothing to read
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "new_bus":
            type_name, name = (*node.args, None, None)[:2]
            if isinstance(type_name, ast.Constant) and isinstance(type_name.value, str) and name is not None:
                yield type_name.value, _pattern(name)


def _pattern(name: ast.expr) -> str:
    """A name as the source says it: "pci.0", or "ide.N" for one that is counted."""
    if isinstance(name, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "N" for v in name.values)
    return str(name.value) if isinstance(name, ast.Constant) else "…"


def _properties(found: Type) -> Iterable[Section]:
    own: list[tuple[Cell, ...]] = []
    inherited: list[tuple[Cell, ...]] = []
    for p in sorted(found.properties.values(), key=lambda p: p.name):
        if p.name in HIDDEN or p.kind == "child":
            continue
        owner = _owner(found, p)
        row: tuple[Cell, ...] = (Code(p.name), Code(p.type), default_text(p), values_text(p))
        if owner is found:
            own.append((*row, said(p)))
        else:
            inherited.append((*row, Ref(owner.name), said(p)))
    head = ("property", "type", "default", "values")
    if own:
        yield Section("Properties", head=(*head, "meaning"), rows=tuple(own))
    if inherited:
        yield Section("Inherited properties", head=(*head, "from", "meaning"), rows=tuple(inherited))
    if not own and not inherited:
        yield Section("Properties", ("It has none.",))


def _owner(found: Type, p: Property) -> Type:
    """The type that declares `p` (with this default): the topmost that has the very same declaration."""
    owner = found
    for above in found.lineage()[1:]:
        if above.properties.get(p.name) is not p:
            break
        owner = above
    return owner


def default_text(p: Property) -> str:
    """The default in words, with its unit."""
    if p.required:
        return "required"
    text = p.default_text
    return f"{text} {p.unit}" if p.unit and p.kind in INT_RANGES and p.default not in (None, 0) else text


def values_text(p: Property) -> str:
    """What it takes, where its type does not say it all."""
    if p.kind == "link":
        return "an object's id or path"
    if p.kind == "alias":
        return f"those of {p.target}"
    if (choices := p.choices) is not None and not isinstance(p.among, range):
        return ", ".join(str(c.value if isinstance(c, enum.Enum) else c) for c in choices)
    if p.kind in INT_RANGES:
        low, high = p.limits()
        if isinstance(p.among, range) and p.among:
            low, high = p.among[0], p.among[-1]
        if (low, high) == INT_RANGES[p.kind]:
            return p.unit or ""
        text = f"{low:#x} to {high:#x}" if p.base == 16 else f"{low} to {high}"
        return f"{text} {p.unit}" if p.unit else text
    if p.kind == "size" and (p.min or p.max is not None):
        low, high = p.limits()
        return f"{to_text(p, low)} to {to_text(p, high)}"
    return "on, off" if p.kind == "bool" else ""


def said(p: Property) -> str:
    """Its description, and whether it may still be set later."""
    return f"{p.desc}; may be set while it runs" if p.mutable else p.desc


def _state(found: Type) -> Section | None:
    rows: list[tuple[Cell, ...]] = []
    for field in found.states.values():
        shown = Code(_value(field.value()))
        rows.append((Code(field.attr), shown, "kept" if field.keep else "set back", field.desc))
    if not rows:
        return None
    text = ("What the guest can change: saved in snapshots, kept over a reload of the code.",)
    return Section("State", text, ("field", "at first", "at reset", "what it is"), tuple(rows))


def _value(value: Any) -> str:
    """A reset value, in few words."""
    if isinstance(value, enum.Enum):
        return value.name
    text = repr(value)
    if isinstance(value, list | tuple | bytes | bytearray) and len(value) > 4:
        same = all(v == value[0] for v in value)
        return f"{len(value)} × {value[0]}" if same and len(repr(value[0])) < SHORT else f"{len(value)} values"
    return text if len(text) <= SHORT else f"a {type(value).__name__}"


def _lines(found: Type) -> Section | None:
    """Inputs and outputs, as an instance has them before it is realized."""
    if found.abstract or not issubclass(found.cls, Device) or found.is_a("machine"):
        return None
    try:
        device = found.registry.fork().new(found.name)
    except (QomError, OSError):  # cannot be made here (no such hardware): its lines are not known
        return None
    rows: list[tuple[Cell, ...]] = [
        (direction, Code(name or "unnamed"), str(len(lines)))
        for direction, table in (("in", device.lines()), ("out", device.pins()))
        for name, lines in table.items()
    ]
    return Section("Lines", head=("", "name", "how many"), rows=tuple(rows)) if rows else None


def _derived(found: Type) -> Section | None:
    rows: list[tuple[Cell, ...]] = []
    for other in found.registry.types(found.name):
        if other.parent == found.name or (other is not found and found.name in other.interfaces):
            try:
                rows.append((Ref(other.name), other.desc))
            except QomError as error:
                rows.append((Ref(other.name), f"broken: {error}"))
    return Section("Types derived from it", head=("type", "what it is"), rows=tuple(rows)) if rows else None


def _use(found: Type) -> Section | None:
    shown = example(found)
    if shown is None:
        return None
    line = "qom-system-x86_64 " + " ".join(shown.words)
    return Section("How to ask for one", blocks=(("sh", line), ("toml", shown.toml)))
