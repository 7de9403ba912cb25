"""Commands for people given by programs: a session of a hundred of them, their processor, and plugins' commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from qmp_machine import qmp_machine

from qom import TypeRegistry, default_registry

HUNDRED = (
    """
info version|info name|info uuid|info status|info kvm|info numa|info history|info memory_size_summary|info cpus|info exits
info registers|info registers -a|info registers 1|info mem|info tlb|info pic|info irq|info lapic|info lapic 1|info pci
info qtree|info qom-tree|info qom-tree /machine/pcihost|info mtree|info mtree -f|info mtree -o|info mtree -f -d|info mtree -D
info roms|info ramblock|info chardev|info block|info block -v|info blockstats|info qdm|info memdev|info iothreads
info mice|info dump|help|help info|help x|help info mtree|? stop|info|x/4xb 0|x/2xh 0|x/2xw 0|x/1xg 0|xp/8cb 0xffff0|xp/3ob 0
xp/3dw 0|xp/3uh 0
p 1|p/d 2 * 3|p/x $eip|p $cs.base|print/c 65|i/b 0x70|i/h 0x70|o/b 0x80 1|sum 0 64|gpa2hva 0|gpa2hpa 0|gva2gpa 0|cpu 1|cpu 0
device_add isa-debug-exit|device_add pci-testdev,id=t0|qom-list /machine/peripheral|qom-get /machine/peripheral/t0 addr
device_del t0|device_del t0|object_add trace,id=tr,what=ports|object_del tr|object_del tr|chardev-add null,id=c0|info chardev
chardev-remove c0|chardev-remove c0|qom-list|qom-list /|qom-list /machine|qom-get /machine type|qom-get /machine nosuch
qom-set /machine/peripheral/t0 addr 5|sendkey a|sendkey ctrl-alt-delete|sendkey nosuch|mouse_move 1 -1|mouse_button 0|nmi
log io|log none|log nosuch|boot_set c|boot_set z|watchdog_action reset|watchdog_action nosuch|savevm a|nosuch|info nosuch
cont|info status|stop|info status|system_reset|system_powerdown|system_wakeup|info status|c|s|memsave 0 16 mem.bin
pmemsave 0 16 pmem.bin|p/x 0x2a
""".strip()
    .replace("\n", "|")
    .split("|")
)


@pytest.mark.usefixtures("in_tmp")
def test_a_session_of_a_hundred_mixed_commands(tmp_path: Path) -> None:
    assert len(HUNDRED) > 100
    words = ["-S", "-m", "16", "-smp", "2", "-display", "none", "-vga", "std"]
    with qmp_machine(tmp_path, *words) as machine:
        client = machine.client()
        answers = [client.do("human-monitor-command", command_line=line) for line in HUNDRED]
        assert all(isinstance(answer, str) and answer.count("\n") == answer.count("\r\n") for answer in answers)
        shown = dict(zip(HUNDRED, answers, strict=True))
        assert answers[-1] == "0x2a\r\n"
        assert shown["info lapic 1"].startswith("dumping local APIC state for CPU 1 \r\n")
        assert shown["qom-list /machine/peripheral"] == "type (string)\r\nt0 (child<pci-testdev>)\r\n"
        assert shown["device_add pci-testdev,id=t0"] == shown["chardev-add null,id=c0"] == ""
        assert (tmp_path / "mem.bin").stat().st_size == (tmp_path / "pmem.bin").stat().st_size == 16
        assert client.do("query-status")["running"] is False


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_processor_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    with qmp_machine(tmp_path, "-S", "-m", "16", "-smp", "2") as machine:
        client = machine.client()
        command = "human-monitor-command"
        assert client.do(command, command_line="info registers", cpu_index=1).startswith("\r\nCPU#1\r\n")
        assert client.do(command, command_line="info registers").startswith("\r\nCPU#0\r\n")
        assert client.error(command, command_line="info cpus", cpu_index=7) == (
            "GenericError: Parameter 'cpu-index' expects a CPU number"
        )


RING = """
from qom import MonitorCommand, hookimpl, prop

QOM_HMP_COMMANDS = {"lights": ("lights|l", "info lights")}

@hookimpl
def qom_monitor_commands():
    return [MonitorCommand("ring", "Ring the bell", lambda vm, given: given, {
        "times": prop(1, "How often", type="uint32"), "at": prop("door", "Which bell", type="str")})]
"""
LIGHTS = """
from typing import Annotated
from qom.monitor.hmp import Hmp, Word, hmp_command

@hmp_command("lights", aliases=("l",))
def lights(hmp: Hmp, state: Annotated[str, Word(among=("red", "green"))]) -> str:
    'set the lights'
    return f"the lights of {len(hmp.vm.cpus)} processors are {state}"

@hmp_command("info lights")
def info_lights(hmp: Hmp) -> str:
    'show the lights'
    raise ZeroDivisionError("no lamp")
"""


@pytest.fixture
def with_bell(tmp_path: Path) -> Iterator[TypeRegistry]:
    """A registry with a plugin, a package, that brings commands of both kinds."""
    package = tmp_path / "ext_bell"
    package.mkdir()
    (package / "__init__.py").write_text(RING)
    (package / "lights.py").write_text(LIGHTS)
    importlib.invalidate_caches()
    yield default_registry(load_external=False, paths=[str(package)])
    for name in [name for name in sys.modules if name.startswith("ext_bell")]:
        del sys.modules[name]


def test_plugins_bring_commands_for_people_and_for_programs(tmp_path: Path, with_bell: TypeRegistry) -> None:
    with qmp_machine(tmp_path, "-M", "none", registry=with_bell) as machine:
        client = machine.client()

        def ask(line: str) -> str:
            return str(client.do("human-monitor-command", command_line=line)).replace("\r\n", "\n")

        assert ask("ring times=3,at=gate") == '{\n    "times": 3,\n    "at": "gate"\n}\n'
        assert ask("help ring") == "ring [times=...],[at=...] -- Ring the bell\n"
        assert ask("ring tims=3").startswith(
            "Error: monitor command 'ring' has no argument 'tims'; did you mean 'times'?"
        )
        assert ask("lights red") == ask("l red") == "the lights of 0 processors are red\n"
        assert ask("lights blue") == (
            "lights: 'blue' is not one of red, green\nTry \"help lights\" for more information\n"
        )
        assert ask("help l") == "lights|l red|green -- set the lights\n"
        assert ask("info lights").startswith("command 'info lights' of ")
        assert "ZeroDivisionError: no lamp" in ask("info lights")
        assert ask("p/x 1") == "0x1\n"
