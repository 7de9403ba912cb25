"""A machine whose monitor for people the tests of this directory talk to, in process and over a socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hmp_machine import Ask, made

from qom.monitor.hmp.declare import Hmp
from qom.monitor.hmp.table import hmp_table
from qom.vm import VirtualMachine


@pytest.fixture(scope="module")
def pc() -> Iterator[VirtualMachine]:
    """A PC with two processors at its reset vector; whoever changes it puts it back."""
    with made("-m", "16", "-smp", "2", "-accel", "simulated", "-S") as vm:
        yield vm


@pytest.fixture
def ask(pc: VirtualMachine) -> Ask:
    """Give that PC a command, from a monitor of its own; what it shows."""
    hmp = Hmp(pc, hmp_table(pc))
    hmp.format.count, hmp.format.kind, hmp.format.size = 1, "x", 4

    def run(line: str) -> str:
        with pc.lock:
            return hmp.table.run(line, hmp)

    return run
