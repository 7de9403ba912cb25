"""`-exits` and `-exits-svg FILE`: how a command that runs a machine is asked to count exits (qom/cli/exits.py does).

They say nothing of the machine, so they are no part of its configuration; they may stand anywhere on the command line.
"""

from __future__ import annotations

from collections.abc import Sequence

from qom import records
from qom.cli.options import WITH_ARGUMENT
from qom.errors import ConfigError

__all__ = ["EXIT_OPTIONS", "ExitsAsked", "take_exits"]

EXIT_OPTIONS = {
    "exits": "show exits per reason, processor and device as a table while it runs",
    "exits-svg FILE": "draw them as a picture at the end",
}
"""The two, with their argument, and what they do."""


@records.frozen
class ExitsAsked:
    """table: show the exits while the machine runs.  picture: the file for them as an SVG at the end, or None."""

    table: bool = False
    picture: str | None = None

    def __bool__(self) -> bool:
        return self.table or self.picture is not None


def take_exits(argv: Sequence[str]) -> tuple[ExitsAsked, list[str]]:
    """What `argv` asks about exits, with one dash or two, and the rest of it.

    Raises:
        ConfigError: the file is missing, given twice, or in no folder that there is.
    """
    table, picture = False, None
    words, rest = list(argv), []
    while words:
        word = words.pop(0)
        name = word.removeprefix("-").removeprefix("-") if word.startswith("-") else ""
        if name == "exits":
            table = True
        elif name == "exits-svg":
            if not words:
                raise ConfigError("an argument is missing: expected FILE", word)
            if picture is not None:
                raise ConfigError("is given twice", word)
            picture = words.pop(0)
            writable(word, picture)
        else:
            rest.append(word)
            if name in WITH_ARGUMENT and words:
                rest.append(words.pop(0))
    return ExitsAsked(table, picture), rest


def writable(option: str, name: str) -> None:
    """Say now, not when the machine has run, that a file cannot be written there.  Raises ConfigError."""
    from pathlib import Path

    if not Path(name).parent.is_dir():
        raise ConfigError(f"cannot be written: '{Path(name).parent}' is no folder", f"{option} {name}")
