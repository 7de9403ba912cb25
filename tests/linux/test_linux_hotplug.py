"""Linux sees, by ACPI, processors and PCI devices that come, and lets go of those it is asked for."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import Any

import pytest
from debian import need_kernel
from initramfs import need_initramfs
from linux_guest import COMMAND_SECONDS, WRONG, Guest, linux

CPU = "qemu64-x86_64-cpu"


class Hotplug:
    """QMP of a guest's machine, and its events."""

    def __init__(self, guest: Guest) -> None:
        self.vm = guest.machine.vm
        self._events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.reports: list[tuple[str, int, int]] = []
        self.vm.events.append(lambda name, data: self._events.put((name, data)))

    def do(self, command: str, **arguments: Any) -> Any:
        return self.vm.monitor_command(command, **arguments)

    def wait_until_gone(self) -> str:
        """The next device that is gone; what the guest reports meanwhile is kept."""
        while True:
            name, data = self._events.get(timeout=COMMAND_SECONDS)
            if name == "ACPI_DEVICE_OST":
                info = data["info"]
                self.reports.append((info["slot"], info["source"], info["status"]))
            elif name == "DEVICE_DELETED" and "device" in data:
                return str(data["device"])

    def indices(self) -> list[int]:
        return [cpu["cpu-index"] for cpu in self.do("query-cpus-fast")]


def until(guest: Guest, condition: str) -> None:
    """Wait in the guest."""
    guest.run(f"n=0; until {condition}; do n=$((n+1)); [ $n -lt 300 ] || break; usleep 20000; done; {condition}")


def bring_online(guest: Guest) -> None:
    until(guest, "[ -e /sys/devices/system/cpu/cpu1/online ]")
    guest.run("echo 1 > /sys/devices/system/cpu/cpu1/online")


ANOTHER = pytest.mark.skipif(os.environ.get("QOM_LINUX") != "all", reason="another boot, which QOM_LINUX=all runs")


@pytest.mark.parametrize(
    "firmware", [pytest.param("none", marks=ANOTHER, id="direct"), pytest.param(None, id="seabios")]
)
def test_processors_and_cards_come_and_go(firmware: str | None, tmp_path: Path) -> None:
    kernel, initrd = need_kernel("cloud-amd64"), need_initramfs(tmp_path / "initramfs.cpio")
    more = {} if firmware is None else {"firmware": firmware}
    with linux(kernel, initrd, memory="256M", smp="1,maxcpus=2", **more) as guest:
        guest.wait_for_shell()
        hotplug = Hotplug(guest)
        assert guest.run("cat /sys/devices/system/cpu/possible; nproc").split() == ["0-1", "1"]
        place = next(each["props"] for each in hotplug.do("query-hotpluggable-cpus") if "qom-path" not in each)

        hotplug.do("device_add", driver=CPU, id="late", **place)
        bring_online(guest)
        assert guest.run("cat /sys/devices/system/cpu/online; nproc; grep -c ^processor /proc/cpuinfo").split() == [
            "0-1", "2", "2",
        ]  # fmt: skip
        assert guest.run("taskset 2 sh -c 'cut -d\" \" -f39 /proc/self/stat'").strip() == "1"  # it executes there

        hotplug.do("device_del", id="late")
        assert hotplug.wait_until_gone() == "late"
        assert hotplug.indices() == [0]
        assert ("1", 1, 0) in hotplug.reports  # of the device check: success
        assert guest.run("nproc; ls -d /sys/devices/system/cpu/cpu[0-9]").split() == [
            "1",
            "/sys/devices/system/cpu/cpu0",
        ]

        hotplug.do("device_add", driver=CPU, id="again", **place)
        bring_online(guest)
        assert guest.run("nproc").strip() == "2"

        hotplug.do("device_add", driver="pci-testdev", id="card", addr="07.0")
        until(guest, "[ -e /sys/bus/pci/devices/0000:00:07.0 ]")
        assert guest.run("cat /sys/bus/pci/devices/0000:00:07.0/device").strip() == "0x0005"
        hotplug.do("device_del", id="card")
        assert hotplug.wait_until_gone() == "card"
        until(guest, "[ ! -e /sys/bus/pci/devices/0000:00:07.0 ]")

        hotplug.do("device_add", driver="pci-testdev", id="other", addr="08.0")
        until(guest, "[ -e /sys/bus/pci/devices/0000:00:08.0 ]")
        guest.run("echo 0 > /sys/bus/pci/slots/8/power")  # the guest's own idea
        assert hotplug.wait_until_gone() == "other"
        assert [line for line in guest.log() if WRONG.search(line)] == []

        if firmware is None:  # a processor that came is there from the start the next time
            hotplug.vm.reset()
            guest.wait_for_shell()
            assert guest.run("nproc; grep -c ^processor /proc/cpuinfo").split() == ["2", "2"]
            assert guest.run("dmesg | grep -c 'Brought up 1 node, 2 CPUs'").strip() == "1"
        guest.power_off()
