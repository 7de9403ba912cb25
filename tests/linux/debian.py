"""What the Linux tests start: Debian's packages, fetched by apt and kept outside the tree.

The cache is the folder that the variable QOM_TEST_CACHE names, else `~/.cache/qom-tests`.  A package that is not there is
fetched by `apt-get download`; a test that needs one that cannot be had is skipped, with apt's reason.  Several test
processes may ask at once: one works in the cache, the others wait and then find what it left.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

KERNELS = ("amd64", "cloud-amd64")
SERIES = "6.1"
FETCH_SECONDS = 300
APT = ("-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20", "-o", "Acquire::Retries=1")


class Unavailable(Exception):
    """A package cannot be had here; says why."""


def cache() -> Path:
    """The folder for what was fetched."""
    named = os.environ.get("QOM_TEST_CACHE")
    folder = Path(named) if named else Path.home() / ".cache" / "qom-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Work in the cache while no other process does."""
    with open(cache() / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        yield


def need_kernel(flavour: str) -> Path:
    """The unmodified kernel of the newest linux-image-6.1*-`flavour`, or skip."""
    try:
        package = kernel_package(flavour)
        with alone():
            return package_file(package, f"boot/vmlinuz-{package.removeprefix('linux-image-')}")
    except Unavailable as error:
        pytest.skip(str(error))


def need_file(package: str, member: str) -> Path:
    """One file of a package, or skip."""
    try:
        with alone():
            return package_file(package, member)
    except Unavailable as error:
        pytest.skip(str(error))


def need_trees(*packages: str) -> list[Path]:
    """For each package a folder with all that it installs, or skip."""
    try:
        with alone():
            fetch(*packages)
            return [package_tree(package) for package in packages]
    except Unavailable as error:
        pytest.skip(str(error))


@functools.cache
def kernel_package(flavour: str) -> str:
    """The name of the newest kernel package of a flavour.

    Raises:
        Unavailable: apt knows none.
    """
    names = _run("apt-cache", "pkgnames", f"linux-image-{SERIES}").split()
    pattern = re.compile(rf"linux-image-{re.escape(SERIES)}\.(\d+)-(\d+)-{flavour}")
    found = {tuple(map(int, match.groups())): name for name in names if (match := pattern.fullmatch(name))}
    if not found:
        raise Unavailable(f"apt knows no linux-image-{SERIES}*-{flavour} (Debian 12 has it, after apt-get update)")
    return found[max(found)]


@functools.cache
def package_file(package: str, member: str) -> Path:
    """One file of a package.

    Raises:
        Unavailable: the package cannot be had, or has no such file.
    """
    archive = _archive(package)
    path = cache() / "files" / archive.stem / member
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _contents(archive) as tar:
            for entry in tar:
                if entry.name.removeprefix("./") == member and (source := tar.extractfile(entry)) is not None:
                    _keep(path, source.read(), entry.mode)
                    break
            else:
                raise Unavailable(f"Debian's package {package} has no {member}")
    return path


@functools.cache
def package_tree(package: str) -> Path:
    """Everything a package installs, in a folder.

    Raises:
        Unavailable: the package cannot be had.
    """
    archive = _archive(package)
    folder = cache() / "trees" / archive.stem
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            _run("dpkg-deb", "-x", str(archive), f"{made}/tree")
            Path(made, "tree").rename(folder)
    return folder


def fetch(*packages: str) -> None:
    """Have packages in the cache, in the newest version that apt has; all that are missing in one go.

    Raises:
        Unavailable: apt has not got one of them.
    """
    asked = [package for package in packages if package not in _archives]
    if not asked:
        return
    folder = cache() / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    text = _run("apt-cache", "policy", *asked)
    versions = dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (\S+)", text, re.MULTILINE))
    wanted = {package: f"{package}_{versions.get(package, '*').replace(':', '%3a')}_*.deb" for package in asked}
    missing = [package for package in asked if not list(folder.glob(wanted[package]))]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            _run("apt-get", "-q", *APT, "download", *missing, cwd=made)
            for fetched in Path(made).glob("*.deb"):
                fetched.rename(folder / fetched.name)
    for package in asked:
        found = sorted(folder.glob(wanted[package]))
        if not found:
            raise Unavailable(f"apt-get download {package} gave no {wanted[package]}")
        _archives[package] = found[-1]


_archives: dict[str, Path] = {}
"""The packages in the cache that were looked at."""


def _archive(package: str) -> Path:
    fetch(package)
    return _archives[package]


def _contents(archive: Path) -> tarfile.TarFile:
    tool = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE, check=True)
    return tarfile.open(fileobj=io.BytesIO(tool.stdout))


def _keep(path: Path, data: bytes, mode: int) -> None:
    """Write a file so that nobody ever finds half of it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    Path(file.name).chmod(mode)
    Path(file.name).rename(path)


def _run(*words: str, cwd: str | None = None) -> str:
    if shutil.which(words[0]) is None:
        raise Unavailable(f"{words[0]} is not installed: Debian's packages cannot be fetched here")
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{words[0]}: not done within {FETCH_SECONDS} s") from None
    if done.returncode != 0:
        raise Unavailable(f"{words[0]}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return done.stdout
