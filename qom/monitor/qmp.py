"""`monitor-qmp`: a machine-readable monitor on a character device (`-qmp`, `-mon mode=control`).

Any number of them may be there.  Each serves one client at a time, as its character device does.
"""

from __future__ import annotations

from qom import Object, prop, type_init
from qom.monitor.service import MonitorService, service_of
from qom.monitor.session import QmpSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qom.vm.chardev import Chardev
    from qom.vm.mainloop import MainLoop
    from qom.vm.vm import VirtualMachine


@type_init("monitor", abstract=True)
class Monitor(Object):
    """A monitor on a character device."""

    chardev_id: str = prop("", "Id of the character device it is on", name="chardev")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Monitor", "monitor"

    @classmethod
    def service(cls, vm: VirtualMachine) -> MonitorService:
        """What the monitors of `vm` share, its commands among it; for those who may not import it."""
        return service_of(vm)

    @classmethod
    def served_by(cls, vm: VirtualMachine) -> MainLoop:
        """The loop that serves the character devices of such monitors."""
        return vm.main_loop

    def attach(self, vm: VirtualMachine, chardev: Chardev) -> None:
        """Serve `vm` on `chardev`, which is open."""
        raise NotImplementedError

    def close(self) -> None:
        """Serve no longer."""


@type_init("monitor-qmp")
class QmpMonitor(Monitor):
    """QMP."""

    pretty: bool = prop(False, "Write answers and events over several lines")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "QMP: commands, answers and events as JSON"

    @classmethod
    def served_by(cls, vm: VirtualMachine) -> MainLoop:
        """The monitors' own loop, so that a command that takes long keeps nobody from greeting or from out-of-band ones."""
        return service_of(vm).loop

    def instance_init(self) -> None:
        """Start unattached."""
        self.session: QmpSession | None = None

    def attach(self, vm: VirtualMachine, chardev: Chardev) -> None:
        """Greet the client that is there, or each that comes."""
        service = service_of(vm)
        self.session = session = QmpSession(service, chardev, pretty=self.pretty)
        with service.lock:
            service.sessions.append(session)
            session.open()
        service.start()

    def close(self) -> None:
        """End the session; the service lets its client read what was written before."""
        if self.session is not None:
            self.session.close()
            self.session = None
