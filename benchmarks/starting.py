"""From the start of the process to the QMP greeting, to a built machine, and what the whole composition tree takes.

A `pc` with what it has by default, standing still (`-S`), serves QMP on a unix socket.  A client connects as soon as the
socket is there and waits for the greeting; it negotiates at once, and the first answer to a command after that is taken for a
built machine: neither side answers earlier.  Then the tree is read, with every property of every object: by one call where
there is one, else by walking it with qom-list and qom-get.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from benchmarks.peers import BenchmarkError, Peer, environment
from benchmarks.report import Row

WHOLE_TREE = "x-query-qom-tree"
SECONDS = 60.0  # for one start
PAUSE = 0.0005  # between two looks whether the socket is there
STARTS = 10  # a round has so many of each peer's: one is over quickly


NOTE = """
## Starting

QEMU is a program that the dynamic linker puts together; ours is read by an interpreter, module by module. Up to the
greeting that is the interpreter itself, what everything needs of Python's library (`functools`, `enum`, `threading`,
`socket`), and of this tree the object model, the configuration, the command line, the main loop and the monitor's session.
A test holds what may be imported until then, and until the machine is built (tests/qom/test_imports.py). Commands, boards,
devices and accelerators come after it. A greeting sent before the server is there to answer would be quicker and worth
nothing.

The tree is read by one call here, and in QEMU by `qom-list` and `qom-get` for each object and property.
"""
"""What the page says about these rows."""


@attrs.frozen
class Start:
    """What one start took, in seconds; objects and properties: how many the tree has."""

    greeting: float
    built: float
    tree: float
    objects: int
    properties: int


class Client:
    """As little of a QMP client as can be."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rwb")

    def read(self) -> dict[str, Any]:
        """The next message that is no event; BenchmarkError at the end."""
        for line in self._file:
            message: dict[str, Any] = json.loads(line)
            if "event" not in message:
                return message
        raise BenchmarkError("the monitor's connection ended")

    def call(self, command: str, **arguments: Any) -> Any:
        """A command's answer; BenchmarkError when it is an error."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        answer = self.read()
        if "return" not in answer:
            raise BenchmarkError(f"{command}: {answer}")
        return answer["return"]


def start(peer: Peer) -> Start:
    """Start a peer's machine, measure, and end it.

    Raises:
        BenchmarkError: it starts none, or does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "qmp")
        command = peer.monitored(path)
        if command is None:
            raise BenchmarkError(f"{peer.name}: it has no QMP")
        begin = time.perf_counter()
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
        ) as child:
            try:
                with _connected(path, child, begin) as connection:
                    client = Client(connection)
                    if "QMP" not in client.read():
                        raise BenchmarkError("no greeting")
                    greeting = time.perf_counter() - begin
                    client.call("qmp_capabilities")
                    client.call("query-status")
                    built = time.perf_counter() - begin
                    tree, objects, properties = _tree(client)
                    client.call("quit")
                child.wait(SECONDS)
            except (OSError, subprocess.TimeoutExpired, BenchmarkError) as error:
                raise BenchmarkError(f"{peer.name}: {_last_words(child) or error}") from None
        return Start(greeting, built, tree, objects, properties)


def _last_words(child: subprocess.Popen[bytes]) -> str:
    """The first line of what it wrote to its standard error, once it has ended or been ended."""
    try:
        said = child.communicate(timeout=5)[1]
    except subprocess.TimeoutExpired:
        child.kill()
        said = child.communicate()[1]
    return next(iter(said.decode(errors="replace").splitlines()), "")


@contextlib.contextmanager
def _connected(path: Path, child: subprocess.Popen[bytes], begin: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        while True:
            try:
                connection.connect(str(path))
                break
            except OSError:
                if child.poll() is not None or time.perf_counter() - begin > SECONDS:
                    text = (
                        child.stderr.read().decode(errors="replace") if child.poll() and child.stderr else "no socket"
                    )
                    raise BenchmarkError(text.strip() or "no socket") from None
                time.sleep(PAUSE)
        yield connection


def _tree(client: Client) -> tuple[float, int, int]:
    """Seconds, objects and properties of the whole tree."""
    whole = any(entry["name"] == WHOLE_TREE for entry in client.call("query-commands"))
    begin = time.perf_counter()
    if whole:
        objects, properties = _counted(client.call(WHOLE_TREE))
    else:
        objects, properties = _walked(client, "/")
    return time.perf_counter() - begin, objects, properties


def _counted(node: dict[str, Any]) -> tuple[int, int]:
    below = [_counted(child) for child in node["children"]]
    return 1 + sum(n for n, _ in below), len(node["properties"]) + sum(n for _, n in below)


def _walked(client: Client, path: str) -> tuple[int, int]:
    """The objects and properties below and at `path`, each property read."""
    objects, properties = 1, 0
    for found in client.call("qom-list", path=path):
        if found["type"].startswith("child<"):
            more = _walked(client, f"{path.rstrip('/')}/{found['name']}")
            objects, properties = objects + more[0], properties + more[1]
            continue
        properties += 1
        with contextlib.suppress(BenchmarkError):  # not every property can be read
            client.call("qom-get", path=path, property=found["name"])
    return objects, properties


def measure_starting(peers: list[Peer], rounds: int) -> list[Row]:
    """The three rows, in milliseconds; the tree's also for each property, since the trees are not the same."""
    greeting = Row("QMP greeting", "from the start of the process to the greeting", "ms", higher_is_better=False)
    built = Row("QMP built", "from the start of the process to a built pc that answers", "ms", higher_is_better=False)
    tree = Row("QMP tree", "every property of every object of a pc", "ms", higher_is_better=False)
    each = Row("QMP tree, a property", "the same for each property in it", "us", higher_is_better=False)
    for turn in range(rounds * STARTS + 1):
        for peer in peers:
            if peer.name in greeting.missing:
                continue
            try:
                took = start(peer)
            except BenchmarkError as error:
                greeting.missing[peer.name] = str(error).splitlines()[0]
                continue
            if turn:  # the first fills caches: of files, and of Python's bytecode
                greeting.samples.setdefault(peer.name, []).append(took.greeting * 1e3)
                built.samples.setdefault(peer.name, []).append(took.built * 1e3)
                tree.samples.setdefault(peer.name, []).append(took.tree * 1e3)
                each.samples.setdefault(peer.name, []).append(took.tree / took.properties * 1e6)
    return [greeting, built, tree, each]
