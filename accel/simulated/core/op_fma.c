/* FMA: multiply and add with one rounding, by the host's own where it has it, else in integers (soft_float.c); and
 * F16C, always in integers. */
#include "soft_float.h"
#include "sse_float.h"

/* ---- FMA ------------------------------------------------------------------------------------------------------------
 * What an opcode does is in its low four bits, the roles of its three operands in its high ones. */

static ALWAYS_INLINE unsigned negations(unsigned opcode) {
    switch (opcode & 15) {
    case 0x8:
    case 0x9:
        return 0;
    case 0xa:
    case 0xb:
        return FMA_NEGATE_C;
    case 0xc:
    case 0xd:
        return FMA_NEGATE_PRODUCT;
    default:
        return FMA_NEGATE_PRODUCT | FMA_NEGATE_C;
    }
}

static x128 soft_elements(bool wide, x128 a, x128 b, x128 c, unsigned negate) {
    union {
        x128 x;
        u32 d[4];
        u64 q[2];
    } x = {.x = a}, y = {.x = b}, z = {.x = c};
    u32 mxcsr = host_mxcsr(), flags = 0;
    for (unsigned k = 0; k < (wide ? 2 : 4); k++)
        if (wide)
            x.q[k] = soft_fma(FLOAT64, x.q[k], y.q[k], z.q[k], negate, mxcsr, &flags);
        else
            x.d[k] = (u32)soft_fma(FLOAT32, x.d[k], y.d[k], z.d[k], negate, mxcsr, &flags);
    sse_flag(flags);
    return x.x;
}

/* The 213 form: its second operand is the first factor. */
#define HOST_FMA(code) __asm__ volatile(code " %2, %1, %0" : "+x"(b) : "x"(a), "x"(c))
static ALWAYS_INLINE x128 host_elements(bool wide, x128 a, x128 b, x128 c, unsigned negate) {
    switch (negate | (wide ? 4 : 0)) {
    case 0:
        HOST_FMA("vfmadd213ps");
        break;
    case FMA_NEGATE_C:
        HOST_FMA("vfmsub213ps");
        break;
    case FMA_NEGATE_PRODUCT:
        HOST_FMA("vfnmadd213ps");
        break;
    case FMA_NEGATE_PRODUCT | FMA_NEGATE_C:
        HOST_FMA("vfnmsub213ps");
        break;
    case 4:
        HOST_FMA("vfmadd213pd");
        break;
    case 4 | FMA_NEGATE_C:
        HOST_FMA("vfmsub213pd");
        break;
    case 4 | FMA_NEGATE_PRODUCT:
        HOST_FMA("vfnmadd213pd");
        break;
    default:
        HOST_FMA("vfnmsub213pd");
        break;
    }
    return b;
}

/* Not static: a test compares the two ways. */
x128 fma_elements(bool soft, bool wide, x128 a, x128 b, x128 c, unsigned negate);
x128 fma_elements(bool soft, bool wide, x128 a, x128 b, x128 c, unsigned negate) {
    return soft ? soft_elements(wide, a, b, c, negate) : host_elements(wide, a, b, c, negate);
}
static inline x128 elements(bool wide, x128 a, x128 b, x128 c, unsigned negate) {
    return fma_elements(!__builtin_cpu_supports("fma"), wide, a, b, c, negate);
}

#define CHOOSE(mask, a, b) _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b))

/* a * b + c as the opcode says; the elements outside `use` are zero for it and raise no flags. */
static x128 fma_half(const struct insn *i, bool wide, x128 use, x128 a, x128 b, x128 c) {
    const x128 even = wide ? _mm_set_epi32(0, 0, -1, -1) : _mm_set_epi32(0, -1, 0, -1);
    unsigned kind = i->opcode & 15;
    a = _mm_and_si128(a, use);
    b = _mm_and_si128(b, use);
    c = _mm_and_si128(c, use);
    if (kind == 6 || kind == 7) { /* VFMADDSUB adds in the odd elements, VFMSUBADD in the even ones */
        x128 add = kind == 6 ? _mm_andnot_si128(even, _mm_set1_epi32(-1)) : even;
        x128 sum = elements(wide, _mm_and_si128(a, add), _mm_and_si128(b, add), _mm_and_si128(c, add), 0);
        x128 rest =
            elements(wide, _mm_andnot_si128(add, a), _mm_andnot_si128(add, b), _mm_andnot_si128(add, c), FMA_NEGATE_C);
        return CHOOSE(add, sum, rest);
    }
    return elements(wide, a, b, c, negations(kind));
}

/* Operands 1 (destination), 2 (vvvv) and 3 as the factors a, b and the addend c; 213: 2 and 1 and 3. */
static inline void roles(const struct insn *i, x128 one, x128 two, x128 three, x128 *a, x128 *b, x128 *c) {
    switch (i->opcode >> 4) {
    case 0x9:
        *a = one;
        *b = three;
        *c = two;
        break;
    case 0xa:
        *a = two;
        *b = one;
        *c = three;
        break;
    default:
        *a = two;
        *b = three;
        *c = one;
        break;
    }
}

static ALWAYS_INLINE void fma128(sim_vcpu *cpu, const struct insn *i, bool wide, x128 use, x128 three) {
    x128 one = get_x(cpu, i->reg), a, b, c, r;
    roles(i, one, get_x(cpu, vex_vvvv(i)), three, &a, &b, &c);
    SSE_CHECKED(cpu, i, r = fma_half(i, wide, use, a, b, c));
    set_vx(cpu, i->reg, CHOOSE(use, r, one));
    NEXT(cpu, i);
}
static ALWAYS_INLINE void fma256(sim_vcpu *cpu, const struct insn *i, bool wide, struct y256 three) {
    const x128 all = _mm_set1_epi32(-1);
    struct y256 one = get_y(cpu, i->reg), two = get_y(cpu, vex_vvvv(i)), a, b, c, r;
    roles(i, one.lo, two.lo, three.lo, &a.lo, &b.lo, &c.lo);
    roles(i, one.hi, two.hi, three.hi, &a.hi, &b.hi, &c.hi);
    SSE_CHECKED(cpu, i, r.lo = fma_half(i, wide, all, a.lo, b.lo, c.lo);
                r.hi = fma_half(i, wide, all, a.hi, b.hi, c.hi));
    set_y(cpu, i->reg, r);
    NEXT(cpu, i);
}

#define PACKED(name, wide)                                                                                             \
    OP(v##name##_r) { fma128(cpu, i, wide, _mm_set1_epi32(-1), get_x(cpu, i->rm)); }                                   \
    OP(v##name##_m) { fma128(cpu, i, wide, _mm_set1_epi32(-1), ld128(cpu, i, i->seg, insn_ea(cpu, i), 1)); }           \
    OP(y##name##_r) { fma256(cpu, i, wide, get_y(cpu, i->rm)); }                                                       \
    OP(y##name##_m) { fma256(cpu, i, wide, ld256(cpu, i, i->seg, insn_ea(cpu, i), 1)); }
#define SCALAR(name, wide, use, bits)                                                                                  \
    OP(v##name##_r) { fma128(cpu, i, wide, use, get_x(cpu, i->rm)); }                                                  \
    OP(v##name##_m) { fma128(cpu, i, wide, use, from##bits(ld##bits(cpu, i, i->seg, insn_ea(cpu, i)))); }
PACKED(fma_ps, false)
PACKED(fma_pd, true)
SCALAR(fma_ss, false, _mm_set_epi32(0, 0, 0, -1), 32)
SCALAR(fma_sd, true, _mm_set_epi32(0, 0, -1, -1), 64)

/* ---- F16C -----------------------------------------------------------------------------------------------------------
 */

/* Four numbers in the low half. */
static x128 host_cvtph2ps(x128 a, x128 b, unsigned imm) {
    u64 from = (u64)_mm_cvtsi128_si64(b);
    u32 mxcsr = host_mxcsr(), flags = 0, r[4];
    (void)a;
    (void)imm;
    for (unsigned k = 0; k < 4; k++)
        r[k] = (u32)soft_convert(FLOAT16, FLOAT32, from >> 16 * k & 0xffff, 0, false, mxcsr, &flags);
    sse_flag(flags);
    return _mm_loadu_si128((const x128 *)(const void *)r);
}
static struct y256 y_cvtph2ps(sim_vcpu *cpu, const struct insn *i, x128 b) {
    return sse_run_y(cpu, i, host_cvtph2ps, (struct y256){b, b}, (struct y256){b, _mm_srli_si128(b, 8)});
}
OP(vcvtph2ps_r) {
    set_vx(cpu, i->reg, sse_run(cpu, i, host_cvtph2ps, get_x(cpu, i->rm), get_x(cpu, i->rm)));
    NEXT(cpu, i);
}
OP(vcvtph2ps_m) {
    x128 b = from64(ld64(cpu, i, i->seg, insn_ea(cpu, i)));
    set_vx(cpu, i->reg, sse_run(cpu, i, host_cvtph2ps, b, b));
    NEXT(cpu, i);
}
OP(ycvtph2ps_r) {
    set_y(cpu, i->reg, y_cvtph2ps(cpu, i, get_x(cpu, i->rm)));
    NEXT(cpu, i);
}
GEN_LOAD_X(ycvtph2ps_m, 1, set_y(cpu, i->reg, y_cvtph2ps(cpu, i, x)))

/* Four numbers to the low half; the destination is ModRM.rm.  FTZ counts for nothing here, so that an exact tiny result
 * must be told that underflow is not masked. */
static u64 to_half(sim_vcpu *cpu, const struct insn *i, x128 b) {
    bool exact_tiny = !(cpu->mxcsr & FP_UE << MXCSR_MASK_SHIFT);
    u32 mxcsr = host_mxcsr(), flags = 0, from[4];
    unsigned rc = i->imm & 4 ? mxcsr >> MXCSR_RC_SHIFT & 3 : i->imm & 3;
    u64 r = 0;
    _mm_storeu_si128((x128 *)(void *)from, b);
    for (unsigned k = 0; k < 4; k++)
        r |= soft_convert(FLOAT32, FLOAT16, from[k], rc, exact_tiny, mxcsr, &flags) << 16 * k;
    sse_flag(flags);
    return r;
}
static ALWAYS_INLINE x128 half_128(sim_vcpu *cpu, const struct insn *i) {
    u64 r;
    SSE_CHECKED(cpu, i, r = to_half(cpu, i, get_x(cpu, i->reg)));
    return from64(r);
}
static ALWAYS_INLINE x128 half_256(sim_vcpu *cpu, const struct insn *i) {
    u64 lo, hi;
    SSE_CHECKED(cpu, i, lo = to_half(cpu, i, get_x(cpu, i->reg)); hi = to_half(cpu, i, get_hi(cpu, i->reg)));
    return _mm_set_epi64x((s64)hi, (s64)lo);
}
OP(vcvtps2ph_r) {
    set_vx(cpu, i->rm, half_128(cpu, i));
    NEXT(cpu, i);
}
OP(ycvtps2ph_r) {
    set_vx(cpu, i->rm, half_256(cpu, i));
    NEXT(cpu, i);
}
/* MXCSR has the flags even when the write then faults. */
OP(vcvtps2ph_m) {
    st64(cpu, i, i->seg, insn_ea(cpu, i), (u64)_mm_cvtsi128_si64(half_128(cpu, i)));
    NEXT(cpu, i);
}
OP(ycvtps2ph_m) {
    st128(cpu, i, i->seg, insn_ea(cpu, i), 1, half_256(cpu, i));
    NEXT(cpu, i);
}
