"""The life cycle of an object: what follows what, in one table.

created -> configured -> realized -> running -> realized -> unrealized -> finalized.  A failed realize leaves the object
configured; an unrealized one may be configured and realized again.  Only machines go through `running`.
"""

from __future__ import annotations

import enum

from qom.errors import LifecycleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.object import Object


class Life(enum.Enum):
    """Where an object is in its life."""

    CREATED = "created"  # instance_init has run; properties may be set
    CONFIGURED = "configured"  # its configuration was checked and is complete
    REALIZED = "realized"  # it has its place, lines and memory; the guest can see it
    RUNNING = "running"  # a machine whose vCPUs may run
    UNREALIZED = "unrealized"  # taken out again; properties may be set
    FINALIZED = "finalized"  # gone


TRANSITIONS: dict[Life, frozenset[Life]] = {
    Life.CREATED: frozenset({Life.CONFIGURED, Life.FINALIZED}),
    Life.CONFIGURED: frozenset({Life.REALIZED, Life.FINALIZED}),
    Life.REALIZED: frozenset({Life.RUNNING, Life.UNREALIZED}),
    Life.RUNNING: frozenset({Life.REALIZED}),
    Life.UNREALIZED: frozenset({Life.CONFIGURED, Life.FINALIZED}),
    Life.FINALIZED: frozenset(),
}

SETTABLE = (Life.CREATED, Life.CONFIGURED, Life.UNREALIZED)  # a tuple: members of an Enum are slow to hash
"""Phases in which every property may be set; in the others only the mutable ones (none once finalized)."""


def move(obj: Object, to: Life) -> None:
    """Take `obj` to the phase `to`, or raise `LifecycleError` naming both phases and what is allowed."""
    check_move(obj, to)
    obj.life = to


def check_move(obj: Object, to: Life) -> None:
    """Raise `LifecycleError` unless `obj` may go to the phase `to` now."""
    allowed = TRANSITIONS[obj.life]
    if to not in allowed:
        names = ", ".join(sorted(a.value for a in allowed)) or "nothing"
        raise LifecycleError(
            f"{obj.path}: cannot go from {obj.life.value} to {to.value}: from {obj.life.value} follows {names}"
        )
