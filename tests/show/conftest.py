"""Machines to look at.  They are built once a module and never run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plugins.firmware import EMBEDDED
from qom.cli.options import CommandLine
from qom.cli.system import machine
from qom.vm.vm import VirtualMachine


@pytest.fixture(scope="module")
def pc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualMachine]:
    """The whole PC: four processors, memory above 4 GiB, a disk."""
    disk = tmp_path_factory.mktemp("disks") / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    words = ["-M", "pc", "-accel", "simulated", "-smp", "4", "-m", "5G", "-bios", str(EMBEDDED), "-serial", "null"]
    with machine(CommandLine().parse([*words, "-hda", str(disk)]).builder.finish(), "test") as vm:
        yield vm


@pytest.fixture(scope="module")
def none() -> Iterator[VirtualMachine]:
    """A board with nothing on it."""
    with machine(CommandLine().parse(["-M", "none", "-accel", "simulated"]).builder.finish(), "test") as vm:
        yield vm
