"""A machine that is built only to be looked at opens, locks and changes nothing outside, and cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from qom import LifecycleError, VirtualMachine, default_registry
from qom.cli.main import main as qom
from qom.config import load

MACHINE = """
serial = ["file:serial.txt", "stdio", "unix:socket,server=on"]
debugcon = "pty"
log = { file = "log.txt", categories = ["io"] }
machine = { type = "pc", memory = "16M" }
drive = [{ file = "disk.img" }]

[[object]]
driver = "trace"
id = "accesses"
what = ["ports"]
file = "trace.txt"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk.img").write_bytes(bytes(1 << 16))
    for name in ("serial.txt", "log.txt", "trace.txt"):
        (tmp_path / name).write_text("kept from the last run")
    (tmp_path / "vm.toml").write_text(MACHINE)
    return tmp_path / "vm.toml"


def outside(file: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(file.parent.iterdir())}


@pytest.mark.parametrize("command", [["tree"], ["tree", "--buses"], ["mtree"], ["graph"], ["dump"]], ids=" ".join)
def test_looking_changes_nothing(command: list[str], file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = outside(file)
    assert qom([*command, str(file)]) == 0
    assert outside(file) == before
    out, err = capsys.readouterr()
    assert out and err == ""


def test_an_image_in_use_can_be_looked_at_and_compared(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "run.toml").write_text('machine = "none"\n[[drive]]\nid = "d"\nif = "none"\nfile = "disk.img"\n')
    with VirtualMachine(load(file.parent / "run.toml"), default_registry(load_external=False)).build():
        assert qom(["diff", str(file), str(file)]) == 0
    assert capsys.readouterr() == ("", "")


def test_it_cannot_run(file: Path) -> None:
    with VirtualMachine(load(file), default_registry(load_external=False), inert=True).build() as vm:
        with pytest.raises(LifecycleError, match="was built to be looked at cannot run"):
            vm.cont()
        assert vm.root.resolve("/chardevs/serial1").type_name == "chardev-stdio"
