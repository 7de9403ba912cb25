"""Three-phase reset over the tree.

A reset of an object reaches every realized device below it, in the composition tree and on the buses of the devices
there: first all of them enter reset (state is cleared, nothing else is touched), then all hold it (lines are driven to
their reset levels), then all leave it (what the device does by itself after reset starts).  In each phase what is on a
device's buses comes before the device.  So no device meets a half-reset neighbour whose lines it drives.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

from qom.blame import passes
from qom.hw.fault import DeviceFault, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom.object import Object


class Reset(enum.Enum):
    """What kind of reset it is."""

    COLD = "cold"  # power was switched on, or looks like it was
    WARM = "warm"  # the reset line only: battery- and standby-powered state stays
    WAKE = "wake"  # the end of suspend to RAM: what keeps memory stays, too


class Resettable:
    """What takes part in a reset; devices and buses do."""

    def reset_enter(self, kind: Reset) -> None:
        """First phase: forget state.  Touch no other object."""

    def reset_hold(self, kind: Reset) -> None:
        """Second phase: drive lines to their reset levels."""

    def reset_exit(self, kind: Reset) -> None:
        """Third phase: begin to work again."""

    @property
    def takes_reset(self) -> bool:
        """Whether the reset reaches it now."""
        return True


def reset_tree(obj: Object, kind: Reset = Reset.COLD) -> None:
    """Reset `obj` and everything below it.  Machine lock held.  A device that raises is reported as a `DeviceFault`."""
    order: list[Any] = [found for found in subtree(obj) if isinstance(found, Resettable) and found.takes_reset]
    probe = obj.registry.probe
    if probe is not None:
        order = [found for found in order if probe.step("reset", found, kind.value) is None]
    for found in order:
        _phase(found, found.reset_enter, kind)
    for found in order:
        _phase(found, found.reset_hold, kind)
    for found in order:
        _phase(found, found.reset_exit, kind)


def subtree(obj: Object) -> Iterator[Object]:
    """`obj` and all objects below it, by composition or on its buses, each once, what is below first."""
    yield from _walk(obj, set())


def _walk(obj: Object, seen: set[int]) -> Iterator[Object]:
    if id(obj) in seen:
        return
    seen.add(id(obj))
    for device in getattr(obj, "devices", ()):
        yield from _walk(device, seen)
    for child in list(obj.children().values()):
        yield from _walk(child, seen)
    yield obj


def _phase(obj: object, step: Callable[[Reset], None], kind: Reset) -> None:
    try:
        step(kind)
    except Fault:
        raise
    except BaseException as error:
        if passes(error):
            raise
        path = getattr(obj, "path", repr(obj))
        raise DeviceFault(path, error, doing=f"{kind.value} reset", owner=obj) from error
