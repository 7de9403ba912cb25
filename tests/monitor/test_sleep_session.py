"""A QMP session with a guest that suspends itself to RAM: the same words to our program and to QEMU, and the same answers.

The guest is firmware of some seventy bytes: it suspends the machine, and stands still after it was woken.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_machine import PATIENCE, Client

PROGRAMS = {
    "qom": [sys.executable, "-m", "qom.cli.system", "-accel", "simulated"],
    "qemu": ["qemu-system-x86_64", "-accel", "tcg"],
}
SLEEPER = bytes.fromhex(
    "b00f e670 e471 3cfe 750f"  # CMOS byte 0Fh; is it FEh?
    "b00f e670 b000 e671 fe060005"  # woken: the next reset is a start; count at 500h
    "f4 ebfd"  # halt
    "66b8400b0080 baf80c 66ef 66b801b00000 bafc0c 66ef"  # PMBASE of 01.3: B000h
    "66b8800b0080 baf80c 66ef b001 bafc0c ee"  # PMREGMISC: it is decoded
    "ba04b0 b80024 ef ebcd"  # PMCNTRL: SLP_EN and type 1; halt
)
RESET_VECTOR = bytes.fromhex("ea000000f0")  # jmp F000:0000
NOT_ASLEEP = {"class": "GenericError", "desc": "Unable to wake up: guest is not in suspended state"}


@pytest.fixture(params=list(PROGRAMS))
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    """A client of a program whose guest is the sleeper, before it runs."""
    command = PROGRAMS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    image, path = tmp_path / "sleeper.bin", tmp_path / "qmp"
    image.write_bytes((SLEEPER.ljust(0xFFF0, b"\xf4") + RESET_VECTOR).ljust(0x10000, b"\xf4"))
    words = f"-S -M pc -m 16 -nodefaults -display none -bios {image} -qmp unix:{path},server=on,wait=on".split()
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            with contextlib.closing(connected(str(path), process)) as made:
                yield made
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def connected(path: str, process: subprocess.Popen[bytes]) -> Client:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return Client(path).negotiate()
        except (FileNotFoundError, ConnectionRefusedError):
            assert process.poll() is None and time.monotonic() < end, process.stdout and process.stdout.read()
            time.sleep(0.01)


def status(client: Client) -> Any:
    return client.do("query-status")


def wait_for_guest(client: Client, wakes: int) -> None:
    """Until the guest has counted its wake-ups so far."""
    end = time.monotonic() + PATIENCE
    while client.do("human-monitor-command", command_line="xp /1bx 0x500").split() != [
        "0000000000000500:",
        f"0x0{wakes}",
    ]:
        assert time.monotonic() < end


def event(client: Client, name: str) -> Any:
    """The data of the next event, which has to be this one."""
    found = client.events.pop(0) if client.events else client.line()
    assert found["event"] == name, found
    assert sorted(found["timestamp"]) == ["microseconds", "seconds"]
    return found.get("data")


def test_a_session_with_a_guest_that_sleeps(client: Client) -> None:
    asleep = {"running": False, "singlestep": False, "status": "suspended"}
    running = {"running": True, "singlestep": False, "status": "running"}
    assert client.do("query-current-machine") == {"wakeup-suspend-support": True}
    assert client.ask("system_wakeup")["error"] == NOT_ASLEEP
    client.do("cont")
    assert event(client, "RESUME") is None
    assert event(client, "SUSPEND") is None
    assert status(client) == asleep
    assert client.do("human-monitor-command", command_line="info status") == "VM status: paused (suspended)\r\n"
    client.do("stop")
    client.do("cont")
    assert status(client) == asleep and client.events == []
    client.do("system_powerdown")  # the guest has not enabled the button
    assert event(client, "POWERDOWN") is None
    assert status(client) == asleep
    client.do("system_wakeup")
    assert event(client, "WAKEUP") is None
    assert status(client) == running
    wait_for_guest(client, 1)
    assert client.ask("system_wakeup")["error"] == NOT_ASLEEP
    assert client.do("human-monitor-command", command_line="system_wakeup") == f"Error: {NOT_ASLEEP['desc']}\r\n"
    client.do("system_reset")  # from where it sleeps again
    assert event(client, "RESET") == {"guest": False, "reason": "host-qmp-system-reset"}
    assert event(client, "SUSPEND") is None
    assert client.do("human-monitor-command", command_line="system_wakeup") == ""
    assert event(client, "WAKEUP") is None
    wait_for_guest(client, 2)
    client.do("system_reset")
    assert event(client, "RESET") == {"guest": False, "reason": "host-qmp-system-reset"}
    assert event(client, "SUSPEND") is None
    client.do("system_reset")
    assert event(client, "RESET") == {"guest": False, "reason": "host-qmp-system-reset"}
    assert status(client) == {"running": False, "singlestep": False, "status": "prelaunch"}
    client.do("quit")
    assert event(client, "SHUTDOWN") == {"guest": False, "reason": "host-qmp-quit"}
