"""Observers of exits, accesses, lines and the life cycle: what they are told, what they change, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pcs import Pc, need, pc

from qom import ConfigError, IsaDevice, LifecycleError, QomError, RealizeError, Region, TypeRegistry, prop, type_init
from qom.config import DeviceEntry
from qom.hw import Access, Exit, Fail, LifeStep, LineChange
from qom.vm import RunState, VirtualMachine

OUT_IN = bytes.fromhex(
    "b054 e680"  # mov $0x54,%al; out %al,$0x80
    "e4e9 e681"  # in $0xe9,%al; out %al,$0x81
    "ba0105 ee f4 ebfd"  # mov $0x501,%dx; out %al,%dx; hlt; jmp .-1
)


def rom(tmp_path: Path, code: bytes) -> str:
    image = bytearray(65536)
    image[0xF000 : 0xF000 + len(code)] = code
    image[0xFFF0:0xFFF3] = b"\xe9\x0d\xf0"  # jmp 0xf000
    (tmp_path / "rom").write_bytes(image)
    return str(tmp_path / "rom")


Machine = Callable[..., Any]


@pytest.fixture(params=["simulated", "kvm"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """machine(code, *words): a PC whose firmware is `code`."""

    @contextmanager
    def make(code: bytes = OUT_IN, *words: str, types: TypeRegistry | None = None) -> Iterator[Pc]:
        accel = need(request.param)
        with pc("-accel", accel, "-device", "isa-debugcon", *words, bios=rom(tmp_path, code), types=types) as built:
            yield built

    return make


def run(built: Pc) -> int:
    """To the end; the byte the guest gave to the exit port."""
    return built.vm.run() >> 1


def collect(seen: list[Any], *names: str) -> Callable[[Any], None]:
    return lambda record: seen.append(tuple(getattr(record, name) for name in names))


# -- accesses


def test_port_accesses_are_told_with_the_device_that_answers(machine: Machine) -> None:
    seen: list[Any] = []
    with machine() as built:
        vm = built.vm
        vm.observe.accesses(collect(seen, "address", "size", "is_write", "value", "region"), first=0x80, last=0xEF)
        vm.observe.accesses(
            lambda a: seen.append((a.device.type_name, a.offset, a.cpu.index)), device="isa-debugcon", first=0xE9
        )
        assert run(built) == 0xE9
    assert seen == [
        (0x80, 1, True, 0x54, "dma-pages"),
        (0xE9, 1, False, 0xE9, "debugcon"),
        ("isa-debugcon", 0, 0),
        (0x81, 1, True, 0xE9, "dma-pages"),
    ]


def test_values_are_changed_both_ways(machine: Machine) -> None:
    written: list[int] = []

    def change(access: Access) -> None:
        access.value = 0x12C if access.address == 0xE9 else 7  # only what fits in a byte counts

    with machine() as built:
        built.vm.observe.accesses(change, first=0xE9, last=0xE9)
        built.vm.observe.accesses(lambda a: written.append(a.value), first=0x81, last=0x81)
        assert run(built) == 0x2C
    assert written == [0x2C]


def test_a_failed_read_gives_all_ones_and_a_failed_write_is_dropped(machine: Machine) -> None:
    failures: list[Any] = []

    def fail(access: Access) -> None:
        raise Fail("broken wire")

    with machine() as built:
        vm = built.vm
        vm.observe.accesses(fail, first=0xE9, last=0xE9)
        vm.observe.accesses(fail, first=0x80, last=0x80, reads=False)
        vm.observe.accesses(collect(failures, "address", "value", "failed"), last=0xFF)
        space = vm.machine.system_bus.io_space
        before = space.read(0x80, 1)
        assert before != 0x54
        failures.clear()
        assert run(built) == 0xFF
        assert space.read(0x80, 1) == before
    assert failures[:3] == [(0x80, 0x54, "broken wire"), (0xE9, 0xFF, "broken wire"), (0x81, 0xFF, None)]


def test_before_a_read_the_device_is_not_asked(tmp_path: Path) -> None:
    asked: list[int] = []

    @type_init("test-asked")
    class Asked(IsaDevice):
        def realize(self) -> None:
            self.isa.map_ports(0x240, Region("asked", 1, self.answer, None, (1, 1)))

        def answer(self, offset: int, size: int) -> int:
            asked.append(offset)
            return 5

    types = _types(Asked)
    with pc("-device", "test-asked", bios=rom(tmp_path, OUT_IN), types=types) as built:
        space = built.vm.machine.system_bus.io_space

        def answer(access: Access) -> None:
            assert access.value is None
            access.value = 9

        with built.vm.observe.accesses(answer, device="test-asked", before=True):
            assert space.read(0x240, 1) == 9 and asked == []
        with built.vm.observe.accesses(lambda a: None, device="test-asked", before=True):
            assert space.read(0x240, 1) == 5 and asked == [0]


def test_repeated_string_accesses_are_told_one_by_one(machine: Machine) -> None:
    code = bytes.fromhex("31c0 8ed8 8ec0 bf0010 b90400 bae900 f36c a00310 ba0105 ee f4 ebfd".replace(" ", ""))
    values = iter((1, 2, 3, 4))

    def number(access: Access) -> None:
        access.value = next(values)

    with machine(code) as built:  # mov $4,%cx; mov $0xe9,%dx; rep insb; mov 0x1003,%al; out
        built.vm.observe.accesses(number, device="isa-debugcon")
        assert run(built) == 4


def test_memory_accesses_of_the_guest_and_of_devices(machine: Machine) -> None:
    # mov $0xa000,%ax; mov %ax,%ds; mov 4,%al; out to the exit port
    code = bytes.fromhex("b800a0 8ed8 a00400 ba0105 ee f4 ebfd".replace(" ", ""))
    seen: list[Any] = []

    def give(access: Access) -> None:
        access.value = 0x31

    with machine(code) as built:
        vm = built.vm
        vm.observe.accesses(give, space="memory", first=0xA0000, last=0xAFFFF)
        vm.observe.accesses(
            collect(seen, "address", "size", "is_write", "data"), space="memory", first=0x5000, last=0x5FFF
        )
        assert run(built) == 0x31
        dma = vm.machine.system_bus.memory_space
        with vm.lock:
            dma.write_bytes(0x4FFE, b"abcdef")
            assert dma.read_bytes(0x5002, 2) == b"ef"
            dma.write_bytes(0x6000, b"unseen")
            assert dma.read(0x5000, 2) == 0x6463
    assert seen == [(0x4FFE, 6, True, b"abcdef"), (0x5002, 2, False, b"ef"), (0x5000, 2, False, b"cd")]


def test_ram_that_is_watched_exits(machine: Machine) -> None:
    # xor %ax,%ax; mov %ax,%ds; movl $0x11223344,0x5ffe; movb $0x55,0x7000; incb 0x6001; mov 0x6000,%al; out to the exit port
    code = bytes.fromhex("31c0 8ed8 66c706fe5f44332211 c606007055 fe060160 a00060 ba0105 ee f4 ebfd".replace(" ", ""))
    seen: list[Any] = []
    with machine(code) as built:
        vm = built.vm
        told = collect(seen, "address", "size", "is_write", "value", "region", "offset")
        watch = vm.observe.accesses(told, space="memory", first=0x6000, last=0x6001, ram=True)
        assert run(built) == 0x22
        assert all(entry[4] == "pc.ram" and entry[5] == entry[0] for entry in seen)
        low, size = next((address, size) for address, size, write, *_ in seen if write)
        assert low <= 0x6000 < low + size, "the store that straddles into the page, whole or its part"
        assert [entry[:4] for entry in seen[1:]] == [
            (0x6001, 1, False, 0x11),
            (0x6001, 1, True, 0x12),
            (0x6000, 1, False, 0x22),
        ]
        memory = vm.machine.system_bus.memory_space
        assert memory.read_bytes(0x5FFE, 4) == bytes((0x44, 0x33, 0x22, 0x12)) and memory.read(0x7000, 1) == 0x55
        watch.close()
        assert memory.lookup(0x6000).region.name == "pc.ram"
        assert memory.lookup(0x6000).region.ram_block is not None
    with machine(code) as built, pytest.raises(ConfigError, match=r"^observe: no RAM to watch at 0xa0000\.\.0xa0fff: "):
        built.vm.observe.accesses(print, space="memory", first=0xA0000, last=0xA0FFF, ram=True)


def test_what_an_observer_does_itself_is_told_to_nobody(machine: Machine) -> None:
    count: list[int] = []
    with machine() as built:
        space = built.vm.machine.system_bus.io_space

        def look(access: Access) -> None:
            count.append(access.address)
            space.read(0xE9, 1)

        built.vm.observe.accesses(look, device="isa-debugcon")
        run(built)
    assert count == [0xE9]


def test_what_an_observer_drives_is_told_to_nobody(tmp_path: Path) -> None:
    seen: list[str] = []
    with pulsing(tmp_path) as (vm, drive, _):
        sender = next(found for found in vm.root.walk() if found.type_name == "test-pulser")
        vm.observe.lines(lambda change: seen.append(str(change.level)), device="test-pulser")
        vm.observe.accesses(lambda access: sender.line.set(0), first=0x244, last=0x244)
        drive(1)
        assert seen == ["1"], "the access's own line, and not what its observer did before"


# -- cost: nothing stays behind


def test_nothing_is_left_when_the_last_observer_goes(machine: Machine) -> None:
    with machine() as built:
        vm = built.vm
        bus = vm.machine.system_bus
        pic = vm.machine.child("pic") if "pic" in vm.machine.children() else None
        handlers = [line.handler for line in pic.lines()[""]] if pic is not None else []
        observations = [
            vm.observe.accesses(lambda a: None),
            vm.observe.accesses(lambda a: None, space="memory"),
            vm.observe.exits(lambda e: None),
            vm.observe.lines(lambda c: None),
            vm.observe.lifecycle(lambda s: None),
        ]
        assert bus.io_space.probe is not None and vm.registry.probe is not None
        if pic is not None:
            assert [line.handler for line in pic.lines()[""]] != handlers
        for observation in observations:
            observation.close()
            observation.close()
        assert bus.io_space.probe is None and bus.memory_space.probe is None and vm.registry.probe is None
        if pic is not None:
            assert [line.handler for line in pic.lines()[""]] == handlers
        plain = bus.io_space.reader(0xE9, 1)
        assert plain.__name__ == "direct", "resolved as if nobody had ever listened"


def test_one_callback_that_observes_twice_is_let_go_once(tmp_path: Path) -> None:
    seen: list[Any] = []

    def tell(record: Any) -> None:
        seen.append(record)

    with pulsing(tmp_path) as (vm, drive, _):
        sender = vm.observe.lines(tell, device="test-pulser")
        vm.observe.lines(tell, device="/machine/pic", n=5)
        sender.close()
        drive(1)
        assert [(change.device.path, change.level) for change in seen] == [("/machine/pic", 1)]


def test_one_callback_that_hears_exits_twice_is_let_go_once(machine: Machine) -> None:
    seen: list[Any] = []

    def tell(record: Any) -> None:
        seen.append(record.name)

    with machine() as built:
        early = built.vm.observe.exits(tell, before=True)
        first = built.vm.observe.exits(tell)
        built.vm.observe.exits(tell)
        early.close()
        first.close()
        run(built)
    assert seen.count("KVM_EXIT_IO") == 4


def test_an_observer_of_one_device_leaves_the_others_plain(machine: Machine) -> None:
    with machine() as built:
        space = built.vm.machine.system_bus.io_space
        built.vm.observe.accesses(lambda a: None, device="isa-debugcon")
        assert space.reader(0xE9, 1).__name__ == "observed"
        assert space.reader(0x71, 1).__name__ == "direct"


# -- exits


def test_exits_are_told_in_order(machine: Machine) -> None:
    seen: list[Any] = []
    with machine() as built:
        built.vm.observe.exits(collect(seen, "name", "address", "is_write", "value"))
        run(built)
    io = [entry for entry in seen if entry[0] == "KVM_EXIT_IO"]
    assert io == [
        ("KVM_EXIT_IO", 0x80, True, 0x54),
        ("KVM_EXIT_IO", 0xE9, False, 0xE9),
        ("KVM_EXIT_IO", 0x81, True, 0xE9),
        ("KVM_EXIT_IO", 0x501, True, 0xE9),
    ]


def test_exits_are_changed_and_failed(machine: Machine) -> None:
    def meddle(exit: Exit) -> None:
        if exit.address == 0xE9:
            exit.value = 0x44
        elif exit.address == 0x81:
            raise Fail("lost")

    with machine() as built:
        seen: list[int] = []
        built.vm.observe.exits(meddle, before=True)
        built.vm.observe.accesses(collect(seen, "address"), last=0xFF)
        assert run(built) == 0x44
    assert seen == [(0x80,)], "port E9h was answered, the write to 81h was lost before they reached anything"


def test_a_failed_exit_that_is_no_access_stops_the_machine(machine: Machine) -> None:
    def fail(exit: Exit) -> None:
        if exit.name == "KVM_EXIT_HLT":
            raise Fail("no halting here")

    with machine(bytes.fromhex("f4 ebfd")) as built:
        built.vm.observe.exits(fail)
        assert built.vm.run() == 1
        assert built.vm.failure is not None
        assert built.vm.failure.startswith("/machine/cpu0: KVM_EXIT_HLT: no halting here, at f000:f001\n")


def test_observers_come_and_go_while_the_guest_runs(machine: Machine) -> None:
    # l: in $0xe9,%al; cmp $0x42,%al; jne l; out to the exit port
    code = bytes.fromhex("e4e9 3c42 75fa ba0105 ee f4 ebfd".replace(" ", ""))
    with machine(code) as built:
        vm = built.vm
        built.start()
        for _ in range(20):
            seen: list[Exit] = []
            with vm.observe.exits(seen.append):
                while len(seen) < 3:
                    pass
            assert {exit.address for exit in seen if exit.address is not None} == {0xE9}

        def end(access: Access) -> None:
            access.value = 0x42

        vm.observe.accesses(end, device="isa-debugcon")
        assert built.wait_for_end() >> 1 == 0x42


# -- lines


@type_init("test-pulser")
class Pulser(IsaDevice):
    """A write to port 244h sets ISA line 5 to that level."""

    def realize(self) -> None:
        self.line = self.isa.irq(5)
        self.isa.map_ports(0x244, Region("pulser", 1, None, lambda at, value, size: self.line.set(value), (1, 1)))


def _types(*classes: type) -> TypeRegistry:
    from pcs import registry

    types = registry()
    for cls in classes:
        types.register(cls, "tests")
    return types


@contextmanager
def pulsing(tmp_path: Path) -> Iterator[tuple[VirtualMachine, Callable[[int], None], Any]]:
    with pc("-device", "test-pulser", bios=rom(tmp_path, OUT_IN), types=_types(Pulser)) as built:
        vm = built.vm
        space = vm.machine.system_bus.io_space
        with vm.lock:
            yield vm, lambda level: space.write(0x244, level, 1), vm.machine.child("pic")


def test_lines_are_told_to_both_ends(tmp_path: Path) -> None:
    seen: list[Any] = []
    with pulsing(tmp_path) as (vm, drive, pic):
        vm.observe.lines(lambda c: seen.append(("sender", c.direction, c.name, c.n, c.level)), device="test-pulser")
        vm.observe.lines(lambda c: seen.append(("pic", c.direction, c.name, c.n, c.level)), device="/machine/pic", n=5)
        drive(1)
        drive(0)
        assert seen == [
            ("sender", "out", "isa-irq", 5, 1),
            ("pic", "in", "", 5, 1),
            ("sender", "out", "isa-irq", 5, 0),
            ("pic", "in", "", 5, 0),
        ]
        assert not pic.inputs & 0x20


def test_lines_are_changed_held_back_and_delivered_later(tmp_path: Path) -> None:
    late: list[LineChange] = []

    def hold(change: LineChange) -> None:
        late.append(change)
        raise Fail("later")

    with pulsing(tmp_path) as (vm, drive, pic):
        with vm.observe.lines(hold, device="test-pulser"):
            drive(1)
            assert not pic.inputs & 0x20
            late[0].deliver(1)
            assert pic.inputs & 0x20
            assert len(late) == 1, "a delivery is no change"

        def invert(change: LineChange) -> None:
            change.level ^= 1

        with vm.observe.lines(invert, device="test-pulser"):
            drive(1)
            assert not pic.inputs & 0x20
        drive(1)
        assert pic.inputs & 0x20


def test_lines_of_devices_that_come_later_are_told_too(tmp_path: Path) -> None:
    seen: list[Any] = []
    with pulsing(tmp_path) as (vm, drive, _):
        vm.observe.lines(collect(seen, "name", "level"), device="test-pulser")
        first = next(o for o in vm.root.walk() if o.type_name == "test-pulser")
        vm.machine.ready = False  # the ISA bus takes nothing while the machine exists
        first.unplug()
        vm.add_device(DeviceEntry(driver="test-pulser"))
        drive(1)
        assert seen == [("isa-irq", 1)]


# -- life cycle


def test_life_is_told_from_creation_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []
    with pulsing(tmp_path) as (vm, _, _):
        vm.observe.lifecycle(lambda s: seen.append((s.what, s.detail)), device="test-pulser")
        vm.observe.lifecycle(lambda s: seen.append((s.what, s.detail)), steps=("run-state",))
        vm.reset()
        vm.cont()
        vm.stop()
    assert seen == [
        ("reset", "cold"),
        ("run-state", "running"),
        ("run-state", "paused"),
        ("unrealize", ""),
        ("unrealized", ""),
        ("finalized", ""),
    ]


@pytest.mark.parametrize(
    ("step", "error", "text"),
    [
        ("created", LifecycleError, "'test-second' cannot be created: not today"),
        ("configured", LifecycleError, "/machine/peripheral/two: cannot be configured: not today"),
        ("realize", RealizeError, "/machine/peripheral/two: realize failed: not today"),
    ],
)
def test_steps_are_failed(tmp_path: Path, step: str, error: type[QomError], text: str) -> None:
    @type_init("test-second")
    class Second(IsaDevice):
        iobase: int = prop(0x248, "Port", type="uint16")

    def fail(told: LifeStep) -> None:
        raise Fail("not today")

    with pc(bios=rom(tmp_path, OUT_IN), types=_types(Second)) as built:
        vm = built.vm
        vm.machine.ready = False
        before = [o.path for o in vm.root.walk()]
        with (
            vm.observe.lifecycle(fail, steps=(step,), device="test-second"),
            pytest.raises(error) as caught,
        ):
            vm.add_device(DeviceEntry(driver="test-second", id="two"))
        assert str(caught.value) == text
        new = {o.path for o in vm.root.walk()} - set(before)
        assert new <= {"/machine/peripheral"}
        assert vm.add_device(DeviceEntry(driver="test-second", id="two")).realized


def test_a_property_is_changed_just_before_realize(tmp_path: Path) -> None:
    @type_init("test-moved")
    class Moved(IsaDevice):
        iobase: int = prop(0x248, "Port", type="uint16")

        def realize(self) -> None:
            self.isa.map_ports(self.iobase, Region("moved", 1, lambda at, size: 0x77))

    with pc(bios=rom(tmp_path, OUT_IN), types=_types(Moved)) as built:
        vm = built.vm
        vm.machine.ready = False
        vm.observe.lifecycle(lambda s: s.object.set("iobase", 0x260), steps=("realize",), device="test-moved")
        vm.add_device(DeviceEntry(driver="test-moved"))
        assert vm.machine.system_bus.io_space.read(0x260, 1) == 0x77


def test_resets_and_running_are_refused(tmp_path: Path) -> None:
    def fail(told: LifeStep) -> None:
        raise Fail("kept")

    with pc(bios=rom(tmp_path, OUT_IN)) as built:
        vm = built.vm
        with vm.observe.lifecycle(fail, steps=("reset",), device="mc146818rtc"):
            rtc = vm.machine.child("rtc")
            rtc.index = 0x33
            vm.reset()
            assert rtc.index == 0x33
        vm.reset()
        assert rtc.index == 0
        with vm.observe.lifecycle(fail, steps=("run-state",)):
            with pytest.raises(LifecycleError, match=r"^the machine cannot run: kept$"):
                vm.cont()
            assert vm.run_state is RunState.PRELAUNCH
        with vm.observe.lifecycle(fail, steps=("unrealize",), device="mc146818rtc"):
            with pytest.raises(LifecycleError, match=r"^/machine/rtc: cannot be unrealized: kept$"):
                vm.machine.ready = False
                rtc.set("realized", False)
            vm.close()
        assert not rtc.realized, "a machine that is closed takes no refusal"


# -- observers that are wrong


def test_an_observer_that_raises_stops_its_machine_and_is_named(machine: Machine) -> None:
    def clumsy(access: Access) -> None:
        raise KeyError("oops")

    with machine() as built:
        built.vm.observe.accesses(clumsy, first=0xE9, last=0xE9)
        assert built.vm.run() == 1
        line = clumsy.__code__.co_firstlineno + 1
        wanted = (
            f"/machine/cpu0: observer {__name__}.test_an_observer_that_raises_stops_its_machine_and_is_named.<locals>."
            f"clumsy, told of 1-byte read from port 0xe9, raised KeyError: 'oops', at {__file__}:{line}, at f000:"
        )
        assert built.vm.failure is not None and built.vm.failure.startswith(wanted)


def test_an_observer_that_closes_the_machine_is_wrong(machine: Machine) -> None:
    with machine() as built:
        vm = built.vm
        vm.observe.accesses(lambda access: vm.close(), first=0xE9, last=0xE9)
        vm.start()
        assert vm.wait(20)
        text = (
            "raised LifecycleError: a virtual machine cannot be closed on a processor's thread or with its lock held:"
        )
        assert vm.failure is not None and text in vm.failure
        with vm.lock, pytest.raises(LifecycleError, match=r"expected request_shutdown\(\) there$"):
            vm.close()


def test_an_observer_that_leaves_no_number_is_wrong(tmp_path: Path) -> None:
    def vague(access: Access) -> None:
        access.value = "nine"  # type: ignore[assignment]

    with pc(bios=rom(tmp_path, OUT_IN)) as built:
        built.vm.observe.accesses(vague, first=0x71, last=0x71)
        with pytest.raises(QomError, match=r"it left 'nine' where a whole number was expected"):
            built.vm.machine.system_bus.io_space.read(0x71, 1)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pc(bios=rom(tmp_path, OUT_IN)) as built:
        observe = built.vm.observe
        with pytest.raises(ConfigError, match=r"^observe: no address space 'ports': expected 'io' or 'memory'$"):
            observe.accesses(print, space="ports")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"^observe: 0x20\.\.0x10 is no range: expected the first address, then"):
            observe.accesses(print, first=0x20, last=0x10)
        with pytest.raises(ConfigError, match=r"^observe: no device 'isa-debugconn'; did you mean 'isa-debugcon'"):
            observe.lines(print, device="isa-debugconn")
        with pytest.raises(ConfigError, match=r"^observe: no life-cycle step 'relize'; did you mean 'realized?' or"):
            observe.lifecycle(print, steps=("relize",))


# -- plugins


class Spy:
    """A plugin object with the machine hooks."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def install(self, types: TypeRegistry) -> TypeRegistry:
        from qom import hookimpl

        spy = self

        class Plugin:
            @hookimpl
            def qom_machine_created(self, vm: VirtualMachine) -> None:
                spy.heard.append("created")
                vm.observe.lifecycle(lambda s: spy.heard.append(s.object.type_name), steps=("realized",), device="rtc")

            @hookimpl
            def qom_machine_built(self, vm: VirtualMachine) -> None:
                spy.heard.append(f"built {vm.run_state.value}")

            @hookimpl
            def qom_machine_closed(self, vm: VirtualMachine) -> None:
                spy.heard.append("closed")

        class Bad:
            @hookimpl
            def qom_machine_built(self, vm: VirtualMachine) -> None:
                raise SystemExit("I want out")

        types.hooks.register(Plugin(), "qom-spy:spy")
        types.hooks.register(Bad(), "qom-bad:bad")
        return types


def test_a_plugin_is_told_of_every_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spy = Spy()
    with pc(bios=rom(tmp_path, OUT_IN), types=spy.install(_types())) as built:
        assert built.vm.run() >> 1 == 0xFF
    assert spy.heard == ["created", "mc146818rtc", "built prelaunch", "closed"]
    text = capsys.readouterr().err
    assert "plugin 'qom-bad:bad': qom_machine_built raised SystemExit: I want out, at " in text
