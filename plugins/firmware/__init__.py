"""Firmware: the embedded one of our own, the demonstration guest, and where an installed SeaBIOS is found.

The images are built from the assembly sources beside them by `plugins.firmware.build` and committed, so that running
needs no assembler.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

QOM_MODULES = ("fw_cfg", "vmgenid")

EMBEDDED = Path(__file__).with_name("qomfw.bin")  # 64 KiB BIOS image
DEMO_DISK = Path(__file__).with_name("demo.bin")  # raw disk image of the demonstration guest

FDSETS = "/dev/fdset/"  # how names begin that stand for descriptors the machine was handed

SEABIOS_FOLDERS = (Path("/usr/share/seabios"), Path("/usr/share/qemu"))  # Debian's packages seabios, qemu-system-data
SEABIOS_NAMES = ("bios-256k.bin", "bios.bin")


def firmware_folders() -> list[Path]:
    """Where firmware is looked for, after the folder the program runs in and those of `-L`."""
    return [EMBEDDED.parent, *SEABIOS_FOLDERS]


def find_seabios() -> Path | None:
    """Return the installed SeaBIOS image for a PC, or None when no package has put one where Debian does."""
    for folder in SEABIOS_FOLDERS:
        for name in SEABIOS_NAMES:
            if (folder / name).is_file():
                return folder / name
    return None


def default_firmware(folders: Sequence[str] = ()) -> Path:
    """Return the image a PC starts without `-bios`: SeaBIOS where it is installed, else the embedded firmware.

    folders: looked in before.
    """
    for folder in folders:
        for name in SEABIOS_NAMES:
            if (path := Path(folder, name)).is_file():
                return path
    return find_seabios() or EMBEDDED


def find_firmware(name: str, folders: Sequence[str] = ()) -> Path:
    """Return the file that `-bios name` means: a path, or the name of an image in one of the firmware folders.

    folders: looked in before those.
    `qomfw.bin` always names the embedded firmware. Raises FileNotFoundError with the places looked at.
    """
    given = Path(name)
    if given.is_file():
        return given
    if given.name == name:
        for folder in (*map(Path, folders), EMBEDDED.parent, *SEABIOS_FOLDERS):
            if (folder / name).is_file():
                return folder / name
    looked = "" if given.name != name else f" (looked in {', '.join(map(str, ('.', *folders, *SEABIOS_FOLDERS)))})"
    raise FileNotFoundError(f"firmware image {name!r} not found{looked}")
