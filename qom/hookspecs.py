"""The plugin interface: what a plugin module may declare and implement.

A plugin is a module (or an object) named by an entry point in the group `qom.plugins`:

    [project.entry-points."qom.plugins"]
    stopwatch = "qom_stopwatch"

Every class of that module marked by `@type_init` is a type of the plugin, without further ado.  What else it may hold:

- `QOM_API = "1.0"`: the plugin API it was written for; another major number, or a later minor one, is refused.
- `QOM_MODULES = ("i8254", "i8259")`: submodules to collect from as well.
- functions marked by `@hookimpl` named as the hook specifications below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from qom.registry import TypeInfo, TypeRegistry
    from qom.vm.vm import VirtualMachine

PROJECT = "qom"
API_VERSION = (1, 0)
"""Major: incompatible changes.  Minor: additions."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def qom_types() -> Iterable[type | TypeInfo]:  # type: ignore[empty-body]
    """Types of this plugin beyond the marked classes of its modules: classes made by a function, or records."""


@hookspec
def qom_register_types(registry: TypeRegistry) -> None:
    """Register by hand: aliases, types that depend on what the host has.  Called after `qom_types`.

    `registry` notes what is registered with this plugin's distribution as its origin.
    """


@hookspec
def qom_machine_created(vm: VirtualMachine) -> None:
    """A virtual machine exists, with nothing in it yet: the moment to add observers of all that comes (`vm.observe`).

    An implementation that raises is reported on standard error; the machine and the other plugins go on.
    """


@hookspec
def qom_machine_built(vm: VirtualMachine) -> None:
    """The machine has all its parts and devices, is about to be reset for the first time, and does not run yet."""


@hookspec
def qom_machine_closed(vm: VirtualMachine) -> None:
    """The machine was closed: unrealized, its threads ended, its tree empty."""
