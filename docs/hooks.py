"""What building the documentation adds to the pages: the reference, pictures of the PC, the sources that pages point to.

MkDocs calls the functions named `on_...`; see mkdocs.yml.  The reference comes from `qom.cli.reference`, the pictures from
`qom graph`, so neither can be out of date.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from qom import default_registry
from qom.cli.commands import graph
from qom.cli.reference import pages
from qom.errors import QomError

TOP = Path(__file__).resolve().parents[1]
PICTURED = ["-M", "pc", "-accel", "simulated", "-smp", "4", "-m", "5G", "-bios", "qomfw.bin", "-serial", "null"]
"""The machine in the pictures: options of `qom graph`."""
LANGUAGES = {".py": "python", ".toml": "toml", ".c": "c", ".h": "c", ".S": "asm", ".sh": "sh", ".json": "json"}

_LINK = re.compile(r"\]\((?P<target>\.\.?/[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_NAMED = re.compile(r"\[(?P<target>[\w./-]+\.md)\]\((?P=target)\)")
_NOTE = re.compile(r"^(?P<pad> *)<!-- (?P<key>file|not run): (?P<value>[^\n]*?) -->$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated, and complete the navigation."""
    registry = default_registry(load_external=False)
    made = pages(registry)
    for path, text in made.items():
        files.append(File.generated(config, f"reference/{path}", content=text))
    for name, svg in pictures().items():
        files.append(File.generated(config, f"pictures/{name}", content=svg))
    for path in sorted(linked_sources(files)):
        files.append(File.generated(config, source_uri(path), content=source_page(path)))
    nav: list[Any] = list(config.nav or [])
    nav.append({"Reference": reference_nav(made)})
    config.nav = nav
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to sources to their copies in the site, call pages by their titles, show the notes above examples."""
    here = Path(config.docs_dir) / page.file.src_uri

    def link(match: re.Match[str]) -> str:
        path = (here.parent / match["target"]).resolve()
        if not leaves_docs(path) or page.file.src_uri.startswith("source/"):
            return match[0]
        up = "../" * page.file.src_uri.count("/")
        return f"]({up}{source_uri(path)})"

    def named(match: re.Match[str]) -> str:
        target = here.parent / match["target"]
        title = re.search(r"^# (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE) if target.exists() else None
        return f"[{title[1]}]({match['target']})" if title is not None else match[0]

    return _NOTE.sub(_shown_note, _LINK.sub(link, _NAMED.sub(named, markdown)))


def _shown_note(match: re.Match[str]) -> str:
    if match["key"] == "file":
        return f"{match['pad']}`{match['value']}`:\n"
    return f"{match['pad']}*Not run by the tests: {match['value']}.*\n"


def leaves_docs(path: Path) -> bool:
    """Whether a link goes to a file of the project that is no page."""
    return path.is_relative_to(TOP) and not path.is_relative_to(TOP / "docs") and path.exists()


def linked_sources(files: Files) -> set[Path]:
    """The files and directories outside of the documentation that its pages point to."""
    found = set()
    for file in files.documentation_pages():
        if file.abs_src_path is None:
            continue
        here = Path(file.abs_src_path)
        for match in _LINK.finditer(here.read_text(encoding="utf-8")):
            path = (here.parent / match["target"]).resolve()
            if leaves_docs(path):
                found.add(path)
    return found


def source_uri(path: Path) -> str:
    """Where the page for a source file or a directory is."""
    return f"source/{path.relative_to(TOP).as_posix()}.md"


def source_page(path: Path) -> str:
    """A file as a page; of a directory, the files in it, what its README says first."""
    name = path.relative_to(TOP).as_posix()
    if path.is_file():
        return f"# {name}\n\n{_fenced(path)}"
    inside = [p for p in sorted(path.rglob("*")) if p.is_file() and (p.suffix in LANGUAGES or p.suffix == ".md")]
    inside = [
        p
        for p in inside
        if not any(part.startswith((".", "__pycache__")) or part.endswith(".egg-info") for part in p.parts)
    ]
    parts = [f"# {name}", ""]
    for readme in (p for p in inside if p.name == "README.md"):
        text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", readme.read_text(encoding="utf-8"))
        parts += [re.sub(r"^#", "##", text, flags=re.MULTILINE), ""]
    for one in (p for p in inside if p.name != "README.md"):
        parts += [f"## {one.relative_to(path).as_posix()}", "", _fenced(one), ""]
    return "\n".join(parts)


def _fenced(path: Path) -> str:
    return f"````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8').rstrip()}\n````\n"


def pictures() -> dict[str, str]:
    """The PC in every view that `qom graph` has, by file name."""
    made = {}
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        for kind in graph.KINDS:
            name = f"pc-{kind}.svg"
            if graph.main([*PICTURED, "--kind", kind, "-o", name]) != os.EX_OK:
                raise QomError(f"qom graph --kind {kind} failed")
            made[name] = Path(name).read_text(encoding="utf-8")
    return made


def reference_nav(made: dict[str, str]) -> list[Any]:
    """The reference in the navigation: overview, lists, public names; the pages of types are reached from their list."""
    api = [
        {path.removeprefix("api/").removesuffix(".md"): f"reference/{path}"} for path in made if path.startswith("api/")
    ]
    return [
        "reference/index.md",
        {"Types": "reference/types/index.md"},
        {"Properties": "reference/properties.md"},
        {"Commands and options": "reference/commands.md"},
        {"Plugin hooks": "reference/hooks.md"},
        {"Public names": api},
    ]
