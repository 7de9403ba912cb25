"""The 8042 keyboard controller (`i8042`) with its keyboard (`ps2-kbd`) and mouse (`ps2-mouse`).

Sources: IBM PS/2 Hardware Interface Technical Reference (1988), "Keyboard and Auxiliary Device Controller" (commands, status,
command byte) and "Keyboards (101- and 102-key)"; scan code translation: the same, set 2 to set 1.
"""

from __future__ import annotations

import pytest

from qom.testing import QTest

DATA, STATUS = 0x60, 0x64
OBF, SYS, COMMAND_LAST, AUX_OBF = 0x01, 0x04, 0x08, 0x20
KEYBOARD_IRQ, MOUSE_IRQ = 1, 12
ACK = 0xFA


def answers(q: QTest) -> list[int]:
    """Everything the output buffer has, one after the other."""
    found = []
    while q.inb(STATUS) & OBF and len(found) < 20:
        found.append(q.inb(DATA))
    return found


def controller(q: QTest, command: int, *data: int) -> list[int]:
    q.outb(STATUS, command)
    for value in data:
        q.outb(DATA, value)
    return answers(q)


def keyboard(q: QTest, *data: int) -> list[int]:
    found = []
    for value in data:
        q.outb(DATA, value)
        found += answers(q)
    return found


def mouse(q: QTest, *data: int) -> list[int]:
    found = []
    for value in data:
        found += controller(q, 0xD4, value)
    return found


@pytest.mark.parametrize(
    "command, answer",
    [(0xAA, 0x55), (0xAB, 0x00), (0xA9, 0x00), (0xC0, 0x80)],
    ids=["self", "keyboard", "mouse", "input"],
)
def test_tests_pass(either: QTest, command: int, answer: int) -> None:
    assert controller(either, command) == [answer]


def test_there_is_no_password(own: QTest) -> None:
    """A4h: F1h, none is installed.  QEMU does not know the command."""
    assert controller(own, 0xA4) == [0xF1]


def test_the_self_test_sets_the_system_flag(either: QTest) -> None:
    controller(either, 0xAA)
    assert either.inb(STATUS) & SYS


@pytest.mark.parametrize("mode", [0x00, 0x03, 0x65, 0x30, 0x47])
def test_the_command_byte_reads_back(either: QTest, mode: int) -> None:
    controller(either, 0x60, mode)
    assert controller(either, 0x20) == [mode]


def test_the_system_flag_is_the_one_of_the_command_byte(own: QTest) -> None:
    """QEMU's status shows the self test only."""
    for mode in (0x04, 0x00, 0x47):
        controller(own, 0x60, mode)
        assert bool(own.inb(STATUS) & SYS) == bool(mode & 0x04)


def test_ports_are_switched_off_and_on_in_the_command_byte(either: QTest) -> None:
    controller(either, 0x60, 0x00)
    for off, on, bit in ((0xAD, 0xAE, 0x10), (0xA7, 0xA8, 0x20)):
        controller(either, off)
        assert controller(either, 0x20)[0] & bit
        controller(either, on)
        assert not controller(either, 0x20)[0] & bit


def test_status_tells_command_from_data(either: QTest) -> None:
    either.outb(STATUS, 0xAE)
    assert either.inb(STATUS) & COMMAND_LAST


def test_a_written_buffer_byte_interrupts_as_that_device(either: QTest) -> None:
    """D2h and D3h: the byte comes back as if the keyboard, or the mouse, had sent it."""
    controller(either, 0x60, 0x03)
    either.outb(STATUS, 0xD2)
    either.outb(DATA, 0x5A)
    assert either.get_irq(KEYBOARD_IRQ) and not either.get_irq(MOUSE_IRQ)
    assert either.inb(STATUS) & (OBF | AUX_OBF) == OBF
    assert either.inb(DATA) == 0x5A
    assert not either.get_irq(KEYBOARD_IRQ)
    assert not either.inb(STATUS) & OBF
    either.outb(STATUS, 0xD3)
    either.outb(DATA, 0xA5)
    assert either.get_irq(MOUSE_IRQ) and not either.get_irq(KEYBOARD_IRQ)
    assert either.inb(STATUS) & (OBF | AUX_OBF) == OBF | AUX_OBF
    assert either.inb(DATA) == 0xA5
    assert not either.get_irq(MOUSE_IRQ)


def test_without_its_enable_nothing_interrupts(either: QTest) -> None:
    controller(either, 0x60, 0x00)
    either.irq_clear()
    for command in (0xD2, 0xD3):
        either.outb(STATUS, command)
        either.outb(DATA, 0x5A)
        assert either.inb(DATA) == 0x5A
    assert either.irq_raised(KEYBOARD_IRQ) == either.irq_raised(MOUSE_IRQ) == 0


def test_the_output_port_has_a20(either: QTest) -> None:
    """D0h reads, D1h writes it; bit 1 is A20, bit 0 the reset of the processor, active low."""
    assert controller(either, 0xD0)[0] & 0x03 == 0x03
    either.outb(STATUS, 0xD1)
    either.outb(DATA, 0xDD)
    assert controller(either, 0xD0)[0] & 0x02 == 0
    either.outb(STATUS, 0xDF)
    assert controller(either, 0xD0)[0] & 0x02 == 0x02


def test_the_keyboard_identifies_itself(either: QTest) -> None:
    """F2h: ABh 83h for an MF2 keyboard."""
    controller(either, 0x60, 0x00)
    assert keyboard(either, 0xF2) == [ACK, 0xAB, 0x83]
    assert keyboard(either, 0xEE) == [0xEE]
    assert keyboard(either, 0xFF) == [ACK, 0xAA]


def test_the_keyboard_takes_arguments(either: QTest) -> None:
    controller(either, 0x60, 0x00)
    assert keyboard(either, 0xED, 0x07) == [ACK, ACK]
    assert keyboard(either, 0xF3, 0x2B) == [ACK, ACK]
    assert keyboard(either, 0xF0, 0x02, 0xF0, 0x00) == [ACK, ACK, ACK, ACK, 0x02]


def test_an_answer_interrupts(either: QTest) -> None:
    controller(either, 0x60, 0x01)
    either.irq_clear()
    either.outb(DATA, 0xEE)
    assert either.get_irq(KEYBOARD_IRQ)
    assert either.inb(DATA) == 0xEE
    assert not either.get_irq(KEYBOARD_IRQ)


def test_unknown_keyboard_commands_ask_for_more(either: QTest) -> None:
    """FEh, resend."""
    controller(either, 0x60, 0x00)
    assert keyboard(either, 0xEF) == [0xFE]


def test_keys_come_in_the_set_that_is_asked_for(own: QTest) -> None:
    keys = own.machine.part("i8042/keyboard")
    controller(own, 0x60, 0x01)  # no translation: set 2
    with own.vm.lock:
        keys.key("a", True)
        keys.key("a", False)
    assert own.machine.part("pic") and answers(own) == [0x1C, 0xF0, 0x1C]
    controller(own, 0x60, 0x41)
    with own.vm.lock:
        keys.key("a", True)
        keys.key("a", False)
        keys.key("up", True)
    assert answers(own) == [0x1E, 0x9E, 0xE0, 0x48]


def test_a_switched_off_keyboard_keeps_its_keys(own: QTest) -> None:
    keys = own.machine.part("i8042/keyboard")
    controller(own, 0x60, 0x41)
    controller(own, 0xAD)
    with own.vm.lock:
        keys.key("esc", True)
    assert not own.inb(STATUS) & OBF
    own.outb(STATUS, 0xAE)
    assert answers(own) == [0x01]


def test_the_mouse_identifies_itself_and_becomes_one_with_a_wheel(either: QTest) -> None:
    controller(either, 0x60, 0x00)
    assert mouse(either, 0xFF) == [ACK, 0xAA, 0x00]
    assert mouse(either, 0xF2) == [ACK, 0x00]
    assert mouse(either, 0xE9)[:2] == [ACK, 0x00]
    assert mouse(either, 0xF3, 200, 0xF3, 100, 0xF3, 80) == [ACK] * 6
    assert mouse(either, 0xF2) == [ACK, 0x03]


def test_mouse_settings_show_in_its_status(either: QTest) -> None:
    controller(either, 0x60, 0x00)
    mouse(either, 0xFF)
    assert mouse(either, 0xE8, 0x03, 0xF3, 60, 0xE7) == [ACK] * 5
    assert mouse(either, 0xE9) == [ACK, 0x10, 0x03, 60]
    assert mouse(either, 0xF6) == [ACK]
    assert mouse(either, 0xE9) == [ACK, 0x00, 0x02, 100]


def test_the_mouse_reports_movement_when_it_is_enabled(own: QTest) -> None:
    """What moved before it was enabled does not count: a command starts the counting anew."""
    device = own.machine.part("i8042/mouse")
    controller(own, 0x60, 0x02)
    with own.vm.lock:
        device.move(1, 1)
    assert not own.inb(STATUS) & OBF
    assert mouse(own, 0xFF, 0xF4) == [ACK, 0xAA, 0x00, ACK]
    own.irq_clear()
    with own.vm.lock:
        device.move(5, -3, buttons=1)
    own.send("endianness")
    assert own.get_irq(MOUSE_IRQ)
    assert own.inb(STATUS) & AUX_OBF
    assert answers(own) == [0x29, 0x05, 0xFD]
    assert not own.get_irq(MOUSE_IRQ)


def test_reset_empties_the_buffer_and_restores_the_defaults(either: QTest) -> None:
    controller(either, 0x60, 0x47)
    either.outb(STATUS, 0xD2)
    either.outb(DATA, 0x5A)
    either.system_reset()
    assert not either.inb(STATUS) & OBF
    assert not either.get_irq(KEYBOARD_IRQ)
    assert controller(either, 0x20) == [0x03]


def test_an_unknown_command_is_ignored_and_logged(own: QTest) -> None:
    assert controller(own, 0x99) == []
    assert list(own.vm.log_lines) == ["guest_errors: /machine/i8042: keyboard controller command 0x99 is not known"]
    controller(own, 0x99)
    assert len(own.vm.log_lines) == 1  # once a kind


def test_an_empty_buffer_gives_the_last_byte(own: QTest) -> None:
    controller(own, 0xD2, 0x5A)
    assert own.inb(DATA) == 0x5A


def test_a_wide_access_is_one_of_bytes(either: QTest) -> None:
    controller(either, 0x60, 0x00)
    either.outb(STATUS, 0xD2)
    either.outb(DATA, 0x5A)
    assert either.inw(DATA) & 0xFF == 0x5A
    assert not either.inb(STATUS) & OBF
