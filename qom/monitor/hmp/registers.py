"""The registers of a processor as text, laid out as QEMU's `info registers`.

Not shown: YMM and ZMM halves, the mask registers, MSRs, and the condition codes that QEMU keeps beside the flags.
"""

from __future__ import annotations

from typing import Any

from qom.errors import QomError
from qom.vm.cpu import Cpu

__all__ = ["registers_text"]

EFER_LMA, CR0_PE, EFLAGS_VM = 1 << 10, 1, 1 << 17
FLAGS = ((11, "O"), (10, "D"), (7, "S"), (6, "Z"), (4, "A"), (2, "P"), (0, "C"))
_SYSTEM_LONG = (
    "Reserved", "Reserved", "LDT", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved", "Reserved",
    "TSS64-avl", "Reserved", "TSS64-busy", "CallGate64", "Reserved", "IntGate64", "TrapGate64",
)  # fmt: skip
_SYSTEM = (
    "Reserved", "TSS16-avl", "LDT", "TSS16-busy", "CallGate16", "TaskGate", "IntGate16", "TrapGate16", "Reserved",
    "TSS32-avl", "Reserved", "TSS32-busy", "CallGate32", "Reserved", "IntGate32", "TrapGate32",
)  # fmt: skip


def registers_text(cpu: Cpu) -> str:
    """What `info registers` shows of a processor; read at one moment."""
    return cpu.run_on(lambda: _text(cpu))


def _text(cpu: Cpu) -> str:
    vcpu: Any = cpu.vcpu
    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    long_mode = bool(sregs.efer & EFER_LMA)
    code64 = long_mode and bool(sregs.cs.l)
    lines = _general_long(regs) if code64 else _general(regs)
    flags = "".join(letter if regs.rflags >> bit & 1 else "-" for bit, letter in FLAGS)
    cpl = sregs.ss.dpl if sregs.cr0 & CR0_PE else 0
    state = f"[{flags}] CPL={cpl} II={_shadow(vcpu)} A20={_a20(cpu)} SMM=0 HLT={int(_halted(cpu))}"
    ip = f"RIP={regs.rip:016x} RFL" if code64 else f"EIP={regs.rip & 0xFFFFFFFF:08x} EFL"
    lines.append(f"{ip}={regs.rflags & 0xFFFFFFFF:08x} {state}")
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"):
        lines.append(_segment(name.upper(), getattr(sregs, name), sregs, regs, code64))
    for name in ("gdt", "idt"):
        table = getattr(sregs, name)
        base = f"{table.base:016x}" if long_mode else f"{table.base & 0xFFFFFFFF:08x}"
        lines.append(f"{name.upper()}=     {base} {table.limit:08x}")
    wide = 16 if long_mode else 8
    mask = (1 << wide * 4) - 1
    controls = " ".join(f"CR{n}={getattr(sregs, f'cr{n}') & mask:0{wide}x}" for n in (2, 3))
    lines.append(f"CR0={sregs.cr0 & 0xFFFFFFFF:08x} {controls} CR4={sregs.cr4 & 0xFFFFFFFF:08x}")
    lines += _debug(vcpu)
    lines.append(f"EFER={sregs.efer:016x}")
    return "\n".join([*lines, *_floating(vcpu.get_fpu(), sixteen=code64)])


def _general(regs: Any) -> list[str]:
    names = (("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"))
    return [" ".join(f"E{name[1:].upper()}={getattr(regs, name) & 0xFFFFFFFF:08x}" for name in row) for row in names]


def _general_long(regs: Any) -> list[str]:
    rows = (
        ("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"), ("r8", "r9", "r10", "r11"), ("r12", "r13", "r14", "r15"),
    )  # fmt: skip
    return [" ".join(f"{name.upper():<3}={getattr(regs, name):016x}" for name in row) for row in rows]


def _segment(name: str, segment: Any, sregs: Any, regs: Any, code64: bool) -> str:
    flags = (
        segment.type << 8 | segment.s << 12 | segment.dpl << 13 | segment.present << 15
        | segment.avl << 20 | segment.l << 21 | segment.db << 22 | segment.g << 23
        | (segment.limit >> (12 if segment.g else 0) & 0xF0000)
    )  # fmt: skip
    if segment.unusable:
        flags = 0
    base = f"{segment.base:016x}" if code64 else f"{segment.base & 0xFFFFFFFF:08x}"
    text = f"{name:<3}={segment.selector:04x} {base} {segment.limit:08x} {flags:08x}"
    if not sregs.cr0 & CR0_PE or not flags & 1 << 15 or regs.rflags & EFLAGS_VM:
        return text
    text += f" DPL={segment.dpl} "
    if not segment.s:
        return text + (_SYSTEM_LONG if sregs.efer & EFER_LMA else _SYSTEM)[segment.type]
    if segment.type & 8:
        bits = "CS64" if segment.l else "CS32" if segment.db else "CS16"
        marks = ("C" if segment.type & 4 else "-") + ("R" if segment.type & 2 else "-")
    else:
        bits = "DS" if segment.db or code64 else "DS16"
        marks = ("E" if segment.type & 4 else "-") + ("W" if segment.type & 2 else "-")
    return f"{text}{bits:<4} [{marks}{'A' if segment.type & 1 else '-'}]"


def _debug(vcpu: Any) -> list[str]:
    try:
        found = vcpu.get_debugregs()
    except QomError:
        return []
    first = "".join(f"DR{n}={found.db[n]:016x} " for n in range(4))
    return [first, f"DR6={found.dr6:016x} DR7={found.dr7:016x}"]


def _floating(fpu: Any, *, sixteen: bool) -> list[str]:
    top = fpu.fsw >> 11 & 7
    lines = [f"FCW={fpu.fcw:04x} FSW={fpu.fsw:04x} [ST={top}] FTW={fpu.ftwx:02x} MXCSR={fpu.mxcsr:08x}"]
    stack = [bytes(fpu.fpr[(n - top) & 7]) for n in range(8)]  # of the file, not of the stack
    shown = [f"FPR{n}={int.from_bytes(raw[:8], 'little'):016x} {int.from_bytes(raw[8:10], 'little'):04x}"
             for n, raw in enumerate(stack)]  # fmt: skip
    lines += [" ".join(shown[n : n + 2]) for n in range(0, 8, 2)]
    wide = [bytes(fpu.xmm[n]) for n in range(16 if sixteen else 8)]
    shown = [
        f"XMM{n:02d}={int.from_bytes(raw[8:], 'little'):016x} {int.from_bytes(raw[:8], 'little'):016x}"
        for n, raw in enumerate(wide)
    ]
    return [*lines, *(" ".join(shown[n : n + 2]) for n in range(0, len(shown), 2))]


def _shadow(vcpu: Any) -> int:
    try:
        return int(bool(vcpu.get_vcpu_events().interrupt.shadow))
    except QomError:
        return 0


def _a20(cpu: Cpu) -> int:
    """Whether address line 20 is let through: as the processor sees memory."""
    return int(getattr(cpu, "a20_enabled", True))


def _halted(cpu: Cpu) -> bool:
    return cpu.halted or cpu.waits_for_sipi
