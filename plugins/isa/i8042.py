"""Intel 8042 as a PC's keyboard controller, with a PS/2 keyboard and mouse on its ports.

Modelled: the controller's commands, command byte, output port with A20 and CPU reset, translation of scan code set 2 to 1,
IRQ 1 and 12, disabling either port.
Not modelled: passwords (there is none), the input port's jumpers, time on the wire, controller RAM beyond the command byte.
Guest view: data at `iobase` (60h), status and commands at `iobase` + 4; outputs `a20`; the reset line asks the machine.

A byte stays in the output buffer until it is read; then comes, in this order, the controller's answer, the keyboard, the
mouse.  Reads of an empty buffer give the byte read last.
"""

from __future__ import annotations

from plugins.isa.ps2 import BREAK, TRANSLATION, TRANSLATION_HIGH, Ps2Keyboard, Ps2Mouse
from qom import child, prop, state, type_init
from qom.hw import IsaDevice, Region, WakeReason

OBF, SYS, COMMAND_LAST, UNLOCKED, AUX_OBF = 0x01, 0x04, 0x08, 0x10, 0x20  # status register

READ_MODE, WRITE_MODE = 0x20, 0x60  # commands
PASSWORD_TEST, AUX_OFF, AUX_ON, AUX_TEST, SELF_TEST, KEYBOARD_TEST = 0xA4, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB
KEYBOARD_OFF, KEYBOARD_ON, READ_INPUT, READ_OUTPUT, WRITE_OUTPUT = 0xAD, 0xAE, 0xC0, 0xD0, 0xD1
WRITE_KEYBOARD_BUFFER, WRITE_AUX_BUFFER, WRITE_AUX = 0xD2, 0xD3, 0xD4
A20_OFF, A20_ON, PULSE = 0xDD, 0xDF, 0xF0
SELF_TEST_PASSED, PORT_TEST_PASSED, NO_PASSWORD, INPUT_PORT = 0x55, 0x00, 0xF1, 0x80

KEYBOARD_INT, AUX_INT, MODE_SYS, KEYBOARD_DISABLED, AUX_DISABLED, TRANSLATE = 0x01, 0x02, 0x04, 0x10, 0x20, 0x40

OUT_RESET, OUT_A20, OUT_OBF, OUT_AUX_OBF, OUT_HIGH = (
    0x01,
    0x02,
    0x10,
    0x20,
    0xCC,
)  # output port; OUT_RESET is active low


@type_init("i8042")
class I8042(IsaDevice):
    """The keyboard controller."""

    iobase: int = prop(0x60, "I/O port of the data register", type="uint16", base=16)
    kbd_irq: int = prop(1, "ISA interrupt line of the keyboard", type="uint8", max=15)
    mouse_irq: int = prop(12, "ISA interrupt line of the mouse", type="uint8", max=15)
    keyboard: Ps2Keyboard = child("ps2-kbd", "Keyboard on the first port")
    mouse: Ps2Mouse = child("ps2-mouse", "Mouse on the second port")

    status: int = state(reset=UNLOCKED)
    mode: int = state(reset=KEYBOARD_INT | AUX_INT, desc="Command byte")
    output: int = state(reset=OUT_RESET | OUT_A20 | OUT_HIGH, desc="Output port")
    buffer: int = state(desc="Output buffer")
    argument_of: int = state(desc="Command whose argument comes to the data port, or 0")
    answer: int = state(reset=-1, desc="Answer waiting for the output buffer, or -1")
    answer_is_aux: bool = state(reset=False)
    breaking: bool = state(reset=False, desc="Translation has seen the prefix of a released key")

    @classmethod
    def class_init(cls) -> None:
        """Class facts."""
        cls.desc, cls.category = "8042 keyboard controller with keyboard and mouse", "input"

    def instance_init(self) -> None:
        """Declare the line."""
        self._a20 = self.gpio_out("a20")[0]

    def realize(self) -> None:
        """Take ports and lines; switch the devices on."""
        self._irq1, self._irq12 = self.isa.irq(self.kbd_irq), self.isa.irq(self.mouse_irq)
        for device in (self.keyboard, self.mouse):
            device.notify = self._fill
            device.touched = self._touched
            device.set("realized", True)
        self.isa.map_ports(self.iobase, Region("i8042-data", 1, self._read_data, self._write_data, (1, 1)))
        self.isa.map_ports(self.iobase + 4, Region("i8042-cmd", 1, self._read_status, self._write_command, (1, 1)))

    def reset(self) -> None:
        """Empty; A20 open."""
        super().reset()
        self._irq1.lower()
        self._irq12.lower()
        self._a20.set(1)

    def state_loaded(self) -> None:
        """The lines follow the registers."""
        self._update_irqs()
        self._a20.set(1 if self.output & OUT_A20 else 0)

    def _touched(self) -> None:
        """A key, the mouse or a button moves: a suspended machine wakes."""
        self.system.wake(WakeReason.OTHER)

    # -- the output buffer

    def _fill(self) -> None:
        """Put the next byte into the output buffer, if that is empty."""
        if self.status & OBF:
            return
        if self.answer >= 0:
            value, self.answer = self.answer, -1
            aux = self.answer_is_aux
        elif self.keyboard.queue and not self.mode & KEYBOARD_DISABLED:
            value, aux = self.keyboard.read(), False
            if self.mode & TRANSLATE:
                translated = self._translate(value)
                if translated is None:
                    self._fill()
                    return
                value = translated
        elif self.mouse.queue and not self.mode & AUX_DISABLED:
            value, aux = self.mouse.read(), True
        else:
            return
        self.buffer = value
        self.status |= OBF | AUX_OBF if aux else OBF
        self.output |= OUT_AUX_OBF if aux else OUT_OBF
        self._update_irqs()

    def _translate(self, value: int) -> int | None:
        """Scan code set 2 to set 1; None: more must come."""
        if value == BREAK:
            self.breaking = True
            return None
        value = TRANSLATION[value] if value < len(TRANSLATION) else TRANSLATION_HIGH.get(value, value)
        if self.breaking:
            self.breaking = False
            value |= 0x80
        return value

    def _update_irqs(self) -> None:
        full, aux = self.status & OBF, self.status & AUX_OBF
        self._irq1.set(1 if full and not aux and self.mode & KEYBOARD_INT else 0)
        self._irq12.set(1 if full and aux and self.mode & AUX_INT else 0)

    def _reply(self, value: int, aux: bool = False) -> None:
        self.answer, self.answer_is_aux = value, aux
        self._fill()

    # -- ports

    def _read_data(self, offset: int, size: int) -> int:
        value = self.buffer
        if self.status & OBF:
            self.status &= ~(OBF | AUX_OBF)
            self.output &= ~(OUT_OBF | OUT_AUX_OBF)
            self._update_irqs()
            self._fill()
        return value

    def _read_status(self, offset: int, size: int) -> int:
        return self.status

    def _write_data(self, offset: int, value: int, size: int) -> None:
        command, self.argument_of = self.argument_of, 0
        self.status &= ~COMMAND_LAST
        if command == 0:
            self.mode &= ~KEYBOARD_DISABLED  # to talk to it, the controller releases its clock
            self.keyboard.write(value)
        elif command == WRITE_MODE:
            self.mode = value
            self.status = self.status | SYS if value & MODE_SYS else self.status & ~SYS
            self._update_irqs()
        elif command == WRITE_OUTPUT:
            self._set_output(value)
        elif command == WRITE_KEYBOARD_BUFFER:
            self._reply(value)
        elif command == WRITE_AUX_BUFFER:
            self._reply(value, aux=True)
        elif command == WRITE_AUX:
            self.mode &= ~AUX_DISABLED
            self.mouse.write(value)
        self._fill()

    def _write_command(self, offset: int, value: int, size: int) -> None:
        self.status |= COMMAND_LAST
        self.argument_of = 0
        if value in (WRITE_MODE, WRITE_OUTPUT, WRITE_KEYBOARD_BUFFER, WRITE_AUX_BUFFER, WRITE_AUX):
            self.argument_of = value
        elif value == READ_MODE:
            self._reply(self.mode)
        elif value == SELF_TEST:
            self.status |= SYS
            self.mode |= MODE_SYS
            self._reply(SELF_TEST_PASSED)
        elif value in (KEYBOARD_TEST, AUX_TEST):
            self._reply(PORT_TEST_PASSED)
        elif value == PASSWORD_TEST:
            self._reply(NO_PASSWORD)
        elif value == KEYBOARD_OFF:
            self.mode |= KEYBOARD_DISABLED
        elif value == KEYBOARD_ON:
            self.mode &= ~KEYBOARD_DISABLED
        elif value == AUX_OFF:
            self.mode |= AUX_DISABLED
        elif value == AUX_ON:
            self.mode &= ~AUX_DISABLED
        elif value == READ_INPUT:
            self._reply(INPUT_PORT)
        elif value == READ_OUTPUT:
            self._reply(self.output)
        elif value in (A20_OFF, A20_ON):
            self._set_output(self.output & ~OUT_A20 if value == A20_OFF else self.output | OUT_A20)
        elif value & PULSE == PULSE:
            if not value & OUT_RESET:
                self.system.request_reset("i8042")
        else:
            self.guest_error(f"command-{value:02x}", f"keyboard controller command {value:#04x} is not known")
        self._fill()

    def _set_output(self, value: int) -> None:
        self.output = value
        self._a20.set(1 if value & OUT_A20 else 0)
        if not value & OUT_RESET:
            self.system.request_reset("i8042")
