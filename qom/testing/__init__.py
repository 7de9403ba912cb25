"""For test authors: machines and benches for tests, and what the pytest plugin `qom` gives.

`qom.testing.plugin` is found by pytest through its entry point and brings the fixtures `qom_machine` and `qom_accel`, the
marker `qom_accel` and the options `--qom-accel`, `--qom-exits` and `--qom-artifacts`; docs/testing.md shows them.

Everything is loaded when it is first asked for: a test suite that does not use qom pays nothing for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qom.hw.bench import IsaBench, LineRecorder, PciBench, RecordingSystem, SysBench, hw_registry
    from qom.testing.accel import unusable
    from qom.testing.irq import Interrupt, InterruptTimeout
    from qom.testing.machine import MachineFactory, TestMachine
    from qom.testing.qtest import QTest, QTestError
    from qom.vm.console import Console, ConsoleTimeout

_LATER = {
    "Console": "qom.vm.console",
    "ConsoleTimeout": "qom.vm.console",
    "Interrupt": "qom.testing.irq",
    "InterruptTimeout": "qom.testing.irq",
    "IsaBench": "qom.hw.bench",
    "LineRecorder": "qom.hw.bench",
    "MachineFactory": "qom.testing.machine",
    "PciBench": "qom.hw.bench",
    "QTest": "qom.testing.qtest",
    "QTestError": "qom.testing.qtest",
    "RecordingSystem": "qom.hw.bench",
    "SysBench": "qom.hw.bench",
    "TestMachine": "qom.testing.machine",
    "hw_registry": "qom.hw.bench",
    "unusable": "qom.testing.accel",
}

__all__ = [
    "Console",
    "ConsoleTimeout",
    "Interrupt",
    "InterruptTimeout",
    "IsaBench",
    "LineRecorder",
    "MachineFactory",
    "PciBench",
    "QTest",
    "QTestError",
    "RecordingSystem",
    "SysBench",
    "TestMachine",
    "hw_registry",
    "unusable",
]


def __getattr__(name: str) -> Any:
    module = _LATER.get(name)
    if module is None:
        from qom.deprecated import names_of

        return names_of(__name__)(name)
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
