"""The commands: help and lists, exact one-line errors, status 1, and nothing imported that is not needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from qom.cli import entry, system
from qom.cli import main as main_module
from qom.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
Run = Callable[[Sequence[str]], int]
PROGRAMS: dict[str, Run] = {"qom-system-x86_64": system.main, "qom": main_module.main}


@pytest.mark.parametrize(
    ("program", "argv", "message"),
    [
        ("qom-system-x86_64", ["-frobnicate"], "-frobnicate: invalid option"),
        ("qom-system-x86_64", ["-smp", "4,cores=3"], "-smp 4,cores=3: smp: sockets (1) * cores (3) * threads (1) is 3:"
         " expected 4, the number of cpus"),
        ("qom-system-x86_64", ["-device", "isa-seriall,help"], "-device isa-seriall,help: no device 'isa-seriall';"
         " did you mean 'isa-serial' or 'isa-parallel'?"),
        ("qom-system-x86_64", ["-readconfig", "/no/such/file"], "/no/such/file: cannot be read: No such file or directory"),
        ("qom", ["rum"], "unknown command 'rum'; did you mean 'run'?; `qom help` lists them"),
        ("qom", ["run"], "run: no file: expected qom run FILE [--dump FILE] [--watch] [--exits] [--exits-svg FILE]"
         " [system options]"),
        ("qom", ["run", "nosuch.tml"], "nosuch.tml: cannot be read: No such file or directory"),
        ("qom", ["run", "."], ".: cannot be read: it is a directory: expected a file"),
        ("qom", ["--no-plugin", "types"], "--no-plugin: unknown option; did you mean 'no-plugins' or 'plugin' or 'plugins'?"),
        ("qom", ["--frob"], "--frob: unknown option: expected a command; `qom help` lists them"),
        ("qom", ["version", "x"], "version: unknown argument 'x': expected nothing"),
        ("qom-system-x86_64", ["-device", "warp-drive"], "-device warp-drive: unknown device type 'warp-drive'; no plugin that"
         " is loaded brings it (`qom plugins` lists them)"),
        ("qom", ["run", "/no/such.toml"], "/no/such.toml: cannot be read: No such file or directory"),
        ("qom", ["types", "isa-seriall"], "no type 'isa-seriall'; did you mean 'isa-serial'"),
        ("qom", ["types", "--parent"], "types: --parent: an argument is missing: expected a type name"),
        ("qom", ["types", "--parent", "devise"], "no type 'devise'; did you mean 'device'"),
        ("qom", ["plugins", "x"], "plugins: unknown argument 'x': expected nothing, or --deprecations"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_status_1(
    program: str, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert PROGRAMS[program](argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{program}: {message}")
    assert err.count("\n") == 1 and err.endswith("\n")


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["-version"], ["qom-system-x86_64 version 0.1.0 (compatible with QEMU emulator version 7.2.22)"]),
        (["--version"], ["qom-system-x86_64 version 0.1.0 (compatible with QEMU emulator version 7.2.22)"]),
        (["-device", "help"], ['name "isa-serial", bus isa-bus, desc "16550A UART"', "Char devices:"]),
        (["-device", "isa-serial,help"], ["isa-serial options:", "  chardev=<link<chardev>> - "]),
        (["-M", "help"], ["Supported machines are:", "  none "]),
        (["-machine", "none,help"], ["none-machine options:", "  ram-size=<size> "]),
        (["-accel", "help"], ["Accelerators:", "  kvm ", "  simulated "]),
        (["-cpu", "help"], ["Available CPUs:", "  qemu64 ", "Features and switches (+NAME, -NAME, NAME=on|off):\n  3dnow ",
         " avx2 ", " sse4.1 sse4.2 ", "Properties:\n  family=<uint32> ",
         "-device MODEL-x86_64-cpu,help says what each means."]),
        (["-chardev", "help"], ["Available chardev backend types:", "  stdio "]),
        (["-chardev", "socket,help"], ["chardev-socket options:", "  path=<str> "]),
        (["-d", "help"], ["Log categories:", "  guest_errors "]),
        (["-help"], ["usage: qom-system-x86_64", "-M/-machine TYPE", "-no-reboot"]),
        (["-S", "-m", "64", "-M", "help"], ["Supported machines are:"]),
    ],
)  # fmt: skip
def test_help_and_lists(argv: list[str], wanted: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert system.main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in wanted:
        assert text in out


def test_types_plugins_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_module.main(["types", "--parent", "chardev"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("chardev (abstract) - ") and "\n    chardev-stdio - " in out
    assert main_module.main(["types", "isa-serial"]) == 0
    assert "isa-serial options:" in capsys.readouterr().out
    assert main_module.main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[:4] == ["plugin", "distribution", "module", "status"]
    assert "qom.hw.device" in out and "broken" not in out
    assert main_module.main(["version"]) == 0
    assert capsys.readouterr().out == "qom 0.1.0\n"


def test_tree_and_mtree_of_the_empty_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_module.main(["tree", "-M", "none"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.splitlines()[0] == "/ (root)"
    assert "  /machine (none-machine)" in out.splitlines()
    assert main_module.main(["tree", "-M", "none", "--properties"]) == 0
    assert "realized = on" in capsys.readouterr().out
    assert main_module.main(["mtree", "-M", "none"]) == 0
    assert "system" in capsys.readouterr().out


HEAVY = ("cffi", "yaml", "accel", "plugins", "machines", "qom.vm", "qom.hw", "importlib.metadata", "pluggy")


@pytest.mark.parametrize("argv", [["-version"], ["-d", "help"], ["-smp", "4,cores=3"]])
def test_what_needs_no_registry_imports_little(argv: list[str]) -> None:
    code = (
        "import sys\nfrom qom.cli.system import main\nmain(sys.argv[1:])\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def piped(words: str, reader: str) -> subprocess.CompletedProcess[str]:
    """What the reader made of a command's output, and the command's own status."""
    return subprocess.run(
        f"{sys.executable} -m {words} | {reader}; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = piped("qom.cli.main types", "head -1")
    assert done.stdout.startswith("object") and done.stderr == ""


def test_help_that_nobody_reads_to_its_end_was_given() -> None:
    done = piped("qom.cli.system -device help", "true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_traceback(closed: str) -> None:
    done = subprocess.run(
        ["/bin/bash", "-c", f"{sys.executable} -m qom.cli.main types {closed}"], cwd=ROOT,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("object") == (">&-" not in closed.split())


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "run"])
def test_every_command_answers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_module.main([name, "--help"]) == 0
    assert (
        capsys.readouterr().out
        == f"usage: qom {name} {COMMANDS[name].arguments}".rstrip() + f"\n\n{COMMANDS[name].help}\n"
    )


@pytest.mark.parametrize("words", [["run", "--help"], ["run", "nosuch.toml", "-help"]])
def test_the_help_of_run_has_its_own_options_and_the_system_options(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_module.main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: qom run FILE [options] [disk image]\n\n  --dump FILE ")
    for head in ("  --watch ", "  --exits ", "  --exits-svg FILE ", "  -kernel FILE "):
        assert f"\n{head}" in out


def test_ctrl_c_while_the_modules_are_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupted)
    assert (entry.qom(), entry.system()) == (1, 1)
    assert capsys.readouterr().err == "qom: interrupted\nqom-system-x86_64: interrupted\n"


def test_an_encoding_without_some_character_is_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qom.cli.main", "doc", "bus"], cwd=ROOT, capture_output=True, timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == b""
    assert b"derives from  bus \\u2190 object" in done.stdout


def test_a_device_that_cannot_be_built_leaves_nothing_running() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qom.cli.system", "-M", "none", "-nodefaults", "-device", "isa-serial"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "qom-system-x86_64: -device isa-serial: isa-serial: this machine has no free bus of type 'isa-bus'\n"
    )
