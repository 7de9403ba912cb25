"""Instructions of the guest as text (`x/i`, `xp/i`), decoded by the Python package capstone where it is installed.

AT&T syntax, as QEMU shows them; 16, 32 or 64 bits as the code segment of the monitor's processor says.
"""

from __future__ import annotations

from typing import Any

from qom.monitor.hmp.declare import CommandError, Hmp

__all__ = ["disassembled"]

LONGEST = 15  # bytes of an instruction
IN_LINE = 8  # bytes of an instruction shown in a line
PAGE = 4096
EFER_LMA = 1 << 10


def _decoder(bits: int) -> Any:
    try:
        import capstone
    except ImportError:
        raise CommandError(
            "instructions are decoded by the Python package 'capstone', which is not installed: expected"
            " `pip install capstone` (qom's extra `disassembly` brings it, too), or another format, as x/16xb"
        ) from None
    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
    made = capstone.Cs(capstone.CS_ARCH_X86, mode)
    made.syntax = capstone.CS_OPT_SYNTAX_ATT
    return made


def code_bits(hmp: Hmp) -> int:
    """The width of the code that the monitor's processor executes."""

    def read() -> int:
        sregs = hmp.cpu.vcpu.get_sregs()
        if sregs.efer & EFER_LMA and sregs.cs.l:
            return 64
        return 32 if sregs.cs.db else 16

    return hmp.cpu.run_on(read)


def disassembled(hmp: Hmp, count: int, address: int, *, physical: bool) -> str:
    """`count` instructions from `address` on.

    Raises:
        CommandError: capstone is not installed.
    """
    from qom.monitor.hmp.commands.memory import read_physical, read_virtual

    bits = code_bits(hmp)
    decoder = _decoder(bits)
    read = read_physical if physical else read_virtual
    lines: list[str] = []
    for _ in range(count):
        data = _code(hmp, read, address)
        if not data:
            lines.append(f"0x{address:08x}: unable to read memory")
            break
        found = next(decoder.disasm(data, address, 1), None)
        if found is None and len(data) < LONGEST:
            lines.append(f"0x{address:08x}: unable to read memory")
            break
        raw = data[: found.size] if found is not None else data[:1]
        text = f"{found.mnemonic:<8} {found.op_str}" if found is not None else f".byte    0x{raw[0]:02x}"
        shown = "".join(f" {byte:02x}" for byte in raw[:IN_LINE])
        lines.append(f"0x{address:08x}: {shown:<{IN_LINE * 3}}  {text}".rstrip())
        if len(raw) > IN_LINE:
            lines.append(f"0x{address + IN_LINE:08x}: " + "".join(f" {byte:02x}" for byte in raw[IN_LINE:]))
        address += len(raw)
    return "\n".join(lines)


def _code(hmp: Hmp, read: Any, address: int) -> bytes:
    """As many bytes as the longest instruction has, or as there are up to where memory ends."""
    data: bytes | None = read(hmp, address, LONGEST)
    if data is None:
        data = read(hmp, address, min(LONGEST, PAGE - address % PAGE))
    return data or b""
