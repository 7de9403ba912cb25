/* See soft_float.h. */
#include "soft_float.h"

typedef unsigned __int128 u128;

enum { ZERO, FINITE, INFINITE, QUIET, SIGNALLING };
struct unpacked {
    bool negative, denormal;
    u8 kind;
    s32 exp; /* of the lowest bit of mant */
    u64 mant;
};

static u64 exp_max(struct float_format f) { return ((u64)1 << f.exp_bits) - 1; }
static s32 bias(struct float_format f) { return (s32)(exp_max(f) >> 1); }
static u64 quiet_bit(struct float_format f) { return (u64)1 << (f.frac_bits - 1); }
static u64 sign_of(struct float_format f, bool negative) { return (u64)negative << (f.frac_bits + f.exp_bits); }
static u64 infinity(struct float_format f, bool negative) { return sign_of(f, negative) | exp_max(f) << f.frac_bits; }
static u64 indefinite(struct float_format f) { return infinity(f, true) | quiet_bit(f); }

static struct unpacked unpack(struct float_format f, u64 x, bool daz) {
    u64 frac = x & (((u64)1 << f.frac_bits) - 1), exp = x >> f.frac_bits & exp_max(f);
    struct unpacked u = {.negative = x >> (f.frac_bits + f.exp_bits) & 1};
    if (exp == exp_max(f))
        u.kind = !frac ? INFINITE : frac & quiet_bit(f) ? QUIET : SIGNALLING;
    else if (exp) {
        u.kind = FINITE;
        u.mant = frac | (u64)1 << f.frac_bits;
        u.exp = (s32)exp - bias(f) - f.frac_bits;
    } else if (frac && !daz) {
        u.kind = FINITE;
        u.denormal = true;
        u.mant = frac;
        u.exp = 1 - bias(f) - f.frac_bits;
    }
    return u;
}

static unsigned top_bit(u128 v) {
    return (u64)(v >> 64) ? 127 - (unsigned)__builtin_clzll((u64)(v >> 64)) : 63 - (unsigned)__builtin_clzll((u64)v);
}

/* m without its lowest n bits, rounded; whether that changed it. */
static u128 round_off(u128 m, unsigned n, bool negative, unsigned rc, bool *inexact) {
    u128 kept = n < 128 ? m >> n : 0, rest = n < 128 ? m & (((u128)1 << n) - 1) : m;
    bool up = false;
    *inexact = rest != 0;
    if (!rest)
        return kept;
    switch (rc) {
    case 0:
        if (n <= 127) {
            u128 half = (u128)1 << (n - 1);
            up = rest > half || (rest == half && (kept & 1));
        }
        break;
    case 1:
        up = negative;
        break;
    case 2:
        up = !negative;
        break;
    default:
        break;
    }
    return kept + up;
}

/* m * 2^exp, m not zero and below 2^127, in the format.  Bit 0 of m may stand for anything smaller. */
static u64 pack(struct float_format f, bool negative, u128 m, s32 exp, unsigned rc, bool flush, bool exact_tiny,
                u32 *flags) {
    unsigned up = 126 - top_bit(m), drop = 126u - f.frac_bits;
    s32 lowest = 1 - bias(f); /* exponent of the smallest normal number */
    bool inexact;
    u128 r;
    m <<= up;
    exp += 126 - (s32)up; /* now of bit 126 */
    r = round_off(m, drop, negative, rc, &inexact);
    s32 after = exp + (r >> (f.frac_bits + 1) ? 1 : 0);
    if (after < lowest) { /* tiny: after rounding as if the exponent had no limit */
        if (flush) {
            *flags |= FP_UE | FP_PE;
            return sign_of(f, negative);
        }
        u32 more = (u32)(lowest - exp);
        r = round_off(m, more > 128 ? 255 : drop + more, negative, rc, &inexact);
        if (inexact || exact_tiny)
            *flags |= FP_UE;
        if (inexact)
            *flags |= FP_PE;
        return sign_of(f, negative) | (u64)r; /* a carry makes it the smallest normal number */
    }
    if (r >> (f.frac_bits + 1))
        r >>= 1;
    if (after > bias(f)) {
        bool to_infinity = rc == 0 || (rc == 1 && negative) || (rc == 2 && !negative);
        *flags |= FP_OE | FP_PE;
        return infinity(f, negative) - !to_infinity;
    }
    if (inexact)
        *flags |= FP_PE;
    return sign_of(f, negative) | ((u64)(after + bias(f)) << f.frac_bits) | ((u64)r & (((u64)1 << f.frac_bits) - 1));
}

u64 soft_fma(struct float_format f, u64 a, u64 b, u64 c, unsigned negate, u32 mxcsr, u32 *flags) {
    bool daz = (mxcsr & MXCSR_DAZ) != 0;
    unsigned rc = mxcsr >> MXCSR_RC_SHIFT & 3;
    struct unpacked x = unpack(f, a, daz), y = unpack(f, b, daz), z = unpack(f, c, daz);
    if (x.kind >= QUIET || y.kind >= QUIET || z.kind >= QUIET) {
        if (x.kind == SIGNALLING || y.kind == SIGNALLING || z.kind == SIGNALLING)
            *flags |= FP_IE;
        return (x.kind >= QUIET ? a : y.kind >= QUIET ? b : c) | quiet_bit(f);
    }
    bool negative = x.negative ^ y.negative ^ ((negate & FMA_NEGATE_PRODUCT) != 0);
    bool z_negative = z.negative ^ ((negate & FMA_NEGATE_C) != 0);
    bool infinite = x.kind == INFINITE || y.kind == INFINITE;
    if ((infinite && (x.kind == ZERO || y.kind == ZERO)) ||
        (infinite && z.kind == INFINITE && negative != z_negative)) {
        *flags |= FP_IE;
        return indefinite(f);
    }
    if (x.denormal || y.denormal || z.denormal)
        *flags |= FP_DE;
    if (infinite || z.kind == INFINITE)
        return infinity(f, infinite ? negative : z_negative);
    bool none = x.kind == ZERO || y.kind == ZERO;
    if (none && z.kind == ZERO)
        return sign_of(f, negative == z_negative ? negative : rc == 1);
    /* both with bit 125 the highest, so that what a shift loses is far below the result's last bit */
    u128 product = (u128)x.mant * y.mant, addend = z.mant, sum;
    s32 exp = x.exp + y.exp, z_exp = z.exp;
    if (none)
        return pack(f, z_negative, addend, z_exp, rc, (mxcsr & MXCSR_FTZ) != 0, false, flags);
    unsigned up = 125 - top_bit(product);
    product <<= up;
    exp -= (s32)up;
    if (z.kind != ZERO) {
        up = 125 - top_bit(addend);
        addend <<= up;
        z_exp -= (s32)up;
        u128 *small = exp < z_exp ? &product : &addend;
        unsigned apart = (unsigned)(exp < z_exp ? z_exp - exp : exp - z_exp);
        exp = exp < z_exp ? z_exp : exp;
        if (apart > 126)
            *small = 1;
        else if (apart)
            *small = *small >> apart | ((*small & (((u128)1 << apart) - 1)) != 0);
    }
    if (negative == z_negative)
        sum = product + addend;
    else if (product >= addend)
        sum = product - addend;
    else {
        sum = addend - product;
        negative = z_negative;
    }
    if (!sum)
        return sign_of(f, rc == 1);
    return pack(f, negative, sum, exp, rc, (mxcsr & MXCSR_FTZ) != 0, false, flags);
}

u64 soft_convert(struct float_format from, struct float_format to, u64 x, unsigned rc, bool exact_tiny, u32 mxcsr,
                 u32 *flags) {
    struct unpacked u = unpack(from, x, from.frac_bits > to.frac_bits && (mxcsr & MXCSR_DAZ));
    u64 frac = x & (((u64)1 << from.frac_bits) - 1);
    switch (u.kind) {
    case ZERO:
        return sign_of(to, u.negative);
    case INFINITE:
        return infinity(to, u.negative);
    case QUIET:
    case SIGNALLING:
        if (u.kind == SIGNALLING)
            *flags |= FP_IE;
        frac = from.frac_bits > to.frac_bits ? frac >> (from.frac_bits - to.frac_bits)
                                             : frac << (to.frac_bits - from.frac_bits);
        return infinity(to, u.negative) | frac | quiet_bit(to);
    default:
        if (u.denormal && from.frac_bits > to.frac_bits)
            *flags |= FP_DE;
        return pack(to, u.negative, u.mant, u.exp, rc, false, exact_tiny, flags);
    }
}
