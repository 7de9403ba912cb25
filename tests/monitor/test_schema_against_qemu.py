"""Our commands and events, held against the schema of a real QEMU 7.2 (`query-qmp-schema`).

Of every command and event that both have: whatever QEMU takes we take, by the same names and JSON types, and what QEMU
promises in an answer is in ours.  `DEVIATIONS` names every exception with its reason; a row that is none any more fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from asked import ask

from qom import open_machine

QEMU = shutil.which("qemu-system-x86_64")

NOT_MODELLED = "what it is about is not modelled"
BY_TYPE = "what an object or device takes depends on its type, which may be a plugin's"

FACTS_OF_OURS = "what is counted is ours: accelerator and devices, by our names"
NUMA = "NUMA nodes have processors, memory by size and distances; the rest of it is not modelled"

_CHARDEV_GAPS = {
    "type: without braille, dbus, msmouse, parallel, qemu-vdagent, serial, spiceport, spicevmc, testdev, vc, wctablet":
        NOT_MODELLED,
    "socket data addr type: without vsock": NOT_MODELLED,
    "socket data addr inet data numeric: not taken": NOT_MODELLED,
    "socket data addr inet data keep-alive: not taken": NOT_MODELLED,
    "socket data addr inet data mptcp: not taken": NOT_MODELLED,
    "socket data tls-creds: not taken": NOT_MODELLED,
    "socket data tls-authz: not taken": NOT_MODELLED,
    "socket data tn3270: not taken": NOT_MODELLED,
    "socket data websocket: not taken": NOT_MODELLED,
}  # fmt: skip

DEVIATIONS: dict[str, str] = {
    **{
        f"{name}: argument backend {gap}": why
        for name in ("chardev-add", "chardev-change")
        for gap, why in _CHARDEV_GAPS.items()
    },
    "GUEST_CRASHLOADED: data info type: left out": "no device here has more to tell; a plugin's says what it likes",
    "GUEST_PANICKED: data info type: left out": "no device here has more to tell; a plugin's says what it likes",
    "blockdev-add: argument cache direct: not taken": NOT_MODELLED,
    "blockdev-add: argument cache no-flush: not taken": NOT_MODELLED,
    "blockdev-add: argument driver: a word of QEMU's choice is any text here": BY_TYPE,
    "blockdev-add: argument node-name: required": "a node without a name is the child of another, which is not modelled",
    "query-cpu-model-expansion: argument model props: object instead of value": "QEMU says any, and refuses what is no object",
    "query-stats-schemas: answer[] provider: QEMU has no inner, user": FACTS_OF_OURS,
    "query-stats-schemas: argument provider: without kvm": FACTS_OF_OURS,
    "query-stats: answer[] provider: QEMU has no inner, user": FACTS_OF_OURS,
    "query-stats: argument providers[] provider: without kvm": FACTS_OF_OURS,
    "set-numa-node: argument cpu cluster-id: not taken": NUMA,
    "set-numa-node: argument cpu die-id: not taken": NUMA,
    "set-numa-node: argument node initiator: not taken": NUMA,
    "set-numa-node: argument node memdev: not taken": NUMA,
    "set-numa-node: argument type: without hmat-cache, hmat-lb": NUMA,
    "human-monitor-command: without the feature savevm-monitor-nodes": "savevm is not modelled",
    "object-add: argument qom-type: a word of QEMU's choice is any text here": BY_TYPE,
}
"""Difference: why."""

JSON_TYPES = {"int": "int", "str": "string", "bool": "boolean", "number": "number", "any": "value", "null": "null"}


class Schema:
    """One query-qmp-schema."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.by_name = {entry["name"]: entry for entry in entries}

    def names(self, meta: str) -> set[str]:
        return {name for name, entry in self.by_name.items() if entry["meta-type"] == meta}

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.by_name[name]

    def words(self, entry: dict[str, Any]) -> set[str]:
        return {member["name"] for member in entry["members"]}

    def kind(self, entry: dict[str, Any]) -> str:
        """The JSON type of a value, or "alternate"."""
        meta = entry["meta-type"]
        if meta == "builtin":
            return str(entry["json-type"])
        return {"enum": "string", "array": "array", "object": "object"}.get(meta, meta)


class Comparison:
    """Finds the differences of two schemas; `ours` has to take all that `theirs` takes, and to say all that it says."""

    def __init__(self, ours: Schema, theirs: Schema) -> None:
        self.ours, self.theirs = ours, theirs
        self._seen: set[tuple[str, str, bool]] = set()

    def command(self, name: str) -> Iterator[str]:
        mine, real = self.ours[name], self.theirs[name]
        self._seen.clear()
        yield from self.arguments(f"{name}: argument", mine["arg-type"], real["arg-type"])
        yield from self.answer(f"{name}: answer", mine["ret-type"], real["ret-type"])
        if real.get("allow-oob") and not mine.get("allow-oob"):
            yield f"{name}: not out of band"
        for feature in set(real.get("features", ())) - set(mine.get("features", ())):
            yield f"{name}: without the feature {feature}"

    def event(self, name: str) -> Iterator[str]:
        self._seen.clear()
        yield from self.answer(f"{name}: data", self.ours[name]["arg-type"], self.theirs[name]["arg-type"])

    def _new(self, mine: str, real: str, answer: bool) -> bool:
        key = (mine, real, answer)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def arguments(self, where: str, mine_name: str, real_name: str) -> Iterator[str]:
        mine, real = self.ours[mine_name], self.theirs[real_name]
        if mine.get("json-type") == "value" or not self._new(mine_name, real_name, False):
            return
        kind, real_kind = self.ours.kind(mine), self.theirs.kind(real)
        if kind == "alternate":
            members = {self.ours.kind(self.ours[each["type"]]): each["type"] for each in mine["members"]}
            wanted = [each["type"] for each in real["members"]] if real_kind == "alternate" else [real_name]
            for each in wanted:
                found = members.get(self.theirs.kind(self.theirs[each]))
                if found is None:
                    yield f"{where}: no {self.theirs.kind(self.theirs[each])}"
                else:
                    yield from self.arguments(where, found, each)
        elif kind != real_kind:
            yield f"{where}: {kind} instead of {real_kind}"
        elif kind == "string":
            if "enum" == real["meta-type"] != mine["meta-type"]:
                yield f"{where}: a word of QEMU's choice is any text here"
            elif mine["meta-type"] == "enum":
                if real["meta-type"] != "enum":
                    yield f"{where}: only some words instead of any text"
                elif missing := self.theirs.words(real) - self.ours.words(mine):
                    yield f"{where}: without {', '.join(sorted(missing))}"
        elif kind == "array":
            yield from self.arguments(f"{where}[]", mine["element-type"], real["element-type"])
        elif kind == "object":
            yield from self._taken(where, mine, real)

    def _taken(self, where: str, mine: dict[str, Any], real: dict[str, Any]) -> Iterator[str]:
        members = {each["name"]: each for each in mine["members"]}
        wanted = {each["name"]: each for each in real["members"]}
        for name, each in wanted.items():
            if name not in members:
                yield f"{where} {name}: not taken"
                continue
            if "default" in each and "default" not in members[name]:
                yield f"{where} {name}: required"
            yield from self.arguments(f"{where} {name}", members[name]["type"], each["type"])
        for name, each in members.items():
            if name not in wanted and "default" not in each:
                yield f"{where} {name}: required, and QEMU does not know it"
        if "tag" in mine and real.get("tag") != mine["tag"]:
            yield f"{where}: chosen by {mine['tag']} instead of {real.get('tag')}"
        elif "tag" in mine:
            cases = {each["case"]: each["type"] for each in real["variants"]}
            for each in mine["variants"]:
                if each["case"] in cases:
                    yield from self.arguments(f"{where} {each['case']}", each["type"], cases[each["case"]])

    def answer(self, where: str, mine_name: str, real_name: str) -> Iterator[str]:
        mine, real = self.ours[mine_name], self.theirs[real_name]
        if real.get("json-type") == "value" or not self._new(mine_name, real_name, True):
            return
        kind, real_kind = self.ours.kind(mine), self.theirs.kind(real)
        if kind != real_kind:
            yield f"{where}: {kind} instead of {real_kind}"
        elif kind == "string" and mine["meta-type"] == "enum" == real["meta-type"]:
            if more := self.ours.words(mine) - self.theirs.words(real):
                yield f"{where}: QEMU has no {', '.join(sorted(more))}"
        elif kind == "array":
            yield from self.answer(f"{where}[]", mine["element-type"], real["element-type"])
        elif kind == "object":
            members = {each["name"]: each for each in mine["members"]}
            for each in real["members"]:
                found = members.get(each["name"])
                if found is None:
                    if "default" not in each:
                        yield f"{where} {each['name']}: left out"
                    continue
                if "default" in found and "default" not in each:
                    yield f"{where} {each['name']}: not always there"
                yield from self.answer(f"{where} {each['name']}", found["type"], each["type"])
            cases = {each["case"]: each["type"] for each in real.get("variants", ())}
            for each in mine.get("variants", ()):
                if each["case"] in cases:
                    yield from self.answer(f"{where} {each['case']}", each["type"], cases[each["case"]])


@pytest.fixture(scope="module")
def theirs() -> Schema:
    if QEMU is None:
        pytest.skip("QEMU (qemu-system-x86_64) is not installed")
    commands = [{"execute": "qmp_capabilities"}, {"execute": "query-qmp-schema"}, {"execute": "quit"}]
    words = [QEMU, "-machine", "none", "-display", "none", "-nodefaults", "-qmp", "stdio"]
    text = "".join(json.dumps(each) for each in commands)
    ran = subprocess.run(words, input=text, capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    if lines[0]["QMP"]["version"]["qemu"]["major"] != 7 or lines[0]["QMP"]["version"]["qemu"]["minor"] != 2:
        pytest.skip("the QEMU that is installed is not 7.2")
    return Schema(next(line["return"] for line in lines if isinstance(line.get("return"), list)))


@pytest.fixture(scope="module")
def ours() -> Schema:
    with open_machine(machine="none", accel="qtest") as vm:
        return Schema(ask(vm, "query-qmp-schema"))


def test_schema_is_closed(ours: Schema) -> None:
    """Every type that is named is described."""

    def names(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in ("arg-type", "ret-type", "type", "element-type"):
                    yield inner
                else:
                    yield from names(inner)
        elif isinstance(value, list):
            for each in value:
                yield from names(each)

    for entry in ours.by_name.values():
        for name in names(entry):
            assert ours[name]["meta-type"] not in ("command", "event")


def test_ours_take_and_say_what_qemus_do(ours: Schema, theirs: Schema) -> None:
    both = Comparison(ours, theirs)
    found: list[str] = []
    for name in sorted(ours.names("command") & theirs.names("command")):
        found += both.command(name)
    for name in sorted(ours.names("event") & theirs.names("event")):
        found += both.event(name)
    new = [each for each in found if each not in DEVIATIONS]
    gone = [each for each in DEVIATIONS if each not in found]
    assert not new, "\n".join(["differs from QEMU, without a reason in DEVIATIONS:", *new])
    assert not gone, "\n".join(["in DEVIATIONS, and differs no more:", *gone])


def test_what_qemu_has_not_is_marked(ours: Schema, theirs: Schema) -> None:
    """A command of ours that QEMU 7.2 lacks is marked by x-, or is of an older or a newer QEMU."""
    others = {"query-events", "qom-list-get", "query-accelerators"}
    mine = ours.names("command") - theirs.names("command")
    assert {name for name in mine if not name.startswith("x-")} == others
    events = ours.names("event") - theirs.names("event")
    assert all(name.startswith("X_") for name in events)
