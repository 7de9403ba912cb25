"""The states an x86 processor starts from: power-up and reset, INIT, start-up IPI, a kernel's entry
without firmware, and its waking vector.

Values are those of the Intel manual, volume 3, table "IA-32 and Intel 64 Processor States Following Power-up, Reset,
or INIT", loaded through the vCPU handle, so that every accelerator begins alike.  A processor is called from its own
thread, or while it stands still.  Not modelled: built-in self test (EAX is 0), SMBASE.
"""

from collections.abc import Mapping

from accel._kvmabi import lib
from accel.errors import HandleError
from accel.handles import CData, VcpuHandle

CR0_POWER_UP = 0x60000010  # CD, NW, ET
CR0_CACHE_BITS = 0x60000000  # CD and NW, which INIT leaves alone
RFLAGS_RESET = 0x2
RESET_SELECTOR, RESET_BASE, RESET_IP = 0xF000, 0xFFFF0000, 0xFFF0
APIC_BASE = 0xFEE00000
APIC_BASE_BSP, APIC_BASE_ENABLE = 0x100, 0x800
DR6_RESET, DR7_RESET = 0xFFFF0FF0, 0x400
FCW_POWER_UP, MXCSR_RESET, XCR0_POWER_UP = 0x40, 0x1F80, 1
CODE, DATA, LDT, BUSY_TSS = 11, 3, 2, 11  # descriptor types
KERNEL_CODE, KERNEL_DATA = 0x10, 0x18  # the selectors that boot protocols name
CR0_PE, CR0_ET, CR0_PG, CR4_PAE, EFER_LME, EFER_LMA = 0x1, 0x10, 0x8000_0000, 0x20, 0x100, 0x400

LAPIC_ID, LAPIC_VERSION, LAPIC_DFR, LAPIC_SVR = 0x20, 0x30, 0xE0, 0xF0
LAPIC_LVT_FIRST, LAPIC_LVT_LAST, LAPIC_LVT_LINT0 = 0x320, 0x370, 0x350
LVT_MASKED, LVT_EXTINT = 1 << 16, 7 << 8

# MSRs with a defined value after power-up, but for the TSC; those the accelerator does not list are left out.
MSRS_POWER_UP = {
    0x3B: 0,  # TSC_ADJUST
    0x174: 0,  # SYSENTER_CS
    0x175: 0,  # SYSENTER_ESP
    0x176: 0,  # SYSENTER_EIP
    0x277: 0x0007040600070406,  # PAT
    0x2FF: 0,  # MTRR_DEF_TYPE
    0xC0000081: 0,  # STAR
    0xC0000082: 0,  # LSTAR
    0xC0000083: 0,  # CSTAR
    0xC0000084: 0,  # FMASK
    0xC0000102: 0,  # KERNEL_GS_BASE
}


def apic_base_at_reset(bootstrap: bool) -> int:
    """IA32_APIC_BASE after power-up or reset."""
    return APIC_BASE | APIC_BASE_ENABLE | (APIC_BASE_BSP if bootstrap else 0)


def load_power_up(vcpu: VcpuHandle, *, bootstrap: bool, listed_msrs: frozenset[int]) -> list[str]:
    """Load the state after power-up or reset.

    Returns:
        What the accelerator would not take, one line each; the machine goes on without.
    """
    refused: list[str] = []
    _load_common(vcpu, cr0=CR0_POWER_UP, apic_base=apic_base_at_reset(bootstrap))
    if vcpu.check_extension("KVM_CAP_XSAVE"):  # what struct kvm_fpu lacks: the upper halves of YMM
        area = vcpu.get_xsave()
        for n in range(len(area.region)):
            area.region[n] = 0  # XSTATE_BV too: every component becomes initial
        vcpu.set_xsave(area)
    if vcpu.check_extension("KVM_CAP_XCRS"):
        xcrs = vcpu.get_xcrs()
        xcrs.nr_xcrs, xcrs.flags = 1, 0
        xcrs.xcrs[0].xcr, xcrs.xcrs[0].value = 0, XCR0_POWER_UP
        vcpu.set_xcrs(xcrs)
    fpu = vcpu.get_fpu()
    for n in range(8):
        fpu.fpr[n] = b"\0" * 16
    for n in range(16):
        fpu.xmm[n] = b"\0" * 16
    fpu.fcw, fpu.fsw, fpu.ftwx, fpu.last_opcode, fpu.last_ip, fpu.last_dp = FCW_POWER_UP, 0, 0, 0, 0, 0
    fpu.mxcsr = MXCSR_RESET
    vcpu.set_fpu(fpu)
    for index, value in MSRS_POWER_UP.items():
        if index in listed_msrs:
            try:
                vcpu.set_msrs({index: value})
            except HandleError as error:
                refused.append(str(error))
    return refused


def load_lapic_power_up(vcpu: VcpuHandle, *, bootstrap: bool) -> None:
    """Reset the local APIC inside the accelerator: software-disabled, all local vectors masked.

    LINT0 of the bootstrap processor passes the PIC's interrupts on, as PC firmware leaves it.
    """
    page = bytearray(lib.KVM_APIC_REG_SIZE)
    old = vcpu.get_lapic()
    for register in (LAPIC_ID, LAPIC_VERSION):
        page[register : register + 4] = old[register : register + 4]
    values = {LAPIC_DFR: 0xFFFFFFFF, LAPIC_SVR: 0xFF}
    values |= dict.fromkeys(range(LAPIC_LVT_FIRST, LAPIC_LVT_LAST + 1, 0x10), LVT_MASKED)
    if bootstrap:
        values[LAPIC_LVT_LINT0] = LVT_EXTINT
    for register, value in values.items():
        page[register : register + 4] = value.to_bytes(4, "little")
    vcpu.set_lapic(bytes(page))


def load_init(vcpu: VcpuHandle) -> None:
    """Load the state after INIT: as after reset, but FPU, MSRs, APIC base and the cache bits of CR0 stay."""
    sregs = vcpu.get_sregs()
    _load_common(vcpu, cr0=(sregs.cr0 & CR0_CACHE_BITS) | 0x10, apic_base=sregs.apic_base)


def load_sipi(vcpu: VcpuHandle, vector: int) -> None:
    """Begin at the page a start-up IPI names, after INIT."""
    sregs = vcpu.get_sregs()
    sregs.cs.selector, sregs.cs.base = vector << 8, vector << 12
    vcpu.set_sregs(sregs)
    regs = vcpu.get_regs()
    regs.rip = 0
    vcpu.set_regs(regs)


def load_waking_vector(vcpu: VcpuHandle, vector: int) -> None:
    """Load the state in which firmware resumes a guest that suspended itself: real mode (ACPI 6.4, table 5.11).

    Args:
        vcpu: a processor in its power-up state.
        vector: physical address; its paragraph is CS, the rest IP.  The guest wrote it: of one above 1 MiB, which real mode
            cannot reach, the upper bits are lost.
    """
    selector = vector >> 4 & 0xFFFF
    sregs = vcpu.get_sregs()
    sregs.cs.selector, sregs.cs.base = selector, selector << 4
    vcpu.set_sregs(sregs)
    regs = vcpu.get_regs()
    regs.rip = vector & 0xF
    vcpu.set_regs(regs)


def load_kernel_entry(
    vcpu: VcpuHandle, *, entry: int, registers: Mapping[str, int], gdt: tuple[int, int], cr3: int = 0
) -> None:
    """Load the state in which a boot loader enters a kernel: flat segments, interrupts off.

    Args:
        vcpu: a processor in its power-up state.
        entry: linear address of the first instruction.
        registers: general registers with a value; the others are 0.
        gdt: linear address and size in bytes of a descriptor table that has code at selector 10h and data at 18h.
        cr3: the top page table for 64-bit mode; 0: protected mode without paging.
    """
    sregs = vcpu.get_sregs()
    long_mode = cr3 != 0
    for name in ("ds", "es", "fs", "gs", "ss"):
        _flat_segment(getattr(sregs, name), KERNEL_DATA, DATA, db=1)
    _flat_segment(sregs.cs, KERNEL_CODE, CODE, db=int(not long_mode), long=int(long_mode))
    sregs.gdt.base, sregs.gdt.limit = gdt[0], gdt[1] - 1
    sregs.idt.base, sregs.idt.limit = 0, 0
    sregs.cr0 = CR0_PE | CR0_ET | (CR0_PG if long_mode else 0)
    sregs.cr3 = cr3
    sregs.cr4 = CR4_PAE if long_mode else 0
    sregs.efer = EFER_LME | EFER_LMA if long_mode else 0
    vcpu.set_sregs(sregs)
    regs = vcpu.get_regs()
    for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16))):
        setattr(regs, name, registers.get(name, 0))
    regs.rip, regs.rflags = entry, RFLAGS_RESET
    vcpu.set_regs(regs)


def _load_common(vcpu: VcpuHandle, *, cr0: int, apic_base: int) -> None:
    sregs = vcpu.get_sregs()
    for name in ("ds", "es", "fs", "gs", "ss"):
        _segment(getattr(sregs, name), 0, 0, DATA, code_or_data=True)
    _segment(sregs.cs, RESET_SELECTOR, RESET_BASE, CODE, code_or_data=True)
    _segment(sregs.ldt, 0, 0, LDT, code_or_data=False)
    _segment(sregs.tr, 0, 0, BUSY_TSS, code_or_data=False)
    for table in (sregs.gdt, sregs.idt):
        table.base, table.limit = 0, 0xFFFF
    sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8, sregs.efer = cr0, 0, 0, 0, 0, 0
    sregs.apic_base = apic_base
    for n in range(len(sregs.interrupt_bitmap)):
        sregs.interrupt_bitmap[n] = 0
    vcpu.set_sregs(sregs)
    vcpu.run_page.cr8 = 0  # KVM loads it from the run page on every entry while the local APIC is ours
    vcpu.run_page.request_interrupt_window = 0

    regs = vcpu.get_regs()
    for name in ("rax", "rbx", "rcx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16))):
        setattr(regs, name, 0)
    regs.rdx = _signature(vcpu)
    regs.rip, regs.rflags = RESET_IP, RFLAGS_RESET
    vcpu.set_regs(regs)

    if vcpu.check_extension("KVM_CAP_DEBUGREGS"):
        debug = vcpu.get_debugregs()
        for n in range(4):
            debug.db[n] = 0
        debug.dr6, debug.dr7 = DR6_RESET, DR7_RESET
        vcpu.set_debugregs(debug)
    if vcpu.check_extension("KVM_CAP_VCPU_EVENTS"):
        events = vcpu.get_vcpu_events()
        events.exception.injected = events.exception.pending = 0
        events.interrupt.injected = events.interrupt.shadow = 0
        events.nmi.injected = events.nmi.pending = events.nmi.masked = 0
        events.flags = lib.KVM_VCPUEVENT_VALID_NMI_PENDING | lib.KVM_VCPUEVENT_VALID_SHADOW
        vcpu.set_vcpu_events(events)


def _segment(segment: CData, selector: int, base: int, kind: int, *, code_or_data: bool) -> None:
    segment.selector, segment.base, segment.limit, segment.type = selector, base, 0xFFFF, kind
    segment.present, segment.s = 1, int(code_or_data)
    segment.dpl = segment.db = segment.l = segment.g = segment.avl = segment.unusable = 0


def _flat_segment(segment: CData, selector: int, kind: int, *, db: int, long: int = 0) -> None:
    _segment(segment, selector, 0, kind, code_or_data=True)
    segment.limit, segment.g, segment.db, segment.l = 0xFFFFFFFF, 1, db, long


def _signature(vcpu: VcpuHandle) -> int:
    """Family, model and stepping, which EDX holds after a reset."""
    for entry in vcpu.get_cpuid() if vcpu.check_extension("KVM_CAP_EXT_CPUID") else ():
        if entry.function == 1:
            return entry.eax
    return 0
