"""Errors: one family, each a single clear line that names the place, the value and what would be right."""

from __future__ import annotations

from collections.abc import Iterable


class QomError(Exception):
    """Base of everything this package raises on purpose; `str()` is one line fit for a user."""


class TypeRegistryError(QomError):
    """Something is wrong with a type: its declaration, its registration or its use."""


class DuplicateType(TypeRegistryError):
    """Two different types claim one name."""


class UnknownType(TypeRegistryError):
    """A type name nobody registered."""


class UnknownParent(TypeRegistryError):
    """A type names a parent (or an interface) nobody registered."""


class TypeCycle(TypeRegistryError):
    """A type is its own ancestor."""


class AbstractType(TypeRegistryError):
    """An abstract type was to be instantiated."""


class CastError(TypeRegistryError):
    """An object is not of the type it was cast to."""


class PropertyError(QomError):
    """A property was given something it cannot take.

    path: the object's canonical path.  property: its name.  value: what was given.  expected: what would be right.
    """

    def __init__(self, path: str, property: str, value: object, expected: str) -> None:
        self.path, self.property, self.value, self.expected = path, property, value, expected
        super().__init__(f"{path}: property '{property}' cannot be {value!r}: expected {expected}")


class UnknownProperty(PropertyError):
    """The object has no property of that name."""

    def __init__(self, path: str, property: str, known: Iterable[str], of_type: str) -> None:
        self.path, self.property, self.value, self.expected = path, property, None, "an existing property"
        text = f"{path}: '{of_type}' has no property '{property}'{did_you_mean(property, known)}"
        QomError.__init__(self, text)


class PropertyLocked(PropertyError):
    """The property cannot be set in this phase of the object's life."""

    def __init__(self, path: str, property: str, value: object, life: str) -> None:
        self.path, self.property, self.value = path, property, value
        self.expected = "to be set before realize"
        text = f"{path}: property '{property}' cannot be set to {value!r}: the object is {life}"
        QomError.__init__(self, text)


class MissingProperty(PropertyError):
    """A required property was not set before realize."""

    def __init__(self, path: str, property: str, expected: str) -> None:
        self.path, self.property, self.value, self.expected = path, property, None, expected
        QomError.__init__(self, f"{path}: property '{property}' is required: expected {expected}")


class PathError(QomError):
    """No object at that path, or the name cannot be used there."""


class AmbiguousPath(PathError):
    """A partial path fits several objects."""


class LifecycleError(QomError):
    """An object was asked to go where its life cycle does not lead."""


class RealizeError(QomError):
    """A device cannot be realized as configured."""


class StateError(QomError):
    """Saved state does not fit the object it is loaded into."""


class Fault(QomError):
    """Code of a plugin raised what it should not have; the original exception is `__cause__`.

    `place` is "file:line" of the code to blame, "" when it is not known.
    """

    place: str = ""


class ObjectFault(Fault):
    """Code of a type raised while an object was created, had a property set or read, or was finalized."""

    def __init__(self, text: str, place: str = "") -> None:
        self.place = place
        super().__init__(text)


class ConfigError(QomError):
    """The configuration is wrong; `origin` is "file:line" or the argument it came from ("" when unknown)."""

    def __init__(self, message: str, origin: str = "") -> None:
        self.message, self.origin = message, origin
        super().__init__(f"{origin}: {message}" if origin else message)


class NotModelled(ConfigError):
    """The configuration asks for something that QEMU has and that is not modelled here."""


class PluginError(QomError):
    """A plugin cannot be used; reported as a row, raised only when asked for by name."""


class AccelError(QomError):
    """An accelerator is unusable here, or reported something fatal."""


def near_misses(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The known names closest to `name`, best first."""
    pool = {k.lower(): k for k in sorted(known)}
    import difflib  # only what is wrong needs it

    return [pool[m] for m in difflib.get_close_matches(name.lower(), list(pool), n=limit, cutoff=0.6)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'a' or 'b'?"` when something known is close to `name`, else the empty string."""
    close = near_misses(name, known)
    return f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
