/* Guest entry: what happens before the next instruction, KVM_RUN's inner loop, and the reset state.
 *
 * Order between instructions (SDM volume 3, 6.9): debug traps of the last instruction, NMI, external interrupt, then
 * the code breakpoint on the next.
 */
#include <errno.h>
#include <string.h>
#include "system.h"

bool interrupts_open(const sim_vcpu *cpu) { return (cpu->eflags & FL_IF) && !cpu->shadow; }

/* ---- poll_events ----------------------------------------------------------------------------------------------------
 */

/* Software interrupts cleared TF before they could be stepped over. */
void step_trap(sim_vcpu *cpu) {
    if (sys_state(cpu)->soft_interrupt_at != cpu->icount)
        cpu->db_pending |= DR6_BS;
}

/* User space debugs the guest and wants this one. */
static void debug_exit(sim_vcpu *cpu, u64 dr6) {
    cpu->exit.value = EXC_DB;
    cpu->exit.qualification = dr6;
    vm_exit(cpu, EXIT_REASON_EXCEPTION_NMI);
}

static bool user_debugs(const sim_vcpu *cpu) {
    return (cpu->guest_debug & KVM_GUESTDBG_ENABLE) &&
           (cpu->guest_debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP));
}

static void debug_trap(sim_vcpu *cpu) {
    u64 bits = cpu->db_pending;
    cpu->db_pending = 0;
    if (user_debugs(cpu))
        debug_exit(cpu, DR6_FIXED | bits);
    cpu->dr[6] = (cpu->dr[6] & ~(u64)0xf) | DR6_FIXED | bits;
    cpu->dr[7] &= ~(u64)0x2000;
    event_deliver(cpu, EXC_DB, EVENT_TRAP, false, 0, cpu->rip);
}

static void code_breakpoint(sim_vcpu *cpu) {
    const u64 *dr = active_dr(cpu);
    u64 lin = linear_ip(cpu, cpu->rip), hit = 0;
    for (unsigned n = 0; n < 4; n++)
        if (((dr[7] >> (2 * n)) & 3) && ((dr[7] >> (16 + 4 * n)) & 0xf) == 0 && dr[n] == lin)
            hit |= 1u << n;
    if (!hit)
        return;
    if (user_debugs(cpu))
        debug_exit(cpu, DR6_FIXED | hit);
    cpu->dr[6] = (cpu->dr[6] & ~(u64)0xf) | DR6_FIXED | hit;
    cpu->dr[7] &= ~(u64)0x2000;
    /* a fault, but the one that does not push RF = 1 */
    event_deliver(cpu, EXC_DB, EVENT_TRAP, false, 0, cpu->rip);
}

/* KVM_SET_GUEST_DEBUG: stop before the next instruction when one was executed since entry. */
static bool debug_step_due(sim_vcpu *cpu) {
    const u32 step = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
    return (cpu->guest_debug & step) == step && cpu->icount != sys_state(cpu)->debug_icount;
}

void poll_events(sim_vcpu *cpu) {
    u32 stop = atomic_load_explicit(&cpu->stop, memory_order_acquire);
    if (unlikely(stop & ~EV_STEP)) {
        if (stop & EV_PAUSE) {
            vm_pause_point(cpu);
            stop = atomic_load(&cpu->stop); /* whoever paused us may have asked for more */
        }
        if (stop & EV_TLB) {
            atomic_fetch_and(&cpu->stop, ~EV_TLB);
            tlb_flush(cpu, true);
            cpu->epoch++;
        }
        if (stop & EV_CODE)
            code_messages(cpu);
        if (stop & EV_IRQ)
            atomic_fetch_and(&cpu->stop, ~EV_IRQ);
    }
    if (unlikely(cpu->step_flags) && replay_active(cpu))
        return; /* finish the instruction first */
    if (unlikely(sys_state(cpu)->task.pending))
        task_switch(cpu);
    if (unlikely(cpu->fault.pending))
        exception_deliver(cpu);
    if (unlikely((stop & EV_KICK) || sys_state(cpu)->stop_after))
        vm_exit(cpu, EXIT_REASON_EXTERNAL_INTERRUPT);
    if (unlikely(cpu->step_flags & STEP_DEBUG) && debug_step_due(cpu)) {
        sys_state(cpu)->debug_icount = cpu->icount;
        debug_exit(cpu, DR6_FIXED | DR6_BS);
    }
    if (unlikely(cpu->db_pending) && !(cpu->shadow & SHADOW_MOVSS))
        debug_trap(cpu);
    if (unlikely(cpu->ev.nmi_pending) && !cpu->ev.nmi_masked && !cpu->shadow) {
        cpu->ev.nmi_pending--;
        cpu->ev.nmi_masked = 1;
        event_deliver(cpu, EXC_NMI, EVENT_EXTERNAL, false, 0, cpu->rip);
    }
    if (unlikely(cpu->ev.irq_pending) && interrupts_open(cpu)) {
        cpu->ev.irq_pending = 0; /* acknowledged: a fault during the delivery does not bring it back */
        event_deliver(cpu, cpu->ev.irq_vector, EVENT_EXTERNAL, false, 0, cpu->rip);
    }
    /* also right after a delivery: through a trap gate or a task gate interrupts stay on */
    if (unlikely(cpu->run->request_interrupt_window) && !cpu->ev.irq_pending && interrupts_open(cpu))
        vm_exit(cpu, EXIT_REASON_INTERRUPT_WINDOW);
    if (unlikely(cpu->step_flags & STEP_DRX) && !(cpu->eflags & FL_RF))
        code_breakpoint(cpu);
}

/* ---- ports
 * ------------------------------------------------------------------------------------------------------------ */

/* I/O breakpoints (CR4.DE) trap after the instruction. */
static void watch_port(sim_vcpu *cpu, u16 port, unsigned size) {
    static const u8 bytes[4] = {1, 2, 8, 4};
    const u64 *dr = active_dr(cpu);
    for (unsigned n = 0; n < 4; n++) {
        unsigned len = bytes[(dr[7] >> (18 + 4 * n)) & 3];
        u64 first = dr[n] & ~(u64)(len - 1);
        if (((dr[7] >> (2 * n)) & 3) && ((dr[7] >> (16 + 4 * n)) & 3) == 2 && port < first + len && first < port + size)
            cpu->db_pending |= 1u << n;
    }
}

void io_check(sim_vcpu *cpu, u16 port, unsigned size) {
    if ((cpu->cr0 & CR0_PE) && (v86_mode(cpu) || cpu->cpl > iopl(cpu))) {
        const struct seg *tr = &cpu->seg[TR];
        if ((tr->attr & (SA_UNUSABLE | SA_P | SA_S | 9)) != (SA_P | 9) || tr->limit < 0x67)
            raise_gp0(cpu); /* 32-bit TSS */
        u32 map = (u32)sys_read(cpu, tr->base + 0x66, 2), at = map + port / 8;
        if (at + 1 > tr->limit)
            raise_gp0(cpu);
        u32 bits = (u32)sys_read(cpu, tr->base + at, 2) >> (port & 7);
        if (bits & ((1u << size) - 1))
            raise_gp0(cpu);
    }
    if (unlikely(sys_state(cpu)->data_breakpoints) && (cpu->cr4 & CR4_DE))
        watch_port(cpu, port, size);
}

/* ---- KVM_RUN
 * ------------------------------------------------------------------------------------------------------------ */

static bool kicked(sim_vcpu *cpu) { return (atomic_load(&cpu->stop) & EV_KICK) != 0; }

long vcpu_run(sim_vcpu *cpu) {
    struct kvm_run *run = cpu->run;
    bool once = __atomic_load_n(&run->immediate_exit, __ATOMIC_RELAXED) != 0;
    long r;
    if (run->cr8 != cpu->cr8) {
        if (run->cr8 > 15)
            return -EINVAL;
        cpu->cr8 = run->cr8;
    }
    pthread_mutex_lock(&cpu->guest_lock);
    if (!cpu->vm->writes_are_told) { /* user space may have written code: the way into every block is a comparison */
        cpu->epoch++;
        map_changed(cpu);
    }
    sys_state(cpu)->debug_icount = cpu->icount;
    complete_user_exit(cpu);
    run->exit_reason = KVM_EXIT_UNKNOWN;
    sys_state(cpu)->stop_after = once;
    for (;;) {
        if (!replay_active(cpu) && (once || kicked(cpu))) {
            run->exit_reason = KVM_EXIT_INTR;
            r = -EINTR;
            break;
        }
        engine_run(cpu);
        r = handle_exit(cpu);
        if (r <= 0)
            break;
    }
    if (r == -EINTR)
        atomic_fetch_and(&cpu->stop, ~EV_KICK);
    pthread_mutex_unlock(&cpu->guest_lock);
    run->if_flag = (cpu->eflags & FL_IF) != 0;
    run->cr8 = cpu->cr8;
    run->apic_base = cpu->apic_base;
    run->flags = 0;
    run->ready_for_interrupt_injection = interrupts_open(cpu) && !cpu->ev.irq_pending && !cpu->fault.pending;
    return r;
}

/* ---- reset
 * ---------------------------------------------------------------------------------------------------------------- */

void cpu_reset(sim_vcpu *cpu) {
    static const u8 data[5] = {ES, SS, DS, FS, GS};
    memset(cpu->regs, 0, sizeof cpu->regs);
    cpu->regs[RDX] = 0x600; /* family 6 */
    cpu->eflags = FL_1;
    cpu_set_arith_flags(cpu, 0);
    cpu->rip = 0xfff0;
    for (unsigned n = 0; n < 5; n++)
        cpu->seg[data[n]] = (struct seg){.limit = 0xffff, .attr = 0x93};
    cpu->seg[CS] = (struct seg){.selector = 0xf000, .base = 0xffff0000, .limit = 0xffff, .attr = 0x9b};
    cpu->seg[TR] = (struct seg){.limit = 0xffff, .attr = 0x8b};
    cpu->seg[LDTR] = (struct seg){.limit = 0xffff, .attr = 0x82};
    cpu->gdt = cpu->idt = (struct dtr){.limit = 0xffff};
    cpu->cr0 = CR0_CD | CR0_NW | CR0_ET;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->cr8 = cpu->efer = 0;
    memset(&cpu->fpu, 0, sizeof cpu->fpu);
    memset(cpu->ymm, 0, sizeof cpu->ymm);
    cpu->fpu.fcw = FCW_INIT;
    cpu->mxcsr = MXCSR_INIT;
    cpu->xcr0 = XCR0_X87;
    cpu->dr[6] = DR6_FIXED;
    cpu->dr[7] = 0x400;
    cpu->apic_base = 0xfee00800 | (cpu->id == 0 ? 0x100 : 0);
    cpu->pat = 0x0007040600070406;
    cpu->misc_enable = 1;
    cpu->cpl = 0;
    cpu_mode_changed(cpu);
    tlb_init(cpu);
    update_step(cpu);
}
