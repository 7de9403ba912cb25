"""Strict JSON (RFC 8259) with positions: no comments, no trailing commas, no key twice, and no null."""

from __future__ import annotations

import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # the standard library's own, where a string ends
from typing import Any

from qom.config.document import Node, Source, member

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*|.", re.DOTALL)
_WORDS = {"true": True, "false": False}


def parse_json(source: Source) -> Node:
    """The file's object.

    Raises:
        ConfigError: it is not JSON, holds something twice or null, or is no object.
    """
    return _Parser(source).parse()


class _Parser:
    """Recursive descent over the text of one file."""

    def __init__(self, source: Source) -> None:
        self.source, self.text, self.at = source, source.text, 0

    def parse(self) -> Node:
        """The whole file."""
        self._space()
        if not self.text.startswith("{", self.at):
            raise self._expected("an object in braces")
        root = self._value("", self.at, 0)
        self._space()
        if self.at < len(self.text):
            raise self._expected("the end of the file")
        return root

    def _value(self, path: str, place: int, depth: int) -> Node:
        """The value at the current offset; `place` is what its node points to."""
        self.source.check_depth(depth, place)
        start = self.text[self.at : self.at + 1]
        if start == "{":
            value: Any = self._object(path, depth)
        elif start == "[":
            value = self._array(path, depth)
        elif start == '"':
            value = self._string()
        else:
            value = self._scalar()
        return self.source.node(value, place, path)

    def _object(self, path: str, depth: int) -> dict[str, Node]:
        out: dict[str, Node] = {}
        self._step()
        while not self._take("}", first=not out):
            place = self.at
            if not self.text.startswith('"', place):
                raise self._expected("a key in double quotes")
            key = self._string()
            if key in out:
                line, column = out[key].line, out[key].column
                raise self.source.error(f"the key '{key}' is given twice, first at {line}:{column}", place)
            self._space()
            if not self.text.startswith(":", self.at):
                raise self._expected(f"':' after the key '{key}'")
            self._step()
            out[key] = self._value(member(path, key), place, depth + 1)
        return out

    def _array(self, path: str, depth: int) -> list[Node]:
        out: list[Node] = []
        self._step()
        while not self._take("]", first=not out):
            out.append(self._value(member(path, len(out)), self.at, depth + 1))
        return out

    def _take(self, end: str, *, first: bool) -> bool:
        """Pass over `end` (True), or over what separates the next member from the one before."""
        self._space()
        if self.text.startswith(end, self.at):
            self.at += 1
            return True
        if not first:
            if not self.text.startswith(",", self.at):
                raise self._expected(f"',' or '{end}'")
            self._step()
            if self.text.startswith(end, self.at):
                raise self._expected("another member after ','")
        return False

    def _string(self) -> str:
        try:
            text, self.at = scanstring(self.text, self.at + 1, True)
        except JSONDecodeError as error:
            raise self.source.error(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}", error.pos) from None
        return str(text)

    def _scalar(self) -> Any:
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            place, self.at = self.at, number.end()
            try:
                return float(number[0]) if number[1] or number[2] else int(number[0])
            except ValueError:
                raise self.source.error("not JSON: a number of too many digits", place) from None
        word = _WORD.match(self.text, self.at)
        if word is not None and word[0] in _WORDS:
            self.at = word.end()
            return _WORDS[word[0]]
        if word is not None and word[0] == "null":
            raise self.source.error("null says nothing: leave the key out", self.at)
        raise self._expected("a value")

    def _expected(self, what: str) -> Exception:
        found = _WORD.match(self.text, self.at)
        if self.text.startswith(("//", "/*", "#"), self.at):
            return self.source.error("not JSON: JSON has no comments", self.at)
        shown = repr(found[0]) if found else "the end of the file"
        return self.source.error(f"not JSON: {shown} where {what} was expected", self.at)

    def _step(self) -> None:
        self.at += 1
        self._space()

    def _space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
