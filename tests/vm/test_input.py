"""Keys and pointers from outside: names, numbers, holding, queues, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qom.testing import QTest
from qom.vm import InputError, move_pointer, press_button, press_key, send_keys
from qom.vm.input import KEY_NAMES, KEY_NUMBERS, keyboards, pointers

MS = 1_000_000


@pytest.fixture
def q() -> Iterator[QTest]:
    with QTest("-M pc -m 16") as made:
        yield made


def pending(q: QTest) -> bytes:
    """What the keyboard controller has to read."""
    out = bytearray()
    while q.inb(0x64) & 1:
        out.append(q.inb(0x60))
    return bytes(out)


def test_numbers_and_names_go_together() -> None:
    assert set(KEY_NUMBERS.values()) < set(KEY_NAMES) and len(set(KEY_NAMES)) == len(KEY_NAMES) == 150
    assert (KEY_NUMBERS[0x1E], KEY_NUMBERS[0x9C], KEY_NUMBERS[0xC6], KEY_NUMBERS[0x54]) == (
        "a",
        "kp_enter",
        "pause",
        "sysrq",
    )


def test_keys_are_held_by_the_machines_clock_and_released_the_other_way_round(q: QTest) -> None:
    assert len(keyboards(q.vm)) == len(pointers(q.vm)) == 1
    send_keys(q.vm, ["ctrl", 0x2E], hold_ms=100)
    assert pending(q) == b"\x14" and not q.vm.input.idle  # scan code set 2: nobody has switched translation on
    q.clock_step(99 * MS)
    assert pending(q) == b""
    q.clock_step(1 * MS)
    assert pending(q) == b"\x21"
    q.clock_step(100 * MS)
    assert pending(q) == b"\xf0\x21"
    q.clock_step(100 * MS)
    assert pending(q) == b"\xf0\x14"
    q.clock_step(100 * MS)
    assert q.vm.input.idle


def test_what_is_sent_meanwhile_waits(q: QTest) -> None:
    send_keys(q.vm, ["a"])
    send_keys(q.vm, ["b"], hold_ms=0)
    press_key(q.vm, "c", True)
    assert pending(q) == b"\x1c"
    q.clock_step(1000 * MS)
    assert pending(q) == b"\xf0\x1c\x32\xf0\x32\x21"
    press_key(q.vm, "c", False)
    assert pending(q) == b"\xf0\x21"


def test_a_key_that_the_keyboard_has_not_sends_nothing(q: QTest) -> None:
    send_keys(q.vm, ["menu", "lang1", "unmapped", 0xFF, "copy"], hold_ms=0)
    assert pending(q) == b""


def test_the_mouse_moves_and_presses(q: QTest) -> None:
    for byte in (200, 100, 80):  # becomes one with a wheel
        for value in (0xF3, byte):
            q.outb(0x64, 0xD4)
            q.outb(0x60, value)
    q.outb(0x64, 0xD4)
    q.outb(0x60, 0xF4)
    pending(q)
    move_pointer(q.vm, 5, 7)
    assert pending(q) == b"\x28\x05\xf9\x00"
    press_button(q.vm, "right", True)
    press_button(q.vm, "wheel-up", True)
    press_button(q.vm, "wheel-up", False)
    press_button(q.vm, "right", False)
    press_button(q.vm, "wheel-left", True)
    assert pending(q) == b"\x0a\0\0\0" + b"\x0a\0\0\xff" + b"\x08\0\0\0"


def test_what_is_wrong_is_said(q: QTest) -> None:
    for call, text in (
        (lambda: send_keys(q.vm, ["rett"]), "no key is called 'rett'; did you mean 'ret'?"),
        (lambda: send_keys(q.vm, ["??"]), "no key is called '??': expected a name such as 'a', 'ret', 'shift_r'"),
        (lambda: send_keys(q.vm, [256]), "key number 256: expected 0 to 255"),
        (lambda: send_keys(q.vm, ["a"], hold_ms=-1), "keys cannot be held for -1 ms: expected 0 or more"),
        (lambda: press_button(q.vm, "lefty", True), "no button is called 'lefty'; did you mean 'left'?"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert str(error.value) == text
    assert pending(q) == b""


def test_a_machine_without_keyboard_and_mouse() -> None:
    with QTest("-M none") as q:
        with pytest.raises(InputError) as error:
            send_keys(q.vm, ["a"])
        assert str(error.value) == "this machine has no keyboard"
        with pytest.raises(InputError) as error:
            move_pointer(q.vm, 1, 1)
        assert str(error.value) == "this machine has no mouse"


def test_the_queue_outlives_a_reset(q: QTest) -> None:
    send_keys(q.vm, ["shift", "print"])
    pending(q)
    q.system_reset()
    q.clock_step(1000 * MS)
    assert pending(q) == b"\xe0\x12\xe0\x7c" + b"\xe0\xf0\x7c\xe0\xf0\x12" + b"\xf0\x12"
    assert q.vm.input.idle
