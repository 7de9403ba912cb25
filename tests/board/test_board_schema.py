"""The format of board files as a JSON Schema, judged by the stock validator: right passes, wrong is found in its place."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boards import TINY, types
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_random_boards import PC, STEADY, boards, damaged

from qom import default_registry, prop, type_init
from qom.board import check_board, read_board
from qom.board.files import SECTIONS
from qom.board.schema import board_schema
from qom.cli.main import main
from qom.config.schema import file_schema
from qom.hw import IsaDevice
from qom.scaffold import create, kind_of

ROOT = Path(__file__).parents[2]


@type_init("tests-board-lamp", aliases=("tests-board-lantern",))
class Lamp(IsaDevice):
    """A device from outside, which a board hands something."""

    level: int = prop(2, "Level", type="uint8", among=(1, 2, 4))
    mode: str = prop("fast", "Mode", among=("fast", "slow"))
    reserve: int = prop(1 << 16, "Memory", type="size", max=1 << 20)
    switch_on: bool = prop(True, "Whether it is on")
    table: dict[str, Any]


TYPES = types()
TYPES.register(Lamp, "tests")
JUDGE = Draft202012Validator(board_schema(TYPES))
MACHINES = Draft202012Validator(file_schema(TYPES))


def wrong(data: object, judge: Draft202012Validator = JUDGE) -> list[str]:
    return sorted({error.json_path for error in judge.iter_errors(data)})


def blocks(page: str) -> list[str]:
    """The TOML that a page of the documentation shows."""
    return re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)


def written(page: str) -> list[str]:
    """The boards that a page of the documentation shows."""
    return [block for block in blocks(page) if re.search(r"^\[board\]", block, re.M)]


def checked_and_judged(file: Path, text: str) -> bool:
    """Whether a board is checked without complaint; if it is, it passes."""
    file.write_text(text, encoding="utf-8")
    if check_board(file, TYPES):
        return False
    assert wrong(tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)) == []
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the image that the board with everything has."""
    made = tmp_path_factory.mktemp("boards")
    (made / "a.rom").write_bytes(bytes(4096))
    return made


def test_it_is_a_schema_that_knows_every_key(check_schema: Callable[[Any], None]) -> None:
    schema = board_schema(TYPES)
    check_schema(schema)
    assert set(schema["properties"]) == {*SECTIONS, "variables"}


def test_it_tells_what_the_registry_tells() -> None:
    lamp = board_schema(TYPES)["$defs"]["part.tests-board-lamp"]["properties"]
    assert lamp["type"] == {"description": "A device from outside, which a board hands something"}
    assert lamp["props"]["properties"]["level"] == {
        "anyOf": [
            {"enum": [1, 2, 4]},
            {"type": "string", "pattern": r"^\s*[-+]?(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0+|[1-9][0-9]*)\s*$"},
            {"$ref": "#/$defs/filled"},
        ],
        "description": "Level",
        "default": 2,
    }
    assert set(lamp["links"]["properties"]) == {"table"}
    assert "realized" not in lamp["props"]["properties"]


# Boards that are right


@pytest.mark.parametrize("name", ["none", "pc-i440fx"])
def test_the_boards_in_the_box_pass(name: str) -> None:
    assert wrong(tomllib.loads((ROOT / f"machines/{name}.toml").read_text())) == []


def test_the_boards_of_the_examples_pass() -> None:
    found = [file for file in (ROOT / "examples").rglob("*.toml") if "build" not in file.parts]
    files = [file for file in found if "\n[board]" in file.read_text()]
    assert [file.name for file in files] == ["tinyboard.toml"]
    for file in files:
        data = tomllib.loads(file.read_text())
        assert wrong(data) == ["$.part[0].type"]  # its plugin brings that type
        known = default_registry(load_external=False, paths=[str(file.parents[1])])
        assert wrong(data, Draft202012Validator(board_schema(known))) == []


def test_the_boards_of_the_documentation_pass() -> None:
    shown = written("boards.md")
    assert len(shown) >= 4
    for text in shown:
        assert wrong(tomllib.loads(text)) == []


def test_the_board_of_a_new_distribution_passes(tmp_path: Path) -> None:
    files = create(kind_of("machine", None), "lamp-box", tmp_path / "new", "0.1")
    (file,) = [file for file in files if file.name == "lamp-box.toml"]
    assert wrong(tomllib.loads(file.read_text())) == []


EVERYTHING = """
[variables]
base = 0x300
mode = { default = "fast", desc = "how fast" }
chip = "isa-debug-exit"
times = 2
size = "4k"

[board]
name = "every-thing.1"
aliases = ["all", "${mode}"]
desc = "Everything"
default-cpu = "qemu32"
default-memory = "1.5M"
max-cpus = 2

[[property]]
name = "turbo"
type = "bool"
desc = "Whether it is fast"
default = "off"

[[property]]
repeat = 2
name = "level-{n}"
type = "uint8"
desc = "A level"
required = true
unit = "dB"
min = "{n}"
max = 4
among = [1, 2, 4]

[[property]]
name = "space"
type = "size"
desc = "Room"
default = "64k"

[[version]]
name = "2"

[[version]]
name = 1
set = { "isa-serial.irq" = 4, "ide-hd.model" = "OLD" }

[values]
page = 4096
low = "ram-size if ram-size <= 3584M else min(3G, page * 16) - 0x10"
fast = "turbo and not (accel.pic != 'isa-i8259')"

[[require]]
that = "ram-size >= 64k"
else = "too small"

[[region]]
name = "ram"
kind = "ram"
at = 0
size = "ram-size"

[[region]]
name = "rom"
kind = "rom"
file = "a.rom"
property = "firmware"
sha256 = "00"
granule = "4k"
at = "4G - size"
when = "fast"

[[region]]
repeat = [0, 1]
name = "window{n}"
kind = "alias"
of = "ram"
in = "bridge.isa-memory"
offset = "{4096 * n}"
at = "${size} * {n}"
size = "${size}"
priority = "-1"
readonly = "on"

[[region]]
name = "hole"
kind = "container"
size = "1M"

[cpus]
of = "x86_64-cpu"
name = "cpu{index}"
apic-bus = "apics"
fixed = "no"

[[part]]
name = "bridge"
type = "isabus-bridge"
bus = "system"

[[part]]
name = "pic"
type = "{pic}"
when = true

[[part]]
repeat = 2
name = "lamp{n}"
type = "tests-board-lantern"
bus = "bridge.isa.0"
props = { mode = "${mode}", switch_on = "yes", reserve = "${size}" }
values = { level = "2 if fast else 4" }
links = { table = "ram" }

[[part]]
name = "port"
type = "isa-serial"
bus = "bridge.isa.0"
for = "serial[0]"
props = { iobase = "${base}", irq = "0x4" }
when = "fast or not fast"

[[part]]
repeat = "${times}"
name = "exit{n}"
type = "${chip}"
bus = "bridge.isa.{n - n}"
props = { iobase = "{base + 4 * n}" }

[[part]]
name = "apics"
type = "apic-bus"

[[wire]]
repeat = 8
from = "bridge.isa.0:irq[{n}]"
to = "pic[{n}]"

[[wire]]
from = "pic.intr"
to = "cpu0.intr[0]"
when = "fast"
"""
RIGHT = {
    "a variable without a value": '[variables]\nx = { required = true }\n[board]\nname = "${x}"\n'
    '[[part]]\nname = "p"\ntype = "${x}"\nprops = { any = 1 }\n',
    "on a machine type": '[board]\nname = "a"\nextends = "pc"\n[[part]]\nname = "port92"\nremove = true\n'
    '[[region]]\nname = "x"\nsize = 1\n[[wire]]\nfrom = "a"\nto = "b"\nremove = true\n',
    "on a file": '[board]\nname = "a"\nextends = "base.yaml"\n[[part]]\nname = "p"\nprops = { speed = 2 }\n',
    "one that is repeated": '[board]\nname = "a"\n[part]\nrepeat = 2\nname = "p{n}"\ntype = "isabus-bridge"\n',
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_is_right_passes(text: str) -> None:
    assert wrong(tomllib.loads(text)) == []


def test_a_board_with_everything_passes(folder: Path) -> None:
    assert checked_and_judged(folder / "everything.toml", EVERYTHING)


# Boards that are not

PART = 'part = [{ name = "bridge", type = "isabus-bridge" }, { name = "p", bus = "bridge.isa.0", '
REGION = 'region = [{ name = "r", '
WRONG = [
    ("part = []", "$"),
    ('include = ["x.toml"]', "$"),
    ("parts = []", "$"),
    ('board = { desc = "x" }', "$.board"),
    ('board = { name = "a", descr = "x" }', "$.board"),
    ('board = { name = "a b" }', "$.board.name"),
    ('board = { name = "a", aliases = "b" }', "$.board.aliases"),
    ('board = { name = "a", extends = "pcc" }', "$.board.extends"),
    ('board = { name = "a", extends = "isa-serial" }', "$.board.extends"),
    ('board = { name = "a", default-memory = "lots" }', "$.board['default-memory']"),
    ('board = { name = "a", max-cpus = 5000 }', "$.board['max-cpus']"),
    ('board = { name = "a" }\ncpus = {}', "$.board"),
    ('board = { name = "a", default-cpu = "qemu33" }\ncpus = {}', "$.board['default-cpu']"),
    ('board = { name = "a", default-cpu = "qemu32", max-cpus = 2 }\ncpus = { name = "cpu" }', "$.cpus.name"),
    ('board = { name = "a", default-cpu = "qemu32" }\ncpus = { of = "x86_63-cpu" }', "$.cpus.of"),
    ('board = { name = "a", default-cpu = "qemu32" }\ncpus = { fixt = true }', "$.cpus"),
    ('property = [{ name = "p", type = "int", desc = "d", default = 1 }]', "$.property[0].type"),
    ('property = [{ name = "p", type = "uint8", desc = "d", default = 256 }]', "$.property[0].default"),
    ('property = [{ name = "p", type = "uint8", desc = "d" }]', "$.property[0]"),
    ('property = [{ name = "p", type = "bool", desc = "d", default = true, required = true }]', "$.property[0]"),
    ('property = [{ name = "p", type = "bool", default = true }]', "$.property[0]"),
    ('property = [{ name = "ram-size", type = "bool", desc = "d", default = true }]', "$.property[0].name"),
    ('version = [{ name = "1", set = { model = 1 } }]', "$.version[0].set"),
    ('version = [{ name = "1", sets = {} }]', "$.version[0]"),
    ('version = [{ name = "1", set = [] }]', "$.version[0].set"),
    ('values = { a = "b && c" }', "$.values.a"),
    ("values = { a = true }", "$.values.a"),
    ('values = { a = "640kb" }', "$.values.a"),
    ('require = [{ that = "ram-size > 1" }]', "$.require[0]"),
    ('require = [{ that = 1.5, else = "x" }]', "$.require[0].that"),
    (f'{REGION} kind = "rma", size = 1 }}]', "$.region[0].kind"),
    (f"{REGION} size = 1 }}]", "$.region[0]"),
    (f'{REGION} kind = "ram" }}]', "$.region[0]"),
    (f'{REGION} kind = "ram", size = 1, of = "x" }}]', "$.region[0]"),
    (f'{REGION} kind = "ram", size = 1, sise = 1 }}]', "$.region[0]"),
    (f'{REGION} kind = "rom" }}]', "$.region[0]"),
    (f'{REGION} kind = "rom", property = "firmware", sha256 = "00" }}]', "$.region[0]"),
    (f'{REGION} kind = "alias", of = "r", size = 1 }}]', "$.region[0]"),
    (f'{REGION} kind = "ram", in = "io", size = 1 }}]', "$.region[0]"),
    (f'{REGION} kind = "ram", size = "4 & 2" }}]', "$.region[0].size"),
    (f'{REGION} kind = "ram", size = 1, priority = "high" }}]', "$.region[0].priority"),
    (f'{PART} type = "isa-serail" }}]', "$.part[1].type"),
    (f'{PART} type = "{{pick}}" }}]', "$.part[1].type"),
    (f'{PART} type = "pc-i440fx" }}]', "$.part[1].type"),
    (f'{PART} type = "isa-serial", prop = {{}} }}]', "$.part[1]"),
    (f'{PART} type = "isa-serial", props = {{ iobas = 1 }} }}]', "$.part[1].props"),
    (f'{PART} type = "isa-serial", props = {{ irq = 16 }} }}]', "$.part[1].props.irq"),
    (f'{PART} type = "tests-board-lamp", props = {{ mode = "quick" }} }}]', "$.part[1].props.mode"),
    (f'{PART} type = "tests-board-lamp", props = {{ level = 3 }} }}]', "$.part[1].props.level"),
    (f'{PART} type = "isa-serial", props = {{ bus = 3 }} }}]', "$.part[1].props"),
    (f'{PART} type = "isa-serial", props = {{ realized = true }} }}]', "$.part[1].props"),
    (f'{PART} type = "isa-serial", props = {{ chardev = 3 }} }}]', "$.part[1].props.chardev"),
    (f'{PART} type = "isa-serial", links = {{ iobase = "bridge" }} }}]', "$.part[1].links"),
    (f'{PART} type = "isa-serial", values = {{ iobas = "1" }} }}]', "$.part[1].values"),
    (f'{PART} type = "isa-serial", values = {{ irq = "1 +- &" }} }}]', "$.part[1].values.irq"),
    (f'{PART} type = "port61", links = {{ pot = "bridge" }} }}]', "$.part[1].links"),
    (f'{PART} type = "port61", links = {{ pit = 3 }} }}]', "$.part[1].links.pit"),
    (f'{PART} type = "isa-serial", for = "serials[0]" }}]', "$.part[1].for"),
    ('part = [{ name = "p", type = "isa-serial", bus = "bridge" }]', "$.part[0].bus"),
    ('part = [{ name = "p" }]', "$.part[0]"),
    ('part = [{ type = "isabus-bridge" }]', "$.part[0]"),
    ('part = { name = "p", type = "isabus-bridge" }', "$.part"),
    ('part = [{ name = "p", type = "isabus-bridge", repeat = 5000 }]', "$.part[0].repeat"),
    ('part = [{ name = "p", type = "isabus-bridge", remove = true }]', "$.part[0]"),
    ('wire = [{ from = "a[0", to = "b" }]', "$.wire[0].from"),
    ('wire = [{ from = "a.b:ir[0]", to = "b" }]', "$.wire[0].from"),
    ('wire = [{ from = "a", to = "b:irq[0]" }]', "$.wire[0].to"),
    ('wire = [{ from = "a" }]', "$.wire[0]"),
    ('wire = [{ from = "a", to = "b", when = 1.5 }]', "$.wire[0].when"),
    ('variables = { "a b" = 1 }', "$.variables"),
]


@pytest.mark.parametrize(("text", "path"), WRONG)
def test_what_is_wrong_is_found_in_its_place(text: str, path: str, tmp_path: Path) -> None:
    head = "" if re.match("board", text) or text == "part = []" else 'board = { name = "b" }\n'
    assert wrong(tomllib.loads(head + text)) == [path]
    file = tmp_path / "board.toml"
    file.write_text(head + text)
    assert check_board(file, TYPES)  # it is no stricter than what reads boards


# Agreement with what reads boards


@STEADY
@given(boards())
def test_boards_by_chance_pass(data: dict[str, Any]) -> None:
    assert wrong(data) == []


@settings(STEADY, max_examples=150)
@given(text=damaged())
def test_what_check_takes_of_damaged_text_passes(folder: Path, text: str) -> None:
    checked_and_judged(folder / "damaged.toml", text)


SEEDS = [tomllib.loads(text) for text in (TINY, PC, EVERYTHING)]
VALUES = st.sampled_from(
    [
        "on", "off", "3", "0x3f8", "-1", " 7 ", "1.5k", "2M", "fast", "a", "ram", "p[3]", "a.b", "a.b:irq[1]", "{pic}",
        "system", "size - 1", "max(1, 2)", "not 'a'", "serial[1]", "isa-serial", "", "x y", 0, 1, 2, -1, 255, 256, 1 << 63,
        True, False, 1.5, [], ["a"], [1, 2], {}, {"a": "b"},
    ]
)  # fmt: skip
KEYS = [
    "name", "type", "kind", "at", "size", "when", "remove", "repeat", "values", "fixed", "in", "of", "to", "for", "aliases",
    "readonly", "priority", "default", "min", "props", "links", "that", "max-cpus", "extends", "iobase", "among", "zzz",
]  # fmt: skip


def places(data: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The keys that lead to every table and value of a file."""
    members = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [above, *(path for key, value in members for path in places(value, (*above, key)))]


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """A board of which a value or two are others, or gone, or more."""
    data: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(places(data)[1:] or [("board",)]))
        here: Any = data
        for key in path[:-1]:
            here = here[key]
        what = draw(st.sampled_from(["other", "other", "gone", "more"]))
        if what == "gone":
            del here[path[-1]]
        elif what == "more" and isinstance(here[path[-1]], dict):
            here[path[-1]][draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(VALUES))
        elif isinstance(here, list) or path[-1] in here:
            here[path[-1]] = copy.deepcopy(draw(VALUES))
    return data


@settings(STEADY, max_examples=150)
@given(data=changed())
def test_what_check_takes_of_changed_boards_passes(folder: Path, data: dict[str, Any]) -> None:
    checked_and_judged(folder / "changed.json", json.dumps(data))


# Machine files that change a board


def test_machine_files_know_what_parts_are_made_of() -> None:
    shown = [block for block in blocks("boards.md") if "[board]" not in block]
    assert "remove = true" in "".join(shown)
    for block in shown:
        assert wrong(tomllib.loads(block), MACHINES) == []
    board = 'machine = { board = "x.toml" }\n'
    good = 'part = [{ name = "a", type = "isa-serial", props = { irq = 4 } }, { name = "b", props = { any = 1 } }]'
    assert wrong(tomllib.loads(board + good), MACHINES) == []
    for said, path in [
        ('part = { name = "a", type = "isa-serail" }', "$.part.type"),
        ('part = [{ name = "a", type = "isa-serial", props = { irq = 16 } }]', "$.part[0].props.irq"),
        ('part = [{ name = "a", remove = true, bus = "b.c" }]', "$.part[0]"),
        ('region = [{ name = "a", kind = "ram", of = "b" }]', "$.region[0]"),
        ('region = [{ name = "a", size = "1 +" }, { name = "b", size = "1 & 2" }]', "$.region[1].size"),
        ('wire = [{ from = "a[x]", to = "b" }]', "$.wire[0].from"),
    ]:
        assert wrong(tomllib.loads(board + said), MACHINES) == [path]


# The command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "board.schema.json"
    assert main(["schema", "--board", "-o", str(out)]) == 0
    schema = json.loads(out.read_text())
    assert schema == board_schema(default_registry())
    assert schema["title"] == "Board file of qom"
    assert main(["schema", "--board"]) == 0
    assert json.loads(capsys.readouterr().out) == schema
    assert main(["schema", "--board", "--type", "pc"]) == 1
    assert capsys.readouterr().err == "qom: schema: --board and --type exclude each other: expected one of them\n"


def test_a_board_that_passes_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "board.toml"
    file.write_text(TINY)
    assert wrong(tomllib.loads(TINY)) == [] and read_board(file).name == "tiny"
