"""What a PC is beyond its parts: the firmware's image, what the firmware is told, the clock's date, the power button.

The parts, the memory map and the wires are `pc-i440fx.toml`, which extends the type "pc-machine-base" of this module.

Stages 7 to 10 of the seed under QEMU's names: `pc_init1`, `pc_memory_init`, `pc_cpus_init`, `pc_new_cpu`, `pc_bios_init`.

Modelled: RAM below and above 4 GiB, firmware under 4 GiB with its alias under 1 MiB, A20 for the second megabyte, serial
and parallel ports, IDE disks on the PIIX controller, floppy drives, speaker, debug console, power button, suspend to RAM.
ACPI tells the guest of processors and PCI devices that come while it runs, and asks for those that are to go.
Not modelled: USB, system-management mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel import Accel
from plugins.firmware import FDSETS, loader
from qom import (
    ConfigError,
    Cpu,
    Device,
    GlobalProperty,
    QomError,
    Region,
    Reset,
    RunState,
    SteppedClock,
    alias,
    did_you_mean,
    format_size,
    placed,
    prop,
    type_init,
)
from qom.board import Assembly, BoardMachine, BoardRegion, Report, unreadable

if TYPE_CHECKING:
    from machines.pc_direct import DirectLoader
    from qom import MachineConfig
    from qom.hw import HotplugHandler, WakeReason

__all__ = ["PcMachine", "pc_bios_init", "pc_cpus_init", "pc_init1", "pc_memory_init", "pc_new_cpu"]

RAM = "pc.ram"
FOUR_GIB = 1 << 32
SHUTDOWN_CODE = 0x0F  # CMOS byte: what firmware does after a reset
WAKES_FROM_RAM = 0xFE  # in it: SeaBIOS resumes a guest that suspended itself
QOM_BOARDS = ("pc-i440fx.toml",)


@type_init("pc-machine-base", abstract=True)
class PcMachine(BoardMachine):
    """A PC; the board files that extend it have `below-4g` and `above-4g` among their values, and RAM named `pc.ram`.

    What it tells the firmware goes to the parts `rtc` (CMOS) and `fw_cfg`; a board that has another chip in the place
    of one of them, or none, has nothing told there.
    """

    takes_kernel = True
    can_suspend = True
    offers = frozenset({"fw_cfg"})
    default_ram_id = RAM
    numa_mem_supported = True
    hotpluggable_cpus = True

    desc = "What a PC is beyond its parts"

    rtc_base: str = prop("", "Date and time the clock starts with, YYYY-MM-DDTHH:MM:SS; empty: the host's, in UTC")

    acpi: bool = prop(True, "Whether there are ACPI tables")
    fd_bootchk: bool = prop(True, "Whether firmware looks for a signature on a floppy before it boots from it")

    ram: Region
    below_4g: int
    above_4g: int

    def instance_init(self) -> None:
        """Nothing loads a kernel before everything is there."""
        self._loader: DirectLoader | None = None
        self.boot_roms: list[str] = []  # what `bootorder` calls the ROMs that come before the disks
        self._starts = 0  # resets since the order of `-boot once=` was told

    def init(self) -> None:
        """Make and wire the parts."""
        pc_init1(self)

    def make_memory(self, assembly: Assembly) -> None:
        """RAM and firmware."""
        pc_memory_init(self, assembly)

    def make_cpus(self) -> None:
        """The processors."""
        pc_cpus_init(self)

    def new_cpu(self, index: int) -> None:
        """One processor."""
        pc_new_cpu(self, index)

    def image(self, region: BoardRegion) -> bytes:
        """The firmware's image is found where firmware is; others are the board's own."""
        return pc_bios_init(self, region) if region.property == "firmware" else super().image(region)

    def refusals(self, config: MachineConfig) -> Iterator[ConfigError]:
        """Also a machine that has neither firmware nor a kernel to start."""
        yield from super().refusals(config)
        if (config.firmware or self.firmware) == loader.NO_FIRMWARE and config.kernel is None:
            text = "there is nothing to start without firmware: expected a kernel (-kernel)"
            yield ConfigError(text, config.origin_of("firmware"))

    def check_config(self, config: MachineConfig, report: Report) -> None:
        """Also whether the kernel is of a known kind, and what goes with it is there."""
        super().check_config(config, report)
        files = [] if config.initrd is None else [config.initrd]
        if config.kernel is not None and Path(config.kernel).is_file():
            try:
                from plugins.firmware.kernel import Request, open_kernel

                files = open_kernel(config.kernel).files(Request(initrd=config.initrd))
            except QomError as error:
                report(ConfigError(str(error), config.origin_of("kernel")))
        for file in files:
            if (wrong := unreadable(file)) is not None:
                report(ConfigError(f"initrd '{file}' cannot be read: {wrong}", config.origin_of("initrd")))

    def check_image(self, region: BoardRegion, name: str) -> None:
        """The firmware's image is looked for where firmware is, and has to be of a possible size."""
        if region.property == "firmware":
            if name != loader.NO_FIRMWARE and not name.startswith(FDSETS):
                loader.load_firmware(name, self.config.data_dirs if self.config is not None else ())
        else:
            super().check_image(region, name)

    def creation_done(self) -> None:
        """Every device is there: fill what the firmware is told."""
        super().creation_done()
        from machines import pc_firmware, pc_hotplug

        if self.chip("rtc", "mc146818rtc") is not None and self.instance_property("rtc-time") is None:
            self.add_property(alias("rtc", "date", "Date and time now, as `date` of the clock says it"), "rtc-time")
        pc_hotplug.connect(self)
        pc_firmware.fill(self)
        if self.firmware == loader.NO_FIRMWARE:
            from machines import pc_direct

            self._loader = pc_direct.loader_of(self)

    def reset_exit(self, kind: Reset) -> None:
        """Without firmware, what firmware does is done here once all parts are reset."""
        super().reset_exit(kind)
        if kind is not Reset.WAKE and self.vm.run_state is RunState.SUSPENDED:
            self._set_shutdown_code(0)  # somebody resets it in its sleep
        if kind is not Reset.WAKE and self.config is not None and "once" in self.config.boot and self._starts < 2:
            self._starts += 1
            if self._starts == 2:  # the first one was that at the beginning
                from machines import pc_firmware

                pc_firmware.set_boot_order(self, pc_firmware.boot_order(self, once=False))
        if self._loader is not None:
            (self._loader.resume if kind is Reset.WAKE else self._loader.load)()

    def set_boot_order(self, order: str) -> None:
        """Through CMOS memory and fw_cfg, where the firmware looks."""
        from machines import pc_firmware

        pc_firmware.set_boot_order(self, pc_firmware.checked_order(order))

    def powerdown(self) -> None:
        """The power button: PIIX4's."""
        pm = self.chip("pm", "PIIX4_PM")
        if pm is not None:
            pm.power_button()

    def fall_asleep(self) -> None:
        """Firmware finds in CMOS memory what the next reset is for, as QEMU's tells it."""
        self._set_shutdown_code(WAKES_FROM_RAM)

    def wakes_by(self, reason: WakeReason) -> bool:
        """The PIIX4's enable bits decide."""
        pm = self.chip("pm", "PIIX4_PM")
        return pm is None or bool(pm.wakes_by(reason))

    def wake_up(self, reason: WakeReason) -> None:
        """The PIIX4's status bits say that it slept, and why it does no longer."""
        pm = self.chip("pm", "PIIX4_PM")
        if pm is not None:
            pm.wake_up(reason)

    def _set_shutdown_code(self, code: int) -> None:
        rtc = self.chip("rtc", "mc146818rtc")
        if rtc is not None:
            rtc.set_cmos(SHUTDOWN_CODE, code)

    def inject_nmi(self) -> None:
        """The NMI button: LINT1 of every local APIC, where there is one and the guest has let it through."""
        for cpu in self.cpus:
            apic = getattr(cpu, "apic", None)
            if apic is None:
                cpu.request_nmi()
            else:
                apic.set_lint1(1)
                apic.set_lint1(0)

    def hotplug_handler(self, device: Device) -> HotplugHandler | None:
        """Also that of processors: ACPI's, if there is any."""
        if isinstance(device, Cpu):
            from machines import pc_hotplug

            found: HotplugHandler | None = pc_hotplug.cpu_controller(self)
            return found
        return super().hotplug_handler(device)

    def leaving(self) -> list[Device]:
        """PCI devices that the guest was asked for."""
        from machines import pc_hotplug

        return [*super().leaving(), *pc_hotplug.leaving(self)]

    def add_cpu(self, driver: str, id: str | None, props: dict[str, Any]) -> Cpu:
        """Also tell the firmware, for the next start."""
        cpu = super().add_cpu(driver, id, props)
        self._cpus_changed()
        return cpu

    def remove_cpu(self, cpu: Cpu) -> None:
        """Also tell the firmware, for the next start."""
        super().remove_cpu(cpu)
        self._cpus_changed()

    def _cpus_changed(self) -> None:
        if self.ready:  # else it is told when everything is there
            from machines import pc_firmware

            pc_firmware.tell_cpus(self)

    def chip(self, name: str, type_name: str) -> Any:
        """The part `name` if it is such a chip; None where the board has another in its place, or none."""
        part = self.children().get(name)
        return part if isinstance(part, Device) and part.is_a(type_name) else None


def pc_init1(machine: PcMachine) -> None:
    """Build the board (QEMU's `pc_init1`): processors, memory, parts and wires, and what the user attached."""
    rtc = machine.config.rtc if machine.config is not None else {}
    asked = machine.rtc_base or rtc.get("base", "")
    if asked in ("", "utc", "localtime"):
        now = datetime.now() if asked == "localtime" else datetime.now(UTC)
        base, of_the_host = now.strftime("%Y-%m-%dT%H:%M:%S"), True
    else:
        base, of_the_host = asked if "T" in asked else f"{asked}T00:00:00", False
    date = GlobalProperty("mc146818rtc", "base", base, f"machine {machine.type_name}", of_the_host=of_the_host)
    machine.registry.globals.insert(0, date)
    BoardMachine.init(machine)
    # A date that is given, and time that is stepped, are for runs that can be repeated: they do not follow the host.
    default = "host" if of_the_host and not isinstance(machine.vm.clock, SteppedClock) else "vm"
    follows = rtc.get("clock", default)
    clock = machine.chip("rtc", "mc146818rtc") if follows != "vm" else None
    if clock is not None:
        from machines.pc_clock import follow_host

        follow_host(machine.vm, clock, wall=follows == "host")


def pc_cpus_init(machine: PcMachine) -> None:
    """Make the processors (QEMU's `pc_cpus_init`)."""
    BoardMachine.make_cpus(machine)


def pc_new_cpu(machine: PcMachine, index: int) -> None:
    """Make one processor; setting its `realized` creates its thread (QEMU's `pc_new_cpu`)."""
    BoardMachine.new_cpu(machine, index)


def pc_memory_init(machine: PcMachine, assembly: Assembly) -> None:
    """One RAM block, seen below the PCI hole and above 4 GiB (QEMU's `pc_memory_init`; SEED.md row 9)."""
    check_ram_size(machine)
    BoardMachine.make_memory(machine, assembly)
    ram = assembly.regions.get(RAM)
    if ram is None:
        near = did_you_mean(RAM, assembly.regions)
        raise ConfigError(f"{machine.type_name}: a PC's board has a region '{RAM}', its RAM{near}")
    machine.ram = ram
    machine.below_4g, machine.above_4g = machine.value("below-4g"), machine.value("above-4g")


def check_ram_size(machine: PcMachine) -> None:
    """Raise ConfigError when the RAM would not end where the processors' addresses do, at the latest."""
    below, above = machine.value("below-4g"), machine.value("above-4g")
    if not isinstance(machine.accel, Accel):
        return
    bits = machine.accel.address_bits()
    if above > (room := (1 << bits) - FOUR_GIB):
        raise ConfigError(
            f"a PC with {format_size(machine.ram_size)} of memory does not fit into the {bits} bits that guest-physical"
            f" addresses have here: expected at most {format_size(below + room)}",
            machine.vm.config.origin_of("memory"),
        )


def pc_bios_init(machine: PcMachine, region: BoardRegion) -> bytes:
    """The image that ends where the reset vector is (QEMU's `bochs_bios_init`; SEED.md row 10)."""
    if machine.firmware == loader.NO_FIRMWARE:
        return loader.empty_rom()
    with placed(machine.image_origin(region)):
        vm = machine.vm
        return loader.load_firmware(machine.firmware or None, vm.config.data_dirs, vm.read_file).data
