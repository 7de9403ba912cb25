/* AVX and AVX2: what moves data between the halves of 32 bytes, by element or under a mask; broadcasts, gathers,
 * VZEROUPPER, VZEROALL. */
#include "lanes.h"

/* Register and memory form of USE, which sees `union vreg b`: N bytes of memory, the rest is 0. */
#define GEN_WHOLE(name, N, USE)                                                                                        \
    static inline void do_##name(sim_vcpu *cpu, const struct insn *i, const union vreg *b) { USE; }                    \
    OP(name##_r) {                                                                                                     \
        union vreg b = cpu->ymm[i->rm];                                                                                \
        do_##name(cpu, i, &b);                                                                                         \
        NEXT(cpu, i);                                                                                                  \
    }                                                                                                                  \
    OP(name##_m) {                                                                                                     \
        union vreg b = {{0}};                                                                                          \
        if (N == 32) {                                                                                                 \
            struct y256 y = ld256(cpu, i, i->seg, insn_ea(cpu, i), 1);                                                 \
            memcpy(&b, &y, 32);                                                                                        \
        } else if (N == 16) {                                                                                          \
            x128 x = ld128(cpu, i, i->seg, insn_ea(cpu, i), 1);                                                        \
            memcpy(&b, &x, 16);                                                                                        \
        } else                                                                                                         \
            b.q[0] = ld_w(cpu, i, i->seg, insn_ea(cpu, i), N == 8 ? W64 : N == 4 ? W32 : N == 2 ? W16 : W8);           \
        do_##name(cpu, i, &b);                                                                                         \
        NEXT(cpu, i);                                                                                                  \
    }
/* ModRM.reg = `count` elements of array `part`, each VALUE (k is its number); the rest is 0. */
#define FILL(part, count, VALUE)                                                                                       \
    union vreg to = {{0}};                                                                                             \
    for (unsigned k = 0; k < (count); k++)                                                                             \
        to.part[k] = VALUE;                                                                                            \
    cpu->ymm[i->reg] = to

GEN_WHOLE(vbroadcastss, 4, FILL(d, 4, b->d[0]))
GEN_WHOLE(ybroadcastss, 4, FILL(d, 8, b->d[0]))
GEN_WHOLE(vpbroadcastb, 1, FILL(b, 16, b->b[0]))
GEN_WHOLE(ypbroadcastb, 1, FILL(b, 32, b->b[0]))
GEN_WHOLE(vpbroadcastw, 2, FILL(w, 8, b->w[0]))
GEN_WHOLE(ypbroadcastw, 2, FILL(w, 16, b->w[0]))
GEN_WHOLE(vpbroadcastq, 8, FILL(q, 2, b->q[0])) /* and VMOVDDUP */
GEN_WHOLE(ybroadcastsd, 8, FILL(q, 4, b->q[0]))
GEN_WHOLE(ybroadcast128, 16, FILL(q, 4, b->q[k & 1]))
GEN_WHOLE(ymovddup, 32, FILL(q, 4, b->q[k & 2]))

/* Within 16 bytes, by immediate or by a register. */
GEN_WHOLE(vpermilps_i, 16, FILL(d, 4, b->d[vex_imm8(i) >> 2 * k & 3]))
GEN_WHOLE(ypermilps_i, 32, FILL(d, 8, b->d[(k & 4) + (vex_imm8(i) >> 2 * (k & 3) & 3)]))
GEN_WHOLE(vpermilpd_i, 16, FILL(q, 2, b->q[vex_imm8(i) >> k & 1]))
GEN_WHOLE(ypermilpd_i, 32, FILL(q, 4, b->q[(k & 2) + (vex_imm8(i) >> k & 1)]))
#define FIRST (&cpu->ymm[vex_vvvv(i)])
GEN_WHOLE(vpermilps, 16, FILL(d, 4, FIRST->d[b->d[k] & 3]))
GEN_WHOLE(ypermilps, 32, FILL(d, 8, FIRST->d[(k & 4) + (b->d[k] & 3)]))
GEN_WHOLE(vpermilpd, 16, FILL(q, 2, FIRST->q[b->q[k] >> 1 & 1]))
GEN_WHOLE(ypermilpd, 32, FILL(q, 4, FIRST->q[(k & 2) + (b->q[k] >> 1 & 1)]))
/* Across. */
GEN_WHOLE(ypermd, 32, FILL(d, 8, b->d[FIRST->d[k] & 7]))          /* VPERMD, VPERMPS */
GEN_WHOLE(ypermq, 32, FILL(q, 4, b->q[vex_imm8(i) >> 2 * k & 3])) /* VPERMQ, VPERMPD */
GEN_WHOLE(yinsert128, 16, FILL(q, 4, k / 2 == (vex_imm8(i) & 1u) ? b->q[k & 1] : FIRST->q[k]))
static inline u64 half_of(const union vreg *a, const union vreg *b, unsigned control, unsigned k) {
    return control & 8 ? 0 : (control & 2 ? b : a)->q[(control & 1) * 2 + k];
}
GEN_WHOLE(yperm128, 32, FILL(q, 4, half_of(FIRST, b, vex_imm8(i) >> 4 * (k / 2), k & 1)))

OP(yextract128_r) {
    set_vx(cpu, i->rm, vex_imm8(i) & 1 ? get_hi(cpu, i->reg) : get_x(cpu, i->reg));
    NEXT(cpu, i);
}
GEN_STORE_X(yextract128_m, 1, vex_imm8(i) & 1 ? get_hi(cpu, i->reg) : get_x(cpu, i->reg))

OP(vzeroupper) {
    for (unsigned n = 0, count = cpu->mode == MODE64 ? 16 : 8; n < count; n++)
        set_vx(cpu, n, get_x(cpu, n));
    NEXT(cpu, i);
}
OP(vzeroall) {
    for (unsigned n = 0, count = cpu->mode == MODE64 ? 16 : 8; n < count; n++)
        set_vx(cpu, n, _mm_setzero_si128());
    NEXT(cpu, i);
}

/* ---- masked moves: what the mask leaves out is not accessed ---- */

static inline bool masked_in(const union vreg *mask, unsigned k, unsigned w) {
    return (w == W32 ? mask->d[k] >> 31 : mask->q[k] >> 63) != 0;
}
static inline void put_element(union vreg *to, unsigned k, unsigned w, u64 v) {
    if (w == W32)
        to->d[k] = (u32)v;
    else
        to->q[k] = v;
}
/* One element of w, without #AC, as the processor has it for these. */
static NOINLINE u64 load_element(sim_vcpu *cpu, const struct insn *i, u64 ea, unsigned w) {
    const u8 *p = hit_read(cpu, i->seg, ea, 1u << w);
    u64 v = 0;
    if (likely(p != NULL))
        memcpy(&v, p, 1u << w);
    else
        mem_read_wide(cpu, i->seg, ea, 1u << w, 1, &v);
    return v;
}
static void masked_load(sim_vcpu *cpu, const struct insn *i, unsigned w, unsigned count) {
    const union vreg *mask = &cpu->ymm[vex_vvvv(i)];
    union vreg to = {{0}};
    u64 ea = insn_ea(cpu, i);
    BEGIN(cpu, i);
    for (unsigned k = 0; k < count; k++)
        if (masked_in(mask, k, w))
            put_element(&to, k, w, load_element(cpu, i, (ea + (k << w)) & width_mask(i->asz), w));
    cpu->ymm[i->reg] = to;
    NEXT(cpu, i);
}
static void masked_store(sim_vcpu *cpu, const struct insn *i, unsigned w, unsigned count) {
    const union vreg *mask = &cpu->ymm[vex_vvvv(i)], *from = &cpu->ymm[i->reg];
    u64 ea = insn_ea(cpu, i);
    BEGIN(cpu, i);
    for (unsigned k = 0; k < count; k++)
        if (masked_in(mask, k, w))
            mem_probe_aligned(cpu, i->seg, (ea + (k << w)) & width_mask(i->asz), 1u << w, 1, true);
    for (unsigned k = 0; k < count; k++)
        if (masked_in(mask, k, w))
            mem_write_wide(cpu, i->seg, (ea + (k << w)) & width_mask(i->asz), 1u << w, 1, &from->b[k << w]);
    NEXT(cpu, i);
}
OP(vmaskload_d) { masked_load(cpu, i, W32, 4); }
OP(ymaskload_d) { masked_load(cpu, i, W32, 8); }
OP(vmaskload_q) { masked_load(cpu, i, W64, 2); }
OP(ymaskload_q) { masked_load(cpu, i, W64, 4); }
OP(vmaskstore_d) { masked_store(cpu, i, W32, 4); }
OP(ymaskstore_d) { masked_store(cpu, i, W32, 8); }
OP(vmaskstore_q) { masked_store(cpu, i, W64, 2); }
OP(ymaskstore_q) { masked_store(cpu, i, W64, 4); }

/* ---- gathers ----
 * Element by element from the lowest on, each clearing its place in the mask: a fault leaves what is done done, and the
 * instruction goes on from there when it is started again. */
static void gather(sim_vcpu *cpu, const struct insn *i, unsigned index_w, unsigned w, unsigned count) {
    union vreg *mask = &cpu->ymm[vex_vvvv(i)], *to = &cpu->ymm[i->reg];
    const union vreg *index = &cpu->ymm[i->index];
    u64 base = cpu->regs[i->base] + (u64)(s64)i->disp;
    BEGIN(cpu, i);
    /* whole elements say what their signs say, also those that are no part of it */
    for (unsigned k = 0; k << w < 32; k++)
        put_element(mask, k, w, masked_in(mask, k, w) && k << w < (i->imm >> 12 & 1 ? 32 : 16) ? ~(u64)0 : 0);
    for (unsigned k = 0; k < count; k++) {
        if (!masked_in(mask, k, w))
            continue;
        u64 at = index_w == W32 ? (u64)(s64)(s32)index->d[k] : index->q[k];
        u64 v = load_element(cpu, i, (base + (at << i->scale)) & width_mask(i->asz), w);
        put_element(to, k, w, v);
        put_element(mask, k, w, 0);
    }
    for (unsigned n = count << w; n < 32; n++)
        to->b[n] = 0;
    *mask = (union vreg){{0}};
    NEXT(cpu, i);
}
OP(vgather_dd) { gather(cpu, i, W32, W32, 4); }
OP(ygather_dd) { gather(cpu, i, W32, W32, 8); }
OP(vgather_dq) { gather(cpu, i, W32, W64, 2); }
OP(ygather_dq) { gather(cpu, i, W32, W64, 4); }
OP(vgather_qd) { gather(cpu, i, W64, W32, 2); }
OP(ygather_qd) { gather(cpu, i, W64, W32, 4); }
OP(vgather_qq) { gather(cpu, i, W64, W64, 2); }
OP(ygather_qq) { gather(cpu, i, W64, W64, 4); }
