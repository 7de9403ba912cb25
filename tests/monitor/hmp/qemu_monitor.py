"""QEMU's own monitor for people, by QMP on its standard input and output: what ours is compared with."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import pytest

QEMU = "qemu-system-x86_64"


class QemuMonitor:
    """A QEMU that stands still; a context.  Skips the test where there is no QEMU."""

    def __init__(self, *words: str) -> None:
        if shutil.which(QEMU) is None:
            pytest.skip(f"{QEMU} is not installed: nothing to compare with")
        command = [QEMU, "-accel", "tcg", "-display", "none", "-nodefaults", "-qmp", "stdio", *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()
        self.execute("qmp_capabilities")

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while True:
            text = self.process.stdout.readline()
            assert text, f"{QEMU} ended"
            if text.startswith("{") and "event" not in (found := json.loads(text)):
                return dict(found)

    def execute(self, name: str, **arguments: Any) -> Any:
        """The answer of a QMP command that works."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        return self._line()["return"]

    def ask(self, line: str) -> str:
        """What a command for people shows."""
        return str(self.execute("human-monitor-command", **{"command-line": line})).replace("\r\n", "\n")

    def all(self, lines: Sequence[str]) -> dict[str, str]:
        """What each shows, one after the other."""
        return {line: self.ask(line) for line in lines}

    def __enter__(self) -> QemuMonitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()
