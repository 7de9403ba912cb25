"""Imports go one way: qom <- accel, plugins <- machines <- command line; and inside qom: core <- hw <- vm <- board <- cli."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "qom": {"qom"},
    "qom.hw": {"qom", "qom.hw"},
    "qom.vm": {"qom", "qom.hw", "qom.vm"},
    "qom.monitor": {"qom", "qom.hw", "qom.vm", "qom.monitor"},
    "qom.board": {"qom", "qom.hw", "qom.vm", "qom.board"},
    "qom.show": {"qom", "qom.hw", "qom.vm", "qom.board", "qom.show"},
    "qom.testing": {"qom", "qom.hw", "qom.vm", "qom.show", "qom.cli", "qom.testing", "accel"},
    "qom.cli": {
        "qom",
        "qom.hw",
        "qom.vm",
        "qom.board",
        "qom.show",
        "qom.monitor",
        "qom.cli",
        "accel",
        "plugins",
        "machines",
    },
    "accel": {"qom", "qom.hw", "qom.vm", "accel"},
    "plugins": {"qom", "qom.hw", "qom.vm", "qom.monitor", "plugins"},
    "machines": {"qom", "qom.hw", "qom.vm", "qom.board", "accel", "plugins", "machines"},
}
TOPS = ("qom", "accel", "plugins", "machines")


def layer(module: str) -> str:
    parts = module.split(".")
    two = ".".join(parts[:2])
    return two if two in MAY_IMPORT else parts[0]


def modules() -> Iterator[tuple[str, Path]]:
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(module: str, path: Path) -> Iterator[tuple[str, int, ast.AST]]:
    """Modules of ours that are imported when the module runs (not those for the type checker only), with the line."""
    tree = ast.parse(path.read_text())
    skip: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            skip |= {inner for body in node.body for inner in ast.walk(body)}
    for node in ast.walk(tree):
        if node in skip:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import: expected the full name"
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in TOPS:
                yield name, node.lineno, node


def test_imports_go_one_way() -> None:
    wrong = []
    for module, path in modules():
        for name, line, _ in imports(module, path):
            if layer(name) not in MAY_IMPORT[layer(module)]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {layer(module)} may not import {name}")
    assert wrong == []


def test_nothing_reaches_into_anothers_privates() -> None:
    wrong = []
    for module, path in modules():
        for name, line, node in imports(module, path):
            if not isinstance(node, ast.ImportFrom):
                continue
            for alias in node.names:
                private = alias.name.startswith("_") and not alias.name.startswith("__")
                if private and layer(name) != layer(module):
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {name}.{alias.name} is private")
    assert wrong == []


def test_there_are_no_drawers_for_odds_and_ends() -> None:
    names = {part for module, _ in modules() for part in module.split(".")}
    assert not names & {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize("top", TOPS)
def test_every_module_says_what_it_is(top: str) -> None:
    silent = [
        str(path)
        for module, path in modules()
        if module.startswith(top) and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
