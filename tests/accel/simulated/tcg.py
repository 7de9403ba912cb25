"""Runs a ROM on QEMU's TCG up to an address and reads what it left in memory, through the gdb stub."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from gdb_remote import GdbRemote

QEMU = shutil.which("qemu-system-x86_64")


def run(
    image: bytes, memory: dict[int, bytes], *, until: int, read: dict[int, int], seconds: float = 240.0
) -> list[bytes]:
    """Start `image` as firmware with `memory` (address: bytes) filled; at `until`, the `read` (address: size) blocks.

    The guest must get there within `seconds`; otherwise `TimeoutError`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "rom").write_bytes(image)
        command = [str(QEMU), "-accel", "tcg", "-M", "pc", "-cpu", "max,la57=off", "-m", "16", "-nodefaults"]
        command += ["-display", "none", "-no-reboot", "-bios", str(path / "rom"), "-S"]
        command += ["-gdb", f"unix:{path}/gdb,server=on,wait=off"]
        for address, data in memory.items():
            (path / f"{address:x}").write_bytes(data)
            command += ["-device", f"loader,file={path}/{address:x},addr={address:#x},force-raw=on"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            remote = GdbRemote(path / "gdb", seconds)
            stopped = remote.run_to(until)
            assert stopped.startswith("T05"), stopped
            blocks = [remote.read(address, size) for address, size in read.items()]
            remote.close()
        finally:
            process.kill()
            process.communicate()
    return blocks
