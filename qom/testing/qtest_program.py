"""A machine of a `QTest` in a program of its own, ours or a QEMU: a socket for the protocol, another for its monitor."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, TextIO

from qom.testing.qtest_end import QTestError
from qom.vm.console import PATIENCE
from qom.vm.vm import VirtualMachine

__all__ = ["Program"]

OWN: Final = "qom-system-x86_64"


class Program:
    """A program of its own.

    Args:
        program: "qom-system-x86_64", another name or path, or the words of a command.
        words: the machine's command line.
        timeout: seconds of host time to wait for an answer.

    Raises:
        QTestError: there is no such program, or it ends at once.
    """

    vm: VirtualMachine | None = None

    def __init__(self, program: str | Sequence[str], words: list[str], timeout: float) -> None:
        command = [program] if isinstance(program, str) else list(program)
        self.name = command[0]
        self._timeout = timeout
        if command == [OWN]:
            command = [sys.executable, "-m", "qom.cli.system"]
        elif shutil.which(command[0]) is None:
            raise QTestError(f"{command[0]}: no such program")
        self.stepped = True
        if not _names_accelerator(words):
            self.stepped = self.name == OWN or "qtest" in _accelerators(tuple(command))
            words = [*words, "-accel", "qtest"] if self.stepped else [*words, "-accel", "tcg", "-S"]
        self._pending = bytearray()
        with contextlib.ExitStack() as steps:
            folder = steps.enter_context(tempfile.TemporaryDirectory(prefix="qtest-"))
            self._errors = steps.enter_context(open(os.path.join(folder, "stderr"), "w+b"))
            path, monitor = os.path.join(folder, "qtest"), os.path.join(folder, "qmp")
            listener = steps.enter_context(_listener(path, timeout))
            monitor_listener = steps.enter_context(_listener(monitor, timeout))
            ends = ["-nodefaults", "-display", "none", "-qmp", f"unix:{monitor}"]
            ends += ["-qtest", f"unix:{path}", "-qtest-log", "none"]
            self._process = subprocess.Popen(
                [*command, *words, *ends], stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors
            )
            steps.callback(self._end_process)
            peer = steps.enter_context(self._accept(monitor_listener))
            try:
                self._monitor = _Monitor(peer, steps.enter_context(peer.makefile("r", encoding="utf-8")))
            except TimeoutError:
                raise QTestError(f"{self.name}: no greeting within {timeout:g} s{self._said()}") from None
            except OSError:
                raise self._ended("at its start") from None
            self._socket = steps.enter_context(self._accept(listener))
            self._steps = steps.pop_all()

    def _accept(self, listener: socket.socket) -> socket.socket:
        """The program's connection; looks after the program while it waits."""
        listener.settimeout(0.2)
        for _ in range(max(1, int(self._timeout / 0.2))):
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                if self._process.poll() is not None:
                    raise self._ended("at its start") from None
                continue
            peer.settimeout(self._timeout)
            return peer
        raise QTestError(f"{self.name}: did not connect within {self._timeout:g} s{self._said()}")

    def send(self, line: str) -> list[str]:
        """See `End`."""
        if self._errors.closed:
            raise QTestError(f"{line}: the machine has been closed")
        lines = []
        try:
            self._socket.sendall(line.encode(errors="surrogateescape") + b"\n")
            while True:
                text = self._line()
                lines.append(text)
                if not text.startswith("IRQ "):
                    return lines
        except TimeoutError:
            raise QTestError(f"{line}: no answer of {self.name} within {self._timeout:g} s") from None
        except OSError:
            raise self._ended(line) from None

    def _line(self) -> str:
        while (end := self._pending.find(b"\n")) < 0:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._pending += data
        text = self._pending[:end].decode()
        del self._pending[: end + 1]
        return text

    def _ended(self, doing: str) -> QTestError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return QTestError(f"{doing}: {self.name} has ended, with status {self._process.poll()}{self._said()}")

    def _said(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode(errors="backslashreplace").strip()
        return f"; it said: {text}" if text else ""

    def serve(self) -> None:
        """It does so by itself."""

    def reset(self) -> None:
        """See `End`."""
        try:
            self._monitor.execute("system_reset")
            self._monitor.event("RESET")
        except OSError:
            raise self._ended("system_reset") from None

    def execute(self, command: str, arguments: dict[str, Any]) -> Any:
        """See `End`."""
        try:
            return self._monitor.execute(command, **arguments)
        except OSError:
            raise self._ended(command) from None

    def event(self, name: str) -> dict[str, Any]:
        """See `End`."""
        try:
            return self._monitor.event(name)
        except TimeoutError:
            raise QTestError(f"{self.name}: no event {name} within {self._timeout:g} s") from None
        except OSError:
            raise self._ended(f"event {name}") from None

    def wait(self, timeout: float) -> int:
        """See `End`."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise QTestError(f"{self.name} has not ended within {timeout:g} s") from None

    def _end_process(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """See `End`."""
        self._steps.close()

    def __repr__(self) -> str:
        return f"{self.name}, process {self._process.pid}"


class _Monitor:
    """As much of QMP as a test of devices needs."""

    def __init__(self, peer: socket.socket, lines: TextIO) -> None:
        self._peer = peer
        self._lines = lines
        self._events: deque[tuple[str, dict[str, Any]]] = deque()
        self._message()  # the greeting
        self.execute("qmp_capabilities")

    def _message(self) -> dict[str, Any]:
        text = self._lines.readline()
        if not text:
            raise ConnectionResetError
        message: dict[str, Any] = json.loads(text)
        if "event" in message:
            self._events.append((message["event"], message.get("data", {})))
        return message

    def execute(self, command: str, **arguments: Any) -> Any:
        """Carry out a command; gives what it returns.

        Raises:
            QTestError: it was refused.
        """
        self._peer.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._message()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QTestError(f"{command}: {message['error'].get('desc')}")

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event, and give its data; those before it are forgotten."""
        while True:
            while self._events:
                found, data = self._events.popleft()
                if found == name:
                    return data
            self._message()


def _names_accelerator(words: Sequence[str]) -> bool:
    """Whether a command line says which accelerator is to be used."""
    for at, word in enumerate(words):
        name, value = word.lstrip("-"), "".join(words[at + 1 : at + 2])
        if not word.startswith("-"):
            continue
        if name in ("accel", "enable-kvm"):
            return True
        if name in ("machine", "M") and any(part.startswith("accel=") for part in value.split(",")):
            return True
    return False


def _listener(path: str, timeout: float) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(path)
    found.listen(1)
    found.settimeout(timeout)
    return found


@functools.cache
def _accelerators(command: tuple[str, ...]) -> frozenset[str]:
    """The accelerators that a QEMU says it has."""
    told = subprocess.run([*command, "-accel", "help"], capture_output=True, text=True, check=False, timeout=PATIENCE)
    return frozenset(told.stdout.split())
