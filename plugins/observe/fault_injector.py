"""Fault injector: makes a part of a machine go wrong, on purpose and repeatably.

It looks at accesses to a device (or to ports or addresses), at an interrupt line, or at realize; it counts those that
match, and from the `from`-th to the `to`-th of them, with the probability asked for, does what `fault` says:

    value   a read gives `value`, a write writes it; a line is driven to it
    flip    the bits of `mask` are inverted; a line is inverted
    error   a read gives all ones, a write has no effect; realize fails
    drop    a write or a change of a line has no effect (a read is left alone)
    delay   a change of a line arrives `delay` nanoseconds of guest time later

The device is asked before its answer is changed, as with a wire that is bad; with `before=on` it is not asked at all.

Not modelled: faults in the guest's RAM (its accesses cause no exits), in a processor, or in interrupts that are delivered
inside an accelerator.
"""

from __future__ import annotations

import random
from typing import Any, Final

from qom import ConfigError, Device, Object, Timer, UserCreatable, VirtualMachine, prop, type_init
from qom.hw import Access, Fail, LifeStep, LineChange, Observation

ACCESSES: Final = ("read", "write", "access")
ALLOWED: Final = {
    "read": ("value", "flip", "error"),
    "write": ("value", "flip", "error", "drop"),
    "access": ("value", "flip", "error", "drop"),
    "line": ("value", "flip", "drop", "delay"),
    "realize": ("error",),
}


@type_init("fault-injector")
class FaultInjector(Object, UserCreatable):
    """Makes a device fail."""

    what: str = prop("access", "What goes wrong: a read, a write, any access, a line, or realize", type="enum",
                   among=("read", "write", "access", "line", "realize"))  # fmt: skip
    fault: str = prop("error", "How it goes wrong", type="enum", among=("value", "flip", "error", "drop", "delay"))
    device: str = prop("", "The device (path, id or type; types derived from it count); empty: any")
    space: str = prop("io", "Address space of accesses", type="enum", among=("io", "memory"))
    first: int = prop(0, "First port or address; with a device, first offset in its region", type="uint64", base=16)
    last: int = prop(0xFFFF_FFFF_FFFF_FFFF, "Last port, address or offset", type="uint64", base=16)
    region: str = prop("", "Only this region of the device; empty: all it has")
    line: str = prop("", "Name of the line ('isa-irq' and 'intx' for those of a bus); empty: any")
    n: int = prop(-1, "Number of the line; -1: any", type="int32", min=-1)
    value: int = prop(0, "For fault=value", type="uint64", base=16)
    mask: int = prop(1, "Bits that fault=flip inverts", type="uint64", base=16)
    delay: int = prop(1_000_000, "For fault=delay: how much later, in guest time", type="int64", unit="ns", min=0)
    from_: int = prop(1, "The first of the matching events that goes wrong, counted from 1", type="int64", min=1)
    to: int = prop(0, "The last one that goes wrong; 0: all that follow", type="int64", min=0)
    per_mille: int = prop(1000, "How many of a thousand of those go wrong, at random", type="uint32", max=1000)
    seed: int = prop(0, "Of the random numbers: the same seed, the same faults", type="uint64")
    before: bool = prop(False, "Whether a device is not even asked for a read that goes wrong")
    enabled: bool = prop(True, "Whether anything goes wrong now", mutable=True)

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Makes accesses, interrupts or realize of a device go wrong", "observe"

    def instance_init(self) -> None:
        """Nothing goes wrong yet."""
        self.matched = 0  # events so far that it looks at
        self.injected = 0  # those of them that went wrong
        self._observations: list[Observation] = []
        self._timers: list[Timer] = []

    def attach(self, vm: VirtualMachine) -> None:
        """Be told of the machine."""
        self._vm = vm

    def complete(self) -> None:
        """Check what was asked for, and begin.

        Raises:
            ConfigError: the fault does not go with what it is to happen to, or a range is empty.
        """
        if self.fault not in ALLOWED[self.what]:
            allowed = ", ".join(ALLOWED[self.what])
            raise ConfigError(f"{self.path}: fault={self.fault} does not go with what={self.what}: expected {allowed}")
        if self.before and self.fault not in ("value", "error"):
            raise ConfigError(f"{self.path}: before=on does not go with fault={self.fault}: expected value, error")
        if self.last < self.first:
            raise ConfigError(f"{self.path}: last {self.last:#x} is before first {self.first:#x}")
        if self.to and self.to < self.from_:
            raise ConfigError(f"{self.path}: to={self.to} is before from={self.from_}")
        if self.what == "realize" and not self.device:
            raise ConfigError(f"{self.path}: what=realize needs device=, to say whose")
        self._random = random.Random(self.seed)
        observe, device = self._vm.observe, self.device or None
        if self.what in ACCESSES:
            span: dict[str, Any] = {} if device else {"first": self.first, "last": self.last}
            watch = observe.accesses(
                self._access,
                space="io" if self.space == "io" else "memory",
                device=device,
                reads=self.what != "write",
                writes=self.what != "read",
                before=self.before,
                **span,
            )
        elif self.what == "line":
            name, n = self.line or None, None if self.n < 0 else self.n
            watch = observe.lines(self._line_change, device=device, name=name, n=n)
        else:
            watch = observe.lifecycle(self._realize, steps=("realize",), device=device)
        self._observations = [watch]
        if device is not None and self.what != "realize":
            self._observations.append(observe.lifecycle(self._check_device, steps=("run-state",)))

    def close(self) -> None:
        """Nothing goes wrong any more; what is delayed never arrives."""
        while self._observations:
            self._observations.pop().close()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def finalize(self) -> None:
        """It stops when it ceases to exist."""
        self.close()

    def _check_device(self, step: LifeStep) -> None:
        """The machine is about to run: a fault that can never happen is a mistake in the configuration."""
        devices = [found for found in self._vm.root.walk() if isinstance(found, Device)]
        wanted = self.device
        known = wanted in self.registry
        for found in devices:
            if wanted in (found.path, found.name) or (known and found.is_a(wanted)):
                self._observations.pop().close()  # asked once
                return
        names = [str(found.name) for found in devices] + [found.type_name for found in devices]
        raise Fail(f"{self.path}: this machine has no device {wanted!r}{self.registry.suggest(wanted, names)}")

    # -- what it does

    def _strikes(self) -> bool:
        """Count an event; whether it goes wrong."""
        if not self.enabled:
            return False
        self.matched += 1
        if self.matched < self.from_ or (self.to and self.matched > self.to):
            return False
        if self.per_mille < 1000 and self._random.randrange(1000) >= self.per_mille:
            return False
        self.injected += 1
        return True

    def _access(self, access: Access) -> None:
        if self.device and not self.first <= access.offset <= self.last:
            return
        if self.region not in ("", access.region) or (self.fault == "drop" and not access.is_write):
            return
        if not self._strikes():
            return
        if self.fault == "value":
            access.value = self.value
        elif self.fault == "flip" and access.value is not None:
            access.value ^= self.mask
        elif self.fault in ("error", "drop"):
            raise Fail(f"{self.path}: {self.fault}")

    def _line_change(self, change: LineChange) -> None:
        if not self._strikes():
            return
        if self.fault == "value":
            change.level = self.value
        elif self.fault == "flip":
            change.level = int(not change.level)
        else:
            if self.fault == "delay":
                self._later(change)
            raise Fail(f"{self.path}: {self.fault}")

    def _later(self, change: LineChange) -> None:
        level = change.level
        timer: Any = None

        def arrive() -> None:
            self._timers.remove(timer)
            change.deliver(level)

        timer = self._vm.clock.timer(arrive, "delayed line", self)
        self._timers.append(timer)
        timer.arm(self.delay)

    def _realize(self, step: LifeStep) -> None:
        if self._strikes():
            raise Fail(f"made to fail by {self.path}")
