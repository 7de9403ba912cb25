/* Segment registers: descriptors, loads with all their checks, and the instructions about segments. */
#include "access.h"
#include "ops.h"
#include "system.h"

void desc_to_seg(u16 sel, u64 raw, struct seg *s) {
    s->selector = sel;
    s->base = ((raw >> 16) & 0xffffff) | ((raw >> 56) << 24);
    s->limit = (u32)((raw & 0xffff) | ((raw >> 32) & 0xf0000));
    s->attr = (u32)((raw >> 40) & 0xff) | (u32)((raw >> 52) & 0xf) << 12;
    if (s->attr & SA_G)
        s->limit = s->limit << 12 | 0xfff;
    s->rmax = s->wmax = 0;
}

bool desc_fetch(sim_vcpu *cpu, u16 sel, struct desc *d) {
    u64 base = cpu->gdt.base;
    u32 limit = cpu->gdt.limit;
    if (sel & 4) {
        if (cpu->seg[LDTR].attr & SA_UNUSABLE || sel_null(cpu->seg[LDTR].selector))
            return false;
        base = cpu->seg[LDTR].base;
        limit = cpu->seg[LDTR].limit;
    }
    if ((u32)(sel | 7) > limit)
        return false;
    d->lin = base + (sel & 0xfff8);
    d->raw = sys_read(cpu, d->lin, 8);
    desc_to_seg(sel, d->raw, &d->seg);
    return true;
}

void desc_set_accessed(sim_vcpu *cpu, struct desc *d) {
    if (d->seg.attr & SA_ACC)
        return;
    sys_or8(cpu, d->lin + 5, SA_ACC);
    d->seg.attr |= SA_ACC;
}

void seg_set_v86(struct seg *s, u16 sel) {
    s->selector = sel;
    s->base = (u32)sel << 4;
    s->limit = 0xffff;
    s->attr = 0xf3; /* present, DPL 3, writable data, accessed */
}

void seg_set_null(struct seg *s, u16 sel) {
    s->selector = sel;
    s->base = 0;
    s->limit = 0;
    s->attr = SA_UNUSABLE;
}

void seg_set_null_ss(sim_vcpu *cpu, unsigned cpl) {
    seg_set_null(&cpu->seg[SS], (u16)cpl);
    cpu->seg[SS].attr |= (u32)cpl << 5;
}

bool desc_upper(sim_vcpu *cpu, u16 sel, struct desc *d) {
    if (!long_mode(cpu))
        return true;
    struct desc upper;
    if ((u32)(sel | 7) + 8 > ((sel & 4) ? cpu->seg[LDTR].limit : cpu->gdt.limit))
        return false;
    upper.raw = sys_read(cpu, d->lin + 8, 8);
    if ((upper.raw >> 40) & 0x1f) /* where a type would be */
        return false;
    d->seg.base |= upper.raw << 32;
    d->upper = (u32)upper.raw;
    return true;
}

void load_segment_real(sim_vcpu *cpu, unsigned seg, u16 sel) {
    struct seg *s = &cpu->seg[seg];
    if (v86_mode(cpu)) {
        seg_set_v86(s, sel);
    } else { /* limit and rights stay: "unreal" mode */
        s->selector = sel;
        s->base = (u32)sel << 4;
        if (s->attr & SA_UNUSABLE)
            s->attr = 0x93, s->limit = 0xffff;
    }
    seg_update(cpu, s);
}

static void segment_loaded(sim_vcpu *cpu, unsigned seg) {
    if (seg == SS)
        cpu_mode_changed(cpu); /* the stack's size is part of how code decodes */
    else
        seg_update(cpu, &cpu->seg[seg]);
}

void load_segment(sim_vcpu *cpu, unsigned seg, u16 sel) {
    if (!protected_mode(cpu)) {
        load_segment_real(cpu, seg, sel);
        return;
    }
    struct seg *s = &cpu->seg[seg];
    if (sel_null(sel)) {
        if (seg == SS && (cpu->mode != MODE64 || cpu->cpl == 3 || sel_rpl(sel) != cpu->cpl))
            raise_gp0(cpu);
        seg_set_null(s, sel);
        if (seg == SS)
            s->attr = SA_UNUSABLE | (u32)cpu->cpl << 5;
        segment_loaded(cpu, seg);
        return;
    }
    struct desc d;
    if (!desc_fetch(cpu, sel, &d))
        raise_fault(cpu, EXC_GP, SEL(sel));
    unsigned dpl = seg_dpl(&d.seg), rpl = sel_rpl(sel);
    if (seg == SS) {
        if (rpl != cpu->cpl || !seg_is_wdata(&d.seg) || dpl != cpu->cpl)
            raise_fault(cpu, EXC_GP, SEL(sel));
        if (!seg_present(&d.seg))
            raise_fault(cpu, EXC_SS, SEL(sel));
    } else {
        if (!(d.seg.attr & SA_S) || (seg_is_code(&d.seg) && !(d.seg.attr & SA_RW)))
            raise_fault(cpu, EXC_GP, SEL(sel));
        if (!(seg_is_code(&d.seg) && seg_conforming(&d.seg)) && (rpl > dpl || cpu->cpl > dpl))
            raise_fault(cpu, EXC_GP, SEL(sel));
        if (!seg_present(&d.seg))
            raise_fault(cpu, EXC_NP, SEL(sel));
    }
    desc_set_accessed(cpu, &d);
    *s = d.seg;
    segment_loaded(cpu, seg);
}

void drop_inner_segments(sim_vcpu *cpu) {
    static const u8 data[4] = {ES, FS, GS, DS};
    for (unsigned n = 0; n < 4; n++) {
        struct seg *s = &cpu->seg[data[n]];
        if (s->attr & SA_UNUSABLE)
            continue;
        if (seg_is_code(s) && seg_conforming(s))
            continue;
        if (seg_dpl(s) < cpu->cpl) {
            seg_set_null(s, 0);
            seg_update(cpu, s);
        }
    }
}

/* ---- instructions -------------------------------------------------------------------------------------------------
 */

static u16 read_Ew(sim_vcpu *cpu, const struct insn *i) {
    if (i->flags & IF_MEM)
        return ld16(cpu, i, i->seg, insn_ea(cpu, i));
    return (u16)cpu->regs[i->rm];
}
static void write_Ew_or_Rv(sim_vcpu *cpu, const struct insn *i, u16 v) {
    if (i->flags & IF_MEM)
        st16(cpu, i, i->seg, insn_ea(cpu, i), v);
    else
        set_reg(cpu, i->rm, i->osz, v);
}

static void after_ss(sim_vcpu *cpu, unsigned seg) {
    if (seg == SS)
        cpu->shadow_new = SHADOW_MOVSS;
}

void op_mov_Sw_Ew(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    load_segment(cpu, i->reg, read_Ew(cpu, i));
    after_ss(cpu, i->reg);
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_pop_seg(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    /* 32-bit operand size: processors read only the selector's word, but the limit is checked for all four bytes */
    u16 sel = (u16)stack_top(cpu, i, i->osz);
    load_segment(cpu, i->reg, sel);
    drop(cpu, i, 1u << i->osz);
    after_ss(cpu, i->reg);
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_load_far(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    u64 ea = insn_ea(cpu, i), off = ld_w(cpu, i, i->seg, ea, i->osz);
    u64 wrap = i->asz == W16 ? 0xffff : i->asz == W32 ? 0xffffffff : ~(u64)0;
    u16 sel = ld16(cpu, i, i->seg, (ea + (1u << i->osz)) & wrap);
    load_segment(cpu, (unsigned)i->imm, sel);
    set_reg(cpu, i->reg, i->osz, off);
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_sldt(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    check_umip(cpu);
    write_Ew_or_Rv(cpu, i, cpu->seg[LDTR].selector);
    NEXT(cpu, i);
}
void op_str(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    check_umip(cpu);
    write_Ew_or_Rv(cpu, i, cpu->seg[TR].selector);
    NEXT(cpu, i);
}

void op_lldt(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    if (cpu->cpl)
        raise_gp0(cpu);
    u16 sel = read_Ew(cpu, i);
    if (sel_null(sel)) {
        seg_set_null(&cpu->seg[LDTR], sel);
    } else {
        struct desc d;
        if ((sel & 4) || !desc_fetch(cpu, sel, &d))
            raise_fault(cpu, EXC_GP, SEL(sel));
        if ((d.seg.attr & (SA_S | SA_TYPE)) != 2)
            raise_fault(cpu, EXC_GP, SEL(sel));
        if (!seg_present(&d.seg))
            raise_fault(cpu, EXC_NP, SEL(sel));
        if (!desc_upper(cpu, sel, &d) || !canonical(d.seg.base))
            raise_fault(cpu, EXC_GP, SEL(sel));
        cpu->seg[LDTR] = d.seg;
    }
    RETIRE(cpu, i, insn_next_ip(i));
}

void op_ltr(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    if (cpu->cpl)
        raise_gp0(cpu);
    u16 sel = read_Ew(cpu, i);
    struct desc d;
    if (sel_null(sel))
        raise_gp0(cpu);
    if ((sel & 4) || !desc_fetch(cpu, sel, &d))
        raise_fault(cpu, EXC_GP, SEL(sel));
    u32 type = d.seg.attr & (SA_S | SA_TYPE);
    if (type != 9 && (type != 1 || long_mode(cpu)))
        raise_fault(cpu, EXC_GP, SEL(sel)); /* available TSS */
    if (!seg_present(&d.seg))
        raise_fault(cpu, EXC_NP, SEL(sel));
    if (!desc_upper(cpu, sel, &d) || !canonical(d.seg.base))
        raise_fault(cpu, EXC_GP, SEL(sel));
    sys_or8(cpu, d.lin + 5, 2); /* busy */
    d.seg.attr |= 2;
    cpu->seg[TR] = d.seg;
    RETIRE(cpu, i, insn_next_ip(i));
}

static void set_zf(sim_vcpu *cpu, bool on) {
    cpu_set_arith_flags(cpu, (cpu_eflags(cpu) & FL_ARITH & ~FL_ZF) | (on ? FL_ZF : 0));
}

/* The part VERR, VERW, LAR and LSL share: the descriptor is there, and visible at this CPL and RPL. */
static bool visible(sim_vcpu *cpu, u16 sel, struct desc *d) {
    if (sel_null(sel) || !desc_fetch(cpu, sel, d))
        return false;
    if (seg_is_code(&d->seg) && seg_conforming(&d->seg))
        return true;
    return seg_dpl(&d->seg) >= cpu->cpl && seg_dpl(&d->seg) >= sel_rpl(sel);
}

OP_APART(verr) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    u16 sel = read_Ew(cpu, i);
    struct desc d;
    bool ok = visible(cpu, sel, &d) && (d.seg.attr & SA_S) && (!seg_is_code(&d.seg) || (d.seg.attr & SA_RW));
    set_zf(cpu, ok);
}

OP_APART(verw) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    u16 sel = read_Ew(cpu, i);
    struct desc d;
    set_zf(cpu, visible(cpu, sel, &d) && seg_is_wdata(&d.seg));
}

OP_APART(lar) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    u16 sel = read_Ew(cpu, i);
    struct desc d;
    bool ok = visible(cpu, sel, &d);
    if (ok && !(d.seg.attr & SA_S)) {
        /* 286 TSS available/busy, LDT, 286 call gate, task gate; 386 TSS available/busy, call gate */
        u32 valid = long_mode(cpu) ? 0x1a04 : 0x1a3e;
        ok = (valid >> (d.seg.attr & SA_TYPE)) & 1;
    }
    if (ok)
        set_reg(cpu, i->reg, i->osz, (d.raw >> 32) & 0xffff00 & ~(u64)0x0f0000);
    set_zf(cpu, ok);
}

OP_APART(lsl) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    u16 sel = read_Ew(cpu, i);
    struct desc d;
    bool ok = visible(cpu, sel, &d);
    if (ok && !(d.seg.attr & SA_S)) {
        u32 valid = long_mode(cpu) ? 0x0a04 : 0x0a0e; /* those that have a limit */
        ok = (valid >> (d.seg.attr & SA_TYPE)) & 1;
    }
    if (ok)
        set_reg(cpu, i->reg, i->osz, d.seg.limit);
    set_zf(cpu, ok);
}

void op_arpl(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    if (!protected_mode(cpu))
        raise_ud(cpu);
    u16 src = (u16)cpu->regs[i->reg], dst;
    dst = read_Ew(cpu, i);
    bool adjust = sel_rpl(dst) < sel_rpl(src);
    if (adjust) { /* only then is memory written */
        dst = (u16)((dst & ~3u) | sel_rpl(src));
        if (i->flags & IF_MEM)
            st16(cpu, i, i->seg, insn_ea(cpu, i), dst);
        else
            *reg16(cpu, i->rm) = dst;
    }
    set_zf(cpu, adjust);
    NEXT(cpu, i);
}
