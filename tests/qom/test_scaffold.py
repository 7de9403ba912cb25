"""`qom new`: every kind is clean whatever its name, and passes its own tests; wrong words are explained."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from qom import default_registry
from qom.cli import main as qom_main
from qom.scaffold import BUSES, KINDS, LONGEST, TEMPLATES, facts_of, kind_of, render

ROOT = Path(__file__).parents[2]
ARGUMENTS = {name: name.replace("device-", "device --bus ").split() for name in KINDS}
SHORTEST, LONG = "ab", "very-long-name-for-a-box"


def new(directory: Path, kind: str, name: str) -> Path:
    """`qom new` of a kind, into a directory of its own."""
    where = directory / f"{kind}-{name}"
    first, *options = ARGUMENTS[kind]
    assert qom_main.main(["new", first, name, *options, "-o", str(where)]) == 0
    return where


def run(argv: list[str], cwd: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"


def test_the_longest_name_is_tried() -> None:
    assert len(LONG) == LONGEST


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_tests_pass_and_it_can_be_used_without_being_installed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{kind}-box"
    module = f"qom_{name.replace('-', '_')}"
    made = new(tmp_path, kind, name)
    files = [f"src/{module}/__init__.py", f"src/{module}/py.typed", f"tests/test_{module.removeprefix('qom_')}.py"]
    if kind == "machine":
        files += [f"src/{module}/{file}" for file in (f"{name}.toml", "rom.py", "rom.bin")]
    written = [path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()]
    assert sorted(written) == sorted([".gitignore", "README.md", "pyproject.toml", *files])
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], made)
    type_name = KINDS[kind].type.format(name=name)
    capsys.readouterr()
    try:
        assert qom_main.main(["--no-plugins", "--plugin", str(made), "types", type_name]) == 0
    finally:
        sys.modules.pop(module, None)
    out, err = capsys.readouterr()
    assert out.startswith(f"{type_name}: ") and err == ""
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"qom.plugins": {name: module}}
    assert project["license"] == "Apache-2.0" and project["name"] == f"qom-{name}"


@pytest.mark.parametrize("tool", ["ruff", pytest.param("mypy", marks=pytest.mark.slow)])
def test_what_is_written_is_clean(tool: str, tmp_path: Path) -> None:
    program = shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed")
    for kind in KINDS:
        if tool == "mypy":
            run(
                [program, "--python-executable", sys.executable, "--cache-dir", str(tmp_path / "cache")],
                new(tmp_path, kind, LONG),
            )
            continue
        for name in (SHORTEST, LONG):
            made = new(tmp_path, kind, name)
            run([program, "check", "--no-cache", "."], made)
            run([program, "format", "--check", "--no-cache", "."], made)


def test_templates_have_no_word_that_means_nothing_and_no_fact_is_unused() -> None:
    used: set[str] = set()

    class Facts(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            used.add(key)
            return super().__getitem__(key)

    for kind in KINDS.values():
        facts = Facts(facts_of(kind, "x-y", "0.1"))
        named = {TEMPLATES / kind.templates / source for source, _ in kind.files}
        assert named == {p for p in (TEMPLATES / kind.templates).iterdir()}
        for path in (*named, *(TEMPLATES / "common").iterdir()):
            if path.suffix == ".in":
                assert render(path.read_text(), facts)
        for _, target in kind.files:
            render(target, facts)
    assert used == set(facts_of(KINDS["machine"], "x-y", "0.1"))


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = new(tmp_path, "device-isa", "lamp")
    (made / "README.md").write_text("mine")
    capsys.readouterr()
    for where in (made, made / "README.md"):
        assert qom_main.main(["new", "device", "lamp", "-o", str(where)]) == 1
        out, err = capsys.readouterr()
        assert (out, err) == (
            "",
            f"qom: new: '{where}' is there already: expected a new or empty directory (-o DIR)\n",
        )
    assert (made / "README.md").read_text() == "mine"


def test_it_goes_into_a_directory_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert qom_main.main(["new", "device", "lamp"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("Then install it, with pytest for its tests:\n  pip install -e './qom-lamp[test]'\n")
    assert out.startswith("qom-lamp/.gitignore\n") and "isa-lamp is an ISA device." in out
    assert (tmp_path / "qom-lamp/src/qom_lamp/__init__.py").is_file()


RULE = "expected small letters, digits and single dashes, two letters first, 24 characters at most"
USAGE = "expected KIND NAME [-o DIR] [--bus isa|pci|system]"
WRONG = [
    ([], "new: expected qom new device|machine|accelerator NAME [-o DIR] [--bus isa|pci|system]"),
    (["device"], "new: expected qom new device|machine|accelerator NAME [-o DIR] [--bus isa|pci|system]"),
    (["devise", "lamp"], "new: no kind 'devise'; did you mean 'device'?; expected one of accelerator, device, machine"),
    (["device", "lamp", "x"], f"new: unknown argument 'x': {USAGE}"),
    (["device", "lamp", "--buss", "pci"], f"new: unknown argument '--buss': {USAGE}"),
    (["device", "lamp", "--bus"], "new: --bus: an argument is missing: expected BUS"),
    (["device", "lamp", "--bus", "usb"], "new: --bus cannot be 'usb': expected one of isa, pci, system"),
    (["machine", "lamp", "--bus", "pci"], "new: --bus is for a device: a machine sits on none"),
    (["device", "MyLamp"], f"new: the name 'MyLamp' is not legal: {RULE}; did you mean 'my-lamp'?"),
    (["device", "my_lamp"], f"new: the name 'my_lamp' is not legal: {RULE}; did you mean 'my-lamp'?"),
    (["device", "3d"], f"new: the name '3d' is not legal: {RULE}"),
    (["device", "a" * 25], f"new: the name '{'a' * 25}' has 25 characters: {RULE}"),
    (["device", "../x"], f"new: the name '../x' is not legal: {RULE}"),
    (["device", "qom-lamp"], "new: the name 'qom-lamp' begins with 'qom-': expected it without, the distribution is called so"),
    (["device", "class"], "new: the name 'class' means something to Python or qom already: expected another"),
    (["device", "serial"], "new: there is a type 'isa-serial' already (`qom types isa-serial`): expected another name"),
    (["accelerator", "kvm"], "new: there is a type 'kvm-accel' already (`qom types kvm-accel`): expected another name"),
    (["machine", "pc"], "new: there is a type 'pc-machine' already (`qom types pc-machine`): expected another name"),
    (["device", "lamp", "-o", "/proc/lamp"], "/proc/lamp: No such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "message"), WRONG, ids=[" ".join(argv) or "nothing" for argv, _ in WRONG])
def test_wrong_words_are_explained(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert qom_main.main(["new", *argv]) == 1
    assert capsys.readouterr() == ("", f"qom: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_every_bus_a_device_can_be_made_for_is_there() -> None:
    assert [kind_of("device", bus).templates for bus in BUSES] == [f"device-{bus}" for bus in BUSES]
    registry = default_registry(load_external=False)
    assert not any(kind.type.format(name="lamp") in registry for kind in KINDS.values())
