"""What interrupt controllers report of themselves, as text in the layout of QEMU's `info pic` and `info lapic`."""

from __future__ import annotations

from qom.hw.interrupt_report import IoApicReport, LapicReport, PicReport

__all__ = ["ioapic_text", "lapic_text", "pic_text"]

MASKED, LEVEL, REMOTE, LOW, PENDING, LOGICAL = 1 << 16, 1 << 15, 1 << 14, 1 << 13, 1 << 12, 1 << 11
_IOAPIC_MODES = ("fixed", "lowest", "SMI", "...", "NMI", "INIT", "...", "extINT")
_LAPIC_MODES = ("Fixed", "...", "SMI", "...", "NMI", "INIT", "...", "ExtINT")
REDIRECTION = 0x10

ID, TPR, APR, PPR, LDR, DFR, SVR = 0x20, 0x80, 0x90, 0xA0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR_LOW, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
INITIAL_COUNT, CURRENT_COUNT, DIVIDE = 0x380, 0x390, 0x3E0
_LVT = (
    ("LVT0", 0x350), ("LVT1", 0x360), ("LVTPC", 0x340), ("LVTERR", 0x370), ("LVTTHMR", 0x330), ("LVTT", 0x320),
)  # fmt: skip
_TIMER_MODES = ("one-shot", "periodic", "tsc-deadline", "reserved")
_SHORTHANDS = ("no-shorthand", "self", "all-self", "all")


def pic_text(found: PicReport) -> str:
    """A line about an 8259A."""
    return (
        f"pic{found.number}: irr={found.irr:02x} imr={found.imr:02x} isr={found.isr:02x} hprio={found.highest}"
        f" irq_base={found.base:02x} rr_sel={int(found.reads_isr)} elcr={found.elcr:02x} fnm={int(found.nested)}"
    )


def ioapic_text(found: IoApicReport, number: int) -> str:
    """An I/O APIC with all of its pins."""
    select = found.select
    which = f" (redir[{(select - REDIRECTION) >> 1}])" if select >= REDIRECTION else ""
    lines = [f"ioapic{number}: ver=0x{found.version:x} id=0x{found.id:02x} sel=0x{select:02x}{which}"]
    remote = 0
    for pin, entry in enumerate(found.entries):
        remote |= bool(entry & REMOTE) << pin
        lines.append(
            f"  pin {pin:<2} 0x{entry:016x} dest={entry >> 56:x} vec={entry & 0xFF:<3}"
            f" {'active-lo' if entry & LOW else 'active-hi'} {'level' if entry & LEVEL else 'edge':<5}"
            f" {'masked' if entry & MASKED else '':<6} {_IOAPIC_MODES[entry >> 8 & 7]:<6}"
            f" {'logical' if entry & LOGICAL else 'physical'}"
        )
    return "\n".join([*lines, f"  {'IRR':<8} {_bits(found.irr)}", f"  Remote IRR {_bits(remote)}"])


def _bits(mask: int) -> str:
    return " ".join(str(n) for n in range(mask.bit_length()) if mask >> n & 1) or "(none)"


def lapic_text(found: LapicReport, cpu: int) -> str:
    """A local APIC."""
    registers = found.registers
    lines = [f"dumping local APIC state for CPU {cpu} ", ""]
    lines += [_lvt(name, registers[at]) for name, at in _LVT]
    divide = registers[DIVIDE]
    by = (divide & 3 | divide >> 1 & 4) + 1 & 7
    lines += [
        f"Timer\t DCR=0x{divide:x} (divide by {1 << by}) initial_count = {registers[INITIAL_COUNT]}"
        f" current_count = {registers[CURRENT_COUNT]}",
        f"SPIV\t 0x{registers[SVR]:08x} APIC {'enabled' if registers[SVR] & 0x100 else 'disabled'},"
        f" focus={'on' if registers[SVR] & 0x200 else 'off'}, spurious vec {registers[SVR] & 0xFF}",
        *_command(found),
        f"ESR\t 0x{registers[ESR]:08x}",
        f"ISR\t {_vectors(registers, ISR)}",
        f"IRR\t {_vectors(registers, IRR)}",
        "",
    ]
    ldr = registers[LDR] if found.x2apic else registers[LDR] >> 24
    last = f"APR 0x{registers.get(APR, 0):02x} TPR 0x{registers[TPR]:02x}"
    last += f" DFR 0x{registers.get(DFR, 0) >> 28:02x} LDR 0x{ldr:02x} PPR 0x{registers[PPR]:02x}"
    return "\n".join([*lines, last])


def _lvt(name: str, value: int) -> str:
    mode = value >> 8 & 7
    timer = _TIMER_MODES[value >> 17 & 3] if name == "LVTT" else ""
    pending = "pending" if value & PENDING else ""
    vector = f" (vec {value & 0xFF})" if mode in (0, 7) else ""
    text = (
        f"{name}\t 0x{value:08x} {'active-lo' if value & LOW else 'active-hi'} {'level' if value & LEVEL else 'edge':<5}"
        f" {'masked' if value & MASKED else '':<6} {pending:<7} {timer:<12} {_LAPIC_MODES[mode]:<6}"
    )
    return text + vector


def _command(found: LapicReport) -> list[str]:
    low, high = found.registers[ICR_LOW], found.registers.get(ICR_HIGH, 0)
    shorthand = _SHORTHANDS[low >> 18 & 3]
    logical = bool(low & LOGICAL)
    first = (
        f"ICR\t 0x{low:08x} {'logical' if logical else 'physical'} {'level' if low & LEVEL else 'edge'}"
        f" {'assert' if low & 1 << 14 else 'de-assert'} {shorthand}"
    )
    second = f"ICR2\t 0x{high:08x}"
    if not low >> 18 & 3:
        destination = high if found.x2apic else high >> 24
        second += f" mask {destination:08b} (APIC ID)" if logical else f" cpu {destination} (APIC ID)"
    return [first, second]


def _vectors(registers: dict[int, int], first: int) -> str:
    held = sum(registers[first + 16 * n] << 32 * n for n in range(8))
    level = sum(registers[TMR + 16 * n] << 32 * n for n in range(8))
    if not held:
        return "(none)"
    return "".join(f"{n}{'(level)' if level >> n & 1 else ''} " for n in range(256) if held >> n & 1)
