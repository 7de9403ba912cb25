/* SSE2 to SSE4.2: integer arithmetic, shuffles, logic; PTEST, PHMINPOSUW, variable blends. */
#include "flags.h"
#include "lanes.h"

ALL_BINARY(GEN_BINARY_SSE)
SHIFTS(GEN_BINARY_SSE)

/* Shift groups: the count is an immediate, the register is ModRM.rm. */
#define GEN_SHIFT_IMM(name)                                                                                            \
    OP(name##_i) {                                                                                                     \
        set_x(cpu, i->rm, do_##name(get_x(cpu, i->rm), _mm_cvtsi32_si128(vex_imm8(i))));                               \
        NEXT(cpu, i);                                                                                                  \
    }
SHIFTS(GEN_SHIFT_IMM)
OP(psrldq_i) {
    set_x(cpu, i->rm, do_psrldq(get_x(cpu, i->rm), vex_imm8(i)));
    NEXT(cpu, i);
}
OP(pslldq_i) {
    set_x(cpu, i->rm, do_pslldq(get_x(cpu, i->rm), vex_imm8(i)));
    NEXT(cpu, i);
}

#define GEN_UNARY_SSE(name)                                                                                            \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, do_##name(get_x(cpu, i->rm)));                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 16, set_x(cpu, i->reg, do_##name(x)))
UNARY(GEN_UNARY_SSE)

#define GEN_UNARY_IMM_SSE(name)                                                                                        \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, do_##name(get_x(cpu, i->rm), vex_imm8(i)));                                                 \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 16, set_x(cpu, i->reg, do_##name(x, vex_imm8(i))))
UNARY_IMM(GEN_UNARY_IMM_SSE)

#define GEN_BINARY_IMM_SSE(name, SHIFT)                                                                                \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, do_##name(get_x(cpu, i->reg), get_x(cpu, i->rm), vex_imm8(i)));                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 16, set_x(cpu, i->reg, do_##name(get_x(cpu, i->reg), x, vex_imm8(i))))
BINARY_IMM(GEN_BINARY_IMM_SSE)

/* PMOVSX, PMOVZX: `size` bytes are read. */
#define GEN_EXTEND_SSE(name, W)                                                                                        \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, do_##name(get_x(cpu, i->rm)));                                                              \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_m) {                                                                                                     \
        x128 v = _mm_cvtsi64_si128((s64)ld##W(cpu, i, i->seg, insn_ea(cpu, i)));                                       \
        set_x(cpu, i->reg, do_##name(v));                                                                              \
        NEXT(cpu, i);                                                                                                  \
    }
EXTENDS(GEN_EXTEND_SSE)

/* The mask is register 0. */
#define GEN_BLENDV(name)                                                                                               \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, do_##name(get_x(cpu, i->reg), get_x(cpu, i->rm), get_x(cpu, 0)));                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 16, set_x(cpu, i->reg, do_##name(get_x(cpu, i->reg), x, get_x(cpu, 0))))
BLENDVS(GEN_BLENDV)

OP(phminposuw_r) {
    set_x(cpu, i->reg, do_phminposuw(get_x(cpu, i->rm)));
    NEXT(cpu, i);
}
GEN_LOAD_X(phminposuw_m, 16, set_x(cpu, i->reg, do_phminposuw(x)))

static inline void set_ptest(sim_vcpu *cpu, x128 a, x128 b) {
    set_arith_flags(cpu, (all_zero(_mm_and_si128(a, b)) ? FL_ZF : 0) | (all_zero(_mm_andnot_si128(a, b)) ? FL_CF : 0));
}
OP(ptest_r) {
    set_ptest(cpu, get_x(cpu, i->reg), get_x(cpu, i->rm));
    NEXT(cpu, i);
}
GEN_LOAD_X(ptest_m, 16, set_ptest(cpu, get_x(cpu, i->reg), x))
