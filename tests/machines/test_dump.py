"""Machines written back: what they are now, as a file that builds their like and is written the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pcs import disk_words, image, pc, registry

from plugins.firmware import EMBEDDED
from qom import TypeRegistry, prop, type_init
from qom.cli.main import main
from qom.cli.options import CommandLine
from qom.config import DeviceEntry, MachineConfig, ObjectEntry, load
from qom.config.write import dumps
from qom.errors import LifecycleError
from qom.hw import Bus, IsaDevice, PciDevice
from qom.object import Object, UserCreatable
from qom.vm.vm import VirtualMachine


@type_init("tests-lamp")
class Lamp(IsaDevice):
    """A device whose brightness may be set while it runs."""

    hotpluggable = True
    brightness: int = prop(3, "How bright", type="uint8", mutable=True)
    reserve: int = prop(64 << 10, "Memory it keeps", type="size")
    colours: list[str] = prop([], "Its colours", type="list<str>")


@type_init("tests-card")
class Card(PciDevice):
    """A PCI device that comes and goes."""

    hotpluggable = True


@type_init("tests-stand-bus")
class StandBus(Bus):
    """Where cups stand."""


@type_init("tests-stand")
class Stand(Card):
    """A PCI device with a bus."""

    def instance_init(self) -> None:
        self.new_bus("tests-stand-bus", "top")


@type_init("tests-cup")
class Cup(IsaDevice):
    """What stands on a stand."""

    bus_type, hotpluggable = "tests-stand-bus", True


@type_init("tests-note")
class Note(Object, UserCreatable):
    """A user object with a text."""

    text: str = prop("", "What it says", mutable=True)


@pytest.fixture(scope="module")
def types() -> TypeRegistry:
    found = registry()
    for cls in (Lamp, Card, StandBus, Stand, Cup, Note):
        found.register(cls, "tests")
    return found


def config(*argv: str) -> MachineConfig:
    return CommandLine().parse(["-nodefaults", *argv]).builder.finish()


def tree(vm: VirtualMachine) -> dict[str, Any]:
    """Every object by path, with its type and properties; not empty containers, nor what a bus counts its devices by."""

    def shown(value: Any) -> Any:
        return value.path if isinstance(value, Object) else value

    return {
        obj.path: (
            obj.type_name,
            {
                n: shown(obj.get(n))
                for n, p in obj.properties().items()
                if p.kind != "child" and not n.startswith("child[")
            },
        )
        for obj in vm.root.walk()
        if obj.type_name != "container" or obj.children()
    }


def rebuilt(vm: VirtualMachine, tmp_path: Path) -> str:
    """The machine's file; checked to build an equal tree and to be written the same again."""
    text = dumps(vm.dump(), "toml", vm.registry)
    file = tmp_path / "dumped.toml"
    file.write_text(text)
    with VirtualMachine(load(file), vm.registry) as again:
        again.build()
        assert tree(again) == tree(vm)
        assert dumps(again.dump(), "toml", again.registry) == text
    return text


BASE = ("-M", "pc,rtc-base=2024-01-01T00:00:00", "-accel", "simulated", "-m", "2M")


def test_a_machine_as_it_was_said(types: TypeRegistry, tmp_path: Path) -> None:
    said = config(
        *BASE, "-smp", "2,maxcpus=4", "-cpu", "qemu64,-apic", "-serial", "null", "-serial", "none", "-debugcon", "null",
        "-boot", "order=cd,menu=on", "-global", "tests-lamp.brightness=9", "-no-reboot", "-numa", "node", "-numa", "node",
        "-device", "tests-lamp,id=a", "-device", "tests-lamp,id=b,brightness=3,reserve=128k,colours=red",
        "-object", "tests-note,id=n,text=hello",
    )  # fmt: skip
    with VirtualMachine(said, types) as vm:
        vm.build()
        text = rebuilt(vm, tmp_path)
    assert (
        text
        == """\
accel = "simulated"
memory = "2M"
serial = ["null", "none"]
debugcon = "null"
nodefaults = true

[machine]
type = "pc-i440fx-0.1"
rtc-base = "2024-01-01T00:00:00"

[cpu]
model = "qemu64"
features = { apic = false }

[smp]
cpus = 2
maxcpus = 4

[[numa]]
nodeid = 0
cpus = "0,2"

[[numa]]
nodeid = 1
cpus = "1,3"

[boot]
order = "cd"
menu = true

[action]
reboot = "shutdown"

[[object]]
qom-type = "tests-note"
id = "n"
text = "hello"

[[device]]
driver = "tests-lamp"
id = "a"

[[device]]
driver = "tests-lamp"
id = "b"
brightness = 3
reserve = "128k"
colours = ["red"]

[[global]]
driver = "tests-lamp"
property = "brightness"
value = "9"
"""
    )


def test_what_came_went_and_changed_since(types: TypeRegistry, tmp_path: Path) -> None:
    with VirtualMachine(config(*BASE, "-device", "tests-lamp,id=lamp", "-device", "piix3-ide,id=ide"), types) as vm:
        vm.build()
        vm.add_device(DeviceEntry("tests-card", "first"))
        vm.add_device(DeviceEntry("tests-card"))
        vm.add_device(DeviceEntry("tests-card", "third"))
        vm.add_chardev("chardev-null", "later", {})
        vm.add_object(ObjectEntry("tests-note", "n", {"text": "a"}))
        vm.root.resolve("/machine/peripheral/lamp").set("brightness", 200)
        vm.root.resolve("/objects/n").set("text", "b")
        made = vm.dump()
        assert made.devices == [
            DeviceEntry("tests-lamp", "lamp", None, {"brightness": 200}),
            DeviceEntry("piix3-ide", "ide", None, {"addr": "02.0"}),
            DeviceEntry("tests-card", "first", None, {"addr": "03.0"}),
            DeviceEntry("tests-card", None, None, {"addr": "04.0"}),
            DeviceEntry("tests-card", "third", None, {"addr": "05.0"}),
        ]
        assert made.objects == [ObjectEntry("tests-note", "n", {"text": "b"})]
        assert [c.id for c in made.chardevs] == ["later"]
        rebuilt(vm, tmp_path)
        vm.root.resolve("/machine/peripheral/first").unplug()
        assert vm.dump().devices[2:] == made.devices[3:]  # where they are, though 03.0 is free now
        rebuilt(vm, tmp_path)


def test_buses_are_named_where_there_is_a_choice(types: TypeRegistry, tmp_path: Path) -> None:
    drives = [tmp_path / name for name in "abc"]
    for drive in drives:
        drive.write_bytes(bytes(512 * 64))
    said = config(
        *BASE, "-device", "isa-ide,id=old,iobase=0x1e8,iobase2=0x3e6,irq=11", "-device", "piix3-ide,id=new",
        *(word for d in drives for word in ("-drive", f"file={d},if=none,id={d.name},snapshot=on")),
        "-device", "ide-hd,drive=a,bus=old.ide.0,unit=1", "-device", "ide-hd,drive=b,bus=new.ide.1",
        "-device", "ide-hd,drive=c,bus=/machine/ide/ide.0", "-device", "isa-serial",
    )  # fmt: skip
    with VirtualMachine(said, types) as vm:
        vm.build()
        buses = [(d.driver, d.bus) for d in vm.dump().devices]
        assert buses == [
            ("isa-ide", None), ("piix3-ide", None), ("ide-hd", "old.ide.0"), ("ide-hd", "new.ide.1"),
            ("ide-hd", "/machine/ide/ide.0"), ("isa-serial", None),
        ]  # fmt: skip
        rebuilt(vm, tmp_path)


def test_references_are_ids_unless_those_mean_something_else(types: TypeRegistry, tmp_path: Path) -> None:
    said = config(*BASE, "-chardev", "null,id=x", "-device", "isa-debugcon,id=x,chardev=x", "-device",
                  "isa-pit,id=y,iobase=0x140", "-object", "tests-note,id=y", "-device",
                  "port61,id=z,pit=/machine/peripheral/y,iobase=0x161")  # fmt: skip
    with VirtualMachine(said, types) as vm:
        vm.build()
        devices = {d.id: d.props for d in vm.dump().devices}
        assert devices["x"] == {"chardev": "x"}
        assert devices["z"] == {"pit": "/machine/peripheral/y", "iobase": 0x161}
        rebuilt(vm, tmp_path)


def test_a_machine_that_runs(tmp_path: Path, types: TypeRegistry) -> None:
    with pc(*disk_words(image(tmp_path, "hello_serial")), types=types) as guest:
        before = guest.vm.dump()
        guest.start()
        guest.vm.add_device(DeviceEntry("tests-card", "late"))
        after = guest.vm.dump()
    assert after.devices == [*before.devices, DeviceEntry("tests-card", "late", None, {"addr": "02.0"})]
    after.devices = before.devices
    assert after == before


def test_parts_that_were_changed(types: TypeRegistry, tmp_path: Path) -> None:
    file = tmp_path / "changed.toml"
    file.write_text(
        'nodefaults = true\nmemory = "2M"\naccel = "simulated"\nmachine = { type = "pc", rtc-base = "2024-01-01T00:00:00" }\n'
        'part = [{ name = "lamp", type = "tests-lamp", bus = "piix3.isa.0", props = { brightness = 7 } },\n'
        '        { name = "pm", remove = true }]\n'
        'wire = [{ from = "pic2.intr", to = "pic[3]" }]\n'
    )
    with VirtualMachine(load(file), types) as vm:
        vm.build()
        assert vm.dump().parts[0].props == {"brightness": 7}
        before = rebuilt(vm, tmp_path)
        lamp = vm.root.resolve("/machine/lamp")
        lamp.set("brightness", 250)
        vm.add_device(DeviceEntry("tests-card"))
        text = rebuilt(vm, tmp_path)
        assert text != before and "props = { brightness = 250 }" in text
        lamp.set("brightness", 7)
        vm.root.resolve("/machine/peripheral-anon/tests-card@00:02.0").unplug()
        assert rebuilt(vm, tmp_path) == before


def test_a_machine_from_a_board_file(types: TypeRegistry, tmp_path: Path) -> None:
    board, file = tmp_path / "mine.toml", tmp_path / "machine.toml"
    board.write_text('[board]\nname = "mine"\nextends = "pc"\n[[part]]\nname = "pm"\nremove = true\n')
    file.write_text(
        'nodefaults = true\nmemory = "2M"\naccel = "simulated"\n'
        '[machine]\nboard = "mine.toml"\nrtc-base = "2024-01-01T00:00:00"\n'
    )
    with VirtualMachine(load(file), types) as vm:
        vm.build()
        text = rebuilt(vm, tmp_path)
    assert f'board = "{board}"' in text and "type" not in text


def test_equals_are_counted_as_they_were(types: TypeRegistry, tmp_path: Path) -> None:
    said = config(
        *BASE, "-device", "tests-lamp,brightness=1", "-device", "piix3-ide", "-device", "tests-lamp,brightness=2"
    )
    with VirtualMachine(said, types) as vm:
        vm.build()
        assert [d.props.get("brightness") for d in vm.dump().devices] == [1, None, 2]
        rebuilt(vm, tmp_path)


def test_only_a_whole_machine_is_written(types: TypeRegistry) -> None:
    vm = VirtualMachine(config(*BASE), types)
    for prepare in (lambda: None, vm.close):
        prepare()
        with pytest.raises(LifecycleError) as error:
            vm.dump()
        assert str(error.value) == "a virtual machine must be built, and not closed, before it can be dumped"


# The commands


FILE = """\
[machine]
type = "none"

[[chardev]]
backend = "ringbuf"
id = "log"
size = "4k"
"""


def test_dump_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "vm.toml", tmp_path / "out.yaml"
    file.write_text(FILE)
    assert main(["dump", str(file)]) == 0
    text = capsys.readouterr().out
    assert text == ('accel = "kvm"\n\n' if "kvm" in text else 'accel = "simulated"\n\n') + FILE
    assert main(["dump", str(file), "-o", str(out), "-nodefaults", "-accel", "simulated"]) == 0
    assert out.read_text() == (
        "machine:\n  type: none\naccel: simulated\nnodefaults: true\n"
        'chardev:\n  - backend: ringbuf\n    id: log\n    size: "4k"\n'
    )
    assert main(["dump", str(file), "--format", "json", "-accel", "simulated"]) == 0
    assert json.loads(capsys.readouterr().out)["chardev"] == [{"backend": "ringbuf", "id": "log", "size": "4k"}]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["dump", "-M", "none", "-o"], "qom: -o: an argument is missing"),
        (["dump", "-M", "none", "-o", "a", "--output", "b"], "qom: --output: is given twice"),
        (["dump", "-M", "none", "-o", "vm.exe"],
         "qom: vm.exe: cannot be written: expected a name that ends in .toml, .json, .yaml, .yml"),
        (["dump", "-M", "none", "--format", "xml"], "qom: unknown format 'xml': expected one of toml, json, yaml"),
        (["dump", "-M", "none", "-o", "no/such/vm.toml"], "qom: no/such/vm.toml: No such file or directory"),
    ],
)  # fmt: skip
def test_dump_refuses(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 1
    assert capsys.readouterr().err == f"{message}\n"


def test_what_a_run_became(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "vm.toml", tmp_path / "after.toml"
    disk = image(tmp_path, "hello_serial")
    file.write_text(
        f'nodefaults = true\nfirmware = "{EMBEDDED}"\ndrive = [{{ file = "{disk}" }}]\n'
        'device = [{ driver = "isa-debug-exit", iobase = 0x501, iosize = 2 }]\n'
    )
    status = main(["run", str(file), "-accel", "simulated", "--dump", str(out)])
    assert capsys.readouterr().err == "" and status & 1
    made = load(out)
    assert (made.drives[0].file, made.machine.type) == (str(disk), "pc-i440fx-0.1")
    assert made.devices[0].props == {}  # 0x501 and 2 are what goes without saying


def test_what_sat_on_a_device_goes_with_it(types: TypeRegistry) -> None:
    with VirtualMachine(config(*BASE, "-device", "tests-stand,id=stand", "-device", "tests-cup,id=cup"), types) as vm:
        vm.build()
        vm.root.resolve("/machine/peripheral/stand").unplug()
        assert vm.root.resolve("/machine/peripheral").children() == {} and vm.dump().devices == []
