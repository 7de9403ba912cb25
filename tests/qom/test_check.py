"""`qom check`: everything wrong with a file at once, each with its place, and nothing built or written."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from qom import QomError, TypeRegistry, VirtualMachine, default_registry
from qom.cli import main as qom_main
from qom.cli.options import CommandLine
from qom.config import load
from qom.config.check import Problem, check
from qom.config.write import dumps

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def registry() -> TypeRegistry:
    return default_registry()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files given by name (`a_toml="..."` is a.toml); the first one's path comes back."""

    def write(**files: str) -> Path:
        paths = []
        for name, text in files.items():
            path = tmp_path / name.replace("_", ".")
            path.write_text(text)
            paths.append(path)
        return paths[0]

    return write


EVERYTHING = """\
nmae = "x"
paused = 1
firmware = "/no/firmware"
kernel = "/no/kernel"
uuid = "1"
cpu = { model = "qemu65", features = { apci = true, apic = "maybe" } }
serial = ["null", "modem", "null", "null", "null"]
[machine]
type = "pc"
a20-gat = true
a20-gate = "perhaps"
[smp]
cpus = 4
cores = 3
core = 1
[[device]]
driver = "isa-seriall"
[[device]]
driver = "isa-serial"
id = "-"
iobase = 99999
irqq = 3
irq = 1.5
chardev = "c"
realized = true
[[device]]
driver = "ide-hd"
bus = "ide.7"
[[device]]
id = "x"
[[device]]
driver = "device"
[[device]]
driver = "isa-debugcon"
bus = "pci.0"
chardev = "d"
[[chardev]]
backend = "file"
id = "cc"
[[chardev]]
backend = "fiel"
id = "cc"
[[drive]]
file = "/no/drive"
id = "d"
if = "none"
unit = 7
format = "qcow2"
[[object]]
qom-type = "rng"
[[global]]
driver = "isa-serial"
property = "irq"
value = 99
[[global]]
driver = "isa-serial"
property = "irqq"
value = 99
[[numa]]
cpus = "0-1"
[log]
categories = ["int", "exet"]
[accel]
name = "kwm"
"""

FOUND = """\
1:1: nmae: unknown key 'nmae'; did you mean 'numa' or 'name'?
2:1: paused: 'paused' cannot be 1: expected true or false
3:1: firmware: firmware image '/no/firmware' not found
4:1: kernel: kernel '/no/kernel' cannot be read: No such file or directory
5:1: uuid: uuid cannot be '1': expected 8-4-4-4-12 hexadecimal digits
6:9: cpu.model: unknown processor model 'qemu65'; did you mean 'qemu64' or 'qemu32'?; -cpu help lists all 26
7:19: serial[1]: unknown character device 'modem': expected stdio, null, none, pty, ringbuf, console, file:PATH, pipe:PATH, \
unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT, udp:HOST:PORT or chardev:ID
7:44: serial[4]: serial port 4: pc-i440fx-0.1-machine has 4 of them: expected serial 0, 1, 2, 3, not 4
10:1: machine.a20-gat: 'pc-i440fx-0.1-machine' has no property 'a20-gat'; did you mean 'a20-gate'?
11:1: machine.a20-gate: machine 'pc': property 'a20-gate' cannot be 'perhaps': expected on or off
15:1: smp.core: smp: unknown option 'core'; did you mean 'cores'?
17:1: device[0].driver: unknown device type 'isa-seriall'; did you mean 'isa-serial' or 'isa-parallel'?
20:1: device[1].id: device: id '-' is not legal: expected a letter, then letters, digits, '-', '.', '_'
21:1: device[1].iobase: device 'isa-serial': property 'iobase' cannot be 99999: expected an integer in 0..65528
22:1: device[1].irqq: 'isa-serial' has no property 'irqq'; did you mean 'irq'?
23:1: device[1].irq: device 'isa-serial': property 'irq' cannot be 1.5: expected an integer in 0..15
24:1: device[1].chardev: device 'isa-serial': property 'chardev' cannot be 'c': there is nothing of that id; \
did you mean 'cc'?
25:1: device[1].realized: device 'isa-serial': property 'realized' cannot be set by a configuration
26:1: device[2]: device 'ide-hd': property 'drive' is required: expected an object of type 'block-backend', or its path \
(Image the disk's sectors are kept in)
28:1: device[2].bus: bus 'ide.7' not found; did you mean 'ide.1' or 'ide.0'?; there are: system-bus, pci.0, ide.0, ide.1, \
isa.0, floppy-bus.0
29:1: device[3]: device: 'driver' is required
32:1: device[4].driver: 'device' is not a device that can be added by hand
35:1: device[5].bus: isa-debugcon: cannot be on bus 'pci.0' (PCI): expected a bus of type 'isa-bus'
36:1: device[5].chardev: device 'isa-debugcon': property 'chardev' cannot be 'd', which is of type 'block-backend': expected \
an object of type 'chardev', or its path
37:1: chardev[0]: chardev 'file': property 'path' is required: expected a string (File that output is written to)
40:1: chardev[1]: chardev: the id 'cc' is given twice, first by {file}:37:1
44:1: drive[0].file: drive: cannot open image '/no/drive': No such file or directory
47:1: drive[0].unit: drive: 'unit' cannot be 7: expected an integer in 0..1
48:1: drive[0].format: drive: 'format' cannot be 'qcow2': expected one of 'raw'
49:1: object[0]: object: 'id' is required
50:1: object[0].qom-type: unknown object type 'rng'; no plugin that is loaded brings it (`qom plugins` lists them)
54:1: global[0].value: global: 'isa-serial.irq' cannot be 99: expected an integer in 0..15
57:1: global[1].property: 'isa-serial' has no property 'irqq'; did you mean 'irq'?
62:22: log.categories[1]: unknown log category 'exet': expected some of guest_errors, unimp, int, exits, \
cpu_reset, io, reset; did you mean 'reset' or 'exits'?
64:1: accel.name: unknown accelerator 'kwm'; did you mean 'kvm'?; there are: kvm, qtest, simulated
"""


def test_everything_is_found_at_once(write: Write, registry: TypeRegistry) -> None:
    path = write(vm_toml=EVERYTHING)
    wanted = [f"{path}:{line}" for line in FOUND.replace("{file}", str(path)).splitlines()]
    assert [str(problem) for problem in check(path, registry)] == wanted


@pytest.mark.parametrize("n", range(len(EVERYTHING.split("[[")) - 1))
def test_what_is_found_here_is_refused_when_run(n: int, write: Write, registry: TypeRegistry) -> None:
    """Each section of the list above alone: the checker finds fault with it, and so does whoever builds it."""
    section = "[[" + EVERYTHING.split("[[")[n + 1].split("\n[log]")[0]
    if section.startswith("[[global]]"):
        section += '\n[[device]]\ndriver = "isa-serial"\n'  # what the default is for
    path = write(vm_toml=f'machine = "pc"\naccel = "qtest"\nnodefaults = true\n{section}')
    assert check(path, registry)
    with pytest.raises(QomError):
        VirtualMachine(load(path), registry).build()
        for entry in load(path).globals:
            registry.check_global(entry)  # type: ignore[arg-type]  # as the commands do


def test_a_problem_in_pieces(write: Write, registry: TypeRegistry) -> None:
    path = write(vm_toml='[[device]]\ndriver = "isa-serial"\n  iobase = 99999\n[[divice]]\n')
    first, second = check(path, registry)
    assert first == Problem(
        str(path), 3, 3, "device[0].iobase",
        "device 'isa-serial': property 'iobase' cannot be 99999: expected an integer in 0..65528",
        "an integer in 0..65528",
    )  # fmt: skip
    assert (second.path, second.nearest, second.expected) == ("divice", ("device", "drive"), "")
    assert second.message == "unknown key 'divice'; did you mean 'device' or 'drive'?"


BOARD = """\
[board]
name = "tiny"
default-memory = "64k"
[[property]]
name = "code"
type = "str"
default = ""
desc = "Another image"
[[region]]
name = "rom"
kind = "rom"
property = "firmware"
at = "4G - size"
[[region]]
name = "other"
kind = "rom"
property = "code"
at = "1M"
"""


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ({"vm_toml": 'machine = "none"\n'}, []),
        ({"vm_json": '{"machine": "none",\n "device": [}'},
         ["vm.json:2:13: not JSON: '}' where a value was expected"]),
        ({"vm_toml": 'include = ["a.toml", "b.yaml", "c.json"]\nnmae = 1\n[[device]]\ndriver = "isa-serial"\nchardev = "x"\n',
          "a_toml": "name = \n", "b_yaml": "pasued: true\n"},
         ["vm.toml:1:32: include[2]: include: no file '{dir}/c.json'",
          "vm.toml:2:1: nmae: unknown key 'nmae'; did you mean 'numa' or 'name'?",
          "a.toml:1:8: not TOML: Invalid value",
          "b.yaml:1:1: pasued: unknown key 'pasued'; did you mean 'paused'?"]),
        ({"vm_toml": 'name = "${x}"\n[variables]\ny = { required = true }\nz = 1\n'},
         ["vm.toml:1:1: name: no variable 'x': there are: y, z",
          "vm.toml:3:1: variables.y: the variable 'y' is required: expected --var y=VALUE"]),
        ({"vm_toml": '[[device]]\nrepeat = 2\ndriver = "isa-serial"\nid = "a{m}"\nirq = "{n +}"\n'},
         ["vm.toml:4:1: device[0].id: no number 'm'; there are: n, item",
          "vm.toml:5:1: device[0].irq: '{n +}' cannot be worked out: expected integers and names with + - * // %,"
          " or '{{' for a plain brace"]),
        ({"vm_toml": 'machine = "pcc"\n'}, ["vm.toml:1:1: machine: unknown machine type 'pcc'; did you mean 'pc'?"]),
        ({"vm_toml": '[machine]\nboard = "absent.toml"\n'},
         ["vm.toml:2:1: machine.board: machine: no board file '{dir}/absent.toml'"]),
        ({"vm_toml": '[machine]\ntype = "none"\n[[device]]\ndriver = "isa-serial"\n'},
         ["vm.toml:3:1: device[0]: isa-serial: this machine has no free bus of type 'isa-bus'"]),
        ({"vm_toml": '[machine]\ntype = "pc"\n[[device]]\ndriver = "isa-ide"\nid = "i"\n'
          '[[device]]\ndriver = "ide-hd"\nbus = "i.ide.1"\ndrive = "d"\n'
          '[[drive]]\nid = "d"\nif = "none"\nfile = "/dev/null"\n'},
         ["vm.toml:8:1: device[1].bus: bus 'i.ide.1' not found; did you mean 'ide.0'?; 'i' has: ide.0"]),
        ({"vm_toml": '[[device]]\ndriver = "ide-hd"\nbus = "/machine/peripheral/i/ide.0"\ndrive = "/drives/d"\n'},
         ["vm.toml:3:1: device[0].bus: bus '/machine/peripheral/i/ide.0': no device 'i'",
          "vm.toml:4:1: device[0].drive: device 'ide-hd': property 'drive' cannot be '/drives/d': there is nothing of"
          " that id"]),
        ({"vm_toml": 'smp = 2\n[[numa]]\ncpus = [0]\nmem = "64M"\n[[numa]]\ncpus = [0]\n'},
         ["vm.toml:5:1: numa[1]: numa: node 1 has no 'mem', others have",
          "vm.toml:5:1: numa[1]: numa: processor 1 is in no node",
          "vm.toml:6:1: numa[1].cpus: numa: processor 0 is in node 0 already"]),
        ({"vm_toml": 'kernel = "."\ninitrd = "{dir}/vm.toml"\n[[drive]]\nfile = "a\\u0000b"\n'},
         ["vm.toml:1:1: kernel: kernel '.' cannot be read: Is a directory",
          "vm.toml:4:1: drive[0].file: drive: cannot open image 'a\0b': embedded null byte"]),
        ({"vm_toml": '[[device]]\ndriver = "isa-ide"\nid = "i"\n[[device]]\ndriver = "ide-hd"\nbus = "ide.0"\ndrive = "d"\n'
          '[[drive]]\nid = "d"\nif = "none"\nfile = "{dir}/vm.toml"\n'},
         ["vm.toml:6:1: device[1].bus: bus 'ide.0' is the name of several: expected an id with it, such as i.ide.0"]),
        ({"vm_toml": "smp = 100\n"}, ["vm.toml:1:1: smp: smp: cpus is 100: pc-i440fx-0.1-machine has room for 64"]),
        ({"vm_toml": '[[part]]\nname = "pci"\nremove = true\n'},
         ["vm.toml:1:1: part[0]: there is no part 'pci' to remove; did you mean 'pit' or 'pic' or 'pcihost'?"]),
        ({"vm_cfg": '[machine]\n  type = "none"\n[device "a"]\n  driver = "isa-seriall"\n  x = y\n'},
         ["vm.cfg:4:3: device[0].driver: unknown device type 'isa-seriall'; did you mean 'isa-serial' or 'isa-parallel'?",
          "vm.cfg:5:3: 'x = y' is no [section \"id\"] and no key = \"value\""]),
        ({"vm_toml": 'firmware = "/no/rom"\n[machine]\nboard = "tiny.toml"\ncode = "/no/code"\n', "tiny_toml": BOARD},
         ["vm.toml:1:1: firmware: region 'rom': image /no/rom cannot be read: No such file or directory",
          "vm.toml:4:1: machine.code: region 'other': image /no/code cannot be read: No such file or directory"]),
        ({"vm_toml": '[machine]\nboard = "tiny.toml"\n', "tiny_toml": BOARD.replace("kind", "kidn", 1)},
         ["tiny.toml:9:1: region[0]: region 'rom' is not on this board, and a new one needs a 'kind'",
          "tiny.toml:11:1: region[0].kidn: region 'rom': unknown option 'kidn'; did you mean 'kind' or 'in'?"]),
        ({"vm_txt": ""}, ["vm.txt: what format this is in is not known: expected a name in .toml, .json, .yaml, .yml,"
                          " .cfg, .ini, .conf"]),
    ],
)  # fmt: skip
def test_what_is_found(
    write: Write, registry: TypeRegistry, tmp_path: Path, files: dict[str, str], problems: list[str]
) -> None:
    path = write(**{name: text.replace("{dir}", str(tmp_path)) for name, text in files.items()})
    found = [str(p).replace(f"{path.parent}/", "") for p in check(path, registry)]
    assert found == [p.replace("{dir}/", "") for p in problems]


def test_circles_are_found(write: Write, registry: TypeRegistry) -> None:
    from qom import Device, link, type_init

    @type_init("check-loop")
    class Loop(Device):
        """Refers to another."""

        peer: object = link("device", "Another device")

    types = registry.fork()
    types.register(Loop, "tests")
    path = write(
        vm_toml='machine = "none"\n[[device]]\ndriver = "check-loop"\nid = "a"\npeer = "b"\n'
        '[[device]]\ndriver = "check-loop"\nid = "b"\npeer = "a"\n'
    )
    assert [str(p) for p in check(path, types)] == [
        f"{path}:5:1: device[0].peer: device: these need each other in a circle: a -> b -> a"
    ]


def test_a_variable_from_outside(write: Write, registry: TypeRegistry) -> None:
    path = write(vm_toml='machine = "${m}"\n[variables]\nm = "none"\n')
    assert check(path, registry) == [] == check(path, registry, {"m": "pc"})
    assert [str(p) for p in check(path, registry, {"k": "pc"})] == ["--var k=pc: no variable 'k': there are: m"]


GOOD = """\
machine = "pc"
accel = "qtest"
memory = "16M"
serial = ["file:{dir}/made.log", "unix:{dir}/made.sock,server=on,wait=off"]
[[drive]]
file = "{dir}/disk.img"
[[device]]
driver = "ide-hd"
bus = "i0.ide.0"
drive = "d1"
[[device]]
driver = "isa-ide"
id = "i0"
iobase = 0x1e8
iobase2 = 0x3ee
irq = 11
[[drive]]
id = "d1"
if = "none"
file = "{dir}/disk.img"
snapshot = true
[log]
file = "{dir}/made.txt"
"""


def test_a_good_file_is_ok_and_nothing_is_made(write: Write, registry: TypeRegistry, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(512))
    path = write(vm_toml=GOOD.replace("{dir}", str(tmp_path)))
    threads, before = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    assert check(path, registry) == []
    assert {p.name for p in tmp_path.iterdir()} == {"disk.img", "vm.toml"}
    assert set(threading.enumerate()) == threads and set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "line",
    [
        "-M none",
        "-M pc -smp 4,sockets=2 -m 64 -numa node,cpus=0-1 -numa node,cpus=2-3 -cpu qemu64,+sse4.1,-apic",
        "-M pc,a20-gate=off -serial none -serial null -debugcon null -hda {disk} -snapshot -boot order=c",
        "-device isa-ide,id=i,iobase=0x1e8,iobase2=0x3ee,irq=11 -drive file={disk},if=none,id=d,snapshot=on"
        " -device ide-hd,bus=i.ide.0,drive=d -chardev ringbuf,id=r,size=4k -device isa-serial,chardev=r,index=1"
        " -global isa-serial.irq=4 -device isa-debugcon,iobase=0x402,bus=isa.0",
        "-device isa-debug-exit,iobase=0x501 -chardev ringbuf,id=r -object trace,id=t,chardev=r",
    ],
)
def test_what_can_be_built_is_right(line: str, write: Write, registry: TypeRegistry, tmp_path: Path) -> None:
    """Files written from configurations that build, and from the machines built from them, have no problems."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 16))
    words = line.replace("{disk}", str(disk)).split()
    config = CommandLine().parse(["-accel", "qtest", "-nodefaults", *words]).builder.finish()
    said = write(said_toml=dumps(config))
    with VirtualMachine(config, registry).build() as vm:
        dumped = write(dumped_yaml=dumps(vm.dump(), "yaml"))
    assert [str(p) for path in (said, dumped) for p in check(path, registry)] == []


def test_the_command(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(good_toml='machine = "${m}"\n[variables]\nm = "none"\n')
    bad = write(bad_yaml="machine: none\nnmae: x\n")
    assert qom_main.main(["check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: ok\n"
    assert qom_main.main(["check", str(good), str(bad)]) == 1
    out, err = capsys.readouterr()
    problem = "unknown key 'nmae'; did you mean 'numa' or 'name'?"
    assert out == f"{good}: ok\n{bad}:2:1: nmae: {problem}\n" and err == ""
    assert qom_main.main(["check", "--json", str(bad)]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {
            "file": str(bad),
            "line": 2,
            "column": 1,
            "path": "nmae",
            "message": problem,
            "expected": "",
            "nearest": ["numa", "name"],
        }
    ]
    assert qom_main.main(["check", str(good), "--var", "m=pcc"]) == 1
    assert capsys.readouterr().out == f"{good}:1:1: machine: unknown machine type 'pcc'; did you mean 'pc'?\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "check: no file: expected qom check FILE... [--var NAME=VALUE] [--json]"),
        (["--jsn", "x"], "--jsn: unknown option: expected FILE... [--var NAME=VALUE] [--json]"),
        (["x", "--var"], "--var: an argument is missing: expected NAME=VALUE"),
        (["x", "--var", "a"], "--var a: expected NAME=VALUE"),
        (["x", "--var", "a=1", "--var", "a=2"], "--var a=2: the variable 'a' is given twice"),
    ],
)
def test_wrong_arguments(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert qom_main.main(["check", *argv]) == 1
    assert capsys.readouterr().err == f"qom: {message}\n"


def test_every_command_with_a_file_takes_its_variables(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(vm_yaml="machine: ${m}\naccel: qtest\nserial: none\nvariables: {m: {required: true}}\n"))
    for command in (["tree"], ["mtree"], ["dump"], ["graph", "--text"], ["check"], ["convert"]):
        name, *rest = command
        assert qom_main.main([name, path, "--var", "m=none", *rest]) == 0, command
        assert capsys.readouterr().err == ""
        assert qom_main.main([name, path, *rest]) == 1
        out, err = capsys.readouterr()
        assert f"{path}:4:13: " in out + err and "the variable 'm' is required: expected --var m=VALUE" in out + err


def test_run_reports_the_first_error_in_one_line(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(vm_toml='nmae = "x"\npaused = 1\n[[device]]\nid = "-"\n')
    assert len(check(path, default_registry())) == 3
    assert qom_main.main(["run", str(path)]) == 1
    assert capsys.readouterr() == ("", f"qom: {path}:1:1: unknown key 'nmae'; did you mean 'numa' or 'name'?\n")


@pytest.mark.parametrize(
    "text, lines",
    [
        (
            "[variables]\na = '${b}'\nb = '${a}'\n",
            ["3:1: variables.b: the variable 'a' is made of itself: a -> b -> a"],
        ),
        ("[variables]\na = '${x}'\n", ["2:1: variables.a: no variable 'x': there are: a"]),
        (
            "[[numa]]\nnodeid = 200\n[[numa]]\nnodeid = 0\ncpus = 3\n",
            ["2:1: numa[0].nodeid: numa: 'nodeid' cannot be 200: expected an integer in 0..127"],
        ),
        (
            "smp = 'x'\n[[numa]]\ncpus = 3\n",
            ["1:1: smp: smp: 'cpus' cannot be 'x': expected an integer in 1..4096"],
        ),
        (
            "[cpu]\nmodel = 'qemu64'\nfeatures = { famly = 'x' }\n",
            ["3:14: cpu.features.famly: unknown processor feature 'famly'; did you mean 'family'?"],
        ),
        ("[[drive]]\nfile = '${f}'\n", ["2:1: drive[0].file: no variable 'f': none is declared in [variables]"]),
        ("[[device]]\ndriver = '${f}'\n", ["2:1: device[0].driver: no variable 'f': none is declared in [variables]"]),
        (
            "[[chardev]]\nbackend = 'file'\nid = 'c'\npath = '${f}'\n",
            ["4:1: chardev[0].path: no variable 'f': none is declared in [variables]"],
        ),
        (
            "serial = 'chardev:c0'\n[[chardev]]\nbackend = 'null'\nid = 'c{n}'\nrepeat = '${f}'\n",
            ["5:1: chardev[0].repeat: no variable 'f': none is declared in [variables]"],
        ),
        (
            "serial = 'chardev:c'\n[[chardev]]\nid = 'c'\n[[device]]\ndriver = 'isa-serial'\nchardev = 'c'\n"
            "[[device]]\nid = 'disks'\n[[device]]\ndriver = 'ide-hd'\nbus = 'disks.ide.0'\ndrive = 'd'\n"
            "[[drive]]\nid = 'd'\nif = 'none'\n",
            [
                "2:1: chardev[0]: chardev: 'backend' is required",
                "7:1: device[1]: device: 'driver' is required",
                "13:1: drive[0]: drive: 'file' is required",
            ],
        ),
        (
            "memory = '99999999T'\n",
            ["1:1: memory: memory: 'size' cannot be '99999999T': expected a size, such as 512M or 1.5G"],
        ),
        (
            "[[drive]]\nfile = '/dev/null'\nindex = 0\n[[drive]]\nfile = '/dev/null'\nindex = 0\n",
            ["4:1: drive[1]: drive: index 0 is taken already, by {folder}/machine.toml:1:1"],
        ),
        (
            "include = 'base.toml'\nremove = ['x']\n[[chardev]]\nid = 'c'\n",
            ["1:1: include: include: no file '{folder}/base.toml'"],
        ),
        (
            "[[global]]\ndriver = 'isa-seril'\nproperty = 'irq'\nvalue = 3\n",
            ["2:1: global[0].driver: no type 'isa-seril'; did you mean 'isa-serial' or 'isa-device' or 'isa-pit'?"],
        ),
    ],
)
def test_one_mistake_is_one_problem(text: str, lines: list[str], write: Write, registry: TypeRegistry) -> None:
    path = write(machine_toml=text)
    wanted = [line.replace("{folder}", str(path.parent)) for line in lines]
    assert [str(p).removeprefix(f"{path}:") for p in check(path, registry)] == wanted


def test_every_circle_is_found(write: Write, registry: TypeRegistry) -> None:
    pairs = (("a", "b"), ("b", "a"), ("c", "c"), ("after", "a"))
    entry = '[[device]]\ndriver = "isa-ide"\nid = "{}"\nbus = "{}.ide.0"\n'
    path = write(machine_toml="".join(entry.format(*pair) for pair in pairs))
    circles = [p.message for p in check(path, registry) if "circle" in p.message or "itself" in p.message]
    assert circles == ["device: these need each other in a circle: a -> b -> a", "device: 'c' refers to itself"]


def test_one_mistake_in_an_ini_file_is_one_problem(write: Write, registry: TypeRegistry) -> None:
    path = write(
        vm_cfg='[device]\ndriver = "isa-serial"\n[device "a"\ndriver = "isa-ide"\n[device]\ndriver = isa-ide\n'
    )
    assert [str(p).removeprefix(f"{path}:") for p in check(path, registry)] == [
        '3:1: \'[device "a"\' is no [section "id"] and no key = "value"',
        '6:1: \'driver = isa-ide\' is no [section "id"] and no key = "value"',
    ]
