"""Configuration files: TOML and INI say the same as a command line, and every error has its line."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qom.cli.options import CommandLine
from qom.config import ConfigBuilder, MachineConfig, load, read_ini, toml_lines
from qom.errors import ConfigError

# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

Write = Callable[[str], Path]

TOML = """\
name = "vm1"            # a comment with [brackets] and "quotes"
firmware = "bios.bin"
serial = ["file:a.log", "null"]
debugcon = "null"
paused = true
no-reboot = true
cpu = "qemu64,+sse4.1,-apic"

[machine]
type = "pc"
accel = "kvm:simulated"
fast = true

[smp]
cpus = 4
sockets = 2

[memory]
size = "1.5G"

[[device]]
driver = "isa-serial"
id = "s1"
iobase = 0x2f8

[[device]]
driver = "isa-debugcon"

[[drive]]
file = "disk.img"

[[chardev]]
backend = "socket"
id = "c0"
path = "/tmp/s"

[[global]]
driver = "isa-serial"
property = "irq"
value = 3

[[numa]]
cpus = [0, 1]

[[numa]]
cpus = "2-3"

[log]
file = "log"
categories = ["int", "exec"]
"""

INI = """\
# the same
[name]
  guest = "vm1"
[machine]
  type = "pc"
  accel = "kvm:simulated"
  fast = "true"
  firmware = "bios.bin"
[cpu]
  model = "qemu64"
  features = "+sse4.1,-apic"
[smp-opts]
  cpus = "4"
  sockets = "2"
[memory]
  size = "1536"
[device "s1"]
  driver = "isa-serial"
  iobase = "760"
[device]
  driver = "isa-debugcon"
[drive]
  file = "disk.img"
[chardev "c0"]
  backend = "socket"
  path = "/tmp/s"
[global]
  driver = "isa-serial"
  property = "irq"
  value = "3"
[numa]
  type = "node"
  cpus = "0-1"
[numa]
  cpus = "2-3"
"""

ARGV = shlex.split(
    "-name vm1 -bios bios.bin -serial file:a.log -serial null -debugcon null -S -no-reboot -cpu qemu64,+sse4.1,-apic"
    " -M pc,accel=kvm:simulated,fast=true -smp 4,sockets=2 -m 1.5G -device isa-serial,id=s1,iobase=760"
    " -device isa-debugcon -drive file=disk.img -chardev socket,id=c0,path=/tmp/s -global isa-serial.irq=3"
    " -numa node,cpus=0-1 -numa node,cpus=2-3 -D log -d int,exec"
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "vm.toml"
        path.write_text(text)
        return path

    return write


def bare(value: Any) -> Any:
    """The same without origins, and with property values as text."""
    if isinstance(value, MachineConfig):
        return {f.name: bare(getattr(value, f.name)) for f in attrs.fields(MachineConfig) if f.name != "origins"}
    if attrs.has(type(value)):
        return {f.name: bare(getattr(value, f.name)) for f in attrs.fields(type(value)) if f.name != "origin"}
    if isinstance(value, list):
        return [bare(v) for v in value]
    if isinstance(value, dict):
        return {k: {True: "true"}.get(v, str(v)) if not isinstance(v, str) else v for k, v in value.items()}
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_three_spellings_of_one_model(write: Write, tmp_path: Path) -> None:
    from_toml = bare(load(write(TOML)))
    assert from_toml == bare(CommandLine().parse(ARGV).builder.finish())
    ini = tmp_path / "vm.ini"
    ini.write_text(INI)
    rest = shlex.split("-serial file:a.log -serial null -debugcon null -S -no-reboot -D log -d int,exec")
    assert from_toml == bare(CommandLine().parse(["-readconfig", str(ini), *rest]).builder.finish())


def test_every_entry_knows_its_line(write: Write) -> None:
    path = write(TOML)
    made = load(path)
    assert made.machine.origin == f"{path}:9"
    assert made.smp.origin == f"{path}:14"
    assert [d.origin for d in made.devices] == [f"{path}:21", f"{path}:26"]
    assert made.origin_of("firmware") == f"{path}:2" and made.origin_of("memory") == f"{path}:18"
    assert [n.origin for n in made.numa] == [f"{path}:42", f"{path}:45"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('name = "x"\nname = "y"\n', 2, "not TOML: Cannot overwrite a value"),
        ('name = "x\n', 1, "not TOML: Illegal character '\\n'"),
        ("[machine]\n[smp]\ncpus = 3\ncores = 2\n", 2, "smp: sockets (1) * cores (2) * threads (1) is 2: expected 3,"
         " the number of cpus"),
        ("\n\nmachin = 1\n", 3, "unknown key 'machin'; did you mean 'machine'?"),
        ("name = 1\n", 1, "'name' cannot be 1: expected a string"),
        ("\npaused = 1\n", 2, "'paused' cannot be 1: expected true or false"),
        ('device = "isa-serial"\n', 1, "'device' cannot be 'isa-serial': expected a [[device]] table"),
        ('[[device]]\ndriver = "a"\n[[device]]\nid = "x"\n', 3, "device: 'driver' is required"),
        ('[[drive]]\nfile = "x"\nfile-name = "y"\n', 3, "drive: unknown option 'file-name'; did you mean 'file'?"),
        ('[[drive]]\nfile = "x"\nreadonly = 1\n', 3, "drive: 'readonly' cannot be 1: expected on or off"),
        ('# x\n[log]\ncategories = ["intt"]\n', 2, "unknown log category 'intt': expected some of"
         " guest_errors, unimp, int, exec, exits, mmu, cpu_reset, io, reset; did you mean 'int'?"),
        ('[memory]\nsize = 1.5\n', 2, "memory: 'size' cannot be 1.5: expected a size, such as 512M or 1.5G"),
        ('include = "absent.toml"\n', 1, "include: no file '{dir}/absent.toml'"),
        ("[[global]]\ndriver = 'a'\nproperty = 'b'\n", 1, "global: 'value' is required"),
        ("serial = 3\n", 1, "'serial' cannot be 3: expected a string or a list of strings"),
        ('[cpu]\nmodel = "max"\nfeatures = ["a"]\n', 1, "cpu: 'features' cannot be ['a']: expected a table of"
         " feature = true or false"),
        ("[[device]]\ndriver = 'a'\nrepeat = -1\n", 3, "device: 'repeat' cannot be -1: expected an integer in 0..4096"),
    ],
)  # fmt: skip
def test_errors_have_file_and_line(write: Write, text: str, line: int, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value) == f"{path}:{line}: {message.replace('{dir}', str(path.parent))}"


def test_repetition_and_inclusion(write: Write, tmp_path: Path) -> None:
    (tmp_path / "parts.toml").write_text('name = "inner"\n[[device]]\ndriver = "first"\n')
    path = write(
        'include = ["parts.toml"]\nname = "outer"\n[[device]]\nrepeat = 3\ndriver = "isa-serial"\nid = "s{n}"\nindex = "{n}"\n'
    )
    made = load(path)
    assert made.name == "outer"
    assert [(d.driver, d.id, d.props) for d in made.devices] == [
        ("first", None, {}),
        ("isa-serial", "s0", {"index": "0"}),
        ("isa-serial", "s1", {"index": "1"}),
        ("isa-serial", "s2", {"index": "2"}),
    ]
    assert made.devices[0].origin == f"{tmp_path}/parts.toml:2"
    (tmp_path / "parts.toml").write_text('include = "vm.toml"\n')
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value) == f"{path}:1: the file includes itself: {path} -> {tmp_path}/parts.toml -> {path}"


def test_options_come_on_top_of_a_file(write: Write) -> None:
    from qom.config import read_toml

    line = CommandLine()
    read_toml(line.builder, write(TOML))
    made = line.parse(["-m", "64", "-device", "third"]).builder.finish()
    assert made.memory == 64 << 20 and [d.driver for d in made.devices] == ["isa-serial", "isa-debugcon", "third"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = \"1\"\n", 1, "a value outside any section: expected [section] first"),
        ("[device]\ndriver = x\n", 2, "'driver = x' is no [section \"id\"] and no key = \"value\""),
        ("\n[divice]\n", 2, "unknown section 'divice'; did you mean 'device' or 'drive'?"),
        ("[device \"a\"]\n", 1, "device: 'driver' is required"),
    ],
)  # fmt: skip
def test_ini_errors(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "vm.ini"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_ini(ConfigBuilder(), path)
    assert str(error.value) == f"{path}:{line}: {message}"


def test_positions_in_awkward_toml() -> None:
    text = '''\
"quoted key" = 1
a.b."c.d" = """
[not.a.table]
key = "no \\""" key"
""""
[[x]]
y = [
  1, # ]
  { z = "]" },
]
[[x.inner]]
w = \'\'\'
[[no]]\'\'\'
[[x]]
[[x.inner]]
[[x.inner]]
  [ x . "table" ]
v = { a = [1, 2], b = "#" } # c
'''
    data = tomllib.loads(text)
    lines = toml_lines(text)
    assert lines[("quoted key",)] == 1
    assert lines[("a", "b", "c.d")] == 2
    assert lines[("x", 0)] == 6 and lines[("x", 0, "y")] == 7
    assert lines[("x", 0, "y", 0)] == 8 and lines[("x", 0, "y", 1)] == 9
    assert lines[("x", 0, "inner", 0)] == 11 and lines[("x", 0, "inner", 0, "w")] == 12
    assert lines[("x", 1)] == 14 and lines[("x", 1, "inner", 1)] == 16
    assert lines[("x", 1, "table")] == 17 and lines[("x", 1, "table", "v")] == 18
    for path in lines:
        here: Any = data
        for key in path:
            here = here[key]  # every position is that of something in the data


SCALAR = st.one_of(st.integers(), st.booleans(), st.text(alphabet="ab\"\\\n[]{}#=,.' é", max_size=8))
KEY = st.text(alphabet="ab.\"'= #[", min_size=1, max_size=4)


def toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[\n" + "".join(f"  {toml_text(v)},\n" for v in value) + "]"
    if isinstance(value, str):
        escaped = "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n"}.get(c, c) for c in value)
        return f'"{escaped}"'
    return str(value)


@STEADY
@given(
    st.dictionaries(KEY, st.dictionaries(KEY, st.one_of(SCALAR, st.lists(SCALAR, max_size=3)), max_size=3), max_size=4)
)
def test_positions_of_generated_toml(data: dict[str, dict[str, Any]]) -> None:
    text, wanted, line = "", {}, 1
    for table, entries in data.items():
        wanted[(table,)] = line
        text += f"[{toml_text(table)}]\n"
        line += 1
        for key, value in entries.items():
            wanted[(table, key)] = line
            text += f"{toml_text(key)} = {toml_text(value)}\n"
            line = text.count("\n") + 1
    assert tomllib.loads(text) == data
    lines = toml_lines(text)
    assert {path: lines[path] for path in wanted} == wanted
