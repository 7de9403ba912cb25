"""Variables and repetition inside a configuration file.

    [variables]
    disk = "disk.img"
    ports = { required = true, desc = "how many serial ports" }

    [[device]]
    repeat = "${ports}"
    driver = "isa-serial"
    id = "com{n}"
    iobase = "{0x2e8 + 8 * n}"

`${name}` in a text is the value of a variable, with its type when it is the whole text.  `$${` is a plain `${`.  In an
entry with `repeat`, `{...}` is integer arithmetic with `n`, `item` and variables; `{{` and `}}` are plain braces.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qom import records
from qom.config.document import Document, Node
from qom.errors import ConfigError, did_you_mean
from qom.options import Report, Reported, Taker, raise_it
from qom.properties import parse_int

__all__ = ["Scope", "evaluate", "expand"]

MAX_REPEAT = 4096
MAX_NUMBER = 1 << 64  # what arithmetic may reach, either side of zero
MAX_WITHIN = 32  # variables made of variables
MAX_SIZE = 1 << 20  # characters and elements of a variable's value
LOOP_NAMES = ("n", "item")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USE = re.compile(r"(\$+)\{([^{}]*)(\}?)")
_IN_LOOP = re.compile(r"(?P<dollars>\$+)\{(?P<name>[^{}]*)(?P<end>\}?)|\{\{|\}\}|\{(?P<term>[^{}]*)(?P<close>\}?)|\}")


@records.define
class _Variable:
    """A variable that a file declares: its default (none: required) and what it is for."""

    default: Node | None
    desc: str
    node: Node
    wrong: bool = False  # its declaration was reported


class Scope:
    """The variables of a file and of those it includes, and their values.

    Args:
        given: values from outside, which win over defaults; text takes a default's type.
    """

    def __init__(self, given: Mapping[str, Any], report: Report = raise_it) -> None:
        self.given, self.report = dict(given), report
        self.complete = True  # False: there are entries or ids that could not be worked out
        self._declared: dict[str, _Variable] = {}
        self._declared_in: dict[str, dict[str, _Variable]] = {}  # by file
        self._values: dict[str, Any] = {}
        self._resolving: list[str] = []

    @property
    def names(self) -> list[str]:
        """The variables that are declared, sorted."""
        return sorted(self._declared)

    def declare(self, document: Document) -> None:
        """Take in the `[variables]` of a file; what is declared already, by a file that includes this one, stays."""
        section = document.root.value.get("variables")
        if section is None:
            return
        if not isinstance(section.value, dict):
            self.report(section.error(f"'variables' cannot be {section.plain()!r}: expected a [variables] table"))
            return
        for name, node in section.value.items():
            try:
                variable = _declaration(name, node)
            except ConfigError as error:
                self.report(error)
                variable = _Variable(None, "", node, wrong=True)
            self._declared.setdefault(name, variable)
            self._declared_in.setdefault(document.path, {})[name] = variable

    def settle(self, documents: Sequence[Document]) -> None:
        """All files are known: of several defaults the last one in the order of `documents` holds.

        Reports values for variables that nobody declares, variables that need a value and have none, and those whose
        value cannot be worked out, whether anything uses them or not.
        """
        self._values.clear()
        self._declared.clear()
        for document in documents:
            self._declared |= self._declared_in.get(document.path, {})
        for name in self.given:
            if name not in self._declared:
                self.report(ConfigError(self._unknown(name), f"--var {name}={self.given[name]}"))
        for name, variable in self._declared.items():
            if variable.wrong:
                self._values[name] = None
            elif variable.default is None and name not in self.given:
                what = f" ({variable.desc})" if variable.desc else ""
                self.report(
                    variable.node.error(f"the variable '{name}'{what} is required: expected --var {name}=VALUE")
                )
                self._values[name] = None
        for name in self._declared:
            with contextlib.suppress(Reported):
                self.value(name)

    def value(self, name: str) -> Any:
        """The value of a variable.

        Raises:
            ConfigError: without a place: there is none of that name, or it has no value.
        """
        if name in self._values:
            value = self._values[name]
            if value is None:
                raise Reported
            return value
        if name not in self._declared:
            raise ConfigError(self._unknown(name))
        variable = self._declared[name]
        if name in self._resolving:
            trail = " -> ".join([*self._resolving[self._resolving.index(name) :], name])
            raise ConfigError(f"the variable '{name}' is made of itself: {trail}")
        if len(self._resolving) >= MAX_WITHIN:
            raise ConfigError(f"the variable '{name}' is too deep in others: expected at most {MAX_WITHIN} levels")
        self._resolving.append(name)
        try:
            self._values[name] = value = self._work_out(name, variable)
        except ConfigError as error:
            self._values[name] = None
            if not isinstance(error, Reported):
                self.report(error)
            raise Reported from None
        finally:
            self._resolving.pop()
        return value

    def _work_out(self, name: str, variable: _Variable) -> Any:
        if name in self.given:
            return self._typed(name, self.given[name], variable)
        if variable.default is None:  # asked for by `include`, before it is known what is required
            raise variable.node.error(f"the variable '{name}' has no value: expected --var {name}=VALUE")
        value = _Filler(self, None).plain(variable.default)
        if _size(value) > MAX_SIZE:
            raise variable.node.error(f"the variable '{name}' is too long: expected at most {MAX_SIZE} characters")
        return value

    def _typed(self, name: str, text: Any, variable: _Variable) -> Any:
        """What was given for a variable; text as what its default is."""
        if isinstance(text, os.PathLike):
            text = os.fspath(text)
        if isinstance(text, bool | int | float | list):
            return text
        if not isinstance(text, str):
            expected = "expected text, a number, a boolean or a list"
            raise ConfigError(f"variable: '{name}' cannot be {text!r}: {expected}", f"--var {name}={text}")
        default = variable.default.value if variable.default is not None else ""
        take = Taker({name: text}, "variable", f"--var {name}={text}")
        if isinstance(default, bool):
            return take.switch(name)
        if isinstance(default, int):
            try:
                return parse_int(text)
            except ValueError:
                raise take.error(f"'{name}' cannot be {text!r}: expected an integer, as {default} is") from None
        if isinstance(default, float):
            try:
                return float(text)
            except ValueError:
                raise take.error(f"'{name}' cannot be {text!r}: expected a number, as {default} is") from None
        if isinstance(default, list):
            return [part.strip() for part in text.split(",")] if text.strip() else []
        return text

    def _unknown(self, name: str) -> str:
        known = self.names
        hint = did_you_mean(name, known)
        there = f"there are: {', '.join(known)}" if known else "none is declared in [variables]"
        return f"no variable '{name}'{hint or f': {there}'}"


def _declaration(name: str, node: Node) -> _Variable:
    if not _NAME.fullmatch(name):
        raise node.error(f"the variable name '{name}' is not legal: expected a letter, then letters, digits, '_'")
    if name in LOOP_NAMES:
        raise node.error(f"the variable name '{name}' is taken: 'n' and 'item' are what 'repeat' counts with")
    if not isinstance(node.value, dict):
        return _Variable(node, "", node)
    take = Taker(node.plain(), f"variable '{name}'", node.origin)
    required, desc, default = take.switch("required"), take.text("desc") or "", take.raw("default")
    take.done()
    if required and default is not None:
        raise take.error("'required' and 'default' exclude each other: expected one of them")
    if not required and default is None:
        raise take.error("has neither 'required = true' nor a 'default': expected one of them")
    return _Variable(node.value.get("default"), desc, node)


def expand(document: Document, scope: Scope) -> Document:
    """The document with its variables filled in and its repeated entries made; `[variables]` stays as written.

    What is wrong goes to the scope's `report`, and the value concerned is left out.
    """
    out: dict[str, Node] = {}
    for key, node in document.root.value.items():
        if key == "variables":
            out[key] = node
        elif (made := _expand_key(node, scope)) is not None:
            out[key] = made
    return Document(document.path, document.root.with_value(out))


def _expand_key(node: Node, scope: Scope) -> Node | None:
    if isinstance(node.value, dict) and "repeat" in node.value:
        return node.with_value(_repeated(node, scope))
    if isinstance(node.value, list):
        made: list[Node] = []
        for entry in node.value:
            if isinstance(entry.value, dict) and "repeat" in entry.value:
                made += _repeated(entry, scope)
            elif (filled := _Filler(scope, None).fill(entry)) is not None:
                made.append(filled)
        return node.with_value(made)
    return _Filler(scope, None).fill(node)


def _repeated(entry: Node, scope: Scope) -> list[Node]:
    """The entries that an entry with `repeat` stands for."""
    rest = entry.with_value({key: node for key, node in entry.value.items() if key != "repeat"})
    written = entry.value["repeat"]
    repeat = _Filler(scope, None).fill(written)
    if repeat is None:
        scope.complete = False
        return []
    times = repeat.plain()
    items: list[Any]
    if isinstance(times, list):
        items = times
        if len(items) > MAX_REPEAT:
            scope.report(written.error(f"'repeat' has {len(items)} elements: expected at most {MAX_REPEAT}"))
            return []
    else:
        try:
            items = list(range(_count(times)))
        except ValueError:
            expected = f"an integer in 0..{MAX_REPEAT}, or a list"
            scope.report(written.error(f"'repeat' cannot be {times!r}: expected {expected}"))
            return []
    made = (_Filler(scope, {"n": n, "item": item}).fill(rest) for n, item in enumerate(items))
    return [node for node in made if node is not None]


def _count(value: Any) -> int:
    number = parse_int(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_REPEAT:
        raise ValueError
    return number


class _Filler:
    """Fills variables into texts, and in a repeated entry what its number and item give.

    loop: the values of `n` and `item`, or None outside of a repetition.
    """

    def __init__(self, scope: Scope, loop: Mapping[str, Any] | None) -> None:
        self.scope, self.loop = scope, loop

    def fill(self, node: Node) -> Node | None:
        """The same with its texts filled in; None when that failed and was reported."""
        if isinstance(node.value, dict):
            held = {key: made for key, inner in node.value.items() if (made := self.fill(inner)) is not None}
            lost = node.value.keys() - held.keys()
            self.scope.complete = self.scope.complete and "id" not in lost
            return node.with_value(held, lost)
        if isinstance(node.value, list):
            return node.with_value([made for inner in node.value if (made := self.fill(inner)) is not None])
        if not isinstance(node.value, str):
            return node
        try:
            value = self.text(node.value)
        except Reported:
            return None
        except ConfigError as error:
            self.scope.report(error if error.origin else node.error(error.message))
            return None
        return _spread(node, value)

    def plain(self, node: Node) -> Any:
        """The value of a node with its texts filled in, without positions.

        Raises:
            ConfigError: something in it cannot be filled in.
        """
        if isinstance(node.value, list):
            return [self.plain(inner) for inner in node.value]
        if not isinstance(node.value, str):
            return node.plain()
        try:
            return self.text(node.value)
        except ConfigError as error:
            if error.origin or isinstance(error, Reported):
                raise
            raise node.error(error.message) from None

    def text(self, text: str) -> Any:
        """A text filled in; of any type when it is one `${...}` or `{...}` alone."""
        pattern = _USE if self.loop is None else _IN_LOOP
        out: list[Any] = []
        at = 0
        for found in pattern.finditer(text):
            out.append(text[at : found.start()])
            out.append(self._use(found))
            at = found.end()
        if at == 0 and not out:
            return text
        out.append(text[at:])
        parts = [part for part in out if part != ""]
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            if isinstance(part, list | dict):
                raise ConfigError(f"{text!r}: a list cannot be part of a text: expected it alone")
        return "".join(_shown(part) for part in parts)

    def _use(self, found: re.Match[str]) -> Any:
        """What one piece of syntax in a text stands for."""
        whole = found[0]
        if whole.startswith("$"):
            dollars, name, end = found[1], found[2], found[3]
            if len(dollars) > 1:
                return whole[1:]
            if not end:
                raise ConfigError(
                    f"'${{' without its '}}': expected ${{name}}, or $${{ for the plain text (in {whole!r})"
                )
            if not _NAME.fullmatch(name):
                raise ConfigError(f"'{whole}' names no variable: expected ${{name}}, or $${{ for the plain text")
            return self.scope.value(name)
        if whole in ("{{", "}}"):
            return whole[0]
        if whole == "}" or not found["close"]:
            raise ConfigError(f"a brace alone in a repeated entry: expected '{whole[0] * 2}' for the plain text")
        return self._term(found["term"])

    def _term(self, text: str) -> Any:
        assert self.loop is not None
        if text.strip() in self.loop:
            return self.loop[text.strip()]
        return evaluate(text, self._number)

    def _number(self, name: str) -> int:
        assert self.loop is not None
        if name not in self.loop and name not in self.scope.names:
            known = [*LOOP_NAMES, *self.scope.names]
            raise ConfigError(f"no number '{name}'{did_you_mean(name, known)}; there are: {', '.join(known)}")
        value = self.loop[name] if name in self.loop else self.scope.value(name)
        try:
            if isinstance(value, str):
                return parse_int(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        except ValueError:
            pass
        raise ConfigError(f"'{name}' is {value!r}: expected an integer to calculate with")


def _size(value: Any) -> int:
    """How much there is in a value: characters, and one for every element."""
    if isinstance(value, str):
        return len(value)
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _spread(node: Node, value: Any) -> Node:
    """The nodes of a value that has come to stand at the place of `node`."""
    if isinstance(value, list):
        return node.with_value([_spread(node, part) for part in value])
    if isinstance(value, Mapping):
        return node.with_value({str(key): _spread(node, part) for key, part in value.items()})
    return node.with_value(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


# Arithmetic

_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}


@functools.lru_cache(maxsize=256)  # a repeated entry has the same texts again and again
def _parsed(text: str) -> ast.Expression:
    return ast.parse(text, mode="eval")


def evaluate(text: str, number: Callable[[str], int]) -> int:
    """The value of integer arithmetic: + - * // %, parentheses, and names that `number` gives a value.

    Raises:
        ConfigError: without a place: it is anything else, divides by zero, or leaves 64 bits.
    """
    expected = "expected integers and names with + - * // %"
    try:
        tree = _parsed(text.strip())
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ConfigError(f"'{{{text}}}' cannot be worked out: {expected}, or '{{{{' for a plain brace") from None

    def work(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return within(node.value)
        if isinstance(node, ast.Name):
            return within(number(node.id))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = work(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            left, right = work(node.left), work(node.right)
            if right == 0 and isinstance(node.op, ast.FloorDiv | ast.Mod):
                raise ConfigError(f"'{{{text}}}' divides by zero")
            return within(_OPERATIONS[type(node.op)](left, right))
        raise ConfigError(f"'{{{text}}}' cannot be worked out: {expected}")

    def within(value: int) -> int:
        if abs(value) > MAX_NUMBER:
            raise ConfigError(f"'{{{text}}}' is out of range: expected at most 64 bits")
        return value

    try:
        return work(tree.body)
    except RecursionError:
        raise ConfigError(f"'{{{text[:20]}...}}' is nested too deeply: {expected}") from None
