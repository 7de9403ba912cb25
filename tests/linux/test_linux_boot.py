"""Debian's own kernels boot to a shell, take commands, and power off.

`QOM_LINUX=all` runs every combination, and the ways out of Linux other than power-off; without it four are run that have every
value in them.
"""

from __future__ import annotations

import itertools
import lzma
import os
import re
import struct
from pathlib import Path

import pytest
from debian import KERNELS, need_kernel
from initramfs import need_initramfs
from linux_guest import BOOT_SECONDS, WRONG, Guest, linux

from plugins.firmware import find_seabios

WAYS = ("seabios", "none")
SMP = (1, 2, 4)
MEMORY = {"512M": 512 << 10, "6G": 6 << 20}  # in KiB
SHORT = [
    ("cloud-amd64", 1, "512M", "none"),
    ("amd64", 2, "512M", "seabios"),
    ("cloud-amd64", 4, "6G", "seabios"),
    ("amd64", 4, "6G", "none"),
]
ALL = os.environ.get("QOM_LINUX") == "all"
only_in_full = pytest.mark.skipif(not ALL, reason="another boot, which QOM_LINUX=all runs")
EVERY = list(itertools.product(KERNELS, SMP, MEMORY, WAYS))
TAKEN = 64 << 10  # KiB that a kernel keeps of the memory for itself, at most, and one part in 32


@pytest.fixture(scope="module")
def initramfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return need_initramfs(tmp_path_factory.mktemp("initramfs") / "initramfs.cpio")


def firmware(way: str) -> str:
    if way != "seabios":
        return way
    found = find_seabios()
    if found is None:
        pytest.skip("SeaBIOS is not installed (Debian's package: seabios)")
    return str(found)


def check_log(guest: Guest) -> None:
    """No warning and no oops, and nothing of the levels 0 to 3."""
    log = guest.log()
    assert len(log) > 200
    assert [line for line in log if WRONG.search(line)] == []
    assert [line for line in log if re.match(r"<[0-3]>", line)] == []


@pytest.mark.slow
@pytest.mark.parametrize(("flavour", "smp", "memory", "way"), EVERY if ALL else SHORT)
def test_to_a_shell_and_off(flavour: str, smp: int, memory: str, way: str, initramfs: Path) -> None:
    kernel = need_kernel(flavour)
    with linux(kernel, initramfs, smp=smp, memory=memory, firmware=firmware(way)) as guest:
        guest.wait_for_shell()
        assert guest.run("uname -r").strip() == kernel.name.removeprefix("vmlinuz-")
        assert int(guest.run("nproc")) == smp
        total = int(guest.run("grep MemTotal /proc/meminfo").split()[1])
        assert MEMORY[memory] * 31 // 32 - TAKEN <= total <= MEMORY[memory]
        assert guest.run("echo $((6 * 7))").strip() == "42"
        check_log(guest)
        guest.power_off()


@only_in_full
@pytest.mark.parametrize("way", WAYS)
def test_the_uncompressed_kernel_starts_by_its_pvh_note(way: str, initramfs: Path, tmp_path: Path) -> None:
    image = need_kernel("amd64").read_bytes()
    offset, length = struct.unpack_from("<II", image, 0x248)  # the payload, from the end of the setup sectors on
    payload = image[(1 + image[0x1F1]) * 512 + offset :][:length]
    vmlinux = tmp_path / "vmlinux"
    vmlinux.write_bytes(lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload))
    with linux(vmlinux, initramfs, smp=2, memory="512M", firmware=firmware(way)) as guest:
        guest.wait_for_shell()
        assert int(guest.run("nproc")) == 2
        check_log(guest)
        guest.power_off()


@only_in_full
@pytest.mark.parametrize("way", WAYS)
def test_a_reboot_starts_anew(way: str, initramfs: Path) -> None:
    with linux(need_kernel("cloud-amd64"), initramfs, memory="512M", firmware=firmware(way)) as guest:
        guest.wait_for_shell()
        guest.run("touch /here")
        guest.console.write("reboot -f\n")
        guest.console.read_until("Linux version", BOOT_SECONDS)
        guest.wait_for_shell()
        guest.run("test ! -e /here")
        check_log(guest)
        guest.power_off()


@only_in_full
def test_a_panic_ends_a_machine_that_does_not_reboot(initramfs: Path) -> None:
    kernel = need_kernel("cloud-amd64")
    with linux(kernel, initramfs, memory="512M", firmware="none", no_reboot=True) as guest:
        guest.wait_for_shell()
        guest.console.write("echo c > /proc/sysrq-trigger\n")
        guest.machine.expect_shutdown(timeout=BOOT_SECONDS)
        assert "Kernel panic - not syncing: sysrq triggered crash" in guest.console.text
        assert guest.machine.vm.shutdown_reason != "acpi-soft-off"
