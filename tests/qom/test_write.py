"""Writing the model out: reading it back gives the same, in every format, and a person can read it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_configs import bare, configs, values

from qom import TypeRegistry, default_registry
from qom.cli.options import CommandLine
from qom.config import DeviceEntry, MachineConfig, load
from qom.config.write import FORMATS, as_data, dumps, format_of
from qom.errors import ConfigError

# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, suppress_health_check=list(HealthCheck))


def parsed(text: str, format: str) -> Any:
    return {"toml": tomllib.loads, "json": json.loads, "yaml": yaml.safe_load}[format](text)


def config(*argv: str) -> MachineConfig:
    return CommandLine().parse(argv).builder.finish()


@pytest.fixture(scope="module")
def types() -> TypeRegistry:
    return default_registry()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written")


@pytest.mark.slow
@STEADY
@given(configs())
def test_reading_back_gives_the_same(folder: Path, made: MachineConfig) -> None:
    for format in FORMATS:
        file = folder / f"vm.{format}"
        file.write_text(dumps(made, format), encoding="utf-8", newline="")
        assert bare(load(file)) == bare(made)


@STEADY
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), values))
def test_every_format_holds_the_same_data(props: dict[str, Any]) -> None:
    made = MachineConfig(devices=[DeviceEntry("isa-serial", props={**props, "iobase": 0x2F8})])
    wanted = as_data(made)
    for format in FORMATS:  # as anybody's reader sees it
        assert parsed(dumps(made, format), format) == wanted


LAB = [
    "-M", "pc,a20-gate=off", "-accel", "kvm:simulated", "-cpu", "qemu64,+sse4.1,-apic", "-smp", "4,sockets=2",
    "-m", "1.5G", "-numa", "node,cpus=0-1", "-numa", "node,cpus=2-3", "-numa", "dist,src=0,dst=1,val=20",
    "-serial", "file:serial.log", "-serial", "none", "-serial", "chardev:c0", "-debugcon", "null",
    "-chardev", "socket,id=c0,path=/run/c0,server=on", "-hda", "disk.img",
    "-drive", "file=data.img,if=none,id=data,readonly=on", "-boot", "order=c", "-no-reboot", "-d", "int", "-D", "log",
    "-device", '{"driver": "isa-ide", "id": "second", "iobase": 488}', "-global", "ide-hd.model=LAB DISK",
    "-name", "lab",
]  # fmt: skip
LAB_TOML = """\
name = "lab"
accel = "kvm:simulated"
memory = "1536M"
serial = ["file:serial.log", "none", "chardev:c0"]
debugcon = "null"

[machine]
type = "pc"
a20-gate = "off"

[cpu]
model = "qemu64"
features = { "sse4.1" = true, apic = false }

[smp]
cpus = 4
sockets = 2

[[numa]]
nodeid = 0
cpus = "0-1"

[[numa]]
nodeid = 1
cpus = "2-3"

[[numa]]
type = "dist"
src = 0
dst = 1
val = 20

[boot]
order = "c"

[action]
reboot = "shutdown"

[[chardev]]
backend = "socket"
id = "c0"
path = "/run/c0"
server = "on"

[[drive]]
file = "disk.img"
index = 0

[[drive]]
id = "data"
file = "data.img"
if = "none"
readonly = true

[[device]]
driver = "isa-ide"
id = "second"
iobase = 0x1e8

[[global]]
driver = "ide-hd"
property = "model"
value = "LAB DISK"

[log]
file = "log"
categories = ["int"]
"""
LAB_YAML_START = """\
name: lab
machine:
  type: pc
  a20-gate: 'off'
accel: kvm:simulated
cpu:
  model: qemu64
  features:
    sse4.1: true
    apic: false
smp:
  cpus: 4
  sockets: 2
memory: "1536M"
numa:
  - nodeid: 0
    cpus: "0-1"
"""


def test_a_file_is_written_for_people(types: TypeRegistry) -> None:
    made = config(*LAB)
    assert dumps(made, "toml", types) == LAB_TOML
    assert dumps(made, "yaml", types).startswith(LAB_YAML_START)
    assert "    iobase: 0x1e8\n" in dumps(made, "yaml", types)
    data = json.loads(dumps(made, "json", types))
    assert data == tomllib.loads(LAB_TOML) and list(data)[:3] == ["name", "machine", "accel"]
    assert "iobase = 488\n" in dumps(made)  # no registry, nobody to say that it is a port


def test_what_goes_without_saying_is_not_said() -> None:
    assert dumps(config()) == '[machine]\ntype = "pc-i440fx"\n'
    assert dumps(config("-nodefaults")) == 'nodefaults = true\n\n[machine]\ntype = "pc-i440fx"\n'
    assert as_data(config("-smp", "8"))["smp"] == {"cpus": 8}
    assert as_data(config("-smp", "2,maxcpus=8"))["smp"] == {"cpus": 2, "maxcpus": 8}
    assert as_data(config("-smp", "2,maxcpus=8,threads=2"))["smp"] == {
        "cpus": 2,
        "maxcpus": 8,
        "sockets": 1,
        "cores": 4,
    }
    assert as_data(config("-m", "300000B"))["memory"] == "300000B"
    assert as_data(config("-m", "3k"))["memory"] == "3k"


def test_ports_that_share_a_back_end_refer_to_it() -> None:
    made = config("-serial", "chardev:serial0", "-debugcon", "chardev:serial0", "-chardev", "null,id=serial0")
    data = as_data(made)
    assert (data["serial"], data["debugcon"]) == (["chardev:serial0"], "chardev:serial0")
    assert data["chardev"] == [{"backend": "null", "id": "serial0"}]


def test_long_lists_are_broken() -> None:
    names = [f"category-{n}-of-a-long-list" for n in range(5)]
    made = MachineConfig(devices=[DeviceEntry("x", props={"list": names, "short": [1, 2]})])
    text = dumps(made)
    assert 'list = [\n    "category-0-of-a-long-list",\n' in text and "short = [1, 2]\n" in text
    assert tomllib.loads(text)["device"] == [{"driver": "x", "list": names, "short": [1, 2]}]


def test_what_cannot_be_written_is_said() -> None:
    made = MachineConfig(devices=[DeviceEntry("x", props={"a": None})])
    with pytest.raises(ConfigError) as error:
        dumps(made)
    assert str(error.value) == (
        "device.a: None cannot be written into a file: expected text, a number, true or false, a list or a table"
    )
    with pytest.raises(
        ConfigError, match=r"^unknown format 'tomll': expected one of toml, json, yaml; did you mean 'toml'\?$"
    ):
        dumps(MachineConfig(), "tomll")


def test_a_name_says_the_format() -> None:
    assert [format_of(n) for n in ("a.toml", "b/c.JSON", "x.yml", "x.yaml", "dir.d/plain")] == [
        "toml", "json", "yaml", "yaml", "toml"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"^vm.ini: cannot be written: expected a name that ends in .toml, .json"):
        format_of("vm.ini")
