/* soft_fma() against the processor's own FMA: results and flags, for every rounding, with and without FTZ and DAZ.
 *
 * Arguments: seed, number of cases.  Prints the differences (the first ten); exit status 1 when there are any.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "soft_float.h"

static u64 state;
static u64 next(void) { /* splitmix64 */
    u64 z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Special values, neighbours of powers of two, and numbers whose exponents are near one another. */
static u64 number(struct float_format f) {
    u64 r = next(), max = ((u64)1 << f.exp_bits) - 1, bias = max >> 1, exp,
        frac = next() & (((u64)1 << f.frac_bits) - 1);
    switch (r & 15) {
    case 0:
        exp = 0;
        break;
    case 1:
        exp = max;
        break;
    case 2:
        exp = max - 1 - (r >> 8 & 1);
        break;
    case 3:
        exp = 1 + (r >> 8 & 1);
        break;
    case 4:
    case 5:
    case 6:
        exp = (r >> 8) % max;
        break;
    case 7:
    case 8:
        exp = bias / 2 + (r >> 8) % 60;
        break;
    default:
        exp = bias + (r >> 8) % 64 - 32;
        break;
    }
    switch (r >> 4 & 7) {
    case 0:
        frac = 0;
        break;
    case 1:
        frac = 1;
        break;
    case 2:
        frac = ((u64)1 << f.frac_bits) - 1;
        break;
    case 3:
        frac = frac >> 8 * (r >> 20 & 3) << 8 * (r >> 20 & 3);
        break;
    default:
        break;
    }
    return (r >> 63) << (f.frac_bits + f.exp_bits) | exp << f.frac_bits | frac;
}

static u64 host(bool wide, u64 a, u64 b, u64 c, unsigned negate, u32 mxcsr, u32 *flags) {
    u32 old = host_mxcsr();
    set_host_mxcsr(mxcsr);
#define CASE(n, code)                                                                                                  \
    case n:                                                                                                            \
        __asm__ volatile("vmovq %1, %%xmm0\nvmovq %2, %%xmm1\nvmovq %0, %%xmm2\n" code " %%xmm2, %%xmm0, %%xmm1\n"     \
                         "vmovq %%xmm1, %0"                                                                            \
                         : "+r"(c)                                                                                     \
                         : "r"(a), "r"(b)                                                                              \
                         : "xmm0", "xmm1", "xmm2");                                                                    \
        break;
    switch (negate | (wide ? 4 : 0)) {
        CASE(0, "vfmadd213ss")
        CASE(1, "vfnmadd213ss")
        CASE(2, "vfmsub213ss")
        CASE(3, "vfnmsub213ss")
        CASE(4, "vfmadd213sd")
        CASE(5, "vfnmadd213sd")
        CASE(6, "vfmsub213sd")
        CASE(7, "vfnmsub213sd")
    }
    *flags = host_mxcsr() & FP_FLAGS;
    set_host_mxcsr(old);
    return wide ? c : (u32)c;
}

int main(int count, char **arguments) {
    u64 cases = count > 2 ? strtoull(arguments[2], NULL, 0) : 1000000;
    unsigned wrong = 0;
    state = count > 1 ? strtoull(arguments[1], NULL, 0) : 1;
    for (u64 n = 0; n < cases; n++) {
        u64 r = next();
        bool wide = r & 1;
        struct float_format f = wide ? FLOAT64 : FLOAT32;
        unsigned negate = r >> 1 & 3;
        u32 mxcsr =
            MXCSR_MASKS | (r >> 3 & 3) << MXCSR_RC_SHIFT | (r >> 5 & 1 ? MXCSR_FTZ : 0) | (r >> 6 & 1 ? MXCSR_DAZ : 0);
        u32 flags = 0, want_flags;
        u64 a = number(f), b = number(f), c = number(f), want = host(wide, a, b, c, negate, mxcsr, &want_flags);
        u64 got = soft_fma(f, a, b, c, negate, mxcsr, &flags);
        if (got == want && flags == want_flags)
            continue;
        if (wrong++ < 10)
            printf("%d bits, negate %u, mxcsr %x: %llx * %llx + %llx: %llx flags %x, processor %llx flags %x\n",
                   wide ? 64 : 32, negate, mxcsr, (unsigned long long)a, (unsigned long long)b, (unsigned long long)c,
                   (unsigned long long)got, flags, (unsigned long long)want, want_flags);
    }
    return wrong != 0;
}
