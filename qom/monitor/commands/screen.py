"""Commands for what a person would have before him: the screen, the keyboard and the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from qom.monitor import CommandError, Variants, command
from qom.vm.display import NoSuchDisplay
from qom.vm.display import screendump as dump_screen
from qom.vm.input import BUTTONS, KEY_NAMES, move_pointer, pointers, press_button, press_key, send_keys

if TYPE_CHECKING:
    from qom.vm import VirtualMachine

    KeyName = str
    Button = str
else:
    KeyName = Literal[KEY_NAMES]
    Button = Literal[BUTTONS]


class KeyKind(TypedDict):
    """How a key is named."""

    type: Literal["number", "qcode"]


class KeyNumber(TypedDict):
    """A key by its number: scan code set 1, with 80h added for what is behind the prefix E0h."""

    data: int


class KeyCode(TypedDict):
    """A key by its name."""

    data: KeyName


KeyValue = Annotated[dict[str, Any], Variants("type", KeyKind, {"number": KeyNumber, "qcode": KeyCode})]


class KeyEvent(TypedDict):
    """A key that goes down or up."""

    key: KeyValue
    down: bool


class ButtonEvent(TypedDict):
    """A button that goes down or up."""

    button: Button
    down: bool


class MoveEvent(TypedDict):
    """A movement along one axis."""

    axis: Literal["x", "y"]
    value: int


class EventKind(TypedDict):
    """What kind of event it is."""

    type: Literal["key", "btn", "rel", "abs"]


class OfKey(TypedDict):
    """A key's event."""

    data: KeyEvent


class OfButton(TypedDict):
    """A button's event."""

    data: ButtonEvent


class OfMove(TypedDict):
    """A movement's event."""

    data: MoveEvent


InputEvent = Annotated[
    dict[str, Any],
    Variants("type", EventKind, {"key": OfKey, "btn": OfButton, "rel": OfMove, "abs": OfMove}),
]


@command("screendump")
def screendump(
    vm: VirtualMachine,
    filename: str,
    device: str | None = None,
    head: int | None = None,
    format: Literal["ppm", "png"] = "ppm",
) -> None:
    """Write what a screen shows into a file."""
    if head is not None and device is None:
        raise CommandError("'head' must be specified together with 'device'")
    try:
        dump_screen(vm, filename, device, head or 0, format)
    except NoSuchDisplay as error:
        raise CommandError(str(error), "DeviceNotFound") from None


@command("send-key")
def send_key(vm: VirtualMachine, keys: list[KeyValue], hold_time: int = 100) -> None:
    """Press keys one after another and release them the other way round, `hold-time` ms after each."""
    send_keys(vm, [key["data"] for key in keys], hold_time)


@command("input-send-event")
def input_send_event(
    vm: VirtualMachine, events: list[InputEvent], device: str | None = None, head: int | None = None
) -> None:
    """Keys, buttons and movements, in this order; there are no absolute pointers, nor consoles to choose from."""
    if device is not None:
        raise CommandError(f"Device '{device}' not found", "DeviceNotFound")
    if any(event["type"] == "abs" for event in events):
        raise CommandError("no pointer here has absolute axes: expected 'rel'")
    moved = {"x": 0, "y": 0}

    def move() -> None:
        if any(moved.values()):
            move_pointer(vm, moved["x"], moved["y"])
            moved.update(x=0, y=0)

    for event in events:
        data = event["data"]
        if event["type"] == "rel":  # both axes of one movement
            moved[data["axis"]] += data["value"]
            continue
        move()
        if event["type"] == "key":
            press_key(vm, data["key"]["data"], data["down"])
        else:
            press_button(vm, data["button"], data["down"])
    move()


class MouseInfo(TypedDict):
    """A mouse; `current` is the one that is moved."""

    name: str
    index: int
    current: bool
    absolute: bool


@command("query-mice")
def query_mice(vm: VirtualMachine) -> list[MouseInfo]:
    """The mice of the machine, by what they are; none of them has absolute axes."""
    found: list[Any] = list(pointers(vm))
    return [
        {"name": type(mouse).desc or mouse.type_name, "index": n, "current": n == 0, "absolute": False}
        for n, mouse in enumerate(found)
    ]
