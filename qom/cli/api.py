"""The public API as text: a line for every name, with its signature; checked in as `docs/api-MAJOR.MINOR.txt`.

    python -m qom.cli.api            writes the description of the present version
    python -m qom.cli.api --check    says what has changed against it; status 1 when something has

What is public is what the modules in `MODULES` name in `__all__`, of a class its methods, properties and annotated
attributes without an underscore, and the hooks.  A name that several modules export is described where it comes first.
"""

from __future__ import annotations

import difflib
import enum
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from qom import hookspecs, records

MODULES = ("qom", "qom.hw", "qom.vm", "qom.monitor", "qom.board", "qom.testing", "qom.records", "accel")
ROOT = Path(__file__).parents[2]
LONGEST = 60  # characters of a default or a constant that are shown
LIFE = frozenset({"class_init", "instance_init", "instance_post_init", "finalize"})
"""What the object model calls by itself; that a class has one is not for others to use."""


def description() -> str:
    """The whole description."""
    lines: list[str] = []
    seen: dict[int, str] = {}
    exported = {id(getattr(importlib.import_module(m), n)) for m in MODULES for n in importlib.import_module(m).__all__}
    for module in MODULES:
        found = importlib.import_module(module)
        for name in sorted(found.__all__):
            value, path = getattr(found, name), f"{module}.{name}"
            shared = not isinstance(value, int | float | str | bytes | tuple | frozenset | type(None))
            if shared and id(value) in seen:
                lines.append(f"{path} is {seen[id(value)]}")
                continue
            seen[id(value)] = path
            lines += _described(path, value, exported)
    hooks = {n: f for n, f in vars(hookspecs).items() if n.startswith("qom_")}
    lines += [f"hook {name}{_signature(function)}" for name, function in sorted(hooks.items())]
    return "\n".join(lines) + "\n"


def path_of(version: tuple[int, int]) -> Path:
    """Where the description of a version is checked in."""
    return ROOT / "docs" / f"api-{version[0]}.{version[1]}.txt"


def names(text: str) -> set[str]:
    """The names a description has, without their signatures."""
    return {re.split(r"[(:=]| is ", line, maxsplit=1)[0].strip() for line in text.splitlines()}


def changes(old: str, new: str) -> list[str]:
    """What `new` has and `old` has not, and the other way round, as lines that begin with + and -."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]


def _described(path: str, value: Any, exported: set[int]) -> Iterator[str]:
    if isinstance(value, ModuleType):
        for name in sorted(
            n for n, v in vars(value).items() if not n.startswith("_") and isinstance(v, int | str | tuple)
        ):
            yield f"constant {path}.{name} = {_text(getattr(value, name))}"
    elif isinstance(value, type) and issubclass(value, enum.Enum):
        yield f"enum {path}"
        yield from (f"member {path}.{member.name} = {_text(member.value)}" for member in value)
    elif isinstance(value, type):
        yield f"class {path}{_constructor(value)}"
        yield from sorted(_members(path, value, exported))
    elif inspect.isroutine(value):
        yield f"def {path}{_signature(value)}"
    elif isinstance(value, int | float | str | bytes | tuple | frozenset):
        yield f"constant {path} = {_text(value)}"
    else:
        yield f"value {path}: {type(value).__name__ if not callable(value) else 'type'}"


def _constructor(cls: type) -> str:
    """The signature of making one; of a QOM type, a protocol or an exception there is none to promise."""
    init = cls.__dict__.get("__init__")
    if init is None or issubclass(cls, BaseException) or getattr(cls, "_is_protocol", False):
        return ""
    return _signature(records.constructor(cls) if records.has(cls) else init, bound=True)


def _members(path: str, cls: type, exported: set[int]) -> Iterator[str]:
    """What a class has of its own; what it inherits from a class that is not exported counts as its own."""
    done = {field.name for field in records.fields(cls)} if records.has(cls) else set()  # its constructor tells them
    for base in cls.__mro__:
        if base is not cls and (id(base) in exported or not base.__module__.startswith(("qom", "accel"))):
            continue
        for name, held in vars(base).items():
            if name.startswith("_") or name in done or name in LIFE or inspect.ismodule(held):
                continue
            done.add(name)
            if isinstance(held, property):
                yield f"property {path}.{name}{_returns(held.fget)}"
            elif isinstance(held, functools.cached_property):
                yield f"property {path}.{name}{_returns(held.func)}"
            elif isinstance(held, classmethod | staticmethod):
                kind = "classmethod" if isinstance(held, classmethod) else "staticmethod"
                yield f"{kind} {path}.{name}{_signature(held.__func__, bound=isinstance(held, classmethod))}"
            elif inspect.isroutine(held) and not inspect.ismemberdescriptor(held):
                yield f"method {path}.{name}{_signature(held, bound=True)}"
        for name, annotation in inspect.get_annotations(base).items():
            if not name.startswith("_") and name not in done:
                done.add(name)
                yield f"attribute {path}.{name}: {_annotation(annotation)}"


def _signature(function: Any, *, bound: bool = False) -> str:
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    parts: list[str] = []
    parameters = list(found.parameters.values())[1 if bound else 0 :]
    starred = False
    last_bare = next((p for p in reversed(parameters) if p.kind is p.POSITIONAL_ONLY), None)
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        stars = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
        text = f"{stars}{parameter.name}"
        starred = starred or parameter.kind is parameter.VAR_POSITIONAL
        if parameter.annotation is not parameter.empty:
            text += f": {_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {_text(parameter.default)}"
        parts.append(text)
        if parameter is last_bare:
            parts.append("/")
    return f"({', '.join(parts)}){_arrow(found.return_annotation)}"


def _returns(function: Any) -> str:
    return _arrow(inspect.signature(function).return_annotation).replace(" ->", ":")


def _arrow(annotation: Any) -> str:
    return "" if annotation is inspect.Signature.empty else f" -> {_annotation(annotation)}"


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:typing|collections\.abc|types)\.", "", text)


def _text(value: object) -> str:
    """A value as it would be written; `...` for one that says nothing, or too much, or something else each time."""
    if isinstance(value, frozenset):
        value = sorted(value, key=str)
    text = f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
    plain = len(text) <= LONGEST and " at 0x" not in text and not text.startswith(("<", "_"))
    return text if plain else "..."


def main(argv: list[str]) -> int:
    """Write the description, or with `--check` compare it."""
    path, new = path_of(hookspecs.API_VERSION), description()
    if argv == ["--check"]:
        found = changes(path.read_text(encoding="utf-8") if path.exists() else "", new)
        print("\n".join(found) or f"{path.name} is up to date")
        return 1 if found else 0
    if argv:
        print(f"unknown argument '{argv[0]}': expected nothing, or --check", file=sys.stderr)
        return 1
    path.write_text(new, encoding="utf-8")
    print(f"{path}: {len(new.splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
