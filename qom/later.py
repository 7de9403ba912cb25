"""Packages whose names are imported when somebody asks for them: what `qom.hw`, `qom.vm` and others export.

A package says for the type checker what it exports and from where, under `TYPE_CHECKING`, and says it again as a table for
here; a test compares the two.  So a module that needs one name of a package does not pay for all of them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def later(package: str, names: Mapping[str, tuple[str, ...]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package.

    Args:
        package: its name.
        names: what is exported, by the module it is imported from; a submodule of the package by the package itself.
    """
    homes = {name: module for module, several in names.items() for name in several}

    def __getattr__(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            from qom.deprecated import names_of

            return names_of(package)(name)
        if home == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return __getattr__, __dir__
