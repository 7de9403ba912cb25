"""Whatever is typed: one clear line, never a traceback, and nothing left running."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qom.cli import main as qom_main
from qom.cli import system
from qom.cli.options import OPTIONS, CommandLine
from qom.config import KEYS, ConfigBuilder, read_file, read_ini
from qom.errors import ConfigError

# The time an example takes is the machine's business, not the test's.
STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

ROOT = Path(__file__).parents[2]

WORDS = st.sampled_from(
    shlex.split(
        "isa-serial id=x id= driver=a file=f if=none = , ,, help cpus=2 cpus=0-3 mem=1G node dist src=0 on stdio chardev:x"
        " file:f tcp::1 { pc kvm: size=1 512M -1 index=1 bus=0 unit=1 once=c order= a.b=c +x -x x=y=z maxcpus=3 cores=2"
        " 1e9 é \0 ''"
    )
)
VALUES = st.lists(WORDS, max_size=5).map(",".join) | st.text(max_size=12)
ARGV = st.lists(st.tuples(st.sampled_from([o for o in OPTIONS if o.name != "readconfig"]), VALUES), max_size=6)


@STEADY
@given(ARGV)
def test_any_command_line_is_a_configuration_or_a_config_error(parts: list[tuple[Any, str]]) -> None:
    argv: list[str] = []
    for option, value in parts:
        argv += [f"-{option.name}", value] if option.argument else [f"-{option.name}"]
    try:
        CommandLine().parse(argv).builder.finish()
    except ConfigError as error:
        assert str(error)


PLAIN = st.integers() | st.booleans() | st.floats(allow_nan=False) | VALUES.filter(lambda v: "\0" not in v)
DATA = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
FIELDS = [
    "driver",
    "id",
    "file",
    "type",
    "name",
    "cpus",
    "size",
    "repeat",
    "accel",
    "value",
    "property",
    "categories",
    "model",
]
TABLE = st.dictionaries(
    st.sampled_from([*FIELDS, "features", "mem", "backend", "order", "menu", "kernel-irqchip"]), DATA, max_size=5
)
FILE = st.dictionaries(st.sampled_from(KEYS), TABLE | st.lists(TABLE, max_size=3) | DATA, max_size=5)


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in value) + '"'
    return repr(value)


@STEADY
@given(FILE)
def test_any_toml_is_a_configuration_or_a_config_error(tmp_path: Path, data: dict[str, Any]) -> None:
    path = tmp_path / "vm.toml"
    path.write_text("".join(f"{toml(k)} = {toml(v)}\n" for k, v in data.items()), encoding="utf-8")
    try:
        builder = ConfigBuilder()
        read_file(builder, path)
        builder.finish()
    except ConfigError as error:
        assert str(error)


@STEADY
@given(st.text(alphabet='[]"= \n#abdeiqmouschrv-x1', max_size=60))
def test_any_ini_is_a_configuration_or_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vm.ini"
    path.write_text(text)
    try:
        builder = ConfigBuilder()
        read_ini(builder, path)
        builder.finish()
    except ConfigError as error:
        assert str(error)


WRONG = {
    "-M pcc": "-M pcc: unknown machine type 'pcc'; did you mean 'pc'?",
    "-M pc,ram=1": "-M pc,ram=1: /machine: 'pc-i440fx-0.1-machine' has no property 'ram'",
    "-accel kwm": "-accel kwm: unknown accelerator 'kwm'; did you mean 'kvm'?; there are: ",
    "-cpu qemu65": "-cpu qemu65: unknown processor model 'qemu65'; did you mean 'qemu64'",
    "-cpu qemu64,+see2": "-cpu qemu64,+see2: unknown processor feature 'see2'; did you mean 'sse2' or 'sse4.2'",
    "-bios /no/such": "-bios /no/such: ",
    "-kernel /no/such": "-kernel /no/such: ",
    "-m 100k": "-m 100k: /machine: ram-size is 102400 bytes: ",
    "-smp 200": "-smp 200: /machine: smp-cpus is 200, pc-i440fx-0.1-machine has room for 64",
    "-hda /no/such": "-hda /no/such: /drives/ide0-hd0: cannot open image '/no/such': No such file or directory",
    "-drive file=/dev/null,if=none,id=d -device ide-hd,drive=e": None,
    "-device isa-seriall": "-device isa-seriall: unknown device type 'isa-seriall';"
    " did you mean 'isa-serial' or 'isa-parallel'?",
    "-device device": None,
    "-device isa-serial,iobase=99999": "-device isa-serial,iobase=99999: /machine/peripheral-anon/isa-serial: property"
    " 'iobase' cannot be '99999': expected an integer in 0..65528",
    "-device isa-serial,chardev=x": None,
    "-device isa-serial,bus=nowhere": None,
    "-device isa-debugcon,iobase=0x60": None,
    "-device qemu64-x86_64-cpu": None,
    "-chardev file,id=c": "-chardev file,id=c: /chardevs/c: property 'path' is required: expected a string (File that",
    "-chardev stdioo,id=c": None,
    "-chardev file,id=c,path=/no/such/dir/file": None,
    "-object nothing,id=o": None,
    "-object isa-serial,id=o": "-object isa-serial,id=o: unknown object type 'isa-serial'",
    "-global isa-serial.irqq=3": "-global isa-serial.irqq=3: 'isa-serial' has no property 'irqq'; did you mean 'irq'?",
    "-global isa-seriall.irq=3": "-global isa-seriall.irq=3: no type 'isa-seriall';"
    " did you mean 'isa-serial' or 'isa-parallel'?",
    "-D /no/such/dir/log": None,
    "-initrd x": "-initrd x: 'initrd' is only of use with a kernel: expected -kernel too",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_built_is_one_line_and_leaves_nothing(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    descriptors = set(os.listdir("/proc/self/fd"))
    status = system.main(["-serial", "null", *text.split()])
    out, err = capfd.readouterr()
    assert status == 1, err
    assert out == ""
    assert err.startswith("qom-system-x86_64: ") and err.count("\n") == 1, err
    if (wanted := WRONG[text]) is not None:
        assert err.removeprefix("qom-system-x86_64: ").startswith(wanted)
    assert set(threading.enumerate()) == before
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= descriptors


@pytest.mark.parametrize("command", ["tree", "mtree"])
def test_looking_at_a_machine_leaves_nothing(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    descriptors = set(os.listdir("/proc/self/fd"))
    assert qom_main.main([command, "-smp", "2"]) == 0
    assert capfd.readouterr().err == ""
    assert set(threading.enumerate()) == before
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= descriptors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_running_machine_in_good_order(number: signal.Signals) -> None:
    firmware = ROOT / "plugins/firmware/qomfw.bin"
    argv = [sys.executable, "-m", "qom.cli.system", "-serial", "stdio", "-bios", str(firmware)]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=ROOT, **pipes) as process:
        try:
            assert process.stdout is not None and process.stdout.read(1)  # the guest runs: its first word comes out
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert err.decode() == f"qom-system-x86_64: terminating on signal {number.value}\n"
