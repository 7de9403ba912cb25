"""vmgenid: an identity of this run of a machine, which a guest can tell from that of a copy of it.

Modelled: Microsoft's "Virtual Machine Generation ID" (2012) as QEMU's docs/specs/vmgenid.txt carries it out.  Firmware gets a
page with the identity in it (`etc/vmgenid_guid`), writes where it put it (`etc/vmgenid_addr`), and completes the ACPI device
VGEN (plugins/firmware/acpi.py).  A machine without firmware has the page put into place by the board at every reset.
When saved state of another machine is loaded, the page gets this device's identity, and the guest an ACPI notification.
Not modelled: OVMF's probing of the page.
Guest view: the page, the ACPI device, general-purpose event 5.  Output `changed`.
"""

from __future__ import annotations

import uuid
from typing import ClassVar, Final

from qom import Device, Object, PropertyError, RealizeError, prop, state, type_init

__all__ = ["AUTO", "PAGE", "VmGenId"]

AUTO: Final = "auto"
PAGE: Final = 0x1000
ADDRESS_SIZE: Final = 8


def _check_guid(device: Object, text: str) -> None:
    if text != AUTO:
        try:
            uuid.UUID(text)
        except ValueError:
            raise PropertyError(device.path, "guid", text, "auto or 8-4-4-4-12 hexadecimal digits") from None


@type_init("vmgenid")
class VmGenId(Device):
    """The identity; its `guid` says which one it is, also where it was left to chance."""

    bus_type = "system-bus"
    listed_as = "vmgenid"
    needs_of_board = "fw_cfg"
    offset: ClassVar[int] = 40
    """Where in the page the identity is."""

    guid: str = prop(AUTO, "The identity, a UUID; auto for a new one by chance", set=_check_guid)

    address: int = state(desc="Where the identity is in the guest's memory, as firmware told; 0: nowhere")
    shown: bytes = state(reset=b"", keep=True, desc="The identity that the guest sees, in the order of its bytes")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Identity of this run of the machine (VM generation ID)", "misc"

    def instance_init(self) -> None:
        """Declare the line."""
        self._changed = self.gpio_out("changed")[0]

    def realize(self) -> None:
        """Choose the identity."""
        beside = [] if self.bus is None else self.bus.devices
        if any(other is not self and other.is_a("vmgenid") for other in beside):
            raise RealizeError(f"{self.path}: at most one vmgenid device is permitted")
        self.__dict__["guid"] = str(uuid.uuid4() if self.guid == AUTO else uuid.UUID(self.guid))
        self.shown = self.identity

    @property
    def identity(self) -> bytes:
        """The UUID in the order in which the guest reads it."""
        return uuid.UUID(self.guid).bytes_le

    @property
    def page(self) -> bytes:
        """What firmware is to put into memory, at a multiple of the page size."""
        return (bytes(self.offset) + self.identity).ljust(PAGE, b"\0")

    @property
    def told(self) -> bytes:
        """The content of `etc/vmgenid_addr`."""
        return self.address.to_bytes(ADDRESS_SIZE, "little")

    def tell(self, offset: int, data: bytes) -> None:
        """Firmware writes `data` at `offset` of `etc/vmgenid_addr`."""
        told = bytearray(self.told)
        told[offset : offset + len(data)] = data
        self.address = int.from_bytes(told, "little")

    def state_loaded(self) -> None:
        """A guest that comes from elsewhere is shown this machine's identity."""
        super().state_loaded()
        if self.shown != self.identity:
            self.shown = self.identity
            if self.address:
                self.dma.write_bytes(self.address, self.identity)
                self._changed.pulse()
