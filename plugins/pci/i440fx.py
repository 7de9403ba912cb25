"""Intel 440FX (82441FX PMC): PCI host bridge and memory controller.

Modelled: the configuration ports, PAM0-6 (shadow RAM from C0000h to FFFFFh), SMRAM's window at A0000h with D_OPEN, D_CLS,
D_LCK and G_SMRAME.  Below RAM in priority lies all of PCI memory.
Not modelled: DRAM timing and row boundaries (their registers hold what is written), ECC, the A20/turbo controls, PAM's
"write only" (reads come from PCI, as they should, but writes are dropped instead of going to RAM).
Guest view: ports CF8h and CFCh; function 00.0.

The host bridge proper ("i440FX-pcihost") is on the system bus and makes the PCI bus; the function ("i440FX") is on that
bus.  RAM must be in system memory when the function is realized: it finds what it shadows there.

Sections: "82441FX PCI and Memory Controller" data sheet, Intel 290549.
"""

from __future__ import annotations

from typing import Any

from qom import RealizeError, Reset, type_init
from qom.hw import PciBus, PciDevice, PciHostBridge, Region, SystemBus
from qom.hw import pci_config as pci

PAM0, PAM6, SMRAM = 0x59, 0x5F, 0x72  # configuration registers
DRAM_CONTROL, DRAM_CONTROL_SIZE = 0x50, 9  # 50h..58h, timing and the like
ROW_BOUNDARIES, ROW_BOUNDARIES_SIZE = 0x60, 0x12  # 60h..71h

READ, WRITE = 1, 2  # PAM bits: that access goes to RAM
ATTRIBUTES = 3
D_OPEN, D_CLS, D_LCK, G_SMRAME, C_BASE = 0x40, 0x20, 0x10, 0x08, 0x07  # SMRAM
BASE_A0000 = 0x02  # the only base there is

SMRAM_START, SMRAM_SIZE = 0xA0000, 0x20000
PAM_START, BIOS_START = 0xC0000, 0xF0000
SEGMENT, BIOS_SEGMENT = 0x4000, 0x10000

SUBSYSTEM_VENDOR, SUBSYSTEM = 0x1AF4, 0x1100  # what QEMU's machines carry, and SeaBIOS looks for


@type_init("i440FX-pcihost")
class I440FXPciHost(PciHostBridge):
    """The bridge from the processor's bus to PCI."""

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.user_creatable = "440FX host bridge", False

    def realize(self) -> None:
        """Put PCI memory behind RAM, make the bus, take the ports."""
        self.pci_memory = Region.container("pci")
        self.sysbus.map_memory(0, self.pci_memory, priority=-1)
        self.make_bus(self.pci_memory, self.sysbus.io)
        self.map_config_ports()


class Segment:
    """A part of C0000h-FFFFFh that PAM switches between RAM and PCI."""

    __slots__ = ("pci", "register", "rom", "shift", "start")

    def __init__(self, start: int, size: int, register: int, shift: int, pci: Region, ram: Region, offset: int) -> None:
        self.start = start
        self.register = register
        self.shift = shift
        self.pci = pci_window(f"pam-pci-{start:x}", pci, start, size)
        self.rom = Region.alias(f"pam-rom-{start:x}", ram, offset, size, readonly=True)

    def show(self, attributes: int) -> None:
        """Make what the attributes say visible; RAM is what lies below both aliases."""
        self.pci.set_enabled(not attributes & READ)
        self.rom.set_enabled(attributes == READ)


def pci_window(name: str, pci: Region, start: int, size: int) -> Region:
    """A window on PCI memory that hides RAM also where nobody answers there (all ones then)."""
    window = Region(name, size)
    window.add(0, Region.alias(f"{name}-alias", pci, start, size))
    return window


@type_init("i440FX")
class I440FX(PciDevice):
    """Function 00.0: the memory controller's registers."""

    vendor_id, device_id, revision, class_code = 0x8086, 0x1237, 0x02, 0x0600
    subsystem_vendor_id, subsystem_id = SUBSYSTEM_VENDOR, SUBSYSTEM

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "440FX memory controller", "bridge", False

    def instance_init(self) -> None:
        """It is the first function of its bus."""
        self.set_default("addr", "00.0")

    def realize(self) -> None:
        """Declare the registers, lay the switchable windows over RAM."""
        self.config_field(pci.COMMAND, 2, pci.COMMAND_MASTER | pci.COMMAND_MEMORY, writable=0x0140)
        self.config_field(pci.STATUS, 2, pci.STATUS_DEVSEL_MEDIUM | pci.STATUS_FAST_BACK, cleared_by_one=0xF900)
        for start, size in ((DRAM_CONTROL, DRAM_CONTROL_SIZE), (ROW_BOUNDARIES, ROW_BOUNDARIES_SIZE)):
            self.config_field(start, size, 0, writable=(1 << size * 8) - 1)
        self.config_field(PAM0, 7, 0, writable=0x33333333333330)
        self.config_field(SMRAM, 1, BASE_A0000, writable=D_OPEN | D_CLS | D_LCK | G_SMRAME)
        memory, space = self._system_memory()
        self._memory = memory
        found = space.lookup(PAM_START)
        if found is None or found.region.ram_block is None or found.end < 1 << 20:
            raise RealizeError(f"{self.path}: no RAM at {PAM_START:#x} to shadow: map RAM below 1 MiB first")
        ram, base = found.region, found.offset - found.start
        places = [(BIOS_START, BIOS_SEGMENT, PAM0, 4)]
        for n in range(12):
            places.append((PAM_START + n * SEGMENT, SEGMENT, PAM0 + 1 + n // 2, n % 2 * 4))
        self._segments = [
            Segment(start, size, register, shift, self.pci.memory, ram, base + start)
            for start, size, register, shift in places
        ]
        # What a processor sees at A0000h: the VGA's memory on PCI; RAM while SMRAM is open, or in SMM while it is enabled.
        self._smram_pci = pci_window("smram-pci", self.pci.memory, SMRAM_START, SMRAM_SIZE)
        self.smram = Region.container("smram")
        self.smram.add(SMRAM_START, Region.alias("smram-ram", ram, base + SMRAM_START, SMRAM_SIZE))
        with memory.transaction():
            for segment in self._segments:
                self.map(memory, segment.start, segment.rom, 1)
                self.map(memory, segment.start, segment.pci, 1)
            self.map(memory, SMRAM_START, self._smram_pci, 1)
            self._show()

    def reset(self) -> None:
        """All shadowing off."""
        super().reset()
        self._show()

    def reset_hold(self, kind: Reset) -> None:
        """As for any device; suspend to RAM keeps what belongs to the memory, so that the shadowed firmware is there again."""
        kept = bytes(self.config[PAM0 : PAM6 + 1])
        super().reset_hold(kind)
        if kind is Reset.WAKE:
            self.config[PAM0 : PAM6 + 1] = kept
            self._show()

    def state_loaded(self) -> None:
        """Show the memory the registers say."""
        super().state_loaded()
        self._show()

    def config_write(self, offset: int, value: int, size: int) -> None:
        """As for any function; D_LCK, once set, keeps SMRAM as it is, closed."""
        before = self.config[SMRAM]
        super().config_write(offset, value, size)
        if before & D_LCK:
            self.config[SMRAM] = before
        elif self.config[SMRAM] & D_LCK:
            self.config[SMRAM] &= ~D_OPEN
        if offset <= SMRAM and offset + size > PAM0:
            self._show()

    def _show(self) -> None:
        config = self.config
        with self._memory.transaction():
            for segment in self._segments:
                segment.show(config[segment.register] >> segment.shift & ATTRIBUTES)
            self._smram_pci.set_enabled(not config[SMRAM] & D_OPEN)
            self.smram.set_enabled(bool(config[SMRAM] & G_SMRAME))

    def _system_memory(self) -> tuple[Region, Any]:
        """System memory and its address space, which are the host bridge's."""
        host = self.pci.parent
        bus = host.bus if isinstance(host, PciHostBridge) else None
        if not isinstance(bus, SystemBus) or not isinstance(self.pci, PciBus):
            raise RealizeError(f"{self.path}: must be on the PCI bus of a host bridge")
        return bus.memory, bus.memory_space
