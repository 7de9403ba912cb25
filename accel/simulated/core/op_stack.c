/* PUSH POP PUSHA POPA ENTER LEAVE BOUND. */
#include "access.h"
#include "flags.h"
#include "ops.h"

enum { LOG2_16 = W16, LOG2_32 = W32, LOG2_64 = W64 };

#define GEN_STACK(_, W)                                                                                                \
    OP(push_r##W) {                                                                                                    \
        push_w(cpu, i, LOG2_##W, RD##W(i->rm));                                                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(push_m##W) {                                                                                                    \
        u##W v = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        push_w(cpu, i, LOG2_##W, v);                                                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(push_I##W) {                                                                                                    \
        push_w(cpu, i, LOG2_##W, i->imm);                                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(pop_r##W) {                                                                                                     \
        u##W v = (u##W)stack_top(cpu, i, LOG2_##W);                                                                    \
        drop(cpu, i, W / 8);                                                                                           \
        WR##W(i->rm, v); /* POP SP: the value wins over the increment */                                               \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    /* an address made with SP uses SP as it is after the pop */                                                       \
    OP(pop_m##W) {                                                                                                     \
        u##W v = (u##W)stack_top(cpu, i, LOG2_##W);                                                                    \
        u64 sp = cpu->regs[RSP], ea;                                                                                   \
        drop(cpu, i, W / 8);                                                                                           \
        ea = insn_ea(cpu, i);                                                                                          \
        cpu->regs[RSP] = sp;                                                                                           \
        st##W(cpu, i, i->seg, ea, v);                                                                                  \
        drop(cpu, i, W / 8);                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(leave##W) {                                                                                                     \
        u64 sp = cpu->regs[RBP] & stack_mask(i);                                                                       \
        u##W v = (u##W)ld_w(cpu, i, SS, sp, LOG2_##W);                                                                 \
        set_sp(cpu, i, sp + W / 8);                                                                                    \
        WR##W(RBP, v);                                                                                                 \
        NEXT(cpu, i);                                                                                                  \
    }
WORD_WIDTHS(GEN_STACK, _)

/* The common case: operand and stack pointer of one width.  What is not a TLB hit goes to the general form. */
#define GEN_SAME(_, W)                                                                                                 \
    static inline void push_same##W(sim_vcpu *cpu, const struct insn *i, u##W v, op_fn general) {                      \
        u##W sp = (u##W)(RD##W(RSP) - W / 8);                                                                          \
        u8 *p = STACK_WRITE(cpu, sp, W);                                                                               \
        if (unlikely(p == NULL)) {                                                                                     \
            general(cpu, i);                                                                                           \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(p, &v, W / 8);                                                                                          \
        WR##W(RSP, sp);                                                                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(push_s##W) { push_same##W(cpu, i, RD##W(i->rm), op_push_r##W); }                                                \
    OP(push_I_s##W) { push_same##W(cpu, i, (u##W)i->imm, op_push_I##W); }                                              \
    OP(pop_s##W) {                                                                                                     \
        u##W sp = RD##W(RSP), v;                                                                                       \
        const u8 *p = STACK_READ(cpu, sp, W);                                                                          \
        if (unlikely(p == NULL)) {                                                                                     \
            op_pop_r##W(cpu, i);                                                                                       \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(&v, p, W / 8);                                                                                          \
        WR##W(RSP, (u##W)(sp + W / 8));                                                                                \
        WR##W(i->rm, v);                                                                                               \
        NEXT(cpu, i);                                                                                                  \
    }
WORD_WIDTHS(GEN_SAME, _)

/* A selector is pushed as 16 bits into a slot of the operand size: the rest of the slot keeps its contents. */
static void push_selector(sim_vcpu *cpu, const struct insn *i, unsigned bytes) {
    u64 sp = (cpu->regs[RSP] - bytes) & stack_mask(i);
    if (bytes == 8)
        st64(cpu, i, SS, sp, cpu->seg[i->reg].selector);
    else
        st16(cpu, i, SS, sp, cpu->seg[i->reg].selector);
    set_sp(cpu, i, sp);
}
OP(push_seg16) {
    push_selector(cpu, i, 2);
    NEXT(cpu, i);
}
OP(push_seg32) {
    push_selector(cpu, i, 4);
    NEXT(cpu, i);
}
OP(push_seg64) {
    push_selector(cpu, i, 8);
    NEXT(cpu, i);
}

/* The stack range [sp, sp + bytes) in up to two pieces, as a 16-bit stack may wrap. */
static void probe_stack(sim_vcpu *cpu, const struct insn *i, u64 sp, unsigned step, unsigned items, bool write) {
    for (unsigned k = 0; k < items; k++)
        mem_probe(cpu, SS, (sp + k * step) & stack_mask(i), step, write);
}

static void push_all(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    u64 sp = cpu->regs[RSP];
    unsigned bytes = 1u << w;
    BEGIN(cpu, i);
    probe_stack(cpu, i, sp - 8 * bytes, bytes, 8, true);
    for (unsigned r = 0; r < 8; r++)
        st_w(cpu, i, SS, (sp - (r + 1) * bytes) & stack_mask(i), w, cpu->regs[r]);
    set_sp(cpu, i, sp - 8 * bytes);
}
static void pop_all(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    u64 sp = cpu->regs[RSP], v[8];
    unsigned bytes = 1u << w;
    BEGIN(cpu, i);
    for (unsigned k = 0; k < 8; k++)
        v[k] = k == 3 ? 0 : ld_w(cpu, i, SS, (sp + k * bytes) & stack_mask(i), w);
    for (unsigned k = 0; k < 8; k++)
        if (k != 3)
            set_reg(cpu, 7 - k, w, v[k]);
    set_sp(cpu, i, sp + 8 * bytes);
}
OP(pusha16) {
    push_all(cpu, i, W16);
    NEXT(cpu, i);
}
OP(pusha32) {
    push_all(cpu, i, W32);
    NEXT(cpu, i);
}
OP(popa16) {
    pop_all(cpu, i, W16);
    NEXT(cpu, i);
}
OP(popa32) {
    pop_all(cpu, i, W32);
    NEXT(cpu, i);
}
/* not in 64-bit code: the decoder never gets here */
OP(pusha64) { op_ud(cpu, i); }
OP(popa64) { op_ud(cpu, i); }

static void enter(sim_vcpu *cpu, const struct insn *i, unsigned w) {
    unsigned bytes = 1u << w, size = i->imm & 0xffff, level = i->imm >> 16 & 31, items = level ? level + 1 : 1;
    u64 mask = stack_mask(i), sp = cpu->regs[RSP], bp = cpu->regs[RBP], frame = sp - bytes;
    BEGIN(cpu, i);
    /* faults in the order of the accesses; the final stack pointer is checked for writing */
    for (unsigned k = 0; k < items; k++) {
        if (k && k < level)
            mem_probe(cpu, SS, (bp - k * bytes) & mask, bytes, false);
        mem_probe(cpu, SS, (frame - k * bytes) & mask, bytes, true);
    }
    mem_probe(cpu, SS, (sp - (u64)items * bytes - size) & mask, bytes, true);
    st_w(cpu, i, SS, frame & mask, w, bp);
    for (unsigned k = 1; k < level; k++)
        st_w(cpu, i, SS, (frame - k * bytes) & mask, w, ld_w(cpu, i, SS, (bp - k * bytes) & mask, w));
    if (level)
        st_w(cpu, i, SS, (frame - level * bytes) & mask, w, frame);
    set_reg(cpu, RBP, w, frame);
    set_sp(cpu, i, sp - (u64)items * bytes - size);
}
OP(enter16) {
    enter(cpu, i, W16);
    NEXT(cpu, i);
}
OP(enter32) {
    enter(cpu, i, W32);
    NEXT(cpu, i);
}
OP(enter64) {
    enter(cpu, i, W64);
    NEXT(cpu, i);
}

OP(bound16) {
    u64 ea = insn_ea(cpu, i);
    s16 v = (s16)RD16(i->reg), low = (s16)ld16(cpu, i, i->seg, ea);
    s16 high = (s16)ld16(cpu, i, i->seg, (ea + 2) & width_mask(i->asz));
    if (v < low || v > high) {
        BEGIN(cpu, i);
        raise_fault(cpu, EXC_BR, 0);
    }
    NEXT(cpu, i);
}
OP(bound32) {
    u64 ea = insn_ea(cpu, i);
    s32 v = (s32)RD32(i->reg), low = (s32)ld32(cpu, i, i->seg, ea);
    s32 high = (s32)ld32(cpu, i, i->seg, (ea + 4) & width_mask(i->asz));
    if (v < low || v > high) {
        BEGIN(cpu, i);
        raise_fault(cpu, EXC_BR, 0);
    }
    NEXT(cpu, i);
}
OP(bound64) { op_ud(cpu, i); }
