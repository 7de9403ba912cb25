"""Keys, pointer movements and buttons from outside, given to the input devices of a machine.

A device that takes keys implements `KeyboardInput`, one that takes movements `PointerInput`; `keyboards` and `pointers`
find them.  An event goes to the first device there is, as on a PC with one of each.

Keys have QEMU's names (its QKeyCode), `KEY_NAMES`; a keyboard ignores those that it has not.  A number in the place of a name
is a code of scan code set 1, with 80h added for a code behind the prefix E0h (`KEY_NUMBERS`).

`send_keys` types: it presses the keys one after another and releases them in reverse order, with `hold_ms` of guest time
after each; what is sent meanwhile waits for its turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from qom.errors import QomError, did_you_mean
from qom.registry import Interface, type_init

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = [
    "AXES",
    "BUTTONS",
    "KEY_NAMES",
    "KEY_NUMBERS",
    "InputError",
    "InputQueue",
    "KeyboardInput",
    "PointerInput",
    "keyboards",
    "move_pointer",
    "pointers",
    "press_button",
    "press_key",
    "send_keys",
]

KEY_NAMES: Final[tuple[str, ...]] = tuple(
    """
    unmapped shift shift_r alt alt_r ctrl ctrl_r menu esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab
    q w e r t y u i o p bracket_left bracket_right ret a s d f g h j k l semicolon apostrophe grave_accent backslash
    z x c v b n m comma dot slash asterisk spc caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock
    kp_divide kp_multiply kp_subtract kp_add kp_enter kp_decimal sysrq
    kp_0 kp_1 kp_2 kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9 less f11 f12 print home pgup pgdn end left up down right insert delete
    stop again props undo front copy open paste find cut lf help meta_l meta_r compose pause
    ro hiragana henkan yen muhenkan katakanahiragana kp_comma kp_equals power sleep wake
    audionext audioprev audiostop audioplay audiomute volumeup volumedown mediaselect mail calculator computer
    ac_home ac_back ac_forward ac_refresh ac_bookmarks lang1 lang2
    """.split()  # noqa: SIM905 -- a hundred and fifty quoted words are no better to read
)
"""The names that keys have, whatever the keyboard."""

_ROWS: Final = {  # by number, consecutive ones from the first on; "-" is none
    0x01: "esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p bracket_left bracket_right ret ctrl",
    0x1E: "a s d f g h j k l semicolon apostrophe grave_accent shift backslash z x c v b n m comma dot slash shift_r",
    0x37: "kp_multiply alt spc caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock kp_7 kp_8 kp_9 kp_subtract",
    0x4B: "kp_4 kp_5 kp_6 kp_add kp_1 kp_2 kp_3 kp_0 kp_decimal sysrq - less f11 f12 kp_equals",
    0x70: "katakanahiragana - - ro - - - hiragana - henkan - muhenkan - yen kp_comma",
    0x90: "audioprev - - - - - - - - audionext - - kp_enter ctrl_r - - audiomute calculator audioplay - audiostop",
    0xAE: "volumedown - volumeup - ac_home - - kp_divide - print alt_r",
    0xC6: "pause home up pgup - left - right - end down pgdn insert delete",
    0xDB: "meta_l meta_r compose power sleep - - - wake - - ac_bookmarks ac_refresh stop ac_forward ac_back",
    0xEB: "computer mail mediaselect",
}
KEY_NUMBERS: Final[dict[int, str]] = {
    first + n: name for first, row in _ROWS.items() for n, name in enumerate(row.split()) if name != "-"
}
"""The key that a number means."""

BUTTONS: Final = ("left", "middle", "right", "wheel-up", "wheel-down", "side", "extra", "wheel-left", "wheel-right")
"""What a pointer has to press; a wheel's buttons are pressed by turning it a notch."""

AXES: Final = ("x", "y")

HOLD_MS: Final = 100
NS_PER_MS: Final = 1_000_000


class InputError(QomError):
    """A key, button or axis that there is not, or no device that would take it."""


@type_init("keyboard-input")
class KeyboardInput(Interface):
    """A device that takes keys.  Its class says `listed_as = "keyboard-input"`, so that it is found without a search."""

    def key(self, name: str, down: bool) -> None:
        """The key `name` (one of `KEY_NAMES`) is pressed or released; the machine lock is held."""
        raise NotImplementedError


@type_init("pointer-input")
class PointerInput(Interface):
    """A device that takes movements and buttons.  Its class says `listed_as = "pointer-input"`."""

    def pointer(self, dx: int, dy: int) -> None:
        """It is moved by so many steps to the right and downwards; the machine lock is held."""
        raise NotImplementedError

    def button(self, name: str, down: bool) -> None:
        """The button `name` (one of `BUTTONS`) is pressed or released; the machine lock is held."""
        raise NotImplementedError


def keyboards(vm: VirtualMachine) -> list[KeyboardInput]:
    """The keyboards of a machine, in the order they came."""
    return vm.root.listed("keyboard-input")


def pointers(vm: VirtualMachine) -> list[PointerInput]:
    """The mice of a machine, in the order they came."""
    return vm.root.listed("pointer-input")


def key_name(key: str | int) -> str:
    """The name of a key given by name or number; "unmapped" for a number that no key has.

    Raises:
        InputError: there is no key of that name, or the number is none from 0 to 255.
    """
    if isinstance(key, int):
        if not 0 <= key <= 0xFF:
            raise InputError(f"key number {key}: expected 0 to 255")
        return KEY_NUMBERS.get(key, "unmapped")
    if key not in KEY_NAMES:
        near = did_you_mean(key, KEY_NAMES) or ": expected a name such as 'a', 'ret', 'shift_r'"
        raise InputError(f"no key is called {key!r}{near}")
    return key


class InputQueue:
    """Keys on their way to a machine: each is handed over when the one before it has been held long enough."""

    def __init__(self, vm: VirtualMachine) -> None:
        self._vm = vm
        self._waiting: deque[tuple[str, bool, int]] = deque()  # key, whether it goes down, ns to wait afterwards
        self._timer = vm.clock.timer(self._go_on, "input queue")
        self._busy = False  # something was handed over, and its time is not over yet

    @property
    def idle(self) -> bool:
        """Whether everything was handed over, and held."""
        return not self._busy

    def add(self, name: str, down: bool, then_ns: int) -> None:
        """Put an event at the end; the machine lock is held."""
        self._waiting.append((name, down, then_ns))
        if not self._busy:
            self._go_on()

    def _go_on(self) -> None:
        self._busy = False
        while self._waiting:
            name, down, then_ns = self._waiting.popleft()
            _press(self._vm, name, down)
            if then_ns:
                self._busy = True
                self._timer.arm(then_ns)
                return


def send_keys(vm: VirtualMachine, keys: Iterable[str | int], hold_ms: int = HOLD_MS) -> None:
    """Press keys one after another, then release them the other way round; returns at once.

    Args:
        vm: the machine.
        keys: names or numbers.
        hold_ms: milliseconds of guest time after each press and each release.

    Raises:
        InputError: there is no such key, no keyboard, or the time is negative.
    """
    names = [key_name(key) for key in keys]
    if hold_ms < 0:
        raise InputError(f"keys cannot be held for {hold_ms} ms: expected 0 or more")
    with vm.lock:
        _keyboard(vm)
        for name in names:
            vm.input.add(name, True, hold_ms * NS_PER_MS)
        for name in reversed(names):
            vm.input.add(name, False, hold_ms * NS_PER_MS)


def press_key(vm: VirtualMachine, key: str | int, down: bool) -> None:
    """Press or release one key, after what `send_keys` is still busy with.

    Raises:
        InputError: there is no such key, or no keyboard.
    """
    name = key_name(key)
    with vm.lock:
        _keyboard(vm)
        vm.input.add(name, down, 0)


def move_pointer(vm: VirtualMachine, dx: int, dy: int) -> None:
    """Move the mouse by so many steps to the right and downwards.

    Raises:
        InputError: there is no mouse.
    """
    with vm.lock:
        _pointer(vm).pointer(dx, dy)


def press_button(vm: VirtualMachine, name: str, down: bool) -> None:
    """Press or release a button of the mouse, or turn its wheel by a notch.

    Raises:
        InputError: there is no such button, or no mouse.
    """
    if name not in BUTTONS:
        near = did_you_mean(name, BUTTONS) or f": expected one of {', '.join(BUTTONS)}"
        raise InputError(f"no button is called {name!r}{near}")
    with vm.lock:
        _pointer(vm).button(name, down)


def _press(vm: VirtualMachine, name: str, down: bool) -> None:
    there: Sequence[KeyboardInput] = keyboards(vm)
    if there and name != "unmapped":
        there[0].key(name, down)


def _keyboard(vm: VirtualMachine) -> KeyboardInput:
    there = keyboards(vm)
    if not there:
        raise InputError("this machine has no keyboard")
    return there[0]


def _pointer(vm: VirtualMachine) -> PointerInput:
    there = pointers(vm)
    if not there:
        raise InputError("this machine has no mouse")
    return there[0]
