"""The memory and port maps as text: the trees of regions, or flat, as an access finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.hw.mtree import format_mtree

if TYPE_CHECKING:
    from qom.hw.address_space import AddressSpace
    from qom.vm.vm import VirtualMachine

__all__ = ["memory_text", "spaces"]


def memory_text(vm: VirtualMachine, flat: bool = False) -> str:
    """Memory, then I/O ports: the region trees in the manner of QEMU's `info mtree`, or with `flat` what is seen."""
    return "\n".join(format_mtree(space, flat=flat) for space in spaces(vm))


def spaces(vm: VirtualMachine) -> tuple[AddressSpace, AddressSpace]:
    """The two address spaces every machine has."""
    bus = vm.machine.system_bus
    return bus.memory_space, bus.io_space
