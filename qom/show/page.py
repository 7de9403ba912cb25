"""A page of documentation, written for a terminal or as Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import quote

import attrs

__all__ = ["Cell", "Code", "Page", "Part", "Ref", "Section", "as_markdown", "as_text", "escaped", "markdown_table"]

WIDTH: Final = 110  # of text, in characters


@attrs.frozen
class Ref:
    """Mention of another type, which has a page, too."""

    name: str


@attrs.frozen
class Code:
    """Something to be typed as it stands."""

    text: str


Part = str | Ref | Code
Cell = Part | Sequence[Part]


@attrs.frozen
class Section:
    """A part of a page: paragraphs, then a table, then blocks of code (language and text)."""

    title: str
    text: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    blocks: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Page:
    """What it is about, one line on it, and the rest."""

    name: str
    desc: str
    sections: tuple[Section, ...]


# As text


def as_text(page: Page) -> str:
    """The page for a terminal."""
    lines = [f"{page.name}: {page.desc}" if page.desc else page.name]
    for section in page.sections:
        lines += ["", section.title] if section.title else []
        for text in section.text:
            lines += ["", *_filled(text)]
        if section.rows:
            lines += ["", *_columns(section)]
        for language, block in section.blocks:
            lines += ["", *(f"  {'' if language != 'sh' else '$ '}{line}".rstrip() for line in block.splitlines())]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


_LABEL = re.compile(
    r"(?<!\n)\n(?=[A-Z][a-z]+(?: [a-z]+)?:)"
)  # "Not modelled:", "Guest view:" at the beginning of a line


def _labelled(text: str) -> str:
    """What a docstring says under a label, as a paragraph of its own."""
    return _LABEL.sub("\n\n", re.sub(r"(?<=\.) +(?=Not modelled:)", "\n\n", text))


def _filled(text: str) -> Iterable[str]:
    for paragraph in _labelled(text).split("\n\n"):
        rows = paragraph.splitlines()
        kept = any(row.startswith((" ", "* ", "- ", "|")) for row in rows)
        yield from (rows if kept else textwrap.wrap(" ".join(rows), WIDTH))
        yield ""


def _plain(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Ref):
        return cell.name
    if isinstance(cell, Code):
        return cell.text
    return "".join(map(_plain, cell))


def _columns(section: Section) -> Iterable[str]:
    """A table in columns; the last one wraps."""
    rows = [[_plain(c) for c in row] for row in section.rows]
    if section.title and len(section.head) > 2:
        rows.insert(0, [h.upper() for h in section.head])
    used = [n for n in range(len(rows[0])) if any(row[n] for row in rows[1:] or rows)]
    rows = [[row[n] for n in used] for row in rows]
    widths = [min(max(len(row[n]) for row in rows), 34) for n in range(len(rows[0]) - 1)]
    indent = 2 + sum(w + 2 for w in widths)
    for row in rows:
        head = "  " + "".join(f"{cell:{w}}  " for cell, w in zip(row, widths, strict=False))
        wrapped = textwrap.wrap(row[-1], max(WIDTH - indent, 40)) or [""]
        yield f"{head}{wrapped[0]}".rstrip()
        yield from (" " * indent + more for more in wrapped[1:])


# As Markdown


def as_markdown(page: Page, level: int = 1) -> str:
    """The page for the documentation; other types are links to pages beside it.  level: of its heading."""
    mark = "#" * level
    lines = [f"{mark} {page.name}", ""]
    if page.desc:
        lines += [f"**{escaped(page.desc)}.**", ""]
    for section in page.sections:
        if section.title:
            lines += [f"{mark}# {section.title}", ""]
        for text in section.text:
            lines += [escaped(_labelled(text)), ""]
        if section.rows:
            lines += [*markdown_table(section.head, [[_marked(c) for c in row] for row in section.rows]), ""]
        for language, block in section.blocks:
            lines += [f"```{language}", block.rstrip("\n"), "```", ""]
    return "\n".join(lines)


def _marked(cell: Cell) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    if isinstance(cell, Ref):
        return f"[`{cell.name}`]({quote(cell.name)}.md)"
    if isinstance(cell, Code):
        return f"`{cell.text}`" if cell.text else ""
    return "".join(map(_marked, cell))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; bars outside of code are escaped, columns that are empty all the way down are left out."""
    cells = [[_cell(c) for c in row] for row in rows]
    used = [n for n in range(len(head)) if any(row[n] for row in cells)]
    out = ["| " + " | ".join(head[n] for n in used) + " |", "|" + "---|" * len(used)]
    return out + ["| " + " | ".join(row[n] for n in used) + " |" for row in cells]


def _cell(text: str) -> str:
    pieces = text.replace("\n", " ").split("`")
    pieces[::2] = [p.replace("|", "\\|") for p in pieces[::2]]
    return "`".join(pieces)


def escaped(text: str) -> str:
    """Prose as Markdown: angle brackets and the like are what they are, outside of code."""
    out = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("    "):
            out.append(paragraph)
            continue
        pieces = paragraph.split("`")
        pieces[::2] = [_escape(p) for p in pieces[::2]]
        lines = "`".join(pieces).splitlines()
        listed = [n for n, line in enumerate(lines) if line.startswith(("* ", "- "))]
        if listed and listed[0] > 0:  # a list needs an empty line before it
            lines.insert(listed[0], "")
        out.append("\n".join(lines))
    return "\n\n".join(out)


_ESCAPES: Final[dict[str, str]] = {"<": "&lt;", ">": "&gt;", "*": "\\*", "_": "\\_", "[": "\\[", "]": "\\]"}


def _escape(text: str) -> str:
    escape: Callable[[str], str] = lambda c: _ESCAPES.get(c, c)  # noqa: E731 -- a table look-up with a default
    lines = []
    for line in text.split("\n"):
        head = line[:2] if line[:2] in ("* ", "- ") else ""
        lines.append(head + "".join(map(escape, line[len(head) :])))
    return "\n".join(lines)
