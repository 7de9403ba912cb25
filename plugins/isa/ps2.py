"""PS/2 keyboard and mouse, as the keyboard controller sees them: bytes in, bytes out.

Modelled: every host command with its answers, identification, scan code sets 1 and 2, LEDs, the IntelliMouse protocols
(wheel, five buttons), stream, remote and wrap mode.
Not modelled: typematic repeat, scan code set 3 (it can be selected, set 2 is sent), time on the wire: answers are there
at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from qom import state, type_init
from qom.hw import Device
from qom.vm import KEY_NUMBERS, KeyboardInput, PointerInput

ACK, RESEND, TEST_PASSED, ECHO = 0xFA, 0xFE, 0xAA, 0xEE
QUEUE_MAX = 16  # bytes of input; answers to commands always fit

# Commands; LEDs, scan code set, sample rate and resolution are followed by one argument byte.
RESET, RESEND_LAST, SET_DEFAULTS, DISABLE, ENABLE, IDENTIFY = 0xFF, 0xFE, 0xF6, 0xF5, 0xF4, 0xF2
SET_RATE = 0xF3  # keyboard: typematic; mouse: samples per second
KEYBOARD_ECHO, SCAN_CODE_SET, SET_LEDS = 0xEE, 0xF0, 0xED
KEY_TYPES_ALL, KEY_TYPES_ONE = (0xF7, 0xF8, 0xF9, 0xFA), (0xFB, 0xFC, 0xFD)
REMOTE_MODE, WRAP_MODE, RESET_WRAP, READ_DATA = 0xF0, 0xEE, 0xEC, 0xEB
STREAM_MODE, STATUS_REQUEST, SET_RESOLUTION, SCALING_2, SCALING_1 = 0xEA, 0xE9, 0xE8, 0xE7, 0xE6

BUTTON_BITS: Final = {"left": 0x01, "right": 0x02, "middle": 0x04, "side": 0x08, "extra": 0x10}
WHEEL: Final = {"wheel-up": -1, "wheel-down": 1}

KEYBOARD_ID = (0xAB, 0x83)
PLAIN_MOUSE, WHEEL_MOUSE, FIVE_BUTTONS = 0, 3, 4
WHEEL_KNOCK, FIVE_KNOCK = [200, 100, 80], [200, 200, 80]  # sample rates that switch the protocol
BREAK, EXTENDED = 0xF0, 0xE0

# Scan code set 2 to set 1, as the keyboard controller translates: index is the set 2 code.
TRANSLATION: Final = bytes.fromhex(
    "ff43413f3d3b3c58644442403e0f2959"
    "65382a701d10025a66712c1f1e11035b"
    "672e2d201205045c68392f211413065d"
    "693130232215075e6a7232241608095f"
    "6b332517180b0a606c34352627190c61"
    "6d7328741a0d626e3a361c1b752b6376"
    "55567778797a0e7b7c4f7d4b477e7f6f"
    "5253504c4d480145574e514a37494654"
)
TRANSLATION_HIGH: Final = {0x83: 0x41, 0x84: 0x54}

KEYS: Final[dict[str, int]] = {name: n if n < 0x80 else 0xE000 | n & 0x7F for n, name in KEY_NUMBERS.items()}
"""Keys by name: scan code set 1, E0xxh for those with a prefix."""
KEYS["asterisk"] = KEYS["kp_multiply"]
KEYS["sysrq"] = KEYS["print"]  # one key, whose other code is sent while Alt is held
SYSRQ, BREAK_KEY, FAKE_SHIFT = 0x54, 0xE046, 0xE02A  # print with Alt; pause with Ctrl; print without either
PAUSE: Final = {1: (0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5), 2: (0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77)}
MODIFIERS: Final = {"alt": 0x01, "alt_r": 0x02, "ctrl": 0x04, "ctrl_r": 0x08, "shift": 0x10, "shift_r": 0x20}
ALT, CTRL = 0x03, 0x0C
_SET_2: Final = {**{code: at for at, code in enumerate(TRANSLATION)}, 0x41: 0x83, SYSRQ: 0x84}


class Ps2Device(Device):
    """A device on one of the two ports of a keyboard controller.

    The controller hands it `notify`, to be called when there is something to read, and `touched`, when somebody uses it.
    """

    queue: list[int] = state(factory=list, desc="Bytes on their way to the host")
    argument_of: int = state(desc="Command whose argument comes next, or 0")
    last: int = state(desc="Byte sent last, for RESEND")
    enabled: bool = state(reset=True, desc="Whether input is reported")

    user_creatable = False
    notify: Callable[[], None] = staticmethod(lambda: None)
    touched: Callable[[], None] = staticmethod(lambda: None)

    def read(self) -> int:
        """Take the next byte; only when there is one."""
        self.last = self.queue.pop(0)
        return self.last

    def write(self, value: int) -> None:
        """A byte from the host; it makes the device forget what it had to send."""
        self.queue.clear()
        command, self.argument_of = self.argument_of, 0
        self.obey(command, value)
        if self.queue:
            self.notify()

    def obey(self, command: int, value: int) -> None:
        """Act on a byte: the argument of `command` unless that is 0."""
        raise NotImplementedError

    def answer(self, *values: int) -> None:
        """Put bytes on their way."""
        self.queue += values

    def report(self, values: list[int]) -> None:
        """Put input on its way, unless it is off or too much is waiting already."""
        self.touched()
        if self.enabled and len(self.queue) + len(values) <= QUEUE_MAX:
            self.queue += values
            self.notify()


@type_init("ps2-kbd")
class Ps2Keyboard(Ps2Device, KeyboardInput):
    """An MF2 keyboard."""

    listed_as = "keyboard-input"

    scan_code_set: int = state(reset=2)
    leds: int = state(desc="Bit 0 scroll lock, 1 num lock, 2 caps lock")
    rate: int = state(reset=0x2B, desc="Typematic rate and delay")
    modifiers: int = state(desc="Modifiers held: 0 and 1 Alt, 2 and 3 Ctrl, 4 and 5 Shift")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "PS/2 keyboard", "input"

    def key(self, name: str, down: bool) -> None:
        """A key is pressed or released; names as in `KEYS`, others are on no such keyboard."""
        modifier = MODIFIERS.get(name, 0)
        self.modifiers = self.modifiers | modifier if down else self.modifiers & ~modifier
        if name == "pause" and not self.modifiers & CTRL:
            if down:  # all of it at once, and nothing when it is released
                self.report([*PAUSE[1 if self.scan_code_set == 1 else 2]])
            return
        code = KEYS.get(name)
        if code is not None:
            self.report([byte for change in self._changes(name, code, down) for byte in self._encoded(*change)])

    def _changes(self, name: str, code: int, down: bool) -> list[tuple[int, bool]]:
        """What is sent for a key, as codes of set 1 that go down or up: some keys pretend that others move."""
        if name == "pause":
            return [(BREAK_KEY, True), (BREAK_KEY, False)] if down else []
        if code == KEYS["print"]:
            if self.modifiers & ALT:
                alt = KEYS["alt" if self.modifiers & MODIFIERS["alt"] else "alt_r"]
                again = [(alt, False), (alt, True)]
                return [*again, (SYSRQ, True)] if down else [(SYSRQ, False), *again]
            if not self.modifiers:
                return [(FAKE_SHIFT, True), (code, True)] if down else [(code, False), (FAKE_SHIFT, False)]
        return [(code, down)]

    def _encoded(self, code: int, down: bool) -> list[int]:
        prefix = [EXTENDED] if code > 0xFF else []
        code &= 0xFF
        if self.scan_code_set == 1:
            return [*prefix, code if down else code | 0x80]
        return [*prefix, *([] if down else [BREAK]), _SET_2[code]]

    def obey(self, command: int, value: int) -> None:
        """See `Ps2Device`."""
        if command == SET_LEDS:
            self.leds = value & 7
            self.answer(ACK)
        elif command == SET_RATE:
            self.rate = value & 0x7F
            self.answer(ACK)
        elif command == SCAN_CODE_SET:
            if value == 0:
                self.answer(ACK, self.scan_code_set)
            elif value <= 3:
                self.scan_code_set = value
                self.answer(ACK)
            else:
                self.answer(RESEND)
        elif command in KEY_TYPES_ONE:
            self.answer(ACK)
        elif value in (SET_LEDS, SET_RATE, SCAN_CODE_SET, *KEY_TYPES_ONE):
            self.argument_of = value
            self.answer(ACK)
        elif value == KEYBOARD_ECHO:
            self.answer(ECHO)
        elif value == IDENTIFY:
            self.answer(ACK, *KEYBOARD_ID)
        elif value in (ENABLE, DISABLE, SET_DEFAULTS, RESET):
            if value != ENABLE:
                self.scan_code_set, self.rate = 2, 0x2B
            if value == RESET:
                self.leds = 0
            self.enabled = value != DISABLE
            self.answer(*((ACK, TEST_PASSED) if value == RESET else (ACK,)))
        elif value in KEY_TYPES_ALL:
            self.answer(ACK)
        elif value == RESEND_LAST:
            self.answer(self.last)
        else:
            self.answer(RESEND)


@type_init("ps2-mouse")
class Ps2Mouse(Ps2Device, PointerInput):
    """A mouse with three buttons that can become one with a wheel, and with five."""

    listed_as = "pointer-input"

    enabled: bool = state(reset=False, desc="Whether input is reported")
    kind: int = state(reset=PLAIN_MOUSE, desc="Protocol, as identified")
    rate: int = state(reset=100, desc="Samples per second")
    rates: list[int] = state(factory=list, desc="The last three rates set")
    resolution: int = state(reset=2, desc="1, 2, 4 or 8 counts per mm, as 0..3")
    doubled: bool = state(reset=False, desc="Scaling 2:1")
    remote: bool = state(reset=False)
    wrap: bool = state(reset=False)
    dx: int = state()
    dy: int = state()
    dz: int = state()
    buttons: int = state(desc="Bit 0 left, 1 right, 2 middle, 3 and 4 side")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "PS/2 mouse", "input"

    def move(self, dx: int, dy: int, dz: int = 0, buttons: int | None = None) -> None:
        """The mouse moves: right, up and wheel towards the user are positive; buttons as in the state field."""
        self.dx += dx
        self.dy += dy
        self.dz += dz
        if buttons is not None:
            self.buttons = buttons
        if not self.remote and not self.wrap and self.enabled:
            self.report(self._packet())

    def pointer(self, dx: int, dy: int) -> None:
        """It is moved to the right and downwards."""
        self.move(dx, -dy)

    def button(self, name: str, down: bool) -> None:
        """A button changes, or the wheel turns by a notch; a wheel that tilts is on no such mouse."""
        if name in WHEEL:
            if down:
                self.move(0, 0, WHEEL[name])
        elif name in BUTTON_BITS:
            bit = BUTTON_BITS[name]
            self.move(0, 0, 0, self.buttons | bit if down else self.buttons & ~bit)

    def obey(self, command: int, value: int) -> None:
        """See `Ps2Device`."""
        if command == 0 and value not in (RESEND_LAST, READ_DATA):
            self.dx = self.dy = self.dz = 0  # every other command starts the counting anew
        if command == SET_RATE:
            self._set_rate(value)
        elif command == SET_RESOLUTION:
            self.resolution = value & 3
            self.answer(ACK)
        elif self.wrap and value not in (RESET, RESET_WRAP):
            self.answer(value)
        elif value in (SET_RATE, SET_RESOLUTION):
            self.argument_of = value
            self.answer(ACK)
        elif value in (SCALING_1, SCALING_2):
            self.doubled = value == SCALING_2
            self.answer(ACK)
        elif value in (REMOTE_MODE, STREAM_MODE):
            self.remote = value == REMOTE_MODE
            self.answer(ACK)
        elif value in (WRAP_MODE, RESET_WRAP):
            self.wrap = value == WRAP_MODE
            self.answer(ACK)
        elif value == IDENTIFY:
            self.answer(ACK, self.kind)
        elif value == STATUS_REQUEST:
            modes = (0x40 if self.remote else 0) | (0x20 if self.enabled else 0) | (0x10 if self.doubled else 0)
            pressed = (self.buttons & 1) << 2 | (self.buttons & 2) >> 1 | (self.buttons & 4) >> 1
            self.answer(ACK, modes | pressed, self.resolution, self.rate)
        elif value == READ_DATA:
            self.answer(ACK, *self._packet())
        elif value in (ENABLE, DISABLE):
            self.enabled = value == ENABLE
            self.answer(ACK)
        elif value in (SET_DEFAULTS, RESET):
            self.rate, self.resolution, self.doubled = 100, 2, False
            self.enabled = self.remote = self.wrap = False
            self.answer(ACK)
            if value == RESET:
                self.kind = PLAIN_MOUSE
                self.rates = []
                self.answer(TEST_PASSED, self.kind)
        elif value == RESEND_LAST:
            self.answer(self.last)
        else:
            self.answer(RESEND)

    def _set_rate(self, value: int) -> None:
        self.rate = value
        self.rates = [*self.rates, value][-3:]
        if self.rates == WHEEL_KNOCK:
            self.kind = WHEEL_MOUSE
        elif self.rates == FIVE_KNOCK:
            self.kind = FIVE_BUTTONS
        self.answer(ACK)

    def _packet(self) -> list[int]:
        """What has happened since the last packet, as far as one packet can say it."""
        dx, dy = max(-256, min(255, self.dx)), max(-256, min(255, self.dy))
        self.dx -= dx
        self.dy -= dy
        first = 0x08 | self.buttons & 7 | (0x10 if dx < 0 else 0) | (0x20 if dy < 0 else 0)
        packet = [first, dx & 0xFF, dy & 0xFF]
        if self.kind != PLAIN_MOUSE:
            low, high = (-128, 127) if self.kind == WHEEL_MOUSE else (-8, 7)
            dz = max(low, min(high, self.dz))
            self.dz -= dz
            packet.append(dz & 0xFF if self.kind == WHEEL_MOUSE else dz & 0xF | (self.buttons & 0x18) << 1)
        else:
            self.dz = 0
        return packet
