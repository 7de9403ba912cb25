"""Configuration files: TOML and INI say the same as a command line, and every error has its line."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from qom.cli.options import CommandLine
from qom.config import ConfigBuilder, MachineConfig, load, read_ini
from qom.errors import ConfigError
from qom.options import at

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
categories = ["int", "exits"]
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
    " -numa node,cpus=0-1 -numa node,cpus=2-3 -D log -d int,exits"
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
    rest = shlex.split("-serial file:a.log -serial null -debugcon null -S -no-reboot -D log -d int,exits")
    assert from_toml == bare(CommandLine().parse(["-readconfig", str(ini), *rest]).builder.finish())


def test_every_entry_knows_its_place(write: Write) -> None:
    path = write(TOML)
    made = load(path)
    assert made.machine.origin == f"{path}:9:1"
    assert made.smp.origin == f"{path}:14:1"
    assert [d.origin for d in made.devices] == [f"{path}:21:1", f"{path}:26:1"]
    assert made.origin_of("firmware") == f"{path}:2:1" and made.origin_of("memory") == f"{path}:19:1"
    assert [n.origin for n in made.numa] == [f"{path}:42:1", f"{path}:45:1"]
    assert at(made.devices[0].origin, "iobase") == f"{path}:24:1"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ('name = "x"\nname = "y"\n', "2:1", "the key 'name' is given twice, first at 1:1"),
        ('name = "x\n', "1:10", "not TOML: Illegal character '\\n'"),
        ("[machine]\n[smp]\ncpus = 3\ncores = 2\n", "2:1", "smp: sockets (1) * cores (2) * threads (1) is 2: expected 3,"
         " the number of cpus"),
        ("\n\nmachin = 1\n", "3:1", "unknown key 'machin'; did you mean 'machine' or 'action'?"),
        ('[machine]\ntype = "pc"\nkernel = "vmlinuz"\n', "3:1", "'kernel' is no property of a machine: expected it at the"
         " top of the file, beside 'machine'"),
        ("name = 1\n", "1:1", "'name' cannot be 1: expected a string"),
        ("\npaused = 1\n", "2:1", "'paused' cannot be 1: expected true or false"),
        ('device = "isa-serial"\n', "1:1", "'device' cannot be 'isa-serial': expected a [[device]] table"),
        ('[[device]]\ndriver = "a"\n[[device]]\nid = "x"\n', "3:1", "device: 'driver' is required"),
        ('[[device]]\ndriver = "a"\n  id = "-"\n', "3:3", "device: id '-' is not legal: expected a letter, then letters,"
         " digits, '-', '.', '_'"),
        ('[[drive]]\nfile = "x"\nfile-name = "y"\n', "3:1", "drive: unknown option 'file-name'; did you mean 'file'?"),
        ('[[drive]]\nfile = "x"\n  readonly = 1\n', "3:3", "drive: 'readonly' cannot be 1: expected on or off"),
        ('# x\n[log]\ncategories = ["int", "intt"]\n', "3:22", "unknown log category 'intt': expected some of"
         " guest_errors, unimp, int, exits, cpu_reset, io, reset; did you mean 'int'?"),
        ('[memory]\nsize = 1.5\n', "2:1", "memory: 'size' cannot be 1.5: expected a size, such as 512M or 1.5G"),
        ('[memory]\nsize = 2024-05-06\n', "2:1", "memory: 'size' cannot be 2024-05-06: expected a size, such as 512M"
         " or 1.5G"),
        ("[[global]]\ndriver = 'a'\nproperty = 'b'\n", "1:1", "global: 'value' is required"),
        ("serial = 3\n", "1:1", "'serial' cannot be 3: expected a string or a list of strings"),
        ('serial = ["null", "modem"]\n', "1:19", "unknown character device 'modem': expected stdio, null, none, pty,"
         " ringbuf, console, file:PATH, pipe:PATH, unix:PATH, tcp:HOST:PORT, telnet:HOST:PORT, udp:HOST:PORT or chardev:ID"),
        ('[cpu]\nmodel = "max"\nfeatures = ["a"]\n', "3:1", "cpu: 'features' cannot be ['a']: expected a table of"
         " feature = true or false, or of property = value"),
        ('machine = { type = "pc", accel = "" }\n', "1:26", "accelerator: cannot be '': expected NAME or NAME:NAME, such as"
         " kvm:simulated"),
    ],
)  # fmt: skip
def test_errors_have_file_line_and_column(write: Write, text: str, place: str, message: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value) == f"{path}:{place}: {message}"


def test_options_come_on_top_of_a_file(write: Write) -> None:
    line = CommandLine(file=str(write(TOML)))
    made = line.parse(["-m", "64", "-device", "third", "-accel", "kvm", "-accel", "x"]).builder.finish()
    assert [a.name for a in made.accelerators] == ["kvm", "x"]
    assert made.memory == 64 << 20 and [d.driver for d in made.devices] == ["isa-serial", "isa-debugcon", "third"]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("x = \"1\"\n", "1:1", "a value outside any section: expected [section] first"),
        ("[device]\n  driver = x\n", "2:3", "'driver = x' is no [section \"id\"] and no key = \"value\""),
        ("[device]\ndriver = \"x\"\n driver = \"y\"\n", "3:2", "the key 'driver' is given twice, first at 2:1"),
        ("\n[divice]\n", "2:1", "unknown section 'divice'; did you mean 'device' or 'drive'?"),
        ("[device \"a\"]\n", "1:1", "device: 'driver' is required"),
    ],
)  # fmt: skip
def test_ini_errors(tmp_path: Path, text: str, place: str, message: str) -> None:
    path = tmp_path / "vm.ini"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_ini(ConfigBuilder(), path)
    assert str(error.value) == f"{path}:{place}: {message}"


def test_a_board_file_is_no_machine(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text('[board]\nname = "tiny"\n')
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert str(refused.value) == (
        f'{path}:1:1: this is a board, not a machine: expected a file with [machine] board = "NAME.toml"'
    )


def test_a_name_that_is_nearly_right_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "machine.toml").write_text("")
    for wrong in ("machin.toml", "machine.tml", "machine.cfg"):
        with pytest.raises(ConfigError) as refused:
            load(tmp_path / wrong)
        assert str(refused.value) == (
            f"{tmp_path / wrong}: cannot be read: No such file or directory; did you mean 'machine.toml'?"
        )
    with pytest.raises(ConfigError, match=r"cannot be read: it is a directory: expected a file$"):
        load(tmp_path)
