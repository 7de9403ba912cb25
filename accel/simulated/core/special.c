/* Which handler an instruction of a block gets besides the decoder's: narrower ones, and ones for two at once.
 *
 * The decoder knows an instruction's bytes only.  Here its surroundings are known: the mode it runs in, the address it
 * lies at, what follows it.  The handlers are found by those they replace; the table is made once per code cache.
 */
#include <string.h>
#include "ops.h"
#include "special.h"

// clang-format off

/* Memory forms of 64-bit code (alu.h). */
#define MEMORY_FORMS(X)                                                                                                \
    OPS_M(X, add_EG) OPS_M(X, add_GE) OPS_M(X, add_EI) OPS_M(X, adc_EG) OPS_M(X, adc_GE) OPS_M(X, adc_EI)              \
    OPS_M(X, sub_EG) OPS_M(X, sub_GE) OPS_M(X, sub_EI) OPS_M(X, sbb_EG) OPS_M(X, sbb_GE) OPS_M(X, sbb_EI)              \
    OPS_M(X, and_EG) OPS_M(X, and_GE) OPS_M(X, and_EI) OPS_M(X, or_EG) OPS_M(X, or_GE) OPS_M(X, or_EI)                 \
    OPS_M(X, xor_EG) OPS_M(X, xor_GE) OPS_M(X, xor_EI) OPS_M(X, cmp_EG) OPS_M(X, cmp_GE) OPS_M(X, cmp_EI)              \
    OPS_QM(X, add_GE) OPS_QM(X, sub_GE) OPS_QM(X, and_GE) OPS_QM(X, or_GE) OPS_QM(X, xor_GE)                           \
    OPS_M(X, test_EG) OPS_M(X, test_EI) OPS_M(X, not) OPS_M(X, neg) OPS_M(X, inc) OPS_M(X, dec)                        \
    OPS_M(X, mov_EG) OPS_M(X, mov_GE) OPS_M(X, mov_EI) OPS_MV(X, movzx8) OPS_MV(X, movzx16) OPS_MV(X, movsx8)          \
    OPS_MV(X, movsx16) OPS_MV(X, movsx32) OPS_V(X, lea)

#define X(name) OP(name##_f); OP(name##_b);
MEMORY_FORMS(X)
#undef X
static const struct { op_fn plain, flat, based; } forms[] = {
#define X(name) {op_##name, op_##name##_f, op_##name##_b},
    MEMORY_FORMS(X)
#undef X
};

/* With the conditional branch that follows (op_fused.c). */
#define FUSED_FIRSTS(X)                                                                                                \
    OPS_RF(X, cmp_EG) OPS_RF(X, cmp_GE) OPS_RF(X, cmp_EI) OPS_RF(X, test_EG) OPS_RF(X, test_EI)                             \
    OPS_B(X, cmp_EI) OPS_B(X, cmp_EG) OPS_B(X, cmp_GE) OPS_B(X, test_EI)                                               \
    OPS_RW(X, dec) OPS_RW(X, inc) OPS_RW(X, sub_EI) OPS_RW(X, sub_EG) OPS_RW(X, add_EI) OPS_RW(X, and_EI)
#define OPS_RF(X, n) X(n##_r8) X(n##_r32) X(n##_r64)
#define OPS_B(X, n)  X(n##_m8_b) X(n##_m32_b) X(n##_m64_b)
#define OPS_RW(X, n) X(n##_r32) X(n##_r64)
#define FUSED_CONDITIONS(C, n) C(2, b, n) C(3, nb, n) C(4, z, n) C(5, nz, n) C(6, be, n) C(7, nbe, n) C(8, s, n)       \
    C(9, ns, n) C(12, l, n) C(13, nl, n) C(14, le, n) C(15, nle, n)

#define C(code, cc, n) OP(n##_j##cc);
#define X(name) FUSED_CONDITIONS(C, name)
FUSED_FIRSTS(X)
#undef X
#undef C
static const struct { op_fn first, both[16]; } pairs[] = {
#define C(code, cc, n) [code] = op_##n##_j##cc,
#define X(name) {op_##name, {FUSED_CONDITIONS(C, name)}},
    FUSED_FIRSTS(X)
#undef X
#undef C
};
static const op_fn branches[16] = {
#define C(code, cc) [code] = op_j##cc,
    CONDITIONS(C)
#undef C
};

// clang-format on

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
_Static_assert(COUNT(forms) + COUNT(pairs) < SPECIALS / 2, "the table of specials stays half empty");

static struct special *find(struct specials *table, op_fn fn) {
    size_t at = (size_t)((uintptr_t)fn >> 4) * 0x9e3779b1u >> 7;
    for (;; at++) {
        struct special *s = &table->at[at % SPECIALS];
        if (!s->fn || s->fn == fn)
            return s;
    }
}

void specials_fill(struct specials *table) {
    memset(table, 0, sizeof *table);
    for (unsigned k = 0; k < COUNT(forms); k++) {
        struct special *s = find(table, forms[k].plain);
        s->fn = forms[k].plain;
        s->flat = forms[k].flat;
        s->based = forms[k].based;
    }
    for (unsigned k = 0; k < COUNT(pairs); k++) {
        struct special *s = find(table, pairs[k].first);
        s->fn = pairs[k].first;
        s->both = pairs[k].both;
    }
}

void specialise(struct specials *table, struct insn *insns, unsigned n, u64 block_ip, unsigned mode) {
    if (mode == MODE64)
        for (unsigned k = 0; k < n; k++) {
            struct insn *i = &insns[k];
            if (!(i->flags & IF_MEM))
                continue;
            if (i->flags &
                IF_RIPREL) { /* the address is known now; where it is near enough to 0 it is a displacement */
                u64 ea = block_ip + i->off + i->len + (u64)(s64)i->disp;
                if ((u64)(s64)(s32)ea == ea) {
                    i->disp = (s32)ea;
                    i->flags &= (u8)~IF_RIPREL;
                }
            }
            if (i->asz != W64 || i->seg >= FS || (i->flags & IF_LOCK))
                continue;
            const struct special *s = find(table, i->fn);
            if (s->flat)
                i->fn = i->index == R_ZERO && !(i->flags & IF_RIPREL) ? s->based : s->flat;
        }
    if (n < 2)
        return;
    unsigned code = insns[n - 1].opcode & 15;
    if (insns[n - 1].fn == branches[code]) {
        const struct special *s = find(table, insns[n - 2].fn);
        if (s->both && s->both[code])
            insns[n - 2].fn = s->both[code];
    }
}
