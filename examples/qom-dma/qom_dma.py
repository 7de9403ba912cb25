"""Copier: an invented PCI function that copies guest memory by itself.

Guest view.  BAR 0, memory, 32-bit registers:

    00h SOURCE    guest address to copy from; 04h its upper half
    08h TARGET    guest address to copy to; 0Ch its upper half
    10h LENGTH    bytes, 1 to 1 MiB
    14h CONTROL   START (reads as zero), IRQ_ENABLE
    18h STATUS    BUSY; DONE and ERROR, each cleared by writing one to it
    1Ch DIGEST    CRC-32 of what was copied last

BAR 1, I/O: port 0 is STATUS, any write to port 4 is START.  BAR 2, memory: the MSI-X table.

Vector 0 says DONE, vector 1 ERROR, by MSI-X or MSI, whichever the guest switched on; with neither, the pin INTA# is held
until both bits are cleared.  A copy takes `latency-ns` and its length at `bytes-per-us`, and happens at its end, whole,
as the registers then say.
ERROR: a LENGTH out of range, or COMMAND.BUS_MASTER off when the copy would happen.

Not modelled: a copy that stops half way; memory that is not there reads as ones and takes no writes, without an ERROR.
"""

from __future__ import annotations

import zlib

from qom import PciDevice, Region, prop, state, type_init

QOM_API = "1.0"

SOURCE, SOURCE_HIGH, TARGET, TARGET_HIGH = 0x00, 0x04, 0x08, 0x0C  # register offsets in BAR 0
LENGTH, CONTROL, STATUS, DIGEST = 0x10, 0x14, 0x18, 0x1C
START, IRQ_ENABLE = 0x1, 0x2  # CONTROL bits
BUSY, DONE, ERROR = 0x1, 0x2, 0x4  # STATUS bits
PORT_STATUS, PORT_START = 0x0, 0x4  # offsets in BAR 1
DONE_VECTOR, ERROR_VECTOR, VECTORS = 0, 1, 2
LENGTH_MAX = 1 << 20
LOW, HIGH = 0xFFFF_FFFF, 0xFFFF_FFFF << 32  # halves of an address


@type_init("pci-copier")
class Copier(PciDevice):
    vendor_id, device_id, revision = 0x1234, 0xC0B1, 1
    class_code, interrupt_pin = 0x0801, 1  # a DMA controller; INTA#

    latency_ns: int = prop(2000, "Time before a copy begins", unit="ns", min=0, max=10**9)
    bytes_per_us: int = prop(1000, "Bytes copied in a microsecond", type="uint32", min=1)
    with_msix: bool = prop(True, "Whether it has MSI-X beside MSI", name="msix")

    source: int = state()
    target: int = state()
    length: int = state()
    control: int = state()
    status: int = state()
    digest: int = state()
    ends: int = state(desc="Guest time at which the copy under way happens, ns")

    @classmethod
    def class_init(cls) -> None:
        cls.desc, cls.category = "Memory copier with DMA and MSI (example)", "misc"

    def realize(self) -> None:
        self._timer = self.clock.timer(self._happen)
        self.register_bar(0, Region("copier-registers", 0x1000, self._read, self._write, (4, 4)))
        self.register_bar(1, Region("copier-ports", 8, self._read_port, self._write_port, (4, 4)), io=True)
        self.add_msi(VECTORS)
        if self.with_msix:
            self.add_msix(VECTORS, bar=2)

    def reset(self) -> None:
        super().reset()
        self._timer.cancel()

    def state_loaded(self) -> None:
        super().state_loaded()
        self._timer.cancel()
        if self.status & BUSY:
            self._timer.arm_at(self.ends)

    def _read(self, offset: int, size: int) -> int:
        registers = {
            SOURCE: self.source,
            SOURCE_HIGH: self.source >> 32,
            TARGET: self.target,
            TARGET_HIGH: self.target >> 32,
            LENGTH: self.length,
            CONTROL: self.control,
            STATUS: self.status,
            DIGEST: self.digest,
        }
        return registers.get(offset, 0)

    def _write(self, offset: int, value: int, size: int) -> None:
        if offset == SOURCE:
            self.source = self.source & HIGH | value
        elif offset == SOURCE_HIGH:
            self.source = self.source & LOW | value << 32
        elif offset == TARGET:
            self.target = self.target & HIGH | value
        elif offset == TARGET_HIGH:
            self.target = self.target & LOW | value << 32
        elif offset == LENGTH:
            self.length = value
        elif offset == CONTROL:
            self.control = value & IRQ_ENABLE
            if value & START:
                self._start()
            self._drive_pin()
        elif offset == STATUS:
            self.status &= ~(value & (DONE | ERROR))
            self._drive_pin()
        else:
            self.guest_error("register", f"write of {value:#x} to register {offset:#x}, which does not take it")

    def _read_port(self, offset: int, size: int) -> int:
        return self.status if offset == PORT_STATUS else 0

    def _write_port(self, offset: int, value: int, size: int) -> None:
        if offset == PORT_STATUS:
            self._write(STATUS, value, size)
        else:
            self._start()

    def _start(self) -> None:
        if self.status & BUSY:
            self.guest_error("busy", "START while a copy is under way")
            return
        self.status = BUSY
        self.ends = self.clock.now() + self.latency_ns + self.length * 1000 // self.bytes_per_us
        self._timer.arm_at(self.ends)
        self._drive_pin()

    def _happen(self) -> None:
        if not 1 <= self.length <= LENGTH_MAX or not self.bus_master.enabled:
            self._finish(ERROR, ERROR_VECTOR)
            return
        data = self.dma.read_bytes(self.source, self.length)
        self.dma.write_bytes(self.target, data)
        self.digest = zlib.crc32(data)
        self._finish(DONE, DONE_VECTOR)

    def _finish(self, bit: int, vector: int) -> None:
        self.status = bit
        if self.control & IRQ_ENABLE:
            self.notify(vector)
        self._drive_pin()

    def _drive_pin(self) -> None:
        """The pin follows STATUS; while MSI or MSI-X is on, PciDevice keeps it off the bus."""
        wanted = 1 if self.control & IRQ_ENABLE and self.status & (DONE | ERROR) else 0
        if wanted != self.intx_level:
            self.intx.set(wanted)
