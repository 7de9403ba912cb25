"""Subscriptions: a client is told when properties change.

What is set (by a command, a configuration, a device that sets a property) is told at once.  What a device computes, or
changes without setting a property, nobody is told of when it happens: it is read again at an interval of host time that
the client chooses, and told if it is another value then.  A machine without subscribers does nothing of this.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypedDict

from qom.errors import PathError, QomError
from qom.hw import PropertySet
from qom.monitor import CommandError, command
from qom.monitor.commands.tree import property_of, resolve, value_of
from qom.object import Object

if TYPE_CHECKING:
    from qom.hw import Observation
    from qom.monitor.session import QmpSession
    from qom.properties import Property
    from qom.vm import VirtualMachine

INTERVAL = 1000
"""Milliseconds between two looks at what is not told of, unless the client says otherwise."""
INTERVAL_MIN = 10

_WILD = frozenset("*?[")


class ValueThere(TypedDict):
    """A property that a subscription is about, and its value now."""

    path: str
    property: str
    value: Any


class SubscriptionInfo(TypedDict):
    """The number of a subscription, and the values it begins with."""

    subscription: int
    values: list[ValueThere]


@command("x-subscribe-property", preconfig=True)
def x_subscribe_property(
    vm: VirtualMachine, monitor: Any, path: str, property: str = "*", interval: int = INTERVAL
) -> SubscriptionInfo:
    """Have this session told of changes by X_PROPERTY_CHANGED, until it ends or unsubscribes.

    path: of an object, or a pattern of paths ("/machine/cpu*"; * also stands for "/").  property: a name or a pattern.
    interval: milliseconds between two looks at values that devices compute; 0: only what is set is told.
    """
    session = _session(monitor)
    if interval and not INTERVAL_MIN <= interval <= 1 << 32:
        raise CommandError(f"Parameter 'interval' expects 0, or at least {INTERVAL_MIN} milliseconds; got {interval}")
    if not _WILD & set(path):
        obj = resolve(vm, path)
        path = obj.path
        if not _WILD & set(property):
            property_of(obj, property)
    number = max(session.subscriptions, default=0) + 1
    made = Subscription(vm, session, number, path, property, interval / 1000)
    session.subscriptions[number] = made.end
    return {"subscription": number, "values": made.begin()}


@command("x-unsubscribe-property", preconfig=True)
def x_unsubscribe_property(vm: VirtualMachine, monitor: Any, subscription: int) -> None:
    """Be told no more."""
    session = _session(monitor)
    end = session.subscriptions.pop(subscription, None)
    if end is None:
        there = ", ".join(map(str, session.subscriptions)) or "none"
        raise CommandError(f"there is no subscription {subscription} in this session; there are: {there}")
    end()


def _session(monitor: Any) -> QmpSession:
    if not hasattr(monitor, "subscriptions"):
        raise CommandError("subscriptions are for QMP sessions, which can be told of events: expected one")
    session: QmpSession = monitor
    return session


class Subscription:
    """What one client wants to be told; all on the main loop, with the machine lock, except `end`."""

    def __init__(
        self, vm: VirtualMachine, session: QmpSession, number: int, path: str, property: str, interval: float
    ) -> None:
        self.vm, self.session, self.number = vm, session, number
        self.path, self.property, self.interval = path, property, interval
        self._wild = bool(_WILD & set(path))
        self._known: dict[tuple[str, str], Any] = {}
        self._ended = False
        self._observation: Observation | None = None

    def begin(self) -> list[ValueThere]:
        """Take the values there are, and watch from now on."""
        self._known = dict(self._values())
        self._observation = self.vm.observe.properties(self._was_set)
        if self.interval:
            self.vm.main_loop.call_later(self.interval, self._look)
        return [{"path": path, "property": name, "value": value} for (path, name), value in self._known.items()]

    def end(self) -> None:
        """Tell nothing more; any thread, without the machine lock."""
        self._ended = True
        self.vm.main_loop.call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        observation, self._observation = self._observation, None
        if observation is not None:
            observation.close()

    def _values(self) -> Iterator[tuple[tuple[str, str], Any]]:
        for obj in self._objects():
            path = obj.path
            for name, found in obj.properties().items():
                if self._wants(name, found):
                    try:
                        yield (path, name), value_of(obj, found)
                    except QomError:
                        continue  # it cannot be read now

    def _objects(self) -> Iterator[Object]:
        if self._wild:
            yield from (obj for obj in self.vm.root.walk() if fnmatchcase(obj.path, self.path))
            return
        try:
            yield self.vm.root.resolve(self.path)
        except PathError:
            return  # gone; it may come again

    def _wants(self, name: str, found: Property) -> bool:
        return found.kind != "child" and fnmatchcase(name, self.property)

    def _look(self) -> None:
        """Read everything again."""
        if self._ended:
            return
        now = dict(self._values())
        for key, value in now.items():
            if key not in self._known or not _same(self._known[key], value):
                self._tell(*key, value)
        self._known = now
        self.vm.main_loop.call_later(self.interval, self._look)

    def _was_set(self, told: PropertySet) -> None:
        obj, path = told.object, told.object.path
        if self._ended or not (fnmatchcase(path, self.path) if self._wild else path == self.path):
            return
        found = obj.find_property(told.name)
        if not self._wants(found.name, found):
            return
        try:
            value = value_of(obj, found)
        except QomError:
            return
        key = (path, found.name)
        if key not in self._known or not _same(self._known[key], value):
            self._known[key] = value
            self._tell(*key, value)

    def _tell(self, path: str, name: str, value: Any) -> None:
        data = {"subscription": self.number, "path": path, "property": name, "value": value}
        self.session.tell("X_PROPERTY_CHANGED", data, time.time())


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(old == new)
