"""Machines for the tests of devices: `own` is ours, in this process; `either` is ours and then QEMU, for the same test.

One machine a module, reset before each test; its options are the module's `ARGS`, or what its `args(folder)` gives.
The inputs of the I/O APIC are followed: they are the lines of the ISA bus and the interrupts of PCI.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from qom.testing import QTest

QEMU = "qemu-system-x86_64"


def fresh(q: QTest) -> QTest:
    """Reset the machine and forget which lines moved."""
    q.system_reset()
    q.irq_clear()
    if q.in_process:
        q.vm.log_lines.clear()
    return q


def started(request: pytest.FixtureRequest, program: str | None) -> Iterator[QTest]:
    args = getattr(request.module, "ARGS", "")
    if hasattr(request.module, "args"):
        folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        args = request.module.args(folders.mktemp("machine"))
    with QTest(f"-M pc -m 16 {args}", program=program) as q:
        q.irq_intercept_in("ioapic")
        yield q


@pytest.fixture(scope="module")
def own_of_module(request: pytest.FixtureRequest) -> Iterator[QTest]:
    yield from started(request, None)


@pytest.fixture
def own(own_of_module: QTest) -> QTest:
    return fresh(own_of_module)


@pytest.fixture(scope="module", params=["qom", "qemu"])
def either_of_module(request: pytest.FixtureRequest) -> Iterator[QTest]:
    if request.param == "qom":
        yield from started(request, None)
    elif shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    else:
        yield from started(request, QEMU)


@pytest.fixture
def either(either_of_module: QTest) -> QTest:
    return fresh(either_of_module)
