/* Floating-point operations in integers, for what baseline x86-64 has no instruction: fused multiply-add, and the
 * 16-bit format.
 *
 * Formats are given by the bits of fraction and exponent.  `mxcsr` says rounding, DAZ and FTZ; *flags gets FP_* added.
 */
#ifndef SIM_SOFT_FLOAT_H
#define SIM_SOFT_FLOAT_H
#include "fpu.h"

struct float_format {
    u8 frac_bits, exp_bits;
};
#define FLOAT16 ((struct float_format){10, 5})
#define FLOAT32 ((struct float_format){23, 8})
#define FLOAT64 ((struct float_format){52, 11})

/* (a * b) + c with one rounding; the product, and c, with their signs changed when asked. */
#define FMA_NEGATE_PRODUCT 1u
#define FMA_NEGATE_C       2u
u64 soft_fma(struct float_format f, u64 a, u64 b, u64 c, unsigned negate, u32 mxcsr, u32 *flags);
/* From one format to another; a narrower one is rounded as `rc` says.  Tiny results are never flushed to zero; with
 * `exact_tiny` they raise FP_UE even when they are exact.  DAZ is for narrowing only. */
u64 soft_convert(struct float_format from, struct float_format to, u64 x, unsigned rc, bool exact_tiny, u32 mxcsr,
                 u32 *flags);

#endif
