"""Commands of the monitor for people, declared by annotated functions.

    @hmp_command("info mtree")
    def info_mtree(hmp: Hmp, flat: Annotated[bool, Flag("f", "flat view")] = False) -> str:
        '''show memory tree'''

The first parameter is handed who asks (`Hmp`); the others are the arguments, each by its annotation (`arguments.py`); one
with a default may be left out.  What is returned is shown, None shows nothing.  The docstring is the help.

A command runs on the main loop's thread with the machine lock held.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qom.errors import QomError
from qom.monitor.failure import CommandError, failures
from qom.monitor.hmp.arguments import Flag, Form, Format, Line
from qom.monitor.service import service_of

if TYPE_CHECKING:
    from qom.monitor.hmp.table import HmpTable
    from qom.vm.cpu import Cpu
    from qom.vm.vm import VirtualMachine

__all__ = ["CommandError", "Hmp", "HmpCommand", "UsageError", "hmp_command"]


class UsageError(CommandError):
    """The arguments are wrong; help of the command is recommended."""


class Hmp:
    """Who gives commands: a monitor, or `human-monitor-command`.

    vm: the machine.  cpu_index: the processor that registers and addresses are of.  history: the lines given so far.
    format: what `x/4xw` said last.  words: while Tab is served, the arguments before the one that is completed.
    """

    def __init__(self, vm: VirtualMachine, table: HmpTable, cpu_index: int = 0) -> None:
        self.vm, self.table, self.cpu_index = vm, table, cpu_index
        self.history: list[str] = []
        self.words: list[str] = []
        self.format = table.format
        self._registers: dict[str, int] | None = None

    @property
    def cpu(self) -> Cpu:
        """The monitor's processor.  Raises CommandError: the machine has none of that index."""
        found = next((cpu for cpu in self.vm.cpus if cpu.index == self.cpu_index), None) if self.built else None
        if found is None:
            found = self.vm.cpus[0] if self.built and self.vm.cpus else None
        if found is None:
            raise CommandError("No CPU available")
        return found

    @property
    def built(self) -> bool:
        """Whether the board is there."""
        return self.vm.built

    def registers(self) -> dict[str, int]:
        """The registers of the monitor's processor, of one moment in a command."""
        if self._registers is None:
            self._registers = self.cpu.registers.read()
        return self._registers

    def forget(self) -> None:
        """A command ends: what was read for it is old now."""
        self._registers = None

    def qmp(self, name: str, **arguments: Any) -> Any:
        """The answer of a QMP command; `a_b` is argument `a-b`.  Raises QomError."""
        return self.call(name, {key.rstrip("_").replace("_", "-"): value for key, value in arguments.items()})

    def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The same, with all arguments in one.  Raises QomError, which the monitor shows after "Error: "."""
        service = service_of(self.vm)
        try:
            return service.call(service.table.find(name), arguments or {})
        except CommandError as error:
            raise QomError(str(error)) from None  # no mistake of whoever typed: said as QEMU does


class HmpCommand:
    """One command.

    name: as written, "info mtree" for one below info.  aliases: other names.  help: what it does.
    origin: the distribution that brought it, "" for ours.
    """

    def __init__(
        self,
        name: str,
        handler: Callable[..., str | None],
        *,
        aliases: tuple[str, ...] = (),
        preconfig: bool = False,
        usage: str | None = None,
    ) -> None:
        self.name, self.handler, self.aliases, self.preconfig = name, handler, aliases, preconfig
        self.help = " ".join((handler.__doc__ or "").split()).rstrip(".")
        self.origin = ""
        self._usage = usage
        self._forms: dict[str, tuple[Form, bool]] | None = None

    @property
    def shown(self) -> str:
        """Its names."""
        return "|".join((self.name, *self.aliases))

    @property
    def short(self) -> str:
        """The same, for messages: without the info before it."""
        return self.shown.removeprefix("info ")

    @property
    def forms(self) -> dict[str, tuple[Form, bool]]:
        """By parameter: the form of the argument, and whether it may be left out."""
        if self._forms is None:
            self._forms = self._read_signature()
        return self._forms

    @property
    def usage(self) -> str:
        """How its arguments are written."""
        if self._usage is not None:
            return self._usage
        return " ".join(form.usage(name, optional) for name, (form, optional) in self.forms.items())

    @property
    def line(self) -> str:
        """Its line of help."""
        flags = [form for form, _ in self.forms.values() if isinstance(form, Flag)]
        what = f" ({'; '.join(f'-{flag.letter}: {flag.what}' for flag in flags)})" if flags else ""
        return f"{self.shown} {self.usage} -- {self.help}{what}"

    def _read_signature(self) -> dict[str, tuple[Form, bool]]:
        handler = self.handler
        hints = typing.get_type_hints(handler, {**handler.__globals__, "Hmp": Hmp}, include_extras=True)
        code, defaults = handler.__code__, handler.__defaults__ or ()
        names = code.co_varnames[: code.co_argcount]
        forms: dict[str, tuple[Form, bool]] = {}
        for name in names[1:]:
            hint = hints[name]
            optional = name in names[len(names) - len(defaults) :]
            marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Form)]
            if hint is Format:
                marks = [Format()]
            if not marks:
                raise TypeError(
                    f"command '{self.name}': parameter '{name}' says no form: expected Annotated[..., Word()]"
                )
            forms[name] = (marks[0], optional or isinstance(marks[0], Flag))
        return forms

    def read(self, line: Line) -> dict[str, Any]:
        """The arguments on a line, by parameter.  Raises CommandError."""
        values: dict[str, Any] = {}
        flags: dict[str, str] = {}
        for name, (form, optional) in self.forms.items():
            if isinstance(form, Flag):
                flags[form.letter] = name
                values[name] = False
                continue
            if flags:
                self._read_flags(line, flags, values)
                flags = {}
            if optional and line.ended:
                continue
            values[name] = form.take(line)
        if flags:
            self._read_flags(line, flags, values)
        if not line.ended:
            raise UsageError(f"{self.short}: extraneous characters at the end of line")
        return values

    def _read_flags(self, line: Line, flags: dict[str, str], values: dict[str, Any]) -> None:
        while not line.ended and line.text[line.at] == "-" and line.text[line.at + 1 : line.at + 2].strip():
            word = line.word()
            for letter in word[1:]:
                if letter not in flags:
                    known = ", ".join(f"-{known}" for known in flags)
                    raise UsageError(f"{self.short}: unsupported option -{letter}: expected {known}")
                values[flags[letter]] = True

    def call(self, line: Line) -> str:
        """Carry it out with the arguments on a line; what it shows.

        Raises:
            QomError: the arguments are wrong (UsageError), or it failed.
        """
        try:
            values = self.read(line)
        except UsageError:
            raise
        except CommandError as error:
            raise UsageError(str(error)) from None
        with failures(self.name, self.origin):
            return self.handler(line.hmp, **values) or ""


def hmp_command(
    name: str, *, aliases: tuple[str, ...] = (), preconfig: bool = False, usage: str | None = None
) -> Callable[[Callable[..., str | None]], Callable[..., str | None]]:
    """Mark a function as a command of the monitor for people.

    Args:
        name: what is typed; "info NAME" for one below info.
        aliases: other names of it.
        preconfig: whether it is of use before the board is built.
        usage: how its arguments are written, where that is not what the annotations say.
    """

    def mark(handler: Callable[..., str | None]) -> Callable[..., str | None]:
        handler.__dict__["_qom_hmp"] = HmpCommand(name, handler, aliases=aliases, preconfig=preconfig, usage=usage)
        return handler

    return mark
