"""The plugin manager: finds plugins by entry point, collects their types, and reports what came from where.

What is in the box goes the very same way as what is not: entry points in the group `qom.plugins`.  A plugin that cannot
be imported, was written for another plugin API, claims a taken name, or whose types do not fit becomes a row that says
so, with its distribution's name; nothing of it is registered, and everything else goes on.

Plugins are code, so it is said where they may come from: distributions that are installed (all, some by name, or none but
the box) and paths the caller names.  No environment variable and no configuration file has a word in it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from types import ModuleType

from qom import deprecated, hookspecs, records
from qom.blame import plugin_place, shown, text_of
from qom.deprecated import Deprecated
from qom.entry_points import entry_points
from qom.errors import ConfigError, PluginError, TypeRegistryError, UnknownParent, did_you_mean
from qom.hookspecs import FIRST_API, PROJECT
from qom.indexed import Indexed
from qom.registry import TypeInfo, TypeRegistry, mark_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from pluggy import PluginManager as Hooks

IMPL_MARK = f"{PROJECT}_impl"  # what pluggy's marker leaves on a function

GROUP = "qom.plugins"
IN_BOX: dict[str, str] = {
    "hw": "qom.hw",
    "vm": "qom.vm",
    "board": "qom.board",
    "accel": "accel",
    "cpu": "plugins.cpu",
    "intc": "plugins.intc",
    "timer": "plugins.timer",
    "isa": "plugins.isa",
    "pci": "plugins.pci",
    "char": "plugins.char",
    "block": "plugins.block",
    "firmware": "plugins.firmware",
    "display": "plugins.display",
    "observe": "plugins.observe",
    "monitor": "qom.monitor",
    "commands": "qom.monitor.commands",
    "machines": "machines",
}
"""The entry points of the distribution `qom` itself, for a tree that is not installed; pyproject.toml says the same."""


BOARDS = "qom.board.types"
"""What reads the board files that a plugin names in `QOM_BOARDS`."""


@records.frozen
class PluginRow:
    """One plugin and what became of it.

    status: "loaded"; "refused" (well-formed, but not wanted or not compatible); "broken" (an error in it).
    reason: why not loaded, one line.  types, options, commands: the names it brought.
    api: the plugin API it was written for, "" when it does not say.  by_choice: refused because it was not wanted.
    """

    name: str
    dist: str
    version: str
    module: str
    status: str = "loaded"
    reason: str = ""
    types: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    api: str = ""
    by_choice: bool = False

    @property
    def source(self) -> str:
        """Distribution and version, or the path it was loaded from."""
        return f"{self.dist} {self.version}".rstrip()

    @property
    def owner(self) -> str:
        """What identifies the plugin among all."""
        return f"{self.dist}:{self.name}"


@records.define
class _Candidate:
    """A plugin found and not yet judged."""

    name: str
    dist: str
    version: str
    module: str
    load: Callable[[], Any]
    api: str = ""  # of the package whose submodule it is
    where: Path | None = None  # the directory it is in, of a plugin named by its path
    plugin: Any = None  # once it is loaded


class _StandIn:
    """Implements a hook by the function a plugin has under the hook's old name."""

    def __init__(self, hook: str, function: Callable[..., Any]) -> None:
        setattr(self, hook, function)


class _Refused(Exception):
    """A plugin is well-formed and still cannot be used."""


class PluginManager:
    """Loads plugins into a registry.

    What is in the box is registered from the index `qom.in_box`, and imported when a type of it is first needed.

    load_external: also those of other installed distributions.  allow: if given, the only other distributions to load
    from.  paths: files, packages and projects to load from as well (see `qom.plugin_path`), whatever the other two say.
    registry: where their types go; a new one by default.  whole: import everything in the box at once, without the index.
    """

    def __init__(
        self,
        registry: TypeRegistry | None = None,
        *,
        load_external: bool = True,
        allow: Collection[str] | None = None,
        paths: Iterable[str] = (),
        whole: bool = False,
    ) -> None:
        self.registry = registry if registry is not None else TypeRegistry()
        self.load_external = load_external
        self.allow = None if allow is None else {_canonical(a): a for a in allow}
        self.paths = tuple(paths)
        self.whole = whole
        self.rows: list[PluginRow] = []
        self._loaded: dict[int, PluginRow] = {}  # by the id of the module or object
        self._hooked = False

    @cached_property
    def pluggy(self) -> Hooks:
        """The hooks, and who implements them."""
        import pluggy  # slow to import, and the box needs none

        made = pluggy.PluginManager(PROJECT)
        made.add_hookspecs(hookspecs)
        self._hooked = True
        return made

    @property
    def used_hooks(self) -> Hooks | None:
        """`pluggy`, if anybody implements a hook."""
        return self.pluggy if self._hooked else None

    def load(self) -> list[PluginRow]:
        """Find and load everything, the box first; returns (and keeps in `rows`) one row per plugin module.

        Raises:
            ConfigError: a path holds nothing that could be a plugin.
            PluginError: an allowed distribution is not installed, or has no plugins.
        """
        queue = self._find()
        loaded: list[tuple[int, _Candidate]] = []
        while queue:
            candidate = queue.pop(0)
            if isinstance(candidate, PluginRow):
                self.rows.append(candidate)
                continue
            with deprecated.loading_for(candidate.dist):
                row, more = self._load_one(candidate)
            if row.status == "loaded":
                loaded.append((len(self.rows), candidate))
            self.rows.append(row)
            queue[:0] = more
        self._load_boards(loaded)
        if any(row.dist != "qom" for row in self.rows):  # what is in the box fits together
            self._drop_orphans()
        return self.rows

    def require(self, name: str) -> PluginRow:
        """The row of the plugin `name`, if it was loaded; else PluginError with the reason."""
        rows = [r for r in self.rows if r.name == name]
        if not rows:
            raise PluginError(f"no plugin '{name}'{did_you_mean(name, [r.name for r in self.rows])}")
        for row in rows:
            if row.status != "loaded":
                raise PluginError(f"plugin '{name}' of {row.source} is {row.status}: {row.reason}")
        return rows[0]

    # Finding

    def _find(self) -> list[_Candidate | PluginRow]:
        outside: list[_Candidate | PluginRow] = []
        there: set[str] = set()
        for entry in entry_points(GROUP):
            dist = entry.dist.name if entry.dist is not None else "unknown"
            version = entry.dist.version if entry.dist is not None else "unknown"
            candidate = _Candidate(entry.name, dist, version, entry.value, entry.load)
            there.add(_canonical(dist))
            reason = self._unwanted(dist)
            if reason:
                outside.append(PluginRow(entry.name, dist, version, entry.value, "refused", reason, by_choice=True))
            else:
                outside.append(candidate)
        for name, given in (self.allow or {}).items():
            if name not in there | {"qom"}:
                near = did_you_mean(name, there) or (f": expected one of {', '.join(sorted(there))}" if there else "")
                raise PluginError(f"no installed distribution '{given}' has plugins{near}")
        return [*self._box(), *sorted(outside, key=lambda c: (_canonical(c.dist), c.name)), *self._named()]

    def _named(self) -> list[_Candidate]:
        """What is at the paths."""
        if not self.paths:
            return []
        from qom.plugin_path import at_path

        return [
            _Candidate(found.name, found.dist, found.version, found.module, found.load, where=found.where)
            for path in self.paths
            for found in at_path(path, GROUP)
        ]

    def _box(self) -> list[_Candidate | PluginRow]:
        """What is in the box: from the index, whose types are registered here, and what it does not have by importing it."""
        from qom.in_box import IN_BOX as INDEX

        version = _own_version()
        made: dict[str, list[_Candidate | PluginRow]] = {name: [] for name in IN_BOX}
        whole = {
            name for name, _, types in INDEX if types is None and "/" not in name
        }  # these bring their modules themselves
        for name, module, types in () if self.whole else INDEX:
            package = name.partition("/")[0]
            if package in whole:
                continue
            if types is None:
                made[package].append(_Candidate(name, "qom", version, module, _importer(module)))
                continue
            row = self._expect(name, version, module, types)
            if package in made:
                made[package].append(row)
        for name, package in IN_BOX.items():
            if not made[name]:
                made[name].append(_Candidate(name, "qom", version, package, _importer(package)))
        return [found for rows in made.values() for found in rows]

    def _expect(self, plugin: str, version: str, module: str, types: tuple[tuple[Any, ...], ...]) -> PluginRow:
        """Register what the index has of a module; its row."""
        names: list[str] = []
        try:
            for name, parent, *rest in types:
                found = self.registry.expect(Indexed(name, parent, module, *rest), "qom")
                found.implied = not plugin
                names.append(name)
        except TypeRegistryError as error:
            self._forget(names)
            return PluginRow(plugin, "qom", version, module, "broken", _reason(error))
        return PluginRow(plugin, "qom", version, module, types=tuple(names))

    def _unwanted(self, dist: str) -> str:
        if not self.load_external:
            return "only the plugins in the box are wanted"
        if self.allow is not None and _canonical(dist) not in self.allow:
            return "its distribution is not among those allowed"
        return ""

    # Loading one

    def _load_one(self, candidate: _Candidate) -> tuple[PluginRow, list[_Candidate | PluginRow]]:
        facts = (candidate.name, candidate.dist, candidate.version, candidate.module)
        row = PluginRow(*facts)
        registered: list[Any] = []
        plugin: Any = None
        try:
            if candidate.dist != "qom":
                from qom.plugin_path import written_for  # it reads sources, which the box needs not

                if (said := written_for(candidate.module, candidate.where)) is not None:
                    row = records.evolve(row, api=said)
                    self._check_version(candidate, said)  # before anything of it runs
            plugin = candidate.plugin = candidate.load()
            if candidate.where is not None and (same := self._same(plugin)) is not None:
                return records.evolve(row, status="refused", reason=f"it is '{same.name}' of {same.source}, loaded already",
                                    by_choice=True), []  # fmt: skip
            row = records.evolve(row, api=self._check_version(candidate, _api_of(plugin) or candidate.api or None))
            more = self._submodules(candidate, plugin, row.api)
            if _has_hooks(plugin):
                for implementer in (plugin, *self._check_hooks(plugin)):
                    name = f"{row.owner} ({len(registered)})" if registered else row.owner
                    if self.pluggy.register(implementer, name) is not None:
                        registered.append(implementer)
            row = self._collect(row, plugin, registered)
            self._loaded[id(plugin)] = row
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            for implementer in registered:
                self.pluggy.unregister(implementer)
            self.registry.extensions.drop(row.owner)
            status = "refused" if isinstance(error, _Refused) else "broken"
            return PluginRow(*facts, status, _reason(error), api=row.api), []
        return row, more

    def _same(self, plugin: Any) -> PluginRow | None:
        """The row of a plugin that is loaded already, or whose types are in the index."""
        indexed = {row.module: row for row in self.rows if row.dist == "qom" and row.status == "loaded"}
        name = plugin.__name__ if isinstance(plugin, ModuleType) else ""
        return self._loaded.get(id(plugin)) or (indexed.get(name) if sys.modules.get(name) is plugin else None)

    def _check_version(self, candidate: _Candidate, wanted: Any) -> str:
        """What the plugin says of its API, "" for None; raises unless that one can be served."""
        have = hookspecs.API_VERSION
        text = ".".join(str(n) for n in have)
        said = ""
        if wanted is None:
            major, minor = FIRST_API
            needs = f"says no QOM_API, which means {major}.{minor},"
        else:
            parts = str(wanted).split(".")
            if not isinstance(wanted, str) or len(parts) != 2 or not all(p.isdecimal() for p in parts):
                raise PluginError(f"QOM_API is {wanted!r}: expected 'MAJOR.MINOR', such as '{text}'")
            major, minor = (int(p) for p in parts)
            said = wanted
            needs = f"needs plugin API {wanted}"
        if (major, minor) > have:
            newer = "a newer qom is needed"
        elif major < have[0]:
            newer = f"a version of {candidate.dist} for plugin API {have[0]} is needed"
        else:
            return said
        source = f"{candidate.dist} {candidate.version}".rstrip()
        raise _Refused(f"{source} {needs} and qom {_own_version()} has {text}: {newer}")

    def _submodules(self, candidate: _Candidate, plugin: Any, api: str) -> list[_Candidate | PluginRow]:
        names = getattr(plugin, "QOM_MODULES", ())
        if not names:
            return []
        if isinstance(names, str) or not all(isinstance(n, str) for n in names):
            raise PluginError(f"QOM_MODULES is {names!r}: expected a tuple of module names")
        return [
            _Candidate(f"{candidate.name}/{name}", candidate.dist, candidate.version, full, _importer(full), api)
            for name in names
            for full in (f"{plugin.__name__}.{name}",)
        ]

    def _check_hooks(self, plugin: Any) -> list[Any]:
        """Complain of hooks nobody knows; for deprecated ones, what implements those that replace them."""
        known = {n for n in vars(hookspecs) if n.startswith("qom_")}
        stand_ins: list[Any] = []
        for name in dir(plugin):
            if name.startswith("__") or self.pluggy.parse_hookimpl_opts(plugin, name) is None:
                continue
            if name in known:
                continue
            old = deprecated.find("hook", name)
            if old is None:
                raise PluginError(f"it implements the unknown hook '{name}'{did_you_mean(name, known)}")
            deprecated.note(old)
            stand_ins.append(_StandIn(old.instead, getattr(plugin, name)))
        return stand_ins

    def _collect(self, row: PluginRow, plugin: Any, implementers: list[Any]) -> PluginRow:
        """Take in what the plugin brings; the row with its names."""
        registry, extensions = self.registry, self.registry.extensions
        before = {t.name for t in registry}
        others = [p for p in self.pluggy.get_plugins() if p not in implementers] if implementers else []

        def hook(name: str) -> Any:
            return self.pluggy.subset_hook_caller(name, others)

        old = _deprecations(plugin)
        with registry.transaction(row.dist):
            for cls in _marked(plugin):
                registry.register(cls)
            for batch in hook("qom_types")() if implementers else ():
                for made in batch:
                    if not isinstance(made, TypeInfo) and not (isinstance(made, type) and mark_of(made)):
                        raise PluginError(f"qom_types gave {made!r}: expected classes marked by type_init, or TypeInfo")
                    registry.register(made)
            named = extensions.add_command_modules(
                getattr(plugin, "QOM_COMMANDS", {}), row.module, "" if row.dist == PROJECT else row.dist, row.owner
            )
            extensions.add_hmp_modules(
                getattr(plugin, "QOM_HMP_COMMANDS", {}), row.module, "" if row.dist == PROJECT else row.dist, row.owner
            )
            row = records.evolve(row, commands=named)
            if implementers:
                hook("qom_register_types")(registry=registry)
                options = [o for batch in hook("qom_system_options")() for o in batch]
                commands = [c for batch in hook("qom_monitor_commands")() for c in batch]
                extensions.add_events([e for batch in hook("qom_monitor_events")() for e in batch], row.owner)
                row = records.evolve(
                    row,
                    options=extensions.add_options(options, row.dist, row.owner),
                    commands=(*named, *extensions.add_commands(commands, row.dist, row.owner)),
                )
        registry.deprecate(old)
        own = _marked(plugin)
        types = [t for t in registry if (t.name not in before and not t.implied) or t.loaded_class in own]
        return records.evolve(row, types=tuple(t.name for t in types))

    # Afterwards

    def _load_boards(self, loaded: list[tuple[int, _Candidate]]) -> None:
        """Register the machine types of board files; a board may extend another, of whatever plugin."""
        failed: dict[int, BaseException] = {}
        todo, before = [entry for entry in loaded if getattr(entry[1].plugin, "QOM_BOARDS", ())], -1
        while todo and len(todo) != before:
            before, again = len(todo), []
            for at, candidate in todo:
                try:
                    load_boards = importlib.import_module(BOARDS).load_boards
                    with self.registry.transaction(candidate.dist):
                        made = load_boards(candidate.plugin, self.registry)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    failed[at] = error
                    if isinstance(error, UnknownParent):
                        again.append((at, candidate))  # another's board may bring it
                else:
                    failed.pop(at, None)
                    self.rows[at] = records.evolve(self.rows[at], types=(*self.rows[at].types, *made))
            todo = again
        for at, reason in failed.items():
            self.rows[at] = self._taken_back(self.rows[at], reason)

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
                rows.append(row if bad is None else self._taken_back(row, bad))
            self.rows = rows
            self._forget(found)
        self.registry.drop_dangling_aliases()

    def _taken_back(self, row: PluginRow, error: BaseException) -> PluginRow:
        """Forget everything a loaded plugin brought; its row as a broken one."""
        self._forget(row.types)
        self.registry.extensions.drop(row.owner)
        self._unplug(row.owner)
        return records.evolve(row, status="broken", reason=_reason(error), types=(), options=(), commands=())

    def _unplug(self, owner: str) -> None:
        for name, plugin in self.pluggy.list_name_plugin() if self._hooked else ():
            if plugin is not None and (name == owner or name.startswith(f"{owner} (")):
                self.pluggy.unregister(plugin)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.registry:
                self.registry.unregister(name)


def default_registry(
    *, load_external: bool = True, allow: Collection[str] | None = None, paths: Iterable[str] = ()
) -> TypeRegistry:
    """A new registry with everything in the box and, unless told otherwise, everything installed.

    The arguments are those of `PluginManager`.  The rows that say what came from where are in its `plugins`.
    """
    manager = PluginManager(load_external=load_external, allow=allow, paths=paths)
    manager.registry.plugins = manager.load()
    manager.registry.manager = manager
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
        if isinstance(v, type)
        and mark_of(v)
        and (v.__module__ == own or (below is not None and v.__module__.startswith(below)))
    ]


def _api_of(plugin: Any) -> Any:
    """The `QOM_API` of a module, or of a class or object or the module it is from; None without one."""
    said = getattr(plugin, "QOM_API", None)
    if said is None and not isinstance(plugin, ModuleType):
        home = sys.modules.get(getattr(plugin, "__module__", None) or type(plugin).__module__)
        said = getattr(home, "QOM_API", None)
    return said


def _deprecations(plugin: Any) -> tuple[Deprecated, ...]:
    given = getattr(plugin, "QOM_DEPRECATED", ())
    if not isinstance(given, tuple | list) or not all(isinstance(d, Deprecated) for d in given):
        raise PluginError(f"QOM_DEPRECATED is {given!r}: expected a tuple of Deprecated(...)")
    for entry in given:
        if entry.kind not in ("type", "property"):
            raise PluginError(f"QOM_DEPRECATED: {entry.kind} '{entry.name}': expected a type or a property")
    return tuple(given)


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
    if isinstance(error, _Refused | PluginError | TypeRegistryError | ConfigError):
        return text_of(error)
    place = plugin_place(error)
    return f"{shown(error)}{f' ({place})' if place else ''}"
