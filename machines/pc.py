"""pc-i440fx: the PC with an i440FX host bridge and PIIX south bridges.

The wiring is data: `PARTS` says which part sits on which bus, `WIRES` which output drives which input, in the vocabulary
of `qom.board`.  What follows is what only the board knows: how RAM lies, where the firmware lies, what the firmware
is told (CMOS, fw_cfg, tables).

Stages 7 to 10 of the seed under QEMU's names: `pc_init1`, `pc_memory_init`, `pc_cpus_init`, `pc_new_cpu`, `pc_bios_init`.

Modelled: RAM below and above 4 GiB, firmware under 4 GiB with its alias under 1 MiB, A20 for the second megabyte, serial
ports, IDE disks on the PIIX controller, debug console, power button.
Not modelled: VGA and its ROM, floppy, parallel port, USB, HPET, system-management mode, CPU hotplug.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from qom import (
    ConfigError,
    Device,
    GlobalProperty,
    Machine,
    RealizeError,
    Region,
    did_you_mean,
    placed,
    prop,
    type_init,
)
from qom.board import Part, Wire, add_part, assemble

if TYPE_CHECKING:
    from qom import DriveEntry, MachineConfig

__all__ = ["PcI440FX", "pc_cpus_init", "pc_init1", "pc_memory_init", "pc_new_cpu"]

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
FOUR_GIB: Final = 4 * GIB
PCI_HOLE: Final = 0xE0000000  # below-4G RAM ends here at the latest
LOW_RAM_WITH_HIGH: Final = 0xC0000000  # … and here once there is RAM above 4 GiB
HIGH_MEGABYTE: Final = 0x100000
ISA_BIOS_SIZE: Final = 128 * KIB  # at most so much of the firmware is seen under 1 MiB
ISA_LINES: Final = 16

ISA, PCI = "piix3.isa.0", "pcihost.pci.0"

# Order matters only where one part provides the bus of another.
PARTS: Final = (
    Part("a20", "a20-gate", when="a20_gate"),
    Part("gsi", "gsi-lines"),
    Part("pcihost", "i440FX-pcihost"),
    Part("i440fx", "i440FX", PCI, {"addr": "00.0"}),
    Part("piix3", "PIIX3", PCI, {"addr": "01.0", "multifunction": True}),
    Part("ide", "piix3-ide", PCI, {"addr": "01.1"}),
    Part("pm", "PIIX4_PM", PCI, {"addr": "01.3"}),
    Part("ioapic", "{ioapic}"),
    Part("pit", "isa-pit", ISA, {"iobase": 0x40}),
    Part("port61", "port61", ISA, links={"pit": "pit"}),
    Part("rtc", "mc146818rtc", ISA, {"iobase": 0x70}),
    Part("i8042", "i8042", ISA),
    Part("port92", "port92", ISA),
    Part("dma", "i8257", ISA),
    Part("fw_cfg", "fw_cfg_io", ISA),
)

# Where the interrupt controllers are in user space …
PIC_PARTS: Final = (
    Part("pic2", "isa-i8259", ISA, {"iobase": 0xA0, "elcr-addr": 0x4D1, "elcr-mask": 0xDE, "master": False}),
    Part("pic", "isa-i8259", ISA, {"iobase": 0x20, "elcr-addr": 0x4D0, "elcr-mask": 0xF8}, {"slave": "pic2"}),
)
PIC_WIRES: Final = (
    *(Wire(f"gsi.pic[{n}]", f"pic[{n}]") for n in range(8) if n != 2),
    *(Wire(f"gsi.pic[{n}]", f"pic2[{n - 8}]") for n in range(8, ISA_LINES)),
    Wire("pic2.intr", "pic[2]"),
)
# … and where they are in the accelerator.
KERNEL_PIC_PARTS: Final = (Part("pic", "{pic}"),)
KERNEL_PIC_WIRES: Final = tuple(Wire(f"gsi.pic[{n}]", f"pic[{n}]") for n in range(ISA_LINES))

WIRES: Final = (
    *(Wire(f"{ISA}:irq[{n}]", f"gsi[{n}]") for n in range(ISA_LINES)),
    *(Wire(f"gsi.ioapic[{n}]", f"ioapic[{n}]") for n in range(24)),
    Wire("pit[0]", "gsi.board[0]"),
    Wire("ide.isa-irq[0]", "gsi.board[14]"),
    Wire("ide.isa-irq[1]", "gsi.board[15]"),
    Wire("pm.sci", "gsi.board[9]"),
    Wire("i8042.a20", "a20.i8042"),
    Wire("port92.a20", "a20.port92"),
)

# What a version changes against the newest one: (driver, property, value).  There is one version so far.
VERSIONS: Final[dict[str, tuple[tuple[str, str, Any], ...]]] = {"0.1": ()}

SERIAL_PORTS: Final = 4
IDE_UNITS: Final = 4


@type_init("pc-machine-base", abstract=True)
class PcI440FX(Machine):
    """The board; versions derive from it and differ in a table of property values."""

    version: ClassVar[str] = "0.1"

    a20_gate: bool = prop(True, "Whether the A20 gate masks the second megabyte while it is closed")

    rtc_base: str = prop("", "Date and time the clock starts with, YYYY-MM-DDTHH:MM:SS; empty: the host's, in UTC")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc = "Standard PC (i440FX + PIIX)"
        cls.default_cpu_type = "qemu64-x86_64-cpu"
        cls.default_ram_size = 128 * MIB
        cls.max_cpus = 64

    def instance_init(self) -> None:
        """Give the parts what this version says."""
        origin = f"machine {self.type_name}"
        own = [
            GlobalProperty(driver, name, value, origin, optional=True) for driver, name, value in VERSIONS[self.version]
        ]
        self.registry.globals[:0] = own  # what the user says comes later and wins

    ram: Region
    below_4g: int
    above_4g: int
    apic_bus: Any
    firmware_image: Any
    cpu_features: dict[str, bool]

    def configure_from(self, config: MachineConfig) -> None:
        """The processor model and its features."""
        super().configure_from(config)
        self.cpu_features = {}
        if config.cpu is not None:
            name = f"{config.cpu.model}-x86_64-cpu"
            known = {t.name for t in self.registry.types("x86_64-cpu", abstract=False)}
            if name not in known:
                short = [n.removesuffix("-x86_64-cpu") for n in known]
                hint = did_you_mean(config.cpu.model, short)
                text = f"unknown processor model {config.cpu.model!r}{hint}; there are: {', '.join(sorted(short))}"
                raise ConfigError(text, config.cpu.origin)
            self.set("cpu-type", name)
            for feature, value in config.cpu.features.items():
                if not isinstance(value, bool):
                    text = f"processor feature {feature!r} cannot be {value!r}: expected on or off"
                    raise ConfigError(text, config.cpu.origin)
                self.cpu_features[feature] = value

    def init(self) -> None:
        """Make and wire the parts."""
        pc_init1(self)

    def creation_done(self) -> None:
        """Every device is there: fill what the firmware is told."""
        super().creation_done()
        from machines import pc_firmware

        pc_firmware.fill(self)

    def powerdown(self) -> None:
        """The power button: PIIX4's."""
        self.child("pm").power_button()

    def part(self, name: str) -> Any:
        """The part of that name."""
        return self.child(name)


def pc_init1(machine: PcI440FX) -> None:
    """Build the board (QEMU's `pc_init1`): processors, memory, parts and wires, firmware, what the user attached."""
    base = machine.rtc_base or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    machine.registry.globals.insert(0, GlobalProperty("mc146818rtc", "base", base, f"machine {machine.type_name}"))
    accel: Any = machine.accel
    roles = accel.chip_types()
    in_kernel = roles["pic"] != "isa-i8259"
    machine.apic_bus = add_part(machine, Part("apic-bus", "apic-bus"), {}, {})
    pc_cpus_init(machine)
    pc_memory_init(machine)
    parts = (*PARTS, *(KERNEL_PIC_PARTS if in_kernel else PIC_PARTS))
    wires = (*WIRES, *(KERNEL_PIC_WIRES if in_kernel else PIC_WIRES))
    handed = {
        "a20": {"ram": machine.ram},
        "pcihost": {"ram": machine.ram},
        "ioapic": {"accel": accel} if in_kernel else {"apic_bus": machine.apic_bus},
        "pic": {"accel": accel} if in_kernel else {},
    }
    assemble(machine, parts, wires, roles, handed)
    if not in_kernel:
        pc_connect_pic(machine)
    pc_bios_init(machine)
    pc_serial_init(machine)
    pc_drives_init(machine)


def pc_cpus_init(machine: PcI440FX) -> None:
    """Make the processors (QEMU's `pc_cpus_init`)."""
    threads, cores = machine.smp_threads, machine.smp_cores
    thread_bits, core_bits = (threads - 1).bit_length(), (cores - 1).bit_length()
    for index in range(machine.smp_cpus):
        thread, core, socket = index % threads, index // threads % cores, index // (threads * cores)
        apic_id = (socket << core_bits | core) << thread_bits | thread
        if apic_id > 254:
            raise RealizeError(f"{machine.path}: processor {index} would have APIC id {apic_id}: expected at most 254")
        pc_new_cpu(machine, index, apic_id, {"socket-id": socket, "core-id": core, "thread-id": thread})


def pc_new_cpu(machine: PcI440FX, index: int, apic_id: int, place: dict[str, int]) -> None:
    """Make one processor; setting its `realized` creates its thread (QEMU's `pc_new_cpu`)."""
    type_name = machine.cpu_type or type(machine).default_cpu_type
    assert type_name is not None
    cpu = machine.registry.new(type_name, index=index, apic_id=apic_id)
    machine.add_child(f"cpu{index}", cpu)
    for name, value in place.items():
        cpu.set(name, value)
    cpu.set("cores", machine.smp_cores)
    cpu.set("threads", machine.smp_threads)
    choice = machine.vm.config.cpu
    with placed(choice.origin if choice is not None else ""):
        for feature, value in machine.cpu_features.items():
            cpu.set("features", {**cpu.features, feature: value})
    vm, accel = machine.vm, machine.accel
    cpu.accel, cpu.lock, cpu.cond = accel, vm.lock, vm.cpu_cond
    cpu.system, cpu.clock, cpu.system_bus = vm, vm.clock, machine.system_bus
    cpu.apic_type = accel.chip_types()["apic"]  # type: ignore[union-attr]
    cpu.apic_bus = machine.apic_bus
    machine.cpus.append(cpu)
    cpu.set("realized", True)


def pc_memory_init(machine: PcI440FX) -> None:
    """One RAM block, seen below the PCI hole and above 4 GiB (QEMU's `pc_memory_init`; SEED.md row 9)."""
    size = machine.ram_size
    if size < MIB:
        text = f"{machine.path}: ram-size is {size} bytes: a PC needs at least 1 MiB"
        raise ConfigError(text, machine.vm.config.origin_of("memory"))
    if size > PCI_HOLE:
        machine.below_4g, machine.above_4g = LOW_RAM_WITH_HIGH, size - LOW_RAM_WITH_HIGH
    else:
        machine.below_4g, machine.above_4g = size, 0
    machine.ram = Region.ram("pc.ram", size, owner=machine)
    assert machine.ram.ram_block is not None
    machine.on_unrealize(machine.ram.ram_block.close)
    memory = machine.system_bus.memory
    machine.map(memory, 0, Region.alias("ram-below-4g", machine.ram, 0, machine.below_4g, owner=machine))
    if machine.above_4g:
        high = Region.alias("ram-above-4g", machine.ram, machine.below_4g, machine.above_4g, owner=machine)
        machine.map(memory, FOUR_GIB, high)


def pc_bios_init(machine: PcI440FX) -> None:
    """Put the firmware where the reset vector is, and its end under 1 MiB (QEMU's `bochs_bios_init`; SEED.md row 10)."""
    from plugins.firmware import loader

    with placed(machine.vm.config.origin_of("firmware")):
        machine.firmware_image = image = loader.load_firmware(machine.firmware or None)
    pci_memory = machine.part("pcihost").pci_memory
    bios = Region.rom("pc.bios", image.data, owner=machine)
    assert bios.ram_block is not None
    machine.on_unrealize(bios.ram_block.close)
    machine.map(pci_memory, FOUR_GIB - bios.size, bios)
    low = min(bios.size, ISA_BIOS_SIZE)
    alias = Region.alias("isa-bios", bios, bios.size - low, low, readonly=True, owner=machine)
    machine.map(pci_memory, HIGH_MEGABYTE - low, alias, priority=1)


def pc_connect_pic(machine: PcI440FX) -> None:
    """The 8259's output is LINT0 of every local APIC in user space, or the first processor's own line without one."""
    pic = machine.part("pic")
    if machine.cpus and machine.cpus[0].apic is not None:  # type: ignore[attr-defined]
        machine.apic_bus.pic = pic
        pic.connect_out("intr", 0, machine.apic_bus.line_in("pic"))
    elif machine.cpus:
        cpu = machine.cpus[0]
        cpu.interrupt_controller = pic
        pic.connect_out("intr", 0, cpu.line_in("intr"))


def pc_serial_init(machine: PcI440FX) -> None:
    """The serial ports and the debug console that the configuration asks for."""
    config = machine.vm.config
    for index, chardev in enumerate(config.serials):
        if chardev is None:
            continue
        if index >= SERIAL_PORTS:
            raise ConfigError(f"serial port {index}: {machine.type_name} has {SERIAL_PORTS}, 0 to {SERIAL_PORTS - 1}")
        part = Part(f"serial{index}", "isa-serial", ISA, {"index": index})
        _add_with_chardev(machine, part, chardev)
    if config.debugcon is not None:
        _add_with_chardev(machine, Part("debugcon", "isa-debugcon", ISA, {"iobase": 0xE9}), config.debugcon)


def _add_with_chardev(machine: PcI440FX, part: Part, chardev: str) -> Device:
    backend = machine.vm.root.container("/chardevs").child(chardev)
    return add_part(machine, Part(part.name, part.type, part.bus, {**part.props, "chardev": backend}), {}, {})


def pc_drives_init(machine: PcI440FX) -> None:
    """The disks that the configuration puts on the board's own controller."""
    for drive in machine.vm.config.drives:
        if drive.interface == "ide":
            _add_disk(machine, drive)


def _add_disk(machine: PcI440FX, drive: DriveEntry) -> None:
    number = drive.index if drive.index is not None else (drive.bus or 0) * 2 + (drive.unit or 0)
    if number >= IDE_UNITS:
        raise ConfigError(f"drive {drive.id!r}: IDE index {number}: expected 0 to {IDE_UNITS - 1}", drive.origin)
    if drive.media != "disk":
        raise ConfigError(f"drive {drive.id!r}: media={drive.media}: only disks are modelled on IDE", drive.origin)
    backend = machine.vm.root.container("/drives").child(drive.id)
    props = {"unit": number % 2, "drive": backend}
    name = f"ide{number // 2}-hd{number % 2}"
    add_part(machine, Part(name, "ide-hd", f"ide.ide.{number // 2}", props), {}, {})


@type_init("pc-i440fx-0.1-machine", aliases=("pc-i440fx-machine", "pc-machine"))
class PcI440FX01(PcI440FX):
    """Version 0.1."""

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc = "Standard PC (i440FX + PIIX, version 0.1)"
