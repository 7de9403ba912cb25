"""Commands about character devices: list, add, exchange, remove, send a break.

Not modelled: back ends for host serial and parallel ports, mice, vsock, TLS, websockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from qom.monitor import CommandError, Variants, command
from qom.vm import chardevs

if TYPE_CHECKING:
    from qom.options import Options
    from qom.vm import VirtualMachine
    from qom.vm.chardev import Chardev

ChardevInfo = TypedDict("ChardevInfo", {"label": str, "filename": str, "frontend-open": bool})


class BackendInfo(TypedDict):
    """A kind of character device."""

    name: str


class Common(TypedDict):
    """What every character device takes."""

    logfile: NotRequired[str]
    logappend: NotRequired[bool]


_File = TypedDict("_File", {"in": NotRequired[str], "out": str, "append": NotRequired[bool]})


class FileData(Common, _File):
    """Files: `out` is written to, `in` is read."""


class HostDevice(Common):
    """Something of the host's, by path."""

    device: str


class InetData(TypedDict):
    """A TCP or UDP address."""

    host: str
    port: str
    to: NotRequired[int]
    ipv4: NotRequired[bool]
    ipv6: NotRequired[bool]


class UnixData(TypedDict):
    """A unix socket's address."""

    path: str
    abstract: NotRequired[bool]
    tight: NotRequired[bool]


class FdData(TypedDict):
    """A socket that this process has, by number, or by the name that getfd gave it."""

    str: str


class Inet(TypedDict):
    """A TCP or UDP address."""

    data: InetData


class Unix(TypedDict):
    """A unix socket's address."""

    data: UnixData


class Fd(TypedDict):
    """A socket that this process has."""

    data: FdData


class AddressKind(TypedDict):
    """What kind of address it is."""

    type: Literal["inet", "unix", "fd"]


Address = Annotated[dict[str, Any], Variants("type", AddressKind, {"inet": Inet, "unix": Unix, "fd": Fd})]


class SocketData(Common):
    """A stream socket."""

    addr: Address
    server: NotRequired[bool]
    wait: NotRequired[bool]
    nodelay: NotRequired[bool]
    telnet: NotRequired[bool]
    reconnect: NotRequired[int]


class UdpData(Common):
    """Datagrams to `remote`, from `local`."""

    remote: Address
    local: NotRequired[Address]


class MuxData(Common):
    """A multiplexer on top of another character device."""

    chardev: str


class StdioData(Common):
    """Standard input and output."""

    signal: NotRequired[bool]


class RingData(Common):
    """A ring buffer in memory."""

    size: NotRequired[int]


class Plain(TypedDict):
    """A back end without facts of its own."""

    data: Common


class File(TypedDict):
    """See FileData."""

    data: FileData


class Host(TypedDict):
    """See HostDevice."""

    data: HostDevice


class Socket(TypedDict):
    """See SocketData."""

    data: SocketData


class Udp(TypedDict):
    """See UdpData."""

    data: UdpData


class Mux(TypedDict):
    """See MuxData."""

    data: MuxData


class Stdio(TypedDict):
    """See StdioData."""

    data: StdioData


class Ring(TypedDict):
    """See RingData."""

    data: RingData


class BackendKind(TypedDict):
    """What kind of back end it is."""

    type: Literal["file", "pipe", "socket", "udp", "pty", "null", "mux", "stdio", "console", "ringbuf", "memory"]


Backend = Annotated[
    dict[str, Any],
    Variants(
        "type",
        BackendKind,
        {
            "file": File,
            "pipe": Host,
            "socket": Socket,
            "udp": Udp,
            "pty": Plain,
            "null": Plain,
            "mux": Mux,
            "stdio": Stdio,
            "console": Plain,
            "ringbuf": Ring,
            "memory": Ring,
        },
    ),
]


class AddedInfo(TypedDict):
    """The name of the terminal, if that is what was made."""

    pty: NotRequired[str]


@command("query-chardev", preconfig=True)
def query_chardev(vm: VirtualMachine) -> list[ChardevInfo]:
    """The character devices, what is behind each, and whether something uses it."""
    found: dict[str, Any] = vm.root.container("/chardevs").children()
    return [
        {"label": name, "filename": each.filename(), "frontend-open": bool(each.users())}
        for name, each in found.items()
    ]


@command("query-chardev-backends", preconfig=True)
def query_chardev_backends(vm: VirtualMachine) -> list[BackendInfo]:
    """The kinds of character devices there are."""
    return [{"name": name.removeprefix("chardev-")} for name in vm.registry.names("chardev")]


@command("chardev-add", preconfig=True)
def chardev_add(vm: VirtualMachine, id: str, backend: Backend) -> AddedInfo:
    """Make a character device."""
    kind, props = _said(backend)
    return _added(chardevs.add(vm, id, kind, props))


@command("chardev-change", preconfig=True)
def chardev_change(vm: VirtualMachine, id: str, backend: Backend) -> AddedInfo:
    """Put another character device in the place of one, for the same front end."""
    kind, props = _said(backend)
    return _added(chardevs.change(vm, id, kind, props))


@command("chardev-remove", preconfig=True)
def chardev_remove(vm: VirtualMachine, id: str) -> None:
    """Close a character device that nothing uses, and take it out."""
    chardevs.remove(vm, id)


@command("chardev-send-break", preconfig=True)
def chardev_send_break(vm: VirtualMachine, id: str) -> None:
    """Have whatever uses a character device see a break."""
    chardevs.send_break(vm, id)


def _added(made: Chardev) -> AddedInfo:
    device = getattr(made, "device", "")
    return {"pty": device} if made.is_a("chardev-pty") and device else {}


_RENAMED: dict[str, dict[str, str]] = {"file": {"out": "path", "in": "input-path"}, "pipe": {"device": "path"}}
"""By kind, what goes by another name there."""


def _said(backend: dict[str, Any]) -> tuple[str, Options]:
    """The kind and the properties that `-chardev` would give."""
    kind: str = backend["type"]
    data: dict[str, Any] = backend["data"]
    renamed: dict[str, str] = _RENAMED.get(kind, {})
    props: Options = {renamed.get(name, name): value for name, value in data.items()}
    if kind == "socket":
        props |= _address(props.pop("addr"))
        if props.setdefault("wait", False):
            raise CommandError("Parameter 'wait' expects false: a command cannot wait for a client")
        props.setdefault("server", True)
    elif kind == "udp":
        remote, local = props.pop("remote"), props.pop("local", None)
        for each in (remote, local or remote):
            if each["type"] != "inet":
                raise CommandError(f"UDP sockets are of type inet: got {each['type']}")
        props |= _address(remote)
        if local is not None:
            props |= {"localaddr": local["data"]["host"], "localport": local["data"]["port"]}
    return kind, props


def _address(address: dict[str, Any]) -> Options:
    data = address["data"]
    return {"fd": data["str"]} if address["type"] == "fd" else dict(data)
