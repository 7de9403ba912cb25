"""A kernel to start: what every kind of one is to the board, and which kind a file is.

`open_kernel` reads the file that `-kernel` names and finds its kind: a Linux bzImage (bzimage.py), an ELF file with a PVH
note (pvh.py), a multiboot 1 image (multiboot.py).  A kernel is then started in one of two ways.  With firmware, `items`
gives what our boot ROM of that kind reads from fw_cfg (bootrom.S and the files that include it).  Without firmware,
`direct` says what lies where in memory and in which state the first processor starts; the board writes and loads that
after every reset.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from plugins.firmware import bootrom
from plugins.firmware.fw_cfg import E820_RAM, FwCfgIo
from plugins.firmware.loader import ImageError
from qom import placed, records

__all__ = ["Chunk", "DirectStart", "Kernel", "Memory", "Request", "kernel_placed", "open_kernel", "read_image"]

MIB: Final = 1 << 20
PAGE: Final = 4096
FIRMWARE_RESERVED: Final = MIB  # SeaBIOS keeps its tables at the top of low memory, and no initrd may lie there


@records.frozen
class Chunk:
    """Bytes that lie at a guest-physical address before the guest starts; `what` is for messages."""

    address: int
    data: bytes
    what: str

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + len(self.data)


@records.frozen
class DirectStart:
    """How a kernel starts without firmware.

    entry: guest-physical address of the first instruction.  long_mode: in 64-bit mode with `cr3`, else in flat 32-bit
    protected mode without paging.  registers: general registers with a value; the others are 0.
    gdt: address and size in bytes of the descriptor table among the chunks; code is selector 10h, data 18h.
    """

    chunks: Sequence[Chunk]
    entry: int
    long_mode: bool
    registers: Mapping[str, int]
    gdt: tuple[int, int]
    cr3: int = 0


@records.frozen(kw_only=True)
class Memory:
    """The memory of a machine without firmware.

    below: bytes of RAM below 4 GiB.  map: (start, size, type) of all there is, in the terms of an e820 map, ascending.
    rsdp: guest-physical address of the ACPI root pointer, or 0.
    """

    below: int
    map: Sequence[tuple[int, int, int]]
    rsdp: int = 0

    @property
    def top(self) -> int:
        """Where the RAM ends in which a kernel and what belongs to it may lie."""
        return max((start + size for start, size in self.ram() if start <= MIB), default=0)

    def ram(self) -> list[tuple[int, int]]:
        """(start, size) of each range of RAM."""
        return [(start, size) for start, size, kind in self.map if kind == E820_RAM]


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


@records.frozen(kw_only=True)
class Request:
    """What is asked for beside the kernel: `-initrd` and `-append`; `read` reads a file by its name."""

    initrd: str | None = None
    append: str = ""
    read: Callable[[str], bytes] = _read


class Kernel(ABC):
    """A kernel that was recognised.

    Args:
        path: its file, for messages.
        image: what the file holds.
    """

    kind: ClassVar[str]
    """What a user calls such a file."""
    rom: ClassVar[str]
    """The boot ROM that starts it with firmware."""

    def __init__(self, path: str, image: bytes) -> None:
        self.path, self.image = path, image

    @abstractmethod
    def items(self, request: Request, low_memory: int) -> dict[int, bytes]:
        """What the boot ROM finds in fw_cfg, by the item's number.

        Args:
            request: initrd and command line.
            low_memory: bytes of RAM below 4 GiB.

        Raises:
            ImageError: something does not fit, or cannot be read.
        """

    @abstractmethod
    def direct(self, request: Request, memory: Memory, *, long_mode: bool) -> DirectStart:
        """How it starts without firmware.

        Args:
            request: initrd and command line.
            memory: the machine's RAM.
            long_mode: whether the processor has 64-bit mode.

        Raises:
            ImageError: something does not fit, or cannot be read.
        """

    def files(self, request: Request) -> list[str]:
        """The files that `-initrd` names."""
        return [] if request.initrd is None else [request.initrd]

    def install(self, fw_cfg: FwCfgIo, request: Request, low_memory: int) -> None:
        """Offer the kernel to firmware, and the boot ROM that starts it."""
        for number, content in self.items(request, low_memory).items():
            fw_cfg.add_bytes(number, content)
        bootrom.install(fw_cfg, self.rom)

    def append_error(self, text: str) -> ImageError:
        """An error about this kernel's command line."""
        return ImageError(f"kernel '{self.path}' {text}", "append")

    def error(self, text: str) -> ImageError:
        """An error about this kernel."""
        return ImageError(f"kernel '{self.path}' {text}")

    def place_initrd(self, initrd: str, data: bytes, lowest: int, top: int) -> int:
        """The address for an initrd: as high as `top` lets it, on a page.

        Raises:
            ImageError: it would begin below `lowest`, where the kernel ends.
        """
        address = (top - len(data)) & -PAGE
        if address < lowest:
            raise self.no_room(initrd, len(data), lowest, top)
        return address

    def no_room(self, initrd: str, size: int, lowest: int, top: int) -> ImageError:
        """An error about an initrd that does not fit between the kernel's end and the end of RAM."""
        return ImageError(
            f"initrd '{initrd}' does not fit: it has {size} bytes, and between the kernel's end at {lowest:#x} and"
            f" {top:#x} there are {max(0, top - lowest)}: expected more memory (-m)",
            "initrd",
        )


@contextmanager
def kernel_placed(origin_of: Callable[[str], str]) -> Iterator[None]:
    """Put in front of what goes wrong inside the place of what it is about: `-kernel`, `-initrd` or `-append`.

    origin_of: gives the place of a plain value of the configuration by its name, "" for none.
    """
    try:
        yield
    except ImageError as error:
        with placed(origin_of(error.about) or origin_of("kernel")):
            raise


def read_image(what: str, path: str, read: Callable[[str], bytes] = _read) -> bytes:
    """The content of a file that the user named; `what`: "kernel" or "initrd".  read: reads a file by its name.

    Raises:
        ImageError: it cannot be read, or is no file that ends.
    """
    try:
        if Path(path).is_char_device():  # it might never end
            raise ImageError(f"{what} '{path}' cannot be read: expected a file", what)
        return read(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"{what} '{path}' cannot be read: {reason}", what) from None


def open_kernel(path: str, read: Callable[[str], bytes] = _read) -> Kernel:
    """The kernel in a file; `read` reads one by its name.

    Raises:
        ImageError: it cannot be read, or is of no known kind, or is damaged.
    """
    from plugins.firmware.bzimage import BzImage
    from plugins.firmware.multiboot import Multiboot
    from plugins.firmware.pvh import PvhElf

    image = read_image("kernel", path, read)
    kinds: tuple[type[BzImage | Multiboot | PvhElf], ...] = (BzImage, Multiboot, PvhElf)
    for kind in kinds:
        if kind.recognise(image):
            return kind(path, image)
    names = [kind.kind for kind in kinds]
    raise ImageError(f"kernel '{path}' is of no known kind: expected a {', a '.join(names[:-1])} or an {names[-1]}")
