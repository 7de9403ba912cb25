"""QEMU's own clients, unmodified from PyPI (`qemu.qmp`), on our server: QMPClient, qmp-shell, qmp-tui."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_machine import PATIENCE, QmpMachine, qmp_machine

qmp = pytest.importorskip("qemu.qmp", reason="the package qemu.qmp is not installed")

COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("query-status", {}), ("query-version", {}), ("query-name", {}), ("query-uuid", {}), ("query-commands", {}),
    ("qom-list", {"path": "/machine"}), ("qom-get", {"path": "/machine", "property": "ram-size"}),
    ("qom-get", {"path": "/machine", "property": "nothing"}), ("qom-list", {"path": "/nowhere"}), ("cont", {}),
    ("query-pci", {}), ("query-block", {}), ("query-named-block-nodes", {}), ("query-stats", {"target": "vm"}),
    ("query-stats-schemas", {}), ("stop", {}), ("query-dump", {}), ("query-yank", {}), ("query-fdsets", {}),
    ("set-action", {"reboot": "reset"}), ("set-action", {"reboot": "never"}), ("system_reset", {}), ("frobnicate", {}),
    ("memsave", {"val": 0}), ("query-qmp-schema", {}),
]  # fmt: skip
"""25 commands, some of them wrong."""
WRONG = 5
TIMES = 4


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpMachine]:
    with qmp_machine(tmp_path_factory.mktemp("clients"), "-name", "guinea-pig") as made:
        yield made


def test_qmp_client_a_hundred_commands_and_their_events(one_machine: QmpMachine) -> None:
    async def session() -> tuple[int, int, list[str]]:
        client = qmp.QMPClient("test")
        await client.connect(one_machine.paths[0])
        good = bad = 0
        events: list[str] = []
        with client.listener() as listener:
            for name, arguments in COMMANDS * TIMES:
                try:
                    await client.execute(name, arguments)
                    good += 1
                except qmp.ExecuteError:
                    bad += 1
            while not listener.empty():
                events.append((await listener.get())["event"])
        await client.disconnect()
        return good, bad, events

    good, bad, events = asyncio.run(session())
    assert (good, bad) == ((len(COMMANDS) - WRONG) * TIMES, WRONG * TIMES)
    assert events == ["RESUME", "STOP", "RESET"] * TIMES


def spelled(name: str, arguments: dict[str, Any]) -> str:
    return " ".join([name, *(f"{key}={shlex.quote(str(value))}" for key, value in arguments.items())])


def test_qmp_shell_a_hundred_commands(one_machine: QmpMachine) -> None:
    lines = "".join(spelled(name, arguments) + "\n" for name, arguments in COMMANDS * TIMES) + "\n"  # shows events
    shell = [sys.executable, "-m", "qemu.qmp.qmp_shell", one_machine.paths[0]]
    done = subprocess.run(shell, input=lines, capture_output=True, text=True, timeout=PATIENCE * 2)
    assert done.returncode == 0, done.stderr
    assert "Connected to QEMU 7.2" in done.stdout
    assert done.stdout.count('{"return":') == (len(COMMANDS) - WRONG) * TIMES
    assert done.stdout.count('{"error":') == WRONG * TIMES
    assert [done.stdout.count(f"'event': '{name}'") for name in ("RESUME", "STOP", "RESET")] == [TIMES] * 3


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words: list[str], home: Path) -> None:
        self.fd, inner = pty.openpty()
        termios.tcsetwinsize(self.fd, (50, 160))
        environment = {**os.environ, "TERM": "xterm", "HOME": str(home)}
        self.process = subprocess.Popen(words, stdin=inner, stdout=inner, stderr=inner, env=environment, close_fds=True)
        os.close(inner)
        self.text = ""

    def wait(self, done: Any) -> None:
        """Read until `done(text)`."""
        end = time.monotonic() + PATIENCE
        while not done(self.text):
            left = end - time.monotonic()
            assert left > 0, self.text[-3000:]
            if select.select([self.fd], [], [], min(left, 0.05))[0]:  # what is waited for may be in a file
                self.text += os.read(self.fd, 1 << 16).decode(errors="replace")

    def shows(self, wanted: str, seconds: float = 0.3) -> bool:
        """Whether `wanted` comes within so many seconds of silence."""
        while wanted not in self.text:
            if not select.select([self.fd], [], [], seconds)[0]:
                return False
            self.text += os.read(self.fd, 1 << 16).decode(errors="replace")
        return True

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.mark.slow
def test_qmp_tui_a_hundred_commands(one_machine: QmpMachine, tmp_path: Path) -> None:
    pytest.importorskip("urwid", reason="the extra qemu.qmp[tui] is not installed")
    # it draws all that it has ever shown for each key, so its hundred leave out the longest answers
    commands = [
        one for one in COMMANDS if one[0] not in ("query-qmp-schema", "query-commands", "qom-list", "query-pci")
    ]
    commands = (commands * 5)[:100]
    seen: list[str] = []
    one_machine.vm.events.append(lambda event, data: seen.append(event))
    log = tmp_path / "tui.log"
    terminal = Terminal(
        [
            sys.executable,
            "-m",
            "qemu.qmp.qmp_tui",
            one_machine.paths[0],
            "--log-file",
            str(log),
            "--log-level",
            "DEBUG",
        ],
        tmp_path,
    )
    try:
        terminal.wait(lambda text: "Runstate.RUNNING" in noted(log))
        answered = len(ANSWER.findall(noted(log)))  # to its handshake
        while not terminal.shows("> x"):  # the arrow leads from the end of the history to the editor
            terminal.type("\x1b[Bx")
        terminal.type("\x7f" * 10)
        for name, arguments in commands:
            answered += 1
            terminal.type(json.dumps({"execute": name, "arguments": arguments}) + "\x1b\r")
            terminal.wait(lambda text: len(ANSWER.findall(noted(log))) >= answered)  # noqa: B023 -- called at once
    finally:
        terminal.close()
        one_machine.vm.events.pop()
    assert answered == len(commands) + 1
    assert seen.count("RESET") == sum(name == "system_reset" for name, _ in commands)


ANSWER = re.compile(r'^  "(?:return|error)":', re.MULTILINE)
"""The first line of an answer, as the client writes it into its log."""


def noted(log: Path) -> str:
    """What the client has written into its log."""
    return log.read_text(errors="replace") if log.exists() else ""


@pytest.fixture
def shell(one_machine: QmpMachine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """qmp-shell on a terminal; readline completes there.  The parameter is its options."""
    options = getattr(request, "param", [])
    made = Terminal([sys.executable, "-m", "qemu.qmp.qmp_shell", *options, one_machine.paths[0]], tmp_path)
    try:
        made.wait(lambda text: "QEMU) " in text)
        yield made
    finally:
        made.close()


def test_qmp_shell_completes_a_command(shell: Terminal) -> None:
    """Its completion is of command names, from query-commands; it has none of arguments."""
    shell.type("query-memory-s\t")
    shell.wait(lambda text: "query-memory-size-summary" in text)
    shell.type("\r")
    shell.wait(lambda text: "base-memory" in text)
    assert '{"return": {"base-memory": 134217728, "plugged-memory": 0}}' in shell.text


def test_qmp_shell_lists_what_a_beginning_may_become_and_arguments_follow(shell: Terminal) -> None:
    shell.type("qom-list-\t\t")
    shell.wait(lambda text: text.count("QEMU) ") == 2)  # written again under the list
    for name in ("qom-list-get", "qom-list-properties", "qom-list-types"):
        assert re.search(rf"\b{name}\b", shell.text), shell.text
    shell.type("ty\t")
    shell.wait(lambda text: "qom-list-types" in text.rpartition("QEMU) ")[2])
    shell.type(" implements=monitor\r")
    shell.wait(lambda text: '"return"' in text)
    assert '"name": "monitor-qmp"' in shell.text


@pytest.mark.parametrize("shell", [["-H"]], indirect=True)
def test_qmp_shell_for_people_completes_too(shell: Terminal) -> None:
    """With -H it completes from what `help` and `info` print."""
    shell.type("info vers\t")
    shell.wait(lambda text: "info version" in text)
    shell.type("\r")
    shell.wait(lambda text: "7.2.22" in text.rpartition("info version")[2])
    shell.type("system_res\t")
    shell.wait(lambda text: "system_reset" in text)
