"""What is said of a type of `-object` that is not there: of QEMU's memory back ends why, of others what is close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.errors import ConfigError, NotModelled

if TYPE_CHECKING:
    from qom.registry import TypeRegistry

__all__ = ["MEMORY_BACKENDS", "NO_MEMORY_BACKENDS", "unknown_object"]

MEMORY_BACKENDS = frozenset(f"memory-backend-{kind}" for kind in ("ram", "file", "memfd", "epc", "shm"))
"""QEMU's types of memory that a machine is given."""

NO_MEMORY_BACKENDS = "memory back ends are not modelled: expected the guest's memory by -m SIZE"
"""Why there are none, and what is there instead."""


def unknown_object(registry: TypeRegistry, driver: str, origin: str = "") -> ConfigError:
    """What is wrong with `driver`, which is no type of objects in `registry`; said at `origin`."""
    if driver in MEMORY_BACKENDS:
        return NotModelled(f"object type {driver!r}: {NO_MEMORY_BACKENDS}", origin)
    known = registry.names("user-creatable")
    return ConfigError(f"unknown object type {driver!r}{registry.suggest_type(driver, known)}", origin)
