"""TOML with positions: tomllib reads the data, and a pass over the accepted text finds where each piece of it is."""

from __future__ import annotations

import contextlib
import re
import tomllib
from typing import Any

from qom.config.document import Node, Source, member
from qom.errors import ConfigError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR_END = re.compile(r"[,\]}#\n]")
_MANY_DIGITS = re.compile(r"[-+]?[0-9_]{1000,}")
_AT = re.compile(r" [(]at (?:line (\d+), column (\d+)|end of document)[)]$")

_TWICE = ("Cannot overwrite a value", "Cannot declare", "Duplicate inline table key")

Keys = tuple[str | int, ...]


def parse_toml(source: Source) -> Node:
    """The file's top table.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        data = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(source, str(error)) from None
    except ValueError:  # int() takes no more digits than that
        digits = _MANY_DIGITS.search(source.text)
        raise source.error("not TOML: a number of too many digits", digits.start() if digits else 0) from None
    offsets = toml_offsets(source.text)
    return _node(source, data, offsets, (), "")


def _syntax_error(source: Source, text: str) -> ConfigError:
    found = _AT.search(text)
    reason = _AT.sub("", text)
    if found is None or found[1] is None:
        return source.error(f"not TOML: {reason}", len(source.text) if found else 0)
    node = Node(None, source.file, int(found[1]), int(found[2]))
    if reason.startswith(_TWICE) and (repeated := _repeated(source, node)) is not None:
        return repeated
    return node.error(f"not TOML: {reason}")


def _repeated(source: Source, end: Node) -> ConfigError | None:
    """The error for a key that is given twice; `end` is where tomllib noticed, behind it."""
    scanner = _Scanner(source.text[: source.offset(end.line, end.column)] + "]")  # a header is noticed before it ends
    with contextlib.suppress(IndexError):  # the text ends in the middle of something else
        scanner.scan()
    if scanner.again is None:
        return None
    keys, offset, first = scanner.again
    path = ""
    for key in keys:
        path = member(path, key)
    line, column = source.where(first)
    return source.error(f"the key '{path}' is given twice, first at {line}:{column}", offset)


def _node(source: Source, value: Any, offsets: dict[Keys, int], keys: Keys, path: str) -> Node:
    offset = offsets.get(keys, 0)
    source.check_depth(len(keys), offset)
    if isinstance(value, dict):
        held: Any = {k: _node(source, v, offsets, (*keys, k), member(path, k)) for k, v in value.items()}
    elif isinstance(value, list):
        held = [_node(source, v, offsets, (*keys, n), member(path, n)) for n, v in enumerate(value)]
    else:
        held = value
    return source.node(held, offset, path)


def toml_offsets(text: str) -> dict[Keys, int]:
    """Where every table header, key and array element is in `text`, by its path in the data.

    `text` is TOML that tomllib has accepted, with plain line feeds.  A table has the offset of the header (or of the
    key) that first names it.
    """
    return _Scanner(text).scan()


class _Scanner:
    """One pass over a TOML document."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.offsets: dict[Keys, int] = {}
        self.counts: dict[Keys, int] = {}  # of arrays of tables: the index of their newest element
        self.values: set[Keys] = set()  # what has a value of its own
        self.tables: set[Keys] = set()  # those that have a header
        self.again: tuple[Keys, int, int] | None = None  # the last key given twice: its offset, and the first one's

    def scan(self) -> dict[Keys, int]:
        """Note everything there is."""
        table: Keys = ()
        at = self._space(0)
        while at < len(self.text):
            if self.text[at] == "[":
                table = self._header(at)
                at = self._line_end(at)
            else:
                at = self._pair(at, table)
            at = self._space(at)
        return self.offsets

    def _header(self, at: int) -> Keys:
        array = self.text[at + 1] == "["
        keys, _ = self._key(at + 1 + array)
        table = self._absolute([key for key, _ in keys])
        if array:
            self.counts[table] = self.counts.get(table, -1) + 1
            table = (*table, self.counts[table])
        elif table in self.tables or (table in self.offsets and not self._is_open(table)):
            self.again = (table, at, self.offsets[table])
        self.tables.add(table)
        self._note(table, at)
        return table

    def _is_open(self, table: Keys) -> bool:
        """Whether a header may still name the table: it is there only because others in it were named."""
        return table not in self.values

    def _absolute(self, keys: list[str]) -> Keys:
        """The place in the data that a header names: its last element, where it goes through an array of tables."""
        out: Keys = ()
        for n, key in enumerate(keys):
            out = (*out, key)
            if n < len(keys) - 1 and out in self.counts:
                out = (*out, self.counts[out])
        return out

    def _note(self, path: Keys, at: int) -> None:
        for n in range(1, len(path) + 1):
            self.offsets.setdefault(path[:n], at)

    def _pair(self, at: int, table: Keys) -> int:
        """Pass over `key = value`."""
        keys, at = self._key(at)
        path = table
        for key, offset in keys:
            path = (*path, key)
            if path in self.values or (path in self.offsets and len(path) == len(table) + len(keys)):
                self.again = (path, offset, self.offsets[path])
            self.offsets.setdefault(path, offset)
        self.values.add(path)
        return self._value(self._blank(at + 1), path)

    def _key(self, at: int) -> tuple[list[tuple[str, int]], int]:
        """The parts of a dotted key with their offsets, and the offset of the "=" or "]" after it."""
        keys: list[tuple[str, int]] = []
        while True:
            at = self._blank(at)
            if self.text[at] == ".":
                at += 1
            elif self.text[at] in "\"'":
                end = self._string_end(at)
                keys.append((next(iter(tomllib.loads(f"{self.text[at:end]} = 0"))), at))
                at = end
            elif match := _BARE.match(self.text, at):
                keys.append((match[0], at))
                at = match.end()
            else:
                return keys, at

    def _value(self, at: int, path: Keys) -> int:
        """Pass over a value; the offset after it."""
        char = self.text[at]
        if char in "\"'":
            return self._string_end(at)
        if char == "[":
            return self._array(at + 1, path)
        if char == "{":
            at = self._blank(at + 1)
            while self.text[at] != "}":
                at = self._blank(self._pair(at, path))
                at = self._blank(at + 1) if self.text[at] == "," else at
            return at + 1
        end = _SCALAR_END.search(self.text, at)
        return end.start() if end else len(self.text)

    def _array(self, at: int, path: Keys) -> int:
        n, at = 0, self._space(at)
        while self.text[at] != "]":
            self.offsets[(*path, n)] = at
            at = self._space(self._value(at, (*path, n)))
            at = self._space(at + 1) if self.text[at] == "," else at
            n += 1
        return at + 1

    def _string_end(self, at: int) -> int:
        text, quote = self.text, self.text[at]
        if text.startswith(quote * 3, at):
            here = at + 3
            while not text.startswith(quote * 3, here):
                here += 2 if quote == '"' and text[here] == "\\" else 1
            here += 3
            while here < len(text) and text[here] == quote:  # up to two quotes may end the string's own text
                here += 1
            return here
        here = at + 1
        while text[here] != quote:
            here += 2 if quote == '"' and text[here] == "\\" else 1
        return here + 1

    def _blank(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in " \t":
            at += 1
        return at

    def _space(self, at: int) -> int:
        """Past white space, line ends and comments."""
        while at < len(self.text):
            if self.text[at] == "#":
                at = self._line_end(at)
            elif self.text[at] in " \t\n":
                at += 1
            else:
                break
        return at

    def _line_end(self, at: int) -> int:
        found = self.text.find("\n", at)
        return len(self.text) if found < 0 else found
