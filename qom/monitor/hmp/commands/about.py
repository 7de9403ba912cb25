"""Help, and what the machine and the program are."""

from __future__ import annotations

from typing import Annotated, Any

from qom.errors import did_you_mean
from qom.monitor.hmp.arguments import Rest
from qom.monitor.hmp.declare import CommandError, Hmp, hmp_command


def _helped(hmp: Hmp, begun: str) -> list[str]:
    return hmp.table.first_words()


@hmp_command("help", aliases=("?",), preconfig=True)
def help_(hmp: Hmp, cmd: Annotated[str, Rest(complete=_helped)] = "") -> str:
    """show the help"""
    table = hmp.table
    words = cmd.split()
    if not words:
        lines = []
        for name in table.names():
            found = table.get(name) if not name.startswith("info ") else None
            if found is not None:
                lines.append(found.line)
        return "\n".join(lines)
    if words == ["info"]:
        return info(hmp) or ""
    name = " ".join(words[:2]) if words[0] == "info" else words[0]
    command = table.get(name)
    if command is None or len(words) > len(name.split()):
        raise CommandError(f"unknown command: '{cmd}'{did_you_mean(words[0], table.first_words())}")
    return command.line


@hmp_command("info", preconfig=True, usage="[subcommand]")
def info(hmp: Hmp) -> str:
    """show various information about the system state"""
    found = (hmp.table.get(f"info {topic}") for topic in hmp.table.topics())
    return "\n".join(command.line for command in found if command is not None)


@hmp_command("info version", preconfig=True)
def info_version(hmp: Hmp) -> str:
    """show the version of QEMU that this monitor is like, and that of the program"""
    found = hmp.qmp("query-version")
    numbers = found["qemu"]
    return f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}{found['package']}"


@hmp_command("info name", preconfig=True)
def info_name(hmp: Hmp) -> str:
    """show the current VM name"""
    return str(hmp.qmp("query-name").get("name", ""))


@hmp_command("info uuid", preconfig=True)
def info_uuid(hmp: Hmp) -> str:
    """show the current VM UUID"""
    return str(hmp.qmp("query-uuid")["UUID"])


@hmp_command("info status", preconfig=True)
def info_status(hmp: Hmp) -> str:
    """show the current VM status (running|paused)"""
    found = hmp.qmp("query-status")
    if found["running"]:
        return "VM status: running"
    state = found["status"]
    return "VM status: paused" + (f" ({state})" if state != "paused" else "")


@hmp_command("info kvm")
def info_kvm(hmp: Hmp) -> str:
    """show KVM information"""
    accel = getattr(hmp.vm.machine, "accel", None)
    used = accel is not None and accel.type_name == "kvm-accel"
    return f"kvm support: {'enabled' if used else 'disabled'}"


@hmp_command("info history", preconfig=True)
def info_history(hmp: Hmp) -> str:
    """show the command line history"""
    return "\n".join(f"{n}: '{line}'" for n, line in enumerate(hmp.history))


@hmp_command("info memory_size_summary")
def info_memory_size_summary(hmp: Hmp) -> str:
    """show the amount of initially allocated and present hotpluggable memory in bytes"""
    return f"base memory: {hmp.vm.machine.ram_size}\nplugged memory: 0"


@hmp_command("info numa")
def info_numa(hmp: Hmp) -> str:
    """show NUMA information"""
    nodes = hmp.vm.config.numa
    lines = [f"{len(nodes)} nodes"]
    for node in sorted(nodes, key=lambda node: node.nodeid):
        lines.append(f"node {node.nodeid} cpus:{''.join(f' {cpu}' for cpu in sorted(node.cpus))}")
        size = node.mem if node.mem is not None else hmp.vm.machine.ram_size if len(nodes) == 1 else 0
        lines += [f"node {node.nodeid} size: {size >> 20} MB", f"node {node.nodeid} plugged: 0 MB"]
    return "\n".join(lines)


@hmp_command("info exits")
def info_exits(hmp: Hmp) -> str:
    """show why the processors left the guest, counted by reason and processor"""
    accel: Any = hmp.vm.machine.accel
    counts = accel.exit_counts() if accel is not None else {}
    lines = []
    for cpu, halves in counts.items():
        for half, title in (("inner", "inside the accelerator"), ("user", "to user space")):
            for reason, number in sorted(halves[half].items(), key=lambda item: -item[1]):
                if number:
                    lines.append(f"CPU #{cpu} {title}: {reason.removeprefix('KVM_EXIT_')} {number}")
    return "\n".join(lines) or "no exits"
