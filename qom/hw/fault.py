"""What goes wrong inside a device, an observer or another plugin while a machine runs.

A device callback that raises is a bug in the device, not in the guest and not in the process around it.  Whoever calls
into it (the address space for accesses, the clock for timers, the line for its handler, the reset for resets) turns the
exception into one `DeviceFault`: which device, of which type and distribution, what it was doing (region, offset, width,
address), and the line of the plugin's code that raised.  Whoever runs the machine stops that machine with it and leaves
every other machine alone.  Which exceptions that goes for is in qom/blame.py.
"""

from __future__ import annotations

from collections.abc import Callable

from qom.blame import blamed, named, place_of, shown, who
from qom.errors import Fault

__all__ = ["DeviceFault", "Fault", "ObserverFault"]


class DeviceFault(Fault):
    """A device callback raised.

    `device` is the canonical path of the owner (or the region's or timer's name when it has none), `region` the name of
    the region, `offset` and `size` the access in bytes within it, `address` where that is in its address space (None:
    not mapped).  For anything that is not an access (`doing` says what) the region is empty and the numbers are 0.
    `place` is the line to blame, "file:line" (None: where `cause` was raised).
    `type_name` and `distribution` say what the device is and who brought it ("" when there is no such object).
    """

    def __init__(
        self,
        device: str,
        cause: BaseException,
        *,
        region: str = "",
        offset: int = 0,
        size: int = 0,
        is_write: bool = False,
        address: int | None = None,
        doing: str = "",
        owner: object = None,
        place: str | None = None,
    ) -> None:
        self.device = device
        self.region = region
        self.offset = offset
        self.size = size
        self.is_write = is_write
        self.address = address
        verb = "write to" if is_write else "read from"
        where = "" if address is None else f" (address {address:#x})"
        self.doing = doing or f"{size}-byte {verb} {region} at offset {offset:#x}{where}"
        self.type_name, self.distribution = who(owner)
        self.place = place_of(cause, getattr(owner, "type", None)) if place is None else place
        report = blamed(self.type_name, self.distribution, self.place)
        super().__init__(f"{device}: {self.doing} raised {shown(cause)}{report}")


class ObserverFault(Fault):
    """An observer's callback raised something else than `Fail`; `watching` says what it was told of."""

    def __init__(self, callback: Callable[..., object], cause: BaseException, watching: str) -> None:
        self.watching = watching
        self.place = place_of(cause)
        super().__init__(
            f"observer {named(callback)}, told of {watching}, raised {shown(cause)}{blamed('', '', self.place)}"
        )
