"""The type registry: names, parents, interfaces, and classes that initialise themselves when first needed.

A class is marked by `type_init` (which changes nothing else), registered in a `TypeRegistry` (which only notes it), and
initialised on first use: parent first, its declarations compiled into a plan from which instances are stamped out.
Registries do not know of each other; there is no global one.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FunctionType

from qom import records
from qom.blame import blame_type, passes, place_of, shown
from qom.deprecated import TABLE, Deprecated, note
from qom.errors import (
    AbstractType,
    ConfigError,
    DuplicateType,
    LifecycleError,
    ObjectFault,
    QomError,
    TypeCycle,
    TypeRegistryError,
    UnknownParent,
    UnknownProperty,
    UnknownType,
    did_you_mean,
)
from qom.extensions import Extensions
from qom.indexed import Indexed, hint_for
from qom.properties import Property, StateField, namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from qom.object import Object
    from qom.plugins import PluginManager, PluginRow

    C = TypeVar("C", bound=type)

_MARK = "__qom_mark__"
_IN_BOX = frozenset({"qom", "accel", "plugins", "machines"})
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@records.frozen
class Mark:
    """What `type_init` notes on a class."""

    name: str
    abstract: bool
    interfaces: tuple[str, ...]
    aliases: tuple[str, ...]


@records.frozen(kw_only=True)
class TypeInfo:
    """A type described by a record instead of a class, registered at run time.

    class_init(cls, class_data), instance_init(obj), instance_post_init(obj), instance_finalize(obj), realize(obj) and
    unrealize(obj) are what QEMU's are.  attributes: properties and state by attribute name, as a class body would hold
    them, and any methods.
    """

    name: str
    parent: str | None = "object"
    abstract: bool = False
    interfaces: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    class_init: Callable[[type, Any], None] | None = None
    class_data: Any = None
    instance_init: Callable[[Any], None] | None = None
    instance_post_init: Callable[[Any], None] | None = None
    instance_finalize: Callable[[Any], None] | None = None
    realize: Callable[[Any], None] | None = None
    unrealize: Callable[[Any], None] | None = None
    attributes: dict[str, Any] = records.field(factory=dict)
    desc: str | None = None


def type_init(
    name: str, *, abstract: bool = False, interfaces: Iterable[str] = (), aliases: Iterable[str] = ()
) -> Callable[[C], C]:
    """Mark a class as the QOM type `name`; its QOM parent is its nearest marked Python base.

    Only marks: a registry, or the plugin manager, collects.  The declarations in the class body are checked here, so a
    wrong one shows when its module is imported.
    """
    mark = Mark(_legal(name), abstract, tuple(interfaces), tuple(_legal(a) for a in aliases))

    def apply(cls: C) -> C:
        _declared(cls)
        setattr(cls, _MARK, mark)
        return cls

    return apply


class Interface:
    """Base of interface types: marked, never instantiated, mixed into or named by the types that implement them."""


def _is_interface(cls: type) -> bool:
    """Whether it is an interface itself, and no object that implements one."""
    return issubclass(cls, Interface) and not any(
        m is not None and m.name == "object" for m in map(mark_of, cls.__mro__)
    )


def mark_of(cls: type) -> Mark | None:
    """The mark `type_init` put on this very class, if any."""
    mark = cls.__dict__.get(_MARK)
    return mark if isinstance(mark, Mark) else None


@records.frozen
class GlobalProperty:
    """A default for every new object of a type, from `-global` or a machine version; `origin` is for errors.

    optional: a type without the property is no error.  of_the_host: the value is the host's at that moment (its date),
    so that two machines need not agree in it.
    """

    driver: str
    property: str
    value: Any
    origin: str = ""
    optional: bool = False
    of_the_host: bool = False


@records.define(eq=False, slots=True)
class Type:
    """One registered type.  `properties`, `cls` of a record, and class facts exist once the class is initialised."""

    name: str
    parent: str | None
    abstract: bool
    interfaces: tuple[str, ...]
    origin: str
    registry: TypeRegistry = records.field(repr=False)
    _info: TypeInfo | None = records.field(default=None, repr=False)
    _cls: type | None = records.field(default=None, repr=False)
    initialised: bool = False
    implied: bool = False  # registered only because a type derived from it was
    _ancestry: frozenset[str] | None = records.field(default=None, repr=False)
    # The plan
    _properties: dict[str, Property] = records.field(factory=dict, repr=False)
    _states: dict[str, StateField] = records.field(factory=dict, repr=False)
    template: dict[str, Any] = records.field(factory=dict, repr=False)
    factories: tuple[tuple[str, Callable[[], Any]], ...] = records.field(default=(), repr=False)
    children: tuple[Property, ...] = records.field(default=(), repr=False)
    init_hooks: tuple[Callable[[Any], None], ...] = records.field(default=(), repr=False)
    post_hooks: tuple[Callable[[Any], None], ...] = records.field(default=(), repr=False)
    finalizers: tuple[Callable[[Any], None], ...] = records.field(default=(), repr=False)
    required: tuple[Property, ...] = records.field(default=(), repr=False)
    reset_values: dict[str, Any] = records.field(factory=dict, repr=False)
    reset_factories: tuple[tuple[str, Callable[[], Any]], ...] = records.field(default=(), repr=False)
    _indexed: Indexed | None = records.field(
        default=None, repr=False
    )  # how to come by its class or record, until that is here

    @property
    def cls(self) -> Any:
        """The Python class (initialised)."""
        self.registry.initialise(self)
        return self._cls

    @property
    def python_class(self) -> type | None:
        """The Python class as registered, not initialised; None for a record nobody used yet."""
        if self._indexed is not None and not self._indexed.is_record:
            self.registry.load(self)
        return self._cls

    @property
    def loaded_class(self) -> type | None:
        """`python_class` where that is there already; None when its module was not needed so far."""
        return self._cls

    @property
    def info(self) -> TypeInfo | None:
        """The record it was made from; None for a class."""
        if self._indexed is not None and self._indexed.is_record:
            self.registry.load(self)
        return self._info

    @property
    def is_record(self) -> bool:
        """Whether it was made from a `TypeInfo`; asking imports nothing."""
        return self._indexed.is_record if self._indexed is not None else self._info is not None

    @property
    def module(self) -> str:
        """The name of the module its class is in, imported or not; "" for a record."""
        if self.is_record:
            return ""
        return (
            self._indexed.module if self._indexed is not None else self._cls.__module__ if self._cls is not None else ""
        )

    def is_of(self, cls: type) -> bool:
        """Whether `cls` is its Python class; asking imports nothing."""
        if self._indexed is not None:
            return (self._indexed.module, self._indexed.made_by) == (cls.__module__, cls.__qualname__)
        return self._cls is cls

    @property
    def desc(self) -> str:
        """What it is, one line: `cls.desc` as class_init set it, or the docstring's first line."""
        desc = self.cls.__dict__.get("desc") or (self._info.desc if self._info else None)
        if desc:
            return str(desc)
        doc = self.cls.__dict__.get("__doc__")
        return str(doc).strip().splitlines()[0].rstrip(".") if doc and doc.strip() else str(self.cls.desc or "")

    @property
    def properties(self) -> dict[str, Property]:
        """Class properties by name, inherited ones first."""
        self.registry.initialise(self)
        return self._properties

    @property
    def states(self) -> dict[str, StateField]:
        """Declared state by attribute, inherited ones first."""
        self.registry.initialise(self)
        return self._states

    @property
    def ancestry(self) -> frozenset[str]:
        """The names of this type, its ancestors, and every interface of theirs."""
        if self._ancestry is None:
            names = {self.name}
            for above in (self.parent, *self.interfaces):
                if above is not None:
                    names |= self.registry.parent_of(self, above).ancestry
            self._ancestry = frozenset(names)
        return self._ancestry

    def is_a(self, name: str) -> bool:
        """Whether this is the type `name`, derives from it, or implements it."""
        return name in self.ancestry or self.registry.canonical(name) in self.ancestry

    def lineage(self) -> list[Type]:
        """This type and its ancestors, nearest first."""
        line, here = [self], self
        while here.parent is not None:
            here = self.registry.parent_of(here, here.parent)
            line.append(here)
        return line


class TypeRegistry:
    """All types of one world, by name.  Registration belongs to one thread; lookups and `new` to any."""

    def __init__(self) -> None:
        self._types: dict[str, Type] = {}
        self._aliases: dict[str, tuple[str, str]] = {}
        self.globals: list[GlobalProperty] = []
        self.plugins: Sequence[PluginRow] = ()
        self.in_box = False
        """Whether it holds what `qom.in_box` lists."""
        self.manager: PluginManager | None = None
        """The plugin manager that filled it; None without one."""
        self.probe: Any = None
        """Who listens to the life of objects and to exits (qom/hw/probe.py); a machine's own, while anybody does."""
        self.extensions = Extensions()
        self._deprecated: dict[tuple[str, str], Deprecated] = {(d.kind, d.name): d for d in TABLE}
        self._origin = ""
        self._lock = threading.RLock()
        self._initialising: set[str] = set()
        from qom import object as core

        for cls in (core.Object, core.Container, core.Root, core.UserCreatable):
            self.register(cls, origin="qom")

    @property
    def hooks(self) -> Any:
        """The plugin manager's hooks (pluggy), made when first asked for; None without a plugin manager."""
        return self.manager.pluggy if self.manager is not None else None

    @property
    def used_hooks(self) -> Any:
        """`hooks` where anybody implements one or has asked for them, else None."""
        return self.manager.used_hooks if self.manager is not None else None

    # Registration

    def register(self, what: type | TypeInfo, origin: str = "", *, _implied: bool = False) -> Type:
        """Note a marked class or a `TypeInfo`; nothing is initialised.  `origin` is the distribution, for reports.

        The marked Python bases of a class are registered with it.  Registering the same class again does nothing.
        """
        origin = origin or self._origin
        if isinstance(what, TypeInfo):
            return self._register_info(what, origin)
        mark = mark_of(what)
        if mark is None:
            raise TypeRegistryError(
                f"class {what.__module__}.{what.__qualname__} is not marked: expected @type_init(...)"
            )
        known = self._types.get(mark.name)
        if known is not None and known.is_of(what):
            known._cls, known._indexed = what, None
            if not _implied:
                known.origin, known.implied = origin or known.origin, False
            return known
        self._free(mark.name, origin, f"class {what.__module__}.{what.__qualname__}")
        parent: str | None = None
        interfaces = list(mark.interfaces)
        for base in what.__mro__[1:]:
            above = mark_of(base)
            if above is None:
                continue
            if above.name not in self._types:
                top = base.__module__.partition(".")[0]
                self.register(base, "qom" if top in _IN_BOX else top, _implied=True)
            if _is_interface(base):
                if above.name not in interfaces:
                    interfaces.append(above.name)
            elif parent is None:
                parent = above.name
        if parent is None and mark.name != "object" and not _is_interface(what):
            raise UnknownParent(
                f"type '{mark.name}' ({what.__module__}.{what.__qualname__}) has no marked base:"
                " expected a subclass of Object"
            )
        abstract = mark.abstract or _is_interface(what)
        made = Type(mark.name, parent, abstract, tuple(interfaces), origin, self, None, what, implied=_implied)
        return self._add(made, mark.aliases)

    def expect(self, found: Indexed, origin: str) -> Type:
        """Note a type whose module is imported when it is first needed (see `qom.indexed`)."""
        known = self._types.get(found.name)
        cls = known.loaded_class if known is not None else None
        if (
            known is not None
            and cls is not None
            and (cls.__module__, cls.__qualname__) == (found.module, found.made_by)
        ):
            return known
        self._free(found.name, origin, f"of {found.module}")
        self.in_box = True
        made = Type(found.name, found.parent, found.abstract, found.interfaces, origin, self, indexed=found)
        return self._add(made, found.aliases)

    def load(self, found: Type) -> None:
        """Have the module of an expected type imported, if it is not yet.

        Raises:
            TypeRegistryError: it cannot be imported, or does not hold the type.
        """
        with self._lock:
            if found._indexed is None:
                return
            made = found._indexed.load(self)
            if isinstance(made, TypeInfo):
                found._info = made
            else:
                found._cls = made
            found._indexed = None

    def _register_info(self, info: TypeInfo, origin: str) -> Type:
        self._free(_legal(info.name), origin, "a record")
        made = Type(info.name, info.parent, info.abstract, info.interfaces, origin, self, info)
        here = self._types.get(info.parent or "")
        trail = [info.name]
        if info.parent == info.name:
            raise TypeCycle(f"type '{info.name}' is its own ancestor: {info.name} -> {info.name}")
        while here is not None:
            trail.append(here.name)
            if here.parent == info.name:
                raise TypeCycle(f"type '{info.name}' is its own ancestor: {' -> '.join([*trail, info.name])}")
            here = self._types.get(here.parent or "")
        return self._add(made, info.aliases)

    def _free(self, name: str, origin: str, what: str) -> None:
        known = self._types.get(name)
        if known is not None:
            raise DuplicateType(
                f"type '{name}' ({what}, from {origin or 'the program'}) is already registered"
                f" by {known.origin or 'the program'}"
            )
        if name in self._aliases:
            target, by = self._aliases[name]
            raise DuplicateType(
                f"type '{name}' ({what}, from {origin or 'the program'}) is already an alias of '{target}',"
                f" registered by {by or 'the program'}"
            )

    def _add(self, made: Type, aliases: Iterable[str]) -> Type:
        for name in aliases:
            self._free(name, made.origin, f"alias of '{made.name}'")
        self._types[made.name] = made
        for name in aliases:
            self._aliases[name] = (made.name, made.origin)
        return made

    def alias(self, name: str, target: str, origin: str = "") -> None:
        """Let `name` stand for the type `target` (which may be registered later)."""
        origin = origin or self._origin
        self._free(_legal(name), origin, f"alias of '{target}'")
        self._aliases[name] = (target, origin)

    def unregister(self, name: str) -> None:
        """Forget a type nobody has used yet; its aliases go too."""
        known = self.get(name)
        if known.initialised:
            raise TypeRegistryError(f"type '{name}' is in use and cannot be unregistered")
        del self._types[known.name]
        self._aliases = {a: (t, o) for a, (t, o) in self._aliases.items() if t != known.name}

    def exchange(self, classes: Iterable[type], gone: Iterable[str]) -> None:
        """Put other classes in place of the types `gone`, which may be in use; their aliases go with them.

        For use inside a `transaction`.  Objects keep the type they have until somebody gives them the new one.
        """
        origins = {name: self._types[name].origin for name in gone}
        for name in origins:
            del self._types[name]
        self._aliases = {a: (t, o) for a, (t, o) in self._aliases.items() if t not in origins}
        default = next(iter(origins.values()), self._origin)
        for cls in classes:
            mark = mark_of(cls)
            made = self.register(cls, origins.get(mark.name if mark else "", default))
            self.initialise(made)

    @contextlib.contextmanager
    def transaction(self, origin: str = "") -> Iterator[None]:
        """Registrations in the block all hold, or none (an exception takes them back); `origin` is the default one."""
        types, aliases, before = dict(self._types), dict(self._aliases), self._origin
        self._origin = origin
        try:
            yield
        except BaseException:
            self._types, self._aliases = types, aliases
            raise
        finally:
            self._origin = before

    def fork(self) -> TypeRegistry:
        """A registry with the same types, free to differ from now on; each machine has one, with its own `globals`."""
        other = TypeRegistry()
        for found in self._types.values():
            if found.name not in other._types:
                made = Type(
                    found.name, found.parent, found.abstract, found.interfaces, found.origin, other, found._info,
                    None if found._info is not None else found._cls, indexed=found._indexed,
                )  # fmt: skip
                other._types[found.name] = made
        other._aliases = dict(self._aliases)
        other.globals = list(self.globals)
        other.plugins = self.plugins
        other.in_box = self.in_box
        other.manager = self.manager
        other.extensions = self.extensions
        other._deprecated = dict(self._deprecated)
        return other

    def drop_dangling_aliases(self) -> None:
        """Forget aliases that stand for nothing."""
        for name in [a for a in self._aliases if self.canonical(a) not in self._types]:
            del self._aliases[name]

    # What will go

    @property
    def deprecations(self) -> list[Deprecated]:
        """Everything deprecated, in the plugin API and in plugins."""
        return list(self._deprecated.values())

    def deprecate(self, entries: Iterable[Deprecated]) -> None:
        """Note types and properties that will go and still work."""
        self._deprecated.update({(d.kind, d.name): d for d in entries})

    def current_property(self, found: Type, name: str) -> str | None:
        """The property that replaces the deprecated `name` of a type (of it or of an ancestor); its use is noted."""
        if not self._deprecated:
            return None
        outer = name.replace("_", "-")
        for of in found.lineage():
            old = self._deprecated.get(("property", f"{of.name}.{outer}"))
            if old is not None:
                note(old)
                return old.instead
        return None

    # Looking up

    def canonical(self, name: str) -> str:
        """The type name `name` stands for: itself unless it is an alias, or deprecated in favour of another."""
        seen = []
        while name in self._aliases and name not in seen:
            seen.append(name)
            name = self._aliases[name][0]
        if name not in self._types and (old := self._deprecated.get(("type", name))) is not None:
            return self.canonical(old.instead) if old.instead not in seen else name
        return name

    def get(self, name: str) -> Type:
        """The type of that name or alias."""
        found = self._types.get(name) or self._types.get(self.canonical(name))
        if found is not None and name != found.name and (old := self._deprecated.get(("type", name))) is not None:
            note(old)
        if found is None:
            hint = self._not_indexed(name) or did_you_mean(name, (*self._types, *self._aliases))
            raise UnknownType(f"no type '{name}'{hint}")
        return found

    def find_any(self, names: Iterable[str]) -> Type | None:
        """The first of `names` that is a type or an alias; None when none is."""
        return next((self.get(name) for name in names if name in self), None)

    def names(self, parent: str) -> list[str]:
        """The names a user may give for a concrete `parent`: types and their aliases, sorted."""
        found = {t.name for t in self.types(parent, abstract=False)}
        return sorted(found | {a for a in self._aliases if self.canonical(a) in found})

    @staticmethod
    def suggest(name: str, known: Iterable[str]) -> str:
        """`"; did you mean 'x'?"` when something in `known` is close to `name`, else nothing."""
        return did_you_mean(name, known)

    def suggest_type(self, name: str, known: Iterable[str]) -> str:
        """The same for a type that a user named; where nothing is close, what else the name is, or where types come from."""
        near = (self._not_indexed(name) if name not in self else "") or self.suggest(name, known)
        if not near and name in self:
            near = f"; that is a type of another kind (`qom doc {name}` describes it)"
        return near or "; no plugin that is loaded brings it (`qom plugins` lists them)"

    def _not_indexed(self, name: str) -> str:
        """A hint when the box does have the type and its index is stale, else ""."""
        return hint_for(name) if self.in_box else ""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.canonical(name) in self._types

    def __iter__(self) -> Iterator[Type]:
        return iter(sorted(self._types.values(), key=lambda t: t.name))

    def __len__(self) -> int:
        return len(self._types)

    def aliases(self, of: str | None = None) -> dict[str, str]:
        """Aliases and what they stand for; only those of the type `of` if given."""
        return {a: t for a, (t, _) in sorted(self._aliases.items()) if of is None or self.canonical(a) == of}

    def types(self, parent: str | None = None, abstract: bool | None = None) -> list[Type]:
        """Types by name: those that are a `parent` (itself included, interfaces count), abstract or concrete or both.

        Types whose parent is missing are left out when `parent` is given; `check` reports them.
        """
        out = []
        for found in self:
            if abstract is not None and found.abstract is not abstract:
                continue
            if parent is not None:
                try:
                    if not found.is_a(parent):
                        continue
                except TypeRegistryError:
                    continue
            out.append(found)
        return out

    def check(self) -> list[TypeRegistryError]:
        """Everything wrong with the parents, interfaces and aliases of what is registered."""
        wrong: list[TypeRegistryError] = []
        for found in self:
            try:
                _ = found.ancestry
            except TypeRegistryError as error:
                wrong.append(error)
        for name, (target, by) in sorted(self._aliases.items()):
            if target not in self:
                wrong.append(
                    UnknownType(f"alias '{name}' (from {by or 'the program'}) stands for the unknown type '{target}'")
                )
        return wrong

    def is_a(self, what: Object | Type | str, name: str) -> bool:
        """Whether an object, a type or the type of that name is a `name`."""
        found = what if isinstance(what, Type) else self.get(what) if isinstance(what, str) else what.type
        return found.is_a(name)

    def brought_by(self, found: Type) -> str:
        """The distribution a type comes from, with its version where that is known ("qom-stopwatch 1.0")."""
        version = next((row.version for row in self.plugins if row.dist == found.origin), "")
        return f"{found.origin} {version}".rstrip() or "the program"

    def class_of(self, name: str) -> Any:
        """The initialised class of the type `name`."""
        return self.get(name).cls

    def parent_of(self, child: Type, name: str) -> Type:
        """The type `name`, which `child` names as its parent or interface."""
        found = self._types.get(self.canonical(name))
        if found is not None and name != found.name and (old := self._deprecated.get(("type", name))) is not None:
            note(old, child.origin)
        if found is None:
            role = "parent" if name == child.parent else "interface"
            raise UnknownParent(
                f"type '{child.name}' (from {child.origin or 'the program'}) names the unknown {role} '{name}'"
                f"{did_you_mean(name, self._types)}"
            )
        return found

    # Instances

    def new(self, name: str, /, **props: Any) -> Any:
        """A new object of type `name`, outside any tree, with `props` set (`tick_ns=5` sets `tick-ns`)."""
        found = self._types.get(name) or self.get(name)
        if found.abstract:
            raise self._abstract(found)
        if not found.initialised:
            self.initialise(found)
        obj: Any = object.__new__(found._cls)  # type: ignore[arg-type]
        construct(obj, found)
        for attr, value in props.items():
            obj.set(attr, value)
        return obj

    def check_global(self, item: GlobalProperty) -> None:
        """Raise ConfigError if no type, or no property of that type or of one derived from it, is meant."""
        if item.driver not in self:
            raise ConfigError(f"no type '{item.driver}'{did_you_mean(item.driver, self._types)}", item.origin)
        known: set[str] = set()
        for found in self.types(self.canonical(item.driver)):
            known |= found.properties.keys()
        old = self.current_property(self.get(item.driver), item.property)
        if old is None and item.property not in known and item.property.replace("_", "-") not in known:
            raise ConfigError(
                f"'{item.driver}' has no property '{item.property}'{did_you_mean(item.property, known)}", item.origin
            )

    def apply_globals(self, obj: Object) -> None:
        """Give a new object the defaults in `globals` that are meant for it, in their order."""
        for item in self.globals:
            if not obj.is_a(item.driver):
                continue
            try:
                obj.set_default(item.property, item.value)
            except UnknownProperty:
                if not item.optional:
                    raise
            except QomError as error:
                text = str(error).removeprefix(f"{obj.path}: ")  # it is in no tree yet
                raise ConfigError(f"'{item.driver}': {text}", item.origin) from None

    def _abstract(self, found: Type) -> AbstractType:
        concrete = [t.name for t in self.types(found.name, abstract=False)]
        hint = f": expected one of its concrete types, {', '.join(concrete[:8])}" if concrete else ""
        return AbstractType(f"type '{found.name}' is abstract and cannot be instantiated{hint}")

    # Class initialisation

    def initialise(self, found: Type) -> None:
        """Initialise the class, its parent first; once."""
        if found.initialised:
            return
        with self._lock:
            if found.initialised or found.name in self._initialising:
                return
            self._initialising.add(found.name)
            try:
                self._initialise(found)
            finally:
                self._initialising.discard(found.name)

    def _initialise(self, found: Type) -> None:
        parent = None
        _ = found.ancestry
        if found.parent is not None:
            parent = self.parent_of(found, found.parent)
            self.initialise(parent)
        for name in found.interfaces:
            self.initialise(self.parent_of(found, name))
        if found._indexed is not None:
            self.load(found)
        if found._cls is None:
            assert found._info is not None
            found._cls = _class_from(found._info, parent)
        _compile(found, parent)
        _class_init(found, parent)
        found.initialised = True


def construct(obj: Any, found: Type) -> None:
    """Turn a bare instance into an object of `found`: defaults, parts, then instance_init and instance_post_init."""
    values = obj.__dict__
    values.update(found.template)
    values["user_set"] = set()
    values["_children"] = {}
    for attr, factory in found.factories:
        values[attr] = factory()
    for part in found.children:
        made = obj.registry.new(part.target, **part.child_props)
        values[part.attr] = made
        obj.add_child(part.name, made)
    try:
        for hook in found.init_hooks:
            hook(obj)
        if obj.registry.globals:
            obj.registry.apply_globals(obj)
        for hook in found.post_hooks:
            hook(obj)
    except QomError:
        raise
    except BaseException as error:
        if passes(error):
            raise
        text = f"a '{found.name}' cannot be created: {shown(error)}{blame_type(found, error)}"
        raise ObjectFault(text, place_of(error, found)) from error
    if obj.registry.probe is not None:
        failed = obj.registry.probe.step("created", obj)
        if failed is not None:
            raise LifecycleError(f"'{found.name}' cannot be created: {failed}")


def _legal(name: str) -> str:
    if name[:1] not in _LETTERS or name.strip(_LETTERS + "_.+-") or not name:
        raise TypeRegistryError(f"type name {name!r} is not legal: expected letters, digits, '-', '_', '.', '+'")
    return name


def _own_classes(cls: type, parent: type | None) -> list[type]:
    """The Python classes that `cls` adds to its QOM parent, most basic first."""
    above = set(parent.__mro__) if parent is not None else set()
    return [c for c in reversed(cls.__mro__) if c not in above and c is not object]


def _declared(cls: type) -> dict[str, Property | StateField]:
    """The properties and state of this very class body, bound to their annotations."""
    kept: dict[str, Property | StateField] | None = cls.__dict__.get(_DECLARED)
    if kept is not None:
        return dict(kept)
    out: dict[str, Property | StateField] = {}
    annotations = vars(cls).get("__annotations__", {})
    for attr, value in list(cls.__dict__.items()):
        if not isinstance(value, Property | StateField):
            continue
        if attr in _RESERVED or _hides_method(cls, attr):
            raise TypeRegistryError(
                f"{cls.__name__}.{attr} would hide what its base class has under that name: expected another attribute"
                " (a property keeps its outer name by name=)"
            )
        if isinstance(value, Property):
            value.bind(cls.__name__, annotations.get(attr), namespace_of(cls))
        out[attr] = value
    # CPython makes an attribute of an instance fast only where the class holds nothing of that name that could become a
    # descriptor (135 ns against 26 ns): what does not intercept is taken out of the class body once it has been read.
    for attr, value in out.items():
        if type(value) in (Property, StateField):
            delattr(cls, attr)
    setattr(cls, _DECLARED, dict(out))
    return out


_DECLARED = "__qom_declared__"
_RESERVED = frozenset({"type", "registry", "parent", "life", "user_set", "class_properties"})


def _hides_method(cls: type, attr: str) -> bool:
    for base in cls.__mro__[1:]:
        held = base.__dict__.get(attr)
        if held is not None:
            return isinstance(held, property | classmethod | staticmethod | FunctionType)
    return False


def _class_from(info: TypeInfo, parent: Type | None) -> type:
    body: dict[str, Any] = {"__doc__": info.desc, "__module__": __name__}
    for attr, value in info.attributes.items():
        if isinstance(value, Property | StateField):  # the record may be made into a class again, in another registry
            import copy

            value = copy.copy(value)
            value.attr = ""
        body[attr] = value
    hooks = {
        "instance_init": info.instance_init,
        "instance_post_init": info.instance_post_init,
        "finalize": info.instance_finalize,
        "realize": info.realize,
        "unrealize": info.unrealize,
    }
    body.update({name: hook for name, hook in hooks.items() if hook is not None})
    base = Interface if parent is None else parent._cls
    assert base is not None
    import re

    return type(re.sub(r"(?:^|[^A-Za-z0-9]+)(\w)", lambda m: m[1].upper(), info.name), (base,), body)


def _compile(found: Type, parent: Type | None) -> None:
    """Work out, once, what every instance starts with and what is called for it."""
    cls = found._cls
    assert cls is not None
    props = dict(parent._properties) if parent else {}
    states = dict(parent._states) if parent else {}
    by_attr = {p.attr: name for name, p in props.items()}
    hooks: dict[str, list[Callable[[Any], None]]] = {"instance_init": [], "instance_post_init": [], "finalize": []}
    for owner in _own_classes(cls, parent._cls if parent else None):
        for attr, declared in _declared(owner).items():
            if isinstance(declared, Property):
                for name in (declared.name, by_attr.get(attr)):  # those it takes the place of
                    if name is not None and (gone := props.pop(name, None)) is not None:
                        by_attr.pop(gone.attr, None)
                props[declared.name] = declared
                by_attr[attr] = declared.name
                states.pop(attr, None)
            else:
                states[attr] = declared
        for p in list(props.values()):
            if p.attr in owner.__dict__ and not isinstance(owner.__dict__[p.attr], Property | StateField):
                props[p.name] = p.with_default(owner.__dict__[p.attr], owner.__name__)
        for hook, into in hooks.items():
            function = owner.__dict__.get(hook)
            if function is not None and not owner.__dict__.get("_qom_no_hooks", False):
                _no_super(owner, hook, function)
                into.append(function)
    found._properties, found._states = props, states
    found.init_hooks = (*(parent.init_hooks if parent else ()), *hooks["instance_init"])
    found.post_hooks = (*(parent.post_hooks if parent else ()), *hooks["instance_post_init"])
    found.finalizers = (*reversed(hooks["finalize"]), *(parent.finalizers if parent else ()))
    stored = [p for p in props.values() if p.get is None and p.kind not in ("alias", "child")]
    shared = [p for p in stored if not isinstance(p.default, list | dict)]
    template: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        template.update(owner.__dict__.get("instance_defaults", {}))
    template.update({p.attr: None if p.required else p.default for p in shared})
    template.update({a: s.reset for a, s in states.items() if s.factory is None})
    template.update(type=found, registry=found.registry, class_properties=props)
    found.template = template
    found.factories = (
        *((p.attr, p.default.copy) for p in stored if p not in shared),
        *((a, s.factory) for a, s in states.items() if s.factory is not None),
    )
    found.children = tuple(p for p in props.values() if p.kind == "child")
    found.required = tuple(p for p in props.values() if p.required)
    found.reset_values = {a: s.reset for a, s in states.items() if s.factory is None and not s.keep}
    found.reset_factories = tuple((a, s.factory) for a, s in states.items() if s.factory is not None and not s.keep)


def _no_super(owner: type, hook: str, function: Any) -> None:
    code = getattr(function, "__code__", None)
    if code is not None and "super" in code.co_names and hook in code.co_names:
        raise TypeRegistryError(
            f"{owner.__name__}.{hook} calls super().{hook}(): expected not to, every class's {hook} is called in turn"
        )


def _unwrapped(hook: Any) -> Callable[..., None]:
    function: Callable[..., None] = hook.__func__ if isinstance(hook, classmethod) else hook
    return function


def _class_init(found: Type, parent: Type | None) -> None:
    """Run class_init of what this type adds to its parent; once per Python class, whatever registries share it."""
    cls: Any = found._cls
    if cls.__dict__.get("_qom_class_ready", False):
        return
    calls: list[Callable[[], None]] = []
    for owner in _own_classes(cls, parent._cls if parent else None):
        hook: Any = owner.__dict__.get("class_init")
        if hook is not None and not owner.__dict__.get("_qom_no_hooks", False):
            calls.append(functools.partial(_unwrapped(hook), cls))
    if found._info is not None and found._info.class_init is not None:
        record_init, data = found._info.class_init, found._info.class_data
        calls.append(lambda: record_init(cls, data))
    try:
        for call in calls:
            call()
    except BaseException as error:
        if passes(error):
            raise
        place = place_of(error, found)
        raise TypeRegistryError(
            f"type '{found.name}' (from {found.registry.brought_by(found)}): class_init failed: {shown(error)}"
            f"{', at ' + place if place else ''}"
        ) from error
    cls._qom_class_ready = True
