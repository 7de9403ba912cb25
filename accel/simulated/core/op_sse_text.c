/* SSE4.2 string compares: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM volume 1, 12.2; volume 2, 4.1). */
#include "flags.h"
#include "lanes.h"

/* Fields of the immediate. */
enum { EQUAL_ANY, RANGES, EQUAL_EACH, EQUAL_ORDERED };
#define IMM_WORDS(n)  ((n)&1)
#define IMM_SIGNED(n) ((n) >> 1 & 1)
#define IMM_HOW(n)    ((n) >> 2 & 3)
#define IMM_NEGATE(n) ((n) >> 4 & 1)
#define IMM_MASKED(n) ((n) >> 5 & 1)
#define IMM_LAST(n)   ((n) >> 6 & 1) /* index: the highest; mask: whole elements */

/* One operand: its elements as numbers, and how many of them count. */
struct text {
    s32 element[16];
    unsigned length;
};

static struct text text_of(x128 v, unsigned imm) {
    union lanes from = {.x = v};
    struct text t;
    for (unsigned k = 0; k < 16; k++)
        t.element[k] = IMM_WORDS(imm) ? (IMM_SIGNED(imm) ? from.sw[k & 7] : from.w[k & 7])
                                      : (IMM_SIGNED(imm) ? from.sb[k] : from.b[k]);
    t.length = IMM_WORDS(imm) ? 8 : 16;
    return t;
}
static void end_at_zero(struct text *t) {
    for (unsigned k = 0; k < t->length; k++)
        if (!t->element[k])
            t->length = k;
}
/* A length in a register counts by its absolute value. */
static void end_at(struct text *t, u64 reg, bool wide) {
    u64 n = wide ? ((s64)reg < 0 ? 0 - reg : reg) : (u32)((s32)reg < 0 ? 0 - (u32)reg : (u32)reg);
    if (n < t->length)
        t->length = (unsigned)n;
}

static bool element_matches(const struct text *a, const struct text *b, unsigned at, unsigned count, unsigned how) {
    switch (how) {
    case EQUAL_ANY:
        for (unsigned k = 0; k < a->length && at < b->length; k++)
            if (a->element[k] == b->element[at])
                return true;
        return false;
    case RANGES:
        for (unsigned k = 0; k + 1 < a->length && at < b->length; k += 2)
            if (a->element[k] <= b->element[at] && b->element[at] <= a->element[k + 1])
                return true;
        return false;
    case EQUAL_EACH:
        if (at < a->length && at < b->length)
            return a->element[at] == b->element[at];
        return at >= a->length && at >= b->length;
    default: /* is a, as far as there is room, what stands in b from here on? */
        for (unsigned k = 0; k < a->length && at + k < count; k++)
            if (at + k >= b->length || a->element[k] != b->element[at + k])
                return false;
        return true;
    }
}

/* The bits that the immediate asks for, and the flags. */
static u32 compare(sim_vcpu *cpu, const struct text *a, const struct text *b, unsigned imm) {
    unsigned count = IMM_WORDS(imm) ? 8 : 16;
    u32 bits = 0;
    for (unsigned k = 0; k < count; k++) {
        bool bit = element_matches(a, b, k, count, IMM_HOW(imm));
        if (IMM_NEGATE(imm) && (!IMM_MASKED(imm) || k < b->length))
            bit = !bit;
        bits |= (u32)bit << k;
    }
    set_arith_flags(cpu, (bits ? FL_CF : 0) | (b->length < count ? FL_ZF : 0) | (a->length < count ? FL_SF : 0) |
                             (bits & 1 ? FL_OF : 0));
    return bits;
}
static void give_index(sim_vcpu *cpu, u32 bits, unsigned imm) {
    cpu->regs[RCX] = !bits           ? (IMM_WORDS(imm) ? 8u : 16u)
                     : IMM_LAST(imm) ? 31u - (unsigned)__builtin_clz(bits)
                                     : (unsigned)__builtin_ctz(bits);
}
static x128 as_mask(u32 bits, unsigned imm) {
    union lanes to = {.x = _mm_cvtsi32_si128((s32)bits)};
    if (IMM_LAST(imm))
        for (unsigned k = 0; k < 16; k++)
            to.b[k] = bits >> (IMM_WORDS(imm) ? k / 2 : k) & 1 ? 0xff : 0;
    return to.x;
}

static u32 explicit_lengths(sim_vcpu *cpu, const struct insn *i, x128 b) {
    unsigned imm = vex_imm8(i);
    struct text first = text_of(get_x(cpu, i->reg), imm), second = text_of(b, imm);
    end_at(&first, cpu->regs[RAX], i->osz == W64);
    end_at(&second, cpu->regs[RDX], i->osz == W64);
    return compare(cpu, &first, &second, imm);
}
static u32 implicit_lengths(sim_vcpu *cpu, const struct insn *i, x128 b) {
    unsigned imm = vex_imm8(i);
    struct text first = text_of(get_x(cpu, i->reg), imm), second = text_of(b, imm);
    end_at_zero(&first);
    end_at_zero(&second);
    return compare(cpu, &first, &second, imm);
}

/* Memory needs no alignment, in the legacy forms neither. */
#define GEN_STRING(name, USE)                                                                                          \
    OP(name##_r) {                                                                                                     \
        x128 x = get_x(cpu, i->rm);                                                                                    \
        USE;                                                                                                           \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    GEN_LOAD_X(name##_m, 1, USE)
GEN_STRING(pcmpestri, give_index(cpu, explicit_lengths(cpu, i, x), vex_imm8(i)))
GEN_STRING(pcmpistri, give_index(cpu, implicit_lengths(cpu, i, x), vex_imm8(i)))
GEN_STRING(pcmpestrm, set_x(cpu, 0, as_mask(explicit_lengths(cpu, i, x), vex_imm8(i))))
GEN_STRING(pcmpistrm, set_x(cpu, 0, as_mask(implicit_lengths(cpu, i, x), vex_imm8(i))))
GEN_STRING(vpcmpestrm, set_vx(cpu, 0, as_mask(explicit_lengths(cpu, i, x), vex_imm8(i))))
GEN_STRING(vpcmpistrm, set_vx(cpu, 0, as_mask(implicit_lengths(cpu, i, x), vex_imm8(i))))
