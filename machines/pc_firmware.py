"""What a PC's firmware is told: CMOS, fw_cfg, ACPI and SMBIOS tables.

Filled once every device is there (QEMU: `pc_cmos_init`, `bochs_bios_init`, `acpi_setup`), because sizes and boot order
depend on them.  CMOS bytes are those that SeaBIOS reads (its docs: "CMOS memory layout"); fw_cfg items are QEMU's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from machines import pc_chipset, pc_hotplug
from plugins.firmware import acpi, fw_cfg, loader, mptable, placing, smbios
from qom import ConfigError, Device, records

if TYPE_CHECKING:
    from machines.pc import PcMachine

__all__ = ["PlacedTables", "boot_order", "fill", "place_tables", "set_boot_order"]

KIB: Final = 1 << 10
MIB: Final = 1 << 20
FOUR_GIB: Final = 1 << 32
PCI_HOLE_END: Final = 0xFEBFFFFF
GPE0_OFFSET, GPE0_LENGTH = 0x0C, 4  # the PIIX4 GPE0 block in the PM registers
BASE_RAM_KIB: Final = 640
EBDA, EBDA_END = 0x9FC00, 0xA0000  # not RAM by the memory map, as on every PC
E820_RESERVED: Final = 2

# CMOS bytes
FLOPPIES, EQUIPMENT, BASE_MEMORY, EXTENDED_MEMORY, EXTENDED_MEMORY_AT, ABOVE_16M = 0x10, 0x14, 0x15, 0x17, 0x30, 0x34
BOOT_ORDER_3, DISK_TRANSLATION, BOOT_ORDER_12, ABOVE_4G, MORE_CPUS = 0x38, 0x39, 0x3D, 0x5B, 0x5F
EQUIPMENT_VALUE: Final = 0x06  # a mouse and a coprocessor socket
EQUIPMENT_FLOPPY, EQUIPMENT_FLOPPIES_SHIFT = 0x01, 6  # there is one; how many more
BOOT_CODES: Final = {"a": 1, "b": 1, "c": 2, "d": 3, "n": 4}
NO_FLOPPY_CHECK: Final = 1  # in the third boot device's byte: a floppy needs no signature
TRANSLATE_LBA: Final = 1
CHS_SECTORS: Final = 1024 * 16 * 63  # more than cylinders, heads and sectors alone can address

DEFAULT_ORDER: Final = "cad"


def fill(machine: PcMachine) -> None:
    """Tell the firmware everything; called once, before the guest runs."""
    order = boot_order(machine)
    generation, pm = generation_of(machine), machine.chip("pm", "PIIX4_PM")
    if generation is not None and pm is not None:
        generation.pin_out("changed").connect(pm.line_in("gpe", acpi.GENERATION_EVENT))
    _fill_cmos(machine)
    _fill_fw_cfg(machine)
    set_boot_order(machine, order)


def boot_order(machine: PcMachine, *, once: bool = True) -> str:
    """The letters of `-boot once=`, or those of `order=`.

    once: it is the first time that the machine starts.

    Raises:
        ConfigError: a letter that no boot device has.
    """
    boot = machine.vm.config.boot
    return checked_order(str((boot.get("once") if once else None) or boot.get("order") or DEFAULT_ORDER))


def checked_order(order: str) -> str:
    """`order`, if each of its letters is a boot device.  Raises ConfigError."""
    for letter in order:
        if letter not in BOOT_CODES:
            known = "".join(sorted(BOOT_CODES))
            raise ConfigError(f"boot order {order!r}: {letter!r} is no boot device: expected letters of {known!r}")
    return order


def set_boot_order(machine: PcMachine, order: str) -> None:
    """Have the firmware boot in this order from the next reset on; the machine lock is held.

    order: letters out of a, b, c, d, n.
    """
    rtc = machine.chip("rtc", "mc146818rtc")
    if rtc is not None:
        codes = [BOOT_CODES[letter] for letter in order[:3]] + [0, 0, 0]
        rtc.set_cmos(BOOT_ORDER_12, codes[1] << 4 | codes[0])
        check = 0 if machine.fd_bootchk else NO_FLOPPY_CHECK
        rtc.set_cmos(BOOT_ORDER_3, codes[2] << 4 | check)
    cfg = machine.chip("fw_cfg", "fw_cfg_io")
    if cfg is not None:
        paths = [f"/pci@i0cf8/ide@1,1/drive@{n // 2}/disk@{n % 2}" for n in sorted(disks(machine))]
        entries = [*machine.boot_roms, *(paths if order.startswith("c") else [])]
        if machine.vm.config.boot.get("strict"):
            entries.append("HALT")
        if entries:
            cfg.replace_file("bootorder", "\n".join(entries).encode() + b"\n\0")
        elif "bootorder" in cfg.files:
            cfg.replace_file("bootorder", b"\0")


def _fill_cmos(machine: PcMachine) -> None:
    rtc = machine.chip("rtc", "mc146818rtc")
    if rtc is None:
        return

    def word(at: int, value: int, size: int = 2) -> None:
        for n in range(size):
            rtc.set_cmos(at + n, value >> 8 * n & 0xFF)

    below, above = machine.below_4g, machine.above_4g
    extended = min(max(0, below - MIB) // KIB, 0xFFFF)
    word(BASE_MEMORY, BASE_RAM_KIB)
    word(EXTENDED_MEMORY, extended)
    word(EXTENDED_MEMORY_AT, extended)
    word(ABOVE_16M, min(max(0, below - 16 * MIB) // (64 * KIB), 0xFFFF))
    word(ABOVE_4G, above // (64 * KIB), 3)
    floppies = floppy_kinds(machine)
    equipment = EQUIPMENT_VALUE
    if any(floppies):
        equipment |= EQUIPMENT_FLOPPY | (sum(map(bool, floppies)) - 1) << EQUIPMENT_FLOPPIES_SHIFT
    rtc.set_cmos(FLOPPIES, floppies[0] << 4 | floppies[1])
    rtc.set_cmos(EQUIPMENT, equipment)
    rtc.set_cmos(MORE_CPUS, len(machine.cpus) - 1)
    translation = 0
    for number, disk in disks(machine).items():
        if disk.drive.sectors > CHS_SECTORS:
            translation |= TRANSLATE_LBA << 2 * number
    rtc.set_cmos(DISK_TRANSLATION, translation)


def disks(machine: PcMachine) -> dict[int, Any]:
    """The board's IDE disks by number: channel * 2 + unit."""
    ide = machine.chip("ide", "piix3-ide")
    if ide is None:
        return {}
    return {n * 2 + disk.unit: disk for n, bus in enumerate(ide.ide) for disk in bus.devices}


def floppy_kinds(machine: PcMachine) -> list[int]:
    """What the two floppy drives are, as CMOS says it; 0 where there is none."""
    fdc = machine.chip("fdc", "isa-fdc")
    units = [None, None] if fdc is None else fdc.cable.units
    return [0 if drive is None else drive.kind.cmos for drive in units]


def _fill_fw_cfg(machine: PcMachine) -> None:
    cfg = machine.chip("fw_cfg", "fw_cfg_io")
    if cfg is None:
        return
    config = machine.vm.config
    apic_ids = machine.possible_apic_ids()
    cfg.add_i16(fw_cfg.NB_CPUS, len(machine.cpus))
    cfg.add_i16(fw_cfg.MAX_CPUS, max(apic_ids, default=0) + 1)
    cfg.add_i64(fw_cfg.RAM_SIZE, machine.ram_size)
    cfg.add_i16(fw_cfg.NOGRAPHIC, 1 if config.nographic else 0)
    cfg.add_i16(fw_cfg.BOOT_MENU, 1 if config.boot.get("menu") in (True, "on") else 0)
    cfg.add_i32(fw_cfg.IRQ0_OVERRIDE, 1)
    cfg.add_file("etc/e820", fw_cfg.e820(ram_map(machine)))
    if (pm := machine.chip("pm", "PIIX4_PM")) is not None:
        cfg.add_file("etc/system-states", fw_cfg.system_states(pm.s4_val, s3=not pm.disable_s3, s4=not pm.disable_s4))
    cfg.add_bytes(fw_cfg.NUMA, fw_cfg.numa_item(len(apic_ids), numa_nodes(machine), numa_sizes(machine)))
    if machine.acpi:
        _Tables(machine).install(cfg)
    if machine.acpi and (generation := generation_of(machine)) is not None:
        cfg.add_file(acpi.GENERATION_ADDRESS_FILE, lambda: generation.told, generation.tell)
    smbios.build(smbios_config(machine)).install(cfg)
    if (port := pvpanic_port(machine)) is not None:
        cfg.add_file("etc/pvpanic-port", port.to_bytes(2, "little"))
    if config.boot:
        from machines import pc_told

        pc_told.add_boot_items(machine, cfg)
    if config.fw_cfg or config.option_roms:
        from machines import pc_told

        pc_told.add_items(machine, cfg)
        machine.boot_roms = pc_told.add_option_roms(machine, cfg)
    if config.kernel is not None and machine.firmware != loader.NO_FIRMWARE:
        from plugins.firmware import bootrom
        from plugins.firmware.kernel import Request, kernel_placed, open_kernel

        with kernel_placed(config.origin_of):
            read = machine.vm.read_file
            request = Request(initrd=config.initrd, append=config.append or "", read=read)
            kernel = open_kernel(config.kernel, read)
            kernel.install(cfg, request, machine.below_4g)
        machine.boot_roms.insert(0, bootrom.boot_order_entry(kernel.rom))


class _Tables:
    """The ACPI tables for firmware, made when it first reads them after a reset, for the processors there are then."""

    def __init__(self, machine: PcMachine) -> None:
        self._machine, self._config = machine, acpi_config(machine)
        self._built: acpi.AcpiFiles | None = None

    def files(self) -> acpi.AcpiFiles:
        """Those of now."""
        there = [cpu.apic_id for cpu in self._machine.cpus]
        if self._built is None or there != self._config.apic_ids:
            self._config = records.evolve(self._config, apic_ids=there)
            self._built = acpi.build(self._config)
        return self._built

    def install(self, cfg: fw_cfg.FwCfgIo) -> None:
        """Offer them."""
        cfg.add_file(acpi.TABLES_FILE, lambda: self.files().tables)
        cfg.add_file(acpi.RSDP_FILE, lambda: self.files().rsdp)
        cfg.add_file(acpi.LOADER_FILE, lambda: self.files().loader)
        if self._config.generation is not None:
            cfg.add_file(acpi.GENERATION_FILE, self._config.generation.page)


def tell_cpus(machine: PcMachine) -> None:
    """Tell the firmware of processors that came or went, for when it starts again; the machine lock is held."""
    rtc, cfg = machine.chip("rtc", "mc146818rtc"), machine.chip("fw_cfg", "fw_cfg_io")
    if rtc is not None:
        rtc.set_cmos(MORE_CPUS, len(machine.cpus) - 1)
    if cfg is not None:
        cfg.replace(fw_cfg.NB_CPUS, len(machine.cpus).to_bytes(2, "little"))


@records.frozen
class PlacedTables:
    """Where the tables of a machine without firmware are.

    rsdp, facs, smbios, mp: addresses of the RSDP, the FACS, the SMBIOS entry point and the MP floating pointer.
    e820: the whole memory map, (start, size, type).
    """

    rsdp: int
    facs: int
    smbios: int
    mp: int
    e820: list[tuple[int, int, int]]


def place_tables(machine: PcMachine) -> PlacedTables:
    """Do without firmware what it does for an operating system: set up the chipset, put the tables into memory.

    Called at every reset, once RAM holds what it should and before a vCPU runs; the machine lock is held.

    Raises:
        PlacingError: the tables do not fit.
    """
    pc_chipset.set_up(machine)
    mp = mptable.MpConfig(
        apic_ids=[cpu.apic_id for cpu in machine.cpus], pci_routes=list(pc_chipset.pci_routes(machine))
    )
    placed_at = placing.place(
        acpi.build(acpi_config(machine)) if machine.acpi else None,
        smbios.build(smbios_config(machine)),
        mptable.build(mp),
    )
    memory = machine.system_bus.memory_space
    for address, data in placed_at.pieces:
        memory.write_bytes(address, data)
    for _, offset, data in placed_at.told:  # there is one such file
        generation_of(machine).tell(offset, data)
    return PlacedTables(placed_at.rsdp, placed_at.facs, placed_at.smbios, placed_at.mp, e820_map(machine))


def e820_map(machine: PcMachine) -> list[tuple[int, int, int]]:
    """(start, size, type) of everything in memory once the tables are placed, ascending."""
    (_, below, kind), *above = ram_map(machine)
    e820 = [(0, min(EBDA, below), kind), (EBDA, EBDA_END - EBDA, E820_RESERVED)]
    e820.append((placing.FIRST, placing.LAST + 1 - placing.FIRST, E820_RESERVED))
    if below > MIB:
        e820.append((MIB, below - MIB, kind))
    return [*e820, *above]


def ram_map(machine: PcMachine) -> list[tuple[int, int, int]]:
    """(start, size, type) of the e820 map's RAM."""
    entries = [(0, machine.below_4g, fw_cfg.E820_RAM)]
    if machine.above_4g:
        entries.append((FOUR_GIB, machine.above_4g, fw_cfg.E820_RAM))
    return entries


def numa_sizes(machine: PcMachine) -> list[int]:
    """Bytes of RAM of each NUMA node; nodes that say nothing share the rest equally."""
    nodes = machine.vm.config.numa
    if not nodes:
        return []
    said = sum(node.mem or 0 for node in nodes)
    silent = [node for node in nodes if node.mem is None]
    if said > machine.ram_size or (not silent and said != machine.ram_size):
        raise ConfigError(f"NUMA nodes have {said} bytes in all, the machine has {machine.ram_size}", nodes[0].origin)
    share = (machine.ram_size - said) // len(silent) // (8 * MIB) * (8 * MIB) if silent else 0
    sizes = {node.nodeid: share if node.mem is None else node.mem for node in nodes}
    if silent:
        sizes[silent[-1].nodeid] += machine.ram_size - sum(sizes.values())
    return [sizes[node] for node in sorted(sizes)]


def numa_ranges(machine: PcMachine, sizes: list[int]) -> list[list[tuple[int, int]]]:
    """The (base, length) ranges of each node: nodes follow one another through RAM, skipping the hole under 4 GiB."""
    ranges: list[list[tuple[int, int]]] = []
    start = 0
    for size in sizes:
        end, mine = start + size, []
        if start < machine.below_4g:
            mine.append((start, min(end, machine.below_4g) - start))
        if end > machine.below_4g:
            high = max(start, machine.below_4g)
            mine.append((FOUR_GIB + high - machine.below_4g, end - high))
        ranges.append(mine)
        start = end
    return ranges


def numa_nodes(machine: PcMachine) -> dict[int, int]:
    """The NUMA node of each processor, by index."""
    return {cpu: node.nodeid for node in machine.vm.config.numa for cpu in node.cpus}


def acpi_config(machine: PcMachine) -> acpi.AcpiConfig:
    """What the ACPI tables say about this board."""
    config = machine.vm.config
    nodes = numa_nodes(machine)
    sizes = numa_sizes(machine)
    places = machine.possible_apic_ids()
    numa = [
        acpi.NumaNode(apic_ids=[id for n, id in enumerate(places) if nodes.get(n, 0) == node], memory=memory)
        for node, memory in enumerate(numa_ranges(machine, sizes))
    ]
    distances: list[list[int]] | None = None
    if config.numa_distances:
        distances = [[10 if a == b else 20 for b in range(len(sizes))] for a in range(len(sizes))]
        for entry in config.numa_distances:
            distances[entry.src][entry.dst] = entry.val
    hpet = machine.chip("hpet0", "hpet")
    generation, pm = generation_of(machine), machine.chip("pm", "PIIX4_PM")
    serials = [(port.iobase, port.irq) for port in serial_ports(machine)]
    tables: list[bytes] = []
    if config.acpi_tables:
        from machines import pc_told

        tables = pc_told.acpi_tables(machine)
    cpu_hotplug, pci_hotplug = pc_hotplug.cpu_controller(machine), pc_hotplug.pci_controller(machine)
    return acpi.AcpiConfig(
        apic_ids=[cpu.apic_id for cpu in machine.cpus],
        possible_apic_ids=places,
        cpu_hotplug=cpu_hotplug.iobase if cpu_hotplug is not None else None,
        pci_hotplug=pci_hotplug.iobase if pci_hotplug is not None else None,
        pci_slots=bits(pci_hotplug.removable()) if pci_hotplug is not None else (),
        pm_base=pc_chipset.PM_BASE,
        pci_hole=(machine.below_4g, PCI_HOLE_END),
        gpe0=(pc_chipset.PM_BASE + GPE0_OFFSET, GPE0_LENGTH),
        s3=pm is not None and not pm.disable_s3,
        s4_type=pm.s4_val if pm is not None and not pm.disable_s4 else None,
        serials=serials,
        parallels=[(port.iobase, port.irq) for port in devices(machine, "isa-parallel")],
        floppy=floppy_facts(machine),
        hpet=acpi.HpetFacts(hpet.base, hpet.block_id) if hpet is not None else None,
        pvpanic_port=pvpanic_port(machine),
        generation=acpi.GenerationFacts(generation.page, generation.offset) if generation is not None else None,
        numa=numa,
        distances=distances,
        tables=tables,
    )


def bits(mask: int) -> list[int]:
    """The numbers of the bits that are set."""
    return [n for n in range(mask.bit_length()) if mask >> n & 1]


def serial_ports(machine: PcMachine) -> list[Any]:
    """The serial ports there are, by whatever means they came."""
    return devices(machine, "isa-serial")


def pvpanic_port(machine: PcMachine) -> int | None:
    """The port of the first pvpanic, at which the guest tells that it has crashed."""
    found = devices(machine, "pvpanic")
    return found[0].ioport if found else None


def generation_of(machine: PcMachine) -> Any:
    """The machine's vmgenid device, or None."""
    found = machine.vm.root.listed("vmgenid")
    return found[0] if found else None


def devices(machine: PcMachine, type_name: str) -> list[Any]:
    """The devices of a type, wherever they are in the machine."""
    return [device for device in machine.walk() if isinstance(device, Device) and device.is_a(type_name)]


def floppy_facts(machine: PcMachine) -> acpi.FloppyFacts | None:
    """The floppy controller and its drives; None where the board has none."""
    fdc = machine.chip("fdc", "isa-fdc")
    if fdc is None:
        return None
    drives: list[acpi.FloppyDrive | None] = []
    for drive in fdc.cable.units:
        if drive is None:
            drives.append(None)
        else:
            best = drive.best_format
            drives.append(acpi.FloppyDrive(drive.kind.cmos, best.cylinders, best.heads, best.sectors))
    return acpi.FloppyFacts(fdc.iobase, fdc.irq, fdc.channel, drives)


def smbios_config(machine: PcMachine) -> smbios.SmbiosConfig:
    """What the SMBIOS tables say about this machine."""
    text, system_uuid = machine.vm.config.uuid, None
    if text is not None:
        import uuid

        try:
            system_uuid = uuid.UUID(text)
        except ValueError:
            raise ConfigError(f"uuid {text!r} is not a UUID: expected 8-4-4-4-12 hexadecimal digits") from None
    made = smbios.SmbiosConfig(
        memory=[(base, size) for base, size, _ in ram_map(machine)],
        sockets=machine.smp_sockets,
        cores=machine.smp_cores,
        threads=machine.smp_threads,
        system_uuid=system_uuid,
    )
    if not machine.vm.config.smbios:
        return made
    from machines import pc_told

    return pc_told.with_smbios(machine, made)
