# ruff: noqa: E501 -- messages stand on one line
"""Machines of board files: they boot, their memory lies where the file says, their lines lead where it says."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from boards import TINY, board, exiting_with, machine, memory_map, paths, problems, rom, types, write

from qom import ConfigError, QomError, SysBusDevice, open_machine, type_init
from qom.hw.memory import Region
from qom.show.wiring import wires

HEAD = '[board]\nname = "b"\n'
ISA = '[[part]]\nname = "bridge"\ntype = "isabus-bridge"\n'


def test_a_board_from_nothing_boots_a_guest(tmp_path: Path) -> None:
    hello = b"".join(bytes((0xB0, char, 0xE6, 0xE9)) for char in b"hello")  # mov $char,%al; out %al,$0xe9
    with board(tmp_path, TINY, "-debugcon", f"file:{tmp_path / 'out'}", image=rom(hello + exiting_with(20))) as vm:
        assert vm.run() == 41
    assert (tmp_path / "out").read_bytes() == b"hello"


def test_it_can_be_built_again_in_the_same_process(tmp_path: Path) -> None:
    for value in (1, 2):
        with board(tmp_path, TINY, image=rom(exiting_with(value))) as vm:
            assert vm.run() == 2 * value + 1


def test_the_file_stands_beside_the_one_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", TINY, "tiny.toml")
    (tmp_path / "rom").write_bytes(rom(exiting_with(5)))
    path = write(tmp_path, f'firmware = "{tmp_path / "rom"}"\nmachine = {{ board = "in/tiny.toml" }}\n', "vm.toml")
    with open_machine(path, accel="simulated", registry=types()) as vm:
        assert vm.machine.type_name == "tiny-machine"
        assert vm.run() == 11
    monkeypatch.chdir(tmp_path / "in")
    with machine("-M", "board=tiny.toml", "-bios", "../rom") as vm:
        assert vm.run() == 11


SPLIT = """
[board]
name = "split"
default-memory = "6G"

[values]
below = "min(ram-size, 3G)"
above = "ram-size - below"

[[require]]
that = "ram-size >= 1M"
else = "too little"

[[region]]
name = "low"
kind = "alias"
of = "all"
at = 0
size = "below"

[[region]]
name = "high"
kind = "alias"
of = "all"
offset = "below"
at = "4G"
size = "above"
when = "above > 0"

[[region]]
name = "all"
kind = "ram"
size = "ram-size"
"""


def test_ram_below_and_above_4_gib(tmp_path: Path) -> None:
    with board(tmp_path, SPLIT) as vm:
        assert memory_map(vm) == [(0, (3 << 30) - 1, "all"), (4 << 30, (7 << 30) - 1, "all")]
        space = vm.machine.system_bus.memory_space
        space.write_bytes(4 << 30, b"above")
        assert bytes(vm.machine.assembly.regions["all"].ram_block.view[3 << 30 : (3 << 30) + 5]) == b"above"  # type: ignore[attr-defined]
    with board(tmp_path, SPLIT, "-m", "2G") as vm:
        assert memory_map(vm) == [(0, (2 << 30) - 1, "all")]


def test_a_requirement_names_the_value_and_where_it_was_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught, board(tmp_path, SPLIT, "-m", "512k"):
        pass
    assert str(caught.value) == "-m 512k: /machine: ram-size is 524288 bytes: too little"


LAYERS = """
[board]
name = "layers"

[[region]]
name = "box"
kind = "container"
at = "64k"
size = "64k"

[[region]]
name = "under"
kind = "ram"
in = "box"
at = 0
size = "16k"

[[region]]
name = "over"
kind = "ram"
in = "box"
at = "4k"
size = "4k"
priority = 1

[[region]]
name = "window"
kind = "alias"
of = "over"
offset = "size"
at = "1M"
size = "over.size // 2"
readonly = true

[[region]]
name = "ports"
kind = "ram"
in = "io"
at = 0x100
size = 16
"""


def test_containers_priorities_aliases_and_ports(tmp_path: Path) -> None:
    with board(tmp_path, LAYERS) as vm:
        assert memory_map(vm) == [
            (0x10000, 0x10FFF, "under"), (0x11000, 0x11FFF, "over"), (0x12000, 0x13FFF, "under"),
            (0x100000, 0x1007FF, "over"),
        ]  # fmt: skip
        space = vm.machine.system_bus.memory_space
        space.write(0x11800, 0x55, 1)
        assert space.read(0x100000, 1) == 0x55
        space.write(0x100000, 0xAA, 1)  # the window is read only
        assert space.read(0x11800, 1) == 0x55
        assert [r.region.name for r in vm.machine.system_bus.io_space.flat_view] == ["ports"]


ROM = HEAD + '[[region]]\nname = "rom"\nkind = "rom"\nfile = "a.rom"\nproperty = "image"\nat = 0\n'
IMAGE = '[[property]]\nname = "image"\ntype = "str"\ndefault = ""\ndesc = "Another image"\n'


@pytest.mark.parametrize(
    ("more", "words", "message"),
    [
        ('sha256 = "{wrong}"', "", "board.toml:9:1: region 'rom': {folder}/a.rom has SHA-256 {right}: expected {wrong}"),
        ('granule = "64"', "", "board.toml:6:1: region 'rom': its image has 100 bytes: expected a multiple of 64"),
        ("size = 10", "", "board.toml:6:1: region 'rom': its image has 100 bytes: expected at most 10"),
        ("", ",image=no", "-M board={folder}/board.toml,image=no: region 'rom': image no cannot be read: No such file or directory"),
        ("", ",image=.", "-M board={folder}/board.toml,image=.: region 'rom': image . cannot be read: Is a directory"),
    ],
)  # fmt: skip
def test_an_image_that_is_not_what_it_should_be(tmp_path: Path, more: str, words: str, message: str) -> None:
    (tmp_path / "a.rom").write_bytes(bytes(100))
    digests = {"right": hashlib.sha256(bytes(100)).hexdigest(), "wrong": "0" * 64}
    path = write(tmp_path, ROM + more.format(**digests) + "\n" + IMAGE)
    with pytest.raises(QomError) as caught, machine("-M", f"board={path}{words}"):
        pass
    assert str(caught.value).removeprefix(f"{tmp_path}/") == message.format(**digests, folder=tmp_path)


def test_images_from_the_file_beside_the_board_and_from_a_property(tmp_path: Path) -> None:
    (tmp_path / "a.rom").write_bytes(b"A" * 100)
    (tmp_path / "b.rom").write_bytes(b"B" * 100)
    digest = hashlib.sha256(b"A" * 100).hexdigest()
    text = f'{ROM}sha256 = "{digest}"\nsize = "4k"\n{IMAGE}'
    path = write(tmp_path, text)
    for words, first in (("", b"A"), (f",image={tmp_path / 'b.rom'}", b"B")):
        with machine("-M", f"board={path}{words}") as vm:
            memory = vm.machine.system_bus.memory_space
            assert memory.read_bytes(99, 2) == first + b"\0"
            memory.write(0, 0x5A, 1)
            assert memory.read_bytes(0, 1) == first


def test_parts_and_wires_that_depend_on_a_condition(tmp_path: Path) -> None:
    text = HEAD + ISA + (
        '[[property]]\nname = "slow"\ntype = "bool"\ndefault = false\ndesc = "Whether it is slow"\n'
        '[[part]]\nname = "exit"\ntype = "isa-debug-exit"\nbus = "bridge.isa.0"\nwhen = "slow"\n'
        '[[part]]\nname = "pic"\ntype = "isa-i8259"\nbus = "bridge.isa.0"\nprops = { iobase = 0x20 }\nwhen = "not slow"\n'
        '[[part]]\nname = "pic"\ntype = "isa-i8259"\nbus = "bridge.isa.0"\nprops = { iobase = 0xA0 }\nwhen = "slow"\n'
        '[[wire]]\nfrom = "bridge.isa.0:irq[3]"\nto = "pic[3]"\n'
        '[[wire]]\nfrom = "exit[0]"\nto = "pic[4]"\n'
    )  # fmt: skip
    path = write(tmp_path, text)
    with machine("-M", f"board={path}") as vm:
        assert "/machine/exit" not in paths(vm)  # and the wire from it, which it could not have, is left out
        assert vm.root.resolve("/machine/pic").get("iobase") == 0x20
    with pytest.raises(ConfigError) as caught, machine("-M", f"board={path},slow=on"):
        pass
    assert str(caught.value).endswith(
        "board.toml:31:1: wire exit[0] -> pic[4]: /machine/exit: no output unnamed[0]: it has none"
    )


def test_two_of_a_name_at_once_are_an_error(tmp_path: Path) -> None:
    text = HEAD + "".join(f'[[part]]\nname = "a"\ntype = "apic-bus"\nwhen = "ram-size >= {n}"\n' for n in (0, 1))
    assert problems(tmp_path, text) == []
    with pytest.raises(ConfigError) as caught, board(tmp_path, text):
        pass
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "board.toml:7:1: part 'a' is there twice, also by board.toml:3:1: expected conditions that exclude one another"
    )


def test_the_order_in_the_file_does_not_matter(tmp_path: Path) -> None:
    text = HEAD + (
        '[[wire]]\nfrom = "bridge.isa.0:irq[1]"\nto = "pic[1]"\n'
        '[[part]]\nname = "port61"\ntype = "port61"\nbus = "bridge.isa.0"\nlinks = { pit = "pit" }\n'
        '[[part]]\nname = "pit"\ntype = "isa-pit"\nbus = "bridge.isa.0"\n'
        '[[part]]\nname = "pic"\ntype = "isa-i8259"\nbus = "bridge.isa.0"\n'
    ) + ISA  # fmt: skip
    with board(tmp_path, text) as vm:
        assert vm.root.resolve("/machine/port61").get("pit") is vm.root.resolve("/machine/pit")


def test_lines(tmp_path: Path) -> None:
    text = HEAD + ISA + (
        '[[part]]\nname = "pic"\ntype = "isa-i8259"\nbus = "bridge.isa.0"\n'
        '[[part]]\nname = "pit"\ntype = "isa-pit"\nbus = "bridge.isa.0"\n'
        '[[part]]\nname = "serial"\ntype = "isa-serial"\nbus = "bridge.isa.0"\nprops = { irq = 4 }\n'
        '[[wire]]\nfrom = "bridge.isa.0:irq[4]"\nto = "pic[5]"\n'
        '[[wire]]\nfrom = "pit"\nto = "pic[5]"\n'
    )  # fmt: skip
    with board(tmp_path, text) as vm:
        pic = vm.root.resolve("/machine/pic")
        pit = vm.root.resolve("/machine/pit").pin_out(None, 0)
        serial = vm.root.resolve("/machine/serial").isa.bus.irq(4)
        for pit_level, serial_level in ((1, 0), (1, 1), (0, 1), (0, 0)):  # wired-OR on one input
            pit.set(pit_level)
            serial.set(serial_level)
            assert bool(pic.inputs & 1 << 5) is bool(pit_level or serial_level)
        shown = {
            (f"{w.source.object.path} {w.source.text}", f"{w.target.object.path} {w.target.text}") for w in wires(vm)
        }
        assert ("/machine/pit [0]", "/machine/pic [5]") in shown
        assert ("/machine/bridge/isa.0 irq[4]", "/machine/pic [5]") in shown


def test_a_wire_to_a_processor_tells_it_whom_to_ask_for_vectors(tmp_path: Path) -> None:
    text = TINY + (
        '[[part]]\nname = "pic"\ntype = "isa-i8259"\nbus = "bridge.isa.0"\n[[wire]]\nfrom = "pic.intr"\nto = "cpu.intr"\n'
    )
    with board(tmp_path, text, image=rom(b"\xf4")) as vm:
        assert vm.cpus[0].interrupt_controller is vm.root.resolve("/machine/pic")


PORTS = (
    TINY
    + """
[[part]]
repeat = 2
name = "serial{n}"
type = "isa-serial"
bus = "bridge.isa.0"
props = { index = "{n}" }
for = "serial[{n}]"

[[part]]
name = "ide"
type = "isa-ide"
bus = "bridge.isa.0"

[[part]]
name = "disk"
type = "ide-hd"
bus = "ide.ide.0"
for = "drive[0]"
"""
)


def test_ports_and_drives_go_where_the_board_says(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(512))
    words = ("-serial", "none", "-serial", "null", "-drive", f"file={tmp_path / 'disk'},format=raw,snapshot=on")
    with board(tmp_path, PORTS, *words, image=rom(b"\xf4")) as vm:
        assert vm.root.resolve("/machine/serial1").get("chardev") is vm.root.resolve("/chardevs/serial1")
        assert vm.root.resolve("/machine/disk").get("drive") is vm.root.resolve("/drives/ide0-hd0")
        assert not paths(vm) & {"/machine/serial0", "/machine/debugcon"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-serial", "none", "-serial", "none", "-serial", "null"), "-serial null: serial port 2: tiny-machine has 2 of them: expected serial 0, 1, not 2"),
        (("-hdb", "{disk}"), "-hdb {disk}: drive 'ide0-hd1': tiny-machine has 1 of them: expected drive 0, not 1"),
        (("-drive", "file={disk},media=cdrom"), "-drive file={disk},media=cdrom: drive 'ide1-cd0': media=cdrom: tiny-machine has places for disks only"),
        (("-kernel", "{disk}"), "-kernel {disk}: tiny-machine cannot start a kernel by itself"),
        (("-cpu", "qemu65"), "-cpu qemu65: unknown processor model 'qemu65'; did you mean 'qemu64' or 'qemu32'?; -cpu help lists all 26"),
        (("-smp", "2"), "-smp 2: /machine: smp-cpus is 2, tiny-machine has room for 1"),
    ],
)  # fmt: skip
def test_what_has_no_place_on_the_board(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "disk").write_bytes(bytes(512))
    text = [word.format(disk=tmp_path / "disk") for word in words]
    with pytest.raises(ConfigError) as caught, board(tmp_path, PORTS, *text, image=rom(b"\xf4")):
        pass
    assert str(caught.value) == message.format(disk=tmp_path / "disk")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-serial", "null"), "-serial null: serial port 0: b-machine has no serial ports"),
        (("-debugcon", "null"), "-debugcon null: debugcon: b-machine has no debug port"),
        (("-vga", "std"), "-vga std: vga 'std': b-machine has no display adapter"),
        (("-cpu", "max"), "-cpu max: b-machine has no processors: expected no processor model"),
        (("-bios", "x"), "-bios x: b-machine has no place for firmware"),
    ],
)
def test_a_board_with_nothing(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    path = write(tmp_path, HEAD)
    with machine("-M", f"board={path}", "-nographic") as vm:
        assert paths(vm) >= {"/machine/system-bus"}
        assert not vm.root.container("/chardevs").children()  # the serial port of -nographic has no place here
    with pytest.raises(ConfigError) as caught, machine("-M", f"board={path}", *words):
        pass
    assert str(caught.value) == message


@type_init("test-window")
class Window(SysBusDevice):
    """Makes a region of its own, and is handed one and another part."""

    ram: Region

    def realize(self) -> None:
        self.my_space = Region.container("window-space", 1 << 16)
        self.sysbus.map_memory(1 << 20, self.my_space)


def test_what_a_part_makes_and_is_handed(tmp_path: Path) -> None:
    text = HEAD + (
        '[[region]]\nname = "in-it"\nkind = "ram"\nin = "w.my-space"\nat = "32k"\nsize = "4k"\n'
        '[[region]]\nname = "ram"\nkind = "ram"\nsize = "4k"\n'
        '[[part]]\nname = "w"\ntype = "test-window"\nlinks = { ram = "ram" }\n'
    )
    registry = types()
    registry.register(Window, "tests")
    path = write(tmp_path, text)
    with machine("-M", f"board={path}", registry=registry) as vm:
        assert vm.root.resolve("/machine/w").ram.name == "ram"
        assert memory_map(vm) == [((1 << 20) + 0x8000, (1 << 20) + 0x8FFF, "in-it")]
    for old, new, message in (
        ("w.my-space", "w.spaces", "board.toml:6:1: region 'in-it': /machine/w makes no region 'spaces'; it makes: my-space, ram"),
        ("w.my-space", "v.my-space", "board.toml:6:1: region 'in-it': 'in' cannot be 'v.my-space': there is no part 'v'"),
        ('"32k"', '"64k"', "board.toml:7:1: region 'in-it' would lie at 0x10000..0x10fff: expected within 'window-space', 0..0xffff"),
        ("ram = ", "rom = ", "board.toml:16:11: 'test-window' is handed no 'rom'; did you mean 'ram'?; it takes: bus, ram"),
    ):  # fmt: skip
        path = write(tmp_path, text.replace(old, new))
        with pytest.raises(ConfigError) as caught, machine("-M", f"board={path}", registry=registry):
            pass
        assert str(caught.value).replace(f"{tmp_path}/", "") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[part]]\nname = "s"\ntype = "isa-serial"\nbus = "bridge.isa.1"', "board.toml:9:1: bus 'bridge.isa.1': /machine/bridge has no bus 'isa.1'; it has: isa.0"),
        ('[[wire]]\nfrom = "bridge.x"\nto = "bridge.y"', "board.toml:6:1: wire bridge.x -> bridge.y: /machine/bridge: no input 'y'[0]: it has none"),
        ('[[part]]\nrepeat = 2\nname = "s{n}"\ntype = "isa-debug-exit"\nbus = "bridge.isa.0"', "board.toml:6:1: /machine/s1: ports 0x501..0x502 are taken: /machine/s0 has 0x501..0x502 (debug-exit)"),
        ('[[region]]\nname = "r"\nkind = "ram"\nat = "-1"\nsize = 1', "board.toml:9:1: region 'r' would lie at -0x1..-0x1: expected within 'system-memory', 0..0xffffffffffffffff"),
        ('[[region]]\nname = "r"\nkind = "ram"\nat = 0\nsize = "1 // (smp-cpus - 1)"', "board.toml:10:1: '1 // (smp-cpus - 1)': 1 // 0: there is no division by zero"),
    ],
)  # fmt: skip
def test_what_shows_only_while_building_has_its_place_in_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught, board(tmp_path, HEAD + ISA + text):
        pass
    assert str(caught.value).replace(f"{tmp_path}/", "") == message


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    text = TINY + '\n[[wire]]\nfrom = "exit.nothing"\nto = "bridge.nothing"\n'
    with pytest.raises(ConfigError, match="no input 'nothing'"), board(tmp_path, text, image=rom(b"\xf4")):
        pass
    assert threading.active_count() == before
