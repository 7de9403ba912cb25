/* The run loop: from block to block until the guest must be left.
 *
 * Handlers call one another; they come back here when a block's successor is not known yet, when cpu->stop asks for it,
 * or when an instruction changed what decoding depends on.  Faults and exits come back by longjmp.
 */
#include "chain.h"
#include "flags.h"
#include "fpu.h"
#include "ops.h"

/* map_gen's context, besides bits of code_key */
#define MAP_FLAT 0x010u

u32 cpu_eflags(const sim_vcpu *cpu) { return cpu->eflags | get_arith_flags(cpu) | FL_1; }
void cpu_set_arith_flags(sim_vcpu *cpu, u32 value) { set_arith_flags(cpu, value); }

void cpu_set_eflags(sim_vcpu *cpu, u32 value, u32 mask) {
    u32 old = cpu->eflags;
    if (mask & FL_ARITH)
        set_arith_flags(cpu, (get_arith_flags(cpu) & ~mask) | (value & mask));
    mask &= ~(FL_ARITH | FL_1);
    cpu->eflags = (old & ~mask) | (value & mask);
    old ^= cpu->eflags;
    if (old & (FL_VM | FL_AC))
        cpu_mode_changed(cpu);
    if (old & FL_TF)
        update_step(cpu);
}

void seg_update(sim_vcpu *cpu, struct seg *s) {
    bool plain = (s->attr & (SA_S | SA_P | SA_UNUSABLE)) == (SA_S | SA_P);
    u64 end = (u64)s->limit + 1;
    s->rmax = s->wmax = 0;
    s->fbase = cpu->mode != MODE64 || s >= &cpu->seg[FS] ? s->base : 0;
    if (alignment_checked(cpu))
        return;                /* #AC is the slow path's business */
    if (cpu->mode == MODE64) { /* neither limits nor rights; a TLB tag is never of a non-canonical page */
        s->rmax = s->wmax = ~(u64)0;
        return;
    }
    if (!plain)
        return;
    if (s->attr & SA_CODE) {
        if (s->attr & SA_RW)
            s->rmax = end;
        if (real_mode(cpu) || v86_mode(cpu))
            s->rmax = s->wmax = end;
    } else if (!(s->attr & SA_DOWN)) {
        s->rmax = end;
        if (s->attr & SA_RW)
            s->wmax = end;
    } else if (s->limit == 0xffffffff)
        s->rmax = 0; /* expand-down: nothing below the limit, slow path */
}

void cpu_mode_changed(sim_vcpu *cpu) {
    const struct seg *cs = &cpu->seg[CS];
    cpu->mode = (cpu->efer & EFER_LMA) && (cs->attr & SA_L) ? MODE64 : cs->attr & SA_DB ? MODE32 : MODE16;
    bool code64 = cpu->mode == MODE64, flat = code64 || (!cs->base && cs->limit == 0xffffffff);
    cpu->ip_limit = code64 ? ((u64)1 << 48) - 1 : cs->limit;
    cpu->ip_bias = code64 ? (u64)1 << 47 : 0;
    u32 key = cpu->mode | (stack_big(cpu) && !code64 ? KEY_STACK32 : 0) |
              (u32)(cpu->cr0 & (CR0_MP | CR0_EM | CR0_TS)) * (KEY_MP / CR0_MP) |
              (cpu->cr4 & CR4_OSFXSR ? KEY_OSFXSR : 0) | (cpu->cr4 & CR4_OSXSAVE ? KEY_OSXSAVE : 0) |
              ((~cpu->xcr0 & (XCR0_SSE | XCR0_AVX)) == 0 ? KEY_AVX : 0) |
              (real_mode(cpu) || v86_mode(cpu) ? KEY_REAL : 0);
    cpu->code_key = key | (cpu->step_flags ? KEY_STEP : 0);
    /* where alignment is checked, the slow path does all */
    cpu->tlb = cpu->tlb_set[alignment_checked(cpu) ? NLEVELS : access_level(cpu)];
    for (unsigned k = 0; k < NSEGS; k++)
        seg_update(cpu, &cpu->seg[k]);
    /* With a flat code segment the context says all: links of the kernel outlive a visit to the user, and the other way
     * round.  With another, its base and limit may have changed. */
    u64 context = key | (flat ? MAP_FLAT : 0) | (cpu->cpl == 3 ? MAP_USER : 0);
    bool same = flat && (cpu->map_gen & MAP_FLAT);
    cpu->map_gen = cpu->code_map[cpu->cpl == 3].count | context;
    if (!same)
        map_changed(cpu);
}

void update_step(sim_vcpu *cpu) {
    u32 flags = 0;
    if (cpu->eflags & FL_TF)
        flags |= STEP_TF;
    if (cpu->eflags & FL_RF)
        flags |= STEP_RF;
    if (cpu->shadow)
        flags |= STEP_SHADOW;
    if (cpu->replay.n || cpu->replay.pio_done)
        flags |= STEP_REPLAY;
    if (cpu->guest_debug & KVM_GUESTDBG_SINGLESTEP)
        flags |= STEP_DEBUG;
    if (cpu->dr[7] & 0xff)
        flags |= STEP_DRX;
    if ((cpu->guest_debug & KVM_GUESTDBG_USE_HW_BP) && (cpu->guest_debug_dr[7] & 0xff))
        flags |= STEP_DRX;
    cpu->step_flags = flags;
    if (flags) {
        cpu->code_key |= KEY_STEP;
        atomic_fetch_or(&cpu->stop, EV_STEP);
    } else {
        cpu->code_key &= ~KEY_STEP;
        if (atomic_load_explicit(&cpu->stop, memory_order_relaxed) & EV_STEP) /* nobody else sets it */
            atomic_fetch_and(&cpu->stop, ~EV_STEP);
    }
}

_Noreturn void vm_exit(sim_vcpu *cpu, unsigned reason) {
    cpu->exit.reason = reason;
    cpu->exit.insn_len = cpu->cur ? cpu->cur->len : 0;
    longjmp(cpu->jmp, JMP_EXIT);
}

_Noreturn void engine_again(sim_vcpu *cpu) {
    cpu->cur = NULL;
    longjmp(cpu->jmp, JMP_AGAIN);
}

/* The instruction in cpu->cur did not complete: rip back to it. */
static void rewind_insn(sim_vcpu *cpu) {
    if (!cpu->cur)
        return;
    cpu->rip = insn_ip(cpu->cur);
    cpu->icount += cpu->cur->idx;
    cpu->cur = NULL;
}

/* One instruction, or one iteration of a string instruction, and what must follow it. */
static void step(sim_vcpu *cpu) {
    struct block *b;
    bool trap = (cpu->step_flags & STEP_TF) != 0;
    if (cpu->step_flags & STEP_REPLAY) {
        u64 lin = linear_ip(cpu, cpu->rip);
        if (lin != cpu->replay.lin_ip)
            replay_iteration_done(cpu); /* user space moved rip: the log is for nothing */
        cpu->replay.pos = 0;
    }
    b = code_lookup(cpu);
    op_fn fn = b->insns[0].fn;
    u64 before = cpu->icount;
    fn(cpu, b->insns);
    cpu->cur = NULL;
    cpu->want_link = NULL;
    replay_iteration_done(cpu);
    cpu->shadow = cpu->shadow_new;
    cpu->shadow_new = 0;
    /* RF ends with the instruction: not between iterations, and the one that IRET brought is for the next */
    if (fn != op_iret && cpu->icount != before)
        cpu->eflags &= ~FL_RF;
    update_step(cpu);
    if (trap)
        step_trap(cpu);
}

void engine_run(sim_vcpu *cpu) {
    cpu->cur = NULL;
    fpu_enter(cpu);
    switch (setjmp(cpu->jmp)) {
    case JMP_EXIT:
        cpu->rep.insn = NULL;
        rewind_insn(cpu);
        fpu_leave(cpu);
        return;
    case JMP_FAULT:
        if (cpu->rep.insn && cpu->rep.insn == cpu->cur) { /* a repeated CMPS or SCAS */
            cpu->cc_res = cpu->rep.cc_res;
            cpu->cc_oca = cpu->rep.cc_oca;
        }
        cpu->rep.insn = NULL;
        rewind_insn(cpu);
        fpu_faulted(cpu);
        cpu->shadow = cpu->shadow_new = 0;
        replay_iteration_done(cpu);
        update_step(cpu);
        exception_deliver(cpu);
        break;
    default:
        cpu->rep.insn = NULL;
        break;
    }
    cpu->want_link = NULL;
    cpu->chain_miss = 0;
    update_step(cpu);
    for (;;) {
        struct block *b;
        struct jc_entry *jc;
        if (!cpu->chain_miss || atomic_load_explicit(&cpu->stop, memory_order_relaxed)) {
            cpu->want_link = NULL;
            poll_events(cpu);
            if (cpu->step_flags) {
                step(cpu);
                cpu->chain_miss = 0; /* the step flags may be gone now, but what they held back must be polled for */
                continue;
            }
        }
        cpu->chain_miss = 0;
        jc = &cpu->jc[jc_hash(cpu->rip)];
        b = likely(jc->ip == cpu->rip && jc->gen == cpu->map_gen) ? jc->block : code_lookup(cpu);
        if (cpu->want_link) {
            if (!(b->flags & BF_CROSS)) {
                cpu->want_link->to = b;
                cpu->want_link->gen = cpu->map_gen;
            }
            cpu->want_link = NULL;
        }
        b->insns[0].fn(cpu, b->insns);
        cpu->cur = NULL;
        if (unlikely(cpu->shadow_new)) {
            cpu->shadow = cpu->shadow_new;
            cpu->shadow_new = 0;
            update_step(cpu);
        }
    }
}
