"""Expressions of the monitor: numbers, characters, registers, and arithmetic in 64 bits.

    4096   0x1000   010   'A'   $eip   ($rsp + 8) * 2   ~0   -1

Operators are `* / %`, `& | ^` and `+ -`, the first named bind strongest; results wrap at 64 bits and division is signed,
all as QEMU has it.  `$name` is a register of the monitor's processor: `$rip` and `$eip` both the whole of it, `$cs.base`,
`$cr3`, and `$pc`, the linear address of the next instruction.
"""

from __future__ import annotations

from collections.abc import Callable

from qom.errors import did_you_mean
from qom.monitor.declare import CommandError

__all__ = ["SUFFIXES", "evaluate", "read_number", "register_value", "signed"]

MASK = (1 << 64) - 1
EFER_LMA = 1 << 10
SUFFIXES = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
"""By its letter, how many bits a unit of sizes shifts."""

_DIGITS = {2: "01", 8: "01234567", 10: "0123456789", 16: "0123456789abcdefABCDEF"}
_PRODUCT, _LOGIC, _SUM = ("*", "/", "%"), ("&", "|", "^"), ("+", "-")
DEPTH = 100
"""How deep parentheses and signs may be nested."""

_NAMES: dict[str, str] = {
    "eip": "rip",
    "eflags": "rflags",
    **{f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "sp", "bp")},
}
"""Names that stand for the whole of a register, in 64-bit mode too, as QEMU's monitor has them."""


def signed(value: int, bits: int = 64) -> int:
    """The low `bits` of a value as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def register_value(registers: dict[str, int], name: str) -> int:
    """A register by name; `pc` is the linear address of the next instruction.

    Raises:
        CommandError: there is none of that name.
    """
    if name == "pc":
        long_mode = registers["efer"] & EFER_LMA
        return registers["cs.base"] + registers["rip"] & (MASK if long_mode else 0xFFFFFFFF)
    name = _NAMES.get(name, name)
    if name in registers:
        return registers[name]
    raise CommandError(f"unknown register{did_you_mean(name, [*registers, *_NAMES]) if name else ''}")


def read_number(text: str, at: int) -> tuple[int, int]:
    """The number that begins at `at`, as C writes it (0x: hexadecimal, 0: octal), and where it ends."""
    base = 10
    if text[at : at + 2].lower() == "0x" and text[at + 2 : at + 3] in tuple(_DIGITS[16]):
        base, at = 16, at + 2
    elif text[at] == "0":
        base = 8
    end = at
    while end < len(text) and text[end] in _DIGITS[base]:
        end += 1
    return int(text[at:end], base), end


def evaluate(text: str, registers: Callable[[], dict[str, int]], at: int = 0) -> tuple[int, int]:
    """The value of the expression that begins at `at`, 64 bits without a sign, and where it ends.

    Args:
        text: what holds it.
        registers: gives the processor's registers by name; asked only if the expression names one.
        at: where to begin.

    Raises:
        CommandError: there is no expression, or what it asks for cannot be had.
    """
    return _Reader(text, registers, at).whole()


class _Reader:
    """Goes through a text once."""

    def __init__(self, text: str, registers: Callable[[], dict[str, int]], at: int) -> None:
        self.text, self.at, self.registers = text, at, registers
        self.depth = 0

    def whole(self) -> tuple[int, int]:
        value = self.sum()
        return value, self.at

    def peek(self) -> str:
        text = self.text
        while self.at < len(text) and text[self.at].isspace():
            self.at += 1
        return text[self.at : self.at + 1]

    def operator(self, among: tuple[str, ...]) -> str:
        found = self.peek()
        if found in among:
            self.at += 1
            return found
        return ""

    def sum(self) -> int:
        value = self.logic()
        while op := self.operator(_SUM):
            other = self.logic()
            value = (value + other if op == "+" else value - other) & MASK
        return value

    def logic(self) -> int:
        value = self.product()
        while op := self.operator(_LOGIC):
            other = self.product()
            value = value & other if op == "&" else value | other if op == "|" else value ^ other
        return value

    def product(self) -> int:
        value = self.unary()
        while not self.at_path() and (op := self.operator(_PRODUCT)):
            other = self.unary()
            if op == "*":
                value = value * other & MASK
                continue
            if other == 0:
                raise CommandError("division by zero")
            a, b = signed(value), signed(other)
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            value = (quotient if op == "/" else a - quotient * b) & MASK
        return value

    def at_path(self) -> bool:
        """Whether a file's name begins here, after a space, that nobody would divide by."""
        before, text = self.at, self.text
        if self.peek() != "/" or self.at == before:
            return False
        following = text[self.at + 1 : self.at + 2]
        return following.isalpha() or following in ("_", ".")

    def unary(self) -> int:
        self.depth += 1
        if self.depth > DEPTH:
            raise CommandError(f"expression is nested more than {DEPTH} deep")
        try:
            return self._unary()
        finally:
            self.depth -= 1

    def _unary(self) -> int:
        found = self.peek()
        if not found:
            raise CommandError("unexpected end of expression")
        if found in "+-~(":
            self.at += 1
            if found == "(":
                value = self.sum()
                if self.peek() != ")":
                    raise CommandError("')' expected")
                self.at += 1
                return value
            value = self.unary()
            return value if found == "+" else -value & MASK if found == "-" else ~value & MASK
        if found == "'":
            return self.character()
        if found == "$":
            return self.register()
        if found not in _DIGITS[10]:
            raise CommandError(f"invalid char '{found}' in expression")
        value, self.at = read_number(self.text, self.at)
        if value > MASK:
            raise CommandError("number too large")
        return value

    def character(self) -> int:
        text = self.text[self.at : self.at + 3]
        if len(text) < 2:
            raise CommandError("character constant expected")
        if text[2:] != "'":
            raise CommandError("missing terminating ' character")
        self.at += 3
        return ord(text[1]) & MASK

    def register(self) -> int:
        start = end = self.at + 1
        while end < len(self.text) and (self.text[end].isalnum() or self.text[end] in "_."):
            end += 1
        self.at = end
        return register_value(self.registers(), self.text[start:end])
