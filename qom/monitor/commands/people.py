"""The commands for people, given by a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qom.monitor import CommandError, command

if TYPE_CHECKING:
    from qom.vm import VirtualMachine


@command("human-monitor-command")
def human_monitor_command(vm: VirtualMachine, command_line: str, cpu_index: int | None = None) -> str:
    """Carry out a command for people; the answer is its text, lines ending as on a terminal.

    `cpu-index` is the processor that it means.
    """
    from qom.monitor.hmp.declare import Hmp
    from qom.monitor.hmp.table import hmp_table

    hmp: Any = Hmp(vm, hmp_table(vm))
    if cpu_index is not None:
        if cpu_index not in [cpu.index for cpu in vm.cpus]:
            raise CommandError("Parameter 'cpu-index' expects a CPU number")
        hmp.cpu_index = cpu_index
    return str(hmp.table.run(command_line, hmp)).replace("\n", "\r\n")
