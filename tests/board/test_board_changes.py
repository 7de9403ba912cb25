# ruff: noqa: E501 -- messages stand on one line
"""A machine file changes the board of its machine, the PC's too: parts, wires and memory, one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from boards import exiting_with, memory_map, paths, rom, types, write

from plugins.timer.mc146818 import Mc146818
from qom import ConfigError, IsaDevice, Machine, Region, TypeRegistry, VirtualMachine, open_machine, prop, type_init
from qom.board import board_of
from qom.config import load
from qom.config.check import check
from qom.config.write import dumps

MACHINE = '[machine]\ntype = "pc"\naccel = "simulated"\n'


@type_init("test-rtc")
class MyRtc(Mc146818):
    """A clock of somebody else's."""

    flavour: str = prop("plain", "What is different")


@type_init("test-not-a-clock")
class NotAClock(IsaDevice):
    """Answers where the clock was, with ones."""

    iobase: int = prop(0x70, "First port", type="uint16")

    def realize(self) -> None:
        self.isa.map_ports(self.iobase, Region("not-a-clock", 2, lambda offset, size: 0x11))


def registry() -> TypeRegistry:
    found = types()
    for cls in (MyRtc, NotAClock):
        found.register(cls, "tests")
    return found


def changed(folder: Path, text: str, **more: Any) -> VirtualMachine:
    return open_machine(write(folder, MACHINE + text, "vm.toml"), registry=registry(), **more)


def test_a_part_is_replaced_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "rom").write_bytes(rom(exiting_with(9), 65536))
    text = (
        '[[part]]\nname = "rtc"\ntype = "test-rtc"\nprops = { flavour = "mine" }\n'
        '[[device]]\ndriver = "isa-debug-exit"\n'
    )
    with changed(tmp_path, text, firmware=tmp_path / "rom") as vm:
        rtc = vm.root.resolve("/machine/rtc")
        assert (rtc.type_name, rtc.get("flavour"), rtc.bus.path) == ("test-rtc", "mine", "/machine/piix3/isa.0")
        assert rtc.get_cmos(0x34) | rtc.get_cmos(0x35) << 8 == (128 - 16) << 4  # told what the board's own was
        assert vm.run() == 19


def test_a_part_is_replaced_by_something_else_entirely(tmp_path: Path) -> None:
    with changed(tmp_path, '[[part]]\nname = "rtc"\ntype = "test-not-a-clock"\n') as vm:
        assert vm.machine.system_bus.io_space.read(0x71, 1) == 0x11


def test_the_debug_port_is_replaced(tmp_path: Path) -> None:
    text = f'debugcon = "file:{tmp_path / "out"}"\n'
    path = write(tmp_path, text + MACHINE + '[[part]]\nname = "debugcon"\nprops = { iobase = 0x402 }\n', "vm.toml")
    with open_machine(path, registry=registry()) as vm:
        vm.machine.system_bus.io_space.write(0x402, ord("x"), 1)
        vm.machine.system_bus.io_space.write(0xE9, ord("y"), 1)
    assert (tmp_path / "out").read_bytes() == b"x"


def test_a_part_keeps_what_is_not_said(tmp_path: Path) -> None:
    with changed(tmp_path, '[[part]]\nname = "pic2"\nprops = { elcr-mask = 0xD0 }\n') as vm:
        pic2 = vm.root.resolve("/machine/pic2")
        assert (pic2.get("elcr-mask"), pic2.get("iobase"), pic2.get("master")) == (0xD0, 0xA0, False)


def test_parts_are_added_and_removed_with_their_wires(tmp_path: Path) -> None:
    text = (
        '[[part]]\nname = "port92"\nremove = true\n'
        '[[part]]\nname = "spare"\ntype = "isa-debug-exit"\nbus = "piix3.isa.0"\n'
    )
    with changed(tmp_path, "") as plain, changed(tmp_path, text) as vm:
        assert paths(vm) ^ paths(plain) == {"/machine/port92", "/machine/spare"}
        assert vm.machine.system_bus.io_space.read(0x92, 1) == 0xFF


def test_a_wire_leads_elsewhere(tmp_path: Path) -> None:
    with changed(tmp_path, '[[wire]]\nfrom = "pm.sci"\nto = "gsi.board[11]"\n') as vm, vm.lock:
        vm.root.resolve("/machine/pm").pin_out("sci", 0).set(1)
        assert vm.root.resolve("/machine/gsi").board >> 9 == 1 << 2


def test_a_wire_is_cut(tmp_path: Path) -> None:
    with changed(tmp_path, '[[wire]]\nfrom = "pm.sci"\nto = "gsi.board[9]"\nremove = true\n') as vm:
        assert not vm.root.resolve("/machine/pm").pin_out("sci", 0).connected


def test_memory_is_added_and_changed(tmp_path: Path) -> None:
    text = (
        '[[region]]\nname = "extra"\nkind = "ram"\nat = 0xE0000000\nsize = "64k"\n'
        '[[region]]\nname = "isa-bios"\nsize = "64k"\n'
    )
    with changed(tmp_path, text) as vm:
        seen = memory_map(vm)
        assert (0xE0000000, 0xE000FFFF, "extra") in seen
        assert (0xF0000, 0xFFFFF, "pc.bios") in seen


def test_removing_what_firmware_is_told_through_harms_nothing(tmp_path: Path) -> None:
    text = "".join(f'[[part]]\nname = "{name}"\nremove = true\n' for name in ("rtc", "fw_cfg", "pm", "ide"))
    with changed(tmp_path, text) as vm:
        assert not paths(vm) & {"/machine/rtc", "/machine/fw_cfg", "/machine/pm", "/machine/ide"}
        vm.machine.powerdown()  # there is no button, and pressing it does nothing


WRONG: dict[str, tuple[str, str]] = {
    "near miss": ('[[part]]\nname = "rtcc"\nprops = { iobase = 1 }', "vm.toml:4:1: part 'rtcc' is not on this board, and a new one needs a 'type'; did you mean 'rtc'?"),
    "type": ('[[part]]\nname = "rtc"\ntype = "test-rtcc"', "vm.toml:6:1: part 'rtc': there is no device type 'test-rtcc'; did you mean 'test-rtc'"),
    "property": ('[[part]]\nname = "rtc"\nprops = { iobas = 1 }', "vm.toml:6:11: part 'rtc': 'mc146818rtc' has no property 'iobas'; did you mean 'iobase'"),
    "value": ('[[part]]\nname = "rtc"\nprops = { iobase = 70000 }', "vm.toml:6:11: part 'rtc': property 'iobase' cannot be 70000: expected an integer in 0..65535"),
    "bus": ('[[part]]\nname = "rtc"\nbus = "piix4.isa.0"', "vm.toml:6:1: part 'rtc': bus 'piix4.isa.0': there is no part 'piix4'; did you mean 'piix3'"),
    "removed and needed": (
        '[[part]]\nname = "pit"\nremove = true\n[[part]]\nname = "hpet0"\nremove = true',
        "part 'port61': link 'pit': the part 'pit' was taken out",
    ),
    "not there": ('[[part]]\nname = "tpm"\nremove = true', "vm.toml:4:1: there is no part 'tpm' to remove"),
    "key": ('[[part]]\nname = "rtc"\nprop = {}', "vm.toml:6:1: part 'rtc': unknown option 'prop'; did you mean 'props'"),
    "wire": ('[[wire]]\nfrom = "pm.sci"\nto = "gsl[1]"', "vm.toml:6:1: wire pm.sci -> gsl[1]: there is no part 'gsl'; did you mean 'gsi'?"),
    "no wire": ('[[wire]]\nfrom = "pm.sci"\nto = "gsi[1]"\nremove = true', "vm.toml:4:1: there is no wire pm.sci -> gsi[1] to remove: pm.sci drives gsi.board[9]"),
    "region": ('[[region]]\nname = "isa-bio"\nsize = 1', "vm.toml:4:1: region 'isa-bio' is not on this board, and a new one needs a 'kind'; did you mean 'isa-bios'?"),
    "region value": ('[[region]]\nname = "isa-bios"\nsize = "pcbios.size"', "vm.toml:6:1: region 'isa-bios': 'pcbios.size': there is no 'pcbios.size'; did you mean 'pc.bios.size'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found_by_check_and_by_building(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    path = write(tmp_path, MACHINE + text + "\n", "vm.toml")
    found = [f"{p.file}:{p.line}:{p.column}: {p.message}".replace(f"{tmp_path}/", "") for p in check(path, registry())]
    assert len(found) == 1 and message in found[0], found
    with pytest.raises(ConfigError) as caught:
        open_machine(path, registry=registry())
    assert caught.value.origin, caught.value


def test_a_line_that_is_not_there_names_the_wires_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(tmp_path, '[[wire]]\nfrom = "pm.sci"\nto = "gsi.boards[9]"\n')
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "vm.toml:4:1: wire pm.sci -> gsi.boards[9]: /machine/gsi: no input 'boards'[9]: it has unnamed[24], 'board'[24], 'hpet'[2], "
        "'legacy'[1]"
    )


def test_a_board_in_python_alone_cannot_be_changed(tmp_path: Path) -> None:
    @type_init("by-hand-machine")
    class ByHand(Machine):
        """A board that is code."""

    found = registry()
    found.register(ByHand, "tests")
    path = write(tmp_path, '[machine]\ntype = "by-hand"\n[[part]]\nname = "x"\ntype = "i8042"\n', "vm.toml")
    with pytest.raises(ConfigError) as caught:
        open_machine(path, registry=found, accel="simulated")
    assert str(caught.value).endswith("vm.toml:3:1: the board of by-hand-machine is no data that could be changed")


def test_what_was_changed_is_written_and_read_again(tmp_path: Path) -> None:
    text = MACHINE + (
        '[[part]]\nname = "rtc"\ntype = "test-rtc"\nbus = "piix3.isa.0"\nprops = { flavour = "x" }\nvalues = { iobase = "0x70" }\n'
        'when = "a20-gate"\n[[part]]\nname = "port92"\nremove = true\n[[part]]\nname = "port61"\nlinks = { pit = "pit" }\n'
        '[[part]]\nname = "more"\ntype = "isa-serial"\nbus = "piix3.isa.0"\nfor = "serial[4]"\n'
        '[[wire]]\nfrom = "pm.sci"\nto = "gsi.board[9]"\nremove = true\n[[wire]]\nfrom = "pit"\nto = "gsi[1]"\nwhen = "true"\n'
        '[[region]]\nname = "isa-bios"\nsize = "64k"\n[[region]]\nname = "ram-above-4g"\nremove = true\n'
    )
    config = load(write(tmp_path, text, "vm.toml"))
    for format in ("toml", "json", "yaml"):
        again = load(write(tmp_path, dumps(config, format), f"again.{format}"))
        for kind in ("parts", "wires", "regions"):
            assert _without_origins(getattr(again, kind)) == _without_origins(getattr(config, kind))


def _without_origins(entries: list[Any]) -> list[dict[str, Any]]:
    return [{**attrs.asdict(entry), "origin": ""} for entry in entries]


def test_the_type_itself_stays_as_it_is(tmp_path: Path) -> None:
    before = board_of("pc-machine", types())
    with changed(tmp_path, '[[part]]\nname = "port92"\nremove = true\n') as vm:
        assert board_of("pc-machine", vm.registry) == before
