"""The process of a machine: every way it ends, what it leaves behind (nothing), its PID file, its names, the background."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qom.cli import process, system
from qom.errors import ConfigError

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds
QMP = ["-qmp", "unix:q,server=on,wait=off"]


def start(folder: Path, *words: str, **more: Any) -> subprocess.Popen[str]:
    """A program of its own, without any machine's default devices."""
    return subprocess.Popen(
        [sys.executable, "-m", "qom.cli.system", "-accel", "qtest", "-M", "none", "-nodefaults", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, stderr=subprocess.PIPE, **more,
    )  # fmt: skip


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Status and standard error of one that ends by itself."""
    with start(folder, *words) as program:
        _, err = program.communicate(timeout=PATIENCE)
        return program.returncode, err


class Client:
    """A QMP client of a program that is told where to listen before it starts: `-chardev socket,fd=`."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(PATIENCE)
        self.lines = self.ours.makefile()

    def words(self) -> list[str]:
        """What the program is started with."""
        os.set_inheritable(self.theirs.fileno(), True)
        return ["-chardev", f"socket,id=m,fd={self.theirs.fileno()}", "-mon", "m,mode=control"]

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The next answer."""
        self.ours.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        return self.next()

    def next(self) -> dict[str, Any]:
        """The next line."""
        told: dict[str, Any] = json.loads(self.lines.readline())
        return told


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.lines.close()
    made.ours.close()
    made.theirs.close()


EVERYTHING = [
    "-pidfile",
    "pid",
    "-chardev",
    "socket,id=s,path=sock,server=on,wait=off",
    "-name",
    "x,process=proc,debug-threads=on",
]


def started(folder: Path, client: Client) -> subprocess.Popen[str]:
    program = start(folder, *EVERYTHING, *client.words(), pass_fds=[client.theirs.fileno()])
    client.theirs.close()
    assert "QMP" in client.next()
    assert client.ask("qmp_capabilities") == {"return": {}}
    return program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_in_good_order(number: int, client: Client, tmp_path: Path) -> None:
    with started(tmp_path, client) as program:
        assert (tmp_path / "pid").read_text() == f"{program.pid}\n" and (tmp_path / "sock").is_socket()
        assert client.ask("query-status")["return"]["status"] in ("running", "prelaunch")
        assert Path(f"/proc/{program.pid}/comm").read_text() == "proc\n"
        program.send_signal(number)
        told = client.next()
        while told["event"] != "SHUTDOWN":
            told = client.next()
        assert told["data"] == {"guest": False, "reason": "host-signal"}
        _, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (0, f"qom-system-x86_64: terminating on signal {int(number)}\n")
    assert list(tmp_path.iterdir()) == []


def test_quit_ends_it_in_good_order(client: Client, tmp_path: Path) -> None:
    with started(tmp_path, client) as program:
        answers = [client.ask("quit")]
        while not any(told.get("event") == "SHUTDOWN" for told in answers):
            answers.append(client.next())
        assert {"return": {}} in answers
        assert answers[-1]["data"] == {"guest": False, "reason": "host-qmp-quit"}
        _, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (0, "") and list(tmp_path.iterdir()) == []


def test_terminals_are_named_on_standard_output_as_by_qemu(client: Client, tmp_path: Path) -> None:
    words = ["-chardev", "pty,id=a", "-monitor", "pty", "-chardev", "pty,id=x,mux=on", *client.words()]
    with start(tmp_path, *words, stdout=subprocess.PIPE, pass_fds=[client.theirs.fileno()]) as program:
        client.theirs.close()
        client.next()
        client.ask("qmp_capabilities")
        backend = {"type": "pty", "data": {}}
        assert "pty" in client.ask("chardev-add", id="q", backend=backend)["return"]  # the answer is all there is
        client.ask("chardev-change", id="q", backend=backend)
        told = client.ask("human-monitor-command", **{"command-line": "chardev-add pty,id=h"})["return"]
        at = {each["label"]: each["filename"].removeprefix("pty:") for each in client.ask("query-chardev")["return"]}
        assert told == f"char device redirected to {at['h']} (label h)\r\n"
        client.ask("quit")
        out, err = program.communicate(timeout=PATIENCE)
    assert err == ""
    assert sorted(out.splitlines()) == [
        f"char device redirected to {at[label]} (label {label})"
        for label in sorted(("a", "compat_monitor0", "x-base"), key=lambda label: at[label])
    ]


def test_killed_while_it_is_built_it_leaves_nothing(tmp_path: Path) -> None:
    words = ["-pidfile", "pid", "-serial", "file:log", "-chardev", "socket,id=s,path=sock,server=on"]
    with start(tmp_path, *words) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == "qom-system-x86_64: /chardevs/s waits for a client on sock\n"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["pid", "sock"]
        program.terminate()
        _, err = program.communicate(timeout=PATIENCE)
    assert (program.returncode, err) == (128 + signal.SIGTERM, "qom-system-x86_64: terminating on signal 15\n")
    assert list(tmp_path.iterdir()) == []


def test_the_parent_goes_home_when_the_machine_is_there(tmp_path: Path) -> None:
    assert run(tmp_path, "-daemonize", *EVERYTHING, *QMP) == (0, "")
    pid = int((tmp_path / "pid").read_text())
    with socket.socket(socket.AF_UNIX) as ours:
        ours.settimeout(PATIENCE)
        ours.connect(str(tmp_path / "q"))
        lines = ours.makefile()
        assert "QMP" in json.loads(lines.readline())
        facts = {n: os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)}
        assert facts == dict.fromkeys(range(3), "/dev/null") and os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) not in (os.getsid(0), pid), "of a session of its own, which it does not lead"
        names = {path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")}
        assert names == {"proc", "monitors"}
        ours.sendall(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
        while lines.readline():
            pass  # until it has let go of us
        lines.close()
    handle = os.pidfd_open(pid) if Path(f"/proc/{pid}").exists() else None
    if handle is not None:
        import select

        assert select.select([handle], [], [], PATIENCE)[0]
        os.close(handle)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["-device", "warp"], "-device warp: unknown device type 'warp'; no plugin that is loaded brings it (`qom plugins`"
         " lists them)"),
        (["-nographic"], "-daemonize: -nographic cannot be used with -daemonize: expected -display none"),
        (["-serial", "stdio"], "-serial stdio: standard input and output cannot be used with -daemonize"),
    ],
)  # fmt: skip
def test_errors_reach_the_parent(words: list[str], error: str, tmp_path: Path) -> None:
    assert run(tmp_path, "-daemonize", "-pidfile", "pid", *words) == (1, f"qom-system-x86_64: {error}\n")
    assert list(tmp_path.iterdir()) == []


def test_two_do_not_have_one_pid_file(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("of a process that was killed\n")
    other = "import sys; from qom.cli import process\nwith process.pidfile(sys.argv[1], 'there'): pass"
    with process.pidfile(str(path), "here"):
        assert path.read_text() == f"{os.getpid()}\n"
        done = subprocess.run(
            [sys.executable, "-c", other, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
        )
        wanted = f"qom.errors.ConfigError: there: cannot create the PID file '{path}': another process that runs has it"
        assert done.returncode == 1 and done.stderr.splitlines()[-1] == wanted
    assert not path.exists()
    with pytest.raises(ConfigError) as error, process.pidfile("/no/such/pid", "-pidfile /no/such/pid"):
        pass
    text = "-pidfile /no/such/pid: cannot create the PID file '/no/such/pid': No such file or directory"
    assert str(error.value) == text


def said(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    return system.main(argv), capsys.readouterr().err


def test_messages_have_a_date_and_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-M", "none", "-nodefaults", "-accel", "qtest", "-name", "lab", "-device", "warp"]
    status, err = said([*words, "-msg", "timestamp=on,guest-name=on"], capsys)
    date = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert status == 1 and re.fullmatch(rf"{date} lab qom-system-x86_64: -device warp: unknown [^\n]*\n", err)
    status, err = said([*words, "-msg", "timestamp=off,guest-name=on"], capsys)
    assert status == 1 and err.startswith("lab qom-system-x86_64: -device warp: ")
