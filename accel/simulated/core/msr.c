/* Model-specific registers: RDMSR, WRMSR, KVM_GET_MSRS, KVM_SET_MSRS.
 *
 * With an effect: TSC, APIC base, SYSENTER, SYSCALL, segment bases, EFER.  Stored and checked: MTRRs, PAT, MISC_ENABLE,
 * TSC_AUX, machine-check banks (no error is ever found).  Read as zero: microcode revision, and what the kernels for
 * AMD's K8 look at without asking first.  Anything else does not exist: #GP(0), as on KVM.
 */
#include "system.h"

#define MSR_P5_MC_ADDR      0x000
#define MSR_P5_MC_TYPE      0x001
#define MSR_TSC             0x010
#define MSR_PLATFORM_ID     0x017
#define MSR_APIC_BASE       0x01b
#define MSR_EBL_CR_POWERON  0x02a
#define MSR_FEATURE_CONTROL 0x03a
#define MSR_TSC_ADJUST      0x03b
#define MSR_BIOS_SIGN       0x08b
#define MSR_MTRRCAP         0x0fe
#define MSR_SYSENTER_CS     0x174
#define MSR_SYSENTER_ESP    0x175
#define MSR_SYSENTER_EIP    0x176
#define MSR_MCG_CAP         0x179
#define MSR_MCG_STATUS      0x17a
#define MSR_MISC_ENABLE     0x1a0
#define MSR_DEBUGCTL        0x1d9
#define MSR_MTRR_PHYSBASE0  0x200
#define MSR_MTRR_FIX64K     0x250
#define MSR_MTRR_FIX16K     0x258
#define MSR_MTRR_FIX4K      0x268
#define MSR_PAT             0x277
#define MSR_MTRR_DEF_TYPE   0x2ff
#define MSR_MCG_CTL         0x17b
#define MSR_MC0_CTL         0x400
#define MSR_XSS             0xda0 /* no supervisor components: 0 */
#define MSR_EFER            0xc0000080
#define MSR_STAR            0xc0000081
#define MSR_LSTAR           0xc0000082
#define MSR_CSTAR           0xc0000083
#define MSR_FMASK           0xc0000084
#define MSR_FS_BASE         0xc0000100
#define MSR_GS_BASE         0xc0000101
#define MSR_KERNEL_GS_BASE  0xc0000102
#define MSR_TSC_AUX         0xc0000103
#define MSR_K8_SYSCFG       0xc0010010
#define MSR_K7_HWCR         0xc0010015
#define MSR_K8_INT_PENDING  0xc0010055
#define MSR_K8_TSEG_ADDR    0xc0010112
#define MSR_K8_TSEG_MASK    0xc0010113
#define MSR_VM_HSAVE_PA     0xc0010117
#define MSR_AMD64_PATCH     0xc0010020
#define MSR_AMD64_DE_CFG    0xc0011029
#define MTRR_VARIABLE       8
#define MCG_CTL_P           0x100u

const u32 msr_index_list[] = {
    MSR_TSC,
    MSR_APIC_BASE,
    MSR_TSC_ADJUST,
    MSR_SYSENTER_CS,
    MSR_SYSENTER_ESP,
    MSR_SYSENTER_EIP,
    MSR_MISC_ENABLE,
    MSR_PAT,
    MSR_MCG_STATUS,
    MSR_MCG_CTL,
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_FMASK,
    MSR_KERNEL_GS_BASE,
    MSR_TSC_AUX,
    MSR_MTRR_DEF_TYPE,
    0x200,
    0x201,
    0x202,
    0x203,
    0x204,
    0x205,
    0x206,
    0x207,
    0x208,
    0x209,
    0x20a,
    0x20b,
    0x20c,
    0x20d,
    0x20e,
    0x20f,
    0x250,
    0x258,
    0x259,
    0x268,
    0x269,
    0x26a,
    0x26b,
    0x26c,
    0x26d,
    0x26e,
    0x26f,
};
const unsigned msr_index_count = sizeof msr_index_list / sizeof msr_index_list[0];

/* Where an MTRR is kept, NULL when the number is none. */
static u64 *mtrr(sim_vcpu *cpu, u32 index) {
    if (index >= MSR_MTRR_PHYSBASE0 && index < MSR_MTRR_PHYSBASE0 + 2 * MTRR_VARIABLE)
        return &cpu->mtrr[index - MSR_MTRR_PHYSBASE0];
    u64 *fixed = &cpu->mtrr[2 * MTRR_VARIABLE];
    if (index == MSR_MTRR_FIX64K)
        return &fixed[0];
    if (index == MSR_MTRR_FIX16K || index == MSR_MTRR_FIX16K + 1)
        return &fixed[1 + index - MSR_MTRR_FIX16K];
    if (index >= MSR_MTRR_FIX4K && index < MSR_MTRR_FIX4K + 8)
        return &fixed[3 + index - MSR_MTRR_FIX4K];
    return NULL;
}

/* A machine-check bank's register: CTL, STATUS, ADDR, MISC of each in turn; NULL when the number is none. */
static u64 *mc_bank(sim_vcpu *cpu, u32 index) {
    return index - MSR_MC0_CTL < 4 * MC_BANKS ? &sys_state(cpu)->mc[index - MSR_MC0_CTL] : NULL;
}
static bool mc_value_ok(sim_vcpu *cpu, u32 index, u64 v, bool host) {
    if ((index & 3) ==
        0) /* CTL: on Intel's processors all or nothing is defined, on AMD's each bit switches an error */
        return !v || !~v || sys_state(cpu)->amd;
    return host || (index & 3) != 1 || !v;
}

/* Plain 64-bit registers that hold an address. */
static u64 *address_msr(sim_vcpu *cpu, u32 index) {
    switch (index) {
    case MSR_SYSENTER_ESP:
        return &cpu->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &cpu->sysenter_eip;
    case MSR_LSTAR:
        return &cpu->lstar;
    case MSR_CSTAR:
        return &cpu->cstar;
    case MSR_FS_BASE:
        return &cpu->seg[FS].base;
    case MSR_GS_BASE:
        return &cpu->seg[GS].base;
    case MSR_KERNEL_GS_BASE:
        return &cpu->kernel_gs_base;
    default:
        return NULL;
    }
}
/* These came with long mode. */
static bool long_mode_msr(u32 index) {
    return (index >= MSR_LSTAR && index <= MSR_FMASK) || (index >= MSR_FS_BASE && index <= MSR_KERNEL_GS_BASE);
}

/* Read as zero, whatever is written. */
static bool k8_msr(u32 index) {
    switch (index) {
    case MSR_K8_SYSCFG:
    case MSR_K7_HWCR:
    case MSR_K8_INT_PENDING:
    case MSR_K8_TSEG_ADDR:
    case MSR_K8_TSEG_MASK:
    case MSR_VM_HSAVE_PA:
    case MSR_AMD64_PATCH:
    case MSR_AMD64_DE_CFG:
        return true;
    default:
        return false;
    }
}

static bool mtrr_type_ok(u64 t) { return t < 8 && ((1u << t) & 0x73); } /* 0 1 4 5 6 */
static bool pat_type_ok(u64 t) { return t < 8 && ((1u << t) & 0xf3); }  /* also 7 */

static bool mtrr_value_ok(u32 index, u64 v) {
    if (index == MSR_MTRR_DEF_TYPE)
        return !(v & ~(u64)0xcff) && mtrr_type_ok(v & 0xff);
    if (index >= MSR_MTRR_FIX64K) {
        for (unsigned n = 0; n < 8; n++)
            if (!mtrr_type_ok((v >> (8 * n)) & 0xff))
                return false;
        return true;
    }
    u64 reserved = ~PHYS_MASK;
    if (index & 1)
        return !(v & (reserved | 0x7ff));
    return !(v & (reserved | 0xf00)) && mtrr_type_ok(v & 0xff);
}

int msr_read(sim_vcpu *cpu, u32 index, u64 *value) {
    const u64 *p = mtrr(cpu, index);
    if (long_mode_msr(index) && !has_feature(cpu, FEAT_LM))
        return -1;
    if (!p)
        p = mc_bank(cpu, index);
    if (!p)
        p = address_msr(cpu, index);
    if (p) {
        *value = *p;
        return 0;
    }
    if (sys_state(cpu)->amd && k8_msr(index)) {
        *value = 0;
        return 0;
    }
    switch (index) {
    case MSR_TSC:
        *value = guest_tsc(cpu);
        return 0;
    case MSR_APIC_BASE:
        *value = cpu->apic_base;
        return 0;
    case MSR_TSC_ADJUST:
        *value = sys_state(cpu)->tsc_adjust;
        return 0;
    case MSR_MTRRCAP:
        *value = 0x500 | MTRR_VARIABLE;
        return 0;
    case MSR_SYSENTER_CS:
        *value = cpu->sysenter_cs;
        return 0;
    case MSR_MISC_ENABLE:
        *value = cpu->misc_enable;
        return 0;
    case MSR_PAT:
        *value = cpu->pat;
        return 0;
    case MSR_MTRR_DEF_TYPE:
        *value = cpu->mtrr_def_type;
        return 0;
    case MSR_XSS:
        *value = 0;
        return has_feature(cpu, FEAT_XSAVES) ? 0 : -1;
    case MSR_EFER:
        *value = cpu->efer;
        return 0;
    case MSR_STAR:
        *value = cpu->star;
        return has_feature(cpu, FEAT_SYSCALL) ? 0 : -1;
    case MSR_FMASK:
        *value = cpu->fmask;
        return 0;
    case MSR_TSC_AUX:
        *value = cpu->tsc_aux;
        return has_feature(cpu, FEAT_RDTSCP) || has_feature(cpu, FEAT_RDPID) ? 0 : -1;
    case MSR_MCG_CAP:
        *value = MCG_CTL_P | MC_BANKS;
        return 0;
    case MSR_MCG_STATUS:
        *value = sys_state(cpu)->mcg_status;
        return 0;
    case MSR_MCG_CTL:
        *value = sys_state(cpu)->mcg_ctl;
        return 0;
    case MSR_BIOS_SIGN:
        *value = sys_state(cpu)->bios_sign;
        return 0;
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
    case MSR_PLATFORM_ID:
    case MSR_EBL_CR_POWERON:
    case MSR_DEBUGCTL:
    case MSR_FEATURE_CONTROL:
        *value = 0;
        return 0;
    default:
        return -1;
    }
}

/* IA32_APIC_BASE: reserved bits, and the ways between disabled, xAPIC and x2APIC that are open (SDM volume 3, 11.12.5:
 * x2APIC is entered from xAPIC and left only by disabling). */
bool apic_base_ok(sim_vcpu *cpu, u64 value, bool host) {
    if (value & (~PHYS_MASK | 0x2ff | (has_feature(cpu, FEAT_X2APIC) ? 0 : APIC_X2)))
        return false;
    u64 from = cpu->apic_base & (APIC_ON | APIC_X2), to = value & (APIC_ON | APIC_X2);
    if (to == APIC_X2)
        return false;
    if (host || from == to)
        return true;
    return from == (APIC_ON | APIC_X2) ? !to : from || to == APIC_ON;
}

int msr_write(sim_vcpu *cpu, u32 index, u64 value, bool host) {
    u64 *p = mtrr(cpu, index);
    if (p) {
        if (!mtrr_value_ok(index, value))
            return -1;
        *p = value;
        return 0;
    }
    if (long_mode_msr(index) && !has_feature(cpu, FEAT_LM))
        return -1;
    p = mc_bank(cpu, index);
    if (p) {
        if (!mc_value_ok(cpu, index, value, host))
            return -1;
        *p = value;
        return 0;
    }
    p = address_msr(cpu, index);
    if (p) {
        if (!canonical(value))
            return -1;
        *p = value;
        if (index == MSR_FS_BASE || index == MSR_GS_BASE)
            seg_update(cpu, &cpu->seg[index == MSR_FS_BASE ? FS : GS]);
        return 0;
    }
    if (sys_state(cpu)->amd && k8_msr(index))
        return 0;
    switch (index) {
    case MSR_XSS:
        return has_feature(cpu, FEAT_XSAVES) && !value ? 0 : -1;
    case MSR_TSC:
        if (host)
            tsc_write_host(cpu, value);
        else
            tsc_write_guest(cpu, value);
        return 0;
    case MSR_TSC_ADJUST:
        tsc_adjust_write(cpu, value, host);
        return 0;
    case MSR_APIC_BASE:
        if (!apic_base_ok(cpu, value, host))
            return -1;
        cpu->apic_base = value;
        return 0;
    case MSR_SYSENTER_CS:
        cpu->sysenter_cs = (u32)value;
        return 0;
    case MSR_MISC_ENABLE:
        cpu->misc_enable = value;
        return 0;
    case MSR_PAT:
        for (unsigned n = 0; n < 8; n++)
            if (!pat_type_ok((value >> (8 * n)) & 0xff))
                return -1;
        cpu->pat = value;
        return 0;
    case MSR_MTRR_DEF_TYPE:
        if (!mtrr_value_ok(index, value))
            return -1;
        cpu->mtrr_def_type = value;
        return 0;
    case MSR_EFER:
        if (!set_efer(cpu, value))
            return -1;
        cpu_mode_changed(cpu);
        return 0;
    case MSR_STAR:
        if (!has_feature(cpu, FEAT_SYSCALL))
            return -1;
        cpu->star = value;
        return 0;
    case MSR_FMASK:
        if (value >> 32)
            return -1;
        cpu->fmask = value;
        return 0;
    case MSR_TSC_AUX:
        if (value >> 32 || !(has_feature(cpu, FEAT_RDTSCP) || has_feature(cpu, FEAT_RDPID)))
            return -1;
        cpu->tsc_aux = value;
        return 0;
    case MSR_MCG_CTL:
        if (value && ~value)
            return -1;
        sys_state(cpu)->mcg_ctl = value;
        return 0;
    case MSR_MCG_STATUS:
        if (!host && value)
            return -1;
        sys_state(cpu)->mcg_status = value;
        return 0;
    case MSR_BIOS_SIGN: /* the guest's write of 0 before CPUID asks for the revision */
        if (host)
            sys_state(cpu)->bios_sign = value;
        return 0;
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
    case MSR_EBL_CR_POWERON:
    case MSR_DEBUGCTL:
        return value ? -1 : 0;
    default:
        return -1;
    }
}
