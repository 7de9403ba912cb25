"""memtest86+ tests the memory of a small machine and says that it is good.

It is started by Linux's boot protocol and used over its serial console.  By default the tests that take long are taken out of
its list (sixty-four patterns, modulo 20, and the one that waits for bits to fade); `QOM_LINUX=all` lets it do all of its own.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from debian import need_file

from plugins.firmware import find_seabios
from qom.testing import TestMachine
from qom.vm.launch import open_machine

SECONDS = 900.0  # of host time for one pass
OPTIONS = "console=ttyS0,115200 nobench nosm nopause"
F1, F3, F4, F10 = "1", "3", "4", "0"  # what it takes for these keys on a serial line
PASSED = re.compile(r"Pass: +1 +Errors: 0 ")


@pytest.mark.parametrize("way", ["none", "seabios"] if os.environ.get("QOM_LINUX") == "all" else ["none"])
def test_a_pass_over_memory(way: str) -> None:
    kernel = need_file("memtest86+", "boot/memtest86+x64.bin")
    with started(kernel, way) as machine:
        console = machine.console()
        console.read_until(re.compile(r"Memtest86\+ v\d"))
        if os.environ.get("QOM_LINUX") != "all":
            choose(machine)
        text = console.read_until("Errors: 0", SECONDS)
        while not PASSED.search(text):
            text = console.read_until(re.compile(r"Errors: +\d+ |Status: Fail"), SECONDS)
            assert re.search(r"Errors: +0 ", text), text
        machine.stop()
        assert "Status: Pass" in console.text


def started(kernel: Path, way: str) -> TestMachine:
    firmware = way
    if way == "seabios":
        found = find_seabios()
        if found is None:
            pytest.skip("SeaBIOS is not installed (Debian's package: seabios)")
        firmware = str(found)
    vm = open_machine(accel="simulated", memory="8M", firmware=firmware, kernel=kernel, append=OPTIONS)
    return TestMachine(vm, exits=0).start()


def choose(machine: TestMachine) -> None:
    """Take tests 0 to 5, 7 and 8 alone, by its menu."""
    console = machine.console()
    for wanted, keys in (
        ("<F1> Configuration", F1),
        ("Test selection", F1),
        ("Clear selection", F1 + F4),
        ("Enter first test #", "0\r"),
        ("Enter last test #", "5\r"),
        ("Current selection", F3),
        ("Enter test #", "7\r"),
        ("Current selection", F3),
        ("Enter test #", "8\r"),
        ("Current selection", F10),
        ("Exit menu", F10),
    ):
        console.read_until(wanted)
        console.write(keys)
