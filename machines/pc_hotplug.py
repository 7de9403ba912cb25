"""ACPI hotplug of a PC: what its controllers are told of the board, and what its firmware is told when processors change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machines.pc import PcMachine
    from qom import Cpu, Device

__all__ = ["BoardProcessors", "connect", "cpu_controller", "leaving", "pci_controller"]


class BoardProcessors:
    """The processors of a machine, by place (plugins/cpu/acpi_cpu_hotplug.py)."""

    def __init__(self, machine: PcMachine) -> None:
        self._machine = machine
        self._apic_ids = machine.possible_apic_ids()

    def apic_ids(self) -> Sequence[int]:
        """The local APIC id of each place."""
        return self._apic_ids

    def at(self, place: int) -> Cpu | None:
        """The processor there."""
        return next((cpu for cpu in self._machine.cpus if cpu.index == place), None)


def cpu_controller(machine: PcMachine) -> Any:
    """The controller for processors; None without."""
    return machine.chip("cpu-hotplug", "acpi-cpu-hotplug")


def pci_controller(machine: PcMachine) -> Any:
    """The controller for PCI devices; None without."""
    return machine.chip("pci-hotplug", "acpi-pci-hotplug")


def connect(machine: PcMachine) -> None:
    """Tell the controller for processors which there are and may be; they are all there."""
    controller = cpu_controller(machine)
    if controller is not None:
        controller.processors = BoardProcessors(machine)


def leaving(machine: PcMachine) -> list[Device]:
    """The PCI devices that the guest was asked for."""
    controller = pci_controller(machine)
    return controller.leaving() if controller is not None else []
