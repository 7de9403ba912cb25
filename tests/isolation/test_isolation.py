"""A device with a bug in one machine: the other machine in the process runs on to its end, and the report names the bug.

In every test two PCs with running guests are in one process.  The first has the device `qom-buggy 1.5` brings, which raises
in the place that the test chooses; the second has none of it.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from qom import QomError, TypeRegistry, VirtualMachine, default_registry
from qom.cli import system
from qom.cli.options import CommandLine
from qom.plugins import PluginRow

BUGGY = '''
"""A PCI function, an ISA device, a back end and an object that raise where they are told to."""
from qom import Chardev, IsaDevice, Object, PciDevice, Region, UserCreatable, link, prop, state, type_init

WHERE = "nowhere"
ERROR = ValueError("a bug")

def here(place):
    if WHERE == place:
        raise ERROR

def check(device, value):
    here("setter")

@type_init("buggy-isa")
class BuggyIsa(IsaDevice):
    iobase: int = prop(0x240, "Port", type="uint16")
    checked: int = prop(0, "Its setter may raise", set=check)
    chardev = link("chardev", "Back end")
    count: int = state()

    @classmethod
    def class_init(cls):
        here("class_init")

    def instance_init(self):
        here("instance_init")
        self.gpio_in("input", 1, self.drive)

    def realize(self):
        region = Region("buggy", 16, self.read, self.write, (1, 4))
        region.read_burst = self.burst
        self.isa.map_ports(self.iobase, region)
        self.isa.map_memory(0xC8000, Region("buggy-memory", 16, self.read_memory, None, (1, 4)))
        self.alarm = self.clock.timer(self.expire)
        if self.chardev is not None:
            self.chardev.set_frontend(self.receive, lambda: 10, owner=self.path)
            self.on_unrealize(self.chardev.unset_frontend)
        here("realize")

    def unrealize(self):
        here("unrealize")

    def finalize(self):
        here("finalize")

    def reset(self):
        super().reset()
        here("reset")

    def state_loaded(self):
        here("state_loaded")

    def read(self, offset, size):
        here("read")
        return 7

    def burst(self, offset, size, count):
        here("burst")
        return b""

    def read_memory(self, offset, size):
        here("memory")
        return 7

    def write(self, offset, value, size):
        here("write")
        if offset == 1:
            self.line_in("input").set(1)
        elif offset == 2:
            self.alarm.arm(1000)

    def drive(self, n, level):
        here("line")

    def expire(self):
        here("timer")

    def receive(self, data):
        here("chardev")

@type_init("buggy-pci")
class BuggyPci(PciDevice):
    vendor_id, device_id = 0x1234, 0x5678

    def config_read(self, offset, size):
        here("config")
        return super().config_read(offset, size)

@type_init("chardev-buggy")
class BuggyChardev(Chardev):
    def open_end(self):
        here("open")
        super().open_end()

    def write(self, data):
        here("backend")
        return len(data)

@type_init("buggy-object")
class BuggyObject(Object, UserCreatable):
    def complete(self):
        here("complete")

    def close(self):
        here("close")
'''

# the second guest: mov $5000,%ecx; l: out %al,$0x80; dec %ecx; jnz l; then exit with status 0x21
STEADY = bytes.fromhex("66b988130000 e680 6649 75fa ba0105 b021 ee f4 ebfd".replace(" ", ""))


class Two:
    """Two machines; the first has the buggy device."""

    def __init__(self, path: Path, module: Any) -> None:
        self.path = path
        self.module = module

    def line_of(self, text: str) -> str:
        lines = Path(self.module.__file__).read_text().splitlines()
        return f"{self.module.__file__}:{next(n for n, line in enumerate(lines, 1) if text in line)}"

    @property
    def raised(self) -> str:
        """Where: everything raises in `here`, in the plugin's own file."""
        return self.line_of("raise ERROR")

    def types(self, buggy: bool) -> TypeRegistry:
        found = default_registry(load_external=False)
        if buggy:
            for value in vars(self.module).values():
                if isinstance(value, type) and value.__module__ == self.module.__name__:
                    found.register(value, "qom-buggy")
            found.plugins = [*found.plugins, PluginRow("buggy", "qom-buggy", "1.5", self.module.__name__)]
        return found

    def vm(self, code: bytes, *words: str, buggy: bool = True) -> VirtualMachine:
        image = bytearray(65536)
        image[0xF000 : 0xF000 + len(code)] = code
        image[0xFFF0:0xFFF3] = b"\xe9\x0d\xf0"
        rom = self.path / f"rom{len(os.listdir(self.path))}"
        rom.write_bytes(image)
        line = CommandLine().parse(
            ["-M", "pc", "-m", "4M", "-nodefaults", "-accel", "simulated", "-bios", str(rom), "-d", "guest_errors", "-D",
             os.devnull, "-name", "first" if buggy else "second", "-device", "isa-debug-exit,iobase=0x501", *words]
        )  # fmt: skip
        return VirtualMachine(line.builder.finish(), self.types(buggy))

    @contextmanager
    def second(self) -> Iterator[None]:
        """The other machine is there, and its guest half way; afterwards it comes to its end as if it were alone."""
        with self.vm(STEADY, buggy=False).build() as vm:
            vm.start_loop()
            vm.cont()
            yield
            assert vm.wait(60), "the other machine stands still"
            assert (vm.exit_status, vm.failure, list(vm.log_lines)) == (0x21 << 1 | 1, None, [])

    def fails(self, code: bytes, *words: str) -> str:
        """Run the first machine until it fails; its report."""
        with self.second(), self.vm(code, *words).build() as vm:
            assert vm.run() == 1
            assert vm.failure is not None
            return vm.failure


@pytest.fixture
def two(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    (tmp_path / "buggy_plugin.py").write_text(BUGGY)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("buggy_plugin")
    module.ERROR = getattr(request, "param", ValueError)("a bug")
    before = set(threading.enumerate())
    yield Two(tmp_path, module)
    assert set(threading.enumerate()) == before, "a thread is left"
    del sys.modules["buggy_plugin"]


class OwnError(BaseException):
    """What a plugin may make up."""


class Unprintable(ValueError):
    """What a plugin may make up, too."""

    def __str__(self) -> str:
        raise ZeroDivisionError


@attrs.frozen
class Case:
    """Where it raises while the guest runs, what the guest does, and how the report begins."""

    place: str
    code: str
    doing: str
    device: str = "/machine/peripheral/b"
    type_name: str = "buggy-isa"
    words: tuple[str, ...] = ("-device", "buggy-isa,id=b")


PCI_WORDS = ("-device", "buggy-pci,id=b,addr=04.0")
OUTPUT = ("-chardev", "buggy,id=c", "-device", "isa-debugcon,id=b,iobase=0x240,chardev=c")
RUNNING = [
    Case("read", "ba4302 ec", "1-byte read from buggy at offset 0x3 (address 0x243)"),
    Case("write", "ba4002 66ef", "4-byte write to buggy at offset 0x0 (address 0x240)"),
    Case("memory", "b800c8 8ed8 a10800", "2-byte read from buggy-memory at offset 0x8 (address 0xc8008)"),
    Case("burst", "31c0 8ec0 bf0010 b90400 ba4202 f36c", "1-byte read from buggy at offset 0x2 (address 0x242)"),
    Case("line", "ba4102 ee", "input buggy-isa:input[0] going to 1"),
    Case("timer", "ba4202 ee f4 ebfd", "timer expire"),
    Case("config", "66b800200080 baf80c 66ef bafc0c ec", "1-byte read from configuration space at offset 0x0",
         type_name="buggy-pci", words=PCI_WORDS),
    Case("backend", "ba4002 b041 ee", "1-byte write to debugcon at offset 0x0 (address 0x240)", type_name="isa-debugcon",
         words=OUTPUT),
]  # fmt: skip


EVERY = [
    *((ValueError, case) for case in RUNNING),
    *(
        (error, case)
        for error in (SystemExit, OwnError)
        for case in RUNNING
        if case.place in ("write", "timer", "line")
    ),
    (KeyboardInterrupt, RUNNING[0]),  # on a vCPU's thread it is not the user's
]


@pytest.mark.parametrize(
    ("two", "case"), EVERY, indirect=["two"], ids=lambda p: getattr(p, "place", None) or p.__name__
)
def test_while_the_guest_runs(two: Two, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    two.module.WHERE = case.place
    report = two.fails(bytes.fromhex((case.code + " f4ebfd").replace(" ", "")), *case.words)
    dist = "qom 0.1.0" if case.type_name == "isa-debugcon" else "qom-buggy 1.5"
    error = type(two.module.ERROR).__name__
    begin = "" if case.place == "timer" else "/machine/cpu0: "
    wanted = f"{begin}{case.device}: {case.doing} raised {error}: a bug; '{case.type_name}' of {dist}, at {two.raised}"
    assert report.startswith(wanted)
    if begin:
        assert report.splitlines()[0].startswith(f"{wanted}, at f000:"), "and where the guest was"
        assert "code at f000:" in report
    assert f"qom: first: {wanted}" in capsys.readouterr().err


@pytest.mark.parametrize("two", [Unprintable], indirect=True)
@pytest.mark.parametrize("case", [case for case in RUNNING if case.place in ("write", "timer")], ids=lambda c: c.place)
def test_an_exception_without_a_text(two: Two, case: Case) -> None:
    two.module.WHERE = case.place
    report = two.fails(bytes.fromhex((case.code + " f4ebfd").replace(" ", "")), *case.words)
    said = "raised Unprintable: (its text cannot be had: ZeroDivisionError); 'buggy-isa' of qom-buggy 1.5"
    assert f"{case.device}: {case.doing} {said}, at {two.raised}" in report


@pytest.mark.parametrize("two", [ValueError, SystemExit], indirect=True)
@pytest.mark.parametrize(
    ("place", "words", "text"),
    [
        ("class_init", ("-device", "buggy-isa,id=b"),
         "type 'buggy-isa' (from qom-buggy 1.5): class_init failed: ERROR: a bug, at PLACE"),
        ("instance_init", ("-device", "buggy-isa,id=b"),
         "a 'buggy-isa' cannot be created: ERROR: a bug; 'buggy-isa' of qom-buggy 1.5, at PLACE"),
        ("setter", ("-device", "buggy-isa,id=b,checked=3"),
         "/machine/peripheral/b: property 'checked' cannot be '3': ERROR: a bug; 'buggy-isa' of qom-buggy 1.5, at PLACE"),
        ("realize", ("-device", "buggy-isa,id=b"),
         "/machine/peripheral/b: realize failed: ERROR: a bug; 'buggy-isa' of qom-buggy 1.5, at PLACE"),
        ("reset", ("-device", "buggy-isa,id=b"),
         "/machine/peripheral/b: cold reset raised ERROR: a bug; 'buggy-isa' of qom-buggy 1.5, at PLACE"),
        ("complete", ("-object", "buggy-object,id=o"),
         "/objects/o: complete raised ERROR: a bug; 'buggy-object' of qom-buggy 1.5, at PLACE"),
        ("open", ("-chardev", "buggy,id=c"),
         "/chardevs/c: open raised ERROR: a bug; 'chardev-buggy' of qom-buggy 1.5, at PLACE"),
    ],
)  # fmt: skip
def test_while_the_machine_is_built(two: Two, place: str, words: tuple[str, ...], text: str) -> None:
    two.module.WHERE = place
    with two.second():
        vm = two.vm(STEADY, *words)
        with pytest.raises(QomError) as caught:
            vm.build()
        wanted = text.replace("ERROR", type(two.module.ERROR).__name__).replace("PLACE", two.raised)
        assert wanted in str(caught.value)
        assert two.raised in str(caught.value)
        assert [o.path for o in vm.root.walk() if o.path.startswith(("/machine/", "/objects/"))] == []
        if place == "class_init":
            broken = vm.registry.get("buggy-isa")
            with pytest.raises(QomError, match="class_init failed"):
                _ = broken.desc
            assert vm.registry.get("buggy-pci").properties, "the other types of the distribution are whole"


@pytest.mark.parametrize("two", [ValueError, OwnError], indirect=True)
@pytest.mark.parametrize(
    ("place", "doing"), [("unrealize", "unrealize raised"), ("finalize", "finalize raised"), ("close", "close raised")]
)
def test_while_the_machine_is_closed(two: Two, place: str, doing: str, capsys: pytest.CaptureFixture[str]) -> None:
    with two.second():
        with two.vm(STEADY, "-device", "buggy-isa,id=b", "-object", "buggy-object,id=o").build() as vm:
            assert vm.run() == 0x21 << 1 | 1
            two.module.WHERE = place
        error = type(two.module.ERROR).__name__
        name = "buggy-object" if place == "close" else "buggy-isa"
        told = capsys.readouterr().err
        assert "qom: first: while it was closed: " in told
        assert f"{doing} {error}: a bug; '{name}' of qom-buggy 1.5, at {two.raised}" in told
        assert [o.path for o in vm.root.walk() if o.path.startswith("/machine")] == []


def test_input_from_a_back_end(two: Two) -> None:
    two.module.WHERE = "chardev"
    with two.second():
        vm = two.vm(b"\xf4\xeb\xfd", "-chardev", "ringbuf,id=c", "-device", "buggy-isa,id=b,chardev=c")
        with vm.build():
            vm.start_loop()
            vm.cont()
            device = vm.root.resolve("/chardevs/c")
            vm.main_loop.call_soon_threadsafe(lambda: device.on_read(b"x"))
            assert vm.wait(60)
            error = type(two.module.ERROR).__name__
            assert vm.failure == (
                f"/machine/peripheral/b: chardev input raised {error}: a bug; 'buggy-isa' of qom-buggy 1.5, at {two.raised}"
            )


def test_saved_state(two: Two) -> None:
    with two.second(), two.vm(STEADY, "-device", "buggy-isa,id=b").build() as vm, vm.lock:
        device = vm.root.resolve("/machine/peripheral/b")
        two.module.WHERE = "state_loaded"
        with pytest.raises(QomError) as caught:
            device.load_state(device.save_state())
        assert str(caught.value).startswith("/machine/peripheral/b: loading its state raised ")


@pytest.mark.parametrize("two", [ValueError, KeyboardInterrupt], indirect=True)
def test_a_reset_of_a_running_machine(two: Two) -> None:
    # mov $0xfe,%al; out %al,$0x64: pulse the reset line
    with two.second(), two.vm(bytes.fromhex("b0fee664f4ebfd"), "-device", "buggy-isa,id=b").build() as vm:
        two.module.WHERE = "reset"
        vm.start_loop()  # resets on a thread of its own, where no KeyboardInterrupt is the user's
        vm.cont()
        assert vm.wait(60)
        assert vm.failure is not None and vm.failure.startswith("/machine/peripheral/b: cold reset raised ")
        assert vm.exit_status == 1


def test_the_user_may_still_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "buggy_plugin.py").write_text(BUGGY)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("buggy_plugin")
    module.ERROR, module.WHERE = KeyboardInterrupt(), "realize"  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        Two(tmp_path, module).vm(STEADY, "-device", "buggy-isa,id=b").build()
    del sys.modules["buggy_plugin"]


STUCK = """
import signal
from qom import IsaDevice, type_init

@type_init("stuck-isa")
class StuckIsa(IsaDevice):
    def realize(self):
        self.alarm = self.clock.timer(self.wait)
        self.alarm.arm(1)

    def wait(self):
        signal.raise_signal(signal.SIGINT)  # the user's first Ctrl-C: the main loop would end, were it not here
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("nobody was interrupted")
"""


def test_the_user_may_interrupt_a_timer_that_keeps_the_main_loop(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stuck_plugin.py").write_text(STUCK)
    (tmp_path / "rom").write_bytes(b"\xf4" * 65536)  # hlt
    words = ["-M", "pc", "-m", "4M", "-nodefaults", "-accel", "simulated", "-bios", str(tmp_path / "rom")]
    try:
        assert system.main(["--plugin", str(tmp_path / "stuck_plugin.py"), *words, "-device", "stuck-isa"]) == 1
    finally:
        sys.modules.pop("stuck_plugin", None)
    told = f"qom-system-x86_64: terminating on signal {signal.SIGINT:d}\nqom-system-x86_64: interrupted\n"
    assert capfd.readouterr().err == told
