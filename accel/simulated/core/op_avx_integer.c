/* AVX and AVX2: integer arithmetic, shuffles, logic, variable shifts and blends, PTEST and VTEST.
 *
 * 32 bytes are two halves for nearly all of it; what crosses them is in op_avx_permute.c. */
#include "flags.h"
#include "lanes.h"

ALL_BINARY(GEN_BINARY_AVX)

/* Shifts: the count is 16 bytes of memory or an XMM register whatever the width. */
#define GEN_SHIFT_AVX(name)                                                                                            \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), get_x(cpu, i->rm)));                                    \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), x)))                             \
    static inline void shift_##name(sim_vcpu *cpu, const struct insn *i, unsigned to, struct y256 a, x128 n) {         \
        (void)i;                                                                                                       \
        set_y(cpu, to, (struct y256){do_##name(a.lo, n), do_##name(a.hi, n)});                                         \
    }                                                                                                                  \
    OP(y##name##_r) {                                                                                                  \
        shift_##name(cpu, i, i->reg, get_y(cpu, vex_vvvv(i)), get_x(cpu, i->rm));                                      \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(y##name##_m, 1, shift_##name(cpu, i, i->reg, get_y(cpu, vex_vvvv(i)), x))                               \
    OP(v##name##_i) {                                                                                                  \
        set_vx(cpu, vex_vvvv(i), do_##name(get_x(cpu, i->rm), _mm_cvtsi32_si128(vex_imm8(i))));                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(y##name##_i) {                                                                                                  \
        shift_##name(cpu, i, vex_vvvv(i), get_y(cpu, i->rm), _mm_cvtsi32_si128(vex_imm8(i)));                          \
        NEXT(cpu, i);                                                                                                  \
    }
SHIFTS(GEN_SHIFT_AVX)

#define GEN_SHIFT_BYTES(name)                                                                                          \
    OP(v##name##_i) {                                                                                                  \
        set_vx(cpu, vex_vvvv(i), do_##name(get_x(cpu, i->rm), vex_imm8(i)));                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(y##name##_i) {                                                                                                  \
        struct y256 a = get_y(cpu, i->rm);                                                                             \
        set_y(cpu, vex_vvvv(i), (struct y256){do_##name(a.lo, vex_imm8(i)), do_##name(a.hi, vex_imm8(i))});            \
        NEXT(cpu, i);                                                                                                  \
    }
GEN_SHIFT_BYTES(psrldq)
GEN_SHIFT_BYTES(pslldq)

/* One source. */
#define GEN_UNARY_AVX(name)                                                                                            \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(get_x(cpu, i->rm)));                                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, do_##name(x)))                                                      \
    OP(y##name##_r) {                                                                                                  \
        struct y256 b = get_y(cpu, i->rm);                                                                             \
        set_y(cpu, i->reg, (struct y256){do_##name(b.lo), do_##name(b.hi)});                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(y##name##_m) {                                                                                                  \
        struct y256 b = ld256(cpu, i, i->seg, insn_ea(cpu, i), 1);                                                     \
        set_y(cpu, i->reg, (struct y256){do_##name(b.lo), do_##name(b.hi)});                                           \
        NEXT(cpu, i);                                                                                                  \
    }
UNARY(GEN_UNARY_AVX)

#define GEN_UNARY_IMM_AVX(name)                                                                                        \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(get_x(cpu, i->rm), vex_imm8(i)));                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, do_##name(x, vex_imm8(i))))                                         \
    static inline void both_##name(sim_vcpu *cpu, const struct insn *i, struct y256 b) {                               \
        set_y(cpu, i->reg, (struct y256){do_##name(b.lo, vex_imm8(i)), do_##name(b.hi, vex_imm8(i))});                 \
    }                                                                                                                  \
    OP(y##name##_r) {                                                                                                  \
        both_##name(cpu, i, get_y(cpu, i->rm));                                                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_Y(y##name##_m, 1, both_##name(cpu, i, y))
UNARY_IMM(GEN_UNARY_IMM_AVX)

#define GEN_BINARY_IMM_AVX(name, SHIFT)                                                                                \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), get_x(cpu, i->rm), vex_imm8(i)));                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), x, vex_imm8(i))))                \
    static inline void both_##name(sim_vcpu *cpu, const struct insn *i, struct y256 b) {                               \
        struct y256 a = get_y(cpu, vex_vvvv(i));                                                                       \
        unsigned n = vex_imm8(i);                                                                                      \
        set_y(cpu, i->reg, (struct y256){do_##name(a.lo, b.lo, n), do_##name(a.hi, b.hi, n >> SHIFT)});                \
    }                                                                                                                  \
    OP(y##name##_r) {                                                                                                  \
        both_##name(cpu, i, get_y(cpu, i->rm));                                                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_Y(y##name##_m, 1, both_##name(cpu, i, y))
BINARY_IMM(GEN_BINARY_IMM_AVX)

/* PMOVSX, PMOVZX: twice as wide a source for 32 bytes. */
#define BYTES_16 2
#define BYTES_32 4
#define BYTES_64 8
#define GEN_EXTEND_AVX(name, W)                                                                                        \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(get_x(cpu, i->rm)));                                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(v##name##_m) {                                                                                                  \
        x128 v = _mm_cvtsi64_si128((s64)(u64)ld##W(cpu, i, i->seg, insn_ea(cpu, i)));                                  \
        set_vx(cpu, i->reg, do_##name(v));                                                                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    static inline void both_##name(sim_vcpu *cpu, const struct insn *i, x128 v) {                                      \
        set_y(cpu, i->reg, (struct y256){do_##name(v), do_##name(_mm_srli_si128(v, BYTES_##W))});                      \
    }                                                                                                                  \
    OP(y##name##_r) {                                                                                                  \
        both_##name(cpu, i, get_x(cpu, i->rm));                                                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(y##name##_m) {                                                                                                  \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        both_##name(cpu, i,                                                                                            \
                    W == 64 ? ld128(cpu, i, i->seg, ea, 1)                                                             \
                            : _mm_cvtsi64_si128((s64)ld_w(cpu, i, i->seg, ea, W == 32 ? W64 : W32)));                  \
        NEXT(cpu, i);                                                                                                  \
    }
EXTENDS(GEN_EXTEND_AVX)

/* Blends by a fourth register, in the immediate's upper half. */
static inline unsigned fourth(const sim_vcpu *cpu, const struct insn *i) {
    return vex_imm8(i) >> 4 & (cpu->mode == MODE64 ? 15 : 7);
}
#define GEN_BLENDV_AVX(name)                                                                                           \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), get_x(cpu, i->rm), get_x(cpu, fourth(cpu, i))));        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, do_##name(get_x(cpu, vex_vvvv(i)), x, get_x(cpu, fourth(cpu, i))))) \
    static inline void both_##name(sim_vcpu *cpu, const struct insn *i, struct y256 b) {                               \
        struct y256 a = get_y(cpu, vex_vvvv(i)), m = get_y(cpu, fourth(cpu, i));                                       \
        set_y(cpu, i->reg, (struct y256){do_##name(a.lo, b.lo, m.lo), do_##name(a.hi, b.hi, m.hi)});                   \
    }                                                                                                                  \
    OP(y##name##_r) {                                                                                                  \
        both_##name(cpu, i, get_y(cpu, i->rm));                                                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_Y(y##name##_m, 1, both_##name(cpu, i, y))
BLENDVS(GEN_BLENDV_AVX)

OP(vphminposuw_r) {
    set_vx(cpu, i->reg, do_phminposuw(get_x(cpu, i->rm)));
    NEXT(cpu, i);
}
GEN_LOAD_X(vphminposuw_m, 1, set_vx(cpu, i->reg, do_phminposuw(x)))

/* Shifts with a count for each lane. */
#define GEN_EACH(name, lane, count, shift, width)                                                                      \
    static inline x128 do_##name(x128 a, x128 n) {                                                                     \
        union lanes v = {.x = a}, by = {.x = n};                                                                       \
        for (unsigned k = 0; k < count; k++)                                                                           \
            v.lane[k] = by.lane[k] >= width ? 0 : v.lane[k] shift by.lane[k];                                          \
        return v.x;                                                                                                    \
    }
GEN_EACH(psllvd, d, 4, <<, 32)
GEN_EACH(psrlvd, d, 4, >>, 32)
GEN_EACH(psllvq, q, 2, <<, 64)
GEN_EACH(psrlvq, q, 2, >>, 64)
static inline x128 do_psravd(x128 a, x128 n) {
    union lanes v = {.x = a}, by = {.x = n};
    for (unsigned k = 0; k < 4; k++)
        v.sd[k] >>= by.d[k] > 31 ? 31 : by.d[k];
    return v.x;
}
GEN_BINARY_AVX(psllvd)
GEN_BINARY_AVX(psrlvd)
GEN_BINARY_AVX(psravd)
GEN_BINARY_AVX(psllvq)
GEN_BINARY_AVX(psrlvq)

/* ZF: no bit of a AND b; CF: no bit of NOT a AND b. */
static inline void set_test(sim_vcpu *cpu, struct y256 a, struct y256 b, x128 bits) {
    x128 both = _mm_or_si128(_mm_and_si128(a.lo, b.lo), _mm_and_si128(a.hi, b.hi));
    x128 rest = _mm_or_si128(_mm_andnot_si128(a.lo, b.lo), _mm_andnot_si128(a.hi, b.hi));
    set_arith_flags(cpu, (all_zero(_mm_and_si128(both, bits)) ? FL_ZF : 0) |
                             (all_zero(_mm_and_si128(rest, bits)) ? FL_CF : 0));
}
#define ALL_BITS _mm_set1_epi32(-1)
#define SIGNS_32 _mm_set1_epi32((s32)0x80000000)
#define SIGNS_64 _mm_set_epi32((s32)0x80000000, 0, (s32)0x80000000, 0)
static inline struct y256 half(x128 v) { return (struct y256){v, _mm_setzero_si128()}; }
#define GEN_TEST(name, BITS)                                                                                           \
    OP(v##name##_r) {                                                                                                  \
        set_test(cpu, half(get_x(cpu, i->reg)), half(get_x(cpu, i->rm)), BITS);                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_test(cpu, half(get_x(cpu, i->reg)), half(x), BITS))                                 \
    OP(y##name##_r) {                                                                                                  \
        set_test(cpu, get_y(cpu, i->reg), get_y(cpu, i->rm), BITS);                                                    \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_Y(y##name##_m, 1, set_test(cpu, get_y(cpu, i->reg), y, BITS))
GEN_TEST(ptest, ALL_BITS)
GEN_TEST(testps, SIGNS_32)
GEN_TEST(testpd, SIGNS_64)
