"""query-machines, -cpus-fast, -cpu-definitions, -cpu-model-expansion, -memory..., -kvm, -accelerators and the like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import ask, refusal

from qom import open_machine
from qom.vm import VirtualMachine


@pytest.fixture(scope="module")
def vm() -> Iterator[VirtualMachine]:
    with open_machine(
        machine="pc", accel="simulated", memory="64M", smp="cpus=3,maxcpus=4,sockets=2,cores=1,threads=2"
    ) as made:
        yield made


@pytest.fixture(scope="module")
def bare() -> Iterator[VirtualMachine]:
    with open_machine(machine="none", accel="qtest") as made:
        yield made


def test_machines(vm: VirtualMachine) -> None:
    found = {each["name"]: each for each in ask(vm, "query-machines")}
    pc = next(each for each in found.values() if each.get("is-default"))
    assert pc["name"] == vm.machine.type_name.removesuffix("-machine")
    assert (pc["alias"], pc["cpu-max"], pc["default-ram-id"]) == ("pc", type(vm.machine).max_cpus, "pc.ram")
    assert pc["default-cpu-type"] == vm.machine.cpu_type_name()
    assert found["none"] == {
        "name": "none", "cpu-max": 1, "hotpluggable-cpus": False, "numa-mem-supported": False, "deprecated": False,
    }  # fmt: skip


def test_the_machine(vm: VirtualMachine, bare: VirtualMachine) -> None:
    assert ask(vm, "query-current-machine") == {"wakeup-suspend-support": True}
    assert ask(bare, "query-current-machine") == {"wakeup-suspend-support": False}
    assert ask(vm, "query-target") == {"arch": "x86_64"}
    assert ask(vm, "query-memory-size-summary") == {"base-memory": 64 << 20, "plugged-memory": 0}
    assert ask(vm, "query-memory-devices") == []
    assert ask(vm, "query-iothreads") == []


def test_memory_backends(vm: VirtualMachine, bare: VirtualMachine) -> None:
    (ram,) = ask(vm, "query-memdev")
    assert (ram["id"], ram["size"], ram["share"], ram["host-nodes"]) == ("pc.ram", 64 << 20, False, [])
    assert ask(bare, "query-memdev") == []


def test_accelerators(vm: VirtualMachine, bare: VirtualMachine) -> None:
    assert ask(vm, "query-kvm") == {"enabled": False, "present": True}
    assert ask(vm, "query-accelerators")["enabled"] == "simulated"
    assert ask(bare, "query-accelerators")["enabled"] == "qtest"
    assert {"kvm", "qtest", "simulated"} <= set(ask(vm, "query-accelerators")["present"])


def test_processors(vm: VirtualMachine, bare: VirtualMachine) -> None:
    found = ask(vm, "query-cpus-fast")
    assert [each["cpu-index"] for each in found] == [0, 1, 2]
    places = [(each["props"]["socket-id"], each["props"]["core-id"], each["props"]["thread-id"]) for each in found]
    assert places == [(0, 0, 0), (0, 0, 1), (1, 0, 0)]
    assert [vm.root.resolve(each["qom-path"]) for each in found] == vm.cpus
    tasks = {int(path.name) for path in Path("/proc/self/task").iterdir()}
    assert {each["thread-id"] for each in found} <= tasks
    assert len({each["thread-id"] for each in found}) == 3
    assert ask(bare, "query-cpus-fast") == []


def test_nodes_of_processors() -> None:
    nodes = [{"nodeid": 0, "cpus": "0"}, {"nodeid": 1, "cpus": "1"}]
    with open_machine(machine="pc", accel="qtest", smp=2, settings={"numa": nodes}) as vm:
        assert [each["props"]["node-id"] for each in ask(vm, "query-cpus-fast")] == [0, 1]


def test_models_of_processors(vm: VirtualMachine) -> None:
    found = {each["name"]: each for each in ask(vm, "query-cpu-definitions")}
    assert found["qemu64"]["typename"] == "qemu64-x86_64-cpu"
    assert found["qemu64"]["unavailable-features"] == []
    assert found["host"]["unavailable-features"] == ["kvm"]
    assert found["max"] == {
        "name": "max", "typename": "max-x86_64-cpu", "static": False, "migration-safe": False, "deprecated": False,
        "unavailable-features": [],
    }  # fmt: skip
    assert {"hle", "rtm"} <= set(found["Skylake-Client"]["unavailable-features"])
    features = vm.registry.class_of("x86_64-cpu").options
    assert all(features >= set(each["unavailable-features"]) for each in found.values() if each["name"] != "host")


def test_expansion_of_models(vm: VirtualMachine) -> None:
    def expanded(name: str, **props: Any) -> dict[str, Any]:
        given = {"name": name, **({"props": props} if props else {})}
        answer: dict[str, Any] = ask(vm, "query-cpu-model-expansion", type="full", model=given)
        assert answer["model"]["name"] == name
        return dict(answer["model"]["props"])

    plain = expanded("qemu64")
    assert (plain["sse2"], plain["avx"], plain["vendor"], plain["family"]) == (True, False, "AuthenticAMD", 15)
    less = expanded("qemu64", sse2=False, family=6)
    assert {name for name in plain if plain[name] != less[name]} == {
        "sse2",
        "pni",
        "family",
    }  # SSE3 is not without SSE2
    assert expanded("Skylake-Client")["rtm"] is False  # not with this accelerator
    everything = expanded("max")
    offered = {name for name, on in everything.items() if on is True}
    assert {"sse2", "lm", "nx"} <= offered


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ({"name": "qemu65"}, "GenericError: CPU model 'qemu65' not found; did you mean 'qemu64' or 'qemu32'?"),
        ({"name": "host"}, "GenericError: CPU model 'host' requires KVM"),
        (
            {"name": "qemu64", "props": {"mtrrr": True}},
            "GenericError: Property 'qemu64-x86_64-cpu.mtrrr' not found; did you mean 'mtrr'?",
        ),
        (
            {"name": "qemu64", "props": {"realized": True}},
            "GenericError: Property 'qemu64-x86_64-cpu.realized' not found; did you mean 'serialize'?",
        ),
        (
            {"name": "qemu64", "props": {"sse2": 7}},
            "GenericError: Property 'qemu64-x86_64-cpu.sse2' cannot be 7: expected on or off",
        ),
    ],
)
def test_models_that_are_refused(vm: VirtualMachine, model: dict[str, Any], error: str) -> None:
    assert refusal(vm, "query-cpu-model-expansion", type="full", model=model) == error


def test_events(vm: VirtualMachine) -> None:
    names = [each["name"] for each in ask(vm, "query-events")]
    assert {"STOP", "RESUME", "RESET", "SHUTDOWN", "POWERDOWN", "DEVICE_DELETED"} <= set(names)
    assert names == sorted(names)


def test_command_line_options(vm: VirtualMachine) -> None:
    every = {each["option"]: each["parameters"] for each in ask(vm, "query-command-line-options")}
    smp = {each["name"]: each["type"] for each in every["smp-opts"]}
    assert {name: smp[name] for name in ("cpus", "sockets", "cores", "threads", "maxcpus")} == dict.fromkeys(
        ("cpus", "sockets", "cores", "threads", "maxcpus"), "number"
    )
    kinds = {(option, each["name"]): each["type"] for option, found in every.items() for each in found}
    assert kinds["memory", "size"] == "size"
    assert kinds["boot-opts", "menu"] == "boolean"
    assert kinds["boot-opts", "order"] == "string"
    assert kinds["mon", "chardev"] == "string"
    assert kinds["drive", "file"] == "string"
    assert kinds["rtc", "base"] == "string"
    assert every["device"] == every["object"] == []
    assert ask(vm, "query-command-line-options", option="smp-opts") == [
        {"option": "smp-opts", "parameters": every["smp-opts"]}
    ]
    assert refusal(vm, "query-command-line-options", option="smp-opt") == (
        "GenericError: invalid option name: smp-opt; did you mean 'smp-opts'?"
    )
