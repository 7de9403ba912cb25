"""The monitor for people: a line is a command, the answer is text.

| file | subject |
|---|---|
| `declare.py` | commands, declared by annotated functions |
| `arguments.py` | the forms that arguments have: words, numbers, sizes, `/4xw`, `-f` |
| `expression.py` | numbers, registers and arithmetic |
| `table.py` | all commands there are, found by name; carrying out a line |
| `completion.py` | what Tab can put in |
| `line.py` | editing a line on a terminal |
| `session.py` | one monitor on a character device |
| `monitor.py` | the QOM type `monitor-hmp` |
| `commands/` | the commands themselves, one file a subject |

A machine without such a monitor imports nothing of this but `monitor.py`, and that only when `monitor-hmp` is asked for.

A plugin brings commands of its own as the box does: functions marked `@hmp_command("lights")` or
`@hmp_command("info lights")` in a submodule of its package, and on the package
`QOM_HMP_COMMANDS = {"submodule": ("lights", "info lights")}`; a name may have others beside it, "lights|l".  What it
brings by `qom_monitor_commands` is a command here too, with `name=value,...` for arguments.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qom.monitor.hmp.arguments import Expression, Flag, Format, Rest, Size, Switch, Word
    from qom.monitor.hmp.declare import Hmp, HmpCommand, hmp_command

__all__ = ["Expression", "Flag", "Format", "Hmp", "HmpCommand", "Rest", "Size", "Switch", "Word", "hmp_command"]

_DECLARE = ("Hmp", "HmpCommand", "hmp_command")


def __getattr__(name: str) -> Any:
    """Loaded when asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "declare" if name in _DECLARE else "arguments"
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return value
