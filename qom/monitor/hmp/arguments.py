"""The forms that arguments of a command have: what a function's annotations say, and what is read from a line by them.

    def dump(hmp: Hmp, fmt: Format, addr: Annotated[int, Expression()]) -> str: ...
    def info_mtree(hmp: Hmp, flat: Annotated[bool, Flag("f", "as the guest sees it")] = False) -> str: ...

A parameter with a default may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from qom.monitor.declare import CommandError
from qom.monitor.hmp.expression import SUFFIXES, evaluate

if TYPE_CHECKING:
    from qom.monitor.hmp.declare import Hmp

__all__ = ["Expression", "Flag", "Form", "Format", "Line", "Rest", "Size", "Switch", "Word"]

Complete = Callable[["Hmp", str], Iterable[str]]
"""complete(hmp, begun) -> what the argument may be; those that do not begin with `begun` are left out by the caller."""

COUNT_LIMIT = 1 << 20
"""How many items a `/count` may ask for: what is more would fill memory before anybody reads it."""
_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


class Line:
    """A command's arguments, while they are read.

    Args:
        text: all of the line.
        at: where what is not yet read begins.
        hmp: who asks.
        name: the command, for messages.
    """

    def __init__(self, text: str, at: int, hmp: Hmp, name: str) -> None:
        self.text, self.at, self.hmp, self.name = text, at, hmp, name

    def skip(self) -> None:
        """Go to the next character that is no space."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        self.skip()
        return self.at >= len(self.text)

    def word(self) -> str:
        """The next word; one in double quotes may hold spaces, and escapes with a backslash.

        Raises:
            CommandError: a quoted one does not end, or has an escape that means nothing.
        """
        self.skip()
        text = self.text
        if text[self.at : self.at + 1] != '"':
            start = self.at
            while self.at < len(text) and not text[self.at].isspace():
                self.at += 1
            return text[start : self.at]
        self.at += 1
        out: list[str] = []
        while True:
            found = text[self.at : self.at + 1]
            self.at += 1
            if not found:
                raise CommandError("unterminated string")
            if found == '"':
                return "".join(out)
            if found == "\\":
                escape = text[self.at : self.at + 1]
                self.at += 1
                if escape not in _ESCAPES or not escape:
                    raise CommandError(f"unsupported escape code: '\\{escape}'")
                found = _ESCAPES[escape]
            out.append(found)


class Form:
    """How one argument is written.

    Args:
        shown: what usage calls it; empty: the parameter's name.
        complete: what it may be, for Tab.
    """

    def __init__(self, shown: str = "", complete: Complete | None = None) -> None:
        self.shown, self.complete = shown, complete

    def usage(self, name: str, optional: bool) -> str:
        """How it stands in the usage of its command."""
        text = self.shown or name
        return f"[{text}]" if optional and not text.startswith("[") else text

    def take(self, line: Line) -> Any:
        """Its value, read from the line.  Raises CommandError."""
        raise NotImplementedError


class Word(Form):
    """A word, or what stands in double quotes; `among` are the only ones allowed, `what` names it where it is missing."""

    def __init__(
        self, shown: str = "", complete: Complete | None = None, among: tuple[str, ...] = (), what: str = "string"
    ) -> None:
        super().__init__(shown or "|".join(among), complete or ((lambda hmp, begun: among) if among else None))
        self.among, self.what = among, what

    def take(self, line: Line) -> str:
        """The next word."""
        if line.ended:
            raise CommandError(f"{line.name}: {self.what} expected")
        found = line.word()
        if self.among and found not in self.among:
            raise CommandError(f"{line.name}: '{found}' is not one of {', '.join(self.among)}")
        return found


class Rest(Form):
    """All that is left of the line, as it stands."""

    def take(self, line: Line) -> str:
        """The rest, without spaces around it."""
        if line.ended:
            raise CommandError(f"{line.name}: string expected")
        found = line.text[line.at :].strip()
        line.at = len(line.text)
        return found


class Expression(Form):
    """A number, as an expression of 64 bits; `bits=32` allows only what fits into that many."""

    def __init__(self, shown: str = "", bits: int = 64) -> None:
        super().__init__(shown)
        self.bits = bits

    def take(self, line: Line) -> int:
        """The value, without a sign."""
        line.skip()
        start = line.at
        value, line.at = evaluate(line.text, line.hmp.registers, start)
        if self.bits < 64 and value >> self.bits:
            raise CommandError(f"'{line.name}' has failed: integer is for {self.bits}-bit values")
        return value


class Size(Form):
    """A number of bytes with a unit: 4k, 1.5G; without one it is of `unit`."""

    def __init__(self, shown: str = "", unit: str = "b") -> None:
        super().__init__(shown)
        self.unit = unit

    def take(self, line: Line) -> int:
        """The number of bytes."""
        if line.ended:
            raise CommandError(f"{line.name}: size expected")
        text = line.word()
        number, unit = (text[:-1], text[-1].lower()) if text[-1].lower() in SUFFIXES else (text, self.unit)
        if text[:2].lower() == "0x":
            number, unit = text, "b"  # there, b and e are digits
        try:
            whole = int(number, 0) if number.lower().startswith("0x") else int(number)
            found = whole << SUFFIXES[unit]
        except ValueError:
            try:
                found = int(float(number) * (1 << SUFFIXES[unit]))
            except (ValueError, OverflowError):
                found = -1
        if not 0 <= found < 1 << 63:
            raise CommandError(f"invalid size '{text}': expected a number of bytes, as 4096, 4k, 1.5G")
        return found


class Switch(Form):
    """on or off."""

    def __init__(self, shown: str = "") -> None:
        super().__init__(shown or "on|off", lambda hmp, begun: ("on", "off"))

    def take(self, line: Line) -> bool:
        """True for on."""
        found = "" if line.ended else line.word()
        if found not in ("on", "off"):
            raise CommandError(f"Expected 'on' or 'off'{f', got {found!r}' if found else ''}")
        return found == "on"


class Flag(Form):
    """A letter after a minus: `-f`.  Flags stand where the signature has them, one after the other in any order, and
    several letters may share a minus.  `what` says what it does.
    """

    def __init__(self, letter: str, what: str) -> None:
        super().__init__(f"[-{letter}]")
        self.letter, self.what = letter, what


class Format(Form):
    """The format of `x/10xw`: how many, in which form, of which size.  Also the value that is read.

    count: how many items.  kind: "o", "x", "u", "d", "c" or "i".  size: bytes of an item; of "i", -1 where none was said.
    """

    def __init__(self, count: int = 1, kind: str = "x", size: int = 4) -> None:
        super().__init__("/fmt")
        self.count, self.kind, self.size = count, kind, size

    def usage(self, name: str, optional: bool) -> str:
        """It may always be left out."""
        return "/fmt"

    def take(self, line: Line) -> Format:
        """The format, with what is not said as it was last time."""
        kept = line.hmp.format
        if line.ended or line.text[line.at] != "/":
            return Format(1, kept.kind, kept.size if kept.kind != "i" else -1)
        start = line.at = line.at + 1
        text = line.text
        while text[line.at : line.at + 1].isdecimal() and text[line.at].isascii():
            line.at += 1
        count = int(text[start : line.at]) if line.at > start else 1
        kind, size = "", -1
        while (letter := text[line.at : line.at + 1]) and letter in "oxudcibhwgL":
            line.at += 1
            if letter in _SIZES:
                size = _SIZES[letter]
            else:
                kind = letter
        if letter and not letter.isspace():
            raise CommandError(f"invalid char in format: '{letter}'")
        if count > COUNT_LIMIT:
            raise CommandError(f"count {count} is too large: expected at most {COUNT_LIMIT}")
        kept.kind = kind = kind or kept.kind
        if kind != "i":
            kept.size = size = kept.size if size < 0 else size
        return Format(count, kind, size)


_SIZES = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}
