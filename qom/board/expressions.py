"""Small expressions over the values of a board: sizes, addresses, conditions.

    ram-size if ram-size <= 3584M else 3G
    4G - bios.size
    a20-gate and accel.pic == 'isa-i8259'

Integers (decimal or hexadecimal, decimal ones also with k, M, G, T), strings in quotes, true and false, names; `+ - * // %`,
comparisons, `and or not`, `A if CONDITION else B`, `min` and `max`, parentheses.  A name may hold "-" and ".", as
property names do, so a minus sign between names has spaces around it.  There is no way to call anything else, and no
value is larger than 2^64.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Final

from qom.errors import QomError

__all__ = ["Expression", "ExpressionError", "Look", "Value"]

Value = int | str
"""What an expression gives; a condition gives a bool, which is an int."""

Look = Callable[[str], Value]
"""Gives the value of a name, or raises ExpressionError."""

_Node = Callable[[Look], Value]

LIMIT: Final = 1 << 64
MAX_LENGTH: Final = 1000
MAX_DEPTH: Final = 40
SUFFIXES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
WORDS: Final = frozenset({"if", "else", "and", "or", "not", "true", "false", "min", "max"})

_TOKEN = re.compile(
    r"\s*(?:(?P<hex>0[xX][0-9a-fA-F]+(?!\w))"
    r"|(?P<number>[0-9]+)(?P<suffix>[kKmMgGtT]?)(?!\w)"
    r"|(?P<name>[A-Za-z_]\w*(?:[-.]\w+)*)"
    r"|(?P<string>'[^']*'|\"[^\"]*\")"
    r"|(?P<op>//|<=|>=|==|!=|[-+*%<>(),]))",
    re.ASCII,
)
_COMPARE: Final[dict[str, Callable[[Value, Value], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


class ExpressionError(QomError):
    """An expression cannot be read, or has no value."""


class Expression:
    """One expression, read once.

    names: the names it asks for, in order of appearance.

    Raises:
        ExpressionError: `text` is no expression.
    """

    __slots__ = ("_node", "names", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        reader = _Reader(text)
        self._node = reader.whole()
        self.names: tuple[str, ...] = tuple(dict.fromkeys(reader.names))

    def value(self, look: Look) -> Value:
        """What it comes to, with `look` giving the value of each name."""
        try:
            return self._node(look)
        except ExpressionError as error:
            raise ExpressionError(f"'{self.text}': {error}") from None

    def number(self, look: Look) -> int:
        """Its value, which must be an integer."""
        value = self.value(look)
        if isinstance(value, str):
            raise ExpressionError(f"'{self.text}': {value!r} is a string: expected an integer")
        return int(value)

    def holds(self, look: Look) -> bool:
        """Whether it holds: its value is neither false, zero nor the empty string."""
        return bool(self.value(look))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class _Reader:
    """Reads tokens into functions, one method a level of precedence."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise ExpressionError(f"an expression of {len(text)} characters: expected at most {MAX_LENGTH}")
        self.text = text
        self.names: list[str] = []
        self.tokens: list[tuple[str, str, int]] = []  # (kind, text, column from 1)
        self.at = 0
        self.depth = 0
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                column = position + len(text[position:]) - len(text[position:].lstrip())
                raise self.error(f"{text[column]!r} cannot stand here", column + 1)
            kind = match.lastgroup or ""
            if kind == "suffix":
                self.tokens.append(("number", match["number"] + match["suffix"], match.start("number") + 1))
            else:
                self.tokens.append((kind, match[kind], match.start(kind) + 1))
            position = match.end()

    def error(self, what: str, column: int) -> ExpressionError:
        return ExpressionError(f"expression '{self.text}', character {column}: {what}")

    def peek(self) -> str:
        """The text of the next token when it is an operator or a word, else "" ("" at the end, too)."""
        if self.at < len(self.tokens):
            kind, text, _ = self.tokens[self.at]
            if kind == "op" or text in WORDS:
                return text
        return ""

    def take(self, *wanted: str) -> str:
        """The next token if it is one of those, else ""."""
        text = self.peek()
        if text and text in wanted:
            self.at += 1
            return text
        return ""

    def need(self, wanted: str) -> None:
        if not self.take(wanted):
            raise self.unexpected(f"'{wanted}'")

    def unexpected(self, expected: str) -> ExpressionError:
        if self.at < len(self.tokens):
            _, text, column = self.tokens[self.at]
            return self.error(f"{text!r} cannot stand here: expected {expected}", column)
        return self.error(f"it ends too early: expected {expected}", len(self.text) + 1)

    def whole(self) -> _Node:
        node = self.condition()
        if self.at < len(self.tokens):
            raise self.unexpected("an operator or the end")
        return node

    def condition(self) -> _Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"expression '{self.text[:40]}...' is nested more than {MAX_DEPTH} deep")
        value = self.either()
        if self.take("if"):
            test = self.either()
            self.need("else")
            other = self.condition()
            self.depth -= 1
            return lambda look: value(look) if test(look) else other(look)
        self.depth -= 1
        return value

    def either(self) -> _Node:
        node = self.both()
        while self.take("or"):
            left, right = node, self.both()
            node = _either(left, right)
        return node

    def both(self) -> _Node:
        node = self.negated()
        while self.take("and"):
            left, right = node, self.negated()
            node = _both(left, right)
        return node

    def negated(self) -> _Node:
        count = 0
        while self.take("not"):
            count += 1
        node = self.compared()
        for _ in range(min(count, 2 - count % 2)):
            node = _negated(node)
        return node

    def compared(self) -> _Node:
        first = self.summed()
        rest: list[tuple[str, _Node]] = []
        while sign := self.take(*_COMPARE):
            rest.append((sign, self.summed()))
        return _compared(first, rest) if rest else first

    def summed(self) -> _Node:
        node = self.multiplied()
        while sign := self.take("+", "-"):
            node = _calculated(sign, node, self.multiplied())
        return node

    def multiplied(self) -> _Node:
        node = self.signed()
        while sign := self.take("*", "//", "%"):
            node = _calculated(sign, node, self.signed())
        return node

    def signed(self) -> _Node:
        odd = False
        while self.take("-"):
            odd = not odd
        node = self.atom()
        return _calculated("-", lambda look: 0, node) if odd else node

    def atom(self) -> _Node:
        if self.take("("):
            node = self.condition()
            self.need(")")
            return node
        if word := self.take("true", "false"):
            return lambda look: word == "true"
        if word := self.take("min", "max"):
            return self.chosen(word)
        if self.at >= len(self.tokens) or self.peek():
            raise self.unexpected("a number or a name")
        kind, text, column = self.tokens[self.at]
        self.at += 1
        if kind == "string":
            inner = text[1:-1]
            return lambda look: inner
        if kind == "name":
            self.names.append(text)
            return lambda look: look(text)
        digits = text.rstrip("kKmMgGtT") if kind == "number" else text
        number = int(digits, 16 if kind == "hex" else 10) * SUFFIXES[text[len(digits) :].lower()]
        if number > LIMIT:
            raise self.error(f"{text} is larger than 2^64", column)
        return lambda look: number

    def chosen(self, word: str) -> _Node:
        self.need("(")
        nodes = [self.condition()]
        while self.take(","):
            nodes.append(self.condition())
        self.need(")")
        pick = min if word == "min" else max
        return lambda look: pick(_number(node(look)) for node in nodes)


def _number(value: Value) -> int:
    if isinstance(value, str):
        raise ExpressionError(f"{value!r} is a string: expected an integer")
    return int(value)


def _either(left: _Node, right: _Node) -> _Node:
    return lambda look: left(look) or right(look)


def _both(left: _Node, right: _Node) -> _Node:
    return lambda look: left(look) and right(look)


def _negated(node: _Node) -> _Node:
    return lambda look: not node(look)


def _compared(first: _Node, rest: list[tuple[str, _Node]]) -> _Node:
    def node(look: Look) -> Value:
        left = first(look)
        for sign, other in rest:
            right = other(look)
            if isinstance(left, str) is not isinstance(right, str):
                raise ExpressionError(f"{left!r} and {right!r} cannot be compared: one is a string, one an integer")
            if not _COMPARE[sign](left, right):
                return False
            left = right
        return True

    return node


def _calculated(sign: str, left: _Node, right: _Node) -> _Node:
    def node(look: Look) -> Value:
        a, b = _number(left(look)), _number(right(look))
        if sign in ("//", "%") and b == 0:
            raise ExpressionError(f"{a} {sign} 0: there is no division by zero")
        result = _ARITHMETIC[sign](a, b)
        if abs(result) > LIMIT:
            raise ExpressionError(f"{a} {sign} {b} is larger than 2^64")
        return result

    return node
