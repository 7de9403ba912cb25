"""Intel 82077AA floppy disk controller, as the AT uses it, with DRIVE SPECIFICATION, OPTION and PART ID of the 82078.

Every command is complete when the write that caused it returns, or waits there for the DMA channel or for bytes from
the host, so RQM is never seen low for long.
Modelled: the registers, software and hardware reset with the four statuses that follow, command, execution and result
phases, all commands of the 82077AA, transfers by DMA and by the host with requests by FIFO threshold, multi-track, skip,
implied seeks, data rates (a wrong one finds no address mark), write protection, deleted data marks, disk change.
Not modelled: the time that steps, head loads and transfers take; overruns; FM recording, sectors other than 512 bytes
(neither is found on a medium); what perpendicular mode, gaps and precompensation do to a recording; the 82078's SAVE,
RESTORE, POWERDOWN MODE and FORMAT AND WRITE, which are invalid commands; drives 2 and 3.
A drive without a medium answers like one with an unformatted medium.  The chip itself would wait for an index pulse
until it is reset.

Guest view: ports 3F0h-3F5h and 3F7h, level on ISA line `irq` (edges for each request in the non-DMA mode), DMA channel
`dma`.  Interrupts and DMA pass only while DOR bit 3 is set.  The drive that is accessed is the one that DOR selects, with
its motor on; the number in a command only says whose cylinder number it concerns, as on the chip.

Hardware reset: the chip's clears DOR, which holds the chip in reset until software lets it go; this one leaves DOR at 0Ch,
as QEMU's does, and takes commands at once.  Programs that were written for QEMU, its qtest sequences above all, count on
it; firmware and drivers do not care, because they reset the chip by DOR before they use it.  For the same programs drive 0
is accessed with its motor off until DOR is written: they read the disk change line and step without a word to DOR.  The
rest is the data sheet's: no INT and no status comes of a hardware reset, and the data rate is 250 kbit/s.

Sections: "82077AA CHMOS Single-Chip Floppy Disk Controller", Intel 290166-007; "82078 64 Pin CHMOS Single-Chip Floppy
Disk Controller", Intel 290475-004.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from plugins.block.floppy import DRIVE_KINDS, SIZE_CODE, Floppy, FloppyBus
from qom import IsaDevice, Region, prop, records, state, type_init
from qom.vm import SECTOR, BlockError

SRA, SRB, DOR, TDR, MSR_DSR, FIFO = range(6)  # register offsets; DIR and CCR are at 7
DIR_CCR: Final = 7

SRA_INT, SRA_NO_DRIVE_2, SRA_NOT_TRACK_0, SRA_HEAD, SRA_NO_INDEX, SRA_NOT_PROTECTED, SRA_INWARDS = (
    0x80, 0x40, 0x10, 0x08, 0x04, 0x02, 0x01,
)  # fmt: skip
SRB_ONES, SRB_DRIVE_0, SRB_MOTORS = 0xC0, 0x20, 0x03
DOR_MOTOR_0, DOR_DMA_GATE, DOR_NOT_RESET, DOR_SELECT = 0x10, 0x08, 0x04, 0x03
TDR_SELECT: Final = 0x03
MSR_RQM, MSR_DIO, MSR_NON_DMA, MSR_BUSY = 0x80, 0x40, 0x20, 0x10
DSR_RESET, DSR_KEPT, DSR_RATE = 0x80, 0x3F, 0x03
DOR_AFTER_RESET: Final = DOR_DMA_GATE | DOR_NOT_RESET
DIR_CHANGED: Final = 0x80
RATES: Final = (500, 300, 250, 1000)  # kbit/s, by DRATE SEL

ABNORMAL, INVALID, POLLING = 0x40, 0x80, 0xC0  # ST0, interrupt code
SEEK_END, EQUIPMENT_CHECK, HEAD = 0x20, 0x10, 0x04  # ST0
END_OF_CYLINDER, DATA_ERROR, OVERRUN, NO_DATA, NOT_WRITABLE, MISSING_MARK = 0x80, 0x20, 0x10, 0x04, 0x02, 0x01  # ST1
CONTROL_MARK, DATA_FIELD_ERROR, WRONG_CYLINDER, SCAN_HIT, SCAN_MISS = 0x40, 0x20, 0x10, 0x08, 0x04  # ST2
ST3_PROTECTED, ST3_TRACK_0, ST3_ONES = 0x40, 0x10, 0x28

MULTI_TRACK, MFM, SKIP = 0x80, 0x40, 0x20  # first byte of a command
ENABLE_COUNT: Final = 0x80  # second byte of VERIFY
NON_DMA: Final = 0x01  # SPECIFY
IMPLIED_SEEK, NO_FIFO, THRESHOLD = 0x40, 0x20, 0x0F  # CONFIGURE
CONFIGURE_RESET: Final = NO_FIFO
LOCKABLE: Final = NO_FIFO | THRESHOLD
GAP_WGATE, PERPENDICULAR_DRIVES, OVERWRITE = 0x03, 0x3C, 0x80  # PERPENDICULAR MODE
INWARDS: Final = 0x40  # RELATIVE SEEK
LOCK: Final = 0x80
SPEC_DONE, SPEC_NO_RESULT, SPEC_DRIVE_SHIFT, SPEC_BITS, SPEC_BYTES = 0x80, 0x40, 5, 0x1F, 5  # DRIVE SPECIFICATION
ENHANCED, PART = 0x90, 0x41  # what VERSION and PART ID answer
RECALIBRATE_STEPS: Final = 79
LONGEST_SEEK: Final = 256
FIFO_SIZE: Final = 16
FORMAT_ID: Final = 4  # bytes a sector
LAST_BYTE: Final = 0xFF

IDLE, COMMAND, SEARCH, TO_HOST, FROM_HOST, RESULT = range(6)  # phases; the middle three are the execution phase

READ_TRACK, WRITE_DATA, READ_DATA, WRITE_DELETED, READ_DELETED = 0x02, 0x05, 0x06, 0x09, 0x0C
FORMAT_TRACK, SCAN_EQUAL, VERIFY, SCAN_LOW, SCAN_HIGH = 0x0D, 0x11, 0x16, 0x19, 0x1D
OPERATION: Final = 0x1F  # bits of the first byte that say which of these it is
READS: Final = (READ_DATA, READ_DELETED, READ_TRACK)
WRITES: Final = (WRITE_DATA, WRITE_DELETED)
SCANS: Final = (SCAN_EQUAL, SCAN_LOW, SCAN_HIGH)


@type_init("isa-fdc")
class I82077(IsaDevice):
    """The floppy disk controller of a PC."""

    iobase: int = prop(0x3F0, "First I/O port of eight, without the seventh", type="uint32", max=0xFFF8, base=16)
    irq: int = prop(6, "ISA interrupt line", type="uint32", max=15)
    channel: int = prop(2, "DMA channel", type="uint32", max=3, name="dma")
    fallback: str = prop("288", "What a drive of type 'auto' is that has no medium to tell", among=tuple(DRIVE_KINDS))

    dor: int = state(reset=DOR_AFTER_RESET, desc="Digital output register")
    dor_written: bool = state(reset=False, desc="Whether software has written DOR since the hardware reset")
    tdr: int = state(desc="Tape drive register")
    dsr: int = state(reset=0x02, desc="Data rate and precompensation")
    lock: bool = state(reset=False, desc="Whether a software reset leaves FIFO and precompensation start as they are")
    configuration: int = state(reset=CONFIGURE_RESET, desc="Second parameter of CONFIGURE")
    precompensation_from: int = state(desc="PRETRK of CONFIGURE")
    specify: list[int] = state(factory=lambda: [0, 0], desc="Parameters of SPECIFY")
    perpendicular: int = state(desc="Parameter of PERPENDICULAR MODE")
    option: int = state(desc="Parameter of OPTION")
    drive_spec: list[int] = state(factory=lambda: [0, 0, 0, 0], desc="DRIVE SPECIFICATION, by drive")
    cylinders: list[int] = state(factory=lambda: [0, 0, 0, 0], desc="Present cylinder numbers, by drive")
    end_of_track: int = state(desc="EOT of the last transfer, or SC of the last FORMAT TRACK")
    inwards: bool = state(reset=False, desc="Direction of the last step")
    interrupt: bool = state(reset=False, desc="INT")
    statuses: list[int] = state(
        factory=lambda: [-1, -1, -1, -1], desc="ST0 for SENSE INTERRUPT STATUS, by drive, or -1"
    )

    phase: int = state()
    command: bytearray = state(factory=bytearray, desc="Bytes of the command")
    results: bytearray = state(factory=bytearray, desc="Bytes of the result phase that were not read yet")
    st0: int = state()
    st1: int = state()
    st2: int = state()
    sector_id: list[int] = state(factory=lambda: [0, 0, 0, 0], desc="C, H, R, N of the sector at hand")
    head: int = state(desc="Head that is selected")
    count: int = state(desc="Sectors still to verify or to format, or read of a track so far")
    data: bytearray = state(factory=bytearray, desc="Bytes of the sector at hand that go to the host, or came from it")
    terminal_count: bool = state(reset=False, desc="The DMA controller wants no more")
    request: int = state(desc="Bytes the host may still move by this request (non-DMA mode)")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "82077AA floppy disk controller", "block"

    # --- life

    def instance_init(self) -> None:
        """Make the cable, so that drives can be plugged before this is realized."""
        self.cable: FloppyBus = self.new_bus("floppy-bus", "floppy-bus.0")

    def realize(self) -> None:
        """Claim ports, line and channel."""
        self.cable.fallback = self.fallback
        self._line = self.isa.irq(self.irq)
        self._channel = self.isa.dma_channel(self.channel)
        self._channel.on_ready = self._run
        self.on_unrealize(self._forget_channel)
        self.isa.map_ports(self.iobase, Region("fdc", 6, self._read, self._write, (1, 1)))
        self.isa.map_ports(self.iobase + DIR_CCR, Region("fdc-dir", 1, self._read_dir, self._write_ccr, (1, 1)))

    def _forget_channel(self) -> None:
        self._channel.on_ready = None

    def reset(self) -> None:
        """Hardware reset: idle, and out of reset (the module says why)."""
        super().reset()
        self._line.lower()

    def state_loaded(self) -> None:
        """The line follows the registers."""
        super().state_loaded()
        self._update_line()

    def _software_reset(self) -> None:
        """By DOR or DSR (section 4.2, table 3-1): what LOCK protects stays, and the simulated drives have become ready."""
        self._to_idle()
        self.configuration = self.configuration & LOCKABLE if self.lock else CONFIGURE_RESET
        if not self.lock:
            self.precompensation_from = 0
        self.perpendicular &= ~GAP_WGATE
        self.cylinders = [0, 0, 0, 0]
        self.statuses = [POLLING | n for n in range(4)]
        self._set_interrupt(True)

    def _to_idle(self) -> None:
        self.phase = IDLE
        self.command.clear()
        self.results.clear()
        self.data.clear()
        self.request = 0

    # --- lines

    def _set_interrupt(self, on: bool) -> None:
        self.interrupt = on
        self._update_line()

    def _update_line(self) -> None:
        self._line.set(1 if self.interrupt and self.dor & DOR_DMA_GATE else 0)

    def _drive(self) -> Floppy | None:
        """The drive that DOR selects, if there is one; the select line needs the motor's, once DOR was written."""
        n = self.dor & DOR_SELECT
        if n >= len(self.cable.units) or (self.dor_written and not self.dor & DOR_MOTOR_0 << n):
            return None
        return self.cable.units[n]

    # --- registers

    def _read(self, offset: int, size: int) -> int:
        if offset == FIFO:
            return self._read_fifo()
        if offset == MSR_DSR:
            return self._main_status()
        if offset == DOR:
            return self.dor
        if offset == TDR:
            return self.tdr
        return self._status_a() if offset == SRA else self._status_b()

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == FIFO:
            self._write_fifo(value)
        elif offset == DOR:
            self._write_dor(value)
        elif offset == MSR_DSR:
            self.dsr = value & DSR_KEPT
            if value & DSR_RESET and self.dor & DOR_NOT_RESET:
                self._software_reset()
        elif offset == TDR:
            self.tdr = value & TDR_SELECT
        else:
            self.guest_error("status", f"status register {'BA'[offset == SRA]} was written")

    def _read_dir(self, offset: int, size: int) -> int:
        drive = self._drive()
        return DIR_CHANGED if drive is not None and drive.changed else 0

    def _write_ccr(self, offset: int, value: int, size: int) -> None:
        self.dsr = self.dsr & ~DSR_RATE | value & DSR_RATE

    def _status_a(self) -> int:
        drive = self._drive()
        value = SRA_NO_INDEX | (SRA_INT if self.interrupt else 0) | (SRA_INWARDS if self.inwards else 0)
        if self.cable.units[1] is None:
            value |= SRA_NO_DRIVE_2
        if drive is None or not drive.at_track_0:
            value |= SRA_NOT_TRACK_0
        if drive is None or not drive.write_protected:
            value |= SRA_NOT_PROTECTED
        return value | (SRA_HEAD if self.head else 0)

    def _status_b(self) -> int:
        return SRB_ONES | (SRB_DRIVE_0 if self.dor & 1 else 0) | self.dor >> 4 & SRB_MOTORS

    def _write_dor(self, value: int) -> None:
        before, self.dor, self.dor_written = self.dor, value, True
        if not value & DOR_NOT_RESET:
            self._to_idle()
            self.statuses = [-1, -1, -1, -1]
            self._set_interrupt(False)
        elif not before & DOR_NOT_RESET:
            self._software_reset()
        else:
            self._update_line()
            if value & ~before & DOR_DMA_GATE:
                self._run()

    def _main_status(self) -> int:
        if not self.dor & DOR_NOT_RESET:
            return 0
        seeks = sum(1 << n for n, st0 in enumerate(self.statuses) if st0 >= 0 and st0 & SEEK_END)
        if self.phase == IDLE:
            return MSR_RQM | seeks
        value = MSR_BUSY | seeks
        if self.phase == COMMAND:
            return value | MSR_RQM
        if self.phase == RESULT:
            return value | MSR_RQM | MSR_DIO
        if self._by_host():
            return value | MSR_RQM | MSR_NON_DMA | (MSR_DIO if self.phase == TO_HOST else 0)
        return value

    def _by_host(self) -> bool:
        """Whether the host moves the data itself: the non-DMA mode."""
        return bool(self.specify[1] & NON_DMA)

    # --- the FIFO

    def _write_fifo(self, value: int) -> None:
        if not self.dor & DOR_NOT_RESET:
            return
        if self.phase == FROM_HOST and self._by_host():
            self.data.append(value)
            self._host_moved(len(self.data) == self._expected)
            return
        if self.phase not in (IDLE, COMMAND):
            self.guest_error("fifo-write", "the FIFO was written while it was not to be: RQM was 0 or DIO was 1")
            return
        self.phase = COMMAND
        self.command.append(value)
        kind = COMMANDS.get(self.command[0], _INVALID)
        if len(self.command) > kind.parameters or (kind.until_done and value & SPEC_DONE and len(self.command) > 1):
            if kind is _INVALID:
                self.guest_error(f"command-{value:02x}", f"there is no floppy controller command {value:#04x}")
            kind.run(self)

    def _read_fifo(self) -> int:
        if self.phase == RESULT:
            value = self.results.pop(0)
            self._set_interrupt(False)
            if not self.results:
                self._to_idle()
                self._ask_for_sense()
            return value
        if self.phase == TO_HOST and self._by_host():
            value = self.data.pop(0)
            self._host_moved(not self.data)
            return value
        return 0

    def _ask_for_sense(self) -> None:
        """INT, if a seek has ended that SENSE INTERRUPT STATUS was not told of."""
        if any(st0 >= 0 and st0 & SEEK_END for st0 in self.statuses):
            self._set_interrupt(True)

    def _answer(self, *values: int) -> None:
        """Enter the result phase."""
        self._to_idle()
        self.phase = RESULT
        self.results += bytes(values)

    # --- commands without execution phase

    def _invalid(self) -> None:
        self._answer(INVALID)

    def _specify(self) -> None:
        self.specify = [self.command[1], self.command[2]]
        self._to_idle()

    def _configure(self) -> None:
        self.configuration, self.precompensation_from = self.command[2] & 0x7F, self.command[3]
        self._to_idle()

    def _set_perpendicular(self) -> None:
        value = self.command[1]
        drives = value if value & OVERWRITE else self.perpendicular
        self.perpendicular = drives & PERPENDICULAR_DRIVES | value & GAP_WGATE
        self._to_idle()

    def _set_lock(self) -> None:
        self.lock = bool(self.command[0] & LOCK)
        self._answer(0x10 if self.lock else 0)

    def _version(self) -> None:
        self._answer(ENHANCED)

    def _part_id(self) -> None:
        self._answer(PART)

    def _set_option(self) -> None:
        self.option = self.command[1]
        self._to_idle()

    def _drive_specification(self) -> None:
        last = self.command[-1]
        for value in self.command[1:]:
            if not value & SPEC_DONE:
                self.drive_spec[value >> SPEC_DRIVE_SHIFT & 3] = value & SPEC_BITS
        if last & SPEC_DONE and last & SPEC_NO_RESULT:
            self._to_idle()
        else:
            self._answer(*self.drive_spec)

    def _dump_registers(self) -> None:
        locked = (LOCK if self.lock else 0) | self.perpendicular
        registers = (*self.cylinders, *self.specify, self.end_of_track, locked, self.configuration)
        self._answer(*registers, self.precompensation_from)

    def _sense_drive(self) -> None:
        drive, which = self._drive(), self.command[1] & (DOR_SELECT | HEAD)
        value = ST3_ONES | which
        if drive is not None:
            value |= (ST3_PROTECTED if drive.write_protected else 0) | (ST3_TRACK_0 if drive.at_track_0 else 0)
        self._answer(value)

    def _sense_interrupt(self) -> None:
        which = next((n for n, st0 in enumerate(self.statuses) if st0 >= 0), None)
        if which is None:
            self._answer(INVALID)
            return
        st0, self.statuses[which] = self.statuses[which], -1
        self._set_interrupt(False)
        self._answer(st0, self.cylinders[which])

    # --- seeks

    def _step(self, count: int) -> None:
        """Step pulses for the selected drive, inwards if `count` is positive."""
        drive = self._drive()
        if count:
            self.inwards = count > 0
        if drive is not None:
            drive.step(count)

    def _seek_to(self, which: int, cylinder: int) -> None:
        self._step(cylinder - self.cylinders[which])
        self.cylinders[which] = cylinder

    def _seek_ended(self, which: int, status: int = 0) -> None:
        self._to_idle()
        self.statuses[which] = SEEK_END | status | which
        self._set_interrupt(True)

    def _recalibrate(self) -> None:
        which, drive = self.command[1] & DOR_SELECT, self._drive()
        steps = RECALIBRATE_STEPS if drive is None else min(drive.track, RECALIBRATE_STEPS)
        self._step(-steps)
        self.cylinders[which] = 0
        arrived = drive is not None and drive.at_track_0
        self._seek_ended(which, 0 if arrived else ABNORMAL | EQUIPMENT_CHECK)

    def _seek(self) -> None:
        which = self.command[1] & DOR_SELECT
        self._seek_to(which, self.command[2])
        self._seek_ended(which)

    def _relative_seek(self) -> None:
        which, drive, count = self.command[1] & DOR_SELECT, self._drive(), self.command[2] or LONGEST_SEEK
        if self.command[0] & INWARDS:
            self._step(count)
            self.cylinders[which] = (self.cylinders[which] + count) & 0xFF
            self._seek_ended(which)
            return
        steps = count if drive is None else min(drive.track, count)
        self._step(-steps)
        self.cylinders[which] = (self.cylinders[which] - steps) & 0xFF
        self._seek_ended(which, ABNORMAL | EQUIPMENT_CHECK if steps < count else 0)

    # --- commands with an execution phase: begin and end

    @property
    def _operation(self) -> int:
        return self.command[0] & OPERATION

    @property
    def _expected(self) -> int:
        """Bytes that the host gives for a sector."""
        return FORMAT_ID if self._operation == FORMAT_TRACK else SECTOR

    def _begin(self) -> None:
        """A command with C, H, R, N, EOT, GPL and DTL: read, write, scan or verify."""
        self.sector_id, self.end_of_track = list(self.command[2:6]), self.command[6]
        self._start()
        if self.configuration & IMPLIED_SEEK:
            self._seek_to(self.command[1] & DOR_SELECT, self.sector_id[0])
            self.st0 |= SEEK_END
        if self._operation == VERIFY:
            self.count = self.command[8] or 256
        if self._operation not in WRITES or not self._refused():
            self._run()

    def _begin_format(self) -> None:
        """FORMAT TRACK: N, SC, GPL and D."""
        self.sector_id, self.end_of_track = [0, 0, 0, self.command[2]], self.command[3]
        self._start()
        self.count = self.end_of_track
        if not self._refused():
            self._run()

    def _read_id(self) -> None:
        self.sector_id = [0, 0, 0, 0]
        self._start()
        drive = self._readable()
        if drive is not None:
            self.sector_id = [drive.cylinder(self.head) or 0, self.head, drive.next_sector(), SIZE_CODE]
            self._end()

    def _start(self) -> None:
        self.head = 1 if self.command[1] & HEAD else 0
        self.st0, self.st1, self.st2 = self.command[1] & DOR_SELECT, 0, 0
        self.count, self.terminal_count = 0, False
        self.phase = SEARCH

    def _refused(self) -> bool:
        """Whether the medium is write-protected; then the command has ended."""
        drive = self._drive()
        if drive is None or drive.format is None or not drive.write_protected:
            return False
        self._fail(NOT_WRITABLE)
        return True

    def _fail(self, st1: int, st2: int = 0) -> None:
        self.st1 |= st1
        self.st2 |= st2
        self._end(ABNORMAL)

    def _end(self, code: int = 0) -> None:
        """The result phase."""
        self._answer(self.st0 | code | (HEAD if self.head else 0), self.st1, self.st2, *self.sector_id)
        self._set_interrupt(True)

    # --- moving data

    def _run(self) -> None:
        """Go on with the execution phase as far as that is possible without the host."""
        while self.phase in (SEARCH, TO_HOST, FROM_HOST):
            if self.phase == SEARCH:
                self._search()
            elif self._by_host():
                if not self.request:
                    self._ask_host()
                return
            elif not self._move():
                return

    def _move(self) -> bool:
        """Move data by DMA; False when the channel takes or gives none now."""
        channel = self._channel
        if not self.dor & DOR_DMA_GATE or not channel.ready:
            return False
        left = channel.left
        if self.phase == TO_HOST:
            moved = channel.to_memory(bytes(self.data[:left]))
            del self.data[:moved]
        else:
            got = channel.from_memory(min(self._expected - len(self.data), left))
            self.data += got
            moved = len(got)
        self.terminal_count = moved == left
        if self.terminal_count or len(self.data) == (0 if self.phase == TO_HOST else self._expected):
            self._sector_moved()
        return bool(moved)

    def _ask_host(self) -> None:
        """Ask for as many bytes as the FIFO's threshold says (section 6.2.2), with INT."""
        threshold = (self.configuration & THRESHOLD) + 1
        self.request = 1 if self.configuration & NO_FIFO else max(FIFO_SIZE - threshold, 1)
        self._set_interrupt(True)

    def _host_moved(self, whole_sector: bool) -> None:
        self.request = 0 if whole_sector else self.request - 1
        if not self.request:
            self._set_interrupt(False)
        if whole_sector:
            self._sector_moved()
        self._run()

    def _sector_moved(self) -> None:
        """All data of the sector at hand is moved, or as much as the host wanted."""
        if self.phase == TO_HOST:
            self.data.clear()
        elif self._operation == FORMAT_TRACK:
            self._format_sector()
            return
        elif self._operation in SCANS:
            self._scan_sector()
            return
        elif not self._write_sector():
            return
        self._sector_done()

    # --- sectors

    def _readable(self) -> Floppy | None:
        """The selected drive, if address marks are found there; otherwise the command has ended."""
        drive = self._drive()
        if drive is None or not self._recorded(drive) or not self.command[0] & MFM:
            self._fail(MISSING_MARK)
            return None
        return drive

    def _recorded(self, drive: Floppy) -> bool:
        return drive.cylinder(self.head) is not None and drive.rate == RATES[self.dsr & DSR_RATE]

    def _search(self) -> None:
        """Find the next sector and get ready to move its data, or be done with it; or end the command."""
        operation = self._operation
        if operation == FORMAT_TRACK:
            self._search_format()
            return
        drive = self._readable()
        if drive is None:
            return
        if operation == READ_TRACK:
            self._next_of_track(drive)
            return
        lba = self._find(drive)
        if lba is None:
            return
        if operation in WRITES:
            self.phase = FROM_HOST
            return
        if (lba in drive.deleted) != (operation == READ_DELETED):
            self.st2 |= CONTROL_MARK
            if self.command[0] & SKIP:
                self._sector_done(skipped=True)
                return
        data = self._content(drive, lba)
        if data is None:
            self._end(ABNORMAL)
        elif operation in SCANS:
            self.phase = FROM_HOST
        elif operation == VERIFY:
            self._sector_done()
        else:
            self.data[:] = data
            self.phase = TO_HOST

    def _find(self, drive: Floppy) -> int | None:
        """Where in the image the sector at hand is; None when it is not on the track, and the command has ended."""
        cylinder, head, sector, size = self.sector_id
        medium, at = drive.format, drive.cylinder(self.head)
        assert medium is not None and at is not None
        if cylinder != at:
            self._fail(NO_DATA, WRONG_CYLINDER)
        elif head != self.head or not 1 <= sector <= medium.sectors or size != SIZE_CODE:
            self._fail(NO_DATA)
        else:
            return drive.lba(at, head, sector)
        return None

    def _content(self, drive: Floppy, lba: int) -> bytes | None:
        """A sector's data; None, and the status says so, when the host cannot read it."""
        try:
            return drive.read(lba)
        except BlockError as error:
            self._data_error(error)
            return None

    def _data_error(self, error: BlockError) -> None:
        self.system.log("block", str(error))
        self.st1 |= DATA_ERROR
        self.st2 |= DATA_FIELD_ERROR

    def _at_hand(self) -> tuple[Floppy, int] | None:
        """The drive, and where in its image the sector at hand is; None when it is gone, and the command has ended."""
        drive = self._readable()
        lba = None if drive is None else self._find(drive)
        return None if drive is None or lba is None else (drive, lba)

    def _write_sector(self) -> bool:
        """Write what the host gave, and zeros where it gave no more; False when the command has ended."""
        found = self._at_hand()
        if found is None:
            return False
        drive, lba = found
        try:
            drive.write(lba, self.data.ljust(SECTOR, b"\0"), deleted=self._operation == WRITE_DELETED)
        except BlockError as error:
            self._data_error(error)
            self._end(ABNORMAL)
            return False
        self.data.clear()
        return True

    def _sector_done(self, skipped: bool = False) -> None:
        """The sector at hand is read, written, verified or (skipped) passed over: go on to the next one, or end."""
        operation, multi = self._operation, self.command[0] & MULTI_TRACK
        if operation == READ_TRACK:
            self._track_sector_done()
            return
        if self.st2 & CONTROL_MARK and not self.command[0] & SKIP:
            self._end()  # the address is that of the sector with the other mark
            return
        counted = operation == VERIFY and self.command[1] & ENABLE_COUNT
        enough = self.terminal_count
        if counted:
            self.count -= 1
            enough = self.count == 0
        last = self.sector_id[2] == self.end_of_track
        other_side = last and multi and not self.head
        self._next_id()
        if enough:
            self._end()
        elif other_side:
            self.head, self.phase = 1, SEARCH
        elif not last:
            self.phase = SEARCH
        elif skipped or (operation == VERIFY and not counted):
            self._end()
        else:
            self._fail(END_OF_CYLINDER)

    def _next_id(self) -> None:
        """The address of the sector after the one at hand (table 5-6)."""
        cylinder, head, sector, size = self.sector_id
        if sector != self.end_of_track:
            self.sector_id = [cylinder, head, (sector + 1) & 0xFF, size]
        elif not self.command[0] & MULTI_TRACK:
            self.sector_id = [(cylinder + 1) & 0xFF, head, 1, size]
        else:
            self.sector_id = [(cylinder + self.head) & 0xFF, head ^ 1, 1, size]

    # --- READ TRACK, FORMAT TRACK, SCAN

    def _next_of_track(self, drive: Floppy) -> None:
        """The next sector from the index on, whatever its number; errors are told at the end."""
        medium, at = drive.format, drive.cylinder(self.head)
        assert medium is not None and at is not None
        sector = self.count % medium.sectors + 1
        if self.sector_id != [at, self.head, sector, SIZE_CODE]:
            self.st1 |= NO_DATA
        lba = drive.lba(at, self.head, sector)
        if lba in drive.deleted:
            self.st2 |= CONTROL_MARK
        self.data[:] = self._content(drive, lba) or bytes(SECTOR)
        self.phase = TO_HOST

    def _track_sector_done(self) -> None:
        self.count += 1
        self._next_id()
        if self.terminal_count or self.count >= self.end_of_track:
            self._end(ABNORMAL if self.st1 & DATA_ERROR else 0)
        else:
            self.phase = SEARCH

    def _search_format(self) -> None:
        drive = self._drive()
        if drive is None or drive.format is None:
            self._fail(MISSING_MARK)  # an index pulse never comes
        elif self.count == 0:
            self._end()
        else:
            self.phase = FROM_HOST

    def _format_sector(self) -> None:
        """The host has given a sector's address: record it, if an image can hold it, filled with the pattern."""
        if len(self.data) < FORMAT_ID:
            self._fail(OVERRUN)
            return
        self.sector_id[:] = self.data
        self.data.clear()
        self.count -= 1
        drive = self._drive()
        if drive is None or drive.format is None:
            self._fail(MISSING_MARK)
            return
        at, (cylinder, head, sector, size) = drive.cylinder(self.head), self.sector_id
        place = (cylinder, head, size, self.command[2]) == (at, self.head, SIZE_CODE, SIZE_CODE)
        if not place or not 1 <= sector <= drive.format.sectors or not self._recorded(drive):
            self.guest_error("format", f"an image cannot hold a sector with the address {self.sector_id}")
        else:
            try:
                drive.write(drive.lba(cylinder, head, sector), bytes((self.command[5],)) * SECTOR, deleted=False)
            except BlockError as error:
                self._data_error(error)
                self._end(ABNORMAL)
                return
        if self.terminal_count and self.count:
            self._fail(OVERRUN)
        else:
            self.phase = SEARCH

    def _scan_sector(self) -> None:
        """Compare the host's data with the sector; FFh on either side fits everything (section 5.1.9)."""
        found = self._at_hand()
        if found is None:
            return
        content = self._content(*found)
        if content is None:
            self._end(ABNORMAL)
            return
        pairs = [
            (ours, theirs) for ours, theirs in zip(content, self.data, strict=False) if LAST_BYTE not in (ours, theirs)
        ]
        self.data.clear()
        equal = all(ours == theirs for ours, theirs in pairs)
        low = self._operation == SCAN_LOW and all(ours <= theirs for ours, theirs in pairs)
        high = self._operation == SCAN_HIGH and all(ours >= theirs for ours, theirs in pairs)
        step = 2 if self.command[8] == 2 else 1
        last = self.sector_id[2] + step > self.end_of_track
        if equal or low or high:
            self.st2 |= SCAN_HIT if equal else 0
            self._end()
        elif (
            self.st2 & CONTROL_MARK
            or self.terminal_count
            or (last and (self.head or not self.command[0] & MULTI_TRACK))
        ):
            self.st2 |= SCAN_MISS
            self._end()
        elif last:
            self.head, self.phase = 1, SEARCH
            self.sector_id[1:3] = [self.sector_id[1] ^ 1, 1]
        else:
            self.phase = SEARCH
            self.sector_id[2] += step


@records.frozen
class Command:
    """A command.

    parameters: how many bytes follow the first one at most.  run: called with all of them there.  until_done: a byte may
    say that it is the last.
    """

    parameters: int
    run: Callable[[I82077], None]
    until_done: bool = False


def _table() -> dict[int, Command]:
    """The commands by their first byte; `any_of` are the bits that may be either way in it."""
    rows: list[tuple[int, int, Command]] = [
        (READ_DATA, MULTI_TRACK | MFM | SKIP, Command(8, I82077._begin)),
        (READ_DELETED, MULTI_TRACK | MFM | SKIP, Command(8, I82077._begin)),
        (WRITE_DATA, MULTI_TRACK | MFM, Command(8, I82077._begin)),
        (WRITE_DELETED, MULTI_TRACK | MFM, Command(8, I82077._begin)),
        (READ_TRACK, MFM, Command(8, I82077._begin)),
        (VERIFY, MULTI_TRACK | MFM | SKIP, Command(8, I82077._begin)),
        (SCAN_EQUAL, MULTI_TRACK | MFM | SKIP, Command(8, I82077._begin)),
        (SCAN_LOW, MULTI_TRACK | MFM | SKIP, Command(8, I82077._begin)),
        (SCAN_HIGH, MULTI_TRACK | MFM | SKIP, Command(8, I82077._begin)),
        (FORMAT_TRACK, MFM, Command(5, I82077._begin_format)),
        (0x0A, MFM, Command(1, I82077._read_id)),
        (0x03, 0, Command(2, I82077._specify)),
        (0x04, 0, Command(1, I82077._sense_drive)),
        (0x07, 0, Command(1, I82077._recalibrate)),
        (0x08, 0, Command(0, I82077._sense_interrupt)),
        (0x0E, 0, Command(0, I82077._dump_registers)),
        (0x0F, 0, Command(2, I82077._seek)),
        (0x8F, INWARDS, Command(2, I82077._relative_seek)),
        (0x10, 0, Command(0, I82077._version)),
        (0x12, 0, Command(1, I82077._set_perpendicular)),
        (0x13, 0, Command(3, I82077._configure)),
        (0x14, LOCK, Command(0, I82077._set_lock)),
        (0x18, 0, Command(0, I82077._part_id)),
        (0x33, 0, Command(1, I82077._set_option)),
        (0x8E, 0, Command(SPEC_BYTES, I82077._drive_specification, until_done=True)),
    ]
    return {byte: command for code, any_of, command in rows for byte in range(256) if byte & ~any_of == code}


COMMANDS: Final = _table()
"""The commands there are, by their first byte."""
_INVALID: Final = Command(0, I82077._invalid)
