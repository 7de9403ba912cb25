"""Every command with no, wrong, missing, extra and random arguments: each gets an answer or an error, the server lives on.

The arguments come from query-qmp-schema, so a command that is added is covered.  Its commands are sent over a socket to a
machine in this process, which must be whole afterwards; what ends or stops it on purpose is undone or left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_machine import Client, QmpMachine, qmp_machine

ENDS = frozenset({"quit", "qmp_capabilities", "x-exit-preconfig"})
"""Not called with good arguments: they end the machine or the negotiation, which other tests look at."""
CLASSES = frozenset({"GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap"})
ROUNDS = 12
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 63, (1 << 64) - 1, 0.5, "", "x", "/", "/machine", "\N{SNOWMAN}", "a" * 5000, [], [None], {},
    {"a": {}},
)  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QmpMachine]:
    monkeypatch.chdir(tmp_path)  # where files go whose names were made up
    with qmp_machine(tmp_path, "-m", "4", monitors=2) as made:
        yield made


class Maker:
    """Arguments for commands, from the schema."""

    def __init__(self, schema: list[dict[str, Any]], seed: int) -> None:
        self.types = {one["name"]: one for one in schema if one["meta-type"] not in ("command", "event")}
        self.commands = {one["name"]: one for one in schema if one["meta-type"] == "command"}
        self.random = random.Random(seed)

    def members(self, name: str) -> dict[str, dict[str, Any]]:
        found = self.types[name]
        return {member["name"]: member for member in found["members"]}

    def value(self, name: str, depth: int = 0) -> Any:
        """A value of the type `name`."""
        found, pick = self.types[name], self.random
        kind = found["meta-type"]
        if kind == "builtin":
            made: dict[str, Any] = {
                "string": pick.choice(("", "a", "file:out", "/machine", "tcp:127.0.0.1:1", "0", "é" * 30)),
                "int": pick.choice((0, 1, 2, 7, 4096, 1 << 40, -1)),
                "number": pick.random(),
                "boolean": pick.random() < 0.5,
                "null": None,
                "value": pick.choice(JUNK),
            }
            return made[found["json-type"]]
        if kind == "enum":
            return pick.choice(found["values"])
        if kind == "array":
            return [self.value(found["element-type"], depth + 1) for _ in range(pick.randrange(3))] if depth < 5 else []
        if kind == "alternate":
            return self.value(pick.choice(found["members"])["type"], depth + 1)
        out: dict[str, Any] = {}
        for member in found["members"]:
            if "default" not in member or (depth < 4 and pick.random() < 0.5):
                out[member["name"]] = self.value(member["type"], depth + 1)
        if "tag" in found and isinstance(out.get(found["tag"]), str):
            case = next((v["type"] for v in found["variants"] if v["case"] == out[found["tag"]]), None)
            if case is not None:
                out.update(self.value(case, depth + 1))
        return out

    def requests(self, name: str) -> Iterator[Any]:
        """Arguments for one command: none, junk in each member, each member missing, one too many, random good ones."""
        arg = self.commands[name]["arg-type"]
        members = self.members(arg)
        if any("default" not in member for member in members.values()) or name not in ENDS:
            yield {}
        yield {"no-such-argument": 1}
        for number, junk in enumerate(JUNK):
            wanted = list(members)
            if wanted:
                member = wanted[number % len(wanted)]
                yield {**self.value(arg), member: junk, "one-too-many" if number % 5 == 0 else member: junk}
        if name in ENDS:
            return
        for member in members:
            yield {key: value for key, value in self.value(arg).items() if key != member}
        for _ in range(ROUNDS if members else 1):
            yield self.value(arg)


def lives(client: Client) -> bool:
    return bool(client.do("query-version")["qemu"])


def test_every_command_with_every_kind_of_arguments(machine: QmpMachine) -> None:
    seed = random.SystemRandom().getrandbits(32)
    client, witness = machine.client(0), machine.client(1)
    maker = Maker(client.do("query-qmp-schema"), seed)
    sent = good = 0
    for name in sorted(maker.commands):
        if name in ENDS:
            continue
        for arguments in maker.requests(name):
            request = json.dumps({"execute": name, "arguments": arguments, "id": sent})
            answer = client.say(request)
            sent += 1
            assert answer["id"] == sent - 1, (seed, request, answer)
            if "error" in answer:
                error = answer["error"]
                assert error["class"] in CLASSES, (seed, request, error)
                assert error["desc"].strip(), (seed, request, error)
                assert "\n" not in error["desc"], (seed, request, error)
                assert "internal error" not in error["desc"], (seed, request, error)
                assert "Traceback" not in error["desc"], (seed, request, error)
                assert "what its type does not allow" not in error["desc"], (seed, request, error)
            else:
                good += 1
        assert lives(witness), (seed, name)
        assert machine.vm.failure is None, (seed, name, machine.vm.failure)
    assert sent > 10 * len(maker.commands)
    assert good > len(maker.commands) // 3, (good, sent)
    assert lives(client)


def test_the_same_before_the_board_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.chdir(tmp_path)
    seed = random.SystemRandom().getrandbits(32)
    with qmp_machine(tmp_path, "-preconfig", "-m", "4") as made:
        builder = threading.Thread(target=made.vm.build)
        builder.start()
        client = made.client_when_there()
        maker = Maker(client.do("query-qmp-schema"), seed)
        for name in sorted(set(maker.commands) - ENDS):
            for number, arguments in enumerate(maker.requests(name)):
                if number % 4:
                    continue
                answer = client.say(json.dumps({"execute": name, "arguments": arguments}))
                text = answer.get("error", {}).get("desc", "")
                assert "internal error" not in text, (seed, name, arguments, text)
                assert "failed:" not in text or "command" not in text, (seed, name, arguments, text)
        assert lives(client)
        client.do("quit")
        builder.join(30)
        assert not builder.is_alive()


def test_broken_json_around_good_requests(machine: QmpMachine) -> None:
    client, pick = machine.client(), random.Random(5)
    good = b'{"execute": "query-name", "id": "good"}'
    answered = 0
    for _ in range(150):
        broken = bytearray(good)
        for _ in range(pick.randrange(1, 4)):
            place = pick.randrange(len(broken))
            broken[place : place + pick.randrange(2)] = bytes([pick.choice(b"{}[]\",:\\ \x00\xff\n'x1")])
        client.send(bytes(broken) + b"\n\"\n'\n]\n" + good + b"\n")
    client.send(b'{"execute": "query-version", "id": "last"}\n')
    while (answer := client.answer()).get("id") != "last":
        answered += answer.get("id") == "good" and "return" in answer
    assert answered >= 150
