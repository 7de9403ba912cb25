"""The reference part of the documentation, as Markdown pages made from what is there: nothing in it is typed by hand.

`pages()` gives them all: types (the pages of `qom doc`), properties, plugin hooks, commands and options, the public names.
The documentation's build puts them under `reference/`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol
from urllib.parse import quote

from qom import hookspecs, records
from qom.cli.commands import COMMANDS
from qom.cli.exit_options import EXIT_OPTIONS
from qom.cli.options import OPTIONS
from qom.cli.session import PLUGIN_CHOICE
from qom.errors import QomError
from qom.monitor import qapi
from qom.monitor.table import CommandTable
from qom.registry import Type, TypeRegistry
from qom.show.page import as_markdown, escaped, markdown_table
from qom.show.type_page import HIDDEN, default_text, said, type_page, values_text

__all__ = ["PUBLIC", "pages"]

PUBLIC: Final = ("qom", "qom.hw", "qom.vm", "qom.board", "qom.config", "qom.show", "qom.testing", "accel")
"""The packages whose `__all__` is for users."""
KINDS: Final = (
    ("machine", "Machines"),
    ("accel", "Accelerators"),
    ("cpu", "Processors"),
    ("device", "Devices"),
    ("bus", "Buses"),
    ("chardev", "Character device back ends"),
    ("block-backend", "Block back ends"),
    ("user-creatable", "Objects that a user may add"),
)
"""Groups of the list of types: the type that each derives from; the first that fits counts."""
LINE: Final = 88  # characters of a signature on one line
GENERATED: Final = "<!-- Generated from the source; do not edit. -->\n\n"


def pages(registry: TypeRegistry) -> dict[str, str]:
    """Every page of the reference by its path below `reference/`, as Markdown."""
    made = {
        "index.md": _index(),
        "types/index.md": _types(registry),
        "properties.md": _properties(registry),
        "hooks.md": _hooks(),
        "commands.md": _commands(),
        "qmp.md": _qmp(registry),
    }
    for found in registry:
        made[f"types/{found.name}.md"] = as_markdown(type_page(found))
    for module in _public_modules():
        made[f"api/{module.__name__}.md"] = _api(module)
    return {path: GENERATED + text for path, text in made.items()}


def _index() -> str:
    rows = [
        (
            "[Types](types/index.md)",
            "every machine, accelerator, processor, device, bus and back end, with a page for each",
        ),
        ("[Properties](properties.md)", "every property of every type, by name"),
        ("[Commands and options](commands.md)", "`qom` and `qom-system-x86_64`"),
        ("[QMP commands and events](qmp.md)", "what a QMP monitor is asked and tells, with the types"),
        ("[Plugin hooks](hooks.md)", "what a plugin may declare and implement"),
    ]
    for module in _public_modules():
        first = (inspect.getdoc(module) or "").partition("\n")[0]
        rows.append((f"[`{module.__name__}`](api/{module.__name__}.md)", escaped(first)))
    text = "Generated from the source when the documentation is built: types from `qom doc`, the rest from docstrings."
    return "\n".join(["# Reference", "", text, "", *markdown_table(("", "what it says"), rows), ""])


# Types and properties


def _types(registry: TypeRegistry) -> str:
    groups: dict[str, list[Type]] = {title: [] for title in (*(title for _, title in KINDS), "Others")}
    for found in registry:
        title = next((title for name, title in KINDS if name in registry and found.is_a(name)), "Others")
        groups[title].append(found)
    lines = [
        "# Types",
        "",
        "`qom types` prints the list, `qom doc TYPE` a page; both know plugins that are installed.",
        "",
    ]
    for title, members in groups.items():
        if members:
            rows = [
                (f"[`{t.name}`]({quote(t.name)}.md)", "abstract" if t.abstract else "", escaped(_desc(t)))
                for t in sorted(members, key=lambda t: (not t.abstract, t.name.lower()))
            ]
            lines += [f"## {title}", "", *markdown_table(("type", "", "what it is"), rows), ""]
    return "\n".join(lines)


def _desc(found: Type) -> str:
    try:
        return found.desc
    except QomError as error:
        return f"broken: {error}"


def _properties(registry: TypeRegistry) -> str:
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    for found in registry:
        above = found.registry.parent_of(found, found.parent).properties if found.parent else {}
        for p in found.properties.values():
            if p.name in HIDDEN or p.kind == "child" or above.get(p.name) is p:
                continue
            rows[p.name, found.name] = (
                f"`{p.name}`",
                f"[`{found.name}`](types/{quote(found.name)}.md)",
                f"`{p.type}`",
                escaped(default_text(p)),
                escaped(values_text(p)),
                escaped(said(p)),
            )
    head = ("property", "of", "type", "default", "values", "meaning")
    text = "Every property that a type declares, or gives another default; types derived from it have it, too."
    return "\n".join(["# Properties", "", text, "", *markdown_table(head, [rows[key] for key in sorted(rows)]), ""])


# Hooks


def _hooks() -> str:
    lines = ["# Plugin hooks", "", docstring(hookspecs), ""]
    for name, function in sorted(vars(hookspecs).items()):
        if inspect.isfunction(function) and name.startswith("qom_"):
            lines += [f"## {name}", "", *_signature_block(name, function), docstring(function), ""]
    return "\n".join(lines)


# Commands


def _commands() -> str:
    rows = [(f"`qom {name} {c.arguments}`".replace(" `", "`"), escaped(c.help)) for name, c in COMMANDS.items()]
    lines = ["# Commands and options", "", "## qom", "", *markdown_table(("command", "what it does"), rows), ""]
    for name in COMMANDS:
        module = importlib.import_module(f"qom.cli.commands.{name}")
        said = docstring(module)
        if "\n\n" in said:  # more than the table says
            lines += [f"### qom {name}", "", said, ""]
    options = [
        (
            ", ".join(f"`-{n}`" for n in (option.name, *option.aliases)),
            f"`{option.argument}`" if option.argument else "",
            escaped(option.help),
        )
        for option in OPTIONS
    ]
    own = [(f"`-{option}`", escaped(text)) for option, text in EXIT_OPTIONS.items()]
    choices = [(f"`--{name} {c.argument}".rstrip() + "`", escaped(c.help)) for name, c in PLUGIN_CHOICE.items()]
    lines += ["### With every command", "", *markdown_table(("option", "what it does"), choices), ""]
    lines += ["## qom-system-x86_64", ""]
    lines += [*markdown_table(("option", "what it does"), own), ""]
    lines += ["These follow a file in `qom run FILE` and its relatives, too:", ""]
    return "\n".join([*lines, *markdown_table(("option", "takes", "what it does"), options), ""])


# QMP


def _qmp(registry: TypeRegistry) -> str:
    table = CommandTable(registry)
    text = (
        "A `?` follows what may be left out. What an object of the answer holds is in braces; `query-qmp-schema` gives the"
        " same to a program. Marked are commands that a client may give before the machine is built (`-preconfig`), and"
        " those that may run out of band (`exec-oob`)."
    )
    lines = ["# QMP commands and events", "", text, "", "## Commands", ""]
    for command in table:
        marks = [
            word
            for word, on in (("before the machine is built", command.preconfig), ("out of band", command.oob))
            if on
        ]
        taken = [
            f"- `{name}{'?' * member.optional}`: `{_qapi(member.type)}`"
            for name, member in command.arguments.members.items()
        ]
        taken += ["- any others"] if command.arguments.open else []
        lines += [f"### {command.name}", "", inspect.cleandoc(command.desc), ""]
        lines += [*taken, ""] if taken else []
        lines += [f"Answer: `{_qapi(command.returns)}`" + (f" ({', '.join(marks)})" if marks else ""), ""]
    lines += ["## Events", ""]
    for event in table.events.values():
        lines += [f"### {event.name}", "", f"{event.desc}.", "", f"Data: `{_qapi(event.data)}`", ""]
    return "\n".join(lines)


def _qapi(type: qapi.Type, above: tuple[qapi.Type, ...] = ()) -> str:
    """A type of QMP in a line; one that contains itself ends in "..."."""
    if type in above:
        return "..."
    inside = (*above, type)
    if isinstance(type, qapi.Array):
        return f"[{_qapi(type.item, inside)}]"
    if isinstance(type, qapi.Enum):
        return " | ".join(f'"{word}"' for word in type.values)
    if isinstance(type, qapi.Alternate):
        return " or ".join(_qapi(each, inside) for each in type.types)
    if isinstance(type, qapi.Struct):
        members = [f"{name}{'?' * m.optional}: {_qapi(m.type, inside)}" for name, m in type.members.items()]
        for word, case in type.cases.items():
            members += [f"with {type.tag} {word}: {_qapi(case, inside)}"] if case.members else []
        return "{" + ", ".join([*members, *(["..."] * type.open)]) + "}"
    return type.bits.name if isinstance(type, qapi.Builtin) and type.bits is not None else type.expected


# Public names


def _public_modules() -> Iterator[Any]:
    return map(importlib.import_module, PUBLIC)


def _api(module: Any) -> str:
    lines = [f"# {module.__name__}", "", docstring(module), ""]
    for name in sorted(module.__all__, key=lambda n: (not n[0].isupper() or n.isupper(), n.lower())):
        value = getattr(module, name)
        lines += [f"## {name}", ""]
        home = _home(module, name, value)
        if home is not None:
            lines += [f"The same as [`{home}.{name}`]({home}.md#{_anchor(name)}).", ""]
        elif inspect.isclass(value):
            lines += list(_class(name, value))
        elif callable(value):
            lines += [*_signature_block(name, value), docstring(value), ""]
        else:
            lines += [
                f"`{type(value).__name__}`: `{_shortened(value)}`" if not inspect.ismodule(value) else docstring(value),
                "",
            ]
    return "\n".join(lines)


def _home(module: Any, name: str, value: Any) -> str | None:
    """The package that showed the very same thing before, in the order of `PUBLIC`."""
    for earlier in _public_modules():
        if earlier is module:
            return None
        if name in earlier.__all__ and getattr(earlier, name) is value:
            return str(earlier.__name__)
    return None


def _anchor(name: str) -> str:
    return name.lower()


def _class(name: str, cls: type) -> Iterator[str]:
    bases = [b.__name__ for b in cls.__bases__ if b is not object]
    made = _constructor(cls)
    yield "\n".join(["```python", f"class {name}{'(' + ', '.join(bases) + ')' if bases else ''}", *made, "```"])
    yield ""
    own = docstring(cls)
    if own:
        yield own
        yield ""
    for member, value in _members(cls):
        what = f"{member}{_signature(value)}" if callable(value) else member
        text = docstring(value)
        yield f"`{what}`" + (f"\n:   {_indented(text)}" if text else "")
        yield ""


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Its own public methods and computed attributes, in the order of the source."""
    for name, held in vars(cls).items():
        if name.startswith("_"):
            continue
        value = held.__func__ if isinstance(held, classmethod | staticmethod) else held
        if inspect.isfunction(value) or isinstance(value, property):
            yield name, value


def _constructor(cls: type) -> list[str]:
    """How one is made, where the class itself says it and takes anything."""
    init = cls.__dict__.get("__init__")
    if not inspect.isfunction(init) or Protocol in cls.__bases__:
        return []
    signature = _signature(records.constructor(cls) if records.has(cls) else init).removesuffix(" -> None")
    return [_laid_out(f"{cls.__name__}{signature}")] if signature != "()" else []


def _signature_block(name: str, function: Callable[..., Any]) -> Iterable[str]:
    return ["```python", _laid_out(f"{name}{_signature(function)}"), "```", ""]


def _laid_out(text: str) -> str:
    """A signature with a parameter a line, where it is long."""
    if len(text) <= LINE:
        return text
    depth, parts, start = 0, [], text.index("(") + 1
    for at in range(start, len(text)):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth < 0:
            parts.append(text[start:at])
            inside = ",\n    ".join(p.strip() for p in parts)
            return f"{text[: text.index('(')]}(\n    {inside},\n{text[at:]}"
        if text[at] == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return text


class _Source(str):
    """An annotation as its source says it: shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(function: Callable[..., Any]) -> str:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "(…)"
    kept = [
        p.replace(annotation=_Source(p.annotation)) if isinstance(p.annotation, str) else p
        for n, p in enumerate(signature.parameters.values())
        if n or p.name not in ("self", "cls")
    ]
    result = signature.return_annotation
    result = _Source(result) if isinstance(result, str) else result
    text = str(signature.replace(parameters=kept, return_annotation=result))
    return re.sub(r"<(?:function|object|class) [^>]*>", "…", text)


def _shortened(value: Any) -> str:
    text = repr(value)
    if len(text) <= LINE and " at 0x" not in text:
        return text
    return f"{len(value)} entries" if hasattr(value, "__len__") else "…"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields):\n((?:[ ]{4}.*\n?|\n)+)", re.MULTILINE)


def docstring(value: Any) -> str:
    """A docstring as Markdown: its sections of arguments and errors as lists."""
    text = inspect.cleandoc(value.__doc__ or "") if isinstance(value.__doc__, str) else ""
    out, at = [], 0
    for match in _SECTION.finditer(text):
        out.append(escaped(text[at : match.start()]).rstrip("\n"))
        items = re.split(r"\n(?=    \S)", "\n" + match[2].rstrip("\n"))
        listed = []
        for item in items:
            name, colon, rest = " ".join(item.split()).partition(": ")
            if name:
                listed.append(f"- `{name}`: {escaped(rest)}" if colon else f"- {escaped(name)}")
        out.append("\n".join([f"{match[1]}:", "", *listed]))
        at = match.end()
    out.append(escaped(text[at:]))
    return "\n\n".join(part for part in out if part.strip())
