"""Commands about the protocol itself: negotiation, versions, what commands there are, their schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from qom.monitor import CommandError, Open, command, service_of
from qom.monitor.schema import schema
from qom.monitor.version import version_info

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

Capability = Literal["oob"]


class VersionTriple(TypedDict):
    """Three numbers."""

    major: int
    minor: int
    micro: int


class VersionInfo(TypedDict):
    """The QEMU whose commands these are, and the program that is asked."""

    qemu: VersionTriple
    package: str


class CommandInfo(TypedDict):
    """A command's name."""

    name: str


@command("qmp_capabilities", preconfig=True)
def qmp_capabilities(vm: VirtualMachine, monitor: Any, enable: list[Capability] | None = None) -> None:
    """Leave negotiation: the client enables what it wants of what the greeting offered, and may give commands then."""
    if monitor is None:
        raise CommandError("qmp_capabilities is a command of a QMP session: expected on one")
    monitor.oob = "oob" in (enable or ())
    monitor.commands_mode = True


@command("query-version", preconfig=True)
def query_version(vm: VirtualMachine) -> VersionInfo:
    """The versions of QEMU's protocol and of this program."""
    found = version_info()
    return {"qemu": found["qemu"], "package": found["package"]}


@command("query-commands", preconfig=True)
def query_commands(vm: VirtualMachine) -> list[CommandInfo]:
    """The names of all commands."""
    return [{"name": name} for name in service_of(vm).table.names()]


_SchemaEntry = TypedDict(
    "_SchemaEntry",
    {"name": str, "meta-type": Literal["builtin", "enum", "array", "object", "alternate", "command", "event"]},
)


@command("query-qmp-schema", preconfig=True)
def query_qmp_schema(vm: VirtualMachine) -> list[Annotated[dict[str, Any], Open(_SchemaEntry)]]:
    """The types of all commands and events: made from their declarations."""
    return schema(service_of(vm).table)
