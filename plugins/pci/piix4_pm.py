"""Intel PIIX4 (82371AB), function 3: power management and SMBus.

Modelled: the PM I/O space (PM1 event and control, the 24-bit PM timer with its overflow, GPSTS/GPEN, the other registers
as memory), SCI, power button, sleep types for suspend to RAM (S3; the machine sleeps, and after the reset that wakes it
WAK_STS says so, with what woke it), to disk (S4) and soft off (S5), the APM ports B2h/B3h with the SMI line, the SMBus host
with nobody on the bus (every transaction ends in a device error).
Not modelled: device monitors, clock and burst control, SMIs from sources other than port B2h, SMBus interrupts.
What the firmware's SMI handler would do for ACPI_ENABLE (F1h) and ACPI_DISABLE (F0h) at port B2h, the device does itself.
Guest view: function 01.3; 64 ports at PMBASE, 16 at SMBHSTBASE, B2h and B3h.  Outputs `sci`, `smi`.

Sections: "82371AB PCI-to-ISA / IDE Xcelerator (PIIX4)" data sheet, Intel 290562, chapter 7; ACPI 1.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from qom import prop, state, type_init
from qom.hw import NS_PER_SECOND, PciDevice, Region, Route, WakeReason
from qom.hw import pci_config as pci

PMBASE, DEVACTB, PMREGMISC, SMBHSTBASE, SMBHSTCFG = 0x40, 0x58, 0x80, 0x90, 0xD2  # configuration
PMIOSE, SMB_HST_EN, APMC_EN = 0x01, 0x01, 0x0200_0000
BASE_MASK = 0xFFC0
SMB_BASE_MASK = 0xFFF0
IO_SPACE = 0x1  # bases show this bit

PMSTS, PMEN, PMCNTRL, PMTMR, GPSTS, GPEN = 0x00, 0x02, 0x04, 0x08, 0x0C, 0x0E  # PM I/O space
PM_SIZE = 0x40
GPES = 16  # general-purpose events
TIMER, GLOBAL, POWER_BUTTON, RTC, WAKE = 0x0001, 0x0020, 0x0100, 0x0400, 0x8000  # PMSTS, PMEN
BUS_MASTER = 0x0010  # PMSTS
EVENTS = TIMER | GLOBAL | POWER_BUTTON | RTC
STATUS_BITS = EVENTS | BUS_MASTER | WAKE
SCI_EN, BUS_MASTER_RELOAD, GLOBAL_RELEASE, SLEEP_TYPE, SLEEP = 0x0001, 0x0002, 0x0004, 0x1C00, 0x2000  # PMCNTRL
SLEEP_TYPE_SHIFT = 10
SOFT_OFF, SUSPEND_TO_RAM = 0, 1
WAKES: Final = {WakeReason.RTC: RTC, WakeReason.POWER_BUTTON: POWER_BUTTON}  # what the guest can keep from waking it

TIMER_HZ, TIMER_BITS = 3_579_545, 24
HALF = 1 << (TIMER_BITS - 1)  # the overflow status is set whenever bit 23 changes

APM_CONTROL, APM_STATUS = 0xB2, 0xB3
ACPI_ENABLE, ACPI_DISABLE = 0xF1, 0xF0

SMB_STATUS, SMB_CONTROL, SMB_COMMAND, SMB_ADDRESS, SMB_DATA0, SMB_DATA1, SMB_BLOCK = 0, 2, 3, 4, 5, 6, 7
SMB_SIZE = 0x10
SMB_START, SMB_KILL = 0x40, 0x02  # SMB_CONTROL
SMB_FAILED, SMB_DEVICE_ERROR = 0x10, 0x04  # SMB_STATUS
SMB_STATUS_CLEARABLE = 0x1E


@type_init("PIIX4_PM")
class Piix4Pm(PciDevice):
    """Power management of a PC."""

    vendor_id, device_id, revision, class_code, interrupt_pin = 0x8086, 0x7113, 0x03, 0x0680, 1
    subsystem_vendor_id, subsystem_id = 0x1AF4, 0x1100

    smm_enabled: bool = prop(False, "Whether there is system-management mode; else firmware finds it set up already")
    smb_io_base: int = prop(0, "SMBus host base after reset (0: none)", type="uint16", base=16)

    disable_s3: int = prop(0, "Not 0: the tables offer no suspend to RAM", type="uint8", name="disable_s3")
    disable_s4: int = prop(0, "Not 0: the tables offer no suspend to disk", type="uint8", name="disable_s4")
    s4_val: int = prop(2, "Sleep type of suspend to disk", type="uint8", name="s4_val")

    status: int = state(desc="PMSTS")
    enable: int = state(desc="PMEN")
    control: int = state(desc="PMCNTRL")
    overflow_tick: int = state(desc="Timer tick at which TMROF_STS is set next")
    registers: bytearray = state(factory=lambda: bytearray(PM_SIZE), desc="The rest of the PM I/O space")
    apm_control: int = state(desc="Port B2h")
    apm_status: int = state(desc="Port B3h")
    smb: bytearray = state(factory=lambda: bytearray(SMB_SIZE), desc="SMBus host registers")
    smb_index: int = state(desc="Next byte of the block buffer")
    smb_block: bytearray = state(factory=lambda: bytearray(32))

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category, cls.user_creatable = "PIIX4 power management", "bridge", False

    def instance_init(self) -> None:
        """Declare the lines."""
        self.set_default("addr", "01.3")
        self._sci = self.gpio_out("sci")[0]
        self._smi = self.gpio_out("smi")[0]
        self.gpio_in("gpe", GPES, self.set_gpe)
        self.gpio_in("power-button", 1, lambda n, level: self.power_button() if level else None)

    def realize(self) -> None:
        """Declare the registers; the I/O spaces are mapped when the guest says where."""
        self.config_field(pci.STATUS, 2, pci.STATUS_DEVSEL_MEDIUM | pci.STATUS_FAST_BACK, cleared_by_one=0xF900)
        self.config_field(0x44, 0x3C, 0, writable=(1 << 0x3C * 8) - 1)
        if not self.smm_enabled:
            self.config_field(DEVACTB, 4, APMC_EN, writable=0xFFFF_FFFF)
        self.config_field(PMBASE, 4, IO_SPACE, writable=BASE_MASK)
        self.config_field(PMREGMISC, 1, 0, writable=PMIOSE)
        self.config_field(SMBHSTBASE, 4, self.smb_io_base | IO_SPACE, writable=SMB_BASE_MASK)
        self.config_field(SMBHSTCFG, 1, 0x09 if self.smb_io_base else 0, writable=0x0F)
        self.config_field(SMBHSTCFG + 1, 3, 0, writable=0xFFFFFF)
        self._overflow = self.clock.timer(self._overflowed)
        self._pm = Region("piix4-pm", PM_SIZE, self._read_pm, self._write_pm, (1, 4), owner=self)
        self._pm.add(PMTMR, Region("piix4-pm-timer", 4, self._read_timer, None, (1, 4), owner=self))
        self._smbus = Region("piix4-smbus", SMB_SIZE, self._read_smb, self._write_smb, (1, 1), owner=self)
        self.on_unrealize(lambda: self._place(self._pm, None))
        self.on_unrealize(lambda: self._place(self._smbus, None))
        apm = Region("piix4-apm", 2, self._read_apm, self._write_apm, (1, 1))
        self.map(self.pci.io, APM_CONTROL, apm)

    def reset(self) -> None:
        """Everything off."""
        super().reset()
        self._plan_overflow()
        self._update_sci()
        self._smi.lower()
        self._map_spaces()

    def state_loaded(self) -> None:
        """Spaces, timer and SCI follow the registers."""
        super().state_loaded()
        self._map_spaces()
        self._update_sci()

    def power_button(self) -> None:
        """The power button is pressed; it wakes a suspended machine if the guest has enabled it."""
        self.status |= POWER_BUTTON
        self._update_sci()
        self.system.wake(WakeReason.POWER_BUTTON)

    def wakes_by(self, reason: WakeReason) -> bool:
        """Whether PMEN lets this wake the suspended machine; what has no bit in it always does."""
        bit = WAKES.get(reason)
        return bit is None or bool(self.enable & bit)

    def wake_up(self, reason: WakeReason) -> None:
        """The machine was woken, and all is reset: say so, and by what; what has no bit counts as the power button."""
        self.status |= WAKE | WAKES.get(reason, POWER_BUTTON)
        self._update_sci()

    def routes(self) -> Iterator[Route]:
        """General-purpose events interrupt by SCI, as everything else here does."""
        for n in range(GPES):
            yield Route(self.line_in("gpe", n), self._sci)

    def set_gpe(self, n: int, level: int) -> None:
        """General-purpose event `n` (0..15) happens (1); it stays in GPSTS until the guest clears it."""
        if level:
            self.registers[GPSTS + n // 8] |= 1 << n % 8
            self._update_sci()

    def config_changed(self, offset: int, size: int) -> None:
        """Bases and enables may have changed."""
        if offset + size > PMBASE:
            self._map_spaces()

    def _map_spaces(self) -> None:
        base = self.config_word(PMBASE) & BASE_MASK
        self._place(self._pm, base if base and self.config[PMREGMISC] & PMIOSE else None)
        base = self.config_word(SMBHSTBASE) & SMB_BASE_MASK
        self._place(self._smbus, base if base and self.config[SMBHSTCFG] & SMB_HST_EN else None)

    def _place(self, region: Region, base: int | None) -> None:
        now = region.offset if region.parent is not None else None
        if base != now:
            self.unmap(region)
            if base is not None:
                self.pci.io.add(base, region, 1)

    # -- PM timer

    def _read_timer(self, offset: int, size: int) -> int:
        return (self.clock.now() * TIMER_HZ // NS_PER_SECOND & 0xFFFFFF) >> offset * 8

    def _tick(self) -> int:
        return self.clock.now() * TIMER_HZ // NS_PER_SECOND

    def _plan_overflow(self) -> None:
        self.overflow_tick = (self._tick() // HALF + 1) * HALF

    def _present_status(self) -> int:
        """PMSTS with the timer's overflow in it."""
        if not self.status & TIMER and self._tick() >= self.overflow_tick:
            self.status |= TIMER
        return self.status

    def _overflowed(self) -> None:
        self._update_sci()

    # -- SCI

    def _update_sci(self) -> None:
        """SCI is level-triggered; the timer's part of it needs a host timer only while it is enabled and not pending."""
        status, registers = self._present_status(), self.registers
        events = registers[GPSTS] & registers[GPEN] or registers[GPSTS + 1] & registers[GPEN + 1]
        raised = self.control & SCI_EN and (status & self.enable & EVENTS or events)
        level = 1 if raised else 0
        if level != self._sci.level:
            self._sci.set(level)
        if self.enable & TIMER and not status & TIMER:
            self._overflow.arm_at(-(-self.overflow_tick * NS_PER_SECOND // TIMER_HZ))
        else:
            self._overflow.cancel()

    # -- PM I/O space

    def _read_pm(self, offset: int, size: int) -> int:
        value = 0
        for at in range(offset, offset + size):
            value |= self._read_pm_byte(at) << (at - offset) * 8
        return value

    def _read_pm_byte(self, at: int) -> int:
        if at < PMEN:
            return self._present_status() >> at * 8 & 0xFF
        if at < PMCNTRL:
            return self.enable >> (at - PMEN) * 8 & 0xFF
        if at < PMCNTRL + 2:
            return self.control >> (at - PMCNTRL) * 8 & 0xFF
        return self.registers[at]

    def _write_pm(self, offset: int, value: int, size: int) -> None:
        sleeps = False
        for at in range(offset, offset + size):
            byte = value & 0xFF
            value >>= 8
            sleeps |= self._write_pm_byte(at, byte)
        self._update_sci()
        if sleeps:
            self._go_to_sleep()

    def _write_pm_byte(self, at: int, byte: int) -> bool:
        """Write a byte; True when it asks for sleep."""
        shift = at % 2 * 8
        bits, keep = byte << shift, 0xFF00 >> shift
        if at < PMEN:
            self._present_status()
            self.status &= ~(bits & STATUS_BITS)
            if bits & TIMER:
                self._plan_overflow()
        elif at < PMCNTRL:
            self.enable = self.enable & keep | bits & EVENTS
        elif at < PMCNTRL + 2:
            self.control = self.control & keep | bits & (SCI_EN | BUS_MASTER_RELOAD | SLEEP_TYPE)
            return bool(bits & SLEEP)
        elif at in (GPSTS, GPSTS + 1):
            self.registers[at] &= ~byte
        else:
            self.registers[at] = byte
        return False

    def _go_to_sleep(self) -> None:
        kind = (self.control & SLEEP_TYPE) >> SLEEP_TYPE_SHIFT
        if kind == SOFT_OFF:
            self.system.request_shutdown("acpi-soft-off")
        elif kind == SUSPEND_TO_RAM:
            self.system.request_suspend()
        elif kind == self.s4_val:
            self.system.emit("SUSPEND_DISK")
            self.system.request_shutdown("acpi-suspend-disk")
        else:
            known = f"0 is soft off, 1 suspend to RAM, {self.s4_val} suspend to disk"
            self.guest_error(f"sleep-{kind}", f"there is no sleep type {kind}: {known}")

    # -- APM ports

    def _read_apm(self, offset: int, size: int) -> int:
        return self.apm_status if offset else self.apm_control

    def _write_apm(self, offset: int, value: int, size: int) -> None:
        if offset:
            self.apm_status = value
            return
        self.apm_control = value
        if value == ACPI_ENABLE:
            self.control |= SCI_EN
            self._update_sci()
        elif value == ACPI_DISABLE:
            self.control &= ~SCI_EN
            self._update_sci()
        elif self.config_word(DEVACTB, 4) & APMC_EN:
            self._smi.pulse()

    # -- SMBus

    def _read_smb(self, offset: int, size: int) -> int:
        if offset == SMB_BLOCK:
            value = self.smb_block[self.smb_index]
            self.smb_index = (self.smb_index + 1) % len(self.smb_block)
            return value
        if offset == SMB_CONTROL:
            self.smb_index = 0  # reading it rewinds the block buffer
        return self.smb[offset]

    def _write_smb(self, offset: int, value: int, size: int) -> None:
        if offset == SMB_STATUS:
            self.smb[SMB_STATUS] &= ~(value & SMB_STATUS_CLEARABLE)
        elif offset == SMB_CONTROL:
            self.smb[SMB_CONTROL] = value & ~SMB_START & 0xFF
            if value & SMB_KILL:
                self.smb[SMB_STATUS] |= SMB_FAILED
            elif value & SMB_START:
                self.smb[SMB_STATUS] |= SMB_DEVICE_ERROR  # nobody acknowledges the address
        elif offset == SMB_BLOCK:
            self.smb_block[self.smb_index] = value
            self.smb_index = (self.smb_index + 1) % len(self.smb_block)
        else:
            self.smb[offset] = value
