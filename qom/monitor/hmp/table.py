"""All commands for people there are in a machine's registry, and the carrying out of a line.

Names come from the index (`commands/__init__.py` for the box, `QOM_HMP_COMMANDS` for plugins); a module is imported when
one of its commands is first used, or help is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from qom.blame import passes, place_of, shown
from qom.errors import PluginError, QomError, did_you_mean
from qom.extensions import HMP_ORIGIN
from qom.monitor.declare import CommandError
from qom.monitor.hmp.arguments import Format, Line
from qom.monitor.hmp.commands import HMP_COMMANDS
from qom.monitor.hmp.declare import Hmp, HmpCommand, UsageError
from qom.monitor.service import service_of
from qom.vm.runstate import RunState

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["HmpTable", "hmp_table"]

INFO = "info"


class HmpTable:
    """The commands of one machine.

    format: what `x/4xw` said last, for all of its monitors.  ejected: by drive, the name of the medium that was in it.
    """

    def __init__(self, vm: VirtualMachine) -> None:
        self.vm = vm
        self.format = Format()
        self.ejected: dict[str, str] = {}
        self._modules: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        self._found: dict[str, HmpCommand] = {}
        self._extensions = vm.registry.extensions
        for submodule, names in HMP_COMMANDS.items():
            for name in names:
                self._add(name, f"qom.monitor.hmp.commands.{submodule}")
        for name, module in self._extensions.hmp_modules.items():
            self._add(name, module)

    def _add(self, names: str, module: str) -> None:
        first, *others = names.split("|")
        if first in self._modules or first in self._aliases:
            return  # the box's own stays
        self._modules[first] = module
        for other in others:
            self._aliases.setdefault(other, first)

    def names(self) -> list[str]:
        """The names of all commands, sorted; those below info as "info NAME"."""
        return sorted({*self._modules, *self._extensions.commands})

    def first_words(self) -> list[str]:
        """What a line can begin with."""
        words = {name for name in self.names() if not name.startswith("info ")}
        return sorted({*words, *self._aliases})

    def topics(self) -> list[str]:
        """What can stand after info."""
        return [name.removeprefix("info ") for name in self.names() if name.startswith("info ")]

    def get(self, name: str) -> HmpCommand | None:
        """The command of that name; None if there is none.

        Raises:
            PluginError: its module does not hold it.
        """
        name = self._aliases.get(name, name)
        found = self._found.get(name)
        if found is None and name in self._modules:
            self._import(self._modules[name])
            if name not in self._found:
                raise PluginError(f"'{name}' is named for {self._modules[name]}, where no function is marked as it")
            found = self._found[name]
        if found is None and name in self._extensions.commands:
            from qom.monitor.hmp.plugin_command import command_of_plugin

            found = self._found[name] = command_of_plugin(self._extensions.commands[name])
        if found is None:
            from qom.monitor.hmp.not_modelled import command_not_modelled

            found = command_not_modelled(name)
        return found

    def _import(self, module: str) -> None:
        for value in vars(importlib.import_module(module)).values():
            made = getattr(value, "__dict__", {}).get("_qom_hmp")
            if isinstance(made, HmpCommand) and made.name not in self._found:
                made.origin = self._extensions.origin_of_command(f"{HMP_ORIGIN}{made.name}")
                self._found[made.name] = made

    def find(self, line: str) -> tuple[HmpCommand, int]:
        """The command that a line is for, and where its arguments begin.

        Raises:
            CommandError: there is none.
        """
        start = len(line) - len(line.lstrip())
        end = _end_of_word(line, start)
        name = line[start:end]
        if name == INFO:
            topic_at = end + len(line[end:]) - len(line[end:].lstrip())
            topic_end = _end_of_word(line, topic_at)
            topic = line[topic_at:topic_end]
            if topic:
                found = self.get(f"info {topic}")
                if found is None:
                    raise CommandError(f"unknown command: 'info {topic}'{did_you_mean(topic, self.topics())}")
                return found, topic_end
        found = self.get(name) if not name.startswith("info ") else None
        if found is None:
            raise CommandError(f"unknown command: '{name}'{did_you_mean(name, self.first_words())}")
        return found, end

    def run(self, line: str, hmp: Hmp) -> str:
        """Carry out a line, and return what it shows: an error too is text.  Every line of it ends."""
        if not line.strip():
            return ""
        try:
            command, at = self.find(line)
            if self.vm.run_state is RunState.PRECONFIG and not command.preconfig:
                raise CommandError(f"Command '{command.name}' not available with -preconfig until after exit_preconfig")
            text = command.call(Line(line, at, hmp, command.name.removeprefix("info ")))
        except UsageError as error:
            text = f'{error}\nTry "help {line[:at].strip()}" for more information'
        except CommandError as error:
            text = str(error)
        except QomError as error:
            text = f"Error: {error}"
        except BaseException as error:  # ours, or a plugin's: whoever typed hears of it, and the machine lives on
            if passes(error):
                raise
            text = f"Error: internal error: {shown(error)}, at {place_of(error)}"
        finally:
            hmp.forget()
        return text if not text or text.endswith("\n") else text + "\n"


def hmp_table(vm: VirtualMachine) -> HmpTable:
    """The commands of `vm`; made when first asked for."""
    service = service_of(vm)
    if service.hmp is None:
        service.hmp = HmpTable(vm)
    assert isinstance(service.hmp, HmpTable)
    return service.hmp


def _end_of_word(line: str, at: int) -> int:
    ends: Callable[[str], bool] = lambda letter: letter.isspace() or letter == "/"  # noqa: E731
    while at < len(line) and not ends(line[at]):
        at += 1
    return at
