/* x87 arithmetic: the four operations, remainder, root, rounding, scaling and the transcendental functions. */
#include "x87.h"

#define DROP "fstp %%st(0)\n"

/* reg = a op b by `run`, unless the host stopped. */
static ALWAYS_INLINE u16 into(sim_vcpu *cpu, const struct insn *i, unsigned reg, u16 conditions, host_x87 run,
                              const union st_reg *a, const void *b) {
    union st_reg kept;
    bool plain = x87_plain(cpu);
    u16 sw = run(cpu, a, b, plain ? &cpu->fpu.st[reg] : &kept);
    if (unlikely(!plain) && !x87_stopped(cpu, sw, FP_BEFORE))
        x87_copy(&cpu->fpu.st[reg], &kept);
    x87_status(cpu, i, sw, conditions);
    return sw;
}

/* ---- the four operations --------------------------------------------------------------------------------------------
 */

enum { TO_ST0, TO_STI, TO_STI_POP };

static ALWAYS_INLINE void arith(sim_vcpu *cpu, const struct insn *i, host_x87 run, unsigned to) {
    unsigned top = x87_top(cpu), other = (top + i->rm) & 7, reg = to == TO_ST0 ? top : other;
    u16 sw = 0;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top) || x87_empty(cpu, other))) {
        if (!x87_stack_fault(cpu, i, false)) {
            return;
        }
        x87_indefinite(cpu, reg);
    } else
        sw = into(cpu, i, reg, 0, run, &cpu->fpu.st[top], &cpu->fpu.st[other]);
    if (to == TO_STI_POP && !x87_stopped(cpu, sw, FP_BEFORE))
        x87_pop(cpu);
}

/* ST(0) op memory; the operand's bits are in *b. */
static ALWAYS_INLINE void arith_memory(sim_vcpu *cpu, const struct insn *i, host_x87 run, u64 ea, const void *b) {
    unsigned top = x87_top(cpu);
    x87_note_memory(cpu, i, ea);
    if (unlikely(x87_empty(cpu, top))) {
        if (x87_stack_fault(cpu, i, false))
            x87_indefinite(cpu, top);
    } else
        into(cpu, i, top, 0, run, &cpu->fpu.st[top], b);
}

#define ARITH_MEMORY(name, code, bits, form)                                                                           \
    HOST_X87(host_##name##_##form, u##bits, "fldt %[a]\n", code " %[b]\n", "fstpt %[out]\n")                           \
    OP_APART(name##_##form) {                                                                                          \
        u##bits m;                                                                                                     \
        u64 ea = insn_ea(cpu, i);                                                                                      \
        x87_start(cpu, i);                                                                                             \
        m = ld##bits(cpu, i, i->seg, ea);                                                                              \
        arith_memory(cpu, i, host_##name##_##form, ea, &m);                                                            \
    }
#define ARITH(name)                                                                                                    \
    HOST_X87(host_##name, union st_reg, "fldt %[b]\nfldt %[a]\n", #name " %%st(1), %%st\n", "fstpt %[out]\n" DROP)     \
    OP_APART(name##_0i) { arith(cpu, i, host_##name, TO_ST0); }                                                        \
    OP_APART(name##_i0) { arith(cpu, i, host_##name, TO_STI); }                                                        \
    OP_APART(name##p) { arith(cpu, i, host_##name, TO_STI_POP); }                                                      \
    ARITH_MEMORY(name, #name "s", 32, m32)                                                                             \
    ARITH_MEMORY(name, #name "l", 64, m64)
#define ARITH_INTEGER(name, integer)                                                                                   \
    ARITH_MEMORY(name, #integer "s", 16, i16)                                                                          \
    ARITH_MEMORY(name, #integer "l", 32, i32)

ARITH(fadd)
ARITH(fmul)
ARITH(fsub)
ARITH(fsubr)
ARITH(fdiv)
ARITH(fdivr)
ARITH_INTEGER(fadd, fiadd)
ARITH_INTEGER(fmul, fimul)
ARITH_INTEGER(fsub, fisub)
ARITH_INTEGER(fsubr, fisubr)
ARITH_INTEGER(fdiv, fidiv)
ARITH_INTEGER(fdivr, fidivr)

/* ---- ST(0) to ST(0), perhaps with ST(1) -----------------------------------------------------------------------------
 */

static ALWAYS_INLINE void unary(sim_vcpu *cpu, const struct insn *i, host_x87 run, u16 conditions, bool binary) {
    unsigned top = x87_top(cpu), second = (top + 1) & 7;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top) || (binary && x87_empty(cpu, second)))) {
        cpu->fpu.fsw &= (u16)~conditions;
        if (x87_stack_fault(cpu, i, false))
            x87_indefinite(cpu, top);
    } else
        into(cpu, i, top, conditions, run, &cpu->fpu.st[top], &cpu->fpu.st[second]);
}

#define UNARY(name, conditions)                                                                                        \
    HOST_X87(host_##name, union st_reg, "fldt %[a]\n", #name "\n", "fstpt %[out]\n")                                   \
    OP_APART(name) { unary(cpu, i, host_##name, conditions, false); }
#define BINARY(name, conditions)                                                                                       \
    HOST_X87(host_##name, union st_reg, "fldt %[b]\nfldt %[a]\n", #name "\n", "fstpt %[out]\n" DROP)                   \
    OP_APART(name) { unary(cpu, i, host_##name, conditions, true); }

UNARY(fsqrt, 0)
UNARY(frndint, 0)
UNARY(f2xm1, 0)
UNARY(fsin, FSW_C2)
UNARY(fcos, FSW_C2)
BINARY(fscale, 0)

/* The quotient's low bits are in C0, C3 and C1, unless there is none: then C0 and C3 stay as they are. */
static ALWAYS_INLINE void partial_remainder(sim_vcpu *cpu, const struct insn *i, host_x87 run) {
    unsigned top = x87_top(cpu), second = (top + 1) & 7;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top) || x87_empty(cpu, second))) {
        cpu->fpu.fsw &= (u16)~FSW_C2;
        if (x87_stack_fault(cpu, i, false))
            x87_indefinite(cpu, top);
    } else {
        u16 sw = into(cpu, i, top, FSW_C2, run, &cpu->fpu.st[top], &cpu->fpu.st[second]);
        bool none = x87_stopped(cpu, sw, FP_BEFORE) || (cpu->fpu.st[top].exp & 0x7fff) == 0x7fff;
        if (!none)
            cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~(FSW_C0 | FSW_C3)) | (sw & (FSW_C0 | FSW_C3)));
    }
}
#define REMAINDER(name)                                                                                                \
    HOST_X87(host_##name, union st_reg, "fldt %[b]\nfldt %[a]\n", #name "\n", "fstpt %[out]\n" DROP)                   \
    OP_APART(name) { partial_remainder(cpu, i, host_##name); }
REMAINDER(fprem)
REMAINDER(fprem1)

/* Signs: nothing can go wrong but an empty register. */
static ALWAYS_INLINE void sign(sim_vcpu *cpu, const struct insn *i, u16 keep, u16 flip) {
    unsigned top = x87_top(cpu);
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top))) {
        if (x87_stack_fault(cpu, i, false))
            x87_indefinite(cpu, top);
    } else {
        cpu->fpu.fsw &= (u16)~FSW_C1;
        cpu->fpu.st[top].exp = (u16)((cpu->fpu.st[top].exp & keep) ^ flip);
    }
}
OP_APART(fabs) { sign(cpu, i, 0x7fff, 0); }
OP_APART(fchs) { sign(cpu, i, 0xffff, 0x8000); }

/* ---- ST(1) from ST(1) and ST(0), pop --------------------------------------------------------------------------------
 * Whether the host popped tells bit 11, the lowest of TOP: it was 0 with the host's stack empty. */

static ALWAYS_INLINE void two_to_one(sim_vcpu *cpu, const struct insn *i, host_x87 run) {
    unsigned top = x87_top(cpu), second = (top + 1) & 7;
    u16 sw = 0;
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(x87_empty(cpu, top) || x87_empty(cpu, second))) {
        if (!x87_stack_fault(cpu, i, false)) {
            return;
        }
        x87_indefinite(cpu, second);
    } else
        sw = into(cpu, i, second, 0, run, &cpu->fpu.st[top], &cpu->fpu.st[second]);
    if (!x87_stopped(cpu, sw, FP_BEFORE))
        x87_pop(cpu);
}
#define TWO_TO_ONE(name)                                                                                               \
    HOST_X87(host_##name, union st_reg, "fldt %[b]\nfldt %[a]\n", #name "\n",                                          \
             "fstpt %[out]\ntestb $8, %%ah\njnz 1f\n" DROP "1:\n")                                                     \
    OP_APART(name) { two_to_one(cpu, i, host_##name); }
TWO_TO_ONE(fpatan)
TWO_TO_ONE(fyl2x)
TWO_TO_ONE(fyl2xp1)

/* ---- ST(0) replaced, and another pushed -----------------------------------------------------------------------------
 */

/* `out` has room for two: what the host leaves in ST(0), then in ST(1) if it pushed. */
static ALWAYS_INLINE void one_to_two(sim_vcpu *cpu, const struct insn *i, host_x87 run, u16 conditions) {
    unsigned top = x87_top(cpu), fresh = (top - 1) & 7;
    bool empty = x87_empty(cpu, top);
    union st_reg out[2];
    x87_start(cpu, i);
    x87_note(cpu, i);
    if (unlikely(empty || !x87_empty(cpu, fresh))) {
        cpu->fpu.fsw &= (u16)~conditions;
        if (x87_stack_fault(cpu, i, !empty)) {
            x87_indefinite(cpu, top);
            x87_indefinite(cpu, x87_push(cpu));
        }
        return;
    }
    u16 sw = run(cpu, &cpu->fpu.st[top], &cpu->fpu.st[top], out);
    x87_status(cpu, i, sw, conditions);
    if (!(sw & 0x0800)) { /* it pushed */
        x87_push(cpu);
        x87_copy(&cpu->fpu.st[fresh], &out[0]);
        x87_copy(&cpu->fpu.st[top], &out[1]);
    }
}
#define ONE_TO_TWO(name, conditions)                                                                                   \
    HOST_X87(host_##name, union st_reg, "fldt %[a]\n", #name "\n",                                                     \
             "fstpt %[out]\ntestb $8, %%ah\njnz 1f\nfstpt 16+%[out]\n1:\n")                                            \
    OP_APART(name) { one_to_two(cpu, i, host_##name, conditions); }
ONE_TO_TWO(fptan, FSW_C2)
ONE_TO_TWO(fsincos, FSW_C2)
ONE_TO_TWO(fxtract, 0)
