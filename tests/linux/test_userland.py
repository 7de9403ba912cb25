"""Debian's programs do the same in a guest as on the host: the same files, byte-identical output."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from debian import need_kernel, need_trees
from initramfs import need_initramfs
from linux_guest import linux

PACKAGES = (
    "libc6", "zlib1g", "liblzma5", "libbz2-1.0", "libssl3", "libexpat1", "libffi8", "libuuid1", "libselinux1", "libpcre2-8-0",
    "libgmp10", "libacl1", "libattr1", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib",
    "coreutils", "gzip", "xz-utils", "mawk",
)  # fmt: skip
PROGRAMS = Path(__file__).with_name("programs.py")
SAME_CODE = "glibc.cpu.hwcaps=-AVX2,-AVX,-FMA,-FMA4,-AVX512F,-ERMS,-SSE4_2,-SSE4_1,-SSSE3"
"""glibc chooses code by CPUID; results of its mathematical functions may differ between choices, so the host takes the
guest's."""


@pytest.mark.slow
def test_programs_write_the_same_in_the_guest_and_on_the_host(tmp_path: Path) -> None:
    kernel = need_kernel("cloud-amd64")
    trees = need_trees(*PACKAGES)
    root = tmp_path / "root"
    for tree in trees:
        subprocess.run(["cp", "-a", "-n", f"{tree}/.", str(root)], check=True)
    initramfs = need_initramfs(tmp_path / "initramfs.cpio", trees=trees, files={"programs.py": PROGRAMS.read_bytes()})
    host = on_the_host(root)
    assert len(host.splitlines()) > 80
    with linux(kernel, initramfs, memory="1G", firmware="none") as guest:
        guest.wait_for_shell()
        found = guest.run("/usr/bin/python3.11 /programs.py > /out 2>&1; cat /out", 300)
        guest.power_off()
    differ = [pair for pair in zip(host.splitlines(), found.splitlines(), strict=False) if pair[0] != pair[1]]
    assert differ == []
    assert found == host


def on_the_host(root: Path) -> str:
    """The programs' output, from the same files, loaded by the same loader."""
    folders = ":".join(f"{root}/{folder}/x86_64-linux-gnu" for folder in ("lib", "usr/lib"))
    loader = [str(root / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), "--library-path", folders]
    words = [*loader, f"{root}/usr/bin/python3.11", str(PROGRAMS), *loader, str(root)]
    environment = {
        "GLIBC_TUNABLES": SAME_CODE,
        "LC_ALL": "C.UTF-8",
        "PYTHONHOME": f"{root}/usr",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        pytest.fail(f"on the host: {done.stderr}")
    return done.stdout
