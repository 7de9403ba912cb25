"""A machine of a `QTest` in this process: the client is a character back end, and the main loop runs while it asks."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from qom.config import MachineConfig
from qom.errors import QomError
from qom.hw.clock import SteppedClock
from qom.registry import TypeRegistry, type_init
from qom.testing.qtest_end import QTestError
from qom.vm.chardev import Chardev
from qom.vm.vm import VirtualMachine

__all__ = ["MachineHere"]

EVENTS: Final = 1000  # kept for who asks for them


@type_init("chardev-qtest-client")
class _ClientEnd(Chardev):
    """The client's end of the protocol, in the process of the machine."""

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "Client of the qtest protocol in the process of the machine"

    def instance_init(self) -> None:
        """Nothing was answered yet."""
        self.answers = bytearray()

    def write(self, data: bytes) -> int:
        """Take what the server says."""
        self.answers += data
        return len(data)

    def take(self) -> list[str]:
        """The lines up to the next answer, which is the last of them; none as long as it has not come."""
        lines = self.answers.decode().splitlines(keepends=True)
        answer = next((n for n, line in enumerate(lines) if not line.startswith("IRQ ")), None)
        if answer is None:
            return []
        self.answers[:] = "".join(lines[answer + 1 :]).encode()
        return [line.rstrip("\n") for line in lines[: answer + 1]]


class MachineHere:
    """A machine here, whose main loop runs while somebody asks for something.

    Args:
        words: its command line.
        types, registry, keywords: as of `QTest`.

    Raises:
        QomError: it cannot be built.
    """

    vm: VirtualMachine

    def __init__(
        self, words: list[str], types: Iterable[type], registry: TypeRegistry | None, keywords: dict[str, Any]
    ) -> None:
        from qom.plugins import default_registry
        from qom.vm.launch import build, open_machine

        if words and keywords:
            raise QTestError(f"{next(iter(keywords))}=: expected either 'args' or keywords of open_machine")
        known = registry.fork() if registry is not None else default_registry()
        for cls in (_ClientEnd, *types):
            known.register(cls, "types=")
        if keywords:
            keywords = {"accel": "qtest", "nodefaults": True, **keywords}
            keywords["chardevs"] = [*keywords.get("chardevs", ()), "qtest-client,id=qtest"]
            keywords["settings"] = {"qtest": "chardev:qtest", "qtest-log": "none", **keywords.get("settings", {})}
            self.vm = open_machine(registry=known, **keywords)
        else:
            self.vm = build(_config(words), known)
        try:
            end = self.vm.root.resolve("/chardevs/qtest")
            assert isinstance(end, _ClientEnd)
            self._client = end
            self._server: Any = self.vm.root.resolve("/objects/qtest")
            self._events: deque[tuple[str, dict[str, Any]]] = deque(maxlen=EVENTS)
            self.vm.events.append(self._told)
            if not self.vm.config.paused:
                self.vm.cont()
        except BaseException:
            self.vm.close()
            raise

    def _told(self, name: str, data: dict[str, Any]) -> None:
        self._events.append((name, {key: value for key, value in data.items() if key != "time"}))

    @property
    def stepped(self) -> bool:
        """Whether its clock can be stepped."""
        return isinstance(self.vm.clock, SteppedClock)

    def send(self, line: str) -> list[str]:
        """See `End`."""
        client = self._client
        with self.vm.lock:
            if client.poller is None:
                raise QTestError(f"{line}: the machine has been closed")
            client.on_read(line.encode(errors="surrogateescape") + b"\n")
            lines = client.take()
        self.serve()
        while not lines:
            busy = self._server.busy and self.vm.shutdown_reason is None  # a long step of the clock gives way
            with self.vm.lock:
                lines = client.take()
            if not busy:
                break
            if not lines:
                self.serve()
        if not lines:
            raise QTestError(f"{line}: not answered")
        return lines

    def serve(self) -> None:
        """See `End`."""
        self.vm.main_loop.run_once(0)

    def reset(self) -> None:
        """See `End`."""
        self.vm.reset()

    def execute(self, command: str, arguments: dict[str, Any]) -> Any:
        """See `End`."""
        try:
            answer = self.vm.monitor_command(command, **arguments)
        except QomError as error:
            raise QTestError(f"{command}: {error}") from None
        self.serve()
        return answer

    def event(self, name: str) -> dict[str, Any]:
        """See `End`; what has not been sent yet will not be."""
        self.serve()
        while self._events:
            found, data = self._events.popleft()
            if found == name:
                return data
        raise QTestError(f"no event {name}")

    def wait(self, timeout: float) -> int:
        """See `End`; it does not take time, as nothing happens by itself."""
        self.serve()
        if not self.vm.wait(0):
            raise QTestError(f"the machine has not ended: it is {self.vm.run_state.value}")
        return self.vm.exit_status

    def close(self) -> None:
        """See `End`."""
        self.vm.close()

    def __repr__(self) -> str:
        return repr(self.vm)


def _config(words: list[str]) -> MachineConfig:
    """The configuration of a command line, with the client in it."""
    from qom.cli.options import CommandLine

    line = CommandLine().parse(words)
    if line.show or line.help_for is not None:
        raise QTestError(f"{shlex.join(words)}: asks for help: expected a machine")
    builder = line.builder
    if not builder.config.accelerators:
        builder.accel({"accel": "qtest"}, "QTest")
    builder.plain("nodefaults", True, "QTest")
    builder.chardev({"backend": "qtest-client", "id": "qtest"}, "QTest")
    builder.qtest("chardev:qtest", "QTest")
    builder.qtest_log("none", "QTest")
    return builder.finish()
