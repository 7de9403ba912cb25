"""Recovery from peers that do not answer: connections that may be cut, out of band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from qom.monitor import CommandError, Variants, command
from qom.vm.chardev import FdChardev

if TYPE_CHECKING:
    from qom.vm import VirtualMachine


class _Kind(TypedDict):
    type: Literal["block-node", "chardev", "migration"]


class _Chardev(TypedDict):
    id: str


_BlockNode = TypedDict("_BlockNode", {"node-name": str})

YankInstance = Annotated[dict[str, Any], Variants("type", _Kind, {"chardev": _Chardev, "block-node": _BlockNode})]
"""Something whose connection can be cut; only character devices have one here."""


def _connections(vm: VirtualMachine) -> dict[str, FdChardev]:
    held = vm.root.container("/chardevs").children()
    found = {name: one for name, one in held.items() if isinstance(one, FdChardev) and one.is_a("chardev-socket")}
    return {name: one for name, one in found.items() if one.connected and not one.frontend.startswith("a QMP")}


@command("query-yank", oob=True, preconfig=True)
def query_yank(vm: VirtualMachine) -> list[YankInstance]:
    """The connections that can be cut: sockets of character devices with a peer (not those of QMP monitors)."""
    return [{"type": "chardev", "id": name} for name in _connections(vm)]


@command("yank", oob=True, preconfig=True)
def yank(vm: VirtualMachine, instances: list[YankInstance]) -> None:
    """Cut connections at once; each peer sees the end of its stream."""
    import socket

    there = _connections(vm)
    for instance in instances:
        if instance["type"] != "chardev" or instance["id"] not in there:
            what = instance.get("id", instance.get("node-name", instance["type"]))
            raise CommandError(f"Instance '{what}' not found: expected one of query-yank", "DeviceNotFound")
    for instance in instances:
        with socket.socket(fileno=there[instance["id"]].fd_in) as peer:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            finally:
                peer.detach()
