"""Machine: the type every board derives from.

SEED.md rows 6 and 7.  A machine is a device without a bus.  Setting its `realized` builds the board (QEMU:
`machine_run_board_init`, then `machine->init`); before that its properties are set and an accelerator is chosen.

Guest view: none of its own.  What a board adds is in `machines/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qom.errors import ConfigError, LifecycleError, RealizeError
from qom.hw.bus import SystemBus
from qom.hw.device import Device
from qom.options import Options, Report, at
from qom.properties import prop
from qom.registry import type_init
from qom.vm.lock import MachineLock

if TYPE_CHECKING:
    from qom.config import ChardevEntry, MachineConfig
    from qom.hw.hotplug import HotplugHandler
    from qom.hw.system import WakeReason
    from qom.object import Object
    from qom.registry import TypeRegistry
    from qom.vm.cpu import Cpu
    from qom.vm.vm import VirtualMachine

__all__ = ["Machine"]

MIB = 1 << 20


@type_init("machine", abstract=True)
class Machine(Device):
    """A board that can be realized.

    Class facts: `default_cpu_type` (type name or None for a board without processors), `default_ram_size` in bytes,
    `max_cpus`, `deprecation` (text or None), `can_suspend` (its guest can suspend to RAM), `offers`
    (what devices need of a board, see `Device.needs_of_board`), `default_ram_id` (what its
    memory is called, None without), `numa_mem_supported` (a NUMA node may be given memory by size), `hotpluggable_cpus`
    (a processor may come while it runs).
    """

    default_cpu_type: ClassVar[str | None] = None
    default_ram_size: ClassVar[int] = 128 * MIB
    max_cpus: ClassVar[int] = 1
    offers: ClassVar[frozenset[str]] = frozenset()
    can_suspend: ClassVar[bool] = False
    default_ram_id: ClassVar[str | None] = None
    numa_mem_supported: ClassVar[bool] = False
    hotpluggable_cpus: ClassVar[bool] = False

    ram_size: int = prop(128 * MIB, "Guest memory", type="size", unit="bytes", min=0)
    cpu_type: str = prop("", "Type of the processors; empty for the board's own choice")
    smp_cpus: int = prop(1, "Processors present at start", type="uint32", min=1, max=4096)
    smp_sockets: int = prop(1, "Processor sockets", type="uint32", min=1, max=4096)
    smp_cores: int = prop(1, "Cores in a socket", type="uint32", min=1, max=4096)
    smp_threads: int = prop(1, "Threads of a core", type="uint32", min=1, max=4096)
    firmware: str = prop("", "Firmware image; empty for the board's own choice")

    def instance_init(self) -> None:
        """Give the machine its system bus, and with it the memory and port roots."""
        self.cpus: list[Cpu] = []
        self.accel: Object | None = None
        self._vm: VirtualMachine | None = None
        self.config: MachineConfig | None = None
        self.ready = False
        self.system_bus: SystemBus
        bus = self.registry.new("system-bus")
        assert isinstance(bus, SystemBus)
        self.system_bus = bus
        self.add_child("system-bus", bus)

    def attach(self, vm: VirtualMachine) -> None:
        """Hand the machine what it runs in: clock, lock and requests to the outside (called by VirtualMachine)."""
        self._vm = vm
        self.system_bus.set_services(vm.clock, vm)
        self.clock = vm.clock
        self.system = vm

    @property
    def vm(self) -> VirtualMachine:
        """The virtual machine this board was built for."""
        if self._vm is None:
            raise RealizeError(f"{self.path}: a machine is built by a VirtualMachine, which attaches itself first")
        return self._vm

    @property
    def lock(self) -> MachineLock:
        """The machine lock."""
        return self.vm.lock

    def realize(self) -> None:
        """Build the board: check the size of what was asked for, then `init`."""
        super().realize()
        if self.smp_cpus > type(self).max_cpus:
            text = f"{self.path}: smp-cpus is {self.smp_cpus}, {self.type_name} has room for {type(self).max_cpus}"
            raise ConfigError(text, self.config.smp.origin if self.config is not None else "")
        self.init()

    def init(self) -> None:
        """Make and wire the parts (QEMU's `MachineClass.init`).  Boards override this."""

    def check_config(self, config: MachineConfig, report: Report) -> None:
        """Tell `report` what this board cannot build of a configuration, as far as that shows without building it.

        Asked of an object that is in no tree and will not be realized; its properties are set.  Boards extend it.
        """
        if config.smp.cpus > type(self).max_cpus:
            text = f"smp: cpus is {config.smp.cpus}: {self.type_name} has room for {type(self).max_cpus}"
            report(ConfigError(text, at(config.smp.origin, "cpus")))

    def known_buses(self) -> dict[str, str] | None:
        """The buses this board has, by name, with their types; None when only building it shows them."""
        return None

    def creation_done(self) -> None:
        """All devices of the configuration are there: finish what depends on them (tables, boot order)."""
        self.ready = True

    @property
    def takes_hotplug_rules(self) -> bool:
        """Until everything configured is there, devices come and go freely."""
        return self.ready

    @property
    def changeable_parts(self) -> frozenset[str]:
        """The names of the parts that a `[[part]]` of a machine file can change.  Boards that are data override this."""
        return frozenset()

    @classmethod
    def cpu_type_of(cls, registry: TypeRegistry, model: str) -> str:
        """The name of the type of a processor model of this board, which may be named in short."""
        return model

    def cpu_type_name(self) -> str:
        """The name of the type of its processors."""
        return self.cpu_type or type(self).default_cpu_type or ""

    def add_cpu(self, driver: str, id: str | None, props: Options) -> Cpu:
        """Make one more processor; boards that can override this.

        Raises:
            ConfigError: this one cannot, or not as asked.
        """
        raise ConfigError("machine does not support hot-plugging CPUs")

    def remove_cpu(self, cpu: Cpu) -> None:
        """Take a processor out; called on no processor's thread.

        Raises:
            LifecycleError: it is the one that starts the machine.
        """
        if cpu.is_bootstrap:
            raise LifecycleError("Boot CPU is unpluggable")
        try:
            cpu.unparent()
        finally:
            if not cpu.realized:  # a new list: other threads may be going through the one there was
                self.cpus = [other for other in self.cpus if other is not cpu]

    def hotplug_handler(self, device: Device) -> HotplugHandler | None:
        """Who tells the guest of `device` and asks for it; None when it comes and goes without.

        Boards that have one for processors extend it.
        """
        return device.bus.hotplug_handler if device.bus is not None else None

    def leaving(self) -> list[Device]:
        """The devices that the guest was asked for and that a reset takes out.  Boards that have such override this."""
        return []

    def cpu_place(self, index: int) -> dict[str, int]:
        """Where processor `index` is: "socket-id", "core-id", "thread-id", and "node-id" with NUMA; {} if nowhere."""
        return {}

    def has_place_for(self, chardev: ChardevEntry) -> bool:
        """Whether to make a back end; no if it is that of the serial port which is there by default, and here is not."""
        return True

    def powerdown(self) -> None:
        """Press the power button.  A board with one overrides this."""

    def fall_asleep(self) -> None:
        """The guest has suspended itself to RAM: note what firmware wants to know when the machine is woken."""

    def wakes_by(self, reason: WakeReason) -> bool:
        """Whether the guest lets this wake the suspended machine."""
        return True

    def wake_up(self, reason: WakeReason) -> None:
        """The machine was woken and has just been reset: tell the guest by what."""

    def set_boot_order(self, order: str) -> None:
        """Have the firmware boot in this order of letters from the next reset on.  A board that can overrides this.

        Raises:
            LifecycleError: this one cannot.
            ConfigError: a letter that no boot device has.
        """
        raise LifecycleError("no function defined to set boot device list for this architecture")

    def inject_nmi(self) -> None:
        """Press the NMI button.  A board with one overrides this.

        Raises:
            LifecycleError: this one has none.
        """
        raise LifecycleError("this feature or command is not currently supported")

    def configure_from(self, config: MachineConfig) -> None:
        """Take from the configuration what no property carries (kernel, boot order, back ends).  Boards override this."""
        self.config = config
        changes: list[Any] = [*config.parts, *config.wires, *config.regions]
        if changes and not self.is_a("board-machine"):
            raise ConfigError(f"the board of {self.type_name} is no data that could be changed", changes[0].origin)
