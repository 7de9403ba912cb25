/* What the handlers of floating-point SSE and AVX share: how an operation runs on the host's unit, and #XM.
 *
 * An operation is a function of two 16-byte values and an immediate that executes host instructions; baseline x86-64
 * only, so that the same code serves every host.  AVX's 256 bits are two of them.  While all exceptions are masked
 * (fpu.h) it is simply called.  Else it runs with its flags alone in the host's MXCSR, before any state has changed.
 *
 * Not modelled: with an overflow or underflow that raises #XM, PE says whether the result would have been inexact in
 * the destination's range; the processor looks at a result with an unbounded exponent.
 */
#ifndef SIM_SSE_FLOAT_H
#define SIM_SSE_FLOAT_H
#include "fpu.h"
#include "vector.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

typedef x128 (*host_sse)(x128 a, x128 b, unsigned imm);

/* op_sse_arith.c.  From sse_begin() on the host's flags are those of one instruction. */
struct sse_pass {
    u32 flags;
    bool second;
};
void sse_begin(sim_vcpu *cpu, struct sse_pass *p);
/* Is the instruction to be done once more, to find tiny results that are exact?  (Unmasked underflow wants them.) */
bool sse_again(sim_vcpu *cpu, struct sse_pass *p);
/* Raises #XM (or #UD, by CR4.OSXMMEXCPT), or adds the flags to the guest's. */
void sse_end(sim_vcpu *cpu, const struct insn *i, const struct sse_pass *p);
/* The operation within these three. */
x128 sse_checked(sim_vcpu *cpu, const struct insn *i, host_sse op, x128 a, x128 b, unsigned imm);
struct y256 sse_checked_y(sim_vcpu *cpu, const struct insn *i, host_sse op, const struct y256 *a, const struct y256 *b,
                          unsigned imm);

/* Set flags that no host instruction has set: for what is computed in integers. */
static inline void sse_flag(u32 flags) {
    u32 v = host_mxcsr();
    if (flags & ~v)
        set_host_mxcsr(v | flags);
}

static ALWAYS_INLINE x128 sse_run(sim_vcpu *cpu, const struct insn *i, host_sse op, x128 a, x128 b) {
    if (likely(!mxcsr_unmasked(cpu)))
        return op(a, b, (u8)i->imm);
    return sse_checked(cpu, i, op, a, b, (u8)i->imm);
}
static ALWAYS_INLINE struct y256 sse_run_y(sim_vcpu *cpu, const struct insn *i, host_sse op, struct y256 a,
                                           struct y256 b) {
    if (likely(!mxcsr_unmasked(cpu)))
        return (struct y256){op(a.lo, b.lo, (u8)i->imm), op(a.hi, b.hi, (u8)i->imm)};
    return sse_checked_y(cpu, i, op, &a, &b, (u8)i->imm);
}
/* Anything else: STATEMENT may run twice and must not change guest state. */
#define SSE_CHECKED(cpu, i, STATEMENT)                                                                                 \
    do {                                                                                                               \
        if (likely(!mxcsr_unmasked(cpu))) {                                                                            \
            STATEMENT;                                                                                                 \
        } else {                                                                                                       \
            struct sse_pass pass_;                                                                                     \
            sse_begin(cpu, &pass_);                                                                                    \
            do {                                                                                                       \
                STATEMENT;                                                                                             \
            } while (sse_again(cpu, &pass_));                                                                          \
            sse_end(cpu, i, &pass_);                                                                                   \
        }                                                                                                              \
    } while (0)

/* One host instruction: of both operands, or of the second alone. */
#define HOST_BINARY(name, code)                                                                                        \
    static ALWAYS_INLINE x128 name(x128 a, x128 b, unsigned imm) {                                                     \
        (void)imm;                                                                                                     \
        __asm__ volatile(code " %1, %0" : "+x"(a) : "x"(b));                                                           \
        return a;                                                                                                      \
    }
#define HOST_UNARY(name, code)                                                                                         \
    static ALWAYS_INLINE x128 name(x128 a, x128 b, unsigned imm) {                                                     \
        (void)a;                                                                                                       \
        (void)imm;                                                                                                     \
        __asm__ volatile(code " %1, %0" : "=x"(a) : "x"(b));                                                           \
        return a;                                                                                                      \
    }

static inline x128 from32(u32 v) { return _mm_cvtsi32_si128((int)v); }
static inline x128 from64(u64 v) { return _mm_cvtsi64_si128((s64)v); }

/* ---- generators: op is a host_sse ---- */

/* Packed, with VEX forms of both lengths. */
#define GEN_PACKED_SSE(name, op)                                                                                       \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, i->reg), get_x(cpu, i->rm)));                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 16, set_x(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, i->reg), x)))
#define GEN_PACKED_AVX(name, op)                                                                                       \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, vex_vvvv(i)), get_x(cpu, i->rm)));                          \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(v##name##_m, 1, set_vx(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, vex_vvvv(i)), x)))                   \
    OP(y##name##_r) {                                                                                                  \
        set_y(cpu, i->reg, sse_run_y(cpu, i, op, get_y(cpu, vex_vvvv(i)), get_y(cpu, i->rm)));                         \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(y##name##_m) {                                                                                                  \
        struct y256 b = ld256(cpu, i, i->seg, insn_ea(cpu, i), 1);                                                     \
        set_y(cpu, i->reg, sse_run_y(cpu, i, op, get_y(cpu, vex_vvvv(i)), b));                                         \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_PACKED(name, op)                                                                                           \
    GEN_PACKED_SSE(name, op)                                                                                           \
    GEN_PACKED_AVX(name, op)
/* The low element, the rest from the first operand; `bits` are read from memory. */
#define GEN_SCALAR_SSE(name, op, bits)                                                                                 \
    OP(name##_r) {                                                                                                     \
        set_x(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, i->reg), get_x(cpu, i->rm)));                                \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_m) {                                                                                                     \
        x128 b = from##bits(ld##bits(cpu, i, i->seg, insn_ea(cpu, i)));                                                \
        set_x(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, i->reg), b));                                                \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_SCALAR_AVX(name, op, bits)                                                                                 \
    OP(v##name##_r) {                                                                                                  \
        set_vx(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, vex_vvvv(i)), get_x(cpu, i->rm)));                          \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(v##name##_m) {                                                                                                  \
        x128 b = from##bits(ld##bits(cpu, i, i->seg, insn_ea(cpu, i)));                                                \
        set_vx(cpu, i->reg, sse_run(cpu, i, op, get_x(cpu, vex_vvvv(i)), b));                                          \
        NEXT(cpu, i);                                                                                                  \
    }
#define GEN_SCALAR(name, op, bits)                                                                                     \
    GEN_SCALAR_SSE(name, op, bits)                                                                                     \
    GEN_SCALAR_AVX(name, op, bits)

#endif
