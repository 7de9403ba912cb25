"""Interrupt lines, pins, and wired-OR."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qom.hw.irq import Line, Pin, SharedLine, or_line


def recorder() -> tuple[list[tuple[int, int]], Line]:
    seen: list[tuple[int, int]] = []
    return seen, Line(lambda n, level: seen.append((n, level)), 3, "test")


def test_line_passes_on_every_set() -> None:
    seen, line = recorder()
    line.raise_()
    line.set(1)
    line.lower()
    line.pulse()
    assert seen == [(3, 1), (3, 1), (3, 0), (3, 1), (3, 0)]
    assert line.level == 0


def test_pin_drives_nothing_until_connected_then_what_it_holds() -> None:
    seen, line = recorder()
    other_seen, other = recorder()
    pin = Pin("out")
    pin.raise_()
    assert pin.level == 1 and not pin.connected
    pin.connect(line)
    assert seen == [(3, 1)]
    pin.connect(other)
    assert seen == [(3, 1), (3, 0)] and other_seen == [(3, 1)]
    pin.lower()
    pin.connect(None)
    pin.pulse()
    assert other_seen == [(3, 1), (3, 0)]


def test_taken_back_input_releases_the_line_and_drives_nothing() -> None:
    seen, line = recorder()
    shared = or_line(line)
    a, b = shared.new_input(), shared.new_input()
    a.raise_()
    b.raise_()
    shared.release(a)
    assert shared.level == 1 and seen[-1] == (3, 1)
    shared.release(b)
    assert shared.level == 0 and seen[-1] == (3, 0)
    before = list(seen)
    a.raise_()
    shared.release(a)
    assert seen == before and shared.level == 0
    assert shared.new_input().n == 0


def test_shared_line_connects_late_and_moves() -> None:
    seen, line = recorder()
    shared = SharedLine()
    source = shared.new_input()
    source.raise_()
    shared.connect(line)
    assert seen == [(3, 1)]
    shared.connect(None)
    assert seen == [(3, 1), (3, 0)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=40))
def test_shared_line_is_the_or_of_its_inputs(changes: list[tuple[int, int]]) -> None:
    level = 0

    def receive(n: int, value: int) -> None:
        nonlocal level
        level = value

    shared = or_line(Line(receive))
    inputs = [shared.new_input() for _ in range(4)]
    held = [0] * 4
    for n, value in changes:
        inputs[n].set(value)
        held[n] = value
        assert level == shared.level == int(any(held))
