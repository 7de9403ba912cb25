"""A configuration file as data that knows where each piece of it was written.

`read_document` reads TOML, JSON and YAML (the suffix says which) into one form: dicts, lists, text, numbers, booleans.
Keys are given once, nothing is null, and whatever is wrong has a line and a column, counted from 1.  The position of a
table's member is that of its key, the position of a list's element that of the element.

Variables and repetition are worked out here too (`qom.config.expand`); included files are only listed, see
`qom.config.compose`.
"""

from __future__ import annotations

import re
import stat
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from qom import records
from qom.errors import ConfigError, did_you_mean
from qom.options import Origin

__all__ = ["SUFFIXES", "Document", "Node", "Source", "parse_file", "read_document", "read_text"]

MAX_DEPTH = 64  # tables and lists within each other
MAX_INTEGER = 1 << 64  # either side of zero
MAX_LENGTH = 16 << 20  # bytes of a file
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which no file can hold
SUFFIXES = {".toml": "toml", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}
"""The formats that say the same in different spellings, by the suffix of a file's name."""


@records.frozen(eq=False)
class Node:
    """One value of a file, and where it was written.

    value: text, a number, a boolean, a date, a dict of nodes by key, or a list of nodes.
    path: its keys from the top of the file ("device[2].iobase"); "" is the file itself.
    lost: of a table: keys that were given, with a value that could not be worked out, which was reported.
    """

    value: Any
    file: str
    line: int
    column: int
    path: str = ""
    lost: frozenset[str] = frozenset()

    def with_value(self, value: Any, lost: Collection[str] = ()) -> Node:
        """Another value at the same place; a table without what was `lost`."""
        return Node(value, self.file, self.line, self.column, self.path, self.lost.union(lost))

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    @property
    def origin(self) -> Origin:
        """Where it was written, and where each of its members was."""
        members = self.value.items() if isinstance(self.value, dict) else ()
        where = f"{self.file}:{self.line}:{self.column}"
        parts: dict[str, str] = dict.fromkeys(self.lost, where)
        parts |= {key: node.origin for key, node in members}
        return Origin(where, parts, self.path, self.file, self.line, self.column)

    def error(self, message: str) -> ConfigError:
        """An error about this value."""
        return ConfigError(message, self.origin)


@records.frozen(eq=False)
class Document:
    """What a file says.  `root` is a dict node; `complete`: every file that it includes could be read."""

    path: str
    root: Node
    complete: bool = True

    @property
    def data(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        plain: dict[str, Any] = self.root.plain()
        return plain

    def node(self, *keys: str | int) -> Node:
        """The value under `keys`, or the innermost one on the way there."""
        here = self.root
        for key in keys:
            held = here.value
            members = dict(enumerate(held)) if isinstance(held, list) else held
            if not isinstance(members, dict) or key not in members:
                break
            here = members[key]
        return here

    def origin(self, *keys: str | int) -> Origin:
        """Where the value under `keys` was written; a key that is not there has the place of what should hold it."""
        return self.node(*keys).origin


def read_document(path: str | Path, variables: Mapping[str, Any] | None = None) -> Document:
    """What the file at `path` says, after its variables and repetitions; files it includes are not looked at.

    Args:
        path: a `.toml`, `.json`, `.yaml` or `.yml` file.
        variables: values for what the file declares in its `[variables]`: text, or what a file could hold.

    Raises:
        ConfigError: the first thing wrong, with "file:line:column".
    """
    from qom.config.expand import Scope, expand

    document = parse_file(path)
    scope = Scope(variables or {})
    scope.declare(document)
    scope.settle([document])
    return expand(document, scope)


def parse_file(path: str | Path) -> Document:
    """The file at `path` as it stands.

    Raises:
        ConfigError: it cannot be read, or is not what its suffix says.
    """
    path = Path(path)
    format = SUFFIXES.get(path.suffix.lower())
    if format is None:
        raise ConfigError(f"what format this is in is not known: expected a name in {', '.join(SUFFIXES)}", str(path))
    source = Source(str(path), read_text(path))
    try:
        root = _parser(format)(source)
    except RecursionError:
        raise source.error(f"nested too deeply: expected at most {MAX_DEPTH} levels", 0) from None
    return Document(str(path), root)


def read_text(path: Path) -> str:
    """The text of a file, lines ended by a line feed.

    Raises:
        ConfigError: there is no such file, it is a pipe or a device, too long, or not UTF-8.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # it might never end, or never begin
            raise ConfigError("cannot be read: expected a regular file", str(path))
        with path.open("rb") as file:
            data = file.read(MAX_LENGTH + 1)
        if len(data) > MAX_LENGTH:
            raise ConfigError(f"too long: expected at most {MAX_LENGTH} bytes", str(path))
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(unreadable(path) or f"cannot be read: {error.strerror}", str(path)) from None
    except UnicodeDecodeError as error:
        text = error.object[: error.start].decode("utf-8", "replace")
        raise Source(str(path), text).error("not a text file in UTF-8", len(text)) from None
    except ValueError as error:  # a name that no file can have
        raise ConfigError(f"cannot be read: {error}", repr(str(path))) from None


def unreadable(path: Path) -> str:
    """Why there is no file at `path`, and which of its neighbours may be meant; "" when there is one."""
    try:
        if path.is_dir():
            return "cannot be read: it is a directory: expected a file"
        if path.exists() or path.is_symlink():
            return ""
        known = [p.name for p in path.parent.iterdir() if p.suffix.lower() in SUFFIXES] if path.parent.is_dir() else []
    except (OSError, ValueError):
        return ""
    return f"cannot be read: No such file or directory{did_you_mean(path.name, known)}"


def _parser(format: str) -> Callable[[Source], Node]:
    if format == "toml":
        from qom.config.toml import parse_toml

        return parse_toml
    if format == "json":
        from qom.config.json import parse_json

        return parse_json
    from qom.config.yaml import parse_yaml

    return parse_yaml


class Source:
    """A file's text while it is taken apart: makes nodes and errors from offsets into it."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self._starts = [0]  # offset of each line's first character
        self._starts += [at + 1 for at, char in enumerate(text) if char == "\n"]

    def where(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at `offset`."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def offset(self, line: int, column: int) -> int:
        """The inverse of `where`."""
        return self._starts[line - 1] + column - 1

    def error(self, message: str, offset: int) -> ConfigError:
        """An error about what is at `offset`."""
        return self.node(None, offset).error(message)

    def node(self, value: Any, offset: int, path: str = "") -> Node:
        """A value that was written at `offset`.

        Raises:
            ConfigError: it is an integer or a text that nothing could hold.
        """
        if isinstance(value, str) and _SURROGATE.search(value):
            raise self.error("half of a surrogate pair: expected whole characters", offset)
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise self.error("an integer of more than 64 bits", offset)
        return Node(value, self.file, *self.where(offset), path)

    def check_depth(self, depth: int, offset: int) -> None:
        """Refuse what is nested deeper than a person would write."""
        if depth > MAX_DEPTH:
            raise self.error(f"nested too deeply: expected at most {MAX_DEPTH} levels", offset)


def member(path: str, key: str | int) -> str:
    """The path of the member `key` of what is at `path`: "device" and 2 is "device[2]"."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
