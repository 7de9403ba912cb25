"""Promise 2.  Machines are data: a board is parts, places and lines, declared; a third party extends or overrides one part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pcs import registry

from qom import IsaDevice, Object, QomError, Region, TypeRegistry, VirtualMachine, open_machine, prop, type_init
from qom.config import load

ROOT = Path(__file__).parents[2]

CODE = bytes.fromhex("b041 e6e9 ba0105 b007 ee f4")  # 'A' to port E9h, 7 to port 501h

BOARD = """
[board]
name = "slate"
default-cpu = "qemu32"
default-memory = "64k"
max-cpus = 1

[[region]]
name = "ram"
kind = "ram"
at = 0
size = "ram-size"

[[region]]
name = "rom"
kind = "rom"
file = "slate.rom"
at = "4G - size"

[cpus]
name = "cpu"

[[part]]
name = "bridge"
type = "isabus-bridge"

[[part]]
name = "exit"
type = "isa-debug-exit"
bus = "bridge.isa.0"

[[part]]
name = "debugcon"
type = "isa-debugcon"
bus = "bridge.isa.0"
for = "debugcon"
"""


EXTENDED = """
[board]
name = "pc-plus"
extends = "pc-i440fx"

[values]
place = "0x200 + 0x70"

[[part]]
name = "noon"
type = "promise-rtc"
bus = "piix3.isa.0"
values = { iobase = "place" }

[[part]]
name = "pic2"
props = { elcr-mask = 0xDC }

[[wire]]
from = "pm.sci"
to = "gsi.board[10]"
"""


@type_init("promise-rtc")
class PromiseClock(IsaDevice):
    """A third party's clock: always noon."""

    iobase: int = prop(0x70, "First I/O port", type="uint16")
    base: str = prop("", "Ignored")

    def realize(self) -> None:
        self.gpio_out("rtc")
        self.isa.map_ports(self.iobase, Region("noon", 2, lambda offset, size: 0x12, None, (1, 1)))


@pytest.fixture
def types() -> TypeRegistry:
    found = registry()
    found.register(PromiseClock, "a third party")
    return found


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def shape(vm: VirtualMachine) -> dict[str, str]:
    return {o.path: o.type_name for o in vm.machine.walk()}


def test_a_board_of_data_alone_runs_a_guest(tmp_path: Path, types: TypeRegistry) -> None:
    rom = bytearray(4096)
    rom[: len(CODE)] = CODE
    rom[0xFF0:0xFF3] = b"\xe9\x0d\xf0"  # the reset vector: to the first byte
    (tmp_path / "slate.rom").write_bytes(rom)
    write(tmp_path / "slate.toml", BOARD)
    vm_file = write(tmp_path / "vm.toml", 'debugcon = "console"\n[machine]\nboard = "slate.toml"\n')
    with open_machine(vm_file, registry=types) as vm:
        vm.start()
        assert vm.wait(60)
        assert (vm.console("debugcon").text, vm.exit_status) == ("A", 15)


def test_the_pc_is_expressed_in_the_same_vocabulary(types: TypeRegistry) -> None:
    """Every part of the PC that is not a processor is an entry of its file; nothing else makes one."""
    import tomllib

    data: dict[str, Any] = tomllib.loads((ROOT / "machines/pc-i440fx.toml").read_text())
    declared = {part["name"] for part in data["part"]}
    with open_machine(machine="pc", memory="16M", nodefaults=True, registry=types) as vm:
        made = {name: child for name, child in vm.machine.children().items() if child.is_a("device")}
    assert {name for name, child in made.items() if not child.is_a("cpu")} <= declared
    assert len(made) > 15


def test_one_part_of_the_pc_is_replaced_from_a_file(tmp_path: Path, types: TypeRegistry) -> None:
    plain = write(tmp_path / "plain.toml", '[machine]\ntype = "pc"\nmemory = "16M"\n')
    other = write(tmp_path / "other.toml", 'include = ["plain.toml"]\n[[part]]\nname = "port92"\nremove = true\n')
    added = write(
        tmp_path / "added.toml",
        'include = ["plain.toml"]\n[[part]]\nname = "noon"\ntype = "promise-rtc"\n'
        'bus = "piix3.isa.0"\nprops = { iobase = 0x270 }\n',
    )
    with VirtualMachine(load(plain), types).build() as vm:
        before = shape(vm)
    with VirtualMachine(load(other), types).build() as vm:
        assert shape(vm) == {path: kind for path, kind in before.items() if path != "/machine/port92"}
        assert vm.machine.system_bus.io_space.read(0x92, 1) == 0xFF
    with VirtualMachine(load(added), types).build() as vm:
        assert shape(vm) == {**before, "/machine/noon": "promise-rtc"}
        assert vm.machine.system_bus.io_space.read(0x270, 1) == 0x12


def test_a_board_is_extended_from_a_file(tmp_path: Path, types: TypeRegistry) -> None:
    """A part more, one property of another part, and one of the wires: all else of the PC stays."""
    write(tmp_path / "plus.toml", EXTENDED)
    plain = write(tmp_path / "plain.toml", '[machine]\ntype = "pc"\n')
    plus = write(tmp_path / "vm.toml", '[machine]\nboard = "plus.toml"\n')
    with VirtualMachine(load(plain), types).build() as vm:
        before = shape(vm)
        sci = vm.machine.child("pm").pin_out("sci")
        assert sci.line is vm.machine.child("gsi").line_in("board", 9)
    with VirtualMachine(load(plus), types).build() as vm:
        after = shape(vm)
        assert after.pop("/machine") == "pc-plus-machine"
        assert after == {**{p: k for p, k in before.items() if p != "/machine"}, "/machine/noon": "promise-rtc"}
        assert vm.machine.system_bus.io_space.read(0x270, 1) == 0x12
        pic2 = vm.machine.child("pic2")
        assert (pic2.elcr_mask, pic2.iobase, pic2.elcr_addr, pic2.master) == (0xDC, 0xA0, 0x4D1, False)
        sci = vm.machine.child("pm").pin_out("sci")
        assert sci.line is vm.machine.child("gsi").line_in("board", 10)


def test_a_part_is_replaced_by_a_third_partys_chip(tmp_path: Path, types: TypeRegistry) -> None:
    """The PC's port 61h sits where another chip can sit as well."""
    changed = write(
        tmp_path / "changed.toml",
        '[machine]\ntype = "pc"\n[[part]]\nname = "port92"\ntype = "promise-rtc"\nprops = { iobase = 0x92 }\n',
    )
    with pytest.raises(
        QomError
    ) as caught:  # the old chip's wire has no place on the new one: which, and where it is said
        VirtualMachine(load(changed), types).build()
    assert "port92.a20" in str(caught.value) and "pc-i440fx.toml:" in str(caught.value)
    text = changed.read_text() + '[[wire]]\nfrom = "port92.a20"\nto = "a20.port92"\nremove = true\n'
    with VirtualMachine(load(write(changed, text)), types).build() as vm:
        part: Object = vm.machine.child("port92")
        assert part.type_name == "promise-rtc" and vm.machine.system_bus.io_space.read(0x92, 1) == 0x12
