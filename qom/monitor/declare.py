"""Commands and events of a monitor, declared by annotated functions and typed dicts.

    class VersionInfo(TypedDict):
        qemu: VersionTriple
        package: str

    @command("query-version", preconfig=True)
    def query_version(vm: VirtualMachine) -> VersionInfo:
        '''The version of the program.'''

The parameters after `vm` are the arguments: `cpu_index` is `cpu-index`, a trailing underscore is dropped, one with a
default is optional.  `Annotated[T, Named("name")]` gives a name that this does not.  `**rest` takes any other argument
(then they come with their own names).  A parameter named `monitor` is handed the session that asked.  One annotated
`Annotated[dict[str, Any], Boxed(Variants(...))]` is handed the whole argument object.

A command runs on the main loop's thread with the machine lock held; one that is `oob` may also run on the monitors'
thread while another command runs, without the lock, so it must not touch devices and must not wait.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qom.monitor.failure import CommandError, failures
from qom.monitor.qapi import ANY, EMPTY, Member, Struct, Type, of
from qom.properties import INT_RANGES, outer_name

if TYPE_CHECKING:
    from qom.extensions import MonitorCommand
    from qom.properties import Property
    from qom.vm.vm import VirtualMachine

__all__ = ["Boxed", "Command", "CommandError", "MonitorEvent", "Named", "arguments_of_properties", "command"]


CO_VARKEYWORDS = 8  # of a code object: it takes **words


class Named:
    """The name of an argument that is no Python name."""

    def __init__(self, name: str) -> None:
        self.name = name


class Boxed:
    """Marks the parameter that is handed all arguments as one object of this type."""

    def __init__(self, type: Any) -> None:
        self.type = type


class Command:
    """One command.

    name: as on the wire.  arguments, returns: their types.  desc: what it does.  oob: may be executed out of band.
    preconfig: may be executed before the machine is built.  built: may be executed after.
    origin: the distribution that brought it, "" for ours.
    """

    def __init__(
        self,
        name: str,
        handler: Callable[..., Any],
        *,
        oob: bool = False,
        preconfig: bool = False,
        built: bool = True,
        features: tuple[str, ...] = (),
    ) -> None:
        self.name, self.handler = name, handler
        self.oob, self.preconfig, self.built, self.features = oob, preconfig, built, features
        self.desc = handler.__doc__ or ""
        self.origin = ""
        self.types: tuple[Struct, Type] | None = None
        self._names: dict[str, str] = {}  # argument to parameter
        self._boxed = ""
        self._wants_monitor = False
        self._checks_itself = False

    @property
    def arguments(self) -> Struct:
        """The type of the argument object."""
        return self._typed()[0]

    @property
    def returns(self) -> Type:
        """The type of the answer."""
        return self._typed()[1]

    def _typed(self) -> tuple[Struct, Type]:
        if self.types is None:
            self.types = self._read_signature()
        return self.types

    def _read_signature(self) -> tuple[Struct, Type]:
        hints = typing.get_type_hints(
            self.handler, {**self.handler.__globals__, "VirtualMachine": Any}, include_extras=True
        )
        members: dict[str, Member] = {}
        code, defaults = self.handler.__code__, self.handler.__defaults__ or ()
        parameters = code.co_varnames[: code.co_argcount]
        open = bool(code.co_flags & CO_VARKEYWORDS)
        for name in parameters[1:]:
            if name == "monitor":
                self._wants_monitor = True
                continue
            hint = hints[name]
            outer = outer_name(name)
            for mark in getattr(hint, "__metadata__", ()):
                if isinstance(mark, Boxed):
                    self._boxed = name
                    boxed = of(typing.Annotated[dict[str, Any], mark.type])
                    assert isinstance(boxed, Struct)
                    return boxed, self._returned(hints)
                if isinstance(mark, Named):
                    outer = mark.name
            optional = name in parameters[len(parameters) - len(defaults) :]
            members[outer] = Member(of(_without_none(hint) if optional else hint), optional)
            self._names[outer] = name
        return (Struct(members, open=open) if members or open else EMPTY), self._returned(hints)

    @staticmethod
    def _returned(hints: Mapping[str, Any]) -> Type:
        answer = hints.get("return", None)
        return EMPTY if answer in (None, type(None)) else of(answer)

    def check(self, given: Mapping[str, Any]) -> None:
        """Hold arguments against their types.  Raises WrongArgument."""
        self.arguments.check(given, "")

    def call(self, vm: VirtualMachine, given: Mapping[str, Any], monitor: Any = None) -> Any:
        """Check the arguments, carry the command out, and return its answer ({} where it has none).

        Raises:
            QomError: the arguments are wrong, or the command failed.
        """
        if not self._checks_itself:
            self.check(given)
        words: dict[str, Any]
        words = {self._boxed: dict(given)} if self._boxed else {self._names.get(k, k): v for k, v in given.items()}
        if self._wants_monitor:
            words["monitor"] = monitor
        with failures(self.name, self.origin):
            answer = self.handler(vm, **words)
        return {} if answer is None and (self._checks_itself or self.returns is EMPTY) else answer

    @classmethod
    def from_plugin(cls, brought: MonitorCommand) -> Command:
        """The command that a plugin declared by properties (`qom_monitor_commands`)."""

        def call(vm: VirtualMachine, **given: Any) -> Any:
            return brought.call(vm, given)

        made = cls(brought.name, call)
        made.desc, made.origin = brought.help, brought.origin
        made._checks_itself = True  # against the properties, which say more
        made.types = (arguments_of_properties(brought.arguments), ANY)
        return made


class MonitorEvent:
    """An event: its name, the type of its data, and how often it may come.

    data: a TypedDict (or dict[str, int] and the like), None without any.
    every: seconds between two of a kind, 0 without a limit; of those in between the last is kept and sent late.
    key: the member of the data that tells kinds apart for this.
    """

    def __init__(self, name: str, data: Any = None, desc: str = "", *, every: float = 0.0, key: str = "") -> None:
        self.name, self.desc, self.every, self.key = name, desc, every, key
        self._data = data

    @property
    def data(self) -> Struct:
        """The type of its data; TypeError when it was declared with what is no type of an object."""
        if self._data is None:
            return EMPTY
        made = None if isinstance(self._data, dict) else of(self._data)
        if not isinstance(made, Struct):
            raise TypeError(f"its data is {self._data!r}: expected a TypedDict, dict[str, ...], or None")
        return made


def command(
    name: str,
    *,
    oob: bool = False,
    preconfig: bool = False,
    built: bool = True,
    features: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a function as a monitor command; see `Command` for the facts."""

    def mark(handler: Callable[..., Any]) -> Callable[..., Any]:
        made = Command(name, handler, oob=oob, preconfig=preconfig, built=built, features=features)
        handler.__dict__["_qom_command"] = made
        return handler

    return mark


def arguments_of_properties(declared: Mapping[str, Property]) -> Struct:
    """The argument object of a command whose arguments are declared as properties are."""
    if not declared:
        return EMPTY
    members: dict[str, Member] = {}
    for name, prop in declared.items():
        kind: Any = str
        if prop.kind in INT_RANGES:
            kind = int | str  # text is converted, as for a property
        elif prop.kind == "size":
            kind = int | str
        elif prop.kind in ("bool", "list", "dict"):
            kind = {"bool": bool | str, "list": list[Any], "dict": dict[str, Any]}[prop.kind]
        members[name] = Member(of(kind), not prop.required)
    return Struct(members)


def _without_none(hint: Any) -> Any:
    """`T | None` as T: an argument that is left out is None for the handler, which nobody can send."""
    marks = getattr(hint, "__metadata__", ())
    inner = typing.get_args(hint)[0] if marks else hint
    parts = [part for part in typing.get_args(inner) if part is not type(None)]
    if len(parts) == len(typing.get_args(inner)) or not parts:
        return hint
    made: Any = parts[0] if len(parts) == 1 else typing.Union[tuple(parts)]  # noqa: UP007
    return typing.Annotated[(made, *marks)] if marks else made
