"""YAML with positions, from the events of PyYAML (imported when a YAML file is read).

How plain (unquoted) scalars are taken: `true`, `false`, `on`, `off`, `yes`, `no` (also `True`, `TRUE`) are booleans;
`42`, `-1`, `0x402`, `0o17`, `0b101` integers; `1.5`, `1e3` floating-point numbers; everything else is text, so that
`52:54:00:12:34:56` and `2024-01-01` need no quotes.  Keys are text, however they are written.  `010` is refused, since
readers of YAML do not agree on it, and so are null, tags, anchors, aliases and a second document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from qom.config.document import Node, Source, member
from qom.errors import ConfigError

_BOOLS = {word: value for value, words in ((True, "true on yes"), (False, "false off no")) for word in words.split()}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*|0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_OCTAL = re.compile(r"[-+]?0[0-9]+")
_NULL = ("", "~", "null", "Null", "NULL")


def parse_yaml(source: Source) -> Node:
    """The file's mapping.

    Raises:
        ConfigError: it is not YAML, uses what is refused here, or is no mapping; or PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise ConfigError("YAML files need PyYAML: expected it to be installed", source.file) from None
    try:
        return _Reader(source, yaml, yaml.parse(source.text, Loader=yaml.SafeLoader)).document()
    except yaml.reader.ReaderError as error:
        shown = error.character if isinstance(error.character, int) else ord(error.character)
        raise source.error(f"not YAML: the character {shown:#x} cannot be here", int(error.position)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise source.error(f"not YAML: {what}", mark.index if mark else 0) from None
    except (yaml.YAMLError, ValueError) as error:
        raise source.error(f"not YAML: {' '.join(str(error).split())}", 0) from None


class _Reader:
    """Builds nodes from the events of one file."""

    def __init__(self, source: Source, yaml: Any, events: Iterator[Any]) -> None:
        self.source, self.yaml, self.events = source, yaml, events

    def document(self) -> Node:
        """The one document there is; a file without any is an empty mapping."""
        yaml = self.yaml
        next(self.events)  # the start of the stream
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return self.source.node({}, 0)
        event = next(self.events)
        if not isinstance(event, yaml.MappingStartEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "" and event.style is None:
                return self.source.node({}, 0)  # "---" and nothing after it
            raise self._error("the file is no mapping: expected 'key: value' lines", event)
        root = self._node(event, "", event.start_mark.index, 0)
        next(self.events)  # the end of the document
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error("a second document: expected one in a file", event)
        return root

    def _node(self, event: Any, path: str, place: int, depth: int) -> Node:
        yaml = self.yaml
        self.source.check_depth(depth, place)
        self._refuse_sharing(event)
        value: Any
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                inner = member(path, len(value))
                value.append(self._node(event, inner, event.start_mark.index, depth + 1))
        else:
            value = self._scalar(event)
        return self.source.node(value, place, path)

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        out: dict[str, Node] = {}
        while not isinstance(event := next(self.events), self.yaml.MappingEndEvent):
            self._refuse_sharing(event)
            if not isinstance(event, self.yaml.ScalarEvent):
                raise self._error("a key is text: expected 'key: value'", event)
            key, place = str(event.value), event.start_mark.index
            if key in out:
                first = f"{out[key].line}:{out[key].column}"
                raise self._error(f"the key '{key}' is given twice, first at {first}", event)
            out[key] = self._node(next(self.events), member(path, key), place, depth + 1)
        return out

    def _scalar(self, event: Any) -> Any:
        text = str(event.value)
        if event.style is not None:
            return text
        if text in _NULL:
            raise self._error("null says nothing: leave the key out", event)
        if text in (text.lower(), text.upper(), text.capitalize()) and text.lower() in _BOOLS:
            return _BOOLS[text.lower()]
        try:
            if _INT.fullmatch(text):
                return int(text, 0)
            if _FLOAT.fullmatch(text):
                return float(text)
        except ValueError:
            raise self._error("a number of too many digits", event) from None
        if _OCTAL.fullmatch(text):
            raise self._error(f"'{text}' can be read in two ways: expected 0o for octal, no 0, or quotes", event)
        return text

    def _refuse_sharing(self, event: Any) -> None:
        if isinstance(event, self.yaml.AliasEvent) or event.anchor is not None:
            raise self._error("anchors and aliases are not taken: expected 'repeat' or 'include'", event)
        if event.tag is not None:
            raise self._error(f"the tag '{event.tag}' is not taken: expected a value without one", event)

    def _error(self, message: str, event: Any) -> ConfigError:
        return self.source.error(message, event.start_mark.index)
