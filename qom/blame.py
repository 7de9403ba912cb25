"""Whose fault an exception is: the plugin's object, type, distribution, and the line of its code.

A plugin's code may raise anything, SystemExit and other exceptions that are no `Exception` included; none of it ends the
process.  The one exception that passes is KeyboardInterrupt on the main thread, because it is the user's.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom.registry import Type

FRAMEWORK = frozenset({"qom", "accel"})
_LIBRARY = os.path.dirname(os.__file__)  # Python's own; distributions are below it, in site-packages


def passes(error: BaseException) -> bool:
    """Whether an exception is the user's own (Ctrl-C on the main thread) and no plugin's: it is raised on as it is."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def shown(error: BaseException) -> str:
    """Class and text of an exception, in one line."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """Text of an exception, in one line; whoever made up its class may have made a `__str__` that raises, too."""
    try:
        return " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    except BaseException as another:
        if passes(another):
            raise
        return f"(its text cannot be had: {type(another).__name__})"


def who(owner: object) -> tuple[str, str]:
    """Type name and distribution (with its version) of an object; empty strings for anything else."""
    found: Any = getattr(owner, "type", None)
    name = getattr(found, "name", "")
    if not isinstance(name, str) or not name:
        return "", ""
    distribution = found.registry.brought_by(found)
    return name, "" if distribution == "the program" else distribution


def blame(owner: object, error: BaseException) -> str:
    """What follows the exception's text in a report: `; 'isa-x' of dist 1.0, at file.py:12`, as far as it is known."""
    name, distribution = who(owner)
    return blamed(name, distribution, place_of(error, getattr(owner, "type", None)))


def blame_type(found: Type, error: BaseException) -> str:
    """The same for a type, where there is no object yet."""
    distribution = found.registry.brought_by(found)
    return blamed(found.name, "" if distribution == "the program" else distribution, place_of(error, found))


def blamed(name: str, distribution: str, place: str) -> str:
    """Put together what is known."""
    kind = f"; '{name}'{f' of {distribution}' if distribution else ''}" if name else ""
    return f"{kind}, at {place}" if place else kind


def place_of(error: BaseException, found: Type | None = None) -> str:
    """ "file:line" of the code to blame for `error`.

    The innermost frame in a file that brings types to `found`'s registry (a back end that a device calls is to blame
    itself); else the innermost that is neither the framework's nor Python's own; else the innermost.
    """
    mine, theirs, innermost = _places(error, _plugin_files(found))
    return mine or theirs or innermost


def plugin_place(error: BaseException) -> str:
    """ "file:line" of the innermost code that is neither the framework's nor Python's own; "" when there is none."""
    return _places(error, frozenset())[1]


def _places(error: BaseException, files: frozenset[str]) -> tuple[str, str, str]:
    mine = theirs = innermost = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        here, trace = f"{file}:{trace.tb_lineno}", trace.tb_next
        if file.startswith("<"):  # the import machinery
            continue
        innermost = here
        if file in files:
            mine = here
        elif module.partition(".")[0] not in FRAMEWORK and not _is_library(file):
            theirs = here
    if isinstance(error, SyntaxError) and error.filename:
        theirs = f"{error.filename}:{error.lineno or 1}"
    return mine, theirs, innermost


def function_name(callback: Callable[..., object]) -> str:
    """The name of a callback's function alone."""
    function: Any = getattr(callback, "__func__", callback)
    return str(getattr(function, "__name__", type(callback).__qualname__))


def defined_at(callback: Callable[..., object]) -> str:
    """ "file:line" where a callback is defined; "" when it is no Python function."""
    code = getattr(getattr(callback, "__func__", callback), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def named(callback: Callable[..., object]) -> str:
    """A callback as a report names it: module and name."""
    function: Any = getattr(callback, "__func__", callback)
    name = getattr(function, "__qualname__", None) or type(callback).__qualname__
    module = getattr(function, "__module__", None) or type(callback).__module__
    return f"{module}.{name}"


def _is_library(file: str) -> bool:
    return file.startswith(_LIBRARY) and "site-packages" not in file


def _plugin_files(found: Type | None) -> frozenset[str]:
    if found is None:
        return frozenset()
    return frozenset(_files(cls for t in found.registry if (cls := t.loaded_class) is not None))


def _files(classes: Iterator[type]) -> Iterator[str]:
    for module in {cls.__module__ for cls in classes}:
        file = getattr(sys.modules.get(module), "__file__", None)
        if file and module.partition(".")[0] not in FRAMEWORK:
            yield file
