"""PCI functions as text: what they are, their BARs and interrupt, from configuration space as the guest has it."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["class_name", "pci_lines", "pci_summary"]

UNMAPPED: Final = 0xFFFFFFFFFFFFFFFF
_CLASSES: Final = {
    0x0001: "VGA controller", 0x0100: "SCSI controller", 0x0101: "IDE controller", 0x0102: "Floppy controller",
    0x0103: "IPI controller", 0x0104: "RAID controller", 0x0106: "SATA controller", 0x0107: "SAS controller",
    0x0180: "Storage controller", 0x0200: "Ethernet controller", 0x0201: "Token Ring controller",
    0x0280: "Network controller", 0x0300: "VGA controller", 0x0301: "XGA controller", 0x0302: "3D controller",
    0x0380: "Display controller", 0x0400: "Video controller", 0x0401: "Audio controller", 0x0402: "Phone",
    0x0403: "Audio controller", 0x0480: "Multimedia controller", 0x0500: "RAM controller", 0x0501: "Flash controller",
    0x0580: "Memory controller", 0x0600: "Host bridge", 0x0601: "ISA bridge", 0x0602: "EISA bridge",
    0x0603: "MC bridge", 0x0604: "PCI bridge", 0x0605: "PCMCIA bridge", 0x0606: "NUBUS bridge",
    0x0607: "CARDBUS bridge", 0x0608: "RACEWAY bridge", 0x0680: "Bridge", 0x0700: "Serial port",
    0x0701: "Parallel port", 0x0800: "Interrupt controller", 0x0801: "DMA controller", 0x0802: "Timer", 0x0803: "RTC",
    0x0900: "Keyboard", 0x0901: "Pen", 0x0902: "Mouse", 0x0A00: "Dock station", 0x0B00: "i386 cpu",
    0x0C00: "FireWire controller", 0x0C01: "Access bus controller", 0x0C02: "SSA controller", 0x0C03: "USB controller",
    0x0C04: "Fibre channel controller", 0x0C05: "SMBus",
}  # fmt: skip


def class_name(code: int) -> str:
    """What a class code (base class and subclass) is called."""
    return _CLASSES.get(code, f"Class {code:04d}" if code < 0 else f"Class {code:04x}")


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


def pci_lines(device: Any, *, id: str) -> list[str]:
    """The lines of `info pci` about a function."""
    slot, function = device.devfn >> 3, device.devfn & 7
    lines = [
        f"  Bus {device.bdf >> 8:2d}, device {slot:3d}, function {function}:",
        f"    {class_name(_word(device, 0xA))}: PCI device {_word(device, 0):04x}:{_word(device, 2):04x}",
    ]
    if _word(device, 0x2C) or _word(device, 0x2E):
        lines.append(f"      PCI subsystem {_word(device, 0x2C):04x}:{_word(device, 0x2E):04x}")
    if device.config[0x3D]:
        lines.append(f"      IRQ {device.config[0x3C]}, pin {chr(ord('A') + device.config[0x3D] - 1)}")
    for bar in _bars(device):
        at = UNMAPPED if bar.address is None else bar.address
        last = at + bar.size - 1 & UNMAPPED
        if bar.is_io:
            lines.append(f"      BAR{bar.number}: I/O at 0x{at:04x} [0x{last:04x}].")
        else:
            wide = "64 bit" if bar.wide else "32 bit"
            fetch = " prefetchable" if device.config[bar.offset] & 8 else ""
            lines.append(f"      BAR{bar.number}: {wide}{fetch} memory at 0x{at:08x} [0x{last:08x}].")
    return [*lines, f'      id "{id}"']
