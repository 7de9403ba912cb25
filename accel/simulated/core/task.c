/* Hardware task switching, 16- and 32-bit TSS: JMP, CALL, IRET with NT, and task gates.
 *
 * The instruction (or the delivery through a task gate) leaves the guest with TASK_SWITCH; the handler lets it in again
 * and the switch is made there, before the next instruction, where faults can be raised.  Faults up to the commit point
 * are the outgoing task's, later ones the incoming task's (its EIP).
 */
#include "system.h"

_Noreturn void task_switch_exit(sim_vcpu *cpu, u16 sel, enum task_source source, bool has_error, u32 error,
                                u64 return_rip) {
    struct system_state *s = sys_state(cpu);
    s->task.pending = true;
    s->task.sel = sel;
    s->task.source = (u8)source;
    s->task.has_error = has_error;
    s->task.error = error;
    s->task.return_rip = return_rip;
    cpu->fault.pending = 0; /* now the switch is what is left of it */
    cpu->exit.qualification = sel | (u64)source << 30;
    vm_exit(cpu, EXIT_REASON_TASK_SWITCH);
}

/* Where things lie in a TSS, 32-bit then 16-bit. */
struct tss_layout {
    u8 size, ip, flags, regs, segs, nsegs, ldt, step;
    u32 min_limit;
};
static const struct tss_layout layout32 = {4, 0x20, 0x24, 0x28, 0x48, 6, 0x60, 4, 0x67};
static const struct tss_layout layout16 = {2, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a, 2, 0x2b};
static const u8 seg_order[6] = {ES, CS, SS, DS, FS, GS};

static void load_ldt(sim_vcpu *cpu, u16 sel, u32 ext) {
    seg_set_null(&cpu->seg[LDTR], sel);
    if (sel_null(sel))
        return;
    struct desc d;
    if ((sel & 4) || !desc_fetch(cpu, sel, &d) || (d.seg.attr & (SA_S | SA_TYPE)) != 2 || !seg_present(&d.seg))
        raise_fault(cpu, EXC_TS, SEL(sel) | ext);
    cpu->seg[LDTR] = d.seg;
}

static void load_code(sim_vcpu *cpu, u16 sel, u32 ext) {
    struct desc d;
    if (sel_null(sel))
        raise_fault(cpu, EXC_TS, ext);
    if (!desc_fetch(cpu, sel, &d) || !seg_is_code(&d.seg))
        raise_fault(cpu, EXC_TS, SEL(sel) | ext);
    unsigned dpl = seg_dpl(&d.seg), rpl = sel_rpl(sel);
    if (seg_conforming(&d.seg) ? dpl > rpl : dpl != rpl)
        raise_fault(cpu, EXC_TS, SEL(sel) | ext);
    if (!seg_present(&d.seg))
        raise_fault(cpu, EXC_NP, SEL(sel) | ext);
    desc_set_accessed(cpu, &d);
    cpu->seg[CS] = d.seg;
}

static void load_stack(sim_vcpu *cpu, u16 sel, u32 ext) {
    struct desc d;
    if (sel_null(sel))
        raise_fault(cpu, EXC_TS, ext);
    if (!desc_fetch(cpu, sel, &d) || !seg_is_wdata(&d.seg) || seg_dpl(&d.seg) != cpu->cpl || sel_rpl(sel) != cpu->cpl)
        raise_fault(cpu, EXC_TS, SEL(sel) | ext);
    if (!seg_present(&d.seg))
        raise_fault(cpu, EXC_SS, SEL(sel) | ext);
    desc_set_accessed(cpu, &d);
    cpu->seg[SS] = d.seg;
}

static void load_data(sim_vcpu *cpu, unsigned seg, u16 sel, u32 ext) {
    struct desc d;
    if (sel_null(sel))
        return;
    if (!desc_fetch(cpu, sel, &d) || !(d.seg.attr & SA_S) || (seg_is_code(&d.seg) && !(d.seg.attr & SA_RW)))
        raise_fault(cpu, EXC_TS, SEL(sel) | ext);
    if (!(seg_is_code(&d.seg) && seg_conforming(&d.seg)) &&
        (sel_rpl(sel) > seg_dpl(&d.seg) || cpu->cpl > seg_dpl(&d.seg)))
        raise_fault(cpu, EXC_TS, SEL(sel) | ext);
    if (!seg_present(&d.seg))
        raise_fault(cpu, EXC_NP, SEL(sel) | ext);
    desc_set_accessed(cpu, &d);
    cpu->seg[seg] = d.seg;
}

void task_switch(sim_vcpu *cpu) {
    struct system_state *st = sys_state(cpu);
    u16 sel = st->task.sel;
    enum task_source source = (enum task_source)st->task.source;
    u32 ext = source == TASK_GATE && st->kind != EVENT_SOFT;
    unsigned bad = source == TASK_IRET ? EXC_TS : EXC_GP;

    /* The new TSS. */
    struct desc d;
    if (sel_null(sel))
        raise_fault(cpu, bad, ext);
    if ((sel & 4) || !desc_fetch(cpu, sel, &d))
        raise_fault(cpu, bad, SEL(sel) | ext);
    u32 want = source == TASK_IRET ? 3 : 1; /* busy : available, bit 3 for 32 bits */
    if ((d.seg.attr & (SA_S | SA_TYPE) & ~8u) != want)
        raise_fault(cpu, bad, SEL(sel) | ext);
    if (!seg_present(&d.seg))
        raise_fault(cpu, EXC_NP, SEL(sel) | ext);
    const struct tss_layout *to = (d.seg.attr & 8) ? &layout32 : &layout16;
    if (d.seg.limit < to->min_limit)
        raise_fault(cpu, EXC_TS, SEL(sel) | ext);

    /* Everything that may fault in the outgoing task's name. */
    const struct seg *tr = &cpu->seg[TR];
    const struct tss_layout *from = (tr->attr & 8) ? &layout32 : &layout16;
    u64 old_desc = cpu->gdt.base + SEL(tr->selector);
    bool nested = source == TASK_CALL || source == TASK_GATE;
    sys_probe(cpu, tr->base, from->min_limit + 1, true);
    sys_probe(cpu, d.seg.base, to->min_limit + 1, false);
    if (nested)
        sys_probe(cpu, d.seg.base, 2, true); /* the back link is all that is written there */
    if (!nested)
        sys_probe(cpu, old_desc + 5, 1, true);
    if (source != TASK_IRET)
        sys_probe(cpu, d.lin + 5, 1, true);

    u64 base = d.seg.base;
    u32 ip = (u32)sys_read(cpu, base + to->ip, to->size), flags = (u32)sys_read(cpu, base + to->flags, to->size),
        regs[8];
    u16 segs[6] = {0}, ldt = (u16)sys_read(cpu, base + to->ldt, 2);
    for (unsigned n = 0; n < 8; n++)
        regs[n] = (u32)sys_read(cpu, base + to->regs + n * to->step, to->size);
    for (unsigned n = 0; n < to->nsegs; n++)
        segs[n] = (u16)sys_read(cpu, base + to->segs + n * to->step, 2);
    u64 cr3 = to->size == 4 ? sys_read(cpu, base + 0x1c, 4) : 0;
    bool trap = to->size == 4 && (sys_read(cpu, base + 0x64, 2) & 1);

    /* Save the outgoing task. */
    u32 saved = cpu_eflags(cpu);
    if (source == TASK_IRET)
        saved &= ~FL_NT;
    if (source == TASK_GATE && st->kind == EVENT_FAULT)
        saved |= FL_RF;
    sys_write(cpu, tr->base + from->ip, from->size, st->task.return_rip);
    sys_write(cpu, tr->base + from->flags, from->size, saved);
    for (unsigned n = 0; n < 8; n++)
        sys_write(cpu, tr->base + from->regs + n * from->step, from->size, cpu->regs[n]);
    for (unsigned n = 0; n < from->nsegs; n++)
        sys_write(cpu, tr->base + from->segs + n * from->step, 2, cpu->seg[seg_order[n]].selector);
    if (!nested)
        sys_and8(cpu, old_desc + 5, (u8)~2u);
    if (nested)
        sys_write(cpu, base, 2, tr->selector);
    if (source != TASK_IRET)
        sys_or8(cpu, d.lin + 5, 2);

    /* Commit: from here on the new task runs. */
    st->task.pending = false;
    d.seg.attr |= 2;
    cpu->seg[TR] = d.seg;
    cpu->cr0 |= CR0_TS;
    for (unsigned n = 0; n < 8; n++)
        cpu->regs[n] = to->size == 4 ? regs[n] : ((u32)cpu->regs[n] & 0xffff0000) | regs[n];
    cpu->rip = ip;
    if (nested)
        flags |= FL_NT;
    cpu_set_eflags(cpu, flags,
                   to->size == 4 ? FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_ID
                                 : 0xffff);
    if (to->size == 2)
        cpu_set_eflags(cpu, 0, FL_VM | FL_RF | FL_AC);
    cpu->dr[7] &= ~(u64)0x155;
    for (unsigned n = 0; n < 6; n++) {
        struct seg *s = &cpu->seg[seg_order[n]];
        if (cpu->eflags & FL_VM)
            seg_set_v86(s, segs[n]);
        else
            seg_set_null(s, segs[n]);
    }
    seg_set_null(&cpu->seg[LDTR], ldt);
    cpu->cpl = (cpu->eflags & FL_VM) ? 3 : (u8)sel_rpl(segs[1]);
    if (cpu->eflags & FL_VM)
        cpu->seg[CS].attr = 0xfb;
    cpu->seg[SS].attr |= (u32)cpu->cpl << 5;
    if (to->size == 4 && (cpu->cr0 & CR0_PG)) {
        if (!set_cr3(cpu, cr3))
            raise_fault(cpu, EXC_TS, SEL(sel) | ext);
    }
    tlb_breakpoints_changed(cpu);
    cpu_mode_changed(cpu);
    cpu->icount++;

    /* Descriptors: faults are the new task's. */
    load_ldt(cpu, ldt, ext);
    if (!(cpu->eflags & FL_VM)) {
        load_code(cpu, segs[1], ext);
        load_stack(cpu, segs[2], ext);
        static const u8 data[4] = {0, 3, 4, 5};
        for (unsigned n = 0; n < 4; n++)
            load_data(cpu, seg_order[data[n]], segs[data[n]], ext);
    }
    cpu_mode_changed(cpu);
    if (ip > cpu->seg[CS].limit)
        raise_fault(cpu, EXC_GP, ext);
    if (st->task.has_error) {
        struct frame f = {.n = 1, .size = to->size, .item = {st->task.error}};
        cpu->regs[RSP] = frame_push(cpu, &cpu->seg[SS], cpu->regs[RSP], access_level(cpu), ext, &f);
    }
    cpu->ev.delivering = 0;
    cpu->shadow = cpu->shadow_new = 0;
    cpu->replay.n = cpu->replay.pos = 0;
    if (trap)
        cpu->db_pending |= 0x8000;
    update_step(cpu);
}
