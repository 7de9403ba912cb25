"""Commands that plugins declare for programs (`qom_monitor_commands`), given by a person: `ring times=3,loud=on`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from qom.monitor.hmp.arguments import Rest
from qom.monitor.hmp.declare import Hmp, HmpCommand
from qom.monitor.json_stream import dumps
from qom.options import parse_options

if TYPE_CHECKING:
    from qom.extensions import MonitorCommand

__all__ = ["command_of_plugin", "json_text"]


def json_text(value: object) -> str:
    """An answer of QMP as text, over several lines."""
    return dumps(value, pretty=True).decode()


def command_of_plugin(brought: MonitorCommand) -> HmpCommand:
    """The command for people of one that a plugin declared by properties."""

    def complete(hmp: Hmp, begun: str) -> Iterable[str]:
        head, comma, _ = begun.rpartition(",")
        return [f"{head}{comma}{name}=" for name in brought.arguments]

    def call(hmp: Hmp, args: Annotated[str, Rest(complete=complete)] = "") -> str | None:
        answer = hmp.qmp(brought.name, **parse_options(args))
        if isinstance(answer, str):
            return answer
        return None if answer is None or answer == {} else json_text(answer)

    call.__annotations__["args"] = Annotated[str, Rest(complete=complete)]
    call.__doc__ = brought.help
    usage = ",".join(f"{name}=..." if found.required else f"[{name}=...]" for name, found in brought.arguments.items())
    made = HmpCommand(brought.name, call, usage=usage)
    made.origin = brought.origin
    return made
