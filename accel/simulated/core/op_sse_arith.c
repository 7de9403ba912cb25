/* SSE and AVX floating-point arithmetic: the four operations, roots, minima, horizontal forms, dot products; and how
 * unmasked exceptions are raised. */
#include "sse_float.h"

/* ---- unmasked exceptions --------------------------------------------------------------------------------------------
 * FTZ works only while underflow is masked, so it is taken out when it is not.  A second pass with FTZ then shows which
 * results were tiny, as FTZ flushes (and flags) these even when they are exact. */

static inline bool underflow_unmasked(const sim_vcpu *cpu) { return !(cpu->mxcsr & FP_UE << MXCSR_MASK_SHIFT); }

void sse_begin(sim_vcpu *cpu, struct sse_pass *p) {
    u32 v = (guest_mxcsr(cpu) & ~FP_FLAGS) | MXCSR_MASKS;
    if (underflow_unmasked(cpu))
        v &= ~MXCSR_FTZ;
    *p = (struct sse_pass){0, false};
    set_host_mxcsr(v);
}

bool sse_again(sim_vcpu *cpu, struct sse_pass *p) {
    u32 v = host_mxcsr();
    p->flags |= v & (p->second ? FP_UE : FP_FLAGS);
    if (!underflow_unmasked(cpu) || p->second)
        return false;
    p->second = true;
    set_host_mxcsr((v & ~FP_FLAGS) | MXCSR_FTZ);
    return true;
}

void sse_end(sim_vcpu *cpu, const struct insn *i, const struct sse_pass *p) {
    const u32 before = FP_IE | FP_DE | FP_ZE;
    u32 flags = p->flags, unmasked = flags & ~(cpu->mxcsr >> MXCSR_MASK_SHIFT);
    if (unmasked & before)
        flags &= before; /* no element gets as far as a result */
    set_guest_mxcsr(cpu, cpu->mxcsr | flags);
    if (unmasked) {
        BEGIN(cpu, i);
        raise_fault(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD, 0);
    }
}

NOINLINE x128 sse_checked(sim_vcpu *cpu, const struct insn *i, host_sse op, x128 a, x128 b, unsigned imm) {
    struct sse_pass p;
    x128 r;
    sse_begin(cpu, &p);
    do
        r = op(a, b, imm);
    while (sse_again(cpu, &p));
    sse_end(cpu, i, &p);
    return r;
}

NOINLINE struct y256 sse_checked_y(sim_vcpu *cpu, const struct insn *i, host_sse op, const struct y256 *a,
                                   const struct y256 *b, unsigned imm) {
    struct sse_pass p;
    struct y256 r;
    sse_begin(cpu, &p);
    do {
        r.lo = op(a->lo, b->lo, imm);
        r.hi = op(a->hi, b->hi, imm);
    } while (sse_again(cpu, &p));
    sse_end(cpu, i, &p);
    return r;
}

/* ---- element by element ---------------------------------------------------------------------------------------------
 */

#define BINARY(name)                                                                                                   \
    HOST_BINARY(host_##name##ps, #name "ps")                                                                           \
    HOST_BINARY(host_##name##pd, #name "pd")                                                                           \
    HOST_BINARY(host_##name##ss, #name "ss")                                                                           \
    HOST_BINARY(host_##name##sd, #name "sd")                                                                           \
    GEN_PACKED(name##ps, host_##name##ps)                                                                              \
    GEN_PACKED(name##pd, host_##name##pd)                                                                              \
    GEN_SCALAR(name##ss, host_##name##ss, 32)                                                                          \
    GEN_SCALAR(name##sd, host_##name##sd, 64)
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(min)
BINARY(max)

/* The packed ones have one operand; the scalar ones keep the rest of the first. */
#define ROOT(name, suffix, bits)                                                                                       \
    HOST_UNARY(host_##name##p##suffix, #name "p" #suffix)                                                              \
    HOST_BINARY(host_##name##s##suffix, #name "s" #suffix)                                                             \
    GEN_PACKED(name##p##suffix, host_##name##p##suffix)                                                                \
    GEN_SCALAR(name##s##suffix, host_##name##s##suffix, bits)
ROOT(sqrt, s, 32)
ROOT(sqrt, d, 64)
/* Approximations: as precise as the host's, and bit by bit the same. */
ROOT(rcp, s, 32)
ROOT(rsqrt, s, 32)

/* ---- SSE3: neighbours -----------------------------------------------------------------------------------------------
 */

#define SHUFFLE(a, b, order) ((x128)_mm_shuffle_ps((__m128)(a), (__m128)(b), order))

static ALWAYS_INLINE x128 even_ps(x128 a, x128 b) { return SHUFFLE(a, b, 0x88); }
static ALWAYS_INLINE x128 odd_ps(x128 a, x128 b) { return SHUFFLE(a, b, 0xdd); }
#define HORIZONTAL(name, code)                                                                                         \
    static x128 host_##name##ps(x128 a, x128 b, unsigned imm) {                                                        \
        return host_##code##ps(even_ps(a, b), odd_ps(a, b), imm);                                                      \
    }                                                                                                                  \
    static x128 host_##name##pd(x128 a, x128 b, unsigned imm) {                                                        \
        return host_##code##pd(_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b), imm);                               \
    }                                                                                                                  \
    GEN_PACKED(name##ps, host_##name##ps)                                                                              \
    GEN_PACKED(name##pd, host_##name##pd)
HORIZONTAL(hadd, add)
HORIZONTAL(hsub, sub)

/* Subtract in the even elements, add in the odd ones.  Elements that an operation is not for are zero for it: these
 * raise no flags. */
#define ADDSUB(suffix, even)                                                                                           \
    static x128 host_addsub##suffix(x128 a, x128 b, unsigned imm) {                                                    \
        const x128 m = even;                                                                                           \
        x128 less = host_sub##suffix(_mm_and_si128(a, m), _mm_and_si128(b, m), imm);                                   \
        x128 more = host_add##suffix(_mm_andnot_si128(m, a), _mm_andnot_si128(m, b), imm);                             \
        return _mm_or_si128(_mm_and_si128(m, less), _mm_andnot_si128(m, more));                                        \
    }                                                                                                                  \
    GEN_PACKED(addsub##suffix, host_addsub##suffix)
ADDSUB(ps, _mm_set_epi32(0, -1, 0, -1))
ADDSUB(pd, _mm_set_epi32(0, 0, -1, -1))

/* ---- SSE4.1: dot products -------------------------------------------------------------------------------------------
 * imm 7:4: which products count (others are +0), 3:0: where the sum goes. */

static x128 lanes4(unsigned bits) {
    return _mm_set_epi32(-(int)(bits >> 3 & 1), -(int)(bits >> 2 & 1), -(int)(bits >> 1 & 1), -(int)(bits & 1));
}
static x128 lanes2(unsigned bits) { return _mm_set_epi64x(-(s64)(bits >> 1 & 1), -(s64)(bits & 1)); }

/* Every element adds up its own way, which shows in which NaN it gets. */
static x128 host_dpps(x128 a, x128 b, unsigned imm) {
    x128 use = lanes4(imm >> 4);
    x128 t = _mm_and_si128(host_mulps(_mm_and_si128(a, use), _mm_and_si128(b, use), 0), use);
    t = host_addps(SHUFFLE(t, t, 0xb1), t, 0); /* 1+0 0+1 3+2 2+3 */
    t = host_addps(t, SHUFFLE(t, t, 0x4e), 0); /* with the other half's */
    return _mm_and_si128(t, lanes4(imm));
}
static x128 host_dppd(x128 a, x128 b, unsigned imm) {
    x128 use = lanes2(imm >> 4);
    x128 t = _mm_and_si128(host_mulpd(_mm_and_si128(a, use), _mm_and_si128(b, use), 0), use);
    t = host_addpd(t, _mm_shuffle_epi32(t, 0x4e), 0);
    return _mm_and_si128(t, lanes2(imm));
}
GEN_PACKED(dpps, host_dpps)
GEN_PACKED(dppd, host_dppd)
