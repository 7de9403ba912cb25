"""A plugin named by its path: one file, a package, or the source tree of a distribution that is not installed.

    stopwatch.py                     a module
    stopwatch/   with __init__.py    a package
    qom-stopwatch/  with pyproject.toml    its entry points of the group `qom.plugins`, found in it or in its src/

Nothing is added to `sys.path`, so no other file beside it becomes importable.  The module is imported under its own name,
which must therefore be free: neither installed, nor a file of Python's own, nor imported from elsewhere.
"""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from qom import records
from qom.errors import ConfigError, PluginError

SHAPES = "expected a .py file, a package (with __init__.py) or a project (with pyproject.toml)"


@records.frozen
class PathPlugin:
    """One plugin found at a path; `load` imports it and may raise anything.  where: the directory its module is in."""

    name: str
    dist: str
    version: str
    module: str
    load: Callable[[], Any]
    where: Path


def at_path(text: str, group: str) -> Iterator[PathPlugin]:
    """The plugins at the path `text`, entry points being those of `group`.  Nothing is imported yet.

    Raises:
        ConfigError: there is nothing there that could hold a plugin.
    """
    path = Path(text)
    if path.is_dir():
        if (path / "pyproject.toml").is_file():
            yield from _project(path, text, group)
            return
        if not (path / "__init__.py").is_file():
            raise ConfigError(f"plugin '{text}' is a directory without __init__.py and pyproject.toml: {SHAPES}")
    elif not path.exists():
        raise ConfigError(f"plugin '{text}' does not exist: {SHAPES}")
    elif path.suffix != ".py":
        raise ConfigError(f"plugin '{text}' is no Python file: {SHAPES}")
    path = path.resolve()
    name = path.stem if path.is_file() else path.name
    if not name.isidentifier():
        raise ConfigError(f"plugin '{text}': '{name}' cannot be the name of a module: expected letters, digits and '_'")
    yield PathPlugin(name, text, "", name, lambda: import_from(path.parent, name), path.parent)


def _project(path: Path, text: str, group: str) -> Iterator[PathPlugin]:
    file = path / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
        entries = project.get("entry-points", {}).get(group, {})
        dist, version = str(project.get("name", text)), str(project.get("version", ""))
        wanted = {str(name): str(value) for name, value in entries.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"plugin '{text}': {file}: {error}") from None
    if not wanted:
        raise ConfigError(
            f"plugin '{text}': {file} has no entry points: expected a table [project.entry-points.\"{group}\"]"
        )
    for name, value in wanted.items():
        package = value.partition(":")[0].partition(".")[0]
        top = path.resolve()
        where = next((d for d in (top, top / "src") if _file_of(d, package) is not None), top)
        yield PathPlugin(name, dist, version, value, _loader(where, value), where)


def _loader(where: Path, value: str) -> Callable[[], Any]:
    def load() -> Any:
        module, _, attribute = value.partition(":")
        package = module.partition(".")[0]
        if _file_of(where, package) is None:
            raise PluginError(f"entry point '{value}': no module '{package}' in {where} or its src directory")
        loaded: Any = import_from(where, package)
        if module != package:
            loaded = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            loaded = getattr(loaded, part)
        return loaded

    return load


def _file_of(directory: Path, name: str) -> Path | None:
    for file in (directory / name / "__init__.py", directory / f"{name}.py"):
        if file.is_file():
            return file
    return None


def import_from(directory: Path, name: str) -> ModuleType:
    """The module or package `name` of `directory`, imported under that name, once.

    Raises:
        PluginError: another module has the name.
    """
    file = _file_of(directory, name)
    if file is None:
        raise PluginError(f"no module '{name}' in {directory}")
    known = sys.modules.get(name)
    if known is not None:
        if _same(getattr(known, "__file__", None), file):
            return known
        raise PluginError(f"the module name '{name}' is taken by {getattr(known, '__file__', None) or 'Python itself'}")
    installed = importlib.util.find_spec(name)
    if installed is not None and not _same(installed.origin, file):
        raise PluginError(f"the module name '{name}' is taken by {installed.origin or 'a package of that name'}")
    inside = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=inside)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def written_for(module: str, where: Path | None = None) -> str | None:
    """What a module's source says `QOM_API` is, without importing it; None if that cannot be seen.

    Args:
        module: its full name, or that of an entry point ("module:object").
        where: the directory to look in; None: where Python would.
    """
    path = None if where is None else [str(where)]
    origin = None
    name = ""
    for part in module.partition(":")[0].split("."):
        name = f"{name}.{part}" if name else part
        finders = sys.meta_path if path is None else [importlib.machinery.PathFinder]
        found = next(filter(None, (finder.find_spec(name, path) for finder in finders)), None)
        if found is None:
            return None
        origin, path = found.origin, list(found.submodule_search_locations or ())
    if origin is None or not origin.endswith(".py"):
        return None
    try:
        body = ast.parse(Path(origin).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return None  # importing it says what is wrong
    for node in body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "QOM_API" for t in node.targets):
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            return value if isinstance(value, str) else None
    return None


def _same(origin: str | None, file: Path) -> bool:
    return origin is not None and Path(origin).resolve() == file
