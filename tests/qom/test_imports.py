"""What is imported when: packages that export names from their modules, hook markers without pluggy, entry points without
their metadata, and the modules of a machine that has just been started."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pluggy
import pytest

from qom import entry_points, hookspecs
from qom.entry_points import entry_points as found_entry_points
from qom.in_box import IN_BOX

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


LOOK = """
import sys
from qom.cli import system
from qom.vm.vm import VirtualMachine

def run(vm):
    from_object = {base.__module__ for made in vm.root.walk() for base in type(made).__mro__}
    print([sorted(sys.modules), sorted(from_object)])
    return 0

VirtualMachine.run = run
VirtualMachine._new_machine = (lambda make: lambda vm: print([sorted(sys.modules), []]) or make(vm))(
    VirtualMachine._new_machine)
sys.exit(system.main(sys.argv[1:]))
"""

NEVER = {
    "argparse", "inspect", "dataclasses", "email", "zipfile", "importlib.metadata", "unittest", "html", "pickle", "doctest",
    "difflib", "subprocess", "logging", "multiprocessing", "asyncio", "concurrent.futures", "xml", "yaml", "attr", "attrs",
    "pluggy", "hypothesis", "pydoc", "hashlib", "random", "tempfile", "shutil", "platform", "tokenize", "dis",
    "qom.config.schema", "qom.config.write", "qom.config.yaml", "qom.config.json", "qom.config.ini", "qom.board.check",
    "qom.board.schema", "qom.vm.reload", "qom.vm.launch", "qom.cli.help", "qom.cli.reference", "qom.monitor.schema",
    "qom.plugin_path", "qom.scaffold", "qom.show", "qom.testing", "qom.notebook", "qom.hw.bench",
}  # fmt: skip
"""What no plain start needs, of Python, of others and of ours."""

NOT_TO_GREET = {
    "machines", "accel", "plugins.isa", "plugins.pci", "plugins.cpu", "plugins.firmware", "plugins.block", "plugins.intc",
    "qom.board", "tomllib", "ctypes", "datetime", "uuid", "pathlib", "ast", "fractions", "decimal", "_cffi_backend",
    "typing", "re", "json", "copy", "weakref", "contextvars", "struct",
    "qom.hw.memory", "qom.hw.device", "qom.hw.bus", "qom.vm.cpu", "qom.vm.machine", "qom.vm.observe", "qom.config.tables",
    "qom.monitor.declare", "qom.monitor.qapi", "qom.monitor.json_stream", "qom.monitor.table", "qom.monitor.events",
}  # fmt: skip
"""What is imported after the monitors greet."""


def loaded(*words: str) -> tuple[set[str], set[str], set[str]]:
    """The modules in a new process when the board is about to be made, when it is built, and those of its objects' classes."""
    done = subprocess.run([sys.executable, "-c", LOOK, *words], capture_output=True, text=True, check=True)
    first, second = (ast.literal_eval(line) for line in done.stdout.splitlines())
    bare = [sys.executable, "-c", "import sys; print(sorted(sys.modules))"]  # what an editable installation brings in
    there = set(ast.literal_eval(subprocess.run(bare, capture_output=True, text=True, check=True).stdout))
    return set(first[0]) - there, set(second[0]) - there, set(second[1])


@pytest.mark.parametrize("machine", ["pc", "none"])
def test_a_started_machine_has_imported_what_it_uses(machine: str, tmp_path: Path) -> None:
    monitor = ("-qmp", f"unix:{tmp_path / 'qmp'},server=on,wait=off")
    early, built, of_objects = loaded("-S", "-nodefaults", "-accel", "qtest", "-M", machine, *monitor, "--no-plugins")
    assert sorted(built & NEVER) == []
    assert sorted(early & NOT_TO_GREET) == []
    assert "qom.monitor.session" in early and "plugins.char.socket" in early
    for _, module, types in IN_BOX:
        if module in built and module.startswith(("plugins.", "machines.", "accel.")) and types:
            assert module in of_objects, f"{module}: nothing in the machine is of it"


def test_a_machine_without_monitors_imports_nothing_of_them() -> None:
    _, built, _ = loaded("-S", "-nodefaults", "-accel", "qtest", "-M", "pc", "--no-plugins")
    wrong = {m for m in built if m.startswith("qom.monitor.") or m in {"json", "socket"} or m in NEVER}
    assert wrong == {"qom.monitor.commands"}, "which names the commands and imports none"
