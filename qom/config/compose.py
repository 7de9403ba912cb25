"""Inclusion: a file, and those it includes, as one document.

`include = ["base.toml"]` takes in other files, of any of the three formats, found beside the file that says so.  Each is
taken once, in the order listed, before the file that includes it; what comes later wins.  Values are replaced, tables
are merged key by key, and an entry of a list is merged into the earlier one of the same id (or name).  Entries without
one are added.  `remove = ["id"]` takes out what included files brought.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qom.config.document import Document, Node, parse_file
from qom.config.expand import Scope, expand
from qom.errors import ConfigError, did_you_mean
from qom.options import Report, raise_it

__all__ = ["IDENTITIES", "compose"]

IDENTITIES: dict[str, str] = {
    "device": "id",
    "object": "id",
    "chardev": "id",
    "drive": "id",
    "blockdev": "node-name",
    "numa": "nodeid",
    "part": "name",
    "region": "name",
}
"""Lists whose entries have an identity, and the key that holds it."""

REMOVABLE = tuple(section for section in IDENTITIES if section != "numa")

TABLES: dict[str, str] = {
    "machine": "type",
    "smp": "cpus",
    "memory": "size",
    "boot": "order",
    "cpu": "model",
}
"""Sections that may be one plain value, and the key it is then taken for."""

SAME: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("accel",), ("machine", "accel")),
    (("memory", "size"), ("machine", "memory")),
    (("firmware",), ("bios",)),
    (("machine", "type"), ("machine", "board")),
    (("no-reboot",), ("action", "reboot")),
    (("no-shutdown",), ("action", "shutdown")),
)
"""Different keys that say the same thing: one of them in a file that includes replaces the others."""


def compose(path: str | Path, variables: Mapping[str, Any] | None = None, report: Report = raise_it) -> Document | None:
    """What the file at `path` says together with the files it includes.

    Args:
        path: a `.toml`, `.json` or `.yaml` file.
        variables: values for declared variables: text, or what a file could hold.
        report: told of every error; unless it raises, the search for errors goes on.

    Returns:
        The whole as one document, or None when the file itself is not readable.
    """
    scope = Scope(variables or {}, report)
    documents: list[Document] = []
    unread: list[Path] = []
    _gather(Path(path), scope, documents, (), {}, unread, report)
    scope.settle(documents)
    if not documents or documents[-1].path != str(path):
        return None
    whole = documents[-1].root.with_value({})
    for document in documents:
        added = _one_of_each(expand(document, scope).root, report)
        whole = _onto(whole, added, report, complete=not unread)
    return Document(str(path), whole, complete=not unread and scope.complete)


def laid_over(document: Document, over: Node, report: Report = raise_it) -> Document:
    """A document with more said over it, as by a file that includes it.

    Args:
        document: as `compose` gives it.
        over: a table, with nothing left in it to expand.
        report: as for `compose`.
    """
    root = _onto(document.root, _one_of_each(over, report), report)
    return Document(document.path, root, complete=document.complete)


def _gather(
    path: Path,
    scope: Scope,
    documents: list[Document],
    above: tuple[Path, ...],
    done: dict[Path, str],
    unread: list[Path],
    report: Report,
) -> None:
    """Add the documents of `path` and of what it includes to `documents`, included ones first; or `path` to `unread`."""
    try:
        document = parse_file(path)
    except ConfigError as error:
        report(error)
        unread.append(path)
        return
    scope.declare(document)
    above = (*above, _resolved(path))
    include = document.root.value.get("include")
    for node in _names(include, "include", report):
        try:
            inner = path.parent / _filled(node, scope)
        except ConfigError as error:
            report(error)
            unread.append(path)
            continue
        real = _resolved(inner)
        if real in above:
            trail = " -> ".join(str(p) for p in (*above, real))
            report(node.error(f"include: the file includes itself: {trail}"))
        elif real in done:
            continue
        elif not _is_file(inner):
            known = (
                [p.name for p in path.parent.iterdir() if p.is_file() and p != path]
                if inner.parent == path.parent
                else []
            )
            report(node.error(f"include: no file '{inner}'{did_you_mean(inner.name, known)}"))
            unread.append(inner)
        else:
            done[real] = str(inner)
            _gather(inner, scope, documents, above, done, unread, report)
    documents.append(document)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of symbolic links
        return path.absolute()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _filled(node: Node, scope: Scope) -> str:
    """The name in `include`; it may use variables that this file or one that includes it declares."""
    top = node.with_value({"include": node})
    text = expand(Document("", top), scope).root.value.get("include")
    if text is None or not isinstance(text.value, str) or not text.value or "\0" in text.value:
        raise node.error(f"include: no file name: {node.plain()!r}")
    return str(text.value)


def _names(node: Node | None, key: str, report: Report) -> list[Node]:
    """The strings in `include` or `remove`: one, or a list."""
    if node is None:
        return []
    nodes = node.value if isinstance(node.value, list) else [node]
    if not all(isinstance(inner.value, str) for inner in nodes):
        report(node.error(f"'{key}' cannot be {node.plain()!r}: expected a string or a list of strings"))
        return []
    return list(nodes)


# Merging


def _onto(base: Node, over: Node, report: Report, *, complete: bool = True) -> Node:
    """The top tables of two files as one; `over` wins.  complete: `base` is all that there was to be."""
    held: dict[str, Node] = dict(base.value)
    held.pop("remove", None)
    added: dict[str, Node] = dict(over.value)
    if (names := added.pop("remove", None)) is not None:
        held = _remove(base.with_value(held), names, report, complete=complete).value
    for group in SAME:
        if any(_find(added, keys) for keys in group):
            for keys in group:
                if not _find(added, keys) or keys == ("accel",):
                    _drop(held, keys)
    for key, node in added.items():
        if key == "include":
            continue
        held[key] = _merged_section(key, held[key], node) if key in held else node
    return over.with_value(held)


def _merged_section(key: str, base: Node, over: Node) -> Node:
    if key in IDENTITIES:
        return _merged_list(IDENTITIES[key], base, over)
    if key in ("global", "wire"):
        return over.with_value([*_entries(base), *_entries(over)])
    if key in TABLES:
        base, over = (_as_table(node, TABLES[key]) for node in (base, over))
    return _merged(base, over)


def _as_table(node: Node, first: str) -> Node:
    if isinstance(node.value, dict | list):
        return node
    return node.with_value({first: node})


def _merged(base: Node, over: Node) -> Node:
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    held = dict(base.value)
    for key, node in over.value.items():
        held[key] = _merged(held[key], node) if key in held else node
    return over.with_value(held, base.lost)


def _entries(node: Node) -> list[Node]:
    return list(node.value) if isinstance(node.value, list) else [node]


def _identity(entry: Node, key: str) -> Any:
    """What an entry is known by; None when it has nothing of the kind.

    Parts and regions of one name may stand there several times, each with a condition, which then counts too.
    """
    value = _plain_member(entry, key)
    when = _plain_member(entry, "when") if key == "name" else None
    return value if value is None or when is None else (value, when)


def _plain_member(entry: Node, key: str) -> Any:
    found = entry.value.get(key) if isinstance(entry.value, dict) else None
    return found.value if found is not None and not isinstance(found.value, dict | list) else None


def _merged_list(key: str, base: Node, over: Node) -> Node:
    made = _entries(base)
    places = {_identity(entry, key): n for n, entry in enumerate(made)}
    for entry in _entries(over):
        identity = _identity(entry, key)
        if identity is not None and identity in places:
            n = places[identity]
            made[n] = _merged(made[n], entry)
        else:
            made.append(entry)
    return over.with_value(made)


def _find(held: Mapping[str, Node], keys: tuple[str, ...]) -> bool:
    """Whether a file says something under `keys`; a section's plain value stands for its first key."""
    node = held.get(keys[0])
    if node is None or len(keys) == 1:
        return node is not None
    if not isinstance(node.value, dict):
        return TABLES.get(keys[0]) == keys[1]
    return keys[1] in node.value


def _drop(held: dict[str, Node], keys: tuple[str, ...]) -> None:
    node = held.get(keys[0])
    if node is None:
        return
    if len(keys) == 1 or not isinstance(node.value, dict):
        if len(keys) == 1 or TABLES.get(keys[0]) == keys[1]:
            del held[keys[0]]
    elif keys[1] in node.value:
        held[keys[0]] = node.with_value({k: v for k, v in node.value.items() if k != keys[1]})


def _remove(base: Node, names: Node, report: Report, *, complete: bool) -> Node:
    """What included files said without the entries that `names` lists."""
    held = dict(base.value)
    for node in _names(names, "remove", report):
        wanted, known, found = node.value, set[str](), False
        for section in REMOVABLE:
            if section not in held:
                continue
            entries = _entries(held[section])
            ids = [_plain_member(entry, IDENTITIES[section]) for entry in entries]
            known |= {id for id in ids if isinstance(id, str)}
            if wanted in ids:
                found = True
                kept = [entry for entry, id in zip(entries, ids, strict=True) if id != wanted]
                held[section] = held[section].with_value(kept)
        if not found and complete:
            hint = did_you_mean(wanted, known)
            report(node.error(f"remove: nothing with the id '{wanted}' is in the included files{hint}"))
    return base.with_value(held)


def _one_of_each(root: Node, report: Report) -> Node:
    """The top table of one file without the entries that repeat the identity of an earlier one, which are reported."""
    held = dict(root.value)
    for section, key in IDENTITIES.items():
        if section not in held:
            continue
        seen: dict[Any, Node] = {}
        kept: list[Node] = []
        for entry in _entries(held[section]):
            identity = _identity(entry, key)
            if identity is not None and identity in seen:
                shown = _plain_member(entry, key)
                text = f"{section}: the {key} '{shown}' is given twice, first by {seen[identity].origin}"
                report(entry.error(text))
                continue
            kept.append(entry)
            if identity is not None:
                seen[identity] = entry
        if len(kept) < len(_entries(held[section])):
            held[section] = held[section].with_value(kept)
    return root.with_value(held)
