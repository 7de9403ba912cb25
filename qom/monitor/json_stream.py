"""JSON values out of a stream of bytes: of any size, split anywhere, broken anywhere.

`JsonStream.feed` takes what came and gives what is complete: values, and errors with the place of the bad byte counted
from the first byte of the value it is in.  After an error the stream goes on with the next object or the next line, as
soon as it can.  As in QEMU strings may stand in single quotes, too; NaN and Infinity are no JSON; an object has each
member once; an integer beyond 64 bits counts as a number with a fraction.

What is complete goes through the standard library's parser.  What that does not take, or takes and should not, goes
through the strict one below, which says what is wrong and where.

Limits: 256 levels of nesting (QEMU: 1024), 64 MiB a value (as in QEMU).
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

__all__ = ["MAX_DEPTH", "MAX_SIZE", "JsonError", "JsonStream", "dumps", "loads"]

MAX_DEPTH = 256
MAX_SIZE = 64 << 20

_BLANK = b" \t\r\n"
_SKIP_BLANK = re.compile(rb"[ \t\r\n]*")
_STRUCTURE = re.compile(rb"[][{}\"']|[^ -~\t\r\n\x80-\xff]")
_IN_STRING = {b'"'[0]: re.compile(rb'["\\\x00-\x1f]'), b"'"[0]: re.compile(rb"['\\\x00-\x1f]")}
_WORD = re.compile(rb"[^][{}:,\"' \t\r\n]*")
_RESUME = re.compile(rb"[\n\xff{]")
_CLOSES = {b"{"[0]: b"}"[0], b"["[0]: b"]"[0]}
_QUOTES = b"\"'"


class JsonError(Exception):
    """What came is no JSON; `at` is the index of the bad byte, counted from the first byte of the value it is in."""

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at
        super().__init__(f"JSON parse error, {what} at byte {at}")


class Value(NamedTuple):
    """A complete value."""

    value: Any


class JsonStream:
    """Collects bytes, gives values."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what is incomplete: somebody else speaks now."""
        self._held = bytearray()
        self._seen = 0  # up to here `_held` has been looked at
        self._open = bytearray()  # the brackets that wait for their closing ones
        self._quote = 0  # in a string: what ends it
        self._lost = False  # after an error: nothing counts until a new beginning

    def feed(self, data: bytes) -> list[Value | JsonError]:
        """Take `data`; returns the values that are complete by it, and the errors, in order."""
        self._held += data
        out: list[Value | JsonError] = []
        while self._step(out):
            pass
        return out

    def _step(self, out: list[Value | JsonError]) -> bool:
        """Go on to the end of a value, or as far as there are bytes; whether there may be more."""
        held = self._held
        if self._lost:
            found = _RESUME.search(held)
            if found is None:
                held.clear()
                return False
            del held[: found.start() + (found.group() != b"{")]
            self._lost = False
        if not self._open and not self._quote and self._seen == 0:
            del held[: _SKIP_BLANK.match(held).end()]  # type: ignore[union-attr]  # it matches nothing, too
            if not held:
                return False
            if held[0] not in b"{[\"'":
                return self._word(out)
        end = self._end_of_value(out)
        if end is None:
            if len(held) > MAX_SIZE:
                self._fail(out, f"a value of more than {MAX_SIZE >> 20} MiB", MAX_SIZE)
                return True
            return False
        if end == 0:  # it failed
            return True
        text = bytes(held[:end])
        del held[:end]
        self._seen = 0
        try:
            out.append(Value(loads(text)))
        except JsonError as error:
            out.append(error)
        return True

    def _word(self, out: list[Value | JsonError]) -> bool:
        """What begins with neither a bracket nor a quote: a number or a keyword, which ends with what cannot be in it."""
        held = self._held
        end = _WORD.match(held).end()  # type: ignore[union-attr]
        if end == 0:
            self._fail(out, f"{_shown(held[0])} where a value was expected", 0)
            return True
        if end == len(held) and end <= MAX_SIZE:
            return False  # the rest of it may come
        text = bytes(held[:end])
        try:
            out.append(Value(loads(text)))
            del held[:end]
        except JsonError as error:
            self._fail(out, error.what, error.at)
        return True

    def _end_of_value(self, out: list[Value | JsonError]) -> int | None:
        """Where the value ends; None when not all of it is there, 0 when it is broken."""
        held = self._held
        at = self._seen
        while True:
            if self._quote:
                found = _IN_STRING[self._quote].search(held, at)
                if found is None:
                    self._seen = len(held)
                    return None
                at, char = found.end(), found.group()
                if char == b"\\":
                    if at == len(held):
                        self._seen = at - 1
                        return None
                    at += 1
                elif char[0] == self._quote:
                    self._quote = 0
                    if not self._open:
                        return at
                else:
                    self._fail(out, f"{_shown(char[0])} in a string", at - 1)
                    return 0
                continue
            found = _STRUCTURE.search(held, at)
            if found is None:
                self._seen = len(held)
                return None
            at, byte = found.end(), found.group()[0]
            if byte in _QUOTES:
                self._quote = byte
            elif byte in _CLOSES:
                if len(self._open) == MAX_DEPTH:
                    self._fail(out, f"nesting of more than {MAX_DEPTH} levels", at - 1)
                    return 0
                self._open.append(_CLOSES[byte])
            elif self._open and byte == self._open[-1]:
                self._open.pop()
                if not self._open:
                    return at
            else:
                right = f": expected {_shown(self._open[-1])}" if self._open and byte in b"]}" else ""
                self._fail(out, f"unexpected {_shown(byte)}{right}", at - 1)
                return 0

    def _fail(self, out: list[Value | JsonError], what: str, at: int) -> None:
        out.append(JsonError(what, at))
        held = bytes(self._held[at:])
        self.reset()
        self._lost = True
        if held[:1] == b"{":  # too deep: the next level is no new beginning
            held = held[1:]
        self._held += held


def loads(text: bytes) -> Any:
    """The value of `text`, which is the whole of it.

    Raises:
        JsonError: it is no JSON.
    """
    if b"\\u" not in text and b"'" not in text:
        try:
            return json.loads(text.decode(), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once)
        except ValueError:
            pass
    return _Strict(text).whole()


def dumps(value: Any, *, pretty: bool = False) -> bytes:
    """`value` as one line of JSON, or (pretty) as several with four blanks for a level; ASCII only."""
    text = json.dumps(value, indent=4) if pretty else json.dumps(value)
    return text.encode()


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("twice")
    for key, value in made.items():
        if type(value) is int and not -(1 << 63) <= value < 1 << 64:
            made[key] = float(value)
    return made


_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PLAIN = {quote: re.compile(rb"[^\\" + bytes([quote]) + rb"\x00-\x1f]*") for quote in _QUOTES}
_ESCAPES = {ord(k): v for k, v in {'"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n",
                                   "r": "\r", "t": "\t"}.items()}  # fmt: skip
_KEYWORDS = {b"true": True, b"false": False, b"null": None}


class _Strict:
    """A parser that knows what is wrong and where; only asked when the fast one did not take something."""

    def __init__(self, text: bytes) -> None:
        self.text, self.at = text, 0

    def whole(self) -> Any:
        value = self.value(0)
        self.blank()
        if self.at < len(self.text):
            raise JsonError(f"{_shown(self.text[self.at])} after the end of the value", self.at)
        return value

    def blank(self) -> int:
        """Skip white space; the byte that follows, -1 at the end."""
        self.at = _SKIP_BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at] if self.at < len(self.text) else -1

    def value(self, depth: int) -> Any:
        byte = self.blank()
        if byte in (b"{"[0], b"["[0]) and depth >= MAX_DEPTH:
            raise JsonError(f"nesting of more than {MAX_DEPTH} levels", self.at)
        if byte == b"{"[0]:
            return self.object(depth + 1)
        if byte == b"["[0]:
            return self.array(depth + 1)
        if byte >= 0 and byte in _QUOTES:
            return self.string()
        word = _WORD.match(self.text, self.at).group()  # type: ignore[union-attr]
        if word in _KEYWORDS:
            self.at += len(word)
            return _KEYWORDS[word]
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            if number.end() < self.at + len(word):
                raise JsonError(f"{_shown(self.text[number.end()])} in a number", number.end())
            self.at = number.end()
            return self.number(number)
        if not word:
            raise JsonError(f"{_shown(byte)} where a value was expected", self.at)
        raise JsonError(f"invalid keyword '{word[:40].decode(errors='backslashreplace')}'", self.at)

    def number(self, found: re.Match[bytes]) -> int | float:
        text = found.group()
        if found.group(2) is None and found.group(3) is None and len(text) <= 20:
            value = int(text)
            if -(1 << 63) <= value < 1 << 64:
                return value
        big = float(text)
        if big in (float("inf"), float("-inf")):
            raise JsonError("a number that is too large", found.start())
        return big

    def object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        out: dict[str, Any] = {}
        if self.blank() == b"}"[0]:
            self.at += 1
            return out
        while True:
            byte = self.blank()
            if byte < 0 or byte not in _QUOTES:
                raise JsonError(f"{_shown(byte)} where the name of a member was expected", self.at)
            start = self.at
            name = self.string()
            if name in out:
                raise JsonError(f"the member {name!r} a second time", start)
            if self.blank() != b":"[0]:
                raise JsonError(f"{_shown(self.blank())} where ':' was expected", self.at)
            self.at += 1
            out[name] = self.value(depth)
            byte = self.blank()
            self.at += 1
            if byte == b"}"[0]:
                return out
            if byte != b","[0]:
                raise JsonError(f"{_shown(byte)} where ',' or '}}' was expected", self.at - 1)

    def array(self, depth: int) -> list[Any]:
        self.at += 1
        out: list[Any] = []
        if self.blank() == b"]"[0]:
            self.at += 1
            return out
        while True:
            out.append(self.value(depth))
            byte = self.blank()
            self.at += 1
            if byte == b"]"[0]:
                return out
            if byte != b","[0]:
                raise JsonError(f"{_shown(byte)} where ',' or ']' was expected", self.at - 1)

    def string(self) -> str:
        text, quote = self.text, self.text[self.at]
        self.at += 1
        parts: list[str] = []
        while True:
            found = _PLAIN[quote].match(text, self.at)
            assert found is not None
            try:
                parts.append(found.group().decode())
            except UnicodeDecodeError as error:
                raise JsonError("invalid UTF-8 in a string", self.at + error.start) from None
            self.at = found.end()
            if self.at >= len(text):
                raise JsonError("a string that does not end", self.at)
            if text[self.at] == quote:
                self.at += 1
                return "".join(parts)
            if text[self.at] != b"\\"[0]:
                raise JsonError(f"{_shown(text[self.at])} in a string", self.at)
            parts.append(self.escape())

    def escape(self) -> str:
        start = self.at
        self.at += 2
        byte = self.text[start + 1] if start + 1 < len(self.text) else -1
        if byte in _ESCAPES:
            return _ESCAPES[byte]
        if byte != b"u"[0]:
            raise JsonError("an invalid escape sequence", start)
        unit = self.unit(start)
        if 0xD800 <= unit < 0xDC00 and self.text[self.at : self.at + 2] == b"\\u":
            self.at += 2
            low = self.unit(start)
            if 0xDC00 <= low < 0xE000:
                return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
            unit = 0xD800
        if unit == 0 or 0xD800 <= unit < 0xE000:
            raise JsonError(f"\\u{unit:04x}, which is no character of a string", start)
        return chr(unit)

    def unit(self, start: int) -> int:
        digits = self.text[self.at : self.at + 4]
        self.at += 4
        try:
            if len(digits) != 4 or not digits.isalnum():
                raise ValueError
            return int(digits, 16)
        except ValueError:
            raise JsonError("an invalid escape sequence: expected four hexadecimal digits", start) from None


def _shown(byte: int) -> str:
    if byte < 0:
        return "the end"
    return f"'{chr(byte)}'" if 0x20 <= byte < 0x7F else f"byte {byte:02X}h"
