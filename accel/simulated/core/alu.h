/* Generators for two-operand ALU instructions: op_arith.c and op_logic.c.
 *
 * From `static inline uW do_<name>W(sim_vcpu *cpu, uW a, uW b)`, which sets the flags and returns the result, come the
 * forms EG (E op= G), GE (G op= E) and EI (E op= immediate), register and memory.  GEN_QUIET makes the variants that
 * leave no flags from an expression QUIET_<name>.
 *
 * A memory form has its TLB hit in line and everything else in a function of its own, reached by a tail call: so the
 * fast path needs no stack frame.
 */
#ifndef SIM_ALU_H
#define SIM_ALU_H
#include "access.h"
#include "flags.h"
#include "ops.h"

#define GEN_RMW_FN(name, W)                                                                                            \
    static u64 fn_##name##W(sim_vcpu *cpu, u64 a, u64 b) { return do_##name##W(cpu, (u##W)a, (u##W)b); }

/* A memory form comes three times: plain, with any segment and address size; _f for 64-bit code without FS and GS,
 * where an address needs no check of a segment; _b for an address there that has a base and a displacement only.
 * special.c chooses. */
#define FORMS(G, fullname, ...)                                                                                        \
    G(fullname, hit, i->seg, insn_ea(cpu, i), __VA_ARGS__)                                                             \
    G(fullname##_f, flat, 0, flat_ea(cpu, i), __VA_ARGS__)                                                             \
    G(fullname##_b, flat, 0, based_ea(cpu, i), __VA_ARGS__)

/* E is memory, read and written */
#define RMW_FORM(fullname, HIT, seg, ea, slow, name, W, B)                                                             \
    OP(fullname) {                                                                                                     \
        u8 *p = HIT##_write(cpu, seg, ea, W / 8);                                                                      \
        u##W a;                                                                                                        \
        if (unlikely(p == NULL || (i->flags & IF_LOCK))) {                                                             \
            slow(cpu, i);                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(&a, p, W / 8);                                                                                          \
        a = do_##name##W(cpu, a, (u##W)(B));                                                                           \
        memcpy(p, &a, W / 8);                                                                                          \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_RMW(fullname, name, W, B)                                                                                  \
    static NOINLINE void slow_##fullname(sim_vcpu *cpu, const struct insn *i) {                                        \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        u8 *p = rmw_ptr(cpu, i, i->seg, ea, W / 8);                                                                    \
        if (p && !(i->flags & IF_LOCK)) {                                                                              \
            u##W a;                                                                                                    \
            memcpy(&a, p, W / 8);                                                                                      \
            a = do_##name##W(cpu, a, (u##W)(B));                                                                       \
            memcpy(p, &a, W / 8);                                                                                      \
        } else                                                                                                         \
            rmw_slow(cpu, i, ea, W / 8, p, (u##W)(B), fn_##name##W);                                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    FORMS(RMW_FORM, fullname, slow_##fullname, name, W, B)

/* E is memory, read only: USE is a statement with the value in v */
#define LOAD_FORM(fullname, HIT, seg, ea, slow, W, USE)                                                                \
    OP(fullname) {                                                                                                     \
        const u8 *p = HIT##_read(cpu, seg, ea, W / 8);                                                                 \
        u##W v;                                                                                                        \
        if (unlikely(p == NULL)) {                                                                                     \
            slow(cpu, i);                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(&v, p, W / 8);                                                                                          \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_LOAD(fullname, W, USE)                                                                                     \
    static NOINLINE void slow_##fullname(sim_vcpu *cpu, const struct insn *i) {                                        \
        u##W v = ld##W(cpu, i, i->seg, insn_ea(cpu, i));                                                               \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    FORMS(LOAD_FORM, fullname, slow_##fullname, W, USE)

/* E is memory, written only */
#define STORE_FORM(fullname, HIT, seg, ea, slow, W, VALUE)                                                             \
    OP(fullname) {                                                                                                     \
        u8 *p = HIT##_write(cpu, seg, ea, W / 8);                                                                      \
        u##W v = (u##W)(VALUE);                                                                                        \
        if (unlikely(p == NULL)) {                                                                                     \
            slow(cpu, i);                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(p, &v, W / 8);                                                                                          \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_STORE(fullname, W, VALUE)                                                                                  \
    static NOINLINE void slow_##fullname(sim_vcpu *cpu, const struct insn *i) {                                        \
        st##W(cpu, i, i->seg, insn_ea(cpu, i), (u##W)(VALUE));                                                         \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    FORMS(STORE_FORM, fullname, slow_##fullname, W, VALUE)

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
    GEN_LOAD(name##_GE_m##W, W, WR##W(i->reg, do_##name##W(cpu, RD##W(i->reg), v)))                                    \
    GEN_RMW(name##_EG_m##W, name, W, RD##W(i->reg))                                                                    \
    GEN_RMW(name##_EI_m##W, name, W, i->imm)

#define GEN_QUIET(name, W)                                                                                             \
    OP(name##_EG_q##W) {                                                                                               \
        WR##W(i->rm, (u##W)QUIET_##name(RD##W(i->rm), RD##W(i->reg)));                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_GE_q##W) {                                                                                               \
        WR##W(i->reg, (u##W)QUIET_##name(RD##W(i->reg), RD##W(i->rm)));                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_EI_q##W) {                                                                                               \
        WR##W(i->rm, (u##W)QUIET_##name(RD##W(i->rm), (u##W)i->imm));                                                  \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD(name##_GE_qm##W, W, WR##W(i->reg, (u##W)QUIET_##name(RD##W(i->reg), v)))

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
    GEN_LOAD(name##_EG_m##W, W, do_##name##W(cpu, v, RD##W(i->reg)))                                                   \
    GEN_LOAD(name##_EI_m##W, W, do_##name##W(cpu, v, (u##W)i->imm))

/* One operand, read and written */
#define GEN_UNARY(name, W)                                                                                             \
    GEN_RMW_FN(name, W)                                                                                                \
    OP(name##_r##W) {                                                                                                  \
        WR##W(i->rm, do_##name##W(cpu, RD##W(i->rm), 0));                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_RMW(name##_m##W, name, W, 0)

#endif
