"""Objects: typed properties, a place in one composition tree, a life, declared state.

The tree has one `Root` per machine.  A canonical path ("/machine/peripheral/sw0") never depends on the order in which
things happened: a part without an id is named after its type and its place ("isa-serial@3f8").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qom.blame import blame, passes, place_of, shown
from qom.errors import (
    AmbiguousPath,
    CastError,
    Fault,
    LifecycleError,
    MissingProperty,
    ObjectFault,
    PathError,
    QomError,
    StateError,
    UnknownProperty,
    did_you_mean,
)
from qom.lifecycle import TRANSITIONS, Life, move
from qom.properties import Property, StateField, inner_name, load_value, object_property_set, save_value
from qom.registry import Interface, Type, construct, type_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Final, cast

    from qom.registry import TypeRegistry
else:

    def cast(kind, value):  # noqa: D103 -- `typing.cast`
        return value


_COUNT: Final = r"\[\d+\]$"
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def check_id(text: str) -> str:
    """`text` if it can be a user's id (a letter, then letters, digits, '-', '.', '_'); else PathError."""
    if text[:1] not in _LETTERS or text.strip(_LETTERS + "0123456789_.-") or not text:
        raise PathError(f"id {text!r} is not legal: expected a letter, then letters, digits, '-', '.', '_'")
    return text


@type_init("object", abstract=True)
class Object:
    """Base of every QOM type.

    Hooks, each called for every class that defines it and never through super(): `class_init(cls)` once per class,
    parent first; `instance_init(self)` and then `instance_post_init(self)` on creation, parent first; `finalize(self)`
    at the end, parent last.
    """

    _qom_no_hooks: ClassVar[bool] = True
    # What every instance starts with beside its properties and state; a class adds its own, and need not repeat these.
    instance_defaults: ClassVar[dict[str, Any]] = {
        "parent": None,
        "life": Life.CREATED,
        "_name": None,
        "_instance_properties": None,
        "_orphaned": False,
        "_strong": 0,
        "_weak": None,
        "_auto_names": None,
    }

    listed_as: ClassVar[str | None] = None
    """Under what the root of the tree lists such objects (`Root.listed`)."""

    # Class facts, set by class_init
    desc: ClassVar[str] = ""
    category: ClassVar[str] = "misc"

    # Every instance
    type: Type
    registry: TypeRegistry
    parent: Object | None
    life: Life
    user_set: set[str]
    class_properties: dict[str, Property]
    _name: str | None
    _children: dict[str, Object]
    _instance_properties: dict[str, Property] | None
    _orphaned: bool
    _strong: int
    _weak: dict[tuple[int, str], Object] | None  # who links here without keeping it, by identity and attribute
    _auto_names: dict[str, int] | None  # stem of an automatic name -> no number below this one is free

    @classmethod
    def class_init(cls) -> None:
        """Set class facts; cannot fail."""

    def instance_init(self) -> None:
        """Set up a new instance; its properties have their defaults, nothing is set yet."""

    def instance_post_init(self) -> None:
        """Finish a new instance, after every class's instance_init and the global defaults."""

    def finalize(self) -> None:
        """Give back what the instance holds; it is out of the tree and nothing refers to it."""

    def __init__(self, registry: TypeRegistry, /, **props: Any) -> None:
        mark = type(self)
        for found in registry.types(abstract=False):
            if found.is_of(mark):
                registry.initialise(found)
                construct(self, found)
                break
        else:
            raise CastError(f"{mark.__module__}.{mark.__qualname__} is no concrete type of this registry")
        for attr, value in props.items():
            self.set(attr, value)

    def __repr__(self) -> str:
        return f"<{self.type_name} {self.path}>" if "type" in self.__dict__ else super().__repr__()

    def _repr_html_(self) -> str:
        """What a notebook shows: the tree from here down."""
        from qom.notebook import tree_html

        return tree_html(self)

    # Type

    @property
    def type_name(self) -> str:
        """The name of its type."""
        return self.type.name

    def is_a(self, name: str) -> bool:
        """Whether it is of the type `name`, of one derived from it, or implements it."""
        return name in self.type.ancestry or self.type.is_a(name)

    def cast(self, name: str) -> Any:
        """Itself, if it is a `name`; else CastError."""
        if not self.is_a(name):
            line = " <- ".join(t.name for t in self.type.lineage())
            raise CastError(f"{self.path}: a '{self.type_name}' is not a '{name}' (it is {line})")
        return self

    # Properties

    def get(self, name: str) -> Any:
        """The value of a property; a child by its name.  A required property nobody set yet is None."""
        found = self.class_properties.get(name)
        if found is None:
            found = self.find_property(name)
        if found.kind == "child":
            return self._children[found.name]
        try:
            return found.read(self)
        except QomError:
            raise
        except BaseException as error:
            if passes(error):
                raise
            text = f"{self.path}: property '{found.name}' cannot be read: {shown(error)}{blame(self, error)}"
            raise ObjectFault(text, place_of(error, self.type)) from error

    def set(self, name: str, value: Any) -> None:
        """Set a property from a value or a text, checked; see `object_property_set`."""
        object_property_set(self, name, value)

    def set_default(self, name: str, value: Any) -> None:
        """Set a property as a default: checked like `set`, but not counted as set by the user."""
        found = self.find_property(name)
        had = found.name in self.user_set
        object_property_set(self, name, value)
        if not had:
            self.user_set.discard(found.name)

    def properties(self) -> dict[str, Property]:
        """Every property by name: of the class, of the instance, and its children as child<T>."""
        out = {**self.class_properties, **(self._instance_properties or {})}
        for name, held in self._children.items():
            if name not in out:
                out[name] = _child_property(name, held)
        return out

    def find_property(self, name: str) -> Property:
        """The property `name` (`a_b` is taken for `a-b`), or UnknownProperty with near misses."""
        found = self.class_properties.get(name) or self.instance_property(name)
        if found is None and name in self._children:
            found = _child_property(name, self._children[name])
        if found is None and "_" in name:
            outer = name.rstrip("_").replace("_", "-")
            found = self.class_properties.get(outer) or (self._instance_properties or {}).get(outer)
        if found is None:
            found = next((p for p in self.class_properties.values() if p.attr == name), None)
        if found is None and (current := self.registry.current_property(self.type, name)) is not None:
            return self.find_property(current)
        if found is None:
            raise UnknownProperty(self.path, name, self.properties(), self.type_name)
        return found

    def instance_property(self, name: str) -> Property | None:
        """The property that this one instance has beyond its class's; types that make them on demand override this."""
        return self._instance_properties.get(name) if self._instance_properties is not None else None

    def add_property(self, added: Property, name: str | None = None) -> Property:
        """Give this one instance a property, made by `prop()` and friends with `type=` and `name=`."""
        added.name = name or added.name
        if not added.name:
            raise PathError(f"{self.path}: add_property: expected name=")
        if added.name in self.properties():
            raise PathError(f"{self.path}: there is a property '{added.name}' already")
        added.attr = added.attr or inner_name(added.name)
        added.bind(self.type_name)
        if self._instance_properties is None:
            self._instance_properties = {}
        self._instance_properties[added.name] = added
        if added.get is None and added.kind not in ("alias", "child"):
            self.__dict__[added.attr] = None if added.required else added.default
        return added

    def remove_property(self, name: str) -> None:
        """Take back a property `add_property` gave; a link is cleared first."""
        held = self._instance_properties or {}
        if name not in held:
            raise UnknownProperty(self.path, name, held, self.type_name)
        found = held.pop(name)
        value = self.__dict__.pop(found.attr, None)
        if found.kind == "link" and isinstance(value, Object):
            value.link_dropped(self, found)
        self.user_set.discard(name)

    def referred(self) -> list[Object]:
        """The objects that its links refer to."""
        links = [found.read(self) for found in self.properties().values() if found.kind == "link"]
        return [target for target in links if isinstance(target, Object)]

    # Life

    def configure(self) -> None:
        """Check that every required property is set, and become `configured`; a second time only checks."""
        required: list[Property] = list(self.type.required)
        if self._instance_properties:
            required += [p for p in self._instance_properties.values() if p.required]
        for found in required:
            if found.read(self) is None:
                raise MissingProperty(self.path, found.name, f"{found.expected()} ({found.desc})")
        if self.life is not Life.CONFIGURED:
            if self.registry.probe is not None:
                failed = self.registry.probe.step("configured", self)
                if failed is not None:
                    raise LifecycleError(f"{self.path}: cannot be configured: {failed}")
            move(self, Life.CONFIGURED)

    def leave(self) -> None:
        """Called by `unparent` first, while the object is still in its place; devices unrealize here."""

    # Tree

    @property
    def name(self) -> str | None:
        """Its name under its parent; None outside a tree."""
        return self._name

    @property
    def path(self) -> str:
        """Its canonical path, or "<isa-serial not in a tree>" (with what is below such an object after it)."""
        parts: list[str] = []
        here: Object = self
        while here.parent is not None:
            parts.append(cast(str, here._name))
            here = here.parent
        if isinstance(here, Root):
            return "/" + "/".join(reversed(parts))
        return "/".join([f"<{here.type_name} not in a tree>", *reversed(parts)])

    @property
    def top(self) -> Object:
        """The topmost object above it: the `Root`, once it is in a machine's tree."""
        here: Object = self
        while here.parent is not None:
            here = here.parent
        return here

    def place(self) -> str | None:
        """Where it sits, for its automatic name ("3f8", "00:01.0"); None when its type says enough."""
        return None

    def add_child(self, name: str, child: Object) -> Object:
        """Take `child` into the tree under this object."""
        if not name or "/" in name:
            raise PathError(f"{self.path}: {name!r} cannot name a child: expected a name without '/'")
        if child.parent is not None:
            raise PathError(f"{self.path}: '{name}' cannot be {child.path}: it has a parent already")
        taken = self._children.get(name)
        if taken is not None:
            raise PathError(f"{self.path}: there is a child '{name}' already, of type '{taken.type_name}'")
        clash = self.class_properties.get(name) or self.instance_property(name)
        if clash is not None and clash.kind != "child":
            raise PathError(f"{self.path}: '{name}' is a property of '{self.type_name}' and cannot name a child")
        if child.life is Life.FINALIZED or self.life is Life.FINALIZED:
            gone = child if child.life is Life.FINALIZED else self
            raise LifecycleError(f"{gone.path}: is finalized and cannot take part in a tree")
        top = self.top
        if child is top:
            raise PathError(f"{self.path}: '{name}' cannot be what it is part of")
        child.parent = self
        child._name = name
        child._orphaned = False
        self._children[name] = child
        if isinstance(top, Root):
            top.came(child)
        return child

    def add_auto(self, child: Object, place: str | None = None) -> str:
        """Take `child` in under a name made from its type and place; equals are counted as they are declared."""
        name = self._auto_name(child, place if place is not None else child.place())
        self.add_child(name, child)
        return name

    def name_by_place(self, child: Object) -> str:
        """Give a child the name `add_auto` would give it now that it knows its place."""
        where = child.place()
        stem = child.type_name if where is None else f"{child.type_name}@{where}"
        old = cast(str, child._name)
        if old == stem or (old.startswith(f"{stem}[") and stem in self._children):
            return old
        self._forget_child(old)
        child._name = name = self._auto_name(child, where)
        self._children[name] = child
        return name

    def rename_child(self, child: Object, name: str) -> None:
        """Give a child another name, which nobody has.  Raises PathError when somebody does."""
        if name in self._children:
            raise PathError(f"{self.path}: there is a child '{name}' already")
        self._forget_child(cast(str, child._name))
        child._name = name
        self._children[name] = child

    def name_in_order(self, children: Sequence[Object]) -> None:
        """Give children whose automatic names differ by their count alone ("x", "x[1]") these names in this order."""
        import re

        groups: dict[str, list[Object]] = {}
        for held in children:
            groups.setdefault(re.sub(_COUNT, "", cast(str, held._name)), []).append(held)
        for group in groups.values():
            if len(group) > 1:
                names = sorted((cast(str, held._name) for held in group), key=lambda name: (len(name), name))
                for held, name in zip(group, names, strict=True):
                    held._name = name
                    self._children[name] = held

    def _auto_name(self, child: Object, where: str | None) -> str:
        stem = child.type_name if where is None else f"{child.type_name}@{where}"
        if stem not in self._children:
            return stem
        if self._auto_names is None:
            self._auto_names = {}
        count = self._auto_names.get(stem, 1)
        while f"{stem}[{count}]" in self._children:
            count += 1
        self._auto_names[stem] = count
        return f"{stem}[{count}]"

    def _forget_child(self, name: str) -> None:
        del self._children[name]
        if self._auto_names and name.endswith("]"):
            stem, _, number = name[:-1].rpartition("[")
            if stem in self._auto_names and number.isdecimal():
                self._auto_names[stem] = min(self._auto_names[stem], int(number))

    def children(self) -> dict[str, Object]:
        """Its children by name, in the order they came."""
        return dict(self._children)

    def get_child(self, name: str) -> Object | None:
        """The child `name`, if there is one."""
        return self._children.get(name)

    def child(self, name: str) -> Any:
        """The child `name`, or PathError with near misses."""
        found = self._children.get(name)
        if found is None:
            raise PathError(f"{self.path}: no child '{name}'{did_you_mean(name, self._children)}")
        return found

    def walk(self) -> Iterator[Object]:
        """It and everything below it, parents first, in the order they came."""
        yield self
        for held in list(self._children.values()):
            yield from held.walk()

    def unparent(self) -> None:
        """Take it out of the tree: it leaves its place; without strong links it is finalized, its children first."""
        self.leave()
        self._check_not_realized()
        if self.parent is not None:
            top = self.top
            if isinstance(top, Root):
                top.went(self)
            self.parent._forget_child(cast(str, self._name))
            self.parent = None
            self._name = None
        self._orphaned = True
        self._release()

    def _release(self) -> None:
        # Something never put in a tree is its creator's: only what was taken out ends with its last strong link.
        if self.parent is None and self._strong <= 0 and self.life is not Life.FINALIZED:
            self._finalize()

    def _check_not_realized(self) -> None:
        if self.life is not Life.FINALIZED and Life.FINALIZED not in TRANSITIONS[self.life]:
            raise LifecycleError(f"{self.path}: cannot be finalized while {self.life.value}: expected unrealize first")

    def _finalize(self) -> None:
        self._check_not_realized()
        failures: list[QomError] = []
        for held in reversed(list(self._children.values())):
            try:
                held.unparent()
            except Fault as error:  # what its code raises keeps it no longer alive
                failures.append(error)
        for hook in self.type.finalizers:
            try:
                hook(self)
            except BaseException as error:
                if passes(error):
                    raise
                if not isinstance(error, QomError):
                    text = f"{self.path}: finalize raised {shown(error)}{blame(self, error)}"
                    fault = ObjectFault(text, place_of(error, self.type))
                    fault.__cause__ = error
                    error = fault
                failures.append(error)
        move(self, Life.FINALIZED)
        if self.registry.probe is not None:
            self.registry.probe.step("finalized", self)
        for (_, attr), source in (self._weak or {}).items():
            if source.__dict__.get(attr) is self:
                source.__dict__[attr] = None
        self._weak = None
        for found in (*self.class_properties.values(), *(self._instance_properties or {}).values()):
            if found.kind == "link":
                target = self.__dict__.get(found.attr)
                self.__dict__[found.attr] = None
                if isinstance(target, Object):
                    target.link_dropped(self, found)
        if failures:
            raise failures[0]

    def link_taken(self, source: Object, link: Property) -> None:
        """A link of `source` now refers to this object."""
        if link.strong:
            self._strong += 1
        else:
            if self._weak is None:
                self._weak = {}
            self._weak[id(source), link.attr] = source

    def link_dropped(self, source: Object, link: Property) -> None:
        """A link of `source` no longer refers to this object; the last strong one lets an unparented object go."""
        if link.strong:
            self._strong -= 1
            if self._orphaned:
                self._release()
        elif self._weak:
            self._weak.pop((id(source), link.attr), None)

    # Paths

    def resolve(self, path: str) -> Any:
        """The object at `path`: absolute (from its root) or relative to this object; ".." and links are followed."""
        here: Object = self.top if path.startswith("/") else self
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                if here.parent is None:
                    raise PathError(f"no object '{path}': {here.path} has no parent")
                here = here.parent
                continue
            found: Object | None = here._children.get(part)
            if found is None:
                held = here.class_properties.get(part) or here.instance_property(part)
                value = held.read(here) if held is not None and held.kind in ("link", "alias") else None
                found = value if isinstance(value, Object) else None
            if found is None:
                raise PathError(
                    f"no object '{path}': {here.path} has no child '{part}'{did_you_mean(part, here._children)}"
                )
            here = found
        return here

    def resolve_partial(self, path: str, type_name: str | None = None) -> Any:
        """The one object (of that type) from here down whose path ends in `path`; PathError or AmbiguousPath."""
        parts = [p for p in path.split("/") if p]
        fits: list[Object] = []
        for found in self.walk():
            here: Object | None = found
            for part in reversed(parts):
                if here is None or here._name != part:
                    break
                here = here.parent
            else:
                if parts and (type_name is None or found.is_a(type_name)):
                    fits.append(found)
        if len(fits) > 1:
            names = ", ".join(sorted(f.path for f in fits))
            raise AmbiguousPath(f"path '{path}' is ambiguous: it fits {names}")
        if not fits:
            names_known = {o._name for o in self.walk() if o._name}
            of = f" of type '{type_name}'" if type_name else ""
            raise PathError(f"no object '{path}'{of}{did_you_mean(parts[-1] if parts else path, names_known)}")
        return fits[0]

    def resolve_any(self, path: str) -> Any:
        """An absolute path, or a partial one anywhere in its tree: what a link or an option names."""
        return self.resolve(path) if path.startswith("/") else self.top.resolve_partial(path)

    # State

    def state_fields(self) -> dict[str, StateField]:
        """Declared state by attribute."""
        return self.type.states

    def reset_state(self) -> None:
        """Give every state field its reset value, except those declared to keep theirs."""
        values = self.__dict__
        values.update(self.type.reset_values)
        for attr, factory in self.type.reset_factories:
            values[attr] = factory()

    def save_state(self) -> dict[str, Any]:
        """Every state field as plain data."""
        where = self.path
        return {attr: save_value(self.__dict__[attr], f"{where}: {attr}") for attr in self.type.states}

    def load_state(self, saved: dict[str, Any]) -> None:
        """Take over what `save_state` gave; all or nothing.  StateError when it does not fit."""
        fields = self.type.states
        if saved.keys() != fields.keys():
            extra, missing = sorted(saved.keys() - fields.keys()), sorted(fields.keys() - saved.keys())
            raise StateError(
                f"{self.path}: saved state does not fit '{self.type_name}':"
                f" unknown {', '.join(extra) or 'nothing'}, missing {', '.join(missing) or 'nothing'}"
            )
        where = self.path
        new = {a: load_value(self.__dict__[a], saved[a], f"{where}: {a}") for a in fields}
        self.__dict__.update(new)


@type_init("user-creatable")
class UserCreatable(Interface):
    """What a user may add under /objects (`-object`)."""

    def attach(self, vm: Any) -> None:
        """Be handed the virtual machine whose object this is; before `complete`."""

    def complete(self) -> None:
        """All properties are set: check them and begin; may raise."""


@type_init("container")
class Container(Object):
    """A place in the tree that only holds children."""


@type_init("root")
class Root(Container):
    """The top of one machine's tree: /machine, /objects, /chardevs."""

    def instance_init(self) -> None:
        """Make the containers that are always there."""
        self._lists: dict[str, dict[Object, None]] = {}
        for name in ("objects", "chardevs"):
            self.add_child(name, self.registry.new("container"))

    def listed(self, kind: str) -> list[Any]:
        """The objects of the tree whose type says `listed_as = kind`, in the order they came, without a search."""
        return list(self._lists.get(kind, ()))

    def came(self, obj: Object) -> None:
        """`obj` is part of the tree now, with all below it (`add_child` calls this)."""
        for found in obj.walk() if obj._children else (obj,):
            if found.listed_as is not None:
                self._lists.setdefault(found.listed_as, {})[found] = None

    def went(self, obj: Object) -> None:
        """`obj` is about to leave the tree, with all below it (`unparent` calls this)."""
        for found in obj.walk() if obj._children else (obj,):
            if found.listed_as is not None:
                self._lists[found.listed_as].pop(found, None)

    def container(self, path: str) -> Object:
        """The object at the absolute `path`; missing parts are made, as containers."""
        here: Object = self
        for part in path.split("/"):
            if part:
                found = here._children.get(part)
                here = found if found is not None else here.add_child(part, self.registry.new("container"))
        return here


def _child_property(name: str, held: Object) -> Property:
    made = Property("child", None, held.type.desc or f"The part '{name}'", target=held.type_name, name=name)
    made.attr = name
    made.bind(held.type_name)
    return made
