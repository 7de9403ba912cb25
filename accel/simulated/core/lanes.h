/* The integer arithmetic of MMX, SSE and AVX on 16-byte values: do_<name>(a, b), a the first source.
 *
 * AVX does the same to each half of 32 bytes; MMX is the lower 8 bytes, but for what moves data across (see the lists).
 * Written for a host with no more than SSE2.
 */
#ifndef SIM_LANES_H
#define SIM_LANES_H
#include "vector.h"

union lanes {
    x128 x;
    u8 b[16];
    s8 sb[16];
    u16 w[8];
    s16 sw[8];
    u32 d[4];
    s32 sd[4];
    u64 q[2];
    s64 sq[2];
};
static inline x128 pick(x128 mask, x128 yes, x128 no) {
    return _mm_or_si128(_mm_and_si128(mask, yes), _mm_andnot_si128(mask, no));
}

// clang-format off

/* ---- lane by lane: also the MMX form, as it stands ---- */
GEN_BINARY_FN(paddb, _mm_add_epi8(a, b))       GEN_BINARY_FN(paddw, _mm_add_epi16(a, b))
GEN_BINARY_FN(paddd, _mm_add_epi32(a, b))      GEN_BINARY_FN(paddq, _mm_add_epi64(a, b))
GEN_BINARY_FN(psubb, _mm_sub_epi8(a, b))       GEN_BINARY_FN(psubw, _mm_sub_epi16(a, b))
GEN_BINARY_FN(psubd, _mm_sub_epi32(a, b))      GEN_BINARY_FN(psubq, _mm_sub_epi64(a, b))
GEN_BINARY_FN(paddsb, _mm_adds_epi8(a, b))     GEN_BINARY_FN(paddsw, _mm_adds_epi16(a, b))
GEN_BINARY_FN(paddusb, _mm_adds_epu8(a, b))    GEN_BINARY_FN(paddusw, _mm_adds_epu16(a, b))
GEN_BINARY_FN(psubsb, _mm_subs_epi8(a, b))     GEN_BINARY_FN(psubsw, _mm_subs_epi16(a, b))
GEN_BINARY_FN(psubusb, _mm_subs_epu8(a, b))    GEN_BINARY_FN(psubusw, _mm_subs_epu16(a, b))
GEN_BINARY_FN(pmullw, _mm_mullo_epi16(a, b))   GEN_BINARY_FN(pmulhw, _mm_mulhi_epi16(a, b))
GEN_BINARY_FN(pmulhuw, _mm_mulhi_epu16(a, b))  GEN_BINARY_FN(pmuludq, _mm_mul_epu32(a, b))
GEN_BINARY_FN(pmaddwd, _mm_madd_epi16(a, b))   GEN_BINARY_FN(psadbw, _mm_sad_epu8(a, b))
GEN_BINARY_FN(pavgb, _mm_avg_epu8(a, b))       GEN_BINARY_FN(pavgw, _mm_avg_epu16(a, b))
GEN_BINARY_FN(pminub, _mm_min_epu8(a, b))      GEN_BINARY_FN(pmaxub, _mm_max_epu8(a, b))
GEN_BINARY_FN(pminsw, _mm_min_epi16(a, b))     GEN_BINARY_FN(pmaxsw, _mm_max_epi16(a, b))
GEN_BINARY_FN(pand, _mm_and_si128(a, b))       GEN_BINARY_FN(pandn, _mm_andnot_si128(a, b))
GEN_BINARY_FN(por, _mm_or_si128(a, b))         GEN_BINARY_FN(pxor, _mm_xor_si128(a, b))
GEN_BINARY_FN(pcmpeqb, _mm_cmpeq_epi8(a, b))   GEN_BINARY_FN(pcmpeqw, _mm_cmpeq_epi16(a, b))
GEN_BINARY_FN(pcmpeqd, _mm_cmpeq_epi32(a, b))  GEN_BINARY_FN(pcmpgtb, _mm_cmpgt_epi8(a, b))
GEN_BINARY_FN(pcmpgtw, _mm_cmpgt_epi16(a, b))  GEN_BINARY_FN(pcmpgtd, _mm_cmpgt_epi32(a, b))
/* SSSE3: a gets the sign of b */
GEN_BINARY_FN(psignb, (((v_u8)a ^ (v_u8)((v_s8)b < 0)) - (v_u8)((v_s8)b < 0)) & (v_u8)((v_s8)b != 0))
GEN_BINARY_FN(psignw, (((v_u16)a ^ (v_u16)((v_s16)b < 0)) - (v_u16)((v_s16)b < 0)) & (v_u16)((v_s16)b != 0))
GEN_BINARY_FN(psignd, (((v_u32)a ^ (v_u32)((v_s32)b < 0)) - (v_u32)((v_s32)b < 0)) & (v_u32)((v_s32)b != 0))
/* bytes of a are unsigned, of b signed: products of neighbours added */
GEN_BINARY_FN(pmaddubsw,
    _mm_adds_epi16(_mm_mullo_epi16(_mm_and_si128(a, _mm_set1_epi16(255)), _mm_srai_epi16(_mm_slli_epi16(b, 8), 8)),
                   _mm_mullo_epi16(_mm_srli_epi16(a, 8), _mm_srai_epi16(b, 8))))
static inline x128 wrap16(x128 v) { return _mm_srai_epi32(_mm_slli_epi32(v, 16), 16); } /* low half of each, signed */
static inline x128 round15(x128 product) {
    return wrap16(_mm_srai_epi32(_mm_add_epi32(_mm_srai_epi32(product, 14), _mm_set1_epi32(1)), 1));
}
GEN_BINARY_FN(pmulhrsw,
    _mm_packs_epi32(round15(_mm_unpacklo_epi16(_mm_mullo_epi16(a, b), _mm_mulhi_epi16(a, b))),
                    round15(_mm_unpackhi_epi16(_mm_mullo_epi16(a, b), _mm_mulhi_epi16(a, b)))))

#define MMX_ALSO(X)                                                                                                    \
    X(paddb) X(paddw) X(paddd) X(paddq) X(psubb) X(psubw) X(psubd) X(psubq) X(paddsb) X(paddsw) X(paddusb) X(paddusw)  \
    X(psubsb) X(psubsw) X(psubusb) X(psubusw) X(pmullw) X(pmulhw) X(pmulhuw) X(pmuludq) X(pmaddwd) X(psadbw)           \
    X(pavgb) X(pavgw) X(pminub) X(pmaxub) X(pminsw) X(pmaxsw) X(pand) X(pandn) X(por) X(pxor) X(pcmpeqb) X(pcmpeqw)    \
    X(pcmpeqd) X(pcmpgtb) X(pcmpgtw) X(pcmpgtd) X(psignb) X(psignw) X(psignd) X(pmaddubsw) X(pmulhrsw)

/* ---- the MMX form takes a and b for the halves of one value ---- */
GEN_BINARY_FN(packsswb, _mm_packs_epi16(a, b)) GEN_BINARY_FN(packuswb, _mm_packus_epi16(a, b))
GEN_BINARY_FN(packssdw, _mm_packs_epi32(a, b))
#define ODD_NEGATIVE _mm_set1_epi32((s32)0xffff0001)
#define EVENS(a, b) _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0x88))
#define ODDS(a, b)  _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0xdd))
GEN_BINARY_FN(phaddw, _mm_packs_epi32(wrap16(_mm_madd_epi16(a, _mm_set1_epi16(1))), wrap16(_mm_madd_epi16(b, _mm_set1_epi16(1)))))
GEN_BINARY_FN(phaddsw, _mm_packs_epi32(_mm_madd_epi16(a, _mm_set1_epi16(1)), _mm_madd_epi16(b, _mm_set1_epi16(1))))
GEN_BINARY_FN(phsubw, _mm_packs_epi32(wrap16(_mm_madd_epi16(a, ODD_NEGATIVE)), wrap16(_mm_madd_epi16(b, ODD_NEGATIVE))))
GEN_BINARY_FN(phsubsw, _mm_packs_epi32(_mm_madd_epi16(a, ODD_NEGATIVE), _mm_madd_epi16(b, ODD_NEGATIVE)))
GEN_BINARY_FN(phaddd, _mm_add_epi32(EVENS(a, b), ODDS(a, b)))
GEN_BINARY_FN(phsubd, _mm_sub_epi32(EVENS(a, b), ODDS(a, b)))
#define MMX_HALVES(X) X(packsswb) X(packuswb) X(packssdw) X(phaddw) X(phaddsw) X(phsubw) X(phsubsw) X(phaddd) X(phsubd)

/* ---- no MMX form, or one of its own (op_mmx.c) ---- */
GEN_BINARY_FN(punpcklbw, _mm_unpacklo_epi8(a, b))   GEN_BINARY_FN(punpckhbw, _mm_unpackhi_epi8(a, b))
GEN_BINARY_FN(punpcklwd, _mm_unpacklo_epi16(a, b))  GEN_BINARY_FN(punpckhwd, _mm_unpackhi_epi16(a, b))
GEN_BINARY_FN(punpckldq, _mm_unpacklo_epi32(a, b))  GEN_BINARY_FN(punpckhdq, _mm_unpackhi_epi32(a, b))
GEN_BINARY_FN(punpcklqdq, _mm_unpacklo_epi64(a, b)) GEN_BINARY_FN(punpckhqdq, _mm_unpackhi_epi64(a, b))
static inline x128 do_pshufb(x128 a, x128 b) {
    union lanes from = {.x = a}, by = {.x = b}, to;
    for (unsigned k = 0; k < 16; k++)
        to.b[k] = by.b[k] & 0x80 ? 0 : from.b[by.b[k] & 15];
    return to.x;
}
/* SSE4 */
GEN_BINARY_FN(pcmpeqq, (v_s64)a == (v_s64)b)
GEN_BINARY_FN(pcmpgtq, (v_s64)a > (v_s64)b)
GEN_BINARY_FN(pminsb, pick((x128)((v_s8)a < (v_s8)b), a, b))    GEN_BINARY_FN(pmaxsb, pick((x128)((v_s8)a > (v_s8)b), a, b))
GEN_BINARY_FN(pminsd, pick((x128)((v_s32)a < (v_s32)b), a, b))  GEN_BINARY_FN(pmaxsd, pick((x128)((v_s32)a > (v_s32)b), a, b))
GEN_BINARY_FN(pminuw, pick((x128)((v_u16)a < (v_u16)b), a, b))  GEN_BINARY_FN(pmaxuw, pick((x128)((v_u16)a > (v_u16)b), a, b))
GEN_BINARY_FN(pminud, pick((x128)((v_u32)a < (v_u32)b), a, b))  GEN_BINARY_FN(pmaxud, pick((x128)((v_u32)a > (v_u32)b), a, b))
GEN_BINARY_FN(pmulld, (v_u32)a * (v_u32)b)
static inline x128 do_pmuldq(x128 a, x128 b) {
    union lanes x = {.x = a}, y = {.x = b}, to;
    for (unsigned k = 0; k < 2; k++)
        to.sq[k] = (s64)x.sd[2 * k] * y.sd[2 * k];
    return to.x;
}
static inline x128 do_packusdw(x128 a, x128 b) {
    union lanes x = {.x = a}, y = {.x = b}, to;
    for (unsigned k = 0; k < 8; k++) {
        s32 v = k < 4 ? x.sd[k] : y.sd[k - 4];
        to.w[k] = v < 0 ? 0 : v > 0xffff ? 0xffff : (u16)v;
    }
    return to.x;
}
#define NO_MMX(X)                                                                                                      \
    X(punpcklbw) X(punpckhbw) X(punpcklwd) X(punpckhwd) X(punpckldq) X(punpckhdq) X(punpcklqdq) X(punpckhqdq)          \
    X(pshufb) X(pcmpeqq) X(pcmpgtq) X(pminsb) X(pmaxsb) X(pminsd) X(pmaxsd) X(pminuw) X(pmaxuw) X(pminud) X(pmaxud)    \
    X(pmulld) X(pmuldq) X(packusdw)

#define ALL_BINARY(X) MMX_ALSO(X) MMX_HALVES(X) NO_MMX(X)

/* ---- shifts: b's low quadword is the count of all lanes ---- */
GEN_BINARY_FN(psrlw, _mm_srl_epi16(a, b)) GEN_BINARY_FN(psrld, _mm_srl_epi32(a, b)) GEN_BINARY_FN(psrlq, _mm_srl_epi64(a, b))
GEN_BINARY_FN(psraw, _mm_sra_epi16(a, b)) GEN_BINARY_FN(psrad, _mm_sra_epi32(a, b))
GEN_BINARY_FN(psllw, _mm_sll_epi16(a, b)) GEN_BINARY_FN(pslld, _mm_sll_epi32(a, b)) GEN_BINARY_FN(psllq, _mm_sll_epi64(a, b))
#define SHIFTS(X) X(psrlw) X(psrld) X(psrlq) X(psraw) X(psrad) X(psllw) X(pslld) X(psllq)
static inline x128 shift_bytes_right(x128 a, x128 above, unsigned n) { /* bytes n..n+15 of above:a */
    u8 room[48];
    if (n > 32)
        n = 32;
    _mm_storeu_si128((x128 *)(void *)room, a);
    _mm_storeu_si128((x128 *)(void *)(room + 16), above);
    _mm_storeu_si128((x128 *)(void *)(room + 32), _mm_setzero_si128());
    return _mm_loadu_si128((const x128 *)(const void *)(room + n));
}
static inline x128 do_psrldq(x128 a, unsigned n) { return shift_bytes_right(a, _mm_setzero_si128(), n > 16 ? 16 : n); }
static inline x128 do_pslldq(x128 a, unsigned n) {
    return n > 15 ? _mm_setzero_si128() : shift_bytes_right(_mm_setzero_si128(), a, 16 - n);
}

/* ---- one source ---- */
#define GEN_UNARY_FN(name, EXPR) static inline x128 do_##name(x128 b) { return (x128)(EXPR); }
GEN_UNARY_FN(pabsb, ((v_u8)b ^ (v_u8)((v_s8)b < 0)) - (v_u8)((v_s8)b < 0))
GEN_UNARY_FN(pabsw, ((v_u16)b ^ (v_u16)((v_s16)b < 0)) - (v_u16)((v_s16)b < 0))
GEN_UNARY_FN(pabsd, ((v_u32)b ^ (v_u32)((v_s32)b < 0)) - (v_u32)((v_s32)b < 0))
GEN_UNARY_FN(movsldup, _mm_shuffle_epi32(b, 0xa0))
GEN_UNARY_FN(movshdup, _mm_shuffle_epi32(b, 0xf5))
#define UNARY(X) X(pabsb) X(pabsw) X(pabsd) X(movsldup) X(movshdup)

/* ---- with an immediate byte ---- */
static inline x128 shuffle_d(x128 a, x128 b, unsigned order) { /* two lanes of a, then two of b */
    union lanes x = {.x = a}, y = {.x = b}, to;
    to.d[0] = x.d[order & 3];
    to.d[1] = x.d[order >> 2 & 3];
    to.d[2] = y.d[order >> 4 & 3];
    to.d[3] = y.d[order >> 6 & 3];
    return to.x;
}
static inline u64 shuffle_w(u64 v, unsigned order) {
    u64 to = 0;
    for (unsigned k = 0; k < 4; k++)
        to |= (v >> (order >> 2 * k & 3) * 16 & 0xffff) << 16 * k;
    return to;
}
static inline x128 do_pshufd(x128 b, unsigned n) { return shuffle_d(b, b, n); }
static inline x128 do_pshuflw(x128 b, unsigned n) {
    union lanes v = {.x = b};
    v.q[0] = shuffle_w(v.q[0], n);
    return v.x;
}
static inline x128 do_pshufhw(x128 b, unsigned n) {
    union lanes v = {.x = b};
    v.q[1] = shuffle_w(v.q[1], n);
    return v.x;
}
#define UNARY_IMM(X) X(pshufd) X(pshuflw) X(pshufhw)

static inline x128 do_shufps(x128 a, x128 b, unsigned n) { return shuffle_d(a, b, n); }
static inline x128 do_shufpd(x128 a, x128 b, unsigned n) {
    union lanes x = {.x = a}, y = {.x = b}, to;
    to.q[0] = x.q[n & 1];
    to.q[1] = y.q[n >> 1 & 1];
    return to.x;
}
static inline x128 do_palignr(x128 a, x128 b, unsigned n) { return shift_bytes_right(b, a, n); }
static inline x128 do_pblendw(x128 a, x128 b, unsigned n) {
    union lanes x = {.x = a}, y = {.x = b};
    for (unsigned k = 0; k < 8; k++)
        x.w[k] = n >> k & 1 ? y.w[k] : x.w[k];
    return x.x;
}
static inline x128 do_blendps(x128 a, x128 b, unsigned n) {
    union lanes x = {.x = a}, y = {.x = b};
    for (unsigned k = 0; k < 4; k++)
        x.d[k] = n >> k & 1 ? y.d[k] : x.d[k];
    return x.x;
}
static inline x128 do_blendpd(x128 a, x128 b, unsigned n) {
    union lanes x = {.x = a}, y = {.x = b};
    for (unsigned k = 0; k < 2; k++)
        x.q[k] = n >> k & 1 ? y.q[k] : x.q[k];
    return x.x;
}
static inline x128 do_mpsadbw(x128 a, x128 b, unsigned n) {
    union lanes x = {.x = a}, y = {.x = b}, to;
    unsigned from = (n >> 2 & 1) * 4, with = (n & 3) * 4;
    for (unsigned k = 0; k < 8; k++) {
        unsigned sum = 0;
        for (unsigned m = 0; m < 4; m++) {
            int d = x.b[from + k + m] - y.b[with + m];
            sum += (unsigned)(d < 0 ? -d : d);
        }
        to.w[k] = (u16)sum;
    }
    return to.x;
}
/* with how far the upper half of 32 bytes has the immediate shifted */
#define BINARY_IMM(X)                                                                                                  \
    X(palignr, 0) X(mpsadbw, 3) X(shufps, 0) X(shufpd, 2) X(pblendw, 0) X(blendps, 4) X(blendpd, 2)

/* ---- PMOVSX, PMOVZX: X(name, bits read for 16 bytes) ---- */
#define GEN_EXTEND_FN(name, FROM, TO, N)                                                                               \
    static inline x128 do_##name(x128 b) {                                                                             \
        union lanes from = {.x = b}, to;                                                                               \
        for (unsigned k = 0; k < N; k++)                                                                               \
            to.TO[k] = from.FROM[k];                                                                                   \
        return to.x;                                                                                                   \
    }
GEN_EXTEND_FN(pmovsxbw, sb, sw, 8) GEN_EXTEND_FN(pmovsxbd, sb, sd, 4) GEN_EXTEND_FN(pmovsxbq, sb, sq, 2)
GEN_EXTEND_FN(pmovsxwd, sw, sd, 4) GEN_EXTEND_FN(pmovsxwq, sw, sq, 2) GEN_EXTEND_FN(pmovsxdq, sd, sq, 2)
GEN_EXTEND_FN(pmovzxbw, b, w, 8)   GEN_EXTEND_FN(pmovzxbd, b, d, 4)   GEN_EXTEND_FN(pmovzxbq, b, q, 2)
GEN_EXTEND_FN(pmovzxwd, w, d, 4)   GEN_EXTEND_FN(pmovzxwq, w, q, 2)   GEN_EXTEND_FN(pmovzxdq, d, q, 2)
#define EXTENDS(X)                                                                                                     \
    X(pmovsxbw, 64) X(pmovsxbd, 32) X(pmovsxbq, 16) X(pmovsxwd, 64) X(pmovsxwq, 32) X(pmovsxdq, 64)                    \
    X(pmovzxbw, 64) X(pmovzxbd, 32) X(pmovzxbq, 16) X(pmovzxwd, 64) X(pmovzxwq, 32) X(pmovzxdq, 64)

/* ---- blends by the sign bits of a register ---- */
static inline x128 do_pblendvb(x128 a, x128 b, x128 mask) { return pick((x128)((v_s8)mask < 0), b, a); }
static inline x128 do_blendvps(x128 a, x128 b, x128 mask) { return pick((x128)((v_s32)mask < 0), b, a); }
static inline x128 do_blendvpd(x128 a, x128 b, x128 mask) { return pick((x128)((v_s64)mask < 0), b, a); }
#define BLENDVS(X) X(pblendvb) X(blendvps) X(blendvpd)

static inline x128 do_phminposuw(x128 b) {
    union lanes from = {.x = b}, to = {.x = _mm_setzero_si128()};
    unsigned at = 0;
    for (unsigned k = 1; k < 8; k++)
        if (from.w[k] < from.w[at])
            at = k;
    to.w[0] = from.w[at];
    to.w[1] = (u16)at;
    return to.x;
}
static inline bool all_zero(x128 a) { return _mm_movemask_epi8(_mm_cmpeq_epi8(a, _mm_setzero_si128())) == 0xffff; }

// clang-format on
#endif
