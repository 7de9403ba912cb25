"""What somebody at the machine does: keys, mouse, screen, media; and what it writes down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from qom.config import DriveEntry
from qom.config.model import LOG_CATEGORIES
from qom.errors import did_you_mean
from qom.monitor.hmp.arguments import Expression, Flag, Word
from qom.monitor.hmp.declare import CommandError, Hmp, UsageError, hmp_command
from qom.vm.input import KEY_NAMES, move_pointer, pointers, press_button, send_keys

BUTTONS = ("left", "middle", "right")  # by bit of a button state


def _keys(hmp: Hmp, begun: str) -> Iterable[str]:
    head, minus, _ = begun.rpartition("-")
    return [f"{head}{minus}{name}" for name in KEY_NAMES]


@hmp_command("sendkey")
def sendkey(
    hmp: Hmp,
    keys: Annotated[str, Word(complete=_keys)],
    hold_ms: Annotated[int, Expression("hold_ms", bits=31)] = 100,
) -> None:
    """send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold time=100 ms)"""
    wanted: list[str | int] = []
    for name in keys.split("-"):
        name = _SHORT.get(name, name)
        if name[:2].lower() == "0x" and name[2:].isalnum():
            try:
                wanted.append(int(name, 16))
            except ValueError:
                raise CommandError(f"invalid parameter: {name}") from None
            continue
        if name not in KEY_NAMES:
            raise CommandError(f"invalid parameter: {name}{did_you_mean(name, KEY_NAMES)}")
        wanted.append(name)
    send_keys(hmp.vm, wanted, hold_ms)


_SHORT = {"<": "less"}


@hmp_command("mouse_move")
def mouse_move(
    hmp: Hmp,
    dx: Annotated[str, Word()],
    dy: Annotated[str, Word()],
    dz: Annotated[str, Word()] = "0",
) -> None:
    """send mouse move events"""
    by = []
    for name, text in (("dx", dx), ("dy", dy), ("dz", dz)):
        if not text.removeprefix("-").isdecimal() or len(text) > 6:
            raise UsageError(f"mouse_move: {name} cannot be '{text}': expected a whole number, as 5 or -5")
        by.append(int(text))
    move_pointer(hmp.vm, by[0], by[1])
    turned = by[2]
    for _ in range(min(abs(turned), 100)):
        press_button(hmp.vm, "wheel-up" if turned < 0 else "wheel-down", True)


@hmp_command("mouse_button")
def mouse_button(hmp: Hmp, state: Annotated[int, Expression("state", bits=3)]) -> None:
    """change mouse button state (1=L, 2=M, 4=R)"""
    for bit, name in enumerate(BUTTONS):
        press_button(hmp.vm, name, bool(state >> bit & 1))


@hmp_command("info mice")
def info_mice(hmp: Hmp) -> str:
    """show which guest mouse is receiving events"""
    found: list[Any] = list(pointers(hmp.vm))
    lines = [f"{'*' if n == 0 else ' '} Mouse #{n}: {mouse.path} ({mouse.type_name})" for n, mouse in enumerate(found)]
    return "\n".join(lines) or "No mouse devices connected"


@hmp_command("screendump", usage="filename [-f format] [device [head]]")
def screendump(
    hmp: Hmp,
    filename: Annotated[str, Word(what="filename")],
    first: Annotated[str, Word()] = "",
    second: Annotated[str, Word()] = "",
    third: Annotated[str, Word()] = "",
    fourth: Annotated[str, Word()] = "",
) -> None:
    """save screen from head 'head' of display device 'device' in specified format 'format' as image 'filename'"""
    arguments: dict[str, Any] = {"filename": filename}
    words = [word for word in (first, second, third, fourth) if word]
    if words and words[0] == "-f":
        if len(words) < 2:
            raise UsageError("screendump: -f: expected png or ppm after it")
        arguments["format"] = words[1]
        words = words[2:]
    if words:
        arguments["device"] = words[0]
    if len(words) > 1:
        if not words[1].isdecimal():
            raise UsageError(f"screendump: head cannot be '{words[1]}': expected a number")
        arguments["head"] = int(words[1])
    if len(words) > 2:
        raise UsageError("screendump: extraneous characters at the end of line")
    hmp.call("screendump", arguments)


def _drives(hmp: Hmp, begun: str) -> Iterable[str]:
    return [name for name, _ in _media(hmp)]


def _media(hmp: Hmp) -> Iterable[tuple[str, Any]]:
    """The drives with a medium that can be taken out, each by the names it has: its image's and its own."""
    for device in hmp.vm.root.walk():
        if (
            hasattr(device, "insert")
            and hasattr(device, "eject")
            and device.is_a("device")
            and hasattr(device, "drive")
        ):
            image = device.drive
            kept = hmp.table.ejected.get(device.path)
            if image is not None:
                yield image.name, device
            elif kept is not None:
                yield kept, device
            if device.name is not None:
                yield device.name, device


def _drive(hmp: Hmp, name: str) -> Any:
    for known, device in _media(hmp):
        if known == name:
            return device
    if hmp.vm.root.container("/drives").get_child(name) is not None:
        raise CommandError(f"Error: Device '{name}' is not removable")
    near = did_you_mean(name, [known for known, _ in _media(hmp)])
    raise CommandError(f"Error: Device '{name}' not found{near}")


@hmp_command("eject")
def eject(
    hmp: Hmp,
    force: Annotated[bool, Flag("f", "whatever the guest says")],
    device: Annotated[str, Word(complete=_drives, what="block device name")],
) -> None:
    """eject a removable medium"""
    _eject(hmp, _drive(hmp, device))


def _eject(hmp: Hmp, drive: Any) -> str:
    """Take the medium out and its image away; the name it had."""
    image = drive.eject()
    if image is not None:
        hmp.table.ejected[drive.path] = image.name
        image.unparent()
    return hmp.table.ejected.get(drive.path) or drive.name


@hmp_command("change", usage="device [-f] filename [format [read-only-mode]]")
def change(
    hmp: Hmp,
    device: Annotated[str, Word(complete=_drives, what="block device name")],
    force: Annotated[bool, Flag("f", "whatever the guest says")],
    filename: Annotated[str, Word(what="filename")],
    format: Annotated[str, Word()] = "raw",
    mode: Annotated[str, Word(among=("retain", "read-only", "read-write"))] = "retain",
) -> None:
    """change a removable medium, optional format"""
    drive = _drive(hmp, device)
    old = drive.drive
    readonly = mode == "read-only" or (mode == "retain" and old is not None and not old.writable)
    name = _eject(hmp, drive)
    image: Any = hmp.vm.add_drive(DriveEntry(name, filename, format, "none", readonly=readonly))
    try:
        drive.insert(image)
    except BaseException:
        image.close()
        image.unparent()
        raise


@hmp_command("boot_set")
def boot_set(hmp: Hmp, bootdevice: Annotated[str, Word()]) -> str:
    """define new values for the boot device list"""
    hmp.vm.machine.set_boot_order(bootdevice)
    return f"boot device list now set to {bootdevice}"


@hmp_command("log", preconfig=True, usage="item1[,...]")
def log(hmp: Hmp, items: Annotated[str, Word(complete=lambda hmp, begun: _log_items(begun))]) -> str:
    """activate logging of the specified items"""
    if items == "help":
        lines = ["Log items (comma separated):", f"{'none':<16}remove all logs"]
        return "\n".join([*lines, *(f"{name:<16}{what}" for name, what in LOG_CATEGORIES.items())])
    hmp.vm.set_log([] if items == "none" else items.split(","))
    return ""


def _log_items(begun: str) -> Iterable[str]:
    head, comma, _ = begun.rpartition(",")
    return [f"{head}{comma}{name}" for name in LOG_CATEGORIES]


@hmp_command("logfile", preconfig=True)
def logfile(hmp: Hmp, filename: Annotated[str, Word(what="filename")]) -> None:
    """output logs to 'filename'"""
    hmp.vm.set_log_file(filename)
