/* System instructions that are not about segments: flags, control and debug registers, and those that leave the guest.
 *
 * What an exit handler serves (CPUID, MSRs, control registers, HLT, ...) only checks its privilege here.
 */
#include "access.h"
#include "ops.h"
#include "system.h"

static void need_cpl0(sim_vcpu *cpu) {
    if (cpu->cpl)
        raise_gp0(cpu);
}

/* ---- flags --------------------------------------------------------------------------------------------------------
 */

void op_pushf(sim_vcpu *cpu, const struct insn *i) {
    if (v86_mode(cpu) && iopl(cpu) < 3) {
        BEGIN(cpu, i);
        raise_gp0(cpu);
    }
    push_w(cpu, i, i->osz, cpu_eflags(cpu) & ~(FL_VM | FL_RF));
    NEXT(cpu, i);
}

void op_popf(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (v86_mode(cpu) && iopl(cpu) < 3)
        raise_gp0(cpu);
    u32 v = (u32)stack_top(cpu, i, i->osz);
    u32 mask = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID | FL_RF;
    if (!v86_mode(cpu) && cpu->cpl == 0)
        mask |= FL_IOPL | FL_VIF | FL_VIP;
    if (cpu->cpl <= iopl(cpu))
        mask |= FL_IF; /* in V8086 mode IOPL is 3 here */
    if (i->osz == W16)
        mask &= 0xffff;
    v &= ~(FL_RF | FL_VIF | FL_VIP);
    drop(cpu, i, 1u << i->osz);
    cpu_set_eflags(cpu, v, mask);
    RETIRE(cpu, i, insn_next_ip(i));
}

static void need_iopl(sim_vcpu *cpu) {
    if ((cpu->cr0 & CR0_PE) && cpu->cpl > iopl(cpu))
        raise_gp0(cpu);
}

void op_cli(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_iopl(cpu);
    cpu_set_eflags(cpu, 0, FL_IF);
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_sti(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_iopl(cpu);
    if (!(cpu->eflags & FL_IF))
        cpu->shadow_new = SHADOW_STI;
    cpu_set_eflags(cpu, FL_IF, FL_IF);
    RETIRE(cpu, i, insn_next_ip(i));
}

/* ---- instructions that leave the guest ------------------------------------------------------------------------------
 */

void op_hlt(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    vm_exit(cpu, EXIT_REASON_HLT);
}
void op_cpuid(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    vm_exit(cpu, EXIT_REASON_CPUID);
}
void op_rdmsr(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    vm_exit(cpu, EXIT_REASON_MSR_READ);
}
void op_wrmsr(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    vm_exit(cpu, EXIT_REASON_MSR_WRITE);
}
void op_invd(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    vm_exit(cpu, EXIT_REASON_INVD);
}
void op_wbinvd(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    vm_exit(cpu, EXIT_REASON_WBINVD);
}
void op_invlpg(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (!(i->flags & IF_MEM))
        raise_ud(cpu);
    need_cpl0(cpu);
    u64 ea = insn_ea(cpu, i);
    if (cpu->mode != MODE64)
        ea = (u32)(cpu->seg[i->seg].base + ea);
    else if (i->seg == FS || i->seg == GS)
        ea += cpu->seg[i->seg].base;
    cpu->exit.qualification = ea;
    vm_exit(cpu, EXIT_REASON_INVLPG);
}
void op_vmcall(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    vm_exit(cpu, EXIT_REASON_VMCALL);
}

void op_rdtsc(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if ((cpu->cr4 & CR4_TSD) && cpu->cpl)
        raise_gp0(cpu);
    u64 t = guest_tsc(cpu);
    cpu->regs[RAX] = (u32)t;
    cpu->regs[RDX] = t >> 32;
    RETIRE(cpu, i, insn_next_ip(i));
}

/* There are no performance counters: no index is valid. */
void op_rdpmc(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    raise_gp0(cpu);
}

/* ---- control registers ----------------------------------------------------------------------------------------------
 */

#define CR0_WRITABLE (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

bool set_cr0(sim_vcpu *cpu, u64 value) {
    if (value >> 32)
        return false;
    u64 old = cpu->cr0, v = (value & CR0_WRITABLE) | CR0_ET;
    if ((v & CR0_PG) && !(v & CR0_PE))
        return false;
    if ((v & CR0_NW) && !(v & CR0_CD))
        return false;
    if ((v & CR0_PG) && (cpu->cr4 & CR4_PAE) && !long_mode(cpu) && ((v ^ old) & (CR0_PG | CR0_CD | CR0_NW)) &&
        !load_pdptes(cpu, cpu->cr3))
        return false;
    cpu->cr0 = v;
    if ((v ^ old) & (CR0_PG | CR0_WP))
        tlb_flush(cpu, true);
    if ((v ^ old) & CR0_PE)
        cpu->cpl = 0;
    cpu_mode_changed(cpu);
    return true;
}

bool set_cr3(sim_vcpu *cpu, u64 value) {
    if (!long_mode(cpu) && (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !load_pdptes(cpu, value))
        return false;
    cpu->cr3 = value;
    tlb_flush(cpu, false);
    return true;
}

u64 cr4_allowed(sim_vcpu *cpu) {
    u32 edx = cpuid_edx1(cpu);
    return CR4_TSD | CR4_PCE | (edx & 1u << 2 ? CR4_DE : 0) | (edx & 1u << 3 ? CR4_PSE : 0) |
           (edx & 1u << 6 ? CR4_PAE : 0) | (edx & 1u << 7 ? CR4_MCE : 0) | (edx & 1u << 13 ? CR4_PGE : 0) |
           (has_feature(cpu, FEAT_FXSR) ? CR4_OSFXSR : 0) | (has_feature(cpu, FEAT_SSE) ? CR4_OSXMMEXCPT : 0) |
           (has_feature(cpu, FEAT_XSAVE) ? CR4_OSXSAVE : 0);
}

bool set_cr4(sim_vcpu *cpu, u64 value) {
    if (value & ~cr4_allowed(cpu))
        return false;
    u64 old = cpu->cr4;
    if (long_mode(cpu) && !(value & CR4_PAE))
        return false;
    cpu->cr4 = value;
    if (!long_mode(cpu) && (cpu->cr0 & CR0_PG) && (value & CR4_PAE) &&
        ((value ^ old) & (CR4_PAE | CR4_PSE | CR4_PGE)) && !load_pdptes(cpu, cpu->cr3)) {
        cpu->cr4 = old;
        return false;
    }
    if ((value ^ old) & (CR4_PSE | CR4_PAE | CR4_PGE))
        tlb_flush(cpu, true);
    if ((value ^ old) & (CR4_OSFXSR | CR4_OSXSAVE))
        cpu_mode_changed(cpu);
    return true;
}

void op_mov_Rd_Cd(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    u64 v;
    switch (i->reg) {
    case 0:
        v = cpu->cr0;
        break;
    case 2:
        v = cpu->cr2;
        break;
    case 3:
        v = cpu->cr3;
        break;
    case 4:
        v = cpu->cr4;
        break;
    case 8:
        if (cpu->mode != MODE64)
            raise_ud(cpu);
        v = cpu->cr8;
        break;
    default:
        raise_ud(cpu);
    }
    need_cpl0(cpu);
    cpu->regs[i->rm] = cpu->mode == MODE64 ? v : (u32)v;
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_mov_Cd_Rd(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    u64 v = cpu->mode == MODE64 ? cpu->regs[i->rm] : (u32)cpu->regs[i->rm];
    if (i->reg != 0 && i->reg != 2 && i->reg != 3 && i->reg != 4 && !(i->reg == 8 && cpu->mode == MODE64))
        raise_ud(cpu);
    need_cpl0(cpu);
    if (i->reg == 2) {
        cpu->cr2 = v;
        RETIRE(cpu, i, insn_next_ip(i));
        return;
    }
    cpu->exit.qualification = i->reg | (u64)i->rm << 8;
    cpu->exit.value = v;
    cpu->exit.reg = i->rm;
    vm_exit(cpu, EXIT_REASON_CR_ACCESS);
}

void op_clts(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    cpu->cr0 &= ~(u64)CR0_TS;
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_lmsw(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    u64 v = (i->flags & IF_MEM) ? ld16(cpu, i, i->seg, insn_ea(cpu, i)) : cpu->regs[i->rm];
    cpu->exit.qualification = 3u << 4;
    cpu->exit.value = v & 0xf;
    vm_exit(cpu, EXIT_REASON_CR_ACCESS);
}

void op_smsw(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (i->flags & IF_MEM)
        st16(cpu, i, i->seg, insn_ea(cpu, i), (u16)cpu->cr0);
    else
        set_reg(cpu, i->rm, i->osz, cpu->cr0);
    NEXT(cpu, i);
}

/* ---- debug registers
 * -------------------------------------------------------------------------------------------------- */

#define DR6_FIXED 0xffff0ff0u
#define DR6_BD    0x2000u
#define DR7_GD    0x2000u
#define DR7_FIXED 0x400u

static unsigned dr_number(const sim_vcpu *cpu, unsigned n) {
    return n == 4 || n == 5 ? (cpu->cr4 & CR4_DE ? 8 : n + 2) : n;
}

u64 get_dr(sim_vcpu *cpu, unsigned n) { return cpu->dr[dr_number(cpu, n)]; }

bool set_dr(sim_vcpu *cpu, unsigned n, u64 value) {
    n = dr_number(cpu, n);
    if (n >= 6 && value >> 32)
        return false;
    if (n == 6)
        value = (value & 0xe00f) | DR6_FIXED;
    if (n == 7)
        value = (value & 0xffff2bff) | DR7_FIXED;
    cpu->dr[n] = value;
    tlb_breakpoints_changed(cpu);
    update_step(cpu);
    cpu_mode_changed(cpu);
    return true;
}

static void dr_access(sim_vcpu *cpu, const struct insn *i, bool read) {
    BEGIN(cpu, i);
    if (i->reg > 7 || dr_number(cpu, i->reg) > 7)
        raise_ud(cpu);
    need_cpl0(cpu);
    if (cpu->dr[7] & DR7_GD) {
        cpu->dr[6] |= DR6_BD;
        cpu->dr[7] &= ~(u64)DR7_GD;
        raise_fault(cpu, EXC_DB, 0);
    }
    cpu->exit.qualification = i->reg | (read ? 0x10u : 0) | (u64)i->rm << 8;
    cpu->exit.reg = i->rm;
    cpu->exit.value = cpu->mode == MODE64 ? cpu->regs[i->rm] : (u32)cpu->regs[i->rm];
    vm_exit(cpu, EXIT_REASON_DR_ACCESS);
}
void op_mov_Rd_Dd(sim_vcpu *cpu, const struct insn *i) { dr_access(cpu, i, true); }
void op_mov_Dd_Rd(sim_vcpu *cpu, const struct insn *i) { dr_access(cpu, i, false); }

/* ---- descriptor table registers
 * ------------------------------------------------------------------------------------------ */

static void load_dtr(sim_vcpu *cpu, const struct insn *i, struct dtr *r) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    u64 ea = insn_ea(cpu, i), wrap = i->asz == W16 ? 0xffff : i->asz == W32 ? 0xffffffff : ~(u64)0;
    u16 limit = ld16(cpu, i, i->seg, ea);
    u64 base;
    if (cpu->mode == MODE64) {
        base = ld64(cpu, i, i->seg, ea + 2);
        if (!canonical(base))
            raise_gp0(cpu);
    } else {
        base = ld32(cpu, i, i->seg, (ea + 2) & wrap);
        if (i->osz == W16)
            base &= 0xffffff;
    }
    r->limit = limit;
    r->base = base;
    RETIRE(cpu, i, insn_next_ip(i));
}
void op_lgdt(sim_vcpu *cpu, const struct insn *i) { load_dtr(cpu, i, &cpu->gdt); }
void op_lidt(sim_vcpu *cpu, const struct insn *i) { load_dtr(cpu, i, &cpu->idt); }

static void store_dtr(sim_vcpu *cpu, const struct insn *i, const struct dtr *r) {
    BEGIN(cpu, i);
    u64 ea = insn_ea(cpu, i), wrap = i->asz == W16 ? 0xffff : i->asz == W32 ? 0xffffffff : ~(u64)0;
    unsigned size = cpu->mode == MODE64 ? 8 : 4;
    mem_probe(cpu, i->seg, (ea + 2) & wrap, size, true);
    st16(cpu, i, i->seg, ea, (u16)r->limit);
    if (size == 8)
        st64(cpu, i, i->seg, ea + 2, r->base);
    else
        st32(cpu, i, i->seg, (ea + 2) & wrap, i->osz == W16 ? (u32)r->base & 0xffffff : (u32)r->base);
    NEXT(cpu, i);
}
void op_sgdt(sim_vcpu *cpu, const struct insn *i) { store_dtr(cpu, i, &cpu->gdt); }
void op_sidt(sim_vcpu *cpu, const struct insn *i) { store_dtr(cpu, i, &cpu->idt); }

/* ---- not there
 * -------------------------------------------------------------------------------------------------------------- */

void op_ud(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    raise_ud(cpu);
}
void op_nm(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    raise_fault(cpu, EXC_NM, 0);
}
void op_gp0(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    raise_gp0(cpu);
}
/* Not announced by CPUID, or only valid in modes this processor does not have. */
void op_rdtscp(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }
void op_rsm(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }
void op_swapgs(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }
void op_monitor(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }
void op_mwait(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }
void op_xgetbv(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }
void op_xsetbv(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }

/* x87 escapes and WAIT.  There is no FPU: #NM when CR0 says so (an emulator may be installed), else an escape is #UD.
 */
void op_fpu(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (i->opcode == 0x9b) {
        if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
            raise_fault(cpu, EXC_NM, 0);
        RETIRE(cpu, i, insn_next_ip(i));
        return;
    }
    if (cpu->cr0 & (CR0_EM | CR0_TS))
        raise_fault(cpu, EXC_NM, 0);
    raise_ud(cpu);
}
