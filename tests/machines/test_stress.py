"""Lost wake-ups, dead-locks and leaks: whole machines and bare vCPUs under stop, cont, reset, requests and close.

The guest `smp_ring` sleeps in HLT on every processor and passes one interrupt round: whoever loses a wake-up stops it.
Amounts are bounded so that the file takes well under a minute; QOM_STRESS=n does n times as much.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pcs import ACCELERATORS, GUESTS, Pc, disk_words, need, need_seabios, pc

from plugins.firmware import DEMO_DISK
from qom.vm.runstate import RunState

sys.path.insert(0, str(Path(__file__).parents[1] / "accel"))
from accel_board import Board

STRESS = max(1, int(os.environ.get("QOM_STRESS", "1")))
PATIENCE = 60.0  # seconds until something that does not move counts as lost
TICKS, READY, HITS = 0x5F0, 0x5F4, 0x600  # counters of smp_ring


class Ring:
    """A PC that runs smp_ring."""

    def __init__(self, machine: Pc, processors: int) -> None:
        self.vm = machine.vm
        self.processors = processors
        self.memory = machine.vm.machine.system_bus.memory_space

    def count(self, address: int) -> int:
        with self.vm.lock:
            return self.memory.read(address, 4)

    def hits(self) -> list[int]:
        return [self.count(HITS + 4 * n) for n in range(self.processors)]

    def expect(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert self.vm.failure is None, self.vm.failure
            if time.monotonic() > deadline:
                pytest.fail(self.report())
            time.sleep(0.002)

    def expect_life(self, more: int = 20) -> None:
        """The ring goes round and the timer ticks."""
        self.expect(lambda: self.count(READY) == self.processors)
        hits, ticks = min(self.hits()), self.count(TICKS)
        self.expect(lambda: min(self.hits()) >= hits + more and self.count(TICKS) >= ticks + more)

    def report(self) -> str:
        cpus = [
            f"{cpu.index}: stop {cpu.stop}, stopped {cpu.stopped}, halted {cpu.halted}, sipi {cpu.waits_for_sipi}, "
            f"IF {cpu.interrupts_enabled}, request {cpu.interrupt_request}, "
            f"irr {cpu.apic.irr:x}, isr {cpu.apic.isr:x}, exits {cpu.vcpu.exit_counts()}"
            for cpu in self.vm.cpus
        ]  # type: ignore[attr-defined]
        counters = f"ready {self.count(READY)}, ticks {self.count(TICKS)}, hits {self.hits()}, {self.vm.run_state}"
        return "\n".join(["nothing moves any more", counters, *cpus])


@contextmanager
def ring(accel: str, processors: int, folder: Path) -> Iterator[Ring]:
    code = bytearray((GUESTS / "smp_ring.bin").read_bytes())
    code[509] = processors
    disk = folder / "ring.img"
    disk.write_bytes(bytes(code).ljust(64 * 512, b"\0"))
    with pc("-accel", need(accel), "-smp", str(processors), "-m", "16", *disk_words(disk)) as machine:
        yield Ring(machine, processors)


def together(*bodies: Callable[[], object]) -> None:
    """Run all at once, to their ends; what one raises is raised here."""
    errors: list[BaseException] = []

    def guarded(body: Callable[[], object]) -> None:
        try:
            body()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    stuck = [body.__name__ for body, thread in zip(bodies, threads, strict=True) if thread.is_alive()]
    assert not stuck, f"never came back: {stuck}"
    for error in errors:
        raise error


# -- whole machines


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_no_interrupt_is_lost(accel: str, tmp_path: Path) -> None:
    """Between processors that sleep, and from the main loop's timer to one that is just falling asleep."""
    with ring(accel, 4, tmp_path) as guest:
        guest.vm.start_loop()
        guest.vm.cont()
        guest.expect_life(500 * STRESS if accel == "simulated" else 100)


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_stop_and_cont_while_interrupts_fly(accel: str, tmp_path: Path) -> None:
    chance = random.Random(1)
    with ring(accel, 4, tmp_path) as guest:
        guest.vm.start_loop()
        guest.vm.cont()
        guest.expect_life()
        for _ in range(1500 * STRESS):
            guest.vm.stop()
            assert all(cpu.stopped and not cpu.vcpu.c.running for cpu in guest.vm.cpus)
            guest.vm.cont()
            if chance.random() < 0.3:
                time.sleep(chance.random() * 0.002)
        guest.expect_life()


def test_reset_stop_and_cont_from_several_threads(tmp_path: Path) -> None:
    """Whoever waits for the vCPUs to stand still does so although another one lets them run in between."""
    with ring("simulated", 2, tmp_path) as guest:
        vm = guest.vm
        vm.start_loop()
        vm.cont()

        def resets() -> None:
            for _ in range(100 * STRESS):
                vm.reset()

        def requests() -> None:
            for _ in range(100 * STRESS):
                vm.request_reset("host-test")
                time.sleep(0.0005)

        def stops() -> None:
            for _ in range(150 * STRESS):
                vm.stop()
                vm.cont()

        def stops_too() -> None:
            stops()

        together(resets, requests, stops, stops_too)
        with vm.lock:
            if vm.run_state is not RunState.RUNNING:
                vm.cont()
        guest.expect_life()
        vm.stop()
        assert all(cpu.stopped for cpu in vm.cpus)


def test_a_machine_that_was_stopped_stays_so_after_a_reset(tmp_path: Path) -> None:
    """The reset waits for the vCPUs when somebody stops the machine: it does not let it run on."""
    with ring("simulated", 1, tmp_path) as guest:
        vm = guest.vm
        vm.cont()
        with vm.lock:  # the vCPU is in the guest or waits for the lock: neither of the two is through at once
            resetting = threading.Thread(target=vm.reset)
            stopping = threading.Thread(target=vm.stop)
            resetting.start()
            stopping.start()
        resetting.join(PATIENCE)
        stopping.join(PATIENCE)
        assert not resetting.is_alive() and not stopping.is_alive()
        assert vm.run_state in (RunState.PAUSED, RunState.PRELAUNCH)  # whichever of the two came first
        assert all(cpu.stopped for cpu in vm.cpus)


def test_requests_from_everywhere_end_the_machine_once(tmp_path: Path) -> None:
    for _ in range(5 * STRESS):
        with ring("simulated", 2, tmp_path) as guest:
            vm = guest.vm
            ends: list[str] = []
            vm.events.append(lambda event, data, ends=ends: ends.append(event) if event == "SHUTDOWN" else None)
            vm.start_loop()
            vm.cont()
            together(*[lambda vm=vm: vm.request_shutdown("host-test") for _ in range(4)])
            assert vm.wait(PATIENCE)
            vm.close()
            assert ends and vm.run_state is RunState.SHUTDOWN
            vm.request_reset("host-test")  # too late, and harmless
            vm.request_shutdown("host-test")


def test_close_while_everything_runs(tmp_path: Path) -> None:
    chance = random.Random(2)
    for _ in range(8 * STRESS):
        with ring("simulated", 2, tmp_path) as guest:
            guest.vm.start_loop()
            guest.vm.cont()
            time.sleep(chance.random() * 0.05)
            if chance.random() < 0.5:
                guest.vm.request_reset("host-test")


def measure() -> tuple[int, list[str], int]:
    """Open descriptors, threads, resident kilobytes."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return len(os.listdir("/proc/self/fd")), sorted(t.name for t in threading.enumerate()), resident


@pytest.mark.slow
@pytest.mark.parametrize("accel", ACCELERATORS)
def test_machines_come_and_go_without_a_trace(accel: str, tmp_path: Path) -> None:
    def live() -> None:
        with ring(accel, 2, tmp_path) as guest:
            guest.vm.start_loop()
            guest.vm.cont()
            time.sleep(0.005)

    for _ in range(5):
        live()
    descriptors, threads, resident = measure()
    for _ in range(40 * STRESS):
        live()
    now = measure()
    assert now[:2] == (descriptors, threads)
    assert now[2] < resident + 16 * 1024, f"{resident} KiB before, {now[2]} KiB after"


def test_two_machines_do_not_wait_for_one_another(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with ring("simulated", 2, tmp_path / "one") as one, ring("simulated", 2, tmp_path / "two") as two:
        for guest in (one, two):
            guest.vm.start_loop()
            guest.vm.cont()
        two.expect_life()
        with one.vm.lock:  # nobody of the first machine moves
            two.expect_life()
            two.vm.stop()
            two.vm.cont()
        one.expect_life()


def test_seabios_starts_four_processors_again_and_again() -> None:
    """Its start-up lock lies beside its code; a machine under load once needed more than a minute for it."""
    worst = 0.0
    for _ in range(6 * STRESS):
        began = time.monotonic()
        with pc("-accel", "simulated", "-smp", "4", *disk_words(DEMO_DISK), bios=need_seabios()) as machine:
            machine.start()
            machine.debug.wait_for("Booting from 0000:7c00", PATIENCE)
        worst = max(worst, time.monotonic() - began)
    assert worst < 20, worst


# -- the parts


@pytest.fixture
def boards() -> Iterator[Callable[..., Board]]:
    made: list[Board] = []

    def make(code: str, **options: Any) -> Board:
        made.append(Board("simulated", bytes.fromhex(code.replace(" ", "")), **options))
        return made[-1]

    yield make
    for board in made:
        board.close()


def start_second(board: Board, code: str) -> None:
    board.load(0x9000, bytes.fromhex(code.replace(" ", "")))
    board.cont()
    with board.lock:
        board.cpus[1].request_init()
        board.cpus[1].request_sipi(9)


def test_two_vcpus_ask_each_other(boards: Callable[..., Board]) -> None:
    """Each, in the middle of an exit, has the other's thread do something."""
    board = boards("e6e0 e6e2 ebfa", cpus=2)  # l: out e0h,al; out e2h,al; jmp l
    one, two = board.cpus
    goal = 200 * STRESS
    done = {"one": 0, "two": 0}
    finished = threading.Event()

    def ask(who: str, other: Any) -> None:
        if done[who] < goal:
            assert other.run_on(threading.current_thread) is other.thread
            done[who] += 1
        if min(done.values()) == goal:
            finished.set()

    board.watch[0] = lambda value: ask("one", two)
    board.watch[1] = lambda value: ask("two", one)
    start_second(board, "e6e1 ebfc")
    assert finished.wait(PATIENCE), done
    assert board.system.events == []


def test_a_vcpu_whose_thread_failed_holds_nobody_up(
    boards: Callable[..., Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = boards("e6e0 ebfe")

    def fails() -> bool:
        if board.cpus[0].stop:
            return False
        raise RuntimeError("no device error: a bug in the loop itself")

    monkeypatch.setattr(board.cpus[0], "can_run", fails)
    board.cont()
    what, text = board.system.wait()
    cpu = board.cpus[0]
    assert cpu.thread is not None
    cpu.thread.join(PATIENCE)
    assert what == "failed" and "no device error: a bug" in text
    assert cpu.stands_still
    board.cont()
    assert cpu.stopped
    together(board.stop)
    with board.lock:
        assert cpu.run_on(lambda: 5) == 5


def test_init_forgets_an_earlier_startup_ipi(boards: Callable[..., Board]) -> None:
    """INIT, start-up, INIT, all before the processor's thread looks: it waits for its start-up IPI."""
    board = boards("f4", cpus=2)
    second = board.cpus[1]
    board.load(0x9000, bytes.fromhex("e6e1f4"))
    seen = board.until(1)
    board.cont()
    with board.lock:
        second.request_init()
        second.request_sipi(9)
        second.request_init()
    second.run_on(lambda: None)
    with board.lock:
        assert second.waits_for_sipi and second.halted and second.sipi_request is None
        second.request_sipi(9)
    assert seen.wait(PATIENCE)


def test_memory_that_changes_while_an_access_is_under_way(boards: Callable[..., Board]) -> None:
    """One vCPU runs code in memory that another one maps anew all the time, and reads a device from there."""
    # the first: l: out e0h,al; jmp l      the second, at C000:0: l: mov al,[es:0] (a device at A0000h); inc dword [600h]; jmp l
    board = boards("e6e0 ebfc", cpus=2)
    from qom.hw.memory import Region

    board.bus.memory.add(0xA0000, Region("device", 0x100, lambda at, size: 0, None), 1)
    body = bytes.fromhex("26a00000 66ff060006 ebf5".replace(" ", ""))
    rom = Region.ram("shadow", 0x4000)
    assert rom.ram_block is not None
    rom.ram_block.view[: len(body)] = body
    board.load(0xC0000, body)
    count = 0

    def swap(value: int) -> None:
        nonlocal count
        count += 1
        if count % 2:
            board.bus.memory.add(0xC0000, rom, 1)
        else:
            board.bus.memory.remove(rom)
        if count == 1500 * STRESS:
            done.set()

    done = threading.Event()
    board.watch[0] = swap
    start_second(board, "b800a0 8ec0 ea000000c0")  # mov ax,a000h; mov es,ax; jmp c000:0
    deadline = time.monotonic() + PATIENCE
    while not done.wait(0.05):
        assert board.system.events == [], board.system.events
        assert time.monotonic() < deadline, count
    board.stop()
    assert board.system.events == []
    assert int.from_bytes(board.memory[0x600:0x604], "little") > 0
