"""Option strings: QEMU's `value,key=value,key2=value` into pairs, and the numbers, sizes and switches in them.

A comma inside a value is written twice.  `key` alone is `key=on`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator

from qom.errors import ConfigError, QomError, did_you_mean
from qom.properties import parse_int, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    Options = dict[str, Any]
else:
    Options = dict
"""Option names and values: text from a command line, typed values from a file."""


class Origin(str):
    """Where an entry was written ("vm.toml:12:3"), and where each of its options was."""

    __slots__ = ("column", "file", "line", "parts", "path")

    def __new__(
        cls, where: str, parts: dict[str, str], path: str = "", file: str = "", line: int = 0, column: int = 0
    ) -> Self:
        """`parts`: the place of each option that has one of its own; the rest is `where` in pieces.

        An option that has a place and no value was given one that could not be read, which was reported.
        path: what stands there, by keys from the top of the file ("device[2].iobase").  file, line, column: counted
        from 1; "" and 0 when there is no file.
        """
        made = super().__new__(cls, where)
        made.parts, made.path = parts, path
        made.file, made.line, made.column = file, line, column
        return made

    parts: dict[str, str]
    path: str
    file: str
    line: int
    column: int


def at(origin: str, name: str | None) -> str:
    """Where the option `name` of the entry at `origin` was written; `origin` itself when it has no place of its own."""
    return origin.parts.get(name, origin) if name is not None and isinstance(origin, Origin) else origin


@contextlib.contextmanager
def placed(origin: str, name: str | None = None) -> Iterator[None]:
    """Put the place in the configuration in front of what goes wrong inside, unless it has one already."""
    try:
        yield
    except QomError as error:
        where = at(origin, name)
        if not where or (isinstance(error, ConfigError) and error.origin):
            raise
        raise ConfigError(str(error), where) from error


def split_options(text: str) -> Iterator[tuple[str, str | None]]:
    """The `key=value` parts of `text` in order; the value is None where there is no "="."""
    at, end = 0, len(text)
    while at < end:
        part: list[str] = []
        while at < end:
            if text[at] == ",":
                if text[at + 1 : at + 2] == ",":
                    at += 1
                else:
                    break
            part.append(text[at])
            at += 1
        at += 1
        key, eq, value = "".join(part).partition("=")
        yield key, (value if eq else None)


def parse_options(text: str, first: str | None = None, origin: str = "") -> Options:
    """`text` as a dict; a first part without "=" is the value of `first`.  Of equal keys the last counts."""
    out: Options = {}
    for n, (key, value) in enumerate(split_options(text)):
        if n == 0 and value is None and first is not None:
            out[first] = key
        elif not key:
            shown = "an empty option" if value is None else f"'={value}'"
            raise ConfigError(f"{shown} where key=value was expected in '{text}'", origin)
        else:
            out[key] = "on" if value is None else value
    return out


def format_options(options: Options, first: str | None = None) -> str:
    """The inverse of `parse_options`."""
    parts: list[str] = []
    for key, value in options.items():
        shown = ("on" if value else "off") if isinstance(value, bool) else str(value)
        shown = shown.replace(",", ",,")
        parts.append(shown if key == first and not parts else f"{key}={shown}")
    return ",".join(parts)


Report = Callable[[ConfigError], None]
"""Takes an error that was found; either raises it, or notes it so that the search for errors goes on."""


def raise_it(error: ConfigError) -> None:
    """The `Report` that stops at the first error."""
    raise error


class Reported(ConfigError):
    """Something that was reported already: nothing more to say about it."""

    def __init__(self) -> None:
        super().__init__("was reported already")


def is_lost(origin: str, name: str) -> bool:
    """Whether the option `name`, which has no value, was given one that could not be read."""
    return isinstance(origin, Origin) and name in origin.parts


class Taker:
    """Takes known options out of a dict one by one, checking each, and complains about what is left over.

    what: how the thing is called in errors ("drive").  origin: where it was written.  report: told of what is wrong;
    when it returns, a wrong option counts as absent and `failed` is true.  whole: False when more may be said of the
    thing, in a file that could not be read.
    """

    def __init__(
        self, options: Options, what: str, origin: str, report: Report = raise_it, *, whole: bool = True
    ) -> None:
        self.options = dict(options)
        self.what, self.origin = what, origin
        self.known: list[str] = []
        self.failed = False
        self._report = report
        self._whole = whole or "id" not in options  # what has no id is said in one place only

    def error(self, message: str, name: str | None = None) -> ConfigError:
        """A ConfigError about this thing, or about its option `name`."""
        return ConfigError(f"{self.what}: {message}", at(self.origin, name))

    def report(self, message: str, name: str | None = None) -> None:
        """Report an error about this thing, or about its option `name`."""
        self.failed = True
        self._report(self.error(message, name))

    def raw(self, *names: str) -> Any:
        """The value under the first of `names` that is there, or None."""
        self.known += names
        values = [(n, self.options.pop(n)) for n in names if n in self.options]
        if len(values) > 1:
            (first, _), (second, _) = values[:2]
            self.report(f"'{first}' and '{second}' say the same thing: expected one of them", second)
        return values[0][1] if values else None

    def text(self, *names: str) -> str | None:
        """A string, or None when absent."""
        value = self.raw(*names)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            self.report(f"'{names[0]}' cannot be {shown(value)}: expected a string", names[0])
            return None
        return str(value)

    def needed(self, *names: str) -> str:
        """A string that must be there.

        Raises:
            ConfigError: it is not; the thing makes no sense without it.
        """
        value = self.text(*names)
        if value is None:
            raise self.missing(*names)
        if not value:
            raise self.error(f"'{names[0]}' is required")
        return value

    def missing(self, *names: str, why: str = "") -> ConfigError:
        """The error for an option that is required and not there; `Reported` when that is the fault of something else."""
        if not self._whole or any(is_lost(self.origin, name) for name in names):
            return Reported()
        return self.error(f"'{names[0]}' is required{why}")

    def choice(self, name: str, among: Collection[str], default: str) -> str:
        """One of a few words."""
        value = self.text(name)
        if value is None:
            return default
        if value not in among:
            words = ", ".join(repr(a) for a in among)
            self.report(f"'{name}' cannot be {value!r}: expected one of {words}{did_you_mean(value, among)}", name)
            return default
        return value

    def number(self, *names: str, low: int = 0, high: int | None = None) -> int | None:
        """An integer within bounds, or None when absent."""
        value = self.raw(*names)
        if value is None:
            return None
        try:
            number = parse_int(value) if isinstance(value, str) else value
            if isinstance(number, bool) or not isinstance(number, int) or number < low:
                raise ValueError
            if high is not None and number > high:
                raise ValueError
        except ValueError:
            bound = f"in {low}..{high}" if high is not None else f"from {low} on"
            self.report(f"'{names[0]}' cannot be {shown(value)}: expected an integer {bound}", names[0])
            return None
        return number

    def size(self, name: str, suffix: str = "", low: int = 0) -> int | None:
        """A size in bytes, or None when absent; `suffix` is the unit of a bare number."""
        value = self.raw(name)
        if value is None:
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise ValueError
            number = parse_size(str(value), suffix)
            if not low <= number < 1 << 64:
                raise ValueError
        except ValueError:
            self.report(f"'{name}' cannot be {shown(value)}: expected a size, such as 512M or 1.5G", name)
            return None
        return number

    def switch(self, name: str, default: bool = False) -> bool:
        """On or off."""
        value = self.raw(name)
        if value is None:
            return default
        return self.as_switch(name, value, default)

    def as_switch(self, name: str, value: Any, default: bool = False) -> bool:
        """`value` as on or off; `name` for the error."""
        if isinstance(value, bool):
            return value
        found = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}.get(
            str(value).lower()
        )
        if found is None:
            self.report(f"'{name}' cannot be {shown(value)}: expected on or off", name)
            return default
        return found

    def done(self) -> None:
        """Complain about what is left that nobody took."""
        for name in self.options:
            self.report(f"unknown option '{name}'{did_you_mean(name, self.known)}", name)

    def rest(self) -> Options:
        """What nobody took: properties."""
        out, self.options = self.options, {}
        return out


def shown(value: Any) -> str:
    """A wrong value as an error shows it: dates as they are written, long ones cut."""
    import datetime

    text = value.isoformat() if isinstance(value, datetime.date | datetime.time) else _repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # an integer of thousands of digits, which Python will not print
        return hex(value) if isinstance(value, int) else "what cannot be shown"
