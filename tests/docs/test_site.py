"""The site is built without a warning, has a page for everything, and needs nothing from outside."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from doc_pages import PAGES, TOP

from qom import default_registry, hookspecs
from qom.cli.commands import COMMANDS
from qom.cli.options import OPTIONS
from qom.cli.reference import PUBLIC, docstring, pages

needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None,
    reason="mkdocs and mkdocs-material are not installed: pip install 'qom[docs]'",
)


class Page(HTMLParser):
    """What a built page points to, what it loads, and what can be pointed at in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (anchor := given.get("id") or (given.get("name") if tag == "a" else None)) is not None:
            self.ids.add(anchor)
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.loads.append(str(given["src"]))
        if tag == "link" and given.get("href") and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(str(given["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as the documentation says, but elsewhere."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(out)],
        cwd=TOP, env={**os.environ, "PYTHONPATH": str(TOP)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def built(site: Path) -> dict[str, Page]:
    return {str(p.relative_to(site)): Page(p.read_text(encoding="utf-8")) for p in site.rglob("*.html")}


@pytest.mark.slow
@needs_mkdocs
def test_every_page_and_every_type_is_there(site: Path) -> None:
    for page in PAGES[1:]:
        name = page.relative_to(TOP / "docs").with_suffix(".html")
        assert (site / name).exists() or name.name == "README.html", name
    assert (site / "index.html").exists()
    types = default_registry(load_external=False)
    missing = [t.name for t in types if not (site / f"reference/types/{t.name}.html").exists()]
    assert missing == []
    text = (site / "reference/types/isa-serial.html").read_text()
    assert "16550A UART" in text and "Guest view" in text


@needs_mkdocs
def test_links_within_the_site_lead_somewhere(site: Path, built: dict[str, Page]) -> None:
    wrong = []
    for name, page in built.items():
        if name == "404.html":  # its links are for a server's root
            continue
        for link in page.links:
            if urlparse(link).scheme:
                continue
            path, anchor = urldefrag(unquote(link))
            target = (site / name).parent / path if path else site / name
            if target.is_dir():
                target = target / "index.html"
            inside = str(target.resolve().relative_to(site.resolve()))
            if not target.exists() or (anchor and inside in built and anchor not in built[inside].ids):
                wrong.append(f"{name}: {link}")
    assert wrong == []


@needs_mkdocs
def test_nothing_is_loaded_from_elsewhere(site: Path, built: dict[str, Page]) -> None:
    outside = [f"{name}: {url}" for name, page in built.items() for url in page.loads if urlparse(url).netloc]
    assert outside == []
    for sheet in site.rglob("*.css"):
        urls = re.findall(r"url\(\s*['\"]?(https?:[^)'\"]*)", sheet.read_text(encoding="utf-8"))
        assert urls == [], sheet
    for kind in ("tree", "buses", "memory", "interrupts"):
        assert (site / f"pictures/pc-{kind}.svg").read_text().startswith("<svg ")


@needs_mkdocs
def test_what_is_not_run_says_why_and_files_are_named(site: Path) -> None:
    text = (site / "writing.html").read_text()
    assert "Not run by the tests: it installs; the tests build the site by the second half." in text


@needs_mkdocs
def test_every_page_has_its_place_in_the_navigation() -> None:
    import yaml

    def listed(nav: object) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        if isinstance(nav, list):
            return [path for entry in nav for path in listed(entry)]
        assert isinstance(nav, dict)
        return listed(list(nav.values()))

    config = yaml.safe_load((TOP / "mkdocs.yml").read_text())
    have = {str(p.relative_to(TOP / "docs")) for p in PAGES[1:]}
    assert set(listed(config["nav"])) == have
    index = (TOP / "docs" / "README.md").read_text()
    assert [name for name in sorted(have - {"README.md"}) if f"]({name})" not in index] == []


# What goes into the reference, without building the site


def test_the_reference_has_every_property_hook_command_option_and_public_name() -> None:
    types = default_registry(load_external=False)
    made = pages(types)
    for found in types:
        for p in found.properties.values():
            if p.name not in ("realized", "bus") and p.kind != "child":
                assert f"| `{p.name}` | " in made["properties.md"], p.name
        assert f"({found.name}.md)" in made["types/index.md"]
    for name in vars(hookspecs):
        if name.startswith("qom_"):
            assert f"\n## {name}\n" in made["hooks.md"]
    for name in COMMANDS:
        assert f"| `qom {name}" in made["commands.md"]
    for option in OPTIONS:
        assert f"`-{option.name}`" in made["commands.md"]
    for name in PUBLIC:
        module = importlib.import_module(name)
        for public in module.__all__:
            assert f"\n## {public}\n" in made[f"api/{name}.md"], (name, public)
    assert "\n## IsaDevice\n" in made["api/qom.md"] and "The same as [`qom.IsaDevice`]" in made["api/qom.hw.md"]
    assert "`map_ports(base: int, region: Region, priority: int = 0) -> Region`" in made["api/qom.hw.md"]
    assert "Literal['little', 'big'] = 'little'" in made["api/qom.md"]
    assert " at 0x" not in "".join(made.values())


def test_sections_of_docstrings_become_lists() -> None:
    def example() -> None:
        """One line.

        Args:
            first: what it is,
                on two lines.
            second: another <thing>.

        Raises:
            ConfigError: it is wrong.
        """

    assert docstring(example) == (
        "One line.\n\nArgs:\n\n- `first`: what it is, on two lines.\n- `second`: another &lt;thing&gt;.\n\n"
        "Raises:\n\n- `ConfigError`: it is wrong."
    )
