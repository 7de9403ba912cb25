"""`monitor-hmp`: a monitor for people on a character device (`-monitor`, `-mon mode=readline`).

Any number of them may be there, each with its own line, history and processor.  It is served by the main loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom import type_init
from qom.monitor.qmp import Monitor

if TYPE_CHECKING:
    from qom.monitor.hmp.session import HmpSession
    from qom.vm.chardev import Chardev
    from qom.vm.vm import VirtualMachine


@type_init("monitor-hmp")
class HmpMonitor(Monitor):
    """The monitor for people."""

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "The monitor for people: a line is a command, the answer is text"

    def instance_init(self) -> None:
        """Start unattached."""
        self.session: HmpSession | None = None

    def attach(self, vm: VirtualMachine, chardev: Chardev) -> None:
        """Greet whoever is there, or whoever comes."""
        from qom.monitor.hmp.session import HmpSession

        with vm.lock:
            self.session = HmpSession(vm, chardev, self.path)

    def close(self) -> None:
        """End the session."""
        if self.session is not None:
            self.session.close()
            self.session = None
