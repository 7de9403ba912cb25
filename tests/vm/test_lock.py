"""The machine lock: an RLock that does not starve who waits."""

import threading

from qom.vm.lock import MachineLock

TIMEOUT = 20.0


def test_it_is_reentrant_and_belongs_to_a_thread() -> None:
    lock = MachineLock()
    with lock, lock:
        assert lock._is_owned()
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
        assert taken == [False]
    assert not lock._is_owned()


def test_acquire_with_timeout_gives_up() -> None:
    lock = MachineLock()
    with lock:
        taken: list[bool] = []
        thread = threading.Thread(target=lambda: taken.append(lock.acquire(timeout=0.01)))
        thread.start()
        thread.join()
    assert taken == [False]
    assert not lock.waiting


def test_fair_acquire_while_held_by_oneself_does_not_wait() -> None:
    lock = MachineLock()
    with lock:
        assert lock.acquire_fair()
        lock.release()
    assert not lock._is_owned()


def test_a_waiter_shows_and_goes_first() -> None:
    lock = MachineLock()
    order: list[str] = []
    waits = threading.Event()

    def wait() -> None:
        waits.set()
        with lock:
            order.append("waiter")

    lock.acquire()
    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(TIMEOUT)
    while not lock.waiting:
        pass
    lock.release()
    lock.acquire_fair()  # as the vCPU loop does when it sees `waiting`
    order.append("holder")
    lock.release()
    thread.join()
    assert order == ["waiter", "holder"]


def test_nobody_starves_beside_a_thread_that_hammers() -> None:
    lock = MachineLock()
    stop = False
    rounds = 0

    def hammer() -> None:
        nonlocal rounds
        while not stop:
            if lock.waiting:
                lock.acquire_fair()
            else:
                lock.acquire_now()
            rounds += 1
            lock.release()

    thread = threading.Thread(target=hammer)
    thread.start()
    for _ in range(500):
        with lock:
            before = rounds
            assert rounds == before
    stop = True
    thread.join(TIMEOUT)
    assert not thread.is_alive() and rounds > 0


def test_a_condition_over_it_releases_every_level() -> None:
    lock = MachineLock()
    condition = threading.Condition(lock)  # type: ignore[arg-type]
    ready = False

    def notify() -> None:
        nonlocal ready
        with condition:
            ready = True
            condition.notify_all()

    with lock, condition:
        thread = threading.Thread(target=notify)
        thread.start()
        assert condition.wait_for(lambda: ready, TIMEOUT)
        assert lock._is_owned()
    thread.join()
