"""What every device is made of: device, bus, line, clock and timer, memory region and address space, reset.

No particular chip lives here.  A plugin uses what this package exports (most of it from `qom` directly, too).
"""

from __future__ import annotations

from qom.later import later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.blame import place_of, shown
    from qom.hw import pci_config
    from qom.hw.address_space import AddressSpace
    from qom.hw.bus import Bus, SysBusDevice, SystemBus, SystemSlot, find_bus
    from qom.hw.clock import NS_PER_SECOND, Clock, RunningClock, SteppedClock, Timer
    from qom.hw.device import Device, device_set_realized
    from qom.hw.fault import DeviceFault, Fault, ObserverFault
    from qom.hw.hotplug import HotplugHandler, event_data
    from qom.hw.interrupt_report import IoApicReport, LapicReport, PicReport
    from qom.hw.irq import Line, LineHandler, Pin, Route, SharedLine, or_line
    from qom.hw.isa import ISA_IRQS, DmaProvider, IsaBus, IsaDevice, IsaSlot
    from qom.hw.listener import FlatRange, MemoryListener, MemorySection
    from qom.hw.memory import RamBlock, Region, RegionError, RegionOwner
    from qom.hw.mtree import format_mtree
    from qom.hw.pci import PciDevice
    from qom.hw.pci_bus import PciBus, PciHostBridge
    from qom.hw.probe import Access, Exit, ExitProbe, Fail, LifeStep, LineChange, Observation, PropertySet
    from qom.hw.reset import Reset, Resettable, reset_tree, subtree
    from qom.hw.system import SystemControl, WakeReason


QOM_MODULES = ("device", "bus", "isa", "pci_bus", "pci")

__all__ = [
    "ISA_IRQS",
    "NS_PER_SECOND",
    "Access",
    "AddressSpace",
    "Bus",
    "Clock",
    "Device",
    "DeviceFault",
    "DmaProvider",
    "Exit",
    "ExitProbe",
    "Fail",
    "Fault",
    "FlatRange",
    "HotplugHandler",
    "IoApicReport",
    "IsaBus",
    "IsaDevice",
    "IsaSlot",
    "LapicReport",
    "LifeStep",
    "Line",
    "LineChange",
    "LineHandler",
    "MemoryListener",
    "MemorySection",
    "Observation",
    "ObserverFault",
    "PciBus",
    "PciDevice",
    "PciHostBridge",
    "PicReport",
    "Pin",
    "PropertySet",
    "RamBlock",
    "Region",
    "RegionError",
    "RegionOwner",
    "Reset",
    "Resettable",
    "Route",
    "RunningClock",
    "SharedLine",
    "SteppedClock",
    "SysBusDevice",
    "SystemBus",
    "SystemControl",
    "SystemSlot",
    "Timer",
    "WakeReason",
    "device_set_realized",
    "event_data",
    "find_bus",
    "format_mtree",
    "or_line",
    "pci_config",
    "place_of",
    "reset_tree",
    "shown",
    "subtree",
]

_LATER = {
    "qom.blame": ("place_of", "shown"),
    "qom.hw": ("pci_config",),
    "qom.hw.address_space": ("AddressSpace",),
    "qom.hw.bus": ("Bus", "SysBusDevice", "SystemBus", "SystemSlot", "find_bus"),
    "qom.hw.clock": ("NS_PER_SECOND", "Clock", "RunningClock", "SteppedClock", "Timer"),
    "qom.hw.device": ("Device", "device_set_realized"),
    "qom.hw.fault": ("DeviceFault", "Fault", "ObserverFault"),
    "qom.hw.hotplug": ("HotplugHandler", "event_data"),
    "qom.hw.interrupt_report": ("IoApicReport", "LapicReport", "PicReport"),
    "qom.hw.irq": ("Line", "LineHandler", "Pin", "Route", "SharedLine", "or_line"),
    "qom.hw.isa": ("ISA_IRQS", "DmaProvider", "IsaBus", "IsaDevice", "IsaSlot"),
    "qom.hw.listener": ("FlatRange", "MemoryListener", "MemorySection"),
    "qom.hw.memory": ("RamBlock", "Region", "RegionError", "RegionOwner"),
    "qom.hw.mtree": ("format_mtree",),
    "qom.hw.pci": ("PciDevice",),
    "qom.hw.pci_bus": ("PciBus", "PciHostBridge"),
    "qom.hw.probe": ("Access", "Exit", "ExitProbe", "Fail", "LifeStep", "LineChange", "Observation", "PropertySet"),
    "qom.hw.reset": ("Reset", "Resettable", "reset_tree", "subtree"),
    "qom.hw.system": ("SystemControl", "WakeReason"),
}

__getattr__, __dir__ = later(__name__, _LATER)
