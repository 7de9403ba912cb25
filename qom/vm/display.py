"""Screens: what a display adapter shows, and pictures of it in files.

A device with a screen implements `DisplayConsole`; such devices are found with `consoles`.  Nothing is drawn until somebody
asks for the picture.  There is no window: a screen is for programs to look at, and for `screendump`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from qom import records
from qom.errors import QomError, did_you_mean
from qom.registry import Interface, type_init

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["FORMATS", "DisplayConsole", "DisplayError", "Surface", "consoles", "screendump", "write_image"]

FORMATS: Final = ("ppm", "png")
"""What a picture can be written as."""

LISTED_AS: Final = "display-console"


class DisplayError(QomError):
    """A screen that is not there, or a picture that cannot be written."""


class NoSuchDisplay(DisplayError):
    """A display adapter was named that is not there."""


@records.frozen(repr=False)
class Surface:
    """A picture: `width` by `height` dots, and 3 bytes (red, green, blue) for each, row by row from the top."""

    width: int
    height: int
    data: bytes

    def pixel(self, x: int, y: int) -> tuple[int, int, int]:
        """Red, green and blue of the dot at column `x` of row `y`."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            raise IndexError(f"no dot ({x}, {y}) in a picture of {self.width} by {self.height}")
        at = 3 * (y * self.width + x)
        return self.data[at], self.data[at + 1], self.data[at + 2]

    def __repr__(self) -> str:
        return f"<Surface {self.width}x{self.height}>"


@type_init("display-console")
class DisplayConsole(Interface):
    """A device with a screen.  Its class says `listed_as = "display-console"`, so that it is found without a search."""

    def surface(self) -> Surface:
        """What the screen shows at this moment; the machine lock is held."""
        raise NotImplementedError


def consoles(vm: VirtualMachine) -> list[DisplayConsole]:
    """The screens of a machine, in the order they came."""
    return vm.root.listed(LISTED_AS)


def write_image(surface: Surface, target: str | os.PathLike[str] | IO[bytes], format: str = "ppm") -> None:
    """Write a picture.

    Args:
        surface: the picture.
        target: the file's name, or a binary file open for writing.
        format: "ppm" or "png".

    Raises:
        DisplayError: there is no such format, or the file cannot be written.
    """
    data = encoded(surface, format)
    try:
        if isinstance(target, str | os.PathLike):
            Path(target).write_bytes(data)
        else:
            target.write(data)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        where = f"'{os.fspath(target)}'" if isinstance(target, str | os.PathLike) else "the file given"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DisplayError(f"screen dump: {where} cannot be written: {reason}") from None


def encoded(surface: Surface, format: str = "ppm") -> bytes:
    """A picture as the bytes of a file; arguments and errors as for `write_image`."""
    if format == "ppm":
        return b"P6\n%d %d\n255\n" % (surface.width, surface.height) + surface.data
    if format == "png":
        return _png(surface)
    near = did_you_mean(format, FORMATS)
    raise DisplayError(f"screen dump: format cannot be {format!r}: expected {' or '.join(FORMATS)}{near}")


def screendump(
    vm: VirtualMachine, filename: str | os.PathLike[str], device: str | None = None, head: int = 0, format: str = "ppm"
) -> None:
    """Write what a screen of `vm` shows into a file.

    Args:
        vm: the machine, running or not.
        filename: the file, which is replaced.
        device: id or path of the adapter; the first there is by default.
        head: which of its screens; no adapter here has more than one, number 0.
        format: "ppm" or "png".

    Raises:
        DisplayError: there is no such screen or format, or the file cannot be written.
    """
    encoded(Surface(0, 0, b""), format)  # before anything is done
    with vm.lock:
        console = _find(vm, device)
        if head != 0:
            path = getattr(console, "path", "it")
            raise DisplayError(f"screen dump: {path} has no head {head}: expected 0, its only one")
        surface = console.surface()
    write_image(surface, filename, format)


def _find(vm: VirtualMachine, device: str | None) -> DisplayConsole:
    there = consoles(vm)
    if not there:
        raise DisplayError("screen dump: this machine has no display adapter: expected one, such as by -vga std")
    if device is None:
        return there[0]
    names = {name: console for console in there for name in (_path(console).rpartition("/")[2], _path(console))}
    if device in names:
        return names[device]
    near = did_you_mean(device, names)
    known = ", ".join(f"'{_path(console).rpartition('/')[2]}'" for console in there)
    raise NoSuchDisplay(f"screen dump: no display adapter '{device}'{near or f': expected {known}'}")


def _path(console: DisplayConsole) -> str:
    return str(getattr(console, "path", ""))


def _png(surface: Surface) -> bytes:
    """PNG (ISO/IEC 15948): 8 bits a component, every row as it is, compressed as one stream."""
    import zlib  # here: most machines never draw

    row = surface.width * 3
    rows = b"".join([b"\0" + surface.data[at : at + row] for at in range(0, row * surface.height, row or 1)])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", surface.width, surface.height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b"")
