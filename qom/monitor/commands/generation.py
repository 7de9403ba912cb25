"""The command that tells the identity of this run of a machine (vmgenid)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from qom.monitor import CommandError, command

if TYPE_CHECKING:
    from qom.vm import VirtualMachine


class GuidInfo(TypedDict):
    """The identity, a UUID."""

    guid: str


@command("query-vm-generation-id")
def query_vm_generation_id(vm: VirtualMachine) -> GuidInfo:
    """The identity of this run of the machine, which its guest sees by the vmgenid device."""
    found = vm.root.listed("vmgenid")
    if not found:
        raise CommandError("VM Generation ID device not found")
    return {"guid": found[0].guid}
