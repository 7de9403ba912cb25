"""QEMU's architecture as a Python framework: what a plugin may use is what this package exports.

Everything is loaded when it is first asked for, so that whoever only looks whether qom is there (a pytest plugin that is not
used) pays nothing.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom.config import ChardevEntry, ConfigBuilder, DeviceEntry, DriveEntry, MachineConfig, ObjectEntry
    from qom.deprecated import Deprecated, QomDeprecationWarning
    from qom.errors import (
        AbstractType,
        AccelError,
        AmbiguousPath,
        CastError,
        ConfigError,
        DuplicateType,
        LifecycleError,
        MissingProperty,
        PathError,
        PluginError,
        PropertyError,
        PropertyLocked,
        QomError,
        RealizeError,
        StateError,
        TypeCycle,
        TypeRegistryError,
        UnknownParent,
        UnknownProperty,
        UnknownType,
        did_you_mean,
    )
    from qom.extensions import MonitorCommand, SystemOption
    from qom.hookspecs import API_VERSION, hookimpl
    from qom.hw.address_space import AddressSpace
    from qom.hw.bus import Bus, SysBusDevice, SystemBus
    from qom.hw.clock import Clock, RunningClock, SteppedClock, Timer
    from qom.hw.device import Device
    from qom.hw.fault import DeviceFault
    from qom.hw.irq import Line, Pin, SharedLine, or_line
    from qom.hw.isa import IsaBus, IsaDevice
    from qom.hw.listener import MemoryListener, MemorySection
    from qom.hw.memory import RamBlock, Region
    from qom.hw.pci import PciDevice
    from qom.hw.pci_bus import PciBus
    from qom.hw.reset import Reset, reset_tree
    from qom.hw.system import SystemControl
    from qom.lifecycle import TRANSITIONS, Life
    from qom.object import Container, Object, Root, UserCreatable, check_id
    from qom.options import Taker, parse_options, placed
    from qom.plugins import PluginManager, default_registry
    from qom.properties import (
        REQUIRED,
        Property,
        StateField,
        alias,
        child,
        format_size,
        link,
        object_property_set,
        parse_size,
        prop,
        state,
    )
    from qom.registry import GlobalProperty, Interface, Type, TypeInfo, TypeRegistry, type_init
    from qom.vm.block import BlockBackend
    from qom.vm.chardev import Chardev
    from qom.vm.console import Console, ConsoleTimeout
    from qom.vm.cpu import Cpu
    from qom.vm.image import ImageFile
    from qom.vm.launch import open_machine
    from qom.vm.machine import Machine
    from qom.vm.mainloop import MainLoop
    from qom.vm.runstate import RunState
    from qom.vm.vm import VirtualMachine

__version__ = "0.1.0"

_LATER = {
    "AbstractType": "qom.errors",
    "AccelError": "qom.errors",
    "AmbiguousPath": "qom.errors",
    "CastError": "qom.errors",
    "ConfigError": "qom.errors",
    "DuplicateType": "qom.errors",
    "LifecycleError": "qom.errors",
    "MissingProperty": "qom.errors",
    "PathError": "qom.errors",
    "PluginError": "qom.errors",
    "PropertyError": "qom.errors",
    "PropertyLocked": "qom.errors",
    "QomError": "qom.errors",
    "RealizeError": "qom.errors",
    "StateError": "qom.errors",
    "TypeCycle": "qom.errors",
    "TypeRegistryError": "qom.errors",
    "UnknownParent": "qom.errors",
    "UnknownProperty": "qom.errors",
    "UnknownType": "qom.errors",
    "did_you_mean": "qom.errors",
    "TRANSITIONS": "qom.lifecycle",
    "Life": "qom.lifecycle",
    "Container": "qom.object",
    "Object": "qom.object",
    "Root": "qom.object",
    "UserCreatable": "qom.object",
    "check_id": "qom.object",
    "REQUIRED": "qom.properties",
    "Property": "qom.properties",
    "StateField": "qom.properties",
    "alias": "qom.properties",
    "child": "qom.properties",
    "format_size": "qom.properties",
    "link": "qom.properties",
    "object_property_set": "qom.properties",
    "parse_size": "qom.properties",
    "prop": "qom.properties",
    "state": "qom.properties",
    "GlobalProperty": "qom.registry",
    "Interface": "qom.registry",
    "Type": "qom.registry",
    "TypeInfo": "qom.registry",
    "TypeRegistry": "qom.registry",
    "type_init": "qom.registry",
    "ConfigBuilder": "qom.config",
    "MachineConfig": "qom.config",
    "ChardevEntry": "qom.config.model",
    "DeviceEntry": "qom.config.model",
    "DriveEntry": "qom.config.model",
    "ObjectEntry": "qom.config.model",
    "Deprecated": "qom.deprecated",
    "QomDeprecationWarning": "qom.deprecated",
    "MonitorCommand": "qom.extensions",
    "SystemOption": "qom.extensions",
    "API_VERSION": "qom.hookspecs",
    "hookimpl": "qom.hookspecs",
    "AddressSpace": "qom.hw.address_space",
    "Bus": "qom.hw.bus",
    "SysBusDevice": "qom.hw.bus",
    "SystemBus": "qom.hw.bus",
    "Clock": "qom.hw.clock",
    "RunningClock": "qom.hw.clock",
    "SteppedClock": "qom.hw.clock",
    "Timer": "qom.hw.clock",
    "Device": "qom.hw.device",
    "DeviceFault": "qom.hw.fault",
    "Line": "qom.hw.irq",
    "Pin": "qom.hw.irq",
    "SharedLine": "qom.hw.irq",
    "or_line": "qom.hw.irq",
    "IsaBus": "qom.hw.isa",
    "IsaDevice": "qom.hw.isa",
    "MemoryListener": "qom.hw.listener",
    "MemorySection": "qom.hw.listener",
    "RamBlock": "qom.hw.memory",
    "Region": "qom.hw.memory",
    "PciBus": "qom.hw.pci_bus",
    "PciDevice": "qom.hw.pci",
    "Reset": "qom.hw.reset",
    "reset_tree": "qom.hw.reset",
    "SystemControl": "qom.hw.system",
    "Taker": "qom.options",
    "parse_options": "qom.options",
    "placed": "qom.options",
    "PluginManager": "qom.plugins",
    "default_registry": "qom.plugins",
    "BlockBackend": "qom.vm.block",
    "ImageFile": "qom.vm.image",
    "Chardev": "qom.vm.chardev",
    "Console": "qom.vm.console",
    "ConsoleTimeout": "qom.vm.console",
    "Cpu": "qom.vm.cpu",
    "Machine": "qom.vm.machine",
    "MainLoop": "qom.vm.mainloop",
    "RunState": "qom.vm.runstate",
    "VirtualMachine": "qom.vm.vm",
    "open_machine": "qom.vm.launch",
}
"""Where a name exported by this package is found when first asked for."""

__all__ = [
    "API_VERSION",
    "REQUIRED",
    "TRANSITIONS",
    "AbstractType",
    "AccelError",
    "AddressSpace",
    "AmbiguousPath",
    "BlockBackend",
    "Bus",
    "CastError",
    "Chardev",
    "ChardevEntry",
    "Clock",
    "ConfigBuilder",
    "ConfigError",
    "Console",
    "ConsoleTimeout",
    "Container",
    "Cpu",
    "Deprecated",
    "Device",
    "DeviceEntry",
    "DeviceFault",
    "DriveEntry",
    "DuplicateType",
    "GlobalProperty",
    "ImageFile",
    "Interface",
    "IsaBus",
    "IsaDevice",
    "Life",
    "LifecycleError",
    "Line",
    "Machine",
    "MachineConfig",
    "MainLoop",
    "MemoryListener",
    "MemorySection",
    "MissingProperty",
    "MonitorCommand",
    "Object",
    "ObjectEntry",
    "PathError",
    "PciBus",
    "PciDevice",
    "Pin",
    "PluginError",
    "PluginManager",
    "Property",
    "PropertyError",
    "PropertyLocked",
    "QomDeprecationWarning",
    "QomError",
    "RamBlock",
    "RealizeError",
    "Region",
    "Reset",
    "Root",
    "RunState",
    "RunningClock",
    "SharedLine",
    "StateError",
    "StateField",
    "SteppedClock",
    "SysBusDevice",
    "SystemBus",
    "SystemControl",
    "SystemOption",
    "Taker",
    "Timer",
    "Type",
    "TypeCycle",
    "TypeInfo",
    "TypeRegistry",
    "TypeRegistryError",
    "UnknownParent",
    "UnknownProperty",
    "UnknownType",
    "UserCreatable",
    "VirtualMachine",
    "alias",
    "check_id",
    "child",
    "default_registry",
    "did_you_mean",
    "format_size",
    "hookimpl",
    "link",
    "object_property_set",
    "open_machine",
    "or_line",
    "parse_options",
    "parse_size",
    "placed",
    "prop",
    "reset_tree",
    "state",
    "type_init",
]


def __getattr__(name: str) -> Any:
    if name == "records":  # a module, which the rest of this is made of
        return importlib.import_module("qom.records")
    module = _LATER.get(name)
    if module is None:
        from qom.deprecated import names_of

        return names_of("qom")(name)
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
