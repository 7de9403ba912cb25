"""Thousands of devices: one more costs the same however many there are, also when all go again.

Counted in calls of functions, which no load of the host changes; `python -m benchmarks --only devices` has the times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pcs
import pytest

from qom import REQUIRED, IsaDevice, Line, QomError, Region, SysBusDevice, VirtualMachine, prop, type_init
from qom.cli.options import CommandLine
from qom.config import DeviceEntry

FEW, MANY = 60, 400


@type_init("isa-shared-irq")
class SharedIrq(IsaDevice):
    """Sits on one interrupt line with all others, and has no place that names it."""

    level: int = prop(0, "What it drives its line to")

    def realize(self) -> None:
        self.line: Line = self.isa.irq(9)
        self.line.set(self.level)


@type_init("sys-registers")
class Registers(SysBusDevice):
    """A page of registers in memory, which every processor sees in a view of its own."""

    base: int = prop(REQUIRED, "Where they are", type="uint64", base=16)

    def realize(self) -> None:
        self.sysbus.map_memory(self.base, Region("registers", 0x1000, lambda offset, size: offset))


def calls(work: Callable[[], object]) -> int:
    """How many functions `work` calls, Python's and C's."""
    count = 0

    def watch(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def port(n: int) -> DeviceEntry:
    return DeviceEntry("isa-debug-exit", f"d{n}", None, {"iobase": 0x1000 + 4 * n, "iosize": 4}, "")


def unnamed_port(n: int) -> DeviceEntry:
    return DeviceEntry("isa-debug-exit", None, None, {"iobase": 0x1000 + 4 * n, "iosize": 4}, "")


def unplaced(n: int) -> DeviceEntry:
    return DeviceEntry("isa-shared-irq", None, None, {"level": 1}, "")


def mapped(n: int) -> DeviceEntry:
    return DeviceEntry("sys-registers", f"r{n}", None, {"base": 0xD0000000 + n * 0x1000}, "")


def built(entries: list[DeviceEntry], machine: str = "pc") -> VirtualMachine:
    words = ["-M", machine, "-m", "16", "-nodefaults", "-S", "-smp", "2"]
    config = CommandLine().parse(words).builder.finish()
    config.devices += entries
    types = pcs.registry()
    types.register(SharedIrq)
    types.register(Registers)
    vm = VirtualMachine(config, types)
    vm.build()
    return vm


@pytest.mark.parametrize("entry", [port, unnamed_port, unplaced, mapped])
def test_one_more_device_costs_the_same_however_many_there_are(entry: Callable[[int], DeviceEntry]) -> None:
    adding: dict[int, int] = {}
    ending: dict[int, int] = {}
    for number in (FEW, MANY):
        vm = built([entry(n) for n in range(number)])
        vm.machine.ready = False  # an ISA bus takes no more in a machine that is complete
        with vm.lock:
            adding[number] = calls(lambda vm=vm, number=number: vm.add_device(entry(number)))
        vm.machine.ready = True
        ending[number] = calls(vm.close)
    assert adding[MANY] <= adding[FEW] * 1.1, adding
    each = {number: ending[number] / number for number in ending}
    assert each[MANY] <= each[FEW] * 1.1, ending


def test_building_many_costs_as_many_times_as_much() -> None:
    total = {}
    for number in (0, FEW, MANY):
        vms: list[Any] = []
        total[number] = calls(lambda number=number, vms=vms: vms.append(built([port(n) for n in range(number)])))
        assert len(vms[0].machine.system_bus.io_space.flat_view) >= number
        vms[0].close()
    few, many = ((total[n] - total[0]) / n for n in (FEW, MANY))
    assert many <= few * 1.1, total


def test_numbers_on_a_bus_and_in_names_are_the_lowest_free_ones() -> None:
    vm = built([unplaced(n) for n in range(5)])
    try:
        vm.machine.ready = False
        bus = vm.find_bus("isa.0")
        anonymous = vm.root.resolve("/machine/peripheral-anon")
        names = [name for name in anonymous.children() if name.startswith("isa-shared-irq")]
        assert names == ["isa-shared-irq", *(f"isa-shared-irq[{n}]" for n in range(1, 5))]
        first = {name: bus.get(name) for name in bus.properties() if name.startswith("child[")}
        for gone in (names[3], names[1]):
            anonymous.child(gone).unplug()
        assert [vm.add_device(unplaced(0)).name for _ in range(3)] == [names[1], names[3], "isa-shared-irq[5]"]
        again = {name: bus.get(name) for name in bus.properties() if name.startswith("child[")}
        assert again.keys() == {*first, f"child[{len(first)}]"}
        assert all(bus.resolve(name) is device for name, device in again.items())
        assert sum(again[name] is device for name, device in first.items()) == len(first) - 2
        assert vm.root.resolve(bus.path + "/child[0]") is bus.devices[0]
    finally:
        vm.machine.ready = True
        vm.close()


def test_a_bus_has_no_property_for_who_is_not_there() -> None:
    vm = built([])
    try:
        bus = vm.find_bus("isa.0")
        for name in ("child[99]", "child[01]", "child[x]", "child[]", "child[-1]"):
            with pytest.raises(QomError, match="has no property"):
                bus.get(name)
        device = bus.get("child[0]")
        with pytest.raises(QomError, match="nothing: plug the device instead"):
            bus.set("child[0]", device)
        assert bus.get("child[0]") is device
    finally:
        vm.close()
