"""Images a machine starts from: the firmware, and a Linux kernel for firmware that loads one from fw_cfg.

`load_firmware` finds and checks a BIOS image; `load_kernel` splits a bzImage into the fw_cfg items that QEMU's boot
ROM (`linuxboot_dma.bin`) and SeaBIOS expect, with the setup header filled in as a boot loader does (Linux:
Documentation/ arch/x86/boot.rst). Not done: multiboot and ELF kernels, kernels before boot protocol 2.02, EFI
handover.
"""

from __future__ import annotations

import struct
from pathlib import Path

import attrs

from plugins.firmware import default_firmware, find_firmware
from plugins.firmware import fw_cfg as keys
from plugins.firmware.fw_cfg import FwCfgIo
from qom import QomError, format_size

FIRMWARE_GRANULE = 64 << 10  # bytes: images are a multiple of this
FIRMWARE_MAX = 16 << 20  # bytes below 4 GiB kept free for firmware
RESET_VECTOR = -16  # of the image, where the processor starts

SECTOR = 512
SETUP_SECTS, BOOT_FLAG, HEADER, VERSION = 0x1F1, 0x1FE, 0x202, 0x206  # offsets in the setup header
TYPE_OF_LOADER, LOADFLAGS, RAMDISK_IMAGE, RAMDISK_SIZE = 0x210, 0x211, 0x218, 0x21C
HEAP_END_PTR, CMD_LINE_PTR, INITRD_ADDR_MAX, CMDLINE_SIZE = 0x224, 0x228, 0x22C, 0x238
BOOT_FLAG_VALUE, HEADER_MAGIC, HEADER_END = 0xAA55, b"HdrS", 0x240
VERSION_MIN, VERSION_INITRD_MAX, VERSION_CMDLINE_SIZE = 0x0202, 0x0203, 0x0206
LOADED_HIGH, CAN_USE_HEAP = 0x01, 0x80
LOADER_QEMU = 0xB0
SETUP_SECTS_DEFAULT = 4

REAL_ADDR, CMDLINE_ADDR, PROTECTED_ADDR = 0x10000, 0x20000, 0x100000  # where firmware puts the three parts
INITRD_MAX_DEFAULT, CMDLINE_MAX_DEFAULT = 0x37FF_FFFF, 255
PAGE = 4096


class ImageError(QomError):
    """An image that is missing or not what it should be."""


@attrs.frozen
class Firmware:
    """A BIOS image, to be mapped so that it ends at 4 GiB."""

    path: Path
    data: bytes


def load_firmware(name: str | None = None) -> Firmware:
    """Load what `-bios name` means, or the default: SeaBIOS where installed, else the embedded firmware.

    Raises ImageError when it is missing, unreadable, or of an impossible size.
    """
    try:
        path = find_firmware(name) if name else default_firmware()
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


@attrs.frozen
class Kernel:
    """A kernel as fw_cfg items."""

    setup: bytes  # real-mode part, header filled in
    protected: bytes
    cmdline: bytes  # with its final zero
    initrd: bytes
    initrd_addr: int

    def install(self, fw_cfg: FwCfgIo) -> None:
        """Offer the kernel to firmware."""
        fw_cfg.add_i32(keys.KERNEL_ADDR, PROTECTED_ADDR)
        fw_cfg.add_i32(keys.KERNEL_SIZE, len(self.protected))
        fw_cfg.add_bytes(keys.KERNEL_DATA, self.protected)
        fw_cfg.add_i32(keys.SETUP_ADDR, REAL_ADDR)
        fw_cfg.add_i32(keys.SETUP_SIZE, len(self.setup))
        fw_cfg.add_bytes(keys.SETUP_DATA, self.setup)
        fw_cfg.add_i32(keys.CMDLINE_ADDR, CMDLINE_ADDR)
        fw_cfg.add_i32(keys.CMDLINE_SIZE, len(self.cmdline))
        fw_cfg.add_bytes(keys.CMDLINE_DATA, self.cmdline)
        if self.initrd:
            fw_cfg.add_i32(keys.INITRD_ADDR, self.initrd_addr)
            fw_cfg.add_i32(keys.INITRD_SIZE, len(self.initrd))
            fw_cfg.add_bytes(keys.INITRD_DATA, self.initrd)


def _read(what: str, path: str) -> bytes:
    try:
        if Path(path).is_char_device():  # it might never end
            raise ImageError(f"{what} '{path}' cannot be read: expected a file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{what} '{path}' cannot be read: {error.strerror}") from None


def load_kernel(
    kernel: str, initrd: str | None = None, append: str = "", *, low_memory: int, reserved: int = 0
) -> Kernel:
    """Split a bzImage and fill in its header.

    low_memory: bytes of RAM below 4 GiB; the initrd goes to its top, `reserved` bytes (ACPI tables) lower.
    Raises ImageError when an image is missing, is no bzImage, or does not fit.
    """
    image = _read("kernel", kernel)
    if len(image) < HEADER_END or image[HEADER : HEADER + 4] != HEADER_MAGIC:
        raise ImageError(f"kernel '{kernel}' is no bzImage: no setup header at {HEADER:#x}")
    (boot_flag,) = struct.unpack_from("<H", image, BOOT_FLAG)
    (version,) = struct.unpack_from("<H", image, VERSION)
    if boot_flag != BOOT_FLAG_VALUE or not image[LOADFLAGS] & LOADED_HIGH:
        raise ImageError(f"kernel '{kernel}' is no bzImage: its setup header lacks the boot flag or is of a zImage")
    if version < VERSION_MIN:
        raise ImageError(
            f"kernel '{kernel}' has boot protocol {version >> 8}.{version & 0xFF:02}: expected 2.02 or later"
        )
    setup_size = (1 + (image[SETUP_SECTS] or SETUP_SECTS_DEFAULT)) * SECTOR
    if setup_size >= len(image):
        raise ImageError(f"kernel '{kernel}' is cut short: {len(image)} bytes, its setup alone has {setup_size}")
    setup, protected = bytearray(image[:setup_size]), image[setup_size:]
    if PROTECTED_ADDR + len(protected) > low_memory:
        raise ImageError(
            f"kernel '{kernel}' does not fit: {len(protected)} bytes at 1M in {format_size(low_memory)} of RAM"
        )

    text = append.encode() + b"\0"
    limit = struct.unpack_from("<I", image, CMDLINE_SIZE)[0] if version >= VERSION_CMDLINE_SIZE else CMDLINE_MAX_DEFAULT
    if len(text) - 1 > limit:
        raise ImageError(f"kernel command line has {len(text) - 1} characters: '{kernel}' takes {limit}")

    ramdisk, addr = b"", 0
    if initrd is not None:
        ramdisk = _read("initrd", initrd)
        highest = INITRD_MAX_DEFAULT
        if version >= VERSION_INITRD_MAX:
            highest = struct.unpack_from("<I", image, INITRD_ADDR_MAX)[0]
        top = min(highest + 1, low_memory - reserved)
        addr = (top - len(ramdisk)) & -PAGE
        if addr < PROTECTED_ADDR + len(protected):
            raise ImageError(
                f"initrd '{initrd}' does not fit: {len(ramdisk)} bytes between the kernel and {top:#x},"
                f" with {format_size(low_memory)} of RAM below 4G"
            )
        struct.pack_into("<II", setup, RAMDISK_IMAGE, addr, len(ramdisk))
    setup[TYPE_OF_LOADER] = LOADER_QEMU
    setup[LOADFLAGS] |= CAN_USE_HEAP
    struct.pack_into("<H", setup, HEAP_END_PTR, CMDLINE_ADDR - REAL_ADDR - 0x200)
    struct.pack_into("<I", setup, CMD_LINE_PTR, CMDLINE_ADDR)
    return Kernel(bytes(setup), protected, text, ramdisk, addr)
