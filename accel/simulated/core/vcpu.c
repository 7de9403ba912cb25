/* The vCPU handle: creation, and every ioctl on it but what KVM_RUN does inside (entry.c). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "system.h"

#define MAX_CPUID_ENTRIES 256
#define MAX_MSR_ENTRIES   256

/* ---- creation -------------------------------------------------------------------------------------------------------
 */

static void vcpu_free(sim_vcpu *cpu) {
    if (!cpu)
        return;
    if (cpu->run)
        munmap(cpu->run, RUN_SIZE);
    code_cache_free(cpu->cache);
    pthread_mutex_destroy(&cpu->guest_lock);
    free(cpu->cpuid);
    free(cpu->system_private);
    free(cpu);
}

sim_vcpu *sim_create_vcpu(sim_vm *vm, unsigned id, int *error) {
    if (id >= MAX_VCPU_ID) {
        *error = EINVAL;
        return NULL;
    }
    sim_vcpu *cpu = aligned_alloc(64, (sizeof *cpu + 63) & ~(size_t)63);
    if (!cpu) {
        *error = ENOMEM;
        return NULL;
    }
    memset(cpu, 0, sizeof *cpu);
    pthread_mutex_init(&cpu->guest_lock, NULL);
    void *run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cpu->run = run == MAP_FAILED ? NULL : run;
    cpu->cache = code_cache_new();
    cpu->system_private = calloc(1, sizeof(struct system_state));
    if (!cpu->run || !cpu->cache || !cpu->system_private) {
        vcpu_free(cpu);
        *error = ENOMEM;
        return NULL;
    }
    cpu->vm = vm;
    cpu->id = id;
    cpu->pio_data = (u8 *)cpu->run + PIO_OFFSET;
    cpu->mp_state = KVM_MP_STATE_RUNNABLE;
    cpuid_changed(cpu);
    cpu_reset(cpu);
    cpu->run->apic_base = cpu->apic_base;

    unsigned at = MAX_VCPUS;
    *error = 0;
    pthread_mutex_lock(&vm->lock);
    pthread_mutex_lock(&vm->code_lock);
    for (unsigned n = MAX_VCPUS; n-- > 0;) {
        if (!vm->vcpus[n])
            at = n;
        else if (vm->vcpus[n]->id == id)
            *error = EEXIST;
    }
    if (!*error && at == MAX_VCPUS)
        *error = EINVAL;
    if (!*error && vm->seeded)
        random_seed(&cpu->random, vm->seed, id);
    if (!*error) {
        tsc_init(cpu);
        vm->vcpus[at] = cpu;
        vm->nvcpus++;
        /* another vCPU may hold direct write rights to pages this one is going to decode from: they learn by messages
         */
    }
    pthread_mutex_unlock(&vm->code_lock);
    pthread_mutex_unlock(&vm->lock);
    if (*error) {
        vcpu_free(cpu);
        return NULL;
    }
    return cpu;
}

void sim_vcpu_close(sim_vcpu *cpu) {
    sim_vm *vm = cpu->vm;
    pthread_mutex_lock(&vm->lock);
    pthread_mutex_lock(&vm->code_lock);
    for (unsigned n = 0; n < MAX_VCPUS; n++)
        if (vm->vcpus[n] == cpu) {
            vm->vcpus[n] = NULL;
            vm->nvcpus--;
        }
    pthread_mutex_unlock(&vm->code_lock);
    pthread_mutex_unlock(&vm->lock);
    vcpu_free(cpu);
}

struct kvm_run *sim_vcpu_run_page(sim_vcpu *cpu) {
    return cpu->run;
}
void sim_vcpu_kick(sim_vcpu *cpu) { post_event(cpu, EV_KICK); }
uint64_t sim_vcpu_instructions(sim_vcpu *cpu) { return __atomic_load_n(&cpu->icount, __ATOMIC_RELAXED); }

/* ---- registers ------------------------------------------------------------------------------------------------------
 */

static long get_regs(sim_vcpu *cpu, struct kvm_regs *r) {
    const u64 *g = cpu->regs;
    *r = (struct kvm_regs){
        .rax = g[RAX],
        .rbx = g[RBX],
        .rcx = g[RCX],
        .rdx = g[RDX],
        .rsi = g[RSI],
        .rdi = g[RDI],
        .rsp = g[RSP],
        .rbp = g[RBP],
        .r8 = g[R8],
        .r9 = g[R9],
        .r10 = g[R10],
        .r11 = g[R11],
        .r12 = g[R12],
        .r13 = g[R13],
        .r14 = g[R14],
        .r15 = g[R15],
        .rip = cpu->rip,
        .rflags = cpu_eflags(cpu),
    };
    return 0;
}

/* CPL is SS.DPL as on VMX, but for the modes that have no choice. */
static void derive_cpl(sim_vcpu *cpu) {
    if (!(cpu->cr0 & CR0_PE))
        cpu->cpl = 0;
    else if (cpu->eflags & FL_VM)
        cpu->cpl = 3;
    else
        cpu->cpl = (u8)seg_dpl(&cpu->seg[SS]);
}

static long set_regs(sim_vcpu *cpu, const struct kvm_regs *r) {
    u64 *g = cpu->regs;
    g[RAX] = r->rax, g[RBX] = r->rbx, g[RCX] = r->rcx, g[RDX] = r->rdx;
    g[RSI] = r->rsi, g[RDI] = r->rdi, g[RSP] = r->rsp, g[RBP] = r->rbp;
    g[R8] = r->r8, g[R9] = r->r9, g[R10] = r->r10, g[R11] = r->r11;
    g[R12] = r->r12, g[R13] = r->r13, g[R14] = r->r14, g[R15] = r->r15;
    cpu->rip = r->rip;
    cpu_set_eflags(cpu, (u32)r->rflags,
                   FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP |
                       FL_ID);
    derive_cpl(cpu);
    cpu_mode_changed(cpu);
    cpu->fault.pending = 0; /* as KVM: an exception waiting is forgotten */
    sys_state(cpu)->task.pending = false;
    cpu->ev.delivering = 0;
    update_step(cpu);
    return 0;
}

static void export_segment(const struct seg *s, struct kvm_segment *k) {
    memset(k, 0, sizeof *k);
    k->base = s->base;
    k->limit = s->limit;
    k->selector = s->selector;
    k->type = s->attr & SA_TYPE;
    k->s = (s->attr & SA_S) != 0;
    k->dpl = (s->attr & SA_DPL) >> 5;
    k->present = (s->attr & SA_P) != 0 && !(s->attr & SA_UNUSABLE);
    k->avl = (s->attr & SA_AVL) != 0;
    k->l = (s->attr & SA_L) != 0;
    k->db = (s->attr & SA_DB) != 0;
    k->g = (s->attr & SA_G) != 0;
    k->unusable = (s->attr & SA_UNUSABLE) != 0;
}

static void import_segment(struct seg *s, const struct kvm_segment *k) {
    s->base = k->base;
    s->limit = k->limit;
    s->selector = k->selector;
    s->attr = (k->type & 0xfu) | (k->s ? SA_S : 0) | (k->dpl & 3u) << 5 | (k->present ? SA_P : 0) |
              (k->avl ? SA_AVL : 0) | (k->l ? SA_L : 0) | (k->db ? SA_DB : 0) | (k->g ? SA_G : 0) |
              (k->unusable || !k->present ? SA_UNUSABLE : 0);
    s->rmax = s->wmax = 0;
}

static long get_sregs(sim_vcpu *cpu, struct kvm_sregs *r) {
    memset(r, 0, sizeof *r);
    export_segment(&cpu->seg[CS], &r->cs);
    export_segment(&cpu->seg[DS], &r->ds);
    export_segment(&cpu->seg[ES], &r->es);
    export_segment(&cpu->seg[FS], &r->fs);
    export_segment(&cpu->seg[GS], &r->gs);
    export_segment(&cpu->seg[SS], &r->ss);
    export_segment(&cpu->seg[TR], &r->tr);
    export_segment(&cpu->seg[LDTR], &r->ldt);
    r->gdt.base = cpu->gdt.base;
    r->gdt.limit = (u16)cpu->gdt.limit;
    r->idt.base = cpu->idt.base;
    r->idt.limit = (u16)cpu->idt.limit;
    r->cr0 = cpu->cr0;
    r->cr2 = cpu->cr2;
    r->cr3 = cpu->cr3;
    r->cr4 = cpu->cr4;
    r->cr8 = cpu->cr8;
    r->efer = cpu->efer;
    r->apic_base = cpu->apic_base;
    if (cpu->ev.irq_pending)
        r->interrupt_bitmap[cpu->ev.irq_vector / 64] |= (u64)1 << (cpu->ev.irq_vector % 64);
    return 0;
}

static long set_sregs(sim_vcpu *cpu, const struct kvm_sregs *r) {
    const u64 cr0_bits = 0xe005003f;
    if (r->cr0 >> 32 || ((r->cr0 & CR0_PG) && !(r->cr0 & CR0_PE)) || ((r->cr0 & CR0_NW) && !(r->cr0 & CR0_CD)))
        return -EINVAL;
    if (r->cr4 & ~cr4_allowed(cpu))
        return -EINVAL;
    if ((r->efer & EFER_LME) && (r->cr0 & CR0_PG)) {
        if (!(r->cr4 & CR4_PAE) || !(r->efer & EFER_LMA) || r->cr3 >> PHYS_BITS)
            return -EINVAL;
    } else if ((r->efer & EFER_LMA) || r->cs.l)
        return -EINVAL;
    if (!apic_base_ok(cpu, r->apic_base, true))
        return -EINVAL;
    if (!efer_allowed(cpu, r->efer))
        return -EINVAL;
    import_segment(&cpu->seg[CS], &r->cs);
    import_segment(&cpu->seg[DS], &r->ds);
    import_segment(&cpu->seg[ES], &r->es);
    import_segment(&cpu->seg[FS], &r->fs);
    import_segment(&cpu->seg[GS], &r->gs);
    import_segment(&cpu->seg[SS], &r->ss);
    import_segment(&cpu->seg[TR], &r->tr);
    import_segment(&cpu->seg[LDTR], &r->ldt);
    cpu->gdt.base = r->gdt.base;
    cpu->gdt.limit = r->gdt.limit;
    cpu->idt.base = r->idt.base;
    cpu->idt.limit = r->idt.limit;
    cpu->cr0 = (r->cr0 & cr0_bits) | CR0_ET;
    cpu->cr2 = r->cr2;
    cpu->cr3 = r->cr3;
    cpu->cr4 = r->cr4;
    cpu->cr8 = r->cr8 & 0xf;
    cpu->run->cr8 = cpu->cr8;
    cpu->efer = r->efer;
    cpu->apic_base = r->apic_base;
    if ((cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE) && !long_mode(cpu)) {
        pthread_mutex_lock(&cpu->guest_lock); /* the slots must hold still */
        load_pdptes(cpu, cpu->cr3);
        pthread_mutex_unlock(&cpu->guest_lock);
    }
    for (unsigned n = 0; n < 256; n++)
        if (r->interrupt_bitmap[n / 64] >> (n % 64) & 1) {
            cpu->ev.irq_pending = 1;
            cpu->ev.irq_vector = (u8)n;
            break;
        }
    derive_cpl(cpu);
    cpu_mode_changed(cpu);
    tlb_flush(cpu, true);
    update_step(cpu);
    return 0;
}

/* ---- x87 and SSE registers ---- */

static long get_fpu(const sim_vcpu *cpu, struct kvm_fpu *f) {
    unsigned top = cpu->fpu.fsw >> FPU_TOP_SHIFT & 7;
    memset(f, 0, sizeof *f);
    for (unsigned n = 0; n < 8; n++)
        memcpy(f->fpr[n], &cpu->fpu.st[(top + n) & 7], 10);
    f->fcw = cpu->fpu.fcw;
    f->fsw = cpu->fpu.fsw;
    f->ftwx = cpu->fpu.ftw;
    f->last_opcode = cpu->fpu.fop;
    f->last_ip = cpu->fpu.fip;
    f->last_dp = cpu->fpu.fdp;
    for (unsigned n = 0; n < 16; n++)
        memcpy(f->xmm[n], &cpu->ymm[n], 16);
    f->mxcsr = cpu->mxcsr;
    return 0;
}

static long set_fpu(sim_vcpu *cpu, const struct kvm_fpu *f) {
    unsigned top = f->fsw >> FPU_TOP_SHIFT & 7;
    if (f->mxcsr & ~MXCSR_BITS)
        return -EINVAL;
    for (unsigned n = 0; n < 8; n++)
        memcpy(&cpu->fpu.st[(top + n) & 7], f->fpr[n], 10);
    cpu->fpu.fcw = f->fcw;
    cpu->fpu.fsw = f->fsw;
    cpu->fpu.ftw = f->ftwx;
    cpu->fpu.fop = f->last_opcode & 0x7ff;
    cpu->fpu.fip = f->last_ip;
    cpu->fpu.fdp = f->last_dp;
    cpu->fpu.fcs = cpu->fpu.fds = 0;
    for (unsigned n = 0; n < 16; n++)
        memcpy(&cpu->ymm[n], f->xmm[n], 16); /* the upper halves are not in this struct */
    cpu->mxcsr = f->mxcsr;
    return 0;
}

static long get_xcrs(const sim_vcpu *cpu, struct kvm_xcrs *x) {
    memset(x, 0, sizeof *x);
    x->nr_xcrs = 1;
    x->xcrs[0].value = cpu->xcr0;
    return 0;
}
static long set_xcrs(sim_vcpu *cpu, const struct kvm_xcrs *x) {
    if (x->flags || x->nr_xcrs > KVM_MAX_XCRS)
        return -EINVAL;
    for (u32 n = 0; n < x->nr_xcrs; n++)
        if (x->xcrs[n].xcr == 0 && !set_xcr0(cpu, x->xcrs[n].value))
            return -EINVAL;
    return 0;
}

/* ---- CPUID, MSRs
 * ------------------------------------------------------------------------------------------------------ */

static long set_cpuid2(sim_vcpu *cpu, const struct kvm_cpuid2 *c) {
    if (c->nent > MAX_CPUID_ENTRIES)
        return -E2BIG;
    struct kvm_cpuid_entry2 *copy = calloc(c->nent ? c->nent : 1, sizeof *copy);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, c->entries, c->nent * sizeof *copy);
    free(cpu->cpuid);
    cpu->cpuid = copy;
    cpu->cpuid_count = c->nent;
    cpuid_changed(cpu);
    return 0;
}

static long get_cpuid2(sim_vcpu *cpu, struct kvm_cpuid2 *c) {
    if (c->nent < cpu->cpuid_count)
        return -E2BIG;
    if (cpu->cpuid_count)
        memcpy(c->entries, cpu->cpuid, cpu->cpuid_count * sizeof *cpu->cpuid);
    c->nent = cpu->cpuid_count;
    return 0;
}

/* How many were served: the first that is not ends it. */
static long get_msrs(sim_vcpu *cpu, struct kvm_msrs *m) {
    u32 n;
    if (m->nmsrs >= MAX_MSR_ENTRIES)
        return -E2BIG;
    for (n = 0; n < m->nmsrs; n++) {
        u64 v;
        if (msr_read(cpu, m->entries[n].index, &v))
            break;
        m->entries[n].data = v;
    }
    return (long)n;
}

static long set_msrs(sim_vcpu *cpu, const struct kvm_msrs *m) {
    u32 n;
    if (m->nmsrs >= MAX_MSR_ENTRIES)
        return -E2BIG;
    for (n = 0; n < m->nmsrs; n++)
        if (msr_write(cpu, m->entries[n].index, m->entries[n].data, true))
            break;
    return (long)n;
}

/* ---- TSC
 * ---------------------------------------------------------------------------------------------------------------- */

/* KVM_HAS/GET/SET_DEVICE_ATTR on a vCPU: the TSC's offset is the one attribute there is. */
static long device_attr(sim_vcpu *cpu, unsigned long request, const struct kvm_device_attr *a) {
    if (a->flags || a->group != KVM_VCPU_TSC_CTRL || a->attr != KVM_VCPU_TSC_OFFSET)
        return -ENXIO;
    if (request == KVM_HAS_DEVICE_ATTR)
        return 0;
    u64 *offset = (u64 *)(uintptr_t)a->addr;
    if (!offset)
        return -EFAULT;
    if (request == KVM_GET_DEVICE_ATTR)
        *offset = cpu->tsc_offset;
    else
        cpu->tsc_offset = *offset;
    return 0;
}

/* ---- events
 * ------------------------------------------------------------------------------------------------------------- */

static long queue_interrupt(sim_vcpu *cpu, const struct kvm_interrupt *in) {
    if (in->irq >= KVM_NR_INTERRUPTS)
        return -EINVAL;
    cpu->ev.irq_vector = (u8)in->irq;
    cpu->ev.irq_pending = 1;
    post_event(cpu, EV_IRQ);
    return 0;
}

static long get_vcpu_events(sim_vcpu *cpu, struct kvm_vcpu_events *e) {
    memset(e, 0, sizeof *e);
    e->exception.injected = cpu->fault.pending;
    e->exception.nr = cpu->fault.pending ? cpu->fault.vector : 0;
    e->exception.has_error_code = cpu->fault.pending && cpu->fault.has_error;
    e->exception.error_code = cpu->fault.pending ? cpu->fault.error : 0;
    e->interrupt.injected = cpu->ev.irq_pending;
    e->interrupt.nr = cpu->ev.irq_vector;
    e->interrupt.shadow = (cpu->shadow & SHADOW_MOVSS ? KVM_X86_SHADOW_INT_MOV_SS : 0) |
                          (cpu->shadow & SHADOW_STI ? KVM_X86_SHADOW_INT_STI : 0);
    e->nmi.pending = cpu->ev.nmi_pending;
    e->nmi.masked = cpu->ev.nmi_masked;
    e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
    return 0;
}

static long set_vcpu_events(sim_vcpu *cpu, const struct kvm_vcpu_events *e) {
    const u32 known = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW |
                      KVM_VCPUEVENT_VALID_SMM;
    if (e->flags & ~known)
        return -EINVAL;
    if (e->exception.injected && (e->exception.nr > 31 || e->exception.nr == EXC_NMI))
        return -EINVAL;
    if ((e->flags & KVM_VCPUEVENT_VALID_SMM) && (e->smi.smm || e->smi.pending))
        return -EINVAL; /* no SMM here */
    if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
        cpu->ev.nmi_pending = e->nmi.pending ? 1 : 0;
    cpu->fault.pending = e->exception.injected != 0;
    cpu->fault.vector = e->exception.nr;
    cpu->fault.has_error = e->exception.has_error_code;
    cpu->fault.error = e->exception.error_code;
    cpu->fault.cr2 = cpu->cr2;
    cpu->ev.irq_pending = e->interrupt.injected != 0;
    cpu->ev.irq_vector = e->interrupt.nr;
    cpu->ev.nmi_masked = e->nmi.masked != 0;
    if (e->flags & KVM_VCPUEVENT_VALID_SHADOW)
        cpu->shadow = (e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? SHADOW_MOVSS : 0) |
                      (e->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? SHADOW_STI : 0);
    update_step(cpu);
    return 0;
}

static long set_mp_state(sim_vcpu *cpu, const struct kvm_mp_state *m) {
    if (m->mp_state != KVM_MP_STATE_RUNNABLE)
        return -EINVAL; /* the others need an APIC in the accelerator */
    cpu->mp_state = m->mp_state;
    return 0;
}

/* ---- debugging
 * ------------------------------------------------------------------------------------------------------------ */

static long get_debugregs(sim_vcpu *cpu, struct kvm_debugregs *d) {
    memset(d, 0, sizeof *d);
    memcpy(d->db, cpu->dr, sizeof d->db);
    d->dr6 = cpu->dr[6];
    d->dr7 = cpu->dr[7];
    return 0;
}

static long set_debugregs(sim_vcpu *cpu, const struct kvm_debugregs *d) {
    if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
        return -EINVAL;
    for (unsigned n = 0; n < 4; n++)
        cpu->dr[n] = d->db[n];
    cpu->dr[6] = d->dr6;
    cpu->dr[7] = d->dr7;
    tlb_breakpoints_changed(cpu);
    update_step(cpu);
    cpu_mode_changed(cpu);
    return 0;
}

static long set_guest_debug(sim_vcpu *cpu, const struct kvm_guest_debug *d) {
    const u32 known = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW_BP |
                      KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP;
    if (d->control & ~known)
        return -EINVAL;
    if (d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
        if (cpu->fault.pending)
            return -EBUSY;
        queue_fault(cpu, d->control & KVM_GUESTDBG_INJECT_DB ? EXC_DB : EXC_BP, 0);
    }
    cpu->guest_debug = d->control & KVM_GUESTDBG_ENABLE ? d->control : 0;
    if (cpu->guest_debug & KVM_GUESTDBG_USE_HW_BP)
        memcpy(cpu->guest_debug_dr, d->arch.debugreg, sizeof cpu->guest_debug_dr);
    else
        memset(cpu->guest_debug_dr, 0, sizeof cpu->guest_debug_dr);
    tlb_breakpoints_changed(cpu);
    update_step(cpu);
    cpu_mode_changed(cpu);
    return 0;
}

/* ---- dispatch
 * ---------------------------------------------------------------------------------------------------------------- */

long sim_vcpu_ioctl(sim_vcpu *cpu, unsigned long request, uintptr_t arg) {
    void *p = (void *)arg;
    switch (request) {
    case KVM_RUN:
        return arg ? -EINVAL : vcpu_run(cpu);
    case KVM_NMI:
        if (cpu->ev.nmi_pending < 2)
            cpu->ev.nmi_pending++;
        post_event(cpu, EV_IRQ);
        return 0;
    case KVM_GET_TSC_KHZ:
        return (long)tsc_khz(cpu);
    case KVM_SET_TSC_KHZ:
        return tsc_set_khz(cpu, arg) ? 0 : -EINVAL;
    default:
        break;
    }
    if (!p) {
        switch (request) {
        case KVM_GET_REGS:
        case KVM_SET_REGS:
        case KVM_GET_SREGS:
        case KVM_SET_SREGS:
        case KVM_GET_FPU:
        case KVM_SET_FPU:
        case KVM_GET_XSAVE:
        case KVM_SET_XSAVE:
        case KVM_GET_XCRS:
        case KVM_SET_XCRS:
        case KVM_SET_CPUID2:
        case KVM_GET_CPUID2:
        case KVM_GET_MSRS:
        case KVM_SET_MSRS:
        case KVM_INTERRUPT:
        case KVM_GET_VCPU_EVENTS:
        case KVM_SET_VCPU_EVENTS:
        case KVM_GET_MP_STATE:
        case KVM_SET_MP_STATE:
        case KVM_GET_DEBUGREGS:
        case KVM_SET_DEBUGREGS:
        case KVM_SET_GUEST_DEBUG:
        case KVM_HAS_DEVICE_ATTR:
        case KVM_GET_DEVICE_ATTR:
        case KVM_SET_DEVICE_ATTR:
            return -EFAULT;
        default:
            return -EINVAL;
        }
    }
    switch (request) {
    case KVM_GET_REGS:
        return get_regs(cpu, p);
    case KVM_SET_REGS:
        return set_regs(cpu, p);
    case KVM_GET_SREGS:
        return get_sregs(cpu, p);
    case KVM_SET_SREGS:
        return set_sregs(cpu, p);
    case KVM_GET_FPU:
        return get_fpu(cpu, p);
    case KVM_SET_FPU:
        return set_fpu(cpu, p);
    case KVM_GET_XSAVE:
        memset(p, 0, sizeof(struct kvm_xsave));
        xsave_export(cpu, p);
        return 0;
    case KVM_SET_XSAVE:
        return xsave_import(cpu, p);
    case KVM_GET_XCRS:
        return get_xcrs(cpu, p);
    case KVM_SET_XCRS:
        return set_xcrs(cpu, p);
    case KVM_SET_CPUID2:
        return set_cpuid2(cpu, p);
    case KVM_GET_CPUID2:
        return get_cpuid2(cpu, p);
    case KVM_GET_MSRS:
        return get_msrs(cpu, p);
    case KVM_SET_MSRS:
        return set_msrs(cpu, p);
    case KVM_INTERRUPT:
        return queue_interrupt(cpu, p);
    case KVM_GET_VCPU_EVENTS:
        return get_vcpu_events(cpu, p);
    case KVM_SET_VCPU_EVENTS:
        return set_vcpu_events(cpu, p);
    case KVM_GET_MP_STATE:
        ((struct kvm_mp_state *)p)->mp_state = cpu->mp_state;
        return 0;
    case KVM_SET_MP_STATE:
        return set_mp_state(cpu, p);
    case KVM_GET_DEBUGREGS:
        return get_debugregs(cpu, p);
    case KVM_SET_DEBUGREGS:
        return set_debugregs(cpu, p);
    case KVM_SET_GUEST_DEBUG:
        return set_guest_debug(cpu, p);
    case KVM_HAS_DEVICE_ATTR:
    case KVM_GET_DEVICE_ATTR:
    case KVM_SET_DEVICE_ATTR:
        return device_attr(cpu, request, p);
    default:
        return -EINVAL;
    }
}
