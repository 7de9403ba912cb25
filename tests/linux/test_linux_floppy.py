"""Debian's floppy driver reads and writes a floppy: by DMA, after its own reset, seeks and configuration of the chip.

One boot, which `QOM_LINUX=all` runs; the driver is the kernel's own module.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from debian import kernel_package, need_kernel, need_trees
from initramfs import need_initramfs
from linux_guest import linux

pytestmark = pytest.mark.skipif(os.environ.get("QOM_LINUX") != "all", reason="another boot, which QOM_LINUX=all runs")


def test_linux_reads_and_writes_a_floppy(tmp_path: Path) -> None:
    kernel = need_kernel("amd64")
    (tree,) = need_trees(kernel_package("amd64"))
    files = {"m/floppy.ko": next(tree.rglob("floppy.ko")).read_bytes()}
    image = tmp_path / "floppy.img"
    data = b"".join(n.to_bytes(4, "little") * 128 for n in range(2880))
    image.write_bytes(data)
    with linux(
        kernel,
        need_initramfs(tmp_path / "initramfs", files=files),
        memory="512M",
        firmware="none",
        drives=[f"if=floppy,file={image}"],
    ) as guest:
        guest.wait_for_shell()
        guest.run("insmod /m/floppy.ko")
        assert "fd0 is 1.44M" in guest.run("sleep 1; dmesg | tail -n 5")
        assert hashlib.md5(data[: 20 * 18432]).hexdigest() in guest.run("dd if=/dev/fd0 bs=18k count=20 | md5sum")
        guest.run("echo hello | dd of=/dev/fd0 bs=512 seek=2879 conv=sync; sync")
    assert image.read_bytes() == data[:-512] + b"hello\n".ljust(512, b"\0")
