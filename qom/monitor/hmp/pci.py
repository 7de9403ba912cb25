"""PCI functions as text for `info qtree`: what they are and their BARs, from configuration space as the guest has it."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["class_name", "pci_summary"]

UNMAPPED: Final = 0xFFFFFFFFFFFFFFFF


def class_name(code: int) -> str:
    """What a class code (base class and subclass) is called."""
    from qom.monitor.commands.pci import CLASSES

    return CLASSES.get(code, f"Class {code:04d}")


def _word(device: Any, offset: int) -> int:
    return int.from_bytes(device.config[offset : offset + 2], "little")


def _bars(device: Any) -> list[Any]:
    return [bar for _, bar in sorted(getattr(device, "bars", {}).items())]


def pci_summary(device: Any) -> list[str]:
    """The lines of `info qtree` about a function."""
    config, subsystem = (_word(device, 0), _word(device, 2)), (_word(device, 0x2C), _word(device, 0x2E))
    slot, function = device.devfn >> 3, device.devfn & 7
    lines = [
        f"class {class_name(_word(device, 0xA))}, addr {device.bdf >> 8:02x}:{slot:02x}.{function},"
        f" pci id {config[0]:04x}:{config[1]:04x} (sub {subsystem[0]:04x}:{subsystem[1]:04x})"
    ]
    for bar in _bars(device):
        kind = "i/o" if bar.is_io else "mem"
        at = UNMAPPED if bar.address is None else bar.address
        last = "" if bar.address is None else f"-{at + bar.size - 1:#x}"
        lines.append(
            f"bar {bar.number}: {kind} at {at:#x}{last} [{bar.size - 1 if bar.address is None else bar.size:#x}]"
        )
    return lines
