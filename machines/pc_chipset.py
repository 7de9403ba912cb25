"""The chipset of a PC as firmware leaves it, for a machine that starts an operating system without firmware.

What is set is what the tables claim (plugins/firmware/acpi.py, mptable.py) and what Linux expects to find done: shadow RAM
over E0000h-FFFFFh, PM registers at 600h and the SMBus host at 700h, PCI interrupts routed to ISA lines 10 and 11 and
level-triggered, the first DMA controller cascaded, the IDE channels decoded.  BARs stay unassigned: operating systems
place them by the windows in the DSDT.

Sources: Intel 290549 (82441FX), 290550 (PIIX3), 290562 (PIIX4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from qom.hw import PciDevice
from qom.hw import pci_config as pci

if TYPE_CHECKING:
    from machines.pc import PcMachine

__all__ = ["PM_BASE", "pci_routes", "set_up"]

PM_BASE: Final = 0x600
SMB_BASE: Final = 0x700
SCI: Final = 9
PIRQ_LINES: Final = (10, 10, 11, 11)  # of PIRQA# to PIRQD#
LEVEL_LINES: Final = (9, 10, 11)

# Configuration registers: i440FX, PIIX3, PIIX3 IDE, PIIX4 PM
PAM0, PAM5, PAM6 = 0x59, 0x5E, 0x5F
PAM_HIGH_RAM, PAM_BOTH_RAM = 0x30, 0x33
PIRQRC: Final = 0x60
IDETIM, IDE_DECODE = 0x40, 0x80008000  # both channels
PMBASE, PMREGMISC, SMBHSTBASE, SMBHSTCFG = 0x40, 0x80, 0x90, 0xD2
PMIOSE, SMB_ENABLED = 0x01, 0x09

ELCR: Final = 0x4D0
DMA2_MODE, DMA2_MASK_ONE, DMA_CASCADE = 0xD6, 0xD4, 0xC0  # channel 4, by which channels 0 to 3 are served
NO_PIN: Final = 0


def set_up(machine: PcMachine) -> None:
    """Program the chips that are there; the machine lock is held and no vCPU runs."""
    bridge = machine.chip("i440fx", "i440FX")
    if bridge is not None:
        bridge.config_write(PAM0, bridge.config[PAM0] | PAM_HIGH_RAM, 1)
        bridge.config_write(PAM5, PAM_BOTH_RAM, 1)
        bridge.config_write(PAM6, PAM_BOTH_RAM, 1)
    south = machine.chip("piix3", "PIIX3")
    if south is not None:
        for n, line in enumerate(PIRQ_LINES):
            south.config_write(PIRQRC + n, line, 1)
        levels = sum(1 << line for line in LEVEL_LINES)
        machine.system_bus.io_space.write(ELCR, levels & 0xFF, 1)
        machine.system_bus.io_space.write(ELCR + 1, levels >> 8, 1)
    if machine.chip("dma", "i8257") is not None:
        machine.system_bus.io_space.write(DMA2_MODE, DMA_CASCADE, 1)
        machine.system_bus.io_space.write(DMA2_MASK_ONE, 0, 1)
    ide = machine.chip("ide", "piix3-ide")
    if ide is not None:
        ide.config_write(IDETIM, IDE_DECODE, 4)
    pm = machine.chip("pm", "PIIX4_PM")
    if pm is not None:
        pm.config_write(PMBASE, PM_BASE, 4)
        pm.config_write(PMREGMISC, PMIOSE, 1)
        pm.config_write(SMBHSTBASE, SMB_BASE, 4)
        pm.config_write(SMBHSTCFG, SMB_ENABLED, 1)
    for device, line in _interrupts(machine):
        device.config_write(pci.INTERRUPT_LINE, line, 1)


def pci_routes(machine: PcMachine) -> Iterator[tuple[int, int, int]]:
    """(slot, pin from 0, line) of every PCI function on the first bus that has an interrupt pin, each once."""
    seen = set()
    for device, line in _interrupts(machine):
        route = device.slot, device.pin, line
        if route not in seen:
            seen.add(route)
            yield route


def _interrupts(machine: PcMachine) -> Iterator[tuple[Any, int]]:
    south, host = machine.chip("piix3", "PIIX3"), machine.chip("pcihost", "i440FX-pcihost")
    if south is None or host is None:
        return
    pm = machine.chip("pm", "PIIX4_PM")
    for device in machine.walk():
        if isinstance(device, PciDevice) and device.pci is south.pci and device.interrupt_pin != NO_PIN:
            if device is pm:
                yield device, SCI
            else:
                yield device, PIRQ_LINES[device.pci.irq_number(device.slot, device.pin)]
