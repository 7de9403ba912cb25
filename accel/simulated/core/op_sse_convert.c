/* SSE and AVX conversions between floating-point formats and integers, and rounding to integers (ROUNDPS and kin). */
#include "sse_float.h"

/* ---- element by element, same size ---- */
HOST_UNARY(host_cvtdq2ps, "cvtdq2ps")
HOST_UNARY(host_cvtps2dq, "cvtps2dq")
HOST_UNARY(host_cvttps2dq, "cvttps2dq")
GEN_PACKED(cvtdq2ps, host_cvtdq2ps)
GEN_PACKED(cvtps2dq, host_cvtps2dq)
GEN_PACKED(cvttps2dq, host_cvttps2dq)

/* ---- from half a register to a whole one, and back ---- */

#define WIDEN(name)                                                                                                    \
    HOST_UNARY(host_##name, #name)                                                                                     \
    static ALWAYS_INLINE struct y256 y_##name(sim_vcpu *cpu, const struct insn *i, x128 b) {                           \
        return sse_run_y(cpu, i, host_##name, (struct y256){b, b}, (struct y256){b, _mm_srli_si128(b, 8)});            \
    }                                                                                                                  \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, sse_run(cpu, i, host_##name, get_x(cpu, i->rm), get_x(cpu, i->rm)));                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_m) {                                                                                                     \
        x128 b = from64(ld64(cpu, i, i->seg, insn_ea(cpu, i)));                                                        \
        set_x(cpu, i->reg, sse_run(cpu, i, host_##name, b, b));                                                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, sse_run(cpu, i, host_##name, get_x(cpu, i->rm), get_x(cpu, i->rm)));                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(v##name##_m) {                                                                                                  \
        x128 b = from64(ld64(cpu, i, i->seg, insn_ea(cpu, i)));                                                        \
        set_vx(cpu, i->reg, sse_run(cpu, i, host_##name, b, b));                                                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(y##name##_r) {                                                                                                  \
        set_y(cpu, i->reg, y_##name(cpu, i, get_x(cpu, i->rm)));                                                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(y##name##_m, 1, set_y(cpu, i->reg, y_##name(cpu, i, x)))
WIDEN(cvtps2pd)
WIDEN(cvtdq2pd)

#define NARROW(name)                                                                                                   \
    HOST_UNARY(host_##name, #name)                                                                                     \
    static ALWAYS_INLINE x128 y_##name(sim_vcpu *cpu, const struct insn *i, struct y256 b) {                           \
        struct y256 r = sse_run_y(cpu, i, host_##name, b, b);                                                          \
        return _mm_unpacklo_epi64(r.lo, r.hi);                                                                         \
    }                                                                                                                  \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, sse_run(cpu, i, host_##name, get_x(cpu, i->rm), get_x(cpu, i->rm)));                        \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 16, set_x(cpu, i->reg, sse_run(cpu, i, host_##name, x, x)))                                   \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, sse_run(cpu, i, host_##name, get_x(cpu, i->rm), get_x(cpu, i->rm)));                       \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, sse_run(cpu, i, host_##name, x, x)))                                \
    OP(y##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, y_##name(cpu, i, get_y(cpu, i->rm)));                                                      \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_Y(y##name##_m, 1, set_vx(cpu, i->reg, y_##name(cpu, i, y)))
NARROW(cvtpd2ps)
NARROW(cvtpd2dq)
NARROW(cvttpd2dq)

/* ---- scalars ---- */

HOST_BINARY(host_cvtss2sd, "cvtss2sd")
HOST_BINARY(host_cvtsd2ss, "cvtsd2ss")
GEN_SCALAR(cvtss2sd, host_cvtss2sd, 32)
GEN_SCALAR(cvtsd2ss, host_cvtsd2ss, 64)

/* The general register or memory operand is a host_sse's second, in its low bits. */
#define FROM_INTEGER(name)                                                                                             \
    static ALWAYS_INLINE x128 host_##name##32(x128 a, x128 b, unsigned imm) {                                          \
        (void)imm;                                                                                                     \
        __asm__ volatile(#name "l %1, %0" : "+x"(a) : "r"(_mm_cvtsi128_si32(b)));                                      \
        return a;                                                                                                      \
    }                                                                                                                  \
    static ALWAYS_INLINE x128 host_##name##64(x128 a, x128 b, unsigned imm) {                                          \
        (void)imm;                                                                                                     \
        __asm__ volatile(#name "q %1, %0" : "+x"(a) : "r"(_mm_cvtsi128_si64(b)));                                      \
        return a;                                                                                                      \
    }                                                                                                                  \
    static ALWAYS_INLINE x128 do_##name(sim_vcpu *cpu, const struct insn *i, x128 a, u64 v) {                          \
        return i->osz == W64 ? sse_run(cpu, i, host_##name##64, a, from64(v))                                          \
                             : sse_run(cpu, i, host_##name##32, a, from32((u32)v));                                    \
    }                                                                                                                  \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, do_##name(cpu, i, get_x(cpu, i->reg), cpu->regs[i->rm]));                                   \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_m) {                                                                                                     \
        u64 v = ld_w(cpu, i, i->seg, insn_ea(cpu, i), i->osz);                                                         \
        set_x(cpu, i->reg, do_##name(cpu, i, get_x(cpu, i->reg), v));                                                  \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, do_##name(cpu, i, get_x(cpu, vex_vvvv(i)), cpu->regs[i->rm]));                             \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(v##name##_m) {                                                                                                  \
        u64 v = ld_w(cpu, i, i->seg, insn_ea(cpu, i), i->osz);                                                         \
        set_vx(cpu, i->reg, do_##name(cpu, i, get_x(cpu, vex_vvvv(i)), v));                                            \
        NEXT(cpu, i);                                                                                                  \
    }
FROM_INTEGER(cvtsi2ss)
FROM_INTEGER(cvtsi2sd)

#define TO_INTEGER(name, bits)                                                                                         \
    static ALWAYS_INLINE void do_##name(sim_vcpu *cpu, const struct insn *i, x128 b) {                                 \
        u64 v;                                                                                                         \
        u32 half;                                                                                                      \
        if (i->osz == W64)                                                                                             \
            SSE_CHECKED(cpu, i, __asm__ volatile(#name " %1, %0" : "=r"(v) : "x"(b)));                                 \
        else {                                                                                                         \
            SSE_CHECKED(cpu, i, __asm__ volatile(#name " %1, %0" : "=r"(half) : "x"(b)));                              \
            v = half;                                                                                                  \
        }                                                                                                              \
        cpu->regs[i->reg] = v;                                                                                         \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_r) { do_##name(cpu, i, get_x(cpu, i->rm)); }                                                             \
    OP(name##_m) { do_##name(cpu, i, from##bits(ld##bits(cpu, i, i->seg, insn_ea(cpu, i)))); }
TO_INTEGER(cvtss2si, 32)
TO_INTEGER(cvttss2si, 32)
TO_INTEGER(cvtsd2si, 64)
TO_INTEGER(cvttsd2si, 64)

/* ---- with MMX registers ----
 * The change to MMX's state of x87 comes before #XM, and not at all with a source in memory. */

/* To two elements.  The upper elements of what is converted are zero, which raises no flags. */
static ALWAYS_INLINE void pi2ps(sim_vcpu *cpu, const struct insn *i, x128 b) {
    cpu->ymm[i->reg].q[0] = (u64)_mm_cvtsi128_si64(sse_run(cpu, i, host_cvtdq2ps, b, b));
    NEXT(cpu, i);
}
OP(cvtpi2ps_r) {
    mmx_use(cpu, i);
    mmx_state(cpu);
    pi2ps(cpu, i, from64(get_mm(cpu, i->rm)));
}
OP(cvtpi2ps_m) { pi2ps(cpu, i, from64(ld64(cpu, i, i->seg, insn_ea(cpu, i)))); }
OP(cvtpi2pd_r) {
    mmx_use(cpu, i);
    mmx_state(cpu);
    x128 b = from64(get_mm(cpu, i->rm));
    set_x(cpu, i->reg, host_cvtdq2pd(b, b, 0)); /* always exact */
    NEXT(cpu, i);
}
OP(cvtpi2pd_m) {
    x128 b = from64(ld64(cpu, i, i->seg, insn_ea(cpu, i)));
    set_x(cpu, i->reg, host_cvtdq2pd(b, b, 0));
    NEXT(cpu, i);
}

#define TO_MMX(name, op, half)                                                                                         \
    static ALWAYS_INLINE void do_##name(sim_vcpu *cpu, const struct insn *i, x128 b) {                                 \
        mmx_state(cpu);                                                                                                \
        x128 r = sse_run(cpu, i, op, b, b);                                                                            \
        set_mm(cpu, i->reg, (u64)_mm_cvtsi128_si64(r));                                                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_r) {                                                                                                     \
        mmx_use(cpu, i);                                                                                               \
        do_##name(cpu, i, half ? _mm_move_epi64(get_x(cpu, i->rm)) : get_x(cpu, i->rm));                               \
    }                                                                                                                  \
    OP(name##_m) {                                                                                                     \
        x128 b;                                                                                                        \
        mmx_use(cpu, i);                                                                                               \
        b = half ? from64(ld64(cpu, i, i->seg, insn_ea(cpu, i))) : ld128(cpu, i, i->seg, insn_ea(cpu, i), 16);         \
        do_##name(cpu, i, b);                                                                                          \
    }
TO_MMX(cvtps2pi, host_cvtps2dq, true)
TO_MMX(cvttps2pi, host_cvttps2dq, true)
TO_MMX(cvtpd2pi, host_cvtpd2dq, false)
TO_MMX(cvttpd2pi, host_cvttpd2dq, false)

/* ---- to an integer in floating-point format (SSE4.1) ----
 * imm 1:0 is the rounding, unless bit 2 says MXCSR's; bit 3: inexact is not flagged.  In integers, as baseline x86-64
 * has no such instruction. */

/* Whether rounding control `rc` rounds a value that is between two away from zero; `near`: to-nearest would. */
static ALWAYS_INLINE bool away(unsigned rc, bool negative, bool near) {
    return rc == 0 ? near : rc == 1 ? negative : rc == 2 && !negative;
}
static ALWAYS_INLINE u64 rounded(u64 x, unsigned frac_bits, unsigned exp_bits, unsigned rc, u32 mxcsr, u32 *flags) {
    u64 sign = x >> (frac_bits + exp_bits) << (frac_bits + exp_bits), exp_max = ((u64)1 << exp_bits) - 1,
        exp = x >> frac_bits & exp_max, frac = x & (((u64)1 << frac_bits) - 1), bias = exp_max >> 1;
    if (exp == exp_max) {
        u64 quiet = frac ? (u64)1 << (frac_bits - 1) : 0;
        if (quiet & ~x)
            *flags |= FP_IE;
        return x | quiet;
    }
    if (exp >= bias + frac_bits)
        return x;
    if (exp == 0 && (frac == 0 || (mxcsr & MXCSR_DAZ)))
        return sign;
    if (exp < bias) { /* below 1: to 0 or 1 */
        *flags |= FP_PE;
        return sign | (away(rc, sign != 0, exp == bias - 1 && frac) ? bias << frac_bits : 0);
    }
    unsigned shift = frac_bits - (unsigned)(exp - bias);
    u64 unit = (u64)1 << shift, rest = x & (unit - 1),
        whole = x - rest; /* a carry goes into the exponent, as it must */
    if (!rest)
        return x;
    *flags |= FP_PE;
    /* of 1, the odd bit is the bias's lowest */
    return away(rc, sign != 0, rest > unit / 2 || (rest == unit / 2 && (whole & unit))) ? whole + unit : whole;
}

static inline unsigned rounding(unsigned imm, u32 mxcsr) { return imm & 4 ? mxcsr >> MXCSR_RC_SHIFT & 3 : imm & 3; }
static ALWAYS_INLINE x128 round_elements(x128 a, x128 b, unsigned imm, unsigned elements, bool wide) {
    union {
        x128 x;
        u32 d[4];
        u64 q[2];
    } from = {.x = b}, to = {.x = a};
    u32 mxcsr = host_mxcsr(), flags = 0;
    unsigned rc = rounding(imm, mxcsr);
    for (unsigned k = 0; k < elements; k++)
        if (wide)
            to.q[k] = rounded(from.q[k], 52, 11, rc, mxcsr, &flags);
        else
            to.d[k] = (u32)rounded(from.d[k], 23, 8, rc, mxcsr, &flags);
    if (imm & 8)
        flags &= ~FP_PE;
    if (flags & ~mxcsr)
        set_host_mxcsr(mxcsr | flags);
    return to.x;
}
static x128 host_roundps(x128 a, x128 b, unsigned imm) { return round_elements(a, b, imm, 4, false); }
static x128 host_roundpd(x128 a, x128 b, unsigned imm) { return round_elements(a, b, imm, 2, true); }
static x128 host_roundss(x128 a, x128 b, unsigned imm) { return round_elements(a, b, imm, 1, false); }
static x128 host_roundsd(x128 a, x128 b, unsigned imm) { return round_elements(a, b, imm, 1, true); }
GEN_PACKED(roundps, host_roundps)
GEN_PACKED(roundpd, host_roundpd)
GEN_SCALAR(roundss, host_roundss, 32)
GEN_SCALAR(roundsd, host_roundsd, 64)
