"""Debian's kernels suspend to RAM and go on: woken by a command, by the clock's alarm, by a key, by the power button.

One boot; `QOM_LINUX=all` runs more, with more processors, without firmware, and what ends the sleep otherwise.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from debian import kernel_package, need_kernel, need_trees
from initramfs import PROMPT, need_initramfs
from linux_guest import BOOT_SECONDS, COMMAND_SECONDS, DONE, WRONG, Guest, linux

from plugins.firmware import find_seabios

only_in_full = pytest.mark.skipif(os.environ.get("QOM_LINUX") != "all", reason="another boot, which QOM_LINUX=all runs")
SLEEP = "echo mem > /sys/power/state"
ALARM = "echo 0 > /sys/class/rtc/rtc0/wakealarm; echo +2 > /sys/class/rtc/rtc0/wakealarm"


class Sleeper:
    """A guest, and what its machine tells of its sleep."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.vm = guest.machine.vm
        self.told: list[str] = []
        self.asleep = threading.Event()
        self.vm.events.append(self._hear)

    def _hear(self, name: str, data: dict[str, Any]) -> None:
        del data
        if name in ("SUSPEND", "WAKEUP", "RESET"):
            self.told.append(name)
        if name == "SUSPEND":
            self.asleep.set()

    def sleep(self) -> None:
        """Have it suspend itself, and wait until it has."""
        self.asleep.clear()
        self.guest.console.write(f'{SLEEP}; echo "<<$?>>"\n')
        assert self.asleep.wait(COMMAND_SECONDS), self.guest.console.text[-2000:]
        assert self.vm.monitor_command("query-status")["status"] == "suspended"

    def through(self, wake: Callable[[], object]) -> None:
        """Have it suspend itself, wake it, and see that its shell goes on."""
        self.sleep()
        wake()
        self.awake()

    def awake(self) -> None:
        text = self.guest.console.read_until(DONE, COMMAND_SECONDS)
        assert text.endswith("<<0>>"), text
        self.guest.console.read_until(PROMPT, COMMAND_SECONDS)
        assert self.told == ["SUSPEND", "WAKEUP"]
        self.told.clear()

    def command(self) -> None:
        self.vm.monitor_command("system_wakeup")


@contextmanager
def sleeper(
    folder: Path, flavour: str, smp: int | str, way: str, files: dict[str, bytes] | None = None
) -> Iterator[Sleeper]:
    """A guest at its shell, whose kernel can suspend to RAM."""
    firmware = way if way != "seabios" else str(find_seabios() or pytest.skip("SeaBIOS is not installed"))
    initrd = need_initramfs(folder / "initramfs", files=files)
    with linux(need_kernel(flavour), initrd, smp=smp, memory="512M", firmware=firmware) as guest:
        guest.wait_for_shell()
        assert guest.run("cat /sys/power/state /sys/power/mem_sleep").split() == [
            "freeze",
            "mem",
            "disk",
            "s2idle",
            "[deep]",
        ]
        yield Sleeper(guest)


def check(guest: Guest, smp: int, times: int) -> None:
    """All processors are there, every sleep worked, and the log is a good one."""
    assert int(guest.run("nproc")) == smp
    assert guest.run("cd /sys/power/suspend_stats; cat success fail; cd /").split() == [str(times), "0"]
    log = guest.log()
    assert [line for line in log if WRONG.search(line) or re.match(r"<[0-3]>", line)] == []
    assert sum("Waking up from system sleep state S3" in line for line in log) == times


@pytest.mark.parametrize(
    ("flavour", "smp", "way"),
    [
        ("cloud-amd64", 2, "seabios"),
        pytest.param("amd64", 4, "seabios", marks=only_in_full),
        pytest.param("cloud-amd64", 1, "none", marks=only_in_full),
        pytest.param("amd64", 2, "none", marks=only_in_full),
    ],
)
def test_asleep_and_woken(flavour: str, smp: int, way: str, tmp_path: Path) -> None:
    with sleeper(tmp_path, flavour, smp, way) as sleeping:
        guest = sleeping.guest
        guest.run("echo kept > /kept")
        sleeping.through(sleeping.command)
        sleeping.through(lambda: sleeping.vm.monitor_command("send-key", keys=[{"type": "qcode", "data": "ret"}]))
        guest.run(ALARM)
        before = int(guest.run("date +%s"))
        sleeping.through(lambda: None)
        assert int(guest.run("date +%s")) - before in range(1, 30)
        assert guest.run("cat /kept").strip() == "kept"
        check(guest, smp, 3)
        guest.power_off()


@only_in_full
def test_the_power_button_wakes_a_guest_that_listens_to_it(tmp_path: Path) -> None:
    (tree,) = need_trees(kernel_package("amd64"))
    module = next(tree.rglob("button.ko")).read_bytes()
    with sleeper(tmp_path, "amd64", 1, "seabios", {"m/button.ko": module}) as sleeping:
        sleeping.guest.run("insmod /m/button.ko")
        sleeping.through(lambda: sleeping.vm.monitor_command("system_powerdown"))
        check(sleeping.guest, 1, 1)
        sleeping.guest.power_off()


@only_in_full
def test_what_came_by_hotplug_is_there_after_the_sleep_and_more_comes(tmp_path: Path) -> None:
    """Without firmware: SeaBIOS 1.16 waits for ever, on QEMU as here, when a processor has come since its start."""
    with sleeper(tmp_path, "cloud-amd64", "1,maxcpus=3", "none") as sleeping:
        guest, do = sleeping.guest, sleeping.vm.monitor_command

        def see(path: str) -> None:
            guest.run(
                f"n=0; until [ -e {path} ]; do n=$((n+1)); [ $n -lt 300 ] || break; usleep 20000; done; [ -e {path} ]"
            )

        def bring(n: int) -> None:
            place = next(each["props"] for each in do("query-hotpluggable-cpus")[::-1] if "qom-path" not in each)
            do("device_add", driver="qemu64-x86_64-cpu", id=f"cpu{n}", **place)
            see(f"/sys/devices/system/cpu/cpu{n}/online")
            guest.run(f"echo 1 > /sys/devices/system/cpu/cpu{n}/online")

        bring(1)
        do("device_add", driver="pci-testdev", id="card7", addr="07.0")
        see("/sys/bus/pci/devices/0000:00:07.0")
        sleeping.through(sleeping.command)
        assert guest.run("nproc; cat /sys/bus/pci/devices/0000:00:07.0/device").split() == ["2", "0x0005"]
        bring(2)
        do("device_add", driver="pci-testdev", id="card8", addr="08.0")
        see("/sys/bus/pci/devices/0000:00:08.0")
        check(guest, 3, 1)
        guest.power_off()


@only_in_full
@pytest.mark.parametrize("way", ["seabios", "none"])
def test_a_reset_in_its_sleep_starts_it_anew(way: str, tmp_path: Path) -> None:
    with sleeper(tmp_path, "cloud-amd64", 1, way) as sleeping:
        sleeping.guest.run("touch /here")
        sleeping.sleep()
        sleeping.vm.monitor_command("system_reset")
        assert sleeping.vm.monitor_command("query-status")["status"] == "prelaunch"
        sleeping.vm.monitor_command("cont")
        sleeping.guest.console.read_until("Linux version", BOOT_SECONDS)
        sleeping.guest.wait_for_shell()
        sleeping.guest.run("test ! -e /here")
        assert sleeping.told == ["SUSPEND", "RESET"]
        sleeping.guest.power_off()
