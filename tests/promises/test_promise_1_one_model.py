"""Promise 1.  One model, three spellings: file and command line are spellings of one typed model, and any running machine
can be written back as a file that builds the same machine.  (QMP is not there yet.)"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import attrs
import pytest
from pcs import registry

from plugins.firmware import EMBEDDED
from qom import IsaDevice, Object, PciDevice, UserCreatable, VirtualMachine, default_registry, prop, type_init
from qom.cli.options import CommandLine
from qom.config import MachineConfig, load
from qom.config.write import dumps
from qom.properties import to_text

COMMAND_LINE = """
    -M pc,a20-gate=off,rtc-base=2001-02-03T04:05:06 -accel simulated -cpu qemu64,-apic -m 48 -smp 4,sockets=2,cores=2
    -numa node,cpus=0-1,mem=16 -numa node,cpus=2-3,mem=32 -numa dist,src=0,dst=1,val=20 -name guest=spelled -nodefaults
    -chardev ringbuf,id=log,size=4096 -serial chardev:log -debugcon null -drive file=disk.img,if=ide,index=1,snapshot=on
    -device isa-serial,id=second,index=2 -device isa-debug-exit,iobase=0x600,iosize=2 -global isa-debugcon.iobase=0x403
    -boot order=c,menu=on,once=d,strict=on -no-reboot -S -d guest_errors,io
    -rtc base=2001-02-03T04:05:06,clock=vm -smbios type=1,product=P,serial=S -smbios type=11,value=a,value=b
    -fw_cfg opt/x,string=y    -acpitable sig=SSDT,data=disk.img -option-rom disk.img,bootindex=7 -L fw -msg timestamp=on
    -action panic=none -echr 20 -chardev ringbuf,id=shared,mux=on -no-fd-bootchk -set device.second.index=1 -pidfile vm.pid
"""

TOML = """
no-reboot = true
paused = true
nodefaults = true
name = "spelled"
serial = ["chardev:log"]
debugcon = "null"
cpu = { model = "qemu64", features = { apic = false } }
log = { categories = ["guest_errors", "io"] }
boot = { order = "c", menu = true, once = "d", strict = true }
rtc = { base = "2001-02-03T04:05:06", clock = "vm" }
smbios = [{ type = 1, product = "P", serial = "S" }, { type = 11, value = ["a", "b"] }]
fw_cfg = [{ name = "opt/x", string = "y" }]
acpitable = [{ sig = "SSDT", data = "disk.img" }]
option-rom = [{ file = "disk.img", bootindex = 7 }]
data-dir = "fw"
msg = { timestamp = true }
action = { panic = "none" }
echr = 20
pidfile = "vm.pid"
set = ["device.second.index=1"]
smp = { cpus = 4, sockets = 2, cores = 2 }
numa = [
  { type = "node", cpus = "0-1", mem = "16M" },
  { type = "node", cpus = [2, 3], mem = "32M" },
  { type = "dist", src = 0, dst = 1, val = 20 },
]

[machine]
type = "pc"
accel = "simulated"
memory = "48M"
a20-gate = false
fd-bootchk = false
rtc-base = "2001-02-03T04:05:06"

[[global]]
driver = "isa-debugcon"
property = "iobase"
value = 0x403

[[drive]]
file = "disk.img"
if = "ide"
index = 1
snapshot = true

[[device]]
driver = "isa-serial"
id = "second"
index = 2

[[device]]
driver = "isa-debug-exit"
iobase = 0x600
iosize = 2

[[chardev]]
backend = "ringbuf"
id = "log"
size = "4096"

[[chardev]]
backend = "ringbuf"
id = "shared"
mux = true
"""


def tree(vm: VirtualMachine) -> dict[str, Any]:
    """Every object by path: its type and properties as text."""
    return {o.path: (o.type_name, properties(o)) for o in vm.root.walk()}


def properties(obj: Object) -> dict[str, str]:
    """Not what a bus counts its devices by: the numbers of those that went are not given again."""
    found = [
        p for p in obj.properties().values() if p.kind not in ("child", "alias") and not p.name.startswith("child[")
    ]
    return {p.name: to_text(p, obj.get(p.name)) for p in found}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    return tmp_path


def spelled_on_a_command_line() -> MachineConfig:
    return CommandLine().parse(shlex.split(COMMAND_LINE)).builder.finish()


def test_file_and_command_line_say_the_same_and_build_the_same(here: Path) -> None:
    (here / "vm.toml").write_text(TOML)
    by_hand, from_file = spelled_on_a_command_line(), load(here / "vm.toml")
    types = default_registry(load_external=False)
    with VirtualMachine(by_hand, types).build() as one, VirtualMachine(from_file, types).build() as two:
        first = tree(one)
        assert first == tree(two)
        assert len(first) > 40 and first["/machine/peripheral/second"][1]["index"] == "1"


@pytest.mark.parametrize("format", ["toml", "json", "yaml"])
def test_the_model_is_written_and_read_in_each_spelling(format: str, here: Path) -> None:
    config = spelled_on_a_command_line()
    (here / f"vm.{format}").write_text(dumps(config, format))
    again = load(here / f"vm.{format}")
    assert dumps(again, format) == dumps(config, format)
    types = default_registry(load_external=False)
    with VirtualMachine(config, types).build() as one, VirtualMachine(again, types).build() as two:
        assert tree(one) == tree(two)


def test_memory_is_written_back_without_nodes_that_tell_it_too() -> None:
    words = ["-M", "pc", "-accel", "qtest", "-m", "40", "-nodefaults"]
    with VirtualMachine(
        CommandLine().parse(words).builder.finish(), default_registry(load_external=False)
    ).build() as vm:
        assert vm.dump().memory == 40 << 20


MORE = """
[[object]]
qom-type = "promise-note"
id = "note"
text = "as told"

[[device]]
driver = "promise-card"
id = "goes"

[[global]]
driver = "promise-card"
property = "angle"
value = 8

[[part]]
name = "pm"
remove = true

[[part]]
name = "knob"
type = "promise-knob"
bus = "piix3.isa.0"
props = { iobase = 0x710 }

[[wire]]
from = "knob.turned"
to = "gsi[5]"

[[region]]
name = "shelf"
kind = "ram"
size = "8k"
in = "memory"
at = 0xe0000000
"""


@type_init("promise-note")
class Note(Object, UserCreatable):
    """A user object."""

    text: str = prop("", "What it says", mutable=True)


@type_init("promise-card")
class Card(PciDevice):
    """A device that comes and goes, with a property that may be set at any time."""

    vendor_id, device_id, hotpluggable = 0x1234, 0x5678, True
    angle: int = prop(3, "Where it points", mutable=True)


@type_init("promise-knob")
class Knob(IsaDevice):
    """A part of the board, with a property that may be set at any time."""

    iobase: int = prop(0x700, "First I/O port", type="uint16")
    angle: int = prop(3, "Where it points", mutable=True)

    def realize(self) -> None:
        self.gpio_out("turned")


def test_a_running_machine_is_written_back_and_builds_the_same(here: Path) -> None:
    """One of which a file says all that it can, which runs, and to and of which things were added, taken and set since."""
    types = registry()
    for made in (Note, Card, Knob):
        types.register(made, "a third party")
    plain = f'uuid = "6f2a1c9e-5d3b-4b7a-9c0e-8d1f2a3b4c5d"\nno-shutdown = true\nfirmware = "{EMBEDDED}"\n'
    (here / "vm.toml").write_text(plain + TOML + MORE)
    said = load(here / "vm.toml")
    before = attrs.asdict(said)
    with VirtualMachine(said, types).build() as vm:
        vm.start()
        vm.add_chardev("chardev-null", "late", {})
        vm.root.resolve("/objects/note").set("text", "told since")
        vm.root.resolve("/machine/knob").set("angle", 5)
        vm.add("promise-card", "came").set("angle", 3)  # what the class says, not what this machine does
        vm.remove("goes")
        dumped = vm.dump()
        vm.stop()
        now = tree(vm)
    assert attrs.asdict(said) == before, "what it was built from stays as it was"
    text = dumps(dumped, "toml", types)
    (here / "back.toml").write_text(text)
    again = load(here / "back.toml")
    with VirtualMachine(again, types).build() as vm:
        assert tree(vm) == now
        assert dumps(vm.dump(), "toml", types) == text
    assert now["/objects/note"][1]["text"] == "told since" and now["/machine/knob"][1]["angle"] == "5"
    assert now["/machine/peripheral/came"][1]["angle"] == "3" and "/machine/peripheral/goes" not in now
    assert "/chardevs/late" in now and "/machine/pm" not in now
    for name in {field.name for field in attrs.fields(MachineConfig)} - CARRIED:
        assert comparable(getattr(again, name)) == comparable(getattr(said, name)), name


CARRIED = {"machine", "accelerators", "devices", "objects", "chardevs", "drives", "parts", "origins"}
"""What of a configuration objects carry, and the tree therefore shows; and where it was said."""


def comparable(value: Any) -> Any:
    """A piece of a configuration without where it was said."""
    if attrs.has(type(value)):
        return {name: comparable(held) for name, held in attrs.asdict(value, recurse=False).items() if name != "origin"}
    return [comparable(held) for held in value] if isinstance(value, list) else value
