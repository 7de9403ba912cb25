"""`TestMachine`: a machine in the hands of a test; `MachineFactory`: what the fixture `qom_machine` is."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from qom.config import load
from qom.errors import AccelError, QomError
from qom.hw.clock import SteppedClock
from qom.hw.device import Device
from qom.hw.probe import Exit
from qom.testing.accel import unusable
from qom.testing.irq import Interrupt
from qom.vm.console import PATIENCE, Console, ConsoleTimeout
from qom.vm.guest import GuestMemory, GuestPorts, Registers
from qom.vm.launch import open_machine
from qom.vm.vm import VirtualMachine

__all__ = ["LAST_EXITS", "MachineFactory", "TestMachine"]

LAST_EXITS = 64
"""How many of the last exits are kept for the report of a failure."""

STEP_LIMIT = 1_000_000_000


class TestMachine:
    """A machine in the hands of a test.

    Ports and memory are driven as a processor would; under the accelerator qtest the test is the processor, and time is
    stepped.  All of it works on a running machine and from any thread.

    Args:
        vm: the built machine.
        exits: how many of the last exits from the guest to keep (0: none; keeping them makes every exit slower, by about
            9 microseconds).
        console: the console that is meant when none is named; the first there is by default.
    """

    __test__ = False  # not a test class for pytest

    def __init__(self, vm: VirtualMachine, *, exits: int = LAST_EXITS, console: str | None = None) -> None:
        self.vm = vm
        self.exits: deque[Exit] = deque(maxlen=exits)
        self.accesses: deque[str] = deque(maxlen=exits)
        """What the test itself did to ports and memory, the last ones."""
        self.failure_expected = False
        self._console = console
        if exits:
            vm.observe.exits(self.exits.append)

    # -- running

    def start(self) -> TestMachine:
        """Let it run in the background; returns itself."""
        self.vm.start()
        return self

    def stop(self) -> None:
        """Have every processor stand still; `start` goes on."""
        self.vm.stop()

    def expect_shutdown(
        self, reason: str | None = None, *, status: int | None = None, timeout: float = PATIENCE
    ) -> str:
        """Wait until the machine has ended by itself, and return why ("acpi-soft-off", "guest-triple-fault", ...).

        Args:
            reason: the reason expected; None: any but a failure.
            status: the exit status expected; None: any.
            timeout: seconds of host time.

        Raises:
            AssertionError: it still runs, or ended otherwise; shows the last lines of its console.
        """
        __tracebackhide__ = True
        vm = self.vm
        if not vm.wait(timeout):
            raise AssertionError(f"{self.name}: still {vm.run_state.value} after {timeout:g} s{self._tail()}")
        if vm.failure is not None:
            self.failure_expected = True  # said here, and not a second time when it is closed
            raise AssertionError(f"{self.name}: failed: {vm.failure}{self._tail()}")
        had = vm.shutdown_reason or "closed"
        if reason is not None and had != reason:
            raise AssertionError(f"{self.name}: ended by {had!r}: expected {reason!r}{self._tail()}")
        if status is not None and vm.exit_status != status:
            raise AssertionError(f"{self.name}: ended with status {vm.exit_status}: expected {status}{self._tail()}")
        return had

    def expect_failure(self, text: str = "", timeout: float = PATIENCE) -> str:
        """Wait until the machine has failed (a device raised, a processor cannot go on); returns the report.

        Args:
            text: what the report must contain.
            timeout: seconds of host time.

        Raises:
            AssertionError: it still runs, ended in good order, or the report is another one.
        """
        __tracebackhide__ = True
        self.failure_expected = True
        if not self.vm.wait(timeout):
            raise AssertionError(f"{self.name}: has not failed after {timeout:g} s{self._tail()}")
        failure = self.vm.failure
        if failure is None:
            raise AssertionError(f"{self.name}: ended by {self.vm.shutdown_reason!r}: expected a failure{self._tail()}")
        if text not in failure:
            raise AssertionError(f"{self.name}: failed otherwise than with {text!r}: {failure}")
        return failure

    @property
    def name(self) -> str:
        """The machine's name, for messages."""
        return self.vm.config.name or "machine"

    # -- consoles

    def console(self, id: str | None = None) -> Console:
        """A console by the id of its back end; without one the first there is."""
        wanted = id or self._console
        consoles = self.vm.consoles
        if wanted is None and consoles:
            return next(iter(consoles.values()))
        return self.vm.console(wanted or "serial0")

    def wait_line(self, pattern: str, console: str | None = None, timeout: float = PATIENCE) -> Any:
        """Wait for a finished line in which the regular expression is found; returns the match (see Console)."""
        __tracebackhide__ = True
        try:
            return self.console(console).wait_line(pattern, timeout)
        except ConsoleTimeout as error:
            raise error.with_traceback(None) from None

    def wait_text(self, text: Any, console: str | None = None, timeout: float = PATIENCE) -> str:
        """Wait for a text, or a compiled pattern, as `Console.read_until`."""
        __tracebackhide__ = True
        try:
            return self.console(console).read_until(text, timeout)
        except ConsoleTimeout as error:
            raise error.with_traceback(None) from None

    def send(self, text: str | bytes, console: str | None = None) -> None:
        """Type on a console."""
        self.console(console).write(text)

    # -- ports, memory, registers

    @property
    def memory(self) -> GuestMemory:
        """Guest memory, also by slices."""
        return self.vm.memory

    @property
    def ports(self) -> GuestPorts:
        """I/O ports."""
        return self.vm.ports

    @property
    def registers(self) -> Registers:
        """The first processor's registers."""
        return self.cpu(0)

    def cpu(self, n: int) -> Registers:
        """The registers of processor `n`."""
        cpus = self.vm.cpus
        if not 0 <= n < len(cpus):
            raise QomError(f"{self.name}: no processor {n}: it has {len(cpus)}")
        return cpus[n].registers

    def inb(self, port: int) -> int:
        """Read a byte from a port."""
        return self._in(port, 1)

    def inw(self, port: int) -> int:
        """Read 16 bits from a port."""
        return self._in(port, 2)

    def inl(self, port: int) -> int:
        """Read 32 bits from a port."""
        return self._in(port, 4)

    def outb(self, port: int, value: int) -> None:
        """Write a byte to a port."""
        self._out(port, value, 1)

    def outw(self, port: int, value: int) -> None:
        """Write 16 bits to a port."""
        self._out(port, value, 2)

    def outl(self, port: int, value: int) -> None:
        """Write 32 bits to a port."""
        self._out(port, value, 4)

    def read(self, addr: int, size: int) -> int:
        """Read `size` bytes (1, 2, 4 or 8) of memory, as a processor does."""
        value = self.memory.read(addr, size)
        self.accesses.append(f"read  {addr:#x} size {size} value {value:#x}")
        return value

    def write(self, addr: int, value: int, size: int) -> None:
        """Write `size` bytes of memory, as a processor does."""
        self.accesses.append(f"write {addr:#x} size {size} value {value:#x}")
        self.memory.write(addr, value, size)

    def config_read(self, addr: str, offset: int, size: int = 4) -> int:
        """Read PCI configuration space of the function at `addr` ("slot.function") on bus 0."""
        self.outl(0xCF8, _pci_address(addr, offset))
        return self._in(0xCFC + (offset & 3), size)

    def config_write(self, addr: str, offset: int, value: int, size: int = 4) -> None:
        """Write PCI configuration space of the function at `addr` on bus 0."""
        self.outl(0xCF8, _pci_address(addr, offset))
        self._out(0xCFC + (offset & 3), value, size)

    def _in(self, port: int, size: int) -> int:
        value = self.vm.ports.read(port, size)
        self.accesses.append(f"in    {port:#x} size {size} value {value:#x}")
        return value

    def _out(self, port: int, value: int, size: int) -> None:
        self.accesses.append(f"out   {port:#x} size {size} value {value:#x}")
        self.vm.ports.write(port, value, size)

    # -- time

    def clock_step(self, ns: int | None = None) -> int:
        """Step time, firing what becomes due on the way; returns the time then, in ns.

        Args:
            ns: by how much; None: to the next deadline there is (nowhere, when there is none).

        Raises:
            QomError: the machine's time passes by itself.
        """
        with self.vm.lock:
            clock = self._stepped()
            if ns is None:
                deadline = clock.next_deadline()
                ns = 0 if deadline is None else max(0, deadline - clock.now())
            clock.step(ns)
            return clock.now()

    def step_until(self, done: Interrupt | Callable[[], object], limit_ns: int = STEP_LIMIT) -> int:
        """Step from deadline to deadline until `done`: an interrupt raised once, or a function that gives something true.

        Args:
            done: what to look for after every step (and before the first).
            limit_ns: how far at most.

        Returns:
            How far it was, in ns.

        Raises:
            AssertionError: it did not happen.
            QomError: the machine's time passes by itself.
        """
        __tracebackhide__ = True
        if isinstance(done, Interrupt):
            irq = done
            done, what = (lambda: irq.raised), f"{irq.name} was not raised"
        else:
            what = f"{getattr(done, '__name__', done)} gave nothing true"
        with self.vm.lock:
            clock = self._stepped()
            start = clock.now()
            while not done():
                deadline = clock.next_deadline()
                if deadline is None or deadline > start + limit_ns:
                    clock.step(max(0, start + limit_ns - clock.now()))
                    if done():
                        break
                    raise AssertionError(f"{self.name}: {what} within {limit_ns} ns")
                clock.step(max(0, deadline - clock.now()))
            return clock.now() - start

    def _stepped(self) -> SteppedClock:
        clock = self.vm.clock
        if not isinstance(clock, SteppedClock):
            accel: Any = self.vm.machine.accel
            raise QomError(
                f"{self.name}: its time passes by itself under '{accel.type_name}': expected the accelerator qtest"
            )
        return clock

    # -- interrupts and parts

    def irq(self, device: Device | str, n: int = 0, name: str = "", *, intercept: bool = False) -> Interrupt:
        """Watch input line `n` of a device from now on: `machine.irq("pic", 0).raised`.

        Args:
            device: the device, or the end of its path ("pic", "/machine/pic").
            n: the number of the line.
            name: the name of the lines; "" for the unnamed ones, which interrupt controllers have.
            intercept: hold the line back from the device.
        """
        return Interrupt(self.vm, self.part(device), name, n, intercept=intercept)

    def part(self, which: Device | str) -> Any:
        """An object of the machine by its path, or by the end of it."""
        return self.vm.root.resolve_any(which) if isinstance(which, str) else which

    # -- end

    def close(self) -> None:
        """Take the machine apart."""
        self.vm.close()

    def __enter__(self) -> TestMachine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tail(self) -> str:
        consoles = self.vm.consoles
        if not consoles:
            return ""
        return "".join(
            f"\n  console {name!r} ends with:\n" + "\n".join(f"    {line}" for line in console.tail().splitlines())
            for name, console in consoles.items()
            if console.text
        )

    def __repr__(self) -> str:
        return f"<TestMachine {self.name!r}: {self.vm.machine.type_name}, {self.vm.run_state.value}>"


def _pci_address(addr: str, offset: int) -> int:
    from qom.hw.pci_bus import parse_addr

    return 0x8000_0000 | parse_addr(addr) << 8 | (offset & 0xFC)


class MachineFactory:
    """Makes the machines of one test, and closes them at its end; the fixture `qom_machine`.

    Args:
        accel: the accelerator of machines whose file and keywords name none.  override: the one that is used whatever a
            file says, and which only a keyword overrides.
        exits: see TestMachine.
        beside: the directory in which relative file names are looked for first.
    """

    __test__ = False

    def __init__(
        self,
        *,
        accel: str | None = None,
        override: str | None = None,
        exits: int = LAST_EXITS,
        beside: Path | None = None,
    ) -> None:
        self._accel = accel
        self._override = override
        self._exits = exits
        self._beside = beside
        self.machines: list[TestMachine] = []

    def __call__(
        self, file: str | os.PathLike[str] | None = None, *, exits: int | None = None, **keywords: Any
    ) -> TestMachine:
        """A built machine, not started.

        Args:
            file: a configuration file; a relative name is looked for beside the test first.
            exits: see TestMachine.
            keywords: those of `qom.open_machine`.

        Raises:
            QomError: as `qom.open_machine`; the test is skipped where KVM is asked for and cannot be used.
        """
        if file is not None and self._beside is not None and (self._beside / file).exists():
            file = self._beside / file
        if keywords.get("accel") is None:
            if self._override is not None:
                keywords["accel"] = self._override
            elif self._accel is not None and (
                file is None or not load(Path(file), keywords.get("variables")).accelerators
            ):
                keywords["accel"] = self._accel
        try:
            vm = open_machine(file, **keywords)
        except AccelError as error:
            if "kvm" in str(error) and unusable("kvm") is not None:
                pytest.skip(str(error))
            raise
        machine = TestMachine(vm, exits=self._exits if exits is None else exits)
        self.machines.append(machine)
        return machine

    def close(self) -> None:
        """Close them, the last one first, each also when another could not be closed."""
        with ExitStack() as steps:
            for machine in self.machines:
                steps.callback(machine.close)

    def unexpected(self) -> list[str]:
        """The failures of machines that nobody expected."""
        return [f"{m.name}: failed: {m.vm.failure}" for m in self.machines if m.vm.failure and not m.failure_expected]
