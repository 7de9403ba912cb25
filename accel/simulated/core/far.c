/* Transfers that may change CS: far jumps, calls and returns, gates, IRET, software interrupts, SYSENTER.
 *
 * Every one reads and checks all it needs, then pushes, then commits.
 */
#include "access.h"
#include "ops.h"
#include "system.h"

static u64 off_mask(const struct insn *i) { return i->osz == W16 ? 0xffff : i->osz == W32 ? 0xffffffff : ~(u64)0; }

/* Split an EA/9A immediate, or read m16:16, m16:32, m16:64. */
static void far_operand(sim_vcpu *cpu, const struct insn *i, u16 *sel, u64 *off) {
    if (!(i->flags & IF_MEM)) {
        *off = i->imm & 0xffffffff & off_mask(i);
        *sel = (u16)(i->imm >> 32);
        return;
    }
    u64 ea = insn_ea(cpu, i), wrap = i->asz == W16 ? 0xffff : i->asz == W32 ? 0xffffffff : ~(u64)0;
    *off = ld_w(cpu, i, i->seg, ea, i->osz);
    *sel = ld16(cpu, i, i->seg, (ea + (1u << i->osz)) & wrap);
}

static void commit_cs(sim_vcpu *cpu, const struct desc *d, unsigned cpl, u64 rip) {
    cpu->seg[CS] = d->seg;
    cpu->seg[CS].selector = (u16)(SEL(d->seg.selector) | cpl);
    cpu->cpl = (u8)cpl;
    cpu->rip = rip;
}

static void real_transfer(sim_vcpu *cpu, u16 sel, u64 off) {
    load_segment_real(cpu, CS, sel);
    cpu->rip = off;
    cpu_mode_changed(cpu);
}

/* Where the new code segment does not reach, or no address is. */
static void check_offset(sim_vcpu *cpu, const struct seg *cs, u64 off) {
    if (long_mode(cpu) && (cs->attr & SA_L) ? !canonical(off) : off > cs->limit)
        raise_gp0(cpu);
}

/* A code segment cannot be 64-bit and 32-bit at once. */
static void check_size(sim_vcpu *cpu, u16 sel, const struct desc *d) {
    if (long_mode(cpu) && (d->seg.attr & (SA_L | SA_DB)) == (SA_L | SA_DB))
        raise_fault(cpu, EXC_GP, SEL(sel));
}

/* Onto the stack of the code that runs. */
static u64 push_here(sim_vcpu *cpu, const struct frame *f) {
    if (cpu->mode == MODE64)
        return frame_push64(cpu, cpu->regs[RSP], access_level(cpu), 0, f);
    return frame_push(cpu, &cpu->seg[SS], cpu->regs[RSP], access_level(cpu), 0, f);
}

/* Rights to enter a code segment by JMP or CALL without a gate. */
static void check_code_direct(sim_vcpu *cpu, u16 sel, const struct desc *d) {
    unsigned dpl = seg_dpl(&d->seg);
    if (seg_conforming(&d->seg)) {
        if (dpl > cpu->cpl)
            raise_fault(cpu, EXC_GP, SEL(sel));
    } else if (sel_rpl(sel) > cpu->cpl || dpl != cpu->cpl) {
        raise_fault(cpu, EXC_GP, SEL(sel));
    }
    check_size(cpu, sel, d);
    if (!seg_present(&d->seg))
        raise_fault(cpu, EXC_NP, SEL(sel));
}

/* A gate or TSS named by JMP or CALL: privilege, then presence. */
static void check_system(sim_vcpu *cpu, u16 sel, const struct desc *d) {
    unsigned dpl = seg_dpl(&d->seg);
    if (dpl < cpu->cpl || sel_rpl(sel) > dpl)
        raise_fault(cpu, EXC_GP, SEL(sel));
}

static _Noreturn void to_task(sim_vcpu *cpu, const struct insn *i, u16 sel, const struct desc *d,
                              enum task_source source) {
    u16 tss = sel;
    check_system(cpu, sel, d);
    if ((d->seg.attr & SA_TYPE) == 5) { /* task gate */
        if (!seg_present(&d->seg))
            raise_fault(cpu, EXC_NP, SEL(sel));
        tss = (u16)(d->raw >> 16);
    }
    task_switch_exit(cpu, tss, source, false, 0, insn_next_ip(i));
}

/* The code segment behind a call gate. */
static u64 gate_target(sim_vcpu *cpu, u16 sel, struct desc *gate, struct desc *cs, bool call) {
    check_system(cpu, sel, gate);
    if (!desc_upper(cpu, sel, gate))
        raise_fault(cpu, EXC_GP, SEL(sel));
    if (!seg_present(&gate->seg))
        raise_fault(cpu, EXC_NP, SEL(sel));
    u16 target = (u16)(gate->raw >> 16);
    bool wide = (gate->seg.attr & 8) != 0;
    u64 off = (gate->raw & 0xffff) | (wide ? (gate->raw >> 32) & 0xffff0000 : 0);
    if (sel_null(target))
        raise_gp0(cpu);
    if (!desc_fetch(cpu, target, cs))
        raise_fault(cpu, EXC_GP, SEL(target));
    unsigned dpl = seg_dpl(&cs->seg);
    if (!seg_is_code(&cs->seg) || dpl > cpu->cpl)
        raise_fault(cpu, EXC_GP, SEL(target));
    if (long_mode(cpu)) {
        off |= (u64)gate->upper << 32;
        if ((cs->seg.attr & (SA_L | SA_DB)) != SA_L)
            raise_fault(cpu, EXC_GP, SEL(target));
    }
    if (!call && !seg_conforming(&cs->seg) && dpl != cpu->cpl)
        raise_fault(cpu, EXC_GP, SEL(target));
    if (!seg_present(&cs->seg))
        raise_fault(cpu, EXC_NP, SEL(target));
    return off;
}

enum { KIND_CODE, KIND_GATE, KIND_TASK };
static int far_kind(sim_vcpu *cpu, u16 sel, const struct desc *d) {
    if (seg_is_code(&d->seg))
        return KIND_CODE;
    if (d->seg.attr & SA_S)
        raise_fault(cpu, EXC_GP, SEL(sel));
    u32 type = d->seg.attr & SA_TYPE;
    if (long_mode(cpu) && type != 0xc)
        raise_fault(cpu, EXC_GP, SEL(sel));
    switch (type) {
    case 0x4:
    case 0xc:
        return KIND_GATE;
    case 0x1:
    case 0x5:
    case 0x9:
        return KIND_TASK;
    default:
        raise_fault(cpu, EXC_GP, SEL(sel));
    }
}

/* ---- JMP ----------------------------------------------------------------------------------------------------------
 */

static void far_jump(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    u16 sel;
    u64 off;
    far_operand(cpu, i, &sel, &off);
    if (!protected_mode(cpu)) {
        if (off > cpu->seg[CS].limit)
            raise_gp0(cpu);
        real_transfer(cpu, sel, off);
        RETIRE(cpu, i, cpu->rip);
        return;
    }
    struct desc d, cs;
    if (sel_null(sel))
        raise_gp0(cpu);
    if (!desc_fetch(cpu, sel, &d))
        raise_fault(cpu, EXC_GP, SEL(sel));
    switch (far_kind(cpu, sel, &d)) {
    case KIND_CODE:
        check_code_direct(cpu, sel, &d);
        cs = d;
        break;
    case KIND_GATE:
        off = gate_target(cpu, sel, &d, &cs, false);
        break;
    default:
        to_task(cpu, i, sel, &d, TASK_JMP);
    }
    check_offset(cpu, &cs.seg, off);
    desc_set_accessed(cpu, &cs);
    commit_cs(cpu, &cs, cpu->cpl, off);
    cpu_mode_changed(cpu);
    RETIRE(cpu, i, cpu->rip);
}
void op_jmp_far_imm(sim_vcpu *cpu, const struct insn *i) { far_jump(cpu, i); }
void op_jmp_far_mem(sim_vcpu *cpu, const struct insn *i) { far_jump(cpu, i); }

/* ---- CALL ---------------------------------------------------------------------------------------------------------
 */

/* To an inner level through a call gate of long mode: 64-bit stack from the TSS, no parameters. */
static void call_inner64(sim_vcpu *cpu, const struct insn *i, struct desc *cs, u64 off) {
    unsigned dpl = seg_dpl(&cs->seg);
    const struct seg *tr = &cpu->seg[TR];
    u32 at = 4 + dpl * 8;
    if (at + 7 > tr->limit)
        raise_fault(cpu, EXC_TS, SEL(tr->selector));
    u64 sp = sys_read(cpu, tr->base + at, 8);
    check_offset(cpu, &cs->seg, off);
    struct frame f = {
        .n = 4,
        .size = 8,
        .item = {cpu->seg[SS].selector, cpu->regs[RSP], cpu->seg[CS].selector, insn_next_ip(i)},
    };
    desc_set_accessed(cpu, cs);
    cpu->regs[RSP] = frame_push64(cpu, sp, level_of(cpu, dpl), 0, &f);
    seg_set_null_ss(cpu, dpl);
    commit_cs(cpu, cs, dpl, off);
    cpu_mode_changed(cpu);
}

static void call_gate(sim_vcpu *cpu, const struct insn *i, u16 sel, struct desc *gate) {
    struct desc cs;
    u64 off = gate_target(cpu, sel, gate, &cs, true);
    unsigned dpl = seg_dpl(&cs.seg), size = long_mode(cpu) ? 8 : (gate->seg.attr & 8) ? 4 : 2;
    struct frame f = {.n = 0, .size = size};
    if (seg_conforming(&cs.seg) || dpl == cpu->cpl) {
        check_offset(cpu, &cs.seg, off);
        f.item[f.n++] = cpu->seg[CS].selector;
        f.item[f.n++] = insn_next_ip(i);
        desc_set_accessed(cpu, &cs);
        cpu->regs[RSP] =
            long_mode(cpu) ? frame_push64(cpu, cpu->regs[RSP], access_level(cpu), 0, &f) : push_here(cpu, &f);
        commit_cs(cpu, &cs, cpu->cpl, off);
        cpu_mode_changed(cpu);
        return;
    }
    if (long_mode(cpu)) {
        call_inner64(cpu, i, &cs, off);
        return;
    }
    u16 ss_sel;
    u32 esp;
    struct desc ss;
    const struct seg *tr = &cpu->seg[TR];
    bool tss32 = (tr->attr & 8) != 0;
    u32 at = tss32 ? dpl * 8 + 4 : dpl * 4 + 2;
    if ((u64)at + (tss32 ? 5 : 3) > tr->limit)
        raise_fault(cpu, EXC_TS, SEL(tr->selector));
    esp = (u32)sys_read(cpu, tr->base + at, tss32 ? 4 : 2);
    ss_sel = (u16)sys_read(cpu, tr->base + at + (tss32 ? 4 : 2), 2);
    if (sel_null(ss_sel))
        raise_fault(cpu, EXC_TS, 0);
    if (!desc_fetch(cpu, ss_sel, &ss))
        raise_fault(cpu, EXC_TS, SEL(ss_sel));
    if (sel_rpl(ss_sel) != dpl || seg_dpl(&ss.seg) != dpl || !seg_is_wdata(&ss.seg))
        raise_fault(cpu, EXC_TS, SEL(ss_sel));
    if (!seg_present(&ss.seg))
        raise_fault(cpu, EXC_SS, SEL(ss_sel));
    if (off > cs.seg.limit)
        raise_gp0(cpu);

    unsigned params = (unsigned)(gate->raw >> 32) & 0x1f;
    u64 sp = get_sp(cpu, i);
    f.item[f.n++] = cpu->seg[SS].selector;
    f.item[f.n++] = cpu->regs[RSP];
    for (unsigned n = params; n-- > 0;)
        f.item[f.n++] = mem_read_slow(cpu, SS, (sp + n * size) & stack_mask(i), size);
    f.item[f.n++] = cpu->seg[CS].selector;
    f.item[f.n++] = insn_next_ip(i);
    desc_set_accessed(cpu, &cs);
    desc_set_accessed(cpu, &ss);
    u64 new_sp = frame_push(cpu, &ss.seg, esp, level_of(cpu, dpl), SEL(ss_sel), &f);
    cpu->seg[SS] = ss.seg;
    cpu->regs[RSP] = new_sp;
    commit_cs(cpu, &cs, dpl, off);
    cpu_mode_changed(cpu);
}

static void far_call(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    u16 sel;
    u64 off;
    far_operand(cpu, i, &sel, &off);
    struct frame f = {.n = 2, .size = 1u << i->osz, .item = {cpu->seg[CS].selector, insn_next_ip(i)}};
    if (!protected_mode(cpu)) {
        if (off > cpu->seg[CS].limit)
            raise_gp0(cpu);
        cpu->regs[RSP] = frame_push(cpu, &cpu->seg[SS], cpu->regs[RSP], access_level(cpu), 0, &f);
        real_transfer(cpu, sel, off);
        RETIRE(cpu, i, cpu->rip);
        return;
    }
    struct desc d;
    if (sel_null(sel))
        raise_gp0(cpu);
    if (!desc_fetch(cpu, sel, &d))
        raise_fault(cpu, EXC_GP, SEL(sel));
    switch (far_kind(cpu, sel, &d)) {
    case KIND_CODE:
        check_code_direct(cpu, sel, &d);
        check_offset(cpu, &d.seg, off);
        desc_set_accessed(cpu, &d);
        cpu->regs[RSP] = push_here(cpu, &f);
        commit_cs(cpu, &d, cpu->cpl, off);
        cpu_mode_changed(cpu);
        break;
    case KIND_GATE:
        call_gate(cpu, i, sel, &d);
        break;
    default:
        to_task(cpu, i, sel, &d, TASK_CALL);
    }
    RETIRE(cpu, i, cpu->rip);
}
void op_call_far_imm(sim_vcpu *cpu, const struct insn *i) { far_call(cpu, i); }
void op_call_far_mem(sim_vcpu *cpu, const struct insn *i) { far_call(cpu, i); }

/* ---- RET and IRET -------------------------------------------------------------------------------------------------
 */

/* Item n of the stack as it is now. */
static u64 stack_item(sim_vcpu *cpu, const struct insn *i, unsigned n, unsigned extra) {
    return ld_w(cpu, i, SS, (get_sp(cpu, i) + n * (1u << i->osz) + extra) & stack_mask(i), i->osz);
}

static void check_return_cs(sim_vcpu *cpu, u16 sel, struct desc *cs) {
    if (sel_null(sel))
        raise_gp0(cpu);
    if (!desc_fetch(cpu, sel, cs))
        raise_fault(cpu, EXC_GP, SEL(sel));
    unsigned rpl = sel_rpl(sel), dpl = seg_dpl(&cs->seg);
    if (!seg_is_code(&cs->seg) || rpl < cpu->cpl)
        raise_fault(cpu, EXC_GP, SEL(sel));
    if (seg_conforming(&cs->seg) ? dpl > rpl : dpl != rpl)
        raise_fault(cpu, EXC_GP, SEL(sel));
    check_size(cpu, sel, cs);
    if (!seg_present(&cs->seg))
        raise_fault(cpu, EXC_NP, SEL(sel));
}

/* The stack segment to return to with code segment `cs` at level `rpl`; null is one for 64-bit code inside ring 3. */
static void check_return_ss(sim_vcpu *cpu, u16 sel, unsigned rpl, const struct desc *cs, struct desc *ss) {
    if (sel_null(sel)) {
        if (!long_mode(cpu) || !(cs->seg.attr & SA_L) || rpl == 3 || sel_rpl(sel) != rpl)
            raise_gp0(cpu);
        seg_set_null(&ss->seg, sel);
        ss->seg.attr |= rpl << 5 | SA_ACC; /* nothing to set in memory */
        return;
    }
    if (!desc_fetch(cpu, sel, ss))
        raise_fault(cpu, EXC_GP, SEL(sel));
    if (sel_rpl(sel) != rpl || !seg_is_wdata(&ss->seg) || seg_dpl(&ss->seg) != rpl)
        raise_fault(cpu, EXC_GP, SEL(sel));
    if (!seg_present(&ss->seg))
        raise_fault(cpu, EXC_SS, SEL(sel));
}

/* The stack part of a return to an outer level: the new segment's size decides how much of the pointer is replaced. */
static void set_outer_sp(sim_vcpu *cpu, const struct desc *cs, const struct desc *ss, u64 sp) {
    cpu->seg[SS] = ss->seg;
    if (long_mode(cpu) && (cs->seg.attr & SA_L))
        cpu->regs[RSP] = sp;
    else if (ss->seg.attr & SA_DB)
        cpu->regs[RSP] = (u32)sp;
    else
        *reg16(cpu, RSP) = (u16)sp;
}

void op_ret_far(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    unsigned size = 1u << i->osz, release = (unsigned)(i->imm & 0xffff);
    u64 off = stack_item(cpu, i, 0, 0);
    u16 sel = (u16)stack_item(cpu, i, 1, 0);
    if (!protected_mode(cpu)) {
        if (off > cpu->seg[CS].limit)
            raise_gp0(cpu);
        drop(cpu, i, 2 * size + release);
        real_transfer(cpu, sel, off);
        RETIRE(cpu, i, cpu->rip);
        return;
    }
    struct desc cs, ss;
    check_return_cs(cpu, sel, &cs);
    unsigned rpl = sel_rpl(sel);
    if (rpl == cpu->cpl) {
        check_offset(cpu, &cs.seg, off);
        desc_set_accessed(cpu, &cs);
        drop(cpu, i, 2 * size + release);
        commit_cs(cpu, &cs, rpl, off);
    } else {
        u64 sp = stack_item(cpu, i, 2, release);
        u16 ss_sel = (u16)stack_item(cpu, i, 3, release);
        check_return_ss(cpu, ss_sel, rpl, &cs, &ss);
        check_offset(cpu, &cs.seg, off);
        desc_set_accessed(cpu, &cs);
        desc_set_accessed(cpu, &ss);
        set_outer_sp(cpu, &cs, &ss, sp + release);
        commit_cs(cpu, &cs, rpl, off);
        drop_inner_segments(cpu);
    }
    cpu_mode_changed(cpu);
    RETIRE(cpu, i, cpu->rip);
}

static void nmi_unmask(sim_vcpu *cpu) { cpu->ev.nmi_masked = 0; }

#define IRET_FLAGS (FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID)

/* IRET of long mode: the stack pointer comes back even without a change of level when 64-bit code returns; no tasks, no
 * V8086 mode.  keep: which EFLAGS bits the image has. */
static void iret_long(sim_vcpu *cpu, const struct insn *i, u32 keep) {
    if (cpu->eflags & FL_NT)
        raise_gp0(cpu);
    u64 off = stack_item(cpu, i, 0, 0), sp = 0;
    u16 sel = (u16)stack_item(cpu, i, 1, 0);
    u32 flags = (u32)stack_item(cpu, i, 2, 0);
    struct desc cs, ss;
    check_return_cs(cpu, sel, &cs);
    unsigned rpl = sel_rpl(sel);
    bool with_stack = cpu->mode == MODE64 || rpl != cpu->cpl;
    if (with_stack) {
        sp = stack_item(cpu, i, 3, 0);
        u16 ss_sel = (u16)stack_item(cpu, i, 4, 0);
        check_return_ss(cpu, ss_sel, rpl, &cs, &ss);
    }
    check_offset(cpu, &cs.seg, off);
    desc_set_accessed(cpu, &cs);
    u32 mask = IRET_FLAGS | (cpu->cpl <= iopl(cpu) ? FL_IF : 0) | (cpu->cpl == 0 ? FL_IOPL | FL_VIF | FL_VIP : 0);
    if (with_stack) {
        desc_set_accessed(cpu, &ss);
        set_outer_sp(cpu, &cs, &ss, sp);
    } else {
        drop(cpu, i, 3u << i->osz);
    }
    bool outer = rpl != cpu->cpl;
    commit_cs(cpu, &cs, rpl, off);
    if (outer)
        drop_inner_segments(cpu);
    nmi_unmask(cpu);
    cpu_set_eflags(cpu, flags, mask & keep);
    cpu_mode_changed(cpu);
    RETIRE(cpu, i, cpu->rip);
}

void op_iret(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    unsigned size = 1u << i->osz;
    u32 keep = i->osz == W16 ? 0xffff : 0xffffffff; /* which EFLAGS bits the image has */
    if (long_mode(cpu)) {
        iret_long(cpu, i, keep);
        return;
    }
    if (v86_mode(cpu) && iopl(cpu) < 3)
        raise_gp0(cpu);
    if (protected_mode(cpu) && (cpu->eflags & FL_NT)) {
        const struct seg *tr = &cpu->seg[TR];
        u16 link = (u16)sys_read(cpu, tr->base, 2);
        nmi_unmask(cpu);
        task_switch_exit(cpu, link, TASK_IRET, false, 0, insn_next_ip(i));
    }
    u64 off = stack_item(cpu, i, 0, 0);
    u16 sel = (u16)stack_item(cpu, i, 1, 0);
    u32 flags = (u32)stack_item(cpu, i, 2, 0);
    if (!protected_mode(cpu)) {
        if (off > cpu->seg[CS].limit)
            raise_gp0(cpu);
        u32 mask = IRET_FLAGS | FL_IF | (v86_mode(cpu) ? 0 : FL_IOPL);
        drop(cpu, i, 3 * size);
        nmi_unmask(cpu);
        cpu_set_eflags(cpu, flags, mask & keep);
        real_transfer(cpu, sel, off);
        RETIRE(cpu, i, cpu->rip);
        return;
    }
    u32 mask = IRET_FLAGS | (cpu->cpl <= iopl(cpu) ? FL_IF : 0) | (cpu->cpl == 0 ? FL_IOPL | FL_VIF | FL_VIP : 0);
    if (i->osz == W32 && (flags & FL_VM) && cpu->cpl == 0) { /* to V8086 mode */
        u16 s[6];
        u32 sp = (u32)stack_item(cpu, i, 3, 0);
        for (unsigned n = 0; n < 5; n++)
            s[n] = (u16)stack_item(cpu, i, 4 + n, 0); /* SS ES DS FS GS */
        if (off > 0xffff)
            raise_gp0(cpu);
        static const u8 order[5] = {SS, ES, DS, FS, GS};
        for (unsigned n = 0; n < 5; n++)
            seg_set_v86(&cpu->seg[order[n]], s[n]);
        seg_set_v86(&cpu->seg[CS], sel);
        cpu->seg[CS].attr = 0xfb;
        cpu->regs[RSP] = sp;
        cpu->rip = off;
        cpu->cpl = 3;
        nmi_unmask(cpu);
        cpu_set_eflags(cpu, flags, mask | FL_VM);
        cpu_mode_changed(cpu);
        RETIRE(cpu, i, cpu->rip);
        return;
    }
    struct desc cs, ss;
    check_return_cs(cpu, sel, &cs);
    unsigned rpl = sel_rpl(sel);
    if (rpl == cpu->cpl) {
        check_offset(cpu, &cs.seg, off);
        desc_set_accessed(cpu, &cs);
        drop(cpu, i, 3 * size);
        commit_cs(cpu, &cs, rpl, off);
    } else {
        u64 sp = stack_item(cpu, i, 3, 0);
        u16 ss_sel = (u16)stack_item(cpu, i, 4, 0);
        check_return_ss(cpu, ss_sel, rpl, &cs, &ss);
        check_offset(cpu, &cs.seg, off);
        desc_set_accessed(cpu, &cs);
        desc_set_accessed(cpu, &ss);
        set_outer_sp(cpu, &cs, &ss, sp);
        commit_cs(cpu, &cs, rpl, off);
        drop_inner_segments(cpu);
    }
    nmi_unmask(cpu);
    cpu_set_eflags(cpu, flags, mask & keep);
    cpu_mode_changed(cpu);
    RETIRE(cpu, i, cpu->rip);
}

/* ---- software interrupts -------------------------------------------------------------------------------------------
 */

static void soft_interrupt(sim_vcpu *cpu, const struct insn *i, unsigned vector, enum event_kind kind) {
    event_deliver(cpu, vector, kind, false, 0, insn_next_ip(i));
    RETIRE(cpu, i, cpu->rip);
    sys_state(cpu)->soft_interrupt_at = cpu->icount;
}

void op_int_n(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (v86_mode(cpu) && iopl(cpu) < 3)
        raise_gp0(cpu);
    soft_interrupt(cpu, i, (unsigned)i->imm & 0xff, EVENT_SOFT);
}

void op_int3(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if ((cpu->guest_debug & (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP)) ==
        (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP)) {
        cpu->exit.value = EXC_BP;
        cpu->exit.qualification = 0;
        vm_exit(cpu, EXIT_REASON_EXCEPTION_NMI);
    }
    soft_interrupt(cpu, i, EXC_BP, EVENT_SOFT);
}

void op_int1(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    soft_interrupt(cpu, i, EXC_DB, EVENT_ICEBP);
}

void op_into(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (cpu_eflags(cpu) & FL_OF)
        soft_interrupt(cpu, i, EXC_OF, EVENT_SOFT);
    else
        RETIRE(cpu, i, insn_next_ip(i));
}

/* ---- fast system calls ----------------------------------------------------------------------------------------------
 */

enum code_size { FLAT32, FLAT64 };

static void flat_segments(sim_vcpu *cpu, u16 cs, u16 ss, unsigned cpl, enum code_size size) {
    u32 sizes = size == FLAT64 ? SA_L : SA_DB;
    cpu->seg[CS] = (struct seg){.selector = cs, .limit = 0xffffffff, .attr = SA_G | sizes | 0x9b | cpl << 5};
    cpu->seg[SS] = (struct seg){.selector = ss, .limit = 0xffffffff, .attr = SA_G | SA_DB | 0x93 | cpl << 5};
    cpu->cpl = (u8)cpl;
    cpu_mode_changed(cpu);
}

/* AMD's processors have no SYSENTER in long mode, Intel's no SYSCALL outside 64-bit code. */
void op_sysenter(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (long_mode(cpu) && sys_state(cpu)->amd)
        raise_ud(cpu);
    if (!(cpu->cr0 & CR0_PE) || (cpu->sysenter_cs & 0xfffc) == 0)
        raise_gp0(cpu);
    u16 cs = (u16)(cpu->sysenter_cs & 0xfffc);
    cpu_set_eflags(cpu, 0, FL_VM | FL_IF | FL_RF);
    cpu->regs[RSP] = long_mode(cpu) ? cpu->sysenter_esp : (u32)cpu->sysenter_esp;
    cpu->rip = long_mode(cpu) ? cpu->sysenter_eip : (u32)cpu->sysenter_eip;
    flat_segments(cpu, cs, (u16)(cs + 8), 0, long_mode(cpu) ? FLAT64 : FLAT32);
    RETIRE(cpu, i, cpu->rip);
}

void op_sysexit(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (long_mode(cpu) && sys_state(cpu)->amd)
        raise_ud(cpu);
    if (!protected_mode(cpu) || cpu->cpl || (cpu->sysenter_cs & 0xfffc) == 0)
        raise_gp0(cpu);
    u16 base = (u16)(cpu->sysenter_cs & 0xfffc);
    if (i->osz == W64) {
        if (!canonical(cpu->regs[RCX]) || !canonical(cpu->regs[RDX]))
            raise_gp0(cpu);
        cpu->regs[RSP] = cpu->regs[RCX];
        cpu->rip = cpu->regs[RDX];
        flat_segments(cpu, (u16)((base + 32) | 3), (u16)((base + 40) | 3), 3, FLAT64);
    } else {
        cpu->regs[RSP] = (u32)cpu->regs[RCX];
        cpu->rip = (u32)cpu->regs[RDX];
        flat_segments(cpu, (u16)((base + 16) | 3), (u16)((base + 24) | 3), 3, FLAT32);
    }
    RETIRE(cpu, i, cpu->rip);
}

static void need_syscall(sim_vcpu *cpu) {
    if (!(cpu->efer & EFER_SCE) || !protected_mode(cpu) || (cpu->mode != MODE64 && !sys_state(cpu)->amd))
        raise_ud(cpu);
}

/* SYSCALL and SYSRET look at TF as it is afterwards: with it masked there is no trap in the kernel, and the program
 * that gets it back traps before its first instruction. */
static void syscall_trap(sim_vcpu *cpu) {
    sys_state(cpu)->soft_interrupt_at = cpu->icount;
    if (cpu->eflags & FL_TF)
        cpu->db_pending |= DR6_BS;
}

void op_syscall(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_syscall(cpu);
    u16 star = (u16)(cpu->star >> 32), cs = star & 0xfffc, ss = (u16)(star + 8); /* SS keeps the low bits */
    cpu->regs[RCX] = cpu->mode == MODE64 ? insn_next_ip(i) : (u32)insn_next_ip(i);
    if (long_mode(cpu)) {
        cpu->regs[R11] = cpu_eflags(cpu) & ~FL_RF;
        cpu->rip = cpu->mode == MODE64 ? cpu->lstar : cpu->cstar;
        cpu_set_eflags(cpu, 0, ((u32)cpu->fmask | FL_RF) & ~FL_1);
        flat_segments(cpu, cs, ss, 0, FLAT64);
    } else {
        cpu->rip = (u32)cpu->star;
        cpu_set_eflags(cpu, 0, FL_IF | FL_VM | FL_RF);
        flat_segments(cpu, cs, ss, 0, FLAT32);
    }
    RETIRE(cpu, i, cpu->rip);
    syscall_trap(cpu);
}

#define SYSRET_FLAGS (FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_VIF | FL_VIP | FL_ID)

void op_sysret(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    need_syscall(cpu);
    bool to64 = i->osz == W64;
    if (cpu->cpl || (to64 && !sys_state(cpu)->amd && !canonical(cpu->regs[RCX])))
        raise_gp0(cpu);
    u16 base = (u16)(cpu->star >> 48);
    cpu->rip = to64 ? cpu->regs[RCX] : (u32)cpu->regs[RCX];
    if (long_mode(cpu))
        cpu_set_eflags(cpu, (u32)cpu->regs[R11] & ~FL_RF, SYSRET_FLAGS | FL_RF);
    else
        cpu_set_eflags(cpu, FL_IF, FL_IF);
    flat_segments(cpu, (u16)((base + (to64 ? 16 : 0)) | 3), (u16)((base + 8) | 3), 3, to64 ? FLAT64 : FLAT32);
    RETIRE(cpu, i, cpu->rip);
    syscall_trap(cpu);
}
