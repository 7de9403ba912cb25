"""`-rtc clock=host` and `clock=rt`: a PC's clock goes on while the machine stands.

The chip counts guest time, which stands while the machine does.  At every start of the machine what the host's clock went
ahead in the meantime is added.  Not modelled: following a change of the host's clock while the machine runs.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from qom import VirtualMachine

__all__ = ["follow_host"]


def follow_host(vm: VirtualMachine, chip: Any, *, wall: bool) -> None:
    """Have the clock `chip` catch up with the host whenever `vm` starts to run; the machine lock is held.

    wall: by the host's date, which somebody may change; else by its monotonic clock.
    """
    host_now = time.time_ns if wall else time.monotonic_ns
    behind = host_now() - vm.clock.now()

    def on_event(event: str, data: dict[str, Any]) -> None:
        nonlocal behind
        del data
        if event == "RESUME":
            now = host_now() - vm.clock.now()
            chip.advance(now - behind)
            behind = now

    vm.events.append(on_event)
