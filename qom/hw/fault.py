"""What goes wrong inside a device while the guest runs.

A device callback that raises is a bug in the device, not in the guest and not in the process around it.  The address
space (the clock for timers, the reset for resets) turns the exception into one `DeviceFault` that says which device,
which region, where and how wide; whoever runs the machine stops that machine with it and leaves every other machine
alone.
"""

from __future__ import annotations

from qom.errors import QomError


class DeviceFault(QomError):
    """A device callback raised; the original exception is `__cause__`.

    `device` is the canonical path of the owner (or the region's or timer's name when it has none), `region` the name of
    the region, `offset` and `size` the access in bytes within it.  For anything that is not an access (`doing` says
    what) the region is empty and both numbers are 0.
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
        doing: str = "",
    ) -> None:
        self.device = device
        self.region = region
        self.offset = offset
        self.size = size
        self.is_write = is_write
        verb = "write to" if is_write else "read from"
        self.doing = doing or f"{size}-byte {verb} {region} at offset {offset:#x}"
        super().__init__(f"{device}: {self.doing} raised {type(cause).__name__}: {cause}")
