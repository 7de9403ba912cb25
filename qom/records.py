"""Records: classes that are mostly fields, declared as annotations, spelled as in attrs.

    @frozen
    class Place:
        file: str
        line: int = 0
        notes: list[str] = field(factory=list)

What attrs makes of this is the same, except that it writes and compiles the methods of every class when its module is
imported, which took half of a start (docs/design/decisions.md has the numbers).  Here a class costs some microseconds, and
`__init__` is compiled for a class of which many objects are made.  For modules that a start does not come by, use attrs.

Not here, compared with attrs: validators, `on_setattr`, and slots (an object has a `__dict__`).  The fields are found under
`__attrs_attrs__`, so the functions of attrs work with these classes, and the functions here with classes of attrs.  To a
type checker they are attrs classes.
"""

from __future__ import annotations

from operator import attrgetter

__all__ = ["asdict", "astuple", "define", "evolve", "field", "fields", "frozen", "has"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from attrs import asdict, astuple, define, evolve, field, fields, frozen, has

    def constructor(cls: type) -> Callable[..., None]: ...
else:
    MANY = 16  # objects of a class before its `__init__` is compiled: that pays after some thirty of them
    NOTHING = type("Nothing", (), {"__repr__": lambda self: "...", "__bool__": lambda self: False})()

    class Field:
        """One field, as declared.  `default` is `NOTHING` without one; `eq` may be a function that gives what is compared."""

        default = NOTHING
        factory = converter = kw_only = alias = name = type = None
        init = eq = repr = True

        def __init__(self, **said):
            self.__dict__.update(said)

        def __repr__(self):
            return f"Field({self.name!r})"

        def value(self):
            """What an object has where nothing is given; `NOTHING` when something must be."""
            return self.factory() if self.factory is not None else self.default

    def field(
        *,
        default: Any = NOTHING,
        factory: Callable[[], Any] | None = None,
        converter: Callable[[Any], Any] | None = None,
        init: bool = True,
        eq: bool | Callable[[Any], Any] = True,
        repr: bool = True,
        kw_only: bool | None = None,
        alias: str | None = None,
    ) -> Any:
        """Say more of a field than its default; a class body holds it as the annotated name's value.

        Args:
            default: the value where none is given.
            factory: makes it anew for each object instead.
            converter: what is given goes through it (and so does the default).
            init: whether it is an argument of the class; without it it has its default.
            eq: whether it counts in comparisons; a function of the value gives what counts instead of it.
            repr: whether it is shown.
            kw_only: whether it is given by name only.
            alias: the argument's name; the field's without underscores before it by default.
        """
        return Field(
            default=default,
            factory=factory,
            converter=converter,
            init=init,
            eq=eq,
            repr=repr,
            kw_only=kw_only,
            alias=alias,
        )

    def define(
        cls: type | None = None,
        *,
        eq: bool = True,
        order: bool = False,
        repr: bool = True,
        kw_only: bool = False,
        frozen: bool = False,
        slots: bool = True,
    ) -> Any:
        """Make a record of a class: `__init__`, `__eq__`, `__repr__`, each unless the class body has it.

        A method `__attrs_post_init__` is called when the fields are there.

        Args:
            cls: the class.
            eq: whether objects are compared by their fields (and have no hash, unless frozen) or by identity.
            order: whether `<` and the others compare the fields, too.
            repr: whether there is a `__repr__` that shows the fields.
            kw_only: whether all fields are given by name only.
            frozen: whether fields cannot be assigned to.
            slots: as in attrs, and without meaning here.
        """
        if cls is None:
            return lambda cls: define(cls, eq=eq, order=order, repr=repr, kw_only=kw_only, frozen=frozen)
        made = _collect(cls, kw_only)
        cls.__attrs_attrs__ = made
        body = cls.__dict__
        if frozen or getattr(cls, "__records_frozen__", False):
            frozen = cls.__records_frozen__ = True
            if "__setattr__" not in body:
                cls.__setattr__, cls.__delattr__ = _refuse, _refuse
        if "__init__" not in body:
            cls.__init__, cls.__signature__ = _init(cls, made)
        if repr and "__repr__" not in body:
            cls.__repr__ = _repr
        if eq:
            key = _key([f for f in made if f.eq])
            if "__eq__" not in body:
                cls.__eq__ = lambda self, other: (
                    key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented
                )
            if "__hash__" not in body or body["__hash__"] is None:
                cls.__hash__ = (lambda self: hash((cls, key(self)))) if frozen else None
            if order:
                _order(cls, key)
        return cls

    def frozen(cls: type | None = None, **options: bool) -> Any:
        """`define`, of objects whose fields cannot be assigned to."""
        return define(cls, frozen=True, **options)

    def has(cls: type) -> bool:
        """Whether a class is a record, made here or by attrs."""
        return getattr(cls, "__attrs_attrs__", None) is not None

    def fields(cls: type) -> tuple[Any, ...]:
        """The fields of a record class, inherited ones first; TypeError when it is none."""
        if not has(cls):
            raise TypeError(f"{cls!r} is no record")
        return cls.__attrs_attrs__

    def asdict(made: Any) -> dict[str, Any]:
        """The fields' values by name; records among them stay records."""
        return {f.name: getattr(made, f.name) for f in fields(type(made))}

    def astuple(made: Any) -> tuple[Any, ...]:
        """The fields' values in order; records among them stay records."""
        return tuple([getattr(made, f.name) for f in fields(type(made))])

    def evolve(made: Any, **changes: Any) -> Any:
        """A record like `made`, with other values for some fields, by the names they are given by."""
        for f in fields(type(made)):
            if f.init and f.alias not in changes:
                changes[f.alias] = getattr(made, f.name)
        return type(made)(**changes)

    def constructor(cls):
        """The `__init__` of a class with its signature, for who describes it."""
        made = cls.__dict__.get("__signature__")
        return made.compiled() if isinstance(made, _Signature) else cls.__init__

    # What a class is given

    def _collect(cls, kw_only):
        """The fields of a class in order; taken out of the class body."""
        own = []
        for name, annotation in vars(cls).get("__annotations__", {}).items():
            text = annotation if isinstance(annotation, str) else repr(annotation)
            if text.startswith(("ClassVar", "typing.ClassVar")):
                continue
            given = cls.__dict__.get(name, NOTHING)
            if isinstance(given, Field):
                made = given
                made.name, made.type = name, annotation
                made.alias = made.alias or name.lstrip("_")
                made.kw_only = kw_only if made.kw_only is None else made.kw_only
            else:
                made = Field(default=given, name=name, type=annotation, alias=name.lstrip("_"), kw_only=kw_only)
            if given is not NOTHING:
                delattr(cls, name)
            own.append(made)
        for name, held in cls.__dict__.items():
            if isinstance(held, Field):
                raise TypeError(f"{cls.__name__}.{name} is a field without an annotation")
        mine = {f.name for f in own}
        inherited = {}
        for base in reversed(cls.__mro__[1:]):
            for f in base.__dict__.get("__attrs_attrs__", ()):
                inherited[f.name] = f
        made = (*(f for f in inherited.values() if f.name not in mine), *own)
        needed = [f for f in made if f.init and not f.kw_only]
        last = None
        for f in needed:
            if last is not None and not _optional(f):
                raise TypeError(f"{cls.__name__}: '{f.name}' has no default, and '{last.name}' before it has one")
            last = f if _optional(f) else None
        return made

    def _optional(f):
        return f.default is not NOTHING or f.factory is not None

    def _init(cls, made):
        """The `__init__` of a class and its signature: one that reads the fields, then, of many objects, a compiled one."""
        given = [f for f in made if f.init]
        positional = [f.alias for f in given if not f.kw_only]
        after = getattr(cls, "__attrs_post_init__", None)
        count = 0

        def __init__(self, *args, **named):
            nonlocal count
            count += 1
            if count > MANY or len(args) > len(positional):
                return compiled()(self, *args, **named)
            values = dict(zip(positional, args, strict=False))
            if named:
                if not values.keys().isdisjoint(named):
                    return compiled()(self, *args, **named)
                values.update(named)
            left = len(values)
            into = self.__dict__
            for f in made:
                if f.init and f.alias in values:
                    value, left = values[f.alias], left - 1
                elif (value := f.value()) is NOTHING:
                    if not f.init:
                        continue
                    return compiled()(self, *args, **named)
                into[f.name] = value if f.converter is None else f.converter(value)
            if left:
                return compiled()(self, *args, **named)
            if after is not None:
                after(self)

        def compiled():
            """The compiled one, in the class from now on; also what says in Python's words that arguments are wrong."""
            if cls.__dict__["__init__"] is __init__:
                cls.__init__ = _compiled(cls, made)
            return cls.__dict__["__init__"]

        __init__.__qualname__ = f"{cls.__qualname__}.__init__"
        return __init__, _Signature(cls, compiled)

    def _compiled(cls, made):
        space = {"NOTHING": NOTHING}
        head, named, body = ["self"], [], ["    into = self.__dict__"]
        for f in made:
            if f.factory is not None:
                space[f"make_{f.name}"] = f.factory
            if f.converter is not None:
                space[f"convert_{f.name}"] = f.converter
            value = f.alias
            if not f.init:
                if not _optional(f):
                    continue
                value = f"make_{f.name}()" if f.factory is not None else f"default_{f.name}"
                space[f"default_{f.name}"] = f.default
            else:
                argument = f.alias
                if f.factory is not None:
                    argument = f"{f.alias}=NOTHING"
                    value = f"{f.alias} if {f.alias} is not NOTHING else make_{f.name}()"
                elif f.default is not NOTHING:
                    argument = f"{f.alias}=default_{f.name}"
                    space[f"default_{f.name}"] = f.default
                (named if f.kw_only else head).append(argument)
            body.append(f"    into[{f.name!r}] = {value if f.converter is None else f'convert_{f.name}({value})'}")
        if hasattr(cls, "__attrs_post_init__"):
            body.append("    self.__attrs_post_init__()")
        arguments = ", ".join([*head, *(["*", *named] if named else [])])
        exec("\n".join([f"def __init__({arguments}):", *body]), space)
        function = space["__init__"]
        function.__qualname__ = f"{cls.__qualname__}.__init__"
        function.__module__ = cls.__module__
        function.__annotations__ = {f.alias: said for f in made if f.init and (said := _given_as(f)) is not None} | {
            "return": None
        }
        return function

    def _given_as(f):
        """The annotation of an argument; None when its converter does not say what it takes."""
        return f.type if f.converter is None else next(iter(getattr(f.converter, "__annotations__", {}).values()), None)

    class _Signature:
        """The signature of a class, for who asks (`inspect.signature`): that of its compiled `__init__`."""

        def __init__(self, cls, compiled):
            self.cls, self.compiled = cls, compiled

        def __get__(self, made, owner):
            if owner is not self.cls or "__init__" not in owner.__dict__:
                raise AttributeError("__signature__")
            import inspect

            whole = inspect.signature(self.compiled())
            return whole.replace(parameters=list(whole.parameters.values())[1:])

    def _refuse(self, name, *value):
        raise AttributeError(f"'{name}' of a {type(self).__name__} cannot be changed: it is frozen")

    def _repr(self):
        shown = ", ".join(f"{f.name}={getattr(self, f.name, NOTHING)!r}" for f in type(self).__attrs_attrs__ if f.repr)
        return f"{type(self).__qualname__.rpartition('>.')[2]}({shown})"

    def _key(counted):
        """A function that gives what is compared of an object."""
        if any(f.eq is not True for f in counted):
            steps = [(f.name, f.eq if f.eq is not True else lambda value: value) for f in counted]
            return lambda made: tuple([step(getattr(made, name)) for name, step in steps])
        return attrgetter(*(f.name for f in counted)) if counted else lambda made: ()

    def _order(cls, key):
        def compares(test):
            return lambda self, other: (
                test(key(self), key(other)) if other.__class__ is self.__class__ else NotImplemented
            )

        cls.__lt__ = compares(lambda a, b: a < b)
        cls.__le__ = compares(lambda a, b: a <= b)
        cls.__gt__ = compares(lambda a, b: a > b)
        cls.__ge__ = compares(lambda a, b: a >= b)
