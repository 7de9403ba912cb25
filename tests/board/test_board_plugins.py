# ruff: noqa: E501 -- messages stand on one line
"""Board files that a plugin brings: rows of the plugin manager, types with an origin, and nothing else harmed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from boards import TINY, machine

from qom import PluginError, PluginManager
from qom.board.types import load_boards
from qom.plugins import PluginRow

pytestmark = pytest.mark.usefixtures("forget_modules")


@pytest.fixture
def forget_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("board_plugin"):
            del sys.modules[name]


def plugin(folder: Path, name: str, boards: object, **files: str) -> str:
    """A project with one module that names board files beside it; its path, for `PluginManager(paths=...)`."""
    home = folder / name
    home.mkdir()
    (home / f"{name}.py").write_text(f'"""A test\'s plugin."""\n\nQOM_API = "1.0"\nQOM_BOARDS = {boards!r}\n')
    for file, text in files.items():
        (home / f"{file}.toml").write_text(text)
    return str(home / f"{name}.py")


def load(*paths: str) -> tuple[PluginManager, dict[str, PluginRow]]:
    manager = PluginManager(load_external=False, paths=paths)
    rows = manager.load()
    return manager, {row.name: row for row in rows}


def test_a_board_becomes_a_machine_type_of_its_plugin(tmp_path: Path) -> None:
    manager, rows = load(plugin(tmp_path, "board_plugin_a", ("tiny.toml",), tiny=TINY))
    row = rows["board_plugin_a"]
    assert (row.status, row.types) == ("loaded", ("tiny-machine",))
    assert manager.registry.get("tiny-machine").origin == row.dist
    assert rows["machines/pc"].types[-1] == "pc-i440fx-0.1-machine"
    with machine("-M", "tiny", "-bios", str(Path(__file__)), registry=manager.registry) as vm:
        assert vm.machine.type_name == "tiny-machine"


@pytest.mark.parametrize(
    ("boards", "text", "reason"),
    [
        (("tiny.toml",), TINY.replace("[cpus]", "[cpu]"), "{folder}/tiny.toml:21:1: unknown key 'cpu'; did you mean 'cpus'?"),
        (("tiny.toml",), TINY.replace('kind = "ram"', 'kind = "rum"'), "{folder}/tiny.toml:11:1: region 'ram': 'kind' cannot be 'rum': expected one of 'ram', 'rom', 'alias', 'container'; did you mean 'rom' or 'ram'?"),
        (("tiny.toml",), "[board", "{folder}/tiny.toml:1:7: not TOML: Expected ']' at the end of a table declaration"),
        (("no.toml",), "", "{folder}/no.toml: cannot be read: No such file or directory; did you mean 'tiny.toml'?"),
        (("tiny.toml",), '[board]\nname = "pc"\n', "type 'pc-machine' (a record, from {dist}) is already an alias of 'pc-i440fx-0.1-machine', registered by qom"),
        (("tiny.toml",), '[board]\nname = "x"\nextends = "pcc"\n', "{folder}/tiny.toml:3:1: board 'x' extends the unknown machine type 'pcc'; did you mean 'pc'?"),
        ("tiny.toml", TINY, "QOM_BOARDS is 'tiny.toml': expected a tuple of file names"),
    ],
)  # fmt: skip
def test_one_that_is_wrong_breaks_its_plugin_and_nothing_else(
    tmp_path: Path, boards: object, text: str, reason: str
) -> None:
    manager, rows = load(
        plugin(tmp_path, "board_plugin_b", boards, tiny=text),
        plugin(tmp_path, "board_plugin_c", ("fine.toml",), fine=TINY.replace('"tiny"', '"fine"')),
    )
    row = rows["board_plugin_b"]
    assert (row.status, row.types) == ("broken", ())
    assert row.reason == reason.format(folder=tmp_path / "board_plugin_b", dist=row.dist)
    assert [other.name for other in manager.rows if other.status != "loaded"] == ["board_plugin_b"]
    assert "fine-machine" in manager.registry


def test_boards_of_two_plugins_extend_each_other_in_any_order(tmp_path: Path) -> None:
    one = plugin(tmp_path, "board_plugin_d", ("one.toml",), one='[board]\nname = "one"\nextends = "two"\n')
    two = plugin(tmp_path, "board_plugin_e", ("two.toml",), two=TINY.replace('"tiny"', '"two"'))
    for paths in ((one, two), (two, one)):
        manager, rows = load(*paths)
        assert {rows[name].status for name in ("board_plugin_d", "board_plugin_e")} == {"loaded"}
        assert manager.registry.get("one-machine").parent == "two-machine"
        for name in ("board_plugin_d", "board_plugin_e"):
            sys.modules.pop(name, None)


def test_what_extends_a_broken_board_is_broken_too(tmp_path: Path) -> None:
    one = plugin(tmp_path, "board_plugin_f", ("one.toml",), one='[board]\nname = "one"\nextends = "two"\n')
    two = plugin(tmp_path, "board_plugin_g", ("two.toml",), two='[board]\nname = "two"\ntype = 1\n')
    _, rows = load(one, two)
    assert rows["board_plugin_f"].status == rows["board_plugin_g"].status == "broken"
    assert rows["board_plugin_f"].reason.endswith("one.toml:3:1: board 'one' extends the unknown machine type 'two'")


def test_names_that_no_module_can_have(tmp_path: Path) -> None:
    module = ModuleType("made-up")
    module.__dict__["QOM_BOARDS"] = ("x.toml",)
    with pytest.raises(PluginError, match="expected in a module that is a file"):
        load_boards(module, PluginManager().registry)
