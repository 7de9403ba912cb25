"""What a configuration asks of a board: serial and parallel ports, drives, a debug port, a display adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qom import records
from qom.board.parts import Board, parse_use
from qom.errors import ConfigError

if TYPE_CHECKING:
    from qom.config import MachineConfig

__all__ = ["Asked", "asked_for", "no_place"]

CALLED: Final = {
    "serial": "serial ports",
    "parallel": "parallel ports",
    "drive": "disk controller",
    "cdrom": "disk controller",
    "floppy": "floppy controller",
    "debugcon": "debug port",
    "vga": "display adapter",
}


OWN_FLOPPIES: Final = ("floppy", "isa-fdc")
"""Devices whoever adds one of which cares for floppy drives, so that there is no empty one by default."""


@records.frozen
class Asked:
    """Something a configuration asks for.

    Attributes:
        backend: the path of its back end, which the part gets; "" when there is none.
        property: the property it gets it as.
        text: what it is called in messages.
        origin: where it was said; "" when it is only there because nothing else was said.
    """

    backend: str
    property: str
    text: str
    origin: str


def asked_for(config: MachineConfig) -> dict[tuple[str, int], Asked]:
    """Everything asked for, by what and which, as `parse_use` gives them."""
    origins = {entry.id: entry.origin for entry in config.chardevs}
    default = config.origin_of("nographic")  # of the serial port that is there when nothing is said

    def origin_of(id: str) -> str:
        return "" if origins.get(id, "") == default else origins[id]

    asked: dict[tuple[str, int], Asked] = {}
    for n, id in enumerate(config.serials):
        if id is not None:
            asked["serial", n] = Asked(f"/chardevs/{id}", "chardev", f"serial port {n}", origin_of(id))
    for n, id in enumerate(config.parallels):
        if id is not None:
            asked["parallel", n] = Asked(f"/chardevs/{id}", "chardev", f"parallel port {n}", origin_of(id))
    if (id := config.debugcon) is not None:
        asked["debugcon", 0] = Asked(f"/chardevs/{id}", "chardev", "debugcon", origin_of(id))
    if config.vga not in (None, "none"):
        asked["vga", 0] = Asked("", "", f"vga '{config.vga}'", config.origin_of("vga"))
    for drive in config.drives:
        if drive.interface != "none" and drive.index is not None:
            what = "floppy" if drive.interface == "floppy" else "cdrom" if drive.media == "cdrom" else "drive"
            asked[what, drive.index] = Asked(f"/drives/{drive.id}", "drive", f"drive '{drive.id}'", drive.origin)
    if not config.nodefaults and not any(device.driver in OWN_FLOPPIES for device in config.devices):
        asked.setdefault(("floppy", 0), Asked("", "drive", "floppy drive 0", ""))
    return asked


def no_place(board: Board, type_name: str, use: tuple[str, int], asked: Asked) -> ConfigError:
    """The error for something that the board has no place for.

    Args:
        board: the board.
        type_name: the machine's.
        use: what is asked for, and which one.
        asked: more of that.
    """
    what, n = use
    known = {parse_use(part.use) for part in board.parts if part.use is not None}
    there = sorted(number for kind, number in known if kind == what)
    if there:
        numbers = ", ".join(map(str, there))
        text = f"{type_name} has {len(there)} of them: expected {what} {numbers}, not {n}"
    elif what == "cdrom" and any(kind == "drive" for kind, _ in known):
        text = f"media=cdrom: {type_name} has places for disks only"
    else:
        text = f"{type_name} has no {CALLED[what]}"
    return ConfigError(f"{asked.text}: {text}", asked.origin)
