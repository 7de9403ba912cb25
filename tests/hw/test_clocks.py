"""Virtual clocks: order, re-arming, stopping, faults; a random schedule against a sorted list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qom.hw.clock import RunningClock, SteppedClock
from qom.hw.fault import DeviceFault


def test_timers_fire_at_their_deadline_in_order_and_once() -> None:
    clock = SteppedClock()
    fired: list[tuple[str, int]] = []

    def note(name: str) -> None:
        fired.append((name, clock.now()))

    timers = {name: clock.timer(lambda name=name: note(name)) for name in "abcd"}  # type: ignore[misc]
    timers["a"].arm(30)
    timers["b"].arm(10)
    timers["c"].arm(30)
    timers["d"].arm(20)
    timers["d"].cancel()
    assert clock.next_deadline() == 10
    assert clock.step(9) == 0
    assert clock.step(100) == 3
    assert fired == [("b", 10), ("a", 30), ("c", 30)]
    assert clock.now() == 109 and clock.next_deadline() is None
    assert not any(t.pending for t in timers.values())


def test_periodic_timer_sees_each_of_its_deadlines() -> None:
    clock = SteppedClock()
    seen: list[int] = []

    def tick() -> None:
        seen.append(clock.now())
        timer.arm_at(clock.now() + 7)

    timer = clock.timer(tick)
    timer.arm(7)
    assert clock.step(700) == 100
    assert seen == list(range(7, 701, 7))


def test_arming_again_replaces_the_deadline() -> None:
    clock = SteppedClock()
    fired: list[int] = []
    timer = clock.timer(lambda: fired.append(clock.now()))
    timer.arm(10)
    timer.arm(50)
    timer.arm(20)
    assert timer.deadline == 20
    clock.step(100)
    assert fired == [20]


def test_timer_that_rearms_itself_for_now_does_not_hang_the_machine() -> None:
    clock = SteppedClock()
    fired: list[int] = []

    def again() -> None:
        fired.append(clock.now())
        timer.arm(0)

    timer = clock.timer(again)
    timer.arm(-5)
    clock.step(1000)
    assert fired == [0]
    assert timer.pending
    clock.step(0)
    assert fired == [0, 1000]


def test_two_timers_at_one_instant_may_cancel_each_other() -> None:
    clock = SteppedClock()
    fired: list[str] = []
    second = clock.timer(lambda: fired.append("second"))
    first = clock.timer(lambda: (fired.append("first"), second.cancel()))  # type: ignore[arg-type, return-value]
    first.arm(5)
    second.arm(5)
    clock.step(10)
    assert fired == ["first"]


def test_clock_cannot_be_stepped_back() -> None:
    with pytest.raises(ValueError, match=r"^a clock cannot be stepped back \(by -1 ns\)$"):
        SteppedClock().step(-1)


def test_many_arms_keep_the_queue_small() -> None:
    clock = SteppedClock()
    timer = clock.timer(lambda: None)
    for n in range(10_000):
        timer.arm(n + 1)
    assert len(clock._heap) < 200


class Host:
    """A host clock that the test owns."""

    def __init__(self) -> None:
        self.ns = 5_000_000

    def __call__(self) -> int:
        return self.ns


def test_running_clock_stands_still_while_stopped() -> None:
    host = Host()
    clock = RunningClock(host)
    fired: list[int] = []
    timer = clock.timer(lambda: fired.append(clock.now()))
    timer.arm(1000)
    host.ns += 10_000
    assert (clock.now(), clock.next_deadline(), clock.run_due()) == (0, None, 0)
    clock.start()
    clock.start()
    host.ns += 400
    assert (clock.now(), clock.next_deadline(), clock.run_due()) == (400, 1000, 0)
    clock.stop()
    clock.stop()
    host.ns += 1_000_000
    assert (clock.now(), clock.run_due()) == (400, 0)
    clock.start()
    host.ns += 700
    assert clock.run_due() == 1
    assert fired == [1100]


def test_running_clock_can_be_put_to_a_saved_time() -> None:
    host = Host()
    clock = RunningClock(host)
    clock.set_now(777)
    assert clock.now() == 777
    clock.start()
    host.ns += 3
    assert clock.now() == 780
    clock.set_now(100)
    host.ns += 5
    assert clock.now() == 105


def test_late_periodic_timer_fires_once_a_call_and_catches_up() -> None:
    host = Host()
    clock = RunningClock(host)
    clock.start()
    due: list[int] = []

    def tick() -> None:
        due.append(clock.now())
        timer.arm_at(100 * (len(due) + 1))

    timer = clock.timer(tick)
    timer.arm_at(100)
    host.ns += 350
    calls = 0
    while (deadline := clock.next_deadline()) is not None and deadline <= clock.now():
        assert clock.run_due() == 1
        calls += 1
    assert calls == 3


def test_main_loop_is_told_only_of_a_new_earliest_deadline() -> None:
    clock = SteppedClock()
    told: list[int | None] = []
    clock.on_change = lambda: told.append(clock.next_deadline())
    early, late = clock.timer(lambda: None), clock.timer(lambda: late.arm(1))
    late.arm(100)
    early.arm(200)
    early.arm(50)
    assert told == [100, 50]
    clock.step(100)
    assert told == [100, 50], "who fires timers looks at the next deadline anyway"


def test_exception_in_a_timer_is_a_fault_that_names_its_owner() -> None:
    class Owner:
        path = "/machine/unattached/clumsy"

    def expire() -> None:
        raise ValueError("boom")

    clock = SteppedClock()
    clock.timer(expire, owner=Owner()).arm(1)
    clock.timer(expire, "alarm").arm(2)
    other = clock.timer(lambda: None)
    other.arm(3)
    with pytest.raises(
        DeviceFault, match=r"^/machine/unattached/clumsy: timer expire raised ValueError: boom, at .*py:184$"
    ):
        clock.step(5)
    with pytest.raises(DeviceFault, match=r"^alarm: timer alarm raised ValueError: boom, at .*test_clocks.py:184$"):
        clock.step(5)
    assert other.pending
    assert clock.step(5) == 1


def test_a_suspended_machine_has_the_timers_of_what_has_power() -> None:
    clock = SteppedClock()
    fired: list[tuple[str, int]] = []
    told: list[int | None] = []
    before = clock.timer(lambda: fired.append(("before", clock.now())))
    later = clock.timer(lambda: fired.append(("later", clock.now())))
    meanwhile = clock.timer(lambda: fired.append(("meanwhile", clock.now())))
    gone = clock.timer(lambda: fired.append(("gone", clock.now())))
    alarm = clock.timer(lambda: fired.append(("alarm", clock.now())), asleep=True)
    before.arm(10)
    later.arm(500)
    gone.arm(20)
    alarm.arm(50)
    clock.sleep()
    clock.sleep()
    meanwhile.arm(5)
    gone.cancel()
    assert clock.next_deadline() == 50
    assert clock.step(100) == 1
    alarm.arm(10)
    assert clock.step(100) == 1
    assert fired == [("alarm", 50), ("alarm", 110)]
    assert before.pending and meanwhile.pending
    clock.on_change = lambda: told.append(clock.next_deadline())
    clock.wake()
    clock.wake()
    assert told == [5]
    assert clock.run_due() == 2
    assert fired[2:] == [("meanwhile", 200), ("before", 200)]
    assert clock.step(300) == 1
    assert fired[4:] == [("later", 500)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["arm", "cancel", "step"]), st.integers(0, 4), st.integers(0, 50)), max_size=40)
)
def test_random_schedules_fire_as_a_sorted_list_says(script: list[tuple[str, int, int]]) -> None:
    clock = SteppedClock()
    fired: list[tuple[int, int]] = []
    timers = [clock.timer(lambda n=n: fired.append((clock.now(), n))) for n in range(5)]  # type: ignore[misc]
    model: dict[int, tuple[int, int]] = {}
    expected: list[tuple[int, int]] = []
    now = 0
    for serial, (what, n, amount) in enumerate(script):
        if what == "arm":
            timers[n].arm(amount)
            model[n] = (now + amount, serial)
        elif what == "cancel":
            timers[n].cancel()
            model.pop(n, None)
        else:
            clock.step(amount)
            for deadline, _, m in sorted((d, s, m) for m, (d, s) in model.items() if d <= now + amount):
                expected.append((deadline, m))
                del model[m]
            now += amount
        assert fired == expected
        assert clock.next_deadline() == min((d for d, _ in model.values()), default=None)
        assert [t.pending for t in timers] == [m in model for m in range(5)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0, 0, 1, 7, 13])), max_size=8),
    st.integers(0, 100),
    st.data(),
)
def test_a_step_in_parts_is_the_step(timers: list[tuple[int, int]], ns: int, data: st.DataObject) -> None:
    """Wherever it gives way: the same timers fire at the same instants in the same order, and the rest waits alike."""

    def run(pauses: bool) -> tuple[list[tuple[int, int]], int, list[int | None]]:
        clock, fired, made = SteppedClock(), [], []

        def new(number: int, first: int, every: int) -> None:
            def fire() -> None:
                fired.append((number, clock.now()))
                if len(fired) < 200:
                    timer.arm(every)  # 0: once more at this very instant, which waits

            timer = clock.timer(fire)
            timer.arm(first)
            made.append(timer)

        for number, (first, every) in enumerate(timers):
            new(number, first, every)
        if pauses:
            stops = iter(data.draw(st.lists(st.booleans(), max_size=40)))
            for _ in clock.stepping(ns, lambda: next(stops, False)):
                assert clock.now() <= ns
        else:
            clock.step(ns)
        clock.step(5)
        return fired, clock.now(), [timer.deadline for timer in made]

    assert run(True) == run(False)


def test_a_step_in_parts_takes_no_time_back() -> None:
    """Somebody else steps further while it gives way."""
    clock = SteppedClock()
    clock.timer(lambda: None).arm(50)
    parts = clock.stepping(100, lambda: clock.now() == 0)
    next(parts)
    clock.step(500)
    assert list(parts) == []
    assert clock.now() == 500


def test_a_step_that_is_given_up_leaves_the_clock_where_it_was() -> None:
    clock = SteppedClock()
    fired: list[int] = []
    timer = clock.timer(lambda: (fired.append(clock.now()), timer.arm(10)))  # type: ignore[func-returns-value]
    timer.arm(10)
    parts = clock.stepping(1000, lambda: len(fired) == 3)
    next(parts)
    parts.close()
    assert (clock.now(), fired) == (30, [10, 20, 30])
    clock.step(10)
    assert fired == [10, 20, 30, 40]
