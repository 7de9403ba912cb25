"""What goes wrong inside a device, an observer or another plugin while a machine runs.

A device callback that raises is a bug in the device, not in the guest and not in the process around it.  Whoever calls
into it (the address space for accesses, the clock for timers, the line for its handler, the reset for resets) turns the
exception into one `DeviceFault`: which device, of which type and distribution, what it was doing (region, offset, width,
address), and the line of the plugin's code that raised.  Whoever runs the machine stops that machine with it and leaves
every other machine alone.

Exceptions that are no `Exception` (SystemExit, a BaseException of a plugin's own) are treated alike: a plugin does not
end the process.  The one that passes is KeyboardInterrupt on the main thread, because it is the user's.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from qom.errors import QomError

_FRAMEWORK = frozenset({"qom", "accel"})


class Fault(QomError):
    """Code called by a machine raised; the original exception is `__cause__`.

    `place` is "file:line" of the code to blame, "" when it is not known.
    """

    place: str = ""


class DeviceFault(Fault):
    """A device callback raised.

    `device` is the canonical path of the owner (or the region's or timer's name when it has none), `region` the name of
    the region, `offset` and `size` the access in bytes within it, `address` where that is in its address space (None:
    not mapped).  For anything that is not an access (`doing` says what) the region is empty and the numbers are 0.
    `type_name` and `distribution` say what the device is and who brought it ("" when there is no such object).
    """

    def __init__(
        self,
        device: str,
        cause: BaseException,
        *,
        region: str = "",
        offset: int = 0,
        size: int = 0,
        is_write: bool = False,
        address: int | None = None,
        doing: str = "",
        owner: object = None,
    ) -> None:
        self.device = device
        self.region = region
        self.offset = offset
        self.size = size
        self.is_write = is_write
        self.address = address
        verb = "write to" if is_write else "read from"
        where = "" if address is None else f" (address {address:#x})"
        self.doing = doing or f"{size}-byte {verb} {region} at offset {offset:#x}{where}"
        self.type_name, self.distribution = who(owner)
        self.place = place_of(cause, owner)
        super().__init__(f"{device}: {self.doing} raised {shown(cause)}{blame(owner, cause)}")


class ObserverFault(Fault):
    """An observer's callback raised something else than `Fail`; `watching` says what it was told of."""

    def __init__(self, callback: Callable[..., object], cause: BaseException, watching: str) -> None:
        self.watching = watching
        self.place = place_of(cause)
        super().__init__(f"observer {named(callback)}, told of {watching}, raised {shown(cause)}{_at(self.place)}")


def passes(error: BaseException) -> bool:
    """Whether an exception is the user's own (Ctrl-C on the main thread) and no plugin's: it is raised on as it is."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def shown(error: BaseException) -> str:
    """Class and text of an exception, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def who(owner: object) -> tuple[str, str]:
    """Type name and distribution (with its version) of an object; empty strings for anything else."""
    found: Any = getattr(owner, "type", None)
    name = getattr(found, "name", "")
    if not isinstance(name, str) or not name:
        return "", ""
    return name, found.registry.brought_by(found)


def blame(owner: object, error: BaseException) -> str:
    """What follows the exception's text in a report: `; 'isa-x' of dist 1.0, at file.py:12`, as far as it is known."""
    name, distribution = who(owner)
    place = place_of(error, owner)
    if name and distribution not in ("", "the program"):
        return f"; '{name}' of {distribution}{', at ' + place if place else ''}"
    return f"; '{name}'{', at ' + place if place else ''}" if name else _at(place)


def place_of(error: BaseException, owner: object = None) -> str:
    """ "file:line" of the code to blame for `error`: the innermost frame of `owner`'s own class, else of any plugin."""
    own = _files_of(owner)
    mine = theirs = innermost = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        here = f"{code.co_filename}:{trace.tb_lineno}"
        innermost = here
        if code.co_filename in own:
            mine = here
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _FRAMEWORK:
            theirs = here
        trace = trace.tb_next
    return mine or theirs or innermost


def named(callback: Callable[..., object]) -> str:
    """A callback as a report names it: module and name."""
    function: Any = getattr(callback, "__func__", callback)
    name = getattr(function, "__qualname__", None) or type(callback).__qualname__
    module = getattr(function, "__module__", None) or type(callback).__module__
    return f"{module}.{name}"


def _files_of(owner: object) -> set[str]:
    if owner is None:
        return set()
    found = set()
    for cls in type(owner).__mro__:
        if cls.__module__.partition(".")[0] not in _FRAMEWORK and cls is not object:
            file = getattr(sys.modules.get(cls.__module__), "__file__", None)
            if file:
                found.add(file)
    return found


def _at(place: str) -> str:
    return f", at {place}" if place else ""
