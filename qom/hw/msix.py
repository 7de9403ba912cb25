"""MSI-X: up to 2048 interrupt messages of a PCI function, in a table behind a BAR (PCI 3.0, 6.8.2).

Modelled: the capability, the table and the pending bit array in one BAR or two, of their own or shared with the device's
registers; a mask for each vector and one for the function; what is pending is sent when it is unmasked.
Not modelled: accesses narrower than 32 bits to table and array, which the specification leaves undefined (they read all
ones and write nothing); an entry that is changed while it is not masked, likewise undefined, counts at once.

Made by `PciDevice.add_msix`.  Table and array are state of the device (`msix_table`, `msix_pending`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qom.errors import RealizeError
from qom.hw.memory import Region
from qom.hw.pci_config import (
    BARS,
    CAP_ID_MSIX,
    MSIX_ENABLE,
    MSIX_ENTRY_SIZE,
    MSIX_FUNCTION_MASK,
    MSIX_VECTOR_MASKED,
    MSIX_VECTORS_MAX,
)

if TYPE_CHECKING:
    from qom.hw.pci import PciDevice

CAPABILITY_SIZE = 12
CONTROL, TABLE, ARRAY = 2, 4, 8  # offsets in the capability
ADDRESS, DATA, VECTOR_CONTROL = 0, 8, 12  # offsets in an entry of the table (6.8.2.6 to 6.8.2.9)
WRITABLE: Final = (0xFFFF_FFFC, 0xFFFF_FFFF, 0xFFFF_FFFF, MSIX_VECTOR_MASKED)  # of an entry's four dwords
OWN_BAR_MIN = 0x1000


class Msix:
    """The MSI-X capability of one function."""

    def __init__(
        self,
        device: PciDevice,
        vectors: int,
        bar: int,
        *,
        table_offset: int | None,
        pba_bar: int | None,
        pba_offset: int | None,
        offset: int | None,
    ) -> None:
        """Declare the capability, and put table and array where they are seen; called in the device's realize."""
        if not 1 <= vectors <= MSIX_VECTORS_MAX:
            raise RealizeError(f"{device.path}: {vectors} MSI-X vectors: expected 1..{MSIX_VECTORS_MAX}")
        self.device = device
        self.vectors = vectors
        self.table_size = vectors * MSIX_ENTRY_SIZE
        self.pba_size = -(-vectors // 64) * 8
        pba_bar = bar if pba_bar is None else pba_bar
        if bar not in device.bars and table_offset is None:
            half = max(OWN_BAR_MIN // 2, 1 << (self.table_size - 1).bit_length())
            device.register_bar(bar, Region.container("msix", 2 * half))
            table_offset = 0
            if pba_bar == bar and pba_offset is None:
                pba_offset = half
        table = Region("msix-table", self.table_size, self._read_table, self._write_table, (4, 8))
        array = Region("msix-pba", self.pba_size, self._read_array, None, (4, 8))
        self._place("table", table, bar, table_offset)
        self._place("pending bits", array, pba_bar, pba_offset)
        self.offset = at = device.add_capability(CAP_ID_MSIX, CAPABILITY_SIZE, offset)
        self.size = CAPABILITY_SIZE
        device.config_field(at + CONTROL, 2, vectors - 1, writable=MSIX_ENABLE | MSIX_FUNCTION_MASK)
        device.config_field(at + TABLE, 4, table.offset | bar)
        device.config_field(at + ARRAY, 4, array.offset | pba_bar)
        self.reset()

    def _place(self, what: str, region: Region, number: int, offset: int | None) -> None:
        device = self.device
        bar = device.bars.get(number) if number < BARS else None
        if bar is None or bar.is_io:
            there = ", ".join(str(b.number) for b in device.bars.values() if not b.is_io and b.number < BARS)
            raise RealizeError(
                f"{device.path}: MSI-X {what} in BAR {number}: expected a memory BAR ({there or 'none'})"
            )
        if offset is None:
            raise RealizeError(f"{device.path}: MSI-X {what} in BAR {number}, which has other registers: say where")
        if offset % 8 or offset < 0 or offset + region.size > bar.size:
            raise RealizeError(
                f"{device.path}: MSI-X {what} of {region.size:#x} bytes at {offset:#x} of BAR {number}: expected a"
                f" multiple of 8 up to {bar.size - region.size:#x}"
            )
        for other in bar.region.inside.within(offset, offset + region.size):
            raise RealizeError(f"{device.path}: MSI-X {what} at {offset:#x} of BAR {number} lie over '{other.name}'")
        device.map(bar.region, offset, region, 1)

    def reset(self) -> None:
        """Every vector masked, none pending; addresses and data, undefined after reset, are zero."""
        entry = bytes(VECTOR_CONTROL) + MSIX_VECTOR_MASKED.to_bytes(4, "little")
        self.device.msix_table = bytearray(entry * self.vectors)
        self.device.msix_pending = bytearray(self.pba_size)

    @property
    def enabled(self) -> bool:
        """Whether the guest switched interrupts over to MSI-X."""
        return bool(self._control & MSIX_ENABLE)

    @property
    def _control(self) -> int:
        return self.device.config_word(self.offset + CONTROL)

    def masked(self, vector: int) -> bool:
        """Whether the vector's own mask or the function's keeps it back."""
        if self._control & MSIX_FUNCTION_MASK:
            return True
        return bool(self.device.msix_table[vector * MSIX_ENTRY_SIZE + VECTOR_CONTROL] & MSIX_VECTOR_MASKED)

    def pending(self, vector: int) -> bool:
        """Whether the vector was raised while it was masked, and not sent since."""
        return bool(self.device.msix_pending[vector >> 3] >> (vector & 7) & 1)

    def notify(self, vector: int) -> None:
        """Send message `vector`; a masked one stays pending.  Nothing while MSI-X is off."""
        if not 0 <= vector < self.vectors:
            raise ValueError(f"no MSI-X vector {vector}: expected 0..{self.vectors - 1}")
        if not self.enabled:
            return
        if self.masked(vector):
            self.device.msix_pending[vector >> 3] |= 1 << (vector & 7)
            return
        table, at = self.device.msix_table, vector * MSIX_ENTRY_SIZE
        address = int.from_bytes(table[at + ADDRESS : at + DATA], "little")
        self.device.dma.write(address, int.from_bytes(table[at + DATA : at + VECTOR_CONTROL], "little"), 4)

    def changed(self) -> None:
        """Software wrote to the capability: send what is no longer masked."""
        for byte, bits in enumerate(self.device.msix_pending):
            for vector in range(byte * 8, byte * 8 + 8) if bits else ():
                self._release(vector)

    def _release(self, vector: int) -> None:
        if vector < self.vectors and self.pending(vector) and self.enabled and not self.masked(vector):
            self.device.msix_pending[vector >> 3] &= ~(1 << (vector & 7))
            self.notify(vector)

    def _read_table(self, offset: int, size: int) -> int:
        return int.from_bytes(self.device.msix_table[offset : offset + size], "little")

    def _write_table(self, offset: int, value: int, size: int) -> None:
        for at in range(offset, offset + size, 4):
            dword = value & WRITABLE[at % MSIX_ENTRY_SIZE // 4]
            self.device.msix_table[at : at + 4] = dword.to_bytes(4, "little")
            value >>= 32
            if at % MSIX_ENTRY_SIZE == VECTOR_CONTROL:
                self._release(at // MSIX_ENTRY_SIZE)

    def _read_array(self, offset: int, size: int) -> int:
        return int.from_bytes(self.device.msix_pending[offset : offset + size], "little")
