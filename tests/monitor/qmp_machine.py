"""A machine in this process with QMP monitors on unix sockets, and a plain client that sees every byte."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qom.cli.options import CommandLine
from qom.plugins import default_registry
from qom.registry import TypeRegistry
from qom.vm import VirtualMachine

PATIENCE = 30.0
"""Seconds of host time after which a test gives up waiting for an answer."""


class Client:
    """One QMP connection; not negotiated yet."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(path)
        except BaseException:
            self.socket.close()
            raise
        self._held = b""
        self._ids = itertools.count()
        self.events: list[dict[str, Any]] = []
        self.greeting = self.line()

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def raw_line(self) -> bytes:
        """The next line that comes; b"" at the end of the connection."""
        while b"\n" not in self._held:
            got = self.socket.recv(1 << 16)
            if not got:
                return b""
            self._held += got
        line, _, self._held = self._held.partition(b"\n")
        return line.rstrip(b"\r")

    def line(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.raw_line())
        return found

    def answer(self) -> dict[str, Any]:
        """The next line that is no event; events on the way are kept."""
        while "event" in (found := self.line()):
            self.events.append(found)
        return found

    def say(self, text: str) -> dict[str, Any]:
        """Send one line and return its answer."""
        self.send(text + "\n")
        return self.answer()

    def ask(self, command: str, /, **arguments: Any) -> dict[str, Any]:
        """Send a command and return its answer, whole; `a_b` is argument `a-b`."""
        said = {key.rstrip("_").replace("_", "-"): value for key, value in arguments.items()}
        return self.say(json.dumps({"execute": command, "arguments": said, "id": next(self._ids)}))

    def do(self, command: str, /, **arguments: Any) -> Any:
        """As `ask`, for a command that must work: what it returns."""
        answer = self.ask(command, **arguments)
        assert "return" in answer, answer
        return answer["return"]

    def error(self, command: str, /, **arguments: Any) -> str:
        """As `ask`, for a command that must fail: "Class: text"."""
        error = self.ask(command, **arguments)["error"]
        return f"{error['class']}: {error['desc']}"

    def event(self, name: str) -> dict[str, Any]:
        """The next event of that name; those before it are left out."""
        while True:
            found = self.events.pop(0) if self.events else self.line()
            if found.get("event") == name:
                return found

    def negotiate(self, *enable: str) -> Client:
        self.do("qmp_capabilities", **({"enable": list(enable)} if enable else {}))
        return self

    def close(self) -> None:
        self.socket.close()


class QmpMachine:
    """`vm`, and clients on its sockets; a context that closes the clients."""

    def __init__(self, vm: VirtualMachine, paths: list[str]) -> None:
        self.vm, self.paths = vm, paths
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> QmpMachine:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def client(self, number: int = 0, *, negotiated: bool = True) -> Client:
        made = self._stack.enter_context(contextlib.closing(Client(self.paths[number])))
        return made.negotiate() if negotiated else made

    def client_when_there(self) -> Client:
        """As `client`, of a machine that is being built in another thread."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.client()
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < end
                time.sleep(0.005)


@contextlib.contextmanager
def qmp_machine(
    tmp: Path, *words: str, monitors: int = 1, registry: TypeRegistry | None = None
) -> Iterator[QmpMachine]:
    """A machine of a command line, its main loop in a thread, not running unless asked to; answers are checked."""
    paths = [str(tmp / f"qmp{n}") for n in range(monitors)]
    said: Sequence[str] = [w for path in paths for w in ("-qmp", f"unix:{path},server=on,wait=off")]
    line = CommandLine().parse([*said, "-nodefaults", "-serial", "none", *words])
    vm = VirtualMachine(line.builder.finish(), registry or default_registry(load_external=False))
    if not vm.config.preconfig:
        vm.build()
    with vm:
        machine = QmpMachine(vm, paths)
        if not vm.config.preconfig:
            vm.start_loop()
        with machine:
            yield machine
