"""The firmware image a machine starts from.

`load_firmware` finds and checks a BIOS image.  The word "none" asks for no firmware: `empty_rom` then gives what lies at
the reset vector.  Kernels are the subject of kernel.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from plugins.firmware import FDSETS, default_firmware, find_firmware
from qom import QomError, format_size, records

FIRMWARE_GRANULE = 64 << 10  # bytes: images are a multiple of this
FIRMWARE_MAX = 16 << 20  # bytes below 4 GiB kept free for firmware
RESET_VECTOR = -16  # of the image, where the processor starts
NO_FIRMWARE = "none"  # as the name of an image: there is none, and a loader starts the kernel


class ImageError(QomError):
    """An image that is missing or not what it should be.

    about: the value of the configuration that is to be blamed: "kernel", "initrd", "append", "firmware".
    """

    def __init__(self, text: str, about: str = "kernel") -> None:
        super().__init__(text)
        self.about = about


@records.frozen
class Firmware:
    """A BIOS image, to be mapped so that it ends at 4 GiB."""

    path: Path
    data: bytes


def load_firmware(
    name: str | None = None, folders: Sequence[str] = (), read: Callable[[str], bytes] | None = None
) -> Firmware:
    """Load what `-bios name` means, or the default: SeaBIOS where installed, else the embedded firmware.

    folders: where it is looked for first (`-L`).  read: reads a file by its name, also `/dev/fdset/N`.
    Raises ImageError when it is missing, unreadable, or of an impossible size.
    """
    try:
        if name and read is not None and name.startswith(FDSETS):
            path, data = Path(name), read(name)
        else:
            path = find_firmware(name, folders) if name else default_firmware(folders)
            data = path.read_bytes()
    except FileNotFoundError as error:
        raise ImageError(str(error)) from None
    except OSError as error:
        raise ImageError(f"firmware image '{name}' cannot be read: {error.strerror}") from None
    if not data:
        raise ImageError(f"firmware image '{path}' is empty: expected a multiple of 64k, at most 16M")
    if len(data) % FIRMWARE_GRANULE or len(data) > FIRMWARE_MAX:
        raise ImageError(
            f"firmware image '{path}' has {len(data)} bytes: expected a multiple of {format_size(FIRMWARE_GRANULE)},"
            f" at most {format_size(FIRMWARE_MAX)}"
        )
    return Firmware(path, data)


def empty_rom() -> bytes:
    """The ROM of a machine without firmware: room for the tables that a guest looks for below 1 MiB.

    A processor that comes to the reset vector, which no start of a kernel does, resets the machine.
    """
    reset = b"\xba\xf9\x0c\xb0\x06\xee\xf4\xeb\xfd"  # mov $0xcf9,%dx; mov $6,%al; out %al,(%dx); hlt; jmp to hlt
    rom = bytearray(b"\xff" * FIRMWARE_GRANULE)
    rom[RESET_VECTOR : RESET_VECTOR + len(reset)] = reset
    return bytes(rom)
