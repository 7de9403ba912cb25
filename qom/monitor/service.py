"""The monitors of one machine: their thread, the table of commands, the way of events to them.

Made when the first monitor is; a machine without monitors has none of it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Mapping

from qom.monitor.failure import CommandError
from qom.vm.mainloop import Later, MainLoop
from qom.vm.runstate import RunState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    from qom.monitor.declare import Command, MonitorEvent
    from qom.monitor.session import QmpSession
    from qom.monitor.table import CommandTable
    from qom.vm.vm import VirtualMachine

__all__ = ["MonitorService", "service_of"]


class MonitorService:
    """What the monitors of a machine share.

    lock: guards sessions and their character devices.  loop: served by the monitors' thread.  table: the commands.
    """

    checked: ClassVar[bool] = False
    """Whether every answer is held against its command's type: so in all tests."""

    def __init__(self, vm: VirtualMachine) -> None:
        self.vm = vm
        self.lock = threading.RLock()
        self.loop = MainLoop(self.lock, vm.device_failed)
        self.sessions: list[QmpSession] = []
        self.hmp: Any = None  # the commands for people (`qom.monitor.hmp.table.HmpTable`), once somebody needs them
        self._thread: threading.Thread | None = None
        self._last: dict[tuple[str, Any], float] = {}
        self._late: dict[tuple[str, Any], tuple[Later, dict[str, Any], float]] = {}
        vm.events.append(self.hear)

    @functools.cached_property
    def table(self) -> CommandTable:
        """The commands and events there are; read when the first of them is needed."""
        from qom.monitor.table import CommandTable

        return CommandTable(self.vm.registry)

    @functools.cached_property
    def _events(self) -> dict[str, MonitorEvent]:
        return self.table.events

    def start(self) -> None:
        """Serve from a thread of its own, from now on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.loop.run, name="monitors", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let clients have what was written for them, and end the thread; sessions are closed."""
        for session in self.sessions:
            session.drain(0.2)
        if self._thread is not None and self._thread is not threading.current_thread():
            self.loop.quit()
            self._thread.join()
            self._thread = None
        with self.lock:
            for session in self.sessions:
                session.close()
            self.sessions.clear()

    def close(self) -> None:
        """Give up the loop; the character devices that it served are closed."""
        self.loop.close()

    # -- commands -----------------------------------------------------------------------------------------------------

    def call(self, command: Command, arguments: Mapping[str, Any], monitor: QmpSession | None = None) -> Any:
        """Carry a command out, if the machine is where it is allowed.  Raises QomError."""
        if self.vm.run_state is RunState.PRECONFIG:
            if not command.preconfig:
                raise CommandError(
                    f"The command '{command.name}' is permitted only after machine initialization has completed"
                )
        elif not command.built:
            raise CommandError(f"The command '{command.name}' is permitted only before machine initialization")
        answer = command.call(self.vm, arguments, monitor)
        if self.checked:
            from qom.monitor.qapi import WrongArgument

            try:
                command.returns.check(answer, "return")
            except WrongArgument as error:
                raise CommandError(f"{command.name} answered what its type does not allow: {error}") from None
        return answer

    # -- events -------------------------------------------------------------------------------------------------------

    def hear(self, name: str, told: dict[str, Any]) -> None:
        """Something happened (any thread): tell every session, not more often than its declaration says."""
        if not self.sessions:
            return
        declared = self._events.get(name)
        if declared is None:
            return
        at = told.get("time", 0.0) or time.time()
        members = declared.data.members
        data = {key: told[key] for key in members if key in told} if not declared.data.open else told
        if not declared.every:
            self._tell(name, data, at)
            return
        with self.lock:
            self._limited(declared, data, at)

    def _limited(self, declared: MonitorEvent, data: dict[str, Any], at: float) -> None:
        kind = (declared.name, data.get(declared.key) if declared.key else None)
        now = time.monotonic()
        waiting = self._late.get(kind)
        if waiting is not None:
            self._late[kind] = (waiting[0], data, at)
            return
        since = now - self._last.get(kind, float("-inf"))
        if since >= declared.every:
            self._last[kind] = now
            self._tell(declared.name, data, at)
            return
        later = self.loop.call_later(declared.every - since, lambda: self._tell_late(kind))
        self._late[kind] = (later, data, at)

    def _tell_late(self, kind: tuple[str, Any]) -> None:
        _, data, at = self._late.pop(kind)
        self._last[kind] = time.monotonic()
        self._tell(kind[0], data, at)

    def _tell(self, name: str, data: Mapping[str, Any], at: float) -> None:
        with self.lock:
            for session in self.sessions:
                session.tell(name, data, at)

    def forget(self, session: QmpSession) -> None:
        """A client has gone: what it had asked to be told ends."""
        ends, session.subscriptions = session.subscriptions, {}
        for end in ends.values():
            end()


def service_of(vm: VirtualMachine) -> MonitorService:
    """The monitors of `vm`; made when first asked for."""
    found = vm.monitors
    if found is None:
        found = vm.monitors = MonitorService(vm)
    assert isinstance(found, MonitorService)
    return found
