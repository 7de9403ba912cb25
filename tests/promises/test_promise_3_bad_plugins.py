"""Promise 3.  A bad plugin never kills a machine: it is reported with its distribution's name, and everything else goes on."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from pcs import Console, pc

from qom import QomError, TypeRegistry, default_registry
from qom.cli import main as qom

BAD = {
    "test-import-error": ("import not_there", "broken: ModuleNotFoundError: No module named 'not_there'"),
    "test-exits": ("import sys\nsys.exit(3)", "broken: SystemExit: 3"),
    "test-syntax": ("def f(:", "broken: SyntaxError: invalid syntax"),
    "test-clash": (
        """
        from qom import IsaDevice, type_init
        @type_init("isa-serial")
        class Mine(IsaDevice):
            "Wants the name of another."
        """,
        "broken: type 'isa-serial'",
    ),
    "test-newer": ("QOM_API = '99.0'", "refused: test-newer 0.7 needs plugin API 99.0 and qom"),
    "test-older": ("QOM_API = '0.9'", "refused: test-older 0.7 needs plugin API 0.9 and qom"),
    "test-half": (
        """
        from qom import SystemOption, hookimpl
        @hookimpl
        def qom_system_options():
            return [SystemOption("half", "", "Good so far", lambda builder, text, origin: None)]
        @hookimpl
        def qom_monitor_commands():
            return [3]
        @hookimpl
        def qom_machine_created(vm):
            raise RuntimeError("called, though it is broken")
        """,
        "broken: ",
    ),
    "test-orphan": (
        """
        from qom import TypeInfo, hookimpl
        @hookimpl
        def qom_types():
            return [TypeInfo(name="orphan", parent="nobody-has-this", desc="Has no parent")]
        """,
        "broken: ",
    ),
    "test-undescribed": (
        """
        from qom import Object, prop, type_init
        @type_init("undescribed")
        class Undescribed(Object):
            "Has a property that says nothing."
            speed: int = prop(1, "")
        """,
        "broken: ",
    ),
    "test-wrong-types": (
        """
        from qom import hookimpl
        @hookimpl
        def qom_types():
            return [3]
        """,
        "broken: ",
    ),
}
BUG = """
    from qom import IsaDevice, Region, hookimpl, type_init

    WHERE = ""

    def here(place):
        if WHERE == place:
            raise ValueError("a bug")

    @hookimpl
    def qom_machine_built(vm):
        here("hook")

    @type_init("promise-bug")
    class Bug(IsaDevice):
        "Raises where it is told to."

        hotpluggable = True

        @classmethod
        def class_init(cls):
            here("class_init")

        def instance_init(self):
            here("instance_init")

        def realize(self):
            here("realize")
            self.isa.map_ports(0x240, Region("bug", 1, self.read, None, (1, 1)))
            if WHERE == "timer":
                self.clock.timer(self.expire).arm(1)

        def read(self, offset, size):
            here("read")
            return 0

        def expire(self):
            here("timer")

        def reset(self):
            here("reset")

        def unrealize(self):
            here("unrealize")
    """
GOOD = """
    from qom import Object, type_init
    @type_init("promise-good")
    class Good(Object):
        "Harms nobody."
    """


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All of the bad distributions, and a good one, as pip would leave them."""
    sources = {name: source for name, (source, _) in BAD.items()} | {"test-good": GOOD, "test-bug": BUG}
    monkeypatch.syspath_prepend(str(tmp_path))
    for dist, source in sources.items():
        module = dist.replace("-", "_")
        info = tmp_path / f"{module}-0.7.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 0.7\n")
        (info / "entry_points.txt").write_text(f"[qom.plugins]\n{dist} = {module}\n")
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
    importlib.invalidate_caches()
    yield
    for name in sources:
        sys.modules.pop(name.replace("-", "_"), None)


def test_each_is_reported_with_its_distribution_and_the_rest_is_there(installed: None) -> None:
    registry = default_registry()
    rows = {row.dist: row for row in registry.plugins if row.dist.startswith("test-")}
    assert set(rows) == {*BAD, "test-good", "test-bug"}
    for dist, (_, report) in BAD.items():
        row = rows[dist]
        assert f"{row.status}: {row.reason}".startswith(report), row
        assert row.reason and row.version == "0.7" and row.types == ()
    assert rows["test-good"].status == "loaded" and "promise-good" in registry
    alone = default_registry(load_external=False)
    assert {t.name for t in registry} == {t.name for t in alone} | {"promise-good", "promise-bug"}
    assert set(registry.extensions.options) == set(alone.extensions.options)
    assert registry.get("isa-serial").origin == "qom"


def test_a_machine_boots_among_them(installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    types: TypeRegistry = default_registry()
    types.register(Console, "tests")
    with pc(types=types) as machine:
        machine.start()
        machine.serial.wait_for("No bootable device.")
    assert capsys.readouterr().err == "", "nothing of what is broken is called"


def test_a_fault_ends_its_own_machine_at_most(
    installed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever a plugin's code raises: the report names distribution, type and line, and another machine runs on."""
    types: TypeRegistry = default_registry()
    types.register(Console, "tests")
    module = sys.modules["test_bug"]
    line = next(n for n, text in enumerate((tmp_path / "test_bug.py").read_text().splitlines(), 1) if "raise" in text)
    at = f"at {tmp_path / 'test_bug.py'}:{line}"
    bug = f"ValueError: a bug; 'promise-bug' of test-bug 0.7, {at}"
    firmware = tmp_path / "reads_240.bin"  # mov dx, 240h; in al, dx; hlt
    firmware.write_bytes(bytes.fromhex("ba4002 ec f4 ebfd").rjust(7 + 0xFFF0, b"\0").ljust(0x10000, b"\0"))
    words = ("-accel", "simulated", "-device", "promise-bug,id=b")
    with pc("-accel", "simulated", types=types) as other:
        other.start()
        for place, report in (
            ("class_init", f"type 'promise-bug' (from test-bug 0.7): class_init failed: ValueError: a bug, {at}"),
            ("instance_init", f"a 'promise-bug' cannot be created: {bug}"),
            ("realize", f"/machine/peripheral/b: realize failed: {bug}"),
            ("reset", f"/machine/peripheral/b: cold reset raised {bug}"),
        ):
            module.WHERE = place  # type: ignore[attr-defined]
            with pytest.raises(QomError) as caught, pc(*words, types=types):
                pass
            assert str(caught.value).endswith(report), place
        for place, report in (
            ("read", f"/machine/peripheral/b: 1-byte read from bug at offset 0x0 (address 0x240) raised {bug}"),
            ("timer", f"/machine/peripheral/b: timer expire raised {bug}"),
        ):
            module.WHERE = place  # type: ignore[attr-defined]
            with pc(*words, bios=str(firmware), types=types) as machine:
                machine.start()
                assert machine.vm.wait(60), place
                assert machine.vm.failure is not None and report in machine.vm.failure, machine.vm.failure
                assert machine.vm.exit_status == 1
        module.WHERE = "hook"  # type: ignore[attr-defined]
        capsys.readouterr()
        with pc(*words, types=types) as machine:
            assert capsys.readouterr().err == (
                f"qom: machine: plugin 'test-bug:test-bug': qom_machine_built raised ValueError: a bug, {at}\n"
            )
            module.WHERE = "unrealize"  # type: ignore[attr-defined]
        told = capsys.readouterr().err
        assert told == f"qom: machine: while it was closed: /machine/peripheral/b: unrealize raised {bug}\n"
        module.WHERE = ""  # type: ignore[attr-defined]
        other.serial.wait_for("No bootable device.")
        assert other.vm.failure is None


def test_the_command_lists_them_and_ends_well(installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert qom.main(["plugins"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for dist, (_, report) in BAD.items():
        (line,) = [line for line in out.splitlines() if f" {dist} 0.7 " in line]
        assert f" {report.partition(':')[0]} " in line
