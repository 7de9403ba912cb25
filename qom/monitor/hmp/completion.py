"""What Tab can put into a line: names of commands, topics of info, and what the command says of its arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qom.blame import passes
from qom.errors import QomError
from qom.monitor.hmp.arguments import Flag, Rest

if TYPE_CHECKING:
    from qom.monitor.hmp.declare import Hmp

__all__ = ["completions"]

OPEN_ENDS = ("/", "=", ",", ".", " ")
"""What more is expected after: no space follows."""


def completions(hmp: Hmp, before: str) -> tuple[int, list[str]]:
    """What the word that ends `before` can become.

    Returns:
        How many characters of it are there, and the candidates, sorted; one alone has a space at its end if it is whole.
    """
    words = before.split()
    begun = "" if not words or before[-1:].isspace() else words.pop()
    try:
        found = sorted({name for name in _candidates(hmp, words, begun) if name.startswith(begun)})
    except QomError:
        return 0, []
    except BaseException as error:  # a plugin's command: no reason to end anything
        if passes(error):
            raise
        return 0, []
    if len(found) == 1 and not found[0].endswith(OPEN_ENDS):
        found = [f"{found[0]} "]
    return len(begun), found


def _candidates(hmp: Hmp, words: list[str], begun: str) -> Iterable[str]:
    table = hmp.table
    if not words:
        return table.first_words()
    if words[0] in ("help", "?"):
        if len(words) == 1:
            return table.first_words()
        return table.topics() if words[1:] == ["info"] else ()
    if words[0] == "info":
        if len(words) == 1:
            return table.topics()
        command, given = table.get(f"info {words[1]}"), words[2:]
    else:
        command, given = table.get(words[0].partition("/")[0]), words[1:]
    if command is None:
        return ()
    forms = [form for form, _ in command.forms.values()]
    flags = [f"-{form.letter}" for form in forms if isinstance(form, Flag)]
    if begun.startswith("-") and all(word.startswith("-") for word in given):
        return flags
    given = [word for word in given if not (word.startswith("-") and flags)]
    places = [form for form in forms if not isinstance(form, Flag)]
    if not places:
        return ()
    form = places[min(len(given), len(places) - 1)]
    if len(given) >= len(places) and not isinstance(form, Rest):
        return ()
    if form.complete is None:
        return ()
    hmp.words = given
    return form.complete(hmp, begun)
