"""The pytest plugin `qom`: fixtures, marker, options, and what is kept of a machine when its test fails.

pytest loads this module with every suite of the environment that qom is installed in, so it imports nothing of qom until
a test asks for a machine, and it only looks at tests that did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qom.testing.machine import MachineFactory, TestMachine
    from qom.testing.qtest import QTest

MARKER = "qom_accel(name, ...): the accelerator of this test's machines; with several names the test runs on each"
SECTION = "qom"
DIRECTORY = ".qom-artifacts"


class Kept:
    """What one test has: its machines, and what was collected of them."""

    def __init__(self, factory: MachineFactory, base: Path | None) -> None:
        self.factory = factory
        self.base = base  # where pytest keeps temporary files
        self.files: dict[TestMachine, dict[str, str]] = {}

    def collect(self, *, pictures: bool) -> None:
        """Look at every machine that was not looked at yet."""
        from qom.testing import evidence

        for machine in self.factory.machines:
            if machine not in self.files:
                self.files[machine] = evidence.collect(machine, pictures=pictures)


KEPT = pytest.StashKey[Kept]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("qom", "virtual machines (qom)")
    group.addoption(
        "--qom-accel",
        metavar="NAME",
        help="accelerator of every machine that does not insist on one: simulated, kvm, qtest, kvm:simulated",
    )
    group.addoption(
        "--qom-exits", metavar="N", type=int, help="keep the last N exits of every machine for reports (0: none)"
    )
    group.addoption(
        "--qom-artifacts",
        metavar="DIR",
        help=f"keep what is known of machines whose tests fail in DIR (default: {DIRECTORY} in pytest's temporary files)",
    )
    parser.addini("qom_accel", "accelerator of machines whose file and test name none")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker; check the options."""
    exits = config.getoption("--qom-exits")
    if exits is not None and exits < 0:
        raise pytest.UsageError(f"--qom-exits={exits}: expected 0 or more")
    config.addinivalue_line("markers", MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked with several accelerators runs on each."""
    marker = metafunc.definition.get_closest_marker("qom_accel")
    if marker is None:
        return
    if not marker.args or marker.kwargs or not all(isinstance(name, str) for name in marker.args):
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: qom_accel needs names: expected qom_accel('simulated')")
    if len(marker.args) > 1:
        if "qom_accel" not in metafunc.fixturenames:
            metafunc.fixturenames.append("qom_accel")
        metafunc.parametrize("qom_accel", marker.args, indirect=True)


@pytest.fixture
def qom_accel(request: pytest.FixtureRequest) -> str | None:
    """The accelerator that this test was marked with or that the command line names; None when nobody said."""
    named: str | None = getattr(request, "param", None)
    if named is None:
        marker = request.node.get_closest_marker("qom_accel")
        named = marker.args[0] if marker is not None else request.config.getoption("--qom-accel")
    return named


@pytest.fixture
def qom_machine(request: pytest.FixtureRequest, qom_accel: str | None) -> Iterator[MachineFactory]:
    """Machines for a test: `qom_machine("vm.toml", memory="64M")` is a `qom.testing.TestMachine`, built and not started.

    Called as often as a test needs machines; they are closed when it ends, and one that failed unexpectedly fails it.
    """
    from qom.testing.machine import LAST_EXITS, MachineFactory

    exits = request.config.getoption("--qom-exits")
    factory = MachineFactory(
        accel=request.config.getini("qom_accel") or None,
        override=qom_accel,
        exits=LAST_EXITS if exits is None else exits,
        beside=request.path.parent,
    )
    kept = request.node.stash[KEPT] = Kept(factory, _base(request))
    yield factory
    try:
        kept.collect(pictures=False)  # a later part of the teardown may fail
    finally:
        factory.close()
    if failures := factory.unexpected():
        pytest.fail("; ".join(failures), pytrace=False)


@pytest.fixture
def qom_qtest(qom_machine: MachineFactory) -> Iterator[Callable[..., QTest]]:
    """Machines driven by the qtest protocol: `qom_qtest("-device ...")` is a `qom.testing.QTest`, with its arguments.

    Called as often as a test needs machines; they are closed when it ends.  What is kept of a machine when a test fails is
    kept of those in this process.
    """
    from contextlib import ExitStack

    from qom.testing.qtest import QTest

    with ExitStack() as steps:

        def start(*args: Any, **keywords: Any) -> QTest:
            made = QTest(*args, **keywords)
            if made.in_process:
                qom_machine.machines.append(made.machine)  # closed with the others, after they were looked at
            else:
                steps.enter_context(made)
            return made

        yield start


def _base(request: pytest.FixtureRequest) -> Path | None:
    try:
        made: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    except pytest.FixtureLookupError:  # switched off by -p no:tmpdir
        return None
    return made.getbasetemp()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Beside the report of a failure: files with all that is known of the test's machines, and the ends of their consoles."""
    report = yield
    kept = item.stash.get(KEPT, None)
    if kept is not None and report.failed and kept.factory.machines:
        kept.collect(pictures=True)
        report.sections.append((SECTION, _keep(item, kept)))
    return report


def _keep(item: pytest.Item, kept: Kept) -> str:
    from qom.testing import evidence

    chosen = item.config.getoption("--qom-artifacts")
    top = Path(chosen) if chosen else (kept.base or item.config.rootpath) / DIRECTORY
    parts = []
    for number, (machine, files) in enumerate(kept.files.items()):
        where = top / evidence.directory_name(item.nodeid) / f"{number}-{evidence.directory_name(machine.name)}"
        try:
            evidence.save(where, files)
            said = f"{machine!r}: what is known of it is in {where}: {', '.join(sorted(files))}"
        except OSError as error:
            said = f"{machine!r}: what is known of it could not be kept in {where}: {error.strerror}"
        parts.append("\n".join(part for part in (said, evidence.tail(files)) if part))
    return "\n".join(parts)
