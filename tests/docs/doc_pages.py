"""Runs what the documentation shows: the convention is in docs/writing.md, "Examples that run".

A page is one session, from top to bottom, in an empty directory of its own.  `run_page` runs it; a failure names the page
and the line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import yaml

from qom import default_registry
from qom.board import check_board
from qom.cli.arguments import file_and_options
from qom.cli.commands import COMMANDS
from qom.cli.commands.run import parse as parse_run
from qom.cli.main import main as qom_main
from qom.cli.system import main as system_main
from qom.cli.system import parse as parse_system
from qom.config import ConfigBuilder, read_ini
from qom.errors import did_you_mean

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]

CHECKED = ("python", "toml", "yaml", "json", "ini", "sh")
"""The languages whose blocks must be run, checked, or say why not."""
NOTES = ("file", "with", "not run", "run", "status", "output", "example", "continues")
"""What an HTML comment above a block may say."""
READERS: dict[str, Callable[[str], object]] = {".toml": tomllib.loads, ".json": json.loads, ".yaml": yaml.safe_load}
OTHER_FILES = {"project", "build-system", "tool"}
"""Top keys of a pyproject.toml, which only has to be well-formed."""
OTHER_NAMES = {"bash": "sh", "shell": "sh", "console": "sh", "py": "python", "python3": "python", "yml": "yaml"}
"""Names of these languages under which a block would not be run; one name each is enough."""
TOOLS = ("as", "ld", "python")
"""Programs that an `sh` block may run beside those of qom."""
MANY = 20000  # characters of output that a failure quotes at most

_BLOCK = re.compile(
    r"^(?P<pad> *)```(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=pad)```[ ]*$", re.DOTALL | re.MULTILINE
)
_NOTE = re.compile(r"<!--\s*(?P<key>[a-z ]+?)\s*(?::\s*(?P<value>.*?))?\s*-->", re.DOTALL)


@attrs.frozen
class Block:
    """A fenced block: its language, text, first line's number in the page, and the notes above it by their key."""

    page: Path
    language: str
    text: str
    line: int
    notes: dict[str, str]

    @property
    def place(self) -> str:
        """Page and line."""
        return f"{self.page.relative_to(TOP) if self.page.is_relative_to(TOP) else self.page}:{self.line}"


class PageError(AssertionError):
    """A page does not say what is true; the text begins with page and line."""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    source = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(source):
        notes: dict[str, str] = {}
        above = source[: match.start()].rstrip()
        while above.endswith("-->") and (note := _last_note(above)) is not None:
            key = note["key"]
            if key in NOTES:
                notes.setdefault(key, " ".join((note["value"] or "").split()))
            elif hint := did_you_mean(key, NOTES):
                line = source.count("\n", 0, note.start()) + 1
                raise PageError(f"{page.name}:{line}: no note '{key}' is known{hint}")
            above = above[: note.start()].rstrip()
        line = source.count("\n", 0, match.start()) + 2
        text = re.sub(rf"^ {{0,{len(match['pad'])}}}", "", match["text"], flags=re.MULTILINE)  # what the fence has
        found.append(Block(page, match["language"], text, line, notes))
    return found


def _last_note(text: str) -> re.Match[str] | None:
    return _NOTE.fullmatch(text, text.rindex("<!--"))


class Session:
    """One page, or one named example of it: a directory, a Python namespace, the output of the last command."""

    def __init__(self, name: str, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.module = types.ModuleType(f"documentation_{re.sub(r'[^a-z0-9]+', '_', name.lower())}")
        self.output = ""

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The directory is the current one, and modules in it can be imported."""
        known = set(sys.modules)
        with contextlib.chdir(self.directory):
            sys.path.insert(0, str(self.directory))
            sys.modules[self.module.__name__] = self.module
            try:
                yield
            finally:
                sys.path.remove(str(self.directory))
                for name in set(sys.modules) - known:
                    at = getattr(sys.modules[name], "__file__", None)
                    if at is None or Path(at).is_relative_to(self.directory):
                        del sys.modules[name]


def run_page(page: Path, directory: Path) -> int:
    """Run every block of a page in `directory`; how many did something.  Raises PageError with page and line."""
    sessions: dict[str, Session] = {"": Session(page.stem, directory / "page")}
    name, did = "", 0
    for block in blocks(page):
        if "example" in block.notes or "continues" in block.notes:
            name = block.notes.get("example", block.notes.get("continues", ""))
            if "continues" in block.notes and name not in sessions:
                raise PageError(
                    f"{block.place}: continues: no example '{name}' so far: there are {sorted(sessions)[1:]}"
                )
            sessions.setdefault(name, Session(f"{page.stem} {name}", directory / f"example-{len(sessions)}"))
        did += run_block(block, sessions[name])
    return did


def run_block(block: Block, session: Session) -> int:
    """Run or check one block; 0 when it is of a language that is only shown, or says why it is not run."""
    if "file" in block.notes:
        path = session.directory / block.notes["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    if "not run" in block.notes:
        if not block.notes["not run"]:
            raise PageError(f"{block.place}: not run: expected a reason")
        return 0
    if "output" in block.notes:
        check_output(block, session.output)
        return 1
    if block.language in OTHER_NAMES:
        raise PageError(f"{block.place}: language '{block.language}': expected '{OTHER_NAMES[block.language]}'")
    run = RUNNERS.get(block.language)
    if run is None:
        return "file" in block.notes
    with session.entered():
        try:
            run(block, session)
        except (PageError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise PageError(f"{block.place}: {type(error).__name__}: {error}") from error
    return 1


def check_output(block: Block, output: str) -> None:
    """Every line of the block is in the output, in order; `...` stands for any lines, or any text within one."""
    lines = [line.rstrip() for line in output.splitlines()]
    at = 0
    for n, wanted in enumerate(block.text.splitlines()):
        if wanted.strip() in ("", "..."):
            continue
        pattern = ".*".join(re.escape(part) for part in wanted.rstrip().split("..."))
        while at < len(lines) and not re.fullmatch(pattern, lines[at]):
            at += 1
        if at == len(lines):
            raise PageError(
                f"{block.page.name}:{block.line + n}: the output has no such line (in this order): {wanted!r}; it is:\n"
                f"{output[:MANY]}"
            )
        at += 1


# By language


def _python(block: Block, session: Session) -> None:
    if block.notes.get("file", "").endswith(".py"):
        compile(block.text, block.place, "exec")  # a module: what uses it imports it
        return
    code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, session.module.__dict__)
    session.output = out.getvalue()


def _machine_file(suffix: str) -> Callable[[Block, Session], None]:
    def check(block: Block, session: Session) -> None:
        name = block.notes.get("file") or f"block-{block.line}{suffix}"
        (session.directory / name).write_text(block.text, encoding="utf-8")
        data = READERS[suffix](block.text)
        if not isinstance(data, dict) or data.keys() & OTHER_FILES:
            return
        if "board" in data:
            if wrong := check_board(name, default_registry(load_external=False)):
                raise PageError(f"{block.place}: {'; '.join(map(str, wrong))}")
            return
        file_and_options([name, *shlex.split(block.notes.get("with", ""))]).builder.finish()

    return check


def _ini(block: Block, session: Session) -> None:
    path = session.directory / block.notes.get("file", f"block-{block.line}.cfg")
    path.write_text(block.text, encoding="utf-8")
    builder = ConfigBuilder()
    read_ini(builder, str(path))
    builder.finish()


def _sh(block: Block, session: Session) -> None:
    everything = []
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        words = line.partition("  #")[0].strip().removeprefix("$ ")
        if words and not words.startswith("#"):
            everything.append(_command(block, words, session))
    session.output = "".join(everything)


def _command(block: Block, text: str, session: Session) -> str:
    """Run one command line of `qom` or `qom-system-x86_64`; its output, both streams."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="<>|&;")
    lexer.whitespace_split = True
    words = list(lexer)
    into = None
    if ">" in words:
        at = words.index(">")
        words, into = words[:at], words[at + 1]
    program, *argv = words
    if program in TOOLS:
        return _tool(block, words, session)
    if program not in ("qom", "qom-system-x86_64") or set("<|&;") & {w for w in words if len(w) == 1}:
        raise PageError(
            f"{block.place}: cannot run {text!r}: expected a command line of qom, or <!-- not run: why --> above the block"
        )
    runs_a_guest = program == "qom-system-x86_64" or argv[:1] == ["run"]
    if runs_a_guest and "run" not in block.notes:  # understood, and no more: a machine would run until its guest ends
        if program == "qom":
            assert argv[0] in COMMANDS
            if not argv[1].startswith("-") and (session.directory / argv[1]).exists():
                parse_run(argv[1:])
            else:
                raise PageError(f"{block.place}: {text!r}: no such file: write it above with <!-- file: {argv[1]} -->")
        else:
            parse_system(argv)
        return ""
    if runs_a_guest:  # its console is the process's own standard output
        return _tool(block, ["python", "-m", "qom.cli.main" if program == "qom" else "qom.cli.system", *argv], session)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = (qom_main if program == "qom" else system_main)(argv)
    expected = int(block.notes.get("status", "0"))
    if status != expected:
        said = (out.getvalue() + err.getvalue())[-MANY:]
        raise PageError(f"{block.place}: {text!r} ended with {status}, expected {expected}; it said:\n{said}")
    if into is not None:
        (session.directory / into).write_text(out.getvalue(), encoding="utf-8")
        return err.getvalue()
    return out.getvalue() + err.getvalue()


def _tool(block: Block, words: list[str], session: Session) -> str:
    """Run a program that is not ours, as its user would, in the session's directory."""
    words = [sys.executable, *words[1:]] if words[0] == "python" else words
    path = os.pathsep.join([str(TOP), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        words,
        cwd=session.directory,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode != int(block.notes.get("status", "0")):
        raise PageError(
            f"{block.place}: {shlex.join(words)!r} ended with {done.returncode}; it said:\n{done.stdout}{done.stderr}"
        )
    return done.stdout + done.stderr


RUNNERS: dict[str, Callable[[Block, Session], None]] = {
    "python": _python,
    "toml": _machine_file(".toml"),
    "yaml": _machine_file(".yaml"),
    "json": _machine_file(".json"),
    "ini": _ini,
    "sh": _sh,
}
