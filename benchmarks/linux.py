"""Debian's kernels with a busybox that switches off at once: from the start of the process to the end of the machine."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs

from benchmarks.peers import BenchmarkError, Peer
from benchmarks.report import Row

TESTS = Path(__file__).resolve().parents[1] / "tests" / "linux"
INIT = b"#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n/bin/busybox echo up\n/bin/busybox poweroff -f\n"
FLAVOURS = ("cloud-amd64", "amd64")
COMMAND_LINE = "console=ttyS0 panic=-1"
END = "reboot: Power down"


@attrs.frozen
class Boot:
    """What is started."""

    flavour: str
    kernel: Path
    initrd: Path


def _module(name: str) -> Any:
    """A module that the Linux tests share: they fetch Debian's packages and write archives."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    return importlib.import_module(name)


def prepare(flavour: str, folder: Path) -> Boot:
    """Fetch a kernel and busybox, and write the archive into `folder`.

    Raises:
        BenchmarkError: they cannot be had here.
    """
    debian, initramfs = _module("debian"), _module("initramfs")
    try:
        package = debian.kernel_package(flavour)
        kernel = debian.package_file(package, f"boot/vmlinuz-{package.removeprefix('linux-image-')}")
        busybox = debian.package_file("busybox-static", "bin/busybox")
    except debian.Unavailable as error:
        raise BenchmarkError(str(error)) from None
    archive = initramfs.Archive()
    for name in ("dev", "proc"):
        archive.folder(name)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes(), 0o755)
    archive.file("init", INIT, 0o755)
    initrd = folder / f"{flavour}.cpio"
    initrd.write_bytes(archive.finish())
    return Boot(flavour, kernel, initrd)


def measure_linux(peers: list[Peer], rounds: int, flavours: tuple[str, ...] = FLAVOURS) -> list[Row]:
    """Two rows a flavour: time on the wall, processor time."""
    rows = []
    for flavour in flavours:
        what = f"Linux 6.1 {flavour}"
        wall = Row(what, "start to power-off, SeaBIOS, time on the wall", "s", higher_is_better=False)
        cost = Row(what, "start to power-off, SeaBIOS, processor time", "s", higher_is_better=False)
        rows += [wall, cost]
        with tempfile.TemporaryDirectory() as made:
            try:
                boot = prepare(flavour, Path(made))
            except BenchmarkError as error:
                wall.missing = {peer.name: str(error) for peer in peers}
                continue
            for _ in range(rounds):
                for peer in peers:
                    if peer.name in wall.missing:
                        continue
                    try:
                        took = peer.linux(boot.kernel, boot.initrd, COMMAND_LINE, END)
                    except BenchmarkError as error:
                        wall.missing[peer.name] = str(error).splitlines()[0]
                        continue
                    wall.samples.setdefault(peer.name, []).append(took.wall)
                    cost.samples.setdefault(peer.name, []).append(took.processor)
    return rows
