"""Intel PIIX3 (82371SB), function 0: PCI to ISA bridge.

Modelled: the ISA bus it makes, routing of PIRQA#-PIRQD# to ISA interrupt lines (PIRQRC), the reset control register CF9h,
and the other configuration registers as memory with their reset values.
Not modelled: positive decode by XBCS (firmware and RTC are always decoded), type F DMA, motherboard IRQ routing.  The
8259s with the ELCR, the timer, DMA and port 61h are parts of their own on the ISA bus.
Guest view: function 01.0; port CF9h over the host bridge's CF8h.

Sections: "82371FB (PIIX) and 82371SB (PIIX3)" data sheet, Intel 290550.
"""

from __future__ import annotations

from collections.abc import Iterator

from qom import state, type_init
from qom.hw import IsaBus, PciDevice, Region, Route
from qom.hw import pci_config as pci

PIRQRC, PIRQS = 0x60, 4
NOT_ROUTED, ROUTE = 0x80, 0x0F  # PIRQRC bits
CPU_RESET, HARD_RESET = 0x04, 0x02  # CF9h
RESET_CONTROL_PORT = 0xCF9

RESET_VALUES = (  # offset, value, writable
    (0x4C, 0x4D, 0x7F),  # IORT
    (0x4E, 0x03, 0xFF),  # XBCS low
    (0x4F, 0x00, 0x01),  # XBCS high
    (0x69, 0x02, 0xFE),  # TOM
    (0x6A, 0x00, 0x61),  # MSTAT low
    (0x70, 0x80, 0xEF),  # MBIRQ0
    (0x76, 0x0C, 0x8F),  # MBDMA0
    (0x77, 0x0C, 0x8F),  # MBDMA1
    (0x78, 0x02, 0xFF),  # PCSC low
    (0x79, 0x00, 0xFF),  # PCSC high
    (0x80, 0x00, 0x7F),  # APICBASE
    (0x82, 0x00, 0x0F),  # DLC
    (0xA0, 0x08, 0x1F),  # SMICNTL
    (0xA2, 0x00, 0xFF),  # SMIEN low
    (0xA3, 0x00, 0x01),  # SMIEN high
    (0xA8, 0x0F, 0xFF),  # FTMR
    (0xAC, 0x00, 0xFF),  # CTLTMR
    (0xAE, 0x00, 0xFF),  # CTHTMR
)


def route_pin(slot: int, pin: int) -> int:
    """The board's wiring of slots to PIRQs: slot 1's INTA# is PIRQA#."""
    return (slot - 1 + pin) & 3


@type_init("PIIX3", aliases=("pc-piix3",))
class Piix3(PciDevice):
    """The ISA bridge.  Inputs `pirq[0..3]` are driven by the PCI bus it sits on."""

    vendor_id, device_id, class_code = 0x8086, 0x7000, 0x0601
    subsystem_vendor_id, subsystem_id = 0x1AF4, 0x1100

    pirq_levels: int = state(keep=True, desc="Levels of PIRQA#..PIRQD#")
    reset_control: int = state(desc="Port CF9h")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "PIIX3 PCI to ISA bridge", "bridge", False

    def instance_init(self) -> None:
        """It shares its slot with IDE, USB and power management."""
        self.set_default("addr", "01.0")
        self.set_default("multifunction", True)
        self.gpio_in("pirq", PIRQS, self._set_pirq)

    def realize(self) -> None:
        """Make the ISA bus, take the PCI bus's interrupt lines, declare the registers."""
        self.config_field(pci.COMMAND, 2, 0x0007, writable=0x0108)  # always I/O, memory and master
        self.config_field(pci.STATUS, 2, pci.STATUS_DEVSEL_MEDIUM, cleared_by_one=0x7800)
        for offset, value, writable in RESET_VALUES:
            self.config_field(offset, 1, value, writable=writable)
        self.config_field(PIRQRC, 4, 0x80808080, writable=0x8F8F8F8F)
        self.isa_bus: IsaBus = self.new_bus("isa-bus", "isa.0")
        self.isa_bus.connect_spaces(self.pci.io, self.pci.memory)
        self._irqs = [self.isa_bus.irq(n, self) for n in range(16)]
        self._driven = 0  # ISA lines held by PIRQs
        self.pci.connect_irqs([self.line_in("pirq", n) for n in range(PIRQS)], route_pin)
        self.on_unrealize(lambda: self.pci.connect_irqs([]))
        control = Region("piix3-reset-control", 1, self._read_control, self._write_control, (1, 1))
        self.map(self.pci.io, RESET_CONTROL_PORT, control, 1)

    def reset(self) -> None:
        """Nothing is routed."""
        super().reset()
        self._drive()

    def state_loaded(self) -> None:
        """Drive the lines the registers say."""
        super().state_loaded()
        self._drive()

    def config_changed(self, offset: int, size: int) -> None:
        """PIRQRC may route an asserted PIRQ elsewhere."""
        if offset < PIRQRC + PIRQS and offset + size > PIRQRC:
            self._drive()

    def routes(self) -> Iterator[Route]:
        """Each PIRQ to the ISA line that PIRQRC names now."""
        for n in range(PIRQS):
            route = self.config[PIRQRC + n]
            if not route & NOT_ROUTED:
                yield Route(self.line_in("pirq", n), self._irqs[route & ROUTE])

    def _set_pirq(self, n: int, level: int) -> None:
        if level:
            self.pirq_levels |= 1 << n
        else:
            self.pirq_levels &= ~(1 << n)
        self._drive()

    def _drive(self) -> None:
        """Each ISA line is the OR of the PIRQs routed to it."""
        driven = 0
        for n in range(PIRQS):
            route = self.config[PIRQRC + n]
            if self.pirq_levels >> n & 1 and not route & NOT_ROUTED:
                driven |= 1 << (route & ROUTE)
        changed = driven ^ self._driven
        self._driven = driven
        while changed:
            n = (changed & -changed).bit_length() - 1
            changed &= changed - 1
            self._irqs[n].set(driven >> n & 1)

    def _read_control(self, offset: int, size: int) -> int:
        return self.reset_control

    def _write_control(self, offset: int, value: int, size: int) -> None:
        rises = value & CPU_RESET and not self.reset_control & CPU_RESET
        self.reset_control = value & (HARD_RESET | CPU_RESET)
        if rises:
            self.system.request_reset("piix3-reset-control")
