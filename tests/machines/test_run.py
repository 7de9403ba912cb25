"""A running machine: start, stop, reset, end; what a guest and a person can ask for."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pcs import ACCELERATORS, need, pc

from qom.errors import LifecycleError, PropertyError
from qom.lifecycle import Life
from qom.vm.runstate import RunState


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_stop_and_continue_keep_the_guest_alive(accel: str) -> None:
    with pc("-accel", need(accel), "-smp", "2") as machine:  # without a disk: the guest does not end by itself
        machine.start()
        for _ in range(50):
            machine.vm.stop()
            assert all(cpu.stopped for cpu in machine.vm.cpus)
            machine.vm.cont()
        machine.serial.wait_for("No bootable device.")


def test_the_machines_life_follows() -> None:
    with pc() as machine:
        board = machine.vm.machine
        assert board.life is Life.REALIZED
        machine.start()
        assert board.life is Life.RUNNING
        with pytest.raises(LifecycleError, match="cannot go from running to unrealized"):
            board.set("realized", False)
        machine.serial.wait_for("No bootable device.")  # the attempt harmed nothing
        machine.vm.stop()
        assert board.life is Life.REALIZED


def test_guest_time_stands_still_while_stopped() -> None:
    with pc() as machine:
        machine.start()
        machine.serial.wait_for("No bootable device.")
        machine.vm.stop()
        before = machine.vm.clock.now()
        threading.Event().wait(0.02)
        assert machine.vm.clock.now() == before


@pytest.mark.parametrize("accel", ACCELERATORS)
def test_a_reset_starts_over(accel: str) -> None:
    events: list[str] = []
    with pc("-accel", need(accel), "-smp", "2") as machine:
        machine.vm.events.append(lambda name, data: events.append(name))
        machine.start()
        for _ in range(3):
            machine.serial.wait_for("No bootable device.")
            machine.serial.output = b""
            machine.vm.request_reset("host-qmp-system-reset")
        machine.serial.wait_for("processors: 2 started")
        assert machine.vm.run_state is RunState.RUNNING
    assert events.count("RESET") == 3


@pytest.mark.parametrize(
    ("port", "value"),
    [(0xCF9, (0x02, 0x06)), (0x92, (0x03,)), (0x64, (0xFE,))],
    ids=["reset-control", "port92", "keyboard-controller"],
)
def test_every_way_of_resetting(port: int, value: tuple[int, ...]) -> None:
    reasons: list[Any] = []
    with pc() as machine:
        machine.vm.events.append(lambda name, data: reasons.append(data.get("reason")) if name == "RESET" else None)
        machine.start()
        machine.serial.wait_for("No bootable device.")
        machine.serial.output = b""
        with machine.vm.lock:
            for each in value:
                machine.vm.machine.system_bus.io_space.write(port, each, 1)
        machine.serial.wait_for("No bootable device.")
    assert len(reasons) == 1


def test_no_reboot_ends_instead() -> None:
    with pc("-no-reboot") as machine:
        machine.start()
        machine.serial.wait_for("No bootable device.")
        machine.vm.request_reset("guest-reset")
        assert machine.wait_for_end() == 0
        assert machine.vm.shutdown_reason == "guest-reset"


def test_debug_exit_gives_the_status() -> None:
    with pc() as machine:
        machine.start()
        machine.serial.wait_for("No bootable device.")
        with machine.vm.lock:
            machine.vm.machine.system_bus.io_space.write(0x501, 5, 1)
        assert machine.wait_for_end() == 11


def test_no_shutdown_keeps_the_machine() -> None:
    with pc("-no-shutdown") as machine:
        ended = threading.Event()
        machine.vm.events.append(lambda name, data: ended.set() if name == "SHUTDOWN" else None)
        machine.start()
        machine.serial.wait_for("No bootable device.")
        machine.vm.request_shutdown("guest-shutdown")
        assert ended.wait(60)
        with machine.vm.lock:
            assert machine.vm.run_state is RunState.SHUTDOWN
        with pytest.raises(LifecycleError, match="run state cannot go from shutdown to running"):
            machine.vm.cont()
        machine.vm.reset()
        machine.vm.cont()
        machine.serial.output = b""
        machine.serial.wait_for("No bootable device.")


def test_the_power_button_reaches_the_status_register() -> None:
    with pc() as machine:
        machine.start()
        machine.vm.request_powerdown()
        done = threading.Event()
        machine.vm.main_loop.call_soon_threadsafe(done.set)
        assert done.wait(60)


def test_properties_are_locked_while_realized() -> None:
    with pc() as machine:
        with pytest.raises(PropertyError):
            machine.vm.machine.set("ram-size", "64M")
        with pytest.raises(PropertyError):
            machine.part("pit").set("iobase", 0x50)


def test_a_device_that_raises_stops_only_its_machine() -> None:
    with pc() as broken, pc() as sound:

        def fault(offset: int, size: int) -> int:
            raise ZeroDivisionError("a bug in the device")

        port61 = broken.part("port61")
        broken.part("rtc")
        region = next(r for r in broken.vm.machine.system_bus.io.subregions if r.owner is port61)
        broken.start()
        broken.serial.wait_for("No bootable device.")
        with broken.vm.lock:
            region.read = fault
            region._changed()
        with pytest.raises(Exception, match="port61"):
            broken.vm.machine.system_bus.io_space.read(0x61, 1)
        broken.vm.device_failed(RuntimeError("port61"))
        assert broken.vm.wait(60)
        assert broken.vm.exit_status == 1
        sound.start()
        sound.serial.wait_for("No bootable device.")
