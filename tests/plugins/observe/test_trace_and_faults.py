"""`trace` and `fault-injector`, from files and from the command line, on PCs that run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plugins.firmware import EMBEDDED
from qom import (
    ConfigError,
    IsaDevice,
    LifecycleError,
    QomError,
    Region,
    TypeRegistry,
    VirtualMachine,
    default_registry,
    prop,
    state,
    type_init,
)
from qom.cli.options import CommandLine
from qom.config import load
from qom.hw import SteppedClock

HELLO = Path(__file__).parents[2] / "guests" / "hello_serial.bin"


@type_init("test-latch")
class Latch(IsaDevice):
    """A byte that can be read and written; ISA line 5 follows its lowest bit."""

    iobase: int = prop(0x240, "Port", type="uint16", base=16)
    kept: int = state(reset=0x10)
    reads: int = state()

    def realize(self) -> None:
        self.line = self.isa.irq(5)
        self.isa.map_ports(self.iobase, Region("latch", 4, self._read, self._write, (1, 1)))

    def _read(self, offset: int, size: int) -> int:
        self.reads += 1
        return self.kept + offset

    def _write(self, offset: int, value: int, size: int) -> None:
        self.kept = value
        self.line.set(value & 1)


def types() -> TypeRegistry:
    made = default_registry(load_external=False)
    made.register(Latch, origin="the test")
    return made


def vm_of(*argv: str) -> VirtualMachine:
    accel = () if "-accel" in argv else ("-accel", "simulated")
    line = CommandLine().parse(["-M", "pc", "-m", "8M", "-nodefaults", *accel, *argv])
    return VirtualMachine(line.builder.finish(), types())


@contextmanager
def latched(fault: str, *more: str) -> Iterator[tuple[VirtualMachine, Any, Any]]:
    """The machine with a latch and a fault-injector on it, its ports, and the injector; the lock is held."""
    with (
        vm_of("-device", "test-latch,id=latch", "-object", f"fault-injector,id=f,{fault}", *more).build() as vm,
        vm.lock,
    ):
        yield vm, vm.machine.system_bus.io_space, vm.root.resolve("/objects/f")


# -- trace


def test_a_boot_is_traced_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "hello.img").write_bytes(HELLO.read_bytes().ljust(512 * 64, b"\0"))
    (tmp_path / "pc.toml").write_text(
        f"""
        firmware = "{EMBEDDED}"
        memory = "8M"
        [machine]
        type = "pc"
        [[accel]]
        name = "simulated"
        [[chardev]]
        id = "com1"
        backend = "ringbuf"
        [[drive]]
        id = "disk"
        file = "{tmp_path}/hello.img"
        format = "raw"
        snapshot = true
        [[device]]
        driver = "isa-debug-exit"
        iobase = 0x501
        [[object]]
        driver = "trace"
        id = "uart"
        device = "isa-serial"
        file = "{tmp_path}/uart.log"
        [[object]]
        driver = "trace"
        id = "life"
        what = ["lifecycle"]
        device = "isa-serial"
        file = "{tmp_path}/life.log"
        """
    )
    config = load(str(tmp_path / "pc.toml"))
    config.serials = ["com1"]
    with VirtualMachine(config, types()) as vm:
        vm.build()
        vm.start_loop()
        vm.cont()
        assert vm.wait(60)
        said = vm.root.resolve("/chardevs/com1").take()
        assert vm.failure is None
    lines = [line.split() for line in (tmp_path / "uart.log").read_text().splitlines()]
    times = [float(line[0]) for line in lines]
    assert times == sorted(times)
    sent = bytes(
        int(line[7], 16) for line in lines if line[1:4] == ["cpu0", "out", "0x3f8"] and line[4:6] == ["size", "1"]
    )
    assert said and said in sent, "every byte the guest sent is a write to the data register"
    assert {line[-2] for line in lines} == {"/machine/serial0"}
    life = [line.split(maxsplit=1)[1] for line in (tmp_path / "life.log").read_text().splitlines()]
    assert life[:4] == [
        "life created <isa-serial not in a tree>",
        "life realize /machine/serial0",
        "life configured /machine/serial0",
        "life realized /machine/serial0",
    ]
    assert life[-3:] == [
        "life unrealize /machine/serial0",
        "life unrealized /machine/serial0",
        "life finalized <isa-serial not in a tree>",
    ]


def test_a_trace_to_a_chardev_and_its_limit() -> None:
    words = ("-chardev", "ringbuf,id=log", "-object", "trace,id=t,chardev=log,device=latch,limit=3,what=ports")
    with vm_of("-device", "test-latch,id=latch", *words).build() as vm, vm.lock:
        space = vm.machine.system_bus.io_space
        space.write(0x240, 0x41, 1)
        assert space.read(0x242, 1) == 0x43
        space.read(0x71, 1)
        for _ in range(5):
            space.read(0x240, 1)
        text = vm.root.resolve("/chardevs/log").take().decode()
    assert text == (
        "0.000000000 - out 0x240 size 1 value 0x41 /machine/peripheral/latch latch+0x0\n"
        "0.000000000 - in 0x242 size 1 value 0x43 /machine/peripheral/latch latch+0x2\n"
        "0.000000000 - in 0x240 size 1 value 0x41 /machine/peripheral/latch latch+0x0\n"
    )


def test_lines_memory_and_failures_are_traced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    config = vm_of("-device", "test-latch,id=latch").config
    from qom.config import ObjectEntry

    config.objects = [
        ObjectEntry("trace", "l", {"what": ["lines", "ports"], "device": "test-latch", "file": str(log)}),
        ObjectEntry("trace", "m", {"what": ["memory"], "first": 0x1000, "last": 0x1FFF, "file": str(log) + "m"}),
        ObjectEntry("fault-injector", "f", {"what": "read", "device": "latch"}),
    ]
    with VirtualMachine(config, types()).build() as vm, vm.lock:
        space, memory = vm.machine.system_bus.io_space, vm.machine.system_bus.memory_space
        space.write(0x240, 1, 1)
        space.write(0x240, 0, 1)
        assert space.read(0x240, 1) == 0xFF
        memory.write_bytes(0x1FF0, bytes(range(100)))
        memory.write(0x1234, 5, 2)
        memory.read(0x2000, 4)
    assert log.read_text().splitlines()[:5] == [
        "0.000000000 - out 0x240 size 1 value 0x1 /machine/peripheral/latch latch+0x0",
        "0.000000000 line /machine/peripheral/latch out isa-irq[5] 1",
        "0.000000000 - out 0x240 size 1 value 0x0 /machine/peripheral/latch latch+0x0",
        "0.000000000 line /machine/peripheral/latch out isa-irq[5] 0",
        "0.000000000 - in 0x240 size 1 value 0xff /machine/peripheral/latch latch+0x0 failed: /objects/f: error",
    ]
    stored = Path(str(log) + "m").read_text().splitlines()
    assert (
        stored[0].startswith("0.000000000 - store 0x1ff0 size 100 value 000102") and "... /machine pc.ram" in stored[0]
    )
    assert stored[1] == "0.000000000 - store 0x1234 size 2 value 0x5 /machine pc.ram+0x1234"
    assert len(stored) == 2


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("file=x,what=prots", "/objects/t: cannot trace 'prots'; did you mean 'ports'?; there are: ports, memory, exits,"
         " lines, lifecycle"),
        ("what=ports", "/objects/t: expected either file= or chardev=, for where the trace goes"),
        ("file=/no/such/place", "/objects/t: /no/such/place: No such file or directory"),
        ("file=x,first=2,last=1", "/objects/t: last 0x1 is before first 0x2"),
    ],
)  # fmt: skip
def test_wrong_traces_are_refused(words: str, text: str) -> None:
    with pytest.raises(QomError) as caught:
        vm_of("-object", f"trace,id=t,{words}").build()
    assert str(caught.value) == f"-object trace,id=t,{words}: {text}"


# -- fault injection


@pytest.mark.parametrize(
    ("fault", "read", "kept"),
    [
        ("what=read,fault=error", 0xFF, 0x22),
        ("what=read,fault=value,value=0x77", 0x77, 0x22),
        ("what=read,fault=flip,mask=0xf0", 0xD2, 0x22),
        ("what=write,fault=error", 0x10, 0x10),
        ("what=write,fault=drop", 0x10, 0x10),
        ("what=write,fault=value,value=0x177", 0x77, 0x77),
        ("what=write,fault=flip,mask=3", 0x21, 0x21),
        ("fault=error", 0xFF, 0x10),
        ("fault=drop", 0x10, 0x10),
        ("what=read,first=1", 0x22, 0x22),
        ("what=read,last=0,region=latch", 0xFF, 0x22),
        ("what=read,region=other", 0x22, 0x22),
    ],
)
def test_accesses_go_wrong(fault: str, read: int, kept: int) -> None:
    for device in ("latch", "test-latch", "/machine/peripheral/latch", "isa-device"):
        with latched(f"device={device},{fault}") as (vm, space, _):
            vm.reset()
            space.write(0x240, 0x22, 1)
            assert (space.read(0x240, 1), vm.root.resolve("/machine/peripheral/latch").kept) == (read, kept)


def test_ports_go_wrong_whoever_is_there() -> None:
    with latched("first=0x241,last=0x241,what=read") as (_, space, _):
        assert (space.read(0x240, 1), space.read(0x241, 1)) == (0x10, 0xFF)


def test_from_to_and_probability() -> None:
    def reads(fault: str, count: int) -> str:
        with latched(f"device=latch,what=read,{fault}") as (_, space, injector):
            told = "".join("x" if space.read(0x240, 1) == 0xFF else "." for _ in range(count))
            assert (injector.matched, injector.injected) == (count, told.count("x"))
            return told

    assert reads("from=3,to=5", 8) == "..xxx..."
    assert reads("from=3", 5) == "..xxx"
    once = reads("per-mille=300,seed=7", 200)
    assert 30 < once.count("x") < 90
    assert reads("per-mille=300,seed=7", 200) == once != reads("per-mille=300,seed=8", 200)


def test_a_device_that_is_not_even_asked() -> None:
    with latched("device=latch,what=read,before=on") as (vm, space, _):
        assert space.read(0x240, 1) == 0xFF
        assert vm.root.resolve("/machine/peripheral/latch").reads == 0


def test_it_is_switched_while_the_machine_exists() -> None:
    with latched("device=latch,what=read,enabled=off") as (_, space, injector):
        assert space.read(0x240, 1) == 0x10
        injector.set("enabled", "on")
        assert space.read(0x240, 1) == 0xFF
        injector.unparent()
        assert space.read(0x240, 1) == 0x10


@pytest.mark.parametrize(("fault", "levels"), [("drop", []), ("value,value=1", [1, 1]), ("flip", [0, 1])])
def test_lines_go_wrong(fault: str, levels: list[int]) -> None:
    seen: list[int] = []
    with latched(f"device=latch,what=line,line=isa-irq,n=5,fault={fault}") as (vm, space, _):
        vm.observe.lines(lambda change: seen.append(change.level), device="/machine/pic", n=5)
        space.write(0x240, 1, 1)
        space.write(0x240, 0, 1)
        assert seen == levels


def test_interrupts_come_late() -> None:
    seen: list[tuple[int, int]] = []
    with latched("device=latch,what=line,fault=delay,delay=500", "-accel", "qtest") as (vm, space, _):
        clock = vm.clock
        assert isinstance(clock, SteppedClock)
        vm.observe.lines(lambda c: seen.append((clock.now(), c.level)), device="/machine/pic", n=5)
        space.write(0x240, 1, 1)
        clock.step(100)
        space.write(0x240, 0, 1)
        clock.step(1000)
        assert seen == [(500, 1), (600, 0)]


def test_realize_fails() -> None:
    made = vm_of("-device", "test-latch,id=latch", "-object", "fault-injector,id=f,device=test-latch,what=realize")
    with pytest.raises(ConfigError) as caught:
        made.build()
    told = "-device test-latch,id=latch: /machine/peripheral/latch: realize failed: made to fail by /objects/f"
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("what=line,fault=error", "fault=error does not go with what=line: expected value, flip, drop, delay"),
        ("what=read,fault=drop", "fault=drop does not go with what=read: expected value, flip, error"),
        ("what=realize", "what=realize needs device=, to say whose"),
        ("from=4,to=3", "to=3 is before from=4"),
        ("first=4,last=3", "last 0x3 is before first 0x4"),
        ("fault=flip,before=on", "before=on does not go with fault=flip: expected value, error"),
    ],
)
def test_wrong_faults_are_refused(words: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        vm_of("-object", f"fault-injector,id=f,{words}").build()
    assert str(caught.value) == f"-object fault-injector,id=f,{words}: /objects/f: {text}"


def test_a_fault_for_a_device_that_is_not_there_is_said_before_the_machine_runs() -> None:
    with vm_of("-object", "fault-injector,id=f,device=isa-serail").build() as vm:
        with pytest.raises(LifecycleError) as caught:
            vm.cont()
        assert str(caught.value) == "the machine cannot run: /objects/f: this machine has no device 'isa-serail'"
    with latched("device=latch") as (vm, _, _):
        vm.cont()
        vm.stop()


def test_a_guest_meets_a_broken_uart_and_the_other_machine_does_not(tmp_path: Path) -> None:
    disk = tmp_path / "hello.img"
    disk.write_bytes(HELLO.read_bytes().ljust(512 * 64, b"\0"))

    def said(*more: str) -> bytes:
        words = ("-bios", str(EMBEDDED), "-chardev", "ringbuf,id=c", "-serial", "chardev:c", "-drive",
                 f"file={disk},format=raw,if=ide,snapshot=on", "-device", "isa-debug-exit,iobase=0x501,iosize=2")  # fmt: skip
        with vm_of(*words, *more).build() as vm:
            vm.start_loop()
            vm.cont()
            assert vm.wait(60)
            assert vm.failure is None
            found: bytes = vm.root.resolve("/chardevs/c").take()
            return found

    whole = said()
    flipped = said(
        "-object", "fault-injector,id=f,device=isa-serial,what=write,fault=flip,mask=0x20,last=0,from=40,to=45"
    )
    assert len(whole) == len(flipped) and whole != flipped
    differing = [a ^ b for a, b in zip(whole, flipped, strict=True) if a != b]
    assert set(differing) == {0x20} and len(differing) <= 6
