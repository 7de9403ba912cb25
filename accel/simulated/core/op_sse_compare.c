/* SSE and AVX floating-point comparisons. */
#include "flags.h"
#include "sse_float.h"

/* ---- into masks: CMPPS, CMPPD, CMPSS, CMPSD -------------------------------------------------------------------------
 * Predicates 0 to 7 are the host's own.  AVX's 8 to 31 are put together from these. */

#define PREDICATES(name)                                                                                               \
    static ALWAYS_INLINE x128 legacy_##name(x128 a, x128 b, unsigned predicate) {                                      \
        switch (predicate & 7) {                                                                                       \
        case 0:                                                                                                        \
            __asm__ volatile("cmpeq" #name " %1, %0" : "+x"(a) : "x"(b));                                              \
            break;                                                                                                     \
        case 1:                                                                                                        \
            __asm__ volatile("cmplt" #name " %1, %0" : "+x"(a) : "x"(b));                                              \
            break;                                                                                                     \
        case 2:                                                                                                        \
            __asm__ volatile("cmple" #name " %1, %0" : "+x"(a) : "x"(b));                                              \
            break;                                                                                                     \
        case 3:                                                                                                        \
            __asm__ volatile("cmpunord" #name " %1, %0" : "+x"(a) : "x"(b));                                           \
            break;                                                                                                     \
        case 4:                                                                                                        \
            __asm__ volatile("cmpneq" #name " %1, %0" : "+x"(a) : "x"(b));                                             \
            break;                                                                                                     \
        case 5:                                                                                                        \
            __asm__ volatile("cmpnlt" #name " %1, %0" : "+x"(a) : "x"(b));                                             \
            break;                                                                                                     \
        case 6:                                                                                                        \
            __asm__ volatile("cmpnle" #name " %1, %0" : "+x"(a) : "x"(b));                                             \
            break;                                                                                                     \
        default:                                                                                                       \
            __asm__ volatile("cmpord" #name " %1, %0" : "+x"(a) : "x"(b));                                             \
            break;                                                                                                     \
        }                                                                                                              \
        return a;                                                                                                      \
    }
PREDICATES(ps)
PREDICATES(pd)
PREDICATES(ss)
PREDICATES(sd)
enum { EQ, LT, LE, UNORD, NEQ, NLT, NLE, ORD };

/* What of less, equal, greater and unordered makes predicates 0 to 15 true; 16 to 31 repeat them, but signal a quiet
 * NaN where those do not and do not where those do. */
enum { IS_LT = 1, IS_EQ = 2, IS_GT = 4, IS_UN = 8 };
static const u8 truth[16] = {IS_EQ,
                             IS_LT,
                             IS_LT | IS_EQ,
                             IS_UN,
                             IS_LT | IS_GT | IS_UN,
                             IS_EQ | IS_GT | IS_UN,
                             IS_GT | IS_UN,
                             7,
                             IS_EQ | IS_UN,
                             IS_LT | IS_UN,
                             IS_LT | IS_EQ | IS_UN,
                             0,
                             IS_LT | IS_GT,
                             IS_GT | IS_EQ,
                             IS_GT,
                             15};
static const u16 signals = 1u << 1 | 1u << 2 | 1u << 5 | 1u << 6 | 1u << 9 | 1u << 10 | 1u << 13 | 1u << 14;

/* `keep` is the bits of the destination that the comparison is for: all, or the low element's. */
#define ANY_PREDICATE(name, KEEP)                                                                                      \
    static NOINLINE x128 further_##name(x128 a, x128 b, unsigned predicate) {                                          \
        const x128 keep = KEEP;                                                                                        \
        unsigned when = truth[predicate & 15];                                                                         \
        x128 ordered = legacy_##name(a, b, ORD), r = _mm_setzero_si128();                                              \
        /* a quiet NaN signals in LT; without NaNs (0 instead) nothing does */                                         \
        if ((signals >> (predicate & 15) & 1) != (predicate >> 4 & 1))                                                 \
            (void)legacy_##name(a, b, LT);                                                                             \
        x128 x = _mm_and_si128(a, ordered), y = _mm_and_si128(b, ordered);                                             \
        if (when & IS_LT)                                                                                              \
            r = _mm_or_si128(r, _mm_and_si128(ordered, legacy_##name(x, y, LT)));                                      \
        if (when & IS_GT)                                                                                              \
            r = _mm_or_si128(r, _mm_and_si128(ordered, legacy_##name(y, x, LT)));                                      \
        if (when & IS_EQ)                                                                                              \
            r = _mm_or_si128(r, _mm_and_si128(ordered, legacy_##name(x, y, EQ)));                                      \
        if (when & IS_UN)                                                                                              \
            r = _mm_or_si128(r, _mm_andnot_si128(ordered, _mm_set1_epi32(-1)));                                        \
        return _mm_or_si128(_mm_and_si128(keep, r), _mm_andnot_si128(keep, a));                                        \
    }                                                                                                                  \
    static ALWAYS_INLINE x128 host_cmp##name(x128 a, x128 b, unsigned imm) {                                           \
        return (imm & 0x18) ? further_##name(a, b, imm & 31) : legacy_##name(a, b, imm);                               \
    }                                                                                                                  \
    /* the legacy forms have 8 predicates whatever else the immediate says */                                          \
    static ALWAYS_INLINE x128 host8_cmp##name(x128 a, x128 b, unsigned imm) { return legacy_##name(a, b, imm); }
ANY_PREDICATE(ps, _mm_set1_epi32(-1))
ANY_PREDICATE(pd, _mm_set1_epi32(-1))
ANY_PREDICATE(ss, _mm_set_epi32(0, 0, 0, -1))
ANY_PREDICATE(sd, _mm_set_epi32(0, 0, -1, -1))

GEN_PACKED_SSE(cmpps, host8_cmpps)
GEN_PACKED_SSE(cmppd, host8_cmppd)
GEN_SCALAR_SSE(cmpss, host8_cmpss, 32)
GEN_SCALAR_SSE(cmpsd, host8_cmpsd, 64)
GEN_PACKED_AVX(cmpps, host_cmpps)
GEN_PACKED_AVX(cmppd, host_cmppd)
GEN_SCALAR_AVX(cmpss, host_cmpss, 32)
GEN_SCALAR_AVX(cmpsd, host_cmpsd, 64)

/* ---- into EFLAGS ----------------------------------------------------------------------------------------------------
 */

#define COMPARE(name, bits)                                                                                            \
    static ALWAYS_INLINE void do_##name(sim_vcpu *cpu, const struct insn *i, x128 b) {                                 \
        x128 a = get_x(cpu, i->reg);                                                                                   \
        bool zf, pf, cf;                                                                                               \
        SSE_CHECKED(cpu, i,                                                                                            \
                    __asm__ volatile(#name " %4, %3"                                                                   \
                                     : "=@ccz"(zf), "=@ccp"(pf), "=@ccc"(cf)                                           \
                                     : "x"(a), "x"(b)));                                                               \
        set_arith_flags(cpu, (zf ? FL_ZF : 0) | (pf ? FL_PF : 0) | (cf ? FL_CF : 0));                                  \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_r) { do_##name(cpu, i, get_x(cpu, i->rm)); }                                                             \
    OP(name##_m) { do_##name(cpu, i, from##bits(ld##bits(cpu, i, i->seg, insn_ea(cpu, i)))); }
COMPARE(comiss, 32)
COMPARE(ucomiss, 32)
COMPARE(comisd, 64)
COMPARE(ucomisd, 64)
