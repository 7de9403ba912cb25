"""query-pci: the PCI functions of a machine as its guest has configured them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

from qom.hw.pci import PciDevice
from qom.hw.pci_bus import PciBus
from qom.hw.pci_config import ROM_BAR
from qom.monitor import command

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

CLASSES = {
    0x0000: "Old device", 0x0100: "SCSI controller", 0x0101: "IDE controller", 0x0102: "Floppy controller",
    0x0106: "SATA controller", 0x0200: "Ethernet controller", 0x0300: "VGA controller", 0x0380: "Display controller",
    0x0403: "Audio device", 0x0500: "RAM controller", 0x0600: "Host bridge", 0x0601: "ISA bridge",
    0x0604: "PCI bridge", 0x0680: "Bridge", 0x0700: "Serial controller", 0x0780: "Communication controller",
    0x0880: "System peripheral", 0x0C03: "USB controller", 0x0C05: "SMBus", 0x00FF: "Unclassified",
}  # fmt: skip
"""Names of class codes (PCI Local Bus Specification 3.0, appendix D)."""


PciDeviceClass = TypedDict("PciDeviceClass", {"desc": NotRequired[str], "class": int})

PciDeviceId = TypedDict(
    "PciDeviceId",
    {"device": int, "vendor": int, "subsystem": NotRequired[int], "subsystem-vendor": NotRequired[int]},
)


class PciMemoryRegion(TypedDict):
    """One base address register; address -1 while it is not mapped."""

    bar: int
    type: Literal["io", "memory"]
    address: int
    size: int
    prefetch: NotRequired[bool]
    mem_type_64: NotRequired[bool]


class PciDeviceInfo(TypedDict):
    """One function."""

    bus: int
    slot: int
    function: int
    class_info: PciDeviceClass
    id: PciDeviceId
    irq: NotRequired[int]
    irq_pin: int
    qdev_id: str
    regions: list[PciMemoryRegion]


class PciInfo(TypedDict):
    """One bus."""

    bus: int
    devices: list[PciDeviceInfo]


def _function(device: PciDevice) -> PciDeviceInfo:
    word = device.config_word
    code = word(0x0A)
    ids: PciDeviceId = {"device": word(2), "vendor": word(0)}
    if word(0x2C) or word(0x2E):
        ids["subsystem"], ids["subsystem-vendor"] = word(0x2E), word(0x2C)
    known = CLASSES.get(code)
    made: PciDeviceInfo = {
        "bus": device.pci.number,
        "slot": device.slot,
        "function": device.devfn & 7,
        "class_info": {"class": code, **({"desc": known} if known else {})},  # type: ignore[typeddict-item]
        "id": ids,
        "irq_pin": word(0x3D, 1),
        "qdev_id": device.name or "" if device.parent is not None and device.parent.name == "peripheral" else "",
        "regions": [],
    }
    if made["irq_pin"]:
        made["irq"] = word(0x3C, 1)
    for bar in sorted(device.bars.values(), key=lambda one: 6 if one.number == ROM_BAR else one.number):
        row: PciMemoryRegion = {
            "bar": 6 if bar.number == ROM_BAR else bar.number,
            "type": "io" if bar.is_io else "memory",
            "address": -1 if bar.address is None else bar.address,
            "size": bar.size,
        }
        if not bar.is_io:
            row["prefetch"] = bool(word(bar.offset, 1) & 8) and bar.number != ROM_BAR
            row["mem_type_64"] = bar.wide
        made["regions"].append(row)
    return made


@command("query-pci")
def query_pci(vm: VirtualMachine) -> list[PciInfo]:
    """Every PCI bus with its functions, their identities and base addresses."""
    found: list[PciInfo] = []
    for bus in vm.buses():
        if isinstance(bus, PciBus):
            functions = [_function(bus.functions[number]) for number in sorted(bus.functions)]
            found.append({"bus": bus.number, "devices": functions})
    return found
