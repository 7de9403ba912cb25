"""What is said when a vCPU cannot go on: the exit, the registers, and the bytes at the instruction pointer."""

from typing import Any

from accel._kvmabi import lib
from accel.handles import EXIT_NAMES, VcpuHandle
from qom import Cpu, QomError, records

CR0_PE, CR0_PG, CR4_PAE, CR4_PSE, EFER_LMA = 1 << 0, 1 << 31, 1 << 5, 1 << 4, 1 << 10
PRESENT, LARGE = 1 << 0, 1 << 7
FLAT_ADDRESS = (1 << 52) - 1 & ~0xFFF
INSTRUCTION_BYTES = 16
TOLD_AT_ONCE, ROW_BREAKS_NS = 3, 10_000_000_000

SUBERRORS = {
    lib.KVM_INTERNAL_ERROR_EMULATION: "an instruction the accelerator cannot emulate",
    lib.KVM_INTERNAL_ERROR_SIMUL_EX: "simultaneous exceptions",
    lib.KVM_INTERNAL_ERROR_DELIVERY_EV: "an exit while an event was being delivered",
    lib.KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: "an unexpected exit of the hardware",
}


def describe_exit(vcpu: VcpuHandle, word: int) -> str:
    """One line on an exit that is not served."""
    page = vcpu.run_page
    reason = word & lib.ABI_REASON_MASK
    name = EXIT_NAMES.get(reason, f"exit reason {reason}")
    if reason == lib.ABI_EXIT_ERROR:
        from accel.errors import HandleError

        return str(HandleError(vcpu.where, "KVM_RUN", vcpu.c.data))
    if reason == lib.KVM_EXIT_INTERNAL_ERROR:
        suberror = page.internal.suberror
        text = f"{name}: {SUBERRORS.get(suberror, f'suberror {suberror}')}"
        if suberror == lib.KVM_INTERNAL_ERROR_EMULATION and page.emulation_failure.ndata >= 1:
            failure = page.emulation_failure
            if failure.flags & lib.KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES:
                return f"{text} ({bytes(failure.insn_bytes[0 : failure.insn_size]).hex(' ')})"
        data = [f"{page.internal.data[n]:#x}" for n in range(min(page.internal.ndata, 16))]
        return f"{text}; data {' '.join(data)}" if data else text
    if reason == lib.KVM_EXIT_FAIL_ENTRY:
        return f"{name}: hardware entry failure reason {page.fail_entry.hardware_entry_failure_reason:#x}"
    if reason == lib.KVM_EXIT_UNKNOWN:
        return f"{name}: hardware exit reason {page.hw.hardware_exit_reason:#x}"
    if reason == lib.KVM_EXIT_EXCEPTION:
        return f"{name}: vector {page.ex.exception}, error code {page.ex.error_code:#x}"
    if reason == lib.KVM_EXIT_DEBUG:
        return f"{name}: vector {page.debug.arch.exception} at {page.debug.arch.pc:#x}"
    if reason == lib.KVM_EXIT_HYPERCALL:
        return f"{name}: number {page.hypercall.nr:#x}"
    return name


EXCEPTIONS = {
    0: "#DE (divide error)", 1: "#DB (debug)", 2: "NMI", 3: "#BP (breakpoint)", 4: "#OF (overflow)",
    5: "#BR (bound exceeded)", 6: "#UD (invalid opcode)", 7: "#NM (no coprocessor)", 8: "#DF (double fault)",
    10: "#TS (invalid task state)", 11: "#NP (segment not present)", 12: "#SS (stack fault)",
    13: "#GP (general protection)", 14: "#PF (page fault)", 16: "#MF (x87 error)", 17: "#AC (alignment check)",
    18: "#MC (machine check)", 19: "#XM (SIMD error)",
}  # fmt: skip
GATE_SIZES = {"real": 4, "protected": 8, "long": 16}
DF = 8


def exception_text(vector: int, values: dict[str, int]) -> str:
    """An exception as the manual calls it; with a page fault, where."""
    name = EXCEPTIONS.get(vector, f"exception {vector}")
    return f"{name} at {values['cr2']:#x}" if vector == 14 else name


@records.define
class Repeats:
    """Which of many equal events to tell, so that one that comes in a loop is told by its count."""

    last: int | None = None  # guest time of the latest, ns
    count: int = 0  # how many there were in a row

    def tell(self, now: int) -> bool:
        """Take note of one at guest time `now`, in ns.  True for the first 3 of a row, then the 10th, 100th and so on.

        A row is broken by 10 seconds without one.
        """
        self.count = self.count + 1 if self.last is not None and now - self.last < ROW_BREAKS_NS else 1
        self.last = now
        return self.count <= TOLD_AT_ONCE or str(self.count).strip("0") == "1"


def describe_triple_fault(cpu: Cpu) -> str:
    """Why a vCPU shut down: which exceptions, as far as the accelerator tells, and what is wrong with their delivery."""
    values = cpu.vcpu.registers()
    chain = [EXCEPTIONS.get(vector, f"exception {vector}") for vector in cpu.vcpu.fault_chain()]
    text = "triple fault"
    if chain:
        text += f": {', then '.join(chain)}"
    why = [*_interrupt_table(cpu, values), *_stack(cpu, values)]
    return f"{text}; {'; '.join(why)}" if why else text


def _interrupt_table(cpu: Cpu, values: dict[str, int]) -> list[str]:
    """What keeps the interrupt table from serving a double fault."""
    kind = "real" if not values["cr0"] & CR0_PE else "long" if values["efer"] & EFER_LMA else "protected"
    base, limit, size = values["idt.base"], values["idt.limit"], GATE_SIZES[kind]
    if limit < (DF + 1) * size - 1:
        return [f"the interrupt table at {base:#x} ends at {limit:#x}, before the entry of #DF"]
    if _is_ram(cpu, linear_to_physical(cpu.memory, values, base + DF * size)):
        return []
    return [f"the interrupt table at {base:#x} is not in mapped memory"]


def _stack(cpu: Cpu, values: dict[str, int]) -> list[str]:
    """Whether there is memory where the stack is."""
    mask = (1 << 64) - 1 if values["efer"] & EFER_LMA else 0xFFFFFFFF
    top = values["ss.base"] + values["rsp"] - 1 & mask
    if _is_ram(cpu, linear_to_physical(cpu.memory, values, top)):
        return []
    return [f"the stack at {top + 1:#x} is not in mapped memory"]


def _is_ram(cpu: Cpu, physical: int | None) -> bool:
    found = cpu.memory.lookup(physical) if physical is not None else None
    return found is not None and found.region.ram_block is not None


def nowhere(cpu: Cpu) -> str:
    """That the guest executes where there is no memory, if that is so; else ""."""
    values = cpu.vcpu.registers()
    mask = (1 << 64) - 1 if values["efer"] & EFER_LMA else 0xFFFFFFFF
    physical = linear_to_physical(cpu.memory, values, values["cs.base"] + values["rip"] & mask)
    if physical is None or _is_ram(cpu, physical):
        return ""
    found = cpu.memory.lookup(physical)
    what = "there is nothing" if found is None else f"'{found.region.name}' is, no memory"
    return f"the guest jumped to guest-physical {physical:#x}, where {what}"


def registers_text(values: dict[str, int]) -> str:
    """Registers as lines of a report."""
    lines = []
    wide = max(v for k, v in values.items() if not k.endswith((".base", "efer"))) >> 32 or values["efer"] & EFER_LMA
    width = 16 if wide else 8
    for group in (("rax", "rbx", "rcx", "rdx"), ("rsi", "rdi", "rbp", "rsp"), ("rip", "rflags")):
        lines.append(" ".join(f"{name}={values[name]:0{width}x}" for name in group))
    if wide:
        lines.append(" ".join(f"r{n}={values[f'r{n}']:016x}" for n in range(8, 16)))
    segments = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldt")
    lines.append(" ".join(f"{n}={values[n]:04x}:{values[f'{n}.base']:08x}" for n in segments))
    lines.append(" ".join(f"{n}={values[f'{n}.base']:08x}/{values[f'{n}.limit']:04x}" for n in ("gdt", "idt")))
    lines.append(" ".join(f"{n}={values[n]:08x}" for n in ("cr0", "cr2", "cr3", "cr4", "efer")))
    return "\n".join(lines)


def linear_to_physical(memory: Any, values: dict[str, int], linear: int) -> int | None:
    """Walk the guest's page tables (2-level, PAE, 4-level); None where nothing is mapped."""
    if not values["cr0"] & CR0_PG:
        return linear & 0xFFFFFFFF
    if not values["cr4"] & CR4_PAE:
        levels, bits, size, table = [(22, 10), (12, 10)], 0xFFFFF000, 4, values["cr3"] & 0xFFFFF000
    elif not values["efer"] & EFER_LMA:
        levels, bits, size, table = [(30, 2), (21, 9), (12, 9)], FLAT_ADDRESS, 8, values["cr3"] & 0xFFFFFFE0
    else:
        levels, bits, size, table = [(39, 9), (30, 9), (21, 9), (12, 9)], FLAT_ADDRESS, 8, values["cr3"] & FLAT_ADDRESS
    for shift, index_bits in levels:
        entry = memory.read(table + (linear >> shift & (1 << index_bits) - 1) * size, size)
        if not entry & PRESENT:
            return None
        large_allowed = shift in (21, 22, 30) and (size == 8 or bool(values["cr4"] & CR4_PSE))
        if shift == 12 or (entry & LARGE and large_allowed and (shift, size, index_bits) != (30, 8, 2)):
            page = (1 << shift) - 1
            return int(entry & bits & ~page | linear & page)
        table = entry & bits
    return None


def instruction_bytes(cpu: Cpu, values: dict[str, int]) -> bytes:
    """The bytes at the instruction pointer, as many as are mapped."""
    code = bytearray()
    mask = (1 << 64) - 1 if values["efer"] & EFER_LMA else 0xFFFFFFFF
    for n in range(INSTRUCTION_BYTES):
        physical = linear_to_physical(cpu.memory, values, (values["cs.base"] + values["rip"] + n) & mask)
        if physical is None:
            break
        code += cpu.memory.read_bytes(physical, 1)
    return bytes(code)


def report(cpu: Cpu, what: str) -> str:
    """The whole report: a line on what happened and where, registers, instruction bytes."""
    vcpu = cpu.vcpu
    try:
        values = vcpu.registers()
    except QomError as error:
        return f"{cpu.path}: {what}; registers cannot be read: {error}"
    try:
        code = instruction_bytes(cpu, values).hex(" ") or "not mapped"
    except QomError as error:
        code = f"cannot be read: {error}"
    place = f"{values['cs']:04x}:{values['rip']:x}"
    return f"{cpu.path}: {what}, at {place}\n{registers_text(values)}\ncode at {place}: {code}"
