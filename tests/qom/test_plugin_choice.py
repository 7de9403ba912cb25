"""Plugins are code: which of them a command may load is said on its command line, and nowhere else."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from qom.cli import main as qom_main
from qom.cli import system
from qom.cli.session import take
from qom.config import KEYS, SECTIONS, load
from qom.errors import ConfigError

GADGET = """
from qom import Object, SystemOption, UserCreatable, hookimpl, prop, type_init

@type_init("{name}-gadget")
class Gadget(Object, UserCreatable):
    "A gadget."
    size: int = prop(1, "How large", type="uint8")

@hookimpl
def qom_system_options():
    def add(builder, text, origin):
        if text == "boom":
            raise ValueError("not today")
        if text == "bang":
            raise SystemExit(0)
        builder.object({{"qom-type": "{name}-gadget", "id": "from-option", "size": text}}, origin)
    return [SystemOption("{name}-size", "N", "add a {name} gadget of this size", add)]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two distributions, choice-one and choice-two, with a gadget each."""
    top = tmp_path / "site"
    top.mkdir()
    for name in ("one", "two"):
        info = top / f"choice_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: choice-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[qom.plugins]\n{name} = choice_{name}\n")
        (top / f"choice_{name}.py").write_text(GADGET.format(name=name))
    monkeypatch.syspath_prepend(str(top))
    importlib.invalidate_caches()
    yield top
    for name in [n for n in sys.modules if n.startswith("choice_")]:
        del sys.modules[name]


def plugins(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, str]:
    assert qom_main.main(["plugins", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split(None, 5) for line in out.splitlines()]
    return {f"{r[1]}/{r[0]}": " ".join(r[4:]) for r in rows if not r[1].startswith(("qom", "distribution"))}


def test_all_some_and_none(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left_out = "refused its distribution is not among those allowed"
    both = plugins(capsys)
    assert both == {"choice-one/one": "loaded one-gadget, -one-size", "choice-two/two": "loaded two-gadget, -two-size"}
    assert plugins(capsys, "--plugins", "choice-one") == {**both, "choice-two/two": left_out}
    assert plugins(capsys, "--plugins", "Choice_Two, choice-one") == both
    assert set(plugins(capsys, "--no-plugins").values()) == {"refused only the plugins in the box are wanted"}


def test_what_is_refused_is_not_imported(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugins(capsys, "--no-plugins")
    assert not [n for n in sys.modules if n.startswith("choice_")]
    plugins(capsys, "--plugins", "choice-two")
    assert [n for n in sys.modules if n.startswith("choice_")] == ["choice_two"]


def test_it_may_stand_anywhere(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "choice_path.py"
    path.write_text(GADGET.format(name="path"))
    for argv in (
        ["--plugin", str(path), "types", "path-gadget"],
        ["types", "--plugin", str(path), "path-gadget"],
        ["types", "path-gadget", "--no-plugins", "-plugin", str(path)],
    ):
        assert qom_main.main(argv) == 0
        assert capsys.readouterr().out.startswith("path-gadget: A gadget\n")
    assert qom_main.main(["types", "path-gadget"]) == 1


def test_what_follows_an_option_is_its_argument() -> None:
    session, rest = take(["-append", "--no-plugins", "-name", "--plugin", "-hda", "x"], {"append", "name", "hda"})
    assert session.external and session.paths == ()
    assert rest == ["-append", "--no-plugins", "-name", "--plugin", "-hda", "x"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--plugins"], "--plugins: an argument is missing: expected NAME[,NAME]"),
        (["--plugin"], "--plugin: an argument is missing: expected PATH"),
        (["--plugins", "choice-one,"], "--plugins choice-one,: an empty name where a distribution was expected"),
        (["--plugins", "choice-on"], "--plugins choice-on: no installed distribution 'choice-on' has plugins;"
         " did you mean 'choice-one' or 'choice-two'?"),
        (["--plugins", "choice-one", "--no-plugins"], "--no-plugins and --plugins contradict each other: expected one of them"),
        (["--plugin", "/no/such.py"], "plugin '/no/such.py' does not exist: expected a .py file, a package (with __init__.py)"
         " or a project (with pyproject.toml)"),
        (["-one-sise", "3"], "-one-sise: invalid option; did you mean 'one-size' or 'two-size'?"),
        (["-one-size"], "-one-size: an argument is missing: expected N"),
        (["-M", "none", "-one-size", "boom"], "-one-size boom: this option of choice-one failed: ValueError: not today,"
         " at SITE/choice_one.py:13"),
        (["-M", "none", "-one-size", "bang"], "-one-size bang: this option of choice-one failed: SystemExit: 0,"
         " at SITE/choice_one.py:15"),
        (["-M", "none", "-one-size", "300"], "-one-size 300: /objects/from-option: property 'size' cannot be '300':"
         " expected an integer in 0..255"),
        (["--no-plugins", "-one-size", "3"], "-one-size: invalid option"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(
    site: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert system.main(argv) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"qom-system-x86_64: {message.replace('SITE', str(site))}\n")


def test_an_option_of_a_plugin_works_in_both_programs(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vm.toml").write_text('[machine]\ntype = "none"\n')
    assert qom_main.main(["tree", str(tmp_path / "vm.toml"), "--properties", "-two-size", "7"]) == 0
    out = capsys.readouterr().out
    assert "/from-option (two-gadget)" in out and "size = 7" in out
    assert system.main(["-help"]) == 0
    out = capsys.readouterr().out
    assert "\nOptions of choice-one:\n  -one-size N                  add a one gadget of this size\n" in out
    assert "\n  --plugin PATH" in out


def test_the_command_line_loads_plugins_only_for_a_word_it_does_not_know(site: Path) -> None:
    from qom.cli.options import CommandLine

    CommandLine().parse(["-M", "none", "-device", "isa-serial", "-object", "one-gadget,id=a"])
    assert not [n for n in sys.modules if n.startswith("choice_")]
    CommandLine().parse(["-one-size", "3"])
    assert [n for n in sys.modules if n.startswith("choice_")]


def test_an_option_of_a_broken_plugin_says_where_to_look(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "choice_two.py").write_text("1 / 0")
    assert system.main(["-two-size", "3"]) == 1
    assert capsys.readouterr().err == (
        "qom-system-x86_64: -two-size: invalid option; did you mean 'one-size'?; not loaded: two (`qom plugins` says why)\n"
    )


PITFALL = """
import pathlib
pathlib.Path({mark!r}).touch()
"""
SAYS = (
    "pitfall",
    "pitfall:main",
    "pitfall.py",
    "{site}/pitfall.py",
    "{site}",
    "qom_pitfall",
    "python:pitfall",
    "pitfall.Trap",
)


def fallen_into(words: list[str], text: str, directory: Path, suffix: str) -> set[str]:
    """Run `qom WORDS FILE` in a process that could import `pitfall`; which modules it had at the end."""
    file = directory / f"vm{suffix}"
    file.write_text(text)
    program = textwrap.dedent(
        """
        import sys, json
        from qom.cli.main import main
        argv = json.loads(sys.argv[1])
        status = main(argv)
        with open(sys.argv[2], "w") as out:
            json.dump([status, sorted(sys.modules)], out)
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory / "site"), *sys.path])}
    environment |= {
        "QOM_PLUGINS": "pitfall",
        "QOM_PLUGIN": "pitfall",
        "QOM_PLUGIN_PATH": str(directory / "site/pitfall.py"),
    }
    subprocess.run(
        [sys.executable, "-c", program, json.dumps([*words, str(file)]), str(directory / "out")],
        env=environment, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    return set(json.loads((directory / "out").read_text())[1])


def test_nothing_is_imported_because_a_file_says_so(tmp_path: Path) -> None:
    """A file that names a module wherever a file can name anything, in each of its spellings."""
    site = tmp_path / "site"
    site.mkdir()
    mark = tmp_path / "imported"
    (site / "pitfall.py").write_text(PITFALL.format(mark=str(mark)))
    (site / "qom_pitfall.py").write_text(PITFALL.format(mark=str(mark)))
    says = [s.format(site=site) for s in SAYS]
    keys = sorted(
        {*KEYS, *SECTIONS, "plugins", "plugin", "import", "module", "python", "include", "board", "variables"}
    )
    options = (
        "type",
        "driver",
        "qom-type",
        "backend",
        "name",
        "accel",
        "file",
        "path",
        "module",
        "class",
        "board",
        "id",
        "bus",
    )
    texts = []
    for n, key in enumerate(map(json.dumps, keys)):
        words = [json.dumps(says[(n + m) % len(says)]) for m in range(len(options))]  # each in turn
        texts += [f"{key} = {json.dumps(says)}", f"{key} = {words[0]}", f"{key} = {words[1]}"]
        table = "\n".join(f"{json.dumps(option)} = {word}" for option, word in zip(options, words, strict=True))
        texts += [f"[{key}]\n{table}", f"[[{key}]]\n{table}"]
        texts += [f"[[{key}]]\n{json.dumps(option)} = {word}" for option, word in zip(options, words, strict=True)]
    before = set(sys.modules)
    sys.path.insert(0, str(site))
    try:
        for n, text in enumerate(texts):
            path = tmp_path / f"{n % 8}.toml"
            path.write_text(text)
            with contextlib.suppress(ConfigError):
                load(str(path))
    finally:
        sys.path.remove(str(site))
    assert not {n for n in sys.modules.keys() - before if "pitfall" in n} and not mark.exists()

    whole = textwrap.dedent(
        """
        name = "pitfall"
        [machine]
        type = "pc"
        [[accel]]
        name = "simulated"
        [[chardev]]
        backend = "null"
        id = "pitfall"
        [[object]]
        qom-type = "pitfall"
        id = "pitfall"
        """
    )
    plain = fallen_into(["tree"], '[machine]\ntype = "none"\n', tmp_path, ".toml")
    wrong = fallen_into(["tree"], whole, tmp_path, ".toml")
    assert "qom.registry" in plain and not {n for n in plain | wrong if "pitfall" in n}
    assert not mark.exists()
