"""The example distributions, installed by pip into a fresh environment and used from a configuration file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ("qom-dma", "qom-stopwatch", "qom-tinyboard", "qom-trace")
LEFT_BEHIND = shutil.ignore_patterns(
    ".*", "build", "*.so", "*.o", "__pycache__", "*.egg-info", "tests", "docs", "examples"
)

pytestmark = pytest.mark.slow


def run(argv: Sequence[object], cwd: Path, *, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(a) for a in argv], cwd=cwd, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    if status is not None:
        assert done.returncode == status, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with qom and the examples, and nothing of this interpreter's packages."""
    top = tmp_path_factory.mktemp("examples")
    venv = top / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", venv], top)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet"]
    tools = run([*pip, "setuptools>=77", "wheel", "cffi>=1.16", "attrs", "pluggy", "pytest"], top, status=None)
    if tools.returncode:
        pytest.skip(f"pip cannot get setuptools, cffi, attrs, pluggy, pytest: {tools.stderr.strip().splitlines()[-1]}")
    source = top / "qom"
    shutil.copytree(ROOT, source, ignore=LEFT_BEHIND)
    for name in EXAMPLES:
        shutil.copytree(ROOT / "examples" / name, top / name)
    run([*pip, "--no-build-isolation", source, *(top / name for name in EXAMPLES)], top)
    shutil.rmtree(source)  # what runs now is what was installed
    return top


def test_each_is_listed_with_its_distribution(environment: Path) -> None:
    rows = run([environment / "venv/bin/qom", "plugins"], environment).stdout.splitlines()
    for name, dist, types in (
        ("dma", "qom-dma 1.0", "pci-copier"),
        ("stopwatch", "qom-stopwatch 1.0", "isa-stopwatch"),
        ("tinyboard", "qom-tinyboard 1.0", "tiny-isa-bridge, tinyboard-machine"),
        ("trace", "qom-trace 1.0", "trace-accel"),
    ):
        (row,) = [r for r in rows if r.split()[0] == name]
        assert dist in row and " loaded " in row and row.endswith(types)
    assert not [r for r in rows if " broken " in r or " refused " in r]


def test_all_three_from_one_file(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "vm.toml").write_text(
        """
        debugcon = "file:debug.log"
        serial = "none"

        [machine]
        type = "tinyboard"

        [[accel]]
        name = "trace"
        file = "exits.log"

        [[device]]
        driver = "isa-stopwatch"
        id = "sw0"
        tick-ns = 20000
        """
    )
    qom = environment / "venv/bin/qom"
    done = run([qom, "run", "vm.toml"], tmp_path, status=None)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert (tmp_path / "debug.log").read_text() == "tinyboard\nring\n"
    exits = (tmp_path / "exits.log").read_text().splitlines()
    assert "cpu0 KVM_EXIT_IO in 0x2a4 size 4 value 0x3e8" in exits
    assert "cpu0 KVM_EXIT_IO out 0x2a0 size 4 value 0x1" in exits
    assert "cpu0 KVM_EXIT_IO out 0x501 size 1 value 0x1" in exits
    tree = run([qom, "tree", "vm.toml"], tmp_path).stdout
    for line in ("  /machine (tinyboard-machine)", "    /accel (trace-accel)", "      /sw0 (isa-stopwatch)"):
        assert line in tree.splitlines()


def test_the_pci_device_and_its_driver_from_its_own_file(environment: Path) -> None:
    """BARs, DMA, MSI, MSI-X and a timer, with a guest that uses them: nothing but the file says so."""
    folder = environment / "qom-dma"
    done = run([environment / "venv/bin/qom", "run", "machine.toml"], folder, status=None)
    assert (done.returncode, done.stderr) == (33, "")
    lines = done.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "msi: 00001000 bytes",
        "msi-x: 00000040 bytes",
        "length 0: error reported",
        "no bus master: nothing copied",
    ]
    said = (folder / "README.md").read_text(encoding="utf-8")
    assert "prints\n\n```\n" + done.stdout + "```\n" in said, "what the page shows is what it prints"


def test_without_the_device_the_machine_takes_its_other_way(environment: Path, tmp_path: Path) -> None:
    system = environment / "venv/bin/qom-system-x86_64"
    done = run([system, "-M", "tinyboard", "-debugcon", "stdio"], tmp_path, status=None)
    assert (done.returncode, done.stdout, done.stderr) == (1, "tinyboard\n", "")


def test_wrong_use_of_them_names_file_and_line(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "vm.toml").write_text(
        '[machine]\ntype = "tinyboard"\n\n[[device]]\ndriver = "isa-stopwatch"\nirq = 99\n'
    )
    done = run([environment / "venv/bin/qom", "run", "vm.toml"], tmp_path, status=1)
    assert done.stdout == ""
    assert done.stderr == (
        "qom: vm.toml:6:1: /machine/peripheral-anon/isa-stopwatch@2a0: property 'irq' cannot be 99:"
        " expected an integer in 0..15\n"
    )


def test_a_broken_distribution_beside_them_stops_nothing(environment: Path, tmp_path: Path) -> None:
    (site,) = (environment / "venv/lib").glob("python*/site-packages")
    info = site / "qom_bad-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qom-bad\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[qom.plugins]\nbad = qom_bad\n")
    (site / "qom_bad.py").write_text("import not_there\n")
    reason = "ModuleNotFoundError: No module named 'not_there'"
    try:
        rows = run([environment / "venv/bin/qom", "plugins"], tmp_path).stdout.splitlines()
        (row,) = [r for r in rows if r.startswith("bad ")]
        assert "qom-bad 0.3" in row and "broken" in row and row.endswith(f"{reason} ({site}/qom_bad.py:1)")
        system = environment / "venv/bin/qom-system-x86_64"
        done = run([system, "-M", "tinyboard", "-debugcon", "stdio"], tmp_path, status=None)
        assert (done.returncode, done.stdout) == (1, "tinyboard\n")
        assert (
            done.stderr == f"qom-system-x86_64: plugin 'bad' of qom-bad 0.3 is broken: {reason} ({site}/qom_bad.py:1)\n"
        )
    finally:
        shutil.rmtree(info)
        (site / "qom_bad.py").unlink()


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_own_tests_pass(environment: Path, name: str) -> None:
    run([environment / "venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], environment / name)


NEW = ("device", "device --bus pci", "device --bus system", "machine", "accelerator")


def test_what_qom_new_writes_installs_and_passes_its_tests_untouched(environment: Path, tmp_path: Path) -> None:
    """Every kind into one environment; written by the qom that is installed, so with the templates of its package."""
    qom, python = environment / "venv/bin/qom", environment / "venv/bin/python"
    made = []
    for n, words in enumerate(NEW):
        kind, *options = words.split()
        run([qom, "new", kind, f"made-{n}", *options], tmp_path)
        made.append(tmp_path / f"qom-made-{n}")
    pip = [sys.executable, "-m", "pip", "--python", python]
    before = {path: path.read_bytes() for top in made for path in top.rglob("*") if path.is_file()}
    run([*pip, "install", "--quiet", "--no-build-isolation", "--no-deps", *made], tmp_path)
    try:
        rows = run([qom, "plugins"], tmp_path).stdout.splitlines()
        for n in range(len(NEW)):
            (row,) = [r for r in rows if r.startswith(f"made-{n} ")]
            assert f"qom-made-{n} 0.1.0" in row and " loaded " in row
        for top in made:
            run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider"], top)
        assert {path: path.read_bytes() for path in before} == before
    finally:
        run([*pip, "uninstall", "--quiet", "--yes", *(top.name for top in made)], tmp_path)
