"""The commands of QEMU's qtest protocol: what each takes, what it does to the machine, what it answers.

A command is words separated by single spaces.  Numbers are C's: decimal, octal with a leading 0, hexadecimal with 0x, and
a sign.  What a processor sees is what is read and written: ports, and memory as the first processor has it before it.

Modelled: every command that QEMU 7.2 has for a PC.  Not modelled: the commands for POWER and RISC-V machines.
Beyond QEMU: where it aborts on a wrong line (an argument that is missing or no number, a line of a device that is not
there), the answer says which word is wrong and what would be right.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Generator
from typing import Any, Final, Protocol

import attrs

from qom import Device, PathError, SteppedClock, VirtualMachine, did_you_mean
from qom.hw import AddressSpace

__all__ = ["COMMANDS", "Parts", "Refused", "Session", "carry_out"]

U64: Final = (1 << 64) - 1
CHUNK_MAX: Final = 64 << 20  # bytes that one command reads or writes, and so holds in memory
FILL_CHUNK: Final = 1 << 20
PART_SECONDS: Final = 0.005  # of host time that a command has the machine to itself
SHOWN_MAX: Final = 40  # characters of a word in an answer
_NUMBER: Final = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")

UNNAMED: Final = "unnamed-gpio-in"
"""What `set_irq_in` calls the inputs that have no name."""


class Refused(Exception):
    """A command that cannot be carried out; the text is the answer, with FAIL or ERR before it."""

    def __init__(self, text: str, word: str = "FAIL") -> None:
        super().__init__(f"{word} {text}")


class Session(Protocol):
    """What a command uses of the connection on which it came."""

    vm: VirtualMachine

    def intercept(self, device: Device, direction: str, name: str) -> None:
        """Report from now on when lines of `device` change: its inputs ("in") or outputs ("out") called `name`."""

    def remark(self, text: str) -> None:
        """Write into the log only."""


@attrs.frozen
class Arguments:
    """The words after a command's name; each is asked for by the name it has in `usage`."""

    command: str
    usage: str
    words: tuple[str, ...]

    def text(self, name: str) -> str:
        """The word that `usage` calls `name`.

        Raises:
            Refused: it is missing.
        """
        found = self.maybe(name)
        if found is None:
            raise Refused(f"{self.command}: {name} is missing: expected {self.command} {self.usage}")
        return found

    def maybe(self, name: str) -> str | None:
        """The same; None when it is not there."""
        at = self.usage.replace("[", "").replace("]", "").split().index(name)
        return self.words[at] if at < len(self.words) else None

    def number(self, name: str, low: int = 0, high: int = U64, *, signed: bool = False) -> int:
        """The word as a number between `low` and `high`; unless `signed`, a negative one counts down from 2**64.

        Raises:
            Refused: it is missing, no number, or out of range.
        """
        text = self.text(name)
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise self.wrong(name, "a number, such as 0x20")
        digits = match[2]
        value = int(digits, 8 if digits.startswith("0") and digits.isdecimal() else 0)
        if match[1] == "-":
            value = -value if signed or value > U64 else -value & U64
        if not low <= value <= high:
            raise self.wrong(name, f"{low:#x} to {high:#x}" if not signed else f"{low} to {high}")
        return value

    def wrong(self, name: str, expected: str, word: str = "FAIL") -> Refused:
        """The answer to a word that makes no sense."""
        return Refused(f"{self.command}: {name} cannot be '{_short(self.text(name))}': expected {expected}", word)


def _short(word: str) -> str:
    return word if len(word) <= SHOWN_MAX else word[: SHOWN_MAX - 3] + "..."


Parts = Generator[None, None, str]
"""A command that is carried out in parts: it gives way between them, and returns what a short one returns at once."""

Action = Callable[[Session, Arguments], "str | Parts"]
"""Carries a command out; gives what comes after OK, "" for nothing."""


@attrs.frozen
class Command:
    """How a command is written, and what it does."""

    usage: str
    action: Action


def carry_out(session: Session, line: str) -> Parts:
    """Carry out one line (machine lock held), at its pace; gives the answer, without the end of line.

    Raises:
        qom.hw.Fault: a device failed while it was asked.
    """
    name, *words = line.split(" ")
    command = COMMANDS.get(name)
    try:
        if command is None:
            near = did_you_mean(name, COMMANDS) if 0 < len(name) <= SHOWN_MAX else ""
            raise Refused(f"Unknown command '{_short(name)}'{near}")
        answer = command.action(session, Arguments(name, command.usage, tuple(words)))
        if not isinstance(answer, str):
            answer = yield from answer
    except Refused as refused:
        return str(refused)
    return f"OK {answer}" if answer else "OK"


# Ports and memory


def _port_in(size: int) -> Action:
    def action(session: Session, given: Arguments) -> str:
        return f"{session.vm.machine.system_bus.io_space.read(given.number('PORT', 0, 0xFFFF), size):#06x}"

    return action


def _port_out(size: int) -> Action:
    def action(session: Session, given: Arguments) -> str:
        port, value = given.number("PORT", 0, 0xFFFF), given.number("VALUE")
        session.vm.machine.system_bus.io_space.write(port, value & ((1 << 8 * size) - 1), size)
        return ""

    return action


def _memory(session: Session) -> AddressSpace:
    """Memory as the first processor has it before it, its local APIC included."""
    cpus = session.vm.cpus
    space = getattr(cpus[0], "memory", None) if cpus else None
    return space if isinstance(space, AddressSpace) else session.vm.machine.system_bus.memory_space


def _load(size: int) -> Action:
    def action(session: Session, given: Arguments) -> str:
        return f"{_memory(session).read(given.number('ADDR'), size):#018x}"

    return action


def _store(size: int) -> Action:
    def action(session: Session, given: Arguments) -> str:
        addr, value = given.number("ADDR"), given.number("VALUE")
        _memory(session).write(addr, value & ((1 << 8 * size) - 1), size)
        return ""

    return action


def _range(given: Arguments, low: int, high: int = CHUNK_MAX) -> tuple[int, int]:
    addr, length = given.number("ADDR"), given.number("LEN", low, high)
    if addr + length > U64 + 1:
        raise given.wrong("LEN", f"at most {U64 + 1 - addr:#x}, as memory ends there")
    return addr, length


def _read(session: Session, given: Arguments) -> str:
    return "0x" + _memory(session).read_bytes(*_range(given, 1)).hex()


def _b64read(session: Session, given: Arguments) -> str:
    return base64.b64encode(_memory(session).read_bytes(*_range(given, 1))).decode()


def _write(session: Session, given: Arguments) -> str:
    addr, length = _range(given, 1)
    text = given.text("DATA")
    if len(text) < 3:
        raise Refused("invalid argument size", "ERR")
    if not text.startswith(("0x", "0X")):
        raise given.wrong("DATA", "0x and two hexadecimal digits for each byte", "ERR")
    try:
        data = bytes.fromhex(text[2:])
    except ValueError:
        raise given.wrong("DATA", "0x and two hexadecimal digits for each byte", "ERR") from None
    if " " in text or len(data) * 2 != len(text) - 2:
        raise given.wrong("DATA", "0x and two hexadecimal digits for each byte", "ERR")
    _memory(session).write_bytes(addr, data[:length].ljust(length, b"\0"))
    return ""


def _b64write(session: Session, given: Arguments) -> str:
    addr, length = _range(given, 0)
    try:
        data = base64.b64decode(given.text("DATA"), validate=True)
    except (binascii.Error, ValueError):
        raise given.wrong("DATA", "bytes in base64", "ERR") from None
    if len(data) != length:
        session.remark(f"b64write: data length mismatch (told {length}, found {len(data)})")
    _memory(session).write_bytes(addr, data[:length])
    return ""


def _memset(session: Session, given: Arguments) -> str:
    addr, length = _range(given, 0, 1 << 40)
    pattern = given.number("PATTERN") & 0xFF
    space, chunk = _memory(session), bytes([pattern]) * min(length, FILL_CHUNK)
    for at in range(0, length, FILL_CHUNK):
        space.write_bytes(addr + at, chunk[: length - at])
    return ""


def _endianness(session: Session, given: Arguments) -> str:
    return "little"


# Time


def _clock(session: Session, given: Arguments) -> SteppedClock:
    clock = session.vm.clock
    if not isinstance(clock, SteppedClock):
        accel = session.vm.machine.accel
        name = accel.type_name.removesuffix("-accel") if accel is not None else "nothing"
        raise Refused(f"{given.command}: time passes by itself under '{name}': expected the accelerator qtest")
    return clock


def _clock_step(session: Session, given: Arguments) -> Parts:
    clock = _clock(session, given)
    if given.maybe("NS") is not None:
        ns = given.number("NS", -(1 << 63), (1 << 63) - 1, signed=True)
    else:
        deadline = clock.next_deadline()
        ns = 0 if deadline is None else deadline - clock.now()
    return _step(clock, ns)


def _clock_set(session: Session, given: Arguments) -> Parts:
    clock = _clock(session, given)
    return _step(clock, given.number("NS", -(1 << 63), (1 << 63) - 1, signed=True) - clock.now())


def _step(clock: SteppedClock, ns: int) -> Parts:
    """Step by `ns`; others have their turn between deadlines whenever it has taken `PART_SECONDS` of host time."""
    began = [time.monotonic()]
    for _ in clock.stepping(ns, lambda: time.monotonic() - began[0] >= PART_SECONDS):
        yield
        began[0] = time.monotonic()
    return str(clock.now())


# Lines


def _device(session: Session, given: Arguments) -> Device:
    path = given.text("PATH")
    try:
        found = session.vm.root.resolve_any(path)
    except PathError as error:
        raise Refused(f"Unknown device: {error}") from None
    if not isinstance(found, Device):
        raise Refused(f"Unknown device: {found.path} is a {found.type_name}, no device")
    return found


def _intercept_in(session: Session, given: Arguments) -> str:
    device = _device(session, given)
    session.intercept(device, "in", _named(device, "input", device.lines(), given))
    return ""


def _intercept_out(session: Session, given: Arguments) -> str:
    device = _device(session, given)
    names = {name: None for name, _, _ in device.outputs()} | dict.fromkeys(device.pins())
    session.intercept(device, "out", _named(device, "output", names, given))
    return ""


def _named(device: Device, what: str, names: Any, given: Arguments) -> str:
    """Which lines are meant: those of that name; without one the unnamed ones, or the only ones there are."""
    name = given.maybe("NAME")
    if name is None:
        if "" in names or not names:
            return ""
        if len(names) == 1:
            return str(next(iter(names)))
        raise Refused(f"{given.command}: {device.path} has no unnamed {what}s: expected one of {', '.join(names)}")
    if name == UNNAMED and "" in names:
        return ""
    if name not in names:
        there = ", ".join(n or UNNAMED for n in names) or "none"
        raise Refused(f"{given.command}: {device.path} has no {what} '{name}': expected one of {there}")
    return name


def _set_irq_in(session: Session, given: Arguments) -> str:
    device = _device(session, given)
    word = given.text("NAME")
    lines = device.lines()
    found = lines.get("" if word == UNNAMED else word)
    if found is None:
        there = ", ".join(f"{name or UNNAMED}[{len(of)}]" for name, of in lines.items()) or "none"
        raise Refused(f"{given.command}: {device.path} has no input '{word}': expected one of {there}")
    n = given.number("N", 0, len(found) - 1)
    found[n].set(given.number("LEVEL", -(1 << 31), (1 << 31) - 1, signed=True))
    return ""


# The rest


def _module_load(session: Session, given: Arguments) -> str:
    """QEMU loads a shared object; a module of ours is a plugin, which is there from the beginning or not at all."""
    wanted = given.text("PREFIX") + given.text("NAME")
    rows = {row.name: row for row in session.vm.registry.plugins}
    if wanted not in rows:
        raise Refused(f"no plugin '{wanted}'{did_you_mean(wanted, rows)}")
    row = rows[wanted]
    if row.status != "loaded":
        raise Refused(f"plugin '{wanted}' of {row.source} is {row.status}: {row.reason}")
    return ""


COMMANDS: Final[dict[str, Command]] = {
    **{f"in{letter}": Command("PORT", _port_in(size)) for letter, size in (("b", 1), ("w", 2), ("l", 4))},
    **{f"out{letter}": Command("PORT VALUE", _port_out(size)) for letter, size in (("b", 1), ("w", 2), ("l", 4))},
    **{f"read{letter}": Command("ADDR", _load(size)) for letter, size in zip("bwlq", (1, 2, 4, 8), strict=True)},
    **{f"write{letter}": Command("ADDR VALUE", _store(size)) for letter, size in zip("bwlq", (1, 2, 4, 8), strict=True)},
    "read": Command("ADDR LEN", _read),
    "write": Command("ADDR LEN DATA", _write),
    "b64read": Command("ADDR LEN", _b64read),
    "b64write": Command("ADDR LEN DATA", _b64write),
    "memset": Command("ADDR LEN PATTERN", _memset),
    "endianness": Command("", _endianness),
    "clock_step": Command("[NS]", _clock_step),
    "clock_set": Command("NS", _clock_set),
    "irq_intercept_in": Command("PATH [NAME]", _intercept_in),
    "irq_intercept_out": Command("PATH [NAME]", _intercept_out),
    "set_irq_in": Command("PATH NAME N LEVEL", _set_irq_in),
    "module_load": Command("PREFIX NAME", _module_load),
}  # fmt: skip
"""Every command by its name."""
