/* Two instructions in one: what sets flags, and the conditional branch after it.
 *
 * The handler stands in the place of the first; special.c puts it there when a block is built.  The second keeps its
 * own handler, for where the first is left by its slow path and for whoever begins there.  The flags are written as
 * ever, but the branch is decided by the operands.  Not for 16 bits, which no compiler likes.
 */
#include "chain.h"
#include "flags.h"
#include "ops.h"

#define SIGNED(W, x) ((s##W)(x))
/* a - b has set the flags, r is the difference */
#define CMP_b(W, a, b, r)  ((a) < (b))
#define CMP_z(W, a, b, r)  ((a) == (b))
#define CMP_be(W, a, b, r) ((a) <= (b))
#define CMP_s(W, a, b, r)  (SIGNED(W, r) < 0)
#define CMP_l(W, a, b, r)  (SIGNED(W, a) < SIGNED(W, b))
#define CMP_le(W, a, b, r) (SIGNED(W, a) <= SIGNED(W, b))
/* r is the result of a logic instruction: no carry, no overflow */
#define LOGIC_b(W, r)  0
#define LOGIC_z(W, r)  ((r) == 0)
#define LOGIC_be(W, r) ((r) == 0)
#define LOGIC_s(W, r)  (SIGNED(W, r) < 0)
#define LOGIC_l(W, r)  (SIGNED(W, r) < 0)
#define LOGIC_le(W, r) (SIGNED(W, r) <= 0)

#define BRANCH(condition)                                                                                              \
    do {                                                                                                               \
        if (condition)                                                                                                 \
            TAKE(cpu, i + 1);                                                                                          \
        FALL_THROUGH(cpu, i + 1);                                                                                      \
    } while (0)
#define BOTH(G, name, cc, ...) G(name##_j##cc, , cc, __VA_ARGS__) G(name##_jn##cc, !, cc, __VA_ARGS__)
#define EACH_CONDITION(G, name, ...)                                                                                   \
    BOTH(G, name, b, __VA_ARGS__)                                                                                      \
    BOTH(G, name, z, __VA_ARGS__)                                                                                      \
    BOTH(G, name, be, __VA_ARGS__)                                                                                     \
    BOTH(G, name, s, __VA_ARGS__)                                                                                      \
    BOTH(G, name, l, __VA_ARGS__)                                                                                      \
    BOTH(G, name, le, __VA_ARGS__)

#define CMP_REG(name, NOT, cc, W, A, B)                                                                                \
    OP(name) {                                                                                                         \
        u##W a = (u##W)(A), b = (u##W)(B), r = (u##W)(a - b);                                                          \
        FLAGS_SUB(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        BRANCH(NOT(CMP_##cc(W, a, b, r)));                                                                             \
    }
#define TEST_REG(name, NOT, cc, W, A, B)                                                                               \
    OP(name) {                                                                                                         \
        u##W r = (u##W)((A) & (B));                                                                                    \
        FLAGS_LOGIC(cpu, s##W, r);                                                                                     \
        BRANCH(NOT(LOGIC_##cc(W, r)));                                                                                 \
    }
#define CMP_MEM(name, NOT, cc, W, EA, A, B, slow)                                                                      \
    OP(name) {                                                                                                         \
        const u8 *p = flat_read(cpu, 0, EA, W / 8);                                                                    \
        u##W v;                                                                                                        \
        if (unlikely(p == NULL)) {                                                                                     \
            slow(cpu, i);                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(&v, p, W / 8);                                                                                          \
        u##W a = (u##W)(A), b = (u##W)(B), r = (u##W)(a - b);                                                          \
        FLAGS_SUB(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        BRANCH(NOT(CMP_##cc(W, a, b, r)));                                                                             \
    }
#define TEST_MEM(name, NOT, cc, W, EA, B, slow)                                                                        \
    OP(name) {                                                                                                         \
        const u8 *p = flat_read(cpu, 0, EA, W / 8);                                                                    \
        u##W v;                                                                                                        \
        if (unlikely(p == NULL)) {                                                                                     \
            slow(cpu, i);                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        memcpy(&v, p, W / 8);                                                                                          \
        u##W r = (u##W)(v & (u##W)(B));                                                                                \
        FLAGS_LOGIC(cpu, s##W, r);                                                                                     \
        BRANCH(NOT(LOGIC_##cc(W, r)));                                                                                 \
    }
/* keeps the carry */
#define COUNT_REG(name, NOT, cc, W, STEP, EDGE)                                                                        \
    OP(name) {                                                                                                         \
        u##W a = RD##W(i->rm), r = (u##W)(a STEP);                                                                     \
        cpu->cc_oca = (cpu->cc_oca & FL_CF) | ((u32)(a ^ r) & FL_AF) | (EDGE == (u##W)1 << (W - 1) ? FL_OF : 0);       \
        cpu->cc_res = (s##W)r;                                                                                         \
        WR##W(i->rm, r);                                                                                               \
        BRANCH(NOT(COND_##cc));                                                                                        \
    }
#define SUB_REG(name, NOT, cc, W, B)                                                                                   \
    OP(name) {                                                                                                         \
        u##W a = RD##W(i->rm), b = (u##W)(B), r = (u##W)(a - b);                                                       \
        FLAGS_SUB(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        WR##W(i->rm, r);                                                                                               \
        BRANCH(NOT(CMP_##cc(W, a, b, r)));                                                                             \
    }
#define ADD_REG(name, NOT, cc, W, B)                                                                                   \
    OP(name) {                                                                                                         \
        u##W a = RD##W(i->rm), b = (u##W)(B), r = (u##W)(a + b);                                                       \
        FLAGS_ADD(cpu, u##W, s##W, a, b, r, 0);                                                                        \
        WR##W(i->rm, r);                                                                                               \
        BRANCH(NOT(COND_##cc));                                                                                        \
    }
#define AND_REG(name, NOT, cc, W, B)                                                                                   \
    OP(name) {                                                                                                         \
        u##W r = (u##W)(RD##W(i->rm) & (u##W)(B));                                                                     \
        FLAGS_LOGIC(cpu, s##W, r);                                                                                     \
        WR##W(i->rm, r);                                                                                               \
        BRANCH(NOT(LOGIC_##cc(W, r)));                                                                                 \
    }

#define GEN_FUSED(_, W)                                                                                                \
    EACH_CONDITION(CMP_REG, cmp_EG_r##W, W, RD##W(i->rm), RD##W(i->reg))                                               \
    EACH_CONDITION(CMP_REG, cmp_GE_r##W, W, RD##W(i->reg), RD##W(i->rm))                                               \
    EACH_CONDITION(CMP_REG, cmp_EI_r##W, W, RD##W(i->rm), i->imm)                                                      \
    EACH_CONDITION(TEST_REG, test_EG_r##W, W, RD##W(i->rm), RD##W(i->reg))                                             \
    EACH_CONDITION(TEST_REG, test_EI_r##W, W, RD##W(i->rm), i->imm)                                                    \
    EACH_CONDITION(CMP_MEM, cmp_EI_m##W##_b, W, based_ea(cpu, i), v, i->imm, op_cmp_EI_m##W)                           \
    EACH_CONDITION(CMP_MEM, cmp_EG_m##W##_b, W, based_ea(cpu, i), v, RD##W(i->reg), op_cmp_EG_m##W)                    \
    EACH_CONDITION(CMP_MEM, cmp_GE_m##W##_b, W, based_ea(cpu, i), RD##W(i->reg), v, op_cmp_GE_m##W)                    \
    EACH_CONDITION(TEST_MEM, test_EI_m##W##_b, W, based_ea(cpu, i), i->imm, op_test_EI_m##W)
GEN_FUSED(_, 8)
GEN_FUSED(_, 32)
GEN_FUSED(_, 64)

#define GEN_FUSED_WIDE(_, W)                                                                                           \
    EACH_CONDITION(COUNT_REG, dec_r##W, W, -1u, a)                                                                     \
    EACH_CONDITION(COUNT_REG, inc_r##W, W, +1u, r)                                                                     \
    EACH_CONDITION(SUB_REG, sub_EI_r##W, W, i->imm)                                                                    \
    EACH_CONDITION(SUB_REG, sub_EG_r##W, W, RD##W(i->reg))                                                             \
    EACH_CONDITION(ADD_REG, add_EI_r##W, W, i->imm)                                                                    \
    EACH_CONDITION(AND_REG, and_EI_r##W, W, i->imm)
GEN_FUSED_WIDE(_, 32)
GEN_FUSED_WIDE(_, 64)
