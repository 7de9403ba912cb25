/* PCLMULQDQ: the product of two 64-bit polynomials over GF(2). */
#include "vector.h"

/* Four bits of b at a time. */
static inline x128 clmul(u64 a, u64 b) {
    unsigned __int128 multiple[16], r = 0;
    multiple[0] = 0;
    for (unsigned n = 1; n < 16; n++)
        multiple[n] = n & 1 ? multiple[n - 1] ^ a : multiple[n >> 1] << 1;
    for (int shift = 60; shift >= 0; shift -= 4)
        r = r << 4 ^ multiple[b >> shift & 15];
    return _mm_set_epi64x((s64)(u64)(r >> 64), (s64)(u64)r);
}
static inline u64 half(x128 x, unsigned high) { return (u64)_mm_cvtsi128_si64(high ? _mm_unpackhi_epi64(x, x) : x); }
static inline x128 product(x128 a, x128 b, unsigned imm) { return clmul(half(a, imm & 1), half(b, imm >> 4 & 1)); }

OP(pclmulqdq_r) {
    set_x(cpu, i->reg, product(get_x(cpu, i->reg), get_x(cpu, i->rm), vex_imm8(i)));
    NEXT(cpu, i);
}
GEN_LOAD_X(pclmulqdq_m, 16, set_x(cpu, i->reg, product(get_x(cpu, i->reg), x, vex_imm8(i))))
OP(vpclmulqdq_r) {
    set_vx(cpu, i->reg, product(get_x(cpu, vex_vvvv(i)), get_x(cpu, i->rm), vex_imm8(i)));
    NEXT(cpu, i);
}
GEN_LOAD_X(vpclmulqdq_m, 1, set_vx(cpu, i->reg, product(get_x(cpu, vex_vvvv(i)), x, vex_imm8(i))))

static inline struct y256 product_y(struct y256 a, struct y256 b, unsigned imm) {
    return (struct y256){product(a.lo, b.lo, imm), product(a.hi, b.hi, imm)};
}
OP(ypclmulqdq_r) {
    set_y(cpu, i->reg, product_y(get_y(cpu, vex_vvvv(i)), get_y(cpu, i->rm), vex_imm8(i)));
    NEXT(cpu, i);
}
GEN_LOAD_Y(ypclmulqdq_m, 1, set_y(cpu, i->reg, product_y(get_y(cpu, vex_vvvv(i)), y, vex_imm8(i))))
