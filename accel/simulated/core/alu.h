/* Generators for two-operand ALU instructions: op_arith.c and op_logic.c.
 *
 * From `static inline uW do_<name>W(sim_vcpu *cpu, uW a, uW b)`, which sets the flags and returns the result, come the
 * forms EG (E op= G), GE (G op= E) and EI (E op= immediate), register and memory, and the variants that write no
 * result.
 */
#ifndef SIM_ALU_H
#define SIM_ALU_H
#include "access.h"
#include "flags.h"
#include "ops.h"

#define GEN_RMW_FN(name, W)                                                                                            \
    static u64 fn_##name##W(sim_vcpu *cpu, u64 a, u64 b) { return do_##name##W(cpu, (u##W)a, (u##W)b); }

/* E is memory: b is evaluated once */
#define RMW_BODY(name, W, B)                                                                                           \
    u64 ea = insn_ea(cpu, i);                                                                                          \
    u##W b = (u##W)(B);                                                                                                \
    u8 *p = rmw_ptr(cpu, i, i->seg, ea, W / 8);                                                                        \
    if (likely(p != NULL && !(i->flags & IF_LOCK))) {                                                                  \
        u##W a;                                                                                                        \
        memcpy(&a, p, W / 8);                                                                                          \
        a = do_##name##W(cpu, a, b);                                                                                   \
        memcpy(p, &a, W / 8);                                                                                          \
    } else                                                                                                             \
        rmw_slow(cpu, i, ea, W / 8, p, b, fn_##name##W);                                                               \
    NEXT(cpu, i);

#define GEN_ALU(name, W)                                                                                               \
    GEN_RMW_FN(name, W)                                                                                                \
    OP(name##_EG_r##W) {                                                                                               \
        WR##W(i->rm, do_##name##W(cpu, RD##W(i->rm), RD##W(i->reg)));                                                  \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_GE_r##W) {                                                                                               \
        WR##W(i->reg, do_##name##W(cpu, RD##W(i->reg), RD##W(i->rm)));                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EI_r##W) {                                                                                               \
        WR##W(i->rm, do_##name##W(cpu, RD##W(i->rm), (u##W)i->imm));                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_GE_m##W) {                                                                                               \
        u##W b = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        WR##W(i->reg, do_##name##W(cpu, RD##W(i->reg), b));                                                            \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EG_m##W){RMW_BODY(name, W, RD##W(i->reg))} OP(name##_EI_m##W) { RMW_BODY(name, W, i->imm) }

/* CMP, TEST: flags only */
#define GEN_COMPARE(name, W)                                                                                           \
    OP(name##_EG_r##W) {                                                                                               \
        do_##name##W(cpu, RD##W(i->rm), RD##W(i->reg));                                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EI_r##W) {                                                                                               \
        do_##name##W(cpu, RD##W(i->rm), (u##W)i->imm);                                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EG_m##W) {                                                                                               \
        u##W a = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        do_##name##W(cpu, a, RD##W(i->reg));                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EI_m##W) {                                                                                               \
        u##W a = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        do_##name##W(cpu, a, (u##W)i->imm);                                                                            \
        NEXT(cpu, i);                                                                                                  \
    }

/* One operand, read and written */
#define GEN_UNARY(name, W)                                                                                             \
    GEN_RMW_FN(name, W)                                                                                                \
    OP(name##_r##W) {                                                                                                  \
        WR##W(i->rm, do_##name##W(cpu, RD##W(i->rm), 0));                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_m##W) { RMW_BODY(name, W, 0) }

#endif
