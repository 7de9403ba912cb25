"""Debian's kernel and the devices for its health: pvpanic, the watchdog, the generation ID, the NMI button.

One boot, which `QOM_LINUX=all` runs; the drivers are the kernel's own modules.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from debian import kernel_package, need_kernel, need_trees
from initramfs import need_initramfs
from linux_guest import linux

from qom.vm.runstate import RunState

MODULES = ("pvpanic", "pvpanic-mmio", "pvpanic-pci", "ib700wdt")
GUID, NEXT_GUID = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87", "00112233-4455-6677-8899-aabbccddeeff"
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(os.environ.get("QOM_LINUX") != "all", reason="another boot, which QOM_LINUX=all runs")


@pytest.mark.parametrize(
    ("firmware", "panic", "capability"),
    [
        ("none", "pvpanic", "/sys/bus/platform/devices/QEMU0001:00/capability"),
        (None, "pvpanic-pci,addr=5", "/sys/bus/pci/devices/0000:00:05.0/capability"),
    ],
)
def test_linux_and_the_devices_for_its_health(
    tmp_path: Path, firmware: str | None, panic: str, capability: str
) -> None:
    kernel = need_kernel("amd64")
    (tree,) = need_trees(kernel_package("amd64"))
    files = {f"m/{name}.ko": next(tree.rglob(f"{name}.ko")).read_bytes() for name in MODULES}
    told: list[tuple[str, Any]] = []
    stopped = threading.Event()

    def hear(name: str, data: dict[str, Any]) -> None:
        told.append((name, data.get("action")))
        if name == "STOP":
            stopped.set()

    with linux(
        kernel,
        need_initramfs(tmp_path / "initramfs", files=files),
        memory="512M",
        firmware=firmware,
        devices=[panic, "ib700", f"vmgenid,id=generation,guid={GUID}"],
        settings={"action": {"panic": "pause", "watchdog": "none"}},
    ) as guest:
        vm = guest.machine.vm
        vm.events.append(hear)
        guest.wait_for_shell()
        guest.run("insmod /m/pvpanic.ko; insmod /m/pvpanic-mmio.ko; insmod /m/pvpanic-pci.ko")
        assert guest.run(f"cat {capability}").strip() == "3"

        guest.run("insmod /m/ib700wdt.ko timeout=2; echo x > /dev/watchdog; sleep 5")
        assert told == [("WATCHDOG", "none")]

        vm.inject_nmi()
        assert "NMI received for unknown reason" in guest.run("sleep 1; dmesg")

        assert "drivers/vmgenid" in guest.run("readlink /sys/bus/acpi/devices/QEMUVGID:00/driver")
        guest.run("dd if=/dev/random of=/dev/null count=1")
        device: Any = vm.root.resolve("/machine/peripheral/generation")
        with vm.lock:  # as if the guest had been saved here, and gone on in a machine with another identity
            saved = device.save_state()
            device.__dict__["guid"] = NEXT_GUID
            device.load_state(saved)
        assert vm.memory.read_bytes(device.address, 16) == uuid.UUID(NEXT_GUID).bytes_le
        assert "reseeded due to virtual machine fork" in guest.run("sleep 1; dmesg")

        told.clear()
        guest.console.write("echo c > /proc/sysrq-trigger\n")
        assert stopped.wait(PATIENCE)
        assert told == [("GUEST_PANICKED", "pause"), ("STOP", None)]
        assert vm.run_state is RunState.GUEST_PANICKED
