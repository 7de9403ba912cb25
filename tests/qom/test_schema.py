"""The file format as a JSON Schema, judged by the stock validator: right passes, wrong is found in its place."""

from __future__ import annotations

import enum
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, SchemaError

from qom import Object, QomError, UserCreatable, alias, child, default_registry, link, prop, type_init
from qom.cli.main import main
from qom.cli.options import CommandLine
from qom.config import KEYS, ConfigBuilder
from qom.config.check import check
from qom.config.document import Document, Node
from qom.config.files import read_document_into
from qom.config.schema import file_schema, type_schema
from qom.config.write import as_data
from qom.errors import ConfigError
from qom.hw import IsaDevice
from qom.properties import Property

# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@type_init("tests-bulb")
class Bulb(Object):
    """What shines."""

    watts: int = prop(5, "Power", type="uint16", max=100, unit="W")


@type_init("tests-schema-lamp", aliases=("tests-lantern",))
class Lamp(IsaDevice):
    """A device from outside with a property of every kind."""

    hotpluggable = True
    bulb: Bulb = child("tests-bulb", "The bulb")
    watts = alias("bulb", "watts", "Power of the bulb")
    colour: Colour = prop(Colour.RED, "Colour")
    mode: str = prop("fast", "Mode", among=("fast", "slow"))
    level: int = prop(2, "Level", type="uint8", among=(1, 2, 4))
    switch_on: bool = prop(True, "Whether it is on")
    reserve: int = prop(1 << 16, "Memory", type="size", max=1 << 20)
    steps: list[int] = prop([], "Steps", type="list<uint8>")
    notes: dict[str, str] = prop({}, "Notes", type="dict<str>")
    peer: Any = link("tests-schema-note", "Whom it lights", required=True)


@type_init("tests-schema-note")
class Note(Object, UserCreatable):
    """A user object."""

    text: str = prop("", "What it says")


TYPES = default_registry()
for cls in (Bulb, Lamp, Note):
    TYPES.register(cls, "tests")


JUDGE = Draft202012Validator(file_schema(TYPES))


def test_it_is_a_schema(check_schema: Callable[[Any], None]) -> None:
    check_schema(file_schema(TYPES))
    check_schema(type_schema(TYPES, "tests-schema-lamp"))


@pytest.mark.parametrize(
    "wrong", [{"type": "integre"}, {"description": 5}, {"$ref": 5}, {"anyOf": []}, {"minimum": "5"}], ids=json.dumps
)
def test_what_is_no_schema_is_seen(wrong: dict[str, Any], check_schema: Callable[[Any], None]) -> None:
    """However deep, and beside parts that were seen before."""
    made = type_schema(TYPES, "tests-schema-lamp")
    part = made["$defs"]["device.tests-schema-lamp"]["properties"]["level"]
    part["anyOf"] = [*part["anyOf"], {"type": "object", "properties": {"right": part["anyOf"][0], "other": wrong}}]
    with pytest.raises(SchemaError):
        check_schema(made)


def test_it_knows_every_key() -> None:
    assert set(file_schema(TYPES)["properties"]) == set(KEYS)


def test_it_tells_what_the_registry_tells() -> None:
    lamp = file_schema(TYPES)["$defs"]["device.tests-schema-lamp"]
    told = lamp["properties"]
    assert lamp["description"] == "A device from outside with a property of every kind"
    assert told["colour"] == {
        "anyOf": [{"enum": ["red", "blue"]}, {"$ref": "#/$defs/filled"}], "description": "Colour", "default": "red"
    }  # fmt: skip
    assert told["watts"]["description"] == "Power of the bulb" and told["watts"]["anyOf"][0]["maximum"] == 100
    assert told["reserve"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 1 << 20}
    assert told["level"]["anyOf"][0] == {"enum": [1, 2, 4]}
    assert (told["switch-on"]["default"], told["switch_on"]["deprecated"]) == (True, True)
    assert "realized" not in told and "bulb" not in told
    assert type_schema(TYPES, "tests-schema-lamp")["required"] == ["driver", "peer"]


RIGHT = {
    "nothing": "",
    "everything": """
name = "lab"
uuid = "0d5f4b9e-8f9d-4a57-9a35-1f8f3f3f3f3f"
cpu = "qemu64,+sse4.1"
memory = "1.5G"
smp = 4
boot = "dc"
serial = ["stdio", "none", "chardev:c", "tcp:[::1]:44"]
debugcon = "file:a b"
paused = true
snapshot = "${writes}"
include = "base.toml"
remove = ["x"]
[variables]
writes = "on"
count = { required = true, desc = "how many" }
[machine]
type = "pc"
a20_gate = "off"
rtc-base = "2024-01-01T00:00:00"
accel = ["kvm", "simulated"]
[[numa]]
cpus = [0, "1-2"]
mem = 512
[[numa]]
type = "dist"
src = 0
dst = 1
val = 20
[[accel]]
name = "kvm:simulated"
[[accel]]
accel = "kvm"
kernel-irqchip = "split"
[[drive]]
file = "a.img"
if = "none"
id = "d{n}"
repeat = 3
[[device]]
driver = "isa-serial"
repeat = [0x3f8, 0x2f8]
id = "com{n}"
iobase = "{item}"
irq = "4"
[[device]]
id = "base-brought-it"
iobase = 0x300
[[device]]
driver = "${driver}"
whatever = 1
[[global]]
driver = "ide-hd"
property = "model"
value = 3
[log]
categories = ["int", "exits"]
file = "log"
""",
    "a board, changed": """
machine = { board = "tiny.toml", anything = 1 }
part = [{ name = "a", remove = true }, { name = "b", props = { iobase = 0x140 }, links = { ram = "ram" }, when = "smp > 1" }]
wire = { from = "a[{n}]", to = "b[0]", repeat = 2 }
region = [{ name = "ram", size = "2M", at = 0 }]
""",
    "one entry without a list": """
device = { driver = "tests-lantern", peer = "n", steps = [1, "2"], notes = { a = "b" }, level = "4", mode = "slow" }
object = { qom-type = "tests-schema-note", id = "n" }
chardev = { backend = "socket", id = "c", path = "/x", nowait = "on" }
""",
    "kinds as text": """
accel = "kvm:simulated"
machine = "pc-i440fx-0.1-machine"
device = { driver = "tests-schema-lamp", peer = "/objects/n", reserve = "1.5k", steps = "1,2", notes = "a=b" }
""",
    "switches as text": 'device = { driver = "tests-schema-lamp", peer = "n", switch-on = "YES" }',
    "what a global gives is not required": """
device = [{ driver = "tests-schema-lamp" }]
global = [{ driver = "tests-schema-lamp", property = "peer", value = "/objects/n" }]
""",
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str) -> None:
    assert [f"{e.json_path}: {e.message}" for e in JUDGE.iter_errors(tomllib.loads(RIGHT[name]))] == []


WRONG = [
    ('nam = "x"', "$"),
    ("name = 3", "$.name"),
    ('uuid = "1"', "$.uuid"),
    ('machine = "pcc"', "$.machine"),
    ('machine = { type = "pcc" }', "$.machine.type"),
    ('machine = { type = "pc", a20-gat = true }', "$.machine"),
    ("machine = { a20-gat = true }", "$.machine"),
    ('machine = { a20-gate = "maybe" }', "$.machine['a20-gate']"),
    ('machine = { type = "none", a20-gate = true }', "$.machine"),
    ('accel = "kwm"', "$.accel"),
    ('accel = { accel = "kvm", trace = true }', "$.accel"),
    ('accel = [{ accel = "kvm", kernel-irqchip = 1 }]', "$.accel[0]['kernel-irqchip']"),
    ("accel = [{ }]", "$.accel[0]"),
    ('cpu = "qemu46"', "$.cpu"),
    ('cpu = { model = "max", featurs = {} }', "$.cpu"),
    ('cpu = { model = "max", features = { sse = [1] } }', "$.cpu.features.sse"),
    ("smp = 0", "$.smp"),
    ("smp = { cpus = 2, core = 2 }", "$.smp"),
    ("smp = { dies = 2 }", "$.smp.dies"),
    ('memory = "lots"', "$.memory"),
    ("memory = { size = 1.5 }", "$.memory.size"),
    ("numa = [{ nodeid = 128 }]", "$.numa[0].nodeid"),
    ('numa = [{ type = "dist", src = 0, dst = 1 }]', "$.numa[0]"),
    ('numa = [{ type = "dist", src = 0, dst = 1, val = 300 }]', "$.numa[0].val"),
    ('boot = "cc"', "$.boot"),
    ('boot = { order = "x" }', "$.boot.order"),
    ('serial = ["modem"]', "$.serial"),
    ('debugcon = "chardev:"', "$.debugcon"),
    ("paused = 1", "$.paused"),
    ("device = 3", "$.device"),
    ("[[device]]\nid = 'a'", "$.device[0]"),
    ('device = [{ driver = "isa-serail" }]', "$.device[0].driver"),
    ('device = [{ driver = "ps2-kbd" }]', "$.device[0].driver"),
    ('device = [{ driver = "isa-serial", id = "9" }]', "$.device[0].id"),
    ('device = [{ driver = "isa-serial", irqq = 1 }]', "$.device[0]"),
    ('device = [{ driver = "isa-serial", irq = 16 }]', "$.device[0].irq"),
    ('device = [{ driver = "isa-serial", irq = "four" }]', "$.device[0].irq"),
    ('device = [{ driver = "isa-serial", irq = 1.5 }]', "$.device[0].irq"),
    ('device = [{ driver = "isa-serial" }, { driver = "isa-serial", pacing = 1 }]', "$.device[1].pacing"),
    ('device = [{ driver = "isa-serial", repeat = -1 }]', "$.device[0].repeat"),
    ('device = { driver = "isa-serial", chardev = 1 }', "$.device.chardev"),
    ('device = [{ driver = "tests-schema-lamp" }]', "$.device[0]"),
    ('device = [{ driver = "tests-lantern", peer = "n", colour = "green" }]', "$.device[0].colour"),
    ('device = [{ driver = "tests-lantern", peer = "n", mode = "medium" }]', "$.device[0].mode"),
    ('device = [{ driver = "tests-lantern", peer = "n", level = 3 }]', "$.device[0].level"),
    ('device = [{ driver = "tests-lantern", peer = "n", watts = 101 }]', "$.device[0].watts"),
    ('device = [{ driver = "tests-lantern", peer = "n", reserve = "2x" }]', "$.device[0].reserve"),
    ('device = [{ driver = "tests-lantern", peer = "n", steps = [1, 256] }]', "$.device[0].steps"),
    ('device = [{ driver = "tests-lantern", peer = "n", notes = 1 }]', "$.device[0].notes"),
    ('device = [{ driver = "tests-lantern", peer = "n", bulb = "b" }]', "$.device[0]"),
    ('object = [{ qom-type = "tests-schema-note" }]', "$.object[0]"),
    ('object = [{ qom-type = "tests-note-schema", id = "n" }]', "$.object[0]['qom-type']"),
    ('object = [{ type = "tests-schema-note", id = "n", tekst = "x" }]', "$.object[0]"),
    ('chardev = [{ backend = "file", id = "c" }]', "$.chardev[0]"),
    ('chardev = [{ backend = "files", id = "c", path = "x" }]', "$.chardev[0].backend"),
    ('chardev = [{ backend = "file", path = "x" }]', "$.chardev[0]"),
    ('drive = [{ file = "a", if = "scsi" }]', "$.drive[0].if"),
    ('drive = [{ if = "ide" }]', "$.drive[0]"),
    ('drive = [{ file = "a", index = 4 }]', "$.drive[0].index"),
    ('global = [{ driver = "isa-serail", property = "irq", value = 3 }]', "$.global[0].driver"),
    ('global = [{ driver = "isa-serial", property = "irq" }]', "$.global[0]"),
    ('log = { categories = ["everything"] }', "$.log.categories"),
    ('variables = { "a b" = 1 }', "$.variables"),
    ("variables = { a = { desk = 1 } }", "$.variables.a"),
    ("include = 3", "$.include"),
    ('part = [{ type = "isa-serial" }]', "$.part[0]"),
    ('part = [{ name = "x", prop = {} }]', "$.part[0]"),
    ('wire = [{ from = "a", to = "b" }, { from = "a" }]', "$.wire[1]"),
    ('region = { name = "ram", sise = 3 }', "$.region"),
]


@pytest.mark.parametrize(("text", "path"), WRONG)
def test_what_is_wrong_is_found_in_its_place(text: str, path: str) -> None:
    found = {e.json_path for e in JUDGE.iter_errors(tomllib.loads(text))}
    assert found == {path}


# Agreement with what reads files


def accepted(data: dict[str, Any]) -> bool:
    """Whether the reader takes the file, and the registry every type and value in it."""
    builder = ConfigBuilder()
    try:
        read_document_into(builder, Document("", _nodes(data)))
        config = builder.finish()
        board = config.machine
        return all(
            [
                *(fits("accel", f"{a.name}-accel", a.options) for a in config.accelerators),
                *(fits("chardev", f"chardev-{c.backend}", c.props) for c in config.chardevs),
                *(fits("user-creatable", o.driver, o.props) for o in config.objects),
                *(fits("device", d.driver, d.props) for d in config.devices),
                *(g.driver in TYPES for g in config.globals),
                any(fits("machine", name, board.props) for name in (f"{board.type}-machine", board.type)),
            ]
        )
    except QomError:
        return False


def fits(parent: str, name: str, options: dict[str, Any]) -> bool:
    """Whether there is such a type and it takes these properties and misses none; raises QomError where it does not."""
    if name not in TYPES or not TYPES.get(name).is_a(parent):
        return False
    obj = TYPES.new(name)
    for key, value in options.items():
        if obj.find_property(key).kind != "link" or not isinstance(value, str):
            obj.set(key, value)
    given = {obj.find_property(key).name for key in options}
    return getattr(obj, "user_creatable", True) and all(p.name in given for p in obj.type.required)


def _nodes(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({k: _nodes(v) for k, v in value.items()}, "vm.toml", 1, 1)
    return Node([_nodes(v) for v in value] if isinstance(value, list) else value, "vm.toml", 1, 1)


WORDS = [
    "on",
    "off",
    "3",
    "0x3f8",
    "-1",
    "010",
    " 7 ",
    "1.5k",
    "2M",
    "fast",
    "red",
    "a",
    "n",
    "1,2",
    "{}",
    "[1]",
    "a=b",
    "",
    "x y",
]
any_value = st.one_of(
    st.sampled_from(WORDS), st.integers(-2, 20), st.sampled_from([255, 256, 65535, 1 << 20, 1 << 64]), st.booleans(),
    st.floats(0, 2), st.lists(st.integers(0, 300), max_size=2), st.just({"a": "b"}), st.just({"a": True}),
)  # fmt: skip


KINDS: dict[str, list[Any]] = {
    "bool": [True, False, "on", "No", "1"],
    "size": [0, 4096, "1k", "0x10", "1.5k"],
    "str": ["", "a", "fast", "slow", "c,d", "1f.0"],
    "enum": ["red", "blue"],
    "link": ["n", "/objects/n"],
    "list": [[], [1, "2"], "1,2", "[3]"],
    "dict": [{}, {"a": "b"}, "a=b"],
}


def right_value(found: Property) -> st.SearchStrategy[Any]:
    """Mostly values the property takes, in each of their spellings."""
    return st.sampled_from(KINDS.get(found.kind, [0, 1, 2, 4, "4", "0x2", " 1 "]))


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A file with a few sections, in which most things are right and some are not."""
    data: dict[str, Any] = {}
    kinds = [
        (
            "device",
            "driver",
            ["isa-serial", "tests-schema-lamp", "tests-lantern", "isa-ide", "ide-hd", "i8042", "apic"],
            "",
        ),
        ("object", "qom-type", ["tests-schema-note", "isa-serial"], ""),
        ("chardev", "backend", ["null", "file", "socket", "ringbuf", "modem"], "chardev-"),
        ("accel", "accel", ["kvm", "simulated", "simulated", "tcg"], ""),
        ("machine", "type", ["pc", "none", "pc-i440fx-0.1", "pc", "isa"], ""),
    ]
    for section, key, drivers, prefix in draw(st.lists(st.sampled_from(kinds), max_size=3, unique_by=str)):
        driver = draw(st.sampled_from(drivers))
        full = next(
            (n for n in (f"{prefix}{driver}", f"{driver}-machine", f"{driver}-accel") if n in TYPES), "isa-serial"
        )
        declared = TYPES.get(full).properties
        names = sorted({*declared} - {"realized", "bus"})
        entry: dict[str, Any] = {key: driver} if draw(st.integers(0, 9)) else {}
        if section in ("object", "chardev", "device"):
            entry["id"] = draw(st.sampled_from(["a", "n", "c.0", "9"])) if draw(st.integers(0, 4)) else "x"
        if draw(st.booleans()) and "tests" in full:
            entry["peer"] = "n"
        for name in draw(st.lists(st.sampled_from(names), max_size=3, unique=True)) if names else []:
            spelled = name.replace("-", "_") if draw(st.booleans()) else name
            entry[spelled] = draw(right_value(declared[name]) if draw(st.integers(0, 9)) else any_value)
        for found in TYPES.get(full).required if draw(st.integers(0, 9)) else ():
            entry.setdefault(found.name, draw(right_value(found)))
        data[section] = entry if section == "machine" or draw(st.booleans()) else [entry]
    plain = {
        "name": any_value, "uuid": any_value, "memory": any_value, "boot": st.sampled_from(["c", "cc", "dn"]) | any_value,
        "paused": any_value, "smp": any_value | st.dictionaries(st.sampled_from(["cpus", "cores", "dies", "x"]), any_value),
        "cpu": st.sampled_from(["max", "qemu64,+sse", "qemu64,x"]) | st.fixed_dictionaries({"model": st.just("max")}),
        "serial": st.sampled_from(["null", "modem", "file:x"]) | st.just(["none", "unix:/a,server=on"]) | any_value,
        "numa": st.dictionaries(st.sampled_from(["nodeid", "mem", "cpus"]), any_value),
        "drive": st.fixed_dictionaries({"file": any_value}, optional=dict.fromkeys(["index", "readonly", "media"], any_value)),
        "log": st.fixed_dictionaries({}, optional={"file": any_value, "categories": st.just(["int"]) | any_value}),
        "firmware": any_value, "kernel": any_value, "debugcon": any_value, "snapshot": any_value,
        "global": st.fixed_dictionaries({"driver": st.just("device"), "property": st.just("x"), "value": any_value}),
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from(sorted(plain)), max_size=draw(st.integers(0, 2)), unique=True)):
        data[name] = draw(plain[name])
    return data


@settings(STEADY, max_examples=500)
@given(files())
def test_what_the_reader_takes_passes(made: dict[str, Any]) -> None:
    if accepted(made):
        assert [f"{e.json_path}: {e.message}" for e in JUDGE.iter_errors(made)] == []


@settings(STEADY, max_examples=150)
@given(made=files())
def test_what_check_takes_passes(tmp_path_factory: pytest.TempPathFactory, made: dict[str, Any]) -> None:
    file = tmp_path_factory.getbasetemp() / "checked.json"
    file.write_text(json.dumps(made))
    if check(file, TYPES) == []:
        assert [f"{e.json_path}: {e.message}" for e in JUDGE.iter_errors(made)] == []


def test_what_is_written_passes() -> None:
    argv = [
        "-M", "pc,a20-gate=off", "-accel", "kvm:simulated", "-cpu", "qemu64,+sse4.1,-apic", "-smp", "4,sockets=2",
        "-m", "1.5G", "-numa", "node,cpus=0-1", "-numa", "node,cpus=2-3", "-numa", "dist,src=0,dst=1,val=20",
        "-serial", "file:serial.log", "-serial", "none", "-debugcon", "null", "-hda", "disk.img", "-boot", "order=c",
        "-device", "isa-ide,id=second,iobase=0x1e8", "-global", "ide-hd.model=LAB DISK", "-d", "int", "-D", "log",
    ]  # fmt: skip
    data = as_data(CommandLine().parse(argv).builder.finish(), TYPES)
    assert [f"{e.json_path}: {e.message}" for e in JUDGE.iter_errors(data)] == []


# The command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "machine.schema.json"
    assert main(["schema", "-o", str(out)]) == 0
    schema = json.loads(out.read_text())
    assert schema == file_schema(default_registry())
    assert main(["schema", "--type", "pc"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["title"] == "machine: pc-i440fx-0.1-machine"
    assert Draft202012Validator(made).is_valid({"type": "pc", "a20-gate": False})
    assert not Draft202012Validator(made).is_valid({"type": "pc", "a20-gate": 5})
    assert main(["schema", "file.toml"]) == 1
    assert (
        capsys.readouterr().err
        == "qom: schema: unknown argument 'file.toml': expected [--board | --type NAME] [-o FILE]\n"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("isa-serail", "unknown type 'isa-serail'; did you mean 'isa-serial' or 'isa-parallel'?"),
        ("ps2-kbd", "type 'ps2-kbd' is not one that a file names: expected one of a section machine, accel, object, chardev,"
         " device"),
    ],
)  # fmt: skip
def test_types_no_file_names(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        type_schema(TYPES, name)
    assert str(error.value) == message
