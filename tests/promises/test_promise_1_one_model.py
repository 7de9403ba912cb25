"""Promise 1.  One model, three spellings: file and command line are spellings of one typed model, and any running machine
can be written back as a file that builds the same machine.  (QMP is not there yet.)"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from pcs import disk_words, image, pc

from qom import Object, VirtualMachine, default_registry
from qom.cli.options import CommandLine
from qom.config import MachineConfig, load
from qom.config.write import dumps
from qom.properties import to_text

COMMAND_LINE = """
    -M pc,a20-gate=off,rtc-base=2001-02-03T04:05:06 -accel simulated -cpu qemu64,-apic -m 48 -smp 4,sockets=2,cores=2
    -numa node,cpus=0-1,mem=16 -numa node,cpus=2-3,mem=32 -numa dist,src=0,dst=1,val=20 -name guest=spelled -nodefaults
    -chardev ringbuf,id=log,size=4096 -serial chardev:log -debugcon null -drive file=disk.img,if=ide,index=1,snapshot=on
    -device isa-serial,id=second,index=1 -device isa-debug-exit,iobase=0x600,iosize=2 -global isa-debugcon.iobase=0x403
    -boot order=c,menu=on -no-reboot -S -d guest_errors,io
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
boot = { order = "c", menu = true }
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
index = 1

[[device]]
driver = "isa-debug-exit"
iobase = 0x600
iosize = 2

[[chardev]]
backend = "ringbuf"
id = "log"
size = "4096"
"""


def tree(vm: VirtualMachine) -> dict[str, Any]:
    """Every object by path: its type and properties as text."""
    return {o.path: (o.type_name, properties(o)) for o in vm.root.walk()}


def properties(obj: Object) -> dict[str, str]:
    return {p.name: to_text(p, obj.get(p.name)) for p in obj.properties().values() if p.kind not in ("child", "alias")}


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


def test_a_running_machine_is_written_back_and_builds_the_same(tmp_path: Path) -> None:
    """One that runs, to which something was added, and of which a property was changed since."""
    with pc("-accel", "simulated", "-smp", "2", *disk_words(image(tmp_path, "hello_serial"))) as machine:
        machine.start()
        machine.serial.wait_for("Hello")
        config, before = machine.vm.dump(), tree(machine.vm)
        text = dumps(config, "toml", machine.vm.registry)
        (tmp_path / "back.toml").write_text(text)
        with VirtualMachine(load(tmp_path / "back.toml"), machine.vm.registry).build() as again:
            assert tree(again) == before
            assert dumps(again.dump(), "toml", again.registry) == text
