"""What a machine does when its guest reboots, switches off or panics, and when a watchdog fires.

The tables are what QEMU 7.2 was seen to do, event by event, except for the SHUTDOWN event of `watchdog=poweroff`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qom.config import load
from qom.config.write import dumps
from qom.errors import ConfigError, LifecycleError
from qom.vm.launch import open_machine
from qom.vm.runstate import RunState
from qom.vm.vm import VirtualMachine

PATIENCE = 60.0  # seconds of host time before a test gives up
LAPIC, SPURIOUS, LVT_LINT1 = 0xFEE0_0000, 0xF0, 0x360
SOFTWARE_ENABLE, DELIVER_NMI = 0x100, 0x400
KEYS = ("action", "reason", "info")


class Watched:
    """A machine that runs without executing its guest, and the events it told."""

    def __init__(self, actions: dict[str, str], **more: Any) -> None:
        self.vm: VirtualMachine = open_machine(accel="qtest", nodefaults=True, settings={"action": actions}, **more)
        self.told: list[tuple[str, Any]] = []
        self.vm.events.append(self._hear)

    def _hear(self, name: str, data: dict[str, Any]) -> None:
        self.told.append((name, *(data[key] for key in KEYS if key in data)))

    def do(self, what: Callable[[], object]) -> None:
        """Start it, have it do something as a device would, and wait until the main loop has served that."""
        self.vm.start()
        self.told.clear()
        with self.vm.lock:
            what()
        self.serve()

    def serve(self) -> None:
        """Wait until the main loop has served what was asked of it, or has ended."""
        served = threading.Event()
        self.vm.main_loop.call_soon_threadsafe(lambda: self.vm.main_loop.call_soon_threadsafe(served.set))
        while not served.wait(0.01):
            if self.vm.wait(0):
                return

    @property
    def ended(self) -> bool:
        return self.vm.wait(0)


@pytest.fixture
def machine() -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def make(**actions: str) -> Watched:
        made.append(Watched(actions))
        return made[-1]

    yield make
    for one in made:
        one.vm.close()


PANICKED, STOP, RESET = "GUEST_PANICKED", ("STOP",), ("RESET", "guest-reset")
PANIC_END = [(PANICKED, "poweroff"), STOP, ("SHUTDOWN", "guest-panic")]


@pytest.mark.parametrize(
    ("panic", "shutdown", "events", "state", "status"),
    [
        ("shutdown", "poweroff", PANIC_END, RunState.SHUTDOWN, 0),
        ("shutdown", "pause", [(PANICKED, "pause"), STOP], RunState.GUEST_PANICKED, None),
        ("pause", "poweroff", [(PANICKED, "pause"), STOP], RunState.GUEST_PANICKED, None),
        ("pause", "pause", [(PANICKED, "pause"), STOP], RunState.GUEST_PANICKED, None),
        ("exit-failure", "poweroff", PANIC_END, RunState.SHUTDOWN, 1),
        ("exit-failure", "pause", PANIC_END, RunState.GUEST_PANICKED, None),
        ("none", "poweroff", [(PANICKED, "run")], RunState.RUNNING, None),
        ("none", "pause", [(PANICKED, "run")], RunState.RUNNING, None),
    ],
)
def test_a_panic(
    machine: Callable[..., Watched],
    panic: str,
    shutdown: str,
    events: list[tuple[str, ...]],
    state: RunState,
    status: int | None,
) -> None:
    made = machine(panic=panic, shutdown=shutdown)
    made.do(made.vm.guest_panicked)
    if status is not None:
        assert made.vm.wait(PATIENCE)
        assert made.vm.exit_status == status
    assert (made.told, made.vm.run_state, made.ended) == (events, state, status is not None)
    if status is None:  # it can go on from there
        made.vm.cont()
        assert made.vm.run_state is RunState.RUNNING


def test_a_panic_of_a_machine_that_stands_still_leaves_its_state(machine: Callable[..., Watched]) -> None:
    made = machine(panic="pause")
    made.vm.start()
    made.vm.stop()
    made.told.clear()
    with made.vm.lock:
        made.vm.guest_panicked({"type": "hyper-v"})
    made.serve()
    assert made.told == [(PANICKED, "pause", {"type": "hyper-v"})]
    assert made.vm.run_state is RunState.PAUSED


def test_a_crash_kernel_goes_on(machine: Callable[..., Watched]) -> None:
    made = machine(panic="shutdown")
    made.do(made.vm.guest_crashloaded)
    assert (made.told, made.vm.run_state) == ([("GUEST_CRASHLOADED", "run")], RunState.RUNNING)


@pytest.mark.parametrize(
    ("action", "shutdown", "events", "state", "ends"),
    [
        ("reset", "pause", [("WATCHDOG", "reset"), RESET], RunState.RUNNING, False),
        ("shutdown", "pause", [("WATCHDOG", "shutdown"), ("POWERDOWN",)], RunState.RUNNING, False),
        ("poweroff", "pause", [("WATCHDOG", "poweroff"), ("SHUTDOWN", "guest-shutdown")], RunState.SHUTDOWN, True),
        ("pause", "poweroff", [("WATCHDOG", "pause"), STOP], RunState.WATCHDOG, False),
        ("debug", "poweroff", [("WATCHDOG", "debug")], RunState.RUNNING, False),
        ("none", "poweroff", [("WATCHDOG", "none")], RunState.RUNNING, False),
    ],
)
def test_a_watchdog(
    machine: Callable[..., Watched],
    capsys: pytest.CaptureFixture[str],
    action: str,
    shutdown: str,
    events: list[tuple[str, ...]],
    state: RunState,
    ends: bool,
) -> None:
    made = machine(watchdog=action, shutdown=shutdown)
    made.do(made.vm.watchdog_fired)
    assert made.vm.wait(PATIENCE if ends else 0) is ends
    assert (made.told, made.vm.run_state) == (events, state)
    assert capsys.readouterr().err == ("watchdog: timer fired\n" if action == "debug" else "")
    if not ends:
        made.vm.cont()
        assert made.vm.run_state is RunState.RUNNING


def test_a_watchdog_injects_an_nmi_where_the_local_apic_lets_it_through(machine: Callable[..., Watched]) -> None:
    made = machine(watchdog="inject-nmi")
    cpu = made.vm.cpus[0]
    made.do(made.vm.watchdog_fired)
    assert made.told == [("WATCHDOG", "inject-nmi")]
    assert not cpu.nmi_request  # LINT1 is masked until firmware opens it
    with made.vm.lock:
        cpu.memory.write(LAPIC + SPURIOUS, SOFTWARE_ENABLE | 0xFF, 4)
        cpu.memory.write(LAPIC + LVT_LINT1, DELIVER_NMI, 4)
    made.vm.inject_nmi()
    assert cpu.nmi_request


def test_a_machine_without_the_button_says_so() -> None:
    with open_machine(machine="none", accel="qtest", settings={"action": {"watchdog": "inject-nmi"}}) as vm:
        with pytest.raises(LifecycleError) as caught:
            vm.inject_nmi()
        assert str(caught.value) == "this feature or command is not currently supported"
        with pytest.raises(LifecycleError) as caught:
            vm.request_wakeup()
        assert str(caught.value) == "wake-up from suspend is not supported by this guest"
        vm.watchdog_fired()
        assert vm.log_lines[-1] == (
            "warning: a watchdog fired, and no NMI can be injected: this feature or command is not currently supported"
        )


def test_nobody_wakes_a_guest_that_does_not_sleep(machine: Callable[..., Watched]) -> None:
    made = machine()
    with pytest.raises(LifecycleError) as caught:
        made.vm.request_wakeup()
    assert str(caught.value) == "Unable to wake up: guest is not in suspended state"


@pytest.mark.parametrize(
    ("reboot", "shutdown", "asked", "events", "state", "ends"),
    [
        ("reset", "pause", "guest", [RESET], RunState.RUNNING, False),
        ("shutdown", "poweroff", "guest", [("SHUTDOWN", "guest-reset")], RunState.SHUTDOWN, True),
        ("shutdown", "pause", "guest", [("SHUTDOWN", "guest-reset"), STOP], RunState.SHUTDOWN, False),
        ("shutdown", "poweroff", "host-qmp-system-reset", [("SHUTDOWN", "host-qmp-system-reset")], RunState.SHUTDOWN, True),
        ("shutdown", "pause", "host-qmp-system-reset", [("SHUTDOWN", "host-qmp-system-reset"), STOP], RunState.SHUTDOWN, False),
    ],
)  # fmt: skip
def test_a_reboot(
    machine: Callable[..., Watched],
    reboot: str,
    shutdown: str,
    asked: str,
    events: list[tuple[str, ...]],
    state: RunState,
    ends: bool,
) -> None:
    made = machine(reboot=reboot, shutdown=shutdown)
    made.do(lambda: made.vm.request_reset(asked))
    assert made.vm.wait(PATIENCE if ends else 0) is ends
    assert (made.told, made.vm.run_state) == (events, state)


@pytest.mark.parametrize(
    ("reason", "shutdown", "final", "events", "ends"),
    [
        ("acpi-soft-off", "poweroff", False, [("SHUTDOWN", "guest-shutdown")], True),
        ("acpi-soft-off", "pause", False, [("SHUTDOWN", "guest-shutdown"), STOP], False),
        ("acpi-soft-off", "pause", True, [("SHUTDOWN", "guest-shutdown")], True),
        ("host-qmp-quit", "pause", False, [("SHUTDOWN", "host-qmp-quit")], True),
        ("host-signal", "pause", False, [("SHUTDOWN", "host-signal")], True),
        ("internal-error", "pause", False, [("SHUTDOWN", "host-error")], True),
    ],
)
def test_the_end(
    machine: Callable[..., Watched],
    reason: str,
    shutdown: str,
    final: bool,
    events: list[tuple[str, ...]],
    ends: bool,
) -> None:
    made = machine(shutdown=shutdown)
    made.do(lambda: made.vm.request_shutdown(reason, 3, final=final))
    assert made.vm.wait(PATIENCE if ends else 0) is ends
    assert (made.told, made.vm.run_state) == (events, RunState.SHUTDOWN)
    assert made.vm.exit_status == (3 if ends else 0)


def test_the_exit_port_ends_a_machine_that_keeps_what_its_guest_switches_off() -> None:
    settings = {"action": {"shutdown": "pause"}}
    with open_machine(accel="qtest", devices=["isa-debug-exit"], settings=settings) as vm:
        vm.start()
        vm.ports.write(0x501, 5)
        assert vm.wait(PATIENCE)
        assert vm.exit_status == 11


def test_a_reset_of_a_machine_that_stands_still_leads_to_the_start(machine: Callable[..., Watched]) -> None:
    made = machine()
    made.vm.start()
    made.vm.stop()
    made.vm.reset()
    assert made.vm.run_state is RunState.PRELAUNCH
    made.vm.cont()
    assert made.vm.run_state is RunState.RUNNING


def test_actions_change_while_the_machine_runs(machine: Callable[..., Watched]) -> None:
    made = machine(panic="none")
    made.do(made.vm.guest_panicked)
    made.vm.set_action(panic="pause", watchdog="debug")
    made.do(made.vm.guest_panicked)
    assert made.vm.run_state is RunState.GUEST_PANICKED
    text = dumps(made.vm.dump())
    assert '[action]\npanic = "pause"\nwatchdog = "debug"\n' in text


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"watchdog": "none", "panic": "run"},
         "action 'panic' cannot be 'run': expected one of 'shutdown', 'pause', 'exit-failure', 'none'"),
        ({"watchdog": "none", "rebot": "reset"},
         "unknown action 'rebot': expected one of reboot, shutdown, panic, watchdog; did you mean 'reboot'?"),
    ],
)  # fmt: skip
def test_a_wrong_action_changes_nothing(machine: Callable[..., Watched], chosen: dict[str, str], message: str) -> None:
    made = machine()
    with pytest.raises(ConfigError) as caught:
        made.vm.set_action(**chosen)
    assert str(caught.value) == message
    assert made.vm.actions.watchdog == "reset"


def test_a_file_says_an_action_once(tmp_path: Any) -> None:
    file = tmp_path / "vm.toml"
    file.write_text('no-reboot = true\n[action]\nreboot = "reset"\n')
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == (f"{file}:3:1: 'reboot' and 'no-reboot' say the same thing: expected one of them")


def test_a_file_that_includes_another_has_the_last_word(tmp_path: Any) -> None:
    (tmp_path / "base.toml").write_text("no-reboot = true\nno-shutdown = true\n")
    file = tmp_path / "vm.toml"
    file.write_text('include = "base.toml"\n[action]\nreboot = "reset"\n')
    assert load(file).action == {"reboot": "reset", "shutdown": "pause"}
