"""Devices: realize and its rollback, lines, buses, reset in three phases, hotplug rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from qom import (
    AccelError,
    ConfigError,
    Device,
    IsaDevice,
    Life,
    LifecycleError,
    PropertyError,
    PropertyLocked,
    RealizeError,
    Region,
    prop,
    state,
    type_init,
)
from qom.hw import DeviceFault, MemoryListener, MemorySection, Reset, SysBusDevice, find_bus, reset_tree
from qom.hw.bench import IsaBench, SysBench, hw_registry

JOURNAL: list[str] = []


@pytest.fixture(autouse=True)
def journal() -> Iterator[list[str]]:
    JOURNAL.clear()
    yield JOURNAL


@type_init("greedy")
class Greedy(IsaDevice):
    """Takes one of everything, and fails when told to."""

    fail: str = prop("", "Where realize fails")
    iobase: int = prop(0x100, "First I/O port", type="uint16")
    level: int = state(reset=3)
    log: list = state(factory=list)  # type: ignore[type-arg]

    def realize(self) -> None:
        self.line = self.isa.irq(9)
        self.line.raise_()
        self.timer = self.clock.timer(self._expire)
        self.timer.arm(5)
        self.isa.map_ports(self.iobase, Region("greedy", 4, self._read))
        self.isa.map_memory(0xA0000, Region.ram("greedy-ram", 0x1000))
        self.outputs = self.gpio_out("out", 2)
        self.gpio_in("in", 2, lambda n, level: None)
        self.child_bus = self.new_bus("isa-bus", "child-bus")
        part = self.registry.new("part")
        self.add_child("part", part)
        part.set("realized", True)
        on_bus = self.registry.new("on-bus")
        self.add_child("on-bus", on_bus)
        on_bus.plug(self.child_bus)
        on_bus.set("realized", True)
        self.on_unrealize(lambda: JOURNAL.append("thread ended"))
        self.level = 99
        self.log.append("realized")
        if self.fail == "wrong":
            raise RealizeError(f"{self.path}: told to fail")
        if self.fail == "bug":
            raise ZeroDivisionError("a bug in realize")
        if self.fail == "interrupt":
            raise KeyboardInterrupt

    def _read(self, offset: int, size: int) -> int:
        return self.level

    def _expire(self) -> None:
        JOURNAL.append("expired")


class Noted:
    def note(self, what: str) -> None:
        JOURNAL.append(f"{self.type_name} {what}")  # type: ignore[attr-defined]


@type_init("part")
class Part(Device, Noted):
    def realize(self) -> None:
        self.note("realize")

    def unrealize(self) -> None:
        self.note("unrealize")


@type_init("on-bus")
class OnBus(IsaDevice, Noted):
    def realize(self) -> None:
        self.note("realize")
        assert self.clock.now() >= 0 and self.system is not None and self.dma is not None

    def unrealize(self) -> None:
        self.note("unrealize")


TYPES = (Greedy, Part, OnBus)


def nothing_left(bench: IsaBench, device: Device) -> None:
    assert bench.ports.flat_view == [] and bench.memory.flat_view == []
    assert bench.isa.io.subregions == () and bench.isa.memory.subregions == ()
    assert bench.irq_level(9) == 0 and bench.isa._inputs[9].inputs == {}
    assert bench.clock.next_deadline() is None
    assert device.children() == {} and device.buses() == []
    assert device.lines() == {} and device.pins() == {}
    assert device._undo == {}
    assert not device.realized


@pytest.mark.parametrize(
    ("fail", "error", "text"),
    [
        ("wrong", RealizeError, "/machine/peripheral/g: told to fail"),
        (
            "bug",
            RealizeError,
            "/machine/peripheral/g: realize failed: ZeroDivisionError: a bug in realize; 'greedy' of bench, at FILE:70",
        ),
        ("interrupt", KeyboardInterrupt, ""),
    ],
)
def test_failed_realize_leaves_nothing(fail: str, error: type[BaseException], text: str, journal: list[str]) -> None:
    bench = IsaBench(*TYPES)
    device = bench.new("greedy", fail=fail)
    bench.root.container("/machine/peripheral").add_child("g", device)
    device.plug(bench.isa)
    before = set(device.__dict__)
    with pytest.raises(error, match=f"^{re.escape(text).replace('FILE', re.escape(__file__))}$"):
        device.set("realized", True)
    nothing_left(bench, device)
    assert journal == ["part realize", "on-bus realize", "on-bus unrealize", "part unrealize", "thread ended"]
    assert set(device.__dict__) == before
    assert (device.level, device.log) == (3, [])
    assert device.life is Life.CONFIGURED
    assert bench.isa.devices == [device], "it sat on the bus before, and does so now"
    journal.clear()
    device.set("fail", "")
    device.set("realized", True)  # what failed can be set right and tried again
    assert device.realized and bench.inb(0x100) == 99
    bench.close()


def test_unrealize_gives_everything_back_and_can_be_realized_again(journal: list[str]) -> None:
    bench = IsaBench(*TYPES)
    device = bench.new("greedy")
    bench.root.container("/machine/peripheral").add_child("g", device)
    for _ in range(3):
        device.set("bus", bench.isa)
        device.set("realized", True)
        assert bench.irq_level(9) == 1 and bench.clock.next_deadline() is not None
        assert [d.type_name for d in device.child_bus.devices] == ["on-bus"]
        device.set("realized", False)
        nothing_left(bench, device)
        assert device.life is Life.UNREALIZED
    bench.clock.step(1000)
    assert "expired" not in journal
    device.unplug()
    assert device.life is Life.FINALIZED and bench.isa.devices == [] and bench.isa.properties() == {}
    bench.close()


def test_unparent_unrealizes_first(journal: list[str]) -> None:
    bench = IsaBench(*TYPES)
    device = bench.add("greedy", id="g")
    journal.clear()
    device.unparent()
    assert journal == ["on-bus unrealize", "part unrealize", "thread ended"]
    nothing_left(bench, device)
    assert device.life is Life.FINALIZED
    bench.close()


def test_closing_a_bench_takes_all_apart() -> None:
    bench = IsaBench(*TYPES)
    device = bench.add("greedy")
    bench.close()
    assert device.life is Life.FINALIZED and bench.isa.life is Life.FINALIZED
    assert bench.ports.flat_view == []


def test_setting_realized_twice_does_nothing(journal: list[str]) -> None:
    with IsaBench(*TYPES) as bench:
        device = bench.add("greedy")
        journal.clear()
        device.set("realized", "on")
        assert journal == []
        device.set("realized", False)
        device.set("realized", "off")
        assert journal.count("thread ended") == 1


def test_properties_are_locked_while_realized() -> None:
    with IsaBench(*TYPES) as bench:
        device = bench.add("greedy", id="g")
        with pytest.raises(PropertyLocked) as caught:
            device.set("iobase", 0x200)
        text = "/machine/peripheral/g: property 'iobase' cannot be set to 512: the object is realized"
        assert str(caught.value) == text


def test_device_needs_the_right_bus() -> None:
    with IsaBench(*TYPES) as bench:
        lost = bench.new("greedy")
        text = "<greedy not in a tree>: no bus: 'greedy' needs one of type 'isa-bus'"
        with pytest.raises(RealizeError, match=f"^{re.escape(text)}$"):
            lost.set("realized", True)
        text = "<greedy not in a tree>: cannot be on bus /machine/system (system-bus): it needs a bus of type 'isa-bus'"
        with pytest.raises(RealizeError, match=f"^{re.escape(text)}$"):
            lost.plug(bench.sysbus)
        part = bench.new("part")
        text = "<part not in a tree>: cannot be on bus /machine/isa-bridge/isa.0 (isa-bus): it needs no bus"
        with pytest.raises(RealizeError, match=f"^{re.escape(text)}$"):
            part.plug(bench.isa)
        with pytest.raises(ConfigError, match=r"^greedy: this machine has no bus of type 'PCI'$"):
            find_bus(bench.root, "PCI", lost)
        assert find_bus(bench.root, "isa-bus") is bench.isa


def test_bus_shows_its_devices_as_links() -> None:
    with IsaBench(*TYPES) as bench:
        first, second = bench.add("on-bus", id="a"), bench.add("on-bus", id="b")
        assert bench.isa.get("child[0]") is first and bench.isa.get("child[1]") is second
        assert bench.root.resolve("/machine/isa-bridge/isa.0/child[1]") is second
        with pytest.raises(PropertyError):
            bench.isa.set("child[0]", second)
        first.unplug()
        third = bench.add("on-bus", id="c")
        assert bench.isa.get("child[0]") is third
        assert bench.isa.devices == [second, third]


def test_full_bus_is_refused() -> None:
    with IsaBench(*TYPES) as bench:
        type(bench.isa).max_devices = 1
        try:
            bench.add("on-bus")
            text = "on-bus: no room on any 'isa-bus': /machine/isa-bridge/isa.0 is full"
            with pytest.raises(ConfigError, match=f"^{re.escape(text)}$"):
                bench.add("on-bus")
            other = bench.new("on-bus")
            text = "<on-bus not in a tree>: bus /machine/isa-bridge/isa.0 is full: it takes 1 devices"
            with pytest.raises(RealizeError, match=f"^{re.escape(text)}$"):
                other.plug(bench.isa)
        finally:
            type(bench.isa).max_devices = None


# -- lines


def test_lines_are_found_by_name_and_wrong_ones_are_named() -> None:
    with IsaBench(*TYPES) as bench:
        device = bench.add("greedy", id="g")
        other = bench.new("part")
        seen: list[tuple[int, int]] = []
        other.gpio_in(None, 3, lambda n, level: seen.append((n, level)))
        device.connect_out("out", 1, other.line_in(None, 2))
        device.outputs[1].raise_()
        assert seen == [(2, 1)]
        where = "/machine/peripheral/g"
        text = f"{where}: no output 'out'[2]: it has 'out'[2]"
        with pytest.raises(RealizeError, match=f"^{re.escape(text)}$"):
            device.connect_out("out", 2, None)
        with pytest.raises(RealizeError, match=r"no input 'nmi'\[0\]: it has 'in'\[2\]$"):
            device.line_in("nmi")
        with pytest.raises(RealizeError, match=r"^<part not in a tree>: no output unnamed\[0\]: it has none$"):
            other.pin_out()
        device.set("realized", False)
        assert seen == [(2, 1), (2, 0)], "an unrealized device drives its outputs low"


def test_isa_lines_are_wired_or() -> None:
    with IsaBench(*TYPES) as bench:
        a, b = bench.isa.irq(4), bench.isa.irq(4)
        a.raise_()
        b.raise_()
        a.lower()
        assert bench.irq_level(4) == 1 and bench.irq_edges(4) == 1
        b.lower()
        assert bench.irq_level(4) == 0
        with pytest.raises(
            RealizeError, match=r"^/machine/isa-bridge/isa.0: no ISA interrupt line 16: expected 0..15$"
        ):
            bench.isa.irq(16)


def test_ports_outside_the_isa_bus_are_refused() -> None:
    with IsaBench(*TYPES) as bench:
        text = "/machine/unattached/greedy@fffe: ports 0xfffe..0x10001 must lie in 0..0xffff"
        with pytest.raises(RealizeError, match=f"^{re.escape(text)}$"):
            bench.add("greedy", iobase=0xFFFE)


def test_dma_channels_come_from_the_registered_provider() -> None:
    class Provider:
        def dma_channel(self, n: int) -> str:
            return f"channel {n}"

    with IsaBench(*TYPES) as bench:
        device = bench.add("on-bus")
        with pytest.raises(RealizeError, match=r"no DMA channel 2: the machine has no ISA DMA controller$"):
            device.isa.dma_channel(2)
        device.isa.register_dma(Provider())
        assert device.isa.dma_channel(2) == "channel 2"
        with pytest.raises(RealizeError, match=r"no DMA channel 8: expected 0\.\.7$"):
            device.isa.dma_channel(8)
        device.unplug()
        assert bench.isa.dma_provider is None


def test_guest_errors_are_logged_once_per_kind() -> None:
    with IsaBench(*TYPES) as bench:
        device = bench.add("on-bus", id="x")
        device.guest_error("odd", "odd value 3")
        device.guest_error("odd", "odd value 5")
        device.guest_error("big", "big value 900")
        path = "/machine/peripheral/x"
        assert bench.system.logged == [
            ("guest_errors", f"{path}: odd value 3"),
            ("guest_errors", f"{path}: big value 900"),
        ]


# -- reset


@type_init("phased", abstract=True)
class Phased(SysBusDevice, Noted):
    value: int = state(reset=7)

    def reset_enter(self, kind: Reset) -> None:
        JOURNAL.append(f"{self.name} enter {kind.value}")

    def reset_hold(self, kind: Reset) -> None:
        JOURNAL.append(f"{self.name} hold")
        super().reset_hold(kind)

    def reset_exit(self, kind: Reset) -> None:
        JOURNAL.append(f"{self.name} exit")


@type_init("phased-parent")
class PhasedParent(Phased):
    def realize(self) -> None:
        part = self.registry.new("phased-leaf")
        self.add_child("leaf", part)
        part.plug(self.bus)  # type: ignore[arg-type]
        part.set("realized", True)


@type_init("phased-leaf")
class PhasedLeaf(Phased):
    explode: bool = prop(False, "Raise in reset")

    def reset(self) -> None:
        super().reset()
        if self.explode:
            raise RuntimeError("no")


def test_reset_goes_over_the_tree_in_three_phases_what_is_below_first(journal: list[str]) -> None:
    with SysBench(PhasedParent, PhasedLeaf) as bench:
        parent = bench.add("phased-parent", id="p")
        leaf = parent.child("leaf")
        sleeping = bench.new("phased-leaf")
        bench.root.resolve("/machine/peripheral").add_child("sleeping", sleeping)
        parent.value = leaf.value = sleeping.value = 1
        journal.clear()
        bench.reset(Reset.WARM)
        assert journal == ["leaf enter warm", "p enter warm", "leaf hold", "p hold", "leaf exit", "p exit"]
        assert (parent.value, leaf.value, sleeping.value) == (7, 7, 1)


def test_exception_in_reset_is_a_fault_that_names_the_device() -> None:
    with SysBench(PhasedParent, PhasedLeaf) as bench:
        device = bench.new("phased-leaf", explode=True)
        bench.root.container("/machine/peripheral").add_child("bad", device)
        device.plug(bench.sysbus)
        device.set("realized", True)
        with pytest.raises(
            DeviceFault,
            match=r"^/machine/peripheral/bad: cold reset raised RuntimeError: no; 'phased-leaf' of bench, at .*:\d+$",
        ):
            reset_tree(bench.machine)


# -- hotplug


@type_init("test-machine")
class TestMachine(Device):
    """A machine that is a device itself, so that hotplug rules hold."""

    __test__ = False


@type_init("hot")
class Hot(SysBusDevice):
    hotpluggable = True
    count: int = state(reset=5)

    def realize(self) -> None:
        self.count = 1
        part = self.registry.new("cold-part")
        self.add_child("part", part)
        part.plug(self.bus)  # type: ignore[arg-type]
        part.set("realized", True)


@type_init("cold-part")
class ColdPart(SysBusDevice):
    pass


def machine() -> tuple[Any, Any]:
    registry = hw_registry(TestMachine, Hot, ColdPart)
    root = registry.new("root")
    made = registry.new("test-machine")
    root.add_child("machine", made)
    bus = registry.new("system-bus")
    made.add_child("system", bus)
    return made, bus


def add(made: Any, bus: Any, type_name: str, id: str) -> Any:
    device = made.registry.new(type_name)
    made.top.container("/machine/peripheral").add_child(id, device)
    device.plug(bus)
    device.set("realized", True)
    return device


def test_hotplug_is_only_for_what_allows_it() -> None:
    made, bus = machine()
    bus.hotplug = True
    cold = add(made, bus, "cold-part", "cold")
    made.set("realized", True)
    text = "/machine/peripheral/late: 'cold-part' cannot be added while the machine exists: not hotpluggable"
    with pytest.raises(LifecycleError, match=f"^{re.escape(text)}$"):
        add(made, bus, "cold-part", "late")
    assert not made.top.resolve("/machine/peripheral/late").realized
    text = "/machine/peripheral/cold: 'cold-part' cannot be removed while the machine exists: not hotpluggable"
    with pytest.raises(LifecycleError, match=f"^{re.escape(text)}$"):
        cold.unparent()
    assert cold.realized and cold in bus.devices
    hot = add(made, bus, "hot", "hot")
    assert hot.count == 5, "what is plugged into a machine that exists is reset"
    assert hot.child("part").realized, "a part of a hotpluggable device needs not be hotpluggable itself"
    hot.unparent()
    assert hot.life is Life.FINALIZED
    made.unparent()
    assert cold.life is Life.FINALIZED


def test_hotplug_needs_a_bus_that_allows_it() -> None:
    made, bus = machine()
    made.set("realized", True)
    text = "/machine/peripheral/hot: cannot be added while the machine exists: bus /machine/system allows no hotplug"
    with pytest.raises(LifecycleError, match=f"^{re.escape(text)}$"):
        add(made, bus, "hot", "hot")
    made.unparent()


def test_two_benches_do_not_know_of_each_other() -> None:
    registry = hw_registry(*TYPES)
    with IsaBench(registry=registry) as one, IsaBench(registry=registry) as two:
        one.add("greedy", id="g")
        assert one.inb(0x100) == 3 and two.inb(0x100) == 0xFF
        assert (one.irq_level(9), two.irq_level(9)) == (1, 0)
        two.add("greedy", id="g").level = 42
        assert one.inb(0x100) == 3 and two.inb(0x100) == 42
        one.clock.step(10)
        assert JOURNAL.count("expired") == 1


def test_map_that_a_listener_refuses_is_rolled_back(journal: list[str]) -> None:
    class Refuses(MemoryListener):
        def region_add(self, section: MemorySection) -> None:
            if section.region.name == "greedy-ram":
                raise AccelError("no memory slot left")

    with IsaBench(*TYPES) as bench:
        bench.memory.add_listener(Refuses())
        with pytest.raises(AccelError, match=r"^no memory slot left$"):
            bench.add("greedy")
        assert bench.ports.flat_view == [] and bench.memory.flat_view == []
        assert bench.isa.devices == [] and bench.irq_level(9) == 0
