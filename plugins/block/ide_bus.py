"""IDE bus: one channel with a cable for two devices (ATA/ATAPI-6, sections 6 to 9: registers, selection, reset,
protocols).

Modelled: the command block and control block registers, device selection, what an absent device answers, INTRQ with
nIEN, software reset, and `IdeDevice`, the half that every device on the cable shares: its task file with the 48-bit
history, the data port, interrupt pending. Not modelled: PDIAG-/DASP- timing (diagnostics take no time), overlapped
commands.

A channel with device 1 only, or none: reads as 0 where nobody drives the bus, as the pull-down on DD7 makes it look
idle.

A controller maps `command_read/command_write` and `control_read/control_write`, takes interrupts from `irq`, and,
when it can master the bus, sets itself as `master`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from qom import Bus, Device, RealizeError, Region, Reset, prop, state, type_init

DATA, ERROR_FEATURES, SECTOR_COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, STATUS_COMMAND = range(8)  # command block

ERR, IDX, CORR, DRQ, DSC, DF, DRDY, BSY = (1 << n for n in range(8))  # Status bits
READY = DRDY | DSC
ABRT, IDNF, UNC = 0x04, 0x10, 0x40  # Error bits
DIAGNOSTICS_PASSED = 0x01  # Error after reset or EXECUTE DEVICE DIAGNOSTIC
NIEN, SRST, HOB = 0x02, 0x04, 0x80  # Device Control bits
DEV, LBA, DEVICE_OBSOLETE = 0x10, 0x40, 0xA0  # Device register bits
EXECUTE_DEVICE_DIAGNOSTIC = 0x90


class BusMaster(Protocol):
    """The controller's side of a DMA transfer; addresses and lengths come from its descriptor table."""

    def dma_ready(self) -> None:
        """A device has a DMA command waiting: run it now, or when software starts the engine."""

    def dma_cancel(self) -> None:
        """The device gave up what it was waiting for."""


class DmaTransfer(Protocol):
    """Guest memory as a DMA command sees it: one stream."""

    def put(self, data: bytes) -> int:
        """Write to guest memory; returns how many bytes the descriptors had room for."""

    def take(self, size: int) -> bytes:
        """Read from guest memory; returns less than `size` bytes when the descriptors end."""


@type_init("ide-bus")
class IdeBus(Bus):
    """One IDE channel."""

    max_devices = 2

    unit: int = state()  # device selected
    control: int = state()  # Device Control register

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "IDE channel", "block"

    def instance_init(self) -> None:
        """Start with an empty cable and nobody listening."""
        self.units: list[IdeDevice | None] = [None, None]
        self.irq: Callable[[int], None] = _nobody
        self.master: BusMaster | None = None
        self._level = 0
        self.hotplug = False

    # --- the cable

    def occupy(self, device: IdeDevice, unit: int | None) -> int:
        """Give `device` its place, the one it asks for or the first one free; returns it. Raises RealizeError."""
        if unit is None:
            unit = next((n for n in (0, 1) if self.units[n] is None), None)
            if unit is None:
                raise RealizeError(f"{device.path}: no free unit on {self.path}, which takes two devices")
        other = self.units[unit]
        if other is not None:
            raise RealizeError(f"{device.path}: unit {unit} of {self.path} is already taken by {other.path}")
        self.units[unit] = device
        return unit

    def vacate(self, device: IdeDevice) -> None:
        """Undo `occupy`."""
        self.units = [None if held is device else held for held in self.units]
        self.update_irq()

    def where(self, device: Device) -> str:
        """Its place on the cable: "unit 0"."""
        return next((f"unit {n}" for n, held in enumerate(self.units) if held is device), "")

    @property
    def selected(self) -> IdeDevice | None:
        """The device that the DEV bit selects, if there is one."""
        return self.units[self.unit]

    def _responder(self) -> IdeDevice | None:
        """Who drives the bus: the selected device, or device 0 in place of an absent device 1."""
        return self.units[self.unit] or self.units[0]

    def update_irq(self) -> None:
        """Drive INTRQ: pending in the selected device, unless nIEN."""
        device = self.units[self.unit]
        level = 1 if device is not None and device.irq_pending and not self.control & NIEN else 0
        if level != self._level:
            self._level = level
            self.irq(level)

    def reset_hold(self, kind: Reset) -> None:
        """Hardware reset of the channel itself; the devices are reset by themselves."""
        self.reset_state()
        self._level = 0
        self.irq(0)

    # --- command block

    def command_read(self, offset: int, size: int) -> int:
        """Read a command block register; offset 0 is the data port, 2 or 4 bytes wide."""
        if offset == DATA:
            device = self.units[self.unit]
            if device is None or device.transfer_end == 0:
                return 0
            return device.data_read(size)
        if size > 1:
            return sum(self.command_read((offset + n) & 7, 1) << 8 * n for n in range(size))
        responder = self._responder()
        if responder is None:
            return 0
        if offset == STATUS_COMMAND:
            if responder is not self.units[self.unit]:
                return 0  # device 0 answers for the absent device 1
            if responder.irq_pending:
                responder.irq_pending = False
                self.update_irq()
            return responder.status
        return responder.register(offset, bool(self.control & HOB))

    def command_write(self, offset: int, value: int, size: int) -> None:
        """Write a command block register."""
        if offset == DATA:
            device = self.units[self.unit]
            if device is not None and device.transfer_end:
                device.data_write(value, size)
            return
        if size > 1:
            for n in range(size):
                self.command_write((offset + n) & 7, value >> 8 * n & 0xFF, 1)
            return
        self.control &= ~HOB
        if offset == STATUS_COMMAND:
            self._command(value)
            return
        for device in self.units:  # both listen, whoever is selected
            if device is not None:
                device.set_register(offset, value)
        if offset == DEVICE:
            self.unit = 1 if value & DEV else 0
            self.update_irq()

    def command_read_burst(self, offset: int, size: int, count: int) -> bytes:
        """REP INS of the data port: as much as this data block has."""
        device = self.units[self.unit]
        if offset != DATA or size == 1 or device is None or device.transfer_end == 0:
            return b""
        return device.data_read_burst(size, count)

    def command_write_burst(self, offset: int, size: int, data: bytes) -> int:
        """REP OUTS of the data port: as much as this data block takes."""
        device = self.units[self.unit]
        if offset != DATA or size == 1 or device is None or device.transfer_end == 0:
            return 0
        return device.data_write_burst(size, data)

    def _command(self, code: int) -> None:
        if self.control & SRST:
            return
        if code == EXECUTE_DEVICE_DIAGNOSTIC:  # addressed to both, answered by device 0
            self.unit = 0
            for device in self.units:
                if device is not None:
                    device.diagnose()
            first = self.units[0]
            if first is not None:
                first.raise_irq()
            return
        device = self.units[self.unit]
        if device is None:
            return
        if device.irq_pending:
            device.irq_pending = False
            self.update_irq()
        device.command(code)

    def map_registers(self, name: str) -> tuple[Region, Region]:
        """The two blocks as regions, for a controller to map."""
        command = Region(f"{name}-command", 8, self.command_read, self.command_write, (1, 4))
        command.read_burst, command.write_burst = self.command_read_burst, self.command_write_burst
        return command, Region(f"{name}-control", 1, self.control_read, self.control_write, (1, 1))

    # --- control block

    def control_read(self, offset: int, size: int) -> int:
        """Alternate Status: as Status, and leaves INTRQ alone."""
        device = self.units[self.unit]
        return device.status if device is not None else 0

    def control_write(self, offset: int, value: int, size: int) -> None:
        """Device Control: SRST, nIEN, HOB."""
        changed, self.control = self.control ^ value, value & (SRST | NIEN | HOB)
        if changed & SRST:
            for device in self.units:
                if device is not None:
                    device.software_reset(bool(value & SRST))
            if not value & SRST:
                self.unit = 0
        self.update_irq()


def _nobody(level: int) -> None:
    del level


@type_init("ide-device", abstract=True)
class IdeDevice(Device):
    """What every device on an IDE cable has; a subclass executes commands."""

    bus_type = "ide-bus"

    unit: int | None = prop(None, "Place on the cable: 0 or 1; unset: the first one free", type="uint32", max=1)

    status: int = state(reset=READY)
    error: int = state(reset=DIAGNOSTICS_PASSED)
    features: int = state()
    device: int = state(reset=DEVICE_OBSOLETE)
    count: int = state(reset=1)
    lba_low: int = state(reset=1)
    lba_mid: int = state()
    lba_high: int = state()
    hob_features: int = state()  # the "previous content" of each two-byte register
    hob_count: int = state()
    hob_low: int = state()
    hob_mid: int = state()
    hob_high: int = state()
    irq_pending: bool = state(reset=False)
    buffer: bytearray = state(factory=bytearray)
    transfer_pos: int = state()  # next byte of `buffer` that the data port gives or takes
    transfer_end: int = state()  # 0: no data to transfer
    transfer_in: bool = state(reset=True)  # direction: True toward the host
    dma_waiting: bool = state(reset=False)  # a DMA command waits for the engine

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Device on an IDE cable", "block"

    def realize(self) -> None:
        """Take the place on the cable."""
        bus = self.bus
        assert isinstance(bus, IdeBus)
        self.channel = bus
        self.unit = bus.occupy(self, self.unit)
        self.on_unrealize(lambda: bus.vacate(self))
        self._words = memoryview(self.buffer).cast("H")

    def reset(self) -> None:
        """Hardware reset."""
        self.reset_state()
        self._words = memoryview(self.buffer).cast("H")
        self.signature()

    def load_state(self, saved: dict[str, Any]) -> None:
        """Take over saved state; the view of the buffer must be that of the new buffer."""
        super().load_state(saved)
        self._words = memoryview(self.buffer).cast("H")

    # --- for subclasses

    def command(self, code: int) -> None:
        """Execute `code`; the task file holds the parameters."""
        raise NotImplementedError

    def signature(self) -> None:
        """Put into the task file what says which kind of device this is (ATA)."""
        self.count = self.lba_low = 1
        self.lba_mid = self.lba_high = 0

    def block_in_done(self) -> None:
        """The host has read the whole buffer."""
        raise NotImplementedError

    def block_out_done(self) -> None:
        """The host has written the whole buffer."""
        raise NotImplementedError

    def dma_run(self, transfer: DmaTransfer) -> bool:
        """The engine runs: move the data of the DMA command that waits; False when the descriptors were too short."""
        raise NotImplementedError

    # --- task file

    def register(self, offset: int, hob: bool) -> int:
        """A register other than Data and Status; `hob`: its previous content."""
        if offset == ERROR_FEATURES:
            return self.error
        if offset == SECTOR_COUNT:
            return self.hob_count if hob else self.count
        if offset == LBA_LOW:
            return self.hob_low if hob else self.lba_low
        if offset == LBA_MID:
            return self.hob_mid if hob else self.lba_mid
        if offset == LBA_HIGH:
            return self.hob_high if hob else self.lba_high
        return self.device

    def set_register(self, offset: int, value: int) -> None:
        """Write a register other than Data and Command."""
        if offset == ERROR_FEATURES:
            self.hob_features, self.features = self.features, value
        elif offset == SECTOR_COUNT:
            self.hob_count, self.count = self.count, value
        elif offset == LBA_LOW:
            self.hob_low, self.lba_low = self.lba_low, value
        elif offset == LBA_MID:
            self.hob_mid, self.lba_mid = self.lba_mid, value
        elif offset == LBA_HIGH:
            self.hob_high, self.lba_high = self.lba_high, value
        else:
            self.device = value | DEVICE_OBSOLETE

    def raise_irq(self) -> None:
        """Ask for INTRQ."""
        self.irq_pending = True
        self.channel.update_irq()

    def stop_transfer(self) -> None:
        """Leave whatever data phase there is."""
        self.transfer_pos = self.transfer_end = 0

    def software_reset(self, asserted: bool) -> None:
        """SRST goes to 1, or back to 0."""
        self.stop_transfer()
        self.irq_pending = False
        if self.channel.master is not None:
            self.channel.master.dma_cancel()
        if asserted:
            self.status = BSY | DSC
        else:
            self.diagnose()

    def diagnose(self) -> None:
        """Result of the diagnostics that run after a reset and on command."""
        self.stop_transfer()
        self.status, self.error = READY, DIAGNOSTICS_PASSED
        self.device = DEVICE_OBSOLETE
        self.signature()

    # --- data port

    def offer(self, data: bytes) -> None:
        """Data for the host: DRQ until it has read all of it, then `block_in_done`. `data`: a multiple of 4 bytes."""
        self.buffer = bytearray(data)
        self._open_port(True)

    def expect(self, size: int) -> None:
        """Data from the host: DRQ until it has written `size` bytes, a multiple of 4, then `block_out_done`."""
        self.buffer = bytearray(size)
        self._open_port(False)

    def _open_port(self, toward_host: bool) -> None:
        self._words = memoryview(self.buffer).cast("H")
        self.transfer_pos, self.transfer_end, self.transfer_in = 0, len(self.buffer), toward_host
        self.status = READY | DRQ

    def data_read(self, size: int) -> int:
        """One access of the data port; `transfer_end` is not 0."""
        if not self.transfer_in:
            return 0
        pos = self.transfer_pos
        if size == 4:
            value = self._words[pos >> 1] | self._words[(pos >> 1) + 1] << 16 if pos + 4 <= self.transfer_end else 0
            pos += 4
        else:  # the port is 16 bits wide: a byte access moves a whole word
            value = self._words[pos >> 1]
            pos += 2
        self.transfer_pos = pos
        if pos >= self.transfer_end:
            self.stop_transfer()
            self.block_in_done()
        return value

    def data_write(self, value: int, size: int) -> None:
        """One access of the data port; `transfer_end` is not 0."""
        if self.transfer_in:
            return
        pos = self.transfer_pos
        self._words[pos >> 1] = value & 0xFFFF
        pos += 2
        if size == 4 and pos < self.transfer_end:
            self._words[pos >> 1] = value >> 16
            pos += 2
        self.transfer_pos = pos
        if pos >= self.transfer_end:
            self.stop_transfer()
            self.block_out_done()

    def data_read_burst(self, size: int, count: int) -> bytes:
        """Accesses of the data port up to the end of the block, at once; `transfer_end` is not 0."""
        pos = self.transfer_pos
        end = min(pos + size * count, self.transfer_end)
        if not self.transfer_in or (end - pos) % size:
            return b""
        data = bytes(self.buffer[pos:end])
        self.transfer_pos = end
        if end == self.transfer_end:
            self.stop_transfer()
            self.block_in_done()
        return data

    def data_write_burst(self, size: int, data: bytes) -> int:
        """Accesses of the data port up to the end of the block, at once; `transfer_end` is not 0."""
        pos = self.transfer_pos
        end = min(pos + len(data), self.transfer_end)
        if self.transfer_in or (end - pos) % size:
            return 0
        self.buffer[pos:end] = data[: end - pos]
        self.transfer_pos = end
        if end == self.transfer_end:
            self.stop_transfer()
            self.block_out_done()
        return end - pos
