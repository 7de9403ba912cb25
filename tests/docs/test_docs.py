"""What the documentation shows is true: its code runs, its files and command lines are understood, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from qom.cli.commands import COMMANDS
from qom.cli.options import CommandLine
from qom.config import ConfigBuilder, read_toml

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_the_device_in_the_guide_works() -> None:
    device, use = blocks(TOP / "docs" / "devices.md", "python")
    names = {"__name__": __name__}
    exec(device, names)
    exec(use, names)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "toml")], ids=lambda p: p.name)
def test_configuration_files_are_understood(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "toml"):
        if "entry-points" in text:
            continue
        path = tmp_path / "machine.toml"
        path.write_text(text)
        builder = ConfigBuilder()
        read_toml(builder, str(path))
        assert builder.finish().machine.type == "pc"


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for text in blocks(TOP / "README.md", "sh") for line in text.splitlines()]
    return [line for line in lines if line.startswith(("qom ", "qom-system"))]


@pytest.mark.parametrize("line", commands())
def test_command_lines_in_the_readme_are_understood(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "qom":
        assert words[0] in COMMANDS
    else:
        CommandLine().parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:qom|accel|plugins|machines|tests|docs|examples)/[\w./-]*\w\.(?:py|c|h|md|S))`", text):
        assert (TOP / name).exists(), name
