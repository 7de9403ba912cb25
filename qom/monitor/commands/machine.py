"""Commands about the machine and its parts: types of machines, processors, memory, accelerators, what may be configured.

Not modelled, and so answered with empty lists: memory devices (DIMMs), I/O threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from qom.config import MachineConfig
from qom.config.probe import Probe
from qom.errors import PropertyError, did_you_mean
from qom.monitor import CommandError, command, service_of
from qom.options import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qom.registry import Type
    from qom.vm import VirtualMachine

Target = Literal["x86_64"]

MachineInfo = TypedDict(
    "MachineInfo",
    {
        "name": str,
        "alias": NotRequired[str],
        "is-default": NotRequired[bool],
        "cpu-max": int,
        "hotpluggable-cpus": bool,
        "numa-mem-supported": bool,
        "deprecated": bool,
        "default-cpu-type": NotRequired[str],
        "default-ram-id": NotRequired[str],
    },
)
CurrentMachine = TypedDict("CurrentMachine", {"wakeup-suspend-support": bool})
CpuProperties = TypedDict(
    "CpuProperties",
    {
        "node-id": NotRequired[int],
        "socket-id": NotRequired[int],
        "core-id": NotRequired[int],
        "thread-id": NotRequired[int],
    },
)
CpuInfo = TypedDict(
    "CpuInfo",
    {"cpu-index": int, "qom-path": str, "thread-id": int, "props": NotRequired[CpuProperties], "target": Target},
)
PossibleCpu = TypedDict(
    "PossibleCpu", {"type": str, "vcpus-count": int, "props": CpuProperties, "qom-path": NotRequired[str]}
)
CpuDefinition = TypedDict(
    "CpuDefinition",
    {
        "name": str,
        "migration-safe": NotRequired[bool],
        "static": bool,
        "unavailable-features": NotRequired[list[str]],
        "typename": str,
        "deprecated": bool,
    },
)


class CpuModel(TypedDict):
    """A model of processor, and the values of properties on top of it."""

    name: str
    props: NotRequired[dict[str, Any]]


class CpuExpansion(TypedDict):
    """What a model comes to."""

    model: CpuModel


MemorySizes = TypedDict("MemorySizes", {"base-memory": int, "plugged-memory": NotRequired[int]})
MemoryBackend = TypedDict(
    "MemoryBackend",
    {
        "id": NotRequired[str],
        "size": int,
        "merge": bool,
        "dump": bool,
        "prealloc": bool,
        "share": bool,
        "reserve": NotRequired[bool],
        "host-nodes": list[int],
        "policy": Literal["default"],
    },
)


class MemoryDevice(TypedDict):
    """A memory device; there is none."""

    type: Literal["dimm"]


class KvmInfo(TypedDict):
    """Whether KVM drives this machine, and whether it is there to be asked for."""

    enabled: bool
    present: bool


class Accelerators(TypedDict):
    """The accelerator of the machine and those there are."""

    enabled: str
    present: list[str]


class TargetInfo(TypedDict):
    """What is emulated."""

    arch: Target


IoThread = TypedDict(
    "IoThread",
    {
        "id": str,
        "thread-id": int,
        "poll-max-ns": int,
        "poll-grow": int,
        "poll-shrink": int,
        "aio-max-batch": int,
    },
)


class EventInfo(TypedDict):
    """An event's name."""

    name: str


class Parameter(TypedDict):
    """Something that an option takes."""

    name: str
    type: Literal["string", "boolean", "number", "size"]
    help: NotRequired[str]


class CommandLineOption(TypedDict):
    """An option with what it takes; without parameters it takes what depends on the type named in it."""

    option: str
    parameters: list[Parameter]


# -- the machine


@command("query-machines", preconfig=True)
def query_machines(vm: VirtualMachine) -> list[MachineInfo]:
    """The types of machines."""
    registry, answer = vm.registry, []
    default = registry.canonical(f"{MachineConfig().machine.type}-machine")
    for found in registry.types("machine", abstract=False):
        cls = found.cls
        made: MachineInfo = {
            "name": found.name.removesuffix("-machine"),
            "cpu-max": cls.max_cpus,
            "hotpluggable-cpus": cls.hotpluggable_cpus,
            "numa-mem-supported": cls.numa_mem_supported,
            "deprecated": False,
        }
        aliases = sorted(registry.aliases(found.name), key=len)
        if aliases:
            made["alias"] = aliases[0].removesuffix("-machine")
        if found.name == default:
            made["is-default"] = True
        if cls.default_cpu_type:
            made["default-cpu-type"] = cls.cpu_type_of(registry, cls.default_cpu_type)
        if cls.default_ram_id:
            made["default-ram-id"] = cls.default_ram_id
        answer.append(made)
    return answer


@command("query-current-machine", preconfig=True)
def query_current_machine(vm: VirtualMachine) -> CurrentMachine:
    """Whether the guest can sleep and be woken."""
    return {"wakeup-suspend-support": vm.machine.can_suspend}


@command("query-target", preconfig=True)
def query_target(vm: VirtualMachine) -> TargetInfo:
    """The architecture."""
    return {"arch": "x86_64"}


@command("query-kvm", preconfig=True)
def query_kvm(vm: VirtualMachine) -> KvmInfo:
    """Whether KVM drives this machine, and whether this program can use it."""
    accel = vm.machine.accel
    return {"enabled": accel is not None and accel.is_a("kvm-accel"), "present": "kvm-accel" in vm.registry}


@command("query-accelerators", preconfig=True)
def query_accelerators(vm: VirtualMachine) -> Accelerators:
    """The accelerator in use ("none" before there is one), and those there are (as in QEMU since 10.1)."""
    accel = vm.machine.accel
    names = [name.removesuffix("-accel") for name in vm.registry.names("accel")]
    return {"enabled": "none" if accel is None else accel.type_name.removesuffix("-accel"), "present": names}


# -- processors


@command("query-cpus-fast")
def query_cpus_fast(vm: VirtualMachine) -> list[CpuInfo]:
    """The processors there are; asking disturbs none."""
    answer: list[CpuInfo] = []
    for cpu in vm.cpus:
        made: CpuInfo = {
            "cpu-index": cpu.index,
            "qom-path": cpu.path,
            "thread-id": (cpu.thread.native_id or 0) if cpu.thread is not None else 0,
            "target": "x86_64",
        }
        place = vm.machine.cpu_place(cpu.index)
        if place:
            made["props"] = _place(place)
        answer.append(made)
    return answer


@command("query-hotpluggable-cpus", preconfig=True)
def query_hotpluggable_cpus(vm: VirtualMachine) -> list[PossibleCpu]:
    """Every place a processor may have (`-smp maxcpus`), with the processor that has it; the last place first."""
    if not type(vm.machine).hotpluggable_cpus:
        raise CommandError("machine does not support hot-plugging CPUs")
    there = {cpu.index: cpu for cpu in vm.cpus}
    type_name, answer = vm.machine.cpu_type_name(), []
    for index in reversed(range(vm.config.smp.maxcpus)):
        made: PossibleCpu = {
            "type": type_name,
            "vcpus-count": 1,
            "props": _place(vm.machine.cpu_place(index)),
        }
        if index in there:
            made["qom-path"] = there[index].path
        answer.append(made)
    return answer


def _place(place: dict[str, int]) -> CpuProperties:
    made: CpuProperties = {}
    for name in ("node-id", "socket-id", "core-id", "thread-id"):
        if name in place:
            made[name] = place[name]
    return made


def _models(vm: VirtualMachine) -> Iterator[tuple[str, Type]]:
    """The models of processors, by short name."""
    for found in vm.registry.types("cpu", abstract=False):
        yield found.name.removesuffix(f"-{found.parent}"), found


@command("query-cpu-definitions")
def query_cpu_definitions(vm: VirtualMachine) -> list[CpuDefinition]:
    """The models of processors, with the features of each that the accelerator of this machine cannot give."""
    probe, answer = Probe(vm.registry), []
    for name, found in _models(vm):
        with probe.instance(found) as cpu:
            answer.append(
                CpuDefinition(
                    {
                        "name": name,
                        "typename": found.name,
                        "static": False,
                        "migration-safe": cpu.same_everywhere,
                        "deprecated": False,
                        "unavailable-features": cpu.unavailable(vm.machine.accel),
                    }
                )
            )
    return answer


@command("query-cpu-model-expansion")
def query_cpu_model_expansion(vm: VirtualMachine, type: Literal["full", "static"], model: CpuModel) -> CpuExpansion:
    """All that a model of processor with these properties comes to under the accelerator of this machine.

    There are no static models (whose meaning never changes) to expand to: "static" gives what "full" does.
    """
    known = dict(_models(vm))
    found = known.get(model["name"])
    if found is None:
        raise CommandError(f"CPU model '{model['name']}' not found{did_you_mean(model['name'], known)}")
    with Probe(vm.registry).instance(found) as cpu:
        options = found.cls.options
        for name, value in model.get("props", {}).items():
            declared = cpu.class_properties.get(name)
            if declared is None or (options and name not in options):
                raise CommandError(f"Property '{found.name}.{name}' not found{did_you_mean(name, options)}")
            try:
                cpu.set(name, value)
            except PropertyError as error:
                text = f"Property '{found.name}.{name}' cannot be {shown(value)}: expected {error.expected}"
                raise CommandError(text) from None
        return {"model": {"name": model["name"], "props": cpu.expanded(vm.machine.accel)}}


# -- memory


@command("query-memory-size-summary", preconfig=True)
def query_memory_size_summary(vm: VirtualMachine) -> MemorySizes:
    """The sizes of the machine's memory, in bytes."""
    return {"base-memory": vm.machine.ram_size, "plugged-memory": 0}


@command("query-memdev", preconfig=True)
def query_memdev(vm: VirtualMachine) -> list[MemoryBackend]:
    """What is behind the guest's memory; none before the machine is built."""
    found = type(vm.machine).default_ram_id
    if not vm.built or not found:
        return []
    return [
        {
            "id": found,
            "size": vm.machine.ram_size,
            "merge": False,
            "dump": True,
            "prealloc": False,
            "share": False,
            "reserve": True,
            "host-nodes": [],
            "policy": "default",
        }
    ]


@command("query-memory-devices", preconfig=True)
def query_memory_devices(vm: VirtualMachine) -> list[MemoryDevice]:
    """Memory devices; none are modelled."""
    return []


@command("query-iothreads", preconfig=True)
def query_iothreads(vm: VirtualMachine) -> list[IoThread]:
    """I/O threads; none are modelled."""
    return []


# -- the program


@command("query-events", preconfig=True)
def query_events(vm: VirtualMachine) -> list[EventInfo]:
    """The names of all events (as in QEMU up to 6; query-qmp-schema says more)."""
    return [{"name": name} for name in sorted(service_of(vm).table.events)]


_NAMES = {"smp": "smp-opts", "boot": "boot-opts", "monitor": "mon"}
"""Sections of a configuration that go by another name among QEMU's options."""


@command("query-command-line-options", preconfig=True)
def query_command_line_options(vm: VirtualMachine, option: str | None = None) -> list[CommandLineOption]:
    """The options that take several parameters, with these; `option`: only that one."""
    from qom.config import SECTIONS
    from qom.config.schema import file_schema

    sections = file_schema(vm.registry)["properties"]
    answer: list[CommandLineOption] = []
    for name in (*SECTIONS, "global"):
        if name in sections and name not in ("part", "wire", "region"):
            parameters = [] if name in ("device", "object") else _parameters(sections[name])
            answer.append({"option": _NAMES.get(name, name), "parameters": parameters})
    if option is None:
        return answer
    found = [each for each in answer if each["option"] == option]
    if not found:
        raise CommandError(f"invalid option name: {option}{did_you_mean(option, [e['option'] for e in answer])}")
    return found


def _parameters(schema: dict[str, Any]) -> list[Parameter]:
    found: dict[str, Parameter] = {}
    _collect(schema, found)
    return list(found.values())


def _collect(schema: Any, into: dict[str, Parameter]) -> None:
    """Every property that a section of the file schema has, in whatever case of it."""
    if isinstance(schema, list):
        for each in schema:
            _collect(each, into)
    if not isinstance(schema, dict):
        return
    for name, said in schema.get("properties", {}).items():
        if name != "repeat" and name not in into:
            made: Parameter = {"name": name, "type": _kind(said)}
            if said.get("description"):
                made["help"] = said["description"]
            into[name] = made
    for word in ("then", "else", "items", "allOf", "anyOf", "oneOf"):
        _collect(schema.get(word), into)


def _kind(said: dict[str, Any]) -> Literal["string", "boolean", "number", "size"]:
    references = [said.get("$ref", ""), *(each.get("$ref", "") for each in said.get("anyOf", ()))]
    kinds = [said.get("type"), *(each.get("type") for each in said.get("anyOf", ()))]
    if "#/$defs/mebibytes" in references:
        return "size"
    if "#/$defs/switch" in references or "#/$defs/yes" in references or "boolean" in kinds:
        return "boolean"
    return "number" if "integer" in kinds or "number" in kinds else "string"
