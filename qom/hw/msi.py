"""MSI: the capability by which a PCI function sends its interrupts as memory writes (PCI 3.0, 6.8.1).

Modelled: 1 to 32 vectors, 32- and 64-bit message addresses, per-vector masking with pending bits.
Not modelled: a change of the data while a vector is pending is not seen before it is sent (as the specification allows).

Made by `PciDevice.add_msi`.  What the guest can change lies in the function's configuration space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qom.errors import RealizeError
from qom.hw.pci_config import CAP_ID_MSI, MSI_64BIT, MSI_ENABLE, MSI_MASKING

if TYPE_CHECKING:
    from qom.hw.pci import PciDevice

VECTORS = (1, 2, 4, 8, 16, 32)
MULTIPLE_ENABLED = 0x70  # message control: how many vectors software gave, as a power of two
CONTROL, ADDRESS, ADDRESS_HIGH = 2, 4, 8  # offsets in the capability


class Msi:
    """The MSI capability of one function."""

    def __init__(self, device: PciDevice, vectors: int, *, wide: bool, maskable: bool, offset: int | None) -> None:
        """Declare the capability's registers; called in the device's realize."""
        if vectors not in VECTORS:
            raise RealizeError(f"{device.path}: {vectors} MSI vectors: expected 1, 2, 4, 8, 16 or 32")
        self.device = device
        self.vectors = vectors
        data = 12 if wide else 8
        self.size = data + (12 if maskable else 2)
        self.offset = at = device.add_capability(CAP_ID_MSI, self.size, offset)
        self._data = at + data
        self._mask = at + data + 4 if maskable else 0
        self._pending = at + data + 8 if maskable else 0
        control = (vectors.bit_length() - 1) << 1 | (MSI_64BIT if wide else 0) | (MSI_MASKING if maskable else 0)
        device.config_field(at + CONTROL, 2, control, writable=MSI_ENABLE | MULTIPLE_ENABLED)
        device.config_field(at + ADDRESS, 4, 0, writable=0xFFFF_FFFC)
        if wide:
            device.config_field(at + ADDRESS_HIGH, 4, 0, writable=0xFFFF_FFFF)
        device.config_field(self._data, 2, 0, writable=0xFFFF)
        if maskable:
            device.config_field(self._mask, 4, 0, writable=(1 << vectors) - 1)

    @property
    def enabled(self) -> bool:
        """Whether the guest switched interrupts over to MSI."""
        return bool(self.device.config[self.offset + CONTROL] & MSI_ENABLE)

    def notify(self, vector: int) -> None:
        """Send message `vector`; a masked one stays pending.  Nothing while MSI is off."""
        if not 0 <= vector < self.vectors:
            raise ValueError(f"no MSI vector {vector}: expected 0..{self.vectors - 1}")
        if not self.enabled:
            return
        device = self.device
        if self._mask and device.config_word(self._mask, 4) >> vector & 1:
            self._set_pending(device.msi_pending | 1 << vector)
            return
        at = self.offset
        control = device.config_word(at + CONTROL)
        given = min(1 << (control >> 4 & 7), self.vectors)  # software may give fewer than there are
        address = device.config_word(at + ADDRESS, 8 if control & MSI_64BIT else 4)
        data = device.config_word(self._data)
        device.dma.write(address, (data & ~(given - 1)) | (vector & (given - 1)), 4)

    def changed(self) -> None:
        """Software wrote to the capability: send what is no longer masked."""
        device = self.device
        if self._mask and device.msi_pending and self.enabled:
            ready = device.msi_pending & ~device.config_word(self._mask, 4)
            self._set_pending(device.msi_pending & ~ready)
            for vector in range(self.vectors):
                if ready >> vector & 1:
                    self.notify(vector)

    def _set_pending(self, bits: int) -> None:
        self.device.msi_pending = bits
        self.device.set_config(self._pending, bits, 4)
