"""The command line beside QEMU's: what is wrong there is wrong here, with the same status, in a line that names it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from qom.cli import system

QEMU = shutil.which("qemu-system-x86_64")

WRONG = [
    "-foo",
    "-m",
    "-m lots",
    "-smp 2,cores=3",
    "-M nonesuch",
    "-M pc,nonesuch=1",
    "-accel nonesuch",
    "-cpu nonesuch",
    "-device nonesuch",
    "-device isa-serial,nonesuch=1",
    "-object nonesuch,id=x",
    "-drive file=/no/such",
    "-bios /no/such",
    "-uuid x",
    "-name a,b=c",
    "-boot order=xyz",
    "-boot splash-time=70000",
    "-rtc base=x",
    "-rtc clock=x",
    "-smbios type=9",
    "-smbios type=1,nonesuch=x",
    "-smbios file=/no/such",
    "-smbios product=x",
    "-smbios type=1,uuid=x",
    "-fw_cfg opt/x",
    "-fw_cfg opt/x,file=/no/such",
    "-acpitable sig=SSDT",
    "-acpitable data=/no/such",
    "-add-fd fd=1,set=1",
    "-add-fd set=1",
    "-add-fd fd=99,set=1",
    "-set x",
    "-set device.x.y=1",
    "-set nonesuch.x.y=1",
    "-msg nonesuch=on",
    "-action reboot=x",
    "-pidfile /no/such/pid",
    "-chardev null",
    "-chardev nonesuch,id=x",
    "-chardev socket,id=x,fd=99",
    "-chardev null,id=x -chardev null,id=x",
    "-serial nonesuch",
    "-mon nonesuch",
    "-trace nonesuch=1",
    "-daemonize -nographic",
]


@pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")
@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_with_qemu_is_wrong_here(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert QEMU is not None
    words = shlex.split(line)
    there = subprocess.run(
        [QEMU, "-display", "none", "-S", *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    accel = [] if "-accel" in words else ["-accel", "qtest"]
    assert (system.main(["-display", "none", "-S", *accel, *words]), there.returncode) == (1, 1)
    out, err = capsys.readouterr()
    assert out == "" and there.stderr.startswith("qemu")
    option = line if line == "-foo" else words[-2] if len(words) % 2 == 0 else words[0]
    assert err.startswith(f"qom-system-x86_64: {option}") and err.count("\n") == 1 and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
