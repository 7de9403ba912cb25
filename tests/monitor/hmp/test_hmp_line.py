"""Editing of a line: keys in, a line out, and what a terminal shows meanwhile (a small one of our own, 20 columns wide)."""

from __future__ import annotations

import random

import pytest
from hmp_screen import Screen

from qom.monitor.hmp.line import HISTORY_LIMIT, LINE_LIMIT, LineEditor

WORDS = ["info", "i", "stop", "system_reset", "system_powerdown", "cont"]


def complete(before: str) -> tuple[int, list[str]]:
    begun = before.split(" ")[-1]
    found = sorted(word for word in WORDS if word.startswith(begun))
    return len(begun), [f"{found[0]} "] if len(found) == 1 else found


class Typist:
    """An editor, what it wrote, and the lines that came of it."""

    def __init__(self, width: int | None = None) -> None:
        self.screen = Screen(width or 10_000)
        self.written = ""
        self.lines: list[str] = []
        self.editor = LineEditor("> ", self._write, complete, lambda: width)
        self.editor.begin()

    def _write(self, text: str) -> None:
        self.written += text
        self.screen.write(text)

    def keys(self, *data: bytes) -> Typist:
        for piece in data:
            rest = piece
            while rest:
                line, rest = self.editor.feed(rest)
                if line is not None:
                    self.lines.append(line)
                    self.editor.begin()
        return self


def typed(*data: bytes) -> str:
    """The line that is being edited after these keys."""
    return Typist().keys(*data).editor.text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (b"abc", "abc"),
        (b"ac\x1b[Db", "abc"),
        (b"ac\x02b\x06d", "abcd"),
        (b"bc\x01a\x05d", "abcd"),
        (b"bc\x1b[Ha\x1b[Fd", "abcd"),
        (b"bc\x1bOHa\x1bOFd", "abcd"),
        (b"bc\x1b[1~a\x1b[4~d", "abcd"),
        (b"abx\x7fc\x08d", "abd"),
        (b"xabc\x01\x04", "abc"),
        (b"xabc\x01\x1b[3~", "abc"),
        (b"one two  three\x17", "one two  "),
        (b"one two  \x17", "one "),
        (b"one two\x02\x02\x15", "wo"),
        (b"one two\x02\x02\x0b", "one t"),
        (b"one two\x01\x0b\x19\x19", "one twoone two"),
        (b"one two three\x1bb\x1bbX\x1bfY", "one XtwoY three"),
        (b"one two\x1b[1;5D\x1b[1;5DX", "Xone two"),
        (b"one two\x01\x1bd", " two"),
        (b"one two\x1b\x7f", "one "),
        (b"\x7f\x04\x15\x0b\x17\x1b[D\x1b[C\x10\x0e", ""),
        (b"a\x1b[99;99Zb", "ab"),
        (b"a\x1bOzb", "ab"),
        (b"a\x00\x1f\x12\x1cb", "ab"),
        (b"a\xff\xfe\xc3(b", "a(b"),
        ("aä€b".encode(), "aä€b"),
        (b"ab\x03", ""),
    ],
)
def test_keys_edit_the_line(keys: bytes, expected: str) -> None:
    assert typed(keys) == expected
    assert typed(*(bytes([byte]) for byte in keys)) == expected  # one by one, as a slow terminal sends them


def test_what_is_typed_at_the_end_is_sent_as_it_is() -> None:
    typist = Typist().keys(b"info status")
    assert typist.written == "> info status"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_line_ends_once_however_a_terminal_says_so(end: bytes) -> None:
    typist = Typist().keys(b"one" + end + b"two" + end)
    assert typist.lines == ["one", "two"]
    assert typist.written == "> one\r\n> two\r\n> "


def test_the_history_goes_up_and_down_and_keeps_what_was_begun() -> None:
    typist = Typist().keys(b"one\ntwo\nthr")
    shown = []
    for key in (b"\x1b[A", b"\x1b[A", b"\x1b[A", b"\x0e", b"\x1b[B", b"\x1b[B"):
        typist.keys(key)
        shown.append(typist.editor.text)
    assert shown == ["two", "one", "one", "two", "thr", "thr"]
    assert typist.screen.shown() == "> thr"


def test_the_history_holds_a_line_once_and_no_more_than_its_limit() -> None:
    typist = Typist().keys(b"one\ntwo\none\n  \n")
    assert typist.editor.history == ["two", "one"]
    typist.keys(b"".join(b"line %d\n" % n for n in range(HISTORY_LIMIT + 5)))
    assert len(typist.editor.history) == HISTORY_LIMIT
    assert typist.editor.history[-1] == f"line {HISTORY_LIMIT + 4}"


def test_tab_completes_lists_and_does_nothing_when_nothing_fits() -> None:
    assert typed(b"co\t") == "cont "
    assert typed(b"sy\t") == "system_"
    assert typed(b"x\t") == "x"
    assert typed(b"co now\x02\x02\x02\x02\t") == "cont  now"
    typist = Typist(40).keys(b"sy\t")
    assert "".join(typist.screen.rows[1]).split() == ["system_powerdown", "system_reset"]
    assert typist.screen.shown() == "> system_"


def test_clear_shows_the_line_again_at_the_top() -> None:
    typist = Typist(20).keys(b"one\ntwo\x1b[D\x0c")
    assert (typist.screen.row, typist.screen.column) == (0, 4)
    assert typist.screen.shown() == "> two"


def test_a_line_has_a_limit_and_the_bell_says_so() -> None:
    typist = Typist().keys(b"x" * (LINE_LIMIT + 3))
    assert len(typist.editor.text) == LINE_LIMIT
    assert typist.screen.bells == 1
    typist.keys(b"y\x1b[Dy")
    assert len(typist.editor.text) == LINE_LIMIT
    assert typist.screen.bells == 3


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_typed_the_screen_shows_the_line_and_the_cursor(seed: int) -> None:
    rng = random.Random(seed)
    keys = [
        b"\x01", b"\x02", b"\x05", b"\x06", b"\x04", b"\x7f", b"\x0b", b"\x15", b"\x17", b"\x19", b"\x10", b"\x0e",
        b"\x1bb", b"\x1bf", b"\x1bd", b"\x1b[D", b"\x1b[C", b"\n", b"\t", b"abcdefghij", b" ", b"x y ", b"\x0c", b"\x03",
    ]  # fmt: skip
    width = rng.choice((20, 33, 7))
    typist = Typist(width)
    for _ in range(300):
        typist.keys(rng.choice(keys))
        editor, screen = typist.editor, typist.screen
        assert screen.shown() == f"> {editor.text}".rstrip()
        start = max(n for n, row in enumerate(screen.rows) if "".join(row).startswith("> "))
        cursor = divmod(2 + editor.cursor, width)
        assert (screen.row - start, screen.column) == cursor


def test_another_client_gets_an_empty_line() -> None:
    typist = Typist().keys(b"secret\x15half \x1b[")
    typist.editor.forget()
    typist.editor.begin()
    assert typist.keys(b"Dx\x19").editor.text == "Dx"
