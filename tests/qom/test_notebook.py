"""Machines and objects in notebooks and at a prompt, and the example notebook."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from qom import Object, open_machine, prop, show, type_init
from qom.hw.bench import hw_registry
from qom.notebook import MOST_CHILDREN, tree_html

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "notebook" / "first-machine.ipynb"


@type_init("test-shown")
class Shown(Object):
    label: str = prop("<b>&", "A <label>")


def test_an_object_is_a_tree_that_opens_and_closes() -> None:
    top = hw_registry(Shown).new("test-shown")
    for n in range(MOST_CHILDREN + 2):
        top.add_child(f"part{n}", top.registry.new("test-shown"))
    html = top._repr_html_()
    tree = ET.fromstring(html)  # well-formed, so it is escaped
    details = list(tree.iter("details"))
    assert len(details) == 1 + MOST_CHILDREN
    assert [d.get("open") is not None for d in details[:3]] == [True, False, False]
    assert details[1].findtext("summary/code") == "part0"
    assert details[0].findtext("summary/span") == "test-shown"
    line = details[0].find("div/div")
    assert line is not None
    assert (line.get("title"), "".join(line.itertext())) == ("str: A <label>", "label = <b>&")
    assert "… and 2 more" in html


def test_a_machine_says_in_a_line_what_it_is() -> None:
    with open_machine(accel="qtest", memory="16M", smp=2, name="pc<1>") as vm:
        said = "<VirtualMachine 'pc<1>': pc-i440fx-0.1-machine on qtest-accel, prelaunch, 2 processors, 16M>"
        assert repr(vm) == said
        tree = ET.fromstring(vm._repr_html_())
        assert tree.findtext("div/b") == said
        names = {code.text for code in tree.iter("code")}
        assert {"/", "machine", "pic", "cpu1", "iobase"} <= names
        html = tree_html(vm.root.resolve("/machine/pic"))
        assert "<code>/machine/pic</code>" in html
        assert "0x20" in html  # iobase
    assert repr(vm) == "<VirtualMachine 'pc<1>': closed>"
    assert vm._repr_html_().startswith("<div")


@pytest.mark.parametrize("name", ["bus_svg", "memory_svg", "wiring_svg", "tree_svg"])
def test_pictures_show_themselves(name: str) -> None:
    with open_machine(accel="qtest") as vm:
        picture = getattr(show, name)(vm.root if name == "tree_svg" else vm)
    assert picture._repr_svg_() == str(picture)
    assert str(picture).startswith("<svg ")
    assert re.fullmatch(r"<picture '[\w, ]+ [\w/ ]+', \d+ characters of SVG>", repr(picture))


def test_the_example_is_kept_without_its_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [c for c in cells if c.get("outputs") or c.get("execution_count")] == []


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own libraries
def test_the_example_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install qom[notebook]")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install qom[notebook]")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs: list[Any] = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    bundles = [output["data"] for output in outputs if "data" in output]
    assert "<details open=" in bundles[0]["text/html"]
    assert bundles[0]["text/plain"].startswith(
        "<VirtualMachine 'first': pc-i440fx-0.1-machine on simulated-accel, prelaunch"
    )
    assert [b["image/svg+xml"][:4] for b in bundles[1:3]] == ["<svg", "<svg"]
    assert "No bootable device." in "".join(output.get("text", "") for output in outputs)
    assert "rip=" in bundles[3]["text/plain"]
    assert bundles[-2]["text/plain"] == "['1-byte write to port 0x3ff', '1-byte read from port 0x3ff']"
    assert bundles[-1]["text/plain"] == "<VirtualMachine 'first': closed>"
