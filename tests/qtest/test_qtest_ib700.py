"""The ib700 watchdog by the qtest protocol, with a clock that only the test moves."""

from __future__ import annotations

import random
import shutil
from typing import Any

import pytest

from qom.testing.qtest import QTest
from qom.vm.runstate import RunState

SECOND = 10**9
STOP, START = 0x441, 0x443


def fired(q: QTest) -> list[str]:
    """The actions of WATCHDOG events that the machine tells from now on."""
    told: list[str] = []

    def hear(name: str, data: dict[str, Any]) -> None:
        if name == "WATCHDOG":
            told.append(data["action"])

    q.vm.events.append(hear)
    return told


@pytest.mark.parametrize("code", range(16))
def test_the_time_of_each_code(code: int) -> None:
    with QTest("-device ib700 -action watchdog=none") as q:
        told = fired(q)
        q.outb(START, 0xA0 | code)  # the upper half does not count
        seconds = 30 - 2 * code
        if seconds:
            q.clock_step(seconds * SECOND - 1)
            assert not told
        q.clock_step(1)
        assert told == ["none"]
        q.clock_step(60 * SECOND)
        assert told == ["none"]  # it stands still until it is started again


def test_each_write_starts_it_anew() -> None:
    with QTest("-device ib700 -action watchdog=none") as q:
        told = fired(q)
        for _ in range(5):
            q.outb(START, 14)
            q.clock_step(2 * SECOND - 1)
        assert not told
        q.clock_step(1)
        assert told == ["none"]


@pytest.mark.parametrize("port", [STOP, STOP + 1])
@pytest.mark.parametrize("start", [START, START + 1])
def test_any_write_to_the_other_port_stops_it(port: int, start: int) -> None:
    with QTest("-device ib700 -action watchdog=none") as q:
        told = fired(q)
        q.outb(start, 14)
        q.clock_step(SECOND)
        q.outb(port, 0xFF)
        q.clock_step(60 * SECOND)
        assert not told


def test_a_reset_stops_it() -> None:
    with QTest("-device ib700 -action watchdog=none") as q:
        told = fired(q)
        q.outb(START, 14)
        q.system_reset()
        q.clock_step(60 * SECOND)
        assert not told


def test_a_word_is_two_writes() -> None:
    with QTest("-device ib700 -action watchdog=none") as q:
        told = fired(q)
        q.outw(START, 14 << 8)  # 30 seconds, and then 2
        q.clock_step(2 * SECOND)
        assert told == ["none"]


def test_what_it_does_is_the_machines_action() -> None:
    with QTest("-device ib700") as q:
        told = fired(q)
        resets: list[Any] = []
        q.vm.events.append(lambda name, data: resets.append(data["reason"]) if name == "RESET" else None)
        q.outb(START, 15)
        q.clock_step(0)
        assert (told, resets) == (["reset"], ["guest-reset"])
        q.vm.set_action(watchdog="pause")
        q.outb(START, 15)
        q.clock_step(0)
        assert told == ["reset", "pause"]
        assert q.vm.run_state is RunState.WATCHDOG


def test_it_ends_the_machine() -> None:
    with QTest("-device ib700 -watchdog-action poweroff -no-shutdown") as q:
        q.outb(START, 15)
        q.clock_step(0)
        assert q.wait() == 0


def test_its_state_holds_what_is_to_come() -> None:
    with QTest("-device ib700,id=dog -action watchdog=none") as q:
        told = fired(q)
        dog: Any = q.vm.root.resolve("/machine/peripheral/dog")
        q.outb(START, 14)
        running = dog.save_state()
        q.outb(STOP, 0)
        stopped = dog.save_state()
        dog.load_state(running)
        q.clock_step(2 * SECOND)
        assert told == ["none"]
        dog.load_state(running)
        dog.load_state(stopped)
        q.clock_step(60 * SECOND)
        assert told == ["none"]


def test_the_ports_read_as_qemus() -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed: no oracle to compare with")
    lines = [f"in{w} {port:#x}" for w in "bwl" for port in range(0x43E, 0x448)]
    with QTest("-device ib700") as ours, QTest("-device ib700", program="qemu-system-x86_64") as theirs:
        for q in (ours, theirs):
            for port in (START, STOP):
                q.outb(port, 0)
        values = [[int(q.command(*line.split()), 0) for line in lines] for q in (ours, theirs)]
        assert values[0] == values[1]


def test_random_writes_agree_with_a_plain_model() -> None:
    words = random.Random(700)
    with QTest("-device ib700 -action watchdog=none") as q:
        told = fired(q)
        now, ends, count = 0, None, 0
        for _ in range(2000):
            what = words.random()
            if what < 0.4:
                code = words.randrange(256)
                q.outb(words.choice((START, START + 1)), code)
                ends = now + (15 - (code & 15)) * 2 * SECOND
            elif what < 0.5:
                q.outb(words.choice((STOP, STOP + 1)), words.randrange(256))
                ends = None
            else:
                now += (step := words.choice((1, SECOND, 2 * SECOND, 2 * SECOND - 1, words.randrange(20 * SECOND))))
                q.clock_step(step)
            if what >= 0.5 and ends is not None and ends <= now:
                ends, count = None, count + 1
            if ends is None or ends > now:
                assert len(told) == count
