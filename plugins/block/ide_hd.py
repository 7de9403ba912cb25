"""ATA disk (ATA/ATAPI-6): PIO, multiple and DMA transfers, 28- and 48-bit addresses, CHS, power modes, on a block back
end.

Every command is complete when the register write that caused it returns, so BSY is seen only under software reset.
Modelled: the mandatory commands of a non-packet device with the power management, write cache, 48-bit address and set
max (read only) feature sets; errors from the host become UNC (reads) or DF (writes). Not modelled: SMART, security,
removable media, host protected area changes, queued and streaming commands, UDMA CRC.
"""

from __future__ import annotations

import struct

from plugins.block.ide_bus import (
    ABRT,
    DF,
    DRDY,
    DRQ,
    DSC,
    ERR,
    IDNF,
    LBA,
    READY,
    UNC,
    DmaTransfer,
    IdeDevice,
)
from qom import BlockBackend, RealizeError, link, prop, state, type_init
from qom.vm import SECTOR, BlockError

LBA28_MAX, LBA48_MAX = 1 << 28, 1 << 48  # sectors
MULTIPLE_MAX = 16  # sectors a DRQ block
DMA_STEP = 256  # sectors moved at a time
CHS_CYLINDERS_MAX, CHS_HEADS, CHS_SECTORS = 16383, 16, 63

# Commands (ATA/ATAPI-6, section 8; those in parentheses in older standards)
NOP, DEVICE_RESET = 0x00, 0x08
READ_SECTORS, READ_SECTORS_NORETRY, READ_SECTORS_EXT = 0x20, 0x21, 0x24
READ_DMA_EXT, READ_NATIVE_MAX_EXT, READ_MULTIPLE_EXT = 0x25, 0x27, 0x29
WRITE_SECTORS, WRITE_SECTORS_NORETRY, WRITE_SECTORS_EXT = 0x30, 0x31, 0x34
WRITE_DMA_EXT, WRITE_MULTIPLE_EXT, WRITE_VERIFY = 0x35, 0x39, 0x3C
WRITE_DMA_FUA_EXT, WRITE_MULTIPLE_FUA_EXT = 0x3D, 0xCE
READ_VERIFY, READ_VERIFY_NORETRY, READ_VERIFY_EXT = 0x40, 0x41, 0x42
INITIALIZE_DEVICE_PARAMETERS = 0x91
STANDBY_IMMEDIATE, IDLE_IMMEDIATE, STANDBY, IDLE, CHECK_POWER_MODE, SLEEP = 0xE0, 0xE1, 0xE2, 0xE3, 0xE5, 0xE6
STANDBY_IMMEDIATE_OLD, IDLE_IMMEDIATE_OLD, STANDBY_OLD, IDLE_OLD, CHECK_POWER_MODE_OLD, SLEEP_OLD = range(0x94, 0x9A)
READ_MULTIPLE, WRITE_MULTIPLE, SET_MULTIPLE_MODE = 0xC4, 0xC5, 0xC6
READ_DMA, READ_DMA_NORETRY, WRITE_DMA, WRITE_DMA_NORETRY = 0xC8, 0xC9, 0xCA, 0xCB
READ_BUFFER, WRITE_BUFFER, FLUSH_CACHE, FLUSH_CACHE_EXT = 0xE4, 0xE8, 0xE7, 0xEA
IDENTIFY_DEVICE, SET_FEATURES, READ_NATIVE_MAX = 0xEC, 0xEF, 0xF8

# SET FEATURES subcommands
WRITE_CACHE_ON, WRITE_CACHE_OFF, TRANSFER_MODE = 0x02, 0x82, 0x03
LOOK_AHEAD_ON, LOOK_AHEAD_OFF, KEEP_SETTINGS, DEFAULT_SETTINGS = 0xAA, 0x55, 0x66, 0xCC
APM_ON, APM_OFF, AAM_ON, AAM_OFF = 0x05, 0x85, 0x42, 0xC2
PIO_DEFAULT, PIO_FLOW_CONTROL, SINGLE_WORD_DMA, MULTIWORD_DMA, ULTRA_DMA = 0, 1, 2, 4, 8  # transfer mode, bits 7:3
MULTIWORD_MODES, ULTRA_MODES = 3, 6  # modes 0..2 and 0..5

ACTIVE, STANDBY_MODE, SLEEPING = 0xFF, 0x00, -1  # power; the first two are what CHECK POWER MODE reports


@type_init("ide-hd")
class IdeHd(IdeDevice):
    """A hard disk."""

    drive: BlockBackend | None = link("block-backend", "Image the disk's sectors are kept in", required=True)
    serial: str = prop("", "Serial number, at most 20 characters; empty: made from the place on the cable")
    model: str = prop("QOM HARDDISK", "Model, at most 40 characters")
    ver: str = prop("0.1", "Firmware revision, at most 8 characters")
    cyls: int = prop(0, "Cylinders of the default geometry; 0: from the size", type="uint32", max=65535)
    heads: int = prop(0, "Heads of the default geometry; 0: from the size", type="uint32", max=16)
    secs: int = prop(0, "Sectors a track of the default geometry; 0: from the size", type="uint32", max=255)

    operation: int = state()  # command that the data phase belongs to
    lba: int = state()  # next sector
    left: int = state()  # sectors not transferred yet
    block: int = state(reset=1)  # sectors in a DRQ block
    multiple: int = state()  # SET MULTIPLE MODE, 0: off
    cur_heads: int = state()  # CHS translation in effect
    cur_secs: int = state()
    write_cache: bool = state(reset=True)
    look_ahead: bool = state(reset=True)
    keep_settings: bool = state(reset=False)
    power: int = state(reset=ACTIVE)
    transfer_mode: int = state(reset=ULTRA_DMA << 3 | 5)
    sector_buffer: bytes = state(reset=bytes(SECTOR))  # READ BUFFER and WRITE BUFFER

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc = "ATA hard disk"

    # --- life

    def realize(self) -> None:
        """Take the place on the cable and the image."""
        drive = self.drive
        assert drive is not None
        super().realize()
        for name, limit in (("serial", 20), ("model", 40), ("ver", 8)):
            text: str = getattr(self, name)
            if len(text) > limit or not text.isascii() or not (text + " ").isprintable():
                raise RealizeError(
                    f"{self.path}: property '{name}' must be at most {limit} ASCII characters, got {text!r}"
                )
        drive.attach(self.path)
        self.on_unrealize(drive.detach)
        drive.open()
        if not drive.writable:
            raise RealizeError(
                f"{self.path}: a disk cannot be read-only, but {drive.path} is: expected snapshot=on instead"
            )
        self._geometry(drive.sectors)
        drive.on_resized = self._resized

    def _resized(self, sectors: int) -> None:
        """The image has another size: IDENTIFY tells the host when it asks next; the geometry stays until power is off."""
        self._sectors = min(sectors, LBA48_MAX)

    def _geometry(self, sectors: int) -> None:
        given = (self.cyls, self.heads, self.secs)
        if any(given) and not all(given):
            raise RealizeError(f"{self.path}: set all of 'cyls', 'heads' and 'secs' or none, got {given}")
        self._sectors = min(sectors, LBA48_MAX)
        self._heads, self._secs = self.heads or CHS_HEADS, self.secs or CHS_SECTORS
        cylinders = sectors // (self._heads * self._secs)
        self._cyls = self.cyls or min(max(cylinders, 2), CHS_CYLINDERS_MAX)

    def reset(self) -> None:
        """Power-on or hardware reset."""
        super().reset()
        self.cur_heads, self.cur_secs = self._heads, self._secs

    def software_reset(self, asserted: bool) -> None:
        """As the bus says; settings go back to their defaults unless the host asked to keep them."""
        super().software_reset(asserted)
        self.dma_waiting = False
        self.power = ACTIVE
        if not asserted and not self.keep_settings:
            self.multiple = 0

    # --- addresses

    def _address(self, ext: bool) -> int:
        """First sector, from the task file; -1 when a CHS address does not exist."""
        if ext:
            low = self.lba_low | self.lba_mid << 8 | self.lba_high << 16
            return low | self.hob_low << 24 | self.hob_mid << 32 | self.hob_high << 40
        if self.device & LBA:
            return self.lba_low | self.lba_mid << 8 | self.lba_high << 16 | (self.device & 0x0F) << 24
        head, cylinder, sector = self.device & 0x0F, self.lba_mid | self.lba_high << 8, self.lba_low
        if sector == 0 or sector > self.cur_secs or head >= self.cur_heads:
            return -1
        return (cylinder * self.cur_heads + head) * self.cur_secs + sector - 1

    def _set_address(self, lba: int, ext: bool) -> None:
        if not ext and not self.device & LBA:
            cylinder, rest = divmod(lba, self.cur_heads * self.cur_secs)
            head, sector = divmod(rest, self.cur_secs)
            self.lba_low, self.lba_mid, self.lba_high = sector + 1, cylinder & 0xFF, cylinder >> 8 & 0xFF
            self.device = self.device & 0xF0 | head
            return
        self.lba_low, self.lba_mid, self.lba_high = lba & 0xFF, lba >> 8 & 0xFF, lba >> 16 & 0xFF
        if ext:
            self.hob_low, self.hob_mid, self.hob_high = lba >> 24 & 0xFF, lba >> 32 & 0xFF, lba >> 40 & 0xFF
        else:
            self.device = self.device & 0xF0 | lba >> 24 & 0x0F

    def _set_count(self, ext: bool) -> None:
        self.count = self.left & 0xFF
        if ext:
            self.hob_count = self.left >> 8 & 0xFF

    def _range(self, ext: bool) -> bool:
        """Set `lba` and `left` from the task file; on a bad range fail the command and return False."""
        self.left = (self.count | self.hob_count << 8 or 65536) if ext else (self.count or 256)
        self.lba = self._address(ext)
        if self.lba < 0 or self.lba + self.left > self._sectors:
            self._fail(IDNF)
            return False
        return True

    # --- ends of commands

    def _done(self) -> None:
        self.status = READY
        self.raise_irq()

    def _fail(self, error: int, status: int = 0) -> None:
        self.stop_transfer()
        self.dma_waiting = False
        self.status, self.error = DRDY | DSC | ERR | status, error
        self.raise_irq()

    # --- commands

    def command(self, code: int) -> None:
        """Execute `code`."""
        if self.power == SLEEPING:
            return  # only a reset wakes it
        self.stop_transfer()
        if self.dma_waiting and self.channel.master is not None:
            self.channel.master.dma_cancel()
        self.dma_waiting = False
        self.error = 0
        self.operation = code
        handler = _COMMANDS.get(code)
        if handler is None:
            self._fail(ABRT)
        else:
            handler(self)

    def _read_pio(self) -> None:
        code = self.operation
        ext = code in _EXT
        if code in _MULTIPLE and not self.multiple:
            self._fail(ABRT)
        elif self._range(ext):
            self.block = self.multiple if code in _MULTIPLE else 1
            self._next_in()

    def _next_in(self) -> None:
        drive = self.drive
        assert drive is not None
        n = min(self.block, self.left)
        ext = self.operation in _EXT
        try:
            data = drive.read(self.lba, n)
        except BlockError as error:
            self.system.log("block", str(error))
            self._set_address(self.lba, ext)
            self._fail(UNC)
            return
        self.lba += n
        self.left -= n
        self._set_address(self.lba, ext)
        self._set_count(ext)
        self.offer(data)
        self.raise_irq()

    def block_in_done(self) -> None:
        """The host has read a DRQ block."""
        if self.operation in _READS and self.left:
            self._next_in()
        else:
            self.status = READY

    def _write_pio(self) -> None:
        code = self.operation
        if code in _MULTIPLE and not self.multiple:
            self._fail(ABRT)
        elif self._range(code in _EXT):
            self.block = self.multiple if code in _MULTIPLE else 1
            self.expect(min(self.block, self.left) * SECTOR)

    def block_out_done(self) -> None:
        """The host has written a DRQ block."""
        if self.operation == WRITE_BUFFER:
            self.sector_buffer = bytes(self.buffer)
            self._done()
            return
        ext = self.operation in _EXT
        n = len(self.buffer) // SECTOR
        if not self._store(self.lba, self.buffer):
            return
        self.lba += n
        self.left -= n
        self._set_address(self.lba, ext)
        self._set_count(ext)
        if self.left:
            self.expect(min(self.block, self.left) * SECTOR)
            self.raise_irq()
        else:
            self._done()

    def _store(self, lba: int, data: bytes | bytearray) -> bool:
        drive = self.drive
        assert drive is not None
        try:
            drive.write(lba, data)
            if not self.write_cache or self.operation in _FUA:
                drive.flush()
        except BlockError as error:
            self.system.log("block", str(error))
            self._set_address(lba, self.operation in _EXT)
            self._fail(ABRT, DF)
            return False
        return True

    def _verify(self) -> None:
        ext = self.operation in _EXT
        if not self._range(ext):
            return
        drive = self.drive
        assert drive is not None
        while self.left:
            n = min(self.left, DMA_STEP)
            try:
                drive.read(self.lba, n)
            except BlockError as error:
                self.system.log("block", str(error))
                self._set_address(self.lba, ext)
                self._fail(UNC)
                return
            self.lba += n
            self.left -= n
        self._done()

    def _dma(self) -> None:
        if self.channel.master is None:
            self._fail(ABRT)
        elif self._range(self.operation in _EXT):
            self.dma_waiting = True
            self.status = READY | DRQ
            self.channel.master.dma_ready()

    def dma_run(self, transfer: DmaTransfer) -> bool:
        """Move all the sectors of the command, then interrupt; False (and no interrupt) when memory ran out first."""
        self.dma_waiting = False
        drive = self.drive
        assert drive is not None
        ext, toward_memory = self.operation in _EXT, self.operation in _DMA_READS
        while self.left:
            n = min(self.left, DMA_STEP)
            if toward_memory:
                try:
                    data = drive.read(self.lba, n)
                except BlockError as error:
                    self.system.log("block", str(error))
                    self._set_address(self.lba, ext)
                    self._fail(UNC)
                    return True
                moved = transfer.put(data) // SECTOR
            else:
                data = transfer.take(n * SECTOR)
                moved = len(data) // SECTOR
                if moved and not self._store(self.lba, data[: moved * SECTOR]):
                    return True
            self.lba += moved
            self.left -= moved
            if moved < n:
                self._set_address(self.lba, ext)
                self._set_count(ext)
                self.status = READY
                return False
        self._set_address(self.lba, ext)
        self._set_count(ext)
        self._done()
        return True

    def _flush(self) -> None:
        assert self.drive is not None
        try:
            self.drive.flush()
        except BlockError as error:
            self.system.log("block", str(error))
            self._fail(ABRT, DF)
            return
        self._done()

    def _identify(self) -> None:
        self.offer(self.identity())
        self.raise_irq()

    def _read_buffer(self) -> None:
        self.offer(self.sector_buffer)
        self.raise_irq()

    def _write_buffer(self) -> None:
        self.expect(SECTOR)

    def _set_multiple(self) -> None:
        n = self.count
        if n > MULTIPLE_MAX or n & (n - 1):
            self._fail(ABRT)
        else:
            self.multiple = n
            self._done()

    def _initialize_parameters(self) -> None:
        heads, sectors = (self.device & 0x0F) + 1, self.count
        if sectors == 0:
            self._fail(ABRT)
        else:
            self.cur_heads, self.cur_secs = heads, sectors
            self._done()

    def _seek(self) -> None:
        lba = self._address(False)
        if 0 <= lba < self._sectors:
            self._done()
        else:
            self._fail(IDNF)

    def _native_max(self) -> None:
        ext = self.operation == READ_NATIVE_MAX_EXT
        self._set_address(self._sectors - 1 if ext else min(self._sectors, LBA28_MAX) - 1, ext)
        self._done()

    def _active(self) -> None:
        self.power = ACTIVE
        self._done()

    def _standby(self) -> None:
        self.power = STANDBY_MODE
        self._flush()

    def _sleep(self) -> None:
        self._flush()
        self.power = SLEEPING

    def _check_power(self) -> None:
        self.count = self.power
        self._done()

    def _set_features(self) -> None:
        assert self.drive is not None
        feature = self.features
        if feature == TRANSFER_MODE:
            self._set_transfer_mode(self.count)
            return
        if feature == WRITE_CACHE_ON:
            self.write_cache = True
        elif feature == WRITE_CACHE_OFF:
            self.write_cache = False
            self._flush()
            return
        elif feature in (LOOK_AHEAD_ON, LOOK_AHEAD_OFF):
            self.look_ahead = feature == LOOK_AHEAD_ON
        elif feature in (KEEP_SETTINGS, DEFAULT_SETTINGS):
            self.keep_settings = feature == KEEP_SETTINGS
        else:
            self._fail(ABRT)
            return
        self._done()

    def _set_transfer_mode(self, value: int) -> None:
        kind, mode = value >> 3, value & 7
        limits = {PIO_DEFAULT: 2, PIO_FLOW_CONTROL: 5, MULTIWORD_DMA: MULTIWORD_MODES, ULTRA_DMA: ULTRA_MODES}
        if mode >= limits.get(kind, 0):
            self._fail(ABRT)
            return
        if kind in (MULTIWORD_DMA, ULTRA_DMA):
            self.transfer_mode = value
        self._done()

    def _recalibrate(self) -> None:
        self._done()

    # --- identity

    def identity(self) -> bytes:
        """The 512 bytes of IDENTIFY DEVICE (ATA/ATAPI-6, table 27)."""
        w = [0] * 256
        lba28, total = min(self._sectors, LBA28_MAX - 1), self._sectors
        serial = self.serial or f"QOM{(self.unit or 0) + 1:05d}"
        current_cyls = min(total // (self.cur_heads * self.cur_secs), 65535)
        current = min(current_cyls * self.cur_heads * self.cur_secs, total)
        w[0] = 0x0040  # fixed device
        w[1], w[3], w[6] = self._cyls, self._heads, self._secs
        w[4], w[5] = SECTOR * self._secs & 0xFFFF, SECTOR  # obsolete: unformatted bytes a track and a sector
        _text(w, 10, 10, serial)
        w[20], w[21], w[22] = 3, 512, 4  # obsolete: dual ported cache, its size in sectors, ECC bytes
        _text(w, 23, 4, self.ver)
        _text(w, 27, 20, self.model)
        w[47] = 0x8000 | MULTIPLE_MAX
        w[48] = 1  # 32-bit data port accesses work
        w[49] = 1 << 11 | 1 << 9 | 1 << 8  # IORDY, LBA, DMA
        w[50] = 1 << 14
        w[51] = w[52] = 0x0200  # PIO and DMA timing, obsolete
        w[53] = 7  # words 54-58, 64-70 and 88 are valid
        w[54], w[55], w[56] = current_cyls, self.cur_heads, self.cur_secs
        w[57], w[58] = current & 0xFFFF, current >> 16 & 0xFFFF
        w[59] = 0x0100 | self.multiple if self.multiple else 0
        w[60], w[61] = lba28 & 0xFFFF, lba28 >> 16
        kind, mode = self.transfer_mode >> 3, self.transfer_mode & 7
        w[63] = (1 << MULTIWORD_MODES) - 1 | (1 << 8 + mode if kind == MULTIWORD_DMA else 0)
        w[64] = 3  # PIO modes 3 and 4
        w[65] = w[66] = w[67] = w[68] = 120  # cycle times, ns
        w[80] = 0x0070  # ATA-4 to ATA/ATAPI-6
        w[82] = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 6 | 1 << 5 | 1 << 3  # NOP, buffers, look-ahead, write cache, power
        w[83] = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10  # FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses
        w[84] = 1 << 14 | 1 << 6  # WRITE DMA FUA EXT
        w[85] = w[82] & ~(1 << 6 | 1 << 5) | self.look_ahead << 6 | self.write_cache << 5
        w[86], w[87] = w[83] & ~(1 << 14), w[84]
        w[88] = (1 << ULTRA_MODES) - 1 | (1 << 8 + mode if kind == ULTRA_DMA else 0)
        w[93] = 1 << 14 | 1 << 13 | (0x0B if self.unit == 0 else 0x0B00)  # 80-conductor cable; diagnostics passed
        for n in range(4):
            w[100 + n] = total >> 16 * n & 0xFFFF
        w[255] = 0xA5
        raw = struct.pack("<256H", *w)
        return raw[:-1] + bytes((-sum(raw[:-1]) & 0xFF,))


def _text(words: list[int], first: int, count: int, text: str) -> None:
    """Put `text` into `count` words, two characters each, the first in the high byte, padded with spaces."""
    raw = text.encode("ascii").ljust(count * 2)
    for n in range(count):
        words[first + n] = raw[2 * n] << 8 | raw[2 * n + 1]


_EXT = frozenset(
    {READ_SECTORS_EXT, READ_DMA_EXT, READ_NATIVE_MAX_EXT, READ_MULTIPLE_EXT, WRITE_SECTORS_EXT, WRITE_DMA_EXT}
    | {WRITE_MULTIPLE_EXT, WRITE_DMA_FUA_EXT, WRITE_MULTIPLE_FUA_EXT, READ_VERIFY_EXT}
)
_MULTIPLE = frozenset({READ_MULTIPLE, READ_MULTIPLE_EXT, WRITE_MULTIPLE, WRITE_MULTIPLE_EXT, WRITE_MULTIPLE_FUA_EXT})
_FUA = frozenset({WRITE_DMA_FUA_EXT, WRITE_MULTIPLE_FUA_EXT})
_READS = frozenset({READ_SECTORS, READ_SECTORS_NORETRY, READ_SECTORS_EXT, READ_MULTIPLE, READ_MULTIPLE_EXT})
_DMA_READS = frozenset({READ_DMA, READ_DMA_NORETRY, READ_DMA_EXT})
_COMMANDS = {
    **dict.fromkeys(_READS, IdeHd._read_pio),
    **dict.fromkeys((WRITE_SECTORS, WRITE_SECTORS_NORETRY, WRITE_SECTORS_EXT, WRITE_VERIFY), IdeHd._write_pio),
    **dict.fromkeys((WRITE_MULTIPLE, WRITE_MULTIPLE_EXT, WRITE_MULTIPLE_FUA_EXT), IdeHd._write_pio),
    **dict.fromkeys((READ_VERIFY, READ_VERIFY_NORETRY, READ_VERIFY_EXT), IdeHd._verify),
    **dict.fromkeys(_DMA_READS, IdeHd._dma),
    **dict.fromkeys((WRITE_DMA, WRITE_DMA_NORETRY, WRITE_DMA_EXT, WRITE_DMA_FUA_EXT), IdeHd._dma),
    **dict.fromkeys((FLUSH_CACHE, FLUSH_CACHE_EXT), IdeHd._flush),
    **dict.fromkeys(range(0x10, 0x20), IdeHd._recalibrate),
    **dict.fromkeys(range(0x70, 0x80), IdeHd._seek),
    **dict.fromkeys((STANDBY_IMMEDIATE, STANDBY, STANDBY_IMMEDIATE_OLD, STANDBY_OLD), IdeHd._standby),
    **dict.fromkeys((IDLE_IMMEDIATE, IDLE, IDLE_IMMEDIATE_OLD, IDLE_OLD), IdeHd._active),
    **dict.fromkeys((CHECK_POWER_MODE, CHECK_POWER_MODE_OLD), IdeHd._check_power),
    **dict.fromkeys((SLEEP, SLEEP_OLD), IdeHd._sleep),
    **dict.fromkeys((READ_NATIVE_MAX, READ_NATIVE_MAX_EXT), IdeHd._native_max),
    IDENTIFY_DEVICE: IdeHd._identify,
    INITIALIZE_DEVICE_PARAMETERS: IdeHd._initialize_parameters,
    READ_BUFFER: IdeHd._read_buffer,
    WRITE_BUFFER: IdeHd._write_buffer,
    SET_FEATURES: IdeHd._set_features,
    SET_MULTIPLE_MODE: IdeHd._set_multiple,
}
