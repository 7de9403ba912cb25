"""A QMP session from greeting to end: negotiation, requests, errors, out-of-band execution, events, several clients."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qmp_machine import QmpMachine, qmp_machine

from qom import MonitorCommand, prop
from qom.errors import PluginError
from qom.monitor import MonitorEvent, service_of
from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.table import hmp_table
from qom.monitor.session import ANSWERS_WAITING
from qom.monitor.version import greeting, version_info
from qom.plugins import default_registry


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QmpMachine]:
    with qmp_machine(tmp_path_factory.mktemp("qmp"), monitors=2) as made:
        yield made


@pytest.fixture
def shared(one_machine: QmpMachine) -> Iterator[QmpMachine]:
    """The machine of this file, with clients that are this test's."""
    with QmpMachine(one_machine.vm, one_machine.paths) as made:
        yield made


def test_greeting_and_negotiation(shared: QmpMachine) -> None:
    client = shared.client(negotiated=False)
    greeting = client.greeting["QMP"]
    assert greeting["capabilities"] == ["oob"]
    assert set(greeting["version"]["qemu"]) == {"major", "minor", "micro"}
    want = "CommandNotFound: Expecting capabilities negotiation with 'qmp_capabilities'"
    assert client.error("query-status") == want
    assert client.error("query-stats2") == f"{want} (and there is no command query-stats2)"
    assert client.error("qmp_capabilities", enable=["obo"]) == (
        "GenericError: Parameter 'enable[0]' does not accept value 'obo': expected one of oob; did you mean 'oob'?"
    )
    client.negotiate("oob")
    again = "CommandNotFound: Capabilities negotiation is already complete, command ignored"
    assert client.error("qmp_capabilities") == again


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ('{"execute": "system_rset"}',
         "CommandNotFound: The command system_rset has not been found; did you mean 'system_reset' or 'system_wakeup'?"),
        ('{"bla": 1}', "GenericError: QMP input member 'bla' is unexpected"),
        ("{}", "GenericError: QMP input lacks member 'execute'"),
        ('{"execute": 1}', "GenericError: QMP input member 'execute' must be a string, got 1"),
        ('{"execute": "stop", "arguments": []}', "GenericError: QMP input member 'arguments' must be an object, got []"),
        ('{"execute": "stop", "arguments": {"x": 1}}', "GenericError: Parameter 'x' is unexpected; expected none"),
        ('{"exec-oob": "stop"}', "GenericError: QMP input member 'exec-oob' is unexpected"),
        ("[1]", "GenericError: QMP input must be a JSON object, got [1]"),
        ('"stop"', "GenericError: QMP input must be a JSON object, got 'stop'"),
        ('{"execute": "qom-get", "arguments": {"path": 1}}',
         "GenericError: Invalid parameter type for 'path', expected: string; got 1"),
        ('{"execute": "qom-get", "arguments": {"path": "/machine"}}',
         "GenericError: Parameter 'property' is missing: expected string"),
    ],
)  # fmt: skip
def test_requests_that_are_none(shared: QmpMachine, request_: str, error: str) -> None:
    client = shared.client()
    answer = client.say(request_)["error"]
    assert f"{answer['class']}: {answer['desc']}" == error
    assert client.do("query-status")["status"] == "prelaunch"


def test_the_id_comes_back_whatever_it_is(shared: QmpMachine) -> None:
    client = shared.client()
    for value in (1, "a", None, {"deep": [1, {"x": "\N{SNOWMAN}"}]}, [], 1.5, True):
        assert client.say(json.dumps({"execute": "query-name", "id": value}))["id"] == value
        assert client.say(json.dumps({"execute": "nothing", "id": value}))["id"] == value


def test_a_request_in_pieces_many_at_once_and_with_broken_ones_between(shared: QmpMachine) -> None:
    client = shared.client()
    for byte in b'{"execute": "query-name", "id": "slow"}':
        client.send(bytes([byte]))
    assert client.answer()["id"] == "slow"
    client.send("".join(f'{{"execute": "query-name", "id": {n}}}' for n in range(300)))
    assert [client.answer()["id"] for _ in range(300)] == list(range(300))
    client.send('{"execute": "query-name", "id": 1}{]\n{"execute": "query-name", "id": 2}\n')
    assert client.answer()["id"] == 1
    assert client.answer()["error"]["desc"] == "JSON parse error, unexpected ']': expected '}' at byte 1"
    assert client.answer()["id"] == 2


def test_a_large_request(shared: QmpMachine) -> None:
    client = shared.client()
    name = "x" * (3 << 20)
    answer = client.say(json.dumps({"execute": "query-name", "arguments": {name: 1}}))
    assert answer["error"]["desc"].startswith("Parameter 'xxxx")
    assert client.say(json.dumps({"execute": "query-name", "id": name}))["id"] == name


def test_sessions_are_their_own(shared: QmpMachine) -> None:
    first, second = shared.client(0, negotiated=False), shared.client(1)
    assert "Expecting" in first.error("query-name")
    shared.vm.emit("POWERDOWN")
    assert second.event("POWERDOWN")["timestamp"].keys() == {"seconds", "microseconds"}
    first.negotiate()
    assert first.events == []  # none before it was ready


def test_a_client_goes_and_the_next_is_greeted(shared: QmpMachine) -> None:
    first = shared.client()
    first.send('{"execute": "query-name", "id"')
    first.close()
    second = shared.client()
    assert second.do("query-name") == {}


def test_events_have_the_data_that_is_declared_and_no_more(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, "-name", "box") as made:
        client = made.client()
        assert client.do("query-name") == {"name": "box"}
        client.do("cont")
        before = time.time()
        assert "data" not in client.event("RESUME")
        client.do("system_reset")
        assert client.event("RESET")["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        client.do("stop")
        stamp = client.event("STOP")["timestamp"]
        assert before - 1 < stamp["seconds"] + stamp["microseconds"] / 1e6 < time.time() + 1
        client.do("quit")
        assert client.event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-qmp-quit"}
        assert made.vm.wait(30)


def test_limited_events_come_late_and_only_the_last(shared: QmpMachine) -> None:
    client = shared.client()
    for offset in (1, 2, 3):
        shared.vm.emit("RTC_CHANGE", offset=offset, **{"qom-path": "/machine/rtc"})
    assert client.event("RTC_CHANGE")["data"] == {"offset": 1, "qom-path": "/machine/rtc"}
    assert client.event("RTC_CHANGE")["data"]["offset"] == 3
    assert client.do("query-name") == {}
    assert client.events == []


def test_a_slow_command_holds_up_neither_out_of_band_nor_other_clients_greeting(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, monitors=2) as made:
        entered, go = threading.Event(), threading.Event()

        def slow(vm: Any, given: dict[str, Any]) -> str:
            entered.set()
            assert go.wait(30)
            return "done"

        extensions = made.vm.registry.extensions
        extensions.add_commands(
            [MonitorCommand("be-slow", "Take time", slow, {"n": prop(1, "Any", type="int32")})], "t", "t:t"
        )
        client = made.client()
        oob = made.client(1, negotiated=False)
        oob.negotiate("oob")
        client.send('{"execute": "be-slow", "id": 1}\n{"execute": "query-name", "id": 2}\n')
        assert entered.wait(30)
        oob.send('{"execute": "query-name", "id": "in band"}\n{"exec-oob": "query-yank", "id": "oob"}\n')
        assert oob.answer() == {"return": [], "id": "oob"}  # overtakes what waits
        assert (
            oob.say('{"exec-oob": "query-name", "id": 9}')["error"]["desc"]
            == "The command query-name does not support OOB"
        )
        go.set()
        assert client.answer() == {"return": "done", "id": 1}
        assert client.answer() == {"return": {}, "id": 2}
        assert oob.answer() == {"return": {}, "id": "in band"}


def test_out_of_band_right_behind_the_negotiation_is_no_other(shared: QmpMachine) -> None:
    client = shared.client(0, negotiated=False)
    client.send(
        '{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}\n'
        '{"exec-oob": "query-name", "id": 1}\n{"exec-oob": "query-yank", "id": 2}\n'
    )
    assert client.answer() == {"return": {}}
    refused = {"class": "GenericError", "desc": "The command query-name does not support OOB"}
    assert client.answer() == {"error": refused, "id": 1}
    assert client.answer() == {"return": [], "id": 2}


def test_a_client_that_does_not_read_is_read_from_no_further_and_delays_nobody(shared: QmpMachine) -> None:
    greedy, other = shared.client(0), shared.client(1)
    greedy.socket.settimeout(0.5)
    request = b'{"execute": "query-qmp-schema"}\n'
    sent = 0
    with pytest.raises(TimeoutError):  # in the end nobody takes what it sends
        while sent < 64 << 20:
            sent += greedy.socket.send(request * 1000)
    session = service_of(shared.vm).sessions[0]
    for _ in range(20):
        assert other.do("query-name") == {}
    assert len(session._out) < ANSWERS_WAITING + (1 << 20)
    shared.vm.emit("POWERDOWN")
    other.event("POWERDOWN")
    greedy.close()
    assert shared.client(0).do("query-name") == {}


def test_a_client_that_is_killed_in_the_middle_of_anything(shared: QmpMachine) -> None:
    other = shared.client(1)
    for data in (b"", b"{", b'{"execute": "query-qmp-schema"}' * 50, b'{"execute": "stop', b"\xff\x00", b"]" * 1000):
        client = shared.client(0)
        client.send(data)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        assert other.do("query-status")["status"] == "prelaunch"


def test_pretty_answers(tmp_path: Path) -> None:
    path = tmp_path / "pretty"
    with qmp_machine(tmp_path, "-qmp-pretty", f"unix:{path},server=on,wait=off") as made:
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(30)
        raw.connect(str(path))
        text = b""
        while not text.endswith(b"}\r\n"):
            text += raw.recv(4096)
        assert text.startswith(b'{\n    "QMP": {\n        "version"')
        assert json.loads(text)["QMP"] == made.client().greeting["QMP"]
        raw.close()


def test_an_answer_that_json_cannot_hold_and_a_command_that_fails(tmp_path: Path) -> None:
    with qmp_machine(tmp_path) as made:

        def odd(vm: Any, given: dict[str, Any]) -> Any:
            if given["fail"]:
                raise ZeroDivisionError("of all numbers")
            return {1, 2}

        command = MonitorCommand("odd", "Be odd", odd, {"fail": prop(False, "Raise", type="bool")})
        made.vm.registry.extensions.add_commands([command], "acme", "acme:odd")
        client = made.client()
        assert client.do("query-status")["running"] is False
        assert client.error("odd") == (
            "GenericError: the answer cannot be written as JSON: Object of type set is not JSON serializable"
        )
        assert "monitor command 'odd' of acme failed: ZeroDivisionError: of all numbers" in client.error(
            "odd", fail=True
        )
        assert client.do("query-status")["running"] is False


def test_plugins_bring_events(tmp_path: Path) -> None:
    registry = default_registry(load_external=False).fork()
    event = MonitorEvent("BELL_RANG", dict[str, int], "The bell rang")
    registry.extensions.add_events([event], "acme:bell")
    try:
        with qmp_machine(tmp_path, registry=registry) as made:
            client = made.client()
            made.vm.emit("BELL_RANG", times=3)
            assert client.event("BELL_RANG")["data"]["times"] == 3
            assert any(one["name"] == "BELL_RANG" for one in client.do("query-qmp-schema"))
        with pytest.raises(PluginError, match=r"^event 'BELL_RANG' exists already: expected another name$"):
            registry.extensions.add_events([event], "other:bell")
        for wrong, shown in (({"times": int}, r"\{'times': <class 'int'>\}"), (int, "<class 'int'>")):
            with pytest.raises(PluginError) as raised:
                registry.extensions.add_events([MonitorEvent("BELL_BROKE", wrong)], "other:bell")
            wanted = f"event 'BELL_BROKE': its data is {shown}: expected a TypedDict, dict\\[str, ...\\], or None"
            assert re.fullmatch(wanted, str(raised.value))
    finally:
        registry.extensions.drop("acme:bell")


def test_preconfig(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, "-preconfig", "-S") as made:
        builder = threading.Thread(target=made.vm.build)
        builder.start()
        client = made.client_when_there()
        # a client that knows QEMU 7.2's words only must be able to read it
        assert client.do("query-status") == {"running": False, "singlestep": False, "status": "prelaunch"}
        table = hmp_table(made.vm)
        assert table.run("info status", Hmp(made.vm, table)) == "VM status: paused (prelaunch)\n"
        assert client.do("query-block") == client.do("query-named-block-nodes") == []
        assert client.error("cont") == (
            "GenericError: The command 'cont' is permitted only after machine initialization has completed"
        )
        assert client.do("qom-get", path="/machine", property="ram-size") == 128 << 20
        client.do("qom-set", path="/machine", property="ram-size", value=64 << 20)
        client.do("x-exit-preconfig")
        builder.join(30)
        made.vm.start_loop()
        assert client.do("query-status")["status"] == "prelaunch"
        assert client.error("x-exit-preconfig") == (
            "GenericError: The command 'x-exit-preconfig' is permitted only before machine initialization"
        )
        assert client.do("qom-get", path="/machine", property="ram-size") == 64 << 20


def test_a_machine_that_is_ended_before_it_was_built(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, "-preconfig") as made:
        status: list[int] = []
        runner = threading.Thread(target=lambda: status.append(made.vm.build().run()))
        runner.start()
        client = made.client_when_there()
        client.do("quit")
        assert client.event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
        runner.join(30)
        assert status == [0]


def test_the_greeting_is_what_query_version_says() -> None:
    assert json.loads(greeting()) == {"QMP": {"version": version_info(), "capabilities": ["oob"]}}
