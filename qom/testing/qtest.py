"""`QTest`: a machine driven by QEMU's qtest protocol, in this process, or as a program of ours or QEMU's.

    with QTest("-device isa-debug-exit,iobase=0xf4") as q:
        q.outb(0xF4, 1)

The same test runs against QEMU, with `QTest("...", program="qemu-system-x86_64")`, as far as the two have the same
hardware: what is said to the machine is the same lines.

In this process no thread of the machine does anything by itself: its main loop runs while a command is carried out, and
`QTest.serve` runs it once more.  So what a command causes has happened when it returns, and a test is repeatable.

Debian's QEMU is built without its accelerator qtest.  Such a one is started as `-accel tcg -S` instead: no guest code
runs there either, but its clock cannot be stepped (`QTest.stepped` says so).
"""

from __future__ import annotations

import base64
import functools
import shlex
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from qom.registry import TypeRegistry
from qom.testing.qtest_end import End, QTestError
from qom.vm.console import PATIENCE
from qom.vm.vm import VirtualMachine

if TYPE_CHECKING:
    from qom.testing.machine import TestMachine

__all__ = ["QTest", "QTestError"]

CHUNK: Final = 1 << 24  # bytes of memory that one command carries
LAST_LINES: Final = 64  # kept for the report of a failure


class QTest:
    """A machine, and the qtest protocol to drive it.  A context manager; `close` ends it.

    Numbers are whole machines' own: ports, physical addresses, nanoseconds.

    Args:
        args: options of `qom-system-x86_64`, as one text or as words.  `-nodefaults -display none` are added, and
            `-accel qtest` when they name no accelerator.
        program: None: in this process.  "qom-system-x86_64" or a QEMU: a program of its own, as a name, a path, or words.
        types: classes marked by `type_init` that the machine knows besides (in this process only).
        registry: the types to build from (in this process only); by default everything installed.
        timeout: seconds of host time to wait for an answer of a program.
        keywords: those of `qom.open_machine`, instead of `args` (in this process only).

    Raises:
        QomError: the machine cannot be built, or the program not be started.
    """

    def __init__(
        self,
        args: str | Sequence[str] = (),
        *,
        program: str | Sequence[str] | None = None,
        types: Iterable[type] = (),
        registry: TypeRegistry | None = None,
        timeout: float = PATIENCE,
        **keywords: Any,
    ) -> None:
        words = shlex.split(args) if isinstance(args, str) else list(args)
        self._levels: dict[int, bool] = {}
        self._raised: dict[int, int] = {}
        self._sent: deque[str] = deque(maxlen=LAST_LINES)
        self._end: End
        if program is None:
            from qom.testing.qtest_here import MachineHere

            self._end = MachineHere(words, types, registry, keywords)
        else:
            if keywords or registry is not None or tuple(types):
                raise QTestError("a program takes 'args' only: expected no types, registry or keywords of open_machine")
            from qom.testing.qtest_program import Program

            self._end = Program(program, words, timeout)

    # -- the machine

    @property
    def vm(self) -> VirtualMachine:
        """The machine.

        Raises:
            QTestError: it is in another process.
        """
        found = self._end.vm
        if found is None:
            raise QTestError("the machine is in another process: only its protocol can be had")
        return found

    @functools.cached_property
    def machine(self) -> TestMachine:
        """The machine as a `TestMachine`: consoles, watched lines, parts by path; `accesses` are the last lines sent."""
        from qom.testing.machine import TestMachine

        made = TestMachine(self.vm, exits=0)
        made.accesses = self._sent
        return made

    @property
    def in_process(self) -> bool:
        """Whether the machine is in this process."""
        return self._end.vm is not None

    @property
    def stepped(self) -> bool:
        """Whether its clock can be stepped: under the accelerator qtest."""
        return self._end.stepped

    def system_reset(self) -> None:
        """Reset the machine, as its reset button would; returns when it is done."""
        self._end.reset()
        self.send("endianness")  # before its answer comes what the reset did to lines

    def qmp(self, command: str, /, **arguments: Any) -> Any:
        """Carry out a QMP command and give what it returns; `socket_id=1` is the argument `socket-id`.

        Raises:
            QTestError: it was refused, or the program has ended.
        """
        answer = self._end.execute(command, {name.replace("_", "-"): value for name, value in arguments.items()})
        self.send("endianness")  # before its answer comes what the command did to lines
        return answer

    def qmp_event(self, name: str) -> dict[str, Any]:
        """The data of the next QMP event of that name; those before it are forgotten.

        Raises:
            QTestError: there is none; of a program, within the time that answers may take.
        """
        return self._end.event(name)

    def serve(self) -> None:
        """Have the main loop do what waits: sockets and files that are ready, requests.  Only needed for what comes from
        outside of the machine; a program does so by itself."""
        self._end.serve()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait until the machine has ended; gives its exit status.

        Args:
            timeout: seconds of host time.

        Raises:
            QTestError: it has not.
        """
        return self._end.wait(timeout)

    def close(self) -> None:
        """End the machine; a second call has no effect."""
        self._end.close()

    # -- the protocol

    def send(self, line: str) -> str:
        """Send a line as it is and give the answer as it is: "OK ...", "FAIL ...", "ERR ...".

        Raises:
            QTestError: the program has ended, or does not answer.
        """
        *told, answer = self._end.send(line)
        self._sent.append(f"{_short(line)}: {_short(answer)}")
        for text in told:
            _, word, number = text.split(" ")
            n, level = int(number), word == "raise"
            self._levels[n] = level
            self._raised[n] = self._raised.get(n, 0) + level
        return answer

    def command(self, *words: object) -> str:
        """Carry out a command: its name and arguments; gives what comes after OK.

        Raises:
            QTestError: it was refused, or the program has ended.
        """
        line = " ".join(str(word) for word in words)
        answer = self.send(line)
        word, _, rest = answer.partition(" ")
        if word != "OK":
            raise QTestError(f"{_short(line)}: {answer}")
        return rest

    # -- ports

    def inb(self, port: int) -> int:
        """Read a byte from a port."""
        return self._number("inb", port)

    def inw(self, port: int) -> int:
        """Read 16 bits from a port."""
        return self._number("inw", port)

    def inl(self, port: int) -> int:
        """Read 32 bits from a port."""
        return self._number("inl", port)

    def outb(self, port: int, value: int) -> None:
        """Write a byte to a port."""
        self._store("outb", port, value, 1)

    def outw(self, port: int, value: int) -> None:
        """Write 16 bits to a port."""
        self._store("outw", port, value, 2)

    def outl(self, port: int, value: int) -> None:
        """Write 32 bits to a port."""
        self._store("outl", port, value, 4)

    # -- memory

    def readb(self, addr: int) -> int:
        """Read a byte of memory."""
        return self._number("readb", addr)

    def readw(self, addr: int) -> int:
        """Read 16 bits of memory."""
        return self._number("readw", addr)

    def readl(self, addr: int) -> int:
        """Read 32 bits of memory."""
        return self._number("readl", addr)

    def readq(self, addr: int) -> int:
        """Read 64 bits of memory."""
        return self._number("readq", addr)

    def writeb(self, addr: int, value: int) -> None:
        """Write a byte of memory."""
        self._store("writeb", addr, value, 1)

    def writew(self, addr: int, value: int) -> None:
        """Write 16 bits of memory."""
        self._store("writew", addr, value, 2)

    def writel(self, addr: int, value: int) -> None:
        """Write 32 bits of memory."""
        self._store("writel", addr, value, 4)

    def writeq(self, addr: int, value: int) -> None:
        """Write 64 bits of memory."""
        self._store("writeq", addr, value, 8)

    def read(self, addr: int, n: int) -> bytes:
        """Read `n` bytes of memory from `addr` on."""
        parts = [
            base64.b64decode(self.command("b64read", f"{addr + at:#x}", min(CHUNK, n - at)))
            for at in range(0, n, CHUNK)
        ]
        return b"".join(parts)

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data` to `addr` and what follows."""
        data = bytes(data)
        for at in range(0, len(data), CHUNK):
            part = data[at : at + CHUNK]
            self.command("b64write", f"{addr + at:#x}", len(part), base64.b64encode(part).decode())

    def memset(self, addr: int, n: int, value: int) -> None:
        """Fill `n` bytes of memory from `addr` on with one value."""
        _check(f"memset {addr:#x}", value, 1)
        self.command("memset", f"{addr:#x}", n, value)

    # -- PCI configuration space, by its two ports

    def config_read(self, addr: str, offset: int, size: int = 4) -> int:
        """Read configuration space of the PCI function at `addr` ("slot.function") on bus 0."""
        from qom.hw.pci_bus import parse_addr

        self.outl(0xCF8, 0x8000_0000 | parse_addr(addr) << 8 | (offset & 0xFC))
        return {1: self.inb, 2: self.inw, 4: self.inl}[size](0xCFC + (offset & 3))

    def config_write(self, addr: str, offset: int, value: int, size: int = 4) -> None:
        """Write configuration space of the PCI function at `addr` on bus 0."""
        from qom.hw.pci_bus import parse_addr

        self.outl(0xCF8, 0x8000_0000 | parse_addr(addr) << 8 | (offset & 0xFC))
        {1: self.outb, 2: self.outw, 4: self.outl}[size](0xCFC + (offset & 3), value)

    # -- time

    def clock_step(self, ns: int | None = None) -> int:
        """Step time, firing what becomes due on the way; gives the time then, in nanoseconds.

        Args:
            ns: by how much; None: to the next deadline (nowhere, when there is none).

        Raises:
            QTestError: the machine's time passes by itself.
        """
        return int(self.command("clock_step") if ns is None else self.command("clock_step", ns))

    def clock_set(self, ns: int) -> int:
        """Step time until it is `ns`; not at all when that is past.  Gives the time then, in nanoseconds."""
        return int(self.command("clock_set", ns))

    # -- lines

    def irq_intercept_in(self, path: str) -> None:
        """Follow the unnamed inputs of a device, by its path or the end of it ("ioapic"): what they get is not held back.

        A line that is high already counts as low until it goes up again, as in QEMU.

        Raises:
            QTestError: there is no such device, or another one's lines are followed already.
        """
        self.command("irq_intercept_in", path)

    def irq_intercept_out(self, path: str) -> None:
        """Follow the outputs of a device: its unnamed ones, or all those it has when they have one name.

        QEMU follows unnamed ones only.  Otherwise as `irq_intercept_in`.
        """
        self.command("irq_intercept_out", path)

    def get_irq(self, n: int) -> bool:
        """Whether line `n` of those that are followed is high, as far as the last command."""
        return self._levels.get(n, False)

    def irq_raised(self, n: int) -> int:
        """How often line `n` of those that are followed went up, since the beginning or `irq_clear`: pulses show here."""
        return self._raised.get(n, 0)

    def irq_clear(self) -> None:
        """Count from 0 again."""
        self._raised.clear()

    def set_irq_in(self, path: str, name: str, n: int, level: int) -> None:
        """Drive input `n` of a device to a level; `name` is "unnamed-gpio-in" for the unnamed ones."""
        self.command("set_irq_in", path, name, n, level)

    # -- inside

    def _number(self, name: str, address: int) -> int:
        return int(self.command(name, f"{address:#x}"), 16)

    def _store(self, name: str, address: int, value: int, size: int) -> None:
        _check(f"{name} {address:#x}", value, size)
        self.command(name, f"{address:#x}", f"{value:#x}")

    def __enter__(self) -> QTest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<QTest of {self._end!r}>"


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _check(what: str, value: int, size: int) -> None:
    if not 0 <= value < 1 << 8 * size:
        raise QTestError(f"{what}: {value:#x} does not fit into {size} byte{'s' * (size > 1)}")
