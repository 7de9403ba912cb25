"""Editing a line on a terminal: keys in, a line out, and what the terminal has to be sent.

Keys: Left/Right (Ctrl-B, Ctrl-F), Home/End (Ctrl-A, Ctrl-E), by words (Alt-B, Alt-F, Ctrl-Left, Ctrl-Right), Backspace,
Delete (Ctrl-D), Ctrl-W, Ctrl-U, Ctrl-K, Alt-D, Ctrl-Y (back comes what was cut last), Up/Down (Ctrl-P, Ctrl-N) for the
history, Tab for completion, Ctrl-L to clear the screen, Ctrl-C for a new line.

Only what a VT100 understands is sent, and nothing but the typed character where that is enough, so a program at the
other end sees its own words.  On a terminal whose width is known the line may wrap.  Whatever is no key and no character
(a broken UTF-8 sequence, an unknown escape sequence, a control character) is ignored.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["HISTORY_LIMIT", "LINE_LIMIT", "LineEditor"]

LINE_LIMIT: Final = 4095
"""Characters a line can have."""
HISTORY_LIMIT: Final = 64
"""Lines the history keeps."""
_PRINTABLE: Final = re.compile(rb"[ -~]+")
_SEQUENCE_LIMIT: Final = 32  # characters of an escape sequence; a longer one is none

_SEQUENCES: Final = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "[H": "home", "[F": "end",
    "OA": "up", "OB": "down", "OC": "right", "OD": "left", "OH": "home", "OF": "end",
    "[1~": "home", "[3~": "delete", "[4~": "end", "[7~": "home", "[8~": "end",
    "[1;5C": "word_right", "[1;5D": "word_left", "[1;3C": "word_right", "[1;3D": "word_left",
    "b": "word_left", "f": "word_right", "d": "cut_word_right", "\x7f": "cut_word_left",
}  # fmt: skip
_CONTROLS: Final = {
    "\x01": "home", "\x02": "left", "\x03": "cancel", "\x04": "delete", "\x05": "end", "\x06": "right",
    "\x08": "backspace", "\x7f": "backspace", "\t": "complete", "\n": "enter", "\r": "enter", "\x0b": "cut_right",
    "\x0c": "clear", "\x0e": "down", "\x10": "up", "\x15": "cut_left", "\x17": "cut_word_left", "\x19": "paste",
}  # fmt: skip


class LineEditor:
    """One line, being edited.

    Args:
        prompt: what stands before it.
        write: sends text to the terminal.
        complete: complete(text before the cursor) -> (how many characters of it are begun, what they can become).
        columns: the terminal's width now; None where it is not known, and the line is taken to fit.
    """

    def __init__(
        self,
        prompt: str,
        write: Callable[[str], None],
        complete: Callable[[str], tuple[int, Sequence[str]]],
        columns: Callable[[], int | None],
    ) -> None:
        self.prompt, self._write, self._completions, self._columns = prompt, write, complete, columns
        self.history: list[str] = []
        self.text, self.cursor = "", 0
        self._at_history = 0  # index of the line shown; len(history) for the one being written
        self._written = ""  # the line being written, while another is shown
        self._cut = ""
        self._escape: str | None = None  # what came of an escape sequence
        self._after_return = False  # a newline now belongs to the carriage return before it
        self._row = 0  # of the cursor, below the prompt's
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def begin(self) -> None:
        """Show the prompt and begin a new line."""
        self.text, self.cursor, self._row = "", 0, 0
        self._at_history = len(self.history)
        self._written = ""
        self._write(self.prompt)

    def show(self) -> None:
        """Show prompt and line again, where the terminal is now."""
        self._again()

    def forget(self) -> None:
        """Another one is at the keyboard: nothing of the line so far is his."""
        self.text, self.cursor, self._row, self._escape, self._cut = "", 0, 0, None, ""
        self._after_return = False
        self._decoder.reset()

    def feed(self, data: bytes) -> tuple[str | None, bytes]:
        """Take keys until a line is finished.

        Returns:
            The finished line (None: it is not), and what of `data` comes after it.  `begin` begins the next one.
        """
        at = 0
        while at < len(data):
            run = _PRINTABLE.match(data, at) if self._escape is None and not self._decoder.getstate()[0] else None
            if run is not None:  # all at once, or a long line would cost its square
                self._after_return = False
                self._insert(run.group().decode())
                at = run.end()
                continue
            at += 1
            for key in self._decoder.decode(data[at - 1 : at]):
                line = self._key(key)
                if line is not None:
                    return line, data[at:]
        return None, b""

    def _key(self, key: str) -> str | None:
        after_return, self._after_return = self._after_return, key == "\r"
        if self._escape is not None:
            self._in_sequence(key)
            return None
        if key == "\x1b":
            self._escape = ""
            return None
        if after_return and key == "\n":
            return None
        name = _CONTROLS.get(key)
        if name == "enter":
            return self._enter()
        if name is not None:
            getattr(self, f"_{name}")()
        elif key >= " " and key.isprintable():
            self._insert(key)
        return None

    def _in_sequence(self, key: str) -> None:
        assert self._escape is not None
        if key in "\x1b\x03\r\n" or len(self._escape) >= _SEQUENCE_LIMIT:
            self._escape = "" if key == "\x1b" else None
            return
        self._escape += key
        first, length = self._escape[0], len(self._escape)
        whole = length > 1 and "@" <= key <= "~" if first == "[" else length > 1 or first != "O"
        if whole:
            name = _SEQUENCES.get(self._escape)
            self._escape = None
            if name is not None:
                getattr(self, f"_{name}")()

    # -- keys -------------------------------------------------------------------------------------------------------

    def _enter(self) -> str:
        self._move(len(self.text))
        self._write("\r\n")
        line = self.text
        if line.strip():
            others = [old for old in self.history if old != line]
            self.history = [*others[1 - HISTORY_LIMIT :], line]
        return line

    def _cancel(self) -> None:
        self._move(len(self.text))
        self._write("^C\r\n")
        self.begin()

    def _insert(self, text: str) -> None:
        room = LINE_LIMIT - len(self.text)
        if len(text) > room:
            self._write("\a")
            text = text[:room]
        if text:
            here = self.cursor
            self._change(self.text[:here] + text + self.text[here:], here + len(text), here)

    def _remove(self, start: int, end: int, *, keep: bool = False) -> None:
        if start < end:
            if keep:
                self._cut = self.text[start:end]
            self._change(self.text[:start] + self.text[end:], start, start)

    def _left(self) -> None:
        self._move(max(0, self.cursor - 1))

    def _right(self) -> None:
        self._move(min(len(self.text), self.cursor + 1))

    def _home(self) -> None:
        self._move(0)

    def _end(self) -> None:
        self._move(len(self.text))

    def _word_start(self) -> int:
        before = self.text[: self.cursor].rstrip()
        return max((n + 1 for n, letter in enumerate(before) if letter.isspace()), default=0)

    def _word_end(self) -> int:
        found = re.match(r"\s*\S+", self.text[self.cursor :])
        return self.cursor + found.end() if found else len(self.text)

    def _word_left(self) -> None:
        self._move(self._word_start())

    def _word_right(self) -> None:
        self._move(self._word_end())

    def _backspace(self) -> None:
        self._remove(max(0, self.cursor - 1), self.cursor)

    def _delete(self) -> None:
        self._remove(self.cursor, min(len(self.text), self.cursor + 1))

    def _cut_word_left(self) -> None:
        self._remove(self._word_start(), self.cursor, keep=True)

    def _cut_word_right(self) -> None:
        self._remove(self.cursor, self._word_end(), keep=True)

    def _cut_left(self) -> None:
        self._remove(0, self.cursor, keep=True)

    def _cut_right(self) -> None:
        self._remove(self.cursor, len(self.text), keep=True)

    def _paste(self) -> None:
        if self._cut:
            self._insert(self._cut)

    def _clear(self) -> None:
        self._write("\x1b[2J\x1b[H")
        self._again()

    def _up(self) -> None:
        self._show(self._at_history - 1)

    def _down(self) -> None:
        self._show(self._at_history + 1)

    def _show(self, n: int) -> None:
        if not 0 <= n <= len(self.history):
            return
        if self._at_history == len(self.history):
            self._written = self.text
        self._at_history = n
        text = self.history[n] if n < len(self.history) else self._written
        same = next((n for n, (a, b) in enumerate(zip(self.text, text, strict=False)) if a != b), None)
        self._change(text, len(text), min(len(self.text), len(text)) if same is None else same)

    def _complete(self) -> None:
        length, found = self._completions(self.text[: self.cursor])
        if not found:
            return
        begun = self.text[self.cursor - length : self.cursor]
        common = found[0]
        for other in found[1:]:
            while not other.startswith(common):
                common = common[:-1]
        if len(common) > len(begun):
            start = self.cursor - len(begun)
            text = self.text[:start] + common + self.text[self.cursor :]
            if len(text) <= LINE_LIMIT:
                self._change(text, start + len(common), self.cursor)
        if len(found) > 1:
            self._list(found)

    def _list(self, found: Sequence[str]) -> None:
        cursor = self.cursor
        self._move(len(self.text))
        shared = max((name[: name.rfind("/", 0, -1)] for name in found if "/" in name[:-1]), key=len, default="")
        if not all(name.startswith(f"{shared}/") for name in found):
            shared = ""
        found = [name[len(shared) + 1 :] if shared else name for name in found]
        width = max(len(name) for name in found) + 2
        in_row = max(1, ((self._columns() or 80) - 1) // width)
        rows = ["".join(name.ljust(width) for name in found[n : n + in_row]) for n in range(0, len(found), in_row)]
        self._write("\r\n" + "".join(f"{row.rstrip()}\r\n" for row in rows))
        self.cursor = cursor
        self._again()

    # -- the terminal -------------------------------------------------------------------------------------------------

    def _change(self, text: str, cursor: int, same: int) -> None:
        """The line becomes `text`, of which the first `same` characters are there already; send the others."""
        old = self.text
        if same == len(old) == self.cursor:  # only something more at the end
            self.text, self.cursor = text, len(text)
            self._print(text[same:])
        else:
            self._move(same)
            self.text, self.cursor = text, len(text)
            self._print(text[same:])
            if len(text) < len(old) or self._columns():
                self._write("\x1b[J" if self._columns() else "\x1b[K")
        self._move(cursor)

    def _again(self) -> None:
        """Show prompt and line anew, at the beginning of a row."""
        cursor, self._row = self.cursor, 0
        self._write(self.prompt)
        self.cursor = len(self.text)
        self._print(self.text)
        self._move(cursor)

    def _print(self, text: str) -> None:
        """Send characters that end where `self.cursor` is now."""
        self._write(text)
        columns = self._columns()
        if columns and text:
            self._row, column = divmod(_width(self.prompt + self.text[: self.cursor]), columns)
            if column == 0:
                self._write(" \r")  # a terminal waits at the end of a row until more comes

    def _move(self, cursor: int) -> None:
        """Go to another place in the line."""
        columns = self._columns()
        here, there = (_width(self.prompt + self.text[:n]) for n in (self.cursor, cursor))
        self.cursor = cursor
        if not columns:
            _go(self._write, there - here, "C", "D")
            return
        row, column = divmod(there, columns)
        _go(self._write, row - self._row, "B", "A")
        _go(self._write, column - here % columns, "C", "D")
        self._row = row


def _go(write: Callable[[str], None], by: int, forward: str, back: str) -> None:
    if by:
        write(f"\x1b[{abs(by)}{forward if by > 0 else back}")


def _width(text: str) -> int:
    """How many columns a text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) != 0 for letter in text)
