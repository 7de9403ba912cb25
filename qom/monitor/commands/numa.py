"""set-numa-node: NUMA nodes and distances, before the board is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from qom.config.model import NumaDistance, NumaNode
from qom.monitor import Boxed, CommandError, Variants, command

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

PLACE = "set-numa-node"


class _Kind(TypedDict):
    type: Literal["node", "dist", "cpu"]


class _Node(TypedDict):
    nodeid: NotRequired[int]
    cpus: NotRequired[list[int]]
    mem: NotRequired[int]


class _Distance(TypedDict):
    src: int
    dst: int
    val: int


_Cpu = TypedDict(
    "_Cpu",
    {
        "node-id": NotRequired[int], "socket-id": NotRequired[int], "core-id": NotRequired[int],
        "thread-id": NotRequired[int],
    },
)  # fmt: skip

NumaOptions = Annotated[dict[str, Any], Boxed(Variants("type", _Kind, {"node": _Node, "dist": _Distance, "cpu": _Cpu}))]


@command("set-numa-node", preconfig=True, built=False)
def set_numa_node(vm: VirtualMachine, options: NumaOptions) -> None:
    """Add a node or a distance, or put processors into a node; the whole is checked when the board is built."""
    config = vm.config
    nodes = {node.nodeid: node for node in config.numa}
    if options["type"] == "node":
        _add_node(vm, nodes, options)
    elif options["type"] == "dist":
        for end in ("src", "dst"):
            _known(nodes, options[end], end)
        if not 10 <= options["val"] <= 255:
            raise CommandError(f"Parameter 'val' expects a distance from 10 to 255, got {options['val']}")
        if (options["src"] == options["dst"]) != (options["val"] == 10):
            raise CommandError("Parameter 'val' expects 10 for a node's distance to itself, and more for others")
        config.numa_distances = [
            d for d in config.numa_distances if (d.src, d.dst) != (options["src"], options["dst"])
        ] + [NumaDistance(options["src"], options["dst"], options["val"], PLACE)]
    else:
        _add_cpus(vm, nodes, options)


def _known(nodes: dict[int, NumaNode], wanted: int, member: str) -> NumaNode:
    if wanted not in nodes:
        there = ", ".join(map(str, nodes)) or "none yet"
        raise CommandError(f"Parameter '{member}' expects a node that exists: {there}; got {wanted}")
    return nodes[wanted]


def _add_node(vm: VirtualMachine, nodes: dict[int, NumaNode], options: dict[str, Any]) -> None:
    free = next(n for n in range(len(nodes) + 1) if n not in nodes)
    nodeid, cpus, mem = options.get("nodeid", free), options.get("cpus", []), options.get("mem")
    if not 0 <= nodeid < 128:
        raise CommandError(f"Parameter 'nodeid' expects a number from 0 to 127, got {nodeid}")
    if nodeid in nodes:
        raise CommandError(f"Duplicate NUMA nodeid: {nodeid}")
    for cpu in cpus:
        _free_cpu(vm, nodes, cpu)
    if mem is not None and (mem < 0 or mem % (1 << 20)):
        raise CommandError(f"Parameter 'mem' expects a multiple of 1 MiB, got {mem}")
    vm.config.numa.append(NumaNode(nodeid, list(cpus), mem, PLACE))


def _free_cpu(vm: VirtualMachine, nodes: dict[int, NumaNode], cpu: int) -> None:
    if not 0 <= cpu < vm.config.smp.maxcpus:
        raise CommandError(f"CPU index {cpu} should be smaller than maxcpus ({vm.config.smp.maxcpus})")
    holder = next((node.nodeid for node in nodes.values() if cpu in node.cpus), None)
    if holder is not None:
        raise CommandError(f"CPU {cpu} is in node {holder} already")


def _add_cpus(vm: VirtualMachine, nodes: dict[int, NumaNode], options: dict[str, Any]) -> None:
    if "node-id" not in options:
        raise CommandError("Missing mandatory node-id property")
    target = _known(nodes, options["node-id"], "node-id")
    smp = vm.config.smp
    found = [
        index
        for index in range(smp.maxcpus)
        if options.get("thread-id", index % smp.threads) == index % smp.threads
        and options.get("core-id", index // smp.threads % smp.cores) == index // smp.threads % smp.cores
        and options.get("socket-id", index // (smp.threads * smp.cores)) == index // (smp.threads * smp.cores)
    ]
    if not found:
        raise CommandError(
            f"no CPU has that place: expected socket-id below {smp.sockets}, core-id below {smp.cores},"
            f" thread-id below {smp.threads}"
        )
    for index in found:
        _free_cpu(vm, nodes, index)
    target.cpus.extend(found)
