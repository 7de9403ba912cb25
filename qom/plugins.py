"""The plugin manager: finds plugins by entry point, collects their types, and reports what came from where.

What is in the box goes the very same way as what is not: entry points in the group `qom.plugins`.  A plugin that cannot
be imported, was written for another plugin API, claims a taken name, or whose types do not fit becomes a row that says
so, with its distribution's name; nothing of it is registered, and everything else goes on.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Collection, Iterable
from types import ModuleType
from typing import Any

import attrs
import pluggy

from qom import hookspecs
from qom.errors import PluginError, TypeRegistryError, did_you_mean
from qom.hookspecs import API_VERSION, PROJECT
from qom.registry import Type, TypeInfo, TypeRegistry, mark_of

IMPL_MARK = f"{PROJECT}_impl"  # what pluggy's marker leaves on a function

GROUP = "qom.plugins"
IN_BOX: dict[str, str] = {
    "hw": "qom.hw",
    "vm": "qom.vm",
    "accel": "accel",
    "cpu": "plugins.cpu",
    "intc": "plugins.intc",
    "timer": "plugins.timer",
    "isa": "plugins.isa",
    "pci": "plugins.pci",
    "char": "plugins.char",
    "block": "plugins.block",
    "firmware": "plugins.firmware",
    "observe": "plugins.observe",
    "machines": "machines",
}
"""The entry points of the distribution `qom` itself, for a tree that is not installed; pyproject.toml says the same."""


@attrs.frozen
class PluginRow:
    """One plugin and what became of it.

    status: "loaded"; "refused" (well-formed, but not wanted or not compatible); "broken" (an error in it).
    reason: why not loaded, one line.  types: the names it brought.
    """

    name: str
    dist: str
    version: str
    module: str
    status: str = "loaded"
    reason: str = ""
    types: tuple[str, ...] = ()


@attrs.define
class _Candidate:
    """A plugin found and not yet judged."""

    name: str
    dist: str
    version: str
    module: str
    load: Callable[[], Any]


class _Refused(Exception):
    """A plugin is well-formed and still cannot be used."""


class PluginManager:
    """Loads plugins into a registry.

    load_external: also those of other distributions.  allow: if given, the only other distributions to load from.
    registry: where their types go; a new one by default.
    """

    def __init__(
        self, registry: TypeRegistry | None = None, *, load_external: bool = True, allow: Collection[str] | None = None
    ) -> None:
        self.registry = registry if registry is not None else TypeRegistry()
        self.load_external = load_external
        self.allow = None if allow is None else frozenset(_canonical(a) for a in allow)
        self.rows: list[PluginRow] = []
        self.pluggy = pluggy.PluginManager(PROJECT)
        self.pluggy.add_hookspecs(hookspecs)

    def load(self) -> list[PluginRow]:
        """Find and load everything, the box first; returns (and keeps in `rows`) one row per plugin module."""
        queue = self._find()
        while queue:
            candidate = queue.pop(0)
            if isinstance(candidate, PluginRow):
                self.rows.append(candidate)
                continue
            row, more = self._load_one(candidate)
            self.rows.append(row)
            queue[:0] = more
        self._drop_orphans()
        return self.rows

    def require(self, name: str) -> PluginRow:
        """The row of the plugin `name`, if it was loaded; else PluginError with the reason."""
        rows = [r for r in self.rows if r.name == name]
        if not rows:
            raise PluginError(f"no plugin '{name}'{did_you_mean(name, [r.name for r in self.rows])}")
        for row in rows:
            if row.status != "loaded":
                raise PluginError(f"plugin '{name}' of {row.dist} {row.version} is {row.status}: {row.reason}")
        return rows[0]

    # Finding

    def _find(self) -> list[_Candidate | PluginRow]:
        in_box: dict[str, _Candidate | PluginRow] = {}
        outside: list[_Candidate | PluginRow] = []
        for entry in importlib.metadata.entry_points(group=GROUP):
            dist = entry.dist.name if entry.dist is not None else "unknown"
            version = entry.dist.version if entry.dist is not None else "unknown"
            candidate = _Candidate(entry.name, dist, version, entry.value, entry.load)
            if _canonical(dist) == "qom":
                in_box[entry.name] = candidate
            elif not self.load_external:
                continue
            elif self.allow is not None and _canonical(dist) not in self.allow:
                reason = "its distribution is not among those allowed"
                outside.append(PluginRow(entry.name, dist, version, entry.value, "refused", reason))
            else:
                outside.append(candidate)
        for name, module in IN_BOX.items():
            if name not in in_box:
                in_box[name] = _Candidate(name, "qom", _own_version(), module, _importer(module))
        order = list(IN_BOX)
        first = sorted(in_box.values(), key=lambda c: (order.index(c.name) if c.name in order else len(order), c.name))
        return [*first, *sorted(outside, key=lambda c: (_canonical(c.dist), c.name))]

    # Loading one

    def _load_one(self, candidate: _Candidate) -> tuple[PluginRow, list[_Candidate | PluginRow]]:
        facts = (candidate.name, candidate.dist, candidate.version, candidate.module)
        registered = False
        plugin: Any = None
        try:
            plugin = candidate.load()
            self._check_version(plugin)
            more = self._submodules(candidate, plugin)
            if _has_hooks(plugin):
                self._check_hooks(plugin)
                registered = self.pluggy.register(plugin, f"{candidate.dist}:{candidate.name}") is not None
            types = self._collect(candidate, plugin)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if registered:
                self.pluggy.unregister(plugin)
            status = "refused" if isinstance(error, _Refused) else "broken"
            return PluginRow(*facts, status, _reason(error)), []
        return PluginRow(*facts, types=tuple(t.name for t in types)), more

    def _check_version(self, plugin: Any) -> None:
        wanted = getattr(plugin, "QOM_API", None)
        if wanted is None:
            return
        have = ".".join(str(n) for n in API_VERSION)
        parts = str(wanted).split(".")
        if not isinstance(wanted, str) or len(parts) != 2 or not all(p.isdecimal() for p in parts):
            raise PluginError(f"QOM_API is {wanted!r}: expected 'MAJOR.MINOR', such as '{have}'")
        major, minor = (int(p) for p in parts)
        if major != API_VERSION[0] or minor > API_VERSION[1]:
            raise _Refused(f"it needs plugin API {wanted}, this is {have}")

    def _submodules(self, candidate: _Candidate, plugin: Any) -> list[_Candidate | PluginRow]:
        names = getattr(plugin, "QOM_MODULES", ())
        if not names:
            return []
        if isinstance(names, str) or not all(isinstance(n, str) for n in names):
            raise PluginError(f"QOM_MODULES is {names!r}: expected a tuple of module names")
        return [
            _Candidate(f"{candidate.name}/{name}", candidate.dist, candidate.version, full, _importer(full))
            for name in names
            for full in (f"{plugin.__name__}.{name}",)
        ]

    def _check_hooks(self, plugin: Any) -> None:
        known = {n for n in vars(hookspecs) if n.startswith("qom_")}
        for name in dir(plugin):
            if name.startswith("__") or self.pluggy.parse_hookimpl_opts(plugin, name) is None:
                continue
            if name not in known:
                raise PluginError(f"it implements the unknown hook '{name}'{did_you_mean(name, known)}")

    def _collect(self, candidate: _Candidate, plugin: Any) -> list[Type]:
        registry = self.registry
        before = {t.name for t in registry}
        others = [p for p in self.pluggy.get_plugins() if p is not plugin]
        with registry.transaction(candidate.dist):
            for cls in _marked(plugin):
                registry.register(cls)
            hook = self.pluggy.subset_hook_caller("qom_types", others)
            for batch in hook():
                for made in batch:
                    if not isinstance(made, TypeInfo) and not (isinstance(made, type) and mark_of(made)):
                        raise PluginError(f"qom_types gave {made!r}: expected classes marked by type_init, or TypeInfo")
                    registry.register(made)
            self.pluggy.subset_hook_caller("qom_register_types", others)(registry=registry)
        own = _marked(plugin)
        return [t for t in registry if (t.name not in before and not t.implied) or t.python_class in own]

    # Afterwards

    def _drop_orphans(self) -> None:
        """Take back every plugin whose types name a parent or interface that nobody brought."""
        while True:
            found: dict[str, TypeRegistryError] = {}
            for made in self.registry:
                try:
                    _ = made.ancestry
                except TypeRegistryError as error:
                    found[made.name] = error
            if not found:
                break
            rows: list[PluginRow] = []
            for row in self.rows:
                bad = next((found[t] for t in row.types if t in found), None)
                if bad is not None:
                    self._forget(row.types)
                    row = attrs.evolve(row, status="broken", reason=_reason(bad), types=())
                rows.append(row)
            self.rows = rows
            self._forget(found)
        self.registry.drop_dangling_aliases()

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.registry:
                self.registry.unregister(name)


def default_registry(*, load_external: bool = True, allow: Collection[str] | None = None) -> TypeRegistry:
    """A new registry with everything in the box and, unless told otherwise, everything installed.

    The rows that say what came from where are in its `plugins`.
    """
    manager = PluginManager(load_external=load_external, allow=allow)
    manager.registry.plugins = manager.load()
    manager.registry.hooks = manager.pluggy
    return manager.registry


def _marked(plugin: Any) -> list[type]:
    """The marked classes a plugin brings: of a module those it defines (or its submodules do), in their order there."""
    if isinstance(plugin, type):
        return [plugin] if mark_of(plugin) else []
    if not isinstance(plugin, ModuleType):
        return []
    own = plugin.__name__
    below = f"{own}." if not getattr(plugin, "QOM_MODULES", ()) else None  # else they come by themselves
    return [
        v
        for v in vars(plugin).values()
        if inspect.isclass(v)
        and mark_of(v)
        and (v.__module__ == own or (below is not None and v.__module__.startswith(below)))
    ]


def _importer(module: str) -> Callable[[], Any]:
    return lambda: importlib.import_module(module)


def _canonical(dist: str) -> str:
    return dist.lower().replace("_", "-").replace(".", "-")


def _own_version() -> str:
    from qom import __version__

    return __version__


def _has_hooks(plugin: Any) -> bool:
    """Whether there is anything for pluggy to find; most modules only hold marked classes, and its search is slow."""
    if not isinstance(plugin, ModuleType):
        return True
    return any(hasattr(value, IMPL_MARK) for value in vars(plugin).values())


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, _Refused | PluginError | TypeRegistryError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
