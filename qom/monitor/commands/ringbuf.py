"""Ring buffers: what a character device of that kind keeps, read and written by a program."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Literal

from qom.errors import did_you_mean
from qom.monitor import CommandError, command

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

DataFormat = Literal["utf8", "base64"]


def _ringbuf(vm: VirtualMachine, device: str) -> Any:
    there = vm.root.container("/chardevs").children()
    found: Any = there.get(device)
    if found is None:
        raise CommandError(f"Device '{device}' not found{did_you_mean(device, there)}")
    if not found.is_a("chardev-ringbuf"):
        raise CommandError(f"{device} is not a ringbuf device")
    return found


@command("ringbuf-read")
def ringbuf_read(vm: VirtualMachine, device: str, size: int, format: DataFormat = "utf8") -> str:
    """Take up to `size` bytes, the oldest first, out of a ring buffer.

    format: "utf8" is text, in which what is none is U+FFFD; "base64" is every byte.
    """
    found = _ringbuf(vm, device)
    if size <= 0:
        raise CommandError(f"size must be greater than zero, got {size}")
    data: bytes = found.take(size)
    return base64.b64encode(data).decode() if format == "base64" else data.decode("utf-8", "replace")


@command("ringbuf-write")
def ringbuf_write(vm: VirtualMachine, device: str, data: str, format: DataFormat = "utf8") -> None:
    """Put bytes into a ring buffer, as if the guest had; the oldest go when there are too many."""
    found = _ringbuf(vm, device)
    try:
        put = base64.b64decode(data, validate=True) if format == "base64" else data.encode("utf-8", "surrogatepass")
    except binascii.Error as error:
        raise CommandError(f"Base64 data contains invalid characters: {error}") from None
    found.write(put)
