"""What is imported when: packages that export names from their modules, hook markers without pluggy, entry points without
their metadata, and the modules of a machine that has just been started."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path

import pluggy
import pytest

from qom import entry_points, hookspecs
from qom.entry_points import entry_points as found_entry_points

PACKAGES = ("qom.hw", "qom.vm", "qom.board", "qom.config", "accel")


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_exports_later_is_what_the_type_checker_is_told(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__ or "").read_text())
    (told,) = [
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    for_checker = {
        (node.module, alias.name) for node in told.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {(home, name) for home, names in module._LATER.items() for name in names} == for_checker
    assert {name for _, name in for_checker} == set(module.__all__)
    for home, name in for_checker:
        assert getattr(module, name) is getattr(importlib.import_module(home or ""), name, None) or home == package
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError) as raised:
        module.no_such_name  # noqa: B018
    assert str(raised.value) == f"module '{package}' has no attribute 'no_such_name'"


def test_hook_markers_are_those_of_pluggy() -> None:
    def hook() -> None: ...

    def marked(marker: object, **options: object) -> object:
        def hook() -> None: ...

        return vars(marker(**options)(hook) if options else marker(hook))  # type: ignore[operator]

    theirs = pluggy.HookimplMarker("qom")
    for options in ({}, {"tryfirst": True}, {"specname": "qom_types", "optionalhook": True}):
        assert marked(hookspecs.hookimpl, **options) == marked(theirs, **options)
    assert marked(hookspecs.hookspec) == marked(pluggy.HookspecMarker("qom"))
    with pytest.raises(TypeError) as raised:
        hookspecs.hookimpl(trylats=True)
    assert str(raised.value) == "hookimpl() got an unexpected keyword argument 'trylats'"


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def distribution(folder: Path, name: str, points: str | None) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if points is not None:
        (info / "entry_points.txt").write_text(points)


def test_metadata_is_read_only_where_some_distribution_has_entry_points_for_us(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    whole = importlib.import_module("importlib.metadata").entry_points
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **given: asked.append("") or whole(**given))
    distribution(alone, "plain", None)
    distribution(alone, "other", "[console_scripts]\nother = other:main\n")
    distribution(alone, "qom", "[qom.plugins]\nhw = qom.hw\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(alone / "nowhere")])
    assert found_entry_points("qom.plugins") == [] and asked == []
    distribution(alone, "chips", "[qom.plugins]\nchips = chips\n")
    importlib.invalidate_caches()
    assert [(e.name, e.dist.name if e.dist else "") for e in found_entry_points("qom.plugins")] == [("chips", "chips")]
    assert asked == [""]


@pytest.mark.parametrize("kind", ["egg", "archive", "finder"])
def test_metadata_is_asked_where_the_folders_do_not_say_all(
    alone: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "egg":
        (alone / "chips.egg-link").write_text("elsewhere\n")
    elif kind == "archive":
        (alone / "chips.zip").write_bytes(b"")
        monkeypatch.setattr(sys, "path", [*sys.path, str(alone / "chips.zip")])
    else:

        class Finder:
            def find_spec(self, *given: object) -> None:
                return None

            def find_distributions(self, context: object = None) -> list[object]:
                return []

        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert entry_points._maybe_some(b"[qom.plugins]")
    assert found_entry_points("qom.plugins") == []
