"""One QMP session: greeting, negotiation, commands in turn and out of band, answers, events.

Who runs where.  Bytes are read and written on the monitors' thread (qom/monitor/service.py), under that thread's lock;
commands run on the machine's main loop, under the machine lock; commands executed out of band ("exec-oob", once the
client has asked for the capability "oob") run on the monitors' thread at once.  The order of locks is machine, then
monitors: nothing on the monitors' thread waits for the machine.

A client that does not read what it asked for is not read from either; events it does not take wait for it up to a limit,
and then are dropped with a line in the log.

Source: QEMU's docs/interop/qmp-spec; where it is silent, what QEMU 7.2 was seen to do.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from qom.blame import passes, place_of
from qom.blame import shown as described
from qom.errors import QomError
from qom.monitor.failure import CommandError
from qom.monitor.version import greeting, version_info
from qom.options import shown
from qom.vm.chardev import Chardev, ChardevEvent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom.monitor.json_stream import JsonStream
    from qom.monitor.service import MonitorService
    from qom.vm.vm import VirtualMachine

__all__ = ["EVENTS_WAITING", "REQUESTS_WAITING", "QmpSession"]

REQUESTS_WAITING = 8
"""Commands that wait in a session with out-of-band execution before it is read from no further (QEMU: 8)."""
ANSWERS_WAITING = 1 << 16
"""Bytes of unread answers from which on the client is read from no further, and its commands wait."""
EVENTS_WAITING = 16 << 20
"""Bytes of unread output from which on events are dropped."""
READ_AT_ONCE = 1 << 16

_MEMBERS = ("execute", "exec-oob", "arguments", "id")


class QmpSession:
    """The monitor's side of one QMP connection; clients may come and go on its character device.

    Args:
        service: what it belongs to.
        chardev: where the client is.
        pretty: write answers over several lines.
    """

    def __init__(self, service: MonitorService, chardev: Chardev, *, pretty: bool = False) -> None:
        self.service, self.chardev, self.pretty = service, chardev, pretty
        self.vm: VirtualMachine = service.vm
        self.oob = False
        self.commands_mode = False
        self.subscriptions: dict[int, Callable[[], None]] = {}  # what ends each; see commands/watching.py
        self._stream: JsonStream | None = None  # once there is something to read
        self._requests: deque[tuple[Any, int]] = deque()
        self._running = False
        self._client = 0  # counts them, so that no answer reaches the next one
        self._out = bytearray()
        self._dropping = False
        self._closed = False

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The monitors' lock."""
        return self.service.lock

    def open(self) -> None:
        """Begin to serve; the monitors' lock is held."""
        self.chardev.set_frontend(self._read, self._room, self._event, self._flush, owner="a QMP monitor")

    def close(self) -> None:
        """End it; what was written is offered a last time."""
        with self.lock:
            self._closed = True
            self._forget_client()
            self.chardev.unset_frontend()

    # -- the client, on the monitors' thread --------------------------------------------------------------------------

    def _event(self, event: ChardevEvent) -> None:
        if event is ChardevEvent.OPENED:
            self._forget_client()
            self._greet()
        elif event is ChardevEvent.CLOSED:
            self._forget_client()

    def _greet(self) -> None:
        if self.pretty:
            self._send({"QMP": {"version": version_info(), "capabilities": ["oob"]}})
        else:
            self._write(greeting())

    def _forget_client(self) -> None:
        self._client += 1
        self.oob = self.commands_mode = False
        self._stream = None
        self._requests.clear()
        self._out.clear()
        self._dropping = False
        self.service.forget(self)

    def _room(self) -> int:
        limit = REQUESTS_WAITING if self.oob else 1
        if len(self._requests) + self._running >= limit or len(self._out) > ANSWERS_WAITING:
            return 0
        return READ_AT_ONCE

    def _read(self, data: bytes) -> None:
        from qom.monitor.json_stream import JsonStream

        client = self._client
        if self._stream is None:
            self._stream = JsonStream()
        for found in self._stream.feed(data):
            if client != self._client:
                return
            request = found if isinstance(found, Exception) else found.value
            if self.oob and isinstance(request, dict) and "exec-oob" in request and "execute" not in request:
                self._answer(request, client)
            else:
                self._requests.append((request, client))
                self._next()

    def _next(self) -> None:
        """Have the next request carried out, if none is and the client reads what it was answered."""
        if self._requests and not self._running and len(self._out) <= ANSWERS_WAITING:
            self._running = True
            self.vm.main_loop.call_soon_threadsafe(self._carry_out)

    def _carry_out(self) -> None:
        """On the main loop, with the machine lock: the next request."""
        with self.lock:
            if self._closed or not self._requests:
                self._running = False
                return
            request, client = self._requests.popleft()
        try:
            self._answer(request, client)
        finally:
            with self.lock:
                self._running = False
                self._next()
                if self._room() and not self._closed:
                    self.service.loop.call_soon_threadsafe(self._listen)

    def _listen(self) -> None:
        if not self._closed:
            self.chardev.accept_input()

    # -- a request ----------------------------------------------------------------------------------------------------

    def _answer(self, request: Any, client: int) -> None:
        answer: dict[str, Any]
        try:
            if isinstance(request, Exception):  # a JsonError
                raise CommandError(str(request))
            if not isinstance(request, dict):
                raise CommandError(f"QMP input must be a JSON object, got {shown(request)}")
            answer = {"return": self._execute(request)}
        except CommandError as error:
            answer = _error(error.error_class, str(error))
        except QomError as error:
            answer = _error("GenericError", " ".join(str(error).split()))
        except BaseException as error:  # our own fault, or a plugin's: the client hears of it, and the machine lives on
            if passes(error):
                raise
            answer = _error("GenericError", f"internal error: {described(error)}, at {place_of(error)}")
            self.vm.complain(f"a monitor's request {shown(request)} raised {described(error)}, at {place_of(error)}")
        if isinstance(request, dict) and "id" in request:
            answer["id"] = request["id"]
        try:
            data = self._line(answer)
        except (TypeError, ValueError) as error:  # a plugin's command gave what JSON cannot hold
            answer = _error("GenericError", f"the answer cannot be written as JSON: {error}")
            data = self._line({**answer, **({"id": request["id"]} if "id" in request else {})})
        with self.lock:
            if client == self._client and not self._closed:
                self._write(data)

    def _execute(self, request: dict[str, Any]) -> Any:
        name, arguments = self._read_request(request)
        if not self.commands_mode and name != "qmp_capabilities":
            table = self.service.table
            near = "" if name in table.names() else f" (and there is no command {name})"
            raise CommandError(f"Expecting capabilities negotiation with 'qmp_capabilities'{near}", "CommandNotFound")
        if self.commands_mode and name == "qmp_capabilities":
            raise CommandError("Capabilities negotiation is already complete, command ignored", "CommandNotFound")
        found = self.service.table.find(name)
        if "exec-oob" in request and not found.oob:
            raise CommandError(f"The command {name} does not support OOB")
        return self.service.call(found, arguments, self)

    def _read_request(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        for member in request:
            if member not in _MEMBERS or (member == "exec-oob" and not self.oob):
                raise CommandError(f"QMP input member '{member}' is unexpected")
        if "execute" in request and "exec-oob" in request:
            raise CommandError("QMP input member 'exec-oob' clashes with 'execute'")
        word = "exec-oob" if "exec-oob" in request else "execute"
        if word not in request:
            raise CommandError("QMP input lacks member 'execute'")
        name, arguments = request[word], request.get("arguments", {})
        if not isinstance(name, str):
            raise CommandError(f"QMP input member '{word}' must be a string, got {shown(name)}")
        if not isinstance(arguments, dict):
            raise CommandError(f"QMP input member 'arguments' must be an object, got {shown(arguments)}")
        return name, arguments

    def take_fds(self) -> list[int]:
        """The descriptors that the client has passed since it was last asked; the caller's from now on."""
        take = getattr(self.chardev, "take_fds", None)
        with self.lock:
            return list(take()) if take is not None else []

    # -- output; any thread -------------------------------------------------------------------------------------------

    def tell(self, event: str, data: Mapping[str, Any], at: float) -> None:
        """Send an event.

        Args:
            event: its name.
            data: what belongs to it.
            at: seconds since the epoch.
        """
        seconds, part = divmod(round(at * 1e6), 10**6)
        line: dict[str, Any] = {"timestamp": {"seconds": seconds, "microseconds": part}, "event": event}
        if data:
            line["data"] = dict(data)
        with self.lock:
            if not self.commands_mode or self._closed:
                return
            if len(self._out) > EVENTS_WAITING:
                if not self._dropping:
                    self._dropping = True
                    self.vm.log("warning", f"{self.chardev.path}: events are dropped: the client does not read")
                return
            self._dropping = False
            self._write(self._line(line))

    def _line(self, value: Mapping[str, Any]) -> bytes:
        from qom.monitor.json_stream import dumps

        return dumps(value, pretty=self.pretty) + b"\r\n"

    def _send(self, value: Mapping[str, Any]) -> None:
        self._write(self._line(value))

    def _write(self, data: bytes) -> None:
        self._out += data
        self._flush()

    def _flush(self) -> None:
        if self._out:
            sent = self.chardev.write(bytes(self._out))
            del self._out[:sent]
            self._next()
            if not self._out:
                self.service.loop.call_soon_threadsafe(self._listen)

    def drain(self, seconds: float) -> None:
        """Wait until the client has taken what was written, at most so long; any thread that holds no lock of ours."""
        end = time.monotonic() + seconds
        while self._out and time.monotonic() < end:
            with self.lock:
                self._flush()
            time.sleep(0.001)


def _error(error_class: str, text: str) -> dict[str, Any]:
    return {"error": {"class": error_class, "desc": text}}
