/* MUL IMUL DIV IDIV.
 *
 * Flags the manual leaves undefined: multiplication sets SF and PF from the low half and clears
 * ZF and AF; division leaves all
 * as they were.
 */
#include "access.h"
#include "flags.h"
#include "ops.h"

typedef unsigned __int128 u128;
typedef __int128 s128;

static inline void mul_flags(sim_vcpu *cpu, s64 low, bool over) {
    cpu->cc_oca = over ? FL_CF | FL_OF : 0;
    cpu->cc_res = low;
    if (low == 0) { /* ZF stays clear: parity of 1 inverted */
        cpu->cc_res = 1;
        cpu->cc_oca |= CC_FLIP_PF;
    }
}
static _Noreturn void divide_error(sim_vcpu *cpu, const struct insn *i) {
    BEGIN(cpu, i);
    raise_fault(cpu, EXC_DE, 0);
}

/* The double-width accumulator: AX for bytes, else rDX:rAX. */
#define HIGH8         RD8(1)
#define HIGH16        RD16(RDX)
#define HIGH32        RD32(RDX)
#define HIGH64        RD64(RDX)
#define SET_HIGH8(v)  WR8(1, v)
#define SET_HIGH16(v) WR16(RDX, v)
#define SET_HIGH32(v) WR32(RDX, v)
#define SET_HIGH64(v) WR64(RDX, v)

#define GEN_MULDIV(W, UU, SS_)                                                                                         \
    static inline void do_mul##W(sim_vcpu *cpu, u##W b) {                                                              \
        UU r = (UU)RD##W(RAX) * b;                                                                                     \
        WR##W(RAX, (u##W)r);                                                                                           \
        SET_HIGH##W((u##W)(r >> W));                                                                                   \
        mul_flags(cpu, (s##W)r, r >> W != 0);                                                                          \
    }                                                                                                                  \
    static inline void do_imul##W(sim_vcpu *cpu, u##W b) {                                                             \
        SS_ r = (SS_)(s##W)RD##W(RAX) * (s##W)b;                                                                       \
        WR##W(RAX, (u##W)r);                                                                                           \
        SET_HIGH##W((u##W)((UU)r >> W));                                                                               \
        mul_flags(cpu, (s##W)r, r != (s##W)r);                                                                         \
    }                                                                                                                  \
    static inline void do_div##W(sim_vcpu *cpu, const struct insn *i, u##W b) {                                        \
        UU a = (UU)HIGH##W << W | RD##W(RAX), q;                                                                       \
        if (b == 0 || HIGH##W >= b)                                                                                    \
            divide_error(cpu, i);                                                                                      \
        q = a / b;                                                                                                     \
        WR##W(RAX, (u##W)q);                                                                                           \
        SET_HIGH##W((u##W)(a % b));                                                                                    \
    }                                                                                                                  \
    static inline void do_idiv##W(sim_vcpu *cpu, const struct insn *i, u##W b) {                                       \
        SS_ a = (SS_)((UU)HIGH##W << W | RD##W(RAX)), q;                                                               \
        if (b == 0 || (b == (u##W) - 1 && a == (SS_)((UU)1 << (2 * W - 1))))                                           \
            divide_error(cpu, i);                                                                                      \
        q = a / (s##W)b;                                                                                               \
        if (q != (s##W)q)                                                                                              \
            divide_error(cpu, i);                                                                                      \
        WR##W(RAX, (u##W)q);                                                                                           \
        SET_HIGH##W((u##W)(a % (s##W)b));                                                                              \
    }                                                                                                                  \
    GEN_ONE(mul, W, (cpu, b)) GEN_ONE(imul, W, (cpu, b)) GEN_ONE(div, W, (cpu, i, b)) GEN_ONE(idiv, W, (cpu, i, b))
#define GEN_ONE(name, W, ARGS)                                                                                         \
    OP(name##_r##W) {                                                                                                  \
        u##W b = RD##W(i->rm);                                                                                         \
        do_##name##W ARGS;                                                                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_m##W) {                                                                                                  \
        u##W b = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        do_##name##W ARGS;                                                                                             \
        NEXT(cpu, i);                                                                                                  \
    }
GEN_MULDIV(8, u16, s16)
GEN_MULDIV(16, u32, s32)
GEN_MULDIV(32, u64, s64)
GEN_MULDIV(64, u128, s128)

#define GEN_IMUL(S2, W)                                                                                                \
    static inline u##W do_imul2_##W(sim_vcpu *cpu, u##W a, u##W b) {                                                   \
        s##W r;                                                                                                        \
        bool over = __builtin_mul_overflow((s##W)a, (s##W)b, &r);                                                      \
        mul_flags(cpu, r, over);                                                                                       \
        return (u##W)r;                                                                                                \
    }                                                                                                                  \
    OP(imul_GE_r##W) {                                                                                                 \
        WR##W(i->reg, do_imul2_##W(cpu, RD##W(i->reg), RD##W(i->rm)));                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(imul_GE_m##W) {                                                                                                 \
        u##W b = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        WR##W(i->reg, do_imul2_##W(cpu, RD##W(i->reg), b));                                                            \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(imul_GEI_r##W) {                                                                                                \
        WR##W(i->reg, do_imul2_##W(cpu, RD##W(i->rm), (u##W)i->imm));                                                  \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(imul_GEI_m##W) {                                                                                                \
        u##W a = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        WR##W(i->reg, do_imul2_##W(cpu, a, (u##W)i->imm));                                                             \
        NEXT(cpu, i);                                                                                                  \
    }
WORD_WIDTHS(GEN_IMUL, _)
