"""Promise 3.  A bad plugin never kills a machine: it is reported with its distribution's name, and everything else goes on."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from pcs import Console, pc

from qom import TypeRegistry, default_registry
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
GOOD = """
    from qom import Object, type_init
    @type_init("promise-good")
    class Good(Object):
        "Harms nobody."
    """


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All of the bad distributions, and a good one, as pip would leave them."""
    sources = {name: source for name, (source, _) in BAD.items()} | {"test-good": GOOD}
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
    assert set(rows) == {*BAD, "test-good"}
    for dist, (_, report) in BAD.items():
        row = rows[dist]
        assert f"{row.status}: {row.reason}".startswith(report), row
        assert row.reason and row.version == "0.7" and row.types == ()
    assert rows["test-good"].status == "loaded" and "promise-good" in registry
    alone = default_registry(load_external=False)
    assert {t.name for t in registry} == {t.name for t in alone} | {"promise-good"}
    assert registry.get("isa-serial").origin == "qom"


def test_a_machine_boots_among_them(installed: None) -> None:
    types: TypeRegistry = default_registry()
    types.register(Console, "tests")
    with pc(types=types) as machine:
        machine.start()
        machine.serial.wait_for("No bootable device.")


def test_the_command_lists_them_and_ends_well(installed: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert qom.main(["plugins"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for dist, (_, report) in BAD.items():
        (line,) = [line for line in out.splitlines() if f" {dist} 0.7 " in line]
        assert f" {report.partition(':')[0]} " in line
