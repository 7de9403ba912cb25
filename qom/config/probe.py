"""What types say of themselves before any machine is built.

A type is asked through an object of it that is in no tree and is never realized: it has its buses and its properties'
own checks, holds nothing of the host's, and is dropped at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from qom.errors import QomError
from qom.properties import Property
from qom.registry import Type, TypeRegistry

__all__ = ["Probe"]


class Probe:
    """Answers questions about the types of a registry."""

    def __init__(self, registry: TypeRegistry) -> None:
        self.registry = registry
        self._buses: dict[str, dict[str, str]] = {}

    def find(self, name: str, parent: str) -> Type | None:
        """The concrete type of that name, if it is a `parent`."""
        if name not in self.registry or parent not in self.registry:
            return None
        found = self.registry.get(name)
        return found if not found.abstract and found.is_a(parent) else None

    @contextlib.contextmanager
    def instance(self, found: Type) -> Iterator[Any]:
        """A fresh object of a concrete type.

        Raises:
            QomError: its own instance_init raised.
        """
        try:
            made: Any = self.registry.new(found.name)
        except QomError:
            raise
        except Exception as error:
            raise QomError(f"type '{found.name}' cannot be made: {type(error).__name__}: {error}") from error
        try:
            yield made
        finally:
            with contextlib.suppress(Exception):  # whatever a plugin does at its end is no business of a question
                made.unparent()

    def buses(self, driver: str) -> dict[str, str]:
        """The buses that a device brings from the start, by name, with their types; {} when it is none."""
        if driver not in self._buses:
            found = self.find(driver, "device")
            self._buses[driver] = {}
            if found is not None and "bus" in self.registry:
                with contextlib.suppress(QomError), self.instance(found) as made:
                    children = made.children().items()
                    self._buses[driver] = {name: c.type_name for name, c in children if c.is_a("bus")}
        return self._buses[driver]

    def wanted_bus(self, driver: str) -> str | None:
        """The type of bus that a device sits on; None for none, or when it is no device."""
        found = self.find(driver, "device")
        try:
            wanted: str | None = found.cls.bus_type if found is not None else None
        except QomError:
            return None
        return wanted

    @staticmethod
    def property(found: Type, name: str) -> Property | None:
        """The property that `name` means, as `Object.find_property` sees it (`a_b` is taken for `a-b`, an old name for new)."""
        known = found.properties
        outer = name.rstrip("_").replace("_", "-")
        made = known.get(name) or known.get(outer) or next((p for p in known.values() if p.attr == name), None)
        return made or known.get(found.registry.current_property(found, name) or "")

    def link(self, driver: str, name: str) -> Property | None:
        """The property, when it is a link to another object."""
        if driver not in self.registry:
            return None
        try:
            found = self.property(self.registry.get(driver), name)
        except QomError:
            return None
        return found if found is not None and found.kind == "link" else None

    def may_be(self, driver: str, wanted: str) -> bool:
        """Whether an object of type `driver` is a `wanted`; what is not known may be anything."""
        try:
            return driver not in self.registry or self.registry.is_a(driver, wanted)
        except QomError:
            return True
