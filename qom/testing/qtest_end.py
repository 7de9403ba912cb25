"""What carries the lines of a `QTest` to a machine and back: in this process (qtest_here.py), or to a program
(qtest_program.py)."""

from __future__ import annotations

from typing import Any, Protocol

from qom.errors import QomError
from qom.vm.vm import VirtualMachine

__all__ = ["End", "QTestError"]


class QTestError(QomError):
    """A command was refused, or the program that was to carry it out has ended or does not answer."""


class End(Protocol):
    """What carries lines to the machine and back."""

    @property
    def vm(self) -> VirtualMachine | None:
        """The machine; None when it is in another process."""

    @property
    def stepped(self) -> bool:
        """Whether the machine's clock can be stepped."""

    def send(self, line: str) -> list[str]:
        """Send a line; gives the answer, after the IRQ lines that came before it."""

    def serve(self) -> None:
        """Let the machine do what waits to be done."""

    def reset(self) -> None:
        """Reset the machine as a whole."""

    def execute(self, command: str, arguments: dict[str, Any]) -> Any:
        """Carry out a QMP command; gives what it returns.  Raises QTestError when it is refused."""

    def event(self, name: str) -> dict[str, Any]:
        """The data of the next QMP event of that name; those before it are forgotten."""

    def wait(self, timeout: float) -> int:
        """Wait until the machine has ended; its exit status."""

    def close(self) -> None:
        """End the machine."""
