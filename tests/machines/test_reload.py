"""Hot reload: a device's source is edited under a running machine; what survives, what is new, and what a mistake does."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pcs import disk_words, image, need, pc, registry

from qom import Device, RunState, TypeRegistry, VirtualMachine
from qom.config import DeviceEntry
from qom.hw import Access
from qom.vm import ReloadError, SourceWatch

COUNTER = '''
"""A counter, for the tests of hot reload."""
from qom import IsaDevice, Region, prop, state, type_init

STEP = 1

@type_init("test-counter")
class Counter(IsaDevice):
    iobase: int = prop(0x240, "First port", type="uint16")
    irq: int = prop(5, "ISA line", among=range(16))
    label: str = prop("", "What it is called")
    count: int = state()
    lap: int = state(reset=7)

    def instance_init(self):
        self.gpio_in("tick", 2, self.tick)
        self.out = self.gpio_out("carry")[0]

    def realize(self):
        self.line = self.isa.irq(self.irq)
        self.alarm = self.clock.timer(self.expire)
        self.isa.map_ports(self.iobase, Region("counter", 4, self.read, self.write, (1, 1)))

    def tick(self, n, level):
        self.count += level

    def expire(self):
        self.count = 200
        self.line.set(1)
        self.out.set(1)

    def read(self, offset, size):
        return VERSION if offset == 3 else self.count

    def write(self, offset, value, size):
        if offset == 1:
            self.alarm.arm(value)
        elif offset == 2:
            self.line.set(value)
            self.out.set(value)
        else:
            self.count += STEP

VERSION = 1
'''


class Source:
    """A module on a path of its own, that a test edits."""

    def __init__(self, path: Path, name: str, text: str) -> None:
        self.file = path / f"{name}.py"
        self.name = name
        self.text = text
        self.file.write_text(text)
        self.module = importlib.import_module(name)

    def edit(self, old: str, new: str) -> None:
        assert old in self.text, old
        self.write(self.text.replace(old, new))

    def write(self, text: str) -> None:
        self.text = text
        self.file.write_text(text)

    def line_of(self, text: str) -> int:
        return next(n for n, line in enumerate(self.text.splitlines(), 1) if text in line)

    def register(self, types: TypeRegistry) -> None:
        for value in vars(self.module).values():
            if isinstance(value, type) and value.__module__ == self.name:
                types.register(value, "qom-counter")


Write = Callable[..., Source]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made: list[str] = []

    def write(text: str = COUNTER, name: str = "reloaded_counter") -> Source:
        made.append(name)
        return Source(tmp_path, name, text)

    yield write
    for name in made:
        sys.modules.pop(name, None)


@contextmanager
def machine(*sources: Source, words: tuple[str, ...] = (), accel: str = "qtest") -> Iterator[VirtualMachine]:
    types = registry()
    for source in sources:
        source.register(types)
    with pc("-accel", accel, *words, types=types) as built:
        yield built.vm


def counter(vm: VirtualMachine, id: str = "c") -> Any:
    return vm.root.resolve(f"/machine/peripheral/{id}")


def port(vm: VirtualMachine, at: int, value: int | None = None) -> int:
    space = vm.machine.system_bus.io_space
    with vm.lock:
        if value is None:
            return space.read(at, 1)
        space.write(at, value, 1)
    return 0


def step(vm: VirtualMachine, ns: int) -> None:
    clock: Any = vm.clock
    with vm.lock:
        clock.step(ns)


ONE = ("-device", "test-counter,id=c,label=mine")


def test_new_code_with_the_old_state_place_and_properties(source: Write) -> None:
    code = source()
    with machine(code, words=ONE) as vm:
        device = counter(vm)
        for _ in range(3):
            port(vm, 0x240, 1)
        code.edit("STEP = 1", "STEP = 10")
        code.edit("VERSION = 1", "VERSION = 2")
        assert str(vm.reload("test-counter")) == f"reloaded test-counter from {code.file}: 1 device"
        assert counter(vm) is device and device.path == "/machine/peripheral/c" and device.label == "mine"
        assert device.user_set == {"bus", "label"}
        assert (port(vm, 0x240), port(vm, 0x243)) == (3, 2)
        port(vm, 0x240, 1)
        assert port(vm, 0x240) == 13
        code.edit("STEP = 10", "STEP = 100")
        vm.reload("reloaded_counter")
        port(vm, 0x240, 1)
        assert port(vm, 0x240) == 113
        vm.reset()
        assert (port(vm, 0x240), device.lap) == (0, 7)
        assert [d for d in device.bus.devices if d is device] == [device]


def test_mappings_are_the_new_codes(source: Write) -> None:
    code = source()
    with machine(code, words=ONE) as vm:
        port(vm, 0x240, 1)
        code.edit("self.isa.map_ports(self.iobase,", "self.isa.map_ports(self.iobase + 0x20,")
        vm.reload("test-counter")
        assert (port(vm, 0x240), port(vm, 0x260)) == (0xFF, 1)


def test_fields_come_and_go(source: Write) -> None:
    code = source()
    with machine(code, words=ONE) as vm:
        device = counter(vm)
        device.count, device.lap = 9, 42
        code.edit(
            "    lap: int = state(reset=7)", "    turns: int = state(reset=11)\n    seen: list = state(factory=list)"
        )
        report = vm.reload("test-counter")
        assert (device.count, device.turns, device.seen) == (9, 11, [])
        assert "lap" not in device.__dict__
        assert report.new_state == ("test-counter.seen", "test-counter.turns")
        assert report.dropped_state == ("test-counter.lap",)
        assert str(report).endswith(
            ": 1 device; new state, at its reset value: test-counter.seen, test-counter.turns; dropped state:"
            " test-counter.lap"
        )


def test_a_pending_timer_goes_on(source: Write) -> None:
    code = source()
    with machine(code, words=ONE) as vm:
        port(vm, 0x241, 100)
        step(vm, 60)
        code.edit("self.count = 200", "self.count = 222")
        vm.reload("test-counter")
        step(vm, 39)
        assert port(vm, 0x240) == 0
        step(vm, 1)
        assert port(vm, 0x240) == 222


def test_state_loaded_has_the_last_word_on_timers(source: Write) -> None:
    code = source()
    with machine(code, words=ONE) as vm:
        port(vm, 0x241, 100)
        code.edit("    def tick(", "    def state_loaded(self):\n        self.alarm.arm(10)\n\n    def tick(")
        vm.reload("test-counter")
        step(vm, 10)
        assert port(vm, 0x240) == 200 and not counter(vm).alarm.pending


def test_lines_and_pins_stay_connected_and_keep_their_levels(source: Write) -> None:
    code = source()
    with machine(code, words=("-device", "test-counter,id=c", "-device", "test-counter,id=d,iobase=0x250,irq=6")) as vm:
        one, two = counter(vm), counter(vm, "d")
        pic = vm.machine.child("pic")
        with vm.lock:
            one.connect_out("carry", 0, two.line_in("tick", 1))
        told: list[tuple[int, int]] = []
        vm.observe.lines(lambda c: told.append((c.n, c.level)), device="/machine/pic", name="")
        ticks: list[int] = []
        vm.observe.lines(lambda c: ticks.append(c.level), device="/machine/peripheral/d", name="tick")
        port(vm, 0x242, 1)
        assert told == [(5, 1)] and two.count == 1 and ticks == [1]
        code.edit("self.count += level", "self.count += 10 * level")
        for _ in range(3):
            vm.reload("test-counter")
        assert told == [(5, 1)], "the line stays up, and its receiver hears of nothing"
        assert (two.count, one.out.level, ticks) == (1, 1, [1])
        assert pic.inputs & 0x20
        port(vm, 0x242, 0)
        port(vm, 0x242, 1)
        assert told == [(5, 1), (5, 0), (5, 1)] and two.count == 11 and ticks == [1, 0, 1]
        assert two.line_in("tick", 1) is one.pin_out("carry").line


def test_several_instances_and_subclasses(source: Write) -> None:
    code = source()
    sub = source(
        "from reloaded_counter import Counter\nfrom qom import state, type_init\n\n"
        '@type_init("test-subcounter")\nclass Sub(Counter):\n    """A kind of counter."""\n    extra: int = state(reset=3)\n'
        "    def read(self, offset, size):\n        return super().read(offset, size) + 100\n",
        "reloaded_sub",
    )
    words = ("-device", "test-counter,id=c", "-device", "test-subcounter,id=d,iobase=0x250", "-device",
             "test-counter,id=e,iobase=0x260")  # fmt: skip
    with machine(code, sub, words=words) as vm:
        counter(vm, "d").extra = 5
        for at in (0x240, 0x250, 0x260):
            port(vm, at, 1)
        code.edit("return VERSION if offset == 3 else self.count", "return VERSION if offset == 3 else self.count + 20")
        report = vm.reload("test-counter")
        assert report.types == ("test-counter", "test-subcounter")
        assert report.devices == tuple(f"/machine/peripheral/{n}" for n in "cde")
        assert [port(vm, at) for at in (0x240, 0x250, 0x260)] == [21, 121, 21]
        assert counter(vm, "d").extra == 5 and isinstance(counter(vm, "d"), type(counter(vm)))
        sub.edit("+ 100", "+ 50")
        assert vm.reload("reloaded_sub").types == ("test-subcounter",)
        assert [port(vm, at) for at in (0x240, 0x250)] == [21, 71]


def test_other_machines_keep_their_code(source: Write) -> None:
    code = source()
    with machine(code, words=ONE) as first, machine(code, words=ONE) as second:
        code.edit("VERSION = 1", "VERSION = 2")
        first.reload("test-counter")
        assert (port(first, 0x243), port(second, 0x243)) == (2, 1)
        code.edit("VERSION = 2", "VERSION = 3")
        second.reload("test-counter")
        assert (port(first, 0x243), port(second, 0x243)) == (2, 3)


def test_devices_that_come_afterwards_have_the_new_code(source: Write) -> None:
    code = source()
    with machine(code, words=ONE) as vm:
        code.edit("VERSION = 1", "VERSION = 2")
        vm.reload("test-counter")
        vm.machine.ready = False
        vm.add_device(DeviceEntry(driver="test-counter", id="d", props={"iobase": 0x250}))
        assert port(vm, 0x253) == 2


PARENT = '''
"""A device with a part of its own and a bus."""
from qom import Device, IsaDevice, Bus, Region, link, prop, state, type_init

@type_init("test-part")
class Part(Device):
    value: int = state()
    def instance_init(self):
        self.gpio_in(None, 1, self.set_value)
    def set_value(self, n, level):
        self.value += ADD * level

@type_init("test-shelf-bus")
class Shelf(Bus):
    """A bus."""

@type_init("test-parent")
class Parent(IsaDevice):
    def realize(self):
        self.part = self.registry.new("test-part")
        self.add_child("part", self.part)
        self.part.set("realized", True)
        self.shelf = self.new_bus("test-shelf-bus", "shelf.0")

@type_init("test-guest")
class Guest(Device):
    bus_type = "test-shelf-bus"

@type_init("test-friend")
class Friend(IsaDevice):
    part = link("test-part", "Somebody's part")

ADD = 1
'''


def test_parts_are_made_anew_with_their_state_links_and_lines(source: Write) -> None:
    code = source(PARENT, "reloaded_parent")
    with machine(code, words=("-device", "test-parent,id=c")) as vm:
        vm.machine.ready = False
        parent, old = counter(vm), counter(vm).part
        friend = vm.add_device(DeviceEntry(driver="test-friend", id="f", props={}))
        friend.set("realized", False)
        friend.set("part", old)
        friend.set("realized", True)
        line = old.line_in()
        old.value = 4
        code.edit("ADD = 1", "ADD = 5")
        vm.reload("test-parent")
        assert parent.part is not old and old.life.value == "finalized"
        assert friend.part is parent.part and parent.part.value == 4
        line.set(1)
        assert parent.part.value == 9 and parent.part.line_in() is line


def test_devices_of_others_on_its_bus_are_refused(source: Write) -> None:
    code = source(PARENT, "reloaded_parent")
    other = source(PARENT.replace("test-", "other-"), "reloaded_other")
    with machine(code, other, words=("-device", "test-parent,id=c", "-device", "test-guest,id=g,bus=shelf.0")) as vm:
        with pytest.raises(ReloadError) as caught:
            vm.reload("test-parent")
        assert str(caught.value) == (
            "test-parent: cannot be reloaded: /machine/peripheral/g on /machine/peripheral/c/shelf.0: expected no device"
            " there that is not a part of /machine/peripheral/c"
        )
        assert counter(vm, "g").realized


# -- new code that does not do


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("STEP = 1", "STEP = = 1", "STEP =", "reloaded_counter: not reloaded: FILE:LINE: SyntaxError: invalid syntax"),
        ("STEP = 1", "import nowhere_at_all", "import nowhere",
         "reloaded_counter: not reloaded: FILE:LINE: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("STEP = 1", "raise SystemExit(3)", "raise", "reloaded_counter: not reloaded: FILE:LINE: SystemExit: 3"),
        ('prop(5, "ISA line", among=range(16))', 'prop(99, "ISA line", among=range(16))', "@type_init",
         "reloaded_counter: not reloaded: FILE:LINE: TypeRegistryError: Counter: property 'irq' has the default 99:"
         " expected an integer in 0..15"),
        ('@type_init("test-counter")', '@type_init("test-conter")', "",
         "test-counter: not reloaded: the new code has no type 'test-counter', which /machine/peripheral/c is"),
        ("    def realize(self):", "    @classmethod\n    def class_init(cls):\n        cls.desc = 1 / 0\n\n"
         "    def realize(self):", "1 / 0",
         "test-counter: not reloaded: type 'test-counter' (from qom-counter): class_init failed:"
         " ZeroDivisionError: division by zero, at FILE:LINE"),
        ("    def instance_init(self):", "    def instance_init(self):\n        self.nonsense()", "self.nonsense()",
         "test-counter: not reloaded: a 'test-counter' cannot be created: AttributeError: 'Counter' object has no attribute"
         " 'nonsense'; 'test-counter' of qom-counter, at FILE:LINE"),
        ("    def realize(self):", "    def realize(self):\n        raise KeyError('oops')", "raise KeyError",
         "test-counter: not reloaded: /machine/peripheral/c: realize failed: KeyError: 'oops'; 'test-counter' of"
         " qom-counter, at FILE:LINE"),
        ("    def realize(self):", "    def reset(self):\n        raise KeyError('oops')\n\n    def realize(self):",
         "raise KeyError", "test-counter: not reloaded: /machine/peripheral/c: cold reset raised KeyError: 'oops';"
         " 'test-counter' of qom-counter, at FILE:LINE"),
        ("    count: int = state()", "    count: str = state(reset='')", "",
         "test-counter: not reloaded: /machine/peripheral/c: count: saved state does not fit: a int where a str was"),
        ("    def tick(", "    def state_loaded(self):\n        raise ValueError('no')\n\n    def tick(", "raise",
         "test-counter: not reloaded: /machine/peripheral/c: loading its state raised ValueError: no; 'test-counter' of"
         " qom-counter, at FILE:LINE"),
        ("self.iobase, Region", "0x70, Region", "0x70, Region", "test-counter: not reloaded: FILE:LINE:"
         " /machine/peripheral/c: ports 0x70..0x73 are taken: /machine/rtc has 0x70..0x71 (rtc)"),
        ('    label: str = prop("", "What it is called")\n', "", "", "test-counter: not reloaded: /machine/peripheral/c: the"
         " new code has no property 'label', which is set to 'mine'"),
        ('prop("", "What it is called")', 'prop(0, "What it is called", type="int32")', "", "test-counter: not reloaded:"
         " /machine/peripheral/c: property 'label' cannot be 'mine': expected an integer in -2147483648..2147483647"),
        ('        self.out = self.gpio_out("carry")[0]\n', "", "", "test-counter: not reloaded: /machine/peripheral/c: the new"
         " code has no output carry[0], which is connected"),
        ('self.gpio_in("tick", 2, self.tick)', 'self.gpio_in("tick", 1, self.tick)', "", "test-counter: not reloaded:"
         " /machine/peripheral/c: the new code has no input tick[1], which /machine/peripheral/d drives"),
    ],
)  # fmt: skip
def test_the_old_code_stays_when_the_new_does_not_do(source: Write, old: str, new: str, line: str, text: str) -> None:
    code = source()
    words = (*ONE, "-device", "test-counter,id=d,iobase=0x250,irq=6")
    with machine(code, words=words) as vm:
        device, other = counter(vm), counter(vm, "d")
        before = sys.modules["reloaded_counter"]
        with vm.lock:
            device.connect_out("carry", 0, other.line_in("tick", 0))
            other.connect_out("carry", 0, device.line_in("tick", 1))
        port(vm, 0x240, 1)
        port(vm, 0x241, 100)
        port(vm, 0x252, 1)
        assert (device.count, other.count) == (2, 0)
        heard: list[int] = []
        vm.observe.lines(lambda change: heard.append(change.level), device="/machine/pic")
        tree = [(o.path, o.type_name) for o in vm.root.walk()]
        cls = type(device)
        code.edit(old, new)
        for _ in range(2):
            with pytest.raises(ReloadError) as caught:
                vm.reload("test-counter")
            number = code.line_of(line) if line else 0
            wanted = text.replace("FILE", str(code.file)).replace("LINE", str(number))
            assert str(caught.value) == wanted
        assert type(device) is cls is vm.registry.class_of("test-counter") and sys.modules["reloaded_counter"] is before
        assert tree == [(o.path, o.type_name) for o in vm.root.walk()]
        assert heard == [] and vm.failure is None
        assert (port(vm, 0x240), port(vm, 0x243), device.realized) == (2, 1, True)
        step(vm, 100)
        assert (device.count, other.count) == (200, 1), "the timer fired, the wire between them is whole"
        other.out.set(1)
        assert device.count == 201
        code.write(COUNTER.replace("VERSION = 1", "VERSION = 2"))
        vm.reload("test-counter")
        assert (port(vm, 0x240), port(vm, 0x243)) == (201, 2), "and the next try succeeds"
    assert other.life.value == device.life.value == "finalized"


def test_what_cannot_be_reloaded(source: Write) -> None:
    code = source()
    with machine(code, words=(*ONE, "-chardev", "ringbuf,id=r")) as vm:
        for what, text in (
            ("reloaded_conter", "reloaded_conter: no type and no module with types; did you mean 'reloaded_counter'?"),
            ("device", "device: cannot be reloaded: qom.hw.device is part of the framework itself"),
            (
                "chardev-ringbuf",
                "chardev-ringbuf: cannot be reloaded: /chardevs/r ('chardev-ringbuf') is no device that can"
                " be exchanged",
            ),
        ):
            with pytest.raises(ReloadError) as caught:
                vm.reload(what)
            assert str(caught.value) == text
        code.file.unlink()
        with pytest.raises(ReloadError, match=r"^reloaded_counter: not reloaded: .*: FileNotFoundError: "):
            vm.reload("test-counter")


def test_a_device_cannot_reload_itself(source: Write) -> None:
    code = source()
    code.edit("return VERSION if", "return self.system.reload('test-counter') if")
    code.module = importlib.reload(code.module)
    with machine(code, words=ONE, accel="simulated") as vm:
        cpu = vm.cpus[0]
        with pytest.raises(Exception, match="test-counter: cannot be reloaded from within a device's callback"):
            cpu.run_on(lambda: port(vm, 0x243))


def test_a_device_in_the_box_and_on_pci(source: Write) -> None:
    with machine(words=("-chardev", "ringbuf,id=r", "-device", "isa-serial,id=c,index=1,chardev=r")) as vm:
        port(vm, 0x2FF, 0x5A)  # the scratch register
        before = sys.modules["plugins.char.ns16550"]
        try:
            assert vm.reload("isa-serial").devices == ("/machine/serial0", "/machine/peripheral/c")
            assert type(counter(vm)).__module__ == "plugins.char.ns16550"
            assert port(vm, 0x2FF) == 0x5A
            port(vm, 0x2F8, 0x41)
            assert vm.root.resolve("/chardevs/r").take() == b"A"
        finally:
            sys.modules["plugins.char.ns16550"] = before
            sys.modules["plugins.char"].ns16550 = before


# -- with a guest that runs


def test_several_threads_reload_at_once(source: Write) -> None:
    code = source()
    reports: list[Any] = []
    with machine(code, words=ONE, accel="simulated") as vm:
        vm.start()

        def work() -> None:
            reports.extend(vm.reload("test-counter").devices for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert reports == [("/machine/peripheral/c",)] * 20, "each found what the one before it left"
        code.edit("VERSION = 1", "VERSION = 2")
        assert vm.reload("test-counter").devices == ("/machine/peripheral/c",)
        assert port(vm, 0x243) == 2


def test_a_module_cannot_reload_while_it_is_reloaded(source: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    code = source()
    with machine(code, words=ONE) as vm:
        monkeypatch.setitem(sys.modules, "the_machine", vm)  # type: ignore[arg-type]
        code.edit("VERSION = 1", "VERSION = 2\nimport the_machine\nthe_machine.reload('test-counter')")
        with pytest.raises(ReloadError, match="test-counter: cannot be reloaded from within another reload"):
            vm.reload("test-counter")
        assert port(vm, 0x243) == 1


@pytest.mark.parametrize("accel", ["simulated", "kvm"])
def test_a_guest_polls_while_the_device_is_reloaded_a_hundred_times(source: Write, accel: str, tmp_path: Path) -> None:
    code = source()
    # mov $0x240,%dx; l: out %al,(%dx); inc %dx x3; in (%dx),%al; cmp $0xff,%al; je wrong; sub $3,%dx; jmp l
    # wrong: mov $0x501,%dx; mov $1,%al; out %al,(%dx); hlt
    guest = bytes.fromhex("ba4002 ee 83c203 ec 3cff 7405 83ea03 ebf2 ba0105 b001 ee f4".replace(" ", ""))
    image = bytearray(65536)
    image[0xF000 : 0xF000 + len(guest)] = guest
    image[0xFFF0:0xFFF3] = b"\xe9\x0d\xf0"
    (tmp_path / "rom").write_bytes(image)
    types = registry()
    code.register(types)
    with pc("-accel", need(accel), "-device", "test-counter,id=c", bios=str(tmp_path / "rom"), types=types) as built:
        vm, device = built.vm, counter(built.vm)
        seen = threading.Event()
        versions: list[int] = []

        def look(access: Access) -> None:
            if not access.is_write and access.value != (versions[-1] if versions else None):
                versions.append(access.value or 0)
            seen.set()

        vm.observe.accesses(look, first=0x240, last=0x243)
        built.start()
        before = 0
        for n in range(1, 101):
            code.edit(f"VERSION = {n}", f"VERSION = {n + 1}")
            if n % 10 == 5:
                text = code.text
                code.write(text + "\n)")
                with pytest.raises(ReloadError, match="SyntaxError: unmatched"):
                    vm.reload("test-counter")
                code.write(text)
            vm.reload("test-counter")
            assert vm.run_state is RunState.RUNNING
            assert device.count >= before, "what the guest counted is never lost"
            before = device.count
            seen.clear()
            assert seen.wait(20)
            while not versions or versions[-1] != n + 1:
                seen.clear()
                assert seen.wait(20)
        assert versions[-100:] == list(range(2, 102)), "each version answered, in order, and the port was always there"
        assert not vm.wait(0) and vm.failure is None
        vm.stop()
        assert device.count > 100


# -- when the file changes


def test_a_changed_file_is_reloaded_and_told(source: Write) -> None:
    code = source()
    told: list[str] = []
    with machine(code, words=ONE) as vm:
        watch = SourceWatch(vm, told.append, seconds=0)
        watch.look()
        assert told == []
        code.write(COUNTER.replace("VERSION = 1", "VERSION = 22"))
        watch.look()
        assert told == [f"reloaded test-counter from {code.file}: 1 device"] and port(vm, 0x243) == 22
        watch.look()
        code.write(COUNTER + "\nthis wrong\n")
        watch.look()
        line = code.line_of("this wrong")
        assert told[1:] == [
            f"reloaded_counter: not reloaded: {code.file}:{line}: SyntaxError: invalid syntax; the old code stays"
        ]
        assert port(vm, 0x243) == 22
        watch.close()
        code.write(COUNTER)
        watch.look()
        assert len(told) == 2


def test_qom_run_watch(
    source: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device edits its own source when the guest first asks it; the guest ends when it gets the new answer."""
    import qom.cli.system
    import qom.vm.reload
    from qom.cli.main import main

    code = source(COUNTER.replace("return VERSION if offset == 3 else self.count", "return edit()") + EDIT)
    # mov $0x243,%dx; l: in (%dx),%al; cmp $2,%al; jne l; mov $0x501,%dx; out %al,(%dx); hlt
    guest = bytes.fromhex("ba4302 ec 3c02 75fb ba0105 ee f4".replace(" ", ""))
    image = bytearray(65536)
    image[0xF000 : 0xF000 + len(guest)] = guest
    image[0xFFF0:0xFFF3] = b"\xe9\x0d\xf0"
    (tmp_path / "rom").write_bytes(image)
    (tmp_path / "pc.toml").write_text(
        f'firmware = "{tmp_path}/rom"\nmemory = "4M"\n[machine]\ntype = "pc"\n[[accel]]\nname = "simulated"\n'
        '[[device]]\ndriver = "test-counter"\n[[device]]\ndriver = "isa-debug-exit"\niobase = 0x501\n'
    )

    def types(*_: object, **__: object) -> TypeRegistry:
        made = registry()
        code.register(made)
        return made

    monkeypatch.setattr(qom.cli.system, "registry", types)
    monkeypatch.setattr(qom.vm.reload, "SECONDS", 0.01)
    assert main(["run", str(tmp_path / "pc.toml"), "--watch"]) == 2 << 1 | 1
    assert f"qom: reloaded test-counter from {code.file}: 1 device\n" in capfd.readouterr().err


EDIT = """

def edit():
    import pathlib
    path = pathlib.Path(__file__)
    text = path.read_text()
    if "VERSION = 1\\n" in text:
        path.write_text(text.replace("VERSION = 1\\n", "VERSION = 2  # edited\\n"))
    return VERSION
"""


PCI = '''
"""A PCI function with a register in a memory BAR, that raises INTA when told, for the tests of hot reload."""
from qom import PciDevice, Region, state, type_init

@type_init("test-pci")
class Function(PciDevice):
    vendor_id, device_id, class_code, interrupt_pin, hotpluggable = 0x1234, 0x4321, 0xFF00, 1, True
    kept: int = state()

    def realize(self):
        self.register_bar(0, Region("function", 0x1000, self.read, self.write, (4, 4)))

    def read(self, offset, size):
        return self.kept + ADD

    def write(self, offset, value, size):
        self.kept = value
        self.intx.set(value & 1)

ADD = 0
'''


def test_a_pci_function_keeps_its_slot_its_bars_and_its_interrupt(source: Write) -> None:
    code = source(PCI, "reloaded_function")
    words = ("-device", "test-pci,id=gone", "-device", "test-pci,id=c")
    with machine(code, words=words) as vm:
        told: list[str] = []
        counter(vm, "gone").unplug()  # so that the first free slot is another one
        function, memory = counter(vm), vm.machine.system_bus.memory_space
        with vm.lock:
            slot = function.devfn
            function.config_write(0x10, 0xE000_0000, 4)
            function.config_write(0x04, 0x0002, 2)
            memory.write(0xE000_0000, 0x41, 4)
        code.edit("ADD = 0", "ADD = 0x200")
        vm.observe.lines(lambda change: told.append(str(change)))
        for _ in range(3):
            vm.reload("test-pci")
        with vm.lock:
            assert function.devfn == slot != 0 and vm.machine.child("pcihost") is not None
            assert memory.read(0xE000_0000, 4) == 0x241
            assert function.intx_asserted and function.pci.functions[slot] is function
            assert [line for line in told if "pic" in line or "gsi" in line] == [], "its interrupt never went away"
            memory.write(0xE000_0000, 0x40, 4)
            assert not function.intx_asserted
            assert function.config_read(0x10, 4) == 0xE000_0000


PROVIDERS = {
    "plugins.block.piix3_ide",
    "plugins.pci.i440fx",
    "plugins.pci.piix3",
}  # of buses with others' devices on them


@pytest.mark.parametrize("accel", ["simulated", "kvm"])
def test_a_pc_boots_while_its_parts_are_reloaded(accel: str, tmp_path: Path) -> None:
    """Timers, interrupt controllers, the disk, the UART and all the rest, several times between reset vector and disk."""
    with pc("-accel", need(accel), *disk_words(image(tmp_path, "hello_serial"))) as built:
        vm = built.vm
        modules = {type(found).__module__ for found in vm.root.walk() if isinstance(found, Device)}
        chosen = sorted(
            name for name in modules - PROVIDERS - {"plugins.cpu.x86"} if name.startswith(("plugins.", "machines."))
        )
        before = {name: sys.modules[name] for name in chosen}
        reloads = accesses = 0

        def reload_all() -> None:
            nonlocal reloads
            for name in chosen:
                reloads += len(vm.reload(name).devices)

        def count(access: Access) -> None:
            nonlocal accesses
            accesses += 1
            if accesses in (50, 200, 400, 600):
                vm.main_loop.call_soon_threadsafe(reload_all)

        try:
            vm.observe.accesses(count)
            reload_all()
            built.start()
            assert built.wait_for_end() == 1
            assert "Hello from a boot sector.\n" in built.serial.text()
            assert len(chosen) > 15 and reloads >= 2 * len(chosen)
        finally:
            for name, module in before.items():
                sys.modules[name] = module
                package, _, short = name.rpartition(".")
                setattr(sys.modules[package], short, module)
