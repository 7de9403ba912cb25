"""What a monitor command answers, and how it fails, asked in this process."""

from __future__ import annotations

from typing import Any

import pytest

from qom.errors import QomError
from qom.monitor import CommandError
from qom.vm import VirtualMachine

__all__ = ["ask", "refusal"]


def ask(vm: VirtualMachine, command: str, /, **arguments: Any) -> Any:
    """The answer; `a_b` is the argument `a-b`.  It must be one that the command's type allows."""
    return vm.monitor_command(command, **arguments)


def refusal(vm: VirtualMachine, command: str, /, **arguments: Any) -> str:
    """The error of a command that must fail: "Class: text"."""
    with pytest.raises(QomError) as caught:
        vm.monitor_command(command, **arguments)
    error = caught.value
    return f"{error.error_class if isinstance(error, CommandError) else 'GenericError'}: {error}"
