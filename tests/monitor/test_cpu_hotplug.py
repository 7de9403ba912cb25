"""Processors that come by device_add, into places that -smp maxcpus leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asked import ask, refusal

from qom import LifecycleError, open_machine
from qom.vm import VirtualMachine

CPU = "qemu64-x86_64-cpu"


@pytest.fixture(params=["qtest", "simulated", "kvm"])
def vm(request: pytest.FixtureRequest) -> Iterator[VirtualMachine]:
    if request.param == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no /dev/kvm here that may be opened")
    topology = "cpus=2,maxcpus=8,sockets=2,cores=2,threads=2"
    with open_machine(machine="pc", accel=request.param, memory="16M", smp=topology) as made:
        yield made


def place(socket: int, core: int, thread: int) -> dict[str, Any]:
    return {"socket-id": socket, "core-id": core, "thread-id": thread}


def test_places(vm: VirtualMachine) -> None:
    found = ask(vm, "query-hotpluggable-cpus")
    assert [each["props"] for each in found] == [
        place(socket, core, thread) for socket in (1, 0) for core in (1, 0) for thread in (1, 0)
    ]
    assert {each["type"] for each in found} == {CPU}
    assert [each.get("qom-path") for each in found] == [None] * 6 + ["/machine/cpu1", "/machine/cpu0"]


def test_a_processor_comes(vm: VirtualMachine) -> None:
    where = next(each for each in ask(vm, "query-hotpluggable-cpus") if "qom-path" not in each)
    assert ask(vm, "device_add", driver=where["type"], id="last", **where["props"]) == {}
    ask(vm, "device_add", driver=CPU, socket_id="0", core_id=1, thread_id=0)  # texts, too
    found = ask(vm, "query-cpus-fast")
    assert [each["cpu-index"] for each in found] == [0, 1, 2, 7]
    assert found[3]["qom-path"] == "/machine/peripheral/last"
    assert found[3]["props"] == place(1, 1, 1)
    assert ask(vm, "qom-get", path="last", property="apic-id") == 7
    there = [each.get("qom-path") for each in ask(vm, "query-hotpluggable-cpus")]
    assert there[0] == "/machine/peripheral/last"
    assert there[5] == found[2]["qom-path"]
    assert ask(vm, "qom-get", path="last", property="cores") == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"driver": "qemu32-x86_64-cpu", **place(1, 0, 0)}, f"Invalid CPU type, expected cpu type: '{CPU}'"),
        ({"driver": CPU, **place(2, 0, 0)}, "Invalid CPU socket-id: 2 must be in range 0:1"),
        ({"driver": CPU, **place(0, 2, 0)}, "Invalid CPU core-id: 2 must be in range 0:1"),
        ({"driver": CPU, **place(0, 0, -1)}, "Invalid CPU thread-id: -1 must be in range 0:1"),
        ({"driver": CPU, "socket-id": "one"}, "CPU socket-id cannot be 'one': expected an integer"),
        ({"driver": CPU}, "CPU socket-id is not set"),
        ({"driver": CPU, "socket-id": 1}, "CPU core-id is not set"),
        ({"driver": CPU, **place(0, 0, 1)}, "CPU[1] with APIC ID 1 exists"),
        ({"driver": CPU, **place(1, 0, 0), "bus": "pci.0"}, f"Device '{CPU}' can't go on PCI bus: expected no bus"),
        ({"driver": CPU, **place(1, 0, 0), "sse22": True}, f"Property '{CPU}.sse22' not found; did you mean 'sse2'"),
    ],
)
def test_refusals(vm: VirtualMachine, arguments: dict[str, Any], error: str) -> None:
    before = ask(vm, "query-cpus-fast")
    assert refusal(vm, "device_add", **arguments).startswith(f"GenericError: {error}")
    assert ask(vm, "query-cpus-fast") == before
    ask(vm, "device_add", driver=CPU, id="good", **place(1, 0, 0))  # nothing is in the way


def test_no_places() -> None:
    with open_machine(machine="none", accel="qtest") as vm:
        assert refusal(vm, "query-hotpluggable-cpus") == "GenericError: machine does not support hot-plugging CPUs"
        assert refusal(vm, "device_add", driver=CPU, **place(0, 0, 0)) == (
            "GenericError: machine does not support hot-plugging CPUs"
        )


def let_go(vm: VirtualMachine, index: int) -> None:
    """The guest lets go of a processor (plugins/cpu/acpi_cpu_hotplug.py)."""
    for port, value, size in ((0xAF00, 0, 4), (0xAF00, index, 4), (0xAF04, 0x08, 1)):
        vm.ports.write(port, value, size)


def test_a_processor_stays_until_the_guest_lets_go(vm: VirtualMachine) -> None:
    vm.start()
    ask(vm, "device_add", driver=CPU, id="late", **place(1, 0, 0))
    late: Any = vm.root.resolve("/machine/peripheral/late")
    thread = late.thread
    deleted = threading.Event()
    vm.events.append(lambda name, data: deleted.set() if data.get("device") == "late" else None)
    assert ask(vm, "device_del", id="late") == {}
    assert [cpu.index for cpu in vm.cpus] == [0, 1, 4]
    assert thread.is_alive()
    let_go(vm, 4)
    assert deleted.wait(60)
    assert [cpu.index for cpu in vm.cpus] == [0, 1]
    assert not thread.is_alive()
    assert not any("qom-path" in each for each in ask(vm, "query-hotpluggable-cpus")[:6])
    ask(vm, "device_add", driver=CPU, id="late", **place(1, 0, 0))  # place and id are free again
    assert [cpu.index for cpu in vm.cpus] == [0, 1, 4]


def test_a_processor_may_eject_itself(vm: VirtualMachine) -> None:
    vm.start()
    ask(vm, "device_add", driver=CPU, id="late", **place(1, 0, 0))
    late: Any = vm.root.resolve("/machine/peripheral/late")
    deleted = threading.Event()
    vm.events.append(lambda name, data: deleted.set() if data.get("device") == "late" else None)
    ports, seen = vm.machine.system_bus.io_space, []

    def on_its_own_thread() -> None:
        for port, value, size in ((0xAF00, 0, 4), (0xAF00, 4, 4), (0xAF04, 0x08, 1)):
            ports.write(port, value, size)
        seen.append((ports.read(0xAF04, 1), late.realized))

    late.run_on(on_its_own_thread)
    assert deleted.wait(60)
    assert seen == [(0, True)]  # not there for the guest any more, but as long as it takes to end the thread
    assert not late.realized


def test_the_one_that_starts_the_machine_stays(vm: VirtualMachine) -> None:
    for name in ("device_del", "remove"):
        with pytest.raises(LifecycleError, match=r"^Boot CPU is unpluggable$"):
            ask(vm, "device_del", id="/machine/cpu0") if name == "device_del" else vm.remove("/machine/cpu0")
    assert len(vm.cpus) == 2


def test_a_program_may_take_one_out_at_once(vm: VirtualMachine) -> None:
    vm.start()
    other: Any = vm.cpus[1]
    thread = other.thread
    with pytest.raises(LifecycleError, match=r"taken out by its machine: expected VirtualMachine\.remove$"):
        other.unplug()
    vm.remove(other)
    assert not thread.is_alive()
    assert [cpu.index for cpu in vm.cpus] == [0]
    vm.reset()
    vm.stop()


def test_it_waits_for_its_start(vm: VirtualMachine) -> None:
    if vm.machine.accel is None or vm.machine.accel.is_a("qtest-accel"):
        pytest.skip("qtest runs no processor")
    vm.start()
    ask(vm, "device_add", driver=CPU, id="late", **place(1, 0, 0))
    late: Any = vm.root.resolve("/machine/peripheral/late")
    vm.stop()
    assert late.waits_for_sipi
    assert late.stands_still
    assert late.thread.is_alive()
    vm.reset()
    assert late.waits_for_sipi


def test_written_back_and_built_again(vm: VirtualMachine) -> None:
    ask(vm, "device_add", driver=CPU, id="late", **place(1, 0, 0))
    (entry,) = vm.dump().devices
    assert (entry.driver, entry.id) == (CPU, "late")
    with VirtualMachine(vm.dump(), vm.registry) as again:
        again.build()
        assert [cpu.index for cpu in again.cpus] == [0, 1, 4]
        assert again.dump() == vm.dump()
