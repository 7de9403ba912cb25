"""The plugin manager, on real distributions: metadata, entry points and modules in a directory on the path.

Each test makes its own distributions; what is wrong with one never touches another.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qom import (
    API_VERSION,
    ConfigError,
    PluginError,
    PluginManager,
    __version__,
    default_registry,
    hookspecs,
    open_machine,
    plugins,
)
from qom.plugins import PluginRow

ROOT = Path(__file__).parents[2]
Install = Callable[..., None]

GOOD = """
from qom import Object, type_init

@type_init("{name}-gadget")
class Gadget(Object):
    "A gadget."
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install("dist-name", "module_name", source, entry="name = module") puts a distribution on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    made: list[str] = []

    def add(dist: str, module: str, source: str, entry: str | None = None, version: str = "1.2") -> None:
        made.append(module)
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[qom.plugins]\n{entry or f'{module} = {module}'}\n")
        path = site / f"{module}.py"
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()

    yield add
    for name in [n for n in sys.modules if n.partition(".")[0] in made]:
        del sys.modules[name]


def outside(manager: PluginManager) -> list[PluginRow]:
    return [row for row in manager.load() if row.dist.startswith("test-")]


def test_a_plugins_marked_classes_are_collected_and_none_is_initialised(install: Install) -> None:
    install("test-good", "test_good_mod", GOOD.format(name="good"))
    manager = PluginManager()
    (row,) = outside(manager)
    assert row == PluginRow("test_good_mod", "test-good", "1.2", "test_good_mod", "loaded", "", ("good-gadget",))
    found = manager.registry.get("good-gadget")
    assert found.origin == "test-good" and not found.initialised
    assert manager.registry.new("good-gadget").type.desc == "A gadget"


def test_imported_classes_are_not_the_plugins_own(install: Install) -> None:
    install("test-one", "test_one_mod", GOOD.format(name="one"))
    install(
        "test-two",
        "test_two_mod",
        """
        from qom import Object, type_init
        from test_one_mod import Gadget

        @type_init("two-gadget")
        class Second(Gadget):
            pass
        """,
    )
    manager = PluginManager()
    assert [(r.dist, r.types) for r in outside(manager)] == [
        ("test-one", ("one-gadget",)),
        ("test-two", ("two-gadget",)),
    ]
    assert manager.registry.is_a("two-gadget", "one-gadget")


def test_a_package_names_its_modules_and_each_is_a_row(install: Install, tmp_path: Path) -> None:
    install("test-pack", "test_pack_mod", "", entry="pack = test_pack")
    package = tmp_path / "site" / "test_pack"
    package.mkdir()
    (package / "__init__.py").write_text('QOM_MODULES = ("a", "b", "c")\n')
    (package / "a.py").write_text(GOOD.format(name="a"))
    (package / "b.py").write_text("1 / 0\n")
    (package / "c.py").write_text(GOOD.format(name="c"))
    try:
        rows = outside(PluginManager())
    finally:
        for name in [n for n in sys.modules if n.partition(".")[0] == "test_pack"]:
            del sys.modules[name]
    assert [(r.name, r.status, r.types, r.reason.partition(" (")[0]) for r in rows] == [
        ("pack", "loaded", (), ""),
        ("pack/a", "loaded", ("a-gadget",), ""),
        ("pack/b", "broken", (), "ZeroDivisionError: division by zero"),
        ("pack/c", "loaded", ("c-gadget",), ""),
    ]


def test_hooks_bring_records_and_register_by_hand(install: Install) -> None:
    install(
        "test-hooks",
        "test_hooks_mod",
        """
        from qom import TypeInfo, hookimpl

        @hookimpl
        def qom_types():
            return [TypeInfo(name="made-gadget"), TypeInfo(name="more-gadget", parent="made-gadget")]

        @hookimpl
        def qom_register_types(registry):
            registry.alias("old-gadget", "made-gadget")
            registry.register(TypeInfo(name="hand-gadget"))
        """,
    )
    manager = PluginManager()
    (row,) = outside(manager)
    assert (row.status, row.types) == ("loaded", ("hand-gadget", "made-gadget", "more-gadget")), row.reason
    assert manager.registry.get("old-gadget").origin == "test-hooks"
    assert manager.registry.get("hand-gadget").origin == "test-hooks"


BROKEN = {
    "import": (
        "import no_such_module_at_all\n",
        "broken",
        "ModuleNotFoundError: No module named 'no_such_module_at_all'",
    ),
    "syntax": ("def f(:\n", "broken", "SyntaxError: invalid syntax"),
    "exit": ("raise SystemExit(3)\n", "broken", "SystemExit: 3"),
    "no text": (
        "class Odd(ValueError):\n    def __str__(self):\n        raise IndexError\nraise Odd\n",
        "broken",
        "Odd: (its text cannot be had: IndexError)",
    ),
    "two lines": ("raise ValueError('one\\ntwo')\n", "broken", "ValueError: one two"),
    "new api": (
        'QOM_API = "1.99"\n',
        "refused",
        f"test-broken 1.2 needs plugin API 1.99 and qom {__version__} has 1.0: a newer qom is needed",
    ),
    "other api": (
        'QOM_API = "2.0"\n',
        "refused",
        f"test-broken 1.2 needs plugin API 2.0 and qom {__version__} has 1.0: a newer qom is needed",
    ),
    "old api": (
        'QOM_API = "0.9"\n',
        "refused",
        f"test-broken 1.2 needs plugin API 0.9 and qom {__version__} has 1.0:"
        " a version of test-broken for plugin API 1 is needed",
    ),
    "no api": ("QOM_API = 1\n", "broken", "QOM_API is 1: expected 'MAJOR.MINOR', such as '1.0'"),
    "modules": ('QOM_MODULES = "a"\n', "broken", "QOM_MODULES is 'a': expected a tuple of module names"),
    "unknown hook": (
        "from qom import hookimpl\n@hookimpl\ndef qom_typs():\n    return []\n",
        "broken",
        "it implements the unknown hook 'qom_typs'; did you mean 'qom_types' or 'qom_register_types'?",
    ),
    "wrong hook": (
        "from qom import hookimpl\n@hookimpl\ndef qom_register_types(registry, more):\n    pass\n",
        "broken",
        None,
    ),
    "wrong type": (
        "from qom import hookimpl\n@hookimpl\ndef qom_types():\n    return [int]\n",
        "broken",
        "qom_types gave <class 'int'>: expected classes marked by type_init, or TypeInfo",
    ),
    "declaration": (
        "from qom import Object, prop, type_init\n"
        "@type_init('b-gadget')\nclass B(Object):\n    port: int = prop(-1, 'A port', type='uint8')\n",
        "broken",
        "B: property 'port' has the default -1: expected an integer in 0..255",
    ),
    "clash": (
        GOOD.format(name="fine") + "@type_init('container')\nclass Other(Object):\n    pass\n",
        "broken",
        "type 'container' (class test_broken_mod.Other, from test-broken) is already registered by qom",
    ),
    "unknown parent": (
        "from qom import TypeInfo, hookimpl\n@hookimpl\ndef qom_types():\n"
        "    return [TypeInfo(name='x-gadget'), TypeInfo(name='y-gadget', parent='no-such-thing')]\n",
        "broken",
        "type 'y-gadget' (from test-broken) names the unknown parent 'no-such-thing'",
    ),
}


@pytest.mark.parametrize("source, status, reason", BROKEN.values(), ids=list(BROKEN))
def test_a_bad_plugin_is_a_row_and_everything_else_goes_on(
    install: Install, source: str, status: str, reason: str | None
) -> None:
    install("test-a", "test_a_mod", GOOD.format(name="a"))
    install("test-broken", "test_broken_mod", source)
    install("test-z", "test_z_mod", GOOD.format(name="z"))
    manager = PluginManager()
    before, broken, after = outside(manager)
    assert (before.status, after.status) == ("loaded", "loaded")
    assert (broken.dist, broken.version, broken.status, broken.types) == ("test-broken", "1.2", status, ())
    if reason is not None:
        assert re.sub(r" \(\S+/test_broken_mod\.py:\d+\)$", "", broken.reason) == reason  # without the place
    assert "\n" not in broken.reason and broken.reason
    here = {t.name for t in manager.registry if t.origin.startswith("test-")}
    assert here == {"a-gadget", "z-gadget"}  # of a broken plugin nothing is left
    assert manager.registry.check() == []
    manager.registry.new("z-gadget")


def test_entry_points_that_lead_nowhere(install: Install) -> None:
    install("test-attr", "test_attr_mod", "", entry="attr = test_attr_mod:Missing")
    install("test-none", "test_none_mod", "", entry="none = test_absent_mod")
    assert [(r.name, r.status, r.reason) for r in outside(PluginManager())] == [
        ("attr", "broken", "AttributeError: module 'test_attr_mod' has no attribute 'Missing'"),
        ("none", "broken", "ModuleNotFoundError: No module named 'test_absent_mod'"),
    ]


def test_an_entry_point_may_name_a_class_or_an_object(install: Install) -> None:
    install(
        "test-object",
        "test_object_mod",
        GOOD.format(name="object")
        + """
from qom import TypeInfo, hookimpl

class Maker:
    @hookimpl
    def qom_types(self):
        return [TypeInfo(name="maker-gadget")]

maker = Maker()
""",
        entry="cls = test_object_mod:Gadget\nobj = test_object_mod:maker",
    )
    assert [(r.name, r.types) for r in outside(PluginManager())] == [
        ("cls", ("object-gadget",)),
        ("obj", ("maker-gadget",)),
    ]


def test_two_distributions_that_claim_one_name(install: Install) -> None:
    install("test-first", "test_first_mod", GOOD.format(name="same"))
    install("test-second", "test_second_mod", GOOD.format(name="same"))
    first, second = outside(PluginManager())
    assert first.status == "loaded"
    assert (second.status, second.reason) == (
        "broken",
        "type 'same-gadget' (class test_second_mod.Gadget, from test-second) is already registered by test-first",
    )


def test_what_depends_on_a_broken_plugin_falls_with_it(install: Install) -> None:
    record = "from qom import TypeInfo, hookimpl\n@hookimpl\ndef qom_types():\n    return [TypeInfo(name='{}', parent='{}')]\n"
    install("test-leaf", "test_leaf_mod", record.format("leaf-gadget", "branch-gadget"))
    install("test-branch", "test_branch_mod", record.format("branch-gadget", "missing-gadget"))
    manager = PluginManager()
    rows = {r.dist: r for r in outside(manager)}
    assert rows["test-branch"].reason == (
        "type 'branch-gadget' (from test-branch) names the unknown parent 'missing-gadget'"
    )
    assert rows["test-leaf"].status == "broken"
    assert "branch-gadget" not in manager.registry and "leaf-gadget" not in manager.registry


def test_only_those_allowed_or_only_the_box(install: Install) -> None:
    install("test-yes", "test_yes_mod", GOOD.format(name="yes"))
    install("test-no", "test_no_mod", GOOD.format(name="no"))
    assert [(r.dist, r.status, r.reason) for r in outside(PluginManager(allow=["Test_Yes"]))] == [
        ("test-no", "refused", "its distribution is not among those allowed"),
        ("test-yes", "loaded", ""),
    ]
    assert [(r.dist, r.status, r.reason) for r in outside(PluginManager(load_external=False))] == [
        ("test-no", "refused", "only the plugins in the box are wanted"),
        ("test-yes", "refused", "only the plugins in the box are wanted"),
    ]
    assert not {"test_yes_mod", "test_no_mod"} & (sys.modules.keys() - {"test_yes_mod"})
    assert "yes-gadget" in default_registry(allow=["test-yes"])


def test_an_allowed_distribution_must_be_there(install: Install) -> None:
    install("test-yes", "test_yes_mod", GOOD.format(name="yes"))
    with pytest.raises(PluginError) as error:
        PluginManager(allow=["Test_Yess"]).load()
    assert str(error.value) == "no installed distribution 'Test_Yess' has plugins; did you mean 'test-yes'?"
    assert "test_yes_mod" not in sys.modules
    assert outside(PluginManager(allow=["qom"]))[0].status == "refused"


def test_require_explains(install: Install) -> None:
    install("test-bad", "test_bad_mod", "1 / 0\n", entry="bad = test_bad_mod")
    manager = PluginManager()
    manager.load()
    assert manager.require("hw").status == "loaded"
    with pytest.raises(PluginError) as error:
        manager.require("bad")
    told = "plugin 'bad' of test-bad 1.2 is broken: ZeroDivisionError: division by zero ("
    assert str(error.value).startswith(told) and str(error.value).endswith("/test_bad_mod.py:1)")
    with pytest.raises(PluginError, match="no plugin 'intcc'; did you mean 'intc'"):
        manager.require("intcc")


def test_the_box_is_whole_and_goes_the_same_way() -> None:
    registry = default_registry(load_external=False)
    wrong = [(r.name, r.reason) for r in registry.plugins if r.status != "loaded"]
    assert wrong == []
    assert registry.check() == []
    assert {t.origin for t in registry} == {"qom"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["qom.plugins"] == plugins.IN_BOX


def test_every_marked_class_in_the_box_is_registered() -> None:
    registry = default_registry(load_external=False)
    for top in ("qom", "accel", "plugins", "machines"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if path.name == "bench.py" or path.parent == ROOT / "qom" / "testing":  # what a test hands over itself
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    for mark in node.decorator_list:
                        if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "type_init":
                            assert isinstance(mark.args[0], ast.Constant), path
                            assert mark.args[0].value in registry, f"{path}: {mark.args[0].value}"


def test_the_api_version_is_public() -> None:
    assert API_VERSION == (1, 0)


VERSIONS = {  # what a plugin says, and what becomes of it under plugin APIs 1.0, 1.3, 2.0
    'QOM_API = "1.0"': ("loaded", "loaded", "refused"),
    'QOM_API = "1.3"': ("refused", "loaded", "refused"),
    'QOM_API = "1.4"': ("refused", "refused", "refused"),
    'QOM_API = "2.0"': ("refused", "refused", "loaded"),
    "": ("loaded", "loaded", "refused"),
}


@pytest.mark.parametrize("said", VERSIONS)
def test_the_compatibility_rule(install: Install, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    install("test-versioned", "test_versioned_mod", f"{said}\n{GOOD.format(name='versioned')}")
    found = []
    for version in ((1, 0), (1, 3), (2, 0)):
        monkeypatch.setattr(hookspecs, "API_VERSION", version)
        (row,) = outside(PluginManager())
        assert row.status == "loaded" or row.types == ()
        found.append(row)
    assert tuple(r.status for r in found) == VERSIONS[said]
    if not said:
        assert found[2].reason == (
            f"test-versioned 1.2 says no QOM_API, which means 1.0, and qom {__version__} has 2.0:"
            " a version of test-versioned for plugin API 2 is needed"
        )


def test_a_package_speaks_for_its_modules_and_a_module_for_its_objects(
    install: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install("test-inner", "test_inner", "", entry="inner = test_inner")
    (tmp_path / "site" / "test_inner.py").unlink()
    package = tmp_path / "site" / "test_inner"
    package.mkdir()
    (package / "__init__.py").write_text('QOM_API = "2.0"\nQOM_MODULES = ("a",)\n')
    (package / "a.py").write_text(GOOD.format(name="inner"))
    install(
        "test-made",
        "test_made_mod",
        f'QOM_API = "2.1"\n{GOOD.format(name="made")}',
        entry="made = test_made_mod:Gadget",
    )
    monkeypatch.setattr(hookspecs, "API_VERSION", (2, 0))
    rows = {r.name: r for r in outside(PluginManager())}
    assert (rows["inner"].status, rows["inner/a"].status, rows["inner/a"].api) == ("loaded", "loaded", "2.0")
    assert rows["made"].status == "refused"


def test_a_plugin_for_a_newer_api_is_refused_before_it_is_imported(install: Install, tmp_path: Path) -> None:
    source = "from qom import SomethingOfTomorrow\nQOM_API = '1.7'\n"
    install("test-tomorrow", "test_tomorrow_mod", source)
    install("test-inner", "test_inner_mod", "", entry="inner = test_inner_pack.deep")
    package = tmp_path / "site" / "test_inner_pack"
    at(package / "__init__.py", "1 / 0")
    at(package / "deep.py", source)
    at(tmp_path / "path_tomorrow.py", source)
    manager = PluginManager(paths=[str(tmp_path / "path_tomorrow.py")])
    rows = {r.name: r for r in manager.load() if r.dist != "qom" and not r.dist.startswith("qom-")}
    needs = f"needs plugin API 1.7 and qom {__version__} has 1.0: a newer qom is needed"
    assert {n: (r.status, r.api, r.reason) for n, r in rows.items()} == {
        "test_tomorrow_mod": ("refused", "1.7", f"test-tomorrow 1.2 {needs}"),
        "inner": ("refused", "1.7", f"test-inner 1.2 {needs}"),
        "path_tomorrow": ("refused", "1.7", f"{tmp_path}/path_tomorrow.py {needs}"),
    }
    assert not {"test_tomorrow_mod", "test_inner_pack", "path_tomorrow"} & sys.modules.keys()


# Plugins named by their path


def at(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


@pytest.fixture
def forget() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in [n for n in sys.modules.keys() - before if n.partition(".")[0].startswith("path_")]:
        del sys.modules[name]


def named(*paths: object) -> list[PluginRow]:
    manager = PluginManager(load_external=False, paths=[str(p) for p in paths])
    return [row for row in manager.load() if row.dist != "qom" and not row.by_choice]


def test_a_file_a_package_and_a_project(tmp_path: Path, forget: None) -> None:
    file = at(tmp_path / "path_file.py", GOOD.format(name="file"))
    at(tmp_path / "path_package/__init__.py", 'from path_package import inner\nQOM_MODULES = ("inner",)')
    at(tmp_path / "path_package/inner.py", GOOD.format(name="package"))
    at(tmp_path / "project/src/path_project/__init__.py", "")
    at(tmp_path / "project/src/path_project/part.py", GOOD.format(name="project"))
    at(
        tmp_path / "project/pyproject.toml",
        """
        [project]
        name = "path-project"
        version = "0.7"
        [project.entry-points."qom.plugins"]
        one = "path_project.part"
        two = "path_project.part:Gadget"
        """,
    )
    before = list(sys.path)
    rows = named(file, tmp_path / "path_package", tmp_path / "project")
    assert [(r.name, r.source, r.status, r.types) for r in rows] == [
        ("path_file", str(file), "loaded", ("file-gadget",)),
        ("path_package", str(tmp_path / "path_package"), "loaded", ()),
        ("path_package/inner", str(tmp_path / "path_package"), "loaded", ("package-gadget",)),
        ("one", "path-project 0.7", "loaded", ("project-gadget",)),
        ("two", "path-project 0.7", "loaded", ("project-gadget",)),
    ], [r.reason for r in rows]
    assert sys.path == before
    assert importlib.util.find_spec("path_other") is None
    assert [r.status for r in named(file)] == ["loaded"]  # imported already, by this very path


def test_a_path_does_not_take_the_name_of_another_module(tmp_path: Path, forget: None) -> None:
    taken = [at(tmp_path / "a/json.py", ""), at(tmp_path / "a/antigravity.py", "")]
    one, two = (at(tmp_path / d / "path_twin.py", GOOD.format(name=f"twin-{d}")) for d in "ab")
    rows = named(*taken, one, two)
    assert [r.status for r in rows] == ["broken", "broken", "loaded", "broken"]
    for row, name in zip(rows[:2], ("json", "antigravity"), strict=True):
        assert row.reason.startswith(f"PluginError: the module name '{name}' is taken by ") or row.reason.startswith(
            f"the module name '{name}' is taken by "
        )
    assert rows[3].reason == f"the module name 'path_twin' is taken by {one}"


def test_a_path_to_what_is_installed_is_loaded_once(install: Install, tmp_path: Path) -> None:
    source = f"""
        from qom import SystemOption, hookimpl
        {GOOD.format(name="once").strip()}

        @hookimpl
        def qom_system_options():
            return [SystemOption("once", "", "Once", print)]
        """
    source = "\n".join(line.removeprefix("        ") for line in source.splitlines())
    install("test-once", "test_once_mod", source)
    manager = PluginManager(paths=[str(tmp_path / "site" / "test_once_mod.py")])
    first, second = (r for r in manager.load() if "once" in r.name)
    assert (first.status, first.options) == ("loaded", ("once",)), first.reason
    assert (second.status, second.reason) == ("refused", "it is 'test_once_mod' of test-once 1.2, loaded already")
    assert second.by_choice


def test_a_file_named_by_its_path_can_be_reloaded_in_a_running_machine(tmp_path: Path, forget: None) -> None:
    source = """
        from qom import IsaDevice, Region, state, type_init

        @type_init("path-lamp")
        class Lamp(IsaDevice):
            "A lamp."
            lit: int = state()

            def realize(self):
                self.isa.map_ports(0x300, Region("lamp", 1, lambda offset, size: self.lit, self.write, (1, 1)))

            def write(self, offset, value, size):
                self.lit = value & 1
        """
    file = at(tmp_path / "path_lamp.py", source)
    types = default_registry(load_external=False, paths=[str(file)])
    with open_machine(machine="pc", accel="qtest", devices=["path-lamp"], nodefaults=True, registry=types) as vm:
        vm.ports.write(0x300, 3, 1)
        assert vm.ports.read(0x300, 1) == 1
        at(file, source.replace("value & 1", "value & 3"))
        vm.reload("path_lamp")
        assert vm.ports.read(0x300, 1) == 1
        vm.ports.write(0x300, 3, 1)
        assert vm.ports.read(0x300, 1) == 3


def test_a_broken_file_is_a_row_and_can_be_tried_again(tmp_path: Path, forget: None) -> None:
    file = at(tmp_path / "path_broken.py", "1 / 0")
    (row,) = named(file)
    assert (row.status, row.reason) == ("broken", f"ZeroDivisionError: division by zero ({file}:1)")
    at(file, GOOD.format(name="mended") + "\n# another length")
    (row,) = named(file)
    assert row.types == ("mended-gadget",)


SHAPES = "expected a .py file, a package (with __init__.py) or a project (with pyproject.toml)"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.py", None, f"does not exist: {SHAPES}"),
        ("notes.txt", "x", f"is no Python file: {SHAPES}"),
        ("empty/notes.txt", "x", f"is a directory without __init__.py and pyproject.toml: {SHAPES}"),
        ("two-words.py", "", ": 'two-words' cannot be the name of a module: expected letters, digits and '_'"),
    ],
)
def test_a_path_that_holds_no_plugin(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        at(tmp_path / name, content)
    path = tmp_path / name.partition("/")[0]
    with pytest.raises(ConfigError) as error:
        named(path)
    assert str(error.value) == f"plugin '{path}'{'' if message.startswith(':') else ' '}{message}"


@pytest.mark.parametrize(
    "text", ["", "[project]\nname = 'x'\n", "[project.entry-points]\nother = {}\n", "[project", "project = 1"]
)
def test_a_project_without_entry_points(tmp_path: Path, text: str) -> None:
    at(tmp_path / "project/pyproject.toml", text)
    with pytest.raises(ConfigError, match=rf"^plugin '{tmp_path}/project': "):
        named(tmp_path / "project")
