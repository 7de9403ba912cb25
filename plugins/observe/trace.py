"""Trace: a machine's accesses, exits, line changes and life-cycle steps as lines of text.

One line an event, beginning with the guest's time in seconds.  A read is written with the value that the guest got, an
access that an observer made fail with why.

Not modelled: rotation of the file; the data of string I/O when only exits are traced; what the probes do not tell (see
qom/hw/probe.py: the guest's accesses to RAM, interrupts delivered inside an accelerator).
"""

from __future__ import annotations

from typing import Any, Final, TextIO

from qom import Chardev, ConfigError, Object, UserCreatable, VirtualMachine, link, prop, type_init
from qom.hw import Access, Exit, LifeStep, LineChange, Observation

KINDS: Final = ("ports", "memory", "exits", "lines", "lifecycle")
VERBS: Final = {("io", False): "in", ("io", True): "out", ("memory", False): "load", ("memory", True): "store"}
KEPT_MAX: Final = 1 << 20  # bytes that wait for a chardev with no room
SHOWN_MAX: Final = 64  # bytes of a DMA access


@type_init("trace")
class Trace(Object, UserCreatable):
    """Writes down what a machine does."""

    what: list[str] = prop(["ports"], "What is traced: ports, memory, exits, lines, lifecycle", type="list<str>")
    device: str = prop("", "Only this device (path, id or type; types derived from it count); empty: every one")
    first: int = prop(0, "First port or address that is traced", type="uint64", base=16)
    last: int = prop(0xFFFF_FFFF_FFFF_FFFF, "Last port or address that is traced", type="uint64", base=16)
    file: str = prop("", "File that the trace is written to")
    chardev: Chardev | None = link("chardev", "Back end that the trace is written to, instead of a file")
    limit: int = prop(0, "Lines after which it stops, 0 for no limit", type="uint64")

    @classmethod
    def class_init(cls) -> None:
        """State the facts of this class."""
        cls.desc, cls.category = "Writes down accesses, exits, interrupts and life-cycle steps", "observe"

    def instance_init(self) -> None:
        """Nothing is watched yet."""
        self.written = 0
        self.lost = 0  # lines that a chardev had no room for
        self._observations: list[Observation] = []
        self._output: TextIO | None = None
        self._kept = bytearray()

    def attach(self, vm: VirtualMachine) -> None:
        """Be told of the machine."""
        self._vm = vm

    def complete(self) -> None:
        """Open the file and begin.

        Raises:
            ConfigError: nothing to trace, no place for it or two, or a file that cannot be written.
        """
        for kind in self.what:
            if kind not in KINDS:
                hint = self.registry.suggest(kind, KINDS)
                raise ConfigError(f"{self.path}: cannot trace {kind!r}{hint}; there are: {', '.join(KINDS)}")
        if bool(self.file) == (self.chardev is not None):
            raise ConfigError(f"{self.path}: expected either file= or chardev=, for where the trace goes")
        if self.last < self.first:
            raise ConfigError(f"{self.path}: last {self.last:#x} is before first {self.first:#x}")
        if self.chardev is not None:
            self.chardev.set_frontend(on_writable=self._flush, owner=self.path)
        elif not self._vm.inert:
            try:
                self._output = open(self.file, "w", encoding="utf-8")  # noqa: SIM115 -- closed by close()
            except OSError as error:
                raise ConfigError(f"{self.path}: {self.file}: {error.strerror}") from None
        observe, device = self._vm.observe, self.device or None
        span: dict[str, Any] = {"first": self.first, "last": self.last, "device": device, "after_others": True}
        starts = {
            "ports": lambda: observe.accesses(self._access, space="io", **span),
            "memory": lambda: observe.accesses(self._access, space="memory", **span),
            "exits": lambda: observe.exits(self._exit, after_others=True),
            "lines": lambda: observe.lines(self._line_change, device=device, after_others=True),
            "lifecycle": lambda: observe.lifecycle(self._step, device=device, after_others=True),
        }
        self._observations += [starts[kind]() for kind in dict.fromkeys(self.what)]

    def close(self) -> None:
        """Stop, and give the file back; a second call has no effect."""
        while self._observations:
            self._observations.pop().close()
        output, self._output = self._output, None
        if output is not None:
            output.close()
        if self.chardev is not None and self.chardev.frontend == self.path:
            self._flush()
            self.chardev.unset_frontend(self.path)

    def finalize(self) -> None:
        """It stops when it ceases to exist."""
        self.close()

    # -- what it is told

    def _access(self, access: Access) -> None:
        verb = VERBS[access.space, access.is_write]
        if access.size <= 8:
            value = f"{access.value:#x}"
        else:
            value = access.data[:SHOWN_MAX].hex() + ("..." if access.size > SHOWN_MAX else "")
        where = getattr(access.device, "path", "") or "nobody"
        text = f"{_cpu(access.cpu)} {verb} {access.address:#x} size {access.size} value {value} {where}"
        if access.region:
            text += f" {access.region}+{access.offset:#x}"
        self._write(text, access.failed)

    def _exit(self, exit: Exit) -> None:
        text = f"{_cpu(exit.cpu)} {exit.name}"
        if exit.address is not None:
            text += f" {'write' if exit.is_write else 'read'} {exit.address:#x} size {exit.size}"
            text += f" count {exit.count}" if exit.string else f" value {exit.value:#x}"
        elif self.first or self.device:
            return  # it has no address, and is no device's
        if exit.address is None or self.first <= exit.address <= self.last:
            self._write(text, exit.failed)

    def _line_change(self, change: LineChange) -> None:
        name = f"{change.name}[{change.n}]" if change.name else f"[{change.n}]"
        self._write(f"line {change.device.path} {change.direction} {name} {change.level}", change.failed)

    def _step(self, step: LifeStep) -> None:
        detail = f" {step.detail}" if step.detail else ""
        path = getattr(step.object, "path", "the machine")
        self._write(f"life {step.what}{detail} {path}", step.failed)

    # -- where it goes

    def _write(self, text: str, failed: str | None) -> None:
        if self.limit and self.written >= self.limit:
            return
        self.written += 1
        line = f"{self._vm.clock.now() / 1e9:.9f} {text}{f' failed: {failed}' if failed is not None else ''}\n"
        if self._output is not None:
            self._output.write(line)
        elif self.chardev is not None:
            data = line.encode()
            if not self._kept:
                data = data[self.chardev.write(data) :]
            if len(self._kept) + len(data) > KEPT_MAX:
                self.lost += 1
            else:
                self._kept += data

    def _flush(self) -> None:
        if self.chardev is not None and self._kept:
            del self._kept[: self.chardev.write(bytes(self._kept))]


def _cpu(cpu: Any) -> str:
    return f"cpu{cpu.index}" if cpu is not None else "-"
