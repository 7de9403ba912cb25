"""What `-device help`, `-device NAME,help`, `-M help`, `-accel help`, `-cpu help` and `qom types` print."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable
from typing import Any

from qom.errors import ConfigError, QomError
from qom.properties import Property
from qom.registry import Type, TypeRegistry

PARENTS = {
    "device": ("device", ""),
    "machine": ("machine", "-machine"),
    "accel": ("accel", "-accel"),
    "cpu": ("cpu", "-x86_64-cpu"),
    "chardev": ("chardev", ""),
    "object": ("user-creatable", ""),
}
"""For each option that takes help: the type its values derive from, and the suffix their names lose."""
HIDDEN = frozenset({"realized", "bus"})


def help_text(registry: TypeRegistry, option: str, name: str) -> str:
    """The answer to `-OPTION help` (no name) or `-OPTION NAME,help`."""
    parent, suffix = PARENTS.get(option, ("", ""))
    if not parent:
        raise ConfigError(f"there is no help for -{option}")
    if name:
        return describe(find(registry, option, name))
    if option == "device":
        return _devices(registry)
    if parent not in registry:
        raise ConfigError(f"there are no types of '{parent}' here: `qom plugins` says why")
    heads = {"machine": "Supported machines are:", "accel": "Accelerators:", "cpu": "Available CPUs:"}
    heads |= {"chardev": "Available chardev backend types:", "object": "Types of objects:"}
    rows: list[tuple[str, str]] = []
    if option == "chardev":
        suffix = ""
    for found in registry.types(parent, abstract=False):
        short = found.name.removesuffix(suffix).removeprefix("chardev-" if option == "chardev" else "")
        rows.append((short, _desc(found)))
        for alias in registry.aliases(found.name):
            rows.append((alias.removesuffix(suffix), f"{_desc(found)} (alias of {short})"))
    if not rows:
        return f"There are no types for -{option}."
    return "\n".join([heads[option], *_table(sorted(rows)), *(_cpu_options(registry) if option == "cpu" else [])])


def _cpu_options(registry: TypeRegistry) -> list[str]:
    """What follows a model in `-cpu MODEL,...`: the features, and what is no switch."""
    declared: dict[str, Property] = {}
    for found in registry.types("cpu", abstract=False):
        options: Collection[str] = getattr(found.cls, "options", ())
        declared |= {name: found.properties[name] for name in options if name in found.properties}
    switches = [name for name, p in declared.items() if p.type == "bool" or p.kind == "alias"]
    values = [f"{name}=<{p.type}>" for name, p in declared.items() if name not in switches]
    lines = []
    for head, names in (("Features and switches (+NAME, -NAME, NAME=on|off):", switches), ("Properties:", values)):
        if names:
            lines += ["", head, *textwrap.wrap(" ".join(sorted(names)), 118, initial_indent="  ", subsequent_indent="  ",
                                               break_on_hyphens=False)]  # fmt: skip
    suffix = PARENTS["cpu"][1]
    return [*lines, "", f"-device MODEL{suffix},help says what each means."] if lines else []


def find(registry: TypeRegistry, option: str, name: str) -> Type:
    """The type that the value `name` of an option means; ConfigError with near misses."""
    parent, suffix = PARENTS[option]
    tries = (name + suffix, name, f"chardev-{name}") if option == "chardev" else (name + suffix, name)
    found = registry.find_any(tries)
    if found is None or not found.is_a(parent):
        known = [
            n.removesuffix(suffix).removeprefix("chardev-" if option == "chardev" else "")
            for n in registry.names(parent)
        ]
        raise ConfigError(f"no {option} '{name}'{registry.suggest(name, known)}", f"-{option} {name},help")
    return found


def describe(found: Type) -> str:
    """A type's properties, one a line: `NAME=<type>`, description, default, range."""
    lines = [f"{found.name}: {_desc(found)}" if _desc(found) else found.name]
    if found.abstract:
        lines.append("(abstract: cannot be created itself)")
    props = [p for p in found.properties.values() if p.name not in HIDDEN and p.kind != "child"]
    lines.append(f"{found.name} options:" if props else f"{found.name} has no options")
    width = max((len(f"{p.name}=<{p.type}>") for p in props), default=0)
    for p in sorted(props, key=lambda p: p.name):
        lines.append(f"  {f'{p.name}=<{p.type}>':{width}} - {property_text(p)}")
    return "\n".join(lines)


def property_text(p: Property) -> str:
    """A property's description with its default, unit and range."""
    notes = ["required" if p.required else f"default: {p.default_text}{f' {p.unit}' if p.unit and p.default else ''}"]
    choices = p.choices
    if isinstance(p.among, range) and p.among:
        notes.append(f"{p.among[0]}..{p.among[-1]}")
    elif choices is not None:
        notes.append("one of " + ", ".join(str(c) for c in choices))
    elif p.min is not None or p.max is not None:
        low, high = p.limits()
        notes.append(f"{low}..{high}")
    if p.mutable:
        notes.append("settable at run time")
    return f"{p.desc} ({'; '.join(notes)})"


def _devices(registry: TypeRegistry) -> str:
    groups: dict[str, list[str]] = {}
    for found in registry.types("device", abstract=False) if "device" in registry else []:
        if found.is_a("machine") or found.is_a("cpu"):
            continue
        try:
            cls: Any = found.cls
        except QomError as error:
            groups.setdefault("broken", []).append(f'name "{found.name}", {error}')
            continue
        if not cls.user_creatable:
            continue
        bus = f", bus {cls.bus_type}" if cls.bus_type else ""
        desc = f', desc "{_desc(found)}"' if _desc(found) else ""
        groups.setdefault(cls.category, []).append(f'name "{found.name}"{bus}{desc}')
        for alias in registry.aliases(found.name):
            groups[cls.category].append(f'name "{alias}", alias of "{found.name}"')
    lines: list[str] = []
    for category in sorted(groups):
        lines += ["", f"{category.capitalize()} devices:", *sorted(groups[category])]
    return "\n".join(lines[1:]) if lines else "There are no devices."


def _desc(found: Type) -> str:
    try:
        return found.desc
    except QomError as error:
        return f"broken: {error}"


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    listed = list(rows)
    width = max((len(a) for a, _ in listed), default=0)
    return [f"  {a:{width}}  {b}".rstrip() for a, b in listed]
