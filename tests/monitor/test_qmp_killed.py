"""A QMP client (qemu.qmp, a process of its own) is killed by SIGKILL with commands on the way, answers unread and a
descriptor passed; the machine, the other client and the next one know nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_machine import PATIENCE, QmpMachine, qmp_machine

from qom import MonitorCommand
from qom.monitor import service_of
from qom.monitor.session import ANSWERS_WAITING, QmpSession

pytest.importorskip("qemu.qmp", reason="the package qemu.qmp is not installed")

CLIENT = """
import asyncio, os, sys
from qemu.qmp import QMPClient

async def main(path, moment):
    client = QMPClient("victim")
    await client.connect(path)
    subscribed = await client.execute("x-subscribe-property", {"path": "/machine", "property": "ram-size"})
    client.send_fd_scm(os.open("/dev/null", os.O_RDONLY))
    await client.execute("getfd", {"fdname": "victims"})
    client.send_fd_scm(os.open("/dev/null", os.O_RDONLY))  # for a getfd that never comes
    name = {"waiting": "be-held", "unread": "query-qmp-schema", "half": "query-name"}[moment]
    waiting = [asyncio.ensure_future(client.execute(name)) for _ in range(40)]
    if moment == "unread":
        await waiting[0]
    if moment == "half":
        await asyncio.gather(*waiting)
        client._writer.write(b'{"execute": "system_reset", "argu')
        await client._writer.drain()
    if moment != "waiting":
        print("sent", flush=True)
    if moment == "unread":
        os.kill(os.getpid(), 19)  # stops, and reads nothing
    await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpMachine]:
    with qmp_machine(tmp_path_factory.mktemp("killed"), "-name", "unharmed", monitors=2) as made:
        yield made


def open_descriptors() -> set[tuple[str, str]]:
    """Number and what it is, of all that this process, which is the machine's, has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
        except FileNotFoundError:  # the one that lists them
            continue
    return found


def until(true: Callable[[], bool], meanwhile: Callable[[], Any]) -> None:
    """Do `meanwhile` until it is so."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        meanwhile()


def has_gone(session: QmpSession) -> bool:
    """Whether nothing is left of its client."""
    with session.lock:
        left = session.commands_mode or session.subscriptions or session._requests or session._out or session._running
    return not left


@pytest.mark.parametrize("moment", ["waiting", "unread", "half"])
def test_nobody_notices(one_machine: QmpMachine, moment: str) -> None:
    vm = one_machine.vm
    carried_out: list[str] = []
    entered, go = threading.Event(), threading.Event()

    def be_held(machine: Any, given: dict[str, Any]) -> None:
        carried_out.append("be-held")
        entered.set()
        assert go.wait(PATIENCE)

    with QmpMachine(vm, one_machine.paths) as clients:
        other = clients.client(1)
        before = open_descriptors()
        session = service_of(vm).sessions[0]
        vm.registry.extensions.add_commands([MonitorCommand("be-held", "Take time", be_held)], "t", "t:t")
        words = [sys.executable, "-c", CLIENT, one_machine.paths[0], moment]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as victim:
            try:
                if moment == "waiting":
                    assert entered.wait(PATIENCE)  # the first is being carried out
                else:
                    assert victim.stdout is not None and victim.stdout.readline() == "sent\n"
                if moment == "unread":
                    until(lambda: len(session._out) > ANSWERS_WAITING, lambda: other.do("query-name"))
                assert len(open_descriptors()) > len(before)
                assert len(session.subscriptions) == 1
            finally:
                victim.send_signal(signal.SIGKILL)
                assert victim.wait(PATIENCE) == -signal.SIGKILL
                go.set()
        vm.registry.extensions.drop("t:t")
        until(lambda: has_gone(session), lambda: other.do("query-name"))
        assert len(carried_out) <= 1  # those that waited were never carried out
        other.do("closefd", fdname="victims")  # a name belongs to the machine, as in QEMU; what was unnamed is closed
        until(lambda: open_descriptors() == before, lambda: other.do("query-name"))
        assert other.do("query-name") == {"name": "unharmed"}
        assert other.do("query-status")["status"] == "prelaunch"
        assert [event["event"] for event in other.events] == []  # neither reset nor stopped
        following = clients.client(0)
        assert following.greeting["QMP"]["capabilities"] == ["oob"]
        assert following.do("query-name") == {"name": "unharmed"}
        assert following.events == []


def test_a_machine_that_runs_goes_on(tmp_path: Path) -> None:
    """A client that floods stop and cont is killed; the one that stays sees both events, and decides what is."""
    with qmp_machine(tmp_path, monitors=2) as made:
        other = made.client(1)
        flood = (
            "import asyncio, sys\nfrom qemu.qmp import QMPClient\n"
            "async def main(path):\n"
            "    client = QMPClient('flood')\n    await client.connect(path)\n"
            "    while True:\n"
            "        await asyncio.gather(*(client.execute(name) for name in ('cont', 'stop') * 20))\n"
            "asyncio.run(main(sys.argv[1]))\n"
        )
        with subprocess.Popen([sys.executable, "-c", flood, made.paths[0]]) as victim:
            for _ in range(30):
                other.event("RESUME")
            victim.kill()
        until(lambda: has_gone(service_of(made.vm).sessions[0]), lambda: other.do("query-status"))
        other.do("cont")
        assert other.do("query-status")["running"] is True
        assert made.client(0).do("query-status")["running"] is True
