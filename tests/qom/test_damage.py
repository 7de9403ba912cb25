"""Damaged files: whatever happens to a valid file, it is valid still or there is an error with its place, never a traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qom import TypeRegistry, default_registry
from qom.config import load
from qom.config.check import check
from qom.config.write import dumps
from qom.errors import ConfigError

# The time an example takes is the machine's business, not the test's.
STEADY = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)

TOML = """\
name = "vm1"  # a comment
uuid = "12345678-1234-1234-1234-123456789abc"
paused = true
serial = ["null", "chardev:c0", "none"]
debugcon = "null"
append = "console=ttyS0 $${x}"
kernel = "${kernel}"
[variables]
kernel = { default = "/dev/null", desc = "the kernel" }
ports = [0x3e8, 0x2e8]
count = 2
[machine]
type = "pc"
accel = "kvm:simulated"
a20-gate = true
[cpu]
model = "qemu64"
features = { "sse4.1" = true, apic = false }
[smp]
cpus = 4
sockets = 2
[memory]
size = "1.5G"
[[device]]
repeat = "${ports}"
driver = "isa-serial"
id = "s{n}"
iobase = "{item}"
irq = "{3 + n % 2}"
chardev = "r{n}"
[[chardev]]
repeat = "${count}"
backend = "ringbuf"
id = "r{n}"
size = 4096
[[device]]
driver = "isa-debugcon"
bus = "isa.0"
iobase = 0x402
[[drive]]
file = "/dev/null"
id = "d0"
if = "none"
readonly = true
[[device]]
driver = "ide-hd"
drive = "d0"
bus = "i.ide.0"
[[device]]
driver = "isa-ide"
id = "i"
iobase = 0x1e8
[[chardev]]
backend = "socket"
id = "c0"
path = "/tmp/s"
server = true
wait = false
[[global]]
driver = "isa-serial"
property = "irq"
value = 3
[[numa]]
cpus = [0, 1]
mem = "768M"
[[numa]]
cpus = "2-3"
mem = "768M"
[[numa]]
type = "dist"
src = 0
dst = 1
val = 20
[boot]
order = "cd"
menu = true
[log]
categories = ["int", "exits"]
[[part]]
name = "port92"
remove = true
[[wire]]
from = "rtc.irq"
to = "pic[3]"
[[region]]
name = "extra"
kind = "ram"
in = "memory"
at = "3G"
size = "1M"
"""


@pytest.fixture(scope="module")
def registry() -> TypeRegistry:
    return default_registry()


def data_of_toml() -> dict[str, Any]:
    import tomllib

    return tomllib.loads(TOML)


INI = """\
# a comment
[machine]
  type = "pc"
  accel = "kvm:simulated"
  kernel = "/dev/null"
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
  chardev = "c0"
[drive "d0"]
  file = "/dev/null"
  if = "none"
[chardev "c0"]
  backend = "ringbuf"
  size = "4096"
[global]
  driver = "isa-serial"
  property = "irq"
  value = "3"
[numa]
  type = "node"
  cpus = "0-1"
[numa]
  cpus = "2-3"
[boot-opts]
  order = "cd"
[name]
  guest = "vm1"
"""

DATA = data_of_toml()
FORMATS = ("toml", "json", "yaml")
TEXTS = {
    "toml": TOML,
    "json": json.dumps(DATA, indent=1),
    "yaml": yaml.safe_dump(DATA, sort_keys=False),
    "cfg": INI,
}


def judge(path: Path, registry: TypeRegistry) -> None:
    """Whatever is in the file: it loads or is refused with a place, and what refuses it is among what the check finds."""
    place = rf"{re.escape(str(path.parent))}/(\w+\.\w+):\d+:\d+: .+"
    refused = None
    try:
        load(path)
    except ConfigError as error:
        refused = str(error)
        assert re.fullmatch(place, refused, re.DOTALL), refused
        assert "\n" not in refused
    problems = check(path, registry)
    for problem in problems:
        assert problem.line >= 1 and problem.column >= 1 and problem.message, problem
        assert Path(problem.file).is_file()
    assert problems or refused is None, refused


@pytest.mark.parametrize("format", TEXTS)
def test_undamaged_it_is_valid(format: str, tmp_path: Path, registry: TypeRegistry) -> None:
    path = tmp_path / f"vm.{format}"
    path.write_text(TEXTS[format])
    load(path)
    assert [str(p) for p in check(path, registry)] == []


CHARS = st.sampled_from(list("\"'[]{}=,:#.-_\\\n \t\r$0189aexn+*%/&!|>~\0é\U0001f600\ud7ff")) | st.characters(
    exclude_categories=["Cs"]
)


@st.composite
def damaged_text(draw: st.DrawFn, text: str) -> str:
    for _ in range(draw(st.integers(1, 4))):
        lines = text.split("\n")
        at = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["delete", "insert", "replace", "swap", "drop", "double", "cut"]))
        n = draw(st.integers(1, 6))
        if kind == "delete":
            text = text[:at] + text[at + n :]
        elif kind == "insert":
            text = text[:at] + draw(st.text(CHARS, min_size=1, max_size=4)) + text[at:]
        elif kind == "replace":
            text = text[:at] + draw(st.text(CHARS, min_size=1, max_size=4)) + text[at + n :]
        elif kind == "cut":
            text = text[:at]
        else:
            first, second = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            if kind == "swap":
                lines[first], lines[second] = lines[second], lines[first]
            elif kind == "drop":
                del lines[first]
            else:
                lines.insert(second, lines[first])
            text = "\n".join(lines)
    return text


@pytest.mark.parametrize("format", TEXTS)
@STEADY
@given(data=st.data())
def test_damaged_text(format: str, tmp_path: Path, registry: TypeRegistry, data: st.DataObject) -> None:
    path = tmp_path / f"vm.{format}"
    path.write_bytes(data.draw(damaged_text(TEXTS[format])).encode("utf-8", "replace"))
    judge(path, registry)


@STEADY
@given(at=st.integers(0, len(TOML) - 1), byte=st.integers(0, 255))
def test_damaged_bytes(tmp_path: Path, registry: TypeRegistry, at: int, byte: int) -> None:
    raw = bytearray(TOML.encode())
    raw[at] = byte
    path = tmp_path / "vm.toml"
    path.write_bytes(raw)
    judge(path, registry)


WORDS = st.sampled_from(
    [
        "id",
        "driver",
        "bus",
        "name",
        "type",
        "repeat",
        "file",
        "value",
        "include",
        "remove",
        "variables",
        "device",
        "chardev",
        "drive",
        "object",
        "numa",
        "accel",
        "part",
        "wire",
        "region",
        "none",
        "pc",
        "on",
        "0",
        "-1",
        "${count}",
        "${x}",
        "{n}",
        "{n+}",
        "../vm.toml",
        "vm.toml",
        "/",
        ".",
        "isa.0",
        "d0",
        "c0",
        "cpus",
        "99999999999999999999",
        "1e9",
        "isa-serial",
    ]
)
SCALAR = (
    WORDS
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARS.filter(lambda c: c >= " " and c not in "\x7f\x85\ufeff\ufffe\uffff"), max_size=5)
)
VALUE = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=5
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, held in inner for found in places(held, (*path, key)))]


@st.composite
def damaged_data(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(DATA))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([p for p in places(made) if p]))
        here: Any = made
        for key in path[:-1]:
            here = here[key]
        kind = draw(st.sampled_from(["retype", "rename", "remove", "add"]))
        if kind == "retype":
            here[path[-1]] = draw(VALUE)
        elif kind == "remove":
            del here[path[-1]]
        elif isinstance(here, list):
            here.append(draw(VALUE))
        elif kind == "rename":
            value = here.pop(path[-1])
            here[draw(WORDS | st.just(f"{path[-1]}x"))] = value
        else:
            here[draw(WORDS)] = draw(VALUE)
    return made


WRITE: dict[str, Callable[[dict[str, Any]], str]] = {
    "json": lambda data: json.dumps(data),
    "yaml": lambda data: yaml.safe_dump(data, default_style='"', width=1000),
}


@pytest.mark.parametrize("format", WRITE)
@STEADY
@given(made=damaged_data())
@example(made={"include": ["vm.json"]})
@example(made={"machine": {"board": "vm.json"}})
@example(made={"smp": {"cpus": 1 << 5000}})
def test_damaged_data(format: str, tmp_path: Path, registry: TypeRegistry, made: dict[str, Any]) -> None:
    path = tmp_path / f"vm.{format}"
    path.write_text(WRITE[format](made))
    judge(path, registry)


@STEADY
@given(text=st.text(CHARS, max_size=40), format=st.sampled_from(sorted(TEXTS)))
def test_any_text(tmp_path: Path, registry: TypeRegistry, text: str, format: str) -> None:
    path = tmp_path / f"vm.{format}"
    path.write_text(text, encoding="utf-8")
    judge(path, registry)


def test_an_included_file_that_is_damaged_is_named(tmp_path: Path, registry: TypeRegistry) -> None:
    (tmp_path / "inner.toml").write_text("nmae = 1\n")
    path = tmp_path / "vm.toml"
    path.write_text('include = "inner.toml"\n' + TOML)
    judge(path, registry)
    with pytest.raises(ConfigError, match=r"inner\.toml:1:1: unknown key 'nmae'"):
        load(path)


def test_what_is_written_survives_undamaged(tmp_path: Path, registry: TypeRegistry) -> None:
    path = tmp_path / "vm.toml"
    path.write_text(TOML)
    for format in FORMATS:
        written = tmp_path / f"written.{format}"
        written.write_text(dumps(load(path), format))
        assert [str(p) for p in check(written, registry)] == []
