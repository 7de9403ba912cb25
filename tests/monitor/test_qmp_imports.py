"""What a machine has imported at the end of a QMP session: what it is made of, the commands it was given, and nothing else.

tests/qom/test_imports.py holds what is imported until the machine stands; this is the rest of its life.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache

import pytest

from qom.in_box import IN_BOX

PROGRAM = """
import sys
from qom.cli import system
from qom.vm.vm import VirtualMachine

classes = set()
def and_look(run):
    def whole(vm):
        classes.update(base.__module__ for made in vm.root.walk() for base in type(made).__mro__)
        return run(vm)
    return whole
VirtualMachine.run = and_look(VirtualMachine.run)
status = system.main(sys.argv[1:])
print([sorted(sys.modules), sorted(classes)], file=sys.stderr)
sys.exit(status)
"""

ACCELERATORS = {
    "qtest": {"accel.qtest", "accel.simulated"},  # its processors, which stand still, are simulated ones
    "simulated": {"accel.simulated"},
    "kvm": {"accel.kvm"},
}
"""The packages of accelerators that a machine of each may have imported."""

SESSION = (
    ("qom-list", {"path": "/machine"}),
    ("qom-get", {"path": "/machine", "property": "ram-size"}),
    ("stop", {}),
    ("system_reset", {}),
    ("cont", {}),
    ("query-status", {}),
)
MODULES = {"protocol", "running", "tree"}
"""Where these commands, qmp_capabilities and quit are."""


@cache
def after(accel: str, machine: str, *more: str) -> tuple[frozenset[str], frozenset[str]]:
    """The modules there are at the end of a session, and those of the classes of all objects, in a process of its own."""
    said = [("qmp_capabilities", {}), *SESSION, ("quit", {})]
    text = "".join(json.dumps({"execute": name, "arguments": arguments}) for name, arguments in said)
    words = ["-accel", accel, "-M", machine, "-nodefaults", "-m", "16", "-qmp", "stdio", "--no-plugins", *more]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], input=text, capture_output=True, text=True, timeout=60
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len([answer for answer in answers if "return" in answer]) == len(said), answers
    modules, classes = ast.literal_eval(done.stderr.splitlines()[-1])
    return frozenset(modules), frozenset(classes)


NO_KVM = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be opened")
MACHINES = [("qtest", "none"), ("qtest", "pc"), ("simulated", "pc"), pytest.param("kvm", "pc", marks=NO_KVM)]


@pytest.mark.parametrize(("accel", "machine"), MACHINES)
def test_only_what_was_asked_for(accel: str, machine: str) -> None:
    modules, _ = after(accel, machine)
    assert sorted(m for m in modules if m.startswith("qom.monitor.hmp")) == []
    assert {m.rpartition(".")[2] for m in modules if m.startswith("qom.monitor.commands.")} == MODULES


@pytest.mark.parametrize(("accel", "machine"), MACHINES)
def test_only_the_accelerator_and_the_board_that_are_used(accel: str, machine: str) -> None:
    modules, _ = after(accel, machine)
    packages = {".".join(m.split(".")[:2]) for m in modules if m.startswith("accel.")}
    others = {package for used in ACCELERATORS.values() for package in used} - ACCELERATORS[accel]
    assert sorted(packages & others) == []
    assert any(m.startswith("machines.pc") for m in modules) is (machine == "pc")


@pytest.mark.parametrize(("accel", "machine"), MACHINES)
def test_only_the_devices_that_are_there(accel: str, machine: str) -> None:
    """Of every module that brings types something is in the machine."""
    modules, classes = after(accel, machine)
    box = {module for _, module, types in IN_BOX if types and module.startswith(("plugins.", "machines.", "accel."))}
    assert sorted((modules & box) - classes) == []


def test_a_device_that_is_asked_for_is_imported() -> None:
    """So that the tests above can fail."""
    modules, classes = after("qtest", "pc", "-device", "pci-testdev")
    more = modules - after("qtest", "pc")[0]
    (module,) = [module for _, module, types in IN_BOX if "pci-testdev" in [row[0] for row in types or ()]]
    assert module in more and module in classes
    assert {m for m in more if m.startswith("plugins.")} == {module}


def test_the_monitor_for_people_is_imported_when_a_program_speaks_it() -> None:
    text = "".join(
        json.dumps(each)
        for each in (
            {"execute": "qmp_capabilities"},
            {"execute": "human-monitor-command", "arguments": {"command-line": "info status"}},
            {"execute": "quit"},
        )
    )
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        "-M",
        "none",
        "-accel",
        "qtest",
        "-nodefaults",
        "-qmp",
        "stdio",
        "--no-plugins",
    ]
    done = subprocess.run(words, input=text, capture_output=True, text=True, timeout=60, check=True)
    assert "qom.monitor.hmp.table" in ast.literal_eval(done.stderr.splitlines()[-1])[0]
