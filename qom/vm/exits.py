"""Exits of a running machine, counted per reason, processor and device.

Reasons are what the accelerator counts anyway and cost nothing.  Devices are counted by observers of the port and memory
accesses (`vm.observe`), from the moment the watch begins: a call for each access, nothing for exits that are none.

Not told: accesses that an accelerator serves inside (a local APIC of KVM's), and the guest's accesses to RAM, which do not
leave it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from qom.hw.probe import Access

if TYPE_CHECKING:
    from qom.vm.vm import VirtualMachine

__all__ = ["DeviceExits", "ExitSample", "ExitWatch"]

INNER, USER = "inner", "user"
NOBODY = "(nothing there)"


@attrs.frozen
class DeviceExits:
    """Accesses that one region of a device answered."""

    path: str
    region: str
    category: str
    reads: int
    writes: int

    @property
    def total(self) -> int:
        """Both."""
        return self.reads + self.writes


@attrs.frozen
class ExitSample:
    """How many exits there were up to a moment.

    seconds: of host time since the watch began.  inner, user: counts by reason and processor; what the accelerator's inner
    half saw, and what it passed on to user space.  devices: the busiest first.
    """

    seconds: float
    inner: dict[str, dict[str, int]]
    user: dict[str, dict[str, int]]
    devices: tuple[DeviceExits, ...]

    @property
    def cpus(self) -> list[str]:
        """The processors, by index."""
        names = {cpu for half in (self.inner, self.user) for counts in half.values() for cpu in counts}
        return sorted(names, key=int)

    @property
    def total(self) -> int:
        """Exits to user space."""
        return sum(n for counts in self.user.values() for n in counts.values())


class ExitWatch:
    """Counts until `close`; made once the machine is built."""

    def __init__(self, vm: VirtualMachine) -> None:
        self._vm = vm
        self._devices: dict[tuple[Any, str], list[int]] = {}
        self._began = time.monotonic()
        self.samples: list[ExitSample] = []
        """What `sample` gave so far, for a curve over time."""
        self._observations = [
            vm.observe.accesses(self._access, space="io", after_others=True),
            vm.observe.accesses(self._access, space="memory", after_others=True),
        ]

    def close(self) -> None:
        """Count no more; what was counted stays."""
        while self._observations:
            self._observations.pop().close()

    def _access(self, access: Access) -> None:
        """The machine lock is held.  An access without a processor is a device's own (DMA)."""
        if access.cpu is None or (access.device is None and access.region):
            return
        counts = self._devices.setdefault((access.device, access.region), [0, 0])
        counts[access.is_write] += 1

    def sample(self) -> ExitSample:
        """The counts now; any thread."""
        accel: Any = self._vm.machine.accel
        counts: dict[str, dict[str, dict[str, int]]] = accel.exit_counts()
        halves: dict[str, dict[str, dict[str, int]]] = {INNER: {}, USER: {}}
        for cpu, by_half in counts.items():
            for half, reasons in by_half.items():
                for reason, n in reasons.items():
                    halves[half].setdefault(reason, {})[cpu] = n
        with self._vm.lock:
            rows = [(device, region, *n) for (device, region), n in self._devices.items()]
        devices = [
            DeviceExits(
                NOBODY if device is None else str(getattr(device, "path", device)),
                region,
                str(getattr(type(device), "category", "misc")),
                reads,
                writes,
            )
            for device, region, reads, writes in rows
        ]
        devices.sort(key=lambda row: (-row.total, row.path, row.region))
        made = ExitSample(time.monotonic() - self._began, halves[INNER], halves[USER], tuple(devices))
        self.samples.append(made)
        return made
