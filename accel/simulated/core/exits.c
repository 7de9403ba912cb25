/* Exits: the table from exit reason to handler, the handlers, and how what user space did comes back.
 *
 * As in kvm_vmx_exit_handlers: a handler returns 1 when it served the exit and the guest goes on, 0 when user space
 * must act and cpu->run says on what.
 */
#include <string.h>
#include <time.h>
#include "system.h"

/* The instruction that exited is done. */
static void advance(sim_vcpu *cpu) {
    if (cpu->eflags & FL_TF)
        cpu->db_pending |= DR6_BS;
    exit_advance(cpu);
}

static u64 linear_rip(const sim_vcpu *cpu) { return linear_ip(cpu, cpu->rip); }

/* ---- to user space ------------------------------------------------------------------------------------------------
 */

static int internal_error(sim_vcpu *cpu, u32 suberror) {
    struct kvm_run *run = cpu->run;
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    memset(&run->internal, 0, sizeof run->internal);
    run->internal.suberror = suberror;
    if (suberror != KVM_INTERNAL_ERROR_EMULATION) {
        run->internal.ndata = 3;
        run->internal.data[0] = cpu->ev.vector;
        run->internal.data[1] = cpu->exit.reason;
        run->internal.data[2] = cpu->exit.gpa;
        return 0;
    }
    /* the bytes at rip, as far as they are in RAM */
    u64 lin = linear_rip(cpu);
    u8 bytes[15];
    unsigned n = 0;
    for (; n < sizeof bytes; n++) {
        struct walk w;
        const u8 *p;
        if (!page_walk(cpu, lin + n, ACCESS_READ, LEVEL_SYSTEM, &w))
            break;
        p = phys_host(cpu, w.gpa | ((lin + n) & 0xfff));
        if (!p)
            break;
        bytes[n] = *p;
    }
    if (!n)
        return 0; /* no byte of it is in RAM: there is nothing more to say */
    run->emulation_failure.ndata = 4;
    run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
    run->emulation_failure.insn_size = (u8)n;
    memset(run->emulation_failure.insn_bytes, 0x90, sizeof run->emulation_failure.insn_bytes);
    memcpy(run->emulation_failure.insn_bytes, bytes, n);
    return 0;
}

static int handle_io(sim_vcpu *cpu) {
    struct kvm_run *run = cpu->run;
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = cpu->exit.io.in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
    run->io.size = cpu->exit.io.size;
    run->io.port = cpu->exit.io.port;
    run->io.count = cpu->exit.io.count;
    run->io.data_offset = PIO_OFFSET;
    sys_state(cpu)->pending = cpu->exit.io.string ? PENDING_PIO_STRING : PENDING_PIO;
    sys_state(cpu)->pending_lin = linear_rip(cpu);
    return 0;
}

static int handle_ept_violation(sim_vcpu *cpu) {
    struct kvm_run *run = cpu->run;
    if (cpu->exit.write == 2)
        return internal_error(cpu, KVM_INTERNAL_ERROR_EMULATION); /* code fetch */
    if (cpu->ev.delivering) {
        cpu->ev.delivering = 0;
        return internal_error(cpu, KVM_INTERNAL_ERROR_DELIVERY_EV);
    }
    if (cpu->replay.n >= REPLAY_MAX)
        return internal_error(cpu, KVM_INTERNAL_ERROR_EMULATION);
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = cpu->exit.gpa;
    run->mmio.len = cpu->exit.size;
    run->mmio.is_write = cpu->exit.write;
    memset(run->mmio.data, 0, sizeof run->mmio.data);
    if (cpu->exit.write)
        memcpy(run->mmio.data, &cpu->exit.value, cpu->exit.size);
    sys_state(cpu)->pending = PENDING_MMIO;
    sys_state(cpu)->pending_lin = linear_rip(cpu);
    return 0;
}

void complete_user_exit(sim_vcpu *cpu) {
    struct system_state *s = sys_state(cpu);
    enum user_pending what = s->pending;
    s->pending = PENDING_NONE;
    if (what == PENDING_NONE)
        return;
    if (s->pending_lin != linear_rip(cpu)) { /* user space set registers: whatever was under way is not any more */
        replay_iteration_done(cpu);
        return;
    }
    cpu->replay.lin_ip = s->pending_lin;
    switch (what) {
    case PENDING_PIO:
        if (cpu->exit.io.in) {
            u32 v = 0;
            memcpy(&v, cpu->pio_data, cpu->exit.io.size);
            if (cpu->exit.io.size == 1)
                *reg8(cpu, 0) = (u8)v;
            else if (cpu->exit.io.size == 2)
                *reg16(cpu, RAX) = (u16)v;
            else
                cpu->regs[RAX] = v;
        }
        advance(cpu);
        replay_iteration_done(cpu);
        break;
    case PENDING_PIO_STRING: /* the instruction starts again and moves the data or the registers */
        cpu->replay.pio_done = 1;
        cpu->replay.pio_count = cpu->exit.io.count;
        break;
    case PENDING_MSR:
        if (cpu->run->msr.error) {
            queue_fault(cpu, EXC_GP, 0);
        } else {
            if (cpu->exit.reason == EXIT_REASON_MSR_READ) {
                cpu->regs[RAX] = (u32)cpu->run->msr.data;
                cpu->regs[RDX] = cpu->run->msr.data >> 32;
            }
            advance(cpu);
        }
        replay_iteration_done(cpu);
        break;
    default: {
        u64 v = 0;
        if (!cpu->exit.write)
            memcpy(&v, cpu->run->mmio.data, cpu->exit.size);
        cpu->replay.e[cpu->replay.n].gpa = cpu->exit.gpa;
        cpu->replay.e[cpu->replay.n].size = cpu->exit.size;
        cpu->replay.e[cpu->replay.n].write = cpu->exit.write;
        cpu->replay.e[cpu->replay.n].value = v;
        cpu->replay.n++;
    }
    }
    cpu->replay.pos = 0;
    update_step(cpu);
}

static int handle_halt(sim_vcpu *cpu) {
    advance(cpu);
    cpu->run->exit_reason = KVM_EXIT_HLT;
    return 0;
}

static int handle_triple_fault(sim_vcpu *cpu) {
    cpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
    return 0;
}

/* Debug exceptions that user space asked for with KVM_SET_GUEST_DEBUG. */
static int handle_exception(sim_vcpu *cpu) {
    struct kvm_run *run = cpu->run;
    run->exit_reason = KVM_EXIT_DEBUG;
    run->debug.arch.exception = (u32)cpu->exit.value;
    run->debug.arch.pc = linear_rip(cpu);
    run->debug.arch.dr6 = cpu->exit.qualification;
    run->debug.arch.dr7 = active_dr(cpu)[7];
    return 0;
}

/* A kick.  vcpu_run() finds EV_KICK still set and returns -EINTR. */
static int handle_external_interrupt(sim_vcpu *cpu) {
    (void)cpu;
    return 1;
}

static int handle_interrupt_window(sim_vcpu *cpu) {
    if (!cpu->run->request_interrupt_window)
        return 1;
    cpu->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
    return 0;
}

static int handle_invalid_state(sim_vcpu *cpu) {
    cpu->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
    cpu->run->fail_entry.hardware_entry_failure_reason = 0x80000000u | EXIT_REASON_INVALID_STATE;
    cpu->run->fail_entry.cpu = 0;
    return 0;
}

/* ---- served here ---------------------------------------------------------------------------------------------------
 */

static int gp_or_advance(sim_vcpu *cpu, bool ok) {
    if (ok)
        advance(cpu);
    else
        queue_fault(cpu, EXC_GP, 0);
    return 1;
}

static int handle_cpuid(sim_vcpu *cpu) {
    u32 out[4];
    cpuid_lookup(cpu, get32(cpu, RAX), get32(cpu, RCX), out);
    cpu->regs[RAX] = out[0];
    cpu->regs[RBX] = out[1];
    cpu->regs[RCX] = out[2];
    cpu->regs[RDX] = out[3];
    return gp_or_advance(cpu, true);
}

/* An MSR that the core cannot serve: to user space where it wants it (KVM_CAP_X86_USER_SPACE_MSR), else #GP. */
static int refused_msr(sim_vcpu *cpu, u32 exit_reason, u64 value) {
    struct kvm_run *run = cpu->run;
    u64 known;
    u32 index = get32(cpu, RCX), why = KVM_MSR_EXIT_REASON_UNKNOWN;
    if (exit_reason == KVM_EXIT_X86_WRMSR && !msr_read(cpu, index, &known))
        why = KVM_MSR_EXIT_REASON_INVAL;
    if (!(atomic_load_explicit(&vm_state(cpu->vm)->user_msr, memory_order_relaxed) & why))
        return gp_or_advance(cpu, false);
    run->exit_reason = exit_reason;
    memset(&run->msr, 0, sizeof run->msr);
    run->msr.reason = why;
    run->msr.index = index;
    run->msr.data = value;
    sys_state(cpu)->pending = PENDING_MSR;
    sys_state(cpu)->pending_lin = linear_rip(cpu);
    return 0;
}

static int handle_xsetbv(sim_vcpu *cpu) {
    u64 value = (u64)get32(cpu, RDX) << 32 | get32(cpu, RAX);
    return gp_or_advance(cpu, get32(cpu, RCX) == 0 && set_xcr0(cpu, value));
}

static int handle_rdmsr(sim_vcpu *cpu) {
    u64 v;
    if (msr_read(cpu, get32(cpu, RCX), &v))
        return refused_msr(cpu, KVM_EXIT_X86_RDMSR, 0);
    cpu->regs[RAX] = (u32)v;
    cpu->regs[RDX] = v >> 32;
    return gp_or_advance(cpu, true);
}

static int handle_wrmsr(sim_vcpu *cpu) {
    u64 v = (u64)get32(cpu, RDX) << 32 | get32(cpu, RAX);
    if (msr_write(cpu, get32(cpu, RCX), v, false))
        return refused_msr(cpu, KVM_EXIT_X86_WRMSR, v);
    return gp_or_advance(cpu, true);
}

static int handle_cr(sim_vcpu *cpu) {
    u64 v = cpu->exit.value;
    bool ok;
    if (((cpu->exit.qualification >> 4) & 3) == 3) /* LMSW: low four bits, and PE cannot be cleared */
        return gp_or_advance(cpu, set_cr0(cpu, (cpu->cr0 & ~(u64)0xe) | v));
    /* rip moves while the old mode is in force */
    u64 rip = cpu->rip;
    advance(cpu);
    switch (cpu->exit.qualification & 0xf) {
    case 0:
        ok = set_cr0(cpu, v);
        break;
    case 3:
        ok = set_cr3(cpu, v);
        break;
    case 4:
        ok = set_cr4(cpu, v);
        break;
    case 8:
        ok = v <= 15;
        if (ok && v < cpu->cr8) { /* user space has the APIC: it may let an interrupt through now */
            cpu->cr8 = v;
            cpu->run->exit_reason = KVM_EXIT_SET_TPR;
            return 0;
        }
        if (ok)
            cpu->cr8 = v;
        break;
    default:
        ok = false;
    }
    if (!ok) {
        cpu->rip = rip;
        cpu->icount--;
        cpu->db_pending = 0;
        queue_fault(cpu, EXC_GP, 0);
    }
    return 1;
}

/* MONITOR keeps the line's content; MWAIT waits until it differs, or anything else wants the processor.  A store of the
 * value that is there already is not seen: only interrupts end the wait then. */
static int handle_monitor(sim_vcpu *cpu) {
    struct system_state *s = sys_state(cpu);
    const u8 *line = phys_host(cpu, cpu->exit.gpa);
    s->monitor.armed = line != NULL;
    s->monitor.gpa = cpu->exit.gpa;
    if (line)
        memcpy(s->monitor.content, line, sizeof s->monitor.content);
    return gp_or_advance(cpu, true);
}

static bool monitored_line_same(sim_vcpu *cpu) {
    const u8 *line = phys_host(cpu, sys_state(cpu)->monitor.gpa);
    return line && memcmp(line, sys_state(cpu)->monitor.content, MONITOR_LINE) == 0;
}

static int handle_mwait(sim_vcpu *cpu) {
    struct system_state *s = sys_state(cpu);
    struct timespec nap = {.tv_nsec = 5000};
    gp_or_advance(cpu, true);
    if (!s->monitor.armed)
        return 1;
    s->monitor.armed = false;
    while (!atomic_load(&cpu->stop) && !s->stop_after && !cpu->ev.irq_pending && !cpu->ev.nmi_pending &&
           !cpu->run->request_interrupt_window && monitored_line_same(cpu)) {
        nanosleep(&nap, NULL);
        if (nap.tv_nsec < 200000)
            nap.tv_nsec *= 2;
    }
    return 1;
}

static int handle_dr(sim_vcpu *cpu) {
    unsigned n = cpu->exit.qualification & 7;
    if (cpu->exit.qualification & 0x10) {
        cpu->regs[cpu->exit.reg] = get_dr(cpu, n);
        return gp_or_advance(cpu, true);
    }
    return gp_or_advance(cpu, set_dr(cpu, n, cpu->exit.value));
}

static int handle_invlpg(sim_vcpu *cpu) {
    tlb_flush_page(cpu, cpu->exit.qualification);
    return gp_or_advance(cpu, true);
}

/* There are no caches to write back. */
static int handle_invd(sim_vcpu *cpu) { return gp_or_advance(cpu, true); }
static int handle_wbinvd(sim_vcpu *cpu) { return gp_or_advance(cpu, true); }

/* No hypercall exists; KVM's answers: -KVM_ENOSYS, or -KVM_EPERM outside the kernel. */
static int handle_vmcall(sim_vcpu *cpu) {
    s64 r = cpu->cpl ? -1 : -1000;
    cpu->regs[RAX] = cpu->mode == MODE64 ? (u64)r : (u32)r;
    return gp_or_advance(cpu, true);
}

/* The switch itself is made on entry, where it may fault: poll_events finds task.pending. */
static int handle_task_switch(sim_vcpu *cpu) {
    (void)cpu;
    return 1;
}

/* ---- the table
 * ------------------------------------------------------------------------------------------------------- */

static int (*const exit_handlers[EXIT_REASON_COUNT])(sim_vcpu *cpu) = {
    [EXIT_REASON_EXCEPTION_NMI] = handle_exception,
    [EXIT_REASON_EXTERNAL_INTERRUPT] = handle_external_interrupt,
    [EXIT_REASON_TRIPLE_FAULT] = handle_triple_fault,
    [EXIT_REASON_INTERRUPT_WINDOW] = handle_interrupt_window,
    [EXIT_REASON_TASK_SWITCH] = handle_task_switch,
    [EXIT_REASON_CPUID] = handle_cpuid,
    [EXIT_REASON_HLT] = handle_halt,
    [EXIT_REASON_INVD] = handle_invd,
    [EXIT_REASON_INVLPG] = handle_invlpg,
    [EXIT_REASON_VMCALL] = handle_vmcall,
    [EXIT_REASON_CR_ACCESS] = handle_cr,
    [EXIT_REASON_DR_ACCESS] = handle_dr,
    [EXIT_REASON_IO_INSTRUCTION] = handle_io,
    [EXIT_REASON_MONITOR] = handle_monitor,
    [EXIT_REASON_MWAIT] = handle_mwait,
    [EXIT_REASON_MSR_READ] = handle_rdmsr,
    [EXIT_REASON_MSR_WRITE] = handle_wrmsr,
    [EXIT_REASON_INVALID_STATE] = handle_invalid_state,
    [EXIT_REASON_EPT_VIOLATION] = handle_ept_violation,
    [EXIT_REASON_WBINVD] = handle_wbinvd,
    [EXIT_REASON_XSETBV] = handle_xsetbv,
};

static const char *const exit_names[EXIT_REASON_COUNT] = {
    [EXIT_REASON_EXCEPTION_NMI] = "EXCEPTION_NMI",
    [EXIT_REASON_EXTERNAL_INTERRUPT] = "EXTERNAL_INTERRUPT",
    [EXIT_REASON_TRIPLE_FAULT] = "TRIPLE_FAULT",
    [EXIT_REASON_INIT_SIGNAL] = "INIT_SIGNAL",
    [EXIT_REASON_STARTUP_IPI] = "STARTUP_IPI",
    [EXIT_REASON_OTHER_SMI] = "OTHER_SMI",
    [EXIT_REASON_INTERRUPT_WINDOW] = "INTERRUPT_WINDOW",
    [EXIT_REASON_NMI_WINDOW] = "NMI_WINDOW",
    [EXIT_REASON_TASK_SWITCH] = "TASK_SWITCH",
    [EXIT_REASON_CPUID] = "CPUID",
    [EXIT_REASON_HLT] = "HLT",
    [EXIT_REASON_INVD] = "INVD",
    [EXIT_REASON_INVLPG] = "INVLPG",
    [EXIT_REASON_RDPMC] = "RDPMC",
    [EXIT_REASON_RDTSC] = "RDTSC",
    [EXIT_REASON_RSM] = "RSM",
    [EXIT_REASON_VMCALL] = "VMCALL",
    [EXIT_REASON_CR_ACCESS] = "CR_ACCESS",
    [EXIT_REASON_DR_ACCESS] = "DR_ACCESS",
    [EXIT_REASON_IO_INSTRUCTION] = "IO_INSTRUCTION",
    [EXIT_REASON_MSR_READ] = "MSR_READ",
    [EXIT_REASON_MSR_WRITE] = "MSR_WRITE",
    [EXIT_REASON_INVALID_STATE] = "INVALID_STATE",
    [EXIT_REASON_MWAIT] = "MWAIT_INSTRUCTION",
    [EXIT_REASON_MONITOR_TRAP] = "MONITOR_TRAP_FLAG",
    [EXIT_REASON_MONITOR] = "MONITOR_INSTRUCTION",
    [EXIT_REASON_PAUSE] = "PAUSE_INSTRUCTION",
    [EXIT_REASON_GDTR_IDTR] = "GDTR_IDTR",
    [EXIT_REASON_LDTR_TR] = "LDTR_TR",
    [EXIT_REASON_EPT_VIOLATION] = "EPT_VIOLATION",
    [EXIT_REASON_EPT_MISCONFIG] = "EPT_MISCONFIG",
    [EXIT_REASON_PREEMPTION_TIMER] = "PREEMPTION_TIMER",
    [EXIT_REASON_WBINVD] = "WBINVD",
    [EXIT_REASON_XSETBV] = "XSETBV",
};

int handle_exit(sim_vcpu *cpu) {
    u32 reason = cpu->exit.reason;
    /* written by this thread only, read by any */
    __atomic_store_n(&cpu->exit_count[reason], cpu->exit_count[reason] + 1, __ATOMIC_RELAXED);
    int r = exit_handlers[reason] ? exit_handlers[reason](cpu)
                                  : internal_error(cpu, KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
    if (r == 0)
        __atomic_store_n(&cpu->exit_count_user[reason], cpu->exit_count_user[reason] + 1, __ATOMIC_RELAXED);
    return r;
}

unsigned sim_exit_reason_count(void) { return EXIT_REASON_COUNT; }
const char *sim_exit_reason_name(unsigned reason) { return reason < EXIT_REASON_COUNT ? exit_names[reason] : NULL; }
uint64_t sim_vcpu_exit_count(sim_vcpu *cpu, unsigned reason) {
    return reason < EXIT_REASON_COUNT ? __atomic_load_n(&cpu->exit_count[reason], __ATOMIC_RELAXED) : 0;
}
uint64_t sim_vcpu_exit_count_user(sim_vcpu *cpu, unsigned reason) {
    return reason < EXIT_REASON_COUNT ? __atomic_load_n(&cpu->exit_count_user[reason], __ATOMIC_RELAXED) : 0;
}
