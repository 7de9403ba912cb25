"""Linux bzImage (Linux: Documentation/arch/x86/boot.rst).

Modelled: boot protocols 2.02 and later; with firmware the real-mode entry, as a boot loader under a BIOS takes; without
firmware the 64-bit entry where the kernel has one and the processor can, else the 32-bit entry.
Not modelled: zImages and protocols before 2.02, EFI handover, setup_data, initrds above 4 GiB.
"""

from __future__ import annotations

import struct

from plugins.firmware import fw_cfg as keys
from plugins.firmware.boot_area import BootArea
from plugins.firmware.kernel import FIRMWARE_RESERVED, MIB, Chunk, DirectStart, Kernel, Memory, Request, read_image
from qom import format_size, records

__all__ = ["BzImage"]

SECTOR = 512
SETUP_SECTS, BOOT_FLAG, JUMP_SIZE, HEADER, VERSION = 0x1F1, 0x1FE, 0x201, 0x202, 0x206  # offsets in the setup header
VID_MODE = 0x1FA
VIDEO_MODES = {"normal": 0xFFFF, "ext": 0xFFFE, "ask": 0xFFFD}  # what `vga=` on a command line may say beside a number
TYPE_OF_LOADER, LOADFLAGS, RAMDISK_IMAGE, RAMDISK_SIZE = 0x210, 0x211, 0x218, 0x21C
HEAP_END_PTR, CMD_LINE_PTR, INITRD_ADDR_MAX = 0x224, 0x228, 0x22C
KERNEL_ALIGNMENT, RELOCATABLE, XLOADFLAGS, CMDLINE_SIZE = 0x230, 0x234, 0x236, 0x238
PREF_ADDRESS, INIT_SIZE = 0x258, 0x260
BOOT_FLAG_VALUE, HEADER_MAGIC, HEADER_END = 0xAA55, b"HdrS", 0x268
VERSION_MIN, VERSION_INITRD_MAX, VERSION_CMDLINE_SIZE, VERSION_INIT_SIZE, VERSION_XLOADFLAGS = (
    0x0202, 0x0203, 0x0206, 0x020A, 0x020C,
)  # fmt: skip
LOADED_HIGH, CAN_USE_HEAP = 0x01, 0x80
KERNEL_64 = 0x01  # XLOADFLAGS: there is a 64-bit entry
LOADER_QEMU, LOADER_UNDEFINED = 0xB0, 0xFF
SETUP_SECTS_DEFAULT = 4
ENTRY_32, ENTRY_64 = 0x0, 0x200  # from where the protected-mode part was put

REAL_ADDR, CMDLINE_ADDR, PROTECTED_ADDR = 0x10000, 0x20000, 0x100000  # where the boot ROM puts the three parts
INITRD_MAX_DEFAULT, CMDLINE_MAX_DEFAULT = 0x37FF_FFFF, 255

# The zero page ("boot_params"; Documentation/arch/x86/zero-page.rst)
ZERO_PAGE_SIZE = 4096
ACPI_RSDP_ADDR, ALT_MEM_K, E820_ENTRIES, E820_TABLE = 0x070, 0x1E0, 0x1E8, 0x2D0
E820_ENTRY = struct.Struct("<QQI")


class BzImage(Kernel):
    """A Linux kernel as `make bzImage` leaves it.

    Args:
        path: its file, for messages.
        image: what the file holds.

    Raises:
        ImageError: it is damaged, or of a boot protocol that is too old.
    """

    kind, rom = "Linux bzImage", "linuxboot.bin"

    @staticmethod
    def recognise(image: bytes) -> bool:
        """Whether a file is one."""
        return image[HEADER : HEADER + 4] == HEADER_MAGIC

    def __init__(self, path: str, image: bytes) -> None:
        super().__init__(path, image)
        (boot_flag,) = struct.unpack_from("<H", image, BOOT_FLAG)
        if boot_flag != BOOT_FLAG_VALUE:
            raise self.error(
                f"is no bzImage: at {BOOT_FLAG:#x} its setup header has {boot_flag:#x}: expected {BOOT_FLAG_VALUE:#x}"
            )
        padded = image[: HEADER_END + SECTOR].ljust(HEADER_END, b"\0")
        (self.version,) = struct.unpack_from("<H", padded, VERSION)
        if self.version < VERSION_MIN:
            raise self.error(f"has boot protocol {self.version >> 8}.{self.version & 0xFF:02}: expected 2.02 or later")
        if not padded[LOADFLAGS] & LOADED_HIGH:
            raise self.error("is a zImage, which is loaded below 640K: expected a bzImage")
        setup_size = (1 + (padded[SETUP_SECTS] or SETUP_SECTS_DEFAULT)) * SECTOR
        if setup_size >= len(image):
            raise self.error(f"is cut short: {len(image)} bytes, its setup alone has {setup_size}")
        self.setup, self.protected = image[:setup_size], image[setup_size:]

    def field(self, offset: int, form: str, since: int, default: int) -> int:
        """A field of the setup header that protocol `since` brought."""
        return int(struct.unpack_from(form, self.setup, offset)[0]) if self.version >= since else default

    @property
    def has_64_bit_entry(self) -> bool:
        """Whether it can be entered in 64-bit mode."""
        return bool(self.field(XLOADFLAGS, "<H", VERSION_XLOADFLAGS, 0) & KERNEL_64)

    def kernel_end(self) -> int:
        """Where the memory ends that the kernel writes to before it looks at the memory map."""
        loaded = PROTECTED_ADDR + len(self.protected)
        size = self.field(INIT_SIZE, "<I", VERSION_INIT_SIZE, 0)
        if not size:
            return loaded
        start = self.field(PREF_ADDRESS, "<Q", VERSION_INIT_SIZE, PROTECTED_ADDR)
        if self.setup[RELOCATABLE]:  # it goes where it was put, aligned, but not below the address it prefers
            align = max(1, self.field(KERNEL_ALIGNMENT, "<I", VERSION_INIT_SIZE, 1))
            start = max(start, -(-PROTECTED_ADDR // align) * align)
        return max(loaded, start + size)

    def items(self, request: Request, low_memory: int) -> dict[int, bytes]:
        """The setup and protected-mode parts, command line and initrd; see Kernel."""
        fitted = self._fit(request, low_memory, low_memory - FIRMWARE_RESERVED)
        setup = self._header(LOADER_QEMU, CMDLINE_ADDR, fitted)
        setup[LOADFLAGS] |= CAN_USE_HEAP
        mode = self._video_mode(request.append)
        if mode is not None:
            struct.pack_into("<H", setup, VID_MODE, mode)
        struct.pack_into("<H", setup, HEAP_END_PTR, CMDLINE_ADDR - REAL_ADDR - 0x200)
        found = _sized(keys.KERNEL_ADDR, keys.KERNEL_SIZE, keys.KERNEL_DATA, PROTECTED_ADDR, self.protected)
        found |= _sized(keys.SETUP_ADDR, keys.SETUP_SIZE, keys.SETUP_DATA, REAL_ADDR, bytes(setup))
        found |= _sized(keys.CMDLINE_ADDR, keys.CMDLINE_SIZE, keys.CMDLINE_DATA, CMDLINE_ADDR, fitted.cmdline)
        if fitted.initrd:
            found |= _sized(keys.INITRD_ADDR, keys.INITRD_SIZE, keys.INITRD_DATA, fitted.initrd_addr, fitted.initrd)
        return found

    def direct(self, request: Request, memory: Memory, *, long_mode: bool) -> DirectStart:
        """By the 64-bit or the 32-bit boot protocol; see Kernel."""
        fitted = self._fit(request, memory.below, memory.top)
        area = BootArea()
        cmdline = area.add(fitted.cmdline, "command line")
        page = bytearray(ZERO_PAGE_SIZE)
        header = self._header(LOADER_UNDEFINED, cmdline, fitted)
        end = min(HEADER + self.setup[JUMP_SIZE], ZERO_PAGE_SIZE, len(header))
        page[SETUP_SECTS:end] = header[SETUP_SECTS:end]
        struct.pack_into("<Q", page, ACPI_RSDP_ADDR, memory.rsdp)
        entries = memory.map
        struct.pack_into("<I", page, ALT_MEM_K, (memory.top - MIB) // 1024)
        page[E820_ENTRIES] = len(entries)
        for n, entry in enumerate(entries):
            E820_ENTRY.pack_into(page, E820_TABLE + n * E820_ENTRY.size, *entry)
        zero_page = area.add(bytes(page), "zero page", align=ZERO_PAGE_SIZE)
        chunks = [Chunk(PROTECTED_ADDR, self.protected, f"kernel '{self.path}'")]
        if fitted.initrd:
            chunks.append(Chunk(fitted.initrd_addr, fitted.initrd, f"initrd '{request.initrd}'"))
        wide = long_mode and self.has_64_bit_entry
        return area.start(chunks, PROTECTED_ADDR + (ENTRY_64 if wide else ENTRY_32), {"rsi": zero_page}, long_mode=wide)

    def _fit(self, request: Request, low_memory: int, top: int) -> _Fitted:
        """Find a place for everything."""
        needed = self.kernel_end()
        if needed > top:
            raise self.error(
                f"does not fit: it needs RAM up to {needed:#x}, and {format_size(low_memory)} of memory have it"
                f" up to {top:#x}: expected more memory (-m)"
            )
        cmdline = request.append.encode() + b"\0"
        limit = self.field(CMDLINE_SIZE, "<I", VERSION_CMDLINE_SIZE, CMDLINE_MAX_DEFAULT)
        if len(cmdline) - 1 > limit:
            raise self.append_error(f"takes a command line of at most {limit} characters: it has {len(cmdline) - 1}")
        if request.initrd is None:
            return _Fitted(cmdline)
        data = read_image("initrd", request.initrd, request.read)
        highest = self.field(INITRD_ADDR_MAX, "<I", VERSION_INITRD_MAX, INITRD_MAX_DEFAULT)
        return _Fitted(cmdline, data, self.place_initrd(request.initrd, data, needed, min(highest + 1, top)))

    def _video_mode(self, append: str) -> int | None:
        """What `vga=` asks the kernel's setup for: a loader's business (boot.rst, "Special command line options")."""
        said = [word[4:] for word in append.split() if word.startswith("vga=")]
        if not said:
            return None
        text = said[-1]
        if text in VIDEO_MODES:
            return VIDEO_MODES[text]
        octal = len(text) > 1 and text.startswith("0") and text.isdecimal()
        try:
            mode = int(text, 8 if octal else 0)
        except ValueError:
            mode = -1
        if not 0 <= mode <= 0xFFFF:
            words = ", ".join(VIDEO_MODES)
            raise self.append_error(f"vga= cannot be {text!r}: expected a mode, such as 0x317, or one of {words}")
        return mode

    def _header(self, loader: int, cmdline: int, fitted: _Fitted) -> bytearray:
        """The setup part with the fields that a loader fills in."""
        setup = bytearray(self.setup)
        setup[TYPE_OF_LOADER] = loader
        struct.pack_into("<I", setup, CMD_LINE_PTR, cmdline)
        struct.pack_into("<II", setup, RAMDISK_IMAGE, fitted.initrd_addr, len(fitted.initrd))
        return setup


@records.frozen
class _Fitted:
    """What was asked for, with its places."""

    cmdline: bytes  # with its final zero
    initrd: bytes = b""
    initrd_addr: int = 0


def _sized(address_key: int, size_key: int, data_key: int, address: int, data: bytes) -> dict[int, bytes]:
    return {address_key: struct.pack("<I", address), size_key: struct.pack("<I", len(data)), data_key: data}
