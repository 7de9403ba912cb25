"""A PC that starts its kernel without firmware (`-bios none`).

After every reset the loader does what firmware and a boot loader would have done: it puts the tables, the kernel and what
belongs to it into memory, sets the memory types, and puts the first processor at the kernel's entry.  The other processors
wait for their start-up IPI, as after any reset.  A guest that was suspended to RAM goes on where its tables say, instead.
Not done: option ROMs, addresses for PCI devices (an operating system that knows PCI assigns them), BIOS services.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from accel import load_kernel_entry, load_waking_vector
from machines import pc_chipset, pc_firmware
from plugins.firmware.kernel import DirectStart, Kernel, Memory, Request, kernel_placed, open_kernel
from qom import records

if TYPE_CHECKING:
    from machines.pc import PcMachine

__all__ = ["DirectLoader", "loader_of"]

MIB: Final = 1 << 20
FOUR_GIB: Final = 1 << 32

# Memory types (Intel SDM vol. 3, 11.11): RAM is write-back, what lies above it below 4 GiB is uncached.
MTRR_DEF_TYPE, MTRR_BASE_0, MTRR_MASK_0 = 0x2FF, 0x200, 0x201
MTRR_FIXED_RAM, MTRR_FIXED_ADAPTER = (0x250, 0x258), (0x259,)
MTRR_FIXED_ROM: Final = tuple(range(0x268, 0x270))
ENABLED, FIXED_ENABLED, VALID = 1 << 11, 1 << 10, 1 << 11
WRITE_BACK, WRITE_PROTECTED, UNCACHED = 6, 5, 0
ADDRESS_BITS: Final = 40  # MAXPHYADDR of the smallest model

FACS_WAKING_VECTOR: Final = 12  # offset

LONG_MODE: Final = (0x8000_0001, 1 << 29)  # CPUID leaf, bit of EDX


def loader_of(machine: PcMachine) -> DirectLoader:
    """The loader of a machine that has no firmware.

    Raises:
        ConfigError: its kernel cannot be started.
    """
    config = machine.vm.config
    assert config.kernel is not None  # PcMachine.refusals
    with kernel_placed(config.origin_of):
        found = DirectLoader(
            machine,
            open_kernel(config.kernel, machine.vm.read_file),
            Request(initrd=config.initrd, append=config.append or "", read=machine.vm.read_file),
        )
        found.plan(pc_firmware.e820_map(machine), 0)  # what does not fit is said now, not at the first reset
    return found


@records.define
class DirectLoader:
    """Starts the kernel of a machine without firmware.

    facs: address of the ACPI table in which the guest leaves its waking vector; 0 without tables.
    """

    machine: PcMachine
    kernel: Kernel
    request: Request
    facs: int = 0

    def load(self) -> None:
        """Fill memory and load the first processor's state; the machine has just been reset."""
        machine = self.machine
        self._set_all_memory_types()
        tables = pc_firmware.place_tables(machine)
        self.facs = tables.facs
        start = self.plan(tables.e820, tables.rsdp)
        memory = machine.system_bus.memory_space
        for chunk in start.chunks:
            memory.write_bytes(chunk.address, chunk.data)
        first = machine.cpus[0] if machine.cpus else None
        if first is not None and first.vcpu is not None:
            load_kernel_entry(first.vcpu, entry=start.entry, registers=start.registers, gdt=start.gdt, cr3=start.cr3)

    def resume(self) -> None:
        """Go on at the guest's waking vector, or begin anew if it left none; the machine has just been woken."""
        memory = self.machine.system_bus.memory_space
        vector = memory.read(self.facs + FACS_WAKING_VECTOR, 4) if self.facs else 0
        if not vector:
            self.load()
            return
        self._set_all_memory_types()
        pc_chipset.set_up(self.machine)
        first = self.machine.cpus[0] if self.machine.cpus else None
        if first is not None and first.vcpu is not None:
            load_waking_vector(first.vcpu, vector)

    def plan(self, e820: list[tuple[int, int, int]], rsdp: int) -> DirectStart:
        """What lies where."""
        memory = Memory(below=self.machine.below_4g, map=e820, rsdp=rsdp)
        return self.kernel.direct(self.request, memory, long_mode=self._has_long_mode())

    def _has_long_mode(self) -> bool:
        for cpu in self.machine.cpus[:1]:
            if cpu.vcpu is not None:
                leaf, bit = LONG_MODE
                return any(entry.function == leaf and entry.edx & bit for entry in cpu.vcpu.get_cpuid())
        return True

    def _set_all_memory_types(self) -> None:
        for cpu in self.machine.cpus:
            if cpu.vcpu is not None:
                self._set_memory_types(cpu)

    def _set_memory_types(self, cpu: Any) -> None:
        """As firmware leaves them."""
        hole = FOUR_GIB - (MIB << 9 if self.machine.below_4g > FOUR_GIB - (MIB << 10) else MIB << 10)
        values = {
            MTRR_BASE_0: hole | UNCACHED,
            MTRR_MASK_0: (1 << ADDRESS_BITS) - (FOUR_GIB - hole) | VALID,
            MTRR_DEF_TYPE: ENABLED | FIXED_ENABLED | WRITE_BACK,
        }
        values |= dict.fromkeys(MTRR_FIXED_RAM, _eight(WRITE_BACK))
        values |= dict.fromkeys(MTRR_FIXED_ADAPTER, _eight(UNCACHED))
        values |= dict.fromkeys(MTRR_FIXED_ROM, _eight(WRITE_PROTECTED))
        cpu.vcpu.set_msrs(values)


def _eight(kind: int) -> int:
    """A fixed-range register with one type in all eight fields."""
    return int.from_bytes(bytes((kind,)) * 8, "little")
