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
        mask |= FL_IOPL;
    if (cpu->cpl <= iopl(cpu))
        mask |= FL_IF; /* in V8086 mode IOPL is 3 here */
    if (i->osz == W16)
        mask &= 0xffff;
    v &= ~FL_RF;
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
    u64 lin = cpu->seg[i->seg].fbase + insn_ea(cpu, i);
    cpu->exit.qualification = cpu->mode == MODE64 ? lin : (u32)lin;
    vm_exit(cpu, EXIT_REASON_INVLPG);
}

enum { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL, INVPCID_ALL_BUT_GLOBAL };

/* The descriptor is 16 bytes: PCID in bits 11:0, the address in the upper half. */
void op_invpcid(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    u64 type = cpu->mode == MODE64 ? cpu->regs[i->reg] : (u32)cpu->regs[i->reg], ea = insn_ea(cpu, i),
        wrap = width_mask(i->asz), pcid = ld64(cpu, i, i->seg, ea), lin = ld64(cpu, i, i->seg, (ea + 8) & wrap);
    if (type > INVPCID_ALL_BUT_GLOBAL || pcid >> 12 || (type == INVPCID_ADDRESS && !canonical(lin)) ||
        (type <= INVPCID_CONTEXT && pcid && !(cpu->cr4 & CR4_PCIDE)))
        raise_gp0(cpu);
    if (type == INVPCID_ADDRESS)
        tlb_flush_page(cpu, lin);
    else
        tlb_flush(cpu, type == INVPCID_ALL);
    RETIRE(cpu, i, insn_next_ip(i));
}
void op_vmcall(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    vm_exit(cpu, EXIT_REASON_VMCALL);
}

static void read_tsc(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if ((cpu->cr4 & CR4_TSD) && cpu->cpl)
        raise_gp0(cpu);
    u64 t = guest_tsc(cpu);
    cpu->regs[RAX] = (u32)t;
    cpu->regs[RDX] = t >> 32;
}
void op_rdtsc(sim_vcpu *cpu, const struct insn *i) {
    read_tsc(cpu, i);
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_rdtscp(sim_vcpu *cpu, const struct insn *i) {
    read_tsc(cpu, i);
    cpu->regs[RCX] = (u32)cpu->tsc_aux;
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_rdpid(sim_vcpu *cpu, const struct insn *i) {
    cpu->regs[i->rm] = (u32)cpu->tsc_aux;
    NEXT(cpu, i);
}

/* ---- FS and GS of 64-bit code --------------------------------------------------------------------------------------
 */

void op_swapgs(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_cpl0(cpu);
    u64 base = cpu->seg[GS].base;
    cpu->seg[GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    seg_update(cpu, &cpu->seg[GS]);
    NEXT(cpu, i);
}

/* RDFSBASE RDGSBASE WRFSBASE WRGSBASE: ModRM.reg 0 to 3. */
static struct seg *segment_base(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (cpu->mode != MODE64 || !(cpu->cr4 & CR4_FSGSBASE))
        raise_ud(cpu);
    return &cpu->seg[i->reg & 1 ? GS : FS];
}
void op_rdsegbase(sim_vcpu *cpu, const struct insn *i) {
    set_reg(cpu, i->rm, i->osz, segment_base(cpu, i)->base);
    NEXT(cpu, i);
}
void op_wrsegbase(sim_vcpu *cpu, const struct insn *i) {
    struct seg *s = segment_base(cpu, i);
    u64 base = get_reg(cpu, i->rm, i->osz);
    if (!canonical(base))
        raise_gp0(cpu);
    s->base = base;
    seg_update(cpu, s);
    NEXT(cpu, i);
}

/* ---- SMAP's flag
 * ------------------------------------------------------------------------------------------------------------ */

static void set_ac(sim_vcpu *cpu, const struct insn *i, u32 ac) {
    BEGIN(cpu, i);
    if (cpu->cpl)
        raise_ud(cpu);
    cpu->eflags = (cpu->eflags & ~FL_AC) | ac;
    cpu->tlb = cpu->tlb_set[access_level(cpu)];
    NEXT(cpu, i);
}
void op_clac(sim_vcpu *cpu, const struct insn *i) { set_ac(cpu, i, 0); }
void op_stac(sim_vcpu *cpu, const struct insn *i) { set_ac(cpu, i, FL_AC); }

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
    bool enter = (v & ~old & CR0_PG) && (cpu->efer & EFER_LME), leave = (old & ~v & CR0_PG) && long_mode(cpu);
    if (enter && (!(cpu->cr4 & CR4_PAE) || (cpu->seg[CS].attr & SA_L)))
        return false;
    if (leave && (cpu->mode == MODE64 || (cpu->cr4 & CR4_PCIDE)))
        return false;
    if ((v & CR0_PG) && (cpu->cr4 & CR4_PAE) && !enter && !long_mode(cpu) && ((v ^ old) & (CR0_PG | CR0_CD | CR0_NW)) &&
        !load_pdptes(cpu, cpu->cr3))
        return false;
    cpu->cr0 = v;
    if (enter)
        cpu->efer |= EFER_LMA;
    if (leave)
        cpu->efer &= ~(u64)EFER_LMA;
    if ((v ^ old) & (CR0_PG | CR0_WP))
        tlb_flush(cpu, true);
    if ((v ^ old) & CR0_PE)
        cpu->cpl = 0;
    cpu_mode_changed(cpu);
    return true;
}

/* The TLB keeps one address space: with PCIDs, too, every load of CR3 drops all that is not global, which bit 63 only
 * allows a processor not to do. */
bool set_cr3(sim_vcpu *cpu, u64 value) {
    if (cpu->cr4 & CR4_PCIDE)
        value &= ~((u64)1 << 63);
    if (long_mode(cpu) && value >> PHYS_BITS)
        return false;
    if (!long_mode(cpu) && (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !load_pdptes(cpu, value))
        return false;
    cpu->cr3 = value;
    tlb_flush(cpu, false);
    return true;
}

u64 cr4_allowed(sim_vcpu *cpu) {
    static const struct {
        u32 bit;
        u8 feature;
    } gated[] = {
        {CR4_DE, FEAT_DE},     {CR4_PSE, FEAT_PSE},           {CR4_PAE, FEAT_PAE},        {CR4_MCE, FEAT_MCE},
        {CR4_PGE, FEAT_PGE},   {CR4_OSFXSR, FEAT_FXSR},       {CR4_OSXMMEXCPT, FEAT_SSE}, {CR4_OSXSAVE, FEAT_XSAVE},
        {CR4_UMIP, FEAT_UMIP}, {CR4_FSGSBASE, FEAT_FSGSBASE}, {CR4_PCIDE, FEAT_PCID},     {CR4_SMEP, FEAT_SMEP},
        {CR4_SMAP, FEAT_SMAP},
    };
    u64 allowed = CR4_TSD | CR4_PCE;
    for (unsigned n = 0; n < sizeof gated / sizeof gated[0]; n++)
        if (has_feature(cpu, gated[n].feature))
            allowed |= gated[n].bit;
    return allowed;
}

bool set_cr4(sim_vcpu *cpu, u64 value) {
    const u64 translation = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP;
    if (value & ~cr4_allowed(cpu))
        return false;
    u64 old = cpu->cr4;
    if (long_mode(cpu) && !(value & CR4_PAE))
        return false;
    if ((value & ~old & CR4_PCIDE) && (!long_mode(cpu) || (cpu->cr3 & 0xfff)))
        return false;
    cpu->cr4 = value;
    if (!long_mode(cpu) && (cpu->cr0 & CR0_PG) && (value & CR4_PAE) &&
        ((value ^ old) & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP)) && !load_pdptes(cpu, cpu->cr3)) {
        cpu->cr4 = old;
        return false;
    }
    if ((value ^ old) & translation)
        tlb_flush(cpu, true);
    cpu_mode_changed(cpu);
    return true;
}

bool efer_allowed(const sim_vcpu *cpu, u64 value) {
    u64 allowed = (has_feature(cpu, FEAT_SYSCALL) ? EFER_SCE : 0) |
                  (has_feature(cpu, FEAT_LM) ? EFER_LME | EFER_LMA : 0) | (has_feature(cpu, FEAT_NX) ? EFER_NXE : 0);
    return !(value & ~allowed);
}

bool set_efer(sim_vcpu *cpu, u64 value) {
    u64 old = cpu->efer;
    if (!efer_allowed(cpu, value))
        return false;
    if (((value ^ old) & EFER_LME) && (cpu->cr0 & CR0_PG))
        return false;
    cpu->efer = (value & ~(u64)EFER_LMA) | (old & EFER_LMA); /* LMA only shows */
    if ((value ^ old) & EFER_NXE)
        tlb_flush(cpu, true);
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
    check_umip(cpu);
    if (i->flags & IF_MEM)
        st16(cpu, i, i->seg, insn_ea(cpu, i), (u16)cpu->cr0);
    else
        set_reg(cpu, i->rm, i->osz, cpu->cr0);
    NEXT(cpu, i);
}

/* ---- debug registers
 * -------------------------------------------------------------------------------------------------- */

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
    check_umip(cpu);
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
/* Only valid in a mode that this processor does not have. */
void op_rsm(sim_vcpu *cpu, const struct insn *i) { op_ud(cpu, i); }

/* SDM volume 2, MONITOR and MWAIT: #UD outside ring 0; ECX holds hints that must be known. */
void op_monitor(sim_vcpu *cpu, const struct insn *i) {
    u64 ea = get_reg(cpu, RAX, i->asz);
    BEGIN(cpu, i);
    if (cpu->cpl)
        raise_ud(cpu);
    if (get32(cpu, RCX))
        raise_gp0(cpu);
    mem_probe(cpu, i->seg, ea, 1, false);
    u64 lin = (cpu->seg[i->seg].fbase + ea) & lin_mask(cpu);
    cpu->exit.gpa = tlb_get(cpu, lin, ACCESS_READ, access_level(cpu))->gpa | (lin & 0xfc0);
    vm_exit(cpu, EXIT_REASON_MONITOR);
}
void op_mwait(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (cpu->cpl)
        raise_ud(cpu);
    if (get32(cpu, RCX) & ~1u) /* bit 0: masked interrupts end the wait, too */
        raise_gp0(cpu);
    vm_exit(cpu, EXIT_REASON_MWAIT);
}

/* x87 escapes where CPUID announces no FPU: #NM when CR0 says so (an emulator may be installed), else #UD. */
void op_fpu(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (cpu->cr0 & (CR0_EM | CR0_TS))
        raise_fault(cpu, EXC_NM, 0);
    raise_ud(cpu);
}
