"""The boot ROMs: how firmware finds the one that starts a kernel.

They are built from linuxboot.S, multiboot.S and pvh.S and the file these share, bootrom.inc.  SeaBIOS reads every fw_cfg file
under `genroms/` into its option ROM space, and boots from those that its file `bootorder` names, in that order.
"""

from __future__ import annotations

from pathlib import Path

from plugins.firmware.fw_cfg import FwCfgIo

__all__ = ["boot_order_entry", "finished", "install"]

FOLDER = Path(__file__).parent
CHECKSUM, PNP_POINTER, PNP_CHECKSUM, PNP_SIZE = 6, 0x1A, 9, 32  # offsets in the ROM, and in its Plug and Play header


def finished(name: str) -> bytes:
    """The boot ROM built as `name` ("linuxboot.bin"), with its two checksums: all of it, and its header, sum to 0."""
    rom = bytearray((FOLDER / name).read_bytes())
    start = int.from_bytes(rom[PNP_POINTER : PNP_POINTER + 2], "little")
    rom[start + PNP_CHECKSUM] = -sum(rom[start : start + PNP_SIZE]) & 0xFF
    rom[CHECKSUM] = -sum(rom) & 0xFF
    return bytes(rom)


def install(fw_cfg: FwCfgIo, name: str) -> None:
    """Offer the boot ROM to firmware."""
    fw_cfg.add_file(f"genroms/{name}", finished(name))


def boot_order_entry(name: str) -> str:
    """What `bootorder` calls the boot ROM."""
    return f"/rom@genroms/{name}"
