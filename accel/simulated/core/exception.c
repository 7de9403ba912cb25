/* Exceptions and delivery through the IDT: error codes, the double-fault rules, shutdown.
 *
 * raise_fault() longjmps to the run loop, which calls exception_deliver().  A fault during a delivery comes the same
 * way; ev.delivering and ev.vector say what was under way, and combine() turns the pair into #DF or shutdown.
 */
#include "system.h"

bool vector_has_error(unsigned vector) {
    return vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC;
}

static bool contributory(unsigned vector) { return vector == EXC_DE || (vector >= EXC_TS && vector <= EXC_GP); }

/* Table "conditions for generating a double fault" of the SDM.  Returns the vector to deliver, -1 for shutdown. */
static int combine(unsigned first, unsigned second) {
    if (first == EXC_DF && (contributory(second) || second == EXC_PF))
        return -1;
    if ((contributory(first) && contributory(second)) ||
        (first == EXC_PF && (contributory(second) || second == EXC_PF)))
        return EXC_DF;
    return (int)second;
}

/* Is the event under way one for which error codes get EXT set? */
static u32 ext_bit(sim_vcpu *cpu) { return cpu->ev.delivering && sys_state(cpu)->kind != EVENT_SOFT; }

/* A hundred thousand faults in a row with at most this many instructions after each: no handler gets anywhere. */
#define LOOP_SPAN   64
#define LOOP_FAULTS 100000

static void note_fault(sim_vcpu *cpu, unsigned vector) {
    struct trouble *t = &cpu->trouble;
    t->in_a_row = cpu->icount - t->icount <= LOOP_SPAN ? t->in_a_row + 1 : 0;
    t->icount = cpu->icount;
    t->vector = (u8)vector;
    if (t->in_a_row == LOOP_FAULTS) {
        t->in_a_row = 0;
        atomic_store(&t->looping, 1);
        post_event(cpu, EV_KICK);
    }
}

unsigned sim_vcpu_fault_chain(sim_vcpu *cpu, uint8_t out[3]) {
    memcpy(out, cpu->trouble.chain, sizeof cpu->trouble.chain);
    return cpu->trouble.chained;
}

int sim_vcpu_fault_loop(sim_vcpu *cpu) { return atomic_exchange(&cpu->trouble.looping, 0) ? cpu->trouble.vector : -1; }

_Noreturn void raise_fault(sim_vcpu *cpu, unsigned vector, u32 error) {
    cpu->replay.n = cpu->replay.pos = 0;
    cpu->replay.pio_done = 0;
    cpu->db_pending = 0;
    cpu->shadow_new = 0;
    sys_state(cpu)->task.pending = false;
    if (!cpu->ev.delivering)
        cpu->trouble.chained = 0;
    if (cpu->trouble.chained < sizeof cpu->trouble.chain)
        cpu->trouble.chain[cpu->trouble.chained++] = (u8)vector;
    if (cpu->ev.delivering) {
        if (vector >= EXC_TS && vector <= EXC_GP)
            error |= ext_bit(cpu);
        if (sys_state(cpu)->kind == EVENT_FAULT || sys_state(cpu)->kind == EVENT_TRAP) {
            int v = combine(cpu->ev.vector, vector);
            if (v < 0) {
                cpu->ev.delivering = 0;
                cpu->fault.pending = 0;
                vm_exit(cpu, EXIT_REASON_TRIPLE_FAULT);
            }
            if ((unsigned)v != vector) {
                if (vector == EXC_PF)
                    cpu->cr2 = cpu->fault.cr2; /* the #DF's handler sees the address of the second page fault */
                vector = (unsigned)v;
                error = 0;
            }
        }
    }
    cpu->fault.pending = 1;
    cpu->fault.vector = (u8)vector;
    cpu->fault.has_error = vector_has_error(vector) && !real_mode(cpu);
    cpu->fault.soft = 0;
    cpu->fault.error = error;
    longjmp(cpu->jmp, JMP_FAULT);
}

void queue_fault(sim_vcpu *cpu, unsigned vector, u32 error) {
    cpu->fault.pending = 1;
    cpu->fault.vector = (u8)vector;
    cpu->fault.has_error = vector_has_error(vector) && !real_mode(cpu);
    cpu->fault.soft = 0;
    cpu->fault.error = error;
}

void exception_deliver(sim_vcpu *cpu) {
    unsigned vector = cpu->fault.vector;
    note_fault(cpu, vector);
    if (vector == EXC_PF)
        cpu->cr2 = cpu->fault.cr2;
    if ((cpu->guest_debug & KVM_GUESTDBG_ENABLE) && vector == EXC_DB &&
        (cpu->guest_debug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)) && !cpu->ev.delivering) {
        /* user space debugs the guest: the debug exception is its own */
        cpu->fault.pending = 0;
        cpu->exit.value = vector;
        cpu->exit.qualification = cpu->dr[6];
        vm_exit(cpu, EXIT_REASON_EXCEPTION_NMI);
    }
    if (vector == EXC_DB)
        cpu->dr[7] &= ~(u64)0x2000; /* general detect */
    bool has_error = cpu->fault.has_error;
    event_deliver(cpu, vector, EVENT_FAULT, has_error, cpu->fault.error, cpu->rip);
    cpu->fault.pending = 0;
}

/* ---- real mode ---- */

static void deliver_real(sim_vcpu *cpu, unsigned vector, u64 return_rip) {
    if (vector * 4 + 3 > cpu->idt.limit)
        raise_fault(cpu, EXC_GP, vector * 8 + 2);
    u32 entry = (u32)sys_read(cpu, cpu->idt.base + vector * 4, 4);
    struct frame f = {.n = 3, .size = 2, .item = {cpu_eflags(cpu), cpu->seg[CS].selector, return_rip}};
    u64 sp = frame_push(cpu, &cpu->seg[SS], cpu->regs[RSP], LEVEL_SYSTEM, 0, &f);
    cpu->regs[RSP] = sp;
    cpu_set_eflags(cpu, 0, FL_IF | FL_TF | FL_AC | FL_RF);
    cpu->seg[CS].selector = (u16)(entry >> 16);
    cpu->seg[CS].base = (entry >> 16) << 4;
    cpu->rip = entry & 0xffff;
    cpu_mode_changed(cpu);
}

/* ---- protected mode ---- */

#define GATE_TASK  0x5
#define GATE_INT16 0x6
#define GATE_INT32 0xe /* 3-bit set: interrupt 6, E; trap 7, F */

/* SS:ESP for privilege level `dpl` out of the TSS. */
static void tss_stack(sim_vcpu *cpu, unsigned dpl, u32 ext, u16 *ss, u32 *esp) {
    const struct seg *tr = &cpu->seg[TR];
    if ((tr->attr & SA_TYPE) & 8) { /* 32-bit TSS */
        u32 at = dpl * 8 + 4;
        if ((u64)at + 5 > tr->limit)
            raise_fault(cpu, EXC_TS, SEL(tr->selector) | ext);
        sys_probe(cpu, tr->base + at, 6, false);
        *esp = (u32)sys_read(cpu, tr->base + at, 4);
        *ss = (u16)sys_read(cpu, tr->base + at + 4, 2);
    } else {
        u32 at = dpl * 4 + 2;
        if ((u64)at + 3 > tr->limit)
            raise_fault(cpu, EXC_TS, SEL(tr->selector) | ext);
        sys_probe(cpu, tr->base + at, 4, false);
        *esp = (u32)sys_read(cpu, tr->base + at, 2);
        *ss = (u16)sys_read(cpu, tr->base + at + 2, 2);
    }
}

/* What both modes ask of a gate with these attributes before they use it. */
static void gate_check(sim_vcpu *cpu, u32 attr, enum event_kind kind, u32 idt_error) {
    if (kind == EVENT_SOFT && ((attr & SA_DPL) >> 5) < cpu->cpl)
        raise_fault(cpu, EXC_GP, idt_error);
    if (!(attr & SA_P))
        raise_fault(cpu, EXC_NP, idt_error);
}

/* The handler's code segment.  Returns its DPL. */
static unsigned gate_code(sim_vcpu *cpu, u16 sel, u32 ext, struct desc *cs) {
    if (sel_null(sel))
        raise_fault(cpu, EXC_GP, ext);
    if (!desc_fetch(cpu, sel, cs))
        raise_fault(cpu, EXC_GP, SEL(sel) | ext);
    unsigned dpl = seg_dpl(&cs->seg);
    if (!seg_is_code(&cs->seg) || dpl > cpu->cpl || (long_mode(cpu) && (cs->seg.attr & (SA_L | SA_DB)) != SA_L))
        raise_fault(cpu, EXC_GP, SEL(sel) | ext);
    if (!seg_present(&cs->seg))
        raise_fault(cpu, EXC_NP, SEL(sel) | ext);
    return dpl;
}

/* The flags that the frame holds: RF is set for what restarts its instruction, kept for what comes between two. */
static u32 frame_flags(sim_vcpu *cpu, enum event_kind kind) {
    u32 flags = cpu_eflags(cpu);
    return kind == EVENT_FAULT ? flags | FL_RF : kind == EVENT_EXTERNAL ? flags : flags & ~(u32)FL_RF;
}

static void deliver_protected(sim_vcpu *cpu, unsigned vector, enum event_kind kind, bool has_error, u32 error,
                              u64 return_rip) {
    u32 ext = kind != EVENT_SOFT, idt_error = vector * 8 + 2 + ext;
    if (vector * 8 + 7 > cpu->idt.limit)
        raise_fault(cpu, EXC_GP, idt_error);
    u64 gate = sys_read(cpu, cpu->idt.base + vector * 8, 8);
    u32 attr = (u32)(gate >> 40) & 0xff;
    unsigned type = attr & 0x1f; /* with S */
    if (type != GATE_TASK && (type & ~9u) != GATE_INT16)
        raise_fault(cpu, EXC_GP, idt_error);
    gate_check(cpu, attr, kind, idt_error);
    u16 sel = (u16)(gate >> 16);
    if (type == GATE_TASK)
        task_switch_exit(cpu, sel, TASK_GATE, has_error, error, return_rip);

    bool wide = (type & 8) != 0;
    u32 offset = (u32)(gate & 0xffff) | (wide ? (u32)(gate >> 32) & 0xffff0000 : 0);
    struct desc cs;
    unsigned dpl = gate_code(cpu, sel, ext, &cs);
    u32 flags = frame_flags(cpu, kind);
    struct frame f = {.n = 0, .size = wide ? 4 : 2};
    bool vm = v86_mode(cpu);
    struct seg new_ss = cpu->seg[SS];
    u64 sp;
    unsigned new_cpl = cpu->cpl;
    if (!seg_conforming(&cs.seg) && dpl < cpu->cpl) {
        u16 ss_sel;
        u32 esp;
        struct desc ss;
        if (vm && dpl != 0)
            raise_fault(cpu, EXC_GP, SEL(sel) | ext);
        tss_stack(cpu, dpl, ext, &ss_sel, &esp);
        if (sel_null(ss_sel))
            raise_fault(cpu, EXC_TS, ext);
        if (!desc_fetch(cpu, ss_sel, &ss))
            raise_fault(cpu, EXC_TS, SEL(ss_sel) | ext);
        if (sel_rpl(ss_sel) != dpl || seg_dpl(&ss.seg) != dpl || !seg_is_wdata(&ss.seg))
            raise_fault(cpu, EXC_TS, SEL(ss_sel) | ext);
        if (!seg_present(&ss.seg))
            raise_fault(cpu, EXC_SS, SEL(ss_sel) | ext);
        if (offset > cs.seg.limit)
            raise_fault(cpu, EXC_GP, ext);
        if (vm) {
            f.item[f.n++] = cpu->seg[GS].selector;
            f.item[f.n++] = cpu->seg[FS].selector;
            f.item[f.n++] = cpu->seg[DS].selector;
            f.item[f.n++] = cpu->seg[ES].selector;
        }
        f.item[f.n++] = cpu->seg[SS].selector;
        f.item[f.n++] = cpu->regs[RSP];
        f.item[f.n++] = flags;
        f.item[f.n++] = cpu->seg[CS].selector;
        f.item[f.n++] = return_rip;
        if (has_error)
            f.item[f.n++] = error;
        desc_set_accessed(cpu, &cs);
        desc_set_accessed(cpu, &ss);
        new_ss = ss.seg;
        new_cpl = dpl;
        sp = frame_push(cpu, &new_ss, esp, level_of(cpu, dpl), SEL(ss_sel) | ext, &f);
    } else {
        if (vm)
            raise_fault(cpu, EXC_GP, SEL(sel) | ext);
        if (!seg_conforming(&cs.seg) && dpl != cpu->cpl)
            raise_fault(cpu, EXC_GP, SEL(sel) | ext);
        if (offset > cs.seg.limit)
            raise_fault(cpu, EXC_GP, ext);
        f.item[f.n++] = flags;
        f.item[f.n++] = cpu->seg[CS].selector;
        f.item[f.n++] = return_rip;
        if (has_error)
            f.item[f.n++] = error;
        desc_set_accessed(cpu, &cs);
        sp = frame_push(cpu, &new_ss, cpu->regs[RSP], access_level(cpu), ext, &f);
    }
    cpu->regs[RSP] = sp;
    if (new_cpl != cpu->cpl)
        cpu->seg[SS] = new_ss;
    cpu->seg[CS] = cs.seg;
    cpu->seg[CS].selector = (u16)(SEL(sel) | new_cpl);
    cpu->cpl = (u8)new_cpl;
    cpu->rip = offset;
    cpu_set_eflags(cpu, 0, FL_TF | FL_VM | FL_RF | FL_NT | ((type & 1) ? 0 : FL_IF));
    if (vm) {
        static const u8 data[4] = {GS, FS, DS, ES};
        for (unsigned n = 0; n < 4; n++)
            seg_set_null(&cpu->seg[data[n]], 0);
    }
    cpu_mode_changed(cpu);
}

/* ---- long mode ---- */

/* The stack pointer at `at` in the 64-bit TSS: RSP0 to RSP2, or one of the interrupt stack table. */
static u64 tss_stack64(sim_vcpu *cpu, u32 at, u32 ext) {
    const struct seg *tr = &cpu->seg[TR];
    if (at + 7 > tr->limit)
        raise_fault(cpu, EXC_TS, SEL(tr->selector) | ext);
    return sys_read(cpu, tr->base + at, 8);
}

static void deliver_long(sim_vcpu *cpu, unsigned vector, enum event_kind kind, bool has_error, u32 error,
                         u64 return_rip) {
    u32 ext = kind != EVENT_SOFT, idt_error = vector * 8 + 2 + ext;
    if (vector * 16 + 15 > cpu->idt.limit)
        raise_fault(cpu, EXC_GP, idt_error);
    u64 gate = sys_read(cpu, cpu->idt.base + vector * 16, 8), high = sys_read(cpu, cpu->idt.base + vector * 16 + 8, 8);
    u32 attr = (u32)(gate >> 40) & 0xff;
    if ((attr & 0x1e) != GATE_INT32)
        raise_fault(cpu, EXC_GP, idt_error);
    gate_check(cpu, attr, kind, idt_error);

    u16 sel = (u16)(gate >> 16);
    u64 offset = (gate & 0xffff) | ((gate >> 32) & 0xffff0000) | high << 32;
    struct desc cs;
    unsigned dpl = gate_code(cpu, sel, ext, &cs);
    u32 flags = frame_flags(cpu, kind);
    bool inner = !seg_conforming(&cs.seg) && dpl < cpu->cpl;
    unsigned new_cpl = inner ? dpl : cpu->cpl, ist = (unsigned)(gate >> 32) & 7;
    u64 sp = cpu->regs[RSP];
    if (ist)
        sp = tss_stack64(cpu, 0x1c + ist * 8, ext);
    else if (inner)
        sp = tss_stack64(cpu, 4 + dpl * 8, ext);
    if (!canonical(offset))
        raise_fault(cpu, EXC_GP, ext);
    struct frame f = {
        .n = 5, .size = 8, .item = {cpu->seg[SS].selector, cpu->regs[RSP], flags, cpu->seg[CS].selector, return_rip}};
    if (has_error)
        f.item[f.n++] = error;
    desc_set_accessed(cpu, &cs);
    cpu->regs[RSP] = frame_push64(cpu, sp & ~(u64)15, level_of(cpu, new_cpl), ext, &f);
    if (inner)
        seg_set_null_ss(cpu, new_cpl);
    cpu->seg[CS] = cs.seg;
    cpu->seg[CS].selector = (u16)(SEL(sel) | new_cpl);
    cpu->cpl = (u8)new_cpl;
    cpu->rip = offset;
    cpu->eflags &= ~(FL_TF | FL_VM | FL_RF | FL_NT | ((attr & 1) ? 0 : FL_IF));
    cpu_mode_changed(cpu);
}

void event_deliver(sim_vcpu *cpu, unsigned vector, enum event_kind kind, bool has_error, u32 error, u64 return_rip) {
    cpu->ev.delivering = 1;
    cpu->ev.vector = (u8)vector;
    sys_state(cpu)->kind = (u8)kind;
    if (real_mode(cpu))
        deliver_real(cpu, vector, return_rip);
    else if (long_mode(cpu))
        deliver_long(cpu, vector, kind, has_error, error, return_rip);
    else
        deliver_protected(cpu, vector, kind, has_error, error, return_rip);
    cpu->ev.delivering = 0;
    cpu->shadow = cpu->shadow_new = 0;
    cpu->replay.n = cpu->replay.pos = 0;
    update_step(cpu);
}

_Noreturn void raise_mf(sim_vcpu *cpu) { raise_fault(cpu, EXC_MF, 0); }
