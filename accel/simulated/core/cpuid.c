/* CPUID: what the simulated processor can do, and the leaves user space chose from that with KVM_SET_CPUID2.
 *
 * Only what is whole is announced.  Not announced, because not modelled: VME (virtual-8086 extensions), performance
 * counters, thermal control, AVX-512, MPX, TSX, SGX, CET, virtualization.
 */
#include <string.h>
#include "system.h"

#define OSXSAVE_FLAG (1u << 27) /* leaf 1 ECX: CR4.OSXSAVE */
#define SIGNATURE    0x00060fb1 /* family 15 model 107 stepping 1, as QEMU's */
#define LINEAR_BITS  48
#define APIC_FLAG    (1u << 9) /* leaf 1 EDX */

static const char brand[48] = "qom simulated x86-64 processor";

static const u8 announced[] = {
    /* the processor of the first hour, paging, system */
    FEAT_DE,
    FEAT_PSE,
    FEAT_TSC,
    FEAT_MSR,
    FEAT_PAE,
    FEAT_MCE,
    FEAT_CX8,
    FEAT_APIC,
    FEAT_SEP,
    FEAT_MTRR,
    FEAT_PGE,
    FEAT_MCA,
    FEAT_CMOV,
    FEAT_PAT,
    FEAT_PSE36,
    FEAT_HYPERVISOR,
    FEAT_SMEP,
    FEAT_SMAP,
    FEAT_UMIP,
    FEAT_MONITOR,
    FEAT_PCID,
    FEAT_INVPCID,
    /* 64-bit */
    FEAT_SYSCALL,
    FEAT_NX,
    FEAT_PDPE1GB,
    FEAT_RDTSCP,
    FEAT_LM,
    FEAT_LAHF64,
    FEAT_FSGSBASE,
    /* time, interrupts: x2APIC and the deadline are the local APIC's in user space */
    FEAT_X2APIC,
    FEAT_TSC_DEADLINE,
    FEAT_TSC_ADJUST,
    FEAT_INVTSC,
    FEAT_ARAT,
    /* general registers */
    FEAT_CX16,
    FEAT_POPCNT,
    FEAT_LZCNT,
    FEAT_BMI1,
    FEAT_BMI2,
    FEAT_MOVBE,
    FEAT_ADX,
    FEAT_RDRAND,
    FEAT_RDSEED,
    FEAT_RDPID,
    FEAT_PREFETCHW,
    FEAT_WBNOINVD,
    FEAT_CLDEMOTE,
    FEAT_ERMS,
    FEAT_FSRM,
    FEAT_CLFSH,
    FEAT_CLFLUSHOPT,
    FEAT_CLWB,
    /* x87, vectors */
    FEAT_FPU,
    FEAT_MMX,
    FEAT_FXSR,
    FEAT_SSE,
    FEAT_SSE2,
    FEAT_SSE3,
    FEAT_SSSE3,
    FEAT_SSE41,
    FEAT_SSE42,
    FEAT_XSAVE,
    FEAT_XSAVEOPT,
    FEAT_XSAVEC,
    FEAT_XGETBV1,
    FEAT_XSAVES,
    FEAT_AVX,
    FEAT_FMA,
    FEAT_F16C,
    FEAT_AVX2,
    FEAT_VAES,
    FEAT_VPCLMULQDQ,
    FEAT_AES,
    FEAT_PCLMULQDQ,
    FEAT_SHA,
};

static u32 text(const char *s) {
    u32 v;
    memcpy(&v, s, 4);
    return v;
}

enum { REG_EAX, REG_EBX, REG_ECX, REG_EDX };

static const struct {
    u32 leaf, sub;
    u8 reg, bit;
} place[FEAT_COUNT] = {
#define F(name, leaf, sub, reg, bit) [FEAT_##name] = {leaf, sub, REG_##reg, bit},
    FEATURES(F)
#undef F
};

unsigned cpuid_supported(struct kvm_cpuid_entry2 *out, unsigned max) {
    struct kvm_cpuid_entry2 all[] = {
        {.function = 0, .eax = 0x16, .ebx = text("Auth"), .edx = text("enti"), .ecx = text("cAMD")},
        {.function = 1, .eax = SIGNATURE},
        {.function = 2, .eax = 1},
        {.function = 3},
        {.function = 4, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX},
        {.function = 5, .eax = MONITOR_LINE, .ebx = MONITOR_LINE, .ecx = 3}, /* no C-states beyond C0 */
        {.function = 6},
        {.function = 7, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX},
        {.function = 13,
         .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
         .eax = XCR0_X87 | XCR0_SSE | XCR0_AVX,
         .ebx = XSAVE_SIZE,
         .ecx = XSAVE_SIZE},
        {.function = 13, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = XSAVE_SIZE},
        {.function = 13,
         .index = 2,
         .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
         .eax = XSAVE_SIZE - XSAVE_AVX_AT,
         .ebx = XSAVE_AVX_AT},
        /* TSC and crystal, which is the clock of the local APIC's timer, too: tsc.c, plugins/intc/apic.py */
        {.function = 0x15, .eax = 1, .ebx = 1, .ecx = TSC_KHZ_DEFAULT * 1000},
        {.function = 0x80000000, .eax = 0x80000008},
        {.function = 0x80000001, .eax = SIGNATURE},
        {.function = 0x80000002,
         .eax = text(brand),
         .ebx = text(brand + 4),
         .ecx = text(brand + 8),
         .edx = text(brand + 12)},
        {.function = 0x80000003,
         .eax = text(brand + 16),
         .ebx = text(brand + 20),
         .ecx = text(brand + 24),
         .edx = text(brand + 28)},
        {.function = 0x80000004,
         .eax = text(brand + 32),
         .ebx = text(brand + 36),
         .ecx = text(brand + 40),
         .edx = text(brand + 44)},
        {.function = 0x80000005},
        {.function = 0x80000006},
        {.function = 0x80000007},
        {.function = 0x80000008, .eax = PHYS_BITS | LINEAR_BITS << 8},
    };
    unsigned n = sizeof all / sizeof all[0];
    if (max < n)
        return n;
    for (unsigned k = 0; k < sizeof announced / sizeof announced[0]; k++) {
        unsigned feature = announced[k];
        for (unsigned e = 0; e < n; e++)
            if (all[e].function == place[feature].leaf && all[e].index == place[feature].sub) {
                u32 *reg[4] = {&all[e].eax, &all[e].ebx, &all[e].ecx, &all[e].edx};
                *reg[place[feature].reg] |= 1u << place[feature].bit;
            }
    }
    memcpy(out, all, sizeof all);
    return n;
}

static const struct kvm_cpuid_entry2 *find_in(const struct kvm_cpuid_entry2 *entries, unsigned count, u32 leaf,
                                              u32 sub) {
    for (unsigned n = 0; n < count; n++) {
        const struct kvm_cpuid_entry2 *e = &entries[n];
        if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == sub))
            return e;
    }
    return NULL;
}
static const struct kvm_cpuid_entry2 *find(sim_vcpu *cpu, u32 leaf, u32 sub) {
    return find_in(cpu->cpuid, cpu->cpuid_count, leaf, sub);
}

void cpuid_lookup(sim_vcpu *cpu, u32 leaf, u32 sub, u32 out[4]) {
    const struct kvm_cpuid_entry2 *e = find(cpu, leaf, sub), *top;
    memset(out, 0, 4 * sizeof *out);
    if (!e) {
        /* beyond the last leaf an Intel processor answers as for the highest basic one */
        top = find(cpu, leaf & 0x80000000, 0);
        if (top && leaf <= top->eax)
            return;
        top = find(cpu, 0, 0);
        if (!top || (leaf & 0xff000000) == 0x40000000)
            return;
        e = find(cpu, top->eax, sub);
        if (!e)
            return;
    }
    out[0] = e->eax;
    out[1] = e->ebx;
    out[2] = e->ecx;
    out[3] = e->edx;
    if (e->function == 1 && !(cpu->apic_base & 0x800))
        out[3] &= ~APIC_FLAG; /* the APIC is switched off */
    if (e->function == 1)
        out[2] = (out[2] & ~OSXSAVE_FLAG) | (cpu->cr4 & CR4_OSXSAVE ? OSXSAVE_FLAG : 0);
    if (e->function == 13 && e->index <= 1 && out[0])
        out[1] = xsave_size(cpu->xcr0); /* an area for what is enabled; the compacted form is no other */
}

static bool is_amd(sim_vcpu *cpu) {
    const struct kvm_cpuid_entry2 *e = find(cpu, 0, 0);
    return e && e->ebx == text("Auth") && e->edx == text("enti") && e->ecx == text("cAMD");
}

void cpuid_changed(sim_vcpu *cpu) {
    u64 features[2] = {1u << FEAT_NONE};
    struct kvm_cpuid_entry2 model[64];
    unsigned count = cpuid_supported(model, 64);
    for (unsigned n = 1; n < FEAT_COUNT; n++) {
        const struct kvm_cpuid_entry2 *e = find_in(cpu->cpuid ? cpu->cpuid : model,
                                                   cpu->cpuid ? cpu->cpuid_count : count, place[n].leaf, place[n].sub);
        if (e) {
            u32 reg[4] = {e->eax, e->ebx, e->ecx, e->edx};
            bool bare = (n == FEAT_FCMOV || n == FEAT_FISTTP) && !(features[0] & 1u << FEAT_FPU);
            features[n / 64] |= (u64)(reg[place[n].reg] >> place[n].bit & !bare) << (n % 64);
        }
    }
    if (memcmp(features, cpu->features, sizeof features) != 0)
        code_flush(cpu);
    memcpy(cpu->features, features, sizeof features);
    sys_state(cpu)->amd = is_amd(cpu);
}
