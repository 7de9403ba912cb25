"""Descriptors that a client passes over its socket (SCM_RIGHTS): named ones, and sets that `/dev/fdset/N` stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from qom.monitor import CommandError, command

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

AddfdInfo = TypedDict("AddfdInfo", {"fdset-id": int, "fd": int})


class FdsetFdInfo(TypedDict):
    """One descriptor of a set."""

    fd: int
    opaque: NotRequired[str]


FdsetInfo = TypedDict("FdsetInfo", {"fdset-id": int, "fds": list[FdsetFdInfo]})


def _passed(monitor: Any) -> int:
    """The descriptor that came with the command."""
    fds: list[int] = [] if monitor is None else monitor.take_fds()
    if not fds:
        raise CommandError("No file descriptor supplied via SCM_RIGHTS")
    return fds[0]


@command("getfd", preconfig=True)
def getfd(vm: VirtualMachine, monitor: Any, fdname: str) -> None:
    """Name the descriptor that comes with this command, for `fd=NAME`."""
    vm.fdsets.give(fdname, _passed(monitor))


@command("closefd", preconfig=True)
def closefd(vm: VirtualMachine, fdname: str) -> None:
    """Close a named descriptor."""
    vm.fdsets.forget(fdname)


@command("add-fd", preconfig=True)
def add_fd(vm: VirtualMachine, monitor: Any, fdset_id: int | None = None, opaque: str | None = None) -> AddfdInfo:
    """Add the descriptor that comes with this command to a set, a new one without `fdset-id`."""
    if fdset_id is not None and fdset_id < 0:
        raise CommandError(f"Parameter 'fdset-id' expects a non-negative value, got {fdset_id}")
    info = vm.fdsets.add(_passed(monitor), fdset_id, opaque or "")
    return {"fdset-id": vm.fdsets.set_of(info), "fd": info.fd}


@command("remove-fd", preconfig=True)
def remove_fd(vm: VirtualMachine, fdset_id: int, fd: int | None = None) -> None:
    """Take a descriptor out of a set, or all of them."""
    vm.fdsets.remove(fdset_id, fd)


@command("query-fdsets", preconfig=True)
def query_fdsets(vm: VirtualMachine) -> list[FdsetInfo]:
    """The sets."""
    out: list[FdsetInfo] = []
    for found in vm.fdsets.query():
        fds: list[FdsetFdInfo] = []
        for info in found.fds:
            row: FdsetFdInfo = {"fd": info.fd}
            if info.opaque:
                row["opaque"] = info.opaque
            fds.append(row)
        out.append({"fdset-id": found.id, "fds": fds})
    return out
