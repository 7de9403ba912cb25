"""Monitors: how a person or a program looks at a machine and steers it while it runs.

| file | subject |
|---|---|
| `declare.py` | commands and events, declared by annotated functions |
| `qapi.py` | the types of arguments and answers |
| `schema.py` | query-qmp-schema, made from both |
| `table.py` | all commands there are, found by name |
| `events.py` | the events of a machine |
| `json_stream.py` | JSON out of a stream of bytes |
| `session.py` | one QMP connection |
| `version.py` | what version is told, the greeting |
| `service.py` | the monitors of a machine, their thread |
| `qmp.py` | the QOM type `monitor-qmp` |
| `commands/` | the QMP commands themselves, one file a subject |
| `hmp/` | the monitor for people |
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom.monitor.declare import Boxed, Command, CommandError, MonitorEvent, Named, command
    from qom.monitor.qapi import Bits, Open, Variants, WrongArgument
    from qom.monitor.service import MonitorService, service_of

QOM_MODULES = ("qmp", "hmp.monitor")

__all__ = [
    "Bits",
    "Boxed",
    "Command",
    "CommandError",
    "MonitorEvent",
    "MonitorService",
    "Named",
    "Open",
    "Variants",
    "WrongArgument",
    "command",
    "service_of",
]

_WHERE = {
    "Bits": "qapi", "Open": "qapi", "Variants": "qapi", "WrongArgument": "qapi",
    "MonitorService": "service", "service_of": "service",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """A machine without monitors imports nothing of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_WHERE.get(name, 'declare')}"), name)
    return value
