/* CPUID: what the simulated processor can do, and the leaves user space chose from that with KVM_SET_CPUID2.
 *
 * Only what works is announced.  Not announced, because not modelled: VME (virtual-8086 extensions),
 * performance counters, MONITOR/MWAIT, thermal control.
 */
#include <string.h>
#include "system.h"

/* Leaf 1 EDX */
#define ID_FPU     (1u << 0)
#define ID_DE      (1u << 2)
#define ID_PSE     (1u << 3)
#define ID_TSC     (1u << 4)
#define ID_MSR     (1u << 5)
#define ID_PAE     (1u << 6)
#define ID_MCE     (1u << 7)
#define ID_CX8     (1u << 8)
#define ID_APIC    (1u << 9)
#define ID_SEP     (1u << 11)
#define ID_MTRR    (1u << 12)
#define ID_PGE     (1u << 13)
#define ID_MCA     (1u << 14)
#define ID_CMOV    (1u << 15)
#define ID_PAT     (1u << 16)
#define ID_PSE36   (1u << 17)
#define ID_CLFSH   (1u << 19)
#define ID_MMX     (1u << 23)
#define ID_FXSR    (1u << 24)
#define ID_SSE     (1u << 25)
#define ID_SSE2    (1u << 26)
#define ID_OSXSAVE (1u << 27) /* leaf 1 ECX: CR4.OSXSAVE */
#define MODEL_EDX                                                                                                      \
    (ID_FPU | ID_DE | ID_PSE | ID_TSC | ID_MSR | ID_PAE | ID_MCE | ID_CX8 | ID_APIC | ID_SEP | ID_MTRR | ID_PGE |      \
     ID_MCA | ID_CMOV | ID_PAT | ID_PSE36 | ID_MMX | ID_FXSR | ID_SSE | ID_SSE2)
#define ID_X2APIC       (1u << 21)
#define ID_TSC_DEADLINE (1u << 24) /* leaf 1 ECX; served by a local APIC in user space, as is x2APIC */
#define ID_HYPERVISOR   (1u << 31)
#define ID_TSC_ADJUST   (1u << 1)  /* leaf 7 EBX */
#define ID_INVTSC       (1u << 8)  /* leaf 80000007h EDX */
#define SIGNATURE       0x00000663 /* family 6 model 6 stepping 3, as QEMU's qemu32 */
/* Leaf 80000001h EDX; ECX bit 0: LAHF and SAHF in 64-bit code */
#define ID_SYSCALL   (1u << 11)
#define ID_NX        (1u << 20)
#define ID_PDPE1GB   (1u << 26)
#define ID_RDTSCP    (1u << 27)
#define ID_LM        (1u << 29)
#define ID_LAHF64    (1u << 0)
#define EXTENDED_EDX (ID_SYSCALL | ID_NX | ID_PDPE1GB | ID_RDTSCP | ID_LM)
/* Leaf 7 EBX, ECX */
#define ID_FSGSBASE (1u << 0)
#define ID_SMEP     (1u << 7)
#define ID_SMAP     (1u << 20)
#define ID_UMIP     (1u << 2)
#define LINEAR_BITS 48

static const char brand[48] = "qom simulated i686 processor";

static u32 text(const char *s) {
    u32 v;
    memcpy(&v, s, 4);
    return v;
}

unsigned cpuid_supported(struct kvm_cpuid_entry2 *out, unsigned max) {
    const struct kvm_cpuid_entry2 all[] = {
        {.function = 0, .eax = 7, .ebx = text("Genu"), .edx = text("ineI"), .ecx = text("ntel")},
        {.function = 1, .eax = SIGNATURE, .ecx = ID_X2APIC | ID_TSC_DEADLINE | ID_HYPERVISOR, .edx = MODEL_EDX},
        {.function = 2, .eax = 1},
        {.function = 3},
        {.function = 4, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX},
        {.function = 5},
        {.function = 6},
        {.function = 7,
         .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
         .ebx = ID_FSGSBASE | ID_TSC_ADJUST | ID_SMEP | ID_SMAP,
         .ecx = ID_UMIP},
        {.function = 0x80000000, .eax = 0x80000008},
        {.function = 0x80000001, .ecx = ID_LAHF64, .edx = EXTENDED_EDX},
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
        {.function = 0x80000007, .edx = ID_INVTSC},
        {.function = 0x80000008, .eax = PHYS_BITS | LINEAR_BITS << 8},
    };
    unsigned n = sizeof all / sizeof all[0];
    if (max >= n)
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
        out[3] &= ~ID_APIC; /* the APIC is switched off */
    if (e->function == 1)
        out[2] = (out[2] & ~ID_OSXSAVE) | (cpu->cr4 & CR4_OSXSAVE ? ID_OSXSAVE : 0);
    if (e->function == 13 && e->index <= 1 && out[0])
        out[1] = xsave_size(cpu->xcr0); /* an area for what is enabled; the compacted form is no other */
}

enum { REG_EAX, REG_EBX, REG_ECX, REG_EDX };

static bool is_amd(sim_vcpu *cpu) {
    const struct kvm_cpuid_entry2 *e = find(cpu, 0, 0);
    return e && e->ebx == text("Auth") && e->edx == text("enti") && e->ecx == text("cAMD");
}

void cpuid_changed(sim_vcpu *cpu) {
    static const struct {
        u32 leaf, sub;
        u8 reg, bit;
    } place[FEAT_COUNT] = {
#define F(name, leaf, sub, reg, bit) [FEAT_##name] = {leaf, sub, REG_##reg, bit},
        FEATURES(F)
#undef F
    };
    u64 features[2] = {1u << FEAT_NONE};
    struct kvm_cpuid_entry2 model[64];
    unsigned count = cpuid_supported(model, 64);
    for (unsigned n = 1; n < FEAT_COUNT; n++) {
        const struct kvm_cpuid_entry2 *e = find_in(cpu->cpuid ? cpu->cpuid : model,
                                                   cpu->cpuid ? cpu->cpuid_count : count, place[n].leaf, place[n].sub);
        if (e) {
            u32 reg[4] = {e->eax, e->ebx, e->ecx, e->edx};
            features[n / 64] |= (u64)(reg[place[n].reg] >> place[n].bit & 1) << (n % 64);
        }
    }
    if (memcmp(features, cpu->features, sizeof features) != 0)
        code_flush(cpu);
    memcpy(cpu->features, features, sizeof features);
    sys_state(cpu)->amd = is_amd(cpu);
}
