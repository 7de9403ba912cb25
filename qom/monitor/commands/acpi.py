"""What the guest reports by ACPI of devices that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qom.monitor import CommandError, command
from qom.monitor.events import ACPIOSTInfo

if TYPE_CHECKING:
    from qom.vm import VirtualMachine


@command("query-acpi-ospm-status")
def query_acpi_ospm_status(vm: VirtualMachine) -> list[ACPIOSTInfo]:
    """What the guest last reported (_OST) of each place for a processor: which event, and what came of it."""
    found: list[Any] = vm.root.listed("acpi-cpu-hotplug")
    if not found:
        raise CommandError("command is not supported, missing ACPI device")
    reports: list[ACPIOSTInfo] = found[0].reports()
    return reports
