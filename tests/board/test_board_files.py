# ruff: noqa: E501 -- the table reads better in long lines
"""Board files: every rule of the vocabulary, and what is said when one is broken."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from boards import TINY, machine, problems, types, write

from qom import ConfigError
from qom.board import board_of, check_board, read_board, register_board
from qom.board.parts import EMPTY
from qom.cli.help import help_text
from qom.cli.main import main as qom_main

HEAD = '[board]\nname = "b"\n'


def test_the_boards_in_the_box_are_right() -> None:
    folder = Path(__file__).parents[2] / "machines"
    files = sorted(folder.glob("*.toml"))
    assert [file.name for file in files] == ["none.toml", "pc-i440fx.toml"]
    for file in files:
        assert check_board(file, types()) == []


def test_json_and_yaml_say_the_same(tmp_path: Path) -> None:
    board = read_board(write(tmp_path, TINY))
    data = _plain(TINY)
    as_json = read_board(write(tmp_path, json.dumps(data), "board.json"))
    as_yaml = read_board(write(tmp_path, yaml.safe_dump(data), "board.yaml"))
    for other in (as_json, as_yaml):
        assert other.over(EMPTY) == board.over(EMPTY)
        assert (other.name, other.desc, other.max_cpus) == (board.name, board.desc, board.max_cpus)


def _plain(text: str) -> dict[str, object]:
    return tomllib.loads(text)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path, TINY)
    first = read_board(path)
    assert read_board(path) is first
    write(tmp_path, TINY + '\n[[part]]\nname = "more"\ntype = "isa-debug-exit"\nbus = "bridge.isa.0"\n')
    assert len(read_board(path).parts) == len(first.parts) + 1


WRONG: dict[str, tuple[str, str]] = {
    "not TOML": ("[board", "board.toml:1:7: not TOML: Expected ']' at the end of a table declaration"),
    "no board": ('[[part]]\nname = "a"\ntype = "b"', "board.toml:1:1: there is no [board] table: expected one with the board's 'name'"),
    "no name": ('[board]\ndesc = "x"', "board.toml:1:1: board: 'name' is required"),
    "bad name": ('[board]\nname = "a b"', "board.toml:2:1: board: 'name' cannot be 'a b': expected letters, digits, '-', '_', '.', '+'"),
    "bad key": (HEAD + "descr = 1", "board.toml:3:1: board: unknown option 'descr'; did you mean 'desc'?"),
    "bad section": (HEAD + '[[parts]]\nname = "a"', "board.toml:3:1: unknown key 'parts'; did you mean 'part'?"),
    "include": ('include = ["x.toml"]\n' + HEAD, "board.toml:1:1: unknown key 'include'; a board file builds on another with 'extends'"),
    "table wanted": (HEAD + "[part]\nname = 'a'", "board.toml:3:1: 'part' cannot be {'name': 'a'}: expected [[part]] tables"),
    "aliases": (HEAD + "aliases = 'x'", "board.toml:3:1: board: 'aliases' cannot be 'x': expected a list of strings"),
    "memory": (HEAD + "default-memory = 'lots'", "board.toml:3:1: board: 'default-memory' cannot be 'lots': expected a size, such as 512M or 1.5G"),
    "extends": (HEAD + "extends = 'pcc'", "board.toml:3:1: board 'b' extends the unknown machine type 'pcc'; did you mean 'pc'?"),
    "extends file": (HEAD + "extends = 'x.toml'", "board.toml:3:1: board: 'extends': no file '{folder}/x.toml'"),
    "extends itself": (HEAD + "extends = 'board.toml'", "board.toml:3:1: board: 'extends': the board extends itself: board.toml -> board.toml"),
    "property type": (HEAD + "[[property]]\nname = 'p'\ntype = 'int'\ndesc = 'd'\ndefault = 1", "board.toml:5:1: property 'p': 'type' cannot be 'int'"),
    "property default": (HEAD + "[[property]]\nname = 'p'\ntype = 'uint8'\ndesc = 'd'\ndefault = 256", "board.toml:3:1: property 'p' has the default 256: expected an integer in 0..255"),
    "property without": (HEAD + "[[property]]\nname = 'p'\ntype = 'uint8'\ndesc = 'd'", "board.toml:3:1: property 'p': expected either a 'default' or required = true"),
    "property taken": (HEAD + "[[property]]\nname = 'ram-size'\ntype = 'bool'\ndesc = 'd'\ndefault = true", "board.toml:3:1: property 'ram-size': 'board-machine' has a property of that name: expected another"),
    "property of the life cycle": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\nprops = { realized = true }", "board.toml:6:11: part 'a': property 'realized' of 'isabus-bridge' cannot be set by a board"),
    "property bus": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\nprops = { bus = 'x' }", "board.toml:6:11: part 'a': property 'bus' of 'isabus-bridge' cannot be set by a board: expected 'bus' as a key of the part"),
    "link without a place": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\n[[part]]\nname = 'b'\ntype = 'isa-serial'\nbus = 'a.isa.0'\nprops = { chardev = 3 }", "board.toml:10:11: part 'b': property 'chardev' cannot be 3: expected an object of type 'chardev', or its path"),
    "version set": (HEAD + "[[version]]\nname = '1'\nset = []", "board.toml:5:1: version: 'set' cannot be []: expected a table of \"DRIVER.PROPERTY\" = value"),
    "version": (HEAD + "[[version]]\nname = '1'\nset = { model = 1 }", "board.toml:5:9: version '1': 'model' = 1: expected \"DRIVER.PROPERTY\" = value"),
    "value": (HEAD + "[values]\na = 'b +'", "board.toml:4:1: expression 'b +', character 4: it ends too early: expected a number or a name"),
    "value unknown": (HEAD + "[values]\na = 'ramsize'", "board.toml:4:1: value 'a': 'ramsize': there is no 'ramsize'; did you mean 'ram-size'"),
    "value circle": (HEAD + "[values]\na = 'b'\nb = 'a + 1'", "board.toml:4:1: 'a' depends on itself: a -> b -> a"),
    "require": (HEAD + "[[require]]\nelse = 'x'", "board.toml:3:1: require: 'that' is required: a condition"),
    "region kind": (HEAD + "[[region]]\nname = 'r'\nkind = 'rma'", "board.toml:5:1: region 'r': 'kind' cannot be 'rma': expected one of 'ram', 'rom', 'alias', 'container'; did you mean 'rom' or 'ram'?"),
    "region needs": (HEAD + "[[region]]\nname = 'r'\nkind = 'ram'", "board.toml:3:1: region 'r': 'size' is required of a region of kind 'ram'"),
    "region key": (HEAD + "[[region]]\nname = 'r'\nkind = 'ram'\nsize = 1\nof = 'x'", "board.toml:7:1: region 'r': 'of' cannot be said of a region of kind 'ram': expected 'in', 'at', 'size', 'priority', 'when'"),
    "region rom": (HEAD + "[[region]]\nname = 'r'\nkind = 'rom'", "board.toml:3:1: region 'r': 'file' or 'property' is required of a region of kind 'rom'"),
    "region file": (HEAD + "[[region]]\nname = 'r'\nkind = 'rom'\nfile = 'no.rom'", "board.toml:6:1: region 'r': no file '{folder}/no.rom'"),
    "region property": (HEAD + "[[region]]\nname = 'r'\nkind = 'rom'\nproperty = 'firmwear'", "board.toml:6:1: region 'r': the machine has no property 'firmwear'; did you mean 'firmware'?"),
    "region alias": (HEAD + "[[region]]\nname = 'r'\nkind = 'alias'\nof = 'x'\nsize = 1", "board.toml:3:1: region 'r': 'at' is required: its offset in what it lies in"),
    "region of": (HEAD + "[[region]]\nname = 'r'\nkind = 'alias'\nof = 'x'\nsize = 1\nat = 0", "board.toml:6:1: region 'r': there is no region 'x'"),
    "region circle": (HEAD + "[[region]]\nname = 'r'\nkind = 'alias'\nof = 'r'\nsize = 1\nat = 0", "board.toml:6:1: 'r' is an alias of itself: r -> r"),
    "region in": (HEAD + "[[region]]\nname = 'r'\nkind = 'ram'\nin = 'memroy'\nsize = 1\nat = 0", "board.toml:6:1: region 'r': 'in' cannot be 'memroy': there is no part or region 'memroy'; did you mean 'memory'?"),
    "region size": (HEAD + "[[region]]\nname = 'r'\nkind = 'ram'\nsize = true", "board.toml:6:1: region 'r': 'size' cannot be True: expected an integer or an expression, as a string"),
    "sha alone": (HEAD + "[[region]]\nname = 'r'\nkind = 'rom'\nproperty = 'firmware'\nsha256 = '00'", "board.toml:7:1: region 'r': 'sha256' is only of use with 'file'"),
    "cpus type": (HEAD + "default-cpu = 'qemu64'\n[cpus]\nof = 'z80-cpu'", "board.toml:5:1: cpus: there is no processor type 'z80-cpu'"),
    "cpus model": (HEAD + "default-cpu = 'qemu46'\n[cpus]", "board.toml:3:1: board: 'default-cpu': unknown processor model 'qemu46'; did you mean 'qemu64'"),
    "cpus none": (HEAD + "[cpus]", "board.toml:3:1: cpus: no processor model: expected 'default-cpu' in [board]"),
    "cpus name": (HEAD + "default-cpu = 'max'\nmax-cpus = 2\n[cpus]\nname = 'cpu'", "board.toml:6:1: cpus: 'name' cannot be 'cpu' for 2 processors: expected '{index}' in it"),
    "cpus apic": (HEAD + "default-cpu = 'max'\n[cpus]\napic-bus = 'x'", "board.toml:5:1: cpus: 'apic-bus': there is no part 'x'"),
    "part nameless": (HEAD + "[[part]]\ntype = 'a'", "board.toml:3:1: part: 'name' is required"),
    "part typeless": (HEAD + "[[part]]\nname = 'a'", "board.toml:3:1: part 'a' is not on this board, and a new one needs a 'type'"),
    "part type": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-brigde'", "board.toml:5:1: part 'a': there is no device type 'isabus-brigde'; did you mean 'isabus-bridge'"),
    "part abstract": (HEAD + "[[part]]\nname = 'a'\ntype = 'sys-bus-device'", "board.toml:5:1: part 'a': type 'sys-bus-device' is abstract and cannot be instantiated"),
    "part no device": (HEAD + "[[part]]\nname = 'a'\ntype = 'chardev-null'", "board.toml:5:1: part 'a': 'chardev-null' is not a device type"),
    "part role": (HEAD + "[[part]]\nname = 'a'\ntype = '{pik}'", "board.toml:5:1: part 'a': no role '{pik}': expected one of '{pic}', '{ioapic}', '{apic}'; did you mean 'pic'"),
    "part bus": (HEAD + "[[part]]\nname = 'a'\ntype = 'i8042'\nbus = 'brigde.isa.0'", "board.toml:6:1: part 'a': bus 'brigde.isa.0': there is no part 'brigde'"),
    "part needs bus": (HEAD + "[[part]]\nname = 'a'\ntype = 'i8042'", "board.toml:5:1: part 'a': 'i8042' needs a bus of type 'isa-bus': expected 'bus'"),
    "part property": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\nprops = { x = 1 }", "board.toml:6:11: part 'a': 'isabus-bridge' has no property 'x'"),
    "part value": (HEAD + "[[part]]\nname = 'a'\ntype = 'i440FX'\nbus = 'a.b'\nprops = { addr = 7, multifunction = 'maybe' }", "board.toml:7:21: part 'a': property 'multifunction' cannot be 'maybe': expected on or off"),
    "part props": (HEAD + "[[part]]\nname = 'a'\ntype = 'b'\nprops = 1", "board.toml:6:1: part 'a': 'props' cannot be 1: expected a table of names and values"),
    "part link": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\nlinks = { pit = 'a' }", "board.toml:6:11: part 'a': 'isabus-bridge' is handed no 'pit'"),
    "part link to": (HEAD + "[[part]]\nname = 'a'\ntype = 'a20-gate'\nlinks = { ram = 'x' }", "board.toml:6:11: part 'a': link 'ram': there is no part 'x'"),
    "part circle": (HEAD + "[[part]]\nname = 'a'\ntype = 'isa-serial'\nbus = 'b.x'\n[[part]]\nname = 'b'\ntype = 'isa-serial'\nbus = 'a.x'", "board.toml:3:1: 'a' needs itself: a -> b -> a"),
    "part for": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\nfor = 'serail[0]'", "board.toml:6:1: 'for' cannot be 'serail[0]': expected serial[N], parallel[N], drive[N], cdrom[N], floppy[N], debugcon or vga"),
    "part twice": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\n[[part]]\nname = 'a'\ntype = 'apic-bus'", "board.toml:6:1: part 'a' is given twice, first by board.toml:3:1: expected a 'when' in each"),
    "part said twice": (HEAD + "[[part]]\nname = 'a'\ntype = 'isa-serial'\nprops = { index = 1 }\nvalues = { index = 1 }", "board.toml:3:1: part 'a': 'index' is given twice, as a property, a link or a value"),
    "part removed": (HEAD + "[[part]]\nname = 'a'\nremove = true", "board.toml:3:1: there is no part 'a' to remove"),
    "part removed and more": (HEAD + "[[part]]\nname = 'a'\ntype = 'b'\nremove = true", "board.toml:5:1: part 'a': 'type' cannot be said of a part that is removed: expected 'name' only"),
    "when": (HEAD + "[[part]]\nname = 'a'\ntype = 'isabus-bridge'\nwhen = 'x'", "board.toml:6:1: part 'a': 'x': there is no 'x'"),
    "wire": (HEAD + "[[wire]]\nfrom = 'a..b'\nto = 'c'", "board.toml:5:1: wire a..b -> c: there is no part 'c'"),
    "wire end": (HEAD + "[[wire]]\nfrom = 'a[1'\nto = 'c'", "board.toml:4:1: line 'a[1': expected <part>.<line>[<n>] or <part>[<n>]"),
    "wire bus": (HEAD + "[[wire]]\nfrom = 'a:int[0]'\nto = 'c'", "board.toml:4:1: line 'a:int[0]': expected <bus>:irq[<n>]"),
    "wire part": (HEAD + "[[part]]\nname = 'bridge'\ntype = 'isabus-bridge'\n[[wire]]\nfrom = 'brigde.isa.0:irq[0]'\nto = 'bridge'", "board.toml:7:1: wire brigde.isa.0:irq[0] -> bridge: there is no part 'brigde'; did you mean 'bridge'?"),
    "wire twice": (HEAD + "[[wire]]\nfrom = 'a'\nto = 'b'\n[[wire]]\nfrom = 'a[0]'\nto = 'c'", "a[0] is wired twice, first by board.toml:3:1: an output drives one line"),
    "wire removed": (HEAD + "[[wire]]\nfrom = 'a'\nto = 'b'\nremove = true", "board.toml:3:1: there is no wire a -> b to remove: a drives nothing"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_has_a_place(tmp_path: Path, name: str) -> None:
    text, wanted = WRONG[name]
    found = problems(tmp_path, text)
    wanted = wanted.replace("{folder}/", "")
    assert any(line.startswith(wanted) or wanted in line for line in found), "\n".join(found)
    for line in found:
        assert line.startswith("board.toml:"), line
        assert "\n" not in line


def test_a_wrong_type_of_a_property_is_said_once(tmp_path: Path) -> None:
    assert problems(tmp_path, WRONG["property type"][0]) == [
        "board.toml:5:1: property 'p': 'type' cannot be 'int': expected one of bool, size, str, int8, uint8, int16,"
        " uint16, int32, uint32, int64, uint64; did you mean 'int8' or 'uint8' or 'int64'?"
    ]


def test_everything_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = problems(tmp_path, "\n".join([
        HEAD, "max-cpu = 3", "[values]", "a = '1 +'", "[[region]]", "name = 'r'", "kind = 'ram'", "[[part]]", "name = 'p'",
        "type = 'isa-debug-exit'", "bus = 'x.y'", "props = { iobase = 'z', iosiz = 1 }", "[[wire]]", "from = 'q'", "to = 'p['",
    ]))  # fmt: skip
    assert [line.split(": ")[0] for line in found] == [
        "board.toml:4:1", "board.toml:6:1", "board.toml:7:1", "board.toml:13:1", "board.toml:14:11", "board.toml:14:25",
        "board.toml:17:1",
    ]  # fmt: skip


def test_qom_check_takes_board_files_and_machine_files_that_use_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, TINY)
    write(tmp_path, TINY.replace("max-cpus", "cpus").replace("isa-debug-exit", "isa-debug-exti"), "bad.toml")
    write(tmp_path, 'machine = { board = "bad.toml" }\n', "vm.toml")
    wrong = [
        "bad.toml:7:1: board.cpus: board: unknown option 'cpus'",
        "bad.toml:30:1: part[1].type: part 'exit': there is no device type 'isa-debug-exti'; did you mean 'isa-debug-exit'",
    ]
    assert qom_main(["check", "board.toml"]) == 0
    assert capsys.readouterr().out == "board.toml: ok\n"
    for file in ("bad.toml", "vm.toml"):
        assert qom_main(["check", file]) == 1
        found = capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()
        assert [line.startswith(text) for line, text in zip(found, wrong, strict=True)] == [True, True], found


def test_a_board_on_a_board_on_a_type(tmp_path: Path) -> None:
    write(tmp_path, '[board]\nname = "one"\nextends = "pc"\ndefault-memory = "32M"\n[values]\nx = "1"\n', "one.toml")
    text = (
        '[board]\nname = "two"\nextends = "one.toml"\n[values]\ny = "x + 1"\n[[part]]\nname = "port92"\nremove = true\n'
    )
    registry = types()
    assert register_board(registry, read_board(write(tmp_path, text, "two.toml"))) == ["two-machine"]
    found = registry.get("two-machine")
    assert found.parent == "pc-i440fx-0.1-machine"
    assert found.cls.default_ram_size == 32 << 20
    board = board_of("two-machine", registry)
    assert board == found.cls.described
    assert {"x", "y", "below-4g"} <= set(board.values)
    assert "port92" not in {part.name for part in board.parts}
    assert "port92" in {part.name for part in board_of("pc-machine", registry).parts}


def test_versions_are_types_and_the_newest_has_the_plain_name(tmp_path: Path) -> None:
    text = """
    [board]
    name = "v"
    aliases = ["vv"]
    desc = "Versioned"

    [[version]]
    name = "2.0"

    [[version]]
    name = "1.0"
    set = { "isa-debug-exit.iobase" = 0x100 }

    [[version]]
    name = "0.9"
    set = { "isa-debug-exit.iobase" = 0x200 }

    [[part]]
    name = "bridge"
    type = "isabus-bridge"

    [[part]]
    name = "exit"
    type = "isa-debug-exit"
    bus = "bridge.isa.0"
    """
    registry = types()
    names = register_board(registry, read_board(write(tmp_path, text)), "somebody")
    assert names == ["v-2.0-machine", "v-1.0-machine", "v-0.9-machine"]
    assert registry.aliases("v-2.0-machine") == {"v-machine": "v-2.0-machine", "vv-machine": "v-2.0-machine"}
    assert registry.get("v-machine").desc == "Versioned, version 2.0"
    assert registry.get("v-0.9-machine").origin == "somebody"
    for name, port in (("v", 0x501), ("v-1.0", 0x100), ("v-0.9", 0x200)):
        with machine("-M", name, registry=registry) as vm:
            assert vm.root.resolve("/machine/exit").get("iobase") == port
    with machine("-M", "v-0.9", "-global", "isa-debug-exit.iobase=0x300", registry=registry) as vm:
        assert vm.root.resolve("/machine/exit").get("iobase") == 0x300  # the user's word counts


def test_properties_are_shown_and_taken_like_any_others(tmp_path: Path) -> None:
    text = HEAD + (
        '[[property]]\nname = "turbo"\ntype = "bool"\ndefault = false\ndesc = "Whether to hurry"\n'
        '[[property]]\nname = "depth"\ntype = "uint8"\ndefault = 3\nmin = 1\nmax = 9\nunit = "m"\ndesc = "How deep"\n'
    )
    registry = types()
    register_board(registry, read_board(write(tmp_path, text)))
    lines = [" ".join(line.split()) for line in help_text(registry, "machine", "b").splitlines()]
    assert "turbo=<bool> - Whether to hurry (default: off)" in lines
    assert "depth=<uint8> - How deep (default: 3 m; 1..9)" in lines
    with machine("-M", "b,turbo=on,depth=9", registry=registry) as vm:
        assert (vm.machine.get("turbo"), vm.machine.get("depth")) == (True, 9)
    with pytest.raises(
        ConfigError, match=r"-M b,depth=10: /machine: property 'depth' cannot be '10': expected an integer in 1\.\.9"
    ):
        machine("-M", "b,depth=10", registry=registry).__enter__()
