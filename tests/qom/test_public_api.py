"""The public API: what `__all__` of a few modules names, and that plugins, machines and accelerators in the box need no more.

Parts in the box stand where a third party's would: from the framework they import public names of public modules, and
touch no attribute with an underscore that is not their own.  (Parts may import each other: that they are in one
distribution is not the framework's business.)
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PUBLIC = ("qom", "qom.hw", "qom.hw.bench", "qom.vm", "qom.monitor", "qom.testing", "qom.board", "qom.records", "accel")
PARTS = ("accel", "plugins", "machines", "examples")
SOURCES = [path for top in PARTS for path in sorted((ROOT / top).rglob("*.py"))]
NAMES = {module: frozenset(importlib.import_module(module).__all__) for module in PUBLIC}


def own(path: Path) -> tuple[str, ...]:
    """The top packages whose modules a file may import from beyond what is public."""
    top = path.relative_to(ROOT).parts[0]
    return {"accel": ("accel",), "plugins": ("plugins",), "machines": ("plugins", "machines")}.get(top, ())


def wrong_imports(text: str, own: tuple[str, ...] = (), allowed: tuple[str, ...] = ()) -> Iterator[tuple[int, str]]:
    """Line and words for every import from the framework that is not of a public name from a public module."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                if top in ("qom", "accel", "plugins", "machines") and top not in own and alias.name not in PUBLIC:
                    yield node.lineno, f"imports {alias.name}, which is not a public module"
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            top = module.partition(".")[0]
            if top not in ("qom", "accel", "plugins", "machines") or top in own:
                continue
            if module not in PUBLIC and module not in allowed:
                yield node.lineno, f"imports from {module}, which is not a public module"
                continue
            for alias in node.names:
                if alias.name not in NAMES.get(module, {alias.name}) and f"{module}.{alias.name}" not in PUBLIC:
                    yield node.lineno, f"imports {alias.name}, which {module} does not export"


def wrong_attributes(text: str, mine: frozenset[str] = frozenset()) -> Iterator[tuple[int, str]]:
    """Line and words for every `thing._private` where nothing in this file, and nothing in `mine`, defines `_private`.

    So a subclass neither reads, calls nor overrides what its base class keeps to itself, unless by chance it has an
    attribute of the same name; that is the next test's business.
    """
    known = mine | defined(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in known:
            yield node.lineno, f"touches {ast.unparse(node)}, which this file does not define"


def defined(text: str) -> set[str]:
    """What a file defines: functions and classes, names, and attributes it assigns to (`self._line = ...`, `_line: int`)."""
    out: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            out.add(node.name)
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                out.add(node.attr)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            out.add(node.id)
    return out


def private(name: str) -> bool:
    """Also not: `_qom_...`, which the registry notes on every class."""
    return name.startswith("_") and not name.startswith(("__", "_qom_"))


def test_every_public_module_says_what_it_exports() -> None:
    for module in PUBLIC:
        found = importlib.import_module(module)
        assert NAMES[module], module
        assert sorted(set(found.__all__)) == sorted(found.__all__), f"{module}: a name twice"
        for name in found.__all__:
            assert not private(name), f"{module}.{name}"
            assert getattr(found, name) is not None, f"{module}.{name}"


def test_a_name_means_one_thing_wherever_it_is_exported() -> None:
    seen: dict[str, tuple[str, object]] = {}
    for module in PUBLIC:
        for name in NAMES[module]:
            value = getattr(importlib.import_module(module), name)
            first, known = seen.setdefault(name, (module, value))
            assert known is value, f"{name} of {first} is not {name} of {module}"


ACCEL = [path for path in SOURCES if path.is_relative_to(ROOT / "accel")]
WITHIN_ACCEL = frozenset({"_kvmabi", "_core"}.union(*(defined(path.read_text()) for path in ACCEL)))
"""Its modules are one part: they may touch what another of them defines, and the two modules made from C."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_parts_use_only_what_is_public(path: Path) -> None:
    text = path.read_text()
    surface = path == ROOT / "accel" / "__init__.py"  # exports the API itself, each name when it is asked for
    found = [*wrong_imports(text, own(path), ("qom.later",) if surface else ())]
    found += wrong_attributes(text, WITHIN_ACCEL if path in ACCEL else frozenset())
    assert [f"{path.relative_to(ROOT)}:{line}: {what}" for line, what in found] == []


def classes() -> Iterator[type]:
    from qom import default_registry

    for found in default_registry(load_external=False):
        cls = found.python_class
        if cls is not None and cls.__module__.partition(".")[0] in PARTS:
            yield cls


@pytest.mark.parametrize("cls", list(classes()), ids=lambda c: c.__name__)
def test_parts_do_not_override_what_the_framework_keeps_to_itself(cls: type) -> None:
    for base in cls.__mro__[1:]:
        if base.__module__.partition(".")[0] != "qom":
            continue
        hidden = {name for name in vars(base) if private(name)}
        assert not hidden & {name for name in vars(cls) if private(name)}, f"{cls.__name__} over {base.__name__}"


WRONG = {
    "import qom.hw.pci": "imports qom.hw.pci, which is not a public module",
    "import accel.loop": "imports accel.loop, which is not a public module",
    "from qom.registry import type_init": "imports from qom.registry, which is not a public module",
    "from qom import Children": "imports Children, which qom does not export",
    "from plugins.isa import port92": "imports from plugins.isa, which is not a public module",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_import_is_seen(text: str) -> None:
    assert list(wrong_imports(f"\n{text}\n")) == [(2, WRONG[text])]
    nested = f"def late():\n    {text}\n"
    assert list(wrong_imports(nested)) == [(2, WRONG[text])]


def test_a_foreign_private_attribute_is_seen() -> None:
    text = """
        class Mine(Device):
            _kept: int
            def realize(self):
                self._line = self.bus.line(1)
                self._line.raise_()
                other._line = 2
                self.bus._slots
                self._children
                super()._open()
    """
    assert [what.split(",")[0] for _, what in wrong_attributes(f"if True:\n{text}")] == [
        "touches self.bus._slots",
        "touches self._children",
        "touches super()._open",
    ]
