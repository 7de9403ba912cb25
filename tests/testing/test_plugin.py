"""The pytest plugin on test suites of its own: outcomes, options, what is kept of machines when a test fails."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import all_loaded  # noqa: F401 -- see there
import pytest

from qom.testing.evidence import directory_name

pytest_plugins = ["pytester"]

LOAD = ("-p", "qom.testing.plugin", "-p", "no:cacheprovider")

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a suite with this plugin and no other; artifacts go to `kept`."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def go(text: str, *arguments: str, keep: bool = True) -> pytest.RunResult:
        pytester.makepyfile(text)
        where = ("--qom-artifacts", str(pytester.path / "kept")) if keep else ()
        return pytester.runpytest_inprocess(*LOAD, *where, *arguments)

    return go


def kept(pytester: pytest.Pytester) -> dict[str, Path]:
    """The machines' directories by their place below `kept`."""
    top = pytester.path / "kept"
    return {str(p.parent.relative_to(top)): p.parent for p in sorted(top.rglob("state.txt"))}


FAILS_EVERYWHERE = """
    import pytest

    QTEST = {"accel": "qtest", "nodefaults": True}

    def test_passes(qom_machine):
        qom_machine(**QTEST)

    def test_fails(qom_machine):
        one = qom_machine(**QTEST, name="one", serials=["console"])
        two = qom_machine(accel="simulated", firmware="qomfw.bin", name="two/ü").start()
        two.wait_text("memory")
        one.outb(0x70, 0x0D)
        assert 0

    @pytest.fixture
    def broken(qom_machine):
        qom_machine(**QTEST)
        raise KeyError("setup")

    def test_setup(broken):
        pass

    @pytest.fixture
    def breaks(qom_machine):
        yield qom_machine(**QTEST)
        raise KeyError("teardown")

    def test_teardown(breaks):
        pass

    @pytest.fixture
    def outermost():
        yield
        raise KeyError("after the machines")

    def test_late_teardown(outermost, qom_machine):
        qom_machine(**QTEST)

    def test_without_a_machine(qom_machine):
        assert 0

    def test_of_something_else():
        assert 0

    @pytest.mark.xfail
    def test_expected(qom_machine):
        qom_machine(**QTEST)
        assert 0

    def test_skips(qom_machine):
        qom_machine(**QTEST)
        pytest.skip("no")
"""


def test_what_is_kept_and_when(run: Run, pytester: pytest.Pytester) -> None:
    result = run(FAILS_EVERYWHERE)
    result.assert_outcomes(passed=3, failed=3, errors=3, xfailed=1, skipped=1)
    name = "test_what_is_kept_and_when.py-test_"
    found = {path.split("/")[0].rpartition("-")[0]: path for path in kept(pytester)}
    assert sorted(found) == [f"{name}{which}" for which in ("fails", "late_teardown", "setup", "teardown")]
    one, two = (path for path in kept(pytester).values() if "_fails-" in str(path))
    assert one.name == "0-one"
    assert two.name.startswith("1-two-")
    files = {path.name: path.read_text() for path in two.iterdir()}
    assert files["console-serial0.txt"].startswith("qom firmware 0.1\nmemory: 128 MiB\n")
    assert re.search(r"^cpu0 KVM_EXIT_IO write 0x3f8 size 1 value 0x\w\w$", files["exits.txt"], re.MULTILINE)
    assert "all exits so far:\ncpu0 user KVM_EXIT_IO: " in files["exits.txt"]
    assert "\n    /pic (isa-i8259)\n" in files["tree.txt"]
    assert "isa-serial" in files["buses.txt"]
    assert "ram-below-4g" in files["memory.txt"]
    assert "/machine/gsi" in files["wiring.txt"]
    assert "rip=" in files["registers.txt"]
    for name in ("tree", "buses", "memory", "wiring"):
        assert files[f"{name}.svg"].startswith("<svg ")
    assert files["state.txt"].startswith("run state: running\n")
    assert 'name = "two/ü"' in files["machine.toml"]
    assert (one / "accesses.txt").read_text() == "out   0x70 size 1 value 0xd\n"
    assert not (one / "exits.txt").exists()


def test_the_report_names_the_files_and_shows_the_console(run: Run, pytester: pytest.Pytester) -> None:
    result = run(
        """
        def test_boot(qom_machine):
            machine = qom_machine(accel="simulated", firmware="qomfw.bin", name="pc1").start()
            machine.wait_text("No bootable device.\\n")
            machine.wait_line("login:", timeout=0.01)
        """
    )
    result.assert_outcomes(failed=1)
    (where,) = kept(pytester).values()
    result.stdout.fnmatch_lines(
        [
            '>       machine.wait_line("login:", timeout=0.01)',
            "E       qom.vm.console.ConsoleTimeout: console 'serial0': no line with 'login:' within 0.01 s; its last lines:",
            "E           qom firmware 0.1",
            "*- qom -*",
            f"<TestMachine 'pc1': pc-i440fx-0.1-machine, running>: what is known of it is in {where}: buses.svg, *",
            "serial0 ends with:",
            "    qom firmware 0.1",
            "    No bootable device.",
        ]
    )
    assert "qom/vm/console.py" not in result.stdout.str()  # the traceback stays in the test


def test_a_machine_that_fails_fails_its_test(run: Run, pytester: pytest.Pytester) -> None:
    result = run(
        """
        def test_unnoticed(qom_machine):
            qom_machine(accel="qtest", name="pc1").vm.device_failed(ValueError("burnt"))

        def test_expected(qom_machine):
            machine = qom_machine(accel="qtest", name="pc2").start()
            machine.vm.device_failed(ValueError("burnt"))
            machine.expect_failure("burnt")
        """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["pc1: failed: ValueError: burnt"])
    (where,) = kept(pytester).values()
    assert "failure: ValueError: burnt\n" in (where / "state.txt").read_text()


def test_without_a_directory_they_are_among_pytests_temporary_files(run: Run, pytester: pytest.Pytester) -> None:
    text = "def test_it(qom_machine):\n    qom_machine(accel='qtest')\n    assert 0"
    base = pytester.path / "base"
    run(text, "--basetemp", str(base), keep=False).assert_outcomes(failed=1)
    assert [p.name for p in (base / ".qom-artifacts").rglob("tree.txt")] == ["tree.txt"]
    result = run(text, "-p", "no:tmpdir", keep=False)
    result.assert_outcomes(failed=1)
    assert list((pytester.path / ".qom-artifacts").rglob("tree.txt"))


def test_what_cannot_be_written_is_said(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "kept").write_text("in the way")
    result = run("def test_it(qom_machine):\n    qom_machine(accel='qtest')\n    assert 0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*what is known of it could not be kept in *: Not a directory"])


def test_a_machine_whose_lock_is_held_hinders_nobody(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qom.testing.evidence.LOCK_PATIENCE", 0.01)
    result = run(
        """
        import threading

        def test_it(qom_machine, request):
            vm = qom_machine(accel="qtest").vm
            held, done = threading.Event(), threading.Event()

            def hold():
                with vm.lock:
                    held.set()
                    done.wait()

            thread = threading.Thread(target=hold)
            thread.start()
            request.addfinalizer(thread.join)
            request.addfinalizer(done.set)
            held.wait()
            assert 0
        """
    )
    result.assert_outcomes(failed=1)
    (where,) = kept(pytester).values()
    assert (where / "tree.txt").read_text() == "could not be had: somebody has held the machine lock for 0.01 s\n"


SHOWS_ACCEL = """
    import pytest

    def of(machine):
        return machine.vm.machine.accel.type_name

    def test_plain(qom_machine):
        print("plain", of(qom_machine(nodefaults=True)))

    def test_file(qom_machine):
        print("file", of(qom_machine("vm.toml")))

    def test_silent_file(qom_machine):
        print("silent", of(qom_machine("silent.toml")))

    @pytest.mark.qom_accel("qtest")
    def test_marked(qom_machine):
        print("marked", of(qom_machine("vm.toml")))

    def test_keyword(qom_machine):
        print("keyword", of(qom_machine(accel="qtest")))
"""


@pytest.mark.parametrize(
    ("ini", "arguments", "expected"),
    [
        ("", (), ["simulated", "simulated", "simulated", "qtest", "qtest"]),
        ("qom_accel = qtest", (), ["qtest", "simulated", "qtest", "qtest", "qtest"]),
        ("qom_accel = qtest", ("--qom-accel=simulated",), ["simulated", "simulated", "simulated", "qtest", "qtest"]),
        ("", ("--qom-accel=qtest",), ["qtest", "qtest", "qtest", "qtest", "qtest"]),
    ],
)
def test_who_chooses_the_accelerator(
    run: Run, pytester: pytest.Pytester, ini: str, arguments: tuple[str, ...], expected: list[str]
) -> None:
    (pytester.path / "vm.toml").write_text('[machine]\naccel = "simulated"\n')
    (pytester.path / "silent.toml").write_text('memory = "16M"\n')
    pytester.makeini(f"[pytest]\n{ini}\n")
    result = run(SHOWS_ACCEL, "-s", *arguments)
    result.assert_outcomes(passed=5)
    words = ("plain", "file", "silent", "marked", "keyword")
    result.stdout.fnmatch_lines([f"*{word} {accel}-accel" for word, accel in zip(words, expected, strict=True)])


def test_where_there_is_no_kvm_a_test_is_skipped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel.kvm.handles.KvmSystem.__init__.__defaults__", ("/dev/no-kvm",))
    result = run(
        """
        import pytest
        from qom.testing import unusable

        @pytest.mark.qom_accel("kvm")
        def test_kvm(qom_machine):
            qom_machine()

        def test_either(qom_machine):
            machine = qom_machine(accel="kvm:simulated")
            assert machine.vm.machine.accel.type_name == "simulated-accel"

        def test_reasons():
            assert "/dev/no-kvm" in unusable("kvm")
            assert unusable("kvm:simulated") is None
            assert unusable("qtest") is None
        """,
        "-rs",
    )
    result.assert_outcomes(passed=2, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * accelerator 'kvm' cannot be used here: *"])


def test_exits_may_be_left_alone(run: Run, pytester: pytest.Pytester) -> None:
    text = """
        def test_it(qom_machine):
            machine = qom_machine(accel="simulated", firmware="qomfw.bin").start()
            machine.wait_text("memory")
            assert len(machine.exits) == {n}
            assert {n}
        """
    run(text.format(n=5), "--qom-exits=5").assert_outcomes(passed=1)
    run(text.format(n=0), "--qom-exits=0").assert_outcomes(failed=1)
    (where,) = kept(pytester).values()
    assert (where / "exits.txt").read_text().lstrip("\n").startswith("all exits so far:\n")


def test_wrong_options_are_usage_errors(run: Run) -> None:
    result = run("", "--qom-exits=-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --qom-exits=-1: expected 0 or more"])


def test_wrong_markers_are_usage_errors(run: Run) -> None:
    result = run("import pytest\n@pytest.mark.qom_accel()\ndef test_it(qom_machine): pass")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*::test_it: qom_accel needs names: expected qom_accel('simulated')"])


def test_a_wrong_machine_is_an_error_in_one_line(run: Run) -> None:
    result = run("def test_it(qom_machine):\n    qom_machine(accel='qtest', devices=['isa-debugcom'])")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E  *ConfigError: devices[[]0]: unknown device type 'isa-debugcom'; did you mean *"])


def test_the_options_and_the_marker_are_shown(run: Run) -> None:
    result = run("", "--help")
    for option in ("--qom-accel=NAME", "--qom-exits=N", "--qom-artifacts=DIR", "qom_accel (string):"):
        assert option in result.stdout.str()
    assert "@pytest.mark.qom_accel(name, ...): the accelerator of" in run("", "--markers").stdout.str()


def test_a_suite_that_does_not_use_it_loads_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it():
            loaded = sorted(name for name in sys.modules if name.partition(".")[0] in ("qom", "accel", "attr", "cffi"))
            assert loaded == ["qom", "qom.testing", "qom.testing.plugin"]
        """
    )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    command = [sys.executable, "-m", "pytest", "-p", "qom.testing.plugin"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout


def test_it_can_be_switched_off(pytester: pytest.Pytester) -> None:
    """As pytest finds it where qom is installed: by an entry point named qom."""
    info = pytester.path / "site" / "qom_here-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qom-here\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pytest11]\nqom = qom.testing.plugin\n")
    pytester.syspathinsert(info.parent)
    pytester.makepyfile("def test_it(qom_machine): assert callable(qom_machine)")
    quick = ("-p", "no:hypothesispytest")
    pytester.runpytest_inprocess(*quick).assert_outcomes(passed=1)
    result = pytester.runpytest_inprocess(*quick, "-p", "no:qom")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'qom_machine' not found"])


def test_directory_names_are_readable_and_never_shared() -> None:
    assert directory_name("pc1") == "pc1"
    assert directory_name("tests/a.py::test[x/y]").startswith("tests-a.py-test-x-y-")
    assert directory_name("a/b") != directory_name("a-b")
    assert len(directory_name("x" * 300)) < 100


DRIVEN = """
    def test_fails(qom_qtest):
        q = qom_qtest("-m 16 -name driven")
        other = qom_qtest("-m 16", program="qom-system-x86_64")
        q.outb(0x70, 0x0F)
        assert q.inb(0x71) == other.inb(0x64)

    def test_passes(qom_qtest):
        qom_qtest(memory="16M").inb(0x64)
"""


def test_machines_driven_by_the_qtest_protocol_are_looked_at_too(run: Run, pytester: pytest.Pytester) -> None:
    result = run(DRIVEN)
    result.assert_outcomes(passed=1, failed=1)
    (path,) = kept(pytester).values()
    assert path.name == "0-driven"
    assert (path / "accesses.txt").read_text() == "outb 0x70 0xf: OK\ninb 0x71: OK 0x0000\n"
    assert (path / "wiring.svg").exists()
