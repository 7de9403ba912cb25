"""The main loop: file events, timers, calls from other threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from qom.hw.clock import RunningClock
from qom.vm.mainloop import MainLoop


class HostTime:
    """A host clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def errors() -> list[BaseException]:
    return []


@pytest.fixture
def loop(errors: list[BaseException]) -> Iterator[MainLoop]:
    loop = MainLoop(threading.RLock(), errors.append)
    yield loop
    loop.close()


def test_read_event_is_delivered_until_removed(loop: MainLoop) -> None:
    reader, writer = os.pipe()
    got: list[bytes] = []
    watch = loop.add_fd(reader, read=lambda: got.append(os.read(reader, 10)))
    os.write(writer, b"one")
    loop.run_once(0)
    watch.remove()
    os.write(writer, b"two")
    loop.run_once(0)
    assert got == [b"one"]
    os.close(reader)
    os.close(writer)


def test_write_interest_comes_and_goes(loop: MainLoop) -> None:
    reader, writer = os.pipe()
    count: list[int] = []
    watch = loop.add_fd(writer, write=lambda: count.append(1))
    loop.run_once(0)
    watch.update(None, None)
    loop.run_once(0)
    watch.update(None, lambda: count.append(2))
    loop.run_once(0)
    assert count == [1, 2]
    watch.remove()
    os.close(reader)
    os.close(writer)


def test_a_descriptor_closed_before_its_watch_is_removed_harms_nothing(loop: MainLoop) -> None:
    reader, writer = os.pipe()
    watch = loop.add_fd(reader, read=lambda: None)
    os.close(reader)
    watch.remove()
    os.close(writer)
    loop.run_once(0)


def test_regular_file_counts_as_ready(loop: MainLoop, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "input")
    with open(path, "wb") as file:
        file.write(b"abc")
    fd = os.open(path, os.O_RDONLY)
    got: list[bytes] = []
    watch = loop.add_fd(fd, read=lambda: got.append(os.read(fd, 2)))
    loop.run_once(0)
    loop.run_once(0)
    watch.remove()
    os.close(fd)
    assert got == [b"ab", b"c"]


def test_a_device_that_cannot_be_polled_counts_as_ready(loop: MainLoop) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    got: list[bytes] = []
    watch = loop.add_fd(fd, read=lambda: got.append(os.read(fd, 2)))
    loop.run_once(0)
    watch.remove()
    loop.run_once(0)
    os.close(fd)
    assert got == [b""]


def test_calls_from_another_thread_run_with_the_lock_held() -> None:
    lock = threading.RLock()
    loop = MainLoop(lock, lambda error: pytest.fail(str(error)))
    seen: list[bool] = []

    def from_loop() -> None:
        other: list[bool] = []
        thread = threading.Thread(target=lambda: other.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        seen.extend(other)
        loop.quit()

    threading.Thread(target=loop.call_soon_threadsafe, args=(from_loop,)).start()
    loop.run()
    loop.close()
    assert seen == [False]  # another thread could not take the lock


def test_timers_fire_when_the_clock_reaches_them(loop: MainLoop) -> None:
    host = HostTime()
    clock = RunningClock(host)
    loop.set_clock(clock)
    fired: list[int] = []
    clock.timer(lambda: fired.append(clock.now())).arm(1000)
    loop.run_once(0)
    assert fired == []
    clock.start()
    host.now = 999
    loop.run_once(0)
    assert fired == []
    host.now = 1500
    loop.run_once(0)
    assert fired == [1500]


def test_an_earlier_deadline_ends_a_sleep() -> None:
    loop = MainLoop(threading.RLock(), lambda error: pytest.fail(str(error)))
    clock = RunningClock()
    loop.set_clock(clock)
    clock.start()
    clock.timer(lambda: None).arm(3600 * 10**9)
    thread = threading.Thread(target=loop.run)
    thread.start()
    clock.timer(loop.quit).arm(0)
    thread.join(timeout=30)
    assert not thread.is_alive()
    loop.close()


def test_an_exception_reaches_the_error_function_and_the_loop_lives(
    loop: MainLoop, errors: list[BaseException]
) -> None:
    loop.call_soon_threadsafe(lambda: 1 // 0)
    done: list[int] = []
    loop.call_soon_threadsafe(lambda: done.append(1))
    loop.run_once(0)
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert done == [1]


def test_later_calls_run_once_and_can_be_cancelled(loop: MainLoop) -> None:
    done: list[str] = []
    loop.call_later(0.0, lambda: done.append("now"))
    cancelled = loop.call_later(0.0, lambda: done.append("never"))
    cancelled.cancel()
    loop.call_later(3600.0, lambda: done.append("much later"))
    loop.run_once(0)
    loop.run_once(0)
    assert done == ["now"]


def test_a_timer_put_off_wakes_nobody(loop: MainLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a deadline before the end of the wait does; what comes while the loop is busy waits for its next look."""
    host = HostTime()
    monkeypatch.setattr("time.monotonic_ns", host)
    clock = RunningClock(host)
    clock.start()
    loop.set_clock(clock)
    woken: list[int] = []
    monkeypatch.setattr(loop, "wake", lambda: woken.append(host.now))
    timer = clock.timer(lambda: None)
    timer.arm(1_000)
    assert loop._wait_seconds(None) == 1e-6  # it sleeps from here on
    for later in (2_000, 5_000, 1_000):
        timer.arm(later)
    assert woken == []
    timer.arm(500)
    assert woken == [0]
    timer.arm(100)
    assert woken == [0]  # it is on its way
    host.now = 100
    loop.run_once(0)
    assert not timer.pending
    assert loop._wait_seconds(None) is None  # nothing to wait for
    timer.arm(1_000_000)
    assert woken == [0, 100]
