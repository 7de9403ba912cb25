"""What will go: one table of deprecated names, types, properties and hooks, which keep working until then.

Each use is told once per distribution by a `QomDeprecationWarning`, and noted for `qom plugins --deprecations`.  An entry
says since which plugin API version something is deprecated, in which it goes (a new major version, never a minor one), and
what to use instead.  Where nothing is deprecated nothing is asked: every look-up here comes after another has failed.

A plugin deprecates types and properties of its own by `QOM_DEPRECATED`, with versions of its distribution.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import FrameType

from qom import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Kind = Literal["name", "type", "property", "hook"]

KINDS: tuple[Kind, ...] = ("name", "type", "property", "hook")

_FRAMEWORK = frozenset({"qom", "accel", "importlib", "pluggy", "attr", "attrs", "contextlib"})


class QomDeprecationWarning(DeprecationWarning):
    """Something that still works is used, and will go; the text names the distribution, and what to use instead."""


@records.frozen
class Deprecated:
    """One thing that will go.

    kind, name: a public name as "qom.hw.OldRegion", a type "old-timer", a property "timer.old-rate" (of that type and
    those derived from it), a hook "qom_old_types".  since, until: the version that deprecates it, and that takes it away.
    instead: what to use: a public name "qom.hw.Region", a type, the property's new name, a hook.
    """

    kind: Kind
    name: str
    since: str
    until: str
    instead: str

    def __str__(self) -> str:
        what = "" if self.kind == "name" else f"{self.kind} "
        return f"{what}'{self.name}' is deprecated since {self.since} and goes in {self.until}: use '{self.instead}'"


TABLE: list[Deprecated] = []
"""What is deprecated in the plugin API itself."""


@records.frozen
class Use:
    """A deprecated thing and a distribution that uses it."""

    what: Deprecated
    by: str


uses: list[Use] = []
"""Every use seen in this process, each once; a warning was given for it."""


class _Loading(threading.local):
    dist = ""


loading = _Loading()
"""`dist` is the distribution whose plugin is being loaded on this thread; "" while none is."""


@contextlib.contextmanager
def loading_for(dist: str) -> Iterator[None]:
    """What is used in the block, `dist` uses."""
    before, loading.dist = loading.dist, dist
    try:
        yield
    finally:
        loading.dist = before


def find(kind: Kind, name: str) -> Deprecated | None:
    """The entry of the table for a name or a hook; None when it is not deprecated."""
    return next((d for d in TABLE if d.kind == kind and d.name == name), None)


def note(what: Deprecated, by: str = "") -> None:
    """Somebody uses `what`: warn, the first time for each distribution.

    by: the distribution, where it is known better than by looking whose code is at work.
    """
    frame = _user_frame()
    by = by or loading.dist or _distribution(str(frame.f_globals.get("__name__", "")).partition(".")[0])
    use = Use(what, by)
    if use not in uses:
        uses.append(use)
        warnings.warn_explicit(f"{by}: {what}", QomDeprecationWarning, frame.f_code.co_filename, frame.f_lineno)


def names_of(module: str) -> Callable[[str], Any]:
    """A `__getattr__` for the public module `module`: what is deprecated leads to what replaces it."""

    def __getattr__(name: str) -> Any:
        what = find("name", f"{module}.{name}")
        if what is None:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        note(what)
        home, _, instead = what.instead.rpartition(".")
        return getattr(importlib.import_module(home), instead)

    return __getattr__


def _user_frame() -> FrameType:
    """The nearest code that is neither ours nor Python's way to us; else the outermost there is."""
    frame = sys._getframe(2)
    while str(frame.f_globals.get("__name__", "")).partition(".")[0] in _FRAMEWORK and frame.f_back is not None:
        frame = frame.f_back
    return frame


@functools.cache  # it is slow, and a deprecated type may be made a thousand times
def _distribution(top: str) -> str:
    import importlib.metadata  # slow to import, and seldom needed

    found = importlib.metadata.packages_distributions().get(top, [])
    return found[0] if found else f"module {top}" if top not in ("", "__main__", *_FRAMEWORK) else "the program"
