"""A running machine: life cycle, main loop, vCPU threads, run state; and the back ends that connect it to the host.

A plugin uses what this package exports (the names most plugins need are exported by `qom`, too).
"""

from __future__ import annotations

from qom.later import later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.vm.block import SECTOR, BlockBackend, BlockError
    from qom.vm.chardev import Alarm, Chardev, ChardevError, ChardevEvent, FdChardev, FdWatch, Poller
    from qom.vm.cpu import Cpu, CpuAccelerator, InterruptController, this_cpu
    from qom.vm.display import DisplayConsole, DisplayError, Surface, screendump, write_image
    from qom.vm.image import ImageFile
    from qom.vm.input import (
        KEY_NUMBERS,
        InputError,
        KeyboardInput,
        PointerInput,
        move_pointer,
        press_button,
        press_key,
        send_keys,
    )
    from qom.vm.lock import MachineLock
    from qom.vm.machine import Machine
    from qom.vm.mainloop import MainLoop
    from qom.vm.observe import Observatory
    from qom.vm.reload import ReloadError, ReloadReport, SourceWatch
    from qom.vm.runstate import RunState
    from qom.vm.vcpu import init_vcpu
    from qom.vm.vm import VirtualMachine


QOM_MODULES = ("chardev", "console", "display", "input", "block", "image", "cpu", "machine")

__all__ = [
    "KEY_NUMBERS",
    "SECTOR",
    "Alarm",
    "BlockBackend",
    "BlockError",
    "Chardev",
    "ChardevError",
    "ChardevEvent",
    "Cpu",
    "CpuAccelerator",
    "DisplayConsole",
    "DisplayError",
    "FdChardev",
    "FdWatch",
    "ImageFile",
    "InputError",
    "InterruptController",
    "KeyboardInput",
    "Machine",
    "MachineLock",
    "MainLoop",
    "Observatory",
    "PointerInput",
    "Poller",
    "ReloadError",
    "ReloadReport",
    "RunState",
    "SourceWatch",
    "Surface",
    "VirtualMachine",
    "init_vcpu",
    "move_pointer",
    "press_button",
    "press_key",
    "screendump",
    "send_keys",
    "this_cpu",
    "write_image",
]

_LATER = {
    "qom.vm.block": ("SECTOR", "BlockBackend", "BlockError"),
    "qom.vm.chardev": ("Alarm", "Chardev", "ChardevError", "ChardevEvent", "FdChardev", "FdWatch", "Poller"),
    "qom.vm.cpu": ("Cpu", "CpuAccelerator", "InterruptController", "this_cpu"),
    "qom.vm.display": ("DisplayConsole", "DisplayError", "Surface", "screendump", "write_image"),
    "qom.vm.image": ("ImageFile",),
    "qom.vm.input": (
        "KEY_NUMBERS",
        "InputError",
        "KeyboardInput",
        "PointerInput",
        "move_pointer",
        "press_button",
        "press_key",
        "send_keys",
    ),
    "qom.vm.lock": ("MachineLock",),
    "qom.vm.machine": ("Machine",),
    "qom.vm.mainloop": ("MainLoop",),
    "qom.vm.observe": ("Observatory",),
    "qom.vm.reload": ("ReloadError", "ReloadReport", "SourceWatch"),
    "qom.vm.runstate": ("RunState",),
    "qom.vm.vcpu": ("init_vcpu",),
    "qom.vm.vm": ("VirtualMachine",),
}

__getattr__, __dir__ = later(__name__, _LATER)
