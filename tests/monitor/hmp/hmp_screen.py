"""As much of a terminal as the line editor uses, for tests that look at what is on the screen."""

from __future__ import annotations


class Screen:
    """As much of a VT100 as the editor uses: rows of `width` columns that wrap late, as terminals do."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.late = False  # the last column was written: the next character goes to the next row
        self.bells = 0

    def _line(self) -> list[str]:
        while self.row >= len(self.rows):
            self.rows.append([])
        return self.rows[self.row]

    def write(self, text: str) -> None:
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                at = self._sequence(text, at + 1)
                continue
            self._put(text[at])
            at += 1

    def _put(self, letter: str) -> None:
        if letter == "\a":
            self.bells += 1
        elif letter == "\r":
            self.column, self.late = 0, False
        elif letter == "\n":
            self.row, self.late = self.row + 1, False
        else:
            assert letter.isprintable()
            if self.late:
                self.row, self.column, self.late = self.row + 1, 0, False
            line = self._line()
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = letter
            if self.column == self.width - 1:
                self.late = True
            else:
                self.column += 1

    def _sequence(self, text: str, at: int) -> int:
        assert text[at] == "["
        end = at + 1
        while not text[end].isalpha():
            end += 1
        count = int(text[at + 1 : end] or 1)
        kind, self.late = text[end], False
        if kind == "D":
            self.column = max(0, self.column - count)
        elif kind == "C":
            self.column = min(self.width - 1, self.column + count)
        elif kind == "A":
            self.row = max(0, self.row - count)
        elif kind == "B":
            self.row += count
        elif kind == "K" or (kind == "J" and text[at + 1 : end] == ""):
            del self._line()[self.column :]
            if kind == "J":
                del self.rows[self.row + 1 :]
        elif kind == "J":
            self.rows = [[]]
        elif kind == "H":
            self.row = self.column = 0
        else:
            raise AssertionError(f"unknown sequence {text[at : end + 1]!r}")
        return end + 1

    def shown(self) -> str:
        """All rows from the last prompt on, as one text."""
        rows = ["".join(row).ljust(self.width) for row in self.rows]
        start = max(n for n, row in enumerate(rows) if row.startswith("> "))
        return "".join(rows[start:]).rstrip()
