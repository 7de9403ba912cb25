"""All commands and events there are in a registry: those in the box, found by name before their modules are imported,
and those that plugins bring.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qom.errors import PluginError, did_you_mean
from qom.monitor.declare import Command, CommandError, MonitorEvent
from qom.monitor.events import EVENTS

if TYPE_CHECKING:
    from qom.registry import TypeRegistry

__all__ = ["CommandTable"]


class CommandTable:
    """The commands and events of one registry.

    A module of commands is imported when one of them is first asked for (`QOM_COMMANDS` of a plugin says what is where).
    """

    def __init__(self, registry: TypeRegistry) -> None:
        self._extensions = registry.extensions
        self._found: dict[str, Command] = {}

    def names(self) -> list[str]:
        """The names of all commands, sorted."""
        return sorted({*self._extensions.command_modules, *self._extensions.commands})

    def __iter__(self) -> Iterator[Command]:
        return (self.find(name) for name in self.names())

    def find(self, name: str) -> Command:
        """The command of that name.

        Raises:
            CommandError: there is none (class CommandNotFound).
            PluginError: its module does not hold it.
        """
        found = self._found.get(name)
        if found is not None:
            return found
        module = self._extensions.command_modules.get(name)
        if module is not None:
            self._import(module)
            if name not in self._found:
                raise PluginError(
                    f"QOM_COMMANDS names '{name}' in {module}, where no function is marked as that command"
                )
            return self._found[name]
        brought = self._extensions.commands.get(name)
        if brought is not None:
            made = self._found[name] = Command.from_plugin(brought)
            return made
        near = did_you_mean(name, self.names())
        raise CommandError(f"The command {name} has not been found{near}", "CommandNotFound")

    def _import(self, module: str) -> None:
        for value in vars(importlib.import_module(module)).values():
            made = getattr(value, "__dict__", {}).get("_qom_command")
            if isinstance(made, Command) and made.name not in self._found:
                made.origin = self._extensions.origin_of_command(made.name)
                self._found[made.name] = made

    @property
    def events(self) -> dict[str, MonitorEvent]:
        """The events there are, by name."""
        return {**EVENTS, **self._extensions.events}
